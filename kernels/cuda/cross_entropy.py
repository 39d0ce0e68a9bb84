"""The decoder and its loss, without all logits at once: the launches of `cross_entropy.cu`.

The matrix products are the executor's.
"""

from typing import NamedTuple

import numpy as np

from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.arrays import (
    Argument,
    checked,
    checked_slots,
    columns_of,
    finish_sums,
    launch,
    problem_of,
    wide,
)

FILE = "cross_entropy.cu"


class Block(NamedTuple):
    """A block of the vocabulary."""

    first: int
    end: int
    logits: object  # (T, end − first), where those of every block lie
    problem: object
    plan: object


class LinearCrossEntropyCache(NamedTuple):
    x: object  # (T, E)
    weight: object  # (V, E)
    bias: object  # (V,)
    labels: object  # (T,), int64
    states: object  # (T, 3): max z, Σ exp(z − max z), z_label, in rows with a label
    inverse_count: object  # (1,): 1 / the number of rows with a label


def linear_cross_entropy_forward(executor, x, weight, bias, labels, version=None):
    """`albert_np.functions.fused.linear_cross_entropy_forward`.

        loss = cross_entropy(x Wᵀ + b, labels)

    Parameters
    ----------
    executor
        What runs the launches.
    x : array, shape (T, E)
        float16, bfloat16, float32 or float64.
    weight : array, shape (V, E)
    bias : array, shape (V,)
    labels : integer array, shape (T,)
        In [0, V); rows labelled −100 are left out.
    version : int, optional
        Of the kernel; for each block of the vocabulary the fastest that fits by default.

    Returns
    -------
    loss : array, shape ()
        Not a number where no row has a label.
    cache : LinearCrossEntropyCache
    """
    E, V = columns_of(executor, "x", x), columns_of(executor, "bias", bias)
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}; expected (T, E)")
    if V == 0:
        raise ValueError("bias has shape (0,); expected a vocabulary of one word or more")
    x, weight, bias = checked(
        executor,
        Argument("x", x, x.shape),
        Argument("weight", weight, (V, E)),
        Argument("bias", bias, (V,)),
    )
    executor.check("labels", labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels has dtype {labels.dtype}; expected integers")
    if tuple(labels.shape) != x.shape[:1]:
        raise ValueError(f"labels has shape {labels.shape}; expected {x.shape[:1]}")
    labels = executor.contiguous(labels.astype(np.int64, copy=False))

    rows, type_name = x.shape[0], launcher.TYPES[x.dtype.name]
    blocks = _blocks(executor, x, bias, launcher.cross_entropy_forward, version)
    states = executor.empty((rows, 3), wide(x.dtype))
    for first, end, logits, _, plan in blocks:
        executor.multiply(x, weight[first:end].T, logits)
        sizes = (np.int32(first), np.int32(end - first))
        launch(executor, FILE, plan, logits, bias[first:end], labels, states, *sizes)
    loss, inverse_count = executor.empty((1,), x.dtype), executor.empty((1,), wide(x.dtype))
    plan = launcher.each_row(f"cross_entropy_loss_1<{type_name}>", 1)
    launch(executor, FILE, plan, states, labels, loss, inverse_count, np.int32(rows))
    cache = LinearCrossEntropyCache(x, weight, bias, labels, states, inverse_count)
    return loss.reshape(()), cache


def linear_cross_entropy_backward(executor, dloss, cache, into=None, version=None):
    """Backward pass of `linear_cross_entropy_forward`, from the logits computed again.

    Parameters
    ----------
    executor
    dloss : array, shape ()
    cache : LinearCrossEntropyCache
    into : (array (V, E), array (V,)), optional
        Slots that dweight and dbias are added to, in place.
    version : int, optional
        As for forward.

    Returns
    -------
    dx : array, shape (T, E)
    dweight : array, shape (V, E)
    dbias : array, shape (V,)
    """
    x, weight, bias, labels, states, inverse_count = cache
    _, dloss = checked(executor, Argument("x", x, x.shape), Argument("dloss", dloss, ()))
    dloss = dloss.reshape(1)
    into = checked_slots(executor, into, x.dtype, dweight=weight.shape, dbias=bias.shape)
    blocks = _blocks(executor, x, bias, launcher.cross_entropy_backward, version)
    if into is None:
        into = [executor.zeros(parameter.shape, x.dtype) for parameter in (weight, bias)]
    dweight, dbias = into
    dx = executor.empty(x.shape, wide(x.dtype))
    rows = x.shape[0]
    for first, end, dlogits, problem, plan in blocks:
        executor.multiply(x, weight[first:end].T, dlogits)
        partial = executor.empty((plan.parts, end - first), wide(x.dtype))
        launch(
            executor,
            FILE,
            plan,
            *(dlogits, bias[first:end], labels, states, inverse_count, dloss, partial),
            *map(np.int32, (first, rows, end - first, plan.rows_a_block)),
        )
        executor.multiply(dlogits, weight[first:end], dx, add=first > 0)
        executor.multiply(dlogits.T, x, dweight[first:end], add=True)
        slots = (dbias[first:end],)
        finish_sums(executor, FILE, problem, partial, plan.parts, slots, 1)
    return dx.astype(x.dtype, copy=False), dweight, dbias


def _blocks(executor, x, bias, plan, version):
    """The blocks of the vocabulary, each planned before the first is run.

    Their logits lie in one place, over which each block writes its own.
    """
    rows = x.shape[0]
    bounds = launcher.vocabulary_blocks(rows, len(bias))
    room = executor.empty(rows * max((end - first for first, end in bounds), default=0), x.dtype)
    blocks = []
    for first, end in bounds:
        logits = room[: rows * (end - first)].reshape(rows, end - first)
        problem = problem_of(executor, end - first, logits, bias[first:end])
        blocks.append(Block(first, end, logits, problem, plan(problem, version)))
    return blocks
