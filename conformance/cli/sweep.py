"""`conformance sweep`: every value of a narrow dtype, and a grid or all of a wide one, put to a function at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from conformance import report
from conformance.adapters import registry
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.cli.shared import FAILURES, CasesOption, Json
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.sweep import long_means, rendering, runner, table
from conformance.explore.sweep.runner import Job, ProgressCallback, SweepRequest
from conformance.judging.choice import one_of
from conformance.judging.judge import load_suite
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, INPUT_KINDS


def sweep(
    function: Annotated[
        list[str], typer.Argument(metavar="FUNCTION...", help="As `list functions` prints it; * stands for anything.")
    ],
    dtype: Annotated[
        list[str] | None,
        typer.Option("--dtype", metavar="|".join(DTYPES), help="Only this dtype; may be repeated."),
    ] = None,
    input_kind: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="|".join(INPUT_KINDS), help="Only this kind of input; may be repeated."),
    ] = None,
    label: Annotated[int | None, typer.Option("--label", min=0, max=1, help="Only this label.")] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Every float32, not a sample; minutes. float64 is left out.")
    ] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also shift both logits of a pair, which changes no loss.")
    ] = False,
    means: Annotated[bool, typer.Option("--lengths", help="Instead, means of 10 to 10^7 losses.")] = False,
    processes: Annotated[
        int, typer.Option("-n", min=0, help="How many processes share an exhaustive sweep; all cores unless given.")
    ] = 0,
    folder: Annotated[
        Path | None, typer.Option("--report", "--save", metavar="DIR", help="Where sweep.json, .csv and .md go.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="Keeps what is done, and goes on from it.")
    ] = None,
    as_json: Json = False,
    cases: CasesOption = None,
) -> None:
    """Where does a function err, and by how much? Its loss for every input at once, region by region."""
    _, ledger = load_suite(cases)
    table.check_ledger(ledger)
    labels = () if label is None else (label,)
    dtypes = tuple(one_of("--dtype", name, DTYPES) for name in dtype or ())
    kinds = tuple(one_of("--given", name, INPUT_KINDS) for name in input_kind or ())
    wish = SweepRequest(dtypes, kinds, labels, exhaustive, pairs)
    _check(wish, means, state)
    jobs, left_out = runner.plan(registry.installed()[0], _wanted(function), wish)
    if folder is not None:
        report.check_writable(folder)
    for why in left_out:
        err.print(f"left out: {escape(why)}", soft_wrap=True)
    if not jobs:
        raise SelectionError(
            "nothing of what is asked for is there to be swept; `conformance list functions` says what is"
        )
    began = time.time()
    found = _Found()
    try:
        if means:
            found.ask_means(jobs, ledger)
        else:
            found.ask_inputs(jobs, ledger, state, _processes(processes, jobs))
    except KeyboardInterrupt:
        found.stopped = True
    complete = not (found.stopped or found.failures)
    about = {"asked": function, "seconds": round(time.time() - began, 3), "complete": complete}
    if as_json:
        out.facts("sweep", rendering.document(found.lines, found.means, about))
    else:
        for piece in rendering.terminal(found.lines, found.means):
            out.print(piece)
            out.print()
    if folder is not None:
        rendering.write(folder, found.lines, found.means, about)
        err.print(f"report: {escape(str(folder))}", soft_wrap=True)
    _finish(found.lines, found.means, found.failures)
    raise typer.Exit(_status(found, state))


@dataclass
class _Found:
    """What a sweep found.

    lines: of regions.  means: of means.  failures: what could not be asked.  stopped: whether it was interrupted.
    """

    lines: list[table.RegionRow] = field(default_factory=list)
    means: list[table.RegionRow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    def ask_means(self, jobs: list[Job], ledger: Ledger) -> None:
        """Put means of many lengths to functions."""
        with _progress(len(jobs) * len(long_means.LENGTHS)) as advance:
            for subject in (job.subject for job in jobs):
                if "mean" in subject.function.reductions:
                    for line in long_means.mean_lines(subject.installed, subject.name, subject.family, ledger):
                        self.means.append(line)
                        advance(subject.key, 1)

    def ask_inputs(self, jobs: list[Job], ledger: Ledger, state: Path | None, processes: int) -> None:
        """Put single inputs to functions; what was done is there after an interruption, too."""
        kept = runner.load_state(state, jobs)
        try:
            with _progress(sum(job.inputs(unit) for job in jobs for unit in range(job.units))) as advance:
                self.failures = runner.sweep(jobs, kept, processes, advance)
        finally:
            self.lines = [
                line for job in jobs for line in table.region_lines(job, kept.regions.get(job.key, {}), ledger)
            ]


def _status(found: _Found, state: Path | None) -> int:
    """The exit status; says how to go on after an interruption."""
    if found.stopped:
        where = f"; go on with --state {state}" if state else "; --state FILE would have kept it"
        err.print(f"interrupted{escape(where)}", soft_wrap=True)
        return INTERRUPTED
    if found.failures:
        return USAGE
    return UNEXPECTED if table.failing([*found.lines, *found.means]) else 0


def _check(wish: SweepRequest, means: bool, state: Path | None) -> None:
    """Raise SelectionError where options do not go together."""
    if wish.exhaustive and wish.dtypes == ("float64",):
        raise SelectionError("--exhaustive --dtype float64: it has 2^64 values; leave --exhaustive out for a sample")
    if means and (wish.exhaustive or wish.pairs or wish.labels or state):
        raise SelectionError("--lengths goes with --dtype and --given only: it asks means and no single inputs")


def _wanted(names: list[str]) -> Callable[[str], bool]:
    """Says of a function whether it is meant; every name must be one, or a glob that has some."""
    there = [function.name for function in registry.functions()]
    globs = [KnownIssue(case="", function=name) for name in names]
    for glob in globs:
        if not any(map(glob.matches_function, there)):
            raise SelectionError(f"{glob.function}: there is no such function; there are {', '.join(there)}")
    return lambda name: any(glob.matches_function(name) for glob in globs)


def _processes(asked: int, jobs: list[Job]) -> int:
    if asked:
        return asked
    return (os.cpu_count() or 1) if any(job.by_unit for job in jobs) else 1


@contextlib.contextmanager
def _progress(total: int) -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(what: str, count: int) -> None:
            progress.update(task, advance=count, description=escape(what.replace("|sweep/", " ").replace("|", " ")))

        yield advance


def _finish(found: list[table.RegionRow], means: list[table.RegionRow], failures: list[str]) -> None:
    if found:
        counts = ", ".join(f"{count} {status}" for status, count in table.totals(found).items() if count)
        err.print(f"{sum(line['count'] for line in found)} inputs in {len(found)} regions: {counts}", soft_wrap=True)
    for line in table.failing([*found, *means]):
        what = f"{line['function']} {line['dtype']} {line['case']}: {line.get('why') or line.get('explanation') or ''}"
        err.print(f"[bold]{line['expected']}[/] {escape(what)}", soft_wrap=True)
        if line["call"]:
            err.print(f"    {escape(line['call'])}", soft_wrap=True)
    for failure in failures[:FAILURES]:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
