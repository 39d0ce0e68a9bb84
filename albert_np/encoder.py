"""ALBERT from ids to hidden states: embeddings, the layer, and the stack of its repetitions.

Composition only: every computation is a function of the back end or of `albert_np.functions`, and
each backward pass mirrors its forward pass, bottom to top.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from albert_np.functions import calling
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.activations import ACTIVATIONS, given_backward, given_forward
from albert_np.functions.attention import attention_backward, attention_forward
from albert_np.functions.bias import add_backward, add_forward, bias_backward, bias_forward
from albert_np.functions.chunks import join_backward, join_forward, split_backward, split_forward
from albert_np.functions.dropout import (
    EMBEDDINGS_SITE,
    Dropout,
    attention_output_site,
    attention_probabilities_site,
    dropout_backward,
    dropout_forward,
)
from albert_np.functions.packing import unpack_backward, unpack_forward
from albert_np.functions.relative_attention import (
    relative_attention_backward,
    relative_attention_forward,
)
from albert_np.functions.select import select_backward, select_forward
from albert_np.parameters import prefixed, under, with_query_key_value

DISTANCE_EMBEDDING = "attention.distance_embedding.weight"


class Run(NamedTuple):
    """How one call of a model is run: what every part of the composition needs to know.

    Attributes
    ----------
    config : AlbertConfig
    schedule : tuple of tuple of (int, int)
        The layer schedule.
    backend : Backend
        The functions to use.
    seed : int or None
        Draws the dropout masks; None for no dropout.
    output_attentions, output_hidden_states : bool
        Whether to keep these.
    plain_attention : bool
        Whether attention is the plain pairs'; see `needs_plain_attention`.
    packed : PackedBatch or None
        Where the tokens lie, if the batch is packed; arrays are then (T, …) where they would be
        (B, S, …).
    keep : bool
        Whether a backward pass will follow.
    checkpoint_every : int or None
        How many repetitions make a segment, of which only what entered it is kept, and backward
        computes the rest again; None to keep it all.
    loss_only : bool
        Whether heads may leave out what the loss does not need.
    labelled : tuple of integer array, or None
        The places of the labelled tokens, where `loss_only`; see `labelled_places`.
    call : callable
        Runs each function; see `albert_np.functions.calling`.
    """

    config: object
    schedule: tuple
    backend: object
    seed: object = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    plain_attention: bool = False
    packed: object = None
    keep: bool = False
    checkpoint_every: object = None
    loss_only: bool = False
    labelled: object = None
    call: Callable = calling.call

    def within(self, name):
        """The same run, for a part of the model whose functions' names start with `name.`."""
        return self._replace(call=calling.within(self.call, name))

    def unpacked(self, x):
        """Tokens in their places, (B, S, …), whether the batch is packed or not."""
        if self.packed is None:
            return x
        y, _ = unpack_forward(x, self.packed)
        return y

    def dropout(self, probability, site, packed=None):
        """The dropout at one site, or None where nothing is to be dropped."""
        if self.seed is None or probability == 0:
            return None
        return Dropout(probability, self.seed, site, packed)


class Masks(NamedTuple):
    """What masks the attention of one repetition.

    Attributes
    ----------
    attention : bool array, shape (B, S), (B, 1, S, S) or (B, A, S, S), or None
    heads : array, shape (A,), or None
    """

    attention: object
    heads: object


class EmbeddingsCache(NamedTuple):
    word: object
    token_type: object
    position: object
    layer_norm: object
    dropout: object


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


class LayerCache(NamedTuple):
    query_key_value: object
    attention: object
    attention_dense: object
    attention_layer_norm: object
    feed_forward: object
    full_layer_layer_norm: object


class FeedForwardCache(NamedTuple):
    ffn: object
    activation: object
    ffn_output: object


class ChunkedFeedForwardCache(NamedTuple):
    chunks: list
    join: object


class Repetition(NamedTuple):
    """One run of a layer's parameters: their place, and which of all runs of the model it is."""

    place: tuple  # (group, inner layer)
    index: int
    layer: int
    is_first_of_layer: bool


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


def layer_schedule(config):
    """Which parameters each layer uses.

    Layers fall to the groups in equal, consecutive shares; each runs the inner layers of its group
    in order (section 3.1 of the paper shares all; groups are the general case). Each of these runs
    is a repetition; they are counted through the whole model.

    Parameters
    ----------
    config : AlbertConfig

    Returns
    -------
    schedule : tuple of tuple of (int, int)
        For each of num_hidden_layers layers, the (group, inner layer) of its repetitions.
    """
    # Divided in this order as Hugging Face divides: where the groups do not divide the layers,
    # rounding decides (with 18 layers in 14 groups, layer 9 falls to group 6, or else to 7).
    layers_per_group = config.num_hidden_layers / config.num_hidden_groups
    return tuple(
        tuple((int(layer / layers_per_group), inner) for inner in range(config.inner_group_num))
        for layer in range(config.num_hidden_layers)
    )


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


def repetitions_of(schedule):
    """The repetitions of a schedule, in order.

    Parameters
    ----------
    schedule : tuple of tuple of (int, int)

    Returns
    -------
    list of Repetition
    """
    runs = [
        (place, layer, inner == 0)
        for layer, places in enumerate(schedule)
        for inner, place in enumerate(places)
    ]
    return [Repetition(place, i, layer, first) for i, (place, layer, first) in enumerate(runs)]


def kept_heads(config, place):
    """The heads of one inner layer of one group that were not pruned, by their first numbers."""
    group, inner = place
    layer = group * config.inner_group_num + inner
    pruned = config.pruned_heads.get(layer, ())
    return [head for head in range(config.num_attention_heads) if head not in pruned]


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


def layer_places(config):
    """The (group, inner layer) of every set of a layer's parameters, in order."""
    return tuple(product(range(config.num_hidden_groups), range(config.inner_group_num)))


def layer_prefix(group, inner):
    """Where the parameters of one inner layer of one group lie within the encoder's."""
    return f"albert_layer_groups.{group}.albert_layers.{inner}"


def layer_parameters(parameters, schedule):
    """The parameters (or slots) of each layer that a schedule names, by (group, inner layer)."""
    places = {place for layer in schedule for place in layer}
    return {
        place: with_query_key_value(under(parameters, layer_prefix(*place))) for place in places
    }


def embeddings_shapes(config):
    """The names and shapes of the embeddings' parameters."""
    E = config.embedding_size
    return {
        "word_embeddings.weight": (config.vocab_size, E),
        "position_embeddings.weight": (config.max_position_embeddings, E),
        "token_type_embeddings.weight": (config.type_vocab_size, E),
        "LayerNorm.weight": (E,),
        "LayerNorm.bias": (E,),
    }


def layer_shapes(config, place):
    """The names and shapes of the parameters of one inner layer of one group."""
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    D = H // config.num_attention_heads
    heads = len(kept_heads(config, place)) * D
    shapes = {"full_layer_layer_norm.weight": (H,), "full_layer_layer_norm.bias": (H,)}
    for module in ("query", "key", "value"):
        shapes[f"attention.{module}.weight"] = (heads, H)
        shapes[f"attention.{module}.bias"] = (heads,)
    shapes |= {
        "attention.dense.weight": (H, heads),
        "attention.dense.bias": (H,),
        "attention.LayerNorm.weight": (H,),
        "attention.LayerNorm.bias": (H,),
    }
    if config.position_embedding_type != "absolute":
        shapes[DISTANCE_EMBEDDING] = (2 * config.max_position_embeddings - 1, D)
    return shapes | {
        "ffn.weight": (I, H),
        "ffn.bias": (I,),
        "ffn_output.weight": (H, I),
        "ffn_output.bias": (H,),
    }


def encoder_shapes(config):
    """The names and shapes of the encoder's parameters: one set for each layer of each group."""
    shapes = {
        "embedding_hidden_mapping_in.weight": (config.hidden_size, config.embedding_size),
        "embedding_hidden_mapping_in.bias": (config.hidden_size,),
    }
    for place in layer_places(config):
        shapes |= prefixed(layer_prefix(*place), layer_shapes(config, place))
    return shapes


def embeddings_forward(inputs, parameters, run):
    """Words, token types and positions, summed and normalized (section 3.1: of width E, not H).

    Where positions are relative, attention sees them, and the embeddings do not.

    Parameters
    ----------
    inputs : Inputs
        Its input_ids or inputs_embeds, token_type_ids and position_ids are read.
    parameters : dict
        Of the embeddings.
    run : Run

    Returns
    -------
    y : array, shape (B, S, E)
    cache : EmbeddingsCache
    """
    config, ops, call = run.config, run.backend, run.call
    word, word_cache = inputs.inputs_embeds, None
    if word is None:
        word, word_cache = call(
            "word_embeddings",
            ops.embedding_forward,
            inputs.input_ids,
            parameters["word_embeddings.weight"],
            config.pad_token_id,
        )
    token_type, token_type_cache = call(
        "token_type_embeddings",
        ops.embedding_forward,
        inputs.token_type_ids,
        parameters["token_type_embeddings.weight"],
    )
    x, _ = call("add_token_type", add_forward, word, token_type)
    position_cache = None
    if config.position_embedding_type == "absolute":
        position, position_cache = call(
            "position_embeddings",
            ops.embedding_forward,
            inputs.position_ids,
            parameters["position_embeddings.weight"],
        )
        x, _ = call("add_position", add_forward, x, position)
    x, norm_cache = call(
        "LayerNorm",
        ops.layer_norm_forward,
        x,
        parameters["LayerNorm.weight"],
        parameters["LayerNorm.bias"],
        config.layer_norm_eps,
    )
    dropout_cache = None
    if dropout := run.dropout(config.hidden_dropout_prob, EMBEDDINGS_SITE, run.packed):
        x, dropout_cache = call("dropout", dropout_forward, x, dropout)
    return x, EmbeddingsCache(
        word_cache, token_type_cache, position_cache, norm_cache, dropout_cache
    )


def embeddings_backward(dy, cache, slots, run):
    """Backward pass of `embeddings_forward`.

    Parameters
    ----------
    dy : array, shape (B, S, E)
    cache : EmbeddingsCache
    slots : dict
        Gradients of the embeddings' parameters, added to in place.
    run : Run

    Returns
    -------
    dinputs_embeds : array, shape (B, S, E)
        With respect to the word embeddings, looked up or given.
    """
    ops, call = run.backend, run.call
    if cache.dropout is not None:
        dy = call("dropout", dropout_backward, dy, cache.dropout)
    norm_slots = (slots["LayerNorm.weight"], slots["LayerNorm.bias"])
    dx, *_ = call("LayerNorm", ops.layer_norm_backward, dy, cache.layer_norm, into=norm_slots)
    dposition = None
    if cache.position is not None:
        dx, dposition = call("add_position", add_backward, dx, None)
    dword, dtoken_type = call("add_token_type", add_backward, dx, None)
    for name, gradient, embedding_cache in (
        ("position_embeddings", dposition, cache.position),
        ("token_type_embeddings", dtoken_type, cache.token_type),
        ("word_embeddings", dword, cache.word),
    ):
        if embedding_cache is not None:
            into = (slots[f"{name}.weight"],)
            call(name, ops.embedding_backward, gradient, embedding_cache, into=into)
    return dword


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


def wide(array):
    """float16 and bfloat16 in float32; other arrays, and None, as they are."""
    if array is None or array.dtype.itemsize > 2:
        return array
    return array.astype("float32")


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
