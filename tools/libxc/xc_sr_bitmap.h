/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Dirty sets: one bit a gfn, worked on by 64-bit words.
 */
#ifndef XC_SR_BITMAP_H
#define XC_SR_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_err.h"

struct xc_sr_bitmap {
    uint64_t *words;
    uint64_t nbits; /* multiple of 64 */
};

/* Room for at least nbits, all 0. init/grow keep nothing half done on failure. fini is idempotent. */
int xc_sr_bitmap_init(struct xc_sr_bitmap *b, uint64_t nbits, struct colo_err *err);
/* Grow to at least nbits (new bits 0); never shrinks. */
int xc_sr_bitmap_grow(struct xc_sr_bitmap *b, uint64_t nbits, struct colo_err *err);
void xc_sr_bitmap_fini(struct xc_sr_bitmap *b);

void xc_sr_bitmap_zero(struct xc_sr_bitmap *b);
/* What lies beyond the end is left out. */
void xc_sr_bitmap_set_range(struct xc_sr_bitmap *b, uint64_t first, uint64_t count);
uint64_t xc_sr_bitmap_count(const struct xc_sr_bitmap *b);
/* a |= b; a must be at least as large. */
void xc_sr_bitmap_or(struct xc_sr_bitmap *a, const struct xc_sr_bitmap *b);
/* First set bit at or after from; false when there is none. */
bool xc_sr_bitmap_next(const struct xc_sr_bitmap *b, uint64_t from, uint64_t *bit);

static inline bool xc_sr_bitmap_test(const struct xc_sr_bitmap *b, uint64_t bit)
{
    return bit < b->nbits && (b->words[bit / 64] >> (bit % 64) & 1);
}
static inline void xc_sr_bitmap_set(struct xc_sr_bitmap *b, uint64_t bit)
{
    b->words[bit / 64] |= UINT64_C(1) << (bit % 64);
}
static inline void xc_sr_bitmap_clear(struct xc_sr_bitmap *b, uint64_t bit)
{
    b->words[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
}

#endif
