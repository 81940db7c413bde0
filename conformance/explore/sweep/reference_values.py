"""Reference values for many inputs at once: the exact losses with a certified error bound, and their tolerances.

For float32 and narrower dtypes the losses are computed in float64. The inputs are exact there, and numpy's exp, log and
log1p have errors of at most 4 ulp, which is 8v: the vector loops guarantee that, and the C library does better. It is
an assumption about the machine, so `table.check_reference_values` compares the largest errors of each region with the
oracle. In the proof, in the code and in `error_bound`:

    d   absolute difference of the two logits of a row, or the absolute logit of a binary loss; array `d`
    t   log(1 + exp(-d)), the softplus of -d; array `softplus`
    v   unit roundoff of float64, 2^-53
    u   unit roundoff of the dtype, `unit_roundoff`
    g   error bound of exp, log and log1p in the dtype, in units of u, `ELEMENTARY`

*Logits.* The loss is t, or t + d if the logits favour the other label. d is rounded once, which changes exp(-d) by a
relative d v, at most 745 v before it underflows. exp and log1p add 8v each (log1p is better conditioned than its
argument), and the sum with d is rounded once. So the relative error of the loss is at most 770 v < 2^-43, and 17 v for
a binary loss, whose d is exact. Results that underflow are below 2^-1021, which no dtype here can represent.
*Probabilities.* -log p and -log1p(-p) have relative errors of at most 8v. A renormalised pair is -log(p / (p + q)) =
log1p(q / p), with at most 10v. Clipping is a minimum and a maximum of the loss, which keep the relative error.

So each loss has a relative error of at most `FLOAT64_LOSS_ERROR` = 2^-43. The tolerance of a loss is at least u
relative to it, 2^-24 in float32, so that the ratio of an error to its tolerance is known to 2^-18. If that ratio is
closer to 1 (`UNDECIDED_MARGIN`), ball arithmetic decides (Ziv's strategy). In float64, where u = v, ball arithmetic
is used throughout.

Tolerances are those of `error_bound.tolerance`, which has their derivation, specialised to one or two predictions per
row; a test compares the two. Losses that are equal for both signs and labels of a magnitude are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from conformance.explore.sweep.counts import RegionCounts
from conformance.explore.sweep.inputs import NARROW_DTYPES, Patterns, band_slices, values
from conformance.judging.effects import loss_choices, with_numeric_choices
from conformance.model.case import Array, InputKind, Layout, Loss, Options, Problem, Reduction, Target, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.floats import Floats, ulp
from conformance.reference import error_bound, oracle
from conformance.reference.domain import dtype_info
from conformance.reference.error_bound import DIVISION, ELEMENTARY, EXP_UNDERFLOW, sum_error
from conformance.reference.flat_problem import clip_ends
from conformance.reference.oracle import Exact

LossesAndErrorBound = tuple[Floats, Callable[[], Floats]]
"""The losses, and a function that computes the error bound of a correct implementation in units of u, without what
underflow loses. Both have shape [n].
"""

FLOAT64_LOSS_ERROR = 2.0**-43
"""Bound on the relative error of a loss computed in float64."""
UNDECIDED_MARGIN = 2.0**-18
"""Ball arithmetic decides if an error ratio is closer to 1 than this."""
PROBE_SIZE = 64
"""Number of losses that are compared first, since arrays that differ mostly differ early."""


@dataclass(frozen=True)
class ProblemFamily:
    """Problems whose samples depend on one variable x.

    A sample of a binary loss is one output, x. A sample of a categorical loss is a row of two predictions:

    logits: (shift, x + shift), rounded to the dtype.
    log-probabilities: (0, x); the label is always 1.
    probabilities: (1 - x, x), the first rounded, or (0, x) if x is not in [0, 1].
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
        """Signs that x takes; no logarithm of a probability is above 0."""
        return {"logits": (1, -1), "probabilities": (1,), "log_probabilities": (-1,)}[self.input_kind]

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
    """Exact losses for n magnitudes in ascending order, each array of shape [n] and float64, and their tolerances.

    Values needed only if a loss is not correctly rounded are computed lazily.
    """

    dtype: str
    """Dtype of the inputs."""
    hi: Floats
    """High part of the losses, as double-double numbers."""
    lo: Floats | None
    """Low part; None if `hi` has the error bound of the module's docstring."""
    compute_tolerance: Callable[[], Floats]
    """Computes `tolerance`."""
    representable: bool = False
    """Whether the dtype represents all losses exactly."""
    rounded_counts: dict[tuple[int, int], RegionCounts] = field(default_factory=dict)
    """Statistics of the correctly rounded losses of a band, if all agree; keyed by (start of the band, sign)."""

    @cached_property
    def rounded(self) -> Floats:
        """The correctly rounded losses in the dtype, as float64. Most functions return these for most inputs."""
        if self.representable:
            return self.hi
        return self.hi.astype(numpy_dtype(self.dtype), copy=False).astype(np.float64, copy=False)

    def is_representable(self, where: slice) -> bool:
        """Whether the dtype represents the losses of a band exactly."""
        return self.representable or (self.lo is None and _all_equal(self.rounded[where], self.hi[where]))

    @cached_property
    def tolerance(self) -> Floats:
        """Absolute tolerances."""
        return self.compute_tolerance()

    @cached_property
    def inverse_tolerance(self) -> Floats:
        return 1 / self.tolerance

    @cached_property
    def ulp(self) -> Floats:
        """Ulp of each loss in the dtype; shape [1] if all are equal."""
        return ulps_of(self.hi, self.dtype)


class Chunk:
    """Magnitudes of a family in ascending order, with their exact losses, computed on demand.

    patterns: bit patterns of the magnitudes, shape [n].
    """

    def __init__(self, family: ProblemFamily, patterns: Patterns) -> None:
        self.family = family
        self.patterns = patterns
        self.magnitudes = values(patterns, family.dtype)
        self._regions: dict[tuple[int, int], list[str]] = {}
        self._exact_losses: dict[tuple[tuple[int, ...], Convention, Convention], ExactLosses] = {}

    @cached_property
    def bands(self) -> list[tuple[str, slice]]:
        return band_slices(self.patterns, self.family.input_kind, self.family.dtype)

    def regions(self, sign: int, label: int) -> list[str]:
        """Names of the regions of its bands."""
        if (sign, label) not in self._regions:
            names = [region_name(self.family, sign, band, label) for band, _ in self.bands]
            self._regions[sign, label] = names
        return self._regions[sign, label]

    def subset(self, index: slice | npt.NDArray[np.intp]) -> Chunk:
        """The chunk of some of the magnitudes."""
        return Chunk(self.family, self.patterns[index])

    def x(self, sign: int) -> Array:
        return values(self.patterns, self.family.dtype, sign)

    def exact_losses(self, sign: int, label: int, convention: Convention, documented: Convention) -> ExactLosses:
        """The exact losses for x = sign * magnitude under a part of the convention that a function documents."""
        loss_convention, tolerance_convention = loss_choices(convention), with_numeric_choices(convention, documented)
        key = (self._shared_key(sign, label, tolerance_convention), loss_convention, tolerance_convention)
        if key not in self._exact_losses:
            with np.errstate(all="ignore"):
                self._exact_losses[key] = self._compute(sign, label, loss_convention, tolerance_convention)
        return self._exact_losses[key]

    def _shared_key(self, sign: int, label: int, tolerance_convention: Convention) -> tuple[int, ...]:
        """Key of the losses of a magnitude: for unshifted logits, only whether the sign favours the label."""
        unshifted = self.family.input_kind == "logits" and not self.family.shift
        if unshifted and (self.family.loss == "binary" or tolerance_convention.cancellation == "none"):
            return (sign_matches_label(sign, label),)
        return sign, label

    def _compute(
        self, sign: int, label: int, loss_convention: Convention, tolerance_convention: Convention
    ) -> ExactLosses:
        family = self.family
        if family.dtype == "float64" or not has_formula(family, loss_convention, tolerance_convention):
            problem = family.problem(self.x(sign), np.full(len(self.patterns), label))
            answer = oracle.evaluate(problem, loss_convention)
            assert isinstance(answer, Exact), answer
            tolerance = error_bound.tolerance(problem, tolerance_convention).reshape(-1)
            return ExactLosses(family.dtype, answer.hi.reshape(-1), answer.lo.reshape(-1), lambda: tolerance)
        match family.input_kind:
            case "logits":
                losses, error = self._logit_losses(sign, label, tolerance_convention)
            case "probabilities":
                losses, error = self._probability_losses(label, loss_convention, tolerance_convention)
            case "log_probabilities":
                losses, error = self._log_probability_losses()
        exact = family.input_kind == "log_probabilities"
        return ExactLosses(family.dtype, losses, None, lambda: _tolerance(family, losses, error()), exact)

    def _logit_losses(self, sign: int, label: int, tolerance_convention: Convention) -> LossesAndErrorBound:
        family, patterns = self.family, self.patterns  # capturing self below would make a reference cycle
        d, softplus = self._differences(sign)
        g = ELEMENTARY[family.dtype]
        is_matching = sign_matches_label(sign, label)
        losses = softplus if is_matching else softplus + d
        cancelled = tolerance_convention.cancellation == "logits"

        def binary() -> Floats:
            # 2g for exp and log1p, and 2 for the operations on the loss, which is t + d if the sign favours the other
            # label.
            error = softplus * (2 * g + 2)
            if not is_matching or cancelled:
                error += d * (2 * (not is_matching) + cancelled)
            return error

        def categorical() -> Floats:
            e = np.exp(-d)
            error = softplus * g
            error += e * d / (1 + e)
            error += g + sum_error(2)
            error += losses * (2 + family.extra_products)
            if not is_matching:
                error += d
            if cancelled:
                z = np.abs(family.predictions(values(patterns, family.dtype, sign)).astype(np.float64))
                error += z[:, int(sign > 0)] + z[:, label]
            return error

        return losses, binary if family.loss == "binary" else categorical

    def _differences(self, sign: int) -> tuple[Floats, Floats]:
        if not self.family.shift:
            return self._unshifted_differences
        z = self.family.predictions(self.x(sign)).astype(np.float64)
        return _with_log1p_exp(np.abs(z[:, 1] - z[:, 0]))

    @cached_property
    def _unshifted_differences(self) -> tuple[Floats, Floats]:
        return _with_log1p_exp(self.magnitudes.astype(np.float64))

    def _probability_losses(
        self, label: int, loss_convention: Convention, tolerance_convention: Convention
    ) -> LossesAndErrorBound:
        x = self.family.predictions(self.magnitudes).astype(np.float64)
        g = ELEMENTARY[self.family.dtype]
        if self.family.loss == "binary":
            p = _clip(x[:, 0], clip_ends(self.family.dtype, loss_convention))
            losses = -np.log(p) if label else -np.log1p(-p)
            if loss_convention.log_floor is not None:
                losses = np.minimum(losses, -loss_convention.log_floor)
            return losses, lambda: losses * (g + 2) + (0 if label else p > 0)
        losses = _renormalised_losses(x, label, loss_convention, clip_ends(self.family.dtype, loss_convention))
        p = x / _row_sums(x)[:, np.newaxis] if tolerance_convention.renormalise == "before_clip" else x
        p = _clip(p, clip_ends(self.family.dtype, tolerance_convention))
        minus_log = -np.log(p)
        error = g * minus_log[:, label]
        if tolerance_convention.renormalise == "before_clip":
            error += 2 + sum_error(2) + error_bound.underflow(p[:, label], self.family.dtype)
        if tolerance_convention.renormalise == "after_clip":
            log_error = _row_sums(np.where(p > 0, p * g * minus_log, 0.0))
            error += _softmax_error(-minus_log, label, g) + 1 + log_error
        error += (1 + self.family.extra_products) * minus_log[:, label]
        return losses, lambda: error

    def _log_probability_losses(self) -> LossesAndErrorBound:
        losses = self.magnitudes.astype(np.float64)
        products = 1 + self.family.extra_products
        return losses, lambda: np.abs(losses) * products


def _tolerance(family: ProblemFamily, losses: Floats, error: Floats) -> Floats:
    """Tolerances from error bounds in units of u."""
    tolerance = error * dtype_info(family.dtype).unit_roundoff + DIVISION * error_bound.underflow_error(family.dtype)
    if family.input_kind == "probabilities":
        return np.where(np.isfinite(tolerance) & np.isfinite(losses), tolerance, 0.0)
    return tolerance


def sign_matches_label(sign: int, label: int) -> bool:
    """Whether a logit of that sign favours the label."""
    return (label == 1) == (sign > 0)


def region_name(family: ProblemFamily, sign: int, band: str, label: int) -> str:
    """Name of a region, which follows the id of its family.

    It names no function, so that one id in the ledger serves all frameworks.
    """
    side = "" if band == "zero" or family.input_kind == "probabilities" else ("positive_" if sign > 0 else "negative_")
    return f"{side}{band}_label_{label}"


def has_formula(family: ProblemFamily, loss_convention: Convention, tolerance_convention: Convention) -> bool:
    """Whether the module has float64 formulas for these choices; otherwise the oracle computes the losses."""
    if any(convention.log_offset is not None for convention in (loss_convention, tolerance_convention)):
        return False
    if family.loss == "binary":
        return family.input_kind != "log_probabilities"
    has_floor = loss_convention.log_floor is not None or tolerance_convention.log_floor is not None
    return not has_floor and loss_convention.default_ignore_index not in (0, 1)


def _with_log1p_exp(d: Floats) -> tuple[Floats, Floats]:
    """Return (d, log(1 + exp(-d)))."""
    if len(d) and d.min() > EXP_UNDERFLOW:  # exp takes three times as long to underflow
        return d, np.zeros(len(d))
    e = np.negative(d)
    np.exp(e, out=e)
    return d, np.log1p(e, out=e)


def _renormalised_losses(
    x: Floats, label: int, loss_convention: Convention, limits: tuple[float, float] | None
) -> Floats:
    """-log p of a row of two probabilities, clipped and renormalised in the order of the convention."""
    if loss_convention.renormalise == "no" or (loss_convention.renormalise == "after_clip" and limits is not None):
        x = _clip(x, limits)
    if loss_convention.renormalise == "no":
        return np.asarray(-np.log(x[:, label]))
    losses = np.log1p(x[:, 1 - label] / x[:, label])
    if loss_convention.renormalise == "before_clip" and limits is not None:
        losses = np.clip(losses, -np.log(limits[1]), -np.log(limits[0]))
    return np.asarray(losses)


def _clip(x: Floats, limits: tuple[float, float] | None) -> Floats:
    return x if limits is None else np.clip(x, *limits)


def _softmax_error(z: Floats, label: int, g: float) -> Floats:
    """The bound that `error_bound` derives for -log softmax, in units of u, for rows z [n, 2]."""
    top = np.maximum(z[:, 0], z[:, 1])
    d = z - top[:, np.newaxis]
    e = np.exp(d)
    total = _row_sums(e)
    log_total = np.log(total)
    spread = _row_sums(np.where(e > 0, e * np.abs(d), 0.0)) / total
    of_label = d[:, label]
    return np.asarray(spread + g + sum_error(2) + g * log_total + np.abs(of_label) + log_total - of_label)


def _row_sums(x: Floats) -> Floats:
    """Sums of rows of two; numpy's sum along such a short axis takes ten times as long."""
    return np.asarray(x[:, 0] + x[:, 1])


def _all_equal(a: Floats, b: Floats) -> bool:
    """Whether all elements are equal."""
    return bool((a[:PROBE_SIZE] == b[:PROBE_SIZE]).all() and (a == b).all())


def ulps_of(losses: Floats, dtype: str) -> Floats:
    """Ulp of each loss [n] after rounding to the dtype, shape [n], or [1] if all are equal. A loss that is not finite
    has the ulp of 1.
    """
    kind = numpy_dtype(dtype)
    if len(losses) and dtype not in NARROW_DTYPES:
        ends = ulp([losses.min(), losses.max()], kind)
        if ends[0] == ends[1]:
            return np.asarray(ends[:1])
    return ulp(np.where(np.isfinite(losses), losses, 1.0), kind)


@lru_cache(maxsize=24)
def _shared_chunk(family: ProblemFamily, start: int, stop: int) -> Chunk:
    return Chunk(family, np.arange(start, stop).astype(np.uint16))


def chunk_of(family: ProblemFamily, patterns: Patterns) -> Chunk:
    """The chunk of some patterns. Those of a narrow dtype are cached for the next function."""
    contiguous = len(patterns) and int(patterns[-1]) - int(patterns[0]) + 1 == len(patterns)
    if family.dtype in NARROW_DTYPES and contiguous:
        return _shared_chunk(family, int(patterns[0]), int(patterns[-1]) + 1)
    return Chunk(family, patterns)
