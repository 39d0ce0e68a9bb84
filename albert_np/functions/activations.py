"""Activations, element by element: gelu_new, gelu, relu, silu, and the pooler's tanh.

Each `cache` is what the derivative is a function of: x, or y where y says it more simply. Of those
in `ACTIVATIONS`, `forward(cache)` gives y again, so that nobody need keep y. Arrays have one axis
or more.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from albert_np.functions.choose import choose

CUBIC = 0.044715
TWO_ROOT_2_OVER_PI = 2 * math.sqrt(2 / math.pi)
# gelu_new is x, or 0, to the last bit outside ±FLAT in every dtype: exp(−2u) has underflowed.
FLAT = 40.0


def _sigmoid(x):
    """1 / (1 + exp(−x)); where exp overflows, 1/∞ = 0 is the right answer."""
    y = -x
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def gelu_new_forward(x):
    """The tanh approximation of gelu (Hendrycks, Gimpel 2016), ALBERT's default activation.

        y = ½ x (1 + tanh u) = x σ(2u),   u = √(2/π) (x + 0.044715 x³)

    The two forms are the same function; the second keeps its digits for x far below 0, where
    1 + tanh u cancels.

    Parameters
    ----------
    x : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : array, shape (...)
        x.
    """
    with np.errstate(over="ignore"):  # u, then exp(−2u): both limits are right at infinity
        minus_2u = x * x
        minus_2u *= -TWO_ROOT_2_OVER_PI * CUBIC
        minus_2u -= TWO_ROOT_2_OVER_PI
        minus_2u *= x
        y = np.exp(minus_2u, out=minus_2u)
    y += 1
    return np.divide(x, y, out=y), x


def gelu_new_backward(dy, cache):
    """Backward pass of `gelu_new_forward`.

        s = σ(2u)          dx = dy ∘ s ∘ (1 + x (1 − s) 2u′),   2u′ = 2 √(2/π) (1 + 3·0.044715 x²)

    The key step: σ′ = σ (1 − σ).

    Parameters
    ----------
    dy : array, shape (...)
    cache : array, shape (...)
        x.

    Returns
    -------
    dx : array, shape (...)
    """
    x = np.clip(cache, -FLAT, FLAT)
    dx = x * x
    two_u = CUBIC * dx
    two_u += 1
    two_u *= x
    two_u *= TWO_ROOT_2_OVER_PI
    s = _sigmoid(two_u)
    dx *= 3 * CUBIC * TWO_ROOT_2_OVER_PI
    dx += TWO_ROOT_2_OVER_PI  # 2u′
    dx *= x
    dx *= np.subtract(1, s, out=x)  # x has served
    dx += 1
    dx *= s
    dx *= dy
    return dx


def gelu_forward(x):
    """The Gaussian error linear unit (Hendrycks, Gimpel 2016).

        y = x Φ(x),   Φ the standard normal distribution function

    Parameters
    ----------
    x : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : array, shape (...)
        x.
    """
    return (x * ndtr(x)).astype(x.dtype, copy=False), x


def gelu_backward(dy, cache):
    """Backward pass of `gelu_forward`.

        dx = dy ∘ (Φ(x) + x φ(x)),   φ(x) = exp(−x²/2) / √(2π)

    Parameters
    ----------
    dy : array, shape (...)
    cache : array, shape (...)
        x.

    Returns
    -------
    dx : array, shape (...)
    """
    x = cache
    with np.errstate(over="ignore"):
        density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return (dy * (ndtr(x) + x * density)).astype(dy.dtype, copy=False)


def relu_forward(x):
    """The rectified linear unit.

        y = 0 where x ≤ 0, else x

    Parameters
    ----------
    x : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : array, shape (...)
        y.
    """
    y = choose(x.real <= 0, x.dtype.type(0), x, x.dtype)  # so that not a number stays not a number
    return y, y


def relu_backward(dy, cache):
    """Backward pass of `relu_forward`, with derivative 0 at 0.

        dx = dy where y > 0, else 0

    Parameters
    ----------
    dy : array, shape (...)
    cache : array, shape (...)
        y.

    Returns
    -------
    dx : array, shape (...)
    """
    return dy * (cache > 0)


def silu_forward(x):
    """The sigmoid-weighted linear unit.

        y = x σ(x)

    Parameters
    ----------
    x : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : array, shape (...)
        x.
    """
    return x * _sigmoid(x), x


def silu_backward(dy, cache):
    """Backward pass of `silu_forward`.

        s = σ(x)          dx = dy ∘ s ∘ (1 + x (1 − s))

    Parameters
    ----------
    dy : array, shape (...)
    cache : array, shape (...)
        x.

    Returns
    -------
    dx : array, shape (...)
    """
    x = cache
    s = _sigmoid(x)
    return dy * s * (1 + x * (1 - s))


def tanh_forward(x):
    """The hyperbolic tangent, the pooler's activation.

        y = tanh x

    Parameters
    ----------
    x : array, shape (...)

    Returns
    -------
    y : array, shape (...)
    cache : array, shape (...)
        y.
    """
    y = np.tanh(x)
    return y, y


def tanh_backward(dy, cache):
    """Backward pass of `tanh_forward`.

        dx = dy ∘ (1 − y²)

    Parameters
    ----------
    dy : array, shape (...)
    cache : array, shape (...)
        y.

    Returns
    -------
    dx : array, shape (...)
    """
    y = cache
    return dy * (1 - y) * (1 + y)


class GivenCache(NamedTuple):
    backward: object
    cache: object
    y: object  # kept, since nobody knows what a given function could tell it from


def given_forward(x, pair):
    """An activation that is given as a pair of functions, as those above are.

        y, cache = forward(x)

    Parameters
    ----------
    x : array, shape (...)
    pair : (callable, callable)
        forward(x) returns y, of the shape of x, and a cache; backward(dy, cache) returns dx.

    Returns
    -------
    y : array, shape (...)
    cache : GivenCache
    """
    forward, backward = pair
    y, cache = forward(x)
    return y, GivenCache(backward, cache, y)


def given_backward(dy, cache):
    """Backward pass of `given_forward`.

        dx = backward(dy, cache)

    Parameters
    ----------
    dy : array, shape (...)
    cache : GivenCache

    Returns
    -------
    dx : array, shape (...)
    """
    return cache.backward(dy, cache.cache)


ACTIVATIONS = {
    "gelu_new": (gelu_new_forward, gelu_new_backward),
    "gelu": (gelu_forward, gelu_backward),
    "relu": (relu_forward, relu_backward),
    "silu": (silu_forward, silu_backward),
}
