"""Labels that are names of classes: what case files say, what functions are handed, what the answers are."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest

from conformance import api
from conformance.adapters import arrays, registry, sklearn
from conformance.adapters.contract import Framework, Function
from conformance.adapters.contract.calling import evaluate as evaluate_call
from conformance.adapters.contract.lowering import lower
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import load
from conformance.casefiles.writing import save
from conformance.execution.workers.wire import call_request, decode_arrays, decode_call, read_message
from conformance.explain.explainer import explain
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.selection import SelectionError
from conformance.model.case import Layout
from conformance.model.convention import Convention
from conformance.model.outcome import Returned
from conformance.reference.domain import examine
from conformance.reference.oracle import Exact, Invalid, Oracle, evaluate
from conformance.tests.casefiles.test_columns import newest
from conformance.tests.stated import case, read_case, shipped

ROWS = [[0.5, 0.3, 0.2], [0.125, 0.25, 0.625], [0.1, 0.7, 0.2]]
SORTED, INFERRED = Convention(class_columns="sorted"), Convention(class_columns="inferred")


def written(tmp_path, *lines, predictions="[[0.2, 0.8], [0.4, 0.6]]", **family):
    """The cases and errors of a file with these lines behind the predictions of its case."""
    return read_case(tmp_path, f"predictions: {predictions}", *lines, given="probabilities", **family)


def named(names, labels, predictions=ROWS, **stated):
    """A case of probabilities whose classes have names."""
    indices = [names.index(label) for label in labels]
    layout = Layout(class_names=tuple(names), **stated.pop("layout", {}))
    return case(predictions, indices, input_kind="probabilities", layout=layout, **stated)


def exact(problem, convention):
    return float(evaluate(problem, convention).hi)


# Case files


@pytest.mark.parametrize(
    ("labels", "classes", "indices"),
    [
        ("[spam, ham]", "[ham, spam]", [1, 0]),
        ("[spam, ham]", "[spam, ham]", [0, 1]),
        ("[yes, no]", "[no, yes]", [1, 0]),
        ("['1', '0']", "['0', '1']", [1, 0]),
        ("[-1, 7]", "[7, -1]", [1, 0]),
        ("[ä, 猫]", "[猫, ä]", [1, 0]),
        ("['a b', 'null']", "['null', 'a b']", [1, 0]),
    ],
)
def test_labels_are_indices_of_their_names(tmp_path, labels, classes, indices):
    (found,), errors = written(tmp_path, f"labels: {labels}", f"classes: {classes}")
    assert not errors
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == indices
    assert [found.layout.class_names[i] for i in found.labels] == found.layout.name_labels(found.labels).tolist()


def test_binary_labels_are_names_of_0_and_1(tmp_path):
    lines = ("labels: [no, yes, no]", "classes: [yes, no]")
    (found,), errors = written(tmp_path, *lines, predictions="[0.1, 0.2, 0.3]", loss="binary", target="binary")
    assert not errors
    assert found.labels.tolist() == [1, 0, 1]
    assert found.problem("float32", "mean").target_kind == "binary"


@pytest.mark.parametrize(
    ("lines", "position", "words"),
    [
        (["labels: [spam, ham]"], "8:14", "need `classes`"),
        (["labels: [-inf, 0]"], "8:14", "write -.inf"),
        (["labels: [spam, egg]", "classes: [ham, spam]"], "8:20", '"egg" (a string) is not one of the classes'),
        (
            ["labels: [Spam, ham]", "classes: [ham, spam]"],
            "8:14",
            'did you mean "spam", or say expect: {error: label_out',
        ),
        (["labels: [ham, ham]", "classes: [ham, ham]"], "9:20", '"ham" (a string) is class 0 already'),
        (["labels: [1, 0]", "classes: ['0', '1']"], "8:14", "names of two kinds: 1 (a number) beside"),
        (["labels: ['1', '0']", "classes: [0, 1]"], "8:14", "names of two kinds"),
        (["labels: [a, b]", "classes: [a, 1]"], "9:18", "put it in quotes"),
        (["labels: [true, false]", "classes: [no, yes]"], "8:14", "true (a boolean) is not an integer or a string"),
        (["labels: [no, yes]", "classes: [false, true]"], "9:15", "stands in quotes"),
        (["labels: [1.0, 2]", "classes: [1, 2]"], "8:14", "1.0 is not an integer; write 1"),
        (["labels: [1, 2]", "classes: [1, 2.0]"], "9:18", "2.0 is not an integer; write 2"),
        (["labels: [a, .nan]", "classes: [a, b]"], "8:17", ".nan (a number) is not"),
        (["labels: [a, null]", "classes: [a, b]"], "8:17", "nothing (null) is not"),
        (["labels: ['', a]", "classes: ['', a]"], "9:15", "nothing is written here"),
        (["labels: [a, b]", 'classes: [a, "b\\0"]'], "9:18", "characters that do not print"),
        (["labels: [a, b]", f"classes: [a, {'b' * 101}]"], "9:18", "1 to 100 characters"),
        (["labels: [1, 2]", f"classes: [1, {10**30}]"], "9:18", "does not fit into int64"),
        (["labels: [a, b]", "classes: [a, b, c]"], "9:14", "3 names where predictions have 2 classes"),
        (["labels: [a, b]", "classes: []"], "9:14", "at least 1"),
        (["labels: [a, b]", "classes: ab"], "9:14", "is not a list"),
        (["labels: [[a, b]]", "classes: [a, b]"], "8:13", "need [2]"),
        (["labels: [[a], b]", "classes: [a, b]"], "8:19", "ragged"),
        (["labels: [a, b]", "classes: [a, b]", "options: {ignore_index: 0}"], "10:29", "no index to ignore"),
        (["labels: [a, b]", "classes: [a, b]", "layout: {label_dtype: int8}"], "10:27", "labels that are numbers"),
    ],
)
def test_unknown_name_is_reported_with_its_position(tmp_path, lines, position, words):
    cases, (error,) = written(tmp_path, *lines)
    assert cases == [] or error.line
    assert f"{error.line}:{error.column}" == position
    assert words in str(error)


@pytest.mark.parametrize(
    ("loss", "predictions", "labels", "kind"),
    [
        ("categorical", "[[0.2, 0.8], [0.4, 0.6]]", "[egg, ham]", "label_out_of_range"),
        ("categorical", "[0.2, 0.8]", "egg", "label_out_of_range"),
        ("binary", "[0.2, 0.8]", "[egg, ham]", "invalid_target"),
    ],
)
def test_label_outside_classes_can_be_stated(tmp_path, loss, predictions, labels, kind):
    target = "index" if loss == "categorical" else "binary"
    lines = f"labels: {labels}", "classes: [ham, spam]"
    (stated,), errors = written(
        tmp_path, *lines, f"expect: {{error: {kind}}}", predictions=predictions, loss=loss, target=target
    )
    assert not errors
    assert stated.layout.other_names == ("egg",)
    assert stated.layout.name_labels(stated.labels).reshape(-1)[0] == "egg"
    problem = stated.problem("float64", "mean")
    assert kind in examine(problem)
    assert isinstance(evaluate(problem, SORTED), Invalid)
    passed = lower(newest(sklearn, "log_loss"), stated.problem("float64", "mean")) if stated.labels.ndim else None
    assert passed is None or passed.arrays["labels"].values.tolist() == ["egg", "ham"]
    (back,) = load(save([stated], tmp_path / "again"))
    assert (back.digest, back.layout) == (stated.digest, stated.layout)
    _, (error,) = written(tmp_path, *lines, predictions=predictions, loss=loss, target=target)
    assert f"or say expect: {{error: {kind}}}" in str(error)


def test_inferred_classes_are_the_sorted_names_that_occur():
    layout = Layout(class_names=("ham", "spam"), other_names=("egg",))
    stated = case([[0.25, 0.75], [0.5, 0.5]], [2, 0], input_kind="probabilities", layout=layout)
    assert exact(stated.problem("float64", "sum"), INFERRED) == pytest.approx(-np.log(0.25 * 0.5))
    later = dataclasses.replace(layout, other_names=("zebra",))
    other = dataclasses.replace(stated, layout=later)
    assert exact(other.problem("float64", "sum"), INFERRED) == pytest.approx(-np.log(0.75 * 0.5))
    assert stated.problem("float64", "sum").digest != other.problem("float64", "sum").digest


@pytest.mark.parametrize(("labels", "names"), [([2, 1], True), ([-1, 1], True), ([2, 2], False), ([0, 5, -1], False)])
def test_binary_integers_are_names_if_classes_are_inferred(labels, names):
    stated = case([0.25, 0.75, 0.5][: len(labels)], labels, loss="binary", target="binary", input_kind="probabilities")
    problem = stated.problem("float64", "sum")
    assert problem.target_kind == "binary"
    if names:
        crisp = dataclasses.replace(stated, labels=(np.array(labels) == max(labels)).astype(np.int64))
        due = exact(crisp.problem("float64", "sum"), Convention())
        assert exact(problem, INFERRED) == pytest.approx(due)
    else:
        assert isinstance(evaluate(problem, INFERRED), Invalid)
    assert isinstance(evaluate(problem, SORTED), Invalid)


def test_soft_labels_are_not_names_if_classes_are_inferred():
    stated = case([0.25, 0.75], [-0.5, 1.0], loss="binary", target="binary", input_kind="probabilities")
    problem = stated.problem("float64", "sum")
    assert problem.target_kind == "soft_binary"
    assert isinstance(evaluate(problem, INFERRED), Invalid)


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ("[2, 1]", "(labels of a binary loss are 0 and 1; classes: [1, 2] says that those are their names)"),
        ("[1, -1]", "classes: [-1, 1] says that those are their names"),
        ("[5, -1, 0]", "correct it (labels of a binary loss are 0 and 1)"),
        ("[1.5, 1.0]", "correct it, or say"),
    ],
)
def test_binary_labels_other_than_0_and_1_get_advice(tmp_path, labels, hint):
    predictions = "[0.2, 0.8, 0.5]" if labels.count(",") == 2 else "[0.2, 0.8]"
    _, (error,) = written(tmp_path, f"labels: {labels}", predictions=predictions, loss="binary", target="binary")
    assert hint in str(error)


def generated(tmp_path, recipe, *lines, loss="categorical", target="index"):
    """The cases and errors of a file with a case of a recipe, whose digest is what lint asks for."""
    family = {"given": "probabilities", "loss": loss, "target": target}
    _, errors = read_case(tmp_path, f"generate: {{{recipe}}}", *lines, **family)
    found = re.search(r"add digest: (\S+)", "\n".join(map(str, errors)))
    stated = f", digest: {found[1]}" if found else ""
    return read_case(tmp_path, f"generate: {{{recipe}{stated}}}", *lines, **family)


@pytest.mark.parametrize(
    ("recipe", "lines", "loss", "shape"),
    [
        ("seed: 5, shape: [], classes: 4", [], "categorical", (4,)),
        ("seed: 5, shape: [], classes: 3", ["classes: [cat, dog, ant]"], "categorical", (3,)),
        ("seed: 5, shape: [], classes: 4, distribution: wrong, class_weights: true, sample_weights: true", [],
         "categorical", (4,)),
        ("seed: 5, samples: 6, classes: 3", ["classes: [cat, dog, ant]"], "categorical", (6, 3)),
        ("seed: 5, shape: []", [], "binary", ()),
        ("seed: 5, shape: [], soft: true, sample_weights: true", [], "binary", ()),
        ("seed: 5, samples: 6", ["classes: [9, 10]"], "binary", (6,)),
    ],
)  # fmt: skip
def test_generated_arrays_may_be_unbatched_and_have_names(tmp_path, recipe, lines, loss, shape):
    target = "index" if loss == "categorical" else "binary"
    (stated,), errors = generated(tmp_path, recipe, *lines, loss=loss, target=target)
    assert not errors
    assert stated.predictions.shape == shape
    samples = shape[:-1] if loss == "categorical" else shape
    assert stated.labels.shape == samples
    if stated.options.sample_weights is not None:
        assert stated.options.sample_weights.shape == samples[:1]
    assert bool(stated.layout.class_names) == bool(lines)
    assert isinstance(evaluate(stated.problem("float64", "mean"), Convention()), Exact)
    (back,) = load(save([stated], tmp_path / "again"))
    assert back.digest == stated.digest


@pytest.mark.parametrize(
    ("recipe", "lines", "loss", "words"),
    [
        ("seed: 5, shape: [], classes: 4, distribution: equal_rows", [], "categorical", "one sample has no other rows"),
        ("seed: 5, classes: 4", [], "categorical", "shape: [] is one sample"),
        ("seed: 5, samples: 2, classes: 3", ["classes: [a, b]"], "categorical", "2 names where predictions have 3"),
        ("seed: 5, samples: 2, soft: true", ["classes: [a, b]"], "binary", "soft labels use no names"),
    ],
)
def test_invalid_recipe_of_names_is_reported(tmp_path, recipe, lines, loss, words):
    _, errors = generated(tmp_path, recipe, *lines, loss=loss, target="index" if loss == "categorical" else "binary")
    assert words in str(errors[0])


def test_classes_require_named_labels(tmp_path):
    lines = ("labels: [[1, 0], [0, 1]]", "classes: [a, b]")
    _, (error,) = written(tmp_path, *lines, target="one_hot")
    assert "one_hot labels use no names" in str(error)
    lines = ("labels: [a, b]", "classes: [a, b, c]")
    _, (error,) = written(tmp_path, *lines, predictions="[0.1, 0.2]", loss="binary", target="binary")
    assert "a binary loss has 2 classes" in str(error)


def test_shape_mismatch_of_names_can_be_stated(tmp_path):
    (found,), errors = written(tmp_path, "labels: [a]", "classes: [a, b]", "expect: {error: shape_mismatch}")
    assert not errors
    assert found.labels.shape == (1,)


def test_written_file_reads_back(tmp_path):
    names = ["no", "Null", "1e3", "a: b", 'q"', "-"]
    of_names = named(names, ["1e3", "no", "-"], np.full((3, 6), 0.125), id="x/names")
    of_numbers = named([5, -3, 7], [7, 5, -3], id="x/numbers")
    for index, stated in enumerate((of_names, of_numbers)):
        stated = dataclasses.replace(stated, about="a", source="b", why="w")
        file = save([stated], tmp_path / str(index))
        (back,) = load(file)
        assert back.layout.class_names == stated.layout.class_names
        assert back.digest == stated.digest


def test_digest_includes_names(tmp_path):
    plain = case(ROWS, [0, 1, 2], input_kind="probabilities")
    digests = {plain.digest}
    digests |= {named(list(names), ["a", "b", "c"]).digest for names in itertools.permutations("abc")}
    assert len(digests) == 7
    assert "class_names" not in plain.layout.content


# Answers


@pytest.mark.parametrize("names", list(itertools.permutations(["10", "9", "b"])))
@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
def test_sorted_columns_are_those_of_the_sorted_names(names, reduction):
    problem = named(list(names), ["9", "b", "10"]).problem("float64", reduction)
    columns = [sorted(names).index(label) for label in ("9", "b", "10")]
    losses = -np.log(np.array(ROWS)[range(3), columns])
    want = {"sum": losses.sum(), "mean": losses.mean(), "none": losses}[reduction]
    np.testing.assert_allclose(Oracle().answer(problem, SORTED).hi, want, rtol=1e-14)


def test_answer_cache_distinguishes_orders_of_names():
    oracle = Oracle()
    for names in itertools.permutations("abc"):
        problem = dataclasses.replace(named(list(names), ["a"] * 3), labels=np.array([0, 1, 2])).problem(
            "float64", "sum"
        )
        columns = [sorted(names).index(name) for name in names]
        want = -np.log(np.array(ROWS)[range(3), columns]).sum()
        assert float(oracle.answer(problem, SORTED).hi) == pytest.approx(want)
        assert float(oracle.answer(problem).hi) == pytest.approx(-np.log(np.diag(ROWS)).sum())


def test_binary_columns_are_sorted_as_well():
    problem = named(["up", "down"], ["up", "down", "up"], [0.25, 0.5, 0.125], loss="binary", target="binary")
    problem = problem.problem("float64", "sum")
    assert problem.labels.tolist() == [0, 1, 0]
    assert exact(problem, SORTED) == pytest.approx(-np.log([0.25, 0.5, 0.125]).sum())


def test_names_have_no_effect_without_sorting():
    problem = named(["b", "a", "c"], ["a", "b", "c"]).problem("float64", "mean")
    plain = dataclasses.replace(problem, layout=Layout())
    assert exact(problem, Convention()) == exact(plain, Convention())
    assert exact(plain, SORTED) == exact(plain, Convention())


@pytest.mark.parametrize(
    ("labels", "columns"), [([0, 1, 2], [0, 1, 2]), ([7, 0, -3], [2, 1, 0]), ([2, 2, 1], None), ([3, 3, 1], None)]
)
def test_inferred_classes_are_the_sorted_labels(labels, columns):
    problem = case(ROWS, labels, input_kind="probabilities").problem("float64", "sum")
    found = evaluate(problem, INFERRED)
    if columns is None:
        assert isinstance(found, Invalid)
    else:
        assert float(found.hi) == pytest.approx(-np.log(np.array(ROWS)[range(3), columns]).sum())


@pytest.mark.parametrize(
    ("stated", "missing"),
    [
        (case(ROWS, [0, 1, 2]), False),
        (case(ROWS, [0, 1, 1]), True),
        (case(ROWS, [0, 1, 5]), True),
        (case(ROWS, [0, 1, -100], options={"ignore_index": -100}), True),
        (case([0.5, 1.0], [0, 1], loss="binary", target="binary"), False),
        (case([0.5, 1.0], [1, 1], loss="binary", target="binary"), True),
        (case([0.5, 1.0], [0.5, 1], loss="binary", target="binary"), False),
        (case(ROWS, np.eye(3)[[0, 0, 1]], target="distribution"), True),
        (case(ROWS, np.eye(3), target="distribution"), False),
        (case(ROWS, np.full((3, 3), 0.5), target="distribution"), False),
    ],
)
def test_class_without_label_is_missing(stated, missing):
    assert ("missing_class" in examine(stated.problem("float64", "mean"))) is missing


# Calls


def framework(named_classes=True, call="np.float64(len({labels}) + 0 * {predictions}.sum())"):
    """A framework with one function of probabilities, whose labels may be names if it is said."""
    function = Function(
        "f",
        call,
        ranks={"categorical": range(2, 3)},
        input_kinds={"probabilities": ""},
        targets={"index": ""},
        arguments={"classes": "classes", "class_names": "names"} if "options" in call else {},
        reductions={"mean": ""},
        labels_column=True,
        named_classes=named_classes,
        result_dtype="float64",
    )
    return Framework("spy", ("numpy",), ("numpy",), (function,), arrays.numpy, imports="import numpy as np")


@pytest.mark.parametrize("named_classes", [True, False])
def test_names_are_passed_if_supported(named_classes):
    function = framework(named_classes, "f({labels}, {predictions}, {options})").functions[0]
    found = lower(function, named(["b", "a", "c"], ["a", "b", "c"]).problem("float32", "mean"))
    assert found.arrays["labels"].values.tolist() == (["a", "b", "c"] if named_classes else [1, 0, 2])
    assert ("names=['b', 'a', 'c']" in found.text) is named_classes
    assert ("classes=3" in found.text) is not named_classes


@pytest.mark.parametrize("order", ["c", "fortran", "strided", "readonly", "broadcast"])
@pytest.mark.parametrize("labels", ["flat", "column"])
def test_names_are_passed_as_layout_states(order, labels):
    problem = named(["b", "a", "c"], ["a", "b", "c"], [ROWS[0]] * 3, layout={"order": order, "labels": labels})
    tensor = lower(framework().functions[0], problem.problem("float32", "mean")).arrays["labels"]
    for made in (tensor.laid_out(), eval(tensor.source(), {"np": np})):
        assert made.reshape(-1).tolist() == ["a", "b", "c"]
        assert made.shape == ((3, 1) if labels == "column" else (3,))


@pytest.mark.parametrize("count", [3, 999])
@pytest.mark.parametrize("name", ["b", "bcd", "bcdef"])
def test_changed_names_are_reported(count, name):
    writes = framework(call="{labels}[-1:] = 'a'; np.float64(len({labels}) + 0 * {predictions}.sum())")
    for called, mutated in ((writes, ("labels",)), (framework(), ())):
        problem = named([name, "a"], [name] * count, [[0.5, 0.5]] * count).problem("float64", "mean")
        found = evaluate_call(called, called.functions[0], problem)
        assert isinstance(found, Returned)
        assert found.mutated == mutated


def test_names_are_sent_to_worker():
    problem = named(["ä", "b" * 9, "c"], ["b" * 9, "ä", "c"]).problem("float32", "mean")
    sent = lower(framework().functions[0], problem)
    stream = b"".join(bytes(part) for part in call_request(sent, "f").buffers)

    def receive(count):
        nonlocal stream
        part, stream = stream[:count], stream[count:]
        return part

    arrived = read_message(receive)
    received = decode_call(arrived.header, decode_arrays(arrived.header, arrived.body))
    assert received.text == sent.text
    assert received.arrays["labels"].values.tolist() == ["b" * 9, "ä", "c"]


# scikit-learn


@pytest.fixture(scope="module")
def rows():
    """What log_loss returns for the shipped cases with names, by case, dtype and reduction."""
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    cases = [found for found in shipped() if found.layout.class_names and not found.layout.other_names]
    assert len(cases) >= 15
    judge = Judge(Oracle(), Ledger())
    items = [item for item in plan(cases, here) if item.function.name == "sklearn.log_loss"]
    return [judge.assess(item) for item in items]


def test_log_loss_diverges_where_columns_are_not_sorted_by_name(rows):
    assert {row.item.case.layout.is_sorted for row in rows} == {True, False}
    for row in rows:
        expected = "" if row.item.case.layout.is_sorted else "class_columns=sorted"
        assert row.verdict.status == ("diverges" if expected else "agrees")
        assert expected in row.verdict.convention


@pytest.mark.filterwarnings("ignore:Labels passed")
def test_reproducer_passes_names(rows):
    for row in rows:
        *statements, last = row.call.split("; ")
        assert "labels=[" in last
        names = {}
        exec("; ".join(statements), names)
        assert (
            names["labels"].reshape(-1).tolist()
            == row.item.case.layout.name_labels(row.item.case.labels).reshape(-1).tolist()
        )
        assert eval(last, names) == row.verdict.outcome.value


def test_explanation_shows_the_columns_and_sorts_them():
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    stated = named(["cat", "dog", "ant"], ["cat", "ant", "dog"])
    found = explain(stated, "float64", "mean", here, Judge(Oracle(), Ledger()))
    assert ("labels", "['cat', 'ant', 'dog']") in found.facts
    assert ("classes", "['cat', 'dog', 'ant']") in found.facts
    (function,) = (one for one in found.functions if one.function == "sklearn.log_loss")
    (difference,) = function.differences
    assert [line.value for line in difference.steps][:3] == ["1, not 0", "0, not 2", "2, not 1"]
    assert any("['ant', 'cat', 'dog']" in remedy.advice for remedy in function.remedies)


@pytest.mark.parametrize(
    ("labels", "status"), [([0, 2, 1], "agrees"), ([0, 2, 2], "diverges"), (np.eye(3)[[0, 2, 2]], "diverges")]
)
def test_log_loss_without_labels_rejects_missing_class(labels, status):
    here = [installed for installed in registry.installed()[0] if installed.framework.name == "sklearn"]
    if not here:
        pytest.skip("scikit-learn is not installed")
    target = "index" if np.ndim(labels) == 1 else "distribution"
    stated = case(ROWS, labels, input_kind="probabilities", target=target)
    items = [item for item in plan([stated], here) if item.function.name == "sklearn.log_loss_without_labels"]
    assert items
    for item in items:
        found = Judge(Oracle(), Ledger()).assess(item)
        assert found.verdict.status == status
        assert found.verdict.convention == ("" if status == "agrees" else "rejects=missing_class")
        assert "labels=" not in found.call


@pytest.mark.parametrize(("loss", "target"), [("binary", "binary"), ("categorical", "index")])
def test_empty_batch_may_have_names_of_classes(tmp_path, loss, target):
    shape = "[0]" if loss == "binary" else "[0, 2]"
    found, errors = written(
        tmp_path, f"shape: {shape}", "labels: []", "classes: [ham, spam]", predictions="[]", loss=loss, target=target
    )
    assert not errors
    problem = found[0].problem("float64", "sum")
    assert problem.layout.name_labels(problem.labels).shape == (0,)


def test_relations_report_why_cases_with_names_are_excluded(tmp_path):
    assert not written(tmp_path, "labels: [spam, ham]", "classes: [ham, spam]")[1]
    with pytest.raises(SelectionError, match="nothing is selected: a case with classes is left out"):
        api.relations("", ["sklearn"], tmp_path / "x.yaml")
