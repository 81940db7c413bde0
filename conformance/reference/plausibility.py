"""Whether an answer that was read from a file is plausible for a problem.

Checked are the shape, the consistency of the enclosure, and that it agrees with the loss in float64 arithmetic,
also in which elements are infinite.  A wrong answer within the tolerance is not detected.
"""

from __future__ import annotations

import numpy as np

from conformance.model.case import InputKind, Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats
from conformance.reference.error_bound import estimate
from conformance.reference.flat_problem import flatten, rejected_anomalies, shape_of_losses

OVERFLOW_MAGNITUDE = 1e300
"""Magnitude beyond which float64 arithmetic may overflow although the loss is finite."""


def is_enclosure(hi: Floats, lo: Floats, rad: Floats) -> bool:
    """Whether arrays are an enclosure: `lo` is below the last place of `hi`, and `rad` finite and not negative."""
    finite = np.isfinite(hi)
    with np.errstate(all="ignore"):
        small = np.abs(lo) <= np.abs(hi) * 2.0**-52 + np.finfo(np.float64).smallest_subnormal
        is_valid = np.where(finite, small & (rad >= 0) & np.isfinite(rad), ~(np.abs(lo) > 0) & ~(np.abs(rad) > 0))
    return bool(is_valid.all())


def may_be_loss(problem: Problem, convention: Convention, hi: Floats, taken_as: InputKind | None = None) -> bool:
    """Whether an array may be the exact loss of a problem.

    taken_as: input kind of the conversion, as in `oracle.evaluate`.
    """
    if rejected_anomalies(problem, convention):
        return False
    if problem.reduction == "none" or hi.ndim:
        shape = shape_of_losses(problem, flatten(problem, convention, taken_as), convention)
        reduced = problem.reduction != "none" and not (convention.empty_batch == "unreduced" and shape == (0,))
        if hi.shape != (() if reduced else shape):
            return False
    if taken_as is not None or not hi.size:
        return True
    value, distance = estimate(problem, convention)
    with np.errstate(all="ignore"):
        is_near = np.abs(hi - value) <= distance
        overflows = np.abs(value) > OVERFLOW_MAGNITUDE
        is_valid = np.where(np.isnan(value), True, np.where(overflows, np.abs(hi) > OVERFLOW_MAGNITUDE, is_near))
    return bool(is_valid.all())
