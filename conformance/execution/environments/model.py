"""Values of this package: the request for an environment, the environment, and the failure to provide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.model.errors import UserError

MIN_PYTHON = (3, 10)
"""Oldest Python version on which the worker runs."""


@dataclass(frozen=True)
class EnvironmentRequest:
    """A request for an environment."""

    text: str
    """The request as the user wrote it."""
    requirements: tuple[str, ...] = ()
    """PEP 508 requirements with normalised names, sorted."""
    python: str = ""
    """Python version; "" means any."""
    interpreter: Path | None = None
    """An existing interpreter, instead of requirements."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of its processes."""
    options: tuple[str, ...] = ()
    """Lines of a requirements file that name other locations of packages."""

    @property
    def name(self) -> str:
        """The text, as written to rows."""
        return " ".join(self.text.split())


@dataclass(frozen=True)
class Environment:
    """An interpreter with a framework, in which a worker can run."""

    name: str
    """The label of its rows."""
    interpreter: Path
    variables: Mapping[str, str]
    """Environment variables to be set for its processes."""
    packages: Mapping[str, str]
    """Version by normalised name of the distribution."""
    python: str
    """Full version of the interpreter."""


class EnvironmentFailure(UserError):  # noqa: N818 - it is a value of the run, not the end of it
    """An environment cannot be provided; the message says which, why, and what to do."""

    def __init__(self, request: EnvironmentRequest, message: str) -> None:
        super().__init__(request, message)
        self.request = request
        self.message = message

    def __str__(self) -> str:
        return f"{self.request.name}: {self.message}"
