"""The gradient of the embedding: the gradients of its lookups, added up row by row.

It moves memory and computes next to nothing: of each number dy is read, and dW read and written, 12
bytes in float32. (NumPy's lookup itself is as fast as memory is.)
"""

from numba import get_num_threads, prange

from albert_np.functions.embedding import gradient_slot
from albert_np.kernels.numba.compiling import parallel_kernel
from albert_np.kernels.numba.rows import as_rows


def embedding_backward(dy, cache, into=None):
    """`albert_np.functions.embedding.embedding_backward`, with its arguments and its result.

    Each thread has columns of its own and adds the tokens up in their order, so the bits are the
    same for any number of threads.
    """
    dweight = gradient_slot(cache, into)
    scatter_add(as_rows(dy), cache.ids.ravel(), cache.skipped, dweight, get_num_threads())
    return dweight


@parallel_kernel
def scatter_add(dy, ids, skipped, dweight, parts):
    columns = dy.shape[1]
    for part in prange(parts):
        start, stop = part * columns // parts, (part + 1) * columns // parts
        for i in range(len(ids)):
            if ids[i] != skipped:
                slot, row = dweight[ids[i], start:stop], dy[i, start:stop]
                for j in range(slot.size):
                    slot[j] += row[j]
