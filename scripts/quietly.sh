#!/usr/bin/env bash
# Runs a command, and prints its output only if it fails: scripts/quietly.sh COMMAND [ARGUMENT ...]
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1 </dev/null || {
    code=$?
    cat "$log" >&2
    exit "$code"
}
