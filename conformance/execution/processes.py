"""Rows made in several processes beside this one, which hands out the items and collects the rows.

Each process judges what its workers answer, and sends each row when it is judged.  A call that kills its worker, or
takes too long, is a row.  A judging process that dies takes with it only the items it was at: these are not executed,
and the others go on.  An exception in a process is raised here.  A process whose run is gone ends itself.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.ending import end_now
from conformance.execution.interruption import ignore_signals
from conformance.execution.running import Isolated, NotExecuted, rows_of
from conformance.execution.workers.crew import WorkerPool, WorkerSpec
from conformance.execution.workers.loop import mount
from conformance.judging.judge import Item, Judge, id_of, load_suite, plan
from conformance.judging.row import Record
from conformance.model.case import Case
from conformance.model.errors import UserError, failed_here, received
from conformance.reference.oracle import Oracle, open_cache

CHUNK = 64
"""Items that a process is handed at one time."""
AHEAD = 2
"""Chunks that a process has before it has finished the first of them."""
HELP = 2000
"""Items of a framework that must be left for another process to import it, too."""

RowOrError = Record | NotExecuted
Key = tuple[str, str]
"""Names of the worker and of the item, which several workers may be asked."""
Facts = dict[str, str]
"""What an `Installed` says of a framework beside its adapter and its environment, by name."""


@dataclass(frozen=True)
class Assignment:
    """A framework in an environment, and the worker that makes its calls."""

    environment: str
    worker: WorkerSpec

    @property
    def framework(self) -> Framework:
        """The framework's adapter."""
        module, _, attribute = self.worker.adapter.partition(":")
        top = module.partition(".")[0]
        if self.worker.file and importlib.util.find_spec(top) is None:
            mount(top, self.worker.file)
        found: Framework = getattr(importlib.import_module(module), attribute)
        return found


@dataclass(frozen=True)
class _Setup:
    """What a judging process is told at its start.

    assignments: by worker.  first: names of the workers that it starts at once.  folder, loaded, timeout: see
    `Judges`.
    """

    assignments: Mapping[str, Assignment]
    first: tuple[str, ...]
    folder: Path | None
    loaded: tuple[list[Case], Ledger] | None
    timeout: float


@dataclass(eq=False)
class _Process:
    """A judging process.

    first: names of the workers that it started at once.  current: the worker whose items it takes.  out: items that
    it was handed, whose rows it still owes.  chunks: how many of them it has not finished.
    """

    process: BaseProcess
    first: tuple[str, ...]
    current: str = ""
    out: set[Key] = field(default_factory=set)
    chunks: int = 0

    def how(self) -> str:
        """How it ended, as a reason."""
        self.process.join()
        status = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        return f"the process that was to judge it {how}"


class Judges:
    """Processes that make rows; they are started at once, and end with the context.

    assignments: what can be asked; a process starts a worker when it is handed the first of its items.  first: of each
    process, the names of the workers that it starts at once.  folder: of the cases.  timeout: seconds that a call may
    take.  loaded: the cases and their ledger, where they are not what lies in the folder.
    """

    def __init__(
        self,
        assignments: Collection[Assignment],
        first: Sequence[Sequence[str]],
        folder: Path | None,
        timeout: float,
        loaded: tuple[list[Case], Ledger] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._assignments = {assignment.worker.name: assignment for assignment in assignments}
        self._processes: dict[Connection, _Process] = {}
        self._queues: dict[str, deque[Key]] = {}
        for names in first:
            here, there = context.Pipe()
            setup = _Setup(self._assignments, tuple(names), folder, loaded, timeout)
            process = context.Process(target=_work, args=(there, setup), daemon=True)
            process.start()
            there.close()
            self._processes[here] = _Process(process, tuple(names))

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        for found in self._processes.values():
            found.process.kill()

    def facts(self) -> dict[str, Facts | str]:
        """What the workers that were started at once found, by name; for those that cannot be had, why."""
        found: dict[str, Facts | str] = {}
        for connection, process in self._processes.items():
            try:
                connection.send(None)
                found |= received(connection)
            except (EOFError, OSError):
                found |= dict.fromkeys(process.first, process.how())
        return found

    def rows(self, items: Sequence[Item]) -> Generator[RowOrError]:
        """The rows of items, in the order they are finished; once."""
        known: dict[str, Facts] = {}
        for item in items:
            name = item.installed.worker
            known.setdefault(name, facts_of(item.installed))
            self._queues.setdefault(name, deque()).append(_key(item))
        for connection in list(self._processes):
            try:
                connection.send(known)
            except OSError:
                yield from self._lost(connection)
            else:
                yield from self._hand_out(connection)
        while self._processes:
            for ready in wait(list(self._processes)):
                assert isinstance(ready, Connection)
                yield from self._hear(ready)

    def _hear(self, connection: Connection) -> Iterator[RowOrError]:
        """Take what a process has to say: a row, or that it has finished a chunk."""
        try:
            made: RowOrError | None = received(connection)
        except (EOFError, OSError):
            yield from self._lost(connection)
            return
        process = self._processes[connection]
        if made is None:
            process.chunks -= 1
            yield from self._hand_out(connection)
        else:
            process.out.discard(_key_of(made))
            yield made

    def _hand_out(self, connection: Connection) -> Iterator[RowOrError]:
        """Give a process its next items, or let it end where there are none for it."""
        process = self._processes[connection]
        try:
            while process.chunks < AHEAD and (queue := self._next(process)):
                keys = [queue.popleft() for _ in range(min(CHUNK, len(queue)))]
                process.out.update(keys)
                process.chunks += 1
                connection.send(keys)
            if not process.chunks:
                connection.send(None)
                del self._processes[connection]
        except OSError:
            yield from self._lost(connection)

    def _next(self, process: _Process) -> deque[Key] | None:
        """The items that a process takes from next: of its worker, of one that it has started, or of the longest."""
        if process.current and self._queues[process.current]:
            return self._queues[process.current]
        taken = Counter(other.current for other in self._processes.values() if other is not process)
        left = {name: len(queue) for name, queue in self._queues.items() if queue}
        mine = {name: count for name, count in left.items() if name in process.first}
        worth = {name: count for name, count in left.items() if not taken[name] or count >= HELP}
        for among in (mine, worth):
            if among:
                process.current = max(among, key=lambda name: among[name] / (1 + taken[name]))
                return self._queues[process.current]
        return None

    def _lost(self, connection: Connection) -> Iterator[NotExecuted]:
        """Why the items of a process that died are not executed, and all that are left if it was the last."""
        process = self._processes.pop(connection)
        why = process.how()
        left = sorted(process.out)
        if not self._processes:
            left += itertools.chain(*self._queues.values())
            self._queues.clear()
        return (NotExecuted(worker, name, why) for worker, name in left)


def facts_of(found: Installed) -> Facts:
    """What is known of a framework that is installed."""
    return {name: getattr(found, name) for name in ("version", "python", "numpy", "backend")}


def first_workers(items: Sequence[Item], count: int) -> list[list[str]]:
    """The worker that each of `count` processes starts at once: several for the framework with most items."""
    left = Counter(item.installed.worker for item in items)
    taken: Counter[str] = Counter()
    for _ in range(count):
        taken[max(left, key=lambda name: left[name] / (1 + taken[name]))] += 1
    return [[name] for name in taken.elements()]


def _key(item: Item) -> Key:
    """What an item has in common with its row, and with no other."""
    return item.installed.worker, item.id


def _key_of(made: RowOrError) -> Key:
    """The key of the item that a row is of, or that could not be executed."""
    if isinstance(made, NotExecuted):
        return made.worker, made.id
    return registry.worker(made["framework"], made["environment"]), id_of(made)


# In a judging process


def _work(run: Connection, setup: _Setup) -> None:
    """Make rows until the run has no more items to hand out, or is gone."""
    ignore_signals()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _serve(run, setup)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            run.send(failed_here(error))
    end_now()


def _serve(run: Connection, setup: _Setup) -> None:
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(
            WorkerPool({name: setup.assignments[name].worker for name in setup.first}, setup.timeout)
        )
        cases, ledger = load_suite(setup.folder) if setup.loaded is None else setup.loaded  # while the workers start
        while (known := run.recv()) is None:
            run.send({name: _facts(crew, name) for name in setup.first})
        if (cache := open_cache()) is not None:
            stack.callback(cache.close)
        suite = Judge(Oracle(cache), ledger)
        items: dict[str, dict[str, Item]] = {}
        while (keys := run.recv()) is not None:
            for name in {name for name, _ in keys} - items.keys():
                assignment = setup.assignments[name]
                found = Installed(assignment.framework, environment=assignment.environment, **known[name])
                items[name] = {item.id: item for item in plan(cases, [found])}
                crew.start(assignment.worker)
            chosen = [items[name][key] for name, key in keys]
            for made in rows_of(chosen, suite, Isolated(crew, chosen)):
                run.send(made)
            suite.oracle.flush()
            run.send(None)


def _facts(crew: WorkerPool, name: str) -> Facts | str:
    try:
        return asdict(crew.facts(name))
    except UserError as error:
        return str(error)
