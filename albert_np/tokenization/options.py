"""The options of a tokenizer's call: what each may be, and what it is where it is not given."""

from typing import NamedTuple

from albert_np.tokenization.checks import checked_choice, checked_length

# Hugging Face stores "no limit" as 1e30, and takes any length above 1e20 for it.
NO_LIMIT = int(1e30)
LARGEST_LIMIT = int(1e20)

SIDES = {"right": "right", "left": "left"}
PADDING = {False: None, "do_not_pad": None, True: "longest", "longest": "longest",
           "max_length": "max_length"}  # fmt: skip
TRUNCATION = {False: None, "do_not_truncate": None, True: "longest_first",
              "longest_first": "longest_first", "only_first": "only_first",
              "only_second": "only_second"}  # fmt: skip


class Padding(NamedTuple):
    """How rows are padded.

    Attributes
    ----------
    strategy : {None, "longest", "max_length"}
    max_length : int or None
    multiple_of : int or None
        The length is rounded up to a multiple of this.
    side : {"right", "left"}
    """

    strategy: str
    max_length: int
    multiple_of: int
    side: str

    def length_for(self, lengths):
        """The length that rows of these lengths are padded to; 0 if they are not."""
        if self.strategy is None:
            return 0
        length = max(lengths) if self.strategy == "longest" else self.max_length
        multiple = self.multiple_of or 1
        return -(-length // multiple) * multiple


class Truncation(NamedTuple):
    """How rows are cut.

    Attributes
    ----------
    strategy : {None, "longest_first", "only_first", "only_second"}
    max_length : int or None
        None if nothing is cut.
    stride : int
        How many of the tokens that stay are repeated before those that overflow.
    side : {"right", "left"}
        Which end is cut off.
    """

    strategy: str
    max_length: int
    stride: int
    side: str


class Returned(NamedTuple):
    """What a call returns beside `input_ids`; see `TokenizerBase.__call__`."""

    token_type_ids: bool
    attention_mask: bool
    overflowing_tokens: bool
    special_tokens_mask: bool
    offsets_mapping: bool
    length: bool


class Call(NamedTuple):
    """What a call asks for.

    Attributes
    ----------
    add_special_tokens : bool
    framing : int
        The number of special tokens around a row.
    padding : Padding
    truncation : Truncation
    returned : Returned
    """

    add_special_tokens: bool
    framing: int
    padding: Padding
    truncation: Truncation
    returned: Returned


def checked_padding(tokenizer, padding, max_length, pad_to_multiple_of, padding_side):
    """A call's options of padding.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong type, has no such value, or padding is to a length that nothing
        gives.
    """
    strategy = checked_choice("padding", padding, PADDING)
    max_length = _checked_limit(tokenizer, max_length)
    if strategy == "max_length" and max_length is None:
        raise ValueError("padding is 'max_length', but neither max_length nor "
                         "model_max_length gives a length")  # fmt: skip
    if pad_to_multiple_of is not None:
        pad_to_multiple_of = checked_length("pad_to_multiple_of", pad_to_multiple_of)
    if padding_side is None:
        padding_side = tokenizer.padding_side
    side = checked_choice("padding_side", padding_side, SIDES)
    return Padding(strategy, max_length, pad_to_multiple_of, side)


def checked_truncation(tokenizer, truncation, max_length, stride, framing):
    """A call's options of truncation; `framing` is the number of special tokens around a row.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong type, has no such value, or leaves no room.
    """
    strategy = checked_choice("truncation", truncation, TRUNCATION)
    limit = _checked_limit(tokenizer, max_length)
    stride = checked_length("stride", stride, least=0)
    side = checked_choice("truncation_side", tokenizer.truncation_side, SIDES)
    if strategy is None or limit is None:
        return Truncation(None, None, stride, side)
    if limit < framing:
        raise ValueError(f"max_length is {limit}; the special tokens alone are {framing}")
    if stride and stride >= limit - framing:
        raise ValueError(
            f"stride is {stride}; expected less than {limit - framing}, which is max_length, "
            f"{limit}, without the {framing} special tokens"
        )
    return Truncation(strategy, limit, stride, side)


def check_multiple(padding, truncation):
    """Refuse to cut rows to a length that padding would then exceed."""
    multiple, limit = padding.multiple_of, truncation.max_length
    if padding.strategy and multiple and limit and limit % multiple:
        raise ValueError(
            f"max_length is {limit}, which rows are cut to; expected a multiple of "
            f"pad_to_multiple_of, {multiple}, as they are padded too"
        )


def _checked_limit(tokenizer, max_length):
    """The length that is asked for, else the tokenizer's own; None if there is no limit."""
    if max_length is not None:
        return checked_length("max_length", max_length)
    limit = tokenizer.model_max_length
    return None if limit > LARGEST_LIMIT else limit
