"""A run from items to report: rows made one after another, then written and summed up."""

from __future__ import annotations

import gc
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import registry
from conformance.adapter import LoweringError
from conformance.case import Case
from conformance.coverage import coverage
from conformance.digits import PublishedVerdict, published
from conformance.errors import CaseFileError, UserError
from conformance.outcome import Outcome
from conformance.suite import Asked, Item, Row, Suite, ask

if TYPE_CHECKING:
    import pandas as pd

    from conformance.workers.crew import Crew, Ticket

AHEAD = 16
"""Items that a worker is asked before the first of them is judged."""


@dataclass(frozen=True)
class NotAsked:
    """An item that could not be asked.  worker, id: its names, as in a message.  why: for people."""

    worker: str
    id: str
    why: str

    def __str__(self) -> str:
        return f"{self.id}: {self.why}"


def rows_of(items: Sequence[Item], suite: Suite, isolated: Isolated | None = None) -> Generator[Row | NotAsked]:
    """The row of every item, in the order they are finished; for one that cannot be asked, why.

    isolated: makes the calls in processes of their own; without it they are made in this one.
    """
    gc.freeze()  # cases and items outlive the run; looking through them for garbage takes as long as many rows
    for item in items if isolated is None else isolated.as_they_come():
        try:
            yield (suite.assess(item) if isolated is None else suite.judge(*isolated.outcome(item))).row
        except (LoweringError, UserError) as error:
            yield NotAsked(item.installed.worker, item.id, str(error))


class Isolated:
    """Makes calls in the workers of a crew, each ahead of what is judged.

    items: those that will be asked for; what is not among them is asked when it is its turn.  idle: called
    before there is nothing to do but wait.
    """

    def __init__(self, crew: Crew, items: Iterable[Item] = (), idle: Callable[[], None] = lambda: None) -> None:
        self._crew = crew
        self._idle = idle
        self._place: dict[Item, int] = {}
        self._later: dict[str, deque[Item]] = {}
        for item in items:
            self._place[item] = len(self._place)
            self._later.setdefault(item.installed.worker, deque()).append(item)
        self._asked: dict[str, dict[Item, tuple[Asked, Ticket] | Exception]] = {name: {} for name in self._later}

    def as_they_come(self) -> Iterator[Item]:
        """Every item, a worker's in their order, as outcomes come in; each must be taken by `outcome` at once."""
        for name in self._later:
            self._ahead(name)
        while waiting := [(next(iter(asked)), asked) for asked in self._asked.values() if asked]:
            there = [item for item, asked in waiting if self._done(asked[item])]
            if there:
                yield min(there, key=self._place.__getitem__)
            else:
                tickets = [(item.installed.worker, asked[item]) for item, asked in waiting]
                self._idle()
                self._crew.wait_any([(name, found[1]) for name, found in tickets if isinstance(found, tuple)])

    def outcome(self, item: Item) -> tuple[Asked, Outcome]:
        """An item as it was asked, and what came of it; raises what `Crew.wait` raises."""
        name = item.installed.worker
        asked_here = self._asked.setdefault(name, {})
        self._ahead(name)
        if item not in asked_here:
            asked_here[item] = self._ask(item)
        found = asked_here.pop(item)
        self._ahead(name)
        if isinstance(found, Exception):
            raise found
        asked, ticket = found
        return asked, self._crew.wait(name, ticket)

    def _ahead(self, name: str) -> None:
        later, asked = self._later.get(name, ()), self._asked[name]
        if len(asked) > AHEAD // 2:
            return  # a worker that is given many calls at one time is woken once for all of them
        while later and len(asked) < AHEAD:
            item = later.popleft()
            asked[item] = self._ask(item)

    def _ask(self, item: Item) -> tuple[Asked, Ticket] | Exception:
        try:
            asked = ask(item)
            return asked, self._crew.submit(item.installed.worker, asked.call, asked.what)
        except (LoweringError, CaseFileError) as error:
            return error

    def _done(self, found: tuple[Asked, Ticket] | Exception) -> bool:
        return isinstance(found, Exception) or self._crew.over(found[0].item.installed.worker, found[1])


def write(
    folder: Path,
    results: pd.DataFrame,
    planned: int,
    started: float,
    cases: Sequence[Case],
    missing: Sequence[str] = (),
    selected: str = "",
    interrupted: str = "",
) -> dict[str, Any]:
    """Write the report of a run, whole or not, and return what its `run.json` says; raises ReportError.

    results: a `report.frame` of its rows.  planned: how many rows there were to be.  started: seconds since
    the epoch.  cases: those that there were to choose from.  missing: frameworks that are not installed.
    selected: the option that left items out.  interrupted: why it ended early.
    """
    from conformance import report  # pandas, which a run without a report does not need

    versions = results[results["version"] != ""].groupby("framework")["version"].unique()
    run = report.RunInfo(
        planned=planned,
        versions={str(framework): ", ".join(sorted(found)) for framework, found in versions.items()},
        missing=tuple(missing),
        interrupted=interrupted,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        duration=round(time.time() - started, 3),
        coverage=covered(cases),
        suite=report.fingerprint((case.id, case.digest) for case in cases),
        selected=selected,
        published=tuple(_number(number) for case in cases for number in published(case)),
    )
    beside = report.Beside(report.problems(cases), report.sizes(cases))
    return report.write(folder, results, run, run.published, beside)


def covered(cases: Sequence[Case]) -> str:
    """What the cases cover of what the known functions take, in a line."""
    return str(coverage(cases, registry.functions()))


def _number(number: PublishedVerdict) -> dict[str, object]:
    return {
        "case": number.case,
        "value": number.published.value,
        "exact": number.exact,
        "holds": number.holds,
        "source": number.published.source,
    }


def largest_ratios(rows: Iterable[Row]) -> list[Row]:
    """The row with the largest error / budget of each function, quantity and dtype; `report.largest_ratios` without
    pandas.
    """
    worst: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        ratio = row["ratio"]
        if ratio is not None and ratio < float("inf") and row["status"] in ("agrees", "diverges"):
            key = (row["function"], row["quantity"], row["dtype"])
            if key not in worst or ratio > worst[key]["ratio"]:
                worst[key] = row
    return list(worst.values())


def closing_lines(largest: Iterable[Mapping[str, Any]], finished: int, planned: int, coverage: str) -> list[str]:
    """What a run says at its end: the largest ratios, what the corpus covers, and whether the run is whole.

    largest: as in `run.json`, or `largest_ratios`.  finished, planned: rows.  coverage: `covered`, empty where only a
    part of the corpus was run, whose coverage says nothing.
    """
    named = sorted((_of(row), row["dtype"], f"{row['ratio']:.3f}  {row['case']}") for row in largest)
    lines = ["largest error / budget of what is right:"] if named else []
    for function, of in itertools.groupby(named, key=lambda found: found[0]):
        lines.append(f"  {function}")
        lines += [f"    {dtype:<8} {told}" for _, dtype, told in of]
    if coverage:
        lines.append(coverage)
    if finished != planned:
        lines.append(f"incomplete: {finished} of {planned} rows")
    return lines


def _of(row: Mapping[str, Any]) -> str:
    return str(row["function"]) if row["quantity"] == "loss" else f"{row['quantity']} of {row['function']}"
