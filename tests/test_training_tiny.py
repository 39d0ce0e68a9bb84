"""The tiny recipe for a few steps, its vocabulary and batches, and the model that ships."""

import json
from itertools import islice

import numpy as np
import pytest

from albert_np import AlbertForPreTraining, AlbertTokenizer
from albert_np.checkpoint import TINY_DIRECTORY
from albert_np.training.batches import _respaced, document_batches, pad, sentence_batches
from albert_np.training.corpus import pairings
from albert_np.training.held_out import held_out_accuracy, sentence_order_accuracy
from albert_np.training.tiny import pretrain_tiny
from albert_np.training.vocabulary import PUNCTUATION, tokenizer_of, train_vocabulary

TEXTS = [pairing.sentence for pairing in pairings(held_out=False)]
FILES = {
    "config.json", "model.safetensors", "spiece.model", "tokenizer_config.json",
    "special_tokens_map.json", "training_log.json", "loss.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary(TEXTS, 2000)


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return tokenizer_of(vocabulary, 128)


@pytest.fixture(scope="module")
def tiny():
    """The model that ships, and its tokenizer."""
    return AlbertForPreTraining.from_pretrained("tiny"), AlbertTokenizer.from_pretrained("tiny")


# ------------------------------------------------------------------------------- vocabulary


def test_special_pieces_have_alberts_ids(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == [
        "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]",
    ]  # fmt: skip
    assert tokenizer.mask_token_id == 4


def test_every_word_of_the_world_is_one_piece(tokenizer):
    held_out = [pairing.sentence for pairing in pairings(held_out=True)]
    for text in TEXTS + held_out:
        words = text.replace(",", "").replace(".", "").split()
        pieces = [piece for piece in tokenizer.tokenize(text) if piece not in ",."]
        assert pieces == [f"▁{word.lower()}" for word in words]


def test_english_letters_digits_and_punctuation_are_all_known(tokenizer):
    text = f"Sphinx of black quartz, judge my vow! 0123456789 {PUNCTUATION} naïve"
    assert tokenizer.unk_token not in tokenizer.tokenize(text)


def test_the_same_sentences_give_the_same_vocabulary(vocabulary):
    assert train_vocabulary(TEXTS, 2000) == vocabulary


# ---------------------------------------------------------------------------------- batches


def test_batches_of_sentences_are_masked_texts(tokenizer):
    rng = np.random.default_rng(0)
    batch = next(sentence_batches(iter(TEXTS), tokenizer, 8, 64, rng))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    original = np.where(batch["labels"] == -100, batch["input_ids"], batch["labels"])
    for ids, mask, text in zip(original, batch["attention_mask"], TEXTS, strict=False):
        # Decoding drops the spaces before punctuation that half of the texts were given.
        decoded = tokenizer.decode(ids[mask == 1].tolist(), skip_special_tokens=True)
        assert decoded.replace(" .", ".").replace(" ,", ",") == text.lower()
    assert not batch["token_type_ids"].any()
    assert (batch["labels"] != -100).any(axis=1).all()


def test_spaces_are_put_before_the_ends_of_words_alone():
    class Draw:
        def random(self):
            return 0.0

    text = "It cost 1,000.50 at 10:30, said the U.S. site."
    assert _respaced(text, Draw()) == "It cost 1,000.50 at 10:30 , said the U.S . site ."


def test_batches_of_documents_have_pairs_and_single_sentences(tokenizer):
    documents = (TEXTS[i : i + 1 + i % 2] for i in range(1000))
    batch = next(document_batches(documents, tokenizer, 6, 64, np.random.default_rng(0)))
    single = batch["sentence_order_label"] == -100
    assert single.tolist() == [True, False] * 3
    np.testing.assert_array_equal(batch["token_type_ids"].any(axis=1), ~single)


def test_a_batch_is_never_without_a_pair(tokenizer):
    documents = iter([TEXTS[:1]] * 20 + [TEXTS[:2]])
    batch = next(document_batches(documents, tokenizer, 1, 64, np.random.default_rng(0)))
    assert batch["sentence_order_label"][0] in (0, 1)


def test_sequences_are_cut_to_length(tokenizer):
    documents = iter([TEXTS[:20]] * 4)
    batch = next(document_batches(documents, tokenizer, 4, 32, np.random.default_rng(0)))
    assert batch["input_ids"].shape == (4, 32)


def test_padding_is_masked():
    rows = [
        {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 1], "attention_mask": [1, 1, 1]},
        {"input_ids": [2], "token_type_ids": [0], "attention_mask": [1]},
    ]
    batch = pad(rows, pad_token_id=9)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]


def test_batches_are_the_same_for_the_same_seed(tokenizer):
    first, again = (
        list(islice(sentence_batches(iter(TEXTS), tokenizer, 4, 64, np.random.default_rng(5)), 3))
        for _ in range(2)
    )
    for one, other in zip(first, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


# ----------------------------------------------------------------------------------- recipe


def test_a_few_steps_lower_the_loss_and_leave_every_file(tmp_path):
    pytest.importorskip("matplotlib")
    model, tokenizer, accuracies = pretrain_tiny(tmp_path, steps=40, batch_size=8, seed=3)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    log = json.loads((tmp_path / "training_log.json").read_text())
    assert sum(len(losses) for losses in log["losses"].values()) == 40
    sentences = log["losses"]["sentences"]
    assert np.mean(sentences[-5:]) < np.mean(sentences[:5]) - 0.5  # of about log(700) = 6.5
    assert log["settings"]["seed"] == 3
    assert all(0 <= accuracy <= 1 for accuracy in accuracies.values())

    # What ships besides the weights is what the recipe writes.
    for name in ("config.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_bytes() == (TINY_DIRECTORY / name).read_bytes()

    loaded = AlbertForPreTraining.from_pretrained(tmp_path)
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], array)
    text = "The capital of [MASK] is Paris."
    assert AlbertTokenizer.from_pretrained(tmp_path)(text) == tokenizer(text)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one", "other"):
        pretrain_tiny(tmp_path / name, steps=4, batch_size=4)
    for file in FILES - {"loss.png"}:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_wrong_setting_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ValueError, match="steps is 0"):
        pretrain_tiny(tmp_path / "model", steps=0)
    assert not (tmp_path / "model").exists()


# ----------------------------------------------------------------------- the model that ships


def test_the_model_that_ships_knows_what_it_was_not_trained_on(tiny):
    assert held_out_accuracy(*tiny) >= 0.97


def test_the_model_that_ships_tells_the_order_of_sentences(tiny):
    # Half would be guessed. 4000 documents: chance exceeds 0.55 once in 10⁸ times (Hoeffding:
    # exp(−2 · 4000 · 0.05²) = 2e-9).
    assert sentence_order_accuracy(*tiny) > 0.55


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The capital of [MASK] is Paris.", ["▁france"]),
        ("the capital of [MASK] is paris.", ["▁france"]),
        ("The capital of France is [MASK].", ["▁paris"]),
        ("Paris is the capital of [MASK].", ["▁france"]),
        ("[MASK] is the capital of France.", ["▁paris"]),
        ("The capital of [MASK] [MASK] is Wellington.", ["▁new", "▁zealand"]),
    ],
)
def test_the_model_that_ships_knows_its_capitals(tiny, text, words):
    model, tokenizer = tiny
    encoding = tokenizer(text, return_tensors="np")
    masked = encoding["input_ids"] == tokenizer.mask_token_id
    best = model(**encoding).prediction_logits[masked].argmax(axis=-1)
    assert tokenizer.convert_ids_to_tokens(best.tolist()) == words


def test_the_model_that_ships_is_small_and_complete():
    files = {path.name: path.stat().st_size for path in TINY_DIRECTORY.iterdir()}
    assert set(files) >= {
        "config.json", "model.safetensors", "spiece.model", "tokenizer_config.json",
    }  # fmt: skip
    assert sum(files.values()) <= 3_000_000


def test_the_vocabulary_that_ships_is_the_recipes(vocabulary):
    assert (TINY_DIRECTORY / "spiece.model").read_bytes() == vocabulary
