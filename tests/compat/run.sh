#!/usr/bin/env bash
# Runs unmodified clients of vendors through dekeys, against mock vendors made from the manifests, and prints a table of
# client, version and result: run.sh FOLDER [FILE]
# Installs the clients into FOLDER (kept); with FILE the page docs/compatibility.md is written there. Fails unless every
# client works. DEKEYS_BIN names the binary, DEKEYS_X402_DIR where the official x402 clients are or will be. Needs node, npm,
# python3 and cargo.
#
# To add a client: its package in requirements.txt or package.json, a script in clients/ that is told BASE_URL and API_KEY
# and nothing else, asserts what it sees and prints the client's version, and a line in the list below.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: run.sh FOLDER [FILE]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
page=${2:-}
bin=${DEKEYS_BIN:-$root/target/debug/dekeys}
work=$(mktemp -d)
started=()
stop() {
    for process in "${started[@]}"; do
        kill -TERM "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
}
trap 'stop; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# name, vendor, path after the vendor, command
clients="\
openai (PyPI)|openrouter|/api/v1|venv/bin/python clients/use_openai.py
anthropic (PyPI)|anthropic||venv/bin/python clients/use_anthropic.py
openai (npm)|openrouter|/api/v1|node clients/use_openai.mjs
@anthropic-ai/sdk (npm)|anthropic||node clients/use_anthropic.mjs"

cp -r "$here/clients" "$here/biscuit.py" "$here/webhooks.py" "$here/webhooks.mjs" "$here/package.json" "$here/requirements.txt" "$dir"
[ -e "$dir/venv/installed" ] || {
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check -r "$dir/requirements.txt" >&2
    touch "$dir/venv/installed"
}
[ -e "$dir/node_modules/installed" ] || {
    (cd "$dir" && npm install --no-fund --no-audit --ignore-scripts --silent >&2)
    touch "$dir/node_modules/installed"
}

# start NAME COMMAND…: runs it until the end, with the first line of its output in $work/NAME.json.
start() {
    local name=$1
    shift
    TMPDIR=$work "$@" >"$work/$name.json" 2>"$work/$name.log" &
    started+=($!)
    for _ in $(seq 600); do
        [ ! -s "$work/$name.json" ] || return 0
        kill -0 "$!" 2>/dev/null || fail "$name ended: $(cat "$work/$name.log")"
        sleep 0.1
    done
    fail "$name was not ready within 60 s: $(cat "$work/$name.log")"
}
# fact NAME KEY…: a value out of what NAME said.
fact() {
    python3 -c 'import json, sys
value = json.loads(open(sys.argv[1]).readline())
for key in sys.argv[2:]:
    value = value[key]
print(value)' "$work/$1.json" "${@:2}"
}

start serve "$bin" serve --dev --json --port 0
data=$(fact serve data_dir)
export DEKEYS_ADDR DEKEYS_NO_INPUT=1 DEKEYS_OUTPUT=json
DEKEYS_ADDR=$(fact serve url)
as() { DEKEYS_KEY_FILE=$data/$1.key "$bin" "${@:2}"; }

"$bin" key public "$data/agent.key" -o text >"$work/agent.pub"
as operator principal create agent-compat --kind agent --public-key "$work/agent.pub" >"$work/principal.json"

# vendor NAME SCOPE PER PARAM…: a mock vendor, its root credential, a policy with bearer tokens in force, and a token.
vendor() {
    local name=$1 scope=$2 per=$3
    shift 3
    start "$name" "$bin" vendor mock "$name" --json
    fact "$name" root_fields key >"$work/$name.key"
    as operator vendor connect "$name" --root-key-file "$work/$name.key" --base-url "$(fact "$name" url)" "$@" \
        >"$work/connected.json"
    cat >"$work/$name.toml" <<TOML
name = "compat-$name"
vendor = "$name"
scopes = ["$scope"]
[who]
kinds = ["agent"]
principals = ["agent-compat"]
[grant]
max_ttl = "1h"
max_resolves = 1000
credential_per = "$per"
[forward]
bearer = "15m"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
TOML
    as operator policy apply "$work/$name.toml" >"$work/proposed.json" || [ $? -eq 7 ] || fail "policy of $name"
    for approver in ada grace; do
        as "$approver" approval approve "$(fact proposed approval)" --digest "$(fact proposed digest)" \
            -c "for the test" >"$work/approved.json"
    done
    as agent grant create "dk://$name/$scope" --bearer --out-token "$work/$name.token" >"$work/grant.json"
}
vendor openrouter inference:write grant
vendor anthropic messages:write shared

bad=0
rows=''
while IFS='|' read -r name vendor path command; do
    # The command is several words on purpose.
    # shellcheck disable=SC2086
    if version=$(cd "$dir" && BASE_URL=$DEKEYS_ADDR/p/$vendor$path API_KEY=$(cat "$work/$vendor.token") \
        $command 2>"$work/trouble" </dev/null); then
        result=works
    else
        bad=1 version='?' result='does not work'
        cat "$work/trouble" >&2
    fi
    rows+="| $name | $version | $vendor | $result |"$'\n'
done <<<"$clients"

# receiver NAME VERSION RESULT: a row of those who check webhooks.
received=''
receiver() { received+="| $1 | $2 | $3 |"$'\n'; }
result=works
(cd "$dir" && venv/bin/python webhooks.py "$bin" "$DEKEYS_ADDR" "$data/operator.key") >"$work/message.json" 2>"$work/trouble" ||
    { bad=1 result='does not work'; cat "$work/trouble" >&2; }
for library in standardwebhooks http-message-signatures; do
    receiver "$library (PyPI)" "$(cd "$dir" && venv/bin/python -c 'import importlib.metadata, sys
print(importlib.metadata.version(sys.argv[1]))' "$library")" "$result"
done
result=works
(cd "$dir" && node webhooks.mjs) <"$work/message.json" >"$work/trouble" 2>&1 ||
    { bad=1 result='does not work'; cat "$work/trouble" >&2; }
receiver 'standardwebhooks (npm)' "$(cd "$dir" && node -p \
    'JSON.parse(require("fs").readFileSync("node_modules/standardwebhooks/package.json")).version')" "$result"

# A token narrowed by a library that knows nothing of dekeys: the prim it names gets a key, another does not.
cat >"$work/demo.toml" <<TOML
name = "compat-demo"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["agent-compat"]
[grant]
max_ttl = "1h"
max_resolves = 100
[reveal]
prims = ["prim-echo"]
max_lease = "5m"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
TOML
as operator policy apply "$work/demo.toml" >"$work/proposed.json" || [ $? -eq 7 ] || fail "policy of demo"
for approver in ada grace; do
    as "$approver" approval approve "$(fact proposed approval)" --digest "$(fact proposed digest)" \
        -c "for the test" >"$work/approved.json"
done
as agent grant create dk://demo/echo:read --out-token "$work/demo.token" >"$work/grant.json"
narrowed() { (cd "$dir" && venv/bin/python biscuit.py "$DEKEYS_ADDR/v1/keys" "$work/demo.token" "$1"); }
result=works
{
    narrowed prim-echo >"$work/narrowed.token" && narrowed prim-other >"$work/other.token" &&
        as prim-echo resolve dk://demo/echo:read --agent-token "$work/narrowed.token" --reveal >"$work/resolved" &&
        grep -q demo-key- "$work/resolved" &&
        ! as prim-echo resolve dk://demo/echo:read --agent-token "$work/other.token" --reveal >"$work/refused" &&
        ! grep -q demo-key- "$work/refused"
} 2>"$work/trouble" || { bad=1 result='does not work'; cat "$work/trouble" >&2; }
tokens="| biscuit-python (PyPI) | $(cd "$dir" && venv/bin/python -c 'import importlib.metadata
print(importlib.metadata.version("biscuit-python"))') | $result |"

# payer NAME VERSION COMMAND…: a row of those who pay; each buys a grant at the price of the 402.
x402=${DEKEYS_X402_DIR:-$dir/x402}
mkdir -p "$x402"
x402=$(cd "$x402" && pwd)
"$root/tests/x402/install.sh" "$x402"
(cd "$root/tests/x402/rust" && CARGO_TARGET_DIR=$x402/rust cargo build --quiet --locked)
holder=$(cat "$work/agent.pub")
paid=''
payer() {
    local result=works
    (cd "$x402" && "${@:3}" "$DEKEYS_ADDR/v1/grants" \
        "{\"reference\":\"dk://demo/echo:read\",\"ttl\":\"15m\",\"public_key\":\"$holder\"}") >"$work/paid.json" 2>"$work/trouble" &&
        python3 -c 'import json, sys
told = json.load(open(sys.argv[1]))
sys.exit(not (told["status"] == 201 and told["body"]["token"] and told["paymentResponse"]["success"]))' "$work/paid.json" ||
        { bad=1 result='does not work'; cat "$work/trouble" "$work/paid.json" >&2; }
    paid+="| $1 | $2 | $result |"$'\n'
}
payer '@x402/fetch (npm)' "$(cd "$x402" && node -p \
    'JSON.parse(require("fs").readFileSync("node_modules/@x402/fetch/package.json")).version')" node buy.mjs
payer 'x402 (PyPI)' "$("$x402/venv/bin/python" -c 'import importlib.metadata
print(importlib.metadata.version("x402"))')" venv/bin/python buy.py
payer 'x402-reqwest (cargo)' "$(grep -A1 'name = "x402-reqwest"' "$root/tests/x402/rust/Cargo.lock" |
    sed -n 's/^version = "\(.*\)"/\1/p')" rust/debug/dekeys-x402-client

table="| client | version | vendor | result |
|---|---|---|---|
$rows"
receivers="| library | version | result |
|---|---|---|
$received"
narrowing="| library | version | result |
|---|---|---|
$tokens
"
paying="| client | version | result |
|---|---|---|
$paid"
printf '%s\n%s\n%s\n%s' "$table" "$receivers" "$narrowing" "$paying"
if [ -n "$page" ]; then
    cat >"$page" <<MARKDOWN
# Compatibility

Unmodified clients that work through dekeys. Each is told an address (\`…/p/{vendor}\`) and a credential (a dekeys token in the
place of the vendor's key) and nothing else, asks for an answer whole and streamed, and talks to a mock vendor made from the
vendor's manifest. \`tests/compat/run.sh FOLDER docs/compatibility.md\` writes this page.

$table
Unmodified libraries that check a webhook of dekeys: they take the message, and refuse it with one byte changed.

$receivers
Unmodified libraries that narrow a token of dekeys: a block pins it to a prim for minutes, that prim gets a key, another none.

$narrowing
Unmodified x402 clients that buy a grant. Against a chain, with the official facilitator, the same three buy in
\`tests/x402/run\`.

$paying
MARKDOWN
fi
exit $bad
