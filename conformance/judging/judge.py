"""Judge items: a case file becomes items, and an item becomes a row.

    Case -> Problem -> conversion -> call -> Outcome -> judge -> Verdict -> Row

Every step except the call is pure.  pytest, the command line and the tests all use `Judge`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.adapters import registry
from conformance.adapters.contract import Framework, LoweringError
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call
from conformance.adapters.contract.reproducer import reproducer
from conformance.casefiles.known_issues import HARVEST_PREFIX, KnownIssue, Ledger
from conformance.casefiles.loading import cases_option
from conformance.judging.plan import Item, alternatives, documented_convention
from conformance.judging.prepare import PreparedCall, Problems, prepare
from conformance.judging.reasons import CannotExpress
from conformance.judging.replay import can_be_named, replay_call
from conformance.judging.row import MAX_ELEMENTS, MAX_GRADIENT_ELEMENTS, Elements, Row
from conformance.judging.verdict import FAILING, Verdict, expected_status, judge, serialize_answer
from conformance.model.case import DATA, HEAD_GRADIENTS, is_derivative
from conformance.model.convention import describe
from conformance.model.outcome import NonNumeric, Outcome, Raised, Returned, Unsupported
from conformance.model.row_key import CPU, unusual
from conformance.model.text import printable, text_of, truncate_and_count, type_name
from conformance.reference.oracle import Exact, Oracle, Undefined

Performer = Callable[[Framework, Call, str], Outcome]
BUDGET_DIGITS = 4
"""Significant digits of budgets in a row: they are no more accurate, and they make up a third of the text."""
MAX_TEXT = 400
"""Maximum number of characters of an array, or of all warnings, in the message of a failing test."""


class Judge:
    """Calls functions on items and judges the outcomes.

    oracle: source of exact answers.  ledger: known discrepancies.  performer: function that makes the calls of
    `assess`. problems: cached problems of the last cases of `assess`.
    """

    def __init__(self, oracle: Oracle, ledger: Ledger, performer: Performer = perform) -> None:
        self.oracle = oracle
        self.ledger = ledger
        self.performer = performer
        self.problems = Problems()

    def assess(self, item: Item) -> Assessment:
        """Call the function of an item and judge the outcome."""
        prepared = prepare(item, self.problems)
        return self.judge(prepared, self.performer(item.framework, prepared.call, prepared.description))

    def judge(self, prepared: PreparedCall, outcome: Outcome) -> Assessment:
        """Judge the outcome of a prepared call and look it up in the ledger."""
        item = prepared.item
        outcome = _move_classes_last(prepared, outcome)
        verdict = judge(
            prepared.problem,
            prepared.converted,
            item.case.expect,
            item.function,
            documented_convention(item, prepared.problem).convention,
            outcome,
            self.oracle,
            registry.conventions(),
            item.quantity,
            alternatives(item, prepared.weighted),
        )
        if prepared.weights:
            verdict = dataclasses.replace(verdict, weights=prepared.weights)
        return Assessment(prepared, verdict, self._known(prepared, verdict))

    def _known(self, prepared: PreparedCall, verdict: Verdict) -> KnownIssue | None:
        """The ledger entry that accounts for a failure, or that expects a row to fail that does not."""
        key = prepared.item.key
        if verdict.status not in FAILING:
            issue = self.ledger.find(key)
            # An entry without devices was observed on the CPU; kernels of other devices may be right.
            return issue if issue is None or issue.devices or key.device == CPU else None
        known = self.ledger.find(key, verdict.symptoms)
        return known or self.ledger.find_by_traits(lambda: prepared.traits, key, verdict.symptoms)


def unsupported_assessments(reasons: Sequence[tuple[Item, str]], oracle: Oracle | None) -> Iterator[Assessment]:
    """Assessments of items that their functions do not support, with the exact answer and the reason.

    reasons: items of one problem, each with its reason.  oracle: source of the exact answer; None to leave it out.
    """
    first, _ = reasons[0]
    case = first.case.representative if oracle is None else first.case
    problem = case.problem(first.dtype, first.reduction)
    want = Undefined("not computed") if oracle is None else oracle.answer(problem)
    for item, why in reasons:
        verdict = Verdict("unsupported", Unsupported(why), want, CannotExpress(why))
        yield Assessment(PreparedCall(item, problem, problem, ""), verdict, None)


def _move_classes_last(prepared: PreparedCall, outcome: Outcome) -> Outcome:
    """Move the classes of a returned gradient to the last axis if the call had them on another one."""
    axis = gradient_axis(prepared)
    if axis is None or not isinstance(outcome, Returned) or outcome.value.ndim != prepared.converted.predictions.ndim:
        return outcome
    return dataclasses.replace(outcome, value=np.moveaxis(outcome.value, axis, -1))


def gradient_axis(prepared: PreparedCall) -> int | None:
    """The class axis of a returned gradient if it is not the last one; else None."""
    if not is_derivative(prepared.item.quantity) or prepared.item.quantity in HEAD_GRADIENTS:
        return None
    axis = prepared.call.arrays["predictions"].class_axis
    return None if axis == -1 else axis


@dataclass(frozen=True, eq=False)
class Assessment:
    """A verdict with its context: the item, its prepared call, and the matching ledger entry."""

    prepared: PreparedCall
    verdict: Verdict
    known: KnownIssue | None

    @property
    def item(self) -> Item:
        return self.prepared.item

    @property
    def expected(self) -> str:
        """See `verdict.expected_status`."""
        return expected_status(self.verdict.status, self.known is not None)

    @property
    def call(self) -> str:
        """The reproducer; "" if no call can be made.  Raises LoweringError if the adapter cannot write it."""
        if isinstance(self.verdict.outcome, Unsupported):
            return ""
        item, prepared = self.item, self.prepared
        name = (
            item.case,
            item.function.name,
            item.dtype,
            item.reduction,
            item.quantity,
            item.installed.mode,
            item.framework.adapter,
            item.installed.device,
        )
        replay = functools.partial(replay_call, *name) if prepared.of_case and can_be_named(item.case) else None
        try:
            return reproducer(
                item.framework,
                item.function,
                prepared.converted,
                prepared.call,
                item.installed.backend,
                replay,
                elided=item.case.id == DATA,
            )
        except Exception as error:
            raise LoweringError(
                f"{prepared.description}: its reproducer: {type_name(error)}: {text_of(error)}"
            ) from error

    @functools.cached_property
    def row(self) -> Row:
        """The row of the report."""
        item, verdict = self.item, self.verdict
        comparison, outcome = verdict.comparison, verdict.outcome
        reason, known, returned = verdict.reason, self.known, isinstance(outcome, Returned)
        subsampled = functools.partial(
            Elements.of, max_elements=MAX_GRADIENT_ELEMENTS if is_derivative(item.quantity) else MAX_ELEMENTS
        )
        by_convention = verdict.want_by_convention
        candidate = reason.undocumented if reason is not None else None
        return Row(
            key=item.key,
            framework=item.framework.name,
            status=verdict.status,
            expected=self.expected,
            reason_code=reason.code if reason is not None else "",
            explanation=verdict.explanation,
            got=subsampled(outcome.value) if isinstance(outcome, Returned) else None,
            want=subsampled(verdict.want.hi)
            if isinstance(verdict.want, Exact)
            else str(serialize_answer(verdict.want)),
            want_by_convention=subsampled(by_convention.hi) if by_convention is not None else None,
            budgets=subsampled(verdict.tolerance, digits=BUDGET_DIGITS)
            if returned and verdict.tolerance.ndim
            else None,
            error=comparison.error if comparison else None,
            budget=comparison.tolerance if comparison else None,
            ratio=comparison.error_ratio if comparison else None,
            ulps=comparison.ulps if comparison else None,
            where=comparison.where if comparison else (),
            convention=verdict.convention,
            candidate=describe(dict(candidate.choices)) if candidate is not None else "",
            bridge="; ".join(filter(None, (self.prepared.weights, self.prepared.conversion))),
            conversion=verdict.conversion.effects if verdict.conversion is not None else (),
            exception=outcome if isinstance(outcome, Raised) else None,
            warnings=outcome.warnings if isinstance(outcome, Returned | NonNumeric | Raised) else (),
            call=self.call,
            known=known.summary if known else "",
            known_source=known.see if known else "",
            result_dtype=outcome.dtype if isinstance(outcome, Returned) else "",
            python=item.installed.python,
            numpy=item.installed.numpy,
        )

    def __str__(self) -> str:
        return self.message()

    def message(self, options: str = "") -> str:
        """The message of a failing test.  options: pytest options for the command line, each followed by a blank."""
        item, row = self.item, self.row
        lines = [f"{item.function.name} {item.installed.version} {self._headline()}"]
        unusual_words = unusual(item.quantity, item.installed.mode, item.installed.device)
        problem = ", ".join([item.dtype, item.reduction, *unusual_words])
        lines.append(f"  case       {item.case.id} ({problem}): {item.case.why}")
        if item.case.path:
            lines.append(f"  file       {item.case.path}:{item.case.line}")
        got = _truncated(str(row.got)) if row.got is not None else row.cells["exception"]
        got = self.verdict.outcome.what if isinstance(self.verdict.outcome, NonNumeric) else got
        lines.append(f"  got        {got}")
        lines.append(f"  want       {_truncated(str(row.want))}")
        if distance := self._distance():
            lines.append(f"  how far    {distance}")
        lines.append(f"  because    {row.explanation}")
        if self.prepared.conversion:
            lines.append(f"  converted  predictions were converted by {self.prepared.conversion}")
        if row.warnings:
            lines.append(f"  warnings   {_truncated(row.cells['warnings'])}")
        if self.verdict.status in FAILING and self.known is not None:
            lines.append(f"  ledger     {self.known.path}:{self.known.line}: {self.known.summary}")
        if self.expected == "stale" and self.known is not None:
            lines.append(
                f"  ledger     {self.known.path}:{self.known.line} says it {self.known.status}; remove the entry"
            )
        lines.append(f"  reproduce  {row.call}")
        options += f"{item.installed.options}{_harvest_option(item)}{cases_option(item.case)}"
        if not item.framework.adapter:
            lines.append(f'  again      pytest {options}-k "{_pytest_expression(item)}"')
        return printable("\n".join(lines))

    def _distance(self) -> str:
        """The distance of the worst element from the exact one, in words; "" for 0 or if nothing was compared."""
        comparison, outcome = self.verdict.comparison, self.verdict.outcome
        if comparison is None or not comparison.error > 0:
            return ""
        at = f" at {list(comparison.where)}" if comparison.where else ""
        if not math.isfinite(comparison.error):
            value = float(outcome.value[comparison.where]) if isinstance(outcome, Returned) else math.nan
            return ("not a number" if math.isnan(value) else "infinitely far") + at
        distance = (
            f"{comparison.error:.6g}{at} = {comparison.error_ratio:.4g} x the tolerance {comparison.tolerance:.6g}"
        )
        return f"{distance} ({comparison.ulps:.4g} ulp)"

    def _headline(self) -> str:
        if self.expected == "stale":
            return f"{self.verdict.status}, although the ledger knows it as a discrepancy"
        return {"disagrees": "disagrees with the definition and with what it documents"}.get(
            self.verdict.status, self.verdict.status
        )


def _harvest_option(item: Item) -> str:
    """The pytest option with which a harvested case is run."""
    return f"--harvest={item.case.id.split('/')[1]} " if item.case.id.startswith(HARVEST_PREFIX) else ""


def _pytest_expression(item: Item) -> str:
    words = [item.function.name, item.case.id, item.dtype, item.reduction]
    words = [re.sub(r"[^\w.:/\[\]+-]", "", word) for word in words]
    return " and ".join([*words, "gradient" if is_derivative(item.quantity) else "not gradient"])


def _truncated(text: str) -> str:
    return truncate_and_count(text, MAX_TEXT)
