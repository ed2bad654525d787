/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bytes that the secondary has produced on one TCP connection, by their position: a window over
 * the stream that slides and grows.  What has been compared stays as history for retransmissions
 * until its room is needed.
 */
#ifndef COLO_RING_H
#define COLO_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_ranges.h"

/* Memory that all rings of an engine share, in bytes. */
struct colo_budget {
    uint64_t used, max;
};

#define COLO_RING_MIN     4096u
#define COLO_RING_HISTORY 65536u     /* grown to this while memory is plenty */
#define COLO_RING_MAX     (8u << 20) /* how far one copy may be ahead of the other */

struct colo_ring {
    uint8_t *buf;
    uint32_t cap;            /* a power of two, or 0 */
    bool begun;              /* low is set */
    int64_t low;             /* positions below are gone; [low, low + cap) have a place */
    struct colo_ranges have; /* which of them hold bytes */
};

/*
 * Store len bytes at position pos; what is there already stays as it is.  Positions below floor are
 * no longer needed: their room may be taken.  False when there is no room within the
 * limits or no memory, or when there would be too many holes; then not all is stored.
 */
bool colo_ring_write(struct colo_ring *r, struct colo_budget *b, int64_t pos, const uint8_t *data,
                     uint32_t len, int64_t floor);

/*
 * Compare len bytes with those at pos, as many as are here without a hole.  Returns how many are
 * equal, and sets *differ when the next one is here and is another; its value is in *other.
 */
uint32_t colo_ring_compare(const struct colo_ring *r, int64_t pos, const uint8_t *data,
                           uint32_t len, bool *differ, uint8_t *other);

/* Copy at most len bytes at pos, as many as are here without a hole; returns how many. */
uint32_t colo_ring_read(const struct colo_ring *r, int64_t pos, uint8_t *buf, uint32_t len);

/* Forget all bytes; begin anew at the next write. */
void colo_ring_clear(struct colo_ring *r);

/* Give the memory back as well. May be called twice. */
void colo_ring_fini(struct colo_ring *r, struct colo_budget *b);

#endif
