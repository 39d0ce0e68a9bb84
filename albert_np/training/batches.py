"""From documents to the batches that `AlbertForPreTraining` learns from."""

import re

import numpy as np

from albert_np.functions.cross_entropy import IGNORE_INDEX
from albert_np.training.masking import mask_ngrams, pieces_of
from albert_np.training.sentence_order import segment_pair


def batches(documents, tokenizer, batch_size, max_length, rng):
    """Endless batches of masked segment pairs.

    A document of one sentence becomes a single text without a sentence-order label, as users type
    it.

    Parameters
    ----------
    documents : iterator of list of str
        Without an end.
    tokenizer : AlbertTokenizer
    batch_size : int
    max_length : int
        The most tokens of a sequence, special ones included; longer ones are cut.
    rng : numpy.random.Generator

    Yields
    ------
    dict of str to array
        input_ids, token_type_ids, attention_mask and labels, shape (B, S), and
        sentence_order_label, shape (B,).
    """
    pieces = pieces_of(tokenizer)
    while True:
        rows = [_encode(next(documents), tokenizer, max_length, rng) for _ in range(batch_size)]
        encodings, sentence_order_label = zip(*rows, strict=True)
        batch = pad(encodings, tokenizer.pad_token_id)
        batch["input_ids"], batch["labels"] = mask_ngrams(batch["input_ids"], pieces, rng)
        batch["sentence_order_label"] = np.array(sentence_order_label)
        yield batch


def _encode(document, tokenizer, max_length, rng):
    """The encoding of a document, and its sentence-order label."""
    if len(document) > 1:
        first, second, label = segment_pair(document, rng)
        texts = _respaced(first, rng), _respaced(second, rng)
    else:
        texts, label = (_respaced(document[0], rng),), IGNORE_INDEX
    return tokenizer(*texts, truncation=True, max_length=max_length), label


def _respaced(text, rng):
    """The text, half of the time with a space before each mark of punctuation.

    In "Paris is in [MASK]." the full stop follows a special token, so the tokenizer takes it for
    the start of a text of its own and puts a space before it. Who trains on masked ids alone never
    sees that space, and who asks by text always does.
    """
    return re.sub(r"(?<=\w)([.,;:!?])", r" \1", text) if rng.random() < 0.5 else text


def pad(encodings, pad_token_id):
    """Encodings of one text each as arrays of shape (B, S), S the length of the longest."""
    length = max(len(encoding["input_ids"]) for encoding in encodings)
    fill = {"input_ids": pad_token_id, "token_type_ids": 0, "attention_mask": 0}
    return {
        name: np.array(
            [encoding[name] + [value] * (length - len(encoding[name])) for encoding in encodings]
        )
        for name, value in fill.items()
    }
