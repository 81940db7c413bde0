"""Adapters against the releases they describe: which description holds where, and what calls it makes.

No framework needs to be installed: capability, conventions and calls are data.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import html
import itertools
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from conformance.adapters import registry
from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.framework import required_capabilities
from conformance.adapters.contract.lowering import Call, lower
from conformance.adapters.contract.source import called_path, calls_with_predictions
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import NEWEST, convention_for, functions_in
from conformance.comparison.alignment import version_key
from conformance.docs.reports import LibraryHistory
from conformance.judging.plan import unsupported
from conformance.model.case import Case, Layout, Problem
from conformance.reference.conversion import convert_weights
from conformance.reference.flat_problem import rejected_anomalies
from conformance.reference.oracle import divisor
from conformance.tests.examples import PAGES
from conformance.tests.stated import case, shipped

FRAMEWORKS = {framework.name: framework for framework in registry.frameworks()}
BESIDES = {
    "sklearn": "1.0 1.2.0 1.5.0 1.7.0 1.9.0",
    "keras": "2.9.0 2.11.0 2.13.1 3.0.0 3.1.1 3.2.1 3.4.0 3.5.0 3.7.0 3.8.0 3.10.0 3.11.3 3.13.0 3.14.1",
    "torch": "1.9.1 1.10.2 2.13.0",
}
"""Releases that an adapter was tried with and that are not in the history of its library."""


def history(name: str) -> list[str]:
    """The releases whose changes are on a library's page; none if it has no page."""
    page = PAGES / "releases" / f"{name}.md"
    text = html.unescape(page.read_text(encoding="utf-8")) if page.is_file() else ""
    return LibraryHistory(pd.DataFrame(), text).releases


RELEASES = {
    name: sorted({*history(name), *BESIDES.get(name, "").split()}, key=version_key)
    or [next(pinned_installations(framework)).version]
    for name, framework in FRAMEWORKS.items()
}
BACKENDS = {name: tuple(framework.backends) or ("",) for name, framework in FRAMEWORKS.items()}
RUN = [(name, backend) for name, backends in BACKENDS.items() for backend in backends]
EVERY = [(name, version, backend) for name, backend in RUN for version in RELEASES[name]]


def function(name: str, version: str, backend: str = "") -> Function:
    """The one description of a function in a release and a variant, the first unless told otherwise."""
    (found,) = [f for f in functions_in(FRAMEWORKS[name.split(".")[0]], version, backend) if f.name == name]
    return found


def descriptions() -> Iterator[tuple[str, str, list[Function]]]:
    """Each function in each variant: its name, the variant, its descriptions."""
    for framework, backend in RUN:
        there = [f for f in FRAMEWORKS[framework].functions if f.backends is None or backend in f.backends]
        for name in dict.fromkeys(f.name for f in there):
            yield name, backend, [f for f in there if f.name == name]


# Ranges


@pytest.mark.parametrize("name", list(filter(history, FRAMEWORKS)))
def test_history_ends_with_pinned_release(name):
    (release,) = {one.version for one in pinned_installations(FRAMEWORKS[name])}
    assert registry.within(history(name)[-1], f"=={release}")


@pytest.mark.parametrize(("name", "version", "backend"), EVERY)
def test_release_has_one_description_per_function(name, version, backend):
    names = [function.name for function in functions_in(FRAMEWORKS[name], version, backend)]
    assert names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("name", "version", "backend"), EVERY)
def test_release_has_same_functions_in_every_variant(name, version, backend):
    usual = {function.name for function in functions_in(FRAMEWORKS[name], version)}
    lacking = usual - {function.name for function in functions_in(FRAMEWORKS[name], version, backend)}
    # Other backends compute in 32 bits of themselves, so that there is no float64 to narrow.
    others = {one for one in lacking if not one.endswith(":default_dtype")}
    assert all(function.startswith("keras.Model.") and backend == "numpy" for function in others), others


def test_described_variants_exist():
    for name, framework in FRAMEWORKS.items():
        for described in framework.functions:
            for said in (described.backends, *(documented.backends for documented in described.conventions)):
                assert said is None or (said and said <= set(BACKENDS[name])), described.name


@pytest.mark.parametrize(("name", "backend"), RUN)
def test_added_function_is_not_removed(name, backend):
    seen: set[str] = set()
    for version in RELEASES[name]:
        here = {function.name for function in functions_in(FRAMEWORKS[name], version, backend)}
        assert seen <= here, version
        seen = here


@pytest.mark.parametrize(("name", "backend", "described"), list(descriptions()))
def test_newest_range_is_open(name, backend, described):
    newest = [function for function in described if registry.within(NEWEST, function.versions)]
    assert len(newest) == 1
    assert all(specifier.operator == ">=" for specifier in SpecifierSet(newest[0].versions))
    assert newest[0] is described[0]


@pytest.mark.parametrize(("name", "backend", "described"), list(descriptions()))
def test_each_version_range_has_an_effect(name, backend, described):
    framework = name.split(".")[0]
    for function in described:
        assert any(registry.within(version, function.versions) for version in RELEASES[framework]), function.versions


@pytest.mark.parametrize(("name", "version", "backend"), EVERY)
def test_release_has_convention_for_every_kind_of_target(name, version, backend):
    for function in functions_in(FRAMEWORKS[name], version, backend):
        for target, input_kind in itertools.product(function.targets, function.input_kinds):
            documented = convention_for(function, version, target, backend, frozenset({target, input_kind}))
            link = documented.documentation or function.documentation
            assert documented in function.conventions, (function.name, target, input_kind)
            assert link.startswith("https://"), (function.name, target, input_kind)


# Calls


@functools.cache
def problems() -> list[tuple[Case, Problem]]:
    """The problems of the shipped cases, small if the case is large."""
    return [(found, problem) for found in shipped() for problem in found.representative.problems()]


def asked_of(function: Function) -> Iterator[tuple[str, Problem]]:
    """What a function declares that it takes, with weights and predictions of its kinds.

    Each with the name of its case file.
    """
    for found, problem in problems():
        if unsupported(function, found, problem) is None:
            weighted, _ = convert_weights(problem, function.options)
            file = found.id.rpartition("/")[0]
            yield file, dataclasses.replace(weighted, input_kind=function.input_kind_for(problem.input_kind))


def kinds_of(function: Function) -> set[str]:
    """What some problem must have: losses, dtypes, reductions, kinds of input and target, and files of a function."""
    kinds = (function.ranks, function.dtypes, function.reductions, function.input_kinds, function.targets)
    return {*itertools.chain(*kinds), *function.default_files}


DESCRIBED = [function for framework in FRAMEWORKS.values() for function in framework.functions]


def described_as(function: Function) -> str:
    return " ".join([f"{function.name}{function.versions}", *sorted(function.backends or ())])


@functools.cache
def called_in(text: str) -> tuple[str, frozenset[str]]:
    """The path that the text of a call calls with the predictions, "" if none, and the names in it."""
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    return called_path(text), frozenset(names)


@pytest.mark.parametrize("function", DESCRIBED, ids=described_as)
def test_calls_are_lowered_for_every_declared_kind(function):
    count, met = 0, set()
    for file, problem in asked_of(function):
        call = lower(function, problem)
        path, names = called_in(call.text)
        assert path == function.path
        assert call.arrays.keys() <= names, call.text
        assert all(isinstance(tensor, Tensor) for tensor in call.arrays.values())
        target = function.target_kind_for(problem.target_kind) or problem.target_kind
        met |= {file, problem.loss, *required_capabilities(problem, target)}
        count += 1
    assert met >= kinds_of(function), kinds_of(function) - met
    assert count >= 5 * len(function.dtypes) * len(function.reductions)


def call(
    name: str, version: str, backend: str = "", *, reduction: Any = "mean", dtype: str = "float32", **stated: Any
) -> Call:
    """How a release is asked a small problem."""
    described = function(name, version, backend)
    loss = next(iter(described.ranks))
    fields: dict[str, Any] = {"loss": loss, "input_kind": next(iter(described.input_kinds))}
    if loss == "binary":
        fields |= {"predictions": [[0.3], [0.8]], "labels": [[1], [0]], "target": "binary"}
    else:
        fields |= {"predictions": [[0.3, 0.7], [0.8, 0.2]], "labels": [1, 0], "target": "index"}
    fields |= stated
    problem = case(fields.pop("predictions"), fields.pop("labels"), **fields).problem(dtype, reduction)
    assert described.unsupported(problem) is None
    return lower(described, problem)


@pytest.mark.parametrize("version", RELEASES["sklearn"])
def test_log_loss_is_called_as_every_release_supports(version):
    made = call("sklearn.log_loss", version, options={"sample_weights": [1.0, 2.0]}, reduction="sum")
    assert made.text == (
        "sklearn.metrics.log_loss(labels, predictions, labels=list(range(2)), sample_weight=sample_weights, "
        "normalize=False)"
    )


def said(call: Call) -> dict[str, Any]:
    """The arguments of the constructor."""
    return {
        str(keyword.arg): ast.literal_eval(keyword.value) for keyword in calls_with_predictions(call.text)[0].keywords
    }


KERAS = ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy")


@pytest.mark.parametrize("loss", KERAS)
@pytest.mark.parametrize("backend", BACKENDS["keras"])
@pytest.mark.parametrize("version", RELEASES["keras"])
def test_keras_loss_receives_dtype_if_supported(version, backend, loss):
    made = call(f"keras.{loss}", version, backend, reduction="none")
    assert said(made)["reduction"] == ("none" if version.startswith("2.") else None)
    assert ("dtype" in said(made)) == registry.within(version, ">=3.4")


def test_loss_of_keras_gets_requested_arguments():
    options = {"ignore_index": -1}
    made = call("keras.SparseCategoricalCrossentropy", "2.10.0", labels=[1, -1], options=options)
    assert said(made) == {"reduction": "sum_over_batch_size", "from_logits": True, "ignore_class": -1}
    made = call(
        "keras.CategoricalCrossentropy", "2.15.0", layout=Layout(class_axis=1), options={"label_smoothing": 0.1}
    )
    assert said(made) == {
        "reduction": "sum_over_batch_size", "from_logits": True, "label_smoothing": 0.1, "axis": 1,
    }  # fmt: skip
    made = call("keras.BinaryCrossentropy:mean_with_sample_weight", "3.7.0", dtype="float64")
    assert said(made) == {"reduction": "mean_with_sample_weight", "from_logits": True, "dtype": "float64"}


# Support


@pytest.mark.parametrize(
    ("name", "first", "before", "stated"),
    [
        ("keras.SparseCategoricalCrossentropy", "2.10.0", "2.9.0", {"options": {"ignore_index": 1}}),
        ("keras.CategoricalCrossentropy", "3.4.0", "3.3.3", {"dtype": "float16"}),
        ("keras.BinaryCrossentropy", "3.4.0", "3.3.3", {"dtype": "float64"}),
        ("torch.CrossEntropyLoss", "1.10.2", "1.9.1", {"options": {"label_smoothing": 0.1}}),
        ("torch.CrossEntropyLoss", "1.10.2", "1.9.1", {"labels": [[0.5, 0.5], [0.9, 0.1]], "target": "distribution"}),
        ("torch.CrossEntropyLoss", "2.4.1", "2.3.1", {"dtype": "float16"}),
        ("torch.NLLLoss", "2.4.1", "2.3.1", {"dtype": "float16"}),
        ("torch.BCELoss", "2.4.1", "2.3.1", {"dtype": "float16"}),
        ("torch.BCELoss", "2.4.1", "2.3.1", {"dtype": "bfloat16"}),
        ("torch.BCEWithLogitsLoss", "2.1.2", "2.0.1", {"dtype": "float16"}),
        (
            "torch.CrossEntropyLoss",
            "2.2.2",
            "2.1.2",
            {"labels": [[0.5, 0.5], [0.9, 0.1]], "target": "distribution", "dtype": "float16"},
        ),
    ],
)
def test_option_is_available_from_its_release_on(name, first, before, stated):
    call(name, first, **stated)
    with pytest.raises(AssertionError):
        call(name, before, **stated)


@pytest.mark.parametrize("backend", BACKENDS["keras"])
@pytest.mark.parametrize("loss", [*KERAS, *(f"{name}:mean_with_sample_weight" for name in KERAS)])
def test_keras_loss_is_float64_on_tensorflow_and_elsewhere_before_3_12(backend, loss):
    for version in (version for version in RELEASES["keras"] if registry.within(version, ">=3.7")):
        there = backend == "tensorflow" or registry.within(version, "<3.12")
        assert ("float64" in function(f"keras.{loss}", version, backend).dtypes) == there, version


@pytest.mark.parametrize("backend", BACKENDS["keras"])
def test_keras_has_weighted_mean_since_3_7(backend):
    for version in RELEASES["keras"]:
        names = [function.name for function in functions_in(FRAMEWORKS["keras"], version, backend)]
        weighted = sum(name.endswith(":mean_with_sample_weight") for name in names)
        assert weighted == (3 if registry.within(version, ">=3.7") else 0), version


# Conventions


@pytest.mark.parametrize(
    ("name", "version", "target", "choices"),
    [
        ("sklearn.log_loss", "1.0.2", "index", {"clip": 1e-15, "renormalise": "after_clip"}),
        ("sklearn.log_loss", "1.1.3", "index", {"clip": 1e-15, "renormalise": "after_clip"}),
        ("sklearn.log_loss", "1.2.0", "index", {"clip": "dtype", "renormalise": "after_clip"}),
        ("sklearn.log_loss", "1.4.2", "binary", {"clip": "dtype", "renormalise": "after_clip"}),
        ("sklearn.log_loss", "1.5.0", "index", {"clip": "dtype", "renormalise": "no"}),
        ("sklearn.log_loss", "1.9.1", "one_hot", {"clip": "dtype", "mean_divides_by": "weight"}),
        ("keras.BinaryCrossentropy", "2.8.0", "binary", {"empty_batch": "reduced", "clip": 1e-7}),
        ("keras.BinaryCrossentropy", "3.0.0", "binary", {"empty_batch": "unreduced", "clip": 1e-7}),
        ("keras.CategoricalCrossentropy", "2.15.0", "one_hot", {"renormalise": "before_clip"}),
        ("keras.CategoricalCrossentropy", "3.15.1", "one_hot", {"renormalise": "before_clip"}),
        ("torch.CrossEntropyLoss", "1.9.1", "index", {"mean_divides_by": "weight"}),
        ("torch.CrossEntropyLoss", "2.13.0", "index", {"mean_divides_by": "label_weight"}),
        ("torch.CrossEntropyLoss", "2.13.0", "distribution", {"mean_divides_by": "kept"}),
        ("torch.BCELoss", "2.0.1", "binary", {"rejects": frozenset({"nan_prediction"})}),
        ("torch.BCELoss", "2.1.2", "binary", {"rejects": frozenset({"nan_prediction", "nan_target"})}),
    ],
)
def test_release_documents_its_own_convention(name, version, target, choices):
    backend = BACKENDS[name.split(".")[0]][0]
    convention = convention_for(function(name, version, backend), version, target, backend).convention
    assert {field: getattr(convention, field) for field in choices} == choices


def test_divisor_is_declared_only_if_it_differs_from_definition():
    cases = [found for found in shipped() if "mean" in found.reductions and found.predicted < 100]
    dtypes = ("float32", "float64")  # some functions take one of them only
    problems = [found.problem(dtype, "mean") for dtype in dtypes for found in cases if dtype in found.dtypes]
    declared = 0
    for framework in registry.frameworks():
        for described in framework.functions:
            for documented in described.conventions:
                convention = documented.convention
                if convention.mean_divides_by == "weight":
                    continue
                definition = dataclasses.replace(convention, mean_divides_by="weight")
                assert any(
                    divisor(problem, convention) != divisor(problem, definition)
                    for problem in problems
                    if documented.targets is None or problem.target_kind in documented.targets
                    if described.unsupported(problem) is None and not rejected_anomalies(problem, convention)
                ), (described.name, described.versions, documented)
                declared += 1
    assert declared > 10


@pytest.mark.parametrize(
    ("loss", "backend", "field", "documented"),
    [
        ("SparseCategoricalCrossentropy", "tensorflow", "renormalise", "after_clip"),
        ("SparseCategoricalCrossentropy", "jax", "renormalise", "before_clip"),
        ("SparseCategoricalCrossentropy", "torch", "renormalise", "before_clip"),
        ("SparseCategoricalCrossentropy", "numpy", "renormalise", "before_clip"),
        ("CategoricalCrossentropy", "torch", "renormalise", "before_clip"),
        ("BinaryCrossentropy", "torch", "cancellation", "logits"),
        ("BinaryCrossentropy", "torch", "log_floor", -100.0),
        ("BinaryCrossentropy", "tensorflow", "cancellation", "none"),
        ("BinaryCrossentropy", "jax", "log_floor", None),
    ],
)
def test_keras_backend_documents_its_own_convention(loss, backend, field, documented):
    for version in (version for version in RELEASES["keras"] if registry.within(version, ">=3")):
        described = function(f"keras.{loss}", version, backend)
        for target in described.targets:
            assert getattr(convention_for(described, version, target, backend).convention, field) == documented


@pytest.mark.parametrize("backend", BACKENDS["keras"])
def test_keras_2_documents_the_same_for_every_backend(backend):
    for name in KERAS:
        described = function(f"keras.{name}", "2.15.0", backend)
        for target in described.targets:
            first = convention_for(described, "2.15.0", target, "tensorflow")
            assert convention_for(described, "2.15.0", target, backend).convention == first.convention


@pytest.mark.parametrize("version", RELEASES["sklearn"])
def test_sklearn_never_documents_invalid_probabilities(version):
    described = function("sklearn.log_loss", version)
    assert convention_for(described, version, "index").convention.accepts == {"trailing_axis"}


@pytest.mark.parametrize(("kind", "first"), [("nan_weight", "1.8"), ("infinite_weight", "1.8"), ("no_weight", "1.9")])
def test_weights_are_checked_since(kind, first):
    for version in RELEASES["sklearn"]:
        rejects = convention_for(function("sklearn.log_loss", version), version, "index").convention.rejects
        assert (kind in rejects) == registry.within(version, f">={first}"), version


# What an environment needs


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=lambda framework: framework.name)
def test_requirements_parse(framework: Framework):
    for versions, requirement in framework.extra_requirements:
        SpecifierSet(versions)
        Requirement(requirement.format(version="1.0"))
    for name, backend in framework.backends.items():
        assert name == name.lower()
        assert all(isinstance(value, str) for value in backend.environment.values())
        for requirement in backend.requirements:
            Requirement(requirement)


@pytest.mark.parametrize(
    ("name", "version", "needed"),
    [
        ("sklearn", "1.3.0", True), ("sklearn", "1.4.2", False), ("torch", "2.2.2", True), ("torch", "2.3.0", False),
        ("keras", "2.14.0", True), ("keras", "2.15.0", False),
    ],
)  # fmt: skip
def test_old_releases_require_old_numpy(name, version, needed):
    found = [need for versions, need in FRAMEWORKS[name].extra_requirements if registry.within(version, versions)]
    assert ("numpy<2" in found) == needed
