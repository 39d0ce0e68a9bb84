"""Arrays seen as rows, and the blocks of rows that kernels share among threads.

A block is a fixed number of rows, whatever the number of threads: what is summed over rows is
summed within each block, and then over the blocks in their order, so that its bits are the same in
every run.
"""

import numpy as np

from albert_np.kernels.numba.compiling import kernel

ROWS_PER_BLOCK = 32


def as_rows(x):
    """Return x with one leading axis, contiguous.

    Parameters
    ----------
    x : array, shape (..., N)

    Returns
    -------
    array, shape (rows, N)
        x itself where it can be.
    """
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@kernel
def count_blocks(rows):
    """Return how many blocks that many rows have."""
    return -(-rows // ROWS_PER_BLOCK)
