"""An adapter from outside: optax in tables, held against the exact answers, as it stands, under `jit` and `vmap`.

Its losses reduce nothing; their users append `.sum()` or `.mean()`.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function, Mode
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.contract.signatures import unaccounted
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import load, shipped_cases
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.model.convention import Convention
from conformance.model.outcome import Returned
from conformance.reference.oracle import Oracle
from conformance.tests.test_adapter import executed, same_bits

pytestmark = pytest.mark.skipif(importlib.util.find_spec("optax") is None, reason="optax is not installed")

DOCUMENTATION = "https://optax.readthedocs.io/en/latest/api/losses.html#optax."
CLASSES = ("one_hot", "distribution")


def function(name: str, loss: Any, targets: tuple[str, ...], **fields: Any) -> Function:
    accepts = frozenset() if "index" in targets else frozenset({"invalid_target"})
    return Function(
        name,
        f"optax.{name}({{predictions}}, {{labels}}, {{options}})",
        ranks={loss: range(1 if loss == "binary" else 2, 9)},
        input_kinds={"logits": ""},
        targets=dict.fromkeys(targets, ""),
        positional={"predictions": "logits", "labels": "labels"},
        conventions=(DocumentedConvention(Convention(gradient_cancellation="targets", accepts=accepts)),),
        documentation=DOCUMENTATION + name,
        **fields,
    )


AXIS = {"arguments": {"class_axis": "axis"}, "untested": {"where=None": "which elements count"}}
OPTAX = Framework(
    name="optax",
    distributions=("optax",),
    modules=("optax",),
    arrays=arrays.jax,
    imports="import optax",
    reductions={"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    modes={
        "jit": Mode("jax.jit({loss})"),
        "vmap": Mode(
            "jax.vmap({loss})",
            unreduced=True,
            excludes=(frozenset({"class_axis"}), frozenset({"class_axis_not_1"})),  # axes are counted without the batch
        ),
    },
    functions=(
        function("softmax_cross_entropy", "categorical", CLASSES).since("0.2.4", **AXIS),
        function("safe_softmax_cross_entropy", "categorical", CLASSES),
        function("softmax_cross_entropy_with_integer_labels", "categorical", ("index",)).since("0.2.4", **AXIS),
        function("sigmoid_binary_cross_entropy", "binary", ("binary", "soft_binary")),
    ),
)
CASES = (
    "article/index_labels/first_picture",
    "categorical/class_axis/one_hot_three_axes",
    "categorical/class_axis_index/three_axes",
    "categorical/soft_labels/",
    "categorical/large_logits/",
    "binary/logits/",
    "binary/saturated_logits/",
)


def items(mode: str) -> list[Any]:
    """A few items of each function: each quantity and reduction in some dtype."""
    cases = [case for case in load(shipped_cases()) if case.id.startswith(CASES)]
    kinds: dict[Any, Any] = {}
    for item in plan(cases, [Installed(OPTAX, "0.2.8", mode=mode)]):
        kinds.setdefault((item.function.name, item.quantity, item.reduction, item.case.id.split("/")[1]), item)
    return list(kinds.values())


@pytest.mark.parametrize("mode", ["eager", *OPTAX.modes])
def test_optax_in_tables_agrees_and_its_reproducers_return_the_bits(mode: str) -> None:
    suite = Judge(Oracle(), Ledger())
    judged = set()
    for item in items(mode):
        asked = prepare(item)
        call = asked.call
        assert (mode != "eager") == (f"jax.{mode}(loss)(predictions, labels)" in call.text)
        outcome = perform(OPTAX, call, asked.what)
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


def test_tables_of_optax_have_every_parameter() -> None:
    for one in Installed(OPTAX, "0.2.8").functions:
        assert unaccounted(OPTAX, one) == []
