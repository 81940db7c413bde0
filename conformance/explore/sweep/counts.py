"""Statistics of one region of a sweep: counts, a histogram of errors in ulps, and the inputs with the largest
errors.

Statistics of parts of a region are merged in any order: counts add up, and of two largest errors the larger is kept,
or the one of the smaller input if they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conformance.judging.verdict import Status
from conformance.model.floats import Floats

Record = dict[str, Any]

BINS = 42
"""Number of finite bins of the histogram: up to 1/2 ulp, up to 1, 2, 4, ..., 2^39; then all larger finite errors.
One more bin has the errors that are not finite.
"""
BINS_BY_COMPARISON = 3
"""Number of bins counted by comparison before exponents are extracted for the remaining errors."""
FRACTION_BITS = 52
"""Number of fraction bits of a float64."""
FIRST_EXPONENT = 1021
"""Biased exponent of a float64 in [1/4, 1/2): errors up to 1/2 are in the first bin."""


class LargestError(NamedTuple):
    """The input with the largest error."""

    size: float
    """The error, in units of the tolerance or in ulps."""
    pattern: int
    """Bit pattern of the input without its sign."""
    x: str
    """The input, exactly, in the format of `float.hex`."""
    got: float
    """The returned loss."""
    want: float
    """The exact answer it is compared with, rounded to float64."""

    def exceeds(self, other: LargestError | None) -> bool:
        if other is None or self.size != other.size:
            return other is None or self.size > other.size
        return (self.pattern, self.x.startswith("-")) < (other.pattern, other.x.startswith("-"))


def _negate(error: LargestError | None) -> LargestError | None:
    if error is None:
        return None
    return error._replace(x=error.x.removeprefix("-") if error.x[0] == "-" else f"-{error.x}")


@dataclass
class RegionCounts:
    """Statistics of one region."""

    by_verdict: dict[tuple[Status, str], int] = field(default_factory=dict)
    """Number of inputs by (status, convention that explains it)."""
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS + 1, dtype=np.int64))
    """Number of inputs by error in ulps, shape (BINS + 1,)."""
    error_ratio: LargestError | None = None
    """The input with the largest error divided by the tolerance."""
    ulps: LargestError | None = None
    """The input with the largest error in ulps."""
    why: str = ""
    """The failure as one sentence; empty if there is none."""

    @property
    def count(self) -> int:
        return sum(self.by_verdict.values())

    def count_verdict(self, status: Status, convention: str, count: int) -> None:
        if count:
            self.by_verdict[status, convention] = self.by_verdict.get((status, convention), 0) + count

    def merge(self, other: RegionCounts) -> None:
        """Add the statistics of another part of the region."""
        for (status, convention), count in other.by_verdict.items():
            self.count_verdict(status, convention, count)
        self.histogram += other.histogram
        for name in ("error_ratio", "ulps"):
            other_error: LargestError | None = getattr(other, name)
            if other_error is not None and other_error.exceeds(getattr(self, name)):
                setattr(self, name, other_error)
        self.why = min(filter(None, (self.why, other.why)), default="")

    def negated(self) -> RegionCounts:
        """Statistics of the region with the same magnitudes and errors and the opposite sign."""
        return RegionCounts(self.by_verdict, self.histogram, _negate(self.error_ratio), _negate(self.ulps), self.why)

    @property
    def status(self) -> Status:
        """The worst status of an input of the region."""
        statuses = {status for status, _ in self.by_verdict}
        order: tuple[Status, ...] = ("crashed", "timed_out", "disagrees", "diverges", "agrees", "undefined")
        return next(status for status in order if status in statuses)

    def as_record(self) -> Record:
        """Builtin values for JSON; `from_record` is the inverse."""
        return {
            "said": [[status, convention, count] for (status, convention), count in sorted(self.by_verdict.items())],
            "histogram": self.histogram.tolist(),
            "ratio": None if self.error_ratio is None else self.error_ratio._asdict(),
            "ulps": None if self.ulps is None else self.ulps._asdict(),
            "why": self.why,
        }

    @classmethod
    def from_record(cls, record: Record) -> RegionCounts:
        """The inverse of `as_record`."""
        return cls(
            {(status, convention): count for status, convention, count in record["said"]},
            np.array(record["histogram"], dtype=np.int64),
            None if record["ratio"] is None else LargestError(**record["ratio"]),
            None if record["ulps"] is None else LargestError(**record["ulps"]),
            record["why"],
        )


def add_counts(regions: dict[str, RegionCounts], name: str, counts: RegionCounts) -> None:
    """Add statistics to those of their region. Neither argument's statistics are modified, so regions may share
    them.
    """
    if name in regions:
        total = RegionCounts()
        total.merge(regions[name])
        total.merge(counts)
        regions[name] = total
    else:
        regions[name] = counts


def add_ulps(histogram: npt.NDArray[np.int64], ulps: Floats, largest: float) -> None:
    """Add errors to a histogram in place. largest: the largest of the errors."""
    remaining, upper_edge, bin_index = len(ulps), 0.5, 0
    above: slice | npt.NDArray[np.bool_] = slice(None)
    while largest > upper_edge and bin_index < BINS_BY_COMPARISON:
        above = ulps > upper_edge
        above_last = int(np.count_nonzero(above))
        histogram[bin_index] += remaining - above_last
        remaining, upper_edge, bin_index = above_last, upper_edge * 2, bin_index + 1
    if largest <= upper_edge:
        histogram[bin_index] += remaining
        return
    errors = ulps[above]
    bins = errors.view(np.int64) - 1  # the preceding float64: bins include their upper edge, a power of two
    bins >>= FRACTION_BITS
    bins -= FIRST_EXPONENT
    np.minimum(bins, BINS - 1, out=bins)
    if largest == np.inf:
        bins[errors == np.inf] = BINS
    histogram += np.bincount(bins, minlength=BINS + 1)
