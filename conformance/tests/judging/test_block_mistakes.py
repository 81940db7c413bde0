"""Mistakes of kernels that read classes or samples in blocks, found for faulty implementations of such kernels."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging.block_mistakes import values_of_block_mistakes
from conformance.judging.hypotheses import hypotheses_for_value
from conformance.model.case import Case
from conformance.power.mutants.catalogue import BY_NAME


def problem(samples, classes, reduction="mean"):
    drawn = np.random.default_rng(3)
    logits = drawn.normal(size=(samples, classes)) * 3 + np.linspace(0, 5, classes)
    labels = drawn.integers(0, classes, samples)
    labels[-1] = classes - 1
    return Case("a", "", "", "", "categorical", "logits", "index", logits, labels).problem("float64", reduction)


def returned(name, of):
    loss = BY_NAME[name](input_kind="logits", target="index", reduction=of.reduction)
    return np.asarray(loss(of.predictions, of.labels))


def explanations(name, of):
    exact = returned("Categorical", of)
    groups = hypotheses_for_value(returned(name, of), exact, 1e-12, "float64", values_of_block_mistakes(of))
    return [str(*hypothesis) for group in groups for hypothesis in group]


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("DropsLateBlocks", "classes beyond the first 4,096 are left out"),
        ("DropsPartialBlocks", "the last block of 1,024 classes is left out, as it is not full"),
        ("CountsPadding", "zeros that fill up the last block of 1,024 classes count"),
        (
            "MaximumOfTheBlock",
            "the maximum of each block of 1,024 classes is subtracted, and that of the row added back",
        ),
        ("OnlineWithoutRescaling", "the sum over blocks of 1,024 classes is not rescaled when the maximum grows"),
        ("LabelInTheFirstBlockOnly", "the logit of a label beyond the first 1,024 classes is taken for 0"),
        ("LargestShard", "the largest log-sum-exp of blocks of 1,024 classes is taken for that of all"),
        (
            "AddsLogarithmsOfShards",
            "the log-sum-exps of blocks of 1,024 classes are added, less the maximum of the row",
        ),
        ("SkipsTheLastSamples", "samples beyond the last full block of 128 are left out"),
    ],
)
def test_mistake_of_faulty_kernel_is_found(name, mistake, reduction):
    assert mistake in explanations(name, problem(130, 5000, reduction))


@pytest.mark.parametrize("name", ["OnlineSoftmax", "TwoPasses"])
def test_right_kernel_has_no_mistake(name):
    assert explanations(name, problem(5, 5000)) == []
