"""Plain pairs that only mistakes are made of: what no right ALBERT computes."""

from typing import NamedTuple

import numpy as np


class RearrangeCache(NamedTuple):
    x: object  # only its shape and dtype are needed
    places: object  # of y's entries in x, flat


class LayerNormByDeviationCache(NamedTuple):
    centred: object  # (..., N)
    deviation: object  # (..., 1)
    eps: float
    weight: object  # (N,)


def scale_forward(x, factor):
    """Multiply by a constant.

        y = f x

    Parameters
    ----------
    x : array, shape (...)
    factor : float, or (array,)
        The array broadcasts against x; it is in a tuple since no gradient is asked of it.

    Returns
    -------
    y : array, shape (...)
    cache : float or array
        f.
    """
    f = factor[0].astype(x.dtype) if isinstance(factor, tuple) else factor
    return x * f, f


def scale_backward(dy, cache):
    """Backward pass of `scale_forward`.

        dx = f dy

    Parameters
    ----------
    dy : array, shape (...)
    cache : float or array
        f.

    Returns
    -------
    dx : array, shape (...)
    """
    return dy * cache


def shift_forward(x, constant):
    """Add a constant.

        y = x + c

    Parameters
    ----------
    x : array, shape (...)
    constant : (array,)
        That broadcasts against x; in a tuple, as for `scale_forward`.

    Returns
    -------
    y : array, shape (...)
    cache : None
    """
    return x + constant[0].astype(x.dtype), None


def shift_backward(dy, cache):
    """Backward pass of `shift_forward`.

        dx = dy

    Parameters
    ----------
    dy : array, shape (...)
    cache : None

    Returns
    -------
    dx : array, shape (...)
    """
    return dy


def rearrange_forward(x, how):
    """Move entries: any function of an array that transposes, reshapes, slices or repeats.

        y = how(x)

    Parameters
    ----------
    x : array, shape (...)
    how : callable
        Takes an array of the shape of x, of any dtype; must compute nothing.

    Returns
    -------
    y : array
    cache : RearrangeCache
    """
    places = how(np.arange(x.size).reshape(x.shape))
    return x.reshape(-1)[places], RearrangeCache(x, places)


def rearrange_backward(dy, cache):
    """Backward pass of `rearrange_forward`: each gradient goes back to where its value came from.

        dx_j = Σ over the entries i of y that came from j of dy_i

    Parameters
    ----------
    dy : array
    cache : RearrangeCache

    Returns
    -------
    dx : array, shape (...)
    """
    x, places = cache
    dx = np.zeros_like(x, shape=x.size)
    np.add.at(dx, places, dy)
    return dx.reshape(x.shape)


def layer_norm_by_deviation_forward(x, weight, bias, eps):
    """Layer norm whose eps is added to the deviation, not to the variance.

        y = w ∘ (x − mean(x)) / (√var(x) + eps) + b

    Parameters
    ----------
    x : array, shape (..., N)
    weight, bias : array, shape (N,)
    eps : float

    Returns
    -------
    y : array, shape (..., N)
    cache : LayerNormByDeviationCache
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True))
    y = weight * (centred / (deviation + eps)) + bias
    return y, LayerNormByDeviationCache(centred, deviation, eps, weight)


def layer_norm_by_deviation_backward(dy, cache):
    """Backward pass of `layer_norm_by_deviation_forward`.

        g = dy ∘ w          c = x − mean(x)          s = √var(x)
        dc = g / (s + eps) − c mean(g ∘ c) / (s (s + eps)²)          dx = dc − mean(dc)

    The key step: ∂s/∂c_i = c_i / (N s).

    Parameters
    ----------
    dy : array, shape (..., N)
    cache : LayerNormByDeviationCache

    Returns
    -------
    dx : array, shape (..., N)
    dweight, dbias : array, shape (N,)
    """
    centred, deviation, eps, weight = cache
    divisor = deviation + eps
    rows = tuple(range(dy.ndim - 1))
    g = dy * weight
    along = (g * centred).mean(axis=-1, keepdims=True)
    dcentred = g / divisor - centred * along / (deviation * divisor * divisor)
    dx = dcentred - dcentred.mean(axis=-1, keepdims=True)
    return dx, (dy * centred / divisor).sum(axis=rows), dy.sum(axis=rows)
