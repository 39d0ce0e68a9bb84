"""What a tokenizer's call returns."""

import numpy as np


class BatchEncoding(dict):
    """What a tokenizer's call returns: a dictionary whose values are attributes too.

    Parameters
    ----------
    data : dict
        Name → list, list of lists, or array.
    encodings : list of tokenizers.Encoding, optional
        One a row; the fast tokenizer's. The methods below read them.

    Notes
    -----
    Follows `BatchEncoding` of Hugging Face's documentation.
    """

    def __init__(self, data, encodings=None):
        super().__init__(data)
        self.encodings = encodings

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the encoding has no {name}; it has {', '.join(self)}") from None

    def tokens(self, batch_index=0):
        """The tokens of a row, with the special ones."""
        return self._row("tokens", batch_index).tokens

    def word_ids(self, batch_index=0):
        """For each token of a row the number of its word; None for a special token."""
        return self._row("word_ids", batch_index).word_ids

    def sequence_ids(self, batch_index=0):
        """For each token of a row 0 or 1, the text that it comes from; None for a special token."""
        return self._row("sequence_ids", batch_index).sequence_ids

    def char_to_token(self, batch_or_char_index, char_index=None, sequence_index=0):
        """The place, in its row, of the token that holds a character.

        Parameters
        ----------
        batch_or_char_index : int
            The row; of a single row, the character.
        char_index : int, optional
            The character's place in its text (or, in a text given as words, in its word).
        sequence_index : int
            0 for the first text of a pair, 1 for the second.

        Returns
        -------
        int or None
            None if no token holds it, such as a space that was dropped.
        """
        if char_index is None:
            batch_or_char_index, char_index = 0, batch_or_char_index
        row = self._row("char_to_token", batch_or_char_index)
        return row.char_to_token(char_index, sequence_index)

    def _row(self, method, batch_index):
        if self.encodings is None:
            raise ValueError(f"{method} needs the encoding of an AlbertTokenizerFast")
        return self.encodings[batch_index]


def as_arrays(encoding):
    """An encoding's lists as int64 arrays.

    Raises
    ------
    ValueError
        If rows are of unequal length.
    """
    return {name: _array(name, values) for name, values in encoding.items()}


def _array(name, values):
    lengths = {len(value) for value in values if isinstance(value, list | np.ndarray)}
    if len(lengths) > 1:
        raise ValueError(
            f"the rows of {name} have {min(lengths)} to {max(lengths)} tokens; "
            "one array needs padding, or truncation as well"
        )
    return np.array(values, dtype=np.int64)
