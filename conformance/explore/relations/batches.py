"""Samples and their reduction: their order, several batches in one, and what a sum and a mean are made of."""

from __future__ import annotations

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    Relation,
    Restated,
    always,
    batched,
    flat,
    ignored,
    opted,
    placed,
    sample_axes,
    taken,
)
from conformance.model.case import Problem
from conformance.model.convention import Convention

COPIES = 3


def backwards(problem: Problem, convention: Convention) -> Restated | None:
    """The last sample first, along every axis of samples."""
    other = problem
    axes = sample_axes(problem)
    for axis in axes:
        other = taken(other, np.arange(problem.predictions.shape[axis])[::-1], axis)
    return Restated(
        problem,
        (other,),
        lambda answers: np.flip(answers[0], tuple(axis for axis in axes if axis < answers[0].ndim)),
    )


def in_two_batches(problem: Problem, convention: Convention) -> Restated | None:
    """The first half, and the rest."""
    count = problem.predictions.shape[0]
    if count < 2 or not batched(problem, convention):
        return None
    parts = np.split(np.arange(count), [count // 2])
    return Restated(problem, tuple(taken(problem, part) for part in parts), np.concatenate)


def repeated(problem: Problem, convention: Convention) -> Restated | None:
    """One row, and that row several times over."""
    if not batched(problem, convention):
        return None
    counts = ~ignored(problem, convention).reshape(problem.labels.shape[0], -1).all(axis=1)
    row = taken(problem, [int(np.argmax(counts))])
    return Restated(taken(row, [0] * COPIES), (row,) * COPIES, np.concatenate)


def has_axes(problem: Problem, function: Function) -> bool:
    return len(sample_axes(problem)) > 1


def on_one_axis(problem: Problem, convention: Convention) -> Restated:
    """Samples of several axes on one."""
    samples = problem.predictions.shape[: len(sample_axes(problem))]
    return Restated(problem, (flat(problem),), lambda answers: answers[0].reshape(samples + answers[0].shape[1:]))


def is_sum_and_has_mean(problem: Problem, function: Function) -> bool:
    return problem.reduction == "sum" and "mean" in function.reductions


def from_the_mean(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (problem.reduced("mean"),))


def is_reduced_and_has_none(problem: Problem, function: Function) -> bool:
    return problem.reduction != "none" and "none" in function.reductions


def from_the_losses(problem: Problem, convention: Convention) -> Restated:
    return Restated(problem, (problem.reduced("none"),))


def can_ignore(problem: Problem, function: Function) -> bool:
    return problem.target == "index"


def without_ignored(problem: Problem, convention: Convention) -> Restated | None:
    """Without the samples whose label is ignored, which are on one axis then; what they weigh must be finite."""
    gone = ignored(problem, convention)
    weights = flat(problem).options.sample_weights
    if not gone.any() or gone.all() or (weights is not None and not np.all(np.isfinite(weights[gone.reshape(-1)]))):
        return None
    return Restated(problem, (taken(flat(problem), np.flatnonzero(~gone)),), placed(~gone))


def can_begin_to_ignore(problem: Problem, function: Function) -> bool:
    options = problem.options
    return problem.target == "index" and options.ignore_index is None and "ignore_index" in function.options


def with_a_class_ignored(problem: Problem, convention: Convention) -> Restated | None:
    """Without the samples of a class that is ignored: of the lowest label, which may be 0."""
    counted = problem.labels[~ignored(problem, convention)]
    return without_ignored(opted(problem, ignore_index=int(counted.min())), convention) if counted.size else None


RELATIONS = (
    Relation("permuted_samples", "No sample is different for where it stands in the batch.", always, backwards),
    Relation(
        "concatenated",
        "Two batches put one after the other have the losses of both, and of the mean what its divisor says.",
        always,
        in_two_batches,
    ),
    Relation("repeated_row", "One row k times has k times its loss, and the same mean.", always, repeated),
    Relation("one_axis", "It makes no difference on how many axes the samples stand.", has_axes, on_one_axis),
    Relation(
        "sum_of_mean",
        "The sum is the mean times what it documents to divide by.",
        is_sum_and_has_mean,
        from_the_mean,
    ),
    Relation(
        "sum_of_losses",
        "The sum is that of the unreduced losses, and the mean is it by what it documents to divide by.",
        is_reduced_and_has_none,
        from_the_losses,
    ),
    Relation("left_out_ignored", "An ignored sample is as good as left out.", can_ignore, without_ignored),
    Relation(
        "left_out_label", "Any class can be ignored, the first as well.", can_begin_to_ignore, with_a_class_ignored
    ),
)
