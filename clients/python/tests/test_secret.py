import copy
import json
import pickle
import traceback

import pytest

from dekeys import Dekeys, KeyFile, Secret
from dekeys.lease import read_entry


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{:>20}".format, "%s".__mod__, "%r".__mod__])
def test_a_secret_does_not_show_itself(show):
    assert "sk-canary" not in show(Secret("sk-canary"))


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars, hash])
def test_a_secret_is_not_carried_away_by_accident(carry):
    with pytest.raises(TypeError):
        carry(Secret("sk-canary"))


def test_secrets_compare_by_their_text():
    assert Secret("a") == Secret("a") and Secret("a") != Secret("b") and Secret("a") != "a"


def entry(**credential):
    inject = {"base_url": "http://127.0.0.1:1/", "header": "Authorization", "format": "Bearer {secret}"}
    return {
        "reference": "dk://demo/echo:read",
        "lease_id": "lea_1",
        "lease_duration": 60,
        "expires": "2026-11-30T16:09:29Z",
        "event": "evt_1",
        "credential": {"version": 1, "fields": {"api_key": "sk-canary"}, "inject": inject} | credential,
    }


def test_a_resolved_key_prints_without_the_key():
    resolved = read_entry(entry(), 0.0, None)
    assert "sk-canary" not in repr(resolved) + str(resolved) + f"{resolved}"
    assert resolved.headers() == {"Authorization": "Bearer sk-canary"}


def test_keys_of_several_fields_and_places_are_put_where_the_vendor_wants_them():
    inject = {"base_url": "http://127.0.0.1:1/", "header": "X-Key", "format": "{id}", "also": [
        {"query": "k", "format": "{secret}"}, {"basic_user": "{id}", "basic_password": "{secret}"}]}
    resolved = read_entry(entry(fields={"id": "{secret}", "secret": "s:1"}, inject=inject), 0.0, None)
    assert resolved.headers() == {"X-Key": "{secret}", "Authorization": "Basic e3NlY3JldH06czox"}
    assert resolved.params() == {"k": "s:1"}
    assert resolved.url("/echo") == resolved.url("echo") == "http://127.0.0.1:1/echo"
    inject = {"base_url": "https://api.example/v2", "header": "A", "format": "{secret}"}
    assert read_entry(entry(inject=inject), 0.0, None).url("/x?y=1") == "https://api.example/v2/x?y=1"
    with pytest.raises(ValueError, match="several fields"):
        resolved.secret.expose()


def test_a_traceback_of_a_client_shows_no_key():
    key = KeyFile.parse("dekeys-key-1 ed25519 nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    assert key.public == "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "RFC 8032, test 1"
    client = Dekeys("http://127.0.0.1:1", key=key)
    try:
        raise RuntimeError(f"{client} {key!r}")
    except RuntimeError:
        assert "nWGxne" not in traceback.format_exc()
