"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkout(pytestconfig):
    """The repository, which is where pytest's settings lie; what is not installed is read from there."""
    root = pytestconfig.inipath.parent if pytestconfig.inipath else Path()
    if not (root / "README.zh-CN.md").is_file():
        pytest.skip("the READMEs are not installed, and this is not the repository")
    return root
