"""Files that pin versions: requirements.txt, `pip freeze`, pylock.toml, uv.lock, poetry.lock."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tomllib
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from conformance.execution.environments.sources import PYPI
from conformance.model.errors import UserError
from conformance.model.files import read_regular
from conformance.model.text import one_line, printable, truncate_and_count

INDEX_OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-index": "--no-index",
}
"""Options of a requirements file that name locations of packages, with their long names."""
MAX_BYTES = 1 << 26
"""Maximum size of a file that is read."""
MAX_LINE = 10_000
"""Maximum number of characters of a line, without its hashes."""
MAX_QUOTED = 200
"""Maximum number of characters of a line that a message quotes."""
_log = logging.getLogger(__name__)
NON_RELEASE_SOURCES = ("git", "vcs", "path", "directory", "editable", "virtual")
"""Kinds of sources that are not releases."""


@dataclass
class ParsedFile:
    """The content of a file."""

    requirements: list[Requirement] = field(default_factory=list)
    options_lines: list[str] = field(default_factory=list)
    """Lines of options for uv."""
    options_by_package: dict[str, str] = field(default_factory=dict)
    """Lines of options that a single package needs, by its name."""

    def options(self, requirements: Iterable[Requirement]) -> list[str]:
        """The lines of options that apply to some requirements."""
        needed = [self.options_by_package.get(canonicalize_name(requirement.name), "") for requirement in requirements]
        return list(dict.fromkeys(filter(None, [*self.options_lines, *needed])))


def read(path: Path) -> ParsedFile:
    """The pins of a file. Raises UserError with file and line if possible."""
    if path.suffix in (".toml", ".lock"):
        try:
            return _read_lock(path)
        except (TypeError, AttributeError, ValueError) as error:
            problem = f"its list of packages is malformed ({type(error).__name__})"
            raise UserError(f"{path} is not a supported lock file: {problem}") from error
    file = ParsedFile()
    limits: list[Requirement] = []
    _requirements(path, file, limits, ())
    names = {canonicalize_name(requirement.name) for requirement in file.requirements}
    file.requirements += [requirement for requirement in limits if canonicalize_name(requirement.name) in names]
    return file


# requirements.txt and `pip freeze`.


def _requirements(path: Path, file: ParsedFile, limits: list[Requirement], including: tuple[Path, ...]) -> None:
    """Read a file and those it includes; constraints are collected in `limits`."""
    if path.resolve() in including:
        raise UserError(f"{path} includes itself")
    for number, line in _lines(_text(path)):
        location = f"{path}:{number}"
        option, value = _option(line)
        if option in ("-r", "--requirement", "-c", "--constraint"):
            included = path.parent / value
            into = (
                ParsedFile(options_lines=file.options_lines, requirements=limits)
                if option in ("-c", "--constraint")
                else file
            )
            if not included.is_file():
                raise UserError(f"{location}: there is no file {included}")
            _requirements(included, into, limits, (*including, path.resolve()))
        elif option in INDEX_OPTIONS:
            file.options_lines.append(f"{INDEX_OPTIONS[option]} {_absolute(value, path.parent)}".strip())
        elif not option:
            file.requirements += _parse_requirement(line, location)


def _option(line: str) -> tuple[str, str]:
    """(name, value) of an option in any notation, `-r x`, `-rx`, `--name x` or `--name=x`; ("", "") if it is none."""
    match = re.match(r"(--[\w-]+|-[a-z])(?:[=\s]\s*)?(.*)", line)
    return (match[1], match[2]) if match else ("", "")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that are not blank: continued lines joined, comments and hashes removed."""
    pending, began = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        began = began or number
        pending += re.sub(r"(^|\s)#.*$", "", raw)
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        line = re.sub(r"\s--(hash|config-settings?|global-option)[=\s]\S+", "", pending).strip()
        if line:
            yield began, line
        pending, began = "", 0
    if pending.strip():
        yield began, pending.strip()


def _parse_requirement(line: str, location: str) -> Iterable[Requirement]:
    """The requirement in a line; None for a folder or a checkout, which is not a release."""
    if len(line) > MAX_LINE:
        raise UserError(f"{location}: a line of {len(line)} characters; a requirement has no more than {MAX_LINE}")
    address = line.split(";")[0].strip()
    if address.endswith(".whl") and not re.search(r"\s@\s|^[\w.-]+@", address):
        return [_wheel_requirement(address, location)]
    try:
        return [Requirement(line)]
    except InvalidRequirement as error:
        if "/" in address or os.sep in address or address.startswith("."):
            return []
        line, why = (truncate_and_count(text, MAX_QUOTED) for text in (line, str(error).splitlines()[0]))
        raise UserError(f"{location}: {line!r} is not a requirement: {why}") from error


def _wheel_requirement(address: str, location: str) -> Requirement:
    """The requirement that the path or URL of a wheel denotes."""
    try:
        name = parse_wheel_filename(unquote(address).rsplit("/", 1)[-1])[0]
    except InvalidWheelFilename as error:
        raise UserError(f"{location}: {one_line(error, MAX_QUOTED)}") from error
    return Requirement(f"{name} @ {address if '://' in address else Path(address).absolute().as_uri()}")


def _absolute(value: str, folder: Path) -> str:
    """An absolute path; relative paths are relative to the folder of the file."""
    return str((folder / value).absolute()) if value and "://" not in value and "$" not in value else value


@functools.cache
def _warn_about_hashes(path: Path) -> None:
    """Log, once, which information of a file is not used."""
    _log.warning(
        "%s: versions are taken from it; its hashes are not checked, and wheels come from your package index, not from "
        "the addresses in it, except that of a requirement `name @ address`",
        printable(str(path)),
    )


def _text(path: Path) -> str:
    try:
        content = read_regular(path, MAX_BYTES)
        if re.search(rb"--hash[=\s]|\bsha(256|384|512)\b", content):
            _warn_about_hashes(path)
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # PowerShell's redirection
        return content.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; save it as UTF-8") from error


# pylock.toml, uv.lock, poetry.lock: a table for each package.


def _read_lock(path: Path) -> ParsedFile:
    try:
        content = tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is no TOML file: {one_line(error, MAX_QUOTED)}") from error
    packages = content.get("packages", content.get("package"))
    if not isinstance(packages, list) or not all(
        isinstance(package, dict) and "name" in package for package in packages
    ):
        raise UserError(f"{path} is not a supported lock file; supported: pylock.toml, uv.lock and poetry.lock")
    file = ParsedFile()
    for package in packages:
        source = package.get("source", {})
        registry = source.get("registry") or package.get("index") or ""
        if source.get("type") == "legacy":
            registry = source.get("url", "")
        if isinstance(registry, str) and "://" in registry and not registry.startswith(PYPI):
            file.options_by_package[canonicalize_name(package["name"])] = f"--extra-index-url {registry}"
        if (requirement := _pinned_requirement(package, source, path)) is not None:
            file.requirements.append(requirement)
    return file


def _pinned_requirement(package: Mapping[str, Any], source: Mapping[str, Any], path: Path) -> Requirement | None:
    """The pin of a package's table; None if it is not a release."""
    archive = package.get("archive", {}).get("url") or ("type" not in source and source.get("url"))
    if archive:
        return Requirement(f"{package['name']} @ {archive}")
    is_not_release = any(kind in source or kind in package for kind in NON_RELEASE_SOURCES) or source.get("type") in (
        "git",
        "directory",
    )
    if is_not_release or "version" not in package:
        return None
    marker = _marker(package)
    try:
        return Requirement(f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else ""))
    except InvalidRequirement as error:
        name, version, why = (one_line(text, MAX_QUOTED) for text in (package["name"], package["version"], error))
        raise UserError(f"{path}: {name} {version} cannot be read: {why}") from error


def _marker(package: Mapping[str, Any]) -> str:
    """The marker of a pin; "" if it holds everywhere or is restricted to extras and groups of the project."""
    stated = package.get("resolution-markers") or package.get("marker") or package.get("markers") or []
    alternatives: Sequence[str] = (
        [stated] if isinstance(stated, str) else list(stated) if isinstance(stated, list) else []
    )
    text = " or ".join(f"({alternative})" for alternative in alternatives)
    if not text or re.search(r"\bextras?\b|dependency_groups", text):
        return ""
    try:
        return str(Marker(text))
    except InvalidMarker:
        return ""
