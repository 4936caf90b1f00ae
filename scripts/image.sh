#!/usr/bin/env bash
# Builds the image of the Dockerfile without a container engine: scripts/image.sh FOLDER [ARCHIVE]
#
# With ARCHIVE the image is written to that file, in the OCI format, and not kept. All its dates are
# SOURCE_DATE_EPOCH, so the same sources on the same base give the same bytes.
#
# FOLDER keeps the replacement for the base image and the layers, so that the next run is fast. The
# base is made from packages of Debian with Python. BASE=IMAGE names another base. pip's own
# configuration (`pip config list`) says where packages come from. It is passed as a secret, so no
# layer contains it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 archive=${2:-} python=${PYTHON:-python3}
mkdir -p "$folder"
work=$(mktemp -d "$folder/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ "$(id -u)" -ne 0 ]; then
    echo "Only root can build without an engine. With one, run: docker build ." >&2
    exit 1
fi
for tool in mmdebstrap buildah; do
    command -v "$tool" >/dev/null ||
        scripts/apt_install.sh "$tool" "there is no $tool to build an image without an engine"
done
image_tool=(buildah --root "$folder/storage" --runroot "$folder/run")
if [ -n "${STORAGE_DRIVER:-}" ]; then image_tool+=(--storage-driver "$STORAGE_DRIVER"); fi

# The base is as small as the base image that it replaces: it has no documentation, no translations
# and no package lists. If the recipe changes, a new base is made.
recipe=(--variant=essential --include=python3,python3-venv,ca-certificates,libstdc++6)
for left_out in doc man locale; do
    recipe+=(--dpkgopt="path-exclude=/usr/share/$left_out/*")
done
recipe+=(trixie)
tag=$(cksum <<<"${recipe[*]}" | cut -d" " -f1)
base=${BASE:-localhost/session-authority-base:$tag}
if [ -z "${BASE:-}" ] && ! "${image_tool[@]}" inspect --type image "$base" >/dev/null 2>&1; then
    echo "Making a base of Debian with Python (a few minutes, once) ..."
    tree=$work/base.tar
    scripts/quietly.sh mmdebstrap "${recipe[@]}" "$tree"
    container=$("${image_tool[@]}" from scratch)
    scripts/quietly.sh "${image_tool[@]}" add --quiet "$container" "$tree" /
    scripts/quietly.sh "${image_tool[@]}" commit --quiet --rm "$container" "$base"
fi

"$python" scripts/pip_settings.py "$work/pip.conf" "$work/ca"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
build=("${image_tool[@]}" bud --isolation chroot)
if [ -z "${BASE:-}" ]; then build+=(--pull-never); fi
build+=(--secret "id=pip,src=$work/pip.conf" --secret "id=ca,src=$work/ca")
build+=(--build-arg "BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
echo "Building the image ..." >&2
if [ -z "$archive" ]; then
    # HEALTHCHECK exists only in Docker's format, and not in OCI's.
    scripts/quietly.sh "${build[@]}" --format docker --layers \
        --tag localhost/session-authority .
    exit
fi
dated=(--timestamp "$SOURCE_DATE_EPOCH" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH")
scripts/quietly.sh "${build[@]}" --format oci "${dated[@]}" \
    --tag "localhost/session-authority:$version" .
rm -f "$archive"
scripts/quietly.sh "${image_tool[@]}" push --quiet "localhost/session-authority:$version" \
    "oci-archive:$archive:session-authority:$version"
scripts/quietly.sh "${image_tool[@]}" rmi "localhost/session-authority:$version"
