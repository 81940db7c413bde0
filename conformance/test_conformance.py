"""The test: every installed function, on every case it can express, against the exact answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.suite import Assessment, Item, Suite


def test_conformance(item: Item, suite: Suite, record: Callable[[Assessment], None]) -> None:
    """It returns what the definition, or its own documented convention, says it must."""
    assessment = suite.assess(item)
    record(assessment)
    if assessment.expected == "known":
        pytest.xfail(assessment.row["known"])
    if assessment.expected != "ok":
        pytest.fail(str(assessment), pytrace=False)
