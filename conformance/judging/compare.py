"""Compare an array with the exact answer within a tolerance, and classify the symptoms of a wrong one."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conformance.judging.reasons import (
    NoAnswerInTime,
    NoNumber,
    NotFinite,
    ProcessDied,
    RaisedException,
    WrongShape,
    WrongValue,
)
from conformance.model.case import numpy_dtype
from conformance.model.floats import Floats, equal_with_nan, ulp
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Exact

IMPRECISE_ERROR = 1e-4
"""Relative error up to which a wrong number is imprecise, as if computed in a narrower dtype."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of a returned value with one exact answer.  The numbers are those of the worst element."""

    reason: WrongValue | NotFinite | WrongShape | None
    """The fault; None if the value is within its tolerance."""
    where: tuple[int, ...] = ()
    """Index of the worst element; () for a scalar."""
    error: float = 0.0
    """Absolute error."""
    tolerance: float = 0.0
    """Largest absolute error of a correct answer."""
    error_ratio: float = 0.0
    """error / tolerance; inf if nothing finite could be compared."""
    ulps: float = 0.0
    """Error in units in the last place of the exact answer, in the dtype of the problem."""
    failing: int = 0
    """Number of elements beyond their tolerance."""

    @property
    def within(self) -> bool:
        """Whether the value is within its tolerance."""
        return self.reason is None

    @property
    def misshapen(self) -> bool:
        """Whether the shapes differ, so that no element could be compared."""
        return isinstance(self.reason, WrongShape)


def compare(got: Floats, want: Exact, tolerance: Floats, dtype: str, returned: str = "") -> Comparison:
    """Compare a returned array with an exact answer, elementwise; see `Comparison`.

    dtype: dtype of the problem, for ulps.  returned: dtype of the result if it differs from that: answers beyond its
    largest number are correctly returned as infinity.  -0.0 equals 0.0.
    """
    if got.shape != want.hi.shape:
        return Comparison(WrongShape(got=got.shape, want=want.hi.shape), error_ratio=np.inf)
    if got.size == 0:
        return Comparison(None)
    if (
        got.ndim == 0
        and tolerance.ndim == 0
        and want.unconstrained is None
        and (comparison := _compare_numbers(got, want, tolerance, dtype))
    ):
        return comparison
    hi = want.hi
    error, ratio, limit = _ratios(got, want, tolerance, returned or dtype)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), error.shape)) if error.ndim else ()
    worst = float(ratio[where])
    is_finite = bool(np.isfinite(got[where]) and np.isfinite(hi[where]))
    reason: WrongValue | NotFinite | None = None
    if worst > 1 and is_finite:
        reason = WrongValue(ratio=worst, where=where)
    elif worst > 1:
        reason = NotFinite(got=float(got[where]), want=float(hi[where]), where=where)
    reference = float(hi[where]) if is_finite else 1.0
    ulps = float(error[where]) / _ulp_of(reference, dtype)
    failing = int(np.count_nonzero(ratio > 1)) if reason is not None else 0
    return Comparison(reason, where, float(error[where]), float(limit[where]), worst, ulps, failing)


def may_be_right(got: Floats, want: Exact) -> bool:
    """Whether a returned array is right within some tolerance: it has the shape, and nan where there is to be nan."""
    if got.shape != want.hi.shape:
        return False
    wrong = np.isnan(got) != np.isnan(want.hi)
    return not (wrong if want.unconstrained is None else wrong & ~want.unconstrained).any()


def _ratios(got: Floats, want: Exact, tolerance: Floats, returned: str) -> tuple[Floats, Floats, Floats]:
    """(error, error / tolerance, tolerance) of each element; arrays of one shape."""
    hi, lo = want.hi, want.lo
    largest = dtype_info(returned).largest
    limit = tolerance if tolerance.shape == hi.shape else tolerance + np.zeros(hi.shape)
    with np.errstate(all="ignore"):
        error = np.abs((got - hi) - lo)
        special = ~(np.isfinite(got) & np.isfinite(hi))
        if special.any():
            overflow = np.isinf(got) & (np.abs(hi) + limit > largest) & (np.sign(got) == np.sign(hi))
            same = equal_with_nan(got, hi) | overflow
            error = np.where(special, np.where(same, 0.0, np.inf), error)
        if want.unconstrained is not None:
            error = np.where(want.unconstrained, 0.0, error)
        ratio = np.where(error == 0, 0.0, error / limit)
    return error, ratio, limit


def _compare_numbers(got: Floats, want: Exact, tolerance: Floats, dtype: str) -> Comparison | None:
    """`compare` for one finite number, as a fast path; None if it does not apply."""
    number, hi, limit = float(got), float(want.hi), float(tolerance)
    error = abs((number - hi) - float(want.lo))
    if not (math.isfinite(number) and math.isfinite(hi) and math.isfinite(error)):
        return None
    ratio = 0.0 if error == 0 else error / limit if limit else math.inf
    reason = WrongValue(ratio=ratio, where=()) if ratio > 1 else None
    return Comparison(reason, (), error, limit, ratio, error / _ulp_of(hi, dtype), int(ratio > 1))


@functools.lru_cache(maxsize=4096)
def _ulp_of(number: float, dtype: str) -> float:
    """Unit in the last place of a number; an exact answer is compared with the results of many functions."""
    return float(ulp(number, numpy_dtype(dtype)))


def symptoms_without_value(outcome: Outcome) -> frozenset[str]:
    """The symptoms of an outcome that is not a value."""
    match outcome:
        case Crashed(how):
            return ProcessDied(how).symptoms
        case TimedOut(seconds):
            return NoAnswerInTime(seconds).symptoms
        case Raised():
            return RaisedException(outcome).symptoms
        case NonNumeric(what):
            return NoNumber(what, array=False).symptoms
        case _:
            return frozenset()


def symptoms_of_value(outcome: Returned, right_answers: Sequence[tuple[Exact, Floats]], dtype: str) -> frozenset[str]:
    """The symptoms of a wrong returned value.

    right_answers: correct answers, each with its tolerance: the documented answer before that of the definition.  An
    element is wrong if it matches none of them.  Empty if an exception is expected.
    """
    if not right_answers:
        return frozenset({"accepted_invalid"})
    got = outcome.value
    expected = [(exact, tolerance) for exact, tolerance in right_answers if exact.hi.shape == got.shape]
    if not expected:
        return frozenset({"wrong_shape"})
    masks = [_ratios(got, exact, tolerance, outcome.dtype or dtype)[1] > 1 for exact, tolerance in expected]
    wrong = np.logical_and.reduce(masks)
    pairs = zip(
        got[wrong if wrong.any() else masks[0]], expected[0][0].hi[wrong if wrong.any() else masks[0]], strict=True
    )
    return frozenset(symptom_of_number(float(number), float(right)) for number, right in pairs)


def symptom_of_number(got: float, want: float) -> str:
    """The symptom of a wrong number.  want: the correct one."""
    if np.isnan(got):
        return "nan"
    if np.isnan(want):
        return "not_nan"
    if np.isinf(got):
        return "inf" if got > 0 else "minus_inf"
    if got == 0:
        return "zero"
    if np.isfinite(want) and abs(got - want) <= IMPRECISE_ERROR * abs(want):
        return "imprecise"
    return "too_small" if got < want else "too_large"
