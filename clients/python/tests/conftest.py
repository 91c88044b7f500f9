"""The instance the tests run against: `DEKEYS_DEV` is a file with the first line of `dekeys serve --dev --json`."""

import asyncio
import contextlib
import json
import os
from pathlib import Path

import pytest
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from dekeys import Dekeys, Grant, KeyFile, Refused

REFERENCE = "dk://demo/echo:read"


@pytest.fixture(scope="session")
def dev() -> dict:
    return json.loads(Path(os.environ["DEKEYS_DEV"]).read_text().splitlines()[0])


@pytest.fixture(scope="session")
def holder() -> KeyFile:
    return KeyFile.generate()


@pytest.fixture
def agent(dev, holder):
    with Dekeys(dev["url"], key=holder) as client:
        yield client


@pytest.fixture
def prim(dev):
    with Dekeys(dev["url"], key_file=dev["prim"]["key_file"], name=dev["prim"]["name"]) as client:
        yield client


def buy(url: str, holder: KeyFile) -> Grant:
    """Buys with the official client, from a new wallet."""

    async def pay():
        client = x402Client()
        register_exact_evm_client(client, EthAccountSigner(Account.create()))
        async with x402HttpxClient(client, timeout=60) as http:
            ask = {"reference": REFERENCE, "ttl": "15m", "public_key": holder.public}
            answer = await http.post(f"{url}/v1/grants", json=ask)
        assert answer.status_code == 201, answer.text
        return Grant.read(answer.json())

    return asyncio.run(pay())


@pytest.fixture
def grant(dev, holder, agent):
    bought = buy(dev["url"], holder)
    yield bought
    # The policy limits how many leases live at once.
    with contextlib.suppress(Refused):
        agent.revoke_grant(bought.id)
