"""The state of a search in its file: the request, the progress and the counterexamples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.explore import state_file
from conformance.explore.fuzz.search import Counterexample, SearchState
from conformance.explore.state_file import StateError
from conformance.judging.row import Row

FORMAT = 2
Request = dict[str, Any]
"""The parameters of a search as JSON values: seed, functions, limits, version of the suite."""


def write(path: Path, request: Request, state: SearchState, findings: Iterable[Counterexample]) -> None:
    """Replace the state file. Raises StateError."""
    lines = [vars(counterexample) | {"row": counterexample.row.cells} for counterexample in findings]
    state_file.write(path, {"format": FORMAT, "asked": request, "tally": vars(state), "findings": lines})


def read(path: Path, request: Request) -> tuple[SearchState, list[Counterexample]] | None:
    """Read the progress and the counterexamples of a search; None if there is no file.

    Raises StateError if the file is invalid or belongs to a search with other parameters.
    """
    content = state_file.read(path, FORMAT, "a search", _parse)
    if content is None:
        return None
    saved_request = content[0]
    for name in {**saved_request, **request}:
        if saved_request.get(name) != json.loads(json.dumps(request.get(name))):
            raise StateError(path, f"is of a search with {name} {saved_request.get(name)}, and not {request.get(name)}")
    return content[1:]


def _parse(content: dict[str, Any]) -> tuple[Request, SearchState, list[Counterexample]]:
    state = SearchState(**content["tally"])
    state.again, state.known = Counter(state.again), Counter(state.known)
    findings = [
        Counterexample(**values | {"traits": tuple(values["traits"]), "row": Row.of(values["row"])})
        for values in content["findings"]
    ]
    return dict(content["asked"]), state, findings
