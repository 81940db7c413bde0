"""An upgrade, audited: both sides are run at once, and what changed is told by cause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from conformance import comparison, report
from conformance.adapters.registry import Installed
from conformance.comparison import Difference, Side, signatures
from conformance.comparison.causes import Cause, causes, sections
from conformance.comparison.signatures import SignatureChange
from conformance.execution import running
from conformance.execution.places import places_of
from conformance.execution.workers.crew import TIMEOUT, Crew
from conformance.judging.suite import Item, Row, Suite, id_of
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.report import recording

Told = Callable[[str], None]
NAMES = ("old", "new")
"""Folders of both sides' reports."""


@dataclass(frozen=True)
class Sides:
    """Both ends of an upgrade, ready to be asked.

    names: of both environments.  left_out: a sentence for each framework that is not audited.
    """

    crew: Crew
    names: tuple[str, str]
    old: tuple[Installed, ...]
    new: tuple[Installed, ...]
    left_out: tuple[str, ...] = ()

    @property
    def there(self) -> list[Installed]:
        return [*self.old, *self.new]


@contextmanager
def sides_of(old: str, new: str, told: Told, timeout: float = TIMEOUT) -> Iterator[Sides]:
    """Both environments, as after `--with`, made at need; workers start in them and end with the context.

    told: gets a line for each step.  timeout: seconds that a call may take.  Raises UserError where one of
    them cannot be had, both are the same, or no framework is in both.
    """
    from conformance.execution.environments import parse

    before, after = (parse(text).name for text in (old, new))
    if before == after:
        raise UserError(f"both sides are {before}, so there is nothing to compare; name two environments")
    places = places_of([old, new], told, timeout=timeout)
    assert places.crew is not None
    with places.crew as crew:
        gone = {row["environment"] for row in places.failed if not row["framework"]}
        if gone:
            raise UserError("\n".join(row["explanation"] for row in places.failed))
        left, right = (
            {one.framework.name: one for one in places.there if one.environment == name} for name in (before, after)
        )
        common = sorted(left.keys() & right.keys())
        notes = [f"{row['framework']} is not audited: {row['explanation']}" for row in places.failed]
        broken = {row["framework"] for row in places.failed}
        for here, where, there in ((left, after, right), (right, before, left)):
            lacking = sorted(here.keys() - there.keys() - broken)
            notes += [f"{name} is not audited: it is not in {where}" for name in lacking]
        if not common:
            what = "; ".join(notes) or "they have no framework in common"
            raise UserError(f"{before} and {after} cannot be compared: {what}")
        yield Sides(
            crew, (before, after), tuple(left[n] for n in common), tuple(right[n] for n in common), tuple(notes)
        )


class Journals:
    """The folders of both sides' reports while an audit lasts, each held by a journal; see `report.journal`.

    As a context, it gives the folders back: as they were if a UserError ends it before there is a plan, and with their
    journals if anything ends it later.  Raises ReportError as `Journal.begin` does.
    """

    def __init__(self, folder: Path, warn: Told) -> None:
        self.started = time.time()
        self._planned = False
        self._journals: list[report.Journal] = []
        try:
            for name in NAMES:
                self._journals.append(report.Journal.begin(folder / name, recording.moment(self.started), warn))
        except BaseException:
            self._abandon()
            raise
        for note in (note for journal in self._journals for note in journal.notes):
            warn(note)

    def __enter__(self) -> Journals:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserError) and not self._planned:
            self._abandon()
            return
        for journal in self._journals:
            journal.close(whole=kind is None)

    def plan(self, sides: Sides, items: Sequence[Item], cases: Sequence[Case], selected: str) -> None:
        """Write down what each side is to be asked; see `audited`."""
        for journal, count in zip(self._journals, _counts(sides, items), strict=True):
            journal.plan(recording.planned(cases, count, self.started, selected=selected))
        self._planned = True

    def append(self, row: Row, side: int) -> None:
        """Write one row of a side, 0 or 1."""
        self._journals[side].append(row)

    def _abandon(self) -> None:
        for journal in self._journals:
            journal.abandon()


def _counts(sides: Sides, items: Sequence[Item]) -> tuple[int, int]:
    """How many items each side has."""
    old, new = (sum(item.installed.environment == name for item in items) for name in sides.names)
    return old, new


@dataclass(frozen=True, eq=False)
class Answers:
    """What came of the items of both sides.

    rows: of the old and the new side; failures: why items could not be asked, which are then in neither.
    planned: how many items each side had.  stopped: why it ended early, "" if it did not.  failure: the exception that
    it ended with, raised once both reports are written.
    """

    rows: tuple[list[Row], list[Row]]
    planned: tuple[int, int]
    started: float
    failures: list[str] = field(default_factory=list)
    stopped: str = ""
    failure: Exception | None = None


def answers(sides: Sides, items: Sequence[Item], suite: Suite, advance: Told, journals: Journals) -> Answers:
    """Put items to both sides at once.  advance: gets a line for each row that is made.  journals: get the rows."""
    planned = _counts(sides, items)
    found = Answers(([], []), planned, journals.started)
    lost: set[str] = set()
    stopped, failure = "", None
    try:
        for count, made in enumerate(running.rows_of(items, suite, running.Isolated(sides.crew, items)), 1):
            advance(f"{count} of {len(items)} rows")
            if isinstance(made, running.NotAsked):
                found.failures.append(str(made))
                lost.add(made.id)
            else:
                side = int(made["environment"] == sides.names[1])
                journals.append(made, side)
                found.rows[side].append(made)
    except KeyboardInterrupt:
        stopped = "interrupted"
    except Exception as error:
        stopped, failure = f"the suite itself failed: {type(error).__name__}", error
    kept = [[row for row in rows if id_of(row) not in lost] for rows in found.rows]
    return Answers((kept[0], kept[1]), planned, found.started, found.failures, stopped, failure)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an upgrade changes.

    versions: of each audited framework, (old, new).  sections: of every row of the difference, see
    `causes.sections`.  left_out: sentences about what was not audited.
    """

    difference: Difference
    versions: dict[str, tuple[str, str]]
    sections: pd.Series
    causes: list[Cause]
    signatures: list[SignatureChange]
    left_out: tuple[str, ...] = ()

    def of(self, section: str) -> list[Cause]:
        """The causes of one section."""
        return [cause for cause in self.causes if cause.section == section]

    def fails(self, level: str) -> bool:
        """Whether something is as bad as a level of `comparison.LEVELS`.

        What is documented counts at `any` only; from `change` on a parameter that is gone, renamed or stands
        elsewhere counts, too.
        """
        table = self.difference.changes
        if level == "any":
            return comparison.fails(table, level) or bool(self.signatures)
        broken = level not in ("never", "regression") and any(change.breaking for change in self.signatures)
        return broken or comparison.fails(table[table["cause"] != "documented"], level)


def audited(sides: Sides, found: Answers, cases: Sequence[Case], folder: Path, selected: str = "") -> Audit:
    """Write both sides' reports below a folder and say what differs between them.

    cases: those that there were to choose from.  selected: the option that left items out.
    Raises ReportError where they cannot be written, and AuditError where they have nothing in common.
    """
    halves = []
    for name, rows, planned in zip(NAMES, found.rows, found.planned, strict=True):
        plan = recording.planned(cases, planned, found.started, selected=selected)
        recording.write(folder / name, report.frame(rows), plan, time.time() - found.started, found.stopped)
        halves.append(report.read(folder / name))
    if found.failure is not None:
        raise found.failure
    if found.stopped:
        raise KeyboardInterrupt
    (before, old), (after, new) = halves
    table = comparison.changes(
        before, after, sides.names, asked=comparison.everything, asked_before=comparison.everything
    )
    paths = _paths(sides, set(table["function"]))
    both = table[(table["old_status"] != "") & (table["new_status"] != "")]
    told = _signatures(sides, paths, set(both["function"]))
    said = [*told, *signatures.deprecations(table, {name: new for name, (_, new) in paths.items()})]
    return Audit(
        Difference(Side(sides.names[0], old), Side(sides.names[1], new), table),
        {a.framework.name: (a.version, b.version) for a, b in zip(sides.old, sides.new, strict=True)},
        sections(table),
        causes(table),
        sorted(said, key=lambda change: (signatures.KINDS.index(change.kind), change.path, str(change))),
        sides.left_out,
    )


def _paths(sides: Sides, names: set[str]) -> dict[str, tuple[str, str]]:
    """Where the audited functions stand on either side; where one side has none, it is looked for in the same place."""
    was, now = (
        {function.name: function.path for installed in side for function in installed.functions}
        for side in (sides.old, sides.new)
    )
    return {name: (was.get(name) or now[name], now.get(name) or was[name]) for name in sorted(names & {*was, *now})}


def _signatures(sides: Sides, paths: dict[str, tuple[str, str]], asked: set[str]) -> Iterator[SignatureChange]:
    """asked: functions that both sides were asked, so that they are there even if their signature cannot be read."""
    for a, b in zip(sides.old, sides.new, strict=True):
        own = {name: both for name, both in paths.items() if name.partition(".")[0] == a.framework.name}
        pairs = dict.fromkeys(own.values())
        olds = sides.crew.signatures(a.worker, [old for old, _ in pairs])
        news = sides.crew.signatures(b.worker, [new for _, new in pairs])
        for old, new in pairs:
            if old in olds and new in news:
                users = [name for name, both in own.items() if both == (old, new)]
                was, now = signatures.parameters(olds[old]), signatures.parameters(news[new])
                if (was is not None and now is not None) or not asked & set(users):
                    yield from signatures.compared(new, users, was, now)
