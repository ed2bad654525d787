/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fragments of IPv4 and IPv6, put together, so that equal datagrams are equal however they were
 * cut.  One table for each side; bounded.
 */
#ifndef COLO_DEFRAG_H
#define COLO_DEFRAG_H

#include "colo_err.h"
#include "colo_held.h"
#include "colo_packet.h"

#define COLO_DEFRAG_MAX 64 /* unfinished datagrams of one side */

struct colo_defrag_entry;

/* All zero is an empty table. */
struct colo_defrag {
    struct colo_defrag_entry *entry[COLO_DEFRAG_MAX]; /* the first n, oldest first; then spare */
    uint32_t n;
};

enum colo_defrag_result {
    COLO_DEFRAG_WAIT,   /* more to come */
    COLO_DEFRAG_WHOLE,  /* *out is filled */
    COLO_DEFRAG_BROKEN, /* pieces contradict each other: the datagram is given up */
    COLO_DEFRAG_FULL,   /* no room in the table or no memory: p was not taken */
};

/* A datagram as one frame without fragment header; the memory is good until the next call. */
struct colo_datagram {
    const uint8_t *frame;
    uint32_t len;
    struct colo_held *pieces; /* as given, linked through ->next */
};

/*
 * Take p, which is COLO_PKT_FRAGMENT.  piece, or NULL, is linked to the others of its datagram and comes
 * back in out->pieces; it stays the caller's.  After BROKEN the pieces are no longer linked.
 */
enum colo_defrag_result colo_defrag_add(struct colo_defrag *d, const struct colo_packet *p,
                                        struct colo_held *piece, colo_time now,
                                        struct colo_datagram *out);

/* When the oldest unfinished datagram began; COLO_NO_DEADLINE when there is none. */
colo_time colo_defrag_oldest(const struct colo_defrag *d);

/* Give up the oldest. */
void colo_defrag_drop_oldest(struct colo_defrag *d);

/* Forget all that is unfinished. */
void colo_defrag_reset(struct colo_defrag *d);
void colo_defrag_fini(struct colo_defrag *d);

#endif
