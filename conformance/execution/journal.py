"""The folder of a report during its run: locked by the run, without a complete report, and with a journal of rows.

A run starts with `Journal.begin`, which locks the folder (`.lock`), moves an older report into `previous/` and starts
`journal.jsonl`.  That file has one JSON object per line: the writing process, then the run's plan, then its rows.
Each row is written when it is judged, so that a killed process loses at most the row that it was
writing; a torn line is skipped on reading.  There is no fsync: only a power failure could lose more.  `read_journal`
reads it, for `conformance recover` and `run --resume`.
`Journal.close` removes everything that does not belong to a complete report.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock

from conformance.execution.marking import MARK, RUN, put_back
from conformance.execution.report_folder import (
    FILES,
    JOURNAL,
    MAX_BYTES,
    PREVIOUS,
    ReportError,
    check_replaceable,
    check_writable,
    read_run,
)
from conformance.execution.run_info import RunInfo, is_moment
from conformance.judging.row import Row
from conformance.model.errors import UserError
from conformance.model.files import read_regular
from conformance.model.row_key import RowKey

LOCK = ".lock"
FORMAT = 1
"""Version of the journal's format; other versions are not read."""
BEFORE = ".run.json.before"
"""Name of the `run.json` of an interrupted run until the run that resumes it has a plan."""
FLAGS = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
REMOVE = "remove it, or name another folder"
UNFINISHED = "unfinished"
"""Prefix of the folder to which an unfinished run is moved when another run starts."""


@dataclass(frozen=True)
class Plan:
    """Data of a run before its first row."""

    info: RunInfo
    """Without versions, duration and reason of an early end."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Text of cases by id, for the page."""
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Numbers of samples and classes of cases by id, for the page."""
    basis: Mapping[str, str] = field(default_factory=dict)
    """Inputs of rows that the rows do not record, by name; a resumed run keeps only rows with the same basis."""

    def as_record(self) -> dict[str, Any]:
        """The plan as a line of the journal."""
        extra = {"problems": dict(self.problems), "sizes": dict(self.sizes)}
        return {"plan": {"info": asdict(self.info), "beside": extra, "basis": dict(self.basis)}}


@dataclass(frozen=True)
class JournalContent:
    """The parsed content of a journal."""

    started: str
    """Start of its run, in ISO 8601 with zone."""
    owner: str
    """Description of the last process that wrote it."""
    plan: Plan | None
    """None if the run ended before it was planned."""
    rows: dict[RowKey, Row]
    """Rows by key across versions, in the order of writing."""
    torn: int = 0
    """Number of lines that cannot be parsed."""


class Journal:
    """A run's lock on the folder of its report, and its rows on disk; see the module."""

    def __init__(self, folder: Path, started: str, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """Messages about moved files."""
        self.resumed: JournalContent | None = None
        """The unfinished run that this one resumes."""
        self._started = started
        self._warn = warn
        self._created = not folder.exists()
        self._lock = filelock.FileLock(folder / LOCK, timeout=0)
        self._moved: list[tuple[Path, Path]] = []
        self._descriptor: int | None = None
        self._starts_journal = False
        self._replaces_journal = False
        self._unwritten = b""
        self._failed = False

    @classmethod
    def begin(cls, folder: Path, started: str, warn: Callable[[str], None], *, resume: bool = False) -> Journal:
        """Lock the folder of a report for a run; from then on it contains no complete report.

        An older report is moved into `previous/`, where a complete one stays until it is replaced, and the journal of a
        run that was killed or interrupted into a separate folder.  started: ISO 8601 with zone.  warn: called with a
        message if a row cannot be written later, for example because the disk is full; the row is kept in memory and
        written with the next one.  resume: resume the unfinished run, whose journal is unchanged until `plan`;
        if there is none, the run is an ordinary one.  Raises ReportError if the folder cannot be written, if another
        run has locked it, or if it has other files that a report would replace.
        """
        journal = cls(folder, started, warn)
        check_writable(folder)
        journal._hold()
        try:
            check_replaceable(folder)
            _remove_parts(folder)
            journal._make_room(resume)
            if resume and journal.resumed is None:
                journal._note_nothing_to_resume()
            if journal.resumed is None:
                journal._open(folder / JOURNAL, os.O_EXCL)
            else:
                journal._open(folder / JOURNAL, os.O_APPEND)
        except Exception as error:
            journal.abandon()
            if isinstance(error, OSError):
                raise _unwritable(folder, error) from error
            raise
        except BaseException:  # interrupted: moved files stay where they are
            journal.close(complete=False)
            raise
        return journal

    def plan(self, plan: Plan, rows: Iterable[Row] = (), *, keep: bool = False) -> None:
        """Write the plan.

        rows: kept rows of the resumed run; they and the plan replace its journal atomically.
        keep: keep that journal in a separate folder, because it has rows that this run does not have.
        """
        if self.resumed is not None:
            if keep:
                self._keep(self.resumed)
            self._release()
            new = self.folder / f"{JOURNAL}.new"
            new.unlink(missing_ok=True)
            self._open(new, os.O_EXCL)
            self._replaces_journal = True
        self._append([plan.as_record()])
        self._append(row.cells for row in rows)

    def append(self, row: Row) -> None:
        """Write one row."""
        self._append([row.cells])

    def close(self, complete: bool) -> None:
        """Unlock the folder.

        complete: whether the report in it is complete, so that neither the journal nor the older report is needed.
        """
        self._release()
        if complete:
            with contextlib.suppress(OSError):  # leftover files do not affect the report
                for name in (JOURNAL, f"{JOURNAL}.new"):
                    (self.folder / name).unlink(missing_ok=True)
                _remove_report(self.folder / PREVIOUS)
        self._free()

    def abandon(self) -> None:
        """Restore and unlock the folder, for a run that ended before it had a plan."""
        self._release()
        with contextlib.suppress(OSError):
            if self._starts_journal:
                (self.folder / JOURNAL).unlink(missing_ok=True)
            for was, now in reversed(self._moved):
                now.rename(was)
            for target in {now.parent for _, now in self._moved} - {self.folder}:
                target.rmdir()
        self._free()
        if self._created:
            with contextlib.suppress(OSError):  # it is not empty
                self.folder.rmdir()

    # The folder

    def _hold(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout:
            holder = owner(self.folder)
            message = f"another run is writing its report there{holder and f' ({holder})'}"
            advice = "wait until it ends, end it, or name another folder with --report"
            raise ReportError(self.folder, message, advice) from None
        except (OSError, NotImplementedError) as error:
            raise _unwritable(self.folder, error) from error

    def _free(self) -> None:
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink()  # before unlocking, so that waiting processes see that it is gone
        self._lock.release()

    def _make_room(self, resume: bool) -> None:
        """Move older reports and journals out of the way."""
        put_back(self.folder)
        content = read_journal(self.folder) if os.path.lexists(self.folder / JOURNAL) else None
        for name in (f"{JOURNAL}.new", BEFORE):
            (self.folder / name).unlink(missing_ok=True)
        run = read_run(self.folder / RUN)
        is_complete = run is not None and run.get("complete") is True
        if content is not None and is_complete and run is not None and run.get("started") == content.started:
            (self.folder / JOURNAL).unlink()  # the run was killed after its report was complete
            content = None
        if content is not None and resume and content.plan is not None:
            self.resumed = content
            if run is not None and not is_complete:
                (self.folder / RUN).rename(self.folder / BEFORE)
                self._moved.append((self.folder / RUN, self.folder / BEFORE))
        if is_complete:
            _remove_report(self.folder / PREVIOUS)
            self._move(_unused(self.folder / PREVIOUS), (RUN, *FILES))
        if content is not None and self.resumed is None:
            if content.rows and not (run is not None and run.get("interrupted") == ""):
                target = self._move(self._unfinished_folder(content.started), (JOURNAL, RUN, *FILES))
                self.notes.append(
                    f"the run of {content.started or 'before'} in {self.folder} did not come to its end: its journal "
                    f"with {len(content.rows)} rows was moved to {target}; `conformance recover {target}` writes the "
                    f"report of what was done, `conformance run --resume --report {target}` goes on with it"
                )
            else:
                (self.folder / JOURNAL).unlink()  # it has no rows, or those of a finished report
        if (self.folder / RUN).is_file() and not (self.folder / PREVIOUS).exists():
            self._move(self.folder / PREVIOUS, (RUN, *FILES))
        (self.folder / RUN).unlink(missing_ok=True)
        (self.folder / MARK).unlink(missing_ok=True)

    def _note_nothing_to_resume(self) -> None:
        note = f"--resume: no unfinished run is in {self.folder}, so all rows are executed"
        if before := read_run(self.folder / PREVIOUS / RUN):
            selected = str(before.get("selected") or "no -k")
            note += f"; the whole report there, of a run with {selected}, stays in {PREVIOUS}/ until they are"
        self.notes.append(note)

    def _unfinished_folder(self, started: str) -> Path:
        stamp = re.sub(r"[^0-9T]", "", started.partition("+")[0])[:20]
        return _unused(self.folder / "-".join(filter(None, (UNFINISHED, stamp))))

    def _move(self, target: Path, names: Iterable[str]) -> Path:
        target.mkdir()
        for name in names:
            if (self.folder / name).is_file():
                (self.folder / name).rename(target / name)
                self._moved.append((self.folder / name, target / name))
        return target

    def _keep(self, content: JournalContent) -> None:
        target = self._unfinished_folder(content.started)
        target.mkdir()
        (target / JOURNAL).write_bytes((self.folder / JOURNAL).read_bytes())
        self.notes.append(f"it has rows that this run does not have, so its journal stays, in {target}")

    # The file

    def _open(self, file: Path, flag: int) -> None:
        self._descriptor = os.open(file, FLAGS | os.O_CREAT | flag, 0o666)
        self._starts_journal = file.name == JOURNAL and flag == os.O_EXCL
        head = {"journal": FORMAT, "started": self._started, "process": os.getpid(), "host": socket.gethostname()}
        line = (b"\n" if flag == os.O_APPEND else b"") + _line(head)  # the last line may be torn
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _append(self, values: Iterable[Mapping[str, Any]]) -> None:
        for value in values:
            self._unwritten += _line(value)
        if self._descriptor is None:
            return
        try:
            while self._unwritten:
                written = os.write(self._descriptor, self._unwritten)
                self._unwritten = self._unwritten[written:]
            if self._replaces_journal:
                self._release()  # Windows moves no file that is open
                (self.folder / f"{JOURNAL}.new").replace(self.folder / JOURNAL)
                self._descriptor = os.open(self.folder / JOURNAL, FLAGS | os.O_APPEND)
                (self.folder / BEFORE).unlink(missing_ok=True)
                self._replaces_journal = False
        except OSError as error:
            if not self._failed:
                self._warn(
                    f"{self.folder / JOURNAL}: cannot be written ({error.strerror or error}); the run goes on, keeps "
                    "its rows in memory, and tries again with each row"
                )
            self._failed = True

    def _release(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def read_journal(folder: Path) -> JournalContent:
    """Read the journal in a folder; raises ReportError if there is no readable one."""
    file = folder / JOURNAL
    data = _content(folder)
    head: Mapping[str, Any] = {}
    plan: Plan | None = None
    rows: dict[RowKey, Row] = {}
    torn = 0
    for line in data.split(b"\n"):
        if not line:
            continue
        value = _object(line)
        if "journal" in value:
            head = _head(file, value)
        elif not head and b"\n" in data:
            raise ReportError(file, "is not a journal of a run", REMOVE)
        elif "plan" in value:
            plan = _plan(value["plan"])
            torn += plan is None
        else:
            try:
                row = Row.of(value)
            except ValueError:
                torn += 1
            else:
                rows[row.key.across_versions()] = row
    started = plan.info.started if plan is not None else str(head.get("started", ""))
    if started and not is_moment(started):
        started = ""
        torn += 1
    return JournalContent(started, _owner(head), plan, rows, torn)


def _content(folder: Path) -> bytes:
    """The bytes of the journal in a folder; raises ReportError."""
    file = folder / JOURNAL
    try:
        return read_regular(file, MAX_BYTES)
    except FileNotFoundError as error:
        message = "has no journal, so no run was ended early there"
        raise ReportError(folder, message, "name the folder of the report that lacks rows") from error
    except OSError as error:
        raise ReportError(file, f"cannot be read ({error.strerror or error})", REMOVE) from error


def _head(file: Path, value: dict[str, Any]) -> dict[str, Any]:
    """The first line of a journal; raises ReportError for another format."""
    if value["journal"] != FORMAT:
        message = f"is a journal in format {str(value['journal'])[:20]}, not in {FORMAT}"
        raise ReportError(file, message, "read it with the version that wrote it")
    return value


def owner(folder: Path) -> str:
    """Description of the last process that wrote the journal in a folder; empty if unknown."""
    with contextlib.suppress(UserError):
        return read_journal(folder).owner
    return ""


def _owner(head: Mapping[str, Any]) -> str:
    templates = {"process": "process {}", "host": "on {}", "started": "since {}"}
    return " ".join(text.format(str(head[name])[:100]) for name, text in templates.items() if name in head)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _plan(value: Any) -> Plan | None:
    try:
        info = RunInfo.of(value["info"])
        extra = value["beside"]
        sizes = {str(name): (int(samples), int(classes)) for name, (samples, classes) in extra["sizes"].items()}
        problems = {str(name): str(text) for name, text in extra["problems"].items()}
        basis = {str(name): str(text) for name, text in value["basis"].items()}
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    return Plan(info, problems, sizes, basis)


def _unused(target: Path) -> Path:
    """A path that does not exist yet: the given one, or the same with a number."""
    numbered = (target.with_name(f"{target.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([target], numbered) if not os.path.lexists(path))


def _remove_report(folder: Path) -> None:
    """Remove the files of a report, and the folder if it is then empty."""
    if folder.is_dir() and not folder.is_symlink():
        for name in (RUN, *FILES):
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_parts(folder: Path) -> None:
    """Remove temporary files of a process that was killed while it wrote a report."""
    for name in (RUN, *FILES):
        for part in folder.glob(f".{name}.*.tmp"):
            part.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError | NotImplementedError) -> ReportError:
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return ReportError(folder, f"cannot be written ({why})", "free some space, or name another folder for the report")
