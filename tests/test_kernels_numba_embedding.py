"""The embedding's gradient: that of the reference, bit for bit, since both add in token order."""

import numpy as np
import pytest
from functions_support import DTYPES, SEEDS
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from numba_support import COLUMNS, ROWS, assert_same_bits_on_any_threads  # noqa: E402

from albert_np.functions import embedding  # noqa: E402
from albert_np.kernels.numba.embedding import embedding_backward  # noqa: E402


@given(SEEDS, DTYPES, ROWS, COLUMNS, st.integers(1, 6), st.sampled_from([None, 0]))
def test_equals_the_reference(seed, dtype, leading, n, V, padding_idx):
    rng = np.random.default_rng(seed)
    ids = np.asarray(rng.integers(0, V, leading))
    weight = rng.standard_normal((V, n)).astype(dtype)
    y, cache = embedding.embedding_forward(ids, weight, padding_idx)
    dy = np.asarray(rng.standard_normal(y.shape).astype(dtype))
    dweight = embedding_backward(dy, cache)
    assert dweight.dtype == dtype
    np.testing.assert_array_equal(dweight, embedding.embedding_backward(dy, cache))

    slot, same = (rng.standard_normal((2, V, n)).astype(dtype)[[0, 0]]).copy()
    assert embedding_backward(dy, cache, into=(slot,)) is slot
    np.testing.assert_array_equal(slot, embedding.embedding_backward(dy, cache, into=(same,)))
    assert_same_bits_on_any_threads(lambda: (embedding_backward(dy, cache),))
