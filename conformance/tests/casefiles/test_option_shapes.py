"""Weights whose shape does not fit the predictions: refused with file and line, or judged as what must raise."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function
from conformance.adapters.registry import Installed
from conformance.casefiles import validation
from conformance.casefiles.document import schema_line
from conformance.casefiles.loading import SCHEMA, read_file
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.model.case import REDUCTIONS, ByOracle, MustRaise
from conformance.model.convention import Convention
from conformance.model.outcome import Raised, Returned
from conformance.reference.domain import examine, fits
from conformance.reference.error_bound import tolerance
from conformance.reference.flat_problem import flatten
from conformance.reference.oracle import Exact, Invalid, evaluate
from conformance.tests.stated import case

PREDICTIONS = {
    "categorical": [(2, 3), (3, 3), (1, 3), (2, 4, 3), (0, 3), (2, 1), (3,), (1,)],
    "binary": [(3,), (1,), (2, 3), (3, 3), (2, 1), (0,), (0, 3), (2, 4, 3), ()],
}
SHAPES = [(), (0,), (1,), (2,), (3,), (4,), (1, 1), (2, 1), (1, 3), (2, 3), (3, 3), (3, 1), (2, 4), (1, 1, 1), (0, 3)]
OF = {"categorical": ("class_weights", "sample_weights"), "binary": ("sample_weights", "positive_weight")}
EVERY = [
    (loss, predictions, option, shape)
    for loss in ("categorical", "binary")
    for predictions, option, shape in itertools.product(PREDICTIONS[loss], OF[loss], SHAPES)
]


def stated(loss, predictions, option, shape, **said):
    binary = loss == "binary"
    labels = np.zeros(predictions if binary else predictions[:-1], np.float64 if binary else np.int64)
    kind = {"loss": loss, "target": "binary" if binary else "index"}
    return case(np.full(predictions, 0.5), labels, options={option: np.full(shape, 2.0)}, **kind, **said)


@pytest.mark.parametrize(("loss", "predictions", "option", "shape"), EVERY)
def test_weight_shapes_are_valid_exactly_if_case_has_answer(loss, predictions, option, shape):
    usual = stated(loss, predictions, option, shape, reductions=("none",))
    rejecting = dataclasses.replace(usual, expect=MustRaise("shape_mismatch"))
    problem = usual.problem("float64", "none")
    if fits(option, shape, predictions, loss):
        assert validation.find_errors(usual) == []
        assert flatten(problem, Convention()).shape == problem.sample_shape
        assert [fault.path for fault in validation.find_errors(rejecting)] == [("expect", "error")]
    else:
        assert [fault.path for fault in validation.find_errors(usual)] == [("options", option)]
        assert validation.find_errors(rejecting) == []
        assert examine(problem) == {"shape_mismatch"}
        assert evaluate(problem) == Invalid(("shape_mismatch",))


def test_documented_trailing_axis_does_not_accept_mismatched_weights():
    found = dataclasses.replace(
        stated("binary", (2, 3), "sample_weights", (3,)), labels=np.zeros((2, 3, 1)), expect=MustRaise("shape_mismatch")
    )
    assert evaluate(found.problem("float32", "mean"), Convention(accepts=frozenset({"trailing_axis"}))) == Invalid(
        ("shape_mismatch",)
    )


CONVENTIONS = [
    Convention(),
    Convention(accepts=frozenset({"trailing_axis"})),
    Convention(binary_outputs="mean_of_last_axis", mean_divides_by="sample_weight", clip=1e-7),
    Convention(mean_divides_by="label_weight", default_ignore_index=-100, empty_mean="nan"),
]


def framework_of(convention):
    function = Function(
        "loss",
        "some.loss({predictions}, {labels}, {options})",
        ranks={"categorical": range(1, 9), "binary": range(1, 9)},
        input_kinds={"probabilities": "", "logits": "logits=True"},
        targets={"index": "", "binary": ""},
        arguments={name: name for name in ("class_weights", "sample_weights", "positive_weight")},
        reductions={name: f"reduction={name!r}" for name in REDUCTIONS},
        conventions=(DocumentedConvention(convention),),
    )
    return Framework("some", ("some",), ("some",), (function,), arrays.numpy)


class Unused:
    """A ledger that knows nothing."""

    def find(self, *_):
        return None

    def find_by_traits(self, *_):
        return None


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_mismatched_weights_must_raise_despite_documentation(convention):
    installed = Installed(framework_of(convention), "1.0")
    mismatched_weights = [which for which in EVERY if not fits(which[2], which[3], which[1], which[0])]
    assert len(mismatched_weights) > 100
    for which in mismatched_weights[CONVENTIONS.index(convention) :: len(CONVENTIONS)]:
        usual = {"reductions": ("none", "mean"), "dtypes": ("float32",)}
        expecting = stated(*which, expect=MustRaise("shape_mismatch"), **usual)
        for item in plan([expecting], [installed]):
            suite, asked = Judge(_ORACLE, Unused()), prepare(item)
            assert suite.judge(asked, Raised("ValueError", "no")).row.status == "agrees"
            for value in (np.zeros(()), np.zeros(which[1]), np.full(which[3], np.inf)):
                row = suite.judge(asked, Returned(value, item.dtype)).row
                assert row.status == "disagrees", which
                assert "for invalid input: shape_mismatch" in row.explanation


class _Oracle:
    def answer(self, problem, convention=None, max_radius=None):
        return evaluate(problem, convention or Convention())


_ORACLE = _Oracle()


def written(folder, loss, predictions, option, shape, expect):
    binary = loss == "binary"
    made = stated(loss, predictions, option, shape)
    lines = [
        schema_line(None, SCHEMA),
        "about: x",
        "source: x",
        f"loss: {loss}",
        "given: logits",
        f"target: {'binary' if binary else 'index'}",
        "cases:",
        "  y:",
        "    why: because",
        f"    predictions: {made.predictions.tolist() if made.predictions.size else []}",
        *([] if made.predictions.size else [f"    shape: {list(predictions)}"]),
        f"    labels: {made.labels.tolist() if made.labels.size else []}",
        f"    options: {{{option}: {getattr(made.options, option).tolist()}}}",
        *(["    expect: {error: shape_mismatch}"] if expect else []),
    ]
    file = folder / "x.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file, next(number for number, line in enumerate(lines, 1) if line.startswith("    options"))


def test_file_with_mismatched_weights_is_rejected_unless_exception_is_expected(tmp_path):
    for which in EVERY:
        option, shape = which[2:]
        if 0 in shape[1:] or 0 in shape[:-1] or (shape == () and option != "positive_weight"):
            continue  # a list cannot say it, or the schema refuses it
        misfit = not fits(option, shape, which[1], which[0])
        file, line = written(tmp_path, *which, expect=False)
        cases, errors = read_file(file, "x")
        assert [error.line for error in errors] == ([line] if misfit else []), which
        if misfit:
            assert f"shape {list(shape)}" in errors[0].message
            file, _ = written(tmp_path, *which, expect=True)
            cases, errors = read_file(file, "x")
            assert errors == []
            assert cases[0].expect == MustRaise("shape_mismatch")
        else:
            assert cases[0].expect == ByOracle()


BROADCASTS = Convention(accepts=frozenset({"shape_mismatch"}))


@pytest.mark.parametrize(
    ("predictions", "labels", "more"),
    [
        ([[0.8], [-1.4], [2.3]], [1.0, 0.0, 1.0], {"loss": "binary", "target": "binary"}),
        ([0.8, -1.4, 2.3], [1.0], {"loss": "binary", "target": "binary"}),
        ([0.8], [[1.0], [0.0]], {"loss": "binary", "target": "binary"}),
        ([[0.8, -1.4, 2.3], [0.1, 0.2, 0.3]], [0.0, 1.0, 0.0], {"target": "distribution"}),
        ([[0.8, -1.4, 2.3], [0.1, 0.2, 0.3]], [[1.0], [0.5]], {"target": "distribution"}),
        ([[0.8, -1.4, 2.3]], [1, 2], {"target": "index"}),
        ([[0.8, -1.4, 2.3], [0.1, 0.2, 0.3]], [1], {"target": "index"}),
    ],
)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_accepted_shapes_are_broadcast(predictions, labels, more, reduction):
    x, y = np.array(predictions), np.array(labels)
    classes = x.shape[-1:] if more["target"] == "index" else ()
    shape = np.broadcast_shapes(x.shape, (*y.shape, *classes))
    whole = case(np.broadcast_to(x, shape), np.broadcast_to(y, shape[: len(shape) - len(classes)]), **more)
    stated = case(x, y, **more, expect=MustRaise("shape_mismatch"))
    found, same = stated.problem("float32", reduction), whole.problem("float32", reduction)
    accepting = dataclasses.replace(BROADCASTS, accepts=BROADCASTS.accepts | {"invalid_target"})
    answer, other = evaluate(found, accepting), evaluate(same, accepting)
    assert isinstance(answer, Exact)
    np.testing.assert_array_equal(answer.hi, other.hi)
    np.testing.assert_array_equal(tolerance(found, accepting), tolerance(same, accepting))
    assert isinstance(evaluate(found), Invalid)


@pytest.mark.parametrize(
    ("predictions", "labels", "more"),
    [
        ([0.8, -1.4, 2.3], [1.0, 0.0], {"loss": "binary", "target": "binary"}),
        ([[0.8], [0.1]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], {"target": "distribution"}),
        ([[0.8, 0.1], [0.1, 0.2]], [1, 0, 1], {"target": "index"}),
        ([[0.8, 0.1], [0.1, 0.2]], [1], {"target": "index", "options": {"sample_weights": [1.0, 2.0, 3.0]}}),
    ],
)
def test_shapes_without_broadcast_are_rejected(predictions, labels, more):
    stated = case(np.array(predictions), np.array(labels), **more, expect=MustRaise("shape_mismatch"))
    assert evaluate(stated.problem("float32", "mean"), BROADCASTS) == Invalid(("shape_mismatch",))
