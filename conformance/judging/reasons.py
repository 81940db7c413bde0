"""Why a verdict is what it is, as values; `render` puts them into words.

`Reason` is closed: each verdict but a plain `agrees` has exactly one.  Its `code` is the column `reason_code`, its
`symptoms` are what a ledger entry may document, and its `identity` is what two findings of one kind share, whatever
their numbers are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from conformance.model.case import InputKind
from conformance.model.outcome import Raised

Choices = tuple[tuple[str, Any], ...]
"""Fields of a convention with their values, in field order."""
Effect = Literal["renormalised", "rounded_away", "rounded", "refused"]
"""What a conversion of predictions may change.  `renormalised`: a softmax divides a row by its sum, which is not 1.
`rounded_away`: rounding destroys digits that the answer needs.  `rounded`: each prediction is rounded once, and the
answer stays within its budget.  `refused`: the converted input is of a kind that the function documents to refuse."""


# Parts of reasons.


@dataclass(frozen=True)
class Move:
    """How far an answer moves, in the element that moves most."""

    before: float | None = None
    """None if the answers cannot be compared element by element."""
    after: float | None = None
    """As `before`."""
    where: tuple[int, ...] = ()
    """Index of the element; () for a scalar."""
    undefined: str = ""
    """Why there is no answer afterwards; "" if there is one."""


@dataclass(frozen=True)
class RowSum:
    """The sum of the row whose sum is furthest from 1."""

    total: float | None
    """The sum; None if no row counts."""
    several: bool
    """Whether there are other such rows."""
    exponentials: bool
    """Whether the exponentials of the row are summed."""


@dataclass(frozen=True)
class Alternative:
    """What users of the framework do instead of the conversion."""

    function: str = ""
    """A function that accepts input of the kind `takes` and has the same answer; "" if there is none."""
    takes: InputKind | None = None
    """Its input kind."""
    remedy: Literal["", "subtract_log_sum_exp", "divide_by_sum", "float64"] = ""
    """What to do if there is no such function; "" for nothing."""


@dataclass(frozen=True)
class Conversion:
    """A conversion of predictions, and what it changes."""

    effects: tuple[Effect, ...]
    """What it changes."""
    name: str
    """As in `reference.conversion.NAMES`."""
    stated: InputKind
    """Input kind of the case."""
    takes: tuple[InputKind, ...]
    """Input kinds that the function accepts."""
    dtype: str
    """dtype that values were rounded to."""
    subject: Literal["definition", "documentation"] | Choices
    """What moves: the answer by the definition, by the documentation, or by these choices alone."""
    row_sum: RowSum | None = None
    """For `renormalised`."""
    renormalisation: Move | None = None
    """For `renormalised`."""
    lost: tuple[str, ...] = ()
    """For `rounded_away`; see `reference.conversion.destroyed`."""
    rounding: Move | None = None
    """For `rounded_away`."""
    kinds: tuple[str, ...] = ()
    """For `refused`: kinds of invalid or unusual input."""
    alternative: Alternative | None = None
    """How users avoid it; None if it was not searched for."""


@dataclass(frozen=True)
class Candidate:
    """The outcome of a search for an undocumented convention that explains a wrong answer."""

    choices: Choices = ()
    """Choices of that convention that differ from the documented one; () if none was found."""
    searched: bool = True
    """False for a problem that is too large to search."""


# Reasons.


@dataclass(frozen=True)
class _Reason:
    code: ClassVar[str]

    @property
    def symptoms(self) -> frozenset[str]:
        """The ways in which the row is wrong, as in the ledger's `symptoms`; empty if it is not."""
        return frozenset()

    @property
    def identity(self) -> tuple[str, ...]:
        """What findings of one kind share: the code, and details that are no numbers and no free text."""
        return (self.code,)


@dataclass(frozen=True)
class _Wrong(_Reason):
    """The code is the symptom."""

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({self.code})


@dataclass(frozen=True)
class RefusedInvalid(_Reason):
    """Invalid input was refused, as it must be."""

    code = "refused_invalid"
    kind: str
    """Kind of the invalid input."""


@dataclass(frozen=True)
class DocumentedDivergence(_Reason):
    """The answer is right by choices that the function documents, possibly after a conversion."""

    code = "documented_convention"
    choices: Choices
    """The fewest documented choices that explain the answer."""
    conversion: Conversion | None = None
    """None if it changes nothing."""


@dataclass(frozen=True)
class DocumentedRefusal(_Reason):
    """The function documents that it refuses such input."""

    code = "documented_refusal"
    choices: Choices
    """The documented choices."""
    raised: Raised
    """The exception."""
    conversion: Conversion | None = None
    """The conversion that brought it about; None if the input itself is refused."""


@dataclass(frozen=True)
class Converted(_Reason):
    """The answer is right for the converted predictions, by the definition."""

    code = "conversion"
    conversion: Conversion
    """The conversion and its effects."""


@dataclass(frozen=True)
class UndefinedAnswer(_Reason):
    """There is no right answer."""

    code = "no_right_answer"
    why: str
    """The reason in words."""
    basis: Literal["case", "definition", "documentation"]
    """Which of them states it."""
    raised: Raised | None = None
    """The exception of the function; None if it returned."""
    conversion: Conversion | None = None
    """The conversion that is the cause; None if there is none."""


@dataclass(frozen=True)
class LostInRounding(_Reason):
    """An infinite weight on a loss that its arithmetic may not tell from 0."""

    code = "lost_in_rounding"


@dataclass(frozen=True)
class CannotExpress(_Reason):
    """The function was not called."""

    code = "unsupported"
    why: str
    """The reason in words."""


@dataclass(frozen=True)
class Unavailable(_Reason):
    """The environment cannot be made, or the framework cannot be imported in it."""

    code = "unavailable"
    why: str
    """The reason in words."""


@dataclass(frozen=True)
class Mismatch(_Reason):
    """A returned value is not right."""

    elements: frozenset[str] = frozenset()
    """How its elements are wrong, as in the ledger's `symptoms`."""
    by_documentation: bool = False
    """Whether it is compared with the documented answer and not with that of the definition."""
    conversion: Conversion | None = None
    """None unless it changes the answer."""
    candidate: Candidate | None = None
    """An undocumented convention that would explain the value; None if none was searched for."""

    @property
    def symptoms(self) -> frozenset[str]:
        return self.elements

    @property
    def identity(self) -> tuple[str, ...]:
        basis = ("documentation",) if self.by_documentation else ()
        return (self.code, *self._details(), *basis)

    def _details(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class WrongValue(Mismatch):
    """A number whose error exceeds its tolerance."""

    code = "wrong_value"
    ratio: float
    """error / tolerance."""
    where: tuple[int, ...] = ()
    """Index of the worst element; () for a scalar."""


@dataclass(frozen=True, kw_only=True)
class NotFinite(Mismatch):
    """A nan or an infinity on one side only."""

    code = "not_finite"
    got: float
    """Returned number."""
    want: float
    """Exact number."""
    where: tuple[int, ...] = ()
    """Index of the element; () for a scalar."""

    def _details(self) -> tuple[str, ...]:
        return _class_of(self.got), _class_of(self.want)


@dataclass(frozen=True, kw_only=True)
class WrongShape(Mismatch):
    """The returned array has another shape."""

    code = "wrong_shape"
    got: tuple[int, ...]
    """Returned shape."""
    want: tuple[int, ...]
    """Shape of the exact answer."""


@dataclass(frozen=True, kw_only=True)
class AcceptedInvalid(Mismatch):
    """A value was returned where an exception is due."""

    code = "accepted_invalid"
    kind: str
    """Kind of the invalid input."""
    what: str = ""
    """The returned object, if it is no number; else ""."""
    note: str = ""
    """See `outcome.NonNumeric.reason`."""

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({self.code})

    def _details(self) -> tuple[str, ...]:
        return (self.kind,)


@dataclass(frozen=True)
class WrongDtype(_Wrong):
    """The returned array has another dtype."""

    code = "wrong_dtype"
    got: str
    """Returned dtype."""
    want: str
    """Expected dtype."""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, self.got, self.want


@dataclass(frozen=True)
class NoNumber(_Wrong):
    """Something other than numbers was returned."""

    code = "no_number"
    what: str
    """See `outcome.NonNumeric`."""
    array: bool
    """Whether an array is expected."""
    note: str = ""
    """See `outcome.NonNumeric.reason`."""


@dataclass(frozen=True)
class RaisedException(_Reason):
    """An exception where there is an answer."""

    code = "raised"
    raised: Raised
    """The exception."""

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({f"raised {self.raised.exception}"})

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, self.raised.exception


@dataclass(frozen=True)
class MutatedArgument(_Wrong):
    """The call changed arguments in place."""

    code = "mutated_argument"
    names: tuple[str, ...]
    """Names of the arguments."""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, *self.names


@dataclass(frozen=True)
class NotDeterministic(_Wrong):
    """The same call returned two different numbers."""

    code = "not_deterministic"


@dataclass(frozen=True)
class ProcessDied(_Wrong):
    """The call ended its process."""

    code = "crashed"
    how: str
    """See `outcome.Crashed`."""
    stderr: str = ""
    """Last lines of its stderr."""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, self.how


@dataclass(frozen=True)
class NoAnswerInTime(_Wrong):
    """The call did not return within `seconds`."""

    code = "timed_out"
    seconds: float
    """The limit."""


Mismatched = WrongValue | NotFinite | WrongShape | AcceptedInvalid
Reason = (
    RefusedInvalid
    | DocumentedDivergence
    | DocumentedRefusal
    | Converted
    | UndefinedAnswer
    | LostInRounding
    | CannotExpress
    | Unavailable
    | WrongValue
    | NotFinite
    | WrongShape
    | AcceptedInvalid
    | WrongDtype
    | NoNumber
    | RaisedException
    | MutatedArgument
    | NotDeterministic
    | ProcessDied
    | NoAnswerInTime
)


def _class_of(number: float) -> str:
    return "nan" if math.isnan(number) else str(number) if math.isinf(number) else "number"
