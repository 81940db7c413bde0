"""Create the pictures of the READMEs: `python -m conformance.docs.picture [REPORT] [FOLDER]`, which needs Chromium.

Each is a screenshot of the upper part of a report's page in one language; by default of the accepted report.  A Chinese
font must be installed, such as Noto Sans CJK.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance.api.reports import page

BASELINE = Path("reports/baseline")
FOLDER = Path("conformance/docs/pages/_static")
PICTURES = {"en": "overview.png", "zh": "overview.zh.png"}
"""File names by language."""
SIZE = (1280, 1080)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=30000",
    f"--window-size={SIZE[0]},{SIZE[1]}",
)  # fmt: skip
TIMEOUT = 120


def take_screenshots(report: Path = BASELINE, folder: Path = FOLDER) -> None:
    """Write the pictures of a report.  Raises FileNotFoundError if there is no browser, UserError for a bad report."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as temporary:
        html = Path(temporary, "index.html")
        page(report, max_explained=0, output=html)
        for language, name in PICTURES.items():
            files = (f"--user-data-dir={temporary}/profile", f"--screenshot={(folder / name).absolute()}")
            subprocess.run(  # noqa: S603
                [browser, *OPTIONS, *files, f"{html.as_uri()}#lang={language}"],
                check=True,
                timeout=TIMEOUT,
                stderr=subprocess.DEVNULL,
            )


if __name__ == "__main__":
    take_screenshots(*map(Path, sys.argv[1:]))
