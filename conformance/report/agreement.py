"""Compare functions with each other: which ones agree, by how much they differ, and why.

All results are computed from the text columns of a frame, so that they can be reproduced from a results file.
The difference a - b of two functions has a semantic part, want_by_convention_a - want_by_convention_b, caused by
their conventions, and a numeric part, the rest, which is caused by rounding and bounded by the sum of their budgets.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.judging.row import MAX_ELEMENTS, array_of, choices_of, parse_subsampled_shape, sample_indices
from conformance.model.floats import Floats, subtract, ulp
from conformance.model.row_key import PLACE, PROBLEM
from conformance.report.frames import failing, reordered, set_dtypes

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
"""Approximate number of elements that are compared in one step, to bound memory."""
CHUNK_ROWS = 1 << 13
"""Approximate number of rows that are compared in one step, to bound memory."""
FLOAT64_ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Bound on the rounding errors of the comparison itself, which is in float64, relative to the budget."""
_RIGHT = ("agrees", "diverges")
_FLAGS = ("agree", "explained", "overflow")
_EXPLAINING = [
    *PROBLEM, "label", "array_shape", "raised", "status", "convention", "explanation", "exception", "bridge",
    "conversion",
]  # fmt: skip
"""Columns of rows that explanations of pairs use."""
_READ = [
    *PROBLEM, "function", *PLACE, "got", "want", "want_by_convention", "budget", "budgets", "where", "shape", "status",
    "convention", "explanation", "exception", "bridge", "conversion",
]  # fmt: skip
"""Columns of a report that `pairs` reads."""
_NO_ELEMENTS = np.zeros(0)
_WORST_FIRST = (
    "unexpected", "stale", "unexplained", "crashed", "timed_out", "disagrees", "incomparable", "diverges", "explained",
    "undefined",
)  # fmt: skip
"""Order of discrepancies: by `expected` if it is one of these, else by status or relation."""


def pairs(results: pd.DataFrame) -> pd.DataFrame:
    """Compare the functions of each problem two by two: one row per unordered pair that returned or raised.

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
        conventions: `function: choices` of both, without the common choices.
    """
    answered = results[_READ][(results["got"] != "") | (results["exception"] != "")]
    rows = answered.sort_values([*PROBLEM, "function", *PLACE], kind="stable", ignore_index=True)
    rows = rows.assign(label=_labels(rows))
    problem = np.asarray(rows.groupby(list(PROBLEM), sort=False).ngroup(), dtype=np.int64)
    bounds = np.unique([0, *np.searchsorted(problem, problem[CHUNK_ROWS::CHUNK_ROWS]), len(rows)])
    parts = [_pairs(rows[start:stop], problem[start:stop]) for start, stop in itertools.pairwise(bounds.tolist())]
    return pd.concat(parts, ignore_index=True) if parts else _pair_table({})


def _pairs(rows: pd.DataFrame, problem: npt.NDArray[np.int64]) -> pd.DataFrame:
    """The pairs of rows of whole problems.  problem: number of the problem of each row."""
    values = parse(rows)
    rows = rows.assign(array_shape=values["shape"].array, raised=rows["got"].eq(""))
    problems = pd.DataFrame({"problem": problem, "row": range(len(rows))})
    both = problems.merge(problems, on="problem", suffixes=("_a", "_b")).query("row_a < row_b")
    row_a, row_b = both["row_a"].to_numpy(), both["row_b"].to_numpy()
    rows = rows[_EXPLAINING].astype(object)  # rows are taken and iterated much faster than with Arrow's strings
    a, b = rows.take(row_a), rows.take(row_b)

    raised_a, raised_b = a["raised"].to_numpy(bool), b["raised"].to_numpy(bool)
    both_raised = raised_a & raised_b
    comparable = ~raised_a & ~raised_b & (a["array_shape"].to_numpy() == b["array_shape"].to_numpy())
    compared = _align(_compare(values.take(row_a[comparable]), values.take(row_b[comparable])), comparable)
    undefined = a["status"].eq("undefined").to_numpy() | b["status"].eq("undefined").to_numpy()
    conditions = {
        "agree": compared["agree"] | both_raised,
        "undefined": undefined,
        "explained": compared["explained"] | _documents_exception(a, b) | _documents_exception(b, a),
        "incomparable": ~comparable,
    }
    codes = [RELATIONS.index(name) for name in conditions]
    relation = np.select(list(conditions.values()), codes, RELATIONS.index("unexplained"))
    compared.loc[undefined, ["semantic", "numeric"]] = np.nan

    choices = functools.cache(_distinct_choices)
    texts = {name: np.full(len(both), "", dtype=object) for name in ("conventions", "explanation")}
    differing = np.flatnonzero(~compared["agree"])
    members = (side.iloc[differing].itertuples(index=False) for side in (a, b))
    overflows = compared["overflow"].to_numpy()[differing]
    for index, member, other_member, overflow in zip(differing, *members, overflows, strict=True):
        texts["conventions"][index] = choices(_choices_key(member), _choices_key(other_member))
        texts["explanation"][index] = _explanation(RELATIONS[relation[index]], member, other_member, overflow)
    table = {
        **{name: a[name].array for name in PROBLEM},
        "function_a": a["label"].array,
        "function_b": b["label"].array,
        "relation": pd.array(list(RELATIONS), dtype="str").take(relation),
        **{name: compared[name].to_numpy() for name in (*PAIR_FLOATS, "where")},
        **texts,
    }
    return _pair_table(table)


def _pair_table(columns: Mapping[str, Any]) -> pd.DataFrame:
    return set_dtypes(pd.DataFrame(columns, columns=list(PAIR_COLUMNS)), PAIR_FLOATS)


def agreement_matrix(pairs: pd.DataFrame) -> pd.DataFrame:
    """Functions x functions: the share of common problems on which two functions agree; NaN if there are none."""
    agree = pairs["relation"].eq("agree").astype("float64").rename("agree")
    one_way = pd.concat([pairs[["function_a", "function_b"]], agree], axis=1)
    other_way = one_way.rename(columns={"function_a": "function_b", "function_b": "function_a"})
    both = pd.concat([one_way[one_way["function_a"] != one_way["function_b"]], other_way])
    matrix = both.pivot_table(index="function_a", columns="function_b", values="agree", aggfunc="mean")
    return matrix.rename_axis(index=None, columns=None)


def discrepancies(results: pd.DataFrame, pair_table: pd.DataFrame) -> pd.DataFrame:
    """Rows and pairs that do not agree, worst first.

    pair_table: result of `pairs(results)`.

    Returns a frame with the columns DISCREPANCY_COLUMNS:
        kind: `function` or `pair`.
        status: the status of a function or the relation of a pair.
        difference, semantic, numeric: as in `pairs`; a function is compared with the definition.
        ratio: |difference| / allowed.
        version, got, want, call, expected, known: "" for a pair.  function_b: "" for a function.
    """
    table = pd.concat([_of_functions(results), _of_pairs(pair_table)], ignore_index=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        table["ratio"] = table["difference"].abs() / table["allowed"]
    ranks = {name: rank for rank, name in enumerate(_WORST_FIRST)}
    rank = table["expected"].map(ranks).fillna(table["status"].map(ranks))
    keys = [*PROBLEM, "function", "function_b"]
    order = (
        table[keys]
        .assign(rank=rank, negative_ratio=-table["ratio"].fillna(-1.0))
        .sort_values(["rank", "negative_ratio", *keys], kind="stable")
        .index
    )
    return reordered(table, DISCREPANCY_COLUMNS, order)


def _of_functions(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that do not agree with the definition, with the columns DISCREPANCY_COLUMNS."""
    chosen = np.flatnonzero(failing(results) | results["status"].eq("diverges"))
    needed = [name for name in results.columns if name in {*DISCREPANCY_COLUMNS, *_READ}]
    rows = results[needed].iloc[chosen].reset_index(drop=True)
    values = parse(rows)
    returned = rows["got"].ne("").to_numpy() & values["has_definition"].to_numpy()
    compared = _align(_compare(values[returned], _as_definition(values[returned])), returned)
    functions = rows.assign(kind="function", function_b="", **{name: compared[name] for name in PAIR_FLOATS})
    functions.loc[returned, "where"] = compared.loc[returned, "where"]
    return set_dtypes(functions[list(DISCREPANCY_COLUMNS)], DISCREPANCY_FLOATS)


def _of_pairs(pair_table: pd.DataFrame) -> pd.DataFrame:
    """The pairs that do not agree, with the columns DISCREPANCY_COLUMNS."""
    pairs = pair_table[pair_table["relation"] != "agree"]
    pairs = pairs.rename(columns={"function_a": "function", "relation": "status", "conventions": "convention"})
    empty = dict.fromkeys(("expected", "known", "version", "got", "want", "call"), "")
    pairs = pairs.assign(kind="pair", ratio=np.nan, **empty)
    return set_dtypes(pairs[list(DISCREPANCY_COLUMNS)], DISCREPANCY_FLOATS)


def _labels(rows: pd.DataFrame) -> pd.Series:
    """Names of functions, qualified by environment if a function appears more than once per problem."""
    repeated = rows.duplicated([*PROBLEM, "function"], keep=False)
    several = rows["function"].isin(rows.loc[repeated, "function"])
    varying = [name for name in ("backend", "mode", "device") if rows[name].nunique() > 1]
    place = rows["environment"].str.cat(rows[["version", *varying]], sep=", ")
    return rows["function"].where(~several, rows["function"] + " (" + place + ")")


def _documents_exception(a: pd.DataFrame, b: pd.DataFrame) -> Flags:
    """Whether a raised and b returned, and the one that deviates from the definition documents it."""
    rejects = a["status"].eq("diverges").to_numpy()
    accepts = a["status"].eq("agrees").to_numpy() & b["status"].eq("diverges").to_numpy()
    documented: Flags = a["raised"].to_numpy(bool) & ~b["raised"].to_numpy(bool) & (rejects | accepts)
    return documented


# Text columns to numbers


def parse(rows: pd.DataFrame) -> pd.DataFrame:
    """The numbers in the text columns of rows, one row for each.

    Returns a frame with the columns
        shape: shape of the returned array, as text; "" if there is none.
        got, budget: its elements and their budgets, float64 arrays [n].
        reference: expected elements under the convention on which the row's status rests; NaN without has_reference.
        definition: expected elements under the definition; NaN without has_definition.
        is_right: whether the status implies that the elements are within their budgets of the reference.
    """
    read = functools.cache(_read_array)
    shape_text = functools.cache(_shape_text)
    missing = functools.cache(lambda size: np.full(size, np.nan))
    columns = ("got", "want", "want_by_convention", "budget", "budgets", "where")
    cells = zip(*(rows[name].tolist() for name in columns), rows["shape"].where(rows["got"] != "", ""), strict=True)
    parsed = []
    for got, want, want_by_convention, budget, budgets, index_text, full_shape in cells:
        shape, elements = read(got)
        size = elements.size
        text = "" if shape is None else shape_text(shape, index_text, full_shape)
        shapes, arrays = zip(*map(read, (want, want_by_convention or want, budgets)), strict=True)
        defined, referenced, budgeted = (shape is not None and known_shape == shape for known_shape in shapes)
        definition = arrays[0] if defined else missing(size)
        reference = arrays[1] if referenced else missing(size)
        tolerance = arrays[2] if budgeted else np.full(size, budget)
        parsed.append((text, elements, reference, definition, tolerance, referenced, defined))
    names = ["shape", "got", "reference", "definition", "budget", "has_reference", "has_definition"]
    values = pd.DataFrame(parsed, columns=names).astype(
        {"shape": object, "has_reference": bool, "has_definition": bool}
    )
    return values.assign(is_right=rows["status"].isin(_RIGHT).to_numpy(dtype=bool))


def _as_definition(values: pd.DataFrame) -> pd.DataFrame:
    """The definition as a function: it returns its expected values, without an error."""
    definition = values["definition"]
    without_error = values.assign(got=definition, reference=definition, budget=definition.map(np.zeros_like))
    return without_error.assign(has_reference=values["has_definition"])


def _read_array(text: str) -> tuple[tuple[int, ...] | None, Floats]:
    """Shape and elements of the array in a cell; None and no elements if there is none."""
    array = array_of(text)
    return (None, _NO_ELEMENTS) if array is None else (array.shape, array.reshape(-1))


def _shape_text(shape: tuple[int, ...], index_text: str, full_shape: str) -> str:
    """The shape as text; for a subsampled array, as in the column `shape`.

    Older reports lack that column; `index_text`, of the column `where`, still gives the rank.
    """
    parsed = parse_subsampled_shape(full_shape)
    if parsed and shape == parsed[1:]:
        return full_shape
    rank = index_text.count(",") + 1 if index_text else len(shape)
    lost = shape == (MAX_ELEMENTS,) and rank > 1
    return f"{MAX_ELEMENTS} elements out of rank {rank}" if lost else str(shape)


# Numbers to relations


def _align(compared: pd.DataFrame, mask: Flags) -> pd.DataFrame:
    """The result of `_compare` for the rows where a mask is True, with missing values for all others."""
    aligned = compared.set_axis(np.flatnonzero(mask)).reindex(range(len(mask)))
    flags = {name: aligned[name].eq(True) for name in _FLAGS}
    return aligned.assign(**flags, where=aligned["where"].fillna(""))


def _compare(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Compare the rows of two parsed frames pair by pair; the shapes of a pair are equal.

    Returns a frame with the columns agree, explained and overflow, PAIR_FLOATS of the worst element, and its index
    `where`.
    """
    sizes = x["got"].map(len).to_numpy(dtype=np.int64)
    chunk = np.cumsum(sizes) // CHUNK_ELEMENTS
    bounds = [0, *np.flatnonzero(np.diff(chunk)) + 1, len(x)]
    parts = [slice(*ends) for ends in itertools.pairwise(bounds)]
    return pd.concat([_compare_chunk(x[part], y[part], sizes[part]) for part in parts], ignore_index=True)


def _compare_chunk(x: pd.DataFrame, y: pd.DataFrame, size: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Compare element by element, then reduce to one row per pair.  size: number of elements of each pair."""
    pair = np.repeat(np.arange(len(x)), size)
    flat_x, flat_y = _flat(x, size), _flat(y, size)

    allowed = _sum_of_budgets(flat_x["budget"], flat_y["budget"])
    difference = subtract(flat_x["got"], flat_y["got"])
    comparable = flat_x["has_reference"] & flat_y["has_reference"]
    semantic = np.where(comparable, subtract(flat_x["reference"], flat_y["reference"]), np.nan)
    (error_x, overflow_x), (error_y, overflow_y) = _error(flat_x), _error(flat_y)
    numeric = np.where(comparable, subtract(error_x, error_y), np.nan)
    overflow = overflow_x | overflow_y
    # References are exact answers rounded to float64; a smaller semantic part is meaningless.
    rounding = (_half_ulp(flat_x["reference"]) + _half_ulp(flat_y["reference"])) * comparable
    with np.errstate(over="ignore", invalid="ignore"):
        agree = np.abs(difference) <= allowed * (1 + FLOAT64_ROUNDING)
        is_within = np.abs(numeric) <= allowed * (1 + FLOAT64_ROUNDING) + rounding
        explained = agree | is_within & ((np.abs(semantic) > rounding) | overflow)
        shown_numeric = np.where(overflow, difference - semantic, numeric)
    elements = pd.DataFrame(
        {
            "agree": agree, "explained": explained, "overflow": overflow,
            "difference": difference, "allowed": allowed, "semantic": semantic, "numeric": shown_numeric,
            "element": np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size),
        }
    )  # fmt: skip
    by_pair = elements.groupby(pair)
    unexplained = ~by_pair["explained"].transform("all").to_numpy(dtype=bool)
    error = np.abs(np.where(unexplained & comparable, numeric, difference))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = pd.Series(np.where(error == 0, 0.0, error / allowed))
    worst = elements.loc[ratio.groupby(pair).idxmax()].set_axis(np.unique(pair))
    index = pd.RangeIndex(len(x))
    compared = worst[list(PAIR_FLOATS)].reindex(index, fill_value=0.0)
    for name in _FLAGS:
        flags = by_pair[name].any() if name == "overflow" else by_pair[name].all()
        compared[name] = flags.reindex(index, fill_value=name != "overflow")
    compared["where"] = ""
    shapes = x["shape"].to_numpy()[worst.index]
    compared.loc[worst.index, "where"] = [_index_text(*cell) for cell in zip(shapes, worst["element"], strict=True)]
    return compared


def _flat(values: pd.DataFrame, size: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """The elements of all rows of a parsed frame, each column as one array.  size: number of elements of each row."""
    columns = {name: np.concatenate([_NO_ELEMENTS, *values[name]]) for name in ("got", "reference", "budget")}
    return columns | {name: np.repeat(values[name].to_numpy(), size) for name in ("has_reference", "is_right")}


def _sum_of_budgets(a: Floats, b: Floats) -> Floats:
    """The sum a + b; if one is NaN, twice the other one; 0 if both are."""
    a, b = np.where(np.isnan(a), b, a), np.where(np.isnan(b), a, b)
    return np.nan_to_num(a + b, nan=0.0)


def _error(flat: dict[str, npt.NDArray[Any]]) -> tuple[Floats, Flags]:
    """(got - reference, mask of infinite errors in right rows: overflows of their dtype, whose error is 0)."""
    error = subtract(flat["got"], flat["reference"])
    overflow = np.isinf(error) & flat["is_right"] & np.isinf(flat["got"])
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


# Explanations of pairs; a and b are named tuples of rows with `label`, `array_shape` and `raised`.


def _explanation(relation: str, a: Any, b: Any, overflow: bool) -> str:
    """Explain the relation of two rows in words.  overflow: whether one of them overflowed, as its dtype allows."""
    if a.raised and b.raised:
        return "both raise"
    mismatch = _mismatch(a, b)
    match relation:
        case "undefined":
            reason = a.explanation if a.status == "undefined" else b.explanation
            return "; ".join(filter(None, (f"there is no right answer: {reason}", mismatch)))
        case "explained" if mismatch:
            return f"{mismatch}, as documented"
        case "explained":
            return f"beyond the largest {a.dtype}" if overflow else _conventions_text(a, b)
        case "incomparable":
            right = not a.raised and not b.raised and {a.status, b.status} <= set(_RIGHT)
            return f"{mismatch}, as documented" if right else mismatch
        case _:
            wrong = [f"{row.label} disagrees: {row.explanation}" for row in (a, b) if row.status == "disagrees"]
            return " | ".join(wrong) or "neither disagrees with the definition, but they do with each other"


def _conventions_text(a: Any, b: Any) -> str:
    converted = [row.label for row in (a, b) if row.conversion]
    texts = [f"predictions were converted for {' and '.join(converted)}"] if converted else []
    if not texts or a.convention != b.convention:
        texts.append("their documented conventions differ")
    return "; ".join(texts)


def _mismatch(a: Any, b: Any) -> str:
    """The statement that only one of two rows raised, or that their shapes differ; "" if neither holds."""
    for raising, returning in ((a, b), (b, a)):
        if raising.raised and not returning.raised:
            return f"{raising.label} raised {raising.exception}; {returning.label} returned"
    if a.array_shape == b.array_shape:
        return ""
    shapes = [parsed[0] if (parsed := parse_subsampled_shape(row.array_shape)) else row.array_shape for row in (a, b)]
    return f"{a.label} has shape {shapes[0]}, {b.label} {shapes[1]}"


def _choices_key(row: Any) -> tuple[str, str, str]:
    """Name, convention, and conversion (if it changed the answer) of a row."""
    return row.label, row.convention, row.bridge if row.conversion else ""


def _distinct_choices(a: tuple[str, str, str], b: tuple[str, str, str]) -> str:
    """`function: choices` of both, without the common choices, and with conversions that matter.

    a, b: the name, convention and conversion of each of the two rows.
    """
    sides = []
    for (name, convention, conversion), (_, convention_b, _) in ((a, b), (b, a)):
        common = choices_of(convention_b).items()
        texts = [f"converted by {conversion}"] if conversion else []
        texts += [f"{field}={value}" for field, value in choices_of(convention).items() if (field, value) not in common]
        if texts:
            sides.append(f"{name}: {'; '.join(texts)}")
    return " | ".join(sides)
