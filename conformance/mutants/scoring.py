"""Cases put to mutants until they are caught, and to right implementations, of which none may be.

All mutants that are left are asked one case before the next, so that they share its problems, exact answers and
budgets.  A mutant is asked until two cases caught it: one that a single case catches hangs on that case.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance.case import Case
from conformance.generate import GeneratedCase
from conformance.known import Ledger
from conformance.mutants.faulty import family_of
from conformance.mutants.losses import Loss, installed
from conformance.oracle import Oracle
from conformance.outcome import Raised
from conformance.suite import Assessment, Suite, plan

SHUFFLED = 3
"""Seed of the order in which cases are put; neighbours in a file show the same faults."""
ENOUGH = 2
"""Cases that catch a mutant before it is asked no more."""


@dataclass(frozen=True)
class Kill:
    """A case that caught a mutant: by which item, and what was wrong there."""

    case: str
    item: str
    because: str


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.  kills: by up to `ENOUGH` cases, the first first; it survived where there are none."""

    name: str
    family: str
    fault: str
    kills: tuple[Kill, ...]

    @property
    def survived(self) -> bool:
        return not self.kills

    @property
    def alone(self) -> str:
        """The case without which it would have survived; "" where there are several, or none."""
        return self.kills[0].case if len(self.kills) == 1 else ""


@dataclass(frozen=True)
class Score:
    """What became of all mutants, in the order of their families."""

    fates: tuple[Fate, ...]

    @property
    def survivors(self) -> tuple[Fate, ...]:
        return tuple(fate for fate in self.fates if fate.survived)

    @property
    def share(self) -> float:
        """Killed mutants to all of them, in [0, 1]."""
        return 1 - len(self.survivors) / len(self.fates)

    def families(self) -> dict[str, tuple[int, int]]:
        """(killed, all) by family."""
        found: dict[str, tuple[int, int]] = {}
        for fate in self.fates:
            killed, every = found.get(fate.family, (0, 0))
            found[fate.family] = (killed + (not fate.survived), every + 1)
        return found

    def alone(self) -> dict[str, list[str]]:
        """The mutants that one case alone kills, by that case, in the order of cases."""
        found: dict[str, list[str]] = {}
        for fate in self.fates:
            if fate.alone:
                found.setdefault(fate.alone, []).append(fate.name)
        return {case: found[case] for case in sorted(found)}


def told(mutant: type[Loss], kills: Sequence[Kill] = ()) -> Fate:
    """The fate of a mutant."""
    return Fate(mutant.__name__, family_of(mutant), " ".join((mutant.__doc__ or "").split()), tuple(kills))


def fates(cases: Iterable[Case], mutants: Sequence[type[Loss]]) -> Iterator[Fate | Case]:
    """The fate of each mutant as soon as it is clear, and each case once it has been put to those that are left."""
    suite = Suite(Oracle(), Ledger())
    kills: dict[type[Loss], list[Kill]] = {mutant: [] for mutant in mutants}
    for case in in_order(cases):
        caught: dict[str, Kill] = {}
        here = installed(*kills)
        for item in plan([case], [here]):
            name = item.function.name
            if name not in caught:
                assessment = suite.assess(item)
                if assessment.expected != "ok":
                    caught[name] = Kill(case.id, f"{case.id}-{item.dtype}-{item.reduction}", _because(assessment))
        for mutant, function in zip(tuple(kills), here.functions, strict=True):
            if function.name in caught:
                kills[mutant].append(caught[function.name])
                if len(kills[mutant]) == ENOUGH:
                    yield told(mutant, kills.pop(mutant))
        yield case
        if not kills:
            return
    yield from (told(mutant, found) for mutant, found in kills.items())


def in_order(cases: Iterable[Case]) -> list[Case]:
    """Cases so that few of them show most faults: mixed, those with the smallest arrays first."""
    mixed = sorted(cases, key=lambda case: case.id)
    random.Random(SHUFFLED).shuffle(mixed)  # noqa: S311
    return sorted(mixed, key=_generated_size)


def _generated_size(case: Case) -> int:
    return case.recipe.classes * math.prod(case.recipe.shape) if isinstance(case, GeneratedCase) else 0


def alarms(cases: Iterable[Case], right: Sequence[type[Loss]]) -> Iterator[Assessment | Case]:
    """What a suite finds wrong with implementations that are right, and each case once it has been put to all."""
    suite = Suite(Oracle(), Ledger())
    here = installed(*right, differentiates=True)
    for case in cases:
        for item in plan([case], [here]):
            assessment = suite.assess(item)
            if assessment.expected != "ok":
                yield assessment
        yield case


def _because(assessment: Assessment) -> str:
    outcome = assessment.verdict.outcome
    raised = f"raised {outcome.exception}; " if isinstance(outcome, Raised) else ""
    return raised + assessment.verdict.explanation if not raised else assessment.verdict.explanation
