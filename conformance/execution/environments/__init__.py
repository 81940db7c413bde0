"""Environments with a framework: requested as requirements, installed with uv, kept in the user's cache.

`parse` reads a request, `build` installs the environment or finds an existing one, `releases` lists the releases that
can be requested.
"""

from conformance.execution.environments.builder import build, resolve_pins
from conformance.execution.environments.index import releases
from conformance.execution.environments.model import Environment, EnvironmentFailure, EnvironmentRequest
from conformance.execution.environments.request import parse
from conformance.execution.environments.sources import read_sources
