#!/usr/bin/env bash
# Installs one Debian package, saying so first: scripts/apt_install.sh PACKAGE REASON
#
# As root, or through sudo where there is one. A service that the package brings is never started:
# what needs a server here starts one of its own.
set -euo pipefail
package=$1 reason=$2

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! command -v apt-get >/dev/null || ! command -v "${as_root[0]:-true}" >/dev/null; then
    echo "$reason. Install $package, or what your system calls it, and try again." >&2
    exit 1
fi

echo "Installing the package $package with ${as_root[*]:+${as_root[*]} }apt-get: $reason ..."
policy=/usr/sbin/policy-rc.d
made_policy=no
clean_up() {
    if [ "$made_policy" = yes ]; then "${as_root[@]}" rm -f "$policy"; fi
}
trap clean_up EXIT
# Debian's own switch against starting services at installation; one that is there already is the
# owner's word.
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    made_policy=yes
    "${as_root[@]}" chmod 755 "$policy"
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive)
apt+=(apt-get --quiet --yes -o DPkg::Lock::Timeout=300)
# A package list that can't be fetched matters only if the package then can't be had.
"${apt[@]}" update >/dev/null 2>&1 </dev/null || true
"$(dirname "$0")/quietly.sh" "${apt[@]}" install --no-install-recommends "$package"
