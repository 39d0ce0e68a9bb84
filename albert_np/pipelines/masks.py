"""Filling in masked words."""

import numpy as np

from albert_np.functions.softmax import softmax_forward
from albert_np.models import AlbertForMaskedLM, AlbertForPreTraining
from albert_np.pipelines.batches import (
    check_integer,
    check_length,
    check_model,
    predict,
    row_of,
    shown,
)

# The output that holds the scores of the vocabulary's words.
WORD_LOGITS = {AlbertForMaskedLM: "logits", AlbertForPreTraining: "prediction_logits"}


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

    Examples
    --------
    >>> from albert_np import AlbertForMaskedLM, AlbertTokenizer
    >>> from albert_np.pipelines import fill_mask
    >>> tokenizer = AlbertTokenizer.from_pretrained("tiny")
    >>> model = AlbertForMaskedLM.from_pretrained("tiny")
    >>> prompt = "Plants create [MASK] through a process known as photosynthesis."
    >>> words = fill_mask(model, tokenizer, prompt, top_k=5)
    >>> len(words)
    5

    The small model that ships knows nothing of plants, but something of capitals:

    >>> (word,) = fill_mask(model, tokenizer, "The capital of [MASK] is Paris.", top_k=1)
    >>> word["sequence"]
    'the capital of france is paris.'
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
    check_model(model, *WORD_LOGITS)
    check_integer("top_k", top_k, 1, model.config.vocab_size, " (vocab_size)")
    encoding = tokenizer(texts)
    rows = [row_of(encoding, place) for place in range(len(texts))]
    for place, (text, row) in enumerate(zip(texts, rows, strict=True)):
        _check_mask(f"texts[{place}]", text, row, tokenizer)
        check_length(f"texts[{place}]", row, model)
    name = next(name for kind, name in WORD_LOGITS.items() if isinstance(model, kind))
    predictions = predict(model, tokenizer, rows, name)
    return (
        _predict_row(np.array(row["input_ids"]), logits, tokenizer, top_k)
        for row, (logits,) in zip(rows, predictions, strict=True)
    )


def _predict_row(ids, logits, tokenizer, top_k):
    """The words of each mask of one text: ids of shape (S,), logits of (S, V) or longer."""
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
    ids = ids[ids != tokenizer.pad_token_id]  # which the text itself may spell
    return tokenizer.decode(ids, skip_special_tokens=only_mask)


def _check_mask(name, text, row, tokenizer):
    if tokenizer.mask_token_id not in row["input_ids"]:
        raise ValueError(f"{name} has no {tokenizer.mask_token}: {shown(text)}")
