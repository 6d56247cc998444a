/* Normalised text, shingle sets and MinHash signatures. `jitted.py` says the same in Python, comments included. */
#include "_common.h"

enum { LETTER, CHARACTER, SPACE, PUNCTUATION };
enum { WORD, CHAR, CODE };

API i64 dedup_doubtful(const u8 *data, const i64 *at, i64 rows, const u8 *composed, u8 *out) {
    for (i64 row = 0; row < rows; row++) {
        int n = 1;
        out[row] = 0;
        for (const u8 *p = data + at[row], *end = data + at[row + 1]; p < end; p += n) {
            n = 1;
            if (*p >= 0x80 && !composed[decode(p, &n)]) {
                out[row] = 1;
                break;
            }
        }
    }
    return 0;
}

static inline u8 *encode(u32 code, u8 *out) {
    if (code < 0x80) {
        *out++ = (u8)code;
    } else if (code < 0x800) {
        *out++ = (u8)(0xC0 | code >> 6);
        *out++ = (u8)(0x80 | (code & 0x3F));
    } else {
        if (code < 0x10000) {
            *out++ = (u8)(0xE0 | code >> 12);
        } else {
            *out++ = (u8)(0xF0 | code >> 18);
            *out++ = (u8)(0x80 | (code >> 12 & 0x3F));
        }
        *out++ = (u8)(0x80 | (code >> 6 & 0x3F));
        *out++ = (u8)(0x80 | (code & 0x3F));
    }
    return out;
}

API i64 dedup_normalise(const u8 *data, const i64 *at, i64 rows, const u32 *lower, const u8 *classes, i64 whitespace,
                        u8 *out, i64 *ends, i64 *chars) {
    u8 small[128], spaces[128];
    u8 *used = out;
    for (int k = 0; k < 128; k++) {
        spaces[k] = whitespace && classes[k] == SPACE;
        small[k] = spaces[k] ? 32 : (u8)lower[k];
    }
    ends[0] = 0;
    for (i64 row = 0; row < rows; row++) {
        const u8 *p = data + at[row], *end = data + at[row + 1];
        u8 *start = used;
        i64 more = 0;
        int spaced = whitespace != 0;
        while (p < end) {
            if (*p < 0x80) {
                const int space = spaces[*p];
                *used = small[*p++];
                used += 1 - (space & spaced);
                spaced = space;
                continue;
            }
            int n;
            const u32 code = decode(p, &n);
            p += n;
            if (whitespace && classes[code] == SPACE) {
                *used = 32;
                used += 1 - spaced;
                spaced = 1;
                continue;
            }
            u8 *after = encode(lower[code], used);
            more += after - used - 1;
            used = after;
            spaced = 0;
        }
        used -= spaced & (used > start);
        ends[row + 1] = used - out;
        chars[row] = used - start - more;
    }
    return used - out;
}

/* The next token at or after `p`: the position behind it, or NULL; its hash goes to `hash`. */
static inline const u8 *token(const u8 *p, const u8 *end, const u8 *classes, int kind, u64 *hash) {
    while (p < end) {
        int n;
        const u32 code = decode(p, &n);
        u64 value = (0xCBF29CE484222325u ^ code) * 0x100000001B3u;
        p += n;
        if (kind != CHAR) {
            const u8 group = classes[code];
            if (group == SPACE || (group == PUNCTUATION && kind == WORD)) continue;
            if (group == LETTER)
                while (p < end) {
                    const u32 next = decode(p, &n);
                    if (classes[next] != LETTER) break;
                    value = (value ^ next) * 0x100000001B3u;
                    p += n;
                }
        }
        *hash = mix(value);
        return p;
    }
    return NULL;
}

API i64 dedup_shingle(const u8 *data, const i64 *at, i64 rows, const u8 *classes, i64 kind, i64 size, u64 *values,
                      i64 *ends) {
    u64 *ring = malloc((size_t)size * sizeof *ring), leaving = 1, hash = 0;
    i64 used = 0;
    if (!ring) return -1;
    for (i64 k = 0; k < size; k++) leaving *= 0xD1342543DE82EF95u;
    ends[0] = 0;
    for (i64 row = 0; row < rows; row++) {
        const u8 *p = data + at[row], *end = data + at[row + 1];
        i64 seen = 0, slot = 0;
        u64 rolled = 0;
        memset(ring, 0, (size_t)size * sizeof *ring);
        while ((p = token(p, end, classes, (int)kind, &hash))) {
            rolled = rolled * 0xD1342543DE82EF95u + hash - ring[slot] * leaving;
            ring[slot] = hash;
            slot = slot + 1 < size ? slot + 1 : 0;
            if (++seen >= size) values[used++] = mix(rolled ^ 0x9E3779B97F4A7C15u);
        }
        if (0 < seen && seen < size) values[used++] = mix(rolled ^ (u64)seen);
        ends[row + 1] = used;
    }
    free(ring);
    return used;
}

API i64 dedup_distinct(u64 *values, const i64 *at, i64 rows, i64 *ends) {
    u64 room = 0, *table = NULL;
    i64 used = 0;
    ends[0] = 0;
    for (i64 row = 0; row < rows; row++) {
        u64 slots = 16;
        while (slots < 2 * (u64)(at[row + 1] - at[row])) slots *= 2;
        if (slots > room) {
            free(table);
            if (!(table = malloc(slots * sizeof *table))) return -1;
            room = slots;
        }
        memset(table, 0, slots * sizeof *table);
        for (i64 k = at[row]; k < at[row + 1]; k++) {
            const u64 value = values[k] ? values[k] : 1;
            u64 slot = value & (slots - 1);
            while (table[slot] && table[slot] != value) slot = (slot + 1) & (slots - 1);
            if (!table[slot]) values[used++] = table[slot] = value;
        }
        ends[row + 1] = used;
    }
    free(table);
    return used;
}

static void sort(u64 *v, i64 n) {
    while (n > 24) {
        u64 a = v[0], b = v[n / 2], c = v[n - 1];
        const u64 pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        i64 i = 0, j = n - 1;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i <= j) {
                const u64 t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (j + 1 < n - i) {
            sort(v, j + 1);
            v += i;
            n -= i;
        } else {
            sort(v + i, n - i);
            n = j + 1;
        }
    }
    for (i64 k = 1; k < n; k++) {
        const u64 value = v[k];
        i64 to = k;
        for (; to > 0 && v[to - 1] > value; to--) v[to] = v[to - 1];
        v[to] = value;
    }
}

API i64 dedup_sort(u64 *values, const i64 *at, i64 rows) {
    for (i64 row = 0; row < rows; row++) sort(values + at[row], at[row + 1] - at[row]);
    return 0;
}

API i64 dedup_one_permutation(const u64 *values, const i64 *at, i64 rows, i64 width, u64 seed, u32 *out) {
    i64 *round_of = malloc((size_t)width * sizeof *round_of); /* the round that filled each bin, 0 for none */
    if (!round_of) return -1;
    memset(out, 0xFF, (size_t)(rows * width) * sizeof *out);
    for (i64 row = 0; row < rows; row++, out += width) {
        const u64 *first = values + at[row], *last = values + at[row + 1];
        u64 salt = seed;
        i64 left = first < last ? width : 0;
        memset(round_of, 0, (size_t)width * sizeof *round_of);
        for (i64 turn = 1; left > 0; turn++) {
            salt += 0x9E3779B97F4A7C15u;
            for (const u64 *p = first; p < last; p++) {
                const u64 hashed = mix(*p ^ salt);
                const i64 slot = turn <= width ? (i64)((hashed >> 32) * (u64)width >> 32) : turn - 1 - width;
                const u32 low = (u32)hashed;
                if (!round_of[slot]) {
                    round_of[slot] = turn;
                    out[slot] = low;
                    left--;
                } else if (round_of[slot] == turn && low < out[slot]) {
                    out[slot] = low;
                }
            }
        }
    }
    free(round_of);
    return 0;
}

API i64 dedup_k_permutation(const u64 *values, const i64 *at, i64 rows, const u32 *a, const u32 *b, i64 width,
                             u32 *out) {
    memset(out, 0xFF, (size_t)(rows * width) * sizeof *out);
    for (i64 row = 0; row < rows; row++, out += width)
        for (i64 k = at[row]; k < at[row + 1]; k++) {
            u32 x = (u32)values[k];
            x ^= x >> 16;
            x *= 0x85EBCA6Bu;
            x ^= x >> 13;
            x *= 0xC2B2AE35u;
            x ^= x >> 16;
            for (i64 j = 0; j < width; j++) {
                const u32 y = a[j] * x + b[j];
                if (y < out[j]) out[j] = y;
            }
        }
    return 0;
}
