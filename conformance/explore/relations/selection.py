"""Which relations are held against which functions on which cases: few, and every kind of problem among them.

For each relation and function the cases are walked in their order, and one is taken that shows something which none
before it showed: an option, a layout, a kind of target or prediction, a rank, an unusual input, a size, or a pair of
dtype and reduction.  Whole combinations of these are dealt out: each is taken to every fourth relation, beginning with
another one for the next combination.  What cannot be said both ways is passed over before it counts.  So the choice is
the same every time, transforms each combination of the corpus, and does not grow with cases that repeat one.

Cases whose arrays are generated are asked in their small form, of two samples from the same seed: the random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.adapters.contract import Function, problem_features
from conformance.adapters.registry import Installed
from conformance.explore.relations.catalogue import RELATIONS
from conformance.explore.relations.checker import Instance
from conformance.explore.relations.relation import Relation
from conformance.judging.suite import Item, unsupported
from conformance.model.case import Case, MustRaise, NoRightAnswer, Problem
from conformance.reference.domain import examine

LARGEST = 700
"""Predictions beyond which a case is not asked."""
SHARE = 4
"""Of the relations that could take a combination one in so many does."""


def instances(
    cases: Iterable[Case],
    here: Sequence[Installed],
    wanted: Callable[[Function, str], bool] | None = None,
    relations: Sequence[Relation] = RELATIONS,
) -> list[Instance]:
    """Every relation that is held against the installed functions, function by function.

    wanted: says of a function and an instance's id whether it is asked for; the choice is made before, but where
    nothing is wanted of a relation and a function it is not made.
    """
    candidates = list(_candidates(cases))
    chosen: list[Instance] = []
    for installed, function in ((there, function) for there in here for function in there.functions):
        able = [found for found in candidates if unsupported(function, found.case, found.problem) is None]
        numbers = {combination: number for number, combination in enumerate(dict.fromkeys(f.combination for f in able))}
        for first, relation in enumerate(relations):
            mine = [
                (Instance(relation, found.of(installed, function), found.problem), found)
                for found in able
                if relation.concerns(found.problem, function)
            ]
            if wanted is None or any(wanted(function, instance.id) for instance, _ in mine):
                dealt = {asked for asked, number in numbers.items() if (first + number) % SHARE == 0}
                chosen += _covering(mine, dealt)
    return [instance for instance in chosen if wanted is None or wanted(instance.item.function, instance.id)]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A problem that may be taken.

    combination: what it asks of a function, beside its dtype and reduction.  shown: that, and what is unusual in it.
    """

    case: Case
    problem: Problem
    combination: frozenset[str]
    shown: frozenset[str]

    def of(self, installed: Installed, function: Function) -> Item:
        """The item that asks a function this problem."""
        return Item(installed, function, self.case, self.problem.dtype, self.problem.reduction)


def _candidates(cases: Iterable[Case]) -> Iterator[_Candidate]:
    for case in (case.sketch for case in cases):
        if isinstance(case.expect, MustRaise | NoRightAnswer) or case.predictions.size > LARGEST:
            continue
        for problem in case.problems():
            dtype, reduction = problem.dtype, problem.reduction
            combination = problem_features(problem, problem.target_kind) - {dtype, reduction}
            yield _Candidate(case, problem, combination, combination | examine(problem) | _size(problem))


def _size(problem: Problem) -> frozenset[str]:
    """How large and how small predictions are, in steps of 2**8; what kind of class is ignored; many classes."""
    x = np.abs(problem.predictions.astype(np.float64))
    x = x[np.isfinite(x) & (x > 0)]
    ends = {int(np.log2(end)) // 8 for end in (x.min(), x.max())} if x.size else set()
    found = {f"2**{8 * end}" for end in ends}
    ignored = problem.options.ignore_index
    if ignored is not None:
        found.add("ignored_class_0" if ignored == 0 else "ignored_class" if ignored > 0 else "ignored_label")
    if problem.loss == "categorical" and problem.predictions.shape[-1] > np.iinfo(np.int8).max:
        found.add("many_classes")
    return frozenset(found)


def _covering(found: Iterable[tuple[Instance, _Candidate]], dealt: set[frozenset[str]]) -> Iterator[Instance]:
    """Those that show something new, or a combination of `dealt`."""
    before: set[object] = set()
    for instance, candidate in found:
        news = {*candidate.shown, (candidate.problem.dtype, candidate.problem.reduction)} | (
            {candidate.combination} & dealt
        )
        if not news <= before and instance.statement is not None:
            before |= news
            yield instance
