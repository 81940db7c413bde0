"""`conformance mutants` and `harvest`: measure what cases detect, and read cases from the tests of other projects."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from conformance import api
from conformance.cli.shared import Printer, print_stderr
from conformance.cli.terminal import UNEXPECTED, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.model.errors import UserError
from conformance.model.text import format_count
from conformance.power.mutants.score import FalseAlarm

MAX_ALARMS = 10
"""Maximum number of false alarms that are printed."""


def mutants(
    cases: Path | None,
    families: Sequence[str],
    keyword: str,
    processes: int,
    kills: bool,
    listed: bool,
    right: bool,
    generated: int,
    seed: int,
    as_json: bool,
) -> None:
    if generated and not right:
        raise UserError("--generated goes with --right: correct implementations are called with random cases")
    if right and families:
        raise UserError("--family and --right do not go together: families are of faulty implementations")
    if generated and cases is not None:
        raise UserError("--generated and --cases do not go together: cases are drawn, or those of a folder")
    if listed:
        out.print_result(api.list_mutants(families, keyword, right), _list, as_json)
    elif right:
        _check_correct(cases, keyword, processes, generated, seed, as_json)
    else:
        _score(api.mutants(cases, families, keyword, processes, Printer()), kills, as_json)


def _list(listed: api.MutantList) -> None:
    for mutant in listed.mutants:
        out.print(f"[bold]{mutant.family}.{mutant.name}[/]  {escape(mutant.fault)}")
    out.print(f"{len(listed.mutants)} in all")


def _score(score: api.MutationResult, kills: bool, as_json: bool) -> None:
    out.print_result(score, lambda outcome: _print_score(outcome, kills), as_json)
    if score.undecided:
        err.print(f"interrupted; {score.undecided} of {len(score.results) + score.undecided} mutants are not decided")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(UNEXPECTED if score.survivors else 0)


def _print_score(score: api.MutationResult, kills: bool) -> None:
    if kills:
        for result in score.results:
            for kill in result.kills[:1]:
                out.print(f"[bold]{result.family}.{result.name}[/]  {escape(result.fault)}", soft_wrap=True)
                out.print(f"    {escape(kill.item)}: {escape(kill.message)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("family")
    table.add_column("killed", justify="right")
    table.add_column("of", justify="right")
    for family, (killed, total) in score.families().items():
        table.add_row(family, str(killed), str(total))
    table.add_row("all", str(score.killed), str(len(score.results)))
    out.print(table)
    if only_killers := score.alone():
        out.print("cases that alone kill a mutant:")
        for case, names in only_killers.items():
            out.print(f"  {case}  {', '.join(names)}", soft_wrap=True)
    if score.survivors:
        out.print("survivors:")
        for result in score.survivors:
            out.print(f"  [bold]{result.family}.{result.name}[/]  {escape(result.fault)}", soft_wrap=True)


def _check_correct(cases: Path | None, keyword: str, processes: int, generated: int, seed: int, as_json: bool) -> None:
    printed = itertools.count()

    def print_alarm(alarm: FalseAlarm) -> None:
        if not as_json and next(printed) < MAX_ALARMS:
            out.print(f"[bold]false alarm[/] {escape(alarm.message)}", soft_wrap=True)
            out.print(escape(alarm.text), soft_wrap=True)

    result = api.check_correct(cases, keyword, processes, generated, seed, print_alarm, Printer())
    if as_json:
        out.write(result.to_json())
    else:
        for name, count in Counter(alarm.name for alarm in result.alarms).items():
            out.print(f"{name}: {format_count(count, 'false alarm')}")
        seed_text = f" of seed {seed}" if generated else ""
        subject = f"{format_count(result.cases, 'case')}{seed_text}, {format_count(result.items, 'item')}"
        out.print(f"{subject}: {format_count(len(result.alarms) or 'no', 'false alarm')}")
    if result.interrupted:
        err.print(f"interrupted after {result.cases_run} of {result.planned} cases")
        raise typer.Exit(INTERRUPTED)
    if not result.items:
        raise UserError("nothing was executed: these implementations support none of the cases")
    raise typer.Exit(UNEXPECTED if result.alarms else 0)


def harvest(
    folder: Path | None,
    as_json: bool,
    **request: Any,
) -> None:
    result = api.harvest(folder=folder, observer=Printer(), **request)
    out.print_result(result, _print_harvest, as_json)
    for name in result.harvests.missing:
        print_stderr(f"left out: {name}")
    if folder is not None:
        cases, files = format_count(len(result.harvests.cases), "case"), format_count(len(result.files), "file")
        print_stderr(f"{cases} in {files} below {folder}")
    result.harvests.or_raise()
    raise typer.Exit(UNEXPECTED if any(map(result.wrong, result.statements)) else 0)


def _print_harvest(result: api.HarvestResult) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "version"):
        table.add_column(heading, no_wrap=True)
    for heading in ("found", "cases", "again", "unsaid", "stated", "hold", "by conv.", "do not"):
        table.add_column(heading, justify="right", no_wrap=True)
    for harvest in result.harvests.harvests:
        verdicts = result.count_held(harvest.source)
        counts = (
            harvest.inputs,
            len(harvest.cases),
            harvest.duplicates,
            sum(harvest.untranslated.values()),
            verdicts.total(),
        )
        held = (verdicts["holds"], verdicts["holds by its convention"], verdicts["does not hold"])
        table.add_row(harvest.source, harvest.version, *map(str, (*counts, *held)))
    out.print(table)
    out.print("again: duplicates; unsaid: not expressible; stated: answers, of which some hold by a convention only")
    for harvest in result.harvests.harvests:
        for reason, count in harvest.untranslated.items():
            out.print(f"{harvest.source}: {count} are not cases: {escape(reason)}", soft_wrap=True)
        for note in harvest.notes:
            out.print(f"{harvest.source}: {escape(note)}", soft_wrap=True)
    for source in result.statements:
        for counterexample in result.wrong(source):
            out.print(f"[bold]{counterexample.holds}[/] {escape(str(counterexample))}", soft_wrap=True)
