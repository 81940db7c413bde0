"""The READMEs as pages, with links to files of the repository made absolute."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

PAGES = {"README.md": "index.md", "README.zh-CN.md": "zh.md"}
"""By its name in the repository: the page that it is."""
_LINK = re.compile(r"(?<=\]\()(?!https?://|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def to_page(text: str, source: str) -> str:
    """A README as a page.  source: the address that paths of the repository follow, to read them."""

    def leading(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        if path in PAGES:
            return f"{PAGES[path]}{anchor}"
        if path.startswith("conformance/docs/pages/"):
            return f"{PurePosixPath(path).relative_to('conformance/docs/pages')}{anchor}"
        return f"{source}/{path}{anchor}"

    return _LINK.sub(leading, text)


__all__ = ["PAGES", "to_page"]
