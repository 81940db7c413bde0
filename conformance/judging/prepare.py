"""Prepare a call: the problem of an item, converted and lowered for its function."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass

from conformance.adapters.contract.heads import with_bias
from conformance.adapters.contract.lowering import Call, apply_mode, call_name, lower
from conformance.adapters.contract.upstream import Upstream, upstream_of
from conformance.judging.plan import Item, documented_convention
from conformance.judging.traits import is_ordinary, traits
from conformance.model.case import Case, Problem, Reduction
from conformance.reference.conversion import convert, convert_weights

MAX_KEPT = 8
"""Maximum number of (case, dtype) pairs in the cache: the frameworks take turns on them."""


class Problems:
    """A cache of problems, as all functions of a framework are called on one problem before the next.

    capacity: maximum number of (case, dtype) pairs in the cache.
    """

    def __init__(self, capacity: int = MAX_KEPT) -> None:
        self._most = capacity
        self._known: OrderedDict[tuple[Case, str], dict[Reduction, Problem]] = OrderedDict()

    def of(self, case: Case, dtype: str, reduction: Reduction) -> Problem:
        """The problem of a case with one dtype and reduction."""
        known = self._known.get((case, dtype))
        if known is None:
            known = self._known[case, dtype] = {"none": case.problem(dtype, "none")}
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end((case, dtype))
        if reduction not in known:
            known[reduction] = known["none"].with_reduction(reduction)
        return known[reduction]


@dataclass(frozen=True, eq=False)
class PreparedCall:
    """An item with everything needed to call it: its problem, the converted problem, and the name of the conversion."""

    item: Item
    problem: Problem
    converted: Problem
    conversion: str
    of_case: bool = True
    """Whether the problem is that of the case, without modification."""
    weights: str = ""
    """The name of the conversion of its weights; "" if there is none."""

    @property
    def weighted(self) -> Problem:
        """The problem with converted weights and the original predictions."""
        return convert_weights(self.problem, self.item.function.options)[0] if self.weights else self.problem

    @functools.cached_property
    def call(self) -> Call:
        """The call to make; raises LoweringError."""
        call = lower(self.item.function, self.converted)
        item, installed = self.item, self.item.installed
        derivative = item.function.derivative_for(item.quantity)
        upstream = self._upstream(call) if derivative else None
        parts = (installed.mode, installed.backend, upstream, installed.device)
        return apply_mode(item.framework, call, derivative, *parts)

    def _upstream(self, call: Call) -> Upstream | None:
        """The upstream gradient of a derivative."""
        item = self.item
        convention = documented_convention(item, self.problem).convention
        class_axis = call.arrays["predictions"].class_axis if "predictions" in call.arrays else -1
        return upstream_of(item.framework, item.function, self.converted, convention, class_axis)

    @property
    def description(self) -> str:
        """Description of the call in messages."""
        return call_name(self.item.function, self.converted)

    @functools.cached_property
    def traits(self) -> frozenset[str]:
        """Traits of the problem, as words of a ledger's `when`."""
        return traits(self.problem, self.converted, self._target)

    @functools.cached_property
    def ordinary(self) -> bool:
        """Whether the problem is an everyday one; see `traits.is_ordinary`."""
        return is_ordinary(self.problem, self.converted, self._target)

    @property
    def _target(self) -> str:
        """The kind of target that is passed."""
        return self.item.function.target_kind_for(self.problem.target_kind) or self.problem.target_kind


def prepare(item: Item, problems: Problems | None = None) -> PreparedCall:
    """Prepare the call of an item.  problems: a cache of problems, if there is one."""
    return prepare_problem(item, (problems or Problems()).of(item.case, item.dtype, item.reduction))


def prepare_problem(item: Item, problem: Problem, of_case: bool = True) -> PreparedCall:
    """Prepare the call of an item on a problem.  of_case: whether it is that of the case, unmodified."""
    if item.function.has_head:
        problem = with_bias(problem, "bias" in item.function.words)
    weighted, weights = convert_weights(problem, item.function.options)
    converted, conversion = convert(weighted, item.function.input_kind_for(problem.input_kind))
    return PreparedCall(item, problem, converted, conversion, of_case, weights)
