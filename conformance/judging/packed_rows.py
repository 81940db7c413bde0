"""Hold the rows of a run in little memory: by column, compressed in parts of a few thousand rows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from conformance.judging.row import COLUMNS, FLOATS, Row, column_of
from conformance.model.text import printable

if TYPE_CHECKING:
    import pyarrow as pa

PART = 4096
"""Number of rows in a compressed part."""


class PackedRows:
    """Rows in the order in which they were added.

    Iteration creates new `Row` objects for compressed rows, with their texts as in `column_array`.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._parts: tuple[tuple[bytes, ...], list[Row]] = ((), [])
        """Compressed parts and the rows after them; assigned together, so that an interruption cannot separate them."""
        self.extend(rows)

    def __len__(self) -> int:
        packed, rows = self._parts
        return len(packed) * PART + len(rows)

    def __iter__(self) -> Iterator[Row]:
        packed, rows = self._parts
        for part in packed:
            yield from map(Row.of, _unpack(part, COLUMNS).to_pylist())
        yield from rows

    def append(self, row: Row) -> None:
        """Add a row."""
        packed, rows = self._parts
        rows.append(row)
        if len(rows) >= PART:
            self._parts = ((*packed, _pack(rows[:PART])), rows[PART:])

    def extend(self, rows: Iterable[Row]) -> None:
        """Add several rows."""
        for row in rows:
            self.append(row)

    def column(self, name: str) -> pa.ChunkedArray:
        """The cells of all rows in a column."""
        import pyarrow as pa

        packed, rows = self._parts
        chunks = [chunk for part in packed for chunk in _unpack(part, [name]).column(0).chunks]
        return pa.chunked_array([*chunks, column_array(name, column_of(rows, name))])


def column_array(name: str, cells: Sequence[Any]) -> pa.Array:
    """Cells of a column as an Arrow array.

    Escapes control characters and lone surrogates: the message of an exception may contain them, a file may not.
    """
    import pyarrow as pa

    if name in FLOATS:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    if set(map(type, cells)) != {str}:
        cells = ["" if cell is None else str(cell) for cell in cells]
    clean = {text: printable(text) for text in set(cells)}
    return pa.array(list(map(clean.__getitem__, cells)), pa.large_string())


def _pack(rows: Sequence[Row]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    packed = io.BytesIO()
    table = pa.table({name: column_array(name, column_of(rows, name)) for name in COLUMNS})
    parquet.write_table(table, packed, compression="zstd", write_statistics=False)
    return packed.getvalue()


def _unpack(packed: bytes, columns: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    return parquet.read_table(pa.BufferReader(packed), columns=list(columns), use_threads=False)
