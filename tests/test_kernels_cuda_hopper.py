"""Hopper's words on the CPU: phases, copies of boxes, multiplications that go on by themselves."""

import re
import shutil

import numpy as np
import pytest
from cuda_support import BFLOAT16, FLOAT16, NEEDS_COMPILER, sample

from albert_np.kernels.cuda.host import HostExecutor, KernelError
from albert_np.kernels.cuda.launch import SOURCES, Launch, TensorMap

pytestmark = NEEDS_COMPILER

ROUNDS = 5  # tiles, through two buffers
WORDS = {
    "TYPE": "Half",
    "SHOWN": "fence_async()",
    "STARTED": "__syncthreads()",
    "COUNT": "4",
    "STAGES": "2",
    "BYTES": "8192",
    "USED": "phase_wait(used + stage, (round / STAGES + 1) % 2)",
    "HERE": "phase_wait(here + stage, round / STAGES % 2)",
    "BEGIN": "multiply_begin()",
    "COMMIT": "multiply_commit()",
    "DONE": "multiply_wait(scores)",
    "CLEARED": "fence_async()",
    "MET": "barrier_of(1, 128)",
    "ALL_DONE": "multiply_wait(sums)",
    "RELEASED": "phase_arrive(used + stage)",
    "RELEASED_EARLY": "",
    "FIRST": "0",
    "TO": "0",
    "STEP": "1024",
}
# y = Σ over tiles x (64 × 64) of round(x xᵀ) x, where the last row counts as zeros in the last
# product of the last tile. One thread copies, a warpgroup multiplies.
KERNEL = """
#include "device.cuh"
__global__ void squares(const __grid_constant__ TensorMap x, float* y) {
    DYN_SHARED(TYPE, dynamic);
    SHARED(PhaseBarrier, here, [STAGES]);
    SHARED(PhaseBarrier, used, [STAGES]);
    TYPE* tiles = dynamic + (1024 - shared_address(dynamic) % 1024) % 1024 / 2;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            phase_begin(here + stage, 1);
            phase_begin(used + stage, COUNT);
        }
        SHOWN;
    }
    STARTED;
    if (threadIdx.x == 128)
        for (int round = 0; round < ROUNDS; round++) {
            const int stage = round % STAGES;
            USED;
            phase_expect(here + stage, BYTES);
            copy_box(tiles + stage * 4096 + TO, &x, round, 0, 0, here + stage);
        }
    if (threadIdx.x >= 128) return;
    const int lane = threadIdx.x % 32;
    float sums[8][4] = {};
    for (int round = 0; round < ROUNDS; round++) {
        const int stage = round % STAGES;
        TYPE* tile = tiles + stage * 4096;
        HERE;
        float scores[8][4];
        multiply_begin();
        for (int k = 0; k < 64; k += 16)
            multiply_async<TYPE>(scores, matrix_at(tile + FIRST + k), matrix_at(tile + k), k > 0);
        COMMIT;
        DONE;
        unsigned left[4][4];
        for (int n = 0; n < 8; n++)
            for (int half = 0; half < 2; half++)
                left[n / 2][n % 2 * 2 + half] =
                    narrow_pair<TYPE>(scores[n][half * 2], scores[n][half * 2 + 1]);
        if (round == ROUNDS - 1) {
            barrier_of(1, 128);  // all have read the row as it was
            if (threadIdx.x < 8) store_pack(tile + 63 * 64 + threadIdx.x * 8, Pack<TYPE>{});
            CLEARED;
            MET;
        }
        BEGIN;
        for (int j = 0; j < 4; j++)
            multiply_async_transposed<TYPE>(sums, left[j], matrix_at(tile + j * STEP));
        COMMIT;
        if (lane == 0) { RELEASED_EARLY; }
        ALL_DONE;
        if (lane == 0) { RELEASED; }
    }
    for (int n = 0; n < 8; n++)
        for (int i = 0; i < 4; i++)
            y[(threadIdx.x / 32 * 16 + lane / 4 + i / 2 * 8) * 64 + n * 8 + lane % 4 * 2 + i % 2] =
                sums[n][i];
}
"""


@pytest.fixture
def run_squares(tmp_path):
    """Run the kernel with some of its words replaced, on small whole numbers: sums are exact."""
    directories = {}

    def run(seed=0, dtype=FLOAT16, columns=64, **faults):
        words = WORDS | {"ROUNDS": str(ROUNDS)} | faults
        defined = "".join(f"#define {word} {text}\n" for word, text in words.items())
        if defined not in directories:
            directories[defined] = tmp_path / str(len(directories))
            shutil.copytree(SOURCES, directories[defined], ignore=shutil.ignore_patterns("*.py*"))
            (directories[defined] / "squares.cu").write_text(defined + KERNEL)
        x = np.random.default_rng(seed).integers(-1, 2, (ROUNDS, 64, columns))
        y = np.full((64, 64), np.nan, np.float32)
        tensor_map = TensorMap(x.astype(dtype), x.shape, (1, 64, 64))
        HostExecutor(seed, directories[defined]).launch(
            Launch("squares.cu", "squares", (1,), (160,), (tensor_map, y), 2 * 8192 + 1024)
        )
        return x, y

    return run


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_right_kernel(run_squares, dtype):
    """In any order, whenever copies arrive; and columns beyond the array are zeros."""
    for seed in range(6):
        for columns in (64, 40):
            name = {FLOAT16: "Half", BFLOAT16: "BFloat16"}[dtype]
            x, y = run_squares(seed, dtype, columns, TYPE=name)
            right = x.copy()
            right[-1, -1] = 0
            expected = np.zeros((64, 64))
            expected[:, :columns] = (x @ x.swapaxes(1, 2) @ right).sum(axis=0)
            np.testing.assert_array_equal(y, expected)


FAULTS = [
    ({"SHOWN": ""}, "a copy counts at a barrier of here that no fence has shown to it"),
    ({"STARTED": ""}, "a barrier of .* that another thread sets up|a barrier that is not set up"),
    ({"COUNT": "3"}, "multiplication re|arrives at a barrier that 3 have arrived at"),
    ({"COUNT": "5"}, "deadlock: .* 1 for a phase, 159 have ended|deadlock: .* for a phase"),
    (
        {"STAGES": "1", "USED": ""},
        "in flight|multiplication re|a copy wrote|arrives at a barrier that 1",
    ),
    ({"BYTES": "8191"}, "deadlock: .* 12[89] for a phase"),
    ({"BYTES": "16384"}, "deadlock: .* 12[89] for a phase"),
    ({"USED": ""}, "in flight|multiplication re|a copy wrote|arrives at a barrier that 1"),
    ({"USED": "phase_wait(used + stage, round / STAGES % 2)"}, "deadlock"),
    ({"HERE": ""}, "in flight|nothing wrote|a copy wrote"),
    ({"HERE": "phase_wait(here + stage, (round / STAGES + 1) % 2)"}, "in flight|nothing wrote"),
    ({"BEGIN": ""}, "multiplies before the registers are ready for it"),
    ({"CLEARED": ""}, "multiplies byte .* which thread . wrote with no fence after"),
    ({"MET": ""}, "race: multiplies byte .* which thread . wrote with no barrier between|race: wr"),
    ({"MET": "barrier_of(1, 160)"}, "deadlock: .* 128 at one of some warps, 0 for a phase"),
    ({"ALL_DONE": ""}, "multiplication re|before its multiplications do"),
    ({"RELEASED": ""}, "deadlock: .* 1 for a phase, 159 have ended|deadlock: .* for a phase"),
    (
        {"RELEASED": "", "RELEASED_EARLY": "phase_arrive(used + stage)"},
        "while a multiplication reads it|which a multiplication read with no barrier between",
    ),
    ({"RELEASED": "phase_arrive(used)"}, "arrives at a barrier that 4|multiplication re|deadlock"),
    (
        {"FIRST": "512"},
        "multiplies .* out of bounds|nothing wrote|no shared memory|in flight|wrote",
    ),
    ({"FIRST": "64"}, "a descriptor that is none of 128-byte rows which begin at 1024 bytes"),
    ({"TO": "64"}, "copies to what is not a multiple of 1024 bytes"),
    ({"STEP": "1536"}, "nothing wrote|in flight|a copy wrote|no shared memory"),
]


@pytest.mark.parametrize(
    ("faults", "message"), sample(FAULTS, FAULTS[::2]), ids=lambda x: str(x)[:60]
)
def test_faults_are_found_in_any_order(run_squares, faults, message):
    for seed in range(6):
        with pytest.raises(KernelError, match=message):
            run_squares(seed, **faults)


@pytest.mark.parametrize("faults", [{"COMMIT": ""}, {"DONE": ""}])
def test_sums_are_not_there_before_they_are_waited_for(run_squares, faults):
    """Of what was not committed, nothing is waited for."""
    try:
        _, y = run_squares(**faults)
    except KernelError as error:
        assert re.search("before its multiplications do|multiplication reads it", str(error))
    else:
        assert np.isnan(y).all()
