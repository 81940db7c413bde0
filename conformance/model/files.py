"""Writes files so that a reader finds the old content or the new one, and never a part of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from conformance.model.errors import UserError


def write_atomically(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    """Write a temporary file in the folder of `path`, and rename it.

    overwrite: False raises FileExistsError if there is such a file. Raises OSError.
    Nothing is synchronised with the disk: only a machine that loses its power loses what was written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        if overwrite:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the failure of the write is what is worth reporting
            temporary.unlink(missing_ok=True)


def write_output(path: Path, text: str) -> None:
    """Write a file that the user has named, as UTF-8 with the line ends of Unix.  Raises UserError."""
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); name a file in a folder that is there"
        raise UserError(message) from error
