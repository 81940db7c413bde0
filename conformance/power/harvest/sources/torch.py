"""PyTorch: inputs of its losses from `module_db` and `op_db` of its own test suite.

They are random, in float64, from generators that are seeded here; stated answers are those of its reference functions,
which are written in Python.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from conformance.model.case import InputKind, Loss
from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer, first_line, to_plain
from conformance.power.harvest.source import Source, SourceMovedError
from conformance.power.harvest.translation import CaseDraft, UntranslatableError

MODULES: dict[str, tuple[str, Loss, InputKind]] = {
    "CrossEntropyLoss": ("cross_entropy_loss", "categorical", "logits"),
    "NLLLoss": ("nll_loss", "categorical", "log_probabilities"),
    "BCELoss": ("bce_loss", "binary", "probabilities"),
    "BCEWithLogitsLoss": ("bce_with_logits_loss", "binary", "logits"),
}
"""Module -> (words for names of cases, loss, kind of predictions)."""
OPERATORS = {
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
}
"""Operator -> module that computes the same loss."""
MODULES_FILE = "testing/_internal/common_modules.py"
OPERATORS_FILE = "testing/_internal/common_methods_invocations.py"
SEED = 0
RTOL, ATOL = 1e-7, 1e-7
"""Tolerance of PyTorch's `TestCase.assertEqual` in float64, which its tests of modules use."""


def collect() -> CollectedRecords:
    """Inputs of both registries for the losses, module by module and operator by operator."""
    import torch

    try:
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import module_db
    except (ImportError, AttributeError) as error:
        raise SourceMovedError(f"torch.testing._internal: {error}") from error
    modules = {info.module_cls.__name__: info for info in module_db if info.module_cls.__name__ in MODULES}
    operators = {info.name.rpartition(".")[2]: info for info in op_db if not info.variant_test_name}
    lacking = [name for name in MODULES if name not in modules] + [name for name in OPERATORS if name not in operators]
    if lacking:
        raise SourceMovedError(f"module_db and op_db have no {', '.join(lacking)}")
    records: list[Record] = []
    for name in MODULES:
        _seed(torch)
        inputs = modules[name].module_inputs_func(
            modules[name], device="cpu", dtype=torch.float64, requires_grad=False, training=False
        )
        records += _of_module(name, modules[name].module_cls, inputs, first_line(modules[name].module_inputs_func))
    for name in OPERATORS:
        _seed(torch)
        info = operators[name]
        line = first_line(info.sample_inputs_func)
        records += _of_operator(name, info.sample_inputs("cpu", torch.float64, requires_grad=False), line)
    return CollectedRecords(tuple(records))


def _seed(torch: Any) -> None:
    torch.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)


def _of_module(name: str, loss: Any, inputs: Iterable[Any], line: int) -> Iterator[Record]:
    for number, sample in enumerate(inputs):
        init, forward = sample.constructor_input, sample.forward_input
        arguments = {**_bound(init.args, init.kwargs, ("weight",)), **_bound(forward.args, forward.kwargs, BOTH)}
        stated = None
        if sample.reference_fn is not None:
            answer = sample.reference_fn(loss(*init.args, **init.kwargs), *forward.args, **forward.kwargs)
            stated = StatedAnswer(answer.double().numpy(), str(answer.dtype).removeprefix("torch."), RTOL, ATOL)
        test = f"torch/{MODULES_FILE}::module_inputs_torch_nn_{name}[{number}]"
        yield Record(test, f"{MODULES[name][0]}_{sample.desc}", name, arguments, stated, line=line)


def _of_operator(name: str, inputs: Iterable[Any], line: int) -> Iterator[Record]:
    for number, sample in enumerate(inputs):
        arguments = {
            "input": to_plain(sample.input.detach().clone()),
            **_bound(sample.args, sample.kwargs or {}, BOTH[1:]),
        }
        shape = "x".join(map(str, arguments["input"].shape)) or "scalar"
        options = [_option(key, value) for key, value in sorted((sample.kwargs or {}).items())]
        target = arguments.get("target")
        soft = "distribution" if name == "cross_entropy" and target is not None and target.dtype.kind == "f" else ""
        described = "_".join(filter(None, (name, shape, soft, *options)))
        test = f"torch/{OPERATORS_FILE}::sample_inputs_{name}[{number}]"
        yield Record(test, described, name, arguments, line=line)


def _option(name: str, value: Any) -> str:
    if not hasattr(value, "shape"):
        return f"{name}_{value}"
    return f"{name}_{'x'.join(map(str, value.shape)) or 'scalar'}"


BOTH = ("input", "target")


def _bound(args: Iterable[Any], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments by name; tensors as copies, which a reference function may modify."""

    def kept(value: Any) -> Any:
        return to_plain(value.detach().clone()) if hasattr(value, "detach") else to_plain(value)

    return {name: kept(value) for name, value in {**dict(zip(names, args, strict=False)), **kwargs}.items()}


UNDERSTOOD = frozenset({"input", "target", "weight", "reduction", "ignore_index", "label_smoothing", "pos_weight"})


def translate(record: Record) -> CaseDraft:
    """Classes are on axis 1 by default; `weight` is of classes, or of outputs for a binary loss."""
    arguments = record.arguments
    if unknown := sorted(arguments.keys() - UNDERSTOOD):
        raise UntranslatableError(f"the argument {', '.join(unknown)}")
    module = OPERATORS.get(record.function, record.function)
    _, loss, input_kind = MODULES[module]
    categorical = loss == "categorical"
    soft = categorical and arguments["target"].dtype.kind == "f"
    return CaseDraft(
        loss=loss,
        input_kind=input_kind,
        target="distribution" if soft else "index" if categorical else "binary",
        predictions=arguments["input"],
        labels=arguments["target"],
        reduction=arguments.get("reduction", "mean"),
        class_axis=1 if categorical and arguments["input"].ndim > 1 else -1,
        class_weights=arguments.get("weight") if categorical else None,
        sample_weights=None if categorical else arguments.get("weight"),
        positive_weight=arguments.get("pos_weight"),
        label_smoothing=arguments.get("label_smoothing"),
        ignore_index=arguments.get("ignore_index"),
        documented_function=f"torch.{module}",
    )


SOURCE = Source(
    name="torch",
    distribution="torch",
    modules={"torch": "torch", "expecttest": "expecttest"},
    files=(MODULES_FILE, OPERATORS_FILE, "testing/_creation.py"),
    collect=collect,
    translate=translate,
    url="https://github.com/pytorch/pytorch",
)
