"""The generator inside kernels: published answers, and the reference's mask, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_np.functions.dropout import Dropout, keep_mask

numba = pytest.importorskip("numba")
from albert_np.kernels.numba.philox import draw_of, philox_4x32_10  # noqa: E402

WORDS = st.integers(0, 2**32 - 1)
ANSWERS = [
    # Counter, key and answer: the known-answer vectors of the authors' library, Random123.
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@numba.njit
def factors_of_a_row(width, row, sequence, head, draw):
    """Dropout's factor in each column of a row, as a kernel draws it."""
    place = (draw.site << np.uint64(16)) + np.uint64(head)
    factors = np.empty(width)
    for column in range(width):
        words = philox_4x32_10(
            np.uint64(column // 4),
            np.uint64(row),
            np.uint64(sequence),
            place,
            draw.seed_low,
            draw.seed_high,
        )
        word = (words[0], words[1], words[2], words[3])[column % 4]
        factors[column] = draw.scale if word >= draw.threshold else 0
    return factors


def words(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_gives_the_published_answers(counter, key, answer):
    assert list(philox_4x32_10(*words(counter), *words(key))) == words(answer)


@given(
    st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 10)),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**16 - 1),
)
def test_factors_are_those_of_the_reference(shape, probability, seed, site):
    dropout = Dropout(probability, seed, site)
    draw = draw_of(dropout, np.dtype(np.float64))
    keep = keep_mask(shape, dropout)
    scale = 0 if probability == 1 else 1 / (1 - probability)
    for sequence, head, row in np.ndindex(shape[:3]):
        factors = factors_of_a_row(shape[3], row, sequence, head, draw)
        np.testing.assert_array_equal(factors, np.where(keep[sequence, head, row], scale, 0))


@given(WORDS, WORDS)
def test_a_draw_holds_the_whole_seed(low, high):
    draw = draw_of(Dropout(0.5, low + (high << 32), 3), np.dtype(np.float32))
    assert (draw.seed_low, draw.seed_high, draw.site) == (low, high, 3)
    assert draw.scale.dtype == np.float32
