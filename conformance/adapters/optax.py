"""optax: softmax and sigmoid cross-entropies of JAX, from logits.

Its losses are unreduced; users append `.sum()` or `.mean()`, take `jax.grad`, and compile with `jax.jit`.
"""

from __future__ import annotations

from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import INTEGER_DTYPES, DocumentedConvention, Framework, Function, Mode
from conformance.model.case import Loss
from conformance.model.convention import Convention

DOCUMENTATION = "https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses."
SOURCE = "https://github.com/google-deepmind/optax/blob/v0.2.8/optax/losses/_classification.py"
DERIVATIVE = "https://github.com/jax-ml/jax/pull/29483"
"""The discussion states that the derivative of softplus, log(e^z + e^0), is as intended."""
ROW_TARGETS = ("one_hot", "distribution")
AXIS: dict[str, Any] = {"arguments": {"class_axis": "axis"}}
NOT_MAPPED = tuple(frozenset({name}) for name in ("class_axis", "class_axis_not_1", "unbatched"))
"""Under `jax.vmap` axes are counted without the mapped one, which must exist."""


def function(
    name: str, loss: Loss, targets: tuple[str, ...], convention: Convention, link: str = "", **fields: Any
) -> Function:
    """An unreduced loss from logits.  link: source of the convention, if it is not the documentation."""
    return Function(
        name,
        f"optax.{name}({{predictions}}, {{labels}}, {{options}})",
        ranks={loss: range(0 if loss == "binary" else 1, 9)},
        input_kinds={"logits": ""},
        targets=dict.fromkeys(targets, INTEGER_DTYPES if "index" in targets else ""),
        positional={"predictions": "logits", "labels": "labels"},
        conventions=(DocumentedConvention(convention, documentation=link or DOCUMENTATION + name),),
        documentation=DOCUMENTATION + name,
        result_dtype="promoted" if "distribution" in targets else "same",
        **fields,
    )


BROADCAST = frozenset({"invalid_target", "shape_mismatch"})
SOFT = Convention(gradient_cancellation="targets", accepts=frozenset({"invalid_target"}))
SAFE = Convention(gradient_cancellation="targets", accepts=BROADCAST)
INTEGER = Convention(gradient_cancellation="targets", cancellation="logits")
SIGMOID = Convention(gradient_cancellation="logits", accepts=BROADCAST)
SOFTMAX = function("softmax_cross_entropy", "categorical", ROW_TARGETS, SOFT).since("0.2.4", **AXIS)
LABELS = function("softmax_cross_entropy_with_integer_labels", "categorical", ("index",), INTEGER, SOURCE)
LABELS = LABELS.since("0.2.4", **AXIS)
COUNTED = """
counted = ({{predictions}} != -jax.numpy.inf) | {is_labelled}
{{predictions}} = jax.numpy.where(counted, +{{predictions}}, 30000)
optax.{name}({{predictions}}, {{labels}}, where=counted)
"""
"""The call that gets the predictions as they are is optax's, whose parameters are accounted for: hence the plus."""


def counted(loss: Function, is_labelled: str) -> Function:
    """A loss that excludes, by `where`, the classes whose logits are -inf; these are replaced by a large number.

    is_labelled: source of a mask of the classes of the labels, which are included.
    """
    return loss.like(
        f"{loss.name}:where",
        first="0.2.4",
        call=COUNTED.format(name=loss.name, is_labelled=is_labelled),
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
        "vmap": Mode("jax.vmap({loss})", unreduced=True, excludes=NOT_MAPPED),
        "x64_off": Mode(**arrays.JAX_X64_OFF),
    },
    functions=(
        SOFTMAX,
        counted(SOFTMAX, "({labels} > 0)"),
        function("safe_softmax_cross_entropy", "categorical", ROW_TARGETS, SAFE, first="0.2.3"),
        LABELS,
        counted(LABELS, "jax.nn.one_hot({labels}, {predictions}.shape[-1], dtype=bool)"),
        function("sigmoid_binary_cross_entropy", "binary", ("binary", "soft_binary"), SIGMOID, DERIVATIVE),
    ),
)
