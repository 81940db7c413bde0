"""The search for cases that a function answers wrongly: found, shrunk, told once, kept, gone on with."""

import dataclasses
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import find, settings
from typer.testing import CliRunner

from conformance.adapters import registry
from conformance.adapters.contract.calling import perform
from conformance.casefiles import known_issues
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.casefiles.loading import load, shipped_cases
from conformance.casefiles.writing import save
from conformance.cli import app
from conformance.explore.fuzz.generation import UNUSUAL_KINDS, Limits, random_case
from conformance.explore.fuzz.search import (
    Search,
    SearchState,
    failure_signature,
    read_state,
    restrict_limits,
    write_state,
)
from conformance.explore.fuzz.strategies import cases
from conformance.explore.state_file import StateError
from conformance.judging.judge import Judge
from conformance.judging.plan import Item, plan, unsupported
from conformance.judging.prepare import PreparedCall, prepare
from conformance.judging.selection import ItemFilter, function_filter
from conformance.judging.traits import GENERIC_TRAITS, SHAPE_TRAITS, VALUE_TRAITS
from conformance.model.case import LABEL_DTYPES, OPTIONS, ORDERS, WEIGHT_DTYPES, Case, Layout, Options
from conformance.model.convention import EDGE, INVALID
from conformance.model.errors import UserError
from conformance.reference.conversion import convert
from conformance.reference.oracle import Oracle
from conformance.tests import miniatures, signals
from conformance.tests.stated import shipped

MODELINE = "# yaml-language-server: $schema=https://example.org/known.schema.json\n"
TRAITS = (
    GENERIC_TRAITS
    | EDGE
    | INVALID
    | {*OPTIONS, *ORDERS[1:], *SHAPE_TRAITS, *VALUE_TRAITS, "class_axis", "class_axis_not_1"}
)
TRAITS |= {f"{name}_labels" for name in LABEL_DTYPES} | {f"{name}_weights" for name in WEIGHT_DTYPES}
PROGRAM = """
import sys
from conformance.adapters import registry
from conformance.tests import miniatures
registry.frameworks = lambda: (miniatures.framework(miniatures.{loss}),)
from conformance.cli import main
main()
"""


def search(loss, ledger=None, **options):
    """A search among the cases that a miniature can express."""
    there = miniatures.installed(loss)
    return Search([there], ledger or Ledger(), restrict_limits(functions=there.functions), **options)


def until_found(searching, most=400):
    while not searching.findings:
        assert searching.state.position < most
        searching.step()
    (finding,) = searching.findings
    return finding


def until_interrupted(searching):
    while True:
        searching.step()


@pytest.fixture
def fuzz(tmp_path, monkeypatch):
    """`conformance` where one miniature is all there is, and no ledger."""
    (tmp_path / "cases" / "known").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def invoked(loss, *words):
        monkeypatch.setattr(registry, "frameworks", lambda: (miniatures.framework(loss),))
        first, *others = map(str, words)
        return CliRunner().invoke(app, [first, *others])

    return invoked


# What it finds


@pytest.mark.parametrize("loss", miniatures.RIGHT, ids=lambda loss: loss.__name__)
def test_search_reports_nothing_for_correct_function(loss):
    searching = search(loss, seed=3, shrinks=False)
    while searching.state.position < 60:
        searching.step()
    assert [finding.message for finding in searching.findings] == []
    assert searching.state.not_executed == []
    assert searching.state.cases > 30


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (miniatures.SmoothsTwice, ["predictions: [[0.0, 1.0]]", "labels: [0]", "options: {label_smoothing: 0.5}"]),
        (miniatures.TransposesSquares, ["predictions: [[0.0, 0.0], [0.0, 1.0]]", "labels: [0, 0]"]),
        (miniatures.SwapsTwoClasses, ["predictions: [[0.0, 1.0]]", "labels: [0]"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_search_shrinks_to_smallest_case(loss, said, monkeypatch):
    monkeypatch.setattr("conformance.explore.fuzz.search.SHRINK_SECONDS", 600.0)  # on a busy machine it ends early
    finding = until_found(search(loss))
    lines = [line.strip() for line in finding.text.partition("cases:")[2].splitlines()]
    stated = [line for line in lines if line.partition(":")[0] in ("predictions", "labels", "options", "reduction")]
    assert stated == said
    assert "dtypes: float32" in lines


def test_strategy_shrinks_to_readable_cases():
    unlucky = settings(max_examples=2000, database=None, derandomize=True)
    limits = Limits(families=(("categorical", "logits", "index"),))
    case = find(cases(limits), _smoothed_over_something, settings=unlucky)
    assert case.predictions.tolist() in ([[1.0, 0.0]], [[0.0, 1.0]])
    assert (case.options.names(), case.layout) == (("label_smoothing",), Layout())
    assert (case.dtypes, case.reductions) == (("float32",), ("mean",))


def _smoothed_over_something(case):
    return bool(case.options.label_smoothing) and case.predictions.max(initial=0) > 0


@pytest.mark.parametrize("named", [False, True])
def test_variant_is_called_with_every_fourth_case_unless_named(named):
    there = miniatures.installed(miniatures.Categorical)
    (function,) = there.functions
    variant = dataclasses.replace(function, default_files=frozenset({"article/index_labels"}))
    there = dataclasses.replace(there, framework=dataclasses.replace(there.framework, functions=(variant,)))
    chosen = function_filter([function.name]) if named else None
    searching = Search([there], Ledger(), restrict_limits(functions=there.functions), item_filter=chosen)
    called = []
    while searching.state.position < 24:
        before = searching.state.rows
        searching.step()
        called.append(searching.state.rows > before)
    assert any(called)
    assert any(here for position, here in enumerate(called) if position % 4) == named


def test_search_reports_a_fault_once_and_counts_duplicates():
    searching = search(miniatures.SmoothsTwice)
    finding = until_found(searching)
    while searching.state.position < 120:
        searching.step()
    assert [found.traits for found in searching.findings if found.signature == finding.signature] == [finding.traits]
    assert searching.state.again[finding.case] > 3


def test_search_skips_rows_that_a_known_issue_documents():
    entry = KnownIssue("made/by/hand", "miniature.SmoothsTwice", when=("label_smoothing",), reason="it is known")
    searching = search(miniatures.SmoothsTwice, Ledger([entry]))
    while searching.state.position < 60:
        searching.step()
    assert searching.findings == []
    assert sum(searching.state.known.values()) > 3
    elsewhere = search(miniatures.SmoothsTwice, Ledger([dataclasses.replace(entry, when=("class_weights",))]))
    assert until_found(elsewhere).traits == ("label_smoothing",)


def test_interrupted_search_keeps_smallest_case_so_far():
    calls = 0

    def performer(framework, call, what):
        nonlocal calls
        calls += 1
        if calls > 60:
            raise KeyboardInterrupt
        return perform(framework, call, what)

    searching = search(miniatures.ReadsMemoryInOrder, performer=performer)
    with pytest.raises(KeyboardInterrupt):
        until_interrupted(searching)
    position = searching.state.position
    assert len(searching.findings) == 1
    calls = -(10**6)
    searching.step()
    assert searching.state.position == position + 1
    assert len({(finding.signature, finding.traits) for finding in searching.findings}) == len(searching.findings)


def test_restrict_limits_drops_inexpressible_features():
    function = dataclasses.replace(
        miniatures.Categorical.function(), targets={"index": ""}, arguments={"class_weights": "class_weights"}
    )
    limits = restrict_limits(functions=[function], item_filter=ItemFilter(lambda _, name: "-float16-sum" in name))
    assert (limits.dtypes, limits.reductions, limits.options) == (("float16",), ("sum",), {"class_weights"})
    assert {loss for loss, _, _ in limits.families} == {"categorical"}


def test_restrict_limits_draws_supported_ranks():
    of_sequences = dataclasses.replace(miniatures.Categorical.function(), ranks={"categorical": range(3, 4)})
    limits = restrict_limits(functions=[of_sequences])
    assert limits.min_inner_axes == 1
    assert restrict_limits(functions=[of_sequences, miniatures.Binary.function()]).min_inner_axes == 0
    drawn = [random_case(np.random.default_rng(seed), "a/b/c", limits) for seed in range(100)]
    assert np.mean([case.predictions.ndim == 3 for case in drawn]) > 0.7
    of_vectors = dataclasses.replace(miniatures.Binary.function(), ranks={"binary": range(2)})
    limits = restrict_limits(functions=[of_vectors])
    assert {random_case(np.random.default_rng(seed), "a/b/c", limits).predictions.ndim for seed in range(100)} == {0, 1}


# What a ledger's conditions can say


def test_each_trait_is_documented():
    here = [miniatures.installed(miniatures.Categorical), miniatures.installed(miniatures.Binary)]
    seen: set[str] = set()
    for index in range(1500):
        case = random_case(np.random.default_rng([5, index]), "drawn/case", Limits(kinds=UNUSUAL_KINDS))
        for item in plan([case], here)[:2]:
            seen |= prepare(item).traits
    assert seen <= TRAITS
    large = {"inexact_label", "many_samples", "many_classes", "samples_beyond_range"}
    not_drawn = {"multi_hot", "weight_dtype", "lowest_weight", *(f"{name}_weights" for name in WEIGHT_DTYPES)}
    assert TRAITS - seen <= {"shape_mismatch", "trailing_axis", *large, *not_drawn}


WHOLE = {"beyond_range", "inexact_label", "saturated_logit", "many_samples", "many_classes", "near_certain_prediction"}
"""Traits that a case whose arrays are generated has only once they are."""


def test_shipped_known_issues_have_conditions_that_their_cases_meet():
    entries, _ = known_issues.read(shipped_cases())
    by_id = {case.id: case for case in shipped()}
    stated = [entry for entry in entries if entry.when and entry.case in by_id]
    assert stated
    for entry in stated:
        assert set(entry.when) <= TRAITS, entry
        case = by_id[entry.case] if WHOLE & set(entry.when) else by_id[entry.case].representative
        missing = set(entry.when)
        for asked in _asked_anywhere(entry, case):
            missing -= asked.traits
            if not missing:
                break
        assert not missing, (str(entry), missing)


def _asked_anywhere(entry: KnownIssue, case: Case) -> Iterator[PreparedCall]:
    """The entry's case as it would be put to the entry's functions, installed or not."""
    functions = [function for function in registry.functions() if entry.matches_function(function.name)]
    for function in functions:
        there = dataclasses.replace(miniatures.installed(miniatures.Categorical), environment="none")
        for dtype, reduction in itertools.product(entry.dtypes or case.dtypes, entry.reductions or case.reductions):
            problem = case.problem(dtype, reduction)
            if unsupported(function, case, problem) is None:
                item = Item(there, function, case, dtype, reduction)
                yield PreparedCall(item, problem, *convert(problem, function.input_kind_for(problem.input_kind)))


# The command


def test_fuzz_with_finding_exits_with_1_and_saves_it(fuzz, tmp_path):
    options = ("--cases", "cases", "--cases-count", 60, "--save", "found")
    done = fuzz(miniatures.SmoothsTwice, "fuzz", *options)
    assert done.exit_code == 1, done.output
    (file,) = Path("found/fuzz").iterdir()
    assert file.read_text() in done.output
    assert fuzz(miniatures.SmoothsTwice, "lint", "found").exit_code == 0
    again = fuzz(miniatures.SmoothsTwice, "run", "--in-process", "--cases", "found", "--report", "report")
    assert again.exit_code == 1
    assert "disagrees" in again.output
    assert fuzz(miniatures.Categorical, "run", "--in-process", "--cases", "found", "--report", "report").exit_code == 0
    assert fuzz(miniatures.SmoothsTwice, "fuzz", *options).exit_code == 1  # the same file again


def test_saved_finding_is_bit_exact(tmp_path):
    values = np.array([[-0.0, 0.1], [5e-324, -1.7e308], [np.inf, np.nan], [float(np.float32(0.1)), 0.099609375]])
    case = Case("fuzz/x/smallest", "w", "a", "s", "categorical", "logits", "index", values, np.array([0, 1, 0, 1]),
                Options(class_weights=np.array([0.1, -0.0])), dtypes=("float64",))  # fmt: skip
    save([case], tmp_path)
    (read,) = load(tmp_path)
    assert read.digest == case.digest
    assert read.predictions.tobytes() == values.tobytes()


def test_fuzz_without_finding_exits_with_0(fuzz):
    done = fuzz(miniatures.Categorical, "fuzz", "--cases", "cases", "--cases-count", 40, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["position"], facts["findings"], facts["failures"]) == (40, [], [])
    assert facts["rows"] > facts["cases"] > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dtype", "float8"], "there is no such dtype"),
        (["--max-shape", "8"], "write samples and classes"),
        (["--framework", "nobody"], "there is no such framework"),
        (["-k", "float32 and"], "a word should stand"),
        (["-k", "nobody"], "nothing is selected"),
        (["--state", "."], "cannot be read"),
        (["--state", "text"], "is not a state of a search"),
    ],
    ids=str,
)
def test_fuzz_with_invalid_arguments_exits_with_2(fuzz, words, said):
    Path("text").write_text("no JSON")
    done = fuzz(miniatures.Categorical, "fuzz", "--cases", "cases", "--cases-count", 5, *words)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)


def test_fuzz_json_has_each_finding(fuzz):
    done = fuzz(miniatures.SmoothsTwice, "fuzz", "--cases", "cases", "--cases-count", 60, "--json")
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["function"], finding["traits"]) == ("miniature.SmoothsTwice", ["label_smoothing"])
    assert finding["yaml"].endswith("dtypes: float32\n")
    assert finding["row"]["expected"] == "unexpected"


# Going on


def test_resumed_search_equals_uninterrupted_search(fuzz):
    options = ("fuzz", "--cases", "cases", "--json", "--state")
    whole = fuzz(miniatures.SmoothsTwice, *options, "whole", "--cases-count", 80)
    for count in (10, 30, 80):
        parts = fuzz(miniatures.SmoothsTwice, *options, "parts", "--cases-count", count)
    one, other = json.loads(whole.stdout), json.loads(parts.stdout)
    for facts in (one, other):
        del facts["seconds"]
    assert one == other
    assert one["findings"]


def test_state_of_another_search_is_rejected(fuzz):
    options = ("fuzz", "--cases", "cases", "--cases-count", 5, "--state", "state")
    assert fuzz(miniatures.Categorical, *options).exit_code == 0
    rejected = fuzz(miniatures.Categorical, *options, "--seed", 1)
    assert "is of a search with seed 0, and not 1" in str(rejected.exception)


def test_state_file_is_replaced_atomically(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_state(path, {"seed": 1}, SearchState(position=7), [])
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StateError, match="No space left"):
        write_state(path, {"seed": 1}, SearchState(position=8), [])
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    found = read_state(path, {"seed": 1})
    assert found is not None
    assert found[0].position == 7


def started(loss, *words):
    program = PROGRAM.format(loss=loss.__name__)
    return subprocess.Popen(
        [sys.executable, "-c", program, "fuzz", "--cases", "cases", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=signals.restore if sys.platform != "win32" else None,
    )


def wait_for(path, condition):
    for _ in range(600):
        if path.exists() and condition(json.loads(path.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("it took too long")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("how", [signal.SIGINT, getattr(signal, "SIGKILL", None)], ids=["ctrl_c", "kill"])
def test_stopped_search_keeps_its_findings(fuzz, how, ignored_signals):
    path = Path("state")
    running = started(miniatures.SmoothsTwice, "--state", path, "--seconds", 60)
    try:
        wait_for(path, lambda said: said["findings"] and said["tally"]["position"] > 30)
        running.send_signal(how)
        output, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    if how == signal.SIGINT:
        assert running.returncode == 130, errors
        assert "found miniature.SmoothsTwice" in output
        assert "interrupted" in errors
    before = json.loads(path.read_text())
    done = fuzz(
        miniatures.SmoothsTwice, "fuzz", "--cases", "cases", "--json", "--state", path,
        "--cases-count", before["tally"]["position"] + 5,
    )  # fmt: skip
    facts = json.loads(done.stdout)
    assert facts["position"] == before["tally"]["position"] + 5
    assert [found["case"] for found in facts["findings"]] == [found["case"] for found in before["findings"]]


def test_failure_signature_has_no_numbers():
    there = miniatures.installed(miniatures.SmoothsTwice)
    made = {}
    for smoothing in (0.5, 0.25):
        case = Case("a/b/c", "w", "a", "s", "categorical", "logits", "index", np.array([[0.0, 1.0]]), np.array([0]),
                    Options(label_smoothing=smoothing), dtypes=("float32",))  # fmt: skip
        made[smoothing] = failure_signature(Judge(Oracle(), Ledger()).assess(plan([case], [there])[0]))
    assert set(made.values()) == {"disagrees: wrong_value"}
