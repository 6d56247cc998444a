/* Candidate pairs, their real similarity, and who survives. `jitted.py` says the same in Python. */
#include "_common.h"

/* Keys of bands 0, 1, ... of each signature whose number is not below 0, appended to each band's row of `out`. */
API i64 dedup_band_keys(const u32 *signatures, i64 n, i64 width, const i32 *numbers, i64 bands, i64 rows, i64 bits,
                        u64 *out, i64 stride) {
    const u64 low = ((u64)1 << bits) - 1;
    i64 used = 0;
    for (i64 i = 0; i < n; i++) {
        if (numbers[i] < 0) continue;
        const u32 *p = signatures + i * width;
        for (i64 band = 0; band < bands; band++) {
            u64 value = (u64)band;
            for (i64 k = 0; k < rows; k++) value = mix(value << 32 ^ value >> 32 ^ *p++);
            out[band * stride + used] = (value & ~low) | (u64)numbers[i];
        }
        used++;
    }
    return used;
}

API i64 dedup_bucket_pairs(const u64 *keys, i64 n, i64 bits, i64 fixed, i64 small_bucket, i64 most, u8 *served,
                           u8 *large, u64 *out) {
    const u64 low = ((u64)1 << bits) - 1;
    i64 found = 0, start = 0;
    while (start < n) {
        i64 stop = start + 1, fresh = start, leaders = 0;
        while (stop < n && keys[stop] >> bits == keys[start] >> bits) stop++;
        while (fresh < stop && (i64)(keys[fresh] & low) < fixed) fresh++;
        const int small = stop - start <= small_bucket;
        for (i64 p = fresh < stop && stop - start > 1 ? start : stop; p < stop; p++) {
            const u64 i = keys[p] & low;
            if (!small) {
                if (out) large[i] = 1;
                if (leaders == most || served[i]) continue;
                leaders++;
                if (out) served[i] = 1;
            }
            const i64 from = p + 1 > fresh ? p + 1 : fresh;
            if (out)
                for (i64 q = from; q < stop; q++) out[found++] = i << 32 | (keys[q] & low);
            else
                found += stop - from;
        }
        start = stop;
    }
    return found;
}

static inline i32 root(i32 *parent, i32 a) {
    while (parent[a] != a) a = parent[a] = parent[parent[a]];
    return a;
}

/* Union of packed pairs into `parent`, by smaller root, with path halving. */
API i64 dedup_join(const u64 *pairs, i64 n, i32 *parent) {
    for (i64 p = 0; p < n; p++) {
        const i32 a = root(parent, (i32)(pairs[p] >> 32)), b = root(parent, (i32)(u32)pairs[p]);
        parent[a > b ? a : b] = a > b ? b : a;
    }
    return 0;
}

/* Similarity of packed pairs; the set of document `i` is `values[starts[i]:starts[i] + sizes[i]]`, ascending. */
API i64 dedup_similarities(const u64 *values, const i64 *starts, const i32 *sizes, const u64 *pairs, i64 n,
                            i64 contained, double *out) {
    for (i64 p = 0; p < n; p++) {
        const i64 one = (i64)(pairs[p] >> 32), two = (i64)(u32)pairs[p];
        const u64 *a = values + starts[one], *b = values + starts[two];
        const u64 *a_end = a + sizes[one], *b_end = b + sizes[two];
        const i64 all = contained ? sizes[two] : (i64)sizes[one] + sizes[two];
        i64 common = 0;
        while (a < a_end && b < b_end) {
            const u64 x = *a, y = *b;
            common += x == y;
            a += x <= y;
            b += y <= x;
        }
        out[p] = all ? (double)common / (double)(contained ? all : all - common) : 0.0;
    }
    return 0;
}

/* Packed edges (worse in the high half) lie in `runs` ascending runs, `bounds[r]` to `bounds[r + 1]`: merge them. */
API i64 dedup_resolve(const u64 *edges, const double *similarity, const i64 *bounds, i64 runs, double threshold,
                      i32 *survivor, i32 *nearest, double *best) {
    i64 *head = malloc((size_t)(runs + 1) * sizeof *head);
    if (!head) return -1;
    memcpy(head, bounds, (size_t)runs * sizeof *head);
    for (;;) {
        i64 run = -1;
        for (i64 r = 0; r < runs; r++)
            if (head[r] < bounds[r + 1] && (run < 0 || edges[head[r]] < edges[head[run]])) run = r;
        if (run < 0) break;
        /* as long as no other run comes first, stay in this one */
        u64 limit = UINT64_MAX;
        for (i64 r = 0; r < runs; r++)
            if (r != run && head[r] < bounds[r + 1] && edges[head[r]] < limit) limit = edges[head[r]];
        do {
            const i64 e = head[run]++;
            const i32 j = (i32)(edges[e] >> 32), i = (i32)(u32)edges[e];
            if (similarity[e] >= threshold && survivor[i] == i && similarity[e] > best[j]) {
                survivor[j] = i;
                best[j] = similarity[e];
            }
        } while (head[run] < bounds[run + 1] && edges[head[run]] <= limit);
    }
    free(head);
    for (i64 e = bounds[0]; e < bounds[runs]; e++) {
        const i32 j = (i32)(edges[e] >> 32), i = (i32)(u32)edges[e];
        if (survivor[i] != i || survivor[j] != j) continue;
        /* of equally similar rows the first in (worse, better) order, whatever the order of the runs */
        if (similarity[e] > best[i] || (similarity[e] == best[i] && nearest[i] >= 0 && j < nearest[i])) {
            best[i] = similarity[e];
            nearest[i] = j;
        }
        if (similarity[e] > best[j] || (similarity[e] == best[j] && nearest[j] >= 0 && i < nearest[j])) {
            best[j] = similarity[e];
            nearest[j] = i;
        }
    }
    return 0;
}
