/* DSIR's buckets: sha256 of each word and of each two neighbouring words, modulo the number of buckets.
 *
 * Words are runs of letters, digits and underscores, or of other characters that are not white space, in lower case.
 * That is decided here for ASCII only: the caller puts spaces between the words of any other text.
 */
#include "_common.h"

static const u32 K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline u32 ror(u32 x, int n) { return x >> n | x << (32 - n); }

/* One round; the caller renames the eight words instead of moving them. */
#define ROUND(a, b, c, d, e, f, g, h, i) \
    do { \
        const u32 t = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + K[i] + w[i]; \
        d += t; \
        h = t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b))); \
    } while (0)

/* FIPS 180-4, one block of 64 bytes. */
static void compress(u32 *state, const u8 *p) {
    u32 w[64];
    for (int i = 0; i < 16; i++)
        w[i] = (u32)p[4 * i] << 24 | (u32)p[4 * i + 1] << 16 | (u32)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const u32 x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (ror(x, 7) ^ ror(x, 18) ^ x >> 3) + w[i - 7] + (ror(y, 17) ^ ror(y, 19) ^ y >> 10);
    }
    u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i += 8) {
        ROUND(a, b, c, d, e, f, g, h, i);
        ROUND(h, a, b, c, d, e, f, g, i + 1);
        ROUND(g, h, a, b, c, d, e, f, i + 2);
        ROUND(f, g, h, a, b, c, d, e, i + 3);
        ROUND(e, f, g, h, a, b, c, d, i + 4);
        ROUND(d, e, f, g, h, a, b, c, i + 5);
        ROUND(c, d, e, f, g, h, a, b, i + 6);
        ROUND(b, c, d, e, f, g, h, a, i + 7);
    }
    const u32 after[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; i++) state[i] += after[i];
}

static u32 bucket(const u8 *p, int64_t n, u32 buckets) {
    u32 state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    u8 tail[128] = {0};
    int64_t done = 0;
    for (; n - done >= 64; done += 64) compress(state, p + done);
    const int left = (int)(n - done), size = left < 56 ? 64 : 128;
    memcpy(tail, p + done, (size_t)left);
    tail[left] = 0x80;
    for (int i = 0; i < 8; i++) tail[size - 1 - i] = (u8)((u64)n * 8 >> 8 * i);
    for (int at = 0; at < size; at += 64) compress(state, tail + at);
    u64 rest = 0; /* the hash is one big-endian number */
    for (int i = 0; i < 8; i++) rest = (rest << 32 | state[i]) % buckets;
    return (u32)rest;
}

/* A memo with one entry per slot: the same few n-grams come again and again. A wrong hit needs an equal 64-bit hash. */
enum { MEMO_BITS = 17 };
typedef struct { u64 key; u32 bucket; } Entry;

static u64 quick_hash(const u8 *p, int64_t n) {
    u64 h = (u64)n * 0x9e3779b97f4a7c15ull + 1;
    for (; n > 0; p += 8, n -= 8) {
        u64 x = 0;
        memcpy(&x, p, n < 8 ? (size_t)n : 8);
        h = (h ^ x) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    return h | 1; /* 0 marks an empty entry */
}

static u16 remembered(Entry *memo, const u8 *p, int64_t n, u32 buckets) {
    const u64 key = quick_hash(p, n);
    Entry *e = &memo[(key * 0x9e3779b97f4a7c15ull) >> (64 - MEMO_BITS)];
    if (e->key != key) *e = (Entry){key, bucket(p, n, buckets)};
    return (u16)e->bucket;
}

/* What a byte belongs to. A byte of a character beyond ASCII goes with the bytes around it. */
enum { SPACE, WORD, SIGN, BEYOND };

static void fill_kinds(u8 *kinds) {
    for (int c = 0; c < 256; c++) {
        const int letter = (c | 32) >= 'a' && (c | 32) <= 'z';
        if (c == ' ' || (c >= '\t' && c <= '\r')) kinds[c] = SPACE;
        else if (letter || (c >= '0' && c <= '9') || c == '_') kinds[c] = WORD;
        else kinds[c] = c < 0x80 ? SIGN : BEYOND;
    }
}

/* By the kind of the open word (SPACE: none is open, BEYOND: not known yet) and that of the next byte. */
static const u8 STARTS[4][4] = {{0, 1, 1, 1}, {0, 0, 1, 0}, {0, 1, 0, 0}, {0, 0, 0, 0}};
static const u8 OPEN[4][4] = {{SPACE, WORD, SIGN, BEYOND}, {SPACE, WORD, SIGN, WORD}, {SPACE, WORD, SIGN, SIGN},
                              {SPACE, WORD, SIGN, BEYOND}};

/* Number of words of each text. Returns 0. */
API int zipfit_words(const u8 *text, const int64_t *at, int64_t n, int32_t *out) {
    u8 kinds[256];
    fill_kinds(kinds);
    for (int64_t k = 0; k < n; k++) {
        int open = SPACE;
        int32_t count = 0;
        for (int64_t i = at[k]; i < at[k + 1]; i++) {
            const int kind = kinds[text[i]];
            count += STARTS[open][kind];
            open = OPEN[open][kind];
        }
        out[k] = count;
    }
    return 0;
}

/* The words in lower case with a space between them, and one after the last. Returns the number of bytes. */
static int64_t spread(const u8 *kinds, const u8 *text, int64_t n, u8 *out) {
    u8 *to = out;
    int open = SPACE;
    for (int64_t i = 0; i < n; i++) {
        const int kind = kinds[text[i]];
        if (open != SPACE && (kind == SPACE || STARTS[open][kind])) *to++ = ' ';
        open = OPEN[open][kind];
        if (kind != SPACE) *to++ = (u8)(text[i] + (text[i] >= 'A' && text[i] <= 'Z' ? 'a' - 'A' : 0));
    }
    if (open != SPACE) *to++ = ' ';
    return to - out;
}

/* Buckets of the words of one spread text and of each two neighbours. Returns where the next ones go. */
static u16 *place(Entry *memo, const u8 *text, int64_t n, u32 buckets, u16 *out) {
    int64_t before = -1;
    for (int64_t start = 0; start < n;) {
        const int64_t end = (const u8 *)memchr(text + start, ' ', (size_t)(n - start)) - text;
        *out++ = remembered(memo, text + start, end - start, buckets);
        if (before >= 0) *out++ = remembered(memo, text + before, end - before, buckets);
        before = start;
        start = end + 1;
    }
    return out;
}

/* A text of n words gives the buckets of its n unigrams and n - 1 bigrams: `out` has room for them all, one text after
 * the other. Returns 0; -1: out of memory; -4: too many buckets. */
API int zipfit_ngrams(const u8 *text, const int64_t *at, int64_t n, int64_t buckets, u16 *out) {
    if (buckets < 1 || buckets > UINT16_MAX + 1) return -4;
    u8 kinds[256];
    fill_kinds(kinds);
    Entry *memo = calloc((size_t)1 << MEMO_BITS, sizeof *memo);
    u8 *words = malloc(2 * (size_t)longest_text(at, n) + 1);
    const int failed = !memo || !words;
    for (int64_t k = 0; k < n && !failed; k++)
        out = place(memo, words, spread(kinds, text + at[k], at[k + 1] - at[k], words), (u32)buckets, out);
    free(memo);
    free(words);
    return failed ? -1 : 0;
}
