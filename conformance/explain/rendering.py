"""Explanations for a terminal, for Markdown, and for machines.

In a terminal everything fits 80 columns but what is to be copied, which stands on a line of its own.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from typing import Any, assert_never

from conformance.explain.blocks import Code, Formula, Heading, Prose, told
from conformance.explain.explanation import Explanation
from conformance.model.text import printable, whole
from conformance.report.markdown import code, plain

WIDTH = 80
INDENT = 4
LONGEST = 100_000
"""Characters of one paragraph in Markdown, where nothing is wrapped."""


def terminal(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """(style, line) for rich, which may leave the style out; style is `bold`, `dim` or empty."""
    for block in told(explanation):
        match block:
            case Heading(text, level):
                if level > 1:
                    yield "", ""
                yield from (("bold", line) for line in _wrapped(text, 0))
            case Prose(text):
                yield from (("", line) for line in _wrapped(text, INDENT // 2, 0))
            case Formula(text, depth):
                yield from (("", line) for line in _wrapped(text, INDENT * depth))
            case Code(text, depth):
                yield from (("dim", " " * INDENT * depth + line) for line in printable(text).splitlines())
            case _:
                assert_never(block)


def _wrapped(text: str, indent: int, hanging: int = INDENT // 2) -> list[str]:
    return textwrap.wrap(
        printable(" ".join(text.split())),
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
    )


def markdown(explanation: Explanation) -> str:
    """The same as Markdown: formulas as code blocks, so that nothing in them is taken for markup."""
    parts: list[str] = []
    lines: list[str] = []

    def close() -> None:
        if lines:
            parts.append(_fenced("\n".join(lines), "text"))
            lines.clear()

    for block in told(explanation):
        if not isinstance(block, Formula):
            close()
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * (level + 1)} {plain(text, LONGEST)}")
            case Prose(text):
                parts.append(plain(text, LONGEST))
            case Formula(text, depth):
                lines.append("  " * (depth - 1) + printable(" ".join(text.split())))
            case Code(text) if "\n" not in text.strip():
                parts.append(code(whole(text, LONGEST), LONGEST))
            case Code(text):
                parts.append(_fenced(printable(text), "python"))
            case _:
                assert_never(block)
    close()
    return "\n\n".join(parts) + "\n"


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def as_data(explanation: Explanation) -> dict[str, Any]:
    """The explanation as JSON has it: numbers that are not finite as strings, nothing else changed."""
    found: dict[str, Any] = _plain(dataclasses.asdict(explanation))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
