/* Exact lengths of DEFLATE streams, without making the streams.
 *
 * For every text x and every target t: the number of bits that zlib (1.2.x, 1.3.x; windowBits 15, memLevel 8, default
 * strategy, one call with Z_FINISH) writes for x, t and x+t. Written from the published behaviour of the algorithm:
 * hash chains over three bytes, lazy matching, blocks of 16,383 symbols, Huffman trees with zlib's tie-breaking.
 *
 * Why it is fast: the parse of x up to its last bytes is shared by all targets; from level 4 on every position enters
 * the hash table, so the matches of t with itself do not depend on x and are found once per target; two blocks' Huffman
 * trees are built at a time.
 *
 * Plain C99, no Python headers: built as a shared library and called through ctypes, which releases the GIL.
 */
#include "_parse.h"

/* ---------------------------------------------------------------- targets ---- */

typedef struct { u16 len, dist; } Near;

/* What a target's position finds within the target: the best match by a full and by a quartered chain. */
typedef struct { u16 count; Near full, quarter; } Self;

/* hash: of the three bytes at each position; from level 4 on with REPEATS where it came before in the target.
 * slot, below level 4: the number of that hash among the `slots` different ones of the target. */
typedef struct { const u8 *text; int32_t n; Self *self; u16 *hash, *slot; int32_t slots; } Target;
enum { REPEATS = HASH_SIZE };

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
        const u16 hash = (u16)hash3(t->text + i);
        const int first = head[hash];
        s->full = best_near(t->text, i, t->n, prev, first, cfg->chain, cfg->nice);
        s->quarter = best_near(t->text, i, t->n, prev, first, cfg->chain >> 2, cfg->nice);
        s->count = first < 0 ? 0 : (u16)(t->self[first].count + 1);
        t->hash[i] = first < 0 ? hash : hash | REPEATS;
        prev[i] = (int16_t)first;
        head[hash] = (int16_t)i;
    }
}

static void find_slots(Target *t, int16_t *number) {
    memset(number, 0xff, HASH_SIZE * sizeof *number);
    for (int i = 0; i + MIN_MATCH <= t->n; i++) {
        t->hash[i] = (u16)hash3(t->text + i);
        if (number[t->hash[i]] < 0) number[t->hash[i]] = (int16_t)t->slots++;
        t->slot[i] = (u16)number[t->hash[i]];
    }
}

static inline int is_seen(const Coder *z, u16 hash) { return z->seen[hash >> 5] >> (hash & 31) & 1; }

/* Does anything before the position, in x or in the target, share its three bytes? */
static inline int promises(const Coder *z, u16 hash) {
    return (hash & REPEATS) || is_seen(z, hash & (HASH_SIZE - 1));
}

/* The lazy parse of a short target behind x. Only positions of x are in the hash table. */
static void run_target(Coder *z, const Target *t, int32_t x) {
    const Config cfg = z->cfg;
    const int32_t n = z->n;
    int32_t at = (int32_t)z->c.at, back = z->c.match_start;
    int before = z->c.match_length, available = z->c.available;
    while (at < n) {
        if (before < MIN_MATCH) { /* literals up to the next position where a match could start */
            while (at < n && (at > n - MIN_MATCH || !promises(z, t->hash[at - x]))) {
                z->f.l[z->buf[at - 1]] += (u32)available;
                available = 1;
                at++;
            }
            if (at >= n) break;
        }
        const int look = n - at;
        int32_t start = back;
        int length = MIN_MATCH - 1, ran_out;
        if (look >= MIN_MATCH && before < cfg.lazy && before < look) {
            const Self *s = &t->self[at - x];
            const Near near_ = before >= cfg.good ? s->quarter : s->full;
            const int chain = (before >= cfg.good ? cfg.chain >> 2 : cfg.chain) - s->count;
            const int32_t head = z->head[t->hash[at - x] & (HASH_SIZE - 1)];
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

/* Where the target has been entered: the latest position of each slot, and the one before each position. */
typedef struct { int16_t latest[SHORT_PAIR], before[SHORT_PAIR]; } Entered;

static inline void enter(Entered *e, const Target *t, int32_t i) {
    e->before[i] = e->latest[t->slot[i]];
    e->latest[t->slot[i]] = (int16_t)i;
}

/* Longest match of position i of the target: first in the target, then in x. */
static inline int longest_fast(const Coder *z, const Target *t, const Entered *e, int32_t i, int32_t *start) {
    const int look = t->n - i, cap = look < MAX_MATCH ? look : MAX_MATCH;
    const int nice = z->cfg.nice < look ? z->cfg.nice : look;
    const u8 *scan = t->text + i;
    const int32_t at = z->n - look;
    int best = MIN_MATCH - 1, chain = z->cfg.chain, ran_out;
    for (int32_t cur = e->latest[t->slot[i]]; cur >= 0 && chain > 0; cur = e->before[cur], chain--) {
        const u8 *m = t->text + cur;
        if (two(m + best - 1) != two(scan + best - 1)) continue;
        const int length = common(scan, m, cap);
        if (length <= best) continue;
        best = length;
        *start = at - (i - cur);
        if (best >= nice) return best;
    }
    if (chain == 0 || !is_seen(z, t->hash[i]) || z->head[t->hash[i]] <= 0) return best;
    return longest(z, at, z->head[t->hash[i]], best, chain, start, &ran_out);
}

/* The greedy parse from the end of x through a short target. Which positions it enters depends on x, so those of the
 * target go to a table of their own, which takes less time to empty. */
static void run_target_fast(Coder *z, const Target *t, int32_t x) {
    Entered e;
    const int32_t n = z->n;
    int32_t at = (int32_t)z->c.at;
    memset(e.latest, 0xff, (size_t)t->slots * sizeof *e.latest);
    while (at < n) {
        const int look = n - at;
        int32_t start = 0;
        int length = MIN_MATCH - 1, ran_out;
        if (look >= MIN_MATCH && at >= x) {
            length = longest_fast(z, t, &e, at - x, &start);
            enter(&e, t, at - x);
        } else if (look >= MIN_MATCH) {
            const int32_t head = insert(z, at);
            if (head > 0) length = longest(z, at, head, length, z->cfg.chain, &start, &ran_out);
        }
        if (length < MIN_MATCH) {
            z->f.l[z->buf[at++]]++;
            continue;
        }
        match(z, (u32)(at - start), (u32)length);
        const int32_t end = at + length;
        if (length > z->cfg.lazy || look - length < MIN_MATCH) at = end - 1;
        while (++at < end) {
            if (at >= x) enter(&e, t, at - x);
            else insert(z, at);
        }
    }
    z->c.at = at;
}

static void begin_pair(Coder *z, const Target *t, int32_t x) {
    z->n = x + t->n;
    z->last = z->n - MIN_MATCH;
    if (z->n >= SHORT_PAIR) return;
    if (z->fast) {
        run_target_fast(z, t, x);
        return;
    }
    if (z->last >= x) z->last = x - 1;
    run_lazy(z, 0, x);
    run_target(z, t, x);
}

/* ---------------------------------------------------------------- interface ---- */

typedef struct {
    Coder coder;
    Codes codes;
    u8 *buf;
    Self *self;
    u16 *hash, *slot;
    Target *targets;
    Block open[2]; /* parsed, but not closed yet: two at a time */
    int32_t *length[2];
    int n_open;
} Work;

static void release(Work *w) {
    free(w->coder.head); free(w->coder.prev); free(w->coder.undo);
    free(w->buf); free(w->self); free(w->hash); free(w->slot); free(w->targets);
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
    w->hash = malloc((size_t)(all_targets + 1) * sizeof *w->hash);
    w->slot = malloc((size_t)(all_targets + 1) * sizeof *w->slot);
    w->targets = malloc((size_t)(targets + 1) * sizeof *w->targets);
    w->coder.buf = w->buf;
    if (!w->coder.head || !w->coder.prev || !w->coder.undo || !w->buf) return -1;
    if (!w->self || !w->hash || !w->slot || !w->targets) return -1;
    clear(&w->coder);
    return 0;
}

static void prepare_targets(Work *w, const u8 *text, const int64_t *at, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        const int64_t start = at[k] - at[0], size = at[k + 1] - at[k];
        Target *t = &w->targets[k];
        *t = (Target){text + at[k], (int32_t)size, w->self + start, w->hash + start, w->slot + start, 0};
        if (size >= SHORT_PAIR) continue;
        /* before the first candidate, `head` and `prev` are free to serve as the target's tables */
        if (w->coder.fast) find_slots(t, (int16_t *)w->coder.head);
        else find_self(t, &w->coder.cfg, (int16_t *)w->coder.head, (int16_t *)w->coder.prev);
    }
    clear(&w->coder);
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

static void close_open(Work *w) {
    u64 bits[2];
    if (w->n_open == 0) return;
    close_both(&w->codes.runs, &w->open[0], &w->open[w->n_open - 1], &bits[0], &bits[1]);
    for (int k = 0; k < w->n_open; k++) *w->length[k] = gzip_length(bits[k]);
    w->n_open = 0;
}

static void candidate(Work *w, const u8 *x, int32_t n, int64_t nt, int32_t *cx, const int32_t *ct, int32_t *cxt) {
    Coder *z = &w->coder;
    shared_parse(w, x, n);
    const Cursor cursor = z->c;
    const Freq freq = z->f;
    for (int64_t k = -1; k < nt; k++) { /* x alone, then with every target */
        if (n == 0 && k >= 0) { cxt[k] = ct[k]; continue; }
        if (k >= 0) {
            memcpy(w->buf + n, w->targets[k].text, (size_t)w->targets[k].n);
            z->c = cursor;
            z->f = freq;
            begin_pair(z, &w->targets[k], n);
        }
        w->length[w->n_open] = k < 0 ? cx : cxt + k;
        complete(z, &w->open[w->n_open++]);
        roll_back(z);
        if (w->n_open == 2) close_open(w);
    }
    forget(z, n);
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
            candidate(&w, t + t_at[k], (int32_t)(t_at[k + 1] - t_at[k]), 0, ct + k, NULL, NULL);
        close_open(&w);
        prepare_targets(&w, t, t_at, nt);
        for (int64_t k = 0; k < nx; k++)
            candidate(&w, x + x_at[k], (int32_t)(x_at[k + 1] - x_at[k]), nt, cx + k, ct, cxt + k * nt);
        close_open(&w);
    }
    release(&w);
    return status;
}
