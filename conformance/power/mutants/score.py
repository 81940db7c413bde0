"""Cases put to mutants until they are caught, and to right implementations, of which none may be.

All mutants that are left are asked one case before the next, so that they share its problems, exact answers and
budgets.  A mutant is asked until two cases caught it: one that a single case catches hangs on that case.
"""

from __future__ import annotations

import contextlib
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
from conformance.explore.fuzz.generation import random_case
from conformance.judging.suite import Item, Suite, load_suite, plan
from conformance.model.case import LOSSES, Case
from conformance.model.outcome import Raised
from conformance.power.mutants.catalogue import named
from conformance.power.mutants.faulty import GRADIENTS, family_of
from conformance.power.mutants.losses import Loss, installed
from conformance.reference.oracle import Oracle, open_cache

SHUFFLED = 3
"""Seed of the order in which cases are put; neighbours in a file show the same faults."""
ENOUGH = 2
"""Cases that catch a mutant before it is asked no more."""
IN_TURN = 4
"""Right implementations that a generated case is put to; the next case is put to the next ones."""


@dataclass(frozen=True)
class Kill:
    """A case that caught a mutant: by which item, what was wrong there, and whether the mutant raised."""

    case: str
    item: str
    because: str
    raised: bool


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
class Alarm:
    """A right implementation that was found wrong.  message: what a failing test prints; case: its file, if drawn."""

    name: str
    item: str
    message: str
    text: str = ""


@dataclass(frozen=True)
class Put:
    """A case has been put to all that were to be asked it.  items: how often something was asked."""

    case: str
    items: int


@dataclass(frozen=True)
class Score:
    """What became of all mutants, in the order of their families."""

    fates: tuple[Fate, ...]

    @property
    def survivors(self) -> tuple[Fate, ...]:
        return tuple(fate for fate in self.fates if fate.survived)

    @property
    def killed(self) -> int:
        return len(self.fates) - len(self.survivors)

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
    return Fate(mutant.__name__, family_of(mutant), fault_of(mutant), tuple(kills))


def fault_of(mutant: type[Loss]) -> str:
    """What is wrong with it, in a sentence."""
    return " ".join((mutant.__doc__ or "").split())


def fates(
    cases: Iterable[Case], mutants: Sequence[type[Loss]], oracle: Oracle | None = None, enough: int = ENOUGH
) -> Iterator[Fate | Put]:
    """The fate of each mutant as soon as it is clear, and each case once it has been put to those that are left.

    enough: cases that catch a mutant before it is asked no more.
    """
    suite = Suite(oracle or Oracle(), Ledger())
    kills: dict[str, list[Kill]] = {mutant.__name__: [] for mutant in mutants}
    left = {mutant.__name__: mutant for mutant in mutants}
    for case in in_order(cases):
        caught: dict[str, Kill] = {}
        items = plan([case], _there(left.values()))
        for item in items:
            name = _name_of(item)
            if name not in caught and (kill := _kill(suite, item)) is not None:
                caught[name] = kill
        for name, kill in caught.items():
            kills[name].append(kill)
            if len(kills[name]) == enough:
                yield told(left.pop(name), kills[name])
        yield Put(case.id, len(items))
        if not left:
            return
    yield from (told(mutant, kills[name]) for name, mutant in left.items())


def _there(mutants: Iterable[type[Loss]]) -> list[Installed]:
    """Mutants as frameworks; only of those whose gradients are wrong is the gradient asked for."""
    split: dict[bool, list[type[Loss]]] = {False: [], True: []}
    for mutant in mutants:
        split[family_of(mutant) == GRADIENTS].append(mutant)
    return [installed(*found, differentiates=wrong) for wrong, found in split.items() if found]


def _name_of(item: Item) -> str:
    return item.function.name.partition(".")[2]


def _kill(suite: Suite, item: Item) -> Kill | None:
    """What would fail a run; None where nothing does."""
    assessment = suite.assess(item)
    if assessment.expected == "ok":
        return None
    verdict = assessment.verdict
    return Kill(item.case.id, item.id.partition("-")[2], verdict.explanation, isinstance(verdict.outcome, Raised))


def in_order(cases: Iterable[Case]) -> list[Case]:
    """Cases so that few of them show most faults: mixed, and generated ones last, by their size."""
    mixed = sorted(cases, key=lambda case: case.id)
    random.Random(SHUFFLED).shuffle(mixed)  # noqa: S311
    return sorted(mixed, key=_generated_size)


def _generated_size(case: Case) -> int:
    return case.recipe.classes * math.prod(case.recipe.shape) if isinstance(case, GeneratedCase) else 0


def alarms(
    cases: Iterable[Case], right: Sequence[type[Loss]], in_turn: int = 0, oracle: Oracle | None = None
) -> Iterator[Alarm | Put]:
    """What a suite finds wrong with implementations that are right, and each case once it has been put to them.

    in_turn: how many of those that have its loss a case is put to, after which it is the next ones' turn; 0 for all.
    """
    suite = Suite(oracle or Oracle(), Ledger())
    of = {name: [loss for loss in right if name in loss.function().ranks] for name in LOSSES}
    turns = {name: itertools.cycle(range(len(found))) for name, found in of.items() if found}
    everyone = {name: installed(*found, differentiates=True) for name, found in of.items()}
    for case in cases:
        there = everyone[case.loss]
        if in_turn and in_turn < len(of[case.loss]):
            places = [next(turns[case.loss]) for _ in range(in_turn)]
            there = installed(*(of[case.loss][place] for place in places), differentiates=True)
        items = plan([case], [there])
        for item in items:
            assessment = suite.assess(item)
            if assessment.expected != "ok":
                drawn = "" if case.path else case_file_text([case])
                yield Alarm(_name_of(item), item.id.partition("-")[2], str(assessment), drawn)
        yield Put(case.id, len(items))


# The same for names, which processes can be told.


@contextlib.contextmanager
def _remembered() -> Iterator[Oracle]:
    """An oracle that keeps its answers on disk."""
    cache = open_cache()
    try:
        yield Oracle(cache)
    finally:
        if cache is not None:
            cache.close()


def fates_of(folder: Path | None, names: Sequence[str]) -> Iterator[Fate | Put]:
    """`fates` of the named mutants over the cases of a folder."""
    with _remembered() as oracle:
        yield from fates(load_suite(folder)[0], named(names), oracle)


def alarms_of(folder: Path | None, names: Sequence[str]) -> Iterator[Alarm | Put]:
    """`alarms` about the named implementations over the cases of a folder."""
    with _remembered() as oracle:
        yield from alarms(in_order(load_suite(folder)[0]), named(names), 0, oracle)


def alarms_drawn(names: Sequence[str], seed: int, places: range) -> Iterator[Alarm | Put]:
    """`alarms` about the named implementations, in turn, over the cases that a seed draws at some places."""
    drawn = (random_case(np.random.default_rng([seed, place]), f"drawn/seed{seed}/n{place}") for place in places)
    yield from alarms(drawn, named(names), IN_TURN)
