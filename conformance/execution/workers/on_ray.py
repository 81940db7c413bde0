"""Workers on Ray: each in an actor with a runtime environment of its own, on this machine or on a cluster's.

The actor's node is sent the few files of this package that run beside a framework.  The actor keeps the
framework in a process beside itself, as a local run does, so that a crash or a hang there is told in the same
words and costs no actor.  What travels between here and there are the messages of `wire`, as bytes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.execution.workers import wire
from conformance.execution.workers.pool import (
    AHEAD,
    START_TIMEOUT,
    TIMEOUT,
    Future,
    LocalWorkerPool,
    Worker,
    WorkerError,
    WorkerPool,
    WorkerSpec,
)
from conformance.execution.workers.wire import Head
from conformance.model.errors import UserError
from conformance.model.outcome import Crashed, TimedOut

CPUS = 1
"""CPUs of the cluster that an actor holds."""
MAX_DEATHS = 2
"""Number of actors that may die at one call before the call counts as crashed."""
MAX_FAILED_STARTS = 3
"""Maximum number of consecutive actors that die before they have started."""
ANSWER_GRACE_SECONDS = 60.0
"""Seconds added to the timeouts of a call and of a start before an actor without an answer is given up."""
POLL_SECONDS = 1.0
"""Polling interval; also the idle time after which an actor may be replaced by another."""
NOTICE_AFTER_SECONDS = 15.0
"""Seconds of waiting for an actor after which the user is notified."""
CONNECT_TIMEOUT = 10.0
"""Seconds in which a cluster's address must accept a connection."""
PACKAGE = "conformance"
FILES = (
    "__init__.py",
    "adapters/__init__.py",
    "adapters/arrays.py",
    "adapters/contract/*.py",
    "execution/__init__.py",
    "execution/workers/*.py",
    "model/*.py",
)
"""Patterns of the files of this package that are sent to nodes, in addition to the adapters."""
MAX_PACKAGE_BYTES = 1 << 24
"""Maximum size of an adapter's package that is sent."""
INSTALL_OPTIONS = ("--no-deps", "--only-binary", ":all:")
"""Options of `uv pip install`: requirements are pinned and complete, and no source distribution is built."""
MAX_REASON_LENGTH = 400
"""Maximum number of characters of a message of Ray's that are quoted."""
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # the death of an actor is reported as an outcome, not by Ray, too
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would override our environments
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns about its default
}
"""Environment variables of Ray unless the user has set them: no telemetry, no logging to the terminal."""
SET_BY_RAY = "OMP_NUM_THREADS"
"""Variable that Ray sets for its workers and a local run does not; results depend on it."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RayWorkerSpec(WorkerSpec):
    """What a worker in an actor runs, by the interpreter of its node.

    Paths and the connection are for nodes on this machine.
    """

    requirements: tuple[str, ...] = ()
    """Lines of a requirements file that pin everything that is to be installed."""
    indexes: tuple[str, ...] = ()
    """Package indexes, the default one last."""
    links: tuple[str, ...] = ()
    """Further places to find packages in."""
    first_index: bool = False
    """Whether the first index that has a package hides the others."""
    options: tuple[str, ...] = ()
    """More words for `uv pip install`."""
    connection: Mapping[str, str] = field(default_factory=dict)
    """How the indexes are reached, in uv's variables."""

    def runtime_env(self, *, here: bool) -> dict[str, Any]:
        """Ray's description of the environment; here: whether its nodes are this machine."""
        indexes, links = (tuple(x for x in found if here or _remote(x)) for found in (self.indexes, self.links))
        found = {
            **(self.connection if here else {}),
            "UV_DEFAULT_INDEX": "".join(indexes[-1:]),
            "UV_INDEX": " ".join(indexes[:-1]),
            "UV_FIND_LINKS": ",".join(links),
            "UV_INDEX_STRATEGY": "first-index" if self.first_index else "unsafe-best-match",
        }
        variables = {**{name: value for name, value in found.items() if value}, **self.variables}
        if not self.requirements:
            return {"env_vars": variables}
        install = {"packages": list(self.requirements), "uv_pip_install_options": [*INSTALL_OPTIONS, *self.options]}
        return {"uv": install, "env_vars": variables}


def _remote(address: str) -> bool:
    return "://" in address and not address.startswith("file:")


# On the node.


class Actor:
    """What Ray runs; it travels by value, so it knows this package only once its files are there."""

    def __init__(self, files: dict[str, bytes], own: bool) -> None:
        """Lay out the files; own: whether the Python is this environment's own, whose folder goes when it goes."""
        import pathlib
        import runpy
        import sys
        import tempfile

        place = sys.prefix if own else None
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-", dir=place, ignore_cleanup_errors=True)
        root = pathlib.Path(self._folder.name)
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        mount = runpy.run_path(str(root / "conformance/execution/workers/loop.py"))["mount"]
        mount("conformance", str(root / "conformance/__init__.py"))

    def start(self, name: str, adapter: str, file: str, variables: dict[str, str], timeout: float) -> bytes:
        """Start the framework in a process of its own, and say what is there."""
        from conformance.execution.workers.on_ray import Relay

        inside = f"{self._folder.name}/{file}" if file else ""
        self._relay = Relay(name, adapter, inside, variables, timeout)
        return self._relay.started()

    def answer(self, message: bytes) -> bytes:
        """The answer to one message."""
        return self._relay.answer(message)

    def close(self) -> None:
        """End the process and leave nothing behind."""
        with contextlib.suppress(AttributeError):
            self._relay.close()
        self._folder.cleanup()


class Relay(LocalWorkerPool):
    """A pool of one worker that takes calls and returns answers as messages."""

    def __init__(self, name: str, adapter: str, file: str, variables: Mapping[str, str], timeout: float) -> None:
        if SET_BY_RAY not in variables:
            os.environ.pop(SET_BY_RAY, None)
        super().__init__([WorkerSpec(name, adapter, file, variables)], timeout)
        self._name = name

    def started(self) -> bytes:
        """The versions there, or why the worker cannot be had."""
        try:
            return _message({"ready": asdict(self.versions(self._name))})
        except WorkerError as error:
            return _message({"failed": str(error)})

    def answer(self, message: bytes) -> bytes:
        """The worker's own answer to a message, or the outcome of a call that it could not answer."""
        future = self._workers[self._name].submit([memoryview(message)])
        self.wait_any([future])
        if future.ended is not None:
            return b"".join(wire.outcome_message(future.ended))
        if future.head is None:
            return _message({"failed": future.worker.broken})
        text = json.dumps(future.head).encode()
        return wire.LENGTHS.pack(wire.MAGIC, len(text), len(future.body)) + text + future.body


def _message(head: Head) -> bytes:
    return b"".join(wire.message(head))


# Here: the pool.


class RayWorkerPool(WorkerPool):
    """Workers by name, each in an actor.

    address: of the cluster, as Ray takes it; "" for the one that RAY_ADDRESS names or, if it is not set, for a Ray on
    this machine that ends with the pool.  progress: called with a line before something that takes time.  Raises
    UserError if there is no Ray.  Idle actors leave if the cluster has no room for others.
    """

    def __init__(
        self,
        specs: Iterable[RayWorkerSpec],
        timeout: float = TIMEOUT,
        address: str = "",
        progress: Progress = lambda line: None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(connected(address, progress))
            on_this_machine = _on_this_machine(self._ray)
            self._actors = {spec.name: RayWorker(spec, timeout, self._ray, on_this_machine, progress) for spec in specs}
            super().__init__(self._actors)
            self._held = stack.pop_all()

    def close(self) -> None:
        """Give every actor back, whatever it is doing, and end what was started for them."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            leaving = [ref for worker in self._actors.values() if (ref := worker.leave()) is not None]
            if leaving:
                self._ray.wait(leaving, num_returns=len(leaving), timeout=5.0)
        super().close()
        self._held.close()

    def _step(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.ensure()
        first = {worker.first: worker for worker in self._actors.values() if worker.first is not None}
        if first:
            ready, _ = self._ray.wait(list(first), num_returns=1, timeout=POLL_SECONDS)
            if ready:
                ready, _ = self._ray.wait(list(first), num_returns=len(first), timeout=0)
            for ref in ready:
                first[ref].take()
        for actor in self._actors.values():
            actor.check()
        self._make_room()

    def _make_room(self) -> None:
        """End the actor that was idle longest if another one waits and no CPU is free."""
        idle = [worker for worker in self._actors.values() if worker.idle() > POLL_SECONDS]
        if not idle or not any(worker.pending() > POLL_SECONDS for worker in self._actors.values()):
            return
        if self._ray.available_resources().get("CPU", 0.0) < CPUS:
            longest = max(idle, key=RayWorker.idle)
            self._ray.wait([longest.leave()], timeout=5.0)
            longest.end()


class RayWorker(Worker):
    """An actor, and the next one if that is lost."""

    def __init__(
        self, spec: RayWorkerSpec, timeout: float, ray: Any, on_this_machine: bool, progress: Progress
    ) -> None:
        super().__init__(spec, timeout)
        self._ray = ray
        self._progress = progress
        self._environment = spec.runtime_env(here=on_this_machine)
        self._actor: Any = None
        self._refs: deque[Any] = deque()
        """Ray's references to the answers to the first of the waiting calls."""
        self._lethal: Future | None = None
        """The call at which the last actor died."""
        self._deaths = 0
        """Number of actors that died at it, one after the other."""
        self._starts = 0
        """Number of actors in a row that died before they had started."""
        self._announced = False
        """Whether the user was told that the actor takes long."""

    @property
    def first(self) -> Any:
        """Ray's reference to the next answer."""
        return self._refs[0] if self._refs else None

    def idle(self) -> float:
        """Seconds since the actor has had nothing to do."""
        return time.monotonic() - self._since if self._actor is not None and not self._waiting else 0.0

    def pending(self) -> float:
        """Seconds since the actor was requested, until it has started."""
        return time.monotonic() - self._since if self._actor is not None and not self.started.done else 0.0

    def ensure(self) -> None:
        if self._actor is None and not self.broken and (self._waiting or not self.started.done):
            self._create_actor()

    def check(self) -> None:
        if self.pending() > NOTICE_AFTER_SECONDS and not self._announced:
            self._announced = True
            self._progress(f"{self.spec.name} is being installed, or waits for a free CPU of the Ray cluster ...")
        silence = self.timeout + START_TIMEOUT + ANSWER_GRACE_SECONDS
        if self._refs and self.started.done and time.monotonic() - self._since > silence:
            self.end()
            self._waiting.popleft().ended = TimedOut(self.timeout)

    def take(self) -> None:
        """Take in what was answered, in order."""
        errors = self._ray.exceptions
        ready = set(self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)[0])
        while self._refs and self._refs[0] in ready:
            try:
                answer = self._ray.get(self._refs[0])
            except errors.RuntimeEnvSetupError as error:
                return self._break(f"Ray cannot make its environment: {_reason(str(error))}")
            except errors.RayTaskError as error:
                return self._break(f"it cannot be started on Ray: {_reason(str(error.cause))}")
            except errors.RayError as error:
                return self._lost(error)
            self._answered(*wire.received(_reader(answer)))
        return self._feed()

    def leave(self) -> Any:
        """Have the actor clean up; None where there is none, or it is busy and must be ended as it is."""
        return self._actor.close.remote() if self._actor is not None and not self._refs else None

    def _create_actor(self) -> None:
        self.started = Future(self, (), START_TIMEOUT)
        self._waiting.appendleft(self.started)
        self._since = time.monotonic()
        self._announced = False
        files, file = shipped(self.spec.adapter, self.spec.file)
        variables = dict(self.spec.variables)
        if SET_BY_RAY in os.environ:
            variables.setdefault(SET_BY_RAY, os.environ[SET_BY_RAY])
        with _by_value(self._ray):
            kind = self._ray.remote(num_cpus=CPUS, max_restarts=0, runtime_env=self._environment)(Actor)
            self._actor = kind.remote(files, "uv" in self._environment)
        start = self._actor.start.remote(self.spec.name, self.spec.adapter, file, variables, self.timeout)
        self._refs.append(start)

    def _feed(self) -> None:
        if self._actor is None or not self.started.done:
            return
        while len(self._refs) < min(AHEAD, len(self._waiting)):
            pieces = self._waiting[len(self._refs)].pieces
            self._refs.append(self._actor.answer.remote(b"".join(pieces)))

    def _answered(self, head: Head, body: bytes | bytearray) -> None:
        self._refs.popleft()
        future = self._waiting.popleft()
        self._since = time.monotonic()
        if "failed" in head:
            self.broken = head["failed"]
            return self.end()
        if future is self.started:
            self._starts = 0
        future.head, future.body = head, body
        return None

    def _lost(self, error: Exception) -> None:
        """Handle the loss of the actor or its node: the first queued call was running; all are submitted again."""
        self.end()
        future = self._waiting[0]
        self._deaths = self._deaths + 1 if future is self._lethal else 1
        self._lethal = future
        if future is self.started:
            self._waiting.popleft()
            self._starts += 1
            if self._starts == MAX_FAILED_STARTS:
                self._break(
                    f"its Ray actor died {MAX_FAILED_STARTS} times before it had started: {_reason(str(error))}"
                )
        elif self._deaths == MAX_DEATHS:
            self._waiting.popleft()
            future.ended = Crashed(f"died with its Ray actor, {MAX_DEATHS} times", _reason(str(error)))

    def end(self) -> None:
        # The calls that it was sent are left for the next one.
        self._refs.clear()
        if self._actor is not None:
            with contextlib.suppress(Exception):  # it may be gone already, or the cluster
                self._ray.kill(self._actor)
            self._actor = None


# What an actor is sent.


def shipped(adapter: str, file: str = "") -> tuple[dict[str, bytes], str]:
    """(content by path of all that an actor needs, the path among them of an adapter's own top-level package).

    adapter: `module:attribute`; file: of its top-level package, "" for one in this package.
    """
    root = Path(__file__).parents[3]
    found = [path for pattern in FILES for path in sorted((root / PACKAGE).glob(pattern))]
    paths = {path.relative_to(root).as_posix(): path for path in found}
    source = Path(file)
    if not file:
        own, top = {path.relative_to(root).as_posix(): path for path in _sources(adapter.partition(":")[0])}, ""
    elif source.name == "__init__.py":
        inside = sorted(source.parent.rglob("*.py"))
        own = {path.relative_to(source.parents[1]).as_posix(): path for path in inside}
        top = f"{source.parent.name}/__init__.py"
    else:
        own, top = {source.name: source}, source.name
    if sum(path.stat().st_size for path in own.values()) > MAX_PACKAGE_BYTES:
        raise WorkerError(f"{adapter}: its package {source.parent} is too large to be sent to a cluster")
    return {name: path.read_bytes() for name, path in {**paths, **own}.items()}, top


def _sources(module: str) -> Iterator[Path]:
    """The file of a module, and those of the packages it lies in."""
    while module:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin)
        module = module.rpartition(".")[0]


@contextlib.contextmanager
def _by_value(ray: Any) -> Iterator[None]:
    """The actor's class is sent itself, and not its name: this package is not installed over there."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)


def _reader(message: bytes) -> Callable[[int], bytes]:
    stream = io.BytesIO(message)
    return stream.read


def _reason(text: str) -> str:
    """A message of Ray's on one line, only uv's part of a failed installation, cut to its end if it is long."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()).rpartition(" error: ")[2]
    return text if len(text) <= MAX_REASON_LENGTH else f"... {text[-MAX_REASON_LENGTH:]}"


# Ray itself.


@contextlib.contextmanager
def connected(address: str, progress: Progress) -> Iterator[Any]:
    """The module `ray`, connected, where it was not, to a cluster or to a Ray of its own; raises UserError."""
    with contextlib.ExitStack() as held:
        address = address or os.environ.get("RAY_ADDRESS", "")
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            yield ray
            return
        if not address:
            progress("starting Ray on this machine ...")
            address = held.enter_context(LocalRay()).address
        ray = imported()
        _reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            why = _reason(str(error.__cause__ or error))
            raise UserError(f"there is no connection to the Ray cluster {address}: {why}") from error
        held.callback(ray.shutdown)
        yield ray


def imported() -> Any:
    """The module `ray`, silent; raises UserError where it is not installed."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError as error:
        advice = 'pip install "cross-entropy-conformance[ray]"'
        raise UserError(f"--on ray needs Ray, which cannot be imported here ({error}); {advice}") from error
    return ray


def _reachable(address: str) -> None:
    """Raises UserError where nobody listens at an address; Ray itself takes minutes to find out."""
    found = re.fullmatch(r"(?:ray://)?(\[[^]]+\]|[^:/]+):(\d+)", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), CONNECT_TIMEOUT).close()
    except OSError as error:
        advice = "check the address, and that the cluster runs"
        raise UserError(f"there is no Ray cluster at {address} ({error.strerror or error}); {advice}") from error


def _on_this_machine(ray: Any) -> bool:
    """Whether every node is this machine, which knows the same paths."""
    return all(node["NodeManagerHostname"] == socket.gethostname() for node in ray.nodes() if node["Alive"])


class LocalRay:
    """A Ray on this machine, which ends with this process at the latest.

    Ray copies the virtual environment that it runs in for every runtime environment.  So it runs in one that holds
    nothing but Ray, by link: a copy takes no time, and what is installed here is not seen there.
    """

    def __init__(self, cpus: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            imported()  # says so
        if "RAY_AUTH_MODE" not in os.environ:  # Ray would write a token into the user's home folder
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        try:
            self.python = bare_environment(self._folder)
            """What nodes on this machine run in."""
            self._process = self._start(self.python, cpus)
            self.address = self._read_address()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def __enter__(self) -> LocalRay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and remove the environments that were made."""
        self._process.communicate()

    def _start(self, python: Path, cpus: int | None) -> subprocess.Popen[str]:
        with (self._folder / "log").open("w") as log:
            return subprocess.Popen(  # noqa: S603
                [str(python), "-c", RAY_SCRIPT, json.dumps(cpus), str(self._folder)],
                env={**RAY_ENVIRONMENT, **os.environ},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # Ctrl-C is the run's to handle
            )  # fmt: skip

    def _read_address(self) -> str:
        """Wait for the address."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ADDRESS):
                return line.removeprefix(ADDRESS).strip()
        self._process.wait()
        reason = _reason((self._folder / "log").read_text(errors="replace"))
        raise UserError(f"Ray cannot be started on this machine: {reason}")


ADDRESS = "address: "
RAY_SCRIPT = f"""
import json, shutil, sys
import ray
cpus, folder = json.loads(sys.argv[1]), sys.argv[2]
context = ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
print({ADDRESS!r} + context.address_info["address"], flush=True)
sys.stdin.read()
ray.shutdown()
shutil.rmtree(folder, ignore_errors=True)
"""
"""Lasts as long as its stdin, and then removes what was made."""


def bare_environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment below a folder that holds nothing but what Ray needs, by link.

    It is linked beside site-packages, so that what is installed there comes first and never replaces a file here.
    """
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    place = folder / "python"
    builder.create(place)
    context = builder.ensure_directories(place)
    library = folder / "library"
    library.mkdir()
    for source in _needed(("ray", "virtualenv", "uv")):
        if not (library / source.name).exists():
            (library / source.name).symlink_to(source)
    with contextlib.suppress(ImportError, OSError):
        import uv

        program = Path(uv.find_uv_bin())
        (Path(context.bin_path) / program.name).symlink_to(program)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)})
    (Path(packages) / "ray.pth").write_text(f"{library}\n", encoding="utf-8")
    return Path(context.env_exe)


def _needed(names: Sequence[str]) -> Iterator[Path]:
    """What distributions and all that they need have put into site-packages; those that are not here are left out."""
    from packaging.requirements import Requirement

    later, seen = list(names), set()
    while later:
        name = later.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = map(Requirement, found.requires or ())
        later += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
        yield from (Path(str(found.locate_file(top))) for top in sorted(tops) if not top.endswith(".pth"))
