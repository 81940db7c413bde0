"""How many records and cases a source must yield, by version (`counts.toml`), so that a broken source is noticed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import tomllib

from conformance.adapters.registry import within

COUNTS_FILE = Path(__file__).with_name("counts.toml")


@dataclass(frozen=True)
class ExpectedCounts:
    """Minimal counts of a source for some versions."""

    versions: str
    """PEP 440 specifiers."""
    found: int
    """Number of records."""
    cases: int
    """Number of cases."""
    measured: str
    """The version that was counted; the ledger's entries about the source are checked against its cases."""


def expected_counts(source: str, version: str) -> ExpectedCounts | None:
    """The counts recorded for a source in a version; None if there are none."""
    return next((entry for entry in load_counts().get(source, ()) if within(version, entry.versions)), None)


@functools.cache
def load_counts() -> dict[str, tuple[ExpectedCounts, ...]]:
    """All recorded counts, by source."""
    content = tomllib.loads(COUNTS_FILE.read_text())
    return {source: tuple(ExpectedCounts(**entry) for entry in entries) for source, entries in content.items()}
