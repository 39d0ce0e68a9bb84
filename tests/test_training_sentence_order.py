"""Sentence order: segments are consecutive, whole, and swapped half of the time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from albert_np.training.sentence_order import segment_pair, split_to_fit

sentences = st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=8)


@given(sentences, st.integers(0, 2**32 - 1))
def test_segments_put_in_order_are_the_document(document, seed):
    first, second, label = segment_pair(document, np.random.default_rng(seed))
    assert first and second
    in_order = (first, second) if label == 0 else (second, first)
    assert " ".join(in_order) == " ".join(document)


def test_half_are_swapped_and_every_cut_occurs():
    rng = np.random.default_rng(0)
    pairs = [segment_pair(["a", "b", "c", "d"], rng) for _ in range(10_000)]
    # Hoeffding: a share is off by more than √(ln(2·10⁹) / (2·10⁴)) once in 10⁹ times.
    bound = np.sqrt(np.log(2e9) / 2e4)
    assert abs(np.mean([label for *_, label in pairs]) - 1 / 2) <= bound
    for length in (1, 2, 3):
        share = np.mean([len(first.split()) == length for first, _, _ in pairs])
        assert abs(share - 1 / 3) <= bound


@given(sentences, st.integers(1, 12))
def test_runs_fit_and_together_are_the_document(document, room):
    runs = split_to_fit(document, [len(sentence) for sentence in document], room)
    assert [sentence for run in runs for sentence in run] == document
    for run in runs:
        assert len(run) == 1 or sum(map(len, run)) <= room


def test_runs_are_as_long_as_fits():
    assert split_to_fit(["aa", "bb", "c", "dddd"], [2, 2, 1, 4], 4) == [
        ["aa", "bb"],
        ["c"],
        ["dddd"],
    ]
