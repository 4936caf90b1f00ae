#!/usr/bin/env bash
# Generates the Python stubs from protos/, or with --check compares the committed ones with fresh ones.
#
# Only a file that defines a service gets a *_pb2_grpc.py: an empty one would drag grpc into whatever imports it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv-protos/bin/python

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mapfile -t files < <(cd protos && find . -name '*.proto' -printf '%P\n' | sort)
mapfile -t services < <(cd protos && grep -lE '^service ' "${files[@]}")
"$python" -m grpc_tools.protoc --proto_path=protos --python_out="$fresh" --pyi_out="$fresh" "${files[@]}"
"$python" -m grpc_tools.protoc --proto_path=protos --grpc_python_out="$fresh" "${services[@]}"

generated() { (cd "$1" && find session_authority -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' | sort); }

if [ "${1:-}" = --check ]; then
    stale=no
    while read -r file; do
        diff --unified --new-file "$file" "$fresh/$file" || stale=yes
    done < <({ generated . && generated "$fresh"; } | sort --unique)
    if [ "$stale" = yes ]; then
        echo "The committed stubs are not what protos/ generates. Run: make protos" >&2
        exit 1
    fi
else
    generated . | xargs --no-run-if-empty rm --
    cp -r "$fresh/session_authority" .
fi
