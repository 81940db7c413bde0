"""Accepts a report as the baseline: proposes the merged rows, and replaces the baseline atomically."""

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
from conformance.comparison.alignment import row_names
from conformance.comparison.changes import LATER_PER_SIDE, compare_results
from conformance.comparison.errors import ComparisonError
from conformance.comparison.merging import joined_versions, merged_versions
from conformance.comparison.reports import ReportDifference, Side, read_complete, read_packed, scope_of_run
from conformance.execution.report_folder import folder_of
from conformance.execution.run_info import RunInfo
from conformance.judging.row import COLUMNS
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.row_key import PLACE, QUESTION
from conformance.model.text import format_count
from conformance.report.frames import Frame, PackedFrame

_QUESTION = [name for name in QUESTION if name != "digest"]
"""Columns of a question, without the digest of its case."""
_PLACE = ["framework", *(name for name in PLACE if name != "version")]
"""Columns that name where a row ran, without the version."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A report that is about to be accepted."""

    report: Path
    baseline: Path
    results: pd.DataFrame
    """The rows that the baseline will hold."""
    run: RunInfo
    """The run that the baseline will hold."""
    difference: ReportDifference | None
    """Changes from the existing baseline; None if there is none."""
    kept: Mapping[str, int]
    """Number of rows of the existing baseline that are kept because the report did not run them, by framework."""
    dropped: int
    """Number of rows that the report did not run and that are dropped because their cases changed."""

    @property
    def same(self) -> bool:
        """Whether the baseline already has these rows."""
        if self.difference is None:
            return False
        table = self.difference.changes
        names = ("version", "environment", *LATER_PER_SIDE)  # which an older baseline lacks
        equal = all((table[f"old_{name}"] == table[f"new_{name}"]).all() for name in names)
        return bool((table["severity"] == "unchanged").all() and equal)

    def lines(self) -> list[str]:
        """Sentences about rows that are kept or dropped without having been run, which the difference does not show."""
        lines = [
            f"kept, because the report did not run it: {format_count(count, 'row')} of {name}"
            for name, count in self.kept.items()
        ]
        if self.dropped:
            why = "because their cases changed and the report did not run them"
            lines.append(f"dropped, {why}: {format_count(self.dropped, 'row')}")
        if self.difference is None:
            lines.append(f"{self.baseline} is new: {format_count(len(self.results), 'row')}")
        return lines


def proposal(path: Path, baseline: Path, even_unexpected: bool = False) -> Proposal:
    """The baseline that results from accepting the report at `path`.

    Rows of frameworks that the report did not run stay; so do those of environments that it did not run if it ran
    another one of the baseline's, and, after a selection, those outside of it.

    even_unexpected: whether to accept rows that are `unexpected` or `stale`.

    Raises ReportError or ComparisonError if the report or the baseline cannot be read, or if the report is incomplete,
    has such rows, or is the baseline itself.
    """
    if folder_of(path).resolve() == baseline.resolve():
        raise ComparisonError(path, "is the baseline itself", "name the report that is to replace it")
    results, run = read_complete(path)
    unexpected = results[results["expected"].isin(FAILING_ROWS)]
    if not even_unexpected and not unexpected.empty:
        why = f"has {format_count(len(unexpected), 'row')} unexpected or stale: {row_names(unexpected)}"
        raise ComparisonError(path, why, "look into them, put them into the ledger, or say --even-unexpected")
    info = RunInfo.of(run)
    if not _exists(baseline):
        return Proposal(path, baseline, results, info, None, {}, 0)
    old, old_run = _read_baseline(baseline)
    remaining = ~_replaced_mask(old, results, info.selected)
    outdated = remaining & _outdated_rows(old, results)
    kept = remaining & ~outdated
    merged = report.merged([results, old[list(COLUMNS)][kept]] if kept.any() else [results])
    scopes, cases = (scope_of_run(old, old_run), scope_of_run(results, run)), set(results["case"])
    del results  # frees memory for the comparison
    counts = {str(name): int(count) for name, count in old["framework"][kept].value_counts().sort_index().items()}
    merged_run = _merged_run(info, RunInfo.of(old_run), merged, set(counts))
    sides = Side(str(baseline), old_run), Side(str(path), {**run, "versions": dict(merged_run.versions)})
    table = compare_results(old, merged, (sides[0].name, sides[1].name), scopes, cases)
    return Proposal(path, baseline, merged, merged_run, ReportDifference(*sides, table), counts, int(outdated.sum()))


def accept(proposed: Proposal) -> dict[str, Any]:
    """Replace the baseline by a proposal and return its `run.json`.

    It is written to a temporary folder and renamed, so that a reader finds the old baseline, the new one, or for a
    moment none, and never parts of both.  Files in the folder that are not part of a report are kept.  Raises
    ReportError if it cannot be written; the old baseline is then unchanged.
    """
    target = proposed.baseline.resolve()
    staging, retired = (target.with_name(f".{target.name}.{os.getpid()}.{suffix}") for suffix in ("new", "old"))
    try:
        report.check_writable(staging)
        record = report.write(staging, proposed.results, proposed.run)
        if target.exists():
            _copy_other_files(target, staging)
            target.rename(retired)
        try:
            staging.rename(target)
        except OSError:
            if retired.exists():
                retired.rename(target)
            raise
    except OSError as error:
        message = f"cannot be replaced ({error.strerror or type(error).__name__})"
        raise report.ReportError(target, message, "make its folder writable; it is as it was") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)
    return record


def _copy_other_files(target: Path, staging: Path) -> None:
    """Copy the files of a baseline's folder that are not part of a report."""
    for entry in target.iterdir():
        if not (staging / entry.name).exists():
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, staging / entry.name)


def _exists(baseline: Path) -> bool:
    if baseline.exists() and not baseline.is_dir():
        raise ComparisonError(baseline, "is a file, and a baseline is a folder", "name a folder")
    return baseline.is_dir() and any(baseline.iterdir())


def _read_baseline(baseline: Path) -> tuple[PackedFrame, dict[str, Any]]:
    try:
        return read_packed(baseline)
    except (report.ReportError, ComparisonError) as error:
        raise ComparisonError(
            baseline, f"the old baseline {error.what}", "remove it to accept without comparing"
        ) from error


def _replaced_mask(old: PackedFrame, results: pd.DataFrame, selected: str) -> pd.Series:
    """Mask of the rows of the old baseline that the report replaces, or that it should have run and lacks."""
    place = [name for name in _PLACE if all((rows[name] != "").any() for rows in (old, results))] or _PLACE
    framework, same_place = old["framework"], pd.Series(_keys(old, place).isin(_keys(results, place)))
    replaced = framework.isin(results["framework"]) & (~framework.isin(framework[same_place]) | same_place)
    return replaced & _keys(old, _QUESTION).isin(_keys(results, _QUESTION)) if selected else replaced


def _keys(rows: Frame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[columns])


def _outdated_rows(rows: Frame, results: pd.DataFrame) -> pd.Series:
    """Rows whose case has another digest in the report."""
    now = results.drop_duplicates("case").set_index("case")["digest"]
    digest = rows["case"].map(now)
    return digest.notna() & (digest != rows["digest"])


def _merged_run(info: RunInfo, old: RunInfo, rows: pd.DataFrame, kept: set[str]) -> RunInfo:
    if not kept:
        return dataclasses.replace(info, planned=len(rows))
    return dataclasses.replace(
        info,
        planned=len(rows),
        host=merged_versions([info.host, old.host]),
        versions={str(name): joined_versions(set(versions)) for name, versions in rows.groupby("framework")["version"]},
        missing=tuple(name for name in info.missing if name not in kept),
        selected=old.selected,
        published=info.published or old.published,
    )
