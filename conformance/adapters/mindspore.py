"""MindSpore on the CPU: losses over classes, from logits and log-probabilities, and over outputs.

Calls are executed synchronously: by default they overlap, and an error in one of them may end the process.
The classes are on axis 1.  The mean over index labels divides by the class weights of the labels, that over rows of
targets by the number of losses.  A class of `nn` passes its arguments to the function of `ops`, which is its twin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import DocumentedConvention, Framework, Function, family
from conformance.model.case import Problem
from conformance.model.convention import Convention

DOCUMENTATION = "https://www.mindspore.cn/docs/en/r2.10.0/api_python/"
SOURCE = "https://github.com/mindspore-ai/mindspore/blob/v2.10.0/mindspore/"
NN_FUNCTIONS = f"{SOURCE}python/mindspore/ops/function/nn_func.py"
NARROW_DTYPES = frozenset({"float16", "float32"})
CLASS_OPTIONS = {"class_weights": "weight", "ignore_index": "ignore_index"}
INPUT_AND_TARGET = {"predictions": "input", "labels": "target"}
EPSILON = 1e-12
"""It is added to a probability before its logarithm, and is 0 in float16."""
IGNORE_INDEX_WITH_ROWS = (frozenset({"ignore_index", "one_hot"}), frozenset({"ignore_index", "distribution"}))


of_class = family(
    "mindspore.nn.@({options})({predictions}, {labels})",
    name="nn.@",
    documentation=f"{DOCUMENTATION}nn/mindspore.nn.@.html",
    dtypes=NARROW_DTYPES,
    positional={"predictions": "logits", "labels": "labels"},
)
"""A class of `mindspore.nn`, constructed with the options."""


def as_function(loss: Function, name: str, *files: str, **fields: Any) -> Function:
    """The function of `mindspore.ops` to which a class passes its arguments, called on only some cases."""
    return loss.like(
        f"ops.{name}",
        call=f"mindspore.ops.{name}({{predictions}}, {{labels}}, {{options}})",
        documentation=f"{DOCUMENTATION}ops/mindspore.ops.{name}.html",
        default_files=frozenset(files),
        **fields,
    )


def class_weights(problem: Problem) -> Mapping[str, Any]:
    """The weights of the classes; ones if none are stated."""
    stated = problem.options.class_weights
    return (
        {}
        if stated is not None
        else {"class_weights": Tensor(np.ones_like(problem.predictions, shape=problem.predictions.shape[-1:]))}
    )


KERNELS = f"{SOURCE}ops/kernel/cpu/native/"
INDEX_CONVENTION = DocumentedConvention(
    Convention(
        mean_divides_by="label_weight", default_ignore_index=-100, gradient_cancellation="targets", empty_mean="nan"
    ),
    targets=frozenset({"index"}),
    documentation=NN_FUNCTIONS,
)
ROW_CONVENTION = DocumentedConvention(
    Convention(
        mean_divides_by="kept",
        gradient_cancellation="targets",
        accepts=frozenset({"invalid_target"}),
        empty_mean="nan",
    ),
)
CROSS_ENTROPY = of_class(
    "CrossEntropyLoss",
    ranks={"categorical": range(1, 9)},
    input_kinds={"logits": ""},
    targets={"index": "int32", "one_hot": "same", "distribution": "same"},
    arguments={**CLASS_OPTIONS, "label_smoothing": "label_smoothing"},
    class_axis=1,
    excludes=IGNORE_INDEX_WITH_ROWS,
    conventions=(INDEX_CONVENTION, ROW_CONVENTION),
)
NLL = of_class(
    "NLLLoss",
    ranks={"categorical": range(2, 9)},
    input_kinds={"log_probabilities": ""},
    targets={"index": "int32"},
    arguments=CLASS_OPTIONS,
    class_axis=1,
    conventions=(
        replace(
            INDEX_CONVENTION,
            convention=replace(
                INDEX_CONVENTION.convention, mean_divides_by="weight", accepts=frozenset({"invalid_probability"})
            ),
        ),
    ),
)
# The weights of the classes have no default here.
NLL_KERNEL = Function(
    "ops.NLLLoss",
    "mindspore.ops.NLLLoss({options})({predictions}, {labels}, {class_weights})[0]",
    ranks={"categorical": range(2, 3)},
    input_kinds={"log_probabilities": ""},
    targets={"index": "int32 int64 uint8"},
    arguments=CLASS_OPTIONS,
    placeholder_values=class_weights,
    dtypes=NARROW_DTYPES,
    positional={"predictions": "logits", "labels": "labels", "class_weights": "weight"},
    conventions=NLL.conventions,
    documentation=f"{DOCUMENTATION}ops/mindspore.ops.NLLLoss.html",
)
BINARY_FIELDS: dict[str, Any] = {"ranks": {"binary": range(9)}, "targets": {"binary": "same", "soft_binary": "same"}}
BCE = of_class(
    "BCELoss",
    Convention(
        mean_divides_by="kept",
        log_offset=EPSILON,
        gradient_floor=EPSILON,
        empty_mean="nan",
        accepts=frozenset({"invalid_target"}),
    ),
    f"{KERNELS}binary_cross_entropy_cpu_kernel.cc",
    **BINARY_FIELDS,
    input_kinds={"probabilities": ""},
    arguments={"sample_weights": "weight"},
    sample_weight_shape="per_loss",
)
WITH_LOGITS = of_class(
    "BCEWithLogitsLoss",
    Convention(
        mean_divides_by="kept",
        accepts=frozenset({"invalid_target"}),
        cancellation="logits",
        gradient_cancellation="targets",
        empty_mean="nan",
    ),
    f"{KERNELS}bce_with_logits_loss_cpu_kernel.cc",
    **BINARY_FIELDS,
    input_kinds={"logits": ""},
    arguments={"sample_weights": "weight", "positive_weight": "pos_weight"},
    positional=INPUT_AND_TARGET,
    sample_weight_shape="per_loss",
    dtypes=NARROW_DTYPES | {"bfloat16"},
)
SIGMOID = Function(
    "ops.SigmoidCrossEntropyWithLogits",
    "mindspore.ops.SigmoidCrossEntropyWithLogits({options})({predictions}, {labels})",
    **BINARY_FIELDS,
    input_kinds={"logits": ""},
    reductions={"none": "", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    positional={"predictions": "args", "labels": "args"},
    dtypes=NARROW_DTYPES | {"float64"},
    conventions=(
        DocumentedConvention(
            Convention(
                accepts=frozenset({"invalid_target"}),
                gradient_cancellation="targets",
                empty_mean="nan",
            )
        ),
    ),
    documentation=f"{DOCUMENTATION}ops/mindspore.ops.SigmoidCrossEntropyWithLogits.html",
)
MULTI_LABEL = Function(
    "ops.multilabel_soft_margin_loss",
    "mindspore.ops.multilabel_soft_margin_loss({predictions}, {labels}, {options})",
    ranks={"binary": range(2, 3)},
    input_kinds={"logits": ""},
    targets={"binary": "same", "soft_binary": "same"},
    dtypes=NARROW_DTYPES | {"float64"},
    positional=INPUT_AND_TARGET,
    untested={"weight=None": "multiplies outputs before their mean, as weights of a sample do not"},
    conventions=(
        DocumentedConvention(
            Convention(binary_outputs="mean_of_last_axis", accepts=frozenset({"invalid_target"}), empty_mean="nan")
        ),
    ),
    documentation=f"{DOCUMENTATION}ops/mindspore.ops.multilabel_soft_margin_loss.html",
    default_files=frozenset({"binary/infinite_logits", "binary/invalid_labels", "binary/saturated_logits"}),
)
SOFTMAX = of_class(
    "SoftmaxCrossEntropyWithLogits",
    call="mindspore.nn.@(sparse=False, {options})({predictions}, {labels})",
    ranks={"categorical": range(2, 3)},
    input_kinds={"logits": ""},
    targets={"one_hot": "same", "distribution": "same"},
    conventions=(
        replace(
            ROW_CONVENTION,
            convention=replace(ROW_CONVENTION.convention, gradient_total="one", mean_divides_by="weight"),
            documentation=f"{KERNELS}softmax_cross_entropy_with_logits_cpu_kernel.cc",
        ),
    ),
)
SPARSE = SOFTMAX.like(
    "nn.SoftmaxCrossEntropyWithLogits:sparse",
    call="mindspore.nn.SoftmaxCrossEntropyWithLogits(sparse=True, {options})({predictions}, {labels})",
    targets={"one_hot": None, "distribution": None, "index": "int64 int32"},
    conventions=(DocumentedConvention(Convention(gradient_cancellation="targets", empty_mean="nan")),),
)
OPTION_AND_CHECK_FILES = (
    "columns",
    "invalid_labels",
    "invalid_rows",
    "soft_labels",
    "ignore_index",
    "label_smoothing",
    "class_weights",
)
"""Case files with each option, and those in which the checks make a difference that the class makes first."""
PER_OUTPUT = "binary/weights_per_output"
FRAMEWORK = Framework(
    name="mindspore",
    distributions=("mindspore",),
    repository="https://github.com/mindspore-ai/mindspore",
    modules=("mindspore",),
    requirements=("mindspore", "numpy==1.26.4"),
    arrays=arrays.mindspore,
    imports="import mindspore; mindspore.runtime.launch_blocking()",
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    functions=(
        CROSS_ENTROPY,
        as_function(
            CROSS_ENTROPY,
            "cross_entropy",
            *(f"categorical/{name}" for name in OPTION_AND_CHECK_FILES),
            targets={"index": "int64 int32", "one_hot": "same float64", "distribution": "same float64"},
            dtypes=NARROW_DTYPES | {"float64"},
            positional=INPUT_AND_TARGET,
        ),
        NLL,
        as_function(
            NLL,
            "nll_loss",
            "categorical/label_smoothing",
            "categorical/log_probabilities",
            "categorical/log_probabilities_options",
            arguments={"label_smoothing": "label_smoothing"},
            choices={"mean_divides_by": "label_weight"},
            positional={"predictions": "inputs", "labels": "target"},
        ),
        NLL_KERNEL,
        BCE,
        as_function(BCE, "binary_cross_entropy", "article/binary", PER_OUTPUT),
        WITH_LOGITS,
        as_function(WITH_LOGITS, "binary_cross_entropy_with_logits", PER_OUTPUT),
        MULTI_LABEL,
        SOFTMAX,
        SPARSE,
        SIGMOID,
    ),
)
