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
// Operations: 4 S² D a head and sequence forward, 10 S² D backward, of which this backward does
// 14 S² D: it builds the scores once for dq and once more for dk and dv, and so needs no atomic
// additions, and gives the same bits every time. Bytes: 4 S D numbers forward, 8 backward. At S = 512
// that is S/2 to S operations a byte in half precision: the limit is arithmetic, which the plain
// version does on one thread a dot product, and the last on the tensor cores.
//
// A masked key's score is the lowest number there is, which any other in its row outweighs; where
// every key of a sequence is masked all of them are alike, and so their scores are 0.
#include "philox.cuh"

constexpr int QUERY = 0, KEY = 1, VALUE = 2;

// Where the sequences lie, and how (tokens, 3, heads, head_size) is cut. `offsets` of a packed batch
// tell where each sequence starts; those of a padded one, where it is null, start `longest` apart.
struct Batch {
    const long long* offsets;
    const unsigned char* mask;  // (tokens,), 0 where a key is masked; or null
    double scale;               // 1 / √D
    int tokens, longest, heads, head_size;
};

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

// What p of one query and one key is multiplied by: 0 or 1 / (1 − p).
template <class A>
__device__ __forceinline__ A keep_scale(const Dropout& dropout, int sequence, int head, int start,
                                        int query, int key) {
    if (!dropout.enabled) return A(1);
    unsigned row = query, column = key;
    if (dropout.packed_columns) {
        row = dropout.packed_columns[start + query];
        column = dropout.packed_columns[start + key];
    }
    const Words words = philox(dropout, column / 4, row, sequence, head);
    return word_of(words, column) >= dropout.threshold ? A(dropout.scale) : A(0);
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
// Bytes: dc and c once.
template <class T>
__global__ void attention_delta_1(const T* dcontext, const T* context, wide<T>* delta, Batch batch) {
    const int token = blockIdx.x, head = blockIdx.y;
    const T* dc = context_row(dcontext, batch, token, head);
    const T* c = context_row(context, batch, token, head);
    wide<T> sum = 0;
    for (int d = threadIdx.x; d < batch.head_size; d += WARP_SIZE) sum += widen(dc[d]) * widen(c[d]);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) delta[at_row(batch, token, head)] = sum;
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
    const Sequence sequence = sequence_of(batch, blockIdx.z);
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
    const Sequence sequence = sequence_of(batch, blockIdx.z);
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
