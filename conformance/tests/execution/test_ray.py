from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from conformance import report
from conformance.adapters import numpy, scipy
from conformance.adapters.contract import LoweringError
from conformance.adapters.libraries import pinned_installations
from conformance.execution.assessing import judge_items
from conformance.execution.environments import builder, interpreters, parse, uv
from conformance.execution.targets import start_workers
from conformance.execution.workers.on_ray import (
    CPUS,
    MAX_DEATHS,
    LocalRay,
    RayWorkerPool,
    RayWorkerSpec,
    connect,
)
from conformance.execution.workers.pool import MAX_IN_FLIGHT, LocalWorkerPool, Timeouts, WorkerError
from conformance.judging.case_set import load_case_set
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.model.outcome import Crashed, Raised, Returned, TimedOut
from conformance.reference.oracle import Oracle
from conformance.tests import fragile
from conformance.tests.execution.test_workers import ask, call, spec
from conformance.tests.indexes import SETTINGS, needs_index

if not Path("/proc").exists():
    pytest.skip("which process is whose is read from /proc", allow_module_level=True)
if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

ADAPTER = f"{fragile.__name__}:FRAMEWORK"
NUMBERS = (f"numpy=={np.__version__}", f"ml_dtypes=={ml_dtypes.__version__}")


@pytest.fixture(scope="module")
def head():
    with LocalRay(2) as here:
        yield here


@pytest.fixture(scope="module")
def cluster(head):
    with connect(head.address, print) as ray:
        yield ray


@pytest.fixture
def node(head, cluster):
    """Another node of two CPUs, while what is free of the first is taken: a process of it, and what gives that free."""
    from ray.util import placement_group, remove_placement_group

    taken = placement_group([{"CPU": cluster.available_resources()["CPU"]}])
    assert taken.wait(60)
    command = [
        head.python,
        "-m",
        "ray.scripts.scripts",
        "start",
        f"--address={head.address}",
        "--num-cpus=2",
        "--block",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: sum(one["Alive"] for one in cluster.nodes()) == 2)
            yield process, lambda: remove_placement_group(taken)
        finally:
            for one in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            remove_placement_group(taken)
    wait_until(lambda: sum(one["Alive"] for one in cluster.nodes()) == 1)


def wait_until(so, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def family(process):
    """A process and all that descend from it."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children[parent(folder.name)].append(int(folder.name))
    found = [process]
    for one in found:
        found += children[one]
    return found


def wanted(name="fragile", requirements=NUMBERS, adapter=ADAPTER, file="", **variables):
    return RayWorkerSpec(name, adapter, file, variables, requirements=requirements, sources=SETTINGS)


@pytest.fixture(scope="module")
def pool(cluster):
    with RayWorkerPool([wanted()], Timeouts(60)) as pool:
        yield pool


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def gone(process, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not Path(f"/proc/{process}").exists() or ") Z" in Path(f"/proc/{process}/stat").read_text():
            return True
        time.sleep(0.1)
    return False


# The same rows as a local run


@needs_index
def test_rows_equal_those_of_local_run(cluster):
    texts = ["scikit-learn==1.9.1", "scikit-learn==1.6.1"]
    near = start_workers(dict.fromkeys(texts, ()), print)
    shipped = load_case_set()
    items = plan(shipped.cases, near.available)[::97]
    assert {item.installed.environment for item in items} == set(texts)
    suite = Judge(Oracle(None), shipped.ledger)
    with near.pool as pool:
        expected = list(judge_items(items, suite, pool))
    tool = uv.Uv(uv.find_program(), SETTINGS)
    specs = []
    for text in texts:
        asked = parse(text)
        lockfile = builder.Builder(asked, tool).resolve(interpreters.running_interpreter()).splitlines()
        name = f"sklearn in {text}"
        specs.append(wanted(name, (*asked.options, *lockfile), "conformance.adapters.sklearn:FRAMEWORK"))
    with RayWorkerPool(specs) as pool:
        for there in near.available:
            facts = pool.versions(there.worker)
            assert (facts.version, facts.python, facts.numpy) == (there.version, there.python, there.numpy)
        rows = list(judge_items(items, suite, pool))
    assert len(rows) == len(items) > 10
    assert sorted(repr(row.cells) for row in rows) == sorted(repr(row.cells) for row in expected)


@needs_index
def test_run_of_all_libraries_calls_them_in_actors(head, tmp_path):
    words = ["--framework", "numpy", "--framework", "scipy", "-k", "article/ and float32 and mean and not gradient"]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "run", "--all", "--on", "ray", *words, "--report", str(tmp_path)],
        env={**os.environ, "RAY_ADDRESS": head.address}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = report.read(tmp_path)[0]
    expected = {one.environment for library in (numpy, scipy) for one in pinned_installations(library.FRAMEWORK)}
    assert set(rows["environment"]) == expected
    assert set(rows["status"]) == {"agrees", "unsupported"}


# What comes of a call


@needs_index
@pytest.mark.parametrize("name", ["echo", "total", "warn", "fail", "leave", "scribble", "segfault", "abort", "vanish"])
def test_actor_returns_outcome_of_local_worker(pool, name):
    with LocalWorkerPool([spec()]) as near:
        expected, outcome = ask(near, name), ask(pool, name)
    assert type(outcome) is type(expected)
    if isinstance(expected, Returned):
        np.testing.assert_array_equal(outcome.value, expected.value)
        assert (outcome.dtype, outcome.warnings, outcome.mutated) == (
            expected.dtype, expected.warnings, expected.mutated,
        )  # fmt: skip
    elif isinstance(expected, Crashed):
        assert outcome.how == expected.how
        assert len(outcome.stderr.splitlines()) == len(expected.stderr.splitlines())
    else:
        assert outcome == expected


@needs_index
def test_actor_exchanges_large_arrays(pool):
    large = np.random.default_rng(0).random((1000, 1000))
    futures = [pool.submit("fragile", call("echo", large), "x") for _ in range(MAX_IN_FLIGHT + 2)]
    for future in futures:
        assert pool.wait(future).value.tobytes() == large.tobytes()


@needs_index
def test_adapter_error_raises_lowering_error(pool):
    with pytest.raises(LoweringError, match=r"^nobody on x: AttributeError"):
        ask(pool, "nobody")
    assert ask(pool, "fail") == Raised("ValueError", "no such thing")
    assert pool.signatures("fragile", [f"{fragile.__name__}.echo"])


@needs_index
def test_call_times_out_and_others_continue(cluster):
    with RayWorkerPool([wanted()], Timeouts(2.0)) as pool:
        pool.versions("fragile")
        futures = [pool.submit("fragile", call(name), name) for name in ("echo", "hang", "echo")]
        outcomes = [pool.wait(future) for future in futures]
    assert [type(outcome) for outcome in outcomes] == [Returned, TimedOut, Returned]
    assert outcomes[1].seconds == 2.0


# Deaths


@needs_index
def test_calls_of_lost_actor_are_made_again(pool):
    worker = int(ask(pool, "whoami").value)
    futures = [pool.submit("fragile", call("total", np.full(3, n)), str(n)) for n in range(40)]
    pool.wait(futures[0])
    os.kill(parent(worker), signal.SIGKILL)
    outcomes = [pool.wait(future) for future in futures[1:]]
    assert [float(outcome.value) for outcome in outcomes] == [3.0 * n for n in range(1, 40)]
    assert int(ask(pool, "whoami").value) != worker
    assert gone(worker)


@needs_index
def test_calls_of_lost_node_are_made_on_another(node):
    process, give_free = node
    with RayWorkerPool([wanted()], Timeouts(60)) as pool:
        worker = int(ask(pool, "whoami").value)
        assert worker in family(process.pid)
        futures = [pool.submit("fragile", call("total", np.full(3, n)), str(n)) for n in range(40)]
        pool.wait(futures[0])
        for one in family(process.pid):
            os.kill(one, signal.SIGKILL)
        give_free()
        outcomes = [pool.wait(future) for future in futures[1:]]
        assert [float(outcome.value) for outcome in outcomes] == [3.0 * n for n in range(1, 40)]
        assert int(ask(pool, "whoami").value) not in family(process.pid)


@needs_index
def test_call_that_kills_actors_is_reported_as_crash(cluster, tmp_path):
    """The adapter lies in a file of somebody else, which is sent along."""
    other = tmp_path / "elsewhere.py"
    other.write_text(
        textwrap.dedent("""
            import os, signal
            import numpy as np
            from conformance.adapters import arrays
            from conformance.adapters.contract import Framework

            def echo(x):
                return x

            def orphan(x):
                os.kill(os.getppid(), signal.SIGKILL)
                return x

            FRAMEWORK = Framework(
                name="elsewhere", distributions=("numpy",), modules=("numpy",), functions=(),
                arrays=arrays.numpy, imports="import elsewhere",
            )
        """)
    )
    names = ["echo", "orphan", "echo"]
    with RayWorkerPool([wanted("it", adapter="elsewhere:FRAMEWORK", file=str(other))]) as pool:
        calls = [call(name) for name in names]
        for one, name in zip(calls, names, strict=True):
            object.__setattr__(one, "text", f"elsewhere.{name}(x)")
        futures = [pool.submit("it", one, one.text) for one in calls]
        outcomes = [pool.wait(future) for future in futures]
    assert [type(outcome) for outcome in outcomes] == [Returned, Crashed, Returned]
    assert outcomes[1].how == f"died with its Ray actor, {MAX_DEATHS} times"


# What the cluster has to give


@needs_index
def test_more_environments_than_cpus_take_turns(cluster):
    names = ["one", "two", "three"]
    with RayWorkerPool([wanted(name, NUMBER=name) for name in names]) as pool:
        assert [pool.versions(name).numpy for name in names] == [np.__version__] * 3
        futures = [(name, pool.submit(name, call("whoami"), "x")) for _ in range(20) for name in names]
        processes = {(name, int(pool.wait(future).value)) for name, future in futures}
        actors = {parent(process) for _, process in processes if Path(f"/proc/{process}").exists()}
        assert {name for name, _ in processes} == set(names)
    assert all(map(gone, actors | {process for _, process in processes}))
    deadline = time.monotonic() + 20
    while cluster.available_resources().get("CPU", 0) < 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert cluster.available_resources().get("CPU", 0) >= CPUS


@needs_index
def test_failed_installation_raises_worker_error(cluster):
    specs = [wanted("bad", ("numpy==99.0",)), wanted("none", adapter=f"{fragile.__name__}:NOBODY"), wanted()]
    with RayWorkerPool(specs) as pool:
        future = pool.submit("bad", call("echo"), "x")
        with pytest.raises(WorkerError, match=r"^bad: Ray cannot make its environment: No solution .*numpy==99\.0"):
            pool.versions("bad")
        with pytest.raises(WorkerError, match=r"^bad: "):
            pool.wait(future)
        with pytest.raises(WorkerError, match=r"^none: the framework cannot be imported: AttributeError"):
            pool.versions("none")
        assert isinstance(ask(pool, "echo"), Returned)


OWN = """
    from conformance.tests.execution.test_ray import call, wanted
    from conformance.execution.workers.on_ray import RayWorkerPool

    with RayWorkerPool([wanted()], progress=print) as pool:
        process = int(pool.wait(pool.submit("fragile", call("whoami"), "x")).value)
        print(pool.versions("fragile").numpy, process, flush=True)
        END
"""


@needs_index
@pytest.mark.parametrize("killed", [False, True])
def test_local_ray_is_silent_and_leaves_nothing(killed):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    source = textwrap.dedent(OWN).replace("END", "import time; time.sleep(600)" if killed else "pass")
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder,  # Ray has sockets there, whose paths are short
        subprocess.Popen(
            [sys.executable, "-c", source], env={**environment, "TMPDIR": folder},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as run,
    ):  # fmt: skip
        assert run.stdout.readline() == "starting Ray on this machine ...\n"
        lines = (line for line in iter(run.stdout.readline, "") if "waits for a free CPU" not in line)  # if it is busy
        numpy, process = next(lines).split()
        assert numpy == np.__version__
        if killed:
            run.kill()
        assert run.communicate() == ("", "")
        assert gone(process)
        deadline = time.monotonic() + 20
        while list(Path(folder).iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert list(Path(folder).iterdir()) == []
