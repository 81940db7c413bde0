"""Every parameter of every adapted function is accounted for: it carries something, is neutral, or is a stated gap."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function, calling, signatures
from conformance.adapters.contract.lowering import Call, lower
from conformance.adapters.contract.signatures import passed_parameters, unaccounted
from conformance.adapters.contract.source import calls_with_predictions
from conformance.adapters.registry import Installed
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.judging.plan import Item, unsupported
from conformance.judging.prepare import prepare_problem
from conformance.model.case import Case, Problem
from conformance.model.outcome import Returned
from conformance.reference.domain import examine
from conformance.tests.libraries import libraries_under_test
from conformance.tests.stated import shipped

HERE = libraries_under_test()
ASKED = [(there, function) for there in HERE for function in there.functions]
each_function = pytest.mark.parametrize(("there", "function"), ASKED, ids=[function.name for _, function in ASKED])


@functools.cache
def stated_problems() -> tuple[tuple[Case, Problem], ...]:
    """Every problem of the corpus whose arrays are written out, with its case."""
    return tuple(
        (case, problem) for case in shipped() if not isinstance(case, GeneratedCase) for problem in case.problems()
    )


@functools.cache
def problems(name: str) -> tuple[Problem, ...]:
    """Every problem of the corpus that an installed function takes, as it is handed over."""
    [(there, function)] = [(there, function) for there, function in ASKED if function.name == name]
    return tuple(
        prepare_problem(Item(there, function, case, problem.dtype, problem.reduction, "loss"), problem).converted
        for case, problem in stated_problems()
        if unsupported(function, case, problem) is None
    )


@each_function
def test_parameters_are_accounted_for(there: Installed, function: Function) -> None:
    assert unaccounted(there.framework, function) == []


@each_function
def test_arguments_of_tables_are_passed_by_some_problem(there: Installed, function: Function) -> None:
    if not function.path and not function.arguments:
        pytest.skip("an expression, which has no parameters")
    there.framework.prepare()
    texts = {lower(function, problem).text for problem in problems(function.name)}
    keywords = {node.arg for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.keyword)}
    assert {*passed_parameters(function)} <= keywords | {*function.positional.values()}


@each_function
def test_example_of_gap_is_accepted_argument(there: Installed, function: Function) -> None:
    for example in (example for example in function.untested if not example.startswith('"')):
        [keyword] = ast.parse(f"f({example})", mode="eval").body.keywords  # type: ignore[attr-defined]
        problem = next(
            problem
            for problem in problems(function.name)
            if problem.predictions.ndim == min(max((ranks := function.ranks[problem.loss]).start, 2), ranks.stop - 1)
        )
        call = with_argument(function, lower(function, problem), keyword)
        outcome = calling.perform(there.framework, call, "an example")
        assert getattr(outcome, "exception", "") not in ("TypeError",), (example, outcome)


@each_function
def test_example_of_gap_in_a_dict_changes_the_result(there: Installed, function: Function) -> None:
    def changes(problem: Problem, entry: str) -> bool:
        call = lower(function, problem)
        with_entry = dataclasses.replace(call, text=call.text.replace('"objective": ', f'{entry}, "objective": ', 1))
        stated, changed = (calling.perform(there.framework, one, "an example") for one in (call, with_entry))
        assert isinstance(stated, Returned), stated
        assert isinstance(changed, Returned), changed
        return not np.array_equal(stated.value, changed.value)

    several = [problem for problem in problems(function.name) if problem.labels.size > 2 and not examine(problem)]
    for example in (example for example in function.untested if example.startswith('"')):
        assert any(changes(problem, example) for problem in several), example


def with_argument(function: Function, call: Call, argument: ast.keyword) -> Call:
    """The call with another argument, in its constructor if that has such a parameter."""
    nodes = copy.deepcopy(calls_with_predictions(call.text))
    stated = ast.get_source_segment(call.text, nodes[-1]) or ""
    first = argument.arg in signatures.signatures(function.path)[0].parameters
    node = nodes[0] if first else nodes[-1]
    node.keywords = [*(other for other in node.keywords if other.arg != argument.arg), argument]
    return dataclasses.replace(call, text=call.text.replace(stated, ast.unparse(nodes[-1]), 1))


def fused(logits: Any, labels: Any, *, reduction: str = "mean", name: str = "", scale: float = 1.0) -> float:
    """A loss for the tests below."""
    return 0.0


def wrapper(logits: Any, labels: Any, **kwargs: Any) -> float:
    """The same, with keywords that it passes on."""
    return fused(logits, labels, **kwargs)


class Fused:
    """The same as a class."""

    def __init__(self, reduction: str = "mean", **kwargs: Any) -> None: ...

    def __call__(self, logits: Any, labels: Any) -> float:
        return 0.0


PARTS: dict[str, dict[str, Any]] = {
    "logits": {"positional": {"predictions": "logits"}},
    "labels": {"positional": {"labels": "labels"}},
    "reduction": {"reductions": {"mean": "reduction='mean'"}},
    "name": {"no_effect": {"name": "name"}},
    "scale": {"untested": {"scale=2.0": "a factor"}},
}
"""What accounts for each parameter of `fused`."""


def described(path: str, names: Iterable[str], signature: str = "", **more: Any) -> list[str]:
    fields: dict[str, Any] = {"reductions": {"mean": ""}, "positional": {}, "signature": signature, **more}
    for name in names:
        for field, table in PARTS[name].items():
            fields[field] = {**fields.get(field, {}), **table}
    arguments = "({options})({predictions}, {labels})" if "Fused" in path else "({predictions}, {labels}, {options})"
    function = Function(
        "loss",
        path + arguments,
        ranks={"categorical": range(2, 3)},
        input_kinds={"logits": ""},
        targets={"index": ""},
        **fields,
    )
    framework = Framework("fused", (), (), (function,), arrays.numpy)
    return unaccounted(framework, framework.functions[0])


@pytest.mark.parametrize("without", PARTS)
def test_unaccounted_parameter_is_reported(without: str) -> None:
    path = f"{__name__}.fused"
    assert described(path, PARTS) == []
    assert described(path, set(PARTS) - {without}) == [f"{path}({without}=) is not accounted for"]


def test_argument_missing_in_the_signature_is_reported() -> None:
    path = f"{__name__}.fused"
    assert described(path, PARTS, arguments={"class_axis": "axis"}) == [f"{path} has no parameter axis"]
    assert described(path, set(PARTS) - {"scale"}, untested={"scale=2": "x", "dim=0": "another axis"}) == [
        f"{path} has no parameter dim"
    ]


def test_parameters_of_a_class_are_those_of_its_constructor_and_of_its_call() -> None:
    names = ("logits", "labels", "reduction")
    assert described(f"{__name__}.Fused", names) == [f"{__name__}.Fused(kwargs=) is not accounted for"]


def test_keywords_are_those_of_the_function_that_receives_them():
    path, receiver = f"{__name__}.wrapper", f"{__name__}.fused"
    names, kwargs = ("logits", "labels", "reduction"), {"untested": {"kwargs={}": "keywords of another loss"}}
    assert described(path, names, **kwargs) == [f"{path} has no parameter reduction"]
    assert described(path, names, **kwargs, keywords_of=receiver) == []


def test_function_without_signature_lists_parameters_with_source() -> None:
    assert described("builtins.max", ()) == ["builtins.max has no signature; list its parameters, with their source"]
    assert described("builtins.max", PARTS) != []
    assert described("builtins.max", PARTS, "https://docs.python.org/3/library/functions.html#max") == []
