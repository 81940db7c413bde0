"""The ledger as pages, one for each library: what is wrong, ranked, in which releases, with code that shows it.

An entry that no issue of the library is linked to has a text that can be pasted into a new one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from conformance.adapters.registry import within
from conformance.casefiles.known_issues import HARVEST_PREFIX, RELATION_PREFIX, SWEEP_PREFIX, KnownIssue
from conformance.docs.markup import anchor_line, code_html, escaped, link, prose_html, slug, table
from conformance.docs.ranking import KINDS, Entry, Example, Kind, examples, framework_of, kind_of
from conformance.judging.row import array_of
from conformance.model.case import Case
from conformance.model.text import counted, truncate_list
from conformance.reference.oracle import cached_oracle
from conformance.report.markdown import fenced_block

FOLDER = "findings"
"""Folder of the pages of libraries, below the page with the overview."""
MAX_ANSWER = 120
"""Characters of an answer that is quoted."""
MAX_CALL = 500
"""Characters of a call that is quoted."""
TRAITS_PAGE = "../reference/ledger-format.md#traits"
"""Where the traits are defined, from a page in `FOLDER`."""
MENDED = "Mended"
"""Heading of the entries that the release in the accepted report does not have."""
_ISSUE = re.compile(r"/(issues|pull)/\d+")
"""What the address of an issue or a pull request contains."""
_SENTENCE_END = re.compile(r"(?<=[a-z)`\d]\.) (?=[A-Z])")


@dataclass(frozen=True, eq=False)
class Finding:
    """An entry of the ledger as a page has it."""

    entry: Entry
    anchor: str
    kind: Kind
    mended: bool
    """Whether the release in the accepted report no longer has it."""
    example: Example | None = None
    exact: str = ""
    """The exact answer to the example."""
    returned: str = ""
    """What the accepted report has for it; empty if it has no such row."""
    call: str = ""
    """The call that returned it, as Python source."""

    @property
    def first(self) -> KnownIssue:
        """The entry about the first of its cases."""
        return self.entry[0]

    @property
    def framework(self) -> str:
        """The library that it is about."""
        return framework_of(self.entry)

    @property
    def reason(self) -> str:
        """What is wrong, on one line."""
        return " ".join(self.first.reason.split())

    @property
    def title(self) -> str:
        """The first sentence of the reason, without its full stop."""
        return _SENTENCE_END.split(self.reason, maxsplit=1)[0].rstrip(".")

    @property
    def code(self) -> str:
        """Source that shows it, of the library alone; empty if there is none of a readable length."""
        return self.first.reproducer or (self.call if len(self.call) <= MAX_CALL else "")

    @property
    def is_number(self) -> bool:
        """Whether the example has an exact answer."""
        return bool(self.exact) and array_of(self.exact) is not None

    @property
    def expected(self) -> str:
        """The expected result of the example: a number or an array, or in words why there is none."""
        if self.is_number:
            return _quoted(self.exact)
        kind, _, why = self.exact.partition(": ")
        return f"an exception ({why.replace('_', ' ')})" if kind == "error" else self.exact

    @property
    def example_text(self) -> str:
        """The example as code with the expected result, for an issue; empty if its call is too long."""
        if not self.returned or not self.call or len(self.call) > MAX_CALL:
            return ""
        call = "The same" if self.call == self.code else f"{fenced_block(self.call, 'python')}\nThis"
        return f"{call} returns `{self.returned}`, where {self.expected} is expected."

    @property
    def reported(self) -> bool:
        """Whether an issue or a pull request of the library is linked."""
        return _ISSUE.search(self.first.see) is not None


class Findings:
    """All findings of a ledger, most serious first.

    known: the entries.  versions: of the libraries in the accepted report, by name; entries that do not apply to them
    are mended.  source: URL prefix of the repository's files.  cases: the shipped ones.  results: rows of the accepted
    report.
    """

    def __init__(
        self,
        known: Iterable[KnownIssue],
        versions: Mapping[str, str],
        source: str,
        cases: Sequence[Case] = (),
        results: pd.DataFrame | None = None,
    ) -> None:
        self._source = source
        self._versions = versions
        entries = group_by_issue(known)
        rows = _rows(results) if results is not None else {}
        with cached_oracle() as oracle:
            found = [
                Finding(
                    entry,
                    anchor,
                    kind_of(entry, example),
                    fixed_in(entry, versions),
                    example,
                    "" if example is None else example.exact(oracle),
                    *_row_of(example, rows),
                )
                for entry, anchor, example in zip(entries, anchors_of(entries), examples(entries, cases), strict=True)
            ]
        order = list(KINDS)
        self._found = sorted(found, key=lambda finding: (finding.framework, finding.mended, order.index(finding.kind)))

    @property
    def libraries(self) -> list[str]:
        """Names of the libraries with findings."""
        return list(dict.fromkeys(finding.framework for finding in self._found))

    def overview(self) -> str:
        """How many findings of each kind each library has, as a table with links to its page."""
        lines = []
        for name in self.libraries:
            own = self._of(name)
            counts = [sum(not one.mended and one.kind == kind for one in own) or "" for kind in KINDS]
            mended = sum(one.mended for one in own) or ""
            release = escaped(self._versions.get(name, ""))
            lines.append([f"[{escaped(name)}]({FOLDER}/{name}.md)", release, *counts, mended])
        return table(("library", "release", *(heading.lower() for heading in KINDS.values()), "mended since"), lines)

    def page(self, framework: str) -> str:
        """The findings of a library: a list of all that are in the accepted release, then each of them."""
        own = self._of(framework)
        head = ("what is wrong", "function", "releases")
        parts = []
        for heading, group in itertools.groupby(own, key=_heading):
            listed = list(group)
            parts.append(f"## {heading}\n")
            parts.append(table(head, map(_overview_line, listed)))
            parts += [self._section(finding) for finding in listed]
        return "\n".join(parts)

    def _of(self, framework: str) -> list[Finding]:
        return [finding for finding in self._found if finding.framework == framework]

    def _section(self, finding: Finding) -> str:
        first = finding.first
        address = f"{self._source}/{'/'.join(first.path.split('/')[-3:])}#L{first.line}"
        kind = "issue" if finding.reported else "source"
        links = [link(kind, first.see) if first.see else "", f"[ledger]({address})"]
        lines = [
            f"{anchor_line(finding.anchor)}### {code_html(first.function)}, {escaped(_releases(first))}\n",
            prose_html(finding.reason) + "\n",
            _conditions(first),
            fenced_block(finding.code, "python") if finding.code else "",
            f"It prints {code_html(first.shows)}.\n" if first.shows else "",
            self._example(finding),
            " &middot; ".join(filter(None, links)) + "\n",
            self._cases(finding),
            "" if finding.reported or finding.mended or not finding.code else self._issue(finding),
        ]
        return "\n".join(line for line in lines if line)

    def _example(self, finding: Finding) -> str:
        """What is returned for the example, and the exact answer."""
        if finding.example is None:
            return ""
        item = finding.example.item
        of = f"{self._case(item.case.id)}, {', '.join((item.dtype, item.reduction, item.quantity))}"
        returned = f"it returns {code_html(finding.returned)}; " if finding.returned else ""
        expected = code_html(finding.expected) if finding.is_number else escaped(finding.expected)
        return f"On {of}, {returned}{expected} is expected.\n"

    def _cases(self, finding: Finding) -> str:
        """All cases, folded away, unless the example is the only one."""
        if len(finding.entry) == 1 and finding.example is not None:
            return ""
        lines = (f"- {self._case(one.case)}\n" for one in finding.entry)
        return _folded(counted(len(finding.entry), "case"), "".join(lines))

    def _issue(self, finding: Finding) -> str:
        """A text for a new issue, folded away."""
        first = finding.first
        version = self._versions.get(finding.framework, "")
        parts = [
            finding.title,
            finding.reason if finding.reason.rstrip(".") != finding.title else "",
            fenced_block(finding.code, "python"),
            f"prints\n\n{fenced_block(first.shows)}" if first.shows else "",
            finding.example_text,
            f"Releases: {_releases(first)}; seen in {finding.framework} {version}.",
        ]
        text = "\n\n".join(part.rstrip() for part in parts if part)
        return _folded("Text for a new issue", fenced_block(text, "markdown"))

    def _case(self, case: str) -> str:
        if "*" in case or case.startswith((SWEEP_PREFIX, HARVEST_PREFIX, RELATION_PREFIX)):
            return code_html(case)
        return f"[{code_html(case)}]({self._source}/cases/{case.rpartition('/')[0]}.yaml)"


def group_by_issue(known: Iterable[KnownIssue]) -> list[Entry]:
    """Entries as the files have them, in their order."""
    return [list(group) for _, group in itertools.groupby(known, key=lambda entry: (entry.path, entry.line))]


def anchors_of(entries: Iterable[Entry]) -> list[str]:
    """An anchor for each entry: its function and its first case."""
    anchors: list[str] = []
    for entry in entries:
        anchor = slug(f"{entry[0].function} {entry[0].case}")
        same = sum(other == anchor or other.startswith(f"{anchor}-again-") for other in anchors)
        anchors.append(f"{anchor}-again-{same}" if same else anchor)
    return anchors


def fixed_in(entry: Entry, versions: Mapping[str, str]) -> bool:
    """Whether the release in the accepted report no longer has the issue."""
    version = versions.get(framework_of(entry), "")
    return bool(version) and not within(version, entry[0].versions)


_QUESTION = ("case", "function", "dtype", "reduction", "quantity", "backend")
"""Columns by which the row of an example is found."""


def _rows(results: pd.DataFrame) -> dict[tuple[str, ...], tuple[str, str]]:
    """What each known row returned, or raised, and its call."""
    known = results[results["expected"] == "known"]
    answers = known["got"].where(known["got"] != "", known["exception"])
    keys = known[list(_QUESTION)].itertuples(index=False, name=None)
    return dict(zip(keys, zip(answers, known["call"], strict=True), strict=True))


def _row_of(example: Example | None, rows: Mapping[tuple[str, ...], tuple[str, str]]) -> tuple[str, str]:
    if example is None:
        return "", ""
    answer, call = rows.get(tuple(getattr(example.item.key, name) for name in _QUESTION), ("", ""))
    return _quoted(answer), call


def _quoted(answer: str) -> str:
    return truncate_list(answer, MAX_ANSWER)


def _heading(finding: Finding) -> str:
    return MENDED if finding.mended else KINDS[finding.kind]


def _releases(entry: KnownIssue) -> str:
    return entry.versions or "all releases"


def _overview_line(finding: Finding) -> list[str]:
    first = finding.first
    lead = f"[{prose_html(finding.title)}](#{finding.anchor})"
    return [lead, code_html(first.function), escaped(first.versions or "all")]


def _conditions(entry: KnownIssue) -> str:
    """The conditions under which an entry applies, by kind; empty if there are none."""
    conditions = (
        ("Backends", entry.variants),
        ("Modes", entry.modes),
        ("Devices", entry.devices),
        ("Dtypes", entry.dtypes),
        ("Reductions", entry.reductions),
        ("Quantities", entry.quantities if entry.quantities != ("loss",) else ()),
        (f"[Inputs]({TRAITS_PAGE})", entry.when),
        ("Also", entry.twins),
    )
    texts = [f"{name}: {escaped(', '.join(values))}." for name, values in conditions if values]
    return f"{' '.join(texts)}\n" if texts else ""


def _folded(summary: str, content: str) -> str:
    """Markdown that is shown when its summary is clicked."""
    return f"<details><summary>{escaped(summary)}</summary>\n\n{content.rstrip()}\n\n</details>\n"
