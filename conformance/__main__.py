"""The command `conformance`, also as `python -m conformance`.

Before anything is imported that takes time, it handles signals and marks the folder of a run's report; see `marking`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback

from conformance.execution import marking
from conformance.execution.interruption import INTERRUPTED, interruptible, interruption
from conformance.model.errors import FAULT, ISSUES, TRACEBACK


def main() -> None:
    """Run the command line."""
    folder = marking.report_of(sys.argv[1:])
    failed = "it cannot be imported"
    recover = (
        f"; `conformance recover {shlex.quote(str(folder))}` makes a report of what was executed" if folder else ""
    )
    with interruptible(at_once=f"interrupted again, ended at once{recover}"):
        try:
            if folder is not None:
                marking.mark(folder)
            from conformance.cli import main as run

            failed = "an exception that it does not expect"
            run()
        except SystemExit as ended:
            if folder is not None and ended.code in (None, 0, 1, 2):
                marking.unmark(folder)
            if ended.code == INTERRUPTED and interruption():
                _exit_interrupted()
            raise
        except BaseException as error:  # modules that are imported may raise anything for a signal
            if interruption():
                print("interrupted", file=sys.stderr)
                _exit_interrupted()
            if os.environ.get(TRACEBACK, "") not in ("", "0"):
                traceback.print_exc()
            message = f"the suite itself failed: {failed} ({type(error).__name__}: {error})"
            print(f"{message}; {TRACEBACK}=1 prints the traceback; please report it: {ISSUES}", file=sys.stderr)
            sys.exit(FAULT)


def _exit_interrupted() -> None:
    """Exit with the status of an interruption.

    If a KeyboardInterrupt went through an `exec` of text, such as those that define dataclasses, Python would end the
    process with SIGINT instead.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
