"""The embedding's gradient in CUDA, on the CPU, against the reference in float64."""

import numpy as np
import pytest
from cuda_support import (
    BFLOAT16,
    DTYPES,
    FLOAT16,
    FLOAT32,
    NEEDS_COMPILER,
    check_embedding,
    random,
    sample,
)
from functions_support import SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_np.functions import embedding
from albert_np.kernels import cuda
from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER

VERSIONS = (1, 2, 3)
TILE = launcher.SORTED_AT_ONCE


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Several tiles are sorted, and a run may be in several chunks, at sizes for the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "SORTED_AT_ONCE", 64)
        yield


def one_owns_most(rng, positions, vocabulary):
    """Ids out of order, of which one has two thirds of the positions."""
    ids = rng.integers(0, vocabulary, positions)
    ids[rng.random(positions) < 2 / 3] = vocabulary // 2
    return ids


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("padding_idx", [None, 4])
def test_versions(dtype, version, padding_idx):
    """A run of more chunks than a block takes at once; two blocks of columns."""
    ids = one_owns_most(np.random.default_rng(0), 300, 9).reshape(3, 100)
    columns = 33 * 16 // dtype.itemsize
    check_embedding(HostExecutor(1), dtype, ids, 9, columns, padding_idx, version)


@settings(max_examples=sample(200, 25))
@given(
    SEEDS,
    st.sampled_from(sample(DTYPES, [FLOAT16, FLOAT32])),
    st.sampled_from([(), (1,), (2, 5), (33,), (130,), (2, 3, 25)]),
    st.integers(1, 40),
    st.sampled_from([1, 3, 8, 16]),
    st.sampled_from([None, 0]),
    st.sampled_from([*VERSIONS, None]),
    st.sampled_from([np.int32, np.int64, np.uint8]),
)
def test_equals_the_reference(
    seed, dtype, leading, vocabulary, columns, padding_idx, version, id_dtype
):
    """Ids that repeat, in no order; rows that are whole packs, and others."""
    if version == 3 and columns * dtype.itemsize % 16:
        version = None  # which takes rows that are whole packs
    rng = np.random.default_rng(seed)
    ids = np.asarray(rng.integers(0, rng.integers(1, vocabulary + 1), leading)).astype(id_dtype)
    check_embedding(HostExecutor(), dtype, ids, vocabulary, columns, padding_idx, version, seed)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT32]), ids=str)
def test_one_token_alone(dtype, version):
    """Of all positions; and all of them padding."""
    for padding_idx in (None, 1):
        check_embedding(HostExecutor(), dtype, np.full(200, 1), 3, 16, padding_idx, version)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 47])
def test_runs_at_the_bounds_of_chunks(length):
    """Runs of one length, end to end: they begin and end at every place of a chunk."""
    ids = np.repeat(np.arange(160 // length + 1), length)[:160]
    for padding_idx in (None, 0, 1):
        check_embedding(HostExecutor(), FLOAT32, ids, 161, 8, padding_idx, 3)


def test_tiles_as_large_as_on_a_gpu(monkeypatch):
    """Three of them, the last one cut short."""
    monkeypatch.setattr(launcher, "SORTED_AT_ONCE", TILE)
    ids = np.random.default_rng(0).integers(0, 700, 3 * TILE - 99)
    check_embedding(HostExecutor(1), FLOAT32, ids, 700, 4, 0, 3)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_tokens(version):
    functions = cuda.functions(HostExecutor())
    weight, dy = np.ones((3, 8), np.float32), np.ones((0, 8), np.float32)
    cache = embedding.EmbeddingCache(np.zeros(0, int), weight, None)
    dweight = functions["embedding_backward"](dy, cache, version=version)
    np.testing.assert_array_equal(dweight, np.zeros_like(weight))
    slot = weight.copy()
    assert functions["embedding_backward"](dy, cache, (slot,), version=version) is slot
    np.testing.assert_array_equal(slot, weight)


def test_versions_that_add_in_token_order_have_the_same_bits():
    rng = np.random.default_rng(0)
    ids, weight = one_owns_most(rng, 200, 5), random(rng, (5, 8), BFLOAT16)
    cache = embedding.EmbeddingCache(ids, weight, None)
    dy = random(rng, (200, 8), BFLOAT16)
    backward = cuda.functions(HostExecutor())["embedding_backward"]
    np.testing.assert_array_equal(
        *(backward(dy, cache, version=version).view(np.uint16) for version in (1, 2))
    )


def test_a_sum_of_many_is_wide():
    """4096 ones are more than float16 or bfloat16 can count one by one."""
    cache = embedding.EmbeddingCache(np.zeros(4096, int), np.zeros((1, 8), FLOAT16), None)
    backward = cuda.functions(HostExecutor())["embedding_backward"]
    for version in VERSIONS:
        dweight = backward(np.ones((4096, 8), FLOAT16), cache, version=version)
        np.testing.assert_array_equal(dweight, np.full((1, 8), 4096, FLOAT16))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_id_without_a_row_reaches_none(version):
    """On a GPU it is seen where that costs no wait; the memory beside the table stays as it is."""
    cache = embedding.EmbeddingCache(np.array([5, -1, -2, 2, 2**33]), np.zeros((3, 8)), None)
    backward = cuda.functions(HostExecutor())["embedding_backward"]
    dweight = backward(np.ones((5, 8)), cache, version=version)
    np.testing.assert_array_equal(dweight, [[0] * 8, [0] * 8, [1] * 8])


def test_arrays_that_do_not_begin_at_16_bytes():
    """They take the plain version; and gaps are closed."""
    rng = np.random.default_rng(0)
    backward = cuda.functions(HostExecutor())["embedding_backward"]
    cache = embedding.EmbeddingCache(rng.integers(0, 3, 50), np.zeros((3, 8), FLOAT32), None)
    dy = random(rng, (50, 8), FLOAT32)
    expected = backward(dy, cache, version=2)
    room = np.empty(dy.size + 1, FLOAT32)
    misaligned = room[1:].reshape(dy.shape)
    misaligned[...] = dy
    with pytest.raises(ValueError, match="version 3 of the kernel does not fit; these do: 1, 2"):
        backward(misaligned, cache, version=3)
    for same in (misaligned, np.repeat(dy, 2, axis=1)[:, ::2], np.asfortranarray(dy)):
        np.testing.assert_array_equal(backward(same, cache, version=2), expected)


def test_bad_input():
    backward = cuda.functions(HostExecutor())["embedding_backward"]
    weight, dy = np.zeros((3, 8), FLOAT32), np.zeros((2, 8), FLOAT32)
    cache = embedding.EmbeddingCache(np.zeros(2, int), weight, None)
    with pytest.raises(ValueError, match=r"dy has shape \(1, 8\); expected \(2, 8\)"):
        backward(dy[:1], cache)
    with pytest.raises(ValueError, match="dy has dtype float64; weight has float32"):
        backward(dy.astype(float), cache)
    with pytest.raises(TypeError, match="weight has dtype int64; the kernels take float16"):
        backward(dy, cache._replace(weight=weight.astype(int)))
    with pytest.raises(ValueError, match=r"slot for dweight has shape \(2, 8\); expected \(3, 8\)"):
        backward(dy, cache, into=(weight[:2],))
    with pytest.raises(ValueError, match="slot for dweight is not C-contiguous"):
        backward(dy, cache, into=(np.asfortranarray(weight),))
    with pytest.raises(ValueError, match="version 4 of the kernel does not fit"):
        backward(dy, cache, version=4)
