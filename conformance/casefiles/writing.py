"""Write case files; `loading` parses them to the same cases with the same digests.

Numbers have the fewest digits that parse to the same float64, including -0.0 and infinities; every nan is `.nan`.
Fields with their default value are omitted.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np

from conformance.casefiles.document import (
    MAX_BYTES,
    display_path,
    id_prefix_errors,
    is_plain_text,
    name_errors,
    number_text,
    schema_line,
    schema_of,
)
from conformance.casefiles.generated_arrays import LATER, ArrayRecipe, GeneratedCase, yaml_quoted_digest
from conformance.casefiles.loading import SCHEMA
from conformance.casefiles.validation import other_class_axis
from conformance.model.case import (
    DEFAULT_DTYPES,
    Array,
    ByOracle,
    Case,
    Digits,
    Layout,
    MustRaise,
    NoRightAnswer,
    Options,
    Published,
)
from conformance.model.errors import UserError
from conformance.model.files import write_atomically

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z](?:[\w .,;()/=<>+*^|'`-]|:(?=\S)|(?<=\S)#)*(?<! )")
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z][\w ./=<>+*^-]*(?<! )")
"""Text that needs no quotes, unless it is a word with a meaning in YAML."""


class WritingError(UserError):
    """A case file cannot be written; the message says which and why."""


def case_file_text(cases: Sequence[Case], file: Path | None = None) -> str:
    """The text of a case file with cases that share `about`, `loss`, `given` and `target`, and differ in name."""
    first = cases[0]
    shared = _shared_values(first)
    for case in cases:
        for name, text in _shared_values(case).items():
            if text != shared[name]:
                raise WritingError(f"{case.id} and {first.id} differ in {name}, so they need a file each")
    lines = [schema_line(file, SCHEMA)]
    lines += _entry("about", first.about) + _entry("source", first.source)
    lines += [f"{name}: {shared[name]}" for name in ("loss", "given", "target")]
    lines.append("cases:")
    blocks = [[f"  {case_name(case)}:", *(f"    {line}" for line in _case(case, first.source))] for case in cases]
    for index, block in enumerate(blocks):
        lines += ["", *block] if index else block
    return "\n".join(lines) + "\n"


def _shared_values(case: Case) -> dict[str, str]:
    return {"about": case.about, "loss": case.loss, "given": case.input_kind, "target": _target(case)}


def _target(case: Case) -> str:
    return case.written_target or case.target


def save(cases: Sequence[Case], folder: Path) -> Path:
    """Write the file named by the cases' ids below a folder, atomically, and return its path."""
    prefixes = {case.id.rpartition("/")[0] for case in cases}
    if len(prefixes) != 1 or "" in prefixes:
        raise WritingError(f"the cases {', '.join(case.id for case in cases)} do not belong into one file")
    id_prefix = prefixes.pop()
    schema = schema_of(SCHEMA)
    for message, advice in (
        *id_prefix_errors(schema, id_prefix),
        *(error for case in cases for error in name_errors(schema, case_name(case))),
    ):
        raise WritingError(f"{id_prefix}: {message}; {advice}")
    path = folder / f"{id_prefix}.yaml"
    return save_text(case_file_text(cases, path), path)


def save_text(text: str, path: Path) -> Path:
    """Write the text of a case file atomically; see `save`."""
    content = text.encode()
    if len(content) > MAX_BYTES:
        raise WritingError(
            f"{display_path(path)}: {len(content)} bytes are more than a case file may have, {MAX_BYTES}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, overwrite=False)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.is_file():
            if path.read_bytes() == content:
                return path
            raise WritingError(f"{display_path(path)} is there and says something else; name another folder") from None
        raise WritingError(f"{display_path(path)} cannot be written: {error.strerror}; name another folder") from error
    return path


def case_name(case: Case) -> str:
    """The last part of a case's id."""
    return case.id.rpartition("/")[2]


# One case, line by line


def _input(case: Case) -> Iterator[str]:
    """Predictions, labels and options, or the recipe that generates them."""
    if isinstance(case, GeneratedCase):
        yield f"generate: {_flow(_recipe(case.recipe, _target(case), case.expected_digest))}"
        yield from _class_names(case.layout)
        yield from _options(case.explicit_options)
        return
    if case.predictions.size:
        yield from _array("predictions", case.predictions)
    else:
        yield "predictions: []"
        yield f"shape: {_flow(list(case.predictions.shape))}"
    yield from _array("labels", case.layout.name_labels(case.labels)) if case.labels.size else ["labels: []"]
    yield from _class_names(case.layout)
    yield from _options(case.options)


def _class_names(layout: Layout) -> list[str]:
    return [f"classes: {_flow(list(layout.class_names))}"] if layout.class_names else []


def _case(case: Case, source: str) -> Iterator[str]:
    yield from _entry("why", case.why)
    if case.source != source:
        yield from _entry("source", case.source)
    yield from _input(case)
    if case.reductions != ("mean",):
        yield f"reduction: {_scalar_or_list(case.reductions)}"
    if case.dtypes != DEFAULT_DTYPES:
        yield f"dtypes: {_scalar_or_list(case.dtypes)}"
    open_axis = not isinstance(case, GeneratedCase) and other_class_axis(case) is not None
    if layout := ({"written_class_axis": -1} if open_axis else {}) | _layout(case.layout):
        yield f"layout: {_flow(layout)}"
    yield from _expect(case)
    if case.no_gradient:
        yield f"gradient: {{asked: false, why: {_text(case.no_gradient, flow=True)}}}"
    if case.published:
        yield "published:"
        for number in case.published:
            for index, line in enumerate(_published_lines(number, case.published_value(number))):
                yield f"{'  ' if index else '- '}{line}"


def _options(options: Options) -> Iterator[str]:
    values = {name: getattr(options, name) for name in options.names()}
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.size == 0 and value.ndim > 1:
            raise WritingError(f"{name} of shape {list(value.shape)} cannot be written: an empty list shows one axis")
    if not values:
        return
    line = f"options: {_flow(values)}"
    if len(line) <= WIDTH - 4:
        yield line
        return
    yield "options:"
    for name, value in values.items():
        yield f"  {name}: {_flow(value)}"


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        field.name: value
        for field in dataclasses.fields(layout)
        if field.name not in ("class_names", "other_names")  # written next to the labels
        and (value := getattr(layout, field.name)) != field.default
    }


def _expect(case: Case) -> Iterator[str]:
    match case.expect:
        case ByOracle():
            pass
        case Digits(values):
            yield "expect:"
            yield "  value:"
            for reduction, exact in values.items():
                yield f"    {reduction}: {_flow(exact, quoted=True)}"
        case MustRaise(kind):
            yield f"expect: {{error: {kind}}}"
        case NoRightAnswer(why):
            yield f"expect: {{undefined: {_text(why, flow=True)}}}"
        case _:
            assert_never(case.expect)


def _published_lines(number: Published, value: Any) -> Iterator[str]:
    yield f"value: {_flow(value, quoted=True)}"
    if number.source:
        yield f"source: {_text(number.source)}"
    if number.note:
        yield f"note: {_text(number.note)}"
    yield f"reduction: {number.reduction}"
    if number.quantity != "loss":
        yield f"quantity: {number.quantity}"


def _recipe(recipe: ArrayRecipe, target: str, digest: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"seed": recipe.seed}
    fields |= {"samples": recipe.shape[0]} if len(recipe.shape) == 1 else {"shape": list(recipe.shape)}
    if recipe.loss == "categorical":
        fields["classes"] = recipe.classes
    if recipe.target != "index" and recipe.soft != (target == "distribution"):
        fields["soft"] = recipe.soft
    for name in ("distribution", "scale", "sample_weights", "class_weights", "ignored", *LATER):
        if (value := getattr(recipe, name)) != getattr(ArrayRecipe, name):
            fields[name] = value
    return fields | {"digest": _Verbatim(yaml_quoted_digest(digest))}


# Values


class _Verbatim(str):
    """Text that is already YAML."""


def _scalar_or_list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else _flow(list(names))


def _entry(key: str, text: str) -> list[str]:
    """A key and its text: on one line if it fits, folded if possible, otherwise quoted; nothing for an empty text."""
    if not text:
        return []
    line = f"{key}: {_text(text)}"
    words = text.split()
    foldable = " ".join(words) == text and text.isprintable()
    if len(line) <= WIDTH - 8 or not foldable:
        return [line]
    folded = textwrap.wrap(text, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return [f"{key}: >-", *(f"  {part}" for part in folded)]


def _array(key: str, values: Array) -> Iterator[str]:
    """An array on one line if it fits, otherwise row by row."""
    line = f"{key}: {_flow(values)}"
    if len(line) <= WIDTH - 4 or values.ndim < 2:
        yield line
        return
    yield f"{key}:"
    for row in values:
        yield f"  - {_flow(row)}"


def _flow(value: Any, quoted: bool = False) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, np.ndarray):
        return _flow(value.tolist())
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(item, quoted)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item, quoted) for item in value) + "]"
    if isinstance(value, _Verbatim):
        return str(value)
    if isinstance(value, str):
        return _text(value, quoted, flow=True)
    return str(value).lower() if isinstance(value, bool) else number_text(value)


def _text(text: str, quoted: bool = False, flow: bool = False) -> str:
    pattern = _PLAIN_IN_FLOW if flow else _PLAIN
    if not quoted and pattern.fullmatch(text) and is_plain_text(text):
        return text
    return '"' + "".join(_ESCAPES.get(char) or _escape(char) for char in text) + '"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(char: str) -> str:
    """A character escaped for a double-quoted string."""
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
