#!/bin/sh
# Installs two official x402 clients, a chain, and the scripts that drive them: install.sh FOLDER
# What is there already stays. Needs node, npm and python3.
set -eu

[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
mkdir -p chain
for path in "$here"/package.json "$here"/requirements.txt "$here"/buy.* "$here"/chain/*.json "$here"/chain/*.mjs; do
    file=${path#"$here/"}
    # Whole or not at all: somebody else may be running them.
    cp "$path" "$file.$$"
    mv "$file.$$" "$file"
done
if ! cmp -s package.json node_modules/installed; then
    npm install --no-fund --no-audit --ignore-scripts --silent >&2
    cp package.json node_modules/installed
fi
if ! cmp -s requirements.txt venv/installed; then
    python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt >&2
    cp requirements.txt venv/installed
fi
