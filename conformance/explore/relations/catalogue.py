"""Every metamorphic relation.

A transformation that is not exact in the dtype, such as a rounded 1 - p or smoothed label, gives no follow-up. Results
must agree within both tolerances, not to the bit: memory order, for instance, determines the order of a summation and
the use of vector instructions, which are internal to an implementation.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from typing import Literal

import numpy as np

from conformance.adapters.contract import Function
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    Relation,
    count_samples,
    counts_log_sum_exp_once,
    exact_cast,
    exact_complement,
    flatten_samples,
    has_finite_losses,
    has_per_sample_losses,
    ignored_mask,
    labels_are_classes_or_ignored,
    relation,
    replace_fields,
    replace_layout,
    replace_options,
    sample_axes,
    scatter,
    take_samples,
    targets_sum_to_one,
)
from conformance.model.case import Array, Loss, Order, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.text import suggest
from conformance.reference.conversion import convert
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import flatten

Weights = Literal["class_weights", "sample_weights", "positive_weight"]
Transformed = MetamorphicGroup | Problem | None
"""The result of a transformation: the only follow-up of a problem, or a group."""

SHIFTS = {"float16": 6, "bfloat16": 6, "float32": 8, "float64": 10}
"""Binary exponent of the shift of logits, by dtype: its exponential exceeds the range of the dtype, if the grid is
still fine enough.

float16 has 11 significant bits, of which 6 are then before the point, and bfloat16 has 8.
"""
SMOOTHING = 0.5
"""With this value, smoothed labels are exact for two and for four classes."""
MAX_CLASSES_DECOMPOSED = 8
"""Maximum number of classes for which a soft label is decomposed."""
WEIGHT_SCALE = 4.0
"""Factor of scaled weights."""
COPIES_OF_ROW = 3
"""Number of copies of a repeated row."""


# Predictions: shifted, normalised, converted to another kind, or in a wider dtype. A shift of arbitrary logits is not
# exact, as 0.1 + 8 is rounded. The logits of source and follow-up are therefore first rounded to a grid on which the
# shift is exact. Probabilities computed from logits are rounded once each, for which the tolerance has a term.
# Probabilities that the function documents to clip or to floor are excluded.


@relation(loss="categorical", input_kinds=["logits"])
def shifted_logits(problem: Problem, convention: Convention) -> Transformed:
    """Adding a constant to all logits of a row does not change the loss.

    Shift rows alternately up and down by the same power of two.
    """
    dtype = numpy_dtype(problem.dtype)
    shift = 2.0 ** SHIFTS[problem.dtype]
    # Numbers up to twice the shift are multiples of their unit in the last place there.
    grid = shift * dtype_info(problem.dtype).epsilon
    z = problem.predictions.astype(np.float64)
    rounded = np.where(np.isfinite(z), np.round(z / grid) * grid, z)
    if np.any(np.abs(rounded[np.isfinite(rounded)]) >= shift):
        return None
    signs = np.where(np.arange(math.prod(z.shape[:-1])) % 2, -1.0, 1.0).reshape(*z.shape[:-1], 1)
    shifted = (rounded + signs * shift).astype(dtype)
    source = replace_fields(problem, predictions=rounded.astype(dtype))
    return MetamorphicGroup(source, (replace_fields(problem, predictions=shifted),))


@relation(loss="categorical", input_kinds=["logits"], supports=["logits"])
def normalised_logits(problem: Problem, convention: Convention) -> Transformed:
    """Log-probabilities are logits of the same probabilities.

    Subtract the log-sum-exp from the logits, which gives logits again.
    """
    logs, _ = convert(problem, "log_probabilities")
    return MetamorphicGroup(problem, (replace_fields(logs, input_kind="logits"),), is_rounded=True)


@relation(input_kinds=["logits"], supports=["logits", "probabilities"])
def as_probabilities(problem: Problem, convention: Convention) -> Transformed:
    """Logits and their softmax or sigmoid have the same loss.

    Softmax or sigmoid of the logits, if no result is so near to 0 or 1 that digits are lost.
    """
    if counts_log_sum_exp_once(problem, convention):
        return None
    converted, _ = convert(problem, "probabilities")
    p = converted.predictions.astype(np.float64)
    unit, smallest = dtype_info(problem.dtype)[:2]
    nearest = np.minimum(p, 1 - p) if problem.loss == "binary" else p
    edge = math.sqrt(unit) if problem.loss == "binary" else smallest
    if not np.all(nearest >= edge) or is_clipped(converted, convention):
        return None
    return MetamorphicGroup(problem, (converted,), is_rounded=True)


@relation(loss="categorical", input_kinds=["logits"], supports=["logits", "log_probabilities"])
def as_log_probabilities(problem: Problem, convention: Convention) -> Transformed:
    """Logits and their log-softmax have the same loss.

    Log-softmax of the logits.
    """
    if counts_log_sum_exp_once(problem, convention):
        return None
    return MetamorphicGroup(problem, (convert(problem, "log_probabilities")[0],), is_rounded=True)


def is_clipped(problem: Problem, convention: Convention) -> bool:
    """Whether the function documents to clip or offset a probability, or to floor its logarithm."""
    if problem.input_kind != "probabilities":
        return False
    if convention.log_offset is not None:
        return True
    p = problem.predictions.astype(np.float64)
    p = np.stack([p, 1 - p]) if problem.loss == "binary" else p
    low, high = flatten(problem, convention).clip or (0.0, 1.0)
    floor = 0.0 if convention.log_floor is None else math.exp(convention.log_floor)
    return not bool(np.all((p >= max(low, floor)) & (p <= high)))


@relation(loss="categorical", input_kinds=["probabilities"], supports=["logits", "probabilities"])
def as_logits(problem: Problem, convention: Convention) -> Transformed:
    """Logarithms of probabilities are logits of the same probabilities.

    Logarithms of probabilities that sum to 1 exactly.
    """
    if counts_log_sum_exp_once(problem, convention):
        return None
    p = problem.predictions.astype(np.float64)
    sums = [math.fsum(row) for row in p.reshape(-1, p.shape[-1]).tolist()]
    if any(total != 1 for total in sums) or is_clipped(problem, convention):
        return None
    return MetamorphicGroup(problem, (convert(problem, "logits")[0],), is_rounded=True)


@relation(input_kinds=["probabilities"], supports=["probabilities"])
def clipped_beforehand(problem: Problem, convention: Convention) -> Transformed:
    """Clipping probabilities as documented before the call does not change the loss.

    Clip probabilities to the limits that the function documents.
    """
    ends = flatten(problem, convention).clip
    if ends is None or convention.renormalise == "before_clip":
        return None
    with np.errstate(invalid="ignore"):
        clipped = np.clip(problem.predictions.astype(np.float64), *ends).astype(problem.predictions.dtype)
    if np.array_equal(clipped, problem.predictions, equal_nan=True):
        return None
    return replace_fields(problem, predictions=clipped)


@relation(loss="categorical", input_kinds=["probabilities"], supports=["probabilities"])
def halved_rows(problem: Problem, convention: Convention) -> Transformed:
    """If rows are divided by their sum, halving one does not change the loss.

    Halve each row, for a function that divides rows by their sum.
    """
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    exact = np.array_equal(half.astype(np.float64) * 2, problem.predictions.astype(np.float64), equal_nan=True)
    halved = replace_fields(problem, predictions=half)
    if not exact or convention.renormalise == "no" or is_clipped(problem, convention) or is_clipped(halved, convention):
        return None
    return halved


@relation(
    loss="categorical",
    input_kinds=["probabilities"],
    targets=["index", "one_hot"],
    supports=["probabilities"],
    where=lambda problem, function: not problem.options.label_smoothing,
)
def other_probabilities(problem: Problem, convention: Convention) -> Transformed:
    """If rows are not normalised, only the probability of the label affects the loss.

    Halve the probabilities of the classes that are not the label, for a function that does not normalise rows.
    """
    classes = problem.predictions.shape[-1]
    index = problem.target == "index"
    label = problem.labels[..., np.newaxis] == np.arange(classes) if index else problem.labels != 0
    half = problem.predictions * problem.predictions.dtype.type(0.5)
    if convention.renormalise != "no" or not has_finite_losses(problem):
        return None
    return replace_fields(problem, predictions=np.where(label, problem.predictions, half))


@relation(
    supports=["float64"],
    where=lambda problem, function: problem.dtype != "float64" and problem.input_kind in function.input_kinds,
)
def in_float64(problem: Problem, convention: Convention) -> Transformed:
    """The same numbers in float64 have the same loss.

    Cast to float64.
    """
    widened = replace_layout(problem.cast("float64"), weight_dtype=None)
    if is_clipped(problem, convention) or is_clipped(widened, convention):
        return None
    return widened


# Labels: the order of classes, their encoding, smoothing, and soft labels.


@relation(loss="categorical")
def permuted_classes(problem: Problem, convention: Convention) -> Transformed:
    """Reversing the order of the classes does not change the loss.

    Reverse the order of classes in predictions, labels, weights and the ignored class.
    """
    classes = problem.predictions.shape[-1]
    if classes < 2 or not labels_are_classes_or_ignored(problem, convention):
        return None
    permuted = replace_fields(problem, predictions=problem.predictions[..., ::-1])
    options = problem.options
    if problem.target == "index":
        in_range = (problem.labels >= 0) & (problem.labels < classes)
        permuted = replace_fields(permuted, labels=np.where(in_range, classes - 1 - problem.labels, problem.labels))
    else:
        permuted = replace_fields(permuted, labels=problem.labels[..., ::-1])
    if options.class_weights is not None:
        permuted = replace_options(permuted, class_weights=options.class_weights[::-1])
    if options.ignore_index is not None and 0 <= options.ignore_index < classes:
        permuted = replace_options(permuted, ignore_index=classes - 1 - options.ignore_index)
    return permuted


@relation(loss="binary")
def permuted_outputs(problem: Problem, convention: Convention) -> Transformed:
    """Reversing the order of the outputs reverses their losses.

    Reverse the order of outputs.
    """
    axis = problem.predictions.ndim - 1
    if axis < 1:
        return None
    permuted = take_samples(problem, np.arange(problem.predictions.shape[-1])[::-1], axis)
    unreduced = convention.binary_outputs == "each"
    return MetamorphicGroup(problem, (permuted,), lambda answers: answers[0][..., ::-1] if unreduced else answers[0])


@relation(
    loss="binary",
    input_kinds=["logits", "probabilities"],
    leaves_unset=["positive_weight"],
    where=lambda problem, function: problem.input_kind in function.input_kinds,
)
def opposite_outputs(problem: Problem, convention: Convention) -> Transformed:
    """The opposite prediction with the opposite label has the same loss.

    Negate each output: -z or 1 - p against 1 - y. Not for converted predictions, which lose one end before the other.
    """
    x = problem.predictions
    predictions = -x if problem.input_kind == "logits" else exact_complement(x)
    labels = exact_complement(problem.labels.astype(np.int64) if problem.labels.dtype == bool else problem.labels)
    clip_alone = dataclasses.replace(convention, log_floor=None, log_offset=None)  # both ends have the others
    if predictions is None or labels is None or is_clipped(problem, clip_alone):
        return None
    labels = labels if problem.labels.dtype.kind == "f" else labels.astype(problem.labels.dtype)
    return replace_fields(problem, predictions=predictions, labels=labels)


@relation(
    targets=["index", "one_hot"],
    leaves_unset=["ignore_index"],
    where=lambda problem, function: "index" in function.targets and function.target_kind_for("one_hot") == "one_hot",
)
def other_encoding(problem: Problem, convention: Convention) -> Transformed:
    """An index label and its one-hot row have the same loss.

    Encode index labels as one-hot rows, and one-hot rows as index labels.
    """
    if counts_log_sum_exp_once(problem, convention):
        return None
    classes = problem.predictions.shape[-1]
    if problem.target == "distribution":
        indices = np.argmax(problem.labels.astype(np.float64), axis=-1)
        return replace_fields(replace_layout(problem, label_dtype=None), target="index", labels=indices)
    if not np.all((problem.labels >= 0) & (problem.labels < classes)):
        return None
    return _with_distribution(problem, np.eye(classes)[problem.labels])


def _with_distribution(problem: Problem, rows: Array) -> Problem:
    plain = replace_layout(problem, labels="flat", label_dtype=None)
    return replace_fields(plain, target="distribution", labels=rows.astype(numpy_dtype(problem.dtype)))


@relation(leaves_unset=["label_smoothing"], supports=["label_smoothing"])
def no_smoothing(problem: Problem, convention: Convention) -> Transformed:
    """Label smoothing of 0 does not change the loss."""
    return replace_options(problem, label_smoothing=0.0)


@relation(
    leaves_unset=["ignore_index"],
    supports=["label_smoothing"],
    where=lambda problem, function: ("soft_binary" if problem.loss == "binary" else "distribution") in function.targets,
)
def smoothed_labels(problem: Problem, convention: Convention) -> Transformed:
    """Smoothing labels before the call has the same effect as smoothing them in the function.

    Smooth labels by one half in the function, and before the call.
    """
    if counts_log_sum_exp_once(problem, convention):
        return None
    classes = 2 if problem.loss == "binary" else problem.predictions.shape[-1]
    source = replace_options(problem, label_smoothing=SMOOTHING)
    if problem.target == "index":
        if not np.all((problem.labels >= 0) & (problem.labels < classes)):
            return None
        rows = np.eye(classes)[problem.labels]
    else:
        rows = problem.labels.astype(np.float64)
    exact = (1 - SMOOTHING) * rows + SMOOTHING / classes
    if not np.array_equal((exact - SMOOTHING / classes) / (1 - SMOOTHING), rows) or classes & (classes - 1):
        return None
    if (smoothed := exact_cast(exact, numpy_dtype(problem.dtype))) is None:
        return None
    follow_up = replace_options(source, label_smoothing=None)
    if problem.target == "binary":
        return MetamorphicGroup(source, (replace_fields(replace_layout(follow_up, label_dtype=None), labels=smoothed),))
    return MetamorphicGroup(source, (_with_distribution(follow_up, smoothed),))


@relation(
    targets=["distribution", "soft_binary"],
    leaves_unset=["label_smoothing"],
    supports=["none"],
    where=lambda problem, function: problem.reduction != "mean",
    changes_reduction=True,
)
def mixed_labels(problem: Problem, convention: Convention) -> Transformed:
    """The loss of a soft label is the weighted sum of the losses of hard labels.

    Write the loss of a soft label as the weighted sum of the losses of hard labels.
    """
    weighs_rows = problem.options.class_weights is not None and convention.class_weighting == "rows"
    if weighs_rows or counts_log_sum_exp_once(problem, convention):
        return None
    shares = problem.labels.astype(np.float64)
    if problem.loss == "binary":
        complement = exact_complement(problem.labels)
        if convention.binary_outputs != "each" or complement is None:
            return None
        ends = [np.zeros_like(problem.labels), np.ones_like(problem.labels)]
        coefficients = [complement.astype(np.float64), shares]
    else:
        classes = problem.predictions.shape[-1]
        if classes > MAX_CLASSES_DECOMPOSED:
            return None
        ends = [np.broadcast_to(row, shares.shape).astype(problem.labels.dtype) for row in np.eye(classes)]
        coefficients = list(np.moveaxis(shares, -1, 0))
    none = problem.with_reduction("none")
    return MetamorphicGroup(
        problem, tuple(replace_fields(none, labels=end) for end in ends), coefficients=tuple(coefficients)
    )


@relation(
    input_kinds=["probabilities"],
    targets=["binary"],
    leaves_unset=["positive_weight", "label_smoothing"],
    where=lambda problem, function: problem.predictions.ndim == 1 and len(function.ranks) > 1,
)
def two_classes(problem: Problem, convention: Convention) -> Transformed:
    """A binary output has the loss of two classes.

    Write one probability as the probabilities of two classes.
    """
    if (complement := exact_complement(problem.predictions)) is None:
        return None
    pairs = np.stack([complement, problem.predictions], axis=-1)
    categorical = replace_fields(
        problem, loss="categorical", target="index", predictions=pairs, labels=problem.labels.astype(int)
    )
    return replace_layout(categorical, label_dtype=None)


# Weights: of one and of zero, scaled, and equivalent weights of another kind.


def unit_weights_relation(name: Weights) -> Relation:
    losses: dict[Weights, Loss] = {"class_weights": "categorical", "positive_weight": "binary"}

    def leaves_rows(problem: Problem, function: Function) -> bool:
        """Whether a row whose class weights are all 1 has the weight 1, as a function documents to weigh."""
        weighs_rows = any(documented.convention.class_weighting == "rows" for documented in function.conventions)
        return name != "class_weights" or not weighs_rows or targets_sum_to_one(problem)

    @relation(name=f"unit_{name}", loss=losses.get(name), leaves_unset=[name], supports=[name], where=leaves_rows)
    def unit_weights(problem: Problem, convention: Convention) -> Transformed:
        """Weights of one have the same effect as no weights."""
        if name == "sample_weights" and not has_per_sample_losses(problem, convention):
            return None
        shape = {
            "class_weights": problem.predictions.shape[-1:],
            "sample_weights": problem.predictions.shape[:1],
            "positive_weight": (),
        }[name]
        return replace_options(problem, **{name: np.ones(shape, numpy_dtype(problem.dtype))})

    return unit_weights


def scaled_weights_relation(name: Weights) -> Relation:

    @relation(name=f"scaled_{name}", sets=name)
    def scaled_weights(problem: Problem, convention: Convention) -> Transformed:
        """Multiplying the weights by four multiplies the losses by four."""
        weights: Array = getattr(problem.options, name)
        if name == "class_weights" and counts_log_sum_exp_once(problem, convention):
            return None
        larger = weights * weights.dtype.type(WEIGHT_SCALE)
        wide = weights.astype(np.float64)
        limit = dtype_info(problem.dtype).largest / problem.predictions.size  # no sum of weights may overflow
        if not np.array_equal(larger.astype(np.float64), wide * WEIGHT_SCALE) or np.any(
            np.abs(wide) * WEIGHT_SCALE > limit
        ):
            return None
        return MetamorphicGroup(
            problem, (replace_options(problem, **{name: larger}),), coefficients=(1 / WEIGHT_SCALE,)
        )

    return scaled_weights


unit_class_weights = unit_weights_relation("class_weights")
unit_sample_weights = unit_weights_relation("sample_weights")
unit_positive_weight = unit_weights_relation("positive_weight")
scaled_class_weights = scaled_weights_relation("class_weights")
scaled_sample_weights = scaled_weights_relation("sample_weights")


@relation(supports=["sample_weights"])
def left_out_sample(problem: Problem, convention: Convention) -> Transformed:
    """A sample of weight 0 has no effect.

    Give a sample the weight 0, and compare with the batch without it.
    """
    count = count_samples(problem)
    if count < 2 or not has_per_sample_losses(problem, convention):
        return None
    if not has_finite_losses(take_samples(problem, [0])):
        return None
    weights = problem.options.sample_weights
    weights = np.ones(count, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[0] = 0
    if not np.any(weights):
        return None
    source = replace_options(problem, sample_weights=weights)
    is_counted = np.arange(count) > 0
    return MetamorphicGroup(source, (take_samples(source, np.flatnonzero(is_counted)),), scatter(is_counted))


@relation(
    targets=["index"],
    leaves_unset=["label_smoothing"],
    supports=["class_weights"],
    where=lambda problem, function: problem.labels.ndim == 1,
)
def left_out_class(problem: Problem, convention: Convention) -> Transformed:
    """Samples of a class of weight 0 have no effect.

    Give a class the weight 0, and compare with the batch without its samples.
    """
    counted_positions = np.flatnonzero(~ignored_mask(problem, convention))
    if not counted_positions.size or not labels_are_classes_or_ignored(problem, convention):
        return None
    label = problem.labels[counted_positions[0]]
    is_other = problem.labels != label
    if not (is_other & ~ignored_mask(problem, convention)).any() or not has_finite_losses(
        take_samples(problem, np.flatnonzero(~is_other))
    ):
        return None
    weights = problem.options.class_weights
    classes = problem.predictions.shape[-1]
    weights = np.ones(classes, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[label] = 0
    source = replace_options(problem, class_weights=weights)
    return MetamorphicGroup(source, (take_samples(source, np.flatnonzero(is_other)),), scatter(is_other))


@relation(
    targets=["index"],
    sets="class_weights",
    leaves_unset=["sample_weights", "label_smoothing"],
    supports=["sample_weights"],
)
def weighted_classes(problem: Problem, convention: Convention) -> Transformed:
    """Class weights have the same effect as sample weights that are those of the labels.

    Pass the weight of its class as the weight of each sample.
    """
    weights = problem.options.class_weights
    assert weights is not None
    if not labels_are_classes_or_ignored(problem, convention):
        return None
    of_class = weights[np.where(ignored_mask(problem, convention), 0, problem.labels)]
    return replace_options(problem, class_weights=None, sample_weights=of_class)


@relation(
    targets=["binary"],
    sets="positive_weight",
    leaves_unset=["sample_weights", "label_smoothing"],
    supports=["sample_weights"],
)
def weighted_positives(problem: Problem, convention: Convention) -> Transformed:
    """A positive weight has the same effect as weights of the outputs with label 1.

    Pass the positive weight as the weight of each output with label 1.
    """
    weights = problem.options.positive_weight
    assert weights is not None
    if convention.binary_outputs != "each":
        return None
    of_output = np.where(problem.labels == 1, weights, weights.dtype.type(1)).astype(weights.dtype)
    return replace_options(problem, positive_weight=None, sample_weights=of_output)


# Samples and reductions.


@relation()
def permuted_samples(problem: Problem, convention: Convention) -> Transformed:
    """Reversing the order of the samples reverses their losses.

    Reverse the order of samples along each sample axis.
    """
    permuted = problem
    axes = sample_axes(problem)
    for axis in axes:
        permuted = take_samples(permuted, np.arange(problem.predictions.shape[axis])[::-1], axis)
    return MetamorphicGroup(
        problem,
        (permuted,),
        lambda answers: np.flip(answers[0], tuple(axis for axis in axes if axis < answers[0].ndim)),
    )


@relation()
def concatenated(problem: Problem, convention: Convention) -> Transformed:
    """The losses of a batch are those of its two halves.

    Split the batch into its first half and the rest.
    """
    count = count_samples(problem)
    if count < 2 or not has_per_sample_losses(problem, convention):
        return None
    halves = np.split(np.arange(count), [count // 2])
    return MetamorphicGroup(problem, tuple(take_samples(problem, half) for half in halves), np.concatenate)


@relation()
def repeated_row(problem: Problem, convention: Convention) -> Transformed:
    """A row repeated k times has k times its loss, and the same mean.

    Repeat one row several times.
    """
    if not has_per_sample_losses(problem, convention):
        return None
    is_counted = ~ignored_mask(problem, convention).reshape(problem.labels.shape[0], -1).all(axis=1)
    row = take_samples(problem, [int(np.argmax(is_counted))])
    return MetamorphicGroup(take_samples(row, [0] * COPIES_OF_ROW), (row,) * COPIES_OF_ROW, np.concatenate)


@relation(where=lambda problem, function: not problem.sample_shape)
def batch_of_one(problem: Problem, convention: Convention) -> Transformed:
    """A sample without an axis of samples has the loss of a batch of one.

    Add an axis of samples.
    """
    weight = problem.options.sample_weights
    batch = replace_fields(problem, predictions=problem.predictions[np.newaxis], labels=problem.labels[np.newaxis])
    if weight is not None:
        batch = replace_options(batch, sample_weights=weight[np.newaxis])
    return MetamorphicGroup(problem, (batch,), lambda answers: answers[0].reshape(()))


@relation(where=lambda problem, function: len(sample_axes(problem)) > 1)
def one_axis(problem: Problem, convention: Convention) -> Transformed:
    """Flattening the sample axes does not change the losses.

    Put samples of several axes on one axis.
    """
    samples = problem.predictions.shape[: len(sample_axes(problem))]
    return MetamorphicGroup(
        problem, (flatten_samples(problem),), lambda answers: answers[0].reshape(samples + answers[0].shape[1:])
    )


@relation(supports=["mean"], where=lambda problem, function: problem.reduction == "sum", changes_reduction=True)
def sum_of_mean(problem: Problem, convention: Convention) -> Transformed:
    """The sum is the mean times its documented divisor."""
    return problem.with_reduction("mean")


@relation(supports=["none"], where=lambda problem, function: problem.reduction != "none", changes_reduction=True)
def sum_of_losses(problem: Problem, convention: Convention) -> Transformed:
    """The sum is that of the unreduced losses, and the mean is the sum over its documented divisor."""
    return problem.with_reduction("none")


@relation(targets=["index"])
def left_out_ignored(problem: Problem, convention: Convention) -> Transformed:
    """An ignored sample has no effect.

    Drop the samples whose label is ignored, after flattening. Their weights must be finite.
    """
    mask = ignored_mask(problem, convention)
    weights = flatten_samples(problem).options.sample_weights
    if not mask.any() or mask.all() or (weights is not None and not np.all(np.isfinite(weights[mask.reshape(-1)]))):
        return None
    return MetamorphicGroup(problem, (take_samples(flatten_samples(problem), np.flatnonzero(~mask)),), scatter(~mask))


@relation(targets=["index"], leaves_unset=["ignore_index"], supports=["ignore_index"])
def left_out_label(problem: Problem, convention: Convention) -> Transformed:
    """Any class can be ignored, also class 0.

    Ignore the lowest label, which may be 0, and compare with the batch without its samples.
    """
    labels = problem.labels[~ignored_mask(problem, convention)]
    if not labels.size:
        return None
    return left_out_ignored.group(replace_options(problem, ignore_index=int(labels.min())), convention)


# Layouts and repeated calls.


def memory_order_relation(order: Order) -> Relation:
    """A relation between C order and another memory order."""

    @relation(name=f"{order}_arrays", supports=[order], where=lambda problem, function: problem.layout.order == "c")
    def reordered(problem: Problem, convention: Convention) -> Transformed:
        """Arrays with another memory layout have the same loss."""
        if order == "broadcast":  # broadcast arrays repeat one row
            if not problem.sample_shape:
                return None
            problem = take_samples(problem, np.zeros(count_samples(problem), dtype=int))
        return MetamorphicGroup(problem, (replace_layout(problem, order=order),))

    return reordered


fortran_arrays = memory_order_relation("fortran")
strided_arrays = memory_order_relation("strided")
broadcast_arrays = memory_order_relation("broadcast")
readonly_arrays = memory_order_relation("readonly")


@relation(
    loss="categorical",
    supports=["class_axis_not_1"],
    where=lambda problem, function: problem.layout.class_axis == -1,
)
def classes_first(problem: Problem, convention: Convention) -> Transformed:
    """Classes on axis 0 have the same loss, if the axis is an argument."""
    return replace_layout(problem, class_axis=0)


@relation(
    loss="categorical",
    supports=["class_axis"],
    where=lambda problem, function: problem.layout.class_axis == -1 and problem.predictions.ndim > 2,
)
def classes_second(problem: Problem, convention: Convention) -> Transformed:
    """Classes on axis 1 have the same loss, if the axis is an argument."""
    return replace_layout(problem, class_axis=1)


# For outputs of rank 1, some functions take a column for a second axis, over which they document that they average.
@relation(
    targets=["index"],
    supports=["labels_column"],
    where=lambda problem, function: problem.labels.ndim == 1 and problem.layout.labels == "flat",
)
def labels_in_a_column(problem: Problem, convention: Convention) -> Transformed:
    """Labels of shape (N, 1) have the same losses as labels of shape (N,)."""
    return replace_layout(problem, labels="column")


def supports_narrow_labels(problem: Problem, function: Function) -> bool:
    accepted = function.label_dtypes(function.target_kind_for(problem.target_kind) or "", problem.dtype)
    return problem.layout.label_dtype is None and (not accepted or {"int8", "int32"} <= set(accepted))


@relation(targets=["index", "one_hot", "binary"], where=supports_narrow_labels)
def narrow_labels(problem: Problem, convention: Convention) -> Transformed:
    """Labels of another integer dtype have the same loss.

    Cast labels to int8 if they fit, otherwise to int32.
    """
    wide = bool(np.any(np.abs(problem.labels.astype(np.int64)) > np.iinfo(np.int8).max))
    return replace_layout(problem, label_dtype="int32" if wide else "int8")


@relation(repeats_call=True)
def asked_again(problem: Problem, convention: Convention) -> Transformed:
    """A repeated call returns the same result to the last bit.

    Repeat a call after a call with other arguments whose answer has the factor 0.
    """
    flipped = replace_fields(problem, predictions=np.flip(problem.predictions, -1 if problem.predictions.ndim else ()))
    return MetamorphicGroup(problem, (flipped, replace_fields(problem)), coefficients=(0.0, 1.0))


RELATIONS: tuple[Relation, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Relation))
"""All relations, in the order of the tables: that of their definitions."""


def check_relation_names(ledger: Ledger) -> None:
    """Raise CaseErrors if the ledger names a relation that does not exist."""
    names = [relation.name for relation in RELATIONS]
    wrong = [
        entry for entry in ledger.entries if entry.relation_name and not fnmatch.filter(names, entry.relation_name)
    ]
    if wrong:
        raise CaseErrors(tuple(map(_unknown_relation_error, wrong)))


def _unknown_relation_error(entry: KnownIssue) -> CaseFileError:
    advice = suggest(entry.relation_name, [relation.name for relation in RELATIONS])
    return CaseFileError(entry.path, entry.line, 1, "", f"{entry.relation_name} is not a relation", advice)
