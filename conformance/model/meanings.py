"""One sentence on each choice of a convention, shared by explanations, assertions and documentation.

A sentence is a predicate, to be preceded by "it" or the name of a function.
"""

from __future__ import annotations

from typing import Any

from conformance.model.case import Problem
from conformance.model.convention import ANOMALY_MEANINGS

Sentences = dict[Any, str]

CHOICE_MEANINGS: dict[str, Sentences] = {
    "mean_divides_by": {
        "weight": "divides the sum by the weight of the samples: s_i, and with class weights s_i times their average "
        "over the targets, (sum_c w_c q'_c) / (sum_c q'_c)",
        "target_weight": "divides the sum by the targets times their weights, s_i sum_c w_c q'_c, so that a row whose "
        "targets sum to more weighs more",
        "label_weight": "divides the sum by the weight of the labels, as if they had not been smoothed",
        "sample_weight": "divides the sum by the weights of samples that are not ignored; class weights do not count",
        "kept": "divides the sum by the number of losses that are not ignored, not by their weights",
        "samples": "divides the sum by the number of losses, ignored ones included, whatever their weights are",
    },
    "logits_as": {
        "logits": "computes the loss from logits without rounding probabilities",
        "probabilities": "turns logits into probabilities, which are rounded, before it takes the logarithm",
    },
    "clip": {
        None: "takes probabilities as they are",
        "dtype": "clips probabilities to [eps, 1 - eps] before the logarithm, eps being the dtype's machine epsilon",
        float: "clips probabilities to [{0:g}, 1 - {0:g}] before the logarithm, both ends as the dtype has them",
    },
    "log_offset": {
        None: "takes the logarithm of a probability itself",
        float: "adds {0:g}, as the dtype has it, to a probability before it takes its logarithm",
    },
    "log_floor": {
        None: "takes logarithms as they are",
        float: "clamps the logarithm of a probability at {0:g} from below",
    },
    "renormalise": {
        "no": "takes rows of probabilities as they are, whatever they sum to",
        "before_clip": "divides each row of probabilities by its sum, before any clip",
        "after_clip": "divides each row of probabilities by its sum, after it was clipped",
    },
    "class_weighting": {
        "terms": "multiplies the term of each class by its weight",
        "rows": "multiplies the whole loss of a row by the weight of its targets, sum_c w_c q'_c",
    },
    "log_sum_exp": {
        "targets": "multiplies the log-sum-exp of a row's logits by the sum of its targets",
        "one": "multiplies the log-sum-exp of a row's logits, less the largest of them, by 1, as if the row's targets "
        "were a distribution, and the softmax in the gradient, too",
    },
    "unreduced_class_axis": {
        "dropped": "returns unreduced losses in the shape of the samples",
        "kept": "returns unreduced losses with the axis of the classes, of length 1",
    },
    "gradient_cancellation": {
        "none": "computes the gradient without cancellation",
        "targets": "subtracts the target from the softmax or the sigmoid, which rounds away the gradient of a "
        "prediction that is nearly right; the exact gradient is the same, but more rounding is allowed",
        "logits": "computes the sigmoid in the gradient as exp(z - log(1 + e^z)), whose exponent is rounded as a logit "
        "is; the exact gradient is the same, but more rounding is allowed",
    },
    "gradient_total": {
        "targets": "multiplies the softmax by the sum of the row's targets in the gradient",
        "one": "multiplies the softmax by 1 in the gradient, as if the row's targets were a distribution",
    },
    "gradient_floor": {
        None: "differentiates the loss that it computes",
        float: "takes (p - y) / (p (1 - p)) for the gradient, with a denominator of at least {0:.9g}",
    },
    "hessian_cancellation": {
        "none": "computes the second derivative without cancellation",
        "complement": "takes 1 - p from the rounded p, which rounds away the second derivative of a prediction next to "
        "1; the exact second derivative is the same, but more rounding is allowed",
    },
    "hessian_factor": {
        float: "multiplies the second derivative of each class by {0:g}",
        "classes": "multiplies the second derivative of each class by C / (C - 1), C being the number of classes",
    },
    "hessian_floor": {
        None: "takes second derivatives as they are",
        float: "replaces smaller second derivatives by {0:g}",
    },
    "hessian_floor_of": {
        "sample": "applies its floor to second derivatives before weights multiply them",
        "weighted": "applies its floor to second derivatives after weights have multiplied them",
    },
    "binary_outputs": {
        "each": "returns one loss per output",
        "mean_of_last_axis": "averages the outputs of the last axis to one loss without weights, before the reduction",
    },
    "default_ignore_index": {
        None: "ignores no label by default",
        int: "ignores the label {0} by default",
    },
    "class_columns": {
        "stated": "takes the columns in the stated order of the classes",
        "sorted": "takes the columns in the order of the sorted names of the classes, whatever the stated order is",
        "inferred": "takes the sorted labels that occur as the classes of the columns",
    },
    "label_shift": {
        0: "compares each prediction with the label of its own position",
        int: "compares each prediction with the label {0} further along the last axis of the samples, and ignores "
        "predictions without such a label",
    },
    "narrowed_to": {
        None: "computes with the numbers that it is given",
        str: "rounds its inputs to {0} before it computes anything",
    },
    "labels_narrowed_to": {
        None: "computes with the targets that it is given",
        str: "rounds targets to {0}, whatever the dtype of the predictions is",
    },
    "weights_narrowed_to": {
        None: "computes with the weights that it is given",
        str: "rounds weights to {0}, whatever the dtype of the predictions is",
    },
    "out_of_range": {
        "refuse": "rejects a label that names no class",
        "wrap": "counts a label that names no class from the end, as Python counts indices",
        "zero": "gives a label that names no class the loss 0",
        "ignore": "ignores each label that names no class, in the mean too",
        "nan": "gives a label that names no class the loss nan",
        "unspecified": "does not say what the loss of a label that names no class is",
    },
    "cancellation": {
        "none": "computes the loss without cancellation",
        "logits": "lets terms as large as the logits cancel in the result; the exact answer is the same, but "
        "more rounding is allowed",
    },
    "empty_mean": {
        None: "does not say what a mean over nothing is",
        "nan": "returns nan for a mean over nothing",
        "zero": "returns 0 for a mean over nothing",
    },
    "empty_batch": {
        "reduced": "reduces an empty batch to a number",
        "unreduced": "returns the empty array of losses for an empty batch, whatever the reduction",
    },
    "accepts": {frozenset: "accepts what the definition rejects: {0}"},
    "rejects": {frozenset: "rejects what the definition accepts: {0}"},
}
"""Sentences by field and choice. A type as key matches any value of that type; the value fills {0}."""


def meaning(field: str, choice: Any) -> str:
    """The sentence for one choice of a field of `Convention`. Raises KeyError if there is none."""
    of_field = CHOICE_MEANINGS[field]
    by_value = None if isinstance(choice, frozenset) else of_field.get(choice)
    if by_value is not None:
        return by_value
    filled = anomalies_text(choice) if isinstance(choice, frozenset) else choice
    return of_field[type(choice)].format(filled)


def meaning_in_problem(field: str, choice: Any, problem: Problem) -> str:
    """`meaning`, without mention of options that the problem does not set."""
    if field != "mean_divides_by":
        return meaning(field, choice)
    options = problem.options
    smoothed, can_ignore = bool(options.label_smoothing), problem.target == "index"
    weighted = options.class_weights is not None or options.sample_weights is not None
    match choice:
        case "label_weight" if not smoothed:
            return "divides the sum by the weight of the labels"
        case "sample_weight" if options.class_weights is None:
            return f"divides the sum by the sample weights{' of samples that are not ignored' if can_ignore else ''}"
        case "kept" if not weighted:
            return f"divides the sum by the number of losses{' that are not ignored' if can_ignore else ''}"
        case "samples" if not (weighted or can_ignore):
            return "divides the sum by the number of losses"
        case _:
            return meaning(field, choice)


def anomalies_text(names: frozenset[str] | tuple[str, ...]) -> str:
    """Return input anomalies as a list in words."""
    return ", ".join(ANOMALY_MEANINGS[name] for name in sorted(names))
