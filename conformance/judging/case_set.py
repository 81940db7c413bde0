"""Cases and their ledger, loaded together and compared with each other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conformance.adapters import registry
from conformance.casefiles.known_issues import EXTERNAL_PREFIXES, KnownIssue, Ledger
from conformance.casefiles.known_issues import load as load_known
from conformance.casefiles.known_issues import read as read_known
from conformance.casefiles.loading import expectation_errors, id_root, is_folder, resolve_links, shipped_cases
from conformance.casefiles.loading import read as read_cases
from conformance.model.case import Case
from conformance.model.errors import CaseErrors, CaseFileError


@dataclass(frozen=True, eq=False)
class CaseSet:
    """Cases with their ledger."""

    cases: list[Case]
    ledger: Ledger
    harvested: bool = False
    """Whether cases come from the tests of other projects."""


def load_case_set(folder: Path | None = None) -> CaseSet:
    """Load the cases of a folder and its ledger; by default the shipped ones.

    The ledger of another folder is its `known/`, followed by the shipped ledger, whose entries then match by traits
    only, because their ids belong to other cases.  Raises CaseErrors with all errors in the folder.
    """
    folder = shipped_cases() if folder is None else folder
    cases, errors = read_cases(folder)
    if resolve_links(folder) != resolve_links(
        shipped_cases()
    ):  # for the shipped cases `conformance lint` and the tests check this
        errors = [*errors, *(wrong for case in cases for wrong in expectation_errors(case))]
    alone = os.path.lexists(folder) and not is_folder(folder)
    home = id_root(folder) if alone else folder
    entries, wrong = read_known(home)
    differs = resolve_links(home) != resolve_links(shipped_cases())
    ledger = Ledger(entries, load_known(shipped_cases()).entries if differs else ())
    if not errors and not alone:
        wrong = [*wrong, *strays((entry for entry in entries if not entry.case.startswith(EXTERNAL_PREFIXES)), cases)]
    if errors or wrong:
        raise CaseErrors((*errors, *wrong))
    return CaseSet(cases, ledger)


def strays(entries: Iterable[KnownIssue], cases: Iterable[Case]) -> list[CaseFileError]:
    """Errors for ledger entries about unknown cases or functions."""
    unmatched = Ledger(entries).unmatched([case.id for case in cases], [f.name for f in registry.functions()])
    what = "is known, but there is no such case or no such function"
    return [
        CaseFileError(
            entry.path, entry.line, 1, "", f"{entry.function} on {entry.case} {what}", "correct the entry or remove it"
        )
        for entry in unmatched
    ]
