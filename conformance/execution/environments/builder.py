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
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conformance.adapters import registry
from conformance.adapters.libraries import companions, limit_to_pinned
from conformance.execution.environments import interpreters, uv
from conformance.execution.environments.interpreters import Interpreter
from conformance.execution.environments.model import Environment, EnvironmentFailure, EnvironmentRequest
from conformance.execution.environments.sources import read_sources
from conformance.execution.environments.store import Store, digest_of, existing_stores, temporary_store
from conformance.execution.environments.uv import Refusal, Uv
from conformance.model.errors import UserError

ProgressCallback = Callable[[str], None]

WORKER_REQUIREMENT = "numpy"
"""Requirement of the worker itself in each environment."""
BFLOAT16_REQUIREMENT = "ml_dtypes"
"""Requirement for bfloat16; omitted if no release is compatible."""


def _no_progress(line: str) -> None:
    """Ignore progress messages."""


def build(request: EnvironmentRequest, progress: ProgressCallback = _no_progress) -> Environment:
    """Return the requested environment; install it if it does not exist.

    progress: called with a line of text before each step that takes time.
    Version ranges are resolved once a day, exact pins (`==`) never again.  Raises EnvironmentFailure.
    """
    if request.interpreter is not None:
        return _existing_environment(request, request.interpreter)
    settings = read_sources()
    request_key = _request_key(request, settings.stamp)
    if (cached := _find_cached(request_key)) is not None:
        return _environment(request, cached)
    try:
        installed = Builder(request, Uv(uv.find_program(), settings), progress).build(request_key)
    except Refusal as refusal:
        if not refusal.is_local or (cached := _find_cached(request_key, stale=True)) is None:
            raise EnvironmentFailure(request, str(refusal)) from refusal
        progress(f"{refusal}; the versions that were resolved before are used")
        return _environment(request, cached)
    except OSError as error:
        why = f"the environment cannot be written: {error}; {_space_advice(error)}"
        raise EnvironmentFailure(request, why) from error
    except EnvironmentFailure:
        raise
    except UserError as error:
        raise EnvironmentFailure(request, str(error)) from error
    return _environment(request, installed)


def resolve_pins(request: EnvironmentRequest, progress: ProgressCallback) -> tuple[tuple[str, ...], dict[str, str]]:
    """Resolve the packages that `build` would install for this Python, for an installation elsewhere.

    Returns the lines of a requirements file, and the version of each package by normalised name.  Raises
    EnvironmentFailure.
    """
    if request.interpreter is not None:
        raise EnvironmentFailure(request, "it is an interpreter of this machine and no other has it; give requirements")
    python = interpreters.running_interpreter()
    if request.python and interpreters.find_matching(request.python, []) != python:
        raise EnvironmentFailure(request, f"there is the Python of this run, {python.version}, and no other")
    try:
        progress(f"resolving for Python {python.version} ...")
        lock = Builder(request, Uv(uv.find_program(), read_sources()), progress).lock(python)
    except (Refusal, UserError) as error:
        raise EnvironmentFailure(request, f"on Python {python.version}, the only one there, {error}") from error
    return (*request.options, *lock.splitlines()), _versions(lock)


def _existing_environment(request: EnvironmentRequest, path: Path) -> Environment:
    try:
        interpreter = interpreters.query(path)
    except UserError as error:
        raise EnvironmentFailure(request, str(error)) from error
    distributions = [name for framework in registry.frameworks() for name in framework.distributions]
    if not interpreter.packages.keys() & set(map(canonicalize_name, distributions)):
        raise EnvironmentFailure(request, f"none of {', '.join(distributions)} is installed there")
    if WORKER_REQUIREMENT not in interpreter.packages:
        why = f"{WORKER_REQUIREMENT} is not installed there, and the worker needs it; install it there"
        raise EnvironmentFailure(request, why)
    return _environment(request, interpreter)


def _environment(request: EnvironmentRequest, installed: Interpreter) -> Environment:
    return Environment(request.name, installed.path, request.variables, installed.packages, installed.version)


def _request_key(request: EnvironmentRequest, stamp: str) -> str:
    """Key of a request in the index: a digest of all that determines the result, except the content of the package
    index.
    """
    requirements = [
        [framework.distributions, framework.extra_requirements, framework.requirements]
        for framework in registry.frameworks()
    ]
    platform_key = [platform.python_version(), sys.implementation.name, sys.platform, platform.machine()]
    parts = [request.requirements, request.options, request.python, stamp, requirements, platform_key]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _find_cached(request_key: str, *, stale: bool = False) -> Interpreter | None:
    return next(filter(None, (store.lookup(request_key, stale=stale) for store in existing_stores())), None)


def _is_pinned(request: EnvironmentRequest) -> bool:
    """Whether each requirement names a single version."""
    requirements = map(Requirement, request.requirements)
    return all(
        requirement.url or [(spec.operator, "*" in spec.version) for spec in requirement.specifier] == [("==", False)]
        for requirement in requirements
    )


class _UnwritableError(Exception):
    """The store cannot be written; the message says why."""


@dataclass(frozen=True)
class Builder:
    """Builds the environment of one request: selects an interpreter, locks versions, and installs them."""

    request: EnvironmentRequest
    tool: Uv
    progress: ProgressCallback = _no_progress

    def build(self, request_key: str) -> Interpreter:
        """Find the environment or install it, and store it in the index by the key of the request.

        If the cache cannot be written, it is installed into a temporary folder.
        Raises Refusal, OSError and UserError.
        """
        python, lock = self._resolve()
        digest, candidates = digest_of(lock, python.version), existing_stores()
        store = next((candidate for candidate in candidates if candidate.read(digest) is not None), None)
        if store is None and candidates:
            try:
                self._install_once(candidates[0], digest, python, lock)
                store = candidates[0]
            except _UnwritableError as error:
                self.progress(f"{error}; the environment is made in a temporary folder, for this run only")
        store = store or temporary_store()
        installed = self._install_once(store, digest, python, lock)
        store.remember(request_key, digest, exact=_is_pinned(self.request))
        return installed

    # Which versions, on which Python.

    def _resolve(self) -> tuple[Interpreter, str]:
        """The first interpreter for which the requirements can be resolved, and the lock. Raises Refusal."""
        refusals: list[tuple[Interpreter, Refusal]] = []
        for python in self._candidates():
            self.progress(f"resolving for Python {python.version} ...")
            try:
                return python, self.lock(python)
            except Refusal as refusal:
                refusals.append((python, refusal))
                if refusal.is_final:
                    break
        python, first = refusals[0]
        if refusals[-1][1].is_final:
            raise refusals[-1][1]
        if self.request.python:
            raise Refusal(f"on Python {python.version} {first}; choose another Python, or change the requirements")
        versions = ", ".join(interpreter.version for interpreter, _ in refusals)
        advice = "install another Python, or change the requirements"
        raise Refusal(f"no Python here will do ({versions} tried); on {python.version} {first}; {advice}")

    def _candidates(self) -> Iterator[Interpreter]:
        """The interpreters that the request allows, in order of preference. Raises Refusal if there are none."""
        requested, tool = self.request.python, self.tool
        if not requested:
            yield from interpreters.in_order_of_preference(lambda: other_interpreters(tool))
            return
        interpreter = interpreters.find_matching(requested, []) or interpreters.find_matching(
            requested, other_interpreters(tool)
        )
        if interpreter is None and "automatic" in (
            os.environ.get("UV_PYTHON_DOWNLOADS"),
            tool.sources.python_downloads,
        ):
            self.progress(f"downloading Python {requested} ...")
            tool.run("python", "install", requested, extra={"UV_PYTHON_DOWNLOADS": "automatic"})
            interpreter = interpreters.find_matching(requested, other_interpreters(tool))
        if interpreter is None:
            present = [interpreters.running_interpreter(), *other_interpreters(tool)]
            available = ", ".join(dict.fromkeys(installed.version for installed in present))
            advice = f"install it, for example with `uv python install {requested}`"
            raise Refusal(f"there is no Python {requested} here, only {available}; {advice}")
        yield interpreter

    def lock(self, python: Interpreter) -> str:
        """Resolve the requirements, with those that old releases do not declare; one pin a line. Raises Refusal."""
        requirements = [*dict.fromkeys([*self.request.requirements, WORKER_REQUIREMENT])]
        added: dict[str, str] = {}
        while True:
            try:
                lock = self._compile_with_bfloat16([*requirements, *added], python)
            except Refusal as refusal:
                if not added:
                    raise
                why = ", ".join(f"{name} for {release}" for name, release in added.items())
                text = f"{refusal}; added were {why}"
                raise Refusal(text, final=refusal.is_final, local=refusal.is_local) from refusal
            missing = {need: release for need, release in _undeclared(_versions(lock)) if need not in added}
            if not missing:
                return lock
            added |= missing

    def _compile_with_bfloat16(self, requirements: Sequence[str], python: Interpreter) -> str:
        """Resolve once, with bfloat16 if that is possible. Raises Refusal."""
        try:
            return self._compile([*requirements, BFLOAT16_REQUIREMENT], python)
        except Refusal as refusal:
            if refusal.is_local:
                raise
        return self._compile(requirements, python)

    def _compile(self, requirements: Sequence[str], python: Interpreter) -> str:
        options = ("--no-header", "--no-annotate", "--no-sources")
        lines = map(str.strip, self._pip("compile", python.path, requirements, *options).splitlines())
        return "".join(f"{line}\n" for line in sorted(lines) if line and not line.startswith(("#", "-")))

    def _pip(self, command: str, python: Path, lines: Sequence[str], *options: str) -> str:
        """Run `uv pip` on lines of a requirements file, with wheels only, so that no downloaded code is executed."""
        # If a requirements file names its own indexes, they are combined as pip does.
        combined = self.request.options and "UV_INDEX_STRATEGY" not in os.environ
        words = ("pip", command, "-", "--python", str(python), *options, "--only-binary", ":all:")
        return self.tool.run(
            *words,
            *self.tool.sources.flags,
            stdin="\n".join([*self.request.options, *lines, ""]),
            extra={"UV_INDEX_STRATEGY": "unsafe-best-match"} if combined else {},
        )

    # The folder.

    def _install_once(self, store: Store, digest: str, python: Interpreter, lock: str) -> Interpreter:
        """The environment in a store, installed if necessary. Raises _UnwritableError."""
        with contextlib.ExitStack() as stack:
            if (installed := store.read(digest)) is not None:
                return installed
            try:
                stack.enter_context(store.lock(digest, self.progress))
            except OSError as error:
                reason = error.strerror or error
                raise _UnwritableError(f"the cache folder {store.root} cannot be written ({reason})") from error
            return store.read(digest) or self._install(store, digest, python, lock)

    def _install(self, store: Store, digest: str, python: Interpreter, lock: str) -> Interpreter:
        folder = store.folder(digest)
        if folder.exists():
            self.progress(f"{folder} is not whole and is made again ...")
            shutil.rmtree(folder)
        try:
            self.tool.run("venv", "--no-project", "--python", str(python.path), str(folder))
            self.progress(f"installing {len(lock.splitlines())} packages ...")
            executable = interpreters.executable_in(folder)
            if executable is None:
                raise UserError(f"{folder} has no interpreter")
            self._pip("sync", executable, lock.splitlines())
            installed = store.write_marker(digest, lock, executable)
            if installed.version != python.version:
                raise UserError(f"{python.path} says it is Python {python.version} and is {installed.version}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return installed


def other_interpreters(tool: Uv) -> list[Interpreter]:
    """Other interpreters of this machine: those of pyenv, and those that uv has installed or finds on PATH."""
    try:
        listed = tool.run("python", "list", "--only-installed")
    except Refusal:
        listed = ""
    return [*interpreters.pyenv_interpreters(), *interpreters.parse_uv_list(listed)]


def _undeclared(versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs (requirement, release) that a framework's release needs, does not declare, and the lock does not
    satisfy.
    """
    for framework in registry.frameworks():
        names = [name for name in map(canonicalize_name, framework.distributions) if name in versions]
        for required in companions(framework, versions[names[0]]) if names else ():
            installed_version = versions.get(canonicalize_name(required.name))
            if installed_version is None or not registry.within(installed_version, str(required.specifier)):
                yield (
                    str(required) if installed_version else limit_to_pinned(required),
                    f"{names[0]} {versions[names[0]]}",
                )


def _versions(lock: str) -> dict[str, str]:
    """Version by normalised name; the URL for a requirement without a version."""
    pinned = map(Requirement, lock.splitlines())
    return {
        canonicalize_name(requirement.name): next(
            (spec.version for spec in requirement.specifier), requirement.url or ""
        )
        for requirement in pinned
    }


def _space_advice(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: make room, or name another cache folder with CONFORMANCE_CACHE"
    return "make the cache folder writable, or name another with CONFORMANCE_CACHE"
