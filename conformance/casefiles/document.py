"""One YAML file as plain values with the line and column of each, held against its schema.

YAML is read as 1.2 with the core schema: `1e-3` is a number, `no` a string, `0o17` fifteen, and a key
given twice an error.  Nothing in a file is ever executed.  Size, depth and the expansion of aliases
are bounded, so that a hostile file ends in a message.
"""

from __future__ import annotations

import difflib
import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import jsonschema_rs
import yaml

from conformance.model.errors import CaseFileError

PACKAGE = Path(__file__).parents[1]
"""Where the schemas lie, which the first line of a file of cases names."""
MOST_BYTES = 4 * 2**20
MOST_VALUES = 1_000_000
"""Values in a file once its aliases are expanded."""
MOST_LEVELS = 64
MOST_ERRORS = 100
"""Errors told about one file."""
MOST_DIGITS = 1000
"""Digits of an integer; Python's own conversion stops at 4300."""

_READER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: -math.inf for word in (".inf", ".Inf", ".INF")},
}
_CORE = "tag:yaml.org,2002:"
_KINDS = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}

Path_: TypeAlias = tuple["str | int", ...]
Spot: TypeAlias = tuple[int, int]


@dataclass(eq=False)
class _Place:
    """Where a value stands, and where what is inside it stands."""

    spot: Spot
    inside: dict[Any, _Place] = field(default_factory=dict)
    keys: dict[str, Spot] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Document:
    """A file's values, and the way from a JSON path back to the text."""

    path: str
    value: Any
    place: _Place

    def spot(self, path: Path_, at_key: bool = False) -> Spot:
        """Line and column, from 1, of the value at `path`, or of its key; of the nearest thing that exists."""
        place = self.place
        spot = place.spot
        for depth, step in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(step, str) and step in place.keys and (last and at_key):
                return place.keys[step]
            if step not in place.inside:
                return place.keys.get(str(step), spot)
            place = place.inside[step]
            spot = place.spot
        return spot

    def error(self, path: Path_, message: str, advice: str = "", at_key: bool = False) -> CaseFileError:
        """A complaint about the value at `path`, or about its key."""
        line, column = self.spot(path, at_key)
        return CaseFileError(self.path, line, column, json_path(path), message, advice)


def json_path(path: Path_) -> str:
    """`("cases", "y", "labels", 0)` as `$.cases.y.labels[0]`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def shown(file: Path) -> str:
    """A path as the user would type it: relative to the working directory where it lies below it."""
    try:
        here, absolute = Path.cwd(), file.absolute()
    except FileNotFoundError:  # the working directory is gone
        return file.as_posix()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def nearest(word: str, names: Iterable[str]) -> str:
    """Advice for a word that is none of `names`."""
    known = list(names)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"give one of: {listed(known)}"


def read_document(file: Path, schema: str) -> tuple[Document | None, list[CaseFileError]]:
    """The document of one file, or None where there is none to speak of, and everything wrong with it.

    schema: the file name of its JSON Schema in this package.
    """
    name = shown(file)
    text, errors = _text(file, name)
    if text is None:
        return None, errors
    errors += _modeline(file, name, text, schema)
    composer = _Composer(name)
    try:
        document = composer.compose(text)
    except _StopError as stop:
        return None, [*errors, stop.error]
    except yaml.MarkedYAMLError as error:
        return None, [*errors, _broken(name, text, error)]
    errors += composer.errors
    errors += _against_schema(document, schema)
    return document, errors


class _StopError(Exception):
    def __init__(self, error: CaseFileError) -> None:
        self.error = error


class SpecialFileError(Exception):
    """A path leads to something that is no regular file, or to one that changes while it is read."""


_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def regular_content(file: Path, most: int) -> bytes:
    """At most the first `most` bytes of a regular file.

    What is none is neither waited for nor read: raises SpecialFileError, and OSError for what cannot be opened.
    """
    _refuse_special(file.stat())  # to open a device may already do something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(file, flags), "rb") as opened:
        before = os.fstat(opened.fileno())
        _refuse_special(before)  # it may have been replaced since
        content = cast("bytes | None", opened.read(most))
        after = os.fstat(opened.fileno())
    if content is None:  # it would block, as for /proc/kmsg, whose mode says that it is regular
        raise SpecialFileError("a file whose reading waits for what is to come")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SpecialFileError("it changed while it was read")
    return content


def _refuse_special(status: os.stat_result) -> None:
    for is_kind, name in _SPECIAL:
        if is_kind(status.st_mode):
            raise SpecialFileError(f"{name} and no file")


def why_not(path: Path, error: Exception) -> str:
    """Why a path cannot be read, in words; of a link, where it leads to."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a link that leads to itself"
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"a link to {path.readlink()}, where nothing is"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _text(file: Path, name: str) -> tuple[str | None, list[CaseFileError]]:
    def failed(message: str, advice: str, line: int = 0, column: int = 0) -> tuple[None, list[CaseFileError]]:
        return None, [CaseFileError(name, line, column, "", message, advice)]

    try:
        content = regular_content(file, MOST_BYTES + 1)
    except SpecialFileError as error:
        return failed(str(error), "give a regular file")
    except (OSError, ValueError) as error:
        return failed(f"cannot be read: {why_not(file, error)}", "check that it exists and who may read it")
    if len(content) > MOST_BYTES:
        return failed(f"more than {MOST_BYTES} bytes", "split the file, or generate the arrays", line=1, column=1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        at = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        column = len(before[-1].decode("utf-8", "replace")) + 1
        return failed(f"not UTF-8: {at}", "save the file as UTF-8", line=len(before), column=column)
    if odd := _UNPRINTABLE.search(text):
        lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text[: odd.start()])
        return failed(
            f"control character U+{ord(odd.group()):04X}", "remove it", line=len(lines), column=len(lines[-1]) + 1
        )
    return text, []


def _modeline(file: Path, name: str, text: str, schema: str) -> list[CaseFileError]:
    """The first line tells an editor which schema to complete and check from; a file without it is refused."""
    first = text.split("\n", 1)[0].rstrip()
    said = re.fullmatch(r"#\s*yaml-language-server:\s*\$schema=(\S+)", first)
    where = said.group(1) if said else ""
    relative = "://" not in where and not where.startswith("/")
    if re.search(rf"(^|/){re.escape(schema)}$", where) and (relative or where.startswith("https://")):
        return []
    message = "the first line does not name the schema that editors check it by"
    return [CaseFileError(name, 1, 1, "", message, f"make the first line: {schema_line(file, schema)}")]


def schema_line(file: Path | None, schema: str) -> str:
    """The first line of a file that is held against a schema: beside this package a relative path, elsewhere a link."""
    ours = PACKAGE / schema
    target = schema_of(schema)["$id"]
    if file is not None:
        absolute = Path(os.path.realpath(file))
        if absolute.is_relative_to(ours.parent.parent) and not absolute.is_relative_to(ours.parent):
            target = os.path.relpath(ours, absolute.parent).replace(os.sep, "/")
    return f"# yaml-language-server: $schema={target}"


def _broken(name: str, text: str, error: yaml.MarkedYAMLError) -> CaseFileError:
    mark: Any = error.problem_mark or error.context_mark
    started: Any = error.context_mark
    message = f"broken YAML: {error.problem or error.context}"
    if error.problem and error.context:
        since = f" that starts on line {started.line + 1}" if started is not None and started.line != mark.line else ""
        message += f" ({error.context}{since})"
    if mark is None:
        return CaseFileError(name, 1, 1, "", message, "")
    tab = text.removeprefix("\ufeff")[mark.index : mark.index + 1] == "\t"
    advice = "indent with spaces, not tabs" if tab else "check brackets, quotes and indentation"
    return CaseFileError(name, mark.line + 1, mark.column + 1, "", message, advice)


@dataclass(eq=False)
class _Open:
    """A list or mapping whose end has not been read yet."""

    value: Any
    place: _Place
    anchor: str | None
    size: int = 1
    key: str | int | None = None
    awaits_key: bool = False


class _Composer:
    """Parser events to values and places, without recursion."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: list[CaseFileError] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, _Place, int]] = {}

    def here(self) -> Path_:
        return tuple(frame.key for frame in self.stack if frame.key is not None)

    def complaint(self, event: Any, message: str, advice: str) -> CaseFileError:
        line, column = _spot(event)
        return CaseFileError(self.name, line, column, json_path(self.here()), message, advice)

    def compose(self, text: str) -> Document:
        root: list[tuple[Any, _Place]] = []
        loader = _READER(text)
        try:
            while loader.check_event():
                event = loader.get_event()
                kind = type(event)
                if kind is yaml.ScalarEvent:
                    done = (self.scalar(event), _Place(_spot(event)), 1, event.anchor)
                elif kind is yaml.SequenceStartEvent or kind is yaml.MappingStartEvent:
                    self.open(event, kind is yaml.MappingStartEvent)
                    continue
                elif kind is yaml.SequenceEndEvent or kind is yaml.MappingEndEvent:
                    frame = self.stack.pop()
                    done = (frame.value, frame.place, frame.size, frame.anchor)
                elif kind is yaml.AliasEvent:
                    done = self.alias(event)
                elif kind is yaml.DocumentStartEvent:
                    self.start(event, bool(root))
                    continue
                else:
                    continue
                value, place, size, anchor = done
                if anchor is not None:
                    self.anchors[anchor] = (value, place, size)
                if self.stack:
                    self.put(event, value, place, size)
                else:
                    root.append((value, place))
        finally:
            loader.dispose()
        if not root or root[0][0] is None:
            raise _StopError(CaseFileError(self.name, 1, 1, "$", "the file is empty", "write it, or delete it"))
        return Document(self.name, *root[0])

    def start(self, event: Any, again: bool) -> None:
        if again:
            raise _StopError(self.complaint(event, "a second document starts here", "give each document its own file"))
        if event.version not in (None, (1, 2)):
            version = ".".join(map(str, event.version))
            self.errors.append(self.complaint(event, f"%YAML {version}; this is read as YAML 1.2", "remove the line"))

    def open(self, event: Any, mapping: bool) -> None:
        if len(self.stack) >= MOST_LEVELS:
            advice = "flatten it"
            raise _StopError(self.complaint(event, f"nested deeper than {MOST_LEVELS} levels", advice))
        if self.stack and self.stack[-1].awaits_key:
            raise _StopError(self.complaint(event, "a key that is a list or a mapping", "give a string as the key"))
        if event.tag not in (None, "!", _CORE + ("map" if mapping else "seq")):
            self.errors.append(self.tagged(event))
        place = _Place(_spot(event))
        key = None if mapping else 0
        self.stack.append(_Open({} if mapping else [], place, event.anchor, key=key, awaits_key=mapping))

    def tagged(self, event: Any) -> CaseFileError:
        tag = event.tag.replace(_CORE, "!!")
        return self.complaint(event, f"the tag {tag} is not of YAML's core schema", "remove it; nothing is executed")

    def alias(self, event: Any) -> tuple[Any, _Place, int, None]:
        if event.anchor not in self.anchors:
            enclosing = any(frame.anchor == event.anchor for frame in self.stack)
            what = "stands for what it is inside of" if enclosing else "is not defined before it is used"
            raise _StopError(self.complaint(event, f"the alias *{event.anchor} {what}", "write the value out"))
        value, place, size = self.anchors[event.anchor]
        return value, place, size, None

    def put(self, event: Any, value: Any, place: _Place, size: int) -> None:
        """Add a finished value to the list or mapping that is open."""
        frame = self.stack[-1]
        frame.size += size
        if frame.size > MOST_VALUES:
            advice = "write out what the aliases stand for, or generate the arrays"
            raise _StopError(self.complaint(event, f"more than {MOST_VALUES} values once aliases are expanded", advice))
        if isinstance(frame.value, list):
            frame.place.inside[frame.key] = place
            frame.value.append(value)
            frame.key = len(frame.value)
        elif frame.awaits_key:
            self.key(event, frame, value, place.spot)
        else:
            if frame.key not in frame.value:
                frame.value[frame.key] = value
                frame.place.inside[frame.key] = place
            frame.key = None
            frame.awaits_key = True

    def key(self, event: Any, frame: _Open, value: Any, spot: Spot) -> None:
        if isinstance(value, (list, dict)):
            raise _StopError(self.complaint(event, "a key that is a list or a mapping", "give a string as the key"))
        key = value if isinstance(value, str) else getattr(event, "value", str(value))
        if not isinstance(value, str):
            self.errors.append(self.complaint(event, f"the key {key or 'null'} is not a string", "put it in quotes"))
        if key in frame.place.keys:
            lines = f"on lines {frame.place.keys[key][0]} and {_spot(event)[0]}"
            frame.key = key
            self.errors.append(self.complaint(event, f'"{key}" is given twice, {lines}', "keep one, or rename one"))
        frame.place.keys.setdefault(key, spot)
        frame.key = key
        frame.awaits_key = False

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        tag: str | None = event.tag
        if (tag is None and not event.implicit[0]) or tag == "!" or tag == _CORE + "str":
            return text
        value = self.plain(event, text)
        if tag is None:
            return value
        kinds = _KINDS.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if kinds is None:
            self.errors.append(self.tagged(event))
        elif type(value) not in kinds:
            advice = "remove the tag"
            self.errors.append(self.complaint(event, f'"{text}" is not a {tag.replace(_CORE, "!!")}', advice))
        return float(value) if tag == _CORE + "float" and isinstance(value, int) else value

    def plain(self, event: Any, text: str) -> Any:
        """A plain scalar by the core schema of YAML 1.2."""
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _INT.fullmatch(text):
            if len(text) > MOST_DIGITS:
                self.errors.append(self.complaint(event, f"an integer of {len(text)} characters", "shorten it"))
                return 0
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if not _FLOAT.fullmatch(text):
            return text
        number = float(text)
        if math.isinf(number):
            advice = "write .inf if infinity is meant"
            self.errors.append(self.complaint(event, f"{text[:40]} overflows float64", advice))
        return number


def plain_text(text: str) -> bool:
    """Whether a plain scalar of the core schema is this text, and no number or word."""
    return text not in _WORDS and not _INT.fullmatch(text) and not _FLOAT.fullmatch(text)


def _spot(event: Any) -> Spot:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


# Held against the schema: the library finds what is wrong, and here it is said in words.


@cache
def schema_of(name: str) -> Any:
    """A JSON Schema of this package, as Python values."""
    return json.loads((PACKAGE / name).read_text(encoding="utf-8"))


@cache
def _validator(name: str) -> Any:
    return jsonschema_rs.Draft7Validator(schema_of(name))


def _finite(value: Any) -> Any:
    """The value as JSON can say it: infinities and nan become a number that is no integer."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return 0.5 if isinstance(value, float) and not math.isfinite(value) else value


def _against_schema(document: Document, schema: str) -> list[CaseFileError]:
    found: dict[tuple[str, str], CaseFileError] = {}
    arrays: set[Path_] = set()
    for error in _validator(schema).iter_errors(_finite(document.value)):
        path = tuple(error.instance_path)
        whole = _array(path)
        if whole in arrays:
            # Of many wrong elements of one array the first is enough.
            continue
        if whole:
            arrays.add(whole)
        for said in _in_words(document, schema_of(schema), path, error):
            if len(found) == MOST_ERRORS:
                more = document.error((), f"more than {MOST_ERRORS} things are wrong", "correct these first")
                return [*sorted(found.values(), key=_by_place), more]
            what = said.message if error.kind.name != "type" else "type"
            found.setdefault((said.where, what), said)
    return sorted(found.values(), key=_by_place)


def _array(path: Path_) -> Path_:
    """The array of numbers that `path` leads into, or nothing: mappings in a list are not an array."""
    end = len(path)
    while end and isinstance(path[end - 1], int):
        end -= 1
    return path[:end] if end < len(path) else ()


def _by_place(error: CaseFileError) -> Spot:
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


def described(value: Any) -> str:
    """A value for a message: short, with what it is."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, str):
        return f'"{value if len(value) <= 40 else value[:37] + "..."}" (a string)'
    return f"{number_text(value)} (a number)"


def number_text(value: float) -> str:
    """A number as a case file would say it."""
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return str(value).replace("e+", "e")


def _at(value: Any, path: Iterable[str | int]) -> Any:
    for step in path:
        value = value[step]
    return value


def _in_words(document: Document, schema: Any, path: Path_, error: Any) -> Iterator[CaseFileError]:
    kind: str = error.kind.name
    facts: Mapping[str, Any] = error.kind.as_dict()
    rule = _at(schema, error.schema_path[:-1]) if kind != "propertyNames" else {}
    value = _at(document.value, path)
    meaning = str(rule.get("description", "")) if isinstance(rule, dict) else ""
    last = str(path[-1]) if path else "the file"

    def complaint(message: str, advice: str, at: Path_ = path, at_key: bool = False) -> CaseFileError:
        return document.error(at, message, advice, at_key)

    match kind:
        case "additionalProperties":
            known = list(rule["properties"])
            for name in facts["unexpected"]:
                free = [key for key in known if key not in value]
                yield complaint(f'unknown key "{name}"', nearest(name, free), (*path, name), at_key=True)
        case "propertyNames":
            for name in value:
                for message, advice in bad_name(schema, name):
                    yield complaint(message, advice, (*path, name), at_key=True)
        case "required":
            name = facts["property"]
            about = _property(schema, error.schema_path, name).get("description", "")
            yield complaint(f"{name} is missing", f"add it: {about}" if about else "add it", at_key=True)
        case "type":
            wanted = " or ".join(_TYPES[name] for name in facts["types"])
            yield complaint(f"{described(value)} is not {wanted}", _type_advice(value, facts["types"], meaning))
        case "enum":
            options = [str(option) for option in facts["options"]]
            said = value if isinstance(value, str) else described(value)
            yield complaint(f'"{said}" is not one of {listed(options)}', nearest(str(said), options))
        case "const":
            wanted = facts["expected_value"]
            yield complaint(f"{described(value)} is not {wanted}", meaning or f"write {wanted}")
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            yield complaint(f"{number_text(value)} is not {_interval(rule)[0]}", f"give {_interval(rule)[1]}")
        case "falseSchema":
            yield complaint(f"{last} has no place beside {_beside(last)}", "remove one of the two", at_key=True)
        case "minLength":
            yield complaint("nothing is written here", meaning or "write it")
        case "minItems" | "maxItems" | "minProperties" | "maxProperties":
            counted = f"{len(value)} {'keys' if isinstance(value, dict) else 'entries'}"
            bound = "at least" if kind.startswith("min") else "at most"
            yield complaint(f"{counted} where there should be {bound} {facts['limit']}", meaning or "correct it")
        case "uniqueItems":
            yield complaint("the same thing is listed twice", "list it once")
        case "pattern":
            yield complaint(f"{described(value)} is not written as it should be", meaning or facts["pattern"])
        case _:
            yield complaint(error.message, meaning)


def _property(schema: Any, schema_path: list[Any], name: str) -> Any:
    """The description of a required property lies in the nearest enclosing rule that has it."""
    for length in range(len(schema_path) - 1, -1, -1):
        rule = _at(schema, schema_path[:length])
        if isinstance(rule, dict) and isinstance(rule.get("properties", {}).get(name), dict):
            return rule["properties"][name]
    return {}


def _type_advice(value: Any, types: list[str], meaning: str) -> str:
    numeric = {"number", "integer"} & set(types)
    if "string" in types and not numeric and isinstance(value, (int, float)) and not isinstance(value, bool):
        return "put it in quotes, with all its digits"
    if types == ["boolean"] and str(value).lower() in ("yes", "no", "on", "off"):
        return "this is YAML 1.2: write true or false"
    if types == ["integer"] and isinstance(value, float):
        return "give a whole number without a point"
    wanted = "give " + " or ".join(_TYPES[name] for name in types)
    return f"{wanted}: {meaning}" if meaning else wanted


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


def _beside(name: str) -> str:
    return "generate" if name != "generate" else "predictions"


def bad_stem(schema: Any, stem: str) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of folders and of the file in `folder/file`; see `bad_name`.

    A folder may be called exactly as a framework: that is where its cases come from, and `-k folder/` selects them.
    """
    *folders, file = stem.split("/")
    taken = re.compile(schema["definitions"]["name"]["not"]["pattern"])
    for name in (*(name for name in folders if not taken.fullmatch(name)), file):
        yield from bad_name(schema, name)


def bad_name(schema: Any, name: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a name of a case, a file or a folder, by the schema's definition of `name`."""
    rule = schema["definitions"]["name"]
    if not re.search(rule["pattern"], name):
        yield f'the name "{name}" is not [a-z][a-z0-9_]*', "use small letters, digits and _"
    elif taken := re.search(rule["not"]["pattern"], name):
        word = taken.group().strip("_")
        advice = f"leave it out: `-k {word}` is to select the framework"
        yield f'the name "{name}" has "{word}" in it, the name of a framework', advice
