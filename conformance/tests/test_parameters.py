"""Every parameter of every adapted function is accounted for: it carries something, is neutral, or is a stated gap."""

from __future__ import annotations

import ast
import dataclasses
import functools
from typing import Any

import numpy as np
import pytest

from conformance.adapters import contract, registry
from conformance.adapters.contract import Call, Framework, Function, Parameter, Tensor, filled, unaccounted
from conformance.adapters.registry import Installed
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.loading import load, shipped_cases
from conformance.judging.suite import bridged, unsupported
from conformance.model.case import Problem
from conformance.tests import miniatures

HERE, _ = registry.installed()
ASKED = [(there, function) for there in HERE for function in there.functions]
each_function = pytest.mark.parametrize(("there", "function"), ASKED, ids=[function.name for _, function in ASKED])


@functools.cache
def problems(name: str) -> tuple[Problem, ...]:
    """Every problem of the corpus that an installed function takes, as it is handed over."""
    [function] = [function for _, function in ASKED if function.name == name]
    cases = [case for case in load(shipped_cases()) if not isinstance(case, GeneratedCase)]
    return tuple(
        bridged(problem, function.native(problem.given))[0]
        for case in cases
        for problem in case.problems()
        if unsupported(function, case, problem) is None
    )


@each_function
def test_every_parameter_is_accounted_for(there: Installed, function: Function) -> None:
    assert unaccounted(there.framework, function) == []


@each_function
def test_every_parameter_that_carries_something_is_passed_and_no_other(there: Installed, function: Function) -> None:
    there.framework.prepare()
    passed = frozenset[str]().union(
        *(filled(contract.lowered(function, problem)) for problem in problems(function.name))
    )
    assert passed == {parameter.name for parameter in function.parameters if parameter.carries}


@each_function
def test_an_example_of_a_gap_is_an_argument_that_the_function_takes(there: Installed, function: Function) -> None:
    for parameter in function.parameters:
        if not parameter.gap:
            continue
        [keyword] = ast.parse(f"f({parameter.example})", mode="eval").body.keywords  # type: ignore[attr-defined]
        problem = next(
            problem
            for problem in problems(function.name)
            if problem.predictions.ndim == max(function.ranks[problem.loss].start, 2)
        )
        call = with_argument(contract.lowered(function, problem), parameter.name, ast.literal_eval(keyword.value))
        outcome = contract.perform(there.framework, call, "an example")
        assert keyword.arg == parameter.name
        assert getattr(outcome, "exception", "") not in ("TypeError",), (parameter, outcome)


def with_argument(call: Call, name: str, value: Any) -> Call:
    """The call with an argument more, in its constructor if that has such a parameter."""
    first = contract.signatures(call.path)[0].parameters
    if call.init is not None and name in first:
        return dataclasses.replace(call, init={**call.init, name: value})
    return dataclasses.replace(call, keywords={**call.keywords, name: value})


@pytest.mark.parametrize("framework", registry.frameworks(), ids=lambda framework: framework.name)
def test_every_description_of_every_release_says_what_it_passes(framework: Framework) -> None:
    for function in framework.functions:
        declared = {parameter.name: parameter for parameter in function.parameters}
        assert len(declared) == len(function.parameters)
        for option in function.options:
            assert any(parameter.carries == option for parameter in declared.values()), (function.name, option)


def fused(logits: Any, labels: Any, *, reduction: str = "mean", name: str = "", scale: float = 1.0) -> float:
    """A loss for the tests below."""
    return 0.0


class Fused:
    """The same as a class."""

    def __init__(self, reduction: str = "mean", **kwargs: Any) -> None: ...

    def __call__(self, logits: Any, labels: Any) -> float:
        return 0.0


PARTS = (
    Parameter("logits", "predictions"),
    Parameter("labels", "labels"),
    Parameter("reduction", "reduction"),
    Parameter("name", neutral="name"),
    Parameter("scale", gap="a factor", example="scale=2.0"),
)


def described(path: str, parameters: tuple[Parameter, ...], signature: str = "") -> list[str]:
    framework = miniatures.framework(miniatures.Categorical)
    function = dataclasses.replace(framework.functions[0], path=path, parameters=parameters, signature=signature)
    return unaccounted(framework, function)


@pytest.mark.parametrize("without", [part.name for part in PARTS])
def test_a_parameter_that_nobody_accounted_for_is_told(without: str) -> None:
    path = f"{__name__}.fused"
    assert described(path, PARTS) == []
    kept = tuple(part for part in PARTS if part.name != without)
    assert described(path, kept) == [f"{path}({without}=) is not accounted for"]


def test_a_parameter_that_is_gone_or_declared_twice_is_told() -> None:
    path = f"{__name__}.fused"
    assert described(path, (*PARTS, Parameter("axis", gap="another axis", example="axis=0"))) == [
        f"{path} has no parameter axis"
    ]
    assert described(path, (*PARTS, PARTS[0])) == ["logits is declared twice"]


def test_parameters_of_a_class_are_those_of_its_constructor_and_of_its_call() -> None:
    assert described(f"{__name__}.Fused", PARTS[:3]) == [f"{__name__}.Fused(kwargs=) is not accounted for"]


def test_a_function_without_a_signature_lists_its_parameters_with_their_source() -> None:
    assert described("builtins.max", ()) == ["builtins.max has no signature; list its parameters, with their source"]
    assert described("builtins.max", PARTS) != []
    assert described("builtins.max", PARTS, "https://docs.python.org/3/library/functions.html#max") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"carries": ""},
        {"carries": "labels", "neutral": "name"},
        {"gap": "another axis"},
        {"gap": "another axis", "example": "axes=0"},
        {"carries": "labels", "example": "axis=0"},
        {"neutral": "name", "gap": "another axis", "example": "axis=0"},
    ],
)
def test_a_parameter_is_accounted_for_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="axis: it carries something"):
        Parameter("axis", **wrong)


def test_arguments_by_position_are_named_as_the_signature_has_them() -> None:
    tensor = Tensor(np.zeros(2))
    assert filled(Call(f"{__name__}.fused", {"z": tensor, "y": tensor}, {"reduction": "sum"})) == {
        "logits",
        "labels",
        "reduction",
    }
    assert filled(Call(f"{__name__}.Fused", {"z": tensor, "y": tensor}, init={"reduction": "sum"})) == {
        "logits",
        "labels",
        "reduction",
    }
