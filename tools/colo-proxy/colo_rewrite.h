/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The secondary's side of TCP: between its guest and clients that have only ever talked to the
 * primary's.  No I/O, no clock.
 *
 * A connection that is born while the copies run apart has another initial sequence number on each,
 * and perhaps another clock behind its timestamps.  What clients send is translated before the
 * secondary's guest gets it (acknowledgements, SACK blocks, TSecr).  What that guest sends goes to
 * the compare engine as it is, and is only observed here; after a takeover it goes to the clients,
 * translated (sequence numbers, TSval), until the last such connection has ended.
 *
 * The difference is learned from the client's first acknowledgement, which acknowledges just the
 * SYN, or is told by colo_rewrite_primary_syn.  A checkpoint makes all differences zero.
 *
 * TCP in IP fragments is not translated.
 */
#ifndef COLO_REWRITE_H
#define COLO_REWRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

struct colo_rewrite_config {
    uint32_t
        max_flows;    /* 0 means 65536; when it is full, connections without differences go first */
    colo_time idle;   /* a silent connection has ended after this; 0 means 3 h */
    colo_time linger; /* one that has ended may still repeat itself; 0 means 60 s */
    uint64_t seed[2]; /* random, nobody else knows it */
};

struct colo_rewrite_stats {
    uint32_t flows;       /* connections known */
    uint32_t active;      /* of them, those with a difference: rewriting has to go on */
    uint64_t rewritten;   /* frames that were changed */
    uint64_t not_tracked; /* SYNs for which there was no room */
};

struct colo_rewrite;

int colo_rewrite_new(const struct colo_rewrite_config *cfg, struct colo_rewrite **out,
                     struct colo_err *err);
void colo_rewrite_free(struct colo_rewrite *r); /* NULL is fine */

/* Frames of len bytes; those that are changed are changed in place and keep their length.  Times
 * are monotonic nanoseconds.  The three that change frames return whether they did. */

/* In lock-step: the secondary's guest has sent this. */
void colo_rewrite_observe(struct colo_rewrite *r, const uint8_t *frame, uint32_t len,
                          colo_time now);
/* In lock-step, if the primary's side tells it: the primary's guest has sent this SYN or SYN|ACK. */
void colo_rewrite_primary_syn(struct colo_rewrite *r, const uint8_t *frame, uint32_t len,
                              colo_time now);
/* Always: a client has sent this, before the secondary's guest gets it. */
bool colo_rewrite_to_guest(struct colo_rewrite *r, uint8_t *frame, uint32_t len, colo_time now);
/* After a takeover: the guest has sent this, before a client gets it. */
bool colo_rewrite_from_guest(struct colo_rewrite *r, uint8_t *frame, uint32_t len, colo_time now);

/* The secondary is now what the primary is: all numbers agree. */
void colo_rewrite_checkpoint(struct colo_rewrite *r);

/* How many connections still need rewriting; those that have ended or are idle too long at `now` are
 * forgotten.  0 after a takeover: frames may pass by. Costs time for each connection. */
uint32_t colo_rewrite_active(struct colo_rewrite *r, colo_time now);

void colo_rewrite_get_stats(const struct colo_rewrite *r, struct colo_rewrite_stats *out);

#endif
