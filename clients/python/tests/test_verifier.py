"""The revocation feed: what is believed of it, and a verifier that follows it."""

import asyncio
import base64
import hashlib
import json
import time
from dataclasses import replace

import pytest
from conftest import REFERENCE

from dekeys import AsyncDekeys, FeedRefused, KeyFile, PublicKeys, TokenRefused, Unsupported, Verifier
from dekeys.keyfile import base64url, unbase64url

LOG = KeyFile.generate()
KEYS = PublicKeys(
    "ins_1", {1: LOG.public}, "x+0+" + base64.b64encode(b"\x01" + unbase64url(LOG.public[8:])).decode()
)


def statement(body: bytes, key=LOG, now=None, **other) -> str:
    header = {"alg": "EdDSA", "kid": "k", "typ": other.pop("typ", "dekeys-revocations+jwt")}
    digest = base64url(hashlib.sha256(body).digest())
    claims = {"iss": "ins_1", "now": int((now or time.time()) * 1000), "digest": digest} | other
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{base64url(key.sign(signed.encode()))}"


def page(after=0, following=0, *ended, **other) -> bytes:
    data = [{"n": 1, "kind": kind, "id": name, "at": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"} for kind, name in ended]
    told = {"object": "revocations", "instance": "ins_1", "incarnation": "inc_1", "after": after, "next": following}
    return json.dumps(told | {"has_more": False, "data": data} | other).encode()


def test_what_ended_is_told_once_and_remembered():
    told = []
    verifier = Verifier(KEYS, on_end=lambda kind, name: told.append((kind, name)))
    assert verifier.age is None and verifier.ask() == ("/v1/revocations?after=0", {})
    first = page(0, 7, ("lease", "lea_1"), ("grant", "grt_1"))
    assert verifier.take(200, first, statement(first)) is False
    assert verifier.take(200, first, statement(first)) is False
    assert told == [("lease", "lea_1"), ("grant", "grt_1")]
    assert verifier.has_ended_lease("lea_1") and not verifier.has_ended_lease("lea_2")
    empty = page(7, 7)
    verifier.take(200, empty, statement(empty, now=time.time() - 4))
    path, headers = verifier.ask()
    assert path.endswith("after=7") and headers == {"if-none-match": f'"{base64url(hashlib.sha256(empty).digest())}"'}
    verifier.take(304, b"", statement(empty))
    assert verifier.age < 2
    assert verifier.has_ended_lease("lea_1")


def test_a_page_with_more_behind_it_is_not_all_that_is_known():
    verifier = Verifier(KEYS)
    part = page(0, 3, ("lease", "lea_1"), has_more=True)
    assert verifier.take(200, part, statement(part)) is True
    assert verifier.age is None


def test_another_incarnation_is_read_anew_and_nothing_is_forgotten():
    verifier = Verifier(KEYS)
    first, other = page(0, 7, ("lease", "lea_1")), page(7, 7, incarnation="inc_2")
    verifier.take(200, first, statement(first))
    assert verifier.take(200, other, statement(other)) is True
    assert verifier.ask()[0].endswith("after=0") and verifier.age is None and verifier.has_ended_lease("lea_1")


GOOD = page()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, GOOD, ""),
        (200, GOOD, "a.b"),
        (200, GOOD, "x" * 5000),
        (200, GOOD, statement(GOOD, key=KeyFile.generate())),
        (200, GOOD, statement(GOOD, iss="ins_2")),
        (200, GOOD, statement(GOOD, typ="other+jwt")),
        (200, GOOD, statement(GOOD, digest=7)),
        (200, GOOD + b" ", statement(GOOD)),
        (200, b"{}", statement(b"{}")),
        (200, b"<html>", statement(b"<html>")),
        (200, page(instance="ins_2"), statement(page(instance="ins_2"))),
        (200, page(5, 9), statement(page(5, 9))),
        (304, b"", statement(GOOD)),
    ],
)
def test_what_the_log_did_not_say_is_not_believed(status, body, said):
    verifier = Verifier(KEYS)
    with pytest.raises(FeedRefused):
        verifier.take(status, body, said)
    assert verifier.age is None


def test_old_knowledge_and_knowledge_of_the_future_is_none():
    for now in (time.time() - 6, time.time() + 60):
        verifier = Verifier(KEYS)
        verifier.take(200, GOOD, statement(GOOD, now=now))
        with pytest.raises(TokenRefused) as caught:
            verifier.check("dkt_test_AAAA", REFERENCE)
        assert caught.value.reason == "feed_stale"


def followed(prim):
    try:
        return prim.verifier(look=0.1)
    except Unsupported as error:
        pytest.skip(str(error))


def until(holds):
    """Waits for what the feed brings; its own clock bounds the wait."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "the feed did not bring it"
        time.sleep(0.02)


def test_a_verifier_that_follows_sees_a_revocation(agent, prim, grant):
    with followed(prim) as verifier:
        token = agent.pin(grant.token, "prim-echo")
        assert verifier.check(token, REFERENCE, prim="prim-echo").grant == grant.id
        key = prim.resolve(REFERENCE, token)
        assert prim.resolve(REFERENCE, token) is key
        agent.revoke_grant(grant.id)

        def ended():
            try:
                verifier.check(token, REFERENCE, prim="prim-echo")
            except TokenRefused as refused:
                return refused.reason == "revoked"
            return False

        until(ended)
        # The key is no longer handed out of memory either.
        assert prim._core.cached(REFERENCE, token.expose()) is None
    age = verifier.verifier.age
    verifier.verifier.max_age = age
    with pytest.raises(TokenRefused, match="not heard"):
        verifier.check(token, REFERENCE, prim="prim-echo")


def test_keys_of_another_instance_are_not_taken():
    verifier = Verifier(KEYS)
    verifier.renew_keys(replace(KEYS, instance="ins_2"))
    assert verifier.keys is KEYS
    verifier.renew_keys(replace(KEYS, roots={2: LOG.public}))
    assert 2 in verifier.keys.roots
    with pytest.raises(TokenRefused):
        Verifier(replace(KEYS, log="x+y"))


def test_an_outage_is_said_once_and_its_end(prim, caplog):
    with followed(prim) as verifier:
        real, prim.url = prim.url, "http://127.0.0.1:9"
        until(lambda: "cannot be read" in caplog.text)
        verifier.verifier.max_age = 0.2
        until(lambda: verifier.verifier.age > 0.5)
        prim.url = real
        until(lambda: "can be read again" in caplog.text)
    assert caplog.text.count("cannot be read") == 1


def test_a_task_follows_the_feed_too(dev, agent, grant):
    token = agent.pin(grant.token, "prim-echo")

    async def run():
        async with AsyncDekeys(dev["url"], key_file=dev["prim"]["key_file"]) as prim:
            try:
                verifier = await prim.verifier(look=0.05)
            except Unsupported as error:
                pytest.skip(str(error))
            async with verifier:
                assert verifier.check(token, REFERENCE, prim="prim-echo").grant == grant.id
                lease = (await prim.resolve(REFERENCE, token)).lease_id
                await prim.revoke_lease(lease)
                async with asyncio.timeout(20):
                    while not verifier.verifier.has_ended_lease(lease):
                        await asyncio.sleep(0.02)

    asyncio.run(run())


def test_a_log_key_is_followed_to_the_one_that_it_names():
    old = "ins_x+42a265dc+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
    new = "ins_x+8557f863+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
    named = {
        "public_key": new,
        "from": "2025-11-20T19:51:07Z",
        "endorsed": "FUnDBt6U0W6gnTTk0Algfu4ppNvXLMNwjxC8_0U-fA3apodh5lca5SACbty203xRP4RwR57tJ3Q-DXU5msa5Cw",
    }
    known = replace(KEYS, log=old)
    for logs in [(), ({**named, "from": "2025-11-20T19:51:08Z"},), ({**named, "endorsed": None},)]:
        verifier = Verifier(known)
        verifier.renew_keys(replace(known, log=new, logs=logs))
        assert verifier.keys is known
    verifier = Verifier(known)
    verifier.renew_keys(replace(known, log=new, logs=(named,)))
    assert verifier.keys.log == new
    verifier.renew_keys(known)
    assert verifier.keys.log == new
