"""How many threads the computing libraries use: one setting for all of them."""

import operator
import os
from importlib.util import find_spec

from threadpoolctl import threadpool_limits


def cores():
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def set_threads(threads):
    """Let BLAS, and the kernels that this thread runs, use so many threads.

    Without it, they use one for each core.

    Parameters
    ----------
    threads : int
        1 to the number of cores that this process may run on.

    Raises
    ------
    TypeError, ValueError
        If it is no such number.
    """
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads is {threads!r}; expected an integer")
    threads = operator.index(threads)
    if not 1 <= threads <= cores():
        raise ValueError(f"threads is {threads}; expected 1 to {cores()}, the cores there are")
    if find_spec("numba") is not None:
        from albert_np.kernels.numba.compiling import set_num_threads

        set_num_threads(threads)
    threadpool_limits(threads)
