"""The upstream gradient: the factor that backpropagation passes to a function with a gradient of its own.

The result is multiplied by it before differentiation if the adapter asks for it, and always for losses that compute
the logits themselves: a reduced loss by 2, unreduced losses by one number each.  The factors are powers
of two and their negatives, so that neither the product nor the quotient rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract.framework import Framework, Function
from conformance.adapters.contract.heads import upstream_gradient
from conformance.model.case import Array, Problem, numpy_dtype
from conformance.model.convention import Convention

UNIFORM = np.array(2.0)
"""The upstream gradient of a scalar result."""


@dataclass(frozen=True, eq=False)
class Upstream:
    """An upstream gradient."""

    values: Array
    """Shaped as the result, in its dtype; or a scalar, by which a result of any shape is multiplied."""
    index: str = ""
    """Index that makes it broadcast to the predictions, such as `[..., None]`."""
    is_undone: bool = True
    """Whether the derivative is divided by it; if False, the exact answer is multiplied by it instead."""
    narrow: Array | None = None
    """The same in the dtype of the predictions, if the result has another one; their gradient is divided by this."""

    @property
    def arrays(self) -> Mapping[str, Tensor]:
        """Name in the source -> array."""
        arrays = {"upstream": self.values if self.values.ndim else None, "narrow_upstream": self.narrow}
        return {name: Tensor(values) for name, values in arrays.items() if values is not None}

    def multiplied(self, derivative: str) -> str:
        """The source of a derivative that includes it."""
        name, index = ("upstream", self.index) if self.values.ndim else (f"{self.values:g}", "")
        text = derivative.replace("{result}", f"({name} * {{result}})")
        if not self.is_undone:
            return text
        *lines, last = text.splitlines()
        return "\n".join([*lines, f"{last} / {name if self.narrow is None else 'narrow_upstream'}{index}"])


def upstream_of(
    framework: Framework, function: Function, problem: Problem, convention: Convention, class_axis: int
) -> Upstream | None:
    """The upstream gradient for a call of a function; None for none.

    convention: convention that the function documents.  class_axis: class axis of the predictions as passed.
    """
    unreduced = problem.reduction == "none"
    if function.has_head and unreduced:
        return replace(_upstream(function, problem, problem.sample_shape), is_undone=False, narrow=None)
    if not framework.uses_upstream_gradient:
        return None
    if not unreduced or not function.has_independent_losses or convention.unreduced_class_axis != "dropped":
        return Upstream(UNIFORM)
    if problem.loss == "categorical":
        index = f"[{':, ' * (class_axis % problem.predictions.ndim)}None]"
        return _upstream(function, problem, problem.sample_shape, index)
    if convention.binary_outputs == "mean_of_last_axis":
        return _upstream(function, problem, problem.sample_shape[:-1], "[..., None]")
    return _upstream(function, problem, problem.sample_shape)


def _upstream(function: Function, problem: Problem, shape: tuple[int, ...], index: str = "") -> Upstream:
    """An upstream gradient with one number per loss."""
    values, dtype = upstream_gradient(shape), numpy_dtype(function.result_dtype_for(problem))
    narrow = None if problem.predictions.dtype == dtype else values.astype(problem.predictions.dtype)
    return Upstream(values.astype(dtype), index, narrow=narrow)
