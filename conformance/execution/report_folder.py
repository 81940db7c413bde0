"""The files in the folder of a report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.casefiles.loading import SUFFIXES
from conformance.execution.marking import ASIDE, RUN
from conformance.model.errors import LocatedError, UserError
from conformance.model.files import read_regular, write_atomically

if TYPE_CHECKING:
    import pandas as pd

JOURNAL = "journal.jsonl"
"""The rows of a run that has not finished."""
PREVIOUS = "previous"
"""Subfolder with the previous complete report, until there is a new one."""
RESULTS = ("results.parquet", "results.csv")
FILES = (*RESULTS, "pairs.parquet", "discrepancies.csv", "summary.md", "badge.json", "index.html")
"""Files of a report, except its `run.json`."""
MAX_BYTES = 2**31
"""Maximum size in bytes of a file that is read."""
MAX_RUN_BYTES = 2**26
"""Maximum size in bytes of a `run.json`."""


class ReportError(LocatedError):
    """A report cannot be written or read; the message says where, what is wrong, and what to do.

    results: rows that could not be saved anywhere; None if they are safe.
    """

    def __init__(self, where: Path, what: str, advice: str, results: pd.DataFrame | None = None) -> None:
        super().__init__(where, what, advice)
        self.results = results


def check_writable(folder: Path) -> None:
    """Create a report's folder before a run; raises ReportError if it is not writable."""
    advice = "choose another folder for the report, or make this one writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise ReportError(folder, "is not a folder, or lies in a file", advice) from error
    except OSError as error:
        raise ReportError(folder, f"cannot be written ({reason_of(error)})", advice) from error
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        advice = "install a pyarrow and a numpy that fit each other"
        raise ReportError(folder, f"results.parquet cannot be written ({error})", advice) from error


def check_replaceable(folder: Path) -> None:
    """Raise ReportError if a report would replace files that do not belong to a report."""
    present = [name for name in (RUN, ASIDE, *FILES) if (folder / name).is_file()]
    unfinished = any((folder / name).exists() for name in (JOURNAL, PREVIOUS))
    if present and not unfinished and all(read_run(folder / name) is None for name in (RUN, ASIDE)):
        message = f"{', '.join(present).replace(ASIDE, RUN)} would be replaced, and no report is there"
        raise ReportError(folder, message, "name another folder for the report, or remove what is no longer needed")


def check_no_part_of_report(option: str, file: Path, own: Path | None = None) -> None:
    """Raise UserError for an output file of an option that is a file of a report, or may be a case file.

    own: folder of the report that a command writes.
    """
    real, own_folder = Path(os.path.realpath(file)), None if own is None else Path(os.path.realpath(own))
    if real.name in (RUN, JOURNAL, *FILES) and (real.parent == own_folder or (real.parent / RUN).exists()):
        owner = "the report itself" if real.parent == own_folder else "another report"
        raise UserError(f"{option} {file}: is a file of {owner}; name another one")
    if real.suffix in SUFFIXES and real.exists():
        raise UserError(f"{option} {file}: may be a case file; name another one")


def read_run(file: Path) -> dict[str, Any] | None:
    """Return the content of a `run.json`; {} if it is damaged, None if it is absent or not that of a report."""
    try:
        value = json.loads(read_regular(file, MAX_RUN_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and "complete" in value else None


def reason_of(error: OSError) -> str:
    """The system's message for an error."""
    return error.strerror or type(error).__name__


def folder_of(path: Path) -> Path:
    """The folder of a report, given the folder or its results file."""
    return path if path.is_dir() else path.parent
