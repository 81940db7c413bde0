"""Checks a run against an accepted report: what got worse fails, and what was known is only mentioned.

*The ratchet.*  An answer that is right may drift, but its error may not grow past the larger of SLACK
budgets and what it was in the baseline plus one unit in the last place.  An error of one platform is not that
of another: another order of summation, a fused multiply-add or another libm draws its roundings
anew, from the same distribution.  A budget is six standard deviations of a long sum (see `budget`) and
the guaranteed bound of a short one, so a second draw within three, SLACK = 1/2, says nothing about the
code: of the answers that are right in the first accepted report, 99.5 % lie below it.  A row
that was above it may flip its last bit, which is the smallest way in which two platforms can differ
and up to one budget where a budget is a single ulp, as in float16; never more than one budget,
because beyond that it disagrees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance.comparison.alignment import check_unique, first_names
from conformance.comparison.changes import RIGHT, Flags, Scope, compare, everything, has_kind, scope_of_cases
from conformance.comparison.difference_rendering import group_lines
from conformance.comparison.errors import AuditError
from conformance.comparison.reports import groups
from conformance.judging.row import listed_in
from conformance.judging.verdict import FAILING
from conformance.model.row_key import KEY, PLACE, RowKey
from conformance.model.text import counted
from conformance.report.frames import largest_ratios, records

SLACK = 0.5
"""Budgets that the error of an answer may always reach: see the module."""
REASONS = ("new disagreement", "vanished", "status or convention changed", "drifted past its ratchet")
"""Why a row fails, worst first."""
MAX_GROUPS = 20
"""Groups of failures that `Check.lines` has."""
_PLACE = ["framework", *PLACE]
"""Columns of where a row ran."""


def _select_all(framework: str, item: str) -> bool:
    return True


@dataclass(frozen=True)
class RunScope:
    """What a run was asked for; a row that it was not asked for has not vanished from it."""

    frameworks: frozenset[str] | None = None
    """Names of the frameworks that were chosen and are available; None for all that the baseline has."""
    selects: Callable[[str, str], bool] = _select_all
    """Whether an item is selected, by its framework and its id as `plan.Item.id` has it (for -k, -m and node ids)."""
    finished: bool = True
    """False for a run that ended early, whose missing rows are not lost."""
    suite: Collection[tuple[str, str, str]] | None = None
    """Case, dtype and reduction of all questions; None for every case that a function was asked or could not take."""


@dataclass(frozen=True, eq=False)
class Check:
    """The result of checking a run against its baseline."""

    failures: pd.DataFrame
    """The rows of `changes` that got worse, worst first, with a column `reason` of REASONS."""
    mentions: tuple[str, ...] = ()
    """One sentence each about what is not a failure."""

    @property
    def ok(self) -> bool:
        """Whether nothing got worse."""
        return self.failures.empty

    def lines(self, most: int = MAX_GROUPS) -> list[str]:
        """Render without colours: a headline, at most `most` groups of failures, the mentions."""
        mentions = [f"  {mention}" for mention in self.mentions]
        if self.ok:
            return ["baseline: nothing got worse", *mentions]
        counts = self.failures["reason"].value_counts()
        reasons = [reason for reason in REASONS if reason in counts.index]
        total = ", ".join(f"{counts[reason]} {reason}" for reason in reasons)
        found = [
            (reason, group)
            for reason in reasons
            for group in records(groups(self.failures[self.failures["reason"] == reason]))
        ]
        lines = [f"baseline: {counted(len(self.failures), 'row')} got worse: {total}"]
        for reason, group in found[:most]:
            head, *rest = group_lines(group)
            lines += [f"  {reason}: {head}", *(f"  {text}" for text in rest)]
        if len(found) > most:
            lines.append(f"  ... and {len(found) - most} more")
        lines.append("  where this is meant to be so, `conformance accept` makes a report the new baseline")
        return [*lines, *mentions]


def check(
    baseline: pd.DataFrame, results: pd.DataFrame, scope: RunScope | None = None, name: str = "the baseline"
) -> Check:
    """Check what got worse in `results` since the results frame of an accepted report.

    A row fails for the first reason that holds:

        new disagreement              it fails now and did not, or fails worse than it did, or is new and fails.
        vanished                      it was asked for, and is missing: a function or its support.
        status or convention changed  and it did not get better.
        drifted past its ratchet      it is right, and its error grew by too much: see the module.

    What the ledger knows never fails.  A row that is no longer asked, because the suite has no such case, dtype or
    reduction, is mentioned.  Rows are matched by framework.  If the baseline has a framework several times, the nearest
    is used: the same device, mode, backend, environment, version, Python and numpy count in this order, then the newest
    version.  Another device, mode, backend or version is mentioned.

    Raises AuditError if a question is repeated, or if the two have no case in common.
    """
    scope = RunScope() if scope is None else scope
    in_suite = _suite_scope(scope, results)
    baseline, results = (rows[rows["status"] != "unsupported"] for rows in (baseline, results))
    for rows, report_name in ((baseline, name), (results, "the run")):
        check_unique(rows, list(KEY), report_name)
    mentions: list[str] = []
    wanted = _selected(baseline, scope, mentions)
    if len(wanted) and len(results) and not set(wanted["case"]) & set(results["case"]):
        raise AuditError(name, "it has no case in common with this run", "name a baseline of the same suite")
    wanted = _still_in_suite(wanted, in_suite(wanted), results, mentions)
    table = compare(*_add_places(wanted, results, mentions))
    table["reason"] = _reasons(table, scope.finished)
    failed = table["reason"] != ""
    failures = table[failed].sort_values("reason", key=lambda reason: reason.map(REASONS.index), kind="stable")
    mentions = [*_mentions(table[~failed], scope.finished), *_grown_errors(wanted, results), *mentions]
    return Check(failures.reset_index(drop=True), tuple(mentions))


def _suite_scope(scope: RunScope, results: pd.DataFrame) -> Scope:
    """The rows of a baseline that the suite of the run still has."""
    if scope.suite is None:
        return scope_of_cases(results) if scope.finished and len(results) else everything
    suite = frozenset(scope.suite)

    def in_suite(rows: pd.DataFrame) -> Flags:
        lines = rows[["case", "dtype", "reduction"]].itertuples(index=False, name=None)
        return np.array([line in suite for line in lines], dtype=bool)

    return in_suite


def _still_in_suite(
    baseline: pd.DataFrame, in_suite: Flags, results: pd.DataFrame, mentions: list[str]
) -> pd.DataFrame:
    """The rows of a baseline that the suite still has; the others are mentioned."""
    lost = baseline[~in_suite]
    gone = ~lost["case"].isin(set(results["case"]) | set(baseline.loc[in_suite, "case"]))
    for rows, why in (
        (lost[gone], "the suite no longer has their cases"),
        (lost[~gone], "their cases no longer have that dtype or reduction"),
    ):
        if len(rows):
            cases = f"{counted(rows['case'].nunique(), 'case')} ({first_names(rows['case'])})"
            mentions.append(f"no longer asked, because {why}: {counted(len(rows), 'row')} of {cases}")
    return baseline[in_suite]


def limit(old_ratio: pd.Series, new_ratio: pd.Series, new_ulps: pd.Series) -> pd.Series:
    """The error, in budgets, that the ratchet allows: see the module."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ulp = (new_ratio / new_ulps).where(new_ulps > 0, 0.0)
    return (old_ratio.fillna(0.0) + ulp).clip(lower=SLACK)


def _grown_errors(baseline: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """Functions whose largest error of a right row, in budgets, is past the ratchet of the largest in the baseline."""
    key = ["function", "quantity", "dtype"]
    both = largest_ratios(results).merge(largest_ratios(baseline)[[*key, "ratio"]], on=key, suffixes=("", "_before"))
    grown = both[both["ratio"] > limit(both["ratio_before"], both["ratio"], both["ulps"])]
    return [
        f"the largest error of {row['function']} ({row['quantity']}, {row['dtype']}) is {row['ratio']:.2f} budgets, "
        f"in the baseline {row['ratio_before']:.2f}: {row['case']}"
        for row in records(grown)
    ]


def _selected(baseline: pd.DataFrame, scope: RunScope, mentions: list[str]) -> pd.DataFrame:
    """The rows of a baseline that the run was asked for; the others are mentioned."""
    chosen = baseline["framework"].isin(set(baseline["framework"]) if scope.frameworks is None else scope.frameworks)
    if others := set(baseline.loc[~chosen, "framework"]):
        count = counted(int((~chosen).sum()), "row")
        mentions.append(f"not run, so not compared: {first_names(others)} ({count} of the baseline)")
    rows = baseline[chosen]
    keys = records(rows[["framework", *KEY]])
    selected = np.array([scope.selects(row["framework"], RowKey.of(row).id) for row in keys], dtype=bool)
    if skipped := int((~selected).sum()):
        mentions.append(f"not selected, so not compared: {counted(skipped, 'row')} of the baseline")
    return rows[selected]


def _add_places(
    baseline: pd.DataFrame, results: pd.DataFrame, mentions: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add the column `place` to both frames; each place of the run gets the rows of the nearest in the baseline."""
    old_labels, places = _labels(baseline), _places(results)
    candidates = {str(framework): rows for framework, rows in _places(baseline).groupby("framework")}
    parts, used = [], set()
    for place in records(places):
        of_framework = candidates.get(place["framework"])
        if of_framework is not None:
            nearest = _nearest(of_framework, place)
            used.add(_label(nearest))
            parts.append(baseline[old_labels == _label(nearest)].assign(place=_label(place)))
            _mention_place(place, nearest, len(of_framework), mentions)
    for framework, of_framework in candidates.items():
        if framework not in set(places["framework"]):  # it ran, and all its rows vanished
            newest = _label(_nearest(of_framework, {}))
            used.add(newest)
            parts.append(baseline[old_labels == newest].assign(place=newest))
    others = baseline[~old_labels.isin(used)]
    if len(others):
        where = first_names(others["environment"])
        mentions.append(f"not run, so not compared: {counted(len(others), 'row')} of the baseline in {where}")
    old = pd.concat(parts) if parts else baseline.iloc[:0].assign(place="")
    return old, results.assign(place=_labels(results))


def _places(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[*_PLACE, "python", "numpy"]].drop_duplicates(_PLACE).sort_values(_PLACE)


def _label(place: dict[str, Any]) -> str:
    return "\n".join(place[name] for name in _PLACE)


def _labels(rows: pd.DataFrame) -> pd.Series:
    return rows[_PLACE[0]].str.cat(rows[_PLACE[1:]], sep="\n")


def _nearest(candidates: pd.DataFrame, place: dict[str, Any]) -> dict[str, Any]:
    """The candidate that is most like a place; the newest one for an empty place."""
    return max(records(candidates), key=lambda candidate: _similarity(candidate, place))


def _similarity(candidate: dict[str, Any], place: dict[str, Any]) -> tuple[Any, ...]:
    same = tuple(candidate[name] == place.get(name) for name in ("device", "mode", "backend", "environment", "version"))
    minor = tuple(_minor(candidate[name]) == _minor(place.get(name, "")) for name in ("python", "numpy"))
    try:
        version = Version(candidate["version"])
    except InvalidVersion:
        version = Version("0")
    return (*same, *minor, version, candidate["environment"])


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _mention_place(place: dict[str, Any], nearest: dict[str, Any], count: int, mentions: list[str]) -> None:
    if other := [name for name in ("backend", "mode", "device") if nearest[name] not in ("", place[name])]:
        own, theirs = (", ".join(f"{name} {side[name]}" for name in other) for side in (place, nearest))
        mentions.append(f"{place['framework']} ran with {own}, in the baseline with {theirs}")
    where = f" in {nearest['environment']}" if count > 1 and nearest["environment"] != place["environment"] else ""
    if nearest["version"] != place["version"]:
        mentions.append(f"{place['framework']} is {place['version']}, in the baseline {nearest['version']}{where}")
    elif where:
        mentions.append(f"{place['framework']} in {place['environment']} is compared with the baseline{where}")


def _reasons(table: pd.DataFrame, finished: bool) -> Any:
    names = ("added", "removed", "case changed", "status", "convention", "drifted")
    has = {name: has_kind(table["kinds"], name) for name in names}
    unknown = table["new_expected"] != "known"
    both = ~has["added"] & ~has["removed"]
    worse = (table["severity"] == "regression") & ~has["removed"]
    changed = both & (has["status"] | has["convention"]) & (table["severity"] != "improvement")
    right = table["old_status"].isin(RIGHT) & table["new_status"].isin(RIGHT)
    past = table["new_ratio"] > limit(table["old_ratio"], table["new_ratio"], table["new_ulps"])
    conditions = [
        worse & unknown,
        has["removed"] & ~has["case changed"] & finished,
        changed & unknown,
        both & right & has["drifted"] & past,
    ]
    return np.select(conditions, REASONS, "").astype(object)


def _mentions(rows: pd.DataFrame, finished: bool) -> list[str]:
    """Sentences about the rows that do not fail."""
    kinds = rows["kinds"]
    removed, added, changed = (has_kind(kinds, name) for name in ("removed", "added", "case changed"))
    same, better = rows["severity"] == "unchanged", rows["severity"] == "improvement"
    known = ~same & ~better & (rows["new_expected"] == "known")
    known_before = int((same & rows["new_status"].isin(FAILING)).sum())
    others = ~(same | better | known | removed | added)
    drifted = others & (kinds == "drifted")
    other_kinds = first_names(kinds[others & ~drifted].map(listed_in).explode())
    sentences = [
        (same, f"as in the baseline{f', {known_before} of which fail there, too' if known_before else ''}"),
        (better & ~added, "better than in the baseline, which `conformance accept` would keep"),
        (known, "changed or new, and fail as the ledger knows"),
        (drifted, "drifted within the ratchet"),
        (others & ~drifted, f"changed otherwise ({other_kinds})"),
        (added & ~known & ~changed, "new"),
        (added & ~known & changed, "of cases that changed, so not compared"),
        (removed & ~changed, "not there, because the run ended early" if not finished else "gone"),
    ]
    return [f"{counted(int(flags.sum()), 'row')} {text}" for flags, text in sentences if flags.any()]
