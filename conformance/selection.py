"""Which items are meant: pytest's `-k` grammar over an item's id, without pytest.

    -k "keras and label_smoothing and not float16"

A word matches where it is a substring of the id, in any case; `and`, `or`, `not` and parentheses combine.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


class SelectionError(ValueError):
    """An expression that is not one, and where."""


def compiled(expression: str) -> Callable[[str], bool]:
    """A predicate over ids; raises SelectionError with the place where an expression ends being one."""
    tokens = _TOKEN.findall(expression)
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return str(tokens[position - 1])

    def either() -> Callable[[str], bool]:
        left = both()
        while peek() == "or":
            take()
            left = _or(left, both())
        return left

    def both() -> Callable[[str], bool]:
        left = negated()
        while peek() == "and":
            take()
            left = _and(left, negated())
        return left

    def negated() -> Callable[[str], bool]:
        if peek() == "not":
            take()
            inner = negated()
            return lambda text: not inner(text)
        if peek() == "(":
            take()
            inner = either()
            if peek() != ")":
                raise _error(expression, tokens, position, "a closing parenthesis")
            take()
            return inner
        if peek() in ("", ")", "and", "or"):
            raise _error(expression, tokens, position, "a word")
        word = take().lower()
        return lambda text: word in text.lower()

    whole = either()
    if position < len(tokens):
        raise _error(expression, tokens, position, "and, or, or the end")
    return whole


def _or(a: Callable[[str], bool], b: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: a(text) or b(text)


def _and(a: Callable[[str], bool], b: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: a(text) and b(text)


def _error(expression: str, tokens: list[str], position: int, wanted: str) -> SelectionError:
    found = f'"{tokens[position]}"' if position < len(tokens) else "its end"
    return SelectionError(f'-k "{expression}": {wanted} should stand where {found} is')
