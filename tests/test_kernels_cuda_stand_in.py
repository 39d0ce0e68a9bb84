"""The machine on the CPU: it runs right kernels, and reports what wrong ones do."""

import shutil

import numpy as np
import pytest
from cuda_support import BFLOAT16, FLOAT16, NEEDS_COMPILER

from albert_np.kernels.cuda.arrays import rounded_to_tf32
from albert_np.kernels.cuda.host import HostExecutor, KernelError
from albert_np.kernels.cuda.launch import SOURCES, Launch

pytestmark = NEEDS_COMPILER

N = 96  # threads of a block: three warps

# Right kernels, each of which a fault is planted in by another meaning of a word of RIGHT; and some
# that are wrong as they stand.
KERNELS = """
#include "device.cuh"

// y[i] = x[i ^ 1], through shared memory.
__global__ void neighbours(const float* x, float* y) {
    SHARED(float, tile, [96]);
    tile[threadIdx.x] = x[threadIdx.x];
    BARRIER;
    y[threadIdx.x] = tile[threadIdx.x ^ 1];
}

// y[i] = Σ x of the other warp: two rounds through one buffer.
__global__ void rounds(const float* x, float* y) {
    SHARED(float, tile, [96]);
    float sum = 0;
    for (int round = 0; round < 4; round++) {
        tile[threadIdx.x] = x[round * 96 + threadIdx.x];
        __syncthreads();
        sum += tile[(threadIdx.x + 32) % 96];
        REFILL;
    }
    y[threadIdx.x] = sum;
}

// One thread writes what all read.
__global__ void broadcast(const float* x, float* y) {
    SHARED(float, one, [1]);
    if (threadIdx.x == 0) one[0] = x[0];
    BARRIER;
    y[threadIdx.x] = one[0];
}

// A warp's own buffer needs a warp's barrier.
__global__ void within_warps(const float* x, float* y) {
    SHARED(float, tile, [3][32]);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    tile[warp][lane] = x[threadIdx.x];
    WARP_BARRIER;
    y[threadIdx.x] = tile[warp][31 - lane];
}

__global__ void unwritten(const float* x, float* y) {
    SHARED(int, tile, [96]);
    if (threadIdx.x < LIMIT) tile[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x ^ 1] + x[threadIdx.x];
}

__global__ void bounds(const float* x, float* y) {
    SHARED(float, tile, [96]);
    tile[threadIdx.x + BEYOND] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}

__global__ void arrays(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + BEYOND]; }

__global__ void into_input(const float* x, float* y) {
    y[threadIdx.x] = 1;
    const_cast<float*>(x)[threadIdx.x] = 1;
}

__global__ void diverging(const float* x, float* y) {
    if (threadIdx.x < LIMIT) __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}

__global__ void diverging_warp(const float* x, float* y) {
    y[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < LIMIT) y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

// Two blocks write one place: no barrier orders blocks.
__global__ void blocks(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + blockIdx.x; }

__global__ void counting(const float* x, float* y) {
    atomicAdd(y + threadIdx.x % 4, x[threadIdx.x]);
}

__global__ void mixed(const float* x, float* y) {
    atomicAdd(y, x[threadIdx.x]);
    if (threadIdx.x == 40) y[0] = 0;
}

// Three tiles through two buffers, one copy ahead of what is read.
__global__ void copies(const float* x, float* y) {
    SHARED(float, tile, [2][96 * 4]);
    const int first = threadIdx.x * 4;
    copy_async(&tile[0][first], x + first, true);
    copy_async_commit();
    float sum = 0;
    for (int round = 0; round < 4; round++) {
        if (round < 3)
            copy_async(&tile[(round + 1) % BUFFERS][first], x + (round + 1) * 384 + first, true);
        copy_async_commit();
        WAIT;
        __syncthreads();
        for (int i = 0; i < 4; i++) sum += tile[round % BUFFERS][(first + 4 + i) % 384];
        REFILL;
    }
    y[threadIdx.x] = sum;
}

__global__ void misaligned(const float* x, float* y) {
    const Pack<float> pack = load_pack(x + threadIdx.x);
    y[threadIdx.x] = pack.values[0];
}

__global__ void votes(const float* x, float* y) {
    const bool positive = x[threadIdx.x] > 0;
    const int lane = threadIdx.x % 32;
    y[threadIdx.x] = __ballot_sync(ALL_LANES, positive) >> lane & 1;
    y[96 + threadIdx.x] = __any_sync(ALL_LANES, lane == 3) + __all_sync(ALL_LANES, lane == 3);
    y[192 + threadIdx.x] = __shfl_down_sync(ALL_LANES, x[threadIdx.x], 1);
    y[288 + threadIdx.x] = __syncthreads_or(threadIdx.x == 95) + 2 * __syncthreads_or(false);
}
"""
RIGHT = {
    "BARRIER": "__syncthreads()",
    "REFILL": "__syncthreads()",
    "WARP_BARRIER": "__syncwarp()",
    "LIMIT": "96",
    "BEYOND": "0",
    "BUFFERS": "2",
    "WAIT": "copy_async_wait<1>()",
}


@pytest.fixture
def run_small(tmp_path):
    """Run one of the small kernels, some of its words replaced."""
    directories = {}

    def run(kernel, seed=0, grid=1, y_size=N, **faults):
        words = "".join(f"#define {word} {text}\n" for word, text in (RIGHT | faults).items())
        if words not in directories:
            directories[words] = tmp_path / str(len(directories))
            shutil.copytree(SOURCES, directories[words], ignore=shutil.ignore_patterns("*.py*"))
            (directories[words] / "small.cu").write_text(words + KERNELS)
        x = np.random.default_rng(0).standard_normal(4 * 384).astype(np.float32)
        x = x[:N].copy() if kernel == "arrays" else x
        x.flags.writeable = False
        y = np.zeros(y_size, np.float32)
        HostExecutor(seed, directories[words]).launch(
            Launch("small.cu", kernel, (grid,), (N,), (x, y))
        )
        return x, y

    return run


def test_right_kernels_run(run_small):
    """No false alarm, in fixed order and in ten others."""
    for seed in range(11):
        x, y = run_small("neighbours", seed)
        np.testing.assert_array_equal(y, x[np.arange(N) ^ 1])
        x, y = run_small("rounds", seed)
        np.testing.assert_allclose(y, x[:384].reshape(4, N).sum(0)[(np.arange(N) + 32) % N], 1e-5)
        x, y = run_small("broadcast", seed)
        np.testing.assert_array_equal(y, x[0])
        x, y = run_small("within_warps", seed)
        np.testing.assert_array_equal(y, x[:N].reshape(3, 32)[:, ::-1].ravel())
        x, y = run_small("copies", seed)
        expected = np.roll(x.reshape(4, N, 4), -1, axis=1).sum(axis=(0, 2))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        x, y = run_small("counting", seed)
        np.testing.assert_allclose(y[:4], x[:N].reshape(-1, 4).sum(0), rtol=1e-4)
    x, y = run_small("votes", y_size=4 * N)
    bits, ors, shifted, block = y.reshape(4, N)
    np.testing.assert_array_equal(bits, x[:N] > 0)
    np.testing.assert_array_equal(ors, 1)
    last = np.arange(N) % 32 == 31
    np.testing.assert_array_equal(shifted, np.where(last, x[:N], x[1 : N + 1]))
    np.testing.assert_array_equal(block, 1)


FAULTS = [
    ("neighbours", {"BARRIER": ""}, "race: reads byte 4 of tile, which thread 1 wrote|wrote"),
    ("rounds", {"REFILL": ""}, "race: (reads|writes) byte .* of tile, which thread"),
    ("broadcast", {"BARRIER": ""}, "of one, which|race"),
    ("within_warps", {"WARP_BARRIER": ""}, "of tile, which|nothing wrote"),
    ("unwritten", {"LIMIT": "95"}, "thread 94: reads byte 380 of tile, which nothing wrote"),
    ("bounds", {"BEYOND": "1"}, "writes 4 bytes out of bounds, 0 bytes past the end of tile"),
    ("arrays", {"BEYOND": "1"}, "reads 4 bytes out of bounds, 0 bytes past the end of argument 0"),
    ("into_input", {}, "writes into argument 0, which is an input"),
    ("diverging", {"LIMIT": "40"}, "deadlock: of 96 threads, 40 wait at a barrier of the block"),
    ("diverging_warp", {"LIMIT": "40"}, "deadlock: of 96 threads, .* 8 at one of a warp"),
    ("mixed", {}, "race: .* of argument 1"),
    ("copies", {"WAIT": ""}, "of tile while a copy to it is in flight"),
    ("copies", {"REFILL": ""}, "race: writes .* of tile|in flight"),
    ("copies", {"BUFFERS": "1"}, "of tile while a copy to it is in flight"),
    ("misaligned", {}, "address is not a multiple of 16 bytes"),
]


@pytest.mark.parametrize(("kernel", "faults", "message"), FAULTS)
def test_faults_are_found_in_any_order(run_small, kernel, faults, message):
    for seed in range(6):
        with pytest.raises(KernelError, match=message):
            run_small(kernel, seed, **faults)


@pytest.mark.parametrize("shape", [{"grid": (1, 65536)}, {"block": (32, 33)}])
def test_launches_that_no_gpu_takes(shape):
    launch = Launch("gelu_new.cu", "gelu_new_forward_1<float>", (1,), (32,), (None,) * 5)
    with pytest.raises(KernelError, match="no GPU has a grid of"):
        HostExecutor().launch(launch._replace(**shape))


def test_blocks_that_write_one_place(run_small):
    with pytest.raises(KernelError, match="race: writes byte 0 of argument 1, which another block"):
        run_small("blocks", grid=2)
    x, y = run_small("blocks")
    np.testing.assert_array_equal(y, x[:N])
    run_small("counting", grid=2)  # atomic additions may meet


def test_random_order_lets_any_warp_go_first(run_small):
    """The scheduler has no favourite: each warp is the first to reach an unordered place."""
    first = set()
    for seed in range(20):
        with pytest.raises(KernelError) as error:
            run_small("unwritten", seed, LIMIT="0")
        first.add(int(str(error.value).split("thread ")[1].split(":")[0]) // 32)
    assert first == {0, 1, 2}


def test_four_types_as_numpy_rounds_them(tmp_path):
    """Every float16 and bfloat16 widened; float32 of every exponent narrowed, to the last bit."""
    shutil.copytree(SOURCES, tmp_path / "sources")
    (tmp_path / "sources/small.cu").write_text(
        '#include "device.cuh"\n'
        "template <class T> __global__ void widen_all(const T* x, float* y, int n) {\n"
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = widen(x[i]); }\n"
        "template <class T> __global__ void narrow_all(const float* x, T* y, int n) {\n"
        "    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = narrow<T>(x[i]); }\n"
    )
    executor = HostExecutor(sources=tmp_path / "sources")
    bits = np.random.default_rng(0).integers(0, 2**32, 2**16, dtype=np.uint32)
    floats = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, np.inf, -np.inf])])
    for dtype, name in ((FLOAT16, "Half"), (BFLOAT16, "BFloat16")):
        every = np.arange(2**16, dtype=np.uint16).view(dtype)
        wide, narrow = np.empty(2**16, np.float32), np.empty(floats.size, dtype)
        executor.launch(
            Launch(
                "small.cu", f"widen_all<{name}>", (1,), (64,), (every, wide, np.int32(wide.size))
            )
        )
        np.testing.assert_array_equal(wide, every.astype(np.float32))
        executor.launch(
            Launch(
                "small.cu",
                f"narrow_all<{name}>",
                (1,),
                (64,),
                (floats, narrow, np.int32(narrow.size)),
            )
        )
        with np.errstate(over="ignore", invalid="ignore"):
            expected = floats.astype(dtype)
        np.testing.assert_array_equal(narrow.astype(float), expected.astype(float))


TF32_KERNELS = """\
#include "device.cuh"
__global__ void round_all(const float* x, float* y, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = float_of(round_to_tf32(x[i]));
}
// y (16 × 8) = a (16 × 8) · b (8 × 8), by one warp.
__global__ void product(const float* a, const float* b, float* y) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned left[4], right[2];
    for (int i = 0; i < 4; i++) left[i] = ROUND(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) right[i] = round_to_tf32(b[(t + i * 4) * 8 + g]);
    float sums[4] = {};
    multiply_add<float>(sums, left, right[0], right[1]);
    for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}
"""


@pytest.fixture
def run_tf32(tmp_path):
    """Run one of these kernels, with another meaning of ROUND."""

    def run(kernel, *arrays, rounds="round_to_tf32"):
        sources = tmp_path / rounds
        if not sources.exists():
            shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("*.py*"))
            (sources / "small.cu").write_text(f"#define ROUND {rounds}\n{TF32_KERNELS}")
        HostExecutor(sources=sources).launch(Launch("small.cu", kernel, (1,), (32,), arrays))

    return run


def test_tf32_is_the_nearest_of_11_bits(run_tf32):
    """Of floats of every exponent; halves away from zero; what is not finite stays so."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 2**16, dtype=np.uint32)
    bits[::2] = bits[::2] & np.uint32(0xFFFFE000) | np.uint32(0x1000)  # halves
    x = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, np.inf, -np.inf, np.nan])])
    y = np.empty_like(x)
    run_tf32("round_all", x, y, np.int32(x.size))
    np.testing.assert_array_equal(y, rounded_to_tf32(x))
    with np.errstate(over="ignore", invalid="ignore"):
        exact = x.astype(np.float64)
        # Below the smallest normal number there are fewer bits.
        exponent = np.maximum(np.frexp(exact)[1], -125)
        scaled = np.ldexp(exact, 11 - exponent)
        nearest = np.ldexp(np.copysign(np.floor(np.abs(scaled) + 0.5), scaled), exponent - 11)
        nearest = nearest.astype(np.float32)  # infinite, beyond the largest
    np.testing.assert_array_equal(y, nearest)


def test_a_product_in_tf32(run_tf32):
    """Small whole numbers, so that it is exact; and numbers that were not rounded are refused."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((16, 8), (8, 8)))
    y = np.empty((16, 8), np.float32)
    run_tf32("product", a, b, y)
    np.testing.assert_array_equal(y, a @ b)
    run_tf32("product", a, b, y, rounds="bits_of")
    a[3, 5] = 1 + 2**-11
    with pytest.raises(KernelError, match="multiplies a number that is not rounded to tf32"):
        run_tf32("product", a, b, y, rounds="bits_of")
