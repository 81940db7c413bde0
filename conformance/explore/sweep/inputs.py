"""Inputs of a sweep: bit patterns of magnitudes in ascending order, and the bands into which they fall.

A magnitude is a number without its sign, and its bit pattern an unsigned integer of the dtype's width. Patterns are
ordered as magnitudes, so that a band is one slice.
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

from conformance.model.case import Array, InputKind, numpy_dtype
from conformance.reference.domain import dtype_info

Patterns = npt.NDArray[np.unsignedinteger[Any]]

NARROW_DTYPES = frozenset({"float16", "bfloat16"})
"""Dtypes whose values are all used."""
RANDOM_SAMPLES = {"float32": 1 << 16, "float64": 1 << 10}
"""Magnitudes drawn uniformly over bit patterns, and again as many over the range where a loss is neither 0 nor
linear.
"""
POWER_STEP = {"float32": 1, "float64": 8}
"""Step between the exponents of the powers of two that are used, with their neighbours."""
NEIGHBOURS = {"float32": 64, "float64": 16}
"""Number of neighbours of a breakpoint that are used on each side."""
SEED = 20240
LOGIT_RANGE = 24.0
"""Upper end of the interval in which logits are drawn uniformly."""
MANTISSAS = (0.0, 0.25, 0.5, 0.75)
OUTSIDE_SAMPLES = 64
"""Number of values of each kind outside [0, 1]; they are recorded by kind."""
UNIT_SIZE = 1 << 21
"""Magnitudes per unit of an exhaustive sweep, the most that a killed process loses."""


@dataclass(frozen=True)
class Band:
    """Magnitudes from `low` up to the beginning of the next band, as patterns."""

    name: str
    low: int


def bit_pattern(value: float, dtype: str) -> int:
    """Bit pattern of a nonnegative number, rounded to the dtype."""
    rounded = np.asarray(value, dtype=np.float64).astype(numpy_dtype(dtype))
    return int(rounded.view(_unsigned_dtype(dtype)))


def values(patterns: Patterns, dtype: str, sign: int = 1) -> Array:
    """The numbers with these bit patterns; with sign -1 their negatives."""
    bits = patterns.astype(_unsigned_dtype(dtype), copy=False)
    if sign < 0:
        bits = bits | bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return bits.view(numpy_dtype(dtype))


def _unsigned_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(f"u{numpy_dtype(dtype).itemsize}")


@cache
def smallest_subnormal(dtype: str) -> float:
    """The smallest positive number."""
    return float(values(np.array([1]), dtype)[0])


@cache
def end_pattern(input_kind: InputKind, dtype: str, shift: float = 0.0) -> int:
    """The pattern after the last magnitude: after 1 for probabilities, otherwise the first that is not finite.

    shift: constant added to logits. Shifted logits end at a sixteenth of the largest number: then their sum is finite,
    and so is their tolerance in units of u, which must not vanish where the sum is rounded.
    """
    if input_kind == "probabilities":
        return bit_pattern(1.0, dtype) + 1
    largest = dtype_info(dtype).largest
    return bit_pattern(largest / 16, dtype) if shift else bit_pattern(largest, dtype) + 1


@cache
def bands(input_kind: InputKind, dtype: str) -> tuple[Band, ...]:
    """The bands of magnitudes in ascending order, the first beginning with pattern 0.

    Logits z and log-probabilities: `tiny` below the unit roundoff u, `tail` where exp(-|z|) < u, `saturated` where it
    is below the smallest number. Probabilities p: `tiny` below u, `lower` below 1/2, `upper` below 1.
    """
    unit, normal = dtype_info(dtype)[:2]
    starts = [("zero", 0.0), ("subnormal", smallest_subnormal(dtype)), ("tiny", normal)]
    if input_kind == "probabilities":
        starts += [("lower", unit), ("upper", 0.5), ("one", 1.0)]
    else:
        starts += [("central", unit), ("tail", -math.log(unit)), ("saturated", -math.log(smallest_subnormal(dtype)))]
    return tuple(Band(name, bit_pattern(low, dtype)) for name, low in starts)


def band_slices(patterns: Patterns, input_kind: InputKind, dtype: str) -> list[tuple[str, slice]]:
    """Slices of the bands among ascending patterns; empty bands are omitted."""
    all_bands = bands(input_kind, dtype)
    if not len(patterns):
        return []
    first, last = (bisect.bisect([band.low for band in all_bands], int(patterns[index])) - 1 for index in (0, -1))
    if first == last:
        return [(all_bands[first].name, slice(0, len(patterns)))]
    edges = np.searchsorted(patterns, np.array([band.low for band in all_bands], dtype=patterns.dtype)).tolist()
    pieces = zip(all_bands, edges, [*edges[1:], len(patterns)], strict=True)
    return [(band.name, slice(start, stop)) for band, start, stop in pieces if start < stop]


@cache
def sampled_patterns(input_kind: InputKind, dtype: str, shift: float = 0.0) -> Patterns:
    """Inputs of a sweep that is not exhaustive: all of a narrow dtype; a grid and a seeded random sample of a wide
    one.
    """
    last = end_pattern(input_kind, dtype, shift)
    if dtype in NARROW_DTYPES:
        return np.arange(last).astype(_unsigned_dtype(dtype))
    info = dtype_info(dtype)
    powers = np.arange(math.frexp(smallest_subnormal(dtype))[1] - 1, math.frexp(info[3])[1], POWER_STEP[dtype])
    ladder = (np.ldexp(1.0, powers)[:, np.newaxis] * (1 + np.array(MANTISSAS))).reshape(-1)
    grid = [bit_pattern(value, dtype) for value in ladder.tolist() if value <= info[3]]
    steps = range(-NEIGHBOURS[dtype], NEIGHBOURS[dtype] + 1)
    neighbours = [bit_pattern(point, dtype) + step for point in _breakpoints(input_kind, dtype) for step in steps]
    neighbours += [pattern + step for pattern in grid for step in (-1, 1)]
    random = np.random.default_rng(SEED)
    count = RANDOM_SAMPLES[dtype]
    sampled = random.integers(0, last, count)
    even = random.uniform(0, 1 if input_kind == "probabilities" else LOGIT_RANGE, count).astype(numpy_dtype(dtype))
    patterns = np.concatenate(
        [np.array([*grid, *neighbours], dtype=np.int64), sampled, even.view(_unsigned_dtype(dtype)).astype(int)]
    )
    chosen = np.unique(patterns)
    return chosen[(chosen >= 0) & (chosen < last)].astype(_unsigned_dtype(dtype))


def sparse_patterns(input_kind: InputKind, dtype: str, count: int, shift: float = 0.0) -> Patterns:
    """About `count` magnitudes, equally many per band, including its ends."""
    ends = [*(band.low for band in bands(input_kind, dtype)), end_pattern(input_kind, dtype, shift)]
    per_band = max(2, count // (len(ends) - 1))
    return np.unique(
        np.concatenate([_evenly_spaced(low, high, per_band, dtype) for low, high in itertools.pairwise(ends)])
    )


def _breakpoints(input_kind: InputKind, dtype: str) -> list[float]:
    """Values where formulas change: ends of bands, the overflow of exp, and the constants of usual clips."""
    unit, normal, epsilon, largest = dtype_info(dtype)
    if input_kind == "probabilities":
        return [0.0, normal, unit, epsilon, 1e-15, 1e-12, 1e-7, 0.5, 1 - 1e-7, 1 - 1e-12, 1 - epsilon, 1.0]
    logs = [-math.log(unit), -math.log(smallest_subnormal(dtype)), -math.log(normal), math.log(largest), 16.118, 100.0]
    return [0.0, normal, unit, epsilon, math.sqrt(unit), math.log(2), 1.0, 2 * -math.log(unit), *logs, largest]


@cache
def values_outside(input_kind: InputKind, dtype: str) -> dict[str, Array]:
    """Values outside the bands, by kind: infinities, nan, and numbers that are not probabilities."""
    kind = numpy_dtype(dtype)
    special = {
        "positive_infinite": np.array([np.inf]).astype(kind),
        "negative_infinite": np.array([-np.inf]).astype(kind),
        "nan": np.array([np.nan]).astype(kind),
    }
    if input_kind != "probabilities":
        return special
    # Between numbers whose reciprocal is a normal number: a row that is renormalised is divided by x.
    first, last = (
        bit_pattern(dtype_info(dtype).smallest_normal * 16, dtype),
        bit_pattern(dtype_info(dtype).largest / 16, dtype),
    )
    above = values(_evenly_spaced(bit_pattern(1.0, dtype) + 1, last, OUTSIDE_SAMPLES, dtype), dtype)
    return {
        "above_one": above,
        "below_zero": -values(_evenly_spaced(first, last, OUTSIDE_SAMPLES, dtype), dtype),
        **special,
    }


def _evenly_spaced(low: int, high: int, count: int, dtype: str) -> Patterns:
    """At most `count` patterns from low up to but excluding high, the first and the last among them."""
    count = min(count, high - low)
    steps = max(1, count - 1)
    return np.array([low + (high - 1 - low) * step // steps for step in range(count)]).astype(_unsigned_dtype(dtype))
