"""Settings of the site, which inserts generated parts into pages: `tox run -e docs` builds it into build/docs.

Pages load nothing from elsewhere, and the site works from disk, including its search.

Sphinx reads the READMEs as they are (MyST), checks links and anchors itself, and its search works from disk. Material
for MkDocs, the other candidate, announces at each build that it ends in May 2027.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance import __version__
from conformance.docs.readme import Checkout

CHECKOUT = Checkout(Path(__file__).resolve().parents[3])

project = "Cross-entropy conformance"
author = "the contributors of cross-entropy-conformance"
release = version = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_block", "deflist"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # what is in code is to be pasted
html_theme = "pydata_sphinx_theme"
html_title = project
html_sidebars: dict[str, list[str]] = {"rosetta": [], "zh": []}  # nothing lies below them
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {
    "github_url": CHECKOUT.address,
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}


def insert_generated_parts(_: Any, __: str, source: list[str]) -> None:
    """Put the generated parts into a page as it is read."""
    source[0] = CHECKOUT.site_page(source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", insert_generated_parts)
