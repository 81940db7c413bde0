"""Check a callable: run cases, metamorphic relations, random problems and a sweep on it, in a separate process."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from conformance.adapters import checked
from conformance.adapters.checked import CheckedCallable, CheckError
from conformance.adapters.registry import Installed
from conformance.api.base import SILENT, Observer, Result
from conformance.api.exploration import SweepResult, sweep_inputs
from conformance.api.running import RunRequest, RunResult, run
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import RowOrError, judge_items
from conformance.execution.executor import Executor
from conformance.execution.marking import FOLDER
from conformance.execution.run import Run
from conformance.execution.targets import local_pool, performer
from conformance.execution.workers.pool import IMPORT_TIMEOUT, Timeouts, WorkerPool
from conformance.explore.fuzz.search import Counterexample, Search, search_valid_problems
from conformance.explore.relations import rendering
from conformance.explore.relations.checker import RelationResult
from conformance.explore.relations.checker import check as check_relation
from conformance.explore.relations.selection import select_instances
from conformance.explore.sweep import runner
from conformance.explore.sweep.runner import SweepRequest
from conformance.judging.block_mistakes import values_of_block_mistakes
from conformance.judging.case_set import CaseSet, load_case_set
from conformance.judging.hypotheses import hypotheses_for_value, values_of_hypotheses
from conformance.judging.judge import Performer
from conformance.judging.likeness import LikenessJudge, issues_of
from conformance.judging.nonfinite import causes_of_nonfinite
from conformance.judging.plan import Item, documented_convention, expand_modes
from conformance.judging.row import Elements, Row
from conformance.judging.verdict import FAILING
from conformance.model.case import DTYPES, OPTIONS, Case, MustRaise, Quantity, Reduction, is_derivative
from conformance.model.errors import UserError
from conformance.model.row_key import CPU
from conformance.reference.oracle import Oracle, cached_oracle

TIMEOUT = 60.0
"""Timeout in seconds for a call of a checked callable."""
MAX_UNANSWERED = 2
"""Number of calls without an answer (timeouts and crashes) after which the check stops."""
FIRST_VERDICT_CALLS = 100
"""Number of calls after which a first verdict is reported."""
MAX_EXPLAINED = 8
"""Maximum number of wrong results with the same options, of the smallest cases, for which mistakes are tried."""
MAX_SEARCHED_PREDICTIONS = 400
"""Maximum number of predictions of a case for which all mistakes are tried; only those of blocks for larger ones."""


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """Options of a check."""

    report: Path = FOLDER
    """Folder of the report."""
    cases: Path | None = None
    """Folder of case files, or one file; the shipped cases if None."""
    keyword: str = ""
    """Expression that an item of each case must match, as with pytest's `-k`; relations and random problems, which have
    no cases to select, are then not checked, and the result is no certificate."""
    modes: tuple[str, ...] = ()
    """Modes of the known function's framework, such as `compile`; eager if empty."""
    device: str = CPU
    """Device of the arrays, such as `cuda`."""
    timeout: float = TIMEOUT
    """Timeout in seconds for a call."""
    import_timeout: float = IMPORT_TIMEOUT
    """Timeout in seconds for the import."""
    invalid: bool = False
    """Also test invalid input, which the callable must reject."""
    sweep: bool = False
    """Also call it on every value of a narrow dtype and a grid of the wide ones."""
    seed: int = 0
    """Seed of the random problems."""


@dataclass(frozen=True)
class Cell:
    """The verdict on one option in one dtype."""

    option: str
    dtype: str
    status: str
    """`certified`, `deviates as declared` (rows that diverge), `wrong`, or `not asked`."""
    calls: int = 0
    """Number of calls that were judged."""
    wrong: int = 0
    deviating: int = 0
    """Number of calls whose status is `diverges`: right by a documented convention only."""
    ratio: float = 0.0
    """Largest error of a finite result, divided by its tolerance."""
    error: float = 0.0
    """Largest absolute error of a finite result."""
    why: str = ""
    """Why there was no call."""


@dataclass(frozen=True)
class Mistake:
    """A common mistake that explains wrong results of a callable, or a likely cause of results that are not finite."""

    options: tuple[str, ...]
    """Options of the cases; empty for cases without options."""
    text: str
    results: int
    """Number of wrong results that it explains."""
    tried: int
    """Number of wrong results with these options for which mistakes were tried."""


@dataclass(frozen=True, eq=False)
class CheckResult(Result):
    """Result of a check."""

    command = "check"
    checked: CheckedCallable
    installed: Installed
    """A framework whose only function is the callable."""
    run: RunResult
    """The run of the cases."""
    relations: tuple[RelationResult, ...]
    drawn: int
    """Number of random problems."""
    findings: tuple[Counterexample, ...]
    """Random problems on which it is wrong, shrunk if Hypothesis is installed."""
    sweep: SweepResult | None
    cells: tuple[Cell, ...]
    """A cell for each option and dtype, sorted by option, then by dtype."""
    mistakes: tuple[Mistake, ...]
    """Mistakes that explain most of the wrong results for which they were tried, by options, the commonest first."""
    printed: tuple[str, ...]
    """The last lines of the output of its process."""
    not_executed: tuple[str, ...]
    """Calls that could not be made, each with the reason."""
    stopped: str
    """Why it ended early; empty if it did not."""
    keyword: str
    """Expression that selected the cases; empty if none was left out."""

    @property
    def broken(self) -> tuple[RelationResult, ...]:
        """Relations that are violated."""
        return tuple(result for result in self.relations if result.violation)

    @property
    def wrong(self) -> bool:
        """Whether anything is wrong."""
        swept = self.sweep is not None and bool(self.sweep.failing)
        return bool(self.run.failures() or self.broken or self.findings or swept)

    @property
    def complete(self) -> bool:
        """Whether every planned call has a verdict."""
        return self.run.complete and not self.not_executed and not self.stopped

    @property
    def certified(self) -> bool:
        """Whether nothing is wrong in a complete check of every case, relation and random problem."""
        return self.complete and not self.wrong and not self.keyword

    @property
    def call(self) -> str:
        """Its call as source with placeholders."""
        return call_example(self.installed)

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.checked.target,
            "like": self.checked.like,
            "call": self.call,
            "version": self.installed.version,
            "wrong": self.wrong,
            "complete": self.complete,
            "certified": self.certified,
            "keyword": self.keyword,
            "stopped": self.stopped,
            "table": [dataclasses.asdict(cell) for cell in self.cells],
            "mistakes": [dataclasses.asdict(mistake) for mistake in self.mistakes],
            "cases": self.run.to_dict(),
            "relations": {
                "checked": len(self.relations),
                "broken": [rendering.as_record(result) for result in self.broken],
            },
            "drawn": {
                "problems": self.drawn,
                "findings": [
                    {"case": finding.case, "file": finding.text, **finding.row.cells} for finding in self.findings
                ],
            },
            "sweep": None if self.sweep is None else self.sweep.to_dict(),
            "printed": list(self.printed),
            "not_executed": list(self.not_executed),
        }


def call_example(installed: Installed) -> str:
    """The call of a callable as source with placeholders: `loss(predictions, labels, weight=..., reduction=...)`."""
    (function,) = installed.functions
    options = [entry.replace("{}", "...") for entry in function.input_kinds.values() if entry]
    options += [f"{entry}=..." if entry.isidentifier() else entry for entry in function.arguments.values()]
    options += ["reduction=..." if "reduction=" in text else text for text in function.reductions.values()]
    arguments = ", ".join(dict.fromkeys(text for text in options if text and "{" not in text))
    return function.call.replace("{options}", arguments).replace("{", "").replace("}", "").replace(", )", ")")


def check(callable_: CheckedCallable, request: CheckRequest, observer: Observer = SILENT) -> CheckResult:
    """Run cases, relations and random problems on a callable, and write the report of the cases.

    Parameters
    ----------
    callable_ : CheckedCallable
        Location of the callable, and the known function that it is like.
    request : CheckRequest
    observer : Observer
        Notified of each step, and of the first wrong row.

    Returns
    -------
    CheckResult
        Also if the callable hangs or crashes its process; the check is then incomplete.

    Raises
    ------
    UserError
        If the callable cannot be imported, lacks a parameter, or is described wrongly.
    """
    inspection = checked.inspect_callable(callable_.target, request.import_timeout, observer.note)
    installed = checked.installed(callable_, inspection)
    observer.note(f"called as {call_example(installed)}")
    available = expand_modes([installed], request.modes, request.device)
    cases = _cases(request, callable_.like, installed)
    with local_pool(available, Timeouts(request.timeout, request.import_timeout)) as pool:
        for name, versions in pool.all_versions().items():
            if isinstance(versions, UserError):
                raise CheckError(f"{name}: {versions}")
        session = _CheckSession(pool, available, observer)
        result = run(
            RunRequest(
                report=request.report, keyword=request.keyword, prepared=(cases, Executor(available, session.rows))
            ),
            observer=observer,
        )
        relations: list[RelationResult] = []
        counterexamples: list[Counterexample] = []
        drawn, swept = 0, None
        if result.complete and not session.stop_reason and not request.keyword:
            relations = list(session.relations(cases))
            search = session.search(cases.ledger, request.seed)
            counterexamples, drawn = search.findings, search.state.position
            session.not_executed += search.state.not_executed
            swept = session.sweep() if request.sweep else None
        printed = tuple(line for installation in available for line in pool.printed(installation.worker))
    return CheckResult(
        checked=callable_,
        installed=installed,
        run=result,
        relations=tuple(relations),
        drawn=drawn,
        findings=tuple(counterexamples),
        sweep=swept,
        cells=tuple(cells(installed, cases.cases, result.rows)),
        mistakes=tuple(_mistakes(installed, cases.cases, result.rows)),
        printed=printed,
        not_executed=(*map(str, result.not_executed), *session.not_executed),
        stopped=result.stopped or session.stop_reason,
        keyword=request.keyword,
    )


def _cases(request: CheckRequest, like: str, installed: Installed) -> CaseSet:
    """The cases, without invalid input unless that is requested, and the known issues of the known function."""
    case_set = load_case_set(request.cases)
    cases = [case for case in case_set.cases if request.invalid or not isinstance(case.expect, MustRaise)]
    issues = issues_of(like, installed.functions[0].name, (*case_set.ledger.entries, *case_set.ledger.traits_only))
    return CaseSet(sorted(cases, key=lambda case: case.predicted), issues)


class _CheckSession:
    """Runs the cases, relations, search and sweep of a check on one worker pool.

    It stops after `MAX_UNANSWERED` calls without an answer.
    """

    def __init__(self, pool: WorkerPool, available: Sequence[Installed], observer: Observer) -> None:
        self.available = available
        self.not_executed: list[str] = []
        self.stop_reason = ""
        """Why no more calls are made; "" while they are."""
        self._pool = pool
        self._observer = observer
        self._unanswered = 0
        """Number of calls that timed out or crashed."""

    @property
    def _performer(self) -> Performer:
        return performer(self._pool, self.available)

    def rows(self, cases: CaseSet, items: list[Item]) -> Generator[RowOrError]:
        """The rows of items; raises UserError after `MAX_UNANSWERED` calls without an answer."""
        calls, is_reported = 0, False
        with cached_oracle() as oracle:
            for row in judge_items(items, LikenessJudge(oracle, cases.ledger), self._pool):
                if isinstance(row, Row):
                    calls += row.status != "unsupported"
                    if not is_reported and (verdict := _first_verdict(row, calls)):
                        is_reported = True
                        self._observer.note(verdict)
                yield row
                if isinstance(row, Row) and row.status in ("timed_out", "crashed"):
                    self._unanswered += 1
                    if self._unanswered >= MAX_UNANSWERED:
                        count = self._unanswered
                        self.stop_reason = f"it is given up: {count} calls took too long or ended their process"
                        raise CheckError(self.stop_reason)

    def relations(self, cases: CaseSet) -> Iterator[RelationResult]:
        """The results of relations on the cases."""
        instances = select_instances(cases.cases, self.available)
        checking = Run()
        perform = self._performer
        with self._observer.rows(len(instances)) as advance:
            yield from checking.each(
                instances, lambda instance: check_relation(instance, perform, cases.ledger), advance
            )
        self.not_executed += map(str, checking.not_executed)

    def search(self, issues: Ledger, seed: int) -> Search:
        """Run a random search that does not stop at known issues, and return it."""
        with self._observer.status() as show:
            return search_valid_problems(self.available, issues, seed, self._performer, show)

    def sweep(self) -> SweepResult:
        """Sweep the callable."""
        jobs, skipped = runner.plan(self.available, lambda name: True, SweepRequest(), include_averaging=True)
        for reason in skipped:
            self._observer.note(f"left out: {reason}")
        name = self.available[0].functions[0].name
        result = SweepResult((name,), regions=[], means=[], not_executed=[], interrupted=False, seconds=0.0)
        sweep_inputs(result, jobs, Ledger(), None, 1, self._observer, self._performer)
        return result


def _mistakes(installed: Installed, cases: Iterable[Case], rows: Iterable[Row]) -> Iterator[Mistake]:
    """Yield the mistakes that explain the most wrong results with the same options, if that is more than half of them.

    They are tried on one result of each case and quantity that no convention and no known issue explains: a reduced
    loss or gradient in a dtype with enough digits, without conversions; beyond `MAX_SEARCHED_PREDICTIONS` only those of
    losses in blocks.  Likely causes of results that are not finite come first, for all such rows.
    """
    yield from _nonfinite(cases, rows)
    by_id = {case.id: case for case in cases}
    wrong = {
        (row.key.case, row.key.quantity): row
        for row in rows
        if row.status in FAILING and row.key.case in by_id and _is_explainable(row)
        if row.key.quantity == "loss" or by_id[row.key.case].predicted <= MAX_SEARCHED_PREDICTIONS
    }
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(wrong.values(), key=lambda row: by_id[row.key.case].predicted):
        groups.setdefault(by_id[row.key.case].options.names(), []).append(row)
    with cached_oracle() as oracle:
        for options, rows_of_cell in groups.items():
            tried = rows_of_cell[:MAX_EXPLAINED]
            counts: Counter[str] = Counter()
            for row in tried:
                counts.update(_find_mistakes(installed, by_id[row.key.case], row, oracle))
            most = max(counts.values(), default=0)
            if most > 1 and 2 * most > len(tried):
                yield from (Mistake(options, text, most, len(tried)) for text in counts if counts[text] == most)


def _nonfinite(cases: Iterable[Case], rows: Iterable[Row]) -> Iterator[Mistake]:
    """Yield the likely cause of most of the wrong results that are nan or infinite, by options."""
    by_id = {case.id: case for case in cases}
    tried: Counter[tuple[str, ...]] = Counter()
    counts: Counter[tuple[tuple[str, ...], str]] = Counter()
    for row in rows:
        got, want = row.got, row.want
        if row.status not in FAILING or row.key.case not in by_id or not isinstance(got, Elements):
            continue
        if isinstance(want, Elements) and not np.isfinite(got.values).all():
            case = by_id[row.key.case]
            options = case.options.names()
            tried[options] += 1
            problem = case.problem(row.key.dtype, cast(Reduction, row.key.reduction))
            counts.update((options, text) for text in causes_of_nonfinite(problem, got.values, want.values))
    for (options, text), count in counts.most_common():
        if 2 * count > tried[options]:
            yield Mistake(options, text, count, tried[options])


def _is_explainable(row: Row) -> bool:
    reduced = row.key.quantity == "loss" or (row.key.quantity == "gradient" and row.key.reduction != "none")
    explained = row.candidate or row.known
    if row.key.dtype not in ("float32", "float64") or row.bridge or explained or not reduced:
        return False
    got, want = row.got, row.want
    return isinstance(got, Elements) and isinstance(want, Elements) and got.shape == want.shape and not got.thinned


def _find_mistakes(installed: Installed, case: Case, row: Row, oracle: Oracle) -> set[str]:
    """The mistakes that explain the result of a row, in words."""
    (function,) = installed.functions
    reduction, quantity = cast(Reduction, row.key.reduction), cast(Quantity, row.key.quantity)
    problem = case.problem(row.key.dtype, reduction)
    item = Item(installed, function, case, row.key.dtype, reduction, quantity)
    convention = documented_convention(item, problem).convention.without_numeric_choices()
    tried = values_of_block_mistakes(problem) if quantity == "loss" else iter(())
    if case.predicted <= MAX_SEARCHED_PREDICTIONS:
        tried = itertools.chain(
            values_of_hypotheses(
                problem, quantity, oracle, is_reduced=problem.reduction != "none", convention=convention
            ),
            tried,
        )
    got, exact = (cast(Elements, elements).values for elements in (row.got, row.want))
    groups = hypotheses_for_value(got, exact, row.budget or 0.0, problem.dtype, tried)
    return {", ".join(map(str, hypothesis)) for group in groups for hypothesis in group}


def _first_verdict(row: Row, calls: int) -> str:
    """A note after the first wrong row, or after `FIRST_VERDICT_CALLS` right ones; "" otherwise."""
    if row.status in FAILING:
        return f"first wrong call: {row.key.id}: {row.explanation}"
    return f"the first {calls} calls are right" if calls == FIRST_VERDICT_CALLS else ""


NO_DTYPE = "no such dtype"
PLAIN = "no option"
GRADIENT = "gradient"
LAYOUT = "memory layout"


def cells(installed: Installed, cases: Sequence[Case], rows: Iterable[Row]) -> Iterator[Cell]:
    """The table of a check: a cell for each option, the layout and the gradient, in each dtype."""
    by_id = {case.id: case for case in cases}
    rows_by_cell: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.key.case in by_id and row.status not in ("unsupported", "undefined"):
            for option in _counted_options(by_id[row.key.case], row):
                rows_by_cell.setdefault((option, row.key.dtype), []).append(row)
    for option in (PLAIN, *OPTIONS, LAYOUT, GRADIENT):
        for dtype in DTYPES:
            yield _cell(option, dtype, rows_by_cell.get((option, dtype), []), _why_not(installed, option, dtype))


def _counted_options(case: Case, row: Row) -> Iterator[str]:
    """The lines of the table in which a row is counted."""
    options = case.options.names()
    if is_derivative(row.key.quantity):
        yield GRADIENT
    yield from options
    if case.layout.names():
        yield LAYOUT
    elif not options and not is_derivative(row.key.quantity):
        yield PLAIN


def _why_not(installed: Installed, option: str, dtype: str) -> str:
    (function,) = installed.functions
    if dtype not in function.dtypes:
        return NO_DTYPE
    if option in OPTIONS and option not in function.options:
        return "no such parameter"
    if option == GRADIENT and not installed.differentiates:
        return "its arrays have no gradient"
    return "no case selected"


def _cell(option: str, dtype: str, rows: Sequence[Row], why: str) -> Cell:
    """The cell for the rows of an option in a dtype.  why: the reason that there are no rows."""
    if not rows:
        return Cell(option, dtype, "not asked", why=why)
    wrong = sum(row.status in FAILING for row in rows)
    deviating = sum(row.status == "diverges" for row in rows)
    status = "wrong" if wrong else "deviates as declared" if deviating else "certified"
    finite = [row for row in rows if row.ratio is not None and row.error is not None and row.ratio < float("inf")]
    ratio = max((row.ratio or 0.0 for row in finite), default=0.0)
    error = max((row.error or 0.0 for row in finite), default=0.0)
    return Cell(option, dtype, status, len(rows), wrong, deviating, ratio, error)
