"""Audit an upgrade: run both sides at the same time, and group the changes by cause."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from conformance import report
from conformance.adapters.registry import Installed
from conformance.comparison import signatures
from conformance.comparison.causes import REPORTED_SECTIONS, Cause, Section, causes, sections
from conformance.comparison.changes import SAME_QUESTIONS, Level, compare_results, fails
from conformance.comparison.errors import ComparisonError
from conformance.comparison.reports import ReportDifference, Side
from conformance.comparison.signatures import SignatureChange
from conformance.execution import assessing
from conformance.execution.run import Run
from conformance.execution.targets import Progress, start_workers
from conformance.execution.workers.pool import DEFAULT_TIMEOUTS, Timeouts, WorkerPool
from conformance.judging.judge import Judge
from conformance.judging.packed_rows import PackedRows
from conformance.judging.plan import Item
from conformance.judging.prepare import Problems, prepare
from conformance.judging.row import Row
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.model.row_key import QUESTION
from conformance.report import recording
from conformance.report.recording import RecordedRun

NAMES = ("old", "new")
"""Folder names of the two reports."""


@dataclass(frozen=True)
class Sides:
    """The two environments of an upgrade, with workers that run in them."""

    pool: WorkerPool
    names: tuple[str, str]
    """Names of the environments."""
    old: tuple[Installed, ...]
    """The frameworks in both environments, as installed in the old one."""
    new: tuple[Installed, ...]
    """The same frameworks in the same order, as installed in the new one."""
    excluded: tuple[str, ...] = ()
    """A sentence for each framework that is not audited."""

    @property
    def available(self) -> list[Installed]:
        """The frameworks of both sides."""
        return [*self.old, *self.new]


@contextmanager
def open_sides(old: str, new: str, progress: Progress, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Iterator[Sides]:
    """Create both environments if needed and start workers in them, which end with the context.

    old, new: requirements of each environment, in the format of `--with`.  progress: called with a line for each step.

    Raises UserError if one of them cannot be created, both are the same, or they have no framework in common.
    """
    from conformance.execution.environments import parse

    before, after = (parse(text).name for text in (old, new))
    if before == after:
        raise UserError(f"both sides are {before}, so there is nothing to compare; name two environments")
    workers = start_workers({old: (), new: ()}, progress, timeouts=timeouts)
    with workers.pool as pool:
        if any(not row.framework for row in workers.failed):
            raise UserError("\n".join(row.explanation for row in workers.failed))
        left, right = (
            {
                installation.framework.name: installation
                for installation in workers.available
                if installation.environment == name
            }
            for name in (before, after)
        )
        notes = [f"{row.framework} is not audited: {row.explanation}" for row in workers.failed]
        failed = {row.framework for row in workers.failed}
        for side, other_name, other in ((left, after, right), (right, before, left)):
            missing = sorted(side.keys() - other.keys() - failed)
            notes += [f"{name} is not audited: it is not in {other_name}" for name in missing]
        common = sorted(left.keys() & right.keys())
        if not common:
            why = "; ".join(notes) or "they have no framework in common"
            raise UserError(f"{before} and {after} cannot be compared: {why}")
        installed = [tuple(side[name] for name in common) for side in (left, right)]
        yield Sides(pool, (before, after), installed[0], installed[1], tuple(notes))


class AuditRun(Run):
    """Runs the items of both sides and records each side in its own report.

    As a context manager, it unlocks the folders of the reports on exit: restored if a UserError is raised before there
    is a plan, and with their journals if the run ends later.  Raises ReportError as `RecordedRun` does.
    """

    def __init__(self, folder: Path, warn: Progress) -> None:
        super().__init__()
        self.sides: list[RecordedRun] = []
        self._new = ""
        try:
            for name in NAMES:
                self.sides.append(RecordedRun(folder / name, warn))
        except BaseException:
            self._abandon()
            raise

    def __enter__(self) -> AuditRun:
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
        """Execute the items of both sides at the same time.

        cases: the cases available for selection.  selected: the option that excluded items.  progress: called with a
        line for each finished row.
        """
        self.items = items
        self._new = sides.names[1]
        for side, name in zip(self.sides, sides.names, strict=True):
            own_items = [item for item in items if item.installed.environment == name]
            side.plan(
                recording.make_plan(cases, [item.case.id for item in own_items], side.started, selected=selected),
                own_items,
            )
        count = itertools.count(1)
        with self.ending():
            rows = assessing.judge_items(items, judge, sides.pool)
            self.execute(rows, lambda _: progress(f"{next(count)} of {len(items)} rows"))

    @property
    def failures(self) -> list[str]:
        """Why items could not be executed; neither report has such an item."""
        return list(map(str, self.not_executed))

    def write(self) -> None:
        """Write both reports."""
        lost = {item.id for item in self.not_executed}
        for side in self.sides:
            side.stopped = self.stopped
            if lost:
                side.rows = PackedRows(row for row in side.rows if row.key.id not in lost)
            side.write()

    def accept(self, row: Row) -> None:
        """Add a row to the report of its side."""
        self.sides[row.key.environment == self._new].accept(row)

    def _abandon(self) -> None:
        for side in self.sides:
            side.abandon()


@dataclass(frozen=True)
class Summary:
    """Number of rows of an audit by section."""

    total: int
    """Number of rows, changed or not."""
    rows: dict[Section, int]
    """Number of reported rows by section, including `rounding`."""
    functions: dict[Section, list[str]]
    """The functions of those rows, sorted."""

    @property
    def effects(self) -> list[tuple[Section, int, int]]:
        """(section, number of rows, number of functions) by effect; `documented` stands for all changed answers."""
        documented = {*self.functions["documented"], *self.functions["undocumented"]}
        effects: list[tuple[Section, int, int]] = [
            ("documented", self.rows["documented"] + self.rows["undocumented"], len(documented)),
            *((name, self.rows[name], len(self.functions[name])) for name in ("support", "wording")),
        ]
        return [effect for effect in effects if effect[1]]


@dataclass(frozen=True, eq=False)
class Audit:
    """The changes by an upgrade."""

    difference: ReportDifference
    versions: dict[str, tuple[str, str]]
    """Old and new version of each audited framework."""
    sections: pd.Series
    """Section of each row of the difference; see `causes.sections`."""
    ordinary: pd.Series
    """Mask of the rows of the difference with ordinary inputs on both sides; see `traits.is_ordinary`."""
    causes: list[Cause]
    signatures: list[SignatureChange]
    excluded: tuple[str, ...] = ()
    """Sentences about frameworks that were not audited."""

    def of(self, section: str, *, ordinary: bool | None = None) -> list[Cause]:
        """The causes of one section, for all inputs, or only for ordinary or only for other ones."""
        return [cause for cause in self.causes if cause.section == section and ordinary in (None, cause.ordinary)]

    def summary(self, *, ordinary: bool) -> Summary:
        """Count the changes for ordinary inputs, or for all others."""
        is_selected = self.ordinary == ordinary
        sections = self.sections[is_selected]
        rows = {name: int((sections == name).sum()) for name in (*REPORTED_SECTIONS, "rounding")}
        table = self.difference.changes[is_selected]
        functions = {name: sorted(set(table["function"][sections == name])) for name in rows}
        return Summary(len(table), rows, functions)

    def fails(self, level: Level) -> bool:
        """Whether a change is at or above a level.

        Documented changes count at `any` only; from `change` on, changes of signatures that break calls count, too.
        """
        table = self.difference.changes
        if level == "any":
            return fails(table, level) or bool(self.signatures)
        breaking = level not in ("never", "regression") and any(change.breaking for change in self.signatures)
        return breaking or fails(table[table["cause"] != "documented"], level)


def audit(sides: Sides, run: AuditRun, folder: Path) -> Audit:
    """Write both sides' reports below a folder and compare them.

    Raises ReportError if they cannot be written, ComparisonError if they have nothing in common, and the exception that
    ended
    """
    run.write()
    if run.failure is not None:
        raise run.failure
    if run.stopped:
        raise KeyboardInterrupt
    (before, old), (after, new) = (report.read(folder / name) for name in NAMES)
    try:
        table = compare_results(before, after, sides.names, SAME_QUESTIONS)
    except ComparisonError:
        run.require_all(f"{' and '.join(sides.names)} have no answer in common")
        raise
    paths = _paths(sides, set(table["function"]))
    both = table[(table["old_status"] != "") & (table["new_status"] != "")]
    changes = [
        *_signature_changes(sides, paths, set(both["function"])),
        *signatures.deprecations(table, {name: new_path for name, (_, new_path) in paths.items()}),
    ]
    ordinary = ordinary_rows(table, run.items)
    return Audit(
        ReportDifference(Side(sides.names[0], old), Side(sides.names[1], new), table),
        {a.framework.name: (a.version, b.version) for a, b in zip(sides.old, sides.new, strict=True)},
        sections(table),
        ordinary,
        [*causes(table[ordinary], ordinary=True), *causes(table[~ordinary])],
        sorted(changes, key=lambda change: (signatures.KINDS.index(change.kind), change.path, str(change))),
        sides.excluded,
    )


def ordinary_rows(table: pd.DataFrame, items: Sequence[Item]) -> pd.Series:
    """Mask of the rows of `comparison.changes` whose inputs are ordinary as passed on each side, and have an answer.

    items: the items of both sides.
    """
    problems = Problems()
    known: dict[tuple[Case, str, str, str], bool] = {}
    ordinary: dict[tuple[str, ...], bool] = {}
    for item in items:
        key = item.case, item.dtype, item.function.name, item.installed.environment  # independent of the reduction
        if key not in known:
            known[key] = prepare(item, problems).ordinary
        question = tuple(getattr(item.key, name) for name in QUESTION)
        ordinary[question] = ordinary.get(question, True) and known[key]
    questions = table[list(QUESTION)].itertuples(index=False, name=None)
    mask = pd.Series([ordinary.get(question, False) for question in questions], index=table.index, dtype=bool)
    return mask & (table["old_status"] != "undefined") & (table["new_status"] != "undefined")


def _paths(sides: Sides, names: set[str]) -> dict[str, tuple[str, str]]:
    """The import path of each audited function on both sides; a side without the function gets the other's path."""
    old, new = (
        {function.name: function.path for installed in side for function in installed.functions}
        for side in (sides.old, sides.new)
    )
    return {name: (old.get(name) or new[name], new.get(name) or old[name]) for name in sorted(names & {*old, *new})}


def _signature_changes(
    sides: Sides, paths: dict[str, tuple[str, str]], answered: set[str]
) -> Iterator[SignatureChange]:
    """answered: functions that both sides have, even if their signature cannot be read."""
    for a, b in zip(sides.old, sides.new, strict=True):
        own_paths = {
            name: old_and_new for name, old_and_new in paths.items() if name.partition(".")[0] == a.framework.name
        }
        pairs = dict.fromkeys(own_paths.values())
        olds = sides.pool.signatures(a.worker, [old for old, _ in pairs])
        news = sides.pool.signatures(b.worker, [new for _, new in pairs])
        for old_path, new_path in pairs:
            if old_path in olds and new_path in news:
                users = [name for name, old_and_new in own_paths.items() if old_and_new == (old_path, new_path)]
                old, new = signatures.parameters(olds[old_path]), signatures.parameters(news[new_path])
                if (old is not None and new is not None) or not answered & set(users):
                    yield from signatures.compare_signatures(new_path, users, old, new)
