"""The test: every installed function, on every case it can express, against the exact answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.judging.judge import Assessment
from conformance.judging.plan import Item
from conformance.model.errors import UserError
from conformance.model.text import loggable


def test_conformance(
    item: Item,
    assess: Callable[[Item], Assessment],
    add_row: Callable[[Assessment], None],
    accepted: Callable[[Assessment], bool],
    strict_known: bool,
    options_again: str,
) -> None:
    """It returns what the definition, or its own documented convention, says it must."""
    try:
        assessment = assess(item)
    except UserError as error:  # arrays that are generated when they are first needed; workers that cannot be had
        pytest.fail(loggable(str(error)), pytrace=False)
    add_row(assessment)
    if assessment.expected == "known" and not strict_known:
        pytest.xfail(loggable(assessment.row.known))
    if accepted(assessment):
        pytest.xfail("the baseline has it")
    if assessment.expected != "ok":
        pytest.fail(loggable(assessment.message(options_again)), pytrace=False)
