"""A recipe makes one function return what another does, and says what it cannot make equal."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from itertools import islice

import numpy as np
import pytest
from typer.testing import CliRunner

from conformance import api
from conformance.adapters import registry
from conformance.api.recipes import prove_recipe, setting_of
from conformance.casefiles.known_issues import Ledger
from conformance.cli import app
from conformance.docs.recipes import Entry, entries
from conformance.execution.targets import open_judge
from conformance.explain import recipes
from conformance.explain.proof import cases_of
from conformance.explain.recipes import InstalledFunction, NoRecipeError, derive_recipes
from conformance.judging.case_set import load_case_set
from conformance.judging.selection import SelectionError
from conformance.model.case import LOSSES
from conformance.tests.stated import shipped

AVAILABLE = registry.installed()[0]
HERE = {one.framework.name for one in AVAILABLE}
SPARSE, SOFT, BINARY = (f"keras.{name}Crossentropy" for name in ("SparseCategorical", "Categorical", "Binary"))
TORCH, NLL, LOGITS, BCE = (f"torch.{name}Loss" for name in ("CrossEntropy", "NLL", "BCEWithLogits", "BCE"))
LOG_LOSS = "sklearn.log_loss"


@pytest.fixture(scope="module", autouse=True)
def suite_read_once():
    """The shipped cases and ledger, whose reading takes half of a recipe, are read once."""
    shipped_suite = functools.cache(lambda: load_case_set(None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("conformance.api.recipes.load_case_set", lambda of: load_case_set(of) if of else shipped_suite())
        yield


def installed(*names):
    missing = {name.partition(".")[0] for name in names} - HERE
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))} is not installed")


def recipe_of(first, second, *options, **named):
    installed(first, second)
    return api.recipe(first, second, options=options, **named)


def arrays(setting):
    """Data that is in no case, as numpy has it."""
    random = np.random.default_rng(3)
    given = random.normal(size=(7, 4 if setting.loss == "categorical" else 2)).astype(np.float32)
    labels = random.integers(0, 4, 7)
    if setting.loss == "binary":
        labels = random.integers(0, 2, (7, 2)).astype(np.float32)
    if setting.input_kind == "probabilities":
        odds = np.exp(given)
        given = odds / odds.sum(axis=-1, keepdims=True) if setting.loss == "categorical" else odds / (1 + odds)
    if setting.target == "distribution":
        labels = (random.dirichlet(np.ones(4), 7) * 0.9).astype(np.float32)
    if setting.target == "one_hot":
        labels = np.eye(4, dtype=np.float32)[labels]
    if "ignore_index" in setting.options:
        labels[2] = -100
    weights = random.uniform(0.5, 2.0, 7).astype(np.float32)
    each = {"class_weights": weights[:4], "sample_weights": weights, "positive_weight": np.float32(1.7)}
    if "unbatched" in setting.layout:
        given, labels, each["sample_weights"] = given[0], labels[0], weights[0]
    if "class_axis" in setting.layout:
        given, labels = given.T, labels.T
    if "leading_weights" in setting.layout:
        given, labels = np.stack([given, given[::-1]], axis=1), np.stack([labels, labels[::-1]], axis=1)
    if setting.label_dtype:
        labels = np.asarray(labels).astype(setting.label_dtype)
    if setting.weight_dtype:
        each = {name: value.astype(setting.weight_dtype) for name, value in each.items()}
    chosen = {name: each[name] for name in each if name in setting.options}
    return {"predictions": given, "labels": np.asarray(labels), **chosen}


def execute(side, setting):
    """The result of the printed code with such arrays."""
    values = arrays(setting)
    names = ["spam", "egg", "ham", "bacon"]
    literals = {"ignore_index": -100, "class_axis": 0, "class_names": names}
    if "class_names" in setting.layout:
        values["labels"] = np.array(names)[values["labels"]]
        literals |= {"labels": values["labels"].tolist()}
    code = side.code
    for name, value in literals.items():
        code = re.sub(rf"^( *{name} =) (\[['\"].*|-?\d+)$", rf"\1 {value!r}", code, flags=re.MULTILINE)
    *statements, result = code.splitlines()
    if side.function.startswith("torch."):
        torch = pytest.importorskip("torch")
        values = {name: value if value.dtype.kind == "U" else torch.as_tensor(value) for name, value in values.items()}
        if "leading_weights" in setting.layout and setting.loss == "categorical":
            values["predictions"] = values["predictions"].movedim(-1, 1)
    exec("\n".join(statements), values)
    found = eval(result, values)
    return np.asarray(found.detach() if hasattr(found, "detach") else found, dtype=np.float64)


@pytest.mark.parametrize(
    ("first", "second", "options", "named"),
    [
        (SPARSE, TORCH, (), {}),
        (SPARSE, TORCH, ("class_weights",), {}),
        (TORCH, SPARSE, ("class_weights",), {}),
        (SPARSE, TORCH, ("ignore_index",), {}),
        (SPARSE, TORCH, ("class_weights", "ignore_index"), {}),
        (TORCH, SPARSE, ("class_weights", "ignore_index"), {}),
        (SPARSE, TORCH, ("class_weights", "sample_weights"), {}),
        (SPARSE, TORCH, ("sample_weights",), {"reduction": "none"}),
        (SOFT, TORCH, ("class_weights", "label_smoothing"), {"target": "index"}),
        (SOFT, TORCH, ("class_weights",), {"target": "one_hot"}),
        (TORCH, SOFT, ("class_weights",), {"target": "one_hot"}),
        (LOG_LOSS, TORCH, ("class_weights",), {}),
        (LOG_LOSS, TORCH, ("ignore_index",), {"reduction": "sum"}),
        (TORCH, LOG_LOSS, ("sample_weights",), {}),
        (NLL, TORCH, ("class_weights",), {}),
        (LOG_LOSS, SPARSE, ("class_weights",), {"kind": "probabilities"}),
        (BINARY, LOGITS, (), {}),
        (BINARY, LOGITS, ("positive_weight",), {"reduction": "sum"}),
        (LOGITS, BINARY, ("sample_weights",), {"reduction": "none"}),
        (LOGITS, BINARY, (), {"reduction": "sum"}),
        (BCE, BINARY, ("sample_weights",), {}),
        *[
            (first, second, ("class_weights",), {"quantity": "gradient"})
            for first, second in ((SPARSE, TORCH), (NLL, TORCH))
        ],
        (
            SOFT,
            TORCH,
            ("class_weights", "sample_weights"),
            {"quantity": "gradient", "target": "one_hot", "reduction": "sum"},
        ),
        (BINARY, LOGITS, (), {"quantity": "gradient"}),
        *[
            (first, second, ("class_weights",), {"layout": ["class_axis"]})
            for first, second in ((SPARSE, TORCH), (TORCH, LOG_LOSS))
        ],
        (SOFT, TORCH, (), {"layout": ["class_axis"], "target": "one_hot", "reduction": "sum"}),
        *[
            (LOG_LOSS, NLL, options, {"layout": ["class_names"], "kind": "probabilities"})
            for options in ((), ("class_weights",))
        ],
        (SPARSE, LOG_LOSS, ("sample_weights",), {"layout": ["class_names"], "kind": "probabilities"}),
        (LOG_LOSS, TORCH, (), {"layout": ["unbatched"]}),
        (SPARSE, TORCH, ("class_weights",), {"layout": ["unbatched"]}),
        (SPARSE, TORCH, ("sample_weights",), {"layout": ["unbatched"], "reduction": "none"}),
        (TORCH, SPARSE, ("sample_weights",), {"layout": ["leading_weights"], "reduction": "none"}),
        (SPARSE, TORCH, ("sample_weights",), {"layout": ["leading_weights"]}),
        (SPARSE, TORCH, ("class_weights",), {"label_dtype": "uint8"}),
        (TORCH, SPARSE, ("class_weights",), {"label_dtype": "int8"}),
        (LOGITS, BINARY, (), {"label_dtype": "int32"}),
        (LOG_LOSS, TORCH, ("class_weights",), {"weight_dtype": "float64"}),
        (BCE, BINARY, ("sample_weights",), {"weight_dtype": "float64", "kind": "probabilities"}),
        (SOFT, TORCH, ("class_weights",), {"target": "distribution", "reduction": "sum"}),
        (
            TORCH,
            "optax.softmax_cross_entropy",
            ("class_weights",),
            {"target": "distribution"},
        ),
    ],
)
def test_printed_code_gives_equal_numbers_for_other_data(first, second, options, named):
    result = recipe_of(first, second, *options, **named)
    assert result.equal, result.proof.remaining
    one, other = (execute(side, result.setting) for side in (result.first, result.second))
    np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-7)


def test_recipe_compares_printed_call_with_exact_answer():
    result = recipe_of(SPARSE, TORCH, "class_weights")
    assert "sample_weight=weights" in result.first.code
    assert len(result.proof.equal) >= 10
    assert not result.proof.remaining
    assert result.proof.ulps <= 4
    case, first, second = result.plain
    assert case in result.proof.equal
    assert first != second, "without the recipe they differ"


def test_recipe_lists_remaining_differences():
    result = recipe_of(LOG_LOSS, TORCH)
    reasons = {why for one in result.proof.remaining for why in one.why}
    assert f"{LOG_LOSS}: clip=dtype" in reasons
    assert all(one.cases for one in result.proof.remaining)


def test_incorrect_code_is_not_a_recipe(monkeypatch):
    monkeypatch.setattr(recipes._Draft, "_divided_by", lambda self, divisor, per_row: "7.0")
    result = recipe_of(SPARSE, TORCH, "class_weights")
    assert not result.equal
    assert result.first is None
    assert result.why.startswith("the code that follows from what they document is wrong in ")


def test_recipe_suggests_other_functions():
    result = recipe_of(SPARSE, TORCH, "label_smoothing")
    assert not result.equal
    assert f"try {SOFT}" in result.why


@pytest.mark.parametrize(
    ("names", "named", "why"),
    [
        ((TORCH, "torch.CrosEntropyLoss"), {}, 'did you mean "torch.CrossEntropyLoss"'),
        ((TORCH, "jax.nothing"), {}, r"did you mean \S+ or \S+ or \S+\? `conformance list functions` prints all$"),
        ((TORCH, "nobody"), {}, "there is no such function; `conformance list functions` prints all$"),
        ((TORCH, TORCH), {}, "equals itself"),
        ((BCE, TORCH), {}, "no problem fits both"),
        ((TORCH, "torch.CrossEntropyLoss:perplexity"), {}, "returns no loss of predictions"),
        ((TORCH, NLL), {"options": ["weights"]}, "expected one of class_weights"),
        ((TORCH, NLL), {"reduction": "average"}, "expected one of none, sum, mean"),
        ((TORCH, NLL), {"dtype": "float8"}, "expected one of float16"),
        ((TORCH, NLL), {"kind": "scores"}, "expected one of logits"),
        ((TORCH, NLL), {"target": "binary"}, "expected one of index"),
        ((TORCH, NLL), {"loss": "binary"}, "no problem fits both"),
    ],
)
def test_recipe_rejects_invalid_pair(names, named, why):
    installed(TORCH)
    with pytest.raises(SelectionError, match=why):
        api.recipe(*names, **named)


@pytest.mark.parametrize("name", ["optax.softmax_cross_entropy_with_integer_labels", "sklearn.log_loss"])
def test_recipe_of_uninstalled_function_is_unproved(monkeypatch, name):
    others = [one for one in AVAILABLE if one.framework.name != name.partition(".")[0]]
    monkeypatch.setattr(registry, "installed", lambda *_: (others, []))
    installed(TORCH)
    result = api.recipe(name, TORCH, kind="logits" if "optax" in name else "probabilities")
    assert not result.equal
    assert not result.why
    assert [needed.partition("==")[0] for needed in result.needed][1] == "torch"
    assert result.first.code.splitlines()[-1]
    printed = CliRunner().invoke(app, ["recipe", name, TORCH])
    assert printed.exit_code == 1
    assert result.needed[0] in " ".join(printed.output.split())
    with pytest.raises(SelectionError, match="there is no such function"):
        api.recipe("optax.nothing", TORCH)


def test_unproved_recipe_lists_known_issues(monkeypatch):
    others = [one for one in AVAILABLE if one.framework.name != "paddle"]
    monkeypatch.setattr(registry, "installed", lambda *_: (others, []))
    installed(TORCH)
    result = api.recipe("paddle.CrossEntropyLoss", TORCH, options=["ignore_index"])
    [(function, reason, cases)] = [one for one in result.known if "ignore_index is negative" in one[1]]
    assert function == "paddle.CrossEntropyLoss"
    assert "https://" in reason
    assert "categorical/ignore_index/minus_hundred" in cases
    printed = CliRunner().invoke(app, ["recipe", function, TORCH, "--option", "ignore_index"])
    assert "ignore_index is negative" in " ".join(printed.output.split("Known to be wrong")[1].split())
    assert not any("ignore_index is negative" in one[1] for one in api.recipe("paddle.BCELoss", "torch.BCELoss").known)


@pytest.mark.parametrize(("options", "differ"), [([], False), (["class_weights"], True)])
def test_divisors_differ_if_values_can_differ(options, differ):
    result = recipe_of(SPARSE, TORCH, *options)
    assert ("mean_divides_by" in [name for name, *_ in result.differences]) == differ


def test_options_without_common_case_have_no_recipe():
    result = recipe_of(TORCH, NLL, "class_weights", "sample_weights", "ignore_index", dtype="float16")
    assert not result.equal
    assert result.why


@pytest.mark.parametrize(
    ("options", "status"), [(["--option", "class_weights"], 0), (["--option", "label_smoothing"], 1)]
)
def test_command_prints_content_of_json(options, status):
    installed(SPARSE, TORCH)
    printed = CliRunner().invoke(app, ["recipe", SPARSE, TORCH, *options])
    assert printed.exit_code == status
    machine = CliRunner().invoke(app, ["recipe", SPARSE, TORCH, *options, "--json"])
    assert machine.exit_code == status
    data = json.loads(machine.output)
    assert data["setting"]["options"] == options[1:]
    sides = [side for side in (data["first"], data["second"]) if side is not None]
    assert len(sides) == (0 if status else 2)
    for side in sides:
        assert all(line in printed.output for line in side["code"].splitlines())
    assert ("What remains" in printed.output) == bool(data["proof"]["remaining"])


def test_recipe_reports_bitwise_equality():
    installed(TORCH)
    printed = CliRunner().invoke(app, ["recipe", NLL, TORCH, "--option", "class_weights"])
    assert "bit for bit" in printed.output


@pytest.fixture(scope="module")
def cases():
    return sorted(shipped(), key=lambda case: case.predicted)


@pytest.fixture(scope="module")
def judge():
    """A judge whose workers import the frameworks once for all entries."""
    with open_judge(AVAILABLE, Ledger()) as judge:
        yield judge


ON_THE_PAGE = [row for loss in LOSSES for row in entries(loss)]


@pytest.mark.parametrize(
    "row", ON_THE_PAGE, ids=lambda row: f"{row[0].first.function.name}-{row[0].second.function.name}"
)
def test_entries_of_recipe_page_are_proved(row: list[Entry], cases, judge):
    first, second = row[0].first.function.name, row[0].second.function.name
    installed(first, second)
    found = {function.name: InstalledFunction(one, function) for one in AVAILABLE for function in one.functions}
    pair = found[first], found[second]
    for entry in row:
        expected = entry.setting
        setting = setting_of(pair, loss=expected.loss, options=expected.options, reduction=expected.reduction)
        assert setting == expected
        for few in (12, None):  # a function that refuses most edges is equal in later cases
            result = prove_recipe(pair, setting, list(islice(cases_of(cases, setting), few)), judge)
            if proved := result.equal or entry.text() == f"none: {result.why.partition('; try')[0]}":
                break
        assert proved, entry.text()


def test_most_entries_of_recipe_page_exist():
    texts = [entry.text() for row in ON_THE_PAGE for entry in row]
    texts = [text for text in texts if not re.fullmatch(r"none: \S+ has no reduction \w+", text)]
    assert len(texts) > 100
    assert sum(text.startswith("none: ") for text in texts) < 0.1 * len(texts)


def test_recipe_page_describes_installed_release():
    pairs = {(row[0].first.function.name, row[0].second.function.name) for row in ON_THE_PAGE}
    assert (SPARSE, TORCH) in pairs
    assert all((second, first) in pairs for first, second in pairs)


def test_arrays_without_operations_have_recipes_without_operations():
    installed(TORCH)
    bare = [
        InstalledFunction(dataclasses.replace(one, framework=_without_operations(one.framework)), function)
        for name in (NLL, TORCH)
        for one in AVAILABLE
        for function in one.functions
        if function.name == name
    ]
    assert derive_recipes(*bare, setting_of(tuple(bare), kind="log_probabilities"))[0]
    with pytest.raises(NoRecipeError, match="its arrays have no log_softmax"):
        derive_recipes(*bare, setting_of(tuple(bare), kind="logits"))


def _without_operations(framework):
    return dataclasses.replace(framework, arrays=dataclasses.replace(framework.arrays, operations={}))


def test_gradient_recipe_requires_differentiable_functions():
    result = recipe_of(LOG_LOSS, TORCH, quantity="gradient")
    assert not result.equal
    assert result.why.startswith(f"{LOG_LOSS} does not differentiate; try") or result.why.endswith("differentiate")


def test_gradient_with_distribution_targets_has_no_weighted_targets():
    result = recipe_of(SOFT, TORCH, "class_weights", "label_smoothing", target="index", quantity="gradient")
    assert "its gradient takes all targets for distributions" in result.why
    assert recipe_of(SOFT, TORCH, "class_weights", "label_smoothing", target="index").equal


def test_recipe_calls_compiled_functions():
    result = recipe_of(SPARSE, TORCH, "class_weights", modes=["graph"])
    assert result.equal
    assert "tf.function(loss)" in result.first.code
    assert "compile" not in result.second.code
    with pytest.raises(SelectionError, match="--mode jet: no selected framework has it"):
        recipe_of(SPARSE, TORCH, modes=["jet"])


def test_recipe_avoids_argument_with_known_issue():
    result = recipe_of(SPARSE, TORCH, layout=["class_axis"])
    assert result.equal
    assert "moveaxis" in result.first.code


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"quantity": "hessian"}, "expected one of loss, gradient"),
        ({"layout": ["sparse"]}, "expected one of class_axis"),
        ({"label_dtype": "int3"}, "expected one of bool"),
        ({"weight_dtype": "int3"}, "expected one of float16"),
    ],
)
def test_recipe_rejects_missing_arrays(named, why):
    with pytest.raises(SelectionError, match=why):
        recipe_of(SPARSE, TORCH, **named)
