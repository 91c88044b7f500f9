#!/usr/bin/env bash
# Measures the proxy against nginx with a fixed header, in one run and in turns: run.sh [ROUNDS] [SECONDS]
# Both send to the same nginx that answers a constant. Needs nginx, wrk, python3 and a release build (DEKEYS_BIN).
# Prints, for each round and as medians: requests/s of both, their ratio, p50 and p99. Twice: with the database on disk
# (each request durably on record before it leaves), and with it in memory (/dev/shm), where the record costs no sync.
# Then the memory of the process while 1 GB streams through.
set -euo pipefail

rounds=${1:-5} seconds=${2:-5}
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${DEKEYS_BIN:-$root/target/release/dekeys}
[ -x "$bin" ] || { echo "no $bin: cargo build --release" >&2; exit 2; }
work=$(mktemp -d)
memory=$(mktemp -d -p /dev/shm)
started=()
trap 'for process in "${started[@]}"; do kill -TERM "$process" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work" "$memory"' EXIT

free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
upstream=$(free) direct=$(free)
head -c 1000000000 /dev/zero >"$work/gigabyte"
cat >"$work/nginx.conf" <<NGINX
daemon off; worker_processes 2; pid $work/nginx.pid; error_log $work/nginx.log crit;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work; scgi_temp_path $work;
    upstream vendor { server 127.0.0.1:$upstream; keepalive 256; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:$upstream;
        location /v1/messages { return 200 '{"id":"msg_1"}'; }
        location /v1/files/ { alias $work/; }
    }
    server {
        listen 127.0.0.1:$direct;
        location / {
            proxy_pass http://vendor; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
            proxy_set_header Authorization "Bearer acme-0123456789abcdef";
        }
    }
}
NGINX
nginx -c "$work/nginx.conf" -p "$work" &
started+=($!)

cat >"$work/acme.toml" <<'TOML'
schema = 1
[vendor]
id = "acme"
title = "Acme"
class = 5
isolates = "account"
evidence = "draft"
resale = "unknown"
[root]
fields = { key = { title = "Key" } }
auth = { style = "bearer", value = "${root.key}" }
[http]
base = "https://api.acme.invalid/v1"
hosts = ["api.acme.invalid"]
[scopes]
"messages:write" = {}
[proxy]
hosts = ["api.acme.invalid"]
inject = [{ in = "header", name = "Authorization", format = "Bearer {secret}" }]
allow = [{ method = "GET", path = "/v1/messages" }, { method = "GET", path = "/v1/files/*" }]
TOML
cat >"$work/policy.toml" <<'TOML'
name = "bench"
vendor = "acme"
scopes = ["messages:write"]
[who]
kinds = ["agent"]
principals = ["agent-bench"]
[grant]
max_ttl = "1h"
max_resolves = 1000000000
credential_per = "shared"
[forward]
bearer = "15m"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
TOML
echo "acme-0123456789abcdef" >"$work/root"
export DEKEYS_NO_INPUT=1 DEKEYS_OUTPUT=json DEKEYS_ADDR

fact() { python3 -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline())[sys.argv[2]])' "$@"; }
# serve NAME FOLDER: an instance with its database there, the vendor connected, a bearer token in FOLDER/token.
serve() {
    "$bin" serve --dev --json --port 0 --data-dir "$2/data" >"$work/$1.json" 2>"$work/$1.log" &
    started+=($!)
    while [ ! -s "$work/$1.json" ]; do sleep 0.1; done
    DEKEYS_ADDR=$(fact "$work/$1.json" url)
    as() { DEKEYS_KEY_FILE=$2 "$bin" "${@:3}"; }
    local data=$2/data
    "$bin" key public "$data/agent.key" -o text >"$work/agent.pub"
    as _ "$data/operator.key" principal create agent-bench --kind agent --public-key "$work/agent.pub" >/dev/null
    as _ "$data/operator.key" vendor connect acme --manifest "$work/acme.toml" --field "key=@$work/root" \
        --base-url "http://127.0.0.1:$upstream" >/dev/null
    as _ "$data/operator.key" policy apply "$work/policy.toml" >"$work/proposed.json" || [ $? -eq 7 ]
    for approver in ada grace; do
        as _ "$data/$approver.key" approval approve "$(fact "$work/proposed.json" approval)" \
            --digest "$(fact "$work/proposed.json" digest)" >/dev/null
    done
    as _ "$data/agent.key" grant create dk://acme/messages:write --bearer --out-token "$2/token" >/dev/null
    echo "$DEKEYS_ADDR" >"$2/url"
}
serve disk "$work"
disk=${started[-1]}
serve memory "$memory"

load() { wrk -t1 -c64 -d"${seconds}s" --latency "$@" | python3 -c '
import re, sys
text = sys.stdin.read()
unit = {"us": 0.001, "ms": 1, "s": 1000}
def time(name):
    number, word = re.search(name + r"%\s+([\d.]+)(us|ms|s)", text).groups()
    return float(number) * unit[word]
bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
rate = re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)
print(rate, time("50"), time("99"), bad.group(1) if bad else 0)'; }
for round in $(seq "$rounds"); do
    echo "nginx $(load "http://127.0.0.1:$direct/v1/messages")"
    echo "disk $(load -H "Authorization: Bearer $(cat "$work/token")" "$(cat "$work/url")/p/acme/v1/messages")"
    echo "memory $(load -H "Authorization: Bearer $(cat "$memory/token")" "$(cat "$memory/url")/p/acme/v1/messages")"
done | tee "$work/figures"
python3 - "$work/figures" <<'PYTHON'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
of = lambda name: [list(map(float, row[1:])) for row in rows if row[0] == name]
print("| | requests/s | ratio to nginx [range] | p50 / p99 ms | refused |\n|---|---|---|---|---|")
for name in ("nginx", "disk", "memory"):
    pairs = [mine[0] / theirs[0] for mine, theirs in zip(of(name), of("nginx"))]
    median = lambda place: statistics.median(row[place] for row in of(name))
    print(f"| {name} | {median(0):.0f} | {statistics.median(pairs):.2f} [{min(pairs):.2f}–{max(pairs):.2f}] "
          f"| {median(1):.1f} / {median(2):.1f} | {sum(row[3] for row in of(name)):.0f} |")
PYTHON
rss() { awk '/VmRSS|VmHWM/ { print $1, $2 / 1024 " MB" }' "/proc/$disk/status" | tr '\n' ' '; }
echo "before 1 GB: $(rss)"
curl -s -o /dev/null -w '1 GB: %{size_download} bytes, %{speed_download} B/s\n' -H "Authorization: Bearer $(cat "$work/token")" \
    "$(cat "$work/url")/p/acme/v1/files/gigabyte"
echo "after 1 GB: $(rss)"
