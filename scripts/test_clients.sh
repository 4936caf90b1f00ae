#!/usr/bin/env bash
# Checks the clients for languages other than Python. First each client runs its own tools, then all
# clients run the same scenarios. The script prints what it skips.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/test_go.sh
scripts/test_typescript.sh

# The scenarios build the test program of each client by themselves.
TESTEES=go,typescript .venv/bin/pytest -q -n auto --dist loadfile -rs tests/polyglot
