"""Answer the messages of a run in a worker process, on this machine or another one."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import warnings
from collections.abc import Sequence

import numpy as np

from conformance.adapters.contract import Framework, LoweringError
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.signatures import resolve
from conformance.execution.workers import wire
from conformance.execution.workers.loop import import_from_file
from conformance.execution.workers.wire import Buffers, Header
from conformance.model.outcome import Unsupported


class Server:
    """Answers messages in order; the first names the framework."""

    def __init__(self) -> None:
        self._framework: Framework | None = None

    def answer(self, header: Header, body: bytes | bytearray) -> Buffers:
        """The answer to one message; errors of the harness are also sent as answers."""
        try:
            match header["do"]:
                case "start":
                    return self._start(header)
                case "perform":
                    return self._perform(header, body)
                case "signatures":
                    return wire.encode_message({"signatures": {path: signature(path) for path in header["paths"]}})
        except LoweringError as error:
            return wire.encode_message({"harness": str(error)})
        return wire.encode_message({"harness": f"there is no {header['do']}"})

    def _start(self, header: Header) -> Buffers:
        """Import the adapter, the framework and what its calls need; return versions, or why this fails."""
        try:
            module, _, attribute = header["adapter"].partition(":")
            if header["file"] and importlib.util.find_spec(module.partition(".")[0]) is None:
                import_from_file(module.partition(".")[0], header["file"])
            self._framework = getattr(importlib.import_module(module), attribute)
            self._framework.prepare()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for name in self._framework.modules:
                    importlib.import_module(name)
                self._framework.runtime()
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}"
            return wire.encode_message({"failed": f"the framework cannot be imported: {why}"})
        backend = self._framework.backend(os.environ)
        if header["device"] not in (devices := self._framework.available_devices(backend)):
            why = (
                f"{self._framework.name} has no device {header['device']} on this machine; it has {', '.join(devices)}"
            )
            return wire.encode_message({"failed": why})
        versions = {
            "version": _version(self._framework.distributions),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "backend": backend,
        }
        return wire.encode_message({"ready": versions})

    def _perform(self, header: Header, body: bytes | bytearray) -> Buffers:
        if self._framework is None:
            raise LoweringError("a worker got a call before it was started")
        try:
            arrays = wire.decode_arrays(header, body)
        except ImportError as error:
            return wire.outcome_message(Unsupported(f"{error} where it runs"))
        return wire.outcome_message(perform(self._framework, wire.decode_call(header, arrays), header["what"]))


def signature(path: str) -> list[list[str]] | None:
    """Parameters of the callable at a dotted path as [name, kind, default or ""]; None if there is none."""
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            parameters = inspect.signature(resolve(path)).parameters.values()
    except (LookupError, AttributeError, TypeError, ValueError, ImportError):
        return None
    return [
        [p.name, p.kind.description, "" if p.default is p.empty else repr(p.default)]
        for p in parameters
        if p.name != "self"
    ]


def _version(distributions: Sequence[str]) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
