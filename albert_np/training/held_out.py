"""How much of the closed world a model knows, on sentences that it was not trained on."""

import numpy as np

from albert_np.training.batches import pad
from albert_np.training.corpus import documents, pairings, unique_blanks
from albert_np.training.sentence_order import segment_pair

BATCH_SIZE = 128


def held_out_accuracy(model, tokenizer):
    """The share of blanks in held-out sentences that the model fills in right.

    Each content word (a filler of a slot) that the rest of its sentence determines is replaced by
    mask tokens, one for each of its pieces, in the text that is then tokenized. It is right if
    the most probable piece is the true one at each of them.

    Parameters
    ----------
    model : AlbertForPreTraining
    tokenizer : AlbertTokenizer

    Returns
    -------
    float
    """
    blanks = list(unique_blanks(pairings(held_out=True)))
    right = [
        hit
        for start in range(0, len(blanks), BATCH_SIZE)
        for hit in _hits(model, tokenizer, blanks[start : start + BATCH_SIZE])
    ]
    return float(np.mean(right))


def _hits(model, tokenizer, blanks):
    """Whether each blank is filled in right: list of bool."""
    fillers = [
        tokenizer(pairing.fillers[slot], add_special_tokens=False)["input_ids"]
        for pairing, slot in blanks
    ]
    encodings = [
        tokenizer(pairing.with_slot_as(slot, " ".join([tokenizer.mask_token] * len(filler))))
        for (pairing, slot), filler in zip(blanks, fillers, strict=True)
    ]
    batch = pad(encodings, tokenizer.pad_token_id)
    best = model(**batch).prediction_logits.argmax(axis=-1)  # (B, S)
    masked = batch["input_ids"] == tokenizer.mask_token_id
    return [
        ids[mask].tolist() == filler
        for ids, mask, filler in zip(best, masked, fillers, strict=True)
    ]


def sentence_order_accuracy(model, tokenizer, count=4000, seed=0):
    """The share of document halves of which the model knows whether they were swapped.

    Parameters
    ----------
    model : AlbertForPreTraining
    tokenizer : AlbertTokenizer
    count : int, optional
        Documents, made of held-out sentences only.
    seed : int, optional

    Returns
    -------
    float
    """
    rng = np.random.default_rng(seed)
    source = documents(pairings(held_out=True), rng)
    pairs = [segment_pair(next(source), rng) for _ in range(count)]
    right = [
        hit
        for start in range(0, count, BATCH_SIZE)
        for hit in _orders_right(model, tokenizer, pairs[start : start + BATCH_SIZE])
    ]
    return float(np.mean(right))


def _orders_right(model, tokenizer, pairs):
    """Whether the order of each pair of segments is told right: bool array, shape (B,)."""
    batch = pad([tokenizer(first, second) for first, second, _ in pairs], tokenizer.pad_token_id)
    labels = np.array([label for *_, label in pairs])
    return model(**batch).sop_logits.argmax(axis=-1) == labels
