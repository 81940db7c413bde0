"""Runs that end early, in real processes with real signals: what they leave, and what becomes of it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from conformance import __main__, cli, report
from conformance.execution import journal, marking
from conformance.execution.journal import LOCK, Journal, Plan, read_journal
from conformance.execution.marking import MARK
from conformance.execution.marking import RUN as RUN_JSON
from conformance.execution.report_folder import JOURNAL, PREVIOUS
from conformance.judging.row import Row
from conformance.model.errors import ISSUES
from conformance.report import ReportError, RunInfo, recording
from conformance.tests import signals
from conformance.tests.comparison.test_audit import written
from conformance.tests.execution.test_isolation import ADAPTER
from conformance.tests.fork_server import Interpreter, interpreter
from conformance.tests.libraries import environment, write_library
from conformance.tests.report.test_report import row

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
LIBRARY = """
import os, time
import numpy as np

HOLD = os.environ["HOLD"]
STUBBORN = "STUBBORN" in os.environ
if "IMPORTING" in os.environ:
    import ctypes

    with open(HOLD + ".here", "a"):
        pass
    ctypes.PyDLL(None).sleep(600)  # with Python's lock, as a library that is loaded


def hold():
    if os.path.exists(HOLD):
        with open(HOLD + ".here", "w"):
            pass
    while os.path.exists(HOLD):
        try:
            time.sleep(0.02)
        except BaseException:
            if not STUBBORN:
                raise


def loss(z, y, smoothing=None, weight=None, ignore=None, reduction="mean"):
    with open(HOLD + ".calls", "a") as calls:
        calls.write("call\\n")
    if ignore is not None:
        hold()
    z = z.astype(np.float64)
    top = z.max(axis=-1, keepdims=True)
    lse = np.log(np.exp(z - top).sum(axis=-1)) + top[..., 0]
    losses = lse - np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]
"""
FAULT = """

import os

if "FAULT" in os.environ:
    from conformance.judging.judge import Judge

    judge = Judge.judge

    def faulty(self, asked, outcome):
        if asked.item.case.id.endswith(os.environ["FAULT"]):
            raise RuntimeError("something is broken\\nbadly")
        return judge(self, asked, outcome)

    Judge.judge = faulty
"""
CASES = """\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Two rows of three classes.
source: none
loss: categorical
given: logits
target: index
dtypes: [float64]
cases:
  first:
    why: Nothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    reduction: [none, sum, mean]
  held:
    why: The call waits as long as a file is there.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    options: {ignore_index: -1}
  last:
    why: A last row, after that.
    predictions: [[0.5, -1.5, 0.25, 4.0], [2.0, 0.25, -1.0, 3.0]]
    labels: [3, 0]
"""
RUN = ("conformance", "run", "--cases", "cases", "--framework", "shaky", "--report", "report")
HERE = (*RUN, "--in-process")
PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "--cases", "cases", "-k", "shaky", "--report", "report")
BEFORE = 3
"""Rows that are judged before the one whose call waits."""


class There:
    """A folder with cases, and a framework one of whose calls waits as long as the file `hold` is there."""

    def __init__(self, folder):
        self.folder = folder
        self.hold = folder / "hold"
        self.packages = folder / "packages"
        self.report = folder / "report"
        write_library(folder, "shaky", LIBRARY, ADAPTER + FAULT, CASES)

    def start(self, *words, fresh=False, **variables):
        """A process in a group of its own.  fresh: one that has imported nothing yet."""
        variables = environment(self.folder, **{"HOLD": str(self.hold), "TMPDIR": str(self.folder), **variables})
        runs = Interpreter() if fresh else interpreter()
        return runs.start(["-m", *words], self.folder, variables, inherits=False)

    def ran(self, *words, **variables):
        with self.start(*words, **variables) as process:
            out, told = process.communicate(timeout=300)
        return subprocess.CompletedProcess(words, process.returncode, out, told)

    def held(self, *words, **variables):
        """A process whose run waits in the call that is held."""
        self.hold.touch()
        process = self.start(*words, **variables)
        wait_for(self.folder / "hold.here", process)
        return process

    def ended(self, process):
        """(exit status, what it printed to stderr)."""
        _, told = process.communicate(timeout=300)
        self.hold.unlink(missing_ok=True)
        (self.folder / "hold.here").unlink(missing_ok=True)
        return process.returncode, told

    def killed(self, *words, **variables):
        process = self.held(*words, **variables)
        wait_for_rows(self.report)  # other processes may still judge them
        os.killpg(process.pid, signal.SIGKILL)
        assert self.ended(process)[0] == -signal.SIGKILL

    @property
    def calls(self):
        return len((self.folder / "hold.calls").read_text().splitlines())

    def results(self, name="report"):
        return (self.folder / name / "results.csv").read_bytes()

    def listing(self, name="report"):
        return sorted(path.name for path in (self.folder / name).iterdir())


def wait_for(path, process):
    def there():
        assert process.poll() is None, process.communicate()
        return path.exists()

    wait_until(there)


def wait_for_rows(report):
    def there():
        with contextlib.suppress(ReportError):  # it is written to while it is read
            return len(read_journal(report).rows) >= BEFORE

    wait_until(there)


def wait_until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def there(tmp_path):
    return There(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing ends early."""
    found = There(tmp_path_factory.mktemp("whole"))
    done = found.ran(*RUN, fresh=True)
    assert done.returncode == 0, done.stderr
    return found


# Signals


def test_incomplete_run_is_not_reported_as_passed():
    nothing = report.from_records([])
    assert recording.verdict_line(nothing, 5) == "no verdict, as 0 of 5 rows are there; so far nothing unexpected"
    assert recording.verdict_line(nothing, 0) == "no verdict, as nothing was planned"


@posix
def test_interruption_is_reported_before_findings(there):
    there.hold.touch()
    variables = environment(there.folder, HOLD=str(there.hold), TMPDIR=str(there.folder), PYTHONUNBUFFERED="1")
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen([sys.executable, "-m", *RUN], cwd=there.folder, env=variables, text=True, **both)
    wait_for(there.folder / "hold.here", process)
    wait_for_rows(there.report)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert said.index("interrupted; ") < said.index(f"no verdict, as {BEFORE} of 5 rows are there; so far ")


@posix
@pytest.mark.parametrize("words", [(), ("--in-process",)])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signal_ends_run_with_a_report_that_resume_completes(there, whole, how, words):
    process = there.held(*RUN, *words)
    wait_for_rows(there.report)
    process.send_signal(getattr(signal, how))
    status, told = there.ended(process)
    assert status == 130, told
    assert f"interrupted; {BEFORE} of 5 rows are in the report, which is marked incomplete" in told
    assert "--resume" in told
    table, record = report.read(there.report)
    assert (record["complete"], record["interrupted"], record["planned"]) == (False, "interrupted", 5)
    assert len(table) == BEFORE
    asked = there.calls
    done = there.ran(*RUN, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{BEFORE} of 5 rows are there" in done.stderr
    assert there.calls == asked + 5 - BEFORE
    assert there.results() == whole.results()
    assert there.listing() == whole.listing()


@posix
@pytest.mark.parametrize("words", [(), ("-n", "2"), ("--isolate",)])
def test_signal_to_process_group_is_handled_by_run_only(there, words):
    process = there.held(*RUN, *words)
    wait_for_rows(there.report)
    os.killpg(process.pid, signal.SIGTERM)
    status, told = there.ended(process)
    assert status == 130, told
    table, record = report.read(there.report)
    assert record["interrupted"] == "interrupted"
    assert set(table["status"]) == {"agrees"}
    assert len(table) >= BEFORE


def session_of(process):
    """The processes of a session, but for those that have ended and were not waited for."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) == process.pid and state != "Z":
                yield int(stat.parent.name)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel ends a process with its parent")
@pytest.mark.parametrize(
    ("how", "words"), [("SIGTERM", ()), ("SIGTERM", ("-n", "2")), ("SIGKILL", ()), ("SIGKILL", ("-n", "2"))]
)
def test_signal_during_imports_leaves_no_process(there, how, words):
    process = there.start(*RUN, *words, IMPORTING="1")
    wait_for(there.folder / "hold.here", process)
    process.send_signal(getattr(signal, how))
    there.ended(process)
    wait_until(lambda: not list(session_of(process)))


@posix
def test_import_timeout_ends_the_wait_for_an_import(there):
    done = there.ran(*RUN, "-n", "2", "--import-timeout", "0.5", IMPORTING="1")
    assert done.returncode == 2
    assert "5 could not be executed" in done.stderr
    assert "0.5 s" in done.stderr


@posix
def test_second_signal_ends_the_run_at_once(there):
    process = there.held(*HERE, STUBBORN="1")
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    time.sleep(1.0)
    assert process.poll() is None
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGTERM)  # on a busy machine the first may have been handled just now
        time.sleep(1.0)
    status, printed = there.ended(process)
    assert status == 130
    assert "`conformance recover report`" in printed
    assert not (there.report / "run.json").exists()
    assert len(read_journal(there.report).rows) == BEFORE


@posix
def test_swallowed_interruption_ends_run_after_call(there):
    process = there.held(*HERE, STUBBORN="1")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    there.hold.unlink()
    assert there.ended(process)[0] == 130
    assert len(report.read(there.report)[0]) == BEFORE


@posix
def test_simultaneous_signals_count_once(there):
    process = there.held(*HERE)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert there.ended(process)[0] == 130
    assert len(report.read(there.report)[0]) == BEFORE


@posix
def test_hangup_leaves_report(there):
    import pty

    there.hold.touch()
    child, terminal = pty.fork()
    if child == 0:
        signals.restore()
        os.chdir(there.folder)
        os.environ |= {"PYTHONPATH": str(there.packages), "CONFORMANCE_CACHE": "off", "HOLD": str(there.hold)}
        os.execv(sys.executable, [sys.executable, "-m", *HERE])
    wait_until((there.folder / "hold.here").exists)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert len(report.read(there.report)[0]) == BEFORE


@posix
def test_signal_before_first_row_leaves_no_complete_report(there, whole):
    assert there.ran(*RUN).returncode == 0
    process = there.start(*RUN, fresh=True)
    wait_for(there.report / JOURNAL, process)
    process.send_signal(signal.SIGTERM)
    status, told = there.ended(process)
    if status == 0:  # it was faster
        return
    assert status == 130, told
    done = there.ran("conformance", "diff", str(whole.report), "report")
    assert done.returncode == 2, done.stdout
    assert there.results(f"report/{PREVIOUS}") == whole.results()


# Kill


@posix
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("words", [RUN, PYTEST])
def test_signal_during_startup_leaves_no_complete_report(there, whole, words, how):
    assert there.ran(*RUN).returncode == 0
    process = there.start(*words, fresh=True)
    wait_until(lambda: (there.report / MARK).exists() and not (there.report / RUN_JSON).exists())
    process.send_signal(getattr(signal, how))
    status, told = there.ended(process)
    if (there.report / RUN_JSON).exists():  # by an interrupted run
        assert json.loads((there.report / RUN_JSON).read_text())["complete"] is False
    assert status in ((-signal.SIGKILL,) if how == "SIGKILL" else (2, 130, -signal.SIGTERM)), told
    done = there.ran("conformance", "diff", str(whole.report), "report")
    assert done.returncode == 2
    assert "conformance recover report" in done.stderr or "is incomplete" in done.stderr
    if (there.report / MARK).exists():
        assert there.ran("conformance", "recover", "report").returncode == 0
        assert there.results() == whole.results()
        assert there.listing() == whole.listing()


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        ("run", "reports/latest"),
        ("--json run -k x --report a", "a"),
        ("run --report=a --report b", "b"),
        ("run --help --report a", None),
        ("merge a b --report c", None),
        ("", None),
        ("run --report", "reports/latest"),
    ],
)
def test_report_folder_is_checked_before_imports(words, folder):
    found = marking.report_of(words.split())
    assert found == (None if folder is None else Path(folder))


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130])
def test_mark_sets_record_aside_until_command_ends_without_a_run(tmp_path, status, monkeypatch, capsys):
    folder = written(tmp_path / "r", [row()])

    def ends():
        assert not (folder / RUN_JSON).exists()
        assert report.read(folder)[1]["complete"]  # for --baseline of the same folder
        sys.exit(status)

    monkeypatch.setattr(sys, "argv", ["conformance", "run", "--report", str(folder)])
    monkeypatch.setattr(cli, "main", ends)
    before = (folder / RUN_JSON).read_bytes()
    with pytest.raises(SystemExit):
        __main__.main()
    assert (folder / RUN_JSON).exists() == (status < 3)
    if status >= 3:
        monkeypatch.setattr(os, "getpid", lambda: 1)  # another process reads it
        with pytest.raises(ReportError, match="has executed nothing yet"):
            report.read(folder)
        assert recording.recover(folder, lambda _: None)["complete"]
    assert (folder / RUN_JSON).read_bytes() == before
    assert not list(folder.glob(".begun*"))


def test_run_moves_report_that_was_set_aside(tmp_path):
    folder = written(tmp_path / "r", [row()])
    marking.mark(folder)
    held = begun(folder)
    assert not list(folder.glob(".begun*"))
    assert report.read(folder / PREVIOUS)[1]["complete"]
    held.abandon()
    assert report.read(folder)[1]["complete"]


@posix
def test_killed_run_leaves_its_rows_and_previous_report(there, whole):
    assert there.ran(*RUN).returncode == 0
    there.killed(*RUN)
    for words in (("diff", str(whole.report), "report"), ("page", "report"), ("accept", "report", "--yes")):
        done = there.ran("conformance", *words)
        assert done.returncode == 2, words
        assert "has not come to its end" in done.stderr
        assert "conformance recover report" in done.stderr
    assert there.results(f"report/{PREVIOUS}") == whole.results()
    assert report.read(there.report / PREVIOUS)[1]["complete"]
    done = there.ran("conformance", "recover", "report", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["complete"], found["finished"], found["planned"]) == (False, BEFORE, 5)
    table, record = report.read(there.report)
    assert record["interrupted"] == recording.LOST
    assert set(whole.results().splitlines()) > set(there.results().splitlines())
    assert len(table) == BEFORE


@posix
@pytest.mark.parametrize("words", [(), ("-n", "2"), ("--in-process",)])
def test_killed_run_is_resumed_to_the_same_report(there, whole, words):
    there.killed(*RUN, *words)
    assert len(read_journal(there.report).rows) >= BEFORE
    done = there.ran(*RUN, *words, "--resume")
    assert done.returncode == 0, done.stderr
    assert there.results() == whole.results()
    assert there.listing() == whole.listing()


@posix
def test_next_run_reports_and_moves_unfinished_run(there, whole):
    there.killed(*RUN)
    done = there.ran(*RUN)
    assert done.returncode == 0
    (aside,) = there.report.glob("unfinished-*")
    assert f"its journal with {BEFORE} rows was moved to report/{aside.name}" in done.stderr
    assert there.results() == whole.results()
    assert there.ran("conformance", "recover", f"report/{aside.name}").returncode == 0
    assert len(report.read(aside)[0]) == BEFORE
    words = (*RUN[:-1], f"report/{aside.name}")
    assert there.ran(*words, "--resume").returncode == 0
    assert there.results(f"report/{aside.name}") == whole.results()


@posix
def test_resumed_run_repeats_changed_items_and_reports_them(there):
    there.killed(*RUN)
    file = there.folder / "cases" / "rows.yaml"
    file.write_text(CASES.replace("[0.5, -1.5, 0.25]", "[0.5, -1.5, 0.5]", 1))
    done = there.ran(*RUN, "--resume")
    assert done.returncode == 0, done.stderr
    assert f"{BEFORE} rows are executed again: their cases have changed" in done.stderr
    found = there.results()
    assert there.ran(*RUN).returncode == 0
    assert there.results() == found
    there.killed(*RUN)
    metadata = there.packages / "shaky-1.0.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: shaky\nVersion: 1.1\n")
    done = there.ran(*RUN, "--resume")
    assert f"{BEFORE} rows are executed again: they are of shaky 1.0, and this is 1.1" in done.stderr
    assert set(report.read(there.report)[0]["version"]) == {"1.1"}


@posix
def test_resumed_run_of_other_selection_keeps_other_rows(there):
    there.killed(*RUN)
    done = there.ran(*RUN, "--resume", "-k", "last or sum")
    assert done.returncode == 0, done.stderr
    (aside,) = there.report.glob("unfinished-*")
    assert "that run had no -k, this one has -k last or sum" in done.stderr
    assert "its journal stays" in done.stderr
    assert len(report.read(there.report)[0]) == 2
    assert len(read_journal(aside).rows) == BEFORE


def test_resume_without_journal_is_plain_run_with_message(there, whole):
    said = "--resume: no unfinished run is in report, so all rows are executed"
    assert f"{said}\n" in there.ran(*RUN, "-k", "sum", "--resume").stderr
    assert f"{said}; the whole report there, of a run with -k sum, stays in" in there.ran(*RUN, "--resume").stderr
    assert there.results() == whole.results()


# One run at a time


@posix
def test_second_run_in_one_folder_is_rejected(there):
    process = there.held(*RUN)
    for words in (RUN, (*RUN, "--resume"), ("conformance", "recover", "report"), PYTEST):
        done = there.ran(*words)
        assert done.returncode == (4 if words is PYTEST else 2)
        assert f"another run is writing its report there (process {process.pid} on " in done.stderr
    there.hold.unlink()
    assert there.ended(process)[0] == 0
    assert len(report.read(there.report)[0]) == 5


def test_invalid_option_leaves_folder_unchanged(there, whole):
    there.report.mkdir()
    for file in whole.report.iterdir():
        (there.report / file.name).write_bytes(file.read_bytes())
    done = there.ran(*RUN, "-k", "nothing_of_that_name")
    assert done.returncode == 2
    assert report.read(there.report)[1]["complete"]
    assert there.listing() == whole.listing()
    assert there.ran(*RUN[:-1], "other", "-k", "nothing_of_that_name").returncode == 2
    assert not (there.folder / "other").exists()


# pytest


@posix
@pytest.mark.parametrize("words", [("-p", "no:xdist"), ("-n", "1")])
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_pytest_journals_its_rows(there, whole, words, how):
    process = there.held(*PYTEST, *words)
    wait_for_rows(there.report)
    os.killpg(process.pid, getattr(signal, how))
    status, told = there.ended(process)
    assert status == (2 if how == "SIGTERM" else -signal.SIGKILL), told
    if how == "SIGKILL":
        assert there.ran("conformance", "recover", "report").returncode == 0
    table, record = report.read(there.report)
    assert not record["complete"]
    assert record["planned"] == 5
    assert len(table) == BEFORE
    assert there.ran(*RUN, "--resume").returncode == 0
    assert there.results() == whole.results()


def test_pytest_ends_with_3_for_an_exception_of_the_suite(there):
    done = there.ran(*PYTEST, "-p", "no:xdist", FAULT="held")
    assert done.returncode == 3
    assert ISSUES in done.stdout
    assert len(report.read(there.report)[0]) == 4


# Faults of this package


@pytest.mark.parametrize("words", [(), ("-n", "2"), ("--in-process",)])
def test_exception_of_the_suite_is_a_message_and_status_3(there, words):
    done = there.ran(*RUN, *words, FAULT="held")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"please report it: {ISSUES}" in done.stderr
    (saved,) = there.folder.glob("conformance-traceback-*.txt")
    assert str(saved) in done.stderr
    assert "in faulty" in saved.read_text()
    table, record = report.read(there.report)
    assert record["interrupted"].startswith("the suite itself failed")
    assert len(table) >= BEFORE
    done = there.ran(*RUN, "--resume")
    assert done.returncode == 0, done.stderr


def test_traceback_is_printed_if_requested(there):
    done = there.ran(*HERE, FAULT="held", CONFORMANCE_TRACEBACK="1")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert not list(there.folder.glob("conformance-traceback-*"))


@pytest.fixture
def conformance(monkeypatch, capsys):
    """The command in this process: (exit status, what it prints to stderr)."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["conformance", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return command


class Unprintable(Exception):  # noqa: N818
    def __str__(self):
        raise ValueError("no")


@pytest.mark.parametrize("error", [RuntimeError("x\ny"), MemoryError(), RecursionError("deep"), Unprintable()])
def test_commands_exit_with_3_for_exception_of_this_package(conformance, monkeypatch, tmp_path, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("conformance.adapters.registry.installed", fails)
    for words in (("relations",), ("fuzz",), ("sweep", "torch.BCELoss"), ("run", "--report", str(tmp_path / "r"))):
        status, told = conformance(*words)
        assert status == 3, words
        assert type(error).__name__ in told
        assert ISSUES in told
        assert "Traceback" not in told


@pytest.mark.parametrize("error", [SystemExit(), SystemExit(0), SystemExit("text")])
def test_commands_exit_with_130_for_foreign_system_exit(conformance, monkeypatch, error):
    """As a thread of a framework can raise it in the main thread."""

    def fails(*_, **__):
        raise error

    monkeypatch.setattr("conformance.adapters.registry.installed", fails)
    assert conformance("relations") == (130, "interrupted by a SystemExit that is not this command's own\n")


def test_main_exits_with_130_for_system_exit_outside_of_command(conformance, monkeypatch):
    def fails():
        raise SystemExit

    monkeypatch.setattr(cli, "app", fails)
    assert conformance("relations")[0] == 130


def test_main_distinguishes_exceptions_of_imports(monkeypatch, capsys):
    def fails():
        raise RuntimeError("odd")

    monkeypatch.setattr(sys, "argv", ["conformance"])
    monkeypatch.setattr(cli, "main", fails)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    text = capsys.readouterr().err
    assert ended.value.code == 3
    assert "the suite itself failed: an exception that it does not expect (RuntimeError: odd)" in text
    monkeypatch.setitem(sys.modules, "conformance.cli", None)
    with pytest.raises(SystemExit):
        __main__.main()
    assert "the suite itself failed: it cannot be imported" in capsys.readouterr().err


@posix
def test_commands_exit_with_130_for_signal(conformance, monkeypatch):
    for number in (signal.SIGTERM, signal.SIGHUP):
        before = signal.signal(number, signal.SIG_DFL)

        def interrupted(*_, number=number):
            os.kill(os.getpid(), number)
            time.sleep(10)

        monkeypatch.setattr("conformance.adapters.registry.installed", interrupted)
        assert conformance("relations") == (130, "interrupted\n")
        assert signal.signal(number, before) == signal.SIG_DFL


def test_issue_address_equals_that_of_the_package(checkout):
    import tomllib

    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["urls"]["Issues"] == ISSUES


# The journal itself

PLAN = Plan(RunInfo(planned=3, started="2026-01-02T03:04:05+00:00"), sizes={"x": (1, 2)})
ROWS = [
    Row.of(row(case="categorical/a/x", got="nan", ratio=float("nan"))),
    Row.of(row(case="categorical/a/y", explanation="\udc80\x1b\n\u2028{}", error=None, ratio=float("inf"))),
    Row.of(row("keras.B", case="binary/b/z", ulps=0.1 + 0.2)),
]  # fmt: skip


def begun(folder, warn=pytest.fail, **options):
    return Journal.begin(folder, "2026-01-02T03:04:05+00:00", warn, **options)


def test_journal_restores_rows_bit_for_bit(tmp_path):
    held = begun(tmp_path)
    held.plan(PLAN)
    for one in ROWS:
        held.append(one)
    found = read_journal(tmp_path)
    held.close(complete=False)
    assert repr([one.cells for one in found.rows.values()]) == repr([one.cells for one in ROWS])
    assert found.plan == PLAN
    assert found.torn == 0
    assert f"process {os.getpid()} on " in found.owner


def test_truncated_journal_has_every_earlier_row(tmp_path):
    held = begun(tmp_path)
    held.plan(PLAN)
    for one in ROWS:
        held.append(one)
    held.close(complete=False)
    data = (tmp_path / JOURNAL).read_bytes()
    for end in range(0, len(data), 7):
        (tmp_path / JOURNAL).write_bytes(data[:end])
        lines = data[:end].count(b"\n")
        assert len(read_journal(tmp_path).rows) in (max(0, lines - 2), max(0, lines - 1))


@pytest.mark.parametrize("content", [b"{}\n", b"rows\n", b'{"journal": 99}\n', b"[]\n\n", b"\xff\n"])
def test_foreign_file_is_neither_read_nor_removed(tmp_path, content):
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(ReportError, match=r"journal\.jsonl"):
        begun(tmp_path)
    assert (tmp_path / JOURNAL).read_bytes() == content
    assert not (tmp_path / LOCK).exists()


@posix
@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_journal_without_regular_file_is_rejected_at_once(tmp_path, kind):
    file = tmp_path / JOURNAL
    {"folder": file.mkdir, "fifo": lambda: os.mkfifo(file), "link": lambda: file.symlink_to("/dev/full")}[kind]()
    with pytest.raises(ReportError, match="and no file"):
        begun(tmp_path)


def test_full_disk_is_reported_once_and_rows_are_written_later(tmp_path, monkeypatch):
    text = []
    held = begun(tmp_path, text.append)
    held.plan(PLAN)
    write = os.write

    def full(descriptor, data):
        if len(data) > 10:
            return write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    held.append(ROWS[0])
    held.append(ROWS[1])
    monkeypatch.setattr(journal.os, "write", write)
    assert len(text) == 1
    assert "No space left on device" in text[0]
    held.append(ROWS[2])
    found = read_journal(tmp_path)
    assert (len(found.rows), found.torn) == (3, 0)
    held.close(complete=False)


@posix
def test_initially_full_disk_ends_with_message(there):
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
    (there.folder / "limited.py").write_text(f"{limit}sys.argv = sys.argv[1:]\nrunpy.run_module('conformance', "
                                             "run_name='__main__', alter_sys=True)\n")  # fmt: skip
    done = there.ran("limited", *RUN)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "the run goes on" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("times", [1, 2])
def test_interruption_of_writing_loses_no_row(tmp_path, monkeypatch, times):
    run = recording.RecordedRun(tmp_path, pytest.fail)
    run.plan(PLAN)
    for one in ROWS:
        run.accept(one)
    write, interruptions = recording.write, iter(range(times))

    def interrupted(*arguments):
        if next(interruptions, None) is not None:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(recording, "write", interrupted)
    with contextlib.nullcontext() if times == 1 else pytest.raises(KeyboardInterrupt):
        run.write()
    assert (tmp_path / RUN_JSON).exists() == (times == 1)
    assert len(read_journal(tmp_path).rows) == 3
    assert not (tmp_path / LOCK).exists()
    if times == 1:
        table, record = report.read(tmp_path)
        assert (len(table), record["interrupted"], record["complete"]) == (3, "interrupted", False)


def test_earlier_report_is_restored_after_a_run_without_calls(tmp_path):
    report.write(tmp_path, report.frame(ROWS), RunInfo(3))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    held = begun(tmp_path)
    with pytest.raises(ReportError, match="has not come to its end"):
        report.read(tmp_path)
    held.abandon()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_run_killed_after_writing_report_is_complete(tmp_path):
    held = begun(tmp_path)
    held.plan(PLAN)
    for one in ROWS:
        held.append(one)
    held.close(complete=False)
    record = recording.recover(tmp_path, pytest.fail)
    assert record["complete"]
    assert not (tmp_path / JOURNAL).exists()
    assert len(report.read(tmp_path)[0]) == 3
    with pytest.raises(ReportError, match="has no journal"):
        recording.recover(tmp_path, pytest.fail)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--timeout inf", "inf: name seconds, a finite number above 0"),
        ("--timeout nan", "nan: name seconds, a finite number above 0"),
        ("--import-timeout inf", "inf: name seconds, a finite number above 0"),
        ("--report ''", "it is empty; name a file or a folder"),
        ("--cases ''", "it is empty; name a file or a folder"),
        ("--baseline ' '", "it is empty; name a file or a folder"),
        ("--report r --sarif r/results.csv", "--sarif r/results.csv: is a file of the report itself; name another one"),
        ("--report r --comment r/../r/run.json", "run.json: is a file of the report itself; name another one"),
        ("--report r --comment r/journal.jsonl", "journal.jsonl: is a file of the report itself; name another one"),
        ("--sarif s --comment ./s", "--sarif and --comment both name s; name two files"),
    ],
)
def test_run_rejects_options_that_would_hang_or_overwrite(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["conformance", "run", "--in-process", *shlex.split(words)])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())  # a box wraps what it says
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.parametrize("option", ["--sarif", "--comment"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fifo", "cannot be written (a FIFO and no file)"),
        ("folder", "cannot be written (a folder and no file)"),
        ("loop", "cannot be written (Too many levels of symbolic links)"),
        ("baseline/results.csv", "is a file of another report"),
        ("baseline/run.json", "is a file of another report"),
        ("link", "is a file of another report"),
        ("mine.yaml", "may be a case file"),
    ],
)
def test_run_replaces_only_its_own_sarif_and_comment_files(name, said, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    written(Path("baseline"), [row()])
    Path("link").symlink_to("baseline/summary.md")
    Path("mine.yaml").write_text("about: mine\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["conformance", "run", "--in-process", "--cases", "none", option, name])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert f"{option} {name}: {said}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
@pytest.mark.parametrize("words", ["fuzz --cases-count 1 --state fifo", "sweep sklearn.log_loss --state fifo"])
def test_state_is_not_read_from_fifo(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    monkeypatch.setattr(sys, "argv", ["conformance", *words.split()])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert "a FIFO" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["index.html", "results.csv", RUN_JSON])
def test_run_rejects_to_replace_foreign_files(name, tmp_path, monkeypatch, capsys):
    content = '{"name": "the site of somebody"}\n'
    (tmp_path / name).write_text(content)
    words = ["run", "-k", "sklearn and categorical/seed/", "--in-process", "--report", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["conformance", *words])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert f"{name} would be replaced, and no report is there" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, content)]


def test_foreign_folder_named_previous_is_kept(tmp_path):
    (tmp_path / PREVIOUS).mkdir()
    (tmp_path / PREVIOUS / "mine").write_text("x")
    report.write(tmp_path, report.frame(ROWS), RunInfo(3))
    begun(tmp_path).close(complete=True)
    assert (tmp_path / PREVIOUS / "mine").read_text() == "x"


ODD = {
    "got": "[[[", "want": "[{}]", "want_by_convention": "[[1], [2, 3]]", "budgets": "[" * 100_000, "status": "banana",
    "dtype": "int3", "error": 10**400, "ratio": "1", "case": 5, "where": "[", "known": None,
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_recover_counts_invalid_rows(tmp_path, name):
    held = begun(tmp_path)
    held.plan(PLAN)
    for one in ROWS[:2]:
        held.append(one)
    held.close(complete=False)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(json.dumps({**ROWS[2].cells, name: ODD[name]}) + "\n")
    text = []
    record = recording.recover(tmp_path, text.append)
    assert text == ["1 line of the journal could not be read"]
    assert (record["finished"], record["planned"], record["complete"]) == (2, 3, False)
    assert len(report.read(tmp_path)[0]) == 2


@pytest.mark.parametrize("started", ["yesterday", 5, "0001-01-01", "9999-99-99T00:00:00+00:00", [], None])
def test_recover_accepts_missing_time(tmp_path, started):
    plan = {"info": asdict(RunInfo(planned=2, started=str(started))), "beside": {"sizes": {}, "problems": {}}}
    lines = [{"journal": 1, "started": started}, {"plan": {**plan, "basis": {}}}, *(one.cells for one in ROWS[:2])]
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = []
    record = recording.recover(tmp_path, text.append)
    assert text == ["2 lines of the journal could not be read"]
    assert (record["finished"], record["complete"]) == (2, False)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_recover_reports_unknown_number_of_planned_rows(tmp_path, monkeypatch, capsys, words):
    held = begun(tmp_path)
    for one in ROWS:
        held.append(one)
    held.close(complete=False)
    monkeypatch.setattr(sys, "argv", ["conformance", "recover", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    out = capsys.readouterr().out
    if words:
        assert json.loads(out)["planned"] is None
    else:
        assert "3 rows were done; how many were planned is not known" in out
        assert "marked incomplete" in out
    summary = (tmp_path / "summary.md").read_text()
    assert "**Incomplete**: 3 rows were finished (the run did not come to its end, and how many rows it" in summary
    assert report.read(tmp_path)[1]["complete"] is False
