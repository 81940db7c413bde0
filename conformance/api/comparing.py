"""Call every installed function with one data set: what each returns, the exact answer, and why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from conformance.adapters import registry
from conformance.adapters.contract import required_capabilities
from conformance.api.cases import check_functions
from conformance.api.data import Data, read_data
from conformance.api.result import Result
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.known_issues import load as read_ledger
from conformance.casefiles.loading import shipped_cases
from conformance.execution.targets import judge_of
from conformance.explain.explainer import explain as explain_case
from conformance.explain.explanation import Explanation
from conformance.explain.rendering import as_data
from conformance.judging.choice import installed_among, one_of
from conformance.judging.hypotheses import Explanations, explanations
from conformance.judging.printed import Printed, holds_in
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, QUANTITIES, InputKind, Problem, Published, Quantity
from conformance.model.convention import DEFINITION, Convention
from conformance.model.row_key import EAGER
from conformance.model.text import suggest
from conformance.reference.conversion import convert
from conformance.reference.enclosure import EnclosingOracle
from conformance.reference.oracle import Oracle


@dataclass(frozen=True)
class ObservedNumber:
    """A number that somebody got, and what gives it to its digits."""

    text: str
    """Its digits."""
    of: str
    """The framework or function that returned it; empty if that is not said."""
    dtype: str
    """A dtype in which it is the definition's answer; empty if it is in none."""
    returned_by: tuple[str, ...]
    """Functions that return it here, called as their documentation says."""
    documented_by: tuple[str, ...]
    """Functions that `of` names, of which it is what they document."""
    explanations: tuple[tuple[str, Explanations], ...]
    """Conventions, reductions, dtypes and mistakes that give it: of the definition, under an empty name, or of each
    other function that `of` names."""

    @property
    def name(self) -> str:
        """The number with who returned it."""
        return f"{self.of}={self.text}" if self.of else self.text

    def lines(self) -> list[str]:
        """A sentence for each of them."""
        found = [f"it is the definition's answer in {self.dtype}"] if self.dtype else []
        found += [f"{', '.join(self.returned_by)} returned it"] if self.returned_by else []
        found += [f"it is what {', '.join(self.documented_by)} documents"] if self.documented_by else []
        for name, explained in self.explanations:
            first, *others = explained.lines()
            found += [f"{name}: {first}", *(f"    {line}" for line in others)] if name else [first, *others]
        return found


@dataclass(frozen=True, eq=False)
class CompareResult(Result):
    """What every installed function returns for a data set, the exact answer, and why they differ."""

    command = "compare"
    decided: tuple[str, ...]
    """What was decided from the data, a sentence each."""
    explanation: Explanation
    """The answer, and each function with its reasons."""
    observed: tuple[ObservedNumber, ...]
    """Numbers that were to be explained."""
    data: Data
    """The data set as a case."""

    def to_dict(self) -> dict[str, Any]:
        observed = [
            {
                "number": number.text,
                "of": number.of,
                "dtype": number.dtype,
                "returned_by": list(number.returned_by),
                "documented_by": list(number.documented_by),
                "explanations": {name: explained.lines() for name, explained in number.explanations},
            }
            for number in self.observed
        ]
        return {"decided": list(self.decided), "observed": observed, "explanation": as_data(self.explanation)}


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
    """Put one data set to every installed function, and explain why they differ.

    Parameters
    ----------
    labels : array_like
        Class indices [N, ...], names of classes [N], or targets of the shape of the predictions; of any library.
    predictions : array_like
        Categorical [N, ..., C], binary of any shape; of any library, or a pandas DataFrame.
    kind : {"", "logits", "probabilities", "log_probabilities"}
        What the predictions are; decided from their values if empty.
    loss : {"", "categorical", "binary"}
        Decided from the shapes if empty.
    classes : sequence, optional
        Names of the classes in the order of the columns; if labels are names, the columns of a DataFrame that are
        called like them, or the sorted names, which is scikit-learn's order.
    class_weights, sample_weights, positive_weight : array_like, optional
        Weights, as in a case file.
    label_smoothing : float, optional
    ignore_index : int, optional
    reduction : {"mean", "sum", "none"}
    class_axis : int, optional
        Axis of the classes in the predictions; the last if None.
    dtype : str, optional
        To which predictions are rounded before functions are called; their own if empty.
    quantity : {"loss", "gradient", "perplexity", "perplexity_gradient", "d2", "hessian"}
    frameworks, functions : sequence of str
        Only these; all that are installed if both are empty.
    mode : str
        Mode in which functions are called.
    observed : sequence of str
        Numbers that somebody got, as printed, each alone or behind the name of a framework or function, such as
        `0.29` or `keras=0.31`.  For each, all is listed that gives it to its digits.

    Returns
    -------
    CompareResult

    Raises
    ------
    DataError
        If the arrays are no cross-entropy problem.
    SelectionError
        If a framework, function, quantity or mode does not exist, or an observed number is none.
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
    requested = cast(Quantity, one_of("--quantity", quantity, QUANTITIES))
    numbers = [_parse(text, reduction, requested) for text in observed]
    available, _ = installed_among(frameworks, [mode])
    check_functions(functions, available)
    case, chosen = data.case, data.case.dtypes[0]
    ledger = Ledger((), read_ledger(shipped_cases()).entries)
    with judge_of(available, ledger, EnclosingOracle) as judge:
        explanation = explain_case(case, chosen, data.inputs.reduction, available, judge, requested, functions)
        found = tuple(_explained(of, number, data, explanation, judge.oracle) for of, number in numbers)
    return CompareResult(data.decided, explanation, found, data)


def _parse(text: str, reduction: str, quantity: Quantity) -> tuple[str, Published]:
    """The framework or function, and the number."""
    of, _, digits = text.rpartition("=")
    try:
        Printed.parse(digits.strip())
    except ArithmeticError:
        raise SelectionError(f"--observed {text}: {digits!r} is no number; write 0.29, or keras=0.29") from None
    names = [function.name for function in registry.functions()]
    if not any(_is_of(name, of) for name in names):
        frameworks = [framework.name for framework in registry.frameworks()]
        hint = suggest(of, [*frameworks, *names], "conformance list functions")
        raise SelectionError(f"--observed {text}: there is no framework or function {of}; {hint}")
    if reduction == "none":
        raise SelectionError(f"--observed {text}: losses that are not reduced are several numbers; choose a reduction")
    return of, Published(digits.strip(), "", reduction=cast(Any, reduction), quantity=quantity)


def _explained(of: str, number: Published, data: Data, explanation: Explanation, oracle: Oracle) -> ObservedNumber:
    printed = [Printed.parse(number.value)]
    case, reduction = data.case, number.reduction
    right = (name for name in case.dtypes if holds_in(case.problem(name, reduction), number, printed, oracle))
    dtype = next(right, "")
    others = [] if dtype else [name for name in DTYPES if name not in case.dtypes]
    returned_by = tuple(
        one.function
        for one in explanation.functions
        if one.value is not None and _is_of(one.function, of) and printed[0].overlap(one.value, 0.0)
    )
    documented_by, found = [], []
    wide, narrow = case.problem("float64", reduction), case.problem(case.dtypes[0], reduction)
    for name, kind, convention in _conventions_of(of, wide):
        passed, _ = convert(narrow, kind)
        if of and holds_in(passed, number, printed, oracle, convention):
            documented_by.append(name)
            continue
        base, _ = convert(wide, kind)
        found.append((name, explanations(base, number, printed, oracle, convention, others)))
    return ObservedNumber(number.value, of, dtype, returned_by, tuple(documented_by), tuple(found))


def _is_of(function: str, of: str) -> bool:
    """Whether a function is the one of a name, or of the framework of that name."""
    return not of or function == of or function.startswith(f"{of}.")


def _conventions_of(of: str, problem: Problem) -> Iterator[tuple[str, InputKind, Convention]]:
    """Functions of a framework with what they take and document for a problem; the definition if none is named."""
    if not of:
        yield "", problem.input_kind, DEFINITION
        return
    for function in registry.functions():
        target = function.target_kind_for(problem.target_kind)
        if _is_of(function.name, of) and target is not None and problem.loss in function.ranks:
            kind = function.input_kind_for(problem.input_kind)
            capabilities = required_capabilities(problem, target)
            yield function.name, kind, registry.newest_convention(function, target, capabilities)


__all__ = ["CompareResult", "ObservedNumber", "compare"]
