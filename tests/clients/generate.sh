#!/bin/sh
# Writes the types of the client libraries anew from docs/openapi.json: generate.sh TOOLS [CLIENTS]
# TOOLS is a folder made by install.sh. CLIENTS, where to write, is this checkout's folder `clients` unless given.
set -eu

[ $# -ge 1 ] || { echo "usage: generate.sh TOOLS [CLIENTS]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
tools=$(cd "$1" && pwd)
clients=${2:-$root/clients}
mark='Generated from docs/openapi.json by tests/clients/generate.sh. Do not edit.'

mkdir -p "$clients/python/src/dekeys"
# What it says on the way is about its own future versions.
PYTHONWARNINGS=ignore "$tools/venv/bin/datamodel-codegen" --input "$root/docs/openapi.json" --input-file-type openapi \
    --output "$clients/python/src/dekeys/api.py" --output-model-type typing.TypedDict --target-python-version 3.11 \
    --openapi-scopes schemas paths --disable-timestamp --use-schema-description --use-field-description \
    --use-standard-collections --use-union-operator --enum-field-as-literal all --formatters builtin \
    --custom-file-header "# $mark"

mkdir -p "$clients/typescript/src"
"$tools/typescript/node_modules/.bin/openapi-typescript" "$root/docs/openapi.json" \
    --output "$clients/typescript/src/types" >/dev/null
{
    printf '// %s\n' "$mark"
    cat "$clients/typescript/src/types"
} >"$clients/typescript/src/api.ts"
rm "$clients/typescript/src/types"
