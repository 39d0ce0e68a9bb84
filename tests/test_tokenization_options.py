"""The tokenizer's options beyond the plain call: sides, strides, overflow, words, masks, added
tokens, padding of encodings, sampling. Against expectations written by hand, on a vocabulary of
whole words."""

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenization_support import CLS, MASK, PAD, SEP, WORDS, piece_model, word_model, write_json

from albert_np.errors import FileFormatError
from albert_np.tokenization import AddedToken, AlbertTokenizer, AlbertTokenizerFast
from albert_np.tokenization.added_tokens import cut_out, lower_around

texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return word_model(tmp_path_factory.mktemp("vocabulary") / "word")


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return AlbertTokenizer(vocabulary)


@pytest.fixture
def fresh(vocabulary):
    """A tokenizer that a test may change."""
    return AlbertTokenizer(vocabulary)


def tokens(tokenizer, ids):
    return [token.removeprefix("▁") for token in tokenizer.convert_ids_to_tokens(ids)]


# ---------------------------------------------------------------------- sides


def test_padding_on_the_left(vocabulary, tokenizer):
    for encoding in (
        tokenizer(["the sky", ""], padding=True, padding_side="left"),
        AlbertTokenizer(vocabulary, padding_side="left")(["the sky", ""], padding=True),
    ):
        assert tokens(tokenizer, encoding.input_ids[1]) == [PAD, PAD, CLS, SEP]
        assert encoding.attention_mask == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_truncation_on_the_left(vocabulary):
    left = AlbertTokenizer(vocabulary, truncation_side="left")
    ids = left.encode("the sky is blue", max_length=4, truncation=True)
    assert tokens(left, ids) == [CLS, "is", "blue", SEP]
    ids = left.encode("the sky", "a sea is", max_length=6, truncation="only_second")
    assert tokens(left, ids) == [CLS, "the", "sky", SEP, "is", SEP]


@given(
    first=texts,
    second=texts,
    max_length=st.integers(3, 28),
    strategy=st.sampled_from(["longest_first", "only_first", "only_second"]),
)
def test_sides_mirror_each_other(vocabulary_sides, first, second, max_length, strategy):
    """Cutting the left of texts is cutting the right of the texts read backwards."""
    right, left = vocabulary_sides
    options = {"truncation": strategy, "max_length": max_length}
    backwards = [" ".join(reversed(text.split())) for text in (first, second)]
    try:
        row = right(first, second, **options).input_ids
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            left(*backwards, **options)
        return
    separator = row.index(3)
    mirrored = [2, *row[separator - 1 : 0 : -1], 3, *row[-2:separator:-1], 3]
    assert left(*backwards, **options).input_ids == mirrored


@pytest.fixture(scope="module")
def vocabulary_sides(vocabulary):
    return AlbertTokenizer(vocabulary), AlbertTokenizer(vocabulary, truncation_side="left")


# ---------------------------------------------------------------------- length and overflow


@given(
    batch=st.lists(texts, min_size=1, max_size=4),
    multiple=st.integers(1, 9),
    padding=st.sampled_from([True, "max_length", False]),
)
def test_padding_to_a_multiple(tokenizer, batch, multiple, padding):
    options = {"padding": padding, "pad_to_multiple_of": multiple}
    if padding == "max_length":
        options["max_length"] = 15
    rows = tokenizer(batch, **options).input_ids
    plain = tokenizer(batch).input_ids
    if padding is False:
        assert rows == plain
        return
    length = 15 if padding == "max_length" else max(map(len, plain))
    assert {len(row) for row in rows} == {-(-length // multiple) * multiple}


@given(text=texts, max_length=st.integers(4, 16), stride=st.integers(0, 12), left=st.booleans())
def test_what_overflows(vocabulary_sides, text, max_length, stride, left):
    tokenizer = vocabulary_sides[left]
    whole = tokenizer.encode(text, add_special_tokens=False)
    room = max_length - 2
    options = {"max_length": max_length, "truncation": True, "return_overflowing_tokens": True}
    if stride >= room:
        with pytest.raises(ValueError, match=f"stride is {stride}; expected less than {room}"):
            tokenizer(text, stride=stride, **options)
        return
    encoding = tokenizer(text, stride=stride, **options)
    excess = max(0, len(whole) - room)
    assert encoding.num_truncated_tokens == excess
    window = min(len(whole), excess + stride) if excess else 0
    if left:
        assert encoding.input_ids == [2, *whole[excess:], 3]
        assert encoding.overflowing_tokens == whole[:window]
    else:
        assert encoding.input_ids == [2, *whole[:room], 3]
        assert encoding.overflowing_tokens == whole[len(whole) - window :]


def test_what_overflows_of_a_pair(tokenizer):
    encoding = tokenizer(
        ["the sky", "a dog"],
        ["is blue and is blue", "is"],
        truncation="only_second",
        max_length=8,
        stride=1,
        return_overflowing_tokens=True,
        padding=True,
    )
    assert [tokens(tokenizer, ids) for ids in encoding.overflowing_tokens] == [
        ["and", "is", "blue"],
        [],
    ]
    assert encoding.num_truncated_tokens == [2, 0]
    assert [len(ids) for ids in encoding.input_ids] == [8, 8]


def test_when_nothing_can_overflow(tokenizer):
    with pytest.raises(ValueError, match="return_overflowing_tokens is True, but neither"):
        tokenizer("the sky", return_overflowing_tokens=True)
    with pytest.raises(ValueError, match="of a pair is 'longest_first'; expected 'only_first'"):
        tokenizer("a", "the", truncation=True, max_length=9, return_overflowing_tokens=True)
    encoding = tokenizer("the sky", padding=True, max_length=3, return_overflowing_tokens=True)
    assert (encoding.overflowing_tokens, encoding.num_truncated_tokens) == ([], 0)


def test_lengths(tokenizer):
    assert tokenizer("the sky", return_length=True).length == 4
    options = {"return_length": True, "padding": "max_length", "max_length": 6}
    assert tokenizer("the sky", **options).length == 6
    assert tokenizer(["the sky", ""], **options).length == [4, 2]  # as transformers counts


# ---------------------------------------------------------------------- words and masks


@given(words=st.lists(texts, max_size=5), other=st.none() | st.lists(texts, max_size=5))
def test_texts_given_as_words(tokenizer, words, other):
    """On whole words, cutting each by itself is cutting the text."""
    joined = [None if text is None else " ".join(text) for text in (words, other)]
    encoding = tokenizer(words, other, is_split_into_words=True)
    assert encoding == tokenizer(*joined)
    if words:
        batch = tokenizer([words], None if other is None else [other], is_split_into_words=True)
        assert batch == {name: [row] for name, row in encoding.items()}


def test_special_tokens_mask(tokenizer):
    mask = tokenizer(
        ["the [MASK]", ""],
        ["a", "the sky is"],
        padding="max_length",
        max_length=8,
        return_special_tokens_mask=True,
    ).special_tokens_mask
    assert mask == [[1, 0, 0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1, 1, 1]]
    bare = tokenizer("the", return_special_tokens_mask=True, add_special_tokens=False)
    assert bare.special_tokens_mask == [0]


def test_what_only_the_fast_class_knows(tokenizer):
    with pytest.raises(NotImplementedError, match="an AlbertTokenizerFast does"):
        tokenizer("the sky", return_offsets_mapping=True)
    encoding = tokenizer("the sky")
    for method in (encoding.tokens, encoding.word_ids, encoding.sequence_ids):
        with pytest.raises(ValueError, match="needs the encoding of an AlbertTokenizerFast"):
            method()
    with pytest.raises(ValueError, match="char_to_token needs"):
        encoding.char_to_token(0)


def test_token_types_want_a_frame(tokenizer):
    with pytest.raises(ValueError, match="return_token_type_ids is True, but add_special_tokens"):
        tokenizer("the", add_special_tokens=False, return_token_type_ids=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("the",), "text is of type str; expected a list of words"),
        ((["the"], "sky"), "text_pair is of type str; expected a list of words"),
        (([["the"]], ["sky"]), r"text_pair\[0\] is of type str; expected a list of words"),
        ((["the", ["sky"]],), r"text\[0\] is of type str; expected a list of words"),
        ((["the", 3],), r"text\[1\] is of type int; expected str"),
    ],
)
def test_words_of_the_wrong_type(tokenizer, arguments, message):
    with pytest.raises(TypeError, match=message):
        tokenizer(*arguments, is_split_into_words=True)


def test_encoding_tokens_and_ids(tokenizer):
    text = "the sky is blue"
    pieces = tokenizer.tokenize(text)
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert tokenizer.encode(pieces) == tokenizer.encode(ids) == tokenizer.encode(text)
    assert tokenizer.encode(ids, "a", max_length=6, truncation=True) == tokenizer.encode(
        text, "a", max_length=6, truncation=True
    )
    with pytest.raises(ValueError, match=r"text\[1\] is -1"):
        tokenizer.encode([2, -1])


# ---------------------------------------------------------------------- padding of encodings


@given(batch=st.lists(texts, min_size=1, max_size=4), left=st.booleans(), mask=st.booleans())
def test_padding_encodings_is_padding_in_the_call(tokenizer, batch, left, mask):
    options = {"padding_side": "left" if left else "right", "pad_to_multiple_of": 4}
    expected = tokenizer(batch, padding=True, **options)
    rows = [tokenizer(text, return_attention_mask=mask) for text in batch]
    assert tokenizer.pad(rows, **options) == expected
    assert tokenizer.pad(tokenizer(batch, return_attention_mask=mask), **options) == expected
    arrays = tokenizer.pad([tokenizer(text, return_tensors="np") for text in batch][:1])
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    one = tokenizer.pad(tokenizer(batch[0]), "max_length", max_length=15, return_tensors="np")
    assert one.input_ids.shape == (15,)
    assert one.attention_mask.sum() == len(tokenizer(batch[0]).input_ids)


def test_padding_leaves_other_names_as_they_are(tokenizer):
    rows = [{"input_ids": [2, 3], "label": 1}, {"input_ids": [2], "label": 0}]
    assert tokenizer.pad(rows) == {
        "input_ids": [[2, 3], [2, 0]],
        "label": [1, 0],
        "attention_mask": [[1, 1], [1, 0]],
    }
    assert "attention_mask" not in tokenizer.pad(rows, return_attention_mask=False)
    assert rows[1] == {"input_ids": [2], "label": 0}


@pytest.mark.parametrize(
    "encodings, error, message",
    [
        (None, TypeError, "encoded_inputs is of type NoneType; expected an encoding"),
        ([], TypeError, "encoded_inputs is of type list; expected an encoding"),
        ([[2, 3]], TypeError, r"encoded_inputs\[0\] is of type list"),
        ({"ids": [2]}, ValueError, "encoded_inputs holds ids; expected input_ids"),
        ([{"input_ids": [2]}, {"input_ids": [2], "a": 1}], ValueError, r"\[1\] holds input_ids, a"),
        ({"input_ids": [[2], [3]], "a": [1]}, ValueError, "a has 1 rows; input_ids has 2"),
    ],
)
def test_encodings_that_are_none(tokenizer, encodings, error, message):
    with pytest.raises(error, match=message):
        tokenizer.pad(encodings)


# ---------------------------------------------------------------------- added tokens


def test_added_tokens_get_the_next_ids(fresh):
    size = len(fresh)
    assert fresh.add_tokens(["<e1>", AddedToken("Fox", normalized=False), "▁the"]) == 2
    assert fresh.add_tokens("<e1>") == 0
    assert len(fresh) == size + 2
    assert fresh.convert_tokens_to_ids(["<e1>", "Fox"]) == [size, size + 1]
    assert fresh.convert_ids_to_tokens([size, size + 1]) == ["<e1>", "Fox"]
    assert fresh.get_vocab()["Fox"] == size + 1
    assert fresh.get_added_vocab()["<e1>"] == size
    assert fresh.tokenize("the<e1>sky") == ["▁the", "<e1>", "▁sky"]
    # a token that is not looked for in the clean text is lowered away
    assert fresh.tokenize("Fox") == ["▁fox"]


def test_an_added_special_token_without_a_name_is_one_of_the_special_tokens(fresh):
    fresh.add_tokens(["<q>"], special_tokens=True)
    assert fresh.additional_special_tokens == ["<q>"]
    assert fresh.decode(fresh.encode("the<q>sky"), skip_special_tokens=True) == "the sky"


def test_an_added_token_is_lowered_like_the_text(fresh, vocabulary):
    fresh.add_tokens(["New"])
    assert "new" in fresh.get_vocab() and "New" not in fresh.get_vocab()
    assert fresh.tokenize("the NEW sky") == ["▁the", "new", "▁sky"]
    cased = AlbertTokenizer(vocabulary, do_lower_case=False)
    cased.add_tokens(["New"])
    assert cased.tokenize("NEW New") == ["▁NEW", "New"]


@pytest.mark.parametrize(
    "flags, chunks",
    [
        ({}, ["a ", "x", " b"]),
        ({"lstrip": True}, ["a", "x", " b"]),
        ({"rstrip": True}, ["a ", "x", "b"]),
        ({"single_word": True}, ["a ", "x", " b"]),
    ],
)
def test_spaces_around_an_added_token(flags, chunks):
    assert cut_out("a x b", {"x": AddedToken("x", **flags)}) == chunks


@pytest.mark.parametrize(
    "text, chunks",
    [
        ("x", ["x"]),
        ("ax b", ["ax", " b"]),
        ("a xb", ["a ", "xb"]),
        ("axb", ["ax", "b"]),
        (" x ", [" ", "x", " "]),
    ],
)
def test_a_token_that_must_stand_alone(text, chunks):
    assert cut_out(text, {"x": AddedToken("x", single_word=True)}) == chunks


def test_the_longest_added_token_is_found():
    tokens = {content: AddedToken(content) for content in ("ab", "abc", "c")}
    assert cut_out("abcabc", tokens) == ["abc", "abc"]
    assert cut_out("aabc", tokens) == ["a", "abc"]
    assert cut_out("", tokens) == []
    assert cut_out("abc", {}) == ["abc"]


def test_lowering_spares_tokens():
    assert lower_around("A[X]B\nC ΟΣ", ("[X]",)) == "a[X]b\nc οσ"
    assert lower_around("ABC", ()) == "abc"


def test_special_tokens_can_be_renamed(fresh):
    size = len(fresh)
    names = {"cls_token": "<c>", "additional_special_tokens": ["<e1>", AddedToken("<e2>")]}
    assert fresh.add_special_tokens(names) == 3
    assert (fresh.cls_token, fresh.cls_token_id) == ("<c>", size)
    assert fresh.bos_token == CLS
    assert fresh.encode("the") == [size, *fresh.encode("the", add_special_tokens=False), 3]
    assert fresh.additional_special_tokens == ["<e1>", "<e2>"]
    assert fresh.all_special_tokens[-2:] == ["<e1>", "<e2>"]
    assert fresh.special_tokens_map["additional_special_tokens"] == ["<e1>", "<e2>"]
    assert fresh.decode(fresh.encode("a <e1> sky"), skip_special_tokens=True) == "a sky"
    more = {"additional_special_tokens": ["<e1>", "<e3>"]}
    assert fresh.add_special_tokens(more, replace_additional_special_tokens=False) == 1
    assert fresh.additional_special_tokens == ["<e1>", "<e2>", "<e3>"]
    assert fresh.add_special_tokens({"additional_special_tokens": ["<e4>"]}) == 1
    assert fresh.additional_special_tokens == ["<e4>"]
    assert fresh.tokenize("<e2><e4>") == ["<e2>", "<e4>"]


def test_a_special_token_can_be_set(fresh):
    fresh.pad_token = fresh.eos_token
    assert fresh(["the", ""], padding=True).input_ids[1] == [2, 3, 3]
    with pytest.raises(TypeError, match="pad_token is of type int; expected str"):
        fresh.pad_token = 3
    assert fresh.pad_token == SEP


@pytest.mark.parametrize(
    "names, error, message",
    [
        ({"title_token": "x"}, ValueError, "special_tokens_dict names 'title_token'"),
        ({"cls_token": "<x>", "sep_token": 3}, TypeError, "sep_token is of type int"),
        ({"additional_special_tokens": "<e>"}, TypeError, "is of type str; expected a list"),
        ({"additional_special_tokens": [""]}, ValueError, r"tokens\[0\] is empty"),
    ],
)
def test_special_tokens_that_are_none(fresh, names, error, message):
    with pytest.raises(error, match=message):
        fresh.add_special_tokens(names)
    assert fresh.cls_token == CLS and "<x>" not in fresh.get_vocab()


def test_tokens_that_cannot_be_added(fresh):
    for token, error, message in [
        (3, TypeError, r"new_tokens\[0\] is of type int; expected str"),
        ("", ValueError, r"new_tokens\[0\] is empty"),
        (["<x>", "\ud800"], ValueError, r"new_tokens\[1\] holds the lone surrogate"),
    ]:
        with pytest.raises(error, match=message):
            fresh.add_tokens(token)
    assert "<x>" not in fresh.get_vocab()


def test_decoding_added_tokens(fresh):
    fresh.add_tokens(["<e1>", "<e2>"])
    ids = fresh.encode("the<e1><e2>sky")
    assert fresh.decode(ids) == "[CLS]the <e1> <e2> sky[SEP]"
    assert fresh.decode(ids, skip_special_tokens=True) == "the <e1> <e2> sky"


def test_decoding_a_lone_space_after_an_added_token(tmp_path):
    tokenizer = AlbertTokenizer(piece_model(tmp_path / "piece"))
    tokenizer.add_tokens("<e1>")
    space, added = tokenizer.convert_tokens_to_ids(["▁", "<e1>"])
    assert tokenizer.decode([added, space]) == "<e1> "
    assert tokenizer.decode([added, space, added]) == "<e1> <e1>"


def test_special_tokens_may_be_split(vocabulary):
    split = AlbertTokenizer(vocabulary, split_special_tokens=True)
    assert MASK not in split.tokenize("the [MASK]")
    assert split("the").input_ids[0] == 2


def test_added_tokens_are_saved(fresh, tmp_path):
    fresh.add_tokens([AddedToken("Fox", lstrip=True, normalized=False), "<e1>"])
    fresh.add_special_tokens({"additional_special_tokens": [AddedToken("<e2>", rstrip=True)]})
    fresh.save_pretrained(tmp_path)
    loaded = AlbertTokenizer.from_pretrained(tmp_path)
    assert loaded.added_tokens_decoder == fresh.added_tokens_decoder
    assert loaded.additional_special_tokens == ["<e2>"]
    text = "the <e1> fox  Fox<e2>  sky"
    assert loaded(text) == fresh(text)


def test_a_hole_in_the_ids(vocabulary, tmp_path):
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    write_json(
        tmp_path / "tokenizer_config.json", {"added_tokens_decoder": {"500": {"content": "<e>"}}}
    )
    tokenizer = AlbertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("<e>")) == [CLS, "<e>", SEP]
    assert tokenizer.encode("<e>")[1] == 500
    with pytest.raises(ValueError, match="ids is 499; the tokenizer has no such id"):
        tokenizer.convert_ids_to_tokens(499)


# ---------------------------------------------------------------------- settings and files


def test_settings_given_outweigh_the_files(vocabulary, tmp_path):
    AlbertTokenizer(vocabulary, model_max_length=9).save_pretrained(tmp_path)
    tokenizer = AlbertTokenizer.from_pretrained(tmp_path, do_lower_case=False, mask_token="<m>")
    assert (tokenizer.do_lower_case, tokenizer.mask_token) == (False, "<m>")
    assert tokenizer.model_max_length == 9
    with pytest.raises(TypeError, match="do_lower_case is 3"):
        AlbertTokenizer.from_pretrained(tmp_path, do_lower_case=3)


def test_sides_are_saved(vocabulary, tmp_path):
    AlbertTokenizer(vocabulary, padding_side="left", truncation_side="left").save_pretrained(
        tmp_path
    )
    loaded = AlbertTokenizer.from_pretrained(tmp_path)
    assert (loaded.padding_side, loaded.truncation_side) == ("left", "left")


def test_saving_the_vocabulary_alone(tokenizer, vocabulary, tmp_path):
    (path,) = tokenizer.save_vocabulary(tmp_path / "new", "my")
    assert path == str(tmp_path / "new" / "my-spiece.model")
    assert (tmp_path / "new" / "my-spiece.model").read_bytes() == vocabulary.read_bytes()


def test_saving_under_a_prefix(tokenizer, tmp_path):
    paths = tokenizer.save_pretrained(tmp_path, filename_prefix="my")
    assert sorted(paths) == sorted(str(path) for path in tmp_path.iterdir())
    assert all(path.name.startswith("my-") for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match="legacy_format is False; an AlbertTokenizer has no"):
        tokenizer.save_pretrained(tmp_path / "new", legacy_format=False)
    assert not (tmp_path / "new").exists()


def test_a_file_of_a_gigabyte_is_refused_unread(vocabulary, tmp_path):
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    with open(tmp_path / "tokenizer_config.json", "wb") as file:
        file.write(b"[" * 100)
        file.truncate(2**30)  # a hole: it takes no room on the disk
    with pytest.raises(FileFormatError, match=r"tokenizer_config.json has more than 16,777,216"):
        AlbertTokenizer.from_pretrained(tmp_path)


def test_a_stride_that_one_of_two_texts_leaves_no_room_for():
    pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")
    tokenizer = AlbertTokenizerFast.from_pretrained("tiny")
    text = "the capital of france " * 4
    with pytest.raises(ValueError, match="the text cannot be encoded: .*stride"):
        tokenizer(text, text, max_length=9, truncation=True, stride=5)
    tokenizer("the", text, max_length=9, truncation=True, stride=4)


@pytest.mark.parametrize("tokenizer_class", [AlbertTokenizer, AlbertTokenizerFast])
def test_texts_of_no_length_and_of_ten_million_characters(tokenizer_class):
    tokenizer = tokenizer_class.from_pretrained("tiny")
    assert tokenizer("").input_ids == [tokenizer.cls_token_id, tokenizer.sep_token_id]
    sentence = "The capital of France is Paris. "
    long = tokenizer(sentence * (10**7 // len(sentence)), truncation=True, max_length=32).input_ids
    assert long == tokenizer(sentence * 8, truncation=True, max_length=32).input_ids


def test_sampling(tmp_path):
    """With sampling a text is cut in several ways, each of which is the text."""
    vocabulary = piece_model(tmp_path / "piece")
    kwargs = {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}
    tokenizer = AlbertTokenizer(vocabulary, sp_model_kwargs=kwargs)
    sentencepiece.set_random_generator_seed(0)
    cuts = {tuple(tokenizer.tokenize("the capital of france")) for _ in range(20)}
    assert len(cuts) > 1
    assert {tokenizer.convert_tokens_to_string(list(cut)) for cut in cuts} == {
        "the capital of france"
    }
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AlbertTokenizer.from_pretrained(tmp_path / "saved").sp_model_kwargs == kwargs
