"""A Hypothesis strategy for problems, with the grammar of `conformance fuzz`; it needs the extra `fuzz`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from conformance.model.case import DTYPES, INPUT_KINDS, LOSSES, OPTIONS, REDUCTIONS, TARGETS
from conformance.model.convention import INVALID
from conformance.testing.inputs import check_choice, read_inputs
from conformance.testing.questions import prepare

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def cross_entropy_problems(
    *,
    loss: str | None = None,
    predictions: str | None = None,
    target: str | None = None,
    options: Sequence[str] = (),
    reductions: Sequence[str] = REDUCTIONS,
    dtypes: Sequence[str] = ("float32", "float64"),
    max_samples: int = 8,
    max_classes: int = 5,
    unusual: bool = False,
) -> SearchStrategy[dict[str, Any]]:
    """Generate problems as the keyword arguments of `assert_cross_entropy`, in NumPy arrays.

    Hypothesis shrinks to few samples and classes, round numbers, and only relevant options.

    Parameters
    ----------
    loss : {"categorical", "binary"}, optional
        Loss of the problems; both are generated if not given.  Each problem states its loss under `loss`.
    predictions : {"logits", "probabilities", "log_probabilities"}, optional
        Kind of the predictions; all kinds are generated if not given.
    target : {"index", "distribution", "binary"}, optional
        Kind of the labels; all kinds that the loss accepts are generated if not given.
    options : sequence of str
        Options to draw from: "class_weights", "sample_weights", "positive_weight", "label_smoothing", "ignore_index".
    reductions, dtypes : sequence of str
        Reductions and dtypes to draw from.
    max_samples, max_classes : int
        Maximum numbers of samples and classes; for a binary loss, of outputs along the first and the last axis.
    unusual : bool
        Also generate nan and infinities, rows of probabilities that do not sum to 1, weights of 0 and below 0, a single
        class, and empty batches, as long as there is an exact answer.

    Returns
    -------
    SearchStrategy of dict

    Raises
    ------
    ValueError
        If a name is not one of those above, or no problem meets all requirements.
    MissingHypothesisError
        If Hypothesis is not installed.
    """
    from conformance.explore.fuzz import generation, strategies

    choices: tuple[tuple[str, Sequence[str | None], tuple[str, ...]], ...] = (
        ("loss", (loss,), LOSSES),
        ("predictions", (predictions,), INPUT_KINDS),
        ("target", (target,), TARGETS),
        ("options", options, OPTIONS),
        ("reductions", reductions, REDUCTIONS),
        ("dtypes", dtypes, DTYPES),
    )
    for name, values, known in choices:
        for value in values:
            if value is not None:
                check_choice(name, value, known)
    families = tuple(
        family
        for family in generation.FAMILIES
        if all(requested in (None, part) for requested, part in zip((loss, predictions, target), family, strict=True))
    )
    if not families:
        raise ValueError(f"no problem has loss={loss!r}, predictions={predictions!r}, target={target!r}")
    strategies.check_installed()
    limits = generation.Limits(
        max_samples=max_samples,
        max_classes=max_classes,
        dtypes=tuple(dtypes),
        kinds=generation.DEFAULT_KINDS - INVALID if unusual else frozenset(),
        families=families,
        options=frozenset(options),
        layouts=frozenset(),
        reductions=tuple(reductions),  # type: ignore[arg-type]
    )
    return strategies.cases(limits).map(_arguments).filter(_has_answer)


def _arguments(case: Any) -> dict[str, Any]:
    problem = case.problem(case.dtypes[0], case.reductions[0])
    options = {name: getattr(problem.options, name) for name in problem.options.names()}
    stated = {problem.input_kind: problem.predictions, "labels": problem.labels, "reduction": problem.reduction}
    return {"loss": problem.loss, **stated, **options}


def _has_answer(arguments: dict[str, Any]) -> bool:
    try:
        return prepare(read_inputs(**arguments), None).exact_loss is not None
    except ValueError:
        return False
