"""How far an answer moved: `before -> after (x factor)`, of the element that moved the farthest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.judging.row import array_of

DIGITS = 4
"""Significant digits of a number; more where fewer do not tell it from the other one."""
MOST_DIGITS = 17


@dataclass(frozen=True)
class Move:
    """One number of an answer before and after.

    where: its index, () for a scalar.
    """

    before: float
    after: float
    where: tuple[int, ...] = ()

    @property
    def distance(self) -> float:
        """What moves are ranked by: |after - before| / max(1, |before|, |after|); inf where one is not finite.

        A loss below 1 is measured against 1, so that one that is nearly nothing on both sides does not count as far.
        """
        if not (math.isfinite(self.before) and math.isfinite(self.after)):
            return math.inf
        scale = max(1.0, abs(self.before), abs(self.after))
        return abs(self.after / scale - self.before / scale)

    @property
    def factor(self) -> float:
        """What the number was multiplied by; nan where that is no finite number."""
        if not math.isfinite(self.before) or self.before == 0:
            return math.nan
        factor = self.after / self.before
        return factor if math.isfinite(factor) else math.nan

    def __str__(self) -> str:
        before, after = apart(self.before, self.after)
        factor = "" if math.isnan(self.factor) else f" (x {apart(1.0, self.factor)[1]})"
        return f"{before} -> {after}{factor}{f' at {list(self.where)}' if self.where else ''}"


def apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with as few significant digits as tell them apart, and at least `DIGITS`."""
    for digits in range(DIGITS, MOST_DIGITS + 1):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def moved(old: str, new: str) -> Move | None:
    """The farthest move between two answers of a report; None where nothing moved or they cannot be compared.

    Moves between finite numbers come first, and those to or from what is not finite where there are no others.
    """
    a, b = _numbers(old), _numbers(new)
    if a is None or b is None or a.shape != b.shape:
        return None
    different = np.argwhere((a != b) & ~(np.isnan(a) & np.isnan(b))).tolist()
    moves = [Move(float(a[tuple(at)]), float(b[tuple(at)]), tuple(at)) for at in different]
    return farthest(moves)


def farthest(moves: list[Move]) -> Move | None:
    """The farthest of some moves, finite ones first; the first of several as far."""
    return max(moves, key=lambda move: (math.isfinite(move.distance), move.distance), default=None)


def _numbers(text: str) -> Any:
    try:
        return array_of(text)
    except (ValueError, TypeError, RecursionError):
        return None


__all__ = ["Move", "apart", "farthest", "moved"]
