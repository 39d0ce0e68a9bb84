"""What AlbertTokenizer and AlbertTokenizerFast have in common."""

from dataclasses import asdict
from numbers import Integral
from pathlib import Path

import numpy as np

from albert_np.errors import FileFormatError
from albert_np.tokenization.added_tokens import AddedToken
from albert_np.tokenization.checks import (
    checked_bool,
    checked_choice,
    checked_encodings,
    checked_length,
    checked_rows,
    checked_token,
    checked_tokens,
)
from albert_np.tokenization.cleaning import tidied
from albert_np.tokenization.encoding import BatchEncoding, as_arrays
from albert_np.tokenization.files import (
    ADDED_TOKENS_FILE,
    ADDITIONAL,
    CONFIG_FILE,
    SPECIAL_TOKENS,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILES,
    VOCABULARY_FILE,
    as_json,
    described,
    read_settings,
    saved_path,
    write_bytes,
)
from albert_np.tokenization.options import (
    NO_LIMIT,
    SIDES,
    Call,
    Returned,
    check_multiple,
    checked_padding,
    checked_truncation,
)
from albert_np.tokenization.rows import frame_mask, framed, padded, token_types


class SpecialToken:
    """A special token as an attribute of a tokenizer: its text. It can be set to another."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, tokenizer, owner=None):
        return self if tokenizer is None else str(tokenizer._special_tokens[self.name])

    def __set__(self, tokenizer, value):
        tokenizer._special_tokens[self.name] = checked_token(self.name, value)


class SpecialTokenId:
    """A special token as an attribute of a tokenizer: its id."""

    def __set_name__(self, owner, name):
        self.name = name.removesuffix("_id")

    def __get__(self, tokenizer, owner=None):
        if tokenizer is None:
            return self
        return tokenizer.convert_tokens_to_ids(getattr(tokenizer, self.name))


class TokenizerBase:
    """Special tokens, the call, padding, decoding and files of both tokenizers.

    Each of them has `_encode`, `_add_tokens`, `tokenize`, the conversions between tokens, ids
    and text, `get_vocab`, `added_tokens_decoder` and `vocab_size`.

    Parameters
    ----------
    special_tokens : dict of str to (str or AddedToken or dict)
        By name, in the order of `SPECIAL_TOKENS`.
    do_lower_case, remove_space, keep_accents : bool
    model_max_length : int
        The length, in tokens, that truncation and padding take where a call gives none.
    padding_side, truncation_side : {"right", "left"}
        Where rows are padded, and which end of a text is cut off.
    additional_special_tokens : list of (str or AddedToken), optional
        Special tokens without a name. One that the vocabulary lacks gets the next id after it.
    clean_up_tokenization_spaces : bool
        Whether `decode` tidies English punctuation.
    split_special_tokens : bool
        Whether a special token that the text spells is cut into pieces like any other text.
    """

    bos_token, bos_token_id = SpecialToken(), SpecialTokenId()
    eos_token, eos_token_id = SpecialToken(), SpecialTokenId()
    unk_token, unk_token_id = SpecialToken(), SpecialTokenId()
    sep_token, sep_token_id = SpecialToken(), SpecialTokenId()
    pad_token, pad_token_id = SpecialToken(), SpecialTokenId()
    cls_token, cls_token_id = SpecialToken(), SpecialTokenId()
    mask_token, mask_token_id = SpecialToken(), SpecialTokenId()

    def __init__(
        self,
        special_tokens,
        do_lower_case,
        remove_space,
        keep_accents,
        *,
        model_max_length=NO_LIMIT,
        padding_side="right",
        truncation_side="right",
        additional_special_tokens=None,
        clean_up_tokenization_spaces=False,
        split_special_tokens=False,
    ):
        self.do_lower_case = checked_bool("do_lower_case", do_lower_case)
        self.remove_space = checked_bool("remove_space", remove_space)
        self.keep_accents = checked_bool("keep_accents", keep_accents)
        self.model_max_length = checked_length("model_max_length", model_max_length)
        self.padding_side = checked_choice("padding_side", padding_side, SIDES)
        self.truncation_side = checked_choice("truncation_side", truncation_side, SIDES)
        self.clean_up_tokenization_spaces = checked_bool(
            "clean_up_tokenization_spaces", clean_up_tokenization_spaces
        )
        self.split_special_tokens = checked_bool("split_special_tokens", split_special_tokens)
        # As they were given: the fast tokenizer makes a difference between a str and a token.
        self._special_tokens = {
            name: checked_token(name, token) for name, token in special_tokens.items()
        }
        if isinstance(special_tokens["mask_token"], str):
            self._special_tokens["mask_token"] = AddedToken(
                special_tokens["mask_token"], lstrip=True, normalized=False
            )
        self._additional_special_tokens = checked_tokens(
            ADDITIONAL, additional_special_tokens or []
        )

    # ------------------------------------------------------------------ special and added tokens

    @property
    def additional_special_tokens(self):
        """The special tokens without a name, as a list of str."""
        return [str(token) for token in self._additional_special_tokens]

    @property
    def special_tokens_map(self):
        """Name → token, a str; and the list of those without a name, if there are any."""
        named = {name: str(token) for name, token in self._special_tokens.items()}
        additional = self.additional_special_tokens
        return named | ({ADDITIONAL: additional} if additional else {})

    @property
    def all_special_tokens(self):
        """Every special token once, as a list of str."""
        return [str(token) for token in self._distinct_special_tokens()]

    @property
    def all_special_ids(self):
        """The ids of `all_special_tokens`."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def _distinct_special_tokens(self):
        """Every special token once, as it was given.

        A content that has two names ([CLS] is bos_token and cls_token) is one token; where the
        two disagree on spaces, the earlier name decides.
        """
        distinct = {}
        for token in [*self._special_tokens.values(), *self._additional_special_tokens]:
            distinct.setdefault(str(token), token)
        return list(distinct.values())

    def get_added_vocab(self):
        """Token → id of the tokens that are found in the raw text, the special ones included."""
        return {str(token): index for index, token in self.added_tokens_decoder.items()}

    def add_tokens(self, new_tokens, special_tokens=False):
        """Add tokens that are found in the raw text.

        One that the vocabulary lacks gets the next id after it; then a model's embeddings must
        grow (`resize_token_embeddings`).

        Parameters
        ----------
        new_tokens : str, AddedToken, or list of either
        special_tokens : bool
            Whether they stand for no text, as `[SEP]`.

        Returns
        -------
        int
            How many got a new id.
        """
        if not isinstance(new_tokens, list | tuple):
            new_tokens = [new_tokens]
        return self._add_tokens(checked_tokens("new_tokens", new_tokens), special_tokens)

    def add_special_tokens(self, special_tokens_dict, replace_additional_special_tokens=True):
        """Give special tokens their names, and add those that are new.

        Parameters
        ----------
        special_tokens_dict : dict
            Such as `{"cls_token": "<cls>", "additional_special_tokens": ["<e1>", "<e2>"]}`.
        replace_additional_special_tokens : bool
            Whether the tokens without a name that there were lose their rank (they stay added
            tokens), or the new ones join them.

        Returns
        -------
        int
            How many got a new id.

        Raises
        ------
        TypeError, ValueError
            If a name or a token is none. Nothing is added then.
        """
        tokens = {
            name: self._checked_special(name, value) for name, value in special_tokens_dict.items()
        }
        additional = tokens.pop(ADDITIONAL, [])
        if not replace_additional_special_tokens:
            known = self._additional_special_tokens
            new = [t for t in additional if str(t) not in self.additional_special_tokens]
            additional, self._additional_special_tokens = new, known + new
        elif additional:
            self._additional_special_tokens = additional
        self._special_tokens |= tokens
        in_order = [
            token
            for name in special_tokens_dict
            for token in (additional if name == ADDITIONAL else [tokens[name]])
        ]
        return self._add_tokens(in_order, special_tokens=True)

    def _checked_special(self, name, value):
        if name == ADDITIONAL:
            return [_as_special(token) for token in checked_tokens(name, value)]
        if name not in SPECIAL_TOKENS:
            raise ValueError(
                f"special_tokens_dict names {name!r}; expected some of "
                f"{', '.join([*SPECIAL_TOKENS, ADDITIONAL])}"
            )
        return _as_special(checked_token(name, value))

    # ------------------------------------------------------------------ texts to model input

    def __call__(
        self,
        text,
        text_pair=None,
        *,
        add_special_tokens=True,
        padding=False,
        truncation=None,
        max_length=None,
        stride=0,
        is_split_into_words=False,
        pad_to_multiple_of=None,
        padding_side=None,
        return_tensors=None,
        return_token_type_ids=None,
        return_attention_mask=None,
        return_overflowing_tokens=False,
        return_special_tokens_mask=False,
        return_offsets_mapping=False,
        return_length=False,
    ):
        """Encode a text, a pair of texts, or a batch of either.

        Parameters
        ----------
        text : str, list of str, or list of list of str
            A text, or a batch of texts. With `is_split_into_words` a list of words, or a batch
            of such lists.
        text_pair : like `text`, optional
            The second text of each pair; of the same form and length as `text`.
        add_special_tokens : bool
            Frame the text with `cls_token` and `sep_token`.
        padding : bool or {"longest", "max_length", "do_not_pad"}
            Fill rows with `pad_token`. True is `"longest"`.
        truncation : bool or {"longest_first", "only_first", "only_second", "do_not_truncate"}
            Which text gives up tokens where a row is longer than `max_length`. True is
            `"longest_first"`: the longer of the two until they are equally long, then both. None
            truncates (longest first) if `max_length` is given and `padding` is not.
        max_length : int, optional
            Length of a row in tokens, with the special ones. `model_max_length` if not given;
            without either there is no limit, and nothing is truncated.
        stride : int
            How many tokens the overflowing ones share with those that stay.
        is_split_into_words : bool
            Whether each text is a list of words. Each word is then cut into pieces by itself.
        pad_to_multiple_of : int, optional
            Round the length that rows are padded to up to a multiple of this.
        padding_side : {"right", "left"}, optional
            The tokenizer's own if not given.
        return_tensors : {None, "np"}
            Lists, or int64 arrays of shape (B, S), B being 1 for a single text.
        return_token_type_ids, return_attention_mask : bool, optional
            True if not given.
        return_overflowing_tokens : bool
            What truncation cuts off. See `AlbertTokenizer` and `AlbertTokenizerFast`, which
            differ.
        return_special_tokens_mask : bool
            As `special_tokens_mask`, 1 on the tokens of the frame and on padding.
        return_offsets_mapping : bool
            As `offset_mapping`, where in its text each token begins and ends.
            `AlbertTokenizerFast` alone knows.
        return_length : bool
            As `length`, the number of tokens of a row: padding included, but for a batch of
            `AlbertTokenizer`.

        Returns
        -------
        BatchEncoding
            `input_ids`; `token_type_ids`, 1 on the second text and its separator;
            `attention_mask`, 0 on padding; and what else was asked for. Lists for one text, lists
            of lists for a batch.

        Raises
        ------
        TypeError
            If a text is not a str, or the two arguments differ in form.
        ValueError
            If a text holds a lone surrogate, an option has no such value, `max_length` leaves no
            room, `stride` is not smaller than the room for the text, padding is to a length that
            nothing gives, or rows of unequal length are asked for as an array.
        NotImplementedError
            If offsets are asked for that the class does not know.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; expected None or 'np'")
        rows = checked_rows(text, text_pair, is_split_into_words)
        if truncation is None:
            truncation = max_length is not None and padding is False
        framing = self.num_special_tokens_to_add(text_pair is not None) if add_special_tokens else 0
        call = Call(
            add_special_tokens,
            framing,
            checked_padding(self, padding, max_length, pad_to_multiple_of, padding_side),
            checked_truncation(self, truncation, max_length, stride, framing),
            Returned(
                return_token_type_ids,
                return_attention_mask is not False,
                return_overflowing_tokens,
                return_special_tokens_mask,
                return_offsets_mapping,
                return_length,
            ),
        )
        check_multiple(call.padding, call.truncation)
        data, encodings = self._encode(rows, call)
        if return_tensors == "np":
            data = as_arrays(data)
        elif not rows.is_batch:
            data = self._without_batch_axis(data)
        return BatchEncoding(data, encodings)

    def encode(self, text, text_pair=None, **options):
        """The `input_ids` of a call on one text or one pair, with the same options."""
        return self(text, text_pair, **options).input_ids

    def pad(
        self,
        encoded_inputs,
        padding=True,
        max_length=None,
        pad_to_multiple_of=None,
        padding_side=None,
        return_attention_mask=None,
        return_tensors=None,
    ):
        """Pad what calls returned, so that it becomes one batch.

        Parameters
        ----------
        encoded_inputs : BatchEncoding, dict, or list of either
            One row, a batch, or a list of rows; lists or arrays.
        padding, max_length, pad_to_multiple_of, padding_side
            See `__call__`.
        return_attention_mask : bool, optional
            Whether to add a mask where there is none; True if not given.
        return_tensors : {None, "np"}
            Lists, or arrays; arrays if that is what was given.

        Returns
        -------
        BatchEncoding
            Names that are not a model's inputs are left as they are.

        Raises
        ------
        TypeError, ValueError
            If it is no encoding, its rows differ in names or number, or an option is wrong.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; expected None or 'np'")
        rows, is_batch, holds_arrays = checked_encodings(encoded_inputs)
        padding = checked_padding(self, padding, max_length, pad_to_multiple_of, padding_side)
        if return_attention_mask is not False and "attention_mask" not in rows:
            rows["attention_mask"] = [[1] * len(ids) for ids in rows["input_ids"]]
        rows = self._padded(rows, padding)
        if not is_batch:
            rows = {name: values[0] for name, values in rows.items()}
        if return_tensors == "np" or holds_arrays:
            rows = as_arrays(rows)
        return BatchEncoding(rows)

    def _padded(self, rows, padding):
        length = padding.length_for([len(ids) for ids in rows["input_ids"]])
        return padded(rows, length, padding.side, self.pad_token_id)

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        """`[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`, as a list of ids."""
        return framed(token_ids_0, token_ids_1, self.cls_token_id, self.sep_token_id)

    def create_token_type_ids_from_sequences(self, token_ids_0, token_ids_1=None):
        """0 for `[CLS] A [SEP]`, 1 for `B [SEP]`."""
        return token_types(token_ids_0, token_ids_1)

    def get_special_tokens_mask(
        self, token_ids_0, token_ids_1=None, already_has_special_tokens=False
    ):
        """1 for a special token, 0 for any other.

        The sequences are framed first; with `already_has_special_tokens`, `token_ids_0` is a row
        that stands as it is.
        """
        if not already_has_special_tokens:
            return frame_mask(token_ids_0, token_ids_1)
        if token_ids_1 is not None:
            raise ValueError("token_ids_1 is given, but token_ids_0 is already a whole row")
        special_ids = self.all_special_ids
        return [int(index in special_ids) for index in token_ids_0]

    def num_special_tokens_to_add(self, pair=False):
        """How many tokens frame a text, or a pair of them."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    # ------------------------------------------------------------------ tokens, ids, text

    def convert_tokens_to_ids(self, tokens):
        """The id of a token, or the list of ids of a list of tokens.

        An unknown token gets the unknown token's id.
        """
        if isinstance(tokens, str):
            return self._token_to_id(tokens)
        for place, token in enumerate(tokens):
            if not isinstance(token, str):
                raise TypeError(f"tokens[{place}] is of type {type(token).__name__}; expected str")
        return [self._token_to_id(token) for token in tokens]

    def convert_ids_to_tokens(self, ids, skip_special_tokens=False):
        """The token of an id, or the list of tokens of a sequence of ids.

        Raises
        ------
        TypeError
            If an id is not an integer.
        ValueError
            If there is no such id.
        """
        if isinstance(ids, Integral):
            return self._id_to_token("ids", ids)
        tokens = [self._id_to_token(f"ids[{place}]", index) for place, index in enumerate(ids)]
        if not skip_special_tokens:
            return tokens
        special_ids = set(self.all_special_ids)
        return [token for token, index in zip(tokens, ids, strict=True) if index not in special_ids]

    def decode(self, token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=None):
        """The text of a sequence of ids.

        Parameters
        ----------
        token_ids : int, list of int or array of shape (S,)
        skip_special_tokens : bool
        clean_up_tokenization_spaces : bool, optional
            Tidy English punctuation; the tokenizer's own setting if not given.

        Returns
        -------
        str
            The text as the tokens hold it: lowered and without accents, if they are.

        Raises
        ------
        TypeError, ValueError
            If an id is not an integer, or there is no such token.
        """
        text = self._decode(np.atleast_1d(token_ids), skip_special_tokens)
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        return tidied(text) if clean_up_tokenization_spaces else text

    def batch_decode(self, sequences, skip_special_tokens=False, clean_up_tokenization_spaces=None):
        """The texts of several sequences of ids; see `decode`."""
        return [
            self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences
        ]

    # ------------------------------------------------------------------ files

    @classmethod
    def from_pretrained(
        cls,
        name_or_directory,
        *,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        **options,
    ):
        """Load the tokenizer of a checkpoint in Hugging Face's layout.

        Parameters
        ----------
        name_or_directory : str or Path
            A directory that holds the vocabulary (spiece.model; for the fast class tokenizer.json
            will do) and, possibly, tokenizer_config.json; the name of a model that ships with
            the package, such as `"tiny"`; or one on Hugging Face's hub.
        revision, cache_dir, local_files_only
            For a name on the hub; see `hub.fetch`.
        **options
            What the class is made with; they outweigh the files.

        Raises
        ------
        OSError
            If the vocabulary is missing or cannot be read.
        FileFormatError
            If a file does not hold what it should, or asks for something that is not here.
        """
        from albert_np.checkpoint import resolve_directory

        directory = resolve_directory(
            name_or_directory,
            TOKENIZER_FILES,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        settings = read_settings(directory, cls._settings, options) | options
        try:
            return cls(**cls._vocabulary_files(directory), **settings)
        except FileFormatError:
            raise
        except (TypeError, ValueError) as error:
            if options:  # they may be what is wrong
                raise
            raise FileFormatError(f"settings in {directory}: {error}") from error

    def save_pretrained(self, save_directory, legacy_format=None, filename_prefix=None):
        """Write the tokenizer in Hugging Face's layout.

        transformers' class of the same name reads the directory and gives the same ids.

        Parameters
        ----------
        save_directory : str or Path
            Made where it does not exist.
        legacy_format : bool, optional
            True: without tokenizer.json. False: without spiece.model and added_tokens.json, which
            only the fast class can do without. Both of what there is if not given.
        filename_prefix : str, optional
            Comes before each file's name, and a hyphen.

        Returns
        -------
        tuple of str
            The paths of what was written.

        Raises
        ------
        OSError
            If the directory or a file in it cannot be written.
        ValueError
            If there is nothing to write in the format asked for.
        """
        contents = self._contents(legacy_format)  # all of it before any is written
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        paths = []
        for name, content in contents.items():
            paths.append(saved_path(save_directory, filename_prefix, name))
            write_bytes(paths[-1], content)
        return tuple(map(str, paths))

    def _settings_contents(self, tokenizer_class):
        """The content of tokenizer_config.json and special_tokens_map.json, by file name."""
        config = {name: getattr(self, name) for name in self._settings}
        added_tokens = {
            str(index): asdict(token) for index, token in self.added_tokens_decoder.items()
        }
        config |= {"added_tokens_decoder": added_tokens, "tokenizer_class": tokenizer_class}
        special_tokens = {name: described(token) for name, token in self._special_tokens.items()}
        if self._additional_special_tokens:
            special_tokens[ADDITIONAL] = [*map(described, self._additional_special_tokens)]
        return {CONFIG_FILE: as_json(config), SPECIAL_TOKENS_FILE: as_json(special_tokens)}

    def _legacy_contents(self):
        """The content of spiece.model and, if there are any, of added_tokens.json."""
        beyond = {
            content: index
            for content, index in self.get_added_vocab().items()
            if index >= self.vocab_size
        }
        contents = {VOCABULARY_FILE: self._serialized_vocabulary}
        return contents | ({ADDED_TOKENS_FILE: as_json(beyond)} if beyond else {})

    def save_vocabulary(self, save_directory, filename_prefix=None):
        """Write spiece.model alone, and return its path in a tuple; see `save_pretrained`.

        Raises
        ------
        ValueError
            If the tokenizer was made from tokenizer.json alone.
        """
        if self._serialized_vocabulary is None:
            raise ValueError("the tokenizer was made without spiece.model, and cannot write one")
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        path = saved_path(save_directory, filename_prefix, VOCABULARY_FILE)
        write_bytes(path, self._serialized_vocabulary)
        return (str(path),)


def _as_special(token):
    """The token as a special one without a name of its own."""
    return AddedToken(token, special=True) if isinstance(token, str) else token
