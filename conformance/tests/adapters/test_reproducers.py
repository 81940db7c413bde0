"""A row's reproducer, executed as pasted into a Python without the row's variables, returns the row's bits."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conformance
from conformance.adapters import registry
from conformance.adapters.contract.reproducer import LITERAL_LIMIT, LONGEST_LITERAL, reproducer
from conformance.casefiles.loading import load
from conformance.judging.judge import Assessment, perform
from conformance.judging.plan import Item, plan
from conformance.judging.prepare import prepare
from conformance.judging.replay import reproducer_of
from conformance.judging.row import Row
from conformance.model.errors import CaseErrors
from conformance.model.outcome import Raised, Returned
from conformance.model.row_key import RowKey
from conformance.model.text import source_or_comment
from conformance.tests import miniatures
from conformance.tests.fork_server import interpreter
from conformance.tests.stated import case, shipped

HEAD = """\
# yaml-language-server: $schema=../../conformance/case.schema.json
about: Cases too large to write out.
source: none
"""
LARGE = {
    "index": """
loss: categorical
given: logits
target: index
dtypes: [float16, bfloat16, float32, float64]
cases:
  batch:
    why: More elements than are written out, classes on axis 1.
    generate: {seed: 8, shape: [20, 25], classes: 30, distribution: uniform, scale: 0.5, digest: 2fdae14c2862a305}
    layout: {class_axis: 1}
    reduction: [none, mean]
  flat:
    why: More elements than are written out.
    generate: {seed: 9, shape: [400], classes: 5, distribution: normal, scale: 3.0, digest: aa6c275411612f62}
    reduction: [none, mean, sum]
""",
    "rows": """
loss: categorical
given: probabilities
target: index
dtypes: [float32, float64]
cases:
  weighted:
    why: More elements than are written out, weights too.
    generate: {seed: 3, shape: [1100], classes: 3, sample_weights: true, digest: b507d492c5947b1a}
    reduction: [mean, sum]
""",
    "binary": """
loss: binary
given: logits
target: binary
dtypes: [float16, float32, float64]
cases:
  outputs:
    why: Outputs of their own, soft labels.
    generate: {seed: 4, shape: [700, 2], soft: true, digest: b20e4f22a5d894d2}
    layout: {order: strided}
    reduction: [none, mean]
  flat:
    why: One output each.
    generate: {seed: 5, shape: [1300], digest: fd98b91ffb119ff3}
    reduction: [mean, sum]
""",
}
ASK = """
import pickle, sys
from conformance.tests.adapters.test_reproducers import asked
pickle.dump(asked(*sys.argv[2:]), open(sys.argv[1], "wb"))
"""
PASTE = """
import sys
from conformance.tests.adapters.test_reproducers import paste
paste(sys.argv[1])
"""
COUNT = 36
"""Calls of the shipped cases that are executed on each framework.  Its backends after the first differ in imports,
settings and literals: one call of each function, quantity, dtype and element of a layout is executed on them, and one
large loss and gradient."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder of large cases, whose path has to be quoted."""
    folder = tmp_path_factory.mktemp("some one's") / "mine"
    for name, text in LARGE.items():
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "deep" / f"{name}.yaml").write_text(HEAD + text.lstrip())
    return folder


def asked(framework: str, backend: str, folder: str) -> list[tuple[str, str, Any]]:
    """(item, reproducer, outcome) of items of a framework in this process, whose variant is that one."""
    from conformance.tests.adapters.test_adapter import sampled

    (here,) = (found for found in registry.installed(registry.frameworks())[0] if found.framework.name == framework)
    assert here.backend == backend
    items = sampled(here, COUNT)
    large = one_of_each(plan(load(Path(folder)), [here]))
    if backend != next(iter(here.framework.backends), ""):
        kinds = {kind: item for item in items for kind in (item.dtype, *dataclasses.astuple(item.case.layout))}
        items = list(dict.fromkeys([*one_of_each(items), *kinds.values()]))
        large = list({item.quantity: item for item in large}.values())
    assert {item.quantity for item in large} == {item.quantity for item in items}
    assert {item.function.name for item in items} == {function.name for function in here.functions}
    text = []
    for item in [*items, *large]:
        made = prepare(item)
        outcome = perform(item.framework, made.call, made.description)
        text.append((item.id, Assessment(made, SimpleNamespace(outcome=outcome), None).call, outcome))  # type: ignore[arg-type]
    return text


def one_of_each(items: list[Item]) -> list[Item]:
    """An item for each function and quantity, whose case, dtype and reduction differ from one to the next."""
    random.Random(7).shuffle(items)
    return list({(item.function.name, item.quantity): item for item in items}.values())


def paste(file: str) -> None:
    """Execute each reproducer in a namespace of its own and hold what it returns against the outcome."""
    from conformance.tests.adapters.test_adapter import executed, same_bits

    wrong = []
    for name, source, outcome in pickle.loads(Path(file).read_bytes()):
        try:
            found = executed(source)
        except Exception as error:
            if not isinstance(outcome, Raised) or type(error).__name__ != outcome.exception:
                wrong.append(f"{name}: {type(error).__name__}: {error}\n{source[:600]}")
            continue
        if not isinstance(outcome, Returned):
            wrong.append(f"{name}: it returned, but the row raised\n{source[:600]}")
            continue
        dtype = outcome.dtype
        if "conformance.replay(" not in source:
            framework = next(f for f in registry.frameworks() if f.name == name.partition(".")[0])
            found, dtype = framework.runtime()[0].numpy(found)
        if dtype != outcome.dtype or not same_bits(np.asarray(found, dtype=np.float64), outcome.value):
            wrong.append(
                f"{name}: {dtype} {found!r:.200} is not {outcome.dtype} {outcome.value!r:.200}\n{source[:600]}"
            )
    assert not wrong, "\n".join(wrong)


BACKENDS = [
    (framework.name, backend, other)
    for framework in registry.frameworks()
    for backend, other in zip(
        list(framework.backends) or [""],
        [*list(framework.backends)[1:], *list(framework.backends)[:1]] or [""],
        strict=True,
    )
]


@pytest.mark.parametrize(
    ("framework", "backend", "other"), BACKENDS, ids=[f"{f}-{v}".strip("-") for f, v, _ in BACKENDS]
)
def test_reproducer_returns_the_bits_of_the_row(framework, backend, other, mine, tmp_path):
    """Asked in a process of that variant, pasted in one that would choose another, from another folder."""
    here = next(one for one in registry.frameworks() if one.name == framework)
    if importlib.util.find_spec(here.modules[0]) is None:
        pytest.skip(f"{framework} is not installed")
    variables = {name for one in here.backends.values() for name in one.environment}
    plain = {name: value for name, value in os.environ.items() if name not in variables}
    plain["PYTHONPATH"] = str(Path(conformance.__file__).parents[1])
    # JAX compiles each operation for each shape, which takes most of the time; the second process loads what the first
    # compiled. The key of an entry has the program and the options it was compiled with.
    plain |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    own = dict(here.backends[backend].environment) if backend else {}
    chosen = dict(list(here.backends[other].environment.items())[:1]) if backend else {}
    for program, arguments, environment in ((ASK, [framework, backend, str(mine)], own), (PASTE, [], chosen)):
        words = ["-c", program, str(tmp_path / "calls"), *arguments]
        done = interpreter().run(words, mine.parent if program == ASK else tmp_path, {**plain, **environment}, 900)
        assert done.returncode == 0, done.stderr[-6000:]
    calls = pickle.loads((tmp_path / "calls").read_bytes())
    of_lines = {function.name for function in here.functions if "\n" in function.call}
    assert all(
        "\n" not in source or "with tf.GradientTape" in source or name.partition("-")[0] in of_lines
        for name, source, _ in calls
    )
    replayed = [source for _, source, _ in calls if "conformance.replay(" in source]
    assert any("cases=" in source for source in replayed)
    gradients = [source for name, source, _ in calls if name.endswith("-gradient")]
    assert bool(gradients) == here.differentiates(backend)
    assert all(
        ('KERAS_BACKEND"] = ' + json.dumps(backend) in source) == (framework == "keras") for _, source, _ in calls
    )


# What is printed where arrays are long.


def large(name="long/rows/case", samples=600, **stated):
    return dataclasses.replace(
        case(np.arange(samples * 2.0).reshape(samples, 2) / 64, [0] * samples), id=name, **stated
    )


def call_of(of, item=None, problem=None):
    item = item or plan([of], [miniatures.installed(miniatures.Categorical)])[0]
    made = prepare(item)
    if problem is not None:
        made = dataclasses.replace(made, problem=problem, converted=problem, of_case=False)
    return Assessment(made, SimpleNamespace(outcome=None), None).call


def test_long_case_of_file_is_replayed_from_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replayed = call_of(large(path="mine/long/rows.yaml"))
    folder = str(tmp_path.resolve() / "mine")
    assert replayed.endswith(f"'mean', cases={folder!r})")
    assert "'gradient'" not in replayed


def test_long_unnamed_problem_is_written_out_or_reported_as_too_long():
    drawn = large()
    assert call_of(drawn).count(", ") > LITERAL_LIMIT
    changed = plan([large(path="mine/long/rows.yaml")], [miniatures.installed(miniatures.Categorical)])[0]
    halved = dataclasses.replace(prepare(changed).problem, predictions=prepare(changed).problem.predictions / 2)
    assert "replay" not in call_of(None, changed, halved)
    assert call_of(large(samples=LONGEST_LITERAL)).startswith("# too long to write out")


def test_terminal_has_a_replay_in_place_of_a_long_call():
    of = large("long/rows/case", samples=300, path="mine/long/rows.yaml")
    (item,) = plan([of], [miniatures.installed(miniatures.Categorical)])[:1]
    whole_call = call_of(of)
    key = RowKey(of.id, "", item.function.name, item.dtype, item.reduction, quantity="gradient", backend="jax")
    row = Row(key=key, framework="keras", status="agrees", expected="ok", call=whole_call)
    assert reproducer_of(row, []) == whole_call
    assert reproducer_of(dataclasses.replace(row, call="short()"), [of]) == "short()"
    settings = 'import os; os.environ["KERAS_BACKEND"] = "jax"; os.environ["JAX_ENABLE_X64"] = "1"; '
    again = reproducer_of(dataclasses.replace(row, call=settings + whole_call), [of])
    assert again.startswith(f"{settings}import conformance; conformance.replay(")
    assert "'gradient', cases='" in again


def test_too_long_source_becomes_comment():
    assert source_or_comment("f([1, 2])", 9) == "f([1, 2])"
    cut = source_or_comment("f([1, 2, 3])", 9)
    assert exec(cut) is None
    assert cut.startswith("# 12 characters")


def test_replay_finds_cases_of_a_folder_and_of_a_file(mine, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "installed", lambda _: ([miniatures.installed(miniatures.Categorical)], []))
    said = ("miniature.Categorical", "deep/index/flat", "float32", "mean")
    assert conformance.replay(*said, cases=mine).shape == ()
    assert conformance.replay(said[0], "index/flat", *said[2:], cases=str(mine / "deep" / "index.yaml")).shape == ()
    with pytest.raises(LookupError, match="there is no case deep/index/flat among the shipped cases; `cases`"):
        conformance.replay(*said)
    with pytest.raises(LookupError, match=r"no installed miniature\.Categorical takes"):
        conformance.replay(*said[:2], "float8", "mean", cases=mine)
    with pytest.raises(CaseErrors, match="there is no such folder"):
        conformance.replay(*said, cases=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["ValueError", "InvalidArgumentError", "UnicodeDecodeError"])
def test_replay_raises_exception_of_function(monkeypatch, name):
    monkeypatch.setattr("conformance.judging.replay.perform", lambda *_: Raised(name, "not so", ()))
    here = miniatures.installed(miniatures.Categorical)
    monkeypatch.setattr(registry, "installed", lambda _: ([here], []))
    item = plan(shipped(), [here])[0]
    with pytest.raises(Exception, match="not so") as caught:
        conformance.replay(item.function.name, item.case.id, item.dtype, item.reduction)
    assert type(caught.value).__name__ == name


def test_non_numeric_results_are_written_out():
    framework = miniatures.framework(miniatures.Categorical)
    problem = case([[1.0, 2.0]], [0]).problem("float32", "mean")
    values = {"low": float("-inf"), "none": float("nan")}
    function = dataclasses.replace(
        framework.functions[0], arguments={name: name for name in values}, placeholder_values=lambda problem: values
    )
    assert "low=float('-inf'), none=float('nan')" in reproducer(framework, function, problem)
