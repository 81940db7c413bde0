"""tinygrad: cross_entropy, sparse_categorical_crossentropy, nll_loss and two binary losses, on the CPU.

cross_entropy and nll_loss have the classes on axis 1, sparse_categorical_crossentropy on the last one.  Kernels are
compiled by clang, one for each shape and dtype, and kept in tinygrad's own cache (`CACHEDB`), which processes share.
"""

from __future__ import annotations

import functools
import os
import shutil

from conformance.adapters import arrays
from conformance.adapters.contract import INTEGER_DTYPES, Framework, family
from conformance.model.convention import Convention

DOCUMENTATION = "https://docs.tinygrad.org/tensor/ops/#tinygrad.Tensor."
SOURCE = "https://github.com/tinygrad/tinygrad/blob/v0.14.0/tinygrad/mixin/op.py"
DTYPES = frozenset({"float16", "float32", "float64"})
"""Without bfloat16: its support differs between releases of clang and processors."""
SLOW_TO_COMPILE_FILES = frozenset(
    f"categorical/{name}"
    for name in (
        "batches_in_blocks",
        "batches_in_blocks_probabilities",
        "generated",
        "generated_rows",
        "generated_single_samples",
        "vocabularies",
        "vocabularies_probabilities",
    )
)
"""Case files on which nll_loss is not called: it indexes its input, which clang compiles for seconds for each shape."""
INDEX_LABEL_FILES = frozenset({"article/index_labels"}) | frozenset(
    f"categorical/{name}"
    for name in (
        "columns",
        "higher_rank",
        "ignore_index",
        "ignored_labels_in_narrow_integers",
        "index_labels",
        "invalid_labels",
        "label_smoothing",
        "label_smoothing_edge",
        "labels_beyond_the_dtype",
        "large_logits",
        "logits_edge",
        "masked_logits",
        "masks_beyond_float16",
        "one_class_ignored",
        "small_losses",
        "unbatched",
        "weights_and_ignored_positions",
    )
)
"""Case files on which sparse_categorical_crossentropy is called by default.

It differs from cross_entropy, which is called on all files, only in how it accepts labels."""


function = family(
    "tinygrad.Tensor.@({predictions}, {labels}, {options})",
    documentation=f"{DOCUMENTATION}@",
    source=SOURCE,
    first="0.10.0",
    dtypes=DTYPES,
    result_dtype="promoted",
    positional={"predictions": "self", "labels": "Y"},
)
"""A method of `tinygrad.Tensor`, the predictions being `self`."""
CROSS_ENTROPY = function(
    "cross_entropy",
    Convention(gradient_cancellation="targets", empty_mean="nan", accepts=frozenset({"invalid_target"})),
    ranks={"categorical": range(2, 9)},
    input_kinds={"logits": ""},
    targets={"index": INTEGER_DTYPES, "one_hot": "", "distribution": ""},
    arguments={"label_smoothing": "label_smoothing"},
    class_axis=1,
).since("0.11.0", ranks={"categorical": range(1, 9)})
SPARSE = function(
    "sparse_categorical_crossentropy",
    Convention(default_ignore_index=-1, gradient_cancellation="targets", empty_mean="nan"),
    ranks={"categorical": range(1, 9)},
    input_kinds={"logits": ""},
    targets={"index": INTEGER_DTYPES},
    arguments={"ignore_index": "ignore_index", "label_smoothing": "label_smoothing"},
    default_files=INDEX_LABEL_FILES,
)
NLL = function(
    "nll_loss",
    Convention(empty_mean="nan", accepts=frozenset({"invalid_probability"})),
    ranks={"categorical": range(2, 9)},
    input_kinds={"log_probabilities": ""},
    targets={"index": INTEGER_DTYPES},
    arguments={"class_weights": "weight", "ignore_index": "ignore_index"},
    weight_dtypes="",
    result_dtype="promoted_with_weights",
    class_axis=1,
    skipped_files=SLOW_TO_COMPILE_FILES,
)
BINARY = function(
    "binary_crossentropy",
    Convention(empty_mean="nan", accepts=frozenset({"invalid_target"})),
    ranks={"binary": range(9)},
    input_kinds={"probabilities": ""},
    targets={"binary": "", "soft_binary": ""},
)
WITH_LOGITS = function(
    "binary_crossentropy_logits",
    Convention(gradient_cancellation="logits", empty_mean="nan", accepts=frozenset({"invalid_target"})),
    ranks={"binary": range(9)},
    input_kinds={"logits": ""},
    targets={"binary": "", "soft_binary": ""},
).since("0.11.0", arguments={"positive_weight": "pos_weight"})


@functools.cache
def prepare() -> None:
    """Disable tinygrad's compiler worker processes.  Raises RuntimeError if there is no clang."""
    os.environ.setdefault("PARALLEL", "0")
    if shutil.which(compiler := os.environ.get("CC", "clang")) is None:
        raise RuntimeError(
            f"tinygrad compiles with {compiler}, which is not installed: install clang, or set CC to one"
        )


FRAMEWORK = Framework(
    name="tinygrad",
    distributions=("tinygrad",),
    repository="https://github.com/tinygrad/tinygrad",
    modules=("tinygrad",),
    requirements=("tinygrad", "numpy"),
    arrays=arrays.tinygrad,
    reductions={name: f"reduction={name!r}" for name in ("none", "sum", "mean")},
    prepare=prepare,
    functions=(CROSS_ENTROPY, SPARSE, NLL, BINARY, WITH_LOGITS),
)
