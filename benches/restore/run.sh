#!/usr/bin/env bash
# Measures how long it takes from a lost instance to one that serves again: run.sh [KEYS]
# An instance with KEYS (1000) live keys at a vendor makes a backup and goes on for a while; then it is killed and its data
# are gone. Timed: restore, start, comparing with the vendor, ending what nobody knows, and a key for an old grant.
# Needs python3 and a release build (DEKEYS_BIN).
set -euo pipefail

keys=${1:-1000}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${DEKEYS_BIN:-$root/target/release/dekeys}
[ -x "$bin" ] || { echo "no $bin: cargo build --release" >&2; exit 2; }
work=$(mktemp -d)
started=()
trap 'for process in "${started[@]}"; do kill -TERM "$process" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
export DEKEYS_NO_INPUT=1 DEKEYS_OUTPUT=json DEKEYS_ADDR DEKEYS_BACKUP_FOLDER=$work/backups

free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
fact() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.loads(open(sys.argv[1]).readline())))' "$@"; }
now() { date +%s%N; }
since() { local ms=$((($(now) - $1) / 1000000)); printf '%d.%03d s' $((ms / 1000)) $((ms % 1000)); }
# What commands say beside their answers is kept, and shown when one fails.
as() { DEKEYS_KEY_FILE=$work/$1.key "$bin" "${@:2}" 2>said || { status=$?; [ "$status" -eq 7 ] || cat said >&2; return "$status"; }; }
# serve FOLDER: the server on the data there, until it answers.
serve() {
    local port
    port=$(free)
    "$bin" serve --data-dir "$1" --listen "127.0.0.1:$port" --admin-listen "unix:$1/admin" --unseal-key-file unseal.key \
        >>serve.out 2>>serve.log &
    server=$!
    started+=("$server")
    DEKEYS_ADDR=http://127.0.0.1:$port
    until curl -s "$DEKEYS_ADDR/readyz" >ready.json && ! grep -qw sealed ready.json; do
        kill -0 "$server" || { tail -n 5 serve.log >&2; exit 1; }
        sleep 0.02
    done
}

"$bin" vendor mock demo --json >vendor.json 2>vendor.log &
started+=($!)
for name in ada grace prim agent; do
    "$bin" key new "$name.key" --name "$name" >/dev/null 2>>setup.log
    "$bin" key public "$name.key" -o text >"$name.pub"
done
"$bin" init --mode test --data-dir "$work/data" --operator operator --new-operator-key operator.key \
    --unseal-key-file unseal.key --approver "ada=ada.pub" --approver "grace=grace.pub" --quorum 2 >/dev/null 2>>setup.log
serve "$work/data"
while [ ! -s vendor.json ]; do sleep 0.02; done
fact vendor.json root_fields key >root
as operator vendor connect demo --root-key-file root --base-url "$(fact vendor.json url)" >/dev/null
as operator principal create prim --kind prim --public-key prim.pub >/dev/null
as operator principal create agent --kind agent --public-key agent.pub >/dev/null
cat >policy.toml <<'TOML'
name = "many"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["agent"]
[grant]
max_ttl = "24h"
max_resolves = 100
[reveal]
prims = ["prim"]
max_lease = "24h"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
TOML
as operator policy apply policy.toml >proposed.json || [ $? -eq 7 ]
for approver in ada grace; do
    as "$approver" approval approve "$(fact proposed.json approval)" --digest "$(fact proposed.json digest)" >/dev/null
done
grants() { seq "$1" | DEKEYS_KEY_FILE=$work/agent.key xargs -P 4 -I{} "$bin" grant create dk://demo/echo:read \
    --ttl 24h --out-token "$work/$2-{}" >/dev/null 2>>grants.log; }
began=$(now)
grants "$keys" before
echo "| $keys grants with a key each | $(since "$began") |"
began=$(now)
as operator backup create >backup.json
echo "| the backup, while it serves | $(since "$began"), $(stat -c %s "$work"/backups/*.backup | tail -n 1) bytes |"
# What comes after the backup is lost here, and lives on at the vendor.
grants 25 after
kill -KILL "$server"
wait "$server" 2>/dev/null || true
rm -rf "$work/data"

lost=$(now)
began=$lost
"$bin" backup restore "$work"/backups/*.backup --data-dir "$work/again" --unseal-key-file unseal.key >/dev/null 2>>restore.log
echo "| restore | $(since "$began") |"
began=$(now)
serve "$work/again"
echo "| start and unseal | $(since "$began") |"
began=$(now)
as operator reconcile >reconcile.json
echo "| compare with the vendor | $(since "$began") |"
began=$(now)
as operator reconcile --revoke-unknown --yes >revoked.json
as operator reconcile --done --yes >/dev/null
echo "| end what nobody knows, go on | $(since "$began") |"
began=$(now)
as agent grant ls --limit 1 >grants.json
grant=$(python3 -c 'import json; print(json.load(open("grants.json"))["data"][0]["id"])')
as agent grant token "$grant" --out-token "$work/fresh" >/dev/null
as prim resolve dk://demo/echo:read --pin --agent-token "$work/fresh" --reveal >resolved
echo "| a key for a grant from before | $(since "$began") |"
echo "| **from the loss to that** | **$(since "$lost")** |"
python3 -c 'import json; print(json.load(open("reconcile.json"))["data"])'
