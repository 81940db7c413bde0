"""What is right for many inputs at once: exact answers with a certified bound, and the error that is allowed.

For the narrow dtypes and float32 the answer is computed in float64.  Inputs are exact there, and numpy's exp, log
and log1p are good to 4 ulp, which is 8v with v = 2^-53: what the vector loops promise, and the C library does better.
That is assumed of the machine, so `lines.certify` holds the largest errors of each region to the oracle.

*Logits.*  With d the difference of the two logits, rounded once, t = log(1 + exp(-|d|)): rounding d moves
exp(-|d|) by |d| v, at most 745 v before it underflows; exp and log1p add 8v each and lose nothing (log1p is better
conditioned than its argument); |d| is added with one rounding.  So the loss is good to 770 v < 2^-43 of itself; a
binary loss, whose d is exact, to 17 v.  What underflows is below 2^-1021, and no dtype here knows numbers of that size.
*Probabilities.*  -log p and -log1p(-p) are good to 8v.  A renormalised pair is -log(p / (p + q)) = log1p(q / p), good
to 10v whatever its size; a clip is a minimum and a maximum of the loss, which keep the relative error.

So every answer is good to `ACCURACY` = 2^-43 of itself.  The budget of a loss is at least u of itself, 2^-24 in
float32: an error over its budget is known to 2^-18, and where it lies closer to 1 than that (`BAND`), ball arithmetic
decides.  That is Ziv's strategy; float64, whose unit is v, is ball arithmetic throughout.

Budgets are those of `error_bound.allowed`, whose derivation is there, written for one or two predictions per row; a
test holds one against the other.  A magnitude's answer is shared by both signs and both labels wherever it is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from conformance.explore.sweep.counts import Tally
from conformance.explore.sweep.inputs import NARROW, Patterns, cut, values
from conformance.judging.verdict import computed, semantic
from conformance.model.case import Array, Given, Layout, Loss, Options, Problem, Reduction, Target, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference import error_bound, oracle
from conformance.reference.domain import numpy_info
from conformance.reference.error_bound import DIVISION, ELEMENTARY, summing
from conformance.reference.flat_problem import clip_ends
from conformance.reference.oracle import Exact

Floats = npt.NDArray[np.float64]
Means = tuple[Floats, Callable[[], Floats]]

ACCURACY = 2.0**-43
BAND = 2.0**-18
VANISHED = 746.0
"""exp of less than minus this is 0 in float64: it is below half of the smallest number, 2^-1074."""
GLANCE = 64
"""Losses that are looked at before all are."""


@dataclass(frozen=True)
class Family:
    """Problems of one variable.  Binary: one output, x.  Categorical: a row of two, of which x is the second.

    The first is `shift` for logits (which is added to x, too), 0 for logarithms, of which only x is ever the label's,
    and 1 - x rounded for probabilities, or 0 where x is none.  target: `binary`, `index` or `one_hot`.
    """

    loss: Loss
    given: Given
    target: str
    dtype: str
    shift: float = 0.0

    @property
    def signs(self) -> tuple[int, ...]:
        """Signs that x takes."""
        return (1,) if self.given == "probabilities" else (1, -1)

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels that x takes."""
        return (1,) if self.given == "log_probabilities" else (0, 1)

    @property
    def products(self) -> float:
        """Products of a row beyond the first: a target that is given as a distribution multiplies."""
        return float(self.target == "one_hot")

    @property
    def id(self) -> str:
        """What the family is called in ids of regions, in no framework's language."""
        target = "" if self.loss == "binary" else f"/{self.target}"
        sign = "minus_" if self.shift < 0 else ""
        shift = f"/shifted_by_{sign}{abs(self.shift):g}".replace(".", "_").replace("+", "") if self.shift else ""
        return f"sweep/{self.loss}/{self.given}{target}{shift}"

    def rows(self, x: Array) -> Array:
        """The predictions [n, 1] or [n, 2] that x [n], in the dtype, stands for."""
        if self.loss == "binary":
            return x[:, np.newaxis]
        found = np.zeros((len(x), 2), dtype=x.dtype)
        found[:, 1] = x
        if self.given == "probabilities":
            wide = x.astype(np.float64)
            found[:, 0] = np.where((wide >= 0) & (wide <= 1), 1 - wide, 0.0)
        elif self.shift:
            with np.errstate(over="ignore"):
                found[:, 1] = x.astype(np.float64) + self.shift
            found[:, 0] = self.shift
        return found

    def targets(self, label: Array) -> Array:
        """Labels [n] of 0 and 1 as problems have them: [n], [n, 2] or [n, 1]."""
        if self.target == "index":
            return label
        kind = numpy_dtype(self.dtype)
        return np.eye(2).astype(kind)[label] if self.target == "one_hot" else label.astype(kind)[:, np.newaxis]

    def problem(
        self, x: Array, label: Array, reduction: Reduction = "none", flat: bool = False, targets: Array | None = None
    ) -> Problem:
        """X [n] in the dtype with labels [n] of 0 and 1 as a problem.

        flat: binary predictions of shape [n].  targets: of these labels, where they are at hand.
        """
        predictions = self.rows(x)
        labels = self.targets(label) if targets is None else targets
        if flat and self.loss == "binary":
            predictions, labels = predictions[:, 0], labels[:, 0]
        said: dict[str, Target] = {"index": "index", "one_hot": "distribution", "binary": "binary"}
        target = said[self.target]
        return Problem(
            self.id, self.loss, self.given, target, predictions, labels, Options(), Layout(), self.dtype, reduction
        )


@dataclass(frozen=True, eq=False)
class Answer:
    """By magnitude: the exact loss, want + low up to the bound that the module states, and the error allowed.

    What only an error is compared with is computed when there is one.  exact: whether the dtype has all the losses.
    roundings: by first magnitude of a band and sign of the input, what is known of losses that are `rounded`, where
    all of them agree.
    """

    dtype: str
    want: Floats
    low: Floats | None
    budget: Callable[[], Floats]
    exact: bool = False
    roundings: dict[tuple[int, int], Tally] = field(default_factory=dict)

    @cached_property
    def rounded(self) -> Floats:
        """The losses as the dtype has them: what most functions return for most inputs."""
        if self.exact:
            return self.want
        return self.want.astype(numpy_dtype(self.dtype), copy=False).astype(np.float64, copy=False)

    def is_exact(self, where: slice) -> bool:
        """Whether the dtype has these losses without rounding them."""
        return self.exact or (self.low is None and _equal(self.rounded[where], self.want[where]))

    @cached_property
    def allowed(self) -> Floats:
        return self.budget()

    @cached_property
    def per_allowed(self) -> Floats:
        return 1 / self.allowed

    @cached_property
    def unit(self) -> Floats:
        """An ulp of the loss in the dtype; one number where all are the same."""
        return units(self.want, self.dtype)


@dataclass(frozen=True, eq=False)
class Reading:
    """What answers depend on: the convention that says what the losses are, and the one that says what they cost.

    There is one of each kind, so that answers are found by what it is and not by what is in it.
    """

    means: Convention
    costs: Convention


@cache
def read(part: Convention, documented: Convention) -> Reading:
    """How a part of a function's documented convention is read."""
    return _reading(semantic(part), computed(part, documented))


@cache
def _reading(means: Convention, costs: Convention) -> Reading:
    return Reading(means, costs)


class Chunk:
    """Ascending magnitudes of a family, and what is right for each of them; computed when it is asked for."""

    def __init__(self, family: Family, patterns: Patterns) -> None:
        self.family = family
        self.patterns = patterns
        self.magnitudes = values(patterns, family.dtype)
        self._regions: dict[tuple[int, int], list[str]] = {}
        self._answers: dict[tuple[tuple[int, ...], Reading], Answer] = {}

    @cached_property
    def bands(self) -> list[tuple[str, slice]]:
        return cut(self.patterns, self.family.given, self.family.dtype)

    def regions(self, sign: int, label: int) -> list[str]:
        """What the regions of its bands are called."""
        known = self._regions.get((sign, label))
        if known is None:
            known = self._regions[sign, label] = [region(self.family, sign, band, label) for band, _ in self.bands]
        return known

    def at(self, index: slice | npt.NDArray[np.intp]) -> Chunk:
        """The chunk of some of the magnitudes."""
        return Chunk(self.family, self.patterns[index])

    def x(self, sign: int) -> Array:
        return values(self.patterns, self.family.dtype, sign)

    def answer(self, sign: int, label: int, part: Convention, documented: Convention) -> Answer:
        """What is right for x = sign * magnitude under a part of a function's documented convention."""
        reading = read(part, documented)
        key = (self._case(sign, label, reading.costs), reading)
        known = self._answers.get(key)
        if known is None:
            with np.errstate(all="ignore"):
                known = self._answers[key] = self._answer(sign, label, reading.means, reading.costs)
        return known

    def _case(self, sign: int, label: int, costs: Convention) -> tuple[int, ...]:
        """What tells the answers of a magnitude apart: of unshifted logits, only whether they are right."""
        unshifted = self.family.given == "logits" and not self.family.shift
        if unshifted and (self.family.loss == "binary" or costs.cancellation == "none"):
            return (right(sign, label),)
        return sign, label

    def _answer(self, sign: int, label: int, means: Convention, costs: Convention) -> Answer:
        family = self.family
        if family.dtype == "float64" or not has_formula(family, means, costs):
            problem = family.problem(self.x(sign), np.full(len(self.patterns), label))
            exact = oracle.evaluate(problem, means)
            assert isinstance(exact, Exact), exact
            allowed = error_bound.allowed(problem, costs).reshape(-1)
            return Answer(family.dtype, exact.hi.reshape(-1), exact.lo.reshape(-1), lambda: allowed)
        means_of = {"logits": self._logits, "probabilities": self._probabilities}
        want, error = means_of.get(family.given, self._logarithms)(sign, label, means, costs)
        return Answer(
            family.dtype,
            want,
            None,
            lambda: _allowed(family, want, error()),
            exact=family.given == "log_probabilities",
        )

    # (the exact losses, what gives their budgets in units of u but for what an underflow loses)

    def _logits(self, sign: int, label: int, means: Convention, costs: Convention) -> Means:
        family, patterns = self.family, self.patterns  # not self: it holds the answer, whose budget this is
        gap, tail = self._gaps(sign)
        g = ELEMENTARY[family.dtype]
        rightly = right(sign, label)
        want = tail if rightly else tail + gap
        cancelled = costs.cancellation == "logits"

        def binary() -> Floats:
            error = tail * (2 * g + 2)  # of which 2 is the loss's, which has the whole gap beside where it is wrong
            if not rightly or cancelled:
                error += gap * (2 * (not rightly) + cancelled)
            return error

        def categorical() -> Floats:
            e = np.exp(-gap)
            error = tail * g
            error += e * gap / (1 + e)
            error += g + summing(2)
            error += want * (2 + family.products)
            if not rightly:
                error += gap
            if cancelled:
                z = np.abs(family.rows(values(patterns, family.dtype, sign)).astype(np.float64))
                error += z[:, int(sign > 0)] + z[:, label]
            return error

        return want, binary if family.loss == "binary" else categorical

    def _gaps(self, sign: int) -> tuple[Floats, Floats]:
        if not self.family.shift:
            return self._gap
        z = self.family.rows(self.x(sign)).astype(np.float64)
        return _of_gap(np.abs(z[:, 1] - z[:, 0]))

    @cached_property
    def _gap(self) -> tuple[Floats, Floats]:
        return _of_gap(self.magnitudes.astype(np.float64))

    def _probabilities(self, sign: int, label: int, means: Convention, costs: Convention) -> Means:
        x = self.family.rows(self.x(sign)).astype(np.float64)
        g = ELEMENTARY[self.family.dtype]
        if self.family.loss == "binary":
            p = x[:, 0] if (ends := clip_ends(self.family.dtype, means)) is None else np.clip(x[:, 0], *ends)
            want = -np.log(p) if label else -np.log1p(-p)
            if means.log_floor is not None:
                want = np.minimum(want, -means.log_floor)
            return want, lambda: want * (g + 2) + (0 if label else p > 0)
        want = _renormalised(x, label, means, clip_ends(self.family.dtype, means))
        p = x / _both(x)[:, np.newaxis] if costs.renormalise == "before_clip" else x
        p = p if (ends := clip_ends(self.family.dtype, costs)) is None else np.clip(p, *ends)
        minus_log = -np.log(p)
        error = g * minus_log[:, label]
        if costs.renormalise == "before_clip":
            error += 2 + summing(2) + error_bound.underflow(p[:, label], self.family.dtype)
        if costs.renormalise == "after_clip":
            spent = _both(np.where(p > 0, p * g * minus_log, 0.0))
            error += _softmax_error(-minus_log, label, g) + 1 + spent
        error += (1 + self.family.products) * minus_log[:, label]
        return want, lambda: error

    def _logarithms(self, sign: int, label: int, means: Convention, costs: Convention) -> Means:
        x = self.magnitudes.astype(np.float64)
        want = np.negative(x, out=x) if sign > 0 else x
        products = 1 + self.family.products
        return want, lambda: np.abs(want) * products


def _allowed(family: Family, want: Floats, error: Floats) -> Floats:
    """Budgets from errors in units of u, which become them."""
    error *= numpy_info(family.dtype)[0]
    error += DIVISION * error_bound.least(family.dtype)
    if family.given == "probabilities":
        error = np.where(np.isfinite(error) & np.isfinite(want), error, 0.0)
    return error


def right(sign: int, label: int) -> bool:
    """Whether a logit of that sign is on the side of its label."""
    return (label == 1) == (sign > 0)


def region(family: Family, sign: int, band: str, label: int) -> str:
    """What a region is called, after the id of its family."""
    side = "" if band == "zero" or len(family.signs) == 1 else ("positive_" if sign > 0 else "negative_")
    return f"{side}{band}_label_{label}"


def has_formula(family: Family, means: Convention, costs: Convention) -> bool:
    """Whether the module has float64 formulas for these choices; what it has none for is left to the oracle."""
    if family.loss == "binary":
        return family.given != "log_probabilities"
    return means.log_floor is None and means.default_ignore_index not in (0, 1) and costs.log_floor is None


def _of_gap(gap: Floats) -> tuple[Floats, Floats]:
    """(|d|, log(1 + exp(-|d|)))."""
    if len(gap) and gap.min() > VANISHED:  # where exp takes three times as long, to no avail
        return gap, np.zeros(len(gap))
    e = np.negative(gap)
    np.exp(e, out=e)
    return gap, np.log1p(e, out=e)


def _renormalised(x: Floats, label: int, means: Convention, ends: tuple[float, float] | None) -> Floats:
    """-log p of a row of two probabilities, clipped and renormalised in the convention's order."""
    if means.renormalise == "no" or (means.renormalise == "after_clip" and ends is not None):
        x = x if ends is None else np.clip(x, *ends)
    if means.renormalise == "no":
        return np.asarray(-np.log(x[:, label]))
    want = np.log1p(x[:, 1 - label] / x[:, label])
    if means.renormalise == "before_clip" and ends is not None:
        want = np.clip(want, -np.log(ends[1]), -np.log(ends[0]))
    return np.asarray(want)


def _softmax_error(z: Floats, label: int, g: float) -> Floats:
    """What error_bound.py derives for -log softmax, for rows of two."""
    top = np.maximum(z[:, 0], z[:, 1])
    d = z - top[:, np.newaxis]
    e = np.exp(d)
    total = _both(e)
    log_total = np.log(total)
    spread = _both(np.where(e > 0, e * np.abs(d), 0.0)) / total
    of_label = d[:, label]
    return np.asarray(spread + g + summing(2) + g * log_total + np.abs(of_label) + log_total - of_label)


def _both(x: Floats) -> Floats:
    """Sums of rows of two; numpy's own sum along so short an axis takes ten times as long."""
    return np.asarray(x[:, 0] + x[:, 1])


def _equal(a: Floats, b: Floats) -> bool:
    """Whether all are the same; most that are not show it early."""
    return bool((a[:GLANCE] == b[:GLANCE]).all() and (a == b).all())


def units(want: Floats, dtype: str) -> Floats:
    """An ulp of each loss once it is rounded to the dtype; one number where all are the same, 1's where not finite."""
    kind = numpy_dtype(dtype)
    if len(want) and dtype not in NARROW:
        ends = np.abs(np.spacing(np.array([want.min(), want.max()]).astype(kind)).astype(np.float64))
        if ends[0] == ends[1]:
            return np.asarray(ends[:1])
    rounded = np.where(np.isfinite(want), want, 1.0).astype(kind)
    return np.asarray(np.abs(np.spacing(rounded).astype(np.float64)))


@lru_cache(maxsize=24)
def _shared(family: Family, start: int, stop: int) -> Chunk:
    return Chunk(family, np.arange(start, stop).astype(np.uint16))


def chunk_of(family: Family, patterns: Patterns) -> Chunk:
    """The chunk of some patterns; those of a narrow dtype are kept for the next function that is asked them."""
    contiguous = len(patterns) and int(patterns[-1]) - int(patterns[0]) + 1 == len(patterns)
    if family.dtype in NARROW and contiguous:
        return _shared(family, int(patterns[0]), int(patterns[-1]) + 1)
    return Chunk(family, patterns)
