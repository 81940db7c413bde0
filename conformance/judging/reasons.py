"""Reasons of verdicts as values, and their sentences, shared by terminal, page, Markdown and SARIF.

Each verdict except a plain `agrees` has exactly one `Reason`.  Its `code` is the column `reason_code`, its text the
column `explanation`; its `symptoms` are those that a ledger entry may document, and its `identity` is common to all
findings of one kind, for any numbers.  No other module phrases sentences about verdicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, assert_never

from conformance.model.case import InputKind
from conformance.model.convention import describe
from conformance.model.outcome import Raised
from conformance.reference.conversion import DESCRIPTIONS

Choices = tuple[tuple[str, Any], ...]
"""Fields of a convention with their values, in field order."""
Effect = Literal["renormalised", "rounded_away", "rounded", "refused"]
"""Effects of a conversion of predictions.  `renormalised`: a softmax divides a row by its sum, which is not 1.
`rounded_away`: rounding destroys digits that the answer needs.  `rounded`: each prediction is rounded once, and the
answer stays within its budget.  `refused`: the converted input is of a kind that the function documents to reject."""
ROUNDING_LOSSES = {
    "zero_probability": "a probability becomes 0",
    "infinite_logarithm": "a logarithm becomes infinite",
    "certain_probability": "a probability becomes 1, and 1 - p becomes 0",
    "digits_of_p": "p loses digits",
    "digits_of_1_minus_p": "1 - p loses digits",
}
"""Losses by rounding in a conversion, by the codes of `reference.conversion.destroyed`."""
REMEDIES = {
    "subtract_log_sum_exp": "subtract logsumexp from each row first; the definition then has the same answer",
    "divide_by_sum": "divide each row by its sum first; the definition then has the same answer",
    "float64": "float64 keeps more digits",
}
"""Advice to users if no function accepts such predictions, by `Alternative.remedy`."""


# Parts of reasons.


@dataclass(frozen=True)
class AnswerChange:
    """The change of an answer, in the element that changes most."""

    before: float | None = None
    """The element before the change; None if the answers cannot be compared element by element."""
    after: float | None = None
    """The element after the change; None if `before` is None."""
    where: tuple[int, ...] = ()
    """Index of the element; () for a scalar."""
    undefined: str = ""
    """Why there is no answer after the change; "" if there is one."""

    def text(self, subject: str) -> str:
        """The change of the subject in words, with enough digits to show the difference."""
        if self.undefined:
            return f"makes the answer undefined: {self.undefined}"
        if self.before is None or self.after is None:
            return f"changes {subject}"
        a, b = self.before, self.after
        digits = next((count for count in range(6, 17) if f"{a:.{count}g}" != f"{b:.{count}g}"), 17)
        return f"changes {subject}{_at(self.where)} from {a:.{digits}g} to {b:.{digits}g}"


@dataclass(frozen=True)
class RowSum:
    """The sum of the row whose sum is furthest from 1."""

    total: float | None
    """The sum; None if no row counts."""
    several: bool
    """Whether there are other such rows."""
    exponentials: bool
    """Whether the exponentials of the row are summed."""

    def __str__(self) -> str:
        """The sum, with enough digits to show that it is not 1."""
        if self.total is None:
            return "rows"
        total = self.total
        text = next((text for digits in range(6, 18) if float(text := f"{total:.{digits}g}") != 1.0), f"{total:.17g}")
        singular, plural = "a row that sums", "rows, of which one sums"
        if self.exponentials:
            singular, plural = "a row whose exponentials sum", "rows, of which the exponentials of one sum"
        return f"{plural if self.several else singular} to {text}"


@dataclass(frozen=True)
class Alternative:
    """How users of the framework avoid the conversion."""

    function: str = ""
    """A function that accepts input of the kind `takes` and has the same answer; "" if there is none."""
    takes: InputKind | None = None
    """Input kind of the predictions that `function` is passed."""
    remedy: Literal["", "subtract_log_sum_exp", "divide_by_sum", "float64"] = ""
    """Advice if there is no such function; "" for none."""

    def text(self, stated: InputKind) -> str:
        """The alternative in words.  stated: input kind of the case."""
        if self.function and self.takes is not None:
            argument = "log p" if self.takes == "log_probabilities" else "exp(log p)"
            on = "" if self.takes == stated else f": {argument}"
            return f"Instead, {self.function} accepts {self.takes.replace('_', '-')}{on}"
        none = f"No loss of this framework accepts such {stated.replace('_', '-')} without conversion"
        return f"{none}: {REMEDIES[self.remedy]}" if self.remedy else none


@dataclass(frozen=True)
class Conversion:
    """A conversion of predictions, and what it changes."""

    effects: tuple[Effect, ...]
    """Effects of the conversion."""
    name: str
    """Entry of `reference.conversion.NAMES`."""
    stated: InputKind
    """Input kind of the case."""
    takes: tuple[InputKind, ...]
    """Input kinds that the function accepts."""
    dtype: str
    """dtype to which values were rounded."""
    subject: Literal["definition", "documentation"] | Choices
    """The convention of the answer that changes: the definition, the documentation, or these choices alone."""
    row_sum: RowSum | None = None
    """Sum by which a row is divided, for the effect `renormalised`."""
    renormalisation: AnswerChange | None = None
    """Change of the answer by the division, for the effect `renormalised`."""
    lost: tuple[str, ...] = ()
    """Information that rounding destroys (`reference.conversion.destroyed`), for the effect `rounded_away`."""
    rounding: AnswerChange | None = None
    """Change of the answer by rounding, for the effect `rounded_away`."""
    kinds: tuple[str, ...] = ()
    """Kinds of invalid or unusual input, for the effect `refused`."""
    alternative: Alternative | None = None
    """How users avoid the conversion; None if not searched for."""

    def __str__(self) -> str:
        """The conversion, its effects, and how users avoid it, as sentences without the last full stop."""
        takes = " or ".join(kind.replace("_", "-") for kind in self.takes)
        text = f"it accepts only {takes} and is called with {DESCRIPTIONS[self.name]}"
        for effect in self.effects:
            match effect:
                case "renormalised":
                    text += f". Softmax renormalises {self.row_sum}, which {self._change_text(self.renormalisation)}"
                case "rounded_away":
                    lost = " and ".join(ROUNDING_LOSSES[code] for code in self.lost)
                    text += f". Rounded to {self.dtype}, {lost}, which {self._change_text(self.rounding)}"
                case "rounded":
                    text += f", each value rounded once to {self.dtype}"
                case "refused":
                    text += f", which are input that it rejects: {', '.join(self.kinds)}"
                case _:
                    assert_never(effect)
        return text if self.alternative is None else f"{text}. {self.alternative.text(self.stated)}"

    def _change_text(self, change: AnswerChange | None) -> str:
        match self.subject:
            case "definition":
                subject = "the definition's answer"
            case "documentation":
                subject = "the documented answer"
            case choices:
                subject = f"the answer with {describe(dict(choices))} alone"
        return (change or AnswerChange()).text(subject)


@dataclass(frozen=True)
class UndocumentedConvention:
    """The result of a search for an undocumented convention that explains a wrong answer."""

    choices: Choices = ()
    """Choices that differ from the documented convention; () if no convention was found."""
    searched: bool = True
    """False if the problem is too large to search."""

    def __str__(self) -> str:
        if not self.searched:
            return "the problem is too large to search the known conventions for an explanation"
        if not self.choices:
            return "no known convention explains it"
        return f"{describe(dict(self.choices))} would explain it, but is not documented"


# Reasons.


@dataclass(frozen=True)
class Reason:
    """Why a verdict has its status; its text is one line."""

    code: ClassVar[str]
    identity_fields: ClassVar[tuple[str, ...]] = ()
    """Names of fields that are equal in all findings of one kind."""

    template: ClassVar[str] = ""
    """Template of `brief` with a field in braces for each detail; "" if a class overrides `brief`."""

    def __str__(self) -> str:
        return self.brief

    @property
    def brief(self) -> str:
        """The fault or event as a sentence, without an explanation."""
        return self.template.format_map(vars(self))

    @property
    def undocumented(self) -> UndocumentedConvention | None:
        """The result of the search for an undocumented convention; None if there was none."""
        return None

    @property
    def symptoms(self) -> frozenset[str]:
        """The symptoms of the row, as in the ledger's `symptoms`; empty if the row is not wrong."""
        return frozenset()

    @property
    def identity(self) -> tuple[str, ...]:
        """The key of a kind of finding: the code, and the details that are neither numbers nor free text."""
        return (self.code, *(getattr(self, name) for name in self.identity_fields))


class _Wrong(Reason):
    """A reason whose only symptom is its code."""

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({self.code})


@dataclass(frozen=True)
class RejectedInvalid(Reason):
    """Invalid input was rejected, as required."""

    code = "refused_invalid"
    template = "rejected, as required: {kind}"
    kind: str
    """Kind of the invalid input."""


@dataclass(frozen=True)
class DocumentedDivergence(Reason):
    """The answer is right by choices that the function documents, possibly after a conversion."""

    code = "documented_convention"
    choices: Choices
    """The fewest documented choices that explain the answer."""
    conversion: Conversion | None = None
    """The conversion of the predictions; None if it has no effect."""

    @property
    def brief(self) -> str:
        return "; ".join([*_converted(self.conversion), f"as documented: {describe(dict(self.choices))}"])


@dataclass(frozen=True)
class DocumentedRejection(Reason):
    """The function documents that it rejects such input."""

    code = "documented_refusal"
    choices: Choices
    """The documented choices."""
    raised: Raised
    """The exception."""
    conversion: Conversion | None = None
    """The conversion that caused it; None if the input itself is rejected."""

    @property
    def brief(self) -> str:
        documented = "it documents that it rejects such input"
        return "; ".join([*_converted(self.conversion), documented, f"raised {self.raised}"])


@dataclass(frozen=True)
class Converted(Reason):
    """The answer is right for the converted predictions by the definition."""

    code = "conversion"
    conversion: Conversion
    """The conversion and its effects."""

    @property
    def brief(self) -> str:
        return "; ".join(_converted(self.conversion))


@dataclass(frozen=True)
class UndefinedAnswer(Reason):
    """There is no right answer."""

    code = "no_right_answer"
    why: str
    """The reason in words."""
    basis: Literal["case", "definition", "documentation"]
    """The source of that reason."""
    raised: Raised | None = None
    """The exception that the function raised; None if it returned."""
    conversion: Conversion | None = None
    """The conversion that caused it; None if there is none."""

    @property
    def brief(self) -> str:
        if self.conversion is not None:
            return "; ".join(_converted(self.conversion))
        exception_text = f"; it raised {self.raised}" if self.raised is not None else ""
        return f"{'as documented, ' if self.basis == 'documentation' else ''}{self.why}{exception_text}"


@dataclass(frozen=True)
class InfiniteWeightOnRoundedZero(Reason):
    """An infinite weight on a loss that rounding may have made 0."""

    code = "lost_in_rounding"
    template = "an infinite weight on a loss that rounding may make 0"


@dataclass(frozen=True)
class CannotExpress(Reason):
    """The function was not called."""

    code = "unsupported"
    template = "{why}"
    why: str
    """The reason in words."""


@dataclass(frozen=True)
class Unavailable(CannotExpress):
    """The environment cannot be created, or the framework cannot be imported in it."""

    code = "unavailable"


@dataclass(frozen=True)
class Mismatch(Reason):
    """A returned value is not right."""

    elements: frozenset[str] = frozenset()
    """Symptoms of its elements, as in the ledger's `symptoms`."""
    by_documentation: bool = False
    """Whether the value is compared with the documented answer instead of the definition's."""
    conversion: Conversion | None = None
    """The conversion of the predictions; None unless it changes the answer."""
    candidate: UndocumentedConvention | None = None
    """An undocumented convention that would explain the value; None if not searched for."""

    def __str__(self) -> str:
        candidate = [] if self.candidate is None else [str(self.candidate)]
        return "; ".join([self.brief, *_converted(self.conversion), *candidate])

    @property
    def brief(self) -> str:
        return f"{self.headline}, compared with the documented answer" if self.by_documentation else self.headline

    @property
    def undocumented(self) -> UndocumentedConvention | None:
        return self.candidate

    @property
    def headline(self) -> str:
        """The returned and the expected result."""
        return super().brief

    @property
    def symptoms(self) -> frozenset[str]:
        return self.elements

    @property
    def identity(self) -> tuple[str, ...]:
        return (*super().identity, *(("documentation",) if self.by_documentation else ()))


@dataclass(frozen=True, kw_only=True)
class WrongValue(Mismatch):
    """A number whose error exceeds its tolerance."""

    code = "wrong_value"
    ratio: float
    """error / tolerance."""
    where: tuple[int, ...] = ()
    """Index of the worst element; () for a scalar."""

    @property
    def headline(self) -> str:
        return f"error of {self.ratio:.3g} times the tolerance{_at(self.where)}"


@dataclass(frozen=True, kw_only=True)
class NotFinite(Mismatch):
    """A nan or infinity in only one of the returned and the exact number."""

    code = "not_finite"
    got: float
    """Returned number."""
    want: float
    """Exact number."""
    where: tuple[int, ...] = ()
    """Index of the element; () for a scalar."""

    @property
    def headline(self) -> str:
        return f"returned {self.got!s}{_at(self.where)}, where {self.want!s} is expected"

    @property
    def classes(self) -> tuple[str, str]:
        """Class of the returned and of the exact number: nan, infinite or another number."""
        return _class_of(self.got), _class_of(self.want)

    @property
    def identity(self) -> tuple[str, ...]:
        code, *basis = super().identity
        return code, *self.classes, *basis


@dataclass(frozen=True, kw_only=True)
class WrongShape(Mismatch):
    """The returned array has a wrong shape."""

    code = "wrong_shape"
    template = "returned shape {got}, where {want} is expected"
    got: tuple[int, ...]
    """Returned shape."""
    want: tuple[int, ...]
    """Shape of the exact answer."""


@dataclass(frozen=True, kw_only=True)
class AcceptedInvalid(Mismatch):
    """A value was returned where an exception is expected."""

    code = "accepted_invalid"
    identity_fields = ("kind",)
    kind: str
    """Kind of the invalid input."""
    what: str = ""
    """Description of the returned object if it is not a number; else ""."""
    note: str = ""
    """See `outcome.NonNumeric.reason`."""

    @property
    def headline(self) -> str:
        return f"returned {self.what or 'a value'} for invalid input: {self.kind}{_note(self.note)}"

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({self.code})


@dataclass(frozen=True)
class WrongDtype(_Wrong):
    """The returned array has a wrong dtype."""

    code = "wrong_dtype"
    template = "returned {got}, where {want} is expected"
    identity_fields = ("got", "want")
    got: str
    """Returned dtype."""
    want: str
    """Expected dtype."""


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

    @property
    def brief(self) -> str:
        expected = "an array of numbers" if self.array else "a number"
        return f"returned {self.what}, where {expected} is expected{_note(self.note)}"


@dataclass(frozen=True)
class RaisedException(Reason):
    """An exception although there is an answer."""

    code = "raised"
    raised: Raised
    """The exception."""

    @property
    def brief(self) -> str:
        detail = f": {self.raised.message}" if self.raised.message else ""
        return f"it raised {self.raised.exception}, although there is an answer{detail}"

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
    def brief(self) -> str:
        return f"the call changed its argument {', '.join(self.names)} in place"

    @property
    def identity(self) -> tuple[str, ...]:
        return self.code, *self.names


@dataclass(frozen=True)
class NotDeterministic(_Wrong):
    """The same call returned two different numbers."""

    code = "not_deterministic"
    template = "it is not deterministic: called again, it returned another number"


@dataclass(frozen=True)
class ProcessDied(_Wrong):
    """The call ended its process."""

    code = "crashed"
    template = "the process {how}"
    identity_fields = ("how",)
    how: str
    """See `outcome.Crashed`."""
    stderr: str = ""
    """Last lines of its stderr."""

    def __str__(self) -> str:
        return self.brief + (f"; its output: {' | '.join(self.stderr.splitlines())}" if self.stderr else "")


@dataclass(frozen=True)
class NoAnswerInTime(_Wrong):
    """The call did not return within the time limit."""

    code = "timed_out"
    template = "it did not return within {seconds:g} s"
    seconds: float
    """The limit in seconds."""


@dataclass(frozen=True)
class NotCalled(_Wrong):
    """The call was not made, as `earlier` calls of the function in a row did not return within `seconds`."""

    code = "skipped"
    template = "skipped: {earlier} calls in a row did not return within {seconds:g} s"
    seconds: float
    """The limit of each call."""
    earlier: int
    """Number of those calls."""

    @property
    def symptoms(self) -> frozenset[str]:
        return frozenset({NoAnswerInTime.code})


def _converted(conversion: Conversion | None) -> list[str]:
    return [] if conversion is None else [f"conversion: {conversion}"]


def _at(where: tuple[int, ...]) -> str:
    return f" at {list(where)}" if where else ""


def _note(note: str) -> str:
    return f" ({note})" if note else ""


def _class_of(number: float) -> str:
    return "nan" if math.isnan(number) else str(number) if math.isinf(number) else "number"
