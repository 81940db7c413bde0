"""Errors of adapters: an inconsistent declaration, and a problem that cannot be lowered.

To lower a problem is to translate it into a call: its arrays as arguments, and the source that passes them.
"""

from __future__ import annotations

from collections.abc import Iterable


class LoweringError(Exception):
    """A bug of the harness or of an adapter: a problem that a function declares to support cannot be lowered, that is,
    translated into a call.

    Never a finding about the framework.
    """


class DeclarationError(ValueError):
    """An adapter contradicts itself; raised where it is defined, with the name of the wrong field."""


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown name.  kind: kind of object that the name should refer to."""
    return f"unknown {kind} '{name}'; expected one of {', '.join(known) or 'none'}"
