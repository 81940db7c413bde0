"""Which frameworks there are and which are installed, found out without importing any of them.

The folder `conformance/adapters` is the registry, its modules but for `SHARED` one framework each; packages
elsewhere add theirs with an entry point in the group `conformance.adapters` that names a `Framework`.
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

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
"""The modules of `conformance.adapters` that are not an adapter of a framework."""


MAX_REASON = 500
"""Characters of an exception of an adapter that are quoted."""
ADAPTER_SECONDS = 60.0
"""Seconds that the import of an adapter from outside may take, which imports no framework, or a row of a table."""
GRACE_SECONDS = 10.0
"""Seconds after that in which it may still be interrupted."""
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
    """An adapter cannot be used: which, and why."""


class UnknownFunctionError(UserError, ValueError):
    """There is no function of a name: the name, and those that are similar."""


NEWEST = "99999"
"""A version that every open range has."""


def worker(framework: str, environment: str, mode: str = EAGER, device: str = CPU) -> str:
    """The name of the process that makes the calls of a framework in a mode, on a device."""
    return ", ".join([f"{framework} in {environment}", *unusual(mode=mode, device=device)])


@dataclass(frozen=True)
class Installed:
    """An installed framework, its surroundings, and the mode and device in which it is called."""

    framework: Framework
    """Its declaration."""
    version: str
    """Version of its distribution."""
    environment: str = f"python{platform.python_version()}"
    """Name of the environment in reports."""
    python: str = platform.python_version()
    """Version of Python there."""
    numpy: str = numpy.__version__
    """Version of numpy there."""
    backend: str = ""
    """The backend that runs there; "" for a framework that has none."""
    mode: str = EAGER
    """A mode of the framework."""
    device: str = CPU
    """A device on which its backend computes."""

    @property
    def worker(self) -> str:
        """Name of the worker that makes its calls, as `worker` gives it."""
        return worker(self.framework.name, self.environment, self.mode, self.device)

    @property
    def options(self) -> str:
        """The options of a command that choose its mode and device, each with a blank after it."""
        named = (("mode", self.mode, EAGER), ("device", self.device, CPU))
        return "".join(f"--{name}={value} " for name, value, usual in named if value != usual)

    @property
    def differentiates(self) -> bool:
        """Whether its arrays have gradients."""
        return self.framework.differentiates(self.backend)

    @functools.cached_property
    def functions(self) -> tuple[Function, ...]:
        """The framework's functions as this version, backend, mode and device have them."""
        return functions_in(self.framework, self.version, self.backend, self.mode, self.device)


@dataclass(frozen=True)
class Origin:
    """Where a `Framework` is defined."""

    adapter: str
    """`module:attribute`."""
    file: str = ""
    """File of its top-level package; "" if it is unknown."""


@functools.cache
def frameworks() -> tuple[Framework, ...]:
    """Every known framework, installed or not, by name; those of adapters that cannot be used are left out."""
    return tuple(framework for framework, _ in _found()[0].values())


def check() -> None:
    """Raise AdapterError if an adapter cannot be used."""
    for error in _found()[1]:
        raise error


def broken() -> list[str]:
    """What is wrong with each adapter that cannot be used."""
    return [str(error) for error in _found()[1]]


def warn_of_broken() -> None:
    """Log once for each adapter that cannot be used that it is left out."""
    for why in broken():
        _log_once(why)


def origin(framework: Framework) -> Origin:
    """Where a framework is defined; raises KeyError if it is unknown."""
    return Origin(framework.adapter) if framework.adapter else _found()[0][framework.name][1]


def is_of_package(framework: Framework) -> bool:
    """Whether a framework is one that a module of this package declares."""
    return any(known is framework and _is_ours(origin) for known, origin in _found()[0].values())


def _is_ours(origin: Origin) -> bool:
    return origin.adapter.startswith(f"{adapters.__name__}.")


def described(functions: Iterable[Function], describe: Callable[[Function], T]) -> list[T]:
    """What a table says of each function; one from outside that cannot be described is left out, and that is logged."""
    found = []
    for function in functions:
        where = _found()[0].get(function.framework_name, (None, Origin("")))[1]
        if not where.adapter or _is_ours(where):
            found.append(describe(function))
            continue
        try:
            with _guarded(f"{function.name} cannot be described"):
                found.append(describe(function))
        except AdapterError as error:
            _log_once(str(error))
    return found


@functools.cache
def _log_once(why: str) -> None:
    _log.warning("%s; it is left out", why)


def made_by(adapter: str) -> Installed:
    """The framework of an adapter, `module:attribute`, that is made at run time."""
    module, _, attribute = adapter.partition(":")
    framework: Framework = getattr(importlib.import_module(module), attribute)
    return Installed(framework, version_of(framework) or "0", backend=framework.backend(os.environ))


def source_digest(framework: Framework) -> str:
    """A digest of the source of a framework's adapter; empty where there is no file."""
    try:
        spec = importlib.util.find_spec(origin(framework).adapter.partition(":")[0])
        return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16] if spec and spec.origin else ""
    except (KeyError, OSError):
        return ""


@functools.cache
def _found() -> tuple[dict[str, tuple[Framework, Origin]], list[AdapterError]]:
    """The frameworks by name with where they are written down, and what is wrong with other adapters."""
    found: dict[str, tuple[Framework, Origin]] = {}
    errors = []
    for module in pkgutil.iter_modules(adapters.__path__):
        if module.name in SHARED:
            continue
        name = f"{adapters.__name__}.{module.name}"
        try:
            framework = importlib.import_module(name).FRAMEWORK
        except DeclarationError as error:
            raise AdapterError(f"{_file(name) or name}: {error}") from error
        found[framework.name] = (framework, Origin(f"{name}:FRAMEWORK"))
    points, unreadable = _entry_points()
    errors += unreadable
    for point in points:
        try:
            framework = _loaded(point)
        except AdapterError as error:
            errors.append(error)
            continue
        if framework.name in found:
            errors.append(AdapterError(f"two adapters are called {framework.name}; the second is {point.value}"))
            continue
        found[framework.name] = (framework, Origin(point.value, _file(point.module.partition(".")[0])))
    return {name: found[name] for name in sorted(found)}, errors


def _entry_points() -> tuple[list[importlib.metadata.EntryPoint], list[AdapterError]]:
    """The entry points of adapters, and which distributions have some that cannot be read."""
    try:
        return list(importlib.metadata.entry_points(group=ENTRY_POINTS)), []
    except Exception:
        found, errors = [], []
    for distribution in importlib.metadata.distributions():
        try:
            found += [point for point in distribution.entry_points if point.group == ENTRY_POINTS]
        except Exception as error:
            message = truncate(f"{type_name(error)}: {text_of(error)}", MAX_REASON)
            errors.append(AdapterError(f"{distribution.locate_file('')}: entry points cannot be read: {message}"))
    return list(dict.fromkeys(found)), errors


def _loaded(point: importlib.metadata.EntryPoint) -> Framework:
    """The framework of an entry point.  Raises AdapterError if it is none, or one whose fields cannot be read."""
    name = f"the adapter {point.name} ({point.value})"
    if importlib.metadata.EntryPoint.pattern.match(point.value) is None:
        raise AdapterError(f"{name} names no object; write module:attribute, such as my_losses.adapter:FRAMEWORK")
    with _guarded(f"{name} cannot be loaded", lambda: _file(point.module)):
        with _watchdog(f"{name} does not come back from its import: uninstall it"):
            framework = point.load()
        if type(framework) is not Framework:  # a subclass could run code
            raise AdapterError(f"{name} is not a conformance.adapters.contract.Framework")
        check_field_types(framework)
        for function in functions_in(framework, NEWEST):
            hash((function.name, *function.dtypes, *function.reductions, *function.conventions))
        return framework


@contextlib.contextmanager
def _guarded(what: str, file: Callable[[], str] = str) -> Iterator[None]:
    """Within the context, turn whatever code from outside raises, and that it does not end, into AdapterError.

    what: begins the message.  file: gives the file in which a declaration is wrong, instead.
    """
    with Surroundings() as surroundings:
        try:
            with _time_limit(ADAPTER_SECONDS):
                yield
        except AdapterError:
            raise
        except DeclarationError as error:
            raise AdapterError(f"{file() or what}: {truncate(text_of(error), MAX_REASON)}") from error
        except SystemExit as error:
            raise AdapterError(f"{what}: it exits with {text_of(error)}") from error
        except BaseException as error:
            surroundings.pass_on(error)
            message = truncate(f"{type_name(error)}: {text_of(error)}", MAX_REASON)
            raise AdapterError(f"{what}: {message}") from cause(error)


@contextlib.contextmanager
def _watchdog(message: str) -> Iterator[None]:
    """Within the context, end this process with a message if it takes long, even in C code that `_time_limit` misses.

    It is another process that does so: no thread of this one may get Python's lock.
    """
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    seconds = ADAPTER_SECONDS + GRACE_SECONDS
    arguments = [str(seconds), str(os.getpid()), f"conformance: {message}\n"]
    # of its own session: Ctrl-C is for this process
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-S", "-c", _WATCHDOG, *arguments], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Within the context, raise TimeoutError after some seconds; without signals, or outside the main thread, never."""
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
    """The file of a module, imported or not; "" if nothing says it."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:
        spec = None
    return (spec and spec.origin) or ""


def functions() -> tuple[Function, ...]:
    """Every function of every known framework, as its newest releases have it."""
    return tuple(function for framework in frameworks() for function in functions_in(framework, NEWEST))


def function_named(name: str) -> Function:
    """The known function of a name, such as `torch.CrossEntropyLoss` or `torch.nn.CrossEntropyLoss`.

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
    called = framework.mode(mode)
    excludes = (*called.excludes, *framework.device(device, backend).excludes)

    def placed(function: Function) -> Function:
        if not excludes and not called.result_dtype and called.narrowed_to is None:
            return function
        changes: dict[str, Any] = {"excludes": (*function.excludes, *excludes)}
        if called.result_dtype:
            changes["result_dtype"] = called.result_dtype
        if called.narrowed_to is not None:
            narrowed = (replace(one.convention, narrowed_to=called.narrowed_to) for one in function.conventions)
            stated = zip(function.conventions, narrowed, strict=True)
            changes["conventions"] = tuple(replace(one, convention=convention) for one, convention in stated)
            changes["narrowed_to"] = called.narrowed_to
        return replace(function, **changes)

    return tuple(
        placed(function)
        for function in framework.functions
        if within(version, function.versions)
        and (function.backends is None or backend in function.backends)
        and function.has_mode(mode)
    )


def installed(among: tuple[Framework, ...] | None = None) -> tuple[list[Installed], list[Framework]]:
    """(those that can be imported here, those that are left out); nothing is imported to find out.

    among: frameworks to look for; those that a run has by default if None.
    """
    available: list[Installed] = []
    missing: list[Framework] = []
    for framework in (one for one in frameworks() if one.by_default) if among is None else among:
        version = version_of(framework)
        if version is None or not all(map(_present, framework.modules)):
            missing.append(framework)
        else:
            available.append(Installed(framework, version, backend=framework.backend(os.environ)))
    return available, missing


def version_of(framework: Framework) -> str | None:
    """The version of the first of a framework's distributions that is installed."""
    for distribution in framework.distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def convention_for(
    function: Function, version: str, target: str, backend: str = "", capabilities: frozenset[str] = frozenset()
) -> DocumentedConvention:
    """Return what a function documents for a version, a backend and a kind of target; the definition by default.

    capabilities: those that the problem requires.
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
    """What one of `functions` documents in its newest release and the first backend of its framework."""
    backend = next(known.backend({}) for known in frameworks() if known.name == function.framework_name)
    return convention_for(function, NEWEST, target, backend, capabilities).convention


@functools.cache
def conventions() -> tuple[Convention, ...]:
    """Every convention that some function documents in some version."""
    described = [function for framework in frameworks() for function in framework.functions]
    return tuple(dict.fromkeys(documented.convention for function in described for documented in function.conventions))


@functools.cache
def within(version: str, versions: str) -> bool:
    """Whether a version is among PEP 440 specifiers; "" has all of them.

    2.13.0+cpu counts as 2.13.0; what is not a version is in "" only.
    """
    if not versions:
        return True
    try:
        return SpecifierSet(versions).contains(Version(Version(version).public), prereleases=True)
    except InvalidVersion:
        return False


def _present(module: str) -> bool:
    """Whether a module can be found, for which the packages that it is in are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (Exception, SystemExit):
        return False
