"""The decoder's loss in CUDA, on the CPU, against the reference in float64."""

import numpy as np
import pytest
from cuda_support import DTYPES, FLOAT16, FLOAT32, NEEDS_COMPILER, check_cross_entropy, sample

from albert_np.kernels import cuda
from albert_np.kernels.cuda import launcher
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [64, 1 << 24])
def test_blocks_of_the_vocabulary(monkeypatch, dtype, block):
    """Four blocks, the last of them cut short; and all in one."""
    monkeypatch.setattr(launcher, "LOGITS_A_BLOCK", block)
    for seed in (0, 1):
        check_cross_entropy(HostExecutor(seed), dtype, 37, 200, seed=seed)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT32]), ids=str)
@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (300, 65)])
def test_sizes(dtype, shape):
    check_cross_entropy(HostExecutor(), dtype, *shape)


def test_no_labels():
    """The mean of nothing is not a number; its gradient is 0."""
    functions = cuda.functions(HostExecutor())
    x, weight, bias = np.ones((3, 4)), np.ones((5, 4)), np.ones(5)
    loss, cache = functions["linear_cross_entropy_forward"](x, weight, bias, np.full(3, -100))
    assert loss.shape == () and np.isnan(loss)
    for gradient in functions["linear_cross_entropy_backward"](np.array(1.0), cache):
        np.testing.assert_array_equal(gradient, 0)


def test_large_logits():
    functions = cuda.functions(HostExecutor())
    x, weight = np.array([[1.0]], np.float32), np.float32([[1e4], [-1e4], [9990]])
    loss, _ = functions["linear_cross_entropy_forward"](
        x, weight, np.zeros(3, np.float32), np.array([2])
    )
    np.testing.assert_allclose(loss, 10 + np.log1p(np.exp(-10)), rtol=1e-6)


def test_bad_input():
    forward = cuda.functions(HostExecutor())["linear_cross_entropy_forward"]
    x, weight, bias = np.ones((3, 4)), np.ones((5, 4)), np.ones(5)
    labels = np.zeros(3, int)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 4\); expected \(T, E\)"):
        forward(x[None], weight, bias, labels)
    with pytest.raises(ValueError, match=r"weight has shape \(4, 4\); expected \(5, 4\)"):
        forward(x, weight[:4], bias, labels)
    with pytest.raises(TypeError, match="labels has dtype float64; expected integers"):
        forward(x, weight, bias, labels.astype(float))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\); expected \(3,\)"):
        forward(x, weight, bias, labels[:2])
    loss, _ = forward(x, weight, bias, np.array([0, 5, 0]))  # seen where it costs no wait
    assert np.isnan(loss)


def test_bad_slots():
    functions = cuda.functions(HostExecutor())
    x, weight, bias = np.ones((3, 4)), np.ones((5, 4)), np.ones(5)
    loss, cache = functions["linear_cross_entropy_forward"](x, weight, bias, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"slot for dweight has shape \(4, 5\); expected \(5, 4\)"):
        functions["linear_cross_entropy_backward"](loss, cache, into=(weight.T.copy(), bias))
