"""The tokenizer: against hand-written expectations on two small vocabularies made here, and
against recorded ids on the released one."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenization_support import (
    CLS,
    MASK,
    PAD,
    SEP,
    UNK,
    WORDS,
    added_token,
    piece_model,
    word_model,
    write_json,
)

from albert_np.errors import FileFormatError
from albert_np.tokenization import AlbertTokenizer, AlbertTokenizerFast
from albert_np.tokenization.added_tokens import cut_out

RECORDED = Path(__file__).parent / "recorded" / "tokenization.json"

texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(scope="session")
def word_vocabulary(tmp_path_factory):
    return word_model(tmp_path_factory.mktemp("vocabulary") / "word")


@pytest.fixture(scope="session")
def piece_vocabulary(tmp_path_factory):
    return piece_model(tmp_path_factory.mktemp("vocabulary") / "piece")


@pytest.fixture(scope="session")
def tokenizer(word_vocabulary):
    return AlbertTokenizer(word_vocabulary)


@pytest.fixture(scope="session")
def piece_tokenizer(piece_vocabulary):
    return AlbertTokenizer(piece_vocabulary)


def chunks(tokenizer, text):
    return cut_out(text, tokenizer._added_tokens)


def description(tokenizer, token):
    return tokenizer.added_tokens_decoder[tokenizer.convert_tokens_to_ids(token)]


@pytest.fixture
def directory(tmp_path, word_vocabulary):
    """A checkpoint's directory with a vocabulary and nothing else."""
    (tmp_path / "spiece.model").write_bytes(word_vocabulary.read_bytes())
    return tmp_path


# ---------------------------------------------------------------------- one text, a pair, a batch


def test_one_text_is_framed(tokenizer, word_vocabulary):
    piece_to_id = SentencePieceProcessor(model_file=str(word_vocabulary)).piece_to_id
    encoding = tokenizer("the capital of france")
    words = [piece_to_id(piece) for piece in ("▁the", "▁capital", "▁of", "▁france")]
    assert 1 not in words
    assert encoding.input_ids == [2, *words, 3]
    assert encoding.token_type_ids == [0] * 6
    assert encoding.attention_mask == [1] * 6
    assert encoding == dict(encoding)
    assert list(encoding) == ["input_ids", "token_type_ids", "attention_mask"]


def test_a_pair_is_framed(tokenizer):
    encoding = tokenizer("the capital", "of france is")
    assert tokenizer.convert_ids_to_tokens(encoding.input_ids) == [
        CLS, "▁the", "▁capital", SEP, "▁of", "▁france", "▁is", SEP
    ]  # fmt: skip
    assert encoding.token_type_ids == [0, 0, 0, 0, 1, 1, 1, 1]
    assert encoding.attention_mask == [1] * 8


def test_without_special_tokens(tokenizer):
    encoding = tokenizer("the capital", "of", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(encoding.input_ids) == ["▁the", "▁capital", "▁of"]
    assert encoding.token_type_ids == [0, 0, 0]


def test_nothing_between_the_special_tokens(tokenizer):
    assert tokenizer("").input_ids == [2, 3]
    assert tokenizer(" \t\n").input_ids == [2, 3]
    assert tokenizer("", "").input_ids == [2, 3, 3]
    arrays = tokenizer("", add_special_tokens=False, return_tensors="np")
    assert arrays.input_ids.shape == (1, 0)
    assert arrays.input_ids.dtype == np.int64


@given(batch=st.lists(st.tuples(texts, texts), min_size=1, max_size=4), paired=st.booleans())
def test_a_batch_is_its_rows(tokenizer, batch, paired):
    first, second = map(list, zip(*batch, strict=True))
    pairs = second if paired else None
    encoding = tokenizer(first, pairs)
    for row, (text, text_pair) in enumerate(batch):
        alone = tokenizer(text, text_pair if paired else None)
        assert {name: rows[row] for name, rows in encoding.items()} == alone


def test_what_is_returned_can_be_chosen(tokenizer):
    encoding = tokenizer("the sky", return_token_type_ids=False, return_attention_mask=False)
    assert list(encoding) == ["input_ids"]
    with pytest.raises(AttributeError, match="no attention_mask; it has input_ids"):
        encoding.attention_mask  # noqa: B018


def test_encode_is_the_ids_of_a_call(tokenizer):
    options = {"max_length": 5, "truncation": True}
    assert tokenizer.encode("the sky is blue", **options) == [
        *tokenizer("the sky is blue", **options).input_ids
    ]


@given(first=texts, second=st.none() | texts)
def test_special_tokens_mask_marks_the_frame(tokenizer, first, second):
    ids = [
        None if text is None else tokenizer.encode(text, add_special_tokens=False)
        for text in (first, second)
    ]
    row = tokenizer.build_inputs_with_special_tokens(*ids)
    mask = tokenizer.get_special_tokens_mask(*ids)
    assert mask == tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True)
    assert mask == [int(index in (2, 3)) for index in row]
    assert sum(mask) == tokenizer.num_special_tokens_to_add(second is not None)
    types = tokenizer.create_token_type_ids_from_sequences(*ids)
    assert len(types) == len(row) and sum(types) == (0 if second is None else len(ids[1]) + 1)


# ---------------------------------------------------------------------- what cleaning does


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("  The\t CAPITAL\r\nof \u3000 ", ["▁the", "▁capital", "▁of"]),
        ("caf\u00e9", ["▁cafe"]),
        ("cafe\u0301", ["▁cafe"]),
        ("\uff34\uff48\uff45 \U0001d407\U0001d428\U0001d42d", ["▁the", "▁hot"]),
        # a capital in the text is lowered alone, one that NFKD brings out is lowered in its word
        ("\u0391\u03a3", ["▁\u03b1\u03c3"]),
        ("\U0001d6a8\U0001d6ba", ["▁\u03b1\u03c2"]),
    ],
)
def test_cleaning(tokenizer, text, tokens):
    assert tokenizer.tokenize(text) == tokens


def test_cleaning_can_be_turned_off(word_vocabulary):
    cased = AlbertTokenizer(word_vocabulary, do_lower_case=False)
    assert cased.tokenize("The caf\u00e9") == ["▁The", "▁cafe"]
    accented = AlbertTokenizer(word_vocabulary, keep_accents=True)
    assert accented.tokenize("The caf\u00e9") == ["▁the", "▁caf\u00e9"]
    spaced = AlbertTokenizer(word_vocabulary, remove_space=False)
    assert spaced.preprocess_text(" a  b\n") == " a  b\n"
    assert AlbertTokenizer(word_vocabulary).preprocess_text(" a \x1c b\n") == "a b"


def test_quotes_of_tex_become_one_character(tokenizer):
    assert tokenizer.preprocess_text("``a'' `b'") == '"a" `b\''


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("9,9", ["▁", "9", ",", "9"]),
        ("9, a", ["▁", "9", ",", "▁a"]),
        (",", ["▁", ","]),
    ],
)
def test_a_number_is_parted_from_its_comma(piece_tokenizer, text, tokens):
    assert piece_tokenizer.tokenize(text) == tokens


def test_a_number_with_its_space_is_parted_from_its_comma(tokenizer):
    assert tokenizer.tokenize("in 9, days") == ["▁in", "▁9", ",", "▁days"]
    assert tokenizer.tokenize("in 1,000 days") == ["▁in", "▁1,000", "▁days"]


# ---------------------------------------------------------------------- special tokens


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("the [MASK] of", ["▁the", MASK, "▁of"]),
        ("the[MASK]of", ["▁the", MASK, "▁of"]),
        ("[CLS][SEP]the<unk><pad>", [CLS, SEP, "▁the", UNK, PAD]),
        ("[mask]", ["▁[mask]"]),
        ("<PAD> <Unk>", [PAD, UNK]),
        ("[CLS", ["▁[cls"]),
    ],
)
def test_special_tokens_in_the_text(tokenizer, text, tokens):
    assert tokenizer.tokenize(text) == tokens


def test_special_tokens_in_a_cased_text(word_vocabulary):
    cased = AlbertTokenizer(word_vocabulary, do_lower_case=False)
    assert cased.tokenize("<PAD> <pad>") == ["▁<PAD>", PAD]


def test_which_spaces_a_special_token_swallows(word_vocabulary):
    mask = {"content": MASK, "lstrip": False, "rstrip": True}
    spaced = AlbertTokenizer(word_vocabulary, remove_space=False, mask_token=mask)
    assert chunks(spaced, "a  [MASK]  b [SEP] c") == [
        "a  ", MASK, "b ", SEP, " c"
    ]  # fmt: skip
    default = AlbertTokenizer(word_vocabulary, remove_space=False)
    assert chunks(default, "a  [MASK]  b") == ["a", MASK, "  b"]
    assert chunks(default, "  [MASK][MASK]") == [MASK, MASK]


def test_special_tokens_and_their_ids(tokenizer):
    assert tokenizer.all_special_tokens == [CLS, SEP, UNK, PAD, MASK]
    assert tokenizer.all_special_ids == [2, 3, 1, 0, 4]
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == (CLS, 2)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == (SEP, 3)
    assert (tokenizer.unk_token, tokenizer.unk_token_id) == (UNK, 1)
    assert (tokenizer.sep_token, tokenizer.sep_token_id) == (SEP, 3)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == (PAD, 0)
    assert (tokenizer.cls_token, tokenizer.cls_token_id) == (CLS, 2)
    assert (tokenizer.mask_token, tokenizer.mask_token_id) == (MASK, 4)


def test_special_tokens_that_the_vocabulary_lacks_come_after_it(word_vocabulary):
    tokenizer = AlbertTokenizer(
        word_vocabulary, mask_token="<mask>", bos_token="<S>", pad_token="the"
    )
    size = tokenizer.vocab_size
    assert (tokenizer.bos_token_id, tokenizer.mask_token_id) == (size, size + 2)
    assert tokenizer.pad_token_id == size + 1  # the piece is ▁the; `the` is not one
    assert len(tokenizer) == size + 3 == len(tokenizer.get_vocab())
    assert tokenizer.tokenize("<S> a <MASK>") == ["<S>", "▁a", "<mask>"]
    assert tokenizer.convert_ids_to_tokens(size + 2) == "<mask>"


def test_of_two_names_for_a_special_token_the_earlier_describes_it(word_vocabulary):
    spaced = AlbertTokenizer(
        word_vocabulary,
        remove_space=False,
        sep_token={"content": SEP, "lstrip": True},
        bos_token={"content": CLS, "rstrip": True},
    )
    assert chunks(spaced, "[CLS]  a  [SEP]") == [CLS, "a  ", SEP]


def test_of_two_special_tokens_the_longer_is_found(word_vocabulary):
    tokenizer = AlbertTokenizer(word_vocabulary, sep_token="<a>", mask_token="<a><b>")
    assert tokenizer.tokenize("<a><b><a>") == ["<a><b>", "<a>"]


# ---------------------------------------------------------------------- padding and truncation


@given(batch=st.lists(texts, min_size=1, max_size=4), extra=st.integers(0, 3))
def test_padding(tokenizer, batch, extra):
    plain = tokenizer(batch)
    longest = max(map(len, plain.input_ids))
    for length, options in [
        (longest, {"padding": True}),
        (longest, {"padding": "longest"}),
        (longest + extra, {"padding": "max_length", "max_length": longest + extra}),
    ]:
        padded = tokenizer(batch, return_tensors="np", **options)
        for rows in padded.values():
            assert rows.shape == (len(batch), length)
            assert rows.dtype == np.int64
        for row, ids in enumerate(plain.input_ids):
            assert padded.input_ids[row].tolist() == ids + [0] * (length - len(ids))
            assert padded.attention_mask[row].sum() == len(ids)
            assert padded.attention_mask[row][: len(ids)].all()
            assert not padded.token_type_ids[row].any()


def test_padding_to_less_than_a_row_leaves_it(tokenizer):
    encoding = tokenizer(["the sky", ""], padding="max_length", max_length=3)
    assert [len(ids) for ids in encoding.input_ids] == [4, 3]


def test_one_text_as_an_array_has_one_row(tokenizer):
    assert tokenizer("the sky", return_tensors="np").input_ids.shape == (1, 4)


def longest_first(first, second, room):
    """Token by token, as the rule says; at equal lengths the second gives up the next."""
    first, second = list(first), list(second)
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


@given(first=texts, second=texts, max_length=st.integers(3, 28))
def test_truncating_the_longer_of_a_pair(tokenizer, first, second, max_length):
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in (first, second)]
    row = tokenizer.build_inputs_with_special_tokens(*longest_first(*ids, max_length - 3))
    encoding = tokenizer(first, second, truncation=True, max_length=max_length)
    assert encoding.input_ids == row
    assert len(row) == min(max_length, sum(map(len, ids)) + 3)
    assert len(encoding.token_type_ids) == len(encoding.attention_mask) == len(row)
    assert encoding == tokenizer(first, second, truncation="longest_first", max_length=max_length)


@given(text=texts, max_length=st.integers(3, 16))
def test_truncating_one_text(tokenizer, text, max_length):
    ids = tokenizer.encode(text, add_special_tokens=False)
    row = [2, *ids[: max_length - 2], 3]
    assert tokenizer(text, truncation=True, max_length=max_length).input_ids == row
    assert tokenizer(text, truncation="only_first", max_length=max_length).input_ids == row


def test_truncating_the_first_or_the_second(tokenizer):
    first, second = "the sky is blue", "the sea is blue"
    row = tokenizer(first, second, truncation="only_first", max_length=8).input_ids
    assert tokenizer.decode(row) == "[CLS] the[SEP] the sea is blue[SEP]"
    row = tokenizer(first, second, truncation="only_second", max_length=8).input_ids
    assert tokenizer.decode(row) == "[CLS] the sky is blue[SEP] the[SEP]"


def test_when_a_length_truncates(word_vocabulary, tokenizer):
    text = "the sky is blue and the sea is blue"
    limited = AlbertTokenizer(word_vocabulary, model_max_length=6)
    whole = len(tokenizer(text).input_ids)
    for length, of, options in [
        (5, tokenizer, {"max_length": 5}),
        (whole, tokenizer, {"max_length": 5, "truncation": False}),
        (whole, tokenizer, {"max_length": 5, "padding": True}),
        (whole, tokenizer, {"truncation": True}),
        (6, limited, {"truncation": True}),
        (whole, limited, {}),
        (5, limited, {"truncation": True, "max_length": 5}),
    ]:
        assert len(of(text, **options).input_ids) == length
    assert len(limited("the", padding="max_length").input_ids) == 6


# ---------------------------------------------------------------------- back to text


@given(text=texts)
def test_decoding_inverts_encoding(tokenizer, piece_tokenizer, text):
    for one in (tokenizer, piece_tokenizer):
        assert one.decode(one.encode(text, add_special_tokens=False)) == text
        assert one.decode(one.encode(text), skip_special_tokens=True) == text
        assert one.decode(one(text, return_tensors="np").input_ids[0], True) == text


def test_decoding_special_tokens(tokenizer):
    ids = tokenizer("the capital of [MASK] is paris", padding="max_length", max_length=10).input_ids
    assert tokenizer.decode(ids) == "[CLS] the capital of[MASK] is paris[SEP]<pad><pad>"
    assert tokenizer.decode(4) == MASK
    assert tokenizer.decode([]) == ""
    assert tokenizer.batch_decode([ids, [2, 3]], skip_special_tokens=True) == [
        "the capital of is paris",
        "",
    ]


def test_decoding_can_tidy_punctuation(piece_tokenizer, piece_vocabulary):
    ids = piece_tokenizer.convert_tokens_to_ids(["▁a", "▁", ","])
    assert piece_tokenizer.decode(ids) == "a ,"
    assert piece_tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "a,"
    tidy = AlbertTokenizer(piece_vocabulary, clean_up_tokenization_spaces=True)
    assert tidy.decode(ids) == "a,"
    assert tidy.decode(ids, clean_up_tokenization_spaces=False) == "a ,"


def test_tokens_and_ids_are_each_others_inverse(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert list(vocabulary.values()) == list(range(len(tokenizer)))
    assert tokenizer.convert_tokens_to_ids(list(vocabulary)) == list(vocabulary.values())
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == list(vocabulary)
    assert tokenizer.convert_tokens_to_ids("nowhere") == tokenizer.unk_token_id
    assert tokenizer.convert_ids_to_tokens([2, 7, 3], skip_special_tokens=True) == [
        tokenizer.convert_ids_to_tokens(7)
    ]


# ---------------------------------------------------------------------- saving and loading


SETTINGS = [
    {},
    {"do_lower_case": False, "keep_accents": True, "remove_space": False},
    {"model_max_length": 7, "clean_up_tokenization_spaces": True},
    {"mask_token": "<mask>", "bos_token": "<s>"},
    {"mask_token": {"content": MASK, "lstrip": False, "rstrip": True}},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_saving_and_loading_give_the_same_tokenizer(word_vocabulary, tmp_path, settings):
    saved = AlbertTokenizer(word_vocabulary, **settings)
    directory = tmp_path / "new" / "directory"
    saved.save_pretrained(directory)
    names = ["special_tokens_map.json", "spiece.model", "tokenizer_config.json"]
    if len(saved) > saved.vocab_size:
        names.insert(0, "added_tokens.json")
    assert sorted(path.name for path in directory.iterdir()) == names
    assert (directory / "spiece.model").read_bytes() == word_vocabulary.read_bytes()
    loaded = AlbertTokenizer.from_pretrained(directory)
    names = [*AlbertTokenizer._settings, "added_tokens_decoder", "vocab_size", "all_special_ids"]
    assert [getattr(loaded, name) for name in names] == [getattr(saved, name) for name in names]
    assert loaded.get_vocab() == saved.get_vocab()
    text = "The caf\u00e9  [MASK]  <mask> is <s>"
    assert loaded(text) == saved(text)


def test_saving_over_itself(word_vocabulary, directory):
    tokenizer = AlbertTokenizer(directory / "spiece.model")
    tokenizer.save_pretrained(directory)
    assert (directory / "spiece.model").read_bytes() == word_vocabulary.read_bytes()


def test_loading_a_vocabulary_alone(directory, tokenizer):
    assert AlbertTokenizer.from_pretrained(directory)("the [MASK]") == tokenizer("the [MASK]")


def test_loading_special_tokens_as_dictionaries(directory):
    config = {"do_lower_case": False, "mask_token": {"__type": "AddedToken", **added_token(MASK)}}
    write_json(directory / "tokenizer_config.json", config)
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    assert not tokenizer.do_lower_case
    assert not description(tokenizer, MASK).lstrip


def test_loading_descriptions_of_added_tokens(directory):
    described = {"4": added_token(MASK, lstrip=False, special=True)}
    config = {"mask_token": MASK, "added_tokens_decoder": described}
    write_json(directory / "tokenizer_config.json", config)
    # the special tokens' own file has no say beside added_tokens_decoder
    write_json(directory / "special_tokens_map.json", {"mask_token": "<other>"})
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    assert tokenizer.mask_token == MASK
    assert not description(tokenizer, MASK).lstrip


def test_loading_what_older_versions_saved(directory):
    write_json(directory / "tokenizer_config.json", {"model_max_length": 9, "mask_token": MASK})
    write_json(directory / "special_tokens_map.json", {"mask_token": "<mask>"})
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    write_json(directory / "added_tokens.json", {"<mask>": tokenizer.vocab_size})
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    assert tokenizer.mask_token == "<mask>"
    assert tokenizer.mask_token_id == tokenizer.vocab_size
    assert tokenizer.model_max_length == 9


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        (
            "tokenizer_config.json",
            "[]",
            "tokenizer_config.json holds a JSON list; expected an object",
        ),
        ("tokenizer_config.json", '{"do_lower_case": "yes"}', "do_lower_case is 'yes'"),
        ("tokenizer_config.json", '{"model_max_length": "x"}', "model_max_length is 'x'"),
        ("tokenizer_config.json", '{"mask_token": null}', "mask_token is of type NoneType"),
        ("tokenizer_config.json", '{"mask_token": ["a"]}', "mask_token is of type list"),
        ("tokenizer_config.json", '{"padding_side": "up"}', "padding_side is 'up'; expected one"),
        ("tokenizer_config.json", '{"truncation_side": 1}', "truncation_side is 1; expected one"),
        ("tokenizer_config.json", '{"split_special_tokens": 1}', "split_special_tokens is 1"),
        ("tokenizer_config.json", '{"sp_model_kwargs": {"beta": 1}}', "sp_model_kwargs holds"),
        ("tokenizer_config.json", '{"sp_model_kwargs": 1}', "sp_model_kwargs is 1"),
        ("tokenizer_config.json", '{"extra_special_tokens": {"a": "b"}}', "extra_special_tokens"),
        ("tokenizer_config.json", '{"additional_special_tokens": "<e>"}', "is of type str"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "are not readable"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "are not readable"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": "<new>"}}', "are not readable"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": {"content": "<new>"}}}', "<new>"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"9": {"content": "[MASK]"}}}', "id 9"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"-1": {"content": "<n>"}}}', "id -1"),
        ("special_tokens_map.json", '{"additional_special_tokens": "<e>"}', "is of type str"),
        ("special_tokens_map.json", '{"mask_token": 4}', "mask_token is of type int"),
        ("added_tokens.json", '{"<new>": 9}', "gives '<new>' the id 9"),
        ("added_tokens.json", '{"<new>": "a"}', "are not readable"),
        ("tokenizer.json", '{"added_tokens": [{"id": 9, "content": "<new>"}]}', "'<new>'"),
        ("tokenizer.json", '{"added_tokens": [{"content": "<new>"}]}', "are not readable"),
        ("tokenizer_config.json", "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_asks_for_too_much_or_makes_no_sense(directory, name, content, message):
    (directory / name).write_text(content, encoding="utf-8")
    with pytest.raises(FileFormatError) as caught:
        AlbertTokenizer.from_pretrained(directory)
    assert message in str(caught.value)
    assert str(directory) in str(caught.value)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00" * 64, b"\xff" * 64, b'{"vocab": []}', b"\x0a", b"\x80"]
)
def test_a_vocabulary_that_is_none(tmp_path, content):
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"spiece\.model is not a"):
        AlbertTokenizer(path)


def test_a_vocabulary_cut_off_anywhere(word_vocabulary, tmp_path):
    """At every place before the normaliser, the long last part, and at some within it."""
    content = word_vocabulary.read_bytes()
    path = tmp_path / "spiece.model"
    normaliser = content.index(b"nmt_nfkc")
    for length in [*range(normaliser), *range(normaliser, len(content), 9973), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"spiece\.model is not a"):
            AlbertTokenizer(path)


def test_a_vocabulary_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"spiece\.model"):
        AlbertTokenizer(tmp_path / "spiece.model")
    with pytest.raises(FileNotFoundError, match=r"spiece\.model"):
        AlbertTokenizer.from_pretrained(tmp_path)


def test_an_output_that_cannot_be_written(tokenizer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        tokenizer.save_pretrained(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        tokenizer.save_pretrained(tmp_path / "file" / "below")
    (tmp_path / "tokenizer_config.json").mkdir()
    with pytest.raises(OSError, match="tokenizer_config"):
        tokenizer.save_pretrained(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((b"the",), "text is of type bytes"),
        ((None,), "text is of type NoneType"),
        ((7,), "text is of type int"),
        ((["the", 7],), r"text\[1\] is of type int"),
        (([["the"]],), r"text\[0\] is of type list"),
        (("the", ["sky"]), "text_pair is of type list"),
        ((["the"], "sky"), "text_pair is of type str; expected a list"),
        ((["the", "a"], ["sky", None]), r"text_pair\[1\] is of type NoneType"),
    ],
)
def test_a_text_of_the_wrong_type(tokenizer, arguments, message):
    with pytest.raises(TypeError, match=message):
        tokenizer(*arguments)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([],), {}, "text is an empty batch"),
        ((["the"], ["sky", "sea"]), {}, "text has 1 rows; text_pair has 2"),
        (("a\ud800b",), {}, r"text holds the lone surrogate U\+D800 at position 1"),
        (("a", "\udfff"), {}, r"text_pair holds the lone surrogate U\+DFFF at position 0"),
        ((["a", "\ud83d\ude00"],), {}, r"text\[1\] holds the lone surrogate U\+D83D"),
        (("the",), {"truncation": "shortest"}, "truncation is 'shortest'; expected one of"),
        (("the",), {"truncation": 1}, "truncation is 1; expected one of"),
        (("the",), {"padding": "left"}, "padding is 'left'; expected one of"),
        (("the",), {"padding_side": "up"}, "padding_side is 'up'; expected one of"),
        (("the",), {"pad_to_multiple_of": 0}, "pad_to_multiple_of is 0; expected at least 1"),
        (("the",), {"stride": -1}, "stride is -1; expected at least 0"),
        (
            ("the",),
            {"truncation": True, "max_length": 8, "stride": 6},
            "stride is 6; expected less than 6, which is max_length, 8, without the 2 special",
        ),
        (("the", "a"), {"max_length": 8, "stride": 8}, "stride is 8; expected less than 5"),
        (
            ("the",),
            {"padding": True, "truncation": True, "max_length": 8, "pad_to_multiple_of": 3},
            "max_length is 8, which rows are cut to; expected a multiple of pad_to_multiple_of, 3",
        ),
        (("the",), {"padding": None}, "padding is None; expected one of"),
        (("the",), {"return_tensors": "pt"}, "return_tensors is 'pt'; expected None or 'np'"),
        (("the",), {"padding": "max_length"}, "neither max_length nor model_max_length"),
        (("the",), {"max_length": 0}, "max_length is 0; expected at least 1"),
        (("the",), {"max_length": 1}, "max_length is 1; the special tokens alone are 2"),
        (("", ""), {"max_length": 2}, "max_length is 2; the special tokens alone are 3"),
        (("the",), {"max_length": 2}, "remove 1 tokens from the first text, which has 1"),
        (
            ("the", "the sky"),
            {"truncation": "only_first", "max_length": 5},
            "remove 1 tokens from the first text, which has 1",
        ),
        (
            ("the sky is",),
            {"truncation": "only_second", "max_length": 4},
            "remove 1 tokens from the second text, which has 0",
        ),
        ((["the", ""],), {"return_tensors": "np"}, "the rows of input_ids have 2 to 3 tokens"),
    ],
)
def test_an_impossible_call(tokenizer, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(*arguments, **options)


@pytest.mark.parametrize("max_length", ["5", 5.0, True])
def test_a_length_of_the_wrong_type(tokenizer, max_length):
    with pytest.raises(TypeError, match="max_length is"):
        tokenizer("the", max_length=max_length)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"do_lower_case": 1}, TypeError, "do_lower_case is 1; expected True or False"),
        ({"model_max_length": 0}, ValueError, "model_max_length is 0; expected at least 1"),
        ({"mask_token": 4}, TypeError, "mask_token is of type int; expected str"),
        ({"mask_token": ""}, ValueError, "mask_token is empty"),
        ({"mask_token": {}}, TypeError, "mask_token is of type NoneType"),
        ({"sep_token": "\ud800"}, ValueError, "sep_token holds the lone surrogate"),
        ({"padding_side": "both"}, ValueError, "padding_side is 'both'; expected one of"),
        ({"truncation_side": None}, ValueError, "truncation_side is None; expected one of"),
        ({"split_special_tokens": 0}, TypeError, "split_special_tokens is 0"),
        ({"additional_special_tokens": ["a", 3]}, TypeError, r"tokens\[1\] is of type int"),
        ({"sp_model_kwargs": [1]}, TypeError, r"sp_model_kwargs is \[1\]; expected a dictionary"),
        ({"sp_model_kwargs": {"model_file": "x"}}, ValueError, "holds 'model_file'; expected some"),
        ({"size": 3}, TypeError, "size"),
    ],
)
def test_an_impossible_tokenizer(word_vocabulary, options, error, message):
    with pytest.raises(error, match=message):
        AlbertTokenizer(word_vocabulary, **options)


def test_ids_that_are_none(tokenizer):
    size = len(tokenizer)
    for ids, error, message in [
        ([3, size], ValueError, rf"ids\[1\] is {size}; the tokenizer's ids are 0 to {size - 1}"),
        (-1, ValueError, r"ids\[0\] is -1"),
        ([0.5], TypeError, r"ids\[0\] is of type float64; expected an integer"),
        (["3"], TypeError, r"ids\[0\] is of type str_"),
        ([[2, 3]], TypeError, r"ids\[0\] is of type ndarray"),
    ]:
        with pytest.raises(error, match=message):
            tokenizer.decode(ids)
    with pytest.raises(TypeError, match=r"tokens\[0\] is of type int; expected str"):
        tokenizer.convert_tokens_to_ids([3])
    with pytest.raises(ValueError, match=r"tokens\[0\] holds the lone surrogate"):
        tokenizer.convert_tokens_to_string(["\ud800"])
    with pytest.raises(ValueError, match="token_ids_1 is given"):
        tokenizer.get_special_tokens_mask([2, 3], [3], already_has_special_tokens=True)


# ---------------------------------------------------------------------- the released vocabulary


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[AlbertTokenizer, AlbertTokenizerFast])
def tokenizer_class(request):
    if request.param is AlbertTokenizerFast:
        pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")
    return request.param


def cases(recorded, name, tokenizer_class):
    return [case for case in recorded[name] if case["class"] == tokenizer_class.__name__]


def test_recorded_texts(shared_data, recorded, tokenizer_class):
    tokenizers = [
        tokenizer_class(shared_data / "spiece.model", **options) for options in recorded["options"]
    ]
    texts = cases(recorded, "texts", tokenizer_class)
    assert len(texts) > 50
    for case in texts:
        for tokenizer, ids, decoded in zip(
            tokenizers, case["input_ids"], case["decoded"], strict=True
        ):
            assert tokenizer(case["text"]).input_ids == ids, ascii(case["text"])
            assert tokenizer.decode(ids) == decoded


def test_recorded_calls(shared_data, recorded, tokenizer_class):
    tokenizer = tokenizer_class(shared_data / "spiece.model")
    calls = cases(recorded, "calls", tokenizer_class)
    assert len(calls) > 20
    for case in calls:
        options = dict(case["options"])
        tokenizer.truncation_side = options.pop("truncation_side", "right")
        encoding = tokenizer(*case["texts"], **options)
        result = json.loads(json.dumps(encoding))  # places are pairs, which JSON has as lists
        if "word_ids" in case["encoding"]:
            result["word_ids"] = encoding.word_ids()
        assert result == case["encoding"], case


def test_recorded_texts_with_added_tokens(shared_data, recorded, tokenizer_class):
    tokenizer = tokenizer_class(shared_data / "spiece.model")
    tokenizer.add_tokens(recorded["added"])
    for case in cases(recorded, "texts_with_added", tokenizer_class):
        assert tokenizer(case["text"]).input_ids == case["input_ids"]
        assert tokenizer.decode(case["input_ids"]) == case["decoded"]
