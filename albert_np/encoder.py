"""The layer, and the stack of its repetitions.

Composition only: every computation is a function of the back end or of `albert_np.functions`, and
each backward pass mirrors its forward pass, bottom to top.
"""

from typing import NamedTuple

from albert_np.feed_forward import (
    chunked_feed_forward_backward,
    chunked_feed_forward_forward,
    feed_forward_backward,
    feed_forward_forward,
)
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.dropout import attention_output_site
from albert_np.schedule import kept_heads, layer_parameters, repetitions_of
from albert_np.self_attention import layer_masks, self_attention_backward, self_attention_forward


class LayerCache(NamedTuple):
    query_key_value: object
    attention: object
    attention_dense: object
    attention_layer_norm: object
    feed_forward: object
    full_layer_layer_norm: object


class Segment(NamedTuple):
    """Consecutive repetitions: what entered them and, unless to be computed again, their caches."""

    x: object
    repetitions: list
    caches: list


class EncoderCache(NamedTuple):
    embedding_hidden_mapping_in: object
    segments: list
    layers: dict  # their parameters, by place
    inputs: object


def layer_forward(x, parameters, masks, repetition, run):
    """One repetition of the layer: self-attention, then the feed-forward network.

        a = layer_norm(x + dropout(attention(x)))          y = layer_norm(a + ffn(a))

    Kept are query, key and value, the context, the input of the activation, and what the layer
    norms need; backward has a and the activation's output again from these, and is given x.

    Parameters
    ----------
    x : array, shape (B, S, H)
    parameters : dict
        Of the layer, with query, key and value stacked.
    masks : Masks
    repetition : int
        Tells the dropouts of the repetitions apart.
    run : Run

    Returns
    -------
    y : array, shape (B, S, H)
    cache : LayerCache
    """
    p, config, ops, call = parameters, run.config, run.backend, run.call
    eps = config.layer_norm_eps

    query_key_value, query_key_value_cache = call(
        "attention.query_key_value",
        ops.linear_forward,
        x,
        p["attention.query_key_value.weight"],
        p["attention.query_key_value.bias"],
    )
    context, attention_cache = self_attention_forward(query_key_value, p, masks, repetition, run)
    projected, attention_dense_cache = call(
        "attention.dense", ops.linear_forward, context, p["attention.dense.weight"]
    )
    attended, attention_norm_cache = call(
        "attention.output",
        ops.bias_dropout_residual_layer_norm_forward,
        projected,
        p["attention.dense.bias"],
        x,
        p["attention.LayerNorm.weight"],
        p["attention.LayerNorm.bias"],
        eps,
        run.dropout(config.hidden_dropout_prob, attention_output_site(repetition), run.packed),
        keep=run.keep,
    )

    chunked = config.chunk_size_feed_forward > 0
    feed_forward = chunked_feed_forward_forward if chunked else feed_forward_forward
    outer, feed_forward_cache = feed_forward(attended, p, run)
    y, full_norm_cache = call(
        "output",
        ops.bias_dropout_residual_layer_norm_forward,
        outer,
        p["ffn_output.bias"],
        attended,
        p["full_layer_layer_norm.weight"],
        p["full_layer_layer_norm.bias"],
        eps,
        keep=run.keep,
    )
    return y, LayerCache(
        query_key_value=query_key_value_cache._replace(x=None),
        attention=attention_cache,
        attention_dense=attention_dense_cache,
        attention_layer_norm=attention_norm_cache,
        feed_forward=feed_forward_cache,
        full_layer_layer_norm=full_norm_cache,
    )


def layer_backward(dy, x, cache, slots, run, dattentions=None):
    """Backward pass of `layer_forward`, bottom to top.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    x : array, shape (B, S, H)
        What forward was given.
    cache : LayerCache
    slots : dict
        Gradients of the layer's parameters, with query, key and value stacked, added to in place.
    run : Run
    dattentions : array, shape (B, A, S, S), optional
        A gradient that the attention probabilities have from elsewhere; only where the run has
        `output_attentions`, and so `plain_attention`.

    Returns
    -------
    dx : array, shape (B, S, H)
    """
    ops, call = run.backend, run.call

    norm_slots = ("ffn_output.bias", "full_layer_layer_norm.weight", "full_layer_layer_norm.bias")
    douter, _, dattended, *_ = call(
        "output",
        ops.bias_dropout_residual_layer_norm_backward,
        dy,
        cache.full_layer_layer_norm,
        into=tuple(slots[name] for name in norm_slots),
    )
    chunked = run.config.chunk_size_feed_forward > 0
    feed_forward = chunked_feed_forward_backward if chunked else feed_forward_backward
    attended = ops.bias_dropout_residual_layer_norm_output(cache.attention_layer_norm)
    dattended = dattended + feed_forward(douter, attended, cache.feed_forward, slots, run)

    norm_slots = ("attention.dense.bias", "attention.LayerNorm.weight", "attention.LayerNorm.bias")
    dprojected, _, dx, *_ = call(
        "attention.output",
        ops.bias_dropout_residual_layer_norm_backward,
        dattended,
        cache.attention_layer_norm,
        into=tuple(slots[name] for name in norm_slots),
    )
    dcontext, *_ = call(
        "attention.dense",
        ops.linear_backward,
        dprojected,
        cache.attention_dense,
        into=(slots["attention.dense.weight"], None),
    )
    dquery_key_value = self_attention_backward(dcontext, cache.attention, slots, run, dattentions)
    dx_by_attention, *_ = call(
        "attention.query_key_value",
        ops.linear_backward,
        dquery_key_value,
        cache.query_key_value._replace(x=x),
        into=(
            slots["attention.query_key_value.weight"],
            slots["attention.query_key_value.bias"],
        ),
    )
    return dx + dx_by_attention


def encoder_forward(x, parameters, inputs, run):
    """The embeddings mapped to the hidden size, then every repetition of the layer.

    Parameters
    ----------
    x : array, shape (B, S, E)
    parameters : dict
        Of the encoder.
    inputs : Inputs
        Its masks are read.
    run : Run
        Without its `keep`, nothing of a repetition outlives it; with its `checkpoint_every`, what
        entered each segment of so many repetitions.

    Returns
    -------
    y : array, shape (B, S, H)
    hidden_states : list of array, shape (B, S, H)
        What enters the first layer, and what each of the num_hidden_layers layers makes of it;
        empty without `run.output_hidden_states`.
    attentions : list of array, shape (B, A, S, S)
        Each repetition's probabilities, of the heads that were not pruned; empty without
        `run.output_attentions`.
    cache : EncoderCache
    """
    x, mapping_cache = run.call(
        "embedding_hidden_mapping_in",
        run.backend.linear_forward,
        x,
        parameters["embedding_hidden_mapping_in.weight"],
        parameters["embedding_hidden_mapping_in.bias"],
    )
    layers = layer_parameters(parameters, run.schedule)
    repetitions = repetitions_of(run.schedule)
    length = run.checkpoint_every or len(repetitions)
    keeps_caches = run.keep and run.checkpoint_every is None
    first_run = run._replace(keep=keeps_caches)
    hidden_states, attentions, segments = [], [], []
    for start in range(0, len(repetitions), length):
        segment = Segment(x if run.keep else None, repetitions[start : start + length], [])
        for repetition in segment.repetitions:
            if run.output_hidden_states and repetition.is_first_of_layer:
                hidden_states.append(x)
            x, cache = repetition_forward(x, repetition, layers, inputs, first_run)
            if run.output_attentions:
                attentions.append(cache.attention.probabilities.astype(x.dtype, copy=False))
            if keeps_caches:
                segment.caches.append(cache)
            del cache  # or it would live on through the next repetition
        segments.append(segment)
    if run.output_hidden_states:
        hidden_states.append(x)
    return x, hidden_states, attentions, EncoderCache(mapping_cache, segments, layers, inputs)


def segment_caches(segment, cache, run):
    """The caches of a segment's repetitions: as they were kept, or computed again.

    Parameters
    ----------
    segment : Segment
    cache : EncoderCache
    run : Run

    Returns
    -------
    list of LayerCache
    """
    if segment.caches:
        return segment.caches
    x, caches = segment.x, []
    for repetition in segment.repetitions:
        x, layer_cache = repetition_forward(x, repetition, cache.layers, cache.inputs, run)
        caches.append(layer_cache)
    return caches


def segment_inputs(segment, caches, run):
    """What entered each repetition of a segment, one after the other from the last to the first.

    That is what entered the segment, and what the layer norm at the end of the one before gave.
    """
    output = run.backend.bias_dropout_residual_layer_norm_output
    for before in reversed(caches[:-1]):
        yield output(before.full_layer_layer_norm)
    yield segment.x


def segment_backward(dy, dhidden_states, dattentions, segment, cache, slots, run):
    """Backward pass of a segment: what it computes again does not outlive it.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    dhidden_states, dattentions : list
        As in `encoder_backward`.
    segment : Segment
    cache : EncoderCache
    slots : dict
        Of each layer, by place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H)
    """
    dx = dy
    caches = segment_caches(segment, cache, run)
    for repetition, x, layer_cache in zip(
        reversed(segment.repetitions),
        segment_inputs(segment, caches, run),
        reversed(caches),
        strict=True,
    ):
        dx = layer_backward(
            dx,
            x,
            layer_cache,
            slots[repetition.place],
            run.within(f"layers.{repetition.index}"),
            dattentions[repetition.index],
        )
        if repetition.is_first_of_layer:
            dx = add_gradients(dx, dhidden_states[repetition.layer])
    return dx


def repetition_forward(x, repetition, layers, inputs, run):
    """One repetition, with its parameters and its masks."""
    masks = layer_masks(inputs, repetition.layer, kept_heads(run.config, repetition.place))
    run = run.within(f"layers.{repetition.index}")
    return layer_forward(x, layers[repetition.place], masks, repetition.index, run)


def encoder_backward(dy, dhidden_states, dattentions, cache, slots, run):
    """Backward pass of `encoder_forward`: the repetitions in reverse.

    The gradient of a shared parameter is the sum of what each repetition that uses it contributes:

        dW = Σ_repetitions dW_repetition

    and this is where it is summed: each repetition adds to the slots of its layer's parameters.

    Parameters
    ----------
    dy : array, shape (B, S, H)
    dhidden_states : list of (array, shape (B, S, H), or None)
        Gradients that the hidden states, but for the last, which is y, have from elsewhere.
    dattentions : list of (array, shape (B, A, S, S), or None)
        Gradients that each repetition's probabilities have from elsewhere.
    cache : EncoderCache
    slots : dict
        Gradients of the encoder's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, E)
    """
    dx = dy
    layers = layer_parameters(slots, run.schedule)
    for segment in reversed(cache.segments):
        dx = segment_backward(dx, dhidden_states, dattentions, segment, cache, layers, run)
    dx, *_ = run.call(
        "embedding_hidden_mapping_in",
        run.backend.linear_backward,
        dx,
        cache.embedding_hidden_mapping_in,
        into=(
            slots["embedding_hidden_mapping_in.weight"],
            slots["embedding_hidden_mapping_in.bias"],
        ),
    )
    return dx
