/* DEFLATE's parse: zlib's hash chains, greedy and lazy matching, blocks and the moving window. See _kernel.c. */
#ifndef ZIPFIT_PARSE_H
#define ZIPFIT_PARSE_H

#include "_huffman.h"

typedef struct { int32_t hash, head, prev; } Undo;

typedef struct {
    int64_t at, base, block_start;                 /* next position, window start, start of the open block */
    int32_t match_length, match_start, available;  /* of the position before `at` (lazy matching) */
    int32_t symbols;
    u64 bits;                                      /* closed blocks */
} Cursor;

typedef struct {
    const Codes *codes;
    Config cfg;
    int fast;
    const u8 *buf;
    int32_t n;
    int32_t last; /* last position to enter the hash table */
    Cursor c;
    Freq f;
    int32_t *head; /* HASH_SIZE latest positions */
    int32_t *prev; /* WSIZE earlier position with the same hash */
    u32 seen[HASH_SIZE / 32]; /* which hashes have a position */
    Undo *undo;    /* where not NULL: what `insert` overwrote */
    int64_t undone;
} Coder;

static inline u32 hash3(const u8 *p) { return ((u32)p[0] << 10 ^ (u32)p[1] << 5 ^ p[2]) & (HASH_SIZE - 1); }

static inline int32_t insert(Coder *z, int32_t at) {
    const u32 h = hash3(z->buf + at);
    const int32_t old = z->head[h];
    if (z->undo) z->undo[z->undone++] = (Undo){(int32_t)h, old, z->prev[at & (WSIZE - 1)]};
    z->prev[at & (WSIZE - 1)] = old;
    z->head[h] = at;
    z->seen[h >> 5] |= 1u << (h & 31);
    return old;
}

static void roll_back(Coder *z) {
    while (z->undone > 0) {
        const Undo u = z->undo[--z->undone];
        z->prev[z->head[u.hash] & (WSIZE - 1)] = u.prev;
        z->head[u.hash] = u.head;
        if (u.head < 0) z->seen[u.hash >> 5] &= ~(1u << (u.hash & 31));
    }
}

static inline int lowest_bit(u64 word) {
#if defined(__GNUC__)
    return __builtin_ctzll(word);
#else
    int k = 0;
    for (; !(word & 1); word >>= 1) k++;
    return k;
#endif
}

static inline u16 two(const u8 *p) {
    u16 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline int common(const u8 *a, const u8 *b, int limit) {
    int n = 0;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && defined(__GNUC__)
    for (; n + 8 <= limit; n += 8) {
        u64 x, y;
        memcpy(&x, a + n, 8);
        memcpy(&y, b + n, 8);
        if (x != y) return n + (lowest_bit(x ^ y) >> 3);
    }
#endif
    while (n < limit && a[n] == b[n]) n++;
    return n;
}

static inline void literal(Coder *z, u8 byte) { z->f.l[byte]++; z->c.symbols++; }

static inline void match(Coder *z, u32 distance, u32 length) {
    z->f.l[257 + z->codes->length[length - MIN_MATCH]]++;
    z->f.d[dist_code(z->codes, distance - 1)]++;
    z->c.symbols++;
}

static void end_block(Coder *z, Block *b) {
    b->f = z->f;
    b->f.l[END_BLOCK]++;
    b->bits = z->c.bits;
    b->stored = z->c.block_start >= z->c.base ? z->c.at - z->c.block_start : -1;
}

static void flush(Coder *z) {
    Block b;
    u64 same;
    end_block(z, &b);
    close_both(&z->codes->runs, &b, &b, &z->c.bits, &same);
    memset(&z->f, 0, sizeof z->f);
    z->c.symbols = 0;
    z->c.block_start = z->c.at;
}

/* Longest match for `at` along a chain from `cur`; updates *start. *ran_out is set where a comparison met the end. */
static inline int longest(const Coder *z, int32_t at, int32_t cur, int best, int chain, int32_t *start, int *ran_out) {
    const int look = z->n - at, cap = look < MAX_MATCH ? look : MAX_MATCH;
    const int nice = z->cfg.nice < look ? z->cfg.nice : look;
    const int64_t far_ = at - z->c.base > MAX_DIST ? (int64_t)at - MAX_DIST : z->c.base;
    const u8 *scan = z->buf + at;
    u16 ends = two(scan + best - 1);
    do {
        const u8 *m = z->buf + cur;
        if (two(m + best - 1) != ends) continue; /* no longer than the best so far */
        const int len = common(scan, m, cap);
        if (len == look) *ran_out = 1;
        if (len > best) {
            *start = cur;
            best = len;
            if (len >= nice) break;
            ends = two(scan + best - 1);
        }
    } while ((cur = z->prev[cur & (WSIZE - 1)]) > far_ && --chain != 0);
    return best;
}

static inline void slide(Cursor *c, int32_t n) {
    /* zlib refills its 64 KB window when fewer than 262 bytes lie ahead, and moves it by 32 KB if it is far enough */
    const int64_t end = c->base + 2 * WSIZE < n ? c->base + 2 * WSIZE : n;
    if (end - c->at < WSIZE - MAX_DIST && c->at - c->base >= WSIZE + MAX_DIST) c->base += WSIZE;
}

/* Would more bytes after the end change when the window moves? */
static inline int moves_early(const Cursor *c, int32_t n) {
    return n - c->at < WSIZE - MAX_DIST && c->at - c->base >= WSIZE + MAX_DIST;
}

static inline int usable(const Coder *z, int32_t at, int32_t head) {
    return head > z->c.base && at - head <= MAX_DIST;
}

/* Levels 1 to 3: greedy. With `pause`, stops before the first step that the bytes after the end could change. */
static void run_fast(Coder *z, int pause) {
    while (z->c.at < z->n) {
        if (pause && moves_early(&z->c, z->n)) return;
        slide(&z->c, z->n);
        const int32_t at = (int32_t)z->c.at, look = z->n - at;
        int32_t start = 0, head = NIL;
        int length = MIN_MATCH - 1, ran_out = 0;
        if (pause && look < MIN_MATCH) return;
        if (look >= MIN_MATCH) {
            const u32 h = hash3(z->buf + at);
            head = z->head[h];
            if (usable(z, at, head)) length = longest(z, at, head, length, z->cfg.chain, &start, &ran_out);
            if (pause && (ran_out || (length >= MIN_MATCH && look - length < MIN_MATCH))) return;
            insert(z, at);
        }
        if (length >= MIN_MATCH) {
            match(z, (u32)(at - start), (u32)length);
            if (length <= z->cfg.lazy && look - length >= MIN_MATCH)
                for (int k = 1; k < length; k++) insert(z, at + k);
            z->c.at += length;
        } else {
            literal(z, z->buf[at]);
            z->c.at++;
        }
        if (z->c.symbols == BLOCK_SYMBOLS) flush(z);
    }
}

/* Levels 4 to 9: lazy. `pause` as above; stops at `until` (or a little later, after a match). */
static void run_lazy(Coder *z, int pause, int32_t until) {
    while (z->c.at < until) {
        if (pause && moves_early(&z->c, z->n)) return;
        slide(&z->c, z->n);
        const int32_t at = (int32_t)z->c.at, look = z->n - at, before = z->c.match_length, back = z->c.match_start;
        int32_t start = back;
        int length = MIN_MATCH - 1, ran_out = 0;
        if (pause && look < MIN_MATCH) return;
        if (look >= MIN_MATCH) {
            const int32_t head = z->head[hash3(z->buf + at)];
            if (usable(z, at, head) && before < z->cfg.lazy) {
                if (before >= look) ran_out = 1; /* nothing longer fits: the match before stands */
                else {
                    const int chain = before >= z->cfg.good ? z->cfg.chain >> 2 : z->cfg.chain;
                    length = longest(z, at, head, before, chain, &start, &ran_out);
                    if (length == MIN_MATCH && at - start > TOO_FAR) length = MIN_MATCH - 1;
                }
            }
            if (pause && (ran_out || (before >= MIN_MATCH && at - 1 + before + 2 > z->n))) return;
            insert(z, at);
        }
        if (before >= MIN_MATCH && length <= before) {
            match(z, (u32)(at - 1 - back), (u32)before);
            const int32_t end = at - 1 + before;
            for (int32_t p = at + 1; p < end && p <= z->last; p++) insert(z, p);
            z->c.at = end;
            z->c.available = 0;
            z->c.match_length = MIN_MATCH - 1;
            z->c.match_start = start;
            if (z->c.symbols == BLOCK_SYMBOLS) flush(z);
            continue;
        }
        if (z->c.available) {
            literal(z, z->buf[at - 1]);
            if (z->c.symbols == BLOCK_SYMBOLS) flush(z);
        }
        z->c.available = 1;
        z->c.match_length = length;
        z->c.match_start = start;
        z->c.at++;
    }
}

static void begin(Coder *z, int32_t n) {
    z->n = n;
    z->last = n - MIN_MATCH;
    z->c = (Cursor){.match_length = MIN_MATCH - 1};
    memset(&z->f, 0, sizeof z->f);
}

static void clear(Coder *z) {
    memset(z->head, 0xff, HASH_SIZE * sizeof *z->head);
    memset(z->seen, 0, sizeof z->seen);
}

/* An empty table again, after a text of `n` bytes: a short one has touched little of it. */
static void forget(Coder *z, int32_t n) {
    if (n > HASH_SIZE / 8) {
        clear(z);
        return;
    }
    for (int32_t at = 0; at + MIN_MATCH <= n; at++) {
        const u32 h = hash3(z->buf + at);
        z->head[h] = NIL;
        z->seen[h >> 5] = 0;
    }
}

/* From wherever the coder stands to the end, which leaves the last block open. */
static void complete(Coder *z, Block *b) {
    if (z->fast) run_fast(z, 0);
    else run_lazy(z, 0, z->n);
    if (z->c.available) literal(z, z->buf[z->c.at - 1]);
    end_block(z, b);
}

static int32_t gzip_length(u64 bits) { return (int32_t)((bits + 7) >> 3) + GZIP; }

#endif
