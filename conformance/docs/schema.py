"""The reference of a JSON schema: each property with its type, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.docs.markup import anchor_line, code_html, escaped, prose_html, slug, table

Schema = Mapping[str, Any]
COLUMNS = ("property", "type", "what it is")


def reference(schema: Schema, prefix: str) -> str:
    """Every object of a schema with properties, outermost first, as Markdown.  prefix: start of every anchor."""
    parts = [f"{prose_html(schema.get('description', ''))}\n"]
    for path, part in objects(schema, schema, ()):
        if path:
            title = ".".join(path)
            parts.append(f"{anchor_line(f'{prefix}-{slug(title)}')}## {code_html(title)}\n")
            parts.append(f"{prose_html(part.get('description', ''))}\n")
        lines = [_line(schema, part, path, name, prefix) for name in part["properties"]]
        parts.append(table(COLUMNS, lines))
    return "\n".join(parts)


def objects(root: Schema, part: Schema, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """(path, schema) of all objects with properties, outermost first; `*` stands for any name."""
    part = resolve(root, part)
    if "properties" in part:
        yield path, part
        for name, inner in part["properties"].items():
            yield from objects(root, inner, (*path, name))
    for inner, steps in _nested_schemas(part):
        yield from objects(root, inner, (*path, *steps))


def _nested_schemas(part: Schema) -> Iterator[tuple[Schema, tuple[str, ...]]]:
    """(schema, further path) of values, items and branches of a conditional, which are not properties."""
    if isinstance(part.get("additionalProperties"), Mapping):
        yield part["additionalProperties"], ("*",)
    if isinstance(part.get("items"), Mapping) and "properties" in part["items"]:
        yield part["items"], ()
    branch = part.get("then" if part.get("if", {}).get("type") == "object" else "else", {})
    if "properties" in branch:
        yield {"description": part.get("description", ""), **branch}, ()


def resolve(root: Schema, part: Schema) -> Schema:
    """A part of a schema with its references resolved; its own keys take precedence."""
    merged: dict[str, Any] = {}
    for reference in (part, *part.get("allOf", ())):
        if "$ref" in reference:
            *_, group, name = reference["$ref"].split("/")
            merged = {**resolve(root, root[group][name]), **merged}
    return {**merged, **part}


def _line(root: Schema, part: Schema, path: tuple[str, ...], name: str, prefix: str) -> list[str]:
    inner = resolve(root, part["properties"][name])
    required = ", required" if name in part.get("required", ()) else ""
    label = code_html(name)
    deeper = [inner_path for inner_path, _ in objects(root, inner, (*path, name))]
    if deeper:
        label = f"[{label}](#{prefix}-{slug('.'.join(deeper[0]))})"
    texts = [prose_html(inner.get("description", ""))]
    if values := _values(inner):
        texts.append(f"One of {', '.join(map(code_html, values))}.")
    if "default" in inner and inner["default"] != "":
        texts.append(f"Default: {code_html(json.dumps(inner['default']))}.")
    texts += [f"Example: {code_html(json.dumps(example))}." for example in inner.get("examples", ())[:1]]
    limits = [f"{words} {inner[key]}" for key, words in _LIMITS.items() if key in inner]
    texts += [f"{escaped(', '.join(limits)).capitalize()}."] if limits else []
    return [label, escaped(_kind(inner)) + required, " ".join(filter(None, texts))]


_LIMITS = {
    "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "minItems": "items at least",
    "maxItems": "items at most",
}  # fmt: skip


def _kind(part: Schema) -> str:
    if "const" in part:
        return json.dumps(part["const"])
    kinds = part.get("type") or " or ".join(dict.fromkeys(_kind(alternative) for alternative in part.get("anyOf", ())))
    return " or ".join(kinds) if isinstance(kinds, list) else kinds or "any"


def _values(part: Schema) -> list[str]:
    """The values of an enumeration, or of that of the items of a list."""
    for schema in (part, part.get("then", {}), part.get("items", {})):
        if isinstance(schema, Mapping) and "enum" in schema:
            return list(map(str, schema["enum"]))
    return []
