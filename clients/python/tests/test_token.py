"""Narrowing and verifying, with tokens of the server and with hostile ones."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import biscuit_auth
import pytest
from conftest import REFERENCE

from dekeys import PublicKeys, Secret, TokenRefused, narrow, pin, profile, read, verify
from dekeys.keyfile import base64url


def refused(reason, work, *args, **asked):
    with pytest.raises(TokenRefused) as caught:
        work(*args, **asked)
    assert caught.value.reason == reason, caught.value
    return caught.value


def test_a_pinned_token_says_whose_it_is_and_serves_nobody_else(agent, grant):
    pinned = agent.pin(grant.token, "prim-echo")
    claims = agent.verify(pinned, REFERENCE, prim="prim-echo")
    assert (claims.pinned, claims.grant, claims.rights) == ("prim-echo", grant.id, (REFERENCE,))
    assert claims.pinned_until - datetime.now(timezone.utc) <= timedelta(minutes=5)
    refused("narrowed", agent.verify, pinned, REFERENCE, prim="prim-other")
    refused("narrowed", agent.verify, pinned, REFERENCE)
    refused("not_granted", agent.verify, pinned, "dk://demo/echo:write", prim="prim-echo")


def test_a_narrower_token_cannot_be_widened(agent, grant):
    keys = agent.keys()
    narrower = narrow(grant.token, keys, scopes=["echo:write", "other:read"], uses="resolve", ttl=60)
    refused("narrowed", verify, narrower, keys, REFERENCE, prim="prim-echo")
    again = narrow(narrower, keys, scopes=["echo:read"])
    refused("narrowed", verify, again, keys, REFERENCE, prim="prim-echo")
    assert len(read(again).revocation_ids) == 3


def test_time_method_and_path_are_checked(agent, grant):
    keys = agent.keys()
    narrower = narrow(grant.token, keys, methods=["GET"], path_prefixes=["/echo", "/v1/"], ttl=timedelta(seconds=30))
    asked = {"use": "forward", "method": "GET", "path": "/echo/1"}
    assert verify(narrower, keys, REFERENCE, **asked).pinned is None
    assert verify(narrower, keys, REFERENCE, **asked | {"path": "/v1/x"}).grant == grant.id
    refused("narrowed", verify, narrower, keys, REFERENCE, **asked | {"path": "/keys"})
    refused("profile", narrow, grant.token, keys, path_prefixes=list("abcde"))
    refused("narrowed", verify, narrower, keys, REFERENCE, **asked | {"method": "POST"})
    refused("expired", verify, narrower, keys, REFERENCE, **asked, now=datetime.now(timezone.utc) + timedelta(minutes=1))
    refused("not_yet", verify, narrower, keys, REFERENCE, **asked, now=datetime.now(timezone.utc) - timedelta(hours=1))


def test_a_pin_of_more_than_five_minutes_is_not_made(agent, grant):
    for ttl in (301, 0, timedelta(minutes=6)):
        with pytest.raises(ValueError, match="300 seconds"):
            pin(grant.token, agent.keys(), "prim-echo", ttl=ttl)


def test_names_that_look_like_datalog_stay_words(agent, grant):
    keys = agent.keys()
    hostile = 'x"), allow if true; check if ask_prim("'
    refused("narrowed", verify, narrow(grant.token, keys, prims=[hostile]), keys, REFERENCE, prim="prim-echo")
    assert verify(narrow(grant.token, keys, prims=[hostile]), keys, REFERENCE, prim=hostile).grant == grant.id


def test_any_changed_bit_is_refused(agent, grant):
    keys = agent.keys()
    prefix, data = profile.decode(grant.token.expose())
    for at in range(0, len(data), 3):
        bent = bytearray(data)
        bent[at] ^= 0x10
        with pytest.raises(TokenRefused):
            verify(profile.encode(prefix, bytes(bent)), keys, REFERENCE, prim="prim-echo")
    for end in range(0, len(data), 7):
        with pytest.raises(TokenRefused):
            verify(profile.encode(prefix, data[:end]), keys, REFERENCE, prim="prim-echo")


def test_tokens_of_another_instance_or_root_are_refused(agent, grant):
    keys = agent.keys()
    other = biscuit_auth.KeyPair()
    strange = PublicKeys(keys.instance, {number: f"ed25519:{base64url(other.public_key.to_bytes())}" for number in keys.roots})
    refused("signature", verify, grant.token, strange, REFERENCE, prim="prim-echo")
    refused("unknown_root", verify, grant.token, PublicKeys(keys.instance, {9: keys.roots[1]}), REFERENCE)
    refused("foreign_instance", verify, grant.token, PublicKeys("ins_other", keys.roots), REFERENCE)


@pytest.mark.parametrize("text", ["", "x", "dkt_test_", "dkt_test_*", "dkt_prod_YQ", "YWJj", "dkt_test_YWJjZB", "dkt_test_YW Jj"])
def test_what_is_no_token_is_refused(text):
    refused("malformed", read, text)


def test_size_comes_first():
    refused("too_large", read, "dkt_test_" + "*" * 12_000)


class Mint:
    """Makes tokens as the server does, to bend them."""

    def __init__(self):
        self.pair = biscuit_auth.KeyPair()
        self.keys = PublicKeys("ins_1", {1: f"ed25519:{base64url(self.pair.public_key.to_bytes())}"})

    def token(self, *blocks, authority=""):
        now = datetime.now(timezone.utc).replace(microsecond=0)
        source = """instance("ins_1"); grant("grt_1"); principal("pri_1"); expires({end}); right("demo", "echo:read");
            check if time($query), $query >= {start}, $query < {end};
            check if ask_use($query), {"forward", "manage", "resolve"}.contains($query);"""
        times = {"start": now - timedelta(seconds=30), "end": now + timedelta(minutes=10)}
        builder = biscuit_auth.BiscuitBuilder(source + authority, times)
        builder.set_root_key_id(1)
        biscuit = builder.build(self.pair.private_key)
        for block in blocks:
            biscuit = biscuit.append(biscuit_auth.BlockBuilder(block))
        return Secret("dkt_test_" + base64url(bytes(biscuit.to_bytes())))


@pytest.fixture(scope="module")
def mint():
    return Mint()


@pytest.mark.parametrize("block", [
    'check if ask_prim("p")',
    'check if ask_prim($p), {"p", "q"}.contains($p)',
    'check if ask_prim($p), $p == "p" or ask_prim("q")',
    'check if ask_path($p), $p.starts_with("/v1/"), $p.length() < 64, !$p.contains("..")',
    "check if time($t), $t <= 2100-01-01T00:00:00Z",
    'check if ask_vendor($v), ask_scope($s), $v != "x", $s.ends_with(":read")',
])
def test_blocks_of_official_libraries_pass_if_they_keep_to_the_profile(mint, block):
    asked = {"use": "forward", "prim": "p", "path": "/v1/x"}
    assert verify(mint.token(block), mint.keys, REFERENCE, **asked).instance == "ins_1"


@pytest.mark.parametrize("block", [
    'right("demo", "echo:write")',
    'right("demo", "echo:write") <- time($t)',
    'check if right("demo", "echo:read")',
    "check if time($t), $t > 2000-01-01T00:00:00Z",
    "check if time($t), $t >= 2000-01-01T00:00:00Z",
    "check if time(2020-01-01T00:00:00Z)",
    'check if ask_path($p), $p.matches("(a+)+$")',
    "check if ask_path($p), $p.length() + 1 > 2",
    'check if ask_path($p), {"x", "y"}.any($q -> $q == $p)',
    'check if ask_path($p), $p == "a" || $p == "b"',
    'check all ask_prim($p), $p == "p"',
    'reject if ask_prim("p")',
    'check if ask_prim($p) trusting previous',
    'check if ask_prim("a", "b")',
    "check if ask_prim(1)",
    'check if ask_prim($p), $p.type() == "string"',
    "check if ask_prim($p), $p.extern::f()",
    'check if ask_prim("p"), ask_use("resolve"), ask_vendor("demo")',
    "check if true; " * 9,
    " or ".join(["check if true"] + ["true"] * 4),
    "check if " + ", ".join(["1 < 2"] * 11),
    "check if ask_prim($p), $p",
    "check if hex:00 == hex:00",
    "check if null == null",
    'check if ask_prim($p), {1}.contains(1)',
    'check if ask_prim($a), ask_use($a)',
])
def test_hostile_blocks_are_refused_before_datalog(mint, block):
    refused("profile", verify, mint.token(block), mint.keys, REFERENCE, use="forward", prim="p", path="/v1/x")


def test_too_many_blocks_and_strange_authorities_are_refused(mint):
    refused("profile", read, mint.token(*["check if true"] * 5))
    for extra in ('admin(true);', 'grant("grt_2");', "check if true;", 'right("a");', 'check if ask_use("resolve");'):
        refused("profile", read, mint.token(authority=extra))


def test_a_sealed_or_third_party_token_is_told_apart(mint):
    biscuit = biscuit_auth.Biscuit.from_base64(mint.token().expose().removeprefix("dkt_test_"), mint.pair.public_key)
    stranger = biscuit_auth.KeyPair()
    block = biscuit.third_party_request().create_block(stranger.private_key, biscuit_auth.BlockBuilder("check if true"))
    signed = biscuit.append_third_party(stranger.public_key, block)
    refused("profile", read, "dkt_test_" + base64url(bytes(signed.to_bytes())))


def test_the_samples_of_biscuit_are_refused_as_the_server_refuses_them():
    folder = os.environ.get("DEKEYS_VECTORS")
    if not folder:
        pytest.skip("DEKEYS_VECTORS is not set")
    listed = Path(__file__).parents[3] / "tests/it/token_profile_refusals.txt"
    lines = [line.split(": ", 1) for line in listed.read_text().splitlines()]
    samples = {path.name: path for path in Path(folder, "biscuit").rglob("*.bc")}
    assert len(lines) > 30
    for name, why in lines:
        data = samples[name].read_bytes()
        if "breaks the profile" in why:
            assert refused("profile", profile.walk, data).args[0].split(" block ")[1][0] == why.split(" block ")[1][0], name
        else:
            profile.walk(data)
