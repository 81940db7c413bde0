"""The ledger as a page: each known issue with its cases, versions, reproducer, the reproducer's output, and a link."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from conformance.adapters.registry import within
from conformance.casefiles.known_issues import HARVEST_PREFIX, RELATION_PREFIX, SWEEP_PREFIX, KnownIssue
from conformance.docs.markup import anchor_line, code_html, escaped, link, prose_html, slug, table
from conformance.report.markdown import fenced_block

MAX_REASON = 100
"""Characters of a reason in an overview."""
Entry = Sequence[KnownIssue]
"""One entry of a ledger file: a `KnownIssue` for each case that it names."""


def findings(known: Iterable[KnownIssue], versions: Mapping[str, str], source: str) -> str:
    """Every entry of a ledger, by framework, as Markdown.

    versions: of the frameworks in the committed report, by name; entries that do not apply to them are fixed.
    source: URL prefix of the repository's files.
    """
    entries = group_by_issue(known)
    anchors = anchors_of(entries)
    parts = [table(("framework", "known", "of these, mended since"), _summary_table(entries, versions))]
    for framework in dict.fromkeys(framework_of(entry) for entry in entries):
        own = [pair for pair in zip(entries, anchors, strict=True) if framework_of(pair[0]) == framework]
        parts.append(f"## {escaped(framework)}\n")
        head = ("function", "releases", "what is wrong", f"in {framework} {versions.get(framework, '')}".strip())
        parts.append(table(head, [_overview_line(*pair, versions) for pair in own]))
        parts += [_entry_section(*pair, source) for pair in own]
    return "\n".join(parts)


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


def framework_of(entry: Entry) -> str:
    """The name of the framework that an entry is about."""
    return entry[0].function.partition(".")[0]


def fixed_in(entry: Entry, versions: Mapping[str, str]) -> bool:
    """Whether the release in the committed report no longer has the issue."""
    version = versions.get(framework_of(entry), "")
    return bool(version) and not within(version, entry[0].versions)


def _summary_table(entries: Sequence[Entry], versions: Mapping[str, str]) -> list[list[object]]:
    names = list(dict.fromkeys(map(framework_of, entries)))
    by_framework = {name: [entry for entry in entries if framework_of(entry) == name] for name in names}
    return [
        [f"[{escaped(name)}](#{slug(name)})", len(own), sum(fixed_in(entry, versions) for entry in own)]
        for name, own in by_framework.items()
    ]


def _overview_line(entry: Entry, anchor: str, versions: Mapping[str, str]) -> list[str]:
    first = entry[0]
    reason = " ".join(first.reason.split())
    reason = reason if len(reason) <= MAX_REASON else f"{reason[: reason.rfind(' ', 0, MAX_REASON)]} ..."
    status = "mended" if fixed_in(entry, versions) else "there"
    return [code_html(first.function), escaped(first.versions or "all"), f"[{prose_html(reason)}](#{anchor})", status]


def _entry_section(entry: Entry, anchor: str, source: str) -> str:
    first = entry[0]
    also = [
        f"{name} {', '.join(values)}"
        for name, values in (
            ("on", first.variants),
            ("in mode", first.modes),
            ("in", first.dtypes),
            ("as", first.reductions),
            ("of the", first.quantities if first.quantities != ("loss",) else ()),
            ("with", first.when),
        )
        if values
    ]
    cases = "".join(f"- {_case(one.case, source)}\n" for one in entry)
    upstream = link("upstream", first.see) if first.see else ""
    address = f"{source}/{'/'.join(first.path.split('/')[-3:])}#L{first.line}"
    lines = [
        f"{anchor_line(anchor)}### {code_html(first.function)}, {escaped(first.versions or 'all releases')}\n",
        prose_html(" ".join(first.reason.split())) + "\n",
        f"{escaped('; '.join(also))}.\n".capitalize() if also else "",
        f"{cases}",
        f"{fenced_block(first.reproducer, 'python')}" if first.reproducer else "",
        f"It prints {code_html(first.shows)}.\n" if first.shows else "",
        " &middot; ".join(filter(None, [upstream, f"[ledger]({address})"])) + "\n",
    ]
    return "\n".join(line for line in lines if line)


def _case(case: str, source: str) -> str:
    if "*" in case or case.startswith((SWEEP_PREFIX, HARVEST_PREFIX, RELATION_PREFIX)):
        return code_html(case)
    return f"[{code_html(case)}]({source}/cases/{case.rpartition('/')[0]}.yaml)"
