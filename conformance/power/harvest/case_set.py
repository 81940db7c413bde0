"""Harvested cases as something to run, beside a folder of cases or by themselves, with what the ledger knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from conformance.casefiles import known_issues
from conformance.casefiles.known_issues import HARVEST_PREFIX, Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.judging.suite import load_suite, strays
from conformance.model.case import Case
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.power.harvest.collection import TIMEOUT, Told
from conformance.power.harvest.expected_counts import expected
from conformance.power.harvest.pipeline import Harvests, harvest


def load_harvest(
    sources: Sequence[str] = (), folder: Path | None = None, timeout: float = TIMEOUT, told: Told = lambda _: None
) -> tuple[list[Case], Ledger, Harvests]:
    """Harvested cases, those of `folder` beside them where one is given, and the ledger of both.

    Raises HarvestError where a source cannot be read or yields too little, and CaseErrors for whatever is wrong with
    the files, and for entries of the ledger about harvested cases that are not there.
    """
    beside, ledger = ([], Ledger()) if folder is None else load_suite(folder)
    about = known_issues.load(shipped_cases())
    harvests = harvest(sources, timeout, told).whole()
    for of_source in harvests.of:
        if wrong := _strays(of_source.source, of_source.version, about, of_source.cases):
            raise CaseErrors(tuple(wrong))
    entries = [entry for entry in about.entries if entry.case.startswith(HARVEST_PREFIX)]
    return [*beside, *harvests.cases], Ledger([*ledger.entries, *entries], about.entries), harvests


def _strays(source: str, version: str, about: Ledger, cases: Sequence[Case]) -> list[CaseFileError]:
    """What is wrong with the ledger's entries about a source; they are held against the version that was measured."""
    on_record = expected(source, version)
    if on_record is None or Version(Version(version).public) != Version(on_record.measured):
        return []
    return strays((entry for entry in about.entries if entry.case.startswith(f"{HARVEST_PREFIX}{source}/")), cases)
