/* Exact lengths of DEFLATE streams, without making the streams.
 *
 * For every text x and every target t: the number of bits that zlib (1.2.x, 1.3.x; windowBits 15, memLevel 8, default
 * strategy, one call with Z_FINISH) writes for x, t and x+t. Written from the published behaviour of the algorithm:
 * hash chains over three bytes, lazy matching, blocks of 16,383 symbols, Huffman trees with zlib's tie-breaking.
 *
 * Why it is fast: the parse of x up to its last bytes is shared by all targets; from level 4 on every position enters
 * the hash table, so the matches of t with itself do not depend on x and are found once per target.
 *
 * Plain C99, no Python headers: built as a shared library and called through ctypes, which releases the GIL.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define API __declspec(dllexport)
#else
#define API __attribute__((visibility("default")))
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

enum {
    MIN_MATCH = 3, MAX_MATCH = 258, WSIZE = 32768, MAX_DIST = WSIZE - MAX_MATCH - MIN_MATCH - 1, TOO_FAR = 4096,
    HASH_SIZE = 32768, L_CODES = 286, D_CODES = 30, BL_CODES = 19, END_BLOCK = 256, BLOCK_SYMBOLS = 16383,
    SHORT_PAIR = 16383, NIL = -1, GZIP = 18, HEAP_ROOM = 512
};

typedef struct { int good, lazy, nice, chain; } Config;
static const Config LEVELS[10] = {
    {0, 0, 0, 0}, {4, 4, 8, 4}, {4, 5, 16, 8}, {4, 6, 32, 32}, {4, 4, 16, 16}, {8, 16, 32, 32},
    {8, 16, 128, 128}, {8, 32, 128, 256}, {32, 128, 258, 1024}, {32, 258, 258, 4096}};

static const u8 L_EXTRA[29] = {0,0,0,0,0,0,0,0,1,1,1,1,2,2,2,2,3,3,3,3,4,4,4,4,5,5,5,5,0};
static const u8 D_EXTRA[D_CODES] = {0,0,0,0,1,1,2,2,3,3,4,4,5,5,6,6,7,7,8,8,9,9,10,10,11,11,12,12,13,13};
static const u8 BL_ORDER[BL_CODES] = {16,17,18,0,8,7,9,6,10,5,11,4,12,3,13,2,14,1,15};

/* Length minus 3 -> code minus 257; distance minus 1 -> code. Constant after `tables`, which every entry point calls. */
/* How a run of equal code lengths is sent: {as itself, by code 16, by code 17, by code 18}. */
typedef struct { u8 same[L_CODES + 2][4], zero[L_CODES + 2][4]; } Runs;
typedef struct { u8 length[256]; u8 near_[256]; u8 far_[256]; Runs runs; } Codes;

/* One run of `n`: the first `most` go in one code if they are at least `least`, then the rest. */
static void split_runs(Runs *runs) {
    memset(runs, 0, sizeof *runs);
    for (int n = 1; n < L_CODES + 2; n++) {
        int left = n;
        for (; left >= 3; left -= left < 138 ? left : 138) runs->zero[n][left <= 10 ? 2 : 3]++;
        runs->zero[n][0] = (u8)left;
        left = n;
        if (n >= 4) {
            runs->same[n][0]++;
            for (left--; left >= 3; left -= left < 6 ? left : 6) runs->same[n][1]++;
        }
        runs->same[n][0] = (u8)(runs->same[n][0] + left);
    }
}

static void tables(Codes *c) {
    split_runs(&c->runs);
    int value = 0;
    for (int code = 0; code < 28; code++)
        for (int k = 0; k < 1 << L_EXTRA[code] && value < 256; k++) c->length[value++] = (u8)code;
    c->length[255] = 28;
    int dist = 0, code = 0;
    for (; code < 16; code++)
        for (int k = 0; k < 1 << D_EXTRA[code]; k++) c->near_[dist++] = (u8)code;
    memset(c->far_, 0, sizeof c->far_);
    dist >>= 7;
    for (; code < D_CODES; code++)
        for (int k = 0; k < 1 << (D_EXTRA[code] - 7); k++) c->far_[dist++] = (u8)code;
}

static inline int dist_code(const Codes *c, u32 d) { return d < 256 ? c->near_[d] : c->far_[d >> 7]; }

/* ---------------------------------------------------------------- Huffman trees ---- */

typedef struct {
    u64 bits;             /* payload bits of the symbols under this tree, extra bits left out */
    int max_code;
    u16 len[L_CODES + 2]; /* code lengths; [max_code + 1] is a guard */
} Tree;

/* Heap items are (frequency, depth, node) in one word; equal frequency and depth count as "smaller", as in zlib. */
enum { NODE_BITS = 10, DEPTH_BITS = 5, NODE_MASK = (1 << NODE_BITS) - 1 };
static const u32 NONE = UINT32_MAX;
/* c ? a : b for c of 0 or 1, without a branch */
#define PICK(c, a, b) ((b) ^ (((a) ^ (b)) & (0u - (c))))
#define NOT_ABOVE(a, b) ((a) <= ((b) | NODE_MASK))

typedef struct {
    u32 item[2 * HEAP_ROOM]; /* 1-based; NONE beyond n */
    int n;
} Heap;

typedef struct { u32 at, v, own, keep; } Sift;

/* One level of sifting v down. Along the path of smaller children e1 <= e2 <= ..., zlib moves up what is smaller than v,
 * puts v before the first that is not, and leaves the rest: so every place gets the middle one of v, the element it
 * has and its smaller child. No branch depends on the data. */
static inline void sift_level(Sift *s, u32 *item) {
    const u32 left = item[2 * s->at], right = item[2 * s->at + 1];
    const u32 r = NOT_ABOVE(right, left);
    const u32 child = PICK(r, right, left);
    const u32 stop = NOT_ABOVE(s->v, child);
    const u32 here = PICK(stop, s->v, child);
    item[s->at] = PICK(s->keep, s->own, here);
    *s = (Sift){2 * s->at + r, s->v, child, stop};
}

static inline void sift_last(const Sift *s, u32 *item) { item[s->at] = PICK(s->keep, s->own, s->v); }

/* Two heaps at a time: each step waits for memory, so two independent ones overlap. */
static inline void sift_both(Heap *a, Heap *b, int levels, u32 k, u32 va, u32 vb) {
    Sift sa = {k, va, 0, 0}, sb = {k, vb, 0, 0};
    for (; levels > 0; levels--) {
        sift_level(&sa, a->item);
        sift_level(&sb, b->item);
    }
    sift_last(&sa, a->item);
    sift_last(&sb, b->item);
}

/* More codes than `limit` bits allow: move leaves up as zlib does, then hand the lengths out again. */
static void shorten(Tree *tree, const u32 *freq, const u16 *order, int count, int *bl_count, int limit, int overflow) {
    do {
        int bits = limit - 1;
        while (bl_count[bits] == 0) bits--;
        bl_count[bits]--;
        bl_count[bits + 1] += 2;
        bl_count[limit]--;
        overflow -= 2;
    } while (overflow > 0);
    int h = 0; /* `order` lists leaves and nodes from the least frequent on */
    for (int bits = limit; bits != 0; bits--)
        for (int n = bl_count[bits]; n != 0 && h < count;) {
            const int m = order[h++];
            if (m > tree->max_code) continue;
            tree->bits += (u64)((int64_t)(bits - tree->len[m]) * freq[m]);
            tree->len[m] = (u16)bits;
            n--;
        }
}

typedef struct { u16 order[2 * L_CODES + 2], dad[2 * L_CODES + 2]; int count, node; } Merge;

/* The symbols in use, at least two of them: zlib adds unused ones of frequency one. */
static void fill(Heap *h, Merge *m, Tree *tree, const u32 *freq, int elems) {
    int n = 0, last = -1;
    for (int s = 0; s < elems; s++) {
        tree->len[s] = 0;
        h->item[n + 1] = freq[s] << (NODE_BITS + DEPTH_BITS) | (u32)s;
        n += freq[s] != 0;
        if (freq[s]) last = s;
    }
    while (n < 2) h->item[++n] = 1u << (NODE_BITS + DEPTH_BITS) | (u32)(last < 2 ? ++last : 0);
    tree->max_code = last;
    h->n = n;
    m->count = 0;
    m->node = elems;
}

/* Take the last item out. */
static inline u32 last_item(Heap *h) {
    const u32 v = h->item[h->n];
    h->item[h->n--] = NONE;
    return v;
}

/* Join the two least frequent into a new node, which it returns. */
static inline u32 join(Merge *m, u32 a, u32 b) {
    const u32 mask = (1u << DEPTH_BITS) - 1, da = a >> NODE_BITS & mask, db = b >> NODE_BITS & mask;
    const u32 sum = (a >> (NODE_BITS + DEPTH_BITS)) + (b >> (NODE_BITS + DEPTH_BITS));
    m->order[m->count++] = (u16)(a & NODE_MASK);
    m->order[m->count++] = (u16)(b & NODE_MASK);
    m->dad[a & NODE_MASK] = m->dad[b & NODE_MASK] = (u16)m->node;
    return (sum << DEPTH_BITS | ((da >= db ? da : db) + 1)) << NODE_BITS | (u32)m->node++;
}

static void set_lengths(Tree *tree, const Merge *m, const u32 *freq, int limit) {
    u8 depth[2 * L_CODES + 2];
    int bl_count[16] = {0}, overflow = 0;
    depth[m->node - 1] = 0; /* the root */
    tree->bits = 0;
    for (int h = m->count - 1; h >= 0; h--) {
        const int s = m->order[h];
        int bits = depth[m->dad[s]] + 1;
        if (bits > limit) { bits = limit; overflow++; }
        depth[s] = (u8)bits;
        if (s > tree->max_code) continue;
        bl_count[bits]++;
        tree->len[s] = (u16)bits;
        tree->bits += (u64)freq[s] * (u64)bits;
    }
    if (overflow) shorten(tree, freq, m->order, m->count, bl_count, limit, overflow);
    tree->len[tree->max_code + 1] = 0xffff;
}

/* Two independent Huffman trees over `elems` symbols, code lengths at most `limit`. */
static void build_trees(Tree *ta, const u32 *fa, Tree *tb, const u32 *fb, int elems, int limit) {
    Heap a, b;
    Merge ma, mb;
    fill(&a, &ma, ta, fa, elems);
    fill(&b, &mb, tb, fb, elems);
    int most = a.n > b.n ? a.n : b.n, levels = 0;
    while (2 << levels <= most) levels++;
    for (int k = a.n + 1; k < 4 << levels; k++) a.item[k] = NONE;
    for (int k = b.n + 1; k < 4 << levels; k++) b.item[k] = NONE;
    for (int top = levels - 1; top >= 0; top--)
        for (u32 k = (2u << top) - 1; k >= 1u << top; k--) sift_both(&a, &b, levels - top, k, a.item[k], b.item[k]);
    while (most >= 2) { /* a heap that is down to its root goes through the motions without harm */
        const u32 xa = a.item[1], xb = b.item[1];
        const int ga = a.n >= 2, gb = b.n >= 2;
        sift_both(&a, &b, levels, 1, ga ? last_item(&a) : xa, gb ? last_item(&b) : xb);
        const u32 na = ga ? join(&ma, xa, a.item[1]) : xa, nb = gb ? join(&mb, xb, b.item[1]) : xb;
        most--;
        levels -= most < 1 << levels;
        sift_both(&a, &b, levels, 1, na, nb);
    }
    set_lengths(ta, &ma, fa, limit);
    set_lengths(tb, &mb, fb, limit);
}

/* How often each symbol of the code-length code is needed for one tree. */
static void scan_tree(const Runs *runs, const Tree *tree, u32 *bl_freq) {
    u16 ends[L_CODES + 1];
    int count = 0, start = 0;
    for (int n = 0; n <= tree->max_code; n++) {
        ends[count] = (u16)n;
        count += tree->len[n] != tree->len[n + 1];
    }
    for (int k = 0; k < count; k++) {
        const int value = tree->len[ends[k]];
        const u8 *run = value ? runs->same[ends[k] + 1 - start] : runs->zero[ends[k] + 1 - start];
        bl_freq[value] += run[0];
        bl_freq[16] += run[1];
        bl_freq[17] += run[2];
        bl_freq[18] += run[3];
        start = ends[k] + 1;
    }
}

static u64 header_bits(const Tree *bl, const u32 *freq) {
    int last = BL_CODES - 1;
    while (last >= 3 && bl->len[BL_ORDER[last]] == 0) last--;
    return bl->bits + 14 + 3 * (u64)(last + 1) + 2 * freq[16] + 3 * freq[17] + 7 * freq[18];
}

/* ---------------------------------------------------------------- blocks ---- */

typedef struct { u32 l[L_CODES]; u32 d[D_CODES]; } Freq;

static u64 fixed_bits(const Freq *f, u64 extra) {
    u32 bits = 0;
    for (int s = 0; s < 144; s++) bits += f->l[s] * 8;
    for (int s = 144; s < 256; s++) bits += f->l[s] * 9;
    for (int s = 256; s < 280; s++) bits += f->l[s] * 7;
    for (int s = 280; s < L_CODES; s++) bits += f->l[s] * 8;
    for (int s = 0; s < D_CODES; s++) bits += f->d[s] * 5;
    return bits + extra;
}

static u64 extra_bits(const Freq *f) {
    u64 bits = 0;
    for (int s = 8; s < 28; s++) bits += (u64)f->l[257 + s] * L_EXTRA[s];
    for (int s = 4; s < D_CODES; s++) bits += (u64)f->d[s] * D_EXTRA[s];
    return bits;
}

/* A block before it is written: its symbols (END_BLOCK among them), the bits before it, and its input length, -1 where
 * the input has left the window and cannot be stored. */
typedef struct { Freq f; u64 bits; int64_t stored; } Block;

/* Bits written after the block, given the dynamic trees' share. */
static u64 close_block(const Block *b, u64 trees) {
    const u64 extra = extra_bits(&b->f), fixed = fixed_bits(&b->f, extra), dynamic = trees + extra;
    const u64 fixed_bytes = (fixed + 10) >> 3, dynamic_bytes = (dynamic + 10) >> 3;
    const u64 best = fixed_bytes <= dynamic_bytes ? fixed_bytes : dynamic_bytes;
    if (b->stored >= 0 && (u64)b->stored + 4 <= best) return ((b->bits + 10) & ~(u64)7) + 32 + 8 * (u64)b->stored;
    return b->bits + 3 + (fixed_bytes <= dynamic_bytes ? fixed : dynamic);
}

/* `close_block` for two blocks, which may be the same. */
static void close_both(const Runs *runs, const Block *a, const Block *b, u64 *bits_a, u64 *bits_b) {
    Tree l[2], d[2], bl[2];
    u32 freq[2][BL_CODES] = {{0}, {0}};
    build_trees(&l[0], a->f.l, &l[1], b->f.l, L_CODES, 15);
    build_trees(&d[0], a->f.d, &d[1], b->f.d, D_CODES, 15);
    for (int k = 0; k < 2; k++) {
        scan_tree(runs, &l[k], freq[k]);
        scan_tree(runs, &d[k], freq[k]);
    }
    build_trees(&bl[0], freq[0], &bl[1], freq[1], BL_CODES, 7);
    *bits_a = close_block(a, l[0].bits + d[0].bits + header_bits(&bl[0], freq[0]));
    *bits_b = close_block(b, l[1].bits + d[1].bits + header_bits(&bl[1], freq[1]));
}

/* ---------------------------------------------------------------- parse ---- */

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
    do {
        const u8 *m = z->buf + cur;
        if (m[best] != scan[best] || m[best - 1] != scan[best - 1]) continue;
        const int len = common(scan, m, cap);
        if (len == look) *ran_out = 1;
        if (len > best) {
            *start = cur;
            best = len;
            if (len >= nice) break;
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
    memset(z->head, 0xff, HASH_SIZE * sizeof *z->head);
    memset(z->seen, 0, sizeof z->seen);
}

/* From wherever the coder stands to the end, which leaves the last block open. */
static void complete(Coder *z, Block *b) {
    if (z->fast) run_fast(z, 0);
    else run_lazy(z, 0, z->n);
    if (z->c.available) literal(z, z->buf[z->c.at - 1]);
    end_block(z, b);
}

static int32_t gzip_length(u64 bits) { return (int32_t)((bits + 7) >> 3) + GZIP; }

/* ---------------------------------------------------------------- targets ---- */

typedef struct { u16 len, dist; } Near;

/* What a target's position finds within the target: the best match by a full and by a quartered chain. */
typedef struct { u16 hash, count; Near full, quarter; } Self;

typedef struct { const u8 *text; int32_t n; Self *self; } Target;

static Near best_near(const u8 *t, int i, int n, const int16_t *prev, int first, int chain, int nice) {
    Near best = {MIN_MATCH - 1, 0};
    const int look = n - i, cap = look < MAX_MATCH ? look : MAX_MATCH;
    if (nice > look) nice = look;
    for (int cur = first; cur >= 0 && chain-- > 0; cur = prev[cur]) {
        const int len = common(t + i, t + cur, cap);
        if (len <= best.len) continue;
        best = (Near){(u16)len, (u16)(i - cur)};
        if (len >= nice) break;
    }
    return best;
}

static void find_self(Target *t, const Config *cfg, int16_t *head, int16_t *prev) {
    memset(head, 0xff, HASH_SIZE * sizeof *head);
    for (int i = 0; i + MIN_MATCH <= t->n; i++) {
        Self *s = &t->self[i];
        s->hash = (u16)hash3(t->text + i);
        const int first = head[s->hash];
        s->full = best_near(t->text, i, t->n, prev, first, cfg->chain, cfg->nice);
        s->quarter = best_near(t->text, i, t->n, prev, first, cfg->chain >> 2, cfg->nice);
        s->count = first < 0 ? 0 : (u16)(t->self[first].count + 1);
        prev[i] = (int16_t)first;
        head[s->hash] = (int16_t)i;
    }
}

/* One bit per position of the target: does anything before it, in x or in the target, share its three bytes? */
static void find_candidates(const Coder *z, const Target *t, u64 *bits) {
    const int count = t->n - MIN_MATCH + 1;
    for (int w = 0; w <= t->n >> 6; w++) {
        const Self *s = t->self + 64 * w;
        const int most = count - 64 * w < 64 ? count - 64 * w : 64;
        u64 word = 0;
        for (int k = 0; k < most; k++)
            word |= (u64)((s[k].count != 0) | (z->seen[s[k].hash >> 5] >> (s[k].hash & 31) & 1)) << k;
        bits[w] = word;
    }
}

static inline int next_candidate(const u64 *bits, int i, int n) {
    u64 word = bits[i >> 6] >> (i & 63);
    if (word) return i + lowest_bit(word);
    for (int w = (i >> 6) + 1; w <= n >> 6; w++)
        if (bits[w]) return 64 * w + lowest_bit(bits[w]);
    return n;
}

/* The lazy parse of a short target behind x. Only positions of x are in the hash table. */
static void run_target(Coder *z, const Target *t, int32_t x) {
    const Config cfg = z->cfg;
    const int32_t n = z->n;
    u64 bits[SHORT_PAIR / 64 + 1];
    int32_t at = (int32_t)z->c.at, back = z->c.match_start;
    int before = z->c.match_length, available = z->c.available;
    find_candidates(z, t, bits);
    while (at < n) {
        if (before < MIN_MATCH) { /* literals up to the next position where a match could start */
            const int32_t next = x + next_candidate(bits, at - x, t->n);
            const u8 *p = z->buf + at - available, *end = z->buf + next - 1;
            if (next > at) {
                while (p < end) z->f.l[*p++]++;
                available = 1;
                at = next;
                if (at >= n) break;
            }
        }
        const int look = n - at;
        int32_t start = back;
        int length = MIN_MATCH - 1, ran_out;
        if (look >= MIN_MATCH && before < cfg.lazy && before < look) {
            const Self *s = &t->self[at - x];
            const Near near_ = before >= cfg.good ? s->quarter : s->full;
            const int chain = (before >= cfg.good ? cfg.chain >> 2 : cfg.chain) - s->count;
            const int32_t head = z->head[s->hash];
            length = before;
            if (near_.len > before) { length = near_.len; start = at - near_.dist; }
            if (head > 0 && chain > 0 && length < (cfg.nice < look ? cfg.nice : look))
                length = longest(z, at, head, length, chain, &start, &ran_out);
            if (length == MIN_MATCH && at - start > TOO_FAR) length = MIN_MATCH - 1;
        }
        if (before >= MIN_MATCH && length <= before) {
            match(z, (u32)(at - 1 - back), (u32)before);
            at += before - 1;
            available = 0;
            before = MIN_MATCH - 1;
        } else {
            z->f.l[z->buf[at - 1]] += (u32)available;
            available = 1;
            before = length;
            back = start;
            at++;
        }
    }
    z->c.at = at;
    z->c.available = available;
}

static void pair(Coder *z, const Target *t, int32_t x, Block *b) {
    z->n = x + t->n;
    z->last = z->n - MIN_MATCH;
    if (!z->fast && z->n < SHORT_PAIR) {
        if (z->last >= x) z->last = x - 1;
        run_lazy(z, 0, x);
        run_target(z, t, x);
    }
    complete(z, b);
}

/* ---------------------------------------------------------------- interface ---- */

typedef struct {
    Coder coder;
    Codes codes;
    u8 *buf;
    Self *self;
    Target *targets;
} Work;

static int64_t longest_text(const int64_t *at, int64_t n) {
    int64_t best = 0;
    for (int64_t k = 0; k < n; k++)
        if (at[k + 1] - at[k] > best) best = at[k + 1] - at[k];
    return best;
}

static void release(Work *w) {
    free(w->coder.head); free(w->coder.prev); free(w->coder.undo);
    free(w->buf); free(w->self); free(w->targets);
}

static int prepare(Work *w, int level, int64_t bytes, int64_t longest_target, int64_t all_targets, int64_t targets) {
    memset(w, 0, sizeof *w);
    if (level < 1 || level > 9 || bytes > INT32_MAX / 2) return -2;
    tables(&w->codes);
    w->coder.codes = &w->codes;
    w->coder.cfg = LEVELS[level];
    w->coder.fast = level < 4;
    w->coder.head = malloc(HASH_SIZE * sizeof *w->coder.head);
    w->coder.prev = malloc(WSIZE * sizeof *w->coder.prev);
    w->coder.undo = malloc((size_t)(longest_target + 4 * MAX_MATCH) * sizeof *w->coder.undo);
    w->buf = malloc((size_t)bytes + 1);
    w->self = malloc((size_t)(all_targets + 1) * sizeof *w->self);
    w->targets = malloc((size_t)(targets + 1) * sizeof *w->targets);
    w->coder.buf = w->buf;
    return w->coder.head && w->coder.prev && w->coder.undo && w->buf && w->self && w->targets ? 0 : -1;
}

static void prepare_targets(Work *w, const u8 *text, const int64_t *at, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        Target *t = &w->targets[k];
        *t = (Target){text + at[k], (int32_t)(at[k + 1] - at[k]), w->self + (at[k] - at[0])};
        /* before the first candidate, `head` and `prev` are free to serve as the target's tables */
        if (!w->coder.fast && t->n < SHORT_PAIR)
            find_self(t, &w->coder.cfg, (int16_t *)w->coder.head, (int16_t *)w->coder.prev);
    }
}

/* Parse x until the bytes after it matter. */
static void shared_parse(Work *w, const u8 *x, int32_t n) {
    Coder *z = &w->coder;
    Undo *undo = z->undo;
    memcpy(w->buf, x, (size_t)n);
    begin(z, n);
    z->undo = NULL;
    if (z->fast) run_fast(z, 1);
    else run_lazy(z, 1, n);
    z->undo = undo;
    z->undone = 0;
}

static void one_candidate(Work *w, const u8 *x, int32_t n, int64_t nt, int32_t *cx, const int32_t *ct, int32_t *cxt) {
    Coder *z = &w->coder;
    Block b[2];
    u64 bits[2];
    shared_parse(w, x, n);
    const Cursor cursor = z->c;
    const Freq freq = z->f;
    complete(z, &b[0]);
    roll_back(z);
    close_both(&w->codes.runs, &b[0], &b[0], &bits[0], &bits[1]);
    *cx = gzip_length(bits[0]);
    for (int64_t k = 0; k < nt; k++) {
        const Target *t = &w->targets[k];
        if (n == 0) { cxt[k] = ct[k]; continue; }
        memcpy(w->buf + n, t->text, (size_t)t->n);
        z->c = cursor;
        z->f = freq;
        pair(z, t, n, &b[k & 1]);
        roll_back(z);
        if (k & 1 || k == nt - 1) {
            close_both(&w->codes.runs, &b[0], &b[k & 1], &bits[0], &bits[1]);
            cxt[k & ~(int64_t)1] = gzip_length(bits[0]);
            cxt[k] = gzip_length(bits[k & 1]);
        }
    }
}

/* Gzip lengths of texts, targets and candidate-then-target, at `level` 1 to 9.
 * `x_at` and `t_at` hold n + 1 offsets each. cx: nx values; ct: nt; cxt: nx rows of nt.
 * Returns 0; -1: out of memory; -2: a bad level or a text of a gigabyte. */
API int zipfit_lengths(int level, const u8 *x, const int64_t *x_at, int64_t nx, const u8 *t, const int64_t *t_at,
                       int64_t nt, int32_t *cx, int32_t *ct, int32_t *cxt) {
    Work w;
    const int64_t most_x = longest_text(x_at, nx), most_t = longest_text(t_at, nt);
    int status = prepare(&w, level, most_x + most_t, most_t, t_at[nt] - t_at[0], nt);
    if (status == 0) {
        for (int64_t k = 0; k < nt; k++)
            one_candidate(&w, t + t_at[k], (int32_t)(t_at[k + 1] - t_at[k]), 0, ct + k, NULL, NULL);
        prepare_targets(&w, t, t_at, nt);
        for (int64_t k = 0; k < nx; k++)
            one_candidate(&w, x + x_at[k], (int32_t)(x_at[k + 1] - x_at[k]), nt, cx + k, ct, cxt + k * nt);
    }
    release(&w);
    return status;
}
