"""Cases for tests: those that are shipped, and those stated in a line, where what is usual is left out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from conformance.casefiles.loading import load, read, shipped_cases
from conformance.model.case import Case, Options
from conformance.model.errors import CaseFileError


@functools.cache
def shipped() -> tuple[Case, ...]:
    """The shipped cases, which a process reads once; they and their arrays are immutable."""
    return tuple(load(shipped_cases()))


HEAD = "about: a\nloss: {}\ngiven: {}\ntarget: {}\ncases:\n  y:\n"


def read_case(
    folder: Path, *lines: str, loss: str = "categorical", given: str = "logits", target: str = "index"
) -> tuple[list[Case], list[CaseFileError]]:
    """The cases and errors of a file with one case, which these lines state."""
    file = folder / "x.yaml"
    text = HEAD.format(loss, given, target) + "".join(f"    {line}\n" for line in lines)
    file.write_text(text, encoding="utf-8")
    return read(file)


def case(predictions: Any, labels: Any, **stated: Any) -> Case:
    """A case from lists or arrays: categorical, logits, index labels, no options, unless it is said."""
    options = {
        name: np.array(value, dtype=np.float64) if isinstance(value, list | np.ndarray) else value
        for name, value in stated.pop("options", {}).items()
    }
    usual = {"id": "a/b/c", "why": "because", "about": "", "source": "", "loss": "categorical", "input_kind": "logits"}
    arrays = {"predictions": np.array(predictions, dtype=np.float64), "labels": np.array(labels)}
    return Case(**{**usual, "target": "index", **arrays, "options": Options(**options), **stated})
