"""Releases of a distribution on the user's package index.

The simple index is read directly (PEP 691, else PEP 503): uv lists no releases, and `pip index versions` omits
those with wheels for other Pythons only, which a search through old releases needs.
"""

from __future__ import annotations

import base64
import json
import netrc
import ssl
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from conformance.execution.environments.sources import Sources, local_path, read_sources, redacted
from conformance.model.errors import UserError

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
TIMEOUT = 30
"""Timeout of a request to an index, in seconds."""
ABSENT_STATUSES = frozenset({403, 404, 410})
"""HTTP statuses with which an index reports a missing package; some use 403."""


def releases(distribution: str) -> list[Version]:
    """Final releases in ascending order, without yanked ones. Raises UserError (no such package, no network)."""
    name = canonicalize_name(distribution)
    settings = read_sources()
    files = [file for link in settings.links for file in _local_files(link, settings)]
    versions = {version for file, _ in files if (version := _version(file, name)) is not None}
    known = bool(versions)
    for index in settings.indexes:
        listed = _index_files(f"{index.rstrip('/')}/{name}/", settings)
        known = known or listed is not None
        versions |= {
            version for file, yanked in listed or () if not yanked and (version := _version(file, name)) is not None
        }
        if listed and settings.first_index:
            break
    if not known:
        locations = ", ".join(map(redacted, settings.indexes or settings.links)) or "no index"
        raise UserError(f"there is no package {distribution} on the package index ({locations}); check the name")
    return sorted(version for version in versions if not version.is_prerelease)


def _version(file: str, name: str) -> Version | None:
    """The public version of a wheel or sdist of the distribution; None for other files."""
    try:
        parsed = parse_wheel_filename(file)[:2] if file.endswith(".whl") else parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    return Version(parsed[1].public) if parsed[0] == name else None


def _local_files(link: str, settings: Sources) -> Iterable[tuple[str, bool]]:
    folder = local_path(link)
    if folder is not None and folder.is_dir():
        return [(path.name, False) for path in folder.iterdir()]
    return _index_files(link, settings) or ()


def _index_files(address: str, settings: Sources) -> list[tuple[str, bool]] | None:
    """(file, yanked) of a page; None if the page does not exist."""
    path = local_path(address)
    if path is not None:
        page = path / "index.html" if path.is_dir() else path
        return list(_parse_links(page.read_text(encoding="utf-8"))) if page.is_file() else None
    fetched = _fetch(address, settings)
    if fetched is None:
        return None
    text, kind = fetched
    if "json" not in kind:
        return list(_parse_links(text))
    try:
        return [(str(file["filename"]), bool(file.get("yanked"))) for file in json.loads(text)["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the package index does not answer as PEP 691 says: {redacted(address)}") from error


def _fetch(address: str, settings: Sources) -> tuple[str, str] | None:
    """(text, content type) of a page; None if the index does not have it."""
    parts = urlsplit(address)
    headers = {"Accept": ACCEPT, "User-Agent": "cross-entropy-conformance"}
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if login := _login(parts.username, parts.password, parts.hostname or ""):
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    if parts.scheme not in ("http", "https"):
        raise UserError(f"{redacted(address)} is not an address of a package index")
    try:
        request = Request(plain, headers=headers)  # noqa: S310 - http or https, checked above
        with urlopen(request, timeout=TIMEOUT, context=_ssl_context(parts.hostname or "", settings)) as answer:  # noqa: S310
            return answer.read().decode("utf-8", "replace"), answer.headers.get_content_type()
    except HTTPError as error:
        if error.code in ABSENT_STATUSES:
            return None
        raise UserError(f"the package index answers {error.code} {error.reason} for {redacted(address)}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        advice = "check the network and the index's address"
        raise UserError(f"the package index cannot be reached ({redacted(address)}: {reason}); {advice}") from error


def _login(user: str | None, password: str | None, host: str) -> str:
    """user:password for a host, from its address or from the user's netrc."""
    if user:
        return f"{unquote(user)}:{unquote(password or '')}"
    try:
        credentials = netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return ""
    return f"{credentials[0]}:{credentials[2]}" if credentials else ""


def _ssl_context(host: str, settings: Sources) -> ssl.SSLContext:
    """Verify by the user's certificates, else by the machine's; not at all for trusted hosts."""
    context = ssl.create_default_context(cafile=settings.variables.get("SSL_CERT_FILE"))
    if host in settings.trusted:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _LinkParser(HTMLParser):
    """File names of a PEP 503 page, and whether each is yanked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes: dict[str, Any] = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.found.append((unquote(Path(urlsplit(attributes["href"]).path).name), "data-yanked" in attributes))


def _parse_links(page: str) -> Iterator[tuple[str, bool]]:
    parser = _LinkParser()
    parser.feed(page)
    yield from parser.found
