"""From sentences and documents to the batches that models learn from."""

import re

import numpy as np

from albert_np.functions.cross_entropy import IGNORE_INDEX
from albert_np.training.masking import MASKED_SHARE, mask_ngrams, pieces_of
from albert_np.training.sentence_order import segment_pair


def sentence_batches(sentences, tokenizer, batch_size, max_length, rng, masked_share=MASKED_SHARE):
    """Endless batches of masked sentences, one a sequence, for `AlbertForMaskedLM`.

    Parameters
    ----------
    sentences : iterator of str
        Without an end.
    tokenizer : AlbertTokenizer
    batch_size : int
    max_length : int
        The most tokens of a sequence, special ones included; longer ones are cut.
    rng : numpy.random.Generator
    masked_share : float, optional
        Of the ordinary tokens.

    Yields
    ------
    dict of str to array
        input_ids, token_type_ids, attention_mask and labels, shape (B, S).
    """
    pieces = pieces_of(tokenizer)
    while True:
        texts = [(next(sentences),) for _ in range(batch_size)]
        yield _masked_batch(texts, tokenizer, pieces, max_length, rng, masked_share)


def document_batches(documents, tokenizer, batch_size, max_length, rng, masked_share=MASKED_SHARE):
    """Endless batches of masked segment pairs, for `AlbertForPreTraining`.

    A document of one sentence becomes a single text without a sentence-order label; every batch
    has a pair among its sequences.

    Parameters
    ----------
    documents : iterator of list of str
        Without an end, and not only of one sentence.
    tokenizer, batch_size, max_length, rng, masked_share
        As for `sentence_batches`.

    Yields
    ------
    dict of str to array
        As `sentence_batches`, and sentence_order_label, shape (B,).
    """
    pieces = pieces_of(tokenizer)
    while True:
        drawn = [next(documents) for _ in range(batch_size)]
        while all(len(document) == 1 for document in drawn):
            drawn[-1] = next(documents)
        pairs = [_segments(document, rng) for document in drawn]
        texts = [texts for *texts, _ in pairs]
        batch = _masked_batch(texts, tokenizer, pieces, max_length, rng, masked_share)
        yield batch | {"sentence_order_label": np.array([label for *_, label in pairs])}


def _segments(document, rng):
    """The two segments of a document and their label, or its only sentence and no label."""
    return segment_pair(document, rng) if len(document) > 1 else (document[0], IGNORE_INDEX)


def _masked_batch(rows, tokenizer, pieces, max_length, rng, masked_share):
    """A batch of rows of one text or two, masked."""
    encodings = [
        tokenizer(*(_respaced(text, rng) for text in row), truncation=True, max_length=max_length)
        for row in rows
    ]
    batch = pad(encodings, tokenizer.pad_token_id)
    batch["input_ids"], batch["labels"] = mask_ngrams(batch["input_ids"], pieces, rng, masked_share)
    return batch


def _respaced(text, rng):
    """The text, half of the time with a space before each mark of punctuation that ends a word.

    In "Paris is in [MASK]." the full stop follows a special token, so the tokenizer takes it for
    the start of a text of its own and puts a space before it. Masking ids, as training does, makes
    no such space; asking by text always does.
    """
    return re.sub(r"(?<=\w)([.,;:!?])(?!\w)", r" \1", text) if rng.random() < 0.5 else text


def pad(encodings, pad_token_id):
    """Several encodings as one batch.

    Parameters
    ----------
    encodings : list of dict of str to list of int
        What a tokenizer returns for one text or one pair.
    pad_token_id : int

    Returns
    -------
    dict of str to array
        input_ids, token_type_ids and attention_mask, shape (B, S), S the length of the longest.
    """
    length = max(len(encoding["input_ids"]) for encoding in encodings)
    fill = {"input_ids": pad_token_id, "token_type_ids": 0, "attention_mask": 0}
    return {
        name: np.array(
            [encoding[name] + [value] * (length - len(encoding[name])) for encoding in encodings]
        )
        for name, value in fill.items()
    }
