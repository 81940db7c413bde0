"""A search on disk, to go on with: what was asked for, how far it is, and what was found.

The file is replaced at once or not at all, so that a search that is killed loses what came after the last time and
nothing before.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from conformance.casefiles.document import shown
from conformance.explore.fuzz.search import Finding, Tally
from conformance.model.errors import UserError

FORMAT = 1
Asked = dict[str, Any]
"""What a search was asked for, as JSON has it: seed, functions, limits, version of the suite."""


class StateError(UserError):
    """A file cannot be gone on with: which, why, and what to do."""

    def __init__(self, path: Path, why: str, advice: str = "name another file for a search of its own") -> None:
        super().__init__(f"{shown(path)}: {why}; {advice}")


def write(path: Path, asked: Asked, tally: Tally, findings: Iterable[Finding]) -> None:
    """Replace the file; raises StateError."""
    content = {
        "format": FORMAT,
        "asked": asked,
        "tally": vars(tally),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    text = json.dumps(content, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateError(
            path, f"cannot be written ({error.strerror})", "name a file in a folder that is there"
        ) from error


def read(path: Path, asked: Asked) -> tuple[Tally, list[Finding]] | None:
    """How far the search in a file is and what it found; None where there is no file.

    Raises StateError where it is no such file, or of a search that was asked for something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise StateError(path, f"has format {content['format']}, and this reads {FORMAT}")
        before = content["asked"]
        tally = Tally(**content["tally"])
        tally.again, tally.known = Counter(tally.again), Counter(tally.known)
        findings = [Finding(**{**said, "traits": tuple(said["traits"])}) for said in content["findings"]]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(path, "is no state of a search") from error
    for name in {**before, **asked}:
        if before.get(name) != json.loads(json.dumps(asked.get(name))):
            raise StateError(path, f"is of a search with {name} {before.get(name)}, and not {asked.get(name)}")
    return tally, findings
