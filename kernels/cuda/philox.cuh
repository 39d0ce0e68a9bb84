// Dropout's random words, Philox 4×32-10: those of albert_np/functions/dropout.py, bit for bit.
#pragma once
#include "device.cuh"

// One dropout of one call. `threshold` is ⌊p·2³²⌋ and `scale` 1 / (1 − p); with p = 1 they are 0
// and 0. `packed_sequences` and `packed_columns` say where a token of a packed batch lies in the
// padded one; where they are null, row r of the arrays is token r % tokens of sequence r / tokens.
struct Dropout {
    const long long* packed_sequences;
    const long long* packed_columns;
    unsigned long long seed;
    double scale;
    unsigned threshold;
    unsigned site;
    int tokens;
    int enabled;
};
static_assert(sizeof(Dropout) == 48, "as DROPOUT of arrays.py");

struct Words {
    unsigned values[4];
};
// The word of a column. A register array may only be indexed by constants: chosen, not looked up.
__device__ __forceinline__ unsigned word_of(const Words& words, unsigned column) {
    const unsigned low = column % 2 ? words.values[1] : words.values[0];
    const unsigned high = column % 2 ? words.values[3] : words.values[2];
    return column % 4 < 2 ? low : high;
}

// The words of columns 4·quad … 4·quad + 3. Each of the ten rounds is two 32×32-bit products.
__device__ __forceinline__ Words philox(const Dropout& dropout, unsigned quad, unsigned row,
                                        unsigned sequence, unsigned head) {
    unsigned c0 = quad, c1 = row, c2 = sequence, c3 = (dropout.site << 16) + head;
    unsigned k0 = static_cast<unsigned>(dropout.seed);
    unsigned k1 = static_cast<unsigned>(dropout.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const unsigned high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        const unsigned high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Where a row of a (rows, H) array lies in the padded batch.
struct Place {
    unsigned sequence, column;
};
__device__ __forceinline__ Place place_of(const Dropout& dropout, int row) {
    if (dropout.packed_sequences)
        return {static_cast<unsigned>(dropout.packed_sequences[row]),
                static_cast<unsigned>(dropout.packed_columns[row])};
    return {static_cast<unsigned>(row / dropout.tokens), static_cast<unsigned>(row % dropout.tokens)};
}

// What N values of one row, from column `first` on, are multiplied by: 0 or 1 / (1 − p).
template <int N, class A>
__device__ __forceinline__ void keep_scales(const Dropout& dropout, int row, int first,
                                            A (&scales)[N]) {
    const Place place = place_of(dropout, row);
    Words words;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const unsigned column = first + i;
        if (i == 0 || column % 4 == 0)
            words = philox(dropout, column / 4, place.column, place.sequence, 0);
        scales[i] = word_of(words, column) >= dropout.threshold ? A(dropout.scale) : A(0);
    }
}
