"""A report on disk: written atomically, and read only if it is unmodified.

The folder holds `results.csv`, `results.parquet`, `pairs.parquet`, `discrepancies.csv`, `summary.md`,
`badge.json`, `index.html` and `run.json`.  `run.json` is removed first and written last, so a folder with
one is complete; it also records whether the *run* was complete.  During a run, and after one was killed, there is a
`journal.jsonl` instead (see `journal`), and an older report is in `previous/`.  In the CSV files a text
that a spreadsheet would execute as a formula starts with an apostrophe (see `guard_formula`); `read` removes it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from conformance.execution.journal import read_journal
from conformance.execution.marking import RUN, marked, run_file
from conformance.execution.report_folder import (
    FILES,
    JOURNAL,
    MAX_BYTES,
    MAX_RUN_BYTES,
    PREVIOUS,
    RESULTS,
    ReportError,
    check_replaceable,
    folder_of,
    reason_of,
)
from conformance.execution.run_info import FORMAT, RunInfo
from conformance.judging.row import COLUMNS, DEFAULTS, FLOATS
from conformance.judging.verdict import FAILING_ROWS
from conformance.model.files import read_chunks, read_regular, write_atomically
from conformance.model.text import format_count, truncate
from conformance.report import agreement
from conformance.report.frames import failing, set_dtypes
from conformance.report.markdown import summary
from conformance.report.page import PageSupplement, page
from conformance.report.run import largest, run_record, tally, versions

_SPECIAL = '[",\r\n]'
CSV_ROWS = 1000
"""Number of rows converted to text in one step, to bound memory."""
DIGEST_BYTES = 2**20
"""Number of bytes hashed in one step, for the same reason."""
MAX_TABLE_BYTES = 2**33
"""Size limit of a decompressed Parquet file."""
MAX_ERROR = 300
"""Maximum number of characters of an error message that are quoted."""
RESTORED = f"its {RUN} was lost, and with it how many rows the run planned"
"""Why a report that was reconstructed from its rows is incomplete."""
MAX_LOST_NAMES = 20
"""Maximum number of rows that an error names if all rows are lost."""


def write(
    folder: Path,
    results: pd.DataFrame,
    run: RunInfo,
    supplement: PageSupplement | None = None,
) -> dict[str, Any]:
    """Write a report into `folder` and return its `run.json`.

    results: a `report.frame`.  supplement: see `page`.

    If the folder cannot be written, for example because the disk is full, everything is written to a temporary
    folder instead, and the ReportError names both.  It is also raised for a folder with unrelated files that
    would be replaced.
    """
    check_replaceable(folder)
    try:
        return _write(folder, results, run, supplement)
    except OSError as error:
        failure = error
    message = f"the report cannot be written ({reason_of(failure)})"
    try:
        fallback = _write_elsewhere(results, run, supplement)
    except OSError as error:
        message += f", nor in {tempfile.gettempdir()} ({reason_of(error)})"
        num_kept = _num_journal_rows(folder)
        if num_kept:
            rows = "its rows are" if num_kept >= len(results) else f"{num_kept} of its {len(results)} rows are"
            advice = f"{rows} in {JOURNAL}: free some space, and `conformance recover {folder}` writes the report"
            raise ReportError(folder, message, advice) from error
        raise ReportError(folder, message, f"free some space and run again; {_lost_rows(results)}", results) from error
    raise ReportError(folder, message, f"it is in {fallback}; free some space and move it there") from failure


def _write_elsewhere(results: pd.DataFrame, run: RunInfo, supplement: PageSupplement | None) -> Path:
    """Write a report to a new temporary folder, which is removed if the report cannot be written completely."""
    folder = Path(tempfile.mkdtemp(prefix="conformance-report-"))
    try:
        _write(folder, results, run, supplement)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _write(folder: Path, results: pd.DataFrame, run: RunInfo, supplement: PageSupplement | None) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN).unlink(missing_ok=True)
    digests: dict[str, str] = {}

    def write_file(name: str, *content: bytes) -> None:
        write_pieces(name, content)

    def write_pieces(name: str, pieces: Iterable[bytes]) -> None:
        write_atomically(folder / name, pieces)
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()

    # The rows come first, so that they are safe even if writing another file fails; one at a time, to bound memory.
    write_pieces("results.csv", _csv(results))
    write_file("results.parquet", _parquet(results))
    pairs = agreement.pairs(results)
    write_file("pairs.parquet", _parquet(pairs))
    write_pieces("discrepancies.csv", _csv(agreement.discrepancies(results, pairs)))
    write_file("summary.md", summary(results, pairs, run).encode())
    write_file("badge.json", badge(results, run).encode())
    write_file("index.html", page(results, run, supplement).encode())
    record = run_record(run, results, pairs, digests)
    write_atomically(folder / RUN, (json.dumps(record, indent=2) + "\n").encode())
    return record


def badge(results: pd.DataFrame, run: RunInfo) -> str:
    """A badge in the format of shields.io: `cross-entropy | 526 cases, nothing unexpected`, as JSON.

    Equal rows give equal text; it consists of numbers and fixed words, without third-party text.
    """
    cases = results.loc[results["case"] != "", "case"].nunique()
    unexpected = int(results["expected"].isin(FAILING_ROWS).sum())
    if not run.complete(len(results)):
        message, colour = "incomplete", "lightgrey"
    elif unexpected:
        message, colour = f"{format_count(cases, 'case')}, {format_count(unexpected, 'answer')} unexpected", "red"
    elif cases:
        message, colour = f"{format_count(cases, 'case')}, nothing unexpected", "brightgreen"
    else:
        message, colour = "nothing executed", "lightgrey"
    facts = {"schemaVersion": 1, "label": "cross-entropy", "message": message, "color": colour}
    return json.dumps(facts, indent=2) + "\n"


def rewrite_page(folder: Path, text: str) -> None:
    """Replace the page of a report.  Raises ReportError."""
    record = _run(folder)
    content = text.encode()
    record["files"]["index.html"] = hashlib.sha256(content).hexdigest()
    try:
        (folder / RUN).unlink()
        write_atomically(folder / "index.html", content)
        write_atomically(folder / RUN, (json.dumps(record, indent=2) + "\n").encode())
    except OSError as error:
        raise ReportError(folder, f"cannot be written ({reason_of(error)})", "name a file with --output") from error


def _csv(table: pd.DataFrame) -> Iterator[bytes]:
    """The same bytes as `csv.writer`, but by column with Arrow, which takes a fraction of the time; in pieces."""
    import pyarrow.compute as pc

    yield f"{','.join(table.columns)}\n".encode()
    for start in range(0, len(table), CSV_ROWS):
        rows = table.iloc[start : start + CSV_ROWS]
        lines = pc.binary_join_element_wise(*(_cells(rows[name]) for name in table.columns), _cell(","))
        terminated = pc.binary_join_element_wise(lines, _cell(""), _cell("\n"))
        size = pc.sum(pc.binary_length(terminated)).as_py() or 0
        yield bytes(memoryview(terminated.buffers()[2] or b"")[:size])


def _cells(column: pd.Series) -> Any:
    """The cells of a column as an Arrow array: numbers with all digits, texts guarded and quoted if needed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pd.api.types.is_float_dtype(column.dtype):
        return pa.array(["" if value != value else repr(value) for value in column.tolist()], pa.large_string())
    texts = pa.chunked_array([pa.array(column.array, pa.large_string())]).combine_chunks()
    suspects = pc.match_substring_regex(texts, rf"\A[{re.escape(''.join(_STARTS))}]")
    safe = pa.array(map(guard_formula, texts.filter(suspects).to_pylist()), pa.large_string())
    texts = pc.replace_with_mask(texts, suspects, safe)
    special = pc.match_substring_regex(texts, _SPECIAL)
    if not pc.any(special).as_py():
        return texts
    quote = _cell('"')
    quoted = pc.binary_join_element_wise(quote, pc.replace_substring(texts, '"', '""'), quote, _cell(""))
    return pc.if_else(special, quoted, texts)


def _cell(text: str) -> Any:
    import pyarrow as pa

    return pa.scalar(text, pa.large_string())


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False, compression="zstd", compression_level=9)
    return buffer.getvalue()


def guard_formula(text: str) -> str:
    """Text for a CSV cell, prefixed by an apostrophe if a spreadsheet would execute it; -1.5 is unchanged."""
    return f"'{text}" if _formula(text) else text


def csv_text(header: Sequence[str], lines: Iterable[Iterable[str]]) -> str:
    """A small table as CSV, its cells guarded."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(guard_formula, line) for line in lines)
    return text.getvalue()


def unguard_formula(text: str) -> str:
    """The inverse of `guard_formula`."""
    return text[1:] if text.startswith("'") and _formula(text) else text


_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "'")


def _formula(text: str) -> bool:
    if not text.startswith(_STARTS) or not text.lstrip("'").startswith(_STARTS[:-1]):
        return False
    try:
        float(text.lstrip("'"))
    except ValueError:
        return True
    return False


def _num_journal_rows(folder: Path) -> int:
    """Number of rows in the journal of a run; 0 if it has none, as if the disk was full from the start."""
    try:
        return len(read_journal(folder).rows)
    except ReportError:
        return 0


def _lost_rows(results: pd.DataFrame) -> str:
    """A message on the lost rows that names those that fail."""
    rows = results[failing(results)]
    columns = ["function", "case", "dtype", "reduction", "quantity", "status"]
    names = [" ".join(row) for row in rows[columns].head(MAX_LOST_NAMES).to_numpy()]
    remainder = f", and {len(rows) - MAX_LOST_NAMES} more" if len(rows) > MAX_LOST_NAMES else ""
    examples = f", among them {', '.join(names)}{remainder}" if names else ", none of which fails"
    return f"lost are {len(results)} rows{examples}"


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the rows and the `run.json` of a report: its folder, its `results.parquet` or its `results.csv`.

    `complete` is False in the `run.json` of a run that ended early.  Raises ReportError if there is no
    `run.json`, or if a file does not match its description there.
    """
    if not path.exists():
        raise ReportError(path, "does not exist", "name the folder of a report, or its results file")
    folder = folder_of(path)
    run = _run(folder)
    digests = run["files"]
    files = [folder / name for name in digests if os.path.lexists(folder / name)] if path.is_dir() else [path]
    for file in files:
        if digests.get(file.name) != _digest(file):
            advice = "restore it, or run the suite again"
            if path.is_dir() and (intact := _intact_rows(folder, digests)):
                advice = f"name {intact} instead, which is intact, or {advice}"
            raise ReportError(file, f"is not the file that {RUN} describes", advice)
    results = next((file for name in RESULTS for file in files if file.name == name), None)
    if results is None:
        advice = "name the folder of a report, or one of these files"
        raise ReportError(path, f"there is no {' or '.join(RESULTS)}", advice)
    table = read_rows(results)
    _check_counts(folder / RUN, run, table)
    return table, run


def _intact_rows(folder: Path, digests: Mapping[str, str]) -> Path | None:
    """A file with all rows of a report that has its digest; None if there is none."""
    present = (folder / name for name in RESULTS if name in digests and os.path.lexists(folder / name))
    return next((file for file in present if digests[file.name] == _digest(file)), None)


def restore(folder: Path) -> dict[str, Any]:
    """Reconstruct the report of a folder whose `run.json` is lost from its rows, and return the new `run.json`.

    It is marked incomplete: it is unknown how many rows were planned and whether the rows are unmodified.
    Raises ReportError if there are no rows.
    """
    tables = [folder / name for name in RESULTS if (folder / name).is_file()]
    if not tables:
        message = "has neither a journal nor rows of a report, so there is nothing to recover"
        raise ReportError(folder, message, "name the folder of the report that lacks rows")
    try:
        table = read_rows(tables[0])
    except ReportError:
        if len(tables) == 1:
            raise
        table = read_rows(tables[1])
    info = RunInfo(planned=len(table), versions=versions(table), interrupted=RESTORED, host={})
    try:
        return _write(folder, table, info, None)
    except OSError as error:
        raise ReportError(folder, f"cannot be written ({reason_of(error)})", "free some space") from error


def read_rows(results: Path) -> pd.DataFrame:
    """The rows in a `results.parquet` or a `results.csv`.  Raises ReportError."""
    try:
        table = _read_parquet(results) if results.suffix == ".parquet" else _read_csv(results)
        table = table.assign(**{name: value for name, value in DEFAULTS.items() if name not in table.columns})
        if absent := [name for name in COLUMNS if name not in table.columns]:
            advice = "read it with the version that wrote it"
            raise ReportError(results, f"has no column {', '.join(absent)}", advice)
        return set_dtypes(
            table[list(COLUMNS)].fillna({name: "" for name in table.columns if name not in FLOATS}), FLOATS
        )
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError) as error:
        message = f"holds no rows of a report ({type(error).__name__}: {str(error)[:200]})"
        raise ReportError(results, message, "run the suite again") from error


def _read_parquet(file: Path) -> pd.DataFrame:
    """The table in a Parquet file, if its metadata declares a size within the limit."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as opened:
        groups = map(opened.metadata.row_group, range(opened.num_row_groups))
        size = sum(group.total_byte_size for group in groups)
        if size > MAX_TABLE_BYTES or opened.metadata.num_columns > 10 * len(COLUMNS):
            raise ReportError(file, f"unpacks to {size} bytes, more than {MAX_TABLE_BYTES}", "split the run into parts")
    return pd.read_parquet(file)


def _run(folder: Path) -> dict[str, Any]:
    file = run_file(folder)
    if began := marked(folder):
        message = f"a run began there at {began} and has executed nothing yet, or died: the report is of the run before"
        advice = f"wait for it, or run again; `conformance recover {folder}` gives back the report from before"
        raise ReportError(folder, message, advice)
    try:
        run = json.loads(read_regular(file, MAX_RUN_BYTES))
    except FileNotFoundError as error:
        raise _without_run(folder) from error
    except (OSError, ValueError, RecursionError) as error:
        why = reason_of(error) if isinstance(error, OSError) else truncate(str(error), MAX_ERROR)
        raise ReportError(file, f"cannot be read ({why})", _advice_without_run(folder)) from error
    if not isinstance(run, dict) or run.get("format") != FORMAT or not isinstance(run.get("files"), dict):
        advice = "read it with the version that wrote it"
        raise ReportError(file, f"is not the {RUN} of a report in format {FORMAT}", advice)
    for name, digest in run["files"].items():
        if name not in FILES or not isinstance(digest, str):
            raise ReportError(
                file, f"names {str(name)[:100]!r}, which is not a file of a report", "run the suite again"
            )
    try:
        RunInfo.of(run)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        message = f"does not describe a run ({truncate(str(error), MAX_ERROR)})"
        raise ReportError(file, message, "run the suite again") from error
    return run


def _without_run(folder: Path) -> ReportError:
    """The error for a folder without `run.json`."""
    if os.path.lexists(folder / JOURNAL):
        message = f"has no {RUN}: the run that writes its report there has not come to its end"
        advice = f"wait until it ends; if it was killed, `conformance recover {folder}` writes what it had done"
        if (folder / PREVIOUS / RUN).is_file():
            advice += f", and the report from before is in {folder / PREVIOUS}"
        return ReportError(folder, message, advice)
    return ReportError(folder, f"has no {RUN}, so it is not a report, or was not finished", _advice_without_run(folder))


def _advice_without_run(folder: Path) -> str:
    """What to do about a folder whose `run.json` is lost or damaged."""
    if any((folder / name).is_file() for name in RESULTS):
        return f"run the suite again, or have `conformance recover {folder}` make a report of the rows that are there"
    return "run the suite again"


def _check_counts(file: Path, run: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Raise ReportError if the counts in a `run.json` differ from those of the rows."""
    counted = {
        "finished": len(rows),
        "status": tally(rows["status"]),
        "expected": tally(rows["expected"]),
        "complete": RunInfo.of(run).complete(len(rows)),
        "largest": largest(rows),
    }
    wrong = [name for name, count in counted.items() if name in run and run[name] != count]
    relations = run.get("relations", {})
    if not isinstance(relations, dict) or not all(type(count) is int and count >= 0 for count in relations.values()):
        wrong.append("relations")
    if wrong:
        message = f"says {', '.join(wrong)} in another way than the {len(rows)} rows that are there"
        raise ReportError(file, message, "restore the report, or run the suite again")


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        for piece in read_chunks(file, MAX_BYTES, DIGEST_BYTES):
            digest.update(piece)
    except OSError as error:
        raise ReportError(file, f"cannot be read ({reason_of(error)})", "name the folder of a report") from error
    return digest.hexdigest()


def _read_csv(file: Path) -> pd.DataFrame:
    table = pd.read_csv(file, dtype="str", keep_default_na=False, lineterminator="\n", encoding="utf-8")
    # Python's float, which parses numbers exactly.
    parsers = {name: _number if name in FLOATS else unguard_formula for name in table.columns}
    return table.assign(**{name: [parse(text) for text in table[name]] for name, parse in parsers.items()})


def _number(text: str) -> float:
    return float(text) if text else float("nan")
