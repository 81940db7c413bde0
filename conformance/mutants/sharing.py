"""Work that several processes share: each takes a part, and tells what it finds as it finds it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from conformance.errors import UserError

T = TypeVar("T")
Work = Callable[..., Iterator[T]]


class ProcessLostError(UserError):
    """A process that shared the work ended before its part was done."""


def shared(work: Work[T], parts: Sequence[tuple[object, ...]]) -> Generator[T]:
    """What `work(*part)` yields for each part, as it comes; in this process where there is one part.

    work: a function at the top of a module; parts and what it yields must be picklable.  Raises what work raises.
    """
    if len(parts) == 1:
        yield from work(*parts[0])
        return
    context = multiprocessing.get_context("spawn")
    processes = {}
    try:
        for part in parts:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(there, work, part), daemon=True)
            process.start()
            there.close()
            processes[here] = process
        while processes:
            for connection in wait(list(processes)):
                assert isinstance(connection, Connection)
                try:
                    found = connection.recv()
                except EOFError:
                    process = processes.pop(connection)
                    process.join()
                    raise ProcessLostError(
                        f"a process of -n {len(parts)} ended with status {process.exitcode} before its part was done; "
                        "run with -n 1 to see why"
                    ) from None
                if isinstance(found, _Done):
                    del processes[connection]
                    if found.error is not None:
                        raise found.error
                else:
                    yield found
    finally:
        for process in processes.values():
            process.kill()


class _Done:
    """The last that a process sends: its part is done, or why it cannot be."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


def _work(run: Connection, work: Work[object], part: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    error = None
    try:
        for found in work(*part):
            run.send(found)
    except BrokenPipeError:
        return  # the run is gone
    except Exception as raised:  # told where it can be shown
        error = raised
    run.send(_Done(error))
