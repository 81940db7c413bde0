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
MAX_ADDED_TERM = 1100.0
"""Upper bound of what `_magnitudes` adds to twice the largest prediction.

Probabilities contribute at most 1 - log(2**-1022) < 710, the normalisation of logits log(C) < 45 for C < 2**64 classes.
The rest is slack: a larger bound only selects more dtypes for `beyond_range`, which decides.
"""


def beyond_range(problem: Problem) -> bool:
    """Whether a sum of loss terms or of weights may overflow in the dtype, in some order of summation.

    Each class contributes its loss with its full weight, as it may in an intermediate result with label smoothing.
    """
    with np.errstate(all="ignore"):
        limit = dtype_info(problem.dtype).largest / RANGE_MARGIN
        return not all(total <= limit for total in _totals(problem))


def may_be_beyond_range(case: Case) -> bool:
    """Whether `beyond_range` is true of a case in any of its dtypes.

    A bound by the largest values excludes most dtypes without their sums.
    """
    with np.errstate(all="ignore"):
        options = case.options
        bound = 2.0 * _largest(case.predictions) + MAX_ADDED_TERM
        for weights in (options.class_weights, options.sample_weights, options.positive_weight):
            bound *= 1.0 if weights is None else max(1.0, _largest(weights))
        bound *= max(1, case.predictions.size)
    suspect_dtypes = [dtype for dtype in case.dtypes if not bound <= dtype_info(dtype).largest / RANGE_MARGIN]
    return any(beyond_range(case.problem(dtype, "none")) for dtype in suspect_dtypes)


def _totals(problem: Problem) -> Iterator[float]:
    """Upper bounds of the absolute sums of weights and of weighted losses."""
    options = problem.options
    terms = np.atleast_1d(_magnitudes(problem))
    if options.class_weights is not None:
        terms = terms * np.maximum(1.0, _finite_magnitudes(options.class_weights))
        yield float(_finite_magnitudes(options.class_weights).sum()) * max(1, math.prod(problem.sample_shape))
    if options.positive_weight is not None:
        terms = terms * np.maximum(1.0, _finite_magnitudes(options.positive_weight))
    if options.sample_weights is not None:
        weights = _finite_magnitudes(options.sample_weights)
        terms = terms * np.maximum(1.0, weights.reshape(weights.shape + (1,) * (terms.ndim - weights.ndim)))
        yield float(weights.sum()) * terms[..., :1].size / max(1, weights.size)
    yield float(terms.sum())


def _magnitudes(problem: Problem) -> Array:
    """Approximate magnitude of -log p for each class or output, shaped as the predictions."""
    magnitudes = _finite_magnitudes(problem.predictions)
    if problem.input_kind == "probabilities":
        return -np.log(np.maximum(magnitudes, dtype_info(problem.dtype).smallest_normal)) + 1
    if problem.input_kind == "log_probabilities" or problem.loss == "binary" or not magnitudes.size:
        return magnitudes + 1
    signed = problem.predictions.astype(np.float64)
    signed = np.where(np.isfinite(signed), signed, 0.0)
    return np.asarray(signed.max(axis=-1, keepdims=True) - signed + math.log(magnitudes.shape[-1]))


def _finite_magnitudes(values: Array) -> Array:
    """Absolute values in float64; nan and infinities become 0."""
    wide = np.abs(values.astype(np.float64))
    return np.where(np.isfinite(wide), wide, 0.0)


def _largest(values: Array) -> float:
    return float(_finite_magnitudes(values).max(initial=0.0))
