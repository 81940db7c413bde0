"""The pinned releases of all libraries, `libraries.txt`, and the environments created for each alone."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conformance.adapters.contract import Framework
from conformance.adapters.registry import Installed, within


@functools.cache
def pinned_releases() -> dict[str, str]:
    """Pinned version of each distribution, by normalised name."""
    text = Path(__file__).with_name("libraries.txt").read_text(encoding="utf-8")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pins = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pins}


def pinned_installations(framework: Framework) -> Iterator[Installed]:
    """A framework as it will be installed in its own environments, one for each of its backends.

    Their names are their requirements, in the format of `--with`.  Yields nothing if a requirement is not pinned.
    """
    distributions = framework.requirements or framework.distributions[:1]
    for backend in framework.backends or ("",):
        requirements = [f"{name}[{backend}]" if backend else name for name in distributions]
        needed = [*requirements, *(framework.backends[backend].requirements if backend else ())]
        texts = [_pinned(requirement) for requirement in _on_this_platform(needed)]
        if texts and all("==" in text for text in texts):
            yield Installed(framework, texts[0].partition("==")[2], " ".join(texts), backend=backend)


def undeclared_requirements(framework: Framework, version: str) -> Iterator[Requirement]:
    """Requirements of an environment with a release of a framework, in addition to those in its metadata."""
    installed = set(map(canonicalize_name, framework.distributions))
    extra = [need for versions, need in framework.extra_requirements if within(version, versions)]
    for requirement in _on_this_platform(need.format(version=version) for need in [*framework.requirements, *extra]):
        if canonicalize_name(requirement.name) not in installed:
            yield requirement


def limit_to_pinned(requirement: Requirement) -> str:
    """A requirement without a version, of no newer release than the one that is pinned, if there is one.

    An older one is allowed, as an old release of a framework may ask for it.
    """
    version = pinned_releases().get(canonicalize_name(requirement.name))
    return f"{requirement}<={version}" if version and not requirement.specifier else str(requirement)


def _on_this_platform(requirements: Iterable[str]) -> Iterator[Requirement]:
    """The requirements whose markers apply on this platform, without markers."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate():
            requirement.marker = None
            yield requirement


def _pinned(requirement: Requirement) -> str:
    """A requirement with its pinned version, unless it has a version or none is pinned."""
    version = pinned_releases().get(canonicalize_name(requirement.name))
    return f"{requirement}=={version}" if version and not requirement.specifier else str(requirement)
