"""ONNX: the node tests of SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss, with their stated outputs.

Each test exists up to four times, with the log-probabilities as second output and with the operator expanded into
others; their inputs are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.power.harvest.records import CollectedRecords, Record, StatedAnswer
from conformance.power.harvest.source import Source, SourceMovedError
from conformance.power.harvest.translation import CaseDraft

PREFIXES = ("test_sce_", "test_nllloss_")
FILES = {
    "SoftmaxCrossEntropyLoss": "backend/test/case/node/softmaxcrossentropy.py",
    "NegativeLogLikelihoodLoss": "backend/test/case/node/negativeloglikelihoodloss.py",
}
OPERATORS = tuple(FILES)


def collect() -> CollectedRecords:
    """Inputs and outputs of the data sets; attributes of the operator."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from other operators, whose data is also generated
        from onnx.backend.test.loader import load_model_tests

        tests = [test for test in load_model_tests(kind="node") if test.name.startswith(PREFIXES)]
    operators = {test.name: _operator(test) for test in tests}
    records = []
    for test in tests:
        node = operators.get(test.name.removesuffix("_expanded"))
        if node is None:
            raise SourceMovedError(f"{test.name} has no {' or '.join(OPERATORS)}")
        for inputs, outputs in test.data_sets or ():
            records.append(_record(test, node, list(map(np.asarray, inputs)), np.asarray(outputs[0])))
    return CollectedRecords(tuple(records))


def _operator(test: Any) -> Any:
    """The loss among the nodes of a test; None if it is expanded into other operators."""
    return next((node for node in test.model.graph.node if node.op_type in OPERATORS), None)


def _record(test: Any, node: Any, inputs: list[Any], output: Any) -> Record:
    from onnx.helper import get_attribute_value

    attributes = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    reduction = attributes.get("reduction", b"mean")
    arguments = {
        "scores": inputs[0],
        "labels": inputs[1],
        "weights": inputs[2] if len(inputs) > 2 else None,
        "ignore_index": attributes.get("ignore_index"),
        "reduction": reduction.decode() if isinstance(reduction, bytes) else reduction,
    }
    stated = StatedAnswer(output.astype(np.float64), output.dtype.name, float(test.rtol), float(test.atol))
    name = test.name.removeprefix("test_")
    return Record(f"onnx/{FILES[node.op_type]}::{test.name}", name, node.op_type, arguments, stated)


def translate(record: Record) -> CaseDraft:
    """Classes are on axis 1 by default."""
    arguments = record.arguments
    return CaseDraft(
        loss="categorical",
        input_kind="logits" if record.function == OPERATORS[0] else "log_probabilities",
        target="index",
        predictions=arguments["scores"],
        labels=arguments["labels"],
        reduction=arguments["reduction"],
        class_axis=1,
        class_weights=arguments["weights"],
        ignore_index=arguments["ignore_index"],
    )


SOURCE = Source(
    name="onnx",
    distribution="onnx",
    modules={"onnx": "onnx"},
    files=("backend/test/loader/__init__.py", *FILES.values()),
    collect=collect,
    translate=translate,
    url="https://github.com/onnx/onnx",
)
