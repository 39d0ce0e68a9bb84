// The loss of a masked language model and its gradient, over blocks of the vocabulary.
//
//     z = x Wᵀ + b,   loss = 1/n Σ_rows (log Σ_v exp(z_v − m) − (z_label − m)),   m = max_v z_v
//     dz = dloss (softmax(z) − one-hot(label)) / n   in the n rows with a label, 0 in the others
//
// The logits of T rows and V words never stand in memory at once. A block of columns is multiplied
// out, read here, and overwritten by the next; the softmax over all of them is online, as that of
// attention. Backward multiplies each block out again, and turns it into dz where it lies.
//
// Forward reads each logit once, for about 10 operations; backward reads and writes it once, for about
// 10: the limit is the memory's bandwidth. The matrix products around these kernels, one forward and
// three backward of 2 T V E operations each, are most of the work, and not done here.
#include "column_sums.cuh"

constexpr int IGNORE_INDEX = -100;

// What is known of one row after some blocks of its columns.
template <class A>
struct RowState {
    A largest, total, own;  // max z, Σ exp(z − max z), z_label
};

// One more block of columns: a block of threads a row. Grid: (rows).
//
// `logits` are x Wᵀ of the columns first … first + columns − 1; `states` are (rows, 3). A label
// outside the vocabulary meets no column: its row, and so the loss, stays not a number.
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
    if (threadIdx.x != 0) return;
    RowState<wide<T>> state = {largest, total, not_a_number<wide<T>>()};
    if (first > 0) {
        const RowState<wide<T>> before = states[row];
        state.largest = fmax(before.largest, largest);
        state.total = before.total * exp(before.largest - state.largest) +
                      total * exp(largest - state.largest);
        state.own = before.own;
    }
    const long long label = labels[row] - first;
    if (label >= 0 && label < columns) state.own = widen(z[label]) + widen(bias[label]);
    states[row] = state;
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

// dz in the place of the logits, and the partial sums of db: one thread a column of `rows_a_block`
// rows. Grid: (columns / threads, parts).
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
