"""Tokens in the hands of their holder: narrowed, read and verified offline."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict, Unpack

import biscuit_auth

from . import profile
from .errors import TokenRefused
from .expression import Condition
from .keyfile import unbase64url
from .profile import Check, Walked
from .secret import Secret, exposed

# The library's own type declarations lack some of what it has.
_biscuit: Any = biscuit_auth
#: The longest pin that dekeys accepts, in seconds.
LONGEST_PIN = 300.0
_FACTS: dict[str, tuple[type, ...]] = {
    "instance": (str,),
    "grant": (str,),
    "principal": (str,),
    "holder": (str,),
    "expires": (int,),
    "right": (str, str),
}
#: How long :func:`pin` pins unless told otherwise. The server allows for 30 seconds between two clocks.
DEFAULT_PIN = LONGEST_PIN
# A token that keeps to the profile takes far less than a millisecond: the time is for a machine that does not get on.
_LIMITS = {"max_facts": 256, "max_iterations": 20, "max_time": timedelta(seconds=5)}


@dataclass(frozen=True)
class PublicKeys:
    """The public keys of one instance, as ``/.well-known/dekeys-keys.json`` gives them. They are believed: fetch them over TLS."""

    #: The instance's id.
    instance: str
    #: The keys that sign tokens, by root key id: ``ed25519:…``.
    roots: Mapping[int, str]
    #: The key that signs the log and the revocation feed, as C2SP writes verifier keys.
    log: str = ""
    #: All keys the log ever had: ``public_key``, ``from``, and ``endorsed``, by which the key before names it.
    logs: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> PublicKeys:
        """Reads the document; members that are not known here do not matter. Raises :class:`TokenRefused`."""
        try:
            roots = {int(root["id"]): str(root["public_key"]) for root in document["token_roots"]}
            logs = tuple(document.get("logs") or ())
            return cls(str(document["instance"]), roots, str(document.get("log", "")), logs)
        except (KeyError, TypeError, ValueError):
            raise TokenRefused("malformed", "this is no document of public keys") from None

    def root(self, number: int | None) -> biscuit_auth.PublicKey:
        """The key that a token names."""
        text = self.roots.get(number) if number is not None else None
        if text is None:
            raise TokenRefused("unknown_root", "the token was signed with a root key that is not in use")
        raw = unbase64url(text.removeprefix("ed25519:"))
        try:
            key: biscuit_auth.PublicKey = _biscuit.PublicKey.from_bytes(raw or b"", _biscuit.Algorithm.Ed25519)
        except (biscuit_auth.BiscuitValidationError, ValueError):
            raise TokenRefused("unknown_root", "the instance's root key cannot be read") from None
        return key


@dataclass(frozen=True)
class Claims:
    """What a token says. Nothing here lets anybody use it."""

    #: Test tokens reach only test vendors.
    livemode: bool
    instance: str
    grant: str
    #: Whose grant it is.
    principal: str
    #: The key its holder signs with; ``None`` is bearer class.
    holder: str | None
    #: ``dk://vendor/scope`` of everything the grant allows.
    rights: tuple[str, ...]
    #: The prims it was minted for; empty is any.
    audience: tuple[str, ...]
    #: When it ends, all blocks considered.
    until: datetime
    #: The prim that an added block pins it to, and until when.
    pinned: str | None
    pinned_until: datetime | None
    #: Revoking one of these ends the token. Hexadecimal, one for each block.
    revocation_ids: tuple[str, ...]


class Less(TypedDict, total=False):
    """What a narrower token may still do, beside the prim and the time. What is absent is not narrowed."""

    vendors: Iterable[str]
    scopes: Iterable[str]
    #: ``resolve``, ``forward``, ``manage``.
    uses: Iterable[str]
    #: Compared byte by byte; forwarding only.
    methods: Iterable[str]
    #: At most 4, compared byte by byte: end one with ``/`` to mean a folder. Forwarding only.
    path_prefixes: Iterable[str]


class Narrowing(Less, total=False):
    """What a narrower token may still do. What is absent is not narrowed."""

    prims: Iterable[str]
    #: Seconds from now.
    ttl: float | timedelta | None


class Use(TypedDict, total=False):
    """One use that a token is checked for."""

    #: ``resolve`` unless said otherwise, ``forward`` or ``manage``.
    use: str
    #: Which prim asks.
    prim: str | None
    method: str | None
    path: str | None
    #: The time, if not now.
    now: datetime | None


def read(token: str | Secret) -> Claims:
    """Reads a token without believing it: signatures are not checked. Raises :class:`TokenRefused`."""
    prefix, data = profile.decode(exposed(token).strip())
    return _claims(prefix, profile.walk(data))


def narrow(
    token: str | Secret,
    keys: PublicKeys,
    *,
    prims: Iterable[str] = (),
    vendors: Iterable[str] = (),
    scopes: Iterable[str] = (),
    uses: Iterable[str] = (),
    methods: Iterable[str] = (),
    path_prefixes: Iterable[str] = (),
    ttl: float | timedelta | None = None,
) -> Secret:
    """Adds a block that allows less; what is absent is not narrowed. Needs no server and no private key.

    ``ttl`` is in seconds from now. ``methods`` and ``path_prefixes`` (at most 4; end one with ``/`` to mean a folder)
    are compared byte by byte, in forwarding only.
    Raises :class:`TokenRefused` for a token that is none of this instance's, or that nothing can be added to.
    """
    asked = {"ask_prim": prims, "ask_vendor": vendors, "ask_scope": scopes, "ask_use": uses, "ask_method": methods}
    block: biscuit_auth.BlockBuilder = _biscuit.BlockBuilder()
    count = 0
    for predicate, words in asked.items():
        allowed = _list(words)
        if allowed:
            block.add_check(_one_of(predicate, allowed))
            count += 1
    prefixes = {f"p{n}": prefix for n, prefix in enumerate(_list(path_prefixes))}
    if prefixes:
        begins = " or ".join(f"ask_path($query), $query.starts_with({{{name}}})" for name in prefixes)
        block.add_check(biscuit_auth.Check(f"check if {begins}", prefixes))
        count += 1
    if ttl is not None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        until = datetime.fromtimestamp(int(time.time() + seconds), timezone.utc)
        block.add_check(biscuit_auth.Check("check if time($query), $query < {until}", {"until": until}))
        count += 1
    prefix, data = profile.decode(exposed(token).strip())
    biscuit, walked = _verified(data, keys)
    if walked.sealed:
        raise TokenRefused("narrowed", "the token is final: it cannot be narrowed further")
    narrower = bytes(biscuit.append(block).to_bytes()) if count else data
    profile.walk(narrower)
    return Secret(profile.encode(prefix, narrower))


def pin(
    token: str | Secret, keys: PublicKeys, prim: str, *, ttl: float | timedelta = DEFAULT_PIN, **less: Unpack[Less]
) -> Secret:
    """Narrows a token to one prim, as that prim needs it to resolve. ``ttl`` is at most 5 minutes.

    ``less`` is what else :func:`narrow` takes: ``scopes``, ``vendors`` and so on.
    """
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if not 0 < seconds <= LONGEST_PIN:
        raise ValueError("a pin lasts at most 300 seconds")
    return narrow(token, keys, prims=[prim], ttl=seconds, **less)


def verify(
    token: str | Secret,
    keys: PublicKeys,
    reference: str | None = None,
    *,
    use: str = "resolve",
    prim: str | None = None,
    method: str | None = None,
    path: str | None = None,
    now: datetime | None = None,
) -> Claims:
    """Checks a token offline: shape, signatures, instance, time, and that it allows what is asked.

    ``use`` is ``resolve``, ``forward`` or ``manage``; ``reference`` (``dk://vendor/scope``) must be given for the
    first two. Raises :class:`TokenRefused`.

    Not checked: whether it was revoked (see :class:`dekeys.Verifier`), and what its grant has left.
    """
    prefix, data = profile.decode(exposed(token).strip())
    biscuit, walked = _verified(data, keys)
    claims = _claims(prefix, walked)
    if claims.instance != keys.instance:
        raise TokenRefused("foreign_instance", "the token belongs to another dekeys instance")
    moment = now or datetime.now(timezone.utc)
    _in_time(walked, claims, moment)
    _authorize(biscuit, claims, _facts(reference, use, prim, method, path, moment), reference, use, prim)
    return claims


def _list(words: Iterable[str]) -> list[str]:
    """One word is meant as itself, not as its letters."""
    return [words] if isinstance(words, str) else list(words)


def _one_of(predicate: str, words: list[str]) -> biscuit_auth.Check:
    if len(words) == 1:
        return biscuit_auth.Check(f"check if {predicate}({{word}})", {"word": words[0]})
    return biscuit_auth.Check(f"check if {predicate}($query), {{words}}.contains($query)", {"words": set(words)})


def _verified(data: bytes, keys: PublicKeys) -> tuple[biscuit_auth.Biscuit, Walked]:
    """Profile, root key, signatures, in this order."""
    walked = profile.walk(data)
    root = keys.root(walked.root_key_id)
    try:
        return biscuit_auth.Biscuit.from_bytes(data, root), walked
    except biscuit_auth.BiscuitValidationError:
        raise TokenRefused("signature", "a signature of the token is wrong") from None
    except biscuit_auth.BiscuitSerializationError:
        raise TokenRefused("malformed", "this is not a dekeys token") from None


def _facts(
    reference: str | None, use: str, prim: str | None, method: str | None, path: str | None, now: datetime
) -> biscuit_auth.AuthorizerBuilder:
    """What this very use is. Blocks cannot add to it."""
    vendor, scope = _parts(reference) if reference else (None, None)
    given = {"use": use, "prim": prim, "vendor": vendor, "scope": scope, "method": method, "path": path}
    builder = biscuit_auth.AuthorizerBuilder()
    for subject, word in given.items():
        if word is not None:
            builder.add_fact(biscuit_auth.Fact(f"ask_{subject}({{word}})", {"word": word}))
    builder.add_fact(biscuit_auth.Fact("time({now})", {"now": now.replace(microsecond=0)}))
    return builder


def _authorize(
    biscuit: biscuit_auth.Biscuit,
    claims: Claims,
    builder: biscuit_auth.AuthorizerBuilder,
    reference: str | None,
    use: str,
    prim: str | None,
) -> None:
    if use == "manage" and reference is None:
        source, given = "grant({grant})", {"grant": claims.grant}
    elif reference is not None:
        vendor, scope = _parts(reference)
        source, given = "right({vendor}, {scope})", {"vendor": vendor, "scope": scope}
    else:
        raise TokenRefused("not_granted", "say what the token is wanted for: a reference such as dk://openai/chat:write")
    source = f"allow if instance({{instance}}), {source} trusting authority"
    builder.add_policy(biscuit_auth.Policy(source, {"instance": claims.instance, **given}))
    _limit(builder)
    try:
        builder.build(biscuit).authorize()
    except biscuit_auth.AuthorizationError as error:
        if "limits" in str(error):
            raise TokenRefused("timed_out", "checking the token took too long; this says nothing about it") from None
        minted_for = not claims.audience or use == "manage" or prim in claims.audience
        granted = reference is None or reference in claims.rights
        if granted and minted_for:
            raise TokenRefused("narrowed", "a block that was added to the token forbids this") from None
        raise TokenRefused("not_granted", "the token gives no right to this") from None


def _limit(builder: Any) -> None:
    limits = builder.limits()
    for name, value in _LIMITS.items():
        setattr(limits, name, value)
    builder.set_limits(limits)


def _in_time(walked: Walked, claims: Claims, now: datetime) -> None:
    if claims.until <= now:
        raise TokenRefused("expired", f"the token expired at {claims.until:%Y-%m-%dT%H:%M:%SZ}")
    begins = [condition.at for condition in _conditions(walked.blocks[0]) if condition.kind == "from"]
    if begins and now.timestamp() < max(begins):
        raise TokenRefused("not_yet", "the token is not valid yet")


def _parts(reference: str) -> tuple[str, str]:
    vendor, slash, scope = reference.removeprefix("dk://").partition("/")
    if not reference.startswith("dk://") or not vendor or not slash or not scope:
        raise ValueError(f"{reference!r} is not a reference such as dk://openai/chat:write")
    return vendor, scope


def _claims(prefix: str, walked: Walked) -> Claims:
    """Reads the authority block back; one that dekeys does not mint is refused."""
    shapes: dict[str, list[tuple[str | int | None, ...]]] = {}
    for fact in walked.facts:
        shapes.setdefault(fact.name, []).append(fact.terms)
    for name, all_terms in shapes.items():
        if any(tuple(map(type, terms)) != _FACTS.get(name) for terms in all_terms):
            raise _not_minted("it states other facts")
    single: dict[str, Any] = {}
    for name in ("instance", "grant", "principal", "holder", "expires"):
        values = shapes.get(name, [])
        if len(values) > 1 or (not values and name != "holder"):
            raise _not_minted("it needs one instance, one grant, one principal and one end")
        single[name] = values[0][0] if values else None
    rights = tuple(f"dk://{vendor}/{scope}" for vendor, scope in shapes.get("right", []))
    if not rights or walked.root_key_id is None:
        raise _not_minted("it gives no right")
    claims = Claims(
        livemode=prefix == "dkt_live_",
        rights=rights,
        audience=_audience(walked.blocks[0], single["expires"]),
        until=_moment(min(_bounds(walked.blocks), default=single["expires"])),
        pinned=None,
        pinned_until=None,
        revocation_ids=tuple(walked.revocation_ids),
        **{name: single[name] for name in ("instance", "grant", "principal", "holder")},
    )
    return _pinned(claims, walked.blocks[1:])


def _audience(checks: list[Check], expires: int) -> tuple[str, ...]:
    """The two mandatory checks, the audience if there is one, and nothing else."""
    times = uses = 0
    audience: list[tuple[str, ...]] = []
    for check in checks:
        shape = [[(condition.kind, condition.subject) for condition in alternative] for alternative in check]
        if shape == [[("from", "time"), ("before", "time")]] and check[0][1].at == expires:
            times += 1
        elif shape == [[("is", "use")]]:
            uses += 1
        elif shape == [[("is", "prim")], [("is", "use")]] and check[1][0].words == ("manage",):
            audience.append(check[0][0].words)
        else:
            raise _not_minted("it has other checks")
    if times != 1 or uses != 1 or len(audience) > 1:
        raise _not_minted("it does not check time and use once each")
    return audience[0] if audience else ()


def _pinned(claims: Claims, blocks: list[list[Check]]) -> Claims:
    """The last block that names exactly one prim, and the earliest end of those that do."""
    ends: list[int] = []
    for checks in blocks:
        prims = [prim for check in checks if (prim := _one_prim(check))]
        if prims:
            claims = replace(claims, pinned=prims[0])
            ends += sorted(_bounds([checks]))[:1]
    return replace(claims, pinned_until=_moment(min(ends))) if ends else claims


def _one_prim(check: Check) -> str | None:
    if len(check) != 1:
        return None
    found = (c.words[0] for c in check[0] if (c.kind, c.subject) == ("is", "prim") and len(c.words) == 1)
    return next(found, None)


def _bounds(blocks: Iterable[list[Check]]) -> list[int]:
    """For each check that must end: the time from which on it cannot hold."""
    bounds = []
    for check in (check for checks in blocks for check in checks):
        ends = [[c.at for c in alternative if c.kind == "before"] for alternative in check]
        if all(ends):
            bounds.append(max(map(min, ends)))
    return bounds


def _conditions(checks: list[Check]) -> list[Condition]:
    return [condition for check in checks for alternative in check for condition in alternative]


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=timezone.utc)


def _not_minted(words: str) -> TokenRefused:
    return TokenRefused("profile", f"the token breaks the profile: block 0 is not one that dekeys mints: {words}")
