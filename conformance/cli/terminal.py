"""The consoles that commands print to, and the exit statuses that they end with.

Imports nothing that takes time, because `--help` and `--version` need it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from conformance.model.errors import UserError
from conformance.model.text import printable, shorten_words

FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO") if hasattr(errno, name))
"""Errors of a stream whose device takes no more."""
UNLIMITED_WIDTH = 100_000
"""Width in characters of a console on which no line is wrapped."""
COLUMN_WIDTH = 60
"""Width in characters of a column of a table there, unless a word of it is longer."""


class Serializable(Protocol):
    """A value that `--json` prints."""

    def to_json(self) -> str: ...


Value = TypeVar("Value", bound=Serializable)


class Terminal(Console):
    """A console on which control characters in foreign text are printed as escapes.

    Lines are wrapped on a terminal, and elsewhere only if COLUMNS says how wide they may be.  Cells of tables are
    wrapped everywhere, elsewhere between words only.
    """

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        """Width and height in characters."""
        found = super().size
        return found if self.is_terminal or "COLUMNS" in os.environ else found._replace(width=UNLIMITED_WIDTH)

    @property
    def wraps(self) -> bool:
        """Whether long lines are wrapped."""
        return self.width < UNLIMITED_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def write(self, text: str) -> None:
        """Print text as it is.  Raises UserError if the stream cannot be written."""
        with self._written():
            try:
                self.file.write(text)
                self.file.flush()
            except BrokenPipeError:
                self.on_broken_pipe()

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich's consoles do, but no endless words.  Raises UserError if the stream cannot be written."""
        with self._written():
            if not self.wraps:
                _limit_columns(objects)
            super().print(*(shorten_words(each) if isinstance(each, str) else each for each in objects), **options)

    def lines(self, lines: Iterable[object]) -> None:
        """Print lines without markup, which are not wrapped."""
        for line in lines:
            self.print(escape(str(line)), soft_wrap=True)

    def print_each(self, pieces: Iterable[RenderableType]) -> None:
        """Print tables and other pieces, one below the other."""
        for piece in pieces:
            self.print(piece)

    def print_result(self, result: Value, render: Callable[[Value], None], as_json: bool) -> None:
        """Print the value that a function of `conformance.api` returned: as JSON, or as `render` does."""
        if as_json:
            self.write(result.to_json())
        else:
            render(result)

    def on_broken_pipe(self) -> None:
        """Print nothing more once the reader has gone, as with `| head`; the command ends with its own status."""
        self.quiet = True
        discard(self.file)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            discard(self.file)  # what it still holds would be written when Python ends, and fail again
            what = f"the output cannot be written ({error.strerror or error})"
            raise UserError(f"{what}; free some space, or send it somewhere else") from error


def _limit_columns(objects: Iterable[Any]) -> None:
    """Have the columns of tables be as wide as their longest word, or else as `COLUMN_WIDTH`."""
    from rich.table import Table

    for table in objects:
        for column in table.columns if isinstance(table, Table) else ():
            texts = [Text.from_markup(cell) if isinstance(cell, str) else cell for cell in column.cells]
            words = [cell_len(word) for text in texts if isinstance(text, Text) for word in text.plain.split()]
            column.max_width = max(COLUMN_WIDTH, *words, 0)


def discard(stream: IO[str]) -> None:
    """Discard the buffered text of a stream and all further text written to it."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


out = Terminal(highlight=False, emoji=False, soft_wrap=False)
err = Terminal(stderr=True, highlight=False, emoji=False)
UNEXPECTED, USAGE = 1, 2
"""Exit statuses of every command: it has a finding; it was used wrongly, or could not execute everything."""
