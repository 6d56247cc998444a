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
#include "_parse.h"

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
