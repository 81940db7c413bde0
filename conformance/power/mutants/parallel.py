"""Distributes work over several processes, each of which reports results as it finds them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from conformance.execution.interruption import ignore_signals
from conformance.model.errors import UserError, failed_here, received

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
    context = multiprocessing.get_context("spawn")
    processes = {}
    try:
        for part in parts:
            parent_end, child_end = context.Pipe(duplex=False)
            process = context.Process(target=_worker_main, args=(child_end, work, part), daemon=True)
            process.start()
            child_end.close()
            processes[parent_end] = process
        while processes:
            for connection in wait(list(processes)):
                assert isinstance(connection, Connection)
                try:
                    found = received(connection)
                except EOFError:
                    process = processes.pop(connection)
                    process.join()
                    raise ProcessLostError(
                        f"a process of -n {len(parts)} ended with status {process.exitcode} before its part was done; "
                        "run with -n 1 to see why"
                    ) from None
                if found is None:
                    del processes[connection]
                else:
                    yield found
    finally:
        for process in processes.values():
            process.kill()


def _worker_main(run: Connection, work: Work[object], part: tuple[object, ...]) -> None:
    ignore_signals()
    try:
        for found in work(*part):
            run.send(found)
    except BrokenPipeError:
        return  # the run is gone
    except Exception as error:
        run.send(failed_here(error))
    else:
        run.send(None)
