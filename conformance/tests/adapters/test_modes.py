"""Modes: functions called in another way than as they stand, from the command line to the reproducer."""

from __future__ import annotations

import dataclasses
import json

import pytest

from conformance import report
from conformance.adapters import arrays, registry
from conformance.adapters.contract import Backend, DeclarationError, Framework, Function, Mode
from conformance.adapters.contract.lowering import apply_mode, lower
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import KnownIssue, Ledger
from conformance.judging.plan import expand_modes, plan
from conformance.judging.selection import SelectionError
from conformance.model.row_key import RowKey
from conformance.tests.fork_server import interpreter
from conformance.tests.libraries import environment, write_library
from conformance.tests.stated import case

LIBRARY = """
import os
import numpy as np

THREADS = os.environ.get("MODAL_THREADS", "all")
WIDEST = np.float64


def losses(z, y):
    if (y < 0).any():
        raise IndexError("a label below 0")
    z = z.astype(WIDEST) - z.astype(WIDEST).max(axis=-1, keepdims=True)
    return np.log(np.exp(z).sum(axis=-1)) - np.take_along_axis(z, y[..., None], axis=-1)[..., 0]


def batched(loss):
    def mapped(*values):
        found = [loss(*(value[None] for value in of)) for of in zip(*values)]
        assert all(one.shape == (1,) for one in found), "what it maps must not be reduced"
        return np.concatenate(found)

    return mapped


def doubled(loss):
    return lambda *values: 2 * loss(*values)


def on_one_thread(loss):
    if THREADS != "1":
        raise RuntimeError("imported with " + THREADS)
    return loss
"""
ADAPTER = """
from conformance.adapters import arrays
from conformance.adapters.contract import Framework, Function, Mode

FRAMEWORK = Framework(
    name="modal",
    distributions=("modal",),
    modules=("modal_library",),
    imports="import modal_library",
    arrays=arrays.numpy,
    reductions={"none": "{result}", "sum": "{result}.sum()", "mean": "{result}.mean()"},
    modes={
        "batched": Mode("modal_library.batched({loss})", unreduced=True, excludes=(frozenset({"higher_rank"}),)),
        "doubled": Mode("modal_library.doubled({loss})"),
        "one_thread": Mode("modal_library.on_one_thread({loss})", environment={"MODAL_THREADS": "1"}),
        "narrow": Mode(
            environment={"MODAL_NARROW": "1"},
            imports="import modal_library; modal_library.WIDEST = 'float32'",
            narrowed_to="float32",
        ),
    },
    functions=(
        Function(
            "loss",
            "modal_library.losses({predictions}, {labels})",
            ranks={"categorical": range(2, 9)},
            input_kinds={"logits": ""},
            targets={"index": "int64"},
            result_dtype="float64",
        ),
    ),
)
"""
CASES = """\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Two rows of three classes, and as many of higher rank.
source: none
loss: categorical
given: logits
target: index
dtypes: [float64]
cases:
  plain:
    why: Nothing is requested.
    predictions: [[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]
    labels: [1, 0]
    reduction: [none, sum, mean]
  deep:
    why: Another axis of samples.
    predictions: [[[0.5, -1.5, 0.25], [2.0, 0.25, -1.0]]]
    labels: [[1, 0]]
  long:
    why: Too long for its literal.
    predictions: LONG
    labels: LABELS
"""
KNOWN = """\
# yaml-language-server: $schema=../../../conformance/known.schema.json
known:
  - case: "*"
    function: modal.loss
    modes: [doubled]
    when: [logits]
    symptoms: [too_large]
    reason: It returns twice the loss.
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder on PYTHONPATH with a library, its adapter and its entry point; beside it one with cases."""
    cases = CASES.replace("LONG", str([[0.5, -1.5, 0.25]] * 400)).replace("LABELS", str([1] * 400))
    return write_library(tmp_path_factory.mktemp("elsewhere"), "modal", LIBRARY, ADAPTER, cases)


def ran(folder, *words, **variables):
    return interpreter().run([*map(str, words)], folder, environment(folder, **variables))


def run(folder, *words, framework="modal"):
    options = ["--cases", "cases", "--report", folder / "report", "--framework", framework]
    return ran(folder, "-m", "conformance", "run", *options, *words)


def rows(folder):
    return {(row.mode, row.case.partition("/")[2], row.reduction): row for row in frame(folder).itertuples()}


def frame(folder):
    return report.read(folder / "report")[0]


def test_run_calls_functions_in_each_mode_and_reproducers_return_the_same(elsewhere):
    done = run(elsewhere, "--mode", "batched", "--mode", "one_thread", "--mode", "eager", "--mode", "eager")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {key: row for key, row in rows(elsewhere).items() if row.status != "unsupported"}
    expected = {(mode, "plain", of) for mode in ("eager", "batched", "one_thread") for of in ("none", "sum", "mean")}
    expected |= {(mode, "long", "mean") for mode in ("eager", "batched", "one_thread")}
    assert found.keys() == expected | {("eager", "deep", "mean"), ("one_thread", "deep", "mean")}
    assert {row.status for row in found.values()} == {"agrees"}
    for (mode, name, _), row in found.items():
        assert (mode == "one_thread") == row.call.startswith('import os; os.environ["MODAL_THREADS"] = "1"; ')
        assert (name == "long" and mode != "eager") == (f"mode='{mode}'" in row.call)
        *before, last = row.call.replace("; ", "\n").split("\n") if "def " not in row.call else row.call.split("\n")
        printed = ran(elsewhere, "-c", "\n".join([*before, f"print(repr(({last}).tolist()))"]))
        assert json.loads(printed.stdout) == json.loads(row.got), printed.stderr


def test_mode_narrowing_inputs_has_answers_of_narrow_dtype(elsewhere):
    assert run(elsewhere, "--mode", "narrow", "--mode", "eager", "-k", "plain and mean").returncode == 0
    found = rows(elsewhere)
    assert found["eager", "plain", "mean"].status == "agrees"
    narrow = found["narrow", "plain", "mean"]
    assert (narrow.status, narrow.convention) == ("diverges", "narrowed_to=float32")
    assert "modal_library.WIDEST = 'float32'" in narrow.call
    before, _, last = narrow.call.rpartition("\n")
    printed = ran(elsewhere, "-c", f"{before}\nprint({last}.dtype)")
    assert printed.stdout == "float32\n", printed.stderr


def test_run_without_mode_is_eager(elsewhere):
    assert run(elsewhere).returncode == 0
    assert {mode for mode, _, _ in rows(elsewhere)} == {"eager"}


@pytest.mark.parametrize(
    "words", [("run",), ("show", "rows/plain"), ("explain", "rows/plain"), ("relations",), ("fuzz",)]
)
def test_commands_reject_unknown_mode(elsewhere, words):
    done = ran(elsewhere, "-m", "conformance", *words, "--cases", "cases", "--mode", "warp")
    assert done.returncode == 2
    assert "--mode warp: no selected framework has it; " in done.stderr
    assert "modal has eager, batched, doubled, one_thread, narrow" in done.stderr


def test_mode_excludes_frameworks_without_it(elsewhere):
    done = run(elsewhere, "--mode", "batched", "--framework", "sklearn")
    assert done.returncode == 0, done.stderr
    assert set(frame(elsewhere)["framework"]) == {"modal"}


def test_keyword_ledger_baseline_and_resume_distinguish_modes(elsewhere, tmp_path):
    both = ("--mode", "eager", "--mode", "doubled")
    assert run(elsewhere, *both, "-k", "doubled and plain and sum").returncode == 1
    assert list(rows(elsewhere)) == [("doubled", "plain", "sum")]
    assert run(elsewhere, *both).returncode == 1
    assert {mode: row.expected for (mode, _, _), row in rows(elsewhere).items()} == {
        "eager": "ok", "doubled": "unexpected",
    }  # fmt: skip
    accepted = tmp_path / "accepted"
    (elsewhere / "report").rename(accepted)
    assert run(elsewhere, *both, "--baseline", accepted).returncode == 0
    (elsewhere / "cases" / "known").mkdir()
    (elsewhere / "cases" / "known" / "modal.yaml").write_text(KNOWN)
    try:
        done = run(elsewhere, *both)
        assert done.returncode == 0, done.stderr
        assert {mode: row.expected for (mode, _, _), row in rows(elsewhere).items()} == {
            "eager": "ok", "doubled": "known",
        }  # fmt: skip
    finally:
        (elsewhere / "cases" / "known" / "modal.yaml").unlink()
        (elsewhere / "cases" / "known").rmdir()


def test_mode_with_variables_is_rejected_in_a_process_without_them(elsewhere):
    done = run(elsewhere, "--mode", "one_thread", "--in-process")
    assert done.returncode == 2
    assert "one_thread of modal needs a process with MODAL_THREADS=1" in done.stderr


def test_show_explain_relations_and_fuzz_call_functions_in_modes(elsewhere):
    shown = ran(
        elsewhere, "-m", "conformance", "show", "rows/plain", "--cases", "cases", "--mode", "one_thread", "--json"
    )
    found = json.loads(shown.stdout)
    assert {(row["mode"], row["status"]) for one in found["answers"] for row in one["functions"]} == {
        ("one_thread", "agrees")
    }
    words = ("explain", "rows/plain", "--cases", "cases", "--mode", "doubled", "--function", "modal.loss", "--dtype")
    explained = ran(elsewhere, "-m", "conformance", *words, "float64")
    assert "disagrees" in explained.stdout, explained.stderr
    words = ("relations", "--cases", "cases", "--framework", "modal", "--mode", "one_thread", "-k", "shifted", "--json")
    held = ran(elsewhere, "-m", "conformance", *words)
    assert held.returncode == 0, held.stdout + held.stderr
    assert {one["mode"] for one in json.loads(held.stdout)["findings"]} == {"one_thread"}
    for mode, status in (("one_thread", 0), ("doubled", 1)):
        words = ("fuzz", "--framework", "modal", "--mode", mode, "--cases-count", "20", "--dtype", "float64")
        drawn = ran(elsewhere, "-m", "conformance", *words)
        assert drawn.returncode == status, drawn.stdout + drawn.stderr


def test_pytest_has_tests_of_each_mode(elsewhere):
    words = ("-m", "pytest", "--cases", "cases", "-m", "modal", "-p", "no:cacheprovider", "--mode", "doubled")
    done = ran(elsewhere, *words, "--mode", "eager", "-k", "plain and mean")
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "[modal.loss-rows/plain-float64-mean-doubled]" in done.stdout
    assert "again      pytest --mode=doubled --cases cases -k" in done.stdout, done.stdout
    done = ran(elsewhere, *words[:-1], "one_thread", "--isolate")
    assert " passed" in done.stdout, done.stdout
    done = ran(elsewhere, *words[:-1], "warp")
    assert "--mode warp: no selected framework has it" in done.stdout


def test_list_functions_names_modes(elsewhere):
    found = json.loads(ran(elsewhere, "-m", "conformance", "list", "functions", "--json").stdout)["functions"]
    assert (
        next(one["modes"] for one in found if one["function"] == "modal.loss")
        == "eager batched doubled one_thread narrow"
    )


# The contract

USUAL = {
    "call": "np.abs({predictions}).sum(axis=-1) + {labels}",
    "ranks": {"categorical": range(2, 9)},
    "input_kinds": {"logits": ""},
    "targets": {"index": "int64"},
}
MINE = Framework(
    "mine", (), (), arrays=arrays.numpy, imports="import numpy as np",
    reductions={"none": "{result}", "mean": "{result}.mean()"},
    modes={"own": Mode(), "late": Mode(unreduced=True), "off": Mode(backends=frozenset({"b"}))},
    functions=(Function("one", **USUAL), Function("two", modes=frozenset({"own"}), **USUAL)),
    backends={"a": Backend(environment={"X": "a"}), "b": Backend(environment={"X": "b"})},
)  # fmt: skip


def test_functions_and_backends_restrict_modes():
    names = {
        (backend, mode): [function.name for function in Installed(MINE, "1.0", backend=backend, mode=mode).functions]
        for backend in ("a", "b")
        for mode in MINE.modes_in(backend)
    }
    assert names == {
        ("a", "eager"): ["mine.one", "mine.two"],
        ("a", "own"): ["mine.one", "mine.two"],
        ("a", "late"): ["mine.one"],
        ("b", "eager"): ["mine.one", "mine.two"],
        ("b", "own"): ["mine.one", "mine.two"],
        ("b", "late"): ["mine.one"],
        ("b", "off"): ["mine.one"],
    }
    with pytest.raises(SelectionError, match="--mode off: no selected framework has it; mine has eager, own, late"):
        expand_modes([Installed(MINE, "1.0", backend="a")], ["off"])


def test_mode_wrapping_unreduced_loss_excludes_reduction():
    problem = case([[0.5, 1.5]], [1]).problem("float32", "mean")
    call = lower(MINE.functions[0], problem)
    texts = {mode: apply_mode(MINE, call, mode=mode, backend="a").text for mode in ("own", "late")}
    inner = "np.abs(predictions).sum(axis=-1) + labels"
    assert texts["own"] == f"def loss(predictions, labels):\n    return ({inner}).mean()\nloss(predictions, labels)"
    assert texts["late"] == f"def loss(predictions, labels):\n    return {inner}\nloss(predictions, labels).mean()"


@pytest.mark.parametrize(
    ("dtype", "declared", "result"),
    [("float64", "same", "float32"), ("float16", "same", "float16"), ("float16", "float64", "float32")],
)
def test_mode_that_narrows_inputs_narrows_results(dtype, declared, result):
    function = Function("one", **USUAL, result_dtype=declared)
    modes = {"narrow": Mode(narrowed_to="float32")}
    (narrow,) = Installed(dataclasses.replace(MINE, modes=modes, functions=(function,)), "1.0", mode="narrow").functions
    assert {one.convention.narrowed_to for one in narrow.conventions} == {"float32"}
    problem = case([[0.5, 1.5]], [1]).problem(dtype, "mean")
    assert narrow.result_dtype_for(problem) == result


def test_mode_with_imports_requires_own_process():
    with pytest.raises(DeclarationError, match=r"modes\[bare\].imports: it has no environment"):
        dataclasses.replace(MINE, modes={"bare": Mode(imports="import json")})


def test_unavailable_mode_is_rejected_with_reason(monkeypatch):
    torch = next(one for one in registry.frameworks() if one.name == "torch")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    why = "--mode compile: torch cannot be called in it on this machine: there is no C\\+\\+ compiler"
    with pytest.raises(SelectionError, match=why):
        expand_modes([Installed(torch, "2.13.0")], ["compile"])
    assert [one.mode for one in expand_modes([Installed(torch, "2.13.0")], ["eager", "one_thread"])] == [
        "eager",
        "one_thread",
    ]


def test_item_of_a_mode_has_it_in_key_id_and_worker():
    (item, *_) = plan([case([[0.5, 1.5]], [1])], [Installed(MINE, "1.0", environment="e", backend="a", mode="own")])
    assert item.key.mode == "own"
    assert item.id.endswith("-own")
    assert item.installed.worker == "mine in e, own"


def test_ledger_entry_of_mode_applies_to_no_other():
    entry = KnownIssue("*", "mine.one", modes=("own",))
    key = RowKey("a", "", "mine.one", "float32", "mean", mode="own")
    assert Ledger([entry]).find(key) is entry
    assert Ledger([entry]).find(RowKey("a", "", "mine.one", "float32", "mean")) is None
