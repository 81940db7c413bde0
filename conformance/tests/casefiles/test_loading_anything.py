"""Every field of a case file holds everything that YAML can say, one at a time: cases or complaints, no traceback."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from conformance.adapters.registry import installed
from conformance.casefiles.document import schema_line
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import SCHEMA, expectation_errors, read_file
from conformance.casefiles.stated_values import expect_block
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.judging.published import published
from conformance.judging.verdict import STATUSES
from conformance.model.convention import DEFINITION
from conformance.model.errors import CaseFileError
from conformance.model.outcome import Raised, Returned
from conformance.reference import error_bound
from conformance.reference.oracle import Oracle, evaluate


class Raw(str):
    """YAML that stands as it is."""

    __slots__ = ()


def file(loss: str, input_kind: str, target: str, case: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "about": "x",
        "source": "x",
        "loss": loss,
        "given": input_kind,
        "target": target,
        **more,
        "cases": {"y": {"why": "because", **case}},
    }


FILES = {
    "index": file(
        "categorical",
        "logits",
        "index",
        {
            "predictions": [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]],
            "labels": [0, 2],
            "options": {
                "class_weights": [1.0, 2.0, 3.0],
                "sample_weights": [1.0, 2.0],
                "label_smoothing": 0.1,
                "ignore_index": -100,
            },
            "reduction": ["none", "mean"],
            "dtypes": ["float32", "float64"],
            "layout": {"class_axis": 1, "labels": "flat", "order": "c", "label_dtype": "int32"},
            "expect": "oracle",
            "published": [{"value": "0.5", "source": "x", "note": "n", "reduction": "mean"}],
        },
        reduction="mean",
        dtypes=["float32"],
    ),
    "rows": file(
        "categorical",
        "probabilities",
        "distribution",
        {
            "predictions": [[0.5, 0.25, 0.25]],
            "labels": [[0.0, 1.0, 0.0]],
            "expect": {"value": {"mean": "1.3862943611198906"}},
            "gradient": {"asked": False, "why": "no"},
        },
    ),
    "binary": file(
        "binary",
        "logits",
        "binary",
        {
            "predictions": [[0.5, -1.0]],
            "labels": [[1, 0]],
            "options": {"positive_weight": [1.0, 2.0, 3.0], "sample_weights": [1.0]},
            "expect": {"error": "shape_mismatch"},
            "layout": {"labels": "column"},
        },
    ),
    "empty": file(
        "categorical",
        "log_probabilities",
        "index",
        {"predictions": [], "shape": [0, 3], "labels": [], "expect": {"undefined": "x"}},
    ),
    "generated": file(
        "categorical",
        "logits",
        "index",
        {
            "generate": {
                "seed": 1,
                "samples": 4,
                "classes": 3,
                "distribution": "normal",
                "scale": 1.0,
                "sample_weights": True,
                "class_weights": True,
                "ignored": 0.5,
                "digest": "0123456789abcdef",
            },
            "options": {"ignore_index": -100},
        },
    ),
    "generated_outputs": file(
        "binary",
        "logits",
        "binary",
        {"generate": {"seed": 1, "shape": [2, 3], "distribution": "uniform", "soft": True, "digest": "0" * 15 + "f"}},
    ),
}
"""A file of each kind, with every key that there is."""

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.0, -0.0, 1.5, 3.0, 4.0, -2.0, 1e300, 1e-320, math.nan, math.inf, -math.inf,
    2**63, -(2**63), 2**64, 10**320, -(10**320), 100_000_000, 1e9, "", "x", "mean", "a\x00\x1b[2J", "\ud800",
    "x" * 5000, [], [[]], [None], [True], [[1.0], [1.0, 2.0]], [1.0], [0], [0.5, 10**320], [1, 10**320], [math.nan],
    [[[[[[[[[[1.0]]]]]]]]]], [1, 1, 1], [[1, 0, 2], [0, 1, 1]], {}, {"a": 1}, {"error": "label_out_of_range"},
    {"value": "1"}, {"value": ["1"]}, {"value": {"mean": "nan"}}, {"value": {"none": []}}, {"undefined": "x"},
    Raw("2020-01-01"), Raw("12:30:45"), Raw("!!python/object:os.system x"), Raw("*anchor"), Raw("&a 1"), Raw("0x1F"),
    Raw("1e999"), Raw("1" * 2000), Raw("<<"), Raw("? x"), Raw("yes"),
]  # fmt: skip
SHAPES: list[Any] = [
    [0, 3.0], [0.0, 3], [0, True], [0, 0], [0], [2, 3], [-1, 0], [0, 1], [0] * 9, [0, 10**8, 10**8, 10**8],
    [10**8] * 7 + [0], [10**18, 0], [10**8] * 8, [2.0, 3], [True], [],
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Any:
    """The path of every value in a value, keys that are not there yet among them."""
    yield at
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from places(inside, (*at, key))
        yield (*at, "more")
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from places(inside, (*at, index))


def changed(value: Any, at: tuple[Any, ...], to: Any) -> Any:
    if not at:
        return to
    found = copy.copy(value)
    found[at[0]] = changed(value[at[0]], at[1:], to) if len(at) > 1 else to
    return found


def without(value: Any, at: tuple[Any, ...]) -> Any:
    found = copy.copy(value)
    if len(at) > 1:
        found[at[0]] = without(value[at[0]], at[1:])
    else:
        del found[at[0]]
    return found


def yaml(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {yaml(inside)}' for key, inside in value.items())}}}"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def ends(text: str, path: Any, explains: bool = True) -> list[CaseFileError]:
    """What is wrong with a file; what is not, is planned, answered and written about.

    explains: whether published numbers are explained, which takes longer than all else.
    """
    path.write_bytes(f"{schema_line(None, SCHEMA)}\n{text}\n".encode("utf-8", "surrogatepass"))
    cases, errors = read_file(path, "x")
    assert cases or errors
    for error in errors:
        assert isinstance(error, CaseFileError)
        assert error.line >= 1
        assert error.message
    for case in cases:
        assert len(case.digest) == 16
        if case.predicted > 1000:
            continue
        if isinstance(case, GeneratedCase):
            with pytest.raises(CaseFileError, match="digest"):
                case.predictions  # noqa: B018
            continue
        # Texts of a case do not change what explains its numbers.
        if explains and (number := printed(case)) not in EXPLAINED:
            EXPLAINED.add(number)
            published(case)
        expectation_errors(case)
        expect_block(case)
        for problem in case.problems():
            evaluate(problem)
            error_bound.tolerance(problem, DEFINITION)
        if case.digest not in JUDGED:
            JUDGED.add(case.digest)
            judged(case)
    return errors


JUDGED: set[str] = set()
EXPLAINED: set[str] = set()


def printed(case: Any) -> str:
    """What the explanation of the published numbers of a case depends on."""
    numbers = [(one.value, one.reduction, one.quantity) for one in case.published]
    return repr((case.digest, case.dtypes, case.reductions, case.written_class_axis, numbers))


def judged(case: Any) -> None:
    """Judge what functions might do with a case."""
    suite = Judge(Oracle(), Ledger())
    for item in plan([case], HERE)[:2]:
        asked = prepare(item)
        assert asked.call
        for outcome in (Raised("ValueError", "no"), Returned(np.zeros(()), item.dtype)):
            assert suite.judge(asked, outcome).row.status in STATUSES


HERE = installed()[0]


@pytest.mark.parametrize("name", FILES)
def test_arbitrary_value_gives_case_or_error(name, tmp_path):
    """Numbers are explained with each value as the first of a list; the others of it are alike."""
    whole = FILES[name]
    for at in places(whole):
        explains = not any(isinstance(step, int) and step > 0 for step in at)
        for value in VALUES:
            ends(yaml(changed(whole, at, value)), tmp_path / "x.yaml", explains)


@pytest.mark.parametrize("name", FILES)
def test_missing_key_gives_case_or_error(name, tmp_path):
    for at in places(FILES[name]):
        if at and at[-1] != "more":
            ends(yaml(without(FILES[name], at)), tmp_path / "x.yaml")


@pytest.mark.parametrize(("name", "at"), [("empty", ("shape",)), ("generated_outputs", ("generate", "shape"))])
def test_arbitrary_shape_gives_case_or_error(name, at, tmp_path):
    for shape in SHAPES:
        ends(yaml(changed(FILES[name], ("cases", "y", *at), shape)), tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("name", "at", "value", "said"),
    [
        ("generated", ("generate", "samples"), 4.0, "generate.samples: 4.0 is not an integer; write 4"),
        ("generated", ("generate", "seed"), 0.0, "generate.seed: 0.0 is not an integer; write 0"),
        ("generated", ("generate", "classes"), 3.0, "generate.classes: 3.0 is not an integer; write 3"),
        ("generated", ("generate", "ignored"), math.nan, "generate.ignored: .nan is not finite"),
        ("generated", ("generate", "scale"), math.nan, "generate.scale: .nan is not finite"),
        ("generated_outputs", ("generate", "shape", 1), 3.0, "generate.shape[1]: 3.0 is not an integer; write 3"),
        ("empty", ("shape", 1), 3.0, "shape[1]: 3.0 is not an integer; write 3"),
        ("empty", ("shape",), [0, 10**8, 10**8], "are more than 100000000; give a smaller shape"),
        ("rows", ("labels",), [[0.5, 10**320, 0.0]], "labels[0][1]: 10000000000000000000... overflows float64"),
        ("generated", ("generate", "seed"), 10**320, "generate.seed: 1000"),
    ],
)
def test_error_names_position(name, at, value, said, tmp_path):
    errors = ends(yaml(changed(FILES[name], ("cases", "y", *at), value)), tmp_path / "x.yaml")
    assert said in " ".join(map(str, errors))
