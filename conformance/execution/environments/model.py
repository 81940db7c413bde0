"""What is asked for, what there is then, and why there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.model.errors import UserError

OLDEST = (3, 10)
"""The oldest Python that the worker runs on."""


@dataclass(frozen=True)
class Wanted:
    """An environment that somebody asks for.

    text: as the user wrote it.  requirements: PEP 508, names normalised, sorted.  python: the version, "" for
    any.  interpreter: an existing one, instead of requirements.  variables: what its processes find in
    their environment.  options: lines of a requirements file that say where else packages lie.
    """

    text: str
    requirements: tuple[str, ...] = ()
    python: str = ""
    interpreter: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The text as rows carry it."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Environment:
    """A place to run a worker in.

    name: the label of its rows.  variables: to be set for its processes.  packages: version by normalised
    name of the distribution.  python: the interpreter's full version.
    """

    name: str
    interpreter: Path
    variables: Mapping[str, str]
    packages: Mapping[str, str]
    python: str


class EnvironmentFailure(UserError):  # noqa: N818 - it is a value of the run, not the end of it
    """An environment that cannot be had: which, what went wrong, what to do."""

    def __init__(self, wanted: Wanted, what: str) -> None:
        super().__init__(wanted, what)
        self.wanted = wanted
        self.what = what

    def __str__(self) -> str:
        return f"{self.wanted.name}: {self.what}"
