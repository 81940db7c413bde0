"""Weights: of one, which say nothing; of zero, which leave out; larger by a power of two; and what they stand for."""

from __future__ import annotations

from typing import Literal

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    Relation,
    Restated,
    batched,
    finite,
    ignored,
    nameable,
    opted,
    placed,
    taken,
)
from conformance.model.case import Array, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.domain import numpy_info

Weights = Literal["class_weights", "sample_weights", "positive_weight"]
SCALE = 4.0


def of_one(name: Weights, why: str) -> Relation:
    """Weights of one where there were none."""

    def concerns(problem: Problem, function: Function) -> bool:
        fits = problem.loss == {"class_weights": "categorical", "positive_weight": "binary"}.get(name, problem.loss)
        return fits and name in function.options and getattr(problem.options, name) is None

    def restated(problem: Problem, convention: Convention) -> Restated | None:
        if name == "sample_weights" and not batched(problem, convention):
            return None
        shape = {
            "class_weights": problem.predictions.shape[-1:],
            "sample_weights": problem.predictions.shape[:1],
            "positive_weight": (),
        }[name]
        return Restated(problem, (opted(problem, **{name: np.ones(shape, numpy_dtype(problem.dtype))}),))

    return Relation(f"unit_{name}", why, concerns, restated)


def scaled(name: Weights, why: str) -> Relation:
    """Weights four times as large, which no rounding notices."""

    def concerns(problem: Problem, function: Function) -> bool:
        return getattr(problem.options, name) is not None

    def restated(problem: Problem, convention: Convention) -> Restated | None:
        weights: Array = getattr(problem.options, name)
        larger = weights * weights.dtype.type(SCALE)
        wide = weights.astype(np.float64)
        most = numpy_info(problem.dtype)[3] / problem.predictions.size  # no sum of weights may overflow
        if not np.array_equal(larger.astype(np.float64), wide * SCALE) or np.any(np.abs(wide) * SCALE > most):
            return None
        return Restated(problem, (opted(problem, **{name: larger}),), factors=(1 / SCALE,))

    return Relation(f"scaled_{name}", why, concerns, restated)


def takes_sample_weights(problem: Problem, function: Function) -> bool:
    return "sample_weights" in function.options


def without_weight(problem: Problem, convention: Convention) -> Restated | None:
    """A sample of weight 0, and the batch without it."""
    count = problem.predictions.shape[0]
    first = taken(problem, [0])
    if count < 2 or not batched(problem, convention) or not finite(first):
        return None
    weights = problem.options.sample_weights
    weights = np.ones(count, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[0] = 0
    if not np.any(weights):
        return None
    whole = opted(problem, sample_weights=weights)
    counts = np.arange(count) > 0
    return Restated(whole, (taken(whole, np.flatnonzero(counts)),), placed(counts))


def takes_class_weights(problem: Problem, function: Function) -> bool:
    plain = problem.target == "index" and problem.options.label_smoothing is None
    return plain and problem.labels.ndim == 1 and "class_weights" in function.options


def without_class(problem: Problem, convention: Convention) -> Restated | None:
    """A class of weight 0, and the batch without its samples."""
    counted = np.flatnonzero(~ignored(problem, convention))
    if not counted.size or not nameable(problem, convention):
        return None
    label = problem.labels[counted[0]]
    kept = problem.labels != label
    if not (kept & ~ignored(problem, convention)).any() or not finite(taken(problem, np.flatnonzero(~kept))):
        return None
    weights = problem.options.class_weights
    classes = problem.predictions.shape[-1]
    weights = np.ones(classes, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[label] = 0
    whole = opted(problem, class_weights=weights)
    return Restated(whole, (taken(whole, np.flatnonzero(kept)),), placed(kept))


def weighs_classes_and_samples(problem: Problem, function: Function) -> bool:
    options = problem.options
    plain = options.class_weights is not None and options.sample_weights is None and options.label_smoothing is None
    return plain and problem.target == "index" and "sample_weights" in function.options


def classes_as_samples(problem: Problem, convention: Convention) -> Restated | None:
    """The weight of its class as the weight of each sample."""
    weights = problem.options.class_weights
    assert weights is not None
    if not nameable(problem, convention):
        return None
    of_class = weights[np.where(ignored(problem, convention), 0, problem.labels)]
    return Restated(problem, (opted(problem, class_weights=None, sample_weights=of_class),))


def weighs_positives_and_samples(problem: Problem, function: Function) -> bool:
    options = problem.options
    plain = options.positive_weight is not None and options.sample_weights is None and options.label_smoothing is None
    return plain and problem.target_kind == "binary" and "sample_weights" in function.options


def positives_as_samples(problem: Problem, convention: Convention) -> Restated | None:
    """The positive weight as the weight of each output whose label is 1."""
    weights = problem.options.positive_weight
    assert weights is not None
    if convention.binary_outputs != "each":
        return None
    of_output = np.where(problem.labels == 1, weights, weights.dtype.type(1)).astype(weights.dtype)
    return Restated(problem, (opted(problem, positive_weight=None, sample_weights=of_output),))


RELATIONS = (
    of_one("class_weights", "Classes that weigh 1 weigh as those that nobody weighs."),
    of_one("sample_weights", "Samples that weigh 1 weigh as those that nobody weighs."),
    of_one("positive_weight", "Positive labels that weigh 1 weigh as the others."),
    scaled("class_weights", "Four times the class weights are four times the losses."),
    scaled("sample_weights", "Four times the sample weights are four times the losses."),
    Relation("left_out_sample", "A sample of weight 0 is as good as left out.", takes_sample_weights, without_weight),
    Relation("left_out_class", "A class of weight 0 is as good as left out.", takes_class_weights, without_class),
    Relation(
        "weighted_classes",
        "A class weighs what each of its samples then weighs.",
        weighs_classes_and_samples,
        classes_as_samples,
    ),
    Relation(
        "weighted_positives",
        "Positive labels weigh what each of their outputs then weighs.",
        weighs_positives_and_samples,
        positives_as_samples,
    ),
)
