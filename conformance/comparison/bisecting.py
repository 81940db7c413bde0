"""The release in which the answer to one case changed, found by trying as few releases as needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance import comparison, report
from conformance.adapters.registry import Installed
from conformance.comparison.alignment import records
from conformance.comparison.causes import Cause, answer, causes, same_answer
from conformance.comparison.words import LONG
from conformance.execution.assessing import rows_of
from conformance.execution.run import Run
from conformance.execution.targets import start_workers
from conformance.execution.workers.pool import TIMEOUT
from conformance.judging.judge import Item, Judge, plan
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.model.text import one_line

Told = Callable[[str], None]
NEAR = 3
"""Releases that an error names."""


class Probe(Protocol):
    """What releases answer: the rows of one, or a UserError where it cannot be had."""

    def __call__(self, release: Version) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Wish:
    """What is searched.

    case: the one to be asked.  function, dtype, reduction: which of its rows; "" for all.  beside: requirements that
    every environment has, too.
    """

    distribution: str
    case: Case
    function: str = ""
    dtype: str = ""
    reduction: str = ""
    beside: str = ""

    def requirements(self, release: Version) -> str:
        return f"{self.distribution}=={release} {self.beside}".strip()

    def takes(self, item: Item) -> bool:
        """Whether an item is searched for."""
        asked = ((self.function, item.function.name), (self.dtype, item.dtype), (self.reduction, item.reduction))
        return all(wanted in ("", have) for wanted, have in asked)


@dataclass(frozen=True)
class Tried:
    """A release that was tried: its place in the search, and the answer to the first row that changes.

    said: `the old answer`, `another answer`, or why it could not be had.
    """

    release: Version
    said: str
    failed: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """How a search ended.

    changes: of `comparison.changes`, from `before`, the last release with the old answer, to `after`, the first one
    with another; only the rows that changed.  untried: releases between them that could not be had.  again: whether the
    answer at the end is another one than that of `after`, so that there is a later change, too.  rounding: whether
    nothing but rounding, wording or warnings differs at the ends, so that this is what was searched for.
    """

    wish: Wish
    before: Version
    after: Version
    changes: pd.DataFrame
    tried: tuple[Tried, ...]
    untried: tuple[Version, ...] = ()
    again: bool = False
    rounding: bool = False

    @property
    def causes(self) -> list[Cause]:
        """The changes by cause, with what documents them."""
        return causes(self.changes)


class NothingToFindError(UserError):
    """Both ends have the same answer.  tried: see `Found`."""

    def __init__(self, message: str, tried: tuple[Tried, ...]) -> None:
        super().__init__(message)
        self.tried = tried


def between(good: str, bad: str, releases: Sequence[Version], distribution: str) -> list[Version]:
    """The releases from one to another, ascending.

    `1.0` is the release 1.0, and where there is none the first of 1.0.x.  Raises UserError where there is neither, or
    the first is not before the second.
    """
    first, last = (_resolved(text, releases, distribution) for text in (good, bad))
    if first >= last:
        raise UserError(f"{good} is not before {bad}; name the older release of {distribution} first")
    return [release for release in releases if first <= release <= last]


def _resolved(text: str, releases: Sequence[Version], distribution: str) -> Version:
    try:
        wanted = Version(text)
    except InvalidVersion as error:
        raise UserError(f"{text} is no version; write, for example, 1.2.0") from error
    if wanted in releases:
        return wanted
    below = [one for one in releases if one.release[: len(wanted.release)] == wanted.release]
    if below:
        return min(below)
    near = sorted(sorted(releases, key=lambda one: _distance(one, wanted))[:NEAR])
    told = f"; the nearest are {', '.join(map(str, near))}" if near else ""
    raise UserError(f"there is no release {text} of {distribution} on the package index{told}")


def _distance(one: Version, other: Version) -> tuple[int, ...]:
    pairs = zip((*one.release, 0, 0, 0)[:4], (*other.release, 0, 0, 0)[:4], strict=False)
    return tuple(abs(a - b) for a, b in pairs)


def bisect(wish: Wish, releases: Sequence[Version], probe: Probe, told: Told) -> Found:
    """Find one release from which the answer is another than in the first of some releases.

    A release that cannot be had is stepped around; at the ends, inwards.  Releases of the same answer as the first
    are taken to have nothing but that between them, so that of several changes one is found.  Raises
    NothingToFindError where both ends answer alike, UserError where no two of them can be had.
    """
    search = _Search(wish, releases, probe, told)
    low = search.end(range(len(releases)))
    high = search.end(range(len(releases) - 1, low, -1))
    first, last = search.rows[low], search.rows[high]
    if _asked_twice(first, last).empty:
        raise UserError(f"{releases[low]} and {releases[high]} cannot be asked the same about {wish.case.id}")
    rounding = not search.differ(first, last)
    search.strict = rounding
    if rounding and not search.differ(first, last):
        ends = f"{releases[low]} and {releases[high]}"
        why = f"{wish.case.id}: {ends} answer alike to the bit, so there is nothing to find between them"
        raise NothingToFindError(why, search.trail(first))
    left, right = low, high
    while (middle := search.middle(left, right)) is not None:
        if search.differ(first, search.rows[middle]):
            right = middle
        else:
            left = middle
    table = search.changes(search.rows[left], search.rows[right])
    if table.empty:  # many small steps that add up to one that counts
        search.strict = True
        table = search.changes(search.rows[left], search.rows[right])
        search.strict = rounding
    again = search.differ(search.rows[right], last)
    untried = tuple(releases[left + 1 : right])
    return Found(wish, releases[left], releases[right], table, search.trail(first), untried, again, rounding)


@dataclass(eq=False)
class _Search:
    """What was tried so far.  rows: by place.  strict: whether rounding and wording count, too."""

    wish: Wish
    releases: Sequence[Version]
    probe: Probe
    told: Told
    rows: dict[int, pd.DataFrame] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    strict: bool = False

    def end(self, places: range) -> int:
        """The first of some places that can be had."""
        for place in places:
            if self.can(place):
                return place
        tried = "\n".join(self.failed.values())
        raise UserError(f"of {self.wish.distribution} no two releases can be had and asked this:\n{tried}")

    def can(self, place: int) -> bool:
        """Whether a release can be had and asked; it is tried now unless it was."""
        if place not in self.rows and place not in self.failed:
            self.told(f"{self.wish.distribution} {self.releases[place]}, number {len(self.rows) + 1}")
            try:
                rows = self.probe(self.releases[place])
            except UserError as error:
                self.failed[place] = str(error)
            else:
                self.rows[place] = rows
        return place in self.rows

    def middle(self, left: int, right: int) -> int | None:
        """The place nearest to the middle between two that can be had; None where there is none."""
        centre = (left + right) / 2
        places = sorted(range(left + 1, right), key=lambda place: (abs(place - centre), place))
        return next((place for place in places if self.can(place)), None)

    def differ(self, old: pd.DataFrame, new: pd.DataFrame) -> bool:
        """Whether two releases answer otherwise."""
        return not self.changes(old, new).empty

    def changes(self, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ, of those that both were asked."""
        table = _asked_twice(old, new)
        if self.strict:
            same = (table["severity"] == "unchanged") | (table["cause"] == "judgement")
        else:
            same = (table["severity"] == "note") | same_answer(table)
        return table[~same].reset_index(drop=True)

    def trail(self, first: pd.DataFrame) -> tuple[Tried, ...]:
        """Every release that was tried, ascending, and what it said."""
        told = {place: Tried(self.releases[place], why, True) for place, why in self.failed.items()}
        for place, rows in self.rows.items():
            changed = self.changes(first, rows)
            told[place] = Tried(self.releases[place], _said(records(changed)[0]) if len(changed) else "the old answer")
        return tuple(told[place] for place in sorted(told))


def _asked_twice(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    table = comparison.changes(old, new, asked=comparison.everything, asked_before=comparison.everything)
    return table[(table["old_status"] != "") & (table["new_status"] != "")]


def _said(line: dict[str, Any]) -> str:
    return f"{line['function']} {line['dtype']} {line['reduction']}: {one_line(answer(line, 'new'), LONG)}"


def prober(wish: Wish, suite: Judge, told: Told, timeout: float = TIMEOUT) -> Probe:
    """Asks releases, each in an environment made for it."""

    def probe(release: Version) -> pd.DataFrame:
        text = wish.requirements(release)
        workers = start_workers([text], told, timeout=timeout)
        with workers.pool as pool:
            items = [item for item in plan([wish.case], workers.available) if wish.takes(item)]
            if not items:
                raise UserError(f"{text}: {_nothing(wish, workers.available)}")
            run = Run()
            run.execute(rows_of(items, suite, pool))
            run.require_all(text)
        return report.frame(run.rows)

    return probe


def _nothing(wish: Wish, there: Sequence[Installed]) -> str:
    """Why nothing is asked of what is there."""
    items = plan([wish.case], there)
    functions = sorted({item.function.name for item in items})
    if not items:
        return f"no function there can express {wish.case.id}"
    if wish.function and wish.function not in functions:
        return f"{wish.function} does not take {wish.case.id} there; {', '.join(functions)} do"
    asked = sorted({f"{item.dtype} {item.reduction}" for item in items if wish.function in ("", item.function.name)})
    return f"{wish.case.id} is not asked as {f'{wish.dtype} {wish.reduction}'.strip()} there, but as {', '.join(asked)}"


def facts(found: Found) -> dict[str, Any]:
    """A search as builtin values: `found` has both releases, `changes` the rows that the second answers otherwise."""
    return {
        "found": {"before": str(found.before), "after": str(found.after)},
        "rounding": found.rounding,
        "again": found.again,
        "untried": [str(release) for release in found.untried],
        "documented": sorted({source for cause in found.causes or [] for source in cause.sources}),
        "changes": records(found.changes),
        "tried": tried_facts(found.tried),
    }


def tried_facts(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """The releases that were tried, as builtin values."""
    return [{"release": str(one.release), "said": one.said, "failed": one.failed} for one in tried]


def lines(found: Found) -> list[str]:
    """A search in plain text: the release, both answers, the call, what documents it, and what was tried."""
    wish = found.wish
    what = "rounding, wording or a warning" if found.rounding else "the answer"
    told = [f"{wish.distribution} {found.after} is the first release in which {what} is another, after {found.before}"]
    if found.untried:
        names = ", ".join(map(str, found.untried))
        told.append(f"between them {names} could not be had, so it may have been there already")
    if found.again:
        told.append("the answer at the end is yet another: it changes again later, and there may be more than these")
    for cause in found.causes or []:
        told += _lines_of(cause)
    rest = sum(cause.rows for cause in found.causes) < len(found.changes)
    told += [str(line["what"]) for line in records(found.changes)[:1] if rest]
    return [*told, *trail(found.tried)]


def trail(tried: Sequence[Tried]) -> list[str]:
    """Which releases were tried and what they said, in plain text."""
    return ["tried:", *(f"    {one.release}: {one_line(one.said, 300)}" for one in tried)]


def _lines_of(cause: Cause) -> list[str]:
    head = f"{cause.function}: {cause.what}, {cause.rows} row{'s' if cause.rows != 1 else ''}"
    sources = [f"    documented: {source}" for source in cause.sources]
    return [
        head,
        f"    {cause.example}: {one_line(cause.before, LONG)} -> {one_line(cause.after, LONG)}",
        *(sources or ["    no adapter documents it"]),
        f"    {cause.worst['call']}",
    ]


__all__ = ["Found", "NothingToFindError", "Probe", "Tried", "Wish", "between", "bisect", "lines", "prober", "trail"]
