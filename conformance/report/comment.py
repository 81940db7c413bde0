"""A run as a comment on a pull request: what fails first, the rest folded away.

What others wrote stands in code spans only: there GitHub makes no links of it, and calls nobody whose name is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from conformance.execution.run_info import RunInfo
from conformance.judging.unasked import unasked
from conformance.judging.verdict import STATUSES
from conformance.model.text import counted
from conformance.report.frames import counts, labelled
from conformance.report.markdown import LIMIT, code, known_table, table
from conformance.report.sarif import Failure

ROWS, FUNCTIONS = 30, 60
"""Lines of the tables."""


def marker(name: str) -> str:
    """The first line of a comment, which nobody sees and by which it is found again.  name: tells several apart."""
    return f"<!-- cross-entropy-conformance: {re.sub(r'[^A-Za-z0-9_.]+', '_', name)[:60]} -->"


def comment(
    results: pd.DataFrame, run: RunInfo, failures: Iterable[Failure], said: Sequence[str] = (), name: str = ""
) -> str:
    """A run as Markdown for a pull request, under `LIMIT` bytes whatever is in it.

    failures: what makes the run fail.  said: sentences about the baseline, where there is one.
    """
    found = list(failures)
    answered = results[results["status"] != "unsupported"]
    cases = answered.loc[answered["case"] != "", "case"].nunique()
    head = f"{len(found)} {'answers fail' if len(found) != 1 else 'answer fails'}" if found else "nothing fails"
    versions = ", ".join(code(f"{framework} {version}") for framework, version in sorted(run.versions.items()))
    pieces = [f"{marker(name)}\n### Cross-entropy conformance: {head}\n"]
    pieces.append(
        f"{counted(len(answered), 'answer')} to {counted(cases, 'case')}{f', by {versions}' if versions else ''}.\n"
    )
    if not run.complete(len(results)):
        pieces.append(f"**Incomplete**: {len(results)} of {run.planned} rows were finished.\n")
    if nobody := unasked(_records(results)):
        told = ", ".join(code(one.case) for one in nobody[:ROWS]) + (" ..." if len(nobody) > ROWS else "")
        pieces.append(f"No function that is asked can take {told}; the summary says why.\n")
    folded = [_folded(f"What fails: {len(found)}", _failures(found), opened=True)] if found else []
    if said:
        folded.append(_folded("Against the baseline", "".join(f"* {code(line, 400)}\n" for line in said[:ROWS])))
    folded.append(_folded("Functions", _functions(results)))
    if known := known_table(results):
        folded.append(
            _folded(f"Known discrepancies: {counted(int(results['expected'].eq('known').sum()), 'answer')}", known)
        )
    for piece in folded:
        if len("\n".join([*pieces, piece]).encode()) < LIMIT:
            pieces.append(piece)
    return "\n".join(pieces)


def _records(results: pd.DataFrame) -> list[dict[str, str]]:
    columns = ["case", "dtype", "reduction", "function", "status", "explanation"]
    return [{str(name): str(value) for name, value in row.items()} for row in results[columns].to_dict("records")]


def _failures(found: Sequence[Failure]) -> str:
    rows = [
        [
            code(row["function"] or row["environment"]),
            code(row["case"]),
            ", ".join(filter(None, (row["dtype"], row["reduction"], row["quantity"]))),
            rule.replace("_", " "),
            code(row["got"] or row["exception"], 60),
            code(row["want"], 60),
            code(why, 400),
        ]
        for rule, row, why in found[:ROWS]
    ]
    more = f"\n*... and {len(found) - len(rows)} more.*\n" if len(found) > len(rows) else ""
    return f"{table(['function', 'case', 'of', 'what', 'got', 'want', 'because'], rows)}{more}"


def _functions(results: pd.DataFrame) -> str:
    found = counts(labelled(results))
    names = [*(name for name in STATUSES if found[name].any()), "unexpected"]
    rows = [[code(name), *(line[column] or "" for column in names)] for name, line in found.iterrows()]
    more = f"\n*... and {len(rows) - FUNCTIONS} more.*\n" if len(rows) > FUNCTIONS else ""
    return f"{table(['function', *names], rows[:FUNCTIONS])}{more}"


def _folded(title: str, body: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>\n\n{body}\n</details>\n"


__all__ = ["comment", "marker"]
