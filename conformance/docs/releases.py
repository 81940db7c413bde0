"""What changed over the releases of a framework, from the committed history."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from conformance.docs.markup import code, link, plain, rows

ANNOUNCEMENT_LINK = re.compile(r"(.*?)\s*\(?(https?://[^\s()]+)\)?", re.DOTALL)
COLUMNS = ("function", "what", "rows", "for example", "announced")


def releases(history: pd.DataFrame) -> str:
    """Every change of a history, newest release first, as Markdown; history: the columns of `history.csv`, as text."""
    parts = []
    for framework, changes in history.groupby("framework", sort=True):
        parts.append(f"## {plain(framework)}\n")
        for release in reversed(list(dict.fromkeys(changes["release"]))):
            of = changes[changes["release"] == release].to_dict("records")
            parts.append(f"### {plain(framework)} {plain(release)}, after {plain(of[0]['after'])}\n")
            parts.append(
                rows(COLUMNS, [_line({str(name): str(cell) for name, cell in change.items()}) for change in of])
            )
    return "\n".join(parts)


def _line(change: Mapping[str, str]) -> list[str]:
    moved = f", farthest {change['shift']}" if change["shift"] else ""
    return [
        code(change["function"]),
        plain(f"{change['kind']}: {change['what']}{moved}"),
        change["rows"] if change["rows"].isdigit() else plain(change["rows"]),
        f"{code(change['case'])}<br>{code(change['before'])} &rarr; {code(change['answer'])}",
        _announcement(change),
    ]


def _announcement(change: Mapping[str, str]) -> str:
    """Where a change is documented; else what the ledger says of it; else that it is not."""
    if change["documented"] == "yes":
        return ", ".join(link("documented", source) for source in change["source"].split()) or "documented"
    found = ANNOUNCEMENT_LINK.fullmatch(change["source"])
    if found:
        return f"a bug: {link(found[1] or found[2], found[2])}"
    return f"a bug: {plain(change['source'])}" if change["source"] else "no"


__all__ = ["COLUMNS", "releases"]
