"""Vectors of texts: which hidden states they are of, shapes, batches, wrong arguments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines_support import WORDS, save_small_model

from albert_np import AlbertForPreTraining, AlbertModel, AlbertTokenizer
from albert_np.pipelines import BATCH_SIZE, embed, predict_embeddings

TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"), AlbertModel)


@pytest.fixture(scope="module")
def tokenizer(directory):
    return AlbertTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory):
    return AlbertModel.from_pretrained(directory, dtype="float64")


@given(text=TEXTS)
def test_cls_and_mean_of_the_last_hidden_state(model, tokenizer, text):
    hidden_states = model(**tokenizer([text], return_tensors="np")).last_hidden_state[0]
    assert np.array_equal(embed(model, tokenizer, text), hidden_states[0])
    assert np.array_equal(embed(model, tokenizer, text, "mean"), hidden_states.mean(axis=0))


def test_a_configuration_that_asks_for_tuples(directory, tokenizer, model):
    other = AlbertModel.from_pretrained(directory, dtype="float64", return_dict=False)
    assert isinstance(other([[1, 2]]), tuple)
    np.testing.assert_array_equal(
        embed(other, tokenizer, "a cat"), embed(model, tokenizer, "a cat")
    )


def test_shapes(model, tokenizer):
    assert embed(model, tokenizer, "a cat").shape == (12,)
    assert embed(model, tokenizer, ["a cat"]).shape == (1, 12)
    assert embed(model, tokenizer, ("a cat", "the sky is red")).shape == (2, 12)
    assert embed(model, tokenizer, "a cat").dtype == np.float64


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=BATCH_SIZE + 2),
    pooling=st.sampled_from(["cls", "mean"]),
)
def test_a_text_does_not_depend_on_its_batch(model, tokenizer, texts, pooling):
    together = embed(model, tokenizer, texts, pooling)
    alone = [embed(model, tokenizer, text, pooling) for text in texts]
    # Padding weighs exactly 0, so only the order of summation can differ: a unit in the last place
    # for each of at most 20 terms (tokens, or hidden units) of 20 sums in a row in 4 layers. Layer
    # norm keeps what is summed below the square root of its width, 4.
    np.testing.assert_allclose(together, alone, rtol=0, atol=4 * 20 * 80 * 2**-53)


@pytest.mark.parametrize(
    ("texts", "pooling", "error", "message"),
    [
        ("", "cls", ValueError, r"texts\[0\] is empty: ''"),
        (["a", " \n"], "cls", ValueError, r"texts\[1\] is empty"),
        ([], "cls", ValueError, "texts is empty; expected at least one text"),
        (5, "cls", TypeError, "texts is of type int"),
        (["a", 5], "cls", TypeError, r"texts\[1\] is of type int"),
        ("a", "max", ValueError, "pooling is 'max'; expected one of cls, mean"),
        (["a", "dog " * 200], "cls", ValueError, r"texts\[1\] has \d+ tokens; max_position_emb"),
    ],
)
def test_wrong_arguments(model, tokenizer, texts, pooling, error, message):
    with pytest.raises(error, match=message):
        embed(model, tokenizer, texts, pooling)


def test_a_model_with_a_head(model, tokenizer):
    with pytest.raises(TypeError, match="AlbertForPreTraining; expected AlbertModel"):
        embed(AlbertForPreTraining(model.config), tokenizer, "a")


def test_everything_is_checked_before_the_model_runs(model, tokenizer):
    with pytest.raises(ValueError, match=rf"texts\[{2 * BATCH_SIZE}\] is empty"):
        predict_embeddings(model, tokenizer, ["a"] * 2 * BATCH_SIZE + [""])
