"""Check a run against a baseline, the report that was accepted last: rows that got worse fail.

*The ratchet.*  A correct answer fails if its error exceeds both 0.5 budgets (ALWAYS_ALLOWED_RATIO) and its error in
the baseline plus one unit in the last place.  Reasons:

- Platforms round differently: another order of summation, a fused multiply-add or another math library changes an
  error without a change of the code.  A budget is six standard deviations of a long sum (see `error_bound`), or the
  guaranteed bound of a short one, so errors within 0.5 budgets, three deviations, are not evidence.  99.5 % of the
  correct answers in the first accepted report lie below.
- A row above 0.5 budgets may change in its last bit, the smallest difference between two platforms.  In float16 that
  can be up to one budget.  Beyond one budget an answer is not correct.
- On another processor a math library selects other kernels, whose long sums round in another order: a difference of
  large numbers that cancel may then have any error within its budget.  So the ratchet applies only on the processor of
  the baseline; on another one a correct answer is only noted, and so is one whose convention differs in numeric
  choices only (`convention.NUMERIC_FIELDS`), which depend on the number of lost digits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conformance.comparison.alignment import called_rows, check_unique, first_names, version_key
from conformance.comparison.changes import (
    CORRECT_STATUSES,
    Flags,
    Scope,
    all_rows,
    compare_aligned,
    has_kind,
    scope_of_cases,
)
from conformance.comparison.difference_rendering import group_lines
from conformance.comparison.errors import ComparisonError
from conformance.comparison.reports import group_changes, read_packed
from conformance.execution.run_info import host
from conformance.judging.row import choices_of, listed_in
from conformance.judging.verdict import FAILING
from conformance.model.convention import NUMERIC_FIELDS
from conformance.model.row_key import KEY, PLACE, RowKey
from conformance.model.text import format_count
from conformance.report.frames import Frame, PackedFrame, each_record, largest_ratios, records

ALWAYS_ALLOWED_RATIO = 0.5
"""Error, in budgets, that is always allowed."""
REASONS = ("new disagreement", "vanished", "status or convention changed", "drifted past its ratchet")
"""Why a row fails, worst first."""
MAX_GROUPS = 20
"""Maximum number of groups of failures in `Check.lines`."""
_PLACE = ["framework", *PLACE]
"""Columns that name where a row ran."""


@dataclass(frozen=True)
class ExpectedRows:
    """The rows that a run should have; a row of the baseline outside of it has not vanished."""

    frameworks: frozenset[str] | None = None
    """Names of the selected frameworks that are available; None for all in the baseline."""
    selects: Callable[[str, str], bool] = lambda framework, item: True
    """Whether an item is selected, by its framework and its id (`plan.Item.id`), as by -k, -m and node ids."""
    finished: bool = True
    """False for a run that ended early; its missing rows have not vanished."""
    suite: Collection[tuple[str, str, str]] | None = None
    """Case, dtype and reduction of all problems of the suite; None: infer the cases from the run's rows."""
    other_processor: str = ""
    """Why the ratchet does not apply, see `Baseline.processor_difference`; "" if it does."""


@dataclass(frozen=True, eq=False)
class Check:
    """The result of checking a run against its baseline."""

    failures: pd.DataFrame
    """The failing rows of `changes`, worst first, with a column `reason`, one of REASONS."""
    notes: tuple[str, ...] = ()
    """Sentences about rows that do not fail."""

    @property
    def ok(self) -> bool:
        """Whether nothing got worse."""
        return self.failures.empty

    def lines(self, max_groups: int = MAX_GROUPS) -> list[str]:
        """Render as plain text: a headline, at most `max_groups` groups of failures, and the notes."""
        notes = [f"  {note}" for note in self.notes]
        if self.ok:
            return ["baseline: nothing got worse", *notes]
        counts = self.failures["reason"].value_counts()
        reasons = [reason for reason in REASONS if reason in counts.index]
        total = ", ".join(f"{counts[reason]} {reason}" for reason in reasons)
        groups = [
            (reason, group)
            for reason in reasons
            for group in records(group_changes(self.failures[self.failures["reason"] == reason]))
        ]
        lines = [f"baseline: {format_count(len(self.failures), 'row')} got worse: {total}"]
        for reason, group in groups[:max_groups]:
            head, *details = group_lines(group)
            lines += [f"  {reason}: {head}", *(f"  {text}" for text in details)]
        if len(groups) > max_groups:
            lines.append(f"  ... and {len(groups) - max_groups} more")
        lines.append("  if this is intended, `conformance accept` makes a report the new baseline")
        return [*lines, *notes]


@dataclass(frozen=True, eq=False)
class Baseline:
    """An accepted report, which is read before a run and compared after it."""

    name: str
    run: Mapping[str, Any]
    """Content of the report's `run.json`."""
    rows: PackedFrame
    """Packed, because a run needs the memory."""

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Raises ReportError if the report cannot be read, ComparisonError if its run ended early."""
        rows, run = read_packed(path)
        return cls(str(path), run, rows)

    @property
    def processor_difference(self) -> str:
        """The difference between the processor of the baseline and this one; "" if they are the same."""
        before, now = self.run.get("host", {}).get("processor", "an unknown processor"), host()["processor"]
        return "" if before == now else f"the baseline was made on {before}, this is {now}"

    def check(self, results: pd.DataFrame, scope: ExpectedRows) -> Check:
        """Compare the results of a run with the baseline; see `check_baseline`."""
        return check_baseline(self.rows, results, scope, self.name)


def check_baseline(
    baseline: Frame, results: pd.DataFrame, scope: ExpectedRows | None = None, name: str = "the baseline"
) -> Check:
    """Compare the results of a run with those of an accepted report.

    A row fails for the first reason that holds:

        new disagreement              it fails now and did not, or fails worse than it did, or is new and fails.
        vanished                      it is in the scope of the run, and missing: a function or its support.
        status or convention changed  and it did not get better.
        drifted past its ratchet      it is correct, and its error grew by too much: see the module.

    The last two need the processor of the baseline, where correct answers differ in error and numeric choices only.

    Rows that the ledger knows do not fail.  Rows whose case, dtype or reduction the suite no longer has are noted.
    Rows are matched by framework.  If the baseline has a framework several times, the nearest is used: the same
    device, mode, backend, environment, version, Python and numpy count in this order, then the newest version.
    Another device, mode, backend or version is noted.

    name: name of the baseline in error messages.

    Raises ComparisonError if a row key is repeated, or if the two have no case in common.
    """
    scope = ExpectedRows() if scope is None else scope
    in_suite = _suite_scope(scope, results)
    accepted, called = called_rows(baseline), called_rows(results)
    for rows, report_name in ((accepted, name), (called, "the run")):
        check_unique(rows, list(KEY), report_name)
    notes: list[str] = []
    expected = _select_rows(accepted, scope, notes)
    if len(expected) and len(called) and not set(expected["case"]) & set(called["case"]):
        raise ComparisonError(name, "it has no case in common with this run", "name a baseline of the same suite")
    expected = _still_in_suite(expected, in_suite(expected), called, notes)
    table = compare_aligned(*_add_places(expected, called, notes), (baseline, results))
    table["reason"] = _reasons(table, scope.finished)
    if scope.other_processor:
        table, rounded = _without_rounding(table)
        if rounded:
            notes.append(f"{format_count(rounded, 'row')} rounded otherwise, which may be: {scope.other_processor}")
    failed = table["reason"] != ""
    failures = table[failed].sort_values("reason", key=lambda reason: reason.map(REASONS.index), kind="stable")
    notes = [*_row_notes(table[~failed], scope.finished), *_grown_errors(expected, called), *notes]
    return Check(failures.reset_index(drop=True), tuple(notes))


def _suite_scope(scope: ExpectedRows, results: pd.DataFrame) -> Scope:
    """Whether the suite of the run still has the problem of a row of the baseline."""
    if scope.suite is None:
        return scope_of_cases(results) if scope.finished and len(results) else all_rows
    suite = frozenset(scope.suite)

    def in_suite(rows: pd.DataFrame) -> Flags:
        lines = rows[["case", "dtype", "reduction"]].itertuples(index=False, name=None)
        return np.array([line in suite for line in lines], dtype=bool)

    return in_suite


def _still_in_suite(baseline: pd.DataFrame, in_suite: Flags, results: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The rows of a baseline whose problem the suite still has; the others are noted."""
    lost = baseline[~in_suite]
    is_lost = ~lost["case"].isin(set(results["case"]) | set(baseline.loc[in_suite, "case"]))
    for rows, why in (
        (lost[is_lost], "the suite no longer has their cases"),
        (lost[~is_lost], "their cases no longer have that dtype or reduction"),
    ):
        if len(rows):
            cases = f"{format_count(rows['case'].nunique(), 'case')} ({first_names(rows['case'])})"
            notes.append(f"no longer called, because {why}: {format_count(len(rows), 'row')} of {cases}")
    return baseline[in_suite]


def limit(old_ratio: pd.Series, new_ratio: pd.Series, new_ulps: pd.Series) -> pd.Series:
    """The largest error, in budgets, that a correct answer may have: see the module.

    old_ratio, new_ratio: the old and the new error in budgets; NaN if there is none.  new_ulps: the new error in units
    in the last place.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ulp = (new_ratio / new_ulps).where(new_ulps > 0, 0.0)
    return (old_ratio.fillna(0.0) + ulp).clip(lower=ALWAYS_ALLOWED_RATIO)


def _grown_errors(baseline: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """Notes on functions whose largest error of a correct answer exceeds the limit for the largest in the baseline."""
    key = ["function", "quantity", "dtype"]
    both = largest_ratios(results).merge(largest_ratios(baseline)[[*key, "ratio"]], on=key, suffixes=("", "_before"))
    grown = both[both["ratio"] > limit(both["ratio_before"], both["ratio"], both["ulps"])]
    return [
        f"the largest error of {row['function']} ({row['quantity']}, {row['dtype']}) is {row['ratio']:.2f} budgets, "
        f"in the baseline {row['ratio_before']:.2f}: {row['case']}"
        for row in records(grown)
    ]


def _select_rows(baseline: pd.DataFrame, scope: ExpectedRows, notes: list[str]) -> pd.DataFrame:
    """The rows of a baseline that the run selects; the others are noted."""
    chosen = baseline["framework"].isin(set(baseline["framework"]) if scope.frameworks is None else scope.frameworks)
    if excluded := set(baseline.loc[~chosen, "framework"]):
        count = format_count(int((~chosen).sum()), "row")
        notes.append(f"not run, so not compared: {first_names(excluded)} ({count} of the baseline)")
    rows = baseline[chosen]
    keys = each_record(rows[["framework", *KEY]])
    selected = np.array([scope.selects(row["framework"], RowKey.of(row).id) for row in keys], dtype=bool)
    if skipped := int((~selected).sum()):
        notes.append(f"not selected, so not compared: {format_count(skipped, 'row')} of the baseline")
    return rows[selected]


def _add_places(baseline: pd.DataFrame, results: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add a column `place` to both frames: each place of the run gets the rows of the nearest one in the baseline.

    A framework that has no rows in the run is represented by its newest place in the baseline.
    """
    old_places, new_places = _places(baseline), _places(results)
    old_ids, parts, used = _place_ids(baseline), [], set()
    for framework, candidates in old_places.groupby("framework"):
        of_run = records(new_places[new_places["framework"] == framework])
        for place in of_run or [{}]:
            nearest = max(records(candidates), key=lambda candidate: _similarity(candidate, place))
            used.add(nearest["place"])
            parts.append(baseline[old_ids == nearest["place"]].assign(place=place.get("place", nearest["place"])))
            if place:
                notes += _place_notes(place, nearest, len(candidates))
    unmatched = baseline[~old_ids.isin(used)]
    if len(unmatched):
        environments = first_names(unmatched["environment"])
        notes.append(
            f"not run, so not compared: {format_count(len(unmatched), 'row')} of the baseline in {environments}"
        )
    old = pd.concat(parts) if parts else baseline.iloc[:0].assign(place="")
    return old, results.assign(place=_place_ids(results))


def _place_ids(rows: pd.DataFrame) -> pd.Series:
    return rows[_PLACE[0]].str.cat(rows[_PLACE[1:]], sep="\n")


def _places(rows: pd.DataFrame) -> pd.DataFrame:
    """The distinct places of some rows, with the versions of Python and numpy there."""
    places = rows[[*_PLACE, "python", "numpy"]].drop_duplicates(_PLACE).sort_values(_PLACE)
    return places.assign(place=_place_ids(places))


def _similarity(candidate: dict[str, Any], place: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: how similar a candidate is to a place; for an empty place how new it is."""
    same = tuple(candidate[name] == place.get(name) for name in ("device", "mode", "backend", "environment", "version"))
    minor = tuple(candidate[name].split(".")[:2] == place.get(name, "").split(".")[:2] for name in ("python", "numpy"))
    return (*same, *minor, version_key(candidate["version"]), candidate["environment"])


def _place_notes(place: dict[str, Any], nearest: dict[str, Any], count: int) -> Iterator[str]:
    """Notes on how a place of the run differs from the one of `count` in the baseline that it is compared with."""
    framework = place["framework"]
    if differing := [name for name in ("backend", "mode", "device") if nearest[name] not in ("", place[name])]:
        current, accepted = (", ".join(f"{name} {side[name]}" for name in differing) for side in (place, nearest))
        yield f"{framework} ran with {current}, in the baseline with {accepted}"
    suffix = f" in {nearest['environment']}" if count > 1 and nearest["environment"] != place["environment"] else ""
    if nearest["version"] != place["version"]:
        yield f"{framework} is {place['version']}, in the baseline {nearest['version']}{suffix}"
    elif suffix:
        yield f"{framework} in {place['environment']} is compared with the baseline{suffix}"


def _reasons(table: pd.DataFrame, finished: bool) -> Any:
    """The reason, one of REASONS, why each row of `changes` fails; "" if it does not."""
    names = ("added", "removed", "case changed", "status", "convention", "drifted")
    added, removed, case_changed, status, convention, drifted = (has_kind(table["kinds"], name) for name in names)
    unknown = table["new_expected"] != "known"
    both = ~added & ~removed
    correct = table["old_status"].isin(CORRECT_STATUSES) & table["new_status"].isin(CORRECT_STATUSES)
    past_limit = table["new_ratio"] > limit(table["old_ratio"], table["new_ratio"], table["new_ulps"])
    conditions = {
        "new disagreement": (table["severity"] == "regression") & ~removed & unknown,
        "vanished": removed & ~case_changed & finished,
        "status or convention changed": both & (status | convention) & (table["severity"] != "improvement") & unknown,
        "drifted past its ratchet": both & correct & drifted & past_limit,
    }
    return np.select(list(conditions.values()), list(conditions), "").astype(object)


def _without_rounding(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows of `changes` without those that fail only because they round otherwise, and how many those are.

    Their answers are correct on both sides, by the same semantic convention, in the same shape and dtype.
    """
    semantic = {
        text: {name: value for name, value in choices_of(text).items() if name not in NUMERIC_FIELDS}
        for text in pd.concat([table["old_convention"], table["new_convention"]]).unique()
    }
    conventions = table[["old_convention", "new_convention"]].itertuples(index=False, name=None)
    same = pd.Series([semantic[old] == semantic[new] for old, new in conventions], index=table.index, dtype=bool)
    correct = table["old_status"].isin(CORRECT_STATUSES) & table["new_status"].isin(CORRECT_STATUSES)
    other = np.logical_or.reduce([has_kind(table["kinds"], name) for name in ("dtype", "shape", "exception")])
    rounded = correct & same & ~other & table["reason"].isin(REASONS[-2:])
    return table[~rounded], int(rounded.sum())


def _row_notes(rows: pd.DataFrame, finished: bool) -> list[str]:
    """Notes that count the rows of `changes` that do not fail."""
    kinds = rows["kinds"]
    removed, added, case_changed = (has_kind(kinds, name) for name in ("removed", "added", "case changed"))
    same, better = rows["severity"] == "unchanged", rows["severity"] == "improvement"
    known = ~same & ~better & (rows["new_expected"] == "known")
    failed_before = int((same & rows["new_status"].isin(FAILING)).sum())
    changed = ~(same | better | known | removed | added)
    drifted = changed & (kinds == "drifted")
    other_kinds = first_names(kinds[changed & ~drifted].map(listed_in).explode())
    notes = [
        (same, f"as in the baseline{f', {failed_before} of which fail there, too' if failed_before else ''}"),
        (better & ~added, "better than in the baseline, which `conformance accept` would keep"),
        (known, "changed or new, and are known issues"),
        (drifted, "drifted within the ratchet"),
        (changed & ~drifted, f"changed otherwise ({other_kinds})"),
        (added & ~known & ~case_changed, "new"),
        (added & ~known & case_changed, "of cases that changed, so not compared"),
        (removed & ~case_changed, "not there, because the run ended early" if not finished else "gone"),
    ]
    return [f"{format_count(int(flags.sum()), 'row')} {text}" for flags, text in notes if flags.any()]
