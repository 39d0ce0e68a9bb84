"""What the tests of the Numba kernels share: wide references, and one run for each thread count."""

import numba
import numpy as np
from hypothesis import strategies as st

# Less than a vector, more than one, and more rows than a block of them.
ROWS = st.sampled_from([(), (1,), (3,), (2, 5), (33,), (2, 40)])
COLUMNS = st.sampled_from([1, 2, 7, 16, 37, 130])


def wide(*arrays):
    """The same numbers in the widest dtype, in which the reference gives what is expected."""
    return tuple(np.asarray(array).astype(np.longdouble) for array in arrays)


def assert_same_bits_on_any_threads(compute):
    """`compute()`, a tuple of arrays, is the same bit for bit on one thread and on all."""
    together = compute()
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = compute()
    finally:
        numba.set_num_threads(threads)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
