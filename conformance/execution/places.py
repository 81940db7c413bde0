"""Where frameworks run: each in a process of its own beside this one, or in environments made for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.registry import Installed
from conformance.execution.workers.crew import TIMEOUT, WorkerPool, WorkerSpec
from conformance.judging.reasons import Unavailable
from conformance.judging.rendering import render
from conformance.judging.row import Record, Row, record
from conformance.model.errors import UserError
from conformance.model.row_key import RowKey

if TYPE_CHECKING:
    from conformance.execution.environments import EnvironmentRequest


@dataclass(frozen=True)
class Places:
    """Workers, what they can be asked, and a row for each environment that cannot be had.

    crew: None where calls are made in this process.
    """

    crew: WorkerPool | None
    there: list[Installed]
    failed: list[Record] = field(default_factory=list)


def crew_here(here: Iterable[Installed], timeout: float = TIMEOUT) -> WorkerPool:
    """A worker for each framework that is installed here, each in a process of its own."""
    python = Path(sys.executable)
    return WorkerPool({found.worker: place(found.worker, found.framework, python) for found in here}, timeout)


def place(name: str, framework: Framework, interpreter: Path, variables: Mapping[str, str] | None = None) -> WorkerSpec:
    """Where a worker for a framework runs."""
    origin = registry.origin(framework)
    return WorkerSpec(name, interpreter, origin.adapter, origin.file, variables or {})


def places_of(
    texts: Sequence[str],
    told: Callable[[str], None],
    names: Sequence[str] = (),
    timeout: float = TIMEOUT,
    ray: str | None = None,
) -> Places:
    """Workers in the environments that are asked for, as after `--with`.

    names: of frameworks, where not all are meant.  told: gets a line for each step.  ray: address of a Ray
    cluster to run on, "" for RAY_ADDRESS or a Ray of this machine; None: no Ray.  An environment that cannot be
    made, or whose framework cannot be imported, is a row of the report and the others go on; raises UserError
    where none is left.
    """
    meant, failed = meant_by(texts, told, names, ray)
    crew = _crew({one.place.name: one.place for one in meant}, told, timeout, ray)
    there: list[Installed] = []
    for one in meant:
        try:
            facts = crew.facts(one.place.name)
        except UserError as error:
            failed.append(failed_row(one.environment, one.framework.name, str(error)))
        else:
            there.append(Installed(one.framework, environment=one.environment, **asdict(facts)))
    if not there:
        crew.close()
    return Places(crew, found_in(there, failed), failed)


@dataclass(frozen=True)
class Meant:
    """A framework in an environment that is made, and the place of its worker: a `WorkerSpec`, or Ray's."""

    framework: Framework
    environment: str
    place: Any


def meant_by(
    texts: Sequence[str], told: Callable[[str], None], names: Sequence[str] = (), ray: str | None = None
) -> tuple[list[Meant], list[Record]]:
    """What is to run in the environments that are asked for, and a row for each that cannot be made; see `places_of`.

    No worker is started yet.
    """
    from conformance.execution.environments import parse  # which a run without them does not need

    find = _found_here if ray is None else _found_on_ray
    failed: list[Record] = []
    meant: dict[str, Meant] = {}
    for text in texts:
        try:
            asked = parse(text)
            packages, placed = find(asked, told)
            for framework in _frameworks_in(asked, packages):
                if framework.name in names or not names:
                    name = registry.worker(framework.name, asked.name)
                    meant[name] = Meant(framework, asked.name, placed(name, framework))
        except UserError as error:
            failed.append(failed_row(text, "", str(error)))
    return list(meant.values()), failed


def found_in(there: list[Installed], failed: Sequence[Record]) -> list[Installed]:
    """What was found in environments; raises UserError where that is nothing."""
    if not there:
        raise UserError("\n".join(row["explanation"] for row in failed))
    return there


Found = tuple[Mapping[str, str], Callable[[str, Framework], Any]]
"""Versions by distribution, and the place of a worker by its name and framework."""


def _found_here(wanted: EnvironmentRequest, told: Callable[[str], None]) -> Found:
    from conformance.execution.environments import build

    made = build(wanted, told)
    return made.packages, lambda name, framework: place(name, framework, made.interpreter, made.variables)


def _found_on_ray(wanted: EnvironmentRequest, told: Callable[[str], None]) -> Found:
    from conformance.execution.environments import read_sources, resolve_pins
    from conformance.execution.workers.on_ray import RayWorkerSpec

    pins, index = resolve_pins(wanted, told), read_sources()

    def placed(name: str, framework: Framework) -> RayWorkerSpec:
        origin = registry.origin(framework)
        return RayWorkerSpec(
            name,
            origin.adapter,
            origin.file,
            wanted.variables,
            pins.lines,
            index.indexes,
            index.links,
            index.first_index,
            index.flags,
            index.variables,
        )

    return pins.packages, placed


def _crew(places: Mapping[str, Any], told: Callable[[str], None], timeout: float, ray: str | None) -> WorkerPool:
    if ray is None:
        return WorkerPool(places, timeout)
    from conformance.execution.workers.on_ray import RayWorkerPool

    return RayWorkerPool(places, timeout, ray, told)


def _frameworks_in(wanted: EnvironmentRequest, packages: Mapping[str, str]) -> list[Framework]:
    """The frameworks that an environment is for: those named outside brackets, or all that a file or a venv has."""
    there = set(packages)
    named = {
        str(canonicalize_name(word)) for word in re.findall(r"[A-Za-z][\w.-]*", re.sub(r"\[.*?\]", "", wanted.text))
    }
    found = [f for f in registry.frameworks() if there & set(f.distributions)]
    if not found:
        known = ", ".join(framework.distributions[0] for framework in registry.frameworks())
        raise UserError(f"{wanted.name}: none of {known} is in it, so there is nothing to run; name one of them")
    return [f for f in found if named & set(f.distributions)] or found


def failed_row(environment: str, framework: str, why: str) -> Record:
    """The row that stands for everything that an environment would have been asked."""
    reason = Unavailable(why)
    key = RowKey("", "", environment, "", "", "", environment)
    return record(
        Row(
            key=key,
            framework=framework,
            status="crashed",
            expected="unexpected",
            reason_code=reason.code,
            explanation=render(reason),
        )
    )
