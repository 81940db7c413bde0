"""Float array arithmetic in which NaN equals NaN and an infinity equals itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def equal_with_nan(a: Any, b: Any) -> npt.NDArray[np.bool_]:
    """Whether elements are equal, NaN counting as equal to NaN; broadcasts."""
    same: npt.NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def subtract(a: Any, b: Any) -> Floats:
    """Subtract b from a: equal values, NaN pairs and equal infinities give 0, a NaN against a number gives inf."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference: Floats = np.where(equal_with_nan(a, b), 0.0, a - b)
    return np.where(np.isnan(difference), np.inf, difference)


def distinguishing_digits(values: Iterable[float], minimum: int = 5) -> int:
    """Smallest number of significant digits, from `minimum` to 17, that distinguishes all different finite values."""
    different = {float(value) + 0.0 for value in values if math.isfinite(value)}
    enough = (
        digits for digits in range(minimum, 17) if len({f"{value:.{digits}g}" for value in different}) == len(different)
    )
    return next(enough, 17)


def ulp(values: Any, dtype: np.dtype[Any]) -> Floats:
    """Unit in the last place of each value in a dtype; inf or NaN for values that are not finite in it."""
    with np.errstate(all="ignore"):
        # Of absolute values: numpy returns half the spacing for a negative power of two in float16.
        spacing: Floats = np.spacing(np.abs(values).astype(dtype)).astype(np.float64)
    return spacing
