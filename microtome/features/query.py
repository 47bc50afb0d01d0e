"""The filter language of the feature table: `density > 0.01 and label ~ "france"`.

    filter     = all ("or" all)*            all = one ("and" one)*          one = "not" one | "(" filter ")" | comparison
    comparison = column operator value      operator: > >= < <= = != (numbers), = != ~ !~ (text; ~ is "contains", case folded)

Numbers may end in %; text stands in quotes, or bare when it is one word.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from microtome.errors import QueryInvalid, nearest
from microtome.features.arrays import Array

_DEEPEST = 50
"""Most parentheses and nots inside each other."""

Texts = Sequence[str] | Sequence[tuple[str, ...]]
Columns = Mapping[str, Array | Texts]
"""Number columns are arrays, text columns are sequences of strings, or of several strings a row: one that compares is enough."""

_TOKEN = re.compile(r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op>>=|<=|!=|!~|==|[><=~()])|(?P<word>[^\s><=!~()"']+)|(?P<bad>\S))""")
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}


def select(columns: Columns, filter: str) -> Array:
    """Truth of `filter` for every row; an empty filter holds everywhere.

    Raises `QueryInvalid` that names the nearest column, or what was expected where.
    """
    n_rows = len(next(iter(columns.values())))
    if not filter.strip():
        return np.ones(n_rows, dtype=bool)
    reader = _Reader(filter, columns)
    found = reader.either()
    if reader.ahead is not None:
        raise reader.unexpected("and, or, or the end")
    return found


class _Reader:
    """Recursive descent over the tokens of a filter."""

    def __init__(self, text: str, columns: Columns) -> None:
        self._text = text
        self._columns = columns
        self._tokens = [(match.lastgroup or "", match[match.lastgroup or 0]) for match in _TOKEN.finditer(text)]
        self._next = 0
        self._depth = 0

    @property
    def ahead(self) -> str | None:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else None

    def take(self) -> tuple[str, str]:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def unexpected(self, wanted: str) -> QueryInvalid:
        got = "the end" if self.ahead is None else self.ahead
        do = 'Write it like: density > 0.01 and label ~ "france"'
        return QueryInvalid(f"the filter cannot be read: {self._text}", got=got, wanted=wanted, do=do)

    def _is(self, word: str) -> bool:
        return self.ahead is not None and self._tokens[self._next][0] == "word" and self.ahead.lower() == word

    def either(self) -> Array:
        found = self.both()
        while self._is("or"):
            self.take()
            found = found | self.both()
        return found

    def both(self) -> Array:
        found = self.one()
        while self._is("and"):
            self.take()
            found = found & self.one()
        return found

    def one(self) -> Array:
        if self._is("not"):
            self._enter()
            found = ~self.one()
        elif self.ahead == "(":
            self._enter()
            found = self.either()
            self._close()
        else:
            return self.comparison()
        self._depth -= 1
        return found

    def _enter(self) -> None:
        """Take a "not" or "("; what nests deeper than anyone would write is refused before Python's own limit is met."""
        self.take()
        self._depth += 1
        if self._depth > _DEEPEST:
            what = f"the filter nests too deeply: {self._text[:60]}…"
            raise QueryInvalid(what, got=f"more than {_DEEPEST} levels", wanted="few parentheses and nots", do="Write it flatter.")

    def _close(self) -> None:
        if self.ahead != ")":
            raise self.unexpected(")")
        self.take()

    def comparison(self) -> Array:
        if self.ahead is None or self._tokens[self._next][0] != "word":
            raise self.unexpected(f"a column: {', '.join(self._columns)}")
        name = self.take()[1]
        if name not in self._columns:
            what = f'the feature table has no column "{name}".'
            raise QueryInvalid(what, got=name, wanted=", ".join(self._columns), do=nearest(name, self._columns))
        column = self._columns[name]
        known = (*_COMPARE,) if isinstance(column, np.ndarray) else ("=", "==", "!=", "~", "!~")
        if self.ahead not in known:
            raise self.unexpected(f"one of {' '.join(known)} after the {'number' if isinstance(column, np.ndarray) else 'text'} column {name}")
        compare = self.take()[1]
        self._expect_value(name)
        if isinstance(column, np.ndarray):
            return _COMPARE[compare](column, self._number(name))
        return _compare_text(column, compare, _unquoted(self.take()))

    def _expect_value(self, name: str) -> None:
        if self.ahead is None or self._tokens[self._next][0] not in ("word", "text"):
            raise self.unexpected(f"a value to compare {name} with")

    def _number(self, name: str) -> float:
        word = self.ahead or ""
        try:
            value = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
        except ValueError as error:
            raise self.unexpected(f"a number to compare {name} with") from error
        self.take()
        return value


def _compare_text(column: Texts, compare: str, value: str) -> Array:
    folded = value.casefold()
    contains = "~" in compare
    if len(column) and isinstance(column[0], tuple):
        found = np.fromiter((any(_holds(text, folded, contains=contains) for text in row) for row in column), dtype=bool, count=len(column))
    else:
        texts = cast(Sequence[str], column)
        holds = (folded in text.casefold() for text in texts) if contains else (folded == text.casefold() for text in texts)
        found = np.fromiter(holds, dtype=bool, count=len(texts))
    return ~found if compare.startswith("!") else found


def _holds(text: str, folded: str, *, contains: bool) -> bool:
    return folded in text.casefold() if contains else folded == text.casefold()


def _unquoted(token: tuple[str, str]) -> str:
    kind, text = token
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "text" else text
