"""A run held against an accepted report: what got worse fails, what was known is only mentioned.

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

import functools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance.comparison.alignment import check_unique, listed, records
from conformance.comparison.changes import RIGHT, Flags, compare, everything, has_case, has_kind
from conformance.comparison.comparing import groups, opened
from conformance.comparison.refusal import AuditError
from conformance.comparison.shown import group_lines
from conformance.judging.row import listed_in
from conformance.judging.verdict import FAILING
from conformance.model.row_key import KEY, PLACE, RowKey
from conformance.model.text import counted
from conformance.report.frames import largest_ratios

SLACK = 0.5
"""Budgets that the error of an answer may reach whatever it was: see the module."""
REASONS = ("new disagreement", "vanished", "status or convention changed", "drifted past its ratchet")
"""Why a row fails, worst first."""
SHOWN = 20
"""Groups that `Check.lines` shows."""
AT = ["framework", *PLACE]
"""Where a row was asked."""


def _everything(framework: str, item: str) -> bool:
    return True


@dataclass(frozen=True)
class RunScope:
    """What a run was asked for: what it was not asked for has not vanished from it.

    frameworks: names of those that were chosen and are there; None stands for all that the baseline has.
    selects: whether an item is asked for, by its framework and its id as `judge.Item.id` has it (what
    -k and -m say; node ids).  finished: False for a run that ended early, whose missing rows are not lost.  suite:
    case, dtype and reduction of all that there is to ask; None: every case that a function was asked or could not take.
    """

    frameworks: frozenset[str] | None = None
    selects: Callable[[str, str], bool] = _everything
    finished: bool = True
    suite: Collection[tuple[str, str, str]] | None = None


@dataclass(frozen=True, eq=False)
class Check:
    """What a run says against its baseline.

    failures: the rows of `changes` that got worse, worst first, with a column `reason` of REASONS.
    mentions: one sentence each about what is not a failure.
    """

    failures: pd.DataFrame
    mentions: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing got worse."""
        return self.failures.empty

    def lines(self, most: int = SHOWN) -> list[str]:
        """What to print, without colours: a headline, at most `most` groups of failures, the mentions."""
        if self.ok:
            return ["baseline: nothing got worse", *self._told()]
        counts = self.failures["reason"].value_counts()
        told = ", ".join(f"{counts[name]} {name}" for name in REASONS if name in counts.index)
        found = [
            (reason, group)
            for reason in REASONS
            for group in records(groups(self.failures[self.failures["reason"] == reason]))
        ]
        lines = [f"baseline: {counted(len(self.failures), 'row')} got worse: {told}"]
        for reason, group in found[:most]:
            head, *rest = group_lines(group)
            lines += [f"  {reason}: {head}", *(f"  {text}" for text in rest)]
        if len(found) > most:
            lines.append(f"  ... and {len(found) - most} more")
        advice = "  where this is meant to be so, `conformance accept` makes a report the new baseline"
        return [*lines, advice, *self._told()]

    def _told(self) -> list[str]:
        return [f"  {mention}" for mention in self.mentions]


def against(baseline: Path, results: pd.DataFrame, asked: RunScope | None = None) -> Check:
    """A run's results frame held against an accepted report, a file or a folder.

    Raises ReportError or AuditError where the report cannot be read, is incomplete, or is of another suite.
    """
    return check(opened(baseline)[0], results, asked, str(baseline))


def check(
    baseline: pd.DataFrame, results: pd.DataFrame, asked: RunScope | None = None, name: str = "the baseline"
) -> Check:
    """What got worse in `results` against the results frame of an accepted report.

    A row fails, the first that holds:

        new disagreement              it fails now and did not, or fails worse than it did, or is new and fails.
        vanished                      it was asked for, and is not there: a function or its support.
        status or convention changed  and it did not get better.
        drifted past its ratchet      it is right, and its error grew by too much: see the module.

    What the ledger knows never fails.  What is no longer asked, because the suite has no such case, dtype or reduction,
    is mentioned.  Frameworks are aligned by name: a baseline of one environment
    holds for every environment, and of several the nearest counts, that is the same environment, or else
    the same version, Python and numpy, or else the newest.  Raises AuditError where a question is asked
    twice, or the two have no case in common.
    """
    asked = RunScope() if asked is None else asked
    there = _in_suite(asked, results)
    baseline, results = (rows[rows["status"] != "unsupported"] for rows in (baseline, results))
    for rows, which in ((baseline, name), (results, "the run")):
        check_unique(rows, list(KEY), which)
    mentions: list[str] = []
    wanted = _asked_for(baseline, asked, mentions)
    if len(wanted) and len(results) and not set(wanted["case"]) & set(results["case"]):
        raise AuditError(name, "it has no case in common with this run", "name a baseline of the same suite")
    wanted = _still_asked(wanted, there(wanted), results, mentions)
    old, new = _placed(wanted, results, mentions)
    table = compare(old, new)
    reason = _reasons(table, asked.finished)
    failures = table[reason != ""].assign(reason=reason[reason != ""])
    order = failures["reason"].map({name: rank for rank, name in enumerate(REASONS)}).sort_values(kind="stable").index
    failures = failures.loc[order].reset_index(drop=True)
    mentions = [*_mentions(table[reason == ""], asked.finished), *_risen(wanted, results), *mentions]
    return Check(failures, tuple(mentions))


def _in_suite(asked: RunScope, results: pd.DataFrame) -> Callable[[pd.DataFrame], Flags]:
    """Which rows of a baseline the suite of the run still has."""
    if asked.suite is None:
        return has_case(results) if asked.finished and len(results) else everything
    suite = frozenset(asked.suite)

    def there(rows: pd.DataFrame) -> Flags:
        lines = rows[["case", "dtype", "reduction"]].itertuples(index=False, name=None)
        return np.array([line in suite for line in lines], dtype=bool)

    return there


def _still_asked(baseline: pd.DataFrame, there: Flags, results: pd.DataFrame, mentions: list[str]) -> pd.DataFrame:
    """The rows of a baseline that are still asked; the others are mentioned, as what they are."""
    lost = baseline[~there]
    gone = ~lost["case"].isin(set(results["case"]) | set(baseline.loc[there, "case"]))
    for rows, why in (
        (lost[gone], "the suite no longer has their cases"),
        (lost[~gone], "their cases no longer have that dtype or reduction"),
    ):
        if len(rows):
            cases = counted(rows["case"].nunique(), "case")
            named = listed(rows["case"])
            mentions.append(f"no longer asked, because {why}: {counted(len(rows), 'row')} of {cases} ({named})")
    return baseline[there]


def limit(old_ratio: pd.Series, new_ratio: pd.Series, new_ulps: pd.Series) -> pd.Series:
    """The error, in budgets, that an answer may reach by its ratchet: see the module."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ulp = (new_ratio / new_ulps).where(new_ulps > 0, 0.0)
    return (old_ratio.fillna(0.0) + ulp).clip(lower=SLACK)


def _risen(baseline: pd.DataFrame, results: pd.DataFrame) -> list[str]:
    """Where the largest error of what is right, in budgets, is past the ratchet of the largest in the baseline."""
    key = ["function", "quantity", "dtype"]
    both = largest_ratios(results).merge(largest_ratios(baseline)[[*key, "ratio"]], on=key, suffixes=("", "_before"))
    risen = both[both["ratio"] > limit(both["ratio_before"], both["ratio"], both["ulps"])]
    return [
        f"the largest error of {row['function']} ({row['quantity']}, {row['dtype']}) is {row['ratio']:.2f} budgets, "
        f"in the baseline {row['ratio_before']:.2f}: {row['case']}"
        for row in records(risen)
    ]


def _asked_for(baseline: pd.DataFrame, asked: RunScope, mentions: list[str]) -> pd.DataFrame:
    frameworks = set(baseline["framework"]) if asked.frameworks is None else asked.frameworks
    chosen = baseline["framework"].isin(frameworks)
    if left := set(baseline.loc[~chosen, "framework"]):
        mentions.append(
            f"not run, so not compared: {listed(left)} ({counted(int((~chosen).sum()), 'row')} of the baseline)"
        )
    rows = baseline[chosen]
    columns = ["framework", *KEY]
    selected = [asked.selects(row["framework"], RowKey.of(row).id) for row in records(rows[columns])]
    if count := len(selected) - sum(selected):
        mentions.append(f"not selected, so not compared: {counted(count, 'row')} of the baseline")
    return rows[np.array(selected, dtype=bool)]


def _placed(baseline: pd.DataFrame, results: pd.DataFrame, mentions: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both frames with the column `place`: for every place of the run the rows of the nearest in the baseline."""
    here = _places(results)
    there = {str(framework): rows for framework, rows in _places(baseline).groupby("framework")}
    parts, used = [], set()
    for place in records(here):
        candidates = there.get(place["framework"])
        if candidates is None:
            continue
        nearest = _nearest(candidates, place)
        used.add(_label(nearest))
        parts.append(_rows_at(baseline, nearest).assign(place=_label(place)))
        _mention_place(place, nearest, len(candidates), mentions)
    for framework, candidates in there.items():
        if framework not in set(here["framework"]):  # it ran, and nothing came of it
            newest = _nearest(candidates, {})
            used.add(_label(newest))
            parts.append(_rows_at(baseline, newest).assign(place=_label(newest)))
    others = baseline.loc[~_labels(baseline).isin(used)]
    if len(others):
        where = listed(others["environment"])
        mentions.append(f"not run, so not compared: {counted(len(others), 'row')} of the baseline in {where}")
    old = pd.concat(parts) if parts else baseline.iloc[:0].assign(place="")
    return old, results.assign(place=_labels(results))


def _places(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[*AT, "python", "numpy"]].drop_duplicates(AT).sort_values(AT)


def _label(place: dict[str, Any]) -> str:
    return "\n".join(place[name] for name in AT)


def _labels(rows: pd.DataFrame) -> pd.Series:
    return functools.reduce(lambda text, name: text + "\n" + rows[name], AT[1:], rows[AT[0]])


def _rows_at(rows: pd.DataFrame, place: dict[str, Any]) -> pd.DataFrame:
    return rows[_labels(rows) == _label(place)]


def _nearest(candidates: pd.DataFrame, place: dict[str, Any]) -> dict[str, Any]:
    """Of some places the one that is most like another; the newest, where there is no other."""
    return max(records(candidates), key=lambda candidate: _nearness(candidate, place))


def _nearness(candidate: dict[str, Any], place: dict[str, Any]) -> tuple[Any, ...]:
    same = tuple(candidate[name] == place.get(name) for name in ("device", "mode", "backend", "environment", "version"))
    minor = tuple(_minor(candidate[name]) == _minor(place.get(name, "")) for name in ("python", "numpy"))
    return (*same, *minor, _version(candidate["version"]), candidate["environment"])


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _mention_place(place: dict[str, Any], nearest: dict[str, Any], count: int, mentions: list[str]) -> None:
    where = f" in {nearest['environment']}" if count > 1 and nearest["environment"] != place["environment"] else ""
    if nearest["version"] != place["version"]:
        mentions.append(f"{place['framework']} is {place['version']}, in the baseline {nearest['version']}{where}")
    elif where:
        mentions.append(f"{place['framework']} in {place['environment']} is compared with the baseline{where}")


def _reasons(table: pd.DataFrame, finished: bool) -> pd.Series:
    has = {name: has_kind(table["kinds"], name) for name in _ASKED_OF_KINDS}
    unknown = table["new_expected"] != "known"
    both = ~has["added"] & ~has["removed"]
    worse = (table["severity"] == "regression") & ~has["removed"]
    moved = both & (has["status"] | has["convention"]) & (table["severity"] != "improvement")
    right = table["old_status"].isin(RIGHT) & table["new_status"].isin(RIGHT)
    past = table["new_ratio"] > limit(table["old_ratio"], table["new_ratio"], table["new_ulps"])
    conditions = [
        worse & unknown,
        has["removed"] & ~has["case changed"] & finished,
        moved & unknown,
        both & right & has["drifted"] & past,
    ]
    return pd.Series(np.select(conditions, REASONS, "").astype(object), index=table.index)


_ASKED_OF_KINDS = ("added", "removed", "case changed", "status", "convention", "drifted")


def _mentions(rest: pd.DataFrame, finished: bool) -> list[str]:
    """What the rows that do not fail have to tell."""
    kinds = rest["kinds"]
    removed, added, changed = (has_kind(kinds, name) for name in ("removed", "added", "case changed"))
    same = rest["severity"] == "unchanged"
    better = rest["severity"] == "improvement"
    known = ~same & ~better & (rest["new_expected"] == "known")
    known_before = int((same & rest["new_status"].isin(FAILING)).sum())
    left = ~(same | better | known | removed | added)
    drifted = left & (kinds == "drifted")
    told = [
        (same, f"as in the baseline{f', {known_before} of which fail there, too' if known_before else ''}"),
        (better & ~added, "better than in the baseline, which `conformance accept` would keep"),
        (known, "changed or new, and fail as the ledger knows"),
        (drifted, "drifted within the ratchet"),
        (left & ~drifted, f"changed otherwise ({listed(_all_kinds(kinds[left & ~drifted]))})"),
        (added & ~known & ~changed, "new"),
        (added & ~known & changed, "of cases that changed, so not compared"),
        (removed & ~changed, "not there, because the run ended early" if not finished else "gone"),
    ]
    return [f"{counted(int(flags.sum()), 'row')} {text}" for flags, text in told if flags.any()]


def _all_kinds(kinds: pd.Series) -> Iterable[str]:
    return kinds.map(listed_in).explode().unique().tolist()


__all__ = ["REASONS", "SLACK", "Check", "RunScope", "against", "check", "limit"]
