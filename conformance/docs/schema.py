"""The reference of a JSON schema: each property with its type, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.docs.markup import code, plain, prose, rows, slug

Schema = Mapping[str, Any]
COLUMNS = ("property", "type", "what it is")


def reference(schema: Schema, prefix: str) -> str:
    """Every object of a schema that has properties, outermost first, as Markdown.  prefix: begins every anchor."""
    parts = [f"{prose(schema.get('description', ''))}\n"]
    for path, part in objects(schema, schema, ()):
        if path:
            title = ".".join(path)
            parts.append(f"{{#{prefix}-{slug(title)}}}\n## {code(title)}\n")
            parts.append(f"{prose(part.get('description', ''))}\n")
        lines = [_line(schema, part, path, name, prefix) for name in part["properties"]]
        parts.append(rows(COLUMNS, lines))
    return "\n".join(parts)


def objects(root: Schema, part: Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """(path, schema) of everything that has properties, from the outside in; `*` stands for any name."""
    part = resolved(root, part)
    if "properties" in part:
        yield path, part
        for name, inner in part["properties"].items():
            yield from objects(root, inner, (*path, name))
    for inner, more in _nested_schemas(part):
        yield from objects(root, inner, (*path, *more))


def _nested_schemas(part: Schema) -> Iterator[tuple[Schema, tuple[str, ...]]]:
    """What may stand in the place of a value without being a property of it."""
    if isinstance(part.get("additionalProperties"), Mapping):
        yield part["additionalProperties"], ("*",)
    if isinstance(part.get("items"), Mapping) and "properties" in part["items"]:
        yield part["items"], ()
    branch = part.get("then" if part.get("if", {}).get("type") == "object" else "else", {})
    if "properties" in branch:
        yield {"description": part.get("description", ""), **branch}, ()


def resolved(root: Schema, part: Schema) -> Schema:
    """A part of a schema with what it refers to filled in; what it says itself goes first."""
    merged: dict[str, Any] = {}
    for reference in (part, *part.get("allOf", ())):
        if "$ref" in reference:
            *_, group, name = reference["$ref"].split("/")
            merged = {**resolved(root, root[group][name]), **merged}
    return {**merged, **part}


def _line(root: Schema, part: Schema, path: tuple[str, ...], name: str, prefix: str) -> list[str]:
    inner = resolved(root, part["properties"][name])
    required = ", required" if name in part.get("required", ()) else ""
    label = code(name)
    deeper = [where for where, _ in objects(root, inner, (*path, name))]
    if deeper:
        label = f"[{label}](#{prefix}-{slug('.'.join(deeper[0]))})"
    told = [prose(inner.get("description", ""))]
    if values := _values(inner):
        told.append(f"One of {', '.join(map(code, values))}.")
    if "default" in inner and inner["default"] != "":
        told.append(f"Default: {code(json.dumps(inner['default']))}.")
    told += [f"Example: {code(json.dumps(example))}." for example in inner.get("examples", ())[:1]]
    limits = [f"{words} {inner[key]}" for key, words in _LIMITS.items() if key in inner]
    told += [f"{plain(', '.join(limits)).capitalize()}."] if limits else []
    return [label, plain(_kind(inner)) + required, " ".join(filter(None, told))]


_LIMITS = {
    "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "minItems": "items at least",
    "maxItems": "items at most",
}  # fmt: skip


def _kind(part: Schema) -> str:
    if "const" in part:
        return json.dumps(part["const"])
    kinds = part.get("type") or " or ".join(dict.fromkeys(_kind(one) for one in part.get("anyOf", ())))
    return " or ".join(kinds) if isinstance(kinds, list) else kinds or "any"


def _values(part: Schema) -> list[str]:
    """The words that a value, or each value of a list, is one of."""
    for where in (part, part.get("then", {}), part.get("items", {})):
        if isinstance(where, Mapping) and "enum" in where:
            return list(map(str, where["enum"]))
    return []


__all__ = ["objects", "reference", "resolved"]
