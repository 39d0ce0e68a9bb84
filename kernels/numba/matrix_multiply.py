"""Three matrix multiplies: x Wᵀ + b, dy W, and W += dyᵀ x.

All are made of tiles (see `tile`): rows of a matrix A times panels of a matrix B, in which the
columns of B lie side by side as a vector register holds them.

| product | A, read where it lies | B, packed in panels | a panel's columns are |
| --- | --- | --- | --- |
| x Wᵀ | W | xᵀ | tokens |
| dy W | dy | W | inputs |
| dyᵀ x | dyᵀ, packed by rows | x | inputs |

In the forward pass xᵀ is packed, since it is far smaller than W in a small batch: W, which does not
fit in a cache, is read once and written never. (NumPy's BLAS packs W on each call, which takes it a
quarter of the time at 128 tokens.)

Panels lie in a level 2 cache, and a strip of A in level 1, from which every panel reads it. Where
sums are so long that they would not, a sum is cut into a few, which are added up in the result.
Each part of a product has a thread to itself, that packs what it needs; no thread waits for
another. The order of each sum is fixed by the sizes alone.

Loops run from 0 over a slice of a row, not from where it begins: an index that could be negative is
checked for that at each step, and the loop does not become vectors.
"""

import numpy as np
from numba import prange

from albert_np.kernels.numba.compiling import kernel, parallel_kernel
from albert_np.kernels.numba.tile import (
    BLOCK,
    LINE_BYTES,
    TILE_ROWS,
    TILE_VECTORS,
    VECTOR_BYTES,
    copy_width,
    multiply_1,
    multiply_2,
    multiply_3,
    prefetch,
    transpose_block,
)

STRIP = 16  # rows of A that are stored together: a memory line of float32
PANELS_BYTES = 2**20  # half of a level 2 cache; the other half is for what passes through
MOST_PANELS = 8
# Of the inputs, outputs and tokens that a product sums over: as many in registers before the result
# is touched. With more, a panel or a strip would leave its cache; with fewer, sums are added often.
INPUT_STEPS = 4096
OUTPUT_STEPS = 1024
TOKEN_STEPS = 1024
WEIGHT_ROWS = 1024  # of dyᵀ, packed together


@kernel
def share(size, unit, part, parts):
    """Where a part begins and ends, when whole units are dealt out evenly."""
    units = -(-size // unit)
    return min(size, units * part // parts * unit), min(size, units * (part + 1) // parts * unit)


@kernel
def columns_at_once(steps, itemsize):
    """Columns of B that are packed together: whole panels."""
    panel_bytes = TILE_VECTORS * VECTOR_BYTES * max(1, steps)
    panels = max(1, min(MOST_PANELS, PANELS_BYTES // panel_bytes))
    return panels * TILE_VECTORS * VECTOR_BYTES // itemsize


@kernel
def aligned(size, like):
    """An empty array that begins where a memory line does, so that no vector lies in two lines."""
    room = np.empty(size + LINE_BYTES // like.itemsize, like.dtype)
    skip = (-room.ctypes.data % LINE_BYTES) // like.itemsize
    return room[skip : skip + size]


@kernel
def pack_columns(x, row, steps, begin, end, panels):
    """Pack x[row : row + steps, begin:end], zeros after it. Returns how many vectors wide it is.

    Row by row, as memory is read fastest; so all panels grow together.
    """
    lanes = VECTOR_BYTES // x.itemsize
    width = TILE_VECTORS * lanes
    vectors = -(-(end - begin) // lanes)
    whole = (end - begin) // width  # panels that are filled
    rest = vectors * lanes - whole * width  # columns of the one that is not
    for r in range(steps):
        for panel in range(whole):
            first = (panel * steps + r) * width
            copy_width(x, row + r, begin + panel * width, panels, first)
        columns = x[row + r, begin + whole * width : end]
        first = whole * steps * width + r * rest
        panel_row = panels[first : first + rest]
        for j in range(columns.size):
            panel_row[j] = columns[j]
        panel_row[columns.size :] = 0
    return vectors


@kernel
def pack_rows(x, begin, end, column, steps, panels):
    """Pack x[begin:end, column : column + steps]ᵀ, zeros after it.

    Returns how many vectors wide it is.
    """
    lanes = VECTOR_BYTES // x.itemsize
    vectors = -(-(end - begin) // lanes)
    for v in range(0, vectors, TILE_VECTORS):
        width = min(TILE_VECTORS, vectors - v) * lanes
        for t in range(0, width, BLOCK):
            row = begin + v * lanes + t
            first = v * lanes * steps + t
            columns = min(BLOCK, width - t)  # of float64, a narrow vector has fewer than a block
            whole = steps // BLOCK * BLOCK if columns == BLOCK and row + BLOCK <= end else 0
            for r in range(0, whole, BLOCK):
                transpose_block(x, row, column + r, panels, first + r * width, width)
            for k in range(columns):
                for r in range(whole, steps):
                    inside = row + k < end
                    panels[first + r * width + k] = x[row + k, column + r] if inside else 0
    return vectors


@kernel
def prefetch_tile(y, row, column, columns):
    """Ask for y[row : row + TILE_ROWS, column : column + columns], which may be a transpose."""
    line = LINE_BYTES // y.itemsize
    rows_at_once, columns_at_once = (1, line) if y.strides[1] == y.itemsize else (line, 1)
    for i in range(-row % rows_at_once, TILE_ROWS, rows_at_once):
        for j in range(0, columns, columns_at_once):
            prefetch(y, row + i, column + j)


@kernel
def multiply_strip(a, row, column, last, start, panels, steps, vectors, sums, y, y_row, y_column):
    """sums = start + a[row : row + STRIP, column : column + steps] @ panels, tile by tile.

    The sums will be stored in y, from [y_row, y_column] on. Each tile asks for its place there, so
    that it comes near while the tile multiplies; for all of them at once, there would be a queue.
    """
    lanes = VECTOR_BYTES // a.itemsize
    for i in range(0, min(STRIP, last + 1 - row), TILE_ROWS):
        for v in range(0, vectors, TILE_VECTORS):
            j = v * lanes
            first = j * steps
            width = min(TILE_VECTORS, vectors - v)
            prefetch_tile(y, y_row + i, y_column + j, width * lanes)
            if width == 3:
                multiply_3(a, row + i, column, last, start, panels, first, steps, sums, i, j)
            elif width == 2:
                multiply_2(a, row + i, column, last, start, panels, first, steps, sums, i, j)
            else:
                multiply_1(a, row + i, column, last, start, panels, first, steps, sums, i, j)


@kernel
def store_transposed(sums, rows, y, begin, end, column):
    """y[begin:end, column : column + rows] = sumsᵀ"""
    outputs = y.shape[1]
    flat = y.reshape(-1)
    whole = (end - begin) // BLOCK * BLOCK if rows == STRIP else 0
    for t in range(0, whole, BLOCK):
        for i in range(0, STRIP, BLOCK):
            transpose_block(sums, i, t, flat, (begin + t) * outputs + column + i, outputs)
    for t in range(whole, end - begin):
        for i in range(rows):
            y[begin + t, column + i] = sums[i, t]


@kernel
def store_rows(sums, rows, columns, y, row, column):
    """y[row : row + rows, column : column + columns] = sums"""
    for i in range(rows):
        y_row = y[row + i, column : column + columns]
        for j in range(columns):
            y_row[j] = sums[i, j]


@kernel
def add_rows(sums, rows, columns, y, row, column):
    """y[row : row + rows, column : column + columns] += sums"""
    for i in range(rows):
        y_row = y[row + i, column : column + columns]
        for j in range(columns):
            y_row[j] += sums[i, j]


@kernel
def multiply_transposed_part(x, weight, bias, y, t0, t1, n0, n1):
    """y[t0:t1, n0:n1] = x[t0:t1] @ weight[n0:n1].T + bias[n0:n1], INPUT_STEPS inputs at a time"""
    inputs = x.shape[1]
    most = min(INPUT_STEPS, inputs)
    at_once = columns_at_once(most, x.itemsize)
    panels = aligned(at_once * most, x)
    sums = aligned(STRIP * at_once, x).reshape(STRIP, at_once)
    turned = aligned(at_once * STRIP, x).reshape(at_once, STRIP)
    zeros = np.zeros(len(weight), x.dtype)
    for begin in range(t0, t1, at_once):
        end = min(begin + at_once, t1)
        for k in range(0, inputs, INPUT_STEPS):
            steps = min(INPUT_STEPS, inputs - k)
            start = zeros if k > 0 else bias
            vectors = pack_rows(x, begin, end, k, steps, panels)
            for n in range(n0, n1, STRIP):
                rows = min(STRIP, n1 - n)
                multiply_strip(
                    *(weight, n, k, n1 - 1, start, panels, steps, vectors),
                    *(sums, y.T, n, begin),
                )
                if k == 0:
                    store_transposed(sums, rows, y, begin, end, n)
                    continue
                store_transposed(sums, STRIP, turned, 0, end - begin, 0)
                add_rows(turned, end - begin, rows, y, begin, n)


@parallel_kernel
def multiply_transposed(x, weight, bias, y, token_parts, output_parts):
    """y = x @ weight.T + bias"""
    for part in prange(token_parts * output_parts):
        t0, t1 = share(x.shape[0], VECTOR_BYTES // x.itemsize, part // output_parts, token_parts)
        n0, n1 = share(weight.shape[0], STRIP, part % output_parts, output_parts)
        multiply_transposed_part(x, weight, bias, y, t0, t1, n0, n1)


@kernel
def multiply_part(dy, weight, dx, k0, k1):
    """dx[:, k0:k1] = dy @ weight[:, k0:k1], OUTPUT_STEPS outputs at a time"""
    tokens, outputs = dy.shape
    most = min(OUTPUT_STEPS, outputs)
    inputs = columns_at_once(most, dy.itemsize)
    panels = aligned(inputs * most, dy)
    sums = aligned(STRIP * inputs, dy).reshape(STRIP, inputs)
    start = np.zeros(tokens, dy.dtype)
    for begin in range(k0, k1, inputs):
        end = min(begin + inputs, k1)
        for n in range(0, outputs, OUTPUT_STEPS):
            steps = min(OUTPUT_STEPS, outputs - n)
            vectors = pack_columns(weight, n, steps, begin, end, panels)
            for t in range(0, tokens, STRIP):
                rows = min(STRIP, tokens - t)
                multiply_strip(
                    *(dy, t, n, tokens - 1, start, panels, steps, vectors),
                    *(sums, dx, t, begin),
                )
                if n == 0:
                    store_rows(sums, rows, end - begin, dx, t, begin)
                else:
                    add_rows(sums, rows, end - begin, dx, t, begin)


@parallel_kernel
def multiply(dy, weight, dx, parts):
    """dx = dy @ weight"""
    for part in prange(parts):
        k0, k1 = share(weight.shape[1], VECTOR_BYTES // dy.itemsize, part, parts)
        multiply_part(dy, weight, dx, k0, k1)


@kernel
def transpose_part(dy, row, steps, begin, end, rows):
    """rows = dy[row : row + steps, begin:end]ᵀ"""
    flat = rows.reshape(-1)
    room = rows.shape[1]
    whole = steps // (2 * BLOCK) * 2 * BLOCK
    inside = (end - begin) // BLOCK * BLOCK
    for r in range(0, whole, 2 * BLOCK):
        for i in range(0, inside, BLOCK):
            transpose_block(dy, row + r, begin + i, flat, i * room + r, room)
            transpose_block(dy, row + r + BLOCK, begin + i, flat, i * room + r + BLOCK, room)
    for r in range(steps):
        for i in range(inside if r < whole else 0, end - begin):
            rows[i, r] = dy[row + r, begin + i]


@kernel
def add_transposed_multiply_part(dy, x, dweight, n0, n1, k0, k1):
    """dweight[n0:n1, k0:k1] += dy[:, n0:n1].T @ x[:, k0:k1], TOKEN_STEPS tokens at a time"""
    tokens = len(x)
    most = min(TOKEN_STEPS, tokens)
    at_once = columns_at_once(most, dy.itemsize)
    panels = aligned(at_once * most, dy)
    sums = aligned(STRIP * at_once, dy).reshape(STRIP, at_once)
    most_rows = min(WEIGHT_ROWS, n1 - n0)
    # A line longer than need be: rows a power of two apart would crowd into one set of the cache.
    room = most + LINE_BYTES // dy.itemsize
    rows = aligned(most_rows * room, dy).reshape(most_rows, room)
    start = np.zeros(most_rows, dy.dtype)
    for t in range(0, tokens, TOKEN_STEPS):
        steps = min(TOKEN_STEPS, tokens - t)
        for n in range(n0, n1, WEIGHT_ROWS):
            count = min(WEIGHT_ROWS, n1 - n)
            transpose_part(dy, t, steps, n, n + count, rows)
            for begin in range(k0, k1, at_once):
                width = min(at_once, k1 - begin)
                vectors = pack_columns(x, t, steps, begin, begin + width, panels)
                for i in range(0, count, STRIP):
                    multiply_strip(
                        *(rows, i, 0, count - 1, start, panels, steps, vectors),
                        *(sums, dweight, n + i, begin),
                    )
                    add_rows(sums, min(STRIP, count - i), width, dweight, n + i, begin)


@parallel_kernel
def add_transposed_multiply(dy, x, dweight, parts):
    """dweight += dy.T @ x"""
    outputs, inputs = dweight.shape
    for part in prange(parts):
        # The longer side is shared: each thread packs its share of it, and all of the other.
        n0, n1, k0, k1 = 0, outputs, 0, inputs
        if outputs < inputs:
            k0, k1 = share(inputs, VECTOR_BYTES // x.itemsize, part, parts)
        else:
            n0, n1 = share(outputs, STRIP, part, parts)
        add_transposed_multiply_part(dy, x, dweight, n0, n1, k0, k1)
