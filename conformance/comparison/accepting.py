"""A report becomes the baseline: shown first, merged with what it did not run, and swapped in whole."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from conformance import report
from conformance.comparison.alignment import named, records
from conformance.comparison.changes import LATER_SIDES, changes
from conformance.comparison.comparing import Difference, Side, asked_by, opened
from conformance.comparison.joining import several
from conformance.comparison.refusal import AuditError
from conformance.model.row_key import PLACE, QUESTION
from conformance.model.text import counted
from conformance.report.run import RunInfo

ASKED = [name for name in QUESTION if name != "digest"]
"""Columns that name a question, whatever its case says now."""
AT = ["framework", *(name for name in PLACE if name != "version")]
"""Columns that name where a row was asked, in whichever release."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A report about to be accepted.

    results, run: what the baseline will hold.  difference: against the baseline that there is, None where
    there is none.  kept: rows of that baseline which the report did not run, by framework.  dropped: rows
    that it did not run either, whose cases changed since.
    """

    report: Path
    baseline: Path
    results: pd.DataFrame
    run: RunInfo
    difference: Difference | None
    kept: Mapping[str, int]
    dropped: int

    @property
    def same(self) -> bool:
        """Whether the baseline has these rows already."""
        if self.difference is None:
            return False
        table = self.difference.changes
        names = ("version", "environment", *LATER_SIDES)  # which an older baseline lacks
        still = all((table[f"old_{name}"] == table[f"new_{name}"]).all() for name in names)
        return bool((table["severity"] == "unchanged").all() and still)

    def lines(self) -> list[str]:
        """What is not in the difference: what stays from the old baseline, and what does not."""
        told = [
            f"kept, because the report did not run it: {counted(count, 'row')} of {name}"
            for name, count in self.kept.items()
        ]
        if self.dropped:
            told.append(
                f"dropped, because their cases changed and the report did not run them: {counted(self.dropped, 'row')}"
            )
        if self.difference is None:
            told.append(f"{self.baseline} is new: {counted(len(self.results), 'row')}")
        return told


def proposal(path: Path, baseline: Path, even_unexpected: bool = False) -> Proposal:
    """What accepting the report at `path` would make of a baseline.

    Rows of frameworks that the report did not run stay; so do those of environments that it did not run
    where it ran another one of the baseline's, and, where it ran a selection, those outside of it.
    even_unexpected: also rows that are `unexpected` or `stale`.
    Raises ReportError or AuditError where the report or the baseline cannot be read, the report is
    incomplete, has such rows, or is the baseline itself.
    """
    home = path if path.is_dir() else path.parent
    if home.resolve() == baseline.resolve():
        raise AuditError(path, "is the baseline itself", "name the report that is to replace it")
    results, run = opened(path)
    surprising = results[results["expected"].isin(["unexpected", "stale"])]
    if not even_unexpected and not surprising.empty:
        why = f"has {counted(len(surprising), 'row')} unexpected or stale: {named(surprising)}"
        raise AuditError(path, why, "look into them, put them into the ledger, or say --even-unexpected")
    info = RunInfo.of(run)
    if not _is_there(baseline):
        return Proposal(path, baseline, results, info, None, {}, 0)
    old, old_run = _opened_baseline(baseline)
    left = old[~_replaced(old, results, info.selected)]
    outdated = _outdated(left, results)
    kept = left[~outdated]
    whole = report.frame([*records(results), *records(kept)])
    merged = _merged(info, RunInfo.of(old_run), whole, set(kept["framework"]))
    sides = Side(str(baseline), old_run), Side(str(path), {**run, "versions": dict(merged.versions)})
    names, cases = (sides[0].name, sides[1].name), set(results["case"])
    asked, before = asked_by(results, run), asked_by(old, old_run)
    found = Difference(*sides, changes(old, whole, names, asked=asked, asked_before=before, cases=cases))
    counts = {str(name): int(count) for name, count in kept["framework"].value_counts().sort_index().items()}
    return Proposal(path, baseline, whole, merged, found, counts, int(outdated.sum()))


def accept(proposed: Proposal) -> dict[str, Any]:
    """Make a proposal the baseline and return what its `run.json` says.

    It is written beside the baseline and takes its place when it is whole: a reader finds the old
    one, the new one, or for a moment none, and never parts of both.  Files in the folder that are no part of a
    report stay.  Raises ReportError where it cannot be written; the old one is then as it was.
    """
    target = proposed.baseline.resolve()
    staging, retired = (target.with_name(f".{target.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        report.check_writable(staging)
        record = report.write(staging, proposed.results, proposed.run, proposed.run.published)
        if target.exists():
            _carry_over(target, staging)
            target.rename(retired)
        try:
            staging.rename(target)
        except OSError:
            if retired.exists():
                retired.rename(target)
            raise
    except OSError as error:
        what = f"cannot be replaced ({error.strerror or type(error).__name__})"
        raise report.ReportError(target, what, "make its folder writable; it is as it was") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)
    return record


def _carry_over(target: Path, staging: Path) -> None:
    """Copy what lies in a baseline's folder and is no part of a report."""
    for entry in target.iterdir():
        if not (staging / entry.name).exists():
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, staging / entry.name)


def _is_there(baseline: Path) -> bool:
    if baseline.exists() and not baseline.is_dir():
        raise AuditError(baseline, "is a file, and a baseline is a folder", "name a folder")
    return baseline.is_dir() and any(baseline.iterdir())


def _opened_baseline(baseline: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    try:
        return opened(baseline)
    except (report.ReportError, AuditError) as error:
        why = error.what if isinstance(error, report.ReportError) else error.why
        raise AuditError(baseline, f"the old baseline {why}", "remove it to accept without comparing") from error


def _replaced(old: pd.DataFrame, results: pd.DataFrame, selected: str) -> pd.Series:
    """Which rows of the old baseline the report speaks for."""
    replaced = old["framework"].isin(results["framework"])
    at = [name for name in AT if all((rows[name] != "").any() for rows in (old, results))]  # older reports lack some
    places = [rows[at].agg("\n".join, axis=1) if len(rows) else rows["case"] for rows in (old, results)]
    common = set(old["framework"][places[0].isin(places[1])])
    replaced &= ~old["framework"].isin(common) | places[0].isin(places[1])
    if selected:
        asked = pd.MultiIndex.from_frame(results[ASKED].drop_duplicates())
        replaced &= pd.MultiIndex.from_frame(old[ASKED]).isin(asked)
    return replaced


def _outdated(rows: pd.DataFrame, results: pd.DataFrame) -> pd.Series:
    now = results.drop_duplicates("case").set_index("case")["digest"]
    digest = rows["case"].map(now)
    return digest.notna() & (digest != rows["digest"])


def _merged(info: RunInfo, old: RunInfo, whole: pd.DataFrame, kept: set[str]) -> RunInfo:
    if not kept:
        return dataclasses.replace(info, planned=len(whole))
    versions = {str(name): several(set(rows["version"])) for name, rows in whole.groupby("framework")}
    return dataclasses.replace(
        info,
        planned=len(whole),
        versions=versions,
        missing=tuple(name for name in info.missing if name not in kept),
        selected=old.selected,
        published=info.published or old.published,
    )


__all__ = ["Proposal", "accept", "proposal"]
