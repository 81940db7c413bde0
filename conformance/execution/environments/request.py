"""What stands after `--with`: requirements, an interpreter, or a file that pins versions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.execution.environments import interpreters, locks
from conformance.execution.environments.model import OLDEST, Wanted
from conformance.model.errors import UserError

COMPANIONS = frozenset({"numpy", "jaxlib"})
"""Distributions that decide numbers without being a framework or naming a variant of one."""
FILES = (".txt", ".in", ".toml", ".lock")
WORKER = f"the worker needs Python {OLDEST[0]}.{OLDEST[1]} or newer"


def parse(text: str) -> Wanted:
    """What a user asks for; raises UserError.

    Taken are requirements (PEP 508, with commas or spaces between them; `python==3.10` chooses the interpreter;
    `keras[jax]` a way to run a framework that has several), the path of an interpreter or of a virtual
    environment, and the path of a requirements file, `pip freeze`'s output, pylock.toml, uv.lock or
    poetry.lock.  Of a file only what matters is taken: the frameworks, what their variants need, and
    numpy and jaxlib.  A framework with variants of which none is named gets its first.
    """
    if not text.strip():
        raise UserError("nothing is asked for; give requirements, such as scikit-learn==1.9.1")
    path = _path(text.strip())
    if path is None:
        return _chosen(text, list(_requirements(text)), ())
    if not path.exists():
        raise UserError(f"{text.strip()}: there is no such file or folder")
    if path.is_dir() or (path.suffix not in FILES and os.access(path, os.X_OK)):
        return Wanted(text, interpreter=_interpreter(path))
    file = locks.read(path)
    matter = matters()
    kept = [one for one in file.requirements if canonicalize_name(one.name) in matter]
    if not _frameworks_in(kept):
        raise UserError(f"{path} names no framework that is known here; known are {', '.join(_distributions())}")
    return _chosen(text, kept, tuple(file.options(kept)))


def matters() -> frozenset[NormalizedName]:
    """The distributions of a file that an environment is made of."""
    needed = [
        name
        for framework in registry.frameworks()
        for variant in framework.variants
        for name in _needed(framework, variant)
    ]
    return frozenset(map(canonicalize_name, [*COMPANIONS, *_distributions(), *needed]))


# Requirements in one line.


def _requirements(text: str) -> Iterable[Requirement]:
    """Each requirement is the longest piece, cut at blanks and commas, that reads as one."""
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
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{text[start : ends[0]]!r} in {text!r} is no requirement: {reason}; write scikit-learn==1.9.1"
            )
        yield _named(requirement, text)
        start = end


def _named(requirement: Requirement, text: str) -> Requirement:
    """The requirement, unless its name is a version that has lost its operator, or an operator its version."""
    if not all(one.version for one in requirement.specifier):
        raise UserError(f"{str(requirement)!r} in {text!r} has an operator without a version")
    try:
        Version(requirement.name)
    except InvalidVersion:
        return requirement
    raise UserError(
        f"{requirement.name!r} in {text!r} is a version without a package; write scikit-learn=={requirement.name}"
    )


@dataclass(frozen=True)
class _Backend:
    """A variant that somebody chose, or that follows from what is asked for."""

    framework: Framework
    name: str

    @property
    def requirements(self) -> tuple[str, ...]:
        return self.framework.variants[self.name].requirements

    def named_by(self, names: frozenset[NormalizedName]) -> bool:
        """Whether requirements already name something that it needs; what needs nothing is only chosen by name."""
        return bool(_needed(self.framework, self.name) & names)


def _chosen(text: str, asked: Sequence[Requirement], options: tuple[str, ...]) -> Wanted:
    python = _python([one for one in asked if one.name == "python"], text)
    asked = [one for one in asked if one.name != "python"]
    if not _frameworks_in(asked):
        raise UserError(f"{text.strip()!r} names no framework that is known here{_meant(asked)}")
    plain = [_without_backend(one) for one in asked]
    names = frozenset(canonicalize_name(one.name) for one in plain)
    requirements = [_normal(one) for one in plain]
    variables: dict[str, str] = {}
    for backend in _backends(asked, names):
        variables |= backend.framework.variants[backend.name].environment
        if not backend.named_by(names):
            requirements += [_normal(Requirement(one)) for one in backend.requirements]
    return Wanted(text, tuple(sorted(set(requirements))), python, None, variables, options)


def _backends(asked: Sequence[Requirement], names: frozenset[NormalizedName]) -> Iterable[_Backend]:
    """The variant of each framework: the one in brackets, else the only one that is there, else the first."""
    for framework in registry.frameworks():
        own = [one for one in asked if _is(one, framework)]
        if not own or not framework.variants:
            continue
        extras = sorted({extra for one in own for extra in one.extras})
        if unknown := [extra for extra in extras if extra not in framework.variants]:
            known = ", ".join(framework.variants)
            raise UserError(f"{own[0].name} has no backend {unknown[0]!r}; there are {known}")
        if len(extras) > 1:
            raise UserError(
                f"{own[0].name} runs one backend at a time, not {' and '.join(extras)}; give --with for each"
            )
        present = [one for name in framework.variants if (one := _Backend(framework, name)).named_by(names)]
        if extras:
            yield _Backend(framework, extras[0])
        elif len(present) <= 1:
            yield present[0] if present else _Backend(framework, next(iter(framework.variants)))


def _without_backend(requirement: Requirement) -> Requirement:
    """The plain distribution where brackets mean a backend; brackets of others are extras as ever."""
    plain = Requirement(str(requirement))
    if any(framework.variants and _is(requirement, framework) for framework in registry.frameworks()):
        plain.extras = set()
    return plain


def _is(requirement: Requirement, framework: Framework) -> bool:
    return canonicalize_name(requirement.name) in map(canonicalize_name, framework.distributions)


def _normal(requirement: Requirement) -> str:
    plain = Requirement(str(requirement))
    plain.name = canonicalize_name(plain.name)
    return str(plain)


def _python(asked: Sequence[Requirement], text: str) -> str:
    """The version that `python==3.10` chooses; "" where nothing does."""
    if not asked:
        return ""
    found = re.fullmatch(r"==(\d+\.\d+(?:\.\d+)?)(?:\.\*)?", str(asked[0].specifier))
    if found is None or len(asked) > 1:
        raise UserError(f"{text.strip()!r}: the interpreter is chosen by one version; write python==3.10")
    if tuple(map(int, found[1].split(".")))[:2] < OLDEST:
        raise UserError(f"{text.strip()!r}: Python {found[1]} is too old; {WORKER}")
    return found[1]


def _frameworks_in(asked: Sequence[Requirement]) -> list[Framework]:
    """The frameworks that requirements name, or bring along as what a variant needs."""
    names = {canonicalize_name(one.name) for one in asked}
    found = []
    for framework in registry.frameworks():
        needed = {name for variant in framework.variants for name in _needed(framework, variant)}
        if names & {*map(canonicalize_name, framework.distributions), *needed}:
            found.append(framework)
    return found


def _needed(framework: Framework, variant: str) -> frozenset[NormalizedName]:
    """The distributions that a variant needs beside the framework, on whatever platform."""
    requirements = framework.variants[variant].requirements
    return frozenset(canonicalize_name(Requirement(one).name) for one in requirements)


def _distributions() -> list[str]:
    return [name for framework in registry.frameworks() for name in framework.distributions]


def _meant(asked: Sequence[Requirement]) -> str:
    """What may be meant: a framework is called otherwise on the package index than in Python."""
    named: Mapping[str, Framework] = {framework.name: framework for framework in registry.frameworks()}
    for one in asked:
        if one.name in named and named[one.name].distributions:
            return f"; {one.name} is called {named[one.name].distributions[0]} on the package index"
    return f"; known are {', '.join(_distributions())}"


# Paths.


def _path(text: str) -> Path | None:
    """The path that a text means; None where it is requirements."""
    if "@" in text and "://" in text:
        return None
    path = Path(text).expanduser()
    separated = "/" in text or os.sep in text or text.startswith((".", "~"))
    if separated and (path.exists() or not re.search(r"[\s,]", text)):
        return path
    if not re.search(r"[\s,=<>]", text) and path.suffix in FILES:
        return path
    return path if (path / "pyvenv.cfg").is_file() else None


def _interpreter(path: Path) -> Path:
    """The interpreter at a path or in a virtual environment; raises UserError where it is none, or too old."""
    found = interpreters.executable_in(path) if path.is_dir() else path
    if found is None:
        raise UserError(f"{path} is no virtual environment: it has neither bin/python nor Scripts/python.exe")
    said = interpreters.ask(Path(os.path.abspath(found)))  # noqa: PTH100 - links stay: they make the environment
    if said.too_old:
        raise UserError(f"{path} is Python {said.version}, which is too old; {WORKER}")
    return said.path
