#!/usr/bin/env bash
# Tests the client libraries against real servers: run.sh FOLDER
# Installs them into FOLDER (kept), sees that their generated types are not stale, and runs the tests of each against a
# `dekeys serve --dev` of its own. DEKEYS_BIN names the binary, DEKEYS_VECTORS the public test vectors.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: run.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
export DEKEYS_BIN=${DEKEYS_BIN:-$root/target/debug/dekeys} PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d)
server='' prim=''
stop() {
    if [ -n "$prim" ]; then kill "$prim" 2>/dev/null || true; fi
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        wait "$server" || true
        server=''
    fi
}
trap 'stop; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

serve() {
    stop
    export DEKEYS_DEV=$work/$1.json
    TMPDIR=$work "$DEKEYS_BIN" serve --dev --json --port 0 >"$DEKEYS_DEV" 2>"$work/$1.log" &
    server=$!
    for _ in $(seq 600); do
        [ ! -s "$DEKEYS_DEV" ] || return 0
        kill -0 "$server" 2>/dev/null || fail "serve --dev ended: $(cat "$work/$1.log")"
        sleep 0.1
    done
    fail "serve --dev was not ready within 60 s: $(cat "$work/$1.log")"
}

"$here/install.sh" "$dir"
"$here/generate.sh" "$dir" "$work/clients"
for file in python/src/dekeys/api.py typescript/src/api.ts; do
    diff -u "$root/clients/$file" "$work/clients/$file" >&2 ||
        fail "clients/$file is stale: run tests/clients/generate.sh $1"
done

cd "$root/clients/python"
"$dir/venv/bin/mypy" --no-error-summary --cache-dir "$dir/mypy"
serve python
"$dir/venv/bin/python" -m pytest -q -p no:cacheprovider --tb=short >"$work/pytest" || fail "$(cat "$work/pytest")"

rm -rf "$dir/node/tests"
cp -r "$root/clients/typescript/tests" "$dir/node/tests"
cd "$dir/node"
serve node
DEKEYS_SOURCES=$root node --test --test-reporter=tap tests/*.test.mjs >"$work/node" 2>&1 || fail "$(grep -A 30 '^not ok' "$work/node")"
node_modules/.bin/bun tests/bun.mjs >"$work/bun" || fail "$(cat "$work/bun")"

# Each example agent buys, and has the example prim of the other language act for it.
serve examples
fact() { "$dir/venv/bin/python" -c "import json; print(json.load(open('$DEKEYS_DEV'))$1)"; }
DEKEYS_ADDR=$(fact '["url"]')
export DEKEYS_ADDR PORT=0
cp "$root"/clients/typescript/examples/*.mjs .
act() {
    rm -f "$work/prim"
    DEKEYS_KEY_FILE=$(fact '["prim"]["key_file"]') $1 >"$work/prim" 2>"$work/prim.log" &
    prim=$!
    for _ in $(seq 300); do
        [ ! -s "$work/prim" ] || break
        kill -0 "$prim" 2>/dev/null || fail "$1: $(cat "$work/prim.log")"
        sleep 0.1
    done
    told=$(PRIM_URL=$(head -n 1 "$work/prim") DEKEYS_KEY_FILE=$(fact '["agent"]["key_file"]') $2 2>"$work/agent.log") ||
        told="$told $(cat "$work/agent.log")"
    kill "$prim"
    wait "$prim" || true
    prim=''
    [ "$(echo "$told" | tr -d ' ')" = '200{"hello":"agent"}' ] || fail "$2, served by $1: $told $(cat "$work/prim.log")"
}
examples=$root/clients/python/examples
act "node prim.mjs" "$dir/venv/bin/python $examples/agent.py"
act "$dir/venv/bin/python $examples/prim.py" "node agent.mjs"

stop
echo "examples: an agent in each language was served by a prim in the other"
echo "python: $(tail -n 1 "$work/pytest")"
echo "node: $(grep -E '^# (pass|fail|skipped) ' "$work/node" | tr '\n' ' ')"
echo "bun: $(tail -n 1 "$work/bun")"
