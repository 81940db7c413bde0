"""Metamorphic relations as data and pure functions: a source problem, its follow-up problems, and how their results
combine.

A relation is a statement about sums. For a mean, `checker` multiplies the documented divisor back in, so that a
relation that holds for sums also checks each divisor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import Function
from conformance.model.case import WEIGHTS, Array, Loss, Problem
from conformance.model.convention import Convention
from conformance.model.floats import Floats

Coefficient = float | Floats
Combiner = Callable[[Sequence[Floats]], Floats]
"""Combines the unreduced results of the follow-ups to the unreduced result of the source."""


def add_elementwise(answers: Sequence[Floats]) -> Floats:
    """Add results elementwise; a single one is returned unchanged."""
    return sum(answers[1:], answers[0])


def scatter(mask: npt.NDArray[np.bool_]) -> Combiner:
    """Return a combiner that puts the losses of one follow-up at the True positions of `mask`, and 0 elsewhere."""

    def combine(answers: Sequence[Floats]) -> Floats:
        losses = np.zeros(mask.shape + answers[0].shape[1:])
        losses[mask] = answers[0]
        return losses

    return combine


@dataclass(frozen=True, eq=False)
class MetamorphicGroup:
    """A source problem, and follow-up problems whose results determine its result."""

    source: Problem
    follow_ups: tuple[Problem, ...]
    combine: Combiner = add_elementwise
    """Combines the unreduced results of the follow-ups. If the source is reduced, their sums are added instead."""
    coefficients: tuple[Coefficient, ...] = ()
    """Coefficient of each follow-up's result, exact in float64: a number, or an array shaped as its unreduced result.
    Where it is 0, the result is not examined. Empty means 1 for each follow-up.
    """
    is_rounded: bool = False
    """Whether the predictions of the follow-ups were rounded once, as by a conversion."""


@dataclass(frozen=True)
class Relation:
    """A metamorphic relation. It holds for each implementation that follows the convention that it documents."""

    name: str
    description: str
    """The property that must hold, as one sentence."""
    is_about: Callable[[Problem], bool]
    """Whether a problem is of the kind that is transformed; examines neither arrays nor conventions."""
    is_supported: Callable[[Function], bool]
    """Whether a function declares what the source and the follow-ups need."""
    is_callable: Callable[[Problem, Function], bool]
    """Whether a function can be called with the source and the follow-ups, if both of the above hold."""
    group: Callable[[Problem, Convention], MetamorphicGroup | None]
    """Creates the group of a problem, given the function's documented convention; None if the problem has no follow-up,
    or no exact one.
    """
    repeats_call: bool = False
    """Whether source and follow-up are intentionally the same call."""
    changes_reduction: bool = False
    """Whether a follow-up may have another reduction than the source."""

    def group_of(self, problem: Problem, convention: Convention) -> MetamorphicGroup | None:
        """The group of a problem; if relations keep the reduction, the groups of all reductions share their arrays.

        The problems of a shared group cache derived results for each function that documents the
        convention.
        """
        if self.changes_reduction:
            return self.group(problem, convention)
        key = ("group", self.name, convention)
        group = problem.unreduced.computed_once(key, lambda: self.group(problem.unreduced, convention))
        if group is None:
            return None
        reduced = {problem.unreduced: problem}
        for member in (group.source, *group.follow_ups):
            if member not in reduced:
                reduced[member] = member.with_reduction(problem.reduction)
        follow_ups = tuple(reduced[follow_up] for follow_up in group.follow_ups)
        return dataclasses.replace(group, source=reduced[group.source], follow_ups=follow_ups)

    def applies(self, problem: Problem, function: Function) -> bool:
        """Whether a function can be called with the source and the follow-ups, by what it declares."""
        return self.is_about(problem) and self.is_supported(function) and self.is_callable(problem, function)


def relation(
    *,
    name: str = "",
    loss: Loss | None = None,
    input_kinds: Collection[str] = (),
    targets: Collection[str] = (),
    sets: str = "",
    leaves_unset: Collection[str] = (),
    supports: Collection[str] = (),
    where: Callable[[Problem, Function], bool] = lambda problem, function: True,
    repeats_call: bool = False,
    changes_reduction: bool = False,
) -> Callable[[Callable[[Problem, Convention], MetamorphicGroup | Problem | None]], Relation]:
    """Create a `Relation` from a function that transforms a problem into its only follow-up, or into a group.

    Its name is that of the function unless another one is given; its description is the first line of the docstring.

    loss, input_kinds, targets: loss, kinds of predictions and of targets (`Problem.target_kind`) that it applies to.
    sets, leaves_unset: options that a problem must set or not set.
    supports: options, layouts, reductions, dtypes and kinds of predictions that a function must declare.
    where: any other condition on the problem and the function.
    repeats_call, changes_reduction: see `Relation`.
    """

    def is_about(problem: Problem) -> bool:
        options = problem.options
        return (
            loss in (None, problem.loss)
            and (not input_kinds or problem.input_kind in input_kinds)
            and (not sets or getattr(options, sets) is not None)
            and all(getattr(options, option) is None for option in leaves_unset)
            and (not targets or bool({*targets} & _target_kinds(problem)))
        )

    def is_supported(function: Function) -> bool:
        return all(_declares(function, name) for name in supports)

    def decorate(transform: Callable[[Problem, Convention], MetamorphicGroup | Problem | None]) -> Relation:
        def group(problem: Problem, convention: Convention) -> MetamorphicGroup | None:
            transformed = transform(problem, convention)
            return MetamorphicGroup(problem, (transformed,)) if isinstance(transformed, Problem) else transformed

        description = (transform.__doc__ or "").partition("\n")[0]
        return Relation(
            name or transform.__name__,
            description,
            is_about,
            is_supported,
            where,
            group,
            repeats_call=repeats_call,
            changes_reduction=changes_reduction,
        )

    return decorate


def _target_kinds(problem: Problem) -> frozenset[str]:
    """The kinds of target of a problem; `multi_hot` rows are a case of distributions."""
    kind = problem.target_kind
    return frozenset({kind, "distribution"} if kind == "multi_hot" else {kind})


def _declares(function: Function, name: str) -> bool:
    declared = (function.options, function.input_kinds, function.reductions, function.dtypes, function.layouts)
    return any(name in names for names in declared)


# Parts of transformations.


def replace_fields(problem: Problem, **changes: Any) -> Problem:
    """The problem with some fields replaced; arrays become read-only."""
    return dataclasses.replace(problem, **{name: _read_only(value) for name, value in changes.items()})


def replace_options(problem: Problem, **options: Any) -> Problem:
    """The problem with some options replaced."""
    changed = problem.with_options(**{name: _read_only(value) for name, value in options.items()})
    return replace_layout(changed, weight_dtype=None) if options.keys() & set(WEIGHTS) else changed


def replace_layout(problem: Problem, **layout: Any) -> Problem:
    """The problem with some fields of its layout replaced."""
    return dataclasses.replace(problem, layout=dataclasses.replace(problem.layout, **layout))


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):  # arithmetic makes the latter of arrays without axes
        value = np.asarray(value).view()
        value.flags.writeable = False
    return value


def sample_axes(problem: Problem) -> tuple[int, ...]:
    """The axes that index samples; none for a single sample without one. A binary loss may average over the last axis
    if there are several, so it is excluded.
    """
    rank = problem.predictions.ndim
    return tuple(range(rank - 1)) if rank > 1 else tuple(range(len(problem.sample_shape)))


def has_per_sample_losses(problem: Problem, convention: Convention) -> bool:
    """Whether each sample of the first axis has a loss. False without samples, or if the only axis is averaged."""
    averaged = problem.loss == "binary" and convention.binary_outputs == "mean_of_last_axis"
    return count_samples(problem) > 0 and not (averaged and problem.predictions.ndim == 1)


def count_samples(problem: Problem) -> int:
    """The length of the first axis of samples; 0 if there is none."""
    return problem.sample_shape[0] if problem.sample_shape else 0


def take_samples(problem: Problem, index: Any, axis: int = 0) -> Problem:
    """Select and order samples along an axis; each array that has the axis is indexed along it."""
    rank = problem.predictions.ndim
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None and weights.ndim > axis:
        changes["sample_weights"] = np.take(weights, index, axis)
    positive = options.positive_weight
    if positive is not None and (own_axis := axis - (rank - positive.ndim)) >= 0 and positive.shape[own_axis] != 1:
        changes["positive_weight"] = np.take(positive, index, own_axis)
    predictions, labels = (np.take(values, index, axis) for values in (problem.predictions, problem.labels))
    return replace_options(replace_fields(problem, predictions=predictions, labels=labels), **changes)


def flatten_samples(problem: Problem) -> Problem:
    """Put all samples on one axis, [N d1 ..., C]; for a binary loss [N, C]."""
    axes = sample_axes(problem)
    count = int(np.prod([problem.predictions.shape[axis] for axis in axes]))
    trailing = problem.predictions.shape[len(axes) :]
    samples = problem.predictions.shape[: len(axes)]
    options = problem.options
    changes: dict[str, Array] = {}
    if (weights := options.sample_weights) is not None:
        trailing_of_weights = trailing if weights.ndim == problem.predictions.ndim and problem.loss == "binary" else ()
        spread = weights.reshape(weights.shape + (1,) * (len(samples) + len(trailing_of_weights) - weights.ndim))
        changes["sample_weights"] = np.broadcast_to(spread, samples + trailing_of_weights).reshape(
            (count, *trailing_of_weights)
        )
    if (positive := options.positive_weight) is not None and positive.ndim > len(trailing):
        changes["positive_weight"] = np.broadcast_to(positive, problem.predictions.shape).reshape((count, *trailing))
    labels = problem.labels.reshape((count, *(() if problem.target == "index" else trailing)))
    source = replace_fields(problem, predictions=problem.predictions.reshape((count, *trailing)), labels=labels)
    return replace_layout(replace_options(source, **changes), class_axis=-1)


def ignored_mask(problem: Problem, convention: Convention) -> npt.NDArray[np.bool_]:
    """Mask of the ignored samples, bool, shaped as the labels."""
    if problem.target != "index":
        return np.zeros(problem.labels.shape, dtype=bool)
    labels = (problem.options.ignore_index, convention.default_ignore_index)
    return np.isin(problem.labels, [label for label in labels if label is not None])


def labels_are_classes_or_ignored(problem: Problem, convention: Convention) -> bool:
    """Whether each label is a class or ignored, and `ignore_index` is not a class by default."""
    if problem.target != "index":
        return True
    classes = problem.predictions.shape[-1]
    in_range = (problem.labels >= 0) & (problem.labels < classes)
    default = convention.default_ignore_index
    return bool(np.all(in_range | ignored_mask(problem, convention))) and (
        default is None or not 0 <= default < classes
    )


def has_finite_losses(problem: Problem) -> bool:
    """Whether each loss is finite, so that 0 times it is 0: all arrays are finite and no probability is 0 or 1."""
    weights = [getattr(problem.options, name) for name in ("class_weights", "sample_weights", "positive_weight")]
    arrays = [problem.predictions, problem.labels, *(array for array in weights if array is not None)]
    x = problem.predictions.astype(np.float64)
    certain = {"probabilities": (x <= 0) | (x >= 1), "log_probabilities": x >= 0}.get(problem.input_kind, np.False_)
    return not np.any(certain) and all(bool(np.all(np.isfinite(array.astype(np.float64)))) for array in arrays)


def targets_sum_to_one(problem: Problem) -> bool:
    """Whether the targets of each row of a categorical problem sum to 1 exactly."""
    if problem.target == "index":
        return True
    rows = problem.labels.astype(np.float64).reshape(-1, problem.labels.shape[-1])
    return bool(np.all(rows.sum(axis=1) == 1))


def counts_log_sum_exp_once(problem: Problem, convention: Convention) -> bool:
    """Whether a documented choice makes the loss of logits differ from the weighted sum of the losses per class."""
    weighted = problem.options.class_weights is not None
    return convention.log_sum_exp == "one" and (weighted or not targets_sum_to_one(problem))


def exact_cast(exact: Floats, dtype: np.dtype[Any]) -> Array | None:
    """Cast to a dtype; None unless the cast is exact."""
    with np.errstate(over="ignore", under="ignore"):
        values = exact.astype(dtype)
    return values if np.array_equal(values.astype(np.float64), exact, equal_nan=True) else None


def exact_complement(values: Array) -> Array | None:
    """Compute 1 - x in the dtype of x; None unless it is exact."""
    exact = values.astype(np.float64)
    complement = 1.0 - exact
    if not np.array_equal(1.0 - complement, exact):
        return None
    return complement if values.dtype.kind in "biu" else exact_cast(complement, values.dtype)
