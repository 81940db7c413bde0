"""PyTorch: losses over classes and over outputs, as classes and as the functions to which these pass their arguments.

Weights with another dtype than the predictions are cast or promoted, except class weights with index labels.
Classes are on axis 1.  The mean over index targets divides by the sum of the class weights of the labels that are not
ignored; label smoothing does not affect that divisor, unlike in the definition.  The mean over
probability targets, and that of the binary losses, divides by the number of losses.  Support for float16 and bfloat16
on the CPU was added operation by operation, so the dtypes of a function depend on the release.
"""

from __future__ import annotations

import dataclasses
import os
import shutil

import numpy as np

from conformance.adapters import arrays
from conformance.adapters.contract import (
    INTEGER_DTYPES,
    DocumentedConvention,
    Framework,
    Function,
    Mode,
    NoEffect,
    family,
)
from conformance.model.case import DTYPES
from conformance.model.convention import Convention

DOCUMENTATION = "https://docs.pytorch.org/docs/2.13/generated/torch.nn."
FUNCTIONAL_DOCUMENTATION = DOCUMENTATION + "functional."
PULLS = "https://github.com/pytorch/pytorch/pull/"
WIDE_DTYPES = frozenset({"float32", "float64"})
NO_FLOAT16 = WIDE_DTYPES | {"bfloat16"}
ALL_DTYPES = frozenset(DTYPES)
CATEGORICAL = {"categorical": range(2, 9)}
CATEGORICAL_OR_UNBATCHED = {"categorical": range(1, 9)}
BINARY = {"binary": range(9)}
BINARY_TARGETS = {"binary": "same", "soft_binary": "same"}
CLASS_OPTIONS = {"class_weights": "weight", "ignore_index": "ignore_index"}
POSITIONAL = {"predictions": "input", "labels": "target"}
NO_EFFECT: dict[str, NoEffect] = {"size_average": "deprecated alias", "reduce": "deprecated alias"}
IGNORE_INDEX_WITH_ROWS = (frozenset({"ignore_index", "one_hot"}), frozenset({"ignore_index", "distribution"}))
INDEX_DTYPES = "int64 uint8"
UINT8_WITH_HIGHER_RANK = (frozenset({"uint8_labels", "higher_rank"}),)
"""uint8 labels are accepted with two axes only: https://github.com/pytorch/pytorch/pull/60308."""
SOFT_WITHOUT_BATCH = (frozenset({"unbatched", "one_hot"}), frozenset({"unbatched", "distribution"}))
"""Probabilities for a single sample are accepted later than its index: https://github.com/pytorch/pytorch/pull/77653."""
UINT8_WITH_SMOOTHED_MEAN = frozenset({"uint8_labels", "label_smoothing", "class_weights", "mean"})
"""The mean gathers the weights of the labels, which does not accept uint8."""
EXCLUDES = (*IGNORE_INDEX_WITH_ROWS, *UINT8_WITH_HIGHER_RANK, UINT8_WITH_SMOOTHED_MEAN)
PROMOTED_DTYPES = "same float32 float64"
GRADIENT_EPSILON = float(np.float32(1e-12))
"""A float in the source, for any dtype of the loss."""
ONE_THREAD_VARIABLES = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TF32_VARIABLE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
"""Whether matrix products of float32 may read 10 bits of each mantissa, which some containers set:
https://docs.pytorch.org/docs/2.13/cuda_environment_variables.html."""
CUDA_ONLY = frozenset({"cuda"})

INDEX_CONVENTION = DocumentedConvention(
    Convention(default_ignore_index=-100, gradient_cancellation="targets", empty_mean="nan"),
    targets=frozenset({"index"}),
    documentation=DOCUMENTATION + "CrossEntropyLoss.html",
)
SMOOTHED_INDEX_CONVENTION = dataclasses.replace(
    INDEX_CONVENTION, convention=dataclasses.replace(INDEX_CONVENTION.convention, mean_divides_by="label_weight")
)
SOFT_CONVENTION = DocumentedConvention(
    Convention(
        mean_divides_by="kept",
        gradient_cancellation="targets",
        accepts=frozenset({"invalid_target"}),
        empty_mean="nan",
    ),
    documentation=DOCUMENTATION + "CrossEntropyLoss.html",
)


function = family(
    "torch.nn.@({options})({predictions}, {labels})",
    documentation=f"{DOCUMENTATION}@.html",
    positional=POSITIONAL,
    no_effect=NO_EFFECT,
)
"""A class of `torch.nn`, constructed with the options."""


def no_compiler() -> str:
    """Why inductor, the backend of `torch.compile`, has no compiler; "" if it has one."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    return "" if any(map(shutil.which, filter(None, names))) else "there is no C++ compiler; install g++, or set CXX"


CROSS_ENTROPY = (
    function(
        "CrossEntropyLoss",
        ranks=CATEGORICAL,
        input_kinds={"logits": ""},
        targets={"index": "int64"},
        arguments=CLASS_OPTIONS,
        class_axis=1,
        dtypes=NO_FLOAT16,
        excludes=IGNORE_INDEX_WITH_ROWS,
        conventions=(INDEX_CONVENTION,),
    )
    .since(
        "1.10",
        targets={"index": INDEX_DTYPES, "one_hot": PROMOTED_DTYPES, "distribution": PROMOTED_DTYPES},
        arguments={"label_smoothing": "label_smoothing"},
        excludes=EXCLUDES,
        result_dtype="promoted",
        conventions=(SMOOTHED_INDEX_CONVENTION, SOFT_CONVENTION),
    )
    .since("1.11", ranks=CATEGORICAL_OR_UNBATCHED, excludes=(*EXCLUDES, *SOFT_WITHOUT_BATCH))
    .since("1.12", excludes=EXCLUDES)
    # log_softmax takes float16 since 2.2, nll_loss since 2.4
    .since("2.2", dtypes=ALL_DTYPES, excludes=(*EXCLUDES, frozenset({"float16", "index"})))
    .since(
        "2.4",
        weight_dtypes="",
        result_dtype="promoted_with_weights",
        excludes=(*EXCLUDES, frozenset({"index", "weight_dtype"})),
    )
)
# Autocast multiplies a head in bfloat16, for which no budget has room, and does not cast for the multi-label loss.
ALL_BUT_AUTOCAST = frozenset({"compile", "one_thread", "export", "tf32", "no_tf32"})
# Without chunks it is CrossEntropyLoss of a product, so it is called on the cases that the product may affect.
HEAD_FILES = frozenset({"categorical/index_labels", "categorical/class_weights", "categorical/vocabularies"})
CHUNKED_FILES = HEAD_FILES | {
    "categorical/batches_in_blocks",
    "categorical/ignore_index",
    "categorical/invalid_labels",
    "categorical/unbatched",
    "categorical/weights_of_other_classes",
}
LINEAR = CROSS_ENTROPY.like(
    "linear_cross_entropy",
    call="torch.nn.functional.linear_cross_entropy({hidden}, {weight}, {labels}, {options})",
    ranks={"categorical": range(1, 3)},
    arguments={"bias": "linear_bias"},
    positional={"hidden": "input", "weight": "linear_weight", "labels": "target"},
    targets={"index": "int64"},
    orders=frozenset(),
    class_axis=-1,
    excludes=(*IGNORE_INDEX_WITH_ROWS, frozenset({"index", "weight_dtype"})),
    no_effect={**dict.fromkeys(NO_EFFECT), "options": "implementation"},
    modes=ALL_BUT_AUTOCAST,
    default_files=HEAD_FILES | {"categorical/label_smoothing", "categorical/label_smoothing_rows"},
    documentation="https://docs.pytorch.org/docs/2.13/generated/torch.nn.functional.linear_cross_entropy.html",
    first="2.13",
)
MULTI_LABEL_FILES = frozenset({"binary/logits", "binary/logits_edge", "binary/invalid_labels"})
# Its gradients are computed in the forward pass, a chunk of the samples at a time; it takes indices without smoothing.
CHUNKED = LINEAR.like(
    "linear_cross_entropy:chunked",
    call="torch.nn.functional.linear_cross_entropy("
    "{hidden}, {weight}, {labels}, {options}, options=torch.nn.LinearCrossEntropyOptions())",
    arguments={"label_smoothing": None},
    targets={"one_hot": None, "distribution": None},
    excludes=(),
    result_dtype="same",
    no_effect={"options": None},
    conventions=(INDEX_CONVENTION,),
    untested={"label_smoothing=0.1": "smoothing goes past the chunks, with a warning"},
    default_files=CHUNKED_FILES,
)
# As https://huggingface.co/docs/transformers/perplexity writes it.
PERPLEXITY = CROSS_ENTROPY.like(
    "CrossEntropyLoss:perplexity",
    call="torch.exp(torch.nn.CrossEntropyLoss({options})({predictions}, {labels}))",
    quantity="perplexity",
    reductions={"none": None, "sum": None, "mean": "reduction='mean'"},
)
NLL = (
    function(
        "NLLLoss",
        ranks=CATEGORICAL,
        input_kinds={"log_probabilities": ""},
        targets={"index": "int64"},
        arguments=CLASS_OPTIONS,
        class_axis=1,
        dtypes=NO_FLOAT16,
        conventions=(
            dataclasses.replace(
                INDEX_CONVENTION,
                # documented to expect log-probabilities; nothing says that others are rejected
                convention=dataclasses.replace(INDEX_CONVENTION.convention, accepts=frozenset({"invalid_probability"})),
                documentation=DOCUMENTATION + "NLLLoss.html",
            ),
        ),
    )
    .since("1.10", ranks=CATEGORICAL_OR_UNBATCHED, targets={"index": INDEX_DTYPES}, excludes=UINT8_WITH_HIGHER_RANK)
    .since("2.4", dtypes=ALL_DTYPES)
)
# The classes document weights of size nbatch.  That is a mistake of the documentation: the functions they call
# broadcast weights by numpy's rule, along the last axis.  https://github.com/pytorch/pytorch/issues/68780
BCE = (
    function(
        "BCELoss",
        Convention(
            mean_divides_by="kept",
            log_floor=-100.0,
            gradient_floor=GRADIENT_EPSILON,
            empty_mean="nan",
            rejects=frozenset({"nan_prediction"}),
        ),
        PULLS + "97814",
        ranks=BINARY,
        input_kinds={"probabilities": ""},
        targets=BINARY_TARGETS,
        arguments={"sample_weights": "weight"},
        sample_weight_shape="per_loss",
        dtypes=WIDE_DTYPES,
    )
    # What it documents about its targets, which it checks since then, is older.
    .since(
        "2.1",
        choices={"rejects": frozenset({"nan_prediction", "nan_target"})},
        documentation=DOCUMENTATION + "BCELoss.html",
    )
    .since("2.4", dtypes=ALL_DTYPES, weight_dtypes="")
)
WITH_LOGITS = (
    function(
        "BCEWithLogitsLoss",
        Convention(
            mean_divides_by="kept",
            accepts=frozenset({"invalid_target"}),
            cancellation="logits",
            gradient_cancellation="targets",
            empty_mean="nan",
        ),
        "https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/Loss.cpp",
        ranks=BINARY,
        input_kinds={"logits": ""},
        targets=dict.fromkeys(BINARY_TARGETS, PROMOTED_DTYPES),
        result_dtype="promoted",
        arguments={"sample_weights": "weight", "positive_weight": "pos_weight"},
        sample_weight_shape="per_loss",
        dtypes=NO_FLOAT16,
    )
    .since("2.1", dtypes=ALL_DTYPES)
    .since("2.4", weight_dtypes="", excludes=(frozenset({"positive_weight", "bool_weights"}),))
)


def functional(loss: Function, name: str, *files: str) -> Function:
    """The function that a class calls: the same computation, so that it is called with a part of the cases."""
    return loss.like(
        f"functional.{name}",
        call=f"torch.nn.functional.{name}({{predictions}}, {{labels}}, {{options}})",
        documentation=f"{FUNCTIONAL_DOCUMENTATION}{name}.html",
        default_files=frozenset(files),
    )


# The mean over the classes is taken before the reduction, and a weight is one of a class.
MULTI_LABEL = function(
    "MultiLabelSoftMarginLoss",
    Convention(
        binary_outputs="mean_of_last_axis",
        accepts=frozenset({"invalid_target"}),
        empty_mean="nan",
    ),
    f"{DOCUMENTATION}MultiLabelSoftMarginLoss.html",
    ranks={"binary": range(1, 9)},
    input_kinds={"logits": ""},
    targets={"binary": f"{PROMOTED_DTYPES} {INTEGER_DTYPES}", "soft_binary": PROMOTED_DTYPES},
    result_dtype="promoted",
    dtypes=ALL_DTYPES,
    modes=ALL_BUT_AUTOCAST,
    default_files=MULTI_LABEL_FILES,
)
# Its mean is that over all outputs; a weight of each class stands beside no other reduction of the definition.
WEIGHTED_MULTI_LABEL = MULTI_LABEL.like(
    "MultiLabelSoftMarginLoss:weight",
    arguments={"sample_weights": "weight=torch.atleast_2d({}).flatten(0, -2)[0]"},
    reductions={"none": None, "sum": None, "mean": "reduction='mean'"},
    excludes=(frozenset({"weights_by_sample"}),),
    choices={"binary_outputs": "each", "mean_divides_by": "kept"},
    default_files=frozenset({"binary/weights_per_class"}),
)
# The logistic loss of labels that are 1 and -1: a binary cross-entropy from logits.
SOFT_MARGIN = MULTI_LABEL.like(
    "SoftMarginLoss",
    call="torch.nn.SoftMarginLoss({options})({predictions}, 2 * {labels} - 1)",
    ranks=BINARY,
    targets={"binary": f"{PROMOTED_DTYPES} int64 int32 int16 int8 bool", "soft_binary": None},
    result_dtype="same",
    choices={"binary_outputs": "each", "accepts": frozenset()},
    documentation=f"{DOCUMENTATION}SoftMarginLoss.html",
    default_files=MULTI_LABEL_FILES | {"binary/saturated_logits", "binary/infinite_logits"},
)
WEIGHTED_AND_IGNORED = "categorical/weights_and_ignored_positions"
PER_OUTPUT = "binary/weights_per_output"
SECONDARY_FUNCTIONS = (
    functional(
        CROSS_ENTROPY,
        "cross_entropy",
        "categorical/class_weights",
        "categorical/probabilities_rows_options",
        WEIGHTED_AND_IGNORED,
    ),
    functional(NLL, "nll_loss", "categorical/log_probabilities", WEIGHTED_AND_IGNORED),
    functional(BCE, "binary_cross_entropy", "article/binary", PER_OUTPUT),
    functional(WITH_LOGITS, "binary_cross_entropy_with_logits", PER_OUTPUT),
    MULTI_LABEL,
    WEIGHTED_MULTI_LABEL,
    SOFT_MARGIN,
    functional(MULTI_LABEL, "multilabel_soft_margin_loss", "article/binary").since(
        "", untested={"weight=None": "the weight of each class that MultiLabelSoftMarginLoss hands it"}
    ),
)
EXPORT_WRAPPER = """class Loss(torch.nn.Module):
    def forward(self, *arrays):
        return {loss}(*arrays)
def exported(*arrays):
    return torch.export.export(Loss(), arrays).module()(*arrays)
exported"""
AUTOCAST_WRAPPER = """def autocast(*arrays):
    with torch.autocast("cpu", torch.bfloat16):
        return {loss}(*arrays)
autocast"""
AUTOCAST_EXCLUDES = (frozenset({"float16"}), frozenset({"float64"}))
"""Dtypes that are neither computed in bfloat16 nor cast to float32 on the CPU
(https://docs.pytorch.org/docs/2.13/amp.html)."""
FRAMEWORK = Framework(
    name="torch",
    distributions=("torch",),
    repository="https://github.com/pytorch/pytorch",
    modules=("torch",),
    arrays=arrays.torch,
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    modes={
        "compile": Mode("torch.compile({loss})", why_unavailable=no_compiler),
        "one_thread": Mode(environment=ONE_THREAD_VARIABLES),
        "export": Mode(EXPORT_WRAPPER),
        "autocast": Mode(AUTOCAST_WRAPPER, excludes=AUTOCAST_EXCLUDES, result_dtype="float32"),
        "tf32": Mode(environment={TF32_VARIABLE: "1"}, devices=CUDA_ONLY),
        "no_tf32": Mode(environment={TF32_VARIABLE: "0"}, devices=CUDA_ONLY),
    },
    extra_requirements=(("<2.3", "numpy<2"),),
    functions=(CROSS_ENTROPY, LINEAR, CHUNKED, PERPLEXITY, NLL, BCE, WITH_LOGITS, *SECONDARY_FUNCTIONS),
)
