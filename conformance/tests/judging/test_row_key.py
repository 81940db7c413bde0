import dataclasses

import pytest

from conformance.model.row_key import KEY, PLACE, QUESTION, RowKey

PLAIN = RowKey("categorical/seed/plain", "0123", "torch.CrossEntropyLoss", "float32", "mean")


def test_key_id_omits_defaults():
    assert PLAIN.id == "torch.CrossEntropyLoss-categorical/seed/plain-float32-mean"
    other = dataclasses.replace(PLAIN, quantity="gradient", mode="jit", device="cuda")
    assert other.id == f"{PLAIN.id}-gradient-jit-cuda"


def test_key_fills_absent_columns_with_their_defaults():
    earlier = {"case": "a/b/c", "digest": "0", "function": "f.g", "dtype": "float32", "reduction": "sum", "status": ""}
    assert RowKey.of(earlier) == RowKey("a/b/c", "0", "f.g", "float32", "sum", "loss", "", "", "", "eager", "cpu")


def test_key_columns_are_question_and_place():
    assert sorted(KEY) == sorted({*QUESTION, *PLACE})


@pytest.mark.parametrize("name", ["digest", "version", "environment", "backend"])
def test_fingerprint_stays_the_same_across_runs(name):
    assert dataclasses.replace(PLAIN, **{name: "another"}).fingerprint == PLAIN.fingerprint


@pytest.mark.parametrize("name", ["case", "function", "dtype", "reduction", "quantity", "mode", "device"])
def test_fingerprint_distinguishes_questions(name):
    assert dataclasses.replace(PLAIN, **{name: "another"}).fingerprint != PLAIN.fingerprint


def test_key_across_versions_omits_version_and_digest():
    newer = dataclasses.replace(PLAIN, digest="4567", version="3.0")
    assert newer.across_versions() == dataclasses.replace(PLAIN, version="2.0").across_versions()
    assert newer.across_versions() != dataclasses.replace(newer, backend="jax").across_versions()
