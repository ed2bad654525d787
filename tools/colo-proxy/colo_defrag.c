/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_defrag.h"

#include <stdlib.h>
#include <string.h>

#include "colo_ranges.h"

#define HEAD_ROOM 512u /* Ethernet, tags and IP header of a datagram */

struct colo_defrag_entry {
    struct colo_key key;
    uint32_t id;
    colo_time since;
    bool total_known;
    uint32_t total; /* bytes of the datagram's payload */
    uint32_t head;  /* bytes of headers at the end of head_room, 0 = not here yet */
    uint32_t l3;    /* offset of the IP header in them */
    struct colo_ranges have;
    struct colo_queue pieces;
    uint8_t head_room[HEAD_ROOM];
    uint8_t data[65536];
};
_Static_assert(offsetof(struct colo_defrag_entry, data) ==
                   offsetof(struct colo_defrag_entry, head_room) + HEAD_ROOM,
               "headers and data are one frame");

/* Take entry i out; its memory stays as a spare one behind the others. */
static struct colo_defrag_entry *take_out(struct colo_defrag *d, uint32_t i)
{
    struct colo_defrag_entry *e = d->entry[i];

    d->n--;
    memmove(d->entry + i, d->entry + i + 1, (d->n - i) * sizeof(struct colo_defrag_entry *));
    d->entry[d->n] = e;
    return e;
}

static struct colo_defrag_entry *find_or_begin(struct colo_defrag *d, const struct colo_packet *p,
                                               colo_time now, uint32_t *index)
{
    struct colo_defrag_entry *e;

    for (uint32_t i = 0; i < d->n; i++) {
        e = d->entry[i];
        if (e->id == p->frag_id && !memcmp(&e->key, &p->key, sizeof(p->key))) {
            *index = i;
            return e;
        }
    }
    if (d->n == COLO_DEFRAG_MAX)
        return NULL;
    if (!d->entry[d->n])
        d->entry[d->n] = malloc(sizeof(*e));
    e = d->entry[d->n];
    if (!e)
        return NULL;
    memset(e, 0, offsetof(struct colo_defrag_entry, head_room));
    e->key = p->key;
    e->id = p->frag_id;
    e->since = now;
    *index = d->n++;
    return e;
}

/* The headers of the first piece, without what makes it a piece. */
static bool take_headers(struct colo_defrag_entry *e, const struct colo_packet *p)
{
    uint32_t len = p->frag_hdr ? p->frag_hdr : p->l4;
    uint8_t *to;

    if (len > HEAD_ROOM)
        return false;
    e->head = len;
    e->l3 = p->l3;
    to = e->head_room + HEAD_ROOM - len;
    memcpy(to, p->data, len);
    if (p->frag_hdr)
        to[p->frag_prev] = p->key.proto;
    else
        colo_put16(to + p->l3 + 6, 0);
    return true;
}

static bool put_in(struct colo_defrag_entry *e, const struct colo_packet *p)
{
    uint32_t len = p->end - p->l4, to = p->frag_off + len;
    const uint8_t *data = p->data + p->l4;

    if (!p->frag_more) {
        if ((e->total_known && e->total != to) || colo_ranges_top(&e->have, 0) > to)
            return false;
        e->total_known = true;
        e->total = to;
    }
    if (e->total_known && to > e->total)
        return false;
    if (colo_ranges_next(&e->have, p->frag_off, to) < to) /* an exact repetition is harmless */
        return colo_ranges_end(&e->have, p->frag_off) >= to &&
               !memcmp(e->data + p->frag_off, data, len);
    if (!colo_ranges_add(&e->have, p->frag_off, to))
        return false;
    memcpy(e->data + p->frag_off, data, len);
    return p->frag_off || take_headers(e, p);
}

static bool finish(struct colo_defrag_entry *e, struct colo_datagram *out)
{
    uint8_t *frame = e->head_room + HEAD_ROOM - e->head, *ip = frame + e->l3;
    uint32_t ip_len = e->head - e->l3 + e->total;

    if (ip[0] >> 4 == 4) {
        if (ip_len > 65535)
            return false;
        colo_put16(ip + 2, (uint16_t)ip_len);
    } else {
        if (ip_len - 40 > 65535)
            return false;
        colo_put16(ip + 4, (uint16_t)(ip_len - 40));
    }
    out->frame = frame;
    out->len = e->head + e->total;
    out->pieces = e->pieces.head;
    return true;
}

static void unlink_pieces(struct colo_defrag_entry *e)
{
    struct colo_held *h;

    while ((h = colo_queue_take(&e->pieces)))
        h->next = NULL;
}

enum colo_defrag_result colo_defrag_add(struct colo_defrag *d, const struct colo_packet *p,
                                        struct colo_held *piece, colo_time now,
                                        struct colo_datagram *out)
{
    struct colo_defrag_entry *e;
    uint32_t i = 0;

    e = find_or_begin(d, p, now, &i);
    if (!e)
        return COLO_DEFRAG_FULL;
    if (piece)
        colo_queue_add(&e->pieces, piece);
    if (!put_in(e, p)) {
        unlink_pieces(take_out(d, i));
        return COLO_DEFRAG_BROKEN;
    }
    if (!e->total_known || !e->head || e->have.n != 1 || e->have.r[0].from != 0 ||
        e->have.r[0].to != e->total)
        return COLO_DEFRAG_WAIT;
    take_out(d, i);
    if (!finish(e, out)) {
        unlink_pieces(e);
        return COLO_DEFRAG_BROKEN;
    }
    return COLO_DEFRAG_WHOLE;
}

colo_time colo_defrag_oldest(const struct colo_defrag *d)
{
    return d->n ? d->entry[0]->since : COLO_NO_DEADLINE;
}

void colo_defrag_drop_oldest(struct colo_defrag *d)
{
    if (d->n)
        unlink_pieces(take_out(d, 0));
}

void colo_defrag_reset(struct colo_defrag *d)
{
    d->n = 0;
}

void colo_defrag_fini(struct colo_defrag *d)
{
    for (uint32_t i = 0; i < COLO_DEFRAG_MAX; i++)
        free(d->entry[i]);
    memset(d, 0, sizeof(*d));
}
