#!/usr/bin/env bash
# Generates the stubs for Python, Go and TypeScript from protos/. With --check it compares the
# committed stubs with fresh ones. buf.gen.yaml has the settings for Go and TypeScript. TypeScript
# also gets the messages of google.rpc. Go's gRPC library includes them.
#
# The Python client gets stubs of its own, in another package. One process may have the client and
# the server, or two versions of the contract. But protobuf refuses two .proto files of the same
# name in one process. The bytes on the wire are the same for both packages.
#
# Only a file that defines a service gets a *_pb2_grpc.py. For other files, *_pb2_grpc.py would be
# empty, but would import grpc.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv-protos/bin/python
export PATH="$PWD/.tools/bin:$PATH"

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
mapfile -t files < <(cd protos && find . -name '*.proto' -printf '%P\n' | sort)
mapfile -t services < <(cd protos && grep -lE '^service ' "${files[@]}")
"$python" -m grpc_tools.protoc --proto_path=protos --python_out="$fresh" --pyi_out="$fresh" \
    "${files[@]}"
"$python" -m grpc_tools.protoc --proto_path=protos --grpc_python_out="$fresh" "${services[@]}"

client=clients/python
mkdir -p "$fresh/protos/session_authority_client/wire"
for file in protos/session_authority/v1/*.proto clients/protos/google/rpc/*.proto; do
    sed -e 's#^package [a-z0-9_.]*;#package session_authority_client.wire;#' \
        -e 's#"session_authority/v1/#"session_authority_client/wire/#' "$file" \
        > "$fresh/protos/session_authority_client/wire/$(basename "$file")"
done
mkdir "$fresh/clients" "$fresh/$client"
(cd "$fresh/protos" && find . -name '*.proto' -printf '%P\n' | sort) |
    xargs "$python" -m grpc_tools.protoc --proto_path="$fresh/protos" \
        --python_out="$fresh/$client" --pyi_out="$fresh/$client"
rm -r "$fresh/protos"

.venv/bin/buf generate --output "$fresh"
"$python" -m grpc_tools.protoc --proto_path=clients/protos \
    --es_out="$fresh/clients/typescript/src/gen" --es_opt=target=ts,import_extension=js \
    google/rpc/status.proto

# Lists the generated files. Copies that pip leaves in clients/python/build are not among them.
generated() {
    (cd "$1" && find session_authority "$client/session_authority_client" \
        clients/go/sessionauthorityv1 clients/typescript/src/gen \
        -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' \
        -o -name '*.pb.go' -o -name '*_pb.ts' | sort)
}

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
    cp -r "$fresh/session_authority" "$fresh/clients" .
fi
