"""Small SentencePiece vocabularies, and what is written on them."""

import json

from sentencepiece import SentencePieceTrainer

CLS, SEP, PAD, UNK, MASK = "[CLS]", "[SEP]", "<pad>", "<unk>", "[MASK]"

SENTENCES = [
    "the capital of france is paris",
    "the capital of italy is rome",
    "the sky is blue and the sea is blue",
    "a dog is an animal and a cat is an animal",
    "in 9, 99, and 1,000 days",
    "cold is the opposite of hot",
    "the cafe",
]
WORDS = sorted(set(" ".join(SENTENCES[:4]).split()))


def train(path, model_type, vocab_size, **options):
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3),
        model_prefix=str(path),
        model_type=model_type,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=[CLS, SEP, MASK],
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return path.with_suffix(".model")


def word_model(path):
    """One piece a word, so that what a text becomes can be written down by hand."""
    return train(path, "word", 100)


def piece_model(path):
    """Pieces of words, as ALBERT's; `9,` is always one of them."""
    return train(path, "unigram", 70, user_defined_symbols=["9,"])


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def added_token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, **flags}
