#!/usr/bin/env bash
# Compares protos/ with the last release (a tag v*), or else with main, and fails on what would
# break a client.
#
# Reads the local repository only, so it works offline, on a detached HEAD and in a shallow clone.
# Where there is nothing to compare with it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."

against=
# Newest version first, a release before its own release candidates.
releases=(tag --list 'v[0-9]*' --sort=-version:refname)
newest=$(git -c versionsort.suffix=- "${releases[@]}" 2>/dev/null | head -n 1) || newest=""
for ref in $newest main origin/main; do
    if git rev-parse --quiet --verify "$ref^{commit}" >/dev/null 2>&1; then
        against=$ref
        break
    fi
done
if [ -z "$against" ]; then
    echo "No release tag and no main here: nothing to compare the contract with."
    exit 0
fi
if ! git cat-file -e "$against:protos" 2>/dev/null; then
    echo "$against has no contract yet: nothing to compare with."
    exit 0
fi

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$against" protos | tar -x -C "$old"
cp buf.yaml "$old"
if ! .venv/bin/buf breaking --against "$old"; then
    echo "This change of protos/ breaks clients of $against." >&2
    exit 1
fi
