"""An audit for people and for machines: the answer first, then what is documented, what is not, and how calls change.

Text of a report is somebody else's: it is escaped for Markdown, guarded for spreadsheets, and can neither colour nor
clear a terminal.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from conformance import comparison
from conformance.comparison.causes import CHANGED, Announced, Cause, Section
from conformance.comparison.moves import Move, farthest
from conformance.comparison.signatures import SignatureChange
from conformance.comparison.upgrade import NAMES, Audit
from conformance.model.files import write_atomically
from conformance.model.text import join_names, one_line
from conformance.report import ReportError
from conformance.report.markdown import code, plain, table

FORMAT = 2
"""Version of the layout of `audit.json`."""
LINES = 40
"""Causes of a section in Markdown."""
SHOWN = 12
"""Causes of a section in a terminal."""
LONG = 60
"""Characters of an answer."""
HEADINGS: dict[Section, str] = {
    "documented": "Documented changes",
    "undocumented": "Changes that are documented nowhere",
    "support": "What can be asked",
    "wording": "What only raises or warns otherwise",
}
COLOURS = {"regression": "bold red", "change": "yellow", "improvement": "green", "note": "dim"}


def answer(found: Audit) -> list[str]:
    """Whether losses change, where, by how much, and whether that was announced: two or three sentences."""
    changes = found.difference.changes
    counts = found.sections.value_counts()
    tally = {str(name): int(counts.get(name, 0)) for name in (*CHANGED, "rounding")}
    moved = tally["documented"] + tally["undocumented"]
    where = " and ".join(f"{name} {old} to {new}" for name, (old, new) in found.versions.items())
    rest = f"{tally['rounding']} differ in rounding only" if tally["rounding"] else "none differs in rounding"
    if not moved:
        sentences = [f"No: from {where} nothing that was asked changes; of {len(changes)} questions {rest}."]
    else:
        named = sorted({cause.function for cause in found.causes if cause.section in ("documented", "undocumented")})
        told = f"{join_names(named, 4)} answer{'s' if len(named) == 1 else ''}"
        sentences = [f"Yes: from {where} {told} {moved} of {len(changes)} questions otherwise; {rest}."]
        sentences += [_announced(found, tally), _farthest(found)]
    beside = [_count(tally["wording"], "row raises or warns", "rows raise or warn", " otherwise")]
    beside += [_count(tally["support"], "question", "questions", " can be asked on one side only")]
    breaking = sum(change.breaking for change in found.signatures)
    beside += [_count(breaking, "change", "changes", " of a signature may break a call")]
    if any(beside):
        sentences.append(f"Beside that, {', '.join(filter(None, beside))}.")
    return [*filter(None, sentences), *(f"{note}." for note in found.left_out)]


def _count(count: int, one: str, many: str, rest: str = "") -> str:
    return f"{count} {one if count == 1 else many}{rest}" if count else ""


def _announced(found: Audit, tally: dict[str, int]) -> str:
    undocumented = found.of("undocumented")
    told = []
    for severity in comparison.SEVERITIES:
        rows = sum(cause.rows for cause in undocumented if cause.severity == severity)
        told.append(_count(rows, severity, f"{severity}s"))
    kinds = ", ".join(filter(None, told))
    documented = len(found.of("documented"))
    said = f"{tally['documented']} of these are documented" if tally["documented"] else "None of these is documented"
    causes = f" ({_count(documented, 'cause', 'causes')})" if documented else ""
    return f"{said}{causes}; {tally['undocumented'] or 'none'} {'is' if tally['undocumented'] == 1 else 'are'} not" + (
        f": {kinds}." if kinds else "."
    )


def _farthest(found: Audit) -> str:
    causes = [cause for section in ("documented", "undocumented") for cause in found.of(section)]
    far = farthest([cause.move for cause in causes if cause.move is not None])
    if far is None:
        return ""
    where = next(cause.moved_in for cause in causes if cause.move == far)
    return f"The farthest that a number moves is {far}, in {where}."


def amount(move: Move | None) -> str:
    """A move in words: `before -> after (x factor)`; nothing where there is none."""
    return "" if move is None else str(move)


def markdown(found: Audit) -> str:
    """An audit in Markdown."""
    names = [side.name for side in (found.difference.old, found.difference.new)]
    said = " ".join(plain(one, 600) for one in answer(found))
    parts = [f"# From {code(names[0])} to {code(names[1])}\n", f"{said}\n"]
    for section, heading in HEADINGS.items():
        causes = found.of(section)
        if section == "support" and found.signatures:
            parts.append(f"## Signatures\n\n{_signature_table(found.signatures)}")
        if causes:
            parts.append(f"## {heading}\n\n{_cause_table(causes, section)}{_more(len(causes))}")
    parts.append("*The farthest move is that of one number: what it was, what it is, and the factor between them.*\n")
    return "\n".join(parts)


def _cause_table(causes: Sequence[Cause], section: Section) -> str:
    documented = section == "documented"
    header = ["function", "what", "rows", "cases", "farthest move", "worst in", "before", "after"]
    rows = [
        [
            code(cause.function),
            plain(cause.what, 240) if documented else f"{cause.severity}: {plain(cause.what, 240)}",
            cause.rows,
            cause.cases,
            amount(cause.move),
            code(cause.example),
            code(cause.before, LONG),
            code(cause.after, LONG),
            ", ".join(map(source, cause.announced)) if documented else known(cause),
        ]
        for cause in causes[:LINES]
    ]
    return table([*header, "documented by" if documented else "known as"], rows)


def source(one: Announced) -> str:
    """Where a choice is documented, as Markdown: the range of versions, linked where that can be followed."""
    return _linked(plain(one.versions or "all versions"), one.source)


def _linked(text: str, address: str) -> str:
    """Markdown with a link, if the address can be followed."""
    safe = address.startswith(("https://", "http://")) and not set(address) & set(" <>()|\\\n")
    return f"[{text}]({address})" if safe else text


def known(cause: Cause) -> str:
    """What the ledger says of a change, as Markdown: its reason, linked where there is a link that can be followed."""
    reason, link = cause.bug
    return f"a bug: {_linked(plain(reason, 160), link)}" if reason else ""


def _signature_table(changes: Sequence[SignatureChange]) -> str:
    rows = [[code(change.path), change.kind, plain(change, 300)] for change in changes[:LINES]]
    return table(["function", "kind", "what"], rows) + _more(len(changes))


def _more(there: int) -> str:
    return f"\n*... and {there - LINES} more.*\n" if there > LINES else ""


def as_csv(found: Audit) -> str:
    """Every row that changed, as CSV, with the section that tells it."""
    difference = found.difference
    wider = dataclasses.replace(difference, changes=difference.changes.assign(section=found.sections))
    return comparison.as_csv(wider)


def as_json(found: Audit) -> str:
    """The answer, the causes, the signatures, and the difference of both reports, as JSON; a nan is null."""
    record = {
        "schema": f"conformance.audit/{FORMAT}",
        "format": FORMAT,
        "answer": answer(found),
        "versions": {name: list(both) for name, both in found.versions.items()},
        "left_out": list(found.left_out),
        "sections": {str(name): int(count) for name, count in sorted(found.sections.value_counts().items())},
        "causes": [_cause_record(cause) for cause in found.causes],
        "signatures": [
            {**dataclasses.asdict(change), "breaking": change.breaking, "what": str(change)}
            for change in found.signatures
        ],
        "difference": json.loads(comparison.as_json(found.difference)),
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _cause_record(cause: Cause) -> dict[str, Any]:
    worst = {name: cause.worst[name] for name in ("case", "dtype", "reduction", "what", "call")}
    return {
        "section": cause.section,
        "severity": cause.severity,
        "function": cause.function,
        "what": cause.what,
        "announced": [dataclasses.asdict(one) for one in cause.announced],
        "rows": cause.rows,
        "cases": cause.cases,
        "move": None if cause.move is None else _move_record(cause.move),
        "worst": {**worst, "before": cause.before, "after": cause.after},
    }


def _move_record(move: Move) -> dict[str, Any]:
    """A move as JSON has it: what is not finite as a text."""
    numbers = {"before": move.before, "after": move.after}
    told: dict[str, Any] = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
    return {**told, "factor": None if math.isnan(move.factor) else move.factor, "index": list(move.where)}


def terminal(found: Audit, most: int = SHOWN) -> Iterator[RenderableType]:
    """An audit for a terminal of 80 columns, without need of colour.  most: causes of a section."""
    for sentence in answer(found):
        yield Text(_clean(sentence, 600), overflow="fold")
    for section, heading in HEADINGS.items():
        causes = found.of(section)
        if section == "support" and found.signatures:
            yield from _heading("Signatures")
            for change in found.signatures[:most]:
                yield Text(f"{_clean(change.path)}: {_clean(change)}", overflow="fold")
            yield from _left(len(found.signatures), most)
        if causes:
            yield from _heading(heading)
            for cause in causes[:most]:
                yield from _terminal_cause(cause)
            yield from _left(len(causes), most)


def _heading(text: str) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(text, style="bold")


def _left(there: int, most: int) -> Iterator[RenderableType]:
    if there > most:
        yield Text(f"... and {there - most} more, in audit.md")


def _terminal_cause(cause: Cause) -> Iterator[RenderableType]:
    rows = _count(cause.rows, "row", "rows") + (f" of {cause.cases} cases" if cause.cases > 1 else "")
    severity = "" if cause.section == "documented" else f"{cause.severity}: "
    by = f", farthest {amount(cause.move)}" if cause.move is not None else ""
    head = f"{severity}{cause.function}: {cause.what}, {rows}{by}"
    yield Text(_clean(head, 600), style=COLOURS[cause.severity], overflow="fold")
    lines = [
        f"{cause.example}: {one_line(cause.before, LONG)} -> {one_line(cause.after, LONG)}",
        *cause.sources,
        *filter(None, [cause.known]),
    ]
    for line in lines:
        yield Padding(Text(_clean(line), overflow="fold"), (0, 0, 0, 4))


def write(found: Audit, folder: Path) -> Path:
    """Write `audit.md`, `audit.csv` and `audit.json` beside both sides' reports; raises ReportError."""
    texts = {"audit.md": markdown(found), "audit.csv": as_csv(found), "audit.json": as_json(found)}
    return put(texts, folder)


def put(texts: dict[str, str], folder: Path) -> Path:
    """Write texts by file name into a folder; raises ReportError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
    except OSError as error:
        what = f"cannot be written ({error.strerror or type(error).__name__})"
        raise ReportError(folder, what, "choose another folder, or make this one writable") from error
    return folder


def _clean(text: Any, most: int = 400) -> str:
    return one_line(text, most)


__all__ = ["NAMES", "amount", "answer", "as_csv", "as_json", "known", "markdown", "put", "source", "terminal", "write"]
