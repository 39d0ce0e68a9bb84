"""Self-attention: a back end's kernel, or the plain pairs where it lacks what is asked for.

Composition only.
"""

from typing import NamedTuple

from albert_np.arrays import wide
from albert_np.functions.attention import attention_backward, attention_forward
from albert_np.functions.dropout import attention_probabilities_site
from albert_np.functions.packing import unpack_backward, unpack_forward
from albert_np.functions.relative_attention import (
    relative_attention_backward,
    relative_attention_forward,
)
from albert_np.functions.select import select_backward, select_forward
from albert_np.schedule import DISTANCE_EMBEDDING


class Masks(NamedTuple):
    """What masks the attention of one repetition.

    Attributes
    ----------
    attention : bool array, shape (B, S), (B, 1, S, S) or (B, A, S, S), or None
    heads : array, shape (A,), or None
    """

    attention: object
    heads: object


class PackedAttentionCache(NamedTuple):
    unpack: object
    attention: object
    pack: object

    @property
    def probabilities(self):
        """The probabilities, (B, A, S, S); 0 where the query is padding."""
        return self.attention.probabilities * self.is_query

    @property
    def is_query(self):
        """Where the padded batch has queries, bool, (B, 1, S, 1)."""
        return self.unpack.real[:, None, :, None]


def needs_plain_attention(config, inputs, output_attentions, backend):
    """Whether attention is the plain pairs'.

    It is where the back end has no kernel for it, and where a call asks for what a kernel need not
    know: the probabilities, a head mask, an attention mask for each query, or relative positions.

    Parameters
    ----------
    config : AlbertConfig
    inputs : Inputs
    output_attentions : bool
    backend : Backend

    Returns
    -------
    bool
    """
    mask = inputs.attention_mask
    return (
        backend.attention_forward is attention_forward
        or output_attentions
        or inputs.head_mask is not None
        or (mask is not None and mask.ndim > 2)
        or config.position_embedding_type != "absolute"
    )


def layer_masks(inputs, layer, kept):
    """The masks of one repetition: the layer's row of the head mask, and of both the kept heads.

    Parameters
    ----------
    inputs : Inputs
    layer : int
        In [0, L). All inner layers of a layer have one row.
    kept : list of int
        The heads that are there, by their first numbers.

    Returns
    -------
    Masks
    """
    attention, heads = inputs.attention_mask, inputs.head_mask
    if attention is not None and attention.ndim == 4 and attention.shape[1] > len(kept):
        attention = attention[:, kept]
    return Masks(attention, None if heads is None else heads[layer, kept])


def self_attention_forward(query_key_value, parameters, masks, repetition, run):
    """Self-attention within each sequence.

    The plain pairs are of a padded batch: a packed one is unpacked for them, and packed again.

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3·A·D)
    parameters, masks, repetition, run
        As of `plain_attention_forward`.

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache
    """
    if not run.plain_attention:
        return fused_attention_forward(query_key_value, masks, repetition, run)
    if run.packed is None:
        return plain_attention_forward(query_key_value, parameters, masks, repetition, run)
    padded, unpack_cache = run.call("attention.unpack", unpack_forward, query_key_value, run.packed)
    context, cache = plain_attention_forward(padded, parameters, masks, repetition, run)
    tokens, pack_cache = run.call("attention.pack", select_forward, context, run.packed.places)
    return tokens, PackedAttentionCache(unpack_cache, cache, pack_cache)


def self_attention_backward(dcontext, cache, slots, run, dattentions=None):
    """Backward pass of `self_attention_forward`.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D)
    cache
    slots : dict
        Gradients of the layer's parameters, added to in place.
    run : Run
    dattentions : array, shape (B, A, S, S), optional
        As in `layer_backward`.

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D)
    """
    if not run.plain_attention:
        return run.call("attention.self", run.backend.attention_backward, dcontext, cache)
    if run.packed is None:
        return plain_attention_backward(dcontext, cache, slots, run, dattentions)
    if dattentions is not None:
        dattentions = dattentions * cache.is_query
    dpadded = run.call("attention.pack", select_backward, dcontext, cache.pack)
    dpadded = plain_attention_backward(dpadded, cache.attention, slots, run, dattentions)
    return run.call("attention.unpack", unpack_backward, dpadded, cache.unpack)


def fused_attention_forward(query_key_value, masks, repetition, run):
    """The attention of a back end's kernel, of a padded batch or a packed one.

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3·A·D)
    masks, repetition, run
        As of `plain_attention_forward`.

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache
    """
    mask = masks.attention if run.packed is None else run.packed.attended
    site = attention_probabilities_site(repetition)
    return run.call(
        "attention.self",
        run.backend.attention_forward,
        query_key_value,
        num_heads(query_key_value, run.config),
        mask,
        run.dropout(run.config.attention_probs_dropout_prob, site),
        run.packed,
    )


def num_heads(query_key_value, config):
    """How many heads were not pruned."""
    head_size = config.hidden_size // config.num_attention_heads
    return query_key_value.shape[-1] // (3 * head_size)


def plain_attention_forward(query_key_value, parameters, masks, repetition, run):
    """The attention that the configuration and the call ask for, by the plain pairs.

    They are not right in float16 and bfloat16, in whose place they compute in float32.

    Parameters
    ----------
    query_key_value : array, shape (B, S, 3·A·D)
        Of the A heads that were not pruned.
    parameters : dict
        Of the layer.
    masks : Masks
    repetition : int
    run : Run

    Returns
    -------
    context : array, shape (B, S, A·D)
    cache
    """
    config = run.config
    site = attention_probabilities_site(repetition)
    dropout = run.dropout(config.attention_probs_dropout_prob, site)
    heads, head_mask = num_heads(query_key_value, config), wide(masks.heads)
    if config.position_embedding_type != "absolute":
        context, cache = run.call(
            "attention.self",
            relative_attention_forward,
            wide(query_key_value),
            heads,
            wide(parameters[DISTANCE_EMBEDDING]),
            config.position_embedding_type == "relative_key_query",
            masks.attention,
            dropout,
            head_mask,
        )
    else:
        context, cache = run.call(
            "attention.self",
            attention_forward,
            wide(query_key_value),
            heads,
            masks.attention,
            dropout,
            head_mask,
        )
    return context.astype(query_key_value.dtype, copy=False), cache


def plain_attention_backward(dcontext, cache, slots, run, dattentions=None):
    """Backward pass of `plain_attention_forward`.

    Parameters
    ----------
    dcontext : array, shape (B, S, A·D)
    cache
    slots : dict
        Gradients of the layer's parameters, added to in place.
    run : Run
    dattentions : array, shape (B, A, S, S), optional
        As in `layer_backward`.

    Returns
    -------
    dquery_key_value : array, shape (B, S, 3·A·D)
    """
    narrow, dcontext, dattentions = dcontext.dtype, wide(dcontext), wide(dattentions)
    if run.config.position_embedding_type != "absolute":
        slot = slots[DISTANCE_EMBEDDING]
        wide_slot = wide(slot)
        dquery_key_value, _ = run.call(
            "attention.self",
            relative_attention_backward,
            dcontext,
            cache,
            dattentions,
            into=(wide_slot,),
            add_up_distances=run.backend.embedding_backward,
        )
        if wide_slot is not slot:
            slot[...] = wide_slot.astype(narrow)
    else:
        dquery_key_value = run.call(
            "attention.self", attention_backward, dcontext, cache, dattentions
        )
    return dquery_key_value.astype(narrow, copy=False)
