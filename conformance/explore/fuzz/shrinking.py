"""The last step of shrinking: remove samples and classes one at a time.

A sample or a class consists of many choices that are spread over the list of choices, so that Hypothesis does not
remove them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from conformance.casefiles.validation import find_errors
from conformance.model.case import Array, Case


def drop_samples_and_classes(case: Case, reproduces: Callable[[Case], bool]) -> Case:
    """Remove each sample and class without which `reproduces` still holds."""
    while True:
        for smaller in _smaller_cases(case):
            if not find_errors(smaller) and reproduces(smaller):
                case = smaller
                break
        else:
            return case


def _smaller_cases(case: Case) -> Iterator[Case]:
    fewer = list(_fewer_samples(case))
    yield from fewer
    yield from _fewer_classes(case)
    for smaller in fewer:  # both at once, for what is wrong with squares only
        yield from _fewer_classes(smaller)


def _fewer_samples(case: Case) -> Iterator[Case]:
    axes = case.predictions.shape[: -1 if case.loss == "categorical" else None]
    if axes and axes[0] > 1:
        yield from (_without_sample(case, index) for index in range(axes[0]))


def _fewer_classes(case: Case) -> Iterator[Case]:
    if case.loss == "categorical" and (classes := case.predictions.shape[-1]) > 2:
        yield from (_without_class(case, index) for index in range(classes) if _is_unused(case, index))


def _without_sample(case: Case, index: int) -> Case:
    def without(values: Array | None, per_sample: bool = True) -> Array | None:
        return np.delete(values, index, axis=0) if values is not None and values.ndim and per_sample else values

    options = case.options
    weighs_samples = case.predictions.ndim == 1  # where a positive weight that is not a number has one per output
    return dataclasses.replace(
        case,
        predictions=np.delete(case.predictions, index, axis=0),
        labels=np.delete(case.labels, index, axis=0),
        options=dataclasses.replace(
            options,
            sample_weights=without(options.sample_weights),
            positive_weight=without(options.positive_weight, weighs_samples),
        ),
    )


def _is_unused(case: Case, index: int) -> bool:
    """Whether no label names the class, and no label would name another class after its removal."""
    ignored = case.options.ignore_index
    if case.target != "index":
        return True
    return not bool(np.any(case.labels == index)) and (ignored is None or not 0 <= ignored < case.predictions.shape[-1])


def _without_class(case: Case, index: int) -> Case:
    weights = case.options.class_weights
    within = (case.labels > index) & (case.labels < case.predictions.shape[-1]) if case.target == "index" else None
    return dataclasses.replace(
        case,
        predictions=np.delete(case.predictions, index, axis=-1),
        labels=np.delete(case.labels, index, axis=-1) if within is None else case.labels - within,
        options=dataclasses.replace(case.options, class_weights=None if weights is None else np.delete(weights, index)),
    )
