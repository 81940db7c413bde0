"""`conformance fuzz`: cases that nobody wrote, put to every installed function."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from conformance import __version__
from conformance.adapters.contract.calling import perform
from conformance.casefiles import known_issues, writing
from conformance.casefiles.loading import shipped_cases
from conformance.cli.shared import MAX_WIDTH, FrameworkOption, Json, KeywordOption, steps, warn
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.targets import local_pool, performer
from conformance.explore.fuzz import state
from conformance.explore.fuzz.generation import DEFAULT_KINDS, UNUSUAL_KINDS, Limits
from conformance.explore.fuzz.search import Finding, Search, SearchState, restrict_limits, single_threaded
from conformance.explore.fuzz.strategies import check_installed
from conformance.judging.choice import installed_among, wanted
from conformance.model.case import DTYPES
from conformance.model.errors import UserError
from conformance.model.serialization import to_json
from conformance.model.text import truncate

SECONDS = 60.0
"""Duration of a search without --seconds and --cases-count."""
SAVE_SECONDS = 1.0
"""Seconds between two writes of the state file."""


def fuzz(
    seconds: Annotated[
        float | None, typer.Option(min=0.1, metavar="N", help="How long to search; a minute unless given.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--cases-count", min=1, metavar="N", help="How many cases to draw, from the first.")
    ] = None,
    framework: FrameworkOption = None,
    keyword: KeywordOption = "",
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
    available, missing = installed_among(framework or [])
    item_filter = wanted(keyword)
    functions = [function for found in available for function in found.functions]
    limits = restrict_limits(_limits(shape, dtypes or [], edge), functions, item_filter)
    request: state.Request = {
        "suite": __version__,
        "seed": seed,
        "frameworks": {found.framework.name: found.version for found in available},
        "selection": keyword,
        "shape": [limits.samples, limits.classes],
        "dtypes": list(limits.dtypes),
        "kinds": sorted(limits.kinds),
    }
    resumed, findings = (kept is not None and state.read(kept, request)) or (SearchState(), [])
    ledger = known_issues.load(shipped_cases() if cases is None else cases)
    for name in missing:
        warn(f"left out, not installed: {name}")
    with contextlib.ExitStack() as stack:
        perform_call = performer(stack.enter_context(local_pool(available)), available) if isolate else perform
        search = Search(available, ledger, limits, seed, item_filter, perform_call, resumed, findings)

        def save() -> None:
            if kept is not None:
                state.write(kept, request, search.state, search.findings)

        save()
        stack.callback(save)
        interrupted = _search(search, seconds, count, save, lambda finding: _print_finding(finding, folder, as_json))
    if as_json:
        out.write(to_json("fuzz", _facts(search, interrupted)))
    else:
        _print_totals(search)
    for failure in search.state.failures:
        warn(f"not asked: {failure}")
    if interrupted:
        err.print("interrupted")
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


def _search(
    search: Search,
    seconds: float | None,
    count: int | None,
    save: Callable[[], None],
    report: Callable[[Finding], None],
) -> bool:
    """Search until a limit is reached; return whether it was interrupted.

    save: called each second, and before findings are reported.
    """
    limit = SECONDS if seconds is None and count is None else seconds
    began = saved = time.monotonic()
    first, reported, interrupted = search.state.position, 0, False
    try:
        with steps() as show:
            while count is None or search.state.position < count:
                now = time.monotonic()
                if limit is not None and now - began >= limit:
                    break
                if len(search.findings) > reported or now - saved >= SAVE_SECONDS:
                    save()
                    saved = now
                for finding in search.findings[reported:]:
                    report(finding)
                    reported += 1
                rate = (search.state.position - first) / max(now - began, 1e-9)
                show(f"{_headline(search)}, {rate:.0f} cases/s, {now - began:.0f} s")
                search.step()
    except KeyboardInterrupt:
        interrupted = True
    save()
    for finding in search.findings[reported:]:
        report(finding)
    return interrupted


def _headline(search: Search) -> str:
    done = search.state
    known = sum(done.known.values())
    return f"{done.position} cases, {done.rows} rows, {len(search.findings)} findings, {known} rows known"


def _print_finding(finding: Finding, folder: Path | None, as_json: bool) -> None:
    """Print a finding, and write its case file into a folder."""
    file = None if folder is None else writing.save_text(finding.text, folder / finding.path)
    if as_json:
        return
    out.print(f"[bold]found[/] {escape(finding.message)}", soft_wrap=True)
    out.print(escape(finding.text), soft_wrap=True)
    if file is not None:
        out.print(f"written: {escape(str(file))}\n", soft_wrap=True)


def _print_totals(search: Search) -> None:
    done = search.state
    for finding in search.findings:
        again = done.again[finding.case]
        more = f", {again} rows more" if again else ""
        out.print(escape(f"{finding.case}: {finding.function} {finding.mark}{more}"), soft_wrap=True)
    for entry, rows in done.known.most_common():
        out.print(f"known: {rows} rows, {escape(truncate(entry, MAX_WIDTH))}", soft_wrap=True)
    rate = done.position / done.seconds if done.seconds else 0
    out.print(f"{_headline(search)}; {done.cases} cases were asked; {rate:.0f} cases/s; seed {search.seed}")


def _facts(search: Search, interrupted: bool) -> dict[str, Any]:
    done = search.state
    fields = ("function", "version", "mark", "traits", "case", "position", "row")
    return {
        "seed": search.seed,
        "position": done.position,
        "cases": done.cases,
        "rows": done.rows,
        "seconds": round(done.seconds, 3),
        "interrupted": interrupted,
        "known": dict(done.known),
        "failures": done.failures,
        "findings": [
            {
                **{name: getattr(finding, name) for name in fields},
                "again": done.again[finding.case],
                "yaml": finding.text,
            }
            for finding in search.findings
        ],
    }
