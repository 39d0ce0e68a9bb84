"""The linear map, y = x Wᵀ + b."""

import numpy as np
from numba import get_num_threads, prange

from albert_np.functions.linear import LinearCache
from albert_np.kernels.numba.compiling import kernel, parallel_kernel
from albert_np.kernels.numba.tile import (
    BLOCK,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    multiply_1,
    multiply_2,
    multiply_3,
    transpose_block,
)

STRIP = 2 * BLOCK  # rows that are multiplied before they are stored: a cache line of float32
PANELS_BYTES = 2**20  # of B, packed: half of a level 2 cache
DW_STEPS = 512


@kernel
def share(size, unit, part, parts):
    units = -(-size // unit)
    return min(size, units * part // parts * unit), min(size, units * (part + 1) // parts * unit)


@kernel
def tile(vectors, a, row, column, last, start, panel, panel_start, steps, sums, i, j):
    if vectors == 3:
        multiply_3(a, row, column, last, start, panel, panel_start, steps, sums, i, j)
    elif vectors == 2:
        multiply_2(a, row, column, last, start, panel, panel_start, steps, sums, i, j)
    else:
        multiply_1(a, row, column, last, start, panel, panel_start, steps, sums, i, j)


@kernel
def multiply_strip(a, row, column, last, start, panels, steps, vectors, sums):
    """sums = start + a[row : row + STRIP, column : column + steps] @ panels, panel by panel."""
    lanes = VECTOR_BYTES // a.itemsize
    for i in range(0, STRIP, TILE_ROWS):
        if row + i <= last:
            for v in range(0, vectors, TILE_VECTORS):
                tile(
                    min(TILE_VECTORS, vectors - v),
                    a, row + i, column, last, start, panels, v * lanes * steps, steps, sums, i, v * lanes,
                )


@kernel
def pack_transposed(x, begin, end, panels):
    """Token by token of x[begin:end] into columns of panels (K, lanes of the panel)."""
    steps = x.shape[1]
    lanes = VECTOR_BYTES // x.itemsize
    vectors = -(-(end - begin) // lanes)
    whole = steps // BLOCK * BLOCK
    for v in range(0, vectors, TILE_VECTORS):
        width = min(TILE_VECTORS, vectors - v) * lanes
        first = v * lanes * steps
        for t in range(0, width, BLOCK):
            token = begin + v * lanes + t
            if token + BLOCK <= end:
                for r in range(0, whole, BLOCK):
                    transpose_block(x, token, r, panels, first + r * width + t, width)
                for k in range(t, t + BLOCK):
                    for r in range(whole, steps):
                        panels[first + r * width + k] = x[token + k - t, r]
            else:
                for k in range(BLOCK):
                    for r in range(steps):
                        panels[first + r * width + t + k] = x[token + k, r] if token + k < end else 0
    return vectors


@kernel
def pack(x, row, steps, begin, end, panels):
    """Columns begin:end of x[row : row + steps] into panels."""
    lanes = VECTOR_BYTES // x.itemsize
    vectors = -(-(end - begin) // lanes)
    for v in range(0, vectors, TILE_VECTORS):
        width = min(TILE_VECTORS, vectors - v) * lanes
        first = v * lanes * steps
        column = begin + v * lanes
        if column + width <= end:
            for r in range(steps):
                for j in range(width):
                    panels[first + r * width + j] = x[row + r, column + j]
        else:
            for r in range(steps):
                for j in range(width):
                    panels[first + r * width + j] = x[row + r, column + j] if column + j < end else 0
    return vectors


@kernel
def store_transposed(sums, row, rows, y, begin, end):
    y_flat = y.reshape(-1)
    if rows == STRIP:
        whole = (end - begin) // BLOCK * BLOCK
        for t in range(0, whole, BLOCK):
            for i in range(0, STRIP, BLOCK):
                transpose_block(sums, i, t, y_flat, (begin + t) * y.shape[1] + row + i, y.shape[1])
    else:
        whole = 0
    for t in range(whole, end - begin):
        for i in range(rows):
            y[begin + t, row + i] = sums[i, t]


@kernel
def block_width(steps, itemsize):
    """Columns of the panels that are multiplied together: a whole number of panels."""
    panel = TILE_VECTORS * VECTOR_BYTES
    return panel // itemsize * max(1, min(8, PANELS_BYTES // (panel * steps)))


@kernel
def forward_block(x, weight, bias, y, t0, t1, n0, n1):
    steps = x.shape[1]
    width = block_width(steps, x.itemsize)
    panels = np.empty(width * steps, x.dtype)
    sums = np.empty((STRIP, width), x.dtype)
    for begin in range(t0, t1, width):
        end = min(begin + width, t1)
        vectors = pack_transposed(x, begin, end, panels)
        for n in range(n0, n1, STRIP):
            multiply_strip(weight, n, 0, n1 - 1, bias, panels, steps, vectors, sums)
            store_transposed(sums, n, min(STRIP, n1 - n), y, begin, end)


@parallel_kernel
def forward(x, weight, bias, y, token_parts, output_parts):
    for part in prange(token_parts * output_parts):
        t0, t1 = share(x.shape[0], VECTOR_BYTES // x.itemsize, part // output_parts, token_parts)
        n0, n1 = share(weight.shape[0], STRIP, part % output_parts, output_parts)
        forward_block(x, weight, bias, y, t0, t1, n0, n1)


@kernel
def backward_x_block(dy, weight, start, dx, k0, k1):
    steps = weight.shape[0]
    width = block_width(steps, dy.itemsize)
    panels = np.empty(width * steps, dy.dtype)
    sums = np.empty((STRIP, width), dy.dtype)
    for begin in range(k0, k1, width):
        end = min(begin + width, k1)
        vectors = pack(weight, 0, steps, begin, end, panels)
        for t in range(0, dy.shape[0], STRIP):
            multiply_strip(dy, t, 0, dy.shape[0] - 1, start, panels, steps, vectors, sums)
            for i in range(min(STRIP, dy.shape[0] - t)):
                for j in range(end - begin):
                    dx[t + i, begin + j] = sums[i, j]


@parallel_kernel
def backward_x(dy, weight, start, dx, parts):
    for part in prange(parts):
        k0, k1 = share(weight.shape[1], VECTOR_BYTES // dy.itemsize, part, parts)
        backward_x_block(dy, weight, start, dx, k0, k1)


@kernel
def backward_weight_block(dy, x, start, dweight, n0, n1):
    """dweight[n0:n1] += dy[:, n0:n1]ᵀ x"""
    steps = min(DW_STEPS, x.shape[0])
    width = block_width(steps, dy.itemsize)
    panels = np.empty(width * steps, dy.dtype)
    sums = np.empty((STRIP, width), dy.dtype)
    rows = np.empty((STRIP, steps), dy.dtype)
    rows_flat = rows.reshape(-1)
    for r0 in range(0, x.shape[0], steps):
        count = min(steps, x.shape[0] - r0)
        for begin in range(0, x.shape[1], width):
            end = min(begin + width, x.shape[1])
            vectors = pack(x, r0, count, begin, end, panels)
            for n in range(n0, n1, STRIP):
                last = min(STRIP, n1 - n) - 1
                done = 0
                if last == STRIP - 1:
                    done = count // BLOCK * BLOCK
                    for r in range(0, done, BLOCK):
                        for i in range(0, STRIP, BLOCK):
                            transpose_block(dy, r0 + r, n + i, rows_flat, i * steps + r, steps)
                for r in range(done, count):
                    for i in range(last + 1):
                        rows[i, r] = dy[r0 + r, n + i]
                multiply_strip(rows, 0, 0, last, start, panels, count, vectors, sums)
                for i in range(last + 1):
                    for j in range(end - begin):
                        dweight[n + i, begin + j] += sums[i, j]


@parallel_kernel
def backward_weight(dy, x, start, dweight, dbias, parts):
    for part in prange(parts):
        n0, n1 = share(dy.shape[1], STRIP, part, parts)
        backward_weight_block(dy, x, start, dweight, n0, n1)
        if dbias.size > 0:
            for t in range(dy.shape[0]):
                for n in range(n0, n1):
                    dbias[n] += dy[t, n]


def linear_forward(x, weight, bias=None):
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    y = np.empty((rows.shape[0], weight.shape[0]), x.dtype)
    start = np.zeros(weight.shape[0], x.dtype) if bias is None else bias
    threads = get_num_threads()
    token_parts = min(threads, max(1, rows.shape[0] // 100))
    forward(rows, weight, start, y, token_parts, -(-threads // token_parts))
    return y.reshape(*x.shape[:-1], weight.shape[0]), LinearCache(x, weight, bias is not None)


def linear_backward(dy, cache, into=None):
    x, weight, has_bias = cache
    x_rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    dy_rows = np.ascontiguousarray(dy).reshape(-1, dy.shape[-1])
    threads = get_num_threads()
    dx = np.empty(x_rows.shape, x.dtype)
    backward_x(dy_rows, weight, np.zeros(dy_rows.shape[0], x.dtype), dx, threads)
    if into is None:
        into = np.zeros_like(weight), np.zeros(weight.shape[0], x.dtype) if has_bias else None
    dweight, dbias = into
    backward_weight(
        dy_rows, x_rows, np.zeros(max(STRIP, 1), x.dtype), dweight,
        dbias if has_bias else np.zeros(0, x.dtype), threads,
    )
    return dx.reshape(x.shape), dweight, dbias
