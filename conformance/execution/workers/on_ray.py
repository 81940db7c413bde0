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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from conformance.execution.workers import wire
from conformance.execution.workers.crew import (
    AHEAD,
    START_TIMEOUT,
    TIMEOUT,
    Facts,
    Future,
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
DEATHS = 2
"""Deaths of an actor over one call after which the call has crashed."""
STARTS = 3
"""Deaths of an actor in a row, before it had started, after which no other is tried."""
GRACE = 60.0
"""Seconds that an answer may take longer than its call and a start of the framework, before its actor is given up."""
LOOK = 1.0
"""Seconds between looks at what does not tell by itself; idle actors make room for others after as long."""
PATIENCE = 15.0
"""Seconds of waiting for an actor after which the user is told."""
REACH = 10.0
"""Seconds in which a cluster's address must accept a connection."""
PACKAGE = "conformance"
FILES = (
    "__init__",
    *(f"adapters/{name}" for name in ("__init__", "arrays", "containment", "contract")),
    "execution/__init__",
    *(f"execution/workers/{name}" for name in ("__init__", "crew", "loop", "on_ray", "serve", "wire")),
    *(f"model/{name}" for name in ("__init__", "case", "convention", "errors", "outcome", "text")),
)
"""What runs on a node, beside the adapters."""
SHIPPED = 1 << 24
"""Bytes of an adapter's package that are sent at most."""
INSTALL = ("--no-deps", "--only-binary", ":all:")
"""Requirements are pinned and complete: nothing else comes along, and nothing that is downloaded runs its own code."""
QUOTED = 400
"""Characters of Ray's own words that a message has room for."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # an actor that dies is told as an outcome, and not beside it by Ray
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` it would override our environments
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # it warns about its default
}
"""What Ray finds in the environment unless the user has set it: nothing is sent home, nothing is printed."""
SET_BY_RAY = "OMP_NUM_THREADS"
"""Ray sets it for its workers, a local run does not; numbers depend on it."""

Told = Callable[[str], None]


@dataclass(frozen=True)
class RayWorkerSpec:
    """A worker that is wanted.

    name, adapter, file, variables: as in `WorkerSpec`.  requirements: lines of a requirements file that pin
    everything that is to be installed.  indexes, links: where it lies, the default index last;
    first_index: the first index that has a package hides the others.  options: more words for `uv pip install`.
    connection: the same and how it is reached, in uv's variables.
    Paths, and the connection, are for nodes on this machine.
    """

    name: str
    adapter: str
    file: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    first_index: bool = False
    options: tuple[str, ...] = ()
    connection: Mapping[str, str] = field(default_factory=dict)

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
        install = {"packages": list(self.requirements), "uv_pip_install_options": [*INSTALL, *self.options]}
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


class Relay(WorkerPool):
    """A crew of one that is asked and answers in messages."""

    def __init__(self, name: str, adapter: str, file: str, variables: Mapping[str, str], timeout: float) -> None:
        if SET_BY_RAY not in variables:
            os.environ.pop(SET_BY_RAY, None)
        super().__init__({name: WorkerSpec(name, Path(sys.executable), adapter, file, variables)}, timeout)
        self._name = name

    def started(self) -> bytes:
        """What is there, or why it cannot be had."""
        try:
            facts = self.facts(self._name)
        except WorkerError as error:
            return _message({"failed": str(error)})
        return _message({"ready": asdict(facts)})

    def answer(self, message: bytes) -> bytes:
        """The worker's own answer to a message, or what came instead of one."""
        worker = self._workers[self._name]
        ticket = worker.submit([memoryview(message)])
        self.wait_any([(self._name, ticket)])
        if ticket.ended is not None:
            return b"".join(wire.outcome_message(ticket.ended))
        if ticket.head is None:
            return _message({"failed": worker.broken})
        text = json.dumps(ticket.head).encode()
        return wire.LENGTHS.pack(wire.MAGIC, len(text), len(ticket.body)) + text + ticket.body


def _message(head: Head) -> bytes:
    return b"".join(wire.message(head))


# Here: the crew.


class RayWorkerPool(WorkerPool):
    """Workers by name, as a `WorkerPool` has them, each in an actor.

    address: of the cluster, as Ray takes it; "" for the one that RAY_ADDRESS names, and where it names none for
    a Ray on this machine that ends with the crew.  told: gets a line where something takes time.  Raises
    UserError where Ray cannot be had.  Actors that have nothing to do make room where the cluster has none left.
    """

    def __init__(
        self,
        places: Mapping[str, RayWorkerSpec],
        timeout: float = TIMEOUT,
        address: str = "",
        told: Told = lambda line: None,
    ) -> None:
        self._actors: dict[str, RayWorker] = {}
        with contextlib.ExitStack() as held:
            self._ray = held.enter_context(connected(address, told))
            here = _on_this_machine(self._ray)
            self._actors |= {name: RayWorker(place, timeout, self._ray, here, told) for name, place in places.items()}
            for worker in self._actors.values():
                worker.ensure()
            self._held = held.pop_all()
        self._workers = cast("dict[str, Worker]", self._actors)  # a crew asks them nothing else

    def close(self) -> None:
        """Give every actor back, whatever it is doing, and end what was started for them."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            leaving = [ref for worker in self._actors.values() if (ref := worker.leave()) is not None]
            if leaving:
                self._ray.wait(leaving, num_returns=len(leaving), timeout=5.0)
        for worker in self._actors.values():
            worker.end()
        self._held.close()

    def _step(self, workers: Sequence[Worker]) -> None:
        for worker in workers:
            worker.ensure()
        first = {worker.first: worker for worker in self._actors.values() if worker.first is not None}
        if first:
            ready, _ = self._ray.wait(list(first), num_returns=1, timeout=LOOK)
            if ready:
                ready, _ = self._ray.wait(list(first), num_returns=len(first), timeout=0)
            for ref in ready:
                first[ref].take()
        for actor in self._actors.values():
            actor.check()
        self._make_room()

    def _make_room(self) -> None:
        """Have the actor that was idle longest leave, where another one waits and no CPU is free."""
        idle = [worker for worker in self._actors.values() if worker.idle() > LOOK]
        if not idle or not any(worker.pending() > LOOK for worker in self._actors.values()):
            return
        if self._ray.available_resources().get("CPU", 0.0) < CPUS:
            longest = max(idle, key=RayWorker.idle)
            self._ray.wait([longest.leave()], timeout=5.0)
            longest.end()


class RayWorker:
    """One actor that makes calls for one framework, and the next one where that is lost; as `Worker` does it."""

    def __init__(self, place: RayWorkerSpec, timeout: float, ray: Any, here: bool, told: Told) -> None:
        self.place = place
        self.broken = ""
        """Why no call can be made here at all."""
        self.started = Future((), START_TIMEOUT)
        self._timeout = timeout
        self._ray = ray
        self._told = told
        self._environment = place.runtime_env(here=here)
        self._actor: Any = None
        self._waiting: deque[Future] = deque()
        """Not answered yet, in order."""
        self._refs: deque[Any] = deque()
        """What Ray calls the answers to the first of them."""
        self._deaths: Counter[int] = Counter()
        """How many actors died, by the `id` of the call that they were at."""
        self._starts = 0
        self._since = 0.0
        self._said = False

    @property
    def first(self) -> Any:
        """What Ray calls the next answer."""
        return self._refs[0] if self._refs else None

    def idle(self) -> float:
        """Seconds since an actor that is there has had nothing to do."""
        return time.monotonic() - self._since if self._actor is not None and not self._waiting else 0.0

    def pending(self) -> float:
        """Seconds since an actor is waited for."""
        return time.monotonic() - self._since if self._actor is not None and not self.started.done else 0.0

    def submit(self, pieces: Sequence[memoryview]) -> Future:
        ticket = Future(pieces, self._timeout)
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(ticket)
        self._feed()
        return ticket

    def facts(self) -> Facts:
        if self.broken:
            raise WorkerError(self.broken)
        assert self.started.head is not None
        return Facts(**self.started.head["ready"])

    def ensure(self) -> None:
        """See that there is an actor, unless none can be had or nothing is wanted of it."""
        if self._actor is None and not self.broken and (self._waiting or not self.started.done):
            self._hire()

    def check(self) -> None:
        """Tell the user what takes long; give up on an actor that says nothing at all."""
        if self.pending() > PATIENCE and not self._said:
            self._said = True
            self._told(f"{self.place.name} is being installed, or waits for a free CPU of the Ray cluster ...")
        silence = self._timeout + START_TIMEOUT + GRACE
        if self._refs and self.started.done and time.monotonic() - self._since > silence:
            self._dismiss()
            self._waiting.popleft().ended = TimedOut(self._timeout)

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

    def end(self) -> None:
        """Give the actor back."""
        self._dismiss()

    def _hire(self) -> None:
        self.started = Future((), START_TIMEOUT)
        self._waiting.appendleft(self.started)
        self._since = time.monotonic()
        self._said = False
        files, file = shipped(self.place.adapter, self.place.file)
        variables = dict(self.place.variables)
        if SET_BY_RAY in os.environ:
            variables.setdefault(SET_BY_RAY, os.environ[SET_BY_RAY])
        with _by_value(self._ray):
            kind = self._ray.remote(num_cpus=CPUS, max_restarts=0, runtime_env=self._environment)(Actor)
            self._actor = kind.remote(files, "uv" in self._environment)
        start = self._actor.start.remote(self.place.name, self.place.adapter, file, variables, self._timeout)
        self._refs.append(start)

    def _feed(self) -> None:
        """Put the next calls on their way, up to `AHEAD`, once the framework is there."""
        if self._actor is None or not self.started.done:
            return
        while len(self._refs) < min(AHEAD, len(self._waiting)):
            pieces = self._waiting[len(self._refs)].pieces
            self._refs.append(self._actor.answer.remote(b"".join(pieces)))

    def _answered(self, head: Head, body: bytes | bytearray) -> None:
        self._refs.popleft()
        ticket = self._waiting.popleft()
        self._since = time.monotonic()
        self._deaths.pop(id(ticket), None)
        if "failed" in head:
            self.broken = head["failed"]
            return self._dismiss()
        if ticket is self.started:
            self._starts = 0
        ticket.head, ticket.body = head, body
        return None

    def _lost(self, error: Exception) -> None:
        """The actor is gone, or its node: the first call in the queue is what it was at; all are made again."""
        self._dismiss()
        ticket = self._waiting[0]
        self._deaths[id(ticket)] += 1
        if ticket is self.started:
            self._waiting.popleft()
            self._starts += 1
            if self._starts == STARTS:
                self._break(f"its Ray actor died {STARTS} times before it had started: {_reason(str(error))}")
        elif self._deaths[id(ticket)] == DEATHS:
            self._waiting.popleft()
            del self._deaths[id(ticket)]
            ticket.ended = Crashed(f"died with its Ray actor, {DEATHS} times", _reason(str(error)))

    def _break(self, why: str) -> None:
        self.broken = f"{self.place.name}: {why}"
        self._dismiss()

    def _dismiss(self) -> None:
        """Kill the actor; the calls that it was sent are left for the next one."""
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
    paths = {f"{PACKAGE}/{name}.py": root / PACKAGE / f"{name}.py" for name in FILES}
    source = Path(file)
    if not file:
        own, top = {path.relative_to(root).as_posix(): path for path in _sources(adapter.partition(":")[0])}, ""
    elif source.name == "__init__.py":
        inside = sorted(source.parent.rglob("*.py"))
        own = {path.relative_to(source.parents[1]).as_posix(): path for path in inside}
        top = f"{source.parent.name}/__init__.py"
    else:
        own, top = {source.name: source}, source.name
    if sum(path.stat().st_size for path in own.values()) > SHIPPED:
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
    """What Ray says, on one line; of a failed installation only uv's own words; the end of what is long."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()).rpartition(" error: ")[2]
    return text if len(text) <= QUOTED else f"... {text[-QUOTED:]}"


# Ray itself.


@contextlib.contextmanager
def connected(address: str, told: Told) -> Iterator[Any]:
    """The module `ray`, connected, where it was not, to a cluster or to a Ray of its own; raises UserError."""
    with contextlib.ExitStack() as held:
        address = address or os.environ.get("RAY_ADDRESS", "")
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            yield ray
            return
        if not address:
            told("starting Ray on this machine ...")
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
    for name, value in SETTINGS.items():
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
        socket.create_connection((found[1].strip("[]"), int(found[2])), REACH).close()
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
            self.address = self._told()
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
                [str(python), "-c", KEEPER, json.dumps(cpus), str(self._folder)],
                env={**SETTINGS, **os.environ}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,  # Ctrl-C is the run's to handle
            )  # fmt: skip

    def _told(self) -> str:
        """The address, once it is there."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ADDRESS):
                return line.removeprefix(ADDRESS).strip()
        self._process.wait()
        said = _reason((self._folder / "log").read_text(errors="replace"))
        raise UserError(f"Ray cannot be started on this machine: {said}")


ADDRESS = "address: "
KEEPER = f"""
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
