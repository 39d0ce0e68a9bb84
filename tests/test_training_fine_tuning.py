"""Rows of a data set in batches, and a head that learns from them."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines_support import SENTENCES, save_classifier

from albert_np import AlbertForSequenceClassification, AlbertTokenizer
from albert_np.training.fine_tuning import batches_in_order, fine_tune, shuffled_batches

SIZES = {"count": st.integers(1, 20), "batch_size": st.integers(1, 25)}


def numbered(count):
    """Rows that tell their numbers."""
    return {"a": np.arange(count), "b": np.arange(2 * count).reshape(count, 2)}


def row_numbers(batches):
    for batch in batches:
        assert np.array_equal(batch["b"], np.stack([2 * batch["a"], 2 * batch["a"] + 1], axis=1))
    return np.concatenate([batch["a"] for batch in batches])


@given(**SIZES)
def test_batches_in_order(count, batch_size):
    batches = list(batches_in_order(numbered(count), batch_size))
    assert np.array_equal(row_numbers(batches), np.arange(count))
    assert all(len(batch["a"]) == batch_size for batch in batches[:-1])
    assert 0 < len(batches[-1]["a"]) <= batch_size


@given(**SIZES, seed=st.integers(0, 99))
def test_every_row_once_a_round(count, batch_size, seed):
    a_round = -(-count // batch_size)
    batches = shuffled_batches(numbered(count), batch_size, np.random.default_rng(seed))
    for _ in range(3):
        numbers = row_numbers(list(islice(batches, a_round)))
        assert sorted(numbers) == list(range(count))


def test_every_round_has_another_order():
    batches = shuffled_batches(numbered(20), 20, np.random.default_rng(0))
    assert len({tuple(next(batches)["a"]) for _ in range(5)}) == 5


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def rows(directory):
    tokenizer = AlbertTokenizer.from_pretrained(directory)
    texts = tokenizer(SENTENCES, padding=True, return_tensors="np")
    return texts | {"labels": np.array([0, 1, 2, 1])}


def test_a_head_learns(directory, rows):
    first, second = (AlbertForSequenceClassification.from_pretrained(directory) for _ in range(2))
    losses = fine_tune(first, rows, steps=60, batch_size=2, learning_rate=1e-2)
    assert len(losses) == 60
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) / 2
    assert fine_tune(second, rows, steps=60, batch_size=2, learning_rate=1e-2) == losses
    assert fine_tune(second, rows, steps=2, batch_size=2, seed=1) != losses[:2]


def test_weights_decay_and_biases_do_not(directory, rows):
    """Where no gradient comes, as behind a relu that nothing reaches, decay alone changes them."""
    model = AlbertForSequenceClassification.from_pretrained(directory, hidden_act="relu")
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0"
    weight, bias = (model.parameters[f"{layer}.ffn.{kind}"] for kind in ("weight", "bias"))
    before = weight.copy()
    bias[...] = -1000
    fine_tune(model, rows, steps=3, batch_size=2)
    assert (bias == -1000).all()
    assert (np.abs(weight) < np.abs(before)).all()
