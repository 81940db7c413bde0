"""Whether a case may stand: its parts fit each other, and what is in it is what it says there is.

The loader asks this of cases that are written, and the fuzzer of cases that are drawn.  A fault has its
place inside the case as a path, `("options", "class_weights")`, and the words that a person needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.casefiles.document import Path_, listed, number_text
from conformance.model.case import Array, Case, Given, Layout, Loss, MustRaise, NoRightAnswer, Target, numpy_dtype
from conformance.model.convention import INVALID
from conformance.reference.domain import WEIGHTS, Shape, examine, fits, misfits


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a case: where, what, and what to do."""

    path: Path_
    message: str
    advice: str = ""


def faults(case: Case) -> list[Fault]:
    """Everything wrong with a finished case, empty for a legal one; what a schema can refuse is not looked at."""
    found = list(family_faults(case.loss, case.given, case.target))
    if found:
        return found
    shape = case.predictions.shape
    loose = case.expect == MustRaise("shape_mismatch")
    for name in case.options.names():
        if (fault := misplaced(name, case.loss, case.target)) is not None:
            found.append(fault)
        elif name in WEIGHTS and not loose:
            wrong = misfit(name, getattr(case.options, name).shape, shape, case.loss)
            found += [] if wrong is None else [wrong]
    if case.layout.class_axis != -1:
        found += axis_faults(case.loss, len(shape), case.layout.class_axis)
    found += layout_faults(case.layout, case.target, case.predictions, case.labels)
    return found or list(content_faults(case))


def family_faults(loss: Loss, given: Given, target: Target) -> Iterator[Fault]:
    """Whether a loss, what is given and the kind of target go together."""
    if (loss == "binary") != (target == "binary"):
        wanted = "binary" if loss == "binary" else "index or distribution"
        yield Fault(("target",), f"a {loss} loss has no {target} target", f"write {wanted}")
    elif loss == "binary" and given == "log_probabilities":
        yield Fault(("given",), "one log-probability does not give a binary loss", "write logits or probabilities")


def misplaced(option: str, loss: Loss, target: Target) -> Fault | None:
    """An option where it has no meaning."""
    belongs = {
        "class_weights": ("categorical losses", loss == "categorical"),
        "positive_weight": ("binary losses", loss == "binary"),
        "ignore_index": ("index targets", target == "index"),
    }
    needs, met = belongs.get(option, ("", True))
    return None if met else Fault(("options", option), f"{option} is for {needs} only", "remove it")


def misfit(option: str, shape: Shape, predictions: Shape, loss: Loss) -> Fault | None:
    """What is wrong with the shape of an option, and what to do."""
    if fits(option, shape, predictions, loss):
        return None
    path: Path_ = ("options", option)
    samples = predictions[:-1] if loss == "categorical" else predictions
    if option == "class_weights":
        classes = predictions[-1]
        return Fault(path, f"shape {list(shape)} for {classes} classes", f"give a list of {classes} weights")
    if option == "sample_weights":
        return Fault(
            path,
            f"shape {list(shape)} does not fit samples of shape {list(samples)}",
            f"give weights of shape {list(samples)}, or of its leading axes",
        )
    return Fault(
        path,
        f"shape {list(shape)} does not broadcast against predictions of shape {list(predictions)}",
        "give one number, or one per output of the last axis",
    )


def axis_faults(loss: Loss, rank: int, axis: object) -> Iterator[Fault]:
    """Whether there is such an axis of classes in predictions of a rank."""
    path: Path_ = ("layout", "class_axis")
    if loss != "categorical":
        yield Fault(path, "a binary loss has no axis of classes", "remove it")
    elif not isinstance(axis, int) or not -rank <= axis < rank:
        yield Fault(path, f"there is no axis {axis} in predictions of rank {rank}", f"give 0 to {rank - 1}")


def layout_faults(layout: Layout, target: Target, predictions: Array, labels: Array) -> Iterator[Fault]:
    """Whether arrays can be handed over like this."""
    if layout.labels == "column" and target == "distribution":
        yield Fault(("layout", "labels"), "distributions cannot be a column", "remove it")
    if layout.order == "broadcast":
        first = predictions[:1]
        same = (predictions == first) | (np.isnan(predictions) & np.isnan(first))
        if not bool(np.all(same)):
            row = int(np.argwhere(~same)[0][0])
            message = f"row {row} differs from row 0, so one row cannot stand for all"
            yield Fault(("layout", "order"), message, "repeat row 0, or choose another order")
    if layout.label_dtype is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            handed = labels.astype(layout.label_dtype)
            kept = (handed == labels) | ((handed != handed) & (labels != labels))
        if not bool(np.all(kept)):
            at = tuple(int(index) for index in np.argwhere(~kept)[0])
            message = f"{number_text(labels[at].item())} does not fit into {layout.label_dtype}"
            yield Fault(("labels", *at), message, "choose another label_dtype")


def content_faults(case: Case) -> Iterator[Fault]:
    """What a case contains, against what it says it contains: its dtypes, and what it expects."""
    kinds: set[str] = set()
    gone = {dtype: lost(case, dtype) for dtype in case.dtypes}
    fitting = [dtype for dtype, loss in gone.items() if loss is None]
    for dtype, loss in gone.items():
        if loss is not None:
            path, number, what = loss
            advice = f"give dtypes: [{listed(fitting)}]" if fitting else "give another number"
            yield Fault(path, f"{number_text(number)} {what} {dtype}", advice)
        else:
            kinds |= examine(case.problem(dtype, case.reductions[0]))
    if len(fitting) < len(gone):
        return
    expect = case.expect
    said = expect.kind if isinstance(expect, MustRaise) else None
    invalid = kinds & INVALID
    if isinstance(expect, NoRightAnswer):
        invalid &= {"shape_mismatch"}
    for kind in sorted(invalid - {said}):
        path, message = _found(case, kind)
        taken = said is not None
        yield Fault(path, message, "correct it" if taken else f"correct it, or say expect: {{error: {kind}}}")
    if said is not None and said not in kinds:
        here = f"; what is there: {listed(sorted(kinds))}" if kinds else ""
        yield Fault(("expect", "error"), f"there is no {said} in this case{here}", "correct the one or the other")


def lost(case: Case, dtype: str) -> tuple[Path_, float, str] | None:
    """The first number that is finite and not in `dtype`, or a prediction that is not 0 and is in `dtype`."""
    if dtype == "float64":
        return None
    narrow = numpy_dtype(dtype)
    arrays: list[tuple[Path_, Array | None]] = [(("predictions",), case.predictions), (("labels",), case.labels)]
    arrays += [(("options", name), getattr(case.options, name)) for name in WEIGHTS]
    for path, exact in arrays:
        if exact is None or exact.dtype != np.float64:
            continue
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            rounded = exact.astype(narrow).astype(np.float64)
        over = np.isinf(rounded) != np.isinf(exact)
        under = (rounded == 0) != (exact == 0)
        for where, what in ((over, "overflows"), (under, "becomes 0 in")):
            if bool(where.any()) and (what == "overflows" or path == ("predictions",)):
                at = tuple(int(index) for index in np.argwhere(where)[0])
                return (*path, *at), float(exact[at]), what
    return None


def _found(case: Case, kind: str) -> tuple[Path_, str]:
    """Where the first input of an invalid kind is, and what it is."""
    predictions, labels = case.predictions, case.labels
    if kind == "shape_mismatch":
        for name in misfits(case.options, predictions.shape, case.loss):
            wrong = misfit(name, getattr(case.options, name).shape, predictions.shape, case.loss)
            assert wrong is not None
            return wrong.path, wrong.message
        want = case.problem(case.dtypes[0], case.reductions[0]).sample_shape
        want = want if case.target == "index" else predictions.shape
        have, need, given = list(labels.shape), list(want), list(predictions.shape)
        return ("labels",), f"labels of shape {have} where predictions of shape {given} need {need}"
    classes = predictions.shape[-1]
    where = labels < 0
    path: Path_ = ("labels",)
    array, fault = labels, "outside [0, 1]"
    if kind == "label_out_of_range":
        where, fault = where | (labels >= classes), f"outside [0, {classes})"
        if case.options.ignore_index is not None:
            where = where & (labels != case.options.ignore_index)
    elif kind == "invalid_target":
        where = where | (labels > 1)
    elif kind == "invalid_probability":
        where, array, path = (predictions < 0) | (predictions > 1), predictions, ("predictions",)
    if not bool(np.any(where)):
        return path, f"there is a {kind}"
    at = tuple(int(index) for index in np.argwhere(where)[0])
    return (*path, *at), f"{path[0]} has {number_text(array[at].item())}, {fault}"
