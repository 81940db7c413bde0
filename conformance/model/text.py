"""Make text from untrusted sources printable."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from typing import Any, TextIO

MAX_LENGTH = 1 << 16
"""Maximum number of characters of a text from a framework that are processed."""

LONGEST_WORD, LONGEST_LINE = 2000, 20_000
"""Maximum number of characters of a word, and of a line, that a message quotes in full."""

_SHORT = 3
"""Words of up to this length may occur in any name by chance."""

_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BLANK = r"(?:[\s\ufeff]|\x1b\[[0-9;]*m)*"
_COMMAND = re.compile(rf"^{_BLANK}::|##\[")
_UNFINISHED = re.compile(rf"{_BLANK}(?:\x1b(?:\[[0-9;]*)?|:)?")


def printable(text: str) -> str:
    r"""Escape control characters, except tabs and newlines, and characters that change the direction: `\x1b`."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text.replace("\r\n", "\n"))


def type_name(value: object) -> str:
    """The name of the type of a value, even if its metaclass hides it."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name if len(name) <= 100 else f"{name[:100]}..."


def text_of(value: object) -> str:
    """The text of an exception or a warning on one line, even if its `__str__` raises."""
    try:
        text = str.__getitem__(str(value), slice(MAX_LENGTH))
    except BaseException as error:
        return f"(it has no text: `str` of it raised {type_name(error)})"
    text = " ".join(text.split())
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def format_count(number: int | str, noun: str) -> str:
    """A count with its noun: `1 case`, `2 cases`, `no cases`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def join_names(names: Iterable[str], max_names: int = 0) -> str:
    """Names separated by commas; with `max_names`, only that many and the number of the others: `a, b and 3 more`."""
    known = list(names)
    shown = known[:max_names] if max_names else known
    return ", ".join(shown) + (f" and {len(known) - len(shown)} more" if len(known) > len(shown) else "")


def suggest(word: str, names: Iterable[str], listed_by: str = "") -> str:
    """Advice for an unknown word: up to three similar names, or all names if there are none.

    listed_by: command that prints all names, for more names than fit a message.
    """
    known = list(dict.fromkeys(names))
    suggestions = " or ".join(f'"{name}"' for name in _similar(word, known))
    listed = f"`{listed_by}` prints all" if listed_by else ""
    if suggestions:
        return " ".join(filter(None, (f"did you mean {suggestions}?", listed)))
    return listed or f"give one of: {join_names(known)}"


def _similar(word: str, names: list[str]) -> list[str]:
    """Up to three names: those that contain a word, else similar ones, else those of its framework or folder."""
    by_lower, word = {name.lower(): name for name in names}, word.lower()
    head = re.split(r"(?<=[./])", word)[0]
    containing = [name for name in by_lower if len(word) > _SHORT and word in name]
    siblings = [name for name in by_lower if head != word and name.startswith(head)]
    for pool, cutoff in ((containing, 0.0), (by_lower, 0.6), (siblings, 0.0)):
        if matches := difflib.get_close_matches(word, pool, cutoff=cutoff):
            return [by_lower[name] for name in matches]
    return []


def truncate(text: str, max_length: int) -> str:
    """Text shortened to at most `max_length` characters, ending in three dots if it was longer."""
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def truncate_list(text: str, max_length: int) -> str:
    """A list as text, shortened to about `max_length` characters, with dots for the last elements if it was longer."""
    if len(text) <= max_length:
        return text
    head, separator, _ = text[:max_length].rpartition(", ")
    return f"{head}{separator}..." if separator else truncate(text, max_length)


def truncate_and_count(text: str, max_length: int) -> str:
    """The first `max_length` characters of a text, followed by its length if it is longer."""
    return text if len(text) <= max_length else f"{text[:max_length]}... ({len(text)} characters)"


def shorten_words(text: str) -> str:
    """A message in which words of thousands of characters, as from a file, are cut after 200 and their length is given.

    A line that is still too long is cut, too.
    """
    if len(text) <= LONGEST_WORD:
        return text
    text = _LONG_WORD.sub(lambda match: truncate_and_count(match[0], 200), text)
    return "\n".join(truncate_and_count(line, LONGEST_LINE) for line in text.split("\n"))


def one_line(text: object, max_length: int = 0) -> str:
    """Printable text on one line, of at most `max_length` characters; 0 means any number."""
    line = printable(" ".join(str(text).split()))
    return truncate(line, max_length) if max_length else line


def as_sentence(text: str) -> str:
    """Turn a clause into a sentence: add a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def source_or_comment(source: str, max_length: int) -> str:
    """Source text, or a comment if it is longer than `max_length`, as shortened source would be other code."""
    return source if len(source) <= max_length else f"# {len(source)} characters, left out here"


def on_github() -> bool:
    """Whether this process is a step of GitHub Actions, which interprets lines such as `::error::` as commands."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def loggable(text: str) -> str:
    r"""Printable text that GitHub Actions does not interpret as a command; see `printable`.

    A command is a line that begins with `::` or contains `##[`: the last of these characters is escaped,
    `:\u003aerror`.
    """
    return _defused(printable(text), "") if on_github() else printable(text)


class DefusedStream:
    """A text stream that escapes commands of GitHub Actions, even if they are split over several writes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._begun = ""
        """The written part of the current line that may still become a command."""

    def write(self, text: str) -> int:
        """Write text; return its number of characters."""
        self.stream.write(_defused(text, self._begun))
        line = re.split(r"[\r\n]", self._begun + text)[-1]
        self._begun = line if _UNFINISHED.fullmatch(line) else f".{line[-2:]}"
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of some texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _defused(text: str, begun: str) -> str:
    """Escaped text that continues a line which begins with `begun`."""
    lines = re.split(r"([\r\n])", begun + text)
    return "".join(_COMMAND.sub(_escaped, line) for line in lines)[len(begun) :]


def _escaped(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}\\u{ord(match[0][-1]):04x}"
