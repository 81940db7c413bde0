"""The search: cases drawn one after another, put to functions, and what is wrong with one shrunk to a finding.

The case at a position depends on the seed and the position alone, so a search goes on anywhere as if it had never
stopped.  What the ledger knows by its conditions (`Known.when`) is counted and not told again, and neither is what has
every trait of a finding of the same function that went wrong in the same way.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.adapters.contract import THREADS, Function, LoweringError, perform
from conformance.adapters.registry import Installed
from conformance.casefiles.known_issues import Ledger
from conformance.casefiles.writing import text_of
from conformance.explore.fuzz.generation import Limits, chosen_case
from conformance.explore.fuzz.shrinking import thinned
from conformance.explore.fuzz.strategies import smallest
from conformance.judging.rendering import render_brief
from conformance.judging.suite import Assessment, Item, Performer, Row, Suite, plan
from conformance.judging.traits import PLAIN, SMALL
from conformance.judging.verdict import Verdict
from conformance.model.case import QUANTITIES, Case
from conformance.model.errors import UserError
from conformance.model.row_key import RowKey
from conformance.reference.oracle import Oracle

DRAWN = "drawn/case"
"""Id of every case that is drawn; a finding gets one of its own."""
ABOUT = "Cases that were drawn at random and shrunk, because a function answered them wrongly."
SHRINKING = 20.0
"""Seconds that one finding is shrunk for at most."""
FAILURES = 20
"""Cases that could not be asked are remembered up to this number."""
Wanted = Callable[[Function, str], bool]


@dataclass(frozen=True)
class Finding:
    """The smallest case that shows one way in which one function is wrong.

    mark: that way; see the function `mark`.  traits: what is particular about the case.  text: its case file.  path: of
    that file below a case folder.  row: of the report.  message: what a failing test prints.
    """

    function: str
    version: str
    mark: str
    traits: tuple[str, ...]
    position: int
    case: str
    path: str
    text: str
    message: str
    row: Row


@dataclass
class Tally:
    """How far a search is.

    position: of the next case.  cases: that some function was asked.  again: rows that showed a finding once more, by
    its case.  known: rows that showed what the ledger knows, by its entry.  failures: what could not be asked.
    """

    position: int = 0
    cases: int = 0
    rows: int = 0
    seconds: float = 0.0
    again: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Search:
    """Draws, asks and shrinks.

    here: whose functions are asked, those of them that are `wanted`.  limits: what is drawn.  tally, findings: of the
    search that this one goes on with.  shrinks: whether it takes the time to shrink what it finds.
    """

    def __init__(
        self,
        here: Sequence[Installed],
        ledger: Ledger,
        limits: Limits | None = None,
        seed: int = 0,
        wanted: Wanted | None = None,
        performer: Performer = perform,
        tally: Tally | None = None,
        findings: Iterable[Finding] = (),
        shrinks: bool = True,
    ) -> None:
        self.here = here
        self.seed = seed
        self.limits = limits or Limits()
        self.tally = tally or Tally()
        self.findings = list(findings)
        self._ledger = ledger
        self._wanted = wanted
        self._performer = performer
        self._shrinks = shrinks

    def step(self) -> list[Finding]:
        """The next case, put to every function that can express it; what is found in it for the first time.

        Interrupted while it shrinks, it keeps the smallest case so far as a finding before it raises.
        """
        began = time.perf_counter()
        before = len(self.findings)
        rng = np.random.default_rng([self.seed, self.tally.position])
        case, choices = chosen_case(rng, DRAWN, self.limits)
        items = plan([case], self.here, self._wanted)
        suite = self._suite()
        for item in items:
            try:
                assessment = suite.assess(item)
            except (LoweringError, UserError) as error:
                self._fail(item, error)
                continue
            if assessment.expected == "known" and (entry := assessment.known) is not None:
                self.tally.known[f"{entry.path}:{entry.line}: {entry.told}"] += 1
            elif assessment.expected == "unexpected":
                self._wrong(assessment, choices)
        tally = self.tally
        tally.position += 1
        tally.cases += bool(items)
        tally.rows += len(items)
        tally.seconds += time.perf_counter() - began
        return self.findings[before:]

    def _suite(self) -> Suite:
        """Asks and judges one case; its oracle goes with it, so that a long search stays small."""
        return Suite(Oracle(), self._ledger, self._performer)

    def _fail(self, item: Item, error: Exception) -> None:
        if len(self.tally.failures) < FAILURES:
            self.tally.failures.append(f"case {self.tally.position}, {item.id}: {error}")

    def _wrong(self, assessment: Assessment, choices: Sequence[int]) -> None:
        found = assessment.asked.traits
        name, wrong = assessment.item.function.name, mark(assessment)
        for finding in self.findings:
            if (finding.function, finding.mark) == (name, wrong) and found.issuperset(finding.traits):
                self.tally.again[finding.case] += 1
                return
        if not self._shrinks:
            self._keep(assessment)
            return
        least, until = _Least(assessment), time.monotonic() + SHRINKING

        def still(case: Case) -> bool:
            if time.monotonic() > until:
                raise _LongEnough
            for item in plan([case], [assessment.item.installed], lambda function, _: function.name == name):
                try:
                    shown = self._suite().assess(item)
                except (LoweringError, UserError):
                    continue
                if shown.expected == "unexpected" and mark(shown) == wrong:
                    least.shown = shown
                    return True
            return False

        try:
            if (case := smallest(choices, self.limits, DRAWN, still)) is not None:
                still(thinned(case, still))
        except _LongEnough:
            pass
        finally:
            self._keep(least.shown)

    def _keep(self, shown: Assessment) -> None:
        finding = finding_of(shown, self.seed, self.tally.position)
        same = {(known.function, known.mark, known.traits) for known in self.findings}
        if (finding.function, finding.mark, finding.traits) in same:
            self.tally.again[finding.case] += 1
        else:
            self.findings.append(finding)


class _LongEnough(BaseException):
    """Shrinking has taken long enough; no Exception, which Hypothesis would take for a failure to shrink."""


@dataclass
class _Least:
    """The assessment of the smallest case so far."""

    shown: Assessment


def finding_of(shown: Assessment, seed: int, position: int) -> Finding:
    """What is wrong with one item, as a finding: its case alone, at its dtype and reduction."""
    item, verdict = shown.item, shown.verdict
    named = f"{item.case.loss}_{item.case.given}_{item.case.digest[:8]}"
    why = f"Case {position} that was drawn with seed {seed}, shrunk: {item.function.name} {item.installed.version}"
    case = dataclasses.replace(
        item.case,
        id=f"fuzz/{named}/smallest",
        why=f"{why} {_plainly(verdict)}.",
        about=ABOUT,
        source=f"conformance fuzz --seed {seed}",
        dtypes=(item.dtype,),
        reductions=(item.reduction,),
    )
    renamed = dataclasses.replace(item, case=case)
    asked = dataclasses.replace(shown.asked, item=renamed)
    renewed = Assessment(asked, verdict, None)
    return Finding(
        function=item.function.name,
        version=item.installed.version,
        mark=mark(shown),
        traits=tuple(sorted(shown.asked.traits - PLAIN - SMALL)),
        position=position,
        case=case.id,
        path=f"fuzz/{named}.yaml",
        text=text_of([case]),
        message=str(renewed),
        row=renewed.row,
    )


def _plainly(verdict: Verdict) -> str:
    said = render_brief(verdict.reason) if verdict.reason is not None else ""
    return f"{verdict.status.replace('_', ' ')}: {said}"


def mark(shown: Assessment) -> str:
    """In which way it is wrong: the status, and what identifies its reason whatever the numbers are."""
    reason, quantity = shown.verdict.reason, shown.item.quantity
    of = "" if quantity == "loss" else f" ({quantity})"
    return f"{shown.verdict.status}{of}: {', '.join(reason.identity if reason is not None else ())}"


def single_threaded() -> None:
    """Have frameworks that are imported from now on compute in one thread, unless the user said otherwise.

    They wake others also for arrays of ten numbers, and then wait for them longer than the loss takes.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")


def narrowed(limits: Limits | None = None, functions: Iterable[Function] = (), chosen: Wanted | None = None) -> Limits:
    """The limits without what none of the functions can express, so that few cases are drawn in vain.

    chosen: which items of theirs are asked for, by their ids.
    """
    limits, asked = limits or Limits(), list(functions)
    given = [
        (function, dtype, reduction)
        for function in asked
        for dtype in limits.dtypes
        for reduction in limits.reductions
        if dtype in function.dtypes
        and reduction in function.reductions
        and (chosen is None or any(chosen(function, name) for name in _ids(function, dtype, reduction)))
    ]
    asked = list({function.name: function for function, _, _ in given}.values())
    if not asked:
        raise UserError("nothing is selected: no installed function that is asked for has such a dtype and reduction")
    dtypes, reductions = {dtype for _, dtype, _ in given}, {reduction for _, _, reduction in given}
    layouts = frozenset[str]().union(*(function.layouts for function in asked))
    fields = {"class_axis": {"class_axis", "class_axis_not_1"}, "labels": {"labels_column"}}
    fields |= {"order": {"fortran", "strided", "readonly", "broadcast"}, "label_dtype": {"label_dtype"}}
    return dataclasses.replace(
        limits,
        dtypes=tuple(dtype for dtype in limits.dtypes if dtype in dtypes),
        reductions=tuple(reduction for reduction in limits.reductions if reduction in reductions),
        options=limits.options & frozenset[str]().union(*(function.options for function in asked)),
        families=tuple(family for family in limits.families if any(_takes(function, *family) for function in asked)),
        layouts=frozenset(name for name in limits.layouts if fields[name] & layouts),
    )


def _ids(function: Function, dtype: str, reduction: str) -> list[str]:
    return [RowKey(DRAWN, "", function.name, dtype, reduction, quantity).id for quantity in QUANTITIES]


def _takes(function: Function, loss: Any, given: str, target: str) -> bool:
    """Whether a function computes a loss from such targets; what is given is converted for it where it can be."""
    kinds = {"index": ("index",), "distribution": ("one_hot", "distribution"), "binary": ("binary", "soft_binary")}
    return loss in function.ranks and any(function.target_as(kind) is not None for kind in kinds[target])


__all__ = ["DRAWN", "Finding", "Search", "Tally", "finding_of", "mark", "narrowed", "single_threaded"]
