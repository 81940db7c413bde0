"""What is handed over, what is printed, and what is recorded; then the printed call against the one that was made."""

from __future__ import annotations

import ast
import dataclasses
import os
import random
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from conformance.adapters import arrays as bundles
from conformance.adapters import registry
from conformance.adapters.arrays import Tensor, nested
from conformance.adapters.contract import Framework, Function, LoweringError, calling, encoding
from conformance.adapters.contract.calling import SHARING, evaluate, share_processors
from conformance.adapters.contract.lowering import lower
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.contract.signatures import resolve
from conformance.adapters.contract.source import split_last_expression
from conformance.adapters.registry import Installed
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.judging.plan import Item, plan
from conformance.judging.prepare import prepare
from conformance.model.case import DTYPES, LABEL_DTYPES, ORDERS, Layout, numpy_dtype
from conformance.model.outcome import NonNumeric, Raised, Returned
from conformance.reference.domain import examine
from conformance.tests import miniatures
from conformance.tests.stated import case, shipped

NAMES = {"np": np, "ml_dtypes": ml_dtypes}


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def corners(dtype: str) -> Any:
    """Numbers that are easy to print wrongly, in a dtype."""
    kind = numpy_dtype(dtype)
    if dtype == "bool":
        return np.array([[True, False, True], [False, False, True]])
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return np.array([[info.min, info.max, 0], [1, 2, 3]], dtype=kind)
    info = ml_dtypes.finfo(kind)
    ends = [info.max, info.min, info.tiny, info.smallest_subnormal, info.eps, -info.smallest_subnormal]
    plain = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.1, 1 / 3, -2.5e-5, 1e5, 1.0, 16777217.0, 3.0]
    with np.errstate(over="ignore"):
        return np.concatenate([np.array(ends).astype(kind), np.array(plain).astype(kind)]).reshape(3, 6)


def arrays(dtype: str) -> Iterator[Any]:
    values = corners(dtype)
    yield values
    yield values[0, 0]
    yield values.reshape(-1)
    yield np.stack([values, values[::-1]])
    for shape in ((0,), (0, 3), (2, 0), (1, 1, 1)):
        yield np.resize(values, shape) if 0 not in shape else np.zeros(shape, dtype=values.dtype)
    random_bits = np.random.default_rng(0).integers(0, 256, 240, dtype=np.uint8).tobytes()
    if values.dtype.kind in "fV":
        yield np.frombuffer(random_bits, dtype=values.dtype)[:20].reshape(4, 5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", dict.fromkeys((*DTYPES, *LABEL_DTYPES)))
def test_array_literals_round_trip_bit_for_bit(dtype, order):
    for values in arrays(dtype):
        tensor = Tensor(np.asarray(values), order)
        made, again = tensor.laid_out(), eval(tensor.source(), dict(NAMES))
        # Which nan a nan is, is not said.
        quiet = np.where(again != again, made, again) if again.dtype.kind != "b" else again
        assert same_bits(quiet.astype(made.dtype), made), tensor.source()
        assert np.array_equal(again != again, made != made)
        assert (made.flags.writeable, made.flags.c_contiguous, made.flags.f_contiguous) == (
            again.flags.writeable, again.flags.c_contiguous, again.flags.f_contiguous,
        )  # fmt: skip
        assert made.strides == again.strides or made.size == 0 or 1 in made.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_laid_out_in_each_memory_order(dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(numpy_dtype(dtype))
    size = values.dtype.itemsize
    laid = {order: Tensor(values, order).laid_out() for order in ORDERS}
    assert laid["c"].strides == (12 * size, 4 * size, size)
    assert laid["fortran"].strides == (size, 2 * size, 6 * size)
    assert laid["strided"].strides == (24 * size, 8 * size, 2 * size)
    assert {order for order in ORDERS if not laid[order].flags.writeable} == {"broadcast", "readonly"}
    for order in ORDERS:
        np.testing.assert_array_equal(laid[order], values)
        assert not np.shares_memory(laid[order], values)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_repeated_axis_is_a_broadcast(axis):
    values = np.repeat(np.arange(12.0).reshape(3, 4)[(slice(None),) * axis + (None,)], 5, axis=axis)
    tensor = Tensor(values, "broadcast")
    for made in (tensor.laid_out(), eval(tensor.source(), dict(NAMES))):
        np.testing.assert_array_equal(made, values)
        assert [stride == 0 for stride in made.strides] == [other == axis for other in range(3)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_array_literals_have_shortest_digits(dtype):
    text = nested(np.array([[0.1, -2.0], [1e-3, np.nan]]).astype(numpy_dtype(dtype)))
    if dtype in ("float16", "float32", "float64"):
        assert text == "[[0.1, -2.0], [0.001, float('nan')]]"
    read = np.array(eval(text)).astype(numpy_dtype(dtype))
    assert same_bits(read[:, :1], np.array([[0.1], [1e-3]]).astype(numpy_dtype(dtype)))


# What `evaluate` records, on a framework of this file


class Recording:
    """A loss that does whatever its mode says."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        if mode == "raises at once":
            raise TypeError("made\nwrongly")

    def __call__(self, x: Any, *, weight: Any) -> Any:
        if self.mode == "warns":
            warnings.warn("it  is\nlate", UserWarning, stacklevel=1)
            warnings.warn("it  is\nlate", UserWarning, stacklevel=1)
            warnings.warn("too old", DeprecationWarning, stacklevel=1)
            return np.float32(1.5)
        if self.mode == "warns and raises":
            warnings.warn("careful", RuntimeWarning, stacklevel=1)
            raise ZeroDivisionError
        if self.mode == "exits":
            sys.exit(3)
        if self.mode == "writes":
            x[0] = 7
            weight[...] = 0
        if self.mode == "writes the same":
            x[...] = x.copy()
        if self.mode == "interrupts":
            raise KeyboardInterrupt
        return {"array": np.array([1, 2], dtype=np.int32), "half": np.float16(0.1), "word": "no number"}.get(
            self.mode, np.float64(x.sum())
        )


RAISED: dict[str, Any] = {}


def recorded(mode: str, x: Any = (1.0, np.nan, -0.0), **said: Any) -> Any:
    """The outcome of one call in a mode; parts of the adapter may be replaced."""

    def lower(problem: Any) -> dict[str, Any]:
        return {"predictions": Tensor(np.array(x)), "weight": Tensor(np.array([1.0, 2.0])), "mode": mode}

    usual = f"{__name__}.Recording(mode={{mode}})({{predictions}}, {{options}})  # {{labels}}"
    function = Function(
        "Recording", said.get("call", usual),
        ranks={"categorical": range(2, 3)}, input_kinds={"logits": ""}, targets={"index": ""}, reductions={"mean": ""},
        arguments={"mode": "{}", "weight": "weight"}, placeholder_values=said.get("lower", lower),
    )  # fmt: skip
    framework = Framework(
        name="recording", distributions=(), modules=(), functions=(function,),
        imports=said.get("imports", f"import {__name__}"), prepare=said.get("prepare", lambda: None),
        arrays=dataclasses.replace(bundles.numpy, native=said.get("native", lambda memory: memory)),
    )  # fmt: skip
    return evaluate(framework, framework.functions[0], case([[0.0, 1.0]], [0]).problem("float64", "mean"))


@pytest.mark.parametrize(
    ("mode", "value", "dtype"), [("array", [1.0, 2.0], "int32"), ("half", float(np.float16(0.1)), "float16")]
)
def test_outcome_has_float64_values_and_result_dtype(mode, value, dtype):
    outcome = recorded(mode)
    assert isinstance(outcome, Returned)
    assert (outcome.value.tolist(), outcome.value.dtype, outcome.dtype) == (value, np.float64, dtype)
    assert (outcome.warnings, outcome.mutated) == ((), ())


def test_outcome_has_each_warning_once_on_one_line():
    outcome = recorded("warns")
    assert outcome.warnings == ("UserWarning: it is late", "DeprecationWarning: too old")
    outcome = recorded("warns and raises")
    assert outcome == Raised("ZeroDivisionError", "", ("RuntimeWarning: careful",))


def test_outcome_has_exception_on_one_line():
    assert recorded("raises at once") == Raised("TypeError", "made wrongly")
    assert recorded("exits") == Raised("SystemExit", "3")
    assert recorded("interrupts") == Raised("KeyboardInterrupt", "")


def test_result_without_number_is_recorded():
    assert isinstance(recorded("word"), NonNumeric)


def test_outcome_has_mutated_arguments():
    assert recorded("writes").mutated == ("predictions", "weight")
    assert recorded("writes the same").mutated == ()
    assert recorded("sums").mutated == ()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "bool"])
def test_identical_ignores_irrelevant_bits(dtype, count):
    values = np.arange(count).astype(numpy_dtype(dtype))
    assert calling._same(values.copy(), values)
    assert calling._same(np.repeat(values, 2)[::2], values)
    for place in range(count):
        changed = values.copy()
        changed[place] = not changed[place]
        assert not calling._same(changed, values), place
        assert not calling._same(np.repeat(changed, 2)[::2], values), place
    if count and dtype != "bool":
        nan, zero = values.copy(), np.zeros_like(values)
        nan[-1] = np.nan
        assert calling._same(nan.copy(), nan)
        assert not calling._same(-zero, zero)


def test_call_receives_copies_of_arrays():
    x = np.array([1.0, 2.0])
    recorded("writes", x)
    assert x.tolist() == [1.0, 2.0]


def broken(*_: Any) -> Any:
    raise KeyError("dtype")


@pytest.mark.parametrize(
    "bug",
    [
        {"lower": broken},
        {"native": broken},
        {"prepare": broken},
        {"imports": "import conformance.tests.nowhere"},
        {"call": "conformance.tests.adapters.test_adapter.Nobody({predictions}, {labels}, {options})"},
        {"call": "nowhere.Loss({predictions}, {labels}, {options})"},
        {"call": f"{__name__}.Recording()({{predictions}}, {{options}})  # {{labels}}"},
        {"call": f"{__name__}.Recording(mode={{mode}})({{predictions}}, {{labels}}, {{options}})"},
        {"call": f"{__name__}.Recording(mode={{mode}}, axis=1)({{predictions}}, {{options}})  # {{labels}}"},
    ],
    ids=["lower", "native", "prepare", "module", "attribute", "name", "missing", "too many", "unexpected"],
)
def test_adapter_bug_is_a_lowering_error(bug):
    with pytest.raises(LoweringError, match=r"recording\.Recording on a/b/c: "):
        recorded("sums", **bug)


def test_object_is_resolved_from_longest_module():
    assert (
        resolve("conformance.tests.miniatures.Categorical.placeholder_values")
        == miniatures.Categorical.placeholder_values
    )
    with pytest.raises(LookupError, match=r"there is no nowhere\.at\.all"):
        resolve("nowhere.at.all")


def test_resolve_raises_import_error_of_existing_module(tmp_path, monkeypatch):
    (tmp_path / "fused_losses.py").write_text("import fused\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'fused'"):
        resolve("fused_losses.loss")


@pytest.mark.parametrize("text", ["", "# nothing", "x = 1"])
def test_split_last_expression_rejects_source_without_one(text):
    with pytest.raises(LoweringError, match="the last line is not an expression"):
        split_last_expression(text)


# Lowerings share these


def test_label_encoding_keeps_the_problem():
    index = case([[0.5, 1.0, 2.0], [0.1, 0.2, 0.3]], [2, 0]).problem("float32", "mean")
    one_hot = case(index.predictions, [[0, 0, 1], [1, 0, 0]], target="distribution").problem("float32", "mean")
    assert encoding.one_hot_labels(index).values.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert encoding.one_hot_labels(index).values.dtype == np.float32
    assert encoding.index_labels(one_hot, "int64").values.tolist() == [2, 0]
    assert encoding.index_labels(index).values.tolist() == [2, 0]


@pytest.mark.parametrize("labels", [[3, 0], [-1, 0], [0]])
def test_labels_outside_classes_are_not_encodable(labels):
    assert not encoding.encodable(case([[0.5, 1.0, 2.0], [0.1, 0.2, 0.3]], labels).problem("float32", "mean"))


def test_class_axis_is_moved_for_layout():
    x = np.arange(24.0).reshape(2, 3, 4)
    stated = case(x, np.zeros((2, 3), dtype=int), layout=Layout(class_axis=1, labels="column", order="strided"))
    problem = stated.problem("float32", "mean")
    handed = encoding.predictions(problem)
    np.testing.assert_array_equal(handed.values, np.swapaxes(x, 1, 2))
    assert handed.order == "strided"
    assert encoding.labels(problem).values.shape == (2, 3, 1)
    assert encoding.predictions(case(x, np.zeros((2, 3), dtype=int)).problem("float32", "mean"), 1).values.shape == (
        2,
        4,
        3,
    )


@pytest.mark.parametrize(
    ("samples", "weights"),
    [((2,), [1.0, 2.0]), ((2, 3), [1.0, 2.0]), ((2, 2), [1.0, 2.0]), ((2, 2, 2), [[1.0, 2.0], [3.0, 4.0]])],
)
def test_sample_weights_are_passed_as_stated_unless_declared_otherwise(samples, weights):
    of = case(np.zeros((*samples, 3)), np.zeros(samples, dtype=int), options={"sample_weights": weights})
    problem = of.problem("float32", "mean")
    stated = miniatures.framework(miniatures.Categorical).functions[0]
    handed = lower(stated, problem).arrays["sample_weights"].values
    assert handed.tolist() == weights
    spread = lower(dataclasses.replace(stated, sample_weight_shape="per_loss"), problem)
    values = spread.arrays["sample_weights"].values
    assert values.shape == samples
    for at in np.ndindex(samples):
        assert values[at] == np.array(weights)[at[: np.ndim(weights)]]


def test_mismatched_or_missing_sample_weights_are_not_changed():
    x, y = np.zeros((2, 3, 4)), np.zeros((2, 3), dtype=int)
    plain = case(x, y).problem("float32", "mean")
    assert encoding.broadcast_weights(plain) is plain
    misfit = case(x, y, options={"sample_weights": [1.0, 2.0, 3.0]}).problem("float32", "mean")
    assert encoding.broadcast_weights(misfit) is misfit


def test_functions_receive_weights_as_declared():
    stated = [found for found in shipped() if not isinstance(found, GeneratedCase)]
    counted = {"as_stated": 0, "per_loss": 0}
    for function in registry.functions():
        for of in stated:
            problem = of.problem("float32", "mean")
            weights = problem.options.sample_weights
            if weights is None or weights.shape == problem.sample_shape or "shape_mismatch" in examine(problem):
                continue
            if function.unsupported(problem) is not None:
                continue
            call = lower(function, dataclasses.replace(problem, input_kind=function.input_kind_for(problem.input_kind)))
            want = weights.shape if function.sample_weight_shape == "as_stated" else problem.sample_shape
            assert call.arrays["sample_weights"].values.shape == want, (function.name, of.id)
            counted[function.sample_weight_shape] += 1
    assert min(counted.values()) >= 10


# The printed call against the one that was made


def executed(source: str) -> Any:
    """The value of the last expression of a line of source, run as a user would."""
    tree = ast.parse(source)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    names: dict[str, Any] = {}
    exec(compile(tree, "pasted", "exec"), names)
    return eval(compile(ast.Expression(last.value), "pasted", "eval"), names)


def sampled(installed: Installed, count: int) -> list[Item]:
    """Items that differ in function, options, dtype and layout, the same each time, each function among them."""
    cases = [found for found in shipped() if not isinstance(found, GeneratedCase)]
    items = plan(cases, [installed])
    random.Random(11).shuffle(items)
    kinds: dict[Any, Item] = {}
    for item in items:
        options, layout = item.case.options.names(), item.case.layout.names()
        kinds.setdefault((item.function.name, item.quantity, item.dtype, layout), item)
        kinds.setdefault((item.function.name, item.quantity, item.reduction, options), item)
    picked = list(dict.fromkeys(kinds.values()))
    random.Random(5).shuffle(picked)
    first = {key: item for item in reversed(picked) for key in (item.function.name, item.quantity)}
    return list(dict.fromkeys([*first.values(), *picked]))[:count]


def check(item: Item) -> None:
    handed = prepare(item).converted
    outcome = evaluate(item.framework, item.function, handed)
    source = reproducer(item.framework, item.function, handed, backend=item.installed.backend)
    assert "\n" not in source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(outcome, Raised):
            with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever was recorded
                item.framework.runtime()[0].numpy(executed(source))
            assert type(caught.value).__name__ == outcome.exception
            return
        assert isinstance(outcome, Returned)
        value, dtype = item.framework.runtime()[0].numpy(executed(source))
    assert dtype == outcome.dtype
    assert same_bits(np.asarray(value, dtype=np.float64), outcome.value), source


@pytest.mark.parametrize("loss", miniatures.RIGHT, ids=lambda loss: loss.__name__)
def test_reproducer_is_the_call_that_was_made(loss):
    items = sampled(miniatures.installed(loss), 40)
    assert len(items) > 20
    for item in items:
        check(item)


def test_waiting_threads_are_passive_unless_set_by_user(monkeypatch):
    (name,) = SHARING
    monkeypatch.delenv(name, raising=False)
    share_processors()
    assert os.environ[name] == "PASSIVE"
    monkeypatch.setenv(name, "ACTIVE")
    share_processors()
    assert os.environ[name] == "ACTIVE"
