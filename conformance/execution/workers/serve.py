"""What a worker does with a message, wherever it runs: in a process beside the run, or on another machine."""

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
from conformance.execution.workers.loop import mount
from conformance.execution.workers.wire import Buffers, Head
from conformance.model.outcome import Unsupported


class Server:
    """Answers messages, one after another; the first one says for which framework."""

    def __init__(self) -> None:
        self._framework: Framework | None = None

    def answer(self, head: Head, body: bytes | bytearray) -> Buffers:
        """The answer to one message; what goes wrong here is an answer, too."""
        try:
            match head["do"]:
                case "start":
                    return self._start(head)
                case "perform":
                    return self._perform(head, body)
                case "signatures":
                    return wire.message({"signatures": {path: signature(path) for path in head["paths"]}})
        except LoweringError as error:
            return wire.message({"harness": str(error)})
        return wire.message({"harness": f"there is no {head['do']}"})

    def _start(self, head: Head) -> Buffers:
        """Import the adapter and the framework, and say what is here, or why that cannot be done."""
        try:
            module, _, attribute = head["adapter"].partition(":")
            if head["file"] and importlib.util.find_spec(module.partition(".")[0]) is None:
                mount(module.partition(".")[0], head["file"])
            self._framework = getattr(importlib.import_module(module), attribute)
            self._framework.prepare()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for name in self._framework.modules:
                    importlib.import_module(name)
        except (Exception, SystemExit) as error:
            return wire.message({"failed": f"{type(error).__name__}: {' '.join(str(error).split())[-500:]}"})
        here = {
            "version": _version(self._framework.distributions),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "backend": self._framework.backend(os.environ),
        }
        return wire.message({"ready": here})

    def _perform(self, head: Head, body: bytes | bytearray) -> Buffers:
        if self._framework is None:
            raise LoweringError("a worker was asked before it was started")
        try:
            arrays = wire.arrays_of(head, body)
        except ImportError as error:
            return wire.outcome_message(Unsupported(f"{error} where it runs"))
        return wire.outcome_message(perform(self._framework, wire.call_of(head, arrays), head["what"]))


def signature(path: str) -> list[list[str]] | None:
    """Parameters of what stands at a dotted path as (name, kind, default or ""); None where there is none."""
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
