// Self-attention of each head of each sequence, forward and backward.
//
//     s_ij = Σ_d q_id k_jd / √D,  p_ij = exp(s_ij − L_i),  L_i = log Σ_j exp s_ij
//     c_i = Σ_j p̃_ij v_j,         p̃ = dropout(p)
//
//     δ_i = Σ_d dc_id c_id (= Σ_j p_ij dp_ij)
//     dv_j = Σ_i p̃_ij dc_i        dp_ij = dropout(dc_i · v_j)
//     ds_ij = p_ij (dp_ij − δ_i)   dq_i = Σ_j ds_ij k_j / √D    dk_j = Σ_i ds_ij q_i / √D
//
// Of the scores nothing is kept but L, one number a row: backward computes p again from q, k and L.
//
// Operations: 4 S² D a head and sequence forward, and 14 S² D backward. 10 S² D would do there; this
// backward forms q·k and dc·v twice, for dq and for dk and dv, and so needs no atomic additions and
// gives the same bits every time. Bytes: 4 S D numbers forward, 8 backward. At S = 512
// that is S/2 to S operations a byte in half precision: the limit is arithmetic, which the plain
// version does on one thread a dot product, and the last on the tensor cores.
//
// A masked key's score is the lowest number there is, which any other in its row outweighs; where
// every key of a sequence is masked all of them are alike, and so their scores are 0.
#include "philox.cuh"

constexpr int QUERY = 0, KEY = 1, VALUE = 2;

// Where the sequences lie, and how (tokens, 3, heads, head_size) is cut. `offsets` of a packed batch
// tell where each sequence starts; those of a padded one, where it is null, start `longest` apart.
// `refused`, of a packed batch, is forward's word to backward: whether the offsets are wrong.
struct Batch {
    const long long* offsets;
    const unsigned char* mask;  // (tokens,), 0 where a key is masked; or null
    double scale;               // 1 / √D
    int* refused;
    int tokens, longest, heads, head_size;
};
static_assert(sizeof(Batch) == 48, "as BATCH of attention.py");

struct Sequence {
    int start, length;
};
// Clamped, so that an offset that is wrong cannot lead outside the arrays.
__device__ __forceinline__ Sequence sequence_of(const Batch& batch, int b) {
    if (!batch.offsets) return {b * batch.longest, batch.longest};
    const long long tokens = batch.tokens;
    const long long start = min(max(batch.offsets[b], 0LL), tokens);
    const long long end = min(max(batch.offsets[b + 1], start), tokens);
    return {static_cast<int>(start), static_cast<int>(min(end - start, (long long)batch.longest))};
}

// The row of one token in query, key or value: D numbers.
template <class T>
__device__ __forceinline__ T* row_of(T* query_key_value, const Batch& batch, int part, int token,
                                     int head) {
    return query_key_value +
           ((static_cast<long long>(token) * 3 + part) * batch.heads + head) * batch.head_size;
}
template <class T>
__device__ __forceinline__ T* context_row(T* context, const Batch& batch, int token, int head) {
    return context + (static_cast<long long>(token) * batch.heads + head) * batch.head_size;
}
// The place of one row's L or δ: (heads, tokens).
__device__ __forceinline__ long long at_row(const Batch& batch, int token, int head) {
    return static_cast<long long>(head) * batch.tokens + token;
}

// Forward: whether the offsets are wrong: they do not rise from 0 to the number of tokens, or a
// sequence is longer than the longest. Then no number of the context is one; the blocks of a head share
// its rows. All threads of the block must ask: offsets may lie on the GPU, where nobody waits to look.
template <class T>
__device__ __forceinline__ bool refused(const Batch& batch, T* context) {
    if (!batch.offsets) return false;
    const int sequences = gridDim.z, block = blockIdx.z * gridDim.x + blockIdx.x;
    int wrong = batch.offsets[0] != 0 || batch.offsets[sequences] != batch.tokens;
    for (int b = threadIdx.x; b < sequences; b += blockDim.x) {
        // Unsigned: large where the offsets fall.
        const auto length = static_cast<unsigned long long>(batch.offsets[b + 1]) - batch.offsets[b];
        wrong |= length == 0 || length > static_cast<unsigned>(batch.longest);
    }
    wrong = __syncthreads_or(wrong);
    if (block == 0 && blockIdx.y == 0 && threadIdx.x == 0) *batch.refused = wrong;
    if (!wrong) return false;
    const int blocks = gridDim.x * gridDim.z;
    for (int token = block; token < batch.tokens; token += blocks)
        for (int d = threadIdx.x; d < batch.head_size; d += blockDim.x)
            context_row(context, batch, token, blockIdx.y)[d] = narrow<T>(not_a_number<wide<T>>());
    return true;
}
// Backward: a sequence that was not refused; else one of no tokens.
__device__ __forceinline__ Sequence accepted_sequence(const Batch& batch, int b) {
    if (batch.refused && *batch.refused) return {0, 0};
    return sequence_of(batch, b);
}

// Whether every key of a sequence is masked. All threads of the block must ask.
__device__ __forceinline__ bool all_masked(const Batch& batch, const Sequence& sequence) {
    if (!batch.mask) return false;
    int real = 0;
    for (int j = threadIdx.x; j < sequence.length; j += blockDim.x)
        real |= batch.mask[sequence.start + j];
    return !__syncthreads_or(real);
}
template <class A>
__device__ __forceinline__ A masked_score(const Batch& batch, int key_token, bool none_real, A score) {
    if (none_real) return A(0);
    if (batch.mask && !batch.mask[key_token]) return lowest<A>();
    return score;
}

// Dropout's word of one query and one key.
__device__ __forceinline__ unsigned word_of_score(const Dropout& dropout, int sequence, int head,
                                                  int start, int query, int key) {
    unsigned row = query, column = key;
    if (dropout.packed_columns) {
        row = dropout.packed_columns[start + query];
        column = dropout.packed_columns[start + key];
    }
    return word_of(philox(dropout, column / 4, row, sequence, head), column);
}
// What p of one query and one key is multiplied by: 0 or 1 / (1 − p).
template <class A>
__device__ __forceinline__ A keep_scale(const Dropout& dropout, int sequence, int head, int start,
                                        int query, int key) {
    if (!dropout.enabled) return A(1);
    const unsigned word = word_of_score(dropout, sequence, head, start, query, key);
    return word >= dropout.threshold ? A(dropout.scale) : A(0);
}

template <class T>
__device__ __forceinline__ wide<T> dot(const T* x, const T* y, int size) {
    wide<T> sum = 0;
    for (int d = 0; d < size; d++) sum += widen(x[d]) * widen(y[d]);
    return sum;
}

// ---- Version 1: a block a row of scores --------------------------------------------------------
//
// Every query reads all keys and values of its head again: 2 S² D numbers, mostly from the cache.

// Forward. Grid: (longest, heads, sequences). Shared memory: one row of scores.
template <class T>
__global__ void attention_forward_1(const T* query_key_value, T* context, wide<T>* log_sum_exp,
                                    Batch batch, Dropout dropout) {
    DYN_SHARED(wide<T>, scores);
    const int query = blockIdx.x, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = sequence_of(batch, blockIdx.z);
    if (refused(batch, context)) return;
    if (query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    const int token = sequence.start + query;
    const T* q = row_of(query_key_value, batch, QUERY, token, head);
    wide<T> largest = lowest<wide<T>>();
    for (int j = threadIdx.x; j < sequence.length; j += blockDim.x) {
        const int key = sequence.start + j;
        const wide<T> score =
            dot(q, row_of(query_key_value, batch, KEY, key, head), D) * wide<T>(batch.scale);
        scores[j] = masked_score(batch, key, none_real, score);
        largest = fmax(largest, scores[j]);
    }
    largest = block_max(largest);
    wide<T> sum = 0;
    for (int j = threadIdx.x; j < sequence.length; j += blockDim.x) {
        scores[j] = exp(scores[j] - largest);
        sum += scores[j];
    }
    sum = block_sum(sum);
    for (int j = threadIdx.x; j < sequence.length; j += blockDim.x)
        scores[j] *= keep_scale<wide<T>>(dropout, blockIdx.z, head, sequence.start, query, j) / sum;
    __syncthreads();
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        wide<T> mean = 0;
        for (int j = 0; j < sequence.length; j++)
            mean += scores[j] *
                    widen(row_of(query_key_value, batch, VALUE, sequence.start + j, head)[d]);
        context_row(context, batch, token, head)[d] = narrow<T>(mean);
    }
    if (threadIdx.x == 0) log_sum_exp[at_row(batch, token, head)] = largest + log(sum);
}

// δ of every row: one warp a row of a head. Grid: (tokens, heads).
//
// Of a batch that was refused, no number of the gradient is one: the rows are written here, and by
// nobody else.
//
// Bytes: dc and c once.
template <class T>
__global__ void attention_delta_1(const T* dcontext, const T* context, wide<T>* delta,
                                  T* dquery_key_value, Batch batch) {
    const int token = blockIdx.x, head = blockIdx.y;
    const T* dc = context_row(dcontext, batch, token, head);
    const T* c = context_row(context, batch, token, head);
    wide<T> sum = 0;
    for (int d = threadIdx.x; d < batch.head_size; d += WARP_SIZE) sum += widen(dc[d]) * widen(c[d]);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) delta[at_row(batch, token, head)] = sum;
    if (!batch.refused || !*batch.refused) return;
    for (int d = threadIdx.x; d < batch.head_size; d += WARP_SIZE)
        for (int part = QUERY; part <= VALUE; part++)
            row_of(dquery_key_value, batch, part, token, head)[d] =
                narrow<T>(not_a_number<wide<T>>());
}

// p̃ and ds of one query and one key.
template <class T>
__device__ __forceinline__ Pair<wide<T>> rebuilt(const T* query_key_value, const T* dcontext,
                                                 const wide<T>* log_sum_exp, const wide<T>* delta,
                                                 const Batch& batch, const Dropout& dropout,
                                                 const Sequence& sequence, bool none_real, int b,
                                                 int head, int query, int key) {
    const int D = batch.head_size, query_token = sequence.start + query;
    const int key_token = sequence.start + key;
    const T* q = row_of(query_key_value, batch, QUERY, query_token, head);
    const T* k = row_of(query_key_value, batch, KEY, key_token, head);
    const T* v = row_of(query_key_value, batch, VALUE, key_token, head);
    const wide<T> score = dot(q, k, D) * wide<T>(batch.scale);
    const long long row = at_row(batch, query_token, head);
    const wide<T> p = exp(masked_score(batch, key_token, none_real, score) - log_sum_exp[row]);
    const wide<T> keep = keep_scale<wide<T>>(dropout, b, head, sequence.start, query, key);
    const wide<T> dp = dot(context_row(dcontext, batch, query_token, head), v, D) * keep;
    return {p * keep, p * (dp - delta[row])};
}

// dq. Grid: (longest, heads, sequences). Shared memory: one row of ds.
template <class T>
__global__ void attention_backward_query_1(const T* dcontext, const T* query_key_value,
                                           const wide<T>* log_sum_exp, const wide<T>* delta,
                                           T* dquery_key_value, Batch batch, Dropout dropout) {
    DYN_SHARED(wide<T>, dscores);
    const int query = blockIdx.x, head = blockIdx.y;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    for (int j = threadIdx.x; j < sequence.length; j += blockDim.x)
        dscores[j] = rebuilt(query_key_value, dcontext, log_sum_exp, delta, batch, dropout, sequence,
                             none_real, blockIdx.z, head, query, j)
                         .second;
    __syncthreads();
    for (int d = threadIdx.x; d < batch.head_size; d += blockDim.x) {
        wide<T> sum = 0;
        for (int j = 0; j < sequence.length; j++)
            sum += dscores[j] *
                   widen(row_of(query_key_value, batch, KEY, sequence.start + j, head)[d]);
        row_of(dquery_key_value, batch, QUERY, sequence.start + query, head)[d] =
            narrow<T>(sum * wide<T>(batch.scale));
    }
}

// dk and dv. Grid: (longest, heads, sequences). Shared memory: one column of p̃ and one of ds.
template <class T>
__global__ void attention_backward_key_1(const T* dcontext, const T* query_key_value,
                                         const wide<T>* log_sum_exp, const wide<T>* delta,
                                         T* dquery_key_value, Batch batch, Dropout dropout) {
    DYN_SHARED(wide<T>, probabilities);
    const int key = blockIdx.x, head = blockIdx.y;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (key >= sequence.length) return;
    wide<T>* dscores = probabilities + sequence.length;
    const bool none_real = all_masked(batch, sequence);
    for (int i = threadIdx.x; i < sequence.length; i += blockDim.x) {
        const Pair<wide<T>> both =
            rebuilt(query_key_value, dcontext, log_sum_exp, delta, batch, dropout, sequence,
                    none_real, blockIdx.z, head, i, key);
        probabilities[i] = both.first;
        dscores[i] = both.second;
    }
    __syncthreads();
    for (int d = threadIdx.x; d < batch.head_size; d += blockDim.x) {
        wide<T> dkey = 0, dvalue = 0;
        for (int i = 0; i < sequence.length; i++) {
            const int token = sequence.start + i;
            dkey += dscores[i] * widen(row_of(query_key_value, batch, QUERY, token, head)[d]);
            dvalue += probabilities[i] * widen(context_row(dcontext, batch, token, head)[d]);
        }
        const int token = sequence.start + key;
        row_of(dquery_key_value, batch, KEY, token, head)[d] =
            narrow<T>(dkey * wide<T>(batch.scale));
        row_of(dquery_key_value, batch, VALUE, token, head)[d] = narrow<T>(dvalue);
    }
}

// ---- Version 2: blocks of 32 × 32 scores -------------------------------------------------------
//
// A block holds 32 queries in shared memory and walks over the keys and values, 32 at a time; each
// of them is read S/32 times instead of S. The softmax is online: m is the largest score so far and
// l = Σ exp(s − m); where m grows, l and the sum of values are scaled by exp(m_old − m_new).
//
// 64 threads, each with 4 × 4 scores and 4 rows × D/8 columns of the sum. Rows of a tile are D + 1
// numbers apart, so that 8 threads that read 8 rows of one column meet 8 banks. Every product is
// computed in the wide type, which makes this the version for float32 and float64: two multiply-adds
// for each load from shared memory is the limit.

constexpr int TILE = 32, ACROSS = 8, EACH = TILE / ACROSS;

// `count` rows of one part of query_key_value (or of the context, parts = 1), widened; zeros beyond.
template <int D_MAX, class T>
__device__ __forceinline__ void load_tile(wide<T>* tile, const T* first, long long stride, int count,
                                          int head_size) {
    for (int at = threadIdx.x; at < TILE * D_MAX; at += blockDim.x) {
        const int row = at / D_MAX, d = at % D_MAX;
        const bool inside = row < count && d < head_size;
        tile[row * (D_MAX + 1) + d] = inside ? widen(first[row * stride + d]) : wide<T>(0);
    }
}

// out[r][c] = Σ_d a[own row r][d] b[own column c][d]
template <int D_MAX, class A>
__device__ __forceinline__ void tile_products(const A* a, const A* b, A (&out)[EACH][EACH]) {
    const int row = threadIdx.x / ACROSS * EACH, column = threadIdx.x % ACROSS;
#pragma unroll
    for (int r = 0; r < EACH; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) out[r][c] = 0;
#pragma unroll 4
    for (int d = 0; d < D_MAX; d++) {
        A other[EACH];
#pragma unroll
        for (int c = 0; c < EACH; c++) other[c] = b[(column + c * ACROSS) * (D_MAX + 1) + d];
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            const A own = a[(row + r) * (D_MAX + 1) + d];
#pragma unroll
            for (int c = 0; c < EACH; c++) out[r][c] = fma(own, other[c], out[r][c]);
        }
    }
}

// sums[r][c] += Σ_j weights[own row r][j] b[j][own column c], the weights by way of shared memory.
template <int D_MAX, class A>
__device__ __forceinline__ void add_weighted(A (&sums)[EACH][D_MAX / ACROSS],
                                             const A (&weights)[EACH][EACH],
                                             A (*exchanged)[TILE + 1], const A* b) {
    const int row = threadIdx.x / ACROSS * EACH, column = threadIdx.x % ACROSS;
    __syncwarp();  // a row is of one warp: all of it have read the weights before these
#pragma unroll
    for (int r = 0; r < EACH; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) exchanged[row + r][column + c * ACROSS] = weights[r][c];
    __syncwarp();
#pragma unroll 2
    for (int j = 0; j < TILE; j++) {
        A own[EACH];
#pragma unroll
        for (int r = 0; r < EACH; r++) own[r] = exchanged[row + r][j];
#pragma unroll
        for (int c = 0; c < D_MAX / ACROSS; c++) {
            const A other = b[j * (D_MAX + 1) + column + c * ACROSS];
#pragma unroll
            for (int r = 0; r < EACH; r++) sums[r][c] = fma(own[r], other, sums[r][c]);
        }
    }
}

// A thread's part of 32 rows of gradients or context.
template <int D_MAX, class T>
__device__ __forceinline__ void store_tile(T* first, long long stride, int count, int head_size,
                                           const wide<T> (&sums)[EACH][D_MAX / ACROSS],
                                           wide<T> scale) {
    const int row = threadIdx.x / ACROSS * EACH, column = threadIdx.x % ACROSS;
#pragma unroll
    for (int r = 0; r < EACH; r++)
#pragma unroll
        for (int c = 0; c < D_MAX / ACROSS; c++) {
            const int d = column + c * ACROSS;
            if (row + r < count && d < head_size)
                first[(row + r) * stride + d] = narrow<T>(sums[r][c] * scale);
        }
}

// Forward. Grid: (longest / 32, heads, sequences). Shared memory: tiles of q, k and v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(TILE / EACH * ACROSS, 2)
attention_forward_2(const T* query_key_value, T* context, wide<T>* log_sum_exp, Batch batch,
                    Dropout dropout) {
    DYN_SHARED(wide<T>, queries);
    SHARED(wide<T>, exchanged, [TILE][TILE + 1]);
    wide<T>* keys = queries + TILE * (D_MAX + 1);
    wide<T>* values = keys + TILE * (D_MAX + 1);
    const int first_query = blockIdx.x * TILE, head = blockIdx.y;
    const Sequence sequence = sequence_of(batch, blockIdx.z);
    if (refused(batch, context)) return;
    if (first_query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    const int row = threadIdx.x / ACROSS * EACH, column = threadIdx.x % ACROSS;
    const long long stride = 3LL * batch.heads * batch.head_size;
    const int count = sequence.length - first_query;

    load_tile<D_MAX>(queries, row_of(query_key_value, batch, QUERY, sequence.start + first_query, head),
                     stride, count, batch.head_size);
    wide<T> largest[EACH], total[EACH], sums[EACH][D_MAX / ACROSS] = {};
#pragma unroll
    for (int r = 0; r < EACH; r++) largest[r] = lowest<wide<T>>(), total[r] = 0;
    for (int first = 0; first < sequence.length; first += TILE) {
        const int left = sequence.length - first, token = sequence.start + first;
        __syncthreads();  // all have used the keys and values before these
        load_tile<D_MAX>(keys, row_of(query_key_value, batch, KEY, token, head), stride, left,
                         batch.head_size);
        load_tile<D_MAX>(values, row_of(query_key_value, batch, VALUE, token, head), stride, left,
                         batch.head_size);
        __syncthreads();
        wide<T> weights[EACH][EACH];
        tile_products<D_MAX>(queries, keys, weights);
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            wide<T> now_largest = largest[r], sum = 0;
#pragma unroll
            for (int c = 0; c < EACH; c++) {
                const int key = column + c * ACROSS;
                if (key >= left) continue;
                weights[r][c] = masked_score(batch, token + key, none_real,
                                             weights[r][c] * wide<T>(batch.scale));
                now_largest = fmax(now_largest, weights[r][c]);
            }
            now_largest = warp_max<ACROSS>(now_largest);
#pragma unroll
            for (int c = 0; c < EACH; c++) {
                const int key = column + c * ACROSS;
                weights[r][c] = key < left ? exp(weights[r][c] - now_largest) : wide<T>(0);
                sum += weights[r][c];
                if (dropout.enabled && key < left && row + r < count)
                    weights[r][c] *= keep_scale<wide<T>>(dropout, blockIdx.z, head, sequence.start,
                                                         first_query + row + r, first + key);
            }
            const wide<T> rescale = exp(largest[r] - now_largest);
            total[r] = total[r] * rescale + warp_sum<ACROSS>(sum);
            largest[r] = now_largest;
#pragma unroll
            for (int c = 0; c < D_MAX / ACROSS; c++) sums[r][c] *= rescale;
        }
        add_weighted<D_MAX>(sums, weights, exchanged, values);
    }
#pragma unroll
    for (int r = 0; r < EACH; r++) {
#pragma unroll
        for (int c = 0; c < D_MAX / ACROSS; c++) sums[r][c] /= total[r];
        if (row + r < count && column == 0)
            log_sum_exp[at_row(batch, sequence.start + first_query + row + r, head)] =
                largest[r] + log(total[r]);
    }
    store_tile<D_MAX>(context_row(context, batch, sequence.start + first_query, head),
                      (long long)batch.heads * batch.head_size, count, batch.head_size, sums,
                      wide<T>(1));
}

// p̃ and ds of a thread's 4 × 4 scores, from q·k and dc·v; 0 outside the sequence.
template <class A, bool KEYS_ARE_ROWS>
__device__ __forceinline__ void rebuild_tile(A (&products)[EACH][EACH], A (&dvalues)[EACH][EACH],
                                             const A* log_sum_exp, const A* delta,
                                             const Batch& batch, const Dropout& dropout,
                                             const Sequence& sequence, bool none_real,
                                             int first_row, int first_column) {
    const int row = threadIdx.x / ACROSS * EACH, column = threadIdx.x % ACROSS;
#pragma unroll
    for (int r = 0; r < EACH; r++)
#pragma unroll
        for (int c = 0; c < EACH; c++) {
            const int i = first_row + row + r, j = first_column + column + c * ACROSS;
            const int query = KEYS_ARE_ROWS ? j : i, key = KEYS_ARE_ROWS ? i : j;
            if (query >= sequence.length || key >= sequence.length) {
                products[r][c] = dvalues[r][c] = 0;
                continue;
            }
            const int head = blockIdx.y;
            const long long at = at_row(batch, sequence.start + query, head);
            const A score = masked_score(batch, sequence.start + key, none_real,
                                         products[r][c] * A(batch.scale));
            const A p = exp(score - log_sum_exp[at]);
            const A keep = keep_scale<A>(dropout, blockIdx.z, head, sequence.start, query, key);
            products[r][c] = p * keep;
            dvalues[r][c] = p * (dvalues[r][c] * keep - delta[at]);
        }
}

// dq. Grid: (longest / 32, heads, sequences). Shared memory: tiles of q, dc, k and v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(TILE / EACH * ACROSS, 2)
attention_backward_query_2(const T* dcontext, const T* query_key_value, const wide<T>* log_sum_exp,
                           const wide<T>* delta, T* dquery_key_value, Batch batch,
                           Dropout dropout) {
    DYN_SHARED(wide<T>, queries);
    SHARED(wide<T>, exchanged, [TILE][TILE + 1]);
    wide<T>* gradients = queries + TILE * (D_MAX + 1);
    wide<T>* keys = gradients + TILE * (D_MAX + 1);
    wide<T>* values = keys + TILE * (D_MAX + 1);
    const int first_query = blockIdx.x * TILE, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (first_query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    const long long stride = 3LL * batch.heads * D, context_stride = (long long)batch.heads * D;
    const int count = sequence.length - first_query, own = sequence.start + first_query;

    load_tile<D_MAX>(queries, row_of(query_key_value, batch, QUERY, own, head), stride, count, D);
    load_tile<D_MAX>(gradients, context_row(dcontext, batch, own, head), context_stride, count, D);
    wide<T> dquery[EACH][D_MAX / ACROSS] = {};
    for (int first = 0; first < sequence.length; first += TILE) {
        const int left = sequence.length - first, token = sequence.start + first;
        __syncthreads();  // all have used the keys and values before these
        load_tile<D_MAX>(keys, row_of(query_key_value, batch, KEY, token, head), stride, left, D);
        load_tile<D_MAX>(values, row_of(query_key_value, batch, VALUE, token, head), stride, left, D);
        __syncthreads();
        wide<T> products[EACH][EACH], dscores[EACH][EACH];
        tile_products<D_MAX>(queries, keys, products);
        tile_products<D_MAX>(gradients, values, dscores);
        rebuild_tile<wide<T>, false>(products, dscores, log_sum_exp, delta, batch, dropout, sequence,
                                     none_real, first_query, first);
        add_weighted<D_MAX>(dquery, dscores, exchanged, keys);
    }
    store_tile<D_MAX>(row_of(dquery_key_value, batch, QUERY, own, head), stride, count, D, dquery,
                      wide<T>(batch.scale));
}

// dk and dv. Grid: (longest / 32, heads, sequences). Shared memory: tiles of k, v, q and dc.
template <class T, int D_MAX>
__global__ void __launch_bounds__(TILE / EACH * ACROSS, 2)
attention_backward_key_2(const T* dcontext, const T* query_key_value, const wide<T>* log_sum_exp,
                         const wide<T>* delta, T* dquery_key_value, Batch batch, Dropout dropout) {
    DYN_SHARED(wide<T>, keys);
    SHARED(wide<T>, exchanged, [TILE][TILE + 1]);
    wide<T>* values = keys + TILE * (D_MAX + 1);
    wide<T>* queries = values + TILE * (D_MAX + 1);
    wide<T>* gradients = queries + TILE * (D_MAX + 1);
    const int first_key = blockIdx.x * TILE, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (first_key >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    const long long stride = 3LL * batch.heads * D, context_stride = (long long)batch.heads * D;
    const int count = sequence.length - first_key, own = sequence.start + first_key;

    load_tile<D_MAX>(keys, row_of(query_key_value, batch, KEY, own, head), stride, count, D);
    load_tile<D_MAX>(values, row_of(query_key_value, batch, VALUE, own, head), stride, count, D);
    wide<T> dkey[EACH][D_MAX / ACROSS] = {}, dvalue[EACH][D_MAX / ACROSS] = {};
    for (int first = 0; first < sequence.length; first += TILE) {
        const int left = sequence.length - first, token = sequence.start + first;
        __syncthreads();  // all have used the queries and gradients before these
        load_tile<D_MAX>(queries, row_of(query_key_value, batch, QUERY, token, head), stride, left, D);
        load_tile<D_MAX>(gradients, context_row(dcontext, batch, token, head), context_stride, left,
                         D);
        __syncthreads();
        wide<T> probabilities[EACH][EACH], dscores[EACH][EACH];
        tile_products<D_MAX>(keys, queries, probabilities);
        tile_products<D_MAX>(values, gradients, dscores);
        rebuild_tile<wide<T>, true>(probabilities, dscores, log_sum_exp, delta, batch, dropout,
                                    sequence, none_real, first_key, first);
        add_weighted<D_MAX>(dvalue, probabilities, exchanged, gradients);
        add_weighted<D_MAX>(dkey, dscores, exchanged, queries);
    }
    store_tile<D_MAX>(row_of(dquery_key_value, batch, KEY, own, head), stride, count, D, dkey,
                      wide<T>(batch.scale));
    store_tile<D_MAX>(row_of(dquery_key_value, batch, VALUE, own, head), stride, count, D, dvalue,
                      wide<T>(1));
}

// ---- Version 3: tensor cores, for float16 and bfloat16; for float32 where tf32 is allowed ---------
//
// Four warps, 16 rows of scores each. All products are mma.m16n8k16: sums in float32, in registers.
// Scores of 16 rows leave one product in just the layout in which the next one takes its left side,
// so probabilities never see shared memory. Tiles arrive by asynchronous copies, two tiles in turn:
// the next one is on its way while this one is used.
//
// Rows of a tile are 16 bytes longer than D numbers: the 8 rows that one ldmatrix reads lie in
// different banks. Exponentials are powers of 2, which the GPU has an instruction for; scores and L are
// scaled to suit.
//
// Limit: the tensor cores and the issue of instructions, each about as long at D = 64; exponentials,
// one a score for 4 D operations, take less.
// With dropout it is Philox beside it: four words, some 100 operations, serve four scores.
//
// With T = float, what is multiplied is rounded to tf32 first, 11 significant bits, so that it is for
// the launcher to plan only where that is allowed: mma.m16n8k8, sums in float32. Limit: shared memory.
// 256 bytes of a right side serve 2048 operations there, half as many as with 2-byte numbers, and
// each number that is read has to be rounded.

constexpr int WARPS = 4, ROWS = 16 * WARPS;
constexpr float LOG2_E = 1.4426950408889634f;

// Scores of each row that a tile makes: forward, and backward, where registers hold sums beside more of
// them. Rows of 512 bytes come half as many at a time, so that two blocks have room.
template <class T, int D_MAX>
constexpr int FORWARD_COLUMNS = D_MAX * sizeof(T) <= 256 ? 64 : 32;
template <class T, int D_MAX>
constexpr int BACKWARD_COLUMNS = FORWARD_COLUMNS<T, D_MAX> / 2;

template <class T, int D_MAX>
constexpr int PITCH = D_MAX + Pack<T>::SIZE;

// Starts the copies of `ROWS_OF_TILE` rows, zeros beyond `count` and beyond the head's size.
template <int D_MAX, int ROWS_OF_TILE, class T>
__device__ __forceinline__ void copy_tile(T* tile, const T* first, long long stride, int count,
                                          int head_size) {
    constexpr int SIZE = Pack<T>::SIZE, ACROSS_ROW = D_MAX / SIZE;
    constexpr int AT_ONCE = WARPS * WARP_SIZE / ACROSS_ROW;
    static_assert(ROWS_OF_TILE % AT_ONCE == 0, "each thread copies as often");
    const int row = threadIdx.x / ACROSS_ROW, d = threadIdx.x % ACROSS_ROW * SIZE;
    T* to = tile + row * PITCH<T, D_MAX> + d;
    const T* from = first + row * stride + d;
#pragma unroll
    for (int away = 0; away < ROWS_OF_TILE; away += AT_ONCE) {
        copy_async(to + away * PITCH<T, D_MAX>, from, row + away < count && d < head_size);
        from += AT_ONCE * stride;
    }
}

// How many numbers one multiplication sums over: 32 bytes of them.
template <class T>
constexpr int DEPTH = 2 * Pack<T>::SIZE;

// Of a left side (16 × DEPTH), or of two right sides of 8 columns each, what a lane holds: from four
// matrices of 8 rows and 16 bytes, that lie in memory as they are summed over. Each lane has the
// address of one of their rows.
template <class T>
__device__ __forceinline__ void load_rows(unsigned (&out)[4], const T* row) {
    load_matrices(out, row);
}
template <>
__device__ __forceinline__ void load_rows<float>(unsigned (&out)[4], const float* row) {
    load_matrices(out, row);
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = round_to_tf32(float_of(out[i]));
}

// A left side from weights in the layout of a product, 16 × 8 each.
template <class T>
__device__ __forceinline__ void left_side(unsigned (&out)[4], const float (*weights)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = narrow_pair<T>(weights[i / 2][i % 2 * 2], weights[i / 2][i % 2 * 2 + 1]);
}
// Of columns 2t and 2t + 1, which a lane has, the first passes for column t and the other for t + 4: in
// which order the columns are summed over is all the same, as long as the rows of the right follow.
template <>
__device__ __forceinline__ void left_side<float>(unsigned (&out)[4], const float (*weights)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = round_to_tf32(weights[0][i % 2 * 2 + i / 2]);
}

// Two right sides, of DEPTH rows and 8 columns each, from a tile's number on whose rows are summed over.
template <class T>
__device__ __forceinline__ void load_columns(unsigned (&out)[4], const T* first, int pitch) {
    const int lane = threadIdx.x % WARP_SIZE;
    load_matrices_transposed(out, first + lane % 16 * pitch + lane / 16 * 8);
}
// Numbers of 4 bytes are read one by one, from rows in the order of `left_side`. As rows are 4 numbers
// longer than whole rounds of the banks, a warp meets each bank once.
template <>
__device__ __forceinline__ void load_columns<float>(unsigned (&out)[4], const float* first,
                                                    int pitch) {
    const int lane = threadIdx.x % WARP_SIZE;
    const float* own = first + lane % 4 * 2 * pitch + lane / 4;
#pragma unroll
    for (int i = 0; i < 4; i++) out[i] = round_to_tf32(own[i % 2 * pitch + i / 2 * 8]);
}

// products[n] = Σ_d a[row][d] b[8n + column][d], of 16 rows of `a` from `row` on and N of `b`.
template <int D_MAX, int N, class T>
__device__ __forceinline__ void matrix_products(const T* a, int row, const T* b,
                                                float (&products)[N / 8][4]) {
    constexpr int SIZE = Pack<T>::SIZE;
    const int lane = threadIdx.x % WARP_SIZE;
    const T* own = a + (row + lane % 16) * PITCH<T, D_MAX> + lane / 16 * SIZE;
    const T* other = b + (lane / 16 * 8 + lane % 8) * PITCH<T, D_MAX> + lane / 8 % 2 * SIZE;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) products[n][i] = 0;
#pragma unroll
    for (int d = 0; d < D_MAX; d += DEPTH<T>) {
        unsigned left[4];
        load_rows(left, own + d);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            unsigned right[4];
            load_rows(right, other + n * PITCH<T, D_MAX> + d);
            multiply_add<T>(products[n / 8], left, right[0], right[1]);
            multiply_add<T>(products[n / 8 + 1], left, right[2], right[3]);
        }
    }
}

// sums[n] += Σ_j weights[row][j] b[j][8n + column], over N rows j of `b`.
template <int D_MAX, int N, class T>
__device__ __forceinline__ void matrix_add_weighted(float (&sums)[D_MAX / 8][4],
                                                    const float (&weights)[N / 8][4],
                                                    const T* b) {
#pragma unroll
    for (int j = 0; j < N; j += DEPTH<T>) {
        unsigned left[4];
        left_side<T>(left, weights + j / 8);
#pragma unroll
        for (int n = 0; n < D_MAX; n += 16) {
            unsigned right[4];
            load_columns(right, b + j * PITCH<T, D_MAX> + n, PITCH<T, D_MAX>);
            multiply_add<T>(sums[n / 8], left, right[0], right[1]);
            multiply_add<T>(sums[n / 8 + 1], left, right[2], right[3]);
        }
    }
}

// A lane's numbers of a 16 × 8 product: i = 0, 1 of row lane/4, i = 2, 3 of the eighth row after it.
__device__ __forceinline__ int row_in_product(int i) {
    return threadIdx.x % WARP_SIZE / 4 + i / 2 * 8;
}
__device__ __forceinline__ int column_in_product(int i) {
    return threadIdx.x % 4 * 2 + i % 2;
}

// Whether a sequence's tokens stand side by side in the padded batch, from its first column on.
__device__ __forceinline__ bool side_by_side(const Dropout& dropout, const Sequence& sequence) {
    const int last = sequence.length - 1;
    return !dropout.packed_columns || dropout.packed_columns[sequence.start + last] == last;
}

// The words of a lane's four scores of a 16 × 8 product, from `row` and `column` on. Four keys from a
// multiple of 4 on share one draw, and lie with two lanes or four: each draws once, for one of the
// rows or columns that they share, and hands the others theirs.
template <bool KEYS_ARE_ROWS>
__device__ __forceinline__ Words words_of_product(const Dropout& dropout, int row, int column) {
    const int head = blockIdx.y, b = blockIdx.z;
    Words own;
    if (KEYS_ARE_ROWS) {  // the lanes of four keys; of the i-th, the draw for everyone's number i
        const int place = threadIdx.x / 4 % 4;
        const int key = row + row_in_product(place), query = column + column_in_product(place);
        const Words drawn = philox(dropout, key / 4, query, b, head);
        Words received;
#pragma unroll
        for (int away = 0; away < 4; away++)
            received.values[away] =
                __shfl_xor_sync(ALL_LANES, word_of(drawn, place ^ away), 4 * away);
#pragma unroll
        for (int i = 0; i < 4; i++) own.values[i] = word_of(received, place ^ i);
    } else {  // two lanes: the first draws for the first row, the second for the other
        const bool second = threadIdx.x % 2;
        const int key = column + column_in_product(0), query = row + row_in_product(second ? 2 : 0);
        const Words drawn = philox(dropout, key / 4, query, b, head);
        const unsigned(&w)[4] = drawn.values;
        const unsigned low = __shfl_xor_sync(ALL_LANES, second ? w[0] : w[2], 1);
        const unsigned high = __shfl_xor_sync(ALL_LANES, second ? w[1] : w[3], 1);
        own = {{second ? low : w[0], second ? high : w[1], second ? w[2] : low, second ? w[3] : high}};
    }
    return own;
}

// The same, a draw for each: for tokens with others between them, that were masked.
template <bool KEYS_ARE_ROWS>
__device__ __forceinline__ Words words_one_by_one(const Dropout& dropout, const Sequence& sequence,
                                                  int row, int column) {
    Words own = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int a = row + row_in_product(i), b = column + column_in_product(i);
        const int query = KEYS_ARE_ROWS ? b : a, key = KEYS_ARE_ROWS ? a : b;
        if (query < sequence.length && key < sequence.length)
            own.values[i] =
                word_of_score(dropout, blockIdx.z, blockIdx.y, sequence.start, query, key);
    }
    return own;
}

// Which of a lane's scores of 16 rows and N columns dropout keeps: of number i of the n-th product,
// bit 4n + i. One product after the other, so that no more registers are needed than for one.
template <bool KEYS_ARE_ROWS, int N>
__device__ __forceinline__ unsigned kept_scores(const Dropout& dropout, const Sequence& sequence,
                                                int row, int column) {
    const bool shared_draws = side_by_side(dropout, sequence);
    unsigned kept = 0;
#pragma unroll 1
    for (int n = 0; n < N / 8; n++) {
        const int at = column + n * 8;
        const Words words = shared_draws
                                ? words_of_product<KEYS_ARE_ROWS>(dropout, row, at)
                                : words_one_by_one<KEYS_ARE_ROWS>(dropout, sequence, row, at);
#pragma unroll
        for (int i = 0; i < 4; i++)
            kept |= static_cast<unsigned>(words.values[i] >= dropout.threshold) << (4 * n + i);
    }
    return kept;
}
// Multiplies scores by 0 or 1 / (1 − p).
template <int N>
__device__ __forceinline__ void drop_scores(float (&scores)[N][4], const Dropout& dropout,
                                            unsigned kept) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores[n][i] *= kept >> (4 * n + i) & 1 ? float(dropout.scale) : 0.0f;
}

// Two neighbours in one store.
template <class T>
__device__ __forceinline__ void store_pair(T* to, float first, float second) {
    *reinterpret_cast<unsigned*>(to) = narrow_pair<T>(first, second);
}
template <>
__device__ __forceinline__ void store_pair<float>(float* to, float first, float second) {
    *reinterpret_cast<unsigned long long*>(to) =
        static_cast<unsigned long long>(bits_of(second)) << 32 | bits_of(first);
}
template <int D_MAX, class T>
__device__ __forceinline__ void store_product(T* first, long long stride, int count, int head_size,
                                              const float (&sums)[D_MAX / 8][4], float scale) {
    const int row = threadIdx.x / WARP_SIZE * 16;
#pragma unroll
    for (int n = 0; n < D_MAX / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const int d = n * 8 + column_in_product(i), at = row + row_in_product(i);
            if (at < count && d < head_size)
                store_pair(first + at * stride + d, sums[n][i] * scale, sums[n][i + 1] * scale);
        }
}

// Which columns of a tile, from `first` on, count, a bit each: those of the sequence that are not masked,
// or `all` of them. Every lane of the warp must ask, and gets the same.
template <int COLUMNS>
__device__ __forceinline__ unsigned long long columns_that_count(const Batch& batch,
                                                                 const Sequence& sequence,
                                                                 bool all, int first) {
    unsigned long long columns = COLUMNS < 64 ? ~0ull << COLUMNS : 0;
#pragma unroll
    for (int away = 0; away < COLUMNS; away += WARP_SIZE) {
        const int column = first + away + static_cast<int>(threadIdx.x % WARP_SIZE);
        const bool counts = column < sequence.length &&
                            (all || !batch.mask || batch.mask[sequence.start + column]);
        columns |= static_cast<unsigned long long>(__ballot_sync(ALL_LANES, counts)) << away;
    }
    return columns;
}
template <int N>
__device__ __forceinline__ void fill_columns(float (&product)[N][4], unsigned long long columns,
                                             float value) {
    columns >>= column_in_product(0);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (columns >> (8 * n + i % 2) & 1) product[n][i] = value;
}
// q·k of 16 rows, where a column that does not count has the lowest there is.
template <int N>
__device__ __forceinline__ void mask_scores(float (&scores)[N][4], unsigned long long columns,
                                            bool none_real) {
    if (!~columns && !none_real) return;
    fill_columns(scores, ~columns, lowest<float>());
    if (none_real) fill_columns(scores, columns, 0.0f);
}

// The online softmax of 16 rows, from `first_query` on, and 8 N columns: q·k become p̃, not divided by
// their sum yet. What the two rows' sums so far are multiplied by is the answer.
template <int N>
__device__ __forceinline__ Pair<float> softmax_of_tile(float (&scores)[N][4],
                                                       float (&largest)[2], float (&total)[2],
                                                       const Batch& batch, const Dropout& dropout,
                                                       const Sequence& sequence, bool none_real,
                                                       int first_query, int first_key) {
    const float scale = float(batch.scale * LOG2_E);
    mask_scores(scores, columns_that_count<8 * N>(batch, sequence, none_real, first_key), none_real);
    float now_largest[2] = {largest[0], largest[1]};
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            now_largest[i / 2] = fmax(now_largest[i / 2], scores[n][i]);
    float rescale[2], sum[2] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        now_largest[half] = warp_max<4>(now_largest[half]);
        rescale[half] = power_of_2((largest[half] - now_largest[half]) * scale);
        largest[half] = now_largest[half];
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[n][i] = power_of_2((scores[n][i] - largest[i / 2]) * scale);
            sum[i / 2] += scores[n][i];
        }
#pragma unroll
    for (int half = 0; half < 2; half++)
        total[half] = total[half] * rescale[half] + warp_sum<4>(sum[half]);
    if (dropout.enabled)
        drop_scores(scores, dropout,
                    kept_scores<false, N * 8>(dropout, sequence, first_query, first_key));
    return {rescale[0], rescale[1]};
}
template <int N>
__device__ __forceinline__ void rescale_rows(float (&sums)[N][4], const Pair<float>& rescale) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[n][i] *= i < 2 ? rescale.first : rescale.second;
}

// A warp's 16 rows of the context and of L, of a block whose first token is `own`.
template <int D_MAX, class T>
__device__ __forceinline__ void store_context(T* context, float* log_sum_exp,
                                              float (&sums)[D_MAX / 8][4],
                                              const float (&largest)[2], const float (&total)[2],
                                              const Batch& batch, int head, int own, int count) {
    const int D = batch.head_size;
    rescale_rows(sums, {1 / total[0], 1 / total[1]});
    store_product<D_MAX>(context_row(context, batch, own, head), (long long)batch.heads * D, count, D,
                         sums, 1.0f);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int at = threadIdx.x / WARP_SIZE * 16 + row_in_product(2 * half);
        if (at < count && threadIdx.x % 4 == 0)
            log_sum_exp[at_row(batch, own + at, head)] =
                largest[half] * float(batch.scale) + log(total[half]);
    }
}

// Forward. Grid: (longest / 64, heads, sequences). Shared memory: a tile of q, two of k, two of v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(WARPS * WARP_SIZE, 2)
attention_forward_3(const T* query_key_value, T* context, float* log_sum_exp, Batch batch,
                    Dropout dropout) {
    constexpr int COLUMNS = FORWARD_COLUMNS<T, D_MAX>;
    DYN_SHARED(T, queries);
    T* keys = queries + ROWS * PITCH<T, D_MAX>;
    T* values = keys + 2 * COLUMNS * PITCH<T, D_MAX>;
    const int first_query = blockIdx.x * ROWS, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = sequence_of(batch, blockIdx.z);
    if (refused(batch, context)) return;
    if (first_query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    const long long stride = 3LL * batch.heads * D;
    const int own = sequence.start + first_query, count = sequence.length - first_query;
    const int row = threadIdx.x / WARP_SIZE * 16;
    const auto copy_keys_and_values = [&](int first) {
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        const int token = sequence.start + first, left = sequence.length - first;
        if (left > 0) {
            copy_tile<D_MAX, COLUMNS>(keys + buffer, row_of(query_key_value, batch, KEY, token, head),
                                      stride, left, D);
            copy_tile<D_MAX, COLUMNS>(values + buffer,
                                      row_of(query_key_value, batch, VALUE, token, head), stride, left,
                                      D);
        }
        copy_async_commit();  // of nothing, too: the wait counts groups
    };

    copy_tile<D_MAX, ROWS>(queries, row_of(query_key_value, batch, QUERY, own, head), stride, count, D);
    copy_keys_and_values(0);
    float largest[2] = {lowest<float>(), lowest<float>()}, total[2] = {};
    float sums[D_MAX / 8][4] = {};
    for (int first = 0; first < sequence.length; first += COLUMNS) {
        copy_keys_and_values(first + COLUMNS);
        copy_async_wait<1>();
        __syncthreads();  // everyone's copies of this tile are here
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        float scores[COLUMNS / 8][4];
        matrix_products<D_MAX, COLUMNS>(queries, row, keys + buffer, scores);

        const Pair<float> rescale =
            softmax_of_tile(scores, largest, total, batch, dropout, sequence, none_real,
                            first_query + row, first);
        rescale_rows(sums, rescale);
        matrix_add_weighted<D_MAX, COLUMNS>(sums, scores, values + buffer);
        __syncthreads();  // all have used this tile: the copies after the next may overwrite it
    }
    store_context<D_MAX>(context, log_sum_exp, sums, largest, total, batch, head, own, count);
}

// L and δ of a query; those of the last for one beyond it.
__device__ __forceinline__ Pair<float> known_of(const float* log_sum_exp, const float* delta,
                                                const Batch& batch, const Sequence& sequence,
                                                int query) {
    const int token = sequence.start + min(query, sequence.length - 1);
    const unsigned at = blockIdx.y * batch.tokens + token;  // of 32 bits: that takes fewer instructions
    return {log_sum_exp[at], delta[at]};
}

// What q·k are multiplied by: 0 where every key is masked, as all scores are alike there.
__device__ __forceinline__ float scale_of_scores(const Batch& batch, const Sequence& sequence) {
    return all_masked(batch, sequence) ? 0 : float(batch.scale);
}

// p and ds of 16 rows, from q·k and dc·v, and p̃ for p where rows are keys'. 0 in columns that do not
// count; rows that do not are for `clear_masked_rows`. `own`: L and δ of a lane's two rows, where they
// are queries'.
template <bool KEYS_ARE_ROWS, int N>
__device__ __forceinline__ void rebuild_product(float (&products)[N][4], float (&dvalues)[N][4],
                                                const Pair<float> (&own)[2],
                                                const float* log_sum_exp, const float* delta,
                                                const Batch& batch, const Dropout& dropout,
                                                const Sequence& sequence, float scale,
                                                int first_row, int first_column) {
    const unsigned long long columns =
        columns_that_count<8 * N>(batch, sequence, KEYS_ARE_ROWS || !scale, first_column);
    unsigned kept = ~0u;
    if (dropout.enabled) {
        kept = kept_scores<KEYS_ARE_ROWS, N * 8>(dropout, sequence, first_row, first_column);
        drop_scores(dvalues, dropout, kept);
    }
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const Pair<float> known =
                KEYS_ARE_ROWS ? known_of(log_sum_exp, delta, batch, sequence,
                                         first_column + n * 8 + column_in_product(i))
                              : own[i / 2];
            products[n][i] = power_of_2(fma(products[n][i], scale, -known.first) * LOG2_E);
            dvalues[n][i] = products[n][i] * (dvalues[n][i] - known.second);
        }
    if (~columns) {
        fill_columns(products, ~columns, 0.0f);
        fill_columns(dvalues, ~columns, 0.0f);
    }
    if (KEYS_ARE_ROWS && dropout.enabled) drop_scores(products, dropout, kept);
}
// Zeros in the rows of keys that are masked, whose scores may be larger than L.
template <int N>
__device__ __forceinline__ void clear_masked_rows(float (&sums)[N][4], const Batch& batch,
                                                  const Sequence& sequence, float scale,
                                                  int first_key) {
    if (!batch.mask || !scale) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int key = min(first_key + row_in_product(i), sequence.length - 1);
        if (batch.mask[sequence.start + key]) continue;
#pragma unroll
        for (int n = 0; n < N; n++) sums[n][i] = 0;
    }
}

// dq. Grid: (longest / 64, heads, sequences). Shared memory: tiles of q and dc, two of k, two of v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(WARPS * WARP_SIZE, 2)
attention_backward_query_3(const T* dcontext, const T* query_key_value, const float* log_sum_exp,
                           const float* delta, T* dquery_key_value, Batch batch, Dropout dropout) {
    constexpr int COLUMNS = BACKWARD_COLUMNS<T, D_MAX>;
    DYN_SHARED(T, queries);
    T* gradients = queries + ROWS * PITCH<T, D_MAX>;
    T* keys = gradients + ROWS * PITCH<T, D_MAX>;
    T* values = keys + 2 * COLUMNS * PITCH<T, D_MAX>;
    const int first_query = blockIdx.x * ROWS, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (first_query >= sequence.length) return;
    const float scale = scale_of_scores(batch, sequence);
    const long long stride = 3LL * batch.heads * D;
    const int own = sequence.start + first_query, count = sequence.length - first_query;
    const int row = threadIdx.x / WARP_SIZE * 16;
    const auto copy_keys_and_values = [&](int first) {
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        const int token = sequence.start + first, left = sequence.length - first;
        if (left > 0) {
            copy_tile<D_MAX, COLUMNS>(keys + buffer, row_of(query_key_value, batch, KEY, token, head),
                                      stride, left, D);
            copy_tile<D_MAX, COLUMNS>(values + buffer,
                                      row_of(query_key_value, batch, VALUE, token, head), stride,
                                      left, D);
        }
        copy_async_commit();
    };

    copy_tile<D_MAX, ROWS>(queries, row_of(query_key_value, batch, QUERY, own, head), stride, count, D);
    copy_tile<D_MAX, ROWS>(gradients, context_row(dcontext, batch, own, head),
                           (long long)batch.heads * D, count, D);
    copy_keys_and_values(0);
    const Pair<float> known[2] = {
        known_of(log_sum_exp, delta, batch, sequence, first_query + row + row_in_product(0)),
        known_of(log_sum_exp, delta, batch, sequence, first_query + row + row_in_product(2))};
    float dquery[D_MAX / 8][4] = {};
    for (int first = 0; first < sequence.length; first += COLUMNS) {
        copy_keys_and_values(first + COLUMNS);
        copy_async_wait<1>();
        __syncthreads();  // everyone's copies of this tile are here
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        float products[COLUMNS / 8][4], dscores[COLUMNS / 8][4];
        matrix_products<D_MAX, COLUMNS>(queries, row, keys + buffer, products);
        matrix_products<D_MAX, COLUMNS>(gradients, row, values + buffer, dscores);
        rebuild_product<false>(products, dscores, known, log_sum_exp, delta, batch, dropout, sequence,
                               scale, first_query + row, first);
        matrix_add_weighted<D_MAX, COLUMNS>(dquery, dscores, keys + buffer);
        __syncthreads();  // all have used this tile: the copies after the next may overwrite it
    }
    store_product<D_MAX>(row_of(dquery_key_value, batch, QUERY, own, head), stride, count, D, dquery,
                         batch.scale);
}

// dk and dv. Grid: (longest / 64, heads, sequences). Shared memory: tiles of k and v, two of q, two
// of dc.
template <class T, int D_MAX>
__global__ void __launch_bounds__(WARPS * WARP_SIZE, 2)
attention_backward_key_3(const T* dcontext, const T* query_key_value, const float* log_sum_exp,
                         const float* delta, T* dquery_key_value, Batch batch, Dropout dropout) {
    constexpr int COLUMNS = BACKWARD_COLUMNS<T, D_MAX>;
    DYN_SHARED(T, keys);
    T* values = keys + ROWS * PITCH<T, D_MAX>;
    T* queries = values + ROWS * PITCH<T, D_MAX>;
    T* gradients = queries + 2 * COLUMNS * PITCH<T, D_MAX>;
    const int first_key = blockIdx.x * ROWS, head = blockIdx.y, D = batch.head_size;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (first_key >= sequence.length) return;
    const float scale = scale_of_scores(batch, sequence);
    const long long stride = 3LL * batch.heads * D;
    const int own = sequence.start + first_key, count = sequence.length - first_key;
    const int row = threadIdx.x / WARP_SIZE * 16;
    const auto copy_queries_and_gradients = [&](int first) {
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        const int token = sequence.start + first, left = sequence.length - first;
        if (left > 0) {
            copy_tile<D_MAX, COLUMNS>(queries + buffer,
                                      row_of(query_key_value, batch, QUERY, token, head), stride,
                                      left, D);
            copy_tile<D_MAX, COLUMNS>(gradients + buffer, context_row(dcontext, batch, token, head),
                                      (long long)batch.heads * D, left, D);
        }
        copy_async_commit();
    };

    copy_tile<D_MAX, ROWS>(keys, row_of(query_key_value, batch, KEY, own, head), stride, count, D);
    copy_tile<D_MAX, ROWS>(values, row_of(query_key_value, batch, VALUE, own, head), stride, count, D);
    copy_queries_and_gradients(0);
    float dkey[D_MAX / 8][4] = {}, dvalue[D_MAX / 8][4] = {};
    for (int first = 0; first < sequence.length; first += COLUMNS) {
        copy_queries_and_gradients(first + COLUMNS);
        copy_async_wait<1>();
        __syncthreads();  // everyone's copies of this tile are here
        const int buffer = first / COLUMNS % 2 * COLUMNS * PITCH<T, D_MAX>;
        float probabilities[COLUMNS / 8][4], dscores[COLUMNS / 8][4];
        matrix_products<D_MAX, COLUMNS>(keys, row, queries + buffer, probabilities);
        matrix_products<D_MAX, COLUMNS>(values, row, gradients + buffer, dscores);
        rebuild_product<true>(probabilities, dscores, {}, log_sum_exp, delta, batch, dropout, sequence,
                              scale, first_key + row, first);
        matrix_add_weighted<D_MAX, COLUMNS>(dvalue, probabilities, gradients + buffer);
        matrix_add_weighted<D_MAX, COLUMNS>(dkey, dscores, queries + buffer);
        __syncthreads();  // all have used this tile: the copies after the next may overwrite it
    }
    clear_masked_rows(dkey, batch, sequence, scale, first_key + row);
    clear_masked_rows(dvalue, batch, sequence, scale, first_key + row);
    store_product<D_MAX>(row_of(dquery_key_value, batch, KEY, own, head), stride, count, D, dkey,
                         batch.scale);
    store_product<D_MAX>(row_of(dquery_key_value, batch, VALUE, own, head), stride, count, D, dvalue,
                         1.0f);
}

// ---- Version 4: Hopper's own instructions, for float16 and bfloat16 on compute capability 9.0 ----
//
// Not run on a GPU yet: on the CPU, against the stand-in, and compiled. Asked for by its number only.
//
// A block's warps have parts. One lane of the last warp brings tiles of 64 keys and values by bulk
// copies, two tiles in turn, and each copy counts its bytes at a barrier; four warps together, a
// warpgroup, multiply 64 rows of scores with them (wgmma), and there are three, or two with wide
// heads. No warp waits for all: a tile's barriers say that its keys are here, that its values are,
// and that it is used up.
//
// A tile is panels of 64 columns, rows of 128 bytes: as wide as a copy's mixing of banks goes. One
// layout serves both products: for q·k the columns are summed over, for p·v the rows. Probabilities
// go from one product to the next in registers, as in version 3.
//
// Operations: 4 S² D a head. Bytes: 4 S D numbers, of which keys and values are read S/192 times, or
// S/128 with wide heads, mostly from the cache. Limit: an exponential a score for 4 D operations. A
// multiprocessor does 16 of them and 4096 operations on its tensor cores a clock, so that at D = 64
// both take equally long, and at D = 128 the tensor cores twice as long: neither is idle only if one
// warpgroup multiplies while another is at its softmax.

constexpr int PANEL = 64, PANEL_SIZE = PANEL * PANEL;
constexpr int WARPGROUP = 4 * WARP_SIZE, STAGES = 2;
template <int D_MAX>
constexpr int WARPGROUPS = D_MAX == 64 ? 3 : 2;  // as many as have registers for their sums
constexpr int CONSUMERS_BARRIER = 1;

// Starts the copies of 64 rows, from a token on: row `part` of each, of `rows` (tokens, parts, D).
template <int D_MAX, class T>
__device__ __forceinline__ void copy_panels(T* tile, const TensorMap* rows, int part, int token,
                                            PhaseBarrier* here) {
#pragma unroll
    for (int panel = 0; panel < D_MAX / PANEL; panel++)
        copy_box(tile + panel * PANEL_SIZE, rows, token, part, panel * PANEL, here);
}

// The left sides of 64 rows of weights, for four multiplications by 16 rows each.
template <class T>
__device__ __forceinline__ void narrow_weights(const float (&weights)[PANEL / 8][4],
                                               unsigned (&left)[PANEL / 16][4]) {
#pragma unroll
    for (int n = 0; n < PANEL / 8; n++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            left[n / 2][n % 2 * 2 + half] =
                narrow_pair<T>(weights[n][half * 2], weights[n][half * 2 + 1]);
}

// products (64 × 64) = left · rightᵀ, of 64 rows each, all of D.
template <int D_MAX, class T>
__device__ __forceinline__ void multiply_rows(float (&products)[PANEL / 8][4], const T* left,
                                              const T* right) {
#pragma unroll
    for (int d = 0; d < D_MAX; d += 16) {
        const int at = d / PANEL * PANEL_SIZE + d % PANEL;
        multiply_async<T>(products, matrix_at(left + at), matrix_at(right + at), d > 0);
    }
}
// sums (64 × D) += weights · tile, of 64 rows.
template <int D_MAX, class T>
__device__ __forceinline__ void multiply_weights(float (&sums)[D_MAX / 8][4],
                                                 const unsigned (&weights)[PANEL / 16][4],
                                                 const T* tile) {
#pragma unroll
    for (int j = 0; j < PANEL / 16; j++)
#pragma unroll
        for (int panel = 0; panel < D_MAX / PANEL; panel++)
            multiply_async_transposed<T>(sums + panel * (PANEL / 8), weights[j],
                                         matrix_at(tile + panel * PANEL_SIZE + j * 16 * PANEL));
}

template <class T>
__device__ __forceinline__ T* at_1024_bytes(T* shared) {
    return shared + (1024 - shared_address(shared) % 1024) % 1024 / sizeof(T);
}

template <class T>
struct Stages {
    T *queries, *keys, *values;
    PhaseBarrier *queries_here, *keys_here, *values_here, *used;
};

// One thread's part: what the others multiply, in the order in which they do.
template <class T, int D_MAX>
__device__ __forceinline__ void bring_tiles(const Stages<T>& stages, const TensorMap* rows,
                                            const Batch& batch, const Sequence& sequence, int head,
                                            int first_query, int groups) {
    constexpr int TILE_SIZE = D_MAX * PANEL, TILE_BYTES = TILE_SIZE * sizeof(T);
    const auto copy_tile_of = [&](T* tile, int part, int first, PhaseBarrier* here) {
        copy_panels<D_MAX>(tile, rows, part * batch.heads + head, sequence.start + first, here);
    };
    phase_expect(stages.queries_here, groups * TILE_BYTES);
    for (int group = 0; group < groups; group++)
        copy_tile_of(stages.queries + group * TILE_SIZE, QUERY, first_query + group * PANEL,
                     stages.queries_here);
    for (int first = 0; first < sequence.length; first += PANEL) {
        const int stage = first / PANEL % STAGES;
        // Of the round before; in the first, at once.
        phase_wait(stages.used + stage, (first / PANEL / STAGES + 1) % 2);
        phase_expect(stages.keys_here + stage, TILE_BYTES);
        copy_tile_of(stages.keys + stage * TILE_SIZE, KEY, first, stages.keys_here + stage);
        phase_expect(stages.values_here + stage, TILE_BYTES);
        copy_tile_of(stages.values + stage * TILE_SIZE, VALUE, first, stages.values_here + stage);
    }
}

// Rows beyond the sequence are those of the next. Their p is 0, but 0 times infinity is not: zeros.
template <class T, int D_MAX>
__device__ __forceinline__ void clear_rows(T* tile, int first_row, int groups) {
    constexpr int SIZE = Pack<T>::SIZE, PACKS = PANEL / SIZE;
    for (int panel = 0; panel < D_MAX / PANEL; panel++)
        for (int at = first_row * PACKS + threadIdx.x; at < PANEL * PACKS; at += groups * WARPGROUP)
            store_pack(tile + panel * PANEL_SIZE + at * SIZE, Pack<T>{});
    fence_async();
    barrier_of(CONSUMERS_BARRIER, groups * WARPGROUP);
}

// A warpgroup's part: 64 rows of the context.
template <class T, int D_MAX>
__device__ __forceinline__ void attend(const Stages<T>& stages, T* context, float* log_sum_exp,
                                       const Batch& batch, const Dropout& dropout,
                                       const Sequence& sequence, bool none_real, int head,
                                       int first_query, int groups) {
    constexpr int TILE_SIZE = D_MAX * PANEL;
    const int row = threadIdx.x / WARP_SIZE * 16;
    const T* queries = stages.queries + threadIdx.x / WARPGROUP * TILE_SIZE;
    float largest[2] = {lowest<float>(), lowest<float>()}, total[2] = {};
    float sums[D_MAX / 8][4] = {};
    phase_wait(stages.queries_here, 0);
    for (int first = 0; first < sequence.length; first += PANEL) {
        const int stage = first / PANEL % STAGES, parity = first / PANEL / STAGES % 2;
        T* values = stages.values + stage * TILE_SIZE;
        phase_wait(stages.keys_here + stage, parity);
        float scores[PANEL / 8][4];
        multiply_begin();
        multiply_rows<D_MAX>(scores, queries, stages.keys + stage * TILE_SIZE);
        multiply_commit();
        multiply_wait(scores);

        const Pair<float> rescale = softmax_of_tile(scores, largest, total, batch, dropout, sequence,
                                                    none_real, first_query + row, first);
        rescale_rows(sums, rescale);
        unsigned weights[PANEL / 16][4];
        narrow_weights<T>(scores, weights);
        phase_wait(stages.values_here + stage, parity);
        if (sequence.length - first < PANEL)
            clear_rows<T, D_MAX>(values, sequence.length - first, groups);
        multiply_begin();
        multiply_weights<D_MAX>(sums, weights, values);
        multiply_commit();
        multiply_wait(sums);
        if (threadIdx.x % WARP_SIZE == 0) phase_arrive(stages.used + stage);
    }
    store_context<D_MAX>(context, log_sum_exp, sums, largest, total, batch, head,
                         sequence.start + first_query, sequence.length - first_query);
}

// Forward. Grid: (longest / 192 or / 128, heads, sequences). Shared memory: a tile of q for each
// warpgroup, two of k and two of v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(WARPGROUPS<D_MAX> * WARPGROUP + WARP_SIZE, 1)
attention_forward_4(const __grid_constant__ TensorMap rows, T* context, float* log_sum_exp,
                    Batch batch, Dropout dropout) {
    constexpr int TILE_SIZE = D_MAX * PANEL;
    DYN_SHARED(T, dynamic);
    SHARED(PhaseBarrier, barriers, [1 + 3 * STAGES]);
    const int first_query = blockIdx.x * WARPGROUPS<D_MAX> * PANEL, head = blockIdx.y;
    const Sequence sequence = sequence_of(batch, blockIdx.z);
    if (refused(batch, context)) return;
    if (first_query >= sequence.length) return;
    const bool none_real = all_masked(batch, sequence);
    // Warpgroups that have rows; another has nothing to do.
    const int groups = min(WARPGROUPS<D_MAX>, (sequence.length - first_query + PANEL - 1) / PANEL);
    T* queries = at_1024_bytes(dynamic);
    T* keys = queries + WARPGROUPS<D_MAX> * TILE_SIZE;
    const Stages<T> stages = {queries,      keys,          keys + STAGES * TILE_SIZE,
                              barriers,     barriers + 1,  barriers + 1 + STAGES,
                              barriers + 1 + 2 * STAGES};
    if (threadIdx.x == 0) {
        for (int i = 0; i < 1 + 2 * STAGES; i++) phase_begin(barriers + i, 1);
        for (int stage = 0; stage < STAGES; stage++)
            phase_begin(stages.used + stage, groups * WARPGROUP / WARP_SIZE);
        fence_async();
    }
    __syncthreads();
    if (threadIdx.x == WARPGROUPS<D_MAX> * WARPGROUP)
        bring_tiles<T, D_MAX>(stages, &rows, batch, sequence, head, first_query, groups);
    else if (static_cast<int>(threadIdx.x) < groups * WARPGROUP)
        attend<T, D_MAX>(stages, context, log_sum_exp, batch, dropout, sequence, none_real, head,
                         first_query, groups);
}

// Backward: dq of 64 queries a warpgroup, from all keys and values; dk and dv of 64 keys, from all
// queries and gradients of the context. Both hold two tiles, `own`, and walk over two others.
//
// Limit: the tensor cores, 8 and 6 D operations a score in the two; the exponential is a smaller part.
// Registers hold two products and one sum or two, so that dk and dv have one warpgroup less.

template <int D_MAX, bool KEYS_ARE_ROWS>
constexpr int BACKWARD_GROUPS = WARPGROUPS<D_MAX> - KEYS_ARE_ROWS;

// Where tiles of queries and dcontext lie, or of keys and values; and their barriers.
template <class T>
struct BackwardStages {
    T *own, *own_other, *tiles, *others;
    PhaseBarrier *own_here, *here, *used;
};
// What two tiles hold: rows of (tokens, parts, D).
struct Source {
    const TensorMap *rows, *other_rows;
    int part, other_part;
};

template <class T, int D_MAX>
__device__ __forceinline__ void bring_pairs(const BackwardStages<T>& stages, const Source& own,
                                            const Source& source, const Sequence& sequence,
                                            int first_row, int groups) {
    constexpr int TILE_SIZE = D_MAX * PANEL, PAIR_BYTES = 2 * TILE_SIZE * sizeof(T);
    const auto copy_pair = [&](T* tile, T* other, const Source& from, int first, PhaseBarrier* here) {
        copy_panels<D_MAX>(tile, from.rows, from.part, sequence.start + first, here);
        copy_panels<D_MAX>(other, from.other_rows, from.other_part, sequence.start + first, here);
    };
    phase_expect(stages.own_here, groups * PAIR_BYTES);
    for (int group = 0; group < groups; group++)
        copy_pair(stages.own + group * TILE_SIZE, stages.own_other + group * TILE_SIZE, own,
                  first_row + group * PANEL, stages.own_here);
    for (int first = 0; first < sequence.length; first += PANEL) {
        const int stage = first / PANEL % STAGES;
        phase_wait(stages.used + stage, (first / PANEL / STAGES + 1) % 2);
        phase_expect(stages.here + stage, PAIR_BYTES);
        copy_pair(stages.tiles + stage * TILE_SIZE, stages.others + stage * TILE_SIZE, source, first,
                  stages.here + stage);
    }
}

template <class T, int D_MAX, bool KEYS_ARE_ROWS>
__device__ __forceinline__ void differentiate(const BackwardStages<T>& stages,
                                              const float* log_sum_exp, const float* delta,
                                              T* dquery_key_value, const Batch& batch,
                                              const Dropout& dropout, const Sequence& sequence,
                                              float scale, int head, int first_row, int groups) {
    constexpr int TILE_SIZE = D_MAX * PANEL;
    const int row = threadIdx.x / WARP_SIZE * 16, group = threadIdx.x / WARPGROUP;
    Pair<float> known[2] = {};
    for (int half = 0; half < 2 && !KEYS_ARE_ROWS; half++)
        known[half] = known_of(log_sum_exp, delta, batch, sequence,
                               first_row + row + row_in_product(2 * half));
    float sums[D_MAX / 8][4] = {};    // dq or dk, from the tiles of k or q
    float dvalue[D_MAX / 8][4] = {};  // of keys alone, from the tiles of dc
    phase_wait(stages.own_here, 0);
    for (int first = 0; first < sequence.length; first += PANEL) {
        const int stage = first / PANEL % STAGES;
        T* tile = stages.tiles + stage * TILE_SIZE;
        T* other = stages.others + stage * TILE_SIZE;
        phase_wait(stages.here + stage, first / PANEL / STAGES % 2);
        float products[PANEL / 8][4], dscores[PANEL / 8][4];
        multiply_begin();
        multiply_rows<D_MAX>(products, stages.own + group * TILE_SIZE, tile);
        multiply_rows<D_MAX>(dscores, stages.own_other + group * TILE_SIZE, other);
        multiply_commit();
        multiply_wait(products, dscores);
        rebuild_product<KEYS_ARE_ROWS>(products, dscores, known, log_sum_exp, delta, batch, dropout,
                                       sequence, scale, first_row + row, first);
        if (sequence.length - first < PANEL) {
            barrier_of(CONSUMERS_BARRIER, groups * WARPGROUP);  // all have multiplied by these rows
            clear_rows<T, D_MAX>(tile, sequence.length - first, groups);
            if (KEYS_ARE_ROWS) clear_rows<T, D_MAX>(other, sequence.length - first, groups);
        }
        unsigned weights[PANEL / 16][4], probabilities[PANEL / 16][4];
        narrow_weights<T>(dscores, weights);
        if (KEYS_ARE_ROWS) narrow_weights<T>(products, probabilities);
        multiply_begin();
        multiply_weights<D_MAX>(sums, weights, tile);
        if (KEYS_ARE_ROWS) multiply_weights<D_MAX>(dvalue, probabilities, other);
        multiply_commit();
        if constexpr (KEYS_ARE_ROWS)
            multiply_wait(sums, dvalue);
        else
            multiply_wait(sums);
        if (threadIdx.x % WARP_SIZE == 0) phase_arrive(stages.used + stage);
    }
    if (KEYS_ARE_ROWS) {
        clear_masked_rows(sums, batch, sequence, scale, first_row + row);
        clear_masked_rows(dvalue, batch, sequence, scale, first_row + row);
    }
    const long long stride = 3LL * batch.heads * batch.head_size;
    const int own = sequence.start + first_row, count = sequence.length - first_row;
    const int part = KEYS_ARE_ROWS ? KEY : QUERY;
    store_product<D_MAX>(row_of(dquery_key_value, batch, part, own, head), stride, count,
                         batch.head_size, sums, batch.scale);
    if (KEYS_ARE_ROWS)
        store_product<D_MAX>(row_of(dquery_key_value, batch, VALUE, own, head), stride, count,
                             batch.head_size, dvalue, 1.0f);
}

template <class T, int D_MAX, bool KEYS_ARE_ROWS>
__device__ __forceinline__ void backward_of_rows(const TensorMap* dcontext, const TensorMap* rows,
                                                 const float* log_sum_exp, const float* delta,
                                                 T* dquery_key_value, const Batch& batch,
                                                 const Dropout& dropout) {
    constexpr int TILE_SIZE = D_MAX * PANEL, MOST_GROUPS = BACKWARD_GROUPS<D_MAX, KEYS_ARE_ROWS>;
    DYN_SHARED(T, dynamic);
    SHARED(PhaseBarrier, barriers, [1 + 2 * STAGES]);
    const int first_row = blockIdx.x * MOST_GROUPS * PANEL, head = blockIdx.y;
    const Sequence sequence = accepted_sequence(batch, blockIdx.z);
    if (first_row >= sequence.length) return;
    const float scale = scale_of_scores(batch, sequence);
    const int groups = min(MOST_GROUPS, (sequence.length - first_row + PANEL - 1) / PANEL);
    T* own = at_1024_bytes(dynamic);
    T* tiles = own + 2 * MOST_GROUPS * TILE_SIZE;
    const BackwardStages<T> stages = {own,      own + MOST_GROUPS * TILE_SIZE,
                                      tiles,    tiles + STAGES * TILE_SIZE,
                                      barriers, barriers + 1,
                                      barriers + 1 + STAGES};
    if (threadIdx.x == 0) {
        for (int i = 0; i < 1 + STAGES; i++) phase_begin(barriers + i, 1);
        for (int stage = 0; stage < STAGES; stage++)
            phase_begin(stages.used + stage, groups * WARPGROUP / WARP_SIZE);
        fence_async();
    }
    __syncthreads();
    const Source queries = {rows, dcontext, QUERY * batch.heads + head, head};
    const Source keys = {rows, rows, KEY * batch.heads + head, VALUE * batch.heads + head};
    if (threadIdx.x == MOST_GROUPS * WARPGROUP)
        bring_pairs<T, D_MAX>(stages, KEYS_ARE_ROWS ? keys : queries, KEYS_ARE_ROWS ? queries : keys,
                              sequence, first_row, groups);
    else if (static_cast<int>(threadIdx.x) < groups * WARPGROUP)
        differentiate<T, D_MAX, KEYS_ARE_ROWS>(stages, log_sum_exp, delta, dquery_key_value, batch,
                                               dropout, sequence, scale, head, first_row,
                                               groups);
}

// dq. Grid: (longest / 192 or / 128, heads, sequences). Shared memory: a tile of q and one of dc for
// each warpgroup, two of k and two of v.
template <class T, int D_MAX>
__global__ void __launch_bounds__(BACKWARD_GROUPS<D_MAX, false> * WARPGROUP + WARP_SIZE, 1)
attention_backward_query_4(const __grid_constant__ TensorMap dcontext,
                           const __grid_constant__ TensorMap rows, const float* log_sum_exp,
                           const float* delta, T* dquery_key_value, Batch batch, Dropout dropout) {
    backward_of_rows<T, D_MAX, false>(&dcontext, &rows, log_sum_exp, delta, dquery_key_value, batch,
                                      dropout);
}

// dk and dv. Grid: (longest / 128 or / 64, heads, sequences). Shared memory: a tile of k and one of v
// for each warpgroup, two of q and two of dc.
template <class T, int D_MAX>
__global__ void __launch_bounds__(BACKWARD_GROUPS<D_MAX, true> * WARPGROUP + WARP_SIZE, 1)
attention_backward_key_4(const __grid_constant__ TensorMap dcontext,
                         const __grid_constant__ TensorMap rows, const float* log_sum_exp,
                         const float* delta, T* dquery_key_value, Batch batch, Dropout dropout) {
    backward_of_rows<T, D_MAX, true>(&dcontext, &rows, log_sum_exp, delta, dquery_key_value, batch,
                                     dropout);
}
