"""`conformance mutants`: what a folder of cases catches, and whether it leaves what is right alone."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from conformance.cli.shared import CasesOption, Json, progress
from conformance.cli.terminal import UNEXPECTED, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.judging.case_set import load_suite
from conformance.model.errors import UserError
from conformance.model.serialization import to_json
from conformance.model.text import counted
from conformance.power.mutants.catalogue import CORRECT, FAULTY, select
from conformance.power.mutants.parallel import run_in_processes
from conformance.power.mutants.reference import Implementation
from conformance.power.mutants.score import (
    CaseRun,
    FalseAlarm,
    MutantResult,
    Score,
    fault_of,
    run_correct_in_folder,
    run_correct_on_generated,
    run_mutants_in_folder,
)

MAX_ALARMS = 10
"""Number of false alarms that are printed."""


def mutants(
    cases: CasesOption = None,
    family: Annotated[list[str] | None, typer.Option("--family", help="Only this family; may be repeated.")] = None,
    keyword: Annotated[str, typer.Option("-k", metavar="EXPRESSION", help="Only those whose name matches.")] = "",
    processes: Annotated[int, typer.Option("-n", min=1, help="How many processes share the work.")] = 1,
    kills: Annotated[bool, typer.Option("--kills", help="Print which case caught each, and what was wrong.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print what there is, and run nothing.")] = False,
    right: Annotated[
        bool, typer.Option("--right", help="Put the cases to right implementations instead; none may be caught.")
    ] = False,
    generated: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="With --right: N cases drawn at random instead of those of a folder."),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="With --generated: the same seed draws the same cases.")] = 0,
    as_json: Json = False,
) -> None:
    """Put every case to faulty functions, and print how many of them some case catches.

    Exit status 1 where one survives, or with --right where one is caught.
    """
    if generated and not right:
        raise UserError("--generated goes with --right: cases drawn at random are put to right implementations")
    if right and family:
        raise UserError("--family and --right do not go together: families are of faults")
    found = select(CORRECT if right else FAULTY, family or (), keyword)
    if listed:
        _list(found, as_json)
        return
    names = [loss.__name__ for loss in found]
    if generated:
        parts = [(names, seed, range(start, generated, processes)) for start in range(min(processes, generated))]
        events = _events(run_correct_on_generated, parts, generated)
        _print_alarms(events, f"{counted(generated, 'case')} of seed {seed}", generated, as_json)
        return
    count = len(load_suite(cases)[0])
    of_folder = [(cases, names[start::processes]) for start in range(min(processes, len(names)))]
    total = count * len(of_folder)
    if right:
        _print_alarms(_events(run_correct_in_folder, of_folder, total), counted(count, "case"), total, as_json)
    else:
        _print_results(found, _events(run_mutants_in_folder, of_folder, total), kills, as_json)


def _events(work: Any, parts: Sequence[tuple[Any, ...]], count: int) -> Generator[Any]:
    """The events of the work in processes, with a progress bar over the cases."""
    decided = 0
    with progress(count) as advance, contextlib.closing(run_in_processes(work, parts)) as events:
        for event in events:
            if isinstance(event, CaseRun):
                advance(f"{decided} decided")
            else:
                decided += 1
            yield event


def _list(found: list[type[Implementation]], as_json: bool) -> None:
    facts = [{"name": loss.__name__, "family": loss.family, "what": fault_of(loss)} for loss in found]
    if as_json:
        out.write(to_json("mutants.list", {"mutants": facts}))
        return
    for fact in facts:
        out.print(f"[bold]{fact['family']}.{fact['name']}[/]  {escape(fact['what'])}")
    out.print(f"{len(facts)} in all")


def _print_results(found: list[type[Implementation]], events: Iterator[Any], kills: bool, as_json: bool) -> None:
    decided: dict[str, MutantResult] = {}
    interrupted = False
    try:
        for event in events:
            if isinstance(event, MutantResult):
                decided[event.name] = event
    except KeyboardInterrupt:
        interrupted = True
    score = Score(tuple(decided[loss.__name__] for loss in found if loss.__name__ in decided))
    undecided = len(found) - len(decided)
    if as_json:
        out.write(to_json("mutants", _facts(score, undecided)))
    else:
        _print_score(score, kills)
    if interrupted:
        err.print(f"interrupted; {undecided} of {len(found)} mutants are not decided")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(UNEXPECTED if score.survivors else 0)


def _facts(score: Score, undecided: int) -> dict[str, Any]:
    return {
        "killed": score.killed,
        "of": len(score.results),
        "undecided": undecided,
        "families": {family: {"killed": killed, "of": of} for family, (killed, of) in score.families().items()},
        "survivors": [result.name for result in score.survivors],
        "alone": score.alone(),
        "mutants": [
            {
                "name": result.name,
                "family": result.family,
                "fault": result.fault,
                "kills": [{"case": kill.case, "item": kill.item, "because": kill.message} for kill in result.kills],
            }
            for result in score.results
        ],
    }


def _print_score(score: Score, kills: bool) -> None:
    if kills:
        for result in score.results:
            for kill in result.kills[:1]:
                out.print(f"[bold]{result.family}.{result.name}[/]  {escape(result.fault)}", soft_wrap=True)
                out.print(f"    {escape(kill.item)}: {escape(kill.message)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("family")
    table.add_column("killed", justify="right")
    table.add_column("of", justify="right")
    for family, (killed, of) in score.families().items():
        table.add_row(family, str(killed), str(of))
    table.add_row("all", str(score.killed), str(len(score.results)))
    out.print(table)
    if alone := score.alone():
        out.print("cases that alone kill a mutant:")
        for case, names in alone.items():
            out.print(f"  {case}  {', '.join(names)}", soft_wrap=True)
    if score.survivors:
        out.print("survivors:")
        for result in score.survivors:
            out.print(f"  [bold]{result.family}.{result.name}[/]  {escape(result.fault)}", soft_wrap=True)


def _print_alarms(events: Iterator[Any], what: str, count: int, as_json: bool) -> None:
    found: list[FalseAlarm] = []
    items = cases_run = 0
    interrupted = False
    try:
        for event in events:
            if isinstance(event, CaseRun):
                items, cases_run = items + event.items, cases_run + 1
                continue
            found.append(event)
            if len(found) <= MAX_ALARMS and not as_json:
                out.print(f"[bold]false alarm[/] {escape(event.message)}", soft_wrap=True)
                out.print(escape(event.text), soft_wrap=True)
    except KeyboardInterrupt:
        interrupted = True
    if as_json:
        facts = [{"name": alarm.name, "item": alarm.item, "yaml": alarm.text} for alarm in found]
        out.write(to_json("mutants.right", {"items": items, "put": cases_run, "of": count, "alarms": facts}))
    else:
        for name in dict.fromkeys(alarm.name for alarm in found):
            out.print(f"{name}: {sum(alarm.name == name for alarm in found)} false alarms")
        out.print(f"{what}, {items} items: {counted(len(found) or 'no', 'false alarm')}")
    if interrupted:
        err.print(f"interrupted after {cases_run} of {count} cases")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(UNEXPECTED if found else 0)
