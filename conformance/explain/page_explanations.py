"""Explanations of the discrepancies in a report, for its page.

They are made by `conformance page` and not in each run: an explanation calls functions again and tries remedies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pandas as pd

from conformance.adapters.registry import Installed
from conformance.explain.blocks import render_blocks
from conformance.explain.explainer import explain
from conformance.judging.judge import Judge
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.errors import UserError
from conformance.model.row_key import PROBLEM

NOT_REPEATED = ("crashed", "timed_out")
"""Statuses whose calls are not repeated."""
_KEY = [name for name in PROBLEM if name != "digest"]
"""Columns of a problem, whatever the content of its case; joined by commas they are the keys of explanations."""


def explain_report(
    results: pd.DataFrame,
    cases: Mapping[str, Case],
    available: Sequence[Installed],
    judge: Judge,
    limit: int,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, list[tuple[str, str, int]]]:
    """Explain the problems on which functions do not all agree, keyed by `case,dtype,reduction,quantity`.

    Each case is explained for one problem, preferably float32 and mean; at most `limit` problems, unexpected ones
    first.
    Only functions installed in the version that the report has are called again; if there is none, the value is the
    derivation of the exact answer alone. A case that has changed since the report is left out.

    progress: called with the name of each case.
    """
    versions = {one.framework.name: one.version for one in available}
    row_indices = results.groupby(_KEY, sort=False).indices
    explanations: dict[str, list[tuple[str, str, int]]] = {}
    for key in _select_problems(results)[:limit]:
        case_id, dtype, reduction, quantity = key
        case = cases.get(case_id)
        rows = results.iloc[row_indices[key]]
        if case is None or case.digest not in set(rows["digest"]):
            continue
        progress(case_id)
        repeatable = ~rows["status"].isin(NOT_REPEATED) & (rows["version"] == rows["framework"].map(versions))
        names = set(rows.loc[repeatable, "function"])
        try:
            explanation = explain(
                case,
                dtype,
                cast(Reduction, reduction),
                available if names else (),
                judge,
                cast(Quantity, quantity),
                names,
            )
        except (UserError, ArithmeticError):
            continue
        explanations[",".join(key)] = [*render_blocks(explanation)]
    return explanations


def _select_problems(results: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """The most interesting problem of each case that has a row worth explaining, worst first."""
    rows = results[(results["case"] != "") & ((results["status"] != "agrees") | (results["expected"] != "ok"))]
    rank = pd.DataFrame(
        {
            "expected": ~rows["expected"].isin(FAILING_ROWS),
            "known": rows["expected"] != "known",
            "status": rows["status"].map({"disagrees": 0, "diverges": 1}).fillna(2),
            "quantity": rows["quantity"] != "loss",
            "dtype": rows["dtype"] != "float32",
            "reduction": rows["reduction"] != "mean",
            "order": rows[_KEY[0]].str.cat(rows[_KEY[1:]], sep=","),
        }
    )
    ordered = rows.loc[rank.sort_values(list(rank.columns), kind="stable").index, _KEY]
    return list(ordered.drop_duplicates("case").itertuples(index=False, name=None))
