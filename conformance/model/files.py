"""Write files atomically: a reader finds the old content or the new one, and never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from conformance.model.errors import UserError


def write_atomically(path: Path, content: bytes | Iterable[bytes], *, overwrite: bool = True) -> None:
    """Write a temporary file in the folder of `path`, and rename it.

    content: content of the file, in one piece or in several.  overwrite: whether to replace an existing file; if False,
    it raises FileExistsError.  Raises OSError.
    The file is not synchronised with the disk: it may be lost if the machine loses power.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
        if overwrite:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # report the failure of the write instead
            temporary.unlink(missing_ok=True)


class SpecialFileError(OSError):
    """The path is not a regular file, or the file changed while it was read."""


_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; raises as `read_chunks` does."""
    return b"".join(read_chunks(path, max_bytes, max_bytes + 1))


def read_chunks(path: Path, max_bytes: int, size: int) -> Iterator[bytes]:
    """Read a regular file of at most `max_bytes`, `size` bytes at a time.

    Special files are not read: raises SpecialFileError.  Raises OSError for a file that is too large
    (EFBIG) or cannot be opened.
    """
    _reject_special(path.stat())  # opening a device may already have effects
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        before = os.fstat(file.fileno())
        _reject_special(before)  # it may have been replaced in the meantime
        if before.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it has {before.st_size} bytes, more than {max_bytes}")
        length = 0
        while piece := cast("bytes | None", file.read(size)):
            length += len(piece)
            if length > max_bytes:
                break
            yield piece
        after = os.fstat(file.fileno())
    if piece is None:  # it would block, as /proc/kmsg does although its mode is regular
        raise SpecialFileError(errno.EINVAL, "reading it would block, as for a pipe or device")
    if piece or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SpecialFileError(errno.EINVAL, "it changed while it was read")


def check_output(path: Path) -> None:
    """Raise SpecialFileError for a folder, a FIFO or a socket, which cannot be written or may have no reader.

    Devices such as /dev/null are accepted.
    """
    with contextlib.suppress(FileNotFoundError):
        _reject_special(path.stat(), taken="a device")


def _reject_special(status: os.stat_result, taken: str = "") -> None:
    for is_kind, name in _SPECIAL:
        if is_kind(status.st_mode) and name != taken:
            raise SpecialFileError(errno.EINVAL, f"{name} and no file")


def write_output(path: Path, text: str) -> None:
    """Write a file that the user has named, as UTF-8 with Unix line endings.  Raises UserError."""
    try:
        check_output(path)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror}); name a file in a folder that is there"
        raise UserError(message) from error
