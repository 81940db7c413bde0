"""Render explanations for a terminal, as Markdown, and as data.

Terminal lines have at most 80 columns, except words that are longer and text to be copied, which is not wrapped.
"""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any

from conformance.explain.blocks import render_blocks
from conformance.explain.explanation import Explanation
from conformance.model.text import printable, source_or_comment
from conformance.report.markdown import code, escaped, fenced_block

WIDTH = 80
INDENT = 4
MAX_PARAGRAPH = 100_000
"""Maximum number of characters of one paragraph in Markdown, which is not wrapped."""
_JSON_KEYS = {
    "omitted": "left_out",
    "undefined_text": "instead",
    "tolerance": "allowed",
    "error_ratio": "ratio",
    "location": "place",
    "message": "because",
    "conversion_effect": "bridge",
    "decomposition": "split",
    "skipped": "unasked",
    "index": "where",
    "steps": "lines",
    "definition_formula": "rule",
    "expected": "want",
    "actual": "got",
    "outcome": "got",
    "ledger_status": "expected",
    "known_issue": "ledger",
    "documentation_url": "source",
}
"""Keys of the published JSON that differ from the names of the fields."""


def terminal(explanation: Explanation, width: int = WIDTH, *, complete: bool = True) -> Iterator[tuple[str, str]]:
    """Yield pairs (style, line) for rich; the style is `bold`, `dim` or empty and may be ignored.

    width: number of columns, of which at most `WIDTH` are used.  complete: see `render_blocks`.
    """
    width = min(width, WIDTH)
    for kind, text, level in render_blocks(explanation, complete=complete):
        match kind:
            case "heading":
                if level > 1:
                    yield "", ""
                yield from (("bold", line) for line in _wrap(text, width, 0))
            case "prose":
                yield from (("", line) for line in _wrap(text, width, INDENT // 2, 0))
            case "formula":
                yield from (("", line) for line in _wrap(text, width, INDENT * level))
            case "code":
                yield from (("dim", " " * INDENT * level + line) for line in printable(text).splitlines())


def _wrap(text: str, width: int, indent: int, hanging: int = INDENT // 2) -> list[str]:
    return textwrap.wrap(
        printable(" ".join(text.split())),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hanging),
        break_on_hyphens=False,
        break_long_words=False,
    )


def markdown(explanation: Explanation) -> str:
    """Render as Markdown, with formulas in code blocks so that they are not parsed as markup."""
    parts: list[str] = []
    for is_formula, blocks in itertools.groupby(render_blocks(explanation), lambda block: block.kind == "formula"):
        if is_formula:
            lines = ["  " * (level - 1) + printable(" ".join(text.split())) for _, text, level in blocks]
            parts.append(fenced_block("\n".join(lines), "text"))
            continue
        for kind, text, level in blocks:
            if kind != "code":
                mark = f"{'#' * (level + 1)} " if kind == "heading" else ""
                parts.append(mark + escaped(text, MAX_PARAGRAPH))
            elif "\n" in text.strip():
                parts.append(fenced_block(text, "python"))
            else:
                parts.append(code(source_or_comment(text, MAX_PARAGRAPH), MAX_PARAGRAPH))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def serialize_explanation(explanation: Explanation) -> dict[str, Any]:
    """The explanation as builtin values."""
    return dict(_with_json_keys(dataclasses.asdict(explanation)))


def _with_json_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_JSON_KEYS.get(name, name): _with_json_keys(inner) for name, inner in value.items()}
    return list(map(_with_json_keys, value)) if isinstance(value, list | tuple) else value
