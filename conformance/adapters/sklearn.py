"""scikit-learn: `log_loss`, a metric over probabilities, summed or averaged by weight.

A column of probabilities of the positive class, (n_samples, 1), is accepted like (n_samples,), with labels of either
shape.  Called by position: the second parameter was renamed from y_pred to y_proba in 1.9.  Labels outside the classes,
and numbers that are not probabilities, are rejected since 1.7; earlier releases accept them without documenting it.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from conformance.adapters import arrays
from conformance.adapters.contract import DocumentedConvention, Framework, Function, Mode
from conformance.model.convention import Convention

DOCUMENTATION = "https://scikit-learn.org/1.9/modules/generated/sklearn.metrics.log_loss.html"
PULLS = "https://github.com/scikit-learn/scikit-learn/pull/"
REJECTED_INPUTS = frozenset({"nan_prediction", "infinite_prediction", "empty_batch", "one_class"})
REJECTED_INPUTS_AND_WEIGHTS = REJECTED_INPUTS | {"nan_weight", "infinite_weight"}
NUMPY_DTYPES = "float64 float32 float16 int64 int32 int16 int8 uint8 bool"
"""Dtypes of weights: those of numpy itself, without bfloat16."""

LOG_LOSS = (
    Function(
        "log_loss",
        "sklearn.metrics.log_loss({labels}, {predictions}, {options})",
        ranks={"categorical": range(2, 3), "binary": range(1, 3)},
        input_kinds={"probabilities": ""},
        targets={"index": "", "one_hot": "", "multi_hot": "", "binary": ""},
        arguments={
            "classes": "labels=list(range({}))",
            "class_names": "labels",
            "sample_weights": "sample_weight",
        },
        reductions={"sum": "normalize=False", "mean": "normalize=True"},
        positional={"labels": "y_true", "predictions": "y_pred"},
        untested={"eps=1e-3": "a clip of another epsilon than the default"},
        labels_column=True,
        named_classes=True,
        weight_dtypes=NUMPY_DTYPES,
        excludes=(frozenset({"several_outputs"}), frozenset({"output_weights"})),
        dtypes=frozenset({"float16", "float32", "float64"}),
        conventions=(
            DocumentedConvention(
                Convention(
                    clip=1e-15,
                    renormalise="after_clip",
                    class_columns="sorted",
                    accepts=frozenset({"trailing_axis"}),
                    rejects=REJECTED_INPUTS,
                ),
                documentation="https://scikit-learn.org/1.1/modules/generated/sklearn.metrics.log_loss.html",
            ),
        ),
        result_dtype="float64",
        documentation=DOCUMENTATION,
        differentiates=False,
    )
    .since("1.2", choices={"clip": "dtype"}, documentation=PULLS + "25299")
    .since("1.5", choices={"renormalise": "no"}, documentation=PULLS + "28851", untested={"eps=1e-3": None})
    .since("1.8", choices={"rejects": REJECTED_INPUTS_AND_WEIGHTS}, documentation=DOCUMENTATION)
    .since(
        "1.9",
        choices={"rejects": REJECTED_INPUTS_AND_WEIGHTS | {"no_weight"}},
        positional={"predictions": "y_proba"},
        no_effect={"y_pred": "deprecated alias"},
    )
)

# Without `labels` the classes are those among the labels: a missing one is rejected, and labels that are
# no classes are taken for classes.  log_loss already accepts one-hot rows without `labels`.
MISSING_CLASS = frozenset({"missing_class"})
LOG_LOSS_WITHOUT_LABELS = (
    LOG_LOSS.like(
        "log_loss_without_labels",
        arguments={"classes": None, "class_names": None},
        targets={"one_hot": None, "multi_hot": None},
        untested={"labels=[0, 1]": "log_loss passes them"},
        choices={"class_columns": "inferred", "rejects": REJECTED_INPUTS | MISSING_CLASS},
    )
    .since("1.8", choices={"rejects": REJECTED_INPUTS_AND_WEIGHTS | MISSING_CLASS})
    .since("1.9", choices={"rejects": REJECTED_INPUTS_AND_WEIGHTS | MISSING_CLASS | {"no_weight"}})
)

# 1 - a / b of the losses of the predictions and of the shares of the classes.  Less than two samples have none.
D2 = replace(
    LOG_LOSS.like(
        "d2_log_loss_score",
        first="1.5",
        call="sklearn.metrics.d2_log_loss_score({labels}, {predictions}, {options})",
        quantity="d2",
        reductions={"sum": None, "mean": ""},
        targets={"multi_hot": None},
    ),
    documentation="https://scikit-learn.org/1.9/modules/generated/sklearn.metrics.d2_log_loss_score.html",
)

# The score of a classifier whose samples are its own predictions; the negated loss, so that larger is better.
SCORER_CALL = """\
import numpy as np

class Classifier(sklearn.base.ClassifierMixin, sklearn.base.BaseEstimator):
    def __init__(self, classes):
        self.classes_ = np.arange(classes)

    def predict_proba(self, X):
        return X if X.ndim == 2 else np.stack([1 - X, X], axis=1)

classifier = Classifier(({predictions}.shape[1:] or [2])[0])
score = sklearn.metrics.get_scorer("neg_log_loss")
-score(classifier, X={predictions}, y_true={labels}, {options})
"""
SCORER_PAGE = "https://scikit-learn.org/1.9/modules/model_evaluation.html#string-name-scorers"
SCORER = replace(
    LOG_LOSS_WITHOUT_LABELS.like(
        "neg_log_loss",
        call=SCORER_CALL,
        ranks={"binary": range(1, 2)},
        reductions={"sum": None, "mean": ""},
        untested={"labels=[0, 1]": None},
        no_effect={"y_pred": None},
        modes=frozenset(),
        signature=SCORER_PAGE,
    ),
    documentation=SCORER_PAGE,
)

PANDAS_WRAPPER = """\
import numpy, pandas
def in_pandas(number, array):
    index = numpy.roll(numpy.arange(1, len(array) + 1), number)
    if array.ndim == 1:
        return pandas.Series(array, index)
    return pandas.DataFrame(array, index, range(array.shape[1], 0, -1))
lambda *arrays: {loss}(*(in_pandas(*pair) for pair in enumerate(arrays)))"""
"""Each array as a Series or a DataFrame, with an unordered index and descending column names."""
LIST_WRAPPER = "lambda *arrays: {loss}(*(array.tolist() for array in arrays))"
NARROW_DTYPES = (frozenset({"float16"}), frozenset({"float32"}))
"""Dtypes that lists of numbers do not preserve: Python's have 64 bits, and so another epsilon for the clip."""


def no_pandas() -> str:
    """Why arrays cannot be put into pandas; "" if they can."""
    return "" if find_spec("pandas") else "there is no pandas; install it"


FRAMEWORK = Framework(
    name="sklearn",
    distributions=("scikit-learn",),
    repository="https://github.com/scikit-learn/scikit-learn",
    modules=("sklearn",),
    arrays=arrays.numpy,
    imports="import sklearn.metrics",
    extra_requirements=(("<1.4.2", "numpy<2"),),
    modes={
        "pandas": Mode(PANDAS_WRAPPER, why_unavailable=no_pandas),
        "lists": Mode(LIST_WRAPPER, excludes=NARROW_DTYPES),
    },
    functions=(LOG_LOSS, LOG_LOSS_WITHOUT_LABELS, D2, SCORER),
)
