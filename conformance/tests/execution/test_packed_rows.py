"""Rows of a run that are packed: the same as those that were added, in order, and few bytes."""

import pytest

from conformance.judging import packed_rows
from conformance.judging.packed_rows import PackedRows
from conformance.judging.row import COLUMNS, Row
from conformance.report import frames
from conformance.tests.report.test_report import row

ROWS = [
    Row.of(row("torch.B", case=f"binary/{n}", error=None, ratio=n / 3, got=f"[{n}.5, 1e-300]", call="x" * n))
    for n in (5, 3, 8, 0, 7)
]


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(packed_rows, "PART", 2)


def test_packed_rows_are_restored_unchanged():
    packed = PackedRows(ROWS)
    assert len(packed) == len(ROWS)
    assert [one.cells for one in packed] == [one.cells for one in ROWS]
    assert packed.column("ratio").to_pylist() == [one.ratio for one in ROWS]


def test_interruption_of_packing_neither_loses_nor_duplicates_rows(monkeypatch):
    def interrupted(rows):
        monkeypatch.undo()
        monkeypatch.setattr(packed_rows, "PART", 2)
        raise KeyboardInterrupt

    packed = PackedRows(ROWS[:1])
    monkeypatch.setattr(packed_rows, "_pack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed.append(ROWS[1])
    packed.extend(ROWS[2:])
    assert [one.key for one in packed] == [one.key for one in ROWS]


def test_frame_of_packed_rows_is_sorted_and_complete():
    table = frames.frame(PackedRows(ROWS))
    assert list(table.columns) == list(COLUMNS)
    assert table["case"].is_monotonic_increasing
    expected = sorted((one.cells for one in ROWS), key=lambda cells: cells["case"])
    assert [one.cells for one in frames.read_rows(table)] == expected
