// y = gelu_new(x + b) and its backward pass.
//
//     u = √(2/π) (z + 0.044715 z³),  s = σ(2u),  z = x + b
//     y = z s          dx = dy s (1 + z (1 − s) 2u′),  2u′ = 2√(2/π) (1 + 3·0.044715 z²)
//     db = Σ_rows dx
//
// Forward moves 2 numbers an element and computes about 12 operations; backward moves 3 and computes
// about 25. At 2 bytes a number that is 3 to 4 operations a byte, where a GPU can do ten or more:
// the limit is the memory's bandwidth, and the fastest kernel is the one that moves least, in the
// widest pieces. An array has fewer than 2³¹ elements, so that places are 32-bit numbers, whose
// remainders take far fewer instructions than those of 64 bits.
#include "column_sums.cuh"

// 1 / (1 + exp(−x)). For 2-byte numbers the GPU's own powers of 2 and reciprocals do: what they are off
// by, 2⁻²² of it and 2⁻²³ |x|, is far less than such a number rounds off. Exact ones take so many
// instructions that these would be the limit, not the memory.
template <class T>
__device__ __forceinline__ wide<T> sigmoid(wide<T> x) {
    return wide<T>(1) / (wide<T>(1) + exp(-x));
}
__device__ __forceinline__ float fast_sigmoid(float x) {
    return reciprocal(1.0f + power_of_2(-1.4426950408889634f * x));
}
template <>
__device__ __forceinline__ float sigmoid<Half>(float x) {
    return fast_sigmoid(x);
}
template <>
__device__ __forceinline__ float sigmoid<BFloat16>(float x) {
    return fast_sigmoid(x);
}

template <class T>
__device__ __forceinline__ wide<T> sigmoid_2u(wide<T> z) {
    const wide<T> cubic = wide<T>(0.044715), factor = wide<T>(1.5957691216057308);  // 2√(2/π)
    return sigmoid<T>(factor * z * fma(cubic * z, z, wide<T>(1)));
}
template <class T>
__device__ __forceinline__ wide<T> gelu_new(wide<T> z) {
    return z * sigmoid_2u<T>(z);
}
// Outside ±40 gelu_new is z or 0 to the last bit; beyond it z² could overflow against a 0.
template <class T>
__device__ __forceinline__ wide<T> gelu_new_slope(wide<T> z) {
    using A = wide<T>;
    const A cubic = A(0.044715), factor = A(1.5957691216057308);
    const A s = sigmoid_2u<T>(z);
    const A slope = s * fma(z * (A(1) - s) * factor, fma(A(3) * cubic * z, z, A(1)), A(1));
    return z > A(40) ? A(1) : z < A(-40) ? A(0) : slope;
}

// Forward, version 1: one thread an element.
//
// Bytes: 2 · rows · columns · size, and the bias, which stays in the cache. Of a 2-byte type a warp
// moves 64 bytes with one load: it takes eight times the instructions that it needs.
template <class T>
__global__ void gelu_new_forward_1(const T* x, const T* bias, T* y, int rows, int columns) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x, elements = rows * columns;
    if (at >= elements) return;
    y[at] = narrow<T>(gelu_new<T>(widen(x[at]) + widen(bias[at % columns])));
}

// Forward, version 2: 16 bytes a load, four packs a thread before the first is used.
//
// The same bytes in an eighth of the instructions (2-byte types), and enough loads in flight to
// keep the memory busy. `columns` is a multiple of the pack, so a pack lies in one row.
template <class T>
__global__ void __launch_bounds__(256)
gelu_new_forward_2(const T* x, const T* bias, T* y, int rows, int columns) {
    constexpr int SIZE = Pack<T>::SIZE, PACKS = 4;
    const unsigned packs = static_cast<unsigned>(rows) * columns / SIZE;
    const unsigned first = blockIdx.x * blockDim.x * PACKS + threadIdx.x;
    Pack<T> loaded[PACKS];
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const unsigned at = first + k * blockDim.x;
        if (at < packs) loaded[k] = load_pack(x + at * SIZE);
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const unsigned at = first + k * blockDim.x;
        if (at >= packs) return;
        const Pack<T> b = load_pack(bias + at * SIZE % columns);
#pragma unroll
        for (int i = 0; i < SIZE; i++)
            loaded[k].values[i] = narrow<T>(gelu_new<T>(widen(loaded[k].values[i]) + widen(b.values[i])));
        store_pack(y + at * SIZE, loaded[k]);
    }
}

// Backward, version 1: one thread a column of `rows_a_block` rows.
//
// Grid: (columns / threads, parts). A warp reads 32 neighbouring columns, so rows are read whole.
// Bytes: 3 · rows · columns · size, and parts · columns · 4 of partial sums, written and read.
template <class T>
__global__ void gelu_new_backward_1(const T* dy, const T* x, const T* bias, T* dx, wide<T>* partial,
                                    int rows, int columns, int rows_a_block) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const int first = blockIdx.y * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T> sum = 0;
    for (int row = first; row < end; row++) {
        const long long at = (long long)row * columns + column;
        const wide<T> slope = gelu_new_slope<T>(widen(x[at]) + widen(bias[column]));
        const wide<T> gradient = widen(dy[at]) * slope;
        dx[at] = narrow<T>(gradient);
        sum += gradient;
    }
    partial[blockIdx.y * columns + column] = sum;
}

// Backward, version 2: a pack of columns a thread, 8 rows of the block at once.
//
// Threads: (32, 8). Warp w takes every eighth row; the eight sums of a column meet in shared memory
// at the end. The same bytes as version 1, loaded 16 at a time.
template <class T>
__global__ void __launch_bounds__(256)
gelu_new_backward_2(const T* dy, const T* x, const T* bias, T* dx, wide<T>* partial, int rows,
                    int columns, int rows_a_block) {
    constexpr int SIZE = Pack<T>::SIZE, WARPS = 8;
    SHARED(wide<T>, sums, [WARPS][WARP_SIZE * SIZE + 1]);
    const int column = (blockIdx.x * WARP_SIZE + threadIdx.x) * SIZE;
    const int first = blockIdx.y * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T> sum[SIZE] = {};
    if (column < columns) {
        const Pack<T> b = load_pack(bias + column);
#pragma unroll 2
        for (int row = first + threadIdx.y; row < end; row += WARPS) {
            const long long at = (long long)row * columns + column;
            const Pack<T> gradients = load_pack(dy + at), inputs = load_pack(x + at);
            Pack<T> out;
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                const wide<T> z = widen(inputs.values[i]) + widen(b.values[i]);
                const wide<T> gradient = widen(gradients.values[i]) * gelu_new_slope<T>(z);
                out.values[i] = narrow<T>(gradient);
                sum[i] += gradient;
            }
            store_pack(dx + at, out);
        }
    }
#pragma unroll
    for (int i = 0; i < SIZE; i++) sums[threadIdx.y][threadIdx.x * SIZE + i] = sum[i];
    __syncthreads();
    const int thread = threadIdx.y * WARP_SIZE + threadIdx.x;
    const int own = blockIdx.x * WARP_SIZE * SIZE + thread;
    if (thread < WARP_SIZE * SIZE && own < columns) {
        wide<T> total = 0;
        for (int warp = 0; warp < WARPS; warp++) total += sums[warp][thread];
        partial[blockIdx.y * columns + own] = total;
    }
}
