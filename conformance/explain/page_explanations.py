"""Explanations of the discrepancies in a report, for its page.

They are computed by `conformance page` and not in each run, as an explanation calls functions again and tries remedies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pandas as pd

from conformance.adapters.registry import Installed
from conformance.explain.explainer import explain
from conformance.explain.rendering import render_blocks
from conformance.judging.judge import Judge
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.case import Case, Quantity, Reduction
from conformance.model.errors import UserError
from conformance.model.row_key import PROBLEM
from conformance.report.page.supplement import PageExplanation

NOT_REPEATED = ("crashed", "timed_out", "unsupported")
"""Statuses whose calls are not repeated."""
_KEY = [name for name in PROBLEM if name != "digest"]
"""Columns that identify a problem without its digest; joined by commas they are the keys of explanations."""
_CAUSE = ["function", "status", "reason_code", "convention", "known"]
"""Columns of rows that share one explanation."""


def explain_report(
    results: pd.DataFrame,
    cases: Mapping[str, Case],
    available: Sequence[Installed],
    judge: Judge,
    limit: int,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, PageExplanation], tuple[int, int]]:
    """Explain why functions do not agree: each cause once, on the most ordinary problem that shows it.

    Returns the explanations by `case,dtype,reduction,quantity`, the number of explained rows and the number of all
    rows.

    At most `limit` causes are explained: those of unexpected rows first, then those with the most rows.
    Only functions installed in the version of the report are called again.  Cases that have changed since the
    report are skipped.

    progress: called for each problem with the name of its case.
    """
    rows = results[(results["function"] != "") & ((results["status"] != "agrees") | (results["expected"] != "ok"))]
    rows = rows[rows["status"] != "unsupported"]
    versions = {installed.framework.name: installed.version for installed in available}
    digests = {case.id: case.digest for case in cases.values()}
    is_repeatable = (
        ~rows["status"].isin(NOT_REPEATED)
        & (rows["version"] == rows["framework"].map(versions))
        & (rows["digest"] == rows["case"].map(digests))
    )
    explanations: dict[str, PageExplanation] = {}
    explained: list[int] = []
    for key, of_problem in _select(rows[is_repeatable], limit).groupby(_KEY, sort=False):
        case_id, dtype, reduction, quantity = map(str, key)
        progress(case_id)
        names = sorted(of_problem["function"])
        try:
            explanation = explain(
                cases[case_id], dtype, cast(Reduction, reduction), available, judge, cast(Quantity, quantity), names
            )
        except (UserError, ArithmeticError):
            continue
        explanations[",".join((case_id, dtype, reduction, quantity))] = PageExplanation(
            names, [*render_blocks(explanation)]
        )
        explained += of_problem["size"].tolist()
    return explanations, (sum(explained), len(rows))


def _select(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """One row for each cause, with the number of rows with this cause as `size`; see `explain_report`."""
    rank = pd.DataFrame(
        {
            "quantity": rows["quantity"] != "loss",
            "dtype": rows["dtype"] != "float32",
            "reduction": rows["reduction"] != "mean",
            "order": rows[_KEY[0]].str.cat(rows[_KEY[1:]], sep=","),
        }
    )
    sized = rows.assign(
        size=rows.groupby(_CAUSE)["case"].transform("size"), failing=rows["expected"].isin(FAILING_ROWS)
    )
    plainest = sized.loc[rank.sort_values(list(rank.columns), kind="stable").index].drop_duplicates(_CAUSE)
    return plainest.sort_values(["failing", "size"], ascending=False, kind="stable").head(limit)
