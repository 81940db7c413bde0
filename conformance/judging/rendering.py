"""Reasons in words, for terminal, page, Markdown and SARIF alike: the one place where they are phrased."""

from __future__ import annotations

from typing import assert_never

from conformance.judging.reasons import (
    AcceptedInvalid,
    Alternative,
    Candidate,
    CannotExpress,
    Conversion,
    Converted,
    DocumentedDivergence,
    DocumentedRefusal,
    LostInRounding,
    Mismatch,
    Move,
    MutatedArgument,
    NoAnswerInTime,
    NoNumber,
    NotDeterministic,
    NotFinite,
    ProcessDied,
    RaisedException,
    Reason,
    RefusedInvalid,
    RowSum,
    Unavailable,
    UndefinedAnswer,
    WrongDtype,
    WrongShape,
    WrongValue,
)
from conformance.model.convention import describe
from conformance.model.outcome import Raised
from conformance.reference.conversion import HANDED

LOST = {
    "zero_probability": "a probability becomes 0",
    "infinite_logarithm": "a logarithm becomes infinite",
    "certain_probability": "a probability becomes 1, and nothing is left of 1 - p",
    "digits_of_p": "too few digits are left of p",
    "digits_of_1_minus_p": "too few digits are left of 1 - p",
}
"""What the rounding of a conversion destroys, by the codes of `reference.conversion.destroyed`."""


def render(reason: Reason | None) -> str:
    """A reason as one line; "" for none."""
    if reason is None:
        return ""
    if isinstance(reason, Mismatch):
        candidate = [] if reason.candidate is None else [_candidate(reason.candidate)]
        return "; ".join([render_brief(reason), *_converted(reason.conversion), *candidate])
    match reason:
        case DocumentedDivergence(choices, conversion):
            return "; ".join([*_converted(conversion), f"as documented: {describe(dict(choices))}"])
        case Converted(conversion) | UndefinedAnswer(conversion=Conversion() as conversion):
            return "; ".join(_converted(conversion))
        case DocumentedRefusal(_, raised, conversion):
            return "; ".join([*_converted(conversion), "it documents that it refuses this", _raised(raised)])
        case UndefinedAnswer(why, basis, raised):
            said = f"; it {_raised(raised)}" if raised is not None else ""
            return f"{'by what it documents, ' if basis == 'documentation' else ''}{why}{said}"
        case ProcessDied(_, stderr):
            said = f"; it said: {' | '.join(stderr.splitlines())}" if stderr else ""
            return render_brief(reason) + said
        case _:
            return render_brief(reason)


def render_brief(reason: Reason) -> str:
    """What is wrong, or what happened, without what explains it."""
    match reason:
        case WrongValue() | NotFinite() | WrongShape() | AcceptedInvalid():
            text = _mismatch_text(reason)
            return f"{text}, by what it documents" if reason.by_documentation else text
        case RaisedException() | MutatedArgument() | NotDeterministic() | ProcessDied() | NoAnswerInTime():
            return _call_text(reason)
        case RefusedInvalid(refused):
            return f"refused, as it must: {refused}"
        case WrongDtype(dtype, due_dtype):
            return f"returned {dtype}, where {due_dtype} is due"
        case NoNumber(what, array, note):
            due = "an array of numbers" if array else "a number"
            return f"returned {what}, where {due} is due{f' ({note})' if note else ''}"
        case LostInRounding():
            return "an infinite weight on a loss that its arithmetic may not tell from 0"
        case CannotExpress(why) | Unavailable(why):
            return why
        case DocumentedDivergence() | DocumentedRefusal() | Converted() | UndefinedAnswer():
            return render(reason)
        case _:
            assert_never(reason)


def _mismatch_text(reason: WrongValue | NotFinite | WrongShape | AcceptedInvalid) -> str:
    match reason:
        case WrongValue(ratio=ratio, where=where):
            return f"off by {ratio:.3g} budgets{_place(where)}"
        case NotFinite(got=got, want=want, where=where):
            return f"returned {got!s}{_place(where)}, where {want!s} is due"
        case WrongShape():
            return f"returned shape {reason.got}, where {reason.want} is due"
        case AcceptedInvalid(kind=kind, what=what, note=note):
            return f"returned {what or 'a value'}, where it must refuse: {kind}{f' ({note})' if note else ''}"


def _call_text(reason: RaisedException | MutatedArgument | NotDeterministic | ProcessDied | NoAnswerInTime) -> str:
    match reason:
        case RaisedException(raised):
            return f"it {_raised(raised)}, where there is an answer"
        case MutatedArgument(names):
            return f"the call changed its argument {', '.join(names)} in place"
        case NotDeterministic():
            return "it is not deterministic: called again, it returned another number"
        case ProcessDied(how):
            return f"the process {how}"
        case NoAnswerInTime(seconds):
            return f"no answer within {seconds:g} s"


def render_conversion(conversion: Conversion) -> str:
    """A conversion, what it changes, and what users do instead, as sentences without the last full stop."""
    takes = " or ".join(kind.replace("_", "-") for kind in conversion.takes)
    text = f"it takes {takes} only and is handed {HANDED[conversion.name]}"
    what = _subject(conversion)
    for effect in conversion.effects:
        match effect:
            case "renormalised":
                assert conversion.row_sum is not None
                moved = _moved(what, conversion.renormalisation)
                text += f". Softmax renormalises {_row_sum(conversion.row_sum)}, which {moved}"
            case "rounded_away":
                lost = " and ".join(LOST[code] for code in conversion.lost)
                text += f". Rounded to {conversion.dtype}, {lost}, which {_moved(what, conversion.rounding)}"
            case "rounded":
                text += f", each value rounded once to {conversion.dtype}"
            case "refused":
                text += f", which brings what it refuses: {', '.join(conversion.kinds)}"
            case _:
                assert_never(effect)
    return text if conversion.alternative is None else f"{text}. {_alternative(conversion, conversion.alternative)}"


def _converted(conversion: Conversion | None) -> list[str]:
    return [] if conversion is None else [f"conversion: {render_conversion(conversion)}"]


def _raised(raised: Raised) -> str:
    return f"raised {raised.exception}: {raised.message}"


def _place(where: tuple[int, ...]) -> str:
    return f" at {list(where)}" if where else ""


def _candidate(candidate: Candidate) -> str:
    if not candidate.searched:
        return "the problem is too large to search the known conventions for an explanation"
    if not candidate.choices:
        return "no known convention explains it"
    return f"{describe(dict(candidate.choices))} would explain it, which is not what it documents"


def _subject(conversion: Conversion) -> str:
    match conversion.subject:
        case "definition":
            return "the definition's answer"
        case "documentation":
            return "the answer by what it documents"
        case choices:
            return f"the answer by {describe(dict(choices))} alone"


def _row_sum(of: RowSum) -> str:
    """The sum with as many digits as it takes to see that it is not 1."""
    if of.total is None:
        return "rows"
    total = of.total
    text = next((text for digits in range(6, 18) if float(text := f"{total:.{digits}g}") != 1.0), f"{total:.17g}")
    one, several = "a row that sums", "rows, of which one sums"
    if of.exponentials:
        one, several = "a row whose exponentials sum", "rows, of which the exponentials of one sum"
    return f"{several if of.several else one} to {text}"


def _moved(what: str, move: Move | None) -> str:
    if move is not None and move.undefined:
        return f"leaves no answer where there is one: {move.undefined}"
    if move is None or move.before is None or move.after is None:
        return f"changes {what}"
    a, b = move.before, move.after
    digits = next((count for count in range(6, 17) if f"{a:.{count}g}" != f"{b:.{count}g}"), 17)
    return f"changes {what}{_place(move.where)} from {a:.{digits}g} to {b:.{digits}g}"


def _alternative(conversion: Conversion, found: Alternative) -> str:
    kind = found.takes
    if found.function and kind is not None:
        on = "" if kind == conversion.stated else f", on {'log p' if kind == 'log_probabilities' else 'exp(log p)'}"
        return f"Instead, {found.function} takes {kind.replace('_', '-')}{on}"
    none = f"No loss here takes such {conversion.stated.replace('_', '-')} as they are"
    match found.remedy:
        case "subtract_log_sum_exp":
            how = "subtract log sum exp from each row first, and the definition has the same answer"
        case "divide_by_sum":
            how = "divide each row by its sum first, and the definition has the same answer"
        case "float64":
            how = "in float64 more digits are kept"
        case "":
            return none
    return f"{none}: {how}"


__all__ = ["LOST", "render", "render_brief", "render_conversion"]
