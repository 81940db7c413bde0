"""Problems that people reported: as case files of theirs, put to PyTorch, with what is right."""

from __future__ import annotations

import math

import pytest

from conformance import api

pytest.importorskip("torch")

FILES = {
    "positive_weight": """
        loss: binary
        given: logits
        target: binary
        cases:
          of_another_length:
            predictions: [[0.5, -1.0]]
            labels: [[1.0, 0.0]]
            options: {positive_weight: [1.0, 2.0, 3.0]}
            expect: {error: shape_mismatch}
        """,
    "sample_weights": """
        loss: binary
        given: logits
        target: binary
        cases:
          of_another_length:
            predictions: [[0.5, -1.0]]
            labels: [[1.0, 0.0]]
            options: {sample_weights: [1.0, 2.0, 3.0]}
            expect: {error: shape_mismatch}
        """,
    "both_weights": """
        loss: categorical
        given: logits
        target: index
        cases:
          both:
            predictions: [[0.1, 0.9], [0.2, 0.4]]
            labels: [0, 1]
            options: {class_weights: [1.0, 2.0], sample_weights: [1.0, 3.0]}
        """,
    "sums_to_half": """
        loss: categorical
        given: probabilities
        target: index
        cases:
          half:
            predictions: [[0.2, 0.3]]
            labels: [0]
        """,
    "generated": """
        loss: categorical
        given: logits
        target: index
        cases:
          batch:
            generate:
              {seed: 8, shape: [20, 1025], classes: 30, distribution: uniform, scale: 0.5, digest: df8ac236624e396d}
            dtypes: [float16]
            layout: {class_axis: 1}
            reduction: mean
        """,
    "nobody_ignores": """
        loss: categorical
        given: logits
        target: index
        cases:
          all:
            predictions: [[0.1, 0.2]]
            labels: [-100]
            expect: {error: label_out_of_range}
        """,
    "infinite_logit": """
        loss: binary
        given: logits
        target: binary
        cases:
          right:
            predictions: [.inf]
            labels: [1.0]
        """,
    "soft_labels": """
        loss: categorical
        given: logits
        target: distribution
        cases:
          nine_tenths:
            predictions: [[0.0, 0.0]]
            labels: [[0.5, 0.4]]
        """,
    "printed": """
        loss: categorical
        given: logits
        target: index
        cases:
          log_two:
            predictions: [[0.0, 0.0]]
            labels: [0]
            dtypes: [float32]
            published: [{value: "0.6931471824645996"}]
          divided_by_samples:
            predictions: [[1.0, 2.0, 0.5], [0.2, 0.1, 0.4]]
            labels: [1, 2]
            options: {class_weights: [1.0, 2.0, 3.0]}
            published: [{value: "1.87412"}]
        """,
    "printed_binary": """
        loss: binary
        given: logits
        target: binary
        cases:
          three:
            predictions: [10.0, 10.0, -10.0]
            labels: [0.0, 0.0, 1.0]
            dtypes: [float32]
            published: [{value: "10.000045776367188"}]
        """,
    "square": """
        loss: categorical
        given: logits
        target: index
        cases:
          as_read:
            predictions: [[[1.0, 2.0], [3.0, 5.0]]]
            labels: [[0, 1]]
            layout: {class_axis: 1}
          as_pasted:
            predictions: [[[1.0, 2.0], [3.0, 5.0]]]
            labels: [[0, 1]]
            layout: {class_axis: 1, written_class_axis: 1}
        """,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of all of them, which writes a report."""
    folder = tmp_path_factory.mktemp("reported")
    for name, text in FILES.items():
        (folder / "cases" / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (folder / "cases" / f"{name}.yaml").write_text(text)
    request = api.RunRequest(report=folder / "report", cases=folder / "cases", frameworks=("torch",), in_process=True)
    return api.run(request)


def rows_of(run, case, **named):
    """The rows of losses of a case in its first dtype."""
    rows = run.results[(run.results["case"] == case) & (run.results["quantity"] == "loss")]
    rows = rows[rows["dtype"] == named.pop("dtype", "float32")]
    for column, value in named.items():
        rows = rows[rows[column] == value]
    assert len(rows)
    return rows.to_dict("records")


def test_reported_problems_are_expected_and_do_not_end_run(run):
    assert run.complete
    assert run.failure is None
    assert set(run.results["case"]) == {case.id for case in run.cases}
    assert {case.id.partition("/")[0] for case in run.cases} == {*FILES}
    assert not (run.results["expected"] == "unexpected").any()


@pytest.mark.parametrize(
    ("case", "dtype", "exact", "rel"),
    [
        ("both_weights/both", "float32", 0.6799905509584739, 1e-7),
        ("sums_to_half/half", "float32", -math.log(0.2), 1e-7),
        ("generated/batch", "float16", 3.441290254508026, 1e-7),
        ("infinite_logit/right", "float32", 0.0, 1e-7),
        ("soft_labels/nine_tenths", "float32", 0.9 * math.log(2), 1e-7),
        ("printed/log_two", "float32", math.log(2), 1e-7),
        ("printed/divided_by_samples", "float32", 0.74965, 1e-5),
        ("printed_binary/three", "float32", 10.000045398899217, 1e-7),
        ("square/as_read", "float32", 0.7201, 1e-4),
        ("square/as_pasted", "float32", 1.0878, 1e-4),
    ],
)
def test_exact_answer_equals_stated_answer(run, case, dtype, exact, rel):
    for row in rows_of(run, case, dtype=dtype):
        assert float(row["want"]) == pytest.approx(exact, rel=rel)


@pytest.mark.parametrize("case", ["positive_weight/of_another_length", "sample_weights/of_another_length"])
def test_mismatched_weights_require_exception(run, case):
    assert {(row["status"], bool(row["exception"])) for row in rows_of(run, case)} == {("agrees", True)}


def test_class_and_sample_weights_at_once_are_passed_as_their_product(run):
    for row in rows_of(run, "both_weights/both"):
        assert row["status"] == "agrees"
        assert "weights" in row["bridge"]


def test_divergence_is_attributed_to_its_cause(run):
    [row] = rows_of(run, "sums_to_half/half", function="torch.CrossEntropyLoss")
    assert row["status"] == "diverges"
    assert float(row["got"]) == pytest.approx(0.9162907)
    assert "renormalises a row that sums to 0.5" in row["explanation"]
    assert "rounded" not in row["explanation"]
    [row] = rows_of(run, "nobody_ignores/all", function="torch.CrossEntropyLoss")
    assert row["convention"] == "default_ignore_index=-100"


def test_known_bug_is_known_with_its_link(run):
    [row] = rows_of(run, "infinite_logit/right", function="torch.BCEWithLogitsLoss")
    assert (row["status"], row["expected"]) == ("disagrees", "known")
    assert "https://" in row["known"]


def test_reproducer_of_large_case_returns_result_of_row(run):
    [row] = rows_of(run, "generated/batch", dtype="float16", function="torch.CrossEntropyLoss")
    names = {}
    *statements, call = row["call"].replace("; ", "\n").splitlines()
    exec("\n".join(statements), names)
    assert str(float(eval(call, names))) == row["got"]


def test_printed_numbers_hold_or_are_explained(run):
    holds = {(number["case"], number["holds"]) for number in run.record["published"]}
    assert holds == {
        ("printed/log_two", True),
        ("printed_binary/three", True),
        ("printed/divided_by_samples", False),
    }
    [wrong] = [number for number in run.record["published"] if not number["holds"]]
    assert any("the number of samples, 2" in line for line in wrong["explanations"])
