"""Errors of requests and of files, as values that say where, what, and what to do."""

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
"""Where an exception of this package is reported; `pyproject.toml` has the same address."""

FAULT = 3
"""Exit status of a command that ended with an exception of this package."""
TRACEBACK = "CONFORMANCE_TRACEBACK"
"""Variable of the environment that has the traceback of such an exception printed."""


class UserError(Exception):
    """A request that cannot be carried out; its text tells the user where, what, and what to do."""


class LocatedError(UserError):
    """Where something is wrong, what that is, and what to do."""

    def __init__(self, where: str | Path, what: str, advice: str) -> None:
        super().__init__(where, what, advice)
        self.where = where
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.advice}"


class ProcessFailedError(Exception):
    """An exception of this package in a process beside this one; its notes have the traceback there."""


@dataclass(frozen=True)
class FailedHere:
    """An exception as a process tells it to another.  user: whether it is a UserError.  said, traceback: as text."""

    user: bool
    said: str
    traceback: str


def failed_here(error: Exception) -> FailedHere:
    """The picklable description of an exception that itself may not be picklable."""
    if isinstance(error, UserError):
        return FailedHere(True, str(error), "")
    return FailedHere(False, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def received(connection: Connection) -> Any:
    """What another process sends; raises its exception as UserError or ProcessFailedError, EOFError at its end."""
    found = connection.recv()
    if not isinstance(found, FailedHere):
        return found
    if found.user:
        raise UserError(found.said)
    error = ProcessFailedError(found.said)
    error.add_note(found.traceback)
    raise error


class CaseFileError(UserError):
    """One thing that is wrong in one file.

    path: as the user would type it.  line, column: counted from 1; 0 where the file as a whole, or a
    folder, is meant.  where: JSON path into the file, `$.cases.y.why`, or empty.
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
        what = f"{self.message}; {self.advice}" if self.advice else self.message
        return ": ".join(filter(None, (place, self.where, what)))


class CaseErrors(UserError):  # noqa: N818 - it is several errors
    """Everything that is wrong in all files, in the order of files and lines."""

    def __init__(self, errors: tuple[CaseFileError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def file_errors(error: BaseException | None) -> Sequence[CaseFileError]:
    """The errors in files that a UserError stands for."""
    if isinstance(error, CaseErrors):
        return error.errors
    return [error] if isinstance(error, CaseFileError) else []
