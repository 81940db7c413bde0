"""Compares functions with each other: who agrees with whom, by how much they differ, and why.

Everything is computed from the text columns of a frame, so that it can be repeated from a results file.
The difference a - b of two functions has a semantic part, want_by_convention_a - want_by_convention_b (their
conventions differ), and a numeric part, the rest (rounding), which is bounded by the sum of their budgets.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.judging.row import SHOWN as MAX_ELEMENTS
from conformance.judging.row import array_of, choices_of
from conformance.judging.row import spaced as sample_indices
from conformance.judging.row import thinned as parse_subsampled_shape
from conformance.model.floats import subtract, ulp
from conformance.model.row_key import PLACE, PROBLEM
from conformance.report.frames import failing, typed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

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
CHUNK_ELEMENTS = 1 << 18
"""Elements compared at a time, to bound memory."""
FLOAT64_ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""What the subtractions and sums made here, in float64, may add to a comparison, relative to the budget."""
_RIGHT = ("agrees", "diverges")
_NO_ELEMENTS = np.zeros(0)
_WORST_FIRST = (
    "unexpected", "stale", "unexplained", "crashed", "timed_out", "disagrees", "incomparable", "diverges", "explained",
    "undefined",
)  # fmt: skip
"""Order of discrepancies: by `expected` if that is one of these, else by status or relation."""


@dataclass(frozen=True, eq=False)
class Values:
    """The arrays in the cells of rows, each column as one flat array.

    Row i has the elements start[i] to start[i] + size[i] of each float column.
    """

    shapes: list[str]
    """Shape of what each row returned, as text; "" if it returned nothing."""
    start: Integers
    size: Integers
    got: Floats
    reference: Floats
    """Expected value under the convention that the row's status rests on; NaN if `has_reference` is false."""
    definition: Floats
    """Expected value under the definition; NaN if `has_definition` is false."""
    budget: Floats
    has_reference: Flags
    """By row."""
    has_definition: Flags
    right: Flags
    """Whether the status says that the row lies within its budget of the reference."""

    def take(self, rows: Integers) -> Values:
        """Select rows, in this order."""
        flags = {name: getattr(self, name)[rows] for name in ("has_reference", "has_definition", "right")}
        shapes = [self.shapes[row] for row in rows.tolist()]
        return dataclasses.replace(self, shapes=shapes, start=self.start[rows], size=self.size[rows], **flags)

    def as_definition(self) -> Values:
        """The definition as if it were a function: it returns its expected values, without an error."""
        zero = np.zeros_like(self.budget)
        return dataclasses.replace(
            self, got=self.definition, reference=self.definition, budget=zero, has_reference=self.has_definition
        )


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Comparison of pairs of rows with equal shapes; the numbers are those of the worst element."""

    agree: Flags
    explained: Flags
    overflow: Flags
    difference: Floats
    allowed: Floats
    semantic: Floats
    numeric: Floats
    where: npt.NDArray[Any]

    def scattered(self, name: str, index: Integers, count: int, default: Any) -> npt.NDArray[Any]:
        """A field as a column of `count` lines: its values at an index, elsewhere a default."""
        values = getattr(self, name)
        column = np.full(count, default, dtype=values.dtype)
        column[index] = values
        return column


def pairs(results: pd.DataFrame, values: Values | None = None) -> pd.DataFrame:
    """Compare the functions of each problem two by two: one row per unordered pair that returned or raised.

    values: result of `parse(results)`, if already computed.

    Returns a frame with the columns PAIR_COLUMNS:
        relation:
            agree: |a - b| is within the sum of their budgets in each element (NaN and infinities as masks),
                or both raised.
            explained: it is not, but |a - b - semantic| is; or one raised, and the deviation from the
                definition is documented; or one overflowed, as its dtype allows.
            unexplained: none of these.
            incomparable: only one raised, or shapes differ.
            undefined: they differ, and there is no right answer.
        difference, allowed, semantic, numeric: a - b, the sum of the budgets, and the two parts of the
            difference, in the worst element; NaN if nothing was compared.  If one row has no budget, the
            other's is used; two such rows must be equal.
        where: index of the worst element.
        conventions: `function: choices` of both, without the choices that they have in common.
    """
    results = results.reset_index(drop=True)
    answered = results[(results["got"] != "") | (results["exception"] != "")]
    rows = answered.sort_values([*PROBLEM, "function", *PLACE], kind="stable")
    values = (parse(results) if values is None else values).take(rows.index.to_numpy())
    rows = rows.reset_index(drop=True)
    a, b = _pair_positions(rows)
    count = len(a)
    raised = rows["got"].eq("").to_numpy()
    shape = pd.factorize(np.array(values.shapes, dtype=object))[0]
    comparable = np.flatnonzero(~raised[a] & ~raised[b] & (shape[a] == shape[b]))
    compared = _compare(values, values, a[comparable], b[comparable])
    flags = {name: compared.scattered(name, comparable, count, False) for name in ("agree", "explained", "overflow")}
    numbers = {name: compared.scattered(name, comparable, count, np.nan) for name in PAIR_FLOATS}

    status = rows["status"].to_numpy(dtype=object)
    both_raised = raised[a] & raised[b]
    undefined = (status[a] == "undefined") | (status[b] == "undefined")
    conditions = {
        "agree": flags["agree"] | both_raised,
        "undefined": undefined,
        "explained": flags["explained"] | _documented(status, raised, a, b) | _documented(status, raised, b, a),
        "incomparable": ~np.isin(np.arange(count), comparable),
    }
    codes = [RELATIONS.index(name) for name in conditions]
    relation = np.select(list(conditions.values()), codes, RELATIONS.index("unexplained"))
    for name in ("semantic", "numeric"):
        numbers[name][undefined] = np.nan

    labels = _labels(rows)
    explainer = _PairExplainer(rows, labels.tolist(), values.shapes, raised)
    texts = {name: np.full(count, "", dtype=object) for name in ("conventions", "explanation")}
    for index in np.flatnonzero(~conditions["agree"] | both_raised):
        i, j = int(a[index]), int(b[index])
        texts["conventions"][index] = explainer.conventions(i, j)
        texts["explanation"][index] = explainer.explanation(
            RELATIONS[relation[index]], i, j, bool(flags["overflow"][index])
        )
    table = {
        **{name: rows[name].array.take(a) for name in PROBLEM},
        "function_a": labels.array.take(a),
        "function_b": labels.array.take(b),
        "relation": pd.array(list(RELATIONS), dtype="str").take(relation),
        **numbers,
        **texts,
        "where": compared.scattered("where", comparable, count, ""),
    }
    return typed(pd.DataFrame(table, columns=list(PAIR_COLUMNS)), PAIR_FLOATS)


def agreement_matrix(pairs: pd.DataFrame) -> pd.DataFrame:
    """Functions x functions: the share of their common problems on which two agree; NaN if there are none."""
    agree = pairs["relation"].eq("agree").astype("float64").rename("agree")
    one_way = pd.concat([pairs[["function_a", "function_b"]], agree], axis=1)
    other_way = one_way.rename(columns={"function_a": "function_b", "function_b": "function_a"})
    both = pd.concat([one_way[one_way["function_a"] != one_way["function_b"]], other_way])
    matrix = both.pivot_table(index="function_a", columns="function_b", values="agree", aggfunc="mean")
    return matrix.rename_axis(index=None, columns=None)


def discrepancies(results: pd.DataFrame, pair_table: pd.DataFrame, values: Values | None = None) -> pd.DataFrame:
    """Rows and pairs that do not agree, worst first.

    pair_table: result of `pairs(results)`.  values: result of `parse(results)`, if already computed.

    Returns a frame with the columns DISCREPANCY_COLUMNS:
        kind: `function` or `pair`.
        status: the status of a function or the relation of a pair.
        difference, semantic, numeric: as in `pairs`; a function is compared with the definition.
        ratio: |difference| / allowed.
        version, got, want, call, expected, known: "" for a pair.  function_b: "" for a function.
    """
    chosen = np.flatnonzero((failing(results) | results["status"].eq("diverges")).to_numpy())
    rows = results.iloc[chosen].reset_index(drop=True)
    values = parse(rows) if values is None else values.take(chosen)
    returned = np.flatnonzero((rows["got"] != "").to_numpy() & values.has_definition)
    compared = _compare(values, values.as_definition(), returned, returned)
    functions = rows.assign(kind="function", function_b="")
    for name in PAIR_FLOATS:
        functions[name] = compared.scattered(name, returned, len(rows), np.nan)
    where = rows["where"].to_numpy(dtype=object).copy()
    where[returned] = compared.where
    functions["where"] = where

    differing = pair_table[pair_table["relation"] != "agree"].assign(kind="pair")
    differing = differing.rename(columns={"function_a": "function", "relation": "status", "conventions": "convention"})
    parts = [part.reindex(columns=list(DISCREPANCY_COLUMNS)) for part in (functions, differing)]
    floats = dict.fromkeys(DISCREPANCY_FLOATS, "float64")
    table = pd.concat([part.astype(floats) for part in parts], ignore_index=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["ratio"] = table["difference"].abs() / table["allowed"]
    texts = [name for name in DISCREPANCY_COLUMNS if name not in DISCREPANCY_FLOATS]
    table[texts] = table[texts].fillna("")
    ranks = {name: rank for rank, name in enumerate(_WORST_FIRST)}
    rank = table["expected"].map(ranks).fillna(table["status"].map(ranks))
    order = table.assign(rank=rank, negative_ratio=-table["ratio"].fillna(-1.0)).sort_values(
        ["rank", "negative_ratio", *PROBLEM, "function", "function_b"], kind="stable"
    )
    return typed(table.loc[order.index], DISCREPANCY_FLOATS)


def _pair_positions(rows: pd.DataFrame) -> tuple[Integers, Integers]:
    """Positions of both members of every pair, in rows sorted by problem."""
    sizes = rows.groupby(list(PROBLEM), sort=False).size().to_numpy()
    firsts = np.cumsum(sizes) - sizes
    triangle = functools.cache(lambda size: np.stack(np.triu_indices(size, 1)))
    parts = [first + triangle(int(size)) for first, size in zip(firsts, sizes, strict=True)]
    a, b = np.concatenate([np.zeros((2, 0), np.int64), *parts], axis=1)
    return a, b


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Names of functions, qualified by environment if a function appears more than once per problem."""
    repeated = rows.duplicated([*PROBLEM, "function"], keep=False)
    several = rows["function"].isin(rows.loc[repeated, "function"])
    more = [name for name in ("backend", "mode", "device") if rows[name].nunique() > 1]
    place = rows["environment"].str.cat(rows[["version", *more]], sep=", ")
    return rows["function"].where(~several, rows["function"] + " (" + place + ")")


def _documented(status: npt.NDArray[Any], raised: Flags, a: Integers, b: Integers) -> Flags:
    """Whether a raised and b returned, and the one that deviates from the definition documents that it does."""
    rejects = status[a] == "diverges"
    accepts = (status[a] == "agrees") & (status[b] == "diverges")
    found: Flags = raised[a] & ~raised[b] & (rejects | accepts)
    return found


# Text columns to numbers


def parse(rows: pd.DataFrame) -> Values:
    """The numbers in the text columns of rows."""
    read = functools.cache(_read_array)
    shape_text = functools.cache(_shape_text)
    missing = functools.cache(lambda size: np.full(size, np.nan))
    full_shapes = rows["shape"].where(rows["got"] != "", "").tolist()
    shapes: list[str] = []
    flat: dict[str, list[Floats]] = {"got": [], "reference": [], "definition": [], "budget": []}
    has_reference, has_definition = [], []
    columns = ("got", "want", "want_by_convention", "budget", "budgets", "where")
    cells = zip(*(rows[name].tolist() for name in columns), full_shapes, strict=True)
    for got, want, want_by_convention, budget, budgets, where, full_shape in cells:
        shape, value = read(got)
        shapes.append("" if shape is None else shape_text(shape, where, full_shape))

        def of_shape(text: str, default: Floats, shape: Any = shape) -> tuple[bool, Floats]:
            """Whether a cell has an array of the shape of `got`, and that array or the default."""
            found, array = read(text)
            fits = found is not None and found == shape
            return fits, array if fits else default

        defined, definition = of_shape(want, missing(value.size))
        known, reference = (
            of_shape(want_by_convention, missing(value.size)) if want_by_convention else (defined, definition)
        )
        has_definition.append(defined)
        has_reference.append(known)
        flat["got"].append(value)
        flat["reference"].append(reference)
        flat["definition"].append(definition)
        flat["budget"].append(of_shape(budgets, np.repeat(budget, value.size))[1])
    size = np.array([len(part) for part in flat["got"]], dtype=np.int64)
    return Values(
        shapes,
        np.cumsum(size) - size,
        size,
        **{name: np.concatenate([_NO_ELEMENTS, *parts]) for name, parts in flat.items()},
        has_reference=np.array(has_reference, dtype=bool),
        has_definition=np.array(has_definition, dtype=bool),
        right=rows["status"].isin(_RIGHT).to_numpy(dtype=bool),
    )


def _read_array(text: str) -> tuple[tuple[int, ...] | None, Floats]:
    """Shape and elements of the array in a cell; None and no elements if it has none."""
    array = array_of(text)
    return (None, _NO_ELEMENTS) if array is None else (array.shape, array.reshape(-1))


def _shape_text(shape: tuple[int, ...], where: str, full_shape: str) -> str:
    """The shape as text; for a subsampled array, as the column `shape` has it.

    Reports did not always have that column; the rank can still be counted in `where`.
    """
    parsed = parse_subsampled_shape(full_shape)
    if parsed and shape == parsed[1:]:
        return full_shape
    rank = where.count(",") + 1 if where else len(shape)
    lost = shape == (MAX_ELEMENTS,) and rank > 1
    return f"{MAX_ELEMENTS} elements out of rank {rank}" if lost else str(shape)


# Numbers to relations


def _compare(x: Values, y: Values, a: Integers, b: Integers) -> _Comparison:
    """Compare rows a of x with rows b of y, whose shapes are equal."""
    ends = np.cumsum(x.size[a])
    cuts, begin = [0], 0
    while begin < len(a):
        before = ends[begin] - x.size[a[begin]]
        begin = max(begin + 1, int(np.searchsorted(ends, before + CHUNK_ELEMENTS, side="right")))
        cuts.append(begin)
    chunks = [slice(*cut) for cut in itertools.pairwise(cuts)] or [slice(0)]
    parts = [_compare_chunk(x, y, a[chunk], b[chunk]) for chunk in chunks]
    names = [field.name for field in dataclasses.fields(_Comparison)]
    return _Comparison(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _compare_chunk(x: Values, y: Values, a: Integers, b: Integers) -> _Comparison:
    """Compare rows a of x with rows b of y element by element, then reduce to one result per pair."""
    size = x.size[a]
    first = np.cumsum(size) - size
    offset = np.arange(size.sum()) - np.repeat(first, size)
    i, j = np.repeat(x.start[a], size) + offset, np.repeat(y.start[b], size) + offset

    allowed = _sum_of_budgets(x.budget[i], y.budget[j])
    difference = subtract(x.got[i], y.got[j])
    comparable = np.repeat(x.has_reference[a] & y.has_reference[b], size)
    semantic = np.where(comparable, subtract(x.reference[i], y.reference[j]), np.nan)
    error_x, overflow_x = _error(x, i, np.repeat(x.right[a], size))
    error_y, overflow_y = _error(y, j, np.repeat(y.right[b], size))
    numeric = np.where(comparable, subtract(error_x, error_y), np.nan)
    overflow = overflow_x | overflow_y
    # References are exact answers rounded to float64; a semantic part of that size means nothing.
    rounding = (_half_ulp(x.reference[i]) + _half_ulp(y.reference[j])) * comparable
    with np.errstate(over="ignore", invalid="ignore"):
        agree = np.abs(difference) <= allowed * (1 + FLOAT64_ROUNDING)
        within = np.abs(numeric) <= allowed * (1 + FLOAT64_ROUNDING) + rounding
        explained = agree | within & ((np.abs(semantic) > rounding) | overflow)
        numeric_shown = np.where(overflow, difference - semantic, numeric)

    segments = _Segments(size)
    all_explained = segments.all(explained)
    unexplained = np.repeat(~all_explained, size)
    error = np.abs(np.where(unexplained & comparable, numeric, difference))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        worst = segments.first_largest(np.where(error == 0, 0.0, error / allowed))
    where = np.full(len(a), "", dtype=object)
    for pair, element in zip(segments.filled.tolist(), offset[worst].tolist(), strict=True):
        where[pair] = _index_text(x.shapes[a[pair]], element)
    columns = {"difference": difference, "allowed": allowed, "semantic": semantic, "numeric": numeric_shown}
    numbers = {name: segments.scatter(column[worst]) for name, column in columns.items()}
    return _Comparison(segments.all(agree), all_explained, ~segments.all(~overflow), where=where, **numbers)


class _Segments:
    """Reductions over segments of a flat array, some of which may be empty."""

    def __init__(self, size: Integers) -> None:
        self.size = size
        self.filled = np.flatnonzero(size)
        """Segments that have elements."""
        self.first = (np.cumsum(size) - size)[self.filled]

    def all(self, flags: Flags) -> Flags:
        """Whether all elements of each segment are set; true for an empty one."""
        result = np.ones(len(self.size), dtype=bool)
        if self.filled.size:
            result[self.filled] = np.logical_and.reduceat(flags, self.first)
        return result

    def first_largest(self, values: Floats) -> Integers:
        """Position of the first largest element of each segment that has elements."""
        if not self.filled.size:
            return np.zeros(0, dtype=np.int64)
        largest = np.repeat(np.maximum.reduceat(values, self.first), self.size[self.filled])
        candidates = np.flatnonzero(values == largest)
        segment = np.repeat(np.arange(self.filled.size), self.size[self.filled])[candidates]
        return candidates[np.unique(segment, return_index=True)[1]]

    def scatter(self, values: Floats) -> Floats:
        """Values of the segments that have elements, as one value for each segment; 0 for an empty one."""
        result = np.zeros(len(self.size))
        result[self.filled] = values
        return result


def _sum_of_budgets(a: Floats, b: Floats) -> Floats:
    """A + b; twice the other one if one is NaN, and 0 if both are."""
    a, b = np.where(np.isnan(a), b, a), np.where(np.isnan(b), a, b)
    return np.nan_to_num(a + b, nan=0.0)


def _error(values: Values, index: Integers, right: Flags) -> tuple[Floats, Flags]:
    """Got - reference, and flags of a right row's infinite errors: an overflow of its dtype, with the error 0."""
    error = subtract(values.got[index], values.reference[index])
    overflow = np.isinf(error) & right & np.isinf(values.got[index])
    return np.where(overflow, 0.0, error), overflow


def _half_ulp(values: Floats) -> Floats:
    return ulp(np.where(np.isfinite(values), values, 0.0), np.dtype(np.float64)) / 2


@functools.cache
def _index_text(shape: str, element: int) -> str:
    """The index of an element as text; its position in the subsample if the shape is unknown."""
    if shape == "()":
        return ""
    if not shape.startswith("("):
        return f"shown element {element}"
    if parsed := parse_subsampled_shape(shape):
        sides, count = parsed
        element = int(sample_indices(math.prod(sides), count)[element])
    else:
        sides = tuple(int(side) for side in shape.strip("()").split(",") if side.strip())
    return str([int(i) for i in np.unravel_index(element, sides)])


# Explanations of pairs


class _PairExplainer:
    """Explains in words why two rows differ."""

    def __init__(self, rows: pd.DataFrame, names: list[str], shapes: list[str], raised: Flags) -> None:
        self.names, self.shapes, self.raised = names, shapes, raised
        columns = ("convention", "explanation", "exception", "status", "dtype")
        self.convention, self.reason, self.exception, self.status, self.dtype = (
            rows[name].tolist() for name in columns
        )
        self.conversion = rows["bridge"].where(rows["conversion"] != "", "").tolist()
        """Name of the conversion, if it changed the answer."""
        self._distinct_choices = functools.cache(_distinct_choices)

    def conventions(self, a: int, b: int) -> str:
        """`function: choices` of both, without the choices that both make, and with the conversions that matter."""
        sides = [(self.names[row], self.convention[row], self.conversion[row]) for row in (a, b)]
        return self._distinct_choices(*sides)

    def explanation(self, relation: str, a: int, b: int, overflow: bool) -> str:
        """Explain the relation of two rows.  overflow: whether one of them overflowed, as its dtype allows."""
        if self.raised[a] and self.raised[b]:
            return "both raise"
        mismatch = self._mismatch(a, b)
        match relation:
            case "undefined":
                reason = self.reason[a] if self.status[a] == "undefined" else self.reason[b]
                return "; ".join(filter(None, (f"there is no right answer: {reason}", mismatch)))
            case "explained" if mismatch:
                return f"{mismatch}, as documented"
            case "explained":
                return f"beyond the largest {self.dtype[a]}" if overflow else self._conventions_text(a, b)
            case "incomparable":
                returned = not self.raised[a] and not self.raised[b]
                right = {self.status[a], self.status[b]} <= set(_RIGHT)
                return f"{mismatch}, as documented" if returned and right else mismatch
            case _:
                wrong = [
                    f"{self.names[i]} disagrees: {self.reason[i]}" for i in (a, b) if self.status[i] == "disagrees"
                ]
                return " | ".join(wrong) or "neither disagrees with the definition, but they do with each other"

    def _conventions_text(self, a: int, b: int) -> str:
        converted = [self.names[row] for row in (a, b) if self.conversion[row]]
        texts = [f"predictions were converted for {' and '.join(converted)}"] if converted else []
        if not texts or self.convention[a] != self.convention[b]:
            texts.append("their documented conventions differ")
        return "; ".join(texts)

    def _mismatch(self, a: int, b: int) -> str:
        """That only one of two rows raised, or that their shapes differ; "" if neither is so."""
        for one, other in ((a, b), (b, a)):
            if self.raised[one] and not self.raised[other]:
                return f"{self.names[one]} raised {self.exception[one]}; {self.names[other]} returned"
        if self.shapes[a] == self.shapes[b]:
            return ""
        shapes = [parsed[0] if (parsed := parse_subsampled_shape(self.shapes[i])) else self.shapes[i] for i in (a, b)]
        return f"{self.names[a]} has shape {shapes[0]}, {self.names[b]} {shapes[1]}"


def _distinct_choices(a: tuple[str, str, str], b: tuple[str, str, str]) -> str:
    """a, b: name, convention and conversion of two rows."""
    sides = []
    for (name, convention, conversion), (_, other, _) in ((a, b), (b, a)):
        common = choices_of(other).items()
        texts = [f"converted by {conversion}"] if conversion else []
        texts += [f"{field}={value}" for field, value in choices_of(convention).items() if (field, value) not in common]
        if texts:
            sides.append(f"{name}: {'; '.join(texts)}")
    return " | ".join(sides)
