/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_rewrite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "colo_flow.h"
#include "colo_packet.h"

#define LOOK_AT 64

/* Timestamps that would go back are put this far ahead of what the client has seen. */
#define TS_AHEAD 1000u

struct colo_rewrite {
    struct colo_rewrite_config cfg;
    struct colo_flows flows;
    uint64_t rewritten, not_tracked;
};

static bool after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

int colo_rewrite_new(const struct colo_rewrite_config *cfg, struct colo_rewrite **out,
                     struct colo_err *err)
{
    struct colo_rewrite *r = calloc(1, sizeof(*r));

    *out = NULL;
    if (!r)
        return colo_fail_errno(err, ENOMEM, "a rewriter");
    r->cfg = *cfg;
    if (!r->cfg.max_flows)
        r->cfg.max_flows = 65536;
    if (!r->cfg.idle)
        r->cfg.idle = 3 * 3600 * INT64_C(1000) * COLO_MS;
    if (!r->cfg.linger)
        r->cfg.linger = 60 * INT64_C(1000) * COLO_MS;
    if (colo_flows_init(&r->flows, r->cfg.max_flows, cfg->seed, err) < 0) {
        free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void colo_rewrite_free(struct colo_rewrite *r)
{
    if (!r)
        return;
    colo_flows_fini(&r->flows, NULL);
    free(r);
}

/* ---- connections ---- */

static bool has_difference(const struct colo_conn *c)
{
    return c->seq_delta || c->ts_delta || (c->s_known && !c->learned);
}

static bool is_over(const struct colo_rewrite *r, const struct colo_flow *f, colo_time now)
{
    bool half_open = f->conn.s_known && !f->conn.learned;

    return now - f->seen > (f->conn.ended || half_open ? r->cfg.linger : r->cfg.idle);
}

/* The connection with this key, counted as used; a new one if there is none and it is wanted. */
static struct colo_conn *connection(struct colo_rewrite *r, const struct colo_key *key, bool want,
                                    colo_time now)
{
    struct colo_flow *f = colo_flows_find(&r->flows, key), *old;

    if (!f && want)
        f = colo_flows_add(&r->flows, key, now);
    if (!f && want) {
        old = r->flows.oldest;
        for (int i = 0; old && i < LOOK_AT && has_difference(&old->conn) && !is_over(r, old, now);
             i++)
            old = old->newer;
        if (old && (!has_difference(&old->conn) || is_over(r, old, now))) {
            colo_flows_remove(&r->flows, old, NULL);
            f = colo_flows_add(&r->flows, key, now);
        }
    }
    if (!f) {
        r->not_tracked += want;
        return NULL;
    }
    colo_flows_touch(&r->flows, f, now);
    return &f->conn;
}

static void begin(struct colo_conn *c)
{
    memset(c, 0, sizeof(*c));
}

/* Both initial sequence numbers are known. */
static void learn(struct colo_conn *c, uint32_t p_isn)
{
    c->p_known = true;
    c->p_isn = p_isn;
    if (!c->s_known)
        return;
    c->seq_delta = c->p_isn - c->s_isn;
    c->learned = true;
}

/* ---- changing a frame ---- */

struct edit {
    uint8_t *frame;
    const struct colo_packet *p;
    uint32_t sum; /* of the TCP checksum, inverted */
    bool changed;
};

/* Put v where a 32-bit number is; the checksum follows, RFC 1624. */
static void change(struct edit *e, uint32_t at, uint32_t v)
{
    uint8_t *b = e->frame + at;
    uint16_t old[2] = {colo_be16(b), colo_be16(b + 2)}, new[2] = {(uint16_t)(v >> 16), (uint16_t)v};

    for (int i = 0; i < 2; i++) {
        uint16_t o = old[i], n = new[i];

        /* Options may lie at odd addresses, across two words of the sum. */
        if ((at - e->p->l4) & 1) {
            o = (uint16_t)(o << 8 | o >> 8);
            n = (uint16_t)(n << 8 | n >> 8);
        }
        e->sum += (uint16_t)~o;
        e->sum += n;
    }
    if (old[0] != new[0] || old[1] != new[1])
        e->changed = true;
    colo_put32(b, v);
}

static bool finish(struct colo_rewrite *r, struct edit *e)
{
    if (!e->changed)
        return false;
    while (e->sum >> 16)
        e->sum = (e->sum & 0xffff) + (e->sum >> 16);
    colo_put16(e->frame + e->p->l4 + 16, (uint16_t)~e->sum);
    r->rewritten++;
    return true;
}

static struct edit edit(uint8_t *frame, const struct colo_packet *p)
{
    return (struct edit){.frame = frame, .p = p, .sum = (uint16_t)~colo_be16(frame + p->l4 + 16)};
}

/* ---- what the guest sends ---- */

/* Both directions have ended when both FINs are acknowledged. */
static void note_end(struct colo_conn *c)
{
    if (c->fin_guest && c->fin_client && c->guest_fin_acked && c->client_fin_acked)
        c->ended = true;
}

static uint32_t seq_end(const struct colo_packet *p)
{
    return p->seq + (p->end - p->payload) + !!(p->flags & COLO_TCP_SYN) +
           !!(p->flags & COLO_TCP_FIN);
}

/* out: p goes to the client, which so learns the numbers that it has. */
static struct colo_conn *from_guest(struct colo_rewrite *r, const struct colo_packet *p,
                                    colo_time now, bool out)
{
    bool syn = p->flags & COLO_TCP_SYN;
    struct colo_conn *c = connection(r, &p->key, syn || p->ts, now);

    if (!c)
        return NULL;
    if (syn && !(c->s_known && c->s_isn == p->seq)) {
        struct colo_conn old = *c;

        begin(c);
        c->s_known = true;
        c->s_isn = p->seq;
        c->s_first_tsval = p->tsval;
        if (old.p_known && !old.s_known) { /* told before */
            learn(c, old.p_isn);
        } else if (out) {
            learn(c, p->seq);
            c->ts_aligned = true;
        }
    }
    if (p->ts) {
        c->ts_known = true;
        c->s_tsval = p->tsval;
    }
    if (p->flags & COLO_TCP_FIN) {
        c->fin_guest = true;
        c->guest_fin = seq_end(p) + c->seq_delta;
    }
    if (c->fin_client && (p->flags & COLO_TCP_ACK) && !after(c->client_fin, p->ack))
        c->client_fin_acked = true;
    if (p->flags & COLO_TCP_RST)
        c->ended = true;
    note_end(c);
    return c;
}

static bool parse_tcp(struct colo_packet *p, const uint8_t *frame, uint32_t len)
{
    colo_packet_parse(p, frame, len);
    return p->key.kind == COLO_PKT_TCP;
}

void colo_rewrite_observe(struct colo_rewrite *r, const uint8_t *frame, uint32_t len, colo_time now)
{
    struct colo_packet p;

    if (parse_tcp(&p, frame, len))
        from_guest(r, &p, now, false);
}

void colo_rewrite_primary_syn(struct colo_rewrite *r, const uint8_t *frame, uint32_t len,
                              colo_time now)
{
    struct colo_packet p;
    struct colo_conn *c;

    if (!parse_tcp(&p, frame, len) || !(p.flags & COLO_TCP_SYN))
        return;
    c = connection(r, &p.key, true, now);
    if (!c || (c->p_known && c->p_isn == p.seq))
        return;
    /* Another number than before is another connection; the secondary's SYN of it may have come. */
    if (c->p_known && c->s_known) {
        begin(c);
        c->p_known = true;
        c->p_isn = p.seq;
        return;
    }
    learn(c, p.seq);
}

bool colo_rewrite_from_guest(struct colo_rewrite *r, uint8_t *frame, uint32_t len, colo_time now)
{
    struct colo_packet p;
    struct colo_conn *c;
    struct edit e;
    uint32_t ts;

    if (!parse_tcp(&p, frame, len))
        return false;
    c = from_guest(r, &p, now, true);
    if (!c)
        return false;
    e = edit(frame, &p);
    /* A RST that answers a segment carries the number which that segment acknowledged: it was
     * translated on the way in, so it is translated back like all others; 0 stands for none. */
    if (c->seq_delta && !((p.flags & COLO_TCP_RST) && p.seq == 0))
        change(&e, p.l4 + 4, p.seq + c->seq_delta);
    if (p.ts) {
        ts = p.tsval + c->ts_delta;
        if (c->tsmax_known && after(c->tsmax, ts)) {
            c->ts_delta += c->tsmax - ts + TS_AHEAD;
            ts = p.tsval + c->ts_delta;
        }
        if (c->ts_delta)
            change(&e, p.ts, ts);
    }
    return finish(r, &e);
}

/* ---- what clients send ---- */

/* The timestamp to tell the guest: one that it may have sent on this connection. */
static uint32_t echo_for_guest(const struct colo_conn *c, uint32_t tsecr)
{
    uint32_t ts = tsecr - c->ts_delta;

    if (after(ts, c->s_tsval))
        return c->s_tsval;
    return c->s_known && after(c->s_first_tsval, ts) ? c->s_first_tsval : ts;
}

bool colo_rewrite_to_guest(struct colo_rewrite *r, uint8_t *frame, uint32_t len, colo_time now)
{
    struct colo_packet p;
    struct colo_key key;
    struct colo_conn *c;
    struct edit e;

    if (!parse_tcp(&p, frame, len))
        return false;
    colo_key_reverse(&p.key, &key);
    c = connection(r, &key, p.ts, now);
    if (!c)
        return false;
    if (p.flags & COLO_TCP_ACK) {
        if (c->s_known && !c->learned && !(p.flags & COLO_TCP_RST))
            learn(c, p.ack - 1);
        /* The first to come back is the timestamp of the primary's SYN. */
        if (p.ts && c->s_known && c->learned && c->ts_known && !c->ts_aligned) {
            c->ts_aligned = true;
            c->ts_delta = p.tsecr - c->s_first_tsval;
        }
        if (p.ts && (!c->tsmax_known || after(p.tsecr, c->tsmax))) {
            c->tsmax_known = true;
            c->tsmax = p.tsecr;
        }
        if (c->fin_guest && !after(c->guest_fin, p.ack))
            c->guest_fin_acked = true;
    }
    if (p.flags & COLO_TCP_FIN) {
        c->fin_client = true;
        c->client_fin = seq_end(&p);
    }
    if (p.flags & COLO_TCP_RST)
        c->ended = true;
    note_end(c);

    e = edit(frame, &p);
    if (c->seq_delta && (p.flags & COLO_TCP_ACK)) {
        change(&e, p.l4 + 8, p.ack - c->seq_delta);
        for (uint32_t i = 0; i < 2u * p.sack_blocks; i++)
            change(&e, p.sack + 4 * i, colo_be32(frame + p.sack + 4 * i) - c->seq_delta);
    }
    if (p.ts && (p.flags & COLO_TCP_ACK) && c->ts_known)
        change(&e, p.ts + 4u, echo_for_guest(c, p.tsecr));
    return finish(r, &e);
}

/* ---- all of them ---- */

void colo_rewrite_checkpoint(struct colo_rewrite *r)
{
    while (r->flows.oldest)
        colo_flows_remove(&r->flows, r->flows.oldest, NULL);
}

uint32_t colo_rewrite_active(struct colo_rewrite *r, colo_time now)
{
    struct colo_flow *f, *newer;
    uint32_t active = 0;

    for (f = r->flows.oldest; f; f = newer) {
        newer = f->newer;
        if (is_over(r, f, now))
            colo_flows_remove(&r->flows, f, NULL);
        else
            active += has_difference(&f->conn);
    }
    return active;
}

void colo_rewrite_get_stats(const struct colo_rewrite *r, struct colo_rewrite_stats *out)
{
    memset(out, 0, sizeof(*out));
    out->flows = r->flows.n;
    for (const struct colo_flow *f = r->flows.oldest; f; f = f->newer)
        out->active += has_difference(&f->conn);
    out->rewritten = r->rewritten;
    out->not_tracked = r->not_tracked;
}
