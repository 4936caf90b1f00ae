#!/usr/bin/env bash
# Checks the client for TypeScript: its types, its lint, its tests, and the contents of its package.
# The script needs Node 20.3 or newer, and npm. If they are missing, the script installs Debian's
# packages of them.

set -euo pipefail
cd "$(dirname "$0")/../clients/typescript"

here=../../scripts
for program in node npm; do
    package=${program/node/nodejs}
    command -v "$program" >/dev/null ||
        "$here/apt_install.sh" "$package" "there is no $program to test TypeScript with"
done
version="$(node -p process.versions.node)"
if ! printf '%s\n' 20.3 "$version" | sort --check=silent --version-sort; then
    if [[ "${REQUIRE_BACKENDS:-}" == 1 ]]; then
        echo "TypeScript: needs Node 20.3 or newer, and this is Node $version." >&2
        exit 1
    fi
    echo "SKIPPED: the client for TypeScript needs Node 20.3 or newer, and this is $version." >&2
    exit 0
fi

npm install --ignore-scripts --prefer-offline --no-audit --no-fund --loglevel=error >/dev/null
rm -rf build
npx tsc
npm run --silent build
npx eslint .
npm run --silent test:built
node -p '
    const skips = JSON.parse(require("node:fs").readFileSync("vectors.skip.json", "utf8"));
    Object.entries(skips).map(([id, reason]) => `SKIPPED: ${id}: ${reason}\n`).join("")'
npm pack --dry-run --json --ignore-scripts=false --loglevel=error 2>/dev/null |
    node scripts/check_package.js
echo "TypeScript: types, lint, tests and package are fine."
