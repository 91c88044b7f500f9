"""What can go wrong, as types. Everything here is a :class:`DekeysError`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx


class DekeysError(Exception):
    """Anything this library refuses or cannot do."""


class KeyFileError(DekeysError):
    """A file that is not a private key. Says nothing of what stands in it."""


class Unreachable(DekeysError):
    """Nobody answered, or the answer broke off. Whether the request arrived is not known; resolving again is safe."""


class ForeignAnswer(DekeysError):
    """Something answered, but not as dekeys does: another server, or a proxy between."""


class TokenRefused(DekeysError):
    """A token that is refused on this side, before any request.

    ``reason`` is what programs switch on: ``malformed``, ``too_large``, ``profile``, ``unknown_root``, ``signature``,
    ``foreign_instance``, ``expired``, ``not_yet``, ``narrowed``, ``not_granted``, ``not_pinned``, ``revoked``,
    ``feed_stale`` or ``timed_out`` (which says nothing about the token).
    """

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class Refused(DekeysError):
    """dekeys said no, or not yet: an RFC 9457 problem."""

    def __init__(self, problem: Mapping[str, Any], status: int, retry_after: float | None = None) -> None:
        text = {name: str(problem.get(name) or "") for name in ("code", "title", "detail", "fix", "request_id")}
        #: The HTTP status. 202 is "not known yet" or "people decide".
        self.status = status
        #: What programs switch on: ``vault_sealed``. Each has a page at ``/problems/<code>`` of the server.
        self.code = text["code"]
        #: What happened.
        self.title = text["title"]
        #: Why, in this case.
        self.detail = text["detail"]
        #: What to do about it.
        self.fix = text["fix"]
        #: The request, for the server's log.
        self.request_id = text["request_id"]
        #: Whether the same request may succeed later.
        self.retryable = problem.get("retryable") is True
        #: Seconds to wait before that, when the server says.
        self.retry_after = retry_after
        #: The whole problem.
        self.problem = dict(problem)
        words = f"{self.title} [{self.code}]"
        words += f": {self.detail}" if self.detail else ""
        words += f" fix: {self.fix}" if self.fix else ""
        super().__init__(f"{words} ({self.request_id})" if self.request_id else words)

    def __reduce__(self) -> Any:
        return type(self), (self.problem, self.status, self.retry_after)


class Unauthenticated(Refused):
    """401: the token or the signature counts for nothing (any more)."""


class PaymentRequired(Refused):
    """402: pay with an x402 client."""


class NotAllowed(Refused):
    """403: known, but not for this."""


class NotFound(Refused):
    """404: it does not exist, or belongs to somebody else."""


class GrantOver(Refused):
    """410: the grant or lease has ended."""


class RateLimited(Refused):
    """429: wait ``retry_after`` seconds."""


class Unavailable(Refused):
    """502, 503, 504: sealed, overloaded, or the vendor does not answer."""


_BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthenticated,
    402: PaymentRequired,
    403: NotAllowed,
    404: NotFound,
    410: GrantOver,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


class Unsupported(DekeysError):
    """The server is too old for this: it has no lease report, or no revocation feed."""


def of_problem(problem: Mapping[str, Any], status: int, retry_after: float | None = None) -> Refused:
    """The error for a problem document."""
    return _BY_STATUS.get(status, Refused)(problem, status, retry_after)


def checked(answer: httpx.Response) -> Any:
    """The JSON of a good answer.

    Raises :class:`Refused` for every problem, also one that is answered with 202, and :class:`ForeignAnswer`.
    """
    kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
    body: Any = None
    if kind in ("application/json", "application/problem+json"):
        try:
            body = answer.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            body = None
    if kind == "application/problem+json" and isinstance(body, dict) and body.get("code"):
        raise of_problem(body, answer.status_code, _seconds(answer.headers.get("retry-after")))
    if answer.status_code // 100 != 2 or body is None:
        raise ForeignAnswer(f"{answer.url.host} answered {answer.status_code}, but not as dekeys does")
    return body


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
