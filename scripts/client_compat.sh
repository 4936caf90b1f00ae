#!/usr/bin/env bash
# Installs the Python client's wheel alone into each environment given, and has it make real calls
# there: scripts/client_compat.sh FOLDER ...
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# From a copy: setuptools leaves what it builds beside the source.
cp -r clients/python "$work/source"
scripts/quietly.sh .venv/bin/python -m build --wheel --no-isolation --outdir "$work" "$work/source"

for folder in "$@"; do
    pip=("$folder/bin/python" -m pip --disable-pip-version-check)
    scripts/quietly.sh "${pip[@]}" install --no-input --no-index --no-deps --force-reinstall \
        "$work"/*.whl
    # What the wheel says that it needs is there.
    scripts/quietly.sh "${pip[@]}" check
    # Isolated from this folder, where the client's source and the service are.
    "$folder/bin/python" -I scripts/client_compat.py --quiet
done
