"""A run from items to report: rows made one after another, then written and summed up."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import registry
from conformance.adapter import LoweringError
from conformance.case import Case
from conformance.coverage import coverage
from conformance.digits import PublishedVerdict, published
from conformance.errors import CaseFileError, UserError
from conformance.marking import MARK, marked, put_back
from conformance.outcome import Outcome
from conformance.suite import Asked, Item, Row, Suite, ask

if TYPE_CHECKING:
    import pandas as pd

    from conformance.known import Ledger
    from conformance.registry import Installed
    from conformance.report import Plan, Recorded
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

    items: those that will be asked for; what is not among them is asked when it is its turn.
    """

    def __init__(self, crew: Crew, items: Iterable[Item] = ()) -> None:
        self._crew = crew
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


def planned(
    cases: Sequence[Case],
    count: int,
    started: float,
    missing: Sequence[str] = (),
    selected: str = "",
    ledger: Ledger | None = None,
    installed: Iterable[Installed] = (),
    timeout: float = 0.0,
) -> Plan:
    """What is known of a run before its first row.

    cases: those that there were to choose from.  count: how many rows there are to be.  started: seconds since the
    epoch.  missing: frameworks that are not installed.  selected: the option that left items out.  ledger, installed,
    timeout: what rows depend on, for a run that may be resumed.
    """
    from conformance import report  # pandas, which a run without a report does not need

    info = report.RunInfo(
        planned=count,
        missing=tuple(missing),
        started=moment(started),
        coverage=covered(cases),
        suite=report.fingerprint((case.id, case.digest) for case in cases),
        selected=selected,
        published=tuple(_number(number) for case in cases for number in published(case)),
    )
    beside = report.Beside(problems=report.problems(cases), sizes=report.sizes(cases))
    return report.Plan(info, beside, _basis(ledger, installed, timeout))


def moment(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 with zone."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def write(folder: Path, results: pd.DataFrame, plan: Plan, duration: float, interrupted: str = "") -> dict[str, Any]:
    """Write the report of a run, whole or not, and return what its `run.json` says; raises ReportError.

    results: a `report.frame` of its rows.  duration: seconds.  interrupted: why it ended early.
    """
    from conformance import report

    versions = results[results["version"] != ""].groupby("framework")["version"].unique()
    run = replace(
        plan.info,
        versions={str(framework): ", ".join(sorted(found)) for framework, found in versions.items()},
        interrupted=interrupted,
        duration=round(duration, 3),
    )
    return report.write(folder, results, run, run.published, plan.beside)


LOST = "the run did not come to its end"
"""Why a report is incomplete that was written from the journal of a run that was killed."""
UNPLANNED = f"{LOST}, and how many rows it planned is not known"
"""The same, if its journal lacks the plan."""


def recover(folder: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """Write the report of a run that was killed, or interrupted, from its journal; return what its `run.json` says.

    It is complete if every row is there.  Otherwise the journal stays, so that the run can be resumed.  If the run
    was killed before it had a journal, the report from before is what there is.  Lines of the journal that cannot be
    read are left out, and counted in a warning.  Raises ReportError if there is no journal with a row, if the run
    still lasts, or if the report cannot be written.
    """
    from conformance import report

    if marked(folder) and not (folder / report.JOURNAL).exists():
        put_back(folder)
        (folder / MARK).unlink()
        warn(f"{folder}: the last run there ended before it asked anything; this is the report from before")
        return report.read(folder)[1]
    recorded = report.read_journal(folder)
    ended = (folder / report.JOURNAL).stat().st_mtime
    journal = report.Journal.begin(folder, recorded.started, warn, resume=True)
    try:
        recorded = journal.resumed or recorded
        if recorded.torn:
            warn(torn_lines(recorded))
        if not recorded.rows:
            what = "no row was finished, so there is nothing to recover"
            raise report.ReportError(folder, what, "run again")
    except BaseException:
        journal.abandon()
        raise
    try:
        record = write_recorded(folder, recorded, ended)
    except BaseException:
        journal.close(whole=False)
        raise
    journal.close(whole=record["complete"])
    return record


def write_recorded(folder: Path, recorded: Recorded, ended: float, interrupted: str = LOST) -> dict[str, Any]:
    """Write the report of what a journal holds.  ended: seconds since the epoch."""
    from conformance import report

    rows = list(recorded.rows.values())
    plan = recorded.plan or report.Plan(report.RunInfo(planned=len(rows), started=recorded.started), report.Beside())
    began = datetime.fromisoformat(recorded.started).timestamp() if recorded.started else ended
    if recorded.plan is None:
        interrupted = UNPLANNED
    elif len(rows) == plan.info.planned:
        interrupted = ""
    return write(folder, report.frame(rows), plan, max(0.0, ended - began), interrupted)


def torn_lines(recorded: Recorded) -> str:
    """How many lines of a journal cannot be read, as a message."""
    return f"{recorded.torn} {'line' if recorded.torn == 1 else 'lines'} of the journal could not be read"


def taken_over(recorded: Recorded, plan: Plan, items: Sequence[Item]) -> tuple[list[Row], list[str], int]:
    """The rows of an unfinished run that can be taken over, why others are asked again, and how many are of no item.

    A row is taken over if its case, the versions of its framework, of Python and of numpy, and what else it depends on
    (the basis of the plan) are the same.
    """
    there = {(item.framework.name, item.installed.environment, item.id): item for item in items}
    before = recorded.plan.basis if recorded.plan is not None else {}
    changed = {name for name in {*before, *plan.basis} if before.get(name) != plan.basis.get(name)}
    rows: list[Row] = []
    again: Counter[str] = Counter()
    others = 0
    for key, row in recorded.rows.items():
        item = there.get(key)
        if item is None:
            others += row["case"] != "" and row["function"] != "" and row["status"] != "unsupported"
            continue
        why = _changed(row, item, changed)
        if why:
            again[why] += 1
        else:
            rows.append(row)
    return rows, [f"{count} rows are asked again: {why}" for why, count in again.items()], others


def _changed(row: Row, item: Item, basis: set[str]) -> str:
    """Why a row is no longer that of its item; empty where it is."""
    found = item.installed
    if row["digest"] != item.case.digest:
        return "their cases have changed"
    now = {found.framework.name: found.version, "Python": found.python, "numpy": found.numpy}
    for (name, version), was in zip(now.items(), (row["version"], row["python"], row["numpy"]), strict=True):
        if was != version:
            return f"they are of {name} {was}, and this is {version}"
    mine = {"conformance", "ledger", f"adapter of {found.framework.name}", f"variant of {found.worker}"}
    if row["status"] == "timed_out":
        mine.add("--timeout")
    return f"another {', another '.join(sorted(mine & basis))}" if mine & basis else ""


def _basis(ledger: Ledger | None, installed: Iterable[Installed], timeout: float) -> dict[str, str]:
    """What rows depend on and do not say themselves."""
    from conformance import report

    found = {"conformance": json.dumps(report.host(), sort_keys=True), "--timeout": f"{timeout:g}"}
    if ledger is not None:
        entries = [replace(entry, path="", line=0) for entry in (*ledger.entries, *ledger.others)]
        found["ledger"] = hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
    for one in installed:
        found[f"variant of {one.worker}"] = one.variant
        found[f"adapter of {one.framework.name}"] = registry.source_digest(one.framework)
    return found


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
