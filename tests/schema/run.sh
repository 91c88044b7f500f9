#!/usr/bin/env bash
# Asks every operation of the OpenAPI document, 100 times each and in sequences, with good and with bad requests: no
# answer may be a server error or one that the document does not name.
#
#     tests/schema/run.sh URL TOKEN
#
# URL is the admin address of a throw-away instance, which has every route (`dekeys serve --dev --json` prints it and the
# token): vendors are connected, principals shut out, keys rotated. Needs Python 3; installs schemathesis into SCHEMATHESIS_DIR, or a temporary folder.
set -euo pipefail
url=${1:?the admin address of a throw-away instance}
token=${2:?the login token of its operator}
here=$(cd "$(dirname "$0")" && pwd)
place=${SCHEMATHESIS_DIR:-$(mktemp -d)}
if [ ! -x "$place/bin/st" ]; then
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi
cd "$place"
# Left out is what would end the run: a sealed vault answers nothing else, a closed session proves nobody.
exec timeout 600 "$place/bin/st" --config-file "$here/schemathesis.toml" run "$url/openapi.json" \
    --header "Authorization: Bearer $token" \
    --exclude-operation-id seal --exclude-operation-id closeSession --request-timeout 20 \
    --max-examples 100 --workers 2 --continue-on-failure --seed "${SCHEMA_SEED:-1}" --no-color
