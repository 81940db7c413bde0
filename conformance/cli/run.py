"""`conformance run`: the main job."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from conformance import comparison, report
from conformance.cli import github, staging
from conformance.cli.execution import Execution, say
from conformance.cli.failing import failures, places, workflow_commands
from conformance.cli.shared import FAILURES, CasesOption, Json
from conformance.cli.staging import Corpus
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.comparison.alignment import counted
from conformance.comparison.comparing import opened
from conformance.execution.interruption import INTERRUPTED
from conformance.execution.marking import FOLDER
from conformance.execution.running import NotAsked
from conformance.execution.workers.crew import TIMEOUT
from conformance.judging.selection import compiled, substring_of
from conformance.judging.suite import Row, id_of, load_suite, reproducer_of
from conformance.judging.unasked import unasked, unasked_lines
from conformance.model.case import Case
from conformance.model.errors import UserError
from conformance.power.harvest.case_set import load_harvest
from conformance.report import recording

SURPRISES = 20
"""Unexpected rows, and known discrepancies, that are shown one by one."""


def run(
    cases: CasesOption = None,
    folder: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the report goes.")] = FOLDER,
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only items whose id matches, as in pytest.")
    ] = "",
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            show_default="as processors and memory allow",
            help="How many processes judge, each beside those that make its calls.",
        ),
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Make each framework's calls in a process of its own, as is the default.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Make all calls in this process, for debugging; a crash ends the run.")
    ] = False,
    environments: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="REQUIREMENTS",
            help="Run in an environment made of these requirements, or in that of an interpreter, a venv or a "
            "requirements file; may be repeated.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option("--on", metavar="ENGINE", help="Where --with runs: ray, or a cluster's address, ray://HOST:PORT."),
    ] = "",
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="REPORT", help="An accepted report: only what got worse against it counts."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="What a call may take in a process of its own.")
    ] = TIMEOUT,
    harvest: Annotated[
        bool,
        typer.Option(
            "--harvest",
            help="Run the cases of `conformance harvest`, instead of the shipped ones or beside those of --cases.",
        ),
    ] = False,
    sources: Annotated[
        list[str] | None, typer.Option("--source", metavar="SOURCE", help="Harvest this one only; may be repeated.")
    ] = None,
    sarif_file: Annotated[
        Path | None,
        typer.Option(
            "--sarif", metavar="FILE", help="Write what makes the run fail there, too, as SARIF for code scanning."
        ),
    ] = None,
    comment_file: Annotated[
        Path | None,
        typer.Option("--comment", metavar="FILE", help="Write a comment for a pull request there, too, as Markdown."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted or killed run into the same folder: ask only what is missing.",
        ),
    ] = False,
    strict_known: Annotated[
        bool, typer.Option("--strict-known", help="What the ledger knows makes the run fail, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put every case to every installed function and write the discrepancy report.

    Interrupted by Ctrl-C, SIGTERM or SIGHUP, it writes the report of what was done and ends with status 130.
    """
    started = time.time()
    if environments and (processes or 1) > 1:
        raise UserError("-n and --with do not go together: every environment is a process of its own already")
    if in_process and (isolate or environments or (processes or 1) > 1):
        raise UserError("--in-process makes all calls in one process: leave out --isolate, --with and -n")
    if engine and not environments:
        raise UserError("--on runs environments that are made there: say with --with what they are to hold")
    if engine and engine != "ray" and not engine.startswith("ray://"):
        raise UserError(f"--on {engine}: there is ray, for RAY_ADDRESS or this machine, and ray://HOST:PORT")
    accepted = None if baseline is None else opened(baseline)[0]
    ended = Execution(report.Journal.begin(folder, recording.moment(started), say, resume=resume))

    def execute() -> None:
        if sarif_file is not None:
            _put("--sarif", sarif_file, report.sarif([], places([]), ["the run did not come to its end"]))
        if comment_file is not None:
            _put("--comment", comment_file, f"{report.marker(folder.name)}\nThe run did not come to its end.\n")
        ended.corpus = _corpus(cases, sources or [], harvest or bool(sources))
        with contextlib.ExitStack() as stack:
            if environments:
                address = "" if engine == "ray" else engine
                stage_of = functools.partial(staging.on_ray, address) if engine else staging.in_environments
                with err.status("") as status:
                    ended.stage = stage_of(
                        stack,
                        ended.corpus,
                        environments,
                        framework or [],
                        timeout,
                        lambda line: status.update(escape(line)),
                    )
            else:
                ended.stage = staging.here(ended.corpus, framework or [], processes, in_process, timeout)
            ended.make(started, keyword, timeout)

    ended.run(execute)
    results = report.frame(ended.rows)
    record = ended.write(results, started)
    rows, not_asked, stopped = ended.rows, ended.not_asked, ended.stopped
    known = [] if ended.corpus is None else ended.corpus.cases
    harvested = ended.corpus is not None and ended.corpus.harvested
    check = None
    if accepted is not None and record["complete"]:
        check = comparison.check(accepted, results, _asked(ended, keyword), str(baseline))
    if as_json:
        out.facts("run", _facts(rows, results, record["planned"], folder, stopped, not_asked, check))
    else:
        partly = keyword or framework or harvested
        _finish(
            rows,
            results,
            record if not partly else {**record, "coverage": ""},
            folder,
            ended.corpus.cases if ended.corpus else (),
            strict_known,
            list_known=cases is not None,
            narrowed=bool(framework),
        )
    found = list(failures(rows, check, strict_known))
    github.tell(workflow_commands(found, known), aside=as_json)
    if sarif_file is not None:
        notes = [f"{one.row['environment']}: {one.why}" for one in found if not one.row["case"]]
        notes += [*map(str, not_asked), *([stopped] if stopped else [])]
        about = [one for one in found if one.row["case"]]
        _put("--sarif", sarif_file, report.sarif(about, places(known), notes))
    if comment_file is not None:
        said = [] if check is None else check.lines()
        info = report.RunInfo.of(record)
        _put("--comment", comment_file, report.comment(results, info, found, said, folder.name))
    for failure in not_asked[:FAILURES]:
        err.print(f"not asked: {escape(str(failure))}", soft_wrap=True)
    if not record["complete"]:
        more = f"{stopped}; " if stopped else ""
        more += f"{len(not_asked)} could not be asked; " if not_asked else ""
        say(f"{more}{len(rows)} of {record['planned']} rows are in the report, which is marked incomplete")
        if rows:
            say("the same command with --resume asks only what is missing")
        if ended.failure is not None:
            raise ended.failure
        raise typer.Exit(INTERRUPTED if stopped else USAGE)
    if check is not None:
        for line in () if as_json else check.lines():
            out.print(escape(line), soft_wrap=True)
    if not ended.items:
        say("no function that is asked can take any of the cases; the report says why")
        raise typer.Exit(USAGE)
    raise typer.Exit(UNEXPECTED if found else 0)


def _asked(ended: Execution, keyword: str) -> comparison.Asked:
    """What of a baseline the run speaks for."""
    assert ended.corpus is not None
    assert ended.stage is not None
    chosen = compiled(keyword) if keyword else None
    names = {item.id for item in ended.items}
    everything = not ended.corpus.harvested
    return comparison.Asked(
        frozenset(there.framework.name for there in ended.stage.there),
        lambda _, name: (chosen is None or chosen(substring_of(name))) and (everything or name in names),
        suite={(case.id, *of) for case in ended.corpus.cases for of in itertools.product(case.dtypes, case.reductions)},
    )


def _facts(
    rows: list[Row],
    results: pd.DataFrame,
    planned: int,
    written: Path,
    stopped: str,
    not_asked: list[NotAsked],
    check: comparison.Check | None,
) -> dict[str, Any]:
    """How a run ended: where its report is, how many rows of which kind, and every row that is not as it should be."""
    counted = {name: {str(key): int(count) for key, count in results[name].value_counts().items()}
               for name in ("status", "expected")}  # fmt: skip
    return {
        "report": str(written),
        "planned": planned,
        "finished": len(rows),
        "interrupted": stopped,
        **counted,
        "unexpected": [row for row in rows if row["expected"] in ("unexpected", "stale")],
        "known": [row for row in rows if row["expected"] == "known"],
        "not_asked": list(map(str, not_asked)),
        "unsupported": [row for row in rows if row["status"] == "unsupported"],
        "baseline": None if check is None else {"ok": check.ok, "said": check.lines()},
    }


def _put(option: str, file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{option} {file}: cannot be written ({error.strerror}); name another file") from error


def _corpus(folder: Path | None, sources: list[str], harvest: bool) -> Corpus:
    if not harvest:
        return Corpus(folder, *load_suite(folder))
    with err.status("") as status:
        found, ledger, made = load_harvest(sources, folder, told=lambda line: status.update(escape(line)))
    for left_out in made.missing:
        err.print(f"left out: {escape(left_out)}", soft_wrap=True)
    return Corpus(folder, found, ledger, harvested=True)


def _finish(
    rows: list[Row],
    results: pd.DataFrame,
    record: dict[str, Any],
    written: Path,
    cases: Sequence[Case],
    strict_known: bool,
    *,
    list_known: bool,
    narrowed: bool,
) -> None:
    """Print how a run ended.

    record: what its `run.json` says.  strict_known: known rows fail and are printed as unexpected ones are.
    list_known: print the others, too, one for each discrepancy.  narrowed: whether --framework was given.
    """
    surprising = [row for row in rows if row["expected"] in ("unexpected", "stale")]
    known = [row for row in rows if row["expected"] == "known"]
    surprising += known if strict_known else []
    for row in surprising[:SURPRISES]:
        _print_row(row, cases)
    if len(surprising) > SURPRISES:
        out.print(f"and {len(surprising) - SURPRISES} more, in discrepancies.csv")
    if list_known and not strict_known:
        discrepancies = Counter((row["framework"], row["known"]) for row in known)
        first = {(row["framework"], row["known"]): row for row in reversed(known)}
        for key, count in itertools.islice(discrepancies.items(), SURPRISES):
            _print_row(first[key], cases, f", and {counted(count - 1)} more" if count > 1 else "")
        if len(discrepancies) > SURPRISES:
            out.print(f"and {len(discrepancies) - SURPRISES} more known discrepancies, in discrepancies.csv")
    if rows:
        out.print(report.status_table(results))
        said = (record[name] for name in ("largest", "finished", "planned", "coverage"))
        for line in recording.closing_lines(*said):
            out.print(Text(line))
    for line in unasked_lines(unasked(rows), narrowed=narrowed):
        out.print(Text(line), soft_wrap=True)
    out.print(f"report: {written}", soft_wrap=True)


def _print_row(row: Row, cases: Sequence[Case], more: str = "") -> None:
    name, why = _headline(row)
    call = reproducer_of(row, cases)
    out.print(f"[bold]{row['expected']}[/] {escape(name)}{more}", soft_wrap=True)
    out.print(Padding(Text(why), (0, 0, 0, 4)))
    if call:
        out.print(f"    {escape(call)}", soft_wrap=True)


def _headline(row: Row) -> tuple[str, str]:
    """(what a row is of, why it is unexpected or known)."""
    if not row["case"]:
        return row["environment"], row["explanation"]
    return f"{id_of(row)} ({row['version']})", row["known"] if row["expected"] == "known" else row["explanation"]
