"""The layout of tables and indented paragraphs in a terminal: no word is broken.

Imports nothing slow, as `cli.terminal` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

GAP = 2
"""Number of blanks between columns."""
INDENT = 4
"""Number of blanks before cells that stand below the first cell of their row."""
MAX_LINES = 4
"""Number of lines of a cell from which on it is easier to read below the others than beside them."""


class Paragraph:
    """Indented text that is wrapped between words; a word that is longer than a line exceeds it."""

    def __init__(self, text: Text, indent: int) -> None:
        self.text = text
        self.indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.text.split(allow_blank=True):
            for piece in line.divide(_breaks(line.plain, options.max_width - self.indent)):
                piece.rstrip()
                piece.pad_left(self.indent)
                piece.no_wrap, piece.overflow = True, "ignore"
                yield piece


def _breaks(line: str, width: int) -> list[int]:
    """The positions of the words with which a new line begins."""
    positions, begin = [], 0
    for word in re.finditer(r"\S+", line):
        if cell_len(line[begin : word.end()]) > width and line[begin : word.start()].strip():
            begin = word.start()
            positions.append(begin)
    return positions


def arrange(renderable: RenderableType, width: int, longest: int = 0) -> Iterator[RenderableType]:
    """Yield what is printed for a renderable so that no word of a text or a table is broken.  longest: see `_fit`."""
    if isinstance(renderable, str):
        renderable = Text.from_markup(renderable, emoji=False)
    if isinstance(renderable, Table):
        yield from _fit(renderable, width, longest)
    elif isinstance(renderable, Padding) and isinstance(renderable.renderable, Text):
        yield Paragraph(renderable.renderable, renderable.left)
    elif isinstance(renderable, Text):
        yield Paragraph(renderable, 0)
    else:
        yield renderable


def _fit(table: Table, width: int, longest: int) -> Iterator[RenderableType]:
    """Yield a table with columns that fit a width between words.

    If they are too wide, the first cell of each row stands above the others; if these are still too wide, each cell
    is a line of its own.

    longest: width of a column from which on its lines are wrapped although there is room; 0 for none.
    """
    rows = [[_text(cell) for cell in cells] for cells in zip(*(column.cells for column in table.columns), strict=True)]
    header = [_text(column.header) for column in table.columns]
    columns = [list(cells) for cells in zip(header, *rows, strict=True)]
    words = [max(_widest(cell.plain.split()) for cell in cells) for cells in columns]
    lines = [max(_widest(cell.plain.splitlines()) for cell in cells) for cells in columns]
    line_widths = [max(word, min(line, longest or line)) for word, line in zip(words, lines, strict=True)]
    if (widths := _column_widths(words, line_widths, width)) is not None:
        for column, chosen in zip(table.columns, widths, strict=True):
            column.width = chosen
        yield table
        return
    if table.title:
        yield Paragraph(_text(table.title), 0)
    widths = _column_widths(words[1:], line_widths[1:], width - INDENT)
    justified = [column.justify for column in table.columns[1:]]
    for row, ends in zip([header, *rows], [False, *(row.end_section for row in table.rows)], strict=True):
        first, *values = row
        if row is not header or widths is not None:
            yield Paragraph(first, 0)
        if widths is not None and any(cell.plain for cell in values):
            grid = Table.grid(padding=(0, GAP, 0, 0))
            for chosen, side in zip(widths, justified, strict=True):
                grid.add_column(width=chosen, justify=side)
            grid.add_row(*values)
            yield Padding(grid, (0, 0, 0, INDENT), expand=False)
        elif row is not header:
            labelled_cells = zip(header[1:], values, strict=True)
            yield from (
                Paragraph(Text.assemble(f"{name.plain}: ", cell), INDENT) for name, cell in labelled_cells if cell.plain
            )
        if ends:
            yield ""


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text.from_markup(str(cell), emoji=False)


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _column_widths(words: Sequence[int], line_widths: Sequence[int], width: int) -> list[int] | None:
    """The widths of columns: what they want, or less by a common share of the room; None if they are too wide.

    words: the longest word of each column.
    """
    available = width - GAP * (len(words) - 1) - sum(words)
    if available < 0:
        return None
    widths = list(words)
    by_need = sorted(range(len(words)), key=lambda index: line_widths[index] - words[index])
    for number, index in enumerate(by_need):
        added = min(line_widths[index] - words[index], available // (len(words) - number))
        widths[index] += added
        available -= added
    is_readable = all(want <= MAX_LINES * chosen for want, chosen in zip(line_widths, widths, strict=True))
    return widths if is_readable else None
