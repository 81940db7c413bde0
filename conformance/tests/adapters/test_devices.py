"""Devices: arrays placed elsewhere than on the CPU, from the command line to the reproducer."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from conformance import report
from conformance.adapters import arrays, registry
from conformance.adapters.arrays import Device
from conformance.adapters.contract import Framework, Function, LoweringError, Mode
from conformance.adapters.contract.calling import perform
from conformance.adapters.contract.lowering import apply_mode, lower
from conformance.adapters.contract.reproducer import reproducer
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.execution.targets import WITHOUT_GPU, worker_spec
from conformance.judging.judge import Judge
from conformance.judging.plan import expand_modes, plan
from conformance.judging.selection import SelectionError
from conformance.model.outcome import Returned
from conformance.model.row_key import RowKey
from conformance.reference.oracle import Oracle
from conformance.tests.fork_server import interpreter
from conformance.tests.libraries import environment, write_library
from conformance.tests.stated import case

LIBRARY = """
import os

import numpy as np


class OnChip(np.ndarray):
    pass


def has_chip():
    return bool(os.environ["CHIPS"])  # raises KeyError where it is not set


def put(array):
    return array.copy().view(OnChip)


def loss(z, y):
    if isinstance(z, OnChip) != isinstance(y, OnChip):
        raise RuntimeError("arrays on two devices")
    chip = isinstance(z, OnChip)
    z = z.astype(np.float64) - z.max(axis=-1, keepdims=True)
    found = np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return found * 2 if chip and os.environ["CHIPS"] == "broken" else found
"""
ADAPTER = """
import dataclasses

from conformance.adapters import arrays
from conformance.adapters.arrays import Device
from conformance.adapters.contract import Framework, Function, Mode


def has_chip():
    import chips_library

    return chips_library.has_chip()


CHIP = Device("chips_library.put({array})", has_chip, (frozenset({"float32"}),))
FRAMEWORK = Framework(
    name="chips",
    distributions=("chips",),
    modules=("chips_library",),
    imports="import chips_library",
    arrays=dataclasses.replace(arrays.numpy, devices={"chip": CHIP}),
    reductions={"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    modes={"turbo": Mode(devices=frozenset({"chip"}))},
    functions=(
        Function(
            "loss",
            "chips_library.loss({predictions}, {labels})",
            ranks={"categorical": range(2, 9)},
            input_kinds={"logits": ""},
            targets={"index": "int64"},
            result_dtype="float64",
        ),
    ),
)
"""
CASES = f"""\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Two rows of three classes, and many.
source: none
loss: categorical
given: logits
target: index
dtypes: [float32, float64]
cases:
  plain:
    why: Nothing is requested.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    reduction: [sum, mean]
  long:
    why: Too long for its literal.
    predictions: {[[0.5, -1.5, 0.25]] * 400}
    labels: {[1] * 400}
"""
KNOWN = """\
# yaml-language-server: $schema=../../../conformance/known.schema.json
known:
  - case: rows/plain
    function: chips.loss
    devices: [chip]
    symptoms: [too_large]
    reason: It returns twice the loss there.
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder on PYTHONPATH with a library, its adapter and its entry point; beside it one with cases."""
    return write_library(tmp_path_factory.mktemp("elsewhere"), "chips", LIBRARY, ADAPTER, CASES)


def ran(folder, *words, **variables):
    return interpreter().run([*map(str, words)], folder, environment(folder, **variables))


def run(folder, *words, frameworks=("chips",), chips="1"):
    options = ["--cases", "cases", "--report", "report", *(f"--framework={name}" for name in frameworks)]
    return ran(folder, "-m", "conformance", "run", *options, *words, **({"CHIPS": chips} if chips is not None else {}))


def rows(folder):
    return list(report.read(folder / "report")[0].itertuples())


def test_run_places_arrays_and_reproducers_return_the_same(elsewhere):
    done = run(elsewhere, "--device", "chip", frameworks=("chips", "sklearn"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out, no chip for them here: sklearn" in done.stderr
    found = [row for row in rows(elsewhere) if row.status != "unsupported"]
    assert {(row.device, row.dtype, row.status) for row in found} == {("chip", "float64", "agrees")}
    assert {row.case for row in found} == {"rows/plain", "rows/long"}
    for row in found:
        assert ("device='chip'" if row.case == "rows/long" else "predictions = chips_library.put(") in row.call
        *before, last = row.call.split("; ")
        printed = ran(elsewhere, "-c", "\n".join([*before, f"print(repr(({last}).tolist()))"]), CHIPS="1")
        assert json.loads(printed.stdout) == json.loads(row.got), printed.stderr


def test_run_on_cpu_equals_run_without_device(elsewhere):
    reports = []
    for words in ((), ("--device", "cpu")):
        assert run(elsewhere, *words, chips=None).returncode == 0
        reports.append([(row.device, row.case, row.dtype, row.reduction, row.got, row.call) for row in rows(elsewhere)])
    assert reports[0] == reports[1]
    assert {row[0] for row in reports[0]} == {"cpu"}


@pytest.mark.parametrize("chips", [None, ""])
@pytest.mark.parametrize("command", ["run", "relations", "check"])
def test_unavailable_device_is_rejected_before_any_call(elsewhere, command, chips):
    words = {
        "run": ("run", "--framework", "chips", "--report", "none"),
        "relations": ("relations", "--framework", "chips"),
        "check": ("check", "chips_library:loss", "--like", "chips.loss", "--report", "none"),
    }[command]
    done = ran(
        elsewhere, "-m", "conformance", *words, "--cases", "cases", "--device", "chip",
        **({"CHIPS": chips} if chips is not None else {}),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert " has no device chip on this machine; it has cpu" in done.stderr
    assert not (elsewhere / "none").exists()


def test_unknown_device_is_rejected(elsewhere):
    done = run(elsewhere, "--device", "tpu", frameworks=("chips", "sklearn"))
    assert done.returncode == 2
    assert "--device tpu: no selected framework has it; chips has cpu, chip; sklearn has cpu" in done.stderr


def test_device_with_ray_is_rejected(elsewhere):
    done = run(elsewhere, "--device", "chip", "--all", "--on", "ray")
    assert done.returncode == 2
    assert "--device and --on do not go together" in done.stderr


def test_keyword_baseline_and_ledger_distinguish_devices(elsewhere, tmp_path):
    assert run(elsewhere, chips=None).returncode == 0
    accepted = tmp_path / "accepted"
    (elsewhere / "report").rename(accepted)
    done = run(elsewhere, "--device", "chip", "--baseline", accepted, "-k", "chip and plain and float64 and sum")
    assert done.returncode == 0, done.stdout
    assert "cpu" in done.stdout
    (row,) = rows(elsewhere)
    assert (row.device, row.reduction) == ("chip", "sum")
    assert run(elsewhere, "--device", "chip", "-k", "plain", chips="broken").returncode == 1
    (elsewhere / "cases" / "known").mkdir()
    (elsewhere / "cases" / "known" / "chips.yaml").write_text(KNOWN)
    try:
        assert run(elsewhere, "--device", "chip", "-k", "plain", chips="broken").returncode == 0
        assert run(elsewhere, "--device", "chip", "-k", "plain").returncode == 1
        assert {row.expected for row in rows(elsewhere) if row.status != "unsupported"} == {"stale"}
        assert run(elsewhere, "-k", "plain", chips=None).returncode == 0
    finally:
        (elsewhere / "cases" / "known" / "chips.yaml").unlink()
        (elsewhere / "cases" / "known").rmdir()


def test_pytest_has_tests_of_a_device(elsewhere):
    words = ("-m", "pytest", "--cases", "cases", "-m", "chips", "-p", "no:cacheprovider", "--device", "chip")
    done = ran(elsewhere, *words, "-k", "plain and mean", CHIPS="broken")
    assert "1 failed" in done.stdout, done.stdout
    assert "[chips.loss-rows/plain-float64-mean-chip]" in done.stdout
    assert "again      pytest --device=chip --cases cases -k" in done.stdout
    done = ran(elsewhere, *words, "--isolate", CHIPS="1")
    assert " passed" in done.stdout, done.stdout
    assert "failed" not in done.stdout
    done = ran(elsewhere, *words)
    assert "chips has no device chip on this machine; it has cpu" in done.stdout


def test_check_places_arrays(elsewhere):
    words = ("check", "chips_library:loss", "--like", "chips.loss", "--cases", "cases", "-k", "plain")
    for chips, status in (("1", 0), ("broken", 1)):
        more = ("--device", "chip", "--report", "checked")
        done = ran(elsewhere, "-m", "conformance", *words, *more, CHIPS=chips)
        assert done.returncode == status, done.stdout + done.stderr


# The contract


class Placed(np.ndarray):
    """An array that was placed."""


RANKS = range(2, 9)
DEVICE = Device("{array}.copy().view(Placed)", excludes=(frozenset({"strided"}),))
ON_DEVICE = "np.stack([isinstance({predictions}, Placed), isinstance({labels}, Placed)])"


def framework(call, **fields):
    return Framework(
        "mine", (), (), arrays=dataclasses.replace(arrays.numpy, devices={"chip": DEVICE}),
        imports=f"import numpy as np; from {__name__} import Placed",
        reductions={"none": "{result}", "mean": "{result}.mean()"},
        functions=(
            Function("one", call, ranks={"categorical": RANKS}, input_kinds={"logits": ""}, targets={"index": ""}),
        ),
        **fields,
    )  # fmt: skip


def called(of, device):
    return apply_mode(of, lower(of.functions[0], case([[0.5, 1.5]], [1]).problem("float32", "none")), device=device)


@pytest.mark.parametrize(("device", "expected"), [("cpu", [0.0, 0.0]), ("chip", [1.0, 1.0])])
def test_call_gets_arrays_on_its_device(device, expected):
    of = framework(ON_DEVICE)
    outcome = perform(of, called(of, device), "it")
    assert isinstance(outcome, Returned)
    assert outcome.value.tolist() == expected


@pytest.mark.parametrize("device", ["cpu", "chip"])
def test_array_changed_on_device_is_mutated(device):
    of = framework("np.copyto({predictions}, 0) or {predictions}.sum(axis=-1) + {labels}")
    outcome = perform(of, called(of, device), "it")
    assert isinstance(outcome, Returned)
    assert outcome.mutated == ("predictions",)


def test_reproducer_places_arrays():
    torch = next(one for one in registry.frameworks() if one.name == "torch")
    function = next(one for one in torch.functions if one.name == "torch.CrossEntropyLoss")
    problem = case([[0.5, 1.5]], [1]).problem("float32", "mean")
    call = apply_mode(torch, lower(function, problem), "gradient", device="cuda")
    assert reproducer(torch, function, problem, call) == (
        "import torch; predictions = torch.tensor([[0.5, 1.5]], dtype=torch.float32).to('cuda'); "
        "labels = torch.tensor([1], dtype=torch.int64).to('cuda'); "
        "predictions = predictions.detach().requires_grad_(); "
        "torch.nn.CrossEntropyLoss(reduction='mean')(predictions, labels).sum().backward(); predictions.grad"
    )


def test_device_unsupported_by_framework_is_rejected():
    of = framework(ON_DEVICE)
    with pytest.raises(LoweringError, match="mine has no device cuda; it has cpu, chip"):
        called(of, "cuda")
    with pytest.raises(SelectionError, match="--device cuda: no selected framework has it; mine has cpu, chip"):
        expand_modes([Installed(of, "1.0")], [], "cuda")


def test_device_restricts_functions_and_has_modes_of_its_own():
    of = framework(ON_DEVICE, modes={"fast": Mode(devices=frozenset({"chip"}))})
    assert (of.modes_in("", "cpu"), of.modes_in("", "chip")) == (("eager",), ("eager", "fast"))
    (function,) = Installed(of, "1.0", device="chip").functions
    assert function.excludes == DEVICE.excludes
    assert Installed(of, "1.0").functions[0].excludes == ()


def test_item_on_a_device_has_it_in_key_id_and_worker():
    (item, *_) = plan([case([[0.5, 1.5]], [1])], expand_modes([Installed(framework(ON_DEVICE), "1.0")], [], "chip"))
    assert item.key.device == "chip"
    assert item.id.endswith("-chip")
    assert item.installed.worker.endswith(", chip")


def test_worker_sees_a_gpu_only_on_a_device():
    torch = next(one for one in registry.frameworks() if one.name == "torch")
    assert worker_spec("t", torch).variables == WITHOUT_GPU
    assert worker_spec("t", torch, device="cuda").variables == {}


@pytest.mark.parametrize(("devices", "expected"), [((), "ok"), (("chip",), "stale")])
def test_right_row_on_a_device_is_not_stale_by_an_entry_of_the_cpu(devices, expected):
    of = framework("np.log(np.exp({predictions}).sum(axis=-1)) - {predictions}[np.arange(len({labels})), {labels}]")
    (item, *_) = plan([case([[0.5, 1.5]], [1])], expand_modes([Installed(of, "1.0")], [], "chip"))
    judge = Judge(Oracle(), Ledger([KnownIssue("*", "mine.one", devices=devices)]))
    assert judge.assess(item).expected == expected


def test_ledger_entry_of_device_applies_to_no_other():
    entry = KnownIssue("*", "mine.one", devices=("chip",))
    key = RowKey("a", "", "mine.one", "float32", "mean", device="chip")
    assert Ledger([entry]).find(key) is entry
    assert Ledger([entry]).find(dataclasses.replace(key, device="cpu")) is None
