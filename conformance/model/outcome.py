"""The outcome of a call: a sum type, matched exhaustively by the judge.

Values are float64 (every narrower dtype fits exactly), with the name of the dtype that the function
returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.model.text import text_of, truncate_and_count, type_name

LONGEST_WARNING = 2000
"""Maximum number of characters of a warning that are kept."""


@dataclass(frozen=True, eq=False)
class Returned:
    """The function returned a number or an array."""

    value: npt.NDArray[np.float64]
    dtype: str
    warnings: tuple[str, ...] = ()
    mutated: tuple[str, ...] = ()
    """Names of the arguments that the call changed in place."""


@dataclass(frozen=True)
class NonNumeric:
    """The function returned something that is not an array of numbers.

    what: what was returned, with an article: `a str`, `an array of complex128`.  reason: why it cannot be read, if
    known.
    """

    what: str
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raised:
    """The function raised an exception."""

    exception: str
    message: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.exception}: {self.message}" if self.message else self.exception


@dataclass(frozen=True)
class Crashed:
    """The process died.

    how: what happened, as a predicate: `was killed by SIGSEGV`, `exited with status 3`.  stderr: last lines of stderr.
    """

    how: str
    stderr: str = ""


@dataclass(frozen=True)
class TimedOut:
    """The function did not return in time, or was not called because it had timed out repeatedly.

    earlier: number of consecutive calls that timed out before; 0 if it was called.
    """

    seconds: float
    earlier: int = 0


@dataclass(frozen=True)
class Unsupported:
    """The function cannot express the problem; known from its declaration, without a call."""

    why: str


Outcome = Returned | NonNumeric | Raised | Crashed | TimedOut | Unsupported


def warning_text(warning: Any) -> str:
    """`Category: message` of a recorded warning, on one line."""
    text = text_of(warning.message)
    return f"{type_name(warning.message)}: {truncate_and_count(text, LONGEST_WARNING)}"
