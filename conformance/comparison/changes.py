"""What changed between two results frames: one line per question, its kinds, how bad, and whether that was documented.

*Severity* of a question that both sides asked, the first that holds:

    regression   it is worse: right or undefined before and failing now; disagreed before and died now; or
                 failing on both sides, and it raises where it answered.
    improvement  it is better: failing before and not now; died before and only disagrees now.
    change       the status, the convention, the type of an exception, the result's dtype or shape differ,
                 or the answer drifted by more than one budget (by more than LAST_BITS ulps where there is
                 no right answer, and so no budget).
    note         it drifted by less, or warns or words its exception differently.
    unchanged    got, status, convention, exception, warnings and result dtype are the same to the bit.

"Failing" is disagrees, crashed and timed_out.  Of a question that one side asked:

    regression   it is gone: the function or its support vanished; or it is new and fails, and the ledger does not
                 know that.
    improvement  a function or its support is new, and does not fail.
    change       the case has the same id and another digest: both halves stand by themselves and are never
                 compared (the new half is a regression if it fails and the ledger does not know that); or it is no
                 longer asked: nobody was asked the case, or its dtype or reduction, so no function is gone.
    note         the case is new, or was not asked before in that dtype or reduction or of that framework; or what is
                 new fails as the ledger knows.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.comparison.alignment import NAMES, placed, positions
from conformance.comparison.distance import distances
from conformance.comparison.refusal import AuditError
from conformance.comparison.words import sentence
from conformance.judging.row import choices_of, exception_type, listed_in
from conformance.model.convention import Convention
from conformance.model.row_key import QUESTION
from conformance.report.frames import typed

Flags = npt.NDArray[np.bool_]
Texts = npt.NDArray[Any]

KINDS = (
    "status", "exception", "shape", "dtype", "function lost", "support lost", "case removed", "no longer asked",
    "convention", "case changed", "drifted", "warning", "message", "function gained", "support gained", "case added",
    "newly asked", "removed", "added", "unchanged",
)  # fmt: skip
"""Kinds of change, worst first."""
SEVERITIES = ("regression", "change", "improvement", "note", "unchanged")
CAUSES = ("undocumented", "judgement", "suite", "documented", "rounding")
"""Why, as far as the reports tell: see `documented` and `cause`."""
LEVELS = ("regression", "change", "drift", "any", "never")
"""What `fails` can be asked for, strictest last but one."""
LAST_BITS = 8.0
"""Ulps that an answer may drift by where nothing says which answer is right: what a float32 elementary function may."""
RIGHT = ("agrees", "diverges")
SIDES = (
    "version", "environment", "status", "got", "convention", "exception", "warnings", "result_dtype", "ratio", "ulps",
    "bridge", "explanation", "expected", "known",
)  # fmt: skip
LATER_SIDES = ("reason_code", "candidate", "known_source")
"""Columns that a change has of both rows, as `old_version` and `new_version`; the later ones are the last columns."""
FLOATS = frozenset({"ulps", "budgets", "old_ratio", "new_ratio", "old_ulps", "new_ulps"})
COLUMNS = (
    "severity", "kinds", "cause", "framework", "function", "case", "digest", "dtype", "reduction", "quantity", "device",
    *(f"{side}_{name}" for name in SIDES for side in ("old", "new")),
    "ulps", "budgets", "what", "transition", "call", "backend", "mode",
    *(f"{side}_{name}" for name in LATER_SIDES for side in ("old", "new")),
)  # fmt: skip
"""Columns of `changes`, in order."""
_BADNESS = {"disagrees": 1, "crashed": 2, "timed_out": 2}
_OBSERVED = ("got", "exception", "warnings", "result_dtype")


def changes(
    old: pd.DataFrame,
    new: pd.DataFrame,
    names: tuple[str, str] = NAMES,
    *,
    asked: Callable[[pd.DataFrame], Flags] | None = None,
    asked_before: Callable[[pd.DataFrame], Flags] | None = None,
    cases: Collection[str] | None = None,
) -> pd.DataFrame:
    """Two results frames, aligned (see `alignment.placed`): one line per question of either, worst first.

    severity: see the module.  kinds: of KINDS, worst first, joined by `; `.  cause: see `cause`.
    ulps, budgets: how far the answers lie apart (see `distance`), nan where that was not compared.
    what: one sentence.  transition: the same without what is peculiar to one case.  call: of the new
    row, of the old one where there is none.  names: of both sides, in errors.  asked: which rows of the old side the
    new one would have asked, as far as its framework, its cases and its selection go; unless given, see `was_asked`.
    asked_before: which rows of the new side the old one would have asked, likewise.  cases: ids of those that the
    suite of the new side has; unless given, those that it has rows of.

    Raises AuditError where the reports share no case or no function, where a question is there twice, or
    where environments do not match.
    """
    asked = was_asked(new) if asked is None else asked
    asked_before = was_asked(old) if asked_before is None else asked_before
    old, new = (rows[rows["status"] != "unsupported"] for rows in (old, new))
    _check_comparable(old, new, names)
    return compare(*placed(old, new, names), asked, asked_before, cases)


def was_asked(results: pd.DataFrame) -> Callable[[pd.DataFrame], Flags]:
    """Of other rows those whose case, dtype and reduction some function was asked in a report, or could not be asked.

    A case all of whose rows are `unsupported` has one for all dtypes and reductions, and a dtype for all reductions.
    """
    key = ["case", "dtype", "reduction"]
    nobody = results["status"] == "unsupported"
    asked = set(results[~nobody]["case"])
    asked_dtypes = set(results.loc[~nobody, key[:2]].itertuples(index=False, name=None))
    there: set[tuple[str, ...]] = set(results[key].itertuples(index=False, name=None))
    for case, dtype in results.loc[nobody, key[:2]].drop_duplicates().itertuples(index=False, name=None):
        if case not in asked:
            there.add((case,))
        elif (case, dtype) not in asked_dtypes:
            there.add((case, dtype))

    def flags(rows: pd.DataFrame) -> Flags:
        lines = rows[key].itertuples(index=False, name=None)
        return np.array([line in there or line[:2] in there or line[:1] in there for line in lines], dtype=bool)

    return flags


def has_case(results: pd.DataFrame) -> Callable[[pd.DataFrame], Flags]:
    """Of other rows those whose case a report has, whoever was asked it, or could not be asked."""
    cases = set(results["case"])
    return lambda rows: rows["case"].isin(cases).to_numpy(dtype=bool)


def everything(rows: pd.DataFrame) -> Flags:
    """All rows: both sides were asked the same cases."""
    return np.ones(len(rows), dtype=bool)


def compare(
    old: pd.DataFrame,
    new: pd.DataFrame,
    asked: Callable[[pd.DataFrame], Flags] = everything,
    asked_before: Callable[[pd.DataFrame], Flags] = everything,
    cases: Collection[str] | None = None,
) -> pd.DataFrame:
    """The same as `changes` of frames that have a `place` already; nothing is refused."""
    old, new = old.reset_index(drop=True), new.reset_index(drop=True)
    i, j = positions(old, new)
    table = _sides(old, new, i, j)
    both = (i >= 0) & (j >= 0)
    flags = _one_sided(old, new, i, j, (asked, asked_before), cases)
    flags |= _differences(table, both)
    _measure(table, flags, old, new, i, j)
    flags["unchanged"] = ~np.any(list(flags.values()), axis=0)
    kinds = {name: flags[name] for name in KINDS}
    table["kinds"] = _joined(kinds)
    table["severity"] = _severity(table, kinds, both)
    table["cause"] = cause(pd.DataFrame(table)).to_numpy(dtype=object)
    _say(table)
    return _worst_first(typed(pd.DataFrame(table, columns=list(COLUMNS)), FLOATS))


def documented(table: pd.DataFrame) -> pd.Series:
    """Which changes are documented convention changes.

    Both rows are right by what their version documents (agrees or diverges); what was observed differs;
    and it differs in something that the adapter declares otherwise for the new version than for the
    old one: a choice that is named in the convention of one row and not in that of the other, or the
    result's dtype.  For a function that no adapter here describes, the named choices have to differ.

    Not documented are therefore: whatever fails on either side, although it may be an improvement; what
    happens where there is no right answer; a drift, another exception or another warning under an
    unchanged convention; and an answer that moved from one part of what is documented to another while
    the documentation stayed.
    """
    right = table["old_status"].isin(RIGHT) & table["new_status"].isin(RIGHT)
    more = has_kind(table["kinds"], "convention") | has_kind(table["kinds"], "dtype")
    candidates = np.flatnonzero(right & more & ~_only_judged(table))
    sides = [[table[f"{side}_{name}"].tolist() for name in ("version", "convention")] for side in ("old", "new")]
    (before, was), (after, now) = sides
    functions, returns = table["function"].tolist(), has_kind(table["kinds"], "dtype").tolist()
    found = np.zeros(len(table), dtype=bool)
    for row in candidates.tolist():
        moved = choices_of(was[row]).items() ^ choices_of(now[row]).items()
        names = {name for name, _ in moved} | ({"result_dtype"} if returns[row] else set())
        a, b = declared(functions[row], before[row]), declared(functions[row], after[row])
        found[row] = bool(names) if a is None or b is None else any(a.get(name) != b.get(name) for name in names)
    return pd.Series(found, index=table.index)


def cause(table: pd.DataFrame) -> pd.Series:
    """Why, as far as two reports tell; one of CAUSES, empty for what is unchanged.

    documented: see `documented`; and a function or a support that came or went where an adapter declares
        the function otherwise for the new version than for the old one.
    judgement: the function did the same to the bit and is judged differently: an adapter, the oracle or a
        budget changed.
    suite: the case is new, gone or changed, or the function's support is, although what is declared is not.
    rounding: the answer drifted by no more than counts as a note, and nothing else changed.
    undocumented: everything else.
    """
    kinds = table["kinds"]
    support = np.any([has_kind(kinds, f"{what} {how}") for what in ("function", "support") for how in _CAME], axis=0)
    versions = zip(*(table[name].tolist() for name in ("function", "old_version", "new_version")), strict=True)
    moved = np.array([_support_moved(*line) for line in versions], dtype=bool)
    one_sided = has_kind(kinds, "added") | has_kind(kinds, "removed")
    conditions = [
        kinds == "unchanged",
        (kinds == "drifted") & (table["severity"] == "note"),
        support & moved,
        one_sided,
        _only_judged(table),
        documented(table),
    ]
    causes = ["", "rounding", "documented", "suite", "judgement", "documented"]
    chosen = np.select(conditions, causes, "undocumented")
    return pd.Series(chosen.astype(object), index=table.index)


def fails(table: pd.DataFrame, level: str) -> bool:
    """Whether something in a table of changes is at or above one of LEVELS.

    regression: a regression.  change: that or a change.  drift: that, or an answer that drifted at all.
    any: anything that is not unchanged.  never: nothing.
    """
    severity = table["severity"]
    match level:
        case "regression":
            found = severity == "regression"
        case "change":
            found = severity.isin(["regression", "change"])
        case "drift":
            found = severity.isin(["regression", "change"]) | has_kind(table["kinds"], "drifted")
        case "any":
            found = severity != "unchanged"
        case "never":
            return False
        case _:
            raise ValueError(f"{level} is none of {', '.join(LEVELS)}")
    return bool(found.any())


@functools.cache
def declared(function: str, version: str) -> dict[str, Any] | None:
    """What an adapter declares of a function in a version, by choice, and its `result_dtype`; None if none does."""
    described = _described(function, version)
    if described is None:
        return None
    rules = [rule for rule in described.rules if registry.within(version, rule.versions)]
    fields = [field.name for field in dataclasses.fields(Convention)]
    said = {name: [(rule.targets, getattr(rule.convention, name)) for rule in rules] for name in fields}
    return {**said, "result_dtype": described.result_dtype}


@functools.cache
def _described(function: str, version: str) -> Function | None:
    for framework in registry.frameworks():
        for described in registry.functions_in(framework, version):
            if described.name == function:
                return described
    return None


@functools.cache
def _support_moved(function: str, before: str, after: str) -> bool:
    a, b = _described(function, before), _described(function, after)
    return bool(before and after) and (before != after if a is b is None else a is not b)


_CAME = ("gained", "lost")


def _check_comparable(old: pd.DataFrame, new: pd.DataFrame, names: tuple[str, str]) -> None:
    which = f"{names[0]} and {names[1]}"
    advice = "compare reports of the same suite and the same frameworks"
    for columns, what in ((["case"], "case"), (["case", "digest"], "unchanged case"), (["function"], "function")):
        a, b = (set(map(tuple, side[columns].drop_duplicates().to_numpy(dtype=object))) for side in (old, new))
        if not a & b:
            raise AuditError(which, f"they have no {what} in common, so nothing can be compared", advice)


def _sides(old: pd.DataFrame, new: pd.DataFrame, i: Any, j: Any) -> dict[str, Texts]:
    """The columns of both rows; for a row that one side lacks its version and environment there, if it has one."""
    table: dict[str, Texts] = {}
    for name in ("framework", *QUESTION, "backend", "mode", "device", "call"):
        table[name] = np.where(j >= 0, _taken(new, name, j), _taken(old, name, i))
    for name in (*SIDES, *LATER_SIDES):
        table[f"old_{name}"], table[f"new_{name}"] = _taken(old, name, i), _taken(new, name, j)
    for here, at, side in ((old, i, "old"), (new, j, "new")):
        there, other = (new, j) if side == "old" else (old, i)
        lost = np.flatnonzero(at < 0)
        rows = there.iloc[other[lost]]
        for name in ("version", "environment"):
            table[f"{side}_{name}"][lost] = _ran(here, rows, name)
    table["ulps"], table["budgets"] = np.full(len(i), np.nan), np.full(len(i), np.nan)
    return table


def _taken(side: pd.DataFrame, name: str, at: Any) -> Texts:
    empty = np.nan if side[name].dtype.kind == "f" else ""
    taken: Texts = np.append(side[name].to_numpy(dtype=object), np.array([empty], dtype=object))[at]
    return taken


def _ran(here: pd.DataFrame, rows: pd.DataFrame, name: str) -> Texts:
    """The version or environment in which a side ran the functions of these rows, or else their framework."""
    found = np.full(len(rows), "", dtype=object)
    for key in (["framework"], ["function", "place"]):
        distinct = here[[*key, name]].drop_duplicates()
        known = distinct[~distinct.duplicated(key, keep=False)].set_index(key)[name]
        told = known.reindex(pd.MultiIndex.from_frame(rows[key]) if len(key) > 1 else rows[key[0]])
        texts = told.fillna("").to_numpy(dtype=object)
        found = np.where(texts != "", texts, found)
    return found


def _one_sided(
    old: pd.DataFrame,
    new: pd.DataFrame,
    i: Any,
    j: Any,
    asked: tuple[Callable[[pd.DataFrame], Flags], Callable[[pd.DataFrame], Flags]],
    cases: Collection[str] | None,
) -> dict[str, Flags]:
    flags = {name: np.zeros(len(i), dtype=bool) for name in KINDS}
    plans = (
        (old, new, i, j, ("case removed", "function lost", "case changed", "no longer asked", "support lost")),
        (new, old, j, i, ("case added", "function gained", "case changed", "newly asked", "support gained")),
    )
    for (side, other, at, there, kinds), was, general in zip(plans, asked, ("removed", "added"), strict=True):
        alone = np.flatnonzero((at >= 0) & (there < 0))
        rows = side.iloc[at[alone]]
        keys = (["function", "place"], ["case"], ["case", "digest"])
        function, case, digest = (~_among(rows, other, columns) for columns in keys)
        if side is old and cases is not None:
            case = ~rows["case"].isin(cases).to_numpy(dtype=bool)
        unasked = ~was(rows)
        chosen = np.select([case & unasked, function & ~unasked, ~case & digest, unasked], kinds[:-1], kinds[-1])
        for name in kinds:
            flags[name][alone[chosen == name]] = True
        flags[general][alone] = True
    return flags


def _among(rows: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> Flags:
    there = pd.MultiIndex.from_frame(other[columns].drop_duplicates())
    return np.asarray(pd.MultiIndex.from_frame(rows[columns]).isin(there), dtype=bool)


def _differences(table: dict[str, Texts], both: Flags) -> dict[str, Flags]:
    def differ(name: str) -> Flags:
        found: Flags = both & (table[f"old_{name}"] != table[f"new_{name}"]).astype(bool)
        return found

    kinds = [np.array([exception_type(text) for text in table[f"{side}_exception"]]) for side in ("old", "new")]
    other = both & (kinds[0] != kinds[1])
    return {
        "status": differ("status"),
        "convention": differ("convention"),
        "warning": differ("warnings"),
        "exception": other,
        "message": differ("exception") & ~other,
        "dtype": differ("result_dtype") & (table["old_got"] != "") & (table["new_got"] != ""),
    }


def _measure(
    table: dict[str, Texts], flags: dict[str, Flags], old: pd.DataFrame, new: pd.DataFrame, i: Any, j: Any
) -> None:
    """Fill in how far answers lie apart, and flag what drifted or has another shape."""
    returned = (table["old_got"] != "") & (table["new_got"] != "")
    rows = np.flatnonzero((i >= 0) & (j >= 0) & returned & (table["old_got"] != table["new_got"]))
    columns = ["got", "dtype", "budget", "budgets"]
    apart = distances(old[columns].iloc[i[rows]], new[columns].iloc[j[rows]])
    table["ulps"][rows], table["budgets"][rows] = apart.ulps, apart.budgets
    table["shapes"] = np.full(len(i), "", dtype=object)
    table["shapes"][rows] = apart.shapes
    misshapen = np.array([bool(text) for text in apart.shapes], dtype=bool)
    flags["shape"] = np.zeros(len(i), dtype=bool)
    flags["drifted"] = np.zeros(len(i), dtype=bool)
    flags["shape"][rows[misshapen]] = True
    flags["drifted"][rows[~misshapen]] = True


def _joined(kinds: dict[str, Flags]) -> Texts:
    """Names of the flags that are up, by row; few combinations occur, so each is spelt once."""
    names = list(kinds)
    bits = np.zeros(len(kinds[names[0]]), dtype=np.int64)
    for number, flag in enumerate(kinds.values()):
        bits |= flag.astype(np.int64) << number
    seen, back = np.unique(bits, return_inverse=True)
    texts = ["; ".join(name for number, name in enumerate(names) if pattern >> number & 1) for pattern in seen.tolist()]
    return np.array(texts, dtype=object)[back]


def _severity(table: dict[str, Texts], kinds: dict[str, Flags], both: Flags) -> Texts:
    was, now = (np.array([_BADNESS.get(text, 0) for text in table[f"{side}_status"]]) for side in ("old", "new"))
    raises = kinds["exception"] & (table["old_exception"] == "") & (now > 0) & (was > 0)
    budgets, ulps = table["budgets"], table["ulps"]
    far = kinds["drifted"] & np.where(np.isnan(budgets), ~(ulps <= LAST_BITS), budgets > 1)
    other = kinds["status"] | kinds["convention"] | kinds["exception"] | kinds["dtype"] | kinds["shape"] | far
    surprising = kinds["added"] & (now > 0) & (table["new_expected"] != "known")
    came = (kinds["function gained"] | kinds["support gained"]) & (now == 0)
    conditions = [
        kinds["unchanged"],
        surprising | (both & (now > was)) | raises,
        kinds["case changed"] | kinds["case removed"] | kinds["no longer asked"],
        kinds["removed"],
        (both & (now < was)) | came,
        both & other,
    ]
    chosen = ["unchanged", "regression", "change", "regression", "improvement", "change"]
    return np.select(conditions, chosen, "note").astype(object)


def has_kind(kinds: pd.Series, name: str) -> pd.Series:
    """Which changes are of a kind; kinds: the column of that name."""
    return kinds.map({text: name in listed_in(text) for text in kinds.unique()}).astype(bool)


def _only_judged(table: pd.DataFrame) -> pd.Series:
    same = [table[f"old_{name}"] == table[f"new_{name}"] for name in _OBSERVED]
    judged = has_kind(table["kinds"], "status") | has_kind(table["kinds"], "convention")
    return judged & functools.reduce(operator.and_, same)


def _say(table: dict[str, Texts]) -> None:
    count = len(table["kinds"])
    table["what"] = np.full(count, "the same to the bit", dtype=object)
    table["transition"] = np.full(count, "", dtype=object)
    names = list(table)
    columns = [table[name] for name in names]
    for row in np.flatnonzero(table["kinds"] != "unchanged").tolist():
        line = {name: column[row] for name, column in zip(names, columns, strict=True)}
        table["what"][row], table["transition"][row] = sentence(line)


def _worst_first(table: pd.DataFrame) -> pd.DataFrame:
    ranks = {name: rank for rank, name in enumerate(KINDS)}
    keys = pd.DataFrame(
        {
            "severity": table["severity"].map({name: rank for rank, name in enumerate(SEVERITIES)}),
            "cause": table["cause"].map({name: rank for rank, name in enumerate((*CAUSES, ""))}),
            "kind": table["kinds"].map(lambda kinds: ranks[listed_in(kinds)[0]]).astype("int64"),
            "budgets": -table["budgets"].fillna(-1.0),
            "ulps": -table["ulps"].fillna(-1.0),
            **{
                name: table[name]
                for name in (
                    "function",
                    "case",
                    "dtype",
                    "reduction",
                    "quantity",
                    "digest",
                    "new_environment",
                    "backend",
                )
            },
        }
    )
    return table.loc[keys.sort_values(list(keys.columns), kind="stable").index].reset_index(drop=True)


__all__ = [
    "CAUSES",
    "COLUMNS",
    "KINDS",
    "LEVELS",
    "SEVERITIES",
    "cause",
    "changes",
    "compare",
    "declared",
    "documented",
    "everything",
    "fails",
    "has_case",
    "has_kind",
    "was_asked",
]
