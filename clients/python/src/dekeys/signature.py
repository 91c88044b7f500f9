"""HTTP message signatures (RFC 9421) as dekeys asks for them: Ed25519 with a key file, HMAC-SHA256 in a session."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime

import httpx

from .keyfile import KeyFile, unbase64url

_TAG = "dekeys"
#: A session is left for a new one so many seconds before its end.
_SESSION_MARGIN = 20.0


class SignatureAuth(httpx.Auth):
    """Signs requests of any ``httpx`` client with a key: ``httpx.Client(auth=SignatureAuth(key))``.

    Covered are method, authority, path, query, body and ``authorization``; other headers are not.
    """

    requires_request_body = True

    def __init__(self, key: KeyFile) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Signs once; every use gets a nonce of its own."""
        sign(request, self._key.public, secrets.token_urlsafe(18), "ed25519", self._key.sign)
        yield request


class SessionAuth(httpx.Auth):
    """Signs once with the key, and then more cheaply inside a session of five minutes (``POST /v1/sessions``).

    A session lives in the memory of one server: when it is not known there any more, a new one is opened; when that is
    not known either (several servers behind one address), requests are signed with the key from then on.
    """

    requires_request_body = True
    requires_response_body = True

    def __init__(self, key: KeyFile, url: str) -> None:
        self._key = key
        self._url = url
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._useless = False

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Opens a session where none is left, signs, and signs again when the session is gone."""
        for attempt in (1, 2):
            session = yield from self._current()
            if session is None:
                break
            sign(request, session.id, str(session.count()), "hmac-sha256", session.authenticate)
            answer = yield request
            if not _names_no_session(answer):
                return
            self._drop(session, useless=attempt == 2)
        sign(request, self._key.public, secrets.token_urlsafe(18), "ed25519", self._key.sign)
        yield request

    def _current(self) -> Generator[httpx.Request, httpx.Response, _Session | None]:
        with self._lock:
            session = self._session
            if self._useless or (session and session.until > time.monotonic()):
                return None if self._useless else session
        opening = httpx.Request("POST", f"{self._url}/v1/sessions", json={"use": "sign"})
        sign(opening, self._key.public, secrets.token_urlsafe(18), "ed25519", self._key.sign)
        opened = _Session.read((yield opening))
        with self._lock:
            self._session = opened
            # Whoever may not open sessions signs each request.
            self._useless = opened is None
        return opened

    def _drop(self, session: _Session, *, useless: bool) -> None:
        with self._lock:
            self._useless = self._useless or useless
            if self._session is session:
                self._session = None


class _Session:
    def __init__(self, name: str, key: bytes, until: float) -> None:
        self.id = name
        self.until = until
        self._key = key
        self._count = 0
        self._lock = threading.Lock()

    @classmethod
    def read(cls, answer: httpx.Response) -> _Session | None:
        if answer.status_code != 201:
            return None
        body = answer.json()
        key = unbase64url(body["secret"])
        life = datetime.fromisoformat(body["expires"]).timestamp() - time.time()
        if key is None or not body.get("session_id"):
            return None
        return cls(body["session_id"], key, time.monotonic() + min(life, 300.0) - _SESSION_MARGIN)

    def count(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def authenticate(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, "sha256")


def _names_no_session(answer: httpx.Response) -> bool:
    if answer.status_code != 401:
        return False
    try:
        return bool(answer.json().get("code") == "signature_invalid")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return False


def sign(request: httpx.Request, keyid: str, nonce: str, algorithm: str, make: Callable[[bytes], bytes]) -> None:
    """Puts ``content-digest``, ``signature-input`` and ``signature`` among the headers of ``request``."""
    body = request.content
    request.headers["content-digest"] = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
    path, mark, query = request.url.raw_path.partition(b"?")
    values = {
        "@method": request.method,
        "@authority": _authority(request),
        "@path": path.decode("ascii") or "/",
        "@query": f"?{query.decode('ascii')}" if mark else None,
        "content-digest": request.headers["content-digest"],
        "authorization": request.headers.get("authorization"),
    }
    covered = {name: value for name, value in values.items() if value is not None}
    names = " ".join(f'"{name}"' for name in covered)
    parameters = f'created={int(time.time())};nonce="{nonce}";keyid="{keyid}";alg="{algorithm}";tag="{_TAG}"'
    lines = [f'"{name}": {value}' for name, value in covered.items()]
    base = "\n".join([*lines, f'"@signature-params": ({names});{parameters}'])
    request.headers["signature-input"] = f"{_TAG}=({names});{parameters}"
    request.headers["signature"] = f"{_TAG}=:{_base64(make(base.encode()))}:"


def _authority(request: httpx.Request) -> str:
    host = str(request.headers["host"]).lower()
    return host.removesuffix(":443" if request.url.scheme == "https" else ":80")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
