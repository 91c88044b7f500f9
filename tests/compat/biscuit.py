"""Narrows a token of dekeys with biscuit-python, which knows nothing of dekeys: biscuit.py KEYS_URL TOKEN_FILE PRIM.

Prints the token, pinned to one prim for four minutes by a block of ordinary checks.
"""

import base64
import json
import sys
import urllib.request
from datetime import datetime, timedelta, timezone

from biscuit_auth import Algorithm, Biscuit, BlockBuilder, PublicKey

keys_url, path, prim = sys.argv[1:]
with urllib.request.urlopen(keys_url) as answer:
    roots = {int(root["id"]): root["public_key"] for root in json.load(answer)["token_roots"]}


def root(number):
    text = roots[number].removeprefix("ed25519:")
    return PublicKey.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), Algorithm.Ed25519)


with open(path, encoding="ascii") as file:
    text = file.read().strip()
prefix, body = text[: len("dkt_test_")], text[len("dkt_test_") :]
token = Biscuit.from_base64(body, root)
until = datetime.now(timezone.utc) + timedelta(minutes=4)
block = BlockBuilder(
    "check if ask_prim({prim}); check if time($now), $now < {until};",
    {"prim": prim, "until": until.replace(microsecond=0)},
)
narrowed = token.append(block)
assert narrowed.block_count() == token.block_count() + 1
print(prefix + narrowed.to_base64().rstrip("="))
