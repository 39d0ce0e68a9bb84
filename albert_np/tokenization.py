"""From text to token ids and back.

`AlbertTokenizer` takes a text through five steps, each a short method below:

1. cut out the special tokens that the text itself spells (`The capital of [MASK] is Paris.`);
2. clean what lies between them: spaces, quotes, accents, capitals (`preprocess_text`);
3. cut that into pieces with SentencePiece's unigram model, and part a number from its comma;
4. look the pieces up: one id a piece;
5. frame one text as `[CLS] A [SEP]` and two as `[CLS] A [SEP] B [SEP]`, cut them to length,
   pad them.

Ids, token types and masks are those of `transformers.AlbertTokenizer` 4.56.2 (Hugging Face's
documentation, class `AlbertTokenizer`), on any text. Where that class logs an error or a warning
and hands back something longer or shorter than what was asked for, this one raises; and it pads an
empty row, which that class leaves empty.

What is not here yet: stride and overflow, offsets, sampling, left padding, tokens added beside the
special ones, and the fast class. A saved tokenizer that relies on one of them is refused by name.
"""

import json
import re
import unicodedata
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sentencepiece import SentencePieceProcessor

from albert_np.errors import FileFormatError
from albert_np.files import replacing

VOCABULARY_FILE = "spiece.model"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

# SentencePiece writes a space as this character, so that pieces can be joined without loss.
SPACE = "▁"

# In this order, tokens that the vocabulary lacks get the ids after it.
SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
OPTIONS = (
    "do_lower_case", "remove_space", "keep_accents", "model_max_length",
    "clean_up_tokenization_spaces", *SPECIAL_TOKENS,
)  # fmt: skip

# Settings that would change ids if they had another value: the one value that is read so far.
FIXED_SETTINGS = {
    "padding_side": "right",
    "truncation_side": "right",
    "split_special_tokens": False,
    "additional_special_tokens": [],
    "extra_special_tokens": {},
    "sp_model_kwargs": {},
}

# Hugging Face stores "no limit" as 1e30, and takes any length above 1e20 for it.
NO_LIMIT = int(1e30)
LARGEST_LIMIT = int(1e20)

PADDING = {False: None, "do_not_pad": None, True: "longest", "longest": "longest",
           "max_length": "max_length"}  # fmt: skip
TRUNCATION = {False: None, "do_not_truncate": None, True: "longest_first",
              "longest_first": "longest_first", "only_first": "only_first",
              "only_second": "only_second"}  # fmt: skip

# What decoding can tidy in English: the space before a mark, and contractions taken apart.
CLEAN_UP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


class BatchEncoding(dict):
    """What a tokenizer's call returns: a dictionary whose values are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the encoding has no {name}; it has {', '.join(self)}") from None


class AddedToken(NamedTuple):
    """A token that is found in the raw text, before it is cleaned and cut into pieces.

    `lstrip` and `rstrip` say whether it swallows the spaces on its left and on its right.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False


class AlbertTokenizer:
    """ALBERT's tokenizer, on a SentencePiece vocabulary.

    Parameters
    ----------
    vocab_file : str or Path
        A SentencePiece model (`spiece.model`).
    do_lower_case : bool
        Lower the text's letters.
    remove_space : bool
        Turn every run of white space into one space, and drop it at both ends.
    keep_accents : bool
        Keep combining marks; otherwise the text is decomposed (NFKD) and loses them.
    bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token : str or dict
        The special tokens; a dictionary is an `AddedToken` as transformers writes it to JSON. One
        that the vocabulary lacks gets the next id after it. A mask token given as str swallows the
        spaces on its left: `of [MASK]` and `of[MASK]` are the same tokens, as a masked piece's own
        space belongs to it.
    model_max_length : int
        The length, in tokens, that truncation and padding take where a call gives none.
    clean_up_tokenization_spaces : bool
        Whether `decode` tidies English punctuation.

    Attributes
    ----------
    bos_token, ..., mask_token : str
    bos_token_id, ..., mask_token_id : int
    vocab_size : int
        Pieces of the vocabulary. `len(tokenizer)` adds the special tokens that it lacks.
    all_special_tokens, all_special_ids : list

    Raises
    ------
    OSError
        If the vocabulary cannot be read.
    FileFormatError
        If it is not a whole SentencePiece model.
    TypeError, ValueError
        If an option is of the wrong type, or a special token is empty.

    Notes
    -----
    The names and defaults are those of Hugging Face's class `AlbertTokenizer`.
    """

    def __init__(
        self,
        vocab_file,
        do_lower_case=True,
        remove_space=True,
        keep_accents=False,
        bos_token="[CLS]",
        eos_token="[SEP]",
        unk_token="<unk>",
        sep_token="[SEP]",
        pad_token="<pad>",
        cls_token="[CLS]",
        mask_token="[MASK]",
        *,
        model_max_length=NO_LIMIT,
        clean_up_tokenization_spaces=False,
    ):
        self.do_lower_case = _checked_bool("do_lower_case", do_lower_case)
        self.remove_space = _checked_bool("remove_space", remove_space)
        self.keep_accents = _checked_bool("keep_accents", keep_accents)
        self.clean_up_tokenization_spaces = _checked_bool(
            "clean_up_tokenization_spaces", clean_up_tokenization_spaces
        )
        self.model_max_length = _checked_length("model_max_length", model_max_length)
        if isinstance(mask_token, str):
            mask_token = {"content": mask_token, "lstrip": True}
        given = (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token)
        special_tokens = {
            name: _checked_token(name, value)
            for name, value in zip(SPECIAL_TOKENS, given, strict=True)
        }

        self._serialized_vocabulary, self._processor = _read_vocabulary(vocab_file)
        self.vocab_size = self._processor.get_piece_size()
        self._vocabulary = {
            self._processor.id_to_piece(index): index for index in range(self.vocab_size)
        }
        for token in special_tokens.values():
            self._vocabulary.setdefault(token.content, len(self._vocabulary))
        self._tokens = {index: token for token, index in self._vocabulary.items()}

        # A content that has two names ([CLS] is bos_token and cls_token) is one token; where
        # the two disagree on spaces, the earlier name decides.
        self._special_tokens = {}
        for token in special_tokens.values():
            self._special_tokens.setdefault(token.content, token)
        self.all_special_tokens = list(self._special_tokens)
        self.all_special_ids = self.convert_tokens_to_ids(self.all_special_tokens)
        for name, token in special_tokens.items():
            setattr(self, name, token.content)
            setattr(self, f"{name}_id", self._vocabulary[token.content])
        longest_first = sorted(self.all_special_tokens, key=len, reverse=True)
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    # ------------------------------------------------------------------ files

    @classmethod
    def from_pretrained(cls, name_or_directory):
        """Load the tokenizer of a checkpoint in Hugging Face's layout.

        Parameters
        ----------
        name_or_directory : str or Path
            A directory that holds spiece.model and, possibly, tokenizer_config.json; or the name
            of a model that ships with the package, such as `"tiny"`.

        Raises
        ------
        OSError
            If spiece.model is missing or cannot be read.
        FileFormatError
            If a file does not hold what it should, or asks for something that is not here yet.
        """
        from albert_np.checkpoint import resolve_directory

        directory = Path(resolve_directory(name_or_directory))
        config = _read_config(directory)
        added_tokens = _read_added_tokens(directory, config)
        options = _read_options(config, added_tokens)
        try:
            tokenizer = cls(directory / VOCABULARY_FILE, **options)
        except FileFormatError:
            raise
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"settings in {directory}: {error}") from error
        tokenizer._check_added_tokens(directory, added_tokens)
        return tokenizer

    def save_pretrained(self, directory):
        """Write spiece.model, tokenizer_config.json and special_tokens_map.json.

        transformers' `AlbertTokenizer.from_pretrained` reads the directory and gives the same ids.

        Parameters
        ----------
        directory : str or Path
            Made where it does not exist.

        Raises
        ------
        OSError
            If the directory or a file in it cannot be written.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        names = {name: getattr(self, name) for name in SPECIAL_TOKENS}
        added_tokens = {
            content: {**token._asdict(), "normalized": False, "single_word": False}
            for content, token in self._special_tokens.items()
        }
        config = {
            **{name: getattr(self, name) for name in OPTIONS},
            "tokenizer_class": "AlbertTokenizer",
            "added_tokens_decoder": {
                str(self._vocabulary[content]): {**token, "special": True}
                for content, token in added_tokens.items()
            },
        }
        special_tokens_map = {name: added_tokens[content] for name, content in names.items()}
        with replacing(directory / VOCABULARY_FILE) as path:
            path.write_bytes(self._serialized_vocabulary)
        _write_json(directory / CONFIG_FILE, config)
        _write_json(directory / SPECIAL_TOKENS_FILE, special_tokens_map)

    def _check_added_tokens(self, directory, added_tokens):
        """Refuse tokens that stand beside the special ones, and ids other than ours."""
        for index, content in ((index, _content(token)) for index, token in added_tokens.items()):
            if content not in self._special_tokens:
                raise FileFormatError(
                    f"{directory} adds the token {content!r}; only the special tokens are read"
                )
            if self._vocabulary[content] != index:
                raise FileFormatError(
                    f"{directory} gives {content!r} the id {index}; "
                    f"{VOCABULARY_FILE} gives it {self._vocabulary[content]}"
                )

    # ------------------------------------------------------------------ text to tokens

    def tokenize(self, text):
        """Cut a text into tokens: pieces of the vocabulary, and the special tokens it spells.

        Parameters
        ----------
        text : str

        Returns
        -------
        list of str

        Raises
        ------
        TypeError
            If `text` is not a str.
        ValueError
            If it holds half of a surrogate pair, which is no character.
        """
        _check_text("text", text)
        return list(
            chain.from_iterable(
                [chunk] if chunk in self._special_tokens else self._pieces(chunk)
                for chunk in self._split_special_tokens(text)
            )
        )

    def _split_special_tokens(self, text):
        """The text as a list of chunks, each either a special token or free of them.

        Lowering comes first and spares the special tokens that stand there as they are written:
        `[MASK]` is one, `[mask]` is four letters in brackets, `<PAD>` becomes one.
        """
        if self.do_lower_case:
            text = "".join(
                chunk if chunk in self._special_tokens else _lower_each_letter(chunk)
                for chunk in self._special_pattern.split(text)
            )
        chunks = self._special_pattern.split(text)  # text, token, text, token, ..., text
        for place in range(1, len(chunks), 2):
            token = self._special_tokens[chunks[place]]
            if token.lstrip:
                chunks[place - 1] = chunks[place - 1].rstrip()
            if token.rstrip:
                chunks[place + 1] = chunks[place + 1].lstrip()
        return [chunk for chunk in chunks if chunk]

    def preprocess_text(self, text):
        """Clean a text the way the texts were cleaned that the vocabulary was learnt from.

        The two quotes of TeX become one character. NFKD takes a letter apart from its accents
        (é is e and a combining mark), so that they can be dropped, and folds forms that differ in
        looks alone (full width, ligatures, mathematical letters) into plain ones; those bring new
        capitals, so lowering comes last.
        """
        if self.remove_space:
            text = " ".join(text.split())
        text = text.replace("``", '"').replace("''", '"')
        if not self.keep_accents:
            text = unicodedata.normalize("NFKD", text)
            text = "".join(letter for letter in text if not unicodedata.combining(letter))
        if self.do_lower_case:
            text = text.lower()
        return text

    def _pieces(self, text):
        """The pieces of a text without special tokens."""
        pieces = []
        for piece in self._processor.encode(self.preprocess_text(text), out_type=str):
            pieces.extend(self._part_comma(piece) if _ends_in_digit_comma(piece) else [piece])
        return pieces

    def _part_comma(self, piece):
        """`▁9,` as `▁9` and `,`: the number is split again, without its comma.

        The vocabulary holds pieces such as `▁9,` since they are frequent, but a comma after a
        number is punctuation, and a span of text that ends in the number (an answer, a name's
        date) should not carry it. The original ALBERT does the same.
        """
        number = self._processor.encode(piece[:-1].replace(SPACE, ""), out_type=str)
        if not piece.startswith(SPACE):
            # SentencePiece puts a space before whatever it is given; here there was none.
            number[0] = number[0].removeprefix(SPACE)
        return [part for part in number if part] + [","]

    # ------------------------------------------------------------------ tokens and ids

    def convert_tokens_to_ids(self, tokens):
        """The id of a token, or the list of ids of a list of tokens.

        An unknown token gets the id of the vocabulary's own unknown piece.
        """
        if isinstance(tokens, str):
            return self._vocabulary.get(tokens, self._processor.unk_id())
        for place, token in enumerate(tokens):
            if not isinstance(token, str):
                raise TypeError(f"tokens[{place}] is of type {type(token).__name__}; expected str")
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids, skip_special_tokens=False):
        """The token of an id, or the list of tokens of a sequence of ids.

        Raises
        ------
        TypeError
            If an id is not an integer.
        ValueError
            If an id is outside 0 ... len(tokenizer) - 1.
        """
        if isinstance(ids, Integral):
            return self._tokens[self._checked_id("ids", ids)]
        checked = [self._checked_id(f"ids[{place}]", index) for place, index in enumerate(ids)]
        return [
            self._tokens[index]
            for index in checked
            if not (skip_special_tokens and index in self.all_special_ids)
        ]

    def _checked_id(self, name, index):
        if not isinstance(index, Integral):
            raise TypeError(f"{name} is of type {type(index).__name__}; expected an integer")
        if not 0 <= index < len(self):
            raise ValueError(f"{name} is {index}; the tokenizer's ids are 0 to {len(self) - 1}")
        return int(index)

    def convert_tokens_to_string(self, tokens):
        """Join tokens into a text.

        A special token stands as it is, a space before the text that leads up to it and none
        after: `[CLS] the end[SEP]`.
        """
        text, pieces, after_special_token = "", [], False
        for place, token in enumerate(tokens):
            _check_text(f"tokens[{place}]", token)
            if token in self._special_tokens:
                text += ("" if after_special_token else " ") + self._join(pieces) + token
                pieces = []
            else:
                pieces.append(token)
            after_special_token = token in self._special_tokens
        return (text + self._join(pieces)).strip()

    def _join(self, pieces):
        return self._processor.decode(pieces) if pieces else ""

    def get_vocab(self):
        """Token → id, as a new dictionary."""
        return dict(self._vocabulary)

    def __len__(self):
        return len(self._vocabulary)

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
        return_tensors=None,
        return_token_type_ids=True,
        return_attention_mask=True,
    ):
        """Encode a text, a pair of texts, or a batch of either.

        Parameters
        ----------
        text : str or list of str
        text_pair : str or list of str, optional
            The second text of each pair; of the same form and length as `text`.
        add_special_tokens : bool
            Frame the text with `cls_token` and `sep_token`.
        padding : bool or {"longest", "max_length", "do_not_pad"}
            Fill rows with `pad_token`, on the right. True is `"longest"`.
        truncation : bool or {"longest_first", "only_first", "only_second", "do_not_truncate"}
            Which text gives up tokens, from its end, where a row is longer than `max_length`.
            True is `"longest_first"`: the longer of the two until they are equally long, then
            both. None truncates (longest first) if `max_length` is given and `padding` is not.
        max_length : int, optional
            Length of a row in tokens, with the special ones. `model_max_length` if not given;
            without either there is no limit, and nothing is truncated.
        return_tensors : {None, "np"}
            Lists, or int64 arrays of shape (B, S), B being 1 for a single text.
        return_token_type_ids, return_attention_mask : bool

        Returns
        -------
        BatchEncoding
            `input_ids`; `token_type_ids`, 1 on the second text and its separator;
            `attention_mask`, 0 on padding. Lists for one text, lists of lists for a batch.

        Raises
        ------
        TypeError
            If a text is not a str, or the two arguments differ in form.
        ValueError
            If a text holds a lone surrogate, an option has no such value, `max_length` leaves no
            room, padding is to a length that nothing gives, or rows of unequal length are asked
            for as an array.
        """
        rows = _checked_rows(text, text_pair)
        if truncation is None:
            truncation = max_length is not None and padding is False
        padding = _checked_choice("padding", padding, PADDING)
        truncation = _checked_choice("truncation", truncation, TRUNCATION)
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; expected None or 'np'")
        if max_length is not None:
            _checked_length("max_length", max_length)
        elif self.model_max_length <= LARGEST_LIMIT:
            max_length = self.model_max_length
        if padding == "max_length" and max_length is None:
            raise ValueError("padding is 'max_length', but neither max_length nor "
                             "model_max_length gives a length")  # fmt: skip
        limit = max_length if truncation else None
        framing = self.num_special_tokens_to_add(text_pair is not None) if add_special_tokens else 0
        if limit is not None and limit < framing:
            raise ValueError(f"max_length is {limit}; the special tokens alone are {framing}")

        encoded = []
        for first_text, second_text in rows:
            first = self.convert_tokens_to_ids(self.tokenize(first_text))
            second = None
            if second_text is not None:
                second = self.convert_tokens_to_ids(self.tokenize(second_text))
            if limit is not None:
                first, second = _truncate(first, second, limit - framing, truncation)
            encoded.append(self._framed(first, second, add_special_tokens))

        longest = max(len(ids) for ids, _ in encoded)
        length = {None: 0, "longest": longest, "max_length": max_length}[padding]
        encoding = BatchEncoding(
            input_ids=[_padded(ids, length, self.pad_token_id) for ids, _ in encoded]
        )
        if return_token_type_ids:
            encoding["token_type_ids"] = [_padded(types, length, 0) for _, types in encoded]
        if return_attention_mask:
            encoding["attention_mask"] = [_padded([1] * len(ids), length, 0) for ids, _ in encoded]
        if return_tensors == "np":
            return BatchEncoding({name: _array(rows) for name, rows in encoding.items()})
        if isinstance(text, str):
            return BatchEncoding({name: rows[0] for name, rows in encoding.items()})
        return encoding

    def _framed(self, first, second, add_special_tokens):
        """The ids of a row and their token types."""
        if add_special_tokens:
            return (
                self.build_inputs_with_special_tokens(first, second),
                self.create_token_type_ids_from_sequences(first, second),
            )
        ids = first + (second or [])
        return ids, [0] * len(ids)

    def encode(self, text, text_pair=None, **options):
        """The `input_ids` of a call with the same arguments."""
        return self(text, text_pair, **options).input_ids

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        """`[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`, as a list of ids."""
        ids = [self.cls_token_id, *token_ids_0, self.sep_token_id]
        if token_ids_1 is not None:
            ids += [*token_ids_1, self.sep_token_id]
        return ids

    def create_token_type_ids_from_sequences(self, token_ids_0, token_ids_1=None):
        """0 for `[CLS] A [SEP]`, 1 for `B [SEP]`."""
        types = [0] * (len(token_ids_0) + 2)
        if token_ids_1 is not None:
            types += [1] * (len(token_ids_1) + 1)
        return types

    def get_special_tokens_mask(
        self, token_ids_0, token_ids_1=None, already_has_special_tokens=False
    ):
        """1 for a special token, 0 for any other.

        The sequences are framed first; with `already_has_special_tokens`, `token_ids_0` is a row
        that stands as it is.
        """
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise ValueError("token_ids_1 is given, but token_ids_0 is already a whole row")
            return [int(index in self.all_special_ids) for index in token_ids_0]
        mask = [1] + [0] * len(token_ids_0) + [1]
        if token_ids_1 is not None:
            mask += [0] * len(token_ids_1) + [1]
        return mask

    def num_special_tokens_to_add(self, pair=False):
        """How many tokens frame a text, or a pair of them."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    # ------------------------------------------------------------------ ids to text

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
        tokens = self.convert_ids_to_tokens(np.atleast_1d(token_ids), skip_special_tokens)
        text = self.convert_tokens_to_string(tokens)
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        for untidy, tidy in CLEAN_UP if clean_up_tokenization_spaces else ():
            text = text.replace(untidy, tidy)
        return text

    def batch_decode(self, sequences, skip_special_tokens=False, clean_up_tokenization_spaces=None):
        """The texts of several sequences of ids; see `decode`."""
        return [
            self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences
        ]


# ---------------------------------------------------------------------- letters and rows


def _lower_each_letter(text):
    """Lower letter by letter, so that Σ becomes σ even where a word ends in it."""
    return "".join(map(str.lower, text))


def _ends_in_digit_comma(piece):
    return len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()


def _padded(row, length, value):
    return row + [value] * (length - len(row))


def _array(rows):
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(
            f"the rows have {min(lengths)} to {max(lengths)} tokens; "
            "one array needs padding, or truncation as well"
        )
    return np.array(rows, dtype=np.int64)


def _truncate(first, second, room, truncation):
    """Cut two sequences of ids (the second may be None) to `room` ids in all."""
    excess = len(first) + len(second or []) - room
    if excess <= 0:
        return first, second
    if truncation == "longest_first" and second is not None:
        # The longer gives way until both are equally long, then both do, in turn; the first keeps
        # the odd one.
        keep_second = min(len(second), max(room // 2, room - len(first)))
        return first[: room - keep_second], second[:keep_second]
    name, shortened = ("second", second) if truncation == "only_second" else ("first", first)
    keep = len(shortened or []) - excess
    if keep <= 0:
        raise ValueError(
            f"truncation would have to remove {excess} tokens from the {name} text, "
            f"which has {len(shortened or [])}, and must leave one"
        )
    return (first, second[:keep]) if name == "second" else (first[:keep], second)


# ---------------------------------------------------------------------- checks at the door


def _check_text(name, text):
    if not isinstance(text, str):
        raise TypeError(f"{name} is of type {type(text).__name__}; expected str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds the lone surrogate U+{ord(text[error.start]):04X} at position "
            f"{error.start}; expected whole characters"
        ) from None


def _checked_rows(text, text_pair):
    """A list of (text, second text or None), whatever the form of the arguments."""
    if isinstance(text, str):
        rows = [(text, text_pair)]
        _check_text("text", text)
        if text_pair is not None:
            _check_text("text_pair", text_pair)
    elif isinstance(text, list | tuple):
        if not isinstance(text_pair, list | tuple | None):
            raise TypeError(
                f"text_pair is of type {type(text_pair).__name__}; "
                "expected a list of str, as text is a batch"
            )
        if text_pair is not None and len(text) != len(text_pair):
            raise ValueError(f"text has {len(text)} rows; text_pair has {len(text_pair)}")
        if not text:
            raise ValueError("text is an empty batch; expected at least one text")
        for name, texts in (("text", text), ("text_pair", text_pair or [])):
            for place, one in enumerate(texts):
                _check_text(f"{name}[{place}]", one)
        rows = list(zip(text, text_pair or [None] * len(text), strict=True))
    else:
        raise TypeError(f"text is of type {type(text).__name__}; expected str or a list of str")
    return rows


def _checked_choice(name, value, choices):
    if not isinstance(value, bool | str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")
    return choices[value]


def _checked_bool(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected True or False")
    return value


def _checked_length(name, value):
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
    return int(value)


def _checked_token(name, value):
    """A special token, from its text or from the dictionary that transformers saves."""
    if not isinstance(value, dict):
        value = {"content": value}
    content = value.get("content")
    _check_text(name, content)
    if not content:
        raise ValueError(f"{name} is empty; expected a token")
    if value.get("single_word"):
        raise ValueError(f"{name} is a single_word token; those are not read")
    # `normalized` and `special`, the dictionary's other entries, change nothing in a special token.
    return AddedToken(content, bool(value.get("lstrip")), bool(value.get("rstrip")))


# ---------------------------------------------------------------------- files


def _read_vocabulary(vocab_file):
    """The bytes of a SentencePiece model, and the processor made from them."""
    serialized = Path(vocab_file).read_bytes()
    # A model that was cut off between two pieces still parses: as a shorter vocabulary, without
    # its normaliser. The parts after the pieces (2, the trainer's settings, and 3, the normaliser)
    # tell that it is whole.
    if not {1, 2, 3} <= _message_fields(serialized):
        raise FileFormatError(f"{vocab_file} is not a whole SentencePiece model")
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(serialized)
    except RuntimeError as error:
        raise FileFormatError(f"{vocab_file} is not a SentencePiece model: {error}") from error
    return serialized, processor


def _message_fields(serialized):
    """The numbers of a protocol buffer's outermost fields, as far as it can be read as one.

    Each is a tag (number · 8 + wire type), a length and that many bytes; of the wire types only 2,
    bytes of a given length, occurs at the outermost level of a SentencePiece model.
    """
    fields, position = set(), 0
    while position < len(serialized):
        tag, position = _read_varint(serialized, position)
        length, position = _read_varint(serialized, position)
        if tag % 8 != 2:
            break
        fields.add(tag // 8)
        position += length
    return fields


def _read_varint(serialized, position):
    """An integer in groups of 7 bits, lowest first, and the position after it."""
    value = shift = 0
    for byte in serialized[position : position + 10]:
        value |= (byte & 127) << shift
        shift += 7
        position += 1
        if byte < 128:
            break
    return value, position


def _read_config(directory):
    """tokenizer_config.json, with the special tokens' own file where it has a say.

    transformers 4.34 and later describe every added token in the configuration; before, the file
    of special tokens outweighed it.
    """
    config = _read_json_object(directory / CONFIG_FILE)
    if "added_tokens_decoder" not in config:
        config |= _read_json_object(directory / SPECIAL_TOKENS_FILE)
    for name, value in FIXED_SETTINGS.items():
        if (config.get(name) or value) != value:
            raise FileFormatError(
                f"settings in {directory}: {name} is {config[name]!r}; only {value!r} is read"
            )
    return config


def _read_added_tokens(directory, config):
    """Id → token (a dictionary, or its content alone) from whichever file holds them."""
    try:
        if "added_tokens_decoder" in config:
            described = config["added_tokens_decoder"].items()
            return {int(index): _described(token) for index, token in described}
        contents = _read_json_object(directory / "added_tokens.json")
        described = _read_json_object(directory / "tokenizer.json").get("added_tokens", [])
        return {
            **{int(index): content for content, index in contents.items()},
            **{int(token["id"]): _described(token) for token in described},
        }
    except FileFormatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"the added tokens in {directory} are not readable") from error


def _described(token):
    return {**token, "content": str(token["content"])}


def _read_options(config, added_tokens):
    """The constructor's options; a special token takes its description among the added ones."""
    described = {
        _content(token): token for token in added_tokens.values() if isinstance(token, dict)
    }
    options = {name: config[name] for name in OPTIONS if name in config}
    for name in SPECIAL_TOKENS:
        content = _content(options.get(name))
        if isinstance(content, str) and content in described:
            options[name] = described[content]
    return options


def _content(token):
    return token.get("content") if isinstance(token, dict) else token


def _read_json_object(path):
    """The object in a JSON file, or an empty one where there is no file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{path} holds a {type(content).__name__}; expected an object")
    return content


def _write_json(path, content):
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
