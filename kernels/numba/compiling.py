"""How the kernels are compiled, and on how many threads they run: the one place with both."""

import logging
import os
from contextlib import contextmanager
from functools import cache

# A thread that waits for work spins for about a millisecond, which covers the gaps between the
# kernels of a model, and then sleeps. To wake it costs as much as a small kernel; while it spins,
# BLAS and other Python threads have to do without its core. Read when the first kernel runs, unless
# the library is loaded already.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numba
from numba import njit
from numba.core import event

if numba.config.DISABLE_JIT:
    raise ImportError("the kernels must be compiled, and NUMBA_DISABLE_JIT is set")

# nogil: other Python threads go on. error_model: division as the hardware has it, since Python's
# check for zero keeps a loop from becoming vector instructions. contract: fused multiply-adds.
# No other freedom of fastmath: reordered sums would undo the rounding in `exponential`, and give
# other bits on other machines.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# How functions that are part of a kernel are compiled: into it, so that its loops become vectors.
# A sum over a row may be taken in any order. Nothing else may: what is computed again in backward
# is to have the bits that it had in forward.
SCALAR = {"error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}
SUMS = SCALAR | {"fastmath": {"contract", "reassoc"}}


def set_num_threads(threads):
    """Let the kernels that this thread runs use so many threads.

    Raises
    ------
    ValueError
        If the environment's NUMBA_NUM_THREADS allows no more.
    """
    limit = numba.config.NUMBA_NUM_THREADS
    if threads > limit:
        raise ValueError(f"threads is {threads}; NUMBA_NUM_THREADS allows {limit}")
    numba.set_num_threads(threads)


def kernel(function):
    """Compile a function that runs on the thread that calls it."""
    return kept(function)


def inlined(function):
    """Compile a function into the kernels that call it."""
    return njit(**SCALAR)(function)


def inlined_sum(function):
    """The same for a sum over a row, in any order.

    Its loop must not write to another array than it reads: whether it then runs as vectors is
    decided by how far apart the arrays lie in memory, and with that the order of the sum.
    """
    return njit(**SUMS)(function)


def parallel_kernel(function):
    """Compile a function whose `prange` loops are shared among the threads."""
    return kept(function, parallel=True)


def kept(function, **options):
    """Compile a function, and keep it on disk if there is a place for it."""
    try:
        return njit(cache=True, **OPTIONS, **options)(function)
    except RuntimeError:  # neither the sources' directory nor the user's cache can be written
        announce_no_place()
        return njit(**OPTIONS, **options)(function)


@cache
def announce_no_place():
    """Say, once, why every process compiles."""
    logging.getLogger("albert_np").warning(
        "compiled kernels cannot be kept: no directory for them is writable; "
        "the environment variable NUMBA_CACHE_DIR names another"
    )


class Compilations(event.Listener):
    """Calls a function with the name of each kernel that is compiled, and not found on disk."""

    def __init__(self, hear):
        self.hear = hear

    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("albert_np.kernels."):
            self.hear(function.__name__)

    def on_end(self, event):
        pass


@contextmanager
def compilations():
    """The names of the kernels that are compiled within, as they come."""
    names = []
    with event.install_listener("numba:compile", Compilations(names.append)):
        yield names


@cache
def announce():
    """Say, once, why a call takes so long."""
    logging.getLogger("albert_np").warning(
        "compiling kernels, which takes a minute or two; `albert-np warm-up` does it ahead"
    )


event.register("numba:compile", Compilations(lambda _: announce()))
