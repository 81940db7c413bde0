"""A frame as JSON by column, small enough to be embedded in a page.

A column is `{"values": [...], "codes": [...]}`: its distinct values in the order of first occurrence, and
for each row the index of its value.  `codes` is null if all rows have the same value, or all values differ.
Numbers that JSON cannot express are the texts `NaN`, `Infinity` and `-Infinity`.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from conformance.judging.row import FLOATS
from conformance.model.text import printable, source_or_comment

INDEX = (
    "case", "digest", "framework", "function", "version", "environment", "device", "dtype", "reduction", "quantity",
    "status", "expected", "error", "budget", "ratio", "ulps", "convention", "explanation", "bridge", "exception",
    "warnings", "known", "where", "result_dtype", "shape", "conversion", "backend", "mode", "reason_code", "candidate",
    "known_source",
)  # fmt: skip
"""Columns for the table, its filters and the search."""
DETAIL = ("got", "want", "want_by_convention", "budgets", "call")
"""Columns that are needed when a case is opened."""
MAX_TEXT = 2400
"""Maximum number of characters of a text in the page, less if the page would get too large; `results.csv` has all."""
MAX_CALL_FACTOR = 20
"""Factor by which a reproducer may be longer; a longer one is omitted, never cut."""
MAX_BYTES = 10_000_000
"""Maximum number of bytes of the columns INDEX, and of the columns DETAIL."""
MAX_UNCOMPRESSED = 1 << 15
"""Maximum number of characters of JSON that is not compressed, so that a small page is readable."""
MAX_PIECE = 1000
"""Number of elements of a long list that are converted to JSON in one step, to bound memory."""
GZIP_LEVEL = 2
"""Level 6 saves a fifth of the bytes and takes four times as long."""

_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def pack_columns(
    results: pd.DataFrame, columns: Iterable[str], max_length: int = MAX_TEXT
) -> Iterator[tuple[str, Any]]:
    """Names and columns of a frame as builtin values; texts of more than `max_length` characters are shortened.

    A reproducer that is too long is replaced by a comment.
    """
    for name in columns:
        cut = _whole_call if name == "call" else shorten
        yield name, _column(results[name], name in FLOATS, max_length, cut)


def _whole_call(text: str, max_length: int) -> str:
    return source_or_comment(text, MAX_CALL_FACTOR * max_length)


def index_json(results: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """The columns INDEX with data on the run, as embedded JSON; see `_fit_json`."""
    return _fit_json(lambda max_length: {**about, "columns": pack_columns(results, INDEX, max_length)})


def detail_json(results: pd.DataFrame, problems: Mapping[str, str]) -> str:
    """The columns DETAIL and the text of the cases, as embedded JSON; see `_fit_json`."""
    case_ids = results["case"].unique().tolist()
    texts = {case: printable(problems[case]) for case in case_ids if case in problems}
    return _fit_json(
        lambda max_length: {
            "columns": pack_columns(results, DETAIL, max_length),
            "problems": {case: shorten(text, max_length) for case, text in texts.items()},
        }
    )


def _fit_json(make: Callable[[int], Any]) -> str:
    """A part of a page as embedded JSON, with texts shortened until it takes at most about MAX_BYTES."""
    for max_length in (MAX_TEXT, MAX_TEXT // 6, MAX_TEXT // 40):
        text = embed_json(make(max_length))
        if len(text) <= MAX_BYTES:
            break
    return text


def embed_json(value: Any) -> str:
    """JSON for a script element: ASCII, without characters that have a meaning in HTML.

    Long JSON becomes `{"gzip": base64 of the compressed text}`, and is never in memory as a whole.
    """
    pieces = _json(value)
    text = ""
    while len(text) <= MAX_UNCOMPRESSED and (piece := next(pieces, "")):
        text += piece
    if len(text) > MAX_UNCOMPRESSED:
        # No time in the header, so that equal rows give equal bytes.
        gzip = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
        compressed = [gzip.compress(piece.encode()) for piece in itertools.chain([text], pieces)]
        return f'{{"gzip": "{base64.b64encode(b"".join([*compressed, gzip.flush()])).decode()}"}}'
    return text.translate(_ESCAPES)


def _json(value: Any) -> Iterator[str]:
    """Pieces of the JSON of a value; an iterator of (name, value) pairs becomes an object."""
    items = value.items() if isinstance(value, dict) else value
    if isinstance(value, dict | Iterator):
        begin = "{"
        for name, inner in items:
            yield f"{begin}{_dumps(name)}:"
            yield from _json(inner)
            begin = ","
        yield "}" if begin == "," else "{}"
    elif isinstance(value, list) and len(value) > MAX_PIECE:
        for start in range(0, len(value), MAX_PIECE):
            yield f"{',' if start else '['}{_dumps(value[start : start + MAX_PIECE])[1:-1]}"
        yield "]"
    else:
        yield _dumps(value)


_dumps = functools.partial(json.dumps, separators=(",", ":"), allow_nan=False)


def _column(column: pd.Series, number: bool, max_length: int, cut: Callable[[str, int], str]) -> dict[str, Any]:
    codes, values = pd.factorize(column.to_numpy(dtype=float if number else object), use_na_sentinel=False)
    texts: list[Any] = values.tolist()
    if number and not np.isfinite(values).all():
        texts = [_number_or_text(value) for value in texts]
    if not number and max(map(len, texts), default=0) > max_length:
        texts = [cut(text, max_length) for text in texts]
    return {"values": texts, "codes": None if len(texts) in (1, len(column)) else codes.tolist()}


def _number_or_text(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def shorten(text: str, max_length: int) -> str:
    """The first `max_length` characters, and the number of the others."""
    return text if len(text) <= max_length else f"{text[:max_length]} … (+{len(text) - max_length})"
