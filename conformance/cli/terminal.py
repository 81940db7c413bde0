"""The consoles of commands, and their exit statuses.

Imports nothing slow, as `--help` and `--version` need it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from conformance.cli.layout import arrange
from conformance.model.errors import UserError
from conformance.model.text import printable, shorten_words

FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO") if hasattr(errno, name))
"""Errors of a stream whose device is full."""
UNLIMITED_WIDTH = 100_000
"""Width in characters of a console without line wrapping."""
COLUMN_WIDTH = 60
"""Width in characters of a table column on such a console, unless one of its words is longer."""


class Serializable(Protocol):
    """A value that `--json` prints."""

    def to_json(self) -> str: ...


Value = TypeVar("Value", bound=Serializable)


class Terminal(Console):
    """A console that prints control characters in third-party text as escapes.

    Lines are wrapped on a terminal, elsewhere only if COLUMNS sets a width; cells of tables always.
    No word is broken.
    """

    @property  # type: ignore[misc]  # read-only
    def size(self) -> ConsoleDimensions:
        """Width and height in characters."""
        size = super().size
        return size if self.is_terminal or "COLUMNS" in os.environ else size._replace(width=UNLIMITED_WIDTH)

    @property
    def wraps(self) -> bool:
        """Whether long lines are wrapped."""
        return self.width < UNLIMITED_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def write(self, text: str) -> None:
        """Print text unchanged.  Raises UserError if the stream is not writable."""
        with self._raise_if_full():
            try:
                self.file.write(text)
                self.file.flush()
            except BrokenPipeError:
                self.on_broken_pipe()

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich's consoles do, but shorten very long words.  Raises UserError if the stream is not writable."""
        with self._raise_if_full():
            if len(objects) != 1 or options.get("soft_wrap"):
                super().print(*(shorten_words(item) if isinstance(item, str) else item for item in objects), **options)
                return
            short = shorten_words(objects[0]) if isinstance(objects[0], str) else objects[0]
            for piece in arrange(short, self.width, 0 if self.wraps else COLUMN_WIDTH):
                super().print(piece, **{"crop": False, **options})

    def lines(self, lines: Iterable[object]) -> None:
        """Print lines without markup and without wrapping, as they may be code to be copied."""
        for line in lines:
            self.print(escape(str(line)), soft_wrap=True)

    def paragraphs(self, lines: Iterable[str]) -> None:
        """Print lines of prose, which are wrapped with their indentation."""
        for line in lines:
            text = line.lstrip(" ")
            self.print(Padding(Text(text), (0, 0, 0, len(line) - len(text)), expand=False))

    def print_each(self, pieces: Iterable[RenderableType]) -> None:
        """Print tables and other renderables, one below the other."""
        for piece in pieces:
            self.print(piece)

    def print_result(self, result: Value, render: Callable[[Value], None], as_json: bool) -> None:
        """Print a value returned by a function of `conformance.api`: as JSON, or by `render`."""
        if as_json:
            self.write(result.to_json())
        else:
            render(result)

    def on_broken_pipe(self) -> None:
        """Stop printing once the reader has closed the pipe, as with `| head`; the exit status is unaffected."""
        self.quiet = True
        discard(self.file)

    @contextlib.contextmanager
    def _raise_if_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            discard(self.file)  # flushing the buffer at exit would fail again
            message = f"the output cannot be written ({error.strerror or error})"
            raise UserError(f"{message}; free some space, or send it somewhere else") from error


def discard(stream: IO[str]) -> None:
    """Discard the buffered text of a stream and all further text written to it."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


out = Terminal(highlight=False, emoji=False, soft_wrap=False)
err = Terminal(stderr=True, highlight=False, emoji=False)
UNEXPECTED, USAGE = 1, 2
"""Exit statuses of every command: it has findings; it was used wrongly, or could not execute everything."""
