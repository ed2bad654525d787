/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_ring.h"

#include <stdlib.h>
#include <string.h>

/* Bytes at pos up to the end of the buffer, at most len: positions wrap at the capacity. */
static uint32_t piece(const struct colo_ring *r, int64_t pos, uint32_t len, uint8_t **at)
{
    uint32_t off = (uint32_t)((uint64_t)pos & (r->cap - 1));

    *at = r->buf + off;
    return len < r->cap - off ? len : r->cap - off;
}

static void copy_in(struct colo_ring *r, int64_t pos, const uint8_t *data, uint32_t len)
{
    uint8_t *at;
    uint32_t n;

    for (; len; pos += n, data += n, len -= n) {
        n = piece(r, pos, len, &at);
        memcpy(at, data, n);
    }
}

static bool grow(struct colo_ring *r, struct colo_budget *b, uint32_t cap)
{
    struct colo_ring bigger = *r;
    uint8_t *at;
    uint32_t n;

    if (b->used - r->cap + cap > b->max)
        return false;
    bigger.cap = cap;
    bigger.buf = malloc(cap);
    if (!bigger.buf)
        return false;
    for (uint32_t i = 0; i < r->have.n; i++) {
        const struct colo_range *h = &r->have.r[i];

        for (int64_t pos = h->from; pos < h->to; pos += n) {
            n = piece(r, pos, (uint32_t)(h->to - pos), &at);
            copy_in(&bigger, pos, at, n);
        }
    }
    b->used += cap - r->cap;
    free(r->buf);
    *r = bigger;
    return true;
}

/* Make [low, to) fit: by forgetting history, or by growing. */
static bool make_room(struct colo_ring *r, struct colo_budget *b, int64_t to, int64_t floor)
{
    int64_t low = to - r->cap;
    uint64_t need;
    uint32_t cap;

    if (r->cap && r->cap < COLO_RING_HISTORY && b->used < b->max / 2 && grow(r, b, r->cap * 2))
        low = to - r->cap;
    if (low <= r->low)
        return true;
    if (!r->cap || low > floor) {
        int64_t keep = floor > r->low ? floor : r->low;

        if (keep > to)
            keep = to;
        need = (uint64_t)(to - keep);
        if (need > COLO_RING_MAX)
            return false;
        for (cap = r->cap ? r->cap : COLO_RING_MIN; cap < need; cap *= 2)
            ;
        if (cap != r->cap && !grow(r, b, cap))
            return false;
        low = to - r->cap;
    }
    if (low > r->low) {
        r->low = low;
        colo_ranges_trim(&r->have, low);
    }
    return true;
}

bool colo_ring_write(struct colo_ring *r, struct colo_budget *b, int64_t pos, const uint8_t *data,
                     uint32_t len, int64_t floor)
{
    int64_t to = pos + len, next;

    if (!r->begun) {
        r->begun = true;
        r->low = (pos < floor ? pos : floor) - COLO_RING_MAX; /* moved up when room is wanted */
    }
    if (pos < r->low) {
        if (to <= r->low)
            return true;
        data += r->low - pos;
        pos = r->low;
    }
    if (to > r->low + r->cap) {
        if (!make_room(r, b, to, floor))
            return false;
        if (pos < r->low) {
            data += r->low - pos;
            pos = r->low;
        }
    }
    /* What nearly always happens: the next bytes in order. */
    if (pos >= colo_ranges_top(&r->have, r->low)) {
        if (!colo_ranges_add(&r->have, pos, to))
            return false;
        copy_in(r, pos, data, (uint32_t)(to - pos));
        return true;
    }
    while (pos < to) {
        next = colo_ranges_end(&r->have, pos);
        if (next == pos) {
            next = colo_ranges_next(&r->have, pos, to);
            if (!colo_ranges_add(&r->have, pos, next))
                return false;
            copy_in(r, pos, data, (uint32_t)(next - pos));
        }
        data += next - pos;
        pos = next;
    }
    return true;
}

uint32_t colo_ring_compare(const struct colo_ring *r, int64_t pos, const uint8_t *data,
                           uint32_t len, bool *differ, uint8_t *other)
{
    int64_t end = colo_ranges_end(&r->have, pos);
    uint32_t here = end - pos < len ? (uint32_t)(end - pos) : len, done = 0, n;
    uint8_t *at;

    *differ = false;
    for (; done < here; done += n) {
        n = piece(r, pos + done, here - done, &at);
        if (!memcmp(at, data + done, n))
            continue;
        for (n = 0; at[n] == data[done + n]; n++)
            ;
        *differ = true;
        *other = at[n];
        return done + n;
    }
    return done;
}

uint32_t colo_ring_read(const struct colo_ring *r, int64_t pos, uint8_t *buf, uint32_t len)
{
    int64_t end = colo_ranges_end(&r->have, pos);
    uint32_t here = end - pos < len ? (uint32_t)(end - pos) : len, done = 0, n;
    uint8_t *at;

    for (; done < here; done += n) {
        n = piece(r, pos + done, here - done, &at);
        memcpy(buf + done, at, n);
    }
    return here;
}

void colo_ring_clear(struct colo_ring *r)
{
    r->begun = false;
    r->low = 0;
    r->have.n = 0;
}

void colo_ring_fini(struct colo_ring *r, struct colo_budget *b)
{
    b->used -= r->cap;
    free(r->buf);
    r->buf = NULL;
    r->cap = 0;
    colo_ring_clear(r);
}
