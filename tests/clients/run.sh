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
server=''
stop() {
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

stop
echo "python: $(tail -n 1 "$work/pytest")"
echo "node: $(grep -E '^# (pass|fail|skipped) ' "$work/node" | tr '\n' ' ')"
echo "bun: $(tail -n 1 "$work/bun")"
