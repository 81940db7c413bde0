"""Fake projects whose wheels hold tests: a package, its version, and a source that reads it."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.power.harvest import pipeline, source
from conformance.power.harvest.source import Source

LOSSES = """
import numpy as np


def loss(y, p, weight=None, reduction="mean", axis=-1):
    rows = -np.log(np.take_along_axis(np.asarray(p), np.asarray(y)[:, None], 1))[:, 0]
    rows = rows if weight is None else rows * weight
    return {"none": lambda r: r, "sum": np.sum, "mean": np.mean}[reduction](rows)
"""
TESTS = """
import numpy as np
import pytest
from numpy.testing import assert_allclose

from quarry.losses import loss

TABLE = [([0], [[0.25, 0.75]], 1.3862943611198906), ([1], [[0.25, 0.75]], 0.2876820724517809)]


def test_loss_plain():
    y, p = [1, 0], [[0.5, 0.5], [0.25, 0.75]]
    got = loss(y, p)
    assert_allclose(got, 1.0397, atol=1e-3)
    y *= 2
    p *= 2
    loss(y, p, reduction="sum")


def test_loss_refuses():
    with pytest.raises(IndexError):
        loss([5], [[0.5, 0.5]])


def test_loss_of_random_numbers():
    loss([0], np.random.dirichlet(np.ones(3), 1))


def test_loss_again():
    loss([1, 0], np.array([[0.5, 0.5], [0.25, 0.75]]))


def test_loss_of_rows_that_are_named():
    with pytest.raises(Exception):
        loss(["a", "b"], [[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize("y, p, answer", TABLE)
def test_specific(y, p, answer):
    raise AssertionError("this is read and not run")


def test_other_subject():
    loss([0], [[1.0, 0.0]])
"""
SOURCE = """
import numpy as np

from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer, to_plain
from conformance.power.harvest.recorder import (
    NUMPY, Assertion, RecordedFunction, relative_tolerance, parameters, run_tests,
)
from conformance.power.harvest.translation import CaseDraft
from conformance.power.harvest.source import Source


def recorded():
    watched = [RecordedFunction("quarry.test_losses", "loss")]
    assertions = [Assertion("quarry.test_losses", "assert_allclose", relative_tolerance)]
    return run_tests(SOURCE.paths[0], "quarry/test_losses.py", "test_loss_", watched, assertions)


def marked():
    from quarry import test_losses

    found = []
    for y, p, answer in parameters(test_losses, "test_specific", ("y", "p", "answer")):
        stated = StatedAnswer(np.array(answer), "float64", 1e-12, 0.0)
        arguments = {"y": to_plain(y), "p": to_plain(p), "weight": None, "reduction": "mean", "axis": -1}
        test = f"quarry/test_losses.py::test_specific[{len(found)}]"
        found.append(Record(test, "specific", "loss", arguments, stated))
    return CollectedRecords(tuple(found))


def data():
    from quarry import table

    arguments = {"weight": None, "reduction": "none", "axis": -1}
    rows = [{**arguments, "y": np.array(y), "p": np.array(p)} for y, p in table.ROWS]
    found = [Record(f"quarry/table.py::{number}", "row", "loss", row) for number, row in enumerate(rows)]
    return CollectedRecords(tuple(found), ("a note",))


def translate(found):
    said = found.arguments
    return CaseDraft(
        loss="categorical", input_kind="probabilities", target="index", predictions=said["p"], labels=said["y"],
        reduction=said["reduction"], sample_weights=said["weight"], class_axis=said["axis"],
        documented_function=DOCUMENTED,
    )


DOCUMENTED = ""
SOURCE = Source(
    name="quarry", distribution="quarry", modules={"quarry": "quarry"}, files=("test_losses.py",),
    collect=COLLECT, translate=translate, url="https://quarry.example",
)
"""
TABLE = "ROWS = [([0, 1], [[0.5, 0.5], [0.25, 0.75]]), ([0, 1], [[0.5, 0.5], [0.25, 0.75]])]\n"


class Quarry:
    """A fake project, installed in a folder that is on sys.path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("quarry/__init__.py", "")
        self.write("quarry/losses.py", LOSSES)
        self.write("quarry/test_losses.py", TESTS)
        self.write("quarry/table.py", TABLE)
        self.write("quarry-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: quarry\nVersion: 1.5\n")

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def source(self, collect: str) -> Source:
        """The source whose `collect` has that name, or is that Python; found over there as it is here."""
        self.write("quarry_source.py", SOURCE.replace("collect=COLLECT", f"collect={collect}"))
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.startswith("quarry")]:
            del sys.modules[name]
        made: Source = importlib.import_module("quarry_source").SOURCE
        return replace(made, origin="quarry_source:SOURCE")


def only(monkeypatch: Any, made: Source) -> None:
    """Have that source be the only one that is known, and nothing on record about it."""
    monkeypatch.setattr(source, "all_sources", lambda: {made.name: made})
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: None)
