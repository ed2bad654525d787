/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One flow: what waits on either side, and what may go.
 */
#include "colo_compare_priv.h"

/* How many of the oldest flows are looked at when room is wanted. */
#define LOOK_AT 64

void colo_compare_refresh(struct colo_compare *c, struct colo_flow *f)
{
    if (f->epoch == c->epoch)
        return;
    f->epoch = c->epoch;
    f->stopped = false;
    f->s_since = 0;
    if (f->key.kind == COLO_PKT_TCP)
        colo_stream_checkpoint(&f->stream);
}

/* Nothing is lost if f is forgotten and met again later. */
static bool forgettable(const struct colo_compare *c, const struct colo_flow *f)
{
    if (f->p.head || f->s.head)
        return false;
    if (f->epoch != c->epoch)
        return true;
    if (f->stopped)
        return false;
    return f->key.kind != COLO_PKT_TCP ||
           (!colo_stream_pending(&f->stream) && colo_stream_alike(&f->stream));
}

static struct colo_flow *new_flow(struct colo_compare *c, const struct colo_key *key)
{
    struct colo_flow *f = colo_flows_add(&c->flows, key, c->now), *old;

    if (!f) {
        old = c->flows.oldest;
        for (int i = 0; old && i < LOOK_AT && !forgettable(c, old); i++)
            old = old->newer;
        if (old && forgettable(c, old)) {
            colo_flows_remove(&c->flows, old, &c->streams);
            c->stats.evicted++;
            f = colo_flows_add(&c->flows, key, c->now);
        }
    }
    if (f) {
        f->epoch = c->epoch;
        return f;
    }
    c->blind = true;
    colo_compare_request(c, COLO_WHY_FLOWS, key, NULL);
    return NULL;
}

static struct colo_flow *flow_of(struct colo_compare *c, const struct colo_packet *p)
{
    struct colo_flow *f = colo_flows_find(&c->flows, &p->key);

    if (!f)
        return new_flow(c, &p->key);
    colo_compare_refresh(c, f);
    colo_flows_touch(&c->flows, f, c->now);
    return f;
}

/* From now on all of f's frames wait for a checkpoint. */
static void stop(struct colo_compare *c, struct colo_flow *f, enum colo_why why,
                 const struct colo_difference *d)
{
    f->stopped = true;
    colo_flows_unwait(&c->flows, f);
    colo_compare_request(c, why, &f->key, d);
}

/* ---- deadlines ---- */

/* The time at which f has waited too long as it stands, and for what. */
static colo_time deadline(const struct colo_compare *c, struct colo_flow *f, enum colo_why *why)
{
    colo_time when = COLO_NO_DEADLINE, d;
    struct colo_stream_diff diff;

    if (f->stopped || f->epoch != c->epoch)
        return when;
    if (f->p.head) {
        *why = COLO_WHY_SECONDARY_SILENT;
        when = f->p.head->at + c->cfg.data_timeout;
        if (f->key.kind == COLO_PKT_TCP &&
            colo_stream_check(&f->stream, &f->p.head->pkt, &diff) == COLO_STREAM_WAIT_ACK) {
            *why = COLO_WHY_SECONDARY_ACK;
            when = f->p.head->at + c->cfg.ack_timeout;
        }
    }
    if (f->s.head || f->s_since) {
        d = (f->s.head ? f->s.head->at : f->s_since) + c->cfg.primary_timeout;
        if (d < when) {
            *why = COLO_WHY_PRIMARY_SILENT;
            when = d;
        }
    }
    return when;
}

/* f has begun to wait at `since`; the shortest of the times is early enough. */
static void wait_from(struct colo_compare *c, struct colo_flow *f, colo_time since,
                      colo_time timeout)
{
    if (!colo_flows_wait(&c->flows, f, since + timeout)) {
        c->blind = true;
        stop(c, f, COLO_WHY_QUEUE, NULL);
    }
}

/* ---- TCP ---- */

/* Note whether the secondary is ahead; moved: the primary has just said something. */
static void note_ahead(struct colo_compare *c, struct colo_flow *f, bool moved)
{
    if (!colo_stream_pending(&f->stream)) {
        f->s_since = 0;
    } else if (moved || !f->s_since) {
        f->s_since = c->now;
        wait_from(c, f, c->now, c->cfg.primary_timeout);
    }
}

/* Whether p may go. When not, and it never may, f is stopped. */
static enum colo_stream_verdict check_tcp(struct colo_compare *c, struct colo_flow *f,
                                          const struct colo_packet *p)
{
    struct colo_stream_diff diff;
    enum colo_stream_verdict v = colo_stream_check(&f->stream, p, &diff);

    if (v == COLO_STREAM_RELEASE) {
        c->stats.matched++;
        note_ahead(c, f, true);
    } else if (v == COLO_STREAM_DIFFERENT) {
        struct colo_difference d = {
            .what = diff.what, .p = p, .stream = &f->stream, .pos = diff.pos, .at = diff.at};

        stop(c, f, diff.what[0] == 'd' ? COLO_WHY_PAYLOAD : COLO_WHY_STREAM, &d);
    }
    return v;
}

void colo_compare_drain(struct colo_compare *c, struct colo_flow *f)
{
    struct colo_held *h;

    while (f->key.kind == COLO_PKT_TCP && !f->stopped && (h = f->p.head)) {
        if (check_tcp(c, f, &h->pkt) != COLO_STREAM_RELEASE)
            return;
        colo_queue_take(&f->p);
        colo_compare_out_held(c, h);
    }
}

static void s_tcp(struct colo_compare *c, struct colo_flow *f, const struct colo_packet *p)
{
    struct colo_flow *old;

    if (!colo_stream_secondary(&f->stream, &c->streams, p)) {
        /* Others have memory that they do not need. */
        old = c->flows.oldest;
        for (int i = 0; old && i < LOOK_AT; i++, old = old->newer) {
            if (old != f && forgettable(c, old))
                colo_stream_fini(&old->stream, &c->streams);
        }
        if (!colo_stream_secondary(&f->stream, &c->streams, p)) {
            stop(c, f, COLO_WHY_QUEUE, NULL);
            return;
        }
    }
    colo_compare_drain(c, f);
    if (!f->stopped)
        note_ahead(c, f, false);
}

void colo_compare_expire(struct colo_compare *c, struct colo_flow *f)
{
    enum colo_why why = COLO_WHY_SECONDARY_SILENT;
    struct colo_difference d = {0};
    colo_time when;

    colo_flows_unwait(&c->flows, f);
    when = deadline(c, f, &why);
    if (f->p.head)
        d.p = &f->p.head->pkt;
    if (f->s.head)
        d.s = &f->s.head->pkt;
    if (when <= c->now)
        stop(c, f, why, &d);
    else if (when != COLO_NO_DEADLINE)
        wait_from(c, f, when, 0);
}

/* ---- everything else ---- */

/* The oldest of each side, which should say the same. */
static bool match(struct colo_compare *c, struct colo_flow *f, const struct colo_packet *p,
                  const struct colo_packet *s)
{
    struct colo_difference d = {.what = "packet", .p = p, .s = s};

    if (colo_packet_equal(p, s, &d.at)) {
        c->stats.matched++;
        return true;
    }
    stop(c, f, COLO_WHY_PAYLOAD, &d);
    return false;
}

static void s_other(struct colo_compare *c, struct colo_flow *f, const struct colo_packet *p)
{
    struct colo_held *h = f->p.head;

    if (h) {
        if (match(c, f, &h->pkt, p)) {
            colo_queue_take(&f->p);
            colo_compare_out_held(c, h);
        }
        return;
    }
    if (c->s_pool.packets >= c->cfg.max_packets || c->s_pool.bytes + p->len > c->cfg.max_bytes ||
        !(h = colo_pool_hold(&c->s_pool, p, c->now))) {
        stop(c, f, COLO_WHY_QUEUE, NULL);
        return;
    }
    h->flow = f;
    colo_queue_add(&f->s, h);
    colo_all_add(&c->s_all, h);
    wait_from(c, f, c->now, c->cfg.primary_timeout);
}

/* Whether p, the primary's next, may go at once. */
static bool p_other(struct colo_compare *c, struct colo_flow *f, const struct colo_packet *p)
{
    struct colo_held *h = f->s.head;

    if (!h || !match(c, f, p, &h->pkt))
        return false;
    colo_queue_take(&f->s);
    colo_all_remove(&c->s_all, h);
    colo_pool_free(&c->s_pool, h);
    return true;
}

/* ---- either ---- */

void colo_compare_s_packet(struct colo_compare *c, const struct colo_packet *p)
{
    struct colo_flow *f = flow_of(c, p);

    if (!f || f->stopped)
        c->stats.secondary_ignored++;
    else if (p->key.kind == COLO_PKT_TCP)
        s_tcp(c, f, p);
    else
        s_other(c, f, p);
}

/* Send p, which was not held, or the pieces that it stands for. */
static void out_now(struct colo_compare *c, const struct colo_packet *p, struct colo_held *pieces)
{
    struct colo_held *next;

    if (!pieces) {
        colo_compare_out(c, p->data, p->len);
        return;
    }
    for (; pieces; pieces = next) {
        next = pieces->next;
        pieces->next = NULL;
        colo_compare_out_held(c, pieces);
    }
}

bool colo_compare_p_packet(struct colo_compare *c, const struct colo_packet *p,
                           struct colo_held *pieces)
{
    bool tcp = p->key.kind == COLO_PKT_TCP;
    struct colo_flow *f;

    if (c->cfg.mode != COLO_MODE_COMPARE) {
        if (c->cfg.mode == COLO_MODE_EVENT)
            colo_compare_request(c, COLO_WHY_EVENT, &p->key, NULL);
        return colo_compare_hold(c, p, NULL, pieces);
    }
    if (c->blind) {
        /* What the checkpoint lets out is part of what the copies share from then on. */
        f = tcp ? colo_flows_find(&c->flows, &p->key) : NULL;
        if (f) {
            colo_compare_refresh(c, f);
            colo_stream_arrived(&f->stream, p);
        }
        return colo_compare_hold(c, p, NULL, pieces);
    }
    f = flow_of(c, p);
    if (f && tcp)
        colo_stream_arrived(&f->stream, p);
    if (!f || f->stopped)
        return colo_compare_hold(c, p, NULL, pieces);
    if (!f->p.head) {
        if (tcp ? check_tcp(c, f, p) == COLO_STREAM_RELEASE : p_other(c, f, p)) {
            out_now(c, p, pieces);
            return true;
        }
        if (f->stopped)
            return colo_compare_hold(c, p, NULL, pieces);
        wait_from(c, f, c->now, c->cfg.data_timeout);
    }
    return colo_compare_hold(c, p, f, pieces);
}
