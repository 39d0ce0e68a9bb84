"""The linear map, y = x Wᵀ + b."""

import numpy as np
from numba import get_num_threads, prange

from albert_np.functions.linear import LinearCache
from albert_np.kernels.numba.compiling import parallel_kernel
from albert_np.kernels.numba.matrix_multiply import (
    STRIP,
    add_transposed_multiply,
    aligned,
    multiply,
    multiply_transposed,
    share,
)

FLOATS = np.dtype(np.float32), np.dtype(np.float64)
TOKENS_OF_A_PART = 100  # with fewer, threads share the outputs, and each packs all tokens


@parallel_kernel
def add_sum_of_rows(dy, dbias, parts):
    for part in prange(parts):
        n0, n1 = share(dy.shape[1], STRIP, part, parts)
        sums = dbias[n0:n1]
        for t in range(dy.shape[0]):
            row = dy[t, n0:n1]
            for n in range(sums.size):
                sums[n] += row[n]


def for_kernel(name, array, like=None):
    """The array, or a copy where a kernel cannot take it: contiguous and writeable.

    Raises
    ------
    TypeError
        If its dtype is neither float32 nor float64, or another one than that of `like`.
    """
    expected = FLOATS if like is None else (like.dtype,)
    if array.dtype not in expected:
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected {' or '.join(map(str, expected))}"
        )
    fits = array.flags.c_contiguous and array.flags.writeable
    return array if fits else np.array(array, order="C")


def empty_rows(rows, columns, like):
    """An empty matrix for a kernel to write.

    Not by the compiled `aligned`: NumPy asks the system for large pages where they serve, and of
    small ones a large matrix needs thousands, each of which costs as much as to fill it.
    """
    return aligned.py_func(rows * columns, like).reshape(rows, columns)


def linear_forward(x, weight, bias=None):
    """Linear map with PyTorch's weight layout, as `albert_np.functions.linear.linear_forward`.

        y = x Wᵀ + b

    Each sum starts from the bias.

    Parameters
    ----------
    x : array, shape (..., N), float32 or float64
    weight : array, shape (M, N), of x's dtype
    bias : array, shape (M,), of x's dtype, optional

    Returns
    -------
    y : array, shape (..., M)
    cache : LinearCache
    """
    outputs = weight.shape[0]
    rows = for_kernel("x", x).reshape(-1, x.shape[-1])
    start = np.zeros(outputs, x.dtype) if bias is None else for_kernel("bias", bias, x)
    y = empty_rows(len(rows), outputs, rows)
    threads = get_num_threads()
    token_parts = max(1, min(threads, len(rows) // TOKENS_OF_A_PART))
    output_parts = -(-threads // token_parts)
    multiply_transposed(rows, for_kernel("weight", weight, x), start, y, token_parts, output_parts)
    return y.reshape(*x.shape[:-1], outputs), LinearCache(x, weight, bias is not None)


def linear_backward(dy, cache, into=None):
    """Backward pass of `linear_forward`, as `albert_np.functions.linear.linear_backward`.

        dx = dy W          dW += Σ_rows dyᵀ x          db += Σ_rows dy

    Parameters
    ----------
    dy : array, shape (..., M), of x's dtype
    cache : LinearCache
    into : tuple of array (M, N) and (array (M,) or None), optional
        Slots that dweight and dbias are added to, in place.

    Returns
    -------
    dx : array, shape (..., N)
    dweight : array, shape (M, N)
    dbias : array, shape (M,), or None where there was no bias
    """
    x, weight, has_bias = cache
    x_rows = for_kernel("x", x).reshape(-1, x.shape[-1])
    dy_rows = for_kernel("dy", dy, x).reshape(-1, dy.shape[-1])
    if into is None:
        into = np.zeros(weight.shape, x.dtype), np.zeros(len(weight), x.dtype)
    dweight, dbias = into[0], into[1] if has_bias else None
    threads = get_num_threads()
    dx = empty_rows(*x_rows.shape, x_rows)
    multiply(dy_rows, for_kernel("weight", weight, x), dx, threads)
    add_in_place(add_transposed_multiply, dweight, dy_rows, x_rows)
    if has_bias:
        add_in_place(add_sum_of_rows, dbias, dy_rows)
    return dx.reshape(x.shape), dweight, dbias


def add_in_place(kernel, slot, *arrays):
    """Let a kernel add to a slot; by way of a copy where the slot is not contiguous."""
    total = for_kernel("into", slot, arrays[0])
    kernel(*arrays, total, get_num_threads())
    if total is not slot:
        slot[...] = total
