"""Tasks that are distributed over processes: every result arrives, and a process that dies loses only what it had."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from conformance.execution import distribution
from conformance.execution.distribution import LostTasks, TaskProcesses, distribute
from conformance.model.errors import ProcessFailedError, UserError


def count(start, stop):
    yield from range(start, stop)


def reject(start, stop):
    yield start
    raise UserError(f"{start} is wrong")


def fail(start, stop):
    yield start
    raise ZeroDivisionError


def end_at_three(number):
    yield number
    if number == 3:
        os._exit(3)


@contextlib.contextmanager
def add_to(offset):
    yield lambda task: [offset + task]


@contextlib.contextmanager
def halve_until(last):
    def execute(task):
        yield task / 2
        if task == last:
            os._exit(3)

    yield execute


def test_distribute_yields_every_result_with_its_task():
    found = list(distribute(count, [(0, 5), (5, 9), (9, 9)], 2))
    assert sorted(result for _, result in found) == list(range(9))
    assert all(start <= result < stop for (start, stop), result in found)
    assert list(distribute(count, [], 2)) == []


@pytest.mark.parametrize(("work", "error"), [(reject, UserError), (fail, ProcessFailedError)])
def test_distribute_raises_exception_of_task(work, error):
    with pytest.raises(error):
        list(distribute(work, [(1, 2), (3, 4)], 2))


def test_distribute_reports_tasks_of_dead_process_and_continues():
    found = list(distribute(end_at_three, [(number,) for number in range(6)], 2))
    (lost,) = [one for one in found if isinstance(one, LostTasks)]
    assert (lost.tasks, lost.reason) == (((3,),), "exited with status 3")
    assert sorted(one[1] for one in found if not isinstance(one, LostTasks)) == list(range(6))


def test_distribute_reports_tasks_without_remaining_process():
    *_, died, rest = list(distribute(end_at_three, [(3,), (4,), (5,)], 1))
    assert (died.tasks, rest.tasks) == (((3,),), ((4,), (5,)))


def test_process_without_tasks_waits_for_those_of_dead_process():
    with TaskProcesses(halve_until, [(4,), (None,)]) as processes:
        tasks = [[8, 6, 4, 2], []]
        results, lost = [], []
        for found in processes.results(lambda number: tasks[number].pop() if tasks[number] else None, ahead=2):
            if isinstance(found, LostTasks):
                lost += found.tasks
                tasks[1] += [*tasks[0], *found.tasks[1:]]
            else:
                results.append(found)
    assert lost == [4, 6]
    assert sorted(results) == [(2, 1), (4, 2), (6, 3), (8, 4)]


def test_processes_have_their_own_state_and_several_rounds():
    with TaskProcesses(add_to, [(10,), (20,)]) as processes:
        for _ in range(2):
            tasks = [[1, 2], [3]]
            found = processes.results(lambda number, tasks=tasks: tasks[number].pop() if tasks[number] else None)
            assert sorted(found) == [(1, 11), (2, 12), (3, 23)]


def test_process_killed_between_rounds_loses_nothing_and_gets_nothing():
    with TaskProcesses(add_to, [(10,), (20,)]) as processes:
        first = iter([1, 2])
        assert len(list(processes.results(lambda _: next(first, None)))) == 2
        os.kill(processes._started[0]._process.pid, signal.SIGKILL)
        processes._started[0]._process.join()
        rest = [1, 2, 3]
        found = list(processes.results(lambda _: rest.pop() if rest else None, ahead=2))
        assert list(processes.running) == [1]
    lost = [task for one in found if isinstance(one, LostTasks) for task in one.tasks]
    assert sorted([*lost, *(one[0] for one in found if not isinstance(one, LostTasks))]) == [1, 2, 3]
    assert all(result == 20 + task for task, result in (one for one in found if not isinstance(one, LostTasks)))


def test_processes_end_with_their_context():
    with TaskProcesses(add_to, [(10,), (20,)]) as processes:
        started = [process._process for process in processes._started]
    for process in started:
        process.join(10)
    assert not any(process.is_alive() for process in started)


def stop_itself(number):
    os.kill(os.getpid(), signal.SIGSTOP)
    yield number


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid")
def test_stopped_process_continues_and_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(distribution, "STOPPED_SECONDS", 0.1)
    assert sorted(result for _, result in distribute(stop_itself, [(1,), (2,)], 2)) == [1, 2]
    assert "was stopped by a signal; it goes on" in capsys.readouterr().err
