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
    """How far an answer moves, in the element that moves most.

    where: its index, () for a scalar.  before, after: None where the two cannot be compared element by element.
    undefined: why there is no answer afterwards, if there is none.
    """

    before: float | None = None
    after: float | None = None
    where: tuple[int, ...] = ()
    undefined: str = ""


@dataclass(frozen=True)
class RowSum:
    """The sum of the row that is furthest from 1.  several: whether it is one of several rows.

    total: None where no row counts.  exponentials: whether the exponentials of the row are summed.
    """

    total: float | None
    several: bool
    exponentials: bool


@dataclass(frozen=True)
class Alternative:
    """What users of the framework do instead of the conversion.

    function: one that takes predictions of the kind `takes`, with the same answer; "" if there is none.
    remedy: what to do if there is none; "" for nothing.
    """

    function: str = ""
    takes: InputKind | None = None
    remedy: Literal["", "subtract_log_sum_exp", "divide_by_sum", "float64"] = ""


@dataclass(frozen=True)
class Conversion:
    """A conversion of predictions, and what it changes.

    effects: what it changes.  name: of the conversion, as in `reference.conversion.NAMES`.  stated: the kind of
    predictions of the case.  takes: the kinds that the function takes.  dtype: that values were rounded to.
    subject: what moves: the answer by the definition, by what the function documents, or by these choices alone.
    row_sum, renormalisation: of `renormalised`.  lost, rounding: of `rounded_away`; see
    `reference.conversion.destroyed`.  kinds: of invalid or unusual input, of `refused`.
    """

    effects: tuple[Effect, ...]
    name: str
    stated: InputKind
    takes: tuple[InputKind, ...]
    dtype: str
    subject: Literal["definition", "documentation"] | Choices
    row_sum: RowSum | None = None
    renormalisation: Move | None = None
    lost: tuple[str, ...] = ()
    rounding: Move | None = None
    kinds: tuple[str, ...] = ()
    alternative: Alternative | None = None


@dataclass(frozen=True)
class Candidate:
    """The outcome of a search for an undocumented convention that explains a wrong answer.

    choices: of that convention, where they differ from the documented one; empty if none was found.
    searched: False for a problem that is too large to search.
    """

    choices: Choices = ()
    searched: bool = True


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


@dataclass(frozen=True)
class DocumentedConvention(_Reason):
    """The answer is right by choices that the function documents, and maybe by a conversion."""

    code = "documented_convention"
    choices: Choices
    conversion: Conversion | None = None


@dataclass(frozen=True)
class DocumentedRefusal(_Reason):
    """The function documents that it refuses such input.  conversion: if that brought it about."""

    code = "documented_refusal"
    choices: Choices
    raised: Raised
    conversion: Conversion | None = None


@dataclass(frozen=True)
class Converted(_Reason):
    """The answer is right for the converted predictions, by the definition."""

    code = "conversion"
    conversion: Conversion


@dataclass(frozen=True)
class UndefinedAnswer(_Reason):
    """There is no right answer.

    why: in words.  basis: who says so: the case, the definition, or what the function documents.  raised: what the
    function raised, if it did.  conversion: if that is why.
    """

    code = "no_right_answer"
    why: str
    basis: Literal["case", "definition", "documentation"]
    raised: Raised | None = None
    conversion: Conversion | None = None


@dataclass(frozen=True)
class LostInRounding(_Reason):
    """An infinite weight on a loss that its arithmetic may not tell from 0."""

    code = "lost_in_rounding"


@dataclass(frozen=True)
class CannotExpress(_Reason):
    """The function was not called.  why: in words."""

    code = "unsupported"
    why: str


@dataclass(frozen=True)
class Unavailable(_Reason):
    """The environment cannot be made, or the framework cannot be imported in it.  why: in words."""

    code = "unavailable"
    why: str


@dataclass(frozen=True)
class Mismatch(_Reason):
    """A returned value is not right.

    elements: in which ways its elements are wrong, as in the ledger's `symptoms`.  by_documentation: whether it is
    held against what the function documents and not against the definition.  conversion: if it changes the answer.
    candidate: an undocumented convention that would explain the value; None where none was looked for.
    """

    elements: frozenset[str] = frozenset()
    by_documentation: bool = False
    conversion: Conversion | None = None
    candidate: Candidate | None = None

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
    """A number is off by `ratio` budgets.  where: index of the worst element, () for a scalar."""

    code = "wrong_value"
    ratio: float
    where: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NotFinite(Mismatch):
    """A nan or an infinity on one side only.  where: index of the element, () for a scalar."""

    code = "not_finite"
    got: float
    want: float
    where: tuple[int, ...] = ()

    def _details(self) -> tuple[str, ...]:
        return _class_of(self.got), _class_of(self.want)


@dataclass(frozen=True, kw_only=True)
class WrongShape(Mismatch):
    """The returned array has another shape."""

    code = "wrong_shape"
    got: tuple[int, ...]
    want: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AcceptedInvalid(Mismatch):
    """A value was returned where an exception is due.

    kind: of invalid input.  what: the returned object, where it is no number, with a note on it.
    """

    code = "accepted_invalid"
    kind: str
    what: str = ""
    note: str = ""

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
    want: str

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, self.got, self.want


@dataclass(frozen=True)
class NoNumber(_Wrong):
    """Something else than numbers was returned.  what, note: see `outcome.NonNumeric`.  array: an array is due."""

    code = "no_number"
    what: str
    array: bool
    note: str = ""


@dataclass(frozen=True)
class RaisedException(_Reason):
    """An exception where there is an answer."""

    code = "raised"
    raised: Raised

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

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, *self.names


@dataclass(frozen=True)
class NotDeterministic(_Wrong):
    """The same call returned two different numbers."""

    code = "not_deterministic"


@dataclass(frozen=True)
class ProcessDied(_Wrong):
    """The call ended its process.  how, stderr: see `outcome.Crashed`."""

    code = "crashed"
    how: str
    stderr: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, self.how


@dataclass(frozen=True)
class NoAnswerInTime(_Wrong):
    """The call did not return within `seconds`."""

    code = "timed_out"
    seconds: float


Mismatched = WrongValue | NotFinite | WrongShape | AcceptedInvalid
Reason = (
    RefusedInvalid
    | DocumentedConvention
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
