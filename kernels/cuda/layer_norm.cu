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
// Backward is given t and, of each row, the mean and 1 / √(var + eps), and has x̂ from these again.
// t is rounded to T before anything is computed from it, so that y is the same, bit for bit, whether
// t is kept or not, and when it is computed from what was kept. Alone, t is x, which is there.
//
// Numbers moved an element: forward 2 alone (x, y), 3 after a residual (x, the residual, y), and 1
// more where t is to be kept; backward 3 (dy, t, dt), and 1 more with dropout (dx). For these it
// takes about 10 operations forward and 20 backward; at 2 bytes a number that is 2 to 4 operations
// a byte, where a GPU can do ten or more: both are limited by the memory's bandwidth. The two
// numbers of a row are a thousandth of its bytes. Dropout's 10 rounds of Philox are 25 operations an
// element more, which should still hide behind the memory.
#include "column_sums.cuh"
#include "philox.cuh"

// residual + dropout(x + bias) of N columns of one row, rounded to T; x alone where there is no
// residual.
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
    for (int i = 0; i < N; i++) out[i] = widen(narrow<T>(out[i] + widen(residual[i])));
}

// x̂ and y of one element: forward, the output again, and backward compute them in this order.
template <class T>
__device__ __forceinline__ wide<T> normalized(wide<T> t, wide<T> mean, wide<T> inverse) {
    return (t - mean) * inverse;
}
template <class T>
__device__ __forceinline__ T scaled_and_shifted(wide<T> x_hat, T weight, T shift) {
    return narrow<T>(fma(x_hat, widen(weight), widen(shift)));
}

// Forward, version 1: a block a row, which is read again for each of the three steps.
//
// Bytes: x and residual three times, though the second and third time mostly from the cache.
template <class T>
__global__ void layer_norm_forward_1(const T* x, const T* bias, const T* residual, const T* weight,
                                     const T* shift, T* y, T* kept, wide<T>* means,
                                     wide<T>* inverse_deviations, int rows, int columns, double eps,
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
        const wide<T> t = total(column), x_hat = normalized<T>(t, mean, inverse);
        if (kept) kept[start + column] = narrow<T>(t);
        y[start + column] = scaled_and_shifted(x_hat, weight[column], shift[column]);
    }
    if (threadIdx.x == 0) {
        means[row] = mean;
        inverse_deviations[row] = inverse;
    }
}

// Forward, version 2: the row is read once, 16 bytes a load, and stays in registers.
//
// A row has WARPS warps of threads, and each thread PACKS packs of it. With one warp a row
// (blockDim.y rows a block) sums need no shared memory and no barrier.
template <class T, int WARPS, int PACKS>
__global__ void __launch_bounds__(WARPS == 1 ? 128 : WARPS * 32)
layer_norm_forward_2(const T* x, const T* bias, const T* residual, const T* weight, const T* shift,
                     T* y, T* kept, wide<T>* means, wide<T>* inverse_deviations, int rows,
                     int columns, double eps, Dropout dropout) {
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
                const wide<T> centred = t[k][i] - mean;
                squares += centred * centred;
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
            Pack<T> total, out;
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                const wide<T> x_hat = normalized<T>(t[k][i], mean, inverse);
                total.values[i] = narrow<T>(t[k][i]);
                out.values[i] = scaled_and_shifted(x_hat, w.values[i], s.values[i]);
            }
            if (kept) store_pack(kept + start + column, total);
            store_pack(y + start + column, out);
        }
    }
    if (threadIdx.x == 0) {
        means[row] = mean;
        inverse_deviations[row] = inverse;
    }
}

// The output again, from what is kept: y = x̂ w + shift, as forward rounds it. Version 1: one thread
// an element.
//
// Bytes: 2 · rows · columns · size.
template <class T>
__global__ void layer_norm_output_1(const T* x, const wide<T>* means,
                                    const wide<T>* inverse_deviations, const T* weight,
                                    const T* shift, T* y, int rows, int columns) {
    const unsigned at = blockIdx.x * blockDim.x + threadIdx.x, elements = rows * columns;
    if (at >= elements) return;
    const int row = at / columns, column = at % columns;
    const wide<T> x_hat = normalized<T>(widen(x[at]), means[row], inverse_deviations[row]);
    y[at] = scaled_and_shifted(x_hat, weight[column], shift[column]);
}

// The output again, version 2: 16 bytes a load, one pack a thread.
template <class T>
__global__ void __launch_bounds__(256)
layer_norm_output_2(const T* x, const wide<T>* means, const wide<T>* inverse_deviations,
                    const T* weight, const T* shift, T* y, int rows, int columns) {
    const unsigned at = (blockIdx.x * blockDim.x + threadIdx.x) * Pack<T>::SIZE;
    const unsigned elements = rows * columns;
    if (at >= elements) return;
    const int row = at / columns, column = at % columns;
    const wide<T> mean = means[row], inverse = inverse_deviations[row];
    const Pack<T> w = load_pack(weight + column), s = load_pack(shift + column);
    Pack<T> pack = load_pack(x + at);
#pragma unroll
    for (int i = 0; i < Pack<T>::SIZE; i++) {
        const wide<T> x_hat = normalized<T>(widen(pack.values[i]), mean, inverse);
        pack.values[i] = scaled_and_shifted(x_hat, w.values[i], s.values[i]);
    }
    store_pack(y + at, pack);
}

// Backward, version 1: a block takes `rows_a_block` rows, one after the other; the sums down the
// columns grow in `partial`, which only this block's thread of that column touches.
//
// Bytes: dy and t (here x) twice (the second time from the cache), dt and dx once, and the partial
// sums once a row from the cache: 3 wide numbers read and written an element.
template <class T>
__global__ void layer_norm_backward_1(const T* dy, const T* x, const wide<T>* means,
                                      const wide<T>* inverse_deviations, const T* weight, T* dtotal,
                                      T* dx, wide<T>* partial, int rows, int columns,
                                      int rows_a_block, Dropout dropout) {
    const int first = blockIdx.x * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T>* dweight = partial + 3LL * blockIdx.x * columns;
    wide<T>* dshift = dweight + columns;
    wide<T>* dbias = dshift + columns;
    for (int row = first; row < end; row++) {
        const long long start = (long long)row * columns;
        const wide<T> mean = means[row], inverse = inverse_deviations[row];
        wide<T> sum = 0, along = 0;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const wide<T> g = widen(dy[start + column]) * widen(weight[column]);
            sum += g;
            along += g * normalized<T>(widen(x[start + column]), mean, inverse);
        }
        const Pair<wide<T>> sums = block_sums(sum, along);
        const wide<T> level = sums.first / columns, slope = sums.second / columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const wide<T> gradient = widen(dy[start + column]);
            const wide<T> x_hat = normalized<T>(widen(x[start + column]), mean, inverse);
            const wide<T> g = gradient * widen(weight[column]);
            const wide<T> dt = (g - level - x_hat * slope) * inverse;
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

// What one thread of the later versions of backward holds of a row: PACKS packs of dy and t (here x),
// `stride` packs apart.
template <class T, int PACKS>
struct RowPacks {
    Pack<T> dy[PACKS], x[PACKS];
};
template <class T>
__device__ __forceinline__ int column_of(int k, int stride) {
    return (k * stride + threadIdx.x) * Pack<T>::SIZE;
}

// The three sums down each of these columns: in registers, or, for rows so wide that these do not
// suffice, in shared memory, where a thread's neighbours are those of the next thread.
constexpr int DWEIGHT = 0, DSHIFT = 1, DBIAS = 2;
template <class T, int PACKS>
struct RegisterSums {
    wide<T> values[3][PACKS][Pack<T>::SIZE];
    __device__ __forceinline__ wide<T>& at(int which, int k, int i) { return values[which][k][i]; }
};
template <class T, int PACKS, int THREADS>
struct SharedSums {
    wide<T>* values;
    __device__ __forceinline__ wide<T>& at(int which, int k, int i) {
        return values[((which * PACKS + k) * Pack<T>::SIZE + i) * THREADS + threadIdx.x];
    }
};

template <class T, int PACKS>
__device__ __forceinline__ void load_row(RowPacks<T, PACKS>& row, const T* dy, const T* x,
                                         int columns, int stride) {
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = column_of<T>(k, stride);
        if (column >= columns) continue;
        row.dy[k] = load_pack(dy + column);
        row.x[k] = load_pack(x + column);
    }
}

// A thread's share of Σ g and Σ g x̂ of a row; dy x̂ and dy are added to the columns' sums.
template <class T, int PACKS, class Sums>
__device__ __forceinline__ Pair<wide<T>> add_row(Sums& down, const RowPacks<T, PACKS>& row,
                                                 const T* weight, wide<T> mean, wide<T> inverse,
                                                 int columns, int stride) {
    wide<T> sum = 0, along = 0;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = column_of<T>(k, stride);
        if (column >= columns) continue;
        const Pack<T> w = load_pack(weight + column);
#pragma unroll
        for (int i = 0; i < Pack<T>::SIZE; i++) {
            const wide<T> gradient = widen(row.dy[k].values[i]);
            const wide<T> x_hat = normalized<T>(widen(row.x[k].values[i]), mean, inverse);
            const wide<T> g = gradient * widen(w.values[i]);
            sum += g;
            along += g * x_hat;
            down.at(DWEIGHT, k, i) += gradient * x_hat;
            down.at(DSHIFT, k, i) += gradient;
        }
    }
    return {sum, along};
}

// dt and dx of a row, from mean(g) and mean(g x̂); dx is added to the columns' sums.
template <class T, int PACKS, class Sums>
__device__ __forceinline__ void write_row(Sums& down, const RowPacks<T, PACKS>& row,
                                          const T* weight, wide<T> mean, wide<T> inverse,
                                          wide<T> level, wide<T> slope, const Dropout& dropout,
                                          int number, T* dtotal, T* dx, int columns, int stride) {
    constexpr int SIZE = Pack<T>::SIZE;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = column_of<T>(k, stride);
        if (column >= columns) continue;
        const Pack<T> w = load_pack(weight + column);
        Pack<T> out, dropped;
        wide<T> scales[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++) scales[i] = 1;
        if (dropout.enabled) keep_scales(dropout, number, column, scales);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            const wide<T> g = widen(row.dy[k].values[i]) * widen(w.values[i]);
            const wide<T> x_hat = normalized<T>(widen(row.x[k].values[i]), mean, inverse);
            const wide<T> dt = (g - level - x_hat * slope) * inverse;
            out.values[i] = narrow<T>(dt);
            dropped.values[i] = narrow<T>(dt * scales[i]);
            down.at(DBIAS, k, i) += dt * scales[i];
        }
        store_pack(dtotal + column, out);
        if (dx) store_pack(dx + column, dropped);
    }
}

// One of the three sums down a thread's columns, to a row of `columns` of them.
template <class T, int PACKS, class Sums>
__device__ __forceinline__ void write_sums(Sums& down, int which, wide<T>* to, int columns,
                                           int stride) {
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int column = column_of<T>(k, stride);
        if (column >= columns) continue;
#pragma unroll
        for (int i = 0; i < Pack<T>::SIZE; i++) to[column + i] = down.at(which, k, i);
    }
}

// Backward, version 2: each thread keeps PACKS packs of columns for all rows of the block, so that
// row and column sums both stay in registers and every number is loaded once, 16 bytes at a time.
//
// Registers: 3 sums a column, and the packs of dy and t as loaded. A block has as many warps as the
// row needs. Where rows are narrow there are many blocks, and as many partial sums: of 16384 rows of
// 768 2-byte numbers, which are 75 MB, 132 multiprocessors with 10 blocks each write and read 23 MB.
template <class T, int PACKS, int MAX_THREADS>
__global__ void __launch_bounds__(MAX_THREADS)
layer_norm_backward_2(const T* dy, const T* x, const wide<T>* means,
                      const wide<T>* inverse_deviations, const T* weight, T* dtotal, T* dx,
                      wide<T>* partial, int rows, int columns, int rows_a_block, Dropout dropout) {
    const int first = blockIdx.x * rows_a_block, end = min(first + rows_a_block, rows);
    const int stride = blockDim.x;
    RegisterSums<T, PACKS> down = {};
    for (int row = first; row < end; row++) {
        const long long start = (long long)row * columns;
        const wide<T> mean = means[row], inverse = inverse_deviations[row];
        RowPacks<T, PACKS> own;
        load_row(own, dy + start, x + start, columns, stride);
        const Pair<wide<T>> share = add_row(down, own, weight, mean, inverse, columns, stride);
        const Pair<wide<T>> sums = block_sums(share.first, share.second);
        write_row(down, own, weight, mean, inverse, sums.first / columns, sums.second / columns,
                  dropout, row, dtotal + start, dx ? dx + start : dx, columns, stride);
    }
    wide<T>* to = partial + 3LL * blockIdx.x * columns;
#pragma unroll
    for (int which = 0; which < 3; which++)
        write_sums<T, PACKS>(down, which, to + which * columns, columns, stride);
}

// Of a block with a warp a row: the warps' sums down the columns, added up. `shared` holds a row of
// `columns` numbers for each warp.
template <class T, int PACKS, class Sums>
__device__ __forceinline__ void add_warps(Sums& down, int which, wide<T>* shared, wide<T>* to,
                                          int columns) {
    __syncthreads();  // all have read the sums before
    write_sums<T, PACKS>(down, which, shared + threadIdx.y * columns, columns, WARP_SIZE);
    __syncthreads();
    const int thread = threadIdx.y * WARP_SIZE + threadIdx.x, warps = blockDim.y;
    for (int column = thread; column < columns; column += warps * WARP_SIZE) {
        wide<T> sum = 0;
        for (int warp = 0; warp < warps; warp++) sum += shared[warp * columns + column];
        to[column] = sum;
    }
}

// What version 3 does with the rows of a block, whose columns' sums are 0 before. `next` is where
// the row after comes to lie while one is computed, if there are registers for it.
template <class T, int WARPS, int PACKS, class Sums>
__device__ __forceinline__ void gradients_of_rows(Sums& down, const T* dy, const T* x,
                                                 const wide<T>* means,
                                                 const wide<T>* inverse_deviations,
                                                 const T* weight, T* dtotal, T* dx, int end,
                                                 int columns, int rows_a_block,
                                                 const Dropout& dropout) {
    constexpr int STRIDE = WARPS * WARP_SIZE;
    constexpr bool AHEAD = WARPS <= 16 && PACKS <= 4;
    const int at_once = blockDim.y;
    int row = blockIdx.x * rows_a_block + threadIdx.y;
    long long start = (long long)row * columns;
    RowPacks<T, PACKS> own = {}, next = {};
    if (AHEAD && row < end) load_row(own, dy + start, x + start, columns, STRIDE);
    for (; row < end; row += at_once) {
        const long long after = start + (long long)at_once * columns;
        if (!AHEAD)
            load_row(own, dy + start, x + start, columns, STRIDE);
        else if (row + at_once < end)
            load_row(next, dy + after, x + after, columns, STRIDE);
        const wide<T> mean = means[row], inverse = inverse_deviations[row];
        Pair<wide<T>> sums = add_row(down, own, weight, mean, inverse, columns, STRIDE);
        if (WARPS == 1)
            sums = {warp_sum(sums.first), warp_sum(sums.second)};
        else
            sums = block_sums(sums.first, sums.second);
#pragma unroll
        for (int k = 0; k < PACKS; k++) {  // or registers would hold g and x̂ until then
            renew(&own.dy[k]);
            renew(&own.x[k]);
        }
        write_row(down, own, weight, mean, inverse, sums.first / columns, sums.second / columns,
                  dropout, row, dtotal + start, dx ? dx + start : dx, columns, STRIDE);
        if (AHEAD) own = next;
        start = after;
    }
}

// Backward, version 3: the next row is on its way while one is computed; and a row that fits into
// one warp's registers has one, so that its sums need no barrier, and a block has four at once.
//
// A row has WARPS warps of threads, and each thread PACKS packs of it and of the next row. There are
// two blocks a multiprocessor, or one, and so fewer partial sums: 5 MB where version 2 has 23. The
// sums of wide rows' columns lie in shared memory (IN_SHARED): 12 bytes a column, read and written
// once a row, which takes less time than the row does to come from memory.
template <class T, int WARPS, int PACKS, bool IN_SHARED>
__global__ void __launch_bounds__(WARPS == 1 ? 128 : WARPS * 32)
layer_norm_backward_3(const T* dy, const T* x, const wide<T>* means,
                      const wide<T>* inverse_deviations, const T* weight, T* dtotal, T* dx,
                      wide<T>* partial, int rows, int columns, int rows_a_block, Dropout dropout) {
    DYN_SHARED(wide<T>, shared);
    constexpr int STRIDE = WARPS * WARP_SIZE;
    const int end = min(static_cast<int>(blockIdx.x + 1) * rows_a_block, rows);
    wide<T>* to = partial + 3LL * blockIdx.x * columns;
    if constexpr (IN_SHARED) {
        SharedSums<T, PACKS, STRIDE> down = {shared};
        for (int at = 0; at < 3 * PACKS * Pack<T>::SIZE; at++)
            shared[at * STRIDE + threadIdx.x] = 0;
        gradients_of_rows<T, WARPS, PACKS>(down, dy, x, means, inverse_deviations, weight, dtotal,
                                           dx, end, columns, rows_a_block, dropout);
        for (int which = 0; which < 3; which++)
            write_sums<T, PACKS>(down, which, to + which * columns, columns, STRIDE);
    } else {
        RegisterSums<T, PACKS> down = {};
        gradients_of_rows<T, WARPS, PACKS>(down, dy, x, means, inverse_deviations, weight, dtotal,
                                           dx, end, columns, rows_a_block, dropout);
#pragma unroll
        for (int which = 0; which < 3; which++) {
            if (WARPS == 1)
                add_warps<T, PACKS>(down, which, shared, to + which * columns, columns);
            else
                write_sums<T, PACKS>(down, which, to + which * columns, columns, STRIDE);
        }
    }
}
