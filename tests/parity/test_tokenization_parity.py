"""The tokenizer against transformers' AlbertTokenizer, live, on the released vocabulary."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from albert_np import AlbertTokenizer
from albert_np.tokenization import NO_LIMIT

transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")

# A max_length that padding=True ignores is worth a warning to the peer.
pytestmark = pytest.mark.filterwarnings("ignore:.*max_length.* is ignored:UserWarning")

SETTINGS = [
    {},
    {"do_lower_case": False},
    {"keep_accents": True},
    {"remove_space": False},
    {"do_lower_case": False, "keep_accents": True, "remove_space": False},
    {"mask_token": "<mask>", "bos_token": "<s>", "cls_token": "<Cls>", "model_max_length": 9},
    {"clean_up_tokenization_spaces": True, "do_lower_case": False},
]

# What the rules turn on, in pieces that chance would not put together.
SPELLED = [
    "[MASK]", "[mask]", "[Mask]", "[CLS]", "[SEP]", "[cls]", "<pad>", "<PAD>", "<unk>", "<Unk>",
    "<un\u212a>", "<mask>", "<MASK>", "<Cls>", "<s>", "[", "]", "<", ">",
    "9", "9,", ",", "9,9", "1,000,", "\u00b2,", "\u00bd,", "\u0663,", "\u0be7,", "\u2460,",
    "\uff19", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x85", "\u00a0", "\u2028", "\u3000",
    "\u200b", "``", "''", "`", "'", '"', "\u2581", "\u2581the", "\x00", "\x07", "\x7f",
    "\ufeff", "\ufffd", "the", "The", "Paris", "caf\u00e9", "cafe\u0301", "\u0301", "\u0345",
    "\u0327\u0301", "\u03a3", "\u039f\u03a3", "\U0001d6ba", "\u0130", "\u00df", "\u01c5", "\ufb01",
    "\u33a1",
    "\uff21", "\U0001d400", "\u05e9\u05dc\u05d5\u05dd", "\u202e", "\ufdfa", "\U0001f600",
    "\U0001f468\u200d\U0001f469", "\U000e0001", "\U0010ffff", ".", "n't", " 's", "\u2014",
]  # fmt: skip

characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(
    st.sampled_from(SPELLED)
    | st.text(characters, max_size=6)
    | st.text(st.characters(codec="ascii"))
).map("".join)
short_texts = st.lists(st.sampled_from(["the", "capital", " ", "[MASK]", "9,", "antidis"])).map(
    "".join
)
surrogates = st.characters(categories=["Cs"])


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """The peer logs an error where this package raises one; the tests look at what it returns."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    yield
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def vocabulary(shared_data):
    return shared_data / "spiece.model"


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda settings: ",".join(settings))
def pair(request, vocabulary):
    """Ours and the peer's, with the same settings."""
    ours = AlbertTokenizer(vocabulary, **request.param)
    return ours, transformers.AlbertTokenizer(str(vocabulary), **request.param)


@pytest.fixture(scope="module")
def default_pair(vocabulary):
    return AlbertTokenizer(vocabulary), transformers.AlbertTokenizer(str(vocabulary))


def assert_same_text(ours, peer, text):
    tokens = peer.tokenize(text)
    assert ours.tokenize(text) == tokens
    encoding = peer(text)
    assert ours(text) == dict(encoding)
    ids = encoding["input_ids"]
    assert ours.convert_tokens_to_ids(tokens) == peer.convert_tokens_to_ids(tokens)
    assert ours.convert_ids_to_tokens(ids) == peer.convert_ids_to_tokens(ids)
    assert ours.convert_tokens_to_string(tokens) == peer.convert_tokens_to_string(tokens)
    for skip in (False, True):
        assert ours.decode(ids, skip) == peer.decode(ids, skip)
        assert ours.decode(ids, skip, True) == peer.decode(ids, skip, True)


@settings(max_examples=150)
@given(text=texts)
def test_any_text(pair, text):
    assert_same_text(*pair, text)


@settings(max_examples=100)
@given(before=texts, surrogate=surrogates, after=texts)
@example(before="", surrogate="\ud83d", after="\ude00")
def test_a_lone_surrogate_is_refused_where_the_peer_crashes(default_pair, before, surrogate, after):
    ours, peer = default_pair
    with pytest.raises((RuntimeError, TypeError, UnicodeEncodeError)):
        peer(before + surrogate + after)
    with pytest.raises(ValueError, match="lone surrogate"):
        ours(before + surrogate + after)


def test_every_character_alone(default_pair):
    """Each of Unicode's assigned characters in the lower planes, in runs of a letter and itself."""
    ours, peer = default_pair
    for start in range(0, 0x20000, 256):
        codes = (code for code in range(start, start + 256) if not 0xD800 <= code < 0xE000)
        text = " ".join(f"a{chr(code)},{chr(code)}" for code in codes)
        assert ours(text).input_ids == peer(text)["input_ids"], hex(start)


def test_every_line_of_real_text(pair, shared_data):
    ours, peer = pair
    lines = [
        line
        for path in sorted((shared_data / "text").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) > 100
    assert ours(lines) == dict(peer(lines))


def test_the_vocabulary(pair):
    ours, peer = pair
    assert ours.get_vocab() == peer.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(peer), peer.vocab_size)
    assert ours.all_special_tokens == peer.all_special_tokens
    assert ours.all_special_ids == peer.all_special_ids
    for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert getattr(ours, f"{name}_token") == getattr(peer, f"{name}_token")
        assert getattr(ours, f"{name}_token_id") == getattr(peer, f"{name}_token_id")
    assert ours.model_max_length == peer.model_max_length
    assert transformers.tokenization_utils_base.VERY_LARGE_INTEGER == NO_LIMIT


def assert_same_call(ours, peer, arguments, options):
    """Both return the same, or we raise where the peer returns other lengths than it was asked."""
    limit = options["max_length"] or ours.model_max_length
    truncation = options.get("truncation")
    if truncation is None:
        truncation = options["max_length"] is not None and options["padding"] is False
    truncates = truncation not in (False, "do_not_truncate")
    expected = dict(peer(*arguments, **options))
    rows = expected["input_ids"]
    rows = [rows] if isinstance(arguments[0], str) else rows
    if rows == [[]] and options["padding"] == "max_length":
        return  # the peer leaves an empty row as it is
    too_long = truncates and any(len(row) > limit for row in rows)
    if too_long or (options["padding"] == "max_length" and limit == NO_LIMIT):
        with pytest.raises(ValueError, match="truncation would|special tokens alone|max_length"):
            ours(*arguments, **options)
    else:
        assert ours(*arguments, **options) == expected


calls = st.fixed_dictionaries(
    {
        "padding": st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
        "max_length": st.none() | st.integers(1, 24),
        "add_special_tokens": st.booleans(),
    },
    optional={
        "truncation": st.sampled_from(
            [None, False, True, "longest_first", "only_first", "only_second", "do_not_truncate"]
        )
    },
)


@settings(max_examples=100)
@given(first=short_texts, second=st.none() | short_texts, options=calls)
def test_any_call_on_one_text_or_pair(pair, first, second, options):
    assert_same_call(*pair, (first, second), options)


@settings(max_examples=100)
@given(
    batch=st.lists(st.tuples(short_texts, short_texts), min_size=1, max_size=4),
    paired=st.booleans(),
    options=calls,
)
def test_any_call_on_a_batch(pair, batch, paired, options):
    first, second = map(list, zip(*batch, strict=True))
    assert_same_call(*pair, (first, second if paired else None), options)


@settings(max_examples=50)
@given(batch=st.lists(texts, min_size=1, max_size=4))
def test_arrays(default_pair, batch):
    ours, peer = default_pair
    for text in (batch, batch[0]):
        mine, theirs = (one(text, padding=True, return_tensors="np") for one in (ours, peer))
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            assert mine[name].tolist() == theirs[name].tolist()


MASKS = [
    {"lstrip": False, "rstrip": False},
    {"lstrip": False, "rstrip": True},
    {"lstrip": True, "rstrip": True},
]


@pytest.mark.parametrize("flags", MASKS)
def test_a_mask_token_with_its_own_spaces(vocabulary, tmp_path, flags):
    settings = {"remove_space": False, "do_lower_case": False}
    token = transformers.AddedToken("[MASK]", normalized=False, special=True, **flags)
    peer = transformers.AlbertTokenizer(str(vocabulary), mask_token=token, **settings)
    ours = AlbertTokenizer(vocabulary, mask_token={"content": "[MASK]", **flags}, **settings)
    peer.save_pretrained(tmp_path)
    for one in (ours, AlbertTokenizer.from_pretrained(tmp_path)):
        for text in ("a  [MASK]  b", "a\n[MASK]\n", " [MASK][MASK] [CLS]  [MASK]"):
            assert one._split_special_tokens(text)
            assert_same_text(one, peer, text)


TEXT = "The caf\u00e9  [MASK] , 9,9 <mask> [mask] <s> <Cls><cls> \u00c9 n't"


def test_the_peer_loads_what_we_save(pair, tmp_path):
    ours, peer = pair
    ours.save_pretrained(tmp_path)
    loaded = transformers.AlbertTokenizer.from_pretrained(tmp_path)
    assert_same_text(ours, loaded, TEXT)
    assert loaded.get_vocab() == peer.get_vocab()
    assert loaded.model_max_length == peer.model_max_length
    assert loaded.clean_up_tokenization_spaces == peer.clean_up_tokenization_spaces
    assert loaded.added_tokens_decoder == peer.added_tokens_decoder


def test_we_load_what_the_peer_saves(pair, tmp_path):
    ours, peer = pair
    peer.save_pretrained(tmp_path)
    loaded = AlbertTokenizer.from_pretrained(tmp_path)
    assert_same_text(loaded, peer, TEXT)
    assert loaded.get_vocab() == ours.get_vocab()
    assert loaded.model_max_length == ours.model_max_length
    assert loaded.clean_up_tokenization_spaces == ours.clean_up_tokenization_spaces
    assert loaded._special_tokens == ours._special_tokens


CONFIGURATIONS = [
    {},
    {"do_lower_case": False, "model_max_length": 512},
    {"keep_accents": True, "mask_token": "[MASK]"},
    {"mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": False}},
    {"cls_token": {"__type": "AddedToken", "content": "<Cls>", "rstrip": True}},
    {
        "remove_space": False,
        "sep_token": {"__type": "AddedToken", "content": "[SEP]", "lstrip": True},
        "bos_token": {"__type": "AddedToken", "content": "[CLS]", "rstrip": True},
    },
    {"added_tokens_decoder": {"4": {"content": "[MASK]", "lstrip": False, "special": True}}},
]
SPECIAL_TOKENS_MAPS = [
    None,
    {"mask_token": "<mask>", "bos_token": "[CLS]"},
    {"mask_token": {"content": "[MASK]", "lstrip": False, "rstrip": False}},
]


@pytest.mark.parametrize("config", CONFIGURATIONS)
@pytest.mark.parametrize("special_tokens_map", SPECIAL_TOKENS_MAPS)
def test_both_read_the_same_from_a_directory(vocabulary, tmp_path, config, special_tokens_map):
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if special_tokens_map is not None:
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special_tokens_map))
    ours = AlbertTokenizer.from_pretrained(tmp_path)
    peer = transformers.AlbertTokenizer.from_pretrained(tmp_path)
    assert_same_text(ours, peer, TEXT)
    assert_same_text(ours, peer, "a  [MASK]  b <Cls>  c [CLS]  d  [SEP]")
    assert ours.get_vocab() == peer.get_vocab()
    assert ours.model_max_length == peer.model_max_length
    for content, token in peer._added_tokens_decoder.items():
        mine = ours._special_tokens[str(token)]
        assert (mine.lstrip, mine.rstrip) == (token.lstrip, token.rstrip), content
