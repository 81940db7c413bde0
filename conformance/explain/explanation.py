"""What an explanation consists of: plain frozen values, before anybody decides how they look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One step: `name = formula = filled = value`; formula and filled are empty where there is nothing to say.

    filled: the formula with the case's numbers.  value: a number or a row of them, as text.
    """

    name: str
    formula: str
    filled: str
    value: str

    def __str__(self) -> str:
        return " = ".join(dict.fromkeys(filter(None, (self.name, self.formula, self.filled, self.value))))


@dataclass(frozen=True)
class Sample:
    """How the loss of one sample, or of one output, comes about.

    where: its index.  loss: sample weight included.  weight: what it adds to the definition's divisor.
    """

    where: tuple[int, ...]
    about: str
    lines: tuple[Line, ...]
    loss: float
    weight: float


@dataclass(frozen=True)
class Derivation:
    """How the definition comes to its answer.

    rule: the formula.  samples: the first ones and the largest; left_out: how many are not shown.  answer: all
    its digits that are shown; empty where there is none, and why says so.
    """

    rule: str
    samples: tuple[Sample, ...] = ()
    left_out: int = 0
    reduction: tuple[Line, ...] = ()
    answer: str = ""
    why: str = ""


@dataclass(frozen=True)
class Difference:
    """One choice in which a function departs, and what it changes here.

    meaning: what it does, as a predicate; definition: what the definition does instead.  lines: the choice
    with its numbers.  before, after: the answer without and with it, the choices told before it being made.
    numeric: whether it concerns rounding only, so that the exact answer stays.
    """

    field: str
    choice: str
    meaning: str
    definition: str
    lines: tuple[Line, ...]
    before: str
    after: str
    numeric: bool = False


@dataclass(frozen=True)
class Split:
    """The difference from the definition at one element: total = semantic + numeric, each an exact difference, rounded.

    None where it is no number.  ratio: the numeric part in budgets; ulps: in units in the last place.  instead: what
    the definition has where it has no number to compare with; want is empty then.  cause: where the semantic part
    comes from.
    """

    where: tuple[int, ...]
    want: str
    by_convention: str
    got: str
    total: float | None
    semantic: float | None
    numeric: float | None
    allowed: float
    ratio: float
    ulps: float
    instead: str = ""
    cause: str = "by convention"


@dataclass(frozen=True)
class Remedy:
    """A change that makes function and definition agree, tried before it was written down.

    advice: what to do.  shown: the numbers that came out.  call: source text, where the call itself changes.
    """

    advice: str
    shown: str
    call: str = ""


@dataclass(frozen=True)
class Ledgered:
    """What the ledger knows about a discrepancy."""

    reason: str
    see: str
    reproducer: str
    shows: str
    place: str


@dataclass(frozen=True)
class Answered:
    """What one function did with the problem, and why it differs where it does.

    returned: whether it came back with a value; otherwise got says what it did instead.  differs: whether there is
    anything to explain.  because: the verdict's explanation.  gradient: how the gradient comes about, by the
    definition, at the element where it is furthest off.  bridge: what it was handed instead of the case's predictions.
    conversion: what that changed, as the row has it, where that is a cause.
    """

    function: str
    version: str
    status: str
    expected: str
    got: str
    returned: bool
    because: str
    differs: bool
    bridge: str = ""
    differences: tuple[Difference, ...] = ()
    split: Split | None = None
    gradient: tuple[Line, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    ledger: Ledgered | None = None
    reproduce: str = ""
    source: str = ""
    conversion: str = ""


@dataclass(frozen=True)
class PublishedNumber:
    """A number that somebody printed, held against the exact one at float64."""

    value: str
    source: str
    exact: str
    holds: bool


@dataclass(frozen=True)
class Explanation:
    """A case at one dtype and reduction: how its answer comes about, and what functions do about it.

    facts: what is given, as (name, value).
    """

    case: str
    why: str
    place: str
    dtype: str
    reduction: str
    quantity: str
    facts: tuple[tuple[str, str], ...]
    derivation: Derivation
    functions: tuple[Answered, ...] = ()
    unasked: tuple[tuple[str, str], ...] = ()
    """Functions that are not asked this, and why."""
    published: tuple[PublishedNumber, ...] = ()
