"""Errors of adapters: a contradiction in a declaration, and a problem that an adapter cannot say."""

from __future__ import annotations


class LoweringError(Exception):
    """A bug of the harness or of an adapter: a problem could not be said to a function that declares it can take it.

    Never a finding about the framework.
    """


class DeclarationError(ValueError):
    """An adapter contradicts itself; raised where it is defined, with the field that is wrong."""
