"""Describe a changed row as a sentence, or as a short transition `old -> new`, by which rows are grouped."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from conformance.comparison.distance import drift
from conformance.judging.row import exception_type, listed_in
from conformance.judging.verdict import FAILING
from conformance.model.text import format_count, one_line

Row = Mapping[str, Any]
"""A row of a table with `comparison.changes.COLUMNS` and `shapes`, by column."""
MAX_TEXT = 120
MAX_VALUE = 40
MAX_EXCEPTION = 60
"""Characters of a quoted text, a returned value and an exception in a sentence."""


def sentence(row: Row) -> str:
    """What changed in one row."""
    kinds = listed_in(row["kinds"])
    if "removed" in kinds or "added" in kinds:
        return _one_sided(row, kinds)
    before, after = status_text(row["old_status"]), status_text(row["new_status"])
    sentences = [f"{before} became {after}" if "status" in kinds else "", _answer(row)]
    if "convention" in kinds:
        old, new = (one_line(row[f"{side}_convention"] or "the definition", MAX_TEXT) for side in ("old", "new"))
        sentences.append(f"convention changed from {old} to {new}")
    if "dtype" in kinds:
        sentences.append(f"dtype changed from {row['old_result_dtype']} to {row['new_result_dtype']}")
    if "warning" in kinds:
        old, new = (one_line(row[f"{side}_warnings"], MAX_TEXT) for side in ("old", "new"))
        sentences.append(f"warns: {new}" if new else f"no longer warns: {old}")
    if row["cause"] == "judgement":
        sentences.append("the result is bit-identical; only the judgement changed")
    if row["new_status"] in FAILING and row["new_explanation"]:
        sentences.append(f"now {one_line(row['new_explanation'], MAX_TEXT)}")
    return "; ".join(filter(None, sentences))


def transition(row: Row) -> str:
    """The sentence without details of the case, such as `agrees -> disagrees; wrong value`."""
    kinds = listed_in(row["kinds"])
    if "removed" in kinds or "added" in kinds:
        return _one_sided(row, kinds)
    texts = _arrows(row, kinds)
    if row["new_status"] == "disagrees" and row["new_got"]:
        reason = status_text(row["new_reason_code"])
        texts.append(f"{reason}, as by {row['new_candidate']}" if row["new_candidate"] else reason)
    return "; ".join(one_line(text, MAX_TEXT) for text in texts if text)


def _arrows(row: Row, kinds: Collection[str]) -> list[str]:
    """`before -> after` of each kind of change, types standing for exceptions and warnings."""
    columns = {"convention": "convention", "exception": "exception", "dtype": "result_dtype", "warning": "warnings"}
    texts = []
    if "status" in kinds:
        texts.append(arrow(status_text(row["old_status"]), status_text(row["new_status"])))
    for kind, column in columns.items():
        if kind in kinds:
            sides = [row[f"{side}_{column}"] for side in ("old", "new")]
            old, new = map(exception_type, sides) if kind in ("exception", "warning") else sides
            texts.append(f"{kind} {arrow(old, new)}")
    return texts


def arrow(before: str, after: str) -> str:
    """`before -> after`, with `none` for an empty text."""
    return f"{before or 'none'} -> {after or 'none'}"


def status_text(code: str) -> str:
    """A status or reason code in words: `timed out`."""
    return code.replace("_", " ")


def _one_sided(row: Row, kinds: Sequence[str]) -> str:
    """The sentence about a row that only one report has.

    kinds: the reason, then `removed` or `added`; `comparison.changes.KINDS` has them in this order.
    """
    removed = "removed" in kinds
    side = "old" if removed else "new"
    version = row["new_version" if removed else "old_version"]
    where = f"in {version}" if version else f"in the {'new' if removed else 'old'} report"
    text = {
        "function lost": f"the function does not exist {where}",
        "function gained": f"the function did not exist {where}",
        "support lost": f"it no longer accepts such input {where}",
        "support gained": f"it did not accept such input {where}",
        "case removed": "the new report does not have this case",
        "no longer asked": "removed from the selection: no function is called with this case, dtype and reduction",
        "case added": "the old report does not have this case",
        "newly asked": "added to the selection: the old report has no such row",
        "case changed": "the case changed, so its rows are not compared",
    }[kinds[0]]
    if row[f"{side}_status"] not in FAILING:
        return text
    known = ", a known issue" if row[f"{side}_expected"] == "known" else ""
    return f"{text}; it {status_text(row[f'{side}_status'])}{known}"


def _answer(row: Row) -> str:
    """What was returned or raised before and now; empty if that is the same."""
    got, exceptions = (row["old_got"], row["new_got"]), (row["old_exception"], row["new_exception"])
    if got[0] == got[1] and exceptions[0] == exceptions[1]:
        return ""
    if all(got):
        before, after = (one_line(text, MAX_VALUE) for text in got)
        difference = f"shape {row['shapes']}" if row["shapes"] else _distance(row)
        return f"returned {before}, now {after}" + (f" ({difference})" if difference else "")
    words = (("returned", "raised", "did not return"), ("returns", "raises", "does not return"))
    before, after = (
        f"{returns} {one_line(value, MAX_VALUE)}"
        if value
        else f"{raises} {one_line(exception, MAX_EXCEPTION)}"
        if exception
        else ends
        for (returns, raises, ends), value, exception in zip(words, got, exceptions, strict=True)
    )
    return f"{before}, now {after}"


def _distance(row: Row) -> str:
    largest = drift(row["old_got"], row["new_got"])
    ulps = [] if math.isnan(row["ulps"]) else [format_count(f"{row['ulps']:.3g}", "ulp")]
    ratio = [] if math.isnan(row["budgets"]) else [f"{row['budgets']:.3g} x the tolerance"]
    return ", ".join([*([] if largest is None else [str(largest)]), *ulps, *ratio])
