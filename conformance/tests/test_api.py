"""The commands as functions: what they return is what the commands print."""

from __future__ import annotations

import contextlib

import pytest

from conformance import api, report
from conformance.adapters import registry
from conformance.adapters.contract import LoweringError
from conformance.judging import judge
from conformance.judging.selection import SelectionError
from conformance.model.errors import UserError
from conformance.tests import miniatures
from conformance.tests.test_json_output import CASES


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
    monkeypatch.setattr(registry, "installed", lambda among=None: ([miniatures.installed(*losses)], []))
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "x.yaml").write_text(CASES, encoding="utf-8")

    def made(**options):
        words = {"report": tmp_path / "report", "cases": tmp_path / "cases", "in_process": True}
        return api.RunRequest(**{**words, **options})

    return made


def test_run_returns_what_its_report_says(request_of):
    heard = Listening()
    ended = api.run(request_of(), observer=heard)
    table, record = report.read(request_of().report)
    assert ended.complete
    assert ended.record == record
    assert (len(ended.rows), ended.items) == (len(table), len(heard.made))
    facts = ended.facts()
    assert facts["status"] == record["status"]
    assert {row["function"] for row in facts["unexpected"]} == {"miniature.DropsSmoothing"}


def test_run_against_baseline_says_what_got_worse(request_of, tmp_path):
    api.run(request_of(report=tmp_path / "accepted"))
    ended = api.run(request_of(), tmp_path / "accepted")
    assert ended.check is not None
    assert ended.check.ok


def test_run_that_is_interrupted_returns_rows_so_far(request_of, monkeypatch):
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


def test_failure_of_the_suite_is_in_the_result_with_rows_so_far(request_of):
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
def test_run_of_nothing_or_of_options_at_odds_leaves_the_folder_as_it_was(request_of, options):
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
        assert {row["function"] for row in answer.rows} == {"miniature.Categorical", "miniature.DropsSmoothing"}
        (right,) = [row for row in answer.rows if row["function"] == "miniature.Categorical"]
        if answer.reduction == "mean":
            assert float(answer.exact) == pytest.approx(float(right["got"]), rel=1e-6)
    (only,) = {answer.dtype for answer in api.show("x/smoothed", cases, "float32").answers}
    assert only == "float32"


def test_show_keeps_answers_whose_calls_cannot_be_made(request_of, monkeypatch):
    monkeypatch.setattr(judge.Judge, "assess", unexecutable)
    shown = api.show("x/smoothed", request_of().cases)
    assert not any(answer.rows for answer in shown.answers)
    assert {failure.why for failure in shown.not_executed} == {"there is no such argument"}


def test_explain_returns_the_case_and_what_each_function_does(request_of):
    case, explanation = api.explain("x/smoothed", request_of().cases, ["miniature.DropsSmoothing"], reduction="none")
    assert (case.id, explanation.dtype, explanation.reduction) == ("x/smoothed", "float32", "none")
    assert [result.function for result in explanation.functions] == ["miniature.DropsSmoothing"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda cases: api.show("x/nothing", cases),
        lambda cases: api.show("x/smoothed", cases, "float8"),
        lambda cases: api.explain("x/smoothed", cases, ["miniature.Nobody"]),
        lambda cases: api.explain("x/smoothed", cases, quantity="hessian"),
        lambda cases: api.expect("x/nothing", cases=cases),
        lambda cases: api.relations("nobody", cases=cases),
    ],
)
def test_functions_refuse_what_does_not_exist(request_of, ask):
    with pytest.raises(SelectionError):
        ask(request_of().cases)


def test_lint_returns_what_is_wrong_with_its_line(request_of):
    folder = request_of().cases
    assert api.lint(folder).problems == []
    file = folder / "x.yaml"
    file.write_text(file.read_text().replace("label_smoothing", "label_smothing"), encoding="utf-8")
    found = api.lint(folder)
    assert [problem.path for problem in found.problems] == [str(file)] * len(found.problems) != []
    assert all(problem.line > 0 for problem in found.problems)


def test_relations_are_held_until_interrupted(request_of):
    whole = api.relations(cases=request_of().cases)
    assert whole.complete
    assert whole.facts()["planned"] == len(whole.results)

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
    monkeypatch.setattr("conformance.api.checks.perform", unexecutable)
    found = api.relations(cases=request_of().cases)
    assert found.results == []
    assert len(found.not_executed) == found.planned > 0


def test_every_name_of_the_package_can_be_imported():
    assert all(getattr(api, name).__doc__ for name in api.__all__)
    with pytest.raises(AttributeError, match="nobody"):
        _ = api.nobody
