"""The activation, and the feed-forward network around it, whole or in chunks. Composition only."""

from typing import NamedTuple

from albert_np.functions.activations import ACTIVATIONS, given_backward, given_forward
from albert_np.functions.bias import bias_backward, bias_forward
from albert_np.functions.chunks import join_backward, join_forward, split_backward, split_forward


class FeedForwardCache(NamedTuple):
    ffn: object
    activation: object
    ffn_output: object


class ChunkedFeedForwardCache(NamedTuple):
    chunks: list
    join: object


def activation_forward(x, bias, run):
    """The bias of the linear map before, then the configuration's activation.

    Parameters
    ----------
    x : array, shape (..., N)
    bias : array, shape (N,)
    run : Run

    Returns
    -------
    y : array, shape (..., N)
    cache
    """
    if run.config.hidden_act == "gelu_new":
        return run.call("activation", run.backend.bias_gelu_new_forward, x, bias)
    hidden_act = run.config.hidden_act
    run = run.within("activation")
    biased, _ = run.call("bias", bias_forward, x, bias)
    if not isinstance(hidden_act, str):
        return run.call("given", given_forward, biased, hidden_act)
    forward, _ = ACTIVATIONS[hidden_act]
    return run.call(hidden_act, forward, biased)


def activation_backward(dy, cache, into, run):
    """Backward pass of `activation_forward`.

    Parameters
    ----------
    dy : array, shape (..., N)
    cache
    into : (array (N,),)
        The slot that dbias is added to, in place.
    run : Run

    Returns
    -------
    dx : array, shape (..., N)
    """
    if run.config.hidden_act == "gelu_new":
        backward = run.backend.bias_gelu_new_backward
        dx, _ = run.call("activation", backward, dy, cache, into=into)
        return dx
    hidden_act = run.config.hidden_act
    run = run.within("activation")
    if not isinstance(hidden_act, str):
        dbiased = run.call("given", given_backward, dy, cache)
    else:
        _, backward = ACTIVATIONS[hidden_act]
        dbiased = run.call(hidden_act, backward, dy, cache)
    dx, _ = run.call("bias", bias_backward, dbiased, None, into=into)
    return dx


def activation_output(cache, run):
    """What `activation_forward` gave, from its cache: bit for bit the same.

    Parameters
    ----------
    cache
    run : Run

    Returns
    -------
    y : array, shape (..., N)
    """
    hidden_act = run.config.hidden_act
    if hidden_act == "gelu_new":
        return run.backend.bias_gelu_new_output(cache)
    if not isinstance(hidden_act, str):
        return cache.y
    forward, _ = ACTIVATIONS[hidden_act]
    y, _ = forward(cache)
    return y


def feed_forward_forward(x, parameters, run):
    """The feed-forward network, but for its last bias.

        y = act(x W₁ᵀ + b₁) W₂ᵀ

    Of what stands between, only the input of the activation is kept.

    Parameters
    ----------
    x : array, shape (B, S, H)
    parameters : dict
        Of the layer.
    run : Run

    Returns
    -------
    y : array, shape (B, S, H)
    cache : FeedForwardCache
    """
    p, ops, call = parameters, run.backend, run.call
    inner, ffn_cache = call("ffn", ops.linear_forward, x, p["ffn.weight"])
    activated, activation_cache = activation_forward(inner, p["ffn.bias"], run)
    y, ffn_output_cache = call("ffn_output", ops.linear_forward, activated, p["ffn_output.weight"])
    return y, FeedForwardCache(
        ffn_cache._replace(x=None), activation_cache, ffn_output_cache._replace(x=None)
    )


def feed_forward_backward(dy, x, cache, slots, run):
    """Backward pass of `feed_forward_forward`.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    x : array, shape (B, S, H)
        What forward was given.
    cache : FeedForwardCache
    slots : dict
        Gradients of the layer's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H)
    """
    ops, call = run.backend, run.call
    ffn_output_cache = cache.ffn_output._replace(x=activation_output(cache.activation, run))
    into = (slots["ffn_output.weight"], None)
    dactivated, *_ = call("ffn_output", ops.linear_backward, dy, ffn_output_cache, into=into)
    del ffn_output_cache  # the largest array of the layer
    dinner = activation_backward(dactivated, cache.activation, (slots["ffn.bias"],), run)
    del dactivated  # as large
    into = (slots["ffn.weight"], None)
    dx, *_ = call("ffn", ops.linear_backward, dinner, cache.ffn._replace(x=x), into=into)
    return dx


def chunked_feed_forward_forward(x, parameters, run):
    """The feed-forward network, run on one chunk of the sequences after the other.

    Tokens do not meet in it, so y is the same; but its inner activations, I wide, are then of one
    chunk at a time where they are not kept.

    Parameters
    ----------
    x : array, shape (B, S, H)
        S is a multiple of chunk_size_feed_forward; of a packed batch, T need not be.
    parameters : dict
        Of the layer.
    run : Run

    Returns
    -------
    y : array, shape (B, S, H)
    cache : ChunkedFeedForwardCache
    """
    chunks, _ = run.call("split", split_forward, x, run.config.chunk_size_feed_forward)
    outputs, caches = [], []
    for i, chunk in enumerate(chunks):
        output, cache = feed_forward_forward(chunk, parameters, run.within(f"chunks.{i}"))
        outputs.append(output)
        caches.append(cache if run.keep else None)
        del cache  # or it would live on through the next chunk
    y, join_cache = run.call("join", join_forward, outputs)
    return y, ChunkedFeedForwardCache(caches, join_cache)


def chunked_feed_forward_backward(dy, x, cache, slots, run):
    """Backward pass of `chunked_feed_forward_forward`: each chunk adds to the same slots.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    x : array, shape (B, S, H)
        What forward was given.
    cache : ChunkedFeedForwardCache
    slots : dict
        Gradients of the layer's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H)
    """
    doutputs = run.call("join", join_backward, dy, cache.join)
    chunks, _ = split_forward(x, run.config.chunk_size_feed_forward)
    dchunks = [
        feed_forward_backward(doutput, chunk, chunk_cache, slots, run.within(f"chunks.{i}"))
        for i, (doutput, chunk, chunk_cache) in enumerate(
            zip(doutputs, chunks, cache.chunks, strict=True)
        )
    ]
    return run.call("split", split_backward, dchunks, None)
