"""The parts of an explanation as frozen values, independent of how they are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step, `name = formula = filled = value`. Empty parts are omitted."""

    name: str
    """Name of the computed value, such as `loss`."""
    formula: str
    """The step in symbols."""
    filled: str
    """The formula with the numbers of the case."""
    value: str
    """A number or a row of numbers, as text."""

    def __str__(self) -> str:
        return " = ".join(dict.fromkeys(filter(None, (self.name, self.formula, self.filled, self.value))))


@dataclass(frozen=True)
class Sample:
    """How the loss of one sample, or of one binary output, is computed."""

    index: tuple[int, ...]
    """Index along the sample axes."""
    about: str
    """Predictions, label and weight of the sample, as text."""
    steps: tuple[Step, ...]
    """The steps from the predictions to the loss."""
    loss: float
    """The loss, sample weight included."""
    weight: float
    """Contribution of the sample to the definition's divisor."""


@dataclass(frozen=True)
class Derivation:
    """The derivation of the definition's answer."""

    definition_formula: str
    """The definition in symbols."""
    samples: tuple[Sample, ...] = ()
    """The leading samples and the one with the largest loss."""
    omitted: int = 0
    """Number of samples that are not shown."""
    reduction: tuple[Step, ...] = ()
    """The steps from the losses to the answer."""
    answer: str = ""
    """The answer with all its digits; empty if there is none."""
    why: str = ""
    """Why there is no answer, or why it is not finite; empty if it is a finite number."""


@dataclass(frozen=True)
class ChoiceEffect:
    """One choice in which a function departs from the definition, and its effect on this problem."""

    field: str
    """Field of `Convention`, such as `divisor`."""
    choice: str
    """The choice as `field=value`."""
    meaning: str
    """What the function does, as a predicate: `divides the sum by ...`."""
    definition: str
    """What the definition does instead, as a predicate."""
    steps: tuple[Step, ...]
    """The choice with the numbers of the case."""
    before: str
    """The answer without this choice, all earlier ones applied."""
    after: str
    """The answer with this choice."""
    numeric: bool = False
    """Whether the choice concerns rounding only and leaves the exact answer unchanged."""


@dataclass(frozen=True)
class Decomposition:
    """The difference from the definition at one element: total = semantic + numeric.

    Each of the three is computed exactly, then rounded to float64.
    A value that is not finite is None.
    """

    index: tuple[int, ...]
    """Index of the element."""
    expected: str
    """The definition's value; empty if it has none."""
    by_convention: str
    """The exact value under the documented convention."""
    actual: str
    """The value that the function returned."""
    total: float | None
    """Returned value minus the definition's."""
    semantic: float | None
    """The part caused by the documented convention or a conversion."""
    numeric: float | None
    """The part caused by rounding."""
    tolerance: float
    """The tolerance at this element, absolute."""
    error_ratio: float
    """The numeric part divided by the tolerance."""
    ulps: float
    """The numeric part in units in the last place."""
    undefined_text: str = ""
    """What the definition has instead of a comparable number; `expected` is then empty."""
    cause: str = "by convention"
    """Origin of the semantic part."""


@dataclass(frozen=True)
class Remedy:
    """A change after which the function and the definition agree. It has been tried."""

    advice: str
    """What to do, in the imperative."""
    shown: str
    """The resulting numbers."""
    call: str = ""
    """Source text of the call, if the call itself changes."""


@dataclass(frozen=True)
class KnownIssueNote:
    """The ledger's note on a discrepancy."""

    reason: str
    """Why the function is wrong, in a sentence."""
    see: str
    """URL of the issue or the source; empty if there is none."""
    reproducer: str
    """Source text that reproduces it in the library's own code; empty if there is none."""
    shows: str
    """Output of the reproducer."""
    location: str
    """`path:line` of the entry."""


@dataclass(frozen=True)
class FunctionResult:
    """The result of one function for the problem, and why it differs from the definition."""

    function: str
    version: str
    status: str
    """Status of the verdict, such as `agrees`."""
    ledger_status: str
    """Status by the ledger: `ok`, `known`, `stale` or `unexpected`."""
    outcome: str
    """The returned value, or a description of the event."""
    returned: bool
    """Whether the call returned a value."""
    value: float | None
    """The returned number; None if it is not a scalar."""
    message: str
    """The message of the verdict."""
    differs: bool
    """Whether there is anything to explain."""
    conversion_effect: str = ""
    """What was passed instead of the case's predictions, and the effect."""
    differences: tuple[ChoiceEffect, ...] = ()
    decomposition: Decomposition | None = None
    gradient: tuple[Step, ...] = ()
    """The definition's gradient at the element with the largest error."""
    remedies: tuple[Remedy, ...] = ()
    known_issue: KnownIssueNote | None = None
    """The entry of the ledger; None if there is none."""
    reproduce: str = ""
    """Source text that repeats the call."""
    documentation_url: str = ""
    """URL of the documentation of the convention; empty if nothing differs."""
    conversion: str = ""
    """The conversion that is a cause of the difference, as named in the row."""


@dataclass(frozen=True)
class Explanation:
    """The explanation of a case at one dtype and reduction."""

    case: str
    """Id of the case."""
    why: str
    """The fault that would go unnoticed without the case."""
    location: str
    """`path:line` of the case; empty if it is not from a file."""
    dtype: str
    """Dtype of the predictions."""
    reduction: str
    quantity: str
    """The explained quantity, such as `loss` or `gradient`."""
    facts: tuple[tuple[str, str], ...]
    """The inputs, as (name, text)."""
    derivation: Derivation
    """The derivation of the definition's answer."""
    functions: tuple[FunctionResult, ...] = ()
    """Functions that were called, in listing order."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Functions that were not called, as (name, reason)."""
    published: tuple[Mapping[str, Any], ...] = ()
    """Published numbers, in the format of `PublishedVerdict.record`."""
