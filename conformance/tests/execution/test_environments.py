"""Environments from requirements: what is read, what is built, what is kept, and what is said where it cannot be."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import importlib.util
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from conformance.adapters import arrays, libraries, registry
from conformance.adapters.contract import Backend, Framework
from conformance.execution.environments import (
    EnvironmentFailure,
    EnvironmentRequest,
    build,
    builder,
    interpreters,
    parse,
    releases,
    store,
    uv,
)
from conformance.execution.environments.interpreters import (
    Interpreter,
    find_matching,
    in_order_of_preference,
    parse_uv_list,
    query,
    running_interpreter,
)
from conformance.execution.environments.sources import read_sources
from conformance.execution.environments.store import LAYOUT_VERSION, MARKER, EnvironmentStore
from conformance.model.errors import UserError

MINI = Framework(
    name="mini",
    distributions=("miniature",),
    modules=("miniature",),
    functions=(),
    arrays=arrays.numpy,
    imports="import miniature",
)
BACKED = dataclasses.replace(
    MINI,
    name="backed",
    distributions=("backed",),
    backends={
        "fast": Backend(("fast-cpu; sys_platform != 'none'", "fast; sys_platform == 'none'"), {"BACKEND": "fast"}),
        "slow": Backend(("slow>=1",), {"BACKEND": "slow"}),
        "numpy": Backend((), {"BACKEND": "numpy"}),
    },
)
HAS_UV = importlib.util.find_spec("uv") is not None or shutil.which("uv") is not None
needs_uv = pytest.mark.skipif(not HAS_UV, reason="uv is not installed")


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """No settings of uv or pip but those that a test makes, a cache of its own, and two fake frameworks."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_TEMPORARY", [])
    use(monkeypatch, MINI, BACKED)


@pytest.fixture
def links(plain, monkeypatch, tmp_path):
    """A folder of tiny wheels that is all there is to install from."""
    folder = tmp_path / "links"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        wheel(folder, "miniature", version, "helper")
        wheel(folder, "helper", version)
    wheel(folder, "numpy", "1.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture(scope="session")
def online():
    """The user's package index, where it answers."""
    try:
        return releases("scikit-learn")
    except UserError as error:
        pytest.skip(f"no package index: {error}")


def use(monkeypatch, *frameworks):
    monkeypatch.setattr(registry, "frameworks", lambda: frameworks)


def wheel(folder, name, version, *requires, tag="py3-none-any"):
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def heard(expected, **options):
    """(environment, what was told)."""
    lines = []
    return build(parse(expected) if isinstance(expected, str) else expected, lines.append, **options), lines


def failure(text):
    with pytest.raises(EnvironmentFailure) as caught:
        build(parse(text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read.


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("miniature==1.0", ["miniature==1.0"]),
        ("  miniature==1.0  helper==2 ", ["helper==2", "miniature==1.0"]),
        ("miniature==1.0,helper==2", ["helper==2", "miniature==1.0"]),
        ("miniature >= 1, < 3, != 2 helper", ["helper", "miniature!=2,<3,>=1"]),
        ("Miniature==1.0 Hel_Per", ["hel-per", "miniature==1.0"]),
        ("miniature[extra]==1.0", ["miniature[extra]==1.0"]),
        ('miniature==1; python_version < "3.12" and sys_platform == "linux" helper==2', None),
        ("miniature @ https://example.org/miniature-1.0-py3-none-any.whl", None),
        ("miniature==1.0 miniature==1.0", ["miniature==1.0"]),
    ],
)
def test_parse_splits_requirements(plain, text, requirements):
    found = parse(text)
    if requirements is None:
        assert len(found.requirements) == (2 if "helper" in text else 1)
    else:
        assert list(found.requirements) == requirements
    assert (found.python, found.interpreter, dict(found.variables)) == ("", None, {})


def test_parse_ends_marker_at_next_requirement(plain):
    found = parse("helper==2; python_version < '3.12' and os_name == 'posix' miniature==1.0")
    assert found.requirements == (
        'helper==2; python_version < "3.12" and os_name == "posix"',
        "miniature==1.0",
    )


def test_request_name_is_the_text(plain):
    assert parse(" backed[slow]==1\t helper==2 ").name == "backed[slow]==1 helper==2"


@pytest.mark.parametrize(
    ("text", "python"), [("miniature python==3.10", "3.10"), ("python==3.11.* miniature", "3.11"), ("miniature", "")]
)
def test_parse_python_requirement_selects_interpreter(plain, text, python):
    found = parse(text)
    assert (found.python, found.requirements) == (python, ("miniature",))


@pytest.mark.parametrize(
    ("text", "requirements", "backend"),
    [
        ("backed[slow]==3.1", ["backed==3.1", "slow>=1"], "slow"),
        ("backed[slow]==3.1 slow==7", ["backed==3.1", "slow==7"], "slow"),
        ("backed[numpy]==3.1", ["backed==3.1"], "numpy"),
        ("backed==3.1 slow==7", ["backed==3.1", "slow==7"], "slow"),
        ("backed==3.1 fast==7", ["backed==3.1", "fast==7"], "fast"),
        ("backed[fast] fast-cpu==7", ["backed", "fast-cpu==7"], "fast"),
        ("backed==3.1 slow==7 fast==7", ["backed==3.1", "fast==7", "slow==7"], None),
        ("backed==3.1 numpy==2", None, "fast"),
        ("fast==2.8", ["fast==2.8"], None),
    ],
)
def test_parse_adds_requirements_of_backend(plain, text, requirements, backend):
    found = parse(text)
    if requirements is None:
        assert {"backed==3.1", "numpy==2"} < set(found.requirements)
        assert any(one.startswith("fast-cpu") for one in found.requirements)
    else:
        assert list(found.requirements) == requirements
    assert dict(found.variables) == ({} if backend is None else {"BACKEND": backend})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no requirements; give some"),
        ("miniature=1.0", "'miniature=1.0' in 'miniature=1.0' is not a requirement"),
        ("miniature==1.0 helper==", "'helper==' in"),
        ("miniature===", "has an operator without a version"),
        ("miniature 2.15", "'2.15' in 'miniature 2.15' is a version without a package"),
        ("backed[jax]==1", "backed has no backend 'jax'; expected one of fast, slow, numpy"),
        ("backed[fast,slow]==1", "one backend at a time, not fast and slow"),
        ("helper==1.0", "names no supported framework; supported: miniature, backed"),
        ("mini==1.0", "mini is called miniature on the package index"),
        ("numpy==1.0", "names no supported framework"),
        ("miniature python==3.8", "Python 3.8 is too old; the worker needs Python 3.10 or newer"),
        ("miniature python>=3.10", "write python==3.10"),
        ("miniature python==3.10 python==3.11", "write python==3.10"),
        ("./nowhere/python", "there is no such file"),
        ("nowhere.txt", "there is no such file"),
    ],
)
def test_parse_error_is_one_sentence(plain, text, message):
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        parse(text)
    assert message in str(caught.value)


def test_parse_prefers_distribution_to_folder(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "miniature").mkdir()
    assert parse("miniature").requirements == ("miniature",)


# Files.


def file(folder, name, text, **formats):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(**formats) if formats else text, encoding="utf-8")
    return str(path)


def test_requirements_file_keeps_relevant_lines(plain, tmp_path):
    file(tmp_path, "more/base.txt", "numpy==1.26.4 ; python_version < '3.13'\nleft-pad==1\n")
    file(tmp_path, "limits.txt", "miniature<9\nslow<5\n")
    text = """
        # a comment
        --extra-index-url https://example.org/simple?a=b
        --find-links=wheels
        --require-hashes
        -r more/base.txt
        -climits.txt
        -e git+https://example.org/other.git#egg=other
        ./local.whl.d/
        Miniature[extra]==1.0 \\
            --hash=sha256:00 \\
            --hash=sha256:11   # why
        other @ file:///nowhere/other-1-py3-none-any.whl
        https://example.org/slow-7-py3-none-any.whl
    """
    found = parse(file(tmp_path, "requirements.txt", text))
    assert found.requirements == (
        "miniature<9",
        "miniature[extra]==1.0",
        'numpy==1.26.4; python_version < "3.13"',
        "slow @ https://example.org/slow-7-py3-none-any.whl",
        "slow<5",
    )
    assert found.options == (
        "--extra-index-url https://example.org/simple?a=b",
        f"--find-links {tmp_path / 'wheels'}",
    )


def test_constraint_adds_no_requirement(plain, tmp_path):
    file(tmp_path, "limits.txt", "slow<5\nminiature==1\n")
    assert parse(file(tmp_path, "a.txt", "-c limits.txt\nminiature\n")).requirements == ("miniature", "miniature==1")


def test_requirements_file_may_be_utf_16(plain, tmp_path):
    (tmp_path / "a.txt").write_text("miniature==1.0\n", encoding="utf-16")
    assert parse(str(tmp_path / "a.txt")).requirements == ("miniature==1.0",)


PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "miniature"
version = "1.0"
marker = "python_version >= '3.8'"
index = "https://pypi.org/simple"
wheels = [{ name = "x", hashes = { sha256 = "00" } }]
[[packages]]
name = "NumPy"
version = "2.0"
marker = "'all' in extras"
[[packages]]
name = "slow"
archive = { url = "https://example.org/slow-7-py3-none-any.whl" }
[[packages]]
name = "other"
version = "1.0"
"""
UVLOCK = """
version = 1
[[package]]
name = "project"
version = "0.1"
source = { editable = "." }
[[package]]
name = "miniature"
version = "1.0"
source = { registry = "https://example.org/cpu" }
resolution-markers = ["python_version < '3.11'", "os_name == 'java'"]
[[package]]
name = "miniature"
version = "2.0"
source = { registry = "https://pypi.org/simple" }
resolution-markers = ["python_version >= '3.11'"]
[[package]]
name = "slow"
version = "1.0"
source = { git = "https://example.org/slow" }
"""
POETRY = """
[[package]]
name = "miniature"
version = "1.0"
markers = "python_version >= \\"3.8\\""
[[package]]
name = "numpy"
version = "2.0"
[package.source]
type = "legacy"
url = "https://example.org/simple"
"""


def test_lock_files_are_read(plain, tmp_path):
    found = parse(file(tmp_path, "pylock.toml", PYLOCK))
    assert (
        found.requirements
        == (
            'miniature==1.0; python_version >= "3.8"',
            "numpy==2.0",
            "slow@ https://example.org/slow-7-py3-none-any.whl",
        )
        or found.requirements[2] == "slow @ https://example.org/slow-7-py3-none-any.whl"
    )
    found = parse(file(tmp_path, "uv.lock", UVLOCK))
    assert found.requirements == (
        'miniature==1.0; python_version < "3.11" or os_name == "java"',
        'miniature==2.0; python_version >= "3.11"',
    )
    assert found.options == ("--extra-index-url https://example.org/cpu",)
    found = parse(file(tmp_path, "poetry.lock", POETRY))
    assert found.requirements == ('miniature==1.0; python_version >= "3.8"', "numpy==2.0")
    assert found.options == ("--extra-index-url https://example.org/simple",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "miniature\n\nhelper=1\n", "a.txt:3: 'helper=1' is not a requirement"),
        ("a.txt", "miniature\n-r none.txt\n", "a.txt:2: there is no file"),
        ("a.txt", "-r a.txt\nminiature\n", "a.txt includes itself"),
        ("a.txt", "numpy==1.0\n", "names no supported framework; supported: miniature, backed"),
        ("a.txt", "", "names no supported framework"),
        ("a.txt", "bad-1.whl\nminiature\n", "a.txt:1: "),
        ("a.lock", "[[package]\n", "is no TOML file"),
        ("a.toml", "[project]\nname = 'x'\n", "is not a supported lock file"),
        ("a.toml", "package = [1]\n", "is not a supported lock file"),
    ],
)
def test_file_error_names_position(plain, tmp_path, name, text, message):
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        parse(file(tmp_path, name, text))
    assert message in str(caught.value)


def test_binary_file_is_rejected(plain, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"miniature\n\xff\xfa\xfb")
    with pytest.raises(UserError, match="save it as UTF-8"):
        parse(str(tmp_path / "a.txt"))


# Interpreters.


def fake_python(folder, *lines):
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def test_parse_accepts_path_of_interpreter(monkeypatch):
    found = parse(sys.executable)
    assert found.interpreter == Path(sys.executable)
    assert not found.requirements
    use(monkeypatch, dataclasses.replace(MINI, distributions=("pytest",)))
    made = build(found)
    assert made.interpreter == Path(sys.executable)
    assert made.packages["pytest"] == pytest.__version__
    assert made.python == query(Path(sys.executable)).version


@pytest.mark.skipif(sys.platform == "win32", reason="made of shell scripts")
def test_parse_rejects_unusable_interpreter(plain, tmp_path):
    with pytest.raises(UserError, match=r"is Python 3\.8\.18, which is too old; the worker needs Python 3\.10"):
        parse(fake_python(tmp_path, """echo 'noise'; echo '["3.8.18", "cpython", {}]'"""))
    with pytest.raises(UserError, match="is no Python interpreter that runs: dead"):
        parse(fake_python(tmp_path, "echo dead >&2; exit 3"))
    with pytest.raises(UserError, match="is no Python interpreter that runs: exit status 0"):
        parse(fake_python(tmp_path, "true"))
    (tmp_path / "empty").touch(0o755)
    with pytest.raises(UserError, match="is no Python interpreter"):
        parse(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="is not a virtual environment"):
        parse(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["/" + "a" * 5000, "./" + "b/" * 3000, "a" * 100_000, "miniature==1.9.1 x==" + "9" * 10**6]
)
def test_parse_rejects_long_text_without_echoing_it(plain, text):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert len(str(caught.value)) < 1500


def test_parse_accepts_requirements_longer_than_file_name(plain):
    text = "miniature==1.9.1 " + " ".join(f"package-{number}==1.0" for number in range(100))
    assert len(parse(text).requirements) == 101


@pytest.mark.skipif(sys.platform == "win32", reason="made of shell scripts")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("while :; do echo spam spam spam spam spam; done", "it does not stop printing"),
        ("while :; do echo spam spam spam spam spam >&2; done", "it does not stop printing"),
        ("seq 1000; sleep 1000", "it does not stop printing"),
        ("sleep 1000", "does not say within 1 s which Python it is"),
        ("trap '' TERM INT; sleep 1000", "does not say within 1 s"),
        ("sleep 1000 & echo hello", "is no Python interpreter that runs: exit status 0"),
        ('echo \'["three", "cpython", {}]\'', "is no Python interpreter that runs"),
        (f'echo \'["{"9" * 5000}.1.1", "cpython", {{}}]\'', "is no Python interpreter that runs"),
        ("head -c 100000 /dev/zero | tr '\\0' x >&2", "is no Python interpreter that runs: xxx"),
    ],
    ids=[
        "output",
        "errors",
        "lines",
        "hangs",
        "ignores signals",
        "leaves a child",
        "odd version",
        "long version",
        "long line",
    ],
)
def test_parse_rejects_interpreter_that_answers_endlessly_or_oddly(plain, tmp_path, monkeypatch, script, why):
    monkeypatch.setattr(interpreters, "TIMEOUT", 1)
    if "sleep" not in script or "&" in script:
        monkeypatch.setattr(interpreters, "TIMEOUT", 60)
    with pytest.raises(UserError, match=re.escape(why)) as caught:
        parse(fake_python(tmp_path, script))
    assert len(str(caught.value)) < 1000


@pytest.mark.skipif(sys.platform == "win32", reason="made of shell scripts")
@pytest.mark.parametrize("name", ["pins.txt", "pylock.toml"])
def test_parse_rejects_irregular_file(plain, tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="a FIFO and no file"):
        parse(str(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        '[[packages]]\nname = 3\nversion = "1"',
        '[[packages]]\nname = "miniature"\nversion = "1.9.1"\nsource = 3',
        '[[packages]]\nname = "miniature"\narchive = 3',
        "a = " + "[" * 100_000,
        '[[packages]]\nname = "miniature"\nversion = "' + "9 x" * 10**5 + '"',
    ],
    ids=["name", "source", "archive", "nested", "version"],
)
def test_parse_rejects_odd_lock_file(plain, tmp_path, content):
    (tmp_path / "pylock.toml").write_text(content)
    with pytest.raises(UserError) as caught:
        parse(str(tmp_path / "pylock.toml"))
    assert len(str(caught.value)) < 1500


def test_unchecked_hashes_are_reported(plain, tmp_path, capsys):
    file = tmp_path / "pins.txt"
    file.write_text("miniature==1.9.1 --hash=sha256:00\n")
    assert parse(str(file)).requirements == ("miniature==1.9.1",)
    assert parse(str(file)).requirements
    assert capsys.readouterr().err.count("its hashes are not checked") == 1


def test_parse_rejects_old_interpreter(plain):
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    old = [path for minor in (7, 8, 9) for path in versions.glob(f"3.{minor}.*/bin/python")]
    old += [Path(found) for minor in (7, 8, 9) if (found := shutil.which(f"python3.{minor}"))]
    usable = [one for one in old if subprocess.run([one, "-c", ""], capture_output=True).returncode == 0]
    if not usable:
        pytest.skip("no Python older than 3.10 is installed")
    with pytest.raises(UserError, match=r"is Python 3\.[789]\.\d+, which is too old"):
        parse(str(usable[0]))


def test_environment_without_numpy_or_framework_fails(plain, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    expected = parse(str(tmp_path / "venv"))
    with pytest.raises(EnvironmentFailure, match="none of miniature, backed is installed in this environment"):
        build(expected)
    site = next((tmp_path / "venv").glob("lib/python3*/site-packages"), tmp_path / "venv/Lib/site-packages")
    with zipfile.ZipFile(wheel(tmp_path, "miniature", "1.0")) as archive:
        archive.extractall(site)
    with pytest.raises(EnvironmentFailure, match="numpy, which the worker needs, is not installed in this environment"):
        build(expected)


def test_interpreters_are_ordered_by_distance_to_running(monkeypatch):
    major, minor = sys.version_info[:2]
    names = [f"{major}.{minor + step}.{patch}" for step, patch in [(1, 3), (-1, 2), (-1, 10), (0, 0), (2, 0), (-2, 5)]]
    others = [Interpreter(Path(name), name) for name in names]
    ordered = [one.version for one in in_order_of_preference(lambda: others)]
    assert ordered == [running_interpreter().version, names[2], names[5], names[0], names[4]]
    assert next(in_order_of_preference(lambda: pytest.fail("nobody asked"))) == running_interpreter()
    assert find_matching(f"{major}.{minor - 1}", others).version == names[2]
    assert find_matching(names[1], others).version == names[1]
    assert find_matching(f"{major}.{minor}", others) == running_interpreter()
    assert find_matching("3.1", others) is None


def test_uv_python_list_is_parsed():
    listed = """
cpython-3.13.0-linux-x86_64-gnu                 /opt/with blank/python3.13 -> python3
cpython-3.13.0+freethreaded-linux-x86_64-gnu    /opt/python3.13t
cpython-3.14.0rc1-linux-x86_64-gnu              /opt/python3.14
cpython-3.9.1-linux-x86_64-gnu                  /opt/python3.9
pypy-3.10.14-linux-x86_64-gnu                   /opt/pypy3.10
cpython-3.10.13-linux-x86_64-gnu                /usr/bin/python3.10
"""
    found = parse_uv_list(listed)
    assert [(str(one.path), one.version) for one in found] == [
        ("/opt/with blank/python3.13", "3.13.0"),
        ("/usr/bin/python3.10", "3.10.13"),
    ]


# Settings.


def test_pip_settings_are_passed_to_uv(plain, monkeypatch, tmp_path):
    assert read_sources().indexes == ("https://pypi.org/simple",)
    text = """
        [global]
        index-url = https://global.example/simple
        find-links = {here} /nowhere/at/all
            https://example.org/wheels
        [install]
        extra-index-url = https://one.example/simple
            https://two.example/simple
        trusted-host = one.example
        [freeze]
        timeout = 3
    """
    lines = "\n".join(line[8:] for line in text.splitlines())
    monkeypatch.setenv("PIP_CONFIG_FILE", file(tmp_path, "pip.conf", lines, here=tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@own.example/simple")
    for name in ("SSL_CERT_FILE", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CERT", "/own.pem")
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example")
    found = read_sources()
    own = "https://user:secret@own.example/simple"
    assert found.indexes == (own, "https://one.example/simple", "https://two.example/simple")
    assert found.links == (str(tmp_path), "https://example.org/wheels")
    assert dict(found.variables) == {
        "UV_DEFAULT_INDEX": own,
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": f"{tmp_path},https://example.org/wheels",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "one.example",
        "SSL_CERT_FILE": "/own.pem",
        "ALL_PROXY": "http://proxy.example",
    }
    assert not found.first_index
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    assert (read_sources().indexes, read_sources().flags) == ((), ("--no-index",))


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not installed")
def test_pip_files_match_pip():
    from conformance.execution.environments.sources import pip_settings

    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    pairs = [line.split("=", 1) for line in listed.stdout.splitlines()]
    said = {}
    for section in ("global", "install", ":env:"):
        said |= {
            name.removeprefix(f"{section}."): value[1:-1].encode().decode("unicode_escape")
            for name, value in pairs
            if name.startswith(f"{section}.")
        }
    places = ("index-url", "extra-index-url", "find-links", "no-index", "cert", "trusted-host", "proxy")
    found = pip_settings()
    assert {name: found[name] for name in places if name in found} == {
        name: said[name] for name in places if name in said
    }


def test_uv_settings_replace_pip_settings(plain, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://pip.example/extra")
    monkeypatch.setenv("UV_INDEX", "corp=https://corp.example/simple?a=b https://two.example/simple")
    found = read_sources()
    assert found.indexes == (
        "https://corp.example/simple?a=b",
        "https://two.example/simple",
        "https://pypi.org/simple",
    )
    assert not found.variables.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"}
    assert found.first_index
    monkeypatch.delenv("UV_INDEX")
    monkeypatch.delenv("UV_NO_CONFIG")
    text = """
        find-links = ["/wheels"]
        [[index]]
        url = "https://file.example/simple"
        default = true
        [[index]]
        url = "https://explicit.example/simple"
        explicit = true
        [pip]
        index-strategy = "unsafe-best-match"
    """
    monkeypatch.setenv("UV_CONFIG_FILE", file(tmp_path, "uv.toml", text))
    found = read_sources()
    assert (found.indexes, found.links) == (("https://file.example/simple",), ("/wheels",))
    assert not found.first_index
    assert "UV_DEFAULT_INDEX" not in found.variables


def test_uv_settings_of_project_are_found_from_subfolder(plain, monkeypatch, tmp_path):
    monkeypatch.delenv("UV_NO_CONFIG")
    file(tmp_path, "pyproject.toml", "[tool.uv]\nindex-url = 'https://project.example/simple'\n")
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert read_sources().indexes == ("https://project.example/simple",)


def test_index_is_part_of_request_key(plain, monkeypatch):
    before = read_sources().settings_digest
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example/simple")
    assert read_sources().settings_digest != before
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2024-01-01")
    assert (
        len(
            {
                before,
                read_sources().settings_digest,
                (monkeypatch.delenv("PIP_INDEX_URL"), read_sources().settings_digest)[1],
            }
        )
        == 3
    )


# What is built, from tiny wheels.


@needs_uv
def test_environment_has_request_and_numpy_only(links):
    made, told = heard("miniature==1.0")
    assert dict(made.packages) == {"miniature": "1.0", "helper": "2.0", "numpy": "1.0"}
    assert made.name == "miniature==1.0"
    assert made.python == running_interpreter().version
    assert told == [f"resolving for Python {made.python} ...", "installing 3 packages ..."]
    code = "import miniature, sys; print(miniature.__version__, sys.prefix != sys.base_prefix)"
    said = subprocess.run([made.interpreter, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1.0", "True"]


@needs_uv
def test_bfloat16_is_added_if_it_resolves(links):
    wheel(links, "ml_dtypes", "0.1", "numpy>=1")
    assert build(parse("miniature==1.0")).packages["ml-dtypes"] == "0.1"
    shutil.copy(links / "ml_dtypes-0.1-py3-none-any.whl", links / "keep.zip")
    (links / "ml_dtypes-0.1-py3-none-any.whl").unlink()
    wheel(links, "ml_dtypes", "0.2", "numpy>=2")
    assert "ml-dtypes" not in build(parse("miniature==2.0")).packages


@needs_uv
def test_undeclared_requirement_is_added(links, monkeypatch):
    forgetful = dataclasses.replace(MINI, extra_requirements=(("<2", "helper<2"),))
    use(monkeypatch, forgetful)
    assert build(parse("miniature==1.0")).packages["helper"] == "1.0"
    assert build(parse("miniature==2.0")).packages["helper"] == "2.0"
    assert build(parse("miniature<2")).packages["helper"] == "1.0"
    message = failure("miniature==1.0 helper==2.0")
    assert "do not fit together" in message
    assert "added were helper<2 for miniature 1.0" in message


@needs_uv
def test_additional_requirements_of_framework_are_added(links, monkeypatch):
    wheel(links, "companion", "1.0")
    wheel(links, "companion", "2.0")
    use(monkeypatch, dataclasses.replace(MINI, requirements=("miniature", "companion", "absent; sys_platform == '-'")))
    assert build(parse("miniature==1.0")).packages["companion"] == "2.0"
    assert build(parse("miniature==1.0 companion<2")).packages["companion"] == "1.0"
    monkeypatch.setattr(libraries, "pinned_releases", lambda: {"companion": "1.0"})
    assert build(parse("miniature==2.0")).packages["companion"] == "1.0"
    assert build(parse("miniature==2.0 companion==2.0")).packages["companion"] == "2.0"
    use(monkeypatch, dataclasses.replace(MINI, extra_requirements=(("", "companion=={version}"),)))
    assert build(parse("miniature==1.0")).packages["companion"] == "1.0"


@needs_uv
def test_second_build_does_not_call_uv(links, monkeypatch):
    first = build(parse("miniature==1.0"))
    monkeypatch.setattr(uv.Uv, "_run", lambda *words: pytest.fail("uv was asked"))
    began = time.perf_counter()
    assert heard("miniature==1.0") == (first, [])
    assert time.perf_counter() - began < 0.3
    renamed = dataclasses.replace(parse("miniature==1.0"), text="other", variables={"A": "1"})
    found = build(renamed)
    assert (found.name, dict(found.variables), found.interpreter) == ("other", {"A": "1"}, first.interpreter)


@needs_uv
def test_range_is_resolved_again_after_a_day(links, monkeypatch):
    assert build(parse("miniature>=1")).packages["miniature"] == "2.0"
    pinned = build(parse("miniature==2.0"))
    wheel(links, "miniature", "3.0")
    wheel(links, "helper", "3.0")
    assert build(parse("miniature>=1")).packages["miniature"] == "2.0"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 24 * 3600 + 1)
    assert build(parse("miniature>=1")).packages["miniature"] == "3.0"
    assert build(parse("miniature==2.0")) == pinned


@needs_uv
def test_stale_resolution_is_used_without_network(links, monkeypatch):
    first = build(parse("miniature>=1"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 24 * 3600 + 1)
    broken(monkeypatch, 2, "error: Failed to fetch: `https://x.example/`\n  cause: dns error")
    found, told = heard("miniature>=1")
    assert found == first
    assert "cannot be reached" in told[-1]
    assert told[-1].endswith("the versions that were resolved before are used")


def spoil(folder, how):
    site = next(folder.glob("lib/python3*/site-packages"), folder / "Lib/site-packages")
    python = next(path for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists())
    marker = folder / MARKER
    if how == "no marker":
        marker.unlink()
    elif how == "garbage":
        marker.write_bytes(b"\x00{")
    elif how == "no table":
        marker.write_text("[]")
    elif how == "another lock":
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "lock": "miniature==2.0\n"}))
    elif how == "another layout":
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "layout": LAYOUT_VERSION + 1}))
    elif how == "a package is gone":
        shutil.rmtree(site / "helper-2.0.dist-info")
    elif how == "a package more":
        (site / "more.py").touch()
    elif how == "no interpreter":
        python.unlink()
    elif how == "dead interpreter":
        python.unlink()
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)


@needs_uv
@pytest.mark.parametrize(
    "how",
    [
        "no marker",
        "garbage",
        "no table",
        "another lock",
        "another layout",
        "a package is gone",
        "a package more",
        "no interpreter",
        pytest.param(
            "dead interpreter", marks=pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")
        ),
    ],
)
def test_damaged_environment_is_rebuilt(links, how):
    first = build(parse("miniature==1.0"))
    folder = first.interpreter.parent.parent
    spoil(folder, how)
    again, told = heard("miniature==1.0")
    assert again == first
    assert any("is not whole and is made again" in line for line in told)
    assert heard("miniature==1.0") == (first, [])


@needs_uv
def test_damaged_index_is_resolved_again(links, tmp_path):
    first = build(parse("miniature==1.0"))
    for entry in (tmp_path / "cache/environments/index").iterdir():
        entry.write_text("{")
    again, told = heard("miniature==1.0")
    assert again == first
    assert told == [f"resolving for Python {first.python} ..."]


@needs_uv
def test_read_only_cache_is_replaced_by_temporary_folder(links, monkeypatch, tmp_path):
    (tmp_path / "plain").touch()
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "plain/cache"))
    made, told = heard("miniature==1.0")
    assert made.packages["miniature"] == "1.0"
    warning = next(line for line in told if "cannot be written" in line)
    assert warning.endswith("the environment is made in a temporary folder, for this run only")
    assert heard("miniature==1.0") == (made, [])


@needs_uv
def test_temporary_environment_ends_with_process(links):
    code = """
from conformance.tests.execution.test_environments import MINI, build, parse, registry
registry.frameworks = lambda: (MINI,)
print(build(parse("miniature==1.0")).interpreter, build(parse("miniature==1.0")).interpreter)
"""
    environment = {**os.environ, "CONFORMANCE_CACHE": "off"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first == second
    assert not Path(first).exists()


RACER = """
from conformance.tests.execution.test_environments import MINI, build, parse, registry
registry.frameworks = lambda: (MINI,)
lines = []
made = build(parse("miniature==1.0"), lines.append)
print(made.interpreter, sum(line.startswith("installing") for line in lines), made.packages["miniature"])
"""


@needs_uv
def test_concurrent_builds_install_once(links):
    command = [sys.executable, "-c", RACER]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert len({one[0] for one in said}) == 1
    assert sorted(one[1] for one in said) == ["0", "0", "1"]


@needs_uv
def test_waiting_build_reports_progress(links):
    expected = parse("miniature==1.0")
    folder = build(expected).interpreter.parent.parent
    (folder / MARKER).unlink()
    lines, done = [], []
    with EnvironmentStore(folder.parent).exclusive(folder.name, lines.append):
        thread = threading.Thread(target=lambda: done.append(build(expected, lines.append)))
        thread.start()
        deadline = time.monotonic() + 30
        while not any("waiting" in line for line in lines) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not done
    thread.join(60)
    assert len(done) == 1
    assert "waiting for another process that makes the same environment ..." in lines


@needs_uv
def test_local_version_from_find_links_wins(links, monkeypatch, tmp_path):
    index = tmp_path / "simple"
    plain = wheel(tmp_path, "miniature", "5.0")
    wheel(links, "miniature", "5.0+cpu")
    file(tmp_path, "simple/placeholder", "")
    file(tmp_path / "simple", "miniature/index.html", f'<a href="{plain.as_uri()}">{plain.name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    assert build(parse("miniature==5.0")).packages["miniature"] == "5.0+cpu"


@needs_uv
def test_requirements_file_uses_its_find_links(links, monkeypatch, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    wheel(folder, "miniature", "9.0")
    made = build(parse(file(tmp_path, "a.txt", "-f own\nminiature==9.0\nleft-pad==1\n")))
    assert dict(made.packages) == {"miniature": "9.0", "numpy": "1.0"}


@needs_uv
def test_wheel_for_other_python_selects_it(links, monkeypatch):
    other = next(
        (one for one in builder.other_interpreters(tool()) if one.major_minor != running_interpreter().major_minor),
        None,
    )
    if other is None:
        pytest.skip("no other Python is installed")
    major, minor = other.major_minor
    wheel(links, "miniature", "6.0", tag=f"cp{major}{minor}-none-any")
    made = build(parse("miniature==6.0"))
    assert made.python.startswith(f"{major}.{minor}.")
    chosen = build(parse(f"miniature==1.0 python=={major}.{minor}"))
    assert chosen.python.startswith(f"{major}.{minor}.")
    assert chosen.interpreter != build(parse("miniature==1.0")).interpreter


def tool():
    return uv.Uv(uv.find_program(), read_sources())


# What cannot be built.


@needs_uv
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miniature==7.0", "there is no miniature==7.0 on the package index; check the version"),
        ("miniature nothing-of-this-name", "there is no package nothing-of-this-name on the package index"),
        ("miniature==1.0 helper<1", "the requirements do not fit together"),
        ("miniature==1.0 python==3.99", "Python 3.99 is not installed, only"),
    ],
)
def test_build_error_is_one_sentence(links, text, message):
    said = failure(text)
    assert said.startswith(f"{text}: ")
    assert message in said


@needs_uv
def test_source_distributions_are_rejected(links):
    (links / "miniature-8.0.tar.gz").write_bytes(b"no archive")
    assert "there is no wheel of miniature==8.0" in failure("miniature==8.0")


@needs_uv
def test_network_failure_is_reported(plain, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert "the package index cannot be reached" in failure("miniature==1.0")
    with pytest.raises(UserError, match="the package index cannot be reached"):
        releases("miniature")


def broken(monkeypatch, status, stderr):
    """uv, as it fails."""
    result = subprocess.CompletedProcess([], status, "", stderr)
    monkeypatch.setattr(uv.Uv, "_run", lambda *words: result)


@needs_uv
@pytest.mark.parametrize(
    ("status", "stderr", "message"),
    [
        (2, "error: failed to copy a: No space left on device (os error 28)", "the disk is full; make room"),
        (-11, "", "uv crashed (signal 11): it said nothing"),
        (101, "thread 'main' panicked at src/main.rs:1:1:\nboom", "uv crashed (exit status 101)"),
        (2, "error: Failed to fetch: `https://u:p@x.example/s/`\n cause: HTTP status client error (401 Unauthorized)"
            " for url (https://u:p@x.example/s/)", "answers 401 Unauthorized for https://***@x.example/s/"),
        (2, "error: Failed to fetch: `https://u:p@x.example/s/`\n  cause: operation timed out", "***@x.example"),
        (2, "warning: noise\nerror: something\n  cause: new " + "x" * 999, "uv failed with exit status 2: ..."),
        (1, "", "uv failed with exit status 1: it said nothing"),
    ],
)  # fmt: skip
def test_uv_error_is_one_sentence(plain, monkeypatch, status, stderr, message):
    broken(monkeypatch, status, stderr)
    said = failure("miniature==1.0")
    assert message in said
    assert "u:p" not in said
    assert len(said) < 700


def test_missing_uv_error_suggests_installation(plain, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert 'pip install "cross-entropy-conformance[audit]"' in failure("miniature==1.0")


def test_unstartable_uv_error_is_one_sentence(plain, monkeypatch, tmp_path):
    (tmp_path / "uv").touch(0o755)
    monkeypatch.setattr(uv, "find_program", lambda: str(tmp_path / "uv"))
    assert "uv cannot be started" in failure("miniature==1.0")


@needs_uv
def test_failed_build_leaves_no_folder(links, monkeypatch, tmp_path):
    bad = wheel(links, "miniature", "8.0")
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr("../outside", "x")
    with zipfile.ZipFile(bad) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bad, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, b"Wheel-Version: 9.0\n" if name.endswith("/WHEEL") else data)
    failure("miniature==8.0")
    left = [path for path in (tmp_path / "cache/environments").glob("*") if path.is_dir() and path.name != "index"]
    assert left == []


def test_failure_is_picklable(plain):
    error = EnvironmentFailure(EnvironmentRequest("a  b"), "c")
    copied = pickle.loads(pickle.dumps(error))
    assert str(copied) == "a b: c"
    assert copied.request == error.request


# Releases.


def test_releases_from_folder_and_file_index(plain, monkeypatch, tmp_path):
    names = [
        "miniature-1.0-py3-none-any.whl",
        "miniature-1.10.tar.gz",
        "miniature-1.9-cp27-none-any.whl",
        "miniature-2.0rc1.tar.gz",
        "miniature-2.0.dev1.tar.gz",
        "miniature-1.9.post1.tar.gz",
        "other-9.0.tar.gz",
        "miniature-1.0.win32.exe",
    ]
    yanked = "miniature-1.5.tar.gz"
    anchors = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in names)
    page = f'<html>{anchors}<a data-yanked="broken" href="{yanked}">{yanked}</a></html>'
    (tmp_path / "simple").mkdir()
    file(tmp_path / "simple", "miniature/index.html", page)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert list(map(str, releases("Miniature"))) == ["1.0", "1.9", "1.9.post1", "1.10"]
    (tmp_path / "links").mkdir()
    wheel(tmp_path / "links", "miniature", "3.0+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    assert str(releases("miniature")[-1]) == "3.0"
    with pytest.raises(UserError, match="there is no package nothing on the package index"):
        releases("nothing")


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        expected = f"Basic {base64.b64encode(b'user:pass word').decode()}"
        status, kind, text = 404, "text/html", "nothing"
        if self.path.startswith("/closed/") and self.headers.get("Authorization") != expected:
            status = 401
        elif self.path.endswith("/miniature/"):
            status = 200
            kind = "application/vnd.pypi.simple.v1+json"
            files = [{"filename": f"miniature-{v}.tar.gz", "yanked": v == "2.0" and "bad"} for v in ("1.0", "2.0")]
            text = json.dumps({"files": files})
        elif self.path.endswith("/garbled/"):
            status, kind, text = 200, "application/vnd.pypi.simple.v1+json", "{"
        elif self.path.endswith("/down/"):
            status = 503
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *words):
        pass


def test_releases_from_json_index(plain, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/simple/")
        assert list(map(str, releases("miniature"))) == ["1.0"]
        for name, message in [("none", "no package none"), ("down", "answers 503"), ("garbled", "as PEP 691 says")]:
            with pytest.raises(UserError, match=message):
                releases(name)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{address}/closed")
        with pytest.raises(UserError, match="answers 401"):
            releases("miniature")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:pass%20word@{address}/closed")
        assert list(map(str, releases("miniature"))) == ["1.0"]
        with pytest.raises(UserError, match=r"http://\*\*\*@127"):
            releases("none")
    finally:
        server.shutdown()
        server.server_close()


# The real thing.


def test_releases_of_scikit_learn_on_the_index(online):
    listed = list(map(str, online))
    assert {"1.0.2", "1.1.3"} <= set(listed)
    assert listed.index("1.0.2") < listed.index("1.1.3")
    assert not any("rc" in one for one in listed)


@needs_uv
def test_scikit_learn_1_1_3_is_built_with_numpy(online, monkeypatch, tmp_path):
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    learn = dataclasses.replace(MINI, distributions=("scikit-learn",), extra_requirements=(("<1.4.2", "numpy<2"),))
    use(monkeypatch, learn)
    try:
        made = build(parse("scikit-learn==1.1.3"))
    except EnvironmentFailure as error:
        if "no installed Python can be used" in str(error):
            pytest.skip(str(error))
        raise
    assert made.packages["scikit-learn"] == "1.1.3"
    assert made.packages["numpy"].startswith("1.")
    assert made.python.startswith(("3.10.", "3.11."))
    code = "from sklearn.metrics import log_loss; print(log_loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]))"
    said = subprocess.run([made.interpreter, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("0.693147")
    began = time.perf_counter()
    assert heard("scikit-learn==1.1.3") == (made, [])
    assert time.perf_counter() - began < 0.3
