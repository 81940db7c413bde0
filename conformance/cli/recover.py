"""`conformance recover`: the report of a run that was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from conformance import api
from conformance.cli.shared import Json, Printer
from conformance.cli.terminal import out


def recover(
    folder: Annotated[Path, typer.Argument(metavar="REPORT", help="The folder of the report of the run.")],
    as_json: Json = False,
) -> None:
    """Write the report of what a run had done that was killed or interrupted.

    It is marked as incomplete unless every row is there. `conformance run --resume` asks what is missing.
    """
    result = api.recover(folder, Printer())
    if as_json:
        out.write(result.to_json())
        return
    record = result.record
    finished = f"{record['finished']} of {record['planned']} rows were done"
    if result.planned is None:
        finished = f"{record['finished']} rows were done; how many were planned is not known"
    out.print(escape(finished), soft_wrap=True)
    out.print(escape(f"report: {folder}{'' if record['complete'] else ', marked incomplete'}"), soft_wrap=True)


__all__ = ["recover"]
