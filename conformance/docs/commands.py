"""The reference of the command line, generated from the commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from conformance.cli import app
from conformance.docs.markup import anchor_line, code_html, escaped, prose_html, slug, table
from conformance.report.markdown import fenced_block

NAME = "conformance"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """(words, click command) of every command that is not a group, in the order of `--help`."""
    group: Any = typer.main.get_command(app)
    for name in group.list_commands(None):
        command = group.commands[name]
        for inner in getattr(command, "commands", {}).values():
            yield (name, inner.name), inner
        if not hasattr(command, "commands"):
            yield (name,), command


def reference() -> str:
    """Every command with its arguments and options, as Markdown."""
    return "\n".join(_command_section(words, command) for words, command in commands())


def _command_section(words: tuple[str, ...], command: Any) -> str:
    name = " ".join((NAME, *words))
    context = command.make_context(name, [], resilient_parsing=True)
    records = [parameter.get_help_record(context) for parameter in command.params]
    lines = [[code_html(names), escaped(text)] for names, text in filter(None, records)]
    return "\n".join(
        [
            f"{anchor_line(slug(name))}## {code_html(' '.join(words))}\n",
            f"{prose_html(command.help or '')}\n",
            fenced_block(f"{name} {' '.join(command.collect_usage_pieces(context))}", "text"),
            table(("argument or option", "what it does"), lines),
        ]
    )
