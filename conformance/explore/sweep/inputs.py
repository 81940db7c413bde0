"""Which inputs a sweep asks: bit patterns of magnitudes, in ascending order, and the bands they fall into.

A magnitude is a number without its sign, and its bit pattern an unsigned integer of the dtype's width; the order
of patterns is the order of magnitudes, so that a band of them is one slice.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.model.case import Array, Given, numpy_dtype
from conformance.reference.domain import numpy_info

Patterns = npt.NDArray[np.unsignedinteger[Any]]

NARROW = frozenset({"float16", "bfloat16"})
"""Dtypes whose every value is asked at once."""
RANDOM = {"float32": 1 << 16, "float64": 1 << 10}
"""Magnitudes drawn over bit patterns, and as many again over the range where a loss is neither 0 nor linear."""
LADDER = {"float32": 1, "float64": 8}
"""Every so many-th power of two is asked, with what lies beside it."""
AROUND = {"float32": 64, "float64": 16}
"""Neighbours of a breakpoint that are asked on both sides of it."""
SEED = 20240
SPAN = 24.0
"""Logits up to here are drawn evenly, too."""
MANTISSAS = (0.0, 0.25, 0.5, 0.75)
OUTSIDE = 64
"""Values of each kind outside [0, 1] that are asked; they are recorded by kind."""
UNIT = 1 << 21
"""Magnitudes of a unit of an exhaustive sweep: what is lost, at most, for each process that is killed."""


@dataclass(frozen=True)
class Band:
    """Magnitudes from `low` on, up to where the next band begins; patterns."""

    name: str
    low: int


def pattern(value: float, dtype: str) -> int:
    """The bit pattern of a number that is not negative, rounded to the dtype."""
    rounded = np.asarray(value, dtype=np.float64).astype(numpy_dtype(dtype))
    return int(rounded.view(_unsigned(dtype)))


def values(patterns: Patterns, dtype: str, sign: int = 1) -> Array:
    """The numbers that have these bit patterns.  sign: -1 for their negatives."""
    bits = patterns.astype(_unsigned(dtype), copy=False)
    if sign < 0:
        bits = bits | bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return bits.view(numpy_dtype(dtype))


def _unsigned(dtype: str) -> np.dtype[Any]:
    return np.dtype(f"u{numpy_dtype(dtype).itemsize}")


@cache
def smallest(dtype: str) -> float:
    """The smallest subnormal."""
    return float(values(np.array([1]), dtype)[0])


@cache
def end(given: Given, dtype: str, shift: float = 0.0) -> int:
    """The pattern behind the last magnitude: behind 1 for probabilities, else the first that is not finite.

    shift: what is added to a logit.  Shifted ones end at a sixteenth of the largest number: their sum is finite
    then, and so is their budget in units of u, which must not vanish where the sum is rounded.
    """
    if given == "probabilities":
        return pattern(1.0, dtype) + 1
    largest = numpy_info(dtype)[3]
    return pattern(largest / 16, dtype) if shift else pattern(largest, dtype) + 1


@cache
def bands(given: Given, dtype: str) -> tuple[Band, ...]:
    """The bands of magnitudes, ascending, the first from pattern 0 on.

    Of logits z and logarithms: `tiny` below the unit roundoff u, `tail` where exp(-|z|) < u, `saturated` where it is
    less than any number.  Of probabilities p: `tiny` below u, `lower` below 1/2, `upper` below 1.
    """
    unit, normal = numpy_info(dtype)[:2]
    starts = [("zero", 0.0), ("subnormal", smallest(dtype)), ("tiny", normal)]
    if given == "probabilities":
        starts += [("lower", unit), ("upper", 0.5), ("one", 1.0)]
    else:
        starts += [("central", unit), ("tail", -math.log(unit)), ("saturated", -math.log(smallest(dtype)))]
    return tuple(Band(name, pattern(low, dtype)) for name, low in starts)


def cut(patterns: Patterns, given: Given, dtype: str) -> list[tuple[str, slice]]:
    """Where the bands lie among ascending patterns; those that have none are left out."""
    found = bands(given, dtype)
    if not len(patterns):
        return []
    first, last = (bisect.bisect([band.low for band in found], int(patterns[at])) - 1 for at in (0, -1))
    if first == last:
        return [(found[first].name, slice(0, len(patterns)))]
    edges = np.searchsorted(patterns, np.array([band.low for band in found], dtype=patterns.dtype)).tolist()
    pieces = zip(found, edges, [*edges[1:], len(patterns)], strict=True)
    return [(band.name, slice(start, stop)) for band, start, stop in pieces if start < stop]


@cache
def sample(given: Given, dtype: str, shift: float = 0.0) -> Patterns:
    """What is asked unless everything is: all of a narrow dtype, a grid and a seeded random sample of a wide one."""
    last = end(given, dtype, shift)
    if dtype in NARROW:
        return np.arange(last).astype(_unsigned(dtype))
    every = numpy_info(dtype)
    powers = np.arange(math.frexp(smallest(dtype))[1] - 1, math.frexp(every[3])[1], LADDER[dtype])
    ladder = (np.ldexp(1.0, powers)[:, np.newaxis] * (1 + np.array(MANTISSAS))).reshape(-1)
    grid = [pattern(value, dtype) for value in ladder.tolist() if value <= every[3]]
    steps = range(-AROUND[dtype], AROUND[dtype] + 1)
    near = [pattern(point, dtype) + step for point in _breakpoints(given, dtype) for step in steps]
    near += [around + step for around in grid for step in (-1, 1)]
    random = np.random.default_rng(SEED)
    count = RANDOM[dtype]
    drawn = random.integers(0, last, count)
    even = random.uniform(0, 1 if given == "probabilities" else SPAN, count).astype(numpy_dtype(dtype))
    whole = np.concatenate([np.array([*grid, *near], dtype=np.int64), drawn, even.view(_unsigned(dtype)).astype(int)])
    chosen = np.unique(whole)
    return chosen[(chosen >= 0) & (chosen < last)].astype(_unsigned(dtype))


def few(given: Given, dtype: str, count: int, shift: float = 0.0) -> Patterns:
    """About `count` magnitudes of every band alike, its ends among them."""
    ends = [*(band.low for band in bands(given, dtype)), end(given, dtype, shift)]
    each = max(2, count // (len(ends) - 1))
    return np.unique(np.concatenate([_spread(low, high, each, dtype) for low, high in itertools.pairwise(ends)]))


def _breakpoints(given: Given, dtype: str) -> list[float]:
    """Where formulas change: ends of bands, where exp overflows, and the constants that clips are made of."""
    unit, normal, epsilon, largest = numpy_info(dtype)
    if given == "probabilities":
        return [0.0, normal, unit, epsilon, 1e-15, 1e-12, 1e-7, 0.5, 1 - 1e-7, 1 - 1e-12, 1 - epsilon, 1.0]
    logs = [-math.log(unit), -math.log(smallest(dtype)), -math.log(normal), math.log(largest), 16.118, 100.0]
    return [0.0, normal, unit, epsilon, math.sqrt(unit), math.log(2), 1.0, 2 * -math.log(unit), *logs, largest]


@cache
def outside(given: Given, dtype: str) -> dict[str, Array]:
    """By kind, what lies outside the bands: infinities and nan, and of probabilities what is none."""
    kind = numpy_dtype(dtype)
    special = {
        "positive_infinite": np.array([np.inf]).astype(kind),
        "negative_infinite": np.array([-np.inf]).astype(kind),
        "nan": np.array([np.nan]).astype(kind),
    }
    if given != "probabilities":
        return special
    # Between numbers whose reciprocal is a normal number: a row that is renormalised is divided by x.
    first, last = pattern(numpy_info(dtype)[1] * 16, dtype), pattern(numpy_info(dtype)[3] / 16, dtype)
    above = values(_spread(pattern(1.0, dtype) + 1, last, OUTSIDE, dtype), dtype)
    return {"above_one": above, "below_zero": -values(_spread(first, last, OUTSIDE, dtype), dtype), **special}


def _spread(low: int, high: int, count: int, dtype: str) -> Patterns:
    """At most `count` patterns from low up to high, which is left out; both ends are among them."""
    count = min(count, high - low)
    steps = max(1, count - 1)
    return np.array([low + (high - 1 - low) * step // steps for step in range(count)]).astype(_unsigned(dtype))
