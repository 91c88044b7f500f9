"""Protobuf read strictly: what encodes otherwise than it stands, or is not known, is refused.

Unknown fields would be passed over otherwise, and one token would have many texts.
"""

from __future__ import annotations

from collections.abc import Mapping

#: The wire types used here.
VARINT, BYTES = 0, 2


class NotPlain(ValueError):
    """Bytes that are not the one encoding of a known message."""


class Message:
    """The fields of one message, in their order."""

    __slots__ = ("_fields",)

    def __init__(self, data: bytes, known: Mapping[int, int], repeated: frozenset[int] = frozenset()) -> None:
        """Reads ``data``. ``known`` gives each field's wire type; only ``repeated`` ones may stand twice."""
        self._fields: dict[int, list[int | bytes]] = {}
        at, last = 0, 0
        while at < len(data):
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if known.get(number) != kind or number < last or (number == last and number not in repeated):
                raise NotPlain
            last = number
            value: int | bytes
            value, at = _varint(data, at)
            if kind == BYTES:
                end = at + value
                if end > len(data):
                    raise NotPlain
                value, at = data[at:end], end
            self._fields.setdefault(number, []).append(value)

    def all(self, number: int) -> list[bytes]:
        """Every value of a field of bytes."""
        return [value for value in self._fields.get(number, []) if isinstance(value, bytes)]

    def data(self, number: int) -> bytes:
        """The value of a field of bytes that must be there."""
        value = self._fields.get(number, [None])[0]
        if not isinstance(value, bytes):
            raise NotPlain
        return value

    def number(self, number: int) -> int | None:
        """The value of a field of numbers, if it is there."""
        value = self._fields.get(number, [None])[0]
        return value if isinstance(value, int) else None

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return number in self._fields

    def one(self) -> tuple[int, int | bytes]:
        """The one field of a ``oneof``."""
        if len(self._fields) != 1:
            raise NotPlain
        number, values = next(iter(self._fields.items()))
        return number, values[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotPlain
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            # A last byte of nothing is another encoding of the same number.
            if (byte == 0 and shift > 0) or value >= 1 << 64:
                raise NotPlain
            return value, at
    raise NotPlain
