"""Hypothesis strategies for whole cases, of the same grammar as `generation`; needs the extra `fuzz`.

    @given(cases())
    def test_it_agrees(case): ...

What Hypothesis shrinks to is small and readable: few samples and classes, round numbers, no option that does not
matter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from conformance.explore.fuzz.generation import Limits, drafted, fits
from conformance.model.case import Case
from conformance.model.errors import UserError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SHRUNK_FROM = b"the case that was drawn"


class MissingHypothesisError(UserError):
    """Hypothesis is not installed."""

    def __str__(self) -> str:
        return (
            'Hypothesis, which shrinks what is found, is not installed: pip install "cross-entropy-conformance[fuzz]"'
        )


def check_installed() -> None:
    """Raise MissingHypothesisError where there is no Hypothesis."""
    try:
        import hypothesis  # noqa: F401
    except ImportError as error:
        raise MissingHypothesisError from error


def cases(limits: Limits | None = None, name: str = "drawn/case") -> SearchStrategy[Case]:
    """Legal cases within `limits`; `name` is the id of each."""
    from hypothesis import assume, strategies

    @strategies.composite
    def drawn(draw: Callable[[SearchStrategy[int]], int]) -> Case:
        case = drafted(_Drawn(draw), name, limits or Limits())
        assume(fits(case, limits or Limits()))
        return case

    strategy: SearchStrategy[Case] = drawn()
    return strategy


def smallest(choices: Sequence[int], limits: Limits, name: str, still: Callable[[Case], bool]) -> Case | None:
    """The smallest case for which `still` holds, starting from the one that `choices` make; None if not even for that.

    Hypothesis is given the choices as an example that failed before; with one too many, because it takes what fits
    exactly for shrunk already.
    """
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
    from hypothesis.errors import NoSuchExample

    database = InMemoryExampleDatabase()
    database.save(SHRUNK_FROM, choices_to_bytes([*choices, 0]))
    options = settings(
        database=database,
        phases=(Phase.reuse, Phase.shrink),
        deadline=None,
        max_examples=10_000,
        suppress_health_check=list(HealthCheck),
    )
    try:
        return find(cases(limits, name), still, settings=options, database_key=SHRUNK_FROM)
    except NoSuchExample:
        return None


class _Drawn:
    """A source of choices that Hypothesis makes."""

    def __init__(self, draw: Callable[[SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def below(self, n: int) -> int:
        return self._draw(_below(n))

    def part(self, make: Callable[[], Any]) -> Any:
        return self._draw(_part(make))


def _part(make: Callable[[], Any]) -> Any:
    """A strategy around choices that are made while it is drawn, so that Hypothesis sees where they start and end."""
    from hypothesis import strategies

    return strategies.builds(make)


@functools.cache
def _below(n: int) -> Any:
    from hypothesis import strategies

    return strategies.integers(0, n - 1)
