"""Checking tokens without asking: with the published keys, and with what the revocation feed told.

It fails closed: when what is known of the feed is older than five seconds, no token is good, because one that ended
might be among them. Clocks must agree: the age is counted from the time the instance signed to the time here. Not known
here: how many uses a grant has left, and whether its policy still names the prim.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Unpack

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import token as tokens
from .errors import DekeysError, TokenRefused
from .keyfile import base64url, unbase64url
from .secret import Secret
from .token import Claims, PublicKeys, Use

#: The header of an answer that carries the statement about its body.
STATEMENT = "dekeys-statement"
_TYPE = "dekeys-revocations+jwt"
#: Clocks of the server and here may differ by so many seconds.
_CLOCKS_DIFFER = 30.0


class FeedRefused(DekeysError):
    """A page of the revocation feed that is not believed. What was known before stays."""


class Verifier:
    """Checks the tokens of one instance. May be used by several threads.

    :meth:`Dekeys.verifier` gives one that follows the feed by itself. Until the feed was read no token is good.
    """

    def __init__(
        self,
        keys: PublicKeys,
        *,
        max_age: float = 5.0,
        on_end: Callable[[str, str], None] | None = None,
    ) -> None:
        """A verifier with the instance's ``keys``, fetched over TLS and kept.

        ``max_age``, in seconds, is how old the feed may be: a longer one keeps a service up while the instance is out
        of reach, and lets tokens live on for as long after they were ended. ``on_end`` is told of everything that ends:
        its kind (``token``, ``grant``, ``lease``) and id.
        """
        self.keys = keys
        self.max_age = max_age
        #: Whether a token named a root key that is not known: the keys should be fetched again.
        self.wants_keys = False
        self._on_end = on_end
        #: The log's key, and the one before while it still signs.
        self._logs = [_log_key(keys.log)]
        self._lock = threading.Lock()
        self._incarnation: str | None = None
        self._after = 0
        self._last: str | None = None
        self._ended: dict[tuple[str, str], float] = {}
        self._as_of: float | None = None

    def check(self, token: str | Secret, reference: str | None = None, **asked: Unpack[Use]) -> Claims:
        """Checks a token for one use, as :func:`dekeys.verify` does, and that it was not revoked.

        Raises :class:`TokenRefused`, with the reason ``revoked`` or ``feed_stale`` beside those of ``verify``.
        """
        age = self.age
        if age is None or age > self.max_age:
            raise TokenRefused("feed_stale", "the revocation feed was not heard for too long, so no token is good now")
        try:
            claims = tokens.verify(token, self.keys, reference, **asked)
        except TokenRefused as refused:
            self.wants_keys = self.wants_keys or refused.reason == "unknown_root"
            raise
        with self._lock:
            of_token = any(("token", one) in self._ended for one in claims.revocation_ids)
            if of_token or ("grant", claims.grant) in self._ended:
                raise TokenRefused("revoked", "the token was revoked")
        return claims

    def has_ended_lease(self, lease_id: str) -> bool:
        """Whether a lease was ended early, as far as is known."""
        with self._lock:
            return ("lease", lease_id) in self._ended

    @property
    def age(self) -> float | None:
        """How old what is known is, in seconds; ``None`` while it is not complete, or its time cannot be right."""
        with self._lock:
            as_of = self._as_of
        if as_of is None or as_of > time.time() + _CLOCKS_DIFFER:
            return None
        return max(0.0, time.time() - as_of)

    def ask(self) -> tuple[str, dict[str, str]]:
        """The next request of the feed: its path, and its headers."""
        with self._lock:
            return f"/v1/revocations?after={self._after}", {"if-none-match": f'"{self._last}"'} if self._last else {}

    def take(self, status: int, body: bytes, statement: str) -> bool:
        """Takes an answer: a page (200) or that nothing changed (304). Answers whether more is there already.

        Believed is the statement's signature alone, however the answer came. Raises :class:`FeedRefused`.
        """
        said = self._open(statement)
        with self._lock:
            if status == 304:
                if self._last != said["digest"]:
                    raise FeedRefused("the statement is about another page")
                self._as_of = max(self._as_of or 0.0, said["now"] / 1000)
                return False
            if base64url(hashlib.sha256(body).digest()) != said["digest"]:
                raise FeedRefused("the page is not the one its statement is about")
            try:
                more, ended = self._page(json.loads(body), said)
            except (KeyError, TypeError, ValueError):
                raise FeedRefused("this is not a page of the revocation feed") from None
        for kind, name in ended if self._on_end else []:
            self._on_end(kind, name)  # type: ignore[misc]
        return more

    def _page(self, page: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[bool, list[tuple[str, str]]]:
        after, following = int(page["after"]), int(page["next"])
        if page["instance"] != self.keys.instance:
            raise FeedRefused("the page is of another instance")
        if self._incarnation not in (None, page["incarnation"]):
            # A restored database: what was known is kept, and everything is read again.
            self._incarnation, self._after, self._last, self._as_of = page["incarnation"], 0, None, None
            return True, []
        if after > self._after:
            raise FeedRefused("the page does not follow what was read before")
        now = said["now"] / 1000
        fresh = {(one["kind"], one["id"]): datetime.fromisoformat(one["until"]).timestamp() for one in page["data"]}
        self._incarnation = page["incarnation"]
        # Rather twice than not at all: an older page adds nothing and takes nothing away.
        self._last = said["digest"] if after == following == self._after else None
        self._after = max(self._after, following)
        new = [name for name in fresh if name not in self._ended]
        self._ended = {name: until for name, until in self._ended.items() if until > now} | fresh
        if not page["has_more"] and following >= self._after:
            self._as_of = max(self._as_of or 0.0, now)
        return bool(page["has_more"]), new

    def renew_keys(self, keys: PublicKeys) -> None:
        """Takes the instance's keys again. Those of another instance, or another log, are not taken; a log's new key is
        when the known one names it.
        """
        known = self.keys
        if keys.instance == known.instance and _leads(keys.logs, known.log, keys.log):
            if keys.log != known.log:
                self._logs = [_log_key(keys.log), self._logs[0]]
            self.keys = keys
        self.wants_keys = False

    def _open(self, statement: str) -> dict[str, Any]:
        """Checks the statement: a compact JWS by the log's key (RFC 7515, RFC 8037)."""
        parts = statement.split(".") if len(statement) <= 4096 else []
        header, claims, signature = (unbase64url(part) for part in parts) if len(parts) == 3 else (None, None, None)
        if header is None or claims is None or signature is None:
            raise FeedRefused("the answer carries no signed statement")
        try:
            if not any(_signed(log, signature, ".".join(parts[:2]).encode()) for log in self._logs):
                raise InvalidSignature
            said, read = json.loads(header), json.loads(claims)
            good = (said["alg"], said["typ"], read["iss"]) == ("EdDSA", _TYPE, self.keys.instance)
            if not good or not isinstance(read["now"], int) or not isinstance(read["digest"], str):
                raise FeedRefused("the statement is about something else")
        except (InvalidSignature, KeyError, TypeError, ValueError):
            raise FeedRefused("the statement is not signed by the instance's log") from None
        return dict(read)


def _signed(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _leads(terms: Sequence[Mapping[str, Any]], known: str, wanted: str) -> bool:
    """Whether the log's keys lead from one to another, each named by the one before it."""
    at = known
    for _ in range(len(terms)):
        if at == wanted:
            break
        named = [str(term["public_key"]) for term in terms if _names(at, term)]
        if not named:
            return False
        at = named[0]
    return at == wanted


def _names(old: str, term: Mapping[str, Any]) -> bool:
    """Whether the key ``old`` signed that this one follows it: fields with their lengths before them."""
    try:
        new, since = str(term["public_key"]), datetime.fromisoformat(term["from"])
        signature = unbase64url(term.get("endorsed") or "")
    except (KeyError, TypeError, ValueError):
        return False
    if not signature or old.split("+")[0] != new.split("+")[0]:
        return False
    time_of_it = int(since.timestamp()).to_bytes(8, "big", signed=True)
    fields = (b"dekeys.log-succession.v1", old.encode(), new.encode(), time_of_it)
    return _signed(_log_key(old), signature, b"".join(len(field).to_bytes(8, "big") + field for field in fields))


def _log_key(text: str) -> Ed25519PublicKey:
    """Reads a verifier key of C2SP signed notes: ``name+hash+base64``, the first byte for Ed25519 being 1."""
    parts = text.split("+", 2)
    try:
        kind, *raw = base64.b64decode(parts[2], validate=True)
        if kind == 1:
            return Ed25519PublicKey.from_public_bytes(bytes(raw))
    except (IndexError, ValueError):
        pass
    raise TokenRefused("malformed", "the document of public keys names no key of the log")
