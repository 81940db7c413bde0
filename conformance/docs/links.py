"""Check the links of a built site."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED_ATTRIBUTES = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "use": "href"}
"""Attributes with the URL of a resource that a browser loads, by element."""
NOT_LOADED_RELATIONS = frozenset({"canonical", "next", "prev", "search", "index", "author"})
"""Relations of a `link` element that load nothing."""


class Page(HTMLParser):
    """Collects the ids, links and resources of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each element."""
        named = {name: value or "" for name, value in attrs}
        self.ids |= {named[name] for name in ("id", "name") if named.get(name)}
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        elif LOADED_ATTRIBUTES.get(tag, "") in named and named.get("rel", "") not in NOT_LOADED_RELATIONS:
            self.resources.append(named[LOADED_ATTRIBUTES[tag]])


def dead_links(folder: Path) -> Iterator[str]:
    """The faulty links below a folder, as `page: link: reason`."""

    @functools.cache
    def page(file: Path) -> Page:
        return Page(file.read_text(encoding="utf-8"))

    for file in sorted(folder.rglob("*.html")):
        where = file.relative_to(folder)
        if where.parts[0] == "_static":
            continue  # templates of the theme
        for address in page(file).resources:
            if urlsplit(address).scheme not in ("", "data") or urlsplit(address).netloc:
                yield f"{where}: {address}: a page loads from elsewhere"
        local = [address for address in page(file).resources if not urlsplit(address).netloc]
        for address in dict.fromkeys([*page(file).links, *local]):
            if why := _fault(file, address, page):
                yield f"{where}: {address}: {why}"


def _fault(file: Path, address: str, page: Callable[[Path], Page]) -> str:
    """The fault of a link on a page; "" if there is none."""
    found = urlsplit(address)
    if found.scheme in ("http", "https"):
        malformed = "." not in found.netloc or any(character in address for character in " <>\"'{}|\\^`")
        return "not a well-formed address" if malformed else ""
    if found.scheme == "data":
        return ""
    if found.scheme or found.netloc:
        return "not http(s)"
    target = (file.parent / unquote(found.path)).resolve() if found.path else file
    if not target.is_file():
        return "there is no such file"
    if found.fragment and target.suffix == ".html" and unquote(found.fragment) not in page(target).ids:
        return "there is no such place on that page"
    return ""
