"""Commands whose output nobody reads, as before `| head`, end with their own exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "status", "github"),
    [
        ("--help", 0, ""),
        ("run --help", 0, ""),
        ("list cases --help", 0, ""),
        ("list functions", 0, ""),
        ("list cases --json", 0, "true"),
        ("lint nowhere", 2, ""),
        ("lint nowhere", 2, "true"),
        ("show nowhere", 2, ""),
    ],
)
def test_commands_keep_exit_status_if_pipe_is_closed(tmp_path, words, status, github):
    for unread in ({"stdout"}, {"stdout", "stderr"}):
        reader, writer = os.pipe()
        os.close(reader)
        with (tmp_path / "printed").open("w+b") as printed, os.fdopen(writer, "wb") as nobody:
            streams = {name: nobody if name in unread else printed for name in ("stdout", "stderr")}
            ended = subprocess.run(
                [sys.executable, "-m", "conformance", *words.split()],
                env={**os.environ, "GITHUB_ACTIONS": github},
                check=False,
                **streams,
            )
            printed.seek(0)
            said = printed.read().decode()
        assert ended.returncode == status, said
        assert "Traceback" not in said
        assert "interrupted" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [("--version", ""), ("--version", "1"), ("list functions", "1"), ("list cases --json", "")],
)
def test_unwritable_output_is_user_error(words, unbuffered):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "conformance", *words.split()],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("the output cannot be written (No space left on device); free some space")
