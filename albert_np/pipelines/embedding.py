"""A vector for each text."""

import numpy as np

from albert_np.models import AlbertModel
from albert_np.pipelines.batches import check_length, check_model, check_texts, predict, row_of

POOLINGS = ("cls", "mean")


def embed(model, tokenizer, texts, pooling="cls"):
    """Turn texts into vectors, of what the last layer makes of their tokens.

    Parameters
    ----------
    model : AlbertModel
    tokenizer : AlbertTokenizer or AlbertTokenizerFast
        The model's.
    texts : str or list of str
    pooling : {"cls", "mean"}, optional
        The last hidden state of `[CLS]`, or the mean over the text's tokens, `[CLS]` and `[SEP]`
        among them and padding not.

    Returns
    -------
    array, shape (H,), or (texts, H) for a list
        Of the model's dtype.

    Raises
    ------
    TypeError
        If the model has a head, or an argument is of the wrong type.
    ValueError
        If there are no texts, one is empty or has too many tokens, or there is no such pooling.

    Notes
    -----
    Hugging Face's `FeatureExtractionPipeline` gives all tokens of a text, 1 × S × H as nested
    lists. `cls` is its `[0][0]`, `mean` the mean of its `[0]`.
    """
    several = not isinstance(texts, str)
    vectors = predict_embeddings(model, tokenizer, texts if several else [texts], pooling)
    return np.stack(list(vectors)) if several else next(vectors)


def predict_embeddings(model, tokenizer, texts, pooling="cls"):
    """Turn texts into vectors, text by text.

    Parameters
    ----------
    model, tokenizer, pooling
        As for `embed`.
    texts : list of str

    Returns
    -------
    iterator of array, shape (H,)
        The arguments are checked at once; the model runs as results are taken.

    Raises
    ------
    TypeError, ValueError
        As for `embed`.
    """
    check_model(model, AlbertModel)
    check_texts("texts", texts)
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}; expected one of {', '.join(POOLINGS)}")
    encoding = tokenizer(texts)
    rows = [row_of(encoding, place) for place in range(len(texts))]
    for place, row in enumerate(rows):
        check_length(f"texts[{place}]", row, model)
    predictions = predict(model, tokenizer, rows, "last_hidden_state")
    return (
        pooled(hidden_states[: len(row["input_ids"])], pooling)
        for row, (hidden_states,) in zip(rows, predictions, strict=True)
    )


def pooled(hidden_states, pooling):
    """One vector, of shape (H,), of a text's hidden states, of shape (S, H)."""
    return hidden_states[0] if pooling == "cls" else hidden_states.mean(axis=0)
