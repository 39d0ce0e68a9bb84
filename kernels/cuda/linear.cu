// The gradient of a linear map's bias. Its matrix products are done by NVIDIA's library.
//
//     db = Σ_rows dy
//
// It reads a number for each addition: the limit is the memory's bandwidth.
#include "column_sums.cuh"

// The partial sums of db: one thread a column of `rows_a_block` rows.
//
// Grid: (columns / threads, parts). A warp reads 32 neighbouring columns, so rows are read whole.
// Bytes: rows · columns · size, and parts · columns · 4 of partial sums, written and read.
template <class T>
__global__ void sum_of_rows_1(const T* dy, wide<T>* partial, int rows, int columns,
                              int rows_a_block) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const int first = blockIdx.y * rows_a_block, end = min(first + rows_a_block, rows);
    wide<T> sum = 0;
    for (int row = first; row < end; row++)
        sum += widen(dy[static_cast<long long>(row) * columns + column]);
    partial[blockIdx.y * columns + column] = sum;
}
