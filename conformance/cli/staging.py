"""Where the calls of a run are made, and where its rows: here, in processes, in environments, on a cluster."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.cli.shared import installed_among
from conformance.execution.places import failed_row, found_in, meant_by, place, places_of
from conformance.execution.processes import (
    Judges,
    Made,
    one_pile,
    rows_from_processes,
    seat_here,
    seat_there,
    whole_pile,
)
from conformance.execution.running import Isolated, rows_of
from conformance.judging.suite import Item, Row, Suite
from conformance.model.case import Case
from conformance.reference.oracle import Oracle, open_cache

Told = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Corpus:
    """The cases of a run.  folder: that they lie in, None for the shipped ones.  harvested: whether others came in."""

    folder: Path | None
    cases: list[Case]
    ledger: Ledger
    harvested: bool = False

    @property
    def sent(self) -> tuple[list[Case], Ledger] | None:
        """What a process has to be told that does not find it in the folder."""
        return (self.cases, self.ledger) if self.harvested else None


@dataclass(frozen=True, eq=False)
class Stage:
    """What can be asked, and what makes the rows of the items that are.

    failed: a row for each environment that cannot be had.  missing: names of frameworks that are not installed.
    """

    there: list[Installed]
    rows: Callable[[list[Item]], Generator[Made]]
    failed: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def here(corpus: Corpus, names: list[str], processes: int, isolate: bool, timeout: float) -> Stage:
    """What is installed here.  processes: that share the work.  isolate: whether calls are made in workers."""
    there, missing = installed_among(names)

    def rows(items: list[Item]) -> Generator[Made]:
        if processes == 1 and not isolate:
            return _judged(corpus, items, None)
        python = Path(sys.executable)
        asked = {item.installed.worker: item.installed for item in items}
        seats = {
            name: seat_here(found, place(name, found.framework, python) if isolate else None)
            for name, found in asked.items()
        }
        if processes > 1:
            shared = [list(seats.values())] * processes
            return rows_from_processes(shared, [one_pile(items)] * processes, corpus.folder, timeout, corpus.sent)
        piles = [whole_pile([item for item in items if item.installed.worker == name]) for name in seats]
        return rows_from_processes([[seat] for seat in seats.values()], piles, corpus.folder, timeout, corpus.sent)

    return Stage(there, rows, missing=missing)


def in_environments(
    stack: contextlib.ExitStack, corpus: Corpus, texts: Sequence[str], names: list[str], timeout: float, told: Told
) -> Stage:
    """What is in environments, made at need; as many processes as there are cores judge them."""
    meant, failed = meant_by(texts, told, names)
    count = max(1, min(len(meant), os.cpu_count() or 1))
    shares = [meant[start::count] for start in range(count)]
    seats = [[seat_there(one.environment, one.framework, one.place) for one in share] for share in shares]
    told("importing what is to be asked ...")
    judges = stack.enter_context(Judges(seats, corpus.folder, timeout, corpus.sent))
    there: list[Installed] = []
    of: list[set[str]] = []
    for share, found in zip(shares, judges.there(), strict=True):
        of.append({one.worker for one in found if isinstance(one, Installed)})
        for one, had in zip(share, found, strict=True):
            if isinstance(had, Installed):
                there.append(had)
            else:
                failed.append(failed_row(one.environment, one.framework.name, had))

    def rows(items: list[Item]) -> Generator[Made]:
        return judges.rows([whole_pile([item for item in items if item.installed.worker in mine]) for mine in of])

    order = [one.place.name for one in meant]
    return Stage(found_in(sorted(there, key=lambda one: order.index(one.worker)), failed), rows, failed)


def on_ray(
    address: str,
    stack: contextlib.ExitStack,
    corpus: Corpus,
    texts: Sequence[str],
    names: list[str],
    timeout: float,
    told: Told,
) -> Stage:
    """What is in environments that Ray makes.  address: of its cluster, as `places_of` takes it."""
    places = places_of(texts, told, names, timeout, address)
    assert places.crew is not None
    crew = stack.enter_context(places.crew)
    return Stage(places.there, lambda items: _judged(corpus, items, Isolated(crew, items)), places.failed)


def _judged(corpus: Corpus, items: list[Item], isolated: Isolated | None) -> Generator[Made]:
    with contextlib.ExitStack() as stack:
        if (cache := open_cache()) is not None:
            stack.callback(cache.close)
        yield from rows_of(items, Suite(Oracle(cache), corpus.ledger), isolated)
