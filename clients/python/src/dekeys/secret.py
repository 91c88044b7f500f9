"""Secrets that do not show themselves."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """A secret text: a token, a vendor's key, a part of one.

    ``repr``, ``str``, ``format``, JSON, pickle and copies show or carry nothing; :meth:`expose` alone gives the text.
    Not protected: the process's memory. Python keeps text as long as it likes and does not wipe it.
    """

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def expose(self) -> str:
        """The text itself. Do not log what you get."""
        return self.__text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.__text.encode())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


def exposed(text: str | Secret) -> str:
    """The text of what callers may give either way."""
    return text.expose() if isinstance(text, Secret) else text
