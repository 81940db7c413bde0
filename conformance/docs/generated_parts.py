"""The generated parts of pages, by the name in `<!-- generated: NAME -->`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tomllib

from conformance import report
from conformance.casefiles import known_issues
from conformance.casefiles.document import schema_of
from conformance.docs import accuracy, commands, conventions, findings, markup, readme_pages, releases, rosetta, schema
from conformance.judging.row import SCHEMA
from conformance.reference import error_bound

TEMPLATE = Path(__file__).parent / "templates" / "audit-upgrade.yml"
MARK = re.compile(r"^<!-- generated: ([a-z0-9_ ]+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Checkout:
    """The repository that the documentation is of.  folder: where it lies."""

    folder: Path

    @functools.cached_property
    def address(self) -> str:
        """Where the repository is on the web."""
        settings = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))
        return str(settings["project"]["urls"]["Source"])

    @property
    def source(self) -> str:
        """What an address begins with at which a file of the repository is read."""
        return f"{self.address}/blob/main"

    @functools.cached_property
    def baseline(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The committed report: its rows, and what is said of the run."""
        return report.read(self.folder / "reports" / "baseline")

    @functools.cached_property
    def ledger(self) -> tuple[known_issues.KnownIssue, ...]:
        """Every entry of the ledger."""
        return known_issues.load(self.folder / "cases").entries

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """The committed history, every cell a text."""
        return pd.read_csv(self.folder / "reports" / "history" / "history.csv", dtype=str, keep_default_na=False)

    def readme(self, name: str) -> str:
        """A README as a page."""
        return readme_pages.to_page((self.folder / name).read_text(encoding="utf-8"), self.source)

    def parts(self) -> dict[str, Callable[[], str]]:
        """What makes each generated part."""
        swept = self.folder / "reports" / "accuracy"
        return {
            **{
                f"convention {name}": functools.partial(conventions.choice_section, name) for name in conventions.FIELDS
            },
            "readme": lambda: self.readme("README.md"),
            "readme in chinese": lambda: self.readme("README.zh-CN.md"),
            "budget": lambda: markup.paragraphs(error_bound.__doc__ or ""),
            "kinds": conventions.kinds_table,
            "rosetta": rosetta.option_tables,
            "earlier": rosetta.earlier_releases,
            "gaps": rosetta.undescribed_parameters,
            "findings": lambda: findings.findings(self.ledger, self.baseline[1]["versions"], self.source),
            "releases": lambda: releases.releases(self.history),
            "accuracy": lambda: accuracy.case_table(self.baseline[0]),
            "sweep": lambda: accuracy.sweep_table((swept / "sweep.md").read_text(encoding="utf-8")),
            "every float32": lambda: accuracy.summary((swept / "float32" / "sweep.md").read_text(encoding="utf-8")),
            "case schema": lambda: schema.reference(schema_of("case.schema.json"), "case"),
            "ledger schema": lambda: schema.reference(schema_of(known_issues.SCHEMA), "ledger"),
            "report columns": _columns,
            "commands": commands.reference,
            "template audit upgrade": lambda: markup.block(TEMPLATE.read_text(encoding="utf-8"), "yaml"),
        }

    def filled(self, page: str) -> str:
        """A page with its generated parts in their places; raises LookupError for one that there is not."""
        there = self.parts()

        def made(found: re.Match[str]) -> str:
            if found[1] not in there:
                raise LookupError(f"there is no generated part called {found[1]!r}")
            return there[found[1]]()

        return MARK.sub(made, page)


def _columns() -> str:
    """A table of the columns of a report: name, type, meaning, and what a report means that lacks the column."""
    lines = []
    for column in SCHEMA:
        kind = "number" if column.number else "text"
        lacking = markup.code(column.default) if column.default else "" if column.default is None else "empty"
        lines.append([markup.code(column.name), kind, column.meaning.replace("|", "\\|"), lacking])
    return markup.rows(("column", "type", "what it is", "where it is missing"), lines)
