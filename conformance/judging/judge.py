"""The flow: case files become items, an item becomes a row.

    Case -> Problem -> bridge -> evaluate -> Outcome -> judge -> Verdict -> Row

Every step but `evaluate` is pure.  pytest, the command line and the tests all go through `Judge`.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import functools
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.adapters import registry
from conformance.adapters.contract import Framework, Function, LoweringError, Rule, problem_features
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call, described, lowered, transformed
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import EXTERNAL_PREFIXES, HARVEST_PREFIX, KnownIssue, Ledger
from conformance.casefiles.known_issues import load as load_known
from conformance.casefiles.known_issues import read as read_known
from conformance.casefiles.loading import cases_argument, cases_option, id_root, is_folder, resolve_links, shipped_cases
from conformance.casefiles.loading import read as read_cases
from conformance.casefiles.stated_values import expectation_errors
from conformance.judging.row import SHOWN, SHOWN_OF_GRADIENTS, Elements, Record, Row, record
from conformance.judging.traits import traits
from conformance.judging.verdict import FAILING, Verdict, judge, want_of
from conformance.model.case import Case, InputKind, MustRaise, NoRightAnswer, Problem, Quantity, Reduction
from conformance.model.convention import DEFINITION, Convention, describe
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.outcome import NonNumeric, Outcome, Raised, Returned, Unsupported
from conformance.model.row_key import RowKey
from conformance.model.text import printable, text_of, type_name
from conformance.reference.conversion import conversion_obstacle, convert
from conformance.reference.oracle import Exact, Oracle

KEPT = 8
"""Cases at one dtype that `Problems` remembers: those that the functions of each framework are asked at one time."""
DIFFERENTIATED = 20_000
"""Predictions of the largest case whose gradient is asked for: larger ones are about long sums."""
LONG_CALL = 1000
"""Characters of a reproducer that is printed in a terminal where a shorter one says the same."""


@dataclass(frozen=True, eq=False)
class Item:
    """One function on one case at one dtype and reduction, its loss or its gradient: one test, one row."""

    installed: Installed
    function: Function
    case: Case
    dtype: str
    reduction: Reduction
    quantity: Quantity = "loss"

    @property
    def framework(self) -> Framework:
        return self.installed.framework

    @property
    def id(self) -> str:
        """See `RowKey.id`, as pytest shows it."""
        return RowKey(self.case.id, "", self.function.name, self.dtype, self.reduction, self.quantity).id

    @property
    def key(self) -> RowKey:
        """The key of its row."""
        there, case = self.installed, self.case
        return RowKey(
            case.id,
            case.digest,
            self.function.name,
            self.dtype,
            self.reduction,
            self.quantity,
            there.environment,
            there.version,
            there.backend,
        )


def id_of(row: Record) -> str:
    """The id of the item that a row is of."""
    return RowKey.of(row).id


class Problems:
    """Problems of cases, remembered for the functions that are asked the same one in turn.

    most: cases at one dtype that are remembered.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._known: OrderedDict[tuple[Case, str], dict[Reduction, Problem]] = OrderedDict()

    def of(self, case: Case, dtype: str, reduction: Reduction) -> Problem:
        """A case at one dtype and reduction."""
        known = self._known.get((case, dtype))
        if known is None:
            known = self._known[case, dtype] = {"none": case.problem(dtype, "none")}
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end((case, dtype))
        if reduction not in known:
            known[reduction] = known["none"].with_reduction(reduction)
        return known[reduction]


def convert_for(problem: Problem, input_kind: InputKind) -> tuple[Problem, str]:
    """A problem with its predictions converted for the functions that need it; remembered as long as the problem."""
    if problem.input_kind == input_kind:
        return problem, ""
    key = ("conversion", input_kind)
    if key not in problem.cache:
        whole = problem.unreduced.cache
        if key not in whole:
            whole[key] = convert(problem.unreduced, input_kind)
        converted, name = whole[key]
        problem.cache[key] = converted.with_reduction(problem.reduction), name
    found: tuple[Problem, str] = problem.cache[key]
    return found


def plan(
    cases: Iterable[Case], here: Sequence[Installed], wanted: Callable[[Function, str], bool] | None = None
) -> list[Item]:
    """Every item that the installed frameworks' functions declare they can take, case by case.

    wanted: says of a function and an item's id whether it is asked for; what is not is not looked at.
    """
    items = []
    functions = [(installed, function) for installed in here for function in installed.functions]
    for case in cases:
        for problem in case.sketch.problems():
            for installed, function in functions:
                asked = [Item(installed, function, case, problem.dtype, problem.reduction)]
                if not_differentiated(installed, function, case, problem) is None:
                    asked.append(dataclasses.replace(asked[0], quantity="gradient"))
                asked = [item for item in asked if wanted is None or wanted(function, item.id)]
                if asked and unsupported(function, case, problem) is None:
                    items += asked
    return items


def not_differentiated(installed: Installed, function: Function, case: Case, problem: Problem) -> str | None:
    """Why the gradient of what a function returns is not asked for; None where it is."""
    if not function.differentiates or not installed.differentiates:
        return "it does not differentiate"
    if case.no_gradient:
        return case.no_gradient
    if isinstance(case.expect, MustRaise | NoRightAnswer):
        return "there is no loss to differentiate"
    if function.native(problem.input_kind) != problem.input_kind:
        return "it takes other predictions than the case has"
    if case.predicted > DIFFERENTIATED:
        return f"it has more than {DIFFERENTIATED} predictions"
    return None


def unsupported(function: Function, case: Case, problem: Problem) -> str | None:
    """Why a function is not asked a problem; None if it is."""
    why = function.unsupported(problem)
    input_kind = function.native(problem.input_kind)
    if why is not None or input_kind == problem.input_kind:
        return why
    if isinstance(case.expect, MustRaise) and case.expect.kind == "invalid_probability":
        return "a bridge would hide what is wrong with the predictions"
    return conversion_obstacle(problem, input_kind)


def load_suite(folder: Path | None = None) -> tuple[list[Case], Ledger]:
    """The cases of a folder and its ledger (the shipped ones unless told otherwise).

    The ledger of another folder is its `known/`, and after it the shipped one, by traits only: its ids are those of
    other cases.  Raises CaseErrors with everything that is wrong in the folder.
    """
    folder = shipped_cases() if folder is None else folder
    cases, errors = read_cases(folder)
    if resolve_links(folder) != resolve_links(
        shipped_cases()
    ):  # of the shipped ones `conformance lint` and the tests say so
        errors = [*errors, *(wrong for case in cases for wrong in expectation_errors(case))]
    alone = os.path.lexists(folder) and not is_folder(folder)
    home = id_root(folder) if alone else folder
    entries, wrong = read_known(home)
    others = resolve_links(home) != resolve_links(shipped_cases())
    ledger = Ledger(entries, load_known(shipped_cases()).entries if others else ())
    if not errors and not alone:
        wrong = [*wrong, *strays((entry for entry in entries if not entry.case.startswith(EXTERNAL_PREFIXES)), cases)]
    if errors or wrong:
        raise CaseErrors((*errors, *wrong))
    return cases, ledger


def strays(entries: Iterable[KnownIssue], cases: Iterable[Case]) -> list[CaseFileError]:
    """Complaints about the entries of a ledger that are about none of the cases, or about no function."""
    unmatched = Ledger(entries).unmatched([case.id for case in cases], [f.name for f in registry.functions()])
    what = "is known, but there is no such case or no such function"
    return [
        CaseFileError(
            entry.path, entry.line, 1, "", f"{entry.function} on {entry.case} {what}", "correct the entry or remove it"
        )
        for entry in unmatched
    ]


@dataclass(frozen=True, eq=False)
class PreparedCall:
    """An item as it is put to its function: the problem of the case, and what is handed over, by which bridge."""

    item: Item
    problem: Problem
    handed: Problem
    conversion: str
    of_case: bool = True
    """Whether the problem is the case's, and not one that something was changed in."""

    @functools.cached_property
    def call(self) -> Call:
        """The call to be made; raises LoweringError."""
        call = lowered(self.item.function, self.handed)
        return transformed(self.item.framework, call, self.item.quantity, backend=self.item.installed.backend)

    @property
    def what(self) -> str:
        """Names the call in messages."""
        return described(self.item.function, self.handed)

    @functools.cached_property
    def traits(self) -> frozenset[str]:
        """What is particular about the problem, as words of a ledger's `when`."""
        target = self.item.function.target_as(self.problem.target_kind) or self.problem.target_kind
        return traits(self.problem, self.handed, target)


def ask(item: Item, problems: Problems | None = None) -> PreparedCall:
    """An item ready to be put to its function.  problems: those that are remembered, if any are."""
    problem = (problems or Problems()).of(item.case, item.dtype, item.reduction)
    return PreparedCall(item, problem, *convert_for(problem, item.function.native(problem.input_kind)))


Performer = Callable[[Framework, Call, str], Outcome]


class Judge:
    """Asks items and judges what comes back.

    oracle: exact answers.  ledger: known discrepancies.  performer: makes the calls of `assess`.
    problems: what `assess` remembers of the cases that it was asked last.
    """

    def __init__(self, oracle: Oracle, ledger: Ledger, performer: Performer = perform) -> None:
        self.oracle = oracle
        self.ledger = ledger
        self.performer = performer
        self.problems = Problems()

    def assess(self, item: Item) -> Assessment:
        """The verdict on one item, asked now."""
        asked = ask(item, self.problems)
        return self.judge(asked, self.performer(item.framework, asked.call, asked.what))

    def judge(self, asked: PreparedCall, outcome: Outcome) -> Assessment:
        """The verdict on what came of one item, held against the ledger."""
        item = asked.item
        outcome = _classes_last(asked, outcome)
        verdict = judge(
            asked.problem,
            asked.handed,
            item.case.expect,
            item.function,
            rule_of(item, asked.problem).convention,
            outcome,
            self.oracle,
            registry.conventions(),
            item.quantity,
            alternatives(item, asked.problem),
        )
        return Assessment(asked, verdict, self._known(asked, verdict))

    def _known(self, asked: PreparedCall, verdict: Verdict) -> KnownIssue | None:
        """The entry that accounts for what went wrong; where nothing did, the one that says it would."""
        key = asked.item.key
        if verdict.status not in FAILING:
            return self.ledger.find(key)
        known = self.ledger.find(key, verdict.symptoms)
        return known or self.ledger.find_by_traits(lambda: asked.traits, key, verdict.symptoms)


def unsupported_assessment(item: Item, why: str, exact: Oracle) -> Assessment:
    """What is said of an item that its function cannot take: nothing but the exact answer, and why."""
    problem = item.case.problem(item.dtype, item.reduction)
    verdict = judge(problem, problem, item.case.expect, item.function, DEFINITION, Unsupported(why), exact)
    return Assessment(PreparedCall(item, problem, problem, ""), verdict, None)


def _classes_last(asked: PreparedCall, outcome: Outcome) -> Outcome:
    """A gradient as the problem has its predictions, where they were handed over with the classes elsewhere."""
    if asked.item.quantity == "loss" or not isinstance(outcome, Returned):
        return outcome
    axis = asked.call.arrays["predictions"].class_axis
    if axis == -1 or outcome.value.ndim != asked.handed.predictions.ndim:
        return outcome
    return dataclasses.replace(outcome, value=np.moveaxis(outcome.value, axis, -1))


def replay_call(case: Case, function: str, dtype: str, reduction: str, quantity: str) -> str:
    """The call of `conformance.replay` that asks a function a shipped or harvested case, or one of a folder, again.

    A folder's path is absolute, so that the call can be pasted wherever Python is started.
    """
    words = [repr(word) for word in (function, case.id, dtype, reduction, quantity)]
    if quantity == "loss":
        del words[-1]
    if not case.id.startswith(HARVEST_PREFIX) and (folder := cases_argument(case)) is not None:
        words.append(f"cases={str(resolve_links(Path(folder)))!r}")
    return f"conformance.replay({', '.join(words)})"


def can_be_named(case: Case) -> bool:
    """Whether `conformance.replay` finds a case: it is shipped, harvested, or in a file."""
    return bool(case.path) or case.id.startswith(HARVEST_PREFIX)


def reproducer_of(row: Record, cases: Iterable[Case]) -> str:
    """A row's reproducer for a terminal: that of the report, or, where that is long, a call of `conformance.replay`."""
    call: str = row["call"]
    case = next((case for case in cases if case.id == row["case"]), None)
    if len(call) <= LONG_CALL or case is None or not can_be_named(case):
        return call
    framework = next(one for one in registry.frameworks() if one.name == row["framework"])
    settings = framework.settings(row["backend"])
    again = replay_call(case, row["function"], row["dtype"], row["reduction"], row["quantity"])
    return f"{settings}import conformance; {again}"


def replay(
    function: str,
    case: str,
    dtype: str,
    reduction: Reduction,
    quantity: Quantity = "loss",
    cases: Path | Iterable[Case] | None = None,
) -> Any:
    """See `conformance.replay`.  cases: a folder or a file of them, or they; else the shipped ones."""
    folder = shipped_cases() if cases is None else cases
    found, errors = read_cases(folder) if isinstance(folder, Path) else (folder, [])
    named = next((one for one in found if one.id == case), None)
    if named is None and errors:
        raise CaseErrors(tuple(errors))
    if named is None:
        where = (
            "among the shipped cases" if cases is None else f"in {cases}" if isinstance(cases, Path) else "harvested"
        )
        advice = "; `cases` names a folder of yours" if cases is None else ""
        raise LookupError(f"there is no case {case} {where}{advice}")
    here = [one for one in registry.installed()[0] if one.framework.name == function.partition(".")[0]]
    for item in plan([named], here):
        asked_for = (item.function.name, item.dtype, item.reduction, item.quantity)
        if asked_for == (function, dtype, reduction, quantity):
            asked = ask(item)
            outcome = perform(item.framework, asked.call, asked.what)
            if isinstance(outcome, Returned):
                return outcome.value
            raise _raised_again(outcome)
    raise LookupError(f"no installed {function} takes {case} as {dtype}, {reduction}")


def _raised_again(outcome: Outcome) -> BaseException:
    """An exception as a function raised it: of the same name, with the same message."""
    if not isinstance(outcome, Raised):
        return RuntimeError(str(outcome))
    kind: Any = getattr(builtins, outcome.exception, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        with contextlib.suppress(TypeError):  # UnicodeDecodeError takes more than a message
            raised: BaseException = kind(outcome.message)
            return raised
    made: type[RuntimeError] = type(outcome.exception, (RuntimeError,), {})
    return made(outcome.message)


def rule_of(item: Item, problem: Problem) -> Rule:
    """What the item's function documents for the kind of target it is handed."""
    target = item.function.target_as(problem.target_kind) or problem.target_kind
    features = problem_features(problem, target)
    return registry.rule_for(item.function, item.installed.version, target, item.installed.backend, features)


def alternatives(item: Item, problem: Problem) -> Iterator[tuple[Function, Convention]]:
    """The functions of the item's framework that can be asked its problem, each with what it documents for it."""
    for function in item.installed.functions:
        if function.unsupported(problem) is None:
            yield function, rule_of(dataclasses.replace(item, function=function), problem).convention


@dataclass(frozen=True, eq=False)
class Assessment:
    """A verdict in its place: the item it is about, how it was asked, and what the ledger says."""

    asked: PreparedCall
    verdict: Verdict
    known: KnownIssue | None

    @property
    def item(self) -> Item:
        return self.asked.item

    @property
    def expected(self) -> str:
        """`ok`, `known` (the ledger has it), `unexpected`, or `stale` (the ledger has it and it is gone)."""
        if self.verdict.status in FAILING:
            return "unexpected" if self.known is None else "known"
        return "ok" if self.known is None else "stale"

    @property
    def call(self) -> str:
        """The reproducer; "" where no call can be made.  Raises LoweringError if the adapter cannot write it."""
        if isinstance(self.verdict.outcome, Unsupported):
            return ""
        item, asked = self.item, self.asked
        name = (item.case, item.function.name, item.dtype, item.reduction, item.quantity)
        again = functools.partial(replay_call, *name) if asked.of_case and can_be_named(item.case) else None
        try:
            return reproducer(item.framework, item.function, asked.handed, asked.call, item.installed.backend, again)
        except Exception as error:
            raise LoweringError(f"{asked.what}: its reproducer: {type_name(error)}: {text_of(error)}") from error

    @functools.cached_property
    def row(self) -> Row:
        """Its row of the report, typed."""
        item, verdict = self.item, self.verdict
        comparison, outcome = verdict.comparison, verdict.outcome
        reason, known, returned = verdict.reason, self.known, isinstance(outcome, Returned)
        of = functools.partial(Elements.of, most=SHOWN if item.quantity == "loss" else SHOWN_OF_GRADIENTS)
        by_convention = verdict.want_by_convention
        candidate = getattr(reason, "candidate", None)
        return Row(
            key=item.key,
            framework=item.framework.name,
            status=verdict.status,
            expected=self.expected,
            reason_code=reason.code if reason is not None else "",
            explanation=verdict.explanation,
            got=of(outcome.value) if isinstance(outcome, Returned) else None,
            want=of(verdict.want.hi) if isinstance(verdict.want, Exact) else str(want_of(verdict.want)),
            want_by_convention=of(by_convention.hi) if by_convention is not None else None,
            budgets=of(_coarse(verdict.tolerance)) if returned and verdict.tolerance.ndim else None,
            error=comparison.error if comparison else None,
            budget=comparison.tolerance if comparison else None,
            ratio=comparison.error_ratio if comparison else None,
            ulps=comparison.ulps if comparison else None,
            where=comparison.where if comparison else (),
            convention=verdict.convention,
            candidate=describe(dict(candidate.choices)) if candidate is not None else "",
            bridge=self.asked.conversion,
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

    @functools.cached_property
    def record(self) -> Record:
        """The same as it is written."""
        return record(self.row)

    def __str__(self) -> str:
        return self.message()

    def message(self, options: str = "") -> str:
        """What a failing test prints.  options: of pytest, to be given once more, each with a blank after it."""
        item, row = self.item, self.row
        lines = [f"{item.function.name} {item.installed.version} {self._headline()}"]
        of = f"{item.dtype}, {item.reduction}{', gradient' if item.quantity == 'gradient' else ''}"
        lines.append(f"  case       {item.case.id} ({of}): {item.case.why}")
        if item.case.path:
            lines.append(f"  file       {item.case.path}:{item.case.line}")
        got = _short(str(row.got)) if row.got is not None else self.record["exception"]
        got = self.verdict.outcome.what if isinstance(self.verdict.outcome, NonNumeric) else got
        lines.append(f"  got        {got}")
        lines.append(f"  want       {_short(str(row.want))}")
        c = self.verdict.comparison
        if c is not None and c.error > 0:
            at = f" at {list(row.where)}" if row.where else ""
            far = f"{c.error:.6g}{at} = {c.error_ratio:.4g} x the tolerance {c.tolerance:.6g}"
            lines.append(f"  how far    {far} ({c.ulps:.4g} ulp)")
        lines.append(f"  because    {row.explanation}")
        if self.asked.conversion:
            lines.append(f"  bridge     predictions were converted by {self.asked.conversion}")
        if row.warnings:
            lines.append(f"  warnings   {_short(self.record['warnings'])}")
        if self.expected == "known" and self.known is not None:
            lines.append(f"  ledger     {self.known.path}:{self.known.line}: {self.known.summary}")
        if self.expected == "stale" and self.known is not None:
            lines.append(
                f"  ledger     {self.known.path}:{self.known.line} says it {self.known.status}; remove the entry"
            )
        lines.append(f"  reproduce  {row.call}")
        lines.append(f'  again      pytest {options}{_harvesting(item)}{cases_option(item.case)}-k "{_again(item)}"')
        return printable("\n".join(lines))

    def _headline(self) -> str:
        if self.expected == "stale":
            return f"{self.verdict.status}, although the ledger knows it as a discrepancy"
        return {"disagrees": "disagrees with the definition and with what it documents"}.get(
            self.verdict.status, self.verdict.status
        )


def _harvesting(item: Item) -> str:
    """The option that a test of a harvested case is run with."""
    return f"--harvest={item.case.id.split('/')[1]} " if item.case.id.startswith(HARVEST_PREFIX) else ""


def _again(item: Item) -> str:
    words = [item.function.name, item.case.id, item.dtype, item.reduction]
    words = [re.sub(r"[^\w.:/\[\]+-]", "", word) for word in words]
    return " and ".join([*words, "gradient" if item.quantity == "gradient" else "not gradient"])


def _coarse(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Four significant digits, which is all a budget has and a third of the text."""
    return np.array([float(f"{value:.4g}") for value in values.ravel().tolist()]).reshape(values.shape)


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


__all__ = [
    "Assessment",
    "Item",
    "Judge",
    "LoweringError",
    "Problems",
    "plan",
    "replay",
    "rule_of",
    "strays",
    "unsupported",
    "unsupported_assessment",
]
