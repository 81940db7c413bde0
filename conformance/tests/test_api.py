"""The commands as functions: what they return is what the commands print."""

from __future__ import annotations

import contextlib

import pytest

from conformance import api, report
from conformance.adapters import registry
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
