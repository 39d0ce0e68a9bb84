"""Checks at the door: each raises before any work is done, and names what is wrong."""

from collections.abc import Mapping
from numbers import Integral
from typing import NamedTuple

import numpy as np

from albert_np.tokenization.added_tokens import AddedToken

SAMPLING = (
    "enable_sampling", "nbest_size", "alpha", "add_bos", "add_eos", "reverse", "emit_unk_piece",
    "num_threads",
)  # fmt: skip


# ---------------------------------------------------------------------- texts


class TokenIds(list):
    """Ids in the place of a text."""


class Rows(NamedTuple):
    """The texts of a call.

    Attributes
    ----------
    texts : list of (text, second text or None)
        A text is a str, a list of words, or `TokenIds`.
    is_batch : bool
        Whether a batch was given, even if it is of one row.
    are_words : bool
    """

    texts: list
    is_batch: bool
    are_words: bool


def check_text(name, text):
    if not isinstance(text, str):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds the lone surrogate U+{ord(text[error.start]):04X} at position "
            f"{error.start}; expected whole characters"
        ) from None


def check_words(name, words):
    if not isinstance(words, list | tuple):
        raise TypeError(
            f"{name} is of type {type(words).__name__}; "
            "expected a list of words, as is_split_into_words is True"
        )
    for place, word in enumerate(words):
        check_text(f"{name}[{place}]", word)


def checked_rows(text, text_pair, is_split_into_words):
    """The `Rows` of a call."""
    if isinstance(text, TokenIds):
        return Rows([(text, text_pair)], False, False)
    check, form = (check_words, "lists of words") if is_split_into_words else (check_text, "str")
    if not isinstance(text, str | list | tuple):
        raise TypeError(f"text is of type {type(text).__name__}; expected str or a list of {form}")
    if not _is_batch(text, is_split_into_words):
        check("text", text)
        if text_pair is not None:
            check("text_pair", text_pair)
        return Rows([(text, text_pair)], False, is_split_into_words)
    if not isinstance(text_pair, list | tuple | None):
        raise TypeError(
            f"text_pair is of type {type(text_pair).__name__}; "
            f"expected a list of {form}, as text is a batch"
        )
    if text_pair is not None and len(text) != len(text_pair):
        raise ValueError(f"text has {len(text)} rows; text_pair has {len(text_pair)}")
    if not text:
        raise ValueError("text is an empty batch; expected at least one text")
    for name, texts in (("text", text), ("text_pair", text_pair or [])):
        for place, one in enumerate(texts):
            check(f"{name}[{place}]", one)
    texts = list(zip(text, text_pair or [None] * len(text), strict=True))
    return Rows(texts, True, is_split_into_words)


def _is_batch(text, is_split_into_words):
    if is_split_into_words:
        return any(isinstance(one, list | tuple) for one in text)
    return not isinstance(text, str)


# ---------------------------------------------------------------------- settings


def checked_choice(name, value, choices):
    if not isinstance(value, bool | str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return choices[value]


def checked_bool(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected True or False")
    return value


def checked_length(name, value, least=1):
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")
    return int(value)


def checked_sampling(sp_model_kwargs):
    """What SentencePiece's processor is made with beside the vocabulary, as a dictionary."""
    if not isinstance(sp_model_kwargs, Mapping | None):
        raise TypeError(f"sp_model_kwargs is {sp_model_kwargs!r}; expected a dictionary")
    for name in sp_model_kwargs or ():
        if name not in SAMPLING:
            raise ValueError(
                f"sp_model_kwargs holds {name!r}; expected some of {', '.join(SAMPLING)}"
            )
    return dict(sp_model_kwargs or {})


def checked_token(name, value):
    """A token as it was given: a str, or an AddedToken; a dictionary describes the latter."""
    if isinstance(value, Mapping):
        known = AddedToken.__dataclass_fields__
        value = AddedToken(
            **{"content": None} | {field: value[field] for field in known if field in value}
        )
    content = value.content if isinstance(value, AddedToken) else value
    check_text(name, content)
    if not content:
        raise ValueError(f"{name} is empty; expected a token")
    return value


def checked_tokens(name, values):
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} is of type {type(values).__name__}; expected a list of tokens")
    return [checked_token(f"{name}[{place}]", value) for place, value in enumerate(values)]


# ---------------------------------------------------------------------- ids and encodings


def checked_id(name, index, count):
    if not isinstance(index, Integral):
        raise TypeError(f"{name} is of type {type(index).__name__}; expected an integer")
    if not 0 <= index < count:
        raise ValueError(f"{name} is {index}; the tokenizer's ids are 0 to {count - 1}")
    return int(index)


def checked_encodings(encoded_inputs):
    """Encodings in any form that `pad` takes, as rows.

    Returns
    -------
    rows : dict of str to list
        Name → one list of int a row (or one int).
    is_batch, holds_arrays : bool
    """
    if isinstance(encoded_inputs, list | tuple) and encoded_inputs:
        for place, row in enumerate(encoded_inputs):
            _check_encoding(f"encoded_inputs[{place}]", row)
            if set(row) != set(encoded_inputs[0]):
                raise ValueError(
                    f"encoded_inputs[{place}] holds {', '.join(row)}; "
                    f"expected {', '.join(encoded_inputs[0])}, as encoded_inputs[0]"
                )
        encoded_inputs = {name: [row[name] for row in encoded_inputs] for name in encoded_inputs[0]}
    _check_encoding("encoded_inputs", encoded_inputs)
    input_ids = encoded_inputs["input_ids"]
    first = input_ids[0] if len(input_ids) else None
    is_batch = isinstance(first, list | tuple | np.ndarray)
    holds_arrays = isinstance(input_ids, np.ndarray) or isinstance(first, np.ndarray)
    rows = {name: _as_lists(values) for name, values in encoded_inputs.items()}
    if not is_batch:
        rows = {name: [values] for name, values in rows.items()}
    for name, values in rows.items():
        if len(values) != len(rows["input_ids"]):
            raise ValueError(
                f"{name} has {len(values)} rows; input_ids has {len(rows['input_ids'])}"
            )
    return rows, is_batch, holds_arrays


def _check_encoding(name, encoding):
    if not isinstance(encoding, Mapping):
        raise TypeError(f"{name} is of type {type(encoding).__name__}; expected an encoding")
    if "input_ids" not in encoding:
        raise ValueError(f"{name} holds {', '.join(encoding)}; expected input_ids")


def _as_lists(values):
    if isinstance(values, list | tuple):
        return [_as_lists(value) for value in values]
    return values.tolist() if isinstance(values, np.ndarray | np.generic) else values
