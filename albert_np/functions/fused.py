"""What a fused kernel can take over, in NumPy: compositions of the plain pairs it stands for.

A back end may have a faster pair under any of these names (`attention`, which is one of them, has
a file of its own). These are the definition of what it must compute.
"""

from typing import NamedTuple

from albert_np.functions import calling
from albert_np.functions.activations import gelu_new_backward, gelu_new_forward
from albert_np.functions.bias import add_backward, add_forward, bias_backward, bias_forward
from albert_np.functions.cross_entropy import cross_entropy_backward, cross_entropy_forward
from albert_np.functions.dropout import dropout_backward, dropout_forward
from albert_np.functions.layer_norm import (
    layer_norm_backward,
    layer_norm_forward,
    layer_norm_output,
)
from albert_np.functions.linear import linear_backward, linear_forward


class BiasDropoutResidualLayerNormCache(NamedTuple):
    dropout: object
    layer_norm: object


class LinearCrossEntropyCache(NamedTuple):
    linear: object
    cross_entropy: object


def bias_gelu_new_forward(x, bias, call=calling.call):
    """A bias, then the activation.

        y = gelu_new(x + b)

    Parameters
    ----------
    x : array, shape (..., I)
    bias : array, shape (I,)
    call : callable, optional
        Runs each step; see `albert_np.functions.calling`.

    Returns
    -------
    y : array, shape (..., I)
    cache
        Of gelu_new.
    """
    biased, _ = call("bias", bias_forward, x, bias)
    return call("gelu_new", gelu_new_forward, biased)


def bias_gelu_new_output(cache):
    """What `bias_gelu_new_forward` gave, from its cache: bit for bit the same.

    Parameters
    ----------
    cache

    Returns
    -------
    y : array, shape (..., I)
    """
    y, _ = gelu_new_forward(cache)
    return y


def bias_gelu_new_backward(dy, cache, into=None, call=calling.call):
    """Backward pass of `bias_gelu_new_forward`.

    Parameters
    ----------
    dy : array, shape (..., I)
    cache
    into : (array (I,),), optional
        The slot that dbias is added to, in place.
    call : callable, optional

    Returns
    -------
    dx : array, shape (..., I)
    dbias : array, shape (I,)
    """
    dbiased = call("gelu_new", gelu_new_backward, dy, cache)
    return call("bias", bias_backward, dbiased, None, into=into)


def bias_dropout_residual_layer_norm_forward(
    x, bias, residual, weight, shift, eps, dropout=None, keep=True, call=calling.call
):
    """The end of both halves of a layer.

        y = layer_norm(residual + dropout(x + b); w, shift)

    Parameters
    ----------
    x, residual : array, shape (..., H)
    bias, weight, shift : array, shape (H,)
        Of the linear map before; and of the layer norm.
    eps : float
    dropout : Dropout, optional
    keep : bool, optional
        Whether a backward pass will follow; a kernel need write nothing for it where none will.
    call : callable, optional

    Returns
    -------
    y : array, shape (..., H)
    cache : BiasDropoutResidualLayerNormCache, or None without `keep`
    """
    biased, _ = call("bias", bias_forward, x, bias)
    dropout_cache = None
    if dropout is not None:
        biased, dropout_cache = call("dropout", dropout_forward, biased, dropout)
    total, _ = call("add", add_forward, residual, biased)
    y, norm_cache = call("layer_norm", layer_norm_forward, total, weight, shift, eps)
    if not keep:
        return y, None
    return y, BiasDropoutResidualLayerNormCache(dropout_cache, norm_cache)


def bias_dropout_residual_layer_norm_output(cache):
    """What `bias_dropout_residual_layer_norm_forward` gave, from its cache: bit for bit the same.

    Parameters
    ----------
    cache : BiasDropoutResidualLayerNormCache

    Returns
    -------
    y : array, shape (..., H)
    """
    return layer_norm_output(cache.layer_norm)


def bias_dropout_residual_layer_norm_backward(dy, cache, into=None, call=calling.call):
    """Backward pass of `bias_dropout_residual_layer_norm_forward`.

    Parameters
    ----------
    dy : array, shape (..., H)
    cache : BiasDropoutResidualLayerNormCache
    into : three of array (H,), optional
        Slots that dbias, dweight and dshift are added to, in place.
    call : callable, optional

    Returns
    -------
    dx : array, shape (..., H)
    dbias : array, shape (H,)
    dresidual : array, shape (..., H)
    dweight, dshift : array, shape (H,)
    """
    bias_slot, norm_slots = (None, None) if into is None else (into[:1], into[1:])
    dtotal, dweight, dshift = call(
        "layer_norm", layer_norm_backward, dy, cache.layer_norm, into=norm_slots
    )
    dresidual, dbiased = call("add", add_backward, dtotal, None)
    if cache.dropout is not None:
        dbiased = call("dropout", dropout_backward, dbiased, cache.dropout)
    dx, dbias = call("bias", bias_backward, dbiased, None, into=bias_slot)
    return dx, dbias, dresidual, dweight, dshift


def linear_cross_entropy_forward(x, weight, bias, labels, call=calling.call):
    """The decoder and its loss, where nobody asks for the logits.

        loss = cross_entropy(x Wᵀ + b, labels)

    Parameters
    ----------
    x : array, shape (T, E)
        At labelled positions only, or at all.
    weight : array, shape (V, E)
    bias : array, shape (V,)
    labels : integer array, shape (T,)
    call : callable, optional

    Returns
    -------
    loss : array, shape ()
    cache : LinearCrossEntropyCache
    """
    logits, linear_cache = call("linear", linear_forward, x, weight, bias)
    loss, loss_cache = call("cross_entropy", cross_entropy_forward, logits, labels)
    return loss, LinearCrossEntropyCache(linear_cache, loss_cache)


def linear_cross_entropy_backward(dloss, cache, into=None, call=calling.call):
    """Backward pass of `linear_cross_entropy_forward`.

    Parameters
    ----------
    dloss : array, shape ()
    cache : LinearCrossEntropyCache
    into : (array (V, E), array (V,)), optional
        Slots that dweight and dbias are added to, in place.
    call : callable, optional

    Returns
    -------
    dx : array, shape (T, E)
    dweight : array, shape (V, E)
    dbias : array, shape (V,)
    """
    dlogits = call("cross_entropy", cross_entropy_backward, dloss, cache.cross_entropy)
    return call("linear", linear_backward, dlogits, cache.linear, into=into)
