"""What a token may contain, checked by a walk of its protobuf before any Datalog runs.

Anybody who holds a token may add a block, and a few hundred bytes of Datalog can keep an engine busy for minutes. So
added blocks may only check, over a fixed list of facts, with operations that always end. Nothing is printed and parsed
again on the way. The server keeps the same rules; here they are kept so that a token which it would refuse is neither
made nor believed.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import TokenRefused
from .expression import SUBJECTS, TERM, Breach, Condition, Names, ops_of, read
from .keyfile import base64url, unbase64url
from .wire import BYTES, VARINT, Message, NotPlain

#: The largest token, in bytes before base64url.
MAX_BYTES = 8 * 1024
PREFIXES = ("dkt_test_", "dkt_live_")

_DEFAULT_SYMBOLS = (
    "read write resource operation right time role owner tenant namespace user team service admin email group member "
    "ip_address client client_ip domain path version cluster node hostname nonce query"
).split()
_OFFSET = 1024
_TOKEN = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES}
_SIGNED = {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT}
_PUBLIC = {1: VARINT, 2: BYTES}
_BLOCK = {1: BYTES, 2: BYTES, 3: VARINT, 4: BYTES, 5: BYTES, 6: BYTES, 7: BYTES, 8: BYTES}
_RULE = {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES}
_PREDICATE = {1: VARINT, 2: BYTES}

#: One check: alternatives, each of which is conditions that must all hold.
Check = list[list[Condition]]


class Fact(NamedTuple):
    """One fact of the authority block. Dates are seconds since 1970; other terms are ``None``."""

    name: str
    terms: tuple[str | int | None, ...]


class Walked(NamedTuple):
    """A token that keeps to the profile. Its signatures were not checked."""

    root_key_id: int | None
    facts: list[Fact]
    #: The checks of each block.
    blocks: list[list[Check]]
    #: Hexadecimal, authority block first.
    revocation_ids: list[str]
    #: Nothing can be added to it.
    sealed: bool


def decode(token: str) -> tuple[str, bytes]:
    """Takes a token's text apart: its prefix and the biscuit. The size is checked before anything is decoded."""
    prefix = next((prefix for prefix in PREFIXES if token.startswith(prefix)), None)
    if prefix is None:
        raise TokenRefused("malformed", "this is not a dekeys token")
    encoded = token.removeprefix(prefix)
    if len(encoded) > (MAX_BYTES + 2) // 3 * 4:
        raise TokenRefused("too_large", "the token is larger than 8 KiB")
    data = unbase64url(encoded.rstrip("=") if len(encoded) % 4 == 0 else encoded)
    if data is None:
        raise TokenRefused("malformed", "this is not a dekeys token")
    return prefix, data


def encode(prefix: str, data: bytes) -> str:
    """Puts the text together."""
    if len(data) > MAX_BYTES:
        raise TokenRefused("too_large", "the token is larger than 8 KiB")
    return prefix + base64url(data)


def walk(data: bytes) -> Walked:
    """Walks the bytes of a token. Raises :class:`TokenRefused`."""
    if len(data) > MAX_BYTES:
        raise TokenRefused("too_large", "the token is larger than 8 KiB")
    try:
        token = Message(data, _TOKEN, frozenset({3}))
        blocks = [token.data(2), *token.all(3)]
        proof, _ = Message(token.data(4), {1: BYTES, 2: BYTES}).one()
    except NotPlain:
        raise TokenRefused("malformed", "this is not a dekeys token") from None
    if len(blocks) > 5:
        raise TokenRefused("profile", f"the token breaks the profile: {len(blocks)} blocks where 5 may stand")
    walked = Walked(token.number(1), [], [], [], sealed=proof == 2)
    symbols: list[str | None] = [*_DEFAULT_SYMBOLS, *[None] * (_OFFSET - len(_DEFAULT_SYMBOLS))]
    # Who signs is looked at for all blocks first: what others wrote is not read.
    for step in (_chained, _block):
        for place, signed in enumerate(blocks):
            try:
                step(signed, symbols, walked, authority=place == 0)
            except (Breach, NotPlain, UnicodeDecodeError) as error:
                why = str(error) if isinstance(error, Breach) else "is not plain protobuf of a biscuit block"
                raise TokenRefused("profile", f"the token breaks the profile: block {place} {why}") from None
    return walked


def _chained(signed: bytes, _symbols: list[str | None], _walked: Walked, *, authority: bool) -> None:
    outer = Message(signed, _SIGNED)
    if outer.has(4):
        raise Breach("was signed by a third party")
    if Message(outer.data(2), _PUBLIC).number(1) != 0:
        raise Breach("hands on to a key that is not Ed25519")


def _block(signed: bytes, symbols: list[str | None], walked: Walked, *, authority: bool) -> None:
    outer = Message(signed, _SIGNED)
    block = Message(outer.data(1), _BLOCK, frozenset({1, 4, 5, 6, 7, 8}))
    if block.number(3) not in (3, 4, 5, 6):
        raise Breach("has a Datalog version that is not known here")
    for symbol in block.all(1):
        text = symbol.decode("utf-8")
        if text in symbols:
            raise Breach("repeats symbols")
        symbols.append(text)
    for field, words in ((5, "has rules"), (7, "says whom to trust"), (8, "names public keys")):
        if block.has(field):
            raise Breach(words)
    if authority:
        walked.facts.extend(_facts(block, symbols))
    elif block.has(4):
        raise Breach("states facts")
    checks = block.all(6)
    if len(checks) > 8:
        raise Breach(f"has {len(checks)} checks where 8 may stand")
    walked.blocks.append([_check(check, symbols, authority=authority) for check in checks])
    walked.revocation_ids.append(outer.data(3).hex())


def _facts(block: Message, symbols: list[str | None]) -> list[Fact]:
    facts = block.all(4)
    if len(facts) > 64:
        raise Breach(f"states {len(facts)} facts where 64 may stand")
    names = Names(symbols, authority=True)
    return [_fact(fact, names) for fact in facts]


def _fact(fact: bytes, names: Names) -> Fact:
    predicate = Message(Message(fact, {1: BYTES}).data(1), _PREDICATE, frozenset({2}))
    terms: list[str | int | None] = []
    for term in predicate.all(2):
        number, value = Message(term, TERM).one()
        if isinstance(value, int) and number in (3, 4):
            terms.append(names.symbol(value) if number == 3 else value)
        else:
            terms.append(None)
    return Fact(_name(predicate, names), tuple(terms))


def _name(predicate: Message, names: Names) -> str:
    name = predicate.number(1)
    if name is None:
        raise NotPlain
    return names.symbol(name)


def _check(check: bytes, symbols: list[str | None], *, authority: bool) -> Check:
    message = Message(check, {1: BYTES, 2: VARINT}, frozenset({1}))
    if message.number(2) not in (None, 0):
        raise Breach("has a check that is not `check if`")
    queries = message.all(1)
    if not 1 <= len(queries) <= 4:
        raise Breach(f"has a check of {len(queries)} alternatives where 1 to 4 may stand")
    return [_alternative(query, Names(symbols, authority=authority)) for query in queries]


def _alternative(query: bytes, names: Names) -> list[Condition]:
    rule = Message(query, _RULE, frozenset({2, 3, 4}))
    if rule.has(4):
        raise Breach("says whom to trust")
    head = Message(rule.data(1), _PREDICATE, frozenset({2}))
    if _name(head, names) != "query" or head.has(2):
        raise Breach("has a check with a head")
    body, expressions = rule.all(2), [ops_of(expression) for expression in rule.all(3)]
    if len(body) > 2:
        raise Breach(f"joins {len(body)} facts where 2 may stand")
    operations = sum(map(len, expressions))
    if operations > 32:
        raise Breach(f"has {operations} operations where 32 may stand")
    conditions = [condition for predicate in body if (condition := _asked(predicate, names))]
    conditions += [read(ops, names) for ops in expressions]
    spoken = {condition.subject for condition in conditions}
    unused = [subject for subject in names.bound() if subject != "time" and subject not in spoken]
    return conditions + [Condition("present", subject) for subject in unused]


def _asked(predicate: bytes, names: Names) -> Condition | None:
    """Reads ``ask_prim("x")`` as a condition, and remembers ``ask_prim($x)`` for the expressions."""
    message = Message(predicate, _PREDICATE, frozenset({2}))
    name = _name(message, names)
    subject = SUBJECTS.get(name)
    if subject is None:
        raise Breach(f"asks for {name[:80]!r}, which no check may")
    terms = message.all(2)
    if len(terms) != 1:
        raise Breach(f"asks for {name} in a form that never holds")
    number, value = Message(terms[0], TERM).one()
    if number == 1 and isinstance(value, int):
        names.bind(value, subject)
        return None
    if number == 3 and isinstance(value, int) and subject != "time":
        return Condition("is", subject, (names.symbol(value),))
    raise Breach(f"asks for {name} in a form that never holds")
