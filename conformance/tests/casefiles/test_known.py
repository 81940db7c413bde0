"""The ledger: which rows it knows, and what it says about entries that are wrong."""

import dataclasses
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest

from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.adapters.libraries import pinned_installations
from conformance.adapters.registry import within
from conformance.casefiles import known_issues
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.casefiles.loading import shipped_cases
from conformance.judging.case_set import load_case_set
from conformance.judging.compare import symptom_of_number
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.selection import ItemFilter
from conformance.judging.traits import is_ordinary, traits
from conformance.model.case import Case
from conformance.model.errors import CaseErrors
from conformance.model.outcome import Returned
from conformance.model.row_key import RowKey
from conformance.reference.conversion import convert
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case

HEAD = "# yaml-language-server: $schema=../../conformance/known.schema.json\n"
ENTRY = "known:\n  - case: categorical/x/y\n    function: lib.Loss\n    reason: it is off\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes one file of the ledger and reads it; the paths in messages start with `cases/`."""
    monkeypatch.chdir(tmp_path)

    def written(text: str, name: str = "known/lib.yaml"):
        file = tmp_path / "cases" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return known_issues.read(Path("cases"), strict=True)

    return written


def said(read) -> str:
    assert read[0] == []
    return "\n".join(map(str, read[1]))


ROW = RowKey("categorical/x/y", "", "lib.Loss", "float32", "mean", version="1.5.0", backend="torch")


def test_ledger_entry_is_read(write):
    entries, errors = write(
        HEAD + ENTRY + "    versions: '<2'\n    dtypes: [float32]\n    see: https://example.org/1\n"
        "    reproducer: |\n      print(1)\n    shows: '1'\n"
    )
    assert not errors
    assert entries == [
        KnownIssue(
            case="categorical/x/y",
            function="lib.Loss",
            versions="<2",
            dtypes=("float32",),
            reason="it is off",
            see="https://example.org/1",
            reproducer="print(1)\n",
            shows="1",
            path="cases/known/lib.yaml",
            line=3,
        )
    ]


def test_missing_ledger_is_empty(tmp_path):
    assert known_issues.load(tmp_path).entries == ()


@pytest.mark.parametrize(
    ("entry", "knows"),
    [
        (KnownIssue("categorical/x/y", "lib.Loss"), True),
        (KnownIssue("categorical/*", "lib.Loss"), True),
        (KnownIssue("*/y", "lib.Loss"), True),
        (KnownIssue("categorical/x", "lib.Loss"), False),
        (KnownIssue("binary/*", "lib.Loss"), False),
        (KnownIssue("*", "lib.Other"), False),
        (KnownIssue("*", "lib.Loss", versions="<1.5"), False),
        (KnownIssue("*", "lib.Loss", versions=">=1.5,<1.6"), True),
        (KnownIssue("*", "lib.Loss", dtypes=("float16",)), False),
        (KnownIssue("*", "lib.Loss", dtypes=("float16", "float32")), True),
        (KnownIssue("*", "lib.Loss", reductions=("sum",)), False),
        (KnownIssue("*", "lib.Loss", variants=("jax",)), False),
        (KnownIssue("*", "lib.Loss", variants=("jax", "torch")), True),
        (KnownIssue("*", "lib.Loss", quantities=("gradient",)), False),
    ],
)
def test_ledger_finds_entry_of_row(entry, knows):
    assert Ledger([entry]).find(ROW) == (entry if knows else None)


@pytest.mark.parametrize(
    ("versions", "version", "has"),
    [
        ("<=2.13", "2.13+cpu", True),
        ("==2.13.0", "2.13.0+cpu", True),
        (">=2.0", "2.1.0rc1", True),
        ("", "unknown", True),
        ("<2", "unknown", False),
    ],
)
def test_ledger_compares_versions_by_pep_440(versions, version, has):
    assert within(version, versions) is has


def test_ledger_prefers_first_match():
    first, second = KnownIssue("*/y", "lib.Loss"), KnownIssue("*", "lib.Loss")
    assert Ledger([first, second]).find(ROW) is first


def test_ledger_prefers_entry_with_most_traits():
    general, special = (KnownIssue("a", "lib.Loss", when=when, symptoms=("inf",)) for when in (("x",), ("x", "y")))
    other = KnownIssue("b", "lib.Loss", when=("x",), symptoms=("inf",))
    ledger = Ledger([general, other, special])
    assert ledger.find_by_traits(lambda: frozenset({"x", "y"}), ROW, {"inf"}) is special
    assert ledger.find_by_traits(lambda: frozenset({"x"}), ROW, {"inf"}) is general
    assert ledger.find_by_traits(lambda: frozenset({"x", "y"}), ROW, {"nan"}) is None


def test_ledger_entry_applies_to_twins_that_exist():
    entry = KnownIssue(case="a/x", function="lib.Loss", twins=("lib.loss", "lib.metrics.*"), when=("logits",))
    ledger = Ledger([entry])
    names = {"lib.Loss": entry, "lib.loss": entry, "lib.metrics.Loss": entry, "lib.losses": None, "lib.metrics": None}
    for name, found in names.items():
        key = RowKey("mine/y", "", name, "float32", "mean", version="1.5.0")
        assert ledger.find_by_traits(lambda: frozenset({"logits", "binary"}), key) is found
    assert ledger.unmatched({"a/x"}, {"lib.Loss", "lib.loss"}) == [entry]
    assert ledger.unmatched({"a/x"}, {"lib.Loss", "lib.loss", "lib.metrics.Loss"}) == []


def test_ledger_lists_unmatched_entries():
    good, no_case, no_function = (
        KnownIssue("a/*", "lib.Loss"),
        KnownIssue("b/*", "lib.Loss"),
        KnownIssue("a/*", "lib.Gone"),
    )
    ledger = Ledger([good, no_case, no_function])
    assert ledger.unmatched({"a/x"}, {"lib.Loss"}) == [no_case, no_function]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + ENTRY + "    version: '<2'\n", ':6:5: $.known[0].version: unknown key "version"; did you mean'),
        (HEAD + ENTRY + "    versions: 2.x\n", '"2.x" is not a PEP 440 specifier; write "<2.1"'),
        (HEAD + ENTRY + "    status: fails\n", '"fails" is not one of disagrees, crashed, timed_out'),
        (HEAD + ENTRY + "    see: somewhere\n", '"somewhere" (a string) is not written as it should be'),
        (HEAD + ENTRY.replace("    reason: it is off\n", ""), ":3:5: $.known[0]: reason is missing"),
        (HEAD + ENTRY.replace("lib.Loss", "other.Loss"), "is not a function of lib, whose file this is"),
        (HEAD + ENTRY + "    twins: [other.loss]\n", "other.loss is not a function of lib, whose file this is"),
        (HEAD + ENTRY + ENTRY.removeprefix("known:\n"), ":6:5: $.known[1]: the same as the entry on line 3"),
        (ENTRY, "does not name the schema"),
        (HEAD + "known: 1\n", "not a list"),
        (HEAD, "the file is empty"),
    ],
)
def test_read_reports_error(write, text, message):
    assert message in said(write(text))


def test_read_reports_all_errors_of_a_file(write):
    entry = ENTRY.removeprefix("known:\n")
    unknown = entry.replace("lib.", "other.") + "    version: '2'\n    versions: 2.x\n"
    _, errors = write(ENTRY + unknown + entry + entry.replace("reason", "because"))
    assert [(error.line, error.where) for error in errors] == [
        (1, ""),
        (6, "$.known[1].function"),
        (8, "$.known[1].version"),
        (9, "$.known[1].versions"),
        (10, "$.known[2]"),
        (13, "$.known[3]"),
        (15, "$.known[3].because"),
    ]


def test_ledger_without_schema_line_is_read_unless_strict(write):
    write(ENTRY)
    entries, errors = known_issues.read(Path("cases"))
    assert [entry.function for entry in entries] == ["lib.Loss"]
    assert errors == []


def test_ledger_in_subfolder_is_rejected(write):
    assert "move it to cases/known" in said(write(HEAD + ENTRY, "known/more/lib.yaml"))


def test_ledger_load_raises_all_errors(write):
    write("", "known/a.yaml")
    write("", "known/b.yaml")
    with pytest.raises(CaseErrors) as caught:
        known_issues.load(Path("cases"))
    assert {error.path for error in caught.value.errors} == {"cases/known/a.yaml", "cases/known/b.yaml"}


# Traits that no small drawn case has

BINARY = {"loss": "binary", "target": "binary"}


def large(dtype: str, stated: Case) -> frozenset[str]:
    problem = stated.problem(dtype, "none")
    return traits(problem, problem, problem.target_kind)


@pytest.mark.parametrize(
    ("dtype", "stated", "trait", "has"),
    [
        ("float16", case(np.zeros((1, 2100)), [2049]), "inexact_label", True),
        ("float16", case(np.zeros((1, 2100)), [2048]), "inexact_label", False),
        ("bfloat16", case(np.zeros((1, 300)), [257]), "inexact_label", True),
        ("float32", case(np.zeros((1, 2100)), [2049]), "inexact_label", False),
        ("bfloat16", case(np.zeros((257, 2)), [0] * 257), "many_samples", True),
        ("bfloat16", case(np.zeros((256, 2)), [0] * 256), "many_samples", False),
        ("float16", case(np.zeros((257, 2)), [0] * 257), "many_samples", False),
        ("bfloat16", case(np.zeros((1, 257)), [0]), "many_classes", True),
        ("bfloat16", case(np.zeros((1, 256)), [0]), "many_classes", False),
        ("float16", case(np.zeros((65505, 2)), [0] * 65505), "samples_beyond_range", True),
        ("float16", case(np.zeros((65504, 2)), [0] * 65504), "samples_beyond_range", False),
        ("float32", case([[0.5, 0.5]], [-100]), "label_minus_hundred", True),
        ("float32", case([[0.5, 0.5]], [-100], options={"ignore_index": -100}), "label_minus_hundred", False),
        ("float32", case([17.0], [1], **BINARY), "saturated_logit", True),
        ("float32", case([15.0], [1], **BINARY), "saturated_logit", False),
        ("float16", case([8.0], [1], **BINARY), "saturated_logit", True),
        ("float32", case([1e-5], [1], input_kind="probabilities", **BINARY), "near_certain_prediction", True),
        ("float32", case([1e-2], [1], input_kind="probabilities", **BINARY), "near_certain_prediction", False),
        ("float32", case([[0.5], [0.1]], [1, 0], **BINARY), "column_beside_flat", True),
        ("float32", case([0.5, 0.1], [1, 0], **BINARY), "column_beside_flat", False),
    ],
)  # fmt: skip
def test_trait_begins_at_its_threshold(dtype, stated, trait, has):
    assert (trait in large(dtype, stated)) is has


PROBABILITIES = {"input_kind": "probabilities"}
SOFT = {"target": "distribution"}


@pytest.mark.parametrize(
    ("dtype", "stated", "ordinary"),
    [
        ("float32", case([[0.5, 100.0]], [0]), True),
        ("float32", case([[0.5, np.inf]], [0]), False),
        ("float32", case([[0.5, np.nan]], [0]), False),
        ("float32", case([[0.5, 1.5]], [2]), False),
        ("float32", case([[0.5, 1.5]], [-100]), False),
        ("float32", case([[0.5, 1.5], [0.0, 1.0]], [-100, 1], options={"ignore_index": -100}), True),
        ("float32", case([[0.5, 1.5]], [-100], options={"ignore_index": -100}), False),
        ("float32", case([[0.25, 0.75]], [0], **PROBABILITIES), True),
        ("float32", case([[0.25, 0.5]], [0], **PROBABILITIES), False),
        ("float64", case([[2e-7, 1 - 2e-7]], [0], **PROBABILITIES), True),
        ("float64", case([[5e-8, 1 - 5e-8]], [0], **PROBABILITIES), False),
        ("float16", case([[0.0005, 0.9995]], [0], **PROBABILITIES), False),
        ("float64", case([[0.0, 1.0]], [1], **PROBABILITIES), False),
        ("float64", case([0.5, 1.0], [0, 1], **BINARY, **PROBABILITIES), False),
        ("float32", case([0.5, 0.9], [0, 1], **BINARY, **PROBABILITIES), True),
        ("float32", case([0.5, -90.0], [0, 1], **BINARY), True),
        ("float32", case([0.5, 0.9], [0.0, 1.5], **BINARY), False),
        ("float32", case([[np.log(0.25), np.log(0.75)]], [0], input_kind="log_probabilities"), True),
        ("float32", case([[-1.0, -1.0]], [0], input_kind="log_probabilities"), False),
        ("float32", case([[0.5, 1.5]], [[0.25, 0.75]], **SOFT), True),
        ("float32", case([[0.5, 1.5]], [[0.25, 0.25]], **SOFT), False),
        ("float32", case([[0.5, 1.5]], [[0.0, 1.0]], **SOFT), True),
        ("float32", case([[0.5, 1.5]], [0], options={"class_weights": np.array([0.5, 2.0])}), True),
        ("float32", case([[0.5, 1.5]], [0], options={"class_weights": np.array([0.0, 2.0])}), False),
        ("float32", case([[0.5, 1.5]], [0], options={"sample_weights": np.array([-1.0])}), False),
        ("float32", case([[3e38, -3e38]], [0]), False),
        ("float32", case(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)), False),
    ],
)  # fmt: skip
def test_ordinary_inputs_have_no_edge(dtype, stated, ordinary):
    problem = stated.problem(dtype, "mean")
    assert is_ordinary(problem, problem, problem.target_kind) is ordinary


def test_ordinary_logits_are_an_edge_where_their_softmax_is_clipped():
    for logits, ordinary in (([3.0, 0.0], True), ([30.0, 0.0], False)):
        problem = case([logits], [0]).problem("float32", "mean")
        handed, _ = convert(problem, "probabilities")
        assert is_ordinary(problem, handed, "index") is ordinary


# Cases of a user's, which the shipped ledger knows by traits

USERS = """\
# yaml-language-server: $schema=https://example.org/case.schema.json
about: What a user wrote.
source: here
loss: {loss}
given: logits
target: {target}
dtypes: [float32]
cases:
  mine:
    why: It was seen in a training.
    predictions: {predictions}
    labels: {labels}
"""
MASKED = {
    "loss": "categorical", "target": "distribution", "predictions": "[[0.5, 2.0, -.inf]]", "labels": "[[0.0, 1.0, 0.0]]"
}  # fmt: skip
INFINITE = {"loss": "binary", "target": "binary", "predictions": "[.inf]", "labels": "[1.0]"}


def assessed(tmp_path: Path, function: str, of: dict[str, str], performer=perform):
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "x.yaml").write_text(USERS.format(**of))
    case_set = load_case_set(folder)
    here = [found for found in registry.installed()[0] if found.framework.name == function.partition(".")[0]]
    selection = ItemFilter(lambda _, name: name.startswith(f"{function}-") and "gradient" not in name)
    items = plan(case_set.cases, here, selection)
    if not items:
        pytest.skip(f"{function} is not installed")
    return Judge(Oracle(), case_set.ledger, performer=performer).assess(items[0])


@pytest.mark.parametrize(
    ("function", "of", "see"),
    [
        ("torch.BCEWithLogitsLoss", INFINITE, "pytorch/issues/49844"),
        ("keras.BinaryCrossentropy", INFINITE, "https://"),
        ("torch.CrossEntropyLoss", MASKED, "optax/issues/896"),
        ("keras.CategoricalCrossentropy", MASKED, "optax/issues/896"),
    ],
)
def test_shipped_ledger_explains_user_cases(tmp_path, function, of, see):
    assessment = assessed(tmp_path, function, of)
    assert assessment.expected == "known"
    assert see in assessment.row.cells["known"]


@pytest.mark.parametrize("value", [5.0, float("inf"), -1.0])
def test_ledger_does_not_explain_other_symptoms(tmp_path, value):
    def performer(framework, call, what):
        return Returned(np.array(value), "float32")

    assert assessed(tmp_path, "torch.BCEWithLogitsLoss", INFINITE, performer).expected == "unexpected"


def test_ledger_does_not_explain_near_misses(tmp_path):
    def nan(framework, call, what):
        return Returned(np.array(np.nan), "float32")

    finite = {**INFINITE, "predictions": "[3.0]"}
    assert assessed(tmp_path, "torch.BCEWithLogitsLoss", finite).expected == "ok"
    assert assessed(tmp_path, "torch.BCEWithLogitsLoss", finite, nan).expected == "unexpected"
    index = {**MASKED, "target": "index", "labels": "[1]"}
    assert assessed(tmp_path, "torch.CrossEntropyLoss", index).expected == "ok"
    assert assessed(tmp_path, "torch.CrossEntropyLoss", index, nan).expected == "unexpected"


def row_of(classes: int, label: int, logit: float = 5.0):
    predictions = np.zeros((1, classes))
    predictions[0, label] = logit
    return predictions


SPARSE = "keras.SparseCategoricalCrossentropy"
REDUCED = [(SPARSE, "sum"), (SPARSE, "mean"), (f"{SPARSE}:mean_with_sample_weight", "mean")]


def shown(stated: Case, function: str, dtype: str, reduction: str, quantity: str = "loss", performer=perform):
    """What a run says of one row of a case that no entry names."""
    here = [found for found in registry.installed()[0] if found.framework.name == function.partition(".")[0]]
    if not here:
        pytest.skip(f"{function} is not installed")
    stated = dataclasses.replace(stated, dtypes=(dtype,), reductions=(reduction,))
    items = plan([stated], here, ItemFilter(lambda _, name: name.startswith(f"{function}-")))
    (item,) = (item for item in items if item.quantity == quantity)
    ledger = known_issues.load(shipped_cases())
    return Judge(Oracle(), ledger, performer=performer).assess(item)


@pytest.mark.parametrize("quantity", ["loss", "gradient"])
@pytest.mark.parametrize(("function", "reduction"), [(SPARSE, "none"), *REDUCED])
@pytest.mark.parametrize(("dtype", "classes", "label"), [("bfloat16", 300, 257), ("float16", 2052, 2049)])
def test_shipped_ledger_explains_inexact_label_in_each_reduction(function, dtype, classes, label, reduction, quantity):
    stated = case(row_of(classes, label), [label])
    assessment = shown(stated, function, dtype, reduction, quantity)
    assert assessment.expected == "known"
    assert "keras/issues/15012" in assessment.row.cells["known"]


def probabilities(label: int, classes: int = 300):
    return np.where(np.arange(classes) == label, 0.5, 0.5 / (classes - 1))[None]


@pytest.mark.parametrize(
    "stated",
    [
        case(probabilities(257), [257], input_kind="probabilities"),
        case(np.vstack([row_of(300, 257), row_of(300, 3)]), [257, 3], options={"sample_weights": [2.0, 1.0]}),
        case(np.vstack([row_of(300, 257), row_of(300, 3, 1.0)]), [257, 3], options={"ignore_index": 256}),
        case(np.vstack([row_of(300, 257), row_of(300, 3), row_of(300, 299)]), [257, 3, 299]),
    ],
    ids=["probabilities", "weighted", "neighbour_ignored", "beyond_the_last"],
)
@pytest.mark.parametrize(("function", "reduction"), REDUCED)
def test_shipped_ledger_explains_inexact_label_with_options_and_out_of_range(function, stated, reduction):
    assert shown(stated, function, "bfloat16", reduction).expected == "known"


def test_shipped_ledger_does_not_explain_exact_label():
    def off(framework, call, what):
        return Returned(np.array(2.5), "bfloat16")

    stated = case(row_of(300, 256), [256])
    assert shown(stated, SPARSE, "bfloat16", "mean", performer=off).expected == "unexpected"


SWAPPED = ([[0.0, 1.0], [1.0, 0.0]], [0, 1])
SCORED = ([1.0, -1.0, 2.0], [1, 1, 0])
SMOOTHED = {"options": {"label_smoothing": 0.25}}


@pytest.mark.parametrize(
    ("function", "stated", "reason"),
    [
        ("torch.CrossEntropyLoss", case(*SWAPPED, options={"class_weights": [5e4, 5e4]}), "divisor"),
        ("torch.NLLLoss", case(*SWAPPED, options={"class_weights": [5e4, 5e4]}), "divisor"),
        ("sklearn.log_loss", case(*SCORED, **BINARY, options={"sample_weights": [6e4, 6e4, 1.0]}), "divisor"),
        (
            "keras.BinaryCrossentropy:mean_with_sample_weight",
            case(*SCORED, **BINARY, options={"sample_weights": [6e4, 6e4, 1.0]}),
            "divisor",
        ),
        (SPARSE, case(np.tile([[0.5, 0.0]], (66000, 1)), [0] * 66000), "number of losses"),
        (
            "torch.CrossEntropyLoss",
            case([[0.0, -25000.0, -25000.0, -25000.0, -1.0]], [0], **SMOOTHED),
            "With label smoothing",
        ),
        (
            "torch.CrossEntropyLoss",
            case(np.zeros((40000, 10)), [0] * 40000),
            "The mean keeps its sum in float16",
        ),
    ],
)
def test_shipped_ledger_explains_float16_overflow_with_matching_reason(function, stated, reason):
    assessment = shown(stated, function, "float16", "mean")
    assert assessment.expected == "known"
    assert reason in assessment.row.cells["known"]


@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_shipped_ledger_explains_gradient_of_small_weight_on_tiny_probability(reduction):
    stated = case([1.2e-5], [1], input_kind="probabilities", **BINARY, options={"sample_weights": [0.125]})
    assert shown(stated, "torch.BCELoss", "float16", reduction, "gradient").expected == "known"


# What reproducers print and should print.

SHIPPED = {(entry.path, entry.line): entry for entry in known_issues.read(shipped_cases())[0]}
REPRODUCED = [entry for entry in SHIPPED.values() if entry.reproducer]
NUMBER = r"(?<![\w.])-?(?:\d[\d.]*(?:e[+-]?\d+)?|inf|nan)(?![\w.])"
NAMES = {"exp": mpmath.exp, "log": mpmath.log, "inf": mpmath.inf, "nan": mpmath.nan, "mpf": mpmath.mpf}
TWICE = ", for both"
"""After the number that is expected of each of two calls."""


def numbers(text: str) -> list[str]:
    return re.findall(NUMBER, text)


def expected_numbers(due: str, printed: int) -> list[float]:
    of_each = list(map(float, numbers(due.removesuffix(TWICE).rpartition(" = ")[2])))
    return of_each * printed if due.endswith(TWICE) else of_each


def same_digits(printed: str, want: float) -> bool:
    """Whether a number is printed as another one would be with as many digits."""
    digits = max(1, len(printed.partition("e")[0].replace(".", "").lstrip("-0")))
    return f"{float(printed):.{digits}g}" == f"{want:.{digits}g}"


@pytest.mark.parametrize("entry", [entry for entry in REPRODUCED if " = " in entry.expected], ids=str)
def test_expected_number_is_the_value_of_its_formula(entry):
    formula, _, text = entry.expected.removesuffix(TWICE).removeprefix("an exception, or ").rpartition(" = ")
    literal = re.sub(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", r"mpf('\g<0>')", formula)
    with mpmath.workdps(60):
        exact = eval(literal, NAMES)
        assert [float(value) for value in (exact if isinstance(exact, list) else [exact])] == pytest.approx(
            list(map(float, numbers(text))), rel=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("entry", REPRODUCED, ids=str)
def test_reproducer_shows_a_symptom_of_its_entry(entry):
    """What it prints is not what is expected, and where both are numbers, in a documented way."""
    assert entry.due, "say what is expected"
    assert entry.shows != entry.expected
    shown = numbers(entry.shows)
    expected = expected_numbers(entry.expected, len(shown))
    alike = [one for one in REPRODUCED if (one.path, one.reason) == (entry.path, entry.reason)]
    returned = {name for one in alike for name in one.symptoms if not name.startswith(("raised", "accepted"))}
    if not returned or len(shown) != len(expected):
        return
    wrong = [(float(got), want) for got, want in zip(shown, expected, strict=True) if not same_digits(got, want)]
    assert wrong or not shown
    assert {symptom_of_number(*pair) for pair in wrong} <= returned


def names_in_source(function) -> set[str]:
    """Names by which source calls a function: its own, or for an idiom those of what it calls."""
    own = re.split("[.:]", function.name)[1:]
    called = [name for name in own if re.search(rf"\b{name}\b", function.call)]
    return set(called or re.findall(r"\w+(?=\()", function.call))


@pytest.mark.parametrize("entry", REPRODUCED, ids=str)
def test_reproducer_calls_a_function_of_its_entry(entry):
    functions = [one for framework in registry.frameworks() for one in framework.functions]
    names = set().union(*(names_in_source(one) for one in functions if entry.matches_function(one.name)))
    if not names:  # a function without an adapter
        assert entry.case.startswith(known_issues.EXCLUDED_PREFIX)
        names = {entry.function.partition(".")[2]}
    assert names & set(re.findall(r"\w+", entry.reproducer)), names


def test_excluded_problems_of_ledger_are_declared_by_functions():
    entries = [one for one in known_issues.load(shipped_cases()).entries if one.case.startswith("excluded/")]
    assert entries
    functions = {one.name: one for one in registry.functions()}
    for entry in entries:
        traits_of_entry = frozenset(entry.case.split("/")[1:])
        function = functions.get(entry.function)
        assert function is None or traits_of_entry in function.excludes, entry


# Links.

REPOSITORIES = {
    framework.repository: next(iter(pinned_installations(framework))).version.partition("+")[0]
    for framework in registry.frameworks()
}
TAG = re.compile(r"(https://github\.com/[\w.-]+/[\w.-]+)/(?:blob|tree)/v?([\w.]+)/")


@pytest.mark.parametrize("entry", SHIPPED.values(), ids=str)
def test_source_link_of_ledger_names_the_pinned_release(entry):
    """Or one of the releases that an entry about earlier ones is about."""
    of_library = {one.name: one.repository for one in registry.frameworks()}[entry.function.partition(".")[0]]
    for repository, release in TAG.findall(entry.see):
        pinned_release = REPOSITORIES[repository]
        earlier = repository == of_library and not within(pinned_release, entry.versions)
        assert within(release, entry.versions) if earlier else release == pinned_release


VERSIONED_DOCUMENTATION = ("numpy.org/doc/", "docs.scipy.org/doc/", "scikit-learn.org/", "docs.pytorch.org/docs/")
"""What stands before the release in the URLs of documentation that is kept for each release."""


@pytest.mark.parametrize("start", VERSIONED_DOCUMENTATION)
def test_links_to_versioned_documentation_name_a_release(start):
    files = [*Path(registry.__file__).parent.glob("*.py"), *(shipped_cases() / "known").glob("*.yaml")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    releases = set(re.findall(rf"{re.escape(start)}([^/]+)/", text))
    assert releases
    assert all(re.fullmatch(r"(scipy-)?\d[\d.]*", release) for release in releases), releases


def test_source_links_of_adapters_name_the_pinned_release():
    for file in Path(registry.__file__).parent.glob("*.py"):
        links = TAG.findall(file.read_text(encoding="utf-8"))
        assert all(release == REPOSITORIES[repository] for repository, release in links), file
