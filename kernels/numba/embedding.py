"""The embedding: rows of a table, looked up by number, and their gradients added up.

Both move memory and compute next to nothing: forward reads and writes each row of y once, 8 bytes a
number in float32; backward reads dy, and reads and writes a row of dW, 12 bytes.
"""

import numpy as np
from numba import get_num_threads, prange

from albert_np.functions.embedding import EmbeddingCache
from albert_np.kernels.numba.compiling import parallel_kernel
from albert_np.kernels.numba.rows import as_rows


def embedding_forward(ids, weight, padding_idx=None):
    """Look up rows of a table; see `albert_np.functions.embedding.embedding_forward`.

        y[i] = W[ids[i]]

    Parameters
    ----------
    ids : integer array, shape (...)
        Row numbers in [0, V).
    weight : float32 or float64 array, shape (V, E)
    padding_idx : int, optional
        The row whose lookups give no gradient.

    Returns
    -------
    y : array, shape (..., E)
    cache : EmbeddingCache

    Raises
    ------
    ValueError
        If an id is not a row of the table.
    """
    check_ids(ids, weight)
    y = np.empty((ids.size, weight.shape[1]), weight.dtype)
    gather(ids.ravel(), weight, y)
    return y.reshape(*ids.shape, -1), EmbeddingCache(ids, weight, padding_idx)


def embedding_backward(dy, cache, into=None):
    """Backward pass of `embedding_forward`.

        dW[v] = Σ over i with ids[i] = v of dy[i],   and 0 for v = padding_idx

    Each thread has columns of its own and adds the tokens up in their order, so the bits are the
    same for any number of threads.

    Parameters
    ----------
    dy : array, shape (..., E)
    cache : EmbeddingCache
    into : (array (V, E),), optional
        The slot that dweight is added to, in place.

    Returns
    -------
    dweight : array, shape (V, E)
    """
    ids, weight, padding_idx = cache
    dweight = np.zeros_like(weight) if into is None else into[0]
    skipped = -1 if padding_idx is None else padding_idx
    scatter_add(as_rows(dy), ids.ravel(), skipped, dweight, get_num_threads())
    return dweight


def check_ids(ids, weight):
    """Raise unless every id is a row of the table: a kernel would read beyond it."""
    if ids.size and not 0 <= ids.min() <= ids.max() < len(weight):
        raise ValueError(
            f"ids are from {ids.min()} to {ids.max()}; the table has rows 0 to {len(weight) - 1}"
        )


@parallel_kernel
def gather(ids, weight, y):
    for i in prange(len(ids)):
        y[i] = weight[ids[i]]


@parallel_kernel
def scatter_add(dy, ids, skipped, dweight, parts):
    columns = dy.shape[1]
    for part in prange(parts):
        start, stop = part * columns // parts, (part + 1) * columns // parts
        for i in range(len(ids)):
            if ids[i] != skipped:
                for j in range(start, stop):
                    dweight[ids[i], j] += dy[i, j]
