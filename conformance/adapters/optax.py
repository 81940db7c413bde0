"""optax: softmax and sigmoid cross-entropies of JAX, from logits.

Its losses are unreduced; users append `.sum()` or `.mean()`, take `jax.grad`, and compile with `jax.jit`.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import INTEGER_DTYPES, Framework, Function, Mode, family
from conformance.model.convention import Convention

DOCUMENTATION = "https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses."
SOURCE = "https://github.com/google-deepmind/optax/blob/v0.2.8/optax/losses/_classification.py"
DERIVATIVE_SOURCE = "https://github.com/jax-ml/jax/pull/29483"
"""The discussion states that the derivative of softplus, log(e^z + e^0), is as intended."""
AXIS_FIELDS: dict[str, Any] = {"arguments": {"class_axis": "axis"}}
VMAP_EXCLUDES = tuple(frozenset({name}) for name in ("class_axis", "class_axis_not_1", "unbatched"))
"""Under `jax.vmap` axes are counted without the mapped one, which must exist."""


CATEGORICAL = {"categorical": range(1, 9)}
ROWS: dict[str, Any] = {
    "ranks": CATEGORICAL,
    "targets": {"one_hot": "", "distribution": ""},
    "result_dtype": "promoted",
}
function = family(
    "optax.@({predictions}, {labels}, {options})",
    documentation=DOCUMENTATION + "@",
    input_kinds={"logits": ""},
    positional={"predictions": "logits", "labels": "labels"},
)
"""An unreduced loss from logits."""
UNCHECKED_INPUTS = frozenset({"invalid_target", "shape_mismatch"})
SOFT_CONVENTION = Convention(gradient_cancellation="targets", accepts=frozenset({"invalid_target"}))
SAFE_CONVENTION = Convention(gradient_cancellation="targets", accepts=UNCHECKED_INPUTS)
INTEGER_CONVENTION = Convention(gradient_cancellation="targets", cancellation="logits")
SIGMOID_CONVENTION = Convention(gradient_cancellation="logits", accepts=UNCHECKED_INPUTS)
SOFTMAX = function("softmax_cross_entropy", SOFT_CONVENTION, **ROWS).since("0.2.4", **AXIS_FIELDS)
LABELS = function(
    "softmax_cross_entropy_with_integer_labels",
    INTEGER_CONVENTION,
    SOURCE,
    ranks=CATEGORICAL,
    targets={"index": INTEGER_DTYPES},
).since("0.2.4", **AXIS_FIELDS)
WHERE_CALL = """
counted = ({{predictions}} != -jax.numpy.inf) | {is_labelled}
{{predictions}} = jax.numpy.where(counted, +{{predictions}}, 30000)
optax.{name}({{predictions}}, {{labels}}, where=counted)
"""
"""The call with the bare name of the predictions is the one whose parameters are checked: hence the plus."""


def counted(loss: Function, is_labelled: str) -> Function:
    """A loss that excludes, by `where`, the classes whose logits are -inf; these are replaced by a large number.

    is_labelled: source of a mask of the classes of the labels, which are included.
    """
    return loss.like(
        f"{loss.name}:where",
        first="0.2.4",
        call=WHERE_CALL.format(name=loss.name, is_labelled=is_labelled),
        arguments={"class_axis": None},
        default_files=frozenset({"categorical/masked_logits", "categorical/masked_logits_rows"}),
    )


FRAMEWORK = Framework(
    name="optax",
    distributions=("optax",),
    repository="https://github.com/google-deepmind/optax",
    modules=("optax",),
    requirements=("optax", "jax"),
    arrays=arrays.jax,
    imports="import optax",
    reductions={"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    modes={
        "jit": Mode("jax.jit({loss})"),
        "vmap": Mode("jax.vmap({loss})", unreduced=True, excludes=VMAP_EXCLUDES),
        "x64_off": Mode(**arrays.JAX_X64_OFF),
    },
    functions=(
        SOFTMAX,
        counted(SOFTMAX, "({labels} > 0)"),
        function("safe_softmax_cross_entropy", SAFE_CONVENTION, **ROWS, first="0.2.3"),
        LABELS,
        counted(LABELS, "jax.nn.one_hot({labels}, {predictions}.shape[-1], dtype=bool)"),
        function(
            "sigmoid_binary_cross_entropy",
            SIGMOID_CONVENTION,
            DERIVATIVE_SOURCE,
            ranks={"binary": range(9)},
            targets={"binary": "", "soft_binary": ""},
        ),
    ),
)
