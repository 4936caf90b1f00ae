#!/usr/bin/env bash
# Compares protos/ with the last release (a tag v*), or with main if there is no release. Fails if a
# change would break a client.
#
# It reads only the local repository, so it works offline, on a detached HEAD and in a shallow
# clone. If there is nothing to compare with, it says so and passes.
#
# There is one exception: if the old contract has no options for other languages (`go_package` and
# the like), a change may add such options. Once the contract has such an option, a change of these
# options breaks clients, too.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "Nothing compared: $1."
    echo "breaking: $1" >>"${SKIPPED:-/dev/null}"
    exit 0
}

against=
# The newest version comes first, and a release before its own release candidates.
releases=(tag --list 'v[0-9]*' --sort=-version:refname)
newest=$(git -c versionsort.suffix=- "${releases[@]}" 2>/dev/null | head -n 1) || newest=""
for ref in $newest main origin/main; do
    if git rev-parse --quiet --verify "$ref^{commit}" >/dev/null 2>&1; then
        against=$ref
        break
    fi
done
if [ -z "$against" ]; then
    skip "no release tag and no main to compare the contract with"
fi
if ! git cat-file -e "$against:protos" 2>/dev/null; then
    skip "$against has no contract to compare with"
fi

old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
git archive "$against" protos | tar -x -C "$old"
cp buf.yaml "$old"

config=buf.yaml
language_options=(csharp_namespace go_package java_multiple_files java_outer_classname java_package
    objc_class_prefix php_metadata_namespace php_namespace ruby_package)
any_of_them=$(IFS='|' && echo "${language_options[*]}")
if ! grep -rqE "^\s*option\s+($any_of_them)\b" "$old/protos/session_authority/v1"; then
    config=$old/first_options.yaml
    {
        cat buf.yaml # the last section of the file is `breaking`
        echo "  except:"
        printf '    - FILE_SAME_%s\n' "${language_options[@]^^}"
    } > "$config"
fi
if ! .venv/bin/buf breaking --config "$config" --against "$old"; then
    echo "This change of protos/ breaks clients of $against." >&2
    exit 1
fi
