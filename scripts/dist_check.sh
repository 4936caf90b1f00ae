#!/usr/bin/env bash
# Builds a release twice, in two checkouts at different paths and at different times, and compares
# the checksums: scripts/dist_check.sh [--without-image]
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
commit=$(git rev-parse HEAD)
# Both builds use the base of the image from this folder.
mkdir -p .tools/image

build() {
    local place=$1 mask=$2
    git clone --quiet --shared --no-checkout . "$work/$place"
    git -C "$work/$place" checkout --quiet --detach "$commit"
    mkdir "$work/$place/.tools"
    ln -s "$PWD/.tools/image" "$work/$place/.tools/image"
    echo "Building a release, to compare it ..."
    (
        umask "$mask"
        scripts/quietly.sh .venv/bin/python "$work/$place/scripts/dist.py" \
            "$work/$place/dist" "${@:3}"
    )
}

# The permissions of new files must make no difference: the first umask hides them from all other
# users, the second lets all users write them.
build here 077 "$@"
build elsewhere/deeper 000 "$@"
diff "$work/here/dist/SHA256SUMS" "$work/elsewhere/deeper/dist/SHA256SUMS" || {
    echo "Two builds of one commit differ." >&2
    exit 1
}
(cd "$work/here/dist" && sha256sum --check --quiet SHA256SUMS)
