/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Why a checkpoint is asked for, counted and put into words.
 */
#include "colo_compare_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHOWN 16 /* bytes of either side */

const char *colo_why_name(enum colo_why why)
{
    static const char *const name[COLO_WHY_COUNT] = {
        [COLO_WHY_PAYLOAD] = "payload",
        [COLO_WHY_STREAM] = "stream",
        [COLO_WHY_SECONDARY_SILENT] = "secondary-silent",
        [COLO_WHY_SECONDARY_ACK] = "secondary-ack",
        [COLO_WHY_PRIMARY_SILENT] = "primary-silent",
        [COLO_WHY_FRAGMENT] = "fragment",
        [COLO_WHY_QUEUE] = "queue",
        [COLO_WHY_FLOWS] = "flows",
        [COLO_WHY_EVENT] = "event",
        [COLO_WHY_START] = "start",
    };

    return (unsigned int)why < COLO_WHY_COUNT ? name[why] : "?";
}

struct line {
    char *at;
    size_t left;
};

static void __attribute__((format(printf, 2, 3))) say(struct line *l, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(l->at, l->left, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n >= l->left)
        n = (int)l->left - 1;
    l->at += n;
    l->left -= (size_t)n;
}

static void say_bytes(struct line *l, const char *who, const uint8_t *data, uint32_t len)
{
    say(l, ", %s", who);
    if (!len)
        say(l, " nothing");
    for (uint32_t i = 0; i < len && i < SHOWN; i++)
        say(l, "%s%02x", i ? "" : " ", data[i]);
    if (len > SHOWN)
        say(l, "...");
}

static void describe(const struct colo_difference *d, char *text, size_t size)
{
    struct line l = {.at = text, .left = size};
    uint8_t other[SHOWN];
    uint32_t n, at = d->at;

    if (d->what && d->stream)
        say(&l, "%s differs at position %" PRId64 " of the stream", d->what, d->pos);
    else if (d->what)
        say(&l, "%s differs at byte %u", d->what, d->at);
    else
        say(&l, "waited in vain");
    if (d->p)
        say_bytes(&l, "primary", d->p->data + at, at < d->p->len ? d->p->len - at : 0);
    if (d->s)
        say_bytes(&l, "secondary", d->s->data + at, at < d->s->len ? d->s->len - at : 0);
    if (d->what && d->stream) {
        n = colo_ring_read(&d->stream->ring, d->pos, other, sizeof(other));
        say_bytes(&l, "secondary", other, n);
    }
}

void colo_compare_request(struct colo_compare *c, enum colo_why why, const struct colo_key *flow,
                          const struct colo_difference *d)
{
    /* A full queue stays full: count it once. */
    if (c->wanted && (why == COLO_WHY_QUEUE || why == COLO_WHY_EVENT) && c->why.why == why)
        return;
    c->stats.why[why]++;
    if (c->wanted)
        return;
    c->wanted = true;
    c->taken = false;
    c->stats.requests++;
    memset(&c->why, 0, sizeof(c->why));
    c->why.why = why;
    if (flow)
        colo_key_text(flow, c->why.flow, sizeof(c->why.flow));
    if (d)
        describe(d, c->why.text, sizeof(c->why.text));
}
