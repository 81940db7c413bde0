"""The plan: which functions are asked which cases, at which dtype, reduction and quantity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance.adapters import registry
from conformance.adapters.contract import Framework, Function, Rule, problem_features
from conformance.adapters.registry import Installed
from conformance.judging.row import Record
from conformance.model.case import Case, MustRaise, NoRightAnswer, Problem, Quantity, Reduction
from conformance.model.convention import Convention
from conformance.model.row_key import RowKey
from conformance.reference.conversion import conversion_obstacle

DIFFERENTIATED = 20_000
"""Predictions of the largest case whose gradient is asked for: larger ones are about long sums."""


@dataclass(frozen=True, eq=False)
class Item:
    """One function on one case at one dtype and reduction, its loss or its gradient: one test, one row."""

    installed: Installed
    function: Function
    case: Case
    dtype: str
    reduction: Reduction
    quantity: Quantity = "loss"

    @property
    def framework(self) -> Framework:
        return self.installed.framework

    @property
    def id(self) -> str:
        """See `RowKey.id`, as pytest shows it."""
        return RowKey(self.case.id, "", self.function.name, self.dtype, self.reduction, self.quantity).id

    @property
    def key(self) -> RowKey:
        """The key of its row."""
        there, case = self.installed, self.case
        return RowKey(
            case.id,
            case.digest,
            self.function.name,
            self.dtype,
            self.reduction,
            self.quantity,
            there.environment,
            there.version,
            there.backend,
        )


def id_of(row: Record) -> str:
    """The id of the item that a row is of."""
    return RowKey.of(row).id


def plan(
    cases: Iterable[Case], here: Sequence[Installed], wanted: Callable[[Function, str], bool] | None = None
) -> list[Item]:
    """Every item that the installed frameworks' functions declare they can take, case by case.

    wanted: says of a function and an item's id whether it is asked for; what is not is not looked at.
    """
    items = []
    functions = [(installed, function) for installed in here for function in installed.functions]
    for case in cases:
        for problem in case.sketch.problems():
            for installed, function in functions:
                asked = [Item(installed, function, case, problem.dtype, problem.reduction)]
                if not_differentiated(installed, function, case, problem) is None:
                    asked.append(dataclasses.replace(asked[0], quantity="gradient"))
                asked = [item for item in asked if wanted is None or wanted(function, item.id)]
                if asked and unsupported(function, case, problem) is None:
                    items += asked
    return items


def not_differentiated(installed: Installed, function: Function, case: Case, problem: Problem) -> str | None:
    """Why the gradient of what a function returns is not asked for; None where it is."""
    if not function.differentiates or not installed.differentiates:
        return "it does not differentiate"
    if case.no_gradient:
        return case.no_gradient
    if isinstance(case.expect, MustRaise | NoRightAnswer):
        return "there is no loss to differentiate"
    if function.native(problem.input_kind) != problem.input_kind:
        return "it takes other predictions than the case has"
    if case.predicted > DIFFERENTIATED:
        return f"it has more than {DIFFERENTIATED} predictions"
    return None


def unsupported(function: Function, case: Case, problem: Problem) -> str | None:
    """Why a function is not asked a problem; None if it is."""
    why = function.unsupported(problem)
    input_kind = function.native(problem.input_kind)
    if why is not None or input_kind == problem.input_kind:
        return why
    if isinstance(case.expect, MustRaise) and case.expect.kind == "invalid_probability":
        return "a conversion would hide what is wrong with the predictions"
    return conversion_obstacle(problem, input_kind)


def rule_of(item: Item, problem: Problem) -> Rule:
    """What the item's function documents for the kind of target it is handed."""
    target = item.function.target_as(problem.target_kind) or problem.target_kind
    features = problem_features(problem, target)
    return registry.rule_for(item.function, item.installed.version, target, item.installed.backend, features)


def alternatives(item: Item, problem: Problem) -> Iterator[tuple[Function, Convention]]:
    """The functions of the item's framework that can be asked its problem, each with what it documents for it."""
    for function in item.installed.functions:
        if function.unsupported(problem) is None:
            yield function, rule_of(dataclasses.replace(item, function=function), problem).convention
