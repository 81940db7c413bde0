"""A fork server: Python programs as forks of a process that has already imported what they import.

A command of this package imports modules for a second; its fork starts in hundredths of one.  A fork is a process of
its own, in a session of its own, with the words, folder, environment variables, files and signals that it is given.
What it shares with the server are imported modules and the settings of the interpreter, such as the seed of hashes or
the encoding of files.  Tests that are about these, or about the start of a process, start `sys.executable`.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import pytest

from conformance import adapters
from conformance.tests import signals

MODULES = (
    "pytest",
    "_pytest.junitxml",
    "conformance.api",
    "conformance.cli.audit",
    "conformance.cli.listing",
    "conformance.cli.look",
    "conformance.cli.reports",
    "conformance.cli.run",
    "conformance.comparison",
    "conformance.explain",
    "conformance.explore.relations",
    "conformance.power.mutants.catalogue",
    "conformance.report.recording",
    "pyarrow.parquet",
    *(module.name for module in pkgutil.iter_modules(adapters.__path__, f"{adapters.__name__}.")),
)
"""What the server imports. Adapters take 0.23 s of processor time, a fourth of a run of few rows. xdist is not among
them: it has its workers search what was the path of Python at its import."""
_LENGTH = 8
"""Bytes of the number that says how long a request is, and of one in an answer."""


class Interpreter:
    """Runs Python programs as processes of `sys.executable`: what there is where processes cannot be forked."""

    def start(
        self, words: Sequence[str], cwd: Path | str, env: Mapping[str, str], inherits: bool = True
    ) -> subprocess.Popen[str] | Fork:
        """Start `python WORDS`, which begin with -m or -c.

        inherits: whether it has the signals ignored that this process has.
        """
        return subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=env, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=None if inherits or os.name == "nt" else signals.restore,
        )  # fmt: skip

    def run(
        self, words: Sequence[str], cwd: Path | str, env: Mapping[str, str], timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; raises TimeoutExpired."""
        with self.start(words, cwd, env) as process:
            printed = process.communicate(timeout=timeout)
            return subprocess.CompletedProcess(words, process.wait(), *printed)

    def write_scripts(self, folder: Path) -> None:
        """Write scripts for PATH, `conformance` and `pytest`, that start fast, if they can be had."""

    def run_pytest(self, folder: Path, *arguments: str) -> pytest.RunResult:
        """Run pytest in a folder, whose modules it finds, as `Pytester.runpytest_subprocess` does."""
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
        began = time.perf_counter()
        done = self.run(["-m", "pytest", *arguments], Path.cwd(), {**os.environ, "PYTHONPATH": path})
        lines = done.stdout.splitlines(), done.stderr.splitlines()
        return pytest.RunResult(done.returncode, *lines, time.perf_counter() - began)


class ForkServer(Interpreter):
    """The client's side of a server, which ends with this process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self._folder.name, "socket"))
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        plain["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads cannot be forked safely
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, self.address],
            env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def start(self, words: Sequence[str], cwd: Path | str, env: Mapping[str, str], inherits: bool = True) -> Fork:
        """Fork it; see `Interpreter.start`."""
        ignored = [number for number in signals.STOPPING if inherits and signal.getsignal(number) == signal.SIG_IGN]
        return Fork(self.address, {"words": [*words], "cwd": str(cwd), "env": dict(env), "ignored": ignored})

    def write_scripts(self, folder: Path) -> None:
        """See `Interpreter.write_scripts`; what they run are forks of the server."""
        client = folder / "client.py"
        client.write_text(CLIENT, encoding="utf-8")
        for name in ("conformance", "pytest"):
            words = shlex.join([sys.executable, "-IS", str(client), self.address, "-m", name])
            (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
            (folder / name).chmod(0o755)


CLIENT = f"""
import json, os, socket, sys
address, *words = sys.argv[1:]
data = json.dumps(dict(words=words, cwd=os.getcwd(), env=dict(os.environ), ignored=[])).encode()
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(address)
    socket.send_fds(connection, [len(data).to_bytes({_LENGTH}, "big")], [0, 1, 2])
    connection.sendall(data)
    _, status = (connection.recv({_LENGTH}, socket.MSG_WAITALL) for _ in range(2))
sys.exit(os.waitstatus_to_exitcode(int.from_bytes(status, "big")) % 256)
"""
"""What a script of `write_scripts` runs; it imports nothing that takes time."""


@functools.cache
def interpreter() -> Interpreter:
    """What this process runs Python programs with: a server of its own, where processes can be forked."""
    return ForkServer() if sys.platform == "linux" else Interpreter()


class Fork:
    """A program that was started, like `subprocess.Popen`; it reads nothing, and what it prints goes to files."""

    def __init__(self, address: str, request: dict[str, Any]) -> None:
        self.args = request["words"]
        self.returncode: int | None = None
        self._printed = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        data = json.dumps(request).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        with Path(os.devnull).open() as nothing:
            files = [nothing.fileno(), *(file.fileno() for file in self._printed)]
            socket.send_fds(self._connection, [len(data).to_bytes(_LENGTH, "big")], files)
        self._connection.sendall(data)
        self.pid = _number(self._connection)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        self._connection.close()
        for file in self._printed:
            file.close()

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit status, negative for a signal; None if it has none within some seconds."""
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(_number(self._connection))
        return self.returncode

    def wait(self, timeout: float = 300.0) -> int:
        """The exit status; raises TimeoutExpired."""
        if (status := self.poll(timeout)) is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        return status

    def communicate(self, timeout: float = 300.0) -> tuple[str, str]:
        """What it printed to stdout and stderr, once it has ended; raises TimeoutExpired."""
        self.wait(timeout)
        for file in self._printed:
            file.seek(0)
        out, err = (file.read() for file in self._printed)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.send_signal(signal.SIGKILL)


def _number(connection: socket.socket) -> int:
    return int.from_bytes(connection.recv(_LENGTH, socket.MSG_WAITALL), "big")


def serve(address: str) -> Callable[[], Any]:
    """Serve until stdin ends; return in each fork, with what it has to do."""
    for name in MODULES:
        importlib.import_module(name)
    for name, module in list(sys.modules.items()):
        if "." not in name:  # pytest warns of modules of its plugins whose assertions it can no longer rewrite
            module.__doc__ = f"{module.__doc__} PYTEST_DONT_REWRITE"
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for supervisors
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _supervise(connection)
        connection.close()
    os._exit(0)


def _supervise(connection: socket.socket) -> Callable[[], Any]:
    """Fork the program, say its number, wait for it, and say its status; return in the program only."""
    length, files, _, _ = socket.recv_fds(connection, _LENGTH, 3)
    request = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        connection.close()
        return _become(request, files)
    for file in (0, 1, 2, *files):
        os.close(file)
    connection.sendall(child.to_bytes(_LENGTH, "big"))
    connection.sendall(os.waitpid(child, 0)[1].to_bytes(_LENGTH, "big"))
    os._exit(0)


def _become(request: dict[str, Any], files: list[int]) -> Callable[[], Any]:
    """Be the process of a request; return what runs its program."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = open(0, encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    for number in signals.STOPPING:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else default)
    tempfile.tempdir = None  # it may have been looked up for other variables
    os.chdir(request["cwd"])
    time.tzset()
    (kind, what, *rest) = request["words"]
    own = [] if "PYTHONSAFEPATH" in os.environ else [request["cwd"] if kind == "-m" else ""]
    sys.path[:0] = [*own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [what if kind == "-m" else kind, *rest]
    if kind == "-m":
        return lambda: runpy.run_module(what, run_name="__main__", alter_sys=True)
    sys.modules["__main__"] = main = ModuleType("__main__")
    return lambda: exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    serve(sys.argv[1])()
