"""Case files, ledgers and reports from strangers: what they say is shown, never done."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from conformance import cli, report
from conformance.casefiles import known_issues
from conformance.casefiles.document import schema_line
from conformance.casefiles.known_issues import SCHEMA as LEDGER
from conformance.casefiles.loading import SCHEMA
from conformance.casefiles.writing import WritingError, save
from conformance.model.text import DefusedStream, printable
from conformance.report import ReportError, RunInfo, files, markdown
from conformance.tests.comparison.test_audit import BAD, written
from conformance.tests.explain.test_explain import case as a_case
from conformance.tests.report.test_report import row

ESCAPES = "\x1b]0;owned\x07 \x1b[2J \x9b31m \x08 \r \u202e txt"
MARKUP = "[bold]b[/] [link=https://example.org]l[/] [/nothing]"
HOSTILE = f"{ESCAPES} {MARKUP} <script>alert(1)</script> =cmd|' /C x'!A0"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SHOWN = r"\x1b]0;owned"


@pytest.fixture
def conformance(monkeypatch, capsys):
    """The command in this process: (exit status, everything that is printed)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["conformance", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, "".join(capsys.readouterr())

    return run


@pytest.fixture
def folder(tmp_path):
    """A folder of cases, one of which says what it likes."""
    text = json.dumps(HOSTILE)  # YAML reads JSON's escapes
    file = tmp_path / "cases" / "binary" / "x.yaml"
    file.parent.mkdir(parents=True)
    lines = [schema_line(None, SCHEMA), f"about: {text}", f"source: {text}", "loss: binary", "given: logits"]
    lines += ["target: binary", "cases:", "  y:", f"    why: {text}", "    predictions: [0.5, -1.0]"]
    lines += ["    labels: [1, 0]", f'    published: [{{value: "0.39", source: {text}, note: {text}}}]']
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "cases"


def tampered(path, **changes):
    """A report whose `run.json` says something else."""
    file = path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


def rejected_anomalies(path):
    with pytest.raises(ReportError) as found:
        report.read(path)
    return str(found.value)


# What is printed

SHOW, EXPLAIN = ((name, "binary/x/y", "--framework", "sklearn") for name in ("show", "explain"))


def test_control_characters_and_marks_of_direction_are_shown_as_escapes():
    assert not CONTROLS.search(printable(HOSTILE).replace("\n", ""))
    assert printable("a\tb\nc é 交") == "a\tb\nc é 交"


@pytest.mark.parametrize(
    "words",
    [("list", "cases"), SHOW, EXPLAIN, (*EXPLAIN, "--markdown")],
)
def test_case_cannot_colour_or_clear_terminal(conformance, folder, words):
    status, out = conformance(*words, "--cases", folder)
    assert status == 0
    assert not CONTROLS.search(out.replace("\n", ""))
    assert "owned" in out
    assert "[bold]b[/]" in out.replace("\\[", "[").replace("\\]", "]").replace("\n", "")


def test_json_is_plain_ascii_that_reads_back(conformance, folder):
    _, out = conformance("list", "cases", "--cases", folder, "--json")
    assert out.isascii()
    assert not CONTROLS.search(out.replace("\n", ""))
    assert HOSTILE in [case["why"] for case in json.loads(out)["cases"]]


LONG = "9" * 10**6
LONG_WORDS = {
    "prediction": ("    predictions: [0.5, -1.0]", f"    predictions: [{LONG}, -1.0]"),
    "text": ("    predictions: [0.5, -1.0]", f"    predictions: [{'a' * 10**6}, -1.0]"),
    "label": ("labels: [1, 0]", f"labels: [{LONG}, 0]"),
    "reduction": ("    predictions", f"    reduction: {'k' * 10**6}\n    predictions"),
    "words": ("    predictions", f"    reduction: {'k ' * 10**6}\n    predictions"),
    "tag": ("    predictions: [0.5", f"    predictions: [!{'t' * 10**6} 0.5"),
    "anchor": ("    predictions: [0.5", f"    predictions: [*{'t' * 10**6}"),
    "key": ("    predictions", f"    ? {'k' * 10**6}\n    : 1\n    predictions"),
    "option": ("    predictions", f"    options: {{label_smoothing: {LONG}}}\n    predictions"),
}


@pytest.mark.parametrize("name", LONG_WORDS)
def test_lint_echoes_no_long_word_of_a_file(conformance, folder, name):
    (file,) = folder.glob("*/*.yaml")
    text = file.read_text(encoding="utf-8")
    assert LONG_WORDS[name][0] in text
    file.write_text(text.replace(*LONG_WORDS[name], 1), encoding="utf-8")
    for words in (["lint", folder], ["show", "--cases", folder, "binary/x/y"]):
        status, out = conformance(*words)
        assert status == 2
        assert len(out) < 50_000


@pytest.mark.parametrize(
    "words",
    [
        ["a" * 10**5],
        ["list", "a" * 10**5],
        ["--" + "a" * 10**5],
        ["run", "--" + "a" * 10**5],
        ["run", "-n", LONG],
        ["run", "--timeout", LONG],
        ["run", "-m", "a" * 10**5],
        ["run", "--mode", "a" * 10**5],
        ["run", "--report", "a" * 10**5],
        ["run", "--cases", "a" * 10**5],
        ["run", "--baseline", "a" * 10**5],
        ["run", "--with", "a" * 10**5],
        ["run", "-k", "a" * 10**5],
        ["run", "-k", "(" * 50_000 + "a" + ")" * 50_000],
        ["diff", "a" * 10**5, "b"],
        ["show", "a" * 10**5],
        ["fuzz", "--max-shape", LONG],
    ],
    ids=lambda words: " ".join(word[:10] for word in words),
)
def test_commands_do_not_echo_long_words(conformance, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out = conformance(*words)
    assert status == 2
    assert len(out) < 5_000


def test_message_about_a_file_has_no_control_characters(conformance, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(f"{schema_line(None, SCHEMA)}\nabout: x\n{json.dumps(HOSTILE)}: 1\n", encoding="utf-8")
    status, out = conformance("lint", tmp_path)
    assert status == 2
    assert not CONTROLS.search(out.replace("\n", ""))


def test_report_cannot_colour_or_clear_terminal(conformance, tmp_path):
    said = dict.fromkeys(("explanation", "exception", "warnings", "call", "known", "convention", "bridge"), HOSTILE)
    old = written(tmp_path / "old", [row(), row("torch.B")], versions={"torch": HOSTILE})
    new = written(tmp_path / "new", [row(got="5.0", **{**said, **BAD, "call": HOSTILE}), row("torch.B")])
    for words in (
        ("diff", old, new),
        ("merge", old, "--report", tmp_path / "whole"),
        ("accept", new, "--baseline", old),
    ):
        _, out = conformance(*words)
        assert not CONTROLS.search(out.replace("\n", "")), words


COMMANDS = "a\n::error::owned\n \u3000::add-mask::b ##[error]c\r::set-output name=d::e ##[add-path]f"


def commands(printed):
    """Lines that the runner of GitHub Actions takes for commands: see `ActionCommand` there."""
    lines = re.split(r"[\r\n]", printed)
    return [line for line in lines if line.lstrip("\ufeff").lstrip().startswith("::") or "##[" in line]


@pytest.fixture
def on_github(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))


@pytest.fixture
def commanding(folder):
    """A folder of cases that says commands of GitHub Actions wherever it may say anything."""
    file = folder / "binary" / "x.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(json.dumps(HOSTILE), json.dumps(COMMANDS)), "utf-8")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("list", "cases"),
        ("list", "cases", "--json"),
        SHOW,
        (*SHOW, "--json"),
        EXPLAIN,
        (*EXPLAIN, "--markdown"),
    ],
)
def test_case_gives_no_command_to_github(conformance, commanding, on_github, words):
    status, out = conformance(*words, "--cases", commanding)
    assert status == 0
    assert "owned" in out
    assert commands(out) == []
    if "--json" in words:
        assert COMMANDS in out.encode().decode("unicode_escape")
        json.loads(out)


def test_output_outside_of_github_is_unchanged(conformance, commanding, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    _, out = conformance("list", "cases", "--cases", commanding)
    assert "##[error]c" in out


def test_file_error_is_annotated_and_gives_no_other_command(conformance, commanding, on_github):
    file = commanding / "binary" / "x.yaml"
    file.write_text(file.read_text(encoding="utf-8") + f"{json.dumps(COMMANDS)}: 1\n", encoding="utf-8")
    line = len(file.read_text(encoding="utf-8").splitlines())
    for words in (("lint", commanding), ("lint", commanding, "--json"), ("run", "--cases", commanding)):
        status, out = conformance(*words)
        assert status == 2
        (text,) = commands(out)
        assert re.match(rf"::error file=cases/binary/x\.yaml,line={line},col=\d+,title=\$.*::", text), text


def test_report_gives_no_command_to_github(conformance, tmp_path, on_github):
    said = dict.fromkeys(("explanation", "exception", "warnings", "call", "known", "convention", "bridge"), COMMANDS)
    old = written(tmp_path / "old", [row(), row("torch.B")], versions={"torch": COMMANDS})
    new = written(tmp_path / "new", [row(got="5.0", **{**said, **BAD, "call": COMMANDS}), row("torch.B")])
    for words in (
        *(("diff", old, new, "--format", form) for form in ("terminal", "markdown", "csv", "json", "html")),
        ("merge", old, "--report", tmp_path / "whole"),
        ("accept", new, "--baseline", old),
    ):
        _, out = conformance(*words)
        assert commands(out) == [], words


def test_split_writes_give_no_command():
    for size in (1, 2, 3, len(COMMANDS)):
        stream = io.StringIO(newline="")
        defused = DefusedStream(stream)
        defused.writelines(COMMANDS[start : start + size] for start in range(0, len(COMMANDS), size))
        assert commands(stream.getvalue()) == []
        assert re.sub(r"\\u(....)", lambda found: chr(int(found[1], 16)), stream.getvalue()) == COMMANDS


# What is read


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", "results.exe", "run.json"])
def test_report_cannot_name_file_outside_of_folder(tmp_path, name):
    path = written(tmp_path / "r", [row()])
    (tmp_path / "secret").write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    assert "which is not a file of a report" in rejected_anomalies(tampered(path, files={name: digest}))


@pytest.mark.parametrize(
    "changes",
    [
        {"planned": "many"},
        {"versions": ["torch"]},
        {"versions": {"torch": 2}},
        {"host": None},
        {"missing": [1]},
        {"missing": 5},
        {"interrupted": {}},
        {"published": [{"value": "1"}]},
        {"published": [1]},
        {"files": []},
        {"files": {"results.csv": 7}},
        {"format": [1]},
    ],
)
def test_record_of_other_kind_is_rejected_with_message(tmp_path, changes):
    assert "run.json" in rejected_anomalies(tampered(written(tmp_path / "r", [row()]), **changes))


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 200_000, "\xff"])
def test_invalid_record_is_rejected_with_message(tmp_path, text):
    path = written(tmp_path / "r", [row()])
    (path / "run.json").write_text(text, encoding="latin-1")
    assert "run.json" in rejected_anomalies(path)


def replaced(path, name, content):
    (path / name).write_bytes(content)
    said = json.loads((path / "run.json").read_text())["files"]
    return tampered(path, files={**said, name: hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"a,b\n1,2\n", b'"'])
@pytest.mark.parametrize("name", ["results.parquet", "results.csv"])
def test_invalid_rows_are_rejected_with_message(tmp_path, name, content):
    path = replaced(written(tmp_path / "r", [row()]), name, content)
    assert name in rejected_anomalies(path / name)


def test_rows_of_other_types_become_text_or_are_rejected(tmp_path):
    path = written(tmp_path / "r", [row()])
    table = report.read(path)[0]
    numbers = files._parquet(table.astype(object).assign(digest=[7], exception=[None]))
    found = report.read(replaced(path, "results.parquet", numbers))[0]
    assert (found["digest"][0], found["exception"][0]) == ("7", "")
    words = files._parquet(table.astype({"ratio": object}).assign(ratio=["much"]))
    assert "holds no rows of a report" in rejected_anomalies(replaced(path, "results.parquet", words))


def test_table_larger_than_memory_is_rejected(tmp_path, monkeypatch):
    path = written(tmp_path / "r", [row(call="x" * 1000)] * 1)
    monkeypatch.setattr(files, "MAX_TABLE_BYTES", 1000)
    assert "more than 1000" in rejected_anomalies(path)


@pytest.mark.parametrize(("limit", "name"), [("MAX_BYTES", "results"), ("MAX_RUN_BYTES", "run.json")])
def test_too_large_file_is_not_read(tmp_path, monkeypatch, limit, name):
    path = written(tmp_path / "r", [row()])
    monkeypatch.setattr(files, limit, 100)
    assert re.search(rf"{name}.* has \d+ bytes, more than 100", rejected_anomalies(path))


def test_ledger_size_is_limited(tmp_path):
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
    bomb += "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    file = tmp_path / "known" / "torch.yaml"
    file.parent.mkdir()
    file.write_text(f"{schema_line(None, LEDGER)}\n{bomb}", encoding="utf-8")
    _, errors = known_issues.read(tmp_path)
    assert "more than 1000000 values once aliases are expanded" in " ".join(map(str, errors))


# What is written


@pytest.mark.parametrize("name", ["../outside/y", "a/../../outside/y", "/tmp/outside/y", "a\\b/y", "a/b/../y", "a/ /y"])
def test_case_is_saved_only_below_its_folder(tmp_path, name):
    with pytest.raises(WritingError):
        save([dataclasses.replace(a_case(), id=name)], tmp_path / "in" / "side")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_summary_size_is_limited():
    results = report.from_records([row(f"torch.{'x' * 5000}{n}", case="c" * 5000 + str(n), **BAD) for n in range(200)])
    long = {f"{n}{HOSTILE}" * 20: "1" * 5000 for n in range(50)}
    numbers = [{"value": "9" * 5000, "exact": "1", "holds": False, "source": HOSTILE * 50, "case": "c" * 5000}] * 500
    about = {
        "versions": long,
        "host": long,
        "missing": tuple(long),
        "interrupted": HOSTILE * 500,
        "coverage": "x" * 10**6,
    }
    text = report.summary(results, report.pairs(results), RunInfo(200, **about, published=numbers))
    assert len(text.encode()) < markdown.MAX_BYTES
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert not CONTROLS.search(text.replace("\n", ""))


def test_cells_of_table_file_are_not_formulas(tmp_path):
    texts = ("=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "'=1", '="a"', "=\n1")
    said = [row(f"torch.F{n}", call=text, explanation=text, **{k: v for k, v in BAD.items() if k != "explanation"})
            for n, text in enumerate(texts)]  # fmt: skip
    path = written(tmp_path / "r", said)
    for name in ("results.csv", "discrepancies.csv"):
        for cell in pd.read_csv(path / name, dtype=str, keep_default_na=False).to_numpy().ravel():
            harmless = not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert harmless or np.isfinite(float(cell)) or cell == "-inf"
