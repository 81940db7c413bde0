"""Runs cases on mutants until they are detected, and on correct implementations, which must not be reported.

All remaining mutants run one case before the next, so that they share its problems, exact answers and tolerances. A
mutant is run until two cases detect it: a mutant that a single case detects depends on that case.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance.adapters.registry import Installed
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.writing import case_file_text
from conformance.execution.run import Run
from conformance.explore.fuzz.generation import random_case
from conformance.judging.case_set import load_case_set
from conformance.judging.judge import Assessment, Judge
from conformance.judging.plan import Item, plan
from conformance.model.case import LOSSES, Case
from conformance.model.outcome import Raised
from conformance.power.mutants.catalogue import DIFFERENTIATED, select_by_name
from conformance.power.mutants.numpy_losses import Implementation, installed
from conformance.reference.oracle import Oracle, cached_oracle

SHUFFLE_SEED = 3
"""Seed of the order of cases; neighbours in a file detect the same faults."""
MAX_KILLS = 2
"""Number of cases that must detect a mutant before it is no longer run."""
CORRECT_PER_CASE = 4
"""Number of correct implementations that run each generated case; successive cases use successive implementations."""


@dataclass(frozen=True)
class Kill:
    """A case that detected a mutant."""

    case: str
    item: str
    """The item that detected it."""
    message: str
    """The error."""
    raised: bool
    """Whether the mutant raised an exception."""


@dataclass(frozen=True)
class MutantResult:
    """Whether a mutant was detected, and by which cases."""

    name: str
    family: str
    fault: str
    kills: tuple[Kill, ...]
    """Up to `MAX_KILLS` cases, in order; empty if the mutant survived."""

    @property
    def survived(self) -> bool:
        return not self.kills

    @property
    def only_killer(self) -> str:
        """The only case that detects the mutant; "" if there are several or none."""
        return self.kills[0].case if len(self.kills) == 1 else ""


@dataclass(frozen=True)
class FalseAlarm:
    """A correct implementation that was reported as incorrect."""

    name: str
    item: str
    message: str
    """The failure message."""
    text: str = ""
    """The case file, if the case was generated."""


@dataclass(frozen=True)
class CaseRun:
    """A case that has been run on all implementations."""

    items: int
    """Number of calls."""


def describe_mutant(mutant: type[Implementation], kills: Sequence[Kill] = ()) -> MutantResult:
    """The result of a mutant with the given kills."""
    return MutantResult(mutant.__name__, mutant.family, " ".join((mutant.__doc__ or "").split()), tuple(kills))


def run_mutants(
    cases: Iterable[Case],
    mutants: Sequence[type[Implementation]],
    oracle: Oracle | None = None,
    enough: int = MAX_KILLS,
) -> Iterator[MutantResult | CaseRun]:
    """Yield each mutant's result as soon as it is known, and each case after all remaining mutants have run it.

    cases: the cases in execution order.
    enough: number of cases that must detect a mutant before it is no longer run.
    """
    suite = Judge(oracle or Oracle(), Ledger())
    kills: dict[str, list[Kill]] = {mutant.__name__: [] for mutant in mutants}
    remaining = {mutant.__name__: mutant for mutant in mutants}
    frameworks = _frameworks(mutants)
    for case in cases:
        kills_in_case: dict[str, Kill] = {}
        items = plan([case], list(frameworks.values()))
        undetected = (item for item in items if _name_of(item) not in kills_in_case)
        for assessment in assess(undetected, suite):
            if assessment.expected != "ok":
                kills_in_case[_name_of(assessment.item)] = _kill(assessment)
        for name, kill in kills_in_case.items():
            kills[name].append(kill)
            if len(kills[name]) == enough:
                del frameworks[name]
                yield describe_mutant(remaining.pop(name), kills[name])
        yield CaseRun(len(items))
        if not remaining:
            return
    yield from (describe_mutant(mutant, kills[name]) for name, mutant in remaining.items())


def _frameworks(mutants: Iterable[type[Implementation]]) -> dict[str, Installed]:
    """A fake framework for each mutant, so that what it declares is checked once; those whose gradients are asked are
    last.
    """
    ordered = sorted(mutants, key=lambda mutant: mutant.family in DIFFERENTIATED)
    return {mutant.__name__: installed(mutant, differentiates=mutant.family in DIFFERENTIATED) for mutant in ordered}


def _name_of(item: Item) -> str:
    return item.function.name.partition(".")[2]


def assess(items: Iterable[Item], judge: Judge) -> Iterator[Assessment]:
    """The assessments of items; raises UserError if one of them could not be executed."""
    run = Run()
    yield from run.each(items, judge.assess)
    run.require_all("a mutant could not be called")


def _kill(assessment: Assessment) -> Kill:
    item, verdict = assessment.item, assessment.verdict
    return Kill(item.case.id, item.id.partition("-")[2], verdict.explanation, isinstance(verdict.outcome, Raised))


def shuffled(cases: Iterable[Case]) -> list[Case]:
    """Cases in an order in which a few detect most faults: shuffled, followed by generated cases in order of size."""
    mixed = sorted(cases, key=lambda case: case.id)
    random.Random(SHUFFLE_SEED).shuffle(mixed)  # noqa: S311
    return sorted(mixed, key=_generated_size)


def _generated_size(case: Case) -> int:
    return case.recipe.classes * math.prod(case.recipe.shape) if isinstance(case, GeneratedCase) else 0


def run_correct(
    cases: Iterable[Case], correct: Sequence[type[Implementation]], per_case: int = 0, oracle: Oracle | None = None
) -> Iterator[FalseAlarm | CaseRun]:
    """Yield false alarms, and each case after the correct implementations have run it.

    per_case: number of implementations that run each case, in turn; 0 means all.
    """
    suite = Judge(oracle or Oracle(), Ledger())
    correct_by_loss = {name: [loss for loss in correct if name in loss.function().ranks] for name in LOSSES}
    rotation = {
        name: itertools.cycle(range(len(implementations)))
        for name, implementations in correct_by_loss.items()
        if implementations
    }
    frameworks: dict[tuple[str, ...], Installed] = {}
    for case in cases:
        chosen = correct_by_loss[case.loss]
        if per_case and per_case < len(chosen):
            chosen = [chosen[next(rotation[case.loss])] for _ in range(per_case)]
        names = tuple(loss.__name__ for loss in chosen)
        if names not in frameworks:
            frameworks[names] = installed(*chosen, differentiates=True)
        items = plan([case], [frameworks[names]])
        for assessment in assess(items, suite):
            if assessment.expected != "ok":
                text, item = "" if case.path else case_file_text([case]), assessment.item
                yield FalseAlarm(_name_of(item), item.id.partition("-")[2], str(assessment), text)
        yield CaseRun(len(items))


# The same functions with names as arguments, which can be pickled.


def run_mutants_in_folder(folder: Path | None, names: Sequence[str]) -> Iterator[MutantResult | CaseRun]:
    """`run_mutants` for named mutants and the cases of a folder."""
    with cached_oracle() as oracle:
        yield from run_mutants(shuffled(load_case_set(folder).cases), select_by_name(names), oracle)


def run_correct_in_folder(folder: Path | None, names: Sequence[str]) -> Iterator[FalseAlarm | CaseRun]:
    """`run_correct` for named implementations and the cases of a folder."""
    with cached_oracle() as oracle:
        yield from run_correct(shuffled(load_case_set(folder).cases), select_by_name(names), 0, oracle)


def run_correct_on_generated(names: Sequence[str], seed: int, places: range) -> Iterator[FalseAlarm | CaseRun]:
    """`run_correct` for named implementations, in turn, and the generated cases at some places of a seed."""
    generated = (random_case(np.random.default_rng([seed, place]), f"drawn/seed{seed}/n{place}") for place in places)
    yield from run_correct(generated, select_by_name(names), CORRECT_PER_CASE)
