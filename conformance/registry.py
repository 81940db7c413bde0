"""Which frameworks there are and which are installed, found out without importing any of them.

The folder `conformance/adapters` is the registry; packages elsewhere add theirs with an entry point in
the group `conformance.adapters` that names a `Framework`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance import adapters
from conformance.adapter import Framework, Function, Rule
from conformance.convention import DEFINITION, Convention

ENTRY_POINTS = "conformance.adapters"


class AdapterError(Exception):
    """An adapter cannot be used: which, and why."""


@dataclass(frozen=True)
class Installed:
    """A framework that can be imported here, and the version of its distribution."""

    framework: Framework
    version: str


@functools.cache
def frameworks() -> tuple[Framework, ...]:
    """Every known framework, installed or not, by name."""
    found: dict[str, Framework] = {}
    for module in pkgutil.iter_modules(adapters.__path__):
        framework = importlib.import_module(f"{adapters.__name__}.{module.name}").FRAMEWORK
        found[framework.name] = framework
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            framework = point.load()
        except Exception as error:
            raise AdapterError(f"the adapter {point.name} ({point.value}) cannot be loaded: {error}") from error
        if not isinstance(framework, Framework):
            raise AdapterError(f"the adapter {point.name} ({point.value}) is no conformance.adapter.Framework")
        if framework.name in found:
            raise AdapterError(f"two adapters are called {framework.name}; the second is {point.value}")
        found[framework.name] = framework
    return tuple(found[name] for name in sorted(found))


def functions() -> tuple[Function, ...]:
    """Every function of every known framework."""
    return tuple(function for framework in frameworks() for function in framework.functions)


def installed(among: tuple[Framework, ...] | None = None) -> tuple[list[Installed], list[Framework]]:
    """(those that can be imported here, those that are left out); nothing is imported to find out."""
    here: list[Installed] = []
    missing: list[Framework] = []
    for framework in frameworks() if among is None else among:
        version = version_of(framework)
        if version is None or not all(map(_present, framework.modules)):
            missing.append(framework)
        else:
            here.append(Installed(framework, version))
    return here, missing


def version_of(framework: Framework) -> str | None:
    """The version of the first of a framework's distributions that is installed."""
    for distribution in framework.distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def rule_for(function: Function, version: str, target: str) -> Rule:
    """What a function documents in a version for a kind of target; the definition where no rule fits."""
    for rule in function.rules:
        if rule.targets is not None and target not in rule.targets:
            continue
        if within(version, rule.versions):
            return rule
    return Rule(DEFINITION)


@functools.cache
def conventions() -> tuple[Convention, ...]:
    """Every convention that some function documents in some version."""
    return tuple(dict.fromkeys(rule.convention for function in functions() for rule in function.rules))


@functools.cache
def within(version: str, versions: str) -> bool:
    """Whether a version is among PEP 440 specifiers; "" has all of them.

    2.13.0+cpu counts as 2.13.0; what is no version is in "" only.
    """
    if not versions:
        return True
    try:
        return SpecifierSet(versions).contains(Version(Version(version).public), prereleases=True)
    except InvalidVersion:
        return False


def _present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
