"""The text of case files, for the page."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.writing import WritingError, case_file_text
from conformance.model.case import Case

MAX_PREDICTIONS = 2000
"""Predictions of a case that is written out; a generated case is written as its recipe, whatever its size."""


def problems(cases: Iterable[Case]) -> dict[str, str]:
    """The text of cases by id, without large ones and those that no case file can express."""
    found = {}
    for case in cases:
        if isinstance(case, GeneratedCase) or case.predictions.size <= MAX_PREDICTIONS:
            try:
                found[case.id] = case_file_text([case]).partition("\n")[2]  # without the line that leads to the schema
            except WritingError:
                continue
    return found
