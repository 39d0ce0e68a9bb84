"""Layer norm in CUDA, alone and fused, on the CPU, against the reference in float64."""

from functools import partial

import numpy as np
import pytest
from cuda_support import (
    BFLOAT16,
    DTYPES,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NEEDS_COMPILER,
    check_layer_norm,
    check_layer_norm_alone,
    random,
    sample,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from albert_np.functions.dropout import Dropout, keep_mask
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(("dropout", "packed"), [(False, False), (True, False), (True, True)])
def test_fused(dtype, version, dropout, packed):
    """Blocks of four rows and more; each version, in fixed and in random order of the warps."""
    for seed in sample((0, 1), (1,)):
        executor = HostExecutor(seed)
        check_layer_norm(executor, dtype, (4, 21, 72), version, dropout, packed, seed)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT32]), ids=str)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_alone(dtype, version):
    check_layer_norm_alone(HostExecutor(), dtype, (3, 11, 136), version)


@pytest.mark.parametrize("dtype", sample(DTYPES, [BFLOAT16, FLOAT32]), ids=str)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_mean_far_from_0(dtype, version):
    """The variance is that of the centred row: the mean's square would hide it."""
    mean = {FLOAT16: 1024, BFLOAT16: 64, FLOAT32: 2.0**15, FLOAT64: 2.0**40}[dtype]
    check_layer_norm_alone(HostExecutor(), dtype, (1, 9, 136), version, mean)


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    rows=st.integers(1, 9),
    columns=st.one_of(st.integers(1, 300), st.integers(1, 8192)),
    mean=st.sampled_from([0.0, -3.0, 64.0]),
)
@settings(max_examples=sample(50, 10))
def test_any_width(seed, dtype, rows, columns, mean):
    check_layer_norm_alone(HostExecutor(seed), dtype, (rows, columns), 1, mean, seed)
    check_layer_norm(HostExecutor(seed), dtype, (1, rows, columns), 1, seed=seed)


class Counting(HostExecutor):
    """Remembers how many numbers the arrays that it makes have."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def empty(self, shape, dtype):
        array = super().empty(shape, dtype)
        self.sizes.append(array.size)
        return array


@pytest.mark.parametrize("dtype", sample(DTYPES, [BFLOAT16]), ids=str)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dropout", [None, Dropout(0.25, 5, 6)])
def test_nothing_is_kept_where_no_backward_pass_will_follow(dtype, version, dropout):
    """The same bits, one array fewer; alone there is none to be kept."""
    rng = np.random.default_rng(0)
    x, residual = (random(rng, (2, 5, 72), dtype) for _ in range(2))
    bias, weight, shift = (random(rng, 72, dtype) for _ in range(3))
    executor = Counting()
    functions = cuda.functions(executor)
    fused = partial(
        functions["bias_dropout_residual_layer_norm_forward"],
        *(x, bias, residual, weight, shift, 1e-5, dropout),
        version=version,
    )
    alone = partial(functions["layer_norm_forward"], x, weight, shift, 1e-5, version=version)
    outputs, large = [], []
    for forward in (partial(fused, keep=True), partial(fused, keep=False), alone):
        executor.sizes.clear()
        outputs.append(forward())
        large.append(executor.sizes.count(x.size))
    assert large == [2, 1, 1]
    (y, _), (same, nothing), _ = outputs
    assert nothing is None
    np.testing.assert_array_equal(same, y)


# One warp a row and many; one pack a thread and several; a last warp that has nothing to do.
WIDTHS = [
    *((FLOAT16, 1024), (BFLOAT16, 8192), (FLOAT32, 4096), (FLOAT32, 8200), (FLOAT64, 1040)),
    *((FLOAT64, 4096), (FLOAT16, 16384)),
]
MORE = [(d, n) for d in DTYPES for n in (768, 1032, 2048, 4096, 8192, 8200, 16384)]


@pytest.mark.parametrize(("dtype", "columns"), sample(MORE, WIDTHS), ids=str)
def test_widths(dtype, columns):
    check_layer_norm(HostExecutor(1), dtype, (1, 9, columns))


@pytest.mark.parametrize("dtype", sample(DTYPES, [BFLOAT16, FLOAT64]), ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 7), (1, 5, 33)])
def test_sizes_that_are_no_whole_packs(dtype, shape):
    check_layer_norm(HostExecutor(), dtype, shape)


def test_many_parts():
    """More than a block has warps that finish their sums."""
    executor = HostExecutor()
    executor.multiprocessors = 20
    for version in (1, 2, 3):
        check_layer_norm(executor, FLOAT32, (4, 21, 300), version)


def test_no_tokens():
    check_layer_norm(HostExecutor(), FLOAT32, (2, 0, 16), dropout=False)


def test_no_columns():
    functions = cuda.functions(HostExecutor())
    x, none = np.zeros((2, 3, 0), np.float32), np.zeros(0, np.float32)
    y, cache = functions["layer_norm_forward"](x, none, none, 1e-5)
    for array in (y, functions["layer_norm_backward"](y, cache)[0]):
        assert array.shape == x.shape
    y, cache = functions["bias_dropout_residual_layer_norm_forward"](x, none, x, none, none, 1e-5)
    for array in (y, functions["bias_dropout_residual_layer_norm_backward"](y, cache)[0]):
        assert array.shape == x.shape


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.999, 1.0])
def test_dropout_draws_the_masks_of_the_reference(probability):
    """Bit for bit: with x = 1 and a residual of 0, the sum is what dropout multiplies by."""
    functions = cuda.functions(HostExecutor())
    shape = (3, 5, 37)
    dropout = Dropout(probability, 2**63 + 9, 7)
    zeros, ones = np.zeros(37), np.ones(37)
    _, cache = functions["bias_dropout_residual_layer_norm_forward"](
        np.ones(shape), zeros, np.zeros(shape), ones, zeros, 1.0, dropout
    )
    scale = 0 if probability == 1 else 1 / (1 - probability)
    np.testing.assert_array_equal(cache.layer_norm.x, keep_mask(shape, dropout) * scale)


def test_same_input_same_bits():
    """Sums have one order, whatever the order of the warps."""
    rng = np.random.default_rng(0)
    x, weight = random(rng, (50, 256), np.float32), random(rng, 256, np.float32)
    results = []
    for seed in range(4):
        functions = cuda.functions(HostExecutor(seed))
        y, cache = functions["layer_norm_forward"](x, weight, weight, 1e-5)
        results.append((y, *functions["layer_norm_backward"](x, cache)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_arrays_that_do_not_begin_at_16_bytes():
    """They take the plain versions; and gaps are closed."""
    rng = np.random.default_rng(0)
    functions = cuda.functions(HostExecutor())
    forward, backward = functions["layer_norm_forward"], functions["layer_norm_backward"]
    x, h = random(rng, (6, 16), FLOAT32), random(rng, 16, FLOAT32)
    y, cache = forward(x, h, h, 1e-5, version=1)
    expected = y, *backward(x, cache, version=1)
    room = np.empty(x.size + 1, FLOAT32)
    misaligned = room[1:].reshape(x.shape)
    misaligned[...] = x
    with pytest.raises(ValueError, match="version 2 of the kernel does not fit; these do: 1$"):
        forward(misaligned, h, h, 1e-5, version=2)
    with pytest.raises(ValueError, match="version 3 of the kernel does not fit; these do: 1$"):
        backward(misaligned, cache, version=3)
    for same in (misaligned, np.repeat(x, 2, axis=1)[:, ::2], np.asfortranarray(x)):
        version = None if same is misaligned else 1
        y, cache = forward(same, h, h, 1e-5, version=version)
        actual = y, *backward(same, cache, version=version)
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_bad_input():
    functions = cuda.functions(HostExecutor())
    x, h = np.zeros((2, 3, 8), np.float32), np.zeros(8, np.float32)
    with pytest.raises(TypeError, match="x has dtype int64; the kernels take float16, bfloat16"):
        functions["layer_norm_forward"](x.astype(int), h, h, 1e-5)
    forward = functions["bias_dropout_residual_layer_norm_forward"]
    with pytest.raises(ValueError, match=r"residual has shape \(3, 8\); expected \(2, 3, 8\)"):
        forward(x, h, x[0], h, h, 1e-5)
    with pytest.raises(ValueError, match="shift has dtype float16; x has float32"):
        forward(x, h, x, h, h.astype(np.float16), 1e-5)
    with pytest.raises(ValueError, match="version 2 of the kernel does not fit; these do: 1"):
        forward(x[..., :7], h[:7], x[..., :7], h[:7], h[:7], 1e-5, version=2)
    drop = Dropout(0.5, 1, 2, packed_batch(np.ones((1, 2), bool)))
    with pytest.raises(ValueError, match=r"packed.sequences has shape \(2,\) .*; expected \(3,\)"):
        forward(x[0], h, x[0], h, h, 1e-5, drop)


def test_bad_slots():
    functions = cuda.functions(HostExecutor())
    x, h = np.zeros((2, 8), np.float32), np.zeros(8, np.float32)
    _, alone = functions["layer_norm_forward"](x, h, h, 1e-5)
    _, fused = functions["bias_dropout_residual_layer_norm_forward"](x, h, x, h, h, 1e-5)
    backward = functions["layer_norm_backward"]
    fused_backward = functions["bias_dropout_residual_layer_norm_backward"]
    with pytest.raises(ValueError, match="into has 1 slots; expected 2: dweight, dbias"):
        backward(x, alone, into=(h,))
    with pytest.raises(ValueError, match="into has 2 slots; expected 3: dbias, dweight, dshift"):
        fused_backward(x, fused, into=(h, h))
    with pytest.raises(ValueError, match=r"slot for dbias has shape \(4,\); expected \(8,\)"):
        fused_backward(x, fused, into=(h[:4], h, h))
    with pytest.raises(ValueError, match="slot for dbias has dtype float64; expected float32"):
        backward(x, alone, into=(h, h.astype(float)))
    with pytest.raises(ValueError, match="slot for dweight is not C-contiguous"):
        backward(x, alone, into=(np.zeros(16, np.float32)[::2], h))
    with pytest.raises(TypeError, match="slot for dweight is a list; expected a numpy.ndarray"):
        backward(x, alone, into=([0.0] * 8, h))
