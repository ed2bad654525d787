/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the compare engine share. */
#ifndef COLO_COMPARE_PRIV_H
#define COLO_COMPARE_PRIV_H

#include "colo_compare.h"
#include "colo_defrag.h"
#include "colo_flow.h"
#include "colo_held.h"

struct colo_compare {
    struct colo_compare_config cfg;
    colo_time now;
    uint64_t epoch; /* counts checkpoints */
    bool blind;
    bool wanted, taken;
    struct colo_divergence why;
    struct colo_flows flows;
    struct colo_pool p_pool, s_pool;
    struct colo_all p_all, s_all;
    struct colo_defrag p_defrag, s_defrag;
    struct colo_budget streams;
    struct colo_compare_stats stats;
};

/* ---- colo_compare_report.c ---- */

/* Where two things differ, for the log; any part may be unknown (NULL, -1). */
struct colo_difference {
    const char *what;
    const struct colo_packet *p; /* the primary's */
    const struct colo_packet *s; /* the secondary's, if there is just one */
    const struct colo_stream *stream;
    int64_t pos; /* in the stream */
    uint32_t at; /* in the primary's frame */
};

/* Ask for a checkpoint, unless one is asked for already; count the reason. */
void colo_compare_request(struct colo_compare *c, enum colo_why why, const struct colo_key *flow,
                          const struct colo_difference *d);

/* ---- colo_compare_flow.c ---- */

/*
 * A whole packet of either side.  pieces, if not NULL, are the held fragments that the packet
 * was put together from.  False when the primary's could not be taken for want of memory.
 */
bool colo_compare_p_packet(struct colo_compare *c, const struct colo_packet *p,
                           struct colo_held *pieces);
void colo_compare_s_packet(struct colo_compare *c, const struct colo_packet *p);

/* Send what may go of f's frames that wait; for TCP, elsewhere they go as they match. */
void colo_compare_drain(struct colo_compare *c, struct colo_flow *f);

/* f's time is up, perhaps. */
void colo_compare_expire(struct colo_compare *c, struct colo_flow *f);

/* Bring f up to the last checkpoint. */
void colo_compare_refresh(struct colo_compare *c, struct colo_flow *f);

/* ---- colo_compare.c ---- */

/* Hold p in f's queue, or until a checkpoint if f is NULL.  False, and blind, without memory. */
bool colo_compare_hold(struct colo_compare *c, const struct colo_packet *p, struct colo_flow *f,
                       struct colo_held *pieces);
/* A frame that was not held. */
void colo_compare_out(struct colo_compare *c, const uint8_t *frame, uint32_t len);
/* Send a held frame (or the pieces that it stands for), and free it. It is in no queue any more. */
void colo_compare_out_held(struct colo_compare *c, struct colo_held *h);

#endif
