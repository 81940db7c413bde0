"""The harvest: every input of every source as a case, a duplicate, or something that cannot be said, none lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from conformance.casefiles import writing
from conformance.casefiles.known_issues import HARVEST_PREFIX
from conformance.model.case import Case, Published
from conformance.power.harvest.collection import TIMEOUT, Told, gather
from conformance.power.harvest.expected_counts import Expected, expected
from conformance.power.harvest.records import Collected, Found, Stated
from conformance.power.harvest.source import HarvestError, Source, chosen
from conformance.power.harvest.translation import CannotSayError, Draft, case_of, named

ROOT = HARVEST_PREFIX.rstrip("/")


@dataclass(frozen=True, eq=False)
class Statement:
    """An answer that a source states, with the case that it is about."""

    case: Case
    stated: Stated
    documented: str
    version: str


@dataclass(frozen=True, eq=False)
class Harvest:
    """What one source yields.

    home: of the project.  found: inputs.  cases: that they are; duplicates: of these, in the same source.  unsaid: how
    many cannot be said, by reason.  statements: what the source says about those that can.  notes: for the reader.
    """

    source: str
    version: str
    home: str
    found: int
    cases: tuple[Case, ...]
    duplicates: int
    unsaid: Mapping[str, int]
    statements: tuple[Statement, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """What the table shows, as builtin values."""
        return {
            "source": self.source,
            "version": self.version,
            "home": self.home,
            "found": self.found,
            "cases": len(self.cases),
            "duplicates": self.duplicates,
            "unsaid": dict(self.unsaid),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Harvests:
    """What several sources yield.  missing: why those that are left out are; errors: what is wrong with others."""

    of: tuple[Harvest, ...]
    missing: tuple[str, ...] = ()
    errors: tuple[HarvestError, ...] = ()

    @property
    def cases(self) -> list[Case]:
        return [case for harvest in self.of for case in harvest.cases]

    def whole(self) -> Harvests:
        """These, where nothing is wrong; raises HarvestError with everything that is."""
        if self.errors:
            raise HarvestError("\n".join(map(str, self.errors)))
        return self


def harvest(names: Sequence[str] = (), timeout: float = TIMEOUT, told: Told = lambda _: None) -> Harvests:
    """What the installed sources among `names` yield, all of them where none is named.

    A source that cannot be read, or yields less than is on record, is among `errors`; raises HarvestError for a name
    that is none, and where nothing that was asked for is installed.
    """
    wanted = chosen(names)
    here = [source for source in wanted if source.version is not None and not source.lacks]
    missing = tuple(_missing(source) for source in wanted if source not in here)
    if not here:
        raise HarvestError("nothing to harvest: " + "; ".join(missing))
    made: list[Harvest] = []
    errors: list[HarvestError] = []
    gathered = gather(here, timeout, told)
    for source in here:
        collected = gathered[source.name]
        if isinstance(collected, HarvestError):
            errors.append(collected)
            continue
        made.append(harvested(source, collected))
        errors += _collapsed(made[-1], expected(source.name, source.version or ""))
    return Harvests(tuple(made), missing, tuple(errors))


def _missing(source: Source) -> str:
    lacking = " and ".join(source.lacks) or source.distribution
    return f"{source.name}: {lacking} is not installed (pip install {lacking.replace(' and ', ' ')})"


def _collapsed(found: Harvest, on_record: Expected | None) -> list[HarvestError]:
    """What is wrong where a source yields less than is on record for its version."""
    if on_record is None:
        return []
    counts = (("inputs", found.found, on_record.found), ("cases", len(found.cases), on_record.cases))
    short = [f"{have} {what} where {least} are on record" for what, have, least in counts if have < least]
    if not short:
        return []
    reasons = "; ".join(f"{count} x {reason}" for reason, count in found.unsaid.items())
    advice = (
        "its tests have moved or changed: look at what is left, teach the source, and correct "
        f"conformance/power/harvest/counts.toml ({found.source}, versions {on_record.versions})"
    )
    because = f" (cannot be said: {reasons})" if reasons else ""
    return [HarvestError(f"{found.source} {found.version}: {' and '.join(short)}{because}; {advice}")]


def harvested(source: Source, collected: Collected) -> Harvest:
    """The cases that a source's inputs are."""
    version = source.version or ""
    cases: dict[tuple[Any, ...], Case] = {}
    ids: set[str] = set()
    calls: Counter[tuple[str, str]] = Counter()
    unsaid: Counter[str] = Counter()
    statements = []
    duplicates = 0
    for found in collected.found:
        name = named(found.name)
        calls[found.test, name] += 1
        nth = calls[found.test, name]
        try:
            draft = source.say(found)
            origin = f"{source.distribution} {version}, {found.test}"
            case = case_of(found, draft, name if nth == 1 else f"{name}_{nth}", f"{ROOT}/{source.name}", origin)
        except CannotSayError as reason:
            unsaid[str(reason)] += 1
            continue
        key = (case.digest, case.reductions, case.dtypes)
        if key in cases:
            duplicates += 1
            case = cases[key]
        else:
            case = _apart(case, ids)
            case = _published(case, found, draft)
            ids.add(case.id)
            cases[key] = case
        if found.stated is not None:
            statements.append(Statement(case, found.stated, draft.documented, version))
    return Harvest(
        source.name,
        version,
        source.home,
        len(collected.found),
        tuple(sorted(cases.values(), key=lambda case: case.id)),
        duplicates,
        dict(unsaid.most_common()),
        tuple(statements),
        collected.notes,
    )


def _apart(case: Case, ids: set[str]) -> Case:
    """The case under an id that no other has."""
    wanted, number = case.id, 1
    while wanted in ids:
        number += 1
        wanted = f"{case.id}_{number}"
    return replace(case, id=wanted)


def _published(case: Case, found: Found, draft: Draft) -> Case:
    """The case with the number that the source states for it, to the digits that the source vouches for."""
    stated = found.stated
    if stated is None or stated.values.ndim or case.reductions == ("none",):
        return case
    note = f"by the convention of {draft.documented}, where it has another" if draft.documented else ""
    number = Published(_vouched(stated), case.source, note, case.reductions[0])
    return replace(case, published=(number,))


def _vouched(stated: Stated) -> str:
    """A stated number, rounded to the decimal place that its tolerance is of."""
    value = float(stated.values)
    slack = stated.rtol * abs(value) + stated.atol
    if not np.isfinite(value) or not 0 < slack < np.inf:
        return repr(value)
    place = Decimal(1).scaleb(Decimal(slack).adjusted())
    digits = Decimal(value)
    return str(digits.quantize(place)) if digits.adjusted() - place.adjusted() < 27 else repr(value)


def save(made: Iterable[Harvest], folder: Path) -> list[Path]:
    """Write the cases below `folder`, a folder for each source; returns the files.  Raises WritingError."""
    written = []
    for harvest in made:
        files: dict[str, list[Case]] = {}
        for case in harvest.cases:
            kept = replace(case, id=case.id.removeprefix(f"{ROOT}/"))
            files.setdefault(kept.id.rpartition("/")[0], []).append(kept)
        written += [writing.save(cases, folder) for cases in files.values()]
    return written
