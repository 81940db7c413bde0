"""Compute the certified answers that travel with the package: `python -m conformance.judging.certify [--check]`.

These are the answers that a run looks up: every function of every known framework is judged on every shipped case
that it accepts, with an outcome that is right by its documentation.  No framework is called.  Without an option the
file is written; with `--check` it is compared with the computed answers, and the exit status is 1 if they differ.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from conformance.adapters import registry
from conformance.adapters.registry import NEWEST, Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.loading import load, shipped_cases
from conformance.judging.effects import answer_by
from conformance.judging.judge import Judge, gradient_axis
from conformance.judging.plan import Item, documented_convention, plan
from conformance.judging.prepare import PreparedCall, Problems, prepare
from conformance.model.case import is_derivative, numpy_dtype
from conformance.model.convention import Convention
from conformance.model.outcome import Outcome, Raised, Returned
from conformance.reference import certified
from conformance.reference.certified import CertifiedAnswers
from conformance.reference.oracle import Exact, Oracle, decode

MAX_ELEMENTS = 4096
"""Maximum number of elements of an answer in the file; larger ones are gradients, which are cheap to compute."""


class Memory:
    """An in-memory cache of encoded answers, with the interface of the cache of `Oracle`."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}

    def get(self, key: str, is_sound: Callable[[bytes], bool] = bool) -> bytes | None:
        """The encoded answer for a key, or None; it needs no check, as it was computed in this process."""
        return self.answers.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Store an encoded answer."""
        self.answers[key] = value

    def flush(self) -> None:
        """Do nothing: there is no file."""


def compute_answers() -> dict[str, bytes]:
    """Compute all answers; encoded, by key."""
    memory = Memory()
    judge = Judge(Oracle(memory), Ledger())
    items = plan(load(shipped_cases()), _newest_releases())
    gc.freeze()  # cases and items outlive the loop
    for prepared in _distinct_calls(items):
        judge.judge(prepared, _right_outcome(prepared, judge.oracle))
    return {key: answer for key, answer in memory.answers.items() if _elements(answer) <= MAX_ELEMENTS}


def _newest_releases() -> list[Installed]:
    """Every known framework in its newest release, with its default backend."""
    return [Installed(framework, NEWEST, backend=framework.backend({})) for framework in registry.frameworks()]


def _distinct_calls(items: Iterable[Item]) -> Iterator[PreparedCall]:
    """Yield the calls of items, except those that only look up answers of an earlier call."""
    distinct = set()
    problems = Problems()
    for item in items:
        if is_derivative(item.quantity) and item.case.predicted > MAX_ELEMENTS:
            continue
        prepared = prepare(item, problems)
        key = (
            item.case.id,
            item.dtype,
            item.reduction,
            item.quantity,
            prepared.converted.input_kind,
            prepared.weights,
            _documented(prepared),
            item.framework.name if prepared.conversion else "",
        )
        if key not in distinct:
            distinct.add(key)
            yield prepared


def _documented(prepared: PreparedCall) -> Convention:
    return documented_convention(prepared.item, prepared.problem).convention


def _right_outcome(prepared: PreparedCall, oracle: Oracle) -> Outcome:
    """An outcome that is right by the function's documentation: a gradient has the classes on the axis of the call."""
    item = prepared.item
    expected = answer_by(prepared.converted, _documented(prepared), item.quantity, oracle)
    if not isinstance(expected, Exact):
        return Raised("ValueError", "")
    dtype = item.function.result_dtype_for(prepared.converted, item.quantity)
    with np.errstate(all="ignore"):
        value = expected.hi.astype(numpy_dtype(dtype)).astype(np.float64)
    axis = gradient_axis(prepared)
    return Returned(value if axis is None else np.moveaxis(value, -1, axis), dtype)


def _elements(answer: bytes) -> int:
    exact = decode(answer)
    return exact.hi.size if isinstance(exact, Exact) else 0


def differences(computed: dict[str, bytes], stored: CertifiedAnswers) -> list[str]:
    """Describe the keys that are absent or different in the file, and whether the file has surplus keys."""
    lines = []
    for key, answer in computed.items():
        stored_answer = stored.get(key)
        if stored_answer is None:
            lines.append(f"{key}: is missing")
        elif not _agree(answer, stored_answer):
            lines.append(f"{key}: is another answer")
    if extra := len(stored) - len(computed) + sum(stored.get(key) is None for key in computed):
        lines.append(f"{extra} answers belong to no shipped case")
    return lines


def _agree(a: bytes, b: bytes) -> bool:
    """Whether two encoded answers are equal, up to the last bits of their enclosures, which depend on the machine."""
    if a == b:
        return True  # holds for nan, too, which differs from itself
    decoded_a, decoded_b = decode(a), decode(b)
    if not isinstance(decoded_a, Exact) or not isinstance(decoded_b, Exact):
        return decoded_a == decoded_b
    masks = [np.asarray(answer.unconstrained) for answer in (decoded_a, decoded_b)]
    if not np.array_equal(decoded_a.hi, decoded_b.hi, equal_nan=True) or not np.array_equal(masks[0], masks[1]):
        return False
    return bool(np.all(np.abs(decoded_a.lo - decoded_b.lo) <= decoded_a.rad + decoded_b.rad))


def main() -> int:
    """Write the file, or check it; return the exit status."""
    answers = compute_answers()
    if "--check" not in sys.argv[1:]:
        certified.write(answers)
        print(f"{certified.FILE.name}: {len(answers)} answers, {certified.FILE.stat().st_size / 1e6:.1f} MB")
        return 0
    wrong = differences(answers, CertifiedAnswers())
    for line in wrong[:20]:
        print(line)
    if wrong:
        print(f"{certified.FILE.name} is stale, {len(wrong)} differences: python -m conformance.judging.certify")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
