"""The decoder's loss in CUDA, on the CPU, against the reference in float64."""

import re

import numpy as np
import pytest
from cuda_support import (
    DTYPES,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NEEDS_COMPILER,
    check_cross_entropy,
    random,
    sample,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from albert_np.kernels import cuda
from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER

VERSIONS = [1, 2]


class Recording(HostExecutor):
    """Runs launches, and writes down the kernels' names."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.kernels = []

    def launch(self, launch):
        self.kernels.append(launch.kernel)
        super().launch(launch)


def pair(executor=None):
    functions = cuda.functions(executor or HostExecutor())
    return [functions[f"linear_cross_entropy_{way}"] for way in ("forward", "backward")]


def arguments(rows, vocabulary, dtype=FLOAT32, size=4):
    rng = np.random.default_rng(0)
    x, weight = random(rng, (rows, size), dtype), random(rng, (vocabulary, size), dtype)
    return x, weight, random(rng, vocabulary, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("block", [64, 1 << 24])
def test_blocks_of_the_vocabulary(monkeypatch, dtype, version, block):
    """Four blocks, the last of them cut short; and all in one."""
    monkeypatch.setattr(launcher, "LOGITS_A_BLOCK", block)
    for seed in (0, 1):
        check_cross_entropy(HostExecutor(seed), dtype, 37, 200, version=version, seed=seed)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT32]), ids=str)
@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (300, 65)])
def test_sizes(dtype, shape):
    check_cross_entropy(HostExecutor(), dtype, *shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("passes", sample([1, 2, 3], [2]))
def test_packs_of_a_row(dtype, passes):
    """So many passes of forward's 256 threads over a row, and a pack less, none or one more."""
    pack = 16 // dtype.itemsize
    for packs in (256 * passes - 1, 256 * passes, 256 * passes + 1):
        check_cross_entropy(HostExecutor(1), dtype, 2, packs * pack, version=2)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT64]), ids=str)
@pytest.mark.parametrize("rows", sample([63, 64, 65, 128, 129, 200], [129]))
def test_rows_of_a_part(monkeypatch, dtype, rows):
    """Backward brings 64 of a part's rows at a time; a block of it has 32 packs of columns."""
    monkeypatch.setattr(HostExecutor, "multiprocessors", 1)
    monkeypatch.setattr(launcher, "PARTS_A_MULTIPROCESSOR", 1)
    pack = 16 // dtype.itemsize
    for packs in (31, 32, 33):
        check_cross_entropy(HostExecutor(1), dtype, rows, packs * pack, version=2)


@settings(max_examples=sample(100, 10), deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(2, 70),  # the first has no label
    packs=st.integers(1, 40),
    block=st.sampled_from([64, 1 << 24]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_whole_packs(dtype, rows, packs, block, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "LOGITS_A_BLOCK", block)
        vocabulary = packs * (16 // dtype.itemsize)
        check_cross_entropy(HostExecutor(seed), dtype, rows, vocabulary, version=2, seed=seed)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_bits_whatever_the_order(version):
    results = []
    for seed in (0, 1, 2):
        forward, backward = pair(HostExecutor(seed))
        x, weight, bias = arguments(70, 300)
        loss, cache = forward(x, weight, bias, np.arange(70) * 4, version=version)
        results.append((loss, *backward(loss, cache, version=version)))
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_labels(version):
    """The mean of nothing is not a number; its gradient is 0."""
    forward, backward = pair()
    x, weight, bias = np.ones((3, 4)), np.ones((6, 4)), np.ones(6)
    loss, cache = forward(x, weight, bias, np.full(3, -100), version=version)
    assert loss.shape == () and np.isnan(loss)
    for gradient in backward(np.array(1.0), cache, version=version):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("outside", [72, 73, -1, -99, -101, 2**40, -(2**40)])
def test_labels_out_of_range(monkeypatch, version, outside):
    """No column is such a label's: the loss is not a number, and no gradient has its 1."""
    monkeypatch.setattr(launcher, "LOGITS_A_BLOCK", 64)
    forward, backward = pair()
    x, weight, bias = arguments(4, 72, FLOAT64)
    labels = np.array([0, outside, -100, 71])
    loss, cache = forward(x, weight, bias, labels, version=version)
    assert np.isnan(loss)
    dx, dweight, dbias = backward(np.array(1.0), cache, version=version)
    dz = softmax(x @ weight.T + bias, axis=1)
    dz[0, 0] -= 1
    dz[3, 71] -= 1
    dz[2] = 0
    dz /= 3
    # To a few roundings of each term, of sums of 72 at most.
    bound = {"rtol": 0, "atol": 100 * np.finfo(float).eps}
    scale = np.abs(weight).max(), np.abs(x).max(), 1
    wanted = dz @ weight, dz.T @ x, dz.sum(axis=0)
    for actual, expected, unit in zip((dx, dweight, dbias), wanted, scale, strict=True):
        np.testing.assert_allclose(actual / unit, expected / unit, **bound)


@pytest.mark.parametrize("version", VERSIONS)
def test_large_logits(version):
    forward, _ = pair()
    x, weight = np.array([[1.0]], np.float32), np.float32([[1e4], [-1e4], [9990], [-1e4]])
    bias = np.zeros(4, np.float32)
    loss, _ = forward(x, weight, bias, np.array([2]), version=version)
    np.testing.assert_allclose(loss, 10 + np.log1p(np.exp(-10)), rtol=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("order", [1, -1])
def test_logits_that_rise_or_fall(version, order):
    """Each pack of a thread brings a larger number than all before it, or none does."""
    forward, _ = pair()
    logits = np.arange(6 * 512)[::order] / 7  # 6 packs a thread
    x, weight, bias = np.ones((1, 1)), logits[:, None].copy(), np.zeros(len(logits))
    loss, _ = forward(x, weight, bias, np.array([5]), version=version)
    np.testing.assert_allclose(loss, logsumexp(logits) - logits[5], rtol=1e-14)


def test_which_version_runs(monkeypatch):
    """The second, in blocks that are whole packs at addresses that are multiples of 16 bytes."""
    monkeypatch.setattr(launcher, "LOGITS_A_BLOCK", 64)

    def versions(x, weight, bias):
        executor = Recording()
        forward, backward = pair(executor)
        loss, cache = forward(x, weight, bias, np.zeros(len(x), int))
        backward(loss, cache)
        passes = re.compile("cross_entropy_(?:forward|backward)_(.)")
        return [int(found[1]) for name in executor.kernels if (found := passes.match(name))]

    x, weight, bias = arguments(3, 96)
    assert versions(x, weight, bias) == [2, 2, 2, 2]
    assert versions(x, weight[:95], bias[:95]) == [2, 1, 2, 1]
    misaligned = np.empty(97, np.float32)[1:]
    misaligned[...] = bias
    assert versions(x, weight, misaligned) == [1, 1, 1, 1]


def test_bad_input():
    forward, _ = pair()
    x, weight, bias = np.ones((3, 4)), np.ones((5, 4)), np.ones(5)
    labels = np.zeros(3, int)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 4\); expected \(T, E\)"):
        forward(x[None], weight, bias, labels)
    with pytest.raises(ValueError, match=r"weight has shape \(4, 4\); expected \(5, 4\)"):
        forward(x, weight[:4], bias, labels)
    with pytest.raises(ValueError, match=r"bias has shape \(0,\); expected a vocabulary of one wo"):
        forward(x, weight[:0], bias[:0], labels)
    with pytest.raises(TypeError, match="labels has dtype float64; expected integers"):
        forward(x, weight, bias, labels.astype(float))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\); expected \(3,\)"):
        forward(x, weight, bias, labels[:2])
    with pytest.raises(ValueError, match="version 2 of the kernel does not fit; these do: 1"):
        forward(x, weight, bias, labels, version=2)
    loss, _ = forward(x, weight, bias, np.array([0, 5, 0]))  # seen where it costs no wait
    assert np.isnan(loss)


def test_bad_slots():
    forward, backward = pair()
    x, weight, bias = np.ones((3, 4)), np.ones((5, 4)), np.ones(5)
    loss, cache = forward(x, weight, bias, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"slot for dweight has shape \(4, 5\); expected \(5, 4\)"):
        backward(loss, cache, into=(weight.T.copy(), bias))


def test_a_version_that_does_not_fit_touches_no_slot(monkeypatch):
    """The last block is no whole packs; it is known before the first is run."""
    monkeypatch.setattr(launcher, "LOGITS_A_BLOCK", 64)
    forward, backward = pair()
    x, weight, bias = arguments(3, 67)
    loss, cache = forward(x, weight, bias, np.zeros(3, int))
    slots = np.zeros_like(weight), np.zeros_like(bias)
    with pytest.raises(ValueError, match="version 2 of the kernel does not fit; these do: 1"):
        backward(loss, cache, into=slots, version=2)
    assert not slots[0].any() and not slots[1].any()
