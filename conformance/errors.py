"""What can be wrong with what people ask and write, as values that say where, what, and what to do."""

from __future__ import annotations


class UserError(Exception):
    """What was asked for cannot be done as asked; its text is for the user: where, what, and what to do."""


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
        self.where = where
        self.message = message
        self.advice = advice

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
