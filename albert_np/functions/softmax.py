"""Softmax over the last axis."""

import numpy as np


def softmax_forward(x):
    """Exponentials of a row, divided by their sum.

        y_i = exp(x_i − m) / Σ_j exp(x_j − m),   m = max_j x_j

    m cancels; it is there so that no exponential overflows.

    Parameters
    ----------
    x : array, shape (..., N)

    Returns
    -------
    y : array, shape (..., N)
    cache : array, shape (..., N)
        y.
    """
    with np.errstate(over="ignore"):  # where x − m overflows, exp(−∞) = 0 is the right answer
        y = x - x.real.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y, y


def softmax_backward(dy, cache):
    """Backward pass of `softmax_forward`.

        dx = y ∘ (dy − Σ_j dy_j y_j)

    The key step: ∂y_i/∂x_j = y_i (δ_ij − y_j).

    Parameters
    ----------
    dy : array, shape (..., N)
    cache : array, shape (..., N)
        y.

    Returns
    -------
    dx : array, shape (..., N)
    """
    y = cache
    dx = dy * y
    return dx - y * dx.sum(axis=-1, keepdims=True)
