"""Buys with the unmodified Python client: python buy.py URL BODY

Pays from the key in DEKEYS_X402_KEY, or from a new wallet. Prints one JSON line {status, body, paymentResponse}.
"""

import asyncio
import json
import os
import sys

from eth_account import Account
from x402 import x402Client
from x402.http import decode_payment_response_header
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client


async def buy(url: str, body: str) -> dict:
    key = os.environ.get("DEKEYS_X402_KEY")
    account = Account.from_key(key) if key else Account.create()
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(account))
    async with x402HttpxClient(client, timeout=60) as http:
        answer = await http.post(url, content=body, headers={"content-type": "application/json"})
    header = answer.headers.get("payment-response")
    return {
        "status": answer.status_code,
        "body": parsed(answer.text),
        "paymentResponse": decode_payment_response_header(header).model_dump(by_alias=True) if header else None,
    }


def parsed(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


print(json.dumps(asyncio.run(buy(sys.argv[1], sys.argv[2]))))
