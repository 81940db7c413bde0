"""A change in words: one sentence for a row, and what rows of one cause have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from conformance.comparison.moves import moved
from conformance.judging.row import exception_type, listed_in
from conformance.judging.verdict import FAILING
from conformance.model.text import counted, one_line

Line = Mapping[str, Any]
LONG = 120
"""Characters of another's text in a sentence."""


def sentence(line: Line) -> tuple[str, str]:
    """(what changed in one row, the same without what is peculiar to its case).

    line: a row of `changes`, with `shapes`.
    """
    kinds = listed_in(line["kinds"])
    if "removed" in kinds or "added" in kinds:
        return _came_or_went(line, kinds)
    told = [text for text in (_status(line, kinds), _answer(line), _convention(line, kinds)) if text]
    told += [text for text in (_types(line, kinds), _warning(line, kinds)) if text]
    if line["cause"] == "judgement":
        told.append("what it did is the same to the bit: it is judged differently")
    if line["new_status"] in FAILING and line["new_explanation"]:
        told.append(f"now {one_line(line['new_explanation'], LONG)}")
    return "; ".join(told), _transition(line, kinds)


def arrow(before: str, after: str) -> str:
    """`before -> after`, with a word where there is nothing."""
    return f"{before or 'none'} -> {after or 'none'}"


def amount(value: float, unit: str) -> str:
    """`3 ulps`; nothing for a nan."""
    return "" if math.isnan(value) else counted(f"{value:.3g}", unit)


def _came_or_went(line: Line, kinds: Sequence[str]) -> tuple[str, str]:
    went = "removed" in kinds
    side = "old" if went else "new"
    version = line["new_version" if went else "old_version"]
    there = f"in {version}" if version else f"in the {'new' if went else 'old'} report"
    said = {
        "function lost": f"the function is gone {there}",
        "function gained": f"the function was not there {there}",
        "support lost": f"it no longer takes this {there}",
        "support gained": f"it did not take this {there}",
        "case removed": "no longer asked: the suite has no such case",
        "no longer asked": "no longer asked: neither the suite nor the selection has such a question",
        "case added": "the case is new",
        "newly asked": "newly asked: the old report did not ask this",
        "case changed": "the case changed, so its rows are not compared",
    }[kinds[0]]
    failing = f"; it {_verb(line[f'{side}_status'])}" if line[f"{side}_status"] in FAILING else ""
    known = ", as the ledger knows" if failing and line[f"{side}_expected"] == "known" else ""
    return f"{said}{failing}{known}", f"{said}{failing}{known}"


def _verb(status: str) -> str:
    return status.replace("_", " ")


def _status(line: Line, kinds: Collection[str]) -> str:
    return f"{_verb(line['old_status'])} became {_verb(line['new_status'])}" if "status" in kinds else ""


def _answer(line: Line) -> str:
    before, after = line["old_got"], line["new_got"]
    was, now = line["old_exception"], line["new_exception"]
    if before == after and was == now:
        return ""
    if before and after:
        move = moved(before, after)
        told = (str(move) if move else "", amount(line["ulps"], "ulp"), amount(line["budgets"], "budget"))
        far = ", ".join(filter(None, told))
        if line["shapes"]:
            far = f"shape {line['shapes']}"
        return f"returned {one_line(before, 40)}, now {one_line(after, 40)}" + (f" ({far})" if far else "")
    old = (
        f"returned {one_line(before, 40)}" if before else f"raised {one_line(was, 60)}" if was else "did not come back"
    )
    new = f"returns {one_line(after, 40)}" if after else f"raises {one_line(now, 60)}" if now else "does not come back"
    return f"{old}, now {new}"


def _convention(line: Line, kinds: Collection[str]) -> str:
    if "convention" not in kinds:
        return ""
    was, now = (line[f"{side}_convention"] or "the definition" for side in ("old", "new"))
    return f"what explains it was {one_line(was, LONG)}, and is {one_line(now, LONG)}"


def _types(line: Line, kinds: Collection[str]) -> str:
    return f"its dtype was {line['old_result_dtype']}, and is {line['new_result_dtype']}" if "dtype" in kinds else ""


def _warning(line: Line, kinds: Collection[str]) -> str:
    if "warning" not in kinds:
        return ""
    after = line["new_warnings"]
    return f"warns: {one_line(after, LONG)}" if after else f"no longer warns: {one_line(line['old_warnings'], LONG)}"


def _transition(line: Line, kinds: Collection[str]) -> str:
    told = []
    if "status" in kinds:
        told.append(arrow(_verb(line["old_status"]), _verb(line["new_status"])))
    if "convention" in kinds:
        told.append(f"convention {arrow(line['old_convention'], line['new_convention'])}")
    if "exception" in kinds:
        names = (exception_type(line[f"{side}_exception"]) for side in ("old", "new"))
        told.append(f"exception {arrow(*names)}")
    if "dtype" in kinds:
        told.append(f"dtype {arrow(line['old_result_dtype'], line['new_result_dtype'])}")
    if "warning" in kinds:
        names = (exception_type(line[f"{side}_warnings"]) for side in ("old", "new"))
        told.append(f"warning {arrow(*names)}")
    if line["new_status"] == "disagrees" and line["new_got"]:
        reason = line["new_reason_code"].replace("_", " ")
        told.append(f"{reason}, as by {line['new_candidate']}" if line["new_candidate"] else reason)
    return "; ".join(one_line(text, LONG) for text in told if text)


__all__ = ["LONG", "amount", "arrow", "sentence"]
