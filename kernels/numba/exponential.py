"""exp inside kernels: no branch and no call, so that a loop over it becomes vector instructions.

`np.exp` in a compiled loop is a call for each number. Here exp(x) is

    n = round(x / ln 2),   r = x − n ln 2,   |r| ≤ ½ ln 2,   exp(x) = 2ⁿ exp(r)

- n: the sum with 1.5 · 2^(mantissa bits) has no bits left for a fraction, so it is rounded to a
  whole number, which then stands in its lowest bits.
- r: ln 2 is cut in two. The high part has so few digits that n times it is exact.
- exp(r): the Taylor series, up to where the next term is below 2⁻²⁷ (float32) or 2⁻⁵⁷ (float64).
- 2ⁿ: made of its exponent bits, as a product of two factors, since 2ⁿ alone would be out of range
  where the result is below the smallest normal number, or next to the largest.

Before that, x is clipped: below to where both factors are 0, which costs less than to round a
product of small numbers to 0, and above to where the result is ∞. What is not a number passes
through. The error is below 1 unit in the last place, down to the smallest number there is.

It is about 25 vector instructions in float32 and 30 in float64: computing is the limit, not memory.
Contraction into fused multiply-adds is allowed, but no reordering: it would undo the rounding of n.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from albert_np.kernels.numba.compiling import SCALAR
from albert_np.kernels.numba.compiling import SUMS as SUMS


def compile_exponential(dtype, integer, ln_2_high, ln_2_low, degree):
    """Compile exp of one dtype, by the numbers that belong to it.

    Parameters
    ----------
    dtype, integer : type
        The floating type, and the integer type of its size.
    ln_2_high, ln_2_low : float
        Their sum is ln 2; n times the first is exact.
    degree : int
        Of the last term of the Taylor series.

    Returns
    -------
    callable
        The compiled function of one number.
    """
    info = np.finfo(dtype)
    lowest = dtype(-2 * (info.maxexp - 1) * math.log(2))
    highest = dtype((info.maxexp + 1) * math.log(2))
    per_ln_2, ln_2_high, ln_2_low = dtype(1 / math.log(2)), dtype(ln_2_high), dtype(ln_2_low)
    rounder = dtype(1.5 * 2.0**info.nmant)
    rounder_bits, mantissa_bits = rounder.view(integer), integer(info.nmant)
    exponent_of_1, one = integer(info.maxexp - 1), integer(1)
    first, *others = (dtype(1 / math.factorial(k)) for k in range(degree, -1, -1))
    others = tuple(others)

    @njit(**SCALAR)
    def exponential_of_dtype(x):
        x = lowest if x < lowest else x
        x = highest if x > highest else x
        rounded = x * per_ln_2 + rounder
        n = rounded - rounder
        r = (x - n * ln_2_high) - n * ln_2_low
        series = first
        for coefficient in others:
            series = series * r + coefficient
        exponent = integer(dtype(rounded).view(integer) - rounder_bits)
        half = integer(exponent >> one)
        low = integer(integer(half + exponent_of_1) << mantissa_bits).view(dtype)
        high = integer(integer(exponent - half + exponent_of_1) << mantissa_bits).view(dtype)
        return series * low * high

    # The next number above ln of the smallest normal one, which itself may be rounded down.
    smallest = np.nextafter(dtype(math.log(float(info.tiny))), dtype(0))

    @njit(**SCALAR)
    def exponential_flushed_of_dtype(x):
        rounded = x * per_ln_2 + rounder
        n = rounded - rounder
        r = (x - n * ln_2_high) - n * ln_2_low
        series = first
        for coefficient in others:
            series = series * r + coefficient
        shift = integer(dtype(rounded).view(integer) << mantissa_bits)
        y = integer(dtype(series).view(integer) + shift).view(dtype)
        return dtype(0) if x < smallest else y

    return exponential_of_dtype, exponential_flushed_of_dtype


# 45426 has 15 bits, and n has 8; 2977044471 has 32, and n has 11.
exponential_32, exponential_flushed_32 = compile_exponential(
    np.float32, np.int32, 45426 / 2**16, math.log(2) - 45426 / 2**16, degree=7
)
exponential_64, exponential_flushed_64 = compile_exponential(
    np.float64, np.int64, 2977044471 / 2**32, 1.9082149292705877e-10, degree=13
)


def exponential(x):
    """exp(x), for compiled functions.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    y : of x's type
        Within 1 unit in the last place.
    """
    raise NotImplementedError("exponential is for compiled functions")


@overload(exponential, jit_options=SCALAR)
def _exponential(x):
    if x == types.float32:
        return lambda x: exponential_32(x)
    if x == types.float64:
        return lambda x: exponential_64(x)


def exponential_flushed(x):
    """exp(x) for x ≤ 0, for compiled functions: for softmax, in half the instructions.

    2ⁿ is added to the exponent bits of exp(r). So numbers below the smallest normal one are 0, and
    x may be above 0, but not so far that the result is out of range.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    y : of x's type
        Within 1 unit in the last place, or 0.
    """
    raise NotImplementedError("exponential_flushed is for compiled functions")


@overload(exponential_flushed, jit_options=SCALAR)
def _exponential_flushed(x):
    if x == types.float32:
        return lambda x: exponential_flushed_32(x)
    if x == types.float64:
        return lambda x: exponential_flushed_64(x)
