"""PyTorch: CrossEntropyLoss and NLLLoss over classes, BCELoss and BCEWithLogitsLoss over outputs.

Classes are on axis 1.  With index targets the mean divides by the weight of the labels that are not
ignored, which differs from the definition where they are smoothed; with probability targets, and in the binary losses,
by how many losses there are.  The narrow dtypes
came to the CPU one operation after another, so what a function computes in depends on its release.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.adapters import contract
from conformance.adapters.contract import Call, Framework, Function, Parameter, Rule, Tensor
from conformance.model.case import Array, Problem
from conformance.model.convention import Convention

DOCUMENTATION = "https://docs.pytorch.org/docs/stable/generated/torch.nn."
LAYOUTS = frozenset({"class_axis", "fortran", "strided", "broadcast", "readonly"})
ORDERS = LAYOUTS - {"class_axis"}
INDEX = Rule(
    Convention(default_ignore_index=-100, gradient_cancellation="targets", empty_mean="nan"),
    targets=frozenset({"index"}),
    source=DOCUMENTATION + "CrossEntropyLoss.html",
)
SMOOTHED_INDEX = dataclasses.replace(
    INDEX, convention=dataclasses.replace(INDEX.convention, mean_divides_by="label_weight")
)
SOFT = Rule(
    Convention(
        mean_divides_by="kept",
        gradient_cancellation="targets",
        accepts=frozenset({"invalid_target"}),
        empty_mean="nan",
    ),
    source=DOCUMENTATION + "CrossEntropyLoss.html",
)


def lower(path: str, problem: Problem) -> Call:
    """Targets become int64 indices, or floats of the predictions' dtype; weights are constructor arguments."""
    options = problem.options
    init: dict[str, Any] = {}
    if options.class_weights is not None:
        init["weight"] = Tensor(options.class_weights)
    if (weights := contract.sample_weights(problem)) is not None:
        init["weight"] = weights
    if options.positive_weight is not None:
        init["pos_weight"] = Tensor(options.positive_weight)
    if options.ignore_index is not None:
        init["ignore_index"] = options.ignore_index
    if options.label_smoothing is not None:
        init["label_smoothing"] = options.label_smoothing
    init["reduction"] = problem.reduction
    axis = 1 if problem.loss == "categorical" else -1
    if problem.target == "index" or path.endswith("NLLLoss"):
        target = contract.index_labels(problem, "int64")
    else:
        target = contract.labels(problem, problem.dtype, axis)
    return Call(path, {"input": contract.predictions(problem, axis), "target": target}, init=init)


def parameters(weight: str, options: frozenset[str]) -> tuple[Parameter, ...]:
    """Those of a loss whose `weight` carries weights per class or per output, and which takes these options."""
    own = {"ignore_index": "ignore_index", "label_smoothing": "label_smoothing", "pos_weight": "positive_weight"}
    return (
        Parameter("weight", weight),
        Parameter("size_average", neutral="deprecated alias"),
        Parameter("reduce", neutral="deprecated alias"),
        Parameter("reduction", "reduction"),
        *(Parameter(name, option) for name, option in own.items() if option in options),
        Parameter("input", "predictions"),
        Parameter("target", "labels"),
    )


def function(name: str, **data: Any) -> Function:
    path = f"torch.nn.{name}"
    weight = next(name for name in ("class_weights", "sample_weights") if name in data["options"])
    return Function(
        parameters=parameters(weight, data["options"]),
        name=f"torch.{name}",
        path=path,
        source=f"{DOCUMENTATION}{name}.html",
        lower=lambda p: lower(path, p),
        differentiated="input",
        **data,
    )


def tensor(tensor: Tensor, memory: Array) -> Any:
    import torch

    if memory.dtype.name == "bfloat16":
        return torch.from_numpy(memory.view(np.int16)).view(torch.bfloat16)  # numpy's is not known to it
    return (
        torch.from_numpy(memory)
        if memory.ndim
        else torch.tensor(memory.item(), dtype=getattr(torch, memory.dtype.name))
    )


def literal(tensor: Tensor) -> str:
    dtype = f"torch.{tensor.values.dtype.name}"
    if tensor.order == "c" and tensor.values.size:
        return f"torch.tensor({contract.nested(tensor.values)}, dtype={dtype})"
    if dtype != "torch.bfloat16":
        return f"torch.from_numpy({tensor.source()})"
    return f"torch.from_numpy({tensor.source()}.view(np.int16)).view({dtype})"


def array(result: Any) -> tuple[Array, str]:
    name = str(result.dtype).removeprefix("torch.")
    found = result.detach().cpu()
    wide = found if name == "float64" else found.float()  # on the way to float64, half as long for the narrow dtypes
    return wide.numpy().astype(np.float64, copy=False), name


def gradient(of: Callable[[Any], Any], at: Any) -> Any:
    x = at.detach().requires_grad_()
    of(x).sum().backward()
    return x.grad


def gradient_literal(expression: str, x: str) -> str:
    return f"x = {x}.requires_grad_(); {expression}.sum().backward(); x.grad"


PULLS = "https://github.com/pytorch/pytorch/pull/"
WIDE = frozenset({"float32", "float64"})
NO_HALF = WIDE | {"bfloat16"}
CATEGORICAL = {"categorical": range(2, 9)}
BINARY = {"binary": range(1, 9)}
OUTPUTS = frozenset({"binary", "soft_binary"})
SMOOTHED = frozenset({"class_weights", "ignore_index", "label_smoothing"})
SOFT_TARGETS = frozenset({"index", "one_hot", "distribution"})
NOT_IGNORED = (frozenset({"ignore_index", "one_hot"}), frozenset({"ignore_index", "distribution"}))


def cross_entropy(versions: str, **data: Any) -> Function:
    """With probability targets and smoothing since 1.10; log_softmax takes float16 since 2.2, nll_loss since 2.4."""
    usual = {"targets": SOFT_TARGETS, "options": SMOOTHED, "excludes": NOT_IGNORED, "rules": (SMOOTHED_INDEX, SOFT)}
    said = {"ranks": CATEGORICAL, "takes": ("logits",), "layouts": LAYOUTS, **usual, **data}
    return function("CrossEntropyLoss", versions=versions, **said)


def nll(versions: str, **data: Any) -> Function:
    return function(
        "NLLLoss",
        versions=versions,
        ranks=CATEGORICAL,
        takes=("log_probabilities",),
        targets=frozenset({"index"}),
        options=frozenset({"class_weights", "ignore_index"}),
        layouts=LAYOUTS,
        rules=(INDEX,),
        **data,
    )


FLOOR = float(np.float32(1e-12))
"""A float in the source, whatever the dtype of the loss."""


def bce_rule(versions: str, rejects: frozenset[str], source: str) -> Rule:
    return Rule(
        Convention(mean_divides_by="kept", log_floor=-100.0, gradient_floor=FLOOR, empty_mean="nan", rejects=rejects),
        versions,
        source=source,
    )


BCE_RULES = (
    bce_rule(">=2.1", frozenset({"nan_prediction", "nan_target"}), DOCUMENTATION + "BCELoss.html"),
    bce_rule("<2.1", frozenset({"nan_prediction"}), PULLS + "97814"),
)


BROADCAST: Any = {"options": frozenset({"sample_weights"}), "weights_handed_over": "per_loss"}
"""The classes document weights of size nbatch, the functions that they call repeat them by numpy's rule, along the last
axis; the former is a mistake of the documentation: https://github.com/pytorch/pytorch/issues/68780."""


def bce(versions: str, **data: Any) -> Function:
    """Its targets are checked since 2.1; what it documents about them is older.  Narrow dtypes since 2.4."""
    return function(
        "BCELoss",
        versions=versions,
        ranks=BINARY,
        takes=("probabilities",),
        targets=OUTPUTS,
        layouts=ORDERS,
        rules=BCE_RULES,
        **BROADCAST,
        **data,
    )


WITH_LOGITS = Rule(
    Convention(
        mean_divides_by="kept",
        accepts=frozenset({"invalid_target"}),
        cancellation="logits",
        gradient_cancellation="targets",
        empty_mean="nan",
    ),
    source="https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/Loss.cpp",
)


def bce_with_logits(versions: str, **data: Any) -> Function:
    return function(
        "BCEWithLogitsLoss",
        versions=versions,
        ranks=BINARY,
        takes=("logits",),
        targets=OUTPUTS,
        layouts=ORDERS,
        rules=(WITH_LOGITS,),
        **BROADCAST | {"options": frozenset({"sample_weights", "positive_weight"})},
        **data,
    )


FRAMEWORK = Framework(
    name="torch",
    distributions=("torch",),
    modules=("torch",),
    imports="import torch",
    tensor=tensor,
    literal=literal,
    array=array,
    gradient=gradient,
    gradient_literal=gradient_literal,
    needs=(("<2.3", "numpy<2"),),
    functions=(
        cross_entropy(">=2.4"),
        nll(">=2.4"),
        bce(">=2.4"),
        bce_with_logits(">=2.1"),
        cross_entropy(">=2.2,<2.4", excludes=(*NOT_IGNORED, frozenset({"float16", "index"}))),
        cross_entropy(">=1.10,<2.2", dtypes=NO_HALF),
        cross_entropy(
            "<1.10",
            dtypes=NO_HALF,
            targets=frozenset({"index"}),
            options=SMOOTHED - {"label_smoothing"},
            rules=(INDEX,),
        ),
        nll("<2.4", dtypes=NO_HALF),
        bce("<2.4", dtypes=WIDE),
        bce_with_logits("<2.1", dtypes=NO_HALF),
    ),
)
