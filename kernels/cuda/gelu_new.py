"""Bias and gelu_new in one pass: the launches of `gelu_new.cu`."""

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

FILE = "gelu_new.cu"


class BiasGeluNewCache(NamedTuple):
    x: object  # (..., I)
    bias: object  # (I,)


def bias_gelu_new_forward(executor, x, bias, version=None):
    """`albert_np.functions.fused.bias_gelu_new_forward`.

        y = gelu_new(x + b)

    Parameters
    ----------
    executor
        What runs the launches.
    x : array, shape (..., I)
        float16, bfloat16, float32 or float64.
    bias : array, shape (I,)
        Of the dtype of x.
    version : int, optional
        Of the kernel; the fastest that fits by default.

    Returns
    -------
    y : array, shape (..., I)
    cache : BiasGeluNewCache
    """
    columns = columns_of(executor, "x", x)
    x, bias = checked(executor, Argument("x", x, x.shape), Argument("bias", bias, (columns,)))
    y = executor.empty(x.shape, x.dtype)
    problem = problem_of(executor, columns, x, bias, y)
    plan = launcher.gelu_new_forward(problem, version)
    launch(executor, FILE, plan, x, bias, y, np.int32(problem.rows), np.int32(columns))
    return y, BiasGeluNewCache(x, bias)


def bias_gelu_new_output(executor, cache):
    """What `bias_gelu_new_forward` gave, from its cache: bit for bit the same."""
    y, _ = bias_gelu_new_forward(executor, *cache)
    return y


def bias_gelu_new_backward(executor, dy, cache, into=None, version=None):
    """Backward pass of `bias_gelu_new_forward`.

    Parameters
    ----------
    executor
    dy : array, shape (..., I)
    cache : BiasGeluNewCache
    into : (array (I,),), optional
        The slot that dbias is added to, in place.
    version : int, optional

    Returns
    -------
    dx : array, shape (..., I)
    dbias : array, shape (I,)
    """
    x, bias = cache
    columns = x.shape[-1]
    _, dy = checked(executor, Argument("x", x, x.shape), Argument("dy", dy, x.shape))
    into = checked_slots(executor, into, x.dtype, dbias=(columns,))
    dx = executor.empty(x.shape, x.dtype)
    problem = problem_of(executor, columns, x, bias, dy, dx)
    plan = launcher.gelu_new_backward(problem, version)
    partial = executor.empty((plan.parts, columns), wide(x.dtype))
    sizes = (np.int32(problem.rows), np.int32(columns), np.int32(plan.rows_a_block))
    launch(executor, FILE, plan, dy, x, bias, dx, partial, *sizes)
    return dx, *finish_sums(executor, FILE, problem, partial, plan.parts, into, 1)
