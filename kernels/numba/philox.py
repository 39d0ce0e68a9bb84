"""Dropout's decisions inside kernels: the mask of `albert_np.functions.dropout`, bit for bit.

Philox multiplies 32-bit words to 64 bits. Kept in 64-bit lanes, a round of one counter is two
multiplications, four exclusive ors and four shifts or masks, which the compiler does for 8 counters
at once with AVX-512; a counter serves four columns.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from albert_np.functions.dropout import KEY_INCREMENTS, LOW_32_BITS, MULTIPLIERS
from albert_np.kernels.numba.compiling import SCALAR

MULTIPLIER_0, MULTIPLIER_1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
INCREMENT_0, INCREMENT_1 = (np.uint64(increment) for increment in KEY_INCREMENTS)
LOW = np.uint64(LOW_32_BITS)
WORD_BITS = np.uint64(32)


class Draw(NamedTuple):
    """A `Dropout` in the numbers that kernels compute with."""

    threshold: np.uint32  # kept where the word is not below it
    scale: object  # 1 / (1 − p), in the arrays' dtype; 0 where all is dropped
    seed_low: np.uint64
    seed_high: np.uint64
    site: np.uint64


def draw_of(dropout, dtype):
    """Turn a `Dropout` into a `Draw`.

    Parameters
    ----------
    dropout : Dropout
    dtype : np.dtype
        Of the arrays that elements are dropped from.

    Returns
    -------
    draw : Draw
    """
    p, seed = dropout.probability, dropout.seed
    return Draw(
        threshold=np.uint32(min(math.floor(p * 2**32), LOW_32_BITS)),
        scale=dtype.type(0 if p == 1 else 1 / (1 - p)),
        seed_low=np.uint64(seed & LOW_32_BITS),
        seed_high=np.uint64(seed >> 32),
        site=np.uint64(dropout.site),
    )


@njit(**SCALAR)
def philox_4x32_10(c0, c1, c2, c3, k0, k1):
    """Philox 4×32 with ten rounds, of uint64 numbers below 2³²; see `functions.dropout`."""
    for _ in range(10):
        product0 = c0 * MULTIPLIER_0
        product1 = c2 * MULTIPLIER_1
        c0 = (product1 >> WORD_BITS) ^ c1 ^ k0
        c1 = product1 & LOW
        c2 = (product0 >> WORD_BITS) ^ c3 ^ k1
        c3 = product0 & LOW
        k0 = (k0 + INCREMENT_0) & LOW
        k1 = (k1 + INCREMENT_1) & LOW
    return c0, c1, c2, c3
