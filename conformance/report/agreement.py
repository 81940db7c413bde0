"""Functions held against each other: who agrees with whom, by how much they differ, and why.

Everything is computed from the text columns of a frame, so that it can be redone from a results file.
A difference a - b of two functions splits into what their conventions make of the problem,
want_by_convention_a - want_by_convention_b (semantic), and the rest (numeric), which is bounded by the
sum of their budgets.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.judging.row import SHOWN, array_of, choices_of, spaced, thinned
from conformance.model.floats import subtract, ulp
from conformance.model.row_key import PLACE
from conformance.model.row_key import PROBLEM as QUESTION
from conformance.report.frames import failing, typed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

PROBLEM = list(QUESTION)
RELATIONS = ("agree", "explained", "unexplained", "incomparable", "undefined")
PAIR_FLOATS = ("difference", "allowed", "semantic", "numeric")
PAIR_COLUMNS = (
    *PROBLEM, "function_a", "function_b", "relation", *PAIR_FLOATS, "conventions", "explanation", "where",
)  # fmt: skip
DISCREPANCY_FLOATS = ("difference", "allowed", "ratio", "semantic", "numeric")
DISCREPANCY_COLUMNS = (
    "kind", *PROBLEM, "function", "function_b", "status", "expected", *DISCREPANCY_FLOATS,
    "convention", "explanation", "where", "known", "version", "got", "want", "call",
)  # fmt: skip
CHUNK = 1 << 18
"""Elements compared at a time, to bound memory."""
_NOTHING = np.zeros(0)
ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""What the subtractions and sums made here, in float64, may add to a comparison, relative to the budget."""


@dataclass(frozen=True, eq=False)
class _Values:
    """What rows returned, as one flat array: row i has elements start[i] to start[i] + size[i].

    reference: the answer by the convention that the row's status rests on, and definition: that of the
    definition; both nan where there is none (see the flags).  right: whether the status says that the row
    lies within its budget of the reference.
    """

    shapes: list[str]
    start: Integers
    size: Integers
    got: Floats
    reference: Floats
    definition: Floats
    budget: Floats
    has_reference: Flags
    has_definition: Flags
    right: Flags

    def take(self, rows: Integers) -> _Values:
        """Some of the rows, in this order."""
        flags = {name: getattr(self, name)[rows] for name in ("has_reference", "has_definition", "right")}
        shapes = [self.shapes[row] for row in rows.tolist()]
        return dataclasses.replace(self, shapes=shapes, start=self.start[rows], size=self.size[rows], **flags)

    def as_definition(self) -> _Values:
        """The definition in the place of the functions: what it answers, without an error of its own."""
        zero = np.zeros_like(self.budget)
        return dataclasses.replace(
            self, got=self.definition, reference=self.definition, budget=zero, has_reference=self.has_definition
        )


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Pairs of rows with equal shapes, compared; the numbers are those of the worst element."""

    agree: Flags
    explained: Flags
    overflow: Flags
    difference: Floats
    allowed: Floats
    semantic: Floats
    numeric: Floats
    where: npt.NDArray[Any]


def pairs(results: pd.DataFrame, parsed: _Values | None = None) -> pd.DataFrame:
    """Every problem's functions, two by two: one line per unordered pair that returned or raised.

    relation:
        agree: |a - b| is within the sum of their budgets in every element (nan and infinities as masks),
            or both raised.
        explained: it is not, but |a - b - semantic| is; or one raised and the one that leaves the
            definition documents it; or one overflowed, as it may in its dtype.
        unexplained: neither.
        incomparable: only one raised, or shapes differ.
        undefined: they differ where there is no right answer.
    difference, allowed, semantic, numeric: a - b, the sum of the budgets, and the two parts of the
        difference, in the worst element, whose index is `where`; NaN where nothing was compared.
        A row without a budget of its own is allowed what the other is; two such rows must be equal.
    conventions: `function: choices` of both, less what they have in common.
    parsed: `parse` of the results, where somebody has it.
    """
    results = results.reset_index(drop=True)
    answered = results[(results["got"] != "") | (results["exception"] != "")]
    rows = answered.sort_values([*PROBLEM, "function", *PLACE], kind="stable")
    values = (parse(results) if parsed is None else parsed).take(rows.index.to_numpy())
    rows = rows.reset_index(drop=True)
    a, b = _two_by_two(rows)
    raised = rows["got"].eq("").to_numpy()
    shape = pd.factorize(np.array(values.shapes, dtype=object))[0]
    returned = ~raised[a] & ~raised[b]
    comparable = np.flatnonzero(returned & (shape[a] == shape[b]))
    compared = _compare(values, values, a[comparable], b[comparable])

    count = len(a)
    numbers = {name: np.full(count, np.nan) for name in PAIR_FLOATS}
    for name, column in numbers.items():
        column[comparable] = getattr(compared, name)
    where = np.full(count, "", dtype=object)
    where[comparable] = compared.where
    agree, explained, overflow = (np.zeros(count, dtype=bool) for _ in range(3))
    agree[comparable], explained[comparable] = compared.agree, compared.explained
    overflow[comparable] = compared.overflow
    agree |= raised[a] & raised[b]

    status = rows["status"].to_numpy(dtype=object)
    explained |= _documented(status, raised, a, b) | _documented(status, raised, b, a)
    undefined = (status[a] == "undefined") | (status[b] == "undefined")
    differ = np.ones(count, dtype=bool)
    differ[comparable] = False
    conditions = {"agree": agree, "undefined": undefined, "explained": explained, "incomparable": differ}
    numbered = [RELATIONS.index(name) for name in conditions]
    relation = np.select(list(conditions.values()), numbered, RELATIONS.index("unexplained"))
    for name in ("semantic", "numeric"):
        numbers[name][undefined] = np.nan

    labels = _labels(rows)
    tell = _Teller(rows, labels.tolist(), values.shapes, raised)
    conventions = np.full(count, "", dtype=object)
    explanation = np.full(count, "", dtype=object)
    for index in np.flatnonzero(~agree | (raised[a] & raised[b])):
        i, j = int(a[index]), int(b[index])
        conventions[index] = tell.conventions(i, j)
        explanation[index] = tell.explanation(RELATIONS[relation[index]], i, j, bool(overflow[index]))
    table = {
        **{name: rows[name].array.take(a) for name in PROBLEM},
        "function_a": labels.array.take(a),
        "function_b": labels.array.take(b),
        "relation": pd.array(list(RELATIONS), dtype="str").take(relation),
        **numbers,
        "conventions": conventions,
        "explanation": explanation,
        "where": where,
    }
    return typed(pd.DataFrame(table, columns=list(PAIR_COLUMNS)), PAIR_FLOATS)


def agreement_matrix(pairs: pd.DataFrame) -> pd.DataFrame:
    """Functions x functions: the share of their common problems on which two agree; NaN where there are none."""
    agree = pairs["relation"].eq("agree").astype("float64").rename("agree")
    one_way = pd.concat([pairs[["function_a", "function_b"]], agree], axis=1)
    other_way = one_way.rename(columns={"function_a": "function_b", "function_b": "function_a"})
    both = pd.concat([one_way[one_way["function_a"] != one_way["function_b"]], other_way])
    matrix = both.pivot_table(index="function_a", columns="function_b", values="agree", aggfunc="mean")
    return matrix.rename_axis(index=None, columns=None)


def discrepancies(results: pd.DataFrame, pairs: pd.DataFrame, parsed: _Values | None = None) -> pd.DataFrame:
    """What is not plainly in agreement, worst first: functions with the definition, and pairs with each other.

    kind: `function` or `pair`.  status: a function's status or a pair's relation.  difference, semantic,
    numeric: as in `pairs`, where a function's partner is the definition.  ratio: |difference| / allowed.
    A pair has no version, got, want, call, expected or known; a function has no function_b.
    """
    chosen = np.flatnonzero((failing(results) | results["status"].eq("diverges")).to_numpy())
    rows = results.iloc[chosen].reset_index(drop=True)
    values = parse(rows) if parsed is None else parsed.take(chosen)
    returned = np.flatnonzero((rows["got"] != "").to_numpy() & values.has_definition)
    compared = _compare(values, values.as_definition(), returned, returned)
    functions = rows.rename(columns={"budget": "allowed"}).assign(kind="function", function_b="")
    for name in ("difference", "allowed", "semantic", "numeric"):
        column = np.full(len(rows), np.nan)
        column[returned] = getattr(compared, name)
        functions[name] = column
    where = rows["where"].to_numpy(dtype=object).copy()
    where[returned] = compared.where
    functions["where"] = where

    apart = pairs[pairs["relation"] != "agree"]
    others = apart.rename(columns={"function_a": "function", "relation": "status", "conventions": "convention"})
    others = others.assign(kind="pair")
    parts = [part.reindex(columns=list(DISCREPANCY_COLUMNS)) for part in (functions, others)]
    floats = dict.fromkeys(DISCREPANCY_FLOATS, "float64")
    table = pd.concat([part.astype(floats) for part in parts], ignore_index=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["ratio"] = table["difference"].abs() / table["allowed"]
    texts = [name for name in DISCREPANCY_COLUMNS if name not in DISCREPANCY_FLOATS]
    table[texts] = table[texts].fillna("")
    order = pd.DataFrame(
        {
            "rank": table["expected"].map(_RANK).fillna(table["status"].map(_RANK)),
            "ratio": -table["ratio"].fillna(-1.0),
            **{name: table[name] for name in (*PROBLEM, "function", "function_b")},
        }
    )
    return typed(table.loc[order.sort_values(list(order.columns), kind="stable").index], DISCREPANCY_FLOATS)


_WORST_FIRST = (
    "unexpected", "stale", "unexplained", "crashed", "timed_out", "disagrees", "incomparable", "diverges", "explained",
    "undefined",
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(_WORST_FIRST)}
"""How bad a discrepancy is: by what was expected where that says something, else by status or relation."""


def _two_by_two(rows: pd.DataFrame) -> tuple[Integers, Integers]:
    """Positions of both members of every pair in rows sorted by problem."""
    sizes = rows.groupby(PROBLEM, sort=False).size().to_numpy()
    firsts = np.cumsum(sizes) - sizes
    triangle = functools.cache(lambda n: np.triu_indices(n, 1))
    corners = [(first, triangle(int(n))) for first, n in zip(firsts, sizes, strict=True) if n > 1]
    a, b = ([first + corner[side] for first, corner in corners] for side in (0, 1))
    return (np.concatenate(a), np.concatenate(b)) if corners else (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Names of functions; with where and how they ran if a problem was put to the same one several times."""
    again = rows.duplicated([*PROBLEM, "function"], keep=False)
    several = rows["function"].isin(rows.loc[again, "function"])
    told = ["environment", "version", *(name for name in ("backend", "mode", "device") if rows[name].nunique() > 1)]
    place = functools.reduce(lambda text, name: text + ", " + rows[name], told[1:], rows[told[0]])
    longer = rows["function"] + " (" + place + ")"
    return longer.where(several, rows["function"])


def _documented(status: npt.NDArray[Any], raised: Flags, a: Integers, b: Integers) -> Flags:
    """Whether a raised and b returned, and the one that leaves the definition documents that it does."""
    refuses = status[a] == "diverges"
    takes = (status[a] == "agrees") & (status[b] == "diverges")
    found: Flags = raised[a] & ~raised[b] & (refuses | takes)
    return found


# Text columns to numbers


def parse(rows: pd.DataFrame) -> _Values:
    """The numbers in the text columns of rows."""
    read = functools.cache(_array)
    named = functools.cache(_shape)
    missing = functools.cache(lambda size: np.full(size, np.nan))
    shapes: list[str] = []
    thinned = rows["shape"].where(rows["got"] != "", "").tolist()
    flat: dict[str, list[Floats]] = {"got": [], "reference": [], "definition": [], "budget": []}
    has_reference, has_definition = [], []
    columns = ("got", "want", "want_by_convention", "budget", "budgets", "where")
    cells = zip(*(rows[name].tolist() for name in columns), thinned, strict=True)
    for got, want, by_convention, budget, budgets, where, whole in cells:
        shape, value = read(got)
        shapes.append("" if shape is None else named(shape, where, whole))
        own, definition = read(want)
        defined = own == shape is not None
        referred, reference = defined, definition
        if by_convention:
            own, reference = read(by_convention)
            referred = own == shape is not None
        own, allowed = read(budgets) if budgets else (None, _NOTHING)
        has_reference.append(referred)
        has_definition.append(defined)
        flat["got"].append(value)
        flat["reference"].append(reference if referred else missing(value.size))
        flat["definition"].append(definition if defined else missing(value.size))
        flat["budget"].append(allowed if own is not None and own == shape else np.repeat(budget, value.size))
    size = np.array([len(part) for part in flat["got"]], dtype=np.int64)
    joined = {name: np.concatenate(parts) if parts else _NOTHING for name, parts in flat.items()}
    return _Values(
        shapes,
        np.cumsum(size) - size,
        size,
        **joined,
        has_reference=np.array(has_reference, dtype=bool),
        has_definition=np.array(has_definition, dtype=bool),
        right=rows["status"].isin(["agrees", "diverges"]).to_numpy(dtype=bool),
    )


def _array(text: str) -> tuple[tuple[int, ...] | None, Floats]:
    """(shape, numbers) of a cell; None and nothing where it holds none."""
    array = array_of(text)
    return (None, _NOTHING) if array is None else (array.shape, array.reshape(-1))


def _shape(shape: tuple[int, ...], where: str, whole: str) -> str:
    """The shape as text, as the column `shape` has it for an array that was thinned for the report.

    Reports did not always have that column; `where` still has the rank.
    """
    if (whole_shape := thinned(whole)) and shape == whole_shape[1:]:
        return whole
    rank = where.count(",") + 1 if where else len(shape)
    lost = shape == (SHOWN,) and rank > 1
    return f"{SHOWN} elements out of rank {rank}" if lost else str(shape)


# Numbers to relations


def _compare(x: _Values, y: _Values, a: Integers, b: Integers) -> _Comparison:
    """Rows a of x against rows b of y, whose shapes are equal."""
    size = x.size[a]
    ends = np.cumsum(size)
    parts = []
    begin = 0
    while begin < len(a):
        before = ends[begin] - size[begin]
        end = max(begin + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        parts.append(_compare_chunk(x, y, a[begin:end], b[begin:end]))
        begin = end
    if not parts:
        parts.append(_compare_chunk(x, y, a, b))
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(_Comparison):
        columns = [getattr(part, field.name) for part in parts]
        joined[field.name] = np.concatenate(columns)
    return _Comparison(**joined)


def _compare_chunk(x: _Values, y: _Values, a: Integers, b: Integers) -> _Comparison:
    size = x.size[a]
    filled = np.flatnonzero(size)
    first = (np.cumsum(size) - size)[filled]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    i, j = np.repeat(x.start[a], size) + within, np.repeat(y.start[b], size) + within

    allowed = _allowed(x.budget[i], y.budget[j])
    difference = subtract(x.got[i], y.got[j])
    semantic = subtract(x.reference[i], y.reference[j])
    known = np.repeat(x.has_reference[a] & y.has_reference[b], size)
    semantic[~known] = np.nan
    error_x, over_x = _error(x, i, np.repeat(x.right[a], size))
    error_y, over_y = _error(y, j, np.repeat(y.right[b], size))
    numeric = subtract(error_x, error_y)
    numeric[~known] = np.nan
    # References are exact answers rounded to float64; that much of a part means nothing.
    rounding = (_half_ulp(x.reference[i]) + _half_ulp(y.reference[j])) * known
    with np.errstate(over="ignore", invalid="ignore"):
        agree = np.abs(difference) <= allowed * (1 + ROUNDING)
        overflow = over_x | over_y
        explained = agree | (np.abs(numeric) <= allowed * (1 + ROUNDING) + rounding) & (
            (np.abs(semantic) > rounding) | overflow
        )
        told = np.where(overflow, difference - semantic, numeric)

    def every(flags: Flags) -> Flags:
        """Per pair: whether all elements are; arrays without elements are."""
        result = np.ones(len(a), dtype=bool)
        if filled.size:
            result[filled] = np.logical_and.reduceat(flags, first)
        return result

    all_agree, all_explained = every(agree), every(explained)
    open_ = np.repeat(~all_explained, size)
    part = np.where(open_ & known, np.abs(np.where(known, numeric, 0.0)), np.abs(difference))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        badness = np.where(part == 0, 0.0, part / allowed)
    worst = _first_largest(badness, size, filled, first)

    def at_worst(numbers: Floats) -> Floats:
        result = np.zeros(len(a))
        result[filled] = numbers[worst]
        return result

    where = np.full(len(a), "", dtype=object)
    for pair, element in zip(filled.tolist(), within[worst].tolist(), strict=True):
        where[pair] = _index(x.shapes[a[pair]], element)
    return _Comparison(
        all_agree,
        all_explained,
        ~every(~overflow),
        at_worst(difference),
        at_worst(allowed),
        at_worst(semantic),
        at_worst(told),
        where,
    )


def _allowed(a: Floats, b: Floats) -> Floats:
    a, b = np.where(np.isnan(a), b, a), np.where(np.isnan(b), a, b)
    return np.nan_to_num(a + b, nan=0.0)


def _error(values: _Values, at: Integers, right: Flags) -> tuple[Floats, Flags]:
    """(got - reference, where it is infinite although the row is right: an overflow of its dtype)."""
    error = subtract(values.got[at], values.reference[at])
    overflow = np.isinf(error) & right & np.isinf(values.got[at])
    error[overflow] = 0.0
    return error, overflow


def _half_ulp(values: Floats) -> Floats:
    return ulp(np.where(np.isfinite(values), values, 0.0), np.dtype(np.float64)) / 2


def _first_largest(values: Floats, size: Integers, filled: Integers, first: Integers) -> Integers:
    """Per segment that has elements, the position of its first largest one."""
    if not filled.size:
        return np.zeros(0, dtype=np.int64)
    largest = np.repeat(np.maximum.reduceat(values, first), size[filled])
    candidates = np.flatnonzero(values == largest)
    segment = np.repeat(np.arange(filled.size), size[filled])[candidates]
    return candidates[np.unique(segment, return_index=True)[1]]


@functools.cache
def _index(shape: str, element: int) -> str:
    """The index of an element as text; its number among those shown where the shape is lost."""
    if shape == "()":
        return ""
    if not shape.startswith("("):
        return f"shown element {element}"
    if whole := thinned(shape):
        sides, shown = whole
        element = int(spaced(math.prod(sides), shown)[element])
    else:
        sides = tuple(int(side) for side in shape.strip("()").split(",") if side.strip())
    return str([int(i) for i in np.unravel_index(element, sides)])


# What is said about a pair


class _Teller:
    """Puts into words why two rows differ."""

    def __init__(self, rows: pd.DataFrame, names: list[str], shapes: list[str], raised: Flags) -> None:
        self.names, self.shapes, self.raised = names, shapes, raised
        columns = ("convention", "explanation", "exception", "status", "dtype")
        self.convention, self.why, self.exception, self.status, self.dtype = (rows[name].tolist() for name in columns)
        converted = zip(rows["bridge"].tolist(), rows["conversion"].tolist(), strict=True)
        self.converted = [bridge if conversion else "" for bridge, conversion in converted]
        self._choices = functools.cache(_told_apart)

    def conventions(self, a: int, b: int) -> str:
        """`function: choices` of both, less the choices that both make, with the conversions that matter."""
        sides = [(self.names[row], self.convention[row], self.converted[row]) for row in (a, b)]
        return self._choices(*sides)

    def explanation(self, relation: str, a: int, b: int, overflow: bool) -> str:
        if self.raised[a] and self.raised[b]:
            return "both raise"
        differ = self._differ(a, b)
        match relation:
            case "undefined":
                why = self.why[a] if self.status[a] == "undefined" else self.why[b]
                return "; ".join(filter(None, (f"there is no right answer: {why}", differ)))
            case "explained" if differ:
                return f"{differ}, as documented"
            case "explained" if overflow:
                return f"beyond the largest {self.dtype[a]}"
            case "explained":
                converted = [self.names[row] for row in (a, b) if self.converted[row]]
                told = [f"predictions were converted for {' and '.join(converted)}"] if converted else []
                told += ["their documented conventions differ"] if self.convention[a] != self.convention[b] else []
                return "; ".join(told) or "their documented conventions differ"
            case "incomparable":
                returned = not self.raised[a] and not self.raised[b]
                right = {self.status[a], self.status[b]} <= {"agrees", "diverges"}
                return f"{differ}, as documented" if returned and right else differ
            case _:
                wrong = [f"{self.names[i]} disagrees: {self.why[i]}" for i in (a, b) if self.status[i] == "disagrees"]
                return " | ".join(wrong) or "neither disagrees with the definition, but they do with each other"

    def _differ(self, a: int, b: int) -> str:
        """How two rows are of different kinds, if they are."""
        for one, other in ((a, b), (b, a)):
            if self.raised[one] and not self.raised[other]:
                return f"{self.names[one]} raised {self.exception[one]}; {self.names[other]} returned"
        if self.shapes[a] != self.shapes[b]:
            shapes = [found[0] if (found := thinned(self.shapes[row])) else self.shapes[row] for row in (a, b)]
            return f"{self.names[a]} has shape {shapes[0]}, {self.names[b]} {shapes[1]}"
        return ""


def _told_apart(a: tuple[str, str, str], b: tuple[str, str, str]) -> str:
    """a, b: (name, convention, the conversion that matters) of two rows."""
    sides = []
    for (name, one, converted), (_, other, _) in ((a, b), (b, a)):
        shared = choices_of(other).items()
        own = [f"converted by {converted}"] if converted else []
        own += [f"{choice}={value}" for choice, value in choices_of(one).items() if (choice, value) not in shared]
        if own:
            sides.append(f"{name}: {'; '.join(own)}")
    return " | ".join(sides)
