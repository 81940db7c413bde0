"""Compare many returned losses with their exact values by the rules of `verdict`, with statistics per region.

An input agrees if its error is within the tolerance under the definition. Otherwise it diverges if its error is within
the tolerance under the function's documented convention; for each input, the smallest sufficient restriction of that
convention to some of its choices is named.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import call_name, lower
from conformance.adapters.registry import Installed, convention_for
from conformance.explore.sweep.counts import LargestError, RegionCounts, add_counts, add_ulps
from conformance.explore.sweep.inputs import NARROW_DTYPES, values_outside
from conformance.explore.sweep.reference_values import UNDECIDED_MARGIN, Chunk, ExactLosses, ProblemFamily
from conformance.judging.effects import loss_choices
from conformance.judging.reasons import MutatedArgument, WrongDtype, WrongShape
from conformance.judging.verdict import FAILING, Status, Verdict, judge
from conformance.model.case import REDUCTIONS, Array, ByOracle, Problem, numpy_dtype
from conformance.model.convention import DEFINITION, Convention, describe
from conformance.model.floats import Floats, equal_with_nan
from conformance.model.outcome import Outcome, Returned
from conformance.reference import oracle
from conformance.reference.domain import dtype_info
from conformance.reference.flat_problem import flatten
from conformance.reference.oracle import Exact, Oracle

Indices = npt.NDArray[np.intp]
Performer = Callable[..., Outcome]
"""Called as `calling.perform` is."""
Regions = dict[str, RegionCounts]
"""Statistics keyed by region: `positive_tail_label_0`."""

ROWWISE_CHOICES = {
    "logits": ("cancellation",),
    "probabilities": ("clip", "log_offset", "log_floor", "renormalise"),
    "log_probabilities": (),
}
"""Choices that affect a single row of one or two predictions; the others concern several rows."""
SUBSET_DIVISOR = 8
"""If fewer than one in this many inputs are undecided, answers are computed for these alone."""
MAX_BISECTION_CALLS = 64
"""Maximum number of calls to locate the inputs of a band that a function rejects."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One function swept over one family."""

    installed: Installed
    name: str
    """Name of the function in `installed`."""
    family: ProblemFamily
    labels: tuple[int, ...]
    """The labels of its calls."""

    @property
    def key(self) -> str:
        """`torch.BCELoss|sweep/binary/probabilities|float32`."""
        return f"{self.name}|{self.family.id}|{self.family.dtype}"

    @cached_property
    def function(self) -> Function:
        return next(function for function in self.installed.functions if function.name == self.name)

    @property
    def framework(self) -> Framework:
        return self.installed.framework

    @property
    def always_reduces(self) -> bool:
        """Whether the function has no unreduced form, so that each input needs a call."""
        return "none" not in self.function.reductions

    @cached_property
    def row_convention(self) -> Convention:
        """The documented convention, as far as it concerns one row."""
        return dataclasses.replace(self.documented.convention, binary_outputs="each")

    @cached_property
    def documented(self) -> DocumentedConvention:
        target = self.function.target_kind_for(self.family.target) or self.family.target
        return convention_for(self.function, self.installed.version, target, self.installed.backend)

    @cached_property
    def restrictions(self) -> tuple[tuple[str, Convention], ...]:
        """Restrictions of the documented convention to relevant choices, by name; those to the fewest choices first."""
        choices = [name for name in ROWWISE_CHOICES[self.family.input_kind] if name in self.row_convention.choices()]
        sets = itertools.chain.from_iterable(itertools.combinations(choices, k) for k in range(1, len(choices) + 1))
        return tuple(
            (
                describe({name: getattr(self.row_convention, name) for name in chosen}),
                self.row_convention.restricted_to(chosen),
            )
            for chosen in sets
        )

    @property
    def takes_flat_outputs(self) -> bool:
        return self.family.loss == "binary" and 2 not in self.function.ranks["binary"]

    def problem(self, x: Array, label: Array, targets: Array | None = None) -> Problem:
        """The problem with inputs x [n] and labels [n].

        targets: the targets of these labels, if they are already computed.
        """
        reduction = next(name for name in REDUCTIONS if name in self.function.reductions)  # equal for one loss
        return self.family.problem(x, label, reduction, self.takes_flat_outputs, targets)

    def loss_shape(self, count: int) -> tuple[int, ...]:
        """Shape of the losses of `count` inputs, as the function documents it."""
        if self.always_reduces:
            return ()
        return (count, *self._trailing_shape)

    @cached_property
    def _trailing_shape(self) -> tuple[int, ...]:
        return flatten(self._example, self.documented.convention).shape[1:]

    @cached_property
    def result_dtype(self) -> str:
        """Dtype of the losses, as the function documents it."""
        return self.function.result_dtype_for(self._example)

    def may_return(self, dtype: str) -> bool:
        """Whether its losses may have a dtype."""
        return self.function.may_return(dtype, self._example)

    @cached_property
    def _example(self) -> Problem:
        return self.problem(np.zeros(1, numpy_dtype(self.family.dtype)), np.zeros(1, np.int64))

    def outcome_of(self, loss: np.float64, dtype: str) -> Outcome:
        """One loss as an outcome, in the shape in which it is judged."""
        is_vector = self.takes_flat_outputs or self.family.loss == "categorical"
        shape: tuple[int, ...] = () if self.always_reduces else (1,) if is_vector else (1, 1)
        return Returned(np.full(shape, loss), dtype)

    def judge_one(self, x: Array, label: Array, outcome: Outcome) -> Verdict:
        """The verdict on an outcome for one input x [1] with its label [1]."""
        problem = self.problem(x, label)
        return judge(problem, problem, ByOracle(), self.function, self.row_convention, outcome, Oracle())


@dataclass(frozen=True, eq=False)
class Losses:
    """One loss per input, of the expected form."""

    values: Floats
    dtype: str


@dataclass(frozen=True)
class NoLosses:
    """The call returned no comparable losses: the verdict on the inputs, and why."""

    status: Status
    convention: str
    why: str


def call(
    subject: Subject, x: Array, label: Array, performer: Performer = perform, targets: Array | None = None
) -> Losses | NoLosses:
    """Call the function with inputs x [n] and labels [n]; return its losses, or the verdict if there are none.

    x: inputs in the dtype of the family.
    targets: the targets of the labels, if they are already computed.

    Raises LoweringError.
    """
    if not subject.always_reduces:
        return _check_form(subject, x, label, _call(subject, x, label, performer, targets))
    losses = []
    for i in range(len(x)):
        single = (x[i : i + 1], label[i : i + 1])
        result = _check_form(subject, *single, _call(subject, *single, performer))
        if isinstance(result, NoLosses):
            return result
        losses.append(result)
    return Losses(np.concatenate([part.values for part in losses]), losses[0].dtype)


def _call(subject: Subject, x: Array, label: Array, performer: Performer, targets: Array | None = None) -> Outcome:
    problem = subject.problem(x, label, targets)
    return performer(subject.framework, lower(subject.function, problem), call_name(subject.function, problem))


def _check_form(subject: Subject, x: Array, label: Array, outcome: Outcome) -> Losses | NoLosses:
    """Check the form of an outcome; one without comparable losses is judged for the first input."""
    if not isinstance(outcome, Returned):
        verdict = subject.judge_one(x[:1], label[:1], outcome)
        return NoLosses(verdict.status, verdict.convention, verdict.explanation)
    shape = subject.loss_shape(len(x))
    if outcome.mutated:
        return NoLosses("disagrees", "", str(MutatedArgument(outcome.mutated)))
    if not subject.may_return(outcome.dtype):
        return NoLosses("disagrees", "", str(WrongDtype(outcome.dtype, subject.result_dtype)))
    if outcome.value.shape != shape:
        return NoLosses("disagrees", "", str(WrongShape(got=outcome.value.shape, want=shape)))
    return Losses(outcome.value.reshape(-1), outcome.dtype)


def sweep_chunk(subject: Subject, chunk: Chunk, performer: Performer = perform) -> Regions:
    """Call the function with all signs and labels of a chunk in one call, and compare."""
    regions: Regions = {}
    variants = [(sign, label) for label in subject.labels for sign in subject.family.signs]
    x = np.concatenate([chunk.x(sign) for sign, _ in variants])
    labels, targets = _labels_and_targets(subject, len(x) // len(subject.labels))
    result = call(subject, x, labels, performer, targets)
    for index, (sign, label) in enumerate(variants):
        if isinstance(result, Losses):
            section = slice(index * len(chunk.patterns), (index + 1) * len(chunk.patterns))
            Comparer(subject, chunk, sign, label, result.dtype).compare(result.values[section], regions)
        else:
            for _, where in chunk.bands:
                band = chunk.subset(np.arange(where.start, where.stop))
                _bisect_failing(subject, band, sign, label, performer, regions, [MAX_BISECTION_CALLS])
    return regions


@lru_cache(maxsize=8)
def _labels_and_targets(subject: Subject, repeats: int) -> tuple[Array, Array]:
    """Labels and targets of a subject, shared by its chunks; other subjects have their own. A function that modifies
    them is detected in its first chunk, where arguments are compared with copies; its later results are not trusted.
    """
    label = np.repeat(np.array(subject.labels), repeats)
    return label, subject.family.targets(label)


def _bisect_failing(
    subject: Subject, chunk: Chunk, sign: int, label: int, performer: Performer, regions: Regions, calls_left: list[int]
) -> None:
    """Compare the inputs for which the call succeeds, found by bisection, and count the others as failed.

    calls_left: a list of one counter, decreased by each call; at 0 the remaining inputs count as failed.
    """
    count = len(chunk.patterns)
    calls_left[0] -= 1
    result = call(subject, chunk.x(sign), np.full(count, label), performer)
    if isinstance(result, Losses):
        Comparer(subject, chunk, sign, label, result.dtype).compare(result.values, regions)
    elif count == 1 or calls_left[0] <= 0:
        counts = RegionCounts({(result.status, result.convention): count})
        if result.status in FAILING:
            x = float(chunk.x(sign)[0])
            counts.error_ratio, counts.why = _missing_loss(x, int(chunk.patterns[0])), f"{result.why}, at {x!r}"
        add_counts(regions, chunk.regions(sign, label)[0], counts)
    else:
        for half in np.array_split(np.arange(count), 2):
            _bisect_failing(subject, chunk.subset(half), sign, label, performer, regions, calls_left)


@dataclass(eq=False)
class _Errors:
    """Errors of n losses, each array of shape [n], and the exact losses on which their verdicts rest."""

    error_ratio: Floats
    """Absolute error divided by the tolerance."""
    ulps: Floats
    """Absolute error in ulps of the exact loss."""
    want: Floats

    @classmethod
    def of(cls, got: Floats, expected: ExactLosses, where: Any) -> _Errors:
        """Errors of losses against the exact losses at some positions."""
        want = expected.hi[where]
        error = got - want
        if expected.lo is not None:
            error -= expected.lo[where]
        np.abs(error, out=error)
        ratio = error * expected.inverse_tolerance[where]
        error /= _at(expected.ulp, where)
        return cls(ratio, error, want)

    def subset(self, where: Indices | npt.NDArray[np.bool_]) -> _Errors:
        return _Errors(self.error_ratio[where], self.ulps[where], self.want[where])

    def assign(self, where: Indices | npt.NDArray[np.bool_], errors: _Errors) -> None:
        """Replace the errors at some positions."""
        self.error_ratio[where], self.ulps[where], self.want[where] = errors.error_ratio, errors.ulps, errors.want


def _count(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _at(values: Floats, where: Any) -> Floats:
    """Elements at some positions, or the one value for all positions."""
    return values if len(values) == 1 else np.asarray(values[where])


class Comparer:
    """Compares losses for one sign and label of a chunk.

    returned: the dtype that the function returned.
    """

    def __init__(self, subject: Subject, chunk: Chunk, sign: int, label: int, returned: str) -> None:
        self.subject, self.chunk, self.sign, self.label, self.returned = subject, chunk, sign, label, returned

    def compare(self, got: Floats, regions: Regions) -> None:
        """Add the statistics of the losses got [n], one for each magnitude of the chunk, to those of the regions."""
        expected = self.chunk.exact_losses(self.sign, self.label, DEFINITION, self.subject.row_convention)
        bands = self.chunk.bands
        with np.errstate(all="ignore"):
            rounded = np.logical_and.reduceat(got == expected.rounded, [where.start for _, where in bands]).tolist()
            names = self.chunk.regions(self.sign, self.label)
            for name, (_, where), is_rounding in zip(names, bands, rounded, strict=True):
                if is_rounding:
                    add_counts(regions, name, self._correctly_rounded(where, expected))
                else:
                    add_counts(regions, name, self._compare_band(got[where], where, expected))

    def _correctly_rounded(self, band: slice, expected: ExactLosses) -> RegionCounts:
        """Statistics of a band whose losses are all correctly rounded; cached if they agree.

        Most functions return the correctly rounded loss for most inputs, and their statistics do not depend on the
        function. Errors are computed only for other results.
        """
        counts = expected.rounded_counts.get((band.start, self.sign))
        if counts is None:
            counts = self._representable(band, expected) or self._compare_band(expected.rounded[band], band, expected)
            if all(status == "agrees" for status, _ in counts.by_verdict):
                expected.rounded_counts[band.start, self.sign] = counts
                expected.rounded_counts[band.start, -self.sign] = counts.negated()
        return counts

    def _representable(self, band: slice, expected: ExactLosses) -> RegionCounts | None:
        """The same if no loss had to be rounded, which needs no tolerance; None if one was rounded."""
        if not expected.is_representable(band):
            return None
        first, count = expected.hi.item(band.start), band.stop - band.start
        largest_error = self._largest_error(0.0, band.start, first, first)
        counts = RegionCounts({("agrees", ""): count}, error_ratio=largest_error, ulps=largest_error)
        counts.histogram[0] = count
        return counts

    def _compare_band(self, got: Floats, band: slice, expected: ExactLosses) -> RegionCounts:
        """Statistics of the losses [n] of a band."""
        errors = _Errors.of(got, expected, band)
        counts = RegionCounts()
        worst = errors.error_ratio.argmax()
        if errors.error_ratio[worst] <= 1 - UNDECIDED_MARGIN:  # False for nan
            counts.count_verdict("agrees", "", len(got))
        else:
            errors.want = errors.want.copy()
            self._explain(got, band, expected, errors, counts)
            worst = errors.error_ratio.argmax()
        most_ulps = errors.ulps.argmax()
        largest_errors = (
            (errors.error_ratio.item(worst), worst),
            (errors.ulps.item(most_ulps), most_ulps),
        )
        counts.error_ratio, counts.ulps = (
            self._largest_error(size, band.start + at, got.item(at), errors.want.item(at))
            for size, at in largest_errors
        )
        add_ulps(counts.histogram, errors.ulps, counts.ulps.size)
        return counts

    def _largest_error(self, size: float, index: int, got: float, want: float) -> LargestError:
        """Build a `LargestError` for the input at a position of the chunk; -0.0 becomes 0.0."""
        x = float(self.chunk.magnitudes.item(index)) * self.sign
        return LargestError(size, self.chunk.patterns.item(index), x.hex(), got + 0.0, want + 0.0)

    def _explain(self, got: Floats, band: slice, expected: ExactLosses, errors: _Errors, counts: RegionCounts) -> None:
        """Count the inputs of a band that agree, diverge and disagree. Their errors are replaced by those against the
        explaining answers.
        """
        undecided = np.flatnonzero(~(errors.error_ratio <= 1 - UNDECIDED_MARGIN))
        counts.count_verdict("agrees", "", len(got) - len(undecided))
        subset = errors.subset(undecided)
        self._explain_undecided(got[undecided], undecided + band.start, expected, subset, counts)
        errors.assign(undecided, subset)

    def _explain_undecided(
        self, got: Floats, positions: Indices, expected: ExactLosses, errors: _Errors, counts: RegionCounts
    ) -> None:
        """Count the verdicts on inputs whose errors may exceed the tolerance, at some positions of the chunk."""
        self._resolve(got, positions, DEFINITION, expected, errors, positions)
        exceeds = ~(errors.error_ratio <= 1)
        remaining = _count(exceeds)
        counts.count_verdict("agrees", "", len(got) - remaining)
        if remaining and self.subject.restrictions:
            name, convention = self.subject.restrictions[-1]
            by_convention = self._errors_under(got, positions, convention)
            explained = exceeds & (by_convention.error_ratio <= 1)
            errors.assign(explained, by_convention.subset(explained))
            counts.count_verdict(
                "diverges", name, self._explain_by_restrictions(got, positions, explained, errors, counts)
            )
            exceeds ^= explained
            remaining -= _count(explained)
            if remaining:
                closer = exceeds & (by_convention.error_ratio < errors.error_ratio)
                errors.assign(closer, by_convention.subset(closer))
        if remaining:
            counts.count_verdict("disagrees", "", remaining)
            worst = int(np.where(exceeds, errors.error_ratio, -1).argmax())
            want, x = (
                float(errors.want[worst]) + 0.0,
                float(self.chunk.magnitudes[positions[worst]]) * self.sign,
            )
            counts.why = f"returned {float(got[worst])!r} for {x!r}, where {want!r} is expected"

    def _explain_by_restrictions(
        self, got: Floats, positions: Indices, explained: npt.NDArray[np.bool_], errors: _Errors, counts: RegionCounts
    ) -> int:
        """Count inputs by the smallest restriction that explains them; return how many need the whole convention."""
        if len(self.subject.restrictions) == 1:
            return _count(explained)
        remaining = np.flatnonzero(explained)
        for name, convention in self.subject.restrictions[:-1]:
            if not len(remaining):
                break
            restricted = self._errors_under(got[remaining], positions[remaining], convention)
            suffices = restricted.error_ratio <= 1
            counts.count_verdict("diverges", name, _count(suffices))
            errors.assign(remaining[suffices], restricted.subset(suffices))
            remaining = remaining[~suffices]
        return len(remaining)

    def _errors_under(self, got: Floats, positions: Indices, convention: Convention) -> _Errors:
        """Errors of the losses of some inputs under a part of the documented convention."""
        chunk: Chunk = self.chunk
        where: Indices | slice = positions
        if self.subject.family.dtype not in NARROW_DTYPES and len(got) * SUBSET_DIVISOR < len(chunk.patterns):
            chunk, where = chunk.subset(positions), slice(None)
        expected = chunk.exact_losses(self.sign, self.label, convention, self.subject.row_convention)
        errors = _Errors.of(got, expected, where)
        self._resolve(got, positions, convention, expected, errors, where)
        return errors

    def _resolve(
        self,
        got: Floats,
        positions: Indices,
        convention: Convention,
        expected: ExactLosses,
        errors: _Errors,
        where: Any,
    ) -> None:
        """Apply the rules of `compare.compare` to nan and infinities, and let the oracle decide what float64 cannot.

        positions: positions of the losses in the chunk.  where: positions of the losses in `expected`.
        """
        largest_ratio = float(errors.error_ratio.max(initial=0.0))
        if not math.isfinite(largest_ratio):  # a loss that is not finite, or a tolerance of 0
            special = ~np.isfinite(got) | ~np.isfinite(errors.want)
            largest_number = dtype_info(self.returned).largest
            overflowed = np.isinf(got) & (np.abs(errors.want) + expected.tolerance[where] > largest_number)
            same = equal_with_nan(got, errors.want)
            same |= overflowed & (np.sign(got) == np.sign(errors.want))
            for sizes in (errors.error_ratio, errors.ulps):
                sizes[special] = np.where(same, 0.0, np.inf)[special]
            errors.error_ratio[np.isnan(errors.error_ratio)] = 0.0  # 0/0: no error, and no tolerance
        if largest_ratio < 1 - UNDECIDED_MARGIN:
            return
        undecided = errors.error_ratio >= 1 - UNDECIDED_MARGIN
        undecided &= errors.error_ratio <= 1 + UNDECIDED_MARGIN
        for position in np.flatnonzero(undecided).tolist():
            x = self.chunk.x(self.sign)[positions[position : position + 1]]
            exact = certified_loss(self.subject, x, self.label, convention)
            error = abs((float(got[position]) - float(exact.hi.item())) - float(exact.lo.item()))
            errors.error_ratio[position] = error / expected.tolerance[where][position]
            errors.ulps[position] = error / float(_at(expected.ulp, where)[position if len(expected.ulp) > 1 else 0])


def certified_loss(subject: Subject, x: Array, label: int, convention: Convention) -> Exact:
    """The oracle's answer for one input x [1], under a part of the documented convention."""
    exact = oracle.evaluate(subject.family.problem(x, np.array([label])), loss_choices(convention))
    assert isinstance(exact, Exact), exact
    return exact


def sweep_outside(subject: Subject, performer: Performer = perform) -> Regions:
    """Call the function with values outside the bands, kind by kind, and judge input by input."""
    regions: Regions = defaultdict(RegionCounts)
    for kind, x in values_outside(subject.family.input_kind, subject.family.dtype).items():
        for label in subject.labels:
            counts = regions[f"{kind}_label_{label}"]
            labels = np.full(len(x), label)
            result = call(subject, x, labels, performer)
            if isinstance(result, NoLosses):
                counts.count_verdict(result.status, result.convention, len(x))
                if result.status in FAILING:
                    counts.merge(RegionCounts(error_ratio=_missing_loss(float(x[0])), why=result.why))
                continue
            for index in range(len(x)):
                input_ = x[index : index + 1]
                verdict = subject.judge_one(input_, labels[:1], subject.outcome_of(result.values[index], result.dtype))
                counts.count_verdict(verdict.status, verdict.convention, 1)
                if verdict.status in FAILING:
                    got, want = float(result.values[index]), _wanted_value(verdict)
                    infinite = LargestError(np.inf, 0, float(input_[0]).hex(), got, want)
                    counts.merge(
                        RegionCounts(error_ratio=infinite, why=f"{verdict.explanation}, at {float(input_[0])!r}")
                    )
    return regions


def _missing_loss(x: float, pattern: int = 0) -> LargestError:
    """An input for which no comparable loss was returned."""
    return LargestError(np.inf, pattern, x.hex(), math.nan, math.nan)


def _wanted_value(verdict: Verdict) -> float:
    """The answer on which the verdict on one loss rests; nan if there is none."""
    answer = verdict.want_by_convention or verdict.want
    return float(answer.hi.item()) if isinstance(answer, Exact) else math.nan
