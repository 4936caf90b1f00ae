#!/usr/bin/env bash
# Checks the clients for languages other than Python, each by its own tools, and then all of them by
# the same scenarios. Says what it skips.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/test_go.sh
scripts/test_typescript.sh

# The scenarios build each client's testee by themselves.
TESTEES=go,typescript .venv/bin/pytest -q -n auto --dist loadfile -rs tests/polyglot
