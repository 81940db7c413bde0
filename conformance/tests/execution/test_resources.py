"""How many processes share a run: processors, memory and the limits of a container."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from types import SimpleNamespace

import pytest

from conformance.execution import executor, resources
from conformance.execution.judging_processes import MIN_SHARED_ITEMS, JudgingProcesses, first_workers
from conformance.execution.workers.pool import DEFAULT_TIMEOUTS
from conformance.judging.case_set import CaseSet

GIB = 1 << 30


@pytest.fixture
def container(tmp_path, monkeypatch):
    """A folder that stands for the limits of this process's container."""
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 2), ("max 100000", 16), ("1000 100000", 1)])
def test_core_count_respects_container_limit(container, limit, cores):
    (container / "cpu.max").write_text(f"{limit}\n")
    assert resources.available_cores() == cores


def test_available_memory_respects_container_limit(container):
    (container / "memory.max").write_text("900000\n")
    (container / "memory.current").write_text("800000\n")
    assert resources.available_memory() == 100000
    (container / "memory.max").write_text("max\n")
    assert resources.available_memory() != 100000


@pytest.mark.parametrize(
    ("memory", "expected", "count"),
    [(2 * GIB, 8, 1), (7 * GIB, 8, 4), (GIB // 2, 8, 1), (100 * GIB, 3, 3), (None, 8, 4), (100 * GIB, 99, 16)],
)
def test_process_count_respects_memory(container, monkeypatch, memory, expected, count):
    monkeypatch.setattr(resources, "available_memory", lambda: memory)
    assert resources.process_count(expected) == count


def test_framework_with_most_items_gets_several_workers():
    counts = {"keras": 13000, "torch": 8000, "sklearn": 1000}
    assert sorted(first_workers(counts, 2)) == [["keras"], ["torch"]]
    assert Counter(name for (name,) in first_workers(counts, 5)) == {"keras": 3, "torch": 2}


def judging(workers, running):
    """Judging processes that were started with one worker each; running: numbers of those that have not ended."""
    processes = JudgingProcesses([], [], DEFAULT_TIMEOUTS)
    processes._processes = SimpleNamespace(running=running)
    processes._first = [[name] for name in workers]
    processes._current = workers
    return processes


def test_process_takes_unassigned_framework_before_it_shares_one():
    processes = judging(["keras", "torch"], running=[0, 1])
    processes._queues = {"keras": deque(range(MIN_SHARED_ITEMS)), "torch": deque(), "sklearn": deque(range(5))}
    assert [processes._next_worker(number) for number in (0, 1)] == ["keras", "sklearn"]
    processes._queues["sklearn"].clear()
    assert processes._next_worker(1) == "keras"
    processes._queues["keras"].pop()
    assert processes._next_worker(1) == "torch"  # of which nothing remains


@pytest.mark.parametrize("running", [[1, 2], [2]])
def test_process_takes_framework_of_dead_process(running):
    processes = judging(["keras", "torch", "sklearn"], running)
    processes._queues = {"keras": deque(range(5))}
    assert processes._next_worker(2) == "keras"


@pytest.mark.parametrize("whole", [False, True])
def test_processes_start_before_the_cases_are_loaded_if_all_are_executed(monkeypatch, whole):
    started = []

    class Recorded(contextlib.nullcontext):
        def __init__(self, _assignments, first, _timeouts):
            super().__init__(self)
            started.append(first)

        def rows(self, _cases, items):
            yield from items

    monkeypatch.setattr(executor, "JudgingProcesses", Recorded)
    monkeypatch.setattr(executor, "local_assignments", list)
    available = [SimpleNamespace(worker=name, functions=range(2)) for name in ("keras", "torch")]
    items = [SimpleNamespace(installed=one) for one in available]
    with contextlib.ExitStack() as stack:
        local = executor.local(stack, available, 2, DEFAULT_TIMEOUTS, is_complete=whole)
        assert len(started) == whole
        assert list(local.rows(CaseSet([], None), items)) == items
    assert started == [[["keras"], ["torch"]]]
