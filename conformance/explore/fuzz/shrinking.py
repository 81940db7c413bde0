"""The last steps to the smallest case: samples and classes left out one at a time.

A sample or a class is many choices of the grammar, spread over a case's; that they can go together is seen here only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from conformance.casefiles.validation import faults
from conformance.model.case import Array, Case


def thinned(case: Case, still: Callable[[Case], bool]) -> Case:
    """The case without any sample and class for which `still` does not need it."""
    while True:
        for smaller in _thinner(case):
            if not faults(smaller) and still(smaller):
                case = smaller
                break
        else:
            return case


def _thinner(case: Case) -> Iterator[Case]:
    fewer = list(_fewer_samples(case))
    yield from fewer
    yield from _fewer_classes(case)
    for smaller in fewer:  # both at once, for what is wrong with squares only
        yield from _fewer_classes(smaller)


def _fewer_samples(case: Case) -> Iterator[Case]:
    samples = len(case.predictions)
    if samples > 1:
        yield from (_without_sample(case, at) for at in range(samples))


def _fewer_classes(case: Case) -> Iterator[Case]:
    classes = case.predictions.shape[-1]
    if case.loss == "categorical" and classes > 2:
        yield from (_without_class(case, at) for at in range(classes) if _idle(case, at))


def _without_sample(case: Case, at: int) -> Case:
    def without(values: Array | None, per_sample: bool = True) -> Array | None:
        return np.delete(values, at, axis=0) if values is not None and values.ndim and per_sample else values

    options = case.options
    weighs_samples = case.predictions.ndim == 1  # where a positive weight that is not a number has one per output
    return dataclasses.replace(
        case,
        predictions=np.delete(case.predictions, at, axis=0),
        labels=np.delete(case.labels, at, axis=0),
        options=dataclasses.replace(
            options,
            sample_weights=without(options.sample_weights),
            positive_weight=without(options.positive_weight, weighs_samples),
        ),
    )


def _idle(case: Case, at: int) -> bool:
    """Whether no label names a class, and none would name another without it."""
    ignored = case.options.ignore_index
    if case.target != "index":
        return True
    return not bool(np.any(case.labels == at)) and (ignored is None or not 0 <= ignored < case.predictions.shape[-1])


def _without_class(case: Case, at: int) -> Case:
    weights = case.options.class_weights
    within = (case.labels > at) & (case.labels < case.predictions.shape[-1]) if case.target == "index" else None
    return dataclasses.replace(
        case,
        predictions=np.delete(case.predictions, at, axis=-1),
        labels=np.delete(case.labels, at, axis=-1) if within is None else case.labels - within,
        options=dataclasses.replace(case.options, class_weights=None if weights is None else np.delete(weights, at)),
    )
