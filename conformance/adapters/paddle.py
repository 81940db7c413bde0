"""PaddlePaddle: CrossEntropyLoss and NLLLoss over classes, BCELoss and BCEWithLogitsLoss over outputs.

CrossEntropyLoss has the classes on the last axis by default, NLLLoss on axis 1.  For rows of targets, including
smoothed labels, class weights multiply the loss of the row, and an unreduced loss keeps the class axis.  On the
CPU there is neither float16 nor bfloat16.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, NoEffect, family
from conformance.model.convention import Convention

DOCUMENTATION = "https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/nn/"
SOURCE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/python/paddle/nn/functional/loss.py"
TOLERABLE_VALUE = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/paddle/phi/kernels/funcs/cross_entropy.h"
"""The page states that the logarithm of 0 is replaced by -1e20."""
BCE_KERNEL = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/paddle/phi/kernels/cpu/bce_loss_kernel.cc"
PAGE = f"{DOCUMENTATION}CrossEntropyLoss_en.html"
WIDE_DTYPES = frozenset({"float32", "float64"})
POSITIONAL = {"predictions": "input", "labels": "label"}
BINARY_TARGETS = {"binary": "same", "soft_binary": "same"}
NO_EFFECT: dict[str, NoEffect] = {"name": "name"}


function = family(
    "paddle.nn.@({options})({predictions}, {labels})",
    documentation=f"{DOCUMENTATION}@_en.html",
    positional=POSITIONAL,
    no_effect=NO_EFFECT,
    dtypes=WIDE_DTYPES,
)
"""A class of `paddle.nn`, constructed with the options."""
COLUMN_EXCLUDES = tuple(frozenset({name, "labels_column"}) for name in ("class_axis", "class_axis_not_1"))
"""The extra axis of labels in a column is on the class axis."""
INDEX_CONVENTION = Convention(
    default_ignore_index=-100,
    gradient_cancellation="targets",
    empty_mean="zero",
    accepts=frozenset({"trailing_axis"}),
)
ROW_CONVENTION = Convention(
    mean_divides_by="kept",
    unreduced_class_axis="kept",
    gradient_cancellation="targets",
    gradient_total="one",
    accepts=frozenset({"invalid_target"}),
)


def documented(rows: bool, *capabilities: str, **choices: Any) -> tuple[DocumentedConvention, ...]:
    """The conventions for logits and for probabilities if these capabilities are required."""
    base, targets = (ROW_CONVENTION, None) if rows else (INDEX_CONVENTION, frozenset({"index"}))
    logs: dict[str, Any] = {
        "log_floor": -1e20,
        "accepts": base.accepts | {"invalid_probability"},
        "gradient_total": "targets",
    }
    return (
        DocumentedConvention(
            replace(base, **choices, **logs),
            targets,
            documentation=TOLERABLE_VALUE,
            capabilities=frozenset({"probabilities", *capabilities}),
        ),
        DocumentedConvention(replace(base, **choices), targets, PAGE, frozenset(capabilities)),
    )


CROSS_ENTROPY = function(
    "CrossEntropyLoss",
    ranks={"categorical": range(1, 9)},
    input_kinds={"logits": "", "probabilities": "use_softmax=False"},
    targets={"index": "int64 int32", "one_hot": "same", "distribution": "same"},
    arguments={
        "class_weights": "weight",
        "ignore_index": "ignore_index",
        "label_smoothing": "label_smoothing",
        "class_axis": "axis",
        "soft_labels": "soft_label",
    },
    labels_column=True,
    excludes=COLUMN_EXCLUDES,
    conventions=(
        *documented(True, "label_smoothing", "class_weights", mean_divides_by="target_weight", class_weighting="rows"),
        *documented(True, "label_smoothing"),
        *documented(False, "labels_column", unreduced_class_axis="kept"),
        *documented(False),
        *documented(True, "class_weights", mean_divides_by="target_weight", class_weighting="rows"),
        *documented(True),
    ),
)
FUNCTIONAL = CROSS_ENTROPY.like(
    "functional.cross_entropy",
    call="paddle.nn.functional.cross_entropy({predictions}, {labels}, {options})",
)
NLL_KERNEL = "https://github.com/PaddlePaddle/Paddle/blob/v3.3.1/paddle/phi/kernels/cpu/nll_loss_kernel.cc"
WRITES_OUTSIDE_MEMORY = tuple(frozenset({"ignore_index", reduction}) for reduction in ("sum", "mean"))
"""For each ignored label at position i, a 0 is written to element i of the result, which has a single element if it
is reduced (`NLL_KERNEL`): the heap is overwritten, and the process aborts or hangs, then or in a later call."""
NLL = function(
    "NLLLoss",
    Convention(
        default_ignore_index=-100,
        gradient_cancellation="targets",
        empty_mean="zero",
        accepts=frozenset({"invalid_probability"}),
    ),
    ranks={"categorical": range(2, 9)},
    input_kinds={"log_probabilities": ""},
    targets={"index": "int64"},
    arguments={"class_weights": "weight", "ignore_index": "ignore_index"},
    class_axis=1,
    excludes=WRITES_OUTSIDE_MEMORY,
)
BCE = function(
    "BCELoss",
    Convention(
        mean_divides_by="kept",
        log_floor=-100.0,
        gradient_floor=1e-12,
        empty_mean="nan",
        rejects=frozenset({"nan_prediction"}),
    ),
    BCE_KERNEL,
    ranks={"binary": range(9)},
    input_kinds={"probabilities": ""},
    targets=BINARY_TARGETS,
    arguments={"sample_weights": "weight"},
    sample_weight_shape="per_loss",
)
WITH_LOGITS = function(
    "BCEWithLogitsLoss",
    Convention(
        mean_divides_by="kept",
        accepts=frozenset({"invalid_target"}),
        cancellation="logits",
        gradient_cancellation="targets",
        empty_mean="nan",
    ),
    ranks={"binary": range(9)},
    input_kinds={"logits": ""},
    targets=BINARY_TARGETS,
    arguments={"sample_weights": "weight", "positive_weight": "pos_weight"},
    positional={"predictions": "logit", "labels": "label"},
    sample_weight_shape="per_loss",
)
MULTI_LABEL = function(
    "MultiLabelSoftMarginLoss",
    Convention(binary_outputs="mean_of_last_axis", accepts=frozenset({"invalid_target"}), empty_mean="nan"),
    ranks={"binary": range(1, 9)},
    input_kinds={"logits": ""},
    targets={"binary": "same float32", "soft_binary": "same float32"},
    untested={"weight=None": "multiplies outputs before their mean, as weights of a sample do not"},
)
# The logistic loss of labels that are 1 and -1: a binary cross-entropy from logits.
SOFT_MARGIN = function(
    "SoftMarginLoss",
    Convention(empty_mean="nan"),
    ranks={"binary": range(9)},
    input_kinds={"logits": ""},
    targets={"binary": "same float32 float64 int64 int32 int16 int8 bool"},
    call="paddle.nn.SoftMarginLoss({options})({predictions}, 2 * {labels} - 1)",
)
# The fluid-era loss of one output, unreduced.
LOG_LOSS = function(
    "functional.log_loss",
    Convention(log_offset=1e-4, empty_mean="nan"),
    ranks={"binary": range(2, 3)},
    input_kinds={"probabilities": ""},
    targets={"binary": "same"},
    dtypes=frozenset({"float32"}),
    excludes=(frozenset({"several_outputs"}),),
    reductions={"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    call="paddle.nn.functional.log_loss({predictions}, {labels}, {options})",
    documentation=f"{DOCUMENTATION}functional/log_loss_en.html",
    untested={"epsilon=1e-4": "the offset of the probabilities"},
)
FRAMEWORK = Framework(
    name="paddle",
    distributions=("paddlepaddle",),
    repository="https://github.com/PaddlePaddle/Paddle",
    modules=("paddle",),
    requirements=("paddlepaddle", "setuptools"),
    arrays=arrays.paddle,
    imports="import paddle",
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    functions=(CROSS_ENTROPY, FUNCTIONAL, NLL, BCE, WITH_LOGITS, MULTI_LABEL, SOFT_MARGIN, LOG_LOSS),
)
