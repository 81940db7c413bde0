"""Writes files so that a reader finds the old content or the new one, and never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
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


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`.

    Raises OSError for anything else, such as a FIFO, for which it does not wait.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, more than {max_bytes}")
        return file.read()


def write_output(path: Path, text: str) -> None:
    """Write a file that the user has named, as UTF-8 with the line ends of Unix.  Raises UserError."""
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); name a file in a folder that is there"
        raise UserError(message) from error
