#!/usr/bin/env bash
# Checks the client for Go: its format, static analysis, and its tests. Each folder with a go.mod is
# a module of its own. The script needs Go 1.21, which downloads the Go version that a go.mod
# requires.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    if [ "${REQUIRE_BACKENDS:-}" = 1 ]; then
        echo "Go: $1" >&2
        exit 1
    fi
    echo "SKIPPED: the client for Go: $1" >&2
    exit 0
}

command -v go >/dev/null || skip "there is no Go"
version=$(go env GOVERSION)
minor=${version#go1.}
minor=${minor%%[!0-9]*}
[ "${minor:-0}" -ge 21 ] || skip "it needs Go 1.21, and this is $version"

unformatted=$(gofmt -l clients/go)
if [ -n "$unformatted" ]; then
    printf 'Not formatted. Run gofmt -w on:\n%s\n' "$unformatted" >&2
    exit 1
fi

race=(-race)
if ! command -v "$(go env CC)" >/dev/null; then
    race=()
    echo "SKIPPED: the race detector needs a C compiler." >&2
    [ "${REQUIRE_BACKENDS:-}" != 1 ] || exit 1
fi

find clients/go -name go.mod -printf '%h\n' | sort | while read -r module; do
    (
        cd "$module"
        export GOFLAGS="${GOFLAGS:-} -mod=readonly"
        go vet ./...
        staticcheck ./...
        # -count=1 turns off Go's cache of results, which ignores changes of clients/vectors outside
        # the module.
        go test -count=1 "${race[@]}" ./... | { grep -v -e '^ok ' -e 'no test files' || true; }
    )
done
sed -n 's/^ *"\([^"]*\)": "\(.*\)",\{0,1\}$/SKIPPED: \1: \2/p' clients/go/vectors.skip.json >&2
echo "Go: form, vet, staticcheck and tests are fine."
