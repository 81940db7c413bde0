"""Errors of requests and of files, which say where, what, and what to do."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance.model.text import shorten_words

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

ISSUES = "https://github.com/cross-entropy-conformance/cross-entropy-conformance/issues"
"""URL for reports of exceptions of this package; `pyproject.toml` has the same."""

FAULT = 3
"""Exit status of a command that ended with an unexpected exception of this package."""
TRACEBACK = "CONFORMANCE_TRACEBACK"
"""Environment variable that makes a command print the traceback of such an exception."""


class UserError(Exception):
    """A request that cannot be carried out; the text tells the user where, what, and what to do."""


class LocatedError(UserError):
    """An error with its location, its description and advice."""

    def __init__(self, where: str | Path, what: str, advice: str) -> None:
        super().__init__(where, what, advice)
        self.where = where
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.advice}"


class ProcessFailedError(Exception):
    """An exception of this package in another process; its notes contain the traceback of that process."""


@dataclass(frozen=True)
class ErrorRecord:
    """An exception as sent to another process, as text."""

    is_user_error: bool
    """Whether it is a UserError."""
    message: str
    traceback: str


def record_error(error: Exception) -> ErrorRecord:
    """A picklable description of an exception that itself may not be picklable."""
    if isinstance(error, UserError):
        return ErrorRecord(True, str(error), "")
    return ErrorRecord(False, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def receive(connection: Connection) -> Any:
    """Receive an object from a process; raise its exception as UserError or ProcessFailedError, EOFError at the end."""
    record = connection.recv()
    if not isinstance(record, ErrorRecord):
        return record
    if record.is_user_error:
        raise UserError(record.message)
    error = ProcessFailedError(record.message)
    error.add_note(record.traceback)
    raise error


class CaseFileError(UserError):
    """One error in one file.

    path: path of the file as the user would type it.  line, column: position in the file, counted from 1; 0 for the
    file as a whole or a folder.  where: JSON path in the file, such as `$.cases.y.why`, or empty.
    """

    def __init__(self, path: str, line: int, column: int, where: str, message: str, advice: str) -> None:
        super().__init__(path, line, column, where, message, advice)
        self.path = path
        self.line = line
        self.column = column
        self.where = shorten_words(where)
        self.message = shorten_words(message)
        self.advice = shorten_words(advice)

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        text = f"{self.message}; {self.advice}" if self.advice else self.message
        return ": ".join(filter(None, (place, self.where, text)))


class CaseErrors(UserError):  # noqa: N818 - it is several errors
    """All errors in all files, in the order of files and lines."""

    def __init__(self, errors: tuple[CaseFileError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def file_errors(error: BaseException | None) -> Sequence[CaseFileError]:
    """The errors in files that a UserError consists of."""
    if isinstance(error, CaseErrors):
        return error.errors
    return [error] if isinstance(error, CaseFileError) else []
