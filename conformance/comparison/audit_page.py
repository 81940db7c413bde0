"""Render an audit as a page that opens from disk: ordinary inputs first, then edge cases, changes by cause.

The page has no script, loads nothing, and declares its style by hash in a content-security policy.  Text from a report
is not trusted: it is escaped.  The page is in English and Chinese, except for third-party text and that of the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

import tomllib

from conformance.comparison.audit_rendering import ENGLISH, INPUTS, drift_text, notes, sentences
from conformance.comparison.causes import REPORTED_SECTIONS, Cause, Say, Section
from conformance.comparison.signatures import SignatureChange
from conformance.comparison.upgrade import Audit, Summary
from conformance.model.text import one_line, truncate_list
from conformance.report.markdown import is_linkable
from conformance.report.page import source_hash, static_parts

MAX_CAUSES = 200
"""Maximum number of causes of a section on the page."""
MAX_ANSWER = 160
"""Maximum number of characters of an answer."""
CLASSES = {"regression": "disagrees", "change": "known", "improvement": "agrees", "note": "undefined"}
"""CSS class by severity."""
_TEXTS = tomllib.loads(files(__package__).joinpath("audit_page.toml").read_text(encoding="utf-8"))
WORDS: Mapping[str, tuple[str, str]] = _TEXTS["words"]
"""Words of the page, in English and Chinese."""
DESCRIPTIONS: Mapping[str, str] = _TEXTS["descriptions"]
"""Chinese translations of the templates and words of descriptions."""
_BREAK_OPPORTUNITY = re.compile(r"(?<=[.:/_,=])(?=[^\W\d])")
"""Positions where a long name may be broken: between words, never in a number."""


def _inputs_in_chinese(ordinary: bool, summary: Summary) -> str:
    inputs = WORDS["ordinary" if ordinary else "edges"][1]
    if not summary.total:
        return f"{inputs}：没有调用。"
    verbs = {"documented": "改变", "support": "只在一侧可以调用", "wording": "异常或警告不同"}
    parts = [f"{functions} 个函数的 {rows} 行{verbs[effect]}" for effect, rows, functions in summary.effects]
    rounding = summary.rows["rounding"]
    if parts:
        rounded = f"；另有 {rounding} 行因舍入而变" if rounding else ""
        return f"{inputs}：共 {summary.total} 行，{'，'.join(parts)}{rounded}。"
    if rounding:
        return f"{inputs}：共 {summary.total} 行，其中 {rounding} 行因舍入而变，此外没有差异。"
    return f"{inputs}：{summary.total} 行没有差异。"


def _changed_in_chinese(
    versions: Mapping[str, tuple[str, str]], functions: Sequence[str], changed: int, total: int
) -> str:
    moved = "、".join(f"{name} 从 {old} 到 {new}" for name, (old, new) in versions.items())
    if not changed:
        return f"{moved}，没有答案改变。"
    shown = "、".join(functions[:4]) + (f" 等 {len(functions)} 个函数" if len(functions) > 4 else "")
    return f"{moved}，{shown} 在 {total} 个问题中有 {changed} 个答案不同。"


def _documented_in_chinese(causes: int, documented: int, undocumented: int, kinds: Mapping[str, int]) -> str:
    listed = "、".join(f"{WORDS[severity][1]} {count}" for severity, count in kinds.items())
    first = f"其中 {documented} 个有文档（{causes} 个原因）" if documented else "其中没有一个有文档"
    remainder = f"{undocumented} 个没有文档" if undocumented else "没有无文档的变化"
    return f"{first}；{remainder}{f'：{listed}' if listed else ''}。"


CHINESE: Mapping[str, Callable[..., str]] = {
    "inputs": _inputs_in_chinese,
    "changed": _changed_in_chinese,
    "documented": _documented_in_chinese,
    "move": "数值的最大变动是 {}，见 {}。".format,
    "breaking": "{} 处签名变化可能使调用失效。".format,
}
"""Chinese counterpart of `ENGLISH`."""


def page(audit: Audit) -> str:
    """Render as HTML."""
    parts = static_parts(__package__)
    style = static_parts()["page.css"] + parts["audit_page.css"]
    sides = [audit.difference.old.name, audit.difference.new.name]
    links = (("old/index.html", "old"), ("new/index.html", "new"))
    footer = [f'<a href="{address}">{_word(key)}</a>' for address, key in links]
    footer += [f'<a href="{name}">{name}</a>' for name in ("audit.md", "audit.csv", "audit.json")]
    return Template(parts["audit_page.html"]).substitute(
        style=style,
        style_hash=source_hash(style),
        title=" → ".join(map(_text, sides)),
        heading=f"{_word('title')} {' → '.join(map(_code, sides))}",
        date=_text(str(audit.difference.new.run.get("started", ""))[:10]),
        main="\n".join(_main(audit)),
        footer=f"{_word('files')}: {' '.join(footer)}",
    )


def _main(audit: Audit) -> Iterator[str]:
    summaries = {ordinary: audit.summary(ordinary=ordinary) for ordinary in INPUTS}
    yield _verdict(summaries[True])
    for language, code, say in (("en", "en", ENGLISH), ("zh", "zh-CN", CHINESE)):
        paragraphs = "".join(f"<p>{_text(sentence)}</p>" for sentence in sentences(audit, say))
        yield f'<div class="{language}" lang="{code}">{paragraphs}</div>'
    yield f'<div lang="en">{"".join(f"<p>{_text(note)}</p>" for note in notes(audit))}</div>'
    yield _counts(summaries)
    for ordinary, key in ((True, "ordinary"), (False, "edges")):
        yield f'<section class="inputs"><h2>{_word(key)}</h2>'
        causes_by_section = {section: audit.of(section, ordinary=ordinary) for section in REPORTED_SECTIONS}
        for section, causes in causes_by_section.items():
            if causes:
                yield f"<h3>{_word(section)}</h3>"
                yield _list_articles([_cause(cause, section) for cause in causes])
        if not any(causes_by_section.values()):
            yield f"<p>{_word('nothing')}</p>"
        yield "</section>"
    if audit.signatures:
        yield f"<section><h2>{_word('signatures')}</h2>"
        yield _list_articles(list(map(_signature, audit.signatures))) + "</section>"


def _verdict(ordinary: Summary) -> str:
    """Whether ordinary inputs are affected, in the colour of the worst change."""
    changed = [section for section in REPORTED_SECTIONS if ordinary.rows[section]]
    key = "affected" if changed else "unaffected" if ordinary.total else "not asked"
    colour = "disagrees" if "undocumented" in changed else "known" if key != "unaffected" else "agrees"
    return f'<p class="verdict {colour}"><b>{_word(key)}</b></p>'


def _counts(summaries: dict[bool, Summary]) -> str:
    """Table of the number of rows per kind of input and effect."""
    sections: tuple[Section, ...] = (*REPORTED_SECTIONS, "rounding")
    head = "".join(f'<th scope="col">{_word(name)}</th>' for name in ("total", *sections))
    lines = []
    for key, summary in zip(("ordinary", "edges"), summaries.values(), strict=True):
        counts: dict[str, int] = {"total": summary.total, **{name: summary.rows[name] for name in sections}}
        cells = "".join(
            f'<td><span class="label">{_word(name)}</span> <span>{count:,}</span></td>'
            for name, count in counts.items()
        )
        lines.append(f'<tr><th scope="row">{_word(key)}</th>{cells}</tr>')
    return f'<table class="counts"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _list_articles(articles: Sequence[str]) -> str:
    """The first articles of a list, and the number of the others."""
    more = len(articles) - MAX_CAUSES
    note = f"<p>… {more} {_word('more')}</p>" if more > 0 else ""
    return f'<div class="causes">{"".join(articles[:MAX_CAUSES])}</div>{note}'


def _cause(cause: Cause, section: Section) -> str:
    """A cause with the answers of its example before and after it, side by side."""
    sides = "".join(
        f"<div><dt>{_word(key)} {_text(version)}</dt><dd>{_code(truncate_list(one_line(value), MAX_ANSWER))}</dd></div>"
        for key, version, value in (
            ("before", cause.example_row["old_version"], cause.before),
            ("after", cause.example_row["new_version"], cause.after),
        )
    )
    lines = [
        f"{_word('total')}: {cause.rows:,}; {_word('cases')}: {cause.cases:,}",
        f"{_word('worst in')}: {_code(cause.example)}",
    ]
    if cause.drift is not None:
        lines.append(f"{_word('move')}: {_text(drift_text(cause.drift))}")
    if documents := [
        _link(change.versions or change.source, change.source) for change in cause.documented if change.source
    ]:
        lines.append(f"{_word('documented by')}: {', '.join(documents)}")
    reason, address = cause.known_reason_and_link
    if reason:
        lines.append(f"{_word('known as')}: {_link(reason, address)}")
    badge = "" if section == "documented" else _badge(cause.severity)
    help_lines = "".join(f'<p class="help">{line}</p>' for line in lines)
    return _article(
        CLASSES.get(cause.severity, "undefined") if badge else "diverges",
        f"{_code(cause.function)} {badge}",
        f'<p>{_describe_in_both(cause.describe)}</p><dl class="sides">{sides}</dl>{help_lines}',
    )


def _signature(change: SignatureChange) -> str:
    badge = f'<span class="badge disagrees">{_word("breaking")}</span>' if change.breaking else ""
    return _article(
        "disagrees" if change.breaking else "undefined",
        f"{_code(change.path)} {badge}",
        f"<p>{_describe_in_both(change.text)}</p>",
    )


def _article(colour: str, heading: str, content: str) -> str:
    return f'<article class="cause {colour}"><h4>{heading}</h4>{content}</article>'


def _badge(severity: str) -> str:
    return f'<span class="badge {CLASSES.get(severity, "undefined")}">{_word(severity)}</span>'


def _describe_in_both(describe: Callable[[Say], str]) -> str:
    """A description in both languages."""
    return _both(_text(describe(str)), _text(describe(DESCRIPTIONS.__getitem__)))


def _word(key: str) -> str:
    return _both(*WORDS[key])


def _both(english: str, chinese: str) -> str:
    """HTML in both languages; one of them is displayed."""
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def _text(text: object) -> str:
    """Third-party text on one line, escaped, with line-break opportunities between the parts of names."""
    return _BREAK_OPPORTUNITY.sub("<wbr>", escape(one_line(text)))


def _code(text: object) -> str:
    return f"<code>{_text(text)}</code>"


def _link(text: str, address: str) -> str:
    return f'<a href="{escape(address)}">{_text(text)}</a>' if is_linkable(address) else _text(text)
