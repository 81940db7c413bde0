"""Escape third-party text for the Markdown of the site.

Special characters become character references such as `&#42;`, which no dialect of Markdown interprets as markup.
Backslash escapes differ between dialects, and the text of a ledger is third-party text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from conformance.model.text import one_line
from conformance.report.markdown import is_linkable
from conformance.report.markdown import table as markdown_table

GENERATED = re.compile(
    r"^<!-- generated: (?P<name>[a-z0-9_ ]+) -->\n(?:(?P<part>.*?)^<!-- /generated -->\n)?", re.MULTILINE | re.DOTALL
)
"""A generated part of a page between its marks, or the position of one that is inserted only when the site is built."""
_ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)
_CONTENTS = re.compile(r"^<!-- contents\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
_SPECIAL = re.compile(r"_|[^\w\s.,;:/()'%?=-]|^[-=]|(?<=^\d)[.)](?=\s)")
_BREAK_OPPORTUNITY = re.compile(r"(?<=[.:/(,=])(?=[^\W\d]|&)")
"""Positions where a long name may be broken: between words, so that a search still finds them."""


def escaped(text: Any) -> str:
    """Text on one line, with every character that could be markup escaped."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def code_html(text: Any) -> str:
    """Text as an HTML code element that may be broken between its parts; empty for empty text."""
    line = one_line(text)
    return f"<code>{_BREAK_OPPORTUNITY.sub('<wbr>', escaped(line))}</code>" if line else ""


def prose_html(text: Any) -> str:
    """Text with its code spans as code; everything else is escaped."""
    pieces = re.split(r"`([^`]+)`", str(text))
    return "".join(code_html(piece) if number % 2 else _escape_inside(piece) for number, piece in enumerate(pieces))


def paragraphs(docstring: str) -> str:
    """The paragraphs of a docstring after its first line, with code and *Emphasis*."""
    _, _, body = docstring.partition("\n\n")
    return "\n\n".join(_with_bold(" ".join(paragraph.split())) for paragraph in body.split("\n\n")) + "\n"


def _with_bold(paragraph: str) -> str:
    pieces = re.split(r"(?<!\S)\*([A-Z][^*]+)\*(?!\S)", paragraph)
    return "".join(f"**{escaped(piece)}**" if number % 2 else prose_html(piece) for number, piece in enumerate(pieces))


def _escape_inside(text: str) -> str:
    """`escaped`, with the spaces at both ends kept."""
    head = " " if text[:1].isspace() else ""
    tail = " " if text[-1:].isspace() and text.strip() else ""
    return head + escaped(text) + tail


def link(text: str, address: str) -> str:
    """A link to an http(s) URL; only the text for other URLs."""
    return f"[{escaped(text)}]({address})" if is_linkable(address) else escaped(text)


def anchor_line(name: str) -> str:
    """A line that makes the next heading the target of `#name`, in the repository and (see `to_site`) on the site."""
    return f'<a id="{name}"></a>\n'


def to_site(page: str) -> str:
    """Convert a page for the site: HTML comments with a meaning become MyST directives."""
    page = _ANCHOR.sub(r"{#\1}", page)
    return _CONTENTS.sub(lambda match: f"```{{toctree}}\n:hidden:\n\n{match[1]}```", page)


def slug(text: str) -> str:
    """Text as an anchor: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table whose cells are already Markdown; empty cells become `&nbsp;`."""
    return markdown_table(header, [[cell if str(cell) else "&nbsp;" for cell in line] for line in lines])
