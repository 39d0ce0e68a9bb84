"""The functions that a single kernel is checked against: results, their terms, their roundings.

An error is measured in the *terms* of the number it is in: the sum of the absolute values of what
that number is made of, by the formula in `albert_np.functions`. Each rounding on the way moves it
by at most u of them, u the unit roundoff. What a term owes to rounding before it, such as exp(x) to
that of x, is part of it. Numbers below the smallest normal one are rounded more coarsely, or taken
for zero; `Rounding.smallest` stands for that wherever products could be smaller.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from albert_np.functions.activations import (
    CUBIC,
    FLAT,
    TWO_ROOT_2_OVER_PI,
    gelu_new_backward,
    gelu_new_forward,
)
from albert_np.functions.attention import (
    Heads,
    attention_backward,
    attention_forward,
    split_heads_backward,
    split_heads_forward,
)
from albert_np.functions.cross_entropy import (
    IGNORE_INDEX,
    cross_entropy_backward,
    cross_entropy_forward,
)
from albert_np.functions.layer_norm import layer_norm_backward, layer_norm_forward
from albert_np.verification.precision import bfloat16_library


class Rounding(NamedTuple):
    """What a dtype rounds to.

    Attributes
    ----------
    unit_roundoff : float
        u: a result is rounded by at most u of itself.
    smallest : float
        What has u of it for its last place, or is far below the numbers that have one.
    """

    unit_roundoff: float
    smallest: float


def rounding_of(dtype):
    """How numbers of a dtype are rounded.

    Fast exponentials give zero for what is below the smallest normal number, and so do processors
    in their fast modes. float16, whose smallest is none too small, is computed in float32 there.
    """
    info, working = float_info(dtype), np.finfo(np.promote_types(dtype, np.float32))
    eps = float(info.eps)
    return Rounding(eps / 2, max(float(info.tiny), float(working.tiny) / eps))


def float_info(dtype):
    """np.finfo, also of bfloat16."""
    if np.dtype(dtype).name != "bfloat16":
        return np.finfo(dtype)
    return bfloat16_library().finfo(dtype)


def in_dtype(values, dtype):
    """Named values, with those that are floating arrays in another dtype."""
    is_floating = [getattr(x, "dtype", np.dtype(int)).kind in "fV" for x in values.values()]
    return {
        name: x.astype(dtype) if floating else x
        for (name, x), floating in zip(values.items(), is_floating, strict=True)
    }


class KernelOperation(NamedTuple):
    """What one operation computes.

    Attributes
    ----------
    arguments : tuple of str
        Forward's, in order; `attention_mask` and `eps` may be missing from a candidate's.
    gradients : tuple of str
        The arguments whose gradients backward returns, in order.
    parameters : tuple of str
        Those of them that backward may be given slots for, `into`.
    reference : callable
        `reference(**arguments, dy)`: "y" and, for each gradient, "d" and the argument's name.
    terms : callable
        `terms(rounding, **arguments, dy)`: the terms of each of those.
    roundings : callable
        `roundings(**arguments, dy)`: how many roundings follow each other, forward and backward.
    """

    arguments: tuple
    gradients: tuple
    parameters: tuple
    reference: Callable
    terms: Callable
    roundings: Callable


def gelu_new(x, dy):
    y, cache = gelu_new_forward(x)
    return {"y": y, "dx": gelu_new_backward(dy, cache)}


def gelu_new_terms(rounding, x, dy):
    """Terms of ½ x (1 + tanh u), the more usual form; its 1 + tanh u cancels where x is below 0."""
    clipped = np.abs(np.clip(x, -FLAT, FLAT))
    two_u = TWO_ROOT_2_OVER_PI * clipped * (1 + CUBIC * clipped**2)
    slope = TWO_ROOT_2_OVER_PI * clipped * (1 + 3 * CUBIC * clipped**2)  # |x (2u)′|
    s = 1 / (1 + np.exp(-two_u))
    # 1 − tanh² u is made of two terms of 1, until tanh u rounds to 1, by any library.
    flatness = np.where(4 * s * (1 - s) > rounding.unit_roundoff / 8, 0.25, 0)
    return {
        "y": (np.abs(x) + rounding.smallest) * (1 + two_u * s * (1 - s)),
        "dx": (np.abs(dy) + rounding.smallest) * (1 + slope * (s * (1 - s) * two_u + flatness)),
    }


def gelu_new_roundings(x, dy):
    return {"forward": 10, "backward": 19}


def layer_norm(x, weight, bias, eps, dy):
    y, cache = layer_norm_forward(x, weight, bias, eps)
    return dict(zip(("y", "dx", "dweight", "dbias"), (y, *layer_norm_backward(dy, cache))))  # noqa: B905


def layer_norm_terms(rounding, x, weight, bias, eps, dy):
    """The rounding of mean(x), which is at most that of max |x|, is divided by the deviation."""
    centred = np.abs(x - x.mean(axis=-1, keepdims=True))
    inverse_deviation = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    largest = np.abs(x).max(axis=-1, keepdims=True)
    condition = 1 + largest * inverse_deviation
    normalized = centred * inverse_deviation
    noisy = normalized + condition
    dy = np.abs(dy) + rounding.smallest
    g = dy * np.abs(weight) + rounding.smallest
    along_ones = g.mean(axis=-1, keepdims=True)
    along_normalized = (g * noisy).mean(axis=-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return {
        "y": noisy * np.abs(weight) + np.abs(bias) + rounding.smallest,
        "dx": (g + along_ones + noisy * along_normalized) * inverse_deviation * condition,
        "dweight": (dy * noisy).sum(axis=rows),
        "dbias": dy.sum(axis=rows),
    }


def layer_norm_roundings(x, weight, bias, eps, dy):
    N = x.shape[-1]
    return {"forward": 2 * N + 7, "backward": 4 * N + x.size // N + 18}


def cross_entropy(logits, labels, dy):
    loss, cache = cross_entropy_forward(logits, labels)
    return {"y": loss, "dlogits": cross_entropy_backward(dy, cache)}


def cross_entropy_terms(rounding, logits, labels, dy):
    """Terms of log Σ exp(z − m) − (z_label − m): the largest logit m is subtracted first."""
    labelled = (labels != IGNORE_INDEX)[:, None]
    label = np.where(labelled, labels[:, None], 0)
    below = logits.max(axis=-1, keepdims=True) - logits  # (T, V), 0 or above
    exponentials = np.exp(-below)
    total = exponentials.sum(axis=-1, keepdims=True)
    probabilities = exponentials / total
    log_sum = np.log(total) + (probabilities * below).sum(axis=-1, keepdims=True)
    losses = np.where(labelled, 1 + log_sum + np.take_along_axis(below, label, -1), 0)
    gradients = probabilities * (1 + below + log_sum)
    one_hot = np.arange(logits.shape[-1]) == label
    scale = np.where(labelled, (np.abs(dy) + rounding.smallest) / labelled.sum(), 0)
    return {
        "y": losses.sum() / labelled.sum() + rounding.smallest,
        "dlogits": (gradients + one_hot) * scale + rounding.smallest,
    }


def cross_entropy_roundings(logits, labels, dy):
    T, V = logits.shape
    return {"forward": T + V + 6, "backward": V + 8}


def attention(query, key, value, attention_mask=None, *, dy):
    """Query, key, value and dy, (B, A, S, D), by the function that takes them joined."""
    query_key_value = split_heads_backward(Heads(query, key, value), None)
    B, A, S, D = query.shape
    dcontext = dy.transpose(0, 2, 1, 3).reshape(B, S, A * D)
    context, cache = attention_forward(query_key_value, A, attention_mask)
    gradients, _ = split_heads_forward(attention_backward(dcontext, cache), A)
    y = context.reshape(B, S, A, D).transpose(0, 2, 1, 3)
    return {"y": y, "dquery": gradients.query, "dkey": gradients.key, "dvalue": gradients.value}


def largest_score_terms(values):
    """The largest of the terms of any score, before the mask; 0 where there are no scores."""
    if "query_key_value" in values:
        heads, _ = split_heads_forward(values["query_key_value"], values["num_attention_heads"])
        return _score_terms(heads.query, heads.key).max()
    return _score_terms(values["query"], values["key"]).max() if "query" in values else 0.0


def _score_terms(query, key):
    return np.abs(query) @ np.abs(key).swapaxes(-1, -2) / np.sqrt(query.shape[-1])


def attention_terms(rounding, query, key, value, attention_mask=None, *, dy):
    probabilities = _probabilities(query, key, attention_mask)
    from_scores = _score_terms(query, key)
    below = from_scores + (probabilities * from_scores).sum(axis=-1, keepdims=True)
    noisy = (
        probabilities * (1 + below) + rounding.smallest
    )  # the terms of exp(s − m) / Σ exp(s − m)
    query, key, value, dy = (np.abs(x) + rounding.smallest for x in (query, key, value, dy))
    dp = dy @ value.swapaxes(-1, -2)
    along = (probabilities * dp).sum(axis=-1, keepdims=True)
    noisy_along = (noisy * dp).sum(axis=-1, keepdims=True)
    ds = noisy * (dp + along) + (probabilities + rounding.smallest) * noisy_along
    scale = 1 / np.sqrt(query.shape[-1])
    return {
        "y": noisy @ value,
        "dquery": ds @ key * scale,
        "dkey": ds.swapaxes(-1, -2) @ query * scale,
        "dvalue": noisy.swapaxes(-1, -2) @ dy,
    }


def _probabilities(query, key, attention_mask):
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if attention_mask is not None:
        scores = scores + np.where(attention_mask, 0, np.finfo(scores.dtype).min)[:, None, None]
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def attention_roundings(query, key, value, attention_mask=None, *, dy):
    S, D = query.shape[-2:]
    return {"forward": D + 2 * S + 5, "backward": 2 * D + 4 * S + 9}


def joined_attention(query_key_value, num_attention_heads, attention_mask=None, *, dy):
    context, cache = attention_forward(query_key_value, num_attention_heads, attention_mask)
    return {"y": context, "dquery_key_value": attention_backward(dy, cache)}


def joined_attention_terms(
    rounding, query_key_value, num_attention_heads, attention_mask=None, *, dy
):
    heads, dheads = _split(query_key_value, num_attention_heads, dy)
    terms = attention_terms(rounding, *heads, attention_mask, dy=dheads)
    gradients = Heads(terms["dquery"], terms["dkey"], terms["dvalue"])
    return {
        "y": terms["y"].transpose(0, 2, 1, 3).reshape(dy.shape),
        "dquery_key_value": split_heads_backward(gradients, None),
    }


def joined_attention_roundings(query_key_value, num_attention_heads, attention_mask=None, *, dy):
    heads, dheads = _split(query_key_value, num_attention_heads, dy)
    return attention_roundings(*heads, dy=dheads)


def _split(query_key_value, num_attention_heads, dy):
    B, S, H = dy.shape
    heads, _ = split_heads_forward(query_key_value, num_attention_heads)
    return heads, dy.reshape(B, S, num_attention_heads, -1).transpose(0, 2, 1, 3)


OPERATIONS = {
    "attention": KernelOperation(
        ("query", "key", "value", "attention_mask"),
        ("query", "key", "value"),
        (),
        attention,
        attention_terms,
        attention_roundings,
    ),
    "joined_attention": KernelOperation(
        ("query_key_value", "num_attention_heads", "attention_mask"),
        ("query_key_value",),
        (),
        joined_attention,
        joined_attention_terms,
        joined_attention_roundings,
    ),
    "gelu_new": KernelOperation(("x",), ("x",), (), gelu_new, gelu_new_terms, gelu_new_roundings),
    "layer_norm": KernelOperation(
        ("x", "weight", "bias", "eps"),
        ("x", "weight", "bias"),
        ("weight", "bias"),
        layer_norm,
        layer_norm_terms,
        layer_norm_roundings,
    ),
    "cross_entropy": KernelOperation(
        ("logits", "labels"),
        ("logits",),
        (),
        cross_entropy,
        cross_entropy_terms,
        cross_entropy_roundings,
    ),
}
