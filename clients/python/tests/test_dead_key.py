"""A key that dies at its vendor before its time: reported, replaced, and the request sent once more.

On an instance and a vendor of their own, since the vendor's root credential is needed to kill a key there.
"""

import json
import os
import subprocess

import httpx
import pytest
from conftest import REFERENCE, buy

from dekeys import Dekeys, KeyFile, Unsupported


def started(*words, tmp_path):
    """A program that tells on its first line where it is."""
    process = subprocess.Popen(
        [os.environ["DEKEYS_BIN"], *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    return process, json.loads(process.stdout.readline())


@pytest.fixture
def stage(tmp_path):
    server, dev = started("serve", "--dev", "--port", "0", tmp_path=tmp_path)
    mock, vendor = started("vendor", "mock", "demo", tmp_path=tmp_path)
    try:
        with Dekeys(dev["url"], key_file=dev["operator"]["key_file"]) as operator:
            body = {"fields": vendor["root_fields"], "base_url": vendor["url"]}
            operator.call("PUT", "/v1/vendors/demo/root-credential", body)
        yield dev, vendor
    finally:
        for process in (server, mock):
            process.terminate()
            process.communicate(timeout=30)


def kill_all(vendor):
    """Somebody deletes every key in the vendor's own console."""
    with httpx.Client(base_url=vendor["url"], headers={"authorization": f"Bearer {vendor['root_fields']['key']}"}) as console:
        keys = console.get("/keys").json()["data"]
        assert keys
        for key in keys:
            assert console.delete(f"/keys/{key['id']}").status_code == 204


def test_a_dead_key_is_reported_and_replaced_within_one_request(stage):
    dev, vendor = stage
    holder = KeyFile.generate()
    grant = buy(dev["url"], holder)
    with (
        Dekeys(dev["url"], key=holder) as agent,
        Dekeys(dev["url"], key_file=dev["prim"]["key_file"]) as prim,
    ):
        token = agent.pin(grant.token, "prim-echo")
        dead = prim.resolve(REFERENCE, token)
        with httpx.Client(base_url=dead.base_url, auth=prim.auth(REFERENCE, token)) as http:
            assert http.get("/echo").status_code == 200
            kill_all(vendor)
            answer = http.get("/echo")
        try:
            prim.report(dead)
        except Unsupported:
            # Said once in the log; the vendor's answer is handed on.
            assert answer.status_code == 401
            return
        assert (answer.status_code, answer.json()) == (200, {"hello": "agent"})
        fresh = prim.resolve(REFERENCE, token)
        assert fresh.secret != dead.secret


def test_a_refusal_that_is_not_the_keys_is_handed_on(stage):
    dev, _ = stage
    holder = KeyFile.generate()
    grant = buy(dev["url"], holder)
    with Dekeys(dev["url"], key=holder) as agent, Dekeys(dev["url"], key_file=dev["prim"]["key_file"]) as prim:
        token = agent.pin(grant.token, "prim-echo")
        key = prim.resolve(REFERENCE, token)
        # The vendor's list of keys wants another credential than this one.
        with httpx.Client(base_url=key.base_url, auth=prim.auth(REFERENCE, token)) as http:
            refused = http.get("/keys")
            assert refused.status_code in (401, 403)
            assert http.get("/echo").status_code == 200
        assert prim.resolve(REFERENCE, token).secret == key.secret
