"""Problems that no selected function supports: each is reported, with the reason of every function."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conformance.adapters.registry import Installed
from conformance.judging.judge import unsupported_assessments
from conformance.judging.plan import CandidateFunction, Declaration, Declarations, Item, candidates
from conformance.judging.row import Row
from conformance.judging.selection import ItemFilter
from conformance.model.case import Case, Reduction
from conformance.model.errors import UserError
from conformance.model.row_key import KEY
from conformance.reference.oracle import Oracle, open_cache

MAX_CASES = 5
"""Maximum number of cases shown individually in a terminal."""
PROBLEM_COLUMNS = ["case", "dtype", "reduction", "function", "status", "explanation"]
problem_cells = operator.attrgetter(*(f"key.{name}" if name in KEY else name for name in PROBLEM_COLUMNS))
"""Values of a row in these columns."""
Pair = tuple[str, Reduction]
"""A dtype and a reduction of a case."""
Reasons = tuple[tuple[Item, str], ...]


def unsupported_rows(
    cases: Iterable[Case],
    items: Iterable[Item],
    available: Sequence[Installed],
    item_filter: ItemFilter | None = None,
    *,
    answers: bool = True,
) -> list[Row]:
    """Return a row of status `unsupported` for each function on each problem that none of them supports.

    If no problem of a case or of one of its dtypes is supported, a function with the same reason for all of them has
    one row, on the first.

    items: items of the run.  available: installed frameworks of the run.  A problem without a selected item has no row.
    answers: whether rows include the exact answer, which is needed in reports only.
    """
    planned = {(item.case.id, item.dtype, item.reduction) for item in items}
    cases = list(cases)
    rows: list[Row] = []
    cache = None
    with contextlib.ExitStack() as stack:
        declarations = stack.enter_context(Declarations.on(cases))
        for case, functions in candidates(cases, available, item_filter):
            problems = list(itertools.product(case.dtypes, case.reductions))
            if all((case.id, *pair) in planned for pair in problems):
                continue
            declared = declarations.of_all(case, functions)
            reasons_by_problem: dict[Pair, Reasons | None] = {
                pair: None
                if (case.id, *pair) in planned
                else _reasons(case, *pair, [(candidate, of[number]) for candidate, of in declared], item_filter)
                for number, pair in enumerate(problems)
            }
            representative = _representative(reasons_by_problem)
            if representative and answers and cache is None and (cache := open_cache()) is not None:
                stack.callback(cache.close)
            oracle = Oracle(cache) if answers else None
            for reasons in representative:
                rows += _rows(reasons, oracle)
    return rows


def _reasons(
    case: Case,
    dtype: str,
    reduction: Reduction,
    declared: Iterable[tuple[CandidateFunction, Declaration]],
    item_filter: ItemFilter | None,
) -> Reasons | None:
    """(item, reason) for each selected function; None if one of them supports the problem."""
    reasons = []
    for candidate, declaration in declared:
        if candidate.selects(item_filter, case, dtype, reduction):
            if declaration.unsupported is None:
                return None
            item = Item(candidate.installed, candidate.function, case, dtype, reduction)
            reasons.append((item, declaration.unsupported))
    return tuple(reasons)


def _representative(reasons_by_problem: Mapping[Pair, Reasons | None]) -> list[Reasons]:
    """The reasons of each unsupported problem, without those that a function repeats from an earlier one.

    Problems are compared within a case of which none is supported, or within a dtype of which none is; a function has
    all of its reasons there or, if they are equal, the first.
    """
    whole = None not in reasons_by_problem.values()
    supported = {dtype for (dtype, _), reasons in reasons_by_problem.items() if reasons is None}
    by_function: dict[tuple[object, ...], list[str]] = {}

    def key(item: Item) -> tuple[object, ...]:
        scope = () if whole else (item.dtype, item.reduction if item.dtype in supported else "")
        return (id(item.installed), item.function.name, *scope)

    unsupported = [reasons for reasons in reasons_by_problem.values() if reasons]
    for item, why in itertools.chain.from_iterable(unsupported):
        by_function.setdefault(key(item), []).append(why)
    shown: set[tuple[object, ...]] = set()
    representative = []
    for reasons in unsupported:
        kept = []
        for item, why in reasons:
            if len(set(by_function[key(item)])) > 1 or key(item) not in shown:
                kept.append((item, why))
                shown.add(key(item))
        representative += [tuple(kept)] if kept else []
    return representative


def _rows(reasons: Reasons, oracle: Oracle | None) -> list[Row]:
    """The rows of the items of one problem."""
    try:
        return [assessment.row for assessment in unsupported_assessments(reasons, oracle)]
    except UserError:  # arrays that cannot be generated; `conformance lint` says why
        return []


@dataclass(frozen=True)
class UnsupportedProblem:
    """A problem that no function supports, or a case of which this holds for all problems."""

    case: str
    dtype_and_reduction: str
    """dtype and reduction; "" if its case is supported for none."""
    reasons: Mapping[str, tuple[str, ...]]
    """Reason -> functions that do not support it for this reason.  A reason that only holds for some dtypes and
    reductions names them."""

    @property
    def headline(self) -> str:
        suffix = f" as {self.dtype_and_reduction}" if self.dtype_and_reduction else ""
        return f"no selected function supports {self.case}{suffix}"

    def lines(self) -> list[str]:
        """The reasons, each with its functions."""
        return [f"{why}: {', '.join(functions)}" for why, functions in self.reasons.items()]


def unsupported_problems(rows: Iterable[tuple[str, ...]]) -> list[UnsupportedProblem]:
    """The problems that no function supports, from rows given as the columns `PROBLEM_COLUMNS`."""
    rows = list(rows)
    supported = {case for case, *_, status, _ in rows if status != "unsupported"}
    by_case: dict[str, dict[str, dict[str, dict[str, list[tuple[str, str]]]]]] = {}
    for case, dtype, reduction, function, status, why in rows:
        if status == "unsupported":
            scope = f"{dtype}, {reduction}" if case in supported else ""
            reasons = by_case.setdefault(case, {}).setdefault(scope, {}).setdefault(function, {})
            reasons.setdefault(why, []).append((dtype, reduction))
    return [
        UnsupportedProblem(case, scope, _by_reason(functions, names_problems=not scope))
        for case, by_scope in by_case.items()
        for scope, functions in by_scope.items()
    ]


def _by_reason(
    functions: Mapping[str, Mapping[str, Iterable[tuple[str, str]]]], names_problems: bool
) -> dict[str, tuple[str, ...]]:
    """The functions by reason; a reason that a function has for some of its problems names these, if it should."""
    merged: dict[str, tuple[str, ...]] = {}
    for function, reasons in functions.items():
        for why, problems in reasons.items():
            text = f"{why} ({_named(problems)})" if names_problems and len(reasons) > 1 else why
            merged[text] = (*merged.get(text, ()), function)
    return merged


def _named(problems: Iterable[tuple[str, str]]) -> str:
    """Problems by dtype, each with its reductions."""
    by_dtype: dict[str, list[str]] = {}
    for dtype, reduction in dict.fromkeys(problems):
        by_dtype.setdefault(dtype, []).append(reduction)
    return "; ".join(", ".join([dtype, *reductions]) for dtype, reductions in by_dtype.items())


def render_unsupported(problems: Sequence[UnsupportedProblem], *, narrowed: bool = False) -> list[str]:
    """Render unsupported problems for a terminal: the first `MAX_CASES` with reasons, and the number of the others.

    narrowed: whether functions are selected or not installed, so that many unsupported problems are expected; then
    one line gives their number.
    """
    cases = len({problem.case for problem in problems})
    subject = f"{cases} cases have" if cases != 1 else "1 case has"
    if narrowed and cases > MAX_CASES:
        return [f"{subject} problems that no function here supports: rows with status unsupported say why"]
    lines = []
    for problem in problems[:MAX_CASES]:
        lines += [problem.headline, *(f"    {line}" for line in problem.lines())]
    if len(problems) > MAX_CASES:
        lines.append(f"and {len(problems) - MAX_CASES} more; {subject} rows with status unsupported in the report")
    return lines
