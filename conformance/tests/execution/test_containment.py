"""Whatever a function returns, raises or changes ends as an outcome, and later calls do not notice."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from conformance import report
from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import Function, LoweringError, containment
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.workers.pool import LocalWorkerPool, Timeouts, WorkerSpec
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.judging.prepare import prepare
from conformance.model.case import ByOracle, MustRaise
from conformance.model.outcome import NonNumeric, Raised, Returned
from conformance.model.text import printable
from conformance.reference.oracle import Oracle
from conformance.tests import hostile
from conformance.tests.fork_server import interpreter
from conformance.tests.libraries import environment, write_library
from conformance.tests.stated import case

ONES = np.ones(2)


def call(name, x=ONES):
    return Call(f"{hostile.__name__}.loss(x, name={name!r})", {"x": Tensor(x)})


def here(name, x=ONES):
    with hostile.unchanged():
        return perform(hostile.FRAMEWORK, call(name, x), name)


@pytest.fixture(scope="module")
def pool():
    with LocalWorkerPool([WorkerSpec("hostile", f"{hostile.__name__}:FRAMEWORK")], Timeouts(60)) as pool:
        yield pool


def said(outcome):
    """An outcome in words."""
    match outcome:
        case Returned(_, dtype):
            return dtype
        case NonNumeric(what, reason):
            return f"{what} {reason}"
        case Raised(exception, message):
            return f"{exception}: {message}"


@pytest.mark.parametrize("name", hostile.FUNCTIONS)
def test_function_cannot_end_run(name, pool):
    """In this process and in a worker: one outcome, which is judged, and makes a row that can be written."""
    kind, words = hostile.SAID[name]
    isolated = pool.wait(pool.submit("hostile", call(name), name))
    for outcome in (here(name), isolated):
        assert type(outcome).__name__ == kind
        assert words in said(outcome)
        assert len(said(outcome)) < 700
        assert sum(map(len, getattr(outcome, "warnings", ()))) < 3e6
    assert said(perform(hostile.FRAMEWORK, call("argument"), "x")) == "float64"
    assert said(pool.wait(pool.submit("hostile", call("argument"), "x"))) == "float64"


def test_returned_value_is_recorded_unchanged():
    np.testing.assert_array_equal(here("backwards", np.arange(3.0)).value, [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(here("foreign_order").value, [1.0, 2.0])
    first, second = here("reuses").value, here("reuses").value
    assert second[0] == first[0] + 1
    assert here("argument").value.flags.owndata


@pytest.mark.parametrize("name", ["reshapes", "retypes"])
def test_changed_shape_or_dtype_of_argument_is_mutation(name):
    assert here(name).mutated == ("x",)


FUNCTION = Function(
    "loss",
    "hostile.loss({predictions}, {labels})",
    ranks={"categorical": range(2, 3)},
    input_kinds={"logits": ""},
    targets={"index": ""},
    reductions={"none": "", "mean": ""},
)


def judged(outcome, expect=None, reduction="mean"):
    stated = case([[0.0, 1.0]], [7 if expect else 0], expect=expect or ByOracle(), reductions=(reduction,))
    framework = dataclasses.replace(hostile.FRAMEWORK, functions=(FUNCTION,))
    item = plan([stated], [Installed(framework, "1.0")])[0]
    assessment = Judge(Oracle(), Ledger()).judge(prepare(item), outcome)
    assert str(assessment)
    return assessment.row.cells


@pytest.mark.parametrize("name", hostile.FUNCTIONS)
def test_outcomes_have_rows(name):
    row = judged(here(name))
    assert row["status"] == "disagrees"
    kind, words = hostile.SAID[name]
    if kind == "NonNumeric":
        assert row["explanation"].startswith(f"returned {words}") or words in row["explanation"]
        assert "where a number is expected" in row["explanation"]


def test_report_has_the_row_of_every_outcome(tmp_path):
    rows = {name: {**judged(here(name)), "function": f"hostile.{name}"} for name in hostile.FUNCTIONS}
    report.write(tmp_path / "r", report.from_records(list(rows.values())), report.RunInfo(len(rows)))
    found = report.read(tmp_path / "r")[0].set_index("function")["explanation"]
    read = {name: printable(found[f"hostile.{name}"]) for name in rows}
    assert read == {name: printable(row["explanation"]) for name, row in rows.items()}


def test_text_instead_of_exception_disagrees():
    row = judged(here("text"), MustRaise("label_out_of_range"))
    assert row["status"] == "disagrees"
    assert row["explanation"].startswith("returned a str for invalid input: label_out_of_range")
    assert judged(here("leaves"), MustRaise("label_out_of_range"))["status"] == "agrees"


# What is not the function's


needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def interrupted(swallow):
    def function(x):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            if not swallow:
                raise
            if swallow == "converts":
                raise RuntimeError("no") from None
        return x

    return function


@needs_signals
@pytest.mark.parametrize("swallow", ["", "returns", "converts"])
def test_ctrl_c_ends_run_even_if_function_catches_it(swallow, monkeypatch):
    monkeypatch.setitem(hostile.FUNCTIONS, "interrupted", interrupted(swallow))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            perform(hostile.FRAMEWORK, call("interrupted"), "x")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@needs_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGALRM"])
def test_exception_of_signal_handler_is_passed_on(name, monkeypatch):
    class Over(BaseException):
        pass

    def over(*_):
        raise Over

    def function(x):
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(5)

    monkeypatch.setitem(hostile.FUNCTIONS, "signalled", function)
    before = signal.signal(getattr(signal, name), over)
    try:
        with pytest.raises(Over):
            perform(hostile.FRAMEWORK, call("signalled"), "x")
    finally:
        signal.signal(getattr(signal, name), before)


def test_interruption_in_other_thread_is_recorded_as_exception():
    found = []
    thread = threading.Thread(target=lambda: found.append(perform(hostile.FRAMEWORK, call("interrupts"), "x")))
    thread.start()
    thread.join()
    assert found == [Raised("KeyboardInterrupt", "")]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, hostile.Loud, ValueError])
def test_exception_before_call_is_adapter_error(error):
    def tensor(*_):
        raise error("\udc80")

    bundle = dataclasses.replace(hostile.FRAMEWORK.arrays, native=tensor)
    framework = dataclasses.replace(hostile.FRAMEWORK, arrays=bundle)
    with hostile.unchanged(), pytest.raises(LoweringError, match=error.__name__):
        perform(framework, call("argument"), "x")


def test_missing_working_directory_is_tolerated(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert said(perform(hostile.FRAMEWORK, call("argument"), "x")) == "float64"
    assert said(perform(hostile.FRAMEWORK, call("moves"), "x")) == "float64"


def test_arguments_of_function_are_passed_unchanged(monkeypatch):
    seen = []
    monkeypatch.setattr(hostile, "loss", lambda x, name: seen.append(list(name)) or name.append(1) or x)
    containing = Call(f"{hostile.__name__}.loss(x, name=['a'])", {"x": Tensor(ONES)})
    perform(hostile.FRAMEWORK, containing, "x")
    perform(hostile.FRAMEWORK, containing, "x")
    assert seen == [["a"], ["a"]]


# The end of a command

LIBRARY = """
import atexit, os, sys, threading, time
import numpy as np

def thread(): threading.Thread(target=time.sleep, args=(600,)).start()

def at_exit():
    atexit.register(time.sleep, 600)
    atexit.register(lambda: 1 / 0)

def vanishes(): os._exit(0)

def interrupts(): raise KeyboardInterrupt

def limits(hard=False):
    import resource
    for number, limit in ((resource.RLIMIT_AS, 1 << 20), (resource.RLIMIT_NOFILE, 3), (resource.RLIMIT_FSIZE, 0)):
        resource.setrlimit(number, (limit, limit if hard else resource.getrlimit(number)[1]))

def hard_limits(): limits(hard=True)

def path():
    class Odd:
        def __eq__(self, other): raise ValueError("not compared")
    sys.path[:] = [Odd()]

def path_is_other(): sys.path = None

def clears():
    sys.path.clear()
    del os.environ["PATH"], os.environ["CONFORMANCE_CACHE"]
    os.environ = {"DEED": os.environ["DEED"]}

def closes():
    print("printed")
    sys.stdout.close()
    os.close(2)

def loss(z, y):
    globals()[os.environ["DEED"]]()
    z = z.astype(np.float64)
    top = z.max(axis=-1, keepdims=True)
    return np.mean(np.log(np.exp(z - top).sum(axis=-1)) + top[..., 0] - np.take_along_axis(z, y[..., None], -1)[..., 0])
"""
ADAPTER = """
from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function

FRAMEWORK = Framework(
    name="rude", distributions=("rude",), modules=("rude_library",), imports="import rude_library",
    arrays=arrays.numpy,
    functions=(
        Function(
            "loss", "rude_library.loss({predictions}, {labels})", ranks={"categorical": range(2, 9)},
            input_kinds={"logits": ""}, targets={"index": "int64"}, reductions={"mean": ""}, result_dtype="float64",
        ),
    ),
)
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
  plain:
    why: Nothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
  again:
    why: A second row, after all that.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [0, 0]
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder on PYTHONPATH with a library, its adapter and its entry point; beside it one with cases."""
    return write_library(tmp_path_factory.mktemp("elsewhere"), "rude", LIBRARY, ADAPTER, CASES)


def command(folder, deed, *words, fresh=False):
    """(exit status, stdout, stderr) of a command whose framework does something rude.

    fresh: in a process whose output goes through pipes, as limits on the size of files hold for that of a fork.
    """
    soon = "from conformance.execution import ending; ending.ensure_exit.__defaults__ = (0.5,)"
    program = f"{soon}; from conformance.cli import main; main()"
    arguments, variables = ["-c", program, *words], environment(folder, DEED=deed)
    if fresh:
        whole = [sys.executable, *arguments]
        done = subprocess.run(whole, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    else:
        done = interpreter().run(arguments, folder, variables)
    return done.returncode, done.stdout, done.stderr


RUN = ("run", "--cases", "cases", "--framework", "rude", "--json", "--report")


@pytest.mark.parametrize(
    ("deed", "words", "status", "rows"),
    [
        ("thread", (), 0, {"agrees": 2}),
        ("thread", ("--in-process",), 0, {"agrees": 2}),
        ("thread", ("-n", "2"), 0, {"agrees": 2}),
        ("at_exit", ("--in-process",), 0, {"agrees": 2}),
        ("vanishes", (), 1, {"crashed": 2}),
        ("vanishes", ("-n", "2"), 1, {"crashed": 2}),
        ("interrupts", (), 1, {"disagrees": 2}),
        ("interrupts", ("--in-process",), 1, {"disagrees": 2}),
        ("closes", (), 0, {"agrees": 2}),
        ("closes", ("--in-process",), 0, {"agrees": 2}),
        pytest.param(
            "limits",
            ("--in-process",),
            0,
            {"agrees": 2},
            marks=pytest.mark.skipif(os.name == "nt", reason="no such limits"),
        ),
        ("path", ("--in-process",), 0, {"agrees": 2}),
        ("path_is_other", (), 0, {"agrees": 2}),
        ("path_is_other", ("--in-process",), 0, {"agrees": 2}),
        ("clears", (), 0, {"agrees": 2}),
        ("clears", ("--in-process",), 0, {"agrees": 2}),
    ],
)
def test_run_ends_with_its_exit_status(elsewhere, deed, words, status, rows, tmp_path):
    ended, out, err = command(elsewhere, deed, *RUN, str(tmp_path / "r"), *words)
    assert ended == status, err
    assert json.loads(out)["status"] == rows
    assert len(report.read(tmp_path / "r")[0]) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
def test_run_out_of_memory_ends_with_advice(elsewhere, tmp_path):
    ended, _, err = command(elsewhere, "hard_limits", *RUN, str(tmp_path / "r"), "--in-process", fresh=True)
    assert ended == 3, err
    assert "is a row without --in-process" in err


def test_path_keeps_entries_added_by_function(monkeypatch):
    monkeypatch.setattr(sys, "path", before := list(sys.path))
    with containment.Surroundings():
        sys.path.insert(0, "added")
    assert sys.path is before
    assert sys.path[0] == "added"
    with containment.Surroundings():
        sys.path = sys.path[2:]
    assert sys.path is before
    assert sys.path[0] == "added"


def test_environment_keeps_additions_and_restores_removals(monkeypatch):
    before = os.environ
    for name in ("REMOVED", "CHANGED", "CONFORMANCE_CACHE"):
        monkeypatch.setenv(name, "before")
    monkeypatch.delenv("ADDED", raising=False)
    with containment.Surroundings():
        os.environ.pop("REMOVED")
        os.environ.update(ADDED="by it", CHANGED="by it", CONFORMANCE_CACHE="by it")
    named = ("REMOVED", "ADDED", "CHANGED", "CONFORMANCE_CACHE")
    assert [os.environ[name] for name in named] == ["before", "by it", "by it", "before"]
    monkeypatch.delenv("ADDED")
    with containment.Surroundings():
        vars(os)["environ"] = {}
    assert os.environ is before


@pytest.mark.parametrize(
    ("deed", "words"), [("thread", ("show", "rows/plain", "-m", "rude")), ("interrupts", ("relations", "-m", "rude"))]
)
def test_other_commands_contain_functions(elsewhere, deed, words):
    ended, out, err = command(elsewhere, deed, *words, "--cases", "cases")
    assert ended in (0, 1), err
    assert "Traceback" not in out + err


def test_pytest_ends_despite_running_thread(elsewhere):
    variables = {"PYTHONPATH": str(elsewhere / "packages"), "CONFORMANCE_CACHE": "off", "DEED": "thread"}
    source = "import conformance.plugin as p; p.EXIT_SECONDS = 0.5; import pytest; raise SystemExit(pytest.main())"
    done = subprocess.run(
        [sys.executable, "-c", source, "-p", "no:cacheprovider", "--cases", "cases", "-k", "rude"],
        cwd=elsewhere, env={**os.environ, **variables}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
