"""Random search for discrepancies: cases are generated one after another, called, and shrunk if a function is wrong.

The case at a position depends on the seed and the position only, so that a search can be resumed anywhere. Rows that
the ledger documents by their traits (`when` of an entry) are counted and not reported. So is a row with all traits of
an earlier counterexample of the same function that is wrong in the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapters.contract import Function
from conformance.adapters.contract.calling import THREADS, perform
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.writing import case_file_text
from conformance.execution.run import Run
from conformance.explore import state_file
from conformance.explore.fuzz.generation import DEFAULT_KINDS, Limits, random_case_and_choices
from conformance.explore.fuzz.strategies import (
    MissingHypothesisError,
    check_installed,
    drop_samples_and_classes,
    shrink,
)
from conformance.explore.state_file import StateError
from conformance.judging.judge import Assessment, Judge, Performer
from conformance.judging.plan import VARIANT_STRIDE, is_thinned, plan
from conformance.judging.row import Row
from conformance.judging.selection import ItemFilter
from conformance.judging.traits import GENERIC_TRAITS, TRAITS_OF_SMALL_CASES
from conformance.judging.verdict import Verdict
from conformance.model.case import QUANTITIES, Case
from conformance.model.convention import INVALID
from conformance.model.errors import UserError
from conformance.model.row_key import EAGER, RowKey
from conformance.reference.oracle import Oracle

GENERATED_ID = "drawn/case"
"""Id of each generated case; a counterexample gets its own id."""
ABOUT = "Cases that were drawn at random and shrunk, because a function answered them wrongly."
SHRINK_SECONDS = 20.0
"""Time limit for shrinking one counterexample, in seconds."""
MAX_FAILURES = 20
"""Maximum number of recorded failures to call a function."""
MAX_VALID_PROBLEMS, MAX_VALID_SECONDS, MAX_VALID_FINDINGS = 300, 10.0, 3
"""Limits of `search_valid_problems`: problems, seconds, and findings after which it stops."""


FORMAT = 2
"""Version of the state file."""
Request = dict[str, Any]
"""The parameters of a search as JSON values: seed, functions, limits, version of the suite."""


@dataclass(frozen=True)
class Counterexample:
    """The smallest case that shows one way in which a function is wrong."""

    function: str
    version: str
    signature: str
    """Kind of failure of the function; see `failure_signature`."""
    traits: tuple[str, ...]
    """The traits that make the case unusual."""
    position: int
    """Position of the case in the random sequence."""
    case: str
    path: str
    """Path of the case file below a case folder."""
    text: str
    """Content of the case file."""
    message: str
    """The message of a failing test."""
    row: Row
    """The row of the report."""


@dataclass
class SearchState:
    """Progress of a search, as saved in its state file."""

    position: int = 0
    """Position of the next case."""
    cases: int = 0
    """Number of cases on which a function was called."""
    rows: int = 0
    seconds: float = 0.0
    again: Counter[str] = field(default_factory=Counter)
    """Number of rows that repeat a counterexample, keyed by its case."""
    known: Counter[str] = field(default_factory=Counter)
    """Number of rows that the ledger documents, keyed by the entry."""
    not_executed: list[str] = field(default_factory=list)
    """Messages of items that could not be called."""

    def summary(self, findings: int) -> str:
        """The progress of the search, for a terminal.  findings: number of findings."""
        known = sum(self.known.values())
        return f"{self.position} cases, {self.rows} rows, {findings} findings, {known} rows known"


@dataclass(eq=False)
class Search:
    """A random search, one case per step."""

    available: Sequence[Installed]
    """The installed frameworks whose functions are called, restricted by `item_filter`."""
    ledger: Ledger
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    item_filter: ItemFilter | None = None
    performer: Performer = perform
    state: SearchState = field(default_factory=SearchState)
    """The state of the search; like `findings`, that of an earlier search if it is resumed."""
    findings: list[Counterexample] = field(default_factory=list)
    shrinks: bool = True
    """Whether counterexamples are shrunk."""

    def steps(self, seconds: float | None = None, count: int | None = None) -> Iterator[float]:
        """Search until a limit is reached; yields the elapsed seconds before each step.

        seconds: duration of the search.  count: position at which the search ends.
        """
        start = time.monotonic()
        while count is None or self.state.position < count:
            elapsed = time.monotonic() - start
            if seconds is not None and elapsed >= seconds:
                return
            yield elapsed
            self.step()

    def step(self) -> list[Counterexample]:
        """Call each function that can express the next case; return the new counterexamples.

        If it is interrupted during shrinking, the smallest case so far is added to `findings` before the exception
        is raised.
        """
        start = time.perf_counter()
        before = len(self.findings)
        rng = np.random.default_rng([self.seed, self.state.position])
        case, choices = random_case_and_choices(rng, GENERATED_ID, self.limits)
        items = [item for item in plan([case], self.available, self.item_filter) if self._is_called(item.function)]
        run = Run()
        for assessment in run.each(items, self._judge().assess):
            if assessment.expected == "known" and (entry := assessment.known) is not None:
                self.state.known[f"{entry.path}:{entry.line}: {entry.summary}"] += 1
            elif assessment.expected == "unexpected":
                self._record_discrepancy(assessment, choices)
        state = self.state
        room = MAX_FAILURES - len(state.not_executed)
        state.not_executed += [f"case {state.position}, {failure}" for failure in run.not_executed[:room]]
        state.position += 1
        state.cases += bool(items)
        state.rows += len(items)
        state.seconds += time.perf_counter() - start
        return self.findings[before:]

    def _is_called(self, function: Function) -> bool:
        """Whether a function is called with the next case."""
        return self.state.position % VARIANT_STRIDE == 0 or not is_thinned(function, self.item_filter)

    def _judge(self) -> Judge:
        """Create a judge for one case. Its oracle is discarded with it, to bound the memory of a long search."""
        return Judge(Oracle(), self.ledger, self.performer)

    def _record_discrepancy(self, assessment: Assessment, choices: Sequence[int]) -> None:
        traits = assessment.prepared.traits
        name, signature = assessment.item.function.name, failure_signature(assessment)
        for counterexample in self.findings:
            if (counterexample.function, counterexample.signature) == (name, signature) and traits.issuperset(
                counterexample.traits
            ):
                self.state.again[counterexample.case] += 1
                return
        smaller = [assessment]
        try:
            if self.shrinks:
                self._shrink(smaller, choices, name, signature)
        finally:
            self._add_counterexample(smaller[-1])

    def _shrink(self, smaller: list[Assessment], choices: Sequence[int], name: str, signature: str) -> None:
        """Append ever smaller cases in which the function fails in the same way, until the time limit."""
        installed, deadline = smaller[0].item.installed, time.monotonic() + SHRINK_SECONDS

        def reproduces(case: Case) -> bool:
            if time.monotonic() > deadline:
                raise _OutOfTime
            items = plan([case], [installed], ItemFilter(lambda _, item: item.startswith(f"{name}-")))
            for attempt in Run().each(items, self._judge().assess):
                if attempt.expected == "unexpected" and failure_signature(attempt) == signature:
                    smaller.append(attempt)
                    return True
            return False

        with contextlib.suppress(_OutOfTime):
            if (case := shrink(choices, self.limits, GENERATED_ID, reproduces)) is not None:
                reproduces(drop_samples_and_classes(case, reproduces))

    def _add_counterexample(self, assessment: Assessment) -> None:
        counterexample = make_counterexample(assessment, self.seed, self.state.position)
        same = {(known.function, known.signature, known.traits) for known in self.findings}
        if (counterexample.function, counterexample.signature, counterexample.traits) in same:
            self.state.again[counterexample.case] += 1
        else:
            self.findings.append(counterexample)


class _OutOfTime(BaseException):
    """Raised when shrinking exceeds its time limit. An Exception would count as a failing example in Hypothesis."""


def make_counterexample(assessment: Assessment, seed: int, position: int) -> Counterexample:
    """Turn the assessment of one item into a counterexample whose case has only the item's dtype and reduction."""
    item, verdict = assessment.item, assessment.verdict
    name = f"{item.case.loss}_{item.case.input_kind}_{item.case.digest[:8]}"
    why = f"Case {position} that was drawn with seed {seed}, shrunk: {item.function.name} {item.installed.version}"
    case = dataclasses.replace(
        item.case,
        id=f"fuzz/{name}/smallest",
        why=f"{why} {_summary(verdict)}.",
        about=ABOUT,
        source=f"conformance fuzz --seed {seed}",
        dtypes=(item.dtype,),
        reductions=(item.reduction,),
    )
    renamed = dataclasses.replace(item, case=case)
    prepared = dataclasses.replace(assessment.prepared, item=renamed)
    renamed_assessment = Assessment(prepared, verdict, None)
    return Counterexample(
        function=item.function.name,
        version=item.installed.version,
        signature=failure_signature(assessment),
        traits=tuple(sorted(assessment.prepared.traits - GENERIC_TRAITS - TRAITS_OF_SMALL_CASES)),
        position=position,
        case=case.id,
        path=f"fuzz/{name}.yaml",
        text=case_file_text([case]),
        message=str(renamed_assessment),
        row=renamed_assessment.row,
    )


def _summary(verdict: Verdict) -> str:
    message = verdict.reason.brief if verdict.reason is not None else ""
    return f"{verdict.status.replace('_', ' ')}: {message}"


def failure_signature(assessment: Assessment) -> str:
    """The kind of failure of an item: its status and the identity of its reason, without numbers."""
    reason, quantity = assessment.verdict.reason, assessment.item.quantity
    suffix = "" if quantity == "loss" else f" ({quantity})"
    return f"{assessment.verdict.status}{suffix}: {', '.join(reason.identity if reason is not None else ())}"


def single_threaded() -> None:
    """Make frameworks that are imported later compute in one thread, unless the user has set the variables.

    With more threads, small arrays cost more in synchronisation than in arithmetic.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")


def search_valid_problems(
    available: Sequence[Installed],
    ledger: Ledger,
    seed: int,
    performer: Performer = perform,
    progress: Callable[[str], None] = lambda line: None,
) -> Search:
    """Run a short search over the problems in the domain of the definition that the functions can express."""
    try:
        check_installed()
        shrinks = True
    except MissingHypothesisError:
        shrinks = False
    functions = [function for installed in available for function in installed.functions]
    limits = restrict_limits(Limits(kinds=DEFAULT_KINDS - INVALID), functions)
    search = Search(available, ledger, limits, seed, None, performer, shrinks=shrinks)
    for _ in search.steps(MAX_VALID_SECONDS, MAX_VALID_PROBLEMS):
        if len(search.findings) >= MAX_VALID_FINDINGS:
            break
        progress(search.state.summary(len(search.findings)))
    return search


def restrict_limits(
    limits: Limits | None = None,
    functions: Iterable[Function] = (),
    item_filter: ItemFilter | None = None,
    modes: Iterable[str] = (EAGER,),
) -> Limits:
    """Restrict limits to what at least one function can express, so that few cases are generated in vain.

    item_filter: selects items.  modes: modes of the calls.
    """
    limits, candidates = limits or Limits(), list(functions)
    combinations = [
        (function, dtype, reduction)
        for function in candidates
        for dtype in limits.dtypes
        for reduction in limits.reductions
        if dtype in function.dtypes
        and reduction in function.reductions
        and (
            item_filter is None
            or any(item_filter(function.framework_name, name) for name in _item_ids(function, dtype, reduction, modes))
        )
    ]
    candidates = list({function.name: function for function, _, _ in combinations}.values())
    if not candidates:
        raise UserError("nothing is selected: no selected function has such a dtype and reduction")
    dtypes, reductions = {dtype for _, dtype, _ in combinations}, {reduction for _, _, reduction in combinations}
    accepted = [ranks for function in candidates for ranks in function.ranks.values()]
    layouts = frozenset[str]().union(*(function.layouts for function in candidates))
    fields = {"class_axis": {"class_axis", "class_axis_not_1"}, "labels": {"labels_column"}}
    fields |= {"order": {"fortran", "strided", "readonly", "broadcast"}, "label_dtype": {"label_dtype"}}
    fields |= {"weight_dtype": {"weight_dtype"}}
    return dataclasses.replace(
        limits,
        dtypes=tuple(dtype for dtype in limits.dtypes if dtype in dtypes),
        reductions=tuple(reduction for reduction in limits.reductions if reduction in reductions),
        min_inner_axes=max(0, min(ranks.start for ranks in accepted) - 2),
        max_rank=min(limits.max_rank, max(ranks.stop for ranks in accepted) - 1),
        options=limits.options & frozenset[str]().union(*(function.options for function in candidates)),
        families=tuple(
            family for family in limits.families if any(_computes(function, *family) for function in candidates)
        ),
        layouts=frozenset(name for name in limits.layouts if fields[name] & layouts),
    )


def _item_ids(function: Function, dtype: str, reduction: str, modes: Iterable[str]) -> list[str]:
    return [
        RowKey(GENERATED_ID, "", function.name, dtype, reduction, quantity, mode=mode).id
        for quantity in QUANTITIES
        for mode in modes
    ]


def _computes(function: Function, loss: Any, input_kind: str, target: str) -> bool:
    """Whether a function returns its quantity for such targets. Predictions are converted for losses if possible."""
    kinds = {"index": ("index",), "distribution": ("one_hot", "distribution"), "binary": ("binary", "soft_binary")}
    accepts_kind = function.quantity == "loss" or input_kind in function.input_kinds
    return (
        accepts_kind
        and loss in function.ranks
        and any(function.target_kind_for(kind) is not None for kind in kinds[target])
    )


def write_state(path: Path, request: Request, state: SearchState, findings: Iterable[Counterexample]) -> None:
    """Replace the state file. Raises StateError."""
    lines = [vars(counterexample) | {"row": counterexample.row.cells} for counterexample in findings]
    state_file.write(path, {"format": FORMAT, "asked": request, "tally": vars(state), "findings": lines})


def read_state(path: Path, request: Request) -> tuple[SearchState, list[Counterexample]] | None:
    """Read the progress and the counterexamples of a search; None if there is no file.

    Raises StateError if the file is invalid or belongs to a search with other parameters.
    """
    content = state_file.read(path, FORMAT, "a search", _parse_state)
    if content is None:
        return None
    saved_request = content[0]
    for name in {**saved_request, **request}:
        if saved_request.get(name) != json.loads(json.dumps(request.get(name))):
            raise StateError(path, f"is of a search with {name} {saved_request.get(name)}, and not {request.get(name)}")
    return content[1:]


def _parse_state(content: dict[str, Any]) -> tuple[Request, SearchState, list[Counterexample]]:
    state = SearchState(**content["tally"])
    state.again, state.known = Counter(state.again), Counter(state.known)
    findings = [
        Counterexample(**values | {"traits": tuple(values["traits"]), "row": Row.of(values["row"])})
        for values in content["findings"]
    ]
    return dict(content["asked"]), state, findings
