#!/usr/bin/env bash
# Brings one virtual environment to what a hashed requirement file says: scripts/venv.sh FOLDER
# REQUIREMENTS
#
# The interpreter is $PYTHON (python3). Repeating it is cheap; an environment of another Python is
# made anew. Says what it does before it takes long or installs anything outside the folder, and
# nothing else unless it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 requirements=$2 python=${PYTHON:-python3}

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
# Debian and Ubuntu ship Python without what makes virtual environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/apt_install.sh "python$version-venv" "$python can't make virtual environments"
fi

echo "Setting up $folder from $requirements ..."
tell='import sys; print("%d.%d" % sys.version_info[:2])'
has=$("$folder/bin/python" -c "$tell" 2>/dev/null || echo none)
fresh=()
if [ "$has" != "$version" ]; then fresh=(--clear); fi
scripts/quietly.sh "$python" -m venv "${fresh[@]}" "$folder"
scripts/quietly.sh "$folder/bin/python" -m pip install --quiet \
    --disable-pip-version-check --no-input --require-hashes --only-binary :all: \
    --requirement "$requirements"
