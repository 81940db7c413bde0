"""From what is wanted to a place to run in: an interpreter chosen, versions locked, a folder made or found."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conformance.adapters import registry
from conformance.execution.environments import interpreters, uv
from conformance.execution.environments.interpreters import Interpreter
from conformance.execution.environments.model import Environment, EnvironmentFailure, Wanted
from conformance.execution.environments.sources import sources
from conformance.execution.environments.store import Made, Store, digest_of, stores, temporary
from conformance.execution.environments.uv import Refusal, Uv
from conformance.model.errors import UserError

Told = Callable[[str], None]

WORKER = "numpy"
"""What the worker itself needs in every environment."""
BFLOAT16 = "ml_dtypes"
"""What bfloat16 needs; an environment goes without where no release fits."""


def _silent(line: str) -> None:
    """Nobody listens."""


def build(wanted: Wanted, told: Told = _silent, *, refresh: bool = False) -> Environment:
    """The environment that is wanted: found again where it was made before, and otherwise made.

    told: gets a line where something takes time.  refresh: resolve open ranges now; they are resolved
    again once a day, exact pins (`==`) never.  Raises EnvironmentFailure.
    """
    if wanted.interpreter is not None:
        return _existing(wanted)
    settings = sources()
    wish = _wish(wanted, settings.stamp)
    if not refresh and (known := _recalled(wish)) is not None:
        return _environment(wanted, known)
    try:
        tool = Uv(uv.program(), settings)
        plan = _planned(wanted, tool, told)
        store, made = _made(plan, wanted, tool, told)
        store.remember(wish, plan.digest, exact=_exact(wanted))
    except Refusal as refusal:
        if refresh or not refusal.local or (known := _recalled(wish, stale=True)) is None:
            raise EnvironmentFailure(wanted, str(refusal)) from refusal
        told(f"{refusal}; the versions that were resolved before are used")
        return _environment(wanted, known)
    except OSError as error:
        raise EnvironmentFailure(wanted, f"the environment cannot be written: {error}; {_room(error)}") from error
    except EnvironmentFailure:
        raise
    except UserError as error:
        raise EnvironmentFailure(wanted, str(error)) from error
    return _environment(wanted, made)


def pinned(wanted: Wanted, told: Told = _silent) -> Pins:
    """What `build` would install on the Python of this process; raises EnvironmentFailure."""
    if wanted.interpreter is not None:
        raise EnvironmentFailure(wanted, "it is an interpreter of this machine and no other has it; give requirements")
    python = interpreters.running()
    if wanted.python and interpreters.matching(wanted.python, []) != python:
        raise EnvironmentFailure(wanted, f"there is the Python of this run, {python.version}, and no other")
    try:
        told(f"resolving for Python {python.version} ...")
        lock = _locked(wanted, python, Uv(uv.program(), sources()))
    except (Refusal, UserError) as error:
        raise EnvironmentFailure(wanted, f"on Python {python.version}, the only one there, {error}") from error
    return Pins((*wanted.options, *lock.splitlines()), _versions(lock))


@dataclass(frozen=True)
class Pins:
    """What is to be installed elsewhere: lines of a requirements file, and versions by normalised name."""

    lines: tuple[str, ...]
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """What is to be installed, exactly, and on what.  lock: one pinned requirement a line."""

    python: Interpreter
    lock: str

    @property
    def digest(self) -> str:
        return digest_of(self.lock, self.python.version)


def _existing(wanted: Wanted) -> Environment:
    assert wanted.interpreter is not None
    try:
        said = interpreters.ask(wanted.interpreter)
    except UserError as error:
        raise EnvironmentFailure(wanted, str(error)) from error
    named = [name for framework in registry.frameworks() for name in framework.distributions]
    if not said.packages.keys() & set(map(canonicalize_name, named)):
        raise EnvironmentFailure(wanted, f"none of {', '.join(named)} is installed there")
    if WORKER not in said.packages:
        raise EnvironmentFailure(wanted, f"{WORKER} is not installed there, and the worker needs it; install it there")
    return Environment(wanted.name, wanted.interpreter, wanted.variables, said.packages, said.version)


def _environment(wanted: Wanted, made: Made) -> Environment:
    return Environment(wanted.name, made.interpreter, wanted.variables, made.packages, made.python)


def _wish(wanted: Wanted, stamp: str) -> str:
    """Names a wish in the index: all that decides what it leads to, but for what the package index holds."""
    needs = [[framework.distributions, framework.needs] for framework in registry.frameworks()]
    here = [platform.python_version(), sys.implementation.name, sys.platform, platform.machine()]
    parts = [wanted.requirements, wanted.options, wanted.python, stamp, needs, here]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _recalled(wish: str, *, stale: bool = False) -> Made | None:
    return next((made for store in stores() if (made := store.recall(wish, stale=stale)) is not None), None)


def _exact(wanted: Wanted) -> bool:
    """Whether every requirement names one version."""
    asked = map(Requirement, wanted.requirements)
    return all(
        one.url or [(spec.operator, "*" in spec.version) for spec in one.specifier] == [("==", False)] for one in asked
    )


# Which versions, on which Python.


def _planned(wanted: Wanted, tool: Uv, told: Told) -> Plan:
    """The first interpreter on which everything resolves, and what it resolves to; raises Refusal."""
    tried: list[tuple[Interpreter, Refusal]] = []
    for python in _candidates(wanted, tool, told):
        told(f"resolving for Python {python.version} ...")
        try:
            return Plan(python, _locked(wanted, python, tool))
        except Refusal as refusal:
            tried.append((python, refusal))
            if refusal.final:
                break
    python, first = tried[0]
    if tried[-1][1].final:
        raise tried[-1][1]
    if wanted.python:
        raise Refusal(f"on Python {python.version} {first}; choose another Python, or change the requirements")
    versions = ", ".join(one.version for one, _ in tried)
    advice = "install another Python, or change the requirements"
    raise Refusal(f"no Python here will do ({versions} tried); on {python.version} {first}; {advice}")


def _candidates(wanted: Wanted, tool: Uv, told: Told) -> Iterator[Interpreter]:
    if not wanted.python:
        yield from interpreters.by_preference(lambda: _listed(tool))
        return
    found = interpreters.matching(wanted.python, [])
    found = found or interpreters.matching(wanted.python, _listed(tool))
    if found is None and "automatic" in (os.environ.get("UV_PYTHON_DOWNLOADS"), tool.sources.python_downloads):
        told(f"downloading Python {wanted.python} ...")
        tool.run("python", "install", wanted.python, extra={"UV_PYTHON_DOWNLOADS": "automatic"})
        found = interpreters.matching(wanted.python, _listed(tool))
    if found is None:
        have = ", ".join(dict.fromkeys(one.version for one in [interpreters.running(), *_listed(tool)]))
        advice = f"install it, for example with `uv python install {wanted.python}`"
        raise Refusal(f"there is no Python {wanted.python} here, only {have}; {advice}")
    yield found


def _listed(tool: Uv) -> list[Interpreter]:
    """The other interpreters here: pyenv's, and those that uv finds on PATH or has installed."""
    try:
        listed = tool.run("python", "list", "--only-installed")
    except Refusal:
        listed = ""
    return [*interpreters.pyenv(), *interpreters.of_uv(listed)]


def _locked(wanted: Wanted, python: Interpreter, tool: Uv) -> str:
    """The lock, with what the metadata of old releases forgets to say; raises Refusal."""
    asked = dict.fromkeys([*wanted.requirements, WORKER])
    added: dict[str, str] = {}
    while True:
        try:
            lock = _compiled([*asked, *added], wanted, python, tool)
        except Refusal as refusal:
            if not added:
                raise
            why = ", ".join(f"{name} for {release}" for name, release in added.items())
            raise Refusal(f"{refusal}; added were {why}", final=refusal.final, local=refusal.local) from refusal
        missing = {need: release for need, release in _forgotten(_versions(lock)) if need not in added}
        if not missing:
            return lock
        added |= missing


def _forgotten(versions: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(requirement, release) of what a framework's release needs and does not say, and the lock does not meet."""
    for framework in registry.frameworks():
        present = [
            (name, versions[name]) for name in map(canonicalize_name, framework.distributions) if name in versions
        ]
        for name, version in present[:1]:
            for specifiers, need in framework.needs:
                required = Requirement(need)
                have = versions.get(canonicalize_name(required.name))
                met = have is not None and registry.within(have, str(required.specifier))
                if registry.within(version, specifiers) and not met:
                    yield need, f"{name} {version}"


def _compiled(asked: Sequence[str], wanted: Wanted, python: Interpreter, tool: Uv) -> str:
    """One resolution, with bfloat16 where it resolves; raises Refusal."""
    try:
        return _compile([*asked, BFLOAT16], wanted, python, tool)
    except Refusal as refusal:
        if refusal.local:
            raise
    return _compile(asked, wanted, python, tool)


def _compile(asked: Sequence[str], wanted: Wanted, python: Interpreter, tool: Uv) -> str:
    words = ("pip", "compile", "-", "--python", str(python.path), "--no-header", "--no-annotate", "--no-sources")
    locked = tool.run(
        *words, *_wheels(tool), stdin="\n".join([*wanted.options, *asked, ""]), extra=_rules(wanted, tool)
    )
    lines = [line.strip() for line in locked.splitlines()]
    return "".join(f"{line}\n" for line in sorted(lines) if line and not line.startswith(("#", "-")))


def _versions(lock: str) -> dict[str, str]:
    """Version by normalised name; of what has no number (a URL), the URL."""
    pinned = [Requirement(line) for line in lock.splitlines()]
    return {
        canonicalize_name(one.name): next((spec.version for spec in one.specifier), one.url or "") for one in pinned
    }


def _wheels(tool: Uv) -> tuple[str, ...]:
    """Wheels only: nothing that is downloaded runs code of its own or needs a compiler."""
    return ("--only-binary", ":all:", *tool.sources.flags)


def _rules(wanted: Wanted, tool: Uv) -> dict[str, str]:
    """Where a requirements file brings indexes of its own they count as pip counts them."""
    theirs = "UV_INDEX_STRATEGY" in os.environ or not wanted.options
    return {} if theirs else {"UV_INDEX_STRATEGY": "unsafe-best-match"}


# The folder.


def _made(plan: Plan, wanted: Wanted, tool: Uv, told: Told) -> tuple[Store, Made]:
    """The environment of a plan: one that is there, or a new one; not kept where the cache is read-only."""
    places = stores()
    for store in places:
        if (made := store.read(plan.digest)) is not None:
            return store, made
    if places:
        try:
            return places[0], _made_in(places[0], plan, wanted, tool, told)
        except _UnwritableError as unwritable:
            told(f"{unwritable}; the environment is made in a temporary folder, for this run only")
    return temporary(), _made_in(temporary(), plan, wanted, tool, told)


class _UnwritableError(Exception):
    """A store that cannot be written, and why."""


def _made_in(store: Store, plan: Plan, wanted: Wanted, tool: Uv, told: Told) -> Made:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.locked(plan.digest, told))
        except OSError as error:
            reason = error.strerror or error
            raise _UnwritableError(f"the cache folder {store.root} cannot be written ({reason})") from error
        return store.read(plan.digest) or _installed(store, plan, wanted, tool, told)


def _installed(store: Store, plan: Plan, wanted: Wanted, tool: Uv, told: Told) -> Made:
    folder = store.folder(plan.digest)
    if folder.exists():
        told(f"{folder} is not whole and is made again ...")
        shutil.rmtree(folder)
    try:
        tool.run("venv", "--no-project", "--python", str(plan.python.path), str(folder))
        told(f"installing {len(plan.lock.splitlines())} packages ...")
        words = ("pip", "sync", "-", "--python", str(interpreters.executable_in(folder)), *_wheels(tool))
        tool.run(*words, stdin="\n".join([*wanted.options, plan.lock]), extra=_rules(wanted, tool))
        made = store.seal(plan.digest, plan.lock)
        if made.python != plan.python.version:
            raise UserError(f"{plan.python.path} says it is Python {plan.python.version} and is {made.python}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return made


def _room(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: make room, or name another cache folder with CONFORMANCE_CACHE"
    return "make the cache folder writable, or name another with CONFORMANCE_CACHE"
