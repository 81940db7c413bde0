"""Distributes work over several processes, each of which reports results as it finds them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from conformance.execution.child import ChildProcess, wait_for
from conformance.model.errors import UserError

T = TypeVar("T")
Work = Callable[..., Iterator[T]]


class ProcessLostError(UserError):
    """A process that shared the work ended before its part was done."""


def run_in_processes(work: Work[T], parts: Sequence[tuple[object, ...]]) -> Generator[T]:
    """What `work(*part)` yields for each part, as it comes; in this process where there is one part.

    work: a function at the top of a module; parts and what it yields, which is never None, must be picklable.  Raises
    what `received` raises.
    """
    if len(parts) == 1:
        yield from work(*parts[0])
        return
    processes = []
    try:
        processes += [ChildProcess(_serve, work, part) for part in parts]
        running = list(processes)
        while running:
            for process in wait_for(running):
                try:
                    found = process.receive()
                except EOFError:
                    raise ProcessLostError(
                        f"a process of -n {len(parts)} {process.exit_reason} before its part was done; "
                        "run with -n 1 to see why"
                    ) from None
                if found is None:
                    running.remove(process)
                else:
                    yield found
    finally:
        for process in processes:
            process.kill()


def _serve(run: Connection, work: Work[object], part: tuple[object, ...]) -> None:
    for found in work(*part):
        run.send(found)
    run.send(None)
