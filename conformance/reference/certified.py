"""Certified answers of the shipped cases, distributed with the package; computed by `conformance.judging.certify`.

The file has each distinct answer once, in the format of `oracle.encode`, and for each key the index of its answer.  A
key matches only as a whole: the problem's digest, the convention and the oracle's version.  Other answers are
computed.  A checksum over the whole file protects it against damage.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).with_name("answers.npz")
KEY_BYTES = 10
"""Number of bytes kept of the SHA-256 of a key; a collision among all keys that are ever looked up is practically
impossible."""
_ARRAYS = ("keys", "places", "lengths", "heads", "numbers", "planes", "tails")


class CertifiedAnswersWarning(UserWarning):
    """The certified answers of the package are not used; the message says why."""


class CertifiedAnswers:
    """Encoded answers by key, read from a file at the first look-up."""

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    def get(self, key: str) -> bytes | None:
        """The encoded answer of a key; None if the file has none or is damaged."""
        place = self._places.get(_digest(key))
        return None if place is None else self._answers[place]

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def _content(self) -> dict[str, npt.NDArray[Any]]:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                content = {name: file[name] for name in _ARRAYS}
                if file["checksum"].tobytes() != _checksum(content):
                    raise ValueError("its checksum does not match")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            message = "the certified answers that travel with the package are not used, and computed again"
            warnings.warn(f"{self._path}: {message}: {error}", CertifiedAnswersWarning, stacklevel=2)
            return {}
        return content

    @cached_property
    def _places(self) -> dict[bytes, int]:
        if not self._content:
            return {}
        keys, places = self._content["keys"].tobytes(), self._content["places"].tolist()
        return {keys[KEY_BYTES * i : KEY_BYTES * (i + 1)]: place for i, place in enumerate(places)}

    @cached_property
    def _answers(self) -> list[bytes]:
        content = self._content
        heads, tails = content["heads"].tobytes(), content["tails"].tobytes()
        hi, lo, rad = (part.tobytes() for part in _unshuffled(content["planes"]))
        answers, at = [], [0, 0, 0]
        for length, count in zip(content["lengths"].tolist(), content["numbers"].tolist(), strict=True):
            head, number, tail = at
            width = slice(8 * number, 8 * (number + count))
            packed = (count + 7) // 8 if heads[head : head + 1] == b"F" else 0
            answers.append(
                heads[head : head + length] + hi[width] + lo[width] + rad[width] + tails[tail : tail + packed]
            )
            at = [head + length, number + count, tail + packed]
        return answers


def write(answers: Mapping[str, bytes], path: Path = FILE) -> None:
    """Write encoded answers by key to a file."""
    distinct = sorted(set(answers.values()))
    place = {answer: number for number, answer in enumerate(distinct)}
    keys = sorted((_digest(key), place[answer]) for key, answer in answers.items())
    split = [_split(answer) for answer in distinct]
    numbers = np.concatenate([numbers for _, numbers, _ in split], axis=1)
    content = {
        "keys": _bytes(b"".join(key for key, _ in keys)),
        "places": np.array([number for _, number in keys], dtype="<u4"),
        "lengths": np.array([len(head) for head, _, _ in split], dtype="<u4"),
        "heads": _bytes(b"".join(head for head, _, _ in split)),
        "numbers": np.array([numbers.shape[1] for _, numbers, _ in split], dtype="<u4"),
        "planes": _shuffled(numbers),
        "tails": _bytes(b"".join(tail for _, _, tail in split)),
    }
    np.savez_compressed(path, checksum=_bytes(_checksum(content)), allow_pickle=False, **content)


def _split(answer: bytes) -> tuple[bytes, npt.NDArray[Any], bytes]:
    """Split an encoded answer into its head, its numbers hi, lo and rad [3, n], and its tail; see `oracle.encode`."""
    if answer[:1] not in (b"E", b"F"):
        return answer, np.zeros((3, 0), dtype="<f8"), b""
    start = 2 + 8 * answer[1]
    count = int(np.prod(np.frombuffer(answer, "<q", answer[1], 2)))
    end = start + 24 * count
    return answer[:start], np.frombuffer(answer[start:end], "<f8").reshape(3, count), answer[end:]


def _shuffled(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The bytes of float64 numbers [3, n], grouped by significance as [3, 8, n], which compresses better."""
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(3, -1, 8).transpose(0, 2, 1))


def _unshuffled(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


def _bytes(content: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()[:KEY_BYTES]


def _checksum(content: Mapping[str, npt.NDArray[Any]]) -> bytes:
    sha = hashlib.sha256()
    for name in _ARRAYS:
        sha.update(f"{name}:{content[name].dtype.str}:{content[name].shape}:".encode())
        sha.update(np.ascontiguousarray(content[name]).data)
    return sha.digest()
