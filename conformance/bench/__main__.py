"""`python -m conformance.bench [--short] [--json FILE] [PART...]`: measure; exit status 1 if a limit is exceeded."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conformance import __version__
from conformance.adapters.registry import installed
from conformance.bench.measure import PARTS, SHORT, WHOLE, BenchError, Measurement, measure


def main() -> int:
    """Take the measurements that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description="What the harness costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "part", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; all unless given"
    )
    parser.add_argument(
        "--short", action="store_true", help="in a minute, whether there is still something to measure; no limits"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; expected one of {', '.join(PARTS)}")
    progress = Console(stderr=True, highlight=False)
    measurements: list[Measurement] = []
    try:
        for measurement in measure(arguments.part or list(PARTS), SHORT if arguments.short else WHOLE):
            progress.print(f"{measurement.what}: {_number(measurement)}", soft_wrap=True)
            measurements.append(measurement)
    except BenchError as error:
        progress.print(str(error), markup=False, soft_wrap=True)
        return 2
    Console(highlight=False).print(_table(measurements))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_facts(measurements), indent=2) + "\n")
    return 0 if all(measurement.ok for measurement in measurements) else 1


def _table(measurements: list[Measurement]) -> Table:
    table = Table("what", "measured", "target", "limit", "", "note", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify, column.no_wrap = "right", True
    for measurement in measurements:
        verdict = "" if measurement.limit is None else ("ok" if measurement.ok else "[bold red]over[/]")
        bounds = (measurement.target, measurement.limit)
        texts = ("" if bound is None else f"{bound:g} {measurement.unit}".strip() for bound in bounds)
        table.add_row(measurement.what, _number(measurement), *texts, verdict, measurement.note)
    return table


def _number(measurement: Measurement) -> str:
    return f"{measurement.measured:.3g} {measurement.unit}".strip()


def _facts(measurements: list[Measurement]) -> dict[str, object]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "frameworks": {installation.framework.name: installation.version for installation in installed()[0]},
        "measurements": [{**dataclasses.asdict(measurement), "ok": measurement.ok} for measurement in measurements],
    }


if __name__ == "__main__":
    sys.exit(main())
