"""How far two returned values lie apart: in units in the last place, and in budgets."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.judging.row import array_of
from conformance.model.case import numpy_dtype

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Distances:
    """Of pairs of rows.  ulps, budgets: those of the worst element, each for itself; nan where not compared.

    shapes: text of both shapes where they differ, else empty.
    """

    ulps: Floats
    budgets: Floats
    shapes: list[str]


def distances(old: pd.DataFrame, new: pd.DataFrame) -> Distances:
    """Rows of `old` held against the rows of `new` at the same positions, elementwise.

    ulps: |new - old| / spacing of the row's dtype at the old value.  budgets: |new - old| / budget, the
    larger of both sides', nan where neither has one.  A nan equals a nan and an infinity itself; either
    is infinitely far from anything else.  A text that holds no numbers is not compared.
    """
    count = len(old)
    found = Distances(np.full(count, np.nan), np.full(count, np.nan), [""] * count)
    values = [(_numbers(a), _numbers(b)) for a, b in zip(old["got"].tolist(), new["got"].tolist(), strict=True)]
    compared = []
    for row, (a, b) in enumerate(values):
        if a is None or b is None:
            continue
        if a.shape != b.shape:
            found.shapes[row] = f"{a.shape} -> {b.shape}"
        elif a.size:
            compared.append(row)
    dtypes = old["dtype"].tolist()
    budgets = [_budgets(side) for side in (old, new)]
    for dtype in sorted({dtypes[row] for row in compared}):
        rows = [row for row in compared if dtypes[row] == dtype]
        _measure(found, rows, values, budgets, dtype)
    return found


def _measure(
    found: Distances,
    rows: list[int],
    values: Sequence[tuple[Any, Any]],
    budgets: Sequence[Sequence[tuple[str, float]]],
    dtype: str,
) -> None:
    before = np.concatenate([values[row][0].reshape(-1) for row in rows])
    after = np.concatenate([values[row][1].reshape(-1) for row in rows])
    size = np.array([values[row][0].size for row in rows])
    first = np.cumsum(size) - size
    tolerance = np.fmax(*(np.concatenate([_spread(side[row], values[row][0]) for row in rows]) for side in budgets))
    apart = _apart(before, after)
    with np.errstate(divide="ignore", invalid="ignore"):
        ulps = apart / _spacing(before, dtype)
        share = np.where(apart == 0, np.where(np.isnan(tolerance), np.nan, 0.0), apart / tolerance)
    found.ulps[rows] = np.maximum.reduceat(ulps, first)
    found.budgets[rows] = np.maximum.reduceat(share, first)


def _apart(before: Floats, after: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(after - before)
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _spacing(values: Floats, dtype: str) -> Floats:
    """Of `dtype` at these values; at its largest number for what lies beyond."""
    try:
        kind = numpy_dtype(dtype)
    except TypeError:
        return np.full(values.shape, np.nan)
    near = np.nan_to_num(np.abs(values), nan=1.0, posinf=np.inf)
    with np.errstate(all="ignore"):
        unit = np.spacing(near.astype(kind)).astype(np.float64)
        top = np.spacing(_largest(kind)).astype(np.float64)
    spacing: Floats = np.where(np.isfinite(unit), unit, top)
    return spacing


def _largest(kind: np.dtype[Any]) -> Any:
    """The largest number below which spacing is finite."""
    import ml_dtypes

    return kind.type(ml_dtypes.finfo(kind).max) / kind.type(2)


def _budgets(rows: pd.DataFrame) -> list[tuple[str, float]]:
    return list(zip(rows["budgets"].tolist(), rows["budget"].tolist(), strict=True))


def _spread(budget: tuple[str, float], value: Floats) -> Floats:
    """A budget for each element of a value: its own, or that of the row."""
    text, whole = budget
    each = _numbers(text) if text else None
    return each.reshape(-1) if each is not None and each.shape == value.shape else np.full(value.size, whole)


@functools.lru_cache(maxsize=512)
def _numbers(text: str) -> Floats | None:
    """A scalar or a JSON array, as a report has them; None for anything else."""
    try:
        return array_of(text)
    except (ValueError, TypeError, RecursionError):
        return None


__all__ = ["Distances", "distances"]
