"""A printed number: the values that it may stand for."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np

_CONTEXT = Context(prec=60, traps=[])
"""Arithmetic of printed numbers: enough digits for float64, and an infinity for what overflows."""


class Printed(NamedTuple):
    """The interval of the values that a printed number may stand for; a nan or an infinity stands for itself."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Printed:
        """The interval from half a unit of the last digit below the number to a unit above it, away from zero."""
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
