"""Whether intermediate results of a problem stay within the range of its dtype.

Error bounds hold only without overflow.  If sums may overflow, a correct function can return inf although the answer
is an ordinary number; such problems are generated only on request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from conformance.model.case import Array, Case, Problem
from conformance.reference.domain import dtype_info

RANGE_MARGIN = 2.0
"""Factor by which sums have to stay below the largest number of the dtype."""


def beyond_range(problem: Problem) -> bool:
    """Whether a sum of loss terms or weights, in any order, may exceed the range of the dtype.

    Every class counts with its full weight, as in intermediate results of a smoothed loss.
    """
    with np.errstate(all="ignore"):
        limit = dtype_info(problem.dtype).largest / RANGE_MARGIN
        return not all(total <= limit for total in _totals(problem))


def may_be_beyond_range(case: Case) -> bool:
    """Whether the same holds for a case at any of its dtypes; the largest values decide most cases quickly."""
    with np.errstate(all="ignore"):
        options = case.options
        size = 2.0 * _largest(case.predictions) + 1100.0
        for weights in (options.class_weights, options.sample_weights, options.positive_weight):
            size *= 1.0 if weights is None else max(1.0, _largest(weights))
        size *= max(1, case.predictions.size)
    narrow = [dtype for dtype in case.dtypes if not size <= dtype_info(dtype).largest / RANGE_MARGIN]
    return any(beyond_range(case.problem(dtype, "none")) for dtype in narrow)


def _totals(problem: Problem) -> Iterator[float]:
    options = problem.options
    terms = np.atleast_1d(_sizes(problem))
    if options.class_weights is not None:
        terms = terms * np.maximum(1.0, _finite(options.class_weights))
        yield float(_finite(options.class_weights).sum()) * max(1, math.prod(problem.sample_shape))
    if options.positive_weight is not None:
        terms = terms * np.maximum(1.0, _finite(options.positive_weight))
    if options.sample_weights is not None:
        weights = _finite(options.sample_weights)
        terms = terms * np.maximum(1.0, weights.reshape(weights.shape + (1,) * (terms.ndim - weights.ndim)))
        yield float(weights.sum()) * terms[..., :1].size / max(1, weights.size)
    yield float(terms.sum())


def _sizes(problem: Problem) -> Array:
    """Approximate size of -log p for each class or output, shaped as the predictions."""
    size = _finite(problem.predictions)
    if problem.input_kind == "probabilities":
        return -np.log(np.maximum(size, dtype_info(problem.dtype).smallest_normal)) + 1
    if problem.input_kind == "log_probabilities" or problem.loss == "binary" or not size.size:
        return size + 1
    signed = problem.predictions.astype(np.float64)
    signed = np.where(np.isfinite(signed), signed, 0.0)
    return np.asarray(signed.max(axis=-1, keepdims=True) - signed + math.log(size.shape[-1]))


def _finite(values: Array) -> Array:
    """Absolute values in float64, without nan and infinities."""
    wide = np.abs(values.astype(np.float64))
    return np.where(np.isfinite(wide), wide, 0.0)


def _largest(values: Array) -> float:
    return float(_finite(values).max(initial=0.0))
