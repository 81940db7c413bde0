"""Explanations of the cases of a report, for its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never, cast

import pandas as pd

from conformance.adapters.registry import Installed
from conformance.explain.blocks import Block, Code, Formula, Heading, Prose, told
from conformance.explain.explainer import explain
from conformance.judging.suite import Suite
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.errors import UserError

DIED = ("crashed", "timed_out")
"""Statuses of calls that are not made again here."""
KEY = ["case", "dtype", "reduction", "quantity"]


def explained(
    results: pd.DataFrame,
    cases: Mapping[str, Case],
    here: Sequence[Installed],
    asker: Suite,
    most: int,
    step: Callable[[str], None] = lambda name: None,
) -> dict[str, list[tuple[str, str, int]]]:
    """What `explain` tells of the problems on which functions do not simply agree, by `case,dtype,reduction,quantity`.

    One problem of each case, float32 and mean where it has them; at most `most` of them, unexpected ones
    first.  The functions that are asked again are those that are installed in the version that the report
    has; where there is none, only the way to the exact answer is told.  A case that has changed since is left out.
    step: called with the name of each case.
    """
    versions = {one.framework.name: one.version for one in here}
    lines = results.groupby(KEY, sort=False).indices
    found: dict[str, list[tuple[str, str, int]]] = {}
    for key in _chosen(results)[:most]:
        case_id, dtype, reduction, quantity = key
        case = cases.get(case_id)
        rows = results.iloc[lines[key]]
        if case is None or case.digest not in set(rows["digest"]):
            continue
        step(case_id)
        alive = ~rows["status"].isin(DIED) & (rows["version"] == rows["framework"].map(versions))
        names = set(rows.loc[alive, "function"])
        try:
            explanation = explain(
                case, dtype, cast(Reduction, reduction), here if names else (), asker, cast(Quantity, quantity), names
            )
        except (UserError, ArithmeticError):
            continue
        found[",".join(key)] = [_plain(block) for block in told(explanation)]
    return found


def _chosen(results: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """One problem of each case that is worth a word, worst first."""
    rows = results[(results["case"] != "") & ((results["status"] != "agrees") | (results["expected"] != "ok"))]
    rank = pd.DataFrame(
        {
            "expected": ~rows["expected"].isin(["unexpected", "stale"]),
            "known": rows["expected"] != "known",
            "status": rows["status"].map({"disagrees": 0, "diverges": 1}).fillna(2),
            "quantity": rows["quantity"] != "loss",
            "dtype": rows["dtype"] != "float32",
            "reduction": rows["reduction"] != "mean",
            "order": rows[KEY].agg(",".join, axis=1) if len(rows) else "",
        }
    )
    worst = rows.loc[rank.sort_values(list(rank.columns), kind="stable").index, KEY]
    return list(worst.drop_duplicates("case").itertuples(index=False, name=None))


def _plain(block: Block) -> tuple[str, str, int]:
    match block:
        case Heading(text, level):
            return "heading", text, level
        case Prose(text):
            return "prose", text, 0
        case Formula(text, depth):
            return "formula", text, depth
        case Code(text, depth):
            return "code", text, depth
        case _:
            assert_never(block)
