"""Harvested cases as a set to run, alone or with a folder of cases, with their known issues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from conformance.casefiles import known_issues
from conformance.casefiles.known_issues import HARVEST_PREFIX, Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.judging.case_set import load_suite, strays
from conformance.model.case import Case
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.power.harvest.collection import TIMEOUT, ProgressCallback
from conformance.power.harvest.expected_counts import expected_counts
from conformance.power.harvest.pipeline import Harvests, harvest


def load_harvest(
    sources: Sequence[str] = (),
    folder: Path | None = None,
    timeout: float = TIMEOUT,
    progress: ProgressCallback = lambda _: None,
) -> tuple[list[Case], Ledger, Harvests]:
    """Return harvested cases, with those of `folder` if there is one, their known issues, and the harvests.

    Raises HarvestError if a source cannot be read or yields too little, and CaseErrors for invalid files and for known
    issues about harvested cases that do not exist.
    """
    other_entries, ledger = ([], Ledger()) if folder is None else load_suite(folder)
    about = known_issues.load(shipped_cases())
    harvests = harvest(sources, timeout, progress).or_raise()
    for one in harvests.harvests:
        if wrong := _unmatched_entries(one.source, one.version, about, one.cases):
            raise CaseErrors(tuple(wrong))
    entries = [entry for entry in about.entries if entry.case.startswith(HARVEST_PREFIX)]
    return [*other_entries, *harvests.cases], Ledger([*ledger.entries, *entries], about.entries), harvests


def _unmatched_entries(source: str, version: str, about: Ledger, cases: Sequence[Case]) -> list[CaseFileError]:
    """Errors of ledger entries about a source that match none of its cases, checked for the version that was
    measured.
    """
    recorded = expected_counts(source, version)
    if recorded is None or Version(Version(version).public) != Version(recorded.measured):
        return []
    return strays((entry for entry in about.entries if entry.case.startswith(f"{HARVEST_PREFIX}{source}/")), cases)
