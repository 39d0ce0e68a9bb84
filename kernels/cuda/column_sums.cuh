// Gradients of parameters are sums down the columns of a (rows, columns) array. They are formed in
// two steps with a fixed order, so that the same input gives the same bits: blocks of a first
// kernel each sum some of the rows, in wide numbers, into one row of `partial`; `finish_sums` then
// sums those rows. An atomic addition would need no second kernel, and round in a new order each
// time.
#pragma once
#include "device.cuh"

// out_k[c] (+)= Σ_parts partial[part][k][c],   k < arrays ≤ 3
//
// Threads: (32, FINISHING_WARPS). A block has 32 neighbouring columns, and each warp of it every
// sixteenth part: one thread a column would wait for hundreds of loads, one after the other, longer
// than the first kernel takes. Bytes: parts · arrays · columns · 4, read once, mostly from the cache.
// A row of `partial` is `stride` numbers long.
constexpr int FINISHING_WARPS = 16;
template <class T>
__global__ void finish_sums(const wide<T>* partial, T* out_0, T* out_1, T* out_2, int parts,
                            int stride, int arrays, int columns, int add) {
    SHARED(wide<T>, sums, [FINISHING_WARPS][WARP_SIZE]);
    const int at = blockIdx.x * WARP_SIZE + threadIdx.x;
    const bool inside = at < arrays * columns;
    wide<T> sum = 0;
    for (int part = threadIdx.y; part < parts && inside; part += FINISHING_WARPS)
        sum += partial[(long long)part * stride + at];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || !inside) return;
    for (int warp = 1; warp < FINISHING_WARPS; warp++) sum += sums[warp][threadIdx.x];
    const int k = at / columns, column = at % columns;
    T* out = (k == 0 ? out_0 : k == 1 ? out_1 : out_2) + column;
    *out = narrow<T>(add ? widen(*out) + sum : sum);
}
