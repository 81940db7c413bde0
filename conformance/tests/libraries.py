"""Libraries that tests make, each with an adapter and an entry point, as a distribution elsewhere has them."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.adapters import registry
from conformance.adapters.registry import Installed


def write_metadata(site: Path, name: str, version: str = "1.0", adapter: str = "") -> Path:
    """Write the metadata of a distribution into a folder on the path of Python, and return their folder.

    adapter: module that defines `FRAMEWORK`, for which an entry point is written; "" for none.
    """
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if adapter:
        (folder / "entry_points.txt").write_text(f"[conformance.adapters]\n{name} = {adapter}:FRAMEWORK\n")
    return folder


def write_library(folder: Path, name: str, library: str, adapter: str, cases: str) -> Path:
    """Write a library with its adapter into `packages` below a folder, and case files into `cases`; return the folder.

    library, adapter, cases: content of `NAME_library.py`, `NAME_adapter.py` and of one case file.
    """
    packages = folder / "packages"
    write_metadata(packages, name, adapter=f"{name}_adapter")
    (packages / f"{name}_library.py").write_text(library)
    (packages / f"{name}_adapter.py").write_text(adapter)
    (folder / "cases").mkdir()
    (folder / "cases" / "rows.yaml").write_text(cases)
    return folder


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Environment variables of a process that finds the library in a folder and no cached answers."""
    return {**os.environ, "PYTHONPATH": str(folder / "packages"), "CONFORMANCE_CACHE": "off", **variables}


def libraries_under_test() -> list[Installed]:
    """The installed frameworks that tests are about: those of a run, and in an environment for one library all."""
    return registry.installed(registry.frameworks() if "CONFORMANCE_LIBRARIES" in os.environ else None)[0]
