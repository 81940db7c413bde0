"""An upgrade, audited: both sides are run at once, and what changed is told by cause."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from conformance import comparison, report
from conformance.adapters.registry import Installed
from conformance.comparison import Difference, Side, signatures
from conformance.comparison.causes import Cause, causes, sections
from conformance.comparison.signatures import SignatureChange
from conformance.execution import assessing
from conformance.execution.run import Run
from conformance.execution.targets import start_workers
from conformance.execution.workers.pool import TIMEOUT, WorkerPool
from conformance.judging.judge import Item, Judge, id_of
from conformance.judging.row import Record
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.report import recording
from conformance.report.recording import RecordedRun

Progress = Callable[[str], None]
NAMES = ("old", "new")
"""Folders of both sides' reports."""


@dataclass(frozen=True)
class Sides:
    """Both ends of an upgrade, ready to be asked.

    names: of both environments.  left_out: a sentence for each framework that is not audited.
    """

    pool: WorkerPool
    names: tuple[str, str]
    old: tuple[Installed, ...]
    new: tuple[Installed, ...]
    left_out: tuple[str, ...] = ()

    @property
    def there(self) -> list[Installed]:
        return [*self.old, *self.new]


@contextmanager
def sides_of(old: str, new: str, progress: Progress, timeout: float = TIMEOUT) -> Iterator[Sides]:
    """Both environments, as after `--with`, made at need; workers start in them and end with the context.

    progress: gets a line for each step.  timeout: seconds that a call may take.  Raises UserError where one of
    them cannot be had, both are the same, or no framework is in both.
    """
    from conformance.execution.environments import parse

    before, after = (parse(text).name for text in (old, new))
    if before == after:
        raise UserError(f"both sides are {before}, so there is nothing to compare; name two environments")
    workers = start_workers([old, new], progress, timeout=timeout)
    with workers.pool as pool:
        gone = {row["environment"] for row in workers.failed if not row["framework"]}
        if gone:
            raise UserError("\n".join(row["explanation"] for row in workers.failed))
        left, right = (
            {one.framework.name: one for one in workers.available if one.environment == name}
            for name in (before, after)
        )
        common = sorted(left.keys() & right.keys())
        notes = [f"{row['framework']} is not audited: {row['explanation']}" for row in workers.failed]
        broken = {row["framework"] for row in workers.failed}
        for here, where, there in ((left, after, right), (right, before, left)):
            lacking = sorted(here.keys() - there.keys() - broken)
            notes += [f"{name} is not audited: it is not in {where}" for name in lacking]
        if not common:
            what = "; ".join(notes) or "they have no framework in common"
            raise UserError(f"{before} and {after} cannot be compared: {what}")
        yield Sides(
            pool, (before, after), tuple(left[n] for n in common), tuple(right[n] for n in common), tuple(notes)
        )


class Answers(Run):
    """What came of the items of both sides, each into a report of its own.

    As a context, it gives the folders of the reports back: as they were if a UserError ends it before there is a plan,
    and with their journals if anything ends it later.  Raises ReportError as `RecordedRun` does.
    """

    def __init__(self, folder: Path, warn: Progress) -> None:
        super().__init__(self._record)
        self.sides: list[RecordedRun] = []
        self._new = ""
        try:
            for name in NAMES:
                self.sides.append(RecordedRun(folder / name, warn))
        except BaseException:
            self._abandon()
            raise

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, UserError) and not any(side.planned for side in self.sides):
            self._abandon()
            return
        for side in self.sides:
            side.close()

    def execute_both(
        self,
        sides: Sides,
        items: Sequence[Item],
        cases: Sequence[Case],
        selected: str,
        judge: Judge,
        progress: Progress,
    ) -> None:
        """Put items to both sides at once.

        cases: those that there were to choose from.  selected: the option that left items out.  progress: gets a line
        for each row that is made.
        """
        self.items = items
        self._new = sides.names[1]
        for side, name in zip(self.sides, sides.names, strict=True):
            mine = [item for item in items if item.installed.environment == name]
            side.plan(recording.planned(cases, len(mine), side.started, selected=selected), mine)
        count = itertools.count(1)
        with self.ending():
            made = assessing.rows_of(items, judge, sides.pool)
            self.execute(made, lambda _: progress(f"{next(count)} of {len(items)} rows"))

    @property
    def failures(self) -> list[str]:
        """Why items could not be asked, which are then in neither report."""
        return list(map(str, self.not_executed))

    def write(self) -> None:
        """Write both reports."""
        lost = {one.id for one in self.not_executed}
        for side in self.sides:
            side.stopped = self.stopped
            side.rows = [row for row in side.rows if id_of(row) not in lost]
            side.write()

    def _record(self, row: Record) -> None:
        self.sides[row["environment"] == self._new].accept(row)

    def _abandon(self) -> None:
        for side in self.sides:
            side.abandon()


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


def audited(sides: Sides, found: Answers, folder: Path) -> Audit:
    """Write both sides' reports below a folder and say what differs between them.

    Raises ReportError where they cannot be written, AuditError where they have nothing in common, and what ended the
    run.
    """
    found.write()
    if found.failure is not None:
        raise found.failure
    if found.stopped:
        raise KeyboardInterrupt
    halves = [report.read(folder / name) for name in NAMES]
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
        olds = sides.pool.signatures(a.worker, [old for old, _ in pairs])
        news = sides.pool.signatures(b.worker, [new for _, new in pairs])
        for old, new in pairs:
            if old in olds and new in news:
                users = [name for name, both in own.items() if both == (old, new)]
                was, now = signatures.parameters(olds[old]), signatures.parameters(news[new])
                if (was is not None and now is not None) or not asked & set(users):
                    yield from signatures.compared(new, users, was, now)
