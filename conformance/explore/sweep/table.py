"""What a sweep found, one line per function, dtype and region, as builtin values in the order of `COLUMNS`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from conformance.adapters.contract import reproducer
from conformance.casefiles.known_issues import SWEPT, Ledger
from conformance.explore.sweep.comparer import Subject, Tallies
from conformance.explore.sweep.counts import BINS, Extreme, Tally
from conformance.explore.sweep.inputs import bands, outside
from conformance.explore.sweep.long_means import LENGTHS, case_of
from conformance.explore.sweep.reference_values import ACCURACY, Family, region
from conformance.explore.sweep.runner import SHIFTS, Job
from conformance.judging.verdict import FAILING, semantic, symptom_of_number
from conformance.model.case import GIVEN, Loss, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.row_key import RowKey
from conformance.reference import oracle
from conformance.reference.oracle import Exact

Line = dict[str, Any]
COLUMNS = (
    "function", "version", "variant", "dtype", "case", "given", "target", "label", "region", "exhaustive",
    "status", "expected", "count", "agrees", "diverges", "disagrees", "undefined", "convention",
    "ulps", "ulps_at", "ulps_at_hex", "ulps_got", "ulps_want",
    "ratio", "ratio_at", "ratio_at_hex", "ratio_got", "ratio_want",
    "histogram", "why", "known", "call",
)  # fmt: skip
EDGES = (*(2.0 ** (k - 1) for k in range(BINS)), float("inf"))
"""Upper ends of the histogram's bins, in ulps; the last but one holds whatever is finite and larger."""


class InaccurateError(ArithmeticError):
    """The float64 functions of this machine are worse than `reference_values` assumes: no verdict of a sweep holds."""


def lines_of(job: Job, tallies: Tallies, ledger: Ledger) -> Iterator[Line]:
    """The lines of one job, in the order of its regions."""
    order = list(regions(job.subject.family))
    for name in sorted(tallies, key=order.index):
        yield _line(job, name, tallies[name], ledger)


def regions(family: Family) -> Iterator[str]:
    """Every region that a family can have."""
    names = dict.fromkeys(
        region(family, sign, band.name, label)
        for sign in family.signs
        for band in bands(family.given, family.dtype)
        for label in family.labels
    )
    yield from names
    for kind, label in itertools.product(outside(family.given, family.dtype), family.labels):
        yield f"{kind}_label_{label}"


def check_ledger(ledger: Ledger) -> None:
    """Raise CaseErrors for entries about regions that no sweep has."""
    kinds: tuple[tuple[Loss, str], ...] = (("binary", "binary"), ("categorical", "index"), ("categorical", "one_hot"))
    families = [
        Family(loss, given, target, "float32", shift)
        for loss, target in kinds
        for given in GIVEN
        for shift in ((0.0, *SHIFTS) if given == "logits" and loss == "categorical" else (0.0,))
    ]
    ids = [f"{family.id}/{name}" for family in families for name in regions(family)]
    ids += [case_of(family, length) for family in families for length in LENGTHS]
    wrong = [
        CaseFileError(entry.path, entry.line, 1, "", f"no sweep has a region {entry.case}", "correct it or remove it")
        for entry in ledger.entries
        if entry.case.startswith(SWEPT) and not any(map(entry.names, ids))
    ]
    if wrong:
        raise CaseErrors(tuple(wrong))


def _line(job: Job, name: str, tally: Tally, ledger: Ledger) -> Line:
    subject, family = job.subject, job.subject.family
    band, _, label = name.rpartition("_label_")
    case = f"{family.id}/{name}"
    there = subject.installed
    reduction = "sum" if subject.one_by_one else "none"
    about = RowKey(case, "", subject.name, family.dtype, reduction, version=there.version, backend=there.variant)
    known = ledger.find(about, _symptoms(tally))
    if band not in outside(family.given, family.dtype):  # whose inputs the oracle has judged one by one
        certify(subject, int(label), tally)
    counts = {status: sum(n for (said, _), n in tally.said.items() if said == status) for status, _ in tally.said}
    conventions = sorted(convention for status, convention in tally.said if status == "diverges")
    worst = tally.ratio or tally.ulps
    values = (
        subject.name, there.version, there.variant, family.dtype, case, family.given, family.target, int(label), band,
        job.spread or (family.dtype in ("float16", "bfloat16") and not subject.one_by_one),
        tally.status, expected(tally.status, known is not None), tally.count,
        *(counts.get(status, 0) for status in ("agrees", "diverges", "disagrees", "undefined")),
        " | ".join(conventions),
        *_extreme(tally.ulps), *_extreme(tally.ratio),
        tally.histogram.tolist(), tally.why, known.told if known else "",
        _call(subject, float.fromhex(worst.x), int(label)) if worst else "",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _symptoms(tally: Tally) -> frozenset[str] | None:
    """In which way the region is wrong, by its worst input; None where it is not."""
    if tally.status not in FAILING:
        return None
    worst = tally.ratio
    return frozenset({symptom_of_number(worst.got, worst.want)} if worst else ())


def expected(status: str, known: bool) -> str:
    """What `suite.Assessment.expected` says of a row; `known`, of a failing one: as the ledger says."""
    if status in FAILING:
        return "known" if known else "unexpected"
    return "stale" if known else "ok"


def _extreme(found: Extreme | None) -> tuple[Any, ...]:
    if found is None:
        return (None,) * 5
    return found.size, float.fromhex(found.x), found.x, found.got, found.want


def _call(subject: Subject, x: float, label: int) -> str:
    one = np.array([x]).astype(numpy_dtype(subject.family.dtype))
    problem = subject.problem(one, np.array([label]))
    return reproducer(subject.framework, subject.function, problem, variant=subject.installed.variant)


def certify(subject: Subject, label: int, tally: Tally) -> None:
    """Hold the answers that the largest errors were measured against to the oracle's; raises InaccurateError."""
    for found in (tally.ratio, tally.ulps):
        if found is None or not np.isfinite(found.want):
            continue
        x = np.array([float.fromhex(found.x)]).astype(numpy_dtype(subject.family.dtype))
        problem = subject.family.problem(x, np.array([label]))
        parts = [DEFINITION, *(part for _, part in subject.parts)]
        answers = [oracle.evaluate(problem, semantic(part)) for part in parts]
        wants = [float(answer.hi.item()) for answer in answers if isinstance(answer, Exact)]
        if not any(abs(found.want - want) <= ACCURACY * abs(want) for want in wants):
            raise InaccurateError(f"{subject.key}: {found.want!r} at {found.x}, where one of {wants} is exact")


def failing(lines: Iterable[Line]) -> list[Line]:
    """What neither a documented convention nor the ledger accounts for."""
    return [line for line in lines if line["expected"] in ("unexpected", "stale")]


def totals(lines: Sequence[Line]) -> dict[str, int]:
    """How many inputs by status."""
    return {status: sum(line[status] for line in lines) for status in ("agrees", "diverges", "disagrees", "undefined")}
