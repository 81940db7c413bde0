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
from conformance.adapters.libraries import limit_to_pinned, undeclared_requirements
from conformance.execution.environments import interpreters, uv
from conformance.execution.environments.interpreters import Interpreter
from conformance.execution.environments.model import Environment, EnvironmentFailure, EnvironmentRequest
from conformance.execution.environments.sources import read_sources
from conformance.execution.environments.store import (
    EnvironmentStore,
    digest_environment,
    existing_stores,
    temporary_store,
)
from conformance.execution.environments.uv import Uv, UvError
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
    request_key = _request_key(request, settings.settings_digest)
    if (cached := _find_cached(request_key)) is not None:
        return _environment(request, cached)
    try:
        installed = Builder(request, Uv(uv.find_program(), settings), progress).build(request_key)
    except UvError as error:
        if error.requirements_at_fault or (cached := _find_cached(request_key, stale=True)) is None:
            raise EnvironmentFailure(request, str(error)) from error
        progress(f"{error}; the versions that were resolved before are used")
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
    """Resolve the packages that `build` would install for this Python, for a remote installation.

    Returns the lines of a requirements file, and the version of each package by normalised name.  Raises
    EnvironmentFailure.
    """
    if request.interpreter is not None:
        raise EnvironmentFailure(request, "--with PATH cannot be used for a remote installation; give requirements")
    python = interpreters.running_interpreter()
    if request.python and interpreters.find_matching(request.python, []) != python:
        why = (
            f"a remote installation has the Python version of this run, {python.version}; drop python=={request.python}"
        )
        raise EnvironmentFailure(request, why)
    try:
        progress(f"resolving for Python {python.version} ...")
        lockfile = Builder(request, Uv(uv.find_program(), read_sources()), progress).resolve(python)
    except (UvError, UserError) as error:
        raise EnvironmentFailure(request, f"on Python {python.version}, the version of this run, {error}") from error
    return (*request.options, *lockfile.splitlines()), _versions(lockfile)


def _existing_environment(request: EnvironmentRequest, path: Path) -> Environment:
    try:
        interpreter = interpreters.query(path)
    except UserError as error:
        raise EnvironmentFailure(request, str(error)) from error
    distributions = [name for framework in registry.frameworks() for name in framework.distributions]
    if not interpreter.packages.keys() & set(map(canonicalize_name, distributions)):
        raise EnvironmentFailure(request, f"none of {', '.join(distributions)} is installed in this environment")
    if WORKER_REQUIREMENT not in interpreter.packages:
        why = f"{WORKER_REQUIREMENT}, which the worker needs, is not installed in this environment; install it"
        raise EnvironmentFailure(request, why)
    return _environment(request, interpreter)


def _environment(request: EnvironmentRequest, installed: Interpreter) -> Environment:
    return Environment(request.name, installed.path, request.variables, installed.packages, installed.version)


def _request_key(request: EnvironmentRequest, settings_digest: str) -> str:
    """Key of a request in the index: a digest of all that determines the result, except the content of the package
    index.
    """
    requirements = [
        [framework.distributions, framework.extra_requirements, framework.requirements]
        for framework in registry.frameworks()
    ]
    platform_key = [platform.python_version(), sys.implementation.name, sys.platform, platform.machine()]
    parts = [request.requirements, request.options, request.python, settings_digest, requirements, platform_key]
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
        Raises UvError, OSError and UserError.
        """
        python, lockfile = self._select_python()
        environment_digest, candidates = digest_environment(lockfile, python.version), existing_stores()
        store = next((candidate for candidate in candidates if candidate.read(environment_digest) is not None), None)
        if store is None and candidates:
            try:
                self._install_once(candidates[0], environment_digest, python, lockfile)
                store = candidates[0]
            except _UnwritableError as error:
                self.progress(f"{error}; the environment is made in a temporary folder, for this run only")
        store = store or temporary_store()
        installed = self._install_once(store, environment_digest, python, lockfile)
        store.remember(request_key, environment_digest, exact=_is_pinned(self.request))
        return installed

    # Which versions, on which Python.

    def _select_python(self) -> tuple[Interpreter, str]:
        """The first interpreter for which the requirements can be resolved, and the lockfile. Raises UvError."""
        failures: list[tuple[Interpreter, UvError]] = []
        for python in self._candidates():
            self.progress(f"resolving for Python {python.version} ...")
            try:
                return python, self.resolve(python)
            except UvError as error:
                failures.append((python, error))
                if not error.another_python_may_help:
                    raise
        # With earlier versions `build` may still succeed, so these are not marked `requirements_at_fault`.
        python, first = failures[0]
        if self.request.python:
            raise UvError(f"on Python {python.version} {first}; choose another Python, or change the requirements")
        versions = ", ".join(interpreter.version for interpreter, _ in failures)
        advice = "install another Python, or change the requirements"
        raise UvError(f"no installed Python can be used ({versions} tried); on {python.version} {first}; {advice}")

    def _candidates(self) -> Iterator[Interpreter]:
        """The interpreters that the request allows, in order of preference. Raises UvError if there are none."""
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
            raise UvError(f"Python {requested} is not installed, only {available}; {advice}")
        yield interpreter

    def resolve(self, python: Interpreter) -> str:
        """Resolve to one `name==version` a line, with dependencies that old releases need but do not declare.

        Raises UvError.
        """
        requirements = [*dict.fromkeys([*self.request.requirements, WORKER_REQUIREMENT])]
        added: dict[str, str] = {}
        while True:
            try:
                lockfile = self._compile_with_bfloat16([*requirements, *added], python)
            except UvError as error:
                if not added:
                    raise
                why = ", ".join(f"{name} for {release}" for name, release in added.items())
                raise error.with_message(f"{error}; added were {why}") from error
            missing = {need: release for need, release in _undeclared(_versions(lockfile)) if need not in added}
            if not missing:
                return lockfile
            added |= missing

    def _compile_with_bfloat16(self, requirements: Sequence[str], python: Interpreter) -> str:
        """Resolve once, with bfloat16 if that is possible. Raises UvError."""
        try:
            return self._compile([*requirements, BFLOAT16_REQUIREMENT], python)
        except UvError as error:
            if not error.requirements_at_fault:
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

    def _install_once(
        self, store: EnvironmentStore, environment_digest: str, python: Interpreter, lockfile: str
    ) -> Interpreter:
        """The environment in a store, installed if necessary. Raises _UnwritableError."""
        with contextlib.ExitStack() as stack:
            if (installed := store.read(environment_digest)) is not None:
                return installed
            try:
                stack.enter_context(store.exclusive(environment_digest, self.progress))
            except OSError as error:
                reason = error.strerror or error
                raise _UnwritableError(f"the cache folder {store.root} cannot be written ({reason})") from error
            return store.read(environment_digest) or self._install(store, environment_digest, python, lockfile)

    def _install(
        self, store: EnvironmentStore, environment_digest: str, python: Interpreter, lockfile: str
    ) -> Interpreter:
        folder = store.folder(environment_digest)
        if folder.exists():
            self.progress(f"{folder} is not whole and is made again ...")
            shutil.rmtree(folder)
        try:
            self.tool.run("venv", "--no-project", "--python", str(python.path), str(folder))
            self.progress(f"installing {len(lockfile.splitlines())} packages ...")
            executable = interpreters.executable_in(folder)
            if executable is None:
                raise UserError(f"{folder} has no interpreter")
            self._pip("sync", executable, lockfile.splitlines())
            installed = store.write_marker(environment_digest, lockfile, executable)
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
    except UvError:
        listed = ""
    return [*interpreters.pyenv_interpreters(), *interpreters.parse_uv_list(listed)]


def _undeclared(versions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs (requirement, release): requirements that the release of a framework needs but does not declare, and that
    the resolved versions do not meet.
    """
    for framework in registry.frameworks():
        names = [name for name in map(canonicalize_name, framework.distributions) if name in versions]
        for required in undeclared_requirements(framework, versions[names[0]]) if names else ():
            installed_version = versions.get(canonicalize_name(required.name))
            if installed_version is None or not registry.within(installed_version, str(required.specifier)):
                yield (
                    str(required) if installed_version else limit_to_pinned(required),
                    f"{names[0]} {versions[names[0]]}",
                )


def _versions(lockfile: str) -> dict[str, str]:
    """Version by normalised name; the URL for a requirement without a version."""
    pinned = map(Requirement, lockfile.splitlines())
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
