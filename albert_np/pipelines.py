"""From text to answers: a model and its tokenizer at work. So far: filling in masked words."""

import textwrap
from numbers import Integral

import numpy as np

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForMaskedLM, AlbertForPreTraining

# The output that holds the scores of the vocabulary's words.
WORD_LOGITS = {AlbertForMaskedLM: "logits", AlbertForPreTraining: "prediction_logits"}

# Texts that run through the model together: enough to keep it busy, few enough for the logits,
# (B, S, V), to fit.
BATCH_SIZE = 8


def fill_mask(model, tokenizer, texts, top_k=5):
    """Fill in the masked words of texts.

    Each mask is filled on its own: the scores of several masks are not those of their words
    together.

    Parameters
    ----------
    model : AlbertForMaskedLM or AlbertForPreTraining
    tokenizer : AlbertTokenizer
        The model's.
    texts : str or list of str
        Each with one mask token ([MASK]) or more.
    top_k : int
        How many words to give for each mask, the most probable first.

    Returns
    -------
    list
        Of a text with one mask, top_k dictionaries: `score`, the word's probability; `token`, its
        id; `token_str`, the word; `sequence`, the text with the word filled in. Of a text with
        several masks, such a list for each mask, and in its sequences the special tokens stay, as
        the other masks do. Of several texts, the list of what each gives; of a list of one text,
        what that text gives.

    Raises
    ------
    TypeError
        If the model cannot fill masks, or an argument is of the wrong type.
    ValueError
        If there are no texts, a text has no mask or too many tokens, or top_k is out of range.

    Notes
    -----
    The results are shaped as those of Hugging Face's `FillMaskPipeline`.
    """
    several = not isinstance(texts, str)
    results = [
        masks[0] if len(masks) == 1 else masks
        for masks in predict_masks(model, tokenizer, texts if several else [texts], top_k)
    ]
    return results if several and len(results) > 1 else results[0]


def predict_masks(model, tokenizer, texts, top_k=5):
    """Fill in masked words, text by text, in one shape whatever the number of masks and texts.

    Parameters
    ----------
    model, tokenizer, top_k
        As for `fill_mask`.
    texts : list of str

    Returns
    -------
    iterator of list of list of dict
        For each text, for each of its masks, the top_k words as `fill_mask` gives them. The
        arguments are checked at once; the model runs as results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `fill_mask`.
    """
    logits_name = _word_logits_name(model)
    _check_top_k(top_k, model.config.vocab_size)
    rows = tokenizer(texts).input_ids
    for place, (text, ids) in enumerate(zip(texts, rows, strict=True)):
        _check_row(f"texts[{place}]", text, ids, tokenizer, model.config.max_position_embeddings)
    starts = range(0, len(texts), BATCH_SIZE)
    return (
        masks
        for start in starts
        for masks in _predict_batch(
            model, logits_name, tokenizer, texts[start : start + BATCH_SIZE], top_k
        )
    )


def _predict_batch(model, logits_name, tokenizer, texts, top_k):
    """The results of texts that run through the model together."""
    inputs = tokenizer(texts, padding=True, return_tensors="np")
    logits = model(**inputs)[logits_name]
    for ids, row in zip(inputs.input_ids, logits, strict=True):
        yield _predict_row(ids, row, tokenizer, top_k)


def _predict_row(ids, logits, tokenizer, top_k):
    """The words of each mask of one text: ids of shape (S,), logits of (S, V)."""
    (places,) = (ids == tokenizer.mask_token_id).nonzero()
    scores, _ = softmax_forward(logits[places])
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    return [
        [
            {
                "score": float(score[token]),
                "token": int(token),
                "token_str": tokenizer.decode([token]),
                "sequence": _filled(ids, place, token, tokenizer, only_mask=len(places) == 1),
            }
            for token in tokens
        ]
        for place, score, tokens in zip(places, scores, best, strict=True)
    ]


def _filled(ids, place, token, tokenizer, only_mask):
    """The text with one mask filled in, without padding; special tokens stay for other masks."""
    ids = ids.copy()
    ids[place] = token
    ids = ids[ids != tokenizer.pad_token_id]
    return tokenizer.decode(ids, skip_special_tokens=only_mask)


def _word_logits_name(model):
    for model_class, name in WORD_LOGITS.items():
        if isinstance(model, model_class):
            return name
    expected = " or ".join(model_class.__name__ for model_class in WORD_LOGITS)
    raise TypeError(f"model is of type {type(model).__name__}; expected {expected}")


def _check_top_k(top_k, vocab_size):
    if not isinstance(top_k, Integral) or isinstance(top_k, bool):
        raise TypeError(f"top_k is {top_k!r}; expected an integer")
    if not 1 <= top_k <= vocab_size:
        raise ValueError(f"top_k is {top_k}; expected 1 to {vocab_size} (vocab_size)")


def _check_row(name, text, ids, tokenizer, max_length):
    if tokenizer.mask_token_id not in ids:
        shown = textwrap.shorten(text, 60, placeholder=" …")
        raise ValueError(f"{name} has no {tokenizer.mask_token}: {shown!r}")
    if len(ids) > max_length:
        raise ValueError(f"{name} has {len(ids)} tokens; max_position_embeddings is {max_length}")
