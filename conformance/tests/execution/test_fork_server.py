"""Forks of the server are to their caller what fresh processes are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from conformance.tests.fork_server import Interpreter, interpreter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere programs are fresh processes")
FACTS = """
import os, signal, sys
import beside
print(__name__, sys.argv[1:], os.getcwd(), beside.VALUE, sys.path[0], sorted(os.environ), sys.stdin.read())
print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)])
print(os.getpid() == os.getsid(0), sys.stdout.encoding, sys.stdout.isatty())
print("an error: \\ud800", file=sys.stderr)
END
"""


@pytest.fixture
def programs(tmp_path):
    """Runs a program as a fresh process and as a fork: (exit status, stdout, last line of stderr) of each."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "beside.py").write_text("VALUE = 5")

    def run(end, kind):
        source = FACTS.replace("END", end)
        (tmp_path / "program.py").write_text(source)
        words = [kind, "program" if kind == "-m" else source, "one", "--two"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages"), "OF_TEST": "1"}
        environment.pop("PYTHONUNBUFFERED", None)
        for runs in (Interpreter(), interpreter()):
            done = runs.run(words, tmp_path, environment)
            yield done.returncode, done.stdout, done.stderr.splitlines()[-1]

    return run


@pytest.mark.parametrize("kind", ["-m", "-c"])
@pytest.mark.parametrize(
    ("end", "status"), [("", 0), ("raise SystemExit(7)", 7), ("1 / 0", 1), ("os.abort()", -signal.SIGABRT)]
)
def test_fork_equals_fresh_process(programs, kind, end, status):
    fresh, forked = programs(end, kind)
    assert fresh == forked
    assert forked[0] == status
    assert (forked[1] == "") == (status < 0)  # what is buffered is lost with a process that is killed


@pytest.mark.parametrize("inherits", [True, False])
def test_fork_inherits_ignored_signals_if_requested(tmp_path, ignored_signals, inherits):
    source = "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    for runs in (Interpreter(), interpreter()):
        with runs.start(["-c", source], tmp_path, os.environ, inherits=inherits) as process:
            assert process.communicate(timeout=60)[0] == f"{inherits}\n"


def test_fork_receives_signals_and_is_awaited(tmp_path):
    with interpreter().start(["-c", "import time; time.sleep(600)"], tmp_path, os.environ) as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == process.poll() == -signal.SIGKILL


def test_scripts_run_commands_with_their_streams_and_status(tmp_path):
    interpreter().write_scripts(tmp_path)
    (tmp_path / "test_own.py").write_text("def test_own(): assert input() == 'a line'")
    words = [tmp_path / "pytest", "-s", "-q", "-p", "no:cacheprovider", "test_own.py"]
    for line, status in (("a line\n", 0), ("another\n", 1)):
        done = subprocess.run(words, cwd=tmp_path, input=line, capture_output=True, text=True)
        assert (done.returncode, "1 passed" in done.stdout) == (status, status == 0), done.stdout + done.stderr
