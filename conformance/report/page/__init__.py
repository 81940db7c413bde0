"""A report as a single page that opens from disk: no network, no library, no script except its own.

Rows are third-party text.  They are embedded as JSON in `<script type="application/json">`,
never as markup, and the page's script puts them into text nodes only.  Allowed scripts and styles
are listed by hash in a content-security policy, which forbids everything else.

Rows are stored by column, each distinct text once.  The data of the table is separate from the long texts of
single rows, which are decoded when a row is viewed; the data of `PageSupplement` is a third part.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from string import Template

import pandas as pd

from conformance.execution.run_info import RunInfo
from conformance.judging.verdict import STATUSES
from conformance.model.text import printable
from conformance.report.page.packing import detail_json, index_json
from conformance.report.page.supplement import PageSupplement, problems, sizes


def page(
    results: pd.DataFrame,
    run: RunInfo,
    supplement: PageSupplement | None = None,
) -> str:
    """A report as one HTML file; its only time is the date, so that equal rows on one day give equal text.

    results: a `frame`.  supplement: additional data to show.
    """
    parts = static_parts()
    supplement = supplement or PageSupplement()
    cases = set(results["case"])
    numbers = [number for number in run.published if number["case"] in cases]
    metadata = {
        "rows": len(results),
        "complete": run.complete(len(results)),
        "planned": run.planned,
        "date": run.started[:10],
        "why": [printable(run.interrupted)] if run.interrupted else [],
        "versions": {name: printable(version) for name, version in sorted(run.versions.items())} | dict(run.host),
        "missing": list(run.missing),
        "statuses": STATUSES,
        "published": [
            {
                name: [*map(printable, value)] if isinstance(value, list) else printable(str(value))
                for name, value in number.items()
            }
            for number in numbers
        ],
        "views": supplement.views(),
        "sizes": {case: supplement.sizes[case] for case in results["case"].unique() if case in supplement.sizes},
    }
    template = Template(parts["template.html"])
    return template.substitute(
        style=parts["page.css"],
        style_hash=source_hash(parts["page.css"]),
        script=parts["page.js"],
        script_hash=source_hash(parts["page.js"]),
        index=index_json(results, metadata),
        detail=detail_json(results, supplement.problems),
        supplement=supplement.embedded(),
    )


@functools.cache
def static_parts(package: str = __name__) -> dict[str, str]:
    """The template, the style and the script of a page by file name: all files of its package."""
    files_of = (file for file in files(package).iterdir() if file.name.endswith((".html", ".css", ".js")))
    # An HTML parser converts \r\n to \n before it hashes the text between the tags.
    return {file.name: file.read_text(encoding="utf-8").replace("\r\n", "\n") for file in files_of}


def source_hash(text: str) -> str:
    """A source expression for a content-security policy that allows only this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
