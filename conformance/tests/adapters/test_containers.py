"""scikit-learn's arguments in pandas and as lists: what is handed over, and that the container does not matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from conformance.adapters import registry
from conformance.adapters.contract import Function
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import apply_mode, lower
from conformance.casefiles.known_issues import Ledger
from conformance.judging.judge import Judge
from conformance.judging.plan import expand_modes, plan
from conformance.model.case import Layout
from conformance.model.outcome import Returned
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

ROWS = [[0.5, 0.3, 0.2], [0.125, 0.25, 0.625], [0.1, 0.7, 0.2]]
FRAMEWORK = next(framework for framework in registry.frameworks() if framework.name == "sklearn")


@pytest.fixture
def keep(monkeypatch):
    """A framework like scikit-learn with one function, and what that function was handed."""
    kept = []

    def loss(labels, predictions, sample_weight=None):
        kept.extend((labels, predictions, sample_weight))
        return 0.0

    monkeypatch.setattr(np, "kept_loss", loss, raising=False)
    function = Function(
        "f",
        "np.kept_loss({labels}, {predictions}, {options})",
        ranks={"categorical": range(2, 3)},
        input_kinds={"probabilities": ""},
        targets={"index": "", "multi_hot": ""},
        arguments={"sample_weights": "sample_weight"},
        reductions={"mean": ""},
        named_classes=True,
        result_dtype="float64",
    )
    return dataclasses.replace(FRAMEWORK, functions=(function,), imports="import numpy as np"), kept


def handed(keep, mode, **stated):
    framework, kept = keep
    dtype = stated.pop("dtype", "float64")
    labels = stated.pop("labels", [0, 2, 1])
    stated = case(ROWS, labels, input_kind="probabilities", options={"sample_weights": [1.0, 2.0, 0.5]}, **stated)
    call = lower(framework.functions[0], stated.problem(dtype, "mean"))
    outcome = perform(framework, apply_mode(framework, call, mode=mode), "f")
    assert isinstance(outcome, Returned)
    return kept


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_pandas_mode_passes_series_and_frame(keep, dtype):
    labels, predictions, weights = handed(keep, "pandas", dtype=dtype)
    assert [type(one) for one in (labels, predictions, weights)] == [pd.Series, pd.DataFrame, pd.Series]
    assert labels.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(predictions.to_numpy(), np.array(ROWS, dtype=dtype))
    assert set(predictions.dtypes) == {np.dtype(dtype)} == {weights.dtype}


def test_pandas_indexes_and_columns_are_in_different_orders(keep):
    labels, predictions, weights = handed(keep, "pandas")
    indexes = [list(one.index) for one in (labels, predictions, weights)]
    assert all(sorted(index) == [1, 2, 3] for index in indexes)
    assert len({tuple(index) for index in indexes}) == 3
    assert list(predictions.columns) == [3, 2, 1]


def test_lists_mode_passes_lists(keep):
    labels, predictions, weights = handed(keep, "lists")
    assert (labels, predictions, weights) == ([0, 2, 1], ROWS, [1.0, 2.0, 0.5])
    assert {type(one) for one in [*labels, *weights]} == {int, float}


@pytest.mark.parametrize("mode", ["pandas", "lists"])
def test_names_and_multi_hot_targets_are_put_into_containers(keep, mode):
    names = handed(keep, mode, layout=Layout(class_names=("b", "a", "c")))[0]
    assert list(names) == ["b", "c", "a"]
    several = [[0, 1, 1], [1, 0, 0], [1, 1, 1]]
    rows = handed(keep, mode, labels=several, target="distribution")[3]
    assert np.array(rows).tolist() == several
    assert isinstance(rows, pd.DataFrame if mode == "pandas" else list)


@pytest.mark.filterwarnings("ignore:Labels passed")
@pytest.mark.parametrize("mode", ["pandas", "lists"])
def test_log_loss_does_not_depend_on_container(mode):
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    cases = [
        case(ROWS, [0, 2, 1], input_kind="probabilities"),
        case(ROWS, [0, 2, 1], input_kind="probabilities", options={"sample_weights": [1.0, 2.0, 0.5]}),
        case(ROWS, [0, 2, 1], input_kind="probabilities", layout=Layout(class_names=("cat", "dog", "ant"))),
        case(ROWS, [[0, 1, 1], [1, 0, 0], [1, 1, 1]], input_kind="probabilities", target="distribution"),
        case([0.25, 0.5, 0.75], [0, 1, 1], input_kind="probabilities", loss="binary", target="binary"),
    ]
    found = {}
    for installed in expand_modes(here, ["eager", mode]):
        for item in plan(cases, [installed]):
            row = Judge(Oracle(), Ledger()).assess(item)
            if installed.mode == mode:
                statements, _, last = row.call.rpartition("\n")
                names = {}
                exec(statements, names)
                assert eval(last, names) == row.verdict.outcome.value
            key = (cases.index(item.case), item.function.name, item.dtype, item.reduction)
            found.setdefault(key, {})[installed.mode] = row.verdict.outcome.value.tolist()
            assert row.verdict.status in ("agrees", "diverges")
    compared = [values for values in found.values() if len(values) == 2]
    having = {function.name for function in FRAMEWORK.functions if function.has_mode(mode)}
    dtypes = [dtype for _, name, dtype, _ in found if name in having]
    assert len(compared) == sum(dtype == "float64" or mode == "pandas" for dtype in dtypes)
    assert all(values["eager"] == values[mode] for values in compared)


def test_lists_mode_excludes_dtypes_lost_in_lists():
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    stated = case(ROWS, [0, 2, 1], input_kind="probabilities", dtypes=("float16", "float32", "float64"))
    items = [item for installed in expand_modes(here, ["lists"]) for item in plan([stated], [installed])]
    assert {item.dtype for item in items} == {"float64"}
