"""Processors and memory of this machine that are available to worker processes, within the limits of a container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROCESS_BYTES = 3 << 29
"""Memory in bytes of a judging process and its worker, with the largest frameworks imported."""
DEFAULT_MAX_PROCESSES = 4
"""Maximum number of processes if the amount of memory is unknown."""
CGROUP = Path("/sys/fs/cgroup")


def process_count(limit: int) -> int:
    """Number of judging processes to start, each with a worker, for at most `limit` busy ones; at least 1."""
    memory = available_memory()
    return max(1, min(limit, available_cores(), DEFAULT_MAX_PROCESSES if memory is None else memory // PROCESS_BYTES))


def available_cores() -> int:
    """Number of processors that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max 100000" if there is no limit
        quota, period = map(int, (CGROUP / "cpu.max").read_text().split())
        cores = min(cores, -(-quota // period))
    return max(1, cores)


def available_memory() -> int | None:
    """Bytes of memory available without swapping; None if unknown."""
    amounts = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")]
        amounts.append(int(line.split()[1]) << 10)
    with contextlib.suppress(OSError, ValueError):  # "max" if there is no limit
        limit = int((CGROUP / "memory.max").read_text())
        amounts.append(max(0, limit - int((CGROUP / "memory.current").read_text())))
    if not amounts and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            amounts.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(amounts, default=None)
