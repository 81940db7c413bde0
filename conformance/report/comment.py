"""A run as a comment on a pull request: failures first, everything else folded.

Third-party text is put in code spans, in which GitHub renders no links or mentions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from conformance.execution.run_info import RunInfo
from conformance.judging.unsupported import PROBLEM_COLUMNS, unsupported_problems
from conformance.judging.verdict import STATUSES
from conformance.model.text import format_count
from conformance.report.frames import counts, with_environments
from conformance.report.markdown import MAX_BYTES, MAX_ROWS, code, known_table, remaining, table
from conformance.report.sarif import Failure

MAX_COMMENT_FUNCTIONS = 60
"""Maximum number of rows in the table of functions."""


def marker(name: str) -> str:
    """The first line of a comment, which is not displayed and identifies the comment for updates.

    name: distinguishes several comments on one pull request.
    """
    return f"<!-- cross-entropy-conformance: {re.sub(r'[^A-Za-z0-9_.]+', '_', name)[:60]} -->"


def comment(
    results: pd.DataFrame, run: RunInfo, failures: Iterable[Failure], baseline: Sequence[str] = (), name: str = ""
) -> str:
    """A run as Markdown for a pull request, shorter than `MAX_BYTES` bytes.

    failures: rows that make the run fail.
    baseline: sentences about the baseline, if there is one.
    name: name of the comment; see `marker`.
    """
    all_failures = list(failures)
    answered = results[results["status"] != "unsupported"]
    head = format_count(len(all_failures), "failure") if all_failures else "nothing fails"
    cases = format_count(answered.loc[answered["case"] != "", "case"].nunique(), "case")
    versions = ", ".join(code(f"{framework} {version}") for framework, version in sorted(run.versions.items()))
    pieces = [
        f"{marker(name)}\n### Cross-entropy conformance: {head}\n",
        f"{format_count(len(answered), 'answer')} to {cases}{f', by {versions}' if versions else ''}.\n",
    ]
    if not run.complete(len(results)):
        pieces.append(f"**Incomplete**: {len(results)} of {run.planned} rows were finished.\n")
    if skipped := unsupported_problems(results[PROBLEM_COLUMNS].itertuples(index=False, name=None)):
        names = ", ".join(code(item.case) for item in skipped[:MAX_ROWS]) + (" ..." if len(skipped) > MAX_ROWS else "")
        pieces.append(f"No selected function supports {names}; the summary says why.\n")
    sections = {
        f"What fails: {len(all_failures)}": _failures(all_failures) if all_failures else "",
        "Against the baseline": "".join(f"* {code(line, 400)}\n" for line in baseline[:MAX_ROWS])
        + remaining(len(baseline), MAX_ROWS),
        "Functions": _functions(results),
        f"Known discrepancies: {format_count(int(results['expected'].eq('known').sum()), 'answer')}": known_table(
            results
        ),
    }
    for number, (title, body) in enumerate(sections.items()):
        section = f"<details{'' if number else ' open'}><summary>{title}</summary>\n\n{body}\n</details>\n"
        if body and len("\n".join([*pieces, section]).encode()) < MAX_BYTES:
            pieces.append(section)
    return "\n".join(pieces)


def _failures(failures: Sequence[Failure]) -> str:
    rows = [
        [
            code(row["function"] or row["environment"]),
            code(row["case"]),
            ", ".join(filter(None, (row["dtype"], row["reduction"], row["quantity"]))),
            rule.replace("_", " "),
            code(row["got"] or row["exception"], 60),
            code(row["want"], 60),
            code(message, 400),
        ]
        for rule, row, message in failures[:MAX_ROWS]
    ]
    header = ["function", "case", "dtype, reduction", "failure", "got", "want", "reason"]
    return f"{table(header, rows)}{remaining(len(failures), len(rows))}"


def _functions(results: pd.DataFrame) -> str:
    function_counts = counts(with_environments(results))
    names = [*(name for name in STATUSES if function_counts[name].any()), "unexpected"]
    rows = [
        [code(name), *(line[column] or "" for column in names)]
        for name, line in function_counts.head(MAX_COMMENT_FUNCTIONS).iterrows()
    ]
    return f"{table(['function', *names], rows)}{remaining(len(function_counts), len(rows))}"
