"""Layer norm, alone or after bias, dropout and residual sum: the launches of `layer_norm.cu`."""

import numpy as np

from albert_np.functions.fused import BiasDropoutResidualLayerNormCache
from albert_np.functions.layer_norm import LayerNormCache
from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.arrays import (
    Argument,
    checked,
    checked_slots,
    columns_of,
    dropout_struct,
    finish_sums,
    launch,
    problem_of,
    wide,
)

FILE = "layer_norm.cu"


def layer_norm_forward(executor, x, weight, bias, eps, version=None):
    """`albert_np.functions.layer_norm.layer_norm_forward`.

        x̂ = (x − mean(x)) / √(var(x) + eps)          y = x̂ ∘ w + b

    Parameters
    ----------
    executor
        What runs the launches.
    x : array, shape (..., N)
        float16, bfloat16, float32 or float64.
    weight, bias : array, shape (N,)
    eps : float
    version : int, optional
        Of the kernel; the fastest that fits by default.

    Returns
    -------
    y : array, shape (..., N)
    cache : LayerNormCache
    """
    columns = columns_of(executor, "x", x)
    x, weight, bias = checked(
        executor,
        Argument("x", x, x.shape),
        Argument("weight", weight, (columns,)),
        Argument("bias", bias, (columns,)),
    )
    return _forward(executor, x, None, None, weight, bias, eps, None, version)


def bias_dropout_residual_layer_norm_forward(
    executor, x, bias, residual, weight, shift, eps, dropout=None, version=None
):
    """`albert_np.functions.fused.bias_dropout_residual_layer_norm_forward`.

        y = layer_norm(residual + dropout(x + b); w, shift)

    Parameters
    ----------
    executor
    x, residual : array, shape (..., H)
    bias, weight, shift : array, shape (H,)
    eps : float
    dropout : Dropout, optional
        With x of shape (B, S, H), or (T, H) if it is packed.
    version : int, optional

    Returns
    -------
    y : array, shape (..., H)
    cache : BiasDropoutResidualLayerNormCache
    """
    columns = columns_of(executor, "x", x)
    x, bias, residual, weight, shift = checked(
        executor,
        Argument("x", x, x.shape),
        Argument("bias", bias, (columns,)),
        Argument("residual", residual, x.shape),
        Argument("weight", weight, (columns,)),
        Argument("shift", shift, (columns,)),
    )
    y, cache = _forward(executor, x, bias, residual, weight, shift, eps, dropout, version)
    return y, BiasDropoutResidualLayerNormCache(dropout, cache)


def _forward(executor, x, bias, residual, weight, shift, eps, dropout, version):
    columns = x.shape[-1]
    y, normalized = executor.empty(x.shape, x.dtype), executor.empty(x.shape, x.dtype)
    inverse_deviation = executor.empty((*x.shape[:-1], 1), wide(x.dtype))
    inputs = [array for array in (x, bias, residual, weight, shift) if array is not None]
    problem = problem_of(executor, columns, *inputs, y, normalized)
    launch(
        executor,
        FILE,
        launcher.layer_norm_forward(problem, version),
        *(x, bias, residual, weight, shift, y, normalized, inverse_deviation),
        np.int32(problem.rows),
        np.int32(columns),
        np.float64(eps),
        dropout_struct(executor, dropout, x.shape),
    )
    return y, LayerNormCache(normalized, inverse_deviation, weight, shift)


def layer_norm_output(executor, cache):
    """What `layer_norm_forward` gave, from its cache: bit for bit the same."""
    normalized, _, weight, shift = cache
    y = executor.empty(normalized.shape, normalized.dtype)
    problem = problem_of(executor, normalized.shape[-1], normalized)
    plan = launcher.each_element(f"layer_norm_output_1<{problem.type}>", y.size)
    sizes = (np.int32(problem.rows), np.int32(problem.columns))
    launch(executor, FILE, plan, normalized, weight, shift, y, *sizes)
    return y


def bias_dropout_residual_layer_norm_output(executor, cache):
    """What `bias_dropout_residual_layer_norm_forward` gave, from its cache, bit for bit."""
    return layer_norm_output(executor, cache.layer_norm)


def layer_norm_backward(executor, dy, cache, into=None, version=None):
    """Backward pass of `layer_norm_forward`.

    Parameters
    ----------
    executor
    dy : array, shape (..., N)
    cache : LayerNormCache
    into : (array (N,), array (N,)), optional
        Slots that dweight and dbias are added to, in place.
    version : int, optional

    Returns
    -------
    dx : array, shape (..., N)
    dweight, dbias : array, shape (N,)
    """
    shape, dtype = cache.weight.shape, cache.weight.dtype
    into = checked_slots(executor, into, dtype, dweight=shape, dbias=shape)
    dx, _, sums = _backward(executor, dy, cache, None, into, 2, version)
    return dx, *sums


def bias_dropout_residual_layer_norm_backward(executor, dy, cache, into=None, version=None):
    """Backward pass of `bias_dropout_residual_layer_norm_forward`.

    Parameters
    ----------
    executor
    dy : array, shape (..., H)
    cache : BiasDropoutResidualLayerNormCache
    into : three of array (H,), optional
        Slots that dbias, dweight and dshift are added to, in place.
    version : int, optional

    Returns
    -------
    dx : array, shape (..., H)
    dbias : array, shape (H,)
    dresidual : array, shape (..., H)
        dx itself where there was no dropout.
    dweight, dshift : array, shape (H,)
    """
    shape, dtype = cache.layer_norm.weight.shape, cache.layer_norm.weight.dtype
    into = checked_slots(executor, into, dtype, dbias=shape, dweight=shape, dshift=shape)
    into = into and (*into[1:], into[0])
    dtotal, dx, sums = _backward(executor, dy, cache.layer_norm, cache.dropout, into, 3, version)
    dweight, dshift, dbias = sums
    return dx, dbias, dtotal, dweight, dshift


def _backward(executor, dy, cache, dropout, into, sums, version):
    normalized, inverse_deviation, weight, _ = cache
    shape, columns = normalized.shape, normalized.shape[-1]
    _, dy = checked(executor, Argument("normalized", normalized, shape), Argument("dy", dy, shape))
    dtotal = executor.empty(shape, dy.dtype)
    dx = None if dropout is None else executor.empty(shape, dy.dtype)
    outputs = (dtotal,) if dx is None else (dtotal, dx)
    problem = problem_of(executor, columns, dy, normalized, weight, *outputs)
    plan = launcher.layer_norm_backward(problem, version)
    partial = executor.empty((plan.parts, 3 * columns), wide(dy.dtype))
    launch(
        executor,
        FILE,
        plan,
        *(dy, normalized, inverse_deviation, weight, dtotal, dx, partial),
        np.int32(problem.rows),
        np.int32(columns),
        np.int32(plan.rows_a_block),
        dropout_struct(executor, dropout, shape),
    )
    sums = finish_sums(executor, FILE, problem, partial, plan.parts, into, sums)
    return dtotal, dtotal if dx is None else dx, sums
