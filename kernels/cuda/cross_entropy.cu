// The loss of a masked language model and its gradient, over blocks of the vocabulary.
//
//     z = x Wᵀ + b,   loss = 1/n Σ_rows (log Σ_v exp(z_v − m) − (z_label − m)),   m = max_v z_v
//     dz = dloss (softmax(z) − one-hot(label)) / n   in the n rows with a label, 0 in the others
//
// The logits of T rows and V words never stand in memory at once. A block of columns is multiplied
// out, read here, and overwritten by the next; the softmax over all of them is online, as that of
// attention. Backward multiplies each block out again, and turns it into dz where it lies.
//
// A row has at least one exponential a logit, and about 10 operations in each pass. Forward must
// read each logit once; backward reads and writes it once. At 2 bytes a logit that is 5 operations a
// byte forward and 2.5 backward, where a GPU can do ten or more: the limit is the memory's bandwidth,
// or the cache's where a block of logits stays in it. Next come the exponentials: a multiprocessor
// does 16 a clock (compute capability 8.0 and 9.0), which is 32 bytes of 2-byte logits.
// The matrix products around these kernels, one forward and three backward of 2 T V E operations
// each, are most of the work, and not done here.
#include "column_sums.cuh"

constexpr int IGNORE_INDEX = -100;
// Of version 2 on a multiprocessor: told to make room for more, the compiler spills in float64.
constexpr int BLOCKS = 2;

// What is known of one row after some blocks of its columns.
template <class A>
struct RowState {
    A largest, total, own;  // max z, Σ exp(z − max z), z_label
};

// A row's state after one more block of its columns, of which the largest, and Σ exp(z − largest),
// are given. `label` is counted from the block's first column. One outside the vocabulary meets no
// column: its row, and so the loss, stays not a number.
template <class T>
__device__ __forceinline__ void add_columns(RowState<wide<T>>* state, const T* z, const T* bias,
                                            long long label, int columns, bool begins,
                                            wide<T> largest, wide<T> total) {
    RowState<wide<T>> after = {largest, total, not_a_number<wide<T>>()};
    if (!begins) {
        const RowState<wide<T>> before = *state;
        after.largest = fmax(before.largest, largest);
        after.total = before.total * exp(before.largest - after.largest) +
                      total * exp(largest - after.largest);
        after.own = before.own;
    }
    if (label >= 0 && label < columns) after.own = widen(z[label]) + widen(bias[label]);
    *state = after;
}

// Forward, version 1: a block of threads a row, which is read twice. Grid: (rows).
//
// `logits` are x Wᵀ of the columns first … first + columns − 1; `states` are (rows, 3).
// Bytes: 2 · rows · columns · size, the second time mostly from the cache, one number a load.
template <class T>
__global__ void cross_entropy_forward_1(const T* logits, const T* bias, const long long* labels,
                                        RowState<wide<T>>* states, int first, int columns) {
    const int row = blockIdx.x;
    const T* z = logits + static_cast<long long>(row) * columns;
    wide<T> largest = lowest<wide<T>>();
    for (int v = threadIdx.x; v < columns; v += blockDim.x)
        largest = fmax(largest, widen(z[v]) + widen(bias[v]));
    largest = block_max(largest);
    wide<T> total = 0;
    for (int v = threadIdx.x; v < columns; v += blockDim.x)
        total += exp(widen(z[v]) + widen(bias[v]) - largest);
    total = block_sum(total);
    if (threadIdx.x == 0)
        add_columns(states + row, z, bias, labels[row] - first, columns, first == 0, largest, total);
}

// A thread's softmax with one more pack of its row: the largest logit so far, and Σ exp(z − largest),
// which shrinks when the pack brings a larger one.
template <class T>
__device__ __forceinline__ void add_pack(const Pack<T>& z, const Pack<T>& b, wide<T>& largest,
                                         wide<T>& total) {
    const wide<T> before = largest;
    wide<T> sums[Pack<T>::SIZE];
#pragma unroll
    for (int i = 0; i < Pack<T>::SIZE; i++) {
        sums[i] = widen(z.values[i]) + widen(b.values[i]);
        largest = fmax(largest, sums[i]);
    }
    total *= exp(before - largest);
#pragma unroll
    for (int i = 0; i < Pack<T>::SIZE; i++) total += exp(sums[i] - largest);
}

// Forward, version 2: the row is read once, 16 bytes a load; without a label it is not read.
//
// Each thread has a softmax of its own, online; they are merged at the end. Two packs of logits, and
// of the bias, are on their way before the first is used. Bytes: rows · columns · size of the rows
// with a label; the bias comes from the cache. Exponentials: one a logit, one a pack, one a thread.
template <class T>
__global__ void __launch_bounds__(256, BLOCKS)
cross_entropy_forward_2(const T* logits, const T* bias, const long long* labels,
                        RowState<wide<T>>* states, int first, int columns) {
    constexpr int PACKS = 2;
    const int row = blockIdx.x, stride = blockDim.x * Pack<T>::SIZE;
    if (labels[row] == IGNORE_INDEX) return;  // the whole block; nobody looks at the state either
    const T* z = logits + static_cast<long long>(row) * columns;
    wide<T> own_largest = lowest<wide<T>>(), total = 0;
#pragma unroll 1
    for (int begin = threadIdx.x * Pack<T>::SIZE; begin < columns; begin += PACKS * stride) {
        Pack<T> loaded[PACKS], b[PACKS];
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int column = begin + k * stride;
            if (column >= columns) break;
            loaded[k] = load_pack(z + column);
            b[k] = load_pack(bias + column);
        }
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            if (begin + k * stride >= columns) break;
            add_pack(loaded[k], b[k], own_largest, total);
        }
    }
    const wide<T> largest = block_max(own_largest);
    total = block_sum(total * exp(own_largest - largest));
    if (threadIdx.x == 0)
        add_columns(states + row, z, bias, labels[row] - first, columns, first == 0, largest, total);
}

// The mean over the rows that have a label, and 1 / n. Grid: (1). Bytes: 20 a row.
template <class T>
__global__ void cross_entropy_loss_1(const RowState<wide<T>>* states, const long long* labels,
                                     T* loss, wide<T>* inverse_count, int rows) {
    wide<T> sum = 0, count = 0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        if (labels[row] == IGNORE_INDEX) continue;
        const RowState<wide<T>> state = states[row];
        sum += log(state.total) - (state.own - state.largest);
        count += 1;
    }
    const Pair<wide<T>> sums = block_sums(sum, count);
    if (threadIdx.x != 0) return;
    *loss = narrow<T>(sums.first / sums.second);  // of no label at all: not a number
    *inverse_count = sums.second > 0 ? 1 / sums.second : 0;
}

// Backward, version 1: dz in the place of the logits, and the partial sums of db; one thread a column
// of `rows_a_block` rows. Grid: (columns / threads, parts).
//
// Bytes: 2 · rows · columns · size, one number a load; the state and the label of a row, 20 bytes,
// once a logit from the cache, and a division with them.
template <class T>
__global__ void cross_entropy_backward_1(T* logits, const T* bias, const long long* labels,
                                         const RowState<wide<T>>* states,
                                         const wide<T>* inverse_count, const T* dloss,
                                         wide<T>* partial, int first, int rows, int columns,
                                         int rows_a_block) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const wide<T> scale = widen(*dloss) * *inverse_count;
    const int start = blockIdx.y * rows_a_block, end = min(start + rows_a_block, rows);
    wide<T> sum = 0;
    for (int row = start; row < end; row++) {
        T* z = logits + static_cast<long long>(row) * columns + column;
        wide<T> gradient = 0;
        if (labels[row] != IGNORE_INDEX) {
            const RowState<wide<T>> state = states[row];
            const wide<T> p = exp(widen(*z) + widen(bias[column]) - state.largest) / state.total;
            gradient = scale * (p - (labels[row] == first + column ? wide<T>(1) : wide<T>(0)));
        }
        *z = narrow<T>(gradient);
        sum += gradient;
    }
    partial[blockIdx.y * columns + column] = sum;
}

// Backward, version 2: a pack of columns a thread, 8 rows of the block at once.
//
// Threads: (32, 8). Warp w takes every eighth row. Labels and states come into shared memory 64 rows
// at a time, read once by the block, and 1 / Σ exp with them: one division a row in place of one a
// logit. The eight sums of a column meet in shared memory at the end. Bytes: 2 · rows · columns ·
// size, 16 at a time, the half of it in rows without a label, which are not read.
template <class T>
__global__ void __launch_bounds__(256, BLOCKS)
cross_entropy_backward_2(T* logits, const T* bias, const long long* labels,
                         const RowState<wide<T>>* states, const wide<T>* inverse_count,
                         const T* dloss, wide<T>* partial, int first, int rows, int columns,
                         int rows_a_block) {
    constexpr int SIZE = Pack<T>::SIZE, WARPS = 8, ROWS = 64;
    SHARED(long long, label_of, [ROWS]);
    SHARED(wide<T>, largest_of, [ROWS]);
    SHARED(wide<T>, inverse_of, [ROWS]);
    SHARED(wide<T>, sums, [WARPS][WARP_SIZE * SIZE + 1]);
    const int thread = threadIdx.y * WARP_SIZE + threadIdx.x;
    const int column = (blockIdx.x * WARP_SIZE + threadIdx.x) * SIZE;
    const wide<T> scale = widen(*dloss) * *inverse_count;
    const int start = blockIdx.y * rows_a_block, end = min(start + rows_a_block, rows);
    Pack<T> b = {};
    if (column < columns) b = load_pack(bias + column);
    wide<T> sum[SIZE] = {};
    for (int begin = start; begin < end; begin += ROWS) {
        const int count = min(ROWS, end - begin);
        __syncthreads();  // all are done with the rows before
        if (thread < count) {
            const long long label = labels[begin + thread];
            label_of[thread] = label;
            if (label != IGNORE_INDEX) {
                const RowState<wide<T>> state = states[begin + thread];
                largest_of[thread] = state.largest;
                inverse_of[thread] = 1 / state.total;
            }
        }
        __syncthreads();
        if (column < columns) {
            for (int r = threadIdx.y; r < count; r += WARPS) {
                T* z = logits + static_cast<long long>(begin + r) * columns + column;
                Pack<T> out = {};
                if (label_of[r] != IGNORE_INDEX) {
                    const Pack<T> loaded = load_pack(z);
                    const wide<T> largest = largest_of[r], inverse = inverse_of[r];
                    const unsigned long long place = label_of[r] - (first + column);
                    const int own = place < SIZE ? static_cast<int>(place) : SIZE;  // SIZE: elsewhere
#pragma unroll
                    for (int i = 0; i < SIZE; i++) {
                        const wide<T> logit = widen(loaded.values[i]) + widen(b.values[i]);
                        const wide<T> p = exp(logit - largest) * inverse;
                        const wide<T> gradient = scale * (p - (i == own ? wide<T>(1) : wide<T>(0)));
                        out.values[i] = narrow<T>(gradient);
                        sum[i] += gradient;
                    }
                }
                store_pack(z, out);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < SIZE; i++) sums[threadIdx.y][threadIdx.x * SIZE + i] = sum[i];
    __syncthreads();
    const int summed = blockIdx.x * WARP_SIZE * SIZE + thread;
    if (thread < WARP_SIZE * SIZE && summed < columns) {
        wide<T> total = 0;
        for (int warp = 0; warp < WARPS; warp++) total += sums[warp][thread];
        partial[blockIdx.y * columns + summed] = total;
    }
}
