"""The whole flow on fake frameworks: the suite passes those that are right, and catches every fault.

Run with `-rP` to see which case caught which fault.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from conformance.case import Case
from conformance.generate import GeneratedCase
from conformance.known import Ledger
from conformance.loading import load, shipped
from conformance.oracle import Oracle
from conformance.outcome import Raised
from conformance.suite import Assessment, Item, Suite, plan
from conformance.tests import miniatures

LARGEST = 60_000
"""Cases with more numbers than this are left to the real frameworks."""
DEFINITIONS = (miniatures.Categorical, miniatures.Binary)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The shipped cases but the largest, in an order in which few of them show most faults."""
    found = [case for case in load(shipped()) if _size(case) <= LARGEST]
    random.Random(3).shuffle(found)
    return sorted(found, key=lambda case: _size(case) > 0)


def _size(case: Case) -> int:
    return case.recipe.classes * math.prod(case.recipe.shape) if isinstance(case, GeneratedCase) else 0


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite(Oracle(), Ledger())


def unexpected(suite: Suite, items: list[Item]) -> Iterator[Assessment]:
    """The assessments that fail a run, as they are found."""
    return (assessment for item in items if (assessment := suite.assess(item)).expected != "ok")


def planned(cases: list[Case], loss: type[miniatures.Loss]) -> list[Item]:
    items = plan(cases, [miniatures.installed(loss)])
    assert len(items) > 200
    return items


@pytest.mark.parametrize("loss", DEFINITIONS, ids=lambda loss: loss.__name__)
def test_it_passes_a_right_implementation_on_every_case(suite, cases, loss):
    assert [str(wrong) for wrong in unexpected(suite, planned(cases, loss))] == []


@pytest.mark.parametrize("loss", miniatures.RIGHT[len(DEFINITIONS) :], ids=lambda loss: loss.__name__)
def test_it_passes_what_a_right_implementation_documents(suite, cases, loss):
    items = [item for item in planned(cases, loss) if item.dtype == "float32" or _only_in_float64(item)]
    verdicts = [suite.assess(item) for item in items]
    assert [str(wrong) for wrong in verdicts if wrong.expected != "ok"] == []
    named = {field for v in verdicts if v.verdict.status == "diverges" for field in _fields(v.verdict.convention)}
    assert named == set(loss.documented.choices())


@pytest.mark.parametrize("loss", miniatures.FAULTY, ids=lambda loss: loss.__name__)
def test_it_catches(suite, cases, loss):
    raises = loss.__name__.startswith("Raises")
    for tried, wrong in enumerate(unexpected(suite, planned(cases, loss))):
        # An exception of a miniature that is not meant to raise would be a second fault.
        if isinstance(wrong.verdict.outcome, Raised) == raises:
            print(f"{loss.__name__} ({loss.__doc__}) caught by {wrong.item.id}: {wrong.verdict.explanation}")
            return
        assert tried < 100
    pytest.fail(f"{loss.__name__} passes every case: {loss.__doc__}")


def test_it_has_a_miniature_for_each_choice_that_changes_a_value():
    documented = {field for loss in miniatures.RIGHT for field in loss.documented.choices()}
    assert documented >= {
        "mean_divides_by", "clip", "log_floor", "renormalise", "binary_outputs", "default_ignore_index", "out_of_range",
    }  # fmt: skip


def _only_in_float64(item: Item) -> bool:
    return "float32" not in item.case.dtypes


def _fields(convention: str) -> list[str]:
    return [choice.partition("=")[0] for choice in convention.split("; ") if choice]
