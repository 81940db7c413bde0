"""The suite catches every fault, and passes what is right however it is computed.

`conformance mutants --kills` prints which case caught which fault.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conformance import api
from conformance.adapters.contract.calling import perform
from conformance.api import MutationResult, measures
from conformance.casefiles.generated_arrays import GeneratedCase
from conformance.casefiles.known_issues import Ledger
from conformance.cli import app
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, plan
from conformance.judging.prepare import prepare
from conformance.model.case import Case
from conformance.model.convention import Convention
from conformance.model.errors import UserError
from conformance.model.outcome import Returned
from conformance.power.mutants import catalogue
from conformance.power.mutants.catalogue import (
    BY_NAME,
    CORRECT,
    DOCUMENTED,
    FAMILIES,
    FAULTY,
    GRADIENTS,
    CountsLabelsFromOne,
    DropsSmoothing,
    RaisesOnThreeAxes,
)
from conformance.power.mutants.numpy_losses import Binary, Categorical, Implementation, installed
from conformance.power.mutants.score import (
    CaseRun,
    FalseAlarm,
    MutantResult,
    run_correct,
    run_correct_on_generated,
    run_mutants,
    shuffled,
)
from conformance.reference.oracle import Oracle
from conformance.tests.stated import case, shipped

LARGEST = 60_000
"""Cases with more numbers than this are left to `conformance mutants`, but for those that alone catch something."""
NEEDED = ("categorical/masks_beyond_float16/", "binary/outputs_in_blocks/outputs_65537")
DETECTING = Path(__file__).with_name("detecting_cases.txt").read_text(encoding="utf-8").split()
"""Cases that detect every mutant of the day they were listed. They come first; the others follow, while any is left."""
ONE_CASE = """# yaml-language-server: $schema=../conformance/case.schema.json
about: One case.
source: https://example.org
loss: categorical
given: logits
target: index
cases:
  plain:
    why: To catch something.
    predictions: [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]
    labels: [0, 2]
"""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return shuffled(case for case in shipped() if _size(case) <= LARGEST or case.id.startswith(NEEDED))


def _size(case: Case) -> int:
    return case.recipe.classes * math.prod(case.recipe.shape) if isinstance(case, GeneratedCase) else 0


@pytest.fixture(scope="module")
def score(cases) -> dict[str, MutantResult]:
    place = {name: number for number, name in enumerate(DETECTING)}
    ordered = sorted(cases, key=lambda found: place.get(found.id, len(place)))
    return {fate.name: fate for fate in run_mutants(ordered, FAULTY, enough=1) if isinstance(fate, MutantResult)}


@pytest.mark.parametrize("family", FAMILIES)
def test_cases_detect_each_mutant_of_a_family(score, family):
    found = [score[mutant.__name__] for mutant in FAULTY if mutant.family == family]
    assert len(found) >= 10
    assert [f"{fate.name}: {fate.fault}" for fate in found if fate.survived] == []


def test_listed_cases_detect_nearly_every_mutant(score):
    others = {kill.case for fate in score.values() for kill in fate.kills} - set(DETECTING)
    assert len(others) <= 10, f"list them in detecting_cases.txt: {sorted(others)}"


def test_mutant_is_not_detected_by_unrelated_exception(score):
    # It would be a second fault, which hides the first.
    assert [name for name, fate in score.items() if fate.kills[0].raised != BY_NAME[name].raises] == []


def test_mutants_are_not_equivalent_to_each_other(cases, score):
    # Two that did would have been caught by the same item, for the same reason.
    alike: dict[tuple[str, str], list[str]] = {}
    for name, fate in score.items():
        alike.setdefault((fate.kills[0].item, fate.kills[0].message), []).append(name)
    groups = [group for group in alike.values() if len(group) > 1]
    shown = {fate.kills[0].case for fate in score.values()}
    for asked in sorted(cases, key=lambda found: found.id not in shown):  # of those that caught one, few are needed
        groups = [part for group in groups for part in _split(group, asked)]
        if not groups:
            break
    assert groups == []


def _split(names: list[str], asked: Case) -> list[list[str]]:
    """Those that return the same in a case, where there are several."""
    done: dict[str, list[str]] = {name: [repr(BY_NAME[name].documented)] for name in names}
    for item in plan([asked], [installed(*(BY_NAME[name] for name in names), differentiates=True)]):
        done[item.function.name.partition(".")[2]].append(item.id.partition("-")[2] + _returned(item))
    parts: dict[str, list[str]] = {}
    for name, found in done.items():
        parts.setdefault(" ".join(found), []).append(name)
    return [part for part in parts.values() if len(part) > 1]


def _returned(item: Item) -> str:
    put = prepare(item)
    outcome = perform(item.framework, put.call, put.description)
    if not isinstance(outcome, Returned):
        return repr(outcome)
    return f"{outcome.value.tobytes().hex()} {outcome.value.shape} {outcome.dtype} {outcome.mutated}"


def test_mutant_names_and_faults_are_unique():
    names = [mutant.__name__ for mutant in (*CORRECT, *FAULTY)]
    assert len(set(names)) == len(names)
    assert all(mutant.__doc__ and mutant.__doc__.strip().endswith(".") for mutant in (*CORRECT, *FAULTY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("divsor = 'original - 1'", "there is no step or attribute divsor"),
        ("divisor = 'original -'", "invalid syntax"),
        ("of = 'Nothing'", "name 'Nothing' is not defined"),
    ],
)
def test_table_rejects_invalid_change(tmp_path, monkeypatch, change, message):
    (tmp_path / "means.toml").write_text(f"[Wrong]\nfault = 'None.'\n{change}\n")
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"means\.toml: Wrong: .*{message}"):
        catalogue.read_table("means", {"Categorical": Categorical})


def test_change_replaces_one_step(tmp_path, monkeypatch):
    (tmp_path / "means.toml").write_text("[Half]\nfault = 'Halves.'\nmean = 'original / 2'\n")
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    (half,) = catalogue.read_table("means", {"Categorical": Categorical})
    assert (half.__name__, half.family, half.__doc__, half.__bases__) == ("Half", "means", "Halves.", (Categorical,))
    x, y = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, -0.75]]), np.array([2, 0])
    losses = [made(input_kind="logits", target="index", reduction="mean")(x, y) for made in (half, Categorical)]
    assert losses[0] == losses[1] / 2


# What is right.


@pytest.fixture(scope="module")
def suite() -> Judge:
    return Judge(Oracle(), Ledger())


@pytest.mark.parametrize("loss", [Categorical, Binary], ids=lambda loss: loss.__name__)
def test_definition_passes_each_case(cases, loss):
    events = list(run_correct([c for c in cases if c.loss == loss.__name__.lower()], [loss]))
    assert [alarm.message for alarm in events if isinstance(alarm, FalseAlarm)] == []
    assert sum(event.items for event in events if isinstance(event, CaseRun)) > 1000


def test_alternatives_pass_the_cases(cases):
    # In turn; `conformance mutants --right` puts every case to all.
    found = [event for event in run_correct(cases, CORRECT, per_case=1) if isinstance(event, FalseAlarm)]
    assert [alarm.message for alarm in found] == []


def test_alternatives_pass_generated_cases():
    events = list(run_correct_on_generated([loss.__name__ for loss in CORRECT], 20260000, range(300)))
    assert [alarm.message + alarm.text for alarm in events if isinstance(alarm, FalseAlarm)] == []
    assert len([event for event in events if isinstance(event, CaseRun)]) == 300


@pytest.mark.parametrize("loss", DOCUMENTED, ids=lambda loss: loss.__name__)
def test_documented_choice_of_correct_implementation_is_named(suite, cases, loss):
    # In one dtype, and until every choice has shown.
    choices = set(loss.documented.choices()) - {"empty_mean"}  # no cause of anything
    of_gradient = any(name.startswith("gradient_") for name in choices)
    for item in plan((c for c in cases if _size(c) == 0), [installed(loss, differentiates=of_gradient)]):
        if item.dtype == item.case.dtypes[-1] and choices:
            choices -= set(_fields(suite.assess(item).verdict.convention))
    assert choices == set()


def _fields(convention: str) -> Iterator[str]:
    return (choice.partition("=")[0] for choice in convention.split("; ") if choice)


def test_each_choice_has_correct_implementation():
    documented = {field for loss in CORRECT for field in loss.documented.choices()}
    assert {field.name for field in dataclasses.fields(Convention)} - documented == set()


@pytest.mark.parametrize("loss", [Categorical, Binary], ids=lambda loss: loss.__name__)
def test_each_loss_has_ten_alternatives_per_dtype(loss):
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert len([way for way in CORRECT if issubclass(way, loss) and dtype in way.dtypes]) >= 10


def test_false_alarm_shows_the_case():
    drawn = dataclasses.replace(SMOOTHED, id="drawn/one/case", about="A.", why="Because.", source="Drawn.")
    found = [event for event in run_correct([drawn], [Categorical, DropsSmoothing]) if isinstance(event, FalseAlarm)]
    assert {alarm.name for alarm in found} == {"DropsSmoothing"}
    assert "label_smoothing: 0.2" in found[0].text


# How it is scored.

SMOOTHED = case([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [0, 2], options={"label_smoothing": 0.2}, id="a/b/smoothed")
PLAIN = case([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [0, 2], id="a/b/plain")


def scored(cases: list[Case], *mutants: type[Implementation]) -> MutationResult:
    found = {fate.name: fate for fate in run_mutants(cases, mutants) if isinstance(fate, MutantResult)}
    return MutationResult(tuple(found[mutant.__name__] for mutant in mutants))


def test_undetected_mutant_survives():
    found = scored([PLAIN], DropsSmoothing, CountsLabelsFromOne)
    assert [fate.name for fate in found.survivors] == ["DropsSmoothing"]
    assert (found.killed, found.families()) == (1, {"smoothing": (0, 1), "labels": (1, 1)})


def test_score_names_only_killer():
    found = scored([PLAIN, SMOOTHED], DropsSmoothing, CountsLabelsFromOne)
    assert found.alone() == {"a/b/smoothed": ["DropsSmoothing"]}
    assert [kill.case for kill in found.results[1].kills] != [found.results[1].kills[0].case]


def test_detected_mutant_is_not_run_again():
    events = list(run_mutants([PLAIN, SMOOTHED], [CountsLabelsFromOne], enough=1))
    assert [type(event) for event in events] == [MutantResult, CaseRun]


def test_gradients_are_run_for_gradient_mutants_only():
    wrong = [mutant for mutant in FAULTY if mutant.family == GRADIENTS]
    found = scored([PLAIN], *wrong)
    assert 0 < found.killed < len(wrong)
    assert all(kill.item.endswith("-gradient") for fate in found.results for kill in fate.kills)


def test_gradient_equals_finite_differences():
    # The gradients of the right losses do not rest on the oracle's closed forms alone.
    x, y = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, -0.75]]), np.array([2, 0])
    loss = Categorical(input_kind="logits", target="index", reduction="mean", label_smoothing=0.1)
    steps = [np.eye(6)[i].reshape(2, 3) * 1e-6 for i in range(6)]
    slopes = [(loss.loss(x + step, y) - loss.loss(x - step, y)) / 2e-6 for step in steps]
    np.testing.assert_allclose(loss.gradient(x, y).ravel(), slopes, rtol=1e-7)


# The command.


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["mutants", *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "one.yaml").write_text(ONE_CASE)
    return str(tmp_path)


def test_mutants_command_with_survivor_exits_with_1(folder):
    done = run("--cases", folder, "--family", "smoothing", "--family", "labels")
    assert done.exit_code == 1
    assert "smoothing.DropsSmoothing  Accepts label smoothing and does not use it." in done.stdout
    assert "labels.CountsLabelsFromOne" not in done.stdout
    assert "\nall " in done.stdout


def test_mutants_command_without_survivor_exits_with_0(folder):
    done = run("--cases", folder, "-k", "labels and CountsLabelsFromOne", "--kills")
    assert done.exit_code == 0
    assert "one/plain-float32-mean: error of" in done.stdout
    assert "one/plain  CountsLabelsFromOne" in done.stdout


def test_mutants_command_prints_json(folder):
    facts = json.loads(run("--cases", folder, "--family", "smoothing", "--json").stdout)
    assert (facts["killed"], facts["of"], facts["undecided"]) == (0, 20, 0)
    assert facts["mutants"][0]["fault"] == "Accepts label smoothing and does not use it."
    assert "DropsSmoothing" in facts["survivors"]


def test_mutants_command_runs_folder_on_correct_implementations(folder):
    done = run("--cases", folder, "--right", "-k", "SumsBackwards or BinarySumsPairwise")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "1 case, 4 items: no false alarms")


def test_generated_cases_are_distributed_over_processes():
    done = run("--right", "-k", "SumsBackwards", "--generated", "6", "--seed", "3", "-n", "2", "--json")
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert (facts["put"], facts["of"], facts["alarms"]) == (6, 6, [])
    assert facts["items"] == sum(
        event.items for event in run_correct_on_generated(["SumsBackwards", "BinarySumsBackwards"], 3, range(6))
    )


def test_mutants_returns_content_of_printed_table(folder):
    result = api.mutants(Path(folder), ["smoothing"])
    assert json.loads(run("--cases", folder, "--family", "smoothing", "--json").stdout) == json.loads(result.to_json())
    assert (result.killed, result.undecided) == (0, 0)
    assert api.mutants(Path(folder), ["smoothing"], processes=2) == result
    assert api.list_mutants(["smoothing"]).to_dict()["mutants"][0]["name"] == result.results[0].name


def test_mutants_returns_partial_results_on_interrupt(folder):
    class Stops(api.Observer):
        def rows(self, count):
            def advance(label, count=1):
                raise KeyboardInterrupt

            return contextlib.nullcontext(advance)

    result = api.mutants(Path(folder), ["smoothing"], observer=Stops())
    assert (result.results, result.undecided) == ((), 20)
    found = api.check_correct(Path(folder), "SumsBackwards", observer=Stops())
    assert (found.interrupted, found.cases_run, found.planned) == (True, 1, 1)


def test_check_correct_reports_false_alarms(folder, monkeypatch):
    monkeypatch.setattr(measures, "CORRECT", (CountsLabelsFromOne,))
    text = []
    result = api.check_correct(Path(folder), found=text.append)
    assert [alarm.name for alarm in text] == [alarm.name for alarm in result.alarms] != []
    assert set(result.to_dict()["alarms"][0]) == {"name", "item", "yaml"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--family", "colours"], "--family colours: there is no such family; expected one of precision, "),
        (["-k", "nobody"], "nothing is selected by -k 'nobody'; `conformance mutants --list` prints what there is"),
        (["--generated", "5"], "--generated goes with --right"),
        (["--right", "--family", "labels"], "--family and --right do not go together"),
        (["--right", "--generated", "5", "--cases", "here"], "--generated and --cases do not go together"),
        (["--right", "-k", "BinaryFlushes", "--generated", "2"], "nothing was executed"),
        (["--cases", "/nowhere"], "there is no such folder"),
    ],
)
def test_mutants_command_rejects_invalid_arguments(arguments, message):
    done = run(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


def test_mutants_command_lists_mutants():
    assert len(json.loads(run("--list", "--json").stdout)["mutants"]) == len(FAULTY) > 120
    assert "errors.RaisesOnThreeAxes" in run("--list", "--family", "errors").stdout
    assert len(json.loads(run("--list", "--right", "--json").stdout)["mutants"]) == len(CORRECT) > 22


def test_mutants_that_raise_are_declared():
    assert RaisesOnThreeAxes.raises
    assert not DropsSmoothing.raises
