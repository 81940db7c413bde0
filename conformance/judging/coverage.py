"""Pairwise coverage: pairs of capabilities that the cases require, out of those that functions declare to support.

Capabilities are the names from `adapters.contract.required_capabilities`: options, kinds of input and target, layouts,
reductions, dtypes and ranks.  Categorical and binary losses count separately.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.adapters.contract import Function, required_capabilities
from conformance.model.case import (
    DTYPES,
    INPUT_KINDS,
    LOSSES,
    OPTIONS,
    REDUCTIONS,
    Case,
    Loss,
    MustRaise,
    NoRightAnswer,
)

TARGET_KINDS_OF: dict[Loss, frozenset[str]] = {
    "categorical": frozenset({"index", "one_hot", "distribution"}),
    "binary": frozenset({"binary", "soft_binary"}),
}
PLAIN_RANK = "rank_2"
"""The usual rank, which is not a capability."""
RANKS = ("unbatched", "rank_1", PLAIN_RANK, "higher_rank")
MEMORY_ORDERS = ("fortran", "strided", "broadcast", "readonly")
CLASS_AXES = ("class_axis", "class_axis_not_1")
LAYOUTS = (*MEMORY_ORDERS, *CLASS_AXES, "labels_column", "label_dtype", "weight_dtype")
ALL_TARGET_KINDS = frozenset[str]().union(*TARGET_KINDS_OF.values())
AXES = (frozenset(INPUT_KINDS), ALL_TARGET_KINDS, frozenset(REDUCTIONS), frozenset(DTYPES), frozenset(RANKS))
"""Dimensions of the coverage grid; each problem has exactly one value in each."""
EXCLUSIVE = (*AXES, frozenset(MEMORY_ORDERS), frozenset(CLASS_AXES))
"""Sets of capabilities; a problem has at most one of each set."""
IMPOSSIBLE: dict[Loss, frozenset[str]] = {
    "categorical": frozenset({"positive_weight", "output_weights", "rank_1"}),
    "binary": frozenset({"class_weights", "ignore_index", *CLASS_AXES, "log_probabilities"}),
}
"""Capabilities that a problem with this loss cannot have, by the rules of case files."""
IMPOSSIBLE_TOGETHER = (
    *(frozenset({"ignore_index", kind}) for kind in ("one_hot", "distribution")),
    *(frozenset({"labels_column", kind}) for kind in ("one_hot", "distribution")),
    *(frozenset({"output_weights", rank}) for rank in ("unbatched", "rank_1")),
    frozenset({"class_axis", PLAIN_RANK}),
    *(frozenset({axis, "unbatched"}) for axis in CLASS_AXES),
    *(
        frozenset({"unbatched", kind, order})
        for kind in TARGET_KINDS_OF["binary"]
        for order in MEMORY_ORDERS
        if order != "readonly"
    ),
)
"""Capabilities that no problem can have together, by the rules of case files.  In rank 2, axis 1 is the last
axis, which is the default; a single value has no memory order."""
MAX_PAIRS = 12
"""Maximum number of pairs that are printed."""


@dataclass(frozen=True)
class Coverage:
    """Pairs of capabilities, each as `loss/name`: the possible pairs and the covered ones.

    A pair is possible if at least one function supports both capabilities together, and covered if a case with
    a right answer has both and at least one function accepts that case.
    """

    possible: frozenset[tuple[str, str]]
    covered: frozenset[tuple[str, str]]

    @property
    def lacking(self) -> list[tuple[str, str]]:
        """The possible pairs that no case covers, sorted."""
        return sorted(self.possible - self.covered)

    def __str__(self) -> str:
        lacking = [f"{a.replace('/', ' ')} + {b.partition('/')[2]}" for a, b in self.lacking]
        text = f"option pairs: {len(self.covered)} of {len(self.possible)} covered"
        if not lacking:
            return text
        suffix = f", and {len(lacking) - MAX_PAIRS} more" if len(lacking) > MAX_PAIRS else ""
        return f"{text}; lacking: {', '.join(lacking[:MAX_PAIRS])}{suffix}"


def coverage(cases: Iterable[Case], functions: Iterable[Function]) -> Coverage:
    """Return the pairs of capabilities that the functions support and those that the cases cover.

    Generated arrays are not computed.
    """
    functions = tuple(functions)
    possible: set[tuple[str, str]] = set()
    for loss in LOSSES:
        declared_capabilities = [
            (function, declared(function, loss)) for function in functions if loss in function.ranks
        ]
        names = sorted(set().union(*(capabilities for _, capabilities in declared_capabilities)) - {PLAIN_RANK})
        possible |= {
            (f"{loss}/{a}", f"{loss}/{b}")
            for a, b in itertools.combinations(names, 2)
            if not _conflict({a, b}) and any(_takes(*capabilities, {a, b}) for capabilities in declared_capabilities)
        }
    pairs: set[tuple[str, str]] = set()
    for loss, required in _required(cases, functions):
        pairs.update(itertools.combinations(sorted(f"{loss}/{name}" for name in required), 2))
    return Coverage(frozenset(possible), frozenset(possible & pairs))


def _required(cases: Iterable[Case], functions: tuple[Function, ...]) -> set[tuple[Loss, frozenset[str]]]:
    """The capabilities that each problem with a right answer requires, if a function supports the problem."""
    result: set[tuple[Loss, frozenset[str]]] = set()
    for case in cases:
        if isinstance(case.expect, MustRaise | NoRightAnswer):
            continue
        for problem in case.representative.problems():
            required = problem.loss, required_capabilities(problem, problem.target_kind)
            if required not in result and any(function.unsupported(problem) is None for function in functions):
                result.add(required)
    return result


def declared(function: Function, loss: Loss) -> frozenset[str]:
    """All capabilities of a function for a loss; it has all input kinds, as predictions are converted."""
    ranks, lowest = function.ranks[loss], 1 if loss == "categorical" else 0
    capabilities = {*INPUT_KINDS, *function.options, *function.layouts, *function.reductions, *function.dtypes}
    capabilities |= {kind for kind in TARGET_KINDS_OF[loss] if function.target_kind_for(kind) is not None}
    capabilities |= {
        name
        for name, is_supported in zip(RANKS, (lowest in ranks, 1 in ranks, 2 in ranks, max(ranks) > 2), strict=True)
        if is_supported
    }
    if "sample_weights" in function.options:
        capabilities.add("output_weights")
    known = {*INPUT_KINDS, *OPTIONS, *LAYOUTS, *REDUCTIONS, *DTYPES, *RANKS, *TARGET_KINDS_OF[loss], "output_weights"}
    return frozenset(capabilities & known - IMPOSSIBLE[loss])


def _takes(function: Function, declared_capabilities: frozenset[str], required: set[str]) -> bool:
    """Whether a problem with the required capabilities exists that the function supports."""
    if not required <= declared_capabilities:
        return False
    required = required | {"sample_weights"} if "output_weights" in required else required
    axes = [sorted(required & axis or declared_capabilities & axis) for axis in AXES]
    return any(_fits(function, required.union(choice)) for choice in itertools.product(*axes))


def _fits(function: Function, capabilities: set[str]) -> bool:
    """Whether a problem with exactly these capabilities is possible, and the function does not exclude it."""
    if any(group <= capabilities for group in IMPOSSIBLE_TOGETHER):
        return False
    passed = {function.target_kind_for(name) or name if name in ALL_TARGET_KINDS else name for name in capabilities}
    return not any(group <= passed for group in function.excludes)


def _conflict(capabilities: set[str]) -> bool:
    return any(len(capabilities & axis) > 1 for axis in EXCLUSIVE)
