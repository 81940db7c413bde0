"""Reads one source, in a process of its own: `python -P -m conformance.power.harvest.collector MODULE:ATTRIBUTE FILE`.

What it finds goes to FILE, message by message.  Tests of others run here, with functions replaced: they print,
change settings, hang and crash, and none of it reaches the run.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from conformance.power.harvest.records import encode, encode_end, encode_failure
from conformance.power.harvest.source import Source, SourceMovedError


def main(origin: str, file: str) -> None:
    """Collect what the source at `origin` has into `file`."""
    module, _, attribute = origin.partition(":")
    source: Source = getattr(importlib.import_module(module), attribute)
    with Path(file).open("wb") as out:
        try:
            collected = source.collect()
            messages = [*map(encode, collected.records), encode_end(collected.notes)]
        except SourceMovedError as moved:
            messages = [encode_failure(f"its internals have moved: {moved}")]
        except (Exception, SystemExit) as error:
            messages = [encode_failure(f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}")]
        for pieces in messages:
            out.writelines(pieces)


if __name__ == "__main__":
    main(*sys.argv[1:3])
