"""What stands on the encoder: the pooler, and the heads of pretraining. Composition only."""

from typing import NamedTuple

from albert_np.encoder import activation_backward, activation_forward
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.activations import tanh_backward, tanh_forward
from albert_np.functions.cross_entropy import (
    IGNORE_INDEX,
    cross_entropy_backward,
    cross_entropy_forward,
)
from albert_np.functions.dropout import CLASSIFIER_SITE, dropout_backward, dropout_forward
from albert_np.functions.select import select_backward, select_forward

FIRST_TOKEN = (slice(None), 0)


class PoolerCache(NamedTuple):
    select: object
    linear: object
    tanh: object


class TransformCache(NamedTuple):
    dense: object
    activation: object
    layer_norm: object


class MaskedLMCache(NamedTuple):
    transform: TransformCache
    decoder: object
    loss: object


class MaskedLMLossCache(NamedTuple):
    select: object
    transform: TransformCache
    decoder: object


class ClassifierCache(NamedTuple):
    dropout: object
    linear: object
    loss: object


def pooler_shapes(config):
    """The names and shapes of the pooler's parameters."""
    return {"weight": (config.hidden_size, config.hidden_size), "bias": (config.hidden_size,)}


def masked_lm_shapes(config):
    """The names and shapes of the masked language modelling head's parameters.

    The decoder's weight is the word embedding, and stands there.
    """
    E = config.embedding_size
    return {
        "bias": (config.vocab_size,),
        "LayerNorm.weight": (E,),
        "LayerNorm.bias": (E,),
        "dense.weight": (E, config.hidden_size),
        "dense.bias": (E,),
    }


def classifier_shapes(config, num_labels):
    """The names and shapes of a classifier's parameters."""
    return {
        "classifier.weight": (num_labels, config.hidden_size),
        "classifier.bias": (num_labels,),
    }


def pooler_forward(x, parameters, run):
    """The first token's hidden state, through a linear map and tanh.

        y = tanh(x₀ Wᵀ + b)

    Parameters
    ----------
    x : array, shape (B, S, H)
    parameters : dict
        Of the pooler.
    run : Run

    Returns
    -------
    y : array, shape (B, H)
    cache : PoolerCache
    """
    first, select_cache = run.call("first_token", select_forward, x, FIRST_TOKEN)
    z, linear_cache = run.call(
        "linear", run.backend.linear_forward, first, parameters["weight"], parameters["bias"]
    )
    y, tanh_cache = run.call("tanh", tanh_forward, z)
    return y, PoolerCache(select_cache, linear_cache, tanh_cache)


def pooler_backward(dy, cache, slots, run):
    """Backward pass of `pooler_forward`.

    Parameters
    ----------
    dy : array, shape (B, H)
    cache : PoolerCache
    slots : dict
        Gradients of the pooler's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H)
    """
    dz = run.call("tanh", tanh_backward, dy, cache.tanh)
    into = (slots["weight"], slots["bias"])
    dfirst, *_ = run.call("linear", run.backend.linear_backward, dz, cache.linear, into=into)
    return run.call("first_token", select_backward, dfirst, cache.select)


def masked_lm_transform_forward(x, parameters, run):
    """The masked language modelling head up to its decoder: back to the embeddings' width.

        y = layer_norm(act(x Wᵀ + b))

    Parameters
    ----------
    x : array, shape (..., H)
    parameters : dict
        Of the head.
    run : Run

    Returns
    -------
    y : array, shape (..., E)
    cache : TransformCache
    """
    z, dense_cache = run.call("dense", run.backend.linear_forward, x, parameters["dense.weight"])
    activated, activation_cache = activation_forward(z, parameters["dense.bias"], run)
    y, norm_cache = run.call(
        "LayerNorm",
        run.backend.layer_norm_forward,
        activated,
        parameters["LayerNorm.weight"],
        parameters["LayerNorm.bias"],
        run.config.layer_norm_eps,
    )
    return y, TransformCache(dense_cache, activation_cache, norm_cache)


def masked_lm_transform_backward(dy, cache, slots, run):
    """Backward pass of `masked_lm_transform_forward`.

    Parameters
    ----------
    dy : array, shape (..., E)
    cache : TransformCache
    slots : dict
        Gradients of the head's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (..., H)
    """
    norm_slots = (slots["LayerNorm.weight"], slots["LayerNorm.bias"])
    dactivated, *_ = run.call(
        "LayerNorm", run.backend.layer_norm_backward, dy, cache.layer_norm, into=norm_slots
    )
    dz = activation_backward(dactivated, cache.activation, (slots["dense.bias"],), run)
    into = (slots["dense.weight"], None)
    dx, *_ = run.call("dense", run.backend.linear_backward, dz, cache.dense, into=into)
    return dx


def masked_lm_forward(x, labels, parameters, word_embeddings, run):
    """The masked language modelling head: a score for every word of the vocabulary, and the loss.

        logits = transform(x) Eᵀ + b,   E the word embeddings: the decoder is tied to them
        loss = cross_entropy(logits, labels)

    Parameters
    ----------
    x : array, shape (B, S, H)
    labels : integer array, shape (B, S), or None
    parameters : dict
        Of the head.
    word_embeddings : array, shape (V, E)
    run : Run

    Returns
    -------
    logits : array, shape (B, S, V), or None
        None where `run.loss_only`.
    loss : array, shape (), or None
        None without labels.
    cache : MaskedLMCache or MaskedLMLossCache
    """
    if run.loss_only:
        return None, *_masked_lm_loss_forward(x, labels, parameters, word_embeddings, run)
    y, transform_cache = masked_lm_transform_forward(x, parameters, run)
    logits, decoder_cache = run.call(
        "decoder", run.backend.linear_forward, y, word_embeddings, parameters["bias"]
    )
    loss, loss_cache = _loss_forward(logits, labels, run)
    return logits, loss, MaskedLMCache(transform_cache, decoder_cache, loss_cache)


def masked_lm_backward(dlogits, dloss, cache, slots, word_embeddings_slot, run):
    """Backward pass of `masked_lm_forward`.

    Parameters
    ----------
    dlogits : array, shape (B, S, V), or None
    dloss : array, shape (), or None
    cache : MaskedLMCache or MaskedLMLossCache
    slots : dict
        Gradients of the head's parameters, added to in place.
    word_embeddings_slot : array, shape (V, E)
        The same for the word embeddings.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H), or None
        None where neither gradient was given.
    """
    into = (word_embeddings_slot, slots["bias"])
    if run.loss_only:
        return _masked_lm_loss_backward(dloss, cache, slots, into, run)
    dlogits = _loss_backward(dlogits, dloss, cache.loss, run)
    if dlogits is None:
        return None
    dy, *_ = run.call("decoder", run.backend.linear_backward, dlogits, cache.decoder, into=into)
    return masked_lm_transform_backward(dy, cache.transform, slots, run)


def _masked_lm_loss_forward(x, labels, parameters, word_embeddings, run):
    """The head and its loss at the labelled positions alone: nothing else can reach the loss."""
    labelled = (labels != IGNORE_INDEX).nonzero()
    rows, select_cache = run.call("labelled", select_forward, x, labelled)
    y, transform_cache = masked_lm_transform_forward(rows, parameters, run)
    loss, decoder_cache = run.call(
        "decoder",
        run.backend.linear_cross_entropy_forward,
        y,
        word_embeddings,
        parameters["bias"],
        labels[labelled],
    )
    return loss, MaskedLMLossCache(select_cache, transform_cache, decoder_cache)


def _masked_lm_loss_backward(dloss, cache, slots, into, run):
    """Backward pass of `_masked_lm_loss_forward`."""
    dy, *_ = run.call(
        "decoder", run.backend.linear_cross_entropy_backward, dloss, cache.decoder, into=into
    )
    drows = masked_lm_transform_backward(dy, cache.transform, slots, run)
    return run.call("labelled", select_backward, drows, cache.select)


def _loss_forward(logits, labels, run):
    """Cross-entropy where there are labels; (None, None) where there are not."""
    if labels is None:
        return None, None
    return run.call("loss", cross_entropy_forward, logits, labels)


def _loss_backward(dlogits, dloss, cache, run):
    """Add what the loss asks of the logits to what was asked of them directly; None for nothing."""
    if dloss is None:
        return dlogits
    return add_gradients(dlogits, run.call("loss", cross_entropy_backward, dloss, cache))


def classifier_forward(x, labels, parameters, run):
    """Dropout and a linear map, from the pooled output to one logit a label, and the loss.

    Parameters
    ----------
    x : array, shape (B, H)
    labels : integer array, shape (B,), or None
    parameters : dict
        `classifier.weight`, of shape (labels, H), and `classifier.bias`.
    run : Run

    Returns
    -------
    logits : array, shape (B, labels)
    loss : array, shape (), or None
        None without labels.
    cache : ClassifierCache
    """
    dropout_cache = None
    if dropout := run.dropout(run.config.classifier_dropout_prob, CLASSIFIER_SITE):
        x, dropout_cache = run.call("dropout", dropout_forward, x, dropout)
    logits, linear_cache = run.call(
        "classifier",
        run.backend.linear_forward,
        x,
        parameters["classifier.weight"],
        parameters["classifier.bias"],
    )
    loss, loss_cache = _loss_forward(logits, labels, run)
    return logits, loss, ClassifierCache(dropout_cache, linear_cache, loss_cache)


def classifier_backward(dlogits, dloss, cache, slots, run):
    """Backward pass of `classifier_forward`.

    Parameters
    ----------
    dlogits : array, shape (B, labels), or None
    dloss : array, shape (), or None
    cache : ClassifierCache
    slots : dict
        Gradients of the classifier's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, H), or None
        None where neither gradient was given.
    """
    dlogits = _loss_backward(dlogits, dloss, cache.loss, run)
    if dlogits is None:
        return None
    into = (slots["classifier.weight"], slots["classifier.bias"])
    dx, *_ = run.call("classifier", run.backend.linear_backward, dlogits, cache.linear, into=into)
    if cache.dropout is not None:
        dx = run.call("dropout", dropout_backward, dx, cache.dropout)
    return dx
