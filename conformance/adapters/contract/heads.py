"""Factor the logits of a problem exactly into hidden states times a weight matrix, for losses that multiply them.

Each logit z is b + t + v: the bias b of its class is a power of two, or 0 if subtracting it would not be exact for all
logits of the class; t is the upper half of the digits of the rest and v the lower half, and each is one term of the
product.  They have one sign and no digit in common, so that summing them in any order is exact in the dtype.  The
smaller side, samples or classes, is a block of powers of two and zeros, which selects the terms of the other side.
Features that pad their number to a multiple of eight have numbers on one side and zeros on the other: they do not
change a logit, and make the gradient of the other side a sum over all samples or all classes.  The last feature has
the biases as weights; it is 1 for a function without a bias and 0 for one with a bias.

The gradients of unreduced losses are those of their weighted sum; the weights are the elements of
`upstream_gradient`.  A function that ignores them, or multiplies all of them by one number, is found to be wrong.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from conformance.model.case import Array, Problem, numpy_dtype

FEATURE_MULTIPLE = 8
"""The number of features is a multiple of this, as kernels require."""
SMALLEST_BIAS = 2.0**-8
CHUNK = 1 << 12
"""Rows of terms computed in one step, which bounds the memory in addition to the factors."""
DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
"""Binary digits of the significand, by dtype."""


@dataclass(frozen=True, eq=False)
class Head:
    """Factors of the logits: hidden @ weight.T, with bias added if there is one, in the dtype of the problem."""

    hidden: Array
    """[..., H]; the last feature is 0 with a bias, and 1 without."""
    weight: Array
    """[C, H]; those of the last feature are the biases."""
    bias: Array | None
    """[C]; None for a function without a bias."""


def obstacle(problem: Problem) -> str | None:
    """Why the predictions of a problem cannot be written as a product; None if they can."""
    if problem.input_kind != "logits":
        return "it takes hidden states, which are made of logits only"
    if not np.isfinite(problem.predictions).all():
        return "it takes hidden states, of which no product is infinite or nan"
    return None


def with_bias(problem: Problem, biased: bool) -> Problem:
    """The problem with or without a bias beside the factors; cached in the problem."""
    if problem.biased == biased:
        return problem
    return problem.derived(("bias", biased), lambda unreduced: dataclasses.replace(unreduced, biased=biased)) or problem


def upstream_gradient(shape: tuple[int, ...]) -> Array:
    """Weights of both signs for losses of a shape, multiplied before differentiation.

    A product with one of them is exact, unless the largest numbers overflow.  Their order has no short period.
    """
    at = np.arange(math.prod(shape))
    return np.asarray(np.take([2.0, -1.0, 1.0, -2.0], (at + at // 4 + at // 16) % 4).reshape(shape))


def head_of(problem: Problem) -> Head:
    """Factors of the logits of a problem, which must be finite."""
    cache = problem.unreduced.cache
    if "head" not in cache:
        cache["head"] = _head(problem)
    head: Head = cache["head"]
    return head


def _head(problem: Problem) -> Head:
    dtype, digits = numpy_dtype(problem.dtype), DIGITS[problem.dtype]
    classes = problem.predictions.shape[-1]
    z = problem.predictions.reshape(-1, classes)
    samples = len(z)
    bias = _bias(z, digits)
    if samples > classes:
        weight, hidden = _block_and_terms(z, bias, digits, dtype)
    else:
        hidden, weight = _block_and_terms(z.T, bias[:, np.newaxis], digits, dtype)
    parts = np.arange(hidden.shape[1] - 2 * min(samples, classes) - 1) % 2
    for side, part, last in (
        (hidden, parts, 0.0 if problem.biased else 1.0),
        (weight, 1 - parts, bias),
    ):
        side[:, -1 - len(parts) : -1] = _numbers(len(side))[:, np.newaxis] * part + 0.0  # no zero is negative
        side[:, -1] = last
    passed = bias.astype(dtype) if problem.biased else None
    return Head(hidden.reshape(*problem.sample_shape, hidden.shape[1]), weight, passed)


def _bias(z: Array, digits: int) -> Array:
    """A power of two per class whose logits all have one sign and keep their digits when it is subtracted; else 0."""
    if not len(z):
        return np.zeros(z.shape[1])
    lower, upper = z.min(axis=0).astype(np.float64), z.max(axis=0).astype(np.float64)
    smallest, largest = np.minimum(np.abs(lower), np.abs(upper)), np.maximum(np.abs(lower), np.abs(upper))
    power = np.exp2(np.frexp(smallest)[1] - 1.0)
    is_separated = ((lower > 0) | (upper < 0)) & (smallest >= SMALLEST_BIAS) & (largest < power * 2.0 ** (digits - 1))
    return np.where(is_separated, np.where(lower > 0, power, -power), 0.0)


def _upper_half(values: Array, digits: int) -> Array:
    """Numbers truncated to the upper half of their digits."""
    mantissa, exponent = np.frexp(values)
    places = 2.0 ** ((digits + 1) // 2)
    return np.asarray(np.ldexp(np.trunc(mantissa * places) / places, exponent))


def _block_and_terms(z: Array, bias: Array, digits: int, dtype: np.dtype[np.generic]) -> tuple[Array, Array]:
    """(block [n, H] of powers of two, terms [m, H] divided by them) for logits [m, n].

    The features from 2 n on are filled by the caller.  bias: of each logit, broadcast.
    """
    rows, columns = z.shape
    features = 2 * columns
    features += 3 + -(features + 3) % FEATURE_MULTIPLE
    signs = np.where(np.arange(columns) % 2, -1.0, 1.0)
    terms, bias = np.zeros((rows, features), dtype), np.broadcast_to(bias, z.shape)
    for powers in ((2.0, 0.5), (1.0, 1.0)):
        factors = np.multiply.outer(powers, signs)
        chunks = (slice(start, start + CHUNK) for start in range(0, rows, CHUNK))
        exact = [_write_terms(terms[chunk], z[chunk], bias[chunk], digits, factors) for chunk in chunks]
        if all(exact):
            break
    block = np.zeros((columns, features), dtype)
    block[:, : 2 * columns] = np.concatenate([np.diag(factor) for factor in factors], axis=1)
    return block, terms


def _write_terms(terms: Array, z: Array, bias: Array, digits: int, factors: Array) -> bool:
    """Write the terms of logits, divided by the factors; return whether all of them are exact in the dtype."""
    remainder = z.astype(np.float64) - bias
    upper = _upper_half(remainder, digits)
    divided = (
        np.concatenate([upper / factors[0], (remainder - upper) / factors[1]], axis=1) + 0.0
    )  # no zero is negative
    with np.errstate(all="ignore"):
        terms[:, : divided.shape[1]] = divided
    return np.array_equal(terms[:, : divided.shape[1]].astype(np.float64), divided)


def _numbers(count: int) -> Array:
    """Small numbers of both signs that are exact in every dtype."""
    at = np.arange(count)
    return np.where(at % 2, -0.5, 0.5) * (1 + at % 3)
