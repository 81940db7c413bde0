"""optax as it stands, under `jit` and under `vmap`, and that nothing but its adapter knows it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.assessing import judge_items
from conformance.execution.targets import local_pool
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.judging.row import Row
from conformance.model.outcome import Returned
from conformance.reference.oracle import Oracle
from conformance.tests.adapters.test_adapter import executed, same_bits
from conformance.tests.stated import shipped

installed = pytest.mark.skipif(importlib.util.find_spec("optax") is None, reason="optax is not installed")

[OPTAX] = [framework for framework in registry.frameworks() if framework.name == "optax"]
CASES = (
    "article/index_labels/first_picture",
    "categorical/class_axis/one_hot_three_axes",
    "categorical/class_axis_index/three_axes",
    "categorical/soft_labels/",
    "categorical/large_logits/",
    "categorical/masked_logits",
    "binary/logits/",
    "binary/saturated_logits/",
)


def items(mode: str) -> list[Any]:
    """A few items of each function: each quantity and reduction in some dtype."""
    cases = [case for case in shipped() if case.id.startswith(CASES)]
    kinds: dict[Any, Any] = {}
    for item in plan(cases, [Installed(OPTAX, "0.2.8", mode=mode)]):
        if "masked_logits" in item.case.id and ":where" not in item.function.name:
            continue  # the ledger knows that they are nan
        kinds.setdefault((item.function.name, item.quantity, item.reduction, item.case.id.split("/")[1]), item)
    return list(kinds.values())


@installed
@pytest.mark.parametrize("mode", ["eager", *(name for name, mode in OPTAX.modes.items() if not mode.environment)])
def test_optax_agrees_and_its_reproducers_return_same_bits(mode: str) -> None:
    suite = Judge(Oracle(), Ledger())
    judged = set()
    for item in items(mode):
        asked = prepare(item)
        call = asked.call
        assert (mode != "eager") == (f"jax.{mode}(loss)(predictions, labels)" in call.text)
        outcome = perform(OPTAX, call, asked.description)
        found = suite.judge(asked, outcome)
        assert found.verdict.status in ("agrees", "diverges"), f"{item.id}\n{call.text}\n{found}"
        assert isinstance(outcome, Returned)
        judged.add((item.function.name, item.quantity))
        if item.reduction == "mean":
            value, dtype = OPTAX.arrays.numpy(executed(reproducer(OPTAX, item.function, asked.converted, call)))
            assert dtype == outcome.dtype
            assert same_bits(np.asarray(value, dtype=np.float64), outcome.value)
    assert judged == {
        (f.name, quantity) for f in Installed(OPTAX, "0.2.8").functions for quantity in ("loss", "gradient")
    }


@installed
def test_optax_without_x64_has_the_answers_of_narrowed_inputs() -> None:
    chosen = [item for item in items("x64_off") if item.dtype == "float64" or "article" in item.case.id]
    with local_pool([item.installed for item in chosen]) as pool:
        rows = list(judge_items(chosen, Judge(Oracle(), Ledger()), pool))
    for row in rows:
        assert isinstance(row, Row)
        assert row.status in ("agrees", "diverges"), f"{row.key.id}\n{row.call}\n{row.explanation}"
    wide = [row for row in rows if isinstance(row, Row) and row.key.dtype == "float64"]
    assert {row.key.quantity for row in wide if "narrowed_to=float32" in row.convention} == {"loss", "gradient"}


def test_optax_is_named_in_adapter_and_harvest_only() -> None:
    package = Path(conformance.__file__).parent
    found = {
        name.as_posix()
        for path in package.rglob("*.py")
        if "tests" not in (name := path.relative_to(package)).parts and "optax" in path.read_text(encoding="utf-8")
    }
    assert found == {"adapters/optax.py", "power/harvest/sources/optax.py"}


@installed
def test_pytest_imports_no_other_framework_for_optax(tmp_path: Path) -> None:
    source = f"""
import sys, pytest
test = {str(Path(conformance.__file__).parent / "test_conformance.py")!r}
words = ["-q", "-p", "no:cacheprovider", "--rootdir", {str(tmp_path)!r}, "-k", "optax and first_picture and mean"]
assert pytest.main([test, *words]) == 0
print([name for name in ("optax", "keras", "tensorflow", "torch", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "['optax']", done.stdout + done.stderr
