/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames that wait: copies of them, in buffers that are used again, so that nothing is allocated
 * while traffic is steady.
 */
#ifndef COLO_HELD_H
#define COLO_HELD_H

#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"
#include "colo_packet.h"

struct colo_flow;

struct colo_held {
    struct colo_held *next; /* in its flow's queue, or in the list of its datagram's pieces */
    struct colo_held *prev_in_all, *next_in_all;
    struct colo_flow *flow;   /* whose queue it is in; NULL: waits for a checkpoint */
    struct colo_held *pieces; /* a datagram put together: the frames to send in its place */
    struct colo_held *whole;  /* a piece: the datagram put together from it */
    colo_time at;             /* when it came */
    uint32_t room;            /* bytes at data[] */
    struct colo_packet pkt;   /* pkt.data is data[] */
    uint8_t data[];
};

/* First in, first out, through ->next. */
struct colo_queue {
    struct colo_held *head, *tail;
};

/* All that wait, in the order in which they came, through ->prev_in_all and ->next_in_all. */
struct colo_all {
    struct colo_held *first, *last;
};

#define COLO_POOL_CLASSES 3

/* All zero is an empty pool. */
struct colo_pool {
    struct colo_held *spare[COLO_POOL_CLASSES];
    uint32_t nr_spare[COLO_POOL_CLASSES];
    uint64_t bytes;   /* of frames that are held now, as they came */
    uint32_t packets; /* how many */
};

/* A copy of p's frame with p's analysis, in no queue. NULL when there is no memory. */
struct colo_held *colo_pool_hold(struct colo_pool *pool, const struct colo_packet *p,
                                 colo_time now);
void colo_pool_free(struct colo_pool *pool, struct colo_held *h);
/* Give all spare memory back. */
void colo_pool_fini(struct colo_pool *pool);

void colo_queue_add(struct colo_queue *q, struct colo_held *h);
/* Take the first; NULL when there is none. */
struct colo_held *colo_queue_take(struct colo_queue *q);

void colo_all_add(struct colo_all *a, struct colo_held *h);
void colo_all_remove(struct colo_all *a, struct colo_held *h);

#endif
