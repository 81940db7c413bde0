"""What an adapter may declare: how its calls are written, what changes with releases, what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
import types
from typing import Any

import numpy as np
import pytest

from conformance.adapters import arrays, contract, registry
from conformance.adapters.arrays import Arrays, Tensor
from conformance.adapters.contract import (  # fmt: skip
    Backend,
    DeclarationError,
    DocumentedConvention,
    Framework,
    Function,
    LoweringError,
    Mode,
)
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call, apply_mode, lower
from conformance.adapters.contract.reproducer import reproducer
from conformance.model.case import DTYPES, LABEL_DTYPES, Layout, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.outcome import Raised, Returned
from conformance.tests.adapters.test_adapter import executed, same_bits
from conformance.tests.stated import case

USUAL: dict[str, Any] = {
    "name": "loss",
    "call": "np.mean({predictions}[:, {labels}], {options})",
    "ranks": {"categorical": range(2, 4)},
    "input_kinds": {"logits": ""},
    "targets": {"index": "int64"},
    "reductions": {"mean": ""},
}
PROBLEM = case([[0.5, 1.5, -1.0], [2.0, 0.25, 0.0]], [2, 0]).problem("float32", "mean")


def framework(*functions: Function, bundle: Arrays = arrays.numpy, **fields: Any) -> Framework:
    return Framework("mine", (), (), functions, bundle, **{"imports": "import numpy as np", **fields})


def function(framework_: dict[str, Any] | None = None, **fields: Any) -> Function:
    return framework(Function(**{**USUAL, **fields}), **(framework_ or {})).functions[0]


def problem(**options: Any) -> Any:
    return case([[0.5, 1.5, -1.0], [2.0, 0.25, 0.0]], [2, 0], options=options).problem("float32", "mean")


# Writing

MODEL = "m = f({class_weights:shape})\nm.run({'x': {predictions}, 'y': {labels}, {class_weights:feed}})"


@pytest.mark.parametrize(
    ("fields", "options", "text"),
    [
        ({"call": "f({predictions}, {labels}, {options})"}, {}, "f(predictions, labels)"),
        ({"call": "f({options})({predictions}, {labels})"}, {}, "f()(predictions, labels)"),
        ({"call": "f({labels}, {options}, z={predictions})"}, {}, "f(labels, z=predictions)"),
        (
            {
                "call": "f({predictions}, {labels}, {options})",
                "arguments": {"label_smoothing": "e", "classes": "list(range({}))"},
            },
            {"label_smoothing": 0.1},
            "f(predictions, labels, e=0.1, list(range(3)))",
        ),
        (
            {"call": "f({options})({predictions}, {labels}, {class_weights})", "arguments": {"class_weights": "w"}},
            {"class_weights": [1.0, 2.0, 3.0]},
            "f()(predictions, labels, w=class_weights)",
        ),
        (
            {
                "call": MODEL,
                "arguments": {"class_weights:shape": "(3,)", "class_weights:feed": "'w': {}"},
                "reductions": {"mean": "{result}.mean()"},
            },
            {"class_weights": [1.0, 2.0, 3.0]},
            "m = f((3,))\nm.run({'x': predictions, 'y': labels, 'w': class_weights}).mean()",
        ),
        (
            {
                "call": MODEL,
                "arguments": {"class_weights:shape": "(3,)", "class_weights:feed": "'w': {}"},
            },
            {},
            "m = f()\nm.run({'x': predictions, 'y': labels})",
        ),
        (
            {"call": "1 - f({predictions}, {labels} + 1) / 2", "reductions": {"mean": "np.exp({result}.mean())"}},
            {},
            "np.exp((1 - f(predictions, labels + 1) / 2).mean())",
        ),
        ({"call": "f({dtype}, {predictions}, {labels})"}, {}, "f('float32', predictions, labels)"),
    ],
)
def test_call_is_written_from_its_tables(fields, options, text):
    assert lower(function(**fields), problem(**options)).text == text


def test_calls_distinguish_equal_values_of_different_types():
    of = function(call="f({predictions}, {labels}, {options})", arguments={"label_smoothing": "e"})
    texts = [lower(of, problem(label_smoothing=value)).text for value in (0.0, -0.0)]
    assert texts == ["f(predictions, labels, e=0.0)", "f(predictions, labels, e=-0.0)"]


def test_option_without_argument_is_unsupported():
    with pytest.raises(LoweringError, match="it has no argument for label_smoothing"):
        lower(function(), problem(label_smoothing=0.1))


def test_label_beyond_dtype_is_rejected_instead_of_wrapped():
    of = function(targets={"index": "int8"})
    far = case([[0.0] * 200], [150]).problem("float32", "mean")
    with pytest.raises(LoweringError, match="labels do not fit int8"):
        lower(of, far)
    assert of.unsupported(far) == "it takes no labels beyond int8"
    assert lower(of, PROBLEM).arrays["labels"].values.dtype == np.int8
    assert of.unsupported(PROBLEM) is None


@pytest.mark.parametrize(
    ("label_dtype", "predictions", "handed", "result"),
    [(None, "float32", "float32", "float32"), ("float64", "float32", "float64", "float64"),
     ("float32", "float64", "float32", "float64"), ("float32", "bfloat16", "float32", "float32")],
)  # fmt: skip
def test_labels_of_declared_dtype_are_passed_unchanged(label_dtype, predictions, handed, result):
    of = function(targets={"distribution": "same float32 float64"}, result_dtype="promoted")
    layout = Layout(label_dtype=label_dtype)
    asked = case([[0.5, -1.0]], [[0.25, 0.75]], target="distribution", layout=layout).problem(predictions, "mean")
    assert of.unsupported(asked) is None
    assert lower(of, asked).arrays["labels"].values.dtype.name == handed
    assert of.result_dtype_for(asked) == result
    assert of.result_dtype_for(asked, "gradient") == predictions


def test_labels_of_undeclared_dtype_are_unsupported():
    of = function(targets={"index": "int64 uint8"}, result_dtype="promoted")
    found = {}
    for name in (None, *LABEL_DTYPES):
        asked = case([[0.5, -1.0]], [1], layout=Layout(label_dtype=name)).problem("float32", "mean")
        found[name] = of.unsupported(asked)
    taken = (None, "int64", "uint8")
    assert found == {name: None if name in taken else f"it takes no {name} labels" for name in found}
    assert of.result_dtype_for(asked) == "float32"


def test_index_beyond_byte_is_decoded_to_default_dtype():
    of = function(targets={"index": "int64 uint8"})
    rows = np.eye(300)[[299, 3]]
    asked = case(rows, rows, target="distribution", layout=Layout(label_dtype="uint8")).problem("float32", "mean")
    assert lower(of, asked).arrays["labels"].values.tolist() == [299, 3]


def test_function_without_reductions_has_those_of_framework():
    usual = {"reductions": {"sum": "{result}.sum()"}}
    assert function(usual, reductions={}).reductions == usual["reductions"]
    assert function(usual).reductions == {"mean": ""}


def test_family_names_its_functions_and_their_conventions():
    fields = {**USUAL, "documentation": "https://m/@", "class_axis": 1}
    del fields["name"]
    make = contract.family(fields.pop("call").replace("mean", "@"), source="s", **fields)
    first, second = make("f", Convention(empty_mean="nan"), class_axis=-1), make("g", Convention(), "link")
    assert (first.name, first.documentation) == ("f", "https://m/f")
    assert first.call == "np.f({predictions}[:, {labels}], {options})"
    assert (first.class_axis, second.class_axis) == (-1, 1)
    assert [function.conventions[0].documentation for function in (first, second)] == ["s", "link"]


def test_several_statements_are_executed_as_printed():
    of = framework(
        Function(
            **{
                **USUAL,
                "call": "shifted = {predictions} - 1\nnp.take_along_axis(shifted, {labels}[:, None], -1).mean()",
            }
        )
    )
    (loss,) = of.functions
    call = lower(loss, PROBLEM)
    outcome = perform(of, call, "it")
    assert isinstance(outcome, Returned)
    assert outcome.value == np.float32(-0.5)
    source = reproducer(of, loss, PROBLEM)
    assert "\n" not in source
    assert executed(source) == outcome.value


# Modes and derivatives


def slow(loss: Any) -> Any:
    """A mode: calls a loss twice."""
    return lambda *values: (loss(*values) + loss(*values)) / 2


HERE = "import numpy as np; import conformance.tests.adapters.test_contract"
MODES = {
    "twice": Mode("conformance.tests.adapters.test_contract.slow({loss})"),
    "set": Mode("np.seterr(all='ignore')\n{loss}"),
}


@pytest.mark.parametrize(
    "call", ["np.mean({predictions}) + {labels}[0]", "x = {labels}[0]\nx + np.mean({predictions})"]
)
@pytest.mark.parametrize("mode", MODES)
def test_mode_wraps_a_call_and_is_printed_with_it(mode, call):
    of = framework(
        Function(**{**USUAL, "call": call}),
        modes=MODES,
        imports="import numpy as np; import conformance.tests.adapters.test_contract",
    )
    (loss,) = of.functions
    plain = lower(loss, PROBLEM)
    wrapped = apply_mode(of, plain, mode=mode)
    assert apply_mode(of, plain) is plain
    assert wrapped.recompile
    assert wrapped.text.startswith("def loss(predictions, labels):\n")
    outcome, usual = perform(of, wrapped, "it"), perform(of, plain, "it")
    assert isinstance(outcome, Returned)
    assert outcome.value == usual.value
    assert executed(reproducer(of, loss, PROBLEM, wrapped)) == outcome.value


def test_unknown_mode_or_quantity_is_reported():
    of = framework(Function(**USUAL), modes=MODES)
    call = lower(of.functions[0], PROBLEM)
    with pytest.raises(LoweringError, match="mine has no mode jit; it has eager, twice, set"):
        apply_mode(of, call, mode="jit")
    with pytest.raises(LoweringError, match="mine has no gradient"):
        apply_mode(of, call, "gradient")


SQUARES = {
    "torch": "y = {predictions} * {predictions}\ntorch.sum(y)",
    "jax": "y = {predictions} * {predictions}\njax.numpy.sum(y)",
    "tensorflow": "y = {predictions} * {predictions}\ntf.reduce_sum(y)",
}


@pytest.mark.parametrize("name", SQUARES)
def test_bundle_differentiates_several_statements(name):
    pytest.importorskip(name)
    bundle = getattr(arrays, name)
    of = framework(bundle=bundle, imports="")
    call = Call(SQUARES[name].replace("{predictions}", "predictions"), {"predictions": Tensor(np.array([1.0, -3.0]))})
    outcome = perform(of, apply_mode(of, call, "gradient"), "it")
    assert isinstance(outcome, Returned), outcome
    assert outcome.value.tolist() == [2.0, -6.0]
    if "hessian" in bundle.derivatives:
        second = perform(of, apply_mode(of, call, "hessian"), "it")
        assert second.value.tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_jit_of_jax_is_differentiated():
    pytest.importorskip("jax")
    of = framework(bundle=arrays.jax, imports="", modes={"jit": Mode("jax.jit({loss})")})
    call = Call("(predictions ** 2).sum()", {"predictions": Tensor(np.array([1.0, -3.0]))})
    outcome = perform(of, apply_mode(of, call, "gradient", "jit"), "it")
    assert isinstance(outcome, Returned), outcome
    assert outcome.value.tolist() == [2.0, -6.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["numpy", *SQUARES])
def test_bundle_round_trips_every_dtype(name, dtype):
    pytest.importorskip(name)
    bundle = getattr(arrays, name)
    values = np.array([[0.5, -1.25], [3.0, np.inf]]).astype(numpy_dtype(dtype))
    for tensor in (Tensor(values), Tensor(values, "fortran"), Tensor(values, "strided"), Tensor(values[0, 0])):
        back, told = bundle.numpy(bundle.native(tensor.laid_out()))
        assert told == dtype
        assert same_bits(np.asarray(back, dtype=np.float64), tensor.values.astype(np.float64))
        source = f"{bundle.imports}\nimport numpy as np, ml_dtypes\n{bundle.literal(tensor)}"
        back, told = bundle.numpy(executed(source))
        assert told == dtype
        assert same_bits(np.asarray(back, dtype=np.float64), tensor.values.astype(np.float64))


# Releases

HISTORY = (
    Function(
        **{
            **USUAL,
            "arguments": {"class_weights": "w"},
            "conventions": (DocumentedConvention(Convention(empty_mean="nan"), documentation="1"),),
        }
    )
    .since("1.2", arguments={"label_smoothing": "e"}, documentation="2")
    .since("1.10", backends=("b",), choices={"empty_mean": "zero"})
    .since("2", arguments={"class_weights": None}, dtypes=frozenset({"float32"}))
)
BOTH = {"a": contract.Backend(environment={"X": "a"}), "b": contract.Backend(environment={"X": "b"})}


def at(of: Framework, version: str, backend: str) -> Function:
    (found,) = registry.functions_in(of, version, backend)
    return found


@pytest.mark.parametrize(
    ("version", "backend", "arguments", "dtypes", "empty", "link"),
    [
        ("1.0", "a", {"class_weights"}, 4, "nan", "1"),
        ("1.2.0", "a", {"class_weights", "label_smoothing"}, 4, "nan", "2"),
        ("1.9", "b", {"class_weights", "label_smoothing"}, 4, "nan", "2"),
        ("1.10", "a", {"class_weights", "label_smoothing"}, 4, "nan", "2"),
        ("1.10", "b", {"class_weights", "label_smoothing"}, 4, "zero", "2"),
        ("2.0.1", "b", {"label_smoothing"}, 1, "zero", "2"),
    ],
)
def test_release_includes_earlier_changes(version, backend, arguments, dtypes, empty, link):
    of = framework(HISTORY, backends=BOTH)
    found = at(of, version, backend)
    assert (found.arguments.keys(), len(found.dtypes)) == (arguments, dtypes)
    documented = registry.convention_for(found, version, "index", backend)
    assert (documented.convention.empty_mean, documented.documentation) == (empty, link)


def test_ranges_of_releases_follow_from_the_changes():
    of = framework(HISTORY, backends=BOTH)
    assert [(one.versions, one.backends) for one in of.functions] == [(">=2", None), (">=1.2,<2", None), ("<1.2", None)]
    newest = {(documented.versions, documented.backends) for documented in of.functions[0].conventions}
    assert newest == {(">=1.2", frozenset({"a"})), (">=1.10", frozenset({"b"}))}


def test_twin_has_the_same_history_and_its_own_differences_in_each_release():
    twin = HISTORY.like("twin", first="1.2", arguments={"class_weights": "weights"}, choices={"empty_mean": None})
    of = framework(HISTORY, twin, backends=BOTH)
    assert [one.name for one in registry.functions_in(of, "1.0", "a")] == ["mine.loss"]
    for version in ("1.2", "2.5"):
        _, found = registry.functions_in(of, version, "b")
        assert found.name == "mine.twin"
        assert found.arguments["class_weights"] == "weights"
        assert registry.convention_for(found, version, "index", "b").convention.empty_mean is None


# Faults of a declaration


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"call": "f({predictions}, {labels}, {option})"},
            "call: unknown placeholder '{option}'; expected one of {options}, ",
        ),
        ({"call": "f({predictions}, {options})"}, "call: it has no {labels}"),
        ({"call": "f({predictions}, {labels}"}, "call: '(' was never closed"),
        ({"call": "x = f({predictions}, {labels})"}, "call: the last line is not an expression"),
        (
            {"arguments": {"label_smooth": "e"}},
            "arguments: unknown option 'label_smooth'; expected one of class_weights, ",
        ),
        (
            {"call": "f({predictions}, {labels})", "arguments": {"label_smoothing": "e"}},
            "arguments[label_smoothing]: its call has no {options}",
        ),
        ({"arguments": {"label_smoothing": "e ="}}, "arguments[label_smoothing]: e = is not an argument as source"),
        ({"input_kinds": {"odds": ""}}, "input_kinds: unknown input kind 'odds'; expected one of logits, "),
        ({"input_kinds": {}}, "input_kinds: it is empty"),
        ({"targets": {"indices": ""}}, "targets: unknown target 'indices'; expected one of index, "),
        ({"reductions": {"average": ""}}, "reductions: unknown reduction 'average'"),
        ({"reductions": {"mean": "{result}.mean("}}, "reductions[mean]: '(' was never closed"),
        ({"reductions": {"mean": "{results}.mean()"}}, "reductions[mean]: unknown placeholder '{results}'"),
        ({"quantity": "f1"}, "quantity: unknown value 'f1'; expected one of loss, gradient"),
        ({"quantity": "perplexity", "reductions": {"mean": "", "sum": "total"}}, "reductions: a perplexity follows"),
        ({"quantity": "gradient"}, "differentiates: it returns a gradient, which is not differentiated once more"),
        (
            {"quantity": "hessian", "differentiates": False, "input_kinds": {"probabilities": ""}},
            "input_kinds: a hessian is the second derivative in the logits",
        ),
        ({"quantity": "d2"}, "differentiates: the gradient of d2 is not known here"),
        (
            {"quantity": "d2", "differentiates": False, "arguments": {"class_weights": "weight"}},
            "arguments: d2 is defined with sample_weights alone, not with class_weights",
        ),
        ({"dtypes": frozenset({"float128"})}, "dtypes: unknown dtype 'float128'"),
        ({"orders": frozenset({"random"})}, "orders: unknown order 'random'"),
        ({"modes": frozenset({"jit"})}, "modes: unknown mode 'jit'; expected one of none"),
        ({"untested": {"axis": "another axis"}}, "untested: axis is not an argument as source"),
        ({"no_effect": {"axis": "name"}, "untested": {"axis=0": "x"}}, "no_effect: axis is in untested, too"),
        ({"no_effect": {"axis": "name"}, "arguments": {"class_axis": "axis"}}, "no_effect: axis is passed"),
        (
            {"conventions": (DocumentedConvention(Convention(clip=1e-7)),)},
            "conventions: clip has no effect on what it takes",
        ),
        (
            {"conventions": (DocumentedConvention(Convention(binary_outputs="mean_of_last_axis")),)},
            "conventions: binary_outputs has no effect",
        ),
        *(
            ({"conventions": (DocumentedConvention(Convention(**choices)),)}, f"conventions: {name} has no effect")
            for name, choices in {
                "hessian_factor": {"hessian_factor": 2.0},
                "hessian_floor": {"hessian_floor": 1e-16},
                "hessian_floor_of": {"hessian_floor_of": "weighted"},
                "hessian_cancellation": {"hessian_cancellation": "complement"},
                "weights_narrowed_to": {"weights_narrowed_to": "float32"},
                "labels_narrowed_to": {"narrowed_to": "float32", "labels_narrowed_to": "float32"},
            }.items()
        ),
        (
            {"conventions": (DocumentedConvention(Convention(), frozenset({"indices"})),)},
            "conventions: unknown target 'indices'",
        ),
    ],
)
def test_contradictory_declaration_is_rejected_with_its_field(fields, message):
    with pytest.raises(DeclarationError) as caught:
        function(**fields)
    assert str(caught.value).startswith(f"functions[loss].{message}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modes": {"eager": Mode()}}, "modes[eager]: it must be one word, and not eager"),
        ({"modes": {"jit": Mode("jax.jit(loss)")}}, "modes[jit].wrap: it has no {loss}"),
        (
            {"modes": {"mixed": Mode(result_dtype="float")}},
            "modes[mixed].result_dtype: unknown dtype 'float'; expected one of float16, bfloat16, float32, float64",
        ),
        (
            {"modes": {"jit": Mode("jax.jit({los})")}},
            "modes[jit].wrap: unknown placeholder '{los}'; expected one of {loss}",
        ),
        (
            {"modes": {"jit": Mode(backends=frozenset({"jax"}))}},
            "modes[jit].backends: unknown backend 'jax'; expected one of none",
        ),
        (
            {"modes": {"vmap": Mode("jax.vmap({loss})", unreduced=True)}},
            "modes[vmap].unreduced: functions[loss] reduces by an argument, before the mode: mean",
        ),
        (
            {"bundle": dataclasses.replace(arrays.numpy, derivatives={"gradient": "d({result})"})},
            "arrays.derivatives[gradient]: it has no {x}",
        ),
    ],
)
def test_contradictory_framework_is_rejected_with_its_field(fields, message):
    with pytest.raises(DeclarationError) as caught:
        framework(Function(**USUAL), **fields)
    assert str(caught.value) == message


def test_change_without_effect_is_rejected():
    with pytest.raises(DeclarationError, match=r"functions\[loss\]\.since\('2'\): .*dtype"):
        framework(Function(**USUAL).since("2", dtype="float32"))
    with pytest.raises(
        DeclarationError, match=r"functions\[loss\]\.since\('2'\): unknown backend 'c'; expected one of a, b"
    ):
        framework(Function(**USUAL).since("2", backends=("c",), dtypes=frozenset({"float32"})), backends=BOTH)


def test_two_functions_of_one_name_are_rejected():
    one = Function(**USUAL)
    for other in (one, one.since("2", dtypes=frozenset({"float64"}))):
        with pytest.raises(DeclarationError, match=r"functions\[loss\]\.name: two functions have it; describe other"):
            framework(one, other)
    apart = (dataclasses.replace(one, backends=frozenset(name)) for name in BOTH)
    assert len(framework(*apart, backends=BOTH).functions) == 2


def test_copy_of_a_framework_has_its_functions():
    for known in registry.frameworks():
        assert dataclasses.replace(known).functions == known.functions, known.name


def test_unreachable_backend_is_rejected():
    with pytest.raises(DeclarationError, match=r"backends\[b\]\.environment: it is empty"):
        framework(Function(**USUAL), backends={"b": Backend()})


def test_lowering_error_is_reported_once():
    with pytest.raises(LoweringError) as caught:
        lower(function(), problem(label_smoothing=0.1))
    assert "LoweringError" not in str(caught.value)
    assert str(caught.value).endswith(": it has no argument for label_smoothing")


def test_registry_names_file_of_contradictory_adapter(monkeypatch, tmp_path):
    (tmp_path / "wrong_adapter.py").write_text(
        "from conformance.adapters import arrays\n"
        "from conformance.adapters.contract import Framework, Function\n"
        "loss = Function('loss', 'f({prediction}, {labels})', ranks={'binary': range(1, 2)},\n"
        "                input_kinds={'logits': ''}, targets={'binary': ''}, reductions={'mean': ''})\n"
        "FRAMEWORK = Framework('wrong', (), (), (loss,), arrays.numpy)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = types.SimpleNamespace(
        name="wrong", value="wrong_adapter:FRAMEWORK", module="wrong_adapter",
        load=lambda: __import__("wrong_adapter").FRAMEWORK,
    )  # fmt: skip
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
    found, (error,) = registry._found.__wrapped__()
    assert "sklearn" in found
    assert str(error).startswith(
        f"{tmp_path / 'wrong_adapter.py'}: functions[loss].call: unknown placeholder '{{prediction}}'"
    )


EVIL = """
class Endless:
    def __getattribute__(self, name):
        raise KeyboardInterrupt
    def __iter__(self):
        while True:
            yield "x"
    def endless(self, *_):
        while True:
            pass
    __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __len__ = __contains__ = __getitem__ = endless
class Meta(type):
    def __eq__(self, other):
        raise KeyboardInterrupt
    __hash__ = None
    @property
    def __name__(self):
        raise KeyboardInterrupt
class Stranger(metaclass=Meta):
    @property
    def __class__(self):
        raise KeyboardInterrupt
"""
ODD = {
    "broken": ("raise RuntimeError('x' * 10**6)", "RuntimeError: xxx"),
    "exiting": ("raise SystemExit(3)", "it exits with 3"),
    "exiting_at_once": ("import os; os._exit(7)", "it exits with 7"),
    "interrupting": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "another": ("FRAMEWORK = 3", "is not a conformance.adapters.contract.Framework"),
    "stranger": (f"{EVIL}\nFRAMEWORK = Stranger()", "is not a conformance.adapters.contract.Framework"),
    "contradicting": ("FRAMEWORK = framework(call='f({prediction}, {labels})')", "functions[loss].call: "),
    "nameless": ("FRAMEWORK = framework(name=None)", "name: None is no text"),
    "lines": ("FRAMEWORK = framework(name='a\\n::error::b')", "name: 'a\\n::error::b' must be one word"),
    "none": (
        "FRAMEWORK = framework(arguments={'label_smoothing': None})",
        "arguments[label_smoothing]: None is no text",
    ),
    "untested": ("FRAMEWORK = framework(untested={'x=1': None})", "untested[x=1]: None is no text"),
    "dtypes": ("FRAMEWORK = framework(dtypes=None)", "dtypes: None is no frozenset"),
    "ranks": ("FRAMEWORK = framework(ranks={'categorical': range(0)})", "ranks[categorical]: no array has such a rank"),
    "rank": ("FRAMEWORK = framework(ranks={'categorical': 2})", "ranks[categorical]: a value of type int is no range"),
    "conventions": ("FRAMEWORK = framework(conventions=(3,))", "conventions[0]: a value of type int is no Docu"),
    "choice": (
        "from conformance.adapters.contract import DocumentedConvention\n"
        "from conformance.model.convention import Convention\n"
        "FRAMEWORK = framework(conventions=(DocumentedConvention(Convention(empty_mean='x')),))",
        "conventions[0].convention.empty_mean: unknown value 'x'; expected one of nan, zero",
    ),
    "objects": ("FRAMEWORK = framework(untested={None: object()})", "untested: None is no text"),
    "positional": (
        "FRAMEWORK = framework(positional={'predictions': None})",
        "positional[predictions]: None is no text",
    ),
    "excludes": ("FRAMEWORK = framework(excludes=(None,))", "excludes[0]: None is no frozenset"),
    "axis": ("FRAMEWORK = framework(class_axis='x')", "class_axis: x is no integer"),
    "far": ("FRAMEWORK = framework(class_axis=10**30)", "class_axis: it is an integer of more than 64 bits"),
    "values": ("FRAMEWORK = framework(placeholder_values=5)", "placeholder_values: a value of type int is no function"),
    "targets": ("FRAMEWORK = framework(targets={'index': 'float8'})", "targets[index]: unknown dtype 'float8'"),
    "releases": ("FRAMEWORK = framework(first='new')", "first: 'new' is not a release"),
    "modules": (
        "FRAMEWORK = framework(); object.__setattr__(FRAMEWORK, 'modules', 3)",
        "modules: a value of type int is no",
    ),
    "many": ("FRAMEWORK = framework(copies=10**6)", "functions: it has 1000000 entries, more than 1000"),
    "huge": ("FRAMEWORK = framework(arguments={'label_smoothing': 'x' * 10**6})", "it has 1000000 characters"),
    "endless": (f"{EVIL}\nFRAMEWORK = framework(orders=Endless())", "orders: a value of type Endless is no frozenset"),
    "members": (f"{EVIL}\nFRAMEWORK = framework(excludes=(Endless(),))", "excludes[0]: a value of type Endless is no"),
    "change": (
        f"{EVIL}\nFRAMEWORK = Framework('x', (), (), (FUNCTION.since('2', orders=Endless()),), arrays.numpy)",
        "functions[loss].since('2').orders: a value of type Endless is no frozenset",
    ),
    "subclass": (
        "class Sly(Function):\n"
        "    def target_kind_for(self, kind):\n"
        "        raise ZeroDivisionError\n"
        "FRAMEWORK = framework(kind=Sly)",
        "functions[0]: a value of type Sly is no Function",
    ),
}
"""Name -> (module of an adapter from outside that cannot be used, what is said of it)."""
DESCRIBABLE = {
    "ordinary": "FRAMEWORK = framework(name='ordinary')",
    "unlimited": "FRAMEWORK = framework(name='unlimited', ranks={'categorical': range(0, 2**63 - 1)})",
    "raising": "FRAMEWORK = framework(name='raising', placeholder_values=lambda problem: 1 / 0)",
    "talking": "print('to standard output'); FRAMEWORK = framework(name='talking')",
    "present": "FRAMEWORK = framework(name='present', modules=('odd_exiting.x', 'odd_broken.x'))",
}
"""Modules of adapters from outside that can be listed; `framework` makes an ordinary one."""
ORDINARY = """
from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function

def function(kind=Function, call="f({predictions}, {labels}, {options})", **fields):
    fields = {"ranks": {"categorical": range(2, 3)}, "input_kinds": {"logits": ""}, "targets": {"index": "int64"},
              "reductions": {"mean": ""}} | fields
    return kind("loss", call, **fields)

def framework(name=__name__, modules=("numpy",), copies=1, **fields):
    return Framework(name=name, distributions=("numpy",), modules=modules, arrays=arrays.numpy,
                     functions=(function(**fields),) * copies)

FUNCTION = function()

"""
TABLES = """
from conformance import api
from conformance.adapters import registry
from conformance.docs import conventions, option_names
from conformance.report import support

names = [entry.function for entry in api.list_functions().functions]
print(names)
pages = [option_names.option_tables(), option_names.earlier_releases(), option_names.undescribed_parameters(),
         *map(conventions.choice_section, conventions.FIELDS), str(api.lint().coverage),
         *map(support.function_cells, registry.functions())]
assert all(pages)
assert "BinaryCrossentropy" in pages[0]
assert "ordinary" in pages[0]
print(len(registry.installed()[0]))
for line in registry.broken_adapters():
    assert len(line) < 1000
    print(line)
"""


def test_external_adapters_do_not_stop_documentation_or_tables(tmp_path):
    metadata = tmp_path / "odd-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    sources = {name: source for name, (source, _) in ODD.items()} | DESCRIBABLE
    lines = [f"{name} = odd_{name}:FRAMEWORK" for name in sources]
    (metadata / "entry_points.txt").write_text("\n".join(["[conformance.adapters]", *lines, ""]))
    for name, source in sources.items():
        (tmp_path / f"odd_{name}.py").write_text(ORDINARY + source)
    done = subprocess.run(
        [sys.executable, "-c", TABLES], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed, *broken = done.stdout.splitlines()
    assert all(f"'{name}.loss'" in listed for name in DESCRIBABLE)
    assert len(done.stderr) < 10_000
    for name, (_, message) in ODD.items():
        assert [message in line for line in broken if f"odd_{name}." in line or f"odd_{name}:" in line] == [True], name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[conformance.adapters]\nodd = \xff:F\n", "entry points cannot be read: "),
        (b"[conformance.adapters]\nodd\n", "entry points cannot be read: "),
        (b"[conformance.adapters]\nodd = 1 2:::\n", "the adapter odd (1 2:::) names no object; write module:attribute"),
        (b"[conformance.adapters]\nodd =\n", "the adapter odd () names no object"),
    ],
)
def test_unreadable_entry_points_do_not_affect_others(tmp_path, monkeypatch, text, message):
    for name, content in (("odd", text), ("ordinary", b"[conformance.adapters]\nordinary = ordinary_one:FRAMEWORK\n")):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_bytes(content)
    (tmp_path / "ordinary_one.py").write_text(f"{ORDINARY}FRAMEWORK = framework(name='ordinary')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found, errors = registry._found.__wrapped__()
    assert {"sklearn", "torch", "ordinary"} <= found.keys()
    assert [message in str(error) for error in errors] == [True]


@pytest.mark.parametrize("swallowed", [False, True])
def test_registry_ends_import_of_hanging_adapter(monkeypatch, swallowed):
    def load():
        if swallowed:
            with contextlib.suppress(Exception):
                time.sleep(30)
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(registry, "ADAPTER_SECONDS", 0.2)
    point = types.SimpleNamespace(name="slow", value="slow:FRAMEWORK", module="slow", load=load)
    with pytest.raises(registry.AdapterError, match=r"cannot be loaded: TimeoutError: it takes longer than 0\.2 s"):
        registry._loaded(point)


IN_C = """
import types
from conformance.adapters import registry

registry.ADAPTER_SECONDS, registry.GRACE_SECONDS = 0.2, 0.3
quick = types.SimpleNamespace(name="quick", value="quick:FRAMEWORK", module="quick", load=lambda: None)
try:
    registry._loaded(quick)
except registry.AdapterError as error:
    print(error, flush=True)
slow = types.SimpleNamespace(name="slow", value="slow:FRAMEWORK", module="slow", load=lambda: sum(range(10**15)))
registry._loaded(slow)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs signals of POSIX")
def test_adapter_hanging_in_c_code_is_named_when_process_ends():
    found = subprocess.run([sys.executable, "-c", IN_C], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == -signal.SIGKILL
    assert "the adapter quick (quick:FRAMEWORK) is not a conformance.adapters.contract.Framework" in found.stdout
    assert found.stderr == (
        "conformance: the adapter slow (slow:FRAMEWORK) does not come back from its import: uninstall it\n"
    )


def test_registry_passes_on_interruption_by_user():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts a job behind & without one
    point = types.SimpleNamespace(
        name="x", value="x:FRAMEWORK", module="x", load=lambda: signal.raise_signal(signal.SIGINT)
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            registry._loaded(point)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("nothing(x)", False),
        ("np.nothing(x)", False),
        ("np.sum(x, axes=0)", False),
        ("import nothing\nx", False),
        ("x.reshape(7)", True),
        ("conformance.tests.adapters.test_contract.mistaken(x)", True),
    ],
)
def test_name_missing_in_call_text_is_lowering_error(text, finding):
    of = framework(imports=HERE)
    call = Call(text, {"x": Tensor(np.ones(2))})
    if finding:
        assert isinstance(perform(of, call, "it"), Raised)
    else:
        with pytest.raises(LoweringError, match="it: "):
            perform(of, call, "it")


def mistaken(x: Any) -> Any:
    """A function that makes the mistakes itself."""
    return x.nothing
