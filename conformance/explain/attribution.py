"""What a function does differently: each choice that matters, with the number that it changes, one after another.

The choices are made one by one, each on top of those before it; so what they change adds up to the semantic
part of the difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.explain import meanings
from conformance.explain.derivation import answer_text, counted, divisor_terms, said_as, smoothed_output
from conformance.explain.explanation import Difference, Line, Split
from conformance.explain.number_format import SHOWN, added, apart, element, figure, figures, row
from conformance.explain.subproblems import lift, minus_logs
from conformance.judging.suite import Assessment, rule_of
from conformance.judging.verdict import OF_GRADIENT, UNJUDGED, answer_by, compare, computed, semantic
from conformance.model.case import Problem
from conformance.model.convention import DEFINITION, Convention, describe
from conformance.model.outcome import Returned
from conformance.reference import error_bound, gradient, gradient_error_bound, oracle
from conformance.reference.domain import examine
from conformance.reference.flat_problem import Rows, clip_ends, refused, rows
from conformance.reference.oracle import Answer, Exact, Oracle, float_of

AFFECTED = 3
"""Rows that are shown for a choice that is made in each of them."""
SEARCHED = 20_000
"""Predictions beyond which the rows that a choice changes are not looked for."""
NOTICEABLE = 1e-4
"""What a row has to change by, as a share of what changes most, to be told."""
NUMERIC = ("cancellation", "gradient_cancellation")
"""Fields that change how much rounding is allowed, and no exact answer."""


def choices_of(assessment: Assessment) -> tuple[str, ...]:
    """The fields of the documented convention that the verdict names, in the order of the fields.

    What is accepted comes first: there is no answer to change before it is.
    """
    named = dict(assessment.verdict.choices)
    names = [field.name for field in dataclasses.fields(Convention) if field.name in named]
    return tuple(sorted(names, key=lambda name: name != "accepts"))


def documented(assessment: Assessment) -> Convention:
    """What the function documents for what it is asked."""
    return rule_of(assessment.item, assessment.asked.problem).convention


def differences(assessment: Assessment, exact: Oracle) -> tuple[Difference, ...]:
    """The choices that explain a divergence, or, where nothing does, all that are documented and change the answer."""
    names = choices_of(assessment)
    by = documented(assessment)
    if not names and assessment.verdict.status == "disagrees" and assessment.verdict.want_by_convention is not None:
        silent = {*UNJUDGED, *NUMERIC, *(OF_GRADIENT if assessment.item.quantity == "loss" else ())}
        names = tuple(sorted((name for name in by.choices() if name not in silent), key=lambda name: name != "accepts"))
    if names and "empty_mean" in by.choices() and _averages_nothing(assessment, by.restricted_to(names)):
        names = (*names, "empty_mean")
    parts = [by.restricted_to(names[:number]) for number in range(len(names) + 1)]
    told = _told(assessment, [answer(assessment, part, exact) for part in parts])
    found = []
    for number, name in enumerate(names):
        lines = tuple(_lines(assessment, exact, name, *parts[number : number + 2]))
        moves = name not in (*NUMERIC, "rejects")
        before, after = told[number : number + 2] if moves else ("", "")
        if not moves or before != after or assessment.verdict.convention:
            found.append(_difference(assessment, name, getattr(by, name), lines, before, after))
    return tuple(found)


def _averages_nothing(assessment: Assessment, part: Convention) -> bool:
    """Whether a mean has nothing left to average under a part of what is documented."""
    problem = assessment.asked.handed
    return problem.reduction == "mean" and not refused(problem, part) and oracle.divisor(problem, part) == 0


def answer(assessment: Assessment, convention: Convention, exact: Oracle) -> Answer | None:
    """What is due of the problem that was handed over, under a part of a convention."""
    asked = assessment.asked
    try:
        return answer_by(asked.handed, convention, asked.item.quantity, exact)
    except ArithmeticError:
        return None


def _difference(
    assessment: Assessment, name: str, choice: Any, lines: tuple[Line, ...], before: str, after: str
) -> Difference:
    if isinstance(choice, frozenset):
        choice = choice & examine(assessment.asked.handed)
    instead = "" if isinstance(choice, frozenset) else meanings.meaning(name, getattr(DEFINITION, name))
    text, said = describe({name: choice}), meanings.meaning_for(name, choice, assessment.asked.problem)
    return Difference(name, text, said, instead, lines, before, after, name in NUMERIC)


def _told(assessment: Assessment, answers: list[Answer | None]) -> list[str]:
    """Answers as text, those that are arrays of one shape at one element: the one that changes most."""
    numbers = [found for found in answers if isinstance(found, Exact)]
    shapes = {found.hi.shape for found in numbers}
    parts = split(assessment)
    if len(shapes) == 1 and numbers[0].hi.size:
        same_shape = parts is not None and numbers[0].hi.ndim == len(parts.where)
        where = parts.where if parts is not None and same_shape else furthest(numbers[0], numbers[-1])
        digits = apart([float(found.hi[where]) for found in numbers])
        place = f" at {list(where)}" if where else ""
        return [
            f"{figure(found.hi[where], digits)}{place}" if isinstance(found, Exact) else _whole(found)
            for found in answers
        ]
    return [_whole(found) for found in answers]


def _whole(found: Answer | None) -> str:
    return "none that can be enclosed" if found is None else answer_text(found)


def furthest(a: Exact, b: Exact) -> tuple[int, ...]:
    """Where two answers of one shape differ most."""
    with np.errstate(all="ignore"):
        off = np.abs(a.hi - b.hi)
    off = np.where(np.isnan(off), np.where(a.hi == b.hi, 0.0, np.inf), off)
    same = (a.hi == b.hi) | (np.isnan(a.hi) & np.isnan(b.hi))
    off = np.where(same, 0.0, off)
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape)) if off.ndim and off.size else ()


def _lines(assessment: Assessment, exact: Oracle, name: str, before: Convention, after: Convention) -> Iterator[Line]:
    """One choice with its numbers."""
    problem = assessment.asked.handed
    if name in NUMERIC:
        yield from _allowances(assessment, before, after)
    elif refused(problem, after) or not problem.predictions.size:
        return
    elif name == "mean_divides_by":
        yield from _divisors(assessment, exact, before, after)
    elif name == "binary_outputs":
        yield from _averages(problem, exact, before, after)
    elif name in ("clip", "log_floor", "renormalise"):
        yield from _logarithms(assessment, name, before, after)
    elif name == "default_ignore_index":
        labels = problem.labels.reshape(-1)
        found = np.flatnonzero(labels == after.default_ignore_index)
        yield Line("samples with that label", "", "", figures(found.tolist()))
        yield Line("samples that count", "", f"{labels.size} - {found.size}", str(labels.size - found.size))
    elif name == "out_of_range":
        yield from _labels(problem, after)
    elif name == "empty_mean":
        yield Line("the mean divides by", "", "", "0")
    elif name == "gradient_total":
        yield from _totals(assessment, exact, before, after)
    elif name == "gradient_floor":
        yield from _floors(assessment, exact, before, after)


def _allowances(assessment: Assessment, before: Convention, after: Convention) -> Iterator[Line]:
    for name, part in (("allowed error without it", before), ("allowed error with it", after)):
        allowed = allowed_by(assessment, part)
        comparison = assessment.verdict.comparison
        where = comparison.where if comparison is not None else ()
        yield Line(name, "", "", figure(allowed[where] if allowed.shape else allowed, 3))


def allowed_by(assessment: Assessment, part: Convention) -> npt.NDArray[np.float64]:
    """The budget for an answer under a part of what the function documents."""
    asked = assessment.asked
    rounded = computed(part, documented(assessment))
    if asked.item.quantity == "gradient":
        return gradient_error_bound.allowed(asked.handed, rounded)
    return error_bound.allowed(asked.handed, rounded, asked.problem if asked.bridge else None)


def _divisors(assessment: Assessment, exact: Oracle, before: Convention, after: Convention) -> Iterator[Line]:
    problem = assessment.asked.handed
    old, new = oracle.divisor(problem, before), oracle.divisor(problem, after)
    if old is None or new is None:
        return
    terms = divisor_terms(problem, rows(problem, before)) if before.mean_divides_by == "weight" else ""
    counting = {"samples": "losses", "kept": "losses that are not ignored"}.get(after.mean_divides_by, "")
    yield Line("definition divides by", "", terms, figure(old))
    yield Line("it divides by", "", "", f"{figure(new)} {counting}".rstrip())
    if assessment.item.quantity == "gradient":
        yield Line("so every element is multiplied by", "", f"{figure(old)} / {figure(new)}", _ratio(old, new))
        return
    total = exact.answer(problem.reduced("sum"), semantic(after))
    mean = exact.answer(problem, semantic(after))
    if isinstance(total, Exact) and isinstance(mean, Exact) and total.hi.ndim == 0 == mean.hi.ndim:
        digits = apart([float(total.hi), float(mean.hi)])
        filled = f"{figure(total.hi, digits)} / {figure(new)}"
        yield Line("its mean", "sum / divisor", filled, figure(mean.hi, digits))


def _ratio(old: Fraction, new: Fraction) -> str:
    return figure(old / new) if new else "inf"


def _averages(problem: Problem, exact: Oracle, before: Convention, after: Convention) -> Iterator[Line]:
    each = exact.answer(problem.reduced("none"), semantic(before))
    averaged = exact.answer(problem.reduced("none"), semantic(after))
    if not isinstance(each, Exact) or not isinstance(averaged, Exact) or each.hi.ndim == 0:
        return
    outputs = problem.predictions.shape[-1]
    for at, (losses, mean) in enumerate(
        zip(each.hi.reshape(-1, outputs)[:AFFECTED], averaged.hi.ravel()[:AFFECTED], strict=False)
    ):
        terms = added([figure(loss) for loss in losses])
        yield Line(f"loss of row {at}", f"mean over {outputs} outputs", f"({terms}) / {outputs}", figure(mean))
    if problem.reduction == "sum":
        total = exact.answer(problem, semantic(after))
        if isinstance(total, Exact):
            yield Line("its sum", "", added([figure(mean) for mean in averaged.hi.ravel()]), figure(total.hi))


def _logarithms(assessment: Assessment, name: str, before: Convention, after: Convention) -> Iterator[Line]:
    """The rows whose logarithms change most: the probability, what it becomes, and -log p before and after."""
    problem = assessment.asked.handed
    given = rows(problem, before)
    if name == "clip":
        ends = clip_ends(problem.dtype, after)
        assert ends is not None
        yield Line(f"its clip in {problem.dtype}", "", "", f"[{', '.join(said_as(problem, end) for end in ends)}]")
    if given.x.size > SEARCHED:
        return
    found = [
        (at, changed)
        for at in np.flatnonzero(given.kept).tolist()
        if (changed := _changed(problem, given, at, before, after))
    ]
    found = sorted(found, key=lambda row: -_by(row[1]))
    found = [row for row in found if _by(row[1]) >= NOTICEABLE * _by(found[0][1])]
    for at, changed in sorted(found[:AFFECTED]):
        place = f" of {'output' if given.binary else 'sample'} {_index(problem, at)}" if len(given.x) > 1 else ""
        yield from _became(problem, name, given, at, [c for c, _, _ in changed], place)
        for c, old, new in changed[:AFFECTED]:
            if assessment.item.quantity == "gradient" and name != "renormalise" and after.renormalise == "no":
                yield Line(f"slope{place}", "nothing depends on p there", "", "0")
                continue
            digits = apart([float_of(old), float_of(new)])
            what = ("-log p" if c else "-log(1 - p)") if given.binary else f"-log p_{c}"
            yield Line(what + place, "", "", f"{figure(new, digits)} instead of {figure(old, digits)}")
    if len(found) > AFFECTED:
        yield Line("others that change", "", "", str(len(found) - AFFECTED))


def _by(changed: list[tuple[int, Any, Any]]) -> float:
    """How much the logarithms of a row change."""
    with np.errstate(all="ignore"):
        sizes = [abs(float_of(new) - float_of(old)) for _, old, new in changed]
    return max(math.inf if math.isnan(size) else size for size in sizes)


def _index(problem: Problem, at: int) -> str:
    where = [int(i) for i in np.unravel_index(at, problem.sample_shape)]
    return str(where[0] if len(where) == 1 else where)


def _changed(
    problem: Problem, given: Rows, at: int, before: Convention, after: Convention
) -> list[tuple[int, Any, Any]]:
    """(class, -log p before, after) of the logarithms that count and change."""
    if given.binary:
        y = smoothed_output(given, at)
        counting = [side for side, share in ((1, y), (0, 1 - y)) if share != 0]
    else:
        if given.index is not None and not 0 <= given.index[at] < given.x.shape[1]:
            return []
        counting = [c for c, _ in counted(given, at)][:SHOWN]
    old, new = (minus_logs(problem, convention, at, counting) if counting else None for convention in (before, after))
    if old is None or new is None:
        return []
    pairs = zip(counting, old, new, strict=True)
    return [(c, a, b) for c, a, b in pairs if figure(a, 17) != figure(b, 17)]


def _became(problem: Problem, name: str, given: Rows, at: int, classes: list[int], place: str) -> Iterator[Line]:
    """What the choice is made about: the probabilities that count, and the row's sum."""
    x = given.x[at]
    if given.binary:
        yield Line(f"p{place}", "", "", element(x))
    elif name != "renormalise":
        for c in classes[:AFFECTED]:
            yield Line(f"p_{c}{place}", "", "", element(x[c]))
    elif given.clip is not None:
        yield Line(f"p{place}", "clipped", "", row(np.clip(x, *np.array(given.clip).astype(x.dtype))))
    elif np.all(np.isfinite(x.astype(np.float64))):
        total = sum((Fraction(float(value)) for value in x.tolist()), Fraction(0))
        yield Line(f"sum of the row{place}", "", added([element(value) for value in x]), figure(total))
        for c in classes[:AFFECTED] if total else ():
            share = Fraction(float(x[c])) / total
            yield Line(f"p_{c} / sum", "", f"{element(x[c])} / {figure(total)}", figure(share))


def _labels(problem: Problem, after: Convention) -> Iterator[Line]:
    classes = problem.predictions.shape[-1]
    labels = problem.labels.reshape(-1).tolist()
    outside = [(at, label) for at, label in enumerate(labels) if not 0 <= label < classes]
    counting = [pair for pair in outside if pair[1] not in (problem.options.ignore_index, after.default_ignore_index)]
    for at, label in counting[:AFFECTED]:
        match after.out_of_range:
            case "wrap":
                yield Line(f"class of sample {at}", "label mod C", f"{label} mod {classes}", str(label % classes))
            case "zero" | "nan":
                value = "0" if after.out_of_range == "zero" else "nan"
                yield Line(f"loss of sample {at}, label {label}", "", "", value)


def _element(assessment: Assessment, exact: Oracle, before: Convention, after: Convention) -> tuple[int, ...] | None:
    a, b = answer(assessment, before, exact), answer(assessment, after, exact)
    return furthest(a, b) if isinstance(a, Exact) and isinstance(b, Exact) else None


def _totals(assessment: Assessment, exact: Oracle, before: Convention, after: Convention) -> Iterator[Line]:
    problem = assessment.asked.handed
    where = _element(assessment, exact, before, after)
    if where is None:
        return
    given = rows(problem, before)
    at, c = int(np.ravel_multi_index(where[:-1], problem.sample_shape)), where[-1]
    parts = [part for _, part in counted(given, at)]
    yield Line("sum of the row's targets", "", added([figure(part) for part in parts]), figure(sum(parts)))
    p = gradient.softmax(given.x[at : at + 1].astype(np.float64), lift)[0, c]
    t = dict(counted(given, at)).get(c, 0)
    old, new = sum(parts) * p - t, p - t
    yield Line(f"slope at {list(where)}", "T p - t", f"{figure(sum(parts))} * {figure(p)} - {figure(t)}", figure(old))
    yield Line("its slope", "p - t", f"{figure(p)} - {figure(t)}", figure(new))


def _floors(assessment: Assessment, exact: Oracle, before: Convention, after: Convention) -> Iterator[Line]:
    problem = assessment.asked.handed
    where = _element(assessment, exact, before, after)
    if where is None:
        return
    given = rows(problem, before)
    at = int(np.ravel_multi_index(where, problem.sample_shape)) if where else 0
    p, y, least = Fraction(float(given.x[at])), smoothed_output(given, at), gradient.gradient_floor(given, after)
    if not least:
        return
    product = p * (1 - p)
    yield Line("p (1 - p)", "", f"{element(given.x[at])} * (1 - {element(given.x[at])})", figure(product))
    used = max(product, Fraction(least))
    filled = f"({element(given.x[at])} - {figure(y)}) / {figure(used)}"
    y_exact = Fraction(float(figure(y, 17)))
    yield Line("its slope", "(p - y) / max(p (1 - p), floor)", filled, figure((p - y_exact) / used))


def split(assessment: Assessment) -> Split | None:
    """The difference from the definition where the verdict found most, or where the convention changes most."""
    verdict, outcome = assessment.verdict, assessment.verdict.outcome
    if not isinstance(outcome, Returned) or verdict.comparison is None:
        return None
    want = verdict.want if isinstance(verdict.want, Exact) else None
    by = want if verdict.want_by_convention is None else verdict.want_by_convention
    if by is None or by.hi.shape != outcome.value.shape or not by.hi.size:
        return None
    instead = "" if want is not None else answer_text(verdict.want)
    if want is not None and want.hi.shape != by.hi.shape:
        instead, want = f"an answer of shape {want.hi.shape}", None
    dtype = assessment.asked.handed.dtype
    unexplained = verdict.status == "disagrees" and verdict.want_by_convention is not None
    budgets = allowed_by(assessment, documented(assessment)) if unexplained else verdict.allowed
    where = compare(outcome.value, by, budgets, dtype, outcome.dtype).where
    if want is not None and by is not want and (semantic_where := furthest(want, by)) != ():
        where = semantic_where
    free = None if by.free is None else np.asarray(by.free[where])
    one = Exact(np.asarray(by.hi[where]), np.asarray(by.lo[where]), np.asarray(by.rad[where]), free)
    got = np.asarray(outcome.value[where])
    allowed = np.asarray(np.broadcast_to(budgets, by.hi.shape)[where])
    comparison = compare(got, one, allowed, dtype, outcome.dtype)
    shown = [float(got), float(one.hi), *([] if want is None else [float(want.hi[where])])]
    digits = apart(shown)
    returned = Fraction(float(got)) if np.isfinite(got) else None
    due, by_convention = None if want is None else _fraction(want, where), _fraction(by, where)
    return Split(
        where,
        "" if want is None else figure(want.hi[where], digits),
        figure(one.hi, digits),
        figure(got, digits),
        _minus(returned, due),
        _minus(by_convention, due),
        _minus(returned, by_convention),
        comparison.allowed,
        comparison.ratio,
        comparison.ulps,
        instead,
        _cause(assessment),
    )


def _cause(assessment: Assessment) -> str:
    """Where the difference of the answer that a verdict rests on from the definition's comes from."""
    verdict = assessment.verdict
    if not verdict.conversion:
        return "by convention"
    return "by conversion and convention" if verdict.convention else "by conversion"


def _fraction(of: Exact, where: tuple[int, ...]) -> Fraction | None:
    hi, lo = float(of.hi[where]), float(of.lo[where])
    return Fraction(hi) + Fraction(lo) if np.isfinite(hi) else None


def _minus(a: Fraction | None, b: Fraction | None) -> float | None:
    return None if a is None or b is None else float(a - b)
