"""The embeddings: words, token types and positions. Composition only."""

from typing import NamedTuple

from albert_np.functions.bias import add_backward, add_forward
from albert_np.functions.dropout import EMBEDDINGS_SITE, dropout_backward, dropout_forward


class EmbeddingsCache(NamedTuple):
    word: object
    token_type: object
    position: object
    layer_norm: object
    dropout: object


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
