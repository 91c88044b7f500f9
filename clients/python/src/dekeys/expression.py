"""Expressions in checks: a fixed list of operations, typed here so that evaluating one cannot fail.

Regular expressions, closures, arithmetic and foreign functions are not on the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .wire import BYTES, VARINT, Message, NotPlain

#: What a check can look at: the predicate's name and the word for it.
SUBJECTS = {
    "ask_vendor": "vendor",
    "ask_scope": "scope",
    "ask_use": "use",
    "ask_prim": "prim",
    "ask_method": "method",
    "ask_path": "path",
    "time": "time",
}

TERM = {1: VARINT, 2: VARINT, 3: VARINT, 4: VARINT, 5: BYTES, 6: VARINT, 7: BYTES, 8: BYTES, 9: BYTES, 10: BYTES}
_OP = {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES}
_KIND = {1: VARINT, 2: VARINT}
_ORDER = {0, 1, 2, 3}
_EQUAL = {4, 20, 21, 22}
_CONTAINS, _PREFIX, _SUFFIX, _AND, _OR = 5, 6, 7, 13, 14
_LESS, _LESS_EQUAL, _GREATER_EQUAL = 0, 2, 3


class Breach(ValueError):
    """A block that says what no block may say."""


class Condition(NamedTuple):
    """One thing that must hold."""

    #: ``is``, ``begins``, ``present``, ``before``, ``from`` or ``holds``.
    kind: str
    #: The word of the subject; of ``holds`` none.
    subject: str = ""
    #: What it must be one of, or begin with.
    words: tuple[str, ...] = ()
    #: Seconds since 1970, of ``before`` and ``from``.
    at: int = 0


class Names:
    """What symbols and variables stand for within one alternative of a check."""

    def __init__(self, symbols: Sequence[str | None], *, authority: bool) -> None:
        self._symbols = symbols
        self._bound: dict[int, str] = {}
        self.authority = authority

    def symbol(self, index: int) -> str:
        """The text of a symbol."""
        text = self._symbols[index] if index < len(self._symbols) else None
        if text is None:
            raise Breach("names a symbol that is missing")
        return text

    def bind(self, variable: int, subject: str) -> None:
        """Remembers that the variable is the subject."""
        self.symbol(variable)
        if variable in self._bound:
            raise Breach("binds a variable twice")
        self._bound[variable] = subject

    def subject(self, variable: int) -> str:
        """The subject of a variable."""
        if variable not in self._bound:
            raise Breach("has an expression that does not fit together")
        return self._bound[variable]

    def bound(self) -> list[str]:
        """The subjects that have a variable."""
        return list(self._bound.values())


class _Value(NamedTuple):
    kind: str  # asked, text, set, number, truth, date
    text: str = ""
    words: tuple[str, ...] = ()
    number: int = 0


def ops_of(expression: bytes) -> list[bytes]:
    """The operations of an expression, in the postfix order biscuit keeps."""
    return Message(expression, {1: BYTES}, frozenset({1})).all(1)


def read(ops: Sequence[bytes], names: Names) -> Condition:
    """Reads one expression as a condition; :class:`Breach` when it is not on the list."""
    read_ops = [Message(op, _OP).one() for op in ops]
    simple = _simple(read_ops, names)
    if simple:
        return simple
    stack: list[str] = []
    for number, value in read_ops:
        if not isinstance(value, bytes) or number == 4:
            raise Breach("uses a closure, which no check may")
        if number == 1:
            stack.append(_typed(_operand(value, names)))
        elif number == 2:
            stack.append(_unary(_kind(value), _pop(stack)))
        else:
            right, left = _pop(stack), _pop(stack)
            stack.append(_binary(_kind(value), left, right))
    if stack != ["truth"]:
        raise Breach("has an expression that does not fit together")
    return Condition("holds")


def _simple(ops: list[tuple[int, int | bytes]], names: Names) -> Condition | None:
    """The shapes that have plain words, and the only ones in which the time may stand."""
    if [number for number, _ in ops] != [1, 1, 3]:
        return None
    left, right, kind = (value for _, value in ops)
    if not (isinstance(left, bytes) and isinstance(right, bytes) and isinstance(kind, bytes)):
        return None
    return _relation(_operand(left, names), _operand(right, names), _kind(kind), names)


def _relation(one: _Value, two: _Value, kind: int, names: Names) -> Condition | None:
    if "time" in (one.text if one.kind == "asked" else "", two.text if two.kind == "asked" else ""):
        if one.kind == "asked" and two.kind == "date":
            if kind in (_LESS, _LESS_EQUAL):
                return Condition("before", "time", at=two.number + (kind == _LESS_EQUAL))
            if kind == _GREATER_EQUAL and names.authority:
                return Condition("from", "time", at=two.number)
        raise Breach("uses the time otherwise than `$time < a date`")
    if one.kind == "set" and two.kind == "asked" and kind == _CONTAINS:
        return Condition("is", two.text, one.words)
    if kind in (4, 21) and {one.kind, two.kind} == {"asked", "text"}:
        asked, text = (one, two) if one.kind == "asked" else (two, one)
        return Condition("is", asked.text, (text.text,))
    if one.kind == "asked" and two.kind == "text" and kind == _PREFIX:
        return Condition("begins", one.text, (two.text,))
    return None


def _operand(term: bytes, names: Names) -> _Value:
    number, value = Message(term, TERM).one()
    if isinstance(value, int):
        if number == 1:
            return _Value("asked", names.subject(value))
        if number == 3:
            return _Value("text", names.symbol(value))
        return _Value({2: "number", 4: "date", 6: "truth"}[number], number=value)
    if number == 7:
        return _Value("set", words=_words(value, names))
    raise Breach("uses bytes, null, an array or a map, which no check may")


def _words(terms: bytes, names: Names) -> tuple[str, ...]:
    words = set()
    for term in Message(terms, {1: BYTES}, frozenset({1})).all(1):
        number, value = Message(term, TERM).one()
        if number != 3 or not isinstance(value, int):
            raise Breach("uses a set of anything but text, which no check may")
        words.add(names.symbol(value))
    return tuple(sorted(words))


def _typed(value: _Value) -> str:
    if value.kind == "date" or (value.kind == "asked" and value.text == "time"):
        raise Breach("uses the time otherwise than `$time < a date`")
    return "text" if value.kind == "asked" else value.kind


def _kind(operation: bytes) -> int:
    message = Message(operation, _KIND)
    kind = message.number(1)
    if kind is None:
        raise NotPlain
    if message.has(2):
        raise Breach("uses a foreign function, which no check may")
    return kind


def _pop(stack: list[str]) -> str:
    if not stack:
        raise Breach("has an expression that does not fit together")
    return stack.pop()


def _unary(kind: int, of: str) -> str:
    if kind == 0 and of == "truth":
        return "truth"
    if kind == 1:
        return of
    if kind == 2 and of in ("text", "set"):
        return "number"
    raise Breach("uses an operation that no check may")


def _binary(kind: int, left: str, right: str) -> str:
    both = (left, right)
    fits = (
        (kind in _ORDER and both == ("number", "number"))
        or (kind in (_PREFIX, _SUFFIX) and both == ("text", "text"))
        or (kind in (_AND, _OR) and both == ("truth", "truth"))
        or (kind == _CONTAINS and both in (("set", "set"), ("set", "text"), ("text", "text")))
        or (kind in _EQUAL and left == right)
    )
    if not fits:
        raise Breach("uses an operation that no check may, or one that does not fit")
    return "truth"
