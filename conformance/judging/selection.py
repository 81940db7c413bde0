"""Which items are meant: pytest's `-k` and `-m` grammar, for items that need not be made to be left out.

    -k "keras and label_smoothing and not float16"

`and`, `or`, `not` and parentheses combine words.  After `-k` a word matches where it is a substring, in
any case; after `-m` where it is a marker.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

from conformance.model.errors import UserError
from conformance.model.text import truncate

Matcher = Callable[[str], bool]
"""Whether a word matches."""
Selection = Callable[[Matcher], bool]
"""Whether an expression holds, given which of its words match."""

MAX_DEPTH = 100
"""Parentheses and `not` inside one another."""
MAX_SHOWN = 80
"""Characters of an expression in a message."""
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


class SelectionError(UserError, ValueError):
    """An expression that is not one, and where."""


def substring_of(text: str) -> Matcher:
    """The condition of `-k` on a text."""
    lowered = text.lower()
    return lambda word: len(word) <= len(lowered) and word.lower() in lowered


def words_of(expression: str) -> set[str]:
    """The words of an expression; raises SelectionError where it is none."""
    compiled(expression)
    return {word for word in _TOKEN.findall(expression) if word not in ("(", ")", "and", "or", "not")}


def similar(expression: str, ids: Iterable[str]) -> str:
    """A suggestion for words that stand in none of the ids, such as `did you mean "torch"?`; empty if there is none."""
    known = list(ids)
    parts = {part.lower(): part for name in known for part in re.split(r"[-/.:]", name) if part}
    lower = [name.lower() for name in known]
    for word in sorted({word.lower() for word in words_of(expression)}):
        if not any(word in name for name in lower):
            near = difflib.get_close_matches(word, parts, n=1, cutoff=0.7)
            if near:
                return f'did you mean "{parts[near[0]]}"?'
    return ""


def compiled(expression: str) -> Selection:
    """Compile an expression.  Raises SelectionError with the position of the first error."""
    return _Parser(expression).whole()


class _Parser:
    """Reads an expression by recursive descent: `or` binds least, then `and`, then `not`."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = list(map(str, _TOKEN.findall(expression)))
        self.position = 0
        self.depth = 0

    def whole(self) -> Selection:
        """The whole expression."""
        found = self.either()
        if self.position < len(self.tokens):
            raise self.expected("and, or, or the end")
        return found

    def either(self) -> Selection:
        """Parts between which there is `or`."""
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda matches: any(part(matches) for part in parts)

    def both(self) -> Selection:
        """Parts between which there is `and`."""
        parts = [self.negated()]
        while self.take("and"):
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else lambda matches: all(part(matches) for part in parts)

    def negated(self) -> Selection:
        """A word, or an expression in parentheses, each after any number of `not`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise SelectionError(f'the selection "{self.shown}" is nested deeper than {MAX_DEPTH} levels')
        try:
            return self._negated()
        finally:
            self.depth -= 1

    def _negated(self) -> Selection:
        if self.take("not"):
            inner = self.negated()
            return lambda matches: not inner(matches)
        if self.take("("):
            inner = self.either()
            if not self.take(")"):
                raise self.expected("a closing parenthesis")
            return inner
        word = self.peek()
        if word in ("", ")", "and", "or"):
            raise self.expected("a word")
        self.position += 1
        return lambda matches: matches(word)

    @property
    def shown(self) -> str:
        """The expression in a message."""
        return truncate(self.expression, MAX_SHOWN)

    def peek(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self, token: str) -> bool:
        """Go past the next token if it is this one."""
        found = self.peek() == token
        self.position += found
        return found

    def expected(self, wanted: str) -> SelectionError:
        """What is wrong at the next token."""
        found = f'"{truncate(self.peek(), MAX_SHOWN)}"' if self.peek() else "its end"
        return SelectionError(f'the selection "{self.shown}": {wanted} should stand where {found} is')
