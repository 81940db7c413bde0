"""Cases as a reader of the page sees them: the text of their case files."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.writing import WritingError, case_file_text
from conformance.model.case import Case

MOST = 2000
"""Predictions of a case that is written out; a generated one of any size is as short as its recipe."""


def problems(cases: Iterable[Case]) -> dict[str, str]:
    """The text of each case by its id; large ones, and those that no case file can say, are left out."""
    found = {}
    for case in cases:
        if isinstance(case, GeneratedCase) or case.predictions.size <= MOST:
            try:
                found[case.id] = case_file_text([case]).partition("\n")[2]  # without the line that leads to the schema
            except WritingError:
                continue
    return found
