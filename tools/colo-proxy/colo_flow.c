/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 64u

/* Moving a flow in the order of use touches its neighbours' memory: not more often than this. */
#define USE_GRAIN (100 * COLO_MS)

struct colo_flow_chunk {
    struct colo_flow_chunk *next;
    struct colo_flow flow[CHUNK];
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash_key(const struct colo_flows *t, const struct colo_key *key)
{
    uint64_t w[6], h;

    memcpy(w, key, sizeof(w));
    h = mix(w[0] ^ t->seed[0], w[1] ^ UINT64_C(0x9e3779b97f4a7c15));
    h ^= mix(w[2] ^ t->seed[1], w[3] ^ UINT64_C(0xd1b54a32d192ed03));
    h = mix(h ^ w[4], w[5] ^ t->seed[0] ^ UINT64_C(0x8cb92ba72f3d8dd7));
    return mix(h ^ t->seed[1], UINT64_C(0xa0761d6478bd642f));
}

int colo_flows_init(struct colo_flows *t, uint32_t max, const uint64_t seed[2],
                    struct colo_err *err)
{
    uint64_t buckets = 64;

    memset(t, 0, sizeof(*t));
    while (buckets < max)
        buckets *= 2;
    t->bucket = calloc(buckets, sizeof(t->bucket[0]));
    if (!t->bucket)
        return colo_fail_errno(err, ENOMEM, "a table of %u flows", max);
    t->mask = buckets - 1;
    t->max = max;
    /* Odd factors lose nothing in the multiplication. */
    t->seed[0] = seed[0] | 1;
    t->seed[1] = seed[1] | 1;
    return 0;
}

void colo_flows_fini(struct colo_flows *t, struct colo_budget *budget)
{
    struct colo_flow_chunk *c;

    while (t->oldest)
        colo_flows_remove(t, t->oldest, budget);
    while ((c = t->chunks)) {
        t->chunks = c->next;
        free(c);
    }
    free(t->bucket);
    free(t->heap);
    memset(t, 0, sizeof(*t));
}

struct colo_flow *colo_flows_find(const struct colo_flows *t, const struct colo_key *key)
{
    uint64_t h = hash_key(t, key);
    struct colo_flow *f;

    for (f = t->bucket[h & t->mask]; f; f = f->chain) {
        if (f->hash == h && !memcmp(&f->key, key, sizeof(*key)))
            return f;
    }
    return NULL;
}

static void use_order_add(struct colo_flows *t, struct colo_flow *f)
{
    f->older = t->newest;
    f->newer = NULL;
    if (t->newest)
        t->newest->newer = f;
    else
        t->oldest = f;
    t->newest = f;
}

static void use_order_remove(struct colo_flows *t, struct colo_flow *f)
{
    if (f->older)
        f->older->newer = f->newer;
    else
        t->oldest = f->newer;
    if (f->newer)
        f->newer->older = f->older;
    else
        t->newest = f->older;
}

struct colo_flow *colo_flows_add(struct colo_flows *t, const struct colo_key *key, colo_time now)
{
    struct colo_flow_chunk *c;
    struct colo_flow *f;

    if (t->n == t->max)
        return NULL;
    if (!t->spare) {
        c = malloc(sizeof(*c));
        if (!c)
            return NULL;
        c->next = t->chunks;
        t->chunks = c;
        for (uint32_t i = 0; i < CHUNK; i++) {
            c->flow[i].chain = t->spare;
            t->spare = &c->flow[i];
        }
    }
    f = t->spare;
    t->spare = f->chain;
    memset(f, 0, sizeof(*f));
    f->key = *key;
    f->hash = hash_key(t, key);
    f->seen = now;
    f->chain = t->bucket[f->hash & t->mask];
    t->bucket[f->hash & t->mask] = f;
    use_order_add(t, f);
    t->n++;
    return f;
}

void colo_flows_touch(struct colo_flows *t, struct colo_flow *f, colo_time now)
{
    if (now - f->seen < USE_GRAIN)
        return;
    f->seen = now;
    if (t->newest != f) {
        use_order_remove(t, f);
        use_order_add(t, f);
    }
}

void colo_flows_remove(struct colo_flows *t, struct colo_flow *f, struct colo_budget *budget)
{
    struct colo_flow **at = &t->bucket[f->hash & t->mask];

    while (*at != f)
        at = &(*at)->chain;
    *at = f->chain;
    use_order_remove(t, f);
    colo_flows_unwait(t, f);
    if (budget)
        colo_stream_fini(&f->stream, budget);
    f->chain = t->spare;
    t->spare = f;
    t->n--;
}

/* ---- those that wait: a binary heap ---- */

static void place(struct colo_flows *t, uint32_t i, struct colo_flow *f)
{
    t->heap[i] = f;
    f->timer = i + 1;
}

static void sift_up(struct colo_flows *t, uint32_t i, struct colo_flow *f)
{
    for (uint32_t up; i; i = up) {
        up = (i - 1) / 2;
        if (t->heap[up]->when <= f->when)
            break;
        place(t, i, t->heap[up]);
    }
    place(t, i, f);
}

static void sift_down(struct colo_flows *t, uint32_t i, struct colo_flow *f)
{
    for (uint32_t down; (down = 2 * i + 1) < t->heap_n; i = down) {
        if (down + 1 < t->heap_n && t->heap[down + 1]->when < t->heap[down]->when)
            down++;
        if (f->when <= t->heap[down]->when)
            break;
        place(t, i, t->heap[down]);
    }
    place(t, i, f);
}

bool colo_flows_wait(struct colo_flows *t, struct colo_flow *f, colo_time when)
{
    struct colo_flow **bigger;
    uint32_t room;

    if (f->timer) {
        if (f->when > when) {
            f->when = when;
            sift_up(t, f->timer - 1, f);
        }
        return true;
    }
    if (t->heap_n == t->heap_room) {
        room = t->heap_room ? t->heap_room * 2 : 64;
        bigger = realloc(t->heap, room * sizeof(struct colo_flow *));
        if (!bigger)
            return false;
        t->heap = bigger;
        t->heap_room = room;
    }
    f->when = when;
    sift_up(t, t->heap_n++, f);
    return true;
}

void colo_flows_unwait(struct colo_flows *t, struct colo_flow *f)
{
    struct colo_flow *last;
    uint32_t i = f->timer;

    if (!i)
        return;
    i--;
    f->timer = 0;
    last = t->heap[--t->heap_n];
    if (last == f)
        return;
    if (i && t->heap[(i - 1) / 2]->when > last->when)
        sift_up(t, i, last);
    else
        sift_down(t, i, last);
}
