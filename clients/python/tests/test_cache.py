"""What is remembered, for how long, and how much of it."""

import time

from dekeys.lease import Cache, Injection, Resolved
from dekeys.secret import Secret


def key(lease: str, life: float = 60.0, reference: str = "dk://demo/echo:read") -> Resolved:
    inject = Injection("http://127.0.0.1:1/", ())
    return Resolved(reference, lease, None, 1, {"api_key": Secret("k")}, inject, "evt_1", time.monotonic() + life)


def test_a_key_is_kept_while_lease_and_token_run():
    cache, now = Cache(10), time.time()
    cache.put("live", now + 60, "grt_1", key("lea_1"))
    cache.put("token over", now - 1, "grt_2", key("lea_2"))
    cache.put("lease over", now + 60, "grt_3", key("lea_3", -1))
    found = [cache.get(token, "dk://demo/echo:read") for token in ("live", "token over", "lease over", "other")]
    assert [kept and kept.lease_id for kept in found] == ["lea_1", None, None, None]
    assert cache.get("live", "dk://demo/echo:write") is None
    assert cache.known("grt_2", "dk://demo/echo:read") and not cache.known("grt_3", "dk://demo/echo:read")


def test_no_more_is_kept_than_is_allowed_and_what_is_over_goes_first():
    cache, now = Cache(3), time.time()
    for n in range(3):
        cache.put(f"t{n}", now + 60, f"g{n}", key(f"l{n}", -1 if n == 1 else 60))
    cache.put("t3", now + 60, "g3", key("l3"))
    assert set(cache._of_grant) == {(f"g{n}", "dk://demo/echo:read") for n in (0, 2, 3)}
    assert cache.get("t0", "dk://demo/echo:read")
    cache.put("t4", now + 60, "g4", key("l4"))
    assert not cache.get("t2", "dk://demo/echo:read"), "the one that was not asked for the longest"
    assert len(cache._entries) == len(cache._of_grant) == 3


def test_what_ended_is_forgotten():
    cache, now = Cache(10), time.time()
    for n in range(4):
        cache.put(f"t{n}", now + 60, f"g{n % 2}", key(f"l{n % 2}"))
    cache.drop("l0")
    assert not cache.get("t0", "dk://demo/echo:read") and not cache.get("t2", "dk://demo/echo:read")
    cache.drop_grant("g1")
    assert not cache._entries and not cache._of_grant
