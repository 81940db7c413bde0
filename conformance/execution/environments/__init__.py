"""Places where a framework is installed: asked for as requirements, made with uv, kept in the cache.

`parse` reads what a user asks for, `build` makes the place or finds it again, `releases` lists what there is to
ask for.
"""

from conformance.execution.environments.builder import Pins, build, pinned
from conformance.execution.environments.index import releases
from conformance.execution.environments.model import Environment, EnvironmentFailure, Wanted
from conformance.execution.environments.request import parse
from conformance.execution.environments.sources import sources

__all__ = ["Environment", "EnvironmentFailure", "Pins", "Wanted", "build", "parse", "pinned", "releases", "sources"]
