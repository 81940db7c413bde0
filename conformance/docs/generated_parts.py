"""The generated parts of pages, by the name in `<!-- generated: NAME -->`.

They are committed, so that pages can be read in the repository: `python -m conformance.docs.readme` writes them, and
checks them with `--check`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tomllib

from conformance import report, testing
from conformance.adapters import registry
from conformance.adapters.libraries import pinned
from conformance.casefiles import known_issues
from conformance.casefiles.document import schema_of
from conformance.docs import (
    commands,
    conventions,
    findings,
    markup,
    option_names,
    python_api,
    readme,
    recipes,
    reports,
    schema,
)
from conformance.judging.row import SCHEMA
from conformance.reference import error_bound
from conformance.report.markdown import fenced_block

TEMPLATE = Path(__file__).parent / "templates" / "audit-upgrade.yml"


@dataclass(frozen=True)
class Checkout:
    """The repository that is documented."""

    folder: Path
    """Its root."""

    @functools.cached_property
    def address(self) -> str:
        """URL of the repository."""
        settings = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))
        return str(settings["project"]["urls"]["Source"])

    @property
    def source(self) -> str:
        """URL prefix of the repository's files."""
        return f"{self.address}/blob/main"

    @functools.cached_property
    def baseline(self) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Rows and run metadata of the committed report."""
        return report.read(self.folder / "reports" / "baseline")

    @functools.cached_property
    def ledger(self) -> tuple[known_issues.KnownIssue, ...]:
        """Every entry of the ledger."""
        return known_issues.load(self.folder / "cases").entries

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """The committed history; all cells are text."""
        return pd.read_csv(self.folder / "reports" / "history" / "history.csv", dtype=str, keep_default_na=False)

    def readme(self, name: str) -> str:
        """A README as a page."""
        return readme.to_page((self.folder / name).read_text(encoding="utf-8"), self.source)

    def parts(self) -> dict[str, Callable[[], str]]:
        """The renderer of each generated part, by name."""
        sweeps = self.folder / "reports" / "accuracy"
        return {
            **{
                f"convention {name}": functools.partial(conventions.choice_section, name) for name in conventions.FIELDS
            },
            "readme": lambda: self.readme("README.md"),
            "readme in chinese": lambda: self.readme("README.zh-CN.md"),
            "functions": _functions,
            "error bound": lambda: markup.paragraphs(error_bound.__doc__ or ""),
            "input kinds": conventions.kinds_table,
            "option names": option_names.option_tables,
            "recipes": recipes.recipe_tables,
            "earlier releases": option_names.earlier_releases,
            "undescribed parameters": option_names.undescribed_parameters,
            "findings": lambda: findings.findings(self.ledger, self.baseline[1]["versions"], self.source),
            "releases": lambda: reports.releases(self.history),
            "accuracy": lambda: reports.case_table(self.baseline[0]),
            "sweep": lambda: reports.sweep_table((sweeps / "sweep.md").read_text(encoding="utf-8")),
            "every float32": lambda: reports.summary((sweeps / "float32" / "sweep.md").read_text(encoding="utf-8")),
            "case schema": lambda: schema.reference(schema_of("case.schema.json"), "case"),
            "ledger schema": lambda: schema.reference(schema_of(known_issues.SCHEMA), "ledger"),
            "report columns": _report_columns,
            "commands": commands.reference,
            **{f"api {name}": functools.partial(python_api.function_section, name) for name in python_api.functions()},
            **{
                f"testing {name}": functools.partial(python_api.function_section, name, testing)
                for name in testing.__all__
            },
            "api values": python_api.value_sections,
            "template audit upgrade": lambda: fenced_block(TEMPLATE.read_text(encoding="utf-8"), "yaml"),
        }

    def fill_page(self, page: str) -> str:
        """A page with its generated parts made anew, between their marks. Raises LookupError for an unknown part."""
        return self._with_parts(
            page, lambda name, part: f"<!-- generated: {name} -->\n\n{part.strip()}\n\n<!-- /generated -->\n"
        )

    def site_page(self, page: str) -> str:
        """A page as the site reads it, with its generated parts made anew. Raises LookupError for an unknown part."""
        return markup.to_site(self._with_parts(page, lambda _, part: part))

    def _with_parts(self, page: str, insert: Callable[[str, str], str]) -> str:
        """insert: makes the text that a page has of the name of a part and the part."""
        parts = self.parts()

        def render(found: re.Match[str]) -> str:
            if found["name"] not in parts:
                raise LookupError(f"there is no generated part called {found['name']!r}")
            return insert(found["name"], parts[found["name"]]())

        return markup.GENERATED.sub(render, page)


def _functions() -> str:
    """A section for each library: its environments, and what its functions support."""
    sections = []
    for framework in registry.frameworks():
        environments = ", ".join(markup.code_html(one.environment) for one in pinned(framework))
        rows = report.functions_table(registry.functions_in(framework, registry.NEWEST))
        supported = markup.table(report.FUNCTION_COLUMNS, [[markup.code_html(name), *rest] for name, *rest in rows])
        sections.append(f"{markup.anchor_line(framework.name)}\n## {framework.name}\n\n{environments}\n\n{supported}")
    return "\n\n".join(sections)


def _report_columns() -> str:
    """The columns of a report: name, type, meaning, and the default for reports without the column."""
    lines = []
    for column in SCHEMA:
        kind = "number" if column.number else "text"
        default = markup.code_html(column.default) if column.default else "" if column.default is None else "empty"
        lines.append([markup.code_html(column.name), kind, column.meaning.replace("|", "\\|"), default])
    return markup.table(("column", "type", "meaning", "default for reports without it"), lines)
