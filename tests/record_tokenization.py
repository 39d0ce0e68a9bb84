"""Record what transformers' two tokenizers make of hard texts, on the released vocabulary.

    python tests/record_tokenization.py ../shared/data/spiece.model

writes tests/recorded/tokenization.json, which tests/test_tokenization.py reads. It needs the
`parity` extra; run it again when a text is added.
"""

import json
import sys
from pathlib import Path

import transformers

CLASSES = ["AlbertTokenizer", "AlbertTokenizerFast"]
OPTIONS = [
    {},
    {"do_lower_case": False},
    {"keep_accents": True},
    {"remove_space": False},
    {"do_lower_case": False, "keep_accents": True, "remove_space": False},
]

TEXTS = [
    # plain
    "",
    "The capital of [MASK] is Paris.",
    "Is this jacksonville?",
    "Don't panic, it's 1997's \"best\" thing (so far).",
    "antidisestablishmentarianism",
    # numbers and commas
    "9,9",
    "9, 9",
    "1,000,000",
    "In 1984, 12,5 and 3,14159,",
    "a9,b",
    ",9,",
    "x\u00b2, \u00bd, \u2460, \u0663, \u0be7,",
    # spaces and control characters
    "  runs   of    spaces  ",
    "tab\tnewline\nreturn\rfeed\x0cend",
    "\u00a0no\u2003break\u3000spaces\u2028here\x85too",
    "zero\u200bwidth\u200djoiner\ufeff",
    "nul\x00bell\x07unit\x1fdel\x7f",
    " \t\n ",
    # special tokens written out
    "[CLS] a [SEP] b [SEP]",
    "[mask] [Mask] [MASK]",
    "<PAD> <pad> <Unk> <unk> <UNK>",
    "[cls][CLS][sep][SEP]",
    "of[MASK]is  [MASK]  .[MASK]",
    "[MASK",
    "[[MASK]]",
    "[MASK] [MASK]\n[MASK]",
    "<un\u212a> <pad\u0301>",
    "[\uff2d\uff21\uff33\uff2b]",
    "[PAD] </s> <s> \u2581 \u2581the",
    # quotes and dashes
    "``TeX'' quotes, `single' and ''",
    "```` '''' ``'",
    "\u2018curly\u2019 \u201cquotes\u201d \u2013 and \u2014 dashes\u2026",
    # accents, case and look-alikes
    "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m",
    "Cafe\u0301 e\u0301\u0323\u0308",
    "\u0130stanbul I\u0307 \u0131 \u1e9e\u00df",
    "\u039f\u0394\u039f\u03a3 \u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3",
    "\U0001d6b6\U0001d6a8\U0001d6ba \U0001d4d0\U0001d4d1\U0001d4d2",
    "\uff21\uff4c\uff42\uff45\uff52\uff54 \uff11\uff0c\uff19",
    "\ufb01ne \ufb02oor \u33a1 \u2122 \u216b",
    "\u1f88\u0345 \u01c5",
    # scripts and pictures
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643 \u202eright\u202c",
    "\u6771\u4eac\u3078\u3088\u3046\u3053\u305d",
    "\uc11c\uc6b8 \u1109\u1165\u110b\u116e\u11af",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f",
    "a\U000e0001b \ue000 \U0010ffff \ufffd \ufffe",
    "\u0301 \u0301a",
    "\u00a3 \u20ac $ 5\u00b0 50%",
    "https://example.org/a_b?c=d&e=f#g",
    "snake_case CamelCase x+=1; // \\n",
]

OVERFLOW = {"return_overflowing_tokens": True}
OFFSETS = {"return_offsets_mapping": True}
FIRST = "The quick brown fox jumps over the lazy dog."
SECOND = "A pair, with 1,000 [MASK]s."
CALLS = [
    ([FIRST], {}),
    ([FIRST, SECOND], {}),
    ([FIRST, SECOND], {"add_special_tokens": False}),
    ([FIRST, SECOND], {"truncation": True, "max_length": 3}),
    ([FIRST, SECOND], {"truncation": True, "max_length": 12}),
    ([SECOND, FIRST], {"truncation": True, "max_length": 13}),
    ([FIRST, SECOND], {"truncation": "only_first", "max_length": 16}),
    ([FIRST, SECOND], {"truncation": "only_second", "max_length": 16}),
    ([FIRST], {"max_length": 6}),
    ([FIRST], {"max_length": 6, "padding": "max_length"}),
    ([[FIRST, ""]], {"padding": True}),
    ([[FIRST, ""], ["", SECOND]], {"padding": "longest"}),
    ([[FIRST, SECOND]], {"padding": "max_length", "max_length": 20, "truncation": True}),
    ([[FIRST, SECOND], [SECOND, FIRST]], {"padding": True, "truncation": True, "max_length": 15}),
    ([FIRST, SECOND], {"truncation": True, "max_length": 12, "truncation_side": "left"}),
    ([[FIRST, ""]], {"padding": True, "padding_side": "left", "pad_to_multiple_of": 8}),
    ([[FIRST, SECOND]], {"padding": True, "return_length": True}),
    ([FIRST], {"padding": "max_length", "max_length": 16, "return_length": True}),
    ([[FIRST, SECOND]], {"padding": True, "return_special_tokens_mask": True}),
    ([FIRST], {"truncation": True, "max_length": 8, "stride": 2, **OVERFLOW}),
    ([SECOND, FIRST], {"truncation": "only_second", "max_length": 16, "stride": 3, **OVERFLOW}),
    ([[SECOND, FIRST]], {"truncation": True, "max_length": 8, "padding": True, **OVERFLOW}),
    ([FIRST.split(), SECOND.split()], {"is_split_into_words": True}),
    ([[FIRST.split(), SECOND.split()]], {"is_split_into_words": True, "padding": True}),
    ([FIRST, SECOND], {"return_token_type_ids": False, "return_attention_mask": False}),
]
# Those that only the fast class answers.
FAST_CALLS = [
    ([text], {"return_offsets_mapping": True})
    for text in (FIRST, SECOND, "  Caf\u00e9,\u3000\ufb01ne [MASK]  1,000 (\U0001f600)")
] + [([FIRST.split(), SECOND.split()], {"is_split_into_words": True, **OFFSETS})]
ADDED = ["<new>", "Caf\u00e9", "x"]
ADDED_TEXTS = ["a <NEW> caf\u00e9<new>", "CAFE\u0301 [MASK]x<new>x", "<new>[SEP]  x  Caf\u00e9"]


def record(vocabulary):
    texts, calls, added = [], [], []
    for name in CLASSES:
        make = getattr(transformers, name)
        peers = [make(vocabulary, **options) for options in OPTIONS]
        for text in TEXTS:
            rows = [peer(text)["input_ids"] for peer in peers]
            decoded = [peer.decode(ids) for peer, ids in zip(peers, rows, strict=True)]
            texts.append({"class": name, "text": text, "input_ids": rows, "decoded": decoded})
        for arguments, options in CALLS + FAST_CALLS * peers[0].is_fast:
            calls.append(
                {
                    "class": name,
                    "texts": arguments,
                    "options": options,
                    "encoding": encoding_of(peers[0], arguments, **options),
                }
            )
        peers[0].add_tokens(ADDED)
        for text in ADDED_TEXTS:
            ids = peers[0](text)["input_ids"]
            added.append(
                {"class": name, "text": text, "input_ids": ids, "decoded": peers[0].decode(ids)}
            )
    return {
        "recorded_from": f"transformers {transformers.__version__}",
        "options": OPTIONS,
        "texts": texts,
        "calls": calls,
        "added": ADDED,
        "texts_with_added": added,
    }


def encoding_of(peer, arguments, truncation_side="right", **options):
    """A call's result; the side is an attribute there."""
    peer.truncation_side = truncation_side
    encoding = peer(*arguments, **options)
    result = dict(encoding)
    if options.get("return_offsets_mapping"):
        result["word_ids"] = encoding.word_ids()
    return result


def dump(recording):
    """JSON with a line for each case, so that a difference shows which."""
    fields = []
    for name, value in recording.items():
        if isinstance(value, list):
            lines = ",\n".join(f"  {json.dumps(item)}" for item in value)
            fields.append(f' "{name}": [\n{lines}\n ]')
        else:
            fields.append(f' "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


if __name__ == "__main__":
    path = Path(__file__).parent / "recorded" / "tokenization.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump(record(sys.argv[1])), encoding="utf-8")
