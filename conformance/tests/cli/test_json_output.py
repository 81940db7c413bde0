"""`--json`: one object with a schema, the same exit status as without it; and for people, 80 columns without colour."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from conformance import api, cli, report
from conformance.adapters import registry
from conformance.api.cases import find_case
from conformance.cli import shared
from conformance.docs.commands import commands
from conformance.judging.selection import SelectionError
from conformance.report import RunInfo, recording
from conformance.tests import miniatures
from conformance.tests.api import test_check
from conformance.tests.comparison import test_auditing
from conformance.tests.comparison.test_audit import BAD
from conformance.tests.execution import test_journal
from conformance.tests.explain import test_recipe
from conformance.tests.power import test_harvest
from conformance.tests.report.test_report import row
from conformance.tests.repository.test_plugin import CASES


@pytest.fixture
def conformance(monkeypatch, capsys, tmp_path):
    """The command in this process, with miniatures: (exit status, standard output)."""
    losses = miniatures.Categorical, miniatures.DropsSmoothing, miniatures.DividesBySamples, miniatures.Binary
    framework = miniatures.framework(*losses)
    monkeypatch.setattr(registry, "frameworks", lambda: (framework,))
    monkeypatch.setattr(registry, "installed", lambda candidates=None: ([miniatures.installed(*losses)], []))
    monkeypatch.setenv("CONFORMANCE_CACHE", "off")
    file = tmp_path / "cases" / "categorical" / "x.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CASES, encoding="utf-8")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["conformance", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().out

    return run


def facts(found, command):
    said = json.loads(found)
    assert said.pop("schema") == f"conformance.{command}/1"
    return said


def strict(text):
    """JSON without the words NaN and Infinity, which JSON has not."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(word))


ASKED = {
    "run": "--cases cases --report r --in-process",
    "list cases": "--cases cases",
    "list functions": "",
    "list libraries": "",
    "relations": "--cases cases -k permuted_samples",
    "fuzz": "--cases cases --cases-count 40 --seed 1",
    "mutants": "--cases cases -k CountsLabelsFromOne",
    "show": "categorical/x/smoothed --cases cases",
    "expect": "categorical/x/smoothed --cases cases",
    "lint": "cases",
    "explain": "categorical/x/smoothed --cases cases",
    "compare": "--labels labels.csv --predictions logits.csv --observed 0.5",
    "diff": "old new",
    "history": "both",
    "accept": "new --baseline old --even-unexpected --yes",
    "merge": "old new --report whole",
    "page": "old --cases cases",
    "sweep": "miniature.Binary --cases cases --dtype float16 --given logits",
}
"""What each command is asked here."""
ELSEWHERE = {
    "audit": test_auditing.test_audit_json_is_the_written_file,
    "check": test_check.test_complete_check_of_wrong_kernel_has_findings_of_every_kind,
    "bisect": test_auditing.test_bisect_json_has_releases_and_changes,
    "harvest": test_harvest.test_harvest_command_prints_table,
    "recipe": test_recipe.test_command_prints_content_of_json,
    "recover": test_journal.test_killed_run_leaves_its_rows_and_previous_report,
}
"""Commands that need more around them, and the tests that do the same with them."""


def test_commands_have_json_option():
    found = {" ".join(words): {option for parameter in command.params for option in parameter.opts}
             for words, command in commands()}  # fmt: skip
    assert [name for name, options in found.items() if "--json" not in options] == []
    assert set(found) == {*ASKED, *ELSEWHERE}


@pytest.mark.parametrize("command", ASKED)
def test_json_output_is_one_strict_object(conformance, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    at = {"case": "categorical/x/plain", "framework": "torch"}
    nowhere = {"error": float("nan"), "budget": float("nan"), "ratio": float("inf"), "ulps": float("inf")}
    old = row(version="1", environment="torch==1", **at)
    new = row(version="2", environment="torch==2", got="nan", **at, **nowhere, **BAD)
    for folder, lines in (("old", [old]), ("new", [new]), ("both", [old, new])):
        report.write(tmp_path / folder, report.from_records(lines), RunInfo(len(lines)))
    (tmp_path / "labels.csv").write_text("0\n1\n", encoding="utf-8")
    (tmp_path / "logits.csv").write_text("1.5,-0.5\n0.25,2\n", encoding="utf-8")
    status, out = conformance(*command.split(), *ASKED[command].split(), "--json")
    assert status in (0, 1)
    said = strict(out)
    assert said["schema"] == f"conformance.{command.replace(' ', '.')}/1"
    assert len(said) > 1


@pytest.mark.parametrize(("words", "of"), [("--list", "list"), ("--right -k SumsBackwards --generated 2", "right")])
def test_mutants_json_schema_names_the_output_variant(conformance, words, of):
    assert strict(conformance("mutants", *words.split(), "--json")[1])["schema"] == f"conformance.mutants.{of}/1"


def test_accept_json_requires_yes(conformance, tmp_path):
    report.write(tmp_path / "r", report.from_records([row()]), RunInfo(1))
    words = ("accept", tmp_path / "r", "--baseline", tmp_path / "b", "--json")
    status, out = conformance(*words)
    assert (status, facts(out, "accept")["accepted"], (tmp_path / "b").exists()) == (1, False, False)
    status, out = conformance(*words, "--yes")
    assert (status, facts(out, "accept")["accepted"], (tmp_path / "b").exists()) == (0, True, True)
    status, out = conformance(*words)
    said = facts(out, "accept")
    assert (status, said["same"], said["accepted"], said["rows"]) == (0, True, False, 1)


def test_json_stdout_is_empty_on_usage_error(conformance, tmp_path):
    for words in (("show", "none/such"), ("merge", tmp_path, "--report", tmp_path / "m"), ("diff", "a", "b")):
        assert conformance(*words, "--json") == (2, "")


def test_run_json_counts_and_statuses(conformance, tmp_path):
    words = ("run", "--in-process", "--cases", tmp_path / "cases", "--report", tmp_path / "r")
    plain = conformance(*words)
    status, out = conformance(*words, "--json")
    assert status == plain[0] == 1
    said = facts(out, "run")
    strict(out)
    assert (said["planned"], said["finished"], said["interrupted"]) == (9, 9, "")
    assert said["status"] == {"agrees": 7, "disagrees": 2}
    assert {line["function"] for line in said["unexpected"]} == {"miniature.DropsSmoothing"}
    accepted = conformance(*words[:-1], tmp_path / "again", "--baseline", tmp_path / "r", "--json")
    assert (accepted[0], facts(accepted[1], "run")["baseline"]["ok"]) == (0, True)


def test_run_computes_coverage_once(conformance, tmp_path, monkeypatch):
    asked = []
    coverage = recording.coverage
    monkeypatch.setattr(recording, "coverage", lambda *of: asked.append(of) or coverage(*of))
    _, out = conformance("run", "--in-process", "--cases", tmp_path / "cases", "--report", tmp_path / "r", "-v")
    assert len(asked) == 1
    said = json.loads((tmp_path / "r" / "run.json").read_text())["coverage"]
    assert said.split(";")[0] in " ".join(out.split())


def test_show_json_lists_answers_per_reduction(conformance, tmp_path):
    status, out = conformance("show", "categorical/x/smoothed", "--cases", tmp_path / "cases", "--json")
    assert status == 0
    strict(out)
    said = facts(out, "show")
    assert said["case"] == "categorical/x/smoothed"
    assert [(one["reduction"], len(one["functions"])) for one in said["answers"]] == [("none", 3), ("mean", 3)]
    assert said["answers"][1]["functions"][1]["status"] == "disagrees"


def test_lint_json_reports_line_and_path(conformance, tmp_path):
    file = tmp_path / "cases" / "categorical" / "x.yaml"
    assert facts(conformance("lint", tmp_path / "cases", "--json")[1], "lint")["problems"] == []
    file.write_text(CASES.replace("label_smoothing: 0.5", "label_smoothing: 1.5"), encoding="utf-8")
    status, out = conformance("lint", tmp_path / "cases", "--json")
    assert status == 2
    (problem,) = facts(out, "lint")["problems"]
    assert (problem["line"], problem["where"]) == (17, "$.cases.smoothed.options.label_smoothing")


def test_lint_counts_cases_of_files_with_errors(conformance, tmp_path):
    folder = tmp_path / "cases"
    whole = facts(conformance("lint", folder, "--json")[1], "lint")
    file = folder / "categorical" / "x.yaml"
    file.write_text(CASES.replace("label_smoothing: 0.5", "label_smoothing: 1.5"), encoding="utf-8")
    (folder / "broken.yaml").write_text("cases: [", encoding="utf-8")
    found = facts(conformance("lint", folder, "--json")[1], "lint")
    assert (whole["uncounted_files"], found["uncounted_files"]) == (0, 1)
    assert found["cases"] == whole["cases"] > 0
    text = " ".join(conformance("lint", folder)[1].split())
    assert f"{whole['cases']} cases and 1 file that cannot be counted in {folder}: 2 problems" in text


def test_lint_prints_working_command_for_wrong_digits(conformance, tmp_path):
    file = tmp_path / "mine" / "x.yaml"
    file.parent.mkdir()
    lines = ["    predictions: [[1.0, 2.0]]", "    labels: [0]", '    expect: {value: "0.6123"}']
    head = "about: a\nloss: categorical\ngiven: logits\ntarget: index\ncases:\n  y:\n"
    file.write_text(head + "\n".join(lines), encoding="utf-8")
    (problem,) = facts(conformance("lint", file.parent, "--json")[1], "lint")["problems"]
    assert problem["line"] == len(head.splitlines()) + len(lines)
    command = shlex.split(problem["advice"].partition("conformance ")[2])
    assert command == ["expect", "--cases", str(file.parent), "x/y"]
    assert conformance(*command) == (0, 'expect:\n  value:\n    mean: "1.313261687518222834048995"\n')


def test_history_json_lists_regressions(conformance, tmp_path):
    at = {"framework": "torch", "function": "torch.A"}
    rows = [
        row(version="1", environment="torch==1", **at),
        row(got="5.0", version="2", environment="torch==2", **at, **BAD),
    ]
    report.write(tmp_path / "r", report.from_records(rows), RunInfo(2))
    status, out = conformance("history", tmp_path / "r", "--json")
    assert status == 0
    said = facts(out, "history")
    assert [(line["release"], line["kind"]) for line in said["changes"]] == [("2", "regression")]
    assert said["failed"] == []


def test_text_output_fits_80_columns_without_ansi_codes(conformance, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "cases" / "categorical" / "x.yaml"
    file.write_text(CASES.replace("Nothing is asked.", f"{'Nothing is asked. ' * 20}Truly."), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    listed = [("list", "cases"), ("show", "categorical/x/plain"), ("explain", "categorical/x/plain")]
    for words in (*listed, ("run", "--in-process", "--report", "r"), ("lint",)):
        folder = ("cases",) if words == ("lint",) else ("--cases", "cases")
        _, out = conformance(*words, *folder)
        copied = "import numpy"  # source text to copy stays on its line
        long = [line for line in out.splitlines() if len(line) > 80 and copied not in line]
        assert not long, words
        assert "\x1b" not in out
    assert "Truly." in conformance("list", "cases", "--cases", "cases")[1]
    assert "unexpected miniature.DropsSmoothing" in " ".join(
        conformance("run", "--in-process", "--report", "r", "--cases", "cases")[1].split()
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show categorical/x/smoothed --cases {cases} --dtype float8", "--dtype float8: expected one of float32"),
        ("show categorical/x/nothing --cases {cases}", "there is no case categorical/x/nothing in "),
    ],
)
@pytest.mark.usefixtures("conformance")
def test_show_rejects_unknown_dtype_or_case(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.setattr(sys, "argv", ["conformance", *words.format(cases=tmp_path / "cases").split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err.count(said)) == (2, 1)


def test_find_case_suggests_cases_option():
    with pytest.raises(SelectionError, match=r"there is no case none/such; .*; --cases DIR looks for it in your"):
        find_case([], "none/such")


def test_help_lists_exit_statuses(conformance):
    status, out = conformance("--help")
    text = " ".join(out.split()).partition("Exit status: ")[2]
    assert status == 0
    assert re.findall(r"(?:^|; )(\d+) ", text) == ["0", "1", "2", "3", "130"]


def test_list_cases_prints_dtypes_and_reductions(conformance, tmp_path):
    status, text = conformance("list", "cases", "--cases", tmp_path / "cases")
    assert status == 0
    assert {"float32; mean", "float32; none mean"} <= set(map(str.strip, text.splitlines()))


def test_print_not_executed_counts_the_items_beyond_five(capsys):
    shared.print_not_executed([f"item {number}" for number in range(8)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "not executed: item 0"
    assert lines[5:] == ["... and 3 more"]


def test_json_of_interrupted_audit_has_interruption():
    values = json.loads(api.AuditResult(None, ("item: why",)).to_json())
    assert (values["interrupted"], values["not_executed"]) == (True, ["item: why"])
