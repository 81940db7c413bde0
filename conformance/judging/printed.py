"""Printed numbers: the interval of values that they may stand for, and whether it contains a correct value."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np

from conformance.judging.effects import answer_by, tolerance_by
from conformance.model.case import Problem, Published, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.reference.oracle import Exact, Oracle

_CONTEXT = Context(prec=60, traps=[])
"""Arithmetic for printed numbers: more digits than float64 needs, and infinity on overflow."""


class DigitInterval(NamedTuple):
    """The interval of values that a printed number may stand for; nan and infinities stand for themselves."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> DigitInterval:
        """The interval from half a unit in the last digit below the number to one unit above it, away from zero."""
        number = Decimal(text)
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            return cls(float(number), float(number))
        unit = Decimal((0, (1,), exponent))
        half = _CONTEXT.divide(unit, Decimal(2))
        below = unit if number.is_signed() or not number else half
        above = half if number.is_signed() and number else unit
        return cls(float(_CONTEXT.subtract(number, below)), float(_CONTEXT.add(number, above)))

    def overlap(self, value: float, tolerance: float) -> tuple[float, float] | None:
        """The part of the interval within `tolerance` of `value`; None if there is none."""
        if not np.isfinite(value) or not np.isfinite(self.low):
            same = np.array_equal([value], [self.low], equal_nan=True)
            return (self.low, self.high) if same else None
        low, high = max(self.low, value - tolerance), min(self.high, value + tolerance)
        return (low, high) if low <= high else None


def matches_digits(
    problem: Problem,
    number: Published,
    printed: Sequence[DigitInterval],
    oracle: Oracle,
    convention: Convention = DEFINITION,
) -> bool:
    """Whether the interval of each printed number contains a number of the problem's dtype within the error bound.

    convention: convention that defines the correct answer.
    """
    answer = answer_by(problem, convention, number.quantity, oracle)
    if not isinstance(answer, Exact) or answer.hi.size != len(printed):
        return False
    allowed = np.broadcast_to(tolerance_by(problem, convention, number.quantity), answer.hi.shape)
    elements = zip(printed, answer.hi.ravel().tolist(), allowed.ravel().tolist(), strict=True)
    return all(_has_number(number.overlap(value, tolerance), problem.dtype) for number, value, tolerance in elements)


def _has_number(interval: tuple[float, float] | None, dtype: str) -> bool:
    """Whether an interval contains a number of a dtype."""
    if interval is None:
        return False
    low, high = interval
    if not np.isfinite(low) or dtype == "float64":
        return True
    kind = numpy_dtype(dtype)
    middle = np.array([low, (low + high) / 2, high]).astype(kind)
    candidates = np.concatenate(
        [middle, np.nextafter(middle, kind.type(np.inf)), np.nextafter(middle, kind.type(-np.inf))]
    )
    wide = candidates.astype(np.float64)
    return bool(((wide >= low) & (wide <= high)).any())
