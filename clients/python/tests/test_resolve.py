"""A prim's and an agent's day against a real server and its demo vendor."""

import asyncio
import gc
import logging
import pickle
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from conftest import REFERENCE, buy

from dekeys import (
    AsyncDekeys,
    Dekeys,
    KeyFile,
    NotAllowed,
    NotFound,
    PaymentRequired,
    Refused,
    TokenRefused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)


class Counting:
    """Counts a client's requests by path."""

    def __init__(self, client):
        self.paths = []
        client._http.event_hooks["request"].append(self.see)

    def see(self, request):
        self.paths.append(request.url.path)


def test_a_key_is_resolved_and_works_at_the_vendor(agent, prim, grant):
    key = prim.resolve(REFERENCE, agent.pin(grant.token, "prim-echo"))
    answer = httpx.get(key.url("/echo"), headers=key.headers(), params=key.params())
    assert (answer.status_code, answer.json()) == (200, {"hello": "agent"})
    assert key.alive and key.secret.expose() not in repr(key)


def test_within_the_lease_no_request_is_made(agent, prim, grant):
    token, seen = agent.pin(grant.token, "prim-echo"), Counting(prim)
    first = prim.resolve(REFERENCE, token)
    assert prim.resolve(REFERENCE, token) is first
    assert seen.paths == ["/v1/resolve"]


def test_another_token_of_the_grant_does_not_send_the_key_again(agent, prim, grant):
    first = prim.resolve(REFERENCE, agent.pin(grant.token, "prim-echo"))
    bodies = []
    prim._http.event_hooks["response"].append(lambda answer: (answer.read(), bodies.append(answer.json())))
    second = prim.resolve(REFERENCE, agent.pin(grant.token, "prim-echo", ttl=200))
    assert bodies[0]["data"][0]["unchanged"] is True and "credential" not in bodies[0]["data"][0]
    assert (second.lease_id, second.secret) == (first.lease_id, first.secret)


def test_threads_that_want_the_same_share_one_request(agent, prim, grant):
    token, seen, start = agent.pin(grant.token, "prim-echo"), Counting(prim), threading.Barrier(8)

    def resolve(_):
        start.wait()
        return prim.resolve(REFERENCE, token).lease_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(resolve, range(8)))) == 1
    assert seen.paths == ["/v1/resolve"]


def test_coroutines_share_one_request_and_survive_a_cancelled_one(dev, agent, grant):
    token = agent.pin(grant.token, "prim-echo")

    async def run():
        async with AsyncDekeys(dev["url"], key_file=dev["prim"]["key_file"], sessions=True) as prim:
            paths = []

            async def see(request):
                paths.append(request.url.path)

            prim._http.event_hooks["request"].append(see)
            first, *others = [asyncio.ensure_future(prim.resolve(REFERENCE, token)) for _ in range(5)]
            await asyncio.sleep(0)
            first.cancel()
            leases = {key.lease_id for key in await asyncio.gather(*others)}
            async with httpx.AsyncClient(base_url=(await others[0]).base_url, auth=prim.auth(REFERENCE, token)) as http:
                assert (await http.get("/echo")).json() == {"hello": "agent"}
            return leases, paths

    leases, paths = asyncio.run(run())
    assert len(leases) == 1 and paths.count("/v1/resolve") == 1


def test_a_vendors_client_gets_its_key_by_auth_and_only_at_the_vendor(agent, prim, grant):
    token = agent.pin(grant.token, "prim-echo")
    base = prim.resolve(REFERENCE, token).base_url
    with httpx.Client(base_url=base, auth=prim.auth(REFERENCE, token)) as http:
        assert http.get("/echo").json() == {"hello": "agent"}
        with pytest.raises(ValueError, match="belongs to"):
            http.get("http://127.0.0.1:1/echo")


def test_refusals_are_typed_and_say_what_to_do(dev, agent, prim, grant):
    with pytest.raises(NotAllowed) as caught:
        prim.resolve("dk://demo/echo:write", agent.pin(grant.token, "prim-echo"))
    error = caught.value
    assert (error.status, error.code, error.retryable) == (403, "insufficient_scope", False)
    assert error.fix and error.request_id.startswith("req_") and error.request_id in str(error)
    assert pickle.loads(pickle.dumps(error)).code == error.code
    with pytest.raises(NotFound):
        prim.call("GET", "/v1/leases/lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3")
    with pytest.raises(PaymentRequired) as caught:
        agent.create_grant({"reference": REFERENCE})
    assert caught.value.code == "payment_required"
    with pytest.raises(Unauthenticated):
        agent.resolve(REFERENCE, agent.pin(grant.token, "prim-echo"))


def test_tokens_that_no_server_would_take_are_refused_without_a_request(agent, prim, grant):
    seen = Counting(prim)
    for token, reason in (
        (agent.pin(grant.token, "prim-other"), "not_pinned"),
        (agent.narrow(grant.token, ttl=-5), "expired"),
        ("dkt_test_AAAA", "malformed"),
        ("dkt_test_AAAA\r\nx: y", "malformed"),
    ):
        with pytest.raises(TokenRefused) as caught:
            prim.resolve(REFERENCE, token)
        assert caught.value.reason == reason
    assert seen.paths == []


def test_several_are_answered_each_on_its_own(agent, prim, grant):
    token = agent.pin(grant.token, "prim-echo")
    good, bad = prim.resolve_all([REFERENCE, "dk://demo/echo:write"], token)
    assert good.headers() and isinstance(bad, Refused) and bad.code == "insufficient_scope"
    assert prim.resolve(REFERENCE, token) is good
    with pytest.raises(ValueError, match="twice"):
        prim.resolve_all([REFERENCE, REFERENCE], token)


def test_sessions_sign_many_requests_and_are_opened_anew_when_lost(dev, agent, grant):
    with Dekeys(dev["url"], key_file=dev["prim"]["key_file"], sessions=True) as prim:
        inputs = []
        prim._http.event_hooks["request"].append(lambda request: inputs.append(request.headers["signature-input"]))
        for _ in range(3):
            assert prim.call("GET", "/v1/whoami")["name"] == "prim-echo"
        auth = prim._http._auth
        auth._session.id = "ses_" + grant.id.removeprefix("grt_")
        assert prim.call("GET", "/v1/whoami")["name"] == "prim-echo"
        auth._session._key = b"x" * 32
        assert prim.call("GET", "/v1/whoami")["name"] == "prim-echo"
    kinds = ["h" if "hmac-sha256" in text else "e" for text in inputs]
    assert "".join(kinds) == "ehhh" "heh" "heh"


def test_where_sessions_are_of_no_use_the_key_signs(dev):
    with Dekeys(dev["url"], key_file=dev["prim"]["key_file"], sessions=True) as prim:
        auth = prim._http._auth
        auth._useless = True
        inputs = []
        prim._http.event_hooks["request"].append(lambda request: inputs.append(request.headers["signature-input"]))
        assert prim.call("GET", "/v1/whoami")["name"] == "prim-echo"
        assert all("ed25519" in text for text in inputs) and len(inputs) == 1
    with Dekeys(dev["url"], key=KeyFile.generate(), sessions=True) as stranger:
        with pytest.raises(Unauthenticated):
            stranger.call("GET", "/v1/leases")


def test_queries_and_odd_paths_are_signed_as_sent(prim):
    assert prim.call("GET", "/v1/leases?limit=1")["object"] == "list"
    with pytest.raises(NotFound):
        prim.call("GET", "/v1/leases/%2e%2e%2Fx?")


def test_a_holder_gets_fresh_tokens_and_keeps_one(agent, prim, grant):
    seen = Counting(agent)
    token = agent.token(grant.id)
    assert agent.token(grant.id) is token and seen.paths == [f"/v1/grants/{grant.id}/tokens"]
    assert token != grant.token
    assert prim.resolve(REFERENCE, agent.pin(token, "prim-echo")).alive


def test_keys_are_given_back_and_grants_ended(agent, prim, grant):
    token = agent.pin(grant.token, "prim-echo")
    key = prim.resolve(REFERENCE, token)
    assert prim.revoke_lease(key.lease_id, "done")["object"] == "lease"
    assert prim.resolve(REFERENCE, token).lease_id != key.lease_id
    assert agent.revoke_grant(grant.id)["object"] == "grant"
    prim._core.cache.clear()
    with pytest.raises(Unauthenticated) as caught:
        prim.resolve(REFERENCE, token)
    assert caught.value.code == "invalid_token"


def test_nobody_there_is_an_error_of_its_own():
    with Dekeys("http://127.0.0.1:9", key=KeyFile.generate()) as client:
        with pytest.raises(Unreachable, match="nothing answers"):
            client.keys()


def test_addresses_are_bare_and_plain_http_to_others_is_warned_about():
    for url in ("127.0.0.1:8402", "ftp://x", "http://127.0.0.1/v1", "http://u:p@127.0.0.1", "https://x?y"):
        with pytest.raises(ValueError):
            Dekeys(url)
    with pytest.warns(UserWarning, match="https"):
        Dekeys("http://dekeys.internal:8402").close()


def test_nothing_secret_is_logged(agent, prim, grant, caplog):
    caplog.set_level(logging.DEBUG)
    token = agent.pin(grant.token, "prim-echo")
    key = prim.resolve(REFERENCE, token)
    with httpx.Client(base_url=key.base_url, auth=prim.auth(REFERENCE, token)) as http:
        http.get("/echo")
    assert caplog.text and key.secret.expose() not in caplog.text and token.expose() not in caplog.text


def closing_server(times: int):
    """Answers nothing and hangs up, so many times; then refuses like dekeys."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = []
    body = b'{"code":"vault_sealed","title":"sealed","status":503,"detail":"","fix":"","retryable":true,"request_id":"req_1"}'
    head = b"HTTP/1.1 503 x\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                seen.append(connection.recv(65_536).decode())
                if len(seen) > times:
                    connection.sendall(head % len(body) + body)

    threading.Thread(target=run, daemon=True).start()
    return listener, seen


def test_a_connection_that_breaks_is_tried_once_more_and_signed_anew(agent, grant):
    token = agent.pin(grant.token, "prim-echo")
    for times, error in ((1, Unavailable), (2, Unreachable)):
        listener, seen = closing_server(times)
        with listener, Dekeys(f"http://127.0.0.1:{listener.getsockname()[1]}", key=KeyFile.generate()) as prim:
            with pytest.raises(error):
                prim.resolve(REFERENCE, token)
        nonces = [text.split('nonce="')[1].split('"')[0] for text in seen]
        assert len(set(nonces)) == len(nonces) == 2
    listener, seen = closing_server(1)
    with listener, Dekeys(f"http://127.0.0.1:{listener.getsockname()[1]}", key=KeyFile.generate()) as prim:
        with pytest.raises(Unreachable):
            prim.create_grant({"reference": REFERENCE})
    assert len(seen) == 1, "what might make two grants is sent once"
