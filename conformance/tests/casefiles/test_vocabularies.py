"""Generated arrays of vocabularies and of batches in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.casefiles.generated_arrays import LATER, ArrayRecipe
from conformance.testing import assert_cross_entropy
from conformance.tests.stated import shipped


def recipe_of(**fields):
    usual = {"loss": "categorical", "input_kind": "logits", "target": "index", "seed": 5, "shape": (12,), "classes": 40}
    return ArrayRecipe(**{**usual, **fields})


def test_labels_of_a_block_are_its_classes():
    for block, first in (("first", 0), ("middle", 16), ("last", 32)):
        labels = recipe_of(shape=(200,), label_block=block).generate().labels
        assert set(labels.tolist()) == set(range(first, first + 8))


def test_samples_of_run_share_label_weight_and_ignored_flag():
    made = recipe_of(shape=(2, 10), runs=4, ignored=0.4, sample_weights=True).generate()
    labels = made.labels.reshape(-1)
    assert all(len(set(labels[start : start + 4].tolist())) == 1 for start in range(0, 20, 4))
    assert (labels == -100).sum() == 8
    long = recipe_of(shape=(12,), runs=5, sample_weights=True).generate().sample_weights
    assert [len(set(long[start : start + 5].tolist())) for start in (0, 5, 10)] == [1, 1, 1]


def test_offset_and_distributions_of_logits():
    plain = recipe_of().generate().predictions
    assert np.array_equal(recipe_of(offset=1e4).generate().predictions, plain + 1e4)
    assert set(recipe_of(distribution="constant", offset=-30.0).generate().predictions.ravel().tolist()) == {-30.0}
    peaks = recipe_of(distribution="peaks", shape=(2,), classes=3000).generate().predictions
    assert np.array_equal(
        np.flatnonzero(peaks[0] - recipe_of(shape=(2,), classes=3000).generate().predictions[0]), [512, 1536, 2560]
    )


def test_added_fields_do_not_change_digests():
    assert not set(recipe_of().content) & set(LATER)
    assert recipe_of(runs=2).content["runs"] == 2


def mean_loss(logits, labels, classes=None):
    """The mean in the dtype of the logits; classes: number of classes that are summed, all if None."""
    top = logits.max(-1, keepdims=True)
    log_sum = np.log(np.exp((logits - top)[:, :classes]).sum(-1))
    return (log_sum + top[:, 0] - logits[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("name", ["equal_logits", "a_peak_in_each_block"])
def test_vocabularies_catch_a_kernel_that_drops_classes_beyond_a_block(name):
    [found] = [case for case in shipped() if case.id == f"categorical/vocabularies/{name}"]
    logits, labels = found.problem("float32", "mean").predictions, found.labels
    assert_cross_entropy(mean_loss(logits, labels), logits=logits, labels=labels)
    with pytest.raises(AssertionError):
        assert_cross_entropy(mean_loss(logits, labels, classes=4096), logits=logits, labels=labels)
