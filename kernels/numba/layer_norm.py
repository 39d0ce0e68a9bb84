"""Layer normalization; and what comes before it in a layer, in the same pass over memory.

Forward reads x and the residual and writes x̂ and y, 16 bytes a number in float32; backward reads dy
and x̂ and writes dx, 12 bytes. Everything else happens to a row while it lies in the first-level
cache, at some 15 and 20 operations a number, so memory is the limit. With dropout, Philox adds ten
rounds of some 12 instructions to every four numbers, and is as dear as the rest together.
"""

import numpy as np
from numba import prange

from albert_np.functions.accumulate import accumulate
from albert_np.functions.dropout import Dropout
from albert_np.functions.fused import BiasDropoutResidualLayerNormCache
from albert_np.functions.layer_norm import LayerNormCache
from albert_np.kernels.numba.compiling import inlined, inlined_sum, parallel_kernel
from albert_np.kernels.numba.philox import draw_of, philox_4x32_10
from albert_np.kernels.numba.rows import ROWS_PER_BLOCK, as_rows, count_blocks


def layer_norm_forward(x, weight, bias, eps):
    """Normalize each row; see `albert_np.functions.layer_norm.layer_norm_forward`.

        x̂ = (x − mean(x)) / √(var(x) + eps)          y = x̂ ∘ w + b

    The mean is taken out twice: the second time, what rounding has left of it. So a large mean
    costs no digits but those that x itself has lost to it.

    Parameters
    ----------
    x : float32 or float64 array, shape (..., N)
    weight, bias : array, shape (N,)
    eps : float

    Returns
    -------
    y : array, shape (..., N)
    cache : LayerNormCache
    """
    rows = as_rows(x)
    y, normalized, inverse_deviation = outputs_of_forward(rows)
    forward(rows, weight, bias, eps, normalized, inverse_deviation, y)
    return y.reshape(x.shape), cache_of(x.shape, normalized, inverse_deviation, weight, bias)


def layer_norm_output(cache):
    """What `layer_norm_forward` returned, computed again.

    Parameters
    ----------
    cache : LayerNormCache

    Returns
    -------
    y : array, shape (..., N)
    """
    normalized = as_rows(cache.normalized)
    y = np.empty_like(normalized)
    scale_and_shift(normalized, cache.weight, cache.bias, y)
    return y.reshape(cache.normalized.shape)


def layer_norm_backward(dy, cache, into=None):
    """Backward pass of `layer_norm_forward`.

        dw = Σ_rows dy ∘ x̂          db = Σ_rows dy
        g = dy ∘ w                  dx = (g − mean(g) − x̂ mean(g ∘ x̂)) / √(var(x) + eps)

    Parameters
    ----------
    dy : array, shape (..., N)
    cache : LayerNormCache
    into : (array (N,), array (N,)), optional
        Slots that dweight and dbias are added to, in place.

    Returns
    -------
    dx : array, shape (..., N)
    dweight, dbias : array, shape (N,)
    """
    dx, _, (_, dweight, dbias) = gradients(dy, cache)
    return dx, *accumulate((dweight, dbias), into)


def bias_dropout_residual_layer_norm_forward(
    x, bias, residual, weight, shift, eps, dropout=None, keep=True
):
    """The end of both halves of a layer; see `albert_np.functions.fused`.

        y = layer_norm(residual + dropout(x + b); w, shift)

    Parameters
    ----------
    x, residual : float32 or float64 array, shape (..., H); with dropout (B, S, H), (B, H) or (T, H)
    bias, weight, shift : array, shape (H,)
    eps : float
    dropout : Dropout, optional
    keep : bool, optional
        Whether a backward pass will follow.

    Returns
    -------
    y : array, shape of x
    cache : BiasDropoutResidualLayerNormCache, or None without `keep`
    """
    rows = as_rows(x)
    y, normalized, inverse_deviation = outputs_of_forward(rows)
    forward_of_layer_end(
        rows,
        bias,
        as_rows(residual),
        weight,
        shift,
        eps,
        *arguments_of(dropout, x.shape, x.dtype),
        normalized,
        inverse_deviation,
        y,
    )
    if not keep:
        return y.reshape(x.shape), None
    norm_cache = cache_of(x.shape, normalized, inverse_deviation, weight, shift)
    return y.reshape(x.shape), BiasDropoutResidualLayerNormCache(dropout, norm_cache)


def bias_dropout_residual_layer_norm_output(cache):
    """What `bias_dropout_residual_layer_norm_forward` returned, computed again.

    Parameters
    ----------
    cache : BiasDropoutResidualLayerNormCache

    Returns
    -------
    y : array, shape of x
    """
    return layer_norm_output(cache.layer_norm)


def bias_dropout_residual_layer_norm_backward(dy, cache, into=None):
    """Backward pass of `bias_dropout_residual_layer_norm_forward`.

    Parameters
    ----------
    dy : array, shape of x
    cache : BiasDropoutResidualLayerNormCache
    into : three of array (H,), optional
        Slots that dbias, dweight and dshift are added to, in place.

    Returns
    -------
    dx : array, shape of x
    dbias : array, shape (H,)
    dresidual : array, shape of x
        dx itself where there is no dropout.
    dweight, dshift : array, shape (H,)
    """
    dresidual, dx, sums = gradients(dy, cache.layer_norm, cache.dropout)
    dbias, dweight, dshift = accumulate(sums, into)
    return dx, dbias, dresidual, dweight, dshift


def outputs_of_forward(rows):
    """Make the arrays that forward writes: y, x̂, and the inverse deviations."""
    return np.empty_like(rows), np.empty_like(rows), np.empty((len(rows), 1), rows.dtype)


def cache_of(shape, normalized, inverse_deviation, weight, bias):
    """Make the cache of an input of that shape."""
    inverse_deviation = inverse_deviation.reshape(*shape[:-1], 1)
    return LayerNormCache(normalized.reshape(shape), inverse_deviation, weight, bias)


def arguments_of(dropout, shape, dtype):
    """What kernels know of a dropout on an array of that shape.

    Whether there is one; the draw; and of each token, the sequence and the row that it counts as.
    """
    if dropout is None:
        nowhere = np.empty(0, np.int64)
        return False, draw_of(Dropout(0.0, 0, 0), dtype), nowhere, nowhere
    if dropout.packed is not None:
        sequences, rows = dropout.packed.places
    else:
        tokens = np.arange(np.prod(shape[:-1], dtype=np.int64))
        sequences, rows = np.divmod(tokens, shape[1] if len(shape) == 3 else 1)
    return True, draw_of(dropout, dtype), sequences, rows


def gradients(dy, cache, dropout=None):
    """The gradient of what is normalized, the same after dropout, and three sums over rows."""
    normalized = as_rows(cache.normalized)
    dtotal = np.empty_like(normalized)
    dx = dtotal if dropout is None else np.empty_like(normalized)
    partial_sums = np.zeros((count_blocks(len(dtotal)), 3, dtotal.shape[1]), dtotal.dtype)
    backward(
        as_rows(dy),
        normalized,
        as_rows(cache.inverse_deviation),
        cache.weight,
        *arguments_of(dropout, dy.shape, dtotal.dtype),
        dtotal,
        dx,
        partial_sums,
    )
    dresidual = dtotal.reshape(dy.shape)
    dx = dresidual if dropout is None else dx.reshape(dy.shape)
    return dresidual, dx, tuple(partial_sums.sum(axis=0))


@parallel_kernel
def forward(x, weight, bias, eps, normalized, inverse_deviation, y):
    for i in prange(len(x)):
        copy_row(x[i], normalized[i])
        inverse_deviation[i, 0] = centre_row(normalized[i], eps)
        normalize_row(normalized[i], inverse_deviation[i, 0], weight, bias, y[i])


@parallel_kernel
def scale_and_shift(normalized, weight, bias, y):
    for i in prange(len(y)):
        scale_and_shift_row(normalized[i], weight, bias, y[i])


@parallel_kernel
def forward_of_layer_end(
    x,
    bias,
    residual,
    weight,
    shift,
    eps,
    drops,
    draw,
    sequences,
    rows,
    normalized,
    inverse_deviation,
    y,
):
    for i in prange(len(x)):
        total = normalized[i]
        if drops:
            add_row(x[i], bias, total)
            drop_from_row(total, draw, sequences[i], rows[i])
            add_row(total, residual[i], total)
        else:
            add_rows(x[i], bias, residual[i], total)
        inverse_deviation[i, 0] = centre_row(total, eps)
        normalize_row(total, inverse_deviation[i, 0], weight, shift, y[i])


@parallel_kernel
def backward(
    dy,
    normalized,
    inverse_deviation,
    weight,
    drops,
    draw,
    sequences,
    rows,
    dtotal,
    dx,
    sums,
):
    for block in prange(len(sums)):
        # Taken one by one: the rows of an unpacked array are not known to be contiguous, and loops
        # over them do not become vectors.
        dbias, dweight, dshift = sums[block, 0], sums[block, 1], sums[block, 2]
        for i in range(block * ROWS_PER_BLOCK, min((block + 1) * ROWS_PER_BLOCK, len(dy))):
            backward_row(dy[i], normalized[i], weight, inverse_deviation[i, 0], dtotal[i])
            add_row_to_sums(dy[i], normalized[i], dweight, dshift)
            if drops:
                copy_row(dtotal[i], dx[i])
                drop_from_row(dx[i], draw, sequences[i], rows[i])
            add_row(dbias, dx[i], dbias)


@inlined
def copy_row(x, copy):
    for j in range(x.size):
        copy[j] = x[j]


@inlined
def add_row(x, y, total):
    for j in range(x.size):
        total[j] = x[j] + y[j]


@inlined
def add_rows(x, y, z, total):
    for j in range(x.size):
        total[j] = x[j] + y[j] + z[j]


@inlined_sum
def sum_row(x):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += x[j]
    return total


@inlined_sum
def subtract_mean(x, sum_of_row):
    """Put x − mean(x) in the place of x, and return its sum and the sum of its squares."""
    number = x.dtype.type
    mean = number(sum_of_row / x.size)
    rest, squares = number(0), number(0)
    for j in range(x.size):
        x[j] -= mean
        rest += x[j]
        squares += x[j] * x[j]
    return rest, squares


@inlined
def centre_row(x, eps):
    """Take the mean out of x, twice, and return 1 / √(var(x) + eps)."""
    rest, _ = subtract_mean(x, sum_row(x))
    _, squares = subtract_mean(x, rest)
    return x.dtype.type(1 / np.sqrt(squares / x.size + eps))


@inlined
def normalize_row(x, inverse_deviation, weight, bias, y):
    """Put x̂ in the place of the centred x, and y = x̂ ∘ w + b beside it."""
    for j in range(y.size):
        x[j] *= inverse_deviation
        y[j] = x[j] * weight[j] + bias[j]


@inlined
def scale_and_shift_row(normalized, weight, bias, y):
    for j in range(y.size):
        y[j] = normalized[j] * weight[j] + bias[j]


@inlined_sum
def means_of_gradient(dy, normalized, weight):
    """mean(g) and mean(g ∘ x̂), with g = dy ∘ w"""
    number = dy.dtype.type
    along_ones, along_normalized = number(0), number(0)
    for j in range(dy.size):
        g = dy[j] * weight[j]
        along_ones += g
        along_normalized += g * normalized[j]
    return number(along_ones / dy.size), number(along_normalized / dy.size)


@inlined
def backward_row(dy, normalized, weight, inverse_deviation, dx):
    """dx = (g − mean(g) − x̂ mean(g ∘ x̂)) · inverse deviation, with g = dy ∘ w"""
    along_ones, along_normalized = means_of_gradient(dy, normalized, weight)
    for j in range(dx.size):
        g = dy[j] * weight[j]
        dx[j] = (g - along_ones - normalized[j] * along_normalized) * inverse_deviation


@inlined
def add_row_to_sums(dy, normalized, dweight, dshift):
    for j in range(dy.size):
        dweight[j] += dy[j] * normalized[j]
        dshift[j] += dy[j]


@inlined
def drop_from_row(x, draw, sequence, row):
    """x ∘ keep / (1 − p), in place: a counter serves four columns."""
    zero, whole = x.dtype.type(0), x.size // 4
    for four in range(whole):
        w0, w1, w2, w3 = words_of(draw, sequence, row, four)
        j = 4 * four
        x[j] = x[j] * draw.scale if w0 >= draw.threshold else zero
        x[j + 1] = x[j + 1] * draw.scale if w1 >= draw.threshold else zero
        x[j + 2] = x[j + 2] * draw.scale if w2 >= draw.threshold else zero
        x[j + 3] = x[j + 3] * draw.scale if w3 >= draw.threshold else zero
    words = words_of(draw, sequence, row, whole)
    for j in range(4 * whole, x.size):
        x[j] = x[j] * draw.scale if words[j - 4 * whole] >= draw.threshold else zero


@inlined
def words_of(draw, sequence, row, four):
    """The four words of columns 4 · four and after; a layer has no heads here."""
    site = draw.site << np.uint64(16)
    counter = np.uint64(four), np.uint64(row), np.uint64(sequence), site
    return philox_4x32_10(*counter, draw.seed_low, draw.seed_high)
