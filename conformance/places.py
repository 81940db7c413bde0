"""Where frameworks run: each in a process of its own beside this one, or in environments made for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from conformance import registry
from conformance.adapter import Framework
from conformance.errors import UserError
from conformance.registry import Installed
from conformance.suite import COLUMNS, Row
from conformance.workers.crew import TIMEOUT, Crew, Place

if TYPE_CHECKING:
    from conformance.environments import Environment, Wanted


@dataclass(frozen=True)
class Places:
    """Workers, what they can be asked, and a row for each environment that cannot be had.

    crew: None where calls are made in this process.
    """

    crew: Crew | None
    there: list[Installed]
    failed: list[Row] = field(default_factory=list)


def crew_here(here: Iterable[Installed], timeout: float = TIMEOUT) -> Crew:
    """A worker for each framework that is installed here, each in a process of its own."""
    python = Path(sys.executable)
    return Crew({found.worker: place(found.worker, found.framework, python) for found in here}, timeout)


def place(name: str, framework: Framework, interpreter: Path, variables: Mapping[str, str] | None = None) -> Place:
    """Where a worker for a framework runs."""
    origin = registry.origin(framework)
    return Place(name, interpreter, origin.adapter, origin.file, variables or {})


def places_of(
    texts: Sequence[str], told: Callable[[str], None], names: Sequence[str] = (), timeout: float = TIMEOUT
) -> Places:
    """Workers in the environments that are asked for, as after `--with`.

    names: of frameworks, where not all are meant.  told: gets a line for each step.  An environment that
    cannot be made, or whose framework cannot be imported, is a row of the report and the others go on; raises
    UserError where none is left.
    """
    from conformance.environments import build, parse  # which a run without them does not need

    failed: list[Row] = []
    wanted: dict[str, tuple[Framework, Environment]] = {}
    for text in texts:
        try:
            found = parse(text)
            environment = build(found, told)
            wanted |= {
                f"{framework.name} in {environment.name}": (framework, environment)
                for framework in _meant(found, environment)
                if framework.name in names or not names
            }
        except UserError as error:
            failed.append(failed_row(text, "", str(error)))
    crew = Crew(
        {name: place(name, framework, made.interpreter, made.variables) for name, (framework, made) in wanted.items()},
        timeout,
    )
    there = []
    for name, (framework, environment) in wanted.items():
        try:
            facts = crew.facts(name)
        except UserError as error:
            failed.append(failed_row(environment.name, framework.name, str(error)))
        else:
            there.append(Installed(framework, environment=environment.name, **asdict(facts)))
    if not there:
        crew.close()
        raise UserError("\n".join(row["explanation"] for row in failed))
    return Places(crew, there, failed)


def _meant(wanted: Wanted, environment: Environment) -> list[Framework]:
    """The frameworks that an environment is for: those named outside brackets, or all that a file or a venv has."""
    there = set(map(str, environment.packages))
    named = {
        str(canonicalize_name(word)) for word in re.findall(r"[A-Za-z][\w.-]*", re.sub(r"\[.*?\]", "", wanted.text))
    }
    found = [f for f in registry.frameworks() if there & set(f.distributions)]
    if not found:
        known = ", ".join(framework.distributions[0] for framework in registry.frameworks())
        raise UserError(f"{environment.name}: none of {known} is in it, so there is nothing to run; name one of them")
    return [f for f in found if named & set(f.distributions)] or found


def failed_row(environment: str, framework: str, why: str) -> Row:
    """The row that stands for everything that an environment would have been asked."""
    told = {
        "framework": framework,
        "function": environment,
        "environment": environment,
        "device": "cpu",
        "status": "crashed",
        "explanation": why,
        "expected": "unexpected",
    }
    numbers = dict.fromkeys(("error", "budget", "ratio", "ulps"))
    return {name: numbers[name] if name in numbers else told.get(name, "") for name in COLUMNS}
