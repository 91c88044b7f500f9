#!/usr/bin/env bash
# Installs the libraries that programs under `dekeys run` use in the tests, into the folder that is named.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --disable-pip-version-check "openai==3.57.0"
