/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flows of a guest: a hash table of bounded size, hashed with a seed that nobody outside knows,
 * in order of last use; and the flows that wait for something, by deadline.
 */
#ifndef COLO_FLOW_H
#define COLO_FLOW_H

#include "colo_err.h"
#include "colo_held.h"
#include "colo_packet.h"
#include "colo_stream.h"

/* What the secondary's side knows of a TCP connection; see colo_rewrite.h. */
struct colo_conn {
    bool s_known, p_known; /* the initial sequence numbers */
    bool learned;          /* both, and so is their difference */
    bool ts_known, ts_aligned, tsmax_known;
    bool fin_guest, fin_client, ended;
    uint32_t s_isn, p_isn;
    uint32_t seq_delta, ts_delta;   /* to be added to what the secondary's guest says */
    uint32_t s_first_tsval;         /* of its SYN */
    uint32_t s_tsval;               /* of its last segment */
    uint32_t tsmax;                 /* the latest timestamp that the client is known to have */
    uint32_t guest_fin, client_fin; /* the sequence numbers behind them, as the client counts */
    bool guest_fin_acked, client_fin_acked;
};

struct colo_flow {
    struct colo_key key;
    uint64_t hash;
    struct colo_flow *chain;         /* in its bucket, or among the free ones */
    struct colo_flow *older, *newer; /* by use */
    colo_time seen;
    uint64_t epoch;      /* the checkpoint that its state counts from */
    bool stopped;        /* the copies differ here: all waits for a checkpoint */
    struct colo_queue p; /* the primary's frames that wait */
    struct colo_queue s; /* the secondary's packets that wait; not for TCP */
    colo_time s_since; /* TCP: since when the secondary is ahead without the primary moving, or 0 */
    uint32_t timer;    /* 1 + place in the heap, 0 = not in it */
    colo_time when;    /* its key there: not after the flow's deadline */
    union {
        struct colo_stream stream; /* of the compare engine */
        struct colo_conn conn;     /* of the rewriter */
    };
};

struct colo_flows {
    struct colo_flow **bucket;
    uint64_t mask;
    uint64_t seed[2];
    struct colo_flow *oldest, *newest;
    struct colo_flow *spare;
    struct colo_flow_chunk *chunks;
    uint32_t n, max;
    struct colo_flow **heap;
    uint32_t heap_n, heap_room;
};

/* At most max flows; seed is random. -1 with ENOMEM. fini may be called twice, or on zeroes. */
int colo_flows_init(struct colo_flows *t, uint32_t max, const uint64_t seed[2],
                    struct colo_err *err);
/* The flows' queues must be empty; budget is that of their streams, NULL if they have none. */
void colo_flows_fini(struct colo_flows *t, struct colo_budget *budget);

/* The flow with this key, or NULL. */
struct colo_flow *colo_flows_find(const struct colo_flows *t, const struct colo_key *key);
/* A new one, used just now; NULL when the table is full or there is no memory. */
struct colo_flow *colo_flows_add(struct colo_flows *t, const struct colo_key *key, colo_time now);
/* f was used. */
void colo_flows_touch(struct colo_flows *t, struct colo_flow *f, colo_time now);
/* Forget f, whose queues must be empty. */
void colo_flows_remove(struct colo_flows *t, struct colo_flow *f, struct colo_budget *budget);

/* See to it that f comes up at `when` or before. False when there is no memory. */
bool colo_flows_wait(struct colo_flows *t, struct colo_flow *f, colo_time when);
/* f comes up no longer. */
void colo_flows_unwait(struct colo_flows *t, struct colo_flow *f);
/* The flow that comes up first, or NULL. */
static inline struct colo_flow *colo_flows_first(const struct colo_flows *t)
{
    return t->heap_n ? t->heap[0] : NULL;
}

#endif
