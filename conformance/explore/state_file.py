"""State files of searches and sweeps: the request, and its progress.

A file is replaced atomically, so that a killed process loses only work after the last write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from conformance.casefiles.document import display_path
from conformance.execution.report_folder import MAX_BYTES
from conformance.model.errors import UserError
from conformance.model.files import read_regular, write_atomically

T = TypeVar("T")


class StateError(UserError):
    """Progress cannot be saved in a file or resumed from it; the message says which file, why, and what to do."""

    def __init__(self, path: Path, why: str, advice: str = "name another file") -> None:
        super().__init__(f"{display_path(path)}: {why}; {advice}")


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a state file by JSON values, including `format`. Raises StateError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{json.dumps(content)}\n".encode())
    except OSError as error:
        advice = "name a file in a folder that is there"
        raise StateError(path, f"cannot be written ({error.strerror})", advice) from error


def read(path: Path, version: int, work: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """Read a state file; None if there is no file.

    version: the supported `format`.  work: description of the work, for messages.
    parse: converts the content.

    Raises StateError if the file cannot be read, has another format, or is not a state of such work.
    """
    try:
        content = json.loads(read_regular(path, MAX_BYTES))
        if content["format"] != version:
            raise StateError(path, f"has format {content['format']}, and this reads {version}")
        return parse(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(path, f"cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(path, f"is not a state of {work}") from error
