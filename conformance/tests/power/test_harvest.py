"""Cases from other projects' tests: what is found, said and counted, and what is told when it goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conformance import api, cli
from conformance.casefiles import known_issues, loading
from conformance.casefiles.document import name_errors, schema_of
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.execution.temporary_folder import remove_stale
from conformance.execution.workers import wire
from conformance.model.case import DTYPES, ByOracle, MustRaise
from conformance.model.errors import CaseErrors
from conformance.model.row_key import RowKey
from conformance.power.harvest import collection, pipeline
from conformance.power.harvest.pipeline import ExpectedCounts, harvest, translate_source
from conformance.power.harvest.records import CollectedRecords, Opaque, Record, StatedAnswer, decode, encode, to_plain
from conformance.power.harvest.source import HarvestError, select_sources
from conformance.power.harvest.statements import judge_results
from conformance.power.harvest.translation import CaseDraft, UntranslatableError, build_case, to_name
from conformance.reference.oracle import Oracle
from conformance.tests.fork_server import interpreter
from conformance.tests.quarries import Quarry, only

pytest_plugins = ["pytester"]
TIMEOUT = 60.0


@pytest.fixture
def quarry(tmp_path, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    return Quarry(tmp_path / "site")


@pytest.fixture
def yielded(quarry, monkeypatch):
    """What a fake project yields that is read in a way of its own."""

    def yields(collect, timeout=TIMEOUT):
        only(monkeypatch, quarry.source(collect))
        return harvest(timeout=timeout)

    return yields


def failure(yielded, collect, timeout=TIMEOUT):
    (error,) = yielded(collect, timeout).errors
    return str(error)


# What is found


def test_recorder_records_arguments_of_losses_in_tests(yielded):
    (made,) = yielded("recorded").harvests
    assert made.inputs == 6
    ids = [case.id for case in made.cases]
    assert ids == [
        "harvest/quarry/probabilities_index/loss_of_random_numbers",
        "harvest/quarry/probabilities_index/loss_plain",
        "harvest/quarry/probabilities_index/loss_plain_2",
        "harvest/quarry/probabilities_index/loss_refuses",
    ]
    plain_, doubled = made.cases[1], made.cases[2]
    assert plain_.predictions.tolist() == [[0.5, 0.5], [0.25, 0.75]], "as it was when the call was made"
    assert doubled.predictions.shape == (4, 2)
    assert doubled.reductions == ("sum",)
    assert made.cases[3].expect == MustRaise("label_out_of_range")
    assert made.duplicates == 1
    assert made.untranslated == {"labels that are not an array of numbers": 1}
    assert plain_.source == "quarry 1.5, quarry/test_losses.py::test_loss_plain"
    assert (plain_.path, plain_.line) == ("quarry/test_losses.py", 11)


def test_recorder_keeps_stated_answer(yielded):
    (made,) = yielded("recorded").harvests
    (statement,) = made.statements
    assert statement.case.id.endswith("/loss_plain")
    assert (float(statement.stated.values), statement.stated.atol) == (1.0397, 1e-3)
    (published,) = statement.case.published
    assert (published.value, published.reduction) == ("1.040", "mean")


def test_recorder_seeds_random_numbers(quarry, monkeypatch):
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    only(monkeypatch, quarry.source("recorded"))
    first, second = (harvest(timeout=TIMEOUT).cases[0] for _ in range(2))
    assert first.id.endswith("random_numbers")
    assert first.digest == second.digest


def test_parameters_are_read_without_running_the_test(yielded):
    (made,) = yielded("marked").harvests
    assert [case.labels.tolist() for case in made.cases] == [[0], [1]]
    assert [held.holds for held in judge_results(made.statements, Oracle())] == ["holds", "holds"]


def test_source_reads_data_files(yielded):
    (made,) = yielded("data").harvests
    assert (made.inputs, len(made.cases), made.duplicates, made.notes) == (2, 1, 1, ("a note",))
    assert made.cases[0].reductions == ("none",)


def test_harvest_notes_number_of_failing_tests(quarry, yielded):
    with (quarry.folder / "quarry" / "test_losses.py").open("a") as out:
        out.write("\n\ndef test_loss_wrong():\n    assert loss([0], [[0.5, 0.5]]) == 5\n")
    (made,) = yielded("recorded").harvests
    assert made.notes == ("1 of 6 tests fail there",)
    assert any(case.id.endswith("/loss_wrong") for case in made.cases)


def test_recorder_ignores_user_settings(quarry, yielded, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    (quarry.folder.parent / "pytest.ini").write_text("[pytest]\naddopts = --neither-this\n")
    assert yielded("recorded").harvests[0].inputs == 6


def test_collection_is_cached_until_tests_change(quarry, monkeypatch):
    only(monkeypatch, quarry.source("recorded"))
    text = []
    for _ in range(2):
        assert harvest(timeout=TIMEOUT, progress=text.append).harvests[0].inputs == 6
    assert text == ["reading quarry 1.5"]
    with (quarry.folder / "quarry" / "test_losses.py").open("a") as out:
        out.write("\n\ndef test_loss_more():\n    loss([0], [[0.125, 0.875]])\n")
    assert harvest(timeout=TIMEOUT, progress=text.append).harvests[0].inputs == 7
    assert len(text) == 2


def test_broken_cache_is_ignored(quarry, monkeypatch, tmp_path):
    only(monkeypatch, quarry.source("data"))
    harvest(timeout=TIMEOUT)
    (kept,) = (tmp_path / "cache" / "harvest").iterdir()
    kept.write_bytes(kept.read_bytes()[:-40])
    assert harvest(timeout=TIMEOUT).harvests[0].inputs == 2


# What goes wrong over there


def test_harvest_reports_shortfall(quarry, yielded, monkeypatch):
    source = quarry.source("recorded")
    only(monkeypatch, source)
    on_record = ExpectedCounts(">=1.5,<2", found=6, cases=5, measured="1.5")
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: on_record)
    found = harvest(timeout=TIMEOUT)
    (error,) = found.errors
    for part in (
        "quarry 1.5: 4 cases where 5 are on record",
        "labels that are not an array",
        "counts.toml",
        ">=1.5,<2",
    ):
        assert part in str(error)
    assert len(found.cases) == 4, "nothing that was found is lost"
    with pytest.raises(HarvestError):
        found.or_raise()
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: replace(on_record, found=7, cases=4))
    assert "6 inputs where 7 are on record" in str(harvest(timeout=TIMEOUT).errors[0])
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: replace(on_record, cases=4))
    assert harvest(timeout=TIMEOUT).errors == ()


def test_harvest_reports_import_error(quarry, yielded):
    quarry.write("quarry/test_losses.py", "import no_such_package\n")
    message = failure(yielded, "recorded")
    assert re.match(r"quarry 1.5: it cannot be read: its internals have moved: .*test_losses.py cannot be imp", message)
    assert "no_such_package" in message


def test_harvest_reports_missing_function(quarry, yielded):
    quarry.write("quarry/test_losses.py", "def test_loss():\n    pass\n")
    assert "there is no quarry.test_losses.loss" in failure(yielded, "recorded")


def test_harvest_reports_missing_file(quarry, yielded):
    (quarry.folder / "quarry" / "test_losses.py").unlink()
    assert re.search(r"there is no .*quarry.test_losses\.py", failure(yielded, "recorded"))


def test_harvest_reports_missing_tests(quarry, yielded):
    quarry.write("quarry/test_losses.py", "from quarry.losses import loss\nassert_allclose = loss\n")
    assert "0 tests of test_losses.py ran where 1 were expected" in failure(yielded, "recorded")


def test_harvest_reports_renamed_parameters(quarry, yielded):
    file = quarry.folder / "quarry" / "test_losses.py"
    file.write_text(file.read_text().replace('"y, p, answer"', '"y, q, answer"'))
    assert "test_specific has the parameters y, q, answer, not y, p, answer" in failure(yielded, "marked")


def test_harvest_reports_exception_in_source(yielded):
    assert "it cannot be read: ZeroDivisionError: division by zero" in failure(yielded, "lambda: 1 / 0")


def test_collection_times_out(quarry, yielded):
    quarry.write("quarry/test_losses.py", "import time\nprint('so far', flush=True)\ntime.sleep(600)\n")
    message = failure(yielded, "lambda: __import__('quarry.test_losses')", timeout=2.0)
    assert message.startswith("quarry 1.5: it was not read within 2 s; it said: so far; ")


def test_harvest_reports_crashed_collector(quarry, yielded):
    quarry.write("quarry/test_losses.py", "import os\nos.write(2, b'last words')\nos.abort()\n")
    message = failure(yielded, "lambda: __import__('quarry.test_losses')")
    assert "the process that reads it was killed by SIGABRT; it said: last words" in message


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel to end it with its parent")
def test_collector_of_killed_harvest_ends_and_leaves_nothing(quarry, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    quarry.write("quarry/test_losses.py", "import time, os\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    quarry.source("lambda: __import__('quarry.test_losses')")
    script = "import dataclasses, quarry_source; from conformance.power.harvest import collection\n"
    script += "collection.collect_all([dataclasses.replace(quarry_source.SOURCE, origin='quarry_source:SOURCE')])"
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment) as harvesting:
        deadline = time.monotonic() + TIMEOUT
        while not (found := [path for path in temporary.glob("*/printed") if path.read_text().strip()]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        collector = int(found[0].read_text())
        harvesting.kill()
    while Path(f"/proc/{collector}").exists() and "State:\tZ" not in Path(f"/proc/{collector}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    remove_stale("conformance-harvest-")
    assert not list(temporary.iterdir())


def test_failed_source_does_not_stop_others(quarry, monkeypatch):
    good = quarry.source("data")
    quarry.write("quarry_wrong.py", "import os\nSOURCE = property()\nos._exit(3)\n")
    wrong = replace(good, name="wrong", origin="quarry_wrong:SOURCE")
    only(monkeypatch, good)
    monkeypatch.setattr(pipeline, "select_sources", lambda _: [wrong, good])
    found = harvest(timeout=TIMEOUT)
    assert [made.source for made in found.harvests] == ["quarry"]
    assert "wrong 1.5: the process that reads it exited with status 3" in str(found.errors[0])


def test_missing_source_is_skipped(quarry, monkeypatch):
    good = quarry.source("data")
    absent = replace(good, name="absent", distribution="no-such-thing", modules={"no_such_thing": "no-such-thing"})
    lacking = replace(good, name="lacking", modules={"quarry": "quarry", "no_such_helper": "no-such-helper"})
    only(monkeypatch, good)
    monkeypatch.setattr(pipeline, "select_sources", lambda _: [absent, lacking, good])
    found = harvest(timeout=TIMEOUT)
    assert found.missing == (
        "absent: no-such-thing is not installed (pip install no-such-thing)",
        "lacking: no-such-helper is not installed (pip install no-such-helper)",
    )
    monkeypatch.setattr(pipeline, "select_sources", lambda _: [absent])
    with pytest.raises(HarvestError, match="nothing to harvest: absent"):
        harvest()


def test_harvest_rejects_unknown_source():
    with pytest.raises(HarvestError, match=r"unknown source 'nosuch'; expected one of .*optax"):
        select_sources(["nosuch"])


# What travels


def test_record_round_trips():
    arguments = {
        "array": np.array([[1.5, -0.0]], dtype=np.float32),
        "nothing": None,
        "text": ["a", "b"],
        "options": {"axis": -1, "weight": np.array(2.5)},
        "function": Opaque("function"),
        "infinite": float("inf"),
    }
    sent = Record(
        "t.py::test", "name", "loss", arguments, StatedAnswer(np.array([1.0, np.nan]), "float64", 1e-7, 0.0), "E", 7
    )
    content = b"".join(encode(CollectedRecords((sent,), ("a note",))))
    place = [0]

    def take(count):
        place[0] += count
        return content[place[0] - count : place[0]]

    collected = decode(wire.read_message(take))
    (got,), (note,) = collected.records, collected.notes
    assert note == "a note"
    assert (got.test, got.name, got.function, got.raised, got.line) == ("t.py::test", "name", "loss", "E", 7)
    assert got.arguments["array"].dtype == np.float32
    assert np.signbit(got.arguments["array"][0, 1])
    assert got.arguments["options"]["weight"].tolist() == 2.5
    kept = ("nothing", "text", "function", "infinite")
    assert [got.arguments[name] for name in kept] == [arguments[name] for name in kept]
    assert np.isnan(got.stated.values[1])


def test_to_plain_reads_foreign_arrays_only():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return np.array([1.0, 2.0])

    class Tracer:
        def __array__(self, dtype=None, copy=None):
            raise TypeError

    class Warns(Foreign):
        def __array__(self, dtype=None, copy=None):
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
            return np.array([1.0])

    assert to_plain(Foreign()).tolist() == [1.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as tests of others do
        assert to_plain(Warns()).tolist() == [1.0]
    assert to_plain(Tracer()) == Opaque("Tracer")
    assert to_plain(np.array(["x", "y"])) == ["x", "y"]
    original = np.zeros(2)
    copy = to_plain(original)
    original += 1
    assert copy.tolist() == [0, 0]


# What is said


def draft(predictions=((0.5, 0.5), (0.25, 0.75)), labels=(0, 1), **said):
    usual = {"loss": "categorical", "input_kind": "probabilities", "target": "index", "reduction": "mean"}
    return CaseDraft(**{**usual, **said}, predictions=to_plain(predictions), labels=to_plain(labels))


def said(drafted):
    return build_case(Record("t.py::test", "name", "loss", {}), drafted, "name", "harvest/quarry", "quarry 1.5")


CUBE = np.arange(24.0).reshape(2, 3, 4)


def test_translation_moves_class_axis_and_keeps_requested_axis():
    by_nature = said(draft(CUBE, np.zeros((2, 4), int), input_kind="logits", class_axis=1))
    assert by_nature.predictions.shape == (2, 4, 3)
    assert by_nature.layout.class_axis == -1
    asked = said(draft(CUBE, np.zeros((2, 4), int), input_kind="logits", class_axis=1, is_axis_argument=True))
    assert asked.layout.class_axis == 1
    assert np.array_equal(asked.predictions, by_nature.predictions)


def test_translation_keeps_single_sample_without_batch():
    single = said(draft((0.5, 0.5), labels=np.array(1), sample_weights=np.array([2.0])))
    assert (single.predictions.shape, single.labels.shape) == ((2,), ())
    assert single.options.sample_weights.shape == ()
    column = said(draft((0.5, 0.5), labels=np.array([1])))
    assert (column.labels.shape, column.layout.labels) == ((), "column")
    output = said(draft(np.array(0.5), np.array(1.0), loss="binary", target="binary", sample_weights=2.0))
    assert (output.predictions.shape, output.options.sample_weights.tolist()) == ((), 2.0)


def test_translation_of_single_output_expects_error_beside_labels_with_an_axis():
    output = said(draft(np.array(0.5), np.array([1.0]), loss="binary", target="binary"))
    assert (output.labels.shape, output.expect) == ((1,), MustRaise("shape_mismatch"))


def test_translation_makes_layout_of_label_column():
    column = said(draft(labels=[[0], [1]]))
    assert (column.labels.tolist(), column.layout.labels) == ([0, 1], "column")


def test_translation_broadcasts_weight():
    predictions = np.full((2, 3), 0.5)
    binary = {"loss": "binary", "target": "binary"}
    each = said(draft(predictions, np.ones((2, 3)), sample_weights=np.array([1.0, 2.0, 3.0]), **binary))
    assert each.options.sample_weights.tolist() == [[1, 2, 3], [1, 2, 3]]
    per_sample = said(
        draft(predictions, np.ones((2, 3)), sample_weights=np.array([[1.0], [2.0]]), per_sample=True, **binary)
    )
    assert per_sample.options.sample_weights.tolist() == [1, 2]
    assert said(draft(sample_weights=3)).options.sample_weights.tolist() == [3, 3]


def test_translation_selects_dtypes_that_keep_the_numbers():
    half = np.array([[0.5, 0.5], [0.25, 0.75]], dtype=np.float16)
    assert said(draft(half)).dtypes == ("float16", "float32", "float64")
    assert said(draft([[1e-60, 1.0], [0.5, 0.5]])).dtypes == ("float64",)
    assert set(said(draft()).dtypes) < set(DTYPES)


def test_translation_expects_error_of_invalid_input():
    assert said(draft(labels=[0, 1])).expect == ByOracle()
    assert said(draft(labels=[0, 2])).expect == MustRaise("label_out_of_range")
    assert said(draft(labels=[0, 1, 1])).expect == MustRaise("shape_mismatch")
    assert said(draft([[0.5, 1.5], [0.5, 0.5]])).expect == MustRaise("invalid_probability")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"predictions": Opaque("JVPTracer")}, "traced by a transformation, without values"),
        ({"predictions": Opaque("Module")}, "predictions that are Module"),
        ({"labels": ["a", "b"]}, "labels that are not an array of numbers"),
        ({"labels": np.array([0.5, 1.0])}, "indices that are not whole numbers"),
        ({"class_axis": 5}, "predictions without an axis of classes"),
        ({"class_weights": np.ones(3)}, "class weights of shape [3] for 2 classes"),
        ({"sample_weights": np.ones(3)}, "sample weights that do not fit the samples"),
        ({"label_smoothing": 1.5}, "a label smoothing outside [0, 1]"),
        ({"predictions": np.array([[0.5, 1.5], [0.5, 0.5]]), "labels": np.array([0, 7])}, "more than one thing"),
        ({"predictions": np.ones((500, 500))}, "more than 100000 numbers"),
        ({"predictions": np.ones((2, 0))}, "predictions without classes"),
    ],
)
def test_untranslatable_record_has_reason(wrong, reason):
    with pytest.raises(UntranslatableError, match=re.escape(reason)):
        said(replace(draft(), **wrong))


@pytest.mark.parametrize("text", ["Keras_torch", "2d-mean", "test_TF", "a.b[c]", "onnx", "___", "tf_tf_jax"])
def test_to_name_makes_valid_case_names(text):
    assert not list(name_errors(schema_of(loading.SCHEMA), to_name(text)))


# What is stated


def stated(value, dtype="", rtol=0.0, atol=0.0, documented="", **asked):
    found = Record("t.py::test", "name", "loss", {}, StatedAnswer(np.array(value), dtype, rtol, atol))
    case = said(draft(**asked))
    (verdict,) = judge_results([pipeline.StatedResult(case, found.stated, documented, "3.15.1")], Oracle())
    return verdict


def test_stated_answer_is_compared_with_oracle():
    exact = (np.log(2) - np.log(0.75)) / 2
    assert stated(exact, "float64").holds == "holds"
    assert stated(0.49, atol=1e-2).holds == "holds"
    wrong = stated(0.49, atol=1e-4)
    assert wrong.holds == "does not hold"
    assert "0.49 is stated where 0.490" in str(wrong)


def test_stated_answer_holds_by_named_convention():
    weights = {"sample_weights": np.array([1.0, 3.0])}
    kept = (np.log(2) - 3 * np.log(0.75)) / 2
    assert stated(kept, "float64", **weights).holds == "does not hold"
    by = stated(kept, "float64", documented="keras.SparseCategoricalCrossentropy", **weights)
    assert (by.holds, by.convention) == ("holds by its convention", "mean_divides_by=kept")


def test_stated_answer_for_invalid_input_does_not_hold():
    assert "a number is stated where" in str(stated(0.5, "float64", labels=[0, 2]))


def test_stated_answer_for_log_probabilities_above_zero_holds_as_they_are():
    above = {"predictions": [[0.25, 0.5], [0.75, 0.25]], "input_kind": "log_probabilities"}
    held = stated(-0.25, "float64", **above)
    assert (held.case.expect, held.holds) == (MustRaise("invalid_probability"), "holds by its convention")
    assert held.convention == "accepts=invalid_probability"
    assert stated(0.25, "float64", **above).holds == "does not hold"


# What is done with it


def test_saved_harvest_round_trips(yielded, tmp_path):
    made = yielded("recorded").harvests
    files = pipeline.save(made, tmp_path / "cases" / "harvest")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "cases/harvest/quarry/probabilities_index.yaml"
    ]
    back = loading.load(tmp_path / "cases")
    assert [(case.id, case.digest, case.published) for case in back] == [
        (case.id, case.digest, case.published) for case in made[0].cases
    ]


def test_saved_single_sample_is_read_without_batch(yielded, tmp_path):
    (made,) = yielded("data").harvests
    single = replace(said(draft((0.5, 0.5), labels=np.array(1))), id=made.cases[0].id)
    pipeline.save([replace(made, cases=(single,))], tmp_path)
    (read,) = loading.load(tmp_path)
    assert (read.predictions.shape, read.labels.shape) == ((2,), ())


def test_save_allows_folder_named_as_framework(yielded, tmp_path):
    (made,) = yielded("data").harvests
    case = replace(made.cases[0], id=made.cases[0].id.replace("quarry", "torch"))
    pipeline.save([replace(made, cases=(case,))], tmp_path)
    assert [case.id for case in loading.load(tmp_path)] == ["torch/probabilities_index/row"]


def ledger_of(monkeypatch, *names):
    entries = [KnownIssue(name, "torch.NLLLoss", path="k", line=3) for name in names]
    monkeypatch.setattr(known_issues, "load", lambda _: Ledger(entries))


def test_ledger_matches_harvested_cases(quarry, monkeypatch):
    only(monkeypatch, quarry.source("data"))
    ledger_of(monkeypatch, "harvest/quarry/probabilities_index/row", "harvest/elsewhere/*", "categorical/*")
    case_set, _ = pipeline.load_harvest()
    cases, ledger = case_set.cases, case_set.ledger
    assert [case.id for case in cases] == ["harvest/quarry/probabilities_index/row"]
    assert ledger.find(RowKey(cases[0].id, "", "torch.NLLLoss", "float32", "none", version="2.13.0")) is not None
    assert [entry.case for entry in ledger.entries] == ["harvest/quarry/probabilities_index/row", "harvest/elsewhere/*"]


def test_ledger_rejects_entry_about_missing_harvested_case(quarry, monkeypatch):
    only(monkeypatch, quarry.source("data"))
    ledger_of(monkeypatch, "harvest/quarry/probabilities_index/gone")
    pipeline.load_harvest()  # of a version that nobody measured, nothing is known
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: ExpectedCounts("", 1, 1, measured="1.5"))
    with pytest.raises(CaseErrors, match=r"^k:3:1: torch.NLLLoss on harvest/quarry/.*/gone is known, but"):
        pipeline.load_harvest()


def test_each_source_has_expected_counts():
    assert set(pipeline.load_counts()) == {source.name for source in select_sources()}
    for source, entries in pipeline.load_counts().items():
        for entry in entries:
            assert entry.found >= entry.cases > 0
            assert pipeline.expected_counts(source, entry.measured) == entry


def test_untranslated_records_are_counted_by_reason(quarry):
    arguments = {"y": ["a"], "p": np.array([[0.5, 0.5]]), "reduction": "mean", "weight": None, "axis": -1}
    found = [Record("t.py::test", "x", "loss", arguments)] * 3
    made = translate_source(quarry.source("data"), CollectedRecords(tuple(found)))
    assert made.untranslated == {"labels that are not an array of numbers": 3}


def test_parse_rejects_truncated_message(quarry):
    with pytest.raises(wire.WireError):
        collection.parse(quarry.source("data"), b"".join(encode(CollectedRecords(())))[:-1])


# Runs of pytest

FAKES = """
import quarry_source
from conformance.adapters import registry
from conformance.power.harvest import pipeline, source
from conformance.tests import miniatures

FRAMEWORK = miniatures.framework(miniatures.Categorical, miniatures.Clips)
registry.frameworks = lambda: (FRAMEWORK,)
MADE = source.Source(**{**vars(quarry_source.SOURCE), "origin": "quarry_source:SOURCE"})
source.all_sources = lambda: {"quarry": MADE}
pipeline.expected_counts = lambda *_: None
"""


@pytest.fixture
def pytested(quarry, pytester, monkeypatch):
    """Runs pytest where the fake project is installed and fake frameworks are."""
    quarry.source("data")
    monkeypatch.setenv("PYTHONPATH", str(quarry.folder), prepend=os.pathsep)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(fakes=FAKES)

    def run(*arguments):
        return interpreter().run_pytest(pytester.path, "-p", "fakes", "-p", "no:cacheprovider", *arguments)

    return run


def test_run_harvested_cases_only(pytested):
    result = pytested("--harvest", "-v")
    result.stdout.fnmatch_lines(
        [
            "conformance: harvested 1 case of quarry 1.5",
            "*Categorical-harvest/quarry/probabilities_index/row-float32-none* PASSED*",
        ]
    )
    assert set(result.parseoutcomes()) == {"passed"}
    assert "categorical/" not in result.stdout.str()


def test_run_harvested_cases_with_folder(pytested, pytester):
    case = "predictions: [[0.5, 0.5]]\n    labels: [0]\n    dtypes: [float32]\n    why: It is here."
    head = "# yaml-language-server: $schema=../conformance/case.schema.json\nabout: a\nsource: none\n"
    said = "loss: categorical\ngiven: probabilities\ntarget: index\ncases:\n  here:\n    "
    (pytester.path / "mine").mkdir()
    (pytester.path / "mine" / "x.yaml").write_text(head + said + case)
    ids = pytested("--cases", "mine", "--harvest=quarry", "--collect-only", "-q").stdout.str()
    assert "-x/here-float32-mean]" in ids
    assert "-harvest/quarry/probabilities_index/row-float32-none]" in ids


def test_run_rejects_unknown_source(pytested):
    result = pytested("--harvest", "elsewhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown source 'elsewhere'; expected one of quarry"])


# The command


@pytest.fixture
def command(monkeypatch, capsys):
    """`conformance harvest` in this process: (exit status, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["conformance", "harvest", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_harvest_command_prints_table(quarry, monkeypatch, command, tmp_path):
    only(monkeypatch, quarry.source("recorded"))
    status, out, err = command("--save", tmp_path / "saved")
    assert status == 0
    assert re.search(r"quarry +1\.5 +6 +4 +1 +1 +1 +1 +0 +0\n", out)
    assert "quarry: 1 are not cases: labels that are not an array of numbers" in out
    assert f"4 cases in 1 file below {tmp_path / 'saved'}" in err
    status, out, _ = command("--json")
    said = json.loads(out, parse_constant=pytest.fail)
    assert (said["schema"], said["missing"]) == ("conformance.harvest/1", [])
    assert said == json.loads(api.harvest().to_json())
    (facts,) = said["sources"]
    assert (facts["found"], facts["cases"], facts["stated"], facts["wrong"]) == (6, 4, {"holds": 1}, [])


def test_harvest_command_fails_for_wrong_stated_answer(quarry, monkeypatch, command):
    file = quarry.folder / "quarry" / "test_losses.py"
    file.write_text(file.read_text().replace("0.2876820724517809", "0.2877"))
    only(monkeypatch, quarry.source("marked"))
    status, out, _ = command()
    assert status == 1
    assert "does not hold harvest/quarry/probabilities_index/specific_2: 0.2877 is stated where 0.28768207" in out


def test_harvest_command_prints_and_saves_before_failing(quarry, monkeypatch, command, tmp_path):
    only(monkeypatch, quarry.source("data"))
    monkeypatch.setattr(pipeline, "expected_counts", lambda *_: ExpectedCounts("", found=9, cases=1, measured="1.5"))
    status, out, err = command("--save", tmp_path / "saved")
    assert status == 2
    assert re.search(r"quarry +1\.5 +2 +1 ", out)
    assert "quarry 1.5: 2 inputs where 9 are on record" in err
    assert len(loading.load(tmp_path / "saved")) == 1
