"""A source, that is an upstream test suite: where it is installed, how it is read and translated."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.model.errors import UserError
from conformance.power.harvest import sources
from conformance.power.harvest.records import CollectedRecords, Record

if TYPE_CHECKING:
    from conformance.power.harvest.translation import CaseDraft


class HarvestError(UserError):
    """A source cannot be read; the message has its name and version, the reason, and what to do."""


class SourceMovedError(Exception):
    """Raised while a source is read if its internals have changed so that something no longer exists."""


@dataclass(frozen=True)
class Source:
    """A project whose tests contain inputs for cross-entropy."""

    name: str
    """Part of the ids of its cases."""
    distribution: str
    """The distribution that determines its version."""
    modules: Mapping[str, str]
    """Modules that must be installed, with the package that installs each."""
    files: tuple[str, ...]
    """Files that are read, below the folder of the first module."""
    collect: Callable[[], CollectedRecords]
    """Reads the records, in the collector's process."""
    translate: Callable[[Record], CaseDraft]
    """Translates a record. Raises UntranslatableError."""
    url: str
    """Address of the project."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the collector's process."""
    depends: tuple[str, ...] = ()
    """Environment variables on which the records depend."""
    origin: str = ""
    """`module:attribute` of the object; filled in by the registry."""

    @property
    def version(self) -> str | None:
        """Its installed version; None if it is not installed."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def missing_modules(self) -> list[str]:
        """Missing packages, determined without imports."""
        return [package for module, package in self.modules.items() if not _is_installed(module)]

    @property
    def paths(self) -> list[Path]:
        """Paths of the files to read, existing or not."""
        top = importlib.util.find_spec(next(iter(self.modules)))
        folder = Path(top.origin).parent if top is not None and top.origin else Path()
        return [folder / file for file in self.files]


@functools.cache
def all_sources() -> dict[str, Source]:
    """Every source by name, installed or not: the folder `sources` is the registry."""
    by_name = {}
    for module in pkgutil.iter_modules(sources.__path__):
        path = f"{sources.__name__}.{module.name}"
        source: Source = importlib.import_module(path).SOURCE
        by_name[source.name] = Source(**{**vars(source), "origin": f"{path}:SOURCE"})
    return by_name


def select_sources(names: Sequence[str] = ()) -> list[Source]:
    """The sources with these names; all if empty.  Raises HarvestError for an unknown name."""
    available = all_sources()
    for name in names:
        if name not in available:
            raise HarvestError(f"unknown source '{name}'; expected one of {', '.join(available)}")
    return [source for name, source in available.items() if not names or name in names]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
