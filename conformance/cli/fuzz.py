"""`conformance fuzz`: cases that nobody wrote, put to every installed function."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from conformance import __version__
from conformance.adapters.contract import perform
from conformance.adapters.registry import Installed
from conformance.casefiles import known_issues, writing
from conformance.casefiles.loading import shipped_cases
from conformance.cli.shared import Json, shortened
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.targets import local_pool, performer
from conformance.explore.fuzz import state
from conformance.explore.fuzz.generation import DEFAULT_KINDS, UNUSUAL_KINDS, Limits
from conformance.explore.fuzz.search import Finding, Search, SearchState, restrict_limits, single_threaded
from conformance.explore.fuzz.strategies import check_installed
from conformance.judging.choice import installed_among
from conformance.judging.selection import compiled, substring_of
from conformance.model.case import DTYPES
from conformance.model.errors import UserError

SECONDS = 60.0
"""How long a search lasts where nothing says it."""
KEPT_EVERY = 1.0
"""Seconds after which the state is written again."""


def fuzz(
    seconds: Annotated[
        float | None, typer.Option(min=0.1, metavar="N", help="How long to search; a minute unless given.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--cases-count", min=1, metavar="N", help="How many cases to draw, from the first.")
    ] = None,
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only items whose id matches, as in pytest.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same cases.")] = 0,
    folder: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Write what is found as case files below DIR/fuzz.")
    ] = None,
    dtypes: Annotated[list[str] | None, typer.Option("--dtype", help="Only this dtype; may be repeated.")] = None,
    shape: Annotated[
        str, typer.Option("--max-shape", metavar="NxC", help="The most samples and the most classes.")
    ] = "8x5",
    edge: Annotated[
        bool, typer.Option("--edge", help="Draw nan and infinite weights, too, and numbers whose sums overflow.")
    ] = False,
    kept: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="Keep the search there, and go on with it.")
    ] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Make the calls in processes that may die.")] = False,
    cases: Annotated[
        Path | None, typer.Option("--cases", metavar="DIR", help="Case folder whose ledger counts; the shipped one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw cases at random, put them to every installed function, and shrink what is wrong to the smallest case.

    Exit status 1 where something was found that the ledger does not know.
    """
    check_installed()
    single_threaded()
    here, missing = installed_among(framework or [])
    ledger = known_issues.load(shipped_cases() if cases is None else cases)
    selection = compiled(keyword) if keyword else None
    wanted = None if selection is None else lambda _, name: selection(substring_of(name))
    limits = restrict_limits(_limits(shape, dtypes or [], edge), [f for there in here for f in there.functions], wanted)
    asked = _asked(seed, here, limits, keyword)
    tally, findings = (kept is not None and state.read(kept, asked)) or (SearchState(), [])
    for left_out in missing:
        err.print(f"left out, not installed: {left_out}")
    stopped = False
    with contextlib.ExitStack() as stack:
        calls = performer(stack.enter_context(local_pool(here)), here) if isolate else perform
        search = Search(here, ledger, limits, seed, wanted, calls, tally, findings)
        keep = _keeper(kept, asked, search)
        stack.callback(keep)
        for finding in findings:
            _tell(finding, folder, as_json)
        told = len(findings)
        try:
            for _ in _steps(search, seconds, count, keep):
                for finding in search.findings[told:]:
                    keep()
                    _tell(finding, folder, as_json)
                told = len(search.findings)
        except KeyboardInterrupt:
            stopped = True
            for finding in search.findings[told:]:
                _tell(finding, folder, as_json)
    _finish(search, as_json, stopped)
    if stopped:
        raise typer.Exit(INTERRUPTED)
    if search.state.failures:
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if search.findings else 0)


def _limits(shape: str, dtypes: list[str], edge: bool) -> Limits:
    size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", shape)
    if size is None or max(map(int, size.groups())) > 1000:
        raise UserError(f"--max-shape {shape}: write samples and classes, up to 1000 each, as in 8x5")
    for name in dtypes:
        if name not in DTYPES:
            raise UserError(f"--dtype {name}: there is no such dtype; there are {', '.join(DTYPES)}")
    samples, classes = map(int, size.groups())
    chosen = tuple(name for name in DTYPES if name in dtypes) or DTYPES
    return Limits(samples, classes, chosen, UNUSUAL_KINDS if edge else DEFAULT_KINDS)


def _asked(seed: int, here: list[Installed], limits: Limits, keyword: str) -> state.Request:
    return {
        "suite": __version__,
        "seed": seed,
        "frameworks": {there.framework.name: there.version for there in here},
        "selection": keyword,
        "shape": [limits.samples, limits.classes],
        "dtypes": list(limits.dtypes),
        "kinds": sorted(limits.kinds),
    }


def _keeper(path: Path | None, asked: state.Request, search: Search) -> Callable[[], None]:
    """Writes the state, where one is wanted."""
    if path is None:
        return lambda: None
    state.write(path, asked, search.state, search.findings)
    return lambda: state.write(path, asked, search.state, search.findings)


def _steps(search: Search, seconds: float | None, count: int | None, keep: Callable[[], None]) -> Iterator[None]:
    """One step after another until there were enough of them."""
    limit = SECONDS if seconds is None and count is None else seconds
    began = written = time.monotonic()
    first = search.state.position
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("")
        shown = 0.0
        while count is None or search.state.position < count:
            now = time.monotonic()
            if limit is not None and now - began >= limit:
                return
            if now - written >= KEPT_EVERY:
                keep()
                written = now
            if now - shown >= 0.1:
                rate = (search.state.position - first) / max(now - began, 1e-9)
                progress.update(
                    task, description=f"{_headline(search.state, len(search.findings))}, {rate:.0f} cases/s"
                )
                shown = now
            search.step()
            yield


def _headline(tally: SearchState, findings: int) -> str:
    return f"{tally.position} cases, {tally.rows} rows, {findings} findings, {sum(tally.known.values())} rows known"


def _tell(finding: Finding, folder: Path | None, as_json: bool) -> None:
    """Print a finding where it can be pasted from, and write its file where one is wanted."""
    where = None if folder is None else writing.save_text(finding.text, folder / finding.path)
    if as_json:
        return
    out.print(f"[bold]found[/] {escape(finding.message)}", soft_wrap=True)
    out.print(escape(finding.text), soft_wrap=True)
    if where is not None:
        out.print(f"written: {escape(str(where))}\n", soft_wrap=True)


def _finish(search: Search, as_json: bool, stopped: bool) -> None:
    tally = search.state
    if as_json:
        out.facts("fuzz", _facts(search, stopped))
    else:
        for finding in search.findings:
            again = tally.again[finding.case]
            more = f", {again} rows more" if again else ""
            out.print(
                f"{escape(finding.case)}: {escape(finding.function)} {escape(finding.mark)}{more}", soft_wrap=True
            )
        for entry, rows in tally.known.most_common():
            out.print(f"known: {rows} rows, {escape(shortened(entry))}", soft_wrap=True)
        rate = tally.position / tally.seconds if tally.seconds else 0
        seed = f"seed {search.seed}"
        out.print(
            f"{_headline(tally, len(search.findings))}; {tally.cases} cases were asked; {rate:.0f} cases/s; {seed}"
        )
    for failure in tally.failures:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
    if stopped:
        err.print("interrupted")


def _facts(search: Search, stopped: bool) -> dict[str, Any]:
    tally = search.state
    return {
        "seed": search.seed,
        "position": tally.position,
        "cases": tally.cases,
        "rows": tally.rows,
        "seconds": round(tally.seconds, 3),
        "interrupted": stopped,
        "known": dict(tally.known),
        "failures": tally.failures,
        "findings": [
            {
                "function": finding.function,
                "version": finding.version,
                "mark": finding.mark,
                "traits": list(finding.traits),
                "case": finding.case,
                "position": finding.position,
                "again": tally.again[finding.case],
                "yaml": finding.text,
                "row": finding.row,
            }
            for finding in search.findings
        ],
    }
