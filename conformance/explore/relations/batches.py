"""Relations of samples and reductions: the order of samples, split batches, and sums in terms of means."""

from __future__ import annotations

import numpy as np

from conformance.adapters.contract import Function
from conformance.explore.relations.relation import (
    MetamorphicGroup,
    flatten_samples,
    has_per_sample_losses,
    ignored_mask,
    relation,
    relations_of,
    replace_options,
    sample_axes,
    scatter,
    take_samples,
)
from conformance.model.case import Problem
from conformance.model.convention import Convention

COPIES = 3


@relation("permuted_samples")
def reverse_samples(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Reversing the order of the samples reverses their losses.

    Reverse the order of samples along each sample axis.
    """
    other = problem
    axes = sample_axes(problem)
    for axis in axes:
        other = take_samples(other, np.arange(problem.predictions.shape[axis])[::-1], axis)
    return MetamorphicGroup(
        problem,
        (other,),
        lambda answers: np.flip(answers[0], tuple(axis for axis in axes if axis < answers[0].ndim)),
    )


@relation("concatenated")
def split_batch(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """The losses of a batch are those of its two halves.

    Split the batch into its first half and the rest.
    """
    count = problem.predictions.shape[0]
    if count < 2 or not has_per_sample_losses(problem, convention):
        return None
    halves = np.split(np.arange(count), [count // 2])
    return MetamorphicGroup(problem, tuple(take_samples(problem, half) for half in halves), np.concatenate)


@relation("repeated_row")
def repeat_row(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """A row repeated k times has k times its loss, and the same mean.

    Repeat one row several times.
    """
    if not has_per_sample_losses(problem, convention):
        return None
    is_counted = ~ignored_mask(problem, convention).reshape(problem.labels.shape[0], -1).all(axis=1)
    row = take_samples(problem, [int(np.argmax(is_counted))])
    return MetamorphicGroup(take_samples(row, [0] * COPIES), (row,) * COPIES, np.concatenate)


@relation("one_axis", lambda problem, function: len(sample_axes(problem)) > 1)
def flatten_sample_axes(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """Flattening the sample axes does not change the losses.

    Put samples of several axes on one axis.
    """
    samples = problem.predictions.shape[: len(sample_axes(problem))]
    return MetamorphicGroup(
        problem, (flatten_samples(problem),), lambda answers: answers[0].reshape(samples + answers[0].shape[1:])
    )


@relation("sum_of_mean", lambda problem, function: problem.reduction == "sum" and "mean" in function.reductions)
def use_mean(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """The sum is the mean times its documented divisor."""
    return MetamorphicGroup(problem, (problem.with_reduction("mean"),))


@relation("sum_of_losses", lambda problem, function: problem.reduction != "none" and "none" in function.reductions)
def use_unreduced_losses(problem: Problem, convention: Convention) -> MetamorphicGroup:
    """The sum is that of the unreduced losses, and the mean is the sum over its documented divisor."""
    return MetamorphicGroup(problem, (problem.with_reduction("none"),))


@relation("left_out_ignored", lambda problem, function: problem.target == "index")
def drop_ignored(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """An ignored sample has no effect.

    Drop the samples whose label is ignored, after flattening. Their weights must be finite.
    """
    mask = ignored_mask(problem, convention)
    weights = flatten_samples(problem).options.sample_weights
    if not mask.any() or mask.all() or (weights is not None and not np.all(np.isfinite(weights[mask.reshape(-1)]))):
        return None
    return MetamorphicGroup(problem, (take_samples(flatten_samples(problem), np.flatnonzero(~mask)),), scatter(~mask))


def supports_new_ignore_index(problem: Problem, function: Function) -> bool:
    options = problem.options
    return problem.target == "index" and options.ignore_index is None and "ignore_index" in function.options


@relation("left_out_label", supports_new_ignore_index)
def ignore_one_class(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
    """Any class can be ignored, also class 0.

    Ignore the lowest label, which may be 0, and compare with the batch without its samples.
    """
    labels = problem.labels[~ignored_mask(problem, convention)]
    if not labels.size:
        return None
    return drop_ignored.transform(replace_options(problem, ignore_index=int(labels.min())), convention)


RELATIONS = relations_of(globals())
