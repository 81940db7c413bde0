"""Mark the folder of a report while a run starts, before it can lock the folder.

The imports of a run take a second or more.  If the process is killed during that time, an older complete report must
not be taken for the report of the run: because of the mark, readers of reports reject the folder, and `run.json`, which
identifies a complete report, is renamed until the run locks the folder.  This module imports nothing slow.
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
"""Name of the `run.json` of a folder while the folder is marked."""
FOLDER = Path("reports/latest")
"""Default folder for the report of `conformance run`."""


def report_of(words: Sequence[str]) -> Path | None:
    """The folder to which a command line writes the report of a run; None if it does not run anything."""
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
    """Mark a folder that has a report; an unwritable folder is reported later."""
    with contextlib.suppress(OSError, ValueError):
        if (folder / RUN).is_file():
            began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            content = {"process": os.getpid(), "host": socket.gethostname(), "started": began}
            (folder / MARK).write_text(json.dumps(content), encoding="utf-8")
            (folder / RUN).replace(folder / ASIDE)


def unmark(folder: Path) -> None:
    """Remove the mark of this process, if it exists, and restore the report."""
    with contextlib.suppress(OSError, ValueError):
        if _is_own(_read(folder)):
            put_back(folder)
            (folder / MARK).unlink()


def put_back(folder: Path) -> None:
    """Restore the name of a renamed `run.json`, unless there is a new one; raises OSError."""
    if not (folder / ASIDE).is_file():
        return
    if (folder / RUN).is_file():
        (folder / ASIDE).unlink()
    else:
        (folder / ASIDE).replace(folder / RUN)


def run_file(folder: Path) -> Path:
    """The path of the `run.json` of a folder, even if this process has renamed it."""
    aside = folder / ASIDE
    return aside if aside.is_file() and not (folder / RUN).is_file() and _is_own(_read(folder)) else folder / RUN


def marked(folder: Path) -> str:
    """Start time of another process that marked a folder, whether it is running or dead; "" if there is no mark."""
    if not (folder / MARK).is_file():
        return ""
    content = _read(folder)
    return "" if _is_own(content) else str(content.get("started") or "?")[:40]


def _is_own(content: dict[str, Any]) -> bool:
    return content.get("process") == os.getpid() and content.get("host") == socket.gethostname()


def _read(folder: Path) -> dict[str, Any]:
    try:
        with (folder / MARK).open("rb") as file:
            content = json.loads(file.read(10_000))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
