/* SPDX-License-Identifier: LGPL-2.1-only */
#include "xc_sr_bitmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BITS (UINT64_C(1) << 40) /* far above any gfn */

int xc_sr_bitmap_init(struct xc_sr_bitmap *b, uint64_t nbits, struct colo_err *err)
{
    b->words = NULL;
    b->nbits = 0;
    return xc_sr_bitmap_grow(b, nbits, err);
}

int xc_sr_bitmap_grow(struct xc_sr_bitmap *b, uint64_t nbits, struct colo_err *err)
{
    uint64_t *words, want;

    if (nbits <= b->nbits)
        return 0;
    if (nbits > MAX_BITS)
        return colo_fail_errno(err, EOVERFLOW, "a set of %llu pages", (unsigned long long)nbits);
    want = (nbits - 1) / 64 + 1;
    /* calloc gives untouched memory for what is large; only the old words need copying. */
    words = calloc(want, sizeof(*words));
    if (!words)
        return colo_fail_errno(err, ENOMEM, "a set of %llu pages", (unsigned long long)nbits);
    if (b->nbits)
        memcpy(words, b->words, b->nbits / 8);
    free(b->words);
    b->words = words;
    b->nbits = want * 64;
    return 0;
}

void xc_sr_bitmap_fini(struct xc_sr_bitmap *b)
{
    free(b->words);
    b->words = NULL;
    b->nbits = 0;
}

void xc_sr_bitmap_zero(struct xc_sr_bitmap *b)
{
    if (b->nbits)
        memset(b->words, 0, b->nbits / 8);
}

void xc_sr_bitmap_set_range(struct xc_sr_bitmap *b, uint64_t first, uint64_t count)
{
    uint64_t last, lo, hi;

    if (first >= b->nbits || count == 0)
        return;
    last = count > b->nbits - first ? b->nbits - 1 : first + count - 1;
    lo = UINT64_MAX << (first % 64);
    hi = UINT64_MAX >> (63 - last % 64);
    if (first / 64 == last / 64) {
        b->words[first / 64] |= lo & hi;
        return;
    }
    b->words[first / 64] |= lo;
    for (uint64_t i = first / 64 + 1; i < last / 64; i++)
        b->words[i] = UINT64_MAX;
    b->words[last / 64] |= hi;
}

uint64_t xc_sr_bitmap_count(const struct xc_sr_bitmap *b)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < b->nbits / 64; i++)
        n += (uint64_t)__builtin_popcountll(b->words[i]);
    return n;
}

void xc_sr_bitmap_or(struct xc_sr_bitmap *a, const struct xc_sr_bitmap *b)
{
    for (uint64_t i = 0; i < b->nbits / 64; i++)
        a->words[i] |= b->words[i];
}

bool xc_sr_bitmap_next(const struct xc_sr_bitmap *b, uint64_t from, uint64_t *bit)
{
    uint64_t i = from / 64, word;

    if (from >= b->nbits)
        return false;
    word = b->words[i] & UINT64_MAX << (from % 64);
    while (!word) {
        if (++i == b->nbits / 64)
            return false;
        word = b->words[i];
    }
    *bit = i * 64 + (uint64_t)__builtin_ctzll(word);
    return true;
}
