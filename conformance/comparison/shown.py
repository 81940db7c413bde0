"""A difference for people and for machines: Markdown, CSV, JSON, a terminal.

Text of a report is somebody else's: it is escaped for Markdown, guarded for spreadsheets, and can neither
colour nor clear a terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from conformance.comparison.alignment import records
from conformance.comparison.changes import SEVERITIES
from conformance.comparison.comparing import Difference, by_cause, by_function, by_kind, by_severity, groups
from conformance.model.text import counted, one_line, printable
from conformance.report.files import guarded
from conformance.report.markdown import at_joints, bounded, code, plain, table

Format = Literal["terminal", "markdown", "csv", "json"]
FORMAT = 1
"""Version of the layout of `as_json`."""
LINES = 40
"""Groups of a severity in Markdown."""
SHOWN = 20
"""Groups of a severity in a terminal."""
PLURAL = {"regression": "regressions", "change": "changes", "improvement": "improvements", "note": "notes"}
HEADINGS = {
    "regression": "Regressions",
    "change": "Changes",
    "improvement": "Improvements",
    "note": "Notes",
}
_COLOURS = {"regression": "bold red", "change": "yellow", "improvement": "green", "note": "dim"}


def headline(found: Difference) -> str:
    """`2 regressions, 1 change, 11965 unchanged`."""
    counts = by_severity(found.changes)
    told = [f"{count} {PLURAL.get(name, name) if count != 1 else name}" for name, count in counts.items()]
    return ", ".join(told) or "no rows"


def moved(found: Difference) -> list[str]:
    """`keras 2.15.0 -> 3.15.1`, for every framework of either side, and what else makes the two differ."""
    old_side, new_side = found.old, found.new
    old, new = old_side.versions, new_side.versions
    told = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, "not run"), new.get(name, "not run")
        told.append(f"{name} {before}" if before == after else f"{name} {before} -> {after}")
    for which, side in (("old", old_side), ("new", new_side)):
        parts = (str(side.run.get("selected") or ""), ", ".join(side.run.get("shards") or ()))
        if part := "; ".join(filter(None, parts)):
            told.append(f"the {which} report is a part ({part}), so what lies outside of it was not asked there")
    hosts = [dict(side.run.get("host") or {}).get("conformance", "") for side in (old_side, new_side)]
    if hosts[0] != hosts[1]:
        told.append(f"conformance {hosts[0] or 'unknown'} -> {hosts[1] or 'unknown'}, so the judgement may differ")
    return told


def markdown(found: Difference) -> str:
    """A difference in Markdown: the sums, then what changed by cause, worst first; bounded as a summary is."""
    sections = ["# What changed\n", f"From {code(found.old.name)} to {code(found.new.name)}: **{headline(found)}**.\n"]
    if told := moved(found):
        sections.append(", ".join(map(plain, told)) + ".\n")
    sections.append(_sums(found.changes))
    grouped = groups(found.changes)
    for severity, heading in HEADINGS.items():
        lines = grouped[grouped["severity"] == severity]
        if not lines.empty:
            sections.append(f"## {heading}\n\n{_markdown_groups(lines)}")
    return bounded("\n".join(sections), "the CSV and the JSON have every row")


def as_csv(found: Difference) -> str:
    """Every row that changed, as CSV; what a spreadsheet would run as a formula has an apostrophe in front."""
    changed = found.changes[found.changes["severity"] != "unchanged"]
    texts = changed.select_dtypes(exclude="number").columns
    safe = changed.assign(**{name: [guarded(printable(text)) for text in changed[name].tolist()] for name in texts})
    return str(safe.to_csv(index=False, lineterminator="\n"))


def as_json(found: Difference) -> str:
    """The sums, the groups and every row that changed, as JSON; an infinity is the text `inf`, a nan null."""
    changed = found.changes[found.changes["severity"] != "unchanged"]
    record = {
        "schema": f"conformance.diff/{FORMAT}",
        "format": FORMAT,
        "old": _side(found.old.name, found.old.run),
        "new": _side(found.new.name, found.new.run),
        "severity": by_severity(found.changes),
        "kinds": by_kind(found.changes),
        "cause": by_cause(found.changes),
        "functions": {
            str(name): {severity: int(line[severity]) for severity in SEVERITIES}
            for name, line in by_function(found.changes).iterrows()
        },
        "groups": _records(groups(found.changes)),
        "changes": _records(changed),
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


PAGED = (
    "severity", "kinds", "cause", "framework", "function", "case", "dtype", "reduction", "quantity", "old_version",
    "new_version", "old_status", "new_status", "old_got", "new_got", "old_convention", "new_convention",
    "old_exception", "new_exception", "budgets", "ulps", "what", "call",
)  # fmt: skip
"""What a report's page shows of a change."""


def paged(found: Difference) -> tuple[list[dict[str, Any]], list[str]]:
    """(changed rows, worst first, what is said of them as a whole), for a page."""
    changed = found.changes[found.changes["severity"] != "unchanged"]
    said = [f"{found.old.name} -> {found.new.name}: {headline(found)}", *moved(found)]
    return _records(changed[list(PAGED)]), said


def terminal(found: Difference, most: int = SHOWN) -> Iterator[RenderableType]:
    """A difference for a terminal of 80 columns, without need of colour.  most: groups of a severity."""
    yield Text(f"{_clean(found.old.name)} -> {_clean(found.new.name)}: {headline(found)}")
    for told in moved(found):
        yield Text(f"  {_clean(told)}")
    changed = found.changes[found.changes["severity"] != "unchanged"]
    if changed.empty:
        return
    yield Text(f"kinds: {_told(by_kind(changed))}")
    yield Text(f"cause: {_told(by_cause(changed))}")
    yield Text("")
    yield _function_table(found.changes)
    grouped = groups(changed)
    for severity, heading in HEADINGS.items():
        lines = grouped[grouped["severity"] == severity]
        if lines.empty:
            continue
        yield Text("")
        yield Text(f"{heading}, by cause", style="bold")
        for line in records(lines.head(most)):
            yield from _terminal_group(line, _COLOURS[severity])
        if len(lines) > most:
            yield Text(f"... and {len(lines) - most} more; --format csv has every row")


def group_lines(line: dict[str, Any]) -> list[str]:
    """A group as plain text: what it is, how many, and its worst row."""
    head = f"{line['function']}: {line['kinds']}"
    if line["cause"]:
        head += f" ({line['cause']})"
    head += f", {counted(line['rows'], 'row')}"
    if line["cases"] > 1:
        head += f" of {line['cases']} cases"
    lines = [_clean(head)]
    if line["transition"]:
        lines.append(f"    {_clean(line['transition'])}")
    lines.append(
        f"    {_clean(line['case'])} {_clean(line['dtype'])} {_clean(line['reduction'])}: {_clean(line['what'])}"
    )
    return lines


def _terminal_group(line: dict[str, Any], colour: str) -> Iterator[RenderableType]:
    head, *rest = group_lines(line)
    yield Text(head, style=colour, overflow="fold")
    for text in rest:
        yield Padding(Text(text.strip(), overflow="fold"), (0, 0, 0, 4))


def _function_table(changes: pd.DataFrame) -> Table:
    counts = by_function(changes)
    names = [name for name in SEVERITIES if counts[name].any()]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("function", overflow="fold")
    for name in names:
        shown.add_column(name, justify="right", overflow="fold")
    framework = ""
    for function, line in counts.iterrows():
        whose, _, own = _clean(function).partition(".")
        if whose != framework:
            framework = whose
            shown.add_row(Text(framework))
        shown.add_row(Text(at_joints(own or whose)), *(str(line[name]) if line[name] else "" for name in names))
    return shown


def _sums(changes: pd.DataFrame) -> str:
    changed = changes[changes["severity"] != "unchanged"]
    if changed.empty:
        return "Nothing changed.\n"
    told = f"Kinds: {plain(_told(by_kind(changed)), 400)}.\n\nCause: {plain(_told(by_cause(changed)))}.\n"
    counts = by_function(changes)
    names = [name for name in SEVERITIES if counts[name].any()]
    rows = [[code(name), *(line[severity] or "" for severity in names)] for name, line in counts.iterrows()][
        : 2 * LINES
    ]
    return f"{told}\n{table(['function', *names], rows)}{_more(len(counts), len(rows))}"


def _markdown_groups(lines: pd.DataFrame) -> str:
    rows = [
        [
            code(line["function"]),
            plain(line["kinds"]),
            line["cause"],
            line["rows"],
            plain(line["transition"]),
            _number(line["budgets"]),
            code(f"{line['case']} {line['dtype']} {line['reduction']}"),
            plain(line["what"], 240),
        ]
        for line in records(lines.head(LINES))
    ]
    header = ["function", "kinds", "cause", "rows", "what they share", "budgets", "worst in", "what"]
    return f"{table(header, rows)}{_more(len(lines), len(rows))}"


def _more(there: int, shown: int) -> str:
    return f"\n*... and {there - shown} more.*\n" if there > shown else ""


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _clean(text: Any) -> str:
    return one_line(text, 400)


def _side(name: str, run: dict[str, Any]) -> dict[str, Any]:
    kept = ("complete", "planned", "finished", "versions", "missing", "host", "started")
    return {"report": name, **{key: run[key] for key in kept if key in run}}


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _json(value) for name, value in line.items()} for line in records(rows)]


def _json(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


__all__ = ["Format", "as_csv", "as_json", "group_lines", "headline", "markdown", "moved", "paged", "terminal"]
