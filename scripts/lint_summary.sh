#!/usr/bin/env bash
# Prints in one line which checks of `make lint` ran: scripts/lint_summary.sh CHECK ... <SKIPPED
#
# Each line of the standard input names something that a check skipped, with the reason.
set -euo pipefail

skipped=$(paste --serial --delimiters=';' | sed 's/;/; /g')
echo "lint: $# checks ran, and all passed: $*. Skipped: ${skipped:-nothing}."
