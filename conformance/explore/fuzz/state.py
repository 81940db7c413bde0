"""The state file of a search: the request, the progress and the findings.

The file is replaced atomically, so that a killed search loses only what came after the last write.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.casefiles.document import display_path
from conformance.execution.report_folder import MAX_BYTES
from conformance.explore.fuzz.search import Finding, SearchState
from conformance.judging.row import Row
from conformance.model.errors import UserError
from conformance.model.files import read_regular, write_atomically

FORMAT = 2
Request = dict[str, Any]
"""The parameters of a search as JSON values: seed, functions, limits, version of the suite."""


class StateError(UserError):
    """A search cannot be resumed from a file; says which, why, and what to do."""

    def __init__(self, path: Path, why: str, advice: str = "name another file for a search of its own") -> None:
        super().__init__(f"{display_path(path)}: {why}; {advice}")


def write(path: Path, request: Request, state: SearchState, findings: Iterable[Finding]) -> None:
    """Replace the state file atomically. Raises StateError."""
    content = {
        "format": FORMAT,
        "asked": request,
        "tally": vars(state),
        "findings": [vars(finding) | {"row": finding.row.cells} for finding in findings],
    }
    text = json.dumps(content, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise StateError(
            path, f"cannot be written ({error.strerror})", "name a file in a folder that is there"
        ) from error


def read(path: Path, request: Request) -> tuple[SearchState, list[Finding]] | None:
    """Read the progress and the findings of a search; None if there is no file.

    Raises StateError if the file is invalid or belongs to a search with other parameters.
    """
    try:
        content = json.loads(read_regular(path, MAX_BYTES))
        if content["format"] != FORMAT:
            raise StateError(path, f"has format {content['format']}, and this reads {FORMAT}")
        saved_request = content["asked"]
        state = SearchState(**content["tally"])
        state.again, state.known = Counter(state.again), Counter(state.known)
        findings = [_finding(values) for values in content["findings"]]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(path, "is no state of a search") from error
    for name in {**saved_request, **request}:
        if saved_request.get(name) != json.loads(json.dumps(request.get(name))):
            raise StateError(path, f"is of a search with {name} {saved_request.get(name)}, and not {request.get(name)}")
    return state, findings


def _finding(values: dict[str, Any]) -> Finding:
    return Finding(**values | {"traits": tuple(values["traits"]), "row": Row.of(values["row"])})
