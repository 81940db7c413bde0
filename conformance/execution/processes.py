"""A run's rows made in several processes beside this one, which hands out the items and collects the rows.

Each row is sent when it is judged.  A process that dies takes with it only the items it was at: these are told as not
asked, and the others go on.  An exception in a process is raised here.  A process whose run is gone ends itself.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.ending import end_now
from conformance.execution.interruption import ignore_signals
from conformance.execution.running import Isolated, NotAsked, rows_of
from conformance.execution.workers.crew import Crew, Place
from conformance.execution.workers.loop import mount
from conformance.judging.suite import Item, Row, Suite, id_of, load_suite, plan
from conformance.model.case import Case
from conformance.model.errors import UserError, failed_here, received
from conformance.reference.oracle import Oracle, open_cache

CHUNK = 32
"""Items that a process is handed at one time."""

Made = Row | NotAsked
Key = tuple[str, str]
"""Names of the worker and of the item, which several workers may be asked."""


@dataclass(frozen=True)
class Seat:
    """A framework that a process judges.

    environment: what its rows call the place where it is.  place: of the worker that makes its calls; None where
    whoever judges makes them, too.  adapter, file: as a `registry.Origin` has them.  known: what else an
    `Installed` says of it; None where its worker has to say it.
    """

    environment: str
    place: Place | None
    adapter: str
    file: str
    known: dict[str, str] | None = None

    def framework(self) -> Framework:
        """The framework's adapter."""
        module, _, attribute = self.adapter.partition(":")
        top = module.partition(".")[0]
        if self.file and importlib.util.find_spec(top) is None:
            mount(top, self.file)
        found: Framework = getattr(importlib.import_module(module), attribute)
        return found


def seat_here(found: Installed, place: Place | None) -> Seat:
    """The seat of a framework that is installed here.  place: of its worker, if one makes the calls."""
    known = {name: getattr(found, name) for name in ("version", "python", "numpy", "variant")}
    return Seat(found.environment, place, *_origin(found.framework), known)


def seat_there(environment: str, framework: Framework, place: Place) -> Seat:
    """The seat of a framework in an environment made for it."""
    return Seat(environment, place, *_origin(framework))


def _origin(framework: Framework) -> tuple[str, str]:
    origin = registry.origin(framework)
    return origin.adapter, origin.file


@dataclass(frozen=True, eq=False)
class Pile:
    """What is still to be handed out, in chunks."""

    chunks: deque[list[Key]]


def one_pile(items: Sequence[Item]) -> Pile:
    """Small chunks, from which several processes can take, whoever is ready."""
    keys = [_key(item) for item in items]
    return Pile(deque(keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)))


def whole_pile(items: Sequence[Item]) -> Pile:
    """One chunk, so that calls can be made ahead of all that is judged."""
    return Pile(deque([[_key(item) for item in items]]))


def _key(item: Item) -> Key:
    return item.installed.worker, item.id


class Judges:
    """Processes that make rows, each with some frameworks; they are started at once, and end with the context.

    seats: of each process.  folder: of the cases.  timeout: what a call may take in a worker.  loaded: the cases
    and their ledger, where they are not what lies in the folder.
    """

    def __init__(
        self,
        seats: Sequence[Sequence[Seat]],
        folder: Path | None,
        timeout: float,
        loaded: tuple[list[Case], Ledger] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._shares: dict[Connection, _Share] = {}
        for taken in seats:
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, folder, list(taken), timeout, loaded), daemon=True)
            process.start()
            there.close()
            self._shares[here] = _Share(process, list(taken))

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        for share in self._shares.values():
            share.process.kill()

    def there(self) -> list[list[Installed | str]]:
        """What each process has at its seats; for what cannot be had, why."""
        found: list[list[Installed | str]] = []
        for connection, share in self._shares.items():
            try:
                told: list[dict[str, str] | str] = received(connection)
            except (EOFError, OSError):
                told = [share.how()] * len(share.seats)
            found.append(
                [
                    said if isinstance(said, str) else Installed(seat.framework(), environment=seat.environment, **said)
                    for seat, said in zip(share.seats, told, strict=True)
                ]
            )
        return found

    def rows(self, piles: Sequence[Pile]) -> Generator[Made]:
        """The rows of the items on some piles, in the order they are finished; once, after `there`.

        piles: one for each process, which may share them.
        """
        for share, pile in zip(self._shares.values(), piles, strict=True):
            share.pile = pile
        for connection in list(self._shares):
            yield from self._go_on(connection)
        while self._shares:
            for ready in wait(list(self._shares)):
                assert isinstance(ready, Connection)
                yield from self._go_on(ready, heard=True)

    def _go_on(self, connection: Connection, heard: bool = False) -> Iterator[Made]:
        """Take what a process has to say, if it was heard, and hand it the next items once it has no others."""
        share = self._shares[connection]
        try:
            made: Made | None = received(connection) if heard else None
            if made is not None:
                share.out.discard(_key_of(made))
                yield made
            elif not share.pile.chunks:
                connection.send(None)
                del self._shares[connection]
            else:
                share.hand_out(connection)
        except (EOFError, OSError):
            del self._shares[connection]
            yield from share.lost(orphaned=not any(other.pile is share.pile for other in self._shares.values()))


def rows_from_processes(
    seats: Sequence[Sequence[Seat]],
    piles: Sequence[Pile],
    folder: Path | None,
    timeout: float,
    loaded: tuple[list[Case], Ledger] | None = None,
) -> Generator[Made]:
    """The rows of some piles, from `Judges` that need not be asked what is there."""
    with Judges(seats, folder, timeout, loaded) as judges:
        judges.there()
        yield from judges.rows(piles)


@dataclass(eq=False)
class _Share:
    """What a process has to do.  pile: that it takes from.  out: what it was handed, whose rows it still owes."""

    process: BaseProcess
    seats: list[Seat]
    pile: Pile = field(default_factory=lambda: Pile(deque()))
    out: set[Key] = field(default_factory=set)

    def hand_out(self, connection: Connection) -> None:
        keys = self.pile.chunks.popleft()
        self.out.update(keys)
        connection.send(keys)

    def how(self) -> str:
        """How it ended, as a reason."""
        self.process.join()
        status = self.process.exitcode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
        return f"the process that was to judge it {how}"

    def lost(self, orphaned: bool) -> Iterator[NotAsked]:
        """Why its items are not asked, and those on its pile where nobody else takes from it."""
        why = self.how()
        left = [*sorted(self.out), *(itertools.chain(*self.pile.chunks) if orphaned else ())]
        return (NotAsked(worker, name, why) for worker, name in left)


def _key_of(made: Made) -> Key:
    if isinstance(made, NotAsked):
        return made.worker, made.id
    return registry.worker(made["framework"], made["environment"]), id_of(made)


def _work(
    run: Connection,
    folder: Path | None,
    seats: list[Seat],
    timeout: float,
    loaded: tuple[list[Case], Ledger] | None,
) -> None:
    """Say what is at the seats, and make rows until the run has no more to hand out, or is gone."""
    ignore_signals()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _serve(run, folder, seats, timeout, loaded)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            run.send(failed_here(error))
    end_now()


def _serve(
    run: Connection,
    folder: Path | None,
    seats: list[Seat],
    timeout: float,
    loaded: tuple[list[Case], Ledger] | None,
) -> None:
    with contextlib.ExitStack() as stack:
        places = {seat.place.name: seat.place for seat in seats if seat.place is not None}
        crew = stack.enter_context(Crew(places, timeout)) if places else None
        cases, ledger = load_suite(folder) if loaded is None else loaded  # while the workers start
        told = [_facts(seat, crew) for seat in seats]
        run.send(told)
        here = [
            Installed(seat.framework(), environment=seat.environment, **said)
            for seat, said in zip(seats, told, strict=True)
            if not isinstance(said, str)
        ]
        if (cache := open_cache()) is not None:
            stack.callback(cache.close)
        suite = Suite(Oracle(cache), ledger)
        items = {_key(item): item for item in plan(cases, here)}
        while (keys := run.recv()) is not None:
            chosen = [items[key] for key in keys]
            for made in rows_of(chosen, suite, None if crew is None else Isolated(crew, chosen)):
                run.send(made)
            suite.oracle.flush()
            run.send(None)


def _facts(seat: Seat, crew: Crew | None) -> dict[str, Any] | str:
    if seat.known is not None:
        return seat.known
    assert crew is not None
    assert seat.place is not None
    try:
        return asdict(crew.facts(seat.place.name))
    except UserError as error:
        return str(error)
