"""TensorFlow: the losses of `tf.nn` from logits, unreduced; its users append `tf.reduce_sum` and `tf.reduce_mean`.

`tf.keras` is Keras, which has its own adapter; a run that names both runs both.
"""

from __future__ import annotations

import os
from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Mode, family
from conformance.model.case import Problem
from conformance.model.convention import Convention

DOCUMENTATION = "https://www.tensorflow.org/api_docs/python/tf/nn/"


CATEGORICAL = {"categorical": range(1, 9)}
function = family(
    "tf.nn.@({labels}, {predictions}, {options})",
    documentation=DOCUMENTATION + "@",
    input_kinds={"logits": ""},
    positional={"labels": "labels", "predictions": "logits"},
    no_effect={"name": "name"},
)


def silence() -> None:
    """Limit native code to logging errors, which must be set before the import."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def default_positive_weight(problem: Problem) -> dict[str, Any]:
    """`positive_weight`, 1.0 if the problem has none: `pos_weight` is a required argument."""
    return {} if problem.options.positive_weight is not None else {"positive_weight": 1.0}


# The documented gradient assumes that the targets of a row sum to 1.
ROW_CONVENTION = Convention(
    gradient_cancellation="targets", gradient_total="one", accepts=frozenset({"invalid_target"})
)
INDEX_CONVENTION = Convention(gradient_cancellation="targets")
BINARY: dict[str, Any] = {"ranks": {"binary": range(9)}, "targets": {"binary": "same", "soft_binary": "same"}}
FRAMEWORK = Framework(
    name="tensorflow",
    distributions=("tensorflow-cpu", "tensorflow"),
    repository="https://github.com/tensorflow/tensorflow",
    modules=("tensorflow",),
    requirements=("tensorflow-cpu; sys_platform == 'linux'", "tensorflow; sys_platform != 'linux'"),
    by_default=False,
    arrays=arrays.tensorflow,
    prepare=silence,
    reductions={"none": "{result}", "sum": "tf.reduce_sum({result})", "mean": "tf.reduce_mean({result})"},
    modes={"graph": Mode("tf.function({loss})"), "xla": Mode("tf.function({loss}, jit_compile=True)")},
    functions=(
        function(
            "softmax_cross_entropy_with_logits",
            ROW_CONVENTION,
            ranks=CATEGORICAL,
            targets={"one_hot": "same", "distribution": "same"},
            arguments={"class_axis": "axis"},
        ),
        function(
            "sparse_softmax_cross_entropy_with_logits",
            INDEX_CONVENTION,
            ranks=CATEGORICAL,
            targets={"index": "int64 int32"},
        ),
        function("sigmoid_cross_entropy_with_logits", Convention(gradient_cancellation="targets"), **BINARY),
        function(
            "weighted_cross_entropy_with_logits",
            Convention(gradient_cancellation="targets", cancellation="logits"),  # the formula is documented
            **BINARY,
            arguments={"positive_weight": "pos_weight"},
            placeholder_values=default_positive_weight,
        ),
    ),
)
