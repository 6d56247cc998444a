#ifndef ZIPFIT_COMMON_H
#define ZIPFIT_COMMON_H

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

static inline int64_t longest_text(const int64_t *at, int64_t n) {
    int64_t best = 0;
    for (int64_t k = 0; k < n; k++)
        if (at[k + 1] - at[k] > best) best = at[k + 1] - at[k];
    return best;
}

#endif
