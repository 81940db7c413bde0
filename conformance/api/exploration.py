"""Problems beyond the shipped cases: metamorphic relations, random cases, and every input of a dtype."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance import __version__
from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.api.base import SILENT, Observer, Result
from conformance.casefiles import known_issues, writing
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.execution.assessing import NotExecuted
from conformance.execution.run import Run
from conformance.execution.targets import local_pool, performer, pool_if_needed
from conformance.explore.fuzz.generation import DEFAULT_KINDS, UNUSUAL_KINDS, Limits
from conformance.explore.fuzz.search import (
    Counterexample,
    Request,
    Search,
    SearchState,
    read_state,
    restrict_limits,
    write_state,
)
from conformance.explore.fuzz.strategies import check_installed
from conformance.explore.relations import rendering
from conformance.explore.relations.catalogue import check_relation_names
from conformance.explore.relations.checker import Checker, RelationResult, stale_entries
from conformance.explore.relations.selection import exclusion_reason, select_instances
from conformance.explore.sweep import comparer, long_means, runner, table
from conformance.explore.sweep import rendering as sweep_rendering
from conformance.explore.sweep.runner import Job, SweepRequest
from conformance.explore.sweep.table import RegionRow
from conformance.judging.case_set import load_case_set
from conformance.judging.choice import installed_among
from conformance.judging.selection import SelectionError, keyword_filter
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.case import DTYPES
from conformance.model.errors import UserError
from conformance.model.row_key import CPU
from conformance.model.text import suggest
from conformance.report import check_writable

DEFAULT_SECONDS = 60.0
"""Duration of a random search without a limit."""
EVERYTHING = SweepRequest()
SAVE_SECONDS = 1.0
"""Seconds between two writes of its state file."""


@dataclass(frozen=True, eq=False)
class RelationsResult(Result):
    """Results of metamorphic relations."""

    command = "relations"
    planned: int
    """Number of selected instances."""
    results: list[RelationResult]
    """A result for each checked instance."""
    not_executed: tuple[NotExecuted, ...]
    """Instances whose calls could not be made, each with the reason."""
    stale: list[KnownIssue]
    """Ledger entries whose relations hold wherever they were checked; empty unless everything was checked."""
    stopped: str
    """Why the check ended early; empty if it did not."""

    @property
    def complete(self) -> bool:
        """Whether every instance was checked."""
        return len(self.results) == self.planned

    @property
    def broken(self) -> list[RelationResult]:
        """Undocumented violations of relations, and relations that hold although the ledger expects a violation."""
        return [result for result in self.results if result.expected in FAILING_ROWS]

    def to_dict(self) -> dict[str, Any]:
        return {
            "planned": self.planned,
            "interrupted": bool(self.stopped),
            "not_asked": list(map(str, self.not_executed)),
            "findings": list(map(rendering.as_record, self.results)),
            "gone": list(map(str, self.stale)),
        }


def relations(
    keyword: str = "",
    frameworks: Sequence[str] = (),
    cases: Path | None = None,
    observer: Observer = SILENT,
    modes: Sequence[str] = (),
    device: str = CPU,
) -> RelationsResult:
    """Check metamorphic relations: state problems in two ways, call installed functions on both, and compare.

    Parameters
    ----------
    keyword : str, optional
        Expression that ids of instances must match, as with pytest's `-k`.
    frameworks : sequence of str
        Names of frameworks; all installed ones if empty.
    cases : Path, optional
        Folder of case files, or one file; the shipped cases if None.
    observer : Observer
        Notified of frameworks that are not installed, and of each instance.
    modes : sequence of str
        Modes of the calls, for frameworks that have them; eager if empty.
    device : str
        Device of the arrays; frameworks that do not support it are skipped.

    Returns
    -------
    RelationsResult

    Raises
    ------
    SelectionError
        If nothing is selected.
    CaseErrors
        If the files have errors.
    """
    case_set = load_case_set(cases)
    check_relation_names(case_set.ledger)
    available, missing = installed_among(frameworks, modes, device=device)
    instances = select_instances(case_set.cases, available, keyword_filter(keyword))
    functions = (function for installed in available for function in installed.functions)
    if excluded := dict.fromkeys(function.name for function in functions if not function.has_independent_losses):
        observer.note(
            f"left out, what they return is not a loss of each prediction and its label: {', '.join(excluded)}"
        )
    if not instances:
        reasons = sorted({exclusion_reason(case) for case in case_set.cases})
        if reasons and all(reasons):
            raise SelectionError(f"nothing is selected: {'; '.join(reasons)}")
        scope = f"by -k {keyword!r}" if keyword else "of the cases of which the installed functions support two forms"
        raise SelectionError(f"nothing is selected {scope}; ids are FUNCTION-RELATION-CASE-DTYPE-REDUCTION")
    if missing:
        observer.note(f"left out, not installed: {', '.join(missing)}")
    run, results = Run(), list[RelationResult]()
    with run.ending(), pool_if_needed(available, case_set.ledger) as pool, observer.rows(len(instances)) as advance:
        checker = Checker(perform if pool is None else performer(pool, available), case_set.ledger)
        results += run.each(instances, checker.check, advance)
    if run.failure is not None:
        raise run.failure
    narrowed = keyword or frameworks or modes or device != CPU
    complete = len(results) == len(instances) and not narrowed
    stale = stale_entries(results) if complete else []
    return RelationsResult(len(instances), results, tuple(run.not_executed), stale, run.stopped)


@dataclass(frozen=True, eq=False)
class FuzzResult(Result):
    """The result of a random search."""

    command = "fuzz"
    seed: int
    """Seed of the cases."""
    state: SearchState
    """Progress of the search, including earlier searches that it resumed."""
    findings: tuple[Counterexample, ...]
    """The smallest case for each way in which a function is wrong."""
    interrupted: bool
    """Whether a signal ended it."""

    def to_dict(self) -> dict[str, Any]:
        state = self.state
        fields = ("traits", "case", "position")
        return {
            "seed": self.seed,
            "position": state.position,
            "cases": state.cases,
            "rows": state.rows,
            "seconds": round(state.seconds, 3),
            "interrupted": self.interrupted,
            "known": dict(state.known),
            "failures": state.not_executed,
            "findings": [
                {
                    "function": counterexample.function,
                    "version": counterexample.version,
                    "mark": counterexample.signature,
                    **{name: getattr(counterexample, name) for name in fields},
                    "row": counterexample.row.cells,
                    "again": state.again[counterexample.case],
                    "yaml": counterexample.text,
                }
                for counterexample in self.findings
            ],
        }


def fuzz(
    *,
    seconds: float | None = None,
    count: int | None = None,
    frameworks: Sequence[str] = (),
    keyword: str = "",
    seed: int = 0,
    dtypes: Sequence[str] = (),
    max_shape: str = "8x5",
    edge: bool = False,
    isolate: bool = False,
    cases: Path | None = None,
    state: Path | None = None,
    folder: Path | None = None,
    found: Callable[[Counterexample, Path | None], None] = lambda counterexample, file: None,
    observer: Observer = SILENT,
    modes: Sequence[str] = (),
) -> FuzzResult:
    """Draw cases at random, call all installed functions on them, and shrink failures to the smallest case.

    Parameters
    ----------
    seconds : float, optional
        Duration; a minute if None and there is no `count`.
    count : int, optional
        Number of cases to draw, counted from the first one of the seed.
    frameworks : sequence of str
        Names of frameworks; all installed ones if empty.
    keyword : str, optional
        Expression that ids of items must match, as with pytest's `-k`.
    seed : int
        Seed; equal seeds give equal cases.
    dtypes : sequence of str
        Dtypes of the cases; all if empty.
    max_shape : str
        Maximum numbers of samples and classes, such as `8x5`.
    edge : bool
        Also draw nan and infinite weights, and numbers whose sums overflow.
    isolate : bool
        Make calls in worker processes, which may crash.
    cases : Path, optional
        Case folder with the ledger to use; the shipped one if None.
    state : Path, optional
        File that stores the progress; the search resumes if the file exists.
    folder : Path, optional
        Findings are written as case files below its folder `fuzz`.
    found : callable
        Called with each new counterexample, and its case file, if there is a `folder`.
    observer : Observer
        Notified of the progress, and of frameworks that are not installed.
    modes : sequence of str
        Modes of the calls, for frameworks that have them; eager if empty.

    Returns
    -------
    FuzzResult
        Also if it is interrupted.

    Raises
    ------
    UserError
        If nothing is selected, an argument is wrong, Hypothesis is not installed, or a file cannot be read or written.
    """
    check_installed()
    available, missing = installed_among(frameworks, modes)
    item_filter = keyword_filter(keyword)
    functions = [function for installed in available for function in installed.functions]
    limits = restrict_limits(
        _limits(max_shape, dtypes, edge), functions, item_filter, {installed.mode for installed in available}
    )
    request: Request = {
        "suite": __version__,
        "seed": seed,
        "frameworks": {installed.framework.name: installed.version for installed in available},
        "selection": keyword,
        "shape": [limits.max_samples, limits.max_classes],
        "dtypes": list(limits.dtypes),
        "kinds": sorted(limits.kinds),
        **({"modes": sorted({installed.mode for installed in available})} if modes else {}),
    }
    resumed, findings = (state is not None and read_state(state, request)) or (SearchState(), [])
    ledger = known_issues.load(shipped_cases() if cases is None else cases)
    if missing:
        observer.note(f"left out, not installed: {', '.join(missing)}")
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(local_pool(available) if isolate else pool_if_needed(available, ledger))
        perform_call = perform if pool is None else performer(pool, available)
        search = Search(available, ledger, limits, seed, item_filter, perform_call, resumed, findings)

        def save() -> None:
            if state is not None:
                write_state(state, request, search.state, search.findings)

        def report(counterexample: Counterexample) -> None:
            found(
                counterexample,
                None if folder is None else writing.save_text(counterexample.text, folder / counterexample.path),
            )

        save()
        stack.callback(save)
        limit = DEFAULT_SECONDS if seconds is None and count is None else seconds
        interrupted = _search(search.steps(limit, count), search, save, report, observer)
    return FuzzResult(seed, search.state, tuple(search.findings), interrupted)


def _limits(max_shape: str, dtypes: Sequence[str], edge: bool) -> Limits:
    size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", max_shape)
    if size is None or max(map(int, size.groups())) > 1000:
        raise UserError(f"--max-shape {max_shape}: write samples and classes, up to 1000 each, as in 8x5")
    for name in dtypes:
        if name not in DTYPES:
            raise UserError(f"--dtype {name}: there is no such dtype; expected one of {', '.join(DTYPES)}")
    samples, classes = map(int, size.groups())
    chosen = tuple(name for name in DTYPES if name in dtypes) or DTYPES
    return Limits(samples, classes, chosen, UNUSUAL_KINDS if edge else DEFAULT_KINDS)


def _search(
    steps: Iterable[float],
    search: Search,
    save: Callable[[], None],
    report: Callable[[Counterexample], None],
    observer: Observer,
) -> bool:
    """Search step by step; return whether it was interrupted.

    save: called each second, and before counterexamples are reported.
    """
    saved, first, reported, interrupted = 0.0, search.state.position, 0, False
    try:
        with observer.status() as show:
            for elapsed in steps:
                if len(search.findings) > reported or elapsed - saved >= SAVE_SECONDS:
                    save()
                    saved = elapsed
                for counterexample in search.findings[reported:]:
                    report(counterexample)
                    reported += 1
                rate = (search.state.position - first) / max(elapsed, 1e-9)
                show(f"{search.state.summary(len(search.findings))}, {rate:.0f} cases/s, {elapsed:.0f} s")
    except KeyboardInterrupt:
        interrupted = True
    save()
    for counterexample in search.findings[reported:]:
        report(counterexample)
    return interrupted


@dataclass(frozen=True, eq=False)
class SweepResult(Result):
    """The errors of functions over all inputs, region by region, and over means."""

    command = "sweep"
    functions: tuple[str, ...]
    """Names as given."""
    regions: list[RegionRow]
    """A row for each function, dtype and region of inputs."""
    means: list[RegionRow]
    """A row for each function, dtype and number of losses."""
    not_executed: list[str]
    """Units that could not be executed, each with the reason."""
    interrupted: bool
    """Whether a signal ended it."""
    seconds: float
    """Duration."""

    @property
    def failing(self) -> list[RegionRow]:
        """Rows that are explained neither by a documented convention nor by the ledger."""
        return table.failing([*self.regions, *self.means])

    @property
    def about(self) -> dict[str, Any]:
        """The functions, the duration in seconds, and whether it is complete."""
        complete = not (self.interrupted or self.not_executed)
        return {"asked": list(self.functions), "seconds": round(self.seconds, 3), "complete": complete}

    def to_dict(self) -> dict[str, Any]:
        return sweep_rendering.as_dict(self.regions, self.means, self.about)


def sweep(
    functions: Sequence[str],
    request: SweepRequest = EVERYTHING,
    *,
    means: bool = False,
    processes: int = 0,
    folder: Path | None = None,
    state: Path | None = None,
    cases: Path | None = None,
    observer: Observer = SILENT,
) -> SweepResult:
    """Call functions on every value of a narrow dtype, and on a grid or all values of a wide one.

    Parameters
    ----------
    functions : sequence of str
        Names of functions; `*` matches any text.
    request : SweepRequest
        Dtypes, kinds of input and labels.
    means : bool
        Compute means of 10 to 10^7 losses instead.
    processes : int
        Number of processes; 0 means one per core for an exhaustive sweep, 1 otherwise.
    folder : Path, optional
        Folder for `sweep.json`, `sweep.csv` and `sweep.md`.
    state : Path, optional
        File that stores the progress; the sweep resumes if the file exists.
    cases : Path, optional
        Case folder with the ledger to use; the shipped one if None.
    observer : Observer
        Notified of skipped functions, and of the finished inputs.

    Returns
    -------
    SweepResult
        Also if it is interrupted.

    Raises
    ------
    UserError
        If nothing is selected, arguments contradict each other, or a file cannot be read or written.
    """
    ledger = load_case_set(cases).ledger
    table.check_ledger(ledger)
    request.validate()
    if means and (request.exhaustive or request.pairs or request.labels or state):
        raise SelectionError("--lengths goes with --dtype and --given only: it tests means and no single inputs")
    jobs, skipped = runner.plan(
        registry.installed(registry.frameworks() if functions else None)[0], _names_match(functions), request
    )
    if folder is not None:
        check_writable(folder)
    for why in skipped:
        observer.note(f"left out: {why}")
    if not jobs:
        raise SelectionError("nothing of this selection can be swept; `conformance list functions` says what is")
    began, result_so_far = time.time(), SweepResult(tuple(functions), [], [], [], False, 0.0)
    try:
        if means:
            _sweep_means(result_so_far, jobs, ledger, observer)
        else:
            sweep_inputs(result_so_far, jobs, ledger, state, processes, observer)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    result = replace(result_so_far, interrupted=interrupted, seconds=time.time() - began)
    if folder is not None:
        sweep_rendering.write(folder, result.regions, result.means, result.about)
    return result


def _names_match(names: Sequence[str]) -> Callable[[str], bool]:
    """A predicate for names of functions. Raises SelectionError if one of `names` matches none."""
    known = [function.name for function in registry.functions()]
    globs = [KnownIssue(case="", function=name) for name in names]
    for glob in globs:
        if not any(map(glob.matches_function, known)):
            hint = suggest(glob.function, known, "conformance list functions")
            raise SelectionError(f"{glob.function}: there is no such function; {hint}")
    return lambda name: any(glob.matches_function(name) for glob in globs)


def _sweep_means(result: SweepResult, jobs: Sequence[Job], ledger: Ledger, observer: Observer) -> None:
    """Add the means of many lengths to a result."""
    with observer.rows(len(jobs) * len(long_means.LENGTHS)) as advance:
        for subject in (job.subject for job in jobs):
            if "mean" in subject.function.reductions:
                for line in long_means.mean_lines(subject.installed, subject.name, subject.family, ledger):
                    result.means.append(line)
                    advance(_label(subject.key))


def sweep_inputs(
    result: SweepResult,
    jobs: Sequence[Job],
    ledger: Ledger,
    state: Path | None,
    processes: int,
    observer: Observer,
    performer: comparer.Performer = perform,
) -> None:
    """Add all inputs to a result; after an interruption, the finished ones.

    performer: makes the calls of a sweep in one process.
    """
    if not processes:
        processes = (os.cpu_count() or 1) if any(job.by_unit for job in jobs) else 1
    stored = runner.load_state(state, jobs)
    try:
        with observer.rows(sum(job.inputs(unit) for job in jobs for unit in range(job.units))) as advance:
            result.not_executed.extend(
                runner.sweep(jobs, stored, processes, lambda key, count: advance(_label(key), count), performer)
            )
    finally:
        result.regions.extend(
            line for job in jobs for line in table.region_lines(job, stored.regions.get(job.key, {}), ledger)
        )


def _label(key: str) -> str:
    return key.replace("|sweep/", " ").replace("|", " ")
