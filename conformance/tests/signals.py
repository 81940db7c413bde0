"""Children that can be interrupted, whatever this process inherited.

A shell without job control starts a command in the background with SIGINT ignored, `nohup` one with SIGHUP ignored, and
children inherit that.
"""

from __future__ import annotations

import signal

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a process which does not handle them, and that a process may inherit as ignored."""


def restore() -> None:
    """Give each of these signals its default disposition: `preexec_fn` of a child that is sent one."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
