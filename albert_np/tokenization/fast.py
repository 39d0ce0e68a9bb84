"""AlbertTokenizerFast: the five steps done by the `tokenizers` library."""

from dataclasses import asdict
from numbers import Integral
from pathlib import Path
from threading import Lock

from albert_np.errors import FileFormatError
from albert_np.files import read_json_object
from albert_np.tokenization.added_tokens import AddedToken
from albert_np.tokenization.albert import AlbertTokenizer
from albert_np.tokenization.base import TokenizerBase
from albert_np.tokenization.checks import check_text, checked_id
from albert_np.tokenization.conversion import converted, import_tokenizers
from albert_np.tokenization.files import (
    SETTINGS,
    SPECIAL_TOKENS,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
)

# The library keeps padding and truncation in the tokenizer, where a call has to set them.
_ONE_CALL_AT_A_TIME = Lock()


class AlbertTokenizerFast(TokenizerBase):
    """ALBERT's tokenizer, on the `tokenizers` library (the extra `fast`).

    It knows where in the text each token lies. Its ids differ from those of `AlbertTokenizer` in
    a few places, as they do in transformers; `albert_np.tokenization.conversion` says where.

    Parameters
    ----------
    vocab_file : str or Path, optional
        A SentencePiece model (`spiece.model`).
    tokenizer_file : str or Path, optional
        A tokenizer in the library's own layout (`tokenizer.json`). It decides where both are
        given; then `do_lower_case` and `keep_accents` have no say.
    do_lower_case, remove_space, keep_accents
        See `AlbertTokenizer`. The fast class has no use for `remove_space`.
    bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token
        See `AlbertTokenizer`. A text is framed with [CLS] and [SEP] (or as tokenizer.json says),
        whatever `cls_token` and `sep_token` are.
    added_tokens_decoder : dict of int to AddedToken, optional
        The tokens added to a tokenizer that was saved.
    **options
        See `TokenizerBase`.

    Attributes
    ----------
    backend_tokenizer : tokenizers.Tokenizer
    bos_token, ..., mask_token : str
    bos_token_id, ..., mask_token_id : int
    additional_special_tokens, all_special_tokens, all_special_ids : list
    vocab_size : int
        Pieces of the vocabulary. `len(tokenizer)` adds the tokens that it lacks.
    added_tokens_decoder : dict of int to AddedToken

    Raises
    ------
    OSError
        If a file cannot be read.
    FileFormatError
        If spiece.model is not a SentencePiece unigram model, or tokenizer.json no tokenizer.
    ImportError
        If a library of the extra is not installed.
    TypeError, ValueError
        If an option is of the wrong type, a special token is empty, or no file is given.

    Notes
    -----
    The names and defaults are those of Hugging Face's class `AlbertTokenizerFast`. With
    `return_overflowing_tokens` what a text has over `max_length` makes further rows, even of a
    single text, and `overflow_to_sample_mapping` holds the number of the text of each row.
    """

    is_fast = True
    _settings = SETTINGS

    def __init__(
        self,
        vocab_file=None,
        tokenizer_file=None,
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
        added_tokens_decoder=None,
        **options,
    ):
        given = (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token)
        special_tokens = dict(zip(SPECIAL_TOKENS, given, strict=True))
        settings = {
            "do_lower_case": do_lower_case,
            "remove_space": remove_space,
            "keep_accents": keep_accents,
        }
        library = import_tokenizers()
        if tokenizer_file is not None:
            self.backend_tokenizer = _read_tokenizer(library, Path(tokenizer_file))
            options = _sides(self.backend_tokenizer) | options
        elif vocab_file is not None:
            slow = AlbertTokenizer(
                vocab_file,
                **settings,
                **special_tokens,
                added_tokens_decoder=added_tokens_decoder,
                **options,
            )
            self.backend_tokenizer = converted(slow)
        else:
            raise ValueError("neither vocab_file nor tokenizer_file is given; expected one")
        super().__init__(special_tokens, **settings, **options)
        if tokenizer_file is None:
            # `normalized` is decided before they become special, as in the slow class.
            for name, token in self._special_tokens.items():
                self._special_tokens[name] = _resolved(token)
            self._additional_special_tokens = [*map(_resolved, self._additional_special_tokens)]
        self.vocab_file = None if vocab_file is None else str(vocab_file)
        self._serialized_vocabulary = None if vocab_file is None else Path(vocab_file).read_bytes()
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.encode_special_tokens = self.split_special_tokens
        self._add_saved_and_special(added_tokens_decoder or {})

    @staticmethod
    def _vocabulary_files(directory):
        files = {
            "tokenizer_file": directory / TOKENIZER_FILE,
            "vocab_file": directory / VOCABULARY_FILE,
        }
        present = {name: path for name, path in files.items() if path.exists()}
        if not present:
            raise FileNotFoundError(
                f"{directory} holds neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}; expected one"
            )
        return present

    def _contents(self, legacy_format):
        has_vocabulary = self._serialized_vocabulary is not None
        if legacy_format and not has_vocabulary:
            raise ValueError(
                "legacy_format is True, but the tokenizer was made without spiece.model"
            )
        contents = {}
        if legacy_format is not False and has_vocabulary:
            contents |= self._legacy_contents()
        if not legacy_format:
            contents[TOKENIZER_FILE] = self.backend_tokenizer.to_str(pretty=True).encode()
        name = "AlbertTokenizer" if has_vocabulary else "AlbertTokenizerFast"
        return contents | self._settings_contents(name)

    # ------------------------------------------------------------------ added tokens

    @property
    def added_tokens_decoder(self):
        """Id → AddedToken of the tokens that are found in the raw text, by id."""
        added_tokens = self.backend_tokenizer.get_added_tokens_decoder()
        fields = AddedToken.__dataclass_fields__
        return {
            index: AddedToken(**{field: getattr(token, field) for field in fields})
            for index, token in sorted(added_tokens.items())
        }

    def _add_saved_and_special(self, saved):
        """Add what a saved tokenizer had, by id; then the special tokens that are new.

        One that was given as a token, and not as a str, is always new: what it says of spaces
        replaces what the vocabulary's own symbol of that name said.
        """
        tokens = [token for _, token in sorted(saved.items())]
        known = {*self.get_added_vocab(), *map(str, tokens), *map(_resolved, tokens)}
        tokens += [t for t in self._distinct_special_tokens() if _resolved(t) not in known]
        special_tokens = self.all_special_tokens
        self.backend_tokenizer.add_tokens(
            [self._library_token(token, str(token) in special_tokens) for token in tokens]
        )

    @staticmethod
    def _library_token(token, special):
        """A token as the library's, special if it is said to be or is already."""
        library = import_tokenizers()
        if isinstance(token, str):
            return library.AddedToken(token, special=special)
        fields = {name: value for name, value in asdict(token).items() if value is not None}
        return library.AddedToken(**fields | {"special": special or token.special})

    def _add_tokens(self, tokens, special_tokens):
        backend = self.backend_tokenizer
        add = backend.add_special_tokens if special_tokens else backend.add_tokens
        return add(
            [t if isinstance(t, str) else self._library_token(t, special=False) for t in tokens]
        )

    # ------------------------------------------------------------------ texts to model input

    def tokenize(self, text, pair=None, add_special_tokens=False):
        """Cut a text, or a pair of them, into tokens.

        Parameters
        ----------
        text, pair : str
        add_special_tokens : bool
            Frame them with the special tokens.

        Returns
        -------
        list of str

        Raises
        ------
        TypeError, ValueError
            See `AlbertTokenizer.tokenize`.
        """
        check_text("text", text)
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    def num_special_tokens_to_add(self, pair=False):
        """How many tokens frame a text, or a pair of them."""
        return self.backend_tokenizer.num_special_tokens_to_add(pair)

    def _encode(self, rows, call):
        """See `TokenizerBase`."""
        returned = call.returned
        by_text = self._library_encodings(rows, call)
        if returned.overflowing_tokens:
            by_text = [[first, *first.overflowing] for first in by_text]
        else:
            by_text = [[first] for first in by_text]
        encodings = [encoding for of_text in by_text for encoding in of_text]
        data = {"input_ids": [encoding.ids for encoding in encodings]}
        if returned.token_type_ids is not False:
            data["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        if returned.attention_mask:
            data["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        if returned.special_tokens_mask:
            data["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if returned.offsets_mapping:
            data["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if returned.length:
            data["length"] = [len(encoding.ids) for encoding in encodings]
        if returned.overflowing_tokens:
            data["overflow_to_sample_mapping"] = [
                sample for sample, of_text in enumerate(by_text) for _ in of_text
            ]
        return data, encodings

    def _library_encodings(self, rows, call):
        """One `tokenizers.Encoding` a text or pair; it holds those that overflow."""
        inputs = [
            # An empty second text counts as none, where it is not in a batch.
            first if second is None or not (second or rows.is_batch) else (first, second)
            for first, second in rows.texts
        ]
        with _ONE_CALL_AT_A_TIME:
            try:
                self._set_truncation(call.truncation)
                self._set_padding(call.padding)
                return self.backend_tokenizer.encode_batch(
                    inputs,
                    is_pretokenized=rows.are_words,
                    add_special_tokens=call.add_special_tokens,
                )
            except BaseException as error:
                # The library has no errors of its own, and panics where the stride is too large
                # for what the other text of a pair leaves: that is no Exception.
                if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                    raise
                raise ValueError(f"the text cannot be encoded: {error}") from error
            finally:
                self.backend_tokenizer.no_truncation()
                self.backend_tokenizer.no_padding()

    def _set_truncation(self, truncation):
        if truncation.strategy is not None:
            self.backend_tokenizer.enable_truncation(
                truncation.max_length,
                stride=truncation.stride,
                strategy=truncation.strategy,
                direction=truncation.side,
            )

    def _set_padding(self, padding):
        if padding.strategy is not None:
            self.backend_tokenizer.enable_padding(
                direction=padding.side,
                pad_id=self.pad_token_id,
                pad_token=self.pad_token,
                length=padding.max_length if padding.strategy == "max_length" else None,
                pad_to_multiple_of=padding.multiple_of,
            )

    @staticmethod
    def _without_batch_axis(data):
        if "overflow_to_sample_mapping" in data:
            return data
        return {
            name: values[0] if isinstance(values[0], list) else values
            for name, values in data.items()
        }

    # ------------------------------------------------------------------ tokens, ids, text

    def _token_to_id(self, token):
        index = self.backend_tokenizer.token_to_id(token)
        return self.backend_tokenizer.token_to_id(self.unk_token) if index is None else index

    def _id_to_token(self, name, index):
        is_possible = isinstance(index, Integral) and 0 <= index < 2**32
        token = self.backend_tokenizer.id_to_token(int(index)) if is_possible else None
        if token is None:
            checked_id(name, index, len(self))  # len counts every token, which takes its time
            raise ValueError(f"{name} is {index}; the tokenizer has no such id")
        return token

    def convert_tokens_to_string(self, tokens):
        """Join tokens into a text."""
        for place, token in enumerate(tokens):
            check_text(f"tokens[{place}]", token)
        return self.backend_tokenizer.decoder.decode(list(tokens))

    def _decode(self, ids, skip_special_tokens):
        self.convert_ids_to_tokens(ids)  # each is checked
        return self.backend_tokenizer.decode(ids.tolist(), skip_special_tokens=skip_special_tokens)

    @property
    def vocab_size(self):
        """Pieces of the vocabulary."""
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=False)

    def get_vocab(self):
        """Token → id, as a new dictionary."""
        return self.backend_tokenizer.get_vocab(with_added_tokens=True)

    def __len__(self):
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)


def _resolved(token):
    return token if isinstance(token, str) else token.resolved()


def _sides(backend):
    """The sides that tokenizer.json itself pads and truncates on, if it does."""
    sides = {}
    if backend.padding is not None:
        sides["padding_side"] = backend.padding["direction"]
    if backend.truncation is not None:
        sides["truncation_side"] = backend.truncation["direction"]
    return sides


def _read_tokenizer(library, path):
    read_json_object(path)  # what is no JSON, or far too much of it, the library need not see
    try:
        return library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no other
        raise FileFormatError(f"{path} is not a tokenizer's JSON: {error}") from error
