"""The fast tokenizer, on a small vocabulary made here: places in the text, rows that overflow,
files, and what is refused."""

import copy
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenization_support import CLS, MASK, PAD, SEP, WORDS, piece_model, word_model, write_json

from albert_np.errors import FileFormatError
from albert_np.tokenization import AddedToken, AlbertTokenizer, AlbertTokenizerFast

pytest.importorskip("tokenizers", reason="the extra `fast` is not installed")

texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return piece_model(tmp_path_factory.mktemp("vocabulary") / "piece")


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return AlbertTokenizerFast(vocabulary)


@pytest.fixture(scope="module")
def slow(vocabulary):
    return AlbertTokenizer(vocabulary)


@pytest.fixture
def fresh(tokenizer):
    """A tokenizer that a test may change."""
    return copy.deepcopy(tokenizer)


# ---------------------------------------------------------------------- texts


@given(first=texts, second=st.none() | texts.filter(bool))
def test_plain_words_are_cut_as_by_the_slow_class(tokenizer, slow, first, second):
    encoding = tokenizer(first, second)
    assert encoding == slow(first, second)
    assert encoding.tokens() == slow.convert_ids_to_tokens(encoding.input_ids)
    assert tokenizer.decode(encoding.input_ids, skip_special_tokens=True) == (
        first if second is None else f"{first} {second}".strip()
    )


def test_special_tokens_may_be_split(vocabulary, tokenizer):
    split = AlbertTokenizerFast(vocabulary, split_special_tokens=True)
    mask = tokenizer.mask_token_id
    assert mask in tokenizer("the [MASK]").input_ids
    assert mask not in split("the [MASK]").input_ids
    assert split("the").input_ids[0] == 2


def test_where_the_two_classes_differ(vocabulary, tokenizer, slow):
    # a symbol of the vocabulary's own is cut out before its space is seen
    assert slow.tokenize("9, a") == ["▁", "9", ",", "▁a"]
    assert tokenizer.tokenize("9, a") == ["9,", "▁a"]
    # an empty second text counts as none
    assert slow("a", "").input_ids[-2:] == [3, 3]
    assert tokenizer("a", "").input_ids == tokenizer("a").input_ids
    assert tokenizer(["a"], [""]).input_ids == slow(["a"], [""]).input_ids
    # the frame is [CLS] and [SEP], whatever their names
    fast = AlbertTokenizerFast(vocabulary, cls_token="<c>")
    assert fast("a").input_ids[0] == 2 != fast.cls_token_id
    assert fast.build_inputs_with_special_tokens([7])[0] == fast.cls_token_id


def test_nothing_between_the_special_tokens(tokenizer):
    assert tokenizer("").input_ids == [2, 3]
    assert tokenizer.tokenize(" \t\n") == ["▁"]  # unlike the slow class
    assert tokenizer([], is_split_into_words=True).input_ids == [2, 3]


@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), spaces=st.integers(1, 3))
def test_places_in_the_text(tokenizer, words, spaces):
    text = (" " * spaces).join(words)
    encoding = tokenizer(text, return_offsets_mapping=True)
    spelled = ["" for _ in words]
    for place, (word_id, token, (start, end)) in enumerate(
        zip(encoding.word_ids(), encoding.tokens(), encoding.offset_mapping, strict=True)
    ):
        if token in (CLS, SEP):
            assert (word_id, start, end) == (None, 0, 0)
        elif token != "▁":  # a space alone is said to lie where the letter after it does
            spelled[word_id] += text[start:end].strip()
            assert encoding.char_to_token(end - 1) in (place, place - 1)
    assert spelled == words


def test_which_text_a_token_comes_from(tokenizer):
    encoding = tokenizer(["the", "a"], ["cat", "dog"])
    for row in (0, 1):
        sequence_ids = encoding.sequence_ids(row)
        types = encoding.token_type_ids[row]
        for sequence, kind, index in zip(sequence_ids, types, encoding.input_ids[row], strict=True):
            assert sequence == (None if index in (2, 3) else kind)
    place = encoding.char_to_token(1, 0, sequence_index=1)
    assert encoding.tokens(1)[place] in ("▁", "▁d", "▁do", "▁dog", "d")
    assert encoding.sequence_ids(1)[place] == 1


def test_texts_given_as_words(tokenizer):
    encoding = tokenizer(["the", "capital"], is_split_into_words=True)
    assert {i for i in encoding.word_ids() if i is not None} == {0, 1}
    assert encoding.input_ids == tokenizer("the capital").input_ids


# ---------------------------------------------------------------------- length


@given(batch=st.lists(texts, min_size=1, max_size=3), max_length=st.integers(4, 12), data=st.data())
def test_what_overflows_makes_rows(tokenizer, batch, max_length, data):
    stride = data.draw(st.integers(0, max_length - 3))
    encoding = tokenizer(
        batch,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
    )
    for sample, text in enumerate(batch):
        rows = [
            ids[1:-1]
            for ids, of in zip(encoding.input_ids, encoding.overflow_to_sample_mapping, strict=True)
            if of == sample
        ]
        assert all(len(row) <= max_length - 2 for row in rows)
        joined = rows[0] + [index for row in rows[1:] for index in row[stride:]]
        assert joined == tokenizer.encode(text, add_special_tokens=False)


def test_what_overflows_of_one_text_is_a_batch(tokenizer):
    options = {"truncation": True, "max_length": 5, "return_overflowing_tokens": True}
    encoding = tokenizer("the capital of france", return_length=True, **options)
    assert len(encoding.input_ids) == len(encoding.length) > 1
    arrays = tokenizer("the capital of france", return_tensors="np", padding=True, **options)
    assert arrays.input_ids.shape[1] == 5
    assert tokenizer("the capital", return_length=True).length == [
        len(tokenizer("the capital").input_ids)
    ]


def test_padding(tokenizer):
    encoding = tokenizer(
        ["the", ""], padding=True, padding_side="left", return_special_tokens_mask=True
    )
    length = len(encoding.input_ids[0])
    assert encoding.input_ids[1] == [0] * (length - 2) + [2, 3]
    assert encoding.attention_mask[1] == [0] * (length - 2) + [1, 1]
    assert encoding.special_tokens_mask[1] == [1] * length
    padded = tokenizer("the", padding="max_length", max_length=9, pad_to_multiple_of=4)
    assert len(padded.input_ids) == 12
    assert tokenizer.pad([tokenizer("the"), tokenizer("")]) == tokenizer(["the", ""], padding=True)


def test_a_call_leaves_nothing_behind(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    tokenizer("the sky is blue", truncation=True, max_length=4, padding="max_length")
    with pytest.raises(ValueError, match="cannot be encoded"):
        tokenizer("the sky", truncation="only_second", max_length=3)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_threads_may_share_a_tokenizer(tokenizer):
    """Each call of many texts, so that others have the time to come between."""
    wrong = []

    def call(length):
        for _ in range(20):
            rows = tokenizer(["the sky"] * 500, padding="max_length", max_length=length).input_ids
            wrong.extend((length, len(row)) for row in rows if len(row) != length)

    threads = [threading.Thread(target=call, args=(length,)) for length in (12, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------------- tokens


def test_added_tokens(fresh):
    size = len(fresh)
    assert fresh.add_tokens(["<e1>", AddedToken("Fox", normalized=False)]) == 2
    assert fresh.convert_tokens_to_ids(["<e1>", "Fox", "nowhere"]) == [size, size + 1, 1]
    assert fresh.add_special_tokens({"additional_special_tokens": ["<e2>"]}) == 1
    assert [t for t in fresh.tokenize("the<E1> Fox fox<e2>") if t in fresh.get_added_vocab()] == [
        "<e1>",
        "Fox",
        "<e2>",
    ]
    ids = fresh.encode("the<e1><e2>")
    assert fresh.decode(ids, skip_special_tokens=True) == "the<e1>"
    assert fresh.added_tokens_decoder[size + 2] == AddedToken(
        "<e2>", special=True, normalized=False
    )


def test_tokens_and_ids(tokenizer):
    assert tokenizer.tokenize("the", "a", add_special_tokens=True)[0] == CLS
    assert tokenizer.convert_ids_to_tokens([2, 0, 3]) == [CLS, PAD, SEP]
    assert tokenizer.convert_ids_to_tokens([2, 4, 3], skip_special_tokens=True) == []
    assert tokenizer.convert_ids_to_tokens(4) == MASK
    assert tokenizer.convert_tokens_to_string(["▁the", "▁c", "at"]) == "the cat"
    assert tokenizer.get_vocab()[MASK] == 4
    for ids, error, message in [
        ([3, 10_000], ValueError, r"ids\[1\] is 10000; the tokenizer's ids are 0 to"),
        (-1, ValueError, r"ids\[0\] is -1"),
        ([2**40], ValueError, r"ids\[0\] is 1099511627776"),
        ([0.5], TypeError, r"ids\[0\] is of type float64; expected an integer"),
    ]:
        with pytest.raises(error, match=message):
            tokenizer.decode(ids)


# ---------------------------------------------------------------------- files


def test_saving_and_loading(fresh, tmp_path):
    fresh.add_tokens(["<e1>"])
    fresh.add_special_tokens({"additional_special_tokens": [AddedToken("<e2>", rstrip=True)]})
    paths = fresh.save_pretrained(tmp_path)
    assert sorted(paths) == sorted(str(path) for path in tmp_path.iterdir())
    text = "the capital<e1> of <e2>  [MASK] 9,9"
    for kept in ("tokenizer.json", "spiece.model"):
        directory = tmp_path / f"with {kept} alone"
        directory.mkdir()
        for name in (kept, "tokenizer_config.json", "special_tokens_map.json"):
            (directory / name).write_bytes((tmp_path / name).read_bytes())
        loaded = AlbertTokenizerFast.from_pretrained(directory)
        assert loaded(text) == fresh(text)
        assert loaded.added_tokens_decoder == fresh.added_tokens_decoder
        assert loaded.additional_special_tokens == ["<e2>"]


def test_the_format_that_is_saved(fresh, tmp_path):
    def saved(**options):
        fresh.save_pretrained(tmp_path / str(options), **options)
        return {path.name for path in (tmp_path / str(options)).iterdir()}

    settings = {"tokenizer_config.json", "special_tokens_map.json"}
    assert saved(legacy_format=True) == settings | {"spiece.model"}
    assert saved(legacy_format=False) == settings | {"tokenizer.json"}
    assert saved() == settings | {"tokenizer.json", "spiece.model"}
    alone = AlbertTokenizerFast.from_pretrained(tmp_path / "{'legacy_format': False}")
    for save in (alone.save_vocabulary, lambda path: alone.save_pretrained(path, True)):
        with pytest.raises(ValueError, match="made without spiece.model"):
            save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_tokenizer_json_pads_and_truncates_on(fresh, tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    fresh.backend_tokenizer.enable_padding(direction="left", length=7)
    fresh.backend_tokenizer.enable_truncation(5, direction="left")
    fresh.backend_tokenizer.save(str(path))
    loaded = AlbertTokenizerFast(tokenizer_file=path)
    assert (loaded.padding_side, loaded.truncation_side) == ("left", "left")
    assert loaded("the sky is blue") == tokenizer("the sky is blue")
    right = AlbertTokenizerFast(tokenizer_file=path, padding_side="right")
    assert (right.padding_side, right.truncation_side) == ("right", "left")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"[]", b"{}", b'{"model": 3}', b"\xff\xfe", b"[" * 10**6, b'{"a":' * 10**5],
)
def test_a_tokenizer_json_that_is_none(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    for load in (
        lambda: AlbertTokenizerFast(tokenizer_file=path),
        lambda: AlbertTokenizerFast.from_pretrained(tmp_path),
    ):
        with pytest.raises(FileFormatError, match=r"tokenizer\.json"):
            load()


def test_a_gigabyte_is_refused_unread(tmp_path):
    path = tmp_path / "tokenizer.json"
    with open(path, "wb") as file:
        file.truncate(2**30)  # a hole: it takes no room on the disk
    with pytest.raises(FileFormatError, match=r"tokenizer\.json has more than"):
        AlbertTokenizerFast(tokenizer_file=path)


def test_a_vocabulary_that_is_none(tmp_path):
    path = tmp_path / "spiece.model"
    path.write_bytes(b"hello")
    with pytest.raises(FileFormatError, match=r"spiece\.model is not a"):
        AlbertTokenizerFast(path)
    with pytest.raises(FileFormatError, match=r"\.model holds no unigram model"):
        AlbertTokenizerFast(word_model(tmp_path / "word"))


def test_files_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor spiece\.model"):
        AlbertTokenizerFast.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        AlbertTokenizerFast(tokenizer_file=tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match="neither vocab_file nor tokenizer_file is given"):
        AlbertTokenizerFast()


# ---------------------------------------------------------------------- bad input


def test_a_library_that_is_missing(vocabulary, monkeypatch):
    for module in ("tokenizers", "google.protobuf"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(ImportError, match=r"pip install 'albert-np\[fast\]'"):
                AlbertTokenizerFast(vocabulary)
            assert AlbertTokenizer(vocabulary)("the")


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("a\ud800b",), {}, ValueError, r"text holds the lone surrogate U\+D800 at position 1"),
        ((7,), {}, TypeError, "text is of type int"),
        (([],), {}, ValueError, "text is an empty batch"),
        (("the",), {"truncation": "shortest"}, ValueError, "truncation is 'shortest'; expected"),
        (("the",), {"padding": "left"}, ValueError, "padding is 'left'; expected one of"),
        (
            ("the",),
            {"truncation": True, "max_length": 8, "stride": 6},
            ValueError,
            "stride is 6; expected less than 6, which is max_length, 8, without the 2 special",
        ),
        (("the",), {"max_length": 1}, ValueError, "the special tokens alone are 2"),
        (("the sky",), {"return_tensors": "pt"}, ValueError, "return_tensors is 'pt'"),
        (("the", 3), {}, TypeError, "text_pair is of type int"),
    ],
)
def test_an_impossible_call(tokenizer, arguments, options, error, message):
    with pytest.raises(error, match=message):
        tokenizer(*arguments, **options)


def test_a_stride_too_large_for_what_the_other_text_leaves(tokenizer):
    question, context = "the sky is blue", "a dog is an animal and a cat is an animal"
    room = 4
    length = len(tokenizer(question).input_ids) + 1 + room
    options = {"truncation": "only_second", "max_length": length, "return_overflowing_tokens": True}
    assert len(tokenizer(question, context, stride=room - 1, **options).input_ids) > 1
    with pytest.raises(ValueError, match="the text cannot be encoded: .*stride"):
        tokenizer(question, context, stride=room, **options)


def test_unequal_rows_are_no_array(tokenizer):
    with pytest.raises(ValueError, match="the rows of input_ids have 2 to"):
        tokenizer(["the", ""], return_tensors="np")
    arrays = tokenizer(["the", "a"], padding=True, return_tensors="np", return_offsets_mapping=True)
    assert arrays.offset_mapping.shape == (*arrays.input_ids.shape, 2)
    assert arrays.input_ids.dtype == np.int64


def test_settings_that_are_wrong(vocabulary, tmp_path):
    with pytest.raises(TypeError, match="do_lower_case is 1; expected True or False"):
        AlbertTokenizerFast(vocabulary, do_lower_case=1)
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    write_json(tmp_path / "tokenizer_config.json", {"padding_side": "up"})
    with pytest.raises(FileFormatError, match="padding_side is 'up'"):
        AlbertTokenizerFast.from_pretrained(tmp_path)
