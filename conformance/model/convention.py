"""Conventions: the vector of choices in which functions legitimately differ, with the definition as its origin.

A function's documented convention is such a vector.  It is *proved by substitution*: the
oracle is evaluated under it, and the function must agree with the result within the same tolerance.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

Divisor = Literal["weight", "target_weight", "label_weight", "sample_weight", "kept", "samples"]
Renormalise = Literal["no", "before_clip", "after_clip"]
BinaryOutputs = Literal["each", "mean_of_last_axis"]
ClassColumns = Literal["stated", "sorted", "inferred"]
Narrow = Literal["float16", "bfloat16", "float32"]
OutOfRange = Literal["refuse", "wrap", "zero", "ignore", "nan", "unspecified"]
Cancellation = Literal["none", "logits"]
GradientCancellation = Literal["none", "targets", "logits"]
GradientTotal = Literal["targets", "one"]
LogSumExp = Literal["targets", "one"]
ClassWeighting = Literal["terms", "rows"]
ClassAxis = Literal["dropped", "kept"]
LogitsAs = Literal["logits", "probabilities"]
HessianCancellation = Literal["none", "complement"]
HessianFactor = float | Literal["classes"]
HessianFloorOf = Literal["sample", "weighted"]
EmptyBatch = Literal["reduced", "unreduced"]
Epsilon = float | Literal["dtype"]

ANOMALY_MEANINGS: dict[str, str] = {
    "shape_mismatch": "labels or weights whose shape does not fit the predictions",
    "label_out_of_range": "a label that names no class",
    "invalid_probability": "a probability outside [0, 1], or a log-probability above 0",
    "invalid_target": "a target outside [0, 1]",
    "trailing_axis": "labels that fit but for an axis of length 1",
    "nan_prediction": "a prediction that is nan",
    "infinite_prediction": "a prediction that is infinite",
    "nan_target": "a target that is nan",
    "nan_weight": "a weight that is nan",
    "infinite_weight": "a weight that is infinite",
    "negative_weight": "a weight below 0",
    "zero_weight": "a weight of 0",
    "no_weight": "sample weights that are all 0",
    "empty_batch": "a batch of no samples",
    "one_class": "predictions of a single class",
    "missing_class": "a class that none of the labels names",
    "unnormalised_row": "a row of probabilities that does not sum to 1",
    "subnormal_prediction": "a probability below the dtype's smallest normal number",
}
"""Input anomalies, outside the definition's domain or at its edge."""
INVALID = frozenset({"shape_mismatch", "label_out_of_range", "invalid_probability", "invalid_target"})
"""Input anomalies outside the definition's domain: an exception is the right answer."""
EDGE = frozenset(ANOMALY_MEANINGS) - INVALID
"""Input anomalies inside the domain, at its edge: some functions document that they reject them."""


@dataclass(frozen=True)
class Convention:
    """One choice per field; the defaults are the definition."""

    mean_divides_by: Divisor = "weight"
    """What the sum of losses is divided by.  `weight`: the definition, the sum of s_i over the samples that are not
    ignored; with class weights, of s_i * (sum_c w_c q'_ic) / (sum_c q'_ic).  `target_weight`: the sum of
    s_i * sum_c w_c q'_ic, in which targets that sum to more weigh more.  `label_weight`: `weight` with unsmoothed
    labels.  `sample_weight`: the sum of s_i over the samples that are not ignored, whatever the class weights.
    `kept`: how many are not ignored.  `samples`: how many there are."""
    logits_as: LogitsAs = "logits"
    """Whether logits are turned into probabilities first, which are rounded to the dtype, and to which a clip, a
    division by their sum, an offset and a floor of the logarithm apply as to probabilities."""
    clip: Epsilon | None = None
    """Probabilities are clipped to [eps, 1 - eps] before the logarithm, both ends rounded to the dtype;
    `dtype` stands for the dtype's machine epsilon."""
    log_offset: float | None = None
    """Is added to a probability, after it was clipped, just before its logarithm; rounded to the dtype."""
    log_floor: float | None = None
    """Logarithms of probabilities below this count as this."""
    renormalise: Renormalise = "no"
    """Whether rows of probabilities are divided by their sum, and on which side of the clip."""
    class_weighting: ClassWeighting = "terms"
    """What class weights multiply.  `terms`: the definition, the term of their class.  `rows`: each row of targets has
    the weight sum_c w_c q'_c, which multiplies its whole unweighted loss."""
    log_sum_exp: LogSumExp = "targets"
    """Factor of the logarithm of sum_c exp(z_c - max z) in a loss from logits: the sum of the row's
    targets, or 1, as if they were a distribution.  In the gradient, in which max z is a constant, it is the softmax
    that is multiplied so."""
    unreduced_class_axis: ClassAxis = "dropped"
    """Whether an unreduced loss over classes keeps their axis, where the predictions have it, with length 1."""
    gradient_cancellation: GradientCancellation = "none"
    """Numeric, not semantic.  `targets`: targets are subtracted from the softmax or the sigmoid, which loses the
    gradient of a prediction that is right in the rounding of a probability next to 1.  `logits`: the sigmoid of a
    binary loss is exp(z - log(1 + e^z)), the derivative of that logarithm, whose exponent is rounded as z is."""
    gradient_total: GradientTotal = "targets"
    """Factor of the softmax in the gradient in the logits of a row: the sum of its targets, or 1,
    as if they were a distribution."""
    gradient_floor: float | None = None
    """The gradient of a binary loss in its probability is (p - y) / (p (1 - p)), clips and floors of the loss
    notwithstanding, with a denominator that counts as this where it is smaller."""
    hessian_cancellation: HessianCancellation = "none"
    """Numeric, not semantic.  `complement`: 1 - p is computed from the rounded p, which loses the second derivative
    p (1 - p) of a prediction next to 1."""
    hessian_factor: HessianFactor = 1.0
    """Factor of the second derivative of a categorical loss; `classes` stands for C / (C - 1)."""
    hessian_floor: float | None = None
    """Second derivatives of a sample that are smaller than this count as this."""
    hessian_floor_of: HessianFloorOf = "sample"
    """Whether the floor of the second derivative is applied to it before sample weights and a positive weight
    multiply it, or afterwards."""
    binary_outputs: BinaryOutputs = "each"
    """Whether a binary loss is one number per output, or their plain mean over the last axis."""
    default_ignore_index: int | None = None
    """The label that is ignored by default."""
    class_columns: ClassColumns = "stated"
    """Which column of the predictions belongs to which class.  `stated`: those that the case states.  `sorted`: columns
    are in the order of the sorted names of the classes, whatever the caller's order.  `inferred`: the classes are those
    among the labels, sorted."""
    label_shift: int = 0
    """How many places after a prediction its label stands along the last axis of the samples, such as the positions of
    a text.  A prediction that has none there is ignored."""
    narrowed_to: Narrow | None = None
    """The dtype to which predictions, targets and weights are rounded before anything is computed, where theirs has
    more digits."""
    labels_narrowed_to: Narrow | None = None
    """The dtype to which targets alone are rounded beside predictions whose dtype has more digits."""
    weights_narrowed_to: Narrow | None = None
    """The dtype to which weights alone are rounded beside predictions whose dtype has more digits."""
    out_of_range: OutOfRange = "refuse"
    """What an index label outside the classes does: rejected, counted from the end, a loss of 0, ignored like
    `ignore_index`, a loss of nan, or something that is documented to be unspecified."""
    cancellation: Cancellation = "none"
    """Numeric, not semantic: whether terms as large as the logits cancel in the result, as where
    (1 - y) z is added to -log sigmoid(z), or a log-sum-exp is shifted back before the label's logit is taken off."""
    empty_mean: Literal["nan", "zero"] | None = None
    """What a mean over nothing is; undefined by the definition."""
    empty_batch: EmptyBatch = "reduced"
    """Whether the sum and the mean over an empty batch are numbers, or the empty array of losses as it is."""
    accepts: frozenset[str] = frozenset()
    """Kinds of invalid or unusual input that are taken as they are; with `shape_mismatch`, labels and predictions are
    broadcast against each other, without more classes."""
    rejects: frozenset[str] = frozenset()
    """Kinds of valid but unusual input that raise an exception."""

    def __post_init__(self) -> None:
        unknown = (self.accepts | self.rejects) - INVALID - EDGE
        if unknown:
            raise ValueError(f"unknown input anomalies: {sorted(unknown)}")

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        """Hash of all fields, computed once, as most cached results of a row are keyed by a convention."""
        return hash(_values(self))

    def __getstate__(self) -> dict[str, Any]:
        """The fields without their hash, which differs between processes."""
        return dict(zip(_DEFAULTS, _values(self), strict=True))

    def choices(self) -> dict[str, Any]:
        """The fields that differ from the definition, in field order."""
        values = zip(_DEFAULTS.items(), _values(self), strict=True)
        return {name: value for (name, default), value in values if value != default}

    def without_numeric_choices(self) -> Convention:
        """Return the convention without its numeric choices."""
        return dataclasses.replace(self, **{name: getattr(DEFINITION, name) for name in NUMERIC_FIELDS})

    def restricted_to(self, names: tuple[str, ...]) -> Convention:
        """The definition with only the named fields taken from this convention."""
        return Convention(**{name: getattr(self, name) for name in names})

    def __str__(self) -> str:
        return describe(self.choices())


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Convention)}
_values: Callable[[Convention], tuple[Any, ...]] = operator.attrgetter(*_DEFAULTS)
"""The values of all fields, in field order."""
DEFINITION = Convention()
NUMERIC_FIELDS = ("cancellation", "gradient_cancellation", "hessian_cancellation")
"""Fields of a convention that change the tolerance but not the exact answer."""


@functools.cache
def literal_choices(name: str) -> tuple[str, ...]:
    """The choices of a field that its type names, in their order."""
    return tuple(_literals(get_type_hints(Convention)[name]))


def _literals(hint: Any) -> Iterator[str]:
    for part in get_args(hint):
        if isinstance(part, str):
            yield part
        else:
            yield from _literals(part)


def describe(choices: dict[str, Any]) -> str:
    """`field=value` for each choice, joined by `; `; sets are sorted."""
    return "; ".join(f"{name}={value_text(value)}" for name, value in choices.items())


def value_text(value: Any) -> str:
    """A choice as text: the members of a set are sorted and joined by +."""
    return "+".join(sorted(value)) if isinstance(value, frozenset) else str(value)
