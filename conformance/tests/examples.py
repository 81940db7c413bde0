"""Examples of a page, so that a test can execute them: files to write, commands, and their output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance import docs
from conformance.docs.markup import GENERATED

PAGES = Path(docs.__file__).parent / "pages"
RUN = ("console", "sh", "python")
"""Languages of blocks that are executed."""
MARKS = {
    "index": "packages are installed from an index",
    "long": "it takes more than seconds, unless it has the options that follow the mark",
    "ci": "continuous integration is what runs it",
    "device": "it needs a GPU",
}
"""Marks of blocks that are executed in another way than the others, or not at all, and the reason."""
_BLOCK = re.compile(
    r"(?:^<!-- example: (?P<mark>\w+)(?: (?P<options>[^\n]+))? -->\n+)?(?:^`(?P<file>[^`\n]+)`:\n\n)?"
    r"^(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """A command and its output; "" if the page does not show it."""

    command: str
    printed: str


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    line: int
    language: str
    body: str
    file: str = ""
    """Path to write the body to; "" if it is executed."""
    mark: str = ""
    """One of `MARKS`, or ""."""
    options: str = ""
    """Options, each with a value, that its commands are executed with, in place of their own of the same names."""

    def command(self, step: Step) -> str:
        """What is executed for a step."""
        if not self.options:
            return step.command
        options = shlex.split(self.options)
        words = shlex.split(step.command, comments=True)
        others = [
            word for before, word in zip(["", *words], words, strict=False) if not {before, word} & {*options[::2]}
        ]
        return shlex.join([*others, *options])

    def steps(self) -> Iterator[Step]:
        """The commands of a `console` or `sh` block, in order."""
        if self.language == "sh":
            yield from (Step(line, "") for line in self.body.splitlines() if line.strip())
            return
        before, *entries = re.split(r"^\$ ", self.body, flags=re.MULTILINE)
        if before.strip():
            raise ValueError(f"line {self.line}: a console block begins with a command, after `$ `")
        for entry in entries:
            command, _, printed = entry.partition("\n")
            yield Step(command, printed)


def blocks(page: str) -> list[Block]:
    """The blocks of a page that are written to files or executed. Raises ValueError for an unknown mark."""
    page = GENERATED.sub(lambda part: "\n" * part[0].count("\n"), page)  # made from sources that have tests
    found = []
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("fence")) + 1
        mark, file, options = (match[name] or "" for name in ("mark", "file", "options"))
        if mark and mark not in MARKS:
            raise ValueError(f"line {line}: there is no mark {mark!r}; there are {', '.join(MARKS)}")
        if file or match["language"] in RUN:
            found.append(Block(line, match["language"], match["body"], file, mark, options))
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether output matches what a page shows, except for trailing spaces and empty lines; `...` is a wildcard."""
    output = "".join(f"{line.rstrip()}\n" for line in printed.splitlines() if line.strip())
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        elif line.strip():
            pattern += ".*".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
    return re.fullmatch(pattern, output) is not None
