"""What stands on the encoder: the pooler and the heads. Composition only."""

from typing import NamedTuple

import numpy as np

from albert_np.config import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from albert_np.feed_forward import activation_backward, activation_forward
from albert_np.functions.accumulate import add_gradients
from albert_np.functions.activations import tanh_backward, tanh_forward
from albert_np.functions.bias import average_backward, average_forward
from albert_np.functions.binary_cross_entropy import (
    binary_cross_entropy_backward,
    binary_cross_entropy_forward,
)
from albert_np.functions.cross_entropy import cross_entropy_backward, cross_entropy_forward
from albert_np.functions.dropout import CLASSIFIER_SITE, dropout_backward, dropout_forward
from albert_np.functions.mean_squared_error import (
    mean_squared_error_backward,
    mean_squared_error_forward,
)
from albert_np.functions.packing import unpack_backward, unpack_forward
from albert_np.functions.reshape import reshape_backward, reshape_forward
from albert_np.functions.select import select_backward, select_forward

FIRST_TOKEN = (slice(None), 0)

# Of the logits of question answering, (B, S, 2): of the start and of the end of an answer.
NUM_ENDS = 2
START = (Ellipsis, 0)
END = (Ellipsis, 1)

# What each problem has for its loss.
LOSSES = {
    REGRESSION: (mean_squared_error_forward, mean_squared_error_backward),
    SINGLE_LABEL: (cross_entropy_forward, cross_entropy_backward),
    MULTI_LABEL: (binary_cross_entropy_forward, binary_cross_entropy_backward),
}


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


class LossCache(NamedTuple):
    problem_type: str
    function: object  # the loss function's own


class ClassifierCache(NamedTuple):
    dropout: object
    linear: object
    loss: LossCache


class MultipleChoiceCache(NamedTuple):
    classifier: ClassifierCache
    reshape: object
    loss: LossCache


class AnswerEndCache(NamedTuple):
    select: object
    unpack: object
    loss: LossCache


class QuestionAnsweringCache(NamedTuple):
    linear: object
    start: AnswerEndCache
    end: AnswerEndCache


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


def question_answering_shapes(config):
    """The names and shapes of the question answering head's parameters."""
    return {"weight": (NUM_ENDS, config.hidden_size), "bias": (NUM_ENDS,)}


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
    index = FIRST_TOKEN if run.packed is None else (run.packed.offsets[:-1],)
    first, select_cache = run.call("first_token", select_forward, x, index)
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
    rows, select_cache = run.call("labelled", select_forward, x, run.labelled)
    y, transform_cache = masked_lm_transform_forward(rows, parameters, run)
    loss, decoder_cache = run.call(
        "decoder",
        run.backend.linear_cross_entropy_forward,
        y,
        word_embeddings,
        parameters["bias"],
        labels[run.labelled],
    )
    return loss, MaskedLMLossCache(select_cache, transform_cache, decoder_cache)


def _masked_lm_loss_backward(dloss, cache, slots, into, run):
    """Backward pass of `_masked_lm_loss_forward`."""
    dy, *_ = run.call(
        "decoder", run.backend.linear_cross_entropy_backward, dloss, cache.decoder, into=into
    )
    drows = masked_lm_transform_backward(dy, cache.transform, slots, run)
    return run.call("labelled", select_backward, drows, cache.select)


def _loss_forward(logits, labels, run, problem_type=SINGLE_LABEL):
    """The loss where there are labels; (None, None) where there are not."""
    if labels is None:
        return None, None
    forward, _ = LOSSES[problem_type]
    loss, cache = run.call("loss", forward, logits, labels)
    return loss, LossCache(problem_type, cache)


def _loss_backward(dlogits, dloss, cache, run):
    """Add what the loss asks of the logits to what was asked of them directly; None for nothing."""
    if dloss is None:
        return dlogits
    _, backward = LOSSES[cache.problem_type]
    gradients = run.call("loss", backward, dloss, cache.function)
    # Labels that are numbers have a gradient too, of which nobody makes use.
    dlogits_by_loss = gradients[0] if isinstance(gradients, tuple) else gradients
    return add_gradients(dlogits, dlogits_by_loss)


def _classifier_dropout_prob(config):
    """The probability, which is that of the hidden states where it has none of its own."""
    if config.classifier_dropout_prob is None:
        return config.hidden_dropout_prob
    return config.classifier_dropout_prob


def classifier_forward(x, labels, parameters, run, problem_type=SINGLE_LABEL, packed=None):
    """Dropout and a linear map, from hidden states to one logit a label, and the loss.

    Parameters
    ----------
    x : array, shape (B, H) or (B, S, H)
        The pooled output; or every token's hidden state.
    labels : array, or None
        Of a single-label problem integers, of the shape of x but for its last axis; else numbers,
        of the shape of the logits.
    parameters : dict
        `classifier.weight`, of shape (num_labels, H), and `classifier.bias`.
    run : Run
    problem_type : str, optional
        Says which loss.
    packed : PackedBatch, optional
        Where the tokens lie, if x is of a packed batch's tokens.

    Returns
    -------
    logits : array, shape (B, num_labels) or (B, S, num_labels)
    loss : array, shape (), or None
        None without labels.
    cache : ClassifierCache
    """
    dropout_cache = None
    if dropout := run.dropout(_classifier_dropout_prob(run.config), CLASSIFIER_SITE, packed):
        x, dropout_cache = run.call("dropout", dropout_forward, x, dropout)
    logits, linear_cache = run.call(
        "classifier",
        run.backend.linear_forward,
        x,
        parameters["classifier.weight"],
        parameters["classifier.bias"],
    )
    loss, loss_cache = _loss_forward(logits, labels, run, problem_type)
    return logits, loss, ClassifierCache(dropout_cache, linear_cache, loss_cache)


def classifier_backward(dlogits, dloss, cache, slots, run):
    """Backward pass of `classifier_forward`.

    Parameters
    ----------
    dlogits : array, shape (B, num_labels) or (B, S, num_labels), or None
    dloss : array, shape (), or None
    cache : ClassifierCache
    slots : dict
        Gradients of the classifier's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, H) or (B, S, H), or None
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


def multiple_choice_forward(x, labels, num_choices, parameters, run):
    """One logit a choice, and the loss of picking one of each question's choices.

    Parameters
    ----------
    x : array, shape (B·C, H)
        The pooled outputs.
    labels : integer array, shape (B,), or None
    num_choices : int
        C.
    parameters : dict
        `classifier.weight`, of shape (1, H), and `classifier.bias`.
    run : Run

    Returns
    -------
    logits : array, shape (B, C)
    loss : array, shape (), or None
        None without labels.
    cache : MultipleChoiceCache
    """
    scores, _, classifier_cache = classifier_forward(x, None, parameters, run)
    logits, reshape_cache = run.call("reshape", reshape_forward, scores, (-1, num_choices))
    loss, loss_cache = _loss_forward(logits, labels, run)
    return logits, loss, MultipleChoiceCache(classifier_cache, reshape_cache, loss_cache)


def multiple_choice_backward(dlogits, dloss, cache, slots, run):
    """Backward pass of `multiple_choice_forward`.

    Parameters
    ----------
    dlogits : array, shape (B, C), or None
    dloss : array, shape (), or None
    cache : MultipleChoiceCache
    slots : dict
        Gradients of the classifier's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B·C, H), or None
        None where neither gradient was given.
    """
    dlogits = _loss_backward(dlogits, dloss, cache.loss, run)
    if dlogits is None:
        return None
    dscores = run.call("reshape", reshape_backward, dlogits, cache.reshape)
    return classifier_backward(dscores, None, cache.classifier, slots, run)


def question_answering_forward(x, start_positions, end_positions, parameters, run):
    """For each token a logit of being an answer's first and one of being its last, and the loss.

        loss = ½ (cross_entropy(start_logits, start) + cross_entropy(end_logits, end))

    Parameters
    ----------
    x : array, shape (B, S, H)
    start_positions, end_positions : integer array, shape (B,), or None
        Both or neither.
    parameters : dict
        `weight`, of shape (2, H), and `bias`.
    run : Run

    Returns
    -------
    start_logits, end_logits : array, shape (B, S)
        Of a packed batch too; 0 at the padding.
    loss : array, shape (), or None
        None without positions.
    cache : QuestionAnsweringCache
    """
    logits, linear_cache = run.call(
        "linear", run.backend.linear_forward, x, parameters["weight"], parameters["bias"]
    )
    start_logits, start_loss, start_cache = _answer_end_forward(
        logits, START, start_positions, run.within("start")
    )
    end_logits, end_loss, end_cache = _answer_end_forward(
        logits, END, end_positions, run.within("end")
    )
    loss = None
    if start_loss is not None:
        loss, _ = run.call("loss", average_forward, start_loss, end_loss)
    cache = QuestionAnsweringCache(linear_cache, start_cache, end_cache)
    return start_logits, end_logits, loss, cache


def question_answering_backward(dstart_logits, dend_logits, dloss, cache, slots, run):
    """Backward pass of `question_answering_forward`.

    Parameters
    ----------
    dstart_logits, dend_logits : array, shape (B, S), or None
    dloss : array, shape (), or None
    cache : QuestionAnsweringCache
    slots : dict
        Gradients of the head's parameters, added to in place.
    run : Run

    Returns
    -------
    dx : array, shape (B, S, H), or None
        None where no gradient was given.
    """
    dstart_loss = dend_loss = None
    if dloss is not None:
        dstart_loss, dend_loss = run.call("loss", average_backward, dloss, None)
    dlogits = add_gradients(
        _answer_end_backward(dend_logits, dend_loss, cache.end, run.within("end")),
        _answer_end_backward(dstart_logits, dstart_loss, cache.start, run.within("start")),
    )
    if dlogits is None:
        return None
    into = (slots["weight"], slots["bias"])
    dx, *_ = run.call("linear", run.backend.linear_backward, dlogits, cache.linear, into=into)
    return dx


def _answer_end_forward(logits, index, positions, run):
    """One end of the answers: its part of the logits, and its loss where there are positions.

    The softmax spans the columns of a padded batch, and the real tokens alone of a packed one.
    """
    of_tokens, select_cache = run.call("select", select_forward, logits, index)
    columns, unpack_cache = of_tokens, None
    if run.packed is not None:
        columns, unpack_cache = run.call("unpack", unpack_forward, of_tokens, run.packed, -np.inf)
    loss, loss_cache = _loss_forward(columns, positions, run)
    return run.unpacked(of_tokens), loss, AnswerEndCache(select_cache, unpack_cache, loss_cache)


def _answer_end_backward(dend_logits, dloss, cache, run):
    """Backward pass of `_answer_end_forward`; None for nothing."""
    dend_logits = _loss_backward(dend_logits, dloss, cache.loss, run)
    if dend_logits is None:
        return None
    if run.packed is not None:
        dend_logits = run.call("unpack", unpack_backward, dend_logits, cache.unpack)
    return run.call("select", select_backward, dend_logits, cache.select)
