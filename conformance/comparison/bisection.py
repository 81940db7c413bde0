"""Find the release in which the answer to one case changed, with as few attempts as possible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
from packaging.version import InvalidVersion, Version

from conformance import report
from conformance.adapters.registry import Installed
from conformance.comparison.causes import Cause, answer_text, causes, same_answer
from conformance.comparison.changes import SAME_QUESTIONS, compare_results
from conformance.comparison.sentences import MAX_TEXT
from conformance.execution.assessing import judge_items
from conformance.execution.run import Run
from conformance.execution.targets import Progress, start_workers
from conformance.execution.workers.pool import DEFAULT_TIMEOUTS, Timeouts
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, plan
from conformance.judging.selection import ItemFilter
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.model.text import format_count, one_line
from conformance.report.frames import records

MAX_NEAREST = 3
"""Maximum number of releases that an error suggests."""
MAX_OUTCOME = 300
"""Maximum number of characters of the outcome of an attempt."""


class Probe(Protocol):
    """Returns the rows of a release; raises UserError if it cannot be installed or executed."""

    def __call__(self, release: Version) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Query:
    """The answer whose change is searched for."""

    distribution: str
    case: Case
    function: str = ""
    """Name of a function; "" for all.  The same holds for dtype and reduction."""
    dtype: str = ""
    reduction: str = ""
    beside: str = ""
    """Additional requirements of every environment."""

    def requirements(self, release: Version) -> str:
        """The requirements of the environment of a release."""
        return f"{self.distribution}=={release} {self.beside}".strip()

    def plan(self, available: Sequence[Installed]) -> list[Item]:
        """The items on its case, selecting its function by name."""
        return plan([self.case], available, ItemFilter(is_named=self.function.__eq__))

    def selects(self, item: Item) -> bool:
        """Whether the answer to an item is searched for."""
        filters = ((self.function, item.function.name), (self.dtype, item.dtype), (self.reduction, item.reduction))
        return all(name in ("", value) for name, value in filters)


@dataclass(frozen=True)
class Attempt:
    """A release that was tried."""

    release: Version
    outcome: str
    """`the old answer`, the first differing answer, or why the release could not be executed."""
    failed: bool = False


@dataclass(frozen=True, eq=False)
class Bisection:
    """The result of a search."""

    query: Query
    before: Version
    """The last release with the old answer."""
    after: Version
    """The first release with another answer."""
    changes: pd.DataFrame
    """The changed rows of `comparison.changes` between these releases."""
    attempts: tuple[Attempt, ...]
    untried: tuple[Version, ...] = ()
    """Releases between `before` and `after` that could not be installed or executed."""
    changes_again: bool = False
    """Whether the answer of the last release differs from that of `after`, too."""
    rounding: bool = False
    """Whether only rounding, wording or warnings differ between the ends, so that these are searched for."""

    @property
    def causes(self) -> list[Cause]:
        """The changes by cause, with their documentation."""
        return causes(self.changes)


class NothingToFindError(UserError):
    """The first and the last release have the same answer."""

    def __init__(self, message: str, attempts: tuple[Attempt, ...]) -> None:
        super().__init__(message)
        self.attempts = attempts


def releases_between(good: str, bad: str, releases: Sequence[Version], distribution: str) -> list[Version]:
    """The releases from one to another, ascending.

    `1.0` is the release 1.0 or, if there is none, the first of 1.0.x.  Raises UserError if there is neither, or if the
    first is not before the second.
    """
    first, last = (_find_release(text, releases, distribution) for text in (good, bad))
    if first >= last:
        raise UserError(f"{good} is not before {bad}; name the older release of {distribution} first")
    return [release for release in releases if first <= release <= last]


def _find_release(text: str, releases: Sequence[Version], distribution: str) -> Version:
    try:
        requested = Version(text)
    except InvalidVersion as error:
        raise UserError(f"{text} is not a version; write, for example, 1.2.0") from error
    if requested in releases:
        return requested
    below = [release for release in releases if release.release[: len(requested.release)] == requested.release]
    if below:
        return min(below)
    nearest = sorted(sorted(releases, key=lambda release: _distance(release, requested))[:MAX_NEAREST])
    suggestion = f"; the nearest are {', '.join(map(str, nearest))}" if nearest else ""
    raise UserError(f"there is no release {text} of {distribution} on the package index{suggestion}")


def _distance(release: Version, other: Version) -> tuple[int, ...]:
    pairs = zip((*release.release, 0, 0, 0)[:4], (*other.release, 0, 0, 0)[:4], strict=False)
    return tuple(abs(a - b) for a, b in pairs)


def bisect(query: Query, releases: Sequence[Version], probe: Probe, progress: Progress) -> Bisection:
    """Find a release from which the answer differs from that of the first release.

    A release that cannot be executed is skipped; at the ends, the next inner one is used.  Between two releases with
    the first answer, all releases are assumed to have it, so that one of several changes is found.

    Raises NothingToFindError if both ends have the same answer, UserError if no two releases can be executed.
    """
    search = _Search(query, releases, probe, progress)
    low = search.first_available(range(len(releases)))
    high = search.first_available(range(len(releases) - 1, low, -1))
    first, last = search.rows[low], search.rows[high]
    if _changes_of_common_rows(first, last).empty:
        raise UserError(f"{releases[low]} and {releases[high]} have no problem of {query.case.id} in common")
    rounding = not search.differ(first, last)
    search.strict = rounding
    if rounding and not search.differ(first, last):
        ends = f"{releases[low]} and {releases[high]}"
        why = f"{query.case.id}: {ends} answer alike to the bit, so there is nothing to find between them"
        raise NothingToFindError(why, search.attempts(first))
    left, right = low, high
    while (middle := search.middle(left, right)) is not None:
        if search.differ(first, search.rows[middle]):
            right = middle
        else:
            left = middle
    table = search.changes(search.rows[left], search.rows[right])
    if table.empty:  # many small changes add up to a significant one
        search.strict = True
        table = search.changes(search.rows[left], search.rows[right])
        search.strict = rounding
    changes_again = search.differ(search.rows[right], last)
    untried = tuple(releases[left + 1 : right])
    return Bisection(
        query, releases[left], releases[right], table, search.attempts(first), untried, changes_again, rounding
    )


@dataclass(eq=False)
class _Search:
    """The releases tried so far."""

    query: Query
    releases: Sequence[Version]
    probe: Probe
    progress: Progress
    rows: dict[int, pd.DataFrame] = field(default_factory=dict)
    """The rows of a release, by its index in `releases`."""
    errors: dict[int, str] = field(default_factory=dict)
    """Why a release could not be executed."""
    strict: bool = False
    """Whether rounding and wording count as differences."""

    def first_available(self, indices: Iterable[int]) -> int:
        """The first of some releases that can be executed."""
        for index in indices:
            if self.available(index):
                return index
        errors = "\n".join(self.errors.values())
        raise UserError(f"of {self.query.distribution} no two releases can be installed and executed:\n{errors}")

    def available(self, index: int) -> bool:
        """Whether a release can be executed; it is tried at the first call."""
        if index not in self.rows and index not in self.errors:
            self.progress(f"{self.query.distribution} {self.releases[index]}, number {len(self.rows) + 1}")
            try:
                self.rows[index] = self.probe(self.releases[index])
            except UserError as error:
                self.errors[index] = str(error)
        return index in self.rows

    def middle(self, left: int, right: int) -> int | None:
        """The release nearest to the middle between two that can be executed; None if there is none."""
        centre = (left + right) / 2
        indices = sorted(range(left + 1, right), key=lambda index: (abs(index - centre), index))
        return next(filter(self.available, indices), None)

    def differ(self, old: pd.DataFrame, new: pd.DataFrame) -> bool:
        """Whether the answers of two releases differ."""
        return not self.changes(old, new).empty

    def changes(self, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
        """The differing rows among those that both releases have."""
        table = _changes_of_common_rows(old, new)
        if self.strict:
            same = (table["severity"] == "unchanged") | (table["cause"] == "judgement")
        else:
            same = (table["severity"] == "note") | same_answer(table)
        return table[~same].reset_index(drop=True)

    def attempts(self, first: pd.DataFrame) -> tuple[Attempt, ...]:
        """All attempts, by ascending release."""
        attempts = {index: Attempt(self.releases[index], why, True) for index, why in self.errors.items()}
        for index, rows in self.rows.items():
            outcome = next(map(_answer_in_row, records(self.changes(first, rows))), "the old answer")
            attempts[index] = Attempt(self.releases[index], outcome)
        return tuple(attempts[index] for index in sorted(attempts))


def _changes_of_common_rows(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    table = compare_results(old, new, scopes=SAME_QUESTIONS)
    return table[(table["old_status"] != "") & (table["new_status"] != "")]


def _answer_in_row(row: dict[str, Any]) -> str:
    return f"{row['function']} {row['dtype']} {row['reduction']}: {one_line(answer_text(row, 'new'), MAX_TEXT)}"


def make_probe(query: Query, judge: Judge, progress: Progress, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Probe:
    """A probe that executes each release in its own environment."""

    def probe(release: Version) -> pd.DataFrame:
        text = query.requirements(release)
        workers = start_workers({text: ()}, progress, timeouts=timeouts)
        with workers.pool as pool:
            items = [item for item in query.plan(workers.available) if query.selects(item)]
            if not items:
                raise UserError(f"{text}: {_why_nothing_selected(query, workers.available)}")
            run = Run()
            run.execute(judge_items(items, judge, pool))
            run.require_all(text)
        return report.frame(run.rows)

    return probe


def _why_nothing_selected(query: Query, available: Sequence[Installed]) -> str:
    case, items = query.case.id, query.plan(available)
    functions = sorted({item.function.name for item in items})
    if not items:
        return f"no function there can express {case}"
    if query.function and query.function not in functions:
        return f"{query.function} does not take {case} there; {', '.join(functions)} do"
    chosen = (item for item in items if query.function in ("", item.function.name))
    problems = sorted({f"{item.dtype} {item.reduction}" for item in chosen})
    return f"{case} is not called as {f'{query.dtype} {query.reduction}'.strip()} there, but as {', '.join(problems)}"


def as_dict(search: Bisection) -> dict[str, Any]:
    """A search as builtin values: `found` has both releases, `changes` the rows that differ in the second."""
    return {
        "found": {"before": str(search.before), "after": str(search.after)},
        "rounding": search.rounding,
        "again": search.changes_again,
        "untried": [str(release) for release in search.untried],
        "documented": sorted({source for cause in search.causes for source in cause.sources}),
        "changes": records(search.changes),
        "tried": attempts_as_dicts(search.attempts),
    }


def attempts_as_dicts(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """The attempts as builtin values."""
    return [
        {"release": str(attempt.release), "said": attempt.outcome, "failed": attempt.failed} for attempt in attempts
    ]


def lines(search: Bisection) -> list[str]:
    """A search as plain text: the release, both answers, the call, its documentation, and the attempts."""
    subject = "rounding, wording or a warning" if search.rounding else "the answer"
    name = f"{search.query.distribution} {search.after}"
    result = [f"{name} is the first release in which {subject} is another, after {search.before}"]
    if search.untried:
        names = ", ".join(map(str, search.untried))
        result.append(f"{names}, between them, could not be installed or called, so it may have been there already")
    if search.changes_again:
        result.append("the answer at the end is yet another: it changes again later, and there may be more than these")
    by_cause = search.causes
    for cause in by_cause:
        result += _cause_lines(cause)
    if sum(cause.rows for cause in by_cause) < len(search.changes):
        result.append(str(search.changes["what"].iloc[0]))
    return [*result, *attempt_lines(search.attempts)]


def attempt_lines(attempts: Sequence[Attempt]) -> list[str]:
    """The attempts as plain text."""
    return ["tried:", *(f"    {attempt.release}: {one_line(attempt.outcome, MAX_OUTCOME)}" for attempt in attempts)]


def _cause_lines(cause: Cause) -> list[str]:
    sources = [f"    documented: {source}" for source in cause.sources]
    return [
        f"{cause.function}: {cause.description}, {format_count(cause.rows, 'row')}",
        f"    {cause.example}: {one_line(cause.before, MAX_TEXT)} -> {one_line(cause.after, MAX_TEXT)}",
        *(sources or ["    no adapter documents it"]),
        f"    {cause.example_row['call']}",
    ]
