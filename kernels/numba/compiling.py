"""How kernels are compiled: the options that all of them share."""

from numba import njit

# nogil: other Python threads go on. error_model: division as the hardware has it, since Python's
# check for zero keeps a loop from becoming vector instructions. contract: fused multiply-adds.
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def compiled(function):
    """Compile a function that runs on one thread."""
    return njit(**OPTIONS)(function)


def parallel(function):
    """Compile a function whose `prange` loops run on all threads."""
    return njit(parallel=True, **OPTIONS)(function)
