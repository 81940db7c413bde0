"""A mark in the folder of a report for the time in which a run starts up, before it can hold the folder.

What a run imports takes a second or more.  If the process is killed in that time, an older whole report must not stand
for its run: the mark has whatever reads reports refuse the folder, and the `run.json`, by which others know a whole
report, is set aside until the run takes the folder.  This module imports nothing that takes time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARK = ".begun"
RUN = "run.json"
ASIDE = ".begun.run.json"
"""What the `run.json` of a folder is called while the folder is marked."""
FOLDER = Path("reports/latest")
"""Where the report of `conformance run` goes unless told otherwise."""


def report_of(words: Sequence[str]) -> Path | None:
    """The folder that a command line writes the report of a run to; None if it runs nothing."""
    command = next((place for place, word in enumerate(words) if not word.startswith("-")), None)
    if command is None or words[command] != "run" or "--help" in words:
        return None
    folder = FOLDER
    options = iter(words[command + 1 :])
    for word in options:
        if word == "--report":
            folder = Path(next(options, folder))
        elif word.startswith("--report="):
            folder = Path(word.partition("=")[2])
    return folder


def mark(folder: Path) -> None:
    """Mark a folder that has a report; whoever cannot write it is told so later."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / RUN).is_file():
            began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            said = {"process": os.getpid(), "host": socket.gethostname(), "started": began}
            (folder / MARK).write_text(json.dumps(said), encoding="utf-8")
            (folder / RUN).replace(folder / ASIDE)


def unmark(folder: Path) -> None:
    """Remove the mark of this process, if it is there, and have the report back."""
    with contextlib.suppress(OSError, ValueError):
        if _is_own(_read(folder)):
            put_back(folder)
            (folder / MARK).unlink()


def put_back(folder: Path) -> None:
    """Give the `run.json` that was set aside its name, unless there is another; raises OSError."""
    if not (folder / ASIDE).is_file():
        return
    if (folder / RUN).is_file():
        (folder / ASIDE).unlink()
    else:
        (folder / ASIDE).replace(folder / RUN)


def run_file(folder: Path) -> Path:
    """The path of the `run.json` of a folder, also while this process has set it aside."""
    aside = folder / ASIDE
    return aside if aside.is_file() and not (folder / RUN).is_file() and _is_own(_read(folder)) else folder / RUN


def marked(folder: Path) -> str:
    """Since when another process is about to run into a folder, or was when it ended; empty if there is no mark."""
    if not (folder / MARK).is_file():
        return ""
    said = _read(folder)
    return "" if _is_own(said) else str(said.get("started") or "?")[:40]


def _is_own(said: dict[str, Any]) -> bool:
    return said.get("process") == os.getpid() and said.get("host") == socket.gethostname()


def _read(folder: Path) -> dict[str, Any]:
    try:
        with (folder / MARK).open("rb") as file:
            said = json.loads(file.read(10_000))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
