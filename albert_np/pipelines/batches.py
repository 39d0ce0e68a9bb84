"""Rows of tokens through a model, in batches; and what pipelines check of their arguments."""

import textwrap
from numbers import Integral

import numpy as np

# Rows that run through the model together: enough to keep it busy, few enough for the logits of
# words, (B, S, V), to fit.
BATCH_SIZE = 8

# What a tokenizer gives for a row, and a model takes.
INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def predict(model, tokenizer, rows, *names):
    """Run rows through a model, in batches.

    Parameters
    ----------
    model : AlbertPreTrainedModel
    tokenizer : AlbertTokenizer or AlbertTokenizerFast
        Says what padding is.
    rows : list of dict
        Each with the `INPUTS` of one row, lists of S numbers.
    *names : str
        Of the outputs to give.

    Yields
    ------
    tuple of array
        For each row, the outputs without their batch axis. Those of tokens are longer than the row
        where another row of its batch is: what stands after it belongs to padding.
    """
    for start in range(0, len(rows), BATCH_SIZE):
        batch = padded_batch(rows[start : start + BATCH_SIZE], tokenizer.pad_token_id)
        outputs = model(**batch, return_dict=True)
        downloaded = model.backend.arrays.downloaded
        yield from zip(*(downloaded(outputs[name]) for name in names), strict=True)


def padded_batch(rows, pad_token_id):
    """The inputs of a model, arrays of shape (B, S): rows, filled up at their ends.

    Padding has the token `pad_token_id`, the token type 0, and 0 in the attention mask.
    """
    shape = len(rows), max(len(row["input_ids"]) for row in rows)
    batch = {}
    for name in INPUTS:
        batch[name] = np.full(shape, pad_token_id if name == "input_ids" else 0)
        for place, row in enumerate(rows):
            batch[name][place, : len(row[name])] = row[name]
    return batch


def row_of(encoding, place):
    """One row of what a tokenizer gives for a batch."""
    return {name: encoding[name][place] for name in INPUTS}


# ------------------------------------------------------------------------ checks at the door


def check_model(model, *classes):
    """Refuse a model that lacks the head."""
    if not isinstance(model, classes):
        expected = " or ".join(one.__name__ for one in classes)
        raise TypeError(f"model is of type {type(model).__name__}; expected {expected}")


def check_offsets(tokenizer):
    """Refuse a tokenizer that does not know where in the text its tokens stand."""
    if not getattr(tokenizer, "is_fast", False):
        raise TypeError(
            f"tokenizer is of type {type(tokenizer).__name__}; expected AlbertTokenizerFast, "
            "which knows where in the text its tokens stand"
        )


def check_texts(name, texts):
    """Refuse anything but a list of texts that hold something."""
    if not isinstance(texts, list | tuple):
        raise TypeError(f"{name} is of type {type(texts).__name__}; expected str or a list of str")
    if not texts:
        raise ValueError(f"{name} is empty; expected at least one text")
    for place, text in enumerate(texts):
        check_text(f"{name}[{place}]", text)


def check_text(name, text):
    """Refuse anything but a text that holds something."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected str")
    if not text.strip():
        raise ValueError(f"{name} is empty: {shown(text)}")


def check_integer(name, value, least, most=None, why=""):
    """Refuse anything but an integer of least to most."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"{least} to {most}{why}"
        raise ValueError(f"{name} is {value}; expected {expected}")


def check_length(name, row, model):
    """Refuse a row that is longer than the model's longest sequence."""
    length, longest = len(row["input_ids"]), model.config.max_position_embeddings
    if length > longest:
        raise ValueError(f"{name} has {length} tokens; max_position_embeddings is {longest}")


def longest_row(model, tokenizer):
    """The tokens that a row may have, special ones included."""
    return min(tokenizer.model_max_length, model.config.max_position_embeddings)


def labels_of(config):
    """The names of a model's labels, in the order of their logits."""
    missing = [index for index in range(config.num_labels) if index not in config.id2label]
    if missing:
        raise ValueError(
            f"config.id2label lacks {', '.join(map(str, missing))}; "
            f"expected a name for each of {config.num_labels} labels"
        )
    return [config.id2label[index] for index in range(config.num_labels)]


def shown(text):
    """A text, to be named in a message."""
    return repr(textwrap.shorten(text, 60, placeholder=" …"))
