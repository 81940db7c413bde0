"""What is known of one region of a sweep: counts, a histogram of ulps, and the inputs that attain the largest errors.

Tallies of parts of a region add up to that of the whole, in any order: counts are added, and of two largest errors
the larger is kept, or the one of the smaller input where they are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from conformance.judging.verdict import Status

Floats = npt.NDArray[np.float64]
Record = dict[str, Any]

BINS = 42
"""Bins of the histogram: up to 1/2 ulp, up to 1, 2, 4, ..., 2^39; then whatever is finite; then what is not."""
COUNTED = 3
"""Bins that are counted one by one before the exponents of what is beyond them are taken."""
FRACTION = 52
"""Bits of a float64 below its exponent."""
FIRST = 1021
"""What a float64 of at least 1/4, and less than 1/2, has for its exponent: errors up to 1/2 are in the first bin."""


class Extreme(NamedTuple):
    """The input with the largest error.

    size: the error, in budgets or in ulps.  x: the input, exactly, as `float.hex` writes it; pattern: its bits without
    the sign.  got, want: what was returned, and the exact answer that it is held against, rounded to float64.
    """

    size: float
    pattern: int
    x: str
    got: float
    want: float

    def outdoes(self, other: Extreme | None) -> bool:
        if other is None or self.size != other.size:
            return other is None or self.size > other.size
        return (self.pattern, self.x.startswith("-")) < (other.pattern, other.x.startswith("-"))


def _minus(extreme: Extreme | None) -> Extreme | None:
    if extreme is None:
        return None
    return extreme._replace(x=extreme.x.removeprefix("-") if extreme.x[0] == "-" else f"-{extreme.x}")


@dataclass
class Tally:
    """One region so far.

    said: how many inputs by (status, convention that explains it).  ratio: the largest error in budgets; ulps: in
    ulps.  why: one sentence about what is wrong, empty where nothing is.
    """

    said: dict[tuple[Status, str], int] = field(default_factory=dict)
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS + 1, dtype=np.int64))
    ratio: Extreme | None = None
    ulps: Extreme | None = None
    why: str = ""

    @property
    def count(self) -> int:
        return sum(self.said.values())

    def say(self, status: Status, convention: str, count: int) -> None:
        if count:
            self.said[status, convention] = self.said.get((status, convention), 0) + count

    def merge(self, other: Tally) -> None:
        """Add what is known of another part of the region."""
        for (status, convention), count in other.said.items():
            self.say(status, convention, count)
        self.histogram += other.histogram
        for name in ("ratio", "ulps"):
            theirs: Extreme | None = getattr(other, name)
            if theirs is not None and theirs.outdoes(getattr(self, name)):
                setattr(self, name, theirs)
        self.why = min(filter(None, (self.why, other.why)), default="")

    def mirrored(self) -> Tally:
        """That of a region of the same magnitudes, and the same errors, on the other side of 0."""
        return Tally(self.said, self.histogram, _minus(self.ratio), _minus(self.ulps), self.why)

    @property
    def status(self) -> Status:
        """What is said of the region as a whole: the worst of what is said of its inputs."""
        said = {status for status, _ in self.said}
        order: tuple[Status, ...] = ("crashed", "timed_out", "disagrees", "diverges", "agrees", "undefined")
        return next(status for status in order if status in said)

    def record(self) -> Record:
        """Builtin values only; `Tally.of` reads them back."""
        return {
            "said": [[status, convention, count] for (status, convention), count in sorted(self.said.items())],
            "histogram": self.histogram.tolist(),
            "ratio": None if self.ratio is None else self.ratio._asdict(),
            "ulps": None if self.ulps is None else self.ulps._asdict(),
            "why": self.why,
        }

    @classmethod
    def of(cls, record: Record) -> Tally:
        """The tally that `record` wrote."""
        return cls(
            {(status, convention): count for status, convention, count in record["said"]},
            np.array(record["histogram"], dtype=np.int64),
            None if record["ratio"] is None else Extreme(**record["ratio"]),
            None if record["ulps"] is None else Extreme(**record["ulps"]),
            record["why"],
        )


def add(tallies: dict[str, Tally], name: str, found: Tally) -> None:
    """Add a tally to that of its region.  Neither is changed, so that several regions may have the same one."""
    if name in tallies:
        whole = Tally()
        whole.merge(tallies[name])
        whole.merge(found)
        tallies[name] = whole
    else:
        tallies[name] = found


def add_ulps(histogram: npt.NDArray[np.int64], ulps: Floats, largest: float) -> None:
    """Count errors into a histogram.  largest: of them."""
    left, edge, place = len(ulps), 0.5, 0
    above: slice | npt.NDArray[np.bool_] = slice(None)
    while largest > edge and place < COUNTED:
        above = ulps > edge
        beyond = int(np.count_nonzero(above))
        histogram[place] += left - beyond
        left, edge, place = beyond, edge * 2, place + 1
    if largest <= edge:
        histogram[place] += left
        return
    errors = ulps[above]
    places = errors.view(np.int64) - 1  # the number before: bins end with powers of two
    places >>= FRACTION
    places -= FIRST
    np.minimum(places, BINS - 1, out=places)
    if largest == np.inf:
        places[errors == np.inf] = BINS
    histogram += np.bincount(places, minlength=BINS + 1)
