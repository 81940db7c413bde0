"""Load case files; all errors in a file are reported together.

The id of a case is `<file path without suffix>/<case name>`, relative to the case folder:
`categorical/ignore_index/with_class_weights`. The folder `known/` contains the ledger and no cases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

import numpy as np

from conformance.casefiles import validation
from conformance.casefiles.document import (
    Document,
    JsonPath,
    describe_value,
    display_path,
    id_prefix_errors,
    number_text,
    read_document,
    read_error_text,
    schema_of,
)
from conformance.casefiles.generated_arrays import ArrayRecipe, GeneratedCase, yaml_quoted_digest
from conformance.casefiles.parsed import UnstorableError, from_json, to_json
from conformance.casefiles.stated_values import wrong_digits
from conformance.casefiles.validation import ValidationError
from conformance.model.case import (
    DEFAULT_DTYPES,
    Array,
    ByOracle,
    Case,
    Digits,
    Expectation,
    Layout,
    MustRaise,
    NoRightAnswer,
    Options,
    Published,
    Target,
)
from conformance.model.errors import CaseErrors, CaseFileError
from conformance.model.text import join_names, suggest, truncate
from conformance.reference.cache import DerivedCache, code_digest

SCHEMA = "case.schema.json"
SUFFIXES = (".yaml", ".yml")
LEDGER_FOLDER = "known"
MAX_FILES = 200_000
"""Maximum number of directory entries in a case folder and its subfolders."""
MAX_GENERATED = 100_000_000
"""Maximum number of predictions that a case may generate."""

STORED_TARGETS: dict[str, Target] = {"one_hot": "distribution", "soft_binary": "binary"}
"""Kinds of targets in files that are special cases or other names of those of a problem."""
REQUIRED_TEXTS = {
    "about": "what the cases of this file have in common",
    "source": "where the cases come from",
    "why": "what would go wrong unnoticed without this case",
    "published": "where the number is printed",
}
"""Texts required in published suites, with what they say; for a published number, its source."""

Shape: TypeAlias = "tuple[int, ...]"
FileReader: TypeAlias = "Callable[[Path, str], tuple[list[Case], list[CaseFileError]]]"
"""Reads the cases and the errors of a file, given the prefix of their ids."""
T = TypeVar("T")


def shipped_cases() -> Path:
    """The case folder of this package: inside it if installed, next to it in a checkout."""
    package = Path(__file__).parents[1]
    installed_folder = package / "cases"
    return installed_folder if installed_folder.is_dir() else package.parent / "cases"


@functools.cache
def is_shipped(path: str) -> bool:
    """Whether a case file is shipped with this package."""
    return resolve_links(Path(path)).is_relative_to(resolve_links(shipped_cases()))


def load(folder: Path) -> list[Case]:
    """Load all cases below a folder, or of one file, sorted by id. Raises CaseErrors."""
    cases, errors = read(folder)
    if errors:
        raise CaseErrors(tuple(errors))
    return cases


def read(folder: Path, *, thorough: bool = False, strict: bool = False) -> tuple[list[Case], list[CaseFileError]]:
    """Read the cases of all valid files, sorted by id, and the errors in the others.

    thorough: whether to generate arrays, too, and compare them with their digests, and the digits of `expect` with the
    exact answer, which takes as long as computing both.
    strict: whether to require the properties of published cases: a first line that names the schema, `about`, `source`
    and `why`.
    """
    if not (thorough or strict) and resolve_links(Path(folder)) == resolve_links(shipped_cases()):
        with DerivedCache() as remembered:
            return _read_all(Path(folder), functools.partial(_read_cached, remembered))
    return _read_all(Path(folder), functools.partial(read_file, thorough=thorough, strict=strict))


def _read_all(folder: Path, read_one: FileReader) -> tuple[list[Case], list[CaseFileError]]:
    """See `read`."""
    files, errors = _files(folder)
    cases: list[Case] = []
    files_by_prefix: dict[str, Path] = {}
    for file, id_prefix in files:
        if id_prefix in files_by_prefix:
            advice = "rename one of the two files"
            errors.append(
                _path_error(
                    file, f"its cases have the same ids as those of {display_path(files_by_prefix[id_prefix])}", advice
                )
            )
        files_by_prefix[id_prefix] = file
        cases_of_file, errors_of_file = read_one(file, id_prefix)
        errors += errors_of_file
        cases += [] if errors_of_file else cases_of_file
    return sorted(cases, key=lambda case: case.id), errors


def _cases_with_prefix(items: Iterable[Any], id_prefix: str) -> list[Case]:
    """Cached cases; raises TypeError if they cannot be those of a file."""
    cases = list(items)
    if not all(isinstance(case, Case) and case.id.startswith(f"{id_prefix}/") for case in cases):
        raise TypeError(f"no cases of {id_prefix}")
    return cases


def _read_cached(remembered: DerivedCache, file: Path, id_prefix: str) -> tuple[list[Case], list[CaseFileError]]:
    """`read_file` with a cache for shipped files: parsing and checking takes ten times as long as the cache."""
    content = file.read_bytes() if file.is_file() else b""
    facts = (display_path(file), hashlib.sha256(content).hexdigest(), _reader_digest())
    name = f"cases of {id_prefix}"
    if stored := remembered.get(name, *facts, read=lambda value: _cases_with_prefix(from_json(value), id_prefix)):
        return stored, []
    cases, errors = read_file(file, id_prefix)
    if not errors:
        with contextlib.suppress(UnstorableError):
            remembered.put(name, to_json(tuple(cases)), *facts)
    return cases, errors


@functools.cache
def _reader_digest() -> str:
    """A digest of everything that affects how a file is parsed into cases."""
    return f"{code_digest('model', 'reference', 'casefiles')} {schema_of(SCHEMA)}"


def count_cases(folder: Path) -> tuple[int, int]:
    """Number of cases in the files of a folder, including wrong ones, and number of files that cannot be counted."""
    count = uncounted = 0
    for file, _ in _files(folder)[0]:
        document, _ = read_document(file, SCHEMA)
        cases = document.value.get("cases") if document is not None and isinstance(document.value, dict) else None
        count += len(cases) if isinstance(cases, dict) else 0
        uncounted += not isinstance(cases, dict)
    return count, uncounted


def _files(folder: Path) -> tuple[list[tuple[Path, str]], list[CaseFileError]]:
    """The case files of a folder, or the single file at a path, each with the prefix of its ids; and the errors."""
    errors: list[CaseFileError] = []
    files: list[tuple[Path, str]] = []
    if is_folder(folder):
        paths, errors = files_below(folder, skip=LEDGER_FOLDER)
        files = [(file, file.relative_to(folder).with_suffix("").as_posix()) for file in paths]
        if not files and not errors:
            advice = "add case files that end in .yaml, or give the folder that holds them"
            errors.append(_path_error(folder, "there are no case files in it", advice))
    elif not os.path.lexists(folder):
        errors.append(_path_error(folder, "there is no such folder", "give a folder of case files"))
    else:
        files = [(folder, resolve_links(folder).relative_to(id_root(folder)).with_suffix("").as_posix())]
    return files, errors


def files_below(folder: Path, skip: str = "") -> tuple[list[Path], list[CaseFileError]]:
    """List all YAML files below a folder, sorted, and the errors; hidden files are skipped.

    Links are followed, except to a folder that contains them. skip: name of an entry of the folder to leave out.
    """
    files: list[Path] = []
    errors: list[CaseFileError] = []
    visited = 0
    pending: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while pending:
        current, ancestors = pending.pop()
        try:
            status = current.stat()
            path_of_folders = ancestors | {(status.st_dev, status.st_ino)}
            names = sorted(path.name for path in current.iterdir())
        except OSError as error:
            errors.append(
                _path_error(
                    current, f"cannot be read: {read_error_text(current, error)}", "see who may read it, or remove it"
                )
            )
            continue
        if len(path_of_folders) == len(ancestors):
            errors.append(_path_error(current, "a link to a folder that it is inside of", "remove the link"))
            continue
        visited += len(names)
        if visited > MAX_FILES:
            errors.append(_path_error(folder, f"there are more than {MAX_FILES} files in it", "give a smaller folder"))
            break
        for name in names:
            path = current / name
            if name.startswith(".") or (current == folder and name == skip):
                continue
            errors += _name_errors(path)
            if is_folder(path) or _is_dangling_link(path):
                pending.append((path, path_of_folders))
            elif name.endswith(SUFFIXES):
                files.append(path)
    return sorted(files), errors


def _name_errors(path: Path) -> Iterator[CaseFileError]:
    """Errors in the name of an entry of a case folder."""
    if is_folder(path):
        if path.name.endswith(SUFFIXES):
            yield _path_error(path, "a folder with the name of a case file", "give it another name")
    elif path.name.lower().endswith(SUFFIXES) and not path.name.endswith(SUFFIXES):
        yield _path_error(path, f"ends in {path.suffix}", f"rename it to {path.suffix.lower()}")


def _is_dangling_link(path: Path) -> bool:
    """Whether an entry is a symbolic link without a target and not named like a case file: it was a folder."""
    return not path.name.lower().endswith(SUFFIXES) and path.is_symlink() and not os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, after following links; False if it cannot be followed."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def resolve_links(path: Path) -> Path:
    """A path without links; a link to itself is unchanged."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # an invalid character
        return path


def id_root(file: Path) -> Path:
    """The folder to which the ids of a single file are relative: the shipped one, the nearest `cases`, or its own."""
    file = resolve_links(file)
    if file.is_relative_to(resolve_links(shipped_cases())):
        return resolve_links(shipped_cases())
    return next((parent for parent in file.parents if parent.name == "cases"), file.parent)


def cases_option(case: Case) -> str:
    """`--cases PATH ` (with a trailing space), with which a command finds the case; "" for shipped cases and those
    in no file.
    """
    return "" if (folder := cases_argument(case)) is None else f"--cases {shlex.quote(str(folder))} "


def cases_argument(case: Case) -> PurePosixPath | None:
    """The value of the command line's `--cases` with which the case is found; None for shipped cases and those in no
    file.

    A case folder; the file itself if the ids do not follow from its path in a folder.
    """
    if not case.path or is_shipped(case.path):
        return None
    file = PurePosixPath(case.path)
    folders = PurePosixPath(case.id).parent.parts
    below = file.with_suffix("").parts[-len(folders) :] == folders
    return PurePosixPath(*file.parts[: -len(folders)]) if below else file


def expectation_errors(case: Case) -> list[CaseFileError]:
    """Errors for expected digits of a case that differ from the oracle's."""
    if not (messages := wrong_digits(case)):
        return []
    assert isinstance(case.expect, Digits)
    location = f"$.cases.{case.id.rpartition('/')[2]}.expect"
    advice = f"print it with: conformance expect {cases_option(case)}{case.id}"
    return [CaseFileError(case.path, *case.expect.position, location, message, advice) for message in messages]


def _path_error(path: Path, message: str, advice: str) -> CaseFileError:
    return CaseFileError(display_path(path), 0, 0, "", message, advice)


def read_file(
    file: Path, id_prefix: str, *, thorough: bool = False, strict: bool = False
) -> tuple[list[Case], list[CaseFileError]]:
    """Read the cases of one file, and its errors. id_prefix: part of their ids before the last slash."""
    document, schema_errors = read_document(file, SCHEMA, strict=strict)
    errors = [
        CaseFileError(display_path(file), 1, 1, "", message, advice)
        for message, advice in id_prefix_errors(schema_of(SCHEMA), id_prefix)
    ] + schema_errors
    cases: list[Case] = []
    if document is None:
        return cases, errors
    if strict:
        errors += _missing_texts(document)
    if _family_fits(document, errors):
        for name in document.value["cases"]:
            parser = _CaseParser(document, name, f"{id_prefix}/{name}")
            cases += filter(None, [parser.parse(thorough)])
            errors += parser.errors
    return cases, sorted(errors, key=lambda error: (error.line, error.column))


def _missing_texts(document: Document) -> Iterator[CaseFileError]:
    """An error for each text of `REQUIRED_TEXTS` that a file or one of its cases lacks."""
    content = document.value if isinstance(document.value, dict) else {}
    cases = content.get("cases")
    named_cases = cases.items() if isinstance(cases, dict) else ()
    nodes: list[tuple[JsonPath, str, Any, str]] = [
        ((), name, content, REQUIRED_TEXTS[name]) for name in ("about", "source")
    ]
    for case_name, case in named_cases:
        if isinstance(case, dict):
            nodes.append((("cases", case_name), "why", case, REQUIRED_TEXTS["why"]))
            published = case.get("published")
            for index, number in enumerate(published if isinstance(published, list) else ()):
                nodes.append((("cases", case_name, "published", index), "source", number, REQUIRED_TEXTS["published"]))
    for path, name, node, meaning in nodes:
        if isinstance(node, dict) and name not in node:
            yield document.error(path, f"{name} is missing", f"add it: {meaning}", at_key=True)


def _family_fits(document: Document, errors: list[CaseFileError]) -> bool:
    """Whether cases can be parsed: there are some, and loss, kind of predictions and kind of targets are compatible."""
    content, family = document.value, ("loss", "given", "target")
    if not isinstance(content, dict) or any(key not in content or document.has_error_at((key,)) for key in family):
        return False
    loss, input_kind, target = (content[key] for key in family)
    family_errors = list(validation.family_errors(loss, input_kind, STORED_TARGETS.get(target, target), target))
    errors += [document.error(error.path, error.message, error.advice) for error in family_errors]
    return not family_errors and isinstance(content.get("cases"), dict)


@dataclass(eq=False)
class _CaseParser:
    """Parses one case, and collects its errors beyond those found by the schema.

    A part that the schema rejects, or that is missing, is skipped; every other part is parsed.
    """

    document: Document
    name: str
    id: str
    errors: list[CaseFileError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = self.document.value
        self.content = self.file["cases"][self.name]
        self.categorical = self.file["loss"] == "categorical"
        self.class_names: tuple[Any, ...] = ()
        self.other_names: dict[Any, int] = {}
        """Label names without a class -> the labels that stand for them."""
        self.written_axis = -1
        """Axis of the classes in the arrays of the file, counted from 0; -1 if it is the last."""
        self.rank = 0
        self.target: Target = STORED_TARGETS.get(self.file["target"], self.file["target"])

    def make_error(self, path: JsonPath, message: str, advice: str = "") -> CaseFileError:
        return self.document.error(("cases", self.name, *path), message, advice)

    def add_error(self, path: JsonPath, message: str, advice: str = "") -> None:
        self.errors.append(self.make_error(path, message, advice))

    def add_errors(self, errors: Iterable[ValidationError]) -> None:
        for error in errors:
            self.add_error(self.written_path(error.path), error.message, error.advice)

    def has_error_at(self, *path: str) -> bool:
        """Whether the schema rejects something at or below a path in the case."""
        return self.document.has_error_at(("cases", self.name, *path))

    def stated_axis(self) -> int | None:
        """The class axis stated in the file, unchanged; None if there is no valid one."""
        layout = {} if self.has_error_at("layout") else self.content.get("layout", {})
        axis: int | None = layout.get("written_class_axis")
        return None if any(validation.axis_errors(self.file["loss"], self.rank, axis)) else axis

    def attempt(self, key: str, parse: Callable[..., T], *arguments: Any) -> T | None:
        """The result of `parse`; None if the schema rejects its key, or it finds errors."""
        if key and self.has_error_at(key):
            return None
        count = len(self.errors)
        try:
            result = parse(*arguments)
        except CaseFileError as error:
            self.errors.append(error)
        return None if len(self.errors) > count else result

    def parse(self, thorough: bool) -> Case | None:
        """Parse the case; None if a part needed for checking its content is missing or wrong.

        An unknown key may be a misspelling of any part.
        """
        if not isinstance(self.content, dict):
            return None
        reductions, dtypes = self.attempt_names("reduction", ("mean",)), self.attempt_names("dtypes", DEFAULT_DTYPES)
        self.reductions = reductions or ()
        recipe = self.attempt("generate", self.parse_recipe) if "generate" in self.content else None
        predictions, labels, shape = self.parse_arrays(recipe)
        expect, published = None, None
        if reductions is not None:
            expect = self.attempt("expect", self.parse_expectation, shape)
            published = self.attempt("published", self.parse_published, shape)
        options = self.attempt("", self.parse_options, shape, expect)
        if recipe is not None and options is not None:
            self.check_generated(recipe, options, expect)
        if predictions is None or labels is None:
            return None
        layout = self.attempt("layout", self.parse_layout, predictions, labels)
        unknown = self.content.keys() - schema_of(SCHEMA)["definitions"]["case"]["properties"].keys()
        if options is None or None in (dtypes, expect) or self.has_error_at("options") or unknown:
            return None
        fields = {"dtypes": dtypes, "expect": expect, "published": published or (), "layout": layout or Layout()}
        case = self.build(recipe, predictions, labels, options, fields)
        return self.checked(dataclasses.replace(case, note=self.note(case)) if recipe is None else case, thorough)

    def parse_arrays(self, recipe: ArrayRecipe | None) -> tuple[Array | None, Array | None, Shape | None]:
        """Predictions and labels (a few of them for a recipe), and the shape of all predictions."""
        if recipe is not None:
            small = recipe.shrunk().generate()
            shape = (*recipe.shape, recipe.classes) if self.categorical else recipe.shape
            if "classes" in self.content:
                self.class_names = self.attempt("classes", self.parse_class_names, small.predictions, recipe.soft) or ()
            return small.predictions, small.labels, shape
        predictions = labels = None
        layout = {} if self.has_error_at("layout") else self.content.get("layout", {})
        self.written_axis = layout.get("written_class_axis", -1) if self.categorical else -1
        if "predictions" in self.content and not self.has_error_at("shape"):
            predictions = self.attempt("predictions", self.parse_predictions)
        names = self.attempt("classes", self.parse_class_names, predictions) if "classes" in self.content else ()
        self.class_names = names or ()
        if "labels" in self.content and names is not None:
            labels = self.attempt("labels", self.parse_labels, (0,) if predictions is None else predictions.shape)
        return predictions, labels, None if predictions is None else predictions.shape

    def build(
        self, recipe: ArrayRecipe | None, predictions: Array, labels: Array, options: Options, fields: dict[str, Any]
    ) -> Case:
        """Build the case from its parsed parts; texts that the schema rejects are omitted."""
        fields |= {
            "id": self.id,
            "why": self.content.get("why", ""),
            "about": self.file.get("about", ""),
            "source": self.content.get("source", self.file.get("source", "")),
            "loss": self.file["loss"],
            "input_kind": self.file["given"],
            "target": self.target,
            "written_target": self.file["target"] if self.file["target"] in STORED_TARGETS else "",
            "reductions": self.reductions,
            "path": self.document.path,
            "no_gradient": "" if self.has_error_at("gradient") else self.content.get("gradient", {}).get("why", ""),
            "line": self.document.position(("cases", self.name), at_key=True)[0],
        }
        if recipe is None:
            return Case(
                predictions=predictions, labels=labels, options=options, written_class_axis=self.written_axis, **fields
            )
        path: JsonPath = ("cases", self.name, "generate", "digest")
        location = (self.document.path, *self.document.position(path), "$." + ".".join(map(str, path)))
        digest = self.content["generate"].get("digest", "")
        return GeneratedCase(
            recipe=recipe, explicit_options=options, expected_digest=digest, digest_location=location, **fields
        )

    def checked(self, case: Case, thorough: bool) -> Case:
        """Return the case; errors in the content of its arrays, and in its digits, are collected."""
        if thorough or not isinstance(case, GeneratedCase):
            if not isinstance(case, GeneratedCase) or case.expected_digest:
                self.attempt("", lambda: self.add_errors(validation.content_errors(case, self.stated_axis())))
            if thorough and not self.errors:
                self.errors += expectation_errors(case)
        return case

    def attempt_names(self, key: str, default: Sequence[str]) -> tuple[str, ...] | None:
        """Reductions or dtypes of the case or else of the file; None if the schema rejects them."""
        if key in self.content:
            return self.attempt(key, _as_tuple, self.content[key])
        return None if self.document.has_error_at((key,)) else _as_tuple(self.file.get(key, default))

    def sample_shape(self, shape: Shape) -> Shape:
        return shape[:-1] if self.categorical else shape

    def check_integers(self, node: dict[str, Any], *path: str) -> None:
        """Raise for a number such as 4.0, which the schema accepts, where an integer is required."""
        for name in ("seed", "samples", "classes", "shape"):
            for at, leaf in _leaves(node.get(name, [])):
                if isinstance(leaf, float):
                    raise self.make_error((*path, name, *at), f"{leaf} is not an integer", f"write {int(leaf)}")

    # Arrays

    def parse_numbers(self, path: JsonPath, value: Any) -> Array:
        """A float64 array from nested lists of numbers."""
        self.check_rectangular(path, value)
        try:
            return np.array(value, dtype=np.float64)
        except OverflowError:
            at, number = next((at, leaf) for at, leaf in _leaves(value) if not _fits_float64(leaf))
            raise self.make_error((*path, *at), f"{str(number)[:20]}... overflows float64", "write .inf") from None

    def written_path(self, path: JsonPath) -> JsonPath:
        """The path in the file of a number in predictions or distributions, which have the classes on the last axis.

        If the path is that of a row, the path of the list that contains it.
        """
        axis, (name, *at) = self.written_axis, path
        if axis == -1 or name not in ("predictions", "labels") or (name == "labels" and self.target == "index"):
            return path
        is_full = len(at) > axis and len(at) == self.rank
        return (name, *at[:axis], *([at[-1], *at[axis:-1]] if is_full else []))

    def check_rectangular(self, path: JsonPath, value: Any) -> None:
        """Raise if sibling lists differ in length, or lists and numbers are siblings."""
        uneven = _find_uneven(value)
        if uneven is not None:
            at, message = uneven
            raise self.make_error((*path, *at), message, "give every row the same length")

    def parse_predictions(self) -> Array:
        value, shape = self.content["predictions"], self.content.get("shape")
        self.check_integers({"shape": shape or []})
        array = self.parse_numbers(("predictions",), value)
        if shape is not None:
            if value != [] or 0 not in shape:
                message = "shape is for predictions that are an empty list, and has a 0 in it"
                raise self.make_error(("shape",), message, "remove it")
            if (count := math.prod(filter(None, shape))) > MAX_GENERATED:
                message = f"{count} numbers along the axes that are not 0 are more than {MAX_GENERATED}"
                raise self.make_error(("shape",), message, "give a smaller shape")
            array = array.reshape(shape)
        elif array.size == 0:
            advice = f"add shape: {[0, 3] if self.categorical else [0]}" if value == [] else "write [] and a shape"
            raise self.make_error(("predictions",), "an empty list does not show its shape", advice)
        if self.categorical and not array.ndim:
            message = "a single number for all classes"
            raise self.make_error(("predictions",), message, "give a list with a number per class, or a list of those")
        if self.categorical:
            array = self.classes_last(array)
        if self.categorical and array.shape[-1] == 0:
            raise self.make_error(("shape",), "no classes on the last axis", "give at least one")
        return array

    def classes_last(self, predictions: Array) -> Array:
        """Move the classes of the predictions from the file's axis to the last one."""
        self.rank = predictions.ndim
        errors = list(validation.axis_errors("categorical", self.rank, self.written_axis))
        axis = self.written_axis % self.rank
        self.written_axis = -1 if errors or axis == self.rank - 1 else axis
        return np.moveaxis(predictions, self.written_axis, -1)

    def parse_labels(self, shape: Shape) -> Array:
        value, path = self.content["labels"], ("labels",)
        if value == []:
            label_shape = self.sample_shape(shape) if self.target == "index" else shape
            dtype = np.int64 if self.target == "index" or self.class_names else np.float64
            return np.zeros(label_shape if 0 in label_shape else (0,), dtype=dtype)
        self.check_rectangular(path, value)
        leaves = list(_leaves(value))
        if self.class_names:
            return self.parse_named_labels(leaves, _shape_of(value))
        kinds = {type(leaf) for _, leaf in leaves}
        self.check_label_kinds(leaves, kinds)
        if kinds <= {int}:
            for at, leaf in leaves:
                if not -(2**63) <= leaf < 2**63:
                    raise self.make_error((*path, *at), f"{leaf} does not fit into int64", "give a smaller number")
            array: Array = np.array(value, dtype=np.int64)
        else:
            array = np.array(value, dtype=np.bool_) if kinds == {bool} else self.parse_numbers(path, value)
        if self.target == "distribution" and array.ndim == len(shape):
            array = np.moveaxis(array, self.written_axis, -1)
        if self.file["target"] == "one_hot" and array.ndim == len(shape):
            self.check_one_hot(array)
        return array

    def check_label_kinds(self, leaves: Sequence[tuple[JsonPath, Any]], kinds: set[type]) -> None:
        """Raise for labels of two kinds, and for indices that are not written as whole numbers."""
        path: JsonPath = ("labels",)
        if bool in kinds and len(kinds) > 1:
            at = next(at for at, leaf in leaves if not isinstance(leaf, bool))
            raise self.make_error((*path, *at), "labels of two kinds: booleans and numbers", "write all of one kind")
        if self.target == "index" and bool in kinds:
            at, leaf = leaves[0]
            message = f"labels of the wrong kind: {str(leaf).lower()} is not an index"
            advice = "write 1 for true and 0 for false; layout: {label_dtype: bool} hands them over as booleans"
            raise self.make_error((*path, *at), message, advice)
        if self.target == "index" and float in kinds:
            at, leaf = next((at, leaf) for at, leaf in leaves if isinstance(leaf, float))
            message = f"labels of the wrong kind: {number_text(leaf)} is not an index"
            all_integral = all(leaf == leaf // 1 and abs(leaf) < 2**63 for _, leaf in leaves)
            advice = (
                f"write {leaf:.0f}, without a point"
                if all_integral
                else "write whole numbers, or say target: distribution"
            )
            raise self.make_error((*path, *at), message, advice)

    def parse_class_names(self, predictions: Array | None, soft: bool = False) -> tuple[Any, ...]:
        """The names of the classes, all strings or all integers, in the order of the columns.

        soft: whether the labels are generated soft ones.
        """
        path: JsonPath = ("classes",)
        if soft and not self.categorical:
            raise self.make_error(
                path, "classes lists the names used as labels, and soft labels use no names", "remove it, or soft"
            )
        if self.target == "distribution":
            message = f"classes lists the names used as labels, and {self.file['target']} labels use no names"
            raise self.make_error(path, message, "remove it, or say target: index")
        names = self.content["classes"]
        for index, name in enumerate(names):
            self.check_name((*path, index), name, names[0])
            if (first := names.index(name)) < index:
                raise self.make_error(
                    (*path, index), f"{describe_value(name)} is class {first} already", "list it once"
                )
        classes = 2 if not self.categorical else len(names) if predictions is None else predictions.shape[-1]
        if len(names) != classes:
            subject = "predictions have" if self.categorical else "a binary loss has"
            advice = "name the class of each column" if self.categorical else "name that of 0 and that of 1"
            raise self.make_error(path, f"{len(names)} names where {subject} {classes} classes", advice)
        return tuple(names)

    def check_name(self, path: JsonPath, name: Any, first: Any) -> None:
        """Check the name of a class: printable text, or a 64-bit integer, of the same kind as the first name."""
        if isinstance(name, float):
            raise self.make_error(
                path, f"{number_text(name)} is not an integer", f"write {int(name)}, or put it in quotes"
            )
        if type(name) is not type(first):
            kinds = f"{describe_value(name)} beside {describe_value(first)}"
            advice = "put it in quotes" if isinstance(first, str) else "write all names as strings, or all as integers"
            raise self.make_error(path, f"names of two kinds: {kinds}", advice)
        if isinstance(name, str) and not name.isprintable():
            raise self.make_error(path, f"{json.dumps(name)} has characters that do not print", "give another name")
        if isinstance(name, int) and not -(2**63) <= name < 2**63:
            raise self.make_error(path, f"{truncate(str(name), 40)} does not fit into int64", "put it in quotes")

    def parse_named_labels(self, leaves: Iterable[tuple[JsonPath, Any]], shape: Shape) -> Array:
        """Labels that are names of classes, as indices; in a case that must raise, other names are C, C + 1, ..."""
        kind = "label_out_of_range" if self.target == "index" else "invalid_target"
        expect = self.content.get("expect")
        must_raise = isinstance(expect, dict) and expect.get("error") == kind
        indices = {name: index for index, name in enumerate(self.class_names)}
        values = []
        for at, name in leaves:
            self.check_name(("labels", *at), name, self.class_names[0])
            if name not in indices and must_raise:
                self.other_names.setdefault(name, len(indices) + len(self.other_names))
            elif name not in indices:
                advice = truncate(suggest(str(name), map(str, self.class_names)), 200)
                advice = f"{advice.removesuffix('?') or 'correct it'}, or say expect: {{error: {kind}}}"
                raise self.make_error(("labels", *at), f"{describe_value(name)} is not one of the classes", advice)
            values.append((self.other_names | indices)[name])
        return np.array(values, dtype=np.int64).reshape(shape)

    def check_one_hot(self, labels: Array) -> None:
        rows = np.atleast_2d(labels).astype(np.float64)
        wrong = (np.sort(rows, axis=-1) != np.eye(1, rows.shape[-1], rows.shape[-1] - 1)[0]).any(axis=-1)
        if wrong.any():
            at = tuple(int(index) for index in np.argwhere(wrong)[0])
            message = f"{truncate(str(rows[at].tolist()), 40)} is not one 1 and zeros"
            path = self.written_path(("labels", *at))
            raise self.make_error(path, message, "correct it, or say target: distribution")

    # Options, layout, expectation

    def parse_options(self, shape: Shape | None, expect: Expectation | None) -> Options:
        """Parse the options that the schema accepts. shape: shape of the predictions, if known."""
        values: dict[str, Any] = {}
        shapes_may_differ = expect == MustRaise("shape_mismatch")
        node = self.content.get("options", {})
        for name, value in node.items() if isinstance(node, dict) else ():
            path: JsonPath = ("options", name)
            if self.has_error_at("options", name):
                continue
            if name == "ignore_index":
                if self.class_names:
                    self.add_error(path, "labels that name classes have no index to ignore", "remove it, or classes")
                if not isinstance(value, int):
                    self.add_error(path, f"{value} is not an integer", f"write {int(value)}")
                values[name] = int(value)
            elif name == "label_smoothing":
                if value != value:
                    self.add_error(path, ".nan is not in [0, 1]", "give a number from 0 to 1")
                values[name] = float(value)
            else:
                values[name] = self.parse_numbers(path, value)
        options = Options(**values)
        fitted = None if shapes_may_differ else shape
        self.add_errors(validation.option_errors(options, self.file["loss"], self.target, fitted))
        return options

    def parse_layout(self, predictions: Array, labels: Array) -> Layout:
        """Parse the layout; the last axis becomes class axis -1, any other is counted from 0."""
        fields = dict(self.content.get("layout", {}))
        rank = predictions.ndim
        if (written := fields.pop("written_class_axis", None)) is not None:
            self.add_errors(validation.axis_errors(self.file["loss"], rank, written, "written_class_axis"))
        if (axis := fields.get("class_axis")) is not None:
            errors = list(validation.axis_errors(self.file["loss"], rank, axis))
            self.add_errors(errors)
            fields["class_axis"] = -1 if errors or axis % rank == rank - 1 else axis % rank
        layout = Layout(**fields, class_names=self.class_names, other_names=tuple(self.other_names))
        self.add_errors(validation.layout_errors(layout, self.target, predictions, labels))
        return layout

    def note(self, case: Case) -> str:
        """A note on arrays that fit the classes on another axis, too, if the case does not state the axis."""
        axis = validation.other_class_axis(case)
        if axis is None or "written_class_axis" in self.content.get("layout", {}):
            return ""
        message = f"these numbers fit classes on axis {axis} as well as on the last axis, which is how they are read"
        advice = f"say layout: {{written_class_axis: {axis}}} if they are on axis {axis}, or written_class_axis: -1"
        return str(self.make_error(("predictions",), message, advice))

    def parse_expectation(self, shape: Shape | None) -> Expectation:
        """Parse the expectation. shape: shape of the predictions, if known."""
        node = self.content.get("expect", "oracle")
        if node == "oracle":
            return ByOracle()
        if "error" in node:
            return MustRaise(node["error"])
        if "undefined" in node:
            return NoRightAnswer(node["undefined"])
        path: JsonPath = ("expect", "value")
        value = node["value"]
        if not isinstance(value, dict):
            if len(self.reductions) > 1:
                advice = f"write a mapping with {join_names(self.reductions)}"
                raise self.make_error(path, "one value for several reductions", advice)
            value = {self.reductions[0]: value}
        else:
            for reduction in value:
                if reduction not in self.reductions:
                    advice = f"this case has {join_names(self.reductions)}"
                    self.add_error((*path, reduction), f"the case does not have the reduction {reduction}", advice)
        for reduction, expected in value.items():
            at = (*path, reduction) if isinstance(node["value"], dict) else path
            if reduction != "none" or shape is not None:
                self.check_shape(at, expected, self.sample_shape(shape) if shape and reduction == "none" else ())
        return Digits(value, self.document.position(("cases", self.name, "expect"), at_key=True))

    def check_shape(self, path: JsonPath, value: Any, want: Shape) -> None:
        self.check_rectangular(path, value)
        shape = _shape_of(value)
        if shape != want:
            message = f"digits of shape {list(shape)} where there should be {list(want)}"
            self.add_error(path, message, "give one for each element" if want else "give digits without brackets")

    def parse_published(self, shape: Shape | None) -> tuple[Published, ...]:
        """Parse published numbers. shape: shape of the predictions, if known."""
        numbers = []
        for index, node in enumerate(self.content.get("published", ())):
            default = self.reductions[0] if len(self.reductions) == 1 else "mean"
            reduction = node.get("reduction", default)
            if reduction not in self.reductions:
                reductions = join_names((*self.reductions, reduction))
                advice = f"say reduction: [{reductions}] for the case, or another reduction for the number"
                self.add_error(("published", index), f"the case does not have the reduction {reduction}", advice)
                continue
            quantity = node.get("quantity", "loss")
            if shape is not None:
                want = self.sample_shape(shape) if reduction == "none" else ()
                if quantity == "gradient":
                    want = validation.written_shape(shape, self.written_axis)
                elif not self.categorical and len(want) > 1 and _shape_of(node["value"]) == want[:-1]:
                    want = want[:-1]  # for functions that average the outputs of a sample
                self.check_shape(("published", index, "value"), node["value"], want)
            numbers.append(Published(node["value"], node.get("source", ""), node.get("note", ""), reduction, quantity))
        return tuple(numbers)

    # Generated arrays

    def check_generated(self, recipe: ArrayRecipe, options: Options, expect: Expectation | None) -> None:
        """Check the other parts of a case with generated arrays."""
        node = self.content["generate"]
        for name in ("sample_weights", "class_weights"):
            if getattr(options, name) is not None and node.get(name):
                self.add_error(("generate", name), f"{name} are given and generated", "remove one of the two")
        if recipe.ignored and options.ignore_index is None:
            self.add_error(("generate", "ignored"), "there is no ignore_index", "add it to options")
        if isinstance(expect, MustRaise):
            self.add_error(("expect",), "generated arrays are valid", "write out arrays that must be rejected")
        if "digest" not in node:
            advice = f"add digest: {yaml_quoted_digest(recipe.generate().digest)}"
            self.add_error(("generate",), "digest is missing", advice)

    def parse_recipe(self) -> ArrayRecipe:
        node = {name: value for name, value in self.content["generate"].items() if name != "digest"}
        path: JsonPath = ("generate",)
        self.check_integers(node, "generate")
        for name in ("scale", "ignored"):
            if not math.isfinite(number := node.get(name, 0)):
                raise self.make_error((*path, name), f"{number_text(number)} is not finite", "give a number")
        samples, shape, classes = node.pop("samples", None), node.pop("shape", None), node.get("classes")
        if (samples is None) == (shape is None):
            advice = "samples is how many there are; shape: [] is one sample without an axis of samples"
            raise self.make_error(path, "give either samples or shape", advice)
        if shape == [] and node.get("distribution") == "equal_rows":
            raise self.make_error((*path, "distribution"), "one sample has no other rows", "choose another one")
        if self.categorical and classes is None:
            raise self.make_error(path, "classes is missing", "give the number of classes")
        input_kind = self.file["given"]
        requirements = {
            "classes": ("a categorical loss", self.categorical),
            "class_weights": ("a categorical loss", self.categorical),
            "scale": ("logits", input_kind == "logits"),
            "soft": ("targets other than index and one_hot", self.file["target"] not in ("index", "one_hot")),
            "ignored": ("index targets", self.target == "index"),
            "offset": ("logits", input_kind == "logits"),
            "label_block": ("a categorical loss", self.categorical),
            "distribution": (
                "logits of a categorical loss, if it is constant or peaks,",
                (self.categorical and input_kind == "logits") or node.get("distribution") not in ("constant", "peaks"),
            ),
        }
        for name, (condition, is_met) in requirements.items():
            if name in node and not is_met:
                raise self.make_error((*path, name), f"{name} is for {condition} only", "remove it")
        if input_kind == "log_probabilities":
            message = "logarithms are not the same bits on every platform"
            raise self.make_error(path, message, "generate logits or probabilities")
        ignore_index = (
            -100 if self.has_error_at("options") else self.content.get("options", {}).get("ignore_index", -100)
        )
        recipe = ArrayRecipe(
            loss=self.file["loss"],
            input_kind=input_kind,
            target=self.target,
            shape=(samples,) if shape is None else tuple(shape),
            ignore_index=int(ignore_index),
            **{"soft": self.file["target"] == "distribution", **node, "classes": classes or 1},
        )
        count = recipe.classes * math.prod(recipe.shape)
        if count > MAX_GENERATED:
            raise self.make_error(path, f"{count} numbers are more than {MAX_GENERATED}", "generate fewer")
        return recipe


def _as_tuple(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _leaves(value: Any, at: JsonPath = ()) -> Iterator[tuple[JsonPath, Any]]:
    if not isinstance(value, list):
        yield at, value
        return
    for index, item in enumerate(value):
        yield from _leaves(item, (*at, index))


def _fits_float64(number: Any) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _length_text(shape: Shape) -> str:
    return f"has {shape[0]} element{'' if shape[0] == 1 else 's'}" if shape else "is a single value"


def _shape_of(value: Any) -> Shape:
    """The shape of rectangular nested lists."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _find_uneven(value: Any, at: JsonPath = ()) -> tuple[JsonPath, str] | None:
    """Position and description of an irregularity in nested lists; None if they form an array."""
    if not isinstance(value, list) or not value:
        return None
    want = _shape_of(value[0])
    for index, item in enumerate(value):
        if (nested := _find_uneven(item, (*at, index))) is not None:
            return nested
        shape = _shape_of(item)
        if shape != want:
            description = _length_text(shape)
            first = _length_text(want)
            if len(shape) == len(want) and shape[:1] == want[:1]:
                description, first = f"has shape {list(shape)}", f"has shape {list(want)}"
            return (*at, index), f"ragged: row {index} {description}, row 0 {first}"
    return None
