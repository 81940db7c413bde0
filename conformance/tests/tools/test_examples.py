"""Every command in the documentation is run, in a folder with what its page sets up, and prints what the page shows.

What would take minutes is executed over a small selection; what cannot be executed here is parsed at least.
"""

from __future__ import annotations

import collections
import configparser
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomllib

from conformance.adapters import registry
from conformance.docs.commands import NAME, commands
from conformance.tests.examples import MARKS, PAGES, Block, blocks, matches
from conformance.tests.fork_server import interpreter
from conformance.tests.indexes import INDEX_ANSWERS

FILES = sorted(str(file.relative_to(PAGES)) for file in PAGES.rglob("*.md"))
KERNEL = """\
import torch


def cross_entropy(logits, labels):
    log_p = torch.log_softmax(logits, dim=1)
    return -log_p.gather(1, labels[:, None]).mean()
"""
SHOWN = ("sklearn", "keras", "torch")
MISSING = [framework.name for framework in registry.installed()[1] if framework.name in SHOWN]
NOT_RUN = {"ci": 2, "device": 1}
"""How many blocks are not executed, by their marks: a new one is counted here, so that it is looked at."""

needs_bash = pytest.mark.skipif(os.name == "nt", reason="examples are said to a shell of Unix")


def page_called(name):
    return (PAGES / name).read_text(encoding="utf-8")


def pages(checkout):
    """Every page that people write, by name."""
    found = {name: page_called(name) for name in FILES}
    return {**found, "README.md": (checkout / "README.md").read_text(encoding="utf-8")}


class Folder:
    """The folder that the examples of one page are run in.  statuses: what a command may exit with."""

    def __init__(self, path, statuses=(0,)):
        self.path = path
        self.statuses = statuses
        known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
        scripts = path.with_name(f"{path.name}-scripts")
        scripts.mkdir(exist_ok=True)
        interpreter().write_scripts(scripts)
        self.environment = {
            **known,
            "PATH": os.pathsep.join([str(scripts), str(Path(sys.executable).parent), known.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(path), known.get("PYTHONPATH", "")])),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        self.environment.pop("FORCE_COLOR", None)

    def do(self, block):
        if block.file:
            file = self.path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            self.run([sys.executable, "-c", block.body], block, "")
        else:
            for step in block.steps():
                if step.command.startswith("pip install"):
                    self.install(step.command)
                else:
                    self.run(["bash", "-c", block.command(step)], block, step.printed)

    def run(self, command, block, shown):
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )
        told = f"line {block.line}: {command[-1]}\n{done.stdout}\n{done.stderr}"
        assert done.returncode in self.statuses, told
        assert "Traceback" not in done.stderr, told
        assert not shown or matches(shown, done.stdout), f"{told}\nis not what is shown:\n{shown}"

    def install(self, command):
        """What pip would install, as far as it is asked for here: this package is there, and so is what it runs on."""
        if shlex.split(command) != ["pip", "install", "-e", "."]:
            return
        project = tomllib.loads((self.path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        folder = self.path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
        points = configparser.ConfigParser()
        points.read_dict(project["entry-points"])
        with (folder / "entry_points.txt").open("w", encoding="utf-8") as file:
            points.write(file)


def run_page(page, folder):
    """Run the blocks of a page; Python that only other text stands between is one program."""
    left_out = {*NOT_RUN} if INDEX_ANSWERS else {*NOT_RUN, "index"}
    program = None
    found = blocks(page)
    for block in [*found, None]:
        if block is not None and block.mark in left_out:
            continue
        if block is not None and block.language == "python" and not block.file:
            program = block if program is None else dataclasses.replace(program, body=program.body + block.body)
            continue
        if program is not None:
            folder.do(program)
            program = None
        if block is not None:
            folder.do(block)
    if not INDEX_ANSWERS and any(block.mark == "index" for block in found):
        pytest.skip("blocks that need the package index, which cannot be reached")


@needs_bash
@pytest.mark.skipif(bool(MISSING), reason=f"pages show {', '.join(SHOWN)}; not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("name", [name for name in FILES if blocks(page_called(name))])
def test_page_commands_print_shown_output(name, tmp_path):
    run_page(page_called(name), Folder(tmp_path))


@needs_bash
@pytest.mark.skipif(bool(MISSING), reason=f"pages show {', '.join(SHOWN)}; not installed: {', '.join(MISSING)}")
def test_readme_commands_print_shown_output(checkout, tmp_path):
    arrays = {"labels": np.array([0, 2, 1]), "logits": np.random.default_rng(0).normal(size=(3, 3))}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "kernels.py").write_text(KERNEL, encoding="utf-8")
    for folder, version in (("old", "1.6.1"), ("new", "1.7.2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text(f"scikit-learn=={version}\n", encoding="utf-8")
    shutil.copytree(checkout / "reports" / "baseline", tmp_path / "reports" / "baseline")
    run_page(pages(checkout)["README.md"], Folder(tmp_path))


def test_unexecuted_blocks_are_counted(checkout):
    found = collections.Counter(block.mark for page in pages(checkout).values() for block in blocks(page))
    assert {mark: found[mark] for mark in NOT_RUN} == NOT_RUN
    assert {*found} <= {"", *MARKS}


def every_command(checkout):
    """(page, block, command) of every command line on every page."""
    for name, page in pages(checkout).items():
        for block in blocks(page):
            if not block.file and block.language != "python":
                yield from ((name, block, step.command) for step in block.steps())


def test_documented_commands_and_options_exist(checkout):
    known = dict(commands())
    seen = set()
    for name, block, line in every_command(checkout):
        for words in simple_commands(line):
            if words[0] != NAME:
                continue
            path = tuple(words[1:3]) if tuple(words[1:3]) in known else tuple(words[1:2])
            assert path in known, (name, block.line, line)
            known[path].make_context(line, words[1 + len(path) :])  # a wrong option is a usage error here
            seen.add(path)
    assert seen >= {("run",), ("show",), ("lint",), ("list", "functions"), ("audit",), ("merge",), ("accept",)}


def test_option_check_rejects_unknown_option():
    [command] = [command for words, command in commands() if words == ("run",)]
    with pytest.raises(Exception, match="--no-such-option"):
        command.make_context("run", ["--no-such-option"])


def simple_commands(line):
    """The words of each command of a line."""
    words = shlex.split(line, comments=True)
    found = [[]]
    for word in words:
        if word in ("|", "&&", "||") or word.endswith(";"):
            found[-1] += [word[:-1]] if word.endswith(";") and word != ";" else []
            found.append([])
        else:
            found[-1].append(word)
    return [one for one in found if one]


def test_documented_pytest_options_exist(checkout):
    told = {
        word.partition("=")[0]
        for _, _, line in every_command(checkout)
        for words in simple_commands(line)
        if words[0] == "pytest"
        for word in words
        if word.startswith("--")
    }
    asked = [sys.executable, "-m", "pytest", "--help"]
    helped = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=PAGES)
    assert told >= {"--cases", "--report"}
    assert told <= set(re.findall(r"--[a-z-]+", helped.stdout))


def test_documented_extras_exist(checkout):
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [line for _, _, line in every_command(checkout) if line.startswith("pip install")]
    extras = {extra for line in lines for found in re.findall(r"\[([\w,]+)\]", line) for extra in found.split(",")}
    assert extras >= {"audit", "sklearn"}
    assert extras <= set(project["optional-dependencies"])


def test_documented_tox_environments_exist(checkout):
    script = (checkout / ".ci" / "run").read_text(encoding="utf-8")
    text = [line for _, block, line in every_command(checkout) if block.mark == "ci" and line.startswith("tox")]
    assert text
    for line in text:
        words = shlex.split(line, comments=True)
        assert re.search(rf"^step {re.escape(' '.join(words[1:]))}( --.*)?$", script, re.MULTILINE), line


PAGE = """\
`a/b.txt`:

```text
hello
```

```console
$ cat a/b.txt
hello
$ echo one; echo two; echo three
...
three
```

```python
open("made.txt", "w").write("x")
```

<!-- example: long --number 3 -->
```console
$ echo --number 20 here --number 10    # there
here --number 3
```
"""


@needs_bash
def test_page_is_run_in_order_in_one_folder(tmp_path):
    run_page(PAGE, Folder(tmp_path))
    assert (tmp_path / "made.txt").read_text() == "x"
    with pytest.raises(AssertionError, match="line 20"):
        run_page(PAGE.replace("\nhere", "\nthere"), Folder(tmp_path))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\n", "a  \n\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n...\n", "a\nb\n", True),
        ("...\nb\n", "a\nb\nc\n", False),
        ("took ... s\n", "took 3.1 s\n", True),
        ("took ... s\n", "took 3.1 ms\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_matches_compares_output_with_wildcards(shown, printed, same):
    assert matches(shown, printed) is same


def test_blocks_reject_unknown_mark():
    with pytest.raises(ValueError, match="there is no mark 'sometimes'"):
        blocks("<!-- example: sometimes -->\n```console\n$ true\n```\n")


def test_steps_reject_output_without_command():
    with pytest.raises(ValueError, match="begins with a command"):
        list(Block(1, "console", "hello\n$ true\n").steps())
