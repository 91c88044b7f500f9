"""Keys that were resolved, and the memory of those whose lease still runs."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import ForeignAnswer
from .secret import Secret

#: Keys whose lease is over stay in memory no longer than so many seconds, while others come.
_SWEEP = 60.0
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)\}")


@dataclass(frozen=True)
class Injection:
    """Where the vendor wants its key, and where requests go."""

    #: The vendor's address.
    base_url: str
    #: Places, each as the server writes it: ``{"header": …, "format": …}``, ``{"query": …, "format": …}`` or
    #: ``{"basic_user": …, "basic_password": …}``.
    places: tuple[Mapping[str, str], ...]

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Injection:
        """Reads ``credential.inject`` of an answer."""
        return cls(answer["base_url"], (dict(answer), *answer.get("also", ())))


@dataclass(frozen=True)
class Resolved:
    """A vendor's key for the time of a lease. Prints without the key."""

    reference: str
    lease_id: str
    #: When the lease ends, by the server's clock.
    expires: datetime
    #: Counts the keys of this lease.
    version: int
    #: The key's fields by name; most keys have the one field ``api_key``.
    fields: Mapping[str, Secret]
    inject: Injection = field(repr=False)
    #: The event on the server's record.
    event: str
    #: When the lease ends, by this machine's monotonic clock.
    ends: float = field(repr=False)

    @property
    def secret(self) -> Secret:
        """The key, when it has one field. Raises :class:`ValueError` when it has several."""
        if len(self.fields) != 1:
            raise ValueError(f"this key has several fields: {', '.join(self.fields)}")
        return next(iter(self.fields.values()))

    @property
    def base_url(self) -> str:
        """Where requests to the vendor go."""
        return self.inject.base_url

    def url(self, path: str) -> str:
        """An address at the vendor: ``path`` below :attr:`base_url`, whose own path stays."""
        return f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"

    @property
    def alive(self) -> bool:
        """Whether the lease still runs. It may have been revoked all the same."""
        return time.monotonic() < self.ends

    def headers(self) -> dict[str, str]:
        """The headers that carry the key. Do not log them."""
        headers = {}
        for place in self.inject.places:
            if "header" in place:
                headers[place["header"]] = self._filled(place["format"])
            elif "basic_user" in place:
                pair = f"{self._filled(place['basic_user'])}:{self._filled(place['basic_password'])}"
                headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
        return headers

    def params(self) -> dict[str, str]:
        """The query parameters that carry the key, for vendors that know no other place."""
        return {place["query"]: self._filled(place["format"]) for place in self.inject.places if "query" in place}

    def _filled(self, text: str) -> str:
        # In one pass: a key that looks like a placeholder is not filled again.
        return _PLACEHOLDER.sub(lambda found: self._field(found[1]).expose(), text)

    def _field(self, name: str) -> Secret:
        return self.secret if name == "secret" and "secret" not in self.fields else self.fields[name]


def read_entry(entry: Mapping[str, Any], asked: float, known: Resolved | None) -> Resolved | None:
    """Reads one good entry of an answer; ``None`` when it is unchanged and nothing known is left to take.

    ``asked`` is the monotonic time at which the request began: the lease runs from then at the latest.
    """
    try:
        ends = asked + float(entry["lease_duration"])
        expires = datetime.fromisoformat(entry["expires"])
        credential = entry.get("credential")
        if credential is None:
            if known is None or known.lease_id != entry["lease_id"]:
                return None
            fields, inject, version = known.fields, known.inject, known.version
        else:
            fields = {name: Secret(value) for name, value in credential["fields"].items()}
            inject, version = Injection.read(credential["inject"]), credential["version"]
        reference, lease, event = entry["reference"], entry["lease_id"], entry["event"]
    except (KeyError, TypeError, ValueError):
        raise ForeignAnswer("the answer is not one of `POST /v1/resolve`") from None
    return Resolved(reference, lease, expires, version, fields, inject, event, ends)


class Cache:
    """Keys by token and reference, until their lease or their token ends. Holds at most ``size``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[bytes, str], tuple[Resolved, float]] = OrderedDict()
        self._of_grant: dict[tuple[str, str], Resolved] = {}
        self._swept = time.monotonic()

    def get(self, token: str, reference: str) -> Resolved | None:
        """The key, while lease and token run."""
        with self._lock:
            resolved, token_ends = self._entries.get(_key(token, reference), (None, 0.0))
            if resolved and resolved.alive and time.time() < token_ends:
                self._entries.move_to_end(_key(token, reference))
                return resolved
        return None

    def known(self, grant: str, reference: str) -> Resolved | None:
        """A live key of the same grant, however its token was narrowed: it need not be sent again."""
        with self._lock:
            resolved = self._of_grant.get((grant, reference))
        return resolved if resolved and resolved.alive else None

    def put(self, token: str, token_ends: float, grant: str, resolved: Resolved) -> None:
        """Keeps a key. ``token_ends`` is in seconds since 1970."""
        with self._lock:
            self._entries[_key(token, resolved.reference)] = (resolved, token_ends)
            self._of_grant[(grant, resolved.reference)] = resolved
            if len(self._entries) > self._size or time.monotonic() > self._swept + _SWEEP:
                self._trim()

    def drop(self, lease_id: str) -> None:
        """Forgets the keys of a lease."""
        with self._lock:
            self._keep(lambda resolved: resolved.lease_id != lease_id)

    def drop_grant(self, grant: str) -> None:
        """Forgets the keys of a grant."""
        with self._lock:
            leases = {resolved.lease_id for (of, _), resolved in self._of_grant.items() if of == grant}
            self._keep(lambda resolved: resolved.lease_id not in leases)

    def clear(self) -> None:
        """Forgets all keys."""
        with self._lock:
            self._keep(lambda _: False)

    def _trim(self) -> None:
        self._swept = time.monotonic()
        self._keep(lambda resolved: resolved.alive)
        while len(self._entries) > self._size:
            _, (oldest, _) = self._entries.popitem(last=False)
            self._of_grant = {name: kept for name, kept in self._of_grant.items() if kept is not oldest}

    def _keep(self, wanted: Any) -> None:
        kept = [(name, entry) for name, entry in self._entries.items() if wanted(entry[0])]
        self._entries = OrderedDict(kept)
        self._of_grant = {name: resolved for name, resolved in self._of_grant.items() if wanted(resolved)}


def _key(token: str, reference: str) -> tuple[bytes, str]:
    return hashlib.sha256(token.encode()).digest(), reference
