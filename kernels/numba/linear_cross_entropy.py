"""The decoder and its loss, with the vocabulary in blocks: the logits are never held as a whole.

A block of the vocabulary costs a matrix multiply, 2E operations a logit, forward, and three of them
backward, where the logits are computed again; the exponential and the rest are 30 instructions a
logit, in a block that was just written. So the limit is the rate of the matrix multiply.

Forward keeps, for each row, the largest logit so far m and the sum of exponentials l relative to
it. A block may raise m to m'; then l ← l · exp(m − m') + Σ_v exp(z_v − m').
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from albert_np.functions.cross_entropy import IGNORE_INDEX
from albert_np.kernels.numba.compiling import SCALAR, SUMS, parallel_kernel
from albert_np.kernels.numba.exponential import exponential
from albert_np.kernels.numba.linear import linear_backward, linear_forward

VOCABULARY_BLOCK = 2048
LANES = 32  # of the maximum: four vectors or eight, so that none waits for another


class LinearCrossEntropyCache(NamedTuple):
    x: object  # (..., E)
    weight: object  # (V, E)
    bias: object  # (V,)
    labels: object  # (...)
    maximum: object  # (n,), the largest logit of each labelled row
    log_sum_exp: object  # (n,), of the shifted logits


def linear_cross_entropy_forward(x, weight, bias, labels):
    """The decoder and its loss; see `albert_np.functions.fused.linear_cross_entropy_forward`.

        loss = 1/n Σ_rows (log Σ_v exp(z_v − m) − (z_label − m)),   z = x Wᵀ + b,   m = max_v z_v

    Parameters
    ----------
    x : float32 or float64 array, shape (..., E)
    weight : array, shape (V, E)
    bias : array, shape (V,)
    labels : integer array, shape (...)
        In [0, V); rows labelled −100 are left out, and n is the number of the others.

    Returns
    -------
    loss : array, shape ()
        Not a number where no row has a label.
    cache : LinearCrossEntropyCache
    """
    rows, own = labelled_rows(x, labels)
    # The largest finite negative number, where −∞ − (−∞) would be no number.
    maximum = np.full(len(rows), np.finfo(x.dtype).min, x.dtype)
    total, own_logit = np.zeros_like(maximum), np.full_like(maximum, np.nan)
    for block in vocabulary_blocks(weight):
        logits, _ = linear_forward(rows, weight[block], bias[block])
        meet_block(logits, own - block.start, maximum, total, own_logit)
    log_sum_exp = np.log(total)
    losses = log_sum_exp - (own_logit - maximum)
    with np.errstate(invalid="ignore"):  # 0/0 where there is no label
        loss = losses.sum() / x.dtype.type(len(rows))
    return loss, LinearCrossEntropyCache(x, weight, bias, labels, maximum, log_sum_exp)


def linear_cross_entropy_backward(dloss, cache, into=None):
    """Backward pass of `linear_cross_entropy_forward`.

        dz = dloss · (softmax(z) − one-hot(label)) / n,   dx = dz W,   dW = dzᵀ x,   db = Σ_rows dz

    Parameters
    ----------
    dloss : array, shape ()
    cache : LinearCrossEntropyCache
    into : (array (V, E), array (V,)), optional
        Slots that dweight and dbias are added to, in place.

    Returns
    -------
    dx : array, shape (..., E)
    dweight : array, shape (V, E)
    dbias : array, shape (V,)
    """
    x, weight, bias, labels, maximum, log_sum_exp = cache
    dweight, dbias = into or (np.zeros_like(weight), np.zeros_like(bias))
    rows, own = labelled_rows(x, labels)
    factor = x.dtype.type(dloss / max(len(rows), 1))
    drows = np.zeros_like(rows)
    for block in vocabulary_blocks(weight):
        logits, linear_cache = linear_forward(rows, weight[block], bias[block])
        differentiate_block(logits, own - block.start, maximum, log_sum_exp, factor)
        drows += linear_backward(logits, linear_cache, (dweight[block], dbias[block]))[0]
    dx = np.zeros(x.shape, x.dtype)
    dx[labels != IGNORE_INDEX] = drows
    return dx, dweight, dbias


def labelled_rows(x, labels):
    """Those rows of x that have a label, (n, E), and these labels, (n,)."""
    labelled = labels != IGNORE_INDEX
    return x[labelled], labels[labelled]


def vocabulary_blocks(weight):
    """Slices of the vocabulary, in order."""
    size = len(weight)
    starts = range(0, size, VOCABULARY_BLOCK)
    return [slice(start, min(start + VOCABULARY_BLOCK, size)) for start in starts]


@parallel_kernel
def meet_block(logits, own, maximum, total, own_logit):
    """Take one block into the running maximum and sum; own counts from the block's start."""
    for i in prange(len(logits)):
        maximum[i], total[i] = meet_row(logits[i], maximum[i], total[i])
        if 0 <= own[i] < logits.shape[1]:
            own_logit[i] = logits[i, own[i]]


@parallel_kernel
def differentiate_block(logits, own, maximum, log_sum_exp, factor):
    """Put dz in the place of z."""
    for i in prange(len(logits)):
        differentiate_row(logits[i], own[i], maximum[i], log_sum_exp[i], factor)


@njit(**SCALAR)
def largest(x, least):
    """The largest number of a row, or `least`: in lanes, since a plain maximum stays scalar."""
    lanes = np.full(LANES, least)
    whole = x.size // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            value = x[start + lane]
            lanes[lane] = value if value > lanes[lane] else lanes[lane]
    for j in range(whole, x.size):
        lanes[0] = x[j] if x[j] > lanes[0] else lanes[0]
    for lane in range(LANES):
        least = lanes[lane] if lanes[lane] > least else least
    return least


@njit(**SUMS)
def meet_row(logits, maximum, total):
    raised = largest(logits, maximum)
    total *= exponential(maximum - raised)
    for j in range(logits.size):
        total += exponential(logits[j] - raised)
    return raised, total


@njit(**SCALAR)
def differentiate_row(logits, own, maximum, log_sum_exp, factor):
    """dz = (exp(z − m − log Σ) − one-hot) · factor"""
    one = logits.dtype.type(1)
    for j in range(logits.size):
        probability = exponential((logits[j] - maximum) - log_sum_exp)
        if j == own:
            probability -= one
        logits[j] = probability * factor
