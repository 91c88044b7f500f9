#!/bin/sh
# Installs two official x402 clients and the scripts that drive them: install.sh FOLDER
# What is there already stays. Needs node, npm and python3.
set -eu

[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cd "$1"
for file in package.json requirements.txt buy.mjs buy.py; do
    # Whole or not at all: somebody else may be running them.
    cp "$here/$file" "$file.$$"
    mv "$file.$$" "$file"
done
if [ ! -e node_modules/installed ]; then
    npm install --no-fund --no-audit --ignore-scripts --silent >&2
    touch node_modules/installed
fi
if [ ! -e venv/installed ]; then
    python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt >&2
    touch venv/installed
fi
