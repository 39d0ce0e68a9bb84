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
    TF32_ROUNDOFF,
    check_attention,
    check_copies_of_boxes,
    check_wrong_offsets,
    random,
    sample,
)

from albert_np.functions.dropout import Dropout
from albert_np.functions.packing import packed_batch
from albert_np.kernels import cuda
from albert_np.kernels.cuda.arrays import rounded_to_tf32
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


def check_tf32(batch, heads, head_size, seed=0, **kind):
    """Version 3 in float32, unasked, where tf32 is allowed."""
    executor = HostExecutor(seed, allow_tf32=True)
    check_attention(
        executor,
        FLOAT32,
        batch,
        heads,
        head_size,
        **kind,
        operand_roundoff=TF32_ROUNDOFF,
        seed=seed,
    )


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tf32(kind):
    for seed in sample((0, 1), (1,)):
        check_tf32((2, 150), 1, 16, seed, **kind)


@pytest.mark.parametrize("head_size", sample([4, 64, 68, 128], [68]))
def test_head_sizes_of_tf32(head_size):
    """Wide heads come in smaller tiles: three forward, five backward."""
    check_tf32((1, 70), 2, head_size)


def test_one_token_shows_what_is_multiplied():
    """Its probability is 1: the context is its value as it was multiplied, dvalue is dcontext."""
    rng = np.random.default_rng(0)
    x, dcontext = random(rng, (1, 1, 48), FLOAT32), random(rng, (1, 1, 16), FLOAT32)
    for allowed, multiplied in ((False, np.copy), (True, rounded_to_tf32)):
        functions = cuda.functions(HostExecutor(allow_tf32=allowed))
        context, cache = functions["attention_forward"](x, 1)
        gradient = functions["attention_backward"](dcontext, cache)
        np.testing.assert_array_equal(context, multiplied(x[..., 32:]))
        np.testing.assert_array_equal(gradient[..., 32:], multiplied(dcontext))


def kernels_of(executor, dtype, head_size=16, version=None):
    """The kernels that attention launches, and what it gives: context and gradient."""
    kernels, launch = [], executor.launch

    def recorded(one):
        kernels.append(one.kernel)
        launch(one)

    executor.launch = recorded
    functions = cuda.functions(executor)
    rng = np.random.default_rng(0)
    x, dy = (random(rng, (2, 40, n * head_size), dtype) for n in (3, 1))
    context, cache = functions["attention_forward"](x, 1, version=version)
    return kernels, context, functions["attention_backward"](dy, cache, version=version)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_tf32_is_taken_where_it_is_allowed_only(dtype):
    """By default float32 has the kernels and the bits of version 2; float64 has them always."""
    names, *expected = kernels_of(HostExecutor(), dtype, version=2)
    for allowed in (False, True):
        if allowed and dtype == FLOAT32:
            continue
        kernels, *results = kernels_of(HostExecutor(allow_tf32=allowed), dtype)
        assert kernels == names and all("3<" not in kernel for kernel in kernels)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)
    with pytest.raises(ValueError, match="version 3 of the kernel does not fit; these do: 1, 2"):
        kernels_of(HostExecutor(), dtype, version=3)


def test_what_tf32_takes():
    """Rows of whole packs, GPUs with tensor cores and room; all else is as without it."""

    class Old(HostExecutor):
        capability = (7, 5)

    class Small(HostExecutor):
        capability = (8, 6)
        shared_limit = 99 * 1024

    class Larger(HostExecutor):
        capability = (8, 0)
        shared_limit = 163 * 1024

    def forward_of(executor, head_size=16):
        return kernels_of(executor(allow_tf32=True), FLOAT32, head_size)[0][0]

    assert forward_of(HostExecutor) == "attention_forward_3<float, 64>"
    assert forward_of(HostExecutor, 6) == "attention_forward_2<float, 64>"
    assert forward_of(Old) == "attention_forward_2<float, 64>"
    assert forward_of(Small) == "attention_forward_3<float, 64>"
    assert forward_of(Small, 68) == "attention_forward_2<float, 128>"
    assert forward_of(Larger, 68) == "attention_forward_3<float, 128>"
    with pytest.raises(ValueError, match="version 4 of the kernel does not fit; these do: 1, 2, 3"):
        kernels_of(HostExecutor(allow_tf32=True), FLOAT32, version=4)


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
        tf32 = cuda.functions(HostExecutor(allow_tf32=True))["attention_forward"]
        context, _ = tf32(x.astype(np.float32).reshape(1, 70, 24), 1, version=3)
        np.testing.assert_allclose(context[0, :, 0], 69)


@pytest.mark.parametrize("version", [3, 4])
def test_what_is_masked_may_have_any_score(version):
    """Far larger ones than those that count: its gradient is zero, and where all are masked, all
    are alike.
    """
    functions = cuda.functions(HostExecutor())
    rng = np.random.default_rng(0)
    x = random(rng, (3, 100, 3, 16), FLOAT16).copy()
    mask = np.ones((3, 100), bool)
    mask[0, :70:3] = mask[1] = mask[2, 1::4] = False
    x[:, :, 0, 0] = 100
    x[:, :, 1, 0] = np.where(mask, 0, 1000)
    arrays = x.reshape(3, 100, 48), random(rng, (3, 100, 16), FLOAT16)
    context, cache = functions["attention_forward"](arrays[0], 1, mask, version=version)
    gradient = functions["attention_backward"](arrays[1], cache, version=version)
    assert np.isfinite(context).all() and np.isfinite(gradient).all()
    of_keys = gradient.reshape(3, 100, 3, 16)[:, :, 1:]
    np.testing.assert_array_equal(of_keys[::2].any(axis=(2, 3)), mask[::2])
    mean = x[1, :, 2].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(context[1], np.tile(mean, (100, 1)), atol=1e-3)


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_same_input_same_bits(allow_tf32):
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
    for heads, given in ((5, x), (1, x[..., :0])):
        message = (
            f"has {given.shape[-1]} columns; expected a positive multiple of 3 · {heads} heads"
        )
        with pytest.raises(ValueError, match=message):
            forward(given, heads)
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
    drop = Dropout(0.5, 1, 2)
    for name, place in (
        ("sequences", packed.sequences[:5]),
        ("columns", packed.columns.astype(np.int32)),
    ):
        message = rf"packed.{name} has .*; expected \(6,\) and int64"
        with pytest.raises(ValueError, match=message):
            forward(tokens, 2, None, drop, packed._replace(**{name: place}))
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


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_offsets_that_are_wrong_on_the_device(version):
    check_wrong_offsets(HostExecutor(1), version)


def test_more_tokens_than_a_packed_batch_has_room_for():
    """Known from the shapes, wherever the offsets are; the kernels might have no block to look."""
    forward = cuda.functions(HostExecutor())["attention_forward"]
    packed = packed_batch(np.ones((2, 4), bool))._replace(shape=(2, 0))
    with pytest.raises(ValueError, match=r"has 8 tokens; packed.shape, \(2, 0\), has fewer"):
        forward(np.zeros((8, 24), np.float32), 2, packed=packed)
