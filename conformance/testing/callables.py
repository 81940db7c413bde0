"""Create pytest tests for a callable of this process, one per kind of check."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from conformance.adapters import checked
from conformance.adapters.checked import CheckedCallable
from conformance.adapters.registry import Installed

if TYPE_CHECKING:
    from conformance.casefiles.known_issues import Ledger

KINDS = ("losses", "gradients", "relations", "drawn_problems", "vocabularies")
"""Kinds of check, in the order of the tests."""
BLOCKS = ("categorical/vocabularies", "categorical/batches_in_blocks", "binary/outputs_in_blocks")
"""Cases for the check of vocabularies."""
MAX_SHOWN = 3
"""Maximum number of failures in a message, each with a different cause."""


def checks(
    callable_: Callable[..., Any],
    *,
    like: str,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    arrays: str = "",
    arguments: Mapping[str, str] | None = None,
    reduction: str = "",
    clip: float | None = None,
    mean_divides_by: str = "",
    cancellation: bool = False,
    dtypes: Sequence[str] = (),
    targets: Sequence[str] = (),
    ranks: Sequence[int] = (),
    result_dtype: str = "",
    other_dtypes: bool = False,
) -> Callable[[str], None]:
    """Create a pytest test function for a callable, parametrised by the kind of check.

    In a test module, `test_my_loss = checks(my_loss, like="torch.CrossEntropyLoss")`.  The callable is called in the
    process of the tests, on the cases of this package that its parameters can express; invalid input is not passed.

    Parameters
    ----------
    callable_ : callable
        A function, a class whose constructor takes the options (a module of PyTorch, a loss of Keras), or an instance.
    like : str
        A known function with the same arguments, arrays and documented meaning, such as "torch.CrossEntropyLoss".
    kinds : sequence of str
        Kinds of check to test, out of "losses", "gradients", "relations", "drawn_problems" and "vocabularies".
    seed : int
        Seed of the random problems.
    arrays : {"numpy", "torch", "jax", "tensorflow"}, optional
        The arrays that it accepts, if not those of `like`.
    arguments : dict of str to str, optional
        Parameter of the callable -> its meaning, if its name does not tell: "logits", "probabilities",
        "log_probabilities", "hidden", "weight", "labels", "reduction", or an option.
    reduction : {"none", "sum", "mean"}, optional
        Reduction of a callable without such a parameter; by default the mean.
    clip, mean_divides_by : optional
        Documented clip of probabilities and divisor of the mean, if not those of `like`.
    cancellation : bool
        Accept cancellation in the usual formulas; see `tolerance`.
    dtypes, targets, ranks : sequences, optional
        The accepted dtypes of the predictions, kinds of target and ranks of the predictions, if not those of
        `like`.
    result_dtype : str, optional
        The dtype of its result, if not that of the predictions.
    other_dtypes : bool
        Also test labels and weights in other dtypes that `like` accepts.

    Returns
    -------
    function
        To be assigned to a name that pytest collects, such as `test_my_loss`.  A test fails with the returned and the
        exact value, the index, the error, the tolerance and a call to paste, for the first failure of each cause; it is
        skipped if there is nothing to test, such as gradients in NumPy.

    Raises
    ------
    UserError
        If the callable lacks a parameter, or is described wrongly.
    ValueError
        If there is no such kind.
    """
    import pytest

    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"unknown kind {unknown[0]!r}; expected one of {', '.join(KINDS)}")
    target, inspection = checked.describe_object(callable_)
    described = CheckedCallable(
        target=target,
        like=like,
        arrays=arrays,
        arguments=dict(arguments or {}),
        reduction=reduction,
        clip=clip,
        mean_divides_by=mean_divides_by,
        cancellation=cancellation,
        dtypes=tuple(dtypes),
        targets=tuple(targets),
        ranks=tuple(ranks),
        result_dtype=result_dtype,
        other_dtypes=other_dtypes,
    )
    installed = checked.installed(described, inspection)
    issues = functools.cache(lambda: _known_issues(like, installed))

    @pytest.mark.parametrize("kind", tuple(kinds))
    def test(kind: str) -> None:
        count, failures = 0, []
        for failure in _CHECKS[kind](installed, issues(), seed):
            count += 1
            failures += [failure] if failure is not None else []
        if not count:
            pytest.skip(f"{kind.replace('_', ' ')}: there is nothing that its parameters and arrays can express")
        if failures:
            first = dict(reversed(failures))
            shown = [*reversed(first.values())][:MAX_SHOWN]
            head = f"{len(failures)} of {count} {kind.replace('_', ' ')} are wrong; the first of each cause:"
            if target.startswith(f"{checked.OBJECTS}:"):
                head += f"\n(it is in no module; {target.replace(':', '.')} stands for it in the calls to paste)"
            pytest.fail("\n\n".join([head, *shown]), pytrace=False)

    return test


Failure = tuple[str, str] | None
"""(cause, message) of a failure; None if the result is right."""


@functools.cache
def _cases() -> tuple[Any, ...]:
    """The shipped cases with an answer, small ones first."""
    from conformance.casefiles.loading import load, shipped_cases
    from conformance.model.case import MustRaise

    cases = (case for case in load(shipped_cases()) if not isinstance(case.expect, MustRaise))
    return tuple(sorted(cases, key=lambda case: case.predicted))


def _known_issues(like: str, installed: Installed) -> Ledger:
    from conformance.casefiles.known_issues import load
    from conformance.casefiles.loading import shipped_cases
    from conformance.judging.likeness import issues_of

    return issues_of(like, installed.functions[0].name, load(shipped_cases()).entries)


def _calls(
    installed: Installed, issues: Ledger, seed: int, *, of_gradients: bool, of_blocks: bool | None
) -> Iterator[Failure]:
    """Calls on cases.

    of_blocks: True for the cases of the check of vocabularies, False for all others, and None for all.
    """
    from conformance.execution.run import Run
    from conformance.judging.likeness import LikenessJudge
    from conformance.judging.plan import plan
    from conformance.model.case import is_derivative
    from conformance.reference.oracle import cached_oracle

    cases = (case for case in _cases() if of_blocks is None or case.id.startswith(BLOCKS) == of_blocks)
    items = [item for item in plan(cases, [installed]) if is_derivative(item.quantity) == of_gradients]
    run = Run()
    with cached_oracle() as oracle:
        for assessment in run.each(items, LikenessJudge(oracle, issues).assess):
            if assessment.expected == "ok":
                yield None
            else:
                cause = (assessment.row.reason_code, *assessment.item.case.options.names())
                yield " ".join(cause), assessment.message()
    run.require_all("it could not be called")


def _relations(installed: Installed, issues: Ledger, seed: int) -> Iterator[Failure]:
    from conformance.adapters.contract.calling import perform
    from conformance.execution.run import Run
    from conformance.explore.relations.checker import check
    from conformance.explore.relations.selection import select_instances

    run = Run()
    for result in run.each(select_instances(_cases(), [installed]), lambda instance: check(instance, perform, issues)):
        yield (result.instance.relation.name, str(result)) if result.violation else None
    run.require_all("it could not be called")


def _drawn(installed: Installed, issues: Ledger, seed: int) -> Iterator[Failure]:
    from conformance.explore.fuzz.search import search_valid_problems

    search = search_valid_problems([installed], issues, seed)
    yield from ((finding.case, finding.message) for finding in search.findings)
    yield from [None] * (search.state.position - len(search.findings))


_CHECKS: Mapping[str, Callable[[Installed, Ledger, int], Iterator[Failure]]] = {
    "losses": functools.partial(_calls, of_gradients=False, of_blocks=False),
    "gradients": functools.partial(_calls, of_gradients=True, of_blocks=None),
    "relations": _relations,
    "drawn_problems": _drawn,
    "vocabularies": functools.partial(_calls, of_gradients=False, of_blocks=True),
}
