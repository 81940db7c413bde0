"""Locations of the user's packages, as uv or pip is configured.

uv reads its own settings; those of pip are passed to it. Either uv's settings or pip's are used, never a mixture, as
the order of its indexes would be arbitrary. With pip's settings pip's rule applies: all indexes have the same
priority and the best version wins (`unsafe-best-match`); otherwise an extra index with one version of numpy would hide
all others. With uv's settings uv's rule applies.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import platformdirs
import tomllib

PYPI = "https://pypi.org/simple"
UV_LOCATION_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)
UV_RULE_VARIABLES = (
    "UV_CONFIG_FILE",
    "UV_CONSTRAINT",
    "UV_EXCLUDE_NEWER",
    "UV_INDEX_STRATEGY",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_TORCH_BACKEND",
)
"""Variables of uv that name locations of packages, and those that affect the selection."""
LOCATION_OPTIONS = frozenset({"index", "index-url", "extra-index-url", "find-links", "no-index"})
"""The same in uv's files, and pip's names for it."""


@dataclass(frozen=True)
class Sources:
    """Sources of packages."""

    indexes: tuple[str, ...]
    """Simple indexes (PEP 503) in order of priority."""
    links: tuple[str, ...]
    """Folders and pages with wheels."""
    first_index: bool
    """Whether the first index that has a package hides the others."""
    variables: Mapping[str, str]
    """Environment variables for uv, in addition to the user's."""
    flags: tuple[str, ...]
    """Options for uv for which there is no variable."""
    settings_digest: str
    """Digest of all settings that affect the selection."""
    trusted: frozenset[str] = frozenset()
    """Hosts whose certificates are not verified."""
    python_downloads: str = ""
    """The setting of uv's files for downloads of Python."""


def read_sources() -> Sources:
    """The current settings."""
    settings, pip = uv_settings(), pip_settings()
    chosen = {name: os.environ[name] for name in (*UV_LOCATION_VARIABLES, *UV_RULE_VARIABLES) if os.environ.get(name)}
    uvs = bool(LOCATION_OPTIONS & settings.keys()) or any(name in chosen for name in UV_LOCATION_VARIABLES)
    relevant = {name: value for name, value in pip.items() if name in LOCATION_OPTIONS}
    settings_digest = hashlib.sha256(
        json.dumps([chosen, settings, relevant], default=str, sort_keys=True).encode()
    ).hexdigest()
    variables = _connection_settings(pip)
    trusted = frozenset(
        re.split(r"[\s,]+", os.environ.get("UV_INSECURE_HOST") or variables.get("UV_INSECURE_HOST", ""))
    )
    downloads = str(settings.get("python-downloads", ""))
    if uvs:
        indexes, links = _uv_locations(settings)
        strategy = os.environ.get("UV_INDEX_STRATEGY") or settings.get("index-strategy") or "first-index"
        return Sources(indexes, links, strategy == "first-index", variables, (), settings_digest, trusted, downloads)
    indexes, links, flags = _pip_locations(pip)
    if "index-url" in pip:
        variables["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "extra-index-url" in pip:
        variables["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
    if links:
        variables["UV_FIND_LINKS"] = ",".join(links)
    if "UV_INDEX_STRATEGY" not in chosen and "index-strategy" not in settings:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return Sources(indexes, links, False, variables, flags, settings_digest, trusted, downloads)


def redacted(text: str) -> str:
    """Text in which addresses have no passwords."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def local_path(address: str) -> Path | None:
    """The path that a file URL or a plain path denotes; None for anything else."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(unquote(address)).expanduser() if "://" not in address else None


def pip_settings() -> dict[str, str]:
    """Settings of pip from its files and from PIP_*, by the name of the option, without empty values."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in _pip_files():
        reader = configparser.RawConfigParser()
        try:
            reader.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself says what is wrong with its files
        for section, values in sections.items():
            values.update(reader.items(section) if reader.has_section(section) else ())
    prefix = "PIP_"
    settings = {**sections["global"], **sections["install"]}
    settings |= {name[len(prefix) :]: value for name, value in os.environ.items() if name.startswith(prefix)}
    return {name.lower().replace("_", "-"): value for name, value in settings.items() if value}


def uv_settings() -> dict[str, Any]:
    """Settings of uv's files merged into one table: project before user before machine, `pip.x` before `x`."""
    merged: dict[str, Any] = {}
    for path in reversed(list(_uv_files())):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # uv itself says what is wrong with its files
        if path.name == "pyproject.toml":
            table = table.get("tool", {}).get("uv", {})
        merged |= {name: value for name, value in table.items() if name != "pip"}
        merged |= table.get("pip", {})
    return merged


def _uv_locations(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tables = [table for table in settings.get("index", ()) if isinstance(table, dict) and table.get("url")]
    extra = [*_words("UV_INDEX"), *_words("UV_EXTRA_INDEX_URL")]
    extra += [table["url"] for table in tables if not table.get("default") and not table.get("explicit")]
    extra += settings.get("extra-index-url", ())
    default = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    default = default or next(
        (table["url"] for table in tables if table.get("default")), settings.get("index-url", PYPI)
    )
    links = tuple(filter(None, os.environ.get("UV_FIND_LINKS", "").split(","))) or tuple(settings.get("find-links", ()))
    addresses = [
        address.partition("=")[2] if _index_address(address) else address for address in [*extra, str(default)]
    ]
    return () if settings.get("no-index") else tuple(dict.fromkeys(addresses)), links


def _pip_locations(pip: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    places = [(link, local_path(link)) for link in pip.get("find-links", "").split()]
    links = tuple(link for link, path in places if path is None or path.exists())  # pip passes over others, uv stops
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on", "t", "y"):
        return (), links, ("--no-index",)
    return (pip.get("index-url", PYPI), *pip.get("extra-index-url", "").split()), links, ()


def _connection_settings(pip: Mapping[str, str]) -> dict[str, str]:
    """How to connect to an index: certificates, hosts, proxy and timeout, which pip knows and uv does not."""
    proxied = any(name in os.environ for name in ("ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"))
    settings = {
        "SSL_CERT_FILE": pip.get("cert"),
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "ALL_PROXY": None if proxied else pip.get("proxy"),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
    }
    return {name: value for name, value in settings.items() if value and not os.environ.get(name)}


def _pip_files() -> Iterable[Path]:
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    folders = platformdirs.PlatformDirs("pip", appauthor=False, roaming=True, multipath=True)
    yield from (Path(folder) / name for folder in folders.site_config_dir.split(os.pathsep))
    if sys.platform != "win32":
        yield Path("/etc") / name
    yield Path.home() / ("pip" if sys.platform == "win32" else ".pip") / name
    yield Path.home() / ".config" / "pip" / name
    yield Path(folders.user_config_dir) / name
    yield Path(sys.prefix) / name
    if chosen:
        yield Path(chosen)


def _uv_files() -> Iterable[Path]:
    if os.environ.get("UV_CONFIG_FILE"):
        yield Path(os.environ["UV_CONFIG_FILE"])
        return
    if os.environ.get("UV_NO_CONFIG"):
        return
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "uv.toml").is_file():
            yield folder / "uv.toml"
            break
        project = folder / "pyproject.toml"
        if project.is_file() and "[tool.uv" in project.read_text(encoding="utf-8", errors="replace"):
            yield project
            break
    if sys.platform == "win32":
        yield from (Path(os.environ[name]) / "uv/uv.toml" for name in ("APPDATA", "PROGRAMDATA") if name in os.environ)
        return
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv/uv.toml"
    shared = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    yield from (Path(folder) / "uv/uv.toml" for folder in (*shared.split(":"), "/etc"))


def _words(variable: str) -> list[str]:
    return os.environ.get(variable, "").split()


def _index_address(address: str) -> bool:
    return "=" in address and "://" not in address.partition("=")[0]
