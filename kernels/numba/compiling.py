"""How the kernels are compiled: the one place with Numba's options."""

from numba import njit

OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def kernel(function):
    """Compile a function that runs on the thread that calls it."""
    return njit(**OPTIONS)(function)


def parallel_kernel(function):
    """Compile a function whose `prange` loops are shared among the threads."""
    return njit(parallel=True, **OPTIONS)(function)
