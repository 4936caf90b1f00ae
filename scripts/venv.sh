#!/usr/bin/env bash
# Installs hashed requirement files into one virtual environment: scripts/venv.sh FOLDER
# REQUIREMENTS [REQUIREMENTS ...]
#
# The interpreter is $PYTHON (python3). Another run on a complete environment is fast. If the
# environment has another version of Python, it is made again. The script prints a message before a
# long step, and before it installs anything outside the folder. It prints a dot for each package to
# show its progress.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 requirements=("${@:2}") python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null; then
    echo "There is no $python. Install Python 3.11 or newer, or name one:" \
        "make PYTHON=/path/to/python3" >&2
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is Python $version; 3.11 or newer is needed. Name another:" \
        "make PYTHON=/path/to/python3" >&2
    exit 1
fi
# Debian and Ubuntu package the modules for virtual environments separately from Python.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/apt_install.sh "python$version-venv" "$python can't make virtual environments"
fi

# Prints a dot for each package that pip names.
dots() {
    local line
    while IFS= read -r line; do
        case $line in
            *"already satisfied"* | *Collecting*) printf . ;;
            Installing*) printf ' installing' ;;
        esac
    done
}

packages=$(cat "${requirements[@]}" | grep -c '^[^ #].*==')
echo "Setting up $folder from ${requirements[*]} ($packages packages) ..."
tell='import sys; print("%d.%d" % sys.version_info[:2])'
has=$("$folder/bin/python" -c "$tell" 2>/dev/null || echo none)
fresh=()
if [ "$has" != "$version" ]; then fresh=(--clear); fi
scripts/quietly.sh "$python" -m venv "${fresh[@]}" "$folder"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! "$folder/bin/python" -m pip install --disable-pip-version-check --no-input \
    --progress-bar off --require-hashes --only-binary :all: "${requirements[@]/#/--requirement=}" \
    2>&1 </dev/null | tee "$log" | dots; then
    printf '\n'
    cat "$log" >&2
    exit 1
fi
printf ' done\n'
