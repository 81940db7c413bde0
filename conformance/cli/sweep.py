"""`conformance sweep`: every value of a narrow dtype, and a grid or all of a wide one, put to a function at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import report
from conformance.adapters import registry
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.cli.shared import CasesOption, Json, print_failures, progress, warn
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore.sweep import long_means, rendering, runner, table
from conformance.explore.sweep.runner import Job, SweepRequest
from conformance.judging.case_set import load_suite
from conformance.judging.choice import one_of
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, INPUT_KINDS
from conformance.model.serialization import to_json


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
    request = SweepRequest(dtypes, kinds, labels, exhaustive, pairs)
    _check(request, means, state)
    jobs, left_out = runner.plan(registry.installed()[0], _wanted(function), request)
    if folder is not None:
        report.check_writable(folder)
    for why in left_out:
        warn(f"left out: {why}")
    if not jobs:
        raise SelectionError(
            "nothing of what is asked for is there to be swept; `conformance list functions` says what is"
        )
    began = time.time()
    outcome = _Outcome()
    try:
        if means:
            outcome.sweep_means(jobs, ledger)
        else:
            outcome.sweep_inputs(jobs, ledger, state, _processes(processes, jobs))
    except KeyboardInterrupt:
        outcome.interrupted = True
    complete = not (outcome.interrupted or outcome.failures)
    about = {"asked": function, "seconds": round(time.time() - began, 3), "complete": complete}
    if as_json:
        out.write(to_json("sweep", rendering.document(outcome.regions, outcome.means, about)))
    else:
        for piece in rendering.terminal(outcome.regions, outcome.means):
            out.print(piece)
            out.print()
    if folder is not None:
        rendering.write(folder, outcome.regions, outcome.means, about)
        err.print(f"report: {escape(str(folder))}", soft_wrap=True)
    _finish(outcome.regions, outcome.means, outcome.failures)
    raise typer.Exit(_status(outcome, state))


@dataclass
class _Outcome:
    """The result of a sweep, complete or not."""

    regions: list[table.RegionRow] = field(default_factory=list)
    means: list[table.RegionRow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Messages of what could not be executed."""
    interrupted: bool = False

    def sweep_means(self, jobs: list[Job], ledger: Ledger) -> None:
        """Execute means of many lengths."""
        with progress(len(jobs) * len(long_means.LENGTHS)) as advance:
            for subject in (job.subject for job in jobs):
                if "mean" in subject.function.reductions:
                    for line in long_means.mean_lines(subject.installed, subject.name, subject.family, ledger):
                        self.means.append(line)
                        advance(_label(subject.key))

    def sweep_inputs(self, jobs: list[Job], ledger: Ledger, state: Path | None, processes: int) -> None:
        """Execute all inputs; keeps what was done if it is interrupted."""
        kept = runner.load_state(state, jobs)
        try:
            with progress(sum(job.inputs(unit) for job in jobs for unit in range(job.units))) as advance:
                self.failures = runner.sweep(jobs, kept, processes, lambda key, count: advance(_label(key), count))
        finally:
            self.regions = [
                line for job in jobs for line in table.region_lines(job, kept.regions.get(job.key, {}), ledger)
            ]


def _status(outcome: _Outcome, state: Path | None) -> int:
    """The exit status; says how to go on after an interruption."""
    if outcome.interrupted:
        where = f"; go on with --state {state}" if state else "; --state FILE would have kept it"
        err.print(f"interrupted{escape(where)}", soft_wrap=True)
        return INTERRUPTED
    if outcome.failures:
        return USAGE
    return UNEXPECTED if table.failing([*outcome.regions, *outcome.means]) else 0


def _check(request: SweepRequest, means: bool, state: Path | None) -> None:
    """Raise SelectionError if options contradict each other."""
    if request.exhaustive and request.dtypes == ("float64",):
        raise SelectionError("--exhaustive --dtype float64: it has 2^64 values; leave --exhaustive out for a sample")
    if means and (request.exhaustive or request.pairs or request.labels or state):
        raise SelectionError("--lengths goes with --dtype and --given only: it asks means and no single inputs")


def _wanted(names: list[str]) -> Callable[[str], bool]:
    """A predicate for names of functions. Raises SelectionError if one of `names` matches none."""
    known = [function.name for function in registry.functions()]
    globs = [KnownIssue(case="", function=name) for name in names]
    for glob in globs:
        if not any(map(glob.matches_function, known)):
            raise SelectionError(f"{glob.function}: there is no such function; there are {', '.join(known)}")
    return lambda name: any(glob.matches_function(name) for glob in globs)


def _processes(requested: int, jobs: list[Job]) -> int:
    if requested:
        return requested
    return (os.cpu_count() or 1) if any(job.by_unit for job in jobs) else 1


def _label(key: str) -> str:
    return key.replace("|sweep/", " ").replace("|", " ")


def _finish(found: list[table.RegionRow], means: list[table.RegionRow], failures: list[str]) -> None:
    if found:
        counts = ", ".join(f"{count} {status}" for status, count in table.totals(found).items() if count)
        err.print(f"{sum(line['count'] for line in found)} inputs in {len(found)} regions: {counts}", soft_wrap=True)
    for line in table.failing([*found, *means]):
        what = f"{line['function']} {line['dtype']} {line['case']}: {line.get('why') or line.get('explanation') or ''}"
        err.print(f"[bold]{line['expected']}[/] {escape(what)}", soft_wrap=True)
        if line["call"]:
            err.print(f"    {escape(line['call'])}", soft_wrap=True)
    print_failures(failures)
