"""Reads one source in a separate process: `python -P -m conformance.power.harvest.collector MODULE:ATTRIBUTE FILE`.

The records are written to FILE.  Foreign tests run here, with functions replaced: they print, change settings, hang
and crash without affecting the run.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from conformance.execution.workers import wire
from conformance.execution.workers.loop import die_with_parent
from conformance.power.harvest.records import encode
from conformance.power.harvest.source import Source, SourceMovedError


def main(origin: str, file: str) -> None:
    """Write the records of the source at `origin` into `file`."""
    die_with_parent()
    module, _, attribute = origin.partition(":")
    source: Source = getattr(importlib.import_module(module), attribute)
    try:
        pieces = encode(source.collect())
    except SourceMovedError as moved:
        pieces = wire.encode_message({"failed": f"its internals have moved: {moved}"})
    except (Exception, SystemExit) as error:
        pieces = wire.encode_message({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}"})
    with Path(file).open("wb") as out:
        out.writelines(pieces)


if __name__ == "__main__":
    main(*sys.argv[1:3])
