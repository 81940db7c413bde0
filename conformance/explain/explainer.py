"""A case at one dtype and reduction, and what functions do about it, put into an `Explanation`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from conformance.adapters.contract import Function, LoweringError, nested
from conformance.adapters.registry import Installed
from conformance.casefiles.stated_values import published
from conformance.explain import gradient_derivation
from conformance.explain.attribution import allowed_by, differences, split
from conformance.explain.derivation import array_text, derived
from conformance.explain.explanation import Answered, Derivation, Explanation, Ledgered, Line, PublishedNumber
from conformance.explain.number_format import element
from conformance.explain.remedies import remedies
from conformance.judging.rendering import render_conversion
from conformance.judging.suite import Assessment, Suite, not_differentiated, plan, problem_of, rule_of, unsupported
from conformance.judging.verdict import answer_by, change_of, conversion_of
from conformance.model.case import Case, Problem, Quantity, Reduction
from conformance.model.convention import DEFINITION
from conformance.model.outcome import Crashed, NonNumeric, Outcome, Raised, Returned, TimedOut, Unsupported
from conformance.reference.oracle import Answer, Exact, Oracle

MESSAGE = 160
"""Characters of an exception's message that are shown."""
LITERAL = 60
"""Elements up to which an array of the case is written out."""


def explain(
    case: Case,
    dtype: str,
    reduction: Reduction,
    here: Sequence[Installed],
    asker: Suite,
    quantity: Quantity = "loss",
    wanted: Iterable[str] = (),
) -> Explanation:
    """How the answer comes about, and what each function does.

    here: frameworks to ask.  wanted: names of functions, all of them if none is named.
    """
    problem = problem_of(case, dtype, reduction)
    names = frozenset(wanted)
    items = [
        item
        for item in plan([case], here)
        if (item.dtype, item.reduction, item.quantity) == (dtype, reduction, quantity)
        and (not names or item.function.name in names)
    ]
    derivation = _derivation(case, problem, quantity, asker.oracle)
    functions, failed = [], []
    for item in items:
        try:
            functions.append(answered(asker.assess(item), asker))
        except LoweringError as error:
            failed.append((item.function.name, f"the harness could not say it: {error}"))
    asked = {item.function.name for item in items}
    left = [
        (function.name, why)
        for installed in here
        for function in installed.functions
        if function.name not in asked and (not names or function.name in names)
        if (why := why_not(installed, function, case, problem, quantity))
    ]
    place = f"{case.path}:{case.line}" if case.path else ""
    return Explanation(
        case.id,
        case.why,
        place,
        dtype,
        reduction,
        quantity,
        facts(problem),
        derivation,
        tuple(functions),
        (*failed, *left),
        () if quantity == "gradient" else _published(case, reduction),
    )


def _published(case: Case, reduction: Reduction) -> tuple[PublishedNumber, ...]:
    return tuple(
        PublishedNumber(found.published.value, found.published.source, found.exact, found.holds)
        for found in published(case)
        if found.published.reduction == reduction
    )


def why_not(installed: Installed, function: Function, case: Case, problem: Problem, quantity: Quantity) -> str:
    """Why a function is not asked; "" where it is."""
    why = unsupported(function, case, problem)
    if why is None and quantity == "gradient":
        why = not_differentiated(installed, function, case, problem)
    return why or ""


def facts(problem: Problem) -> tuple[tuple[str, str], ...]:
    """What is given, with the values that the dtype has."""

    def text(values: object) -> str:
        if not hasattr(values, "shape"):
            return str(values)
        if values.size > LITERAL:  # type: ignore[attr-defined]
            return f"{values.dtype} of shape {values.shape}"  # type: ignore[attr-defined]
        return nested(values).replace("float('", "").replace("')", "")  # type: ignore[arg-type]

    said = f"{problem.loss} loss of {problem.given.replace('_', '-')}, {problem.target} targets, {problem.dtype}"
    found = [("problem", said), ("predictions", text(problem.predictions)), ("labels", text(problem.labels))]
    found += [(name, text(getattr(problem.options, name))) for name in problem.options.names()]
    found += [("layout", " ".join(problem.layout.names()))] if problem.layout.names() else []
    return tuple(found)


def _derivation(case: Case, problem: Problem, quantity: Quantity, exact: Oracle) -> Derivation:
    def answers(of: Problem) -> Answer:
        return exact.answer(of)

    want = answer_by(problem, DEFINITION, quantity, exact)
    found = derived(problem, case.expect, quantity, answers, want)
    if quantity == "loss":
        return found
    lines = (
        gradient_derivation.closed_form(problem, want, gradient_derivation.largest(want))
        if isinstance(want, Exact) and want.hi.size
        else ()
    )
    return dataclasses.replace(
        found, rule=gradient_derivation.rule_of(problem), samples=(), left_out=0, reduction=lines
    )


def answered(assessment: Assessment, asker: Suite) -> Answered:
    """What one function did, and why it differs where it does."""
    item, verdict = assessment.item, assessment.verdict
    differs = verdict.status != "agrees"
    parts = split(assessment)
    gradient: tuple[Line, ...] = ()
    if item.quantity == "gradient" and differs and isinstance(verdict.want, Exact) and verdict.want.hi.size:
        where = parts.where if parts is not None else gradient_derivation.largest(verdict.want)
        gradient = gradient_derivation.closed_form(assessment.asked.problem, verdict.want, where)
    known = assessment.known
    return Answered(
        item.function.name,
        item.installed.version,
        verdict.status,
        assessment.expected,
        got(verdict.outcome),
        isinstance(verdict.outcome, Returned),
        verdict.explanation,
        differs,
        bridge_of(assessment, asker.oracle),
        differences(assessment, asker.oracle) if differs else (),
        parts,
        gradient,
        remedies(assessment, asker) if differs else (),
        None
        if known is None
        else Ledgered(known.reason, known.see, known.reproducer, known.shows, f"{known.path}:{known.line}"),
        assessment.call,
        rule_of(item, assessment.asked.problem).source if differs else "",
        verdict.effects,
    )


def got(outcome: Outcome) -> str:
    """An outcome in a few words."""
    match outcome:
        case Returned(value):
            return (
                element(value.astype(outcome.dtype) if outcome.dtype in _NUMPY else value)
                if value.ndim == 0
                else (array_text(value))
            )
        case NonNumeric(what):
            return what
        case Raised(exception, message):
            return f"{exception}: {message if len(message) <= MESSAGE else message[:MESSAGE] + '...'}"
        case Crashed(how):
            return f"the process {how}"
        case TimedOut(seconds):
            return f"no answer within {seconds:g} s"
        case Unsupported(why):
            return why


_NUMPY = ("float16", "float32", "float64")


def bridge_of(assessment: Assessment, exact: Oracle) -> str:
    """What was handed over instead of the case's predictions, and what that changes; "" where nothing was.

    Also where the explanation of the verdict says it.
    """
    asked, verdict = assessment.asked, assessment.verdict
    conversion = verdict.conversion
    if not asked.bridge or (conversion is not None and verdict.status != "diverges"):
        return ""
    if conversion is None:
        change = change_of(asked.problem, asked.handed, DEFINITION, exact, allowed_by(assessment, DEFINITION))
        conversion = conversion_of(asked.problem, asked.handed, change, asked.item.function, DEFINITION)
    text = render_conversion(conversion)
    return f"{text[:1].upper()}{text[1:]}."
