"""Both tokenizers against transformers' of the same names, live, on the released vocabulary: any
text, and any directory. The options of a call are in test_tokenization_options_parity.py."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenization_peers import (
    CLASSES,
    SETTINGS,
    TEXT,
    assert_same_text,
    assert_same_tokenizer,
    lines_of,
    surrogates,
    texts,
)

import albert_np
from albert_np.tokenization import NO_LIMIT

transformers = pytest.importorskip("transformers", reason="the extra `parity` is not installed")


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


@pytest.fixture(scope="module", params=CLASSES)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda settings: ",".join(settings))
def pair(request, name, vocabulary):
    """Ours and the peer's, of either class, with the same settings."""
    return made(name, vocabulary, **request.param)


@pytest.fixture(scope="module")
def default_pair(name, vocabulary):
    return made(name, vocabulary)


def made(name, vocabulary, **options):
    ours = getattr(albert_np, name)(vocabulary, **options)
    return ours, getattr(transformers, name)(str(vocabulary), **options)


def read(name, directory):
    """Ours and the peer's, of either class, from the same directory."""
    ours = getattr(albert_np, name).from_pretrained(directory)
    return ours, getattr(transformers, name).from_pretrained(directory)


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
    lines = lines_of(shared_data)
    assert len(lines) > 100
    assert ours(lines) == dict(peer(lines))


def test_the_vocabulary(pair):
    assert_same_tokenizer(*pair)
    assert transformers.tokenization_utils_base.VERY_LARGE_INTEGER == NO_LIMIT


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
def test_a_mask_token_with_its_own_spaces(name, vocabulary, tmp_path, flags):
    settings = {"remove_space": False, "do_lower_case": False}
    token = transformers.AddedToken("[MASK]", normalized=False, special=True, **flags)
    peer = getattr(transformers, name)(str(vocabulary), mask_token=token, **settings)
    of_ours = {"content": "[MASK]", "special": True, **flags}
    ours = getattr(albert_np, name)(vocabulary, mask_token=of_ours, **settings)
    peer.save_pretrained(tmp_path)
    for one in (ours, getattr(albert_np, name).from_pretrained(tmp_path)):
        assert_same_tokenizer(one, peer)
        for text in ("a  [MASK]  b", "a\n[MASK]\n", " [MASK][MASK] [CLS]  [MASK]"):
            assert_same_text(one, peer, text)


@pytest.mark.parametrize("package", [albert_np, transformers], ids=lambda one: one.__name__)
@pytest.mark.parametrize("saved_by", CLASSES)
def test_what_either_class_saves_either_reads(
    package, saved_by, name, pair, vocabulary, tmp_path, request
):
    settings = request.node.callspec.params["pair"]
    path = str(vocabulary)
    getattr(package, saved_by)(path, **settings).save_pretrained(tmp_path)
    ours, peer = read(name, tmp_path)
    assert_same_tokenizer(ours, peer)
    assert_same_text(ours, peer, TEXT)
    if saved_by == name:
        assert_same_tokenizer(ours, pair[1])
        assert_same_text(ours, pair[1], TEXT)


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
    {
        "added_tokens_decoder": {"30000": {"content": "<e1>", "rstrip": True}},
        "additional_special_tokens": ["<e1>", "<e2>"],
        "padding_side": "left",
        "truncation_side": "left",
    },
    {"split_special_tokens": True, "additional_special_tokens": None, "tokenizer_class": "X"},
]
SPECIAL_TOKENS_MAPS = [
    None,
    {"mask_token": "<mask>", "bos_token": "[CLS]"},
    {
        "mask_token": {"content": "[MASK]", "lstrip": False, "rstrip": False},
        "additional_special_tokens": ["<e2>", {"content": "<e3>", "lstrip": True}],
    },
]
SPACES = "a  [MASK]  b <Cls>  c [CLS]  d  [SEP] <e1>  <e2> <e3>  ."


@pytest.mark.parametrize("config", CONFIGURATIONS)
@pytest.mark.parametrize("special_tokens_map", SPECIAL_TOKENS_MAPS)
def test_both_read_the_same_from_a_directory(
    name, vocabulary, tmp_path, config, special_tokens_map
):
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if special_tokens_map is not None:
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special_tokens_map))
    assert_same_of_both(*read(name, tmp_path))


def assert_same_of_both(ours, peer):
    assert_same_text(ours, peer, TEXT)
    assert_same_text(ours, peer, SPACES)
    assert_same_tokenizer(ours, peer)


def test_the_layout_before_4_34(name, vocabulary, tmp_path):
    """The ids of added tokens in a file of their own."""
    (tmp_path / "spiece.model").write_bytes(vocabulary.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    names = {"additional_special_tokens": ["<e2>"], "cls_token": "<Cls>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    added = {"<e1>": 30001, "<e2>": 30000, "<Cls>": 30002}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    ours, peer = read(name, tmp_path)
    assert_same_of_both(ours, peer)
    if name == "AlbertTokenizer":
        assert ours.get_added_vocab().items() >= added.items()


def test_tokenizer_json_alone(vocabulary, tmp_path):
    """As the library writes it, and as it did when ALBERT's were uploaded."""
    path = tmp_path / "tokenizer.json"
    peer = transformers.AlbertTokenizerFast(str(vocabulary))
    peer.add_tokens(["<e1>", "Caf\u00e9"])
    backend = peer.backend_tokenizer
    backend.enable_padding(direction="left", length=7)
    backend.enable_truncation(5, stride=1, direction="left")
    backend.save(str(path))
    assert_same_of_both(*read("AlbertTokenizerFast", tmp_path))
    content = json.loads(path.read_text(encoding="utf-8"))
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    content["decoder"] = metaspace
    content["pre_tokenizer"] = {
        "type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")
    ours, peer = read("AlbertTokenizerFast", tmp_path)
    assert_same_of_both(ours, peer)
    ours.save_pretrained(tmp_path / "again")
    assert_same_of_both(*read("AlbertTokenizerFast", tmp_path / "again"))
