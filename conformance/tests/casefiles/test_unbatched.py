"""One sample without an axis of samples: [C] and a single index, [C] and a row, one output and one label."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from conformance.adapters import keras, sklearn, torch
from conformance.adapters.contract.lowering import lower
from conformance.casefiles.loading import read_file
from conformance.casefiles.writing import case_file_text
from conformance.explore.fuzz.generation import random_case
from conformance.judging.traits import traits
from conformance.model.case import REDUCTIONS
from conformance.model.convention import DEFINITION, Convention
from conformance.reference import error_bound, gradient
from conformance.reference.oracle import Exact, evaluate
from conformance.tests.stated import case, shipped

Z, P, LOG_P = [0.5, -1.5, 0.25], [0.5, 0.125, 0.375], [-0.4, -1.6, -2.0]
BINARY = {"loss": "binary", "target": "binary"}
WEIGHTED = {"class_weights": [1.0, 2.0, 0.5], "sample_weights": np.array(3.0), "label_smoothing": 0.25}
OF_OUTPUT = {"positive_weight": np.array(3.0), "sample_weights": np.array(0.5), "label_smoothing": 0.25}
CASES = {
    "index": case(Z, 1, options=WEIGHTED),
    "ignored": case(Z, -100, options={"ignore_index": -100}),
    "row": case(Z, [0.25, 0.5, 0.25], target="distribution", options=WEIGHTED),
    "probabilities": case(P, 2, input_kind="probabilities", options=WEIGHTED),
    "log_probabilities": case(LOG_P, 0, input_kind="log_probabilities", options=WEIGHTED),
    "logit": case(0.75, 0.25, **BINARY, options=OF_OUTPUT),
    "probability": case(0.75, 1.0, **BINARY, input_kind="probabilities", options=OF_OUTPUT),
}
CONVENTIONS = (
    DEFINITION,
    Convention(mean_divides_by="kept", clip=1e-7, renormalise="before_clip", binary_outputs="mean_of_last_axis"),
    Convention(mean_divides_by="label_weight", renormalise="after_clip", log_floor=-1.0, empty_mean="zero"),
)


def batch_of_one(found):
    weight = found.options.sample_weights
    options = dataclasses.replace(found.options, sample_weights=None if weight is None else weight[np.newaxis])
    return dataclasses.replace(
        found, predictions=found.predictions[np.newaxis], labels=found.labels[np.newaxis], options=options
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", CASES)
def test_loss_tolerance_and_gradient_are_those_of_batch_of_one(name, convention, reduction):
    alone, batch = (one.problem("float32", reduction) for one in (CASES[name], batch_of_one(CASES[name])))
    answer, in_batch = evaluate(alone, convention), evaluate(batch, convention)
    assert type(answer) is type(in_batch)
    if not isinstance(answer, Exact):
        return
    assert answer.hi.shape == ()
    np.testing.assert_array_equal(answer.hi, in_batch.hi.reshape(()))
    tolerances = [error_bound.tolerance(problem, convention).reshape(-1).tolist() for problem in (alone, batch)]
    assert tolerances[0] == tolerances[1]
    assert alone.reduction != "none" or error_bound.tolerance(alone, convention).shape == ()
    slopes = [gradient.answer(problem, convention, loss) for problem, loss in ((alone, answer), (batch, in_batch))]
    assert slopes[0].hi.shape == alone.predictions.shape
    np.testing.assert_array_equal(slopes[0].hi, slopes[1].hi[0])


@pytest.mark.parametrize("name", CASES)
def test_file_with_unbatched_case_reads_back_as_written(name, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(case_file_text([dataclasses.replace(CASES[name], about="One sample.", source="here")]))
    (read,), errors = read_file(path, "x")
    assert not errors
    assert (read.digest, read.predictions.shape, read.labels.shape) == (
        CASES[name].digest,
        CASES[name].predictions.shape,
        CASES[name].labels.shape,
    )


def functions(framework, name):
    return [one for one in framework.FRAMEWORK.functions if one.name == f"{framework.FRAMEWORK.name}.{name}"]


def releases(framework, name, problem):
    """The releases whose function takes a problem, as specifiers."""
    return [one.versions for one in functions(framework, name) if one.unsupported(problem) is None]


def test_frameworks_accept_unbatched_since_documented_release():
    problems = {name: found.problem("float32", "mean") for name, found in CASES.items()}
    plain = case(Z, 1).problem("float32", "mean")
    row = case(Z, [0.25, 0.5, 0.25], target="distribution").problem("float32", "mean")
    assert "<1.10" not in str(releases(torch, "NLLLoss", plain))
    assert any(">=1.10" in found for found in releases(torch, "NLLLoss", plain))
    assert min(releases(torch, "CrossEntropyLoss", plain)) == ">=1.11,<1.12"
    assert ">=1.11,<1.12" not in releases(torch, "CrossEntropyLoss", row)
    assert all("<3" not in found.split(",") for found in releases(keras, "CategoricalCrossentropy", row))
    assert releases(keras, "CategoricalCrossentropy", row)
    assert not releases(keras, "BinaryCrossentropy", problems["probability"])
    assert not releases(sklearn, "log_loss", case(P, 2, input_kind="probabilities").problem("float32", "mean"))


def test_call_passes_arrays_without_sample_axis():
    call = lower(functions(torch, "CrossEntropyLoss")[0], case(Z, 1).problem("float32", "mean"))
    assert {name: tensor.values.shape for name, tensor in call.arrays.items()} == {"predictions": (3,), "labels": ()}
    row = case(Z, [0.0, 1.0, 0.0], target="distribution").problem("float32", "mean")
    assert (
        lower(functions(torch, "NLLLoss")[0], dataclasses.replace(row, input_kind="log_probabilities"))
        .arrays["labels"]
        .values.shape
        == ()
    )
    of_output = dataclasses.replace(
        CASES["logit"], options=dataclasses.replace(CASES["logit"].options, label_smoothing=None)
    )
    call = lower(functions(torch, "BCEWithLogitsLoss")[0], of_output.problem("float32", "mean"))
    assert {tensor.values.shape for tensor in call.arrays.values()} == {()}


def test_unbatched_is_a_trait():
    for name, found in CASES.items():
        problem = found.problem("float32", "none")
        known = traits(problem, problem, problem.target_kind)
        assert {"unbatched", "one_sample"} <= known, name
        assert not {"rank_1", "higher_rank"} & known
    one = case([0.75], [1.0], **BINARY).problem("float32", "none")
    assert {"rank_1"} == traits(one, one, "binary") & {"unbatched", "rank_1"}


def test_some_drawn_cases_have_no_axis_of_samples():
    rng = np.random.default_rng(0)
    drawn = [random_case(rng, "a/b/c") for _ in range(400)]
    shapes = {(one.loss, one.predictions.ndim) for one in drawn}
    assert {("categorical", 1), ("binary", 0)} <= shapes


def test_shipped_cases_have_every_kind():
    found = [one for one in shipped() if not one.problem("float32", "none").sample_shape]
    assert {(one.loss, one.input_kind, one.target) for one in found} >= {
        ("categorical", "logits", "index"),
        ("categorical", "logits", "distribution"),
        ("categorical", "probabilities", "index"),
        ("categorical", "log_probabilities", "index"),
        ("binary", "logits", "binary"),
        ("binary", "probabilities", "binary"),
    }
