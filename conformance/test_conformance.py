"""The test: every installed function, on every case it can express, against the exact answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.errors import CaseFileError
from conformance.suite import Assessment, Item, Suite


def test_conformance(item: Item, suite: Suite, record: Callable[[Assessment], None]) -> None:
    """It returns what the definition, or its own documented convention, says it must."""
    try:
        assessment = suite.assess(item)
    except CaseFileError as error:  # arrays that are generated when they are first needed
        pytest.fail(str(error), pytrace=False)
    record(assessment)
    if assessment.expected == "known":
        pytest.xfail(assessment.row["known"])
    if assessment.expected != "ok":
        pytest.fail(str(assessment), pytrace=False)
