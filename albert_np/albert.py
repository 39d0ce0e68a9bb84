"""ALBERT without a head: embeddings, encoder, pooler. Composition only."""

from typing import NamedTuple

import numpy as np

from albert_np.embeddings import embeddings_backward, embeddings_forward, embeddings_shapes
from albert_np.encoder import encoder_backward, encoder_forward
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.choose import choose
from albert_np.heads import pooler_backward, pooler_forward, pooler_shapes
from albert_np.inputs import packed_tokens
from albert_np.outputs import BaseModelOutputWithPooling
from albert_np.parameters import prefixed, under
from albert_np.schedule import encoder_shapes


class AlbertCache(NamedTuple):
    embeddings: object
    encoder: object
    last_hidden_state: object
    pooler: object


def albert_shapes(config, add_pooling_layer):
    """The names and shapes of the parameters of `AlbertModel`."""
    return (
        prefixed("embeddings", embeddings_shapes(config))
        | prefixed("encoder", encoder_shapes(config))
        | (prefixed("pooler", pooler_shapes(config)) if add_pooling_layer else {})
    )


def albert_forward(inputs, parameters, run):
    """Embeddings, encoder and, where its parameters are there, pooler.

    Parameters
    ----------
    inputs : Inputs
    parameters : dict
        Of `AlbertModel`.
    run : Run

    Returns
    -------
    outputs : BaseModelOutputWithPooling
        Of a packed batch, its last_hidden_state is packed too: (T, H).
    cache : AlbertCache
    """
    tokens = inputs if run.packed is None else packed_tokens(inputs, run.packed)
    x, embeddings_cache = embeddings_forward(
        tokens, under(parameters, "embeddings"), run.within("embeddings")
    )
    for wrong in inputs.wrong:  # no ids, or none that a mistake can be told from
        x = choose(wrong, x.dtype.type(np.nan), x, x.dtype)
    x, hidden_states, attentions, encoder_cache = encoder_forward(
        x, under(parameters, "encoder"), inputs, run.within("encoder")
    )
    pooled = pooler_cache = None
    if pooler := under(parameters, "pooler"):
        pooled, pooler_cache = pooler_forward(x, pooler, run.within("pooler"))
    outputs = BaseModelOutputWithPooling(
        last_hidden_state=x,
        pooler_output=pooled,
        hidden_states=tuple(map(run.unpacked, hidden_states)) if run.output_hidden_states else None,
        attentions=tuple(attentions) if run.output_attentions else None,
    )
    return outputs, AlbertCache(embeddings_cache, encoder_cache, x, pooler_cache)


def albert_backward(gradients, cache, slots, run):
    """Backward pass of `albert_forward`.

    Parameters
    ----------
    gradients : dict
        Of the outputs, by name: last_hidden_state (packed, if the batch is), pooler_output,
        hidden_states, attentions; a name that is missing, or is None, stands for zeros.
    cache : AlbertCache
    slots : dict
        Gradients of the parameters of `AlbertModel`, added to in place.
    run : Run

    Returns
    -------
    dinputs_embeds : array, shape (B, S, E)
    """
    *dhidden_states, dlast = gradients.get("hidden_states") or [None] * (len(run.schedule) + 1)
    dattentions = gradients.get("attentions") or [None] * sum(map(len, run.schedule))
    if run.packed is not None:
        dhidden_states = [None if d is None else d[run.packed.places] for d in dhidden_states]
        dlast = None if dlast is None else dlast[run.packed.places]
    dpooled = gradients.get("pooler_output")
    if dpooled is not None:
        dpooled = pooler_backward(
            dpooled, cache.pooler, under(slots, "pooler"), run.within("pooler")
        )
    dx = add_gradients(gradients.get("last_hidden_state"), dlast, dpooled)
    dx = encoder_backward(
        np.zeros_like(cache.last_hidden_state) if dx is None else dx,
        dhidden_states,
        dattentions,
        cache.encoder,
        under(slots, "encoder"),
        run.within("encoder"),
    )
    dinputs_embeds = embeddings_backward(
        dx, cache.embeddings, under(slots, "embeddings"), run.within("embeddings")
    )
    return run.unpacked(dinputs_embeds)
