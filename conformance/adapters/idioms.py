"""Cross-entropies that people write by hand as snippets: unreduced expressions, each named for how it is written."""

from __future__ import annotations

from typing import Any

from conformance.adapters.contract import DocumentedConvention, Function
from conformance.model.case import InputKind, Loss
from conformance.model.convention import Convention

REDUCTIONS = {"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"}
INDEX = ("index",)
ROWS = ("one_hot", "distribution")
OUTPUTS = ("binary", "soft_binary")
INTEGERS = "int64 int32 int16 int8 uint8"
BROADCAST = frozenset({"shape_mismatch"})
"""What arrays document of shapes that are not equal."""
UNCHECKED = BROADCAST | {"invalid_target"}
UNCHECKED_PROBABILITIES = UNCHECKED | {"invalid_probability"}
OF_LABEL = "[numpy.arange(len({labels})), {labels}]"
"""Picks the element of the label out of each row of a NumPy array."""
BY_LABEL: dict[str, Any] = {
    "targets": INDEX,
    "documentation": "https://numpy.org/doc/stable/user/basics.indexing.html#integer-array-indexing",
    "ranks": range(2, 3),
    "out_of_range": "wrap",
}
"""Parameters of an idiom that uses `OF_LABEL`."""


def idiom(
    name: str,
    call: str,
    input_kind: InputKind,
    targets: tuple[str, ...],
    documentation: str,
    ranks: range = range(1, 9),
    fields: dict[str, Any] | None = None,
    **choices: Any,
) -> Function:
    """An expression of the unreduced loss, which names the predictions first.

    documentation: URL of what decides its choices.  fields: others of `Function`.
    """
    loss: Loss = "binary" if targets == OUTPUTS else "categorical"
    return Function(
        name,
        call,
        ranks={loss: ranks},
        input_kinds={input_kind: ""},
        targets=dict.fromkeys(targets, INTEGERS if targets == INDEX else "same"),
        conventions=(DocumentedConvention(Convention(empty_mean="nan", **choices), documentation=documentation),),
        documentation=documentation,
        **(fields or {}),
    )
