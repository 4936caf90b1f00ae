#!/usr/bin/env bash
# Installs one Debian package, and says so first: scripts/apt_install.sh PACKAGE REASON
#
# It runs as root, or with sudo. It never starts a service of the package: a test or a target that
# needs a server starts its own.
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
# Debian runs policy-rc.d to decide whether an installation may start services. If the file exists,
# it belongs to the owner of the machine and stays unchanged.
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    made_policy=yes
    "${as_root[@]}" chmod 755 "$policy"
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive)
apt+=(apt-get --quiet --yes -o DPkg::Lock::Timeout=300)
# An error here is ignored: it matters only if the installation below fails, too.
"${apt[@]}" update >/dev/null 2>&1 </dev/null || true
"$(dirname "$0")/quietly.sh" "${apt[@]}" install --no-install-recommends "$package"
