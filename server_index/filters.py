"""Filters of metadata: `price < 20 and (brand in ('a', 'b') or not sold = true)`.

A comparison holds where the item has the field with a value of the same kind, text, number or truth
value; else it does not, and `not` of it does. `field is null` holds where there is no value.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import NoReturn

from encoder.errors import PocketlensError

LONGEST_FILTER = 8192
_DEEPEST, _MOST_COMPARISONS, _MOST_VALUES = 32, 100, 1000
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[-+]?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,3})?)(?![\w.])
    | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | `(?P<quoted>[^`"]+)`
    | (?P<word>[^\W\d][\w.-]*)
    | (?P<sign><=|>=|!=|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_COMPARES = {"=", "!=", "<", "<=", ">", ">="}
# What an item is known by, beside its metadata.
_COLUMNS = {"id", "path"}
_FIELD = "json_extract(metadata, ?)"
_KIND = "json_type(metadata, ?)"

_Value = str | int | float | bool
_Token = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Filter:
    """Hold a filter as a condition of SQL and the values of its places."""

    condition: str
    values: tuple[str | int | float, ...]


def parse_filter(text: str) -> Filter:
    """Read a filter.

    Raises:
        PocketlensError: saying what was expected where.
    """
    if len(text) > LONGEST_FILTER:
        raise PocketlensError(f"filter of {len(text)} characters: at most {LONGEST_FILTER}")
    return _Parser(text).parse()


def list_fields(text: str) -> list[str]:
    """Return the fields of metadata that a filter names, each once.

    Raises:
        PocketlensError: saying what was expected where.
    """
    parser = _Parser(text)
    parser.parse()
    return list(parser.fields)


def require_field(field: str) -> Filter:
    """Return a filter that holds where an item has a field, of whatever value."""
    return Filter(f"({_KIND} IS NOT NULL)", (_path(field),))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_split(text))
        self._at = self._comparisons = 0
        # In the order of the text, each once.
        self.fields: dict[str, None] = {}

    def parse(self) -> Filter:
        found = self._any(0)
        if self._at < len(self._tokens):
            self._fail("and, or, or the end")
        return found

    def _any(self, depth: int) -> Filter:
        parts = [self._all(depth)]
        while self._take("or"):
            parts.append(self._all(depth))
        return _join(parts, " OR ")

    def _all(self, depth: int) -> Filter:
        parts = [self._one(depth)]
        while self._take("and"):
            parts.append(self._one(depth))
        return _join(parts, " AND ")

    def _one(self, depth: int) -> Filter:
        if depth > _DEEPEST:
            raise PocketlensError(f"filter: nested more than {_DEEPEST} deep")
        if self._take("not"):
            found = self._one(depth + 1)
            return Filter(f"NOT {found.condition}", found.values)
        if self._take("("):
            found = self._any(depth + 1)
            self._need(")")
            return found
        return self._compare()

    def _compare(self) -> Filter:
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            raise PocketlensError(f"filter: more than {_MOST_COMPARISONS} comparisons")
        kind, field = self._next("the name of a field")
        if kind not in ("word", "quoted"):
            self._fail("the name of a field", back=1)
        column = field if kind == "word" and field in _COLUMNS else ""
        if not column:
            self.fields[field] = None
        if self._take("is"):
            negated = self._take("not")
            self._need("null")
            found = _is_null(field, column)
            return Filter(f"NOT {found.condition}", found.values) if negated else found
        negated = self._take("not")
        if negated or self._peek() == "in":
            self._need("in")
            found = _is_one_of(field, column, self._values())
            return Filter(f"NOT {found.condition}", found.values) if negated else found
        _, sign = self._next("a comparison")
        if sign not in _COMPARES:
            self._fail("=, !=, <, <=, >, >=, in or is", back=1)
        return _equal(field, column, sign, self._value())

    def _values(self) -> list[_Value]:
        self._need("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
            if len(values) > _MOST_VALUES:
                raise PocketlensError(f"filter: more than {_MOST_VALUES} values")
        self._need(")")
        return values

    def _value(self) -> _Value:
        kind, token = self._next("a value")
        if kind == "text":
            return token[1:-1].replace(token[0] * 2, token[0])
        if kind == "number":
            value = float(token) if re.search("[.eE]", token) else int(token)
            if not -(2.0**63) < value < 2.0**63:
                self._fail("a number of at most 64 bits", back=1)
            return value
        if kind != "word" or token not in ("true", "false"):
            self._fail("a number, 'text', true or false", back=1)
        return token == "true"

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] in (
            ("word", token),
            ("sign", token),
        ):
            self._at += 1
            return True
        return False

    def _need(self, token: str) -> None:
        if not self._take(token):
            self._fail(token)

    def _next(self, expected: str) -> _Token:
        if self._at >= len(self._tokens):
            self._fail(expected)
        self._at += 1
        return self._tokens[self._at - 1]

    def _fail(self, expected: str, back: int = 0) -> NoReturn:
        self._at -= back
        before = " ".join(token for _, token in self._tokens[: self._at][-3:])
        found = repr(self._peek()) if self._peek() else "the end"
        where = f" after {before!r}" if before else ""
        raise PocketlensError(f"filter: expected {expected}{where}, found {found}")


def _split(text: str) -> list[_Token]:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if not found or not found.lastgroup:
            raise PocketlensError(f"filter: cannot read {text[at : at + 20].strip()!r}")
        tokens.append((found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


def _join(parts: list[Filter], word: str) -> Filter:
    if len(parts) == 1:
        return parts[0]
    condition = word.join(part.condition for part in parts)
    return Filter(f"({condition})", tuple(value for part in parts for value in part.values))


def _equal(field: str, column: str, sign: str, value: _Value) -> Filter:
    """Return a comparison that is true or false, never unknown."""
    path = _path(field)
    if column:
        if not isinstance(value, str):
            raise PocketlensError(f"filter: {column} is text; compare it with 'text'")
        return Filter(f"({column} {sign} ?)", (value,))
    if isinstance(value, bool):
        if sign not in ("=", "!="):
            raise PocketlensError("filter: true and false can only be equal, = or !=")
        kind = "true" if value is (sign == "=") else "false"
        return Filter(f"coalesce({_KIND} = ?, 0)", (path, kind))
    kinds = "= 'text'" if isinstance(value, str) else "IN ('integer', 'real')"
    return Filter(f"coalesce({_KIND} {kinds} AND {_FIELD} {sign} ?, 0)", (path, path, value))


def _is_one_of(field: str, column: str, values: list[_Value]) -> Filter:
    """Return a test for a list of values, those of one kind together: one look at the item each."""
    texts = [value for value in values if isinstance(value, str)]
    truths = [value for value in values if isinstance(value, bool)]
    numbers = [value for value in values if not isinstance(value, str | bool)]
    if column:
        if len(texts) < len(values):
            raise PocketlensError(f"filter: {column} is text; compare it with 'text'")
        return Filter(f"({column} IN ({_marks(texts)}))", tuple(texts))
    path = _path(field)
    parts = [_equal(field, "", "=", value) for value in sorted(set(truths))]
    kinds: tuple[tuple[str, list[str] | list[int | float]], ...] = (
        ("= 'text'", texts),
        ("IN ('integer', 'real')", numbers),
    )
    for kind, some in kinds:
        if some:
            condition = f"coalesce({_KIND} {kind} AND {_FIELD} IN ({_marks(some)}), 0)"
            parts.append(Filter(condition, (path, path, *some)))
    return _join(parts, " OR ")


def _path(field: str) -> str:
    return f'$."{field}"'


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _is_null(field: str, column: str) -> Filter:
    if column:
        return Filter("(0)", ())
    return Filter(f"(coalesce({_KIND}, 'null') = 'null')", (_path(field),))
