"""A run's rows made in several processes beside this one, which hands out the items and collects the rows.

A process that dies takes with it only what it had not sent yet: that is told as not asked, and the others
go on.  One whose run is gone ends itself.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from conformance import registry
from conformance.case import Case
from conformance.known import Ledger
from conformance.oracle import Oracle, open_cache
from conformance.running import Isolated, rows_of
from conformance.suite import Item, Row, Suite, id_of, load_suite, plan

CHUNK = 32
"""Items that a process is handed at one time, and rows that it sends back at one time."""


@dataclass(frozen=True, eq=False)
class Pile:
    """What is still to be handed out.  chunks: of ids of items.  frameworks: names of those that they are of."""

    chunks: deque[list[str]]
    frameworks: tuple[str, ...]


def one_pile(items: Sequence[Item]) -> Pile:
    """Small chunks, from which several processes can take, whoever is ready."""
    ids = [item.id for item in items]
    frameworks = dict.fromkeys(item.framework.name for item in items)
    return Pile(deque(ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)), tuple(frameworks))


def piles_by_framework(items: Sequence[Item]) -> list[Pile]:
    """For each framework one pile of one chunk, so that its calls can be made ahead of all that is judged."""
    of: dict[str, list[str]] = {}
    for item in items:
        of.setdefault(item.framework.name, []).append(item.id)
    return [Pile(deque([ids]), (framework,)) for framework, ids in of.items()]


def rows_from_processes(
    piles: Sequence[Pile],
    folder: Path | None,
    timeout: float | None = None,
    loaded: tuple[list[Case], Ledger] | None = None,
) -> Generator[Row | str]:
    """The rows of the items on some piles, in the order they are finished; for one that is not asked, why, as text.

    piles: one for each process, which may share them.  folder: of the cases.  timeout: what a call may take in a
    process of its own; None where those that judge make the calls, too.  loaded: the cases and their ledger, where
    they are not what lies in the folder.
    """
    context = multiprocessing.get_context("spawn")
    shares: dict[Connection, _Share] = {}
    try:
        for pile in piles:
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, folder, pile.frameworks, timeout, loaded), daemon=True)
            process.start()
            there.close()
            shares[here] = _Share(process, pile)
        while shares:
            for connection in wait(list(shares)):
                assert isinstance(connection, Connection)
                share = shares[connection]
                try:
                    made: list[Row | str] | None = connection.recv()
                    if made is not None:
                        share.out.difference_update(map(_id_of, made))
                        yield from made
                    elif not share.pile.chunks:
                        connection.send(None)
                        del shares[connection]
                    else:
                        share.hand_out(connection)
                except (EOFError, OSError):
                    del shares[connection]
                    yield from share.lost(orphaned=not any(other.pile is share.pile for other in shares.values()))
    finally:
        for share in shares.values():
            share.process.kill()


@dataclass
class _Share:
    """What a process has to do.  pile: that it takes from.  out: ids it was handed, whose rows it still owes."""

    process: BaseProcess
    pile: Pile
    out: set[str] = field(default_factory=set)

    def hand_out(self, connection: Connection) -> None:
        ids = self.pile.chunks.popleft()
        self.out.update(ids)
        connection.send(ids)

    def lost(self, orphaned: bool) -> Iterator[str]:
        """Why its items are not asked, and those on its pile where nobody else takes from it."""
        self.process.join()
        status = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        left = [*sorted(self.out), *(itertools.chain(*self.pile.chunks) if orphaned else ())]
        return (f"{name}: the process that was to judge it {how}" for name in left)


def _id_of(made: Row | str) -> str:
    if isinstance(made, str):
        return made.partition(": ")[0]
    return id_of(made)


def _work(
    run: Connection,
    folder: Path | None,
    frameworks: Sequence[str],
    timeout: float | None,
    loaded: tuple[list[Case], Ledger] | None,
) -> None:
    """Make rows until the run has no more to hand out, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to handle
    here = [found for found in registry.installed()[0] if found.framework.name in frameworks]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError))
        crew = None
        if timeout is not None:
            from conformance.places import crew_here  # which most runs do not need

            crew = stack.enter_context(crew_here(here, timeout))
        cases, ledger = load_suite(folder) if loaded is None else loaded
        if (cache := open_cache()) is not None:
            stack.callback(cache.close)
        suite = Suite(Oracle(cache), ledger)
        items = {item.id: item for item in plan(cases, here)}
        made: list[Row | str] = []

        def send() -> None:
            if made:
                run.send(made)
                made.clear()

        run.send(None)
        while (ids := run.recv()) is not None:
            chosen = [items[name] for name in ids]
            # Before it waits for a worker, which may hang, it sends what it has.
            for row in rows_of(chosen, suite, None if crew is None else Isolated(crew, chosen, send)):
                made.append(row)
                if len(made) == CHUNK:
                    send()
            send()
            suite.oracle.flush()
            run.send(None)
