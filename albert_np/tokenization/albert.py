"""AlbertTokenizer: the five steps, put together."""

from dataclasses import replace
from itertools import chain, count, groupby

from albert_np.tokenization.added_tokens import AddedToken, cut_out, lower_around
from albert_np.tokenization.base import TokenizerBase
from albert_np.tokenization.checks import (
    TokenIds,
    check_text,
    checked_id,
    checked_sampling,
)
from albert_np.tokenization.cleaning import cleaned
from albert_np.tokenization.files import SETTINGS, SPECIAL_TOKENS, VOCABULARY_FILE
from albert_np.tokenization.pieces import cut_into_pieces, read_vocabulary
from albert_np.tokenization.rows import truncated


class AlbertTokenizer(TokenizerBase):
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
    bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token : str or AddedToken
        The special tokens; a dictionary is an `AddedToken` as transformers writes it to JSON. One
        that the vocabulary lacks gets the next id after it. A mask token given as str swallows the
        spaces on its left: `of [MASK]` and `of[MASK]` are the same tokens, as a masked piece's own
        space belongs to it.
    sp_model_kwargs : dict, optional
        What SentencePiece's processor is made with, for one the settings of subword sampling:
        `enable_sampling`, `nbest_size` (above 1: among so many of the best ways to cut a text;
        below 0: among all of them), `alpha` (larger is closer to the best).
    added_tokens_decoder : dict of int to AddedToken, optional
        The tokens added to a tokenizer that was saved, and their ids.
    **options
        `model_max_length`, `padding_side`, `truncation_side`, `additional_special_tokens`,
        `clean_up_tokenization_spaces`, `split_special_tokens`: see `TokenizerBase`.

    Attributes
    ----------
    sp_model : SentencePieceProcessor
    bos_token, ..., mask_token : str
    bos_token_id, ..., mask_token_id : int
    additional_special_tokens, all_special_tokens, all_special_ids : list
    vocab_size : int
        Pieces of the vocabulary. `len(tokenizer)` adds the tokens that it lacks.
    added_tokens_decoder : dict of int to AddedToken

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
    The names and defaults are those of Hugging Face's class `AlbertTokenizer`. With
    `return_overflowing_tokens` a call adds `overflowing_tokens`, the ids that were cut off, and
    `num_truncated_tokens`, their number without the stride. Offsets and word ids are the fast
    class's.
    """

    is_fast = False
    _settings = (*SETTINGS, "sp_model_kwargs")

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
        sp_model_kwargs=None,
        *,
        added_tokens_decoder=None,
        **options,
    ):
        given = (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token, mask_token)
        special_tokens = dict(zip(SPECIAL_TOKENS, given, strict=True))
        super().__init__(special_tokens, do_lower_case, remove_space, keep_accents, **options)
        self.sp_model_kwargs = checked_sampling(sp_model_kwargs)
        self.vocab_file = str(vocab_file)
        self._serialized_vocabulary, self.sp_model = read_vocabulary(
            vocab_file, self.sp_model_kwargs
        )
        self.vocab_size = self.sp_model.get_piece_size()
        self._pieces = [self.sp_model.id_to_piece(index) for index in range(self.vocab_size)]
        self._piece_ids = {piece: index for index, piece in enumerate(self._pieces)}
        self._added_by_id = {}
        self._added_tokens = {}  # content → token
        self._added_ids = {}  # content → id
        for index, token in (added_tokens_decoder or {}).items():
            self._check_saved(index, token)
            self._set_added(index, token.resolved())
        self._add_tokens(self._distinct_special_tokens(), special_tokens=True)

    @staticmethod
    def _vocabulary_files(directory):
        return {"vocab_file": directory / VOCABULARY_FILE}

    def _contents(self, legacy_format):
        if legacy_format is False:
            raise ValueError("legacy_format is False; an AlbertTokenizer has no tokenizer.json")
        return self._legacy_contents() | self._settings_contents("AlbertTokenizer")

    # ------------------------------------------------------------------ added tokens

    @property
    def added_tokens_decoder(self):
        """Id → AddedToken of the tokens that are found in the raw text, by id."""
        return dict(sorted(self._added_by_id.items()))

    def _add_tokens(self, tokens, special_tokens):
        size = len(self)
        for token in tokens:
            if isinstance(token, str):
                if token in self._added_ids:
                    continue
                special = special_tokens or token in self.all_special_tokens
                token = AddedToken(token, special=special).resolved()
            else:
                token = token.resolved()
                token = replace(token, special=special_tokens or token.special)
            if token.normalized and not token.special and self.do_lower_case:
                token = replace(token, content=token.content.lower())
            self._set_added(self._id_for(token.content), token)
            if token.special and token.content not in self.all_special_tokens:
                self._additional_special_tokens.append(token)
        return len(self) - size

    def _id_for(self, content):
        """The id of a token that is there already, or the next one that is free."""
        known = self._added_ids.get(content, self._piece_ids.get(content))
        if known is not None:
            return known
        return next(index for index in count(len(self)) if index not in self._added_by_id)

    def _set_added(self, index, token):
        self._added_by_id[index] = token
        self._added_tokens[token.content] = token
        self._added_ids[token.content] = index

    def _check_saved(self, index, token):
        """Refuse an id that the vocabulary gives to another piece, or a piece of another id."""
        own = self._piece_ids.get(token.content)
        if own != index and (own is not None or index < self.vocab_size):
            raise ValueError(
                f"added_tokens_decoder gives {token.content!r} the id {index}; {self.vocab_file} "
                + (f"gives it {own}" if own is not None else f"has {self.vocab_size} pieces")
            )

    # ------------------------------------------------------------------ text to ids

    def tokenize(self, text):
        """Cut a text into tokens: pieces of the vocabulary, and the added tokens it spells.

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
        check_text("text", text)
        if self.do_lower_case:
            text = lower_around(text, self._spared())
        chunks = [text] if self.split_special_tokens else cut_out(text, self._added_tokens)
        added_tokens = {} if self.split_special_tokens else self._added_tokens
        return list(
            chain.from_iterable(
                [chunk]
                if chunk in added_tokens
                else cut_into_pieces(self.sp_model, self.preprocess_text(chunk))
                for chunk in chunks
            )
        )

    def _spared(self):
        """The tokens that lowering spares: the special ones, and those found in the clean text."""
        found = (t.content for t in self._added_by_id.values() if t.normalized and not t.special)
        return (*self.all_special_tokens, *found)

    def preprocess_text(self, text):
        """Clean a text without special tokens; see `albert_np.tokenization.cleaning`."""
        return cleaned(text, self.do_lower_case, self.remove_space, self.keep_accents)

    def _token_to_id(self, token):
        return self._added_ids.get(token, self._piece_ids.get(token, self.sp_model.unk_id()))

    def get_vocab(self):
        """Token → id, as a new dictionary."""
        return self._piece_ids | self._added_ids

    def __len__(self):
        return self.vocab_size + sum(content not in self._piece_ids for content in self._added_ids)

    # ------------------------------------------------------------------ texts to model input

    def encode(self, text, text_pair=None, **options):
        """The `input_ids` of a call on one text or one pair, with the same options.

        A text may also be given as the list of its tokens, or of its ids.
        """
        if isinstance(text, list | tuple) and not options.get("is_split_into_words"):
            text = self._given_ids(text)
            text_pair = None if text_pair is None else self._given_ids(text_pair)
        return super().encode(text, text_pair, **options)

    def _given_ids(self, text):
        if isinstance(text, str):
            return TokenIds(self._ids(text))
        if any(isinstance(one, str) for one in text):
            return TokenIds(self.convert_tokens_to_ids(text))
        return TokenIds(
            checked_id(f"text[{place}]", one, len(self)) for place, one in enumerate(text)
        )

    def _ids(self, text):
        if isinstance(text, TokenIds):
            return list(text)
        words = [text] if isinstance(text, str) else text
        return self.convert_tokens_to_ids([t for word in words for t in self.tokenize(word)])

    def _encode(self, rows, call):
        """See `TokenizerBase`."""
        self._check_returned(rows, call)
        encoded = [self._encode_row(first, second, call) for first, second in rows.texts]
        data = {name: [row[name] for row in encoded] for name in encoded[0]}
        lengths = {"length": [len(ids) for ids in data["input_ids"]]}
        data = self._padded(data, call.padding)
        if not rows.is_batch:
            lengths = {"length": [len(ids) for ids in data["input_ids"]]}
        return data | (lengths if call.returned.length else {}), None

    def _encode_row(self, first, second, call):
        """Whatever was asked for about one text or pair, by name, without padding."""
        returned = call.returned
        first, second = self._ids(first), None if second is None else self._ids(second)
        given = len(first) + len(second or [])
        overflowing = []
        if call.truncation.max_length is not None:
            room = call.truncation.max_length - call.framing
            first, second, overflowing = truncated(first, second, room, call.truncation)
        ids, types, mask = self._framed(first, second, call.add_special_tokens)
        row = {"input_ids": ids}
        if returned.token_type_ids is not False:
            row["token_type_ids"] = types
        if returned.attention_mask:
            row["attention_mask"] = [1] * len(ids)
        if returned.special_tokens_mask:
            row["special_tokens_mask"] = mask
        if returned.overflowing_tokens:
            row["overflowing_tokens"] = overflowing
            row["num_truncated_tokens"] = given - len(first) - len(second or [])
        return row

    def _framed(self, first, second, add_special_tokens):
        """The ids of a row, their token types, and which are special tokens of the frame."""
        if add_special_tokens:
            return (
                self.build_inputs_with_special_tokens(first, second),
                self.create_token_type_ids_from_sequences(first, second),
                self.get_special_tokens_mask(first, second),
            )
        ids = first + (second or [])
        return ids, [0] * len(ids), [0] * len(ids)

    @staticmethod
    def _check_returned(rows, call):
        """Refuse to return what there is not."""
        if call.returned.offsets_mapping:
            raise NotImplementedError(
                "return_offsets_mapping is True, but an AlbertTokenizer does not know offsets; "
                "an AlbertTokenizerFast does"
            )
        if call.returned.token_type_ids and not call.add_special_tokens:
            raise ValueError(
                "return_token_type_ids is True, but add_special_tokens is False; "
                "token types are those of a framed row"
            )
        if not call.returned.overflowing_tokens:
            return
        if call.padding.max_length is None:
            raise ValueError(
                "return_overflowing_tokens is True, but neither max_length nor "
                "model_max_length gives a length"
            )
        if call.truncation.strategy == "longest_first" and rows.texts[0][1] is not None:
            raise ValueError(
                "return_overflowing_tokens is True, but truncation of a pair is 'longest_first'; "
                "expected 'only_first' or 'only_second', so that one text overflows"
            )

    @staticmethod
    def _without_batch_axis(data):
        return {name: values[0] for name, values in data.items()}

    # ------------------------------------------------------------------ ids to text

    def _id_to_token(self, name, index):
        count = max(self.vocab_size, 1 + max(self._added_by_id))
        index = checked_id(name, index, count)
        if index in self._added_by_id:
            return self._added_by_id[index].content
        if index >= self.vocab_size:  # a saved tokenizer may leave out ids
            raise ValueError(f"{name} is {index}; the tokenizer has no such id")
        return self._pieces[index]

    def convert_tokens_to_string(self, tokens):
        """Join tokens into a text.

        A special token stands as it is, a space before the text that leads up to it and none
        after: `[CLS] the end[SEP]`.
        """
        special_tokens = set(self.all_special_tokens)
        text, pieces, after_special_token = "", [], False
        for place, token in enumerate(tokens):
            check_text(f"tokens[{place}]", token)
            if token in special_tokens:
                text += ("" if after_special_token else " ") + self._join(pieces) + token
                pieces = []
            else:
                pieces.append(token)
            after_special_token = token in special_tokens
        return (text + self._join(pieces)).strip()

    def _join(self, pieces):
        return self.sp_model.decode(pieces) if pieces else ""

    def _decode(self, ids, skip_special_tokens):
        """The text of ids: an added token stands between spaces, other tokens are joined."""
        alone = self._standing_alone()
        parts = []
        tokens = self.convert_ids_to_tokens(ids, skip_special_tokens)
        for is_alone, run in groupby(tokens, alone.__contains__):
            run = list(run)
            parts += run if is_alone else [self.convert_tokens_to_string(run)]
        # Between two added tokens nothing is left of a lone space; after the last, its own does.
        return " ".join(part for place, part in enumerate(parts, 1) if part or place == len(parts))

    def _standing_alone(self):
        """The added tokens that have no name."""
        without_rank = self._added_ids.keys() - set(self.all_special_tokens)
        return without_rank | {
            token
            for token in self.additional_special_tokens
            if self._token_to_id(token) >= self.vocab_size
        }
