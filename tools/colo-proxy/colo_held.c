/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_held.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t class_room[COLO_POOL_CLASSES] = {256, 2048, 9216};

/* Larger frames are rare enough for malloc, and so is what goes beyond so many spare ones. */
#define MAX_SPARE 4096u

struct colo_held *colo_pool_hold(struct colo_pool *pool, const struct colo_packet *p, colo_time now)
{
    struct colo_held *h;
    uint32_t c = 0, room;

    while (c < COLO_POOL_CLASSES && p->len > class_room[c])
        c++;
    if (c < COLO_POOL_CLASSES && pool->spare[c]) {
        h = pool->spare[c];
        pool->spare[c] = h->next;
        pool->nr_spare[c]--;
    } else {
        room = c < COLO_POOL_CLASSES ? class_room[c] : p->len;
        h = malloc(sizeof(*h) + room);
        if (!h)
            return NULL;
        h->room = room;
    }
    h->next = h->prev_in_all = h->next_in_all = h->pieces = h->whole = NULL;
    h->flow = NULL;
    h->at = now;
    h->pkt = *p;
    h->pkt.data = h->data;
    memcpy(h->data, p->data, p->len);
    pool->bytes += p->len;
    pool->packets++;
    return h;
}

void colo_pool_free(struct colo_pool *pool, struct colo_held *h)
{
    pool->bytes -= h->pkt.len;
    pool->packets--;
    for (uint32_t c = 0; c < COLO_POOL_CLASSES; c++) {
        if (h->room == class_room[c] && pool->nr_spare[c] < MAX_SPARE) {
            h->next = pool->spare[c];
            pool->spare[c] = h;
            pool->nr_spare[c]++;
            return;
        }
    }
    free(h);
}

void colo_pool_fini(struct colo_pool *pool)
{
    struct colo_held *h;

    for (uint32_t c = 0; c < COLO_POOL_CLASSES; c++) {
        while ((h = pool->spare[c])) {
            pool->spare[c] = h->next;
            free(h);
        }
        pool->nr_spare[c] = 0;
    }
}

void colo_queue_add(struct colo_queue *q, struct colo_held *h)
{
    h->next = NULL;
    if (q->head)
        q->tail->next = h;
    else
        q->head = h;
    q->tail = h;
}

struct colo_held *colo_queue_take(struct colo_queue *q)
{
    struct colo_held *h = q->head;

    if (h)
        q->head = h->next;
    return h;
}

void colo_all_add(struct colo_all *a, struct colo_held *h)
{
    h->prev_in_all = a->last;
    h->next_in_all = NULL;
    if (a->last)
        a->last->next_in_all = h;
    else
        a->first = h;
    a->last = h;
}

void colo_all_remove(struct colo_all *a, struct colo_held *h)
{
    if (h->prev_in_all)
        h->prev_in_all->next_in_all = h->next_in_all;
    else
        a->first = h->next_in_all;
    if (h->next_in_all)
        h->next_in_all->prev_in_all = h->prev_in_all;
    else
        a->last = h->prev_in_all;
}
