"""Relations of labels: the order of classes, their encoding, smoothing, and soft labels.

A follow-up that is not exact in the dtype, such as a rounded 1 - p or smoothed label, is skipped.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.predictions import is_clipped
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    exact_cast,
    exact_complement,
    labels_are_classes_or_ignored,
    relation,
    relations_of,
    replace_fields,
    replace_layout,
    replace_options,
    take_samples,
)
from conformance.model.case import Array, Problem, numpy_dtype
from conformance.model.convention import Convention

SMOOTHING = 0.5
"""With this value, smoothed labels are exact for two and for four classes."""
MAX_CLASSES_DECOMPOSED = 8
"""Number of classes up to which a soft label is decomposed."""


@relation("permuted_classes", lambda problem, function: problem.loss == "categorical")
def reverse_classes(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Reversing the order of the classes does not change the loss.

    Reverse the order of classes in predictions, labels, weights and the ignored class.
    """
    classes = problem.predictions.shape[-1]
    if classes < 2 or not labels_are_classes_or_ignored(problem, convention):
        return None
    other = replace_fields(problem, predictions=problem.predictions[..., ::-1])
    options = problem.options
    if problem.target == "index":
        in_range = (problem.labels >= 0) & (problem.labels < classes)
        other = replace_fields(other, labels=np.where(in_range, classes - 1 - problem.labels, problem.labels))
    else:
        other = replace_fields(other, labels=problem.labels[..., ::-1])
    if options.class_weights is not None:
        other = replace_options(other, class_weights=options.class_weights[::-1])
    if options.ignore_index is not None and 0 <= options.ignore_index < classes:
        other = replace_options(other, ignore_index=classes - 1 - options.ignore_index)
    return MetamorphicGroup(problem, (other,))


@relation("permuted_outputs", lambda problem, function: problem.loss == "binary")
def reverse_outputs(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Reversing the order of the outputs reverses their losses.

    Reverse the order of outputs.
    """
    axis = problem.predictions.ndim - 1
    if axis == 0:
        return None
    other = take_samples(problem, np.arange(problem.predictions.shape[-1])[::-1], axis)
    each = convention.binary_outputs == "each"
    return MetamorphicGroup(problem, (other,), lambda answers: answers[0][..., ::-1] if each else answers[0])


def has_exact_complement(problem: Problem, function: Function) -> bool:
    plain = problem.input_kind in ("logits", "probabilities") and problem.options.positive_weight is None
    return (
        problem.loss == "binary" and plain and problem.input_kind in function.takes
    )  # a conversion loses one end before the other


@relation("opposite_outputs", has_exact_complement)
def complement_outputs(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """The opposite prediction with the opposite label has the same loss.

    Negate each output: -z or 1 - p against 1 - y.
    """
    x = problem.predictions
    predictions = -x if problem.input_kind == "logits" else exact_complement(x)
    labels = exact_complement(problem.labels.astype(np.int64) if problem.labels.dtype == bool else problem.labels)
    without_floor = dataclasses.replace(convention, log_floor=None)  # which both ends have, as they have no clip
    if predictions is None or labels is None or is_clipped(problem, without_floor):
        return None
    labels = labels if problem.labels.dtype.kind == "f" else labels.astype(problem.labels.dtype)
    return MetamorphicGroup(problem, (replace_fields(problem, predictions=predictions, labels=labels),))


def accepts_both_encodings(problem: Problem, function: Function) -> bool:
    plain = problem.target_kind in ("index", "one_hot") and problem.options.ignore_index is None
    return plain and {"index"} < function.targets.keys() and function.target_as("one_hot") == "one_hot"


@relation("other_encoding", accepts_both_encodings)
def change_encoding(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """An index label and its one-hot row have the same loss.

    Encode index labels as one-hot rows, and one-hot rows as index labels.
    """
    classes = problem.predictions.shape[-1]
    if problem.target == "distribution":
        indices = np.argmax(problem.labels.astype(np.float64), axis=-1)
        return MetamorphicGroup(
            problem, (replace_fields(replace_layout(problem, label_dtype=None), target="index", labels=indices),)
        )
    if not np.all((problem.labels >= 0) & (problem.labels < classes)):
        return None
    return MetamorphicGroup(problem, (_with_distribution(problem, np.eye(classes)[problem.labels]),))


def _with_distribution(problem: Problem, rows: Array) -> Problem:
    plain = replace_layout(problem, labels="flat", label_dtype=None)
    return replace_fields(plain, target="distribution", labels=rows.astype(numpy_dtype(problem.dtype)))


def is_unsmoothed(problem: Problem, function: Function) -> bool:
    return problem.options.label_smoothing is None and "label_smoothing" in function.options


@relation("no_smoothing", is_unsmoothed)
def add_zero_smoothing(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Label smoothing of 0 does not change the loss."""
    return MetamorphicGroup(problem, (replace_options(problem, label_smoothing=0.0),))


def accepts_soft_labels(problem: Problem, function: Function) -> bool:
    soft = "soft_binary" if problem.loss == "binary" else "distribution"
    return "label_smoothing" in function.options and soft in function.targets and problem.options.ignore_index is None


@relation("smoothed_labels", accepts_soft_labels)
def smooth_labels_first(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Smoothing labels before the call has the same effect as smoothing them in the function.

    Smooth labels by one half in the function, and before the call.
    """
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


def supports_decomposed_labels(problem: Problem, function: Function) -> bool:
    soft = problem.target_kind in ("distribution", "soft_binary") and problem.options.label_smoothing is None
    return soft and "none" in function.reductions and problem.reduction != "mean"


@relation("mixed_labels", supports_decomposed_labels)
def decompose_soft_labels(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """The loss of a soft label is the weighted sum of the losses of hard labels.

    Write the loss of a soft label as the weighted sum of the losses of hard labels.
    """
    shares = problem.labels.astype(np.float64)
    if problem.loss == "binary":
        rest = exact_complement(problem.labels)
        if convention.binary_outputs != "each" or rest is None:
            return None
        ends = [np.zeros_like(problem.labels), np.ones_like(problem.labels)]
        coefficients = [rest.astype(np.float64), shares]
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


def computes_both_losses(problem: Problem, function: Function) -> bool:
    plain = problem.target_kind == "binary" and problem.predictions.ndim == 1 and problem.input_kind == "probabilities"
    return plain and len(function.ranks) > 1 and problem.options.names() in ((), ("sample_weights",))


@relation("two_classes", computes_both_losses)
def as_two_classes(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """A binary output has the loss of two classes.

    Write one probability as the probabilities of two classes.
    """
    if (rest := exact_complement(problem.predictions)) is None:
        return None
    pairs = np.stack([rest, problem.predictions], axis=-1)
    other = replace_fields(
        problem, loss="categorical", target="index", predictions=pairs, labels=problem.labels.astype(int)
    )
    return MetamorphicGroup(problem, (replace_layout(other, label_dtype=None),))


RELATIONS = relations_of(globals())
