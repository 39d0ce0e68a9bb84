"""What the launcher plans for GPUs with less shared memory, and without tensor cores."""

from itertools import product

import pytest
from cuda_support import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64

from albert_np.kernels.cuda import launcher

# By capability, the bytes of shared memory that a block may have: the programming guide's table.
GPUS = {
    (7, 5): 64 * 1024,
    (8, 0): 163 * 1024,
    (8, 6): 99 * 1024,
    (8, 9): 99 * 1024,
    (9, 0): 227 * 1024,
    (12, 0): 99 * 1024,
}
HEAD_SIZES = (16, 64, 72, 128, 136)


def attention(capability, dtype, head_size, allow_tf32=False, longest=512):
    """The plans of attention: forward, and the two of backward."""
    problem = launcher.AttentionProblem(
        sequences=2,
        longest=longest,
        tokens=2 * longest,
        heads=2,
        head_size=head_size,
        dtype=dtype,
        aligned=True,
        capability=capability,
        shared_limit=GPUS[capability],
        allow_tf32=allow_tf32,
    )
    return [launcher.attention_forward(problem), *launcher.attention_backward(problem)]


def versions(plans):
    return [int(plan.kernel.split("<")[0].rsplit("_", 1)[1]) for plan in plans]


def fits(plan, capability):
    return plan.shared_bytes + launcher.STATIC_SHARED <= GPUS[capability]


@pytest.mark.parametrize("capability", GPUS, ids=str)
def test_every_plan_fits(capability):
    """Of attention, and of what holds rows or sums of any width in shared memory."""
    for dtype, head_size, tf32 in product(DTYPES, HEAD_SIZES, (False, True)):
        for longest in (1, 512, 3000):
            for plan in attention(capability, dtype, head_size, tf32, longest):
                assert fits(plan, capability), plan
    for dtype, columns in product(DTYPES, (7, 64, 768, 2056, 4096, 8192, 16384, 40000)):
        problem = launcher.Problem(512, columns, dtype, True, 40, GPUS[capability])
        plans = (
            launcher.layer_norm_forward(problem),
            launcher.layer_norm_output(problem),
            launcher.layer_norm_backward(problem),
            launcher.gelu_new_forward(problem),
            launcher.gelu_new_backward(problem),
            launcher.cross_entropy_forward(problem),
            launcher.cross_entropy_backward(problem),
            launcher.sum_of_rows(problem),
            launcher.sums_of_parts(problem, 3),
            *launcher.embedding_order(512),
        )
        for plan in plans:
            assert fits(plan, capability), plan


@pytest.mark.parametrize(
    ("capability", "dtype", "head_size", "allow_tf32", "expected"),
    [
        # No tensor cores that the kernels know; four tiles of 128 columns are 66 KiB.
        ((7, 5), FLOAT16, 64, False, [2, 2, 2]),
        ((7, 5), BFLOAT16, 128, False, [2, 1, 1]),
        ((7, 5), FLOAT32, 64, True, [2, 2, 2]),
        ((7, 5), FLOAT64, 64, False, [2, 1, 1]),
        # Tiles of 128 float32 columns are 99 KiB, without what the kernels declare.
        ((8, 6), FLOAT16, 128, False, [3, 3, 3]),
        ((8, 6), FLOAT32, 64, True, [3, 3, 3]),
        ((8, 6), FLOAT32, 72, True, [2, 2, 2]),
        ((8, 9), FLOAT32, 128, True, [2, 2, 2]),
        ((8, 6), FLOAT64, 128, False, [1, 1, 1]),
        ((12, 0), FLOAT32, 128, True, [2, 2, 2]),
        ((8, 0), FLOAT32, 128, True, [3, 3, 3]),
        ((9, 0), FLOAT32, 128, True, [3, 3, 3]),
    ],
    ids=str,
)
def test_which_version_of_attention_runs(capability, dtype, head_size, allow_tf32, expected):
    assert versions(attention(capability, dtype, head_size, allow_tf32)) == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), 1), ((8, 6), 1), ((9, 0), 3)])
def test_which_version_of_wide_layer_norm_runs(capability, expected):
    """Of 16384 columns, whose three sums are in shared memory: 192 KiB; or else the plain one."""
    problem = launcher.Problem(512, 16384, FLOAT16, True, 40, GPUS[capability])
    assert versions([launcher.layer_norm_backward(problem)]) == [expected]


def test_sequences_whose_scores_fit_nowhere():
    with pytest.raises(ValueError, match="needs 120000 bytes of shared memory; a block may have"):
        attention((8, 6), FLOAT32, 136, longest=30000)
