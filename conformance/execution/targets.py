"""Available frameworks and workers for them: installed, or in environments created for them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from conformance.adapters import registry
from conformance.adapters.contract import Framework
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import Call
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.execution.workers.loop import import_from_file
from conformance.execution.workers.pool import (
    DEFAULT_TIMEOUTS,
    LocalWorkerPool,
    Timeouts,
    WorkerError,
    WorkerPool,
    WorkerSpec,
)
from conformance.execution.workers.wire import Versions
from conformance.judging.judge import Judge
from conformance.judging.plan import check_modes, chosen_modes
from conformance.judging.reasons import Unavailable
from conformance.judging.row import Row
from conformance.model.errors import UserError
from conformance.model.outcome import Outcome
from conformance.model.row_key import CPU, EAGER, RowKey
from conformance.reference.oracle import Oracle, cached_oracle

if TYPE_CHECKING:
    from conformance.execution.environments import EnvironmentRequest

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Assignment:
    """A framework in an environment, and the worker that makes its calls; picklable."""

    environment: str
    worker: WorkerSpec
    mode: str = EAGER

    @property
    def framework(self) -> Framework:
        """The framework's adapter."""
        module, _, attribute = self.worker.adapter.partition(":")
        top = module.partition(".")[0]
        if self.worker.file and importlib.util.find_spec(top) is None:
            import_from_file(top, self.worker.file)
        framework: Framework = getattr(importlib.import_module(module), attribute)
        return framework

    def installed(self, versions: Versions) -> Installed:
        """The framework with the versions that its worker reported."""
        fields = {"environment": self.environment, "mode": self.mode, "device": self.worker.device}
        return Installed(self.framework, **fields, **asdict(versions))


def local_assignments(available: Iterable[Installed]) -> list[Assignment]:
    """A worker for each installed framework."""
    by_worker = {installed.worker: installed for installed in available}
    return [
        Assignment(
            installed.environment,
            worker_spec(name, installed.framework, installed.mode, device=installed.device),
            installed.mode,
        )
        for name, installed in by_worker.items()
    ]


WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
"""Hides GPUs, which TensorFlow, JAX, Keras and PaddlePaddle would use."""


def worker_spec(
    name: str,
    framework: Framework,
    mode: str = EAGER,
    interpreter: Path = Path(sys.executable),
    variables: Mapping[str, str] | None = None,
    device: str = CPU,
) -> WorkerSpec:
    """The worker for a framework in a mode, on a device.

    A framework created at run time for a user's callable may use GPUs.
    """
    origin = registry.origin(framework)
    hidden = {} if framework.adapter or device != CPU else WITHOUT_GPU
    variables = {**hidden, **(variables or {}), **framework.mode(mode).environment}
    return WorkerSpec(name, origin.adapter, origin.file, variables, interpreter, device)


def check_devices(available: Iterable[Installed]) -> None:
    """Raise UserError for each framework whose device is not available on this machine.

    Workers check it; for the CPU none is started.
    """
    placed = [installed for installed in available if installed.device != CPU]
    if not placed:
        return
    with local_pool(placed) as pool:
        lacking = [str(error) for error in pool.all_versions().values() if isinstance(error, WorkerError)]
    if lacking:
        raise UserError("\n".join([*lacking, "--framework selects others"]))


def local_pool(available: Iterable[Installed], timeouts: Timeouts = DEFAULT_TIMEOUTS) -> LocalWorkerPool:
    """Workers for installed frameworks."""
    return LocalWorkerPool([assignment.worker for assignment in local_assignments(available)], timeouts)


MAX_TOGETHER = 3
"""Maximum number of frameworks called in one process: some of the known ones crash a process with others."""


@contextlib.contextmanager
def pool_if_needed(available: Sequence[Installed], ledger: Ledger) -> Iterator[LocalWorkerPool | None]:
    """Context manager: workers, if calls need separate processes; None if all can be made in this one.

    They are needed in modes with environment variables, for many frameworks, and for functions known to crash.
    """
    check_devices(available)
    several = len({installed.framework.name for installed in available}) > MAX_TOGETHER
    if several or any(
        installed.framework.mode(installed.mode).environment
        or any(ledger.knows_crash(function.name, installed.version) for function in installed.functions)
        for installed in available
    ):
        with local_pool(available) as pool:
            yield pool
    else:
        yield None


def performer(pool: WorkerPool, available: Iterable[Installed]) -> Callable[[Framework, Call, str], Outcome]:
    """A `judge.Performer` that makes calls one at a time in the workers of installed frameworks."""
    workers = {(installed.framework.name, installed.mode): installed.worker for installed in available}

    def perform(framework: Framework, call: Call, description: str, copied: bool = True) -> Outcome:
        """Make a call, as `calling.perform` does; workers always receive copies."""
        return pool.wait(pool.submit(workers[framework.name, call.mode], call, description))

    return perform


@contextlib.contextmanager
def open_judge(available: Sequence[Installed], ledger: Ledger, oracle: type[Oracle] = Oracle) -> Iterator[Judge]:
    """A judge for installed functions, with a cached oracle.

    oracle: class of the oracle.
    """
    with cached_oracle(oracle) as exact, pool_if_needed(available, ledger) as pool:
        yield Judge(exact, ledger, perform if pool is None else performer(pool, available))


@dataclass(frozen=True)
class EnvironmentWorkers:
    """Started workers in environments."""

    pool: WorkerPool
    available: list[Installed]
    failed: list[Row] = field(default_factory=list)
    """One row for each environment that cannot be created."""


def start_workers(
    frameworks: Mapping[str, Sequence[str]],
    progress: Progress,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> EnvironmentWorkers:
    """Start a worker for each framework in environments.

    An environment that cannot be created, or whose framework cannot be imported, becomes a row.  Parameters as in
    `resolve`.  Raises UserError if there is no other.
    """
    assignments, failed = resolve(frameworks, progress)
    pool = LocalWorkerPool([assignment.worker for assignment in assignments], timeouts)
    try:
        return EnvironmentWorkers(pool, find_available(assignments, pool.all_versions(), failed), failed)
    except UserError:
        pool.close()
        raise


def resolve(
    frameworks: Mapping[str, Sequence[str]],
    progress: Progress,
    ray: str | None = None,
    modes: Sequence[str] = (),
    device: str = CPU,
) -> tuple[list[Assignment], list[Row]]:
    """Create environments; return the workers to start in them, and a row for each that cannot be created.

    frameworks: framework names for each value of `--with`; empty for all that the environment is for.  progress: called
    with a line for each step.  ray: address of a Ray cluster, "" for RAY_ADDRESS or a local Ray; None to use this
    machine without Ray.  modes: modes of the calls, with one worker each; eager if empty.  device: device of the
    arrays.  Raises SelectionError for a mode or a device that no framework in them has.
    """
    from conformance.execution.environments import parse  # slow to import; a run without environments does not need it

    find = _find_on_ray if ray is not None else _find_locally
    failed: list[Row] = []
    assignments: dict[str, Assignment] = {}
    pairs: list[tuple[Framework, str]] = []
    for text, names in frameworks.items():
        try:
            request = parse(text)
            packages, spec_of = find(request, progress)
            for framework in _frameworks_in(request, packages, names):
                backend = framework.backend({**os.environ, **request.variables})
                pairs.append((framework, backend))
                for mode in chosen_modes(modes, framework, backend, device):
                    name = registry.worker(framework.name, request.name, mode, device)
                    assignments[name] = Assignment(request.name, spec_of(name, framework, mode, device), mode)
        except UserError as error:
            failed.append(failed_row(text, names[0] if len(names) == 1 else "", str(error)))
    check_modes(modes, pairs, device, local=ray is None)
    return list(assignments.values()), failed


def find_available(
    assignments: Iterable[Assignment], versions: Mapping[str, Versions | WorkerError], failed: list[Row]
) -> list[Installed]:
    """The frameworks whose workers have started; a row for each other one is added to `failed`.

    versions: versions, or why it has not started, by name of the worker.  Raises UserError if none has started.
    """
    available = []
    for assignment in assignments:
        answer = versions[assignment.worker.name]
        if isinstance(answer, Versions):
            available.append(assignment.installed(answer))
        else:
            failed.append(failed_row(assignment.environment, assignment.framework.name, str(answer)))
    if not available:
        raise UserError("\n".join(row.explanation for row in failed) or "no environment has a framework that is named")
    return available


Found = tuple[Mapping[str, str], Callable[[str, Framework, str, str], WorkerSpec]]
"""Versions by distribution, and the factory of worker specifications (name, framework, mode, device)."""


def _find_locally(request: EnvironmentRequest, progress: Progress) -> Found:
    from conformance.execution.environments import build

    environment = build(request, progress)
    return environment.packages, lambda name, framework, mode, device: worker_spec(
        name, framework, mode, environment.interpreter, environment.variables, device
    )


def _find_on_ray(request: EnvironmentRequest, progress: Progress) -> Found:
    from conformance.execution.environments import read_sources, resolve_pins
    from conformance.execution.workers.on_ray import RayWorkerSpec

    lines, packages = resolve_pins(request, progress)
    sources = read_sources()

    def spec_of(name: str, framework: Framework, mode: str, device: str) -> RayWorkerSpec:
        spec = worker_spec(name, framework, mode, variables=request.variables, device=device)
        return RayWorkerSpec(**vars(spec), requirements=lines, sources=sources)

    return packages, spec_of


def _frameworks_in(request: EnvironmentRequest, packages: Mapping[str, str], names: Collection[str]) -> list[Framework]:
    """The frameworks with some names in an environment; without names, those that it is for.

    These are the frameworks named outside brackets, or else all that are in it; of these only those that a run includes
    by default, if there are any.
    """
    requested = {
        str(canonicalize_name(word)) for word in re.findall(r"[A-Za-z][\w.-]*", re.sub(r"\[.*?\]", "", request.text))
    }
    frameworks = [f for f in registry.frameworks() if set(packages) & set(f.distributions)]
    if not frameworks:
        known = ", ".join(framework.distributions[0] for framework in registry.frameworks())
        raise UserError(f"{request.name}: none of {known} is in it, so there is nothing to run; name one of them")
    if names:
        return [f for f in frameworks if f.name in names]
    frameworks = [f for f in frameworks if requested & set(f.distributions)] or frameworks
    return [f for f in frameworks if f.by_default] or frameworks


def failed_row(environment: str, framework: str, why: str) -> Row:
    """The row that represents all items of an environment that cannot be created."""
    reason = Unavailable(why)
    key = RowKey("", "", environment, "", "", "", environment)
    return Row(
        key=key,
        framework=framework,
        status="crashed",
        expected="unexpected",
        reason_code=reason.code,
        explanation=str(reason),
    )
