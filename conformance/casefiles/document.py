"""Parse a YAML file into builtin values with the line and column of each, and validate it against its schema.

YAML is read as 1.2 with the core schema: `1e-3` is a number, `no` a string, `0o17` fifteen, and a duplicate key an
error. Nothing in a file is executed. Size, depth and the expansion of aliases are bounded, so that a hostile file
results in an error message.

PyYAML's libyaml is compiled and reports the position of each value; the core schema, duplicate keys and the bounds are
applied to its events here. Composers of libraries are slower or end
the process for deeply nested files; CONTRIBUTING has the comparison.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jsonschema_rs
import yaml

from conformance.model.errors import CaseFileError
from conformance.model.files import SpecialFileError, read_regular
from conformance.model.text import join_names, suggest, truncate

PACKAGE = Path(__file__).parents[1]
"""Folder of the schemas that case files name in their first line."""
MAX_BYTES = 4 * 2**20
MAX_VALUES = 1_000_000
"""Maximum number of values in a file after expansion of aliases."""
MAX_DEPTH = 64
MAX_ERRORS = 100
"""Maximum number of errors reported per file."""
MAX_DIGITS = 1000
"""Maximum number of digits of an integer; Python's own conversion stops at 4300."""

_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: -math.inf for word in (".inf", ".Inf", ".INF")},
}
_CORE_TAG = "tag:yaml.org,2002:"
_PYTHON_TYPES = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}

JsonPath: TypeAlias = tuple["str | int", ...]
Position: TypeAlias = tuple[int, int]


@dataclass(eq=False)
class _Location:
    """Position of a value, and the locations of the values in it."""

    position: Position
    children: dict[Any, _Location] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Document:
    """The values of a file, with their positions."""

    path: str
    """The file name for display."""
    value: Any
    location: _Location
    error_paths: set[str] = field(default_factory=set)
    """JSON paths of errors that the schema or the YAML reader found."""

    def has_error_at(self, path: JsonPath) -> bool:
        """Whether something at or below `path` is rejected."""
        top = json_path(path)
        return any(
            error_path == top or error_path.startswith((f"{top}.", f"{top}[")) for error_path in self.error_paths
        )

    def position(self, path: JsonPath, at_key: bool = False) -> Position:
        """Line and column, from 1, of the value at `path`, or of its key; of the nearest existing ancestor if there
        is none.
        """
        location = self.location
        position = location.position
        for depth, step in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(step, str) and step in location.keys and (last and at_key):
                return location.keys[step]
            if step not in location.children:
                return location.keys.get(str(step), position)
            location = location.children[step]
            position = location.position
        return position

    def error(self, path: JsonPath, message: str, advice: str = "", at_key: bool = False) -> CaseFileError:
        """An error at the value at `path`, or at its key."""
        line, column = self.position(path, at_key)
        return CaseFileError(self.path, line, column, json_path(path), message, advice)


def json_path(path: JsonPath) -> str:
    """`("cases", "y", "labels", 0)` as `$.cases.y.labels[0]`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def display_path(file: Path) -> str:
    """A path as the user would type it: relative to the working directory if it lies below it."""
    try:
        working_directory, absolute = Path.cwd(), file.absolute()
    except FileNotFoundError:  # the working directory was deleted
        return file.as_posix()
    return (
        absolute.relative_to(working_directory) if absolute.is_relative_to(working_directory) else absolute
    ).as_posix()


def read_document(file: Path, schema: str, *, strict: bool = False) -> tuple[Document | None, list[CaseFileError]]:
    """Parse and validate a file; return the document, or None if it cannot be parsed or has too many errors to list,
    and the errors.

    schema: file name of its JSON Schema in this package.  strict: whether its first line must name the schema.
    """
    name = display_path(file)
    text, errors = _read_text(file, name)
    if text is None:
        return None, errors
    if strict:
        errors += _check_modeline(file, name, text, schema)
    composer = _Composer(name, text)
    try:
        document = composer.compose()
    except _StopError as stop:
        return None, [*errors, stop.error]
    except yaml.MarkedYAMLError as error:
        return None, [*errors, _syntax_error(name, text, error)]
    wrong = [*composer.errors, *_schema_errors(document, schema)]
    document.error_paths.update(error.where for error in wrong)
    return None if len(wrong) > MAX_ERRORS else document, [*errors, *wrong]


class _StopError(Exception):
    def __init__(self, error: CaseFileError) -> None:
        self.error = error


def read_error_text(path: Path, error: Exception) -> str:
    """Why a path cannot be read, as text; for a link also its target."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a link that leads to itself"
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"a link to {path.readlink()}, where nothing is"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_text(file: Path, name: str) -> tuple[str | None, list[CaseFileError]]:
    def failed(message: str, advice: str, line: int = 0, column: int = 0) -> tuple[None, list[CaseFileError]]:
        return None, [CaseFileError(name, line, column, "", message, advice)]

    try:
        content = read_regular(file, MAX_BYTES)
    except SpecialFileError as error:
        return failed(str(error.strerror), "give a regular file")
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return failed(f"more than {MAX_BYTES} bytes", "split the file, or generate the arrays", line=1, column=1)
        return failed(f"cannot be read: {read_error_text(file, error)}", "check that it exists and who may read it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        at = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        column = len(before[-1].decode("utf-8", "replace")) + 1
        return failed(f"not UTF-8: {at}", "save the file as UTF-8", line=len(before), column=column)
    if unprintable := _UNPRINTABLE.search(text):
        lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text[: unprintable.start()])
        return failed(
            f"control character U+{ord(unprintable.group()):04X}",
            "remove it",
            line=len(lines),
            column=len(lines[-1]) + 1,
        )
    return text, []


def _check_modeline(file: Path, name: str, text: str, schema: str) -> list[CaseFileError]:
    """Check that the first line names the schema, which editors use for completion and validation."""
    first = text.split("\n", 1)[0].rstrip()
    match = re.fullmatch(r"#\s*yaml-language-server:\s*\$schema=(\S+)", first)
    target = match.group(1) if match else ""
    relative = "://" not in target and not target.startswith("/")
    if re.search(rf"(^|/){re.escape(schema)}$", target) and (relative or target.startswith("https://")):
        return []
    message = "the first line does not name the schema that editors check it by"
    return [CaseFileError(name, 1, 1, "", message, f"make the first line: {schema_line(file, schema)}")]


def schema_line(file: Path | None, schema: str) -> str:
    """The first line of a file with a schema: a relative path next to this package, otherwise a link."""
    schema_path = PACKAGE / schema
    target = schema_of(schema)["$id"]
    if file is not None:
        absolute = Path(os.path.realpath(file))
        if absolute.is_relative_to(schema_path.parent.parent) and not absolute.is_relative_to(schema_path.parent):
            target = os.path.relpath(schema_path, absolute.parent).replace(os.sep, "/")
    return f"# yaml-language-server: $schema={target}"


def _syntax_error(name: str, text: str, error: yaml.MarkedYAMLError) -> CaseFileError:
    mark: Any = error.problem_mark or error.context_mark
    start: Any = error.context_mark
    message = f"broken YAML: {error.problem or error.context}"
    if error.problem and error.context:
        since = f" that starts on line {start.line + 1}" if start is not None and start.line != mark.line else ""
        message += f" ({error.context}{since})"
    if mark is None:
        return CaseFileError(name, 1, 1, "", message, "")
    tab = text.removeprefix("\ufeff")[mark.index : mark.index + 1] == "\t"
    advice = "indent with spaces, not tabs" if tab else "check brackets, quotes and indentation"
    return CaseFileError(name, mark.line + 1, mark.column + 1, "", message, advice)


class _Node(NamedTuple):
    """A value with its location, and its number of values after expansion of aliases."""

    value: Any
    location: _Location
    size: int = 1


class _Composer:
    """Composes values and locations from parser events; `MAX_DEPTH` bounds the recursion."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.errors: list[CaseFileError] = []
        self._loader = _YAML_LOADER(text)
        self._path: list[str | int] = []
        self._open: list[str | None] = []
        """Anchors of the lists and mappings whose end has not been parsed, outermost first."""
        self._anchors: dict[str, _Node] = {}

    def error(self, event: Any, message: str, advice: str) -> CaseFileError:
        line, column = _position(event)
        return CaseFileError(self.name, line, column, json_path(tuple(self._path)), message, advice)

    def compose(self) -> Document:
        root = None
        try:
            while self._loader.check_event():
                event = self._loader.get_event()
                if type(event) is yaml.DocumentStartEvent:
                    self._check_document(event, root is not None)
                    root = self._node(self._loader.get_event())
        finally:
            self._loader.dispose()
        if root is None or root.value is None:
            raise _StopError(CaseFileError(self.name, 1, 1, "$", "the file is empty", "write it, or delete it"))
        return Document(self.name, root.value, root.location)

    def _check_document(self, event: Any, is_repeated: bool) -> None:
        if is_repeated:
            raise _StopError(self.error(event, "a second document starts here", "give each document its own file"))
        if event.version not in (None, (1, 2)):
            version = ".".join(map(str, event.version))
            self.errors.append(self.error(event, f"%YAML {version}; this is read as YAML 1.2", "remove the line"))

    def _node(self, event: Any) -> _Node:
        """The node that starts with an event."""
        if type(event) is yaml.AliasEvent:
            return self._alias(event)
        if type(event) is yaml.ScalarEvent:
            node = _Node(self.scalar(event), _Location(_position(event)))
        else:
            node = self._collection(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> _Node:
        if event.anchor not in self._anchors:
            problem = (
                "stands for what it is inside of" if event.anchor in self._open else "is not defined before it is used"
            )
            raise _StopError(self.error(event, f"the alias *{event.anchor} {problem}", "write the value out"))
        return self._anchors[event.anchor]

    def _collection(self, event: Any) -> _Node:
        mapping = type(event) is yaml.MappingStartEvent
        if len(self._open) >= MAX_DEPTH:
            raise _StopError(self.error(event, f"nested deeper than {MAX_DEPTH} levels", "flatten it"))
        if event.tag not in (None, "!", _CORE_TAG + ("map" if mapping else "seq")):
            self.errors.append(self.tag_error(event))
        self._open.append(event.anchor)
        location = _Location(_position(event))
        node = self._mapping(location) if mapping else self._sequence(location)
        self._open.pop()
        return node

    def tag_error(self, event: Any) -> CaseFileError:
        tag = event.tag.replace(_CORE_TAG, "!!")
        return self.error(event, f"the tag {tag} is not of YAML's core schema", "remove it; nothing is executed")

    def _sequence(self, location: _Location) -> _Node:
        items: list[Any] = []
        size = 1
        while type(event := self._loader.get_event()) is not yaml.SequenceEndEvent:
            node, size = self._item(event, len(items), size)
            location.children[len(items)] = node.location
            items.append(node.value)
        return _Node(items, location, size)

    def _mapping(self, location: _Location) -> _Node:
        values: dict[Any, Any] = {}
        size = 1
        while type(event := self._loader.get_event()) is not yaml.MappingEndEvent:
            key = self._key(event, location)
            node, size = self._item(self._loader.get_event(), key, size + 1)
            if key not in values:
                values[key] = node.value
                location.children[key] = node.location
        return _Node(values, location, size)

    def _item(self, event: Any, key: str | int, size: int) -> tuple[_Node, int]:
        """A value in a list or mapping, and the size of that list or mapping including it.  size: size without it."""
        self._path.append(key)
        node = self._node(event)
        if size + node.size > MAX_VALUES:
            advice = "write out what the aliases stand for, or generate the arrays"
            raise _StopError(self.error(event, f"more than {MAX_VALUES} values once aliases are expanded", advice))
        self._path.pop()
        return node, size + node.size

    def _key(self, event: Any, location: _Location) -> str:
        """The key in a mapping that starts with an event; duplicate keys are collected as errors."""
        is_collection = type(event) in (yaml.SequenceStartEvent, yaml.MappingStartEvent)
        node = None if is_collection else self._node(event)
        if node is None or isinstance(node.value, (list, dict)):
            raise _StopError(self.error(event, "a key that is a list or a mapping", "give a string as the key"))
        key: str = node.value if isinstance(node.value, str) else getattr(event, "value", str(node.value))
        if not isinstance(node.value, str):
            self.errors.append(self.error(event, f"the key {key or 'null'} is not a string", "put it in quotes"))
        if key in location.keys:
            lines = f"on lines {location.keys[key][0]} and {_position(event)[0]}"
            self._path.append(key)
            self.errors.append(self.error(event, f'"{key}" is given twice, {lines}', "keep one, or rename one"))
            self._path.pop()
        location.keys.setdefault(key, node.location.position)
        return key

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        tag: str | None = event.tag
        if (tag is None and not event.implicit[0]) or tag == "!" or tag == _CORE_TAG + "str":
            return text
        value = self.plain_scalar(event, text)
        if tag is None:
            return value
        kinds = _PYTHON_TYPES.get(tag.removeprefix(_CORE_TAG)) if tag.startswith(_CORE_TAG) else None
        if kinds is None:
            self.errors.append(self.tag_error(event))
        elif type(value) not in kinds:
            advice = "remove the tag"
            self.errors.append(self.error(event, f'"{text}" is not a {tag.replace(_CORE_TAG, "!!")}', advice))
        return float(value) if tag == _CORE_TAG + "float" and isinstance(value, int) else value

    def plain_scalar(self, event: Any, text: str) -> Any:
        """Resolve a plain scalar by the core schema of YAML 1.2."""
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                self.errors.append(self.error(event, f"an integer of {len(text)} characters", "shorten it"))
                return 0
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if not _FLOAT.fullmatch(text):
            return text
        number = float(text)
        if math.isinf(number):
            advice = "write .inf if infinity is meant"
            self.errors.append(self.error(event, f"{text[:40]} overflows float64", advice))
        return number


def is_plain_text(text: str) -> bool:
    """Whether the core schema resolves a plain scalar to this text, and not to a number or constant."""
    return text not in _CONSTANTS and not _INT.fullmatch(text) and not _FLOAT.fullmatch(text)


def _position(event: Any) -> Position:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


# Validation against the schema: the library finds the errors, and they are described here.


@cache
def schema_of(name: str) -> Any:
    """A JSON Schema of this package, as Python values."""
    return json.loads((PACKAGE / name).read_text(encoding="utf-8"))


@cache
def _validator(name: str) -> Any:
    return jsonschema_rs.Draft7Validator(schema_of(name))


def _without_infinities(value: Any) -> Any:
    """The value with infinities and nan replaced by a number that is not an integer, as JSON has neither."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return 0.5 if isinstance(value, float) and not math.isfinite(value) else value


def error_paths(schema: str, value: Any) -> list[JsonPath]:
    """Paths at which a value violates a JSON Schema of this package."""
    return [tuple(error.instance_path) for error in _validator(schema).iter_errors(value)]


def _schema_errors(document: Document, schema: str) -> list[CaseFileError]:
    errors: dict[tuple[str, str], CaseFileError] = {}
    arrays: set[JsonPath] = set()
    for error in _validator(schema).iter_errors(_without_infinities(document.value)):
        path = tuple(error.instance_path)
        array = () if isinstance(_value_at(document.value, path), dict) else _enclosing_array(path)
        if array in arrays:
            # If many elements of one array are wrong, the first is enough.
            continue
        if array:
            arrays.add(array)
        for message in _render_schema_error(document, schema_of(schema), path, error):
            if len(errors) == MAX_ERRORS:
                limit_error = document.error((), f"more than {MAX_ERRORS} things are wrong", "correct these first")
                return [*sorted(errors.values(), key=_by_position), limit_error]
            topic = message.message if error.kind.name != "type" else "type"
            errors.setdefault((message.where, topic), message)
    return sorted(errors.values(), key=_by_position)


def _enclosing_array(path: JsonPath) -> JsonPath:
    """Path of the array of numbers or names that contains `path`, or ()."""
    end = len(path)
    while end and isinstance(path[end - 1], int):
        end -= 1
    return path[:end] if end < len(path) else ()


def _by_position(error: CaseFileError) -> Position:
    return error.line, error.column


_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "a string",
}


def describe_value(value: Any) -> str:
    """A value for a message: short, with its type."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, str):
        return f'"{truncate(value, 40)}" (a string)'
    return f"{number_text(value)} (a number)"


def number_text(value: float) -> str:
    """A number in the notation of case files."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return str(value).replace("e+", "e")


def _value_at(value: Any, path: Iterable[str | int]) -> Any:
    for step in path:
        value = value[step]
    return value


@dataclass(frozen=True)
class _SchemaError:
    """One error of the validator, and its location."""

    document: Document
    schema: Any
    path: JsonPath
    error: Any

    @property
    def kind(self) -> str:
        return str(self.error.kind.name)

    @property
    def facts(self) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = self.error.kind.as_dict()
        return facts

    @property
    def rule(self) -> Any:
        return _value_at(self.schema, self.error.schema_path[:-1])

    @property
    def meaning(self) -> str:
        """The schema's description of the value."""
        return str(self.rule.get("description", "")) if isinstance(self.rule, dict) else ""

    @property
    def value(self) -> Any:
        return _value_at(self.document.value, self.path)

    def at(self, message: str, advice: str, *below: str, at_key: bool = False) -> CaseFileError:
        return self.document.error((*self.path, *below), message, advice, at_key)


def _render_schema_error(document: Document, schema: Any, path: JsonPath, error: Any) -> Iterator[CaseFileError]:
    wrong = _SchemaError(document, schema, path, error)
    if wrong.kind in ("additionalProperties", "propertyNames", "required", "falseSchema"):
        yield from _key_errors(wrong)
    elif wrong.kind.startswith(("min", "max", "unique")) and wrong.kind not in ("minimum", "maximum"):
        yield _size_error(wrong)
    else:
        yield _value_error(wrong)


def _key_errors(wrong: _SchemaError) -> Iterator[CaseFileError]:
    """Keys that are unknown, missing or misplaced."""
    match wrong.kind:
        case "additionalProperties":
            known = list(wrong.rule["properties"])
            for name in wrong.facts["unexpected"]:
                unused = [key for key in known if key not in wrong.value]
                other_level = _other_level(wrong.schema, wrong.path, name)
                yield wrong.at(f'unknown key "{name}"', other_level or suggest(name, unused), name, at_key=True)
        case "propertyNames":
            for name in wrong.value:
                for message, advice in name_errors(wrong.schema, name):
                    yield wrong.at(message, advice, name, at_key=True)
        case "required":
            name = wrong.facts["property"]
            description = _property_schema(wrong.schema, wrong.error.schema_path, name).get("description", "")
            yield wrong.at(f"{name} is missing", f"add it: {description}" if description else "add it", at_key=True)
        case "falseSchema":
            last = str(wrong.path[-1]) if wrong.path else "the file"
            yield wrong.at(f"{last} has no place beside {_alternative_of(last)}", "remove one of the two", at_key=True)


def _other_level(schema: Any, path: JsonPath, name: str) -> str:
    """Advice for a key at the wrong level, of a file, a case or its options; "" if it belongs to none."""
    file, case = (rule.get("properties", {}) for rule in (schema, schema.get("definitions", {}).get("case", {})))
    if name == "<<":
        return "YAML 1.2 has no merge keys: write the keys out, with aliases of their values"
    if path[:1] == ("cases",) and len(path) == 3 and name in case:
        return f"it belongs to the case, beside {path[-1]}"
    if "predictions" in case and len(path) in (0, 2) and name in file["given"]["enum"]:
        return f"did you mean predictions, and given: {name} in the file?"
    if path[:1] == ("cases",) and len(path) == 2 and name in file:
        return f"it belongs to the file, beside cases: all cases of a file have the same {name}"
    if path[:1] == ("cases",) and len(path) == 2:
        inner = [key for key in ("options", "layout", "generate") if name in case.get(key, {}).get("properties", {})]
        return f"write {inner[0]}: {{{name}: ...}}" if inner else ""
    return "it belongs to a case, below cases: and its name" if not path and name in case else ""


def _size_error(wrong: _SchemaError) -> CaseFileError:
    """Wrong number of entries or characters, or repeated entries."""
    if wrong.kind == "uniqueItems":
        return wrong.at("the same thing is listed twice", "list it once")
    if wrong.kind == "minLength":
        return wrong.at("nothing is written here", wrong.meaning or "write it")
    if wrong.kind not in ("minItems", "maxItems", "minProperties", "maxProperties"):
        return wrong.at(wrong.error.message, wrong.meaning)
    count = f"{len(wrong.value)} {'keys' if isinstance(wrong.value, dict) else 'entries'}"
    bound = "at least" if wrong.kind.startswith("min") else "at most"
    message = f"{count} where there should be {bound} {wrong.facts['limit']}"
    return wrong.at(message, wrong.meaning or "correct it")


def _value_error(wrong: _SchemaError) -> CaseFileError:
    """A value of the wrong type, outside of an interval, or not one of the choices."""
    value, meaning, facts = wrong.value, wrong.meaning, wrong.facts
    match wrong.kind:
        case "type":
            expected = " or ".join(_TYPES[name] for name in facts["types"])
            return wrong.at(f"{describe_value(value)} is not {expected}", _type_advice(value, facts["types"], meaning))
        case "enum":
            options = [str(option) for option in facts["options"]]
            text = value if isinstance(value, str) else describe_value(value)
            return wrong.at(f'"{text}" is not one of {join_names(options)}', suggest(str(text), options))
        case "const":
            expected = facts["expected_value"]
            return wrong.at(f"{describe_value(value)} is not {expected}", meaning or f"write {expected}")
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            interval, advice = _interval(wrong.rule)[:2]
            return wrong.at(f"{number_text(value)} is not {interval}", f"give {advice}")
        case "pattern":
            return wrong.at(f"{describe_value(value)} is not written as it should be", meaning or facts["pattern"])
        case _:
            return wrong.at(wrong.error.message, meaning)


def _property_schema(schema: Any, schema_path: list[Any], name: str) -> Any:
    """Schema of a required property, from the nearest enclosing rule that has it."""
    for length in range(len(schema_path) - 1, -1, -1):
        rule = _value_at(schema, schema_path[:length])
        if isinstance(rule, dict) and isinstance(rule.get("properties", {}).get(name), dict):
            return rule["properties"][name]
    return {}


def _type_advice(value: Any, types: list[str], meaning: str) -> str:
    numeric = {"number", "integer"} & set(types)
    if value is None and "object" in types:
        return "indent its keys below it, or remove it"
    if "string" in types and not numeric and isinstance(value, (int, float)) and not isinstance(value, bool):
        return "put it in quotes, with all its digits"
    if types == ["boolean"] and str(value).lower() in ("yes", "no", "on", "off"):
        return "this is YAML 1.2: write true or false"
    if numeric and isinstance(value, str) and (number := _number_in(value)):
        return f"write {number}{', without quotes' if number == value else ''}"
    if types == ["integer"] and isinstance(value, float):
        return "give a whole number without a point"
    advice = "give " + " or ".join(_TYPES[name] for name in types)
    return f"{advice}: {meaning}" if meaning else advice


def _number_in(text: str) -> str:
    """The number in a string, written as in Python or pasted from text, in the notation of case files; "" if none."""
    word = re.fullmatch(r"([-+]?)(?:[a-z]*\.)?(inf|infinity|nan)", text.lower())
    if word:
        return f"{'-' if word[1] == '-' and word[2] != 'nan' else ''}.{word[2][:3]}"
    plain = text.translate({0x2212: "-", 0x200B: None}).replace("_", "").strip()
    return plain if _INT.fullmatch(plain) or _FLOAT.fullmatch(plain) else ""


def _interval(rule: Mapping[str, Any]) -> tuple[str, str]:
    noun = "an integer" if rule.get("type") == "integer" else "a number"
    low, high = rule.get("minimum"), rule.get("maximum")
    above, below = rule.get("exclusiveMinimum"), rule.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"in [{low}, {high}]", f"{noun} from {low} to {high}"
    limits = [(low, "at least", "at least"), (above, "above", "above"), (high, "at most", "at most")]
    limits.append((below, "below", "below"))
    text = " and ".join(f"{word} {limit}" for limit, word, _ in limits if limit is not None)
    return text, f"{noun} {text}"


def _alternative_of(name: str) -> str:
    return "generate" if name != "generate" else "predictions"


def id_prefix_errors(schema: Any, stem: str) -> Iterator[tuple[str, str]]:
    """Yield (message, advice) for invalid names in `folder/file`; see `name_errors`.

    A folder may have exactly the name of a framework: its cases come from there, and `-k folder/` selects them.
    """
    *folders, file = stem.split("/")
    reserved = re.compile(schema["definitions"]["name"]["not"]["pattern"])
    for name in (*(name for name in folders if not reserved.fullmatch(name)), file):
        yield from name_errors(schema, name)


def name_errors(schema: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield (message, advice) if the name of a case, file or folder violates the schema's definition of `name`."""
    rule = schema["definitions"]["name"]
    if not re.search(rule["pattern"], name):
        yield f'the name "{name}" is not [a-z][a-z0-9_]*', "use small letters, digits and _"
    elif reserved := re.search(rule["not"]["pattern"], name):
        word = reserved.group().strip("_")
        advice = f"leave it out: `-k {word}` is to select the framework"
        yield f'the name "{name}" has "{word}" in it, the name of a framework', advice
