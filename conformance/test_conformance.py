"""The test: every installed function, on every case it can express, against the exact answer."""

from __future__ import annotations

import pytest

from conformance.judging.plan import Item
from conformance.model.errors import UserError
from conformance.model.text import loggable
from conformance.plugin.checking import CaseCheck


def test_conformance(item: Item, case_check: CaseCheck) -> None:
    """It returns what the definition, or its own documented convention, says it must."""
    try:
        assessment = case_check.assess(item)
    except UserError as error:  # arrays that are generated when they are first needed; workers that cannot start
        pytest.fail(loggable(str(error)), pytrace=False)
    if assessment.expected == "known" and not case_check.strict_known:
        raise pytest.xfail.Exception(loggable(assessment.row.known), pytrace=False)  # formatting a traceback takes 4 ms
    if case_check.accepted(assessment):
        raise pytest.xfail.Exception("the baseline has it", pytrace=False)
    if assessment.expected != "ok":
        pytest.fail(loggable(assessment.message(case_check.options)), pytrace=False)
