"""Workers on Ray: one actor each, with its own runtime environment, on this machine or a cluster.

An actor receives the few files of this package that run beside a framework.  It starts the framework in a separate
process, like a local run, so that a crash or a hang is reported in the same words and does not end the actor.  The
run and the actor exchange the messages of `wire`, as bytes.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.execution.workers import wire
from conformance.execution.workers.pool import (
    DEFAULT_TIMEOUTS,
    MAX_IN_FLIGHT,
    Future,
    LocalWorkerPool,
    Timeouts,
    Worker,
    WorkerError,
    WorkerPool,
    WorkerSpec,
)
from conformance.execution.workers.wire import Header, Message, WireError
from conformance.model.errors import UserError
from conformance.model.outcome import Crashed, TimedOut

if TYPE_CHECKING:
    from conformance.execution.environments.sources import Sources

CPUS = 1
"""Number of CPUs of the cluster that an actor reserves."""
MAX_DEATHS = 2
"""Number of actors that may die during one call before the call counts as crashed."""
MAX_FAILED_STARTS = 3
"""Maximum number of consecutive actors that die before they have started."""
ANSWER_GRACE_SECONDS = 60.0
"""Seconds added to the timeouts of a call and of a start before an actor without an answer is abandoned."""
POLL_SECONDS = 1.0
"""Polling interval; also the idle time after which an actor may be replaced by another."""
NOTICE_AFTER_SECONDS = 15.0
"""Seconds of waiting for an actor after which the user is notified."""
CONNECT_TIMEOUT = 10.0
"""Seconds in which a cluster's address must accept a connection."""
PACKAGE = "conformance"
FILES = (
    "__init__.py",
    "adapters/*.py",
    "adapters/contract/*.py",
    "execution/__init__.py",
    "execution/workers/*.py",
    "model/*.py",
)
"""Patterns of the files of this package that are sent to nodes: the imports of adapters and workers."""
MAX_PACKAGE_BYTES = 1 << 24
"""Maximum size of an adapter's package that is sent."""
INSTALL_OPTIONS = ("--no-deps", "--only-binary", ":all:")
"""Options of `uv pip install`: requirements are pinned and complete, and no source distribution is built."""
MAX_REASON_LENGTH = 400
"""Maximum number of characters of a message from Ray that are quoted."""
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # the death of an actor is reported as an outcome, not by Ray, too
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would override our environments
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns about its default
    "RAY_prestart_worker_first_driver": "0",  # a worker for each CPU that no actor can use
}
"""Environment variables for Ray unless the user has set them: no telemetry, no logging to the terminal."""
SET_BY_RAY = "OMP_NUM_THREADS"
"""Variable that Ray sets for its workers, unlike a local run; it affects results."""

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RayWorkerSpec(WorkerSpec):
    """Specification of a worker in an actor, which uses the interpreter of its node.

    Local paths and the connection settings are used only if all nodes are on this machine.
    """

    requirements: tuple[str, ...] = ()
    """Pinned requirements, complete, as lines of a requirements file."""
    sources: Sources
    """Sources of packages to install."""

    def runtime_env(self, *, is_local: bool) -> dict[str, Any]:
        """Ray's description of the environment.  is_local: whether all nodes are on this machine."""
        sources = self.sources
        indexes, links = (
            tuple(address for address in addresses if is_local or _is_remote(address))
            for addresses in (sources.indexes, sources.links)
        )
        settings = {
            **(sources.variables if is_local else {}),
            "UV_DEFAULT_INDEX": "".join(indexes[-1:]),
            "UV_INDEX": " ".join(indexes[:-1]),
            "UV_FIND_LINKS": ",".join(links),
            "UV_INDEX_STRATEGY": "first-index" if sources.first_index else "unsafe-best-match",
        }
        variables = {**{name: value for name, value in settings.items() if value}, **self.variables}
        if not self.requirements:
            return {"env_vars": variables}
        install = {"packages": list(self.requirements), "uv_pip_install_options": [*INSTALL_OPTIONS, *sources.flags]}
        return {"uv": install, "env_vars": variables}


def _is_remote(address: str) -> bool:
    return "://" in address and not address.startswith("file:")


# On the node.


class Actor:
    """The class of the Ray actors.

    It is pickled by value, because this package is not installed on nodes; its methods import what they need.
    """

    def __init__(self, files: dict[str, bytes], in_own_environment: bool) -> None:
        """Write the files of this package into a temporary folder and make it importable.

        in_own_environment: whether the actor has a virtual environment of its own; the folder is then inside of it
        and removed with it.
        """
        import pathlib
        import runpy
        import sys
        import tempfile

        parent = sys.prefix if in_own_environment else None
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-", dir=parent, ignore_cleanup_errors=True)
        root = pathlib.Path(self._folder.name)
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        import_from_file = runpy.run_path(str(root / "conformance/execution/workers/loop.py"))["import_from_file"]
        import_from_file("conformance", str(root / "conformance/__init__.py"))

    def start(self, name: str, adapter: str, file: str, variables: dict[str, str], *seconds: float) -> bytes:
        """Start the framework in a separate process; return its versions or its failure as a message."""
        from conformance.execution.workers.on_ray import ActorPool
        from conformance.execution.workers.pool import Timeouts

        remote_path = f"{self._folder.name}/{file}" if file else ""
        self._pool = ActorPool(name, adapter, remote_path, variables, Timeouts(*seconds))
        return self._pool.started()

    def answer(self, message: bytes) -> bytes:
        """The answer to one message."""
        return self._pool.answer(message)

    def close(self) -> None:
        """End the process and remove the files."""
        with contextlib.suppress(AttributeError):
            self._pool.close()
        self._folder.cleanup()


class ActorPool(LocalWorkerPool):
    """A pool of one worker in an actor, which receives and returns messages."""

    def __init__(self, name: str, adapter: str, file: str, variables: Mapping[str, str], timeouts: Timeouts) -> None:
        if SET_BY_RAY not in variables:
            os.environ.pop(SET_BY_RAY, None)
        super().__init__([WorkerSpec(name, adapter, file, variables)], timeouts)
        self._name = name

    def started(self) -> bytes:
        """The versions of the worker, or why it failed to start, as a message."""
        try:
            return _message({"ready": asdict(self.versions(self._name))})
        except WorkerError as error:
            return _message({"failed": str(error)})

    def answer(self, message: bytes) -> bytes:
        """The worker's answer to a message, or a crash or timeout if there is no answer."""
        request = wire.Request.from_bytes(message)
        future = self._workers[self._name].submit(request)
        self.wait_any([future])
        if future.message is not None:
            return b"".join(future.message.buffers)
        if future.ended is None:
            return _message({"failed": future.worker.broken})
        return b"".join(wire.set_message_number(wire.outcome_message(future.ended), request.number))


def _message(header: Header) -> bytes:
    return b"".join(wire.encode_message(header))


# Here: the pool.


class RayWorkerPool(WorkerPool):
    """Workers by name, one actor each.

    address: address of the cluster, as for Ray; "" means RAY_ADDRESS or, if it is not set, a Ray on
    this machine that ends with the pool.  progress: called with a line before each slow step.  Raises
    UserError if there is no Ray.  Idle actors are ended if the cluster has no room for others.
    """

    def __init__(
        self,
        specs: Iterable[RayWorkerSpec],
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        address: str = "",
        progress: Progress = lambda line: None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(connect(address, progress))
            on_this_machine = _on_this_machine(self._ray)
            self._actors = {
                spec.name: RayWorker(spec, timeouts, self._ray, on_this_machine, progress) for spec in specs
            }
            super().__init__(self._actors)
            self._held = stack.pop_all()

    def close(self) -> None:
        """End every actor, even a busy one, and the Ray that was started for them."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            references = [ref for worker in self._actors.values() if (ref := worker.request_shutdown()) is not None]
            if references:
                self._ray.wait(references, num_returns=len(references), timeout=5.0)
        super().close()
        self._held.close()

    def _step(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.ensure_started()
        workers_by_ref = {ref: worker for worker in self._actors.values() if (ref := worker.next_reference) is not None}
        if workers_by_ref:
            refs = list(workers_by_ref)
            ready, _ = self._ray.wait(refs, num_returns=1, timeout=POLL_SECONDS)
            if ready:
                ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
            for ref in ready:
                workers_by_ref[ref].receive_answers()
        for actor in self._actors.values():
            actor.enforce_timeout()
        self._make_room()

    def _make_room(self) -> None:
        """End the actor that has been idle longest, if another one is waiting and no CPU is free."""
        idle = [worker for worker in self._actors.values() if worker.idle() > POLL_SECONDS]
        if not idle or not any(worker.pending() > POLL_SECONDS for worker in self._actors.values()):
            return
        if self._ray.available_resources().get("CPU", 0.0) < CPUS:
            longest = max(idle, key=RayWorker.idle)
            self._ray.wait([longest.request_shutdown()], timeout=5.0)
            longest.end()


class RayWorker(Worker):
    """A worker in an actor; a lost actor is replaced."""

    def __init__(
        self, spec: RayWorkerSpec, timeouts: Timeouts, ray: Any, on_this_machine: bool, progress: Progress
    ) -> None:
        super().__init__(spec, timeouts)
        self._ray = ray
        self._progress = progress
        self._environment = spec.runtime_env(is_local=on_this_machine)
        self._actor: Any = None
        self._refs: deque[Any] = deque()
        """Ray's references to the answers to the first waiting calls."""
        self._lethal: Future | None = None
        """The call during which the last actor died."""
        self._deaths = 0
        """Number of actors that died during this call, consecutively."""
        self._starts = 0
        """Number of consecutive actors that died before they had started."""
        self._announced = False
        """Whether the user was notified of the slow start of the actor."""

    @property
    def next_reference(self) -> Any:
        """Ray's reference to the next answer; None if no call was sent."""
        return self._refs[0] if self._refs else None

    @property
    def in_flight(self) -> int:
        return len(self._refs)

    def idle(self) -> float:
        """Seconds since the actor became idle."""
        return time.monotonic() - self._waiting_since if self._actor is not None and not self._waiting else 0.0

    def pending(self) -> float:
        """Seconds since the actor was requested, until it has started."""
        return time.monotonic() - self._waiting_since if self._actor is not None and not self.started.done else 0.0

    def ensure_started(self) -> None:
        if self._actor is None and not self.broken and (self._waiting or not self.started.done):
            self._create_actor()

    def enforce_timeout(self) -> None:
        if self.pending() > NOTICE_AFTER_SECONDS and not self._announced:
            self._announced = True
            self._progress(f"{self.spec.name} is being installed, or waits for a free CPU of the Ray cluster ...")
        silence = self.timeouts.call + self.timeouts.start + ANSWER_GRACE_SECONDS
        if self._refs and self.started.done and time.monotonic() - self._waiting_since > silence:
            self.end()
            self._waiting.popleft().ended = TimedOut(self.timeouts.call)

    def receive_answers(self) -> None:
        """Receive the answers that are ready, in order."""
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
                return self._on_actor_lost(error)
            try:
                self._on_answer(wire.read_message(io.BytesIO(answer).read))
            except WireError as error:
                return self._break(f"its Ray actor was out of step: {error}")
        return self._send_pending()

    def request_shutdown(self) -> Any:
        """Ask the actor to clean up; return Ray's reference, or None if there is no actor or it is busy."""
        return self._actor.close.remote() if self._actor is not None and not self._refs else None

    def _create_actor(self) -> None:
        self.started = self._start_future()
        self._waiting.appendleft(self.started)
        self._waiting_since = time.monotonic()
        self._announced = False
        files, file = files_to_send(self.spec.adapter, self.spec.file)
        variables = dict(self.spec.variables)
        if SET_BY_RAY in os.environ:
            variables.setdefault(SET_BY_RAY, os.environ[SET_BY_RAY])
        with _by_value(self._ray):
            actor_class = self._ray.remote(num_cpus=CPUS, max_restarts=0, runtime_env=self._environment)(Actor)
            self._actor = actor_class.remote(files, "uv" in self._environment)
        start = self._actor.start.remote(
            self.spec.name, self.spec.adapter, file, variables, self.timeouts.call, self.timeouts.start
        )
        self._refs.append(start)

    def _send_pending(self) -> None:
        if self._actor is None or not self.started.done:
            return
        while len(self._refs) < min(MAX_IN_FLIGHT, len(self._waiting)):
            buffers = self._waiting[len(self._refs)].request.buffers
            self._refs.append(self._actor.answer.remote(b"".join(buffers)))

    def _on_answer(self, message: Message) -> None:
        self._refs.popleft()
        future = self._waiting.popleft()
        self._waiting_since = time.monotonic()
        if "failed" in message.header:
            self.broken = str(message.header["failed"])
            return self.end()
        if future is self.started:
            self._starts = 0
            message = replace(message, number=future.request.number)  # an actor starts without being sent a request
        future.accept(message)
        return None

    def _on_actor_lost(self, error: Exception) -> None:
        """Handle the loss of the actor or its node: the first queued call was running; all calls are sent again."""
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
        # Calls without an answer stay in the queue for the next actor.
        self._refs.clear()
        if self._actor is not None:
            with contextlib.suppress(Exception):  # it may be gone already, or the cluster
                self._ray.kill(self._actor)
            self._actor = None


# The files that are sent to an actor.


def files_to_send(adapter: str, file: str = "") -> tuple[dict[str, bytes], str]:
    """Return the files that an actor needs, content by path, and the path of the adapter's top-level package.

    adapter: `module:attribute`.  file: path of the main file of its top-level package; "" for an adapter in this
    package. Raises WorkerError if the package is larger than MAX_PACKAGE_BYTES.
    """
    root = Path(__file__).parents[3]
    shared = [path for pattern in FILES for path in sorted((root / PACKAGE).glob(pattern))]
    source = Path(file)
    if not file:
        base, top, paths = root, "", list(_module_files(adapter.partition(":")[0]))
    elif source.name == "__init__.py":
        base, top, paths = source.parents[1], f"{source.parent.name}/__init__.py", sorted(source.parent.rglob("*.py"))
    else:
        base, top, paths = source.parent, source.name, [source]
    if sum(path.stat().st_size for path in paths) > MAX_PACKAGE_BYTES:
        raise WorkerError(f"{adapter}: its package {source.parent} is too large to be sent to a cluster")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in shared}
    return files | {path.relative_to(base).as_posix(): path.read_bytes() for path in paths}, top


def _module_files(module: str) -> Iterator[Path]:
    """The file of a module, and those of the packages that contain it."""
    while module:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin)
        module = module.rpartition(".")[0]


@contextlib.contextmanager
def _by_value(ray: Any) -> Iterator[None]:
    """Pickle the classes of this module by value, because this package is not installed on nodes."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)


def _reason(text: str) -> str:
    """A message from Ray on one line: only uv's error for a failed installation, only the end of a long message."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()).rpartition(" error: ")[2]
    return text if len(text) <= MAX_REASON_LENGTH else f"... {text[-MAX_REASON_LENGTH:]}"


# Ray itself.


@contextlib.contextmanager
def connect(address: str, progress: Progress) -> Iterator[Any]:
    """The module `ray`, connected to a cluster, or to a Ray that ends with the context.

    address: address of the cluster, see `RayWorkerPool`.  An existing connection is used.  Raises UserError if there is
    none.
    """
    with contextlib.ExitStack() as resources:
        address = address or os.environ.get("RAY_ADDRESS", "")
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            yield ray
            return
        if not address:
            progress("starting Ray on this machine ...")
            address = resources.enter_context(LocalRay()).address
        ray = import_ray()
        check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            why = _reason(str(error.__cause__ or error))
            raise UserError(f"there is no connection to the Ray cluster {address}: {why}") from error
        resources.callback(ray.shutdown)
        yield ray


def import_ray() -> Any:
    """Import `ray` without warnings.  Raises UserError if it is not installed."""
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


def check_reachable(address: str) -> None:
    """Raise UserError if nothing listens at an address; Ray itself needs minutes to detect this."""
    match = re.fullmatch(r"(?:ray://)?(\[[^]]+\]|[^:/]+):(\d+)", address)
    if match is None:
        return
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), CONNECT_TIMEOUT).close()
    except OSError as error:
        advice = "check the address, and that the cluster runs"
        raise UserError(f"there is no Ray cluster at {address} ({error.strerror or error}); {advice}") from error


def _on_this_machine(ray: Any) -> bool:
    """Whether all nodes are on this machine, so that its paths are valid on them."""
    return all(node["NodeManagerHostname"] == socket.gethostname() for node in ray.nodes() if node["Alive"])


class LocalRay:
    """A Ray on this machine, which ends at the latest with this process.

    Ray copies the virtual environment in which it runs for every runtime environment.  Therefore it runs in one with
    only links to Ray and its dependencies: copying is fast, and packages of this environment are not visible.
    """

    def __init__(self, cpus: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            import_ray()  # says so
        if "RAY_AUTH_MODE" not in os.environ:  # Ray would write a token into the user's home folder
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        try:
            self.python = bare_environment(self._folder)
            """The interpreter of nodes on this machine."""
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
        """End it, and remove its environments."""
        self._process.communicate()

    def _start(self, python: Path, cpus: int | None) -> subprocess.Popen[str]:
        with (self._folder / "log").open("w") as log:
            return subprocess.Popen(  # noqa: S603
                [str(python), "-c", RAY_SCRIPT, json.dumps(cpus), str(self._folder)],
                env={**RAY_ENVIRONMENT, **os.environ},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # the run handles Ctrl-C
            )  # fmt: skip

    def _read_address(self) -> str:
        """Wait for the address.  Raises UserError if Ray does not start."""
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
"""Runs Ray until its stdin is closed, then removes its folder."""


def bare_environment(folder: Path) -> Path:
    """Create a virtual environment in a folder with links to Ray and its dependencies; return its interpreter.

    The links are in a folder beside site-packages, so that packages installed later take precedence and never replace
    a file of this environment.
    """
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    prefix = folder / "python"
    builder.create(prefix)
    context = builder.ensure_directories(prefix)
    library = folder / "library"
    library.mkdir()
    for source in _installed_files(("ray", "virtualenv", "uv")):
        if not (library / source.name).exists():
            (library / source.name).symlink_to(source)
    with contextlib.suppress(ImportError, OSError):
        import uv

        program = Path(uv.find_uv_bin())
        (Path(context.bin_path) / program.name).symlink_to(program)
    packages = sysconfig.get_path("purelib", "venv", {"base": str(prefix), "platbase": str(prefix)})
    (Path(packages) / "ray.pth").write_text(f"{library}\n", encoding="utf-8")
    return Path(context.env_exe)


def _installed_files(names: Sequence[str]) -> Iterator[Path]:
    """Top-level files and folders in site-packages of distributions and their dependencies, as far as installed."""
    from packaging.requirements import Requirement

    pending, visited = list(names), set()
    while pending:
        name = pending.pop()
        if name in visited:
            continue
        visited.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        requirements = map(Requirement, distribution.requires or ())
        pending += [need.name for need in requirements if need.marker is None or need.marker.evaluate({"extra": ""})]
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        yield from (Path(str(distribution.locate_file(top))) for top in sorted(tops) if not top.endswith(".pth"))
