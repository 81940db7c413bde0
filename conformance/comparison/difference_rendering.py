"""Render a difference as Markdown, as CSV, as builtin values and for a terminal.

Text from a report is not trusted: it is escaped for Markdown, guarded for spreadsheets, and can neither
colour nor clear a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from conformance.comparison.changes import SEVERITIES
from conformance.comparison.reports import (
    ReportDifference,
    Side,
    by_cause,
    by_function,
    by_kind,
    by_severity,
    group_changes,
)
from conformance.model.text import format_count, one_line, printable
from conformance.report.files import guard_formula
from conformance.report.frames import records
from conformance.report.markdown import bounded, code, escaped, format_number, remaining, table, terminal_table

FORMAT = 1
"""Version of the layout of `as_dict`."""
MAX_GROUPS, MAX_TERMINAL_GROUPS = 40, 20
"""Maximum number of groups of a severity in Markdown and in a terminal."""
MAX_LINE = 400
"""Maximum number of characters of a line in a terminal."""
HEADINGS = {"regression": "Regressions", "change": "Changes", "improvement": "Improvements", "note": "Notes"}
COLOURS = {"regression": "bold red", "change": "yellow", "improvement": "green", "note": "dim"}


def headline(difference: ReportDifference) -> str:
    """Count rows by severity: `2 regressions, 1 change, 11965 unchanged`."""
    counts = by_severity(difference.changes)
    texts = [f"{count} {name}" if name == "unchanged" else format_count(count, name) for name, count in counts.items()]
    return ", ".join(texts) or "no rows"


def context(difference: ReportDifference) -> list[str]:
    """`keras 2.15.0 -> 3.15.1` for each framework of either side, and other differences between the runs."""
    sides = {"old": difference.old, "new": difference.new}
    old, new = (side.versions for side in sides.values())
    lines = []
    for name in sorted({*old, *new}):
        before, after = old.get(name, "not run"), new.get(name, "not run")
        lines.append(f"{name} {before}" if before == after else f"{name} {before} -> {after}")
    for age, side in sides.items():
        if part := side.run.get("selected"):
            lines.append(f"the {age} report is a part ({part}), so what lies outside of it was not called there")
    programs = [dict(side.run.get("host") or {}).get("conformance", "") for side in sides.values()]
    if programs[0] != programs[1]:
        before, after = (program or "unknown" for program in programs)
        lines.append(f"conformance {before} -> {after}, so the judgement may differ")
    return lines


def markdown(difference: ReportDifference) -> str:
    """Render as Markdown: the totals, then the changes by cause, worst first; its length is bounded like a summary."""
    names = f"From {code(difference.old.name)} to {code(difference.new.name)}"
    sections = ["# What changed\n", f"{names}: **{headline(difference)}**.\n"]
    if lines := context(difference):
        sections.append(", ".join(map(escaped, lines)) + ".\n")
    sections.append(_sums(difference))
    grouped = group_changes(difference.changes)
    for severity, heading in HEADINGS.items():
        groups = grouped[grouped["severity"] == severity]
        if not groups.empty:
            sections.append(f"## {heading}\n\n{_group_table(groups)}")
    return bounded("\n".join(sections), "the CSV and the JSON have every row")


def as_csv(difference: ReportDifference) -> str:
    """Every changed row as CSV, guarded for spreadsheets."""
    changed = difference.changed
    texts = changed.select_dtypes(exclude="number").columns
    safe = changed.assign(
        **{name: [guard_formula(printable(text)) for text in changed[name].tolist()] for name in texts}
    )
    return str(safe.to_csv(index=False, lineterminator="\n"))


def as_dict(difference: ReportDifference) -> dict[str, Any]:
    """The totals, the groups and every changed row as builtin values; an infinity is the text `inf`, a NaN None."""
    table = difference.changes
    return {
        "format": FORMAT,
        "old": _side_record(difference.old),
        "new": _side_record(difference.new),
        "severity": by_severity(table),
        "kinds": by_kind(table),
        "cause": by_cause(table),
        "functions": {
            str(name): {severity: int(line[severity]) for severity in SEVERITIES}
            for name, line in by_function(table).iterrows()
        },
        "groups": _json_records(group_changes(table)),
        "changes": _json_records(difference.changed),
    }


PAGE_COLUMNS = (
    "severity", "kinds", "cause", "framework", "function", "case", "dtype", "reduction", "quantity", "old_version",
    "new_version", "old_status", "new_status", "old_got", "new_got", "old_convention", "new_convention",
    "old_exception", "new_exception", "budgets", "ulps", "what", "call",
)  # fmt: skip
"""Columns of a change that a report's page shows."""


def page_changes(difference: ReportDifference) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the changed rows, worst first, and sentences about the changes as a whole, for a report's page."""
    sentences = [f"{difference.old.name} -> {difference.new.name}: {headline(difference)}", *context(difference)]
    return _json_records(difference.changed[list(PAGE_COLUMNS)]), sentences


def terminal(difference: ReportDifference) -> Iterator[RenderableType]:
    """Render for a terminal of 80 columns, readable without colour."""
    yield Text(f"{bounded_line(difference.old.name)} -> {bounded_line(difference.new.name)}: {headline(difference)}")
    for line in context(difference):
        yield Text(f"  {bounded_line(line)}")
    changed = difference.changed
    if changed.empty:
        return
    yield Text(f"kinds: {_counts_text(by_kind(changed))}")
    yield Text(f"cause: {_counts_text(by_cause(changed))}")
    yield Text("")
    yield _function_table(difference.changes)
    grouped = group_changes(changed)
    for severity, heading in HEADINGS.items():
        groups = grouped[grouped["severity"] == severity]
        if not groups.empty:
            yield from heading_lines(f"{heading}, by cause")
            for group in records(groups.head(MAX_TERMINAL_GROUPS)):
                yield from indented_lines(group_lines(group), COLOURS[severity])
        if len(groups) > MAX_TERMINAL_GROUPS:
            yield Text(f"... and {len(groups) - MAX_TERMINAL_GROUPS} more; --format csv has every row")


def group_lines(group: Mapping[str, Any]) -> list[str]:
    """Render a group as plain text: the change, the number of rows, and the worst row."""
    cause = f" ({group['cause']})" if group["cause"] else ""
    cases = f" of {group['cases']} cases" if group["cases"] > 1 else ""
    where = " ".join(bounded_line(group[name]) for name in ("case", "dtype", "reduction"))
    worst = f"{where}: {bounded_line(group['what'])}"
    lines = [bounded_line(f"{group['function']}: {group['kinds']}{cause}, {format_count(group['rows'], 'row')}{cases}")]
    return [*lines, *(f"    {text}" for text in (bounded_line(group["transition"]), worst) if text)]


def heading_lines(text: str) -> Iterator[RenderableType]:
    """A heading in a terminal."""
    yield Text("")
    yield Text(text, style="bold")


def indented_lines(lines: list[str], colour: str) -> Iterator[RenderableType]:
    """A coloured line in a terminal, followed by indented lines."""
    head, *details = lines
    yield Text(head, style=colour)
    for text in details:
        yield Padding(Text(text.strip()), (0, 0, 0, 4), expand=False)


def bounded_line(text: Any) -> str:
    """Printable text on one line of bounded length."""
    return one_line(text, MAX_LINE)


def _function_table(changes: pd.DataFrame) -> Table:
    counts = by_function(changes)
    names = [name for name in SEVERITIES if counts[name].any()]
    result = terminal_table(["function", *names])
    framework = ""
    for function, line in counts.iterrows():
        prefix, _, name = bounded_line(function).partition(".")
        if prefix != framework:
            framework = prefix
            result.add_row(Text(framework))
        result.add_row(Text(f" {name or prefix}"), *(str(line[column] or "") for column in names))
    return result


def _sums(difference: ReportDifference) -> str:
    changed = difference.changed
    if changed.empty:
        return "Nothing changed.\n"
    kinds, causes = escaped(_counts_text(by_kind(changed)), 400), escaped(_counts_text(by_cause(changed)))
    counts = by_function(difference.changes)
    names = [name for name in SEVERITIES if counts[name].any()]
    rows = [
        [code(name), *(line[severity] or "" for severity in names)]
        for name, line in counts.head(2 * MAX_GROUPS).iterrows()
    ]
    function_table = f"{table(['function', *names], rows)}{remaining(len(counts), len(rows))}"
    return f"Kinds: {kinds}.\n\nCause: {causes}.\n\n{function_table}"


def _group_table(groups: pd.DataFrame) -> str:
    rows = [
        [
            code(group["function"]),
            escaped(group["kinds"]),
            group["cause"],
            group["rows"],
            escaped(group["transition"]),
            format_number(group["budgets"]),
            code(f"{group['case']} {group['dtype']} {group['reduction']}"),
            escaped(group["what"], 240),
        ]
        for group in records(groups.head(MAX_GROUPS))
    ]
    header = ["function", "kinds", "cause", "rows", "what they share", "budgets", "worst in", "what"]
    return f"{table(header, rows)}{remaining(len(groups), len(rows))}"


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _side_record(side: Side) -> dict[str, Any]:
    names = ("complete", "planned", "finished", "versions", "missing", "host", "started")
    return {"report": side.name, **{name: side.run[name] for name in names if name in side.run}}


def _json_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _json_value(value) for name, value in row.items()} for row in records(rows)]


def _json_value(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)
