"""Temporary folders of killed processes are removed, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conformance.execution import temporary_folder
from conformance.execution.temporary_folder import TemporaryFolder

HOLD = """
import sys, time
from conformance.execution.temporary_folder import TemporaryFolder
folder = TemporaryFolder("conformance-x-")
print(folder.name, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def parent(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_folder_of_killed_process_is_removed_by_the_next_one(parent):
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        held = Path(process.stdout.readline().strip())
        (held / "content").write_text("x")
        with TemporaryFolder("conformance-x-") as other:
            assert sorted(parent.iterdir()) == sorted([held, Path(other)]), "it is held"
        process.kill()
    with TemporaryFolder("conformance-x-") as other:
        assert list(parent.iterdir()) == [Path(other)]
    assert not list(parent.iterdir())


def test_remove_stale_leaves_folders_of_others(parent, monkeypatch):
    elsewhere = parent / "mine"
    elsewhere.mkdir()
    (elsewhere / "content").write_text("x")
    (parent / "conformance-x-link").symlink_to(elsewhere)
    (parent / "conformance-x-file").write_text("x")
    (parent / "conformance-x-new").mkdir()
    (parent / "conformance-x-old").mkdir()
    os.utime(parent / "conformance-x-old", (time.time() - 3600,) * 2)
    temporary_folder.remove_stale("conformance-x-")
    names = {path.name for path in parent.iterdir()}
    assert names == {"mine", "conformance-x-link", "conformance-x-file", "conformance-x-new"}
    assert [path.name for path in elsewhere.iterdir()] == ["content"]
    if hasattr(os, "getuid"):
        monkeypatch.setattr(os, "getuid", lambda: -1)
        os.utime(parent / "conformance-x-new", (time.time() - 3600,) * 2)
        temporary_folder.remove_stale("conformance-x-")
        assert (parent / "conformance-x-new").exists()
