"""A sweep from beginning to end: what there is to ask, unit by unit, here or in processes, and what is kept of it.

A unit is what is asked between two savings of the state.  What is known of a region is the sum over its units in
any order, so a sweep that was interrupted and goes on ends with the same numbers as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from conformance import __version__
from conformance.adapters import registry
from conformance.adapters.contract import THREADS, Function, LoweringError, perform
from conformance.adapters.registry import Installed
from conformance.execution.ending import end_now
from conformance.execution.interruption import ignore_signals
from conformance.explore.sweep.comparer import Performer, Subject, Tallies, sweep_chunk, sweep_outside
from conformance.explore.sweep.counts import Tally, add
from conformance.explore.sweep.inputs import NARROW, UNIT, Patterns, end, few, sample
from conformance.explore.sweep.reference_values import Chunk, Family, chunk_of
from conformance.model.case import DTYPES, GIVEN
from conformance.model.errors import UserError, failed_here, received

CHUNK = {"logits": 1 << 16, "log_probabilities": 1 << 17, "probabilities": 1 << 14}
"""Magnitudes that are asked in one call, with all their signs and labels.

As many as amortise a call; fewer where so much is computed of each that the processor's cache holds no more.
"""
SINGLE = 96
"""Magnitudes that are asked where each is a call of its own."""
SHIFTS = (1.0, -1.0, 16.0, -16.0, 256.0)
"""What is added to both logits of a pair, whose difference alone the loss depends on."""
SAVED = 2.0
"""Seconds between two savings of the state."""
KEPT = 31 << 20
"""Bytes: just below the largest block that glibc's threshold, which follows what is freed, goes up to."""
FORMAT = 1

Advance = Callable[[str, int], None]
"""Told what was asked, and how many inputs."""


class SweepError(UserError):
    """A sweep cannot be made as asked, or not be resumed."""


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    dtypes, given, labels: empty for all.  exhaustive: every float32, too.  pairs: rows that are shifted, too.
    """

    dtypes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    exhaustive: bool = False
    pairs: bool = False


@dataclass(frozen=True, eq=False)
class Job:
    """A subject with how it is asked."""

    subject: Subject
    exhaustive: bool = False

    @property
    def key(self) -> str:
        return self.subject.key

    @property
    def spread(self) -> bool:
        """Whether it is asked unit by unit over all patterns, and not at once."""
        return self.exhaustive and self.subject.family.dtype not in NARROW and not self.subject.one_by_one

    @property
    def units(self) -> int:
        family = self.subject.family
        return -(-end(family.given, family.dtype, family.shift) // UNIT) if self.spread else 1

    def patterns(self, unit: int) -> Iterator[Patterns]:
        family = self.subject.family
        if self.spread:
            last = min((unit + 1) * UNIT, end(family.given, family.dtype, family.shift))
            step = CHUNK[family.given]
            for start in range(unit * UNIT, last, step):
                yield np.arange(start, min(start + step, last), dtype=np.uint32)
        elif self.subject.one_by_one:
            yield few(family.given, family.dtype, SINGLE)
        else:
            whole = sample(family.given, family.dtype, family.shift)
            step = len(whole) if family.dtype in NARROW else CHUNK[family.given]
            for start in range(0, len(whole), step):
                yield whole[start : start + step]

    def inputs(self, unit: int) -> int:
        """How many inputs a unit asks, those outside the bands left out."""
        variants = len(self.subject.family.signs) * len(self.subject.labels)
        if not self.spread:
            return variants * sum(map(len, self.patterns(unit)))
        family = self.subject.family
        return variants * (min((unit + 1) * UNIT, end(family.given, family.dtype, family.shift)) - unit * UNIT)

    def tallies(self, unit: int, performer: Performer = perform) -> Tallies:
        """Ask a unit; the first asks what lies outside the bands, too."""
        found: Tallies = sweep_outside(self.subject, performer) if unit == 0 and not self.subject.family.shift else {}
        asking = performer
        for patterns in self.patterns(unit):
            chunk = Chunk(self.subject.family, patterns) if self.spread else chunk_of(self.subject.family, patterns)
            _add(found, sweep_chunk(self.subject, chunk, asking))
            asking = partial(performer, copied=False)  # what changes its arguments in place has done so by now
        return found


def plan(here: Sequence[Installed], wanted: Callable[[str], bool], wish: Wish) -> tuple[list[Job], list[str]]:
    """(what there is to ask of the functions that are wanted, why of some there is nothing)."""
    jobs: list[Job] = []
    left_out: list[str] = []
    for installed in here:
        for function in installed.functions:
            if not wanted(function.name):
                continue
            if not function.reductions & {"none", "sum"}:
                left_out.append(f"{function.name}: it only averages, so an input has no loss of its own")
                continue
            families = list(_families(function, wish))
            subjects = [
                Subject(installed, function.name, family, labels)
                for family in families
                if (labels := tuple(label for label in family.labels if not wish.labels or label in wish.labels))
            ]
            if not subjects:
                left_out.append(f"{function.name}: it takes nothing of what is asked for")
            jobs += [Job(subject, wish.exhaustive) for subject in subjects]
    return jobs, left_out


def _families(function: Function, wish: Wish) -> Iterator[Family]:
    dtypes = [d for d in DTYPES if d in function.dtypes and (not wish.dtypes or d in wish.dtypes)]
    if wish.exhaustive and "float64" in dtypes:
        dtypes.remove("float64")
    given = [kind for kind in GIVEN if kind in function.takes and (not wish.given or kind in wish.given)]
    pairs = [
        (loss, target)
        for loss in function.ranks
        for target in (("binary",) if loss == "binary" else ("index", "one_hot"))
        if target in function.targets
    ]
    for loss, target in pairs:
        for kind in given:
            shifts = SHIFTS if wish.pairs and loss == "categorical" and kind == "logits" else ()
            for dtype in dtypes:
                yield from (Family(loss, kind, target, dtype, shift) for shift in (0.0, *shifts))


def _add(whole: Tallies, part: Tallies) -> None:
    for name, tally in part.items():
        add(whole, name, tally)


@dataclass
class State:
    """What is done.  path: where it is kept, None for nowhere.  of: what the sweep is about, as builtin values."""

    path: Path | None
    of: dict[str, Any]
    done: dict[str, set[int]] = field(default_factory=dict)
    tallies: dict[str, Tallies] = field(default_factory=dict)
    _saved: float = 0.0

    def add(self, key: str, unit: int, tallies: Tallies) -> None:
        """Keep what a unit found."""
        self.done.setdefault(key, set()).add(unit)
        _add(self.tallies.setdefault(key, {}), tallies)
        if time.monotonic() - self._saved > SAVED:
            self.save()

    def save(self) -> None:
        """Write the state so that its file is the old one or the new one, whenever the process dies."""
        if self.path is None:
            return
        found = {key: {name: tally.record() for name, tally in of.items()} for key, of in self.tallies.items()}
        done = {key: sorted(units) for key, units in self.done.items()}
        text = json.dumps({"format": FORMAT, "of": self.of, "done": done, "tallies": found})
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise SweepError(f"--state {self.path}: cannot be written ({error.strerror}); name another file") from error
        self._saved = time.monotonic()


def state_of(path: Path | None, jobs: Sequence[Job]) -> State:
    """The state to go on from: that of the file, where there is one and it is about these jobs."""
    of = {
        "conformance": __version__,
        "numpy": np.__version__,
        "jobs": {
            job.key: [job.subject.installed.version, job.subject.installed.variant, *job.subject.labels, job.spread]
            for job in jobs
        },
    }
    fresh = State(path, of)
    if path is None or not path.exists():
        fresh.save()
        return fresh
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != FORMAT:
            raise ValueError(f"format {kept['format']}")
        tallies = {k: {name: Tally.of(one) for name, one in found.items()} for k, found in kept["tallies"].items()}
        done = {key: set(units) for key, units in kept["done"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SweepError(f"--state {path}: is no state of a sweep ({error}); name another file") from error
    if kept["of"] != of:
        raise SweepError(
            f"--state {path}: is of another sweep, or of other versions; ask the same, or name another file"
        )
    return State(path, of, done, tallies)


def sweep(jobs: Sequence[Job], state: State, processes: int = 1, advance: Advance = lambda _, n: None) -> list[str]:
    """Ask what the state says is not done yet; returns why some could not be asked.

    Interrupted, whatever was finished is in the state, and on its disk.  processes: 1 asks in this one.
    """
    todo = deque((job, unit) for job in jobs for unit in range(job.units) if unit not in state.done.get(job.key, set()))
    for job in jobs:
        done = sum(job.inputs(unit) for unit in state.done.get(job.key, ()))
        advance(job.key, done)
    failures: list[str] = []
    try:
        made = _here(todo) if processes == 1 else beside(todo, processes)
        with contextlib.closing(made):
            for job, unit, found in made:
                if isinstance(found, str):
                    failures.append(f"{job.key}: {found}")
                else:
                    state.add(job.key, unit, found)
                advance(job.key, job.inputs(unit))
    finally:
        state.save()
    return failures


Made = Generator[tuple[Job, int, Tallies | str], None, None]


def keep_memory() -> None:
    """Have the C library keep in this process what is freed, where it else goes back to the system again and again.

    glibc keeps blocks up to the largest that was ever freed; this one is as large as it counts, and nothing is in it.
    Pages that are asked for anew with every chunk take longer than the arithmetic on them.
    """
    np.empty(KEPT, dtype=np.uint8)


def _here(todo: deque[tuple[Job, int]]) -> Made:
    keep_memory()
    while todo:
        job, unit = todo.popleft()
        yield job, unit, _asked(job, unit)


def _asked(job: Job, unit: int) -> Tallies | str:
    try:
        return job.tallies(unit)
    except LoweringError as error:
        return str(error)


def beside(todo: deque[tuple[Job, int]], processes: int) -> Made:
    """Units asked by several processes, each handed one after another; one that dies is told of its unit."""
    context = multiprocessing.get_context("spawn")
    out: dict[Connection, tuple[BaseProcess, tuple[Job, int] | None]] = {}
    threads = {name: os.environ.get(name) for name in THREADS}
    try:
        os.environ.update(dict.fromkeys(THREADS, "1"))  # each process has a core, and no more than one thread on it
        for _ in range(min(processes, len(todo))):
            here, there = context.Pipe()
            started = context.Process(target=_work, args=(there,), daemon=True)
            started.start()
            there.close()
            out[here] = (started, None)
        while out:
            for connection in wait(list(out)):
                assert isinstance(connection, Connection)
                process, asked = out[connection]
                try:
                    found = received(connection)
                    if asked is not None:
                        yield *asked, found
                    if not todo:
                        connection.send(None)
                        del out[connection]
                        process.join()
                        continue
                    job, unit = todo.popleft()
                    out[connection] = (process, (job, unit))
                    subject = job.subject
                    connection.send((subject.name, subject.family, subject.labels, job.exhaustive, unit))
                except (EOFError, OSError):
                    del out[connection]
                    process.join()
                    if asked is not None:
                        yield *asked, f"the process that asked it died with status {process.exitcode}"
    finally:
        for name, value in threads.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for process, _ in out.values():
            process.kill()


def _work(run: Connection) -> None:
    """Ask units until there are none left, or the sweep is gone."""
    ignore_signals()
    keep_memory()
    here = registry.installed()[0]
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        run.send(None)
        while (asked := run.recv()) is not None:
            name, family, labels, exhaustive, unit = asked
            installed = next(found for found in here if any(f.name == name for f in found.functions))
            try:
                found = _asked(Job(Subject(installed, name, family, labels), exhaustive), unit)
            except Exception as error:
                run.send(failed_here(error))
                break
            run.send(found)
    end_now()


__all__ = ["Advance", "Job", "State", "SweepError", "Wish", "plan", "state_of", "sweep"]
