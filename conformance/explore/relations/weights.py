"""Relations of weights: weights of one and of zero, scaled weights, and equivalent weights of another kind."""

from __future__ import annotations

from typing import Literal

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    Relation,
    has_finite_losses,
    has_per_sample_losses,
    ignored_mask,
    labels_are_classes_or_ignored,
    relation,
    relations_of,
    replace_options,
    scatter,
    take_samples,
)
from conformance.model.case import Array, Problem, numpy_dtype
from conformance.model.convention import Convention
from conformance.reference.domain import dtype_info

Weights = Literal["class_weights", "sample_weights", "positive_weight"]
SCALE = 4.0


def unit_weights_relation(name: Weights) -> Relation:

    def applies(problem: Problem, function: Function) -> bool:
        fits = problem.loss == {"class_weights": "categorical", "positive_weight": "binary"}.get(name, problem.loss)
        return fits and name in function.options and getattr(problem.options, name) is None

    @relation(f"unit_{name}", applies)
    def unit_weights(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
        """Weights of one have the same effect as no weights."""
        if name == "sample_weights" and not has_per_sample_losses(problem, convention):
            return None
        shape = {
            "class_weights": problem.predictions.shape[-1:],
            "sample_weights": problem.predictions.shape[:1],
            "positive_weight": (),
        }[name]
        return MetamorphicGroup(
            problem, (replace_options(problem, **{name: np.ones(shape, numpy_dtype(problem.dtype))}),)
        )

    return unit_weights


def scaled_weights_relation(name: Weights) -> Relation:

    @relation(f"scaled_{name}", lambda problem, function: getattr(problem.options, name) is not None)
    def scaled_weights(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
        """Multiplying the weights by four multiplies the losses by four."""
        weights: Array = getattr(problem.options, name)
        larger = weights * weights.dtype.type(SCALE)
        wide = weights.astype(np.float64)
        limit = dtype_info(problem.dtype).largest / problem.predictions.size  # no sum of weights may overflow
        if not np.array_equal(larger.astype(np.float64), wide * SCALE) or np.any(np.abs(wide) * SCALE > limit):
            return None
        return MetamorphicGroup(problem, (replace_options(problem, **{name: larger}),), coefficients=(1 / SCALE,))

    return scaled_weights


@relation("left_out_sample", lambda problem, function: "sample_weights" in function.options)
def drop_zero_weight_sample(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """A sample of weight 0 has no effect.

    Give a sample the weight 0, and compare with the batch without it.
    """
    count = problem.predictions.shape[0]
    first = take_samples(problem, [0])
    if count < 2 or not has_per_sample_losses(problem, convention) or not has_finite_losses(first):
        return None
    weights = problem.options.sample_weights
    weights = np.ones(count, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[0] = 0
    if not np.any(weights):
        return None
    source = replace_options(problem, sample_weights=weights)
    is_counted = np.arange(count) > 0
    return MetamorphicGroup(source, (take_samples(source, np.flatnonzero(is_counted)),), scatter(is_counted))


def accepts_class_weights(problem: Problem, function: Function) -> bool:
    plain = problem.target == "index" and problem.options.label_smoothing is None
    return plain and problem.labels.ndim == 1 and "class_weights" in function.options


@relation("left_out_class", accepts_class_weights)
def drop_zero_weight_class(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Samples of a class of weight 0 have no effect.

    Give a class the weight 0, and compare with the batch without its samples.
    """
    counted_positions = np.flatnonzero(~ignored_mask(problem, convention))
    if not counted_positions.size or not labels_are_classes_or_ignored(problem, convention):
        return None
    label = problem.labels[counted_positions[0]]
    kept = problem.labels != label
    if not (kept & ~ignored_mask(problem, convention)).any() or not has_finite_losses(
        take_samples(problem, np.flatnonzero(~kept))
    ):
        return None
    weights = problem.options.class_weights
    classes = problem.predictions.shape[-1]
    weights = np.ones(classes, numpy_dtype(problem.dtype)) if weights is None else np.array(weights)
    weights[label] = 0
    source = replace_options(problem, class_weights=weights)
    return MetamorphicGroup(source, (take_samples(source, np.flatnonzero(kept)),), scatter(kept))


def supports_class_weights_as_sample_weights(problem: Problem, function: Function) -> bool:
    options = problem.options
    plain = options.class_weights is not None and options.sample_weights is None and options.label_smoothing is None
    return plain and problem.target == "index" and "sample_weights" in function.options


@relation("weighted_classes", supports_class_weights_as_sample_weights)
def class_weights_as_sample_weights(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Class weights have the same effect as sample weights that are those of the labels.

    Pass the weight of its class as the weight of each sample.
    """
    weights = problem.options.class_weights
    assert weights is not None
    if not labels_are_classes_or_ignored(problem, convention):
        return None
    of_class = weights[np.where(ignored_mask(problem, convention), 0, problem.labels)]
    return MetamorphicGroup(problem, (replace_options(problem, class_weights=None, sample_weights=of_class),))


def supports_positive_weight_as_sample_weights(problem: Problem, function: Function) -> bool:
    options = problem.options
    plain = options.positive_weight is not None and options.sample_weights is None and options.label_smoothing is None
    return plain and problem.target_kind == "binary" and "sample_weights" in function.options


@relation("weighted_positives", supports_positive_weight_as_sample_weights)
def positive_weight_as_sample_weights(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """A positive weight has the same effect as weights of the outputs with label 1.

    Pass the positive weight as the weight of each output with label 1.
    """
    weights = problem.options.positive_weight
    assert weights is not None
    if convention.binary_outputs != "each":
        return None
    of_output = np.where(problem.labels == 1, weights, weights.dtype.type(1)).astype(weights.dtype)
    return MetamorphicGroup(problem, (replace_options(problem, positive_weight=None, sample_weights=of_output),))


RELATIONS = (
    unit_weights_relation("class_weights"),
    unit_weights_relation("sample_weights"),
    unit_weights_relation("positive_weight"),
    scaled_weights_relation("class_weights"),
    scaled_weights_relation("sample_weights"),
    *relations_of(globals()),
)
