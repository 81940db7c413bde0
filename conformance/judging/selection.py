"""Which items are meant: pytest's `-k` and `-m` grammar, for items that need not be made to be left out.

    -k "keras and label_smoothing and not float16"

`and`, `or`, `not` and parentheses combine words.  After `-k` a word matches where it is a substring, in
any case; after `-m` where it is a marker.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from conformance.model.errors import UserError

Matcher = Callable[[str], bool]
"""Whether a word matches."""
Selection = Callable[[Matcher], bool]
"""Whether an expression holds, given which of its words match."""

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


class SelectionError(UserError, ValueError):
    """An expression that is not one, and where."""


def substring_of(text: str) -> Matcher:
    """What `-k` asks of a text."""
    lowered = text.lower()
    return lambda word: word.lower() in lowered


def words_of(expression: str) -> set[str]:
    """The words of an expression; raises SelectionError where it is none."""
    compiled(expression)
    return {word for word in _TOKEN.findall(expression) if word not in ("(", ")", "and", "or", "not")}


def compiled(expression: str) -> Selection:
    """An expression ready to be asked; raises SelectionError with the place where it ends being one."""
    tokens = _TOKEN.findall(expression)
    position = 0

    def peek() -> str:
        return str(tokens[position]) if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return str(tokens[position - 1])

    def expected(wanted: str) -> SelectionError:
        found = f'"{peek()}"' if peek() else "its end"
        return SelectionError(f'the selection "{expression}": {wanted} should stand where {found} is')

    def either() -> Selection:
        parts = [both()]
        while peek() == "or":
            take()
            parts.append(both())
        return lambda matches: any(part(matches) for part in parts)

    def both() -> Selection:
        parts = [negated()]
        while peek() == "and":
            take()
            parts.append(negated())
        return lambda matches: all(part(matches) for part in parts)

    def negated() -> Selection:
        if peek() == "not":
            take()
            inner = negated()
            return lambda matches: not inner(matches)
        if peek() == "(":
            take()
            inner = either()
            if peek() != ")":
                raise expected("a closing parenthesis")
            take()
            return inner
        if peek() in ("", ")", "and", "or"):
            raise expected("a word")
        word = take()
        return lambda matches: matches(word)

    whole = either()
    if position < len(tokens):
        raise expected("and, or, or the end")
    return whole
