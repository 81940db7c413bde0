"""Errors of adapters: a contradiction in a declaration, and a problem of which no call can be made."""

from __future__ import annotations

from collections.abc import Iterable


class LoweringError(Exception):
    """A bug of the harness or of an adapter: a problem that a function declares to support cannot be lowered.

    Never a finding about the framework.
    """


class DeclarationError(ValueError):
    """An adapter contradicts itself; raised where it is defined, with the field that is wrong."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is none of the known ones.  what: the kind of thing it should name."""
    return f"unknown {what} '{name}'; expected one of {', '.join(known) or 'none'}"
