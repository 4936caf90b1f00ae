#!/usr/bin/env bash
# Builds a release twice, in two checkouts at different places and at different times, and compares
# the checksums: scripts/dist_check.sh [--without-image]
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for place in here elsewhere/deeper; do
    git clone --quiet --shared . "$work/$place"
    mkdir -p "$work/$place/.tools"
    # The base and the layers of an image are kept here.
    mkdir -p .tools/image
    ln -s "$PWD/.tools/image" "$work/$place/.tools/image"
    echo "Building a release, to compare it ..."
    # Files that are made for all to write, or for nobody else to read, make no difference.
    (
        if [ "$place" = here ]; then umask 077; else umask 000; fi
        scripts/quietly.sh "$PWD/.venv/bin/python" "$work/$place/scripts/dist.py" \
            "$work/$place/dist" "$@"
    )
done
diff "$work/here/dist/SHA256SUMS" "$work/elsewhere/deeper/dist/SHA256SUMS" || {
    echo "Two builds of one commit differ." >&2
    exit 1
}
(cd "$work/here/dist" && sha256sum --check --quiet SHA256SUMS)
