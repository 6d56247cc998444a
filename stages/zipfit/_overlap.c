/* How much a text shares with a set of targets, by n-grams of bytes: the cheap features of the cascade. */
#include "_common.h"

enum { ORDERS = 5, LONGEST = 8, TABLE_BITS = 16, TABLE = 1 << TABLE_BITS };
static const u8 IS_ORDER[LONGEST + 1] = {0, 1, 1, 1, 1, 0, 0, 0, 1}; /* 1, 2, 3, 4 and 8 bytes */

/* How many targets have an n-gram in the slot, and the number of the last text that had one. */
typedef struct { u16 targets, stamp; } Slot;
typedef struct { Slot slot[ORDERS][TABLE]; } Grams;

/* For each new slot of a text: its count of targets into `sums`, one more in the second half of `sums`, and `step` onto
 * the count of targets. */
static void visit(Grams *g, const u8 *text, int64_t n, u16 stamp, u16 step, int64_t *sums) {
    for (int64_t i = 0; i < n; i++) {
        u32 h = 0x811c9dc5u; /* FNV-1a, byte by byte, then a mix: the same on every machine */
        for (int k = 1, o = 0; k <= LONGEST && i + k <= n; k++) {
            h = (h ^ text[i + k - 1]) * 0x01000193u;
            if (!IS_ORDER[k]) continue;
            Slot *s = &g->slot[o][(h * 0x9e3779b1u) >> (32 - TABLE_BITS)];
            const u16 fresh = s->stamp != stamp;
            sums[o] += fresh ? s->targets : 0;
            sums[ORDERS + o++] += fresh;
            s->targets = (u16)(s->targets + fresh * step);
            s->stamp = stamp;
        }
    }
}

static u16 next_stamp(Grams *g, u16 stamp) {
    if (stamp < UINT16_MAX) return stamp + 1;
    for (int o = 0; o < ORDERS; o++)
        for (int h = 0; h < TABLE; h++) g->slot[o][h].stamp = 0;
    return 1;
}

/* For every text and each order (1, 2, 3, 4, 8 bytes): in how many targets its distinct n-grams occur, summed;
 * then how many distinct ones it has. At most 65,535 targets. out: nx rows of ten, zero on entry.
 * Returns 0; -1: out of memory; -3: more targets. */
API int zipfit_overlap(const u8 *x, const int64_t *x_at, int64_t nx, const u8 *t, const int64_t *t_at, int64_t nt,
                       int64_t *out) {
    if (nt > UINT16_MAX) return -3;
    Grams *g = calloc(1, sizeof *g);
    if (!g) return -1;
    u16 stamp = 0;
    for (int64_t k = 0; k < nt; k++) {
        int64_t unused[2 * ORDERS] = {0};
        stamp = next_stamp(g, stamp);
        visit(g, t + t_at[k], t_at[k + 1] - t_at[k], stamp, 1, unused);
    }
    for (int64_t k = 0; k < nx; k++) {
        stamp = next_stamp(g, stamp);
        visit(g, x + x_at[k], x_at[k + 1] - x_at[k], stamp, 0, out + k * 2 * ORDERS);
    }
    free(g);
    return 0;
}
