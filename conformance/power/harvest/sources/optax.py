"""Optax: inputs of its cross-entropies in `_classification_test.py`, one loss per sample or output.

JAX does not compile here, so that functions are called with values and not with tracers.
"""

from __future__ import annotations

from dataclasses import replace

from conformance.power.harvest.recorder import NUMPY, RecordedFunction, run_tests
from conformance.power.harvest.records import CollectedRecords, Record
from conformance.power.harvest.source import Source
from conformance.power.harvest.translation import CaseDraft, UntranslatableError

FILE = "losses/_classification_test.py"
MODULE = "optax.losses._classification"
TESTS = "(Softmax or Sigmoid or PolyLoss) and not gradient"
"""Without tests of gradients, which call the functions with finite differences of the same inputs."""
DENSE = ("softmax_cross_entropy", "safe_softmax_cross_entropy")
INTEGER = "softmax_cross_entropy_with_integer_labels"
SIGMOID = "sigmoid_binary_cross_entropy"


def collect() -> CollectedRecords:
    """Calls of the four functions, also by other losses."""
    watched = [RecordedFunction(MODULE, name) for name in (*DENSE, INTEGER, SIGMOID)]
    collected = run_tests(SOURCE.paths[0], f"optax/{FILE}", TESTS, watched, NUMPY)
    # Tests of several functions have the same names.
    records = tuple(replace(record, name=f"{record.function}_{record.name}") for record in collected.records)
    return replace(collected, records=records)


def translate(record: Record) -> CaseDraft:
    """Losses are not reduced; an axis of classes that is not the last is a layout."""
    arguments = record.arguments
    if arguments.get("where") is not None:
        raise UntranslatableError("a mask over classes")
    axis = arguments.get("axis", -1)
    if not isinstance(axis, int):
        raise UntranslatableError("several axes of classes at once")
    binary = record.function == SIGMOID
    return CaseDraft(
        loss="binary" if binary else "categorical",
        input_kind="logits",
        target="binary" if binary else "index" if record.function == INTEGER else "distribution",
        predictions=arguments["logits"],
        labels=arguments["labels"],
        reduction="none",
        class_axis=axis,
        is_axis_argument=True,
    )


SOURCE = Source(
    name="optax",
    distribution="optax",
    modules={"optax": "optax", "jax": "jax"},
    files=(FILE,),
    collect=collect,
    translate=translate,
    url="https://github.com/google-deepmind/optax",
    variables={"JAX_DISABLE_JIT": "1", "JAX_PLATFORMS": "cpu"},
)
