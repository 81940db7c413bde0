"""The harvest: each record of each source becomes a case, a duplicate, or is counted as untranslatable; none is
lost.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import tomllib
from packaging.version import Version

from conformance.adapters.registry import within
from conformance.casefiles import known_issues, writing
from conformance.casefiles.known_issues import HARVEST_PREFIX, Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.judging.case_set import CaseSet, load_case_set, strays
from conformance.model.case import Case, Published
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.power.harvest.collection import TIMEOUT, ProgressCallback, collect_all
from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer
from conformance.power.harvest.source import HarvestError, Source, select_sources
from conformance.power.harvest.translation import CaseDraft, UntranslatableError, build_case, to_name

ROOT = HARVEST_PREFIX.rstrip("/")
COUNTS_FILE = Path(__file__).with_name("counts.toml")
"""How many records and cases a source must yield, by version, so that a broken source is noticed."""


@dataclass(frozen=True, eq=False)
class StatedResult:
    """A stated answer with its case."""

    case: Case
    stated: StatedAnswer
    documented_function: str
    version: str


@dataclass(frozen=True, eq=False)
class Harvest:
    """The result of harvesting one source."""

    source: str
    version: str
    url: str
    """Address of the project."""
    inputs: int
    """Number of records."""
    cases: tuple[Case, ...]
    duplicates: int
    """Number of records that equal a case of the same source."""
    untranslated: Mapping[str, int]
    """Number of records that no case can express, by reason."""
    statements: tuple[StatedResult, ...] = ()
    """Answers that the source states for its cases."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader of the table."""


@dataclass(frozen=True, eq=False)
class Harvests:
    """The results of several sources."""

    harvests: tuple[Harvest, ...]
    missing: tuple[str, ...] = ()
    """Reasons why sources were skipped."""
    errors: tuple[HarvestError, ...] = ()
    """Errors of sources that are installed."""

    @property
    def cases(self) -> list[Case]:
        return [case for harvest in self.harvests for case in harvest.cases]

    def or_raise(self) -> Harvests:
        """Return self. Raises HarvestError with all errors, if there are any."""
        if self.errors:
            raise HarvestError("\n".join(map(str, self.errors)))
        return self


@dataclass(frozen=True)
class ExpectedCounts:
    """Minimal counts of a source for some versions."""

    versions: str
    """PEP 440 specifiers."""
    found: int
    """Number of records."""
    cases: int
    """Number of cases."""
    measured: str
    """The counted version; with it, ledger entries about the source must match its cases."""


def expected_counts(source: str, version: str) -> ExpectedCounts | None:
    """The counts recorded for a source in a version; None if there are none."""
    return next((entry for entry in load_counts().get(source, ()) if within(version, entry.versions)), None)


@functools.cache
def load_counts() -> dict[str, tuple[ExpectedCounts, ...]]:
    """All recorded counts, by source."""
    content = tomllib.loads(COUNTS_FILE.read_text())
    return {source: tuple(ExpectedCounts(**entry) for entry in entries) for source, entries in content.items()}


def harvest(
    names: Sequence[str] = (), timeout: float = TIMEOUT, progress: ProgressCallback = lambda _: None
) -> Harvests:
    """Harvest the installed sources among `names`; all if none is named.

    A source that cannot be read, or yields less than expected, is among `errors`. Raises HarvestError for an unknown
    name,
    and if none of the requested sources is installed.
    """
    sources = select_sources(names)
    available = [source for source in sources if source.version is not None and not source.missing_modules]
    missing = tuple(_missing_message(source) for source in sources if source not in available)
    if not available:
        raise HarvestError("nothing to harvest: " + "; ".join(missing))
    harvests: list[Harvest] = []
    errors: list[HarvestError] = []
    collected_by_source = collect_all(available, timeout, progress)
    for source in available:
        collected = collected_by_source[source.name]
        if isinstance(collected, HarvestError):
            errors.append(collected)
            continue
        harvests.append(translate_source(source, collected))
        errors += _shortfall(harvests[-1], expected_counts(source.name, source.version or ""))
    return Harvests(tuple(harvests), missing, tuple(errors))


def _missing_message(source: Source) -> str:
    lacking = " and ".join(source.missing_modules) or source.distribution
    return f"{source.name}: {lacking} is not installed (pip install {lacking.replace(' and ', ' ')})"


def _shortfall(harvest: Harvest, expected: ExpectedCounts | None) -> list[HarvestError]:
    """The error if a source yields less than expected for its version."""
    if expected is None:
        return []
    counts = (("inputs", harvest.inputs, expected.found), ("cases", len(harvest.cases), expected.cases))
    shortfalls = [
        f"{actual} {noun} where {minimum} are on record" for noun, actual, minimum in counts if actual < minimum
    ]
    if not shortfalls:
        return []
    reasons = "; ".join(f"{count} x {reason}" for reason, count in harvest.untranslated.items())
    advice = (
        "its tests have moved or changed: look at what is left, teach the source, and correct "
        f"conformance/power/harvest/counts.toml ({harvest.source}, versions {expected.versions})"
    )
    reasons_text = f" (not translated: {reasons})" if reasons else ""
    return [HarvestError(f"{harvest.source} {harvest.version}: {' and '.join(shortfalls)}{reasons_text}; {advice}")]


def translate_source(source: Source, collected: CollectedRecords) -> Harvest:
    """Translate the records of a source into cases."""
    version = source.version or ""
    cases: dict[tuple[Any, ...], Case] = {}
    ids: set[str] = set()
    calls: Counter[tuple[str, str]] = Counter()
    untranslated: Counter[str] = Counter()
    statements = []
    duplicates = 0
    for record in collected.records:
        name = to_name(record.name)
        calls[record.test, name] += 1
        occurrence = calls[record.test, name]
        try:
            draft = source.translate(record)
            origin = f"{source.distribution} {version}, {record.test}"
            case = build_case(
                record, draft, name if occurrence == 1 else f"{name}_{occurrence}", f"{ROOT}/{source.name}", origin
            )
        except UntranslatableError as reason:
            untranslated[str(reason)] += 1
            continue
        key = (case.digest, case.reductions, case.dtypes)
        if key in cases:
            duplicates += 1
            case = cases[key]
        else:
            case = _with_unique_id(case, ids)
            case = _with_published(case, record, draft)
            ids.add(case.id)
            cases[key] = case
        if record.stated is not None:
            statements.append(StatedResult(case, record.stated, draft.documented_function, version))
    return Harvest(
        source.name,
        version,
        source.url,
        len(collected.records),
        tuple(sorted(cases.values(), key=lambda case: case.id)),
        duplicates,
        dict(untranslated.most_common()),
        tuple(statements),
        tuple(collected.notes),
    )


def _with_unique_id(case: Case, ids: set[str]) -> Case:
    """The case with an id that is not in `ids`."""
    unique_id, number = case.id, 1
    while unique_id in ids:
        number += 1
        unique_id = f"{case.id}_{number}"
    return replace(case, id=unique_id)


def _with_published(case: Case, record: Record, draft: CaseDraft) -> Case:
    """The case with the number that the source states, to the digits that the source's tolerance supports."""
    stated = record.stated
    if stated is None or stated.values.ndim or case.reductions == ("none",):
        return case
    note = (
        f"by the convention of {draft.documented_function}, where it has another" if draft.documented_function else ""
    )
    number = Published(_round_to_tolerance(stated), case.source, note, case.reductions[0])
    return replace(case, published=(number,))


def _round_to_tolerance(stated: StatedAnswer) -> str:
    """A stated number, rounded to the decimal place of its tolerance."""
    value = float(stated.values)
    tolerance = stated.rtol * abs(value) + stated.atol
    if not np.isfinite(value) or not 0 < tolerance < np.inf:
        return repr(value)
    place = Decimal(1).scaleb(Decimal(tolerance).adjusted())
    digits = Decimal(value)
    return str(digits.quantize(place)) if digits.adjusted() - place.adjusted() < 27 else repr(value)


def save(harvests: Iterable[Harvest], folder: Path) -> list[Path]:
    """Write the cases below `folder`, one folder per source; return the files. Raises WritingError."""
    written = []
    for harvest in harvests:
        files: dict[str, list[Case]] = {}
        for case in harvest.cases:
            renamed = replace(case, id=case.id.removeprefix(f"{ROOT}/"))
            files.setdefault(renamed.id.rpartition("/")[0], []).append(renamed)
        written += [writing.save(cases, folder) for cases in files.values()]
    return written


def load_harvest(
    sources: Sequence[str] = (),
    folder: Path | None = None,
    progress: ProgressCallback = lambda _: None,
) -> tuple[CaseSet, Harvests]:
    """Return harvested cases and their known issues, with those of `folder` if there is one, and the harvests.

    Raises HarvestError if a source cannot be read or yields too little, and CaseErrors for invalid files and for known
    issues about harvested cases that do not exist.
    """
    others = CaseSet([], Ledger()) if folder is None else load_case_set(folder)
    about = known_issues.load(shipped_cases())
    harvests = harvest(sources, progress=progress).or_raise()
    for harvest_ in harvests.harvests:
        if wrong := _unmatched_entries(harvest_.source, harvest_.version, about, harvest_.cases):
            raise CaseErrors(tuple(wrong))
    entries = [entry for entry in about.entries if entry.case.startswith(HARVEST_PREFIX)]
    ledger = Ledger([*others.ledger.entries, *entries], about.entries)
    return CaseSet([*others.cases, *harvests.cases], ledger, harvested=True), harvests


def _unmatched_entries(source: str, version: str, ledger: Ledger, cases: Sequence[Case]) -> list[CaseFileError]:
    """Errors of ledger entries about a source that match none of its cases, checked for the version that was
    measured.
    """
    recorded = expected_counts(source, version)
    if recorded is None or Version(Version(version).public) != Version(recorded.measured):
        return []
    return strays((entry for entry in ledger.entries if entry.case.startswith(f"{HARVEST_PREFIX}{source}/")), cases)
