"""Case files to cases: whatever is wrong with a file is found here, and everything that is.

A case's id is its file's path below the folder, without suffix, and its name:
`categorical/ignore_index/with_class_weights`.  The folder `known/` holds the ledger and no cases.
"""

from __future__ import annotations

import math
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np

from conformance.casefiles import validation
from conformance.casefiles.document import (
    Document,
    Path_,
    bad_stem,
    listed,
    number_text,
    read_document,
    schema_of,
    shown,
    why_not,
)
from conformance.casefiles.generated_arrays import GeneratedCase, Recipe, digits
from conformance.casefiles.validation import Fault
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
)
from conformance.model.errors import CaseErrors, CaseFileError

__all__ = ["CaseErrors", "CaseFileError", "load", "read", "read_file", "shipped"]

SCHEMA = "case.schema.json"
SUFFIXES = (".yaml", ".yml")
KNOWN = "known"

Shape: TypeAlias = "tuple[int, ...]"


def shipped() -> Path:
    """The case folder that belongs to this package: inside it once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "cases"
    return inside if inside.is_dir() else package.parent / "cases"


def load(folder: Path) -> list[Case]:
    """Every case below a folder, or of one file, sorted by id; raises CaseErrors if anything is wrong."""
    cases, errors = read(folder)
    if errors:
        raise CaseErrors(tuple(errors))
    return cases


def read(folder: Path, *, generate: bool = False) -> tuple[list[Case], list[CaseFileError]]:
    """The cases of every good file, sorted by id, and everything wrong with the others.

    generate: make generated arrays and check them too, which takes as long as making them.
    """
    folder = Path(folder)
    errors: list[CaseFileError] = []
    files: list[tuple[Path, str]] = []
    if is_folder(folder):
        found, errors = files_below(folder, skip=KNOWN)
        files = [(file, file.relative_to(folder).with_suffix("").as_posix()) for file in found]
        if not files and not errors:
            advice = "add case files that end in .yaml, or give the folder that holds them"
            errors.append(_about(folder, "there are no case files in it", advice))
    elif not os.path.lexists(folder):
        errors.append(_about(folder, "there is no such folder", "give a folder of case files"))
    else:
        files = [(folder, real(folder).relative_to(root_of(folder)).with_suffix("").as_posix())]
    cases: list[Case] = []
    taken: dict[str, Path] = {}
    for file, stem in files:
        if stem in taken:
            advice = "rename one of the two files"
            errors.append(_about(file, f"its cases have the same ids as those of {shown(taken[stem])}", advice))
        taken[stem] = file
        of_file, wrong = read_file(file, stem, generate=generate)
        errors += wrong
        cases += [] if wrong else of_file
    return sorted(cases, key=lambda case: case.id), errors


def files_below(folder: Path, skip: str = "") -> tuple[list[Path], list[CaseFileError]]:
    """Every YAML file below a folder, in order, and what cannot be looked into; hidden ones do not count.

    Links are followed, but for those that lead to a folder that they are inside of.  skip: the name of what directly
    below the folder is left aside.
    """
    files: list[Path] = []
    errors: list[CaseFileError] = []
    looked_at = 0
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while waiting:
        here, above = waiting.pop()
        try:
            status = here.stat()
            inside = above | {(status.st_dev, status.st_ino)}
            names = sorted(path.name for path in here.iterdir())
        except OSError as error:
            errors.append(_about(here, f"cannot be read: {why_not(here, error)}", "see who may read it, or remove it"))
            continue
        if len(inside) == len(above):
            errors.append(_about(here, "a link to a folder that it is inside of", "remove the link"))
            continue
        looked_at += len(names)
        if looked_at > MOST_LOOKED_AT:
            errors.append(_about(folder, f"there are more than {MOST_LOOKED_AT} files in it", "give a smaller folder"))
            break
        for name in names:
            path = here / name
            if name.startswith(".") or (here == folder and name == skip):
                continue
            if is_folder(path):
                waiting.append((path, inside))
                if _is_case_file(name):
                    errors.append(_about(path, "a folder with the name of a case file", "give it another name"))
            elif _is_case_file(name):
                files.append(path)
            elif name.lower().endswith(SUFFIXES):
                suffix = path.suffix
                errors.append(_about(path, f"ends in {suffix}", f"rename it to {suffix.lower()}"))
            elif path.is_symlink() and not _leads_somewhere(path):
                waiting.append((path, inside))  # it may have been a folder, and cannot be looked into
    return sorted(files), errors


MOST_LOOKED_AT = 200_000
"""Names in a case folder and below it."""


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; not where it leads nowhere, or may not be followed."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _leads_somewhere(link: Path) -> bool:
    try:
        link.stat()
    except OSError:
        return False
    return True


def _is_case_file(name: str) -> bool:
    return name.endswith(SUFFIXES)


def real(path: Path) -> Path:
    """A path without links; one that leads to itself stays as it is."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a character that no path has
        return path


def root_of(file: Path) -> Path:
    """The folder that ids of a single file start from: the shipped one, the nearest `cases`, else its own."""
    file = real(file)
    if file.is_relative_to(real(shipped())):
        return real(shipped())
    return next((parent for parent in file.parents if parent.name == "cases"), file.parent)


def cases_option(case: Case) -> str:
    """The option that finds a case under its id again, and a blank; empty for the shipped ones and those in no file."""
    return "" if (found := found_in(case)) is None else f"--cases {shlex.quote(str(found))} "


def found_in(case: Case) -> PurePosixPath | None:
    """What a case has its id from, as the user would type it; None for the shipped ones and those in no file.

    A folder of cases, or a single file whose ids start elsewhere.
    """
    if not case.path or real(Path(case.path)).is_relative_to(real(shipped())):
        return None
    file = PurePosixPath(case.path)
    stem = PurePosixPath(case.id).parent.parts
    below = file.with_suffix("").parts[-len(stem) :] == stem
    return PurePosixPath(*file.parts[: -len(stem)]) if below else file


def _about(path: Path, message: str, advice: str) -> CaseFileError:
    return CaseFileError(shown(path), 0, 0, "", message, advice)


def read_file(file: Path, stem: str, *, generate: bool = False) -> tuple[list[Case], list[CaseFileError]]:
    """The cases of one file, and everything wrong with it; `stem` is what their ids start with."""
    document, errors = read_document(file, SCHEMA)
    errors += [
        CaseFileError(shown(file), 1, 1, "", message, advice) for message, advice in bad_stem(schema_of(SCHEMA), stem)
    ]
    if document is None:
        return [], errors
    # What the schema refused is reported; the rest of the file is still looked at, as far as it makes sense.
    refused = {error.where for error in errors}
    if not isinstance(document.value, dict) or not isinstance(document.value.get("cases"), dict):
        return [], errors
    if any(where and not where.startswith("$.cases.") for where in refused):
        return [], errors
    if not _file_fits(document, errors):
        return [], errors
    cases = []
    for name in document.value["cases"]:
        path = f"$.cases.{name}"
        if any(where == path or where.startswith((path + ".", path + "[")) for where in refused):
            continue
        builder = _Builder(document, name, f"{stem}/{name}")
        try:
            cases.append(builder.build(generate))
        except CaseFileError as error:
            errors.append(error)
        errors += builder.errors
    return cases, sorted(errors, key=lambda error: (error.line, error.column))


def _file_fits(document: Document, errors: list[CaseFileError]) -> bool:
    said = document.value
    wrong = list(validation.family_faults(said["loss"], said["given"], said["target"]))
    errors += [document.error(fault.path, fault.message, fault.advice) for fault in wrong]
    return not wrong


@dataclass(eq=False)
class _Builder:
    """One case from its mapping, which the schema has accepted; what is still wrong is collected."""

    document: Document
    name: str
    id: str
    errors: list[CaseFileError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = self.document.value
        self.said = self.file["cases"][self.name]
        self.categorical = self.file["loss"] == "categorical"
        self.target = self.file["target"]

    def complaint(self, path: Path_, message: str, advice: str = "") -> CaseFileError:
        return self.document.error(("cases", self.name, *path), message, advice)

    def note(self, path: Path_, message: str, advice: str = "") -> None:
        self.errors.append(self.complaint(path, message, advice))

    def faults(self, found: Iterable[Fault]) -> None:
        for fault in found:
            self.note(fault.path, fault.message, fault.advice)

    def build(self, generate: bool) -> Case:
        """The case; raises the first error that leaves nothing to go on with."""
        self.whole_numbers()
        self.reductions = tuple(self.listed("reduction", ("mean",)))
        self.dtypes = tuple(self.listed("dtypes", DEFAULT_DTYPES))
        stated: dict[str, Any] = {
            "id": self.id,
            "why": self.said["why"],
            "about": self.file["about"],
            "source": self.said.get("source", self.file["source"]),
            "loss": self.file["loss"],
            "given": self.file["given"],
            "target": self.target,
            "reductions": self.reductions,
            "dtypes": self.dtypes,
            "path": self.document.path,
            "no_gradient": self.said.get("gradient", {}).get("why", ""),
            "line": self.document.spot(("cases", self.name), at_key=True)[0],
        }
        if "generate" in self.said:
            return self.generated(stated, generate)
        predictions = self.predictions()
        labels = self.labels(predictions.shape)
        expect = self.expect(self.sample_shape(predictions.shape))
        case = Case(
            predictions=predictions,
            labels=labels,
            options=self.options(predictions.shape, expect),
            layout=self.layout(predictions, labels),
            expect=expect,
            published=self.published(),
            **stated,
        )
        if not self.errors:
            self.faults(validation.content_faults(case))
        return case

    def listed(self, key: str, default: Sequence[str]) -> Sequence[str]:
        value = self.said.get(key, self.file.get(key, default))
        return (value,) if isinstance(value, str) else value

    def sample_shape(self, shape: Shape) -> Shape:
        return shape[:-1] if self.categorical else shape

    def whole_numbers(self) -> None:
        """Raise for a number with a point where a schema, to which 4.0 is an integer, wants an integer."""
        generate = self.said.get("generate", {})
        found = [((*path, name), of[name]) for path, of in (((), self.said), (("generate",), generate))
                 for name in ("seed", "samples", "classes", "shape") if name in of]  # fmt: skip
        for path, value in found:
            for at, leaf in _leaves(value):
                if not isinstance(leaf, int):
                    raise self.complaint((*path, *at), f"{leaf} is not an integer", f"write {int(leaf)}")
        for name in ("scale", "ignored"):
            if not math.isfinite(number := generate.get(name, 0)):
                raise self.complaint(("generate", name), f"{number_text(number)} is not finite", "give a number")

    # Arrays

    def numbers(self, path: Path_, value: Any) -> Array:
        """A float64 array of nested lists of numbers."""
        self.rectangular(path, value)
        try:
            return np.array(value, dtype=np.float64)
        except OverflowError:
            at, number = next(
                (at, leaf) for at, leaf in _leaves(value) if isinstance(leaf, int) and abs(leaf) > 2**1023
            )
            raise self.complaint((*path, *at), f"{str(number)[:20]}... overflows float64", "write .inf") from None

    def rectangular(self, path: Path_, value: Any) -> None:
        """Raise where sibling lists differ in length, or lists stand beside numbers."""
        uneven = _uneven(value)
        if uneven is not None:
            at, message = uneven
            raise self.complaint((*path, *at), message, "give every row the same length")

    def predictions(self) -> Array:
        value, shape = self.said["predictions"], self.said.get("shape")
        array = self.numbers(("predictions",), value)
        if shape is not None:
            if value != [] or 0 not in shape:
                message = "shape is for predictions that are an empty list, and has a 0 in it"
                raise self.complaint(("shape",), message, "remove it")
            if (many := math.prod(filter(None, shape))) > MOST_GENERATED:
                message = f"{many} numbers along the axes that are not 0 are more than {MOST_GENERATED}"
                raise self.complaint(("shape",), message, "give a smaller shape")
            array = array.reshape(shape)
        elif array.size == 0:
            advice = f"add shape: {[0, 3] if self.categorical else [0]}" if value == [] else "write [] and a shape"
            raise self.complaint(("predictions",), "an empty list does not show its shape", advice)
        least = 2 if self.categorical else 1
        if array.ndim < least:
            message = f"categorical predictions of rank {array.ndim}"
            raise self.complaint(("predictions",), message, "give a list of rows, classes on the last axis")
        if self.categorical and array.shape[-1] == 0:
            raise self.complaint(("shape",), "no classes on the last axis", "give at least one")
        return array

    def labels(self, shape: Shape) -> Array:
        value, path = self.said["labels"], ("labels",)
        if value == []:
            whole = self.sample_shape(shape) if self.target == "index" else shape
            kind = np.int64 if self.target == "index" else np.float64
            return np.zeros(whole if 0 in whole else (0,), dtype=kind)
        self.rectangular(path, value)
        leaves = list(_leaves(value))
        kinds = {type(leaf) for _, leaf in leaves}
        if bool in kinds and len(kinds) > 1:
            at = next(at for at, leaf in leaves if not isinstance(leaf, bool))
            raise self.complaint((*path, *at), "labels of two kinds: booleans and numbers", "write all of one kind")
        if self.target == "index" and float in kinds:
            at, leaf = next((at, leaf) for at, leaf in leaves if isinstance(leaf, float))
            message = f"labels of the wrong kind: {number_text(leaf)} is no index"
            raise self.complaint((*path, *at), message, "write whole numbers, or say target: distribution")
        if kinds <= {int}:
            for at, leaf in leaves:
                if not -(2**63) <= leaf < 2**63:
                    raise self.complaint((*path, *at), f"{leaf} does not fit into int64", "give a smaller number")
            return np.array(value, dtype=np.int64)
        return np.array(value, dtype=np.bool_) if kinds == {bool} else self.numbers(path, value)

    # Options, layout, expectation

    def options(self, shape: Shape | None, expect: Expectation) -> Options:
        """The options; `shape` is that of the predictions."""
        asked = self.said.get("options", {})
        values: dict[str, Any] = {}
        loose = expect == MustRaise("shape_mismatch")
        for name, value in asked.items():
            path: Path_ = ("options", name)
            if (fault := validation.misplaced(name, self.file["loss"], self.target)) is not None:
                self.faults([fault])
                continue
            if name == "ignore_index":
                if not isinstance(value, int):
                    self.note(path, f"{value} is not an integer", f"write {int(value)}")
                values[name] = int(value)
            elif name == "label_smoothing":
                if value != value:
                    self.note(path, ".nan is not in [0, 1]", "give a number from 0 to 1")
                values[name] = float(value)
            else:
                array = self.numbers(path, value)
                if not loose and shape is not None:
                    self.fits(name, array, shape)
                values[name] = array
        return Options(**values)

    def fits(self, option: str, array: Array, predictions: Shape) -> None:
        fault = validation.misfit(option, array.shape, predictions, self.file["loss"])
        self.faults([] if fault is None else [fault])

    def layout(self, predictions: Array, labels: Array) -> Layout:
        """The layout, with the last axis as class axis -1 and any other counted from 0."""
        said = dict(self.said.get("layout", {}))
        rank = predictions.ndim
        if (axis := said.get("class_axis")) is not None:
            wrong = list(validation.axis_faults(self.file["loss"], rank, axis))
            self.faults(wrong)
            said["class_axis"] = -1 if wrong or axis % rank == rank - 1 else axis % rank
        layout = Layout(**said)
        self.faults(validation.layout_faults(layout, self.target, predictions, labels))
        return layout

    def expect(self, samples: Shape) -> Expectation:
        said = self.said.get("expect", "oracle")
        if said == "oracle":
            return ByOracle()
        if "error" in said:
            return MustRaise(said["error"])
        if "undefined" in said:
            return NoRightAnswer(said["undefined"])
        path: Path_ = ("expect", "value")
        value = said["value"]
        if not isinstance(value, dict):
            if len(self.reductions) > 1:
                advice = f"write a mapping with {listed(self.reductions)}"
                raise self.complaint(path, "one value for several reductions", advice)
            value = {self.reductions[0]: value}
        else:
            for reduction in value:
                if reduction not in self.reductions:
                    advice = f"this case has {listed(self.reductions)}"
                    self.note((*path, reduction), f"the case is not asked for {reduction}", advice)
        for reduction, digits_ in value.items():
            at = (*path, reduction) if isinstance(said["value"], dict) else path
            self.shaped(at, digits_, samples if reduction == "none" else ())
        return Digits(value)

    def shaped(self, path: Path_, value: Any, want: Shape) -> None:
        if isinstance(value, list):
            self.rectangular(path, value)
        have = _shape(value)
        if have != want:
            message = f"digits of shape {list(have)} where the loss has {list(want)}"
            self.note(path, message, "give one for each loss" if want else "give digits without brackets")

    def published(self) -> tuple[Published, ...]:
        found = []
        for index, said in enumerate(self.said.get("published", ())):
            only = self.reductions[0] if len(self.reductions) == 1 else "mean"
            reduction = said.get("reduction", only)
            if reduction not in self.reductions:
                advice = f"say reduction: with one of {listed(self.reductions)}"
                self.note(("published", index), f"the case is not asked for {reduction}", advice)
            found.append(Published(said["value"], said["source"], said.get("note", ""), reduction))
        return tuple(found)

    # Generated arrays

    def generated(self, stated: dict[str, Any], generate: bool) -> Case:
        recipe = self.recipe()
        asked = self.options(None, ByOracle())
        said = self.said["generate"]
        for name in ("sample_weights", "class_weights"):
            if getattr(asked, name) is not None and said.get(name):
                self.note(("generate", name), f"{name} are given and generated", "remove one of the two")
        if recipe.ignored and asked.ignore_index is None:
            self.note(("generate", "ignored"), "no ignore_index is asked for", "add it to options")
        shape = recipe.shape if not self.categorical else (*recipe.shape, recipe.classes)
        for name in ("sample_weights", "class_weights", "positive_weight"):
            weights = getattr(asked, name)
            if weights is not None:
                self.fits(name, weights, shape)
        if self.errors:
            raise self.errors.pop()
        small = recipe.small().make()
        layout = self.layout(small.predictions, small.labels)
        path: Path_ = ("cases", self.name, "generate", "digest")
        spot = self.document.spot(path) if "digest" in said else self.document.spot(path[:-1])
        case = GeneratedCase(
            recipe=recipe,
            asked=asked,
            declared=said.get("digest", ""),
            place=(self.document.path, *spot, "$." + ".".join(map(str, path))),
            layout=layout,
            expect=self.expect(recipe.shape),
            published=self.published(),
            **stated,
        )
        if "digest" not in said:
            advice = f"add digest: {digits(recipe.make().digest)}"
            raise self.complaint(("generate",), "digest is missing", advice)
        if isinstance(case.expect, MustRaise):
            self.note(("expect",), "generated arrays are valid", "write out arrays that must be refused")
        if generate and not self.errors:
            self.faults(validation.content_faults(case))
        return case

    def recipe(self) -> Recipe:
        said = {name: value for name, value in self.said["generate"].items() if name != "digest"}
        path: Path_ = ("generate",)
        samples, shape, classes = said.pop("samples", None), said.pop("shape", None), said.get("classes")
        if (samples is None) == (shape is None):
            raise self.complaint(path, "samples or shape, one of the two, says how much", "write the one")
        if self.categorical and classes is None:
            raise self.complaint(path, "classes is missing", "say how many")
        given = self.file["given"]
        refused = {
            "classes": ("a categorical loss", self.categorical),
            "class_weights": ("a categorical loss", self.categorical),
            "scale": ("logits", given == "logits"),
            "soft": ("targets other than index", self.target != "index"),
            "ignored": ("index targets", self.target == "index"),
        }
        for name, (needs, met) in refused.items():
            if name in said and not met:
                raise self.complaint((*path, name), f"{name} is for {needs} only", "remove it")
        if given == "log_probabilities":
            message = "logarithms are not the same bits on every platform"
            raise self.complaint(path, message, "generate logits or probabilities")
        ignore_index = self.said.get("options", {}).get("ignore_index", -100)
        recipe = Recipe(
            loss=self.file["loss"],
            given=given,
            target=self.target,
            shape=(samples,) if shape is None else tuple(shape),
            ignore_index=int(ignore_index),
            **{"soft": self.target == "distribution", **said, "classes": classes or 1},
        )
        many = recipe.classes * math.prod(recipe.shape)
        if many > MOST_GENERATED:
            raise self.complaint(path, f"{many} numbers are more than {MOST_GENERATED}", "ask for fewer")
        return recipe


MOST_GENERATED = 100_000_000


def _leaves(value: Any, at: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    if not isinstance(value, list):
        yield at, value
        return
    for index, item in enumerate(value):
        yield from _leaves(item, (*at, index))


def _shape(value: Any) -> Shape:
    """Shape of nested lists that are known to be rectangular."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _uneven(value: Any, at: Path_ = ()) -> tuple[Path_, str] | None:
    """Where nested lists stop being an array, and how; None if they are one."""
    if not isinstance(value, list) or not value:
        return None
    want = _shape(value[0])
    for index, item in enumerate(value):
        if (inside := _uneven(item, (*at, index))) is not None:
            return inside
        have = _shape(item)
        if have != want:
            what = f"has {have[0]}" if have else "is a single value"
            first = f"has {want[0]}" if want else "is a single value"
            if len(have) == len(want) and have[:1] == want[:1]:
                what, first = f"has shape {list(have)}", f"has shape {list(want)}"
            return (*at, index), f"ragged: row {index} {what}, row 0 {first}"
    return None
