"""Builds an environment from a request: selects an interpreter, locks versions, and installs them or finds them
installed.
"""

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
from conformance.execution.environments.model import Environment, EnvironmentFailure, EnvironmentRequest
from conformance.execution.environments.sources import read_sources
from conformance.execution.environments.store import (
    InstalledEnvironment,
    Store,
    digest_of,
    existing_stores,
    temporary_store,
)
from conformance.execution.environments.uv import Refusal, Uv
from conformance.model.errors import UserError

ProgressCallback = Callable[[str], None]

WORKER_REQUIREMENT = "numpy"
"""What the worker itself needs in each environment."""
BFLOAT16_REQUIREMENT = "ml_dtypes"
"""What bfloat16 needs; it is left out if no release is compatible."""


def _no_progress(line: str) -> None:
    """Ignore progress messages."""


def build(
    request: EnvironmentRequest, progress: ProgressCallback = _no_progress, *, refresh: bool = False
) -> Environment:
    """Return the requested environment; install it if it does not exist.

    progress: called with a line of text before each step that takes time.
    refresh: resolve version ranges now. Otherwise they are resolved once a day; exact pins (`==`) never again.
    Raises EnvironmentFailure.
    """
    if request.interpreter is not None:
        return _existing_environment(request)
    settings = read_sources()
    request_key = _request_key(request, settings.stamp)
    if not refresh and (cached := _find_cached(request_key)) is not None:
        return _environment(request, cached)
    try:
        tool = Uv(uv.find_program(), settings)
        plan = _make_plan(request, tool, progress)
        store, installed = _obtain(plan, request, tool, progress)
        store.remember(request_key, plan.digest, exact=_is_pinned(request))
    except Refusal as refusal:
        if refresh or not refusal.is_local or (cached := _find_cached(request_key, stale=True)) is None:
            raise EnvironmentFailure(request, str(refusal)) from refusal
        progress(f"{refusal}; the versions that were resolved before are used")
        return _environment(request, cached)
    except OSError as error:
        raise EnvironmentFailure(
            request, f"the environment cannot be written: {error}; {_space_advice(error)}"
        ) from error
    except EnvironmentFailure:
        raise
    except UserError as error:
        raise EnvironmentFailure(request, str(error)) from error
    return _environment(request, installed)


def resolve_pins(request: EnvironmentRequest, progress: ProgressCallback = _no_progress) -> Pins:
    """What `build` would install on the Python of this process. Raises EnvironmentFailure."""
    if request.interpreter is not None:
        raise EnvironmentFailure(request, "it is an interpreter of this machine and no other has it; give requirements")
    python = interpreters.running_interpreter()
    if request.python and interpreters.find_matching(request.python, []) != python:
        raise EnvironmentFailure(request, f"there is the Python of this run, {python.version}, and no other")
    try:
        progress(f"resolving for Python {python.version} ...")
        lock = _lock(request, python, Uv(uv.find_program(), read_sources()))
    except (Refusal, UserError) as error:
        raise EnvironmentFailure(request, f"on Python {python.version}, the only one there, {error}") from error
    return Pins((*request.options, *lock.splitlines()), _versions(lock))


@dataclass(frozen=True)
class Pins:
    """Packages to be installed elsewhere."""

    lines: tuple[str, ...]
    """Lines of a requirements file."""
    packages: Mapping[str, str]
    """Version by normalised name."""


@dataclass(frozen=True)
class Plan:
    """Exactly what is to be installed, and on which interpreter."""

    python: Interpreter
    lock: str
    """One pinned requirement per line."""

    @property
    def digest(self) -> str:
        return digest_of(self.lock, self.python.version)


def _existing_environment(request: EnvironmentRequest) -> Environment:
    assert request.interpreter is not None
    try:
        interpreter = interpreters.query(request.interpreter)
    except UserError as error:
        raise EnvironmentFailure(request, str(error)) from error
    distributions = [name for framework in registry.frameworks() for name in framework.distributions]
    if not interpreter.packages.keys() & set(map(canonicalize_name, distributions)):
        raise EnvironmentFailure(request, f"none of {', '.join(distributions)} is installed there")
    if WORKER_REQUIREMENT not in interpreter.packages:
        raise EnvironmentFailure(
            request, f"{WORKER_REQUIREMENT} is not installed there, and the worker needs it; install it there"
        )
    return Environment(request.name, request.interpreter, request.variables, interpreter.packages, interpreter.version)


def _environment(request: EnvironmentRequest, installed: InstalledEnvironment) -> Environment:
    return Environment(request.name, installed.interpreter, request.variables, installed.packages, installed.python)


def _request_key(request: EnvironmentRequest, stamp: str) -> str:
    """Key of a request in the index: a digest of all that determines the result, except the content of the package
    index.
    """
    needs = [[framework.distributions, framework.needs] for framework in registry.frameworks()]
    platform_key = [platform.python_version(), sys.implementation.name, sys.platform, platform.machine()]
    parts = [request.requirements, request.options, request.python, stamp, needs, platform_key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _find_cached(request_key: str, *, stale: bool = False) -> InstalledEnvironment | None:
    return next(
        (installed for store in existing_stores() if (installed := store.lookup(request_key, stale=stale)) is not None),
        None,
    )


def _is_pinned(request: EnvironmentRequest) -> bool:
    """Whether each requirement names a single version."""
    requirements = map(Requirement, request.requirements)
    return all(
        requirement.url or [(spec.operator, "*" in spec.version) for spec in requirement.specifier] == [("==", False)]
        for requirement in requirements
    )


# Which versions, on which Python.


def _make_plan(request: EnvironmentRequest, tool: Uv, progress: ProgressCallback) -> Plan:
    """The first interpreter on which the requirements resolve, with the resolution. Raises Refusal."""
    refusals: list[tuple[Interpreter, Refusal]] = []
    for python in _candidates(request, tool, progress):
        progress(f"resolving for Python {python.version} ...")
        try:
            return Plan(python, _lock(request, python, tool))
        except Refusal as refusal:
            refusals.append((python, refusal))
            if refusal.is_final:
                break
    python, first = refusals[0]
    if refusals[-1][1].is_final:
        raise refusals[-1][1]
    if request.python:
        raise Refusal(f"on Python {python.version} {first}; choose another Python, or change the requirements")
    versions = ", ".join(one.version for one, _ in refusals)
    advice = "install another Python, or change the requirements"
    raise Refusal(f"no Python here will do ({versions} tried); on {python.version} {first}; {advice}")


def _candidates(request: EnvironmentRequest, tool: Uv, progress: ProgressCallback) -> Iterator[Interpreter]:
    if not request.python:
        yield from interpreters.in_order_of_preference(lambda: _other_interpreters(tool))
        return
    found = interpreters.find_matching(request.python, [])
    found = found or interpreters.find_matching(request.python, _other_interpreters(tool))
    if found is None and "automatic" in (os.environ.get("UV_PYTHON_DOWNLOADS"), tool.sources.python_downloads):
        progress(f"downloading Python {request.python} ...")
        tool.run("python", "install", request.python, extra={"UV_PYTHON_DOWNLOADS": "automatic"})
        found = interpreters.find_matching(request.python, _other_interpreters(tool))
    if found is None:
        available = ", ".join(
            dict.fromkeys(one.version for one in [interpreters.running_interpreter(), *_other_interpreters(tool)])
        )
        advice = f"install it, for example with `uv python install {request.python}`"
        raise Refusal(f"there is no Python {request.python} here, only {available}; {advice}")
    yield found


def _other_interpreters(tool: Uv) -> list[Interpreter]:
    """Other interpreters of this machine: those of pyenv, and those that uv finds on PATH or has installed."""
    try:
        listed = tool.run("python", "list", "--only-installed")
    except Refusal:
        listed = ""
    return [*interpreters.pyenv_interpreters(), *interpreters.parse_uv_list(listed)]


def _lock(request: EnvironmentRequest, python: Interpreter, tool: Uv) -> str:
    """Resolve the requirements, adding what the metadata of old releases omits. Raises Refusal."""
    requirements = dict.fromkeys([*request.requirements, WORKER_REQUIREMENT])
    added: dict[str, str] = {}
    while True:
        try:
            lock = _compile_with_bfloat16([*requirements, *added], request, python, tool)
        except Refusal as refusal:
            if not added:
                raise
            why = ", ".join(f"{name} for {release}" for name, release in added.items())
            raise Refusal(f"{refusal}; added were {why}", final=refusal.is_final, local=refusal.is_local) from refusal
        missing = {need: release for need, release in _undeclared_requirements(_versions(lock)) if need not in added}
        if not missing:
            return lock
        added |= missing


def _undeclared_requirements(versions: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs (requirement, release) that a framework's release needs, does not declare, and the lock does not
    satisfy.
    """
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


def _compile_with_bfloat16(
    requirements: Sequence[str], request: EnvironmentRequest, python: Interpreter, tool: Uv
) -> str:
    """Resolve once, with bfloat16 if that resolves. Raises Refusal."""
    try:
        return _compile([*requirements, BFLOAT16_REQUIREMENT], request, python, tool)
    except Refusal as refusal:
        if refusal.is_local:
            raise
    return _compile(requirements, request, python, tool)


def _compile(requirements: Sequence[str], request: EnvironmentRequest, python: Interpreter, tool: Uv) -> str:
    arguments = ("pip", "compile", "-", "--python", str(python.path), "--no-header", "--no-annotate", "--no-sources")
    locked = tool.run(
        *arguments,
        *_wheel_options(tool),
        stdin="\n".join([*request.options, *requirements, ""]),
        extra=_index_strategy(request, tool),
    )
    lines = [line.strip() for line in locked.splitlines()]
    return "".join(f"{line}\n" for line in sorted(lines) if line and not line.startswith(("#", "-")))


def _versions(lock: str) -> dict[str, str]:
    """Version by normalised name; the URL for a requirement that has no version."""
    pinned = [Requirement(line) for line in lock.splitlines()]
    return {
        canonicalize_name(one.name): next((spec.version for spec in one.specifier), one.url or "") for one in pinned
    }


def _wheel_options(tool: Uv) -> tuple[str, ...]:
    """Install wheels only: nothing that is downloaded runs code or needs a compiler."""
    return ("--only-binary", ":all:", *tool.sources.flags)


def _index_strategy(request: EnvironmentRequest, tool: Uv) -> dict[str, str]:
    """If a requirements file names its own indexes, combine indexes as pip does."""
    user_decides = "UV_INDEX_STRATEGY" in os.environ or not request.options
    return {} if user_decides else {"UV_INDEX_STRATEGY": "unsafe-best-match"}


# The folder.


def _obtain(
    plan: Plan, request: EnvironmentRequest, tool: Uv, progress: ProgressCallback
) -> tuple[Store, InstalledEnvironment]:
    """The environment of a plan: an existing one or a new one; a temporary one if the cache is read-only."""
    candidates = existing_stores()
    for store in candidates:
        if (installed := store.read(plan.digest)) is not None:
            return store, installed
    if candidates:
        try:
            return candidates[0], _obtain_in(candidates[0], plan, request, tool, progress)
        except _UnwritableError as unwritable:
            progress(f"{unwritable}; the environment is made in a temporary folder, for this run only")
    return temporary_store(), _obtain_in(temporary_store(), plan, request, tool, progress)


class _UnwritableError(Exception):
    """The store cannot be written; says why."""


def _obtain_in(
    store: Store, plan: Plan, request: EnvironmentRequest, tool: Uv, progress: ProgressCallback
) -> InstalledEnvironment:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(store.lock(plan.digest, progress))
        except OSError as error:
            reason = error.strerror or error
            raise _UnwritableError(f"the cache folder {store.root} cannot be written ({reason})") from error
        return store.read(plan.digest) or _install(store, plan, request, tool, progress)


def _install(
    store: Store, plan: Plan, request: EnvironmentRequest, tool: Uv, progress: ProgressCallback
) -> InstalledEnvironment:
    folder = store.folder(plan.digest)
    if folder.exists():
        progress(f"{folder} is not whole and is made again ...")
        shutil.rmtree(folder)
    try:
        tool.run("venv", "--no-project", "--python", str(plan.python.path), str(folder))
        progress(f"installing {len(plan.lock.splitlines())} packages ...")
        arguments = ("pip", "sync", "-", "--python", str(interpreters.executable_in(folder)), *_wheel_options(tool))
        tool.run(*arguments, stdin="\n".join([*request.options, plan.lock]), extra=_index_strategy(request, tool))
        installed = store.write_marker(plan.digest, plan.lock)
        if installed.python != plan.python.version:
            raise UserError(f"{plan.python.path} says it is Python {plan.python.version} and is {installed.python}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return installed


def _space_advice(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: make room, or name another cache folder with CONFORMANCE_CACHE"
    return "make the cache folder writable, or name another with CONFORMANCE_CACHE"
