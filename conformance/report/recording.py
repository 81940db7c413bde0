"""Record a run in its report: plan before the first row, write after the last, recover from a journal."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import cases_option
from conformance.execution.interruption import ignore_first_signal
from conformance.execution.journal import Journal, JournalContent, Plan, read_journal
from conformance.execution.marking import MARK, RUN, marked, put_back
from conformance.execution.report_folder import JOURNAL, ReportError, read_run
from conformance.execution.run import INTERRUPTED, Run
from conformance.execution.run_info import RunInfo, fingerprint, host
from conformance.judging.coverage import coverage
from conformance.judging.packed_rows import PackedRows
from conformance.judging.plan import Item
from conformance.judging.published import published
from conformance.judging.reasons import NotCalled
from conformance.judging.row import Row
from conformance.judging.verdict import FAILING_ROWS, STATUSES
from conformance.model.case import Case
from conformance.model.row_key import unusual
from conformance.model.text import format_count
from conformance.report import files, frames
from conformance.report.page import PageSupplement, problems, sizes
from conformance.report.run import versions


def make_plan(
    cases: Sequence[Case],
    row_cases: Sequence[str],
    started: float,
    missing: Sequence[str] = (),
    selected: str = "",
    ledger: Ledger | None = None,
    installed: Iterable[Installed] = (),
    timeout: float = 0.0,
) -> Plan:
    """Return the metadata of a run before its first row, with the published numbers of its own cases.

    cases: the cases available for selection.  row_cases: id of the case of each planned row.  started: seconds since
    the epoch.
    missing: frameworks that are not installed.  selected: the option that excluded items.  ledger, installed, timeout:
    inputs on which rows depend, for a run that may be resumed.
    """
    executed = set(row_cases)
    own_cases = [case for case in cases if case.id in executed]
    info = RunInfo(
        planned=len(row_cases),
        missing=tuple(missing),
        started=iso_time(started),
        coverage="" if selected else coverage_line(cases),
        suite=fingerprint((case.id, case.digest) for case in cases),
        selected=selected,
        published=tuple(number.record() for case in own_cases for number in published(case)),
    )
    return Plan(info, problems(own_cases), sizes(own_cases), _basis(ledger, installed, timeout))


def iso_time(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 with zone."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def write(folder: Path, results: pd.DataFrame, plan: Plan, duration: float, interrupted: str = "") -> dict[str, Any]:
    """Write the report of a run, complete or not, and return its `run.json`; raises ReportError.

    results: a `report.frame` of its rows.  duration: duration in seconds.  interrupted: the reason that it ended early.
    """
    run = replace(plan.info, versions=versions(results), interrupted=interrupted, duration=round(duration, 3))
    supplement = PageSupplement(plan.problems, plan.sizes)
    return files.write(folder, results, run, supplement)


class RecordedRun(Run):
    """A run with a report: its rows are journaled when they are judged, and the report is written at the end.

    folder: locked immediately; an older report in it is moved, see `journal`.  warn: called with each
    message for the user.  resume: resume the unfinished run in the folder.  Raises ReportError if
    the folder cannot be written, or another run has locked it.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], *, resume: bool = False) -> None:

        self.started = time.time()
        self.journal = Journal.begin(folder, iso_time(self.started), warn, resume=resume)
        super().__init__()
        self.planned: Plan | None = None
        self.results: pd.DataFrame
        """A `report.frame` of the rows, after the report is written."""
        self._warn = warn
        self._closed = False
        for note in self.journal.notes:
            warn(note)

    def accept(self, row: Row) -> None:
        """Add a row to the journal and to the rows."""
        self.journal.append(row)
        super().accept(row)

    def plan(self, planned: Plan, items: Sequence[Item] = (), uncalled: Sequence[Row] = ()) -> list[Item]:
        """Write the plan; return the items that are still to be executed.

        items: the items of the plan.  uncalled: rows of the plan that need no call.  Rows of a resumed run are kept if
        they are still valid.
        """
        resumed = self.journal.resumed
        resumed_rows: list[Row] = []
        if resumed is None:
            self.journal.plan(planned)
        else:
            resumed_rows, repeated, uncounted = split_resumed(resumed, planned, items)
            count = f"{len(uncalled) + len(resumed_rows)} of {planned.info.planned}"
            self._warn(f"going on with the run of {resumed.started}: {count} rows are there")
            for why in [*_differences(resumed, planned), *repeated]:
                self._warn(why)
            noted = len(self.journal.notes)
            self.journal.plan(planned, resumed_rows, keep=uncounted > 0)
            for note in self.journal.notes[noted:]:
                self._warn(note)
        self.planned = planned
        self.items = items
        for row in uncalled:
            self.accept(row)
        self.rows.extend(resumed_rows)
        present = {row.key.across_versions() for row in resumed_rows}
        return [item for item in items if item.key.across_versions() not in present]

    def abandon(self) -> None:
        """Restore and unlock the folder, for a run that ended before it had a plan."""
        self.journal.abandon()

    def write(self) -> dict[str, Any]:
        """Write the report, unlock the folder, and return its `run.json`; raises ReportError.

        After an interruption the report is written again, marked as incomplete.
        """
        resumed = self.journal.resumed
        if self.planned is None and resumed is not None and not self.rows:
            self.rows.extend(resumed.rows.values())
        plan = self.planned or (resumed and resumed.plan) or empty_plan(iso_time(self.started))
        record: dict[str, Any] = {"complete": False}
        try:
            try:
                record = self._write(plan)
            except KeyboardInterrupt:
                self.stopped = INTERRUPTED
                record = self._write(plan)
            if record["complete"]:
                ignore_first_signal()
        finally:
            self.close(complete=record["complete"])
        return record

    def close(self, complete: bool = False) -> None:
        """Unlock the folder, unless that is done.  complete: whether the report in it has every row."""
        if not self._closed:
            self._closed = True
            self.journal.close(complete)

    def _write(self, plan: Plan) -> dict[str, Any]:
        self.results = frames.frame(self.rows)
        return write(self.journal.folder, self.results, plan, time.time() - self.started, self.stopped)


def empty_plan(started: str, count: int = 0) -> Plan:
    """The plan of a run about which nothing else is known.  started: ISO 8601 with zone.  count: number of rows."""
    return Plan(RunInfo(planned=count, started=started))


LOST = "the run did not come to its end"
"""Why a report that was written from the journal of a killed run is incomplete."""
UNPLANNED = f"{LOST}, and how many rows it planned is not known"
"""The same, if its journal lacks the plan."""
PLAN_LOST = (UNPLANNED, files.RESTORED)


def recover(folder: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """Write the report of a killed or interrupted run from its journal; return its `run.json`.

    It is complete if every row is there.  Otherwise the journal is kept, so that the run can be resumed.  If the run
    was killed before it had a journal, the previous report is restored.  Journal lines that cannot be
    parsed are skipped, and counted in a warning.  Raises ReportError if no journal has a row, if the run
    is still running, or if the report cannot be written.
    """
    if marked(folder) and not (folder / JOURNAL).exists():
        put_back(folder)
        (folder / MARK).unlink()
        warn(f"{folder}: the last run there ended before it executed anything; this is the report from before")
        return files.read(folder)[1]
    run_is_lost = not os.path.lexists(folder / RUN) or read_run(folder / RUN) == {}
    if run_is_lost and not os.path.lexists(folder / JOURNAL):
        record = files.restore(folder)
        warn(f"{folder}: {files.RESTORED}; the rows are as they were found, and nothing says whether they are whole")
        return record
    content = read_journal(folder)
    ended = (folder / JOURNAL).stat().st_mtime
    journal = Journal.begin(folder, content.started, warn, resume=True)
    try:
        content = journal.resumed or content
        if content.torn:
            warn(torn_lines_message(content))
        if not content.rows:
            message = "no row was finished, so there is nothing to recover"
            raise ReportError(folder, message, "run again")
    except BaseException:
        journal.abandon()
        raise
    try:
        record = write_content(folder, content, ended)
    except BaseException:
        journal.close(complete=False)
        raise
    journal.close(complete=record["complete"])
    return record


def write_content(folder: Path, content: JournalContent, ended: float) -> dict[str, Any]:
    """Write a report from the content of a journal.  ended: seconds since the epoch."""
    rows = PackedRows(content.rows.values())
    plan = content.plan or empty_plan(content.started, len(rows))
    began = datetime.fromisoformat(content.started).timestamp() if content.started else ended
    finished = len(rows) == plan.info.planned
    interrupted = UNPLANNED if content.plan is None else "" if finished else LOST
    return write(folder, frames.frame(rows), plan, max(0.0, ended - began), interrupted)


def _differences(content: JournalContent, plan: Plan) -> Iterator[str]:
    """Why a resumed run may lack rows of the unfinished one, or have additional ones."""
    if content.torn:
        yield torn_lines_message(content)
    before, now = ("" if side is None else side.info.selected for side in (content.plan, plan))
    if before != now:
        yield f"that run had {before or 'no -k'}, this one has {now or 'no -k'}"


def torn_lines_message(content: JournalContent) -> str:
    """A message with the number of journal lines that cannot be parsed."""
    return f"{content.torn} {'line' if content.torn == 1 else 'lines'} of the journal could not be read"


def split_resumed(content: JournalContent, plan: Plan, items: Sequence[Item]) -> tuple[list[Row], list[str], int]:
    """Return the valid rows of an unfinished run, why others are executed again, and the number of rows without an
    item.

    A row is kept if its case, the versions of its framework, of Python and of numpy, and its other inputs
    (the basis of the plan) are the same.
    """
    by_key = {item.key.across_versions(): item for item in items}
    before = content.plan.basis if content.plan is not None else {}
    changed = {name for name in {*before, *plan.basis} if before.get(name) != plan.basis.get(name)}
    rows: list[Row] = []
    repeated: Counter[str] = Counter()
    excluded = 0
    for key, row in content.rows.items():
        item = by_key.get(key)
        if item is None:
            excluded += key.case != "" and key.function != "" and row.status != "unsupported"
            continue
        why = _invalid_reason(row, item, changed)
        if why:
            repeated[why] += 1
        else:
            rows.append(row)
    return rows, [f"{count} rows are executed again: {why}" for why, count in repeated.items()], excluded


def _invalid_reason(row: Row, item: Item, basis: set[str]) -> str:
    """Why a row is no longer valid for its item; "" if it is."""
    installed = item.installed
    if row.key.digest != item.case.digest:
        return "their cases have changed"
    now = {installed.framework.name: installed.version, "Python": installed.python, "numpy": installed.numpy}
    for (name, version), was in zip(now.items(), (row.key.version, row.python, row.numpy), strict=True):
        if was != version:
            return f"they are of {name} {was}, and this is {version}"
    relevant = {"conformance", "ledger", f"adapter of {installed.framework.name}", f"variant of {installed.worker}"}
    if row.status == "timed_out":
        relevant.add("--timeout")
    return f"another {', another '.join(sorted(relevant & basis))}" if relevant & basis else ""


def _basis(ledger: Ledger | None, installed: Iterable[Installed], timeout: float) -> dict[str, str]:
    """The inputs of rows that the rows do not record; see `Plan`."""
    basis = {"conformance": json.dumps(dict(host()), sort_keys=True), "--timeout": f"{timeout:g}"}
    if ledger is not None:
        entries = [replace(entry, path="", line=0) for entry in (*ledger.entries, *ledger.traits_only)]
        basis["ledger"] = hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
    for installation in installed:
        basis[f"variant of {installation.worker}"] = installation.backend
        basis[f"adapter of {installation.framework.name}"] = registry.source_digest(installation.framework)
    return basis


def coverage_line(cases: Sequence[Case]) -> str:
    """A line on the coverage of the known functions' capabilities by the cases."""
    return str(coverage(cases, registry.functions()))


def closing_lines(largest: Iterable[Mapping[str, Any]], coverage: str) -> list[str]:
    """The detailed lines at the end of a run: the largest ratios, and the coverage.

    largest: the entry of `run.json`, or the result of `frames.largest_ratios`.  coverage: result of
    `coverage_line`; "" if only a part of the cases was run, for which the coverage is meaningless.
    """
    entries = sorted((_function_label(row), row["dtype"], f"{row['ratio']:.3f}  {row['case']}") for row in largest)
    lines = ["largest error / budget of what is right:"] if entries else []
    for function, group in itertools.groupby(entries, key=lambda entry: entry[0]):
        lines.append(f"  {function}")
        lines += [f"    {dtype:<8} {text}" for _, dtype, text in group]
    return [*lines, *([coverage] if coverage else [])]


def verdict_line(
    results: pd.DataFrame, planned: int, seconds: float | None = None, failing: Collection[str] = FAILING_ROWS
) -> str:
    """The verdict on a run as a sentence: `nothing unexpected: 12 agree, 3 known; 4 s`.

    For a run that ended early the sentence starts with that, as nothing unexpected is then no verdict.
    results: a `report.frame`.  planned: number of planned rows.  seconds: duration in seconds to
    mention, None to mention none.
    failing: values of `expected` of rows that make the run fail.
    """
    is_failing = results["expected"].isin(failing)
    bad, passing = int(is_failing.sum()), results.loc[~is_failing, ["status", "expected"]]
    counts = passing["status"].mask(passing["expected"] == "known", "known").value_counts()
    words = {"agrees": "agree", "diverges": "diverge as is documented"}
    names = (*STATUSES[:2], "known", *STATUSES[2:])
    numbers = ", ".join(
        f"{counts[name]:,} {words.get(name, name.replace('_', ' '))}" for name in names if name in counts
    )
    verdict = f"{format_count(bad, 'unexpected row')}" if bad else "nothing unexpected"
    if not planned:
        verdict = "no verdict, as nothing was planned"
    elif len(results) != planned:
        begin = "incomplete" if bad else "no verdict"
        verdict = f"{begin}, as {len(results):,} of {planned:,} rows are there; so far {verdict}"
    return f"{verdict}{f': {numbers}' if numbers else ''}{'' if seconds is None else f'; {duration_text(seconds)}'}"


def skipped_line(results: pd.DataFrame) -> str:
    """How many calls were skipped, by function and mode; empty if none was.  results: a `report.frame`."""
    skipped = results[results["reason_code"] == NotCalled.code]
    counts = Counter(zip(skipped["function"], skipped["mode"], strict=True))
    counts_text = "; ".join(
        f"{', '.join([name, *unusual(mode=mode)])}: {count:,}" for (name, mode), count in counts.items()
    )
    return (
        f"{format_count(len(skipped), 'call')} skipped, as others in a row took too long: {counts_text}"
        if counts_text
        else ""
    )


def published_line(record: Mapping[str, Any], cases: Iterable[Case], folder: Path) -> str:
    """The number of published numbers that do not hold, and where they are listed; "" if all hold.

    record: content of `run.json`.  cases: cases that include those that were run.  folder: folder of the report.
    """
    numbers = record.get("published", ())
    wrong = [number["case"] for number in numbers if not number["holds"]]
    if not wrong:
        return ""
    options = "".join(cases_option(case) for case in cases if case.id == wrong[0])
    verb = "does" if len(wrong) == 1 else "do"
    how_many = f"{len(wrong)} of {format_count(len(numbers), 'published number')} {verb} not hold"
    return f"{how_many}: see {folder / 'summary.md'}, or conformance show {options}{wrong[0]}"


def duration_text(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder} s" if minutes else f"{remainder} s"


def _function_label(row: Mapping[str, Any]) -> str:
    return str(row["function"]) if row["quantity"] == "loss" else f"{row['quantity']} of {row['function']}"
