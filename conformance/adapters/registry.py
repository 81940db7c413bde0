"""Known and installed frameworks, determined without importing any of them.

The folder `conformance/adapters` is the registry: each of its modules except `SHARED` is one framework; other packages
add theirs by an entry point in the group `conformance.adapters` that names a `Framework`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import pkgutil
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import numpy
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance import adapters
from conformance.adapters.contract import DeclarationError, DocumentedConvention, Framework, Function
from conformance.adapters.contract.containment import Surroundings, cause
from conformance.adapters.contract.framework import check_field_types
from conformance.model.convention import DEFINITION, Convention
from conformance.model.errors import UserError
from conformance.model.row_key import CPU, EAGER, unusual
from conformance.model.text import suggest, text_of, truncate, type_name

ENTRY_POINTS = "conformance.adapters"
SHARED = frozenset({"arrays", "checked", "contract", "idioms", "libraries", "onnx_operators", "registry"})
"""The modules of `conformance.adapters` that are not adapters."""


MAX_REASON = 500
"""Maximum number of characters of an adapter's exception that are quoted."""
ADAPTER_SECONDS = 60.0
"""Timeout in seconds for the import of a third-party adapter, which imports no framework, or for a row of a table."""
GRACE_SECONDS = 10.0
"""Seconds after the timeout during which it may still be interrupted."""
_WATCHDOG = """
import os, select, signal, sys
seconds, process, message = sys.argv[1:]
if not select.select([0], [], [], float(seconds))[0]:
    sys.stderr.write(message)
    os.kill(int(process), signal.SIGKILL)
"""
T = TypeVar("T")
_log = logging.getLogger(__name__)


class AdapterError(UserError):
    """An adapter cannot be used; the message says which and why."""


class UnknownFunctionError(UserError, ValueError):
    """There is no function with this name; the message suggests similar names."""


NEWEST = "99999"
"""A version that every open range contains."""


def worker(framework: str, environment: str, mode: str = EAGER, device: str = CPU) -> str:
    """The name of the process that makes the calls of a framework in a mode, on a device."""
    return ", ".join([f"{framework} in {environment}", *unusual(mode=mode, device=device)])


@dataclass(frozen=True)
class Installed:
    """An installed framework, its environment, and the mode and device of its calls."""

    framework: Framework
    """The declaration of the framework."""
    version: str
    """Version of its distribution."""
    environment: str = f"python{platform.python_version()}"
    """Name of the environment in reports."""
    python: str = platform.python_version()
    """Version of Python in the environment."""
    numpy: str = numpy.__version__
    """Version of numpy in the environment."""
    backend: str = ""
    """The backend in the environment; "" for a framework without backends."""
    mode: str = EAGER
    """A mode of the framework."""
    device: str = CPU
    """A device that its backend supports."""

    @property
    def worker(self) -> str:
        """Name of the worker that makes its calls, see `worker`."""
        return worker(self.framework.name, self.environment, self.mode, self.device)

    @property
    def options(self) -> str:
        """The command options that select its mode and device, each followed by a blank."""
        settings = (("mode", self.mode, EAGER), ("device", self.device, CPU))
        return "".join(f"--{name}={value} " for name, value, usual in settings if value != usual)

    @property
    def differentiates(self) -> bool:
        """Whether its arrays have gradients."""
        return self.framework.differentiates(self.backend)

    @functools.cached_property
    def functions(self) -> tuple[Function, ...]:
        """The framework's functions in this version, backend, mode and device."""
        return functions_in(self.framework, self.version, self.backend, self.mode, self.device)


@dataclass(frozen=True)
class Origin:
    """The location of the definition of a `Framework`."""

    adapter: str
    """`module:attribute`."""
    file: str = ""
    """File of its top-level package; "" if unknown."""


@functools.cache
def frameworks() -> tuple[Framework, ...]:
    """All known frameworks, installed or not, by name; without those of unusable adapters."""
    return tuple(framework for framework, _ in _found()[0].values())


def check() -> None:
    """Raise AdapterError if an adapter cannot be used."""
    for error in _found()[1]:
        raise error


def broken_adapters() -> list[str]:
    """The errors of unusable adapters."""
    return [str(error) for error in _found()[1]]


def warn_of_broken_adapters() -> None:
    """Log once for each adapter that cannot be used that it is left out."""
    for why in broken_adapters():
        _log_once(why)


def origin(framework: Framework) -> Origin:
    """The location of a framework's definition; raises KeyError if it is unknown."""
    return Origin(framework.adapter) if framework.adapter else _found()[0][framework.name][1]


def is_shipped_framework(framework: Framework) -> bool:
    """Whether a framework is declared in this package."""
    ours = f"{adapters.__name__}."
    return any(known is framework and origin.adapter.startswith(ours) for known, origin in _found()[0].values())


@functools.cache
def _log_once(why: str) -> None:
    _log.warning("%s; it is left out", why)


def create_installed(adapter: str) -> Installed:
    """The framework of an adapter, `module:attribute`, that is created at run time."""
    module, _, attribute = adapter.partition(":")
    framework: Framework = getattr(importlib.import_module(module), attribute)
    return Installed(framework, version_of(framework) or "0", backend=framework.backend(os.environ))


def source_digest(framework: Framework) -> str:
    """A digest of the source of a framework's adapter; "" if there is no file."""
    try:
        spec = importlib.util.find_spec(origin(framework).adapter.partition(":")[0])
        return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16] if spec and spec.origin else ""
    except (KeyError, OSError):
        return ""


@functools.cache
def _found() -> tuple[dict[str, tuple[Framework, Origin]], list[AdapterError]]:
    """The frameworks by name with their locations, and the errors of other adapters."""
    entries: dict[str, tuple[Framework, Origin]] = {}
    errors = []
    for module in pkgutil.iter_modules(adapters.__path__):
        if module.name in SHARED:
            continue
        name = f"{adapters.__name__}.{module.name}"
        try:
            framework = importlib.import_module(name).FRAMEWORK
        except DeclarationError as error:
            raise AdapterError(f"{_file(name) or name}: {error}") from error
        entries[framework.name] = (framework, Origin(f"{name}:FRAMEWORK"))
    points, unreadable = _entry_points()
    errors += unreadable
    for point in points:
        try:
            framework = _loaded(point)
        except AdapterError as error:
            errors.append(error)
            continue
        if framework.name in entries:
            errors.append(AdapterError(f"two adapters are called {framework.name}; the second is {point.value}"))
            continue
        entries[framework.name] = (framework, Origin(point.value, _file(point.module.partition(".")[0])))
    return {name: entries[name] for name in sorted(entries)}, errors


def _entry_points() -> tuple[list[importlib.metadata.EntryPoint], list[AdapterError]]:
    """The entry points of adapters, and errors for distributions whose entry points cannot be read."""
    try:
        return list(importlib.metadata.entry_points(group=ENTRY_POINTS)), []
    except Exception:
        points, errors = [], []
    for distribution in importlib.metadata.distributions():
        try:
            points += [point for point in distribution.entry_points if point.group == ENTRY_POINTS]
        except Exception as error:
            message = truncate(f"{type_name(error)}: {text_of(error)}", MAX_REASON)
            errors.append(AdapterError(f"{distribution.locate_file('')}: entry points cannot be read: {message}"))
    return list(dict.fromkeys(points)), errors


def _loaded(point: importlib.metadata.EntryPoint) -> Framework:
    """The framework of an entry point.  Raises AdapterError if it is not a framework, or its fields cannot be read."""
    name = f"the adapter {point.name} ({point.value})"
    if importlib.metadata.EntryPoint.pattern.match(point.value) is None:
        raise AdapterError(f"{name} names no object; write module:attribute, such as my_losses.adapter:FRAMEWORK")
    with _guarded(f"{name} cannot be loaded", lambda: _file(point.module)):
        with _watchdog(f"{name} does not come back from its import: uninstall it"), _raising_exit():
            framework = point.load()
        if type(framework) is not Framework:  # a subclass could run code
            raise AdapterError(f"{name} is not a conformance.adapters.contract.Framework")
        check_field_types(framework)
        for function in functions_in(framework, NEWEST):
            hash((function.name, *function.dtypes, *function.reductions, *function.conventions))
        return framework


@contextlib.contextmanager
def _guarded(subject: str, file: Callable[[], str] = str) -> Iterator[None]:
    """Context manager that converts exceptions of third-party code, and its attempts to exit, to AdapterError.

    subject: start of the message.  file: returns the file of a wrong declaration, which then starts the message.
    """
    with Surroundings() as surroundings:
        try:
            with _time_limit(ADAPTER_SECONDS):
                yield
        except AdapterError:
            raise
        except DeclarationError as error:
            raise AdapterError(f"{file() or subject}: {truncate(text_of(error), MAX_REASON)}") from error
        except SystemExit as error:
            raise AdapterError(f"{subject}: it exits with {text_of(error)}") from error
        except BaseException as error:
            surroundings.pass_on(error)
            message = truncate(f"{type_name(error)}: {text_of(error)}", MAX_REASON)
            raise AdapterError(f"{subject}: {message}") from cause(error)


@contextlib.contextmanager
def _watchdog(message: str) -> Iterator[None]:
    """Context manager that kills this process with a message on a timeout, even in C code that `_time_limit` misses.

    Another process does this, as a thread of this one may not get Python's lock.
    """
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    seconds = ADAPTER_SECONDS + GRACE_SECONDS
    arguments = [str(seconds), str(os.getpid()), f"conformance: {message}\n"]
    # In its own session: Ctrl-C is for this process only.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", "-c", _WATCHDOG, *arguments], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()


@contextlib.contextmanager
def _raising_exit() -> Iterator[None]:
    """Context manager in which `os._exit` raises SystemExit, except in forked children."""
    leave, process = os._exit, os.getpid()

    def exit_or_raise(status: int) -> NoReturn:
        if os.getpid() != process:
            leave(status)
        raise SystemExit(status)

    os._exit = exit_or_raise
    try:
        yield
    finally:
        os._exit = leave


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Context manager that raises TimeoutError on a timeout; never without signals or outside the main thread."""
    alarm = getattr(signal, "SIGALRM", None)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if alarm is None or not in_main_thread or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it takes longer than {seconds:g} s")

    before = signal.signal(alarm, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, if the first one is swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, before)


def _file(module: str) -> str:
    """The file of a module, imported or not; "" if unknown."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:
        spec = None
    return (spec and spec.origin) or ""


def functions() -> tuple[Function, ...]:
    """All functions of all known frameworks, in their newest releases."""
    return tuple(function for framework in frameworks() for function in functions_in(framework, NEWEST))


def function_named(name: str) -> Function:
    """The known function with a name, such as `torch.CrossEntropyLoss` or `torch.nn.CrossEntropyLoss`.

    Raises UnknownFunctionError.
    """
    known = functions()
    for function in known:
        if name in (function.name, function.path):
            return function
    hint = suggest(name, [function.name for function in known], "conformance list functions")
    raise UnknownFunctionError(f"like: there is no known function {name!r}; {hint}")


def functions_in(
    framework: Framework, version: str, backend: str = "", mode: str = EAGER, device: str = CPU
) -> tuple[Function, ...]:
    """A framework's functions in one version, backend (the first by default), mode and device."""
    backend = backend or framework.backend({})
    mode_description = framework.mode(mode)
    excludes = (*mode_description.excludes, *framework.device(device, backend).excludes)

    def placed(function: Function) -> Function:
        if not excludes and not mode_description.result_dtype and mode_description.narrowed_to is None:
            return function
        changes: dict[str, Any] = {"excludes": (*function.excludes, *excludes)}
        if mode_description.result_dtype:
            changes["result_dtype"] = mode_description.result_dtype
        if mode_description.narrowed_to is not None:
            narrowed = (
                replace(documented.convention, narrowed_to=mode_description.narrowed_to)
                for documented in function.conventions
            )
            stated = zip(function.conventions, narrowed, strict=True)
            changes["conventions"] = tuple(
                replace(documented, convention=convention) for documented, convention in stated
            )
            changes["narrowed_to"] = mode_description.narrowed_to
        return replace(function, **changes)

    return tuple(
        placed(function)
        for function in framework.functions
        if within(version, function.versions)
        and (function.backends is None or backend in function.backends)
        and function.has_mode(mode)
    )


def installed(candidates: tuple[Framework, ...] | None = None) -> tuple[list[Installed], list[Framework]]:
    """Return (installed frameworks, frameworks that are not installed); nothing is imported to determine this.

    candidates: frameworks to look for; by default those that a run includes.
    """
    available: list[Installed] = []
    missing: list[Framework] = []
    for framework in (
        (candidate for candidate in frameworks() if candidate.by_default) if candidates is None else candidates
    ):
        version = version_of(framework)
        if version is None or not all(map(_present, framework.modules)):
            missing.append(framework)
        else:
            available.append(Installed(framework, version, backend=framework.backend(os.environ)))
    return available, missing


def version_of(framework: Framework) -> str | None:
    """The version of the first installed distribution of a framework."""
    for distribution in framework.distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def convention_for(
    function: Function, version: str, target: str, backend: str = "", capabilities: frozenset[str] = frozenset()
) -> DocumentedConvention:
    """Return the documented convention of a function for a version, a backend and a kind of target; the definition by
    default.

    capabilities: required by the problem.
    """
    for documented in function.conventions:
        if not documented.capabilities <= capabilities:
            continue
        if documented.targets is not None and target not in documented.targets:
            continue
        if documented.backends is not None and backend not in documented.backends:
            continue
        if within(version, documented.versions):
            return documented
    return DocumentedConvention(DEFINITION)


def newest_convention(function: Function, target: str, capabilities: frozenset[str]) -> Convention:
    """The documented convention of one of `functions` in its newest release and the first backend of its framework."""
    backend = next(known.backend({}) for known in frameworks() if known.name == function.framework_name)
    return convention_for(function, NEWEST, target, backend, capabilities).convention


@functools.cache
def conventions() -> tuple[Convention, ...]:
    """All documented conventions of all functions and versions."""
    described = [function for framework in frameworks() for function in framework.functions]
    return tuple(dict.fromkeys(documented.convention for function in described for documented in function.conventions))


@functools.cache
def within(version: str, versions: str) -> bool:
    """Whether a version is among PEP 440 specifiers; "" contains all of them.

    2.13.0+cpu counts as 2.13.0; a text that is not a version is only in "".
    """
    if not versions:
        return True
    try:
        return SpecifierSet(versions).contains(Version(Version(version).public), prereleases=True)
    except InvalidVersion:
        return False


def _present(module: str) -> bool:
    """Whether a module can be found; this imports the packages that contain it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (Exception, SystemExit):
        return False
