"""Hand-written cross-entropies as snippets: unreduced expressions, each named for its formula."""

from __future__ import annotations

from typing import Any

from conformance.adapters.contract import INTEGER_DTYPES, DocumentedConvention, Function
from conformance.model.case import InputKind, Loss
from conformance.model.convention import Convention

REDUCTIONS = {"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"}
INDEX_TARGETS = ("index",)
ROW_TARGETS = ("one_hot", "distribution")
OUTPUT_TARGETS = ("binary", "soft_binary")
BROADCAST = frozenset({"shape_mismatch"})
"""Arrays are documented to broadcast unequal shapes."""
UNCHECKED = BROADCAST | {"invalid_target"}
UNCHECKED_PROBABILITIES = UNCHECKED | {"invalid_probability"}
TAKE_LABEL = "[numpy.arange(len({labels})), {labels}]"
"""Index of the label's element in each row of a NumPy array."""
LABEL_PARAMETERS: dict[str, Any] = {
    "targets": INDEX_TARGETS,
    "documentation": "https://numpy.org/doc/2.4/user/basics.indexing.html#integer-array-indexing",
    "ranks": range(2, 3),
    "out_of_range": "wrap",
}
"""Parameters of an idiom that uses `TAKE_LABEL`."""


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
    """An idiom: source of the unreduced loss.

    documentation: URL that determines its choices.  fields: further fields of `Function`.  choices: fields of
    `Convention`.
    """
    loss: Loss = "binary" if targets == OUTPUT_TARGETS else "categorical"
    return Function(
        name,
        call,
        ranks={loss: ranks},
        input_kinds={input_kind: ""},
        targets=dict.fromkeys(targets, INTEGER_DTYPES if targets == INDEX_TARGETS else "same"),
        conventions=(DocumentedConvention(Convention(empty_mean="nan", **choices), documentation=documentation),),
        documentation=documentation,
        **(fields or {}),
    )
