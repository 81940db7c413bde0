"""What changed over the releases of a framework, and the errors of correct answers: from the committed reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conformance.docs.markup import code_html, escaped, link, table
from conformance.model.case import DTYPES, QUANTITIES
from conformance.report.frames import largest_ratios

ANNOUNCEMENT_LINK = re.compile(r"(.*?)\s*\(?(https?://[^\s()]+)\)?", re.DOTALL)
COLUMNS = ("function", "what", "rows", "for example", "announced")


def releases(history: pd.DataFrame) -> str:
    """Every change of a history, newest release first, as Markdown; history: the columns of `history.csv`, as text."""
    parts = []
    for framework, changes in history.groupby("framework", sort=True):
        parts.append(f"## {escaped(framework)}\n")
        for release in reversed(list(dict.fromkeys(changes["release"]))):
            records = changes[changes["release"] == release].to_dict("records")
            parts.append(f"### {escaped(framework)} {escaped(release)}, after {escaped(records[0]['after'])}\n")
            parts.append(
                table(COLUMNS, [_line({str(name): str(cell) for name, cell in change.items()}) for change in records])
            )
    return "\n".join(parts)


def _line(change: Mapping[str, str]) -> list[str]:
    moved = f", farthest {change['shift']}" if change["shift"] else ""
    return [
        code_html(change["function"]),
        escaped(f"{change['kind']}: {change['what']}{moved}"),
        change["rows"] if change["rows"].isdigit() else escaped(change["rows"]),
        f"{code_html(change['case'])}<br>{code_html(change['before'])} &rarr; {code_html(change['answer'])}",
        _announcement(change),
    ]


def _announcement(change: Mapping[str, str]) -> str:
    """Links to the documentation of a change; else the known issue that it is; else "no"."""
    if change["documented"] == "yes":
        return ", ".join(link("documented", source) for source in change["source"].split()) or "documented"
    found = ANNOUNCEMENT_LINK.fullmatch(change["source"])
    if found:
        return f"a bug: {link(found[1] or found[2], found[2])}"
    return f"a bug: {escaped(change['source'])}" if change["source"] else "no"


def case_table(results: pd.DataFrame) -> str:
    """The largest error, in budgets and in ulps, of each function over the cases, as Markdown."""
    found = largest_ratios(results)
    parts = []
    for quantity in QUANTITIES:
        errors = found[found["quantity"] == quantity]
        lines = [
            [code_html(name), *(_accuracy_cell(own[own["dtype"] == dtype].to_dict("records")) for dtype in DTYPES)]
            for name, own in errors.groupby("function", sort=True)
        ]
        if lines:
            parts.append(f"### The {quantity.replace('_', ' ')}\n\n{table(('function', *DTYPES), lines)}")
    return "\n".join(parts)


def _accuracy_cell(rows: Sequence[Any]) -> str:
    """The largest error divided by its budget, and the number of rows that were compared."""
    return f"{rows[0]['ratio']:.3g} ({rows[0]['rows']})" if rows else ""


def sweep_table(page: str) -> str:
    """The Markdown of `conformance sweep`, with its headings one level lower."""
    lines = page.splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines if line != "# Sweep") + "\n"


def summary(page: str) -> str:
    """The first table of such Markdown: one line per function and kind of input."""
    return sweep_table(page.partition("\n## ")[0])
