"""What changed over the releases of a framework, from the committed history."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from conformance.docs.markup import code_html, escaped, link, table

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
