"""Batches to measure with: random words, and real text padded to its longest sentence."""

from typing import NamedTuple

import numpy as np

from albert_np import AlbertTokenizer

LABELLED = 0.15
SENTENCES = 32
IGNORED = -100


class Batch(NamedTuple):
    """`arrays`: input_ids, labels and, where there is padding, attention_mask, of shape (B, S);
    `lengths` of the sequences without padding; `text`, of which file and vocabulary, or None."""

    arrays: dict
    lengths: list
    text: dict = None

    @property
    def shape(self):
        return self.arrays["input_ids"].shape

    @property
    def case(self):
        """Its sizes, for the results."""
        batch_size, sequence_length = self.shape
        return {
            "batch_size": batch_size,
            "sequence_length": sequence_length,
            "tokens": sum(self.lengths),
            "text": self.text,
        }

    @property
    def labelled(self):
        """How many positions are labelled."""
        return int((self.arrays["labels"] != IGNORED).sum())


def random_batch(config, batch_size, sequence_length, seed=0):
    """Random words, of which some are to be predicted, without padding.

    Parameters
    ----------
    config : AlbertConfig
    batch_size, sequence_length : int
    seed : int, optional

    Returns
    -------
    Batch
    """
    generator = np.random.default_rng(seed)
    shape = (batch_size, sequence_length)
    words = generator.integers(config.pad_token_id + 1, config.vocab_size, shape)
    labels = with_labels(words, np.ones(shape, bool), generator)
    return Batch({"input_ids": words, "labels": labels}, [sequence_length] * batch_size)


def with_labels(words, is_real, generator):
    """Labels for LABELLED of the real positions: the words that stand there."""
    places = np.flatnonzero(is_real)
    chosen = generator.permutation(places)[: max(1, round(LABELLED * len(places)))]
    labels = np.full(words.shape, IGNORED)
    labels.flat[chosen] = words.flat[chosen]
    return labels


def text_batch(config, path, vocabulary, seed=0):
    """The first SENTENCES lines of a file, or as many as it has, padded to the longest.

    Parameters
    ----------
    config : AlbertConfig
    path : Path
        UTF-8, a sentence a line; empty lines are passed over.
    vocabulary : Path or None
        A SentencePiece vocabulary; None for that of the model that ships.
    seed : int, optional
        Draws the labelled positions.

    Returns
    -------
    Batch

    Raises
    ------
    OSError, ValueError
        If a file cannot be read, has no text, or is no vocabulary of the model's size.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"--lengths: {path} is not UTF-8: {error}") from error
    sentences = [line for line in lines if line.strip()][:SENTENCES]
    if not sentences:
        raise ValueError(f"--lengths: {path} has no sentence")
    if vocabulary is None:
        tokenizer = AlbertTokenizer.from_pretrained("tiny")
    else:
        tokenizer = AlbertTokenizer(str(vocabulary))
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"--vocabulary has {len(tokenizer)} pieces; the model's vocab_size is "
            f"{config.vocab_size}"
        )
    encoded = tokenizer(
        sentences,
        padding=True,
        truncation=True,
        max_length=config.max_position_embeddings,
        return_tensors="np",
    )
    words, is_real = encoded["input_ids"], encoded["attention_mask"].astype(bool)
    arrays = {
        "input_ids": words,
        "attention_mask": encoded["attention_mask"],
        "labels": with_labels(words, is_real, np.random.default_rng(seed)),
    }
    name = "the tiny model's" if vocabulary is None else vocabulary.name
    return Batch(arrays, is_real.sum(axis=1).tolist(), {"file": path.name, "vocabulary": name})
