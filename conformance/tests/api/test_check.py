"""`conformance check`: callables of users, right and wrong, in files and modules, in several frameworks."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import textwrap

import pytest

from conformance import api, replay
from conformance.adapters import checked
from conformance.adapters.checked import CheckError
from conformance.casefiles.loading import shipped_cases
from conformance.cli.check import hints, verdict
from conformance.model.case import Layout
from conformance.model.errors import UserError
from conformance.tests.fork_server import interpreter
from conformance.tests.stated import case

KERNELS = """
import numpy as np

def right(logits, labels, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    z = logits.astype(np.float64)
    n, c = z.shape
    with np.errstate(all="ignore"):
        top = z.max(-1, keepdims=True)
        z = z - np.where(np.isfinite(top), top, 0)
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        valid = labels != ignore_index
        index = np.where(valid, labels, 0)
        w = np.ones(c) if weight is None else weight.astype(np.float64)
        q = np.full((n, c), label_smoothing / c)
        q[np.arange(n), index] += 1 - label_smoothing
        loss = np.where(valid, np.where(q == 0, 0, -q * w * log_p).sum(-1), 0)
        divisor = np.where(valid, w[index], 0).sum()
        if reduction == "mean":
            loss = loss.sum() / divisor
        return np.asarray(loss.sum() if reduction == "sum" else loss).astype(logits.dtype)

def drops_classes(logits, labels, reduction="mean"):
    return right(logits[:, :2], np.minimum(labels, 1), reduction=reduction)

def zeros(logits, labels, reduction="mean"):
    return np.zeros(logits.shape[:1] if reduction == "none" else (), logits.dtype)

def mean_only(y, z):
    return right(z, y)

def subtracts(logits, labels):
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
    return (total - logits[np.arange(len(labels)), labels]).mean()

def softmax_first(logits, labels, reduction="mean"):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return right(p / p.sum(-1, keepdims=True), labels, reduction=reduction)

def smooths_others(logits, labels, label_smoothing=0.0):
    return right(logits, labels, label_smoothing=label_smoothing * logits.shape[1] / (logits.shape[1] - 1))

def unreduced(logits, labels): return right(logits, labels, reduction="none")
def wraps_labels(logits, labels): return right(logits, labels % 4096)
def wide(logits, labels): return np.float64(right(logits, labels))
def number(logits, labels): return float(right(logits, labels))
def sklearn_like(y_true, y_pred): return -np.log(y_pred[np.arange(len(y_true)), y_true].astype(float)).mean()
def raises(logits, labels): raise RuntimeError("Found no NVIDIA driver on your system")
def of_tensors(predictions, labels):
    return -predictions.log_softmax(1).gather(1, labels[:, None]).mean()


def masks_tensors(logits, labels, ignore_index=-100, reduction="mean"):
    kept = labels != ignore_index
    losses = -logits.log_softmax(1).gather(1, (labels * kept)[:, None])[:, 0].masked_fill(~kept, 0)
    return losses.sum() / kept.sum() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def multiplies_mask(logits, labels, ignore_index=-100, reduction="none"):
    kept = labels != ignore_index
    losses = right(logits, labels * kept, reduction="none") * kept
    return losses if reduction == "none" else losses.sum()


def recursive(logits, labels): return recursive(logits, labels)
def nothing(logits, labels): return None
def dies(logits, labels):
    import os; os._exit(3)
def pair(logits, labels): return right(logits, labels), 0.5
def whole(logits, labels): return int(right(logits, labels))
def hangs(logits, labels):
    import time; time.sleep(1000)
def prints(logits, labels):
    print("hello"); return right(logits, labels)
def random(logits, labels):
    return (right(logits, labels) * np.random.uniform(1, 1.5)).astype(logits.dtype)
def mutates(logits, labels):
    loss = right(logits, labels); logits[...] = 0; return loss
def takes_one(logits, labels):
    if len(labels) != 1: raise ValueError("one sample at a time")
    return zeros(logits, labels)
def needs(logits, labels, extra): pass
def one(logits): pass
three = 3

class Loss:
    def __init__(self, reduction="mean", **options): self.options = options | {"reduction": reduction}
    def __call__(self, logits, labels): return right(logits, labels, **self.options)
    def method(self, logits, labels): return self(logits, labels)

class Settings: pass

made = Loss()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(KERNELS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder with a few of the shipped cases."""
    folder = tmp_path_factory.mktemp("few") / "cases"
    (folder / "categorical").mkdir(parents=True)
    for name in ("ignore_index", "index_labels", "label_smoothing", "memory_order", "generated", "large_logits"):
        shutil.copy(shipped_cases() / "categorical" / f"{name}.yaml", folder / "categorical")
    return folder


@pytest.fixture
def check(file, cases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(name, keyword="index_labels", timeout=60.0, like="torch.CrossEntropyLoss", **fields):
        described = {"arrays": "numpy", "targets": ("index",), "ranks": (2,), **fields}
        target = name if ":" in name or name.endswith(".py") else f"{file}:{name}"
        request = api.CheckRequest(report=tmp_path / "r", cases=cases, keyword=keyword, timeout=timeout)
        return api.check(api.CheckedCallable(target=target, like=like, **described), request)

    return run


def status(found, option, dtype="float32"):
    (cell,) = [cell for cell in found.cells if (cell.option, cell.dtype) == (option, dtype)]
    return cell.status


def test_right_kernel_is_certified(check):
    found = check("right", "index_labels or label_smoothing")
    assert not found.wrong
    assert found.complete
    assert status(found, "no option") == "certified"
    assert status(found, "label_smoothing") == "deviates as declared"  # with class weights
    assert status(found, "sample_weights") == "not asked"
    assert (found.run.report / "index.html").is_file()


def test_complete_check_of_wrong_kernel_has_findings_of_every_kind(check):
    found = check("drops_classes", keyword="", dtypes=("float64",))
    assert found.wrong
    assert status(found, "no option", "float64") == "wrong"
    assert found.broken
    assert found.findings
    assert not any("called again" in line for line in hints(found))
    said = json.loads(found.to_json())
    assert said["schema"] == "conformance.check/1"
    assert said["relations"]["broken"]
    assert said["drawn"]["findings"][0]["file"]


@pytest.mark.parametrize(
    ("name", "keyword", "options", "mistake"),
    [
        ("softmax_first", "index_labels", (), "softmax applied twice"),
        (
            "smooths_others",
            "label_smoothing",
            ("label_smoothing",),
            "label smoothing spread over the other classes only",
        ),
    ],
)
def test_mistake_explaining_wrong_results_is_named(check, name, keyword, options, mistake):
    found = check(name, f"float32 and mean and {keyword}")
    one = found.mistakes[0]
    assert (one.options, one.text) == (options, mistake)
    assert 1 < one.results <= one.tried
    assert json.loads(found.to_json())["mistakes"][0]["text"] == mistake


def test_narrowed_check_is_no_certificate(check):
    found = check("wraps_labels", "index_labels and float32")
    assert not found.wrong
    assert found.complete
    assert not found.certified
    assert "; not certified: -k left out other cases, all relations and random problems" in verdict(found)
    assert not json.loads(found.to_json())["certified"]


def test_mistake_in_vocabularies_is_named(file, tmp_path):
    described = {"arrays": "numpy", "targets": ("index",), "ranks": (2,), "dtypes": ("float32",)}
    checked_callable = api.CheckedCallable(target=f"{file}:wraps_labels", like="torch.CrossEntropyLoss", **described)
    cases = shipped_cases() / "categorical" / "vocabularies.yaml"
    found = api.check(checked_callable, api.CheckRequest(report=tmp_path / "r", cases=cases, keyword="float32-mean"))
    assert [mistake.text for mistake in found.mistakes] == ["labels are taken modulo 4,096"]


def test_nondeterministic_callable_is_reported(check):
    found = check("random", keyword="", dtypes=("float64",), targets=("index",))
    assert any("called again with the same arrays" in line for line in hints(found))


def test_unexplained_results_name_no_mistake(check):
    assert check("random", "float32 and mean and index_labels").mistakes == ()
    assert check("right", "float32 and mean and index_labels").mistakes == ()


def test_known_issue_of_the_known_function_explains_and_excuses_nothing(check):
    found = check("masks_tensors", "in_an_ignored_row and float32", arrays="")
    wrong = [row for row in found.run.rows if row.status == "disagrees"]
    assert {row.key.quantity for row in wrong} == {"gradient"}
    assert {row.expected for row in wrong} == {"unexpected"}
    assert all(row.known.startswith("torch.CrossEntropyLoss has this known issue: ") for row in wrong)
    assert f"({len(wrong)} of them where torch.CrossEntropyLoss has a known issue)" in verdict(found)
    assert not any(row.known for row in found.run.rows if row not in wrong)


def test_cause_of_nan_is_named(check):
    found = check("multiplies_mask", "in_an_ignored_row and float32 and not mean")
    (one,) = found.mistakes
    assert one.options == ("ignore_index",)
    assert one.text.startswith("0 times the nan or infinite predictions of an ignored row is nan")
    assert one.results == one.tried == sum(row.status == "disagrees" for row in found.run.rows)


def test_zeros_are_wrong_and_the_reproducer_runs(check):
    found = check("zeros", "index_labels and float32")
    rows = [row for row in found.run.rows if row.status == "disagrees"]
    assert rows
    for row in rows[:3]:
        names = {}
        exec(row.call.rpartition("; ")[0], names)
        assert float(eval(row.call.rpartition("; ")[2], names).max()) == 0.0


def test_long_reproducers_name_the_callable(check):
    found = check("zeros", "categorical/generated/ and float32 and mean")
    (row, *_) = [row for row in found.run.rows if "conformance.replay" in row.call]
    assert eval(row.call.rpartition("; ")[2], {"conformance": type("", (), {"replay": staticmethod(replay)})}) == 0.0


SMALL = "three_by_three or two_by_five"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("unreduced", "wrong_shape"),
        ("wide", "wrong_dtype"),
        ("raises", "raised"),
        ("nothing", "no_number"),
        ("random", "wrong_value"),
        ("mutates", "mutated_argument"),
    ],
)
def test_invalid_callables_have_rows_with_reason(check, name, code):
    found = check(name, SMALL, dtypes=("float32",))
    rows = [row for row in found.run.rows if row.expected == "unexpected"]
    assert {row.reason_code for row in rows} == {code}


def test_python_number_and_dtype_of_known_function_are_accepted(check):
    found = check("number", SMALL)
    assert not found.wrong
    assert {row.result_dtype for row in found.run.rows if row.status == "agrees"} == {""}
    pytest.importorskip("sklearn")
    found = check("sklearn_like", "index_labels and float32", like="sklearn.log_loss", arrays="")
    assert not found.wrong
    assert {row.result_dtype for row in found.run.rows if row.status == "agrees"} == {"float64"}


@pytest.mark.parametrize(("name", "reason"), [("hangs", "timed_out"), ("dies", "crashed")])
def test_hanging_or_crashing_callable_is_given_up(check, name, reason):
    found = check(name, SMALL, timeout=1.0, dtypes=("float32", "float64"))
    assert "given up" in found.stopped
    assert {row.status for row in found.run.rows} - {"unsupported"} == {reason}
    assert found.wrong
    assert not found.complete


def test_printed_output_is_reported(check):
    found = check("prints", SMALL)
    assert not found.wrong
    assert set(found.printed) == {"hello"}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("{file}:missing", "has no missing; it has right"),
        ("{file}:three", "it is a int, which cannot be called"),
        ("{file}:one", "no parameter for labels; it has logits"),
        ("{file}:needs", "it requires extra"),
        ("{file}:Settings", "instances of the class Settings cannot be called"),
        ("{file}:Loss.method", "it is a method; name a function that calls it on an instance of Loss"),
        ("no_such_module_here:f", "no_such_module_here cannot be imported: ModuleNotFoundError"),
        ("kernels.py", "name a callable as"),
        ("nowhere.py:f", "there is no file"),
        ("a-b:f", "neither the name of a module"),
        ("kernels.ipynb:f", "neither the name of a module"),
        ("relative.py:f", "cannot be imported: ImportError: .*; name it as package.module:attribute"),
    ],
)
def test_unavailable_callable_is_reported_in_one_message(check, file, target, says, tmp_path):
    (tmp_path / "kernels.ipynb").write_text("{}", encoding="utf-8")
    (tmp_path / "relative.py").write_text("from . import f", encoding="utf-8")
    with pytest.raises(UserError, match=says):
        check(target.format(file=file))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"like": "torch.CrossEntropy"}, 'did you mean "torch.CrossEntropyLoss"'),
        ({"arrays": "cupy"}, "expected one of numpy, torch, jax, tensorflow"),
        ({"arguments": {"z": "logits"}}, "has no parameter z"),
        ({"arguments": {"logits": "smoothing"}}, "unknown option 'smoothing'; expected one of"),
        ({"clip": 1e-7}, "it has no effect"),
        ({"targets": ("binary",)}, "targets: it is empty"),
    ],
)
def test_wrong_description_is_reported_in_one_message(check, fields, says):
    with pytest.raises(UserError, match=says):
        check("right", **fields)


def test_import_errors_and_exits_are_reported(check, tmp_path):
    for number, (text, says) in enumerate(
        [
            ("1 / 0", "ZeroDivisionError"),
            ("raise SystemExit(4)", "SystemExit"),
            ("import os; os._exit(9)", "status 9"),
            ("x = (", "SyntaxError"),
        ]
    ):
        (tmp_path / f"broken{number}.py").write_text(text, encoding="utf-8")
        with pytest.raises(CheckError, match=says):
            check(f"{tmp_path}/broken{number}.py:f")


def test_slow_import_is_reported_and_given_up(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(checked, "NOTICE_SECONDS", 0.1)
    told = []
    with pytest.raises(CheckError, match=r"its import takes longer than 0\.2 s \(--import-timeout\)"):
        checked.inspect_callable(f"{tmp_path}/slow.py:f", 0.2, told.append)
    assert told == [f"waiting for the import of {tmp_path}/slow.py:f; it may take 0.2 s (--import-timeout)"]


def test_file_may_be_named_like_another_module(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("random", "numpy", "class"):
        shutil.copy(file, tmp_path / f"{name}.py")
        assert checked.inspect_callable(f"{name}.py:right").call[0].name == "logits"


def test_version_is_stated_by_module(tmp_path):
    for name, text in (("with_version", "__version__ = '1.2'"), ("without_version", "")):
        (tmp_path / f"{name}.py").write_text(f"{text}\ndef f(logits, labels): ...", encoding="utf-8")
    assert checked.inspect_callable(f"{tmp_path}/with_version.py:f").version == "1.2"
    assert checked.inspect_callable(f"{tmp_path}/without_version.py:f").version == checked.UNVERSIONED


def call(target, like, **fields):
    described = checked.CheckedCallable(target=target, like=like, **fields)
    return api.checking.call_example(checked.installed(described, checked.inspect_callable(target)))


def test_arguments_are_found_by_name_and_by_position(file, tmp_path):
    (tmp_path / "more.py").write_text(
        textwrap.dedent("""
        def a(first, second, *, w=None): ...
        def b(y_true, y_pred, from_logits=False): ...
        def c(*, labels, logits): ...
        """),
        encoding="utf-8",
    )
    like = "torch.CrossEntropyLoss"
    assert call(f"{file}:mean_only", like) == "kernels.mean_only(labels, predictions)"
    assert call(f"{tmp_path}/more.py:a", like) == "more.a(predictions, labels)"
    assert call(f"{tmp_path}/more.py:a", like, arguments={"w": "class_weights"}) == "more.a(predictions, labels, w=...)"
    assert call(f"{tmp_path}/more.py:a", like, arguments={"second": "logits"}) == "more.a(labels, predictions)"
    of_keras = "keras.SparseCategoricalCrossentropy"
    assert call(f"{tmp_path}/more.py:b", of_keras) == "more.b(labels, predictions, from_logits=True)"
    assert call(f"{tmp_path}/more.py:c", like) == "more.c(predictions=predictions, labels=labels)".replace(
        "predictions=", "logits="
    )
    assert call(f"{file}:Loss", like) == "kernels.Loss(reduction=...)(predictions, labels)"
    assert call(f"{file}:made", like) == "kernels.made(predictions, labels)"
    odd = call("json:dumps", like, arguments={"obj": "logits", "indent": "labels"})
    assert odd == "json.dumps(obj=predictions, indent=labels)"


def test_file_never_shadows_installed_module(tmp_path):
    for name in ("numpy", "json", "two words"):
        (tmp_path / f"{name}.py").write_text("def f(logits, labels): ...", encoding="utf-8")
        said = call(f"{tmp_path}/{name}.py:f", "torch.CrossEntropyLoss")
        assert said == f"{'checked_' * (name != 'two words')}{name.replace(' ', '_')}.f(predictions, labels)"


def test_semantic_choices_of_known_function_are_inherited(file):
    of = checked.CheckedCallable(target=f"{file}:right", like="torch.CrossEntropyLoss", arrays="numpy")
    (function,) = checked.installed(of, checked.inspect_callable(of.target)).functions
    for documented in function.conventions:
        assert documented.convention.cancellation == documented.convention.gradient_cancellation == "none"
    assert {one.convention.mean_divides_by for one in function.conventions} >= {"label_weight"}


def test_other_dtypes_equal_those_of_known_function(file):
    of = checked.CheckedCallable(target=f"{file}:right", like="torch.CrossEntropyLoss", arrays="numpy")
    found = checked.inspect_callable(of.target)
    (usual,), (others,) = (
        checked.installed(dataclasses.replace(of, other_dtypes=chosen), found).functions for chosen in (False, True)
    )
    assert (usual.targets["index"], usual.weight_dtypes) == ("int64", "same")
    assert (others.targets["index"], others.weight_dtypes) == ("int64 uint8", "")
    problem = case([[1.0, 2.0]], [[0.25, 0.75]], target="distribution").problem("float32", "none")
    problem = dataclasses.replace(problem, layout=Layout(label_dtype="float64"))
    assert [others.may_return(dtype, problem) for dtype in ("float16", "float32", "float64")] == [False, True, True]
    assert [others.may_return(dtype, problem, "gradient") for dtype in ("float32", "float64")] == [True, False]
    assert [usual.may_return(dtype, problem) for dtype in ("float32", "float64")] == [True, False]


FRAMEWORKS = {
    "torch": (
        """
        import torch
        class Loss(torch.nn.Module):
            def __init__(self, ignore_index=-100, reduction="mean"):
                super().__init__()
                self.options = {"ignore_index": ignore_index, "reduction": reduction}
            def forward(self, logits, labels):
                return torch.nn.functional.cross_entropy(logits, labels, **self.options)
        """,
        "torch.CrossEntropyLoss",
    ),
    "keras": (
        """
        import keras
        class Loss(keras.losses.Loss):
            def __init__(self, from_logits=False, **options):
                super().__init__(**options)
                self.from_logits = from_logits
            def call(self, y_true, y_pred):
                return keras.ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        """,
        "keras.SparseCategoricalCrossentropy",
    ),
    "jax": (
        """
        import jax
        @jax.jit
        def Loss(logits, labels):
            log_p = jax.nn.log_softmax(logits)
            return -jax.numpy.take_along_axis(log_p, labels[..., None], -1)[..., 0]
        """,
        "optax.softmax_cross_entropy_with_integer_labels",
    ),
}


FUSED = """
import torch
class Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, labels):
        log_p = torch.log_softmax(logits, -1)
        rows = torch.arange(len(labels))
        gradient = log_p.exp()
        gradient[rows, labels] -= 1
        ctx.save_for_backward(gradient / len(labels))
        return -log_p[rows, labels].mean()
    @staticmethod
    def backward(ctx, upstream):
        return ctx.saved_tensors[0]{factor}, None
def loss(logits, labels):
    return Fused.apply(logits, labels)
"""
UNREDUCED = FUSED.replace(" / len(labels)", "").replace(".mean()", "")


@pytest.mark.parametrize(
    ("text", "factor", "wrong"),
    [
        (FUSED, " * upstream", False),
        (FUSED, "", True),
        (UNREDUCED, " * upstream[:, None]", False),
        (UNREDUCED, " * upstream[0]", True),
        (UNREDUCED, " * upstream.mean()", True),
        (UNREDUCED, "", True),
    ],
)
def test_gradients_have_an_upstream_gradient(check, tmp_path, text, factor, wrong):
    pytest.importorskip("torch")
    (tmp_path / "fused.py").write_text(text.replace("{factor}", factor), encoding="utf-8")
    dtypes, reduction = ("float32", "float64"), "mean" if text is FUSED else "none"
    found = check("fused:loss", "index_labels", arrays="", dtypes=dtypes, cancellation=True, reduction=reduction)
    assert not wrong or "`upstream`" in " ".join(hints(found))
    failing = {row.key.quantity for row in found.run.rows if row.expected != "ok"}
    assert failing == ({"gradient"} if wrong else set())


def test_gradient_of_wider_result_has_dtype_of_predictions(check, tmp_path):
    pytest.importorskip("torch")
    text = UNREDUCED.replace("{factor}", " * upstream[:, None]").replace("apply(logits,", "apply(logits.float(),")
    (tmp_path / "wider.py").write_text(text, encoding="utf-8")
    described = {"dtypes": ("bfloat16", "float32"), "cancellation": True, "reduction": "none"}
    found = check("wider:loss", "index_labels", arrays="", result_dtype="float32", **described)
    assert not found.wrong
    assert status(found, "gradient", "bfloat16") in ("certified", "deviates as declared")


def test_python_number_of_tensors_has_loss_and_no_gradient(check, tmp_path):
    pytest.importorskip("torch")
    text = "import torch\ndef loss(logits, labels): return torch.nn.functional.cross_entropy(logits, labels).item()"
    (tmp_path / "number.py").write_text(text, encoding="utf-8")
    found = check("number:loss", SMALL, arrays="", dtypes=("float32",), cancellation=True)
    assert status(found, "no option") == "certified"
    assert status(found, "gradient") == "wrong"
    assert found.complete
    assert "the result is a Python number, which has no gradient" in " ".join(hints(found))


@pytest.mark.parametrize(
    ("factor", "end", "advice"),
    [
        (" * upstream * 3", "", "the losses are right, and gradients are wrong"),
        (" * upstream", ".detach()", "detached from it"),
    ],
)
def test_hints_do_not_blame_upstream_gradient_for_other_mistakes(check, tmp_path, factor, end, advice):
    pytest.importorskip("torch")
    text = FUSED.replace("{factor}", factor).rstrip() + end
    (tmp_path / "other.py").write_text(text, encoding="utf-8")
    found = check("other:loss", "index_labels", arrays="", dtypes=("float32",), cancellation=True, reduction="mean")
    said = " ".join(hints(found))
    assert advice in said
    assert "`upstream`" not in said


@pytest.mark.parametrize(
    ("name", "keyword", "advice"),
    [
        ("subtracts", "units_on_top", "--cancellation accepts"),
        ("raises", "index_labels", "check it on a machine that has it"),
        ("recursive", "index_labels", "no call returns"),
        ("of_tensors", "index_labels", "name that by --arrays"),
        ("takes_one", "index_labels", "--targets and --rank leave out"),
        ("pair", "index_labels", "that returns pair(...)[0]"),
        ("whole", "index_labels", "a loss is a float"),
        ("dies", "index_labels", "it ends its process"),
    ],
)
def test_hints_name_option_for_common_property_of_wrong_rows(check, name, keyword, advice):
    found = check(name, keyword, dtypes=("float32",))
    assert advice in " ".join(hints(found))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_losses_of_frameworks_are_called_with_their_arrays(check, tmp_path, name):
    text, like = FRAMEWORKS[name]
    for needed in (name, like.partition(".")[0]):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    (tmp_path / "mine.py").write_text(textwrap.dedent(text), encoding="utf-8")
    found = check("mine:Loss", "index_labels", like=like, arrays="", dtypes=("float32",), cancellation=True)
    assert not found.wrong, [str(row.explanation) for row in found.run.rows if row.expected != "ok"]
    assert status(found, "no option") in ("certified", "deviates as declared")
    assert status(found, "gradient") in ("certified", "deviates as declared")


def test_command_reports_fault_and_exits_with_1(file, cases, tmp_path):
    def run(*words):
        words = (*words, "--cases", str(cases))
        command = ["-m", "conformance", "check", *words, "--like", "torch.CrossEntropyLoss"]
        command += ["--arrays", "numpy", "--rank", "2", "--targets", "index", "-k", SMALL]
        return interpreter().run(command, tmp_path, os.environ)

    ended = run(f"{file}:zeros", "--dtype", "float32")
    assert ended.returncode == 1
    assert "unexpected checked.zeros" in ended.stdout
    assert "wrong (" in ended.stdout
    assert "not asked: class_weights (no such parameter)" in ended.stdout
    assert run(f"{file}:right").returncode == 0
    ended = run(f"{file}:raises")
    assert "it needs a device that is not there" in ended.stdout
    assert run(f"{file}:missing").returncode == 2
    assert run(f"{file}:right", "--reduction", "max").returncode == 2
    assert run(f"{file}:right", "--arguments", "logits").returncode == 2
