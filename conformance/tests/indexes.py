"""Whether the user's package index answers."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from conformance.execution.environments.sources import PYPI, local_path, read_sources

SETTINGS = read_sources()


def _answers():
    for address in SETTINGS.indexes or (PYPI,):
        if local_path(address) is None:
            try:
                urllib.request.urlopen(f"{address.rstrip('/')}/numpy/", timeout=10).close()
            except urllib.error.HTTPError:
                continue
            except OSError:
                return False
    return True


INDEX_ANSWERS = _answers()
needs_index = pytest.mark.skipif(not INDEX_ANSWERS, reason="the package index cannot be reached")
