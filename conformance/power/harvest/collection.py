"""Reads sources in parallel, each in a separate process, and caches their records in the user's cache folder.

A source that hangs, crashes or cannot be read yields an error; the others continue.  The key of the cache has the
versions and files of the source, and a digest of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from conformance.execution.child import kill_group
from conformance.execution.temporary_folder import TemporaryFolder
from conformance.execution.workers import wire
from conformance.model.files import write_atomically
from conformance.power.harvest import collector
from conformance.power.harvest.records import CollectedRecords, decode
from conformance.power.harvest.source import HarvestError, Source
from conformance.reference.cache import code_digest, default_folder

TIMEOUT = 300.0
"""Time limit for a source, in seconds."""
MAX_LINES = 8
"""Number of last lines of output in the message about a failed process."""
ProgressCallback = Callable[[str], None]


def collect_all(
    sources: Sequence[Source], timeout: float = TIMEOUT, progress: ProgressCallback = lambda _: None
) -> dict[str, CollectedRecords | HarvestError]:
    """The records of each source, or its error.  progress: called with a line for each source that is read."""
    running: list[subprocess.Popen[bytes]] = []

    def one(source: Source) -> CollectedRecords | HarvestError:
        try:
            return _collect_or_load(source, timeout, progress, running)
        except HarvestError as error:
            return error

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            return dict(zip([source.name for source in sources], pool.map(one, sources), strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                kill_group(process)
            raise


def _collect_or_load(
    source: Source, timeout: float, progress: ProgressCallback, running: list[subprocess.Popen[bytes]]
) -> CollectedRecords:
    cached = _cache_file(source)
    if cached is not None:
        with contextlib.suppress(OSError, wire.WireError):
            return parse(source, cached.read_bytes())
    progress(f"reading {source.name} {source.version}")
    content = _run_collector(source, timeout, running)
    collected = parse(source, content)
    if cached is not None:
        with contextlib.suppress(OSError):
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cached, content)
    return collected


def _run_collector(source: Source, timeout: float, running: list[subprocess.Popen[bytes]]) -> bytes:
    """The output of the process that reads a source.  Raises HarvestError if it hangs or crashes."""
    with TemporaryFolder("conformance-harvest-") as folder:
        file, printed = Path(folder, "found"), Path(folder, "printed")
        command = [sys.executable, "-P", "-m", collector.__name__, source.origin, str(file)]
        with printed.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603
                command,
                env={**os.environ, **_collector_environment(), **source.variables, "TMPDIR": folder},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        running.append(process)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            advice = "give it more time with --timeout, or leave it out"
            raise _source_error(source, f"it was not read within {timeout:g} s{_last_lines(printed)}", advice) from None
        finally:
            kill_group(process)
            running.remove(process)
        if status != 0:
            ending = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
            raise _source_error(
                source, f"the process that reads it {ending}{_last_lines(printed)}", "run its tests by themselves"
            )
        return file.read_bytes()


def _collector_environment() -> dict[str, str]:
    """Environment variables that disable the user's plugins and options of pytest."""
    importable = [path for path in sys.path if path and Path(path).is_dir()]
    return {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": os.pathsep.join(importable),
        "PYTHONHASHSEED": "0",
    }


def _last_lines(output: Path) -> str:
    lines = output.read_text(errors="replace").strip().splitlines()[-MAX_LINES:]
    return f"; it said: {' | '.join(lines)}" if lines else ""


def _source_error(source: Source, problem: str, advice: str) -> HarvestError:
    return HarvestError(f"{source.name} {source.version}: {problem}; {advice}")


def parse(source: Source, content: bytes) -> CollectedRecords:
    """Deserialise the output of a process.  Raises HarvestError if it could not read the source."""
    message = wire.read_answer(bytearray(content + wire.END), 0)  # END, because the file is complete
    if message is None:
        raise wire.WireError("the message is incomplete")
    if "failed" in message.header:
        advice = "if it is a newer release than this package knows, take a newer one of this package"
        problem = f"it cannot be read: {message.header['failed']}"
        raise _source_error(source, problem, f"{advice}, or leave the source out")
    return decode(message)


# The cache


def _cache_file(source: Source) -> Path | None:
    """The cache file of a source for its current version and files; None if there is no cache."""
    folder = default_folder()
    if folder is None:
        return None
    facts: list[str | None] = [source.name, source.version, platform.python_version(), np.__version__]
    facts += [os.environ.get(name) for name in source.depends]
    facts += [_file_state(place) for place in source.paths] + [code_digest("power/harvest")]
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return folder / "harvest" / f"{source.name}-{source.version}-{key}"


def _file_state(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "missing"
    return f"{status.st_size}:{status.st_mtime_ns}"
