"""Filling in masks: shapes, scores, sequences, batches, wrong arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines_support import MAX_LENGTH, WORDS, save_small_model

from albert_np import AlbertForMaskedLM, AlbertForPreTraining, AlbertModel, AlbertTokenizer
from albert_np.pipelines import BATCH_SIZE, fill_mask, predict_masks
from albert_np.pipelines.batches import INPUTS, padded_batch

ONE = "The capital of [MASK] is Paris."
TWO = "A [MASK] is red, and so is a [MASK]."
THREE = "[MASK] [MASK] [MASK]"
KEYS = ["score", "token", "token_str", "sequence"]

TEXTS = st.lists(st.sampled_from([*WORDS, "[MASK]"]), max_size=6).map(
    lambda words: " ".join(["[MASK]", *words])
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AlbertTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory):
    return AlbertForPreTraining.from_pretrained(directory, dtype="float64")


def shape(result):
    """The nesting of a result, a dictionary counting as a word."""
    return [shape(item) for item in result] if isinstance(result, list) else "word"


WORDS_2 = ["word", "word"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (ONE, WORDS_2),
        ([ONE], WORDS_2),
        (TWO, [WORDS_2, WORDS_2]),
        ([TWO], [WORDS_2, WORDS_2]),
        ([ONE, ONE], [WORDS_2, WORDS_2]),
        ((ONE, TWO), [WORDS_2, [WORDS_2, WORDS_2]]),
        ([THREE, ONE], [[WORDS_2, WORDS_2, WORDS_2], WORDS_2]),
    ],
)
def test_shapes_of_results(model, tokenizer, texts, expected):
    assert shape(fill_mask(model, tokenizer, texts, top_k=2)) == expected


def test_five_words_by_default(model, tokenizer):
    words = fill_mask(model, tokenizer, ONE)
    assert [list(word) for word in words] == [KEYS] * 5
    assert [type(word["score"]) for word in words] == [float] * 5
    assert [type(word["token"]) for word in words] == [int] * 5


def test_scores_are_the_softmax_of_the_logits_at_the_mask(model, tokenizer):
    inputs = tokenizer([ONE], return_tensors="np")
    (place,) = (inputs.input_ids[0] == tokenizer.mask_token_id).nonzero()[0]
    exponentials = np.exp(model(**inputs).prediction_logits[0, place])
    words = fill_mask(model, tokenizer, ONE, top_k=model.config.vocab_size)
    scores = [word["score"] for word in words]
    tokens = [word["token"] for word in words]
    assert sorted(tokens) == list(range(model.config.vocab_size))
    assert scores == sorted(scores, reverse=True)
    # A quotient of two sums of V positive terms: each within V units in the last place.
    np.testing.assert_allclose(
        scores, (exponentials / exponentials.sum())[tokens], rtol=4 * len(scores) * 2**-53
    )


def test_the_word_stands_in_the_sequence(model, tokenizer):
    for word in fill_mask(model, tokenizer, "The capital of[MASK] is Paris", top_k=40):
        assert word["token_str"] == tokenizer.decode([word["token"]])
        ids = tokenizer.encode("The capital of[MASK] is Paris")
        ids[ids.index(tokenizer.mask_token_id)] = word["token"]
        assert word["sequence"] == tokenizer.decode(ids, skip_special_tokens=True)
        assert "[CLS]" not in word["sequence"]


def test_other_masks_stay_in_the_sequence(model, tokenizer):
    first, second = fill_mask(model, tokenizer, "a [MASK] [MASK] dog", top_k=1)
    kept = tokenizer.encode("a [MASK] [MASK] dog")
    for place, (word,) in zip((2, 3), (first, second), strict=True):
        ids = list(kept)
        ids[place] = word["token"]
        assert word["sequence"] == tokenizer.decode(ids)
        assert word["sequence"].count("[MASK]") == 1


def test_padding_is_left_out_of_sequences(model, tokenizer):
    short, long = fill_mask(model, tokenizer, ["[MASK] [MASK]", f"{TWO} {TWO}"])
    assert "<pad>" not in "".join(word["sequence"] for words in short for word in words)
    spelt = fill_mask(model, tokenizer, "[MASK] <pad> [MASK]")
    assert not any(
        word["sequence"].count("<pad>") > (word["token_str"] == "<pad>")
        for words in spelt
        for word in words
    )


def test_padding_is_what_the_tokenizer_says():
    rows = [dict.fromkeys(INPUTS, [1, 1]), dict.fromkeys(INPUTS, [1])]
    batch = padded_batch(rows, pad_token_id=9)
    assert batch["input_ids"].tolist() == [[1, 1], [1, 9]]
    assert batch["token_type_ids"].tolist() == batch["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_both_classes_give_the_same(directory, model, tokenizer):
    with pytest.warns(UserWarning, match="no use for"):
        masked_lm = AlbertForMaskedLM.from_pretrained(directory, dtype="float64")
    assert fill_mask(masked_lm, tokenizer, [ONE, TWO]) == fill_mask(model, tokenizer, [ONE, TWO])


@given(texts=st.lists(TEXTS, min_size=1, max_size=BATCH_SIZE + 2))
def test_a_text_does_not_depend_on_its_batch(model, tokenizer, texts):
    vocab_size = model.config.vocab_size
    together = list(predict_masks(model, tokenizer, texts, top_k=vocab_size))
    alone = [next(predict_masks(model, tokenizer, [text], top_k=vocab_size)) for text in texts]
    # Padding weighs exactly 0 in every softmax, so only the order of summation can differ: by a
    # unit in the last place for each term of the longest sum (V) and each operation in a row
    # (20 in each of 4 layers), times the size of what is summed, which layer norm keeps below the
    # logits' largest, |E| times the embedding size: 100 at the most.
    tolerance = 100 * vocab_size * 80 * 2**-53
    for result, expected in zip(together, alone, strict=True):
        assert len(result) == len(expected)
        for words, expected_words in zip(result, expected, strict=True):
            scores, expected_scores = (
                {word["token"]: word["score"] for word in row} for row in (words, expected_words)
            )
            assert scores == pytest.approx(expected_scores, rel=0, abs=tolerance)
            sequences, expected_sequences = (
                {word["token"]: word["sequence"] for word in row} for row in (words, expected_words)
            )
            assert sequences == expected_sequences


def test_float32_stays_float32(directory, tokenizer):
    model = AlbertForPreTraining.from_pretrained(directory, dtype="float32")
    scores = [word["score"] for word in fill_mask(model, tokenizer, ONE)]
    assert scores == [float(np.float32(score)) for score in scores]


@pytest.mark.parametrize(
    ("texts", "top_k", "error", "message"),
    [
        ("The capital.", 5, ValueError, r"texts\[0\] has no \[MASK\]: 'The capital.'"),
        ("The [mask].", 5, ValueError, r"texts\[0\] has no \[MASK\]"),
        ("", 5, ValueError, r"texts\[0\] has no \[MASK\]: ''"),
        ([ONE, "word " * 99], 5, ValueError, r"texts\[1\] has no \[MASK\]: 'word .{0,60} …'$"),
        ([ONE, "[MASK]" * 200], 5, ValueError, "202 tokens; max_position_embeddings is 128"),
        ([], 5, ValueError, "empty"),
        (ONE, 0, ValueError, r"top_k is 0; expected 1 to \d+ \(vocab_size\)"),
        (ONE, -1, ValueError, "top_k is -1"),
        (ONE, 10**6, ValueError, "top_k is 1000000"),
        (ONE, 2.0, TypeError, "top_k is 2.0; expected an integer"),
        (ONE, True, TypeError, "top_k is True"),
        (ONE, None, TypeError, "top_k is None"),
        (5, 5, TypeError, "int"),
        ([ONE, None], 5, TypeError, "NoneType"),
    ],
)
def test_wrong_arguments(model, tokenizer, texts, top_k, error, message):
    with pytest.raises(error, match=message):
        fill_mask(model, tokenizer, texts, top_k=top_k)


def test_the_longest_text_that_fits(model, tokenizer):
    assert len(fill_mask(model, tokenizer, "[MASK]" * (MAX_LENGTH - 2))) == MAX_LENGTH - 2
    with pytest.raises(ValueError, match=f"has {MAX_LENGTH + 1} tokens"):
        fill_mask(model, tokenizer, "[MASK]" * (MAX_LENGTH - 1))


def test_a_model_without_a_head_for_words(directory, tokenizer):
    model = AlbertModel(AlbertForPreTraining.from_pretrained(directory).config)
    with pytest.raises(TypeError, match="AlbertModel; expected AlbertForMaskedLM or AlbertForPre"):
        fill_mask(model, tokenizer, ONE)


def test_everything_is_checked_before_the_model_runs(model, tokenizer):
    texts = [ONE] * 2 * BATCH_SIZE + [""]
    with pytest.raises(ValueError, match=rf"texts\[{2 * BATCH_SIZE}\] has no"):
        predict_masks(model, tokenizer, texts)
