"""Distributes tasks over processes beside this one, and yields their results as they come.

`concurrent.futures` serves for none of this: there a process that dies breaks the whole pool, which cannot tell whose
tasks are lost, and a task has one result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from conformance.execution.child import ChildProcess, wait_for

STOPPED_SECONDS = 5.0
"""Seconds between two checks whether processes were stopped, as by SIGSTOP: a run would wait for them for ever."""
_log = logging.getLogger(__name__)
Task = TypeVar("Task")
Result = TypeVar("Result")
Execute = Callable[[Task], Iterable[Result]]
"""Yields the results of a task."""
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """A process that ended before it had finished its tasks."""

    process: int
    """Its number."""
    tasks: tuple[Task, ...]
    """Tasks that it had; the first one may have some of its results."""
    reason: str
    """How it ended, such as `was killed by SIGKILL`."""


class TaskProcesses(Generic[Task, Result]):
    """Processes that execute tasks; they are started at once, and end with the context.

    Parameters
    ----------
    start : callable
        Called in each process; returns a context whose value yields the results of a task.
    arguments : sequence of tuple
        For each process, those of `start`.
    environment : mapping
        Environment variables that the processes start with, beside those of this one.

    `start`, arguments, tasks and results must be picklable.
    """

    def __init__(
        self,
        start: Callable[..., AbstractContextManager[Execute[Task, Result]]],
        arguments: Sequence[tuple[Any, ...]],
        environment: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        self._processes: dict[ChildProcess, int] = {}
        self._started: list[ChildProcess] = []
        try:
            with _environment(environment):
                for number, of_process in enumerate(arguments):
                    process = ChildProcess(_serve, start, *of_process)
                    self._started.append(process)
                    self._processes[process] = number
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TaskProcesses[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for process in self._started:
            process.kill()

    def results(
        self, next_task: Callable[[int], Task | None], ahead: int = 1, *, last: bool = True
    ) -> Generator[tuple[Task, Result] | Lost[Task]]:
        """Execute tasks until there are no more, and yield each result with its task.

        Parameters
        ----------
        next_task : callable
            Called with the number of a process; returns its next task, None if there is none for it.
        ahead : int
            Number of tasks that a process has before it has finished the first of them.
        last : bool
            Whether processes may end that have no task left.

        Raises
        ------
        UserError, ProcessFailedError
            If a task raises an exception.
        """
        tasks: dict[ChildProcess, deque[Task]] = {process: deque() for process in self._processes}
        for process in list(tasks):
            yield from self._hand_out(process, tasks, next_task, ahead, last)
        next_check = time.monotonic() + STOPPED_SECONDS
        while tasks:
            ready = wait_for(tasks, STOPPED_SECONDS)
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + STOPPED_SECONDS
                for process in tasks:
                    if process.resume():
                        _log.warning("process %d was stopped by a signal; it goes on", process.pid)
            for process in ready:
                try:
                    message = process.receive()
                except (EOFError, OSError):
                    yield self._lost(process, tasks)
                    continue
                if message is not None:
                    yield tasks[process][0], message[0]
                    continue
                tasks[process].popleft()
                yield from self._hand_out(process, tasks, next_task, ahead, last)

    def _hand_out(
        self,
        process: ChildProcess,
        tasks: dict[ChildProcess, deque[Task]],
        next_task: Callable[[int], Task | None],
        ahead: int,
        last: bool,
    ) -> Iterator[Lost[Task]]:
        """Send a process its next tasks; it leaves `tasks` if there are none."""
        try:
            while len(tasks[process]) < ahead and (task := next_task(self._processes[process])) is not None:
                tasks[process].append(task)
                process.send((task,))
            if not tasks[process]:
                del tasks[process]
                if last:
                    process.send(None)
        except OSError:
            if process in tasks:
                yield self._lost(process, tasks)

    def _lost(self, process: ChildProcess, tasks: dict[ChildProcess, deque[Task]]) -> Lost[Task]:
        return Lost(self._processes.pop(process), tuple(tasks.pop(process)), process.exit_reason)


def distribute(
    function: Callable[..., Iterable[Result]],
    tasks: Iterable[tuple[Any, ...]],
    processes: int,
    environment: Mapping[str, str] = NO_VARIABLES,
) -> Generator[tuple[tuple[Any, ...], Result] | Lost[tuple[Any, ...]]]:
    """Yield what `function(*task)` yields for each task, with the task, from as many processes.

    function: at the top of a module.  environment: as of `TaskProcesses`.  If all processes end early,
    tasks that none of them had are in one more `Lost`.
    """
    pending = deque(tasks)
    count = min(processes, len(pending))
    with TaskProcesses[tuple[Any, ...], Result](_start, [(function,)] * count, environment) as group:
        yield from group.results(lambda _: pending.popleft() if pending else None)
    if pending:
        yield Lost(count, tuple(pending), "was never started, as all others had ended")


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """A context with other environment variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _start(function: Callable[..., Iterable[Result]]) -> Iterator[Execute[tuple[Any, ...], Result]]:
    yield lambda task: function(*task)


def _serve(
    connection: Connection, start: Callable[..., AbstractContextManager[Execute[Any, Any]]], *arguments: Any
) -> None:
    """Execute tasks until there are no more: sends each result in a tuple, and None after the last one of a task."""
    with start(*arguments) as execute:
        while (message := connection.recv()) is not None:
            for result in execute(message[0]):
                connection.send((result,))
            connection.send(None)
