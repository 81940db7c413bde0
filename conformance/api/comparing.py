"""Call all installed functions on one data set: their results, the exact answer, and why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from conformance.adapters import registry
from conformance.adapters.contract import required_capabilities
from conformance.api.base import Result
from conformance.api.cases import frameworks_to_call
from conformance.api.data import Data, read_data
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.known_issues import load as read_ledger
from conformance.casefiles.loading import shipped_cases
from conformance.execution.targets import open_judge
from conformance.explain.explainer import explain as explain_case
from conformance.explain.explanation import Explanation
from conformance.explain.rendering import serialize_explanation
from conformance.judging.choice import check_choice, check_sequence
from conformance.judging.hypotheses import FittingHypotheses, hypotheses_for_printed
from conformance.judging.printed import DigitInterval, matches_digits
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, QUANTITIES, InputKind, Problem, Quantity
from conformance.model.case import Published as StatedNumber
from conformance.model.convention import DEFINITION, Convention
from conformance.model.row_key import EAGER
from conformance.model.text import suggest
from conformance.reference.conversion import convert
from conformance.reference.enclosure import EnclosingOracle
from conformance.reference.oracle import Oracle


@dataclass(frozen=True)
class ObservedNumber:
    """An observed number, and the computations that reproduce it at its printed precision."""

    text: str
    """The number as given."""
    source: str
    """The framework or function that returned it, as stated; empty if none is."""
    dtype: str
    """A dtype in which it is the definition's answer; empty if there is none."""
    returned_by: tuple[str, ...]
    """Installed functions that return it when called as documented."""
    documented_by: tuple[str, ...]
    """Functions matched by `source` whose documented behaviour gives this number."""
    explanations: tuple[tuple[str, FittingHypotheses], ...]
    """Conventions, reductions, dtypes and mistakes that reproduce it, as (function, hypotheses that fit).

    One entry for each function matched by `source` that is not in `documented_by`; without a source, one entry named ""
    for the definition.
    """

    @property
    def name(self) -> str:
        """The number with its source, in the format of `--observed`."""
        return f"{self.source}={self.text}" if self.source else self.text

    def lines(self) -> list[str]:
        """A sentence for each way to reproduce the number."""
        sentences = [f"it is the definition's answer in {self.dtype}"] if self.dtype else []
        sentences += [f"{', '.join(self.returned_by)} returned it"] if self.returned_by else []
        sentences += [f"it is what {', '.join(self.documented_by)} documents"] if self.documented_by else []
        for name, hypotheses in self.explanations:
            first, *details = hypotheses.lines()
            sentences += [f"{name}: {first}", *(f"    {line}" for line in details)] if name else [first, *details]
        return sentences


@dataclass(frozen=True, eq=False)
class CompareResult(Result):
    """The results of all installed functions for a data set, the exact answer, and why they differ."""

    command = "compare"
    decided: tuple[str, ...]
    """A sentence for each choice that was inferred from the data, such as the kind of the predictions."""
    explanation: Explanation
    """The exact answer, and for each function its result and why it differs."""
    observed: tuple[ObservedNumber, ...]
    """The numbers passed as `observed`."""
    data: Data
    """The data set as a case."""

    def to_dict(self) -> dict[str, Any]:
        observed = [
            {
                "number": number.text,
                "of": number.source,
                "dtype": number.dtype,
                "returned_by": list(number.returned_by),
                "documented_by": list(number.documented_by),
                "explanations": {name: hypotheses.lines() for name, hypotheses in number.explanations},
            }
            for number in self.observed
        ]
        return {
            "decided": list(self.decided),
            "observed": observed,
            "explanation": serialize_explanation(self.explanation),
        }


def compare(
    labels: Any,
    predictions: Any,
    *,
    kind: str = "",
    loss: str = "",
    classes: Sequence[Any] | None = None,
    class_weights: Any = None,
    sample_weights: Any = None,
    positive_weight: Any = None,
    label_smoothing: float | None = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    class_axis: int | None = None,
    dtype: str = "",
    quantity: str = "loss",
    frameworks: Sequence[str] = (),
    functions: Sequence[str] = (),
    mode: str = EAGER,
    observed: Sequence[str] = (),
) -> CompareResult:
    """Call all installed functions on one data set, and explain why they differ.

    Parameters
    ----------
    labels : array_like
        Class indices [N, ...], names of classes [N], or targets of the shape of the predictions; of any library.
    predictions : array_like
        Categorical [N, ..., C], binary of any shape; of any library, or a pandas DataFrame.
    kind : {"", "logits", "probabilities", "log_probabilities"}
        Kind of the predictions; inferred from their values if empty.
    loss : {"", "categorical", "binary"}
        Inferred from the shapes if empty.
    classes : sequence, optional
        Names of the classes in the order of the columns; by default, if labels are names, the columns of a DataFrame
        with these names, or the sorted names, which is scikit-learn's order.
    class_weights, sample_weights, positive_weight : array_like, optional
        Weights of the classes [C], of the samples [N, ...] or of their leading axes, and of the positive label of a
        binary loss, a scalar or [C]. The mean divides by the sum of the class and sample weights of the samples that
        are not ignored.
    label_smoothing : float, optional
        Share from 0 to 1 of each target that is spread evenly over the classes; none by default.
    ignore_index : int, optional
        Label of samples to ignore, inside or outside the range of the classes; none by default.
    reduction : {"mean", "sum", "none"}
    class_axis : int, optional
        Axis of the classes in the predictions; the last if None.
    dtype : str, optional
        Dtype to which predictions are rounded before functions are called; their own if empty.
    quantity : str
        The quantity to compare: `loss`, `gradient`, `perplexity`, `perplexity_gradient`, `d2`, `hessian`, or for
        functions that compute the logits themselves `hidden_gradient`, `weight_gradient` or `bias_gradient`.  `d2` is
        the fraction of the deviance that the predictions explain, as in scikit-learn.
    frameworks, functions : sequence of str
        Names of the frameworks and functions to call; all installed ones if both are empty.
    mode : str
        Mode of the calls, such as "eager" or "compile"; frameworks without it are skipped.
    observed : sequence of str
        Observed numbers as printed, each alone or after the name of a framework or function, such as
        `0.29` or `keras=0.31`.  The result lists, for each, what reproduces it at its printed precision.

    Returns
    -------
    CompareResult

    Raises
    ------
    DataError
        If the arrays are not a cross-entropy problem.
    SelectionError
        If a framework, function, quantity or mode does not exist, or an observed number is not a number.
    """
    weights = {"class_weights": class_weights, "sample_weights": sample_weights, "positive_weight": positive_weight}
    data = read_data(
        labels,
        predictions,
        kind=kind,
        classes=classes,
        dtype=dtype,
        loss=loss,
        class_axis=class_axis,
        reduction=reduction,
        options={**weights, "label_smoothing": label_smoothing, "ignore_index": ignore_index},
    )
    requested = cast(Quantity, check_choice("--quantity", quantity, QUANTITIES))
    check_sequence("--observed", observed)
    numbers = [_parse_observed(str(number), reduction, requested) for number in observed]
    available = frameworks_to_call(frameworks, functions, [mode])
    ledger = Ledger(traits_only=read_ledger(shipped_cases()).entries)
    with open_judge(available, ledger, EnclosingOracle) as judge:
        explanation = explain_case(
            data.case, data.case.dtypes[0], data.inputs.reduction, available, judge, requested, functions
        )
        explained_numbers = tuple(_explain_observed(*number, data, explanation, judge.oracle) for number in numbers)
    return CompareResult(data.decided, explanation, explained_numbers, data)


def _parse_observed(text: str, reduction: str, quantity: Quantity) -> tuple[str, StatedNumber]:
    """Parse the framework or function, and the number.  Raises SelectionError."""
    source, _, digits = text.rpartition("=")
    try:
        DigitInterval.parse(digits.strip())
    except ArithmeticError:
        raise SelectionError(f"--observed {text}: {digits!r} is not a number; write 0.29, or keras=0.29") from None
    names = [function.name for function in registry.functions()]
    if not any(_matches(name, source) for name in names):
        frameworks = [framework.name for framework in registry.frameworks()]
        hint = suggest(source, [*frameworks, *names], "conformance list functions")
        raise SelectionError(f"--observed {text}: there is no framework or function {source}; {hint}")
    if reduction == "none":
        raise SelectionError(f"--observed {text}: losses that are not reduced are several numbers; choose a reduction")
    return source, StatedNumber(digits.strip(), reduction=cast(Any, reduction), quantity=quantity)


def _explain_observed(
    source: str, number: StatedNumber, data: Data, explanation: Explanation, oracle: Oracle
) -> ObservedNumber:
    printed = DigitInterval.parse(number.value)
    case, reduction = data.case, number.reduction
    dtypes = (name for name in case.dtypes if matches_digits(case.problem(name, reduction), number, [printed], oracle))
    dtype = next(dtypes, "")
    other_dtypes = [] if dtype else [name for name in DTYPES if name not in case.dtypes]
    returned_by = tuple(
        result.function
        for result in explanation.functions
        if result.value is not None
        and _matches(result.function, source)
        and printed.overlap(result.value, tolerance=0.0)
    )
    documented_by, fitting = [], []
    unrounded, rounded = case.problem("float64", reduction), case.problem(case.dtypes[0], reduction)
    for name, input_kind, convention in _documented_conventions(source, unrounded):
        passed_rounded, _ = convert(rounded, input_kind)
        if source and matches_digits(passed_rounded, number, [printed], oracle, convention):
            documented_by.append(name)
            continue
        passed_unrounded, _ = convert(unrounded, input_kind)
        hypotheses = hypotheses_for_printed(passed_unrounded, number, [printed], oracle, convention, other_dtypes)
        fitting.append((name, hypotheses))
    return ObservedNumber(number.value, source, dtype, returned_by, tuple(documented_by), tuple(fitting))


def _matches(function: str, source: str) -> bool:
    """Whether `source` is the function or its framework, or empty."""
    return not source or function == source or function.startswith(f"{source}.")


def _documented_conventions(source: str, problem: Problem) -> Iterator[tuple[str, InputKind, Convention]]:
    """Yield (function, input kind, documented convention) for a problem, of the functions matched by `source`.

    An empty source yields the definition, under an empty name.
    """
    if not source:
        yield "", problem.input_kind, DEFINITION
        return
    for function in registry.functions():
        target = function.target_kind_for(problem.target_kind)
        if _matches(function.name, source) and target is not None and problem.loss in function.ranks:
            input_kind = function.input_kind_for(problem.input_kind)
            capabilities = required_capabilities(problem, target)
            yield function.name, input_kind, registry.newest_convention(function, target, capabilities)
