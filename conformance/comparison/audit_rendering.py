"""Render an audit for people and programs: the answer, changes of ordinary inputs, of edge cases, and of signatures.

Text from a report is not trusted: it is escaped for Markdown, guarded for spreadsheets, and can neither colour nor
clear a terminal.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from conformance.comparison import difference_rendering
from conformance.comparison.causes import Cause, Section
from conformance.comparison.changes import SEVERITIES
from conformance.comparison.difference_rendering import COLOURS, bounded_line, heading_lines, indented_lines
from conformance.comparison.distance import Drift, largest
from conformance.comparison.documentation import DocumentedChange
from conformance.comparison.signatures import SignatureChange
from conformance.comparison.upgrade import Audit, Summary
from conformance.execution.report_folder import ReportError
from conformance.model.files import write_atomically
from conformance.model.serialization import serialize, to_json
from conformance.model.text import format_count, join_names, one_line
from conformance.report.markdown import code, escaped, link, remaining, table

FORMAT = 2
"""Version of the layout of `audit.json`."""
MAX_CAUSES, MAX_TERMINAL_CAUSES = 40, 12
"""Maximum number of causes of a section in Markdown and in a terminal."""
MAX_ANSWER = 60
"""Maximum number of characters of an answer."""
MAX_SENTENCE = 600
INPUTS = {True: "Ordinary inputs", False: "Edges"}
"""Headings for ordinary and other inputs, in rendering order."""
HEADINGS: dict[Section, str] = {
    "documented": "documented changes",
    "undocumented": "changes that are documented nowhere",
    "support": "what can be called",
    "wording": "what only raises or warns otherwise",
}


def all_sentences(audit: Audit) -> list[str]:
    """Sentences in English on whether answers change, and on what was not compared."""
    return [*sentences(audit, ENGLISH), *notes(audit)]


def sentences(audit: Audit, say: Mapping[str, Callable[..., str]]) -> list[str]:
    """Sentences on whether losses change for ordinary and other inputs, by how much, and whether this is documented.

    say: functions that phrase the sentences in a language, such as `ENGLISH`.
    """
    summaries = {ordinary: audit.summary(ordinary=ordinary) for ordinary in INPUTS}
    names: tuple[Section, ...] = ("documented", "undocumented")
    counts = {name: sum(summary.rows[name] for summary in summaries.values()) for name in names}
    changed = counts["documented"] + counts["undocumented"]
    texts = [say["inputs"](ordinary, summary) for ordinary, summary in summaries.items()]
    causes = [*audit.of("documented"), *audit.of("undocumented")]
    functions = sorted({cause.function for cause in causes})
    texts.append(say["changed"](audit.versions, functions, changed, len(audit.difference.changes)))
    if changed:
        rows = dict.fromkeys(SEVERITIES, 0)
        for cause in audit.of("undocumented"):
            rows[cause.severity] += cause.rows
        kinds = {severity: count for severity, count in rows.items() if count}
        texts.append(say["documented"](len(audit.of("documented")), *counts.values(), kinds))
        farthest = largest(cause.drift for cause in causes if cause.drift is not None)
        if farthest is not None:
            texts.append(say["move"](farthest, next(cause.drift_label for cause in causes if cause.drift == farthest)))
    if breaking := sum(change.breaking for change in audit.signatures):
        texts.append(say["breaking"](breaking))
    return texts


def notes(audit: Audit) -> list[str]:
    """Sentences about what was not compared."""
    return [f"{note}." for note in audit.excluded]


def _inputs_sentence(ordinary: bool, summary: Summary) -> str:
    """`Ordinary inputs: no difference in 812 rows.` or `Edges: 12 rows of 3 functions changed, of 812.`"""
    inputs = INPUTS[ordinary]
    if not summary.total:
        return f"{inputs}: none was called."
    verbs = {"documented": "changed", "support": "can be called on one side only", "wording": "raise or warn otherwise"}
    parts = [
        f"{format_count(rows, 'row')} of {format_count(functions, 'function')} "
        f"{'raises or warns otherwise' if rows == 1 and effect == 'wording' else verbs[effect]}"
        for effect, rows, functions in summary.effects
    ]
    total, rounding = format_count(summary.total, "row"), summary.rows["rounding"]
    if parts:
        return f"{inputs}: {', '.join(parts)}, of {total}{f'; rounding moves {rounding} others' if rounding else ''}."
    if rounding:
        return f"{inputs}: no difference beyond rounding, which moves {rounding} of {total}."
    return f"{inputs}: no difference in {total}."


def _changed_sentence(
    versions: Mapping[str, tuple[str, str]], functions: Sequence[str], changed: int, total: int
) -> str:
    moved = " and ".join(f"{name} {old} to {new}" for name, (old, new) in versions.items())
    if not changed:
        return f"From {moved} no answer changes."
    subject = f"{join_names(functions, 4)} answer{'s' if len(functions) == 1 else ''}"
    return f"From {moved} {subject} {changed} of {total} questions otherwise."


def _documented_sentence(causes: int, documented: int, undocumented: int, kinds: Mapping[str, int]) -> str:
    listed = ", ".join(format_count(count, severity) for severity, count in kinds.items())
    first = f"{documented} of these are documented ({format_count(causes, 'cause')})"
    verb = "is" if undocumented == 1 else "are"
    return (
        f"{first if documented else 'None of these is documented'}; {undocumented or 'none'} {verb} not"
        f"{f': {listed}' if listed else ''}."
    )


def _breaking_sentence(count: int) -> str:
    singular, plural = "{} change of a signature may break a call.", "{} changes of signatures may break a call."
    return (singular if count == 1 else plural).format(count)


ENGLISH: Mapping[str, Callable[..., str]] = {
    "inputs": _inputs_sentence,
    "changed": _changed_sentence,
    "documented": _documented_sentence,
    "move": "The farthest that a number moves is {}, in {}.".format,
    "breaking": _breaking_sentence,
}
"""Type of a statement -> the function that renders it as a sentence."""


def drift_text(drift: Drift | None) -> str:
    """`before -> after (x factor)`; "" for None."""
    return "" if drift is None else str(drift)


def markdown(audit: Audit) -> str:
    """Render as Markdown."""
    difference = audit.difference
    text = " ".join(escaped(sentence, MAX_SENTENCE) for sentence in all_sentences(audit))
    parts = [f"# From {code(difference.old.name)} to {code(difference.new.name)}\n", f"{text}\n"]
    for heading, section, causes in _group_causes(audit):
        parts.append(f"## {heading}\n\n{_cause_table(causes, section)}{remaining(len(causes), MAX_CAUSES)}")
    if audit.signatures:
        parts.append(f"## Signatures\n\n{_signature_table(audit.signatures)}")
    parts.append("*The farthest move is that of one number: what it was, what it is, and the factor between them.*\n")
    return "\n".join(parts)


def _group_causes(audit: Audit) -> Iterator[tuple[str, Section, list[Cause]]]:
    """The causes with a heading, those of ordinary inputs first, in the order of `HEADINGS`."""
    for ordinary, inputs in INPUTS.items():
        for section, heading in HEADINGS.items():
            if causes := audit.of(section, ordinary=ordinary):
                yield f"{inputs}: {heading}", section, causes


def _cause_table(causes: Sequence[Cause], section: Section) -> str:
    documented = section == "documented"
    header = ["function", "what", "rows", "cases", "farthest move", "worst in", "before", "after"]
    rows = [
        [
            code(cause.function),
            ("" if documented else f"{cause.severity}: ") + escaped(cause.description, 240),
            cause.rows,
            cause.cases,
            drift_text(cause.drift),
            code(cause.example),
            code(cause.before, MAX_ANSWER),
            code(cause.after, MAX_ANSWER),
            ", ".join(map(source_link, cause.documented)) if documented else known_issue_link(cause),
        ]
        for cause in causes[:MAX_CAUSES]
    ]
    return table([*header, "documented by" if documented else "known as"], rows)


def source_link(change: DocumentedChange) -> str:
    """The documentation of a choice as Markdown: the range of versions with the link."""
    return link(change.versions or "all versions", change.source)


def known_issue_link(cause: Cause) -> str:
    """The ledger's note on a change as Markdown: its reason with the link."""
    reason, address = cause.known_reason_and_link
    return f"a bug: {link(reason, address)}" if reason else ""


def _signature_table(changes: Sequence[SignatureChange]) -> str:
    rows = [[code(change.path), change.kind, escaped(change, 300)] for change in changes[:MAX_CAUSES]]
    return table(["function", "kind", "what"], rows) + remaining(len(changes), MAX_CAUSES)


def as_csv(audit: Audit) -> str:
    """Every changed row as CSV, with its section and whether its input is ordinary."""
    ordinary = audit.ordinary.map({True: "yes", False: "no"})
    changes = audit.difference.changes.assign(section=audit.sections, ordinary=ordinary)
    return difference_rendering.as_csv(dataclasses.replace(audit.difference, changes=changes))


def as_dict(audit: Audit) -> dict[str, Any]:
    """The answer, the causes, the signatures and the difference of both reports as builtin values; a NaN is None."""
    return {
        "format": FORMAT,
        "answer": all_sentences(audit),
        "versions": {name: list(both) for name, both in audit.versions.items()},
        "left_out": list(audit.excluded),
        "sections": {str(name): int(count) for name, count in sorted(audit.sections.value_counts().items())},
        "causes": [_cause_record(cause) for cause in audit.causes],
        "signatures": [
            {**dataclasses.asdict(change), "breaking": change.breaking, "what": str(change)}
            for change in audit.signatures
        ],
        "ordinary": dataclasses.asdict(audit.summary(ordinary=True)),
        "edges": dataclasses.asdict(audit.summary(ordinary=False)),
        "difference": serialize("diff", difference_rendering.as_dict(audit.difference)),
    }


def _cause_record(cause: Cause) -> dict[str, Any]:
    example = {name: cause.example_row[name] for name in ("case", "dtype", "reduction", "what", "call")}
    return {
        "section": cause.section,
        "severity": cause.severity,
        "function": cause.function,
        "what": cause.description,
        "announced": [dataclasses.asdict(change) for change in cause.documented],
        "rows": cause.rows,
        "cases": cause.cases,
        "move": None if cause.drift is None else _drift_record(cause.drift),
        "worst": {**example, "before": cause.before, "after": cause.after},
        "ordinary": cause.ordinary,
    }


def _drift_record(drift: Drift) -> dict[str, Any]:
    factor = None if math.isnan(drift.factor) else drift.factor
    return {"before": drift.before, "after": drift.after, "factor": factor, "index": list(drift.index)}


def terminal(audit: Audit) -> Iterator[RenderableType]:
    """Render for a terminal, readable without colour."""
    for sentence in all_sentences(audit):
        yield Text(one_line(sentence, MAX_SENTENCE))
    for heading, _, causes in _group_causes(audit):
        yield from heading_lines(heading)
        for cause in causes[:MAX_TERMINAL_CAUSES]:
            yield from indented_lines(_cause_lines(cause), COLOURS[cause.severity])
        yield from _remaining_line(len(causes))
    if audit.signatures:
        yield from heading_lines("Signatures")
        for change in audit.signatures[:MAX_TERMINAL_CAUSES]:
            yield Text(f"{bounded_line(change.path)}: {bounded_line(change)}")
        yield from _remaining_line(len(audit.signatures))


def _remaining_line(total: int) -> Iterator[RenderableType]:
    if total > MAX_TERMINAL_CAUSES:
        yield Text(f"... and {total - MAX_TERMINAL_CAUSES} more, in audit.md")


def _cause_lines(cause: Cause) -> list[str]:
    rows = format_count(cause.rows, "row") + (f" of {cause.cases} cases" if cause.cases > 1 else "")
    severity = "" if cause.section == "documented" else f"{cause.severity}: "
    drift = "" if cause.drift is None else f", farthest {cause.drift}"
    head = one_line(f"{severity}{cause.function}: {cause.description}, {rows}{drift}", MAX_SENTENCE)
    answers = f"{cause.example}: {one_line(cause.before, MAX_ANSWER)} -> {one_line(cause.after, MAX_ANSWER)}"
    return [head, *map(bounded_line, filter(None, (answers, *cause.sources, cause.known_issue)))]


def texts(audit: Audit) -> dict[str, str]:
    """The renderings for files, by the name of the file."""
    return {
        "audit.md": markdown(audit),
        "audit.csv": as_csv(audit),
        "audit.json": to_json("audit", as_dict(audit), FORMAT),
    }


def write_files(texts: dict[str, str], folder: Path) -> Path:
    """Write texts, by file name, into a folder.  Raises ReportError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
    except OSError as error:
        message = f"cannot be written ({error.strerror or type(error).__name__})"
        raise ReportError(folder, message, "choose another folder, or make this one writable") from error
    return folder
