"""Runs: call functions on cases, and write the report."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from conformance.adapters import registry
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import Installed
from conformance.api.base import SILENT, Observer, Result
from conformance.comparison.baseline import Baseline, Check, ExpectedRows
from conformance.execution import executor
from conformance.execution.assessing import NotExecuted
from conformance.execution.executor import Executor
from conformance.execution.marking import FOLDER
from conformance.execution.targets import check_devices, failed_row
from conformance.execution.workers.pool import IMPORT_TIMEOUT, TIMEOUT, Timeouts
from conformance.judging.case_set import CaseSet, load_case_set
from conformance.judging.choice import frameworks_among, installed_among, selected, without_device
from conformance.judging.packed_rows import PackedRows
from conformance.judging.plan import Item, check_modes, chosen_modes, plan
from conformance.judging.row import COLUMNS, Cells, Row
from conformance.judging.selection import keyword_filter
from conformance.judging.unsupported import unsupported_rows
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.errors import UserError
from conformance.model.row_key import CPU
from conformance.power.harvest.pipeline import load_harvest
from conformance.report import recording
from conformance.report.frames import read_rows, records
from conformance.report.recording import RecordedRun
from conformance.report.sarif import RULES, Failure


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The functions and cases of a run, and where calls are made."""

    report: Path = FOLDER
    """Folder of the report."""
    cases: Path | None = None
    """Folder of case files, or one file; the shipped cases if None."""
    keyword: str = ""
    """Expression that ids of items must match, as with pytest's `-k`."""
    frameworks: tuple[str, ...] = ()
    """Names of frameworks; all available ones if empty."""
    modes: tuple[str, ...] = ()
    """Modes of the calls, such as `compile`, for frameworks that have them; eager if empty."""
    device: str = CPU
    """Device of the arrays, such as `cuda` or `mps`; frameworks that do not support it are skipped."""
    processes: int | None = None
    """Number of judging processes, each with workers; None for as many as processors and memory allow."""
    in_process: bool = False
    """Make all calls in this process, which a crash would end."""
    all: bool = False
    """Run each library in its own environments, with the releases that `adapters/libraries.txt` pins."""
    environments: tuple[str, ...] = ()
    """Requirements, interpreters, virtual environments or requirements files to run in; the current one if empty."""
    engine: str = ""
    """Machine that creates environments: "" for this one, `ray`, or the address of a Ray cluster, `ray://HOST:PORT`."""
    timeout: float = TIMEOUT
    """Timeout in seconds for a call in a worker."""
    import_timeout: float = IMPORT_TIMEOUT
    """Timeout in seconds for the start of a worker and the import of its framework."""
    harvest: bool = False
    """Run the cases in other projects' tests, instead of the shipped ones or in addition to those of `cases`."""
    sources: tuple[str, ...] = ()
    """Names of the sources to harvest; all if empty."""
    resume: bool = False
    """Resume the unfinished run in the report's folder."""
    prepared: tuple[CaseSet, Executor] | None = None
    """Cases and an executor, instead of those selected by the fields above."""

    def validate(self) -> None:
        """Raise UserError if options contradict each other."""
        several = (self.processes or 1) > 1
        for option, noun in (("timeout", "a call"), ("import_timeout", "an import")):
            if not math.isfinite(seconds := getattr(self, option)):
                name = option.replace("_", "-")
                raise UserError(f"--{name} {seconds}: {noun} that hangs would never end; name seconds")
        makes_environments = self.all or self.environments
        if self.in_process and (makes_environments or several):
            raise UserError("--in-process makes all calls in one process: leave out --isolate, --all, --with and -n")
        if self.engine and not makes_environments:
            raise UserError(
                "--on runs environments that are made there: say with --with what they are to hold, or --all"
            )
        if self.engine and self.device != CPU:
            raise UserError("--device and --on do not go together: actors are given no GPU")
        if self.engine and several:
            raise UserError("-n and --on do not go together: Ray has a process for each environment")
        if self.engine and self.engine != "ray" and not self.engine.startswith("ray://"):
            raise UserError(f"--on {self.engine}: there is ray, for RAY_ADDRESS or this machine, and ray://HOST:PORT")


@dataclass(frozen=True, eq=False)
class RunResult(Result):
    """The result of a run."""

    command = "run"
    report: Path
    """Folder of the report."""
    record: dict[str, Any]
    """The content of its `run.json`."""
    rows: PackedRows
    """The rows in the order of judging; iterable."""
    results: pd.DataFrame
    """The rows as a table, sorted by problem and function."""
    items: int
    """Number of items to execute."""
    cases: tuple[Any, ...]
    """The cases available for selection; empty if the run ended before they were loaded."""
    harvested: bool
    """Whether the cases come from the tests of other projects."""
    not_executed: tuple[NotExecuted, ...]
    """Items that could not be executed, each with the reason."""
    stopped: str
    """Why the run ended early; empty if it did not."""
    failure: Exception | None
    """The exception that ended it."""
    check: Check | None
    """Regressions against the accepted report; None without one, or if the run is incomplete."""

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return bool(self.record["complete"])

    def failures(self, strict_known: bool = False) -> list[Failure]:
        """The rows that make the run fail: unexpected ones or, with a baseline, those that got worse.

        strict_known: whether known issues count, too, regardless of the baseline.
        """
        return list(failures(self.results, self.check, strict_known))

    def rows_that_are(self, *expected: str) -> list[Row]:
        """The rows with one of these values of `expected`, in the order of `results`."""
        return read_rows(self.results[self.results["expected"].isin(expected)])

    def to_dict(self) -> dict[str, Any]:
        """Number of rows of each kind, and every row that is not as expected, as builtin values."""
        counted = {name: {str(key): int(count) for key, count in self.results[name].value_counts().items()}
                   for name in ("status", "expected")}  # fmt: skip
        return {
            "report": str(self.report),
            "planned": self.record["planned"],
            "finished": len(self.results),
            "interrupted": self.stopped,
            **counted,
            "unexpected": [row.cells for row in self.rows_that_are(*FAILING_ROWS)],
            "known": [row.cells for row in self.rows_that_are("known")],
            "not_asked": list(map(str, self.not_executed)),
            "unsupported": [row.cells for row in read_rows(self.results[self.results["status"] == "unsupported"])],
            "baseline": None if self.check is None else {"ok": self.check.ok, "said": self.check.lines()},
        }


def run(
    request: RunRequest,
    baseline: Path | None = None,
    observer: Observer = SILENT,
    begun: Callable[[], None] = lambda: None,
) -> RunResult:
    """Call functions on cases, judge their results, and write the report.

    Parameters
    ----------
    request : RunRequest
    baseline : Path, optional
        Folder of an accepted report to compare the rows with.
    observer : Observer
        Notified of each step, and of each row.
    begun : callable
        Called once the folder of the report is locked.

    Returns
    -------
    RunResult
        Also if the run ends early, such as by an interruption; the report then has the rows until that point.

    Raises
    ------
    UserError
        If there is nothing to run, an option is wrong, or the report cannot be written.
    """
    request.validate()
    accepted = None if baseline is None else Baseline.read(baseline)
    recorded = RecordedRun(request.report, observer.note, resume=request.resume)
    prepared = _Prepared()
    try:
        with recorded.ending(lambda: recorded.planned is not None):
            begun()
            _execute(request, recorded, prepared, observer)
    except UserError:
        recorded.abandon()
        raise
    case_set, count, scope = prepared.cases, len(recorded.items), None
    if accepted is not None and case_set and prepared.executor:
        scope = _scope(request, case_set, prepared.executor, recorded.items, accepted.processor_difference)
    recorded.items = ()  # frees memory for the report
    record = recorded.write()
    check = None
    if accepted is not None and scope is not None and record["complete"]:
        check = accepted.check(recorded.results, scope)
    return RunResult(
        request.report,
        record,
        recorded.rows,
        recorded.results,
        count,
        () if case_set is None else tuple(case_set.cases),
        case_set is not None and case_set.harvested,
        tuple(recorded.not_executed),
        recorded.stopped,
        recorded.failure,
        check,
    )


@dataclass
class _Prepared:
    """The preparations of a run, as far as completed."""

    cases: CaseSet | None = None
    """The cases of the run; None until they are loaded."""
    executor: Executor | None = None
    """Executor of the run; None until the workers are known."""
    missing: tuple[str, ...] = ()
    """Frameworks that are not installed."""


def _execute(request: RunRequest, recorded: RecordedRun, prepared: _Prepared, observer: Observer) -> None:
    with contextlib.ExitStack() as stack:
        # Workers of the current environment start while the cases are loaded.
        local = None if request.all or request.environments else _local(request, prepared, stack)
        cases = prepared.cases = _case_set(request, observer)
        prepared.executor = local or _in_environments(request, cases, observer, stack)
        for failed in prepared.executor.failed:
            observer.note(failed.explanation)
        if broken := _broken_adapters(request):
            prepared.executor.failed.append(broken)
        planned = _plan_items(request, recorded, prepared, cases, prepared.executor, observer)
        if planned:
            with observer.rows(len(planned)) as advance:
                recorded.execute(prepared.executor.rows(cases, planned), advance)


def _broken_adapters(request: RunRequest) -> Row | None:
    """A row for the adapters that cannot be used, in a run that was to call every framework."""
    everything = request.all or not (request.environments or request.prepared)
    if not everything or request.frameworks or request.keyword or not (broken := registry.broken_adapters()):
        return None
    return failed_row("adapters from outside", "", "; ".join(broken))


def _case_set(request: RunRequest, observer: Observer) -> CaseSet:
    if request.prepared is not None:
        return request.prepared[0]
    if not request.harvest and not request.sources:
        return load_case_set(request.cases)
    with observer.status() as show:
        case_set, collection = load_harvest(list(request.sources), request.cases, progress=show)
    for missing in collection.missing:
        observer.note(f"left out: {missing}")
    return case_set


def _local(request: RunRequest, prepared: _Prepared, stack: contextlib.ExitStack) -> Executor:
    if request.prepared is not None:
        return request.prepared[1]
    available, missing = installed_among(list(request.frameworks), request.modes, request.keyword, request.device)
    prepared.missing = tuple(missing)
    check_devices(available)
    if request.in_process:
        return executor.in_process(available)
    partly = request.cases or request.keyword or request.harvest or request.sources or request.resume
    return executor.local(stack, available, request.processes, _timeouts(request), is_complete=not partly)


def _timeouts(request: RunRequest) -> Timeouts:
    return Timeouts(request.timeout, request.import_timeout)


def _in_environments(request: RunRequest, cases: CaseSet, observer: Observer, stack: contextlib.ExitStack) -> Executor:
    requested: dict[str, tuple[str, ...]] = dict.fromkeys(request.environments, request.frameworks)
    if request.all:
        requested |= {library.environment: (library.framework.name,) for library in _libraries(request, cases)}
    with observer.status() as show:
        timeouts, modes = _timeouts(request), request.modes
        if not request.engine:
            return executor.in_environments(stack, requested, request.processes, timeouts, show, modes, request.device)
        address = "" if request.engine == "ray" else request.engine
        return executor.on_ray(address, stack, requested, timeouts, show, modes)


def _libraries(request: RunRequest, cases: CaseSet) -> list[Installed]:
    """The libraries with a selected item, each in its future environment.

    Raises SelectionError if there is none, unless other environments are requested.
    """
    libraries = [
        library for framework in frameworks_among(request.frameworks) for library in pinned_installations(framework)
    ]
    chosen = [
        library
        for library in libraries
        if chosen_modes(request.modes, library.framework, library.backend, request.device)
    ]
    if not chosen:
        check_modes(request.modes, [(library.framework, library.backend) for library in libraries], request.device)
    if request.keyword:
        item_filter = keyword_filter(request.keyword, whole=True)
        chosen = [library for library in chosen if any(plan([case], [library], item_filter) for case in cases.cases)]
    if not chosen and not request.environments:
        selected(cases.cases, libraries, request.keyword)
    return chosen


def _plan_items(
    request: RunRequest,
    recorded: RecordedRun,
    prepared: _Prepared,
    cases: CaseSet,
    calls: Executor,
    observer: Observer,
) -> list[Item]:
    """Plan the run; return the items to execute.

    Raises SelectionError if no case is selected; if no function takes the selected ones, their rows say why.
    """
    item_filter = keyword_filter(request.keyword, whole=request.all)
    items = plan(cases.cases, calls.available, item_filter)
    if prepared.missing:
        observer.note(f"left out, not installed: {', '.join(prepared.missing)}")
    if without_support := without_device(request.frameworks, request.device):
        observer.note(f"left out, no {request.device} for them here: {', '.join(without_support)}")
    # A function of a user's does not support most large cases, and to generate them takes seconds.
    answers = request.prepared is None
    unsupported = unsupported_rows(cases.cases, items, calls.available, item_filter, answers=answers)
    if not items and not unsupported:
        selected(cases.cases, calls.available, request.keyword)
    finished_rows = [*calls.failed, *unsupported]
    row_cases = [*(item.case.id for item in items), *(row.key.case for row in finished_rows)]
    planned = recording.make_plan(
        cases.cases, row_cases, recorded.started, prepared.missing,
        f"-k {request.keyword}" if request.keyword else "", cases.ledger, calls.available, request.timeout,
    )  # fmt: skip
    return recorded.plan(planned, items, finished_rows)


def _scope(request: RunRequest, cases: CaseSet, calls: Executor, items: Any, other_processor: str) -> ExpectedRows:
    """The part of a baseline that the run covers."""
    item_filter = keyword_filter(request.keyword)
    names = {item.id for item in items}
    return ExpectedRows(
        frozenset(installation.framework.name for installation in calls.available),
        lambda of, name: (item_filter is None or item_filter(of, name)) and (not cases.harvested or name in names),
        suite={(case.id, *of) for case in cases.cases for of in itertools.product(case.dtypes, case.reductions)},
        other_processor=other_processor,
    )


_RULES = {"vanished": "vanished", "status or convention changed": "changed", "drifted past its ratchet": "drifted"}
"""SARIF rule by reason of a regression against the baseline; other rows have the rule of their status."""


def failures(results: pd.DataFrame, check: Check | None, strict_known: bool = False) -> Iterator[Failure]:
    """The rows that make a run fail: unexpected ones or, with a baseline, those that got worse.

    strict_known: whether known issues count, too, regardless of the baseline.
    """
    if strict_known:
        for row in read_rows(results[results["expected"] == "known"]):
            yield Failure(row.status, row.cells, f"known: {row.known}; {row.explanation}")
    if check is not None:
        for changed in records(check.failures):
            cells = _find_cells(changed)
            rule = _RULES.get(changed["reason"]) or (cells["status"] if cells["status"] in RULES else "changed")
            yield Failure(rule, cells, f"{changed['reason']} against the baseline: {changed['what']}")
        return
    for row in read_rows(results[results["expected"].isin(FAILING_ROWS)]):
        yield Failure("stale" if row.expected == "stale" else row.status, row.cells, row.explanation)


def _find_cells(changed: Cells) -> Cells:
    """The row of the run for a line of `comparison.changes`, or of the baseline if it has vanished."""
    side = "new" if changed["new_version"] else "old"
    return {name: changed.get(name, changed.get(f"{side}_{name}", "")) for name in COLUMNS}
