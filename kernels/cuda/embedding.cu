// The gradient of an embedding: the gradients of its lookups, added up row by row of the table.
//
//     dW[v] += Σ over i with ids[i] = v of dy[i],   and nothing for v = padding_idx
//
// It reads each number of dy once, and reads and writes once the rows of dW that were looked up: an
// addition for every number that is read. The limit is the memory's bandwidth. What makes it more than
// a copy is that several tokens may have one row. Atomic additions would need one kernel, and round in
// a new order each time. Here each row is summed in wide numbers, in an order that depends on the ids
// alone, so that the same input gives the same bits, on every GPU.
#include "device.cuh"

// The row that a lookup's gradient belongs to; `vocabulary`, which is none, where to no row.
__device__ __forceinline__ int row_of(long long id, int vocabulary, int padding_idx) {
    const bool has_one = id >= 0 && id < vocabulary && id != padding_idx;
    return has_one ? static_cast<int>(id) : vocabulary;
}

// Version 1: one thread a column of a row of the table, that walks over all ids.
//
// Grid: (vocabulary, columns / threads). Bytes: each block reads all ids, which stay in the cache:
// vocabulary · positions · 8 of them, beside positions · columns · size of gradients. The table is
// read and written whole.
template <class T>
__global__ void embedding_backward_1(const T* dy, const long long* ids, T* dweight, int positions,
                                     int vocabulary, int columns, int padding_idx) {
    const int row = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    wide<T> sum = 0;
    for (int at = 0; at < positions; at++)
        if (row_of(ids[at], vocabulary, padding_idx) == row)
            sum += widen(dy[static_cast<long long>(at) * columns + column]);
    T* slot = dweight + static_cast<long long>(row) * columns + column;
    *slot = narrow<T>(widen(*slot) + sum);
}

// ---- The positions in the order of their rows -------------------------------------------------
//
// A position's place is the number of those that come before it: of smaller rows, and of the same row
// further up. It is counted in two steps, of `tile` positions at a time, tile = threads of a block:
// within its own tile by looking at all, in every other tile, which is in order then, by halving.
// That is positions · (tile + positions / tile · log₂ tile) comparisons: of 16384, in tiles of 512, 800
// each. Bytes: 32 a position, and what stays in the cache.

// `rows` and `order` of each tile in order: the row, and the position that it was at. Grid: (tiles).
__global__ void sort_tiles_1(const long long* ids, int* rows, int* order, int positions,
                             int vocabulary, int padding_idx) {
    DYN_SHARED(int, tile);
    const int size = blockDim.x, own = threadIdx.x, at = blockIdx.x * size + own;
    const int row = at < positions ? row_of(ids[at], vocabulary, padding_idx) : vocabulary;
    tile[own] = row;
    __syncthreads();
    if (at >= positions) return;
    int before = 0;
    for (int other = 0; other < own; other++) before += tile[other] <= row;
    for (int other = own + 1; other < size; other++) before += tile[other] < row;
    const int place = blockIdx.x * size + before;
    rows[place] = row;
    order[place] = at;
}

// How many of the numbers, which are in order, are below the limit.
__device__ __forceinline__ int count_below(const int* numbers, int count, int limit) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (numbers[middle] < limit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// `rows` and `order` of all. Grid: (tiles).
__global__ void merge_tiles_1(const int* tile_rows, const int* tile_order, int* rows, int* order,
                              int positions) {
    const int size = blockDim.x, tiles = gridDim.x, own = blockIdx.x, at = own * size + threadIdx.x;
    if (at >= positions) return;
    const int row = tile_rows[at];
    int place = threadIdx.x;
    for (int tile = 0; tile < tiles; tile++) {
        if (tile == own) continue;
        const int first = tile * size, count = min(size, positions - first);
        place += count_below(tile_rows + first, count, tile < own ? row + 1 : row);
    }
    rows[place] = row;
    order[place] = tile_order[at];
}

// ---- The sums of positions in order -----------------------------------------------------------

// Version 2: one thread a column of a run of equal rows.
//
// Grid: (positions, columns / threads); a block whose position does not begin a run ends. Bytes: those
// of the limit, and 8 a position. A long run is a long way for one block: where every token has the
// same row, one walks over all of them alone.
template <class T>
__global__ void embedding_backward_2(const T* dy, const int* rows, const int* order, T* dweight,
                                     int positions, int vocabulary, int columns) {
    const int first = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    const int row = rows[first];
    if (row == vocabulary || (first > 0 && rows[first - 1] == row) || column >= columns) return;
    wide<T> sum = 0;
    for (int at = first; at < positions && rows[at] == row; at++)
        sum += widen(dy[static_cast<long long>(order[at]) * columns + column]);
    T* slot = dweight + static_cast<long long>(row) * columns + column;
    *slot = narrow<T>(widen(*slot) + sum);
}

constexpr int THREADS = 256;  // of a block of version 3

// Where a pack's partial sum lies: of each chunk, of the run that began before it (0) and of the one
// that goes on after it (1). A pack's numbers lie apart, so that neighbours' lie together.
template <class T, class P>
__device__ __forceinline__ P* part_at(P* partial, int chunk, int which, int packs, int pack) {
    const long long sum = static_cast<long long>(chunk) * 2 + which;
    return partial + sum * Pack<T>::SIZE * packs + pack;
}

template <class T>
__device__ __forceinline__ void add_to_slot(T* slot, const wide<T> (&sum)[Pack<T>::SIZE]) {
    Pack<T> pack = load_pack(slot);
#pragma unroll
    for (int i = 0; i < Pack<T>::SIZE; i++)
        pack.values[i] = narrow<T>(widen(pack.values[i]) + sum[i]);
    store_pack(slot, pack);
}

// Version 3: one thread a pack of a chunk: of `chunk_size` positions, whatever runs they belong to.
//
// Threads: (packs of a row, chunks). Grid: (chunks / threads in y, packs / threads in x). So a run is
// summed by as many threads as it has chunks. One that lies within a chunk is added to its row here;
// of others, each chunk keeps a part, which `embedding_finish_3` adds up. Four positions are loaded
// before the first is used. Bytes: those of the limit, 8 a position, and, where runs are longer than
// chunks, 2 · 4 / chunk_size a number for the parts, written and read.
template <class T>
__global__ void __launch_bounds__(THREADS)
embedding_backward_3(const T* dy, const int* rows, const int* order, T* dweight, wide<T>* partial,
                     int positions, int vocabulary, int columns, int chunk_size) {
    constexpr int SIZE = Pack<T>::SIZE, AHEAD = 4;
    const int packs = columns / SIZE, pack = blockIdx.y * blockDim.x + threadIdx.x;
    const int chunk = blockIdx.x * blockDim.y + threadIdx.y;
    const int first = chunk * chunk_size;
    int end = min(first + chunk_size, positions);
    while (end > first && rows[end - 1] == vocabulary) end--;  // those without a row come last
    if (pack >= packs || first >= end) return;
    bool began_before = first > 0 && rows[first - 1] == rows[first];
    wide<T> sum[SIZE] = {};
    for (int next = first; next < end; next += AHEAD) {
        Pack<T> loaded[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int at = next + k;
            if (at < end)
                loaded[k] = load_pack(dy + static_cast<long long>(order[at]) * columns + pack * SIZE);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int at = next + k;
            if (at >= end) break;
            const int row = rows[at];
#pragma unroll
            for (int i = 0; i < SIZE; i++) sum[i] += widen(loaded[k].values[i]);
            const bool goes_on = at + 1 < positions && rows[at + 1] == row;
            if (goes_on && at + 1 < end) continue;
            if (began_before || goes_on) {
                wide<T>* part = part_at<T>(partial, chunk, began_before ? 0 : 1, packs, pack);
#pragma unroll
                for (int i = 0; i < SIZE; i++) part[i * packs] = sum[i];
            } else {
                add_to_slot(dweight + static_cast<long long>(row) * columns + pack * SIZE, sum);
            }
            began_before = false;
#pragma unroll
            for (int i = 0; i < SIZE; i++) sum[i] = 0;
        }
    }
}

// The sum of a run's parts, added to its row.
//
// Grid: (chunks, packs / threads in x), threads as above. A block whose chunk does not begin a run
// that goes on ends. The threads of one pack take parts in turn, and their sums meet in shared memory.
// Bytes: the parts, and the rows.
template <class T>
__global__ void __launch_bounds__(THREADS)
embedding_finish_3(const wide<T>* partial, const int* rows, T* dweight, int positions,
                   int vocabulary, int columns, int chunk_size) {
    constexpr int SIZE = Pack<T>::SIZE;
    SHARED(wide<T>, sums, [SIZE][THREADS]);
    const int packs = columns / SIZE, pack = blockIdx.y * blockDim.x + threadIdx.x;
    const int chunk = blockIdx.x, chunks = gridDim.x, walkers = blockDim.y;
    const int first = chunk * chunk_size, end = first + chunk_size;
    if (end >= positions) return;
    const int row = rows[end];
    const bool began_before = first > 0 && rows[first - 1] == row;
    if (row == vocabulary || rows[end - 1] != row || began_before) return;
    wide<T> sum[SIZE] = {};
    if (pack < packs) {
        // The first of a thread's parts is that of this chunk, or of one after it.
        for (int part = chunk + threadIdx.y; part < chunks; part += walkers) {
            if (rows[part * chunk_size] != row && part > chunk) break;
            const wide<T>* of = part_at<T>(partial, part, part == chunk ? 1 : 0, packs, pack);
#pragma unroll
            for (int i = 0; i < SIZE; i++) sum[i] += of[i * packs];
        }
    }
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
    for (int i = 0; i < SIZE; i++) sums[i][thread] = sum[i];
    __syncthreads();
    if (threadIdx.y > 0 || pack >= packs) return;
    for (int other = 1; other < walkers; other++)
#pragma unroll
        for (int i = 0; i < SIZE; i++) sum[i] += sums[i][other * blockDim.x + threadIdx.x];
    add_to_slot(dweight + static_cast<long long>(row) * columns + pack * SIZE, sum);
}
