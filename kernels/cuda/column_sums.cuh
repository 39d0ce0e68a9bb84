// Gradients of parameters are sums down the columns of a (rows, columns) array. They are formed in
// two steps with a fixed order, so that the same input gives the same bits: blocks of a first
// kernel each sum some of the rows, in wide numbers, into one row of `partial`; `finish_sums` then
// sums those rows. An atomic addition would need no second kernel, and round in a new order each
// time.
#pragma once
#include "device.cuh"

// out_k[c] (+)= Σ_parts partial[part][k][c],   k < arrays ≤ 3
//
// Grid: one thread a column of each array. Bytes: parts · arrays · columns · 4, read once.
// A row of `partial` is `stride` numbers long.
template <class T>
__global__ void finish_sums(const wide<T>* partial, T* out_0, T* out_1, T* out_2, int parts,
                            int stride, int arrays, int columns, int add) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= arrays * columns) return;
    wide<T> sum = 0;
    for (int part = 0; part < parts; part++) sum += partial[(long long)part * stride + at];
    const int k = at / columns, column = at % columns;
    T* out = (k == 0 ? out_0 : k == 1 ? out_1 : out_2) + column;
    *out = narrow<T>(add ? widen(*out) + sum : sum);
}
