"""A run from its plan to its report, whole or not: its rows are journaled as they come, and it knows how it ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.markup import escape

from conformance import report
from conformance.cli.shared import progress, selected, wanted
from conformance.cli.staging import Corpus, Stage
from conformance.cli.terminal import err
from conformance.execution.interruption import interruption, keep_handlers, let_end
from conformance.execution.running import NotAsked
from conformance.judging.suite import Item, Row, plan
from conformance.judging.unasked import unasked_rows
from conformance.model.errors import UserError
from conformance.report import Journal, Plan, recording

FAILED = "the suite itself failed"


class Execution:
    """The state of a run into a folder that its journal holds.

    corpus, stage, plan: None until they are known.  items: those that are asked for.  rows: in the order of the plan
    once `execute` returns.  stopped: why the run ended early, empty if it did not.  failure: the exception that it
    ended with.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.corpus: Corpus | None = None
        self.stage: Stage | None = None
        self.plan: Plan | None = None
        self.items: list[Item] = []
        self.rows: list[Row] = []
        self.not_asked: list[NotAsked] = []
        self.stopped = ""
        self.failure: Exception | None = None
        for note in journal.notes:
            say(note)

    def run(self, execute: Callable[[], None]) -> None:
        """Call `execute`, and note how it ended.  Raises UserError if that was before there was a plan."""
        try:
            execute()
        except (KeyboardInterrupt, SystemExit):  # SystemExit: by the handler of a signal that a library has set
            self.stopped = "interrupted"
        except Exception as error:
            if interruption():  # an exception that was raised instead of the interruption
                self.stopped = "interrupted"
            elif self.plan is None and isinstance(error, UserError):
                self.journal.abandon()
                raise
            else:
                self.failure = error
                self.stopped = str(error) if isinstance(error, UserError) else f"{FAILED}: {type(error).__name__}"
        if self.plan is None and self.journal.resumed is not None:
            self.rows = list(self.journal.resumed.rows.values())

    def make(self, started: float, keyword: str, timeout: float) -> None:
        """Plan the run on its stage, and make its rows.  started: seconds since the epoch.

        Raises SelectionError where no case is selected; where none of those can be asked, their rows say why.
        """
        corpus, stage = self.corpus, self.stage
        assert corpus is not None
        assert stage is not None
        for failed in stage.failed:
            say(failed["explanation"])
        self.items = plan(corpus.cases, stage.there, wanted(keyword))
        for left_out in stage.missing:
            err.print(f"left out, not installed: {left_out}")
        unsupported = unasked_rows(corpus.cases, self.items, stage.there, wanted(keyword))
        if not self.items and not unsupported:
            selected(corpus.cases, stage.there, keyword)
        made = [*stage.failed, *unsupported]
        count = len(self.items) + len(made)
        planned = recording.planned(
            corpus.cases, count, started, stage.missing, f"-k {keyword}" if keyword else "",
            corpus.ledger, stage.there, timeout,
        )  # fmt: skip
        taken = self._taken_over(planned, len(made))
        self.plan = planned
        self.rows = [*made, *taken]
        for row in made:
            self.journal.append(row)
        there = set(map(report.key_of, taken))
        asked = [item for item in self.items if _key(item) not in there]
        if asked:
            self._ask(stage, asked)
        order = {_key(item): place for place, item in enumerate(self.items)}
        self.rows.sort(key=lambda row: order.get(report.key_of(row), -1))

    def _taken_over(self, plan: Plan, made: int) -> list[Row]:
        """The rows of the run that is resumed; writes the plan.  made: how many rows need no call."""
        resumed = self.journal.resumed
        if resumed is None:
            self.journal.plan(plan)
            return []
        taken, again, others = recording.taken_over(resumed, plan, self.items)
        say(f"going on with the run of {resumed.started}: {made + len(taken)} of {plan.info.planned} rows are there")
        if resumed.torn:
            say(recording.torn_lines(resumed))
        for why in again:
            say(why)
        noted = len(self.journal.notes)
        self.journal.plan(plan, taken, keep=others > 0)
        for note in self.journal.notes[noted:]:
            say(note)
        return taken

    def _ask(self, stage: Stage, asked: list[Item]) -> None:
        keep_handlers()
        made_rows = stage.rows(asked)
        with contextlib.closing(made_rows), progress(len(asked)) as advance:
            for made in made_rows:
                keep_handlers()
                if interruption():  # the exception was swallowed by whatever was being called
                    raise KeyboardInterrupt
                if isinstance(made, NotAsked):
                    advance("")
                    self.not_asked.append(made)
                else:
                    self.journal.append(made)
                    self.rows.append(made)
                    advance(made["framework"])

    def write(self, results: pd.DataFrame, started: float) -> dict[str, Any]:
        """Write the report, give its folder back, and return what its `run.json` says; raises ReportError.

        An interruption has it written anew, marked as incomplete.
        """
        empty = report.Plan(report.RunInfo(planned=0, started=recording.moment(started)), report.Beside())
        plan = self.plan or (self.journal.resumed and self.journal.resumed.plan) or empty
        try:
            try:
                record = recording.write(self.journal.folder, results, plan, time.time() - started, self.stopped)
            except KeyboardInterrupt:
                self.stopped = "interrupted"
                record = recording.write(self.journal.folder, results, plan, time.time() - started, self.stopped)
        except BaseException:
            self.journal.close(whole=False)
            raise
        if record["complete"]:
            let_end()
        self.journal.close(whole=record["complete"])
        return record


def say(line: str) -> None:
    """Print a line to stderr."""
    err.print(escape(line), soft_wrap=True)


def _key(item: Item) -> report.Key:
    return item.framework.name, item.installed.environment, item.id


__all__ = ["FAILED", "Execution", "say"]
