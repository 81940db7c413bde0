"""Run a sweep: plan its units, execute them in this process or in several, and save its state.

A unit is the work between two saves of the state. Statistics of a region are sums over units in any order, so that an
interrupted and resumed sweep has the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conformance import __version__
from conformance.adapters import registry
from conformance.adapters.contract import Function, LoweringError
from conformance.adapters.contract.calling import THREADS, perform
from conformance.adapters.registry import Installed
from conformance.execution.distribution import LostTasks, distribute
from conformance.explore import state_file
from conformance.explore.state_file import StateError
from conformance.explore.sweep.comparer import Performer, Regions, Subject, sweep_chunk, sweep_outside
from conformance.explore.sweep.counts import RegionCounts, add_counts
from conformance.explore.sweep.inputs import (
    NARROW_DTYPES,
    UNIT_SIZE,
    Patterns,
    end_pattern,
    sampled_patterns,
    sparse_patterns,
)
from conformance.explore.sweep.reference_values import Chunk, ProblemFamily, chunk_of
from conformance.judging.choice import check_choice
from conformance.judging.selection import SelectionError
from conformance.model.case import DTYPES, INPUT_KINDS

CHUNK_SIZE = {"logits": 1 << 16, "log_probabilities": 1 << 17, "probabilities": 1 << 14}
"""Magnitudes per call, each with all signs and labels.

Enough to amortise a call, but fewer for kinds of input that need so much memory each that the cache would overflow.
"""
MAX_SINGLE_CALLS = 96
"""Number of magnitudes for a function that needs a call for each input."""
SHIFTS = (1.0, -1.0, 16.0, -16.0, 256.0)
"""Constants added to both logits of a row, whose difference alone determines the loss."""
SAVE_SECONDS = 2.0
"""Seconds between two saves of the state."""
KEPT_BYTES = 31 << 20
"""Just below the limit up to which glibc adapts its mmap threshold."""
FORMAT = 1

ProgressCallback = Callable[[str, int], None]
"""Called with the key of a job and the number of processed inputs."""


@dataclass(frozen=True)
class SweepRequest:
    """Parameters of a sweep; an empty tuple means all."""

    dtypes: tuple[str, ...] = ()
    input_kinds: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    exhaustive: bool = False
    """Use all values of float32."""
    pairs: bool = False
    """Whether to use shifted rows, too."""

    def validate(self) -> None:
        """Raise SelectionError if a value does not exist, or values contradict each other."""
        for name in self.dtypes:
            check_choice("--dtype", name, DTYPES)
        for name in self.input_kinds:
            check_choice("--given", name, INPUT_KINDS)
        if self.exhaustive and self.dtypes == ("float64",):
            raise SelectionError(
                "--exhaustive --dtype float64: it has 2^64 values; leave --exhaustive out for a sample"
            )


@dataclass(frozen=True, eq=False)
class Job:
    """A subject, and whether it is swept exhaustively."""

    subject: Subject
    exhaustive: bool = False

    @property
    def key(self) -> str:
        return self.subject.key

    @property
    def by_unit(self) -> bool:
        """Whether it is swept over all patterns in several units."""
        return self.exhaustive and self.subject.family.dtype not in NARROW_DTYPES and not self.subject.always_reduces

    @property
    def units(self) -> int:
        return -(-self._end // UNIT_SIZE) if self.by_unit else 1

    @property
    def _end(self) -> int:
        family = self.subject.family
        return end_pattern(family.input_kind, family.dtype, family.shift)

    def patterns(self, unit: int) -> Iterator[Patterns]:
        """Yield the bit patterns of a unit, chunk by chunk."""
        family = self.subject.family
        if self.by_unit:
            last = min((unit + 1) * UNIT_SIZE, self._end)
            step = CHUNK_SIZE[family.input_kind]
            for start in range(unit * UNIT_SIZE, last, step):
                yield np.arange(start, min(start + step, last), dtype=np.uint32)
        elif self.subject.always_reduces:
            yield sparse_patterns(family.input_kind, family.dtype, MAX_SINGLE_CALLS)
        else:
            sample = sampled_patterns(family.input_kind, family.dtype, family.shift)
            step = len(sample) if family.dtype in NARROW_DTYPES else CHUNK_SIZE[family.input_kind]
            for start in range(0, len(sample), step):
                yield sample[start : start + step]

    def inputs(self, unit: int) -> int:
        """Number of inputs of a unit, without those outside the bands."""
        first = unit * UNIT_SIZE
        magnitudes = min(first + UNIT_SIZE, self._end) - first if self.by_unit else sum(map(len, self.patterns(unit)))
        return len(self.subject.family.signs) * len(self.subject.labels) * magnitudes

    def run_unit(self, unit: int, performer: Performer = perform) -> Regions:
        """Execute a unit; the first includes the values outside the bands."""
        regions: Regions = sweep_outside(self.subject, performer) if unit == 0 and not self.subject.family.shift else {}
        caller = performer
        for patterns in self.patterns(unit):
            chunk = Chunk(self.subject.family, patterns) if self.by_unit else chunk_of(self.subject.family, patterns)
            _merge(regions, sweep_chunk(self.subject, chunk, caller))
            # Copies reveal a function that modifies its arguments, and it does so in its first call, too. For a fast
            # loss, two copies and their comparison would cost as much as the call.
            caller = partial(performer, copied=False)
        return regions


def plan(
    available: Sequence[Installed],
    selects: Callable[[str], bool],
    request: SweepRequest,
    include_averaging: bool = False,
) -> tuple[list[Job], list[str]]:
    """Return (jobs for the functions that `selects` accepts, why others are skipped).

    include_averaging: whether to include functions that only average, with one input per call.
    """
    jobs: list[Job] = []
    skipped: list[str] = []
    for installed in available:
        for function in installed.functions:
            if not selects(function.name):
                continue
            if not function.has_independent_losses:
                skipped.append(
                    f"{function.name}: what it returns is not a loss of each prediction beside its own label"
                )
                continue
            if function.has_head:
                skipped.append(f"{function.name}: it makes the logits itself, of finite products")
                continue
            if function.default_files:
                skipped.append(f"{function.name}: it shares all but a part of its computation with another function")
                continue
            if not include_averaging and not function.reductions.keys() & {"none", "sum"}:
                skipped.append(f"{function.name}: it only averages, so an input has no loss of its own")
                continue
            families = list(_families(function, request))
            subjects = [
                Subject(installed, function.name, family, labels)
                for family in families
                if (labels := tuple(label for label in family.labels if not request.labels or label in request.labels))
            ]
            if not subjects:
                skipped.append(f"{function.name}: it takes nothing of what is requested")
            jobs += [Job(subject, request.exhaustive) for subject in subjects]
    return jobs, skipped


def _families(function: Function, request: SweepRequest) -> Iterator[ProblemFamily]:
    dtypes = [d for d in DTYPES if d in function.dtypes and (not request.dtypes or d in request.dtypes)]
    if request.exhaustive and "float64" in dtypes:
        dtypes.remove("float64")
    requested = request.input_kinds or INPUT_KINDS
    kinds = [kind for kind in INPUT_KINDS if kind in function.input_kinds and kind in requested]
    pairs = [
        (loss, target)
        for loss in function.ranks
        for target in (("binary",) if loss == "binary" else ("index", "one_hot"))
        if target in function.targets
    ]
    for loss, target in pairs:
        for kind in kinds:
            shifts = SHIFTS if request.pairs and loss == "categorical" and kind == "logits" else ()
            for dtype in dtypes:
                yield from (ProblemFamily(loss, kind, target, dtype, shift) for shift in (0.0, *shifts))


def _merge(total: Regions, part: Regions) -> None:
    for name, counts in part.items():
        add_counts(total, name, counts)


@dataclass
class State:
    """The completed part of a sweep."""

    path: Path | None
    """File in which it is saved; None if it is not saved."""
    description: dict[str, Any]
    """Description of the sweep, as builtin values."""
    done: dict[str, set[int]] = field(default_factory=dict)
    """Completed units by job."""
    regions: dict[str, Regions] = field(default_factory=dict)
    """Statistics by job and region."""
    _saved: float = 0.0

    def add(self, key: str, unit: int, regions: Regions) -> None:
        """Add the statistics of a unit."""
        self.done.setdefault(key, set()).add(unit)
        _merge(self.regions.setdefault(key, {}), regions)
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Replace the state file. Raises StateError."""
        if self.path is None:
            return
        records = {
            key: {name: tally.as_record() for name, tally in regions.items()} for key, regions in self.regions.items()
        }
        done = {key: sorted(units) for key, units in self.done.items()}
        state_file.write(self.path, {"format": FORMAT, "of": self.description, "done": done, "tallies": records})
        self._saved = time.monotonic()


def load_state(path: Path | None, jobs: Sequence[Job]) -> State:
    """The state to resume: that of the file, if there is one and it belongs to these jobs; otherwise a new one.

    Raises StateError.
    """
    description = {
        "conformance": __version__,
        "numpy": np.__version__,
        "jobs": {
            job.key: [job.subject.installed.version, job.subject.installed.backend, *job.subject.labels, job.by_unit]
            for job in jobs
        },
    }

    def parse(content: dict[str, Any]) -> State:
        regions = {
            key: {name: RegionCounts.from_record(record) for name, record in records.items()}
            for key, records in content["tallies"].items()
        }
        return State(path, content["of"], {key: set(units) for key, units in content["done"].items()}, regions)

    state = None if path is None else state_file.read(path, FORMAT, "a sweep", parse)
    if path is None or state is None:
        state = State(path, description)
        state.save()
    elif state.description != description:
        raise StateError(path, "is of another sweep, or of other versions", "sweep the same, or name another file")
    return state


def sweep(
    jobs: Sequence[Job],
    state: State,
    processes: int = 1,
    advance: ProgressCallback = lambda _, n: None,
    performer: Performer = perform,
) -> list[str]:
    """Execute the unfinished units; return messages about failed ones.

    After an interruption the state file has all completed units. With `processes` 1 it runs in this process, where
    `performer` makes the calls.
    """
    pending = [(job, unit) for job in jobs for unit in range(job.units) if unit not in state.done.get(job.key, set())]
    for job in jobs:
        finished = sum(job.inputs(unit) for unit in state.done.get(job.key, ()))
        advance(job.key, finished)
    failures: list[str] = []
    try:
        results = _in_process(pending, performer) if processes == 1 else in_processes(pending, processes)
        with contextlib.closing(results):
            for job, unit, result in results:
                if isinstance(result, str):
                    failures.append(f"{job.key}: {result}")
                else:
                    state.add(job.key, unit, result)
                advance(job.key, job.inputs(unit))
    finally:
        state.save()
    return failures


Results = Generator[tuple[Job, int, Regions | str], None, None]


def keep_memory() -> None:
    """Make the C allocator keep freed memory in this process instead of returning it to the system.

    glibc returns large arrays to the system and requests them again for each chunk, until it has freed a larger
    block. Page faults can then take longer than the arithmetic. The block allocated here is freed without being
    touched.
    """
    np.empty(KEPT_BYTES, dtype=np.uint8)


def _in_process(pending: Iterable[tuple[Job, int]], performer: Performer) -> Results:
    keep_memory()
    for job, unit in pending:
        yield job, unit, _run_unit(job, unit, performer)


def _run_unit(job: Job, unit: int, performer: Performer = perform) -> Regions | str:
    try:
        return job.run_unit(unit, performer)
    except LoweringError as error:
        return str(error)


def in_processes(pending: Iterable[tuple[Job, int]], processes: int) -> Results:
    """Execute units in several processes with one thread each, one unit at a time: one process per core.

    A process that dies is reported as the failure of its unit.
    """
    units = {_arguments(job, unit): (job, unit) for job, unit in pending}
    one_thread = dict.fromkeys(THREADS, "1")
    with contextlib.closing(distribute(_run_named_unit, units, processes, one_thread)) as results:
        for result in results:
            if isinstance(result, LostTasks):
                for task in result.tasks:
                    yield *units[task], f"the process that executed it {result.reason}"
            else:
                task, regions = result
                yield *units[task], regions


def _arguments(job: Job, unit: int) -> tuple[Any, ...]:
    """The arguments of `_run_named_unit`, which are picklable."""
    return job.subject.name, job.subject.family, job.subject.labels, job.exhaustive, unit


def _run_named_unit(
    name: str, family: ProblemFamily, labels: tuple[int, ...], exhaustive: bool, unit: int
) -> Iterator[Regions | str]:
    keep_memory()
    available = registry.installed(registry.frameworks())[0]
    installed = next(candidate for candidate in available if any(f.name == name for f in candidate.functions))
    yield _run_unit(Job(Subject(installed, name, family, labels), exhaustive), unit)
