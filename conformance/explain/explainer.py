"""Build the `Explanation` of a case with one dtype and reduction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from conformance.adapters.arrays import nested
from conformance.adapters.contract import Function
from conformance.adapters.registry import Installed
from conformance.execution.run import Run
from conformance.explain import gradient_derivation
from conformance.explain.attribution import decompose, differences, tolerance_under
from conformance.explain.derivation import array_text, derive
from conformance.explain.explanation import Derivation, Explanation, FunctionResult, KnownIssueNote, Step
from conformance.explain.number_format import format_element
from conformance.explain.remedies import remedies
from conformance.judging.conversions import change_of, conversion_of
from conformance.judging.effects import answer_by
from conformance.judging.judge import Assessment, Judge
from conformance.judging.plan import (
    candidates,
    documented_convention,
    is_selected,
    items_of,
    not_differentiated,
    unsupported,
)
from conformance.judging.published import published
from conformance.judging.selection import function_filter
from conformance.model.case import Case, Problem, Quantity, Reduction, is_derivative
from conformance.model.convention import DEFINITION
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.model.text import as_sentence
from conformance.reference.conversion import WEIGHT_DESCRIPTIONS
from conformance.reference.oracle import Answer, Exact, Oracle

MAX_MESSAGE = 160
"""Maximum number of characters of an exception's message that are shown."""
MAX_UNASKED = 1 << 18
"""Maximum number of predictions for which the effect of a conversion is computed if the function agrees."""
MAX_LITERAL = 60
"""Maximum number of elements of an array of the case that are written out."""


def explain(
    case: Case,
    dtype: str,
    reduction: Reduction,
    available: Sequence[Installed],
    judge: Judge,
    quantity: Quantity = "loss",
    functions: Iterable[str] = (),
) -> Explanation:
    """Explain how the definition reaches its answer and what each function returns instead.

    available: the installed frameworks whose functions are called.
    functions: names of functions; none means all.
    """
    problem = judge.problems.of(case, dtype, reduction)
    names = frozenset(functions)
    ((_, functions_of_case),) = candidates([case], available, function_filter(names))
    items = [item for item in items_of(case, problem, functions_of_case) if item.quantity == quantity]
    derivation = _derivation(case, problem, quantity, judge.oracle)
    run = Run()
    results = tuple(run.each(items, lambda item: function_result(judge.assess(item), judge)))
    function_of = {item.id: item.function.name for item in items}
    failed = [(function_of[item.id], f"the harness could not say it: {item.why}") for item in run.not_executed]
    selected = {item.function.name for item in items}
    skipped = [
        (function.name, why)
        for installed in available
        for function in installed.functions
        if function.name not in selected and (not names or function.name in names)
        if (why := skip_reason(installed, function, case, problem, quantity))
    ]
    location = f"{case.path}:{case.line}" if case.path else ""
    return Explanation(
        case.id,
        case.why,
        location,
        dtype,
        reduction,
        quantity,
        (*facts(problem), *([("note", case.axis_note)] if case.axis_note else [])),
        derivation,
        results,
        (*failed, *skipped),
        tuple(
            number.record()
            for number in published(case)
            if (number.published.reduction, number.published.quantity) == (reduction, quantity)
        ),
    )


def skip_reason(installed: Installed, function: Function, case: Case, problem: Problem, quantity: Quantity) -> str:
    """Why a function is not called on this problem; "" if it is called, or returns another quantity."""
    if quantity not in (function.quantity, *function.gradients):
        return ""
    why = unsupported(function, case, problem)
    if why is None and is_derivative(quantity):
        why = not_differentiated(installed, function, case, problem)
    if why is None and not is_selected(function, case, None):
        return "it is called with only some of the shipped cases by default; name it"
    return why or ""


def facts(problem: Problem) -> tuple[tuple[str, str], ...]:
    """The inputs of the problem as (name, text), with their values in its dtype."""

    def text(values: object) -> str:
        if not hasattr(values, "shape"):
            return str(values)
        if values.size > MAX_LITERAL:  # type: ignore[attr-defined]
            return f"{values.dtype} of shape {values.shape}"  # type: ignore[attr-defined]
        return nested(values).replace("float('", "").replace("')", "")  # type: ignore[arg-type]

    problem_text = (
        f"{problem.loss} loss of {problem.input_kind.replace('_', '-')}, {problem.target} targets, {problem.dtype}"
    )
    labels = problem.layout.name_labels(problem.labels)
    entries = [("problem", problem_text), ("predictions", text(problem.predictions)), ("labels", text(labels))]
    entries += [("classes", str(list(names)))] if (names := problem.layout.class_names) else []
    entries += [(name, text(getattr(problem.options, name))) for name in problem.options.names()]
    entries += [("layout", ", ".join(words.values()))] if (words := problem.layout.words()) else []
    return tuple(entries)


def _derivation(case: Case, problem: Problem, quantity: Quantity, oracle: Oracle) -> Derivation:
    def answers(problem: Problem) -> Answer:
        return oracle.answer(problem)

    want = answer_by(problem, DEFINITION, quantity, oracle)
    derivation = derive(problem, case.expect, quantity, answers, want)
    if not is_derivative(quantity):
        return derivation
    lines = (
        gradient_derivation.closed_form(problem, want, gradient_derivation.largest_element(want), quantity, oracle)
        if isinstance(want, Exact) and want.hi.size
        else ()
    )
    return dataclasses.replace(
        derivation,
        definition_formula=gradient_derivation.formula(problem, quantity),
        samples=(),
        omitted=0,
        reduction=lines,
    )


def function_result(assessment: Assessment, judge: Judge) -> FunctionResult:
    """The result of one function, and the reasons for its difference from the definition, if there is one."""
    item, verdict = assessment.item, assessment.verdict
    departs = verdict.status != "agrees"
    decomposition = decompose(assessment)
    gradient: tuple[Step, ...] = ()
    if is_derivative(item.quantity) and departs and isinstance(verdict.want, Exact) and verdict.want.hi.size:
        where = decomposition.index if decomposition is not None else gradient_derivation.largest_element(verdict.want)
        problem = assessment.prepared.problem
        gradient = gradient_derivation.closed_form(problem, verdict.want, where, item.quantity, judge.oracle)
    known = assessment.known
    return FunctionResult(
        item.function.name,
        item.installed.version,
        verdict.status,
        assessment.expected,
        outcome_text(verdict.outcome),
        isinstance(verdict.outcome, Returned),
        _number(verdict.outcome),
        "" if verdict.reason is None else str(verdict.reason),
        departs,
        _conversions(assessment, judge.oracle),
        differences(assessment, judge.oracle) if departs else (),
        decomposition,
        gradient,
        remedies(assessment, judge) if departs else (),
        None
        if known is None
        else KnownIssueNote(known.reason, known.see, known.reproducer, known.shows, f"{known.path}:{known.line}"),
        assessment.call,
        documented_convention(item, assessment.prepared.problem).documentation if departs else "",
        verdict.effects,
    )


def _number(outcome: Outcome) -> float | None:
    return float(outcome.value) if isinstance(outcome, Returned) and outcome.value.ndim == 0 else None


def outcome_text(outcome: Outcome) -> str:
    """Summarise an outcome in a few words."""
    match outcome:
        case Returned(value):
            return (
                format_element(value.astype(outcome.dtype) if outcome.dtype in _NUMPY else value)
                if value.ndim == 0
                else (array_text(value))
            )
        case NonNumeric(what):
            return what
        case Raised(exception, message):
            return f"{exception}: {message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + '...'}"
        case Crashed(how):
            return f"the process {how}"
        case TimedOut(seconds):
            return f"did not return within {seconds:g} s"
        case Unsupported(why):
            return why


_NUMPY = ("float16", "float32", "float64")


def _conversions(assessment: Assessment, oracle: Oracle) -> str:
    """What was passed instead of the case's weights and predictions, as text; see `conversion_effect`."""
    weights, item = assessment.prepared.weights, assessment.item
    sentences = [as_sentence(WEIGHT_DESCRIPTIONS[weights])] if weights else []
    if assessment.verdict.status != "agrees" or item.case.predicted <= MAX_UNASKED:
        sentences.append(conversion_effect(assessment, oracle))
    return " ".join(filter(None, sentences))


def conversion_effect(assessment: Assessment, oracle: Oracle) -> str:
    """What was passed instead of the case's predictions, and the effect, as text; "" if nothing was converted.

    The text is returned even if the verdict's message contains it.
    """
    prepared, verdict = assessment.prepared, assessment.verdict
    conversion = verdict.conversion
    if not prepared.conversion or (conversion is not None and verdict.status != "diverges"):
        return ""
    if conversion is None:
        change = change_of(
            prepared.problem, prepared.converted, DEFINITION, oracle, tolerance_under(assessment, DEFINITION)
        )
        conversion = conversion_of(prepared.problem, prepared.converted, change, prepared.item.function, DEFINITION)
    return as_sentence(str(conversion))
