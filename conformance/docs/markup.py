"""Escapes foreign text for Markdown, so that it is shown as it is.

Special characters become character references such as `&#42;`, which no dialect of Markdown takes as markup. Backslash
escapes differ between dialects, and the text of a ledger is somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from conformance.model.text import one_line, printable
from conformance.report.markdown import table

_SPECIAL = re.compile(r"_|[^\w\s.,;:/()'%?=-]|^[-=]|(?<=^\d)[.)](?=\s)")
_JOINT = re.compile(r"(?<=[.:/(,=])(?=[^\W\d]|&)")
"""Where a long name may be broken: between words that a search finds."""
_SCHEME = re.compile(r"https?://[^\s<>()|\\`\"'\[\]{}]+")


def plain(text: Any) -> str:
    """Text on one line; nothing in it is markup."""
    return _SPECIAL.sub(_reference, one_line(text))


def code(text: Any, most: int = 0) -> str:
    """Text as code, nothing where there is none.  most: characters that are shown, 0 for all."""
    line = one_line(text, most)
    return f"<code>{_JOINT.sub('<wbr>', plain(line))}</code>" if line else ""


def prose(text: Any) -> str:
    """Text with its code spans, such as a description in a schema; all else in it is no markup."""
    pieces = re.split(r"`([^`]+)`", str(text))
    return "".join(code(piece) if number % 2 else _within(piece) for number, piece in enumerate(pieces))


def paragraphs(docstring: str) -> str:
    """A docstring without its first line: paragraphs, with code and with what stands between asterisks."""
    _, _, rest = docstring.partition("\n\n")
    return "\n\n".join(_stressed(" ".join(paragraph.split())) for paragraph in rest.split("\n\n")) + "\n"


def _stressed(paragraph: str) -> str:
    pieces = re.split(r"(?<!\S)\*([A-Z][^*]+)\*(?!\S)", paragraph)
    return "".join(f"**{plain(piece)}**" if number % 2 else prose(piece) for number, piece in enumerate(pieces))


def _within(text: str) -> str:
    """`plain`, with the blanks at both ends kept."""
    head = " " if text[:1].isspace() else ""
    tail = " " if text[-1:].isspace() and text.strip() else ""
    return head + plain(text) + tail


def link(text: str, address: str) -> str:
    """Text that leads to an address over http(s); only the text where the address is anything else."""
    return f"[{plain(text)}]({address})" if _SCHEME.fullmatch(address) else plain(text)


def block(source: str, language: str = "") -> str:
    """Source as a fenced block that it cannot end."""
    longest = max(map(len, re.findall("`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{printable(source.rstrip())}\n{fence}\n"


def slug(text: str) -> str:
    """What an anchor is made of: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def rows(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table; cells are Markdown already, an empty one shows that nothing is there."""
    return table(header, [[cell if str(cell) else "&nbsp;" for cell in line] for line in lines])


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


__all__ = ["block", "code", "link", "paragraphs", "plain", "prose", "rows", "slug"]
