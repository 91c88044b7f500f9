#!/bin/sh
# Installs the client libraries as their users do, and what their tests need: install.sh FOLDER
# Tools that are there already stay; the libraries themselves are built and installed anew each time. Nothing is written
# beside their sources. Needs node, npm and python3.
set -eu

[ $# -eq 1 ] || { echo "usage: install.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
clients=$(cd "$here/../../clients" && pwd)
mkdir -p "$1"
cd "$1"

if ! cmp -s "$here/requirements.txt" venv/installed; then
    python3 -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" venv/installed
fi
venv/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$clients/python" >&2
# Nothing to do after the first time.
venv/bin/pip install --quiet --disable-pip-version-check "$clients/python" >&2

mkdir -p typescript node
cp "$clients"/typescript/*.json "$clients"/typescript/README.md typescript/
rm -rf typescript/src typescript/dist
cp -r "$clients/typescript/src" typescript/src
cd typescript
if ! cmp -s package-lock.json installed; then
    npm ci --no-fund --no-audit --ignore-scripts --silent >&2
    cp package-lock.json installed
fi
tarball=$PWD/$(npm pack --silent)
cd ../node
if ! cmp -s "$here/package.json" installed; then
    cp "$here/package.json" .
    npm install --no-fund --no-audit --ignore-scripts --no-package-lock --silent >&2
    # Bun's package puts its program in place by a script of its own.
    node node_modules/bun/install.js >&2
    cp "$here/package.json" installed
fi
rm -rf node_modules/dekeys node_modules/.package-lock.json
npm install --no-fund --no-audit --ignore-scripts --no-package-lock --no-save --silent "$tarball" >&2
