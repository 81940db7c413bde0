"""The commands as functions: what they return is what the commands print."""

from __future__ import annotations

import contextlib
import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import api, report
from conformance.adapters import registry
from conformance.adapters.contract import LoweringError
from conformance.comparison import history
from conformance.judging import judge
from conformance.judging.selection import SelectionError
from conformance.model.errors import UserError
from conformance.report import RunInfo
from conformance.tests import miniatures
from conformance.tests.cli.test_json_output import CASES
from conformance.tests.comparison.test_audit import BAD
from conformance.tests.report.test_report import row


class Listening(api.Observer):
    """Keeps what it hears."""

    def __init__(self):
        self.notes = []
        self.made = []

    def note(self, line):
        self.notes.append(line)

    def rows(self, count):
        return contextlib.nullcontext(self.made.append)


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """A request for cases of miniatures, of which one is wrong."""
    losses = miniatures.Categorical, miniatures.DropsSmoothing
    framework = miniatures.framework(*losses)
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    monkeypatch.setattr(registry, "installed", lambda candidates=None: ([miniatures.installed(*losses)], []))
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "x.yaml").write_text(CASES, encoding="utf-8")

    def made(**options):
        words = {"report": tmp_path / "report", "cases": tmp_path / "cases", "in_process": True}
        return api.RunRequest(**{**words, **options})

    return made


def test_run_continues_without_unusable_adapters(request_of, monkeypatch):
    monkeypatch.setattr(registry, "_found", lambda: ({}, [registry.AdapterError("the adapter odd cannot be loaded")]))
    ordinary = len(api.run(request_of(keyword="mini")).results)
    ended = api.run(request_of())
    assert ended.complete
    assert len(ended.results) == ordinary + 1
    [row] = [row for row in ended.rows_that_are("unexpected") if not row.key.case]
    assert row.explanation == "the adapter odd cannot be loaded"
    assert len(api.run(request_of(frameworks=("miniature",))).results) == ordinary
    with pytest.raises(SelectionError, match=r"no such framework; .*\nthe adapter odd cannot be loaded"):
        api.run(request_of(frameworks=("odd",)))


def test_run_returns_rows_and_record_of_its_report(request_of):
    heard = Listening()
    ended = api.run(request_of(), observer=heard)
    table, record = report.read(request_of().report)
    assert ended.complete
    assert ended.record == record
    assert (len(ended.rows), ended.items) == (len(table), len(heard.made))
    values = ended.to_dict()
    assert values["status"] == record["status"]
    assert {row["function"] for row in values["unexpected"]} == {"miniature.DropsSmoothing"}
    assert [failure.row for failure in ended.failures()] == values["unexpected"]


def test_run_against_own_report_passes_baseline(request_of, tmp_path):
    api.run(request_of(report=tmp_path / "accepted"))
    ended = api.run(request_of(), tmp_path / "accepted")
    assert ended.check is not None
    assert ended.check.ok


def test_interrupted_run_returns_finished_rows(request_of, monkeypatch):
    class Stops(Listening):
        def rows(self, count):
            @contextlib.contextmanager
            def interrupted():
                def advance(framework):
                    self.made.append(framework)
                    if len(self.made) == 2:
                        raise KeyboardInterrupt

                yield advance

            return interrupted()

    ended = api.run(request_of(), observer=Stops())
    assert (ended.complete, ended.stopped, len(ended.rows)) == (False, "interrupted", 2)
    heard = Listening()
    again = api.run(request_of(resume=True), observer=heard)
    assert again.complete
    assert len(heard.made) == len(again.rows) - 2
    assert any(line.startswith("going on with the run of ") for line in heard.notes)


def test_run_of_selection_has_published_numbers_of_its_cases_only(request_of):
    request = request_of()
    file = request.cases / "x.yaml"
    published = "    published: [{value: '1', source: somewhere}]\n"
    file.write_text(re.sub(r"(    why: .*\n)", rf"\1{published}", file.read_text(encoding="utf-8")), encoding="utf-8")
    selections = ("", "smoothed", "plain")
    numbers = [api.run(replace(request, keyword=keyword)).record["published"] for keyword in selections]
    assert [len(found) for found in numbers] == [2, 1, 1]
    assert numbers[0] == [*numbers[2], *numbers[1]]


def test_run_returns_exception_and_partial_rows(request_of):
    class Fails(Listening):
        def rows(self, count):
            return contextlib.nullcontext(lambda framework: [][0])

    ended = api.run(request_of(), observer=Fails())
    assert isinstance(ended.failure, IndexError)
    assert (ended.complete, len(ended.rows)) == (False, 1)


@pytest.mark.parametrize(
    "options",
    [{"environments": ("six",)}, {"processes": 2}, {"engine": "ray"}, {"engine": "spark"}, {"keyword": "nobody"}],
)
def test_run_rejects_conflicting_options_without_writing_report(request_of, options):
    with pytest.raises(UserError):
        api.run(request_of(**options))
    assert not request_of().report.exists()


def unexecutable(*arguments):
    """A performer for calls that the adapter gets wrong."""
    raise LoweringError("there is no such argument")


def test_show_returns_exact_answers_beside_rows(request_of):
    cases = request_of().cases
    shown = api.show("x/smoothed", cases)
    assert {(answer.dtype, answer.reduction) for answer in shown.answers} == {
        (dtype, reduction) for dtype in shown.case.dtypes for reduction in shown.case.reductions
    }
    for answer in shown.answers:
        assert {row.key.function for row in answer.rows} == {"miniature.Categorical", "miniature.DropsSmoothing"}
        (right,) = [row for row in answer.rows if row.key.function == "miniature.Categorical"]
        if answer.reduction == "mean":
            assert float(answer.exact) == pytest.approx(float(right.got.values), rel=1e-6)
    (only,) = {answer.dtype for answer in api.show("x/smoothed", cases, "float32").answers}
    assert only == "float32"


def test_show_keeps_answers_whose_calls_cannot_be_made(request_of, monkeypatch):
    monkeypatch.setattr(judge.Judge, "assess", unexecutable)
    shown = api.show("x/smoothed", request_of().cases)
    assert not any(answer.rows for answer in shown.answers)
    assert {failure.why for failure in shown.not_executed} == {"there is no such argument"}


def test_explain_returns_the_case_and_what_each_function_does(request_of):
    result = api.explain("x/smoothed", request_of().cases, ["miniature.DropsSmoothing"], reduction="none")
    case, explanation = result.case, result.explanation
    assert (case.id, explanation.dtype, explanation.reduction) == ("x/smoothed", "float32", "none")
    assert [result.function for result in explanation.functions] == ["miniature.DropsSmoothing"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda cases: api.show("x/nothing", cases),
        lambda cases: api.show("x/smoothed", cases, "float8"),
        lambda cases: api.explain("x/smoothed", cases, ["miniature.Nobody"]),
        lambda cases: api.explain("x/smoothed", cases, quantity="third_derivative"),
        lambda cases: api.expect("x/nothing", cases=cases),
        lambda cases: api.relations("nobody", cases=cases),
    ],
)
def test_unknown_names_raise_selection_error(request_of, ask):
    with pytest.raises(SelectionError):
        ask(request_of().cases)


def test_lint_reports_line_of_problem(request_of):
    folder = request_of().cases
    assert api.lint(folder).problems == []
    file = folder / "x.yaml"
    file.write_text(file.read_text().replace("label_smoothing", "label_smothing"), encoding="utf-8")
    found = api.lint(folder)
    assert [problem.path for problem in found.problems] == [str(file)] * len(found.problems) != []
    assert all(problem.line > 0 for problem in found.problems)


def test_relations_returns_partial_results_on_interrupt(request_of):
    whole = api.relations(cases=request_of().cases)
    assert whole.complete
    assert whole.to_dict()["planned"] == len(whole.results)

    class Stops(Listening):
        def rows(self, count):
            def advance(framework):
                self.made.append(framework)
                if len(self.made) == 3:
                    raise KeyboardInterrupt

            return contextlib.nullcontext(advance)

    part = api.relations(cases=request_of().cases, observer=Stops())
    assert (part.stopped, part.complete, len(part.results)) == ("interrupted", False, 2)
    assert part.stale == []


def test_relation_whose_calls_cannot_be_made_is_not_executed(request_of, monkeypatch):
    monkeypatch.setattr("conformance.api.exploration.perform", unexecutable)
    found = api.relations(cases=request_of().cases)
    assert found.results == []
    assert len(found.not_executed) == found.planned > 0


def test_list_cases_has_every_case(request_of):
    listed = api.list_cases(request_of().cases)
    assert [case.id for case in listed.cases] == ["x/plain", "x/smoothed"]
    assert [line["case"] for line in listed.to_dict()["cases"]] == ["x/plain", "x/smoothed"]
    with pytest.raises(UserError, match=r"nowhere: .*; "):
        api.list_cases(Path("nowhere"))


@pytest.mark.usefixtures("request_of")
def test_list_functions_has_declarations_and_version():
    entries = {entry.function: entry for entry in api.list_functions().functions}
    assert set(entries) == {"miniature.Categorical", "miniature.DropsSmoothing"}
    entry = entries["miniature.Categorical"]
    assert entry.version == miniatures.installed(miniatures.Categorical).version
    assert "label_smoothing" in entry.options
    assert entry.to_dict()["not asked"] == entry.untested


def test_expect_returns_answers_with_requested_digits(request_of):
    expected = api.expect("x/plain", 5, request_of().cases)
    assert expected.to_dict() == {"case": "x/plain", "digits": 5, "expect": expected.expect}
    assert len(expected.expect["value"]["mean"].replace(".", "").lstrip("0")) <= 5


@pytest.fixture
def two_reports(tmp_path):
    """An older report, and a newer one in which a row got worse."""
    place = {"framework": "torch", "function": "torch.A", "case": "x/plain"}
    old = row(version="1", environment="torch==1", **place)
    new = row(version="2", environment="torch==2", got="5.0", **place, **BAD)
    for name, rows in (("old", [old]), ("new", [new]), ("both", [old, new])):
        report.write(tmp_path / name, report.from_records(rows), RunInfo(len(rows)))
    return tmp_path / "old", tmp_path / "new"


def test_diff_finds_regression(two_reports):
    found = api.diff(*two_reports)
    assert found.to_dict()["severity"] == {"regression": 1}
    assert found.difference.fails("regression")
    with pytest.raises(UserError, match=r"nowhere: does not exist; name "):
        api.diff(two_reports[0], Path("nowhere"))


def test_accept_replaces_baseline_only_if_confirmed(two_reports):
    old, new = two_reports
    with pytest.raises(UserError, match=r"has 1 row unexpected or stale: .*; .*--even-unexpected"):
        api.accept(new, old)
    rejected = api.accept(new, old, even_unexpected=True, confirm=lambda proposal: proposal.difference is None)
    assert (rejected.accepted, report.read(old)[0]["got"].tolist()) == (False, ["1.0"])
    accepted = api.accept(new, old, even_unexpected=True)
    assert (accepted.accepted, report.read(old)[0]["got"].tolist()) == (True, ["5.0"])
    assert accepted.to_dict()["difference"]["severity"] == {"regression": 1}
    assert api.accept(new, old, even_unexpected=True).to_dict()["same"]


def test_history_writes_the_changes_that_it_returns(two_reports, tmp_path):
    found = api.history(tmp_path / "both", tmp_path / "written")
    assert [(line["release"], line["kind"]) for line in found.to_dict()["changes"]] == [("2", "regression")]
    assert found.to_dict()["changes"] == history.read(tmp_path / "written")
    with pytest.raises(UserError, match=r"has one release of each framework.*; make one with "):
        api.history(two_reports[0])


def test_merge_writes_one_report_of_all_parts(two_reports, tmp_path):
    merged = api.merge(two_reports, tmp_path / "merged")
    assert merged.record == report.read(tmp_path / "merged")[1]
    assert merged.to_dict()["finished"] == len(merged.parts) == 2
    with pytest.raises(UserError, match="the whole would replace one of its parts; choose another folder"):
        api.merge(two_reports, two_reports[0])


def test_page_shows_comparison_beside_rows(two_reports, request_of):
    old, new = two_reports
    result = api.page(new, request_of().cases, max_explained=0, against=old)
    assert (result.rows, result.views, result.explained) == (1, ("changes",), 0)
    assert len(result.page.read_bytes()) == result.to_dict()["bytes"]
    with pytest.raises(UserError, match=r"cannot be written \(.*\); name a file in a folder"):
        api.page(new, request_of().cases, max_explained=0, output=new / "nowhere" / "page.html")


def test_recover_rejects_folder_without_journal(two_reports):
    with pytest.raises(UserError, match=r"; "):
        api.recover(two_reports[0])


@pytest.mark.usefixtures("request_of")
def test_fuzz_returns_findings_with_their_files(tmp_path):
    told = []
    result = api.fuzz(count=40, seed=1, folder=tmp_path, found=lambda finding, file: told.append((finding, file)))
    assert [finding for finding, _ in told] == list(result.findings) != []
    assert {finding.function for finding in result.findings} == {"miniature.DropsSmoothing"}
    assert [file.read_text(encoding="utf-8") for _, file in told] == [finding.text for finding in result.findings]
    assert [line["yaml"] for line in result.to_dict()["findings"]] == [finding.text for finding in result.findings]
    assert (result.state.position, result.interrupted) == (40, False)


@pytest.mark.usefixtures("request_of")
def test_fuzz_resumes_its_state_and_returns_partial_result_on_interrupt(tmp_path):
    class Stops(Listening):
        def status(self):
            def show(line):
                if line.startswith("3 cases"):
                    raise KeyboardInterrupt

            return contextlib.nullcontext(show)

    state = tmp_path / "state.json"
    part = api.fuzz(count=20, seed=1, state=state, observer=Stops())
    assert (part.interrupted, part.state.position) == (True, 3)
    whole = api.fuzz(count=20, seed=1, state=state)
    assert (whole.interrupted, whole.state.position) == (False, 20)
    assert [one.text for one in whole.findings] == [one.text for one in api.fuzz(count=20, seed=1).findings]


@pytest.mark.usefixtures("request_of")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_shape": "8"}, "--max-shape 8: write samples and classes"),
        ({"dtypes": ["float8"]}, "--dtype float8: there is no such dtype; expected one of float16"),
        ({"keyword": "nobody"}, "nothing is selected"),
    ],
)
def test_fuzz_rejects_invalid_arguments(options, message):
    with pytest.raises(UserError, match=message):
        api.fuzz(count=1, **options)


def test_functions_and_results_are_public_and_documented():
    assert all(getattr(api, name).__doc__ for name in api.__all__)
    defined = {
        name
        for module in api._MODULES
        for name, value in vars(importlib.import_module(f"conformance.api.{module}")).items()
        if getattr(value, "__module__", "").startswith("conformance.api.") and not name.startswith("_")
    }
    helpers = {
        "SILENT",
        "T",
        "failures",
        "describe_case",
        "find_case",
        "load_case",
        "check_functions",
        "frameworks_to_call",
    }
    helpers |= {"read_data", "call_example", "cells", "sweep_inputs", "setting_of", "prove_recipe"}
    helpers |= {"read_array", "infer_kind", "index_named_labels", "fit_labels"}
    helpers |= {"nan_messages", "class_axis_messages", "shifted_labels_messages"}
    assert defined - set(api.__all__) == helpers
    with pytest.raises(AttributeError, match="nobody"):
        _ = api.nobody
