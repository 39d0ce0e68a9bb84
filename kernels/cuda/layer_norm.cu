// Layer norm, alone and with what precedes it in a layer; H columns, any number of rows.
//
//     t = residual + dropout(x + b)                     (or t = x, where there is no residual)
//     x̂ = (t − mean(t)) / √(var(t) + eps)
//     y = x̂ w + shift
//
//     g = dy w
//     dt = (g − mean(g) − x̂ mean(g x̂)) / √(var(t) + eps)
//     dresidual = dt          dx = dropout(dt)          db = Σ_rows dx
//     dw = Σ_rows dy x̂        dshift = Σ_rows dy
//
// Forward reads x and the residual and writes x̂ and y: 4 numbers an element (3 where there is no
// residual) for about 10 operations; backward reads dy and x̂ and writes dt and, where there was
// dropout, dx: 3 to 4 for about 20. Both are limited by the memory's bandwidth. Dropout's 10 rounds
// of Philox are 25 operations an element more, which should still hide behind the memory.
//
// x̂ is kept rounded to T, and y is computed from that, so that y can be had again bit for bit.
#include "column_sums.cuh"
#include "philox.cuh"

// residual + dropout(x + bias) of N columns of one row; x alone where there is no residual.
template <class T, int N>
__device__ __forceinline__ void totals(const T (&x)[N], const T* bias, const T (&residual)[N],
                                       bool fused, const Dropout& dropout, int row, int column,
                                       wide<T> (&out)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) out[i] = widen(x[i]);
    if (!fused) return;
#pragma unroll
    for (int i = 0; i < N; i++) out[i] += widen(bias[i]);
    if (dropout.enabled) {
        wide<T> scales[N];
        keep_scales(dropout, row, column, scales);
#pragma unroll
        for (int i = 0; i < N; i++) out[i] *= scales[i];
    }
#pragma unroll
    for (int i = 0; i < N; i++) out[i] += widen(residual[i]);
}

// Forward, version 1: a block a row, which is read again for each of the three steps.
//
// Bytes: x and residual three times, though the second and third time mostly from the cache.
template <class T>
__global__ void layer_norm_forward_1(const T* x, const T* bias, const T* residual, const T* weight,
                                     const T* shift, T* y, T* normalized,
                                     wide<T>* inverse_deviation, int rows, int columns, double eps,
                                     Dropout dropout) {
    const int row = blockIdx.x;
    const long long start = (long long)row * columns;
    const auto total = [&](int column) {
        const T own[1] = {x[start + column]};
        const T other[1] = {residual ? residual[start + column] : own[0]};
        wide<T> out[1];
        totals(own, residual ? bias + column : x, other, residual != nullptr, dropout, row, column,
               out);
        return out[0];
    };
    wide<T> sum = 0;
    for (int column = threadIdx.x; column < columns; column += blockDim.x) sum += total(column);
    const wide<T> mean = block_sum(sum) / columns;
    wide<T> squares = 0;
    for (int column = threadIdx.x; column < columns; column += blockDim.x) {
        const wide<T> centred = total(column) - mean;
        squares += centred * centred;
    }
    const wide<T> variance = block_sum(squares) / columns;
    const wide<T> inverse = wide<T>(1) / sqrt(variance + wide<T>(eps));
    for (int column = threadIdx.x; column < columns; column += blockDim.x) {
        const T kept = narrow<T>((total(column) - mean) * inverse);
        normalized[start + column] = kept;
        y[start + column] = narrow<T>(fma(widen(kept), widen(weight[column]), widen(shift[column])));
    }
    if (threadIdx.x == 0) inverse_deviation[row] = inverse;
}

// Forward, version 2: the row is read once, 16 bytes a load, and stays in registers.
//
// A row has WARPS warps of threads, and each thread PACKS packs of it. With one warp a row
// (blockDim.y rows a block) sums need no shared memory and no barrier.
template <class T, int WARPS, int PACKS>
__global__ void __launch_bounds__(WARPS == 1 ? 128 : WARPS * 32)
layer_norm_forward_2(const T* x, const T* bias, const T* residual, const T* weight, const T* shift,
                     T* y, T* normalized, wide<T>* inverse_deviation, int rows, int columns,
                     double eps, Dropout dropout) {
    constexpr int SIZE = Pack<T>::SIZE;
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // the whole warp; with more than one warp a row, nobody
    const long long start = (long long)row * columns;
    wide<T> t[PACKS][SIZE];
    wide<T> sum = 0;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = (k * WARPS * WARP_SIZE + threadIdx.x) * SIZE;
        if (column < columns) {
            const Pack<T> own = load_pack(x + start + column);
            Pack<T> b = own, other = own;
            if (residual) {
                b = load_pack(bias + column);
                other = load_pack(residual + start + column);
            }
            totals(own.values, b.values, other.values, residual != nullptr, dropout, row, column,
                   t[k]);
#pragma unroll
            for (int i = 0; i < SIZE; i++) sum += t[k][i];
        }
    }
    const wide<T> mean = (WARPS == 1 ? warp_sum(sum) : block_sum(sum)) / columns;
    wide<T> squares = 0;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = (k * WARPS * WARP_SIZE + threadIdx.x) * SIZE;
        if (column < columns) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                t[k][i] -= mean;
                squares += t[k][i] * t[k][i];
            }
        }
    }
    const wide<T> variance = (WARPS == 1 ? warp_sum(squares) : block_sum(squares)) / columns;
    const wide<T> inverse = wide<T>(1) / sqrt(variance + wide<T>(eps));
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = (k * WARPS * WARP_SIZE + threadIdx.x) * SIZE;
        if (column < columns) {
            const Pack<T> w = load_pack(weight + column), s = load_pack(shift + column);
            Pack<T> kept, out;
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                kept.values[i] = narrow<T>(t[k][i] * inverse);
                out.values[i] = narrow<T>(
                    fma(widen(kept.values[i]), widen(w.values[i]), widen(s.values[i])));
            }
            store_pack(normalized + start + column, kept);
            store_pack(y + start + column, out);
        }
    }
    if (threadIdx.x == 0) inverse_deviation[row] = inverse;
}

// The output again, from what is kept: y = x̂ w + shift, as forward rounds it.
//
// Bytes: 2 · rows · columns · size.
template <class T>
__global__ void layer_norm_output_1(const T* normalized, const T* weight, const T* shift, T* y,
                                    int rows, int columns) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x, elements = rows * columns;
    if (at >= elements) return;
    const int column = at % columns;
    y[at] = narrow<T>(fma(widen(normalized[at]), widen(weight[column]), widen(shift[column])));
}

// Backward, version 1: a block takes `rows_a_block` rows, one after the other; the sums down the
// columns grow in `partial`, which only this block's thread of that column touches.
//
// Bytes: dy and x̂ twice (the second time from the cache), dt and dx once, and the partial sums once
// a row from the cache: 3 wide numbers read and written an element.
template <class T>
__global__ void layer_norm_backward_1(const T* dy, const T* normalized,
                                      const wide<T>* inverse_deviation, const T* weight, T* dtotal,
                                      T* dx, wide<T>* partial, int rows, int columns,
                                      int rows_a_block, Dropout dropout) {
    const int first = blockIdx.x * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T>* dweight = partial + 3LL * blockIdx.x * columns;
    wide<T>* dshift = dweight + columns;
    wide<T>* dbias = dshift + columns;
    for (int row = first; row < end; row++) {
        const long long start = (long long)row * columns;
        wide<T> sum = 0, along = 0;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const wide<T> g = widen(dy[start + column]) * widen(weight[column]);
            sum += g;
            along += g * widen(normalized[start + column]);
        }
        const Pair<wide<T>> sums = block_sums(sum, along);
        const wide<T> mean = sums.first / columns, slope = sums.second / columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const wide<T> gradient = widen(dy[start + column]);
            const wide<T> x_hat = widen(normalized[start + column]);
            const wide<T> g = gradient * widen(weight[column]);
            const wide<T> dt = (g - mean - x_hat * slope) * inverse_deviation[row];
            dtotal[start + column] = narrow<T>(dt);
            wide<T> scales[1] = {1};
            if (dropout.enabled) keep_scales(dropout, row, column, scales);
            if (dx) dx[start + column] = narrow<T>(dt * scales[0]);
            const bool begins = row == first;
            dweight[column] = (begins ? 0 : dweight[column]) + gradient * x_hat;
            dshift[column] = (begins ? 0 : dshift[column]) + gradient;
            dbias[column] = (begins ? 0 : dbias[column]) + dt * scales[0];
        }
    }
}

// Backward, version 2: each thread keeps PACKS packs of columns for all rows of the block, so that
// row and column sums both stay in registers and every number is loaded once, 16 bytes at a time.
//
// Registers: 3 sums a column, and the packs of dy and x̂ as loaded. A block has as many warps as the
// row needs.
template <class T, int PACKS, int MAX_THREADS>
__global__ void __launch_bounds__(MAX_THREADS)
layer_norm_backward_2(const T* dy, const T* normalized, const wide<T>* inverse_deviation,
                      const T* weight, T* dtotal, T* dx, wide<T>* partial, int rows, int columns,
                      int rows_a_block, Dropout dropout) {
    constexpr int SIZE = Pack<T>::SIZE;
    const int first = blockIdx.x * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T> dbias[PACKS][SIZE] = {}, dweight[PACKS][SIZE] = {}, dshift[PACKS][SIZE] = {};
    for (int row = first; row < end; row++) {
        const long long start = (long long)row * columns;
        Pack<T> gradients[PACKS], x_hats[PACKS];
        wide<T> sum = 0, along = 0;
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int column = (k * blockDim.x + threadIdx.x) * SIZE;
            if (column >= columns) continue;
            gradients[k] = load_pack(dy + start + column);
            x_hats[k] = load_pack(normalized + start + column);
            const Pack<T> w = load_pack(weight + column);
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                const wide<T> gradient = widen(gradients[k].values[i]);
                const wide<T> x_hat = widen(x_hats[k].values[i]);
                const wide<T> g = gradient * widen(w.values[i]);
                sum += g;
                along += g * x_hat;
                dweight[k][i] += gradient * x_hat;
                dshift[k][i] += gradient;
            }
        }
        const Pair<wide<T>> sums = block_sums(sum, along);
        const wide<T> mean = sums.first / columns, slope = sums.second / columns;
        const wide<T> inverse = inverse_deviation[row];
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int column = (k * blockDim.x + threadIdx.x) * SIZE;
            if (column >= columns) continue;
            const Pack<T> w = load_pack(weight + column);
            Pack<T> out, dropped;
            wide<T> scales[SIZE];
#pragma unroll
            for (int i = 0; i < SIZE; i++) scales[i] = 1;
            if (dropout.enabled) keep_scales(dropout, row, column, scales);
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                const wide<T> g = widen(gradients[k].values[i]) * widen(w.values[i]);
                const wide<T> dt = (g - mean - widen(x_hats[k].values[i]) * slope) * inverse;
                out.values[i] = narrow<T>(dt);
                dropped.values[i] = narrow<T>(dt * scales[i]);
                dbias[k][i] += dt * scales[i];
            }
            store_pack(dtotal + start + column, out);
            if (dx) store_pack(dx + start + column, dropped);
        }
    }
    wide<T>* sums_of_block = partial + 3LL * blockIdx.x * columns;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = (k * blockDim.x + threadIdx.x) * SIZE;
        if (column >= columns) continue;
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sums_of_block[column + i] = dweight[k][i];
            sums_of_block[columns + column + i] = dshift[k][i];
            sums_of_block[2 * columns + column + i] = dbias[k][i];
        }
    }
}
