"""Runs in processes of their own: somebody's adapter, found by its entry point, whose library dies and hangs."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from conformance import report
from conformance.adapters import registry
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.execution import environments, targets
from conformance.execution.assessing import CALLS_AHEAD, MAX_TIMED_OUT
from conformance.execution.workers.pool import MAX_IN_FLIGHT, LocalWorkerPool, WorkerSpec
from conformance.judging.row import COLUMNS
from conformance.model.errors import UserError
from conformance.tests import fragile, miniatures, signals
from conformance.tests.fork_server import interpreter
from conformance.tests.libraries import environment, write_library

LIBRARY = """
import ctypes, os, sys, time
import numpy as np


def loss(z, y, smoothing=None, weight=None, ignore=None, reduction="mean"):
    print("shaky: computing", flush=True)
    if smoothing is not None:
        ctypes.string_at(0)
    if weight is not None:
        open(os.path.join(os.path.dirname(__file__), "hangs"), "w").close()
        time.sleep(600)
    if ignore is not None:
        sys.exit("shaky does not like that")
    z = z.astype(np.float64)
    top = z.max(axis=-1, keepdims=True)
    lse = np.log(np.exp(z - top).sum(axis=-1)) + top[..., 0]
    losses = lse - np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]
"""
ADAPTER = """
from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function

FRAMEWORK = Framework(
    name="shaky",
    distributions=("shaky",),
    modules=("shaky_library",),
    imports="import shaky_library",
    arrays=arrays.numpy,
    functions=(
        Function(
            "loss",
            "shaky_library.loss({predictions}, {labels}, {options})",
            ranks={"categorical": range(2, 9)},
            input_kinds={"logits": ""},
            targets={"index": "int64"},
            arguments={"label_smoothing": "smoothing", "class_weights": "weight", "ignore_index": "ignore"},
            reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
            result_dtype="float64",
        ),
    ),
)
"""
KILLING = """

import multiprocessing, os, signal
from conformance.execution import judging_processes
from conformance.judging.judge import Judge

judging_processes.CHUNK = 2
judge = Judge.judge


def killed(self, asked, outcome):
    if asked.item.case.id.endswith({cases}) and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGSEGV)
    return judge(self, asked, outcome)


Judge.judge = killed
"""
"""An end of the adapter's module that has the process which judges some cases die of it; a chunk has two items."""
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
    reduction: [none, sum, mean]
  smoothed:
    why: Smoothing is asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    options: {label_smoothing: 0.5}
  weighted:
    why: Weights are asked.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    options: {class_weights: [1.0, 2.0, 3.0]}
  ignored:
    why: Something is ignored.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    options: {ignore_index: 0}
  wide:
    why: A last row, after all that.
    predictions: [[0.5, -1.5, 0.25, 4.0], [2.0, 0.25, -1.0, 3.0]]
    labels: [3, 0]
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on PYTHONPATH with a library, its adapter and its entry point; beside it one with cases."""
    return write_library(tmp_path, "shaky", LIBRARY, ADAPTER, CASES)


def command(folder, *words):
    return [sys.executable, "-m", *words], {"cwd": folder, "env": environment(folder)}


def ran(folder, *words):
    return interpreter().run(["-m", *words], folder, environment(folder))


def run(folder, *words):
    options = ["--cases", "cases", "--report", "report", "--framework", "shaky", *words]
    return ran(folder, "conformance", "run", *options)


def rows(folder, name="report"):
    table, record = report.read(folder / name)
    return {(row.case.partition("/")[2], row.reduction): row for row in table.itertuples()}, record


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_run_continues_after_crashes_and_timeouts(elsewhere):
    done = run(elsewhere, "--isolate", "--timeout", "2")
    assert done.returncode == 1, done.stderr
    found, record = rows(elsewhere)
    assert record["complete"]
    assert {key: row.status for key, row in found.items()} == {
        ("plain", "none"): "agrees",
        ("plain", "sum"): "agrees",
        ("plain", "mean"): "agrees",
        ("smoothed", "mean"): "crashed",
        ("weighted", "mean"): "timed_out",
        ("ignored", "mean"): "disagrees",
        ("wide", "mean"): "agrees",
    }
    assert "was killed by SIGSEGV" in found["smoothed", "mean"].explanation
    assert "in loss" in found["smoothed", "mean"].explanation
    assert "it did not return within 2 s" in found["weighted", "mean"].explanation
    assert found["ignored", "mean"].exception == "SystemExit: shaky does not like that"
    assert "shaky: computing" not in done.stdout


@pytest.mark.parametrize("tool", ["run", "pytest"])
def test_function_is_skipped_after_several_timeouts_in_a_row(elsewhere, tool):
    (file,) = (elsewhere / "cases").rglob("*.yaml")
    head, plain = CASES.partition("  plain:\n")[0], CASES.partition("  plain:\n")[2].partition("  smoothed:\n")[0]
    slow = plain.replace("[none, sum, mean]", "[mean]\n    options: {class_weights: [1.0, 2.0, 3.0]}")
    count = MAX_TIMED_OUT + CALLS_AHEAD + 2
    file.write_text(head + f"  plain:\n{plain}" + "".join(f"  slow_{n:02}:\n{slow}" for n in range(count)))
    started = time.monotonic()
    if tool == "run":
        done = run(elsewhere, "--isolate", "--timeout", "1")
    else:
        words = ("-p", "no:cacheprovider", "-p", "no:xdist", "--cases", "cases", "--report", "report", "-k", "shaky")
        done = ran(elsewhere, "pytest", *words, "--isolate", "--call-timeout", "1")
    found, _ = rows(elsewhere)
    codes = [found[f"slow_{n:02}", "mean"].reason_code for n in range(count)]
    skipped = codes.count("skipped")
    assert codes == ["timed_out"] * (count - skipped) + ["skipped"] * skipped, done.stdout
    assert count - MAX_TIMED_OUT - MAX_IN_FLIGHT <= skipped <= count - MAX_TIMED_OUT
    assert {row.status for (name, _), row in found.items() if name != "plain"} == {"timed_out"}
    assert f"{skipped} calls skipped, as others in a row took too long: shaky.loss: {skipped}" in done.stdout
    assert time.monotonic() - started < 2 * count


def test_rows_equal_those_of_one_process(elsewhere):
    chosen = ["-k", "plain or wide or ignored"]
    ways = {"here": ["--in-process"], "there": [], "isolated": ["--isolate"], "two": ["-n", "2"], "four": ["-n", "4"]}
    for name, words in ways.items():
        assert run(elsewhere, *chosen, *words, "--report", name).returncode == 1
    (_,) = {(elsewhere / name / "results.csv").read_bytes() for name in ways}


def test_run_makes_calls_in_worker_processes_by_default(elsewhere):
    chosen = ["-k", "plain or smoothed or wide"]
    for words in ([], ["-n", "2"]):
        assert run(elsewhere, *chosen, *words).returncode == 1
        found, record = rows(elsewhere)
        assert record["complete"]
        assert [row.status for row in found.values()].count("crashed") == 1
    assert run(elsewhere, *chosen, "--in-process", "--report", "here").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("words", [("--isolate",), ("-n", "2"), ("--with", "six")])
def test_in_process_option_with_processes_is_rejected(elsewhere, words):
    done = run(elsewhere, "--in-process", *words)
    assert done.returncode == 2
    assert "--in-process" in done.stderr
    assert not (elsewhere / "report").exists()


@pytest.mark.parametrize(
    ("cases", "lost"),
    [
        (("smoothed",), {"smoothed-float64-mean": ""}),
        (
            ("plain",),
            {
                **dict.fromkeys([f"plain-float64-{name}" for name in ("none", "sum", "mean")], ""),
                "smoothed-float64-mean": "",
            },
        ),
    ],
)
def test_judging_process_that_dies_loses_only_its_current_item(elsewhere, cases, lost):
    (elsewhere / "packages" / "shaky_adapter.py").write_text(ADAPTER + KILLING.replace("{cases}", repr(cases)))
    done = run(elsewhere, "-n", "2", "-k", "plain or smoothed or wide")
    assert done.returncode == 2, done.stdout
    text = re.findall(r"not executed: shaky.loss-rows/(\S+): the process .* was killed by SIGSEGV(.*)", done.stderr)
    assert dict(text) == lost
    assert f"{len(lost)} could not be executed; {5 - len(lost)} of 5 rows are in the report" in done.stderr


def test_pytest_isolates_crashes_and_timeouts(elsewhere):
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--cases", "cases", "-k", "shaky"]
    done = ran(elsewhere, "pytest", *words, "--isolate", "--call-timeout", "2", "--report", "report")
    assert "3 failed, 4 passed" in done.stdout, done.stdout + done.stderr
    assert "was killed by SIGSEGV" in done.stdout
    assert run(elsewhere, "--isolate", "--timeout", "2", "--report", "other").returncode == 1
    by_pytest, by_run = ((elsewhere / name / "results.csv").read_bytes() for name in ("report", "other"))
    assert by_pytest == by_run


def test_baseline_accepts_earlier_failures(elsewhere):
    assert run(elsewhere, "--isolate", "--timeout", "2", "--report", "accepted").returncode == 1
    again = run(elsewhere, "--isolate", "--timeout", "2", "--baseline", "accepted")
    assert again.returncode == 0, again.stdout
    assert "nothing got worse" in again.stdout
    library = elsewhere / "packages" / "shaky_library.py"
    library.write_text(LIBRARY.replace("losses.mean()", "losses.mean() * 1.001"))
    worse = run(elsewhere, "--isolate", "--timeout", "2", "--baseline", "accepted")
    assert worse.returncode == 1
    assert "2 new disagreement" in worse.stdout
    assert run(elsewhere, "-k", "plain and sum", "--baseline", "accepted").returncode == 0
    words = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--cases",
        "cases",
        "--baseline",
        "accepted",
        "--isolate",
    ]
    tests = ran(elsewhere, "pytest", *words, "--call-timeout", "2", "-k", "shaky and not plain and not wide")
    assert tests.returncode == 0, tests.stdout
    assert "3 xfailed" in tests.stdout
    tests = ran(elsewhere, "pytest", *words, "-k", "shaky and plain")
    assert tests.returncode == 1
    assert "1 new disagreement" in tests.stdout


def test_invalid_baseline_is_reported_before_the_run(elsewhere):
    for done in (
        run(elsewhere, "--baseline", "nowhere"),
        ran(elsewhere, "pytest", "--cases", "cases", "--baseline", "no"),
    ):
        assert done.returncode in (2, 4)
        assert "does not exist" in done.stderr
    assert not (elsewhere / "report").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("inherited", ["default", "ignored"])
def test_ctrl_c_keeps_finished_rows(elsewhere, ignored_signals, inherited):
    """A command that inherits an ignored SIGINT goes on, as is the convention."""
    arguments, where = command(elsewhere, "conformance", "run", "--cases", "cases", "--framework", "shaky", "--isolate")
    with subprocess.Popen(
        [*arguments, "--report", "report"],
        **where,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if inherited == "ignored" else signals.restore,
    ) as process:
        wait_until((elsewhere / "packages" / "hangs").exists)
        time.sleep(4)  # what was answered before is judged meanwhile
        process.send_signal(signal.SIGINT)
        if inherited == "ignored":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            process.kill()
            return
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    found, record = rows(elsewhere)
    assert not record["complete"]
    assert len(found) >= 3


def test_killed_run_leaves_no_complete_report(elsewhere):
    (elsewhere / "report").mkdir()
    arguments, where = command(elsewhere, "conformance", "run", "--cases", "cases", "--framework", "shaky", "--isolate")
    with subprocess.Popen([*arguments, "--report", "report"], **where, stderr=subprocess.DEVNULL) as process:
        wait_until((elsewhere / "packages" / "hangs").exists)
        process.kill()
    with pytest.raises(report.ReportError, match=r"run\.json"):
        report.read(elsewhere / "report")


# Environments


@pytest.fixture
def fakes(monkeypatch):
    """Environments without installing: this interpreter, in which `fragile` is whatever version is asked for."""
    origin = registry.Origin(f"{fragile.__name__}:FRAMEWORK")
    monkeypatch.setattr(registry, "frameworks", lambda: (fragile.FRAMEWORK,))
    monkeypatch.setattr(registry, "origin", lambda framework: origin)

    def build(expected, text):
        text(f"making {expected.name}")
        if "99" in expected.name:
            raise environments.EnvironmentFailure(expected, "there is no such release")
        packages = {"numpy": "1.0"} if "numpy" in expected.name else {"six": "1.0"}
        return environments.Environment(expected.name, Path(sys.executable), expected.variables, packages, "3.11.0")

    monkeypatch.setattr(environments, "build", build)
    return build


def test_unavailable_environments_have_rows(fakes):
    said = []
    found = targets.start_workers(dict.fromkeys(["numpy==1", "numpy==99", "numpy =="], ()), said.append)
    with found.pool as pool:
        (there,) = found.available
        assert (there.framework.name, there.environment) == ("fragile", "numpy==1")
        assert pool.versions(there.worker).python == there.python
    assert said[0] == "making numpy==1"
    assert [row.key.environment for row in found.failed] == ["numpy==99", "numpy =="]
    assert "there is no such release" in found.failed[0].explanation
    table = report.frame(found.failed)
    assert set(table["status"]) == {"crashed"}
    assert report.pairs(table).empty


def test_run_without_any_environment_is_an_error(fakes):
    with pytest.raises(UserError, match="there is no such release"):
        targets.start_workers({"numpy==99": ()}, lambda line: None)


def test_adapter_missing_in_environment_is_loaded_from_its_file(tmp_path):
    source = Path(fragile.__file__).read_text().replace('name="fragile"', 'name="carried"')
    (tmp_path / "carried_adapter.py").write_text(source)
    file = str(tmp_path / "carried_adapter.py")
    with LocalWorkerPool([WorkerSpec("it", "carried_adapter:FRAMEWORK", file)]) as pool:
        assert pool.versions("it").python


def test_rows_of_several_environments_are_distinguished():
    row = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("error", "budget", "ratio", "ulps"), 0.0)
    row |= {"case": "a/b", "framework": "x", "function": "x.f", "status": "agrees", "got": "1.0", "expected": "ok"}
    table = report.from_records([row | {"environment": name, "version": name} for name in ("1.0", "2.0")])
    assert isinstance(table, pd.DataFrame)
    shown = report.summary(table, report.pairs(table), report.RunInfo(2, {"x": "1.0, 2.0"}))
    assert "`x.f (1.0)`" in shown
    assert "`x.f (2.0)`" in shown


def test_calls_of_many_frameworks_are_made_in_workers(monkeypatch):
    monkeypatch.setattr(targets, "local_pool", lambda available: contextlib.nullcontext(len(available)))
    named = [
        Installed(dataclasses.replace(fragile.FRAMEWORK, name=f"library_{number}"), "1")
        for number in range(targets.MAX_TOGETHER + 1)
    ]
    with targets.pool_if_needed(named, Ledger()) as pool:
        assert pool == len(named)
    with targets.pool_if_needed(named[:-1], Ledger()) as pool:
        assert pool is None


def test_calls_of_known_crashing_release_are_made_in_worker(monkeypatch):
    monkeypatch.setattr(targets, "local_pool", lambda available: contextlib.nullcontext(len(available)))
    installed = miniatures.installed(miniatures.Binary)
    entry = KnownIssue("a/b", installed.functions[0].name, versions="<2", status="crashed")
    for version, pool_size in (("1.0", 1), ("2.0", None)):
        with targets.pool_if_needed([dataclasses.replace(installed, version=version)], Ledger([entry])) as pool:
            assert pool == pool_size
