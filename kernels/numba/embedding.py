"""The gradient of the embedding: the gradients of its lookups, added up row by row.

It moves memory and computes next to nothing: of each number dy is read, and dW read and written, 12
bytes in float32. (NumPy's lookup itself is as fast as memory is.)
"""

import numpy as np
from numba import get_num_threads, prange

from albert_np.kernels.numba.compiling import parallel_kernel
from albert_np.kernels.numba.rows import as_rows


def embedding_backward(dy, cache, into=None):
    """Backward pass of `albert_np.functions.embedding.embedding_forward`.

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


@parallel_kernel
def scatter_add(dy, ids, skipped, dweight, parts):
    columns = dy.shape[1]
    for part in prange(parts):
        start, stop = part * columns // parts, (part + 1) * columns // parts
        for i in range(len(ids)):
            if ids[i] != skipped:
                for j in range(start, stop):
                    dweight[ids[i], j] += dy[i, j]
