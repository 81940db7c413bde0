"""Hypothesis strategies for whole cases, with the grammar of `generation`; they need the extra `fuzz`.

    @given(cases())
    def test_loss_agrees(case): ...

Hypothesis shrinks to small and readable cases: few samples and classes, round numbers, no irrelevant option.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.casefiles.validation import find_errors
from conformance.explore.fuzz.generation import Limits, build_case, is_admissible
from conformance.model.case import Array, Case
from conformance.model.errors import UserError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

DATABASE_KEY = b"the case that was drawn"


class MissingHypothesisError(UserError):
    """Hypothesis is not installed."""

    def __str__(self) -> str:
        return (
            'Hypothesis, which shrinks what is found, is not installed: pip install "cross-entropy-conformance[fuzz]"'
        )


def check_installed() -> None:
    """Raise MissingHypothesisError if Hypothesis is not installed."""
    try:
        import hypothesis  # noqa: F401
    except ImportError as error:
        raise MissingHypothesisError from error


def cases(limits: Limits | None = None, name: str = "drawn/case") -> SearchStrategy[Case]:
    """A strategy for valid cases within `limits`; each has the id `name`."""
    from hypothesis import assume, strategies

    @strategies.composite
    def drawn(draw: Callable[[SearchStrategy[int]], int]) -> Case:
        case = build_case(_HypothesisSource(draw), name, limits or Limits())
        assume(is_admissible(case, limits or Limits()))
        return case

    strategy: SearchStrategy[Case] = drawn()
    return strategy


def shrink(choices: Sequence[int], limits: Limits, name: str, reproduces: Callable[[Case], bool]) -> Case | None:
    """Return the smallest case for which `reproduces` holds, starting from the case of `choices`; None if it never
    holds.

    The choices are saved as a failing example in Hypothesis's database, which then shrinks it. One superfluous choice
    is appended, because an example that consumes all its choices counts as already shrunk.
    """
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
    from hypothesis.errors import NoSuchExample

    database = InMemoryExampleDatabase()
    database.save(DATABASE_KEY, choices_to_bytes([*choices, 0]))
    options = settings(
        database=database,
        phases=(Phase.reuse, Phase.shrink),
        deadline=None,
        max_examples=10_000,
        suppress_health_check=list(HealthCheck),
    )
    try:
        return find(cases(limits, name), reproduces, settings=options, database_key=DATABASE_KEY)
    except NoSuchExample:
        return None


class _HypothesisSource:
    """A source of choices made by Hypothesis."""

    def __init__(self, draw: Callable[[SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def integer(self, n: int) -> int:
        return self._draw(_integer_strategy(n))

    def group(self, make: Callable[[], Any]) -> Any:
        from hypothesis import strategies

        return self._draw(strategies.builds(make))  # `make` runs during the draw, so that its choices form a group


@functools.cache
def _integer_strategy(n: int) -> Any:
    from hypothesis import strategies

    return strategies.integers(0, n - 1)


# The last step of shrinking. The choices of a sample or a class are spread over the list of choices, so
# that Hypothesis does not remove them together.


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
    for smaller in fewer:  # both at once, for failures of square shapes only
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
