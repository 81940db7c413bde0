"""Distribute tasks over child processes, and yield their results as they arrive.

`concurrent.futures` does not fit: a process that dies breaks its whole pool, which does not know which
tasks are lost, and a task has a single result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from conformance.execution.child import ChildProcess, wait_for

STOPPED_SECONDS = 5.0
"""Seconds between checks for processes stopped by a signal such as SIGSTOP, for which a run would wait forever."""
_log = logging.getLogger(__name__)
Task = TypeVar("Task")
Result = TypeVar("Result")
Execute = Callable[[Task], Iterable[Result]]
"""Yields the results of a task."""
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class LostTasks(Generic[Task]):
    """A process that ended before it had finished its tasks."""

    process: int
    """Number of the process."""
    tasks: tuple[Task, ...]
    """Tasks that it had not finished; the first one may have yielded some of its results."""
    reason: str
    """How it ended, such as `was killed by SIGKILL`."""


class TaskProcesses(Generic[Task, Result]):
    """Processes that execute tasks; they start immediately and end with the context.

    Parameters
    ----------
    start : callable
        Called in each process; returns a context whose value yields the results of a task.
    arguments : sequence of tuple
        Arguments of `start` for each process.
    environment : mapping
        Environment variables to set for the processes, in addition to those of this one.

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
        self._next_check = time.monotonic() + STOPPED_SECONDS
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

    @property
    def running(self) -> Collection[int]:
        """Numbers of the processes that were not seen to end."""
        return self._processes.values()

    def close(self) -> None:
        """Kill the processes."""
        for process in self._started:
            process.kill()

    def results(
        self, next_task: Callable[[int], Task | None], ahead: int = 1
    ) -> Generator[tuple[Task, Result] | LostTasks[Task]]:
        """Execute tasks until there are no more, and yield each result with its task.

        All processes are kept until the end, as they may get the tasks of a lost one; this method can be called again.

        Parameters
        ----------
        next_task : callable
            Called with the number of a process; returns its next task, None if there is none for it now.
        ahead : int
            Number of tasks sent to a process before it has finished the first of them.

        Raises
        ------
        UserError, ProcessFailedError
            If a task raises an exception.
        """
        tasks: dict[ChildProcess, deque[Task]] = {process: deque() for process in self._processes}
        while True:
            for process in tasks:
                self._hand_out(process, tasks[process], next_task, ahead)
            if not any(tasks.values()):
                return
            for process in self._wait(tasks):
                try:
                    message = process.receive()
                except (EOFError, OSError):
                    number, lost = self._processes.pop(process), tuple(tasks.pop(process))
                    if lost:
                        yield LostTasks(number, lost, process.exit_reason)
                    continue
                if message is not None:
                    yield tasks[process][0], message[0]
                else:
                    tasks[process].popleft()

    def _hand_out(
        self, process: ChildProcess, tasks: deque[Task], next_task: Callable[[int], Task | None], ahead: int
    ) -> None:
        """Send a process its next tasks; if it has ended, reading its results will show it."""
        with contextlib.suppress(OSError):
            while len(tasks) < ahead and (task := next_task(self._processes[process])) is not None:
                tasks.append(task)
                process.send(task)

    def _wait(self, processes: Collection[ChildProcess]) -> list[ChildProcess]:
        """Wait for processes that have sent something or have ended; stopped processes are continued."""
        ready = wait_for(processes, STOPPED_SECONDS)
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + STOPPED_SECONDS
            for process in processes:
                if process.resume():
                    _log.warning("process %d was stopped by a signal; it goes on", process.pid)
        return ready


def distribute(
    function: Callable[..., Iterable[Result]],
    tasks: Iterable[tuple[Any, ...]],
    processes: int,
    environment: Mapping[str, str] = NO_VARIABLES,
) -> Generator[tuple[tuple[Any, ...], Result] | LostTasks[tuple[Any, ...]]]:
    """Yield the results of `function(*task)` for each task, with the task, from the given number of processes.

    function: a function at the top of a module.  environment: environment variables, as in `TaskProcesses`.  If all
    processes end early, the tasks that no process has started are in one more `LostTasks`.
    """
    pending = deque(tasks)
    count = min(processes, len(pending))
    with TaskProcesses[tuple[Any, ...], Result](_start, [(function,)] * count, environment) as group:
        yield from group.results(lambda _: pending.popleft() if pending else None)
    if pending:
        yield LostTasks(count, tuple(pending), "was never started, as all others had ended")


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Context manager that sets environment variables."""
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
    """Execute tasks until the connection ends: send each result in a tuple, and None after the last one of a task."""
    with start(*arguments) as execute:
        while True:
            for result in execute(connection.recv()):
                connection.send((result,))
            connection.send(None)
