"""The error of a mean as a function of the number of averaged losses, up to 10^7.

The losses are those of `DISTINCT_LOSSES` inputs with labels, drawn repeatedly. So the exact mean is a sum of that many
exact losses times their multiplicities, in rational arithmetic: certified for each length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import call_name, lower
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.explore.sweep.comparer import Performer, Subject
from conformance.explore.sweep.reference_values import ProblemFamily
from conformance.judging.verdict import FAILING, expected_status, judge
from conformance.model.case import ByOracle, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention
from conformance.model.floats import Floats
from conformance.model.outcome import Raised, Returned
from conformance.model.row_key import RowKey
from conformance.reference import oracle
from conformance.reference.domain import dtype_info
from conformance.reference.oracle import Answer, Exact, Oracle

MeanRow = dict[str, Any]

LENGTHS = tuple(10**k for k in range(1, 8))
DISTINCT_LOSSES = 1000
"""Number of different losses in a mean."""
SEED = 4096
LOGIT_DEVIATION = 4.0
"""Standard deviation of the logits; probabilities are uniform in the middle 90 %."""
COLUMNS = (
    "function", "version", "variant", "dtype", "case", "given", "target", "length", "status", "expected",
    "got", "want", "error", "budget", "ratio", "ulps", "convention", "explanation", "known", "call",
)  # fmt: skip


def case_of(family: ProblemFamily, length: int) -> str:
    """Id of a mean."""
    return f"{family.id}/mean_of_{length}"


@dataclass(frozen=True, eq=False)
class MeanInputs:
    """Inputs x [DISTINCT_LOSSES] in the dtype with labels, and the order in which they are drawn."""

    family: ProblemFamily
    x: npt.NDArray[Any]
    label: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]

    def problem(self, flat: bool = False) -> Problem:
        """The problem of the mean.  flat: give binary predictions the shape [length]."""
        return self.family.problem(self.x[self.order], self.label[self.order], "mean", flat)

    @property
    def counts(self) -> list[int]:
        return list(map(int, np.bincount(self.order, minlength=len(self.x))))


def draw_inputs(family: ProblemFamily, length: int) -> MeanInputs:
    """Draw the inputs of one length; deterministic."""
    random = np.random.default_rng(SEED)
    match family.input_kind:
        case "logits":
            x = random.normal(0, LOGIT_DEVIATION, DISTINCT_LOSSES)
        case "probabilities":
            x = random.uniform(0.05, 0.95, DISTINCT_LOSSES)
        case "log_probabilities":
            x = -random.exponential(1.0, DISTINCT_LOSSES)
    label = (
        random.integers(0, 2, DISTINCT_LOSSES) if len(family.labels) > 1 else np.full(DISTINCT_LOSSES, family.labels[0])
    )
    order = random.integers(0, DISTINCT_LOSSES, length)
    return MeanInputs(family, x.astype(numpy_dtype(family.dtype)), label, order)


class MeanOracle(Oracle):
    """An oracle for one mean, under conventions that weigh all losses equally."""

    def __init__(self, means: MeanInputs) -> None:
        super().__init__()
        self._counts = means.counts
        self._distinct = means.family.problem(means.x, means.label)
        self._answers: dict[Convention, Answer] = {}

    def answer(self, problem: Problem, convention: Convention = DEFINITION, max_radius: Floats | None = None) -> Answer:
        """The exact mean, with an error far below any tolerance for any `max_radius`."""
        if convention not in self._answers:
            self._answers[convention] = self._mean(oracle.evaluate(self._distinct, convention))
        return self._answers[convention]

    def _mean(self, losses: Answer) -> Answer:
        if not isinstance(losses, Exact) or not np.isfinite(losses.hi).all():
            return losses
        terms = zip(
            self._counts,
            *(component.reshape(-1).tolist() for component in (losses.hi, losses.lo, losses.rad)),
            strict=True,
        )
        total = spread = Fraction(0)
        for count, hi, lo, rad in terms:
            total += count * (Fraction(hi) + Fraction(lo))
            spread += count * Fraction(rad)
        mean = total / sum(self._counts)
        hi = float(mean)
        lo = float(mean - Fraction(hi))
        remainder = abs(mean - Fraction(hi) - Fraction(lo)) + spread / sum(self._counts)
        return Exact(
            *(
                np.array(component)
                for component in (hi, lo, np.nextafter(float(remainder), np.inf) if remainder else 0.0)
            )
        )


def measure(
    installed: Installed, name: str, family: ProblemFamily, length: int, ledger: Ledger, performer: Performer = perform
) -> MeanRow:
    """The row of one function on one mean. Raises LoweringError."""
    subject = Subject(installed, name, family, family.labels)
    function, means = subject.function, draw_inputs(family, length)
    problem = means.problem(subject.takes_flat_outputs)
    outcome = performer(installed.framework, lower(function, problem), call_name(function, problem))
    verdict = judge(problem, problem, ByOracle(), function, subject.documented.convention, outcome, MeanOracle(means))
    row_key = RowKey(
        case_of(family, length), "", name, family.dtype, "mean", version=installed.version, backend=installed.backend
    )
    known = ledger.find(row_key, verdict.symptoms if verdict.status in FAILING else None)
    comparison = verdict.comparison
    want = MeanOracle(means).answer(problem)
    values = (
        name, installed.version, installed.backend, family.dtype, case_of(family, length), family.input_kind,
        family.target, length, verdict.status,
        expected_status(verdict.status, known is not None),
        float(outcome.value) if isinstance(outcome, Returned) and outcome.value.ndim == 0 else None,
        float(want.hi) if isinstance(want, Exact) else None,
        *((c.error, c.tolerance, c.error_ratio, c.ulps) if (c := comparison) else (None,) * 4),
        verdict.convention,
        f"{outcome.exception}: {outcome.message}" if isinstance(outcome, Raised) else verdict.explanation,
        known.summary if known else "",
        f"conformance sweep {name} --lengths --dtype {family.dtype} --given {family.input_kind}",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def overflows(line: MeanRow, family: ProblemFamily) -> bool:
    """Whether the sum is beyond the range of the dtype, so that longer means are skipped."""
    largest = dtype_info(family.dtype).largest
    return line["got"] is None or not np.isfinite(line["got"]) or line["want"] * line["length"] > 16 * largest


def mean_lines(
    installed: Installed, name: str, family: ProblemFamily, ledger: Ledger, lengths: Sequence[int] = LENGTHS
) -> Iterator[MeanRow]:
    """Rows of means of growing length, up to the first that overflows."""
    for length in lengths:
        line = measure(installed, name, family, length, ledger)
        yield line
        if overflows(line, family):
            return
