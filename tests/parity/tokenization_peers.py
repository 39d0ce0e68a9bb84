"""What the tokenizers' parity tests share: settings, texts, and comparisons."""

from hypothesis import strategies as st

CLASSES = ["AlbertTokenizer", "AlbertTokenizerFast"]
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
    "(", ")", "-", "\u2013", "\u00a3", "\u20ac",
]  # fmt: skip

characters = st.characters(exclude_categories=["Cs"])
texts = st.lists(
    st.sampled_from(SPELLED)
    | st.text(characters, max_size=6)
    | st.text(st.characters(codec="ascii"))
).map("".join)
surrogates = st.characters(categories=["Cs"])

TEXT = "The caf\u00e9  [MASK] , 9,9 <mask> [mask] <s> <Cls><cls> \u00c9 n't (yes)"


def lines_of(shared_data):
    """Every text of the directory of real files."""
    return [
        line
        for path in sorted(shared_data.rglob("*"))
        if path.suffix in (".txt", ".tsv", ".json")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def described(tokenizer):
    """Every added token, in words that do not depend on the class that describes it."""
    fields = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    return {
        index: [getattr(token, field) for field in fields]
        for index, token in tokenizer.added_tokens_decoder.items()
    }


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
        assert ours.convert_ids_to_tokens(ids, skip) == peer.convert_ids_to_tokens(ids, skip)
        assert ours.decode(ids, skip) == peer.decode(ids, skip)
        assert ours.decode(ids, skip, True) == peer.decode(ids, skip, True)


def assert_same_tokenizer(ours, peer):
    """Both hold the same vocabulary, tokens and settings."""
    assert ours.get_vocab() == peer.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(peer), peer.vocab_size)
    assert described(ours) == described(peer)
    assert ours.get_added_vocab() == peer.get_added_vocab()
    assert ours.special_tokens_map == peer.special_tokens_map
    for name in (
        "model_max_length",
        "padding_side",
        "truncation_side",
        "clean_up_tokenization_spaces",
        "split_special_tokens",
        "all_special_tokens",
        "all_special_ids",
        "additional_special_tokens",
        *(f"{name}_token" for name in NAMES),
        *(f"{name}_token_id" for name in NAMES),
    ):
        assert getattr(ours, name) == getattr(peer, name), name


NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
