/* DEFLATE's codes, zlib's Huffman trees and the size of a block: everything after the parse. See _kernel.c. */
#ifndef ZIPFIT_HUFFMAN_H
#define ZIPFIT_HUFFMAN_H

#include "_common.h"


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

typedef struct {
    u32 item[2 * HEAP_ROOM]; /* 1-based; NONE beyond n */
    int n;
} Heap;

/* v on its way down: `key` is v without its node, `own` what the place `at` holds so far. */
typedef struct { u32 at, v, key, own; } Sift;

/* One level of sifting v down. Along the path of smaller children e1 <= e2 <= ..., zlib moves up what is smaller than
 * v, puts v before the first that is not, and leaves the rest: so every place gets the middle one of v, the element it
 * has and its smaller child. Written so that compilers make no branch of it. */
static inline void sift_level(Sift *s, u32 *item) {
    const u32 left = item[2 * s->at], right = item[2 * s->at + 1];
    const u32 r = right <= (left | NODE_MASK);
    const u32 child = r ? right : left;
    const u32 here = s->key <= child ? s->v : child;
    item[s->at] = s->key <= s->own ? s->own : here;
    s->at = 2 * s->at + r;
    s->own = child;
}

static inline void sift_last(const Sift *s, u32 *item) { item[s->at] = s->key <= s->own ? s->own : s->v; }

/* Two heaps at a time: each step waits for memory, so two independent ones overlap. */
static inline void sift_both(Heap *a, Heap *b, int levels, u32 k, u32 va, u32 vb) {
    Sift sa = {k, va, va & ~(u32)NODE_MASK, 0}, sb = {k, vb, vb & ~(u32)NODE_MASK, 0};
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

#endif
