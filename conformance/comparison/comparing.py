"""Two reports on disk, compared: the changes, and the sums and groups that are told about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from conformance import report
from conformance.comparison.changes import CAUSES, KINDS, SEVERITIES, Flags, changes, fails, was_asked
from conformance.comparison.refusal import AuditError
from conformance.judging.row import listed_in

GROUP = ["severity", "function", "kinds", "cause", "transition"]
"""What rows of one cause have in common."""
GROUP_COLUMNS = (
    *GROUP, "rows", "cases", "ulps", "budgets", "case", "dtype", "reduction", "quantity", "old_version", "new_version",
    "what", "call",
)  # fmt: skip
"""Columns of `groups`: what the rows have in common, how many they are, and the worst of them."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of two reports: how it is called, and what its `run.json` says."""

    name: str
    run: dict[str, Any]

    @property
    def versions(self) -> dict[str, str]:
        """Framework to version, as text; several are joined by commas."""
        return {str(name): str(version) for name, version in sorted(dict(self.run.get("versions") or {}).items())}


@dataclass(frozen=True, eq=False)
class Difference:
    """What changed between two reports.  changes: see `changes.changes`."""

    old: Side
    new: Side
    changes: pd.DataFrame

    def fails(self, level: str) -> bool:
        """See `changes.fails`."""
        return fails(self.changes, level)


def opened(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A whole report; raises ReportError where it cannot be read, AuditError where its run ended early."""
    results, run = report.read(path)
    if not run.get("complete"):
        lacks = f"{run.get('finished', len(results))} of {run.get('planned', '?')} rows were finished"
        why = ", ".join(filter(None, (lacks, str(run.get("interrupted", "")), str(run.get("partial", "")))))
        raise AuditError(path, f"is incomplete ({why}), so what it lacks would look lost", "run it again to its end")
    return results, run


def difference(old: Path, new: Path) -> Difference:
    """Two reports, files or folders, compared; raises ReportError or AuditError where that makes no sense."""
    (before, old_run), (after, new_run) = opened(old), opened(new)
    asked, asked_before = asked_by(after, new_run), asked_by(before, old_run)
    table = changes(before, after, (str(old), str(new)), asked=asked, asked_before=asked_before)
    return Difference(Side(str(old), old_run), Side(str(new), new_run), table)


def asked_by(results: pd.DataFrame, run: dict[str, Any]) -> Callable[[pd.DataFrame], Flags]:
    """Which rows of another report a run asked; of a selection it is not known, so none that it lacks."""
    there = {*dict(run.get("versions") or {}), *(run.get("missing") or ())}
    known, whole = was_asked(results), not run.get("selected")

    def asked(rows: pd.DataFrame) -> Flags:
        return known(rows) & rows["framework"].isin(there).to_numpy(dtype=bool) & whole

    return asked


def groups(table: pd.DataFrame) -> pd.DataFrame:
    """Changes by cause, worst first: one line where severity, function, kinds, cause and transition are the same.

    ulps, budgets: the largest.  case, dtype, reduction, versions, what, call: of the row that is worst.
    """
    changed = table[table["severity"] != "unchanged"]
    grouped = changed.groupby(GROUP, sort=False)
    found = grouped.first().reset_index()
    numbers = {
        "rows": grouped.size().to_numpy(),
        "cases": grouped["case"].nunique().to_numpy(),
        "ulps": grouped["ulps"].max().to_numpy(),
        "budgets": grouped["budgets"].max().to_numpy(),
    }
    return found.assign(**numbers)[list(GROUP_COLUMNS)]


def by_severity(table: pd.DataFrame) -> dict[str, int]:
    """How many rows there are of every severity, worst first; those that do not occur are left out."""
    return _tally(table["severity"], SEVERITIES)


def by_kind(table: pd.DataFrame) -> dict[str, int]:
    """How many rows there are of every kind, worst first; a row of several kinds counts for each."""
    return _tally(table["kinds"].map(listed_in).explode(), KINDS)


def by_cause(table: pd.DataFrame) -> dict[str, int]:
    """How many changed rows there are of every cause."""
    return _tally(table["cause"], CAUSES)


def by_function(table: pd.DataFrame) -> pd.DataFrame:
    """Functions x severities: how many rows; those of which nothing changed are there, too."""
    found = pd.crosstab(table["function"], table["severity"])
    return found.reindex(columns=list(SEVERITIES), fill_value=0).astype("int64")


def _tally(column: pd.Series, names: tuple[str, ...]) -> dict[str, int]:
    found = column.value_counts()
    return {name: int(found[name]) for name in names if name in found.index}


__all__ = [
    "Difference",
    "Side",
    "asked_by",
    "by_cause",
    "by_function",
    "by_kind",
    "by_severity",
    "difference",
    "groups",
    "opened",
]
