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
        attributes = {name: value or "" for name, value in attrs}
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif LOADED_ATTRIBUTES.get(tag, "") in attributes and attributes.get("rel", "") not in NOT_LOADED_RELATIONS:
            self.resources.append(attributes[LOADED_ATTRIBUTES[tag]])


def dead_links(folder: Path) -> Iterator[str]:
    """The faulty links below a folder, as `page: link: reason`."""

    @functools.cache
    def page(file: Path) -> Page:
        return Page(file.read_text(encoding="utf-8"))

    for file in sorted(folder.rglob("*.html")):
        relative_path = file.relative_to(folder)
        if relative_path.parts[0] == "_static":
            continue  # templates of the theme
        for address in page(file).resources:
            if urlsplit(address).scheme not in ("", "data") or urlsplit(address).netloc:
                yield f"{relative_path}: {address}: a page loads from elsewhere"
        local = [address for address in page(file).resources if not urlsplit(address).netloc]
        for address in dict.fromkeys([*page(file).links, *local]):
            if why := _fault(file, address, page):
                yield f"{relative_path}: {address}: {why}"


def _fault(file: Path, address: str, page: Callable[[Path], Page]) -> str:
    """The fault of a link on a page; "" if there is none."""
    url = urlsplit(address)
    if url.scheme in ("http", "https"):
        malformed = "." not in url.netloc or any(character in address for character in " <>\"'{}|\\^`")
        return "not a well-formed address" if malformed else ""
    if url.scheme == "data":
        return ""
    if url.scheme or url.netloc:
        return "not http(s)"
    target = (file.parent / unquote(url.path)).resolve() if url.path else file
    if not target.is_file():
        return "there is no such file"
    if url.fragment and target.suffix == ".html" and unquote(url.fragment) not in page(target).ids:
        return "there is no such place on that page"
    return ""
