/* Normalised text, shingle sets and MinHash signatures. `jitted.py` says the same in plainer Python. */
#include "_common.h"

enum { LETTER, CHARACTER, SPACE, PUNCTUATION };
enum { WORD, CHAR, CODE };
enum { BITS = 10 };

API i64 dedup_doubtful(const u8 *data, const i64 *at, i64 rows, const u8 *composed, u8 *out) {
    for (i64 row = 0; row < rows; row++) {
        const u8 *p = data + at[row], *end = data + at[row + 1];
        out[row] = 0;
        while (p < end && !out[row]) {
            u64 eight;
            while (end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080u))) p += 8;
            int n = 1;
            if (p < end && *p >= 0x80) out[row] = !composed[decode(p, &n)];
            p += n;
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

/* Hashes of the tokens of a text to `out[1]` and on; returns how many. There is no branch at a token's end, which would
 * be mispredicted more often than not: what is no token goes to `out[0]`, a letter after a letter to its token again. */
static i64 tokens(const u8 *p, const u8 *end, const u8 *classes, i64 kind, u64 *out) {
    const u32 masks[] = {kind == CHAR ? 1 : 3, 1, kind == CHAR, kind != WORD}; /* bit 0: a token, bit 1: goes on */
    u64 value = 0;
    i64 used = 0;
    for (u32 before = 0; p < end;) {
        int n;
        const u32 code = decode(p, &n), now = masks[classes[code]];
        const u64 inside = (now & before) >> 1, kept = now & 1;
        value = (((value & -inside) | (0xCBF29CE484222325u & (inside - 1))) ^ code) * 0x100000001B3u;
        used += (i64)(kept & ~inside);
        out[used & -(i64)kept] = value;
        before = now;
        p += n;
    }
    return used;
}

/* Hashes of the runs of `size` tokens, a polynomial in the tokens' hashes, which rolls. `values` has room for one more
 * than the texts have bytes: a text's tokens are written one behind where its shingles go, which then replace them. */
API i64 dedup_shingle(const u8 *data, const i64 *at, i64 rows, const u8 *classes, i64 kind, i64 size, u64 *values,
                      i64 *ends) {
    u64 leaving = 1;
    i64 used = 0;
    for (i64 k = 0; k < size; k++) leaving *= 0xD1342543DE82EF95u;
    ends[0] = 0;
    for (i64 row = 0; row < rows; row++) {
        u64 *token = values + used + 1, rolled = 0;
        const i64 seen = tokens(data + at[row], data + at[row + 1], classes, kind, values + used);
        for (i64 k = 0; k < seen; k++) {
            rolled = rolled * 0xD1342543DE82EF95u + (token[k] = mix(token[k]));
            if (k >= size) rolled -= token[k - size] * leaving;
            if (k + 1 >= size) values[used++] = mix(rolled ^ 0x9E3779B97F4A7C15u);
        }
        if (0 < seen && seen < size) values[used++] = mix(rolled ^ (u64)seen);
        ends[row + 1] = used;
    }
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

/* Sort hashes, which are spread evenly: by their high bits into about as many buckets, then each bucket. */
static void spread(u64 *v, i64 n, u64 *copy) {
    u32 at[1 << BITS];
    int bits = 1;
    while (bits < BITS && n >> bits > 1) bits++;
    memset(at, 0, sizeof *at << bits);
    for (i64 k = 0; k < n; k++) at[v[k] >> (64 - bits)]++;
    for (u32 bucket = 0, used = 0; bucket < 1u << bits; bucket++) {
        const u32 count = at[bucket];
        at[bucket] = used;
        used += count;
    }
    memcpy(copy, v, (size_t)n * sizeof *v);
    for (i64 k = 0; k < n; k++) v[at[copy[k] >> (64 - bits)]++] = copy[k];
    for (i64 bucket = 0, start = 0; bucket < 1 << bits; start = at[bucket++]) sort(v + start, at[bucket] - start);
}

API i64 dedup_sort(u64 *values, const i64 *at, i64 rows) {
    i64 room = 0;
    for (i64 row = 0; row < rows; row++)
        if (at[row + 1] - at[row] > room) room = at[row + 1] - at[row];
    u64 *copy = malloc((size_t)(room + 1) * sizeof *copy);
    if (!copy) return -1;
    for (i64 row = 0; row < rows; row++) spread(values + at[row], at[row + 1] - at[row], copy);
    free(copy);
    return 0;
}

API i64 dedup_one_permutation(const u64 *values, const i64 *at, i64 rows, i64 width, u64 seed, u32 *out) {
    /* a bin's value below the round that filled it: no later round gets under it, so that no branch has to ask */
    u64 *bins = malloc((size_t)width * sizeof *bins);
    if (!bins) return -1;
    for (i64 row = 0; row < rows; row++, out += width) {
        const u64 *first = values + at[row], *last = values + at[row + 1];
        u64 salt = seed;
        i64 left = first < last ? width : 0;
        memset(bins, 0xFF, (size_t)width * sizeof *bins);
        for (u64 turn = 0; left > 0; turn++) {
            salt += 0x9E3779B97F4A7C15u;
            const u64 own = turn < (u64)width ? 0 : turn - (u64)width, spread = turn < (u64)width ? (u64)width : 0;
            for (const u64 *p = first; p < last; p++) {
                const u64 hashed = mix(*p ^ salt), value = turn << 32 | (u32)hashed;
                u64 *bin = bins + ((hashed >> 32) * spread >> 32) + own;
                left -= *bin == UINT64_MAX;
                *bin = value < *bin ? value : *bin;
            }
        }
        for (i64 k = 0; k < width; k++) out[k] = (u32)bins[k];
    }
    free(bins);
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
