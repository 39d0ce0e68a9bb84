"""The roofs of a GPU: the rate of the library's matrix products, and that of a copy."""

import numpy as np

COPIED = 2**30  # bytes read and written by a copy, many times the cache
SIDE = {4: 4096}  # of the matrices, by the size of their numbers
LARGE_SIDE = 8192


def turns(machine, dtype):
    """Both roofs, ready to be timed.

    Parameters
    ----------
    machine : Machine
    dtype : str

    Returns
    -------
    turns : dict of str to callable
        For `take_turns`.
    needed : dict of str to dict
        What the results say that one of them did: `operations`, or `bytes`.
    """
    xp, clock = machine.xp, machine.clock
    side = SIDE.get(np.dtype(dtype).itemsize, LARGE_SIDE)
    generator = np.random.default_rng(0)
    a, b = (
        machine.executor.uploaded(generator.standard_normal((side, side), np.float32)).astype(dtype)
        for _ in range(2)
    )
    source = machine.executor.zeros((COPIED // 2,), np.dtype(np.uint8))
    target = xp.zeros_like(source)
    asks = {
        "matmul": clock.turn_of([lambda: xp.matmul(a, b)]),
        "copy": clock.turn_of([lambda: xp.copyto(target, source)]),
    }
    return asks, {"matmul": {"operations": 2 * side**3}, "copy": {"bytes": COPIED}}
