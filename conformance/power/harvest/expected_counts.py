"""How much a source must yield, by its version: `counts.toml`, so that one that collapses is noticed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import tomllib

from conformance.adapters.registry import within

FILE = Path(__file__).with_name("counts.toml")


@dataclass(frozen=True)
class Expected:
    """The least that a source yields in some versions.

    versions: PEP 440 specifiers.  found: inputs.  cases: that they are.  measured: the version that was counted; its
    cases are those that the ledger's entries about this source are held against.
    """

    versions: str
    found: int
    cases: int
    measured: str


def expected(source: str, version: str) -> Expected | None:
    """What is on record for a source in a version; None where nothing is."""
    return next((entry for entry in recorded().get(source, ()) if within(version, entry.versions)), None)


@functools.cache
def recorded() -> dict[str, tuple[Expected, ...]]:
    """Everything on record, by source."""
    said = tomllib.loads(FILE.read_text())
    return {source: tuple(Expected(**entry) for entry in entries) for source, entries in said.items()}
