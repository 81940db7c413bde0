"""The changes over the releases of a framework, and the errors of correct answers, from the committed reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from conformance.comparison.alignment import version_key
from conformance.comparison.history import RUN_WERE
from conformance.docs.markup import code_html, escaped, link, table
from conformance.model.case import DTYPES, QUANTITIES
from conformance.report.frames import largest_ratios

ANNOUNCEMENT_LINK = re.compile(r"(.*?)\s*\(?(https?://[^\s()]+)\)?", re.DOTALL)
COLUMNS = ("function", "what", "rows", "for example", "announced")
KINDS = {
    "convention": "conventions",
    "regression": "regressions",
    "improvement": "improvements",
    "change": "other changes",
    "support": "support",
    "exception": "exceptions",
    "warning": "warnings",
}
"""Kinds of changes in a history -> heading of their number."""
FOLDER = "releases"
"""Folder of the library pages."""


@dataclass(frozen=True)
class LibraryHistory:
    """The changes in a library over its releases."""

    changes: pd.DataFrame
    """The columns of `history.csv`, as text."""
    page: str
    """The content of `history.md`."""

    @property
    def run(self) -> list[str]:
        """For each group of environments, a sentence with the executed releases."""
        return [line for line in self.page.splitlines() if line.startswith(RUN_WERE)]

    @property
    def releases(self) -> list[str]:
        """The executed releases, ascending."""
        listed = (line.removeprefix(RUN_WERE).partition(". ")[0].rstrip(".") for line in self.run)
        return sorted({version for line in listed for version in line.split(", ")}, key=version_key)


def releases_overview(histories: Mapping[str, LibraryHistory]) -> str:
    """The number of changes of each kind by library, with links to its page, as a Markdown table."""
    lines = []
    for name, history in histories.items():
        versions = history.releases
        counts = [str((history.changes["kind"] == kind).sum() or "") for kind in KINDS]
        lines.append([f"[{escaped(name)}]({FOLDER}/{name}.md)", escaped(versions[0]), escaped(versions[-1]), *counts])
    return table(("library", "from", "to", *KINDS.values()), lines)


def releases(history: LibraryHistory) -> str:
    """Every change of a library, newest release first, as Markdown."""
    parts = [f"{escaped(line)}\n" for line in history.run]
    for framework, changes in history.changes.groupby("framework", sort=True):
        for release in reversed(list(dict.fromkeys(changes["release"]))):
            records = changes[changes["release"] == release].to_dict("records")
            parts.append(f"## {escaped(framework)} {escaped(release)}, after {escaped(records[0]['after'])}\n")
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
    """Links to the documentation of a change; else its known issue; else "no"."""
    if change["documented"] == "yes":
        return ", ".join(link("documented", source) for source in change["source"].split()) or "documented"
    match = ANNOUNCEMENT_LINK.fullmatch(change["source"])
    if match:
        return f"a bug: {link(match[1] or match[2], match[2])}"
    return f"a bug: {escaped(change['source'])}" if change["source"] else "no"


def case_table(results: pd.DataFrame) -> str:
    """The largest error, in budgets and in ulps, of each function over the cases, as Markdown."""
    largest = largest_ratios(results)
    parts = []
    for quantity in QUANTITIES:
        errors = largest[largest["quantity"] == quantity]
        lines = [
            [
                code_html(name),
                *(
                    _accuracy_cell(errors_of_function[errors_of_function["dtype"] == dtype].to_dict("records"))
                    for dtype in DTYPES
                ),
            ]
            for name, errors_of_function in errors.groupby("function", sort=True)
        ]
        if lines:
            parts.append(f"### The {quantity.replace('_', ' ')}\n\n{table(('function', *DTYPES), lines)}")
    return "\n".join(parts)


def _accuracy_cell(rows: Sequence[Any]) -> str:
    """The largest error divided by its budget, and the number of compared rows."""
    return f"{rows[0]['ratio']:.3g} ({rows[0]['rows']})" if rows else ""


def sweep_table(page: str) -> str:
    """The Markdown of `conformance sweep`, with its headings one level lower."""
    lines = page.splitlines()
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines if line != "# Sweep") + "\n"


def summary(page: str) -> str:
    """The first table of the Markdown of a sweep: one line per function and kind of input."""
    return sweep_table(page.partition("\n## ")[0])
