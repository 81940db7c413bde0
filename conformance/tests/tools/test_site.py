"""The site that `tox run -e docs` has built, and what is a dead link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.tests import links
from conformance.tests.examples import PAGES


@pytest.fixture(scope="module")
def built():
    """The folder of the site."""
    if "CONFORMANCE_SITE" not in os.environ:
        pytest.skip("`tox run -e docs` builds the site and tests it")
    return Path(os.environ["CONFORMANCE_SITE"])


def test_site_has_every_page_and_no_dead_link(built):
    written = {file.relative_to(built).with_suffix("") for file in built.rglob("*.html")}
    assert written >= {file.relative_to(PAGES).with_suffix("") for file in PAGES.rglob("*.md")}
    assert list(links.dead_links(built)) == []


def test_site_has_no_unfilled_part(built):
    for file in built.rglob("*.html"):
        assert "<!-- generated:" not in file.read_text(encoding="utf-8"), file


def test_site_search_works_without_a_server(built):
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    assert "renormalis" in index
    assert "bcewithlogitsloss" in index


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ('<a href="other.html">', "there is no such file"),
        ('<a href="#there">', "there is no such place"),
        ('<a href="index.html#there">', "there is no such place"),
        ('<a href="javascript:alert(1)">', "not http"),
        ('<a href="http://nowhere">', "not a well-formed address"),
        ('<script src="https://cdn.example/x.js">', "loads from elsewhere"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "loads from elsewhere"),
        ('<a href="#here">', ""),
        ('<a href="https://example.org/a#b">', ""),
        ('<link rel="canonical" href="https://example.org/">', ""),
    ],
)
def test_dead_links_finds_faulty_addresses(tmp_path, page, why):
    (tmp_path / "index.html").write_text(f'<p id="here">{page}', encoding="utf-8")
    found = list(links.dead_links(tmp_path))
    assert len(found) == bool(why)
    assert all(why in one for one in found)
