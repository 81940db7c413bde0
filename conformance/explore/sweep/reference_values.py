"""Exact losses with a certified error bound for many inputs at once, and their tolerances.

For the narrow dtypes and float32 the losses are computed in float64. Inputs are exact there, and numpy's exp, log and
log1p have errors of at most 4 ulp, which is 8v with v = 2^-53: the vector loops guarantee that, and the C library does
better. It is an assumption about the machine, so `table.check_reference_values` compares the largest errors of each
region with the oracle.

*Logits.* With d the difference of the two logits, rounded once, t = log(1 + exp(-|d|)): rounding d changes exp(-|d|)
by a relative |d| v, at most 745 v before it underflows; exp and log1p add 8v each (log1p is better conditioned than
its argument); |d| is added with one rounding. So the relative error of the loss is at most 770 v < 2^-43, and for a
binary loss, whose d is exact, 17 v. Results that underflow are below 2^-1021, which no dtype here can represent.
*Probabilities.* -log p and -log1p(-p) have relative errors of at most 8v. A renormalised pair is -log(p / (p + q)) =
log1p(q / p), with at most 10v; clipping is a minimum and a maximum of the loss, which keep the relative error.

So each loss has a relative error of at most `ACCURACY` = 2^-43. The tolerance of a loss is at least u relative to it,
2^-24 in float32: the ratio of an error to its tolerance is known to 2^-18. If it is closer to 1 than that
(`UNDECIDED_BAND`), ball arithmetic decides (Ziv's strategy). In float64, whose unit roundoff is v, ball arithmetic is
used throughout.

Tolerances are those of `error_bound.tolerance`, which has their derivation, specialised to one or two predictions per
row; a test compares the two. The loss of a magnitude is shared by both signs and both labels if it is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from conformance.explore.sweep.counts import RegionCounts
from conformance.explore.sweep.inputs import NARROW_DTYPES, Patterns, band_slices, values
from conformance.judging.effects import computed, semantic
from conformance.model.case import Array, InputKind, Layout, Loss, Options, Problem, Reduction, Target, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.floats import ulp
from conformance.reference import error_bound, oracle
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import DIVISION, ELEMENTARY, summing
from conformance.reference.flat_problem import clip_ends
from conformance.reference.oracle import Exact

Floats = npt.NDArray[np.float64]
LossesAndBudget = tuple[Floats, Callable[[], Floats]]

ACCURACY = 2.0**-43
"""Bound of the relative error of a float64 reference value."""
UNDECIDED_BAND = 2.0**-18
"""Half-width of the interval around an error ratio of 1 in which ball arithmetic decides."""
EXP_UNDERFLOW = 746.0
"""exp(-x) is 0 in float64 for larger x: it is below half of the smallest number, 2^-1074."""
COMPARED_FIRST = 64
"""Number of losses compared before all are."""


@dataclass(frozen=True)
class Family:
    """Problems that depend on one variable x. Binary: one output, x. Categorical: a row of two, the second being x.

    The first of two is `shift` for logits (which is also added to x), 0 for log-probabilities, for which only x is the
    label's, and for probabilities 1 - x rounded, or 0 if x is no probability.
    """

    loss: Loss
    input_kind: InputKind
    target: str
    """`binary`, `index` or `one_hot`."""
    dtype: str
    shift: float = 0.0
    """Constant added to both logits of a row."""

    @property
    def signs(self) -> tuple[int, ...]:
        """Signs that x takes."""
        return (1,) if self.input_kind == "probabilities" else (1, -1)

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels that occur."""
        return (1,) if self.input_kind == "log_probabilities" else (0, 1)

    @property
    def extra_products(self) -> float:
        """Number of products per row beyond the first; a target distribution multiplies."""
        return float(self.target == "one_hot")

    @property
    def id(self) -> str:
        """Prefix of the ids of its regions, independent of a framework."""
        target = "" if self.loss == "binary" else f"/{self.target}"
        sign = "minus_" if self.shift < 0 else ""
        shift = f"/shifted_by_{sign}{abs(self.shift):g}".replace(".", "_").replace("+", "") if self.shift else ""
        return f"sweep/{self.loss}/{self.input_kind}{target}{shift}"

    def predictions(self, x: Array) -> Array:
        """The predictions, shape [n, 1] or [n, 2], for x of shape [n] in the dtype."""
        if self.loss == "binary":
            return x[:, np.newaxis]
        predictions = np.zeros((len(x), 2), dtype=x.dtype)
        predictions[:, 1] = x
        if self.input_kind == "probabilities":
            wide = x.astype(np.float64)
            predictions[:, 0] = np.where((wide >= 0) & (wide <= 1), 1 - wide, 0.0)
        elif self.shift:
            with np.errstate(over="ignore"):
                predictions[:, 1] = x.astype(np.float64) + self.shift
            predictions[:, 0] = self.shift
        return predictions

    def targets(self, label: Array) -> Array:
        """Labels 0 and 1 of shape [n] in the form that problems have: shape [n], [n, 2] or [n, 1]."""
        if self.target == "index":
            return label
        kind = numpy_dtype(self.dtype)
        return np.eye(2).astype(kind)[label] if self.target == "one_hot" else label.astype(kind)[:, np.newaxis]

    def problem(
        self, x: Array, label: Array, reduction: Reduction = "none", flat: bool = False, targets: Array | None = None
    ) -> Problem:
        """The problem with inputs x [n] in the dtype and labels [n] of 0 and 1.

        flat: give binary predictions the shape [n].
        targets: the targets of these labels, if they are already computed.
        """
        predictions = self.predictions(x)
        labels = self.targets(label) if targets is None else targets
        if flat and self.loss == "binary":
            predictions, labels = predictions[:, 0], labels[:, 0]
        target_kinds: dict[str, Target] = {"index": "index", "one_hot": "distribution", "binary": "binary"}
        target = target_kinds[self.target]
        return Problem(
            self.id, self.loss, self.input_kind, target, predictions, labels, Options(), Layout(), self.dtype, reduction
        )


@dataclass(frozen=True, eq=False)
class ExactLosses:
    """Exact losses by magnitude, want + low up to the bound in the module's docstring, and their tolerances.

    Values needed only if a loss is not correctly rounded are computed lazily.
    """

    dtype: str
    want: Floats
    low: Floats | None
    compute_tolerance: Callable[[], Floats]
    """Computes the tolerances."""
    exact: bool = False
    """Whether all losses are representable in the dtype."""
    roundings: dict[tuple[int, int], RegionCounts] = field(default_factory=dict)
    """By first magnitude of a band and sign of the input: statistics of correctly rounded losses, if all of them
    agree.
    """

    @cached_property
    def rounded(self) -> Floats:
        """The losses rounded to the dtype, which most functions return for most inputs."""
        if self.exact:
            return self.want
        return self.want.astype(numpy_dtype(self.dtype), copy=False).astype(np.float64, copy=False)

    def is_representable(self, where: slice) -> bool:
        """Whether the dtype represents the losses of a band without rounding."""
        return self.exact or (self.low is None and _all_equal(self.rounded[where], self.want[where]))

    @cached_property
    def tolerance(self) -> Floats:
        """Tolerances, absolute."""
        return self.compute_tolerance()

    @cached_property
    def inverse_tolerance(self) -> Floats:
        return 1 / self.tolerance

    @cached_property
    def ulp(self) -> Floats:
        """Ulp of each loss in the dtype, or one number if all are equal."""
        return ulps_of(self.want, self.dtype)


@dataclass(frozen=True, eq=False)
class AnswerKey:
    """What reference values depend on. Instances are unique, so that they are compared by identity, which is fast."""

    exact: Convention
    """The convention that determines the exact losses."""
    numeric: Convention
    """The convention that determines the tolerances."""


@cache
def answer_key(part: Convention, documented: Convention) -> AnswerKey:
    """The key of a part of a function's documented convention."""
    return _answer_key(semantic(part), computed(part, documented))


@cache
def _answer_key(exact: Convention, numeric: Convention) -> AnswerKey:
    return AnswerKey(exact, numeric)


class Chunk:
    """Ascending magnitudes of a family with their exact losses, computed on demand."""

    def __init__(self, family: Family, patterns: Patterns) -> None:
        self.family = family
        self.patterns = patterns
        self.magnitudes = values(patterns, family.dtype)
        self._regions: dict[tuple[int, int], list[str]] = {}
        self._exact_losses_by_key: dict[tuple[tuple[int, ...], AnswerKey], ExactLosses] = {}

    @cached_property
    def bands(self) -> list[tuple[str, slice]]:
        return band_slices(self.patterns, self.family.input_kind, self.family.dtype)

    def regions(self, sign: int, label: int) -> list[str]:
        """Names of the regions of its bands."""
        known = self._regions.get((sign, label))
        if known is None:
            known = self._regions[sign, label] = [region_name(self.family, sign, band, label) for band, _ in self.bands]
        return known

    def subset(self, index: slice | npt.NDArray[np.intp]) -> Chunk:
        """The chunk of some of the magnitudes."""
        return Chunk(self.family, self.patterns[index])

    def x(self, sign: int) -> Array:
        return values(self.patterns, self.family.dtype, sign)

    def exact_losses(self, sign: int, label: int, part: Convention, documented: Convention) -> ExactLosses:
        """The exact losses for x = sign * magnitude under a part of a function's documented convention."""
        reading = answer_key(part, documented)
        key = (self._shared_key(sign, label, reading.numeric), reading)
        known = self._exact_losses_by_key.get(key)
        if known is None:
            with np.errstate(all="ignore"):
                known = self._exact_losses_by_key[key] = self._compute(sign, label, reading.exact, reading.numeric)
        return known

    def _shared_key(self, sign: int, label: int, numeric: Convention) -> tuple[int, ...]:
        """Distinguishes the losses of a magnitude: for unshifted logits, only whether the sign is that of the label."""
        unshifted = self.family.input_kind == "logits" and not self.family.shift
        if unshifted and (self.family.loss == "binary" or numeric.cancellation == "none"):
            return (has_right_sign(sign, label),)
        return sign, label

    def _compute(self, sign: int, label: int, exact: Convention, numeric: Convention) -> ExactLosses:
        family = self.family
        if family.dtype == "float64" or not has_formula(family, exact, numeric):
            problem = family.problem(self.x(sign), np.full(len(self.patterns), label))
            answer = oracle.evaluate(problem, exact)
            assert isinstance(answer, Exact), answer
            tolerance = error_bound.tolerance(problem, numeric).reshape(-1)
            return ExactLosses(family.dtype, answer.hi.reshape(-1), answer.lo.reshape(-1), lambda: tolerance)
        formulas = {"logits": self._logit_losses, "probabilities": self._probability_losses}
        want, error = formulas.get(family.input_kind, self._log_probability_losses)(sign, label, exact, numeric)
        return ExactLosses(
            family.dtype,
            want,
            None,
            lambda: _tolerance(family, want, error()),
            exact=family.input_kind == "log_probabilities",
        )

    # (the exact losses, what gives their budgets in units of u but for what an underflow loses)

    def _logit_losses(self, sign: int, label: int, exact: Convention, numeric: Convention) -> LossesAndBudget:
        family, patterns = self.family, self.patterns  # not self: it holds the answer, whose budget this is
        gap, tail = self._gaps(sign)
        g = ELEMENTARY[family.dtype]
        is_right = has_right_sign(sign, label)
        want = tail if is_right else tail + gap
        cancelled = numeric.cancellation == "logits"

        def binary() -> Floats:
            error = tail * (2 * g + 2)  # of which 2 is the loss's, which has the whole gap beside where it is wrong
            if not is_right or cancelled:
                error += gap * (2 * (not is_right) + cancelled)
            return error

        def categorical() -> Floats:
            e = np.exp(-gap)
            error = tail * g
            error += e * gap / (1 + e)
            error += g + summing(2)
            error += want * (2 + family.extra_products)
            if not is_right:
                error += gap
            if cancelled:
                z = np.abs(family.predictions(values(patterns, family.dtype, sign)).astype(np.float64))
                error += z[:, int(sign > 0)] + z[:, label]
            return error

        return want, binary if family.loss == "binary" else categorical

    def _gaps(self, sign: int) -> tuple[Floats, Floats]:
        if not self.family.shift:
            return self._gap
        z = self.family.predictions(self.x(sign)).astype(np.float64)
        return _softplus_of_gap(np.abs(z[:, 1] - z[:, 0]))

    @cached_property
    def _gap(self) -> tuple[Floats, Floats]:
        return _softplus_of_gap(self.magnitudes.astype(np.float64))

    def _probability_losses(self, sign: int, label: int, exact: Convention, numeric: Convention) -> LossesAndBudget:
        x = self.family.predictions(self.x(sign)).astype(np.float64)
        g = ELEMENTARY[self.family.dtype]
        if self.family.loss == "binary":
            p = x[:, 0] if (limits := clip_ends(self.family.dtype, exact)) is None else np.clip(x[:, 0], *limits)
            want = -np.log(p) if label else -np.log1p(-p)
            if exact.log_floor is not None:
                want = np.minimum(want, -exact.log_floor)
            return want, lambda: want * (g + 2) + (0 if label else p > 0)
        want = _renormalised(x, label, exact, clip_ends(self.family.dtype, exact))
        p = x / _row_sums(x)[:, np.newaxis] if numeric.renormalise == "before_clip" else x
        p = p if (limits := clip_ends(self.family.dtype, numeric)) is None else np.clip(p, *limits)
        minus_log = -np.log(p)
        error = g * minus_log[:, label]
        if numeric.renormalise == "before_clip":
            error += 2 + summing(2) + error_bound.underflow(p[:, label], self.family.dtype)
        if numeric.renormalise == "after_clip":
            spent = _row_sums(np.where(p > 0, p * g * minus_log, 0.0))
            error += _softmax_error(-minus_log, label, g) + 1 + spent
        error += (1 + self.family.extra_products) * minus_log[:, label]
        return want, lambda: error

    def _log_probability_losses(self, sign: int, label: int, exact: Convention, costs: Convention) -> LossesAndBudget:
        x = self.magnitudes.astype(np.float64)
        want = np.negative(x, out=x) if sign > 0 else x
        products = 1 + self.family.extra_products
        return want, lambda: np.abs(want) * products


def _tolerance(family: Family, want: Floats, error: Floats) -> Floats:
    """Convert errors in units of u to tolerances, in place."""
    error *= dtype_info(family.dtype).unit_roundoff
    error += DIVISION * error_bound.least(family.dtype)
    if family.input_kind == "probabilities":
        error = np.where(np.isfinite(error) & np.isfinite(want), error, 0.0)
    return error


def has_right_sign(sign: int, label: int) -> bool:
    """Whether a logit of that sign is on the side of its label."""
    return (label == 1) == (sign > 0)


def region_name(family: Family, sign: int, band: str, label: int) -> str:
    """Name of a region, which follows the id of its family.

    It names no function, so that one id in the ledger serves all frameworks.
    """
    side = "" if band == "zero" or len(family.signs) == 1 else ("positive_" if sign > 0 else "negative_")
    return f"{side}{band}_label_{label}"


def has_formula(family: Family, exact: Convention, numeric: Convention) -> bool:
    """Whether the module has float64 formulas for these choices; otherwise the oracle computes the losses."""
    if family.loss == "binary":
        return family.input_kind != "log_probabilities"
    return exact.log_floor is None and exact.default_ignore_index not in (0, 1) and numeric.log_floor is None


def _softplus_of_gap(gap: Floats) -> tuple[Floats, Floats]:
    """Return (|d|, log(1 + exp(-|d|)))."""
    if len(gap) and gap.min() > EXP_UNDERFLOW:  # where exp takes three times as long, to no avail
        return gap, np.zeros(len(gap))
    e = np.negative(gap)
    np.exp(e, out=e)
    return gap, np.log1p(e, out=e)


def _renormalised(x: Floats, label: int, exact: Convention, limits: tuple[float, float] | None) -> Floats:
    """-log p of a row of two probabilities, clipped and renormalised in the order of the convention."""
    if exact.renormalise == "no" or (exact.renormalise == "after_clip" and limits is not None):
        x = x if limits is None else np.clip(x, *limits)
    if exact.renormalise == "no":
        return np.asarray(-np.log(x[:, label]))
    want = np.log1p(x[:, 1 - label] / x[:, label])
    if exact.renormalise == "before_clip" and limits is not None:
        want = np.clip(want, -np.log(limits[1]), -np.log(limits[0]))
    return np.asarray(want)


def _softmax_error(z: Floats, label: int, g: float) -> Floats:
    """The bound that error_bound.py derives for -log softmax, for rows of two."""
    top = np.maximum(z[:, 0], z[:, 1])
    d = z - top[:, np.newaxis]
    e = np.exp(d)
    total = _row_sums(e)
    log_total = np.log(total)
    spread = _row_sums(np.where(e > 0, e * np.abs(d), 0.0)) / total
    of_label = d[:, label]
    return np.asarray(spread + g + summing(2) + g * log_total + np.abs(of_label) + log_total - of_label)


def _row_sums(x: Floats) -> Floats:
    """Sums of rows of two; numpy's sum along such a short axis takes ten times as long."""
    return np.asarray(x[:, 0] + x[:, 1])


def _all_equal(a: Floats, b: Floats) -> bool:
    """Whether all elements are equal; compares a few first, since differences mostly show early."""
    return bool((a[:COMPARED_FIRST] == b[:COMPARED_FIRST]).all() and (a == b).all())


def ulps_of(want: Floats, dtype: str) -> Floats:
    """Ulp of each loss after rounding to the dtype, or one number if all are equal; losses that are not finite count
    as 1.
    """
    kind = numpy_dtype(dtype)
    if len(want) and dtype not in NARROW_DTYPES:
        ends = ulp([want.min(), want.max()], kind)
        if ends[0] == ends[1]:
            return np.asarray(ends[:1])
    return ulp(np.where(np.isfinite(want), want, 1.0), kind)


@lru_cache(maxsize=24)
def _shared_chunk(family: Family, start: int, stop: int) -> Chunk:
    return Chunk(family, np.arange(start, stop).astype(np.uint16))


def chunk_of(family: Family, patterns: Patterns) -> Chunk:
    """The chunk of some patterns. Those of a narrow dtype are cached for the next function."""
    contiguous = len(patterns) and int(patterns[-1]) - int(patterns[0]) + 1 == len(patterns)
    if family.dtype in NARROW_DTYPES and contiguous:
        return _shared_chunk(family, int(patterns[0]), int(patterns[-1]) + 1)
    return Chunk(family, patterns)
