"""The failures of a run as SARIF 2.1.0, which code scanning displays beside the case in its file.

One result per row.  A rule is a kind of failure; a failure of the run itself is a notification.  Third-party text
is put in plain messages without links or placeholders, and its length is limited.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from conformance import __version__
from conformance.judging.row import Cells
from conformance.model.row_key import RowKey
from conformance.model.text import one_line, printable, source_or_comment

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HOME = "https://github.com/cross-entropy-conformance/cross-entropy-conformance"
CHECKOUT, ELSEWHERE = "%SRCROOT%", "CASES"
"""Bases of file paths: the checkout, or a folder of cases that lies elsewhere."""
MAX_RESULTS = 5000
"""Maximum number of results in a file; code scanning shows no more."""
MAX_MESSAGE, MAX_CALL = 1000, 4000
"""Maximum number of characters of a message, and of a reproducer."""
FINGERPRINT = "conformance/v1"
Level = Literal["error", "warning"]


class Rule(NamedTuple):
    """A kind of failure."""

    level: Level
    short_description: str
    """A phrase."""
    full_description: str
    """A sentence, with what to do."""


RULES = {
    "disagrees": Rule(
        "error",
        "Neither the definition nor what the function documents",
        "What a function returns is neither within budget of the definition nor of a convention that it documents. "
        "`conformance explain CASE` says what it does instead; what is a known bug belongs into the ledger.",
    ),
    "crashed": Rule(
        "error",
        "The process died",
        "The call ended its process. The reproducer does it again; what is a known bug belongs into the ledger.",
    ),
    "timed_out": Rule(
        "error",
        "The call did not return",
        "The call was still running when its time was over. `--timeout` gives it more.",
    ),
    "stale": Rule(
        "warning",
        "The ledger knows a discrepancy that is gone",
        "A function is right where the ledger has it as wrong. End the entry's versions where it was put right.",
    ),
    "vanished": Rule(
        "error",
        "The baseline has it, and this run does not",
        "A function or its support is gone. If that is intended, `conformance accept` makes a new baseline.",
    ),
    "changed": Rule(
        "error",
        "Another status or convention than in the baseline",
        "A function answers by another convention, or as another status. If that is intended, `conformance accept` "
        "makes a new baseline.",
    ),
    "drifted": Rule(
        "warning",
        "Right, and less accurate than in the baseline",
        "The error of an answer grew past its ratchet, and is still within budget. If that is intended, `conformance "
        "accept` makes a new baseline.",
    ),
}
"""Rule by id."""


class Failure(NamedTuple):
    """A row that makes a run fail."""

    rule: str
    """Name of the rule, a key of `RULES`."""
    row: Cells
    """The row of the run, or of the baseline if the run lacks it."""
    message: str
    """The failure as a sentence."""


class SourceLocation(NamedTuple):
    """The position of a case in its file."""

    base: str
    """CHECKOUT or ELSEWHERE."""
    path: str
    line: int
    """Line number from 1; 0 if it is unknown."""


def sarif(
    failures: Iterable[Failure],
    location_of: Callable[[str], SourceLocation],
    notes: Sequence[str] = (),
    max_results: int = MAX_RESULTS,
) -> str:
    """A run as SARIF; equal failures give equal text, at any time and place.

    location_of: returns the location of a case, by its id.
    notes: one sentence per failure of the run itself; without any, the run counts as successful.
    """
    all_failures = list(failures)
    notifications = [{"level": "error", "message": _message(note)} for note in notes]
    if len(all_failures) > max_results:
        text = f"{len(all_failures) - max_results} results more are in the report"
        notifications.append({"level": "note", "message": _message(text)})
    names = list(RULES)
    run = {
        "tool": {
            "driver": {
                "name": "cross-entropy-conformance",
                "semanticVersion": __version__,
                "informationUri": HOME,
                "rules": [_rule(name, rule) for name, rule in RULES.items()],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not notes, "toolExecutionNotifications": notifications}],
        "originalUriBaseIds": {
            CHECKOUT: {"description": {"text": "The root of the repository."}},
            ELSEWHERE: {"description": {"text": "A folder of cases that is not in the repository."}},
        },
        "results": [
            _result(failure, location_of(failure.row["case"]), names) for failure in all_failures[:max_results]
        ],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def _rule(name: str, rule: Rule) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(word.capitalize() for word in name.split("_")),
        "shortDescription": {"text": rule.short_description},
        "fullDescription": {"text": rule.full_description},
        "help": {"text": rule.full_description, "markdown": rule.full_description},
        "helpUri": f"{HOME}#read-a-verdict",
        "defaultConfiguration": {"level": rule.level},
    }


def _result(failure: Failure, location: SourceLocation, names: list[str]) -> dict[str, Any]:
    row = failure.row
    key = RowKey.of(row)
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(location.path), "uriBaseId": location.base}}
    if location.line:
        physical["region"] = {"startLine": location.line}
    return {
        "ruleId": failure.rule,
        "ruleIndex": names.index(failure.rule),
        "level": RULES[failure.rule].level,
        "message": _message(f"{key.id}: {failure.message}"),
        "locations": [
            {
                "physicalLocation": physical,
                "logicalLocations": [{"fullyQualifiedName": row["case"], "kind": "member"}],
            }
        ],
        # GitHub identifies results by the second one.  It would compute it from the line, which all functions of a case
        # share, and merge them into one alert.  Its uploading action warns that it computes a different value.
        "partialFingerprints": dict.fromkeys((FINGERPRINT, "primaryLocationLineHash"), key.fingerprint),
        "properties": {name: value for name in _PROPERTIES if (value := _property(name, row.get(name))) is not None},
    }


_PROPERTIES = (
    "framework", "function", "version", "environment", "dtype", "reduction", "quantity", "status", "got", "want",
    "error", "budget", "ratio", "convention", "exception", "call", "backend", "mode", "device", "reason_code",
)  # fmt: skip


def _property(name: str, value: Any) -> Any:
    """A cell as a JSON value; None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return source_or_comment(printable(str(value)), MAX_CALL) if name == "call" else one_line(str(value), MAX_MESSAGE)


def _message(text: str) -> dict[str, str]:
    """A plain message: braces are doubled, as the format requires, and text that could become a link is defused."""
    line = one_line(text, MAX_MESSAGE).replace("](", "] (")
    return {"text": line.replace("{", "{{").replace("}", "}}")}
