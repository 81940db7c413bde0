"""`conformance relations`: what two answers must have in common, held against every function without the oracle."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from conformance.adapters.contract import LoweringError, perform
from conformance.cli.shared import FAILURES, CasesOption, Json, progress
from conformance.cli.terminal import UNEXPECTED, USAGE, err, out
from conformance.execution.interruption import INTERRUPTED
from conformance.explore import relations
from conformance.explore.relations import RelationResult, rendering
from conformance.judging.choice import installed_among
from conformance.judging.judge import load_suite
from conformance.judging.selection import SelectionError, compiled, substring_of

BROKEN = 10
"""Broken relations that are shown one by one."""


def held(
    keyword: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only those whose id matches, as in pytest.")
    ] = "",
    framework: Annotated[
        list[str] | None, typer.Option("--framework", "-m", help="Only this framework; may be repeated.")
    ] = None,
    cases: CasesOption = None,
    as_json: Json = False,
) -> None:
    """Say problems in two ways and hold both answers against each other, for every installed function.

    Exit status 1 where a relation is broken that neither a documented convention nor the ledger accounts for.
    """
    found, ledger = load_suite(cases)
    relations.check_names(ledger)
    here, missing = installed_among(framework or [])
    chosen = compiled(keyword) if keyword else None
    asked = relations.select_instances(
        found, here, None if chosen is None else lambda _, name: chosen(substring_of(name))
    )
    if not asked:
        what = f"by -k {keyword!r}" if keyword else "of what the installed functions can say in two ways"
        raise SelectionError(f"nothing is selected {what}; ids are FUNCTION-RELATION-CASE-DTYPE-REDUCTION")
    for left_out in missing:
        err.print(f"left out, not installed: {left_out}")
    findings: list[RelationResult] = []
    failures: list[str] = []
    stopped = False
    try:
        with progress(len(asked)) as advance:
            for instance in asked:
                try:
                    findings.append(relations.check(instance, perform, ledger))
                except LoweringError as error:
                    failures.append(f"{instance.id}: {error}")
                advance(instance.item.framework.name)
    except KeyboardInterrupt:
        stopped = True
    stale = [] if keyword or framework or len(findings) < len(asked) else relations.stale_entries(findings)
    if as_json:
        out.facts("relations", {"planned": len(asked), "interrupted": stopped, "not_asked": failures,
                                "findings": list(map(rendering.as_record, findings)),
                                "gone": list(map(str, stale))})  # fmt: skip
    else:
        _print(findings)
    for failure in failures[:FAILURES]:
        err.print(f"not asked: {escape(failure)}", soft_wrap=True)
    if len(findings) < len(asked):
        err.print(f"{'interrupted; ' if stopped else ''}{len(findings)} of {len(asked)} were asked")
        raise typer.Exit(INTERRUPTED if stopped else USAGE)
    for entry in stale:
        err.print(escape(f"{entry} is known, and holds wherever it was asked; remove the entry"), soft_wrap=True)
    raise typer.Exit(UNEXPECTED if stale or any(map(_broken, findings)) else 0)


def _broken(finding: RelationResult) -> bool:
    return finding.expected in ("unexpected", "stale")


def _print(findings: list[RelationResult]) -> None:
    broken = list(filter(_broken, findings))
    for finding in broken[:BROKEN]:
        out.print(escape(str(finding)), soft_wrap=True)
    if len(broken) > BROKEN:
        out.print(f"and {len(broken) - BROKEN} more; --json has every one")
    for line in rendering.table(findings):
        out.print(escape(line), soft_wrap=True)
