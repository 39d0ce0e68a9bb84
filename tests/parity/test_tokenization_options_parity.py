"""Every option of both tokenizers against transformers, live, on the released vocabulary."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenization_peers import CLASSES, NAMES, assert_same_text, assert_same_tokenizer, texts

import albert_np
from albert_np.tokenization import AddedToken

transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:.*max_length.* is ignored:UserWarning")

WORDS = ["the", "capital", "[MASK]", "9,", "antidis", "", " ", "(yes)", "Caf\u00e9", "\U0001f600"]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    yield
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def vocabulary(shared_data):
    return str(shared_data / "spiece.model")


@pytest.fixture(scope="module", params=CLASSES)
def make(request, vocabulary):
    """Ours and the peer's, of either class, with settings of one's own."""

    def pair(**options):
        return (
            getattr(albert_np, request.param)(vocabulary, **options),
            getattr(transformers, request.param)(vocabulary, **theirs(options)),
        )

    return pair


@pytest.fixture(scope="module", params=[{}, {"model_max_length": 9}], ids=["", "short"])
def pair(request, make):
    return make(**request.param)


def their_token(token):
    """Our AddedToken as the peer's."""
    if not isinstance(token, AddedToken):
        return token
    fields = {name: value for name, value in asdict(token).items() if value is not None}
    return transformers.AddedToken(**fields)


def theirs(special_tokens):
    return {
        name: [*map(their_token, token)] if isinstance(token, list) else their_token(token)
        for name, token in special_tokens.items()
    }


# ---------------------------------------------------------------------- the call

texts_of_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)
flags = {
    name: st.booleans()
    for name in (
        "return_overflowing_tokens",
        "return_special_tokens_mask",
        "return_offsets_mapping",
        "return_length",
    )
}
calls = st.fixed_dictionaries(
    {},
    optional={
        "add_special_tokens": st.booleans(),
        "padding": st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
        "truncation": st.sampled_from(
            [None, False, True, "longest_first", "only_first", "only_second", "do_not_truncate"]
        ),
        "max_length": st.none() | st.integers(1, 24),
        "stride": st.integers(0, 8),
        "pad_to_multiple_of": st.none() | st.integers(1, 9),
        "padding_side": st.sampled_from([None, "left", "right"]),
        "return_token_type_ids": st.sampled_from([None, True, False]),
        "return_attention_mask": st.sampled_from([None, True, False]),
        **flags,
    },
)
sides = st.sampled_from(["left", "right"])


def outcome(tokenizer, arguments, options):
    try:
        return tokenizer(*arguments, **options)
    except Exception as error:
        return error
    except BaseException as error:  # the peer's fast class panics, which is no Exception
        assert type(error).__name__ == "PanicException", error
        return RuntimeError(error)


def is_ours_to_refuse(result, expected, options, limit, framing):
    """Where the peer hands back something else than was asked for, without a word."""
    message = str(result)
    if message.startswith("max_length is"):
        return limit < framing
    if message.startswith("stride is"):
        return options["stride"] >= limit - framing
    if message.startswith("padding is 'max_length', but neither"):
        return limit is None
    rows = expected["input_ids"]
    rows = rows if rows and isinstance(rows[0], list) else [rows]
    return "truncation would" in message and max(map(len, rows)) > limit


def assert_same_call(ours, peer, arguments, options):
    result, expected = outcome(ours, arguments, options), outcome(peer, arguments, options)
    limit = options.get("max_length") or (
        peer.model_max_length if peer.model_max_length < 1e20 else None
    )
    framing = 2 + (arguments[1] is not None) if options.get("add_special_tokens", True) else 0
    if isinstance(result, Exception):
        assert isinstance(result, ValueError | NotImplementedError), result
        assert isinstance(expected, Exception) or is_ours_to_refuse(
            result, expected, options, limit, framing
        ), result
        return
    if "'int' and 'NoneType'" in str(expected):
        # The peer cannot count what it did not cut, if max_length is only the tokenizer's own.
        assert not truncates(options) and not np.any(result.num_truncated_tokens)
        return
    assert not isinstance(expected, Exception), (expected, result)
    encodings, expected = expected.encodings, dict(expected)
    if "num_truncated_tokens" in expected:
        # The peer counts below zero where a text is short, and what it does not cut.
        counts = np.maximum(expected["num_truncated_tokens"], 0) * truncates(options)
        expected["num_truncated_tokens"] = counts.tolist()
    if expected["input_ids"] == [[]] and options.get("padding") == "max_length":
        return  # the peer leaves an empty row as it is
    assert dict(result) == expected
    for row in range(len(encodings or ())):
        for name in ("tokens", "word_ids", "sequence_ids"):
            assert getattr(result, name)(row) == getattr(encodings[row], name)
        for place in range(4):
            assert result.char_to_token(row, place) == encodings[row].char_to_token(place, 0)


def truncates(options):
    truncation = options.get("truncation")
    if truncation is None:
        return options.get("max_length") is not None and options.get("padding", False) is False
    return truncation not in (False, "do_not_truncate")


@settings(max_examples=400)
@given(
    first=texts_of_words,
    second=st.none() | texts_of_words,
    split=st.booleans(),
    side=sides,
    options=calls,
)
def test_any_call_on_one_text_or_pair(pair, first, second, split, side, options):
    assert_same_with_sides(pair, (first, second), split, side, options)


@settings(max_examples=400)
@given(
    batch=st.lists(st.tuples(texts_of_words, texts_of_words), min_size=1, max_size=4),
    paired=st.booleans(),
    split=st.booleans(),
    side=sides,
    options=calls,
)
def test_any_call_on_a_batch(pair, batch, paired, split, side, options):
    first, second = map(list, zip(*batch, strict=True))
    assert_same_with_sides(pair, (first, second if paired else None), split, side, options)


def assert_same_with_sides(pair, arguments, split, side, options):
    if not split:
        arguments = [None if texts is None else joined(texts) for texts in arguments]
    ours, peer = pair
    ours.truncation_side = peer.truncation_side = side
    ours.padding_side = peer.padding_side = side
    assert_same_call(ours, peer, arguments, options | {"is_split_into_words": split})


def joined(texts):
    return " ".join(texts) if isinstance(texts[0], str) else [" ".join(words) for words in texts]


def test_no_words(pair):
    """The peer's slow class refuses a text of no words, and loses count in a batch of them."""
    ours, peer = pair
    assert ours([], is_split_into_words=True).input_ids == [2, 3]
    assert ours([["the"], []], is_split_into_words=True).input_ids == [[2, 14, 3], [2, 3]]
    if peer.is_fast:
        assert peer([], is_split_into_words=True)["input_ids"] == [2, 3]
        assert peer([["the"], []], is_split_into_words=True)["input_ids"] == [[2, 14, 3], [2, 3]]


def test_an_empty_second_text(pair):
    """The fast class takes it for none, where it is not in a batch."""
    ours, peer = pair
    for arguments in (("the", ""), ("", ""), (["the"], [""])):
        assert ours(*arguments) == dict(peer(*arguments))


# ---------------------------------------------------------------------- other methods


@settings(max_examples=60)
@given(
    batch=st.lists(texts_of_words, min_size=1, max_size=4),
    options=st.fixed_dictionaries(
        {},
        optional={
            "padding": st.sampled_from([True, "longest", "do_not_pad"]),
            "pad_to_multiple_of": st.integers(1, 9),
            "padding_side": st.sampled_from([None, "left", "right"]),
            "return_attention_mask": st.sampled_from([None, True]),
        },
    ),
    mask=st.booleans(),
    form=st.sampled_from(["rows", "batch", "one", "arrays"]),
)
def test_padding_encodings(pair, batch, options, mask, form):
    results = []
    for tokenizer in pair:
        call = {"return_special_tokens_mask": mask, "return_attention_mask": not mask}
        encodings = tokenizer(" ".join(batch[0]), **call) if form == "one" else None
        if form in ("rows", "batch"):
            encodings = tokenizer([" ".join(words) for words in batch], **call)
        if form == "rows":
            encodings = [
                {name: values[row] for name, values in encodings.items()}
                for row in range(len(batch))
            ]
        if form == "arrays":
            texts = [" ".join(words) for words in batch]
            encodings = tokenizer(texts, padding=True, return_tensors="np", **call)
        results.append(tokenizer.pad(encodings, **options))
    ours, expected = results
    assert ours.keys() == expected.keys()
    for name in ours:
        assert type(ours[name]) is type(expected[name])
        assert np.array(ours[name] == expected[name]).all()


@settings(max_examples=60)
@given(first=texts_of_words, second=st.none() | texts_of_words)
def test_framing(pair, first, second):
    ours, peer = pair
    ids = [
        None if words is None else ours.encode(" ".join(words), add_special_tokens=False)
        for words in (first, second)
    ]
    row = ours.build_inputs_with_special_tokens(*ids)
    assert row == peer.build_inputs_with_special_tokens(*ids)
    types = peer.create_token_type_ids_from_sequences(*ids)
    assert ours.create_token_type_ids_from_sequences(*ids) == types
    mask = peer.get_special_tokens_mask(row, already_has_special_tokens=True)
    assert ours.get_special_tokens_mask(row, already_has_special_tokens=True) == mask
    if not peer.is_fast:  # the peer's fast class refuses
        assert ours.get_special_tokens_mask(*ids) == peer.get_special_tokens_mask(*ids)
    for paired in (False, True):
        assert ours.num_special_tokens_to_add(paired) == peer.num_special_tokens_to_add(paired)


def test_encoding_tokens_and_ids(vocabulary):
    ours = albert_np.AlbertTokenizer(vocabulary)
    peer = transformers.AlbertTokenizer(vocabulary)
    pieces = peer.tokenize("the capital of [MASK]")
    for text in (pieces, peer.convert_tokens_to_ids(pieces)):
        assert ours.encode(text) == peer.encode(text)
        assert ours.encode(text, pieces, max_length=8) == peer.encode(text, pieces, max_length=8)


@pytest.mark.parametrize("nbest_size, alpha", [(-1, 0.1), (-1, 0.9), (5, 0.5)])
def test_sampling(vocabulary, nbest_size, alpha):
    kwargs = {"enable_sampling": True, "nbest_size": nbest_size, "alpha": alpha}
    results = []
    for package in (albert_np, transformers):
        tokenizer = package.AlbertTokenizer(vocabulary, sp_model_kwargs=dict(kwargs))
        sentencepiece.set_random_generator_seed(7)
        results.append(tokenizer(["Antidisestablishmentarianism in 1,000, 9,"] * 20)["input_ids"])
    assert results[0] == results[1]
    assert len(set(map(tuple, results[0]))) > 1


@pytest.mark.parametrize("nbest_size", [0, 1])
def test_nothing_to_sample_from(vocabulary, nbest_size):
    """No sampling, says the page; the peer fails."""
    kwargs = {"enable_sampling": True, "nbest_size": nbest_size, "alpha": 0.1}
    peer = transformers.AlbertTokenizer(vocabulary, sp_model_kwargs=dict(kwargs))
    with pytest.raises(ValueError, match="nbest_size"):
        peer("the capital")
    ours = albert_np.AlbertTokenizer(vocabulary, sp_model_kwargs=kwargs)
    assert ours("antidisestablishment") == albert_np.AlbertTokenizer(vocabulary)(
        "antidisestablishment"
    )


# ---------------------------------------------------------------------- added tokens

contents = st.sampled_from(
    ["<new>", "Hello", "x", "[mask]", "the", "▁the", "9,", "caf\u00e9", "(", "<E1>"]
)
added = st.builds(
    AddedToken,
    contents,
    single_word=st.booleans(),
    lstrip=st.booleans(),
    rstrip=st.booleans(),
    normalized=st.none() | st.booleans(),
    special=st.booleans(),
)
tokens = contents | added
spelled = st.lists(
    contents
    | st.sampled_from([" ", "  ", "\n", "hello", "HELLO", "<e1>", "CAF\u00c9", "[MASK]", "a", "X"])
).map("".join)


additions = st.fixed_dictionaries(
    {
        "first": st.lists(tokens, max_size=3),
        "named": st.dictionaries(st.sampled_from(["cls_token", "mask_token", "eos_token"]), tokens),
        # Where one of them stands twice, the peer lists it twice.
        "additional": st.none() | st.lists(tokens, min_size=1, max_size=3, unique_by=str),
        "replaces": st.booleans(),
        "last": st.lists(tokens, max_size=2),
        "are_special": st.booleans(),
    }
)


def both_with(additions, name, vocabulary, lower):
    """Ours and the peer's, after the same additions."""
    named = dict(additions["named"])
    if additions["additional"] is not None:
        named["additional_special_tokens"] = additions["additional"]
    first, last = additions["first"], additions["last"]
    replaces, are_special = additions["replaces"], additions["are_special"]
    ours = loaded_once(albert_np, name, vocabulary, lower)
    peer = loaded_once(transformers, name, vocabulary, lower)
    assert ours.add_tokens(first) == peer.add_tokens([*map(their_token, first)])
    added = peer.add_special_tokens(theirs(named), replaces)
    assert ours.add_special_tokens(named, replaces) == added
    added = peer.add_tokens([*map(their_token, last)], are_special)
    assert ours.add_tokens(last, are_special) == added
    return ours, peer


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("lower", [True, False])
@settings(max_examples=15)
@given(additions=additions, lines=st.lists(spelled, min_size=1, max_size=4))
def test_added_tokens(vocabulary, name, lower, additions, lines):
    ours, peer = both_with(additions, name, vocabulary, lower)
    assert_same_tokenizer(ours, peer)
    for line in lines:
        assert_same_text(ours, peer, line)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=12)
@given(additions=additions, lower=st.booleans(), lines=st.lists(spelled, min_size=1, max_size=4))
def test_added_tokens_saved_by_either_and_read_by_either(
    vocabulary, tmp_path_factory, name, additions, lower, lines
):
    ours, peer = both_with(additions, name, vocabulary, lower)
    directory = tmp_path_factory.mktemp("saved")
    for saved in (ours, peer):
        saved.save_pretrained(directory)
        read = getattr(albert_np, name).from_pretrained(directory)
        expected = getattr(transformers, name).from_pretrained(directory)
        assert_same_tokenizer(read, expected)
        for line in lines:
            assert_same_text(read, expected, line)
            assert read(line) == saved(line)


@settings(max_examples=12)
@given(
    named=st.dictionaries(
        st.sampled_from([f"{name}_token" for name in NAMES if name != "unk"]), tokens, min_size=1
    ),
    additional=st.lists(tokens, max_size=2, unique_by=str),
    lines=st.lists(spelled, min_size=1, max_size=4),
)
def test_special_tokens_of_ones_own(make, named, additional, lines):
    ours, peer = make(**named, additional_special_tokens=additional)
    assert_same_tokenizer(ours, peer)
    for line in lines:
        assert_same_text(ours, peer, line)


def loaded_once(package, name, vocabulary, lower):
    """A new tokenizer; the fast ones are copies, as to convert a vocabulary takes a second."""
    key = package.__name__, name, lower
    if key not in LOADED:
        LOADED[key] = getattr(package, name)(vocabulary, do_lower_case=lower)
    return copy.deepcopy(LOADED[key])


LOADED = {}


@settings(max_examples=40)
@given(text=texts)
def test_special_tokens_split(make, text):
    assert_same_text(*split_pair(make), text)


def split_pair(make):
    if make not in LOADED:
        LOADED[make] = make(split_special_tokens=True)
    return LOADED[make]
