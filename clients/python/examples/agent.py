"""An agent: it buys a grant with the official x402 client, pins its token to a prim, and lets the prim act.

DEKEYS_ADDR=http://127.0.0.1:8402 DEKEYS_KEY_FILE=agent.key PRIM_URL=http://127.0.0.1:8500 python agent.py
Needs x402[evm,httpx]. The wallet is new: in a test instance no money moves.
"""

import asyncio
import os
import sys

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from dekeys import AsyncDekeys, Grant

URL = os.environ.get("DEKEYS_ADDR", "http://127.0.0.1:8402")
PRIM = os.environ.get("PRIM_URL", "http://127.0.0.1:8500")


async def main() -> None:
    async with AsyncDekeys(URL, key_file=os.environ["DEKEYS_KEY_FILE"]) as dekeys:
        wallet = x402Client()
        register_exact_evm_client(wallet, EthAccountSigner(Account.create()))
        async with x402HttpxClient(wallet, timeout=60) as http:
            ask = {"reference": "dk://demo/echo:read", "ttl": "15m", "public_key": dekeys.public_key}
            bought = await http.post(f"{URL}/v1/grants", json=ask)
        if bought.status_code != 201:
            sys.exit(bought.text)
        grant = Grant.read(bought.json())
        print(f"bought {grant.id}, receipt {grant.receipt}", file=sys.stderr)

        # The prim gets this token and no other: it is good for this prim alone, for five minutes.
        token = await dekeys.pin(await dekeys.token(grant.id), "prim-echo")
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{PRIM}/echo", headers={"authorization": f"Bearer {token.expose()}"})
        print(answer.status_code, answer.text)
        await dekeys.revoke_grant(grant.id, "done")


asyncio.run(main())
