"""What a function is declared unable to take it refuses, or answers otherwise than is right."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Function, calling, errors, required_capabilities
from conformance.adapters.contract.declaration import FOLLOWS_FROM_MEAN
from conformance.adapters.contract.lowering import Call, lower
from conformance.adapters.contract.source import calls_with_predictions
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.judging.coverage import IMPOSSIBLE, IMPOSSIBLE_TOGETHER, LAYOUTS, TARGET_KINDS_OF
from conformance.judging.judge import Judge
from conformance.judging.plan import Item
from conformance.judging.prepare import PreparedCall
from conformance.model.case import (
    DTYPES,
    LABEL_DTYPES,
    OPTIONS,
    REDUCTIONS,
    WEIGHT_DTYPES,
    Case,
    Layout,
    Options,
    is_derivative,
    numpy_dtype,
)
from conformance.reference.conversion import convert
from conformance.reference.oracle import Oracle

HERE, _ = registry.installed()
ASKED = [(there, function) for there in HERE for function in there.functions]
RIGHT = frozenset({"agrees", "diverges"})
LOG_LOSSES = ("sklearn.log_loss", "sklearn.log_loss_without_labels")
TRANSFORMED = [function.name for _, function in ASKED if function.quantity in FOLLOWS_FROM_MEAN]
DERIVATIVES = [function.name for _, function in ASKED if is_derivative(function.quantity)]
HEADS = [function.name for _, function in ASKED if function.has_head]
OF_LOGITS = ("fortran", "strided", "broadcast", "readonly", "class_axis", "class_axis_not_1")
UNSAYABLE = {
    **{
        (name, reduction): "what it returns follows from the mean, and from no other reduction"
        for name in TRANSFORMED
        for reduction in ("none", "sum")
    },
    **{
        (name, reduction): "it returns derivatives of the losses themselves, which is those of their sum"
        for name in DERIVATIVES
        for reduction in ("none", "mean")
    },
    **dict.fromkeys(
        (("sklearn.neg_log_loss", reduction) for reduction in ("none", "sum")), "a scorer has one reduction, the mean"
    ),
    **{
        ("torch.MultiLabelSoftMarginLoss:weight", reduction): "weighted outputs of a sample are averaged before it"
        for reduction in ("none", "sum")
    },
    ("sklearn.neg_log_loss", "bfloat16"): "rows of classes are widened on their way, while outputs raise",
    **dict.fromkeys(((name, "none") for name in LOG_LOSSES), "normalize is a bool: there are two reductions"),
    **{
        (f"keras.{name}Crossentropy:mean_with_sample_weight", reduction): "it is the name of one reduction of a loss"
        for name in ("Binary", "Categorical", "SparseCategorical")
        for reduction in ("none", "sum")
    },
    **{
        (function.name, reduction): "a metric is a mean, and a model has one number"
        for function in registry.functions()
        if function.name.startswith(("keras.metrics.", "keras.Model."))
        for reduction in REDUCTIONS
        if reduction not in function.reductions
    },
    **{
        (name, layout): "it makes the logits itself: no call passes some that lie otherwise"
        for name in HEADS
        for layout in OF_LOGITS
    },
    **{
        (function.name, "bfloat16"): "whether clang has it, the release and the processor say"
        for function in registry.functions()
        if function.framework_name == "tinygrad"
    },
}
"""What no call can say, or not on each machine, by function and incapability, with the reason."""


PAST_THE_CHUNKS = {
    ("torch.linear_cross_entropy:chunked", what): "it goes past the chunks, with a warning: another function then"
    for what in (
        "distribution",
        "label_smoothing as label_smoothing",
        *(f"index as uint8 beside {dtype}" for dtype in DTYPES),
    )
}
TAKEN = {
    **PAST_THE_CHUNKS,
    **{
        ("torch.linear_cross_entropy", f"index as uint8 beside {dtype}"): (
            "indices are documented to be int64; bytes go on to CrossEntropyLoss, which is tested with them"
        )
        for dtype in DTYPES
    },
    **{
        (name, "bfloat16"): (
            "predictions alone are converted to float64, whose epsilon clips them; labels and weights of that dtype are"
            " refused: a conversion, and no dtype that it computes in"
        )
        for name in (*LOG_LOSSES, "sklearn.d2_log_loss_score")
    },
    (
        "keras.Model.evaluate:BinaryCrossentropy",
        "rank 1",
    ): "outputs of one axis are averaged in each batch",
    **{
        ("torch.MultiLabelSoftMarginLoss:weight", f"sample_weights as {dtype}"): (
            "weights are promoted with the predictions, so that wider ones are refused for the dtype of the result"
        )
        for dtype in WEIGHT_DTYPES
        if dtype not in ("bool", "float32", "float64")
    },
    ("keras.BinaryCrossentropy:axis", "rank 2"): "axis 1 of a matrix is the last, as in the usual call",
    **{
        (f"keras.{name}Crossentropy:default_dtype", dtype): "all but float64 are widened to float32, or are float32"
        for name in ("Binary", "Categorical", "SparseCategorical")
        for dtype in DTYPES
        if dtype != "float64"
    },
    **{
        ("keras.ops.categorical_crossentropy", f"{kind} as {labels} beside {dtype}"): (
            "TensorFlow casts labels beside logits, and refuses them beside probabilities"
        )
        for dtype in DTYPES
        for kind, dtypes in (("one_hot", LABEL_DTYPES), ("distribution", ("float64",)))
        for labels in dtypes
        if labels != dtype
    },
}
"""What a function takes although it is declared unable to, with the reason; the plain problem only."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """A small problem that a function is declared unable to take, and the call that says it all the same."""

    what: str
    case: Case
    dtype: str
    reduction: Any
    call: Call


def small(function: Function, loss: str, kind: str, shape: tuple[int, ...] = (), **changes: Any) -> Case:
    """A case of a loss and a kind of target: predictions of [4] if it takes them, else [4, 3], or of `shape`."""
    binary = loss == "binary"
    shape = shape or ((4,) if binary and 1 in function.ranks["binary"] else (4, 3))
    rng = np.random.default_rng(7)
    input_kind = next(iter(function.input_kinds))
    predictions = rng.normal(size=shape)
    if input_kind != "logits":
        predictions = np.exp(predictions)
        predictions /= 4 * predictions.max() if binary else predictions.sum(axis=-1, keepdims=True)
        predictions = np.log(predictions) if input_kind == "log_probabilities" else predictions
    samples = shape if binary else shape[:-1]
    crisp = rng.integers(0, 2 if binary else shape[-1], samples)
    one_hot = np.eye(shape[-1])[crisp] if not binary else crisp
    labels = {
        "index": crisp,
        "one_hot": one_hot,
        "distribution": 0.75 * one_hot + 0.25 / shape[-1],
        "binary": crisp.astype(np.float64),
        "soft_binary": 0.25 + 0.5 * crisp,
    }[kind]
    target = "index" if kind == "index" else "binary" if binary else "distribution"
    return Case(
        id=f"a/b/{kind}", why="It is declared unable.", about="", source="", loss=loss, target=target,
        input_kind=input_kind, predictions=predictions, labels=labels, **changes,
    )  # fmt: skip


def usual(function: Function, loss: str) -> tuple[str, str]:
    """A kind of target, and a dtype, that a function takes."""
    kind = next(
        kind for kind in ("index", "binary", "one_hot") if kind in function.targets.keys() & TARGET_KINDS_OF[loss]
    )  # type: ignore[index]
    return kind, "float32" if "float32" in function.dtypes else min(function.dtypes)


def plain(function: Function, case: Case, dtype: str, reduction: str) -> Call:
    """The call for a case with nothing particular in it."""
    return lower(function, case.problem(dtype, reduction))  # type: ignore[arg-type]


def instead(call: Call, part: str, values: Any) -> Call:
    """The call with another array for the predictions or the labels."""
    return dataclasses.replace(call, arrays={**call.arrays, part: Tensor(values)})


@functools.cache
def spellings(option: str) -> tuple[str, ...]:
    """What an option is called by any function of any framework."""
    found = {f.arguments[option] for f in registry.functions() if option in f.arguments}
    return tuple(sorted(filter(str.isidentifier, found)))


def of_targets(function: Function, loss: str) -> Iterator[Attempt]:
    """Labels of another kind, as they are."""
    kind, dtype = usual(function, loss)
    reduction = sorted(function.reductions)[0]
    for other in sorted(TARGET_KINDS_OF[loss]):
        if function.target_kind_for(other) is None:
            case = small(function, loss, other)
            call = plain(function, small(function, loss, kind), dtype, reduction)
            values = case.labels.astype(numpy_dtype(dtype)) if case.labels.dtype.kind == "f" else case.labels
            yield Attempt(other, case, dtype, reduction, instead(call, "labels", values))


def of_options(function: Function, loss: str) -> Iterator[Attempt]:
    """An option under each name that another function has for it."""
    kind, dtype = usual(function, loss)
    reduction = sorted(function.reductions)[0]
    values = {
        "class_weights": np.array([0.5, 2.0, 1.25]),
        "sample_weights": np.array([0.5, 2.0, 1.25, 3.0]),
        "positive_weight": np.array(2.5),
        "label_smoothing": 0.25,
        "ignore_index": 1,
    }
    for option in OPTIONS:
        impossible = option in IMPOSSIBLE[loss] or frozenset({option, kind}) in IMPOSSIBLE_TOGETHER  # type: ignore[index]
        if option in function.options or impossible:
            continue
        case = small(function, loss, kind, options=Options(**{option: values[option]}))
        call = plain(function, small(function, loss, kind), dtype, reduction)
        value = values[option]
        value = Tensor(value.astype(numpy_dtype(dtype))) if isinstance(value, np.ndarray) else value
        for name in spellings(option):
            for place in range(len(calls_with_predictions(call.text))):
                nodes = copy.deepcopy(calls_with_predictions(call.text))
                source = option if isinstance(value, Tensor) else repr(value)
                nodes[place].keywords.append(ast.keyword(name, ast.Name(source)))
                arrays = {**call.arrays, option: value} if isinstance(value, Tensor) else call.arrays
                said = Call(ast.unparse(nodes[-1]), arrays)
                yield Attempt(f"{option} as {name}", case, dtype, reduction, said)


def of_the_rest(function: Function, loss: str) -> Iterator[Attempt]:
    """Other ranks, dtypes, reductions, layouts, and what is excluded, as the lowering says them."""
    kind, dtype = usual(function, loss)
    reduction = sorted(function.reductions)[0]
    for rank in range(1 if loss == "binary" else 2, 5):
        if rank not in function.ranks[loss]:  # type: ignore[index]
            case = small(function, loss, kind, (3, 2, 4, 3)[-rank:])
            yield Attempt(f"rank {rank}", case, dtype, reduction, plain(function, case, dtype, reduction))
    for other in DTYPES:
        if other not in function.dtypes and (function.name, other) not in UNSAYABLE:
            case = small(function, loss, kind, dtypes=(other,))
            yield Attempt(other, case, other, reduction, plain(function, case, other, reduction))
    for other in REDUCTIONS:
        if other not in function.reductions and (function.name, other) not in UNSAYABLE:
            case = small(function, loss, kind)
            yield Attempt(other, case, dtype, other, plain(function, case, dtype, other))
    yield from of_layouts(function, loss)
    yield from of_label_dtypes(function, loss)
    yield from of_weight_dtypes(function, loss)
    for group in function.excludes:
        yield from of_group(function, loss, group)


def of_layouts(function: Function, loss: str) -> Iterator[Attempt]:
    """Arrays that lie otherwise, handed over as they lie."""
    kind, dtype = usual(function, loss)
    reduction = sorted(function.reductions)[0]
    for name in LAYOUTS:
        impossible = name in IMPOSSIBLE[loss] or frozenset({name, kind}) in IMPOSSIBLE_TOGETHER  # type: ignore[index]
        if name in function.layouts or name in ("label_dtype", "weight_dtype") or impossible:
            continue
        if (function.name, name) in UNSAYABLE:
            continue
        shape = (2, 4, 3) if loss == "categorical" and 3 in function.ranks["categorical"] else ()
        if name == "class_axis_not_1" or not shape:
            shape = (4, 3) if loss == "categorical" else (4,)
        layout = {
            "class_axis": Layout(class_axis=1 if len(shape) > 2 else 0),
            "class_axis_not_1": Layout(class_axis=0),
            "labels_column": Layout(labels="column"),
        }.get(name) or Layout(order=name)  # type: ignore[arg-type]
        if name in ("class_axis", "class_axis_not_1") and layout.class_axis == len(shape) - 1:
            continue
        case = small(function, loss, kind, shape, layout=layout)
        call = plain(function, case, dtype, reduction)
        if name == "labels_column":
            call = instead(call, "labels", case.labels[..., np.newaxis])
        elif name.startswith("class_axis"):
            moved = np.moveaxis(case.predictions.astype(numpy_dtype(dtype)), -1, layout.class_axis)
            call = instead(call, "predictions", moved)
        yield Attempt(name, case, dtype, reduction, call)


def of_label_dtypes(function: Function, loss: str) -> Iterator[Attempt]:
    """Labels of every dtype that is not declared, for each kind of target and dtype of predictions."""
    reduction = sorted(function.reductions)[0]
    for kind in sorted(TARGET_KINDS_OF[loss] & function.targets.keys()):  # type: ignore[index]
        for dtype in sorted(function.dtypes):
            declared = function.label_dtypes(kind, dtype)
            case = small(function, loss, kind)
            for other in LABEL_DTYPES:
                labels = case.labels.astype(other)
                if not declared or other in declared or not np.array_equal(labels, case.labels):
                    continue
                if any(group <= {kind, dtype} for group in function.excludes):
                    continue
                said = dataclasses.replace(case, layout=Layout(label_dtype=other))
                call = instead(plain(function, case, dtype, reduction), "labels", labels)
                yield Attempt(f"{kind} as {other} beside {dtype}", said, dtype, reduction, call)


def of_weight_dtypes(function: Function, loss: str) -> Iterator[Attempt]:
    """Weights of every dtype that is not declared."""
    kind, dtype = usual(function, loss)
    reduction = sorted(function.reductions)[0]
    values = {"class_weights": np.array([1.0, 3.0, 2.0]), "sample_weights": np.array([1.0, 3.0, 2.0, 4.0])}
    for option in sorted(values.keys() & function.options - IMPOSSIBLE[loss]):  # type: ignore[index]
        for other in WEIGHT_DTYPES:
            if function.weight_dtypes != "same" or other in (dtype, "bool"):
                continue
            layout = Layout(weight_dtype=other)
            case = small(function, loss, kind, options=Options(**{option: values[option]}), layout=layout)
            yield Attempt(f"{option} as {other}", case, dtype, reduction, plain(function, case, dtype, reduction))


def of_group(function: Function, loss: str, group: frozenset[str]) -> Iterator[Attempt]:
    """What a function takes alone, together."""
    kind = next((name for name in sorted(group) if name in TARGET_KINDS_OF[loss]), usual(function, loss)[0])  # type: ignore[index]
    dtype = next((name for name in DTYPES if name in group), usual(function, loss)[1])
    reduction = next((name for name in REDUCTIONS if name in group), sorted(function.reductions)[0])
    shape: tuple[int, ...] = ()
    values: dict[str, Any] = {"ignore_index": 1, "label_smoothing": 0.25, "class_weights": np.array([0.5, 2.0, 1.25])}
    values |= {"positive_weight": np.array(1.0), "sample_weights": np.array([0.5, 2.0, 1.25, 3.0])}
    options: dict[str, Any] = {name: value for name, value in values.items() if name in group}
    if "output_weights" in group:
        shape = (2, 3) if loss == "binary" else ()
        options["sample_weights"] = np.array([[0.5, 2.0, 1.25], [3.0, 0.75, 1.5]])
        if loss != "binary":
            return  # only a binary loss has outputs
    if "weights_by_sample" in group:
        shape, options["sample_weights"] = (2, 3), np.array([[0.5, 2.0, 1.25], [3.0, 0.75, 1.5]])
    weights_as = next((name for name in WEIGHT_DTYPES if f"{name}_weights" in group), None)
    if "weight_dtype" in group:
        weights_as, options["class_weights"] = "float64", values["class_weights"]
    if "several_outputs" in group:
        if loss != "binary":
            return
        shape = (2, 3)
    axis = 1 if "class_axis" in group else 0 if "class_axis_not_1" in group else -1
    if axis == 1 or "higher_rank" in group:
        shape = (2, 4, 3)
    labels = next((name for name in LABEL_DTYPES if f"{name}_labels" in group), None)
    layout = Layout(axis, "column" if "labels_column" in group else "flat", label_dtype=labels, weight_dtype=weights_as)
    case = small(function, loss, kind, shape, options=Options(**options), layout=layout)
    problem = case.problem(dtype, reduction)  # type: ignore[arg-type]
    assert group <= required_capabilities(problem, function.target_kind_for(kind) or kind), (
        "the problem shows the group"
    )
    yield Attempt(" and ".join(sorted(group)), case, dtype, reduction, lower(function, problem))


def attempts(function: Function) -> list[Attempt]:
    """Everything that a function is declared unable to take and that a call can say."""
    return [
        attempt
        for loss in function.ranks
        for of in (of_targets, of_options, of_the_rest)
        for attempt in of(function, loss)
    ]


def taken(there: Installed, function: Function, attempt: Attempt) -> str:
    """How a function answers rightly what it is declared unable to take; "" where it does not."""
    item = Item(there, function, attempt.case, attempt.dtype, attempt.reduction, function.quantity)
    problem = attempt.case.problem(attempt.dtype, attempt.reduction)
    asked = PreparedCall(item, problem, *convert(problem, function.input_kind_for(problem.input_kind)))
    vars(asked)["call"] = attempt.call
    try:
        outcome = calling.perform(there.framework, attempt.call, attempt.what)
    except errors.LoweringError:  # no such argument
        return ""
    found = Judge(Oracle(), Ledger()).judge(asked, outcome)
    return f"{attempt.what}: {found.verdict.status}" if found.verdict.status in RIGHT else ""


@pytest.mark.parametrize(("there", "function"), ASKED, ids=[function.name for _, function in ASKED])
def test_function_rejects_declared_incapabilities(there: Installed, function: Function) -> None:
    tried = attempts(function)
    assert len(tried) >= 2
    took = {attempt.what: how for attempt in tried if (how := taken(there, function, attempt))}
    assert took.keys() == {what for name, what in TAKEN if name == function.name}, took


@pytest.mark.parametrize(("there", "function"), ASKED, ids=[function.name for _, function in ASKED])
def test_attempt_without_declared_incapability_is_right(there: Installed, function: Function) -> None:
    # Otherwise each attempt could fail for a reason of its own.
    for loss in function.ranks:
        kind, dtype = usual(function, loss)
        for reduction in sorted(function.reductions):
            case = small(function, loss, kind)
            call = plain(function, case, dtype, reduction)
            assert taken(there, function, Attempt("plain", case, dtype, reduction, call)) != ""


def test_inexpressible_options_are_not_declared() -> None:
    functions = {function.name: function for function in registry.functions()}
    for name, what in UNSAYABLE:
        assert what not in functions[name].reductions.keys() | functions[name].layouts | functions[name].dtypes


def test_options_beyond_chunks_are_ignored_with_warning() -> None:
    for there, function in ASKED:
        for attempt in attempts(function):
            if (function.name, attempt.what) in PAST_THE_CHUNKS:
                outcome = calling.perform(there.framework, attempt.call, attempt.what)
                assert any("``options`` ignored" in warning for warning in outcome.warnings), attempt.what
