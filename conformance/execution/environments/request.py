"""Parse the argument of `--with`: requirements, an interpreter, or a file that pins versions."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from conformance.adapters import registry
from conformance.adapters.contract import Backend, Framework
from conformance.execution.environments import interpreters, locks
from conformance.execution.environments.model import MIN_PYTHON, EnvironmentRequest
from conformance.model.errors import UserError
from conformance.model.text import one_line, truncate_and_count

NUMERIC_COMPANIONS = frozenset({"numpy", "jaxlib"})
"""Distributions that affect numbers, and are neither a framework nor a backend of one."""
REQUIREMENT_SUFFIXES = (".txt", ".in", ".toml", ".lock")
MAX_TEXT = 10_000
"""Maximum number of characters of a request, which names the rows of its environment."""
MAX_QUOTED = 200
"""Maximum number of characters of a request that a message quotes."""
PYTHON_ADVICE = f"the worker needs Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer"


def parse(text: str) -> EnvironmentRequest:
    """Parse a request. Raises UserError.

    It may be a list of requirements (PEP 508, separated by commas or spaces; `python==3.10` selects the interpreter,
    `keras[jax]` a backend), the path of an interpreter or a virtual environment, or the path of a requirements file,
    the output of `pip freeze`, pylock.toml, uv.lock or poetry.lock. From a file only the relevant distributions are
    used: frameworks, requirements of their backends, and numpy and jaxlib. A framework with several backends gets the
    first one unless one is named.
    """
    if not text.strip():
        raise UserError("no requirements; give some, such as scikit-learn==1.9.1")
    if len(text) > MAX_TEXT:
        raise UserError(f"{_quoted(text)}: is too long for requirements or a path; put requirements into a file")
    path = _path(text.strip())
    if path is None:
        return _make_request(text, list(_requirements(text)), ())
    if not _exists(path):
        raise UserError(f"{_quoted(text)}: there is no such file or folder")
    if path.is_dir() or (path.suffix not in REQUIREMENT_SUFFIXES and os.access(path, os.X_OK)):
        return EnvironmentRequest(text, interpreter=_interpreter(path))
    file = locks.read(path)
    relevant = relevant_distributions()
    requirements = [requirement for requirement in file.requirements if canonicalize_name(requirement.name) in relevant]
    if not _frameworks_in(requirements):
        raise UserError(f"{path} names no supported framework; supported: {', '.join(_distributions())}")
    return _make_request(text, requirements, tuple(file.options(requirements)))


def relevant_distributions() -> frozenset[NormalizedName]:
    """The distributions that are used from a file."""
    backends = [backend for framework in registry.frameworks() for backend in framework.backends.values()]
    return frozenset(map(canonicalize_name, [*NUMERIC_COMPANIONS, *_distributions()])).union(*map(_needed_by, backends))


# Requirements in one line.


def _requirements(text: str) -> Iterable[Requirement]:
    """Split at blanks and commas, such that each requirement is the longest valid piece."""
    cuts = [match.start() for match in re.finditer(r"[\s,]+", text)] + [len(text)]
    start = 0
    while start < len(text):
        start += len(text[start:]) - len(text[start:].lstrip(" \t\r\n,"))
        if start == len(text):
            return
        error, ends = None, [cut for cut in cuts if cut > start]
        for end in reversed(ends):
            try:
                requirement = Requirement(text[start:end])
            except InvalidRequirement as invalid:
                error = invalid
            else:
                break
        else:
            reason, piece = one_line(str(error).splitlines()[0], MAX_QUOTED), _quoted(text[start : ends[0]])
            raise UserError(f"{piece} in {_quoted(text)} is not a requirement: {reason}; write scikit-learn==1.9.1")
        yield _check_name(requirement, text)
        start = end


def _check_name(requirement: Requirement, text: str) -> Requirement:
    """Return the requirement, unless its name is a version without an operator, or an operator lacks a version."""
    if not all(specifier.version for specifier in requirement.specifier):
        raise UserError(f"{_quoted(str(requirement))} in {_quoted(text)} has an operator without a version")
    try:
        Version(requirement.name)
    except InvalidVersion:
        return requirement
    raise UserError(
        f"{_quoted(requirement.name)} in {_quoted(text)} is a version without a package; "
        f"write scikit-learn=={one_line(requirement.name, MAX_QUOTED)}"
    )


def _make_request(text: str, stated: Sequence[Requirement], options: tuple[str, ...]) -> EnvironmentRequest:
    python = _python_version([requirement for requirement in stated if requirement.name == "python"], text)
    stated = [requirement for requirement in stated if requirement.name != "python"]
    if not _frameworks_in(stated):
        raise UserError(f"{_quoted(text)} names no supported framework{_name_advice(stated)}")
    plain = [_without_backend(requirement) for requirement in stated]
    names = frozenset(canonicalize_name(requirement.name) for requirement in plain)
    requirements = [_normalised(requirement) for requirement in plain]
    variables: dict[str, str] = {}
    for backend in _backends(stated, names):
        variables |= backend.environment
        if not _needed_by(backend) & names:
            requirements += [_normalised(Requirement(requirement)) for requirement in backend.requirements]
    return EnvironmentRequest(text, tuple(sorted(set(requirements))), python, None, variables, options)


def _backends(requirements: Sequence[Requirement], names: frozenset[NormalizedName]) -> Iterable[Backend]:
    """The backend of each framework: the one in brackets, otherwise the only one that is named, otherwise the first.

    A backend without requirements must be named in brackets.
    """
    for framework in registry.frameworks():
        own = [requirement for requirement in requirements if _is_distribution_of(requirement, framework)]
        if not own or not framework.backends:
            continue
        extras = sorted({extra for requirement in own for extra in requirement.extras})
        if unknown := [extra for extra in extras if extra not in framework.backends]:
            known = ", ".join(framework.backends)
            raise UserError(f"{own[0].name} has no backend {unknown[0]!r}; expected one of {known}")
        if len(extras) > 1:
            raise UserError(
                f"{own[0].name} runs one backend at a time, not {' and '.join(extras)}; give --with for each"
            )
        candidates = [backend for backend in framework.backends.values() if _needed_by(backend) & names]
        if extras:
            yield framework.backends[extras[0]]
        elif len(candidates) <= 1:
            yield candidates[0] if candidates else next(iter(framework.backends.values()))


def _without_backend(requirement: Requirement) -> Requirement:
    """Drop brackets that name a backend; other brackets are extras."""
    plain = Requirement(str(requirement))
    if any(framework.backends and _is_distribution_of(requirement, framework) for framework in registry.frameworks()):
        plain.extras = set()
    return plain


def _is_distribution_of(requirement: Requirement, framework: Framework) -> bool:
    return canonicalize_name(requirement.name) in map(canonicalize_name, framework.distributions)


def _normalised(requirement: Requirement) -> str:
    plain = Requirement(str(requirement))
    plain.name = canonicalize_name(plain.name)
    return str(plain)


def _python_version(requirements: Sequence[Requirement], text: str) -> str:
    """The version that `python==3.10` selects; "" if there is none."""
    if not requirements:
        return ""
    match = re.fullmatch(r"==(\d+\.\d+(?:\.\d+)?)(?:\.\*)?", str(requirements[0].specifier))
    if match is None or len(requirements) > 1:
        raise UserError(f"{_quoted(text)}: the interpreter is chosen by one version; write python==3.10")
    if tuple(map(int, match[1].split(".")))[:2] < MIN_PYTHON:
        raise UserError(f"{_quoted(text)}: Python {match[1]} is too old; {PYTHON_ADVICE}")
    return match[1]


def _frameworks_in(requirements: Sequence[Requirement]) -> list[Framework]:
    """The frameworks that requirements name, directly or by the requirements of a backend."""
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    return [
        framework
        for framework in registry.frameworks()
        if names.intersection(map(canonicalize_name, framework.distributions))
        or any(names & _needed_by(backend) for backend in framework.backends.values())
    ]


def _needed_by(backend: Backend) -> frozenset[NormalizedName]:
    """The distributions that a backend needs in addition to the framework, on any platform."""
    return frozenset(canonicalize_name(Requirement(text).name) for text in backend.requirements)


def _distributions() -> list[str]:
    return [name for framework in registry.frameworks() for name in framework.distributions]


def _name_advice(requirements: Sequence[Requirement]) -> str:
    """Advice on the name: some frameworks have another name on the package index than in Python."""
    by_name: Mapping[str, Framework] = {framework.name: framework for framework in registry.frameworks()}
    for requirement in requirements:
        if requirement.name in by_name and by_name[requirement.name].distributions:
            return f"; {requirement.name} is called {by_name[requirement.name].distributions[0]} on the package index"
    return f"; supported: {', '.join(_distributions())}"


# Paths.


def _path(text: str) -> Path | None:
    """The path that a text denotes; None if it is a list of requirements."""
    if "@" in text and "://" in text:
        return None
    path = Path(text).expanduser()
    separated = "/" in text or os.sep in text or text.startswith((".", "~"))
    if separated and (_exists(path) or not re.search(r"[\s,]", text)):
        return path
    if not re.search(r"[\s,=<>]", text) and path.suffix in REQUIREMENT_SUFFIXES:
        return path
    return path if _exists(path / "pyvenv.cfg") else None


def _exists(path: Path) -> bool:
    """Whether a path exists; a list of requirements may be longer than any."""
    with contextlib.suppress(OSError, ValueError):
        return path.exists()
    return False


def _quoted(text: str) -> str:
    """The text of a request in a message."""
    return repr(truncate_and_count(text.strip(), MAX_QUOTED))


def _interpreter(path: Path) -> Path:
    """The interpreter at a path or in a virtual environment. Raises UserError if there is none, or it is too old."""
    executable = interpreters.executable_in(path) if path.is_dir() else path
    if executable is None:
        raise UserError(f"{path} is not a virtual environment: it has neither bin/python nor Scripts/python.exe")
    interpreter = interpreters.query(Path(os.path.abspath(executable)))  # noqa: PTH100 - links stay: they make the environment
    if interpreter.is_too_old:
        raise UserError(f"{path} is Python {interpreter.version}, which is too old; {PYTHON_ADVICE}")
    return interpreter.path
