"""Compare two reports on disk, and count and group their changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from conformance import report
from conformance.comparison.changes import CAUSES, KINDS, SEVERITIES, Level, Scope, compare_results, fails, scope_of
from conformance.comparison.errors import ComparisonError
from conformance.judging.row import listed_in
from conformance.report.frames import Frame, PackedFrame

GROUP = ["severity", "function", "kinds", "cause", "transition"]
"""Columns that are equal in all rows of a group."""
GROUP_COLUMNS = (
    *GROUP, "rows", "cases", "ulps", "budgets", "case", "dtype", "reduction", "quantity", "old_version", "new_version",
    "what", "call",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Side:
    """One of two reports."""

    name: str
    run: dict[str, Any]
    """Content of the report's `run.json`."""

    @property
    def versions(self) -> dict[str, str]:
        """Version by framework; several are joined by commas."""
        return {str(name): str(version) for name, version in sorted(dict(self.run.get("versions") or {}).items())}


@dataclass(frozen=True, eq=False)
class ReportDifference:
    """The changes between two reports."""

    old: Side
    new: Side
    changes: pd.DataFrame
    """The result of `changes.compare_results`."""

    @property
    def changed(self) -> pd.DataFrame:
        """The changes without unchanged rows."""
        return self.changes[self.changes["severity"] != "unchanged"]

    def fails(self, level: Level) -> bool:
        """See `changes.fails`."""
        return fails(self.changes, level)


def read_complete(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a report.  Raises ReportError if it cannot be read, ComparisonError if its run ended early."""
    results, run = report.read(path)
    if not run.get("complete"):
        finished = f"{run.get('finished', len(results))} of {run.get('planned', '?')} rows were finished"
        why = ", ".join(filter(None, (finished, str(run.get("interrupted", "")))))
        raise ComparisonError(
            path, f"is incomplete ({why}), so what it lacks would look lost", "run it again to its end"
        )
    return results, run


def read_packed(path: Path) -> tuple[PackedFrame, dict[str, Any]]:
    """Read a report as `read_complete` does, in a small part of the memory."""
    results, run = read_complete(path)
    return PackedFrame(results), run


def difference(old: Path, new: Path) -> ReportDifference:
    """Compare two reports, files or folders.  Raises ReportError or ComparisonError if they cannot be compared."""
    (before, old_run), (after, new_run) = read_packed(old), read_packed(new)
    scopes = scope_of_run(before, old_run), scope_of_run(after, new_run)
    sides = Side(str(old), old_run), Side(str(new), new_run)
    return ReportDifference(*sides, compare_results(before, after, (sides[0].name, sides[1].name), scopes))


def scope_of_run(results: Frame, run: dict[str, Any]) -> Scope:
    """The scope of a run by its rows and its frameworks; empty for a selection, whose scope is not recorded."""
    frameworks = {*dict(run.get("versions") or {}), *(run.get("missing") or ())}
    of_rows, complete = scope_of(results), not run.get("selected")

    return lambda rows: of_rows(rows) & rows["framework"].isin(frameworks).to_numpy(dtype=bool) & complete


def group_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Group changes with equal severity, function, kinds, cause and transition, worst first.

    Returns a frame with the columns GROUP_COLUMNS:
        rows, cases: counts.
        ulps, budgets: maxima.
        case and the columns after it: of the worst row.
    """
    changed = table[table["severity"] != "unchanged"]
    sums = changed.groupby(GROUP, sort=False).agg(
        rows=("case", "size"), cases=("case", "nunique"), ulps=("ulps", "max"), budgets=("budgets", "max")
    )
    worst = changed.drop_duplicates(GROUP).drop(columns=["ulps", "budgets"])
    return worst.merge(sums, left_on=GROUP, right_index=True)[list(GROUP_COLUMNS)].reset_index(drop=True)


def by_severity(table: pd.DataFrame) -> dict[str, int]:
    """Count the rows of each severity that occurs, worst first."""
    return _counts(table["severity"], SEVERITIES)


def by_kind(table: pd.DataFrame) -> dict[str, int]:
    """Count the rows of each kind that occurs, worst first; a row of several kinds counts for each."""
    return _counts(table["kinds"].map(listed_in).explode(), KINDS)


def by_cause(table: pd.DataFrame) -> dict[str, int]:
    """Count the changed rows of each cause that occurs."""
    return _counts(table["cause"], CAUSES)


def by_function(table: pd.DataFrame) -> pd.DataFrame:
    """Count rows by function and severity, including functions without changes."""
    counts = pd.crosstab(table["function"], table["severity"])
    return counts.reindex(columns=list(SEVERITIES), fill_value=0).astype("int64")


def _counts(column: pd.Series, names: tuple[str, ...]) -> dict[str, int]:
    counts = column.value_counts()
    return {name: int(counts[name]) for name in names if name in counts.index}
