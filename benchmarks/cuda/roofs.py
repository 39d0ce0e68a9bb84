"""The roofs of a GPU: the rate of the library's matrix products, and that of a copy."""

from functools import partial

import numpy as np

from benchmarks.cuda.cases import TF32

COPIED = 2**30  # bytes read and written by a copy, many times the cache
SIDE = {4: 4096}  # of the matrices, by the size of their numbers
LARGE_SIDE = 8192


def turns(machine, precision):
    """Both roofs, ready to be timed.

    Parameters
    ----------
    machine : Machine
    precision : str
        A dtype, or "tf32".

    Returns
    -------
    turns : dict of str to callable
        For `take_turns`.
    needed : dict of str to dict
        What the results say that one of them did: `operations`, or `bytes`.
    """
    xp, clock = machine.xp, machine.clock
    dtype = "float32" if precision == TF32 else precision
    side = SIDE.get(np.dtype(dtype).itemsize, LARGE_SIDE)
    generator = np.random.default_rng(0)
    a, b = (
        machine.executor.uploaded(generator.standard_normal((side, side), np.float32)).astype(dtype)
        for _ in range(2)
    )
    source = machine.executor.zeros((COPIED // 2,), np.dtype(np.uint8))
    target = xp.zeros_like(source)
    product = partial(xp.matmul, a, b)
    if precision == TF32:
        product = partial(machine.tf32_executor.multiply, a, b, xp.zeros_like(a))
    asks = {
        "matmul": clock.turn_of([product]),
        "copy": clock.turn_of([lambda: xp.copyto(target, source)]),
    }
    return asks, {"matmul": {"operations": 2 * side**3}, "copy": {"bytes": COPIED}}
