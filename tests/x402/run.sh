#!/bin/sh
# Buys one grant each with two official x402 clients: run.sh URL BODY
# Installs them into DEKEYS_X402_DIR (kept) or a temporary directory. Fails unless both got 201 with a token and a
# settled payment. Needs node, npm and python3.
set -eu

[ $# -eq 2 ] || { echo "usage: run.sh URL BODY" >&2; exit 2; }
url=$1 body=$2
here=$(cd "$(dirname "$0")" && pwd)

if [ -n "${DEKEYS_X402_DIR:-}" ]; then
    dir=$DEKEYS_X402_DIR
else
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
fi
"$here/install.sh" "$dir"
cd "$dir"

check='
import json, sys
who, answer = sys.argv[1], json.loads(sys.argv[2])
paid = answer["paymentResponse"] or {}
body = answer["body"] if isinstance(answer["body"], dict) else {}
good = answer["status"] == 201 and body.get("token") and paid.get("success") is True and paid.get("transaction")
sys.exit(None if good else f"{who}: no paid grant: {json.dumps(answer)}")
'

for client in "node buy.mjs" "venv/bin/python buy.py"; do
    # The client is two words on purpose.
    # shellcheck disable=SC2086
    answer=$($client "$url" "$body")
    echo "$answer"
    venv/bin/python -c "$check" "$client" "$answer"
done
