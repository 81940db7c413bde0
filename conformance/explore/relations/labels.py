"""Labels: the order of classes, their encoding, and what smoothing and soft labels are made of.

A restatement that the dtype does not hold exactly, such as 1 - p or a smoothed label, is not made.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.predictions import clipped
from conformance.explore.relations.relation import (
    Relation,
    Restated,
    complement,
    laid,
    nameable,
    narrowed,
    opted,
    stated,
    taken,
)
from conformance.model.case import Array, Problem, numpy_dtype
from conformance.model.convention import Convention

SMOOTHING = 0.5
"""With it a smoothed label is exact for two classes and for four."""
PARTS = 8
"""Classes up to which a soft label is taken apart."""


def is_categorical(problem: Problem, function: Function) -> bool:
    return problem.loss == "categorical"


def with_classes_backwards(problem: Problem, convention: Convention) -> Restated | None:
    """The last class first, in predictions, labels, weights, and among them the class that is ignored."""
    classes = problem.predictions.shape[-1]
    if classes < 2 or not nameable(problem, convention):
        return None
    other = stated(problem, predictions=problem.predictions[..., ::-1])
    options = problem.options
    if problem.target == "index":
        names = (problem.labels >= 0) & (problem.labels < classes)
        other = stated(other, labels=np.where(names, classes - 1 - problem.labels, problem.labels))
    else:
        other = stated(other, labels=problem.labels[..., ::-1])
    if options.class_weights is not None:
        other = opted(other, class_weights=options.class_weights[::-1])
    if options.ignore_index is not None and 0 <= options.ignore_index < classes:
        other = opted(other, ignore_index=classes - 1 - options.ignore_index)
    return Restated(problem, (other,))


def is_binary(problem: Problem, function: Function) -> bool:
    return problem.loss == "binary"


def with_outputs_backwards(problem: Problem, convention: Convention) -> Restated | None:
    """The last output first."""
    axis = problem.predictions.ndim - 1
    if axis == 0:
        return None
    other = taken(problem, np.arange(problem.predictions.shape[-1])[::-1], axis)
    each = convention.binary_outputs == "each"
    return Restated(problem, (other,), lambda answers: answers[0][..., ::-1] if each else answers[0])


def is_symmetric(problem: Problem, function: Function) -> bool:
    plain = problem.given in ("logits", "probabilities") and problem.options.positive_weight is None
    return (
        problem.loss == "binary" and plain and problem.given in function.takes
    )  # a bridge loses one end before the other


def turned_round(problem: Problem, convention: Convention) -> Restated | None:
    """Every output asked the opposite: -z or 1 - p against 1 - y."""
    x = problem.predictions
    predictions = -x if problem.given == "logits" else complement(x)
    labels = complement(problem.labels.astype(np.int64) if problem.labels.dtype == bool else problem.labels)
    unfloored = dataclasses.replace(convention, log_floor=None)  # which both ends have, as they have no clip
    if predictions is None or labels is None or clipped(problem, unfloored):
        return None
    labels = labels if problem.labels.dtype.kind == "f" else labels.astype(problem.labels.dtype)
    return Restated(problem, (stated(problem, predictions=predictions, labels=labels),))


def takes_both_encodings(problem: Problem, function: Function) -> bool:
    plain = problem.target_kind in ("index", "one_hot") and problem.options.ignore_index is None
    return plain and {"index"} < function.targets and function.target_as("one_hot") == "one_hot"


def in_the_other_encoding(problem: Problem, convention: Convention) -> Restated | None:
    """Index labels as one-hot rows, and one-hot rows as index labels."""
    classes = problem.predictions.shape[-1]
    if problem.target == "distribution":
        indices = np.argmax(problem.labels.astype(np.float64), axis=-1)
        return Restated(problem, (stated(laid(problem, label_dtype=None), target="index", labels=indices),))
    if not np.all((problem.labels >= 0) & (problem.labels < classes)):
        return None
    return Restated(problem, (_distributed(problem, np.eye(classes)[problem.labels]),))


def _distributed(problem: Problem, rows: Array) -> Problem:
    plain = laid(problem, labels="flat", label_dtype=None)
    return stated(plain, target="distribution", labels=rows.astype(numpy_dtype(problem.dtype)))


def is_unsmoothed(problem: Problem, function: Function) -> bool:
    return problem.options.label_smoothing is None and "label_smoothing" in function.options


def with_smoothing_of_zero(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (opted(problem, label_smoothing=0.0),))


def takes_soft_labels(problem: Problem, function: Function) -> bool:
    soft = "soft_binary" if problem.loss == "binary" else "distribution"
    return "label_smoothing" in function.options and soft in function.targets and problem.options.ignore_index is None


def smoothed_beforehand(problem: Problem, convention: Convention) -> Restated | None:
    """Labels smoothed by one half, by the function and beforehand."""
    classes = 2 if problem.loss == "binary" else problem.predictions.shape[-1]
    whole = opted(problem, label_smoothing=SMOOTHING)
    if problem.target == "index":
        if not np.all((problem.labels >= 0) & (problem.labels < classes)):
            return None
        rows = np.eye(classes)[problem.labels]
    else:
        rows = problem.labels.astype(np.float64)
    exact = (1 - SMOOTHING) * rows + SMOOTHING / classes
    if not np.array_equal((exact - SMOOTHING / classes) / (1 - SMOOTHING), rows) or classes & (classes - 1):
        return None
    if (smoothed := narrowed(exact, numpy_dtype(problem.dtype))) is None:
        return None
    part = opted(whole, label_smoothing=None)
    if problem.target == "binary":
        return Restated(whole, (stated(laid(part, label_dtype=None), labels=smoothed),))
    return Restated(whole, (_distributed(part, smoothed),))


def takes_losses_apart(problem: Problem, function: Function) -> bool:
    soft = problem.target_kind in ("distribution", "soft_binary") and problem.options.label_smoothing is None
    return soft and "none" in function.reductions and problem.reduction != "mean"


def taken_apart(problem: Problem, convention: Convention) -> Restated | None:
    """The loss of a soft label, and that of each class by its share."""
    shares = problem.labels.astype(np.float64)
    if problem.loss == "binary":
        rest = complement(problem.labels)
        if convention.binary_outputs != "each" or rest is None:
            return None
        ends = [np.zeros_like(problem.labels), np.ones_like(problem.labels)]
        factors = [rest.astype(np.float64), shares]
    else:
        classes = problem.predictions.shape[-1]
        if classes > PARTS:
            return None
        ends = [np.broadcast_to(row, shares.shape).astype(problem.labels.dtype) for row in np.eye(classes)]
        factors = list(np.moveaxis(shares, -1, 0))
    none = problem.reduced("none")
    return Restated(problem, tuple(stated(none, labels=end) for end in ends), factors=tuple(factors))


def takes_both_losses(problem: Problem, function: Function) -> bool:
    plain = problem.target_kind == "binary" and problem.predictions.ndim == 1 and problem.given == "probabilities"
    return plain and len(function.ranks) > 1 and problem.options.names() in ((), ("sample_weights",))


def of_two_classes(problem: Problem, convention: Convention) -> Restated | None:
    """One probability, and the probabilities of two classes."""
    if (rest := complement(problem.predictions)) is None:
        return None
    pairs = np.stack([rest, problem.predictions], axis=-1)
    other = stated(problem, loss="categorical", target="index", predictions=pairs, labels=problem.labels.astype(int))
    return Restated(problem, (laid(other, label_dtype=None),))


RELATIONS = (
    Relation("permuted_classes", "No class is different for its number.", is_categorical, with_classes_backwards),
    Relation("permuted_outputs", "No output is different for where it stands.", is_binary, with_outputs_backwards),
    Relation("opposite_outputs", "To say no to the opposite is to say yes.", is_symmetric, turned_round),
    Relation(
        "other_encoding",
        "An index label and its one-hot row say the same.",
        takes_both_encodings,
        in_the_other_encoding,
    ),
    Relation("no_smoothing", "Smoothing by 0 smooths nothing.", is_unsmoothed, with_smoothing_of_zero),
    Relation(
        "smoothed_labels",
        "Smoothing is a mix of the label with the same share of every class.",
        takes_soft_labels,
        smoothed_beforehand,
    ),
    Relation(
        "mixed_labels",
        "A soft label has the mixture of the losses it is a mixture of.",
        takes_losses_apart,
        taken_apart,
    ),
    Relation("two_classes", "One output is two classes.", takes_both_losses, of_two_classes),
)
