"""Layer normalization over the last axis (Ba, Kiros, Hinton 2016)."""

from typing import NamedTuple

import numpy as np

from albert_np.functions.accumulate import accumulate


class LayerNormCache(NamedTuple):
    normalized: object  # (..., N)
    inverse_deviation: object  # (..., 1)
    weight: object  # (N,)
    bias: object  # (N,)


def layer_norm_forward(x, weight, bias, eps):
    """Normalize each row to mean 0 and variance 1, then scale and shift it.

        x̂ = (x − mean(x)) / √(var(x) + eps)          y = x̂ ∘ w + b

    The variance divides by N, and is taken of the centred row: mean(x²) − mean(x)² would cancel.

    Parameters
    ----------
    x : array, shape (..., N)
    weight, bias : array, shape (N,)
    eps : float
        Added to the variance, in its units.

    Returns
    -------
    y : array, shape (..., N)
    cache : LayerNormCache
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    inverse_deviation = 1 / np.sqrt(variance + eps)
    normalized = np.multiply(centred, inverse_deviation, out=centred)
    cache = LayerNormCache(normalized, inverse_deviation, weight, bias)
    return layer_norm_output(cache), cache


def layer_norm_output(cache):
    """What `layer_norm_forward` gave, from its cache: bit for bit the same.

        y = x̂ ∘ w + b

    Parameters
    ----------
    cache : LayerNormCache

    Returns
    -------
    y : array, shape (..., N)
    """
    y = cache.normalized * cache.weight
    y += cache.bias
    return y


def layer_norm_backward(dy, cache, into=None):
    """Backward pass of `layer_norm_forward`.

        dw = Σ_rows dy ∘ x̂          db = Σ_rows dy
        g = dy ∘ w                  dx = (g − mean(g) − x̂ mean(g ∘ x̂)) / √(var(x) + eps)

    The key step: x̂ is unmoved by adding a constant to x and (eps aside) by stretching x about its
    mean, so dx is g with its components along ones and along x̂ taken out.

    Parameters
    ----------
    dy : array, shape (..., N)
    cache : LayerNormCache
    into : (array (N,), array (N,)), optional
        Slots that dweight and dbias are added to, in place.

    Returns
    -------
    dx : array, shape (..., N)
    dweight, dbias : array, shape (N,)
    """
    normalized, inverse_deviation, weight, _ = cache
    rows = tuple(range(dy.ndim - 1))
    dweight = (dy * normalized).sum(axis=rows)
    dbias = dy.sum(axis=rows)
    g = dy * weight
    along_ones = g.mean(axis=-1, keepdims=True)
    along_normalized = (g * normalized).mean(axis=-1, keepdims=True)
    dx = (g - along_ones - normalized * along_normalized) * inverse_deviation
    return dx, *accumulate((dweight, dbias), into)
