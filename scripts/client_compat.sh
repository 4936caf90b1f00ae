#!/usr/bin/env bash
# Installs the Python client's wheel alone into each given environment, and makes real calls there:
# scripts/client_compat.sh FOLDER ...
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The wheel is built from a copy, because setuptools writes its output next to the source.
cp -r clients/python "$work/source"
scripts/quietly.sh .venv/bin/python -m build --wheel --no-isolation --outdir "$work" "$work/source"

for folder in "$@"; do
    pip=("$folder/bin/python" -m pip --disable-pip-version-check)
    scripts/quietly.sh "${pip[@]}" install --no-input --no-index --no-deps --force-reinstall \
        "$work"/*.whl
    # Checks that the requirements of the wheel are installed.
    scripts/quietly.sh "${pip[@]}" check
    # -I hides this folder, which has the source of the client and the service.
    "$folder/bin/python" -I scripts/client_compat.py --quiet
done
