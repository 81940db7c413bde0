from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from conformance.adapters.arrays import Tensor
from conformance.adapters.contract import LoweringError
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call
from conformance.execution.environments.sources import Sources
from conformance.execution.workers import pool as pool_module
from conformance.execution.workers import wire
from conformance.execution.workers.on_ray import RayWorkerSpec, check_reachable, files_to_send
from conformance.execution.workers.pool import MAX_IN_FLIGHT, LocalWorkerPool, Timeouts, WorkerError, WorkerSpec
from conformance.execution.workers.wire import Versions
from conformance.model.errors import UserError
from conformance.model.outcome import Crashed, Raised, Returned, TimedOut, Unsupported
from conformance.tests import fragile

HERE = Path(sys.executable)
ONES = np.ones(3)

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals, nor shell scripts")


def spec(name="fragile", attribute="FRAMEWORK", interpreter=HERE, **variables):
    return WorkerSpec(name, f"{fragile.__name__}:{attribute}", "", variables, interpreter)


def call(name, x=ONES, **keywords):
    text = "".join(f", {word}={value!r}" for word, value in keywords.items())
    return Call(f"{fragile.__name__}.{name}(x{text})", {"x": Tensor(np.asarray(x))})


@pytest.fixture(scope="module")
def pool():
    with LocalWorkerPool([spec()], Timeouts(60)) as pool:
        yield pool


def ask(pool, name, *arguments, **keywords):
    return pool.wait(pool.submit("fragile", call(name, *arguments, **keywords), f"{name} on x"))


# What goes over the wire


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.1, -0.0, math.inf, -math.inf, 5e-324]),
        np.frombuffer(np.array([0x7FF8000000000001, 0xFFF8000000000002], np.uint64).tobytes(), np.float64),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(4, dtype=np.float16)[::2],
        np.array([1.5, 3.0], dtype=ml_dtypes.bfloat16),
        np.array([True, False]),
        np.array([[1, -(2**63)]], dtype=np.int64),
        np.array([1, 255], dtype=np.uint8),
        np.array(2.5),
        np.zeros((0, 3)),
        np.broadcast_to(np.float64(2), (2, 2)),
        np.array([1.0, 2.0], dtype=">f8"),
        np.zeros(100_000),
    ],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
def test_message_round_trips_arrays_bit_exactly(values):
    stream = b"".join(wire.encode_message({}, [values, values[:0] if values.ndim else values]))
    message = wire.read_message(reader(stream))
    arrived, _ = wire.decode_arrays(message.header, message.body)
    assert arrived.shape == values.shape
    assert arrived.dtype == values.dtype.newbyteorder("=")
    assert arrived.tobytes() == values.astype(values.dtype.newbyteorder("=")).tobytes()
    assert not arrived.flags.writeable


def reader(stream):
    rest = memoryview(stream)

    def read(count):
        nonlocal rest
        taken, rest = bytes(rest[:count]), rest[count:]
        assert len(taken) == count
        return taken

    return read


@pytest.mark.parametrize(
    "outcome",
    [
        Raised("ValueError", "a\nb \x00 \udc80", ("UserWarning: x",)),
        Crashed("was killed by SIGSEGV", "line 1\nline 2"),
        TimedOut(0.1),
        Unsupported("because"),
    ],
)
def test_message_round_trips_outcome(outcome):
    message = wire.read_message(reader(b"".join(wire.outcome_message(outcome))))
    assert wire.decode_outcome(message.header, message.body) == outcome


def test_read_message_rejects_other_bytes():
    with pytest.raises(wire.WireError, match="expected a message"):
        wire.read_message(reader(b"Traceback (most recent call last):"))


@pytest.mark.parametrize("order", ["c", "fortran", "strided", "broadcast", "readonly"])
def test_message_round_trips_call(order):
    values = np.broadcast_to(np.arange(3.0), (2, 3))
    sent = Call("a.b(w)(x, k=0.1, word='é')", {"x": Tensor(values, order), "w": Tensor(ONES)}, mode="jit")
    message = wire.read_message(reader(b"".join(wire.call_request(sent, "me").buffers)))
    arrived = wire.decode_call(message.header, wire.decode_arrays(message.header, message.body))
    assert (arrived.text, arrived.mode, message.header["what"]) == (sent.text, "jit", "me")
    assert list(arrived.arrays) == ["x", "w"]
    assert arrived.arrays["x"].order == order
    np.testing.assert_array_equal(arrived.arrays["x"].laid_out(), sent.arrays["x"].laid_out())
    np.testing.assert_array_equal(arrived.arrays["w"].values, ONES)


# What comes of a call


@pytest.mark.parametrize("name", ["echo", "total", "warn", "fail", "leave", "scribble"])
def test_worker_returns_outcome_of_call_in_process(pool, name):
    here = perform(fragile.FRAMEWORK, call(name), "x")
    there = ask(pool, name)
    if isinstance(here, Returned):
        np.testing.assert_array_equal(there.value, here.value)
        assert (there.dtype, there.warnings, there.mutated) == (here.dtype, here.warnings, here.mutated)
    else:
        assert there == here


def test_exit_in_call_is_recorded_as_exception(pool):
    before = ask(pool, "whoami").value
    assert ask(pool, "leave") == Raised("SystemExit", "enough")
    assert ask(pool, "whoami").value == before


@needs_signals
@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("segfault", "was killed by SIGSEGV", "in segfault"),
        ("abort", "was killed by SIGABRT", "in abort"),
        ("starve", "was killed by SIGKILL", ""),
        ("vanish", "exited with status 3", ""),
        ("babble", "exited with status 3", "yyy"),
    ],
)
def test_dead_process_is_crash_and_is_replaced(pool, name, how, said):
    before = ask(pool, "whoami").value
    outcome = ask(pool, name)
    assert isinstance(outcome, Crashed)
    assert outcome.how == how
    assert said in outcome.stderr
    assert len(outcome.stderr) < 3000
    assert ask(pool, "whoami").value != before


def answer(header, body=b"", announced=None):
    """The bytes of an answer with any header and body."""
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    sizes = (len(text), len(body)) if announced is None else announced
    return wire.PREFIX.pack(wire.MAGIC, 0, *sizes) + text + body + wire.END


RETURNED = {"outcome": "Returned", "dtype": "float64", "warnings": [], "mutated": [], "arrays": [["<f8", [1]]]}
RAISED = {"outcome": "Raised", "fields": {"exception": "E", "message": "m", "warnings": []}, "arrays": []}
EIGHT = bytes(8)


MALFORMED = {
    "text": (b"progress: 10 %\n" * 3, None),
    "a few bytes": (b"ok", None),
    "part of a message": (wire.MAGIC + b"-", None),
    "pickle": (pickle.dumps({"a": 1}), None),
    "of another call": (answer(RETURNED, EIGHT), 1),
    "long header announced": (answer(RETURNED, EIGHT, (1 << 31, 8)), 0),
    "long body announced": (answer(RETURNED, EIGHT, (200, 1 << 39)), 0),
    "no header": (answer(b""), 0),
    "header that is no JSON": (answer(b"\xff{"), 0),
    "header that is a list": (answer(b"[]"), 0),
    "nested header": (answer(b"[" * 100_000), 0),
    "long number": (answer(b'{"outcome": ' + b"9" * 10_000 + b"}"), 0),
    "nothing in it": (answer({}), 0),
    "answer to another kind of request": (answer({"ready": {}, "arrays": []}), 0),
    "unknown outcome": (answer(RETURNED | {"outcome": "Guessed"}, EIGHT), 0),
    "outcome that is a list": (answer(RETURNED | {"outcome": []}, EIGHT), 0),
    "fewer elements than announced": (answer(RETURNED, EIGHT[:4]), 0),
    "more elements than announced": (answer(RETURNED, 2 * EIGHT), 0),
    "no end": (answer(RETURNED, EIGHT)[: -len(wire.END)] + b"x", 0),
    "no array": (answer(RETURNED | {"arrays": []}), 0),
    "two arrays": (answer(RETURNED | {"arrays": [["<f8", [1]]] * 2}, 2 * EIGHT), 0),
    "array of another dtype": (answer(RETURNED | {"arrays": [["<i8", [1]]]}, EIGHT), 0),
    "array of objects": (answer(RETURNED | {"arrays": [["|O", [1]]]}, EIGHT), 0),
    "negative length": (answer(RETURNED | {"arrays": [["<f8", [-1]]]}, EIGHT), 0),
    "length beyond all memory": (answer(RETURNED | {"arrays": [["<f8", [10**40]]]}, EIGHT), 0),
    "shape that is a text": (answer(RETURNED | {"arrays": [["<f8", "1"]]}, EIGHT), 0),
    "dtype that is a number": (answer(RETURNED | {"dtype": 8}, EIGHT), 0),
    "warnings that are a text": (answer(RETURNED | {"warnings": "none"}, EIGHT), 0),
    "field of no outcome": (answer(RAISED | {"fields": {"exception": "E", "message": "m", "x": ""}}), 0),
    "message that is a number": (answer(RAISED | {"fields": {"exception": "E", "message": 1}}), 0),
    "arrays beside an exception": (answer(RAISED | {"arrays": [["<f8", [1]]]}, EIGHT), 0),
}
"""What is sent in place of an answer, and the difference of its number from that of the request, if it has one."""


@pytest.mark.parametrize(("content", "shift"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_answer_is_rejected(content, shift):
    request = wire.call_request(call("echo"), "x")
    sent = bytearray(content)
    if shift is not None:
        sent = bytearray(wire.set_message_number([memoryview(sent)], request.number + shift)[0])
    proper = wire.with_trailer(
        wire.set_message_number(wire.outcome_message(Returned(np.ones(1), "float64")), request.number)
    )
    with pytest.raises(wire.WireError):
        request.decode_answer(wire.read_answer(sent + b"".join(proper), request.number))


@pytest.mark.parametrize("answered", [Versions("1", "2", "3", "4"), "no such module"])
def test_answer_to_start_is_versions_or_reason(answered):
    request = wire.start_request("a:B", "", "cpu")
    header = {"failed": answered} if isinstance(answered, str) else {"ready": vars(answered)}
    stream = bytearray(
        b"".join(wire.with_trailer(wire.set_message_number(wire.encode_message(header), request.number)))
    )
    assert request.decode_answer(wire.read_answer(stream, request.number)) == answered
    for other in ({"ready": {"version": "1"}}, {"ready": []}, {"failed": None}, RETURNED):
        stream = bytearray(
            b"".join(wire.with_trailer(wire.set_message_number(wire.encode_message(other), request.number)))
        )
        with pytest.raises(wire.WireError):
            request.decode_answer(wire.read_answer(stream, request.number))


@needs_signals
@pytest.mark.parametrize("what", ["a few bytes", "of another call", "more elements than announced", "nested header"])
def test_malformed_answer_is_crash_and_others_continue(pool, what):
    content, shift = MALFORMED[what]
    futures = [
        pool.submit("fragile", call("interject", content=content, shift=shift), "interject"),
        *[pool.submit("fragile", call("whoami"), "whoami") for _ in range(3)],
    ]
    crashed, *others = (pool.wait(future) for future in futures)
    assert isinstance(crashed, Crashed)
    assert crashed.how.startswith("was out of step: ")
    assert [type(outcome) for outcome in others] == [Returned] * 3


TWICE = "was ended because it answered the forged call twice"


@needs_signals
@pytest.mark.parametrize("size", [1, 1 << 16])
def test_call_answered_twice_is_crash_and_others_continue(pool, size):
    forged = answer({**RETURNED, "arrays": [["<f8", [size]]]}, np.full(size, 7.0).tobytes())[: -len(wire.END)]
    for count in (0, 3):
        futures = [pool.submit("fragile", call("interject", content=forged, shift=0), "the forged call")]
        futures += [pool.submit("fragile", call("whoami"), "x") for _ in range(count)]
        first, *others = (pool.wait(future) for future in futures)
        assert (type(first), first.how) == (Crashed, TWICE)
        assert [type(one) for one in others] == [Returned] * count


@needs_signals
def test_surplus_answer_ends_worker_and_others_continue(pool):
    forged = call("interject", content=answer(RETURNED, np.float64(7).tobytes()), shift=0)
    for count in (0, 3):
        futures = [pool.submit("fragile", forged, "the forged call")]
        futures += [pool.submit("fragile", call("whoami"), "x") for _ in range(count)]
        first, *others = (pool.wait(future) for future in futures)
        assert first.value == [7.0]
        assert [one.how for one in others if isinstance(one, Crashed)] == [TWICE] * (count > 0)
        later = ask(pool, "whoami")
        assert isinstance(later, Returned) or later.how == TWICE
        assert isinstance(ask(pool, "whoami"), Returned)


@needs_signals
def test_incomplete_message_is_crash():
    content = answer(RETURNED, EIGHT, (1 << 20, 8))
    with LocalWorkerPool([spec()], Timeouts(1.0)) as pool:
        pool.versions("fragile")
        futures = [pool.submit("fragile", call("interject", content=content, shift=0), "x")]
        futures.append(pool.submit("fragile", call("whoami"), "x"))
        crashed, later = (pool.wait(future) for future in futures)
    assert crashed == Crashed(
        "was out of step: the rest of a message that it announced did not come within 1 s", crashed.stderr
    )
    assert isinstance(later, Returned)


@needs_signals
@pytest.mark.parametrize(
    ("name", "how"), [("chatter", "was out of step: expected a message"), ("hang_up", "closed its connection")]
)
def test_function_that_breaks_connection_is_crash(pool, name, how):
    outcome = ask(pool, name)
    assert isinstance(outcome, Crashed)
    assert outcome.how.startswith(how)
    assert isinstance(ask(pool, "whoami"), Returned)


@needs_signals
def test_function_returning_in_forked_process_answers_once(pool):
    before = ask(pool, "whoami").value
    for _ in range(3):
        assert isinstance(ask(pool, "fork"), Returned)
    assert ask(pool, "whoami").value == before


@needs_signals
def test_dead_process_is_noticed_while_child_holds_connection(pool):
    began = time.monotonic()
    outcome = ask(pool, "orphan")
    assert isinstance(outcome, Crashed)
    assert outcome.how == "exited with status 3"
    assert time.monotonic() - began < 15
    assert isinstance(ask(pool, "whoami"), Returned)


@needs_signals
def test_calls_queued_behind_crash_are_repeated():
    with LocalWorkerPool([spec()]) as pool:
        names = ["whoami", "echo", "segfault", "echo", "starve", "vanish", *["whoami"] * 20]
        futures = [pool.submit("fragile", call(name), name) for name in names]
        outcomes = [pool.wait(future) for future in futures]
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Returned, Returned, Crashed, Returned, Crashed, Crashed, *[Returned] * 20]
    assert len({float(outcome.value) for outcome in outcomes[6:]}) == 1
    assert len(names) > MAX_IN_FLIGHT


def test_call_times_out_and_others_continue():
    with LocalWorkerPool([spec()], Timeouts(1.0)) as pool:
        pool.versions("fragile")
        futures = [pool.submit("fragile", call(name), name) for name in ("echo", "hang", "echo")]
        began = time.monotonic()
        outcomes = [pool.wait(future) for future in futures]
    assert [type(outcome) for outcome in outcomes] == [Returned, TimedOut, Returned]
    assert outcomes[1].seconds == 1.0
    assert 1.0 <= time.monotonic() - began < 30


def test_output_of_framework_is_not_read_as_messages(pool):
    for _ in range(30):
        np.testing.assert_array_equal(ask(pool, "shout").value, ONES)
    assert float(ask(pool, "listen").value) == 0.0


def test_pool_exchanges_large_arrays_in_both_directions(pool):
    large = np.random.default_rng(0).random((1000, 2000))
    futures = [pool.submit("fragile", call("echo", large), "x") for _ in range(2 * MAX_IN_FLIGHT)]
    for future in futures:
        assert pool.wait(future).value.tobytes() == large.tobytes()


def test_adapter_error_raises_lowering_error(pool):
    with pytest.raises(LoweringError, match=r"^nobody on x: AttributeError"):
        ask(pool, "nobody")
    assert isinstance(ask(pool, "echo"), Returned)


def test_pool_returns_versions(pool):
    facts = pool.versions("fragile")
    assert (facts.version, facts.numpy) == (np.__version__, np.__version__)
    assert facts.python == ".".join(map(str, sys.version_info[:3]))


def test_pool_returns_signatures(pool):
    paths = [f"{fragile.__name__}.{name}" for name in ("total", "nobody")]
    total, nobody = pool.signatures("fragile", paths).values()
    assert [(name, default) for name, _, default in total] == [("x", ""), ("scale", "1.0")]
    assert nobody is None


def test_worker_has_environment_variables_of_spec():
    with LocalWorkerPool([spec(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")]) as pool:
        assert pool.versions("fragile")


# What cannot be had


@pytest.mark.parametrize(
    ("attribute", "why"),
    [
        ("UNIMPORTABLE", "the framework cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("RENAMED", "the framework cannot be imported: ImportError: cannot import name 'former_name' from 'numpy'"),
        ("DEADLY", r"the framework cannot be imported: it was killed by SIGABRT; it said: .*"),
        ("NOBODY", "the framework cannot be imported: AttributeError"),
    ],
)
def test_failed_import_raises_worker_error_for_every_call(attribute, why):
    with LocalWorkerPool([spec("it", attribute), spec()]) as pool:
        future = pool.submit("it", call("echo"), "x")
        for _ in range(2):
            with pytest.raises(WorkerError, match=f"^it: {why}"):
                pool.versions("it")
        with pytest.raises(WorkerError, match=why):
            pool.wait(future)
        with pytest.raises(WorkerError, match=why):
            pool.wait(pool.submit("it", call("echo"), "x"))
        assert isinstance(ask(pool, "echo"), Returned)


def test_import_is_awaited_and_reported(monkeypatch, capsys):
    monkeypatch.setattr(pool_module, "NOTICE_SECONDS", 0.01)
    with LocalWorkerPool([spec()], Timeouts(60, 900)) as pool:
        assert pool.versions("fragile")
    assert (
        "waiting for the import of fragile since 0 s; it may take 900 s (--import-timeout)" in capsys.readouterr().err
    )


def test_import_that_takes_too_long_raises_worker_error():
    with LocalWorkerPool([spec("it", "SLOW")], Timeouts(60, 0.5)) as pool, pytest.raises(WorkerError, match=r"0\.5 s"):
        pool.versions("it")


@needs_signals
def test_unusable_interpreter_raises_worker_error(tmp_path):
    nothing = tmp_path / "python"
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot find libpython >&2\nexit 4\n")
    broken.chmod(0o755)
    with LocalWorkerPool([spec("nothing", interpreter=nothing), spec("broken", interpreter=broken)]) as pool:
        with pytest.raises(WorkerError, match="cannot be run"):
            pool.versions("nothing")
        with pytest.raises(WorkerError, match="exited with status 4; it said: cannot find libpython"):
            pool.versions("broken")


# Deaths from outside


@needs_signals
def test_killed_worker_is_restarted(pool):
    process = int(ask(pool, "whoami").value)
    os.kill(process, signal.SIGKILL)
    time.sleep(0.2)
    outcomes = [ask(pool, "whoami") for _ in range(2)]
    assert isinstance(outcomes[-1], Returned)
    assert int(outcomes[-1].value) != process


@needs_signals
@pytest.mark.parametrize("last", ["echo", "hang"])
def test_workers_end_with_killed_run(last):
    source = f"""
import time, numpy as np
from conformance.tests.execution.test_workers import call, spec
from conformance.execution.workers.on_ray import RayWorkerSpec, check_reachable, files_to_send
from conformance.execution.workers.pool import LocalWorkerPool
pool = LocalWorkerPool([spec()])
print(int(pool.wait(pool.submit("fragile", call("whoami"), "x")).value), flush=True)
pool.submit("fragile", call("{last}"), "x")
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as run:
        worker = int(run.stdout.readline())
        run.kill()
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return (
        "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2][:3] if Path("/proc").exists() else True
    )


@needs_signals
def test_close_ends_hanging_worker():
    pool = LocalWorkerPool([spec()])
    process = int(ask(pool, "whoami").value)
    pool.submit("fragile", call("hang"), "x")
    pool.close()
    assert not alive(process)


# Ray, without Ray


def test_connect_rejects_address_without_listener():
    for address in ("ray://127.0.0.1:1", "127.0.0.1:1"):
        with pytest.raises(UserError, match=rf"^there is no Ray cluster at {address} \(Connection refused\); check"):
            check_reachable(address)


def test_import_ray_suggests_installation():
    source = """
        import sys
        sys.modules["ray"] = None
        from conformance.execution.workers.on_ray import import_ray
        import_ray()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, check=False)
    assert 'pip install "cross-entropy-conformance[ray]"' in done.stderr


# What is sent, and how it is found


def test_files_to_send_are_required_by_calls():
    files, top = files_to_send("conformance.adapters.torch:FRAMEWORK")
    assert top == ""
    assert {
        "conformance/__init__.py",
        "conformance/adapters/torch.py",
        "conformance/adapters/idioms.py",
        "conformance/adapters/contract/calling.py",
        "conformance/execution/workers/wire.py",
    } <= files.keys()
    assert not [name for name in files if "oracle" in name or "/tests/" in name or "/cases/" in name]


def test_files_to_send_include_complete_foreign_package(tmp_path):
    (tmp_path / "theirs" / "inner").mkdir(parents=True)
    for name in ("__init__", "inner/__init__", "inner/losses"):
        (tmp_path / "theirs" / f"{name}.py").write_text("")
    files, top = files_to_send("theirs.inner.losses:FRAMEWORK", str(tmp_path / "theirs/__init__.py"))
    assert top == "theirs/__init__.py"
    assert "theirs/inner/losses.py" in files


def test_runtime_env_has_local_paths_for_local_nodes_only():
    spec = RayWorkerSpec(
        "x", f"{fragile.__name__}:FRAMEWORK", "", {"A": "1"}, requirements=("numpy==1.0",),
        sources=Sources(
            ("file:///simple", "https://index/simple"), ("/wheels",), False,
            {"SSL_CERT_FILE": "/certificates", "UV_INDEX": "replaced"}, (), "",
        ),
    )  # fmt: skip
    here, away = (spec.runtime_env(is_local=local) for local in (True, False))
    assert here["uv"] == away["uv"]
    assert "--no-deps" in here["uv"]["uv_pip_install_options"]
    assert here["env_vars"]["UV_INDEX"] == "file:///simple"
    assert here["env_vars"]["SSL_CERT_FILE"] == "/certificates"
    rule = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    assert away["env_vars"] == {"UV_DEFAULT_INDEX": "https://index/simple", **rule, "A": "1"}
