"""The linear map, y = x Wᵀ + b."""

from typing import NamedTuple

from albert_np.functions.accumulate import accumulate


class LinearCache(NamedTuple):
    x: object  # (..., N)
    weight: object  # (M, N)
    has_bias: bool


def linear_forward(x, weight, bias=None):
    """Linear map with PyTorch's weight layout.

        y = x Wᵀ + b

    Parameters
    ----------
    x : array, shape (..., N)
    weight : array, shape (M, N)
    bias : array, shape (M,), optional

    Returns
    -------
    y : array, shape (..., M)
    cache : LinearCache
    """
    rows = x.reshape(-1, x.shape[-1])  # one large matrix multiply instead of a batch of small ones
    y = (rows @ weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        y += bias
    return y, LinearCache(x, weight, bias is not None)


def linear_backward(dy, cache, into=None):
    """Backward pass of `linear_forward`.

        dx = dy W          dW = Σ_rows dyᵀ x          db = Σ_rows dy

    The key step: y_m = Σ_n W_mn x_n + b_m, so W_mn meets the loss only through y_m, with factor
    x_n; every row of x uses the same W, so the rows' contributions add up.

    Parameters
    ----------
    dy : array, shape (..., M)
    cache : LinearCache
    into : tuple of array (M, N) and (array (M,) or None), optional
        Slots that dweight and dbias are added to, in place.

    Returns
    -------
    dx : array, shape (..., N)
    dweight : array, shape (M, N)
    dbias : array, shape (M,), or None where there was no bias
    """
    x, weight, has_bias = cache
    dy_rows = dy.reshape(-1, dy.shape[-1])
    x_rows = x.reshape(-1, x.shape[-1])
    dx = (dy_rows @ weight).reshape(x.shape)
    dweight = dy_rows.T @ x_rows
    dbias = dy_rows.sum(axis=0) if has_bias else None
    return dx, *accumulate((dweight, dbias), into)
