"""Folders of cases with files that cannot be read: each is reported, none is skipped, and none is waited for."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from conformance import cli
from conformance.casefiles import document, known_issues, loading
from conformance.casefiles.document import schema_line
from conformance.casefiles.loading import SCHEMA
from conformance.judging.case_set import load_case_set
from conformance.model import files
from conformance.model.errors import CaseErrors

CASE = f"""{schema_line(None, SCHEMA)}
about: x
source: x
loss: categorical
given: logits
target: index
cases:
  y:
    why: because
    predictions: [[0.5, -1.0]]
    labels: [0]
"""
LEDGER = f"{schema_line(None, known_issues.SCHEMA)}\nknown: []\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # a socket has a short name
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


def large(path):
    path.write_text("#" * (document.MAX_BYTES + 1))


SPECIAL = {
    "fifo": (fifo, "a FIFO and no file; give a regular file"),
    "socket": (unix_socket, "a socket and no file; give a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device and no file; give a regular file"),
    "linked_fifo": (lambda path: (fifo(path.with_suffix("")), path.symlink_to(path.with_suffix(""))), "a FIFO"),
    "broken_link": (lambda path: path.symlink_to("gone"), "a link to gone, where nothing is; check that it exists"),
    "own_link": (lambda path: path.symlink_to(path.name), "a link that leads to itself"),
    "sparse": (sparse, f"more than {document.MAX_BYTES} bytes; split the file"),
    "large": (large, f"more than {document.MAX_BYTES} bytes; split the file"),
    "utf_16": (lambda path: path.write_text(CASE, encoding="utf-16"), "not UTF-8: byte 0xff at offset 0"),
    "latin_1": (lambda path: path.write_text(CASE.replace("because", "é"), encoding="latin-1"), "not UTF-8"),
    "nul": (lambda path: path.write_text(CASE.replace("because", "a\0b")), "control character U+0000; remove it"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "not UTF-8"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "good.yaml").write_text(CASE)
    return folder


def soon(function):
    """What a function returns, or raises, within seconds."""
    found = []

    def call():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert found, "it waits"
    return found[0]


@pytest.mark.parametrize("name", SPECIAL)
def test_read_reports_special_file(folder, name):
    make, said = SPECIAL[name]
    make(folder / "bad.yaml")
    cases, errors = soon(lambda: loading.read(folder))
    assert [case.id for case in cases] == ["good/y"]
    assert said in " ".join(map(str, errors))
    assert all("bad.yaml" in error.path for error in errors)
    assert isinstance(soon(lambda: load_case_set(folder)), CaseErrors)


@pytest.mark.parametrize("name", SPECIAL)
def test_read_reports_special_file_as_argument(tmp_path, name):
    make, said = SPECIAL[name]
    make(tmp_path / "bad.yaml")
    error = soon(lambda: load_case_set(tmp_path / "bad.yaml"))
    assert isinstance(error, CaseErrors)
    assert said in str(error)


@pytest.mark.parametrize("name", SPECIAL)
def test_read_reports_special_ledger_file(folder, name):
    make, said = SPECIAL[name]
    (folder / "known").mkdir()
    (folder / "known" / "torch.yaml").write_text(LEDGER)
    make(folder / "known" / "bad.yaml")
    error = soon(lambda: load_case_set(folder))
    assert isinstance(error, CaseErrors)
    assert str(error).count(said) == 1
    assert "known/bad.yaml" in str(error)


def test_read_reports_ledger_without_folder(folder):
    (folder / "known").write_text("x")
    assert "known: cannot be read: Not a directory" in str(soon(lambda: load_case_set(folder)))


@pytest.mark.parametrize("target", [".", "..", "self", "/", "other"])
def test_read_reports_cyclic_link(folder, target):
    (folder / "inner").mkdir()
    (folder / "inner" / "self").symlink_to({"self": "self", "other": "../loop"}.get(target, target))
    if target == "other":
        (folder / "loop").symlink_to("inner/self")
    if target == "/":
        (folder / "inner" / "self").unlink()
        (folder / "inner" / "self").symlink_to(folder.parent)
    cases, errors = soon(lambda: loading.read(folder))
    assert "good/y" in [case.id for case in cases]
    said = "a link to a folder that it is inside of; remove the link"
    said = "a link that leads to itself" if target in ("self", "other") else said
    assert said in " ".join(map(str, errors))


def test_read_follows_link_to_folder(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "more.yaml").write_text(CASE)
    (folder / "linked").symlink_to(other)
    cases, errors = loading.read(folder)
    assert [case.id for case in cases] == ["good/y", "linked/more/y"]
    assert errors == []


def test_read_reports_dangling_link(folder):
    (folder / "moved").symlink_to("gone")
    (error,) = loading.read(folder)[1]
    assert "moved: cannot be read: a link to gone, where nothing is" in str(error)


def test_read_reports_folder_named_as_file(folder):
    (folder / "x.yaml").mkdir()
    (error,) = loading.read(folder)[1]
    assert str(error).endswith("x.yaml: a folder with the name of a case file; give it another name")


def test_read_reports_unreadable_folder(folder, monkeypatch):
    (folder / "closed").mkdir()
    listed = Path.iterdir

    def raise_oserror(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", raise_oserror)
    (error,) = loading.read(folder)[1]
    assert "closed: cannot be read: Permission denied; see who may read it" in str(error)


def test_read_reports_unreadable_file(folder, monkeypatch):
    opened = os.open

    def raise_oserror(path, *arguments, **keywords):
        if str(path).endswith("good.yaml"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", raise_oserror)
    (error,) = loading.read(folder)[1]
    assert "good.yaml: cannot be read: Permission denied" in str(error)


def changing(monkeypatch, change):
    """Have a file changed at the moment that it is opened."""
    opened = os.open

    def change_first(path, *arguments, **keywords):
        if str(path).endswith("good.yaml"):
            change(Path(path))
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", change_first)


def test_read_reports_vanished_file(folder, monkeypatch):
    changing(monkeypatch, Path.unlink)
    (error,) = loading.read(folder)[1]
    assert "good.yaml: cannot be read: No such file or directory" in str(error)


def test_read_does_not_wait_for_fifo(folder, monkeypatch):
    changing(monkeypatch, lambda path: (path.unlink(), fifo(path)))
    (error,) = soon(lambda: loading.read(folder))[1]
    assert "a FIFO and no file" in str(error)


def test_read_reports_file_that_would_block(folder, monkeypatch):
    """As /proc/kmsg does, whose mode is that of a regular file."""
    fifo(folder / "bad.yaml")
    writer = os.open(folder / "bad.yaml", os.O_RDWR)
    monkeypatch.setattr(files, "_SPECIAL", ())
    try:
        (error,) = soon(lambda: loading.read(folder))[1]
    finally:
        os.close(writer)
    assert "bad.yaml: reading it would block, as for a pipe or device; give a regular file" in str(error)


@pytest.mark.parametrize("name", ["B.YAML", "c.Yml"])
def test_read_reports_file_with_suffix_in_capitals(folder, name):
    (folder / "inner").mkdir()
    (folder / "inner" / name).write_text(CASE)
    cases, (error,) = loading.read(folder)
    assert [case.id for case in cases] == ["good/y"]
    suffix = Path(name).suffix
    assert str(error).endswith(f"inner/{name}: ends in {suffix}; rename it to {suffix.lower()}")


@pytest.mark.parametrize("github", ["true", ""])
@pytest.mark.parametrize("name", ["own.yaml", "own"])
def test_run_reports_link_that_leads_to_itself(folder, name, github, monkeypatch, capsys):
    (folder / name).symlink_to(name)
    monkeypatch.setenv("GITHUB_ACTIONS", github)
    monkeypatch.setattr(sys, "argv", ["conformance", "run", "--cases", str(folder), "--report", str(folder / "r")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    text = "".join(capsys.readouterr())
    assert ended.value.code == 2, text
    assert f"{name}: cannot be read: a link that leads to itself" in text


def test_read_reports_file_that_grows(folder, monkeypatch):
    status = os.fstat
    asked = []

    def grow(descriptor):
        if asked:
            with (folder / "good.yaml").open("a") as file:
                file.write("#")
        asked.append(descriptor)
        return status(descriptor)

    monkeypatch.setattr(files.os, "fstat", grow)
    (error,) = loading.read(folder)[1]
    assert "good.yaml: it changed while it was read" in str(error)


def test_read_stops_at_size_limit(tmp_path, monkeypatch):
    """The bound holds for what is read, and not only for what a file says its size is."""
    file = tmp_path / "x.yaml"
    file.write_bytes(b"#" * 100)
    assert len(files.read_regular(file, 100)) == 100
    with pytest.raises(OSError, match="it has 100 bytes, more than 10"):
        files.read_regular(file, 10)


def test_read_stops_at_file_limit(folder, monkeypatch):
    monkeypatch.setattr(loading, "MAX_FILES", 10)
    for number in range(20):
        (folder / f"{number}.txt").touch()
    assert "there are more than 10 files in it" in str(loading.read(folder)[1][-1])


def test_read_reports_undecodable_names(folder):
    name = os.fsencode(folder) + b"/\xff\n\x1b.yaml"
    try:
        with open(name, "w") as file:  # noqa: PTH123 - bytes
            file.write(CASE)
    except OSError:
        pytest.skip("this file system has no such names")
    (error,) = loading.read(folder)[1]
    assert "is not [a-z][a-z0-9_]*" in str(error)


@pytest.mark.parametrize("path", ["gone", "a\0b", "good.yaml/x", "x" * 5000])
def test_read_reports_impossible_path(folder, path):
    assert isinstance(soon(lambda: load_case_set(folder / path)), CaseErrors)


def test_read_is_fast(folder):
    for number in range(200):
        (folder / f"f{number}.yaml").write_text(CASE)
    began = time.perf_counter()
    assert len(loading.read(folder)[0]) == 201
    assert time.perf_counter() - began < 20
