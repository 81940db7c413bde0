"""Relations of samples and reductions: the order of samples, split batches, and sums in terms of means."""

from __future__ import annotations

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    Relation,
    Restatement,
    always,
    flatten_samples,
    has_batch_axis,
    ignored_mask,
    replace_options,
    sample_axes,
    scatter,
    take_samples,
)
from conformance.model.case import Problem
from conformance.model.convention import Convention

COPIES = 3


def reverse_samples(problem: Problem, convention: Convention) -> Restatement | None:
    """Reverse the order of samples along each sample axis."""
    other = problem
    axes = sample_axes(problem)
    for axis in axes:
        other = take_samples(other, np.arange(problem.predictions.shape[axis])[::-1], axis)
    return Restatement(
        problem,
        (other,),
        lambda answers: np.flip(answers[0], tuple(axis for axis in axes if axis < answers[0].ndim)),
    )


def split_batch(problem: Problem, convention: Convention) -> Restatement | None:
    """Split the batch into its first half and the rest."""
    count = problem.predictions.shape[0]
    if count < 2 or not has_batch_axis(problem, convention):
        return None
    parts = np.split(np.arange(count), [count // 2])
    return Restatement(problem, tuple(take_samples(problem, part) for part in parts), np.concatenate)


def repeat_row(problem: Problem, convention: Convention) -> Restatement | None:
    """Repeat one row several times."""
    if not has_batch_axis(problem, convention):
        return None
    is_counted = ~ignored_mask(problem, convention).reshape(problem.labels.shape[0], -1).all(axis=1)
    row = take_samples(problem, [int(np.argmax(is_counted))])
    return Restatement(take_samples(row, [0] * COPIES), (row,) * COPIES, np.concatenate)


def has_several_sample_axes(problem: Problem, function: Function) -> bool:
    return len(sample_axes(problem)) > 1


def flatten_sample_axes(problem: Problem, convention: Convention) -> Restatement:
    """Put samples of several axes on one axis."""
    samples = problem.predictions.shape[: len(sample_axes(problem))]
    return Restatement(
        problem, (flatten_samples(problem),), lambda answers: answers[0].reshape(samples + answers[0].shape[1:])
    )


def is_sum_and_has_mean(problem: Problem, function: Function) -> bool:
    return problem.reduction == "sum" and "mean" in function.reductions


def use_mean(problem: Problem, convention: Convention) -> Restatement:
    return Restatement(problem, (problem.reduced("mean"),))


def is_reduced_and_has_none(problem: Problem, function: Function) -> bool:
    return problem.reduction != "none" and "none" in function.reductions


def use_unreduced_losses(problem: Problem, convention: Convention) -> Restatement:
    return Restatement(problem, (problem.reduced("none"),))


def has_index_labels(problem: Problem, function: Function) -> bool:
    return problem.target == "index"


def drop_ignored(problem: Problem, convention: Convention) -> Restatement | None:
    """Drop the samples whose label is ignored, after flattening. Their weights must be finite."""
    mask = ignored_mask(problem, convention)
    weights = flatten_samples(problem).options.sample_weights
    if not mask.any() or mask.all() or (weights is not None and not np.all(np.isfinite(weights[mask.reshape(-1)]))):
        return None
    return Restatement(problem, (take_samples(flatten_samples(problem), np.flatnonzero(~mask)),), scatter(~mask))


def supports_new_ignore_index(problem: Problem, function: Function) -> bool:
    options = problem.options
    return problem.target == "index" and options.ignore_index is None and "ignore_index" in function.options


def ignore_one_class(problem: Problem, convention: Convention) -> Restatement | None:
    """Ignore the lowest label, which may be 0, and compare with the batch without its samples."""
    labels = problem.labels[~ignored_mask(problem, convention)]
    return drop_ignored(replace_options(problem, ignore_index=int(labels.min())), convention) if labels.size else None


RELATIONS = (
    Relation("permuted_samples", "No sample is different for where it stands in the batch.", always, reverse_samples),
    Relation(
        "concatenated",
        "Two batches put one after the other have the losses of both, and of the mean what its divisor says.",
        always,
        split_batch,
    ),
    Relation("repeated_row", "One row k times has k times its loss, and the same mean.", always, repeat_row),
    Relation(
        "one_axis",
        "It makes no difference on how many axes the samples stand.",
        has_several_sample_axes,
        flatten_sample_axes,
    ),
    Relation(
        "sum_of_mean",
        "The sum is the mean times what it documents to divide by.",
        is_sum_and_has_mean,
        use_mean,
    ),
    Relation(
        "sum_of_losses",
        "The sum is that of the unreduced losses, and the mean is it by what it documents to divide by.",
        is_reduced_and_has_none,
        use_unreduced_losses,
    ),
    Relation("left_out_ignored", "An ignored sample is as good as left out.", has_index_labels, drop_ignored),
    Relation(
        "left_out_label", "Any class can be ignored, the first as well.", supports_new_ignore_index, ignore_one_class
    ),
)
