/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_compare_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *colo_mode_name(enum colo_mode mode)
{
    static const char *const name[] = {"pass", "compare", "buffer", "event"};

    return (unsigned int)mode < sizeof(name) / sizeof(name[0]) ? name[mode] : "?";
}

int colo_compare_new(const struct colo_compare_config *cfg, struct colo_compare **out,
                     struct colo_err *err)
{
    struct colo_compare *c = calloc(1, sizeof(*c));

    *out = NULL;
    if (!c)
        return colo_fail_errno(err, ENOMEM, "a compare engine");
    c->cfg = *cfg;
    if (!c->cfg.data_timeout)
        c->cfg.data_timeout = 200 * COLO_MS;
    if (!c->cfg.ack_timeout)
        c->cfg.ack_timeout = 600 * COLO_MS;
    if (!c->cfg.primary_timeout)
        c->cfg.primary_timeout = 1000 * COLO_MS;
    if (!c->cfg.max_flows)
        c->cfg.max_flows = 65536;
    if (!c->cfg.max_packets)
        c->cfg.max_packets = 32768;
    if (!c->cfg.max_bytes)
        c->cfg.max_bytes = UINT64_C(64) << 20;
    if (!c->cfg.max_stream_bytes)
        c->cfg.max_stream_bytes = UINT64_C(256) << 20;
    if (c->cfg.max_packets < 8)
        c->cfg.max_packets = 8;
    if (c->cfg.max_bytes < 4 * COLO_FRAME_MAX)
        c->cfg.max_bytes = 4 * COLO_FRAME_MAX;
    c->streams.max = c->cfg.max_stream_bytes;
    if (colo_flows_init(&c->flows, c->cfg.max_flows, c->cfg.seed, err) < 0) {
        free(c);
        return -1;
    }
    *out = c;
    return 0;
}

static void tell_time(struct colo_compare *c, colo_time now)
{
    if (now > c->now)
        c->now = now;
}

/* ---- holding and releasing ---- */

bool colo_compare_hold(struct colo_compare *c, const struct colo_packet *p, struct colo_flow *f,
                       struct colo_held *pieces)
{
    struct colo_held *h = colo_pool_hold(&c->p_pool, p, c->now);

    if (!h) {
        c->blind = true;
        return false;
    }
    h->flow = f;
    h->pieces = pieces;
    for (struct colo_held *piece = pieces; piece; piece = piece->next)
        piece->whole = h;
    if (f)
        colo_queue_add(&f->p, h);
    /* Pieces are in the list of all that wait; what they make is not. */
    if (!pieces)
        colo_all_add(&c->p_all, h);
    if (c->stats.held_packets_peak < c->p_pool.packets)
        c->stats.held_packets_peak = c->p_pool.packets;
    if (c->stats.held_bytes_peak < c->p_pool.bytes)
        c->stats.held_bytes_peak = c->p_pool.bytes;
    return true;
}

void colo_compare_out(struct colo_compare *c, const uint8_t *frame, uint32_t len)
{
    c->stats.released_packets++;
    c->stats.released_bytes += len;
    c->stats.latency[0]++;
    c->cfg.release(c->cfg.ctx, frame, len);
}

static void out_one(struct colo_compare *c, struct colo_held *h)
{
    uint64_t us = (uint64_t)(c->now - h->at) / 1000;
    uint32_t bucket = us ? 64 - (uint32_t)__builtin_clzll(us) : 0;

    colo_all_remove(&c->p_all, h);
    c->stats.released_packets++;
    c->stats.released_bytes += h->pkt.len;
    c->stats.latency[bucket < COLO_LATENCY_BUCKETS ? bucket : COLO_LATENCY_BUCKETS - 1]++;
    c->cfg.release(c->cfg.ctx, h->data, h->pkt.len);
    colo_pool_free(&c->p_pool, h);
}

void colo_compare_out_held(struct colo_compare *c, struct colo_held *h)
{
    struct colo_held *piece = h->pieces, *next;

    if (!piece) {
        out_one(c, h);
        return;
    }
    for (; piece; piece = next) {
        next = piece->next;
        out_one(c, piece);
    }
    colo_pool_free(&c->p_pool, h);
}

/* The datagram that h was a piece of stands for nothing any more. */
static void undo_whole(struct colo_compare *c, struct colo_held *h)
{
    struct colo_held *whole = h->whole;

    if (!whole)
        return;
    for (struct colo_held *piece = whole->pieces; piece; piece = piece->next)
        piece->whole = NULL;
    if (whole->flow)
        whole->flow->p.head = NULL;
    colo_pool_free(&c->p_pool, whole);
}

static void drop_secondary(struct colo_compare *c)
{
    struct colo_held *h;

    while ((h = c->s_all.first)) {
        colo_all_remove(&c->s_all, h);
        h->flow->s.head = NULL;
        colo_pool_free(&c->s_pool, h);
    }
    colo_defrag_reset(&c->s_defrag);
}

static void release_all(struct colo_compare *c)
{
    struct colo_held *h;

    while ((h = c->p_all.first)) {
        undo_whole(c, h);
        if (h->flow)
            h->flow->p.head = NULL;
        out_one(c, h);
    }
    colo_defrag_reset(&c->p_defrag);
}

/* What is held stays, but waits for a checkpoint. */
static void forget_flows(struct colo_compare *c)
{
    struct colo_held *h;

    drop_secondary(c);
    for (h = c->p_all.first; h; h = h->next_in_all) {
        undo_whole(c, h);
        if (h->flow)
            h->flow->p.head = NULL;
        h->flow = NULL;
    }
    colo_defrag_reset(&c->p_defrag);
    while (c->flows.oldest)
        colo_flows_remove(&c->flows, c->flows.oldest, &c->streams);
}

void colo_compare_free(struct colo_compare *c)
{
    struct colo_held *h;

    if (!c)
        return;
    forget_flows(c);
    while ((h = c->p_all.first)) {
        colo_all_remove(&c->p_all, h);
        colo_pool_free(&c->p_pool, h);
    }
    colo_defrag_fini(&c->p_defrag);
    colo_defrag_fini(&c->s_defrag);
    colo_pool_fini(&c->p_pool);
    colo_pool_fini(&c->s_pool);
    colo_flows_fini(&c->flows, &c->streams);
    free(c);
}

/* ---- frames come in ---- */

static bool p_fragment(struct colo_compare *c, const struct colo_packet *p)
{
    struct colo_datagram whole;
    struct colo_packet packet;

    /* The piece is held before it is known whether it can stay so only for a moment. */
    if (!colo_compare_hold(c, p, NULL, NULL))
        return false;
    if (c->cfg.mode == COLO_MODE_EVENT)
        colo_compare_request(c, COLO_WHY_EVENT, &p->key, NULL);
    if (c->cfg.mode != COLO_MODE_COMPARE || c->blind)
        return true;
    switch (colo_defrag_add(&c->p_defrag, p, c->p_all.last, c->now, &whole)) {
    case COLO_DEFRAG_WAIT:
        return true;
    case COLO_DEFRAG_WHOLE:
        colo_packet_parse(&packet, whole.frame, whole.len);
        /* It may not get a place of its own; its pieces have theirs. */
        if (!colo_compare_p_packet(c, &packet, whole.pieces)) {
            for (struct colo_held *h = whole.pieces; h; h = h->next)
                h->whole = NULL;
        }
        return true;
    case COLO_DEFRAG_BROKEN:
        break;
    case COLO_DEFRAG_FULL:
        c->blind = true;
        break;
    }
    colo_compare_request(c, COLO_WHY_FRAGMENT, &p->key, NULL);
    return true;
}

int colo_compare_primary(struct colo_compare *c, const uint8_t *frame, uint32_t len, colo_time now)
{
    const struct colo_compare_config *cfg = &c->cfg;
    uint64_t bytes = c->p_pool.bytes + len, packets = c->p_pool.packets + UINT64_C(1);
    struct colo_packet p;
    bool taken;

    tell_time(c, now);
    if (cfg->mode == COLO_MODE_PASS) {
        c->stats.primary_packets++;
        c->stats.primary_bytes += len;
        colo_compare_out(c, frame, len);
        return 0;
    }
    if (packets > cfg->max_packets / 4 * 3 || bytes > cfg->max_bytes / 4 * 3) {
        colo_compare_request(c, COLO_WHY_QUEUE, NULL, NULL);
        if (packets > cfg->max_packets || bytes > cfg->max_bytes) {
            c->stats.refused++;
            return -1;
        }
    }
    colo_packet_parse(&p, frame, len);
    if (p.key.kind == COLO_PKT_FRAGMENT)
        taken = p_fragment(c, &p);
    else
        taken = colo_compare_p_packet(c, &p, NULL);
    if (!taken) {
        colo_compare_request(c, COLO_WHY_QUEUE, NULL, NULL);
        c->stats.refused++;
        return -1;
    }
    c->stats.primary_packets++;
    c->stats.primary_bytes += len;
    return 0;
}

void colo_compare_secondary(struct colo_compare *c, const uint8_t *frame, uint32_t len,
                            colo_time now)
{
    struct colo_datagram whole;
    struct colo_packet p;

    tell_time(c, now);
    c->stats.secondary_packets++;
    c->stats.secondary_bytes += len;
    if (c->cfg.mode != COLO_MODE_COMPARE || c->blind) {
        c->stats.secondary_ignored++;
        return;
    }
    colo_packet_parse(&p, frame, len);
    if (p.key.kind != COLO_PKT_FRAGMENT) {
        colo_compare_s_packet(c, &p);
        return;
    }
    /* A datagram that is never finished is as good as lost: the primary's waits for it in vain. */
    if (c->s_defrag.n == COLO_DEFRAG_MAX)
        colo_defrag_drop_oldest(&c->s_defrag);
    if (colo_defrag_add(&c->s_defrag, &p, NULL, c->now, &whole) == COLO_DEFRAG_WHOLE) {
        colo_packet_parse(&p, whole.frame, whole.len);
        colo_compare_s_packet(c, &p);
    }
}

void colo_compare_client(struct colo_compare *c, const uint8_t *frame, uint32_t len, colo_time now)
{
    struct colo_packet p;
    struct colo_key key;
    struct colo_flow *f;

    tell_time(c, now);
    if (c->cfg.mode != COLO_MODE_COMPARE)
        return;
    colo_packet_parse(&p, frame, len);
    if (p.key.kind != COLO_PKT_TCP)
        return;
    colo_key_reverse(&p.key, &key);
    f = colo_flows_find(&c->flows, &key);
    if (!f)
        return;
    colo_compare_refresh(c, f);
    colo_stream_client(&f->stream, &p);
    colo_compare_drain(c, f);
}

/* ---- time ---- */

void colo_compare_advance(struct colo_compare *c, colo_time now)
{
    struct colo_flow *f;

    tell_time(c, now);
    while ((f = colo_flows_first(&c->flows)) && f->when <= c->now)
        colo_compare_expire(c, f);
    while (c->p_defrag.n && colo_defrag_oldest(&c->p_defrag) + c->cfg.data_timeout <= c->now) {
        colo_defrag_drop_oldest(&c->p_defrag);
        colo_compare_request(c, COLO_WHY_FRAGMENT, NULL, NULL);
    }
}

colo_time colo_compare_deadline(const struct colo_compare *c)
{
    const struct colo_flow *f = colo_flows_first(&c->flows);
    colo_time when = f ? f->when : COLO_NO_DEADLINE, d;

    if (c->p_defrag.n) {
        d = colo_defrag_oldest(&c->p_defrag) + c->cfg.data_timeout;
        when = d < when ? d : when;
    }
    return when;
}

/* ---- checkpoints and modes ---- */

bool colo_compare_take_request(struct colo_compare *c, struct colo_divergence *why)
{
    if (!c->wanted || c->taken)
        return false;
    c->taken = true;
    if (why)
        *why = c->why;
    return true;
}

void colo_compare_checkpoint(struct colo_compare *c, colo_time now)
{
    tell_time(c, now);
    drop_secondary(c);
    release_all(c);
    c->epoch++;
    c->blind = c->wanted = c->taken = false;
    c->stats.checkpoints++;
}

void colo_compare_set_mode(struct colo_compare *c, enum colo_mode mode, colo_time now)
{
    tell_time(c, now);
    if (mode == c->cfg.mode)
        return;
    c->cfg.mode = mode;
    c->blind = c->wanted = c->taken = false;
    forget_flows(c);
    if (mode == COLO_MODE_PASS) {
        release_all(c);
    } else if (mode == COLO_MODE_COMPARE) {
        c->blind = true;
        colo_compare_request(c, COLO_WHY_START, NULL, NULL);
    } else if (mode == COLO_MODE_EVENT && c->p_all.first) {
        colo_compare_request(c, COLO_WHY_EVENT, &c->p_all.first->pkt.key, NULL);
    }
}

enum colo_mode colo_compare_mode(const struct colo_compare *c)
{
    return c->cfg.mode;
}

void colo_compare_get_stats(const struct colo_compare *c, struct colo_compare_stats *out)
{
    *out = c->stats;
    out->flows = c->flows.n;
    out->held_packets = c->p_pool.packets;
    out->held_bytes = c->p_pool.bytes;
    out->stream_bytes = c->streams.used;
}
