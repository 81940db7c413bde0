"""Distance between two returned values in ulps and budgets, and the element with the largest drift."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.judging.row import array_of
from conformance.model.case import numpy_dtype
from conformance.model.floats import Floats, distinguishing_digits, equal_with_nan, subtract, ulp

MIN_DIGITS = 4
"""Minimum number of significant digits of a printed number; more are used to distinguish it from the other one."""


@dataclass(frozen=True)
class Drift:
    """One number of an answer before and after a change."""

    before: float
    after: float
    index: tuple[int, ...] = ()
    """Index of the number in the answer; () for a scalar."""

    @property
    def size(self) -> float:
        """Rank of a drift: |after - before| / max(1, |before|, |after|); inf if one of them is not finite.

        A loss below 1 is compared with 1, so that a loss near 0 on both sides has a small drift.
        """
        if not (math.isfinite(self.before) and math.isfinite(self.after)):
            return math.inf
        scale = max(1.0, abs(self.before), abs(self.after))
        return abs(self.after / scale - self.before / scale)

    @property
    def factor(self) -> float:
        """After / before; NaN if that is not a finite number."""
        if not math.isfinite(self.before) or self.before == 0:
            return math.nan
        factor = self.after / self.before
        return factor if math.isfinite(factor) else math.nan

    def __str__(self) -> str:
        before, after = distinct_texts(self.before, self.after)
        factor = "" if math.isnan(self.factor) else f" (x {distinct_texts(1.0, self.factor)[1]})"
        return f"{before} -> {after}{factor}{f' at {list(self.index)}' if self.index else ''}"


def distinct_texts(a: float, b: float) -> tuple[str, str]:
    """Format two numbers with as few significant digits as distinguish them."""
    digits = distinguishing_digits((a, b), MIN_DIGITS)
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def drift(old: str, new: str) -> Drift | None:
    """The largest drift between two answers of a report; None if they are equal or cannot be compared.

    Drifts between finite numbers come before those to or from a number that is not finite.
    """
    a, b = _array(old), _array(new)
    if a is None or b is None or a.shape != b.shape:
        return None
    changed = ~equal_with_nan(a, b)
    if not changed.any():
        return None
    if a.ndim == 0:
        return Drift(float(a), float(b))
    with np.errstate(all="ignore"):
        scale = np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        sizes = np.abs(b / scale - a / scale)
    rank = np.where(changed, np.where(np.isfinite(a) & np.isfinite(b), sizes, -1.0), -2.0)
    position = tuple(int(i) for i in np.unravel_index(int(np.argmax(rank)), rank.shape))
    return Drift(float(a[position]), float(b[position]), position)


def largest(drifts: Iterable[Drift]) -> Drift | None:
    """The largest drift, finite ones first; the first of equal ones, None if there are none."""
    return max(drifts, key=lambda drift: (math.isfinite(drift.size), drift.size), default=None)


def distances(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Compare rows of two frames by position; each needs the columns got, dtype, budget and budgets.

    NaN equals NaN, and an infinity equals itself; their distance to other values is infinite.

    Returns a frame with a row for each pair of rows:
        ulps: |new - old| / ulp of the row's dtype at the old value, of the worst element; NaN if not compared.
        budgets: |new - old| / budget, the larger of both sides', of the worst element; NaN if not compared.
        shapes: `old -> new` if the shapes differ, else "".
    """
    pairs = [(_array(a), _array(b)) for a, b in zip(old["got"], new["got"], strict=True)]
    shapes = [None if a is None or b is None else (a.shape, b.shape) for a, b in pairs]
    texts = [f"{pair[0]} -> {pair[1]}" if pair and pair[0] != pair[1] else "" for pair in shapes]
    result = pd.DataFrame({"ulps": np.nan, "budgets": np.nan, "shapes": pd.Series(texts, dtype="object")})
    compared = [i for i, pair in enumerate(shapes) if pair and pair[0] == pair[1] and math.prod(pair[0])]
    if not compared:
        return result
    arrays = [(cast("Floats", pairs[i][0]).ravel(), cast("Floats", pairs[i][1]).ravel()) for i in compared]
    before, after = (np.concatenate([pair[side] for pair in arrays]) for side in (0, 1))
    lengths = np.array([len(a) for a, _ in arrays])
    dtypes = np.repeat(old["dtype"].to_numpy(dtype=object)[compared], lengths)
    unit = np.empty(len(before))
    for dtype in set(dtypes.tolist()):
        unit[dtypes == dtype] = _finite_ulp(before[dtypes == dtype], dtype)
    budget = np.fmax(*(_budgets(side.iloc[compared], [shapes[i] for i in compared], lengths) for side in (old, new)))
    separation = np.abs(subtract(before, after))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ulps = separation / unit
        shares = np.where(separation == 0, np.where(np.isnan(budget), np.nan, 0.0), separation / budget)
    starts = np.cumsum(lengths) - lengths
    result.loc[compared, "ulps"] = np.maximum.reduceat(ulps, starts)
    result.loc[compared, "budgets"] = np.maximum.reduceat(shares, starts)
    return result


def _budgets(rows: pd.DataFrame, shapes: Sequence[Any], lengths: npt.NDArray[np.int64]) -> Floats:
    """The budget of each element of the answers in some rows: its own, or that of the row.

    shapes: shapes of the answers, as pairs.  lengths: numbers of elements of the answers.
    """
    result = np.repeat(rows["budget"].to_numpy(dtype=np.float64), lengths)
    stops = np.cumsum(lengths)
    for i, text in enumerate(rows["budgets"].tolist()):
        stated = _array(text) if text else None
        if stated is not None and stated.shape == shapes[i][0]:
            result[stops[i] - lengths[i] : stops[i]] = stated.ravel()
    return result


def _finite_ulp(values: Floats, dtype: str) -> Floats:
    """`ulp`; for NaN that of 1, beyond the dtype's range that of its largest number, NaN for an unknown dtype."""
    try:
        kind = numpy_dtype(dtype)
    except TypeError:
        return np.full(values.shape, np.nan)
    units = ulp(values, kind)
    if np.all(np.isfinite(units)):
        return units
    # At half of the largest number, as the spacing at the largest is infinite in some versions of numpy.
    largest_ulp = ulp(kind.type(ml_dtypes.finfo(kind).max) / kind.type(2), kind)
    return np.where(np.isnan(values), ulp(1.0, kind), np.where(np.isfinite(units), units, largest_ulp))


@functools.lru_cache(maxsize=512)
def _array(text: str) -> Floats | None:
    """The number or array in a cell; None if it holds neither."""
    try:
        return array_of(text)
    except (ValueError, TypeError, RecursionError):
        return None
