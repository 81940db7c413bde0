"""The picture of the README: `python -m conformance.docs.picture [REPORT] [PNG]`, which needs Chromium.

It is the upper part of a report's page, as it is shown on a screen; without arguments of the accepted report.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from conformance.api.reports import page

BASELINE = Path("reports/baseline")
PICTURE = Path("conformance/docs/pages/_static/overview.png")
SIZE = "1280,1080"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT = 120
"""Seconds for the browser, of which it lets the page run the first 30 without waiting for them."""


def take(report: Path = BASELINE, picture: Path = PICTURE) -> None:
    """Write the picture of a report.  Raises FileNotFoundError if there is no browser, UserError for a bad report."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder, "index.html")
        page(report, max_explained=0, output=html)
        options = (f"--window-size={SIZE}", "--hide-scrollbars", "--virtual-time-budget=30000", "--lang=en-US")
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", *options,
             f"--screenshot={picture.absolute()}", f"{html.as_uri()}#lang=en"],
            check=True, timeout=TIMEOUT, stderr=subprocess.DEVNULL,
        )  # fmt: skip


if __name__ == "__main__":
    take(*map(Path, sys.argv[1:]))
