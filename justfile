# `just` lists the recipes.
_list:
    @just --list --unsorted

# What every commit must pass.
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo clippy --no-default-features --lib --locked -- -D warnings
    cargo clippy --no-default-features --features client --lib --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
    cargo test --locked

# The tests on this machine; `just test vault` runs those whose name holds the word.
test *FILTER:
    cargo test {{FILTER}}

# The same with PostgreSQL: the server in DEKEYS_TEST_POSTGRES, or a fresh one that is thrown away afterwards.
test-postgres *FILTER:
    #!/usr/bin/env bash
    set -euo pipefail
    if [ -z "${DEKEYS_TEST_POSTGRES:-}" ]; then
        bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n1)
        dir=$(mktemp -d)
        as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
        if [ "$(id -u)" = 0 ]; then chown postgres: "$dir"; fi
        trap 'cd /; as "$bin/pg_ctl" -D "$dir/data" -m fast -w stop >/dev/null; rm -rf "$dir"' EXIT
        (
            cd /
            as "$bin/initdb" -D "$dir/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
            as "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/log" \
                -o "-p 54329 -k $dir -c listen_addresses=127.0.0.1 -c max_connections=200" start >/dev/null
        )
        export DEKEYS_TEST_POSTGRES=postgres://postgres@127.0.0.1:54329/postgres
    fi
    cargo test {{FILTER}}

# Writes the files that are made from the code: docs/openapi.json, docs/problems.md, the table of docs/configuration.md.
gen:
    DEKEYS_WRITE_GENERATED=1 cargo test --quiet --locked --test it generated

# Asks every operation of a throw-away instance 100 times, as the OpenAPI document has it; needs Python and the network.
schema:
    #!/usr/bin/env bash
    set -euo pipefail
    work=$(mktemp -d)
    TMPDIR=$work cargo run --quiet -- serve --dev --json --port 0 >"$work/serve.json" &
    server=$!
    trap 'kill "$server"; rm -rf "$work"' EXIT
    until [ -s "$work/serve.json" ]; do kill -0 "$server"; sleep 0.1; done
    field() { python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())[sys.argv[1]])' "$1" <"$work/serve.json"; }
    tests/schema/run.sh "$(field admin_url)" "$(field admin_token)"

# Kills the server at random moments, more often than `just test` does.
crash ROUNDS="30":
    DEKEYS_CRASH_ROUNDS={{ROUNDS}} cargo test --locked --test crash

# Searches the models of the state machines deeply: minutes.
model:
    cargo test --release --no-default-features --test model -- --include-ignored --nocapture

# All that CI runs: needs root, Debian, Node, and the network for what it installs.
ci:
    .ci/run

# Measures; figures are kept in docs, not asserted in tests.
bench *FILTER:
    cargo bench {{FILTER}}

# The whole story on this machine: vendor, policy, approval, payment, key, receipt.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Licences, bans and advisories; needs cargo-deny.
deny:
    cargo deny check
