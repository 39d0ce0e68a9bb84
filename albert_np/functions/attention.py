"""Multi-head self-attention (Vaswani et al. 2017), and the plain pairs it is composed of."""

import math
from typing import NamedTuple

import numpy as np

from albert_np.functions import calling
from albert_np.functions.choose import choose
from albert_np.functions.dropout import dropout_backward, dropout_forward
from albert_np.functions.softmax import softmax_backward, softmax_forward


class Heads(NamedTuple):
    """Query, key and value, each of shape (B, A, S, D); or the gradients of the three."""

    query: object
    key: object
    value: object


class ScoresCache(NamedTuple):
    query: object  # (B, A, S, D)
    key: object  # (B, A, S, D)


class ContextCache(NamedTuple):
    probabilities: object  # (B, A, S, S), as they met the values
    value: object  # (B, A, S, D)


class MaskHeadsCache(NamedTuple):
    probabilities: object  # (B, A, S, S)
    head_mask: object  # (A,)


class AttendCache(NamedTuple):
    masked: bool
    softmax: object
    dropout: object
    mask_heads: object
    context: ContextCache
    num_attention_heads: int


class AttentionCache(NamedTuple):
    scores: ScoresCache
    attend: AttendCache

    @property
    def probabilities(self):
        """The probabilities as they met the values, (B, A, S, S)."""
        return self.attend.context.probabilities


def split_heads_forward(query_key_value, num_attention_heads):
    """Cut the three projections apart, and each into heads. Nothing is computed or copied.

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3H)
        Query, key and value end to end; within each, head after head.
    num_attention_heads : int
        A.

    Returns
    -------
    heads : Heads
        Three views of shape (B, A, S, D), D = H / A.
    cache : None
    """
    B, S, _ = query_key_value.shape
    heads = query_key_value.reshape(B, S, 3, num_attention_heads, -1)
    return Heads(*heads.transpose(2, 0, 3, 1, 4)), None


def split_heads_backward(dheads, cache):
    """Backward pass of `split_heads_forward`: put the gradients back where the values came from.

    Parameters
    ----------
    dheads : Heads
        Gradients of shape (B, A, S, D).
    cache : None

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3H)
    """
    B, A, S, D = dheads.query.shape
    rows = [dhead.transpose(0, 2, 1, 3) for dhead in dheads]  # (B, S, A, D)
    return np.stack(rows, axis=2).reshape(B, S, 3 * A * D)


def merge_heads_forward(x):
    """Lay the heads' outputs end to end.

    Parameters
    ----------
    x : array, shape (B, A, S, D)

    Returns
    -------
    y : array, shape (B, S, H)
    cache : int
        A.
    """
    B, A, S, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, S, A * D), A


def merge_heads_backward(dy, cache):
    """Backward pass of `merge_heads_forward`.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    cache : int
        A.

    Returns
    -------
    dx : array, shape (B, A, S, D)
    """
    B, S, _ = dy.shape
    return dy.reshape(B, S, cache, -1).transpose(0, 2, 1, 3)


def attention_scores_forward(query, key):
    """How well each query meets each key.

        s_ij = Σ_d q_id k_jd / √D

    Parameters
    ----------
    query, key : array, shape (B, A, S, D)

    Returns
    -------
    scores : array, shape (B, A, S, S)
    cache : ScoresCache
    """
    scale = 1 / math.sqrt(query.shape[-1])
    return (query * scale) @ key.swapaxes(-1, -2), ScoresCache(query, key)


def attention_scores_backward(dscores, cache):
    """Backward pass of `attention_scores_forward`.

        dq = ds k / √D          dk = dsᵀ q / √D

    Parameters
    ----------
    dscores : array, shape (B, A, S, S)
    cache : ScoresCache

    Returns
    -------
    dquery, dkey : array, shape (B, A, S, D)
    """
    query, key = cache
    scale = 1 / math.sqrt(query.shape[-1])
    return (dscores @ key) * scale, (dscores.swapaxes(-1, -2) @ query) * scale


def mask_scores_forward(scores, attention_mask):
    """Push the scores of masked keys so low that softmax gives them nothing.

        y_ij = s_ij + (0 if key j is attended to, else the lowest finite number)

    The lowest number swallows any score that it is added to (below 10³¹ in float32; float16, where
    it would swallow those below 16 only, is too narrow). So in a row whose keys are all masked,
    all scores become equal, and attention the mean of all values.

    Parameters
    ----------
    scores : array, shape (B, A, S, S)
    attention_mask : bool array, shape (B, S), (B, 1, S, S) or (B, A, S, S)
        True where a key is attended to: by all queries, by each, or by each of each head.

    Returns
    -------
    y : array, shape (B, A, S, S)
    cache : None
    """
    lowest = np.finfo(scores.dtype).min
    penalty = choose(attention_mask, 0, lowest, scores.dtype)
    if penalty.ndim == 2:
        penalty = penalty[:, None, None, :]
    return scores + penalty, None


def mask_scores_backward(dy, cache):
    """Backward pass of `mask_scores_forward`: a constant was added.

        ds = dy

    Parameters
    ----------
    dy : array, shape (B, A, S, S)
    cache : None

    Returns
    -------
    dscores : array, shape (B, A, S, S)
    """
    return dy


def mask_heads_forward(probabilities, head_mask):
    """Weaken heads, or silence them.

        y_a = m_a p_a,   in head a

    Parameters
    ----------
    probabilities : array, shape (B, A, S, S)
    head_mask : array, shape (A,)
        1 leaves a head as it is; 0 silences it.

    Returns
    -------
    y : array, shape (B, A, S, S)
    cache : MaskHeadsCache
    """
    return probabilities * head_mask[:, None, None], MaskHeadsCache(probabilities, head_mask)


def mask_heads_backward(dy, cache):
    """Backward pass of `mask_heads_forward`.

        dp_a = m_a dy_a          dm_a = Σ_bij dy_baij p_baij

    Parameters
    ----------
    dy : array, shape (B, A, S, S)
    cache : MaskHeadsCache

    Returns
    -------
    dprobabilities : array, shape (B, A, S, S)
    dhead_mask : array, shape (A,)
    """
    probabilities, head_mask = cache
    return dy * head_mask[:, None, None], np.einsum("baij,baij->a", dy, probabilities)


def attention_context_forward(probabilities, value):
    """The mean of the values, each weighted by its key's probability.

        c_id = Σ_j p_ij v_jd

    Parameters
    ----------
    probabilities : array, shape (B, A, S, S)
    value : array, shape (B, A, S, D)

    Returns
    -------
    context : array, shape (B, A, S, D)
    cache : ContextCache
    """
    return probabilities @ value, ContextCache(probabilities, value)


def attention_context_backward(dcontext, cache):
    """Backward pass of `attention_context_forward`.

        dp = dc vᵀ          dv = pᵀ dc

    Parameters
    ----------
    dcontext : array, shape (B, A, S, D)
    cache : ContextCache

    Returns
    -------
    dprobabilities : array, shape (B, A, S, S)
    dvalue : array, shape (B, A, S, D)
    """
    probabilities, value = cache
    return dcontext @ value.swapaxes(-1, -2), probabilities.swapaxes(-1, -2) @ dcontext


def attend_forward(
    scores, value, attention_mask=None, dropout=None, head_mask=None, call=calling.call
):
    """From scores to context: mask, softmax, dropout, head mask, weighted mean, heads merged.

        c = (dropout(softmax(s + mask)) ∘ head mask) v,   in each head

    Parameters
    ----------
    scores : array, shape (B, A, S, S)
    value : array, shape (B, A, S, D)
    attention_mask, dropout, head_mask, call
        See `attention_forward`.

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache : AttendCache
    """
    if attention_mask is not None:
        scores, _ = call("mask", mask_scores_forward, scores, attention_mask)
    probabilities, softmax_cache = call("softmax", softmax_forward, scores)
    dropout_cache = mask_heads_cache = None
    if dropout is not None:
        probabilities, dropout_cache = call("dropout", dropout_forward, probabilities, dropout)
    if head_mask is not None:
        probabilities, mask_heads_cache = call(
            "mask_heads", mask_heads_forward, probabilities, head_mask
        )
    context, context_cache = call("context", attention_context_forward, probabilities, value)
    merged, merge_cache = call("merge_heads", merge_heads_forward, context)
    return merged, AttendCache(
        masked=attention_mask is not None,
        softmax=softmax_cache,
        dropout=dropout_cache,
        mask_heads=mask_heads_cache,
        context=context_cache,
        num_attention_heads=merge_cache,
    )


def attend_backward(dcontext, cache, dprobabilities=None, call=calling.call):
    """Backward pass of `attend_forward`, bottom to top.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D)
    cache : AttendCache
    dprobabilities : array, shape (B, A, S, S), optional
        A gradient that the probabilities, as they met the values, have from elsewhere.
    call : callable, optional

    Returns
    -------
    dscores : array, shape (B, A, S, S)
    dvalue : array, shape (B, A, S, D)
    """
    dmerged = call("merge_heads", merge_heads_backward, dcontext, cache.num_attention_heads)
    dweights, dvalue = call("context", attention_context_backward, dmerged, cache.context)
    if dprobabilities is not None:
        dweights = dweights + dprobabilities
    if cache.mask_heads is not None:
        dweights, _ = call("mask_heads", mask_heads_backward, dweights, cache.mask_heads)
    if cache.dropout is not None:
        dweights = call("dropout", dropout_backward, dweights, cache.dropout)
    dscores = call("softmax", softmax_backward, dweights, cache.softmax)
    if cache.masked:
        dscores = call("mask", mask_scores_backward, dscores, None)
    return dscores, dvalue


def attention_forward(
    query_key_value,
    num_attention_heads,
    attention_mask=None,
    dropout=None,
    head_mask=None,
    call=calling.call,
):
    """Self-attention: scores, then all of `attend_forward`.

        c = (dropout(softmax(q kᵀ / √D + mask)) ∘ head mask) v,   in each head

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3·A·D)
    num_attention_heads : int
        A; fewer than the configuration's where heads were pruned.
    attention_mask : bool array, shape (B, S), (B, 1, S, S) or (B, A, S, S), optional
        True where a key is attended to; by default everywhere.
    dropout : Dropout, optional
        Applied to the probabilities.
    head_mask : array, shape (A,), optional
        What each head's probabilities are multiplied by; by default 1. A fused kernel need not
        take this, nor an attention mask for each query.
    call : callable, optional
        Runs each step; see `albert_np.functions.calling`.

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache : AttentionCache
    """
    heads, _ = call("split_heads", split_heads_forward, query_key_value, num_attention_heads)
    scores, scores_cache = call("scores", attention_scores_forward, heads.query, heads.key)
    context, attend_cache = attend_forward(
        scores, heads.value, attention_mask, dropout, head_mask, call
    )
    return context, AttentionCache(scores_cache, attend_cache)


def attention_backward(dcontext, cache, dprobabilities=None, call=calling.call):
    """Backward pass of `attention_forward`, bottom to top.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D)
    cache : AttentionCache
    dprobabilities : array, shape (B, A, S, S), optional
        A gradient that the probabilities, as they met the values, have from elsewhere.
    call : callable, optional

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D)
    """
    dscores, dvalue = attend_backward(dcontext, cache.attend, dprobabilities, call)
    dquery, dkey = call("scores", attention_scores_backward, dscores, cache.scores)
    return call("split_heads", split_heads_backward, Heads(dquery, dkey, dvalue), None)
