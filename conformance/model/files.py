"""Writes files so that a reader finds the old content or the new one, and never a part of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


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
