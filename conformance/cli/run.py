"""`conformance run`: call functions on cases and write the report."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from conformance import api, report
from conformance.adapters.contract import Framework
from conformance.cli import github
from conformance.cli.shared import Printer, print_not_executed, print_notes, print_stderr
from conformance.cli.terminal import UNEXPECTED, USAGE, out
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.report_folder import check_no_part_of_report
from conformance.judging.replay import reproducer_of
from conformance.judging.row import Row
from conformance.judging.unsupported import PROBLEM_COLUMNS, render_unsupported, unsupported_problems
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.model.files import check_output
from conformance.model.row_key import CPU, RowKey
from conformance.model.text import format_count
from conformance.report import recording
from conformance.report.sarif import CHECKOUT, ELSEWHERE, Failure, SourceLocation

MAX_CAUSES = 20
"""Maximum number of causes of unexpected rows, and of known ones, that are printed."""


def run(
    request: api.RunRequest,
    isolate: bool,
    baseline: Path | None,
    sarif_file: Path | None,
    comment_file: Path | None,
    strict_known: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    if isolate and request.in_process:
        raise UserError("--isolate and --in-process do not go together")
    files = _Files(sarif_file, comment_file, request.report.name)
    files.check(request.report)
    ended = api.run(request, baseline, Printer(), files.begin)
    failures = ended.failures(strict_known)
    if not ended.complete:
        _warn_incomplete(ended)
    out.print_result(ended, lambda result: _finish(result, request, strict_known, verbose), as_json)
    github.emit(workflow_commands(failures, ended.cases), aside=as_json)
    files.end(ended, failures)
    print_notes(ended.cases)
    print_not_executed(ended.not_executed)
    if not ended.complete:
        if ended.failure is not None:
            raise ended.failure
        raise typer.Exit(INTERRUPTED if ended.stopped else USAGE)
    if ended.check is not None and not as_json:
        out.paragraphs(ended.check.lines())
    if not ended.items:
        print_stderr("no selected function supports any of the cases; the report says why")
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if failures else 0)


@dataclass(frozen=True)
class _Files:
    """Files written in addition to the report: for code scanning, and for a pull request."""

    sarif: Path | None
    comment: Path | None
    name: str

    def check(self, report: Path) -> None:
        """Raise UserError if one of them would be a file of this or another report, or a case file, or
        if both have the same path.
        """
        files = [(option, file) for option, file in (("--sarif", self.sarif), ("--comment", self.comment)) if file]
        for option, file in files:
            check_no_part_of_report(option, file, report)
        if len({os.path.realpath(file) for _, file in files}) < len(files):
            raise UserError(f"--sarif and --comment both name {self.sarif}; name two files")

    def begin(self) -> None:
        """Write files that say that the run did not finish, to be replaced at its end."""
        if self.sarif is not None:
            _put("--sarif", self.sarif, report.sarif([], case_locator([]), ["the run did not come to its end"]))
        if self.comment is not None:
            _put("--comment", self.comment, f"{report.marker(self.name)}\nThe run did not come to its end.\n")

    def end(self, ended: api.RunResult, failures: Sequence[Failure]) -> None:
        """Write the failures of the run."""
        if self.sarif is not None:
            notes = [
                f"{failure.row['environment']}: {failure.message}" for failure in failures if not failure.row["case"]
            ]
            notes += [*map(str, ended.not_executed), *([ended.stopped] if ended.stopped else [])]
            row_failures = [failure for failure in failures if failure.row["case"]]
            _put("--sarif", self.sarif, report.sarif(row_failures, case_locator(ended.cases), notes))
        if self.comment is not None:
            lines = [] if ended.check is None else ended.check.lines()
            info = report.RunInfo.of(ended.record)
            _put("--comment", self.comment, report.comment(ended.results, info, failures, lines, self.name))


def workflow_commands(failed: Iterable[Failure], cases: Sequence[Case]) -> list[str]:
    """A workflow command for each of the first failures, at the line of the case if its file is in the checkout."""
    known = {case.id: case for case in cases}
    commands = []
    for failure in itertools.islice(failed, github.MAX_ANNOTATIONS):
        case = known.get(failure.row["case"])
        path, line = (case.path, case.line) if case is not None else ("", 0)
        subject = RowKey.of(failure.row).id if failure.row["case"] else failure.row["environment"]
        commands.append(github.error_at(path, line, 0, f"{subject} {failure.rule.replace('_', ' ')}", failure.message))
    return commands


def case_locator(cases: Sequence[Case]) -> Callable[[str], SourceLocation]:
    """A function that returns the location of a case in its file; without a file, a location made from its id."""
    known = {case.id: case for case in cases}

    def locate(name: str) -> SourceLocation:
        case = known.get(name)
        if case is not None and (file := github.in_checkout(case.path)):
            return SourceLocation(CHECKOUT, file, case.line)
        suffix = PurePosixPath(case.path).suffix if case is not None else ""
        return SourceLocation(
            ELSEWHERE, f"{name.rpartition('/')[0]}{suffix or '.yaml'}", case.line if case is not None else 0
        )

    return locate


def _warn_incomplete(ended: api.RunResult) -> None:
    reasons = f"{ended.stopped}; " if ended.stopped else ""
    reasons += f"{len(ended.not_executed)} could not be executed; " if ended.not_executed else ""
    rows = len(ended.results)
    print_stderr(f"{reasons}{rows} of {ended.record['planned']} rows are in the report, which is marked incomplete")
    if rows:
        print_stderr("the same command with --resume runs only what is missing")


def _put(option: str, file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        check_output(file)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{option} {file}: cannot be written ({error.strerror}); name another file") from error


def _finish(ended: api.RunResult, request: api.RunRequest, strict_known: bool, verbose: bool) -> None:
    """Print the result of a run: unexpected rows by cause, a table, and the verdict in a sentence.

    strict_known: whether known rows fail, and are printed like unexpected ones.  Otherwise, known rows of the user's
    cases are also printed, with the number of their published numbers that do not hold.  verbose: print error ratios
    and the coverage of options.
    """
    failing = {*FAILING_ROWS, *(["known"] if strict_known else [])}
    print_groups(ended.rows_that_are(*failing), ended.cases)
    if request.cases is not None and not strict_known:
        print_groups(ended.rows_that_are("known"), ended.cases)
    if len(ended.results):
        out.print(report.status_table(ended.results))
    if len(ended.results) and verbose:
        partly = request.keyword or request.frameworks or request.modes or request.device != CPU or ended.harvested
        out.paragraphs(recording.closing_lines(ended.record["largest"], "" if partly else ended.record["coverage"]))
    narrowed = bool(request.keyword or request.frameworks or request.modes or ended.record["missing"])
    unsupported = unsupported_problems(ended.results[PROBLEM_COLUMNS].itertuples(index=False, name=None))
    out.paragraphs(render_unsupported(unsupported, narrowed=narrowed))
    if skipped := recording.skipped_line(ended.results):
        out.print(Text(skipped))
    verdict = recording.verdict_line(ended.results, ended.record["planned"], ended.record["duration"], failing)
    out.print(Text(verdict))
    published = recording.published_line(ended.record, ended.cases, ended.report)
    if published and request.cases is not None:
        out.print(Text(published))
    out.print(f"report: {ended.report / 'index.html'}", soft_wrap=True)


def _cause(row: Row) -> tuple[str, ...]:
    """What rows of one cause have in common: what the ledger says of known ones; for equal exceptions, no function."""
    if row.expected == "known":
        return (row.key.function.partition(".")[0], row.known)
    kind = (row.key.environment, row.expected, row.status, row.reason_code, row.candidate, row.known)
    if row.exception is None:
        return (*kind, row.key.function)
    return (*kind, row.framework, row.exception.exception, row.exception.message)


def print_groups(rows: Sequence[Row], cases: Sequence[Case], framework: Framework | None = None) -> None:
    """Print the first row of each cause, and how many there are.  framework: see `reproducer_of`."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_cause(row), []).append(row)
    for first, *duplicates in itertools.islice(groups.values(), MAX_CAUSES):
        functions = len({row.key.function for row in (first, *duplicates)})
        function_count = f"; {functions} functions in all" if functions > 1 else ""
        suffix = f" (and {format_count(len(duplicates), 'row')} more{function_count})" if duplicates else ""
        _print_row(first, suffix, reproducer_of(first, cases, framework))
    if len(groups) > MAX_CAUSES:
        out.print(f"and {len(groups) - MAX_CAUSES} more causes, in discrepancies.csv")


def _print_row(row: Row, suffix: str, call: str) -> None:
    name, why = _headline(row)
    out.print(f"[bold]{row.expected}[/] {escape(name)}")
    out.print(Padding(Text(why + suffix), (0, 0, 0, 4), expand=False))
    if call:
        out.print(f"    {escape(call)}", soft_wrap=True)


def _headline(row: Row) -> tuple[str, str]:
    """(description of a row, why it is unexpected or known)."""
    if not row.key.case:
        return row.key.environment, row.explanation
    why = row.known if row.expected == "known" else ". ".join(filter(None, (row.explanation, row.known)))
    return f"{row.key.id} ({row.key.version})", why
