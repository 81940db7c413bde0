"""The rows of a sweep, one per function, dtype and region, as builtin values in the order of `COLUMNS`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from conformance.adapters.contract.reproducer import reproducer
from conformance.casefiles.known_issues import SWEEP_PREFIX, Ledger
from conformance.explore.sweep.comparer import Regions, Subject
from conformance.explore.sweep.counts import BINS, LargestError, RegionCounts
from conformance.explore.sweep.inputs import bands, values_outside
from conformance.explore.sweep.long_means import LENGTHS, case_of
from conformance.explore.sweep.reference_values import FLOAT64_LOSS_ERROR, ProblemFamily, region_name
from conformance.explore.sweep.runner import SHIFTS, Job
from conformance.judging.compare import symptom_of_number
from conformance.judging.effects import loss_choices
from conformance.judging.verdict import FAILING, FAILING_ROWS, expected_status
from conformance.model.case import INPUT_KINDS, Loss, numpy_dtype
from conformance.model.convention import DEFINITION
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.row_key import RowKey
from conformance.reference import oracle
from conformance.reference.oracle import Exact

RegionRow = dict[str, Any]
COLUMNS = (
    "function", "version", "variant", "dtype", "case", "given", "target", "label", "region", "exhaustive",
    "status", "expected", "count", "agrees", "diverges", "disagrees", "undefined", "convention",
    "ulps", "ulps_at", "ulps_at_hex", "ulps_got", "ulps_want",
    "ratio", "ratio_at", "ratio_at_hex", "ratio_got", "ratio_want",
    "histogram", "why", "known", "call",
)  # fmt: skip
HISTOGRAM_EDGES = (*(2.0 ** (k - 1) for k in range(BINS)), float("inf"))
"""Upper edges of the histogram's bins, in ulps. The last but one has all larger finite errors."""


class InaccurateError(ArithmeticError):
    """The float64 functions of this machine are less accurate than `reference_values` assumes, so no verdict is
    valid.
    """


def region_lines(job: Job, regions: Regions, ledger: Ledger) -> Iterator[RegionRow]:
    """The rows of one job, in the order of its regions."""
    order = list(region_names(job.subject.family))
    for name in sorted(regions, key=order.index):
        yield _row(job, name, regions[name], ledger)


def region_names(family: ProblemFamily) -> Iterator[str]:
    """Names of all regions that a family can have."""
    names = dict.fromkeys(
        region_name(family, sign, band.name, label)
        for sign in family.signs
        for band in bands(family.input_kind, family.dtype)
        for label in family.labels
    )
    yield from names
    for kind, label in itertools.product(values_outside(family.input_kind, family.dtype), family.labels):
        yield f"{kind}_label_{label}"


def check_ledger(ledger: Ledger) -> None:
    """Raise CaseErrors if an entry names a region that no sweep has."""
    kinds: tuple[tuple[Loss, str], ...] = (("binary", "binary"), ("categorical", "index"), ("categorical", "one_hot"))
    families = [
        ProblemFamily(loss, input_kind, target, "float32", shift)
        for loss, target in kinds
        for input_kind in INPUT_KINDS
        for shift in ((0.0, *SHIFTS) if input_kind == "logits" and loss == "categorical" else (0.0,))
    ]
    ids = [f"{family.id}/{name}" for family in families for name in region_names(family)]
    ids += [case_of(family, length) for family in families for length in LENGTHS]
    wrong = [
        CaseFileError(entry.path, entry.line, 1, "", f"no sweep has a region {entry.case}", "correct it or remove it")
        for entry in ledger.entries
        if entry.case.startswith(SWEEP_PREFIX) and not any(map(entry.matches_case, ids))
    ]
    if wrong:
        raise CaseErrors(tuple(wrong))


def _row(job: Job, name: str, counts: RegionCounts, ledger: Ledger) -> RegionRow:
    subject, family = job.subject, job.subject.family
    band, _, label = name.rpartition("_label_")
    case = f"{family.id}/{name}"
    installed = subject.installed
    reduction = "sum" if subject.always_reduces else "none"
    row_key = RowKey(
        case, "", subject.name, family.dtype, reduction, version=installed.version, backend=installed.backend
    )
    known = ledger.find(row_key, _symptoms(counts))
    if band not in values_outside(family.input_kind, family.dtype):  # the oracle judged each of those
        check_reference_values(subject, int(label), counts)
    inputs_by_status = {
        status: sum(n for (its_status, _), n in counts.by_verdict.items() if its_status == status)
        for status, _ in counts.by_verdict
    }
    conventions = sorted(convention for status, convention in counts.by_verdict if status == "diverges")
    worst = counts.error_ratio or counts.ulps
    values = (
        subject.name, installed.version, installed.backend, family.dtype, case, family.input_kind, family.target,
        int(label), band,
        job.by_unit or (family.dtype in ("float16", "bfloat16") and not subject.always_reduces),
        counts.status, expected_status(counts.status, known is not None), counts.count,
        *(inputs_by_status.get(status, 0) for status in ("agrees", "diverges", "disagrees", "undefined")),
        " | ".join(conventions),
        *_largest_error_cells(counts.ulps), *_largest_error_cells(counts.error_ratio),
        counts.histogram.tolist(), counts.why, known.summary if known else "",
        _reproducer(subject, float.fromhex(worst.x), int(label)) if worst else "",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _symptoms(counts: RegionCounts) -> frozenset[str] | None:
    """Symptoms of the worst input of the region; None if the region is right."""
    if counts.status not in FAILING:
        return None
    worst = counts.error_ratio
    return frozenset({symptom_of_number(worst.got, worst.want)} if worst else ())


def _largest_error_cells(error: LargestError | None) -> tuple[Any, ...]:
    if error is None:
        return (None,) * 5
    return error.size, float.fromhex(error.x), error.x, error.got, error.want


def _reproducer(subject: Subject, x: float, label: int) -> str:
    input_ = np.array([x]).astype(numpy_dtype(subject.family.dtype))
    problem = subject.problem(input_, np.array([label]))
    return reproducer(subject.framework, subject.function, problem, backend=subject.installed.backend)


def check_reference_values(subject: Subject, label: int, counts: RegionCounts) -> None:
    """Compare the reference values of the largest errors with the oracle. Raises InaccurateError."""
    for error in (counts.error_ratio, counts.ulps):
        if error is None or not np.isfinite(error.want):
            continue
        x = np.array([float.fromhex(error.x)]).astype(numpy_dtype(subject.family.dtype))
        problem = subject.family.problem(x, np.array([label]))
        restrictions = [DEFINITION, *(restriction for _, restriction in subject.restrictions)]
        answers = [oracle.evaluate(problem, loss_choices(restriction)) for restriction in restrictions]
        exact_losses = [float(answer.hi.item()) for answer in answers if isinstance(answer, Exact)]
        if not any(abs(error.want - want) <= FLOAT64_LOSS_ERROR * abs(want) for want in exact_losses):
            raise InaccurateError(f"{subject.key}: {error.want!r} at {error.x}, where one of {exact_losses} is exact")


def failing(lines: Iterable[RegionRow]) -> list[RegionRow]:
    """Rows that are explained neither by a documented convention nor by the ledger."""
    return [line for line in lines if line["expected"] in FAILING_ROWS]


def totals(lines: Sequence[RegionRow]) -> dict[str, int]:
    """Number of inputs by status."""
    return {status: sum(line[status] for line in lines) for status in ("agrees", "diverges", "disagrees", "undefined")}
