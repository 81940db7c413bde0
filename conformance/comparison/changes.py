"""Changes between two results frames: a row per question, with its kinds of change, severity and cause.

A question is a problem and a function, whose columns are `row_key.QUESTION`.

*Severity* of a question of both sides, the first that holds:

    regression   it is worse: right or undefined before and failing now; disagreed before and died now; or
                 failing on both sides, and it raises now and returned a value before.
    improvement  it is better: failing before and not now; died before and only disagrees now.
    change       the status, the convention, the type of an exception, the result's dtype or shape differ,
                 or the answer drifted by more than one budget (by more than MAX_ROUNDING_ULPS if there is
                 no right answer, and so no budget).
    note         it drifted by less, or warns or words its exception differently.
    unchanged    got, status, convention, exception, warnings and result dtype are the same to the bit.

The failing statuses are disagrees, crashed and timed_out.  Severity of a question of one side:

    regression   it was removed: the function or its support vanished; or it was added and fails, and the ledger
                 does not know that.
    improvement  a function or its support is new, and does not fail.
    change       the case has the same id and another digest: its old and its new row are never compared (the new
                 one is a regression if it fails and the ledger does not know that); or it is no longer asked: no
                 function was called with the case, or its dtype or reduction, so no function is gone.
    note         the case is new, or is new in that dtype or reduction or of that framework; or the new
                 row is a known issue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.comparison.alignment import DEFAULT_SIDE_NAMES, IDENTITY, add_places, called_rows
from conformance.comparison.distance import distances
from conformance.comparison.documentation import RESULT_DTYPE, changed_fields, description_changed
from conformance.comparison.errors import ComparisonError
from conformance.comparison.sentences import sentence, transition
from conformance.judging.row import choices_of, exception_type, listed_in
from conformance.model.row_key import QUESTION
from conformance.report.frames import Frame, each_record, reordered, set_dtypes

Flags = npt.NDArray[np.bool_]
Scope = Callable[[pd.DataFrame], Flags]
"""Maps the rows of another report to a mask: whether the run should have such rows."""

KINDS = (
    "status", "exception", "shape", "dtype", "function lost", "support lost", "case removed", "no longer asked",
    "convention", "case changed", "drifted", "warning", "message", "function gained", "support gained", "case added",
    "newly asked", "removed", "added", "unchanged",
)  # fmt: skip
"""Kinds of change, worst first."""
SEVERITIES = ("regression", "change", "improvement", "note", "unchanged")
CAUSES = ("undocumented", "judgement", "suite", "documented", "rounding")
"""Causes of a change, as far as reports show them: see `_cause`."""
Level = Literal["regression", "change", "drift", "any", "never"]
"""Changes that make `diff` and `audit` fail, strictest last but one: see `fails`."""
MAX_ROUNDING_ULPS = 8.0
"""Drift in ulps that is allowed if no answer is known to be right: the error of a float32 elementary function."""
CORRECT_STATUSES = ("agrees", "diverges")
PER_SIDE = (
    "version", "environment", "status", "got", "convention", "exception", "warnings", "result_dtype", "ratio", "ulps",
    "bridge", "explanation", "expected", "known",
)  # fmt: skip
LATER_PER_SIDE = ("reason_code", "candidate", "known_source")
"""Columns of both rows, such as `old_version` and `new_version`; later additions come last in files."""
FLOATS = frozenset({"ulps", "budgets", "old_ratio", "new_ratio", "old_ulps", "new_ulps"})
COLUMNS = (
    "severity", "kinds", "cause", "framework", "function", "case", "digest", "dtype", "reduction", "quantity", "device",
    *(f"{side}_{name}" for name in PER_SIDE for side in ("old", "new")),
    "ulps", "budgets", "what", "transition", "call", "backend", "mode",
    *(f"{side}_{name}" for name in LATER_PER_SIDE for side in ("old", "new")),
)  # fmt: skip
"""Columns of the changes that `compare_results` returns, in order."""
_FROM_EITHER = ("framework", "backend", "mode", "device", "call")
"""Columns taken from the new row, or from the old row if the question was removed."""
_BADNESS = {"disagrees": 1, "crashed": 2, "timed_out": 2}
_OBSERVED = ("got", "exception", "warnings", "result_dtype")


def all_rows(rows: pd.DataFrame) -> Flags:
    """Scope of a run with the same questions as the other side."""
    return np.ones(len(rows), dtype=bool)


SAME_QUESTIONS: tuple[Scope, Scope] = (all_rows, all_rows)
"""Scopes of two sides with the same questions."""


def compare_results(
    old: Frame,
    new: Frame,
    names: tuple[str, str] = DEFAULT_SIDE_NAMES,
    scopes: tuple[Scope, Scope] | None = None,
    cases: Collection[str] | None = None,
) -> pd.DataFrame:
    """Compare two results frames: one row per question of either side, worst first.

    names: names of both sides in error messages.
    scopes: scopes of both runs; by default `scope_of` their rows.
    cases: ids of the cases in the suite of the new side; by default the ids in its rows.

    Returns a frame with the columns COLUMNS:
        severity: see the module.
        kinds: members of KINDS, worst first, joined by `; `.
        cause: see `_cause`.
        ulps, budgets: distance between the answers (see `distances`), NaN if they were not compared.
        what: one sentence.
        transition: the sentence without details of the case.
        call: the call of the new row, or of the old row if the question was removed.

    Raises ComparisonError if the reports share no case or no function, if a question is repeated, or if environments do
    not match (see `alignment.add_places`).
    """
    scopes = (scope_of(old), scope_of(new)) if scopes is None else scopes
    sides = called_rows(old), called_rows(new)
    _check_comparable(*sides, names)
    return compare_aligned(*add_places(*sides, names), (old, new), scopes, cases)


def scope_of(results: Frame) -> Scope:
    """The scope of the problems (case, dtype and reduction) in a report, answered or `unsupported`.

    A case whose rows are all `unsupported` counts for all dtypes and reductions, such a dtype for all reductions.
    """
    key = ["case", "dtype", "reduction"]
    unsupported = results["status"] == "unsupported"
    answered = results[key][~unsupported]
    known: set[tuple[str, ...]] = set(results[key].drop_duplicates().itertuples(index=False, name=None))
    without = results[key[:1]][unsupported & ~results["case"].isin(answered["case"])]
    known |= set(without.itertuples(index=False, name=None))
    dtypes = set(results[key[:2]][unsupported].drop_duplicates().itertuples(index=False, name=None))
    known |= dtypes - set(answered[key[:2]].drop_duplicates().itertuples(index=False, name=None))

    def scope(rows: pd.DataFrame) -> Flags:
        lines = rows[key].itertuples(index=False, name=None)
        return np.array([line in known or line[:2] in known or line[:1] in known for line in lines], dtype=bool)

    return scope


def scope_of_cases(results: pd.DataFrame) -> Scope:
    """The scope of the cases in a report."""
    cases = set(results["case"])
    return lambda rows: rows["case"].isin(cases).to_numpy(dtype=bool)


def compare_aligned(
    old: pd.DataFrame,
    new: pd.DataFrame,
    reports: tuple[Frame, Frame],
    scopes: tuple[Scope, Scope] = SAME_QUESTIONS,
    cases: Collection[str] | None = None,
) -> pd.DataFrame:
    """Compare rows as `compare_results` does, without its checks.

    old, new: results of `called_rows`, with a column `place`.  reports: the results frames to which their positions
    refer.
    """
    table = _merge_rows(old, new, reports)
    flags = pd.DataFrame(False, index=table.index, columns=list(KINDS))
    _flag_one_sided(flags, table, (old, new), scopes, cases)
    _flag_differences(flags, table)
    flags["unchanged"] = ~flags.any(axis=1)
    table["kinds"] = _join_true_columns(flags)
    table["severity"] = _severity(table, flags)
    table["cause"] = _cause(table, flags)
    table["what"], table["transition"] = "the same to the bit", ""
    changed = ~flags["unchanged"]
    texts = [(sentence(row), transition(row)) for row in each_record(table[changed])]
    table.loc[changed, ["what", "transition"]] = np.array(texts, dtype=object).reshape(-1, 2)
    return set_dtypes(reordered(table, COLUMNS, _worst_first(table)), FLOATS)


def _join_true_columns(flags: pd.DataFrame) -> list[str]:
    """The names of the columns that are true in each row, joined by `; `."""
    bits = (flags.to_numpy(dtype=np.int64) << np.arange(len(flags.columns))).sum(axis=1).tolist()
    texts = {
        value: "; ".join(name for bit, name in enumerate(flags.columns) if value >> bit & 1)
        for value in dict.fromkeys(bits)
    }
    return [texts[value] for value in bits]


def _documented_mask(table: pd.DataFrame, flags: pd.DataFrame, only_judged: pd.Series) -> pd.Series:
    """Mask of the changes that are documented convention changes.

    Both rows are right by the documentation of their version (agrees or diverges); the outcome differs;
    and it differs in a property for which the adapter has different declarations in the old and the new
    version: a choice named in the convention of one row and not in that of the other, or the
    result's dtype.  For a function without an adapter, the named choices have to differ.

    Therefore not documented are: a failure on either side, even if it is an improvement; a change
    without a right answer; a drift, another exception or another warning under an
    unchanged convention; and an answer that moved from one documented choice to another while
    the documentation is unchanged.
    """
    right = table["old_status"].isin(CORRECT_STATUSES) & table["new_status"].isin(CORRECT_STATUSES)
    candidates = right & (flags["convention"] | flags["dtype"]) & ~only_judged
    columns = [*_FUNCTION_VERSIONS, "old_convention", "new_convention", "dtypes_differ"]
    rows = table.assign(dtypes_differ=flags["dtype"])[columns][candidates]
    return _each(_is_documented, rows).reindex(table.index, fill_value=False)


def _is_documented(function: str, before: str, after: str, old: str, new: str, dtypes_differ: bool) -> bool:
    """Whether a function documents that its convention changed from `old` to `new`, or its dtype."""
    fields = {name for name, _ in choices_of(old).items() ^ choices_of(new).items()}
    if dtypes_differ:
        fields.add(RESULT_DTYPE)
    changed = changed_fields(function, before, after)
    return bool(fields if changed is None else fields & changed)


_FUNCTION_VERSIONS = ["function", "old_version", "new_version"]


def _each(condition: Callable[..., bool], rows: pd.DataFrame) -> pd.Series:
    """Mask of the rows whose values satisfy a condition, which is evaluated once for equal rows."""
    lines = list(rows.itertuples(index=False, name=None))
    results = {line: condition(*line) for line in dict.fromkeys(lines)}
    return pd.Series([results[line] for line in lines], index=rows.index, dtype=bool)


def _cause(table: pd.DataFrame, flags: pd.DataFrame) -> Any:
    """The cause of each change, as far as two reports show it; one of CAUSES, "" for an unchanged row.

    documented: see `_documented_mask`; and a function or a support that came or went while the adapter's
        declaration of the function differs between the versions.
    judgement: the outcome is bit-identical but judged differently: an adapter, the oracle or a
        budget changed.
    suite: the case is new, gone or changed, or the function's support is, although the declaration is unchanged.
    rounding: the answer drifted by no more than a note, and nothing else changed.
    undocumented: everything else.
    """
    support = flags[["function lost", "function gained", "support lost", "support gained"]].any(axis=1)
    redescribed = _each(description_changed, table[_FUNCTION_VERSIONS][support])
    same = np.all([table[f"old_{name}"] == table[f"new_{name}"] for name in _OBSERVED], axis=0)
    only_judged = (flags["status"] | flags["convention"]) & same
    conditions = [
        flags["unchanged"],
        (table["kinds"] == "drifted") & (table["severity"] == "note"),
        redescribed.reindex(table.index, fill_value=False),
        flags["added"] | flags["removed"],
        only_judged,
        _documented_mask(table, flags, only_judged),
    ]
    causes = ["", "rounding", "documented", "suite", "judgement", "documented"]
    return np.select(conditions, causes, "undocumented").astype(object)


def fails(table: pd.DataFrame, level: Level) -> bool:
    """Whether a table of changes has a row at or above a level.

    regression: a function became worse.  change: also another status, convention, exception, dtype or shape, or a
    drift by more than a budget.  drift: also any other drift of an answer.  any: every change.  never: nothing.
    """
    severities = {"regression": 1, "change": 2, "drift": 2, "any": 4, "never": 0}[level]
    selected = table["severity"].isin(SEVERITIES[:severities])
    return bool((selected | (has_kind(table["kinds"], "drifted") & (level == "drift"))).any())


def has_kind(kinds: pd.Series, name: str) -> pd.Series:
    """Mask of the changes of a kind; kinds: the column of that name."""
    return kinds.isin([text for text in kinds.unique() if name in listed_in(text)])


def _check_comparable(old: pd.DataFrame, new: pd.DataFrame, names: tuple[str, str]) -> None:
    advice = "compare reports of the same suite and the same frameworks"
    for columns, subject in ((["case"], "case"), (["case", "digest"], "unchanged case"), (["function"], "function")):
        if not _among(old, new, columns).any():
            why = f"they have no {subject} in common, so nothing can be compared"
            raise ComparisonError(f"{names[0]} and {names[1]}", why, advice)


def _merge_rows(old: pd.DataFrame, new: pd.DataFrame, reports: tuple[Frame, Frame]) -> pd.DataFrame:
    """Merge rows by IDENTITY, with `old_` and `new_` columns and `side`: `both`, `left_only` or `right_only`.

    A row on one side only gets the version and environment of its function on the other side, if there is one.
    """
    sides = dict(zip(("old", "new"), reports, strict=True))
    # The keys alone: what else the rows have is taken a column at a time, to bound memory.
    keys = [rows[IDENTITY].assign(**{side: rows.index}) for side, rows in (("old", old), ("new", new))]
    table = keys[0].merge(keys[1], on=IDENTITY, how="outer", validate="one_to_one", indicator="side")
    positions = {side: table.pop(side).fillna(-1).to_numpy(dtype=np.int64) for side in sides}
    for name in (*PER_SIDE, *LATER_PER_SIDE, "budget", "budgets"):
        for side, rows in sides.items():
            table[f"{side}_{name}"] = _take_cells(rows[name], positions[side])
    removed = positions["new"] < 0
    for name in _FROM_EITHER:
        table[name] = _take_cells(reports[1][name], positions["new"])
        if removed.any():
            table.loc[removed, name] = _take_cells(reports[0][name], positions["old"][removed])
    for side, rows, absent in (("old", old, "right_only"), ("new", new, "left_only")):
        lacking = table[table["side"] == absent]
        for name in ("version", "environment") if len(lacking) else ():
            table.loc[lacking.index, f"{side}_{name}"] = _where_run(rows, lacking, name)
    return table


def _take_cells(column: pd.Series, positions: npt.NDArray[np.int64]) -> Any:
    """The cells of a column at some positions; NaN or "" at the position -1."""
    missing = np.nan if pd.api.types.is_float_dtype(column.dtype) else ""
    return column.array.take(positions, allow_fill=True, fill_value=missing)


def _where_run(side: pd.DataFrame, rows: pd.DataFrame, column: str) -> pd.Series:
    """The version or environment in which a side ran the functions of some rows, or else their framework, or ""."""
    result: Any = np.full(len(rows), "", dtype=object)
    for key in (["framework"], ["function", "place"]):
        distinct = side[[*key, column]].drop_duplicates()
        unique = distinct[~distinct.duplicated(key, keep=False)]
        values = rows[key].merge(unique, on=key, how="left")[column].fillna("").to_numpy(dtype=object)
        result = np.where(values == "", result, values)
    return pd.Series(result, index=rows.index)


_ONE_SIDED = (
    ("left_only", "case removed", "function lost", "no longer asked", "support lost", "removed"),
    ("right_only", "case added", "function gained", "newly asked", "support gained", "added"),
)
"""Kinds of rows on one side only."""


def _flag_one_sided(
    flags: pd.DataFrame,
    table: pd.DataFrame,
    sides: tuple[pd.DataFrame, pd.DataFrame],
    scopes: tuple[Scope, Scope],
    cases: Collection[str] | None,
) -> None:
    """Flag, by kind, the rows on one side only."""
    opposites = zip(_ONE_SIDED, reversed(sides), reversed(scopes), strict=True)
    for (side, case_kind, function_kind, question_kind, support_kind, general), other, scope in opposites:
        rows = table[table["side"] == side]
        if rows.empty:
            continue
        lost_function, lost_case, lost_digest = (
            ~_among(rows, other, columns) for columns in (["function", "place"], ["case"], ["case", "digest"])
        )
        if side == "left_only" and cases is not None:
            lost_case = ~rows["case"].isin(cases).to_numpy(dtype=bool)
        in_scope = scope(rows)
        kinds = np.select(
            [lost_case & ~in_scope, lost_function & in_scope, ~lost_case & lost_digest, ~in_scope],
            [case_kind, function_kind, "case changed", question_kind],
            support_kind,
        )
        for name in (case_kind, function_kind, "case changed", question_kind, support_kind):
            flags.loc[rows.index[kinds == name], name] = True
        flags.loc[rows.index, general] = True


def _among(rows: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> Flags:
    """Mask of the rows whose values of some columns occur in another frame."""
    known = pd.MultiIndex.from_frame(other[columns].drop_duplicates())
    return np.asarray(pd.MultiIndex.from_frame(rows[columns]).isin(known), dtype=bool)


def _flag_differences(flags: pd.DataFrame, table: pd.DataFrame) -> None:
    """Flag differences by kind in the rows of both sides; add the columns ulps, budgets and shapes."""
    both = table["side"] == "both"
    returned = both & (table["old_got"] != "") & (table["new_got"] != "")
    differs = {
        name: both & (table[f"old_{name}"] != table[f"new_{name}"])
        for name in ("status", "convention", "warnings", "exception", "result_dtype", "got")
    }
    types = [table[f"{side}_exception"].map(exception_type) for side in ("old", "new")]
    flags["status"], flags["convention"], flags["warning"] = (
        differs[name] for name in ("status", "convention", "warnings")
    )
    flags["exception"] = both & (types[0] != types[1])
    flags["message"] = differs["exception"] & ~flags["exception"]
    flags["dtype"] = differs["result_dtype"] & returned
    moved = differs["got"] & returned
    columns = ["got", "budget", "budgets"]
    sides = [
        table[["dtype", *(f"{side}_{name}" for name in columns)]][moved].set_axis(["dtype", *columns], axis=1)
        for side in ("old", "new")
    ]
    separation = distances(*sides).set_axis(table.index[moved], axis=0).reindex(table.index)
    table["ulps"], table["budgets"] = separation["ulps"].astype("float64"), separation["budgets"].astype("float64")
    table["shapes"] = separation["shapes"].fillna("")
    reshaped = table["shapes"] != ""
    flags["shape"], flags["drifted"] = moved & reshaped, moved & ~reshaped


def _severity(table: pd.DataFrame, flags: pd.DataFrame) -> Any:
    both = table["side"] == "both"
    was, now = (table[f"{side}_status"].map(_BADNESS).fillna(0) for side in ("old", "new"))
    raises = flags["exception"] & (table["old_exception"] == "") & (now > 0) & (was > 0)
    budgets, ulps = table["budgets"], table["ulps"]
    far_drifted = flags["drifted"] & np.where(budgets.isna(), ~(ulps <= MAX_ROUNDING_ULPS), budgets > 1)
    other = flags["status"] | flags["convention"] | flags["exception"] | flags["dtype"] | flags["shape"] | far_drifted
    unexpected = flags["added"] & (now > 0) & (table["new_expected"] != "known")
    gained = (flags["function gained"] | flags["support gained"]) & (now == 0)
    conditions = [
        flags["unchanged"],
        unexpected | (both & (now > was)) | raises,
        flags["case changed"] | flags["case removed"] | flags["no longer asked"],
        flags["removed"],
        (both & (now < was)) | gained,
        both & other,
    ]
    chosen = ["unchanged", "regression", "change", "regression", "improvement", "change"]
    return np.select(conditions, chosen, "note").astype(object)


def _worst_first(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The positions of the rows, worst first."""
    orders = {"severity": SEVERITIES, "cause": (*CAUSES, ""), "kind": KINDS}
    tie_breakers = [
        "function",
        *(name for name in QUESTION if name not in ("function", "digest")),
        "digest",
        "new_environment",
        "backend",
    ]
    keys = table[["severity", "cause", "budgets", "ulps", *tie_breakers]].assign(
        kind=table["kinds"].map(lambda text: listed_in(text)[0])
    )
    for name, values in orders.items():
        keys[name] = keys[name].map(values.index)
    for name in ("budgets", "ulps"):
        keys[name] = -keys[name].fillna(-1.0)
    return keys.sort_values([*orders, "budgets", "ulps", *tie_breakers], kind="stable").index.to_numpy()
