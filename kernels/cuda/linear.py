"""The linear map: products by the executor, the bias's gradient by `linear.cu`."""

import math

import numpy as np

from albert_np.functions.linear import LinearCache
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

FILE = "linear.cu"


def linear_forward(executor, x, weight, bias=None):
    """`albert_np.functions.linear.linear_forward`.

        y = x Wᵀ + b

    Parameters
    ----------
    executor
        What multiplies.
    x : array, shape (..., N)
        float16, bfloat16, float32 or float64.
    weight : array, shape (M, N)
    bias : array, shape (M,), optional
        Added before anything is rounded.

    Returns
    -------
    y : array, shape (..., M)
    cache : LinearCache
    """
    columns, outputs = columns_of(executor, "x", x), len(weight)
    arguments = [Argument("x", x, x.shape), Argument("weight", weight, (outputs, columns))]
    if bias is not None:
        arguments.append(Argument("bias", bias, (outputs,)))
    x, weight, *_ = checked(executor, *arguments)
    y = executor.empty((*x.shape[:-1], outputs), x.dtype)
    rows = math.prod(x.shape[:-1])  # which no library can tell of rows without numbers
    executor.multiply(x.reshape(rows, columns), weight.T, y.reshape(rows, outputs), bias)
    return y, LinearCache(x, weight, bias is not None)


def linear_backward(executor, dy, cache, into=None):
    """Backward pass of `linear_forward`.

        dx = dy W          dW (+)= Σ_rows dyᵀ x          db (+)= Σ_rows dy

    Parameters
    ----------
    executor
    dy : array, shape (..., M)
    cache : LinearCache
    into : (array (M, N), array (M,) or None), optional
        Slots that dweight and dbias are added to, in place: by the product itself, so that there
        is no temporary of the weight's size.

    Returns
    -------
    dx : array, shape (..., N)
    dweight : array, shape (M, N)
    dbias : array, shape (M,), or None where there was no bias
    """
    x, weight, has_bias = cache
    outputs, columns = weight.shape
    x, weight, dy = checked(
        executor,
        Argument("x", x, x.shape),
        Argument("weight", weight, weight.shape),
        Argument("dy", dy, (*x.shape[:-1], outputs)),
    )
    shapes = {"dweight": weight.shape} | ({"dbias": (outputs,)} if has_bias else {})
    into = checked_slots(executor, into and into[: len(shapes)], x.dtype, **shapes)
    dx = executor.empty(x.shape, x.dtype)
    rows = math.prod(x.shape[:-1])
    dy_rows = dy.reshape(rows, outputs)
    executor.multiply(dy_rows, weight, dx.reshape(rows, columns))
    dweight = executor.empty(weight.shape, x.dtype) if into is None else into[0]
    executor.multiply(dy_rows.T, x.reshape(rows, columns), dweight, add=into is not None)
    dbias = None
    if has_bias:
        (dbias,) = _sum_of_rows(executor, dy_rows, None if into is None else into[1:])
    return dx, dweight, dbias


def _sum_of_rows(executor, dy, into):
    """db (+)= Σ_rows dy, in a fixed order."""
    columns = dy.shape[-1]
    problem = problem_of(executor, columns, dy)
    plan = launcher.sum_of_rows(problem)
    partial = executor.empty((plan.parts, columns), wide(dy.dtype))
    sizes = map(np.int32, (problem.rows, columns, plan.rows_a_block))
    launch(executor, FILE, plan, dy, partial, *sizes)
    return finish_sums(executor, FILE, problem, partial, plan.parts, into, 1)
