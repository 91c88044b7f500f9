"""What both clients do, without doing any I/O: a step yields a :class:`Call` and is sent the answer's JSON."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from . import token as tokens
from .errors import NotFound, Refused, TokenRefused, Unauthenticated, Unsupported, checked, of_problem
from .lease import Cache, Resolved, read_entry
from .secret import Secret, exposed
from .token import Claims, PublicKeys
from .verifier import STATEMENT

if TYPE_CHECKING:
    from . import api

log = logging.getLogger("dekeys")
_T = TypeVar("_T")
#: How long the instance's public keys are believed before they are fetched again, in seconds.
KEYS_LIFE = 300.0
#: A kept token is replaced so long before its end, in seconds.
TOKEN_MARGIN = 60.0


@dataclass
class Call:
    """One request."""

    method: str
    path: str
    body: Any = None
    bearer: Secret | None = None
    #: Whether it may be sent twice, when a connection broke before an answer came: a server closes one that was idle at
    #: the very moment it is used.
    again: bool = True


Steps = Generator[Call, Any, _T]


@dataclass(frozen=True)
class Grant:
    """A grant as its owner sees it. Prints without its token."""

    id: str
    #: ``active``, or where else it stands.
    state: str
    expires: datetime
    #: What it allows: ``dk://vendor/scope``.
    references: tuple[str, ...]
    #: The receipt's id, once there is one.
    receipt: str | None
    #: Its token, where the answer brought one.
    token: Secret | None
    #: The whole answer without the token.
    view: api.GrantView = field(repr=False)

    @classmethod
    def read(cls, answer: Any) -> Grant:
        """Reads what ``POST /v1/grants`` answers, also to an x402 client."""
        view = {name: value for name, value in answer.items() if name != "token"}
        references = [f"dk://{item['vendor']}/{scope}" for item in view["items"] for scope in item["scopes"]]
        return cls(
            id=view["id"],
            state=view["state"],
            expires=datetime.fromisoformat(view["expires"]),
            references=tuple(references),
            receipt=view.get("receipt"),
            token=Secret(answer["token"]) if answer.get("token") else None,
            view=view,  # type: ignore[arg-type]
        )


def address(url: str) -> str:
    """A server's address without its trailing slash. Warns where tokens and keys could be read on the way."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not an address such as https://dekeys.example.org")
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ValueError("an address has no query, fragment, user or password")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        warnings.warn(f"{url}: tokens and keys can be read on the way; use https", stacklevel=3)
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Core:
    """The memory of one client and the steps over it."""

    #: The prim's name, if known: tokens pinned to another are refused at once.
    name: str | None
    cache: Cache
    keys_kept: tuple[PublicKeys, float] | None = None
    tokens_kept: dict[str, tuple[Grant, float]] = field(default_factory=dict)

    def cached(self, reference: str, token: str) -> Resolved | None:
        """The key, if no request is needed."""
        return self.cache.get(token, reference)

    def resolve(self, reference: str, token: str) -> Steps[Resolved]:
        """One key."""
        (outcome,) = yield from self.resolve_all([reference], token)
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def resolve_all(self, references: Sequence[str], token: str) -> Steps[list[Resolved | Refused]]:
        """Several keys with one token, in their order; each stands alone."""
        claims = self.readable(token)
        outcomes = {reference: self.cache.get(token, reference) for reference in references}
        wanted = [reference for reference, found in outcomes.items() if found is None]
        answered: dict[str, Resolved | Refused] = {ref: found for ref, found in outcomes.items() if found}
        for start in range(0, len(wanted), 20):
            part = wanted[start : start + 20]
            answered |= yield from self._ask(part, token, claims, {ref: self._known(claims, ref) for ref in part})
        return [answered[reference] for reference in references]

    def _known(self, claims: Claims, reference: str) -> Resolved | None:
        return self.cache.known(claims.grant, reference)

    def _ask(
        self, references: Sequence[str], token: str, claims: Claims, known: dict[str, Resolved | None]
    ) -> Steps[dict[str, Resolved | Refused]]:
        items: list[dict[str, Any]] = []
        for reference in references:
            kept = known[reference]
            item: dict[str, Any] = {"reference": reference}
            items.append(item | ({"known": {"lease_id": kept.lease_id, "version": kept.version}} if kept else {}))
        asked = time.monotonic()
        try:
            answer = yield Call("POST", "/v1/resolve", {"items": items}, Secret(token))
        except Refused as refused:
            if len(references) > 1:
                raise
            return {references[0]: refused}
        outcomes: dict[str, Resolved | Refused] = {}
        for reference, entry in zip(references, answer["data"], strict=True):
            if entry.get("object") == "problem":
                outcomes[reference] = of_problem(entry["problem"], entry["problem"]["status"])
                continue
            resolved = read_entry(entry, asked, known[reference])
            if resolved is None:
                again = yield from self._ask([reference], token, claims, {reference: None})
                outcomes |= again
                continue
            self.cache.put(token, claims.until.timestamp(), claims.grant, resolved)
            outcomes[reference] = resolved
        return outcomes

    def readable(self, token: str) -> Claims:
        """What the token says. Refuses at once what no server would take: too late, or another prim's."""
        claims = tokens.read(token)
        if claims.until <= datetime.now(timezone.utc):
            raise TokenRefused("expired", f"the token expired at {claims.until:%Y-%m-%dT%H:%M:%SZ}")
        if self.name is not None and claims.pinned not in (None, self.name):
            raise TokenRefused("not_pinned", f"the token is pinned to {claims.pinned!r}, not to {self.name!r}")
        return claims

    def report(self, resolved: Resolved, status: int) -> Steps[Any]:
        """Tells the server that the vendor refuses the key, and forgets it."""
        self.cache.drop(resolved.lease_id)
        try:
            body = {"status": status, "version": resolved.version}
            return (yield Call("POST", f"/v1/leases/{_segment(resolved.lease_id)}/report", body))
        except NotFound as refused:
            raise _unsupported(refused, "to be told of a dead key") from refused

    def replaced(self, dead: Resolved, token: str, status: int) -> Steps[Resolved | None]:
        """A key in place of one that the vendor refuses; ``None`` when there is no other."""
        self.cache.drop(dead.lease_id)
        if dead.alive:
            try:
                reported = yield from self.report(dead, status)
            except Unsupported as error:
                log.warning("%s; the vendor's answer to lease %s is handed on", error, dead.lease_id)
                return None
            if reported.get("outcome") not in ("replaced", "ended"):
                # The vendor takes the key, or cannot be asked: its answer had another reason.
                return None
        fresh = yield from self.resolve(dead.reference, token)
        changed = (fresh.lease_id, fresh.version) != (dead.lease_id, dead.version)
        return fresh if changed else None

    def keys(self, *, anew: bool = False) -> Steps[PublicKeys]:
        """The instance's public keys, fetched every five minutes."""
        if self.keys_kept and not anew and time.monotonic() < self.keys_kept[1]:
            return self.keys_kept[0]
        try:
            document = yield Call("GET", "/.well-known/dekeys-keys.json")
        except NotFound:
            document = yield Call("GET", "/v1/keys")
        keys = PublicKeys.parse(document)
        self.keys_kept = (keys, time.monotonic() + KEYS_LIFE)
        return keys

    def with_keys(self, work: Any) -> Steps[Any]:
        """Runs ``work`` with the public keys; once more with new ones when a token names a root that is new."""
        fetched = self.keys_kept is None
        keys = yield from self.keys()
        try:
            return work(keys)
        except TokenRefused as refused:
            if refused.reason != "unknown_root" or fetched:
                raise
        return work((yield from self.keys(anew=True)))

    def ended(self, kind: str, name: str) -> None:
        """Forgets what the revocation feed says has ended."""
        if kind == "lease":
            self.cache.drop(name)
        elif kind == "grant":
            self.cache.drop_grant(name)
            self.tokens_kept.pop(name, None)

    def page(self, answer: httpx.Response) -> tuple[int, bytes, str]:
        """An answer of the revocation feed, for :meth:`Verifier.take`."""
        if answer.status_code != 304:
            try:
                checked(answer)
            except NotFound as refused:
                raise _unsupported(refused, "to have a revocation feed") from refused
        return answer.status_code, answer.content, answer.headers.get(STATEMENT, "")

    def grant(self, path: str, body: Any) -> Steps[Grant]:
        """A step that answers with a grant. Sent twice it might make two."""
        return Grant.read((yield Call("POST", path, body, again=path != "/v1/grants")))

    def token(self, grant_id: str) -> Steps[Secret]:
        """A token of a grant that lasts a while: the kept one, or a fresh one."""
        kept, until = self.tokens_kept.get(grant_id, (None, 0.0))
        if kept and kept.token and time.time() < until:
            return kept.token
        grant = yield from self.grant(f"/v1/grants/{_segment(grant_id)}/tokens", None)
        if grant.token is None:
            raise Unauthenticated({"code": "invalid_token", "title": "the answer brought no token"}, 401)
        until = tokens.read(grant.token).until.timestamp()
        # Near the grant's end tokens live less long than the margin: half of what is left must do.
        self.tokens_kept[grant_id] = (grant, until - min(TOKEN_MARGIN, (until - time.time()) / 2))
        return grant.token

    def end(self, kind: str, name: str, reason: str | None) -> Steps[api.Ended]:
        """Ends a lease or a grant."""
        if kind == "leases":
            self.cache.drop(name)
        self.tokens_kept.pop(name, None)
        ended: api.Ended = yield Call("POST", f"/v1/{kind}/{_segment(name)}/revoke", {"reason": reason} if reason else {})
        return ended


def _unsupported(refused: NotFound, what: str) -> Exception:
    """What exists not, or belongs to others, is answered like an address that the server does not know; but for words."""
    return Unsupported(f"this dekeys server is too old {what}") if "path" in refused.detail else refused


def text_of(token: str | Secret) -> str:
    """A token's text, without the line end of the file it came from."""
    text = exposed(token).strip()
    if not re.fullmatch(r"[A-Za-z0-9_=-]+", text):
        raise TokenRefused("malformed", "this is not a dekeys token")
    return text


def unique(references: Iterable[str]) -> list[str]:
    """The references; one that stands twice is a mistake."""
    found = list(references)
    if len(set(found)) != len(found):
        raise ValueError("a reference stands here twice")
    return found


def _segment(text: str) -> str:
    return quote(text, safe="")
