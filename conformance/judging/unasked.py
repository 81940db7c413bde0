"""Problems that no function which is asked can take: each is said, with the reason of every function, never dropped."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.adapters.contract import Function
from conformance.adapters.registry import Installed
from conformance.judging.judge import unsupported_assessment
from conformance.judging.plan import Item, unsupported
from conformance.judging.row import Row
from conformance.model.case import Case, Problem
from conformance.model.errors import UserError
from conformance.reference.oracle import Oracle, open_cache

CASES = 5
"""Cases that a terminal shows one by one."""
PROBLEM_COLUMNS = ["case", "dtype", "reduction", "function", "status", "explanation"]
Wanted = Callable[[Function, str], bool]
Reasons = tuple[tuple[Item, str], ...]


def unasked_rows(
    cases: Iterable[Case], items: Iterable[Item], here: Sequence[Installed], wanted: Wanted | None = None
) -> list[Row]:
    """A row of status `unsupported` for each function on each problem that none of them takes.

    A case that is taken in no dtype and reduction has rows of its first problem alone, a dtype that is taken in no
    reduction those of its first reduction.  items: those that are asked.  here: whose functions are asked.  wanted:
    which of a function's items are, by their ids; a problem of which none is has no row.
    """
    taken = {(item.case.id, item.dtype, item.reduction) for item in items}
    functions = [(installed, function) for installed in here for function in installed.functions]
    rows: list[Row] = []
    cache = None
    try:
        for case in cases:
            if all((case.id, *of) in taken for of in itertools.product(case.dtypes, case.reductions)):
                continue
            found = [
                (problem, reasons)
                for problem in case.sketch.problems()
                if (case.id, problem.dtype, problem.reduction) not in taken
                and (reasons := _reasons(case, problem, functions, wanted))
            ]
            if found and cache is None:
                cache = open_cache()
            oracle = Oracle(cache)
            for reasons in _representative(case, found):
                rows += _rows(reasons, oracle)
    finally:
        if cache is not None:
            cache.close()
    return rows


def _reasons(
    case: Case, problem: Problem, functions: Iterable[tuple[Installed, Function]], wanted: Wanted | None
) -> Reasons:
    """Of each function that is meant to be asked, its item and why it cannot be; empty where one can be asked."""
    found = []
    for installed, function in functions:
        item = Item(installed, function, case, problem.dtype, problem.reduction)
        if wanted is None or wanted(function, item.id):
            if (why := unsupported(function, case, problem)) is None:
                return ()
            found.append((item, why))
    return tuple(found)


def _representative(case: Case, found: Sequence[tuple[Problem, Reasons]]) -> Iterator[Reasons]:
    """The fewest problems that say what is not taken."""
    if len(found) == len(case.dtypes) * len(case.reductions):
        found = found[:1]
    for _, group in itertools.groupby(found, key=lambda one: one[0].dtype):
        of = list(group)
        for _, reasons in of[:1] if len(of) == len(case.reductions) else of:
            yield reasons


def _rows(reasons: Reasons, oracle: Oracle) -> Iterator[Row]:
    for item, why in reasons:
        try:
            yield unsupported_assessment(item, why, oracle).row
        except UserError:  # arrays that cannot be generated; `conformance lint` says why
            return


@dataclass(frozen=True)
class Unasked:
    """A problem that no function takes.

    of: its dtype and reduction, "" where its case is taken in none.  reasons: functions by why they cannot take it.
    """

    case: str
    of: str
    reasons: Mapping[str, tuple[str, ...]]

    @property
    def headline(self) -> str:
        return f"no function that is asked can take {self.case}{f' as {self.of}' if self.of else ''}"

    def lines(self) -> list[str]:
        """The reasons, each with its functions."""
        return [f"{why}: {', '.join(functions)}" for why, functions in self.reasons.items()]


def unasked(rows: Iterable[Row]) -> list[Unasked]:
    """The problems among rows that no function takes."""
    return unasked_problems(
        (row.key.case, row.key.dtype, row.key.reduction, row.key.function, row.status, row.explanation) for row in rows
    )


def unasked_problems(rows: Iterable[tuple[str, ...]]) -> list[Unasked]:
    """The same for rows that have only the columns `PROBLEM_COLUMNS`."""
    rows = list(rows)
    asked = {case for case, *_, status, _ in rows if status != "unsupported"}
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for case, dtype, reduction, function, status, explanation in rows:
        if status == "unsupported":
            functions = found.setdefault((case, dtype, reduction), {}).setdefault(explanation, [])
            functions += [function] if function not in functions else []
    counts = Counter(case for case, _, _ in found)
    return [
        Unasked(
            case,
            f"{dtype}, {reduction}" if case in asked or counts[case] > 1 else "",
            {why: tuple(functions) for why, functions in reasons.items()},
        )
        for (case, dtype, reduction), reasons in found.items()
    ]


def unasked_lines(found: Sequence[Unasked], *, narrowed: bool = False) -> list[str]:
    """What a terminal shows: the first `CASES`, with their reasons, and how many there are.

    narrowed: the user chose among frameworks, so that many are no surprise; in one line, how many there are.
    """
    cases = len({one.case for one in found})
    what = f"{cases} cases have" if cases != 1 else "1 case has"
    if narrowed and cases > CASES:
        return [f"{what} problems that no function of this selection can take: rows with status unsupported say why"]
    lines = []
    for one in found[:CASES]:
        lines += [one.headline, *(f"    {line}" for line in one.lines())]
    if len(found) > CASES:
        lines.append(f"and {len(found) - CASES} more; {what} rows with status unsupported in the report")
    return lines
