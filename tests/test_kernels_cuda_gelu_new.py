"""Bias and gelu_new in CUDA, on the CPU, against the reference in float64."""

import numpy as np
import pytest
from cuda_support import DTYPES, FLOAT16, FLOAT32, NEEDS_COMPILER, check_gelu_new, random, sample

from albert_np.kernels import cuda
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shape", sample([(70, 264), (1, 3072), (129, 8)], [(70, 264)]))
def test_versions(dtype, version, shape):
    """Each version, in fixed order and with the warps in random order."""
    for seed in (0, 1):
        check_gelu_new(HostExecutor(seed), dtype, *shape, version=version, seed=seed)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT32]), ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 12), (0, 8)])
def test_sizes_that_are_no_whole_packs(dtype, shape):
    check_gelu_new(HostExecutor(), dtype, *shape)


def test_far_out():
    """Where x² overflows or σ underflows, y is x or 0 and the slope 1 or 0."""
    functions = cuda.functions(HostExecutor())
    x = np.array([[-1e30, -50, -14, 14, 50, 1e30, np.inf, 0]], np.float32)
    y, cache = functions["bias_gelu_new_forward"](x, np.zeros(8, np.float32))
    dx, _ = functions["bias_gelu_new_backward"](np.ones_like(x), cache)
    np.testing.assert_allclose(y[0, 3:], x[0, 3:])
    np.testing.assert_allclose(y[0, :3], 0, atol=1e-30)
    np.testing.assert_allclose(dx[0], [0, 0, 0, 1, 1, 1, 1, 0.5], atol=1e-30)


def test_misaligned_arrays_and_arrays_with_gaps():
    """An address that is no multiple of 16 bytes takes the plain version; gaps are closed."""
    rng = np.random.default_rng(0)
    functions = cuda.functions(HostExecutor())
    x, bias = random(rng, (6, 16), np.float32), random(rng, 16, np.float32)
    expected, _ = functions["bias_gelu_new_forward"](x, bias)
    room = np.empty(x.size + 1, np.float32)
    misaligned = room[1:].reshape(x.shape)
    misaligned[...] = x
    with_gaps = np.repeat(x, 2, axis=1)[:, ::2]
    for same in (misaligned, with_gaps, np.asfortranarray(x)):
        np.testing.assert_array_equal(functions["bias_gelu_new_forward"](same, bias)[0], expected)


def test_bad_input():
    functions = cuda.functions(HostExecutor())
    x, bias = np.zeros((2, 8), np.float32), np.zeros(8, np.float32)
    forward = functions["bias_gelu_new_forward"]
    with pytest.raises(TypeError, match="x is a list; expected a numpy.ndarray"):
        forward([[1.0]], bias)
    with pytest.raises(ValueError, match="x has no axes; expected one or more"):
        forward(x[0, 0, ...], bias)
    with pytest.raises(TypeError, match="x has dtype int64; the kernels take float16, bfloat16"):
        forward(x.astype(int), bias)
    with pytest.raises(ValueError, match=r"bias has shape \(4,\); expected \(8,\)"):
        forward(x, bias[:4])
    with pytest.raises(ValueError, match="bias has dtype float64; x has float32"):
        forward(x, bias.astype(float))
    with pytest.raises(ValueError, match="version 3 of the kernel does not fit; these do: 1, 2"):
        forward(x, bias, version=3)
    with pytest.raises(ValueError, match="version 2 of the kernel does not fit; these do: 1"):
        forward(x[:, :7], bias[:7], version=2)
    _, cache = forward(x, bias)
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4\); expected \(2, 8\)"):
        functions["bias_gelu_new_backward"](x[:, :4], cache)


def test_bad_slots():
    functions = cuda.functions(HostExecutor())
    x, bias = np.zeros((2, 8), np.float32), np.zeros(8, np.float32)
    _, cache = functions["bias_gelu_new_forward"](x, bias)
    with pytest.raises(ValueError, match=r"slot for dbias has shape \(9,\); expected \(8,\)"):
        functions["bias_gelu_new_backward"](x, cache, into=(np.zeros(9, np.float32),))
