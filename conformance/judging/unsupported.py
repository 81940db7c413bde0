"""Problems that no selected function supports: each is reported, with the reason of every function."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.adapters.registry import Installed
from conformance.judging.judge import unsupported_assessments
from conformance.judging.plan import Candidates, Declarations, Item, candidates
from conformance.judging.row import Row
from conformance.judging.selection import ItemFilter
from conformance.model.case import Case, Reduction
from conformance.model.errors import UserError
from conformance.model.row_key import KEY, item_id
from conformance.reference.oracle import Oracle, open_cache

MAX_CASES = 5
"""Maximum number of cases shown individually in a terminal."""
PROBLEM_COLUMNS = ["case", "dtype", "reduction", "function", "status", "explanation"]
problem_cells = operator.attrgetter(*(f"key.{name}" if name in KEY else name for name in PROBLEM_COLUMNS))
"""Values of a row in these columns."""
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

    A case that is supported for no dtype and reduction has rows for its first problem only, a dtype that is supported
    for no reduction only those for its first reduction.

    items: of the run.  available: installed frameworks of the run.  A problem without a
    selected item has no row.  answers: whether rows include the exact answer, which is needed in reports only.
    """
    planned = {(item.case.id, item.dtype, item.reduction) for item in items}
    cases = list(cases)
    rows: list[Row] = []
    cache = None
    with contextlib.ExitStack() as stack:
        declarations = stack.enter_context(Declarations.on(cases))
        for case in cases:
            if all((case.id, *pair) in planned for pair in itertools.product(case.dtypes, case.reductions)):
                continue
            functions = candidates(case, available, item_filter)
            reasons_by_function = [
                reasons
                for pair in (itertools.product(case.dtypes, case.reductions) if functions else ())
                if (case.id, *pair) not in planned
                and (reasons := _reasons(case, *pair, functions, item_filter, declarations))
            ]
            if reasons_by_function and answers and cache is None and (cache := open_cache()) is not None:
                stack.callback(cache.close)
            oracle = Oracle(cache) if answers else None
            for reasons in _representative(case, reasons_by_function):
                rows += _rows(reasons, oracle)
    return rows


def _reasons(
    case: Case,
    dtype: str,
    reduction: Reduction,
    functions: Candidates,
    item_filter: ItemFilter | None,
    declarations: Declarations,
) -> Reasons:
    """(item, reason) for each selected function; () if one of them supports the problem."""
    reasons = []
    pair = dtype, reduction
    for installed, function in functions:
        name = item_id(function.name, case.id, *pair, mode=installed.mode, device=installed.device)
        if item_filter is None or item_filter(function.framework_name, name):
            if (why := declarations.get(case, *pair, installed, function).unsupported) is None:
                return ()
            reasons.append((Item(installed, function, case, *pair), why))
    return tuple(reasons)


def _representative(case: Case, by_problem: Sequence[Reasons]) -> Iterator[Reasons]:
    """The minimal set of problems that shows every unsupported feature."""
    if len(by_problem) == len(case.dtypes) * len(case.reductions):
        by_problem = by_problem[:1]
    for _, group in itertools.groupby(by_problem, key=lambda reasons: reasons[0][0].dtype):
        problems = list(group)
        yield from problems[:1] if len(problems) == len(case.reductions) else problems


def _rows(reasons: Reasons, oracle: Oracle | None) -> list[Row]:
    """The rows of the items of one problem."""
    try:
        return [assessment.row for assessment in unsupported_assessments(reasons, oracle)]
    except UserError:  # arrays that cannot be generated; `conformance lint` says why
        return []


@dataclass(frozen=True)
class UnsupportedProblem:
    """A problem that no function supports."""

    case: str
    dtype_and_reduction: str
    """dtype and reduction; "" if its case is supported for none."""
    reasons: Mapping[str, tuple[str, ...]]
    """Reason -> functions that do not support it for this reason."""

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
    by_problem: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for case, dtype, reduction, function, status, explanation in rows:
        if status == "unsupported":
            functions = by_problem.setdefault((case, dtype, reduction), {}).setdefault(explanation, [])
            functions += [function] if function not in functions else []
    counts = Counter(case for case, _, _ in by_problem)
    return [
        UnsupportedProblem(
            case,
            f"{dtype}, {reduction}" if case in supported or counts[case] > 1 else "",
            {why: tuple(functions) for why, functions in reasons.items()},
        )
        for (case, dtype, reduction), reasons in by_problem.items()
    ]


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
