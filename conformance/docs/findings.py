"""Render the ledger as one page per library: ranked findings with their releases and reproducers.

An entry without a link to an issue of the library gets a text to paste into a new one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from conformance.adapters import registry
from conformance.adapters.registry import within
from conformance.casefiles.known_issues import EXTERNAL_PREFIXES, RELATION_PREFIX, KnownIssue
from conformance.docs.markup import anchor_line, code_html, escaped, link, prose_html, slug, table
from conformance.docs.ranking import KINDS, Entry, Example, FindingKind, examples, framework_of, kind_of
from conformance.judging.plan import Item
from conformance.judging.row import array_of
from conformance.model.case import Case, is_derivative
from conformance.model.text import format_count, truncate_list
from conformance.reference.oracle import Oracle, cached_oracle
from conformance.report.markdown import fenced_block

FOLDER = "findings"
"""Folder of the library pages, below the overview page."""
MAX_ANSWER = 120
"""Maximum number of characters of a quoted answer."""
MAX_CALL = 500
"""Maximum number of characters of a quoted call."""
TRAITS_PAGE = "../reference/ledger-format.md#traits"
"""Definition of the traits, relative to a page in `FOLDER`."""
MAX_NAMES = 3
"""Maximum number of functions in a heading."""
MENDED = "Mended"
"""Heading of the entries that are fixed in the release of the accepted report."""
_ISSUE = re.compile(r"/(issues|pull)/\d+")
"""Matches the URL of an issue or a pull request."""
_SENTENCE_END = re.compile(r"(?<=[a-z)`\d]\.) (?=[A-Z])")
_ORDER = {kind: number for number, kind in enumerate(KINDS)}
"""Ranks of kinds, worst first."""


@dataclass(frozen=True, eq=False)
class RankedEntry:
    """An entry of the ledger with its kind and an example."""

    entry: Entry
    kind: FindingKind
    example: Example | None = None
    exact: str = ""
    """The exact answer to the example."""
    returned: str = ""
    """The result in the accepted report; empty if it has no such row."""
    call: str = ""
    """The call that returned it, as Python source."""

    @property
    def first(self) -> KnownIssue:
        """The entry for the first of its cases."""
        return self.entry[0]

    @property
    def code(self) -> str:
        """The reproducer in the library's own code; "" if there is none of a readable length."""
        return self.first.reproducer or (self.call if len(self.call) <= MAX_CALL else "")

    @property
    def is_number(self) -> bool:
        """Whether the example has an exact answer."""
        return bool(self.exact) and array_of(self.exact) is not None

    @property
    def expected(self) -> str:
        """The expected result of the example: a number, an array, or the reason why there is none."""
        if self.is_number:
            return _quote(self.exact)
        kind, _, why = self.exact.partition(": ")
        return f"an exception ({why.replace('_', ' ')})" if kind == "error" else self.exact

    @property
    def example_text(self) -> str:
        """The example as code with the expected result, for an issue; "" if its call is too long."""
        if not self.returned or not self.call or len(self.call) > MAX_CALL:
            return ""
        call = "The same" if self.call == self.code else f"{fenced_block(self.call, 'python')}\nThis"
        return f"{call} returns `{self.returned}`, where {self.expected} is expected."


@dataclass(frozen=True, eq=False)
class Finding:
    """A finding about a library: the ledger entries with one reason, the clearest first."""

    ranked: Sequence[RankedEntry]
    mended: bool
    """Whether it is fixed in the release of the accepted report."""
    functions: Sequence[str]
    """Names of the affected functions."""
    repository: str = ""
    """URL prefix of the library's own issues."""

    @property
    def lead(self) -> RankedEntry:
        """The quoted entry."""
        return self.ranked[0]

    @property
    def kind(self) -> FindingKind:
        """Its worst kind."""
        return self.lead.kind

    @property
    def framework(self) -> str:
        """The affected library."""
        return framework_of(self.lead.entry)

    @property
    def reason(self) -> str:
        """The fault, on one line."""
        return " ".join(self.lead.first.reason.split())

    @property
    def title(self) -> str:
        """The first sentence of the reason, without its full stop."""
        return _SENTENCE_END.split(self.reason, maxsplit=1)[0].rstrip(".")

    @property
    def releases(self) -> str:
        """The affected releases."""
        return "; ".join(dict.fromkeys(entry.first.versions or "all releases" for entry in self.ranked))

    @property
    def links(self) -> list[str]:
        """URLs of issues, documentation and source."""
        return list(dict.fromkeys(entry.first.see for entry in self.ranked if entry.first.see))

    @property
    def reported(self) -> bool:
        """Whether an issue or a pull request of the library itself is linked."""
        return any(_ISSUE.search(see) and see.startswith(self.repository) for see in self.links)

    def link_text(self, see: str) -> str:
        """The text for one of its links."""
        if not _ISSUE.search(see):
            return "source"
        return "issue" if see.startswith(self.repository) else f"the same in {_project(see)}"


class Findings:
    """All findings of a ledger, most serious first.

    known: the entries.  versions: of the libraries in the accepted report, by name; entries that do not apply to them
    count as fixed.  source: URL prefix of the repository's files.  cases: the shipped ones.  results: rows of the
    accepted report.
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
            ranked = [
                RankedEntry(
                    entry,
                    kind_of(entry, example),
                    example,
                    *_answers(example, rows, oracle),
                )
                for entry, example in zip(
                    entries, examples(entries, cases, lambda item: _question(item) in rows), strict=True
                )
            ]
        findings = [_make_finding(group, mended) for (mended, _), group in _by_reason(ranked, versions).items()]
        self._found = sorted(findings, key=lambda finding: (finding.framework, finding.mended, _ORDER[finding.kind]))
        self._anchors = dict(zip(map(id, self._found), anchors_of(self._found), strict=True))

    @property
    def libraries(self) -> list[str]:
        """Names of the libraries with findings."""
        return list(dict.fromkeys(finding.framework for finding in self._found))

    def overview(self) -> str:
        """A table of the number of findings of each kind and library, with links to the library pages."""
        lines = []
        for name in self.libraries:
            findings = self._of(name)
            counts = [sum(not finding.mended and finding.kind == kind for finding in findings) or "" for kind in KINDS]
            mended = sum(finding.mended for finding in findings) or ""
            release = escaped(self._versions.get(name, ""))
            lines.append([f"[{escaped(name)}]({FOLDER}/{name}.md)", release, *counts, mended])
        return table(("library", "release", *(heading.lower() for heading in KINDS.values()), "mended since"), lines)

    def page(self, framework: str) -> str:
        """The findings of a library: a list of those in the accepted release, then each finding."""
        findings = self._of(framework)
        head = ("what is wrong", "function", "releases")
        parts = []
        for heading, group in itertools.groupby(findings, key=_heading):
            listed = list(group)
            parts.append(f"## {heading}\n")
            parts.append(table(head, map(self._overview_line, listed)))
            parts += [self._section(finding) for finding in listed]
        return "\n".join(parts)

    def _of(self, framework: str) -> list[Finding]:
        return [finding for finding in self._found if finding.framework == framework]

    def _overview_line(self, finding: Finding) -> list[str]:
        title = f"[{prose_html(finding.title)}](#{self._anchors[id(finding)]})"
        return [title, _list_names(finding.functions), escaped(finding.releases.replace("all releases", "all"))]

    def _section(self, finding: Finding) -> str:
        ranked_entry = finding.lead
        expected_text = f"; {code_html(ranked_entry.first.due)} is expected" if ranked_entry.first.due else ""
        anchor = anchor_line(self._anchors[id(finding)])
        lines = [
            f"{anchor}### {_list_names(finding.functions)}, {escaped(finding.releases)}\n",
            prose_html(finding.reason) + "\n",
            _all_functions(finding.functions),
            _conditions(ranked_entry.first),
            fenced_block(ranked_entry.code, "python") if ranked_entry.code else "",
            f"It prints {code_html(ranked_entry.first.shows)}{expected_text}.\n" if ranked_entry.first.shows else "",
            self._example(ranked_entry),
            " &middot; ".join(self._links(finding)) + "\n",
            self._cases(finding),
            "" if finding.reported or finding.mended or not ranked_entry.code else self._issue(finding),
        ]
        return "\n".join(line for line in lines if line)

    def _links(self, finding: Finding) -> Iterator[str]:
        for see in finding.links:
            yield link(finding.link_text(see), see)
        for entry in finding.ranked:
            path, line = "/".join(entry.first.path.split("/")[-3:]), entry.first.line
            yield link(f"ledger, line {line}", f"{self._source}/{path}#L{line}")

    def _example(self, ranked_entry: RankedEntry) -> str:
        """The result for the example, and the exact answer."""
        if ranked_entry.example is None or not ranked_entry.exact:
            return ""
        item = ranked_entry.example.item
        problem = f"{self._case(item.case.id)}, {', '.join((item.dtype, item.reduction, item.quantity))}"
        returned = f"it returns {code_html(ranked_entry.returned)}; " if ranked_entry.returned else ""
        expected = code_html(ranked_entry.expected) if ranked_entry.is_number else escaped(ranked_entry.expected)
        return f"On {problem}, {returned}{expected} is expected.\n"

    def _cases(self, finding: Finding) -> str:
        """All cases, collapsed, unless the example that is shown is the only one."""
        cases = list(dict.fromkeys(issue.case for ranked in finding.ranked for issue in ranked.entry))
        if len(cases) == 1 and self._example(finding.lead):
            return ""
        return _fold(format_count(len(cases), "case"), "".join(f"- {self._case(case)}\n" for case in cases))

    def _issue(self, finding: Finding) -> str:
        """A text for a new issue, collapsed."""
        first = finding.lead.first
        version = self._versions.get(finding.framework, "")
        parts = [
            finding.title,
            finding.reason.removeprefix(f"{finding.title}.").strip(),
            f"Functions: {', '.join(finding.functions)}.",
            fenced_block(finding.lead.code, "python"),
            f"prints\n\n{fenced_block(first.shows)}" if first.shows else "",
            f"Expected: {first.due}" if first.due else "",
            finding.lead.example_text,
            f"Releases: {finding.releases}; seen in {finding.framework} {version}.",
            *(f"See also {see}" for see in finding.links if _ISSUE.search(see)),
        ]
        text = "\n\n".join(part.rstrip() for part in parts if part)
        return _fold("Text for a new issue", fenced_block(text, "markdown"))

    def _case(self, case: str) -> str:
        if "*" in case or case.startswith((*EXTERNAL_PREFIXES, RELATION_PREFIX)):
            return code_html(case)
        return f"[{code_html(case)}]({self._source}/cases/{case.rpartition('/')[0]}.yaml)"


def group_by_issue(known: Iterable[KnownIssue]) -> list[Entry]:
    """Group the issues by the entry in the file that they come from, in order."""
    return [list(group) for _, group in itertools.groupby(known, key=lambda entry: (entry.path, entry.line))]


def _by_reason(
    ranked: Iterable[RankedEntry], versions: Mapping[str, str]
) -> dict[tuple[bool, tuple[str, ...]], list[RankedEntry]]:
    """Group entries of a library with the same reason, keyed by whether they are fixed, the library and the reason."""
    groups: dict[tuple[bool, tuple[str, ...]], list[RankedEntry]] = {}
    for entry in ranked:
        key = (framework_of(entry.entry), *entry.first.reason.split())
        groups.setdefault((fixed_in(entry.entry, versions), key), []).append(entry)
    return groups


def _make_finding(group: Iterable[RankedEntry], mended: bool) -> Finding:
    """The finding for entries with one reason; it quotes the worst, preferably one with code and an answer."""
    ranked = sorted(group, key=lambda entry: (_ORDER[entry.kind], not entry.first.reproducer, not entry.returned))
    name = framework_of(ranked[0].entry)
    framework = next((known for known in registry.frameworks() if known.name == name), None)
    names = [function.name for function in framework.functions] if framework else []
    functions = _functions_of([issue for entry in ranked for issue in entry.entry], names)
    return Finding(ranked, mended, functions, framework.repository if framework else "")


def _functions_of(entries: Sequence[KnownIssue], names: Iterable[str]) -> list[str]:
    """The functions to which entries apply, without variants of a function in the list.

    The names in the entries if there is no such function.
    """
    matches = [name for name in dict.fromkeys(names) if any(entry.matches_function(name) for entry in entries)]
    main = [name for name in matches if not any(name.startswith(f"{prefix}:") for prefix in matches)]
    return main or list(dict.fromkeys(entry.function for entry in entries))


def anchors_of(findings: Iterable[Finding]) -> list[str]:
    """An anchor for each finding: its library and the first sentence of its reason."""
    anchors: list[str] = []
    for finding in findings:
        anchor = slug(f"{finding.framework} {finding.title}")
        same = sum(existing == anchor or existing.startswith(f"{anchor}-again-") for existing in anchors)
        anchors.append(f"{anchor}-again-{same}" if same else anchor)
    return anchors


def fixed_in(entry: Entry, versions: Mapping[str, str]) -> bool:
    """Whether the issue is fixed in the release of the accepted report."""
    version = versions.get(framework_of(entry), "")
    return bool(version) and not within(version, entry[0].versions)


_QUESTION = ("case", "function", "dtype", "reduction", "quantity", "backend")
"""Columns by which the row of an example is found."""


def _rows(results: pd.DataFrame) -> dict[tuple[str, ...], tuple[str, str, str]]:
    """For each known row: the exact answer, the result or exception, and the call."""
    known = results[results["expected"] == "known"]
    answers = known["got"].where(known["got"] != "", known["exception"])
    keys = known[list(_QUESTION)].itertuples(index=False, name=None)
    return dict(zip(keys, zip(known["want"], answers, known["call"], strict=True), strict=True))


def _question(item: Item) -> tuple[str, ...]:
    return tuple(getattr(item.key, name) for name in _QUESTION)


def _answers(
    example: Example | None, rows: Mapping[tuple[str, ...], tuple[str, str, str]], oracle: Oracle
) -> tuple[str, str, str]:
    """The exact answer to an example, the result and the call; without a row, the exact answer to a loss only."""
    if example is None:
        return "", "", ""
    if (row := rows.get(_question(example.item))) is not None:
        exact, answer, call = row
        return exact, _quote(answer), call
    return "" if is_derivative(example.item.quantity) else example.exact(oracle), "", ""


def _project(address: str) -> str:
    """Owner and name of the repository of an issue."""
    return "/".join(address.split("/")[3:5])


def _quote(answer: str) -> str:
    return truncate_list(answer, MAX_ANSWER)


def _heading(finding: Finding) -> str:
    return MENDED if finding.mended else KINDS[finding.kind]


def _list_names(names: Sequence[str]) -> str:
    """Names as code; only the first ones of many."""
    remainder = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(code_html, names[:MAX_NAMES])) + remainder


def _all_functions(names: Sequence[str]) -> str:
    """A sentence with all names, if the heading does not have all of them."""
    return f"Of {', '.join(map(code_html, names))}.\n" if len(names) > MAX_NAMES else ""


def _conditions(entry: KnownIssue) -> str:
    """The conditions under which an entry applies, by kind; "" if there are none."""
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


def _fold(summary: str, content: str) -> str:
    """Markdown that is collapsed under a summary."""
    return f"<details><summary>{escaped(summary)}</summary>\n\n{content.rstrip()}\n\n</details>\n"
