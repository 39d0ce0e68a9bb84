"""Attention in CUDA, on the CPU, against the reference in float64."""

import numpy as np
import pytest
from cuda_support import (
    BFLOAT16,
    DTYPES,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    NEEDS_COMPILER,
    check_attention,
    check_copies_of_boxes,
    random,
    sample,
)

from albert_np.functions.dropout import Dropout
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.host import HostExecutor

pytestmark = NEEDS_COMPILER

KINDS = [
    {"masked": False, "dropout": False},
    {"masked": True, "dropout": True},
    {"packed": True, "dropout": True},
]


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT32, BFLOAT16]), ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_plain(dtype, kind):
    for seed in sample((0, 1), (1,)):
        check_attention(HostExecutor(seed), dtype, (2, 37), 2, 12, 1, **kind, seed=seed)


@pytest.mark.parametrize("dtype", sample(DTYPES, [FLOAT16, FLOAT64]), ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tiles(dtype, kind):
    """Four tiles, the last of them cut short."""
    for seed in sample((0, 1), (1,)):
        check_attention(HostExecutor(seed), dtype, (2, 101), 1, 16, 2, **kind, seed=seed)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tensor_cores(dtype, kind):
    """Three tiles forward and five backward, the last of them cut short."""
    for seed in sample((0, 1), (1,)):
        executor = HostExecutor(seed)
        check_attention(
            executor, dtype, (2, 150), 1, 16, 3, **kind, rounded_weights=True, seed=seed
        )


def test_tensor_cores_where_scores_of_a_packed_batch_share_draws():
    """Tokens stand as in the padded batch, from its first column on."""
    arguments = {"packed": True, "gaps": False, "rounded_weights": True}
    check_attention(HostExecutor(1), FLOAT16, (2, 90), 2, 16, 3, **arguments)


@pytest.mark.parametrize("head_size", sample([8, 64, 72, 128], [72]))
def test_head_sizes_of_tensor_cores(head_size):
    check_attention(HostExecutor(), FLOAT16, (1, 33), 2, head_size, 3, rounded_weights=True)


@pytest.mark.parametrize("dtype", sample([FLOAT16, BFLOAT16], [BFLOAT16]), ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_copies_of_boxes(dtype, kind):
    """Four tiles, the last of them cut short; a block of three warpgroups and one of one."""
    for seed in sample((0, 1, 2), (1,)):
        check_copies_of_boxes(HostExecutor(seed), dtype, seed=seed, **kind)


@pytest.mark.parametrize("head_size", sample([8, 64, 72, 128], [128]))
def test_head_sizes_of_copies_of_boxes(head_size):
    """Two panels, which two warpgroups share."""
    arguments = {"heads": 2, "head_size": head_size, "version": 4, "packed": True}
    check_attention(HostExecutor(1), FLOAT16, (2, 70), **arguments, rounded_weights=True)


def test_hopper_s_version_is_chosen_by_its_number_only():
    """And on that GPU alone: no other has its instructions."""

    class Newer(HostExecutor):
        capability = (10, 0)

    forward = cuda.functions(HostExecutor())["attention_forward"]
    x = random(np.random.default_rng(0), (1, 20, 48), FLOAT16)
    np.testing.assert_array_equal(forward(x, 2)[0], forward(x, 2, version=3)[0])
    with pytest.raises(ValueError, match="version 4 of the kernel does not fit; these do: 1, 2, 3"):
        cuda.functions(Newer())["attention_forward"](x, 2, version=4)
    with pytest.raises(ValueError, match="version 4 of the kernel does not fit"):
        forward(x.astype(np.float32), 2, version=4)


def test_misaligned_arrays_take_another_version():
    rng = np.random.default_rng(0)
    forward = cuda.functions(HostExecutor())["attention_forward"]
    x = random(rng, (1, 20, 48), FLOAT16)
    room = np.empty(x.size + 1, np.float16)
    misaligned = room[1:].reshape(x.shape)
    misaligned[...] = x
    context, _ = forward(misaligned, 2)
    np.testing.assert_array_equal(context, forward(x, 2, version=2)[0])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("head_size", sample([1, 7, 64, 72, 128], [1, 72]))
def test_head_sizes(version, head_size):
    check_attention(HostExecutor(), FLOAT32, (1, 33), 1, head_size, version)


def test_wider_heads_take_the_plain_version():
    check_attention(HostExecutor(), FLOAT32, (1, 5), 1, 130)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2)])
def test_short_sequences(shape):
    check_attention(HostExecutor(), FLOAT32, shape, 2, 4)
    check_attention(HostExecutor(), FLOAT32, shape, 2, 4, packed=True)


def test_no_tokens():
    functions = cuda.functions(HostExecutor())
    context, cache = functions["attention_forward"](np.zeros((0, 4, 24), np.float32), 2)
    assert context.shape == (0, 4, 8)
    assert functions["attention_backward"](context, cache).shape == (0, 4, 24)


def test_large_scores():
    """Scores of ±10⁴ overflow no exponential, and where all are below −10³ none is lost."""
    functions = cuda.functions(HostExecutor())
    x = np.zeros((1, 70, 3, 1, 8), np.float16)
    x[0, :, 2, 0, 0] = np.arange(70)
    for query, first_key, last_key in ((200, -200, 200), (-200, 200, 20)):
        x[0, :, 0, 0, 0] = query
        x[0, :, 1, 0, 0] = np.linspace(first_key, last_key, 70)
        for version in (1, 2, 3, 4):
            context, _ = functions["attention_forward"](x.reshape(1, 70, 24), 1, version=version)
            np.testing.assert_allclose(context[0, :, 0], 69)


def test_same_input_same_bits():
    rng = np.random.default_rng(0)
    x, dcontext = random(rng, (1, 70, 48), FLOAT32), random(rng, (1, 70, 16), FLOAT32)
    results = []
    for seed in range(3):
        functions = cuda.functions(HostExecutor(seed))
        _, cache = functions["attention_forward"](x, 2)
        results.append(functions["attention_backward"](dcontext, cache))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_bad_input():
    forward = cuda.functions(HostExecutor())["attention_forward"]
    x = np.zeros((2, 4, 24), np.float32)
    packed = packed_batch(np.array([[True, True, True, True], [True, True, False, False]]))
    with pytest.raises(ValueError, match=r"has shape \(4, 24\); expected \(B, S, 3H\)"):
        forward(x[0], 2)
    with pytest.raises(ValueError, match=r"expected \(T, 3H\), as the batch is packed"):
        forward(x, 2, packed=packed)
    with pytest.raises(ValueError, match="24 columns; expected a multiple of 3 · 5 heads"):
        forward(x, 5)
    with pytest.raises(ValueError, match="has 65536 sequences; the kernels take 65535"):
        forward(np.zeros((65536, 1, 3), np.float32), 1)
    with pytest.raises(TypeError, match="dtype int64; expected bool"):
        forward(x, 2, np.ones((2, 4), int))
    with pytest.raises(ValueError, match=r"attention_mask has shape \(2, 3\); expected \(2, 4\)"):
        forward(x, 2, np.ones((2, 3), bool))
    with pytest.raises(TypeError, match="has dtype int64; the kernels take float16"):
        forward(x.astype(int), 2)
    tokens = np.zeros((6, 24), np.float32)
    for offsets, message in (
        ([0, 4, 4], "expected to rise from 0 to 6 tokens"),
        ([0, 5, 3], "expected to rise from 0 to 6 tokens"),
        ([1, 4, 6], "expected to rise from 0 to 6 tokens"),
        ([0, 5, 6], "a sequence of 5 tokens; packed.shape has 4 columns"),
    ):
        with pytest.raises(ValueError, match=message):
            forward(tokens, 2, packed=packed._replace(offsets=np.array(offsets)))
    with pytest.raises(ValueError, match=r"packed.offsets has shape \(2,\); expected \(3,\)"):
        forward(tokens, 2, packed=packed._replace(offsets=np.array([0, 6])))
    with pytest.raises(ValueError, match="60000 columns and head size 130 needs 240000 bytes"):
        forward(np.zeros((1, 60000, 390), np.float32), 1)


def test_old_gpus():
    """Before the tensor cores' instructions, and with less shared memory, the tiles are taken."""

    class Old(HostExecutor):
        capability = (7, 5)
        shared_limit = 64 * 1024

        def launch(self, launch):
            names.append(launch.kernel)
            super().launch(launch)

    names = []
    check_attention(Old(), FLOAT16, (1, 9), 1, 64)
    check_attention(Old(), FLOAT16, (1, 9), 1, 128)
    assert "attention_forward_2<Half, 64>" in names and "attention_forward_2<Half, 128>" in names
    assert "attention_backward_key_2<Half, 64>" in names
    assert "attention_backward_key_1<Half>" in names


def test_offsets_that_are_wrong_on_the_device_lead_outside_no_array():
    """Where looking at them would cost a wait, the kernel cuts them to the arrays."""

    class Unseen(HostExecutor):
        def uploaded(self, array):
            return wrong if array is packed.offsets else super().uploaded(array)

    wrong = np.array([-3, 5, 900], np.int64)
    packed = packed_batch(np.ones((2, 4), bool))
    drop = Dropout(0.5, 1, 2)
    for version in (1, 2, 3, 4):
        forward = cuda.functions(Unseen())["attention_forward"]
        x = np.zeros((8, 48), np.float32 if version < 3 else np.float16)
        forward(x, 2, None, drop, packed, version=version)
