"""Hypothesis strategies for whole cases, with the grammar of `generation`; they need the extra `fuzz`.

    @given(cases())
    def test_it_agrees(case): ...

Hypothesis shrinks to small and readable cases: few samples and classes, round numbers, no irrelevant option.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from conformance.explore.fuzz.generation import Limits, build_case, is_admissible
from conformance.model.case import Case
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
    """A source of choices that Hypothesis makes."""

    def __init__(self, draw: Callable[[SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def integer(self, n: int) -> int:
        return self._draw(_integer_strategy(n))

    def group(self, make: Callable[[], Any]) -> Any:
        from hypothesis import strategies

        return self._draw(strategies.builds(make))  # runs `make` while it is drawn: its choices form a group


@functools.cache
def _integer_strategy(n: int) -> Any:
    from hypothesis import strategies

    return strategies.integers(0, n - 1)
