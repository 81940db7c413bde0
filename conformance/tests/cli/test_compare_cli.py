"""`conformance diff`, `accept` and `merge`: what is printed, written, and with which exit status."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from conformance import cli, report
from conformance.cli import reports
from conformance.comparison import history
from conformance.explore.sweep import rendering
from conformance.explore.sweep.table import COLUMNS
from conformance.tests.comparison.test_audit import BAD, EVIL, written
from conformance.tests.report.test_page import blocks
from conformance.tests.report.test_report import row


@pytest.fixture
def conformance(monkeypatch, capsys):
    """The command in this process: (exit status, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["conformance", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def sides(tmp_path):
    old = written(tmp_path / "old", [row(), row("torch.B"), row("torch.C")])
    new = [row(got="5.0", **BAD), row("torch.B", got="1.01"), row("torch.C")]
    return old, written(tmp_path / "new", new, versions={"torch": "2.0"})


def test_diff_exits_with_1_if_something_regressed(conformance, sides):
    old, new = sides
    status, out, _ = conformance("diff", old, new)
    assert status == 1
    assert "1 regression, 1 note, 1 unchanged" in " ".join(out.split())
    assert "torch 1.0 -> 2.0" in out
    assert conformance("diff", old, old)[0] == 0
    assert conformance("diff", new, old)[0] == 0


@pytest.mark.parametrize(
    ("level", "worse", "moved", "better"),
    [("regression", 1, 0, 0), ("change", 1, 0, 0), ("drift", 1, 1, 0), ("any", 1, 1, 1), ("never", 0, 0, 0)],
)
def test_diff_fail_on_chooses_the_level(conformance, tmp_path, level, worse, moved, better):
    rows = {"right": row(), "moved": row(got="1.01"), "wrong": row(got="5.0", **BAD), "raises": row(got="5.0", **BAD)}
    paths = {name: written(tmp_path / name, [line]) for name, line in rows.items()}
    refused = {"got": "", "exception": "ValueError: no", "status": "agrees", "expected": "ok"}
    paths["refuses"] = written(tmp_path / "refuses", [row() | refused])
    pairs = [("right", "wrong"), ("right", "moved"), ("wrong", "refuses")]
    found = [conformance("diff", paths[a], paths[b], "--fail-on", level)[0] for a, b in pairs]
    assert found == [worse, moved, better]


@pytest.mark.parametrize("form", ["markdown", "csv", "json", "terminal"])
def test_diff_writes_what_it_prints(conformance, sides, tmp_path, form):
    _, printed, _ = conformance("diff", *sides, "--format", form)
    file = tmp_path / "difference"
    status, out, err = conformance("diff", *sides, "--format", form, "--output", file)
    assert (status, out) == (1, "")
    assert "1 regression" in err
    if form != "terminal":  # whose width is that of the terminal
        assert file.read_text() == printed
    if form == "json":
        assert json.loads(printed)["severity"]["regression"] == 1


def test_diff_reports_an_unwritable_output(conformance, sides, tmp_path):
    status, _, err = conformance("diff", *sides, "-o", tmp_path / "none" / "file")
    assert status == 2
    assert "cannot be written (No such file or directory); name a file in a folder that is there" in err


def test_diff_rejects_with_one_message_and_exit_status_2(conformance, sides, tmp_path):
    half = written(tmp_path / "half", [row()], planned=2)
    other = written(tmp_path / "other", [row(case="binary/z")])
    for path, why in ((half, "is incomplete"), (other, "no case in common"), (tmp_path / "none", "none")):
        status, out, err = conformance("diff", sides[0], path)
        assert (status, out) == (2, "")
        assert why in err
        assert "Traceback" not in err
    assert conformance("diff", *sides, "--fail-on", "some")[0] == 2
    assert conformance("diff", sides[0])[0] == 2


def test_diff_prints_names_with_brackets(conformance, tmp_path):
    path = written(tmp_path / "[bold]x[]", [row()])
    status, out, _ = conformance("diff", path, path)
    assert status == 0
    assert "[bold]x[]" in "".join(out.split())


def test_accept_without_terminal_shows_only(conformance, sides, tmp_path):
    baseline = written(tmp_path / "baseline", [row()])
    before = (baseline / "run.json").read_bytes()
    status, out, err = conformance("accept", sides[0], "--baseline", baseline)
    assert status == 1
    assert "2 improvements" in " ".join(out.split())
    assert "nothing was accepted; --yes accepts it" in err
    assert (baseline / "run.json").read_bytes() == before


def test_accept_with_yes_accepts(conformance, sides, tmp_path):
    baseline = tmp_path / "baseline"
    status, out, _ = conformance("accept", sides[0], "--baseline", baseline, "--yes")
    assert status == 0
    assert "is new: 3 rows" in out.replace("\n", " ")
    assert len(report.read(baseline)[0]) == 3
    status, out, _ = conformance("accept", sides[0], "--baseline", baseline)
    assert (status, "nothing to accept" in out) == (0, True)


@pytest.mark.parametrize(("answer", "status", "rows"), [("y\n", 0, 3), ("n\n", 1, 1), ("", 1, 1)])
def test_accept_asks_at_a_terminal(conformance, sides, tmp_path, monkeypatch, answer, status, rows):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(reports.sys, "stdin", Terminal(answer))
    baseline = written(tmp_path / "baseline", [row()])
    assert conformance("accept", sides[0], "--baseline", baseline)[0] == status
    assert len(report.read(baseline)[0]) == rows


def test_accept_rejects_unexpected_rows_by_default(conformance, sides, tmp_path):
    baseline = tmp_path / "baseline"
    status, _, err = conformance("accept", sides[1], "--baseline", baseline, "--yes")
    assert status == 2
    assert "1 row unexpected or stale: torch.A" in err
    assert not baseline.exists()
    assert conformance("accept", sides[1], "--baseline", baseline, "--yes", "--even-unexpected")[0] == 0
    assert baseline.exists()


def test_merge_reports_whether_result_is_complete(conformance, tmp_path):
    whole = [written(tmp_path / name, [row(f"torch.{name}")]) for name in "ab"]
    half = written(tmp_path / "c", [row("torch.C", explanation=EVIL)], planned=2, interrupted="Ctrl-C")
    status, out, _ = conformance("merge", *whole, "--report", tmp_path / "ab")
    assert (status, out.splitlines()[0]) == (0, "2 reports, 2 of 2 rows, complete")
    status, out, _ = conformance("merge", *whole, half, "--report", tmp_path / "abc")
    assert (status, out.splitlines()[0]) == (0, "3 reports, 3 of 4 rows, incomplete (Ctrl-C)")
    assert len(report.read(tmp_path / "abc")[0]) == 3


def test_merge_rejects_with_one_message(conformance, tmp_path):
    path = written(tmp_path / "a", [row()])
    status, _, err = conformance("merge", path, path, "--report", tmp_path / "b")
    assert status == 2
    assert "they share 1 row" in err
    assert not (tmp_path / "b").exists()
    assert conformance("merge", path, "--report", path)[0] == 2


def test_commands_work_from_a_shell(sides):
    command = [sys.executable, "-m", "conformance", "diff", *map(str, sides), "--format", "csv"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stdout.startswith("severity,kinds,cause,")
    assert found.stderr == ""


def test_diff_html_has_both_sides(conformance, sides, tmp_path):
    old, new = sides
    status, _, told = conformance("diff", old, new, "--format", "html", "--output", tmp_path / "both.html")
    assert (status, "1 regression, 1 note" in " ".join(told.split())) == (1, True)
    said = blocks((tmp_path / "both.html").read_text(encoding="utf-8"))
    assert said["index"]["views"] == ["changes"]
    first = said["supplement"]["changes"][0]
    assert (first["severity"], first["old_got"], first["new_got"]) == ("regression", "1.0", "5.0")


def test_page_adds_files_beside_the_report(conformance, sides, tmp_path):
    old, new = sides
    step = dict.fromkeys(history.HEADER, "x") | {"framework": "torch", "answer": "'=1+1"}
    (new / "history.csv").write_text(f"{','.join(step)}\n{','.join(step.values())}\n")
    rendering.write(new, lines_of_a_sweep(), (), {})
    status, out, _ = conformance("page", new, "--against", old)
    assert (status, "index.html" in out.replace("\n", "")) == (0, True)
    results, record = report.read(new)  # which holds every file against its digest
    assert len(results) == record["finished"] == 3
    said = blocks((new / "index.html").read_text(encoding="utf-8"))
    assert said["index"]["views"] == ["changes", "sweep", "history"]
    assert said["supplement"]["history"] == [step | {"answer": "=1+1"}]
    assert said["supplement"]["sweep"][0]["region"] == "zero"


def lines_of_a_sweep():
    line = dict.fromkeys(COLUMNS, "") | {"region": "zero", "count": 2, "histogram": [2], "case": "sweep/a/b/zero"}
    return [line | {"ulps": 0.5, "ratio": 0.1, "label": 0, "status": "agrees", "disagrees": 0, "ulps_at": 0.0}]


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"format": 1, "lines": [1], "means": []}'])
def test_page_rejects_a_broken_sweep(conformance, sides, text):
    (sides[0] / "sweep.json").write_text(text)
    status, _, told = conformance("page", sides[0])
    assert status == 2
    assert "sweep.json" in told.replace("\n", "")


@pytest.mark.parametrize("text", ["a,b\n1,2\n", f"{','.join(history.HEADER)}\n1,2\n", "\xff"])
def test_page_rejects_a_broken_history(conformance, sides, text):
    (sides[0] / "history.csv").write_text(text, encoding="latin-1")
    status, _, told = conformance("page", sides[0])
    assert status == 2
    assert "history.csv" in told.replace("\n", "")
