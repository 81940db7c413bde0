"""Arrays generated from a seed, on demand and with the same bits on each platform and numpy.

Only 32-bit words of the Mersenne twister are drawn, a stream that numpy guarantees. Words are mapped to integers, and
each number is one correctly rounded operation on integers: `k * step` for logits, `k / sum(k)` for probabilities and
soft targets, `k / 8` for weights. Each kind of array has its own stream, so that weights do not change predictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from conformance.model.case import Array, Case, InputKind, Loss, Options, Target, content_digest
from conformance.model.errors import CaseFileError
from conformance.model.floats import Floats

Distribution = Literal["normal", "uniform", "confident", "wrong", "equal_rows", "constant", "peaks"]
LabelBlock = Literal["any", "first", "middle", "last"]
Integers = npt.NDArray[np.int64]

CHUNK = 1 << 16
"""Number of random numbers drawn in one step, to bound memory; it does not affect the result."""
LOGIT_MARGIN = 4
"""Amount by which `confident`, `wrong` and `peaks` raise a logit, in units of the scale."""
PEAK_DISTANCE = 1024
"""Distance in classes between `peaks`: the block size of many kernels."""
BLOCK = 8
"""Number of classes among which labels of a `label_block` are drawn."""
SHARE_LIFT = 16 * 1024
"""Amount that they add to the share of a class's probability, per class; other shares are at most 1024."""
TRUE_CLASS_SHARE = 4 * 1024
"""Share of the true class in a soft target."""
_PREDICTIONS, _LABELS, _TARGETS, _SAMPLE_WEIGHTS, _CLASS_WEIGHTS, _IGNORED = range(1, 7)


@dataclass(frozen=True, eq=False)
class GeneratedArrays:
    """The arrays that a recipe generates."""

    predictions: Floats
    labels: Array
    sample_weights: Floats | None
    class_weights: Floats | None

    @cached_property
    def digest(self) -> str:
        return content_digest({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


LATER = ("offset", "label_block", "runs")
"""Fields of a recipe that were added after digests of cases had been published."""


@dataclass(frozen=True)
class ArrayRecipe:
    """Parameters of generated arrays."""

    loss: Loss
    input_kind: InputKind
    target: Target
    seed: int
    shape: tuple[int, ...]
    """Shape of the samples (categorical) or outputs (binary)."""
    classes: int = 1
    """Number of classes; 1 for binary losses."""
    distribution: Distribution = "normal"
    scale: float = 3.0
    """Scale of the logits."""
    soft: bool = False
    sample_weights: bool = False
    class_weights: bool = False
    ignored: float = 0.0
    """Fraction of the samples with the label `ignore_index`."""
    ignore_index: int = -100
    offset: float = 0.0
    """Added to each logit."""
    label_block: LabelBlock = "any"
    """Classes from which labels are drawn: all, or `BLOCK` neighbouring ones."""
    runs: int = 1
    """Number of consecutive samples that share a label, a sample weight, and whether they are ignored."""

    @property
    def content(self) -> dict[str, Any]:
        """The fields covered by the digest of a case: later ones only if they are set."""
        later = {name: getattr(self, name) for name in LATER if getattr(self, name) != getattr(ArrayRecipe, name)}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in LATER} | later

    def shrunk(self) -> ArrayRecipe:
        """The same recipe with at most two elements along each axis except the classes."""
        return dataclasses.replace(self, shape=tuple(min(length, 2) for length in self.shape))

    def generate(self) -> GeneratedArrays:
        """Generate the arrays; those of the last recipe are cached."""
        return _generate(self)


class GeneratedCase(Case):
    """A case whose arrays are generated and compared with their digest on first use.

    Only `predictions`, `labels`, `options` and problems generate them.
    """

    recipe: ArrayRecipe
    explicit_options: Options
    """The options that the file states, without generated weights."""
    expected_digest: str
    """The digest stated in the file; "" if there is none."""
    digest_location: tuple[str, int, int, str]
    """File, line, column and JSON path of the digest, for errors."""

    def __init__(self, **fields: Any) -> None:
        """Create a case.  fields: the fields above, and the fields of `Case` that are not generated."""
        for name, value in {**{field.name: field.default for field in _STATED_FIELDS}, **fields}.items():
            object.__setattr__(self, name, value)

    @property
    def arrays(self) -> GeneratedArrays:
        """The arrays. Raises CaseFileError if their digest is not the declared one."""
        arrays = self.recipe.generate()
        if arrays.digest != self.expected_digest:
            stated = f"the file says {self.expected_digest or 'none'}"
            advice = (
                f"the generator drifted, or the recipe changed: then write digest: {yaml_quoted_digest(arrays.digest)}"
            )
            raise CaseFileError(
                *self.digest_location, f"generated arrays have digest {arrays.digest}; {stated}", advice
            )
        return arrays

    @property
    def predictions(self) -> Array:
        return self.arrays.predictions

    @property
    def labels(self) -> Array:
        return self.arrays.labels

    @property
    def options(self) -> Options:
        return _with_weights(self.explicit_options, self.arrays)

    @cached_property
    def digest(self) -> str:
        recipe = self.recipe.content
        recipe["given"] = recipe.pop("input_kind")  # as in case files: digests must not depend on the code
        content = {
            "recipe": recipe,
            "arrays": self.expected_digest,
            "options": {name: getattr(self.explicit_options, name) for name in self.explicit_options.names()},
            "layout": self.layout.content,
            "expect": [type(self.expect).__name__, getattr(self.expect, "kind", "")],
        }
        return content_digest(content)

    @property
    def predicted(self) -> int:
        return int(np.prod(self.recipe.shape)) * self.recipe.classes

    @cached_property
    def representative(self) -> Case:
        arrays = self.recipe.shrunk().generate()
        options = _with_weights(self.explicit_options, arrays)
        fields = {field.name: getattr(self, field.name) for field in _STATED_FIELDS}
        return Case(predictions=arrays.predictions, labels=arrays.labels, options=options, **fields)


_STATED_FIELDS = [field for field in dataclasses.fields(Case) if field.name not in ("predictions", "labels", "options")]
"""The fields of a case that are not generated."""


def yaml_quoted_digest(digest: str) -> str:
    """A digest for YAML: quoted if it would be parsed as a number."""
    return digest if digest.strip("0123456789e") else f'"{digest}"'


def _with_weights(options: Options, arrays: GeneratedArrays) -> Options:
    names = ("sample_weights", "class_weights")
    return dataclasses.replace(options, **{name: getattr(arrays, name) for name in names
                                           if getattr(arrays, name) is not None})  # fmt: skip


@lru_cache(maxsize=1)
def _generate(recipe: ArrayRecipe) -> GeneratedArrays:
    # The class of which a confident model is certain: the label, also if the target is softened.
    classes = max(recipe.classes, 2) if recipe.loss == "binary" else recipe.classes
    true_classes = _true_classes(recipe, classes)
    predictions = (
        _logits(recipe, true_classes) if recipe.input_kind == "logits" else _probabilities(recipe, true_classes)
    )
    return GeneratedArrays(
        predictions=_read_only(predictions),
        labels=_read_only(_labels(recipe, true_classes)),
        sample_weights=_weights(recipe, _SAMPLE_WEIGHTS, recipe.shape[:1]) if recipe.sample_weights else None,
        class_weights=_weights(recipe, _CLASS_WEIGHTS, (recipe.classes,)) if recipe.class_weights else None,
    )


def _true_classes(recipe: ArrayRecipe, classes: int) -> Integers:
    """The label of each sample."""
    words = _stream(recipe, _LABELS)(recipe.shape)
    width = classes if recipe.label_block == "any" else min(BLOCK, classes)
    start = {"middle": (classes - width) // 2, "last": classes - width}.get(recipe.label_block, 0)
    return _in_runs(recipe, start + _scale_words(words, width))


def _in_runs(recipe: ArrayRecipe, values: Array) -> Array:
    """Repeat values in runs, in memory order."""
    flat = values.reshape(-1)
    return values if recipe.runs == 1 else flat[_run_of(recipe, flat.size) * recipe.runs].reshape(values.shape)


def _run_of(recipe: ArrayRecipe, count: int) -> Integers:
    """The run number of each sample."""
    return np.arange(count, dtype=np.int64) // recipe.runs


def _read_only(values: Array) -> Array:
    values = np.asarray(values)  # arithmetic on a single value returns a scalar
    values.flags.writeable = False
    return values


def _stream(recipe: ArrayRecipe, role: int) -> Callable[[tuple[int, ...]], npt.NDArray[np.uint32]]:
    random = np.random.RandomState([recipe.seed, role])
    return lambda shape: random.randint(0, 1 << 32, size=shape, dtype=np.uint32)


def _scale_words(words: npt.NDArray[np.uint32], below: int) -> Integers:
    """Words as integers in [0, below)."""
    return np.asarray((words.astype(np.uint64) * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


def _weights(recipe: ArrayRecipe, role: int, shape: tuple[int, ...]) -> Floats:
    """Weights from 1/8 to 2, in steps of 1/8."""
    weights: Floats = np.asarray((1 + _scale_words(_stream(recipe, role)(shape), 16)) / 8)
    return weights if role == _CLASS_WEIGHTS else _in_runs(recipe, weights)


def _labels(recipe: ArrayRecipe, true_classes: Integers) -> Array:
    if recipe.target == "distribution" and not recipe.soft:
        labels = np.zeros((*recipe.shape, recipe.classes), dtype=np.int64)
        np.put_along_axis(labels, true_classes[..., np.newaxis], 1, axis=-1)
        return labels
    if recipe.target != "index" and recipe.soft:
        return _random_shares(recipe, _TARGETS, true_classes, TRUE_CLASS_SHARE)
    if recipe.ignored:
        run = _run_of(recipe, true_classes.size)
        runs = int(run[-1]) + 1
        count = max(1, round(recipe.ignored * runs))
        order = np.argsort(_stream(recipe, _IGNORED)((runs,)), kind="stable")
        true_classes = true_classes.copy()
        true_classes.reshape(-1)[np.isin(run, order[:count])] = recipe.ignore_index
    return true_classes


def _row_plan(recipe: ArrayRecipe, per_row: int) -> tuple[int, int, int]:
    """(number of drawn rows, number of repetitions of each, rows per step)."""
    rows = int(np.prod(recipe.shape, dtype=np.int64))
    repeats = recipe.shape[0] if recipe.distribution == "equal_rows" else 1
    return rows // repeats, repeats, max(1, CHUNK // per_row)


def _logits(recipe: ArrayRecipe, true_classes: Integers) -> Floats:
    binary = recipe.loss == "binary"
    rows, repeats, step = _row_plan(recipe, recipe.classes)
    draw = _stream(recipe, _PREDICTIONS)
    values = np.empty((rows, recipe.classes))
    for start in range(0, rows, step):
        part = values[start : start + step]
        if recipe.distribution == "constant":
            part[:] = 0.0
        elif recipe.distribution == "uniform":
            centred = draw(part.shape).astype(np.float64) - 2.0**31
            np.multiply(centred, recipe.scale / 2.0**31, out=part)
        else:
            # Four 16-bit halves: Irwin-Hall of variance 1/3, so 1.75 of it has a deviation near 1.
            words = draw((*part.shape, 2))
            total = (words >> np.uint32(16)).sum(axis=-1, dtype=np.int64)
            total += (words & np.uint32(0xFFFF)).sum(axis=-1, dtype=np.int64)
            np.multiply((total - 2 * 0xFFFF).astype(np.float64), recipe.scale * 1.75 / 2.0**16, out=part)
        if recipe.distribution in ("confident", "wrong"):
            lifted = _likely_classes(recipe, true_classes.reshape(-1)[start : start + step])
            margin = LOGIT_MARGIN * recipe.scale
            if binary:
                part += np.where(lifted == 1, margin, -margin)[:, np.newaxis]
            else:
                part[np.arange(len(part)), lifted] += margin
        if recipe.distribution == "peaks":
            part[:, PEAK_DISTANCE // 2 :: PEAK_DISTANCE] += LOGIT_MARGIN * recipe.scale
        if recipe.offset:
            part += recipe.offset
    return _in_shape(recipe, values, repeats)


def _likely_classes(recipe: ArrayRecipe, true_classes: Integers) -> Integers:
    classes = 2 if recipe.loss == "binary" else recipe.classes
    return true_classes if recipe.distribution == "confident" else (true_classes + 1) % classes


def _probabilities(recipe: ArrayRecipe, true_classes: Integers) -> Floats:
    sure = recipe.distribution in ("confident", "wrong")
    classes = 2 if recipe.loss == "binary" else recipe.classes
    return _random_shares(
        recipe,
        _PREDICTIONS,
        _likely_classes(recipe, true_classes) if sure else true_classes,
        SHARE_LIFT * classes if sure else 0,
    )


def _random_shares(recipe: ArrayRecipe, role: int, lifted: Integers, lift: int) -> Floats:
    """Rows of shares k / sum(k), with k from 1 to 1024 and `lift` more for the class `lifted`."""
    binary = recipe.loss == "binary"
    classes = 2 if binary else recipe.classes
    rows, repeats, step = _row_plan(recipe, classes)
    if role != _PREDICTIONS and repeats > 1:
        rows, repeats = rows * repeats, 1
    draw = _stream(recipe, role)
    values = np.empty((rows, recipe.classes))
    for start in range(0, rows, step):
        part = values[start : start + step]
        words = draw((len(part), classes))
        if recipe.distribution in ("normal", "equal_rows") and role == _PREDICTIONS:
            counts = np.ones(words.shape, dtype=np.int64)
            for shift in (0, 8, 16, 24):
                counts += (words >> np.uint32(shift)) & np.uint32(0xFF)
        else:
            counts = 1 + _scale_words(words, 1024)
        if lift:
            counts[np.arange(len(part)), lifted.reshape(-1)[start : start + step]] += lift
        total = counts.sum(axis=-1, keepdims=True, dtype=np.int64)
        np.divide(counts[:, 1:] if binary else counts, total, out=part)
    return _in_shape(recipe, values, repeats)


def _in_shape(recipe: ArrayRecipe, values: Floats, repeats: int) -> Floats:
    shape = recipe.shape if recipe.loss == "binary" else (*recipe.shape, recipe.classes)
    if repeats == 1:
        return values.reshape(shape)
    return np.broadcast_to(values.reshape((1, *shape[1:])), shape).copy()
