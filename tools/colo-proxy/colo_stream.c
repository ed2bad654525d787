/* SPDX-License-Identifier: GPL-2.0-only */
#include "colo_stream.h"

#include <string.h>

#define FIRST_POS (INT64_MIN / 4) /* below every position that a sequence number can mean */

/* Serial number arithmetic, RFC 1982: a at or after b. */
static bool at_or_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) >= 0;
}

static int64_t compared_top(const struct colo_stream *s)
{
    return colo_ranges_top(&s->compared, 0);
}

/* The position of a sequence number: the one that is nearest to where the stream is. */
static int64_t position(const struct colo_stream *s, uint32_t base, uint32_t seq)
{
    int64_t near = compared_top(s);

    return near + (int32_t)(seq - (base + (uint32_t)near));
}

static uint32_t data_len(const struct colo_packet *p)
{
    return p->end - p->payload;
}

static struct colo_syn syn_of(const struct colo_packet *p)
{
    return (struct colo_syn){.seen = true,
                             .isn = p->seq,
                             .mss = p->mss,
                             .wscale = p->wscale,
                             .ack = p->flags & COLO_TCP_ACK,
                             .sack_ok = p->sack_ok,
                             .ts = p->ts};
}

static bool same_syn(const struct colo_syn *a, const struct colo_syn *b)
{
    return a->mss == b->mss && a->wscale == b->wscale && a->ack == b->ack &&
           a->sack_ok == b->sack_ok && a->ts == b->ts;
}

/* Everything but the ring's memory and what the primary said last. */
static void forget(struct colo_stream *s)
{
    struct colo_stream old = *s;

    memset(s, 0, sizeof(*s));
    s->ring.buf = old.ring.buf;
    s->ring.cap = old.ring.cap;
    s->in_syn = old.in_syn;
    s->in_based = old.in_based;
    s->in_ack_known = old.in_ack_known;
    s->in_fin = old.in_fin;
    s->in_rst = old.in_rst;
    s->in_base = old.in_base;
    s->in_end = old.in_end;
    s->in_ack = old.in_ack;
}

/* A connection that began before we looked: both sides number alike. */
static void meet_in_the_middle(struct colo_stream *s, uint32_t seq)
{
    s->p_based = s->s_based = true;
    s->p_base = s->s_base = seq;
}

void colo_stream_arrived(struct colo_stream *s, const struct colo_packet *p)
{
    uint32_t end = p->seq + data_len(p);

    if (p->flags & COLO_TCP_RST) {
        s->in_rst = true;
        return;
    }
    s->in_rst = false;
    if (p->flags & COLO_TCP_SYN) {
        end++;
        if (!s->in_syn.seen || s->in_syn.isn != p->seq) {
            s->in_syn = syn_of(p);
            s->in_based = true;
            s->in_base = p->seq;
            s->in_end = end;
            s->in_ack_known = s->in_fin = false;
        }
    } else if (!s->in_based) {
        s->in_based = true;
        s->in_base = p->seq;
        s->in_end = p->seq;
    }
    if (p->flags & COLO_TCP_FIN) {
        end++;
        s->in_fin = true;
    }
    if (at_or_after(end, s->in_end))
        s->in_end = end;
    if ((p->flags & COLO_TCP_ACK) && (!s->in_ack_known || at_or_after(p->ack, s->in_ack))) {
        s->in_ack_known = true;
        s->in_ack = p->ack;
    }
}

/* Both have said RST, and yet go on: the next RST is another one. */
static void living(struct colo_stream *s)
{
    if (s->s_rst && s->p_rst)
        s->s_rst = s->p_rst = false;
}

/* As colo_stream_pending, of the connection that is compared now. */
static bool pending_now(const struct colo_stream *s)
{
    int64_t top = compared_top(s);

    return (s->s_syn.seen && !s->p_syn.seen) || (s->s_rst && !s->p_rst) ||
           (s->s_fin_known && !s->p_fin) || colo_ranges_top(&s->ring.have, top) > top;
}

/* ---- the primary's segments ---- */

static enum colo_stream_verdict differs(struct colo_stream_diff *diff, const char *what,
                                        int64_t pos, uint32_t at, int other)
{
    *diff = (struct colo_stream_diff){.what = what, .pos = pos, .at = at, .other = other};
    return COLO_STREAM_DIFFERENT;
}

/* The SYN p: of the connection that is compared now, or of the next one between these ports. */
static enum colo_stream_verdict check_syn(struct colo_stream *s, const struct colo_packet *p,
                                          struct colo_stream_diff *diff)
{
    struct colo_syn syn = syn_of(p), next = s->next;
    uint32_t next_ack = s->next_ack;
    bool next_rst = s->next_rst;

    if (!s->p_syn.seen || s->p_syn.isn != p->seq) {
        bool paired = !s->p_based && s->s_syn.seen;

        if (!paired && pending_now(s))
            return differs(diff, "syn", 0, p->l4, -1);
        if (!paired) {
            forget(s);
            if (next.seen) {
                s->s_based = true;
                s->s_base = next.isn;
                s->s_syn = next;
                s->s_ack_known = next.ack;
                s->s_ack = next_ack;
                s->s_rst = next_rst;
            }
        }
        s->p_based = true;
        s->p_base = p->seq;
        s->p_syn = syn;
    }
    if (!s->s_syn.seen)
        return COLO_STREAM_WAIT;
    if (!same_syn(&syn, &s->s_syn))
        return differs(diff, "syn", 0, p->l4, -1);
    return COLO_STREAM_RELEASE;
}

static enum colo_stream_verdict check_rst(struct colo_stream *s, const struct colo_packet *p,
                                          struct colo_stream_diff *diff)
{
    if (!s->s_rst)
        return COLO_STREAM_WAIT;
    if (s->ring.begun && colo_ranges_top(&s->ring.have, 0) > compared_top(s))
        return differs(diff, "rst", compared_top(s), p->l4, -1);
    s->p_rst = true;
    return COLO_STREAM_RELEASE;
}

/* The positions [pos, to) of data at offset `at` of the frame, those compared before included. */
static enum colo_stream_verdict check_data(struct colo_stream *s, const struct colo_packet *p,
                                           int64_t pos, int64_t to, struct colo_stream_diff *diff)
{
    uint32_t at = p->payload, n;
    uint8_t other;
    int64_t next;
    bool differ;

    while (pos < to) {
        n = colo_ring_compare(&s->ring, pos, p->data + at, (uint32_t)(to - pos), &differ, &other);
        pos += n;
        at += n;
        if (differ)
            return differs(diff, "data", pos, at, other);
        if (pos == to)
            break;
        /* Not in the ring: passed before, or to wait for. */
        next = colo_ranges_end(&s->compared, pos);
        if (next == pos) {
            if (s->s_fin_known && pos >= s->s_fin)
                return differs(diff, "fin", pos, at, -1);
            return COLO_STREAM_WAIT;
        }
        if (next > to)
            next = to;
        n = (uint32_t)(next - pos);
        pos += n;
        at += n;
    }
    return COLO_STREAM_RELEASE;
}

static enum colo_stream_verdict check_fin(struct colo_stream *s, const struct colo_packet *p,
                                          int64_t pos, struct colo_stream_diff *diff)
{
    if (s->s_fin_known && s->s_fin == pos)
        return COLO_STREAM_RELEASE;
    if (s->p_fin && colo_ranges_end(&s->compared, pos) == pos + 1)
        return COLO_STREAM_RELEASE;
    if (s->s_fin_known || colo_ranges_top(&s->ring.have, pos) > pos)
        return differs(diff, "fin", pos, p->l4, -1);
    return COLO_STREAM_WAIT;
}

enum colo_stream_verdict colo_stream_check(struct colo_stream *s, const struct colo_packet *p,
                                           struct colo_stream_diff *diff)
{
    bool syn = p->flags & COLO_TCP_SYN, fin = p->flags & COLO_TCP_FIN;
    enum colo_stream_verdict v;
    int64_t pos, data, to;

    if (p->flags & COLO_TCP_RST)
        return check_rst(s, p, diff);
    if (syn) {
        v = check_syn(s, p, diff);
        if (v != COLO_STREAM_RELEASE)
            return v;
    } else if (!s->p_based) {
        if (s->s_based)
            return COLO_STREAM_WAIT;
        meet_in_the_middle(s, p->seq);
    }
    pos = position(s, s->p_base, p->seq);
    data = pos + syn;
    to = data + data_len(p);
    /* Nothing is new to a client that has it all, whatever a keepalive probe carries. */
    if (!s->client_known || to + fin > s->client_ack) {
        v = check_data(s, p, data, to, diff);
        if (v == COLO_STREAM_RELEASE && fin)
            v = check_fin(s, p, to, diff);
        if (v != COLO_STREAM_RELEASE)
            return v;
    }
    if ((p->flags & COLO_TCP_URG) && !(s->s_urg_known && s->s_urg == pos + p->urgent))
        return COLO_STREAM_WAIT;
    if ((p->flags & COLO_TCP_ACK) && !(s->s_ack_known && at_or_after(s->s_ack, p->ack)))
        return COLO_STREAM_WAIT_ACK;
    /* With no room for one more hole the stream stays where it is, and waits in the end. */
    if (!colo_ranges_add(&s->compared, pos, to + fin))
        return COLO_STREAM_WAIT;
    s->p_fin |= fin;
    living(s);
    return COLO_STREAM_RELEASE;
}

/* ---- the others' segments ---- */

/* False when p is of a connection that is not compared (any more, or yet). */
static bool secondary_base(struct colo_stream *s, const struct colo_packet *p)
{
    if (p->flags & COLO_TCP_SYN) {
        if (s->s_syn.seen && s->s_syn.isn == p->seq)
            return true;
        if (!s->s_based && (!s->p_based || s->p_syn.seen)) {
            s->s_based = true;
            s->s_base = p->seq;
            s->s_syn = syn_of(p);
            return true;
        }
        s->next = syn_of(p);
        s->next_ack = p->ack;
        s->next_rst = false;
        return false;
    }
    if (s->next.seen) {
        s->next_rst |= p->flags & COLO_TCP_RST;
        return false;
    }
    if (p->flags & COLO_TCP_RST)
        return true;
    if (!s->s_based) {
        if (s->p_based) /* the primary has begun anew: this is the old connection's */
            return false;
        meet_in_the_middle(s, p->seq);
    }
    return true;
}

bool colo_stream_secondary(struct colo_stream *s, struct colo_budget *b,
                           const struct colo_packet *p)
{
    int64_t pos, floor;

    if (!secondary_base(s, p))
        return true;
    if (p->flags & COLO_TCP_RST) {
        s->s_rst = true;
        return true;
    }
    living(s);
    if ((p->flags & COLO_TCP_ACK) && (!s->s_ack_known || at_or_after(p->ack, s->s_ack))) {
        s->s_ack_known = true;
        s->s_ack = p->ack;
    }
    pos = position(s, s->s_base, p->seq);
    if (p->flags & COLO_TCP_URG) {
        s->s_urg_known = true;
        s->s_urg = pos + p->urgent;
    }
    if (p->flags & COLO_TCP_SYN)
        pos++;
    if (p->flags & COLO_TCP_FIN) {
        s->s_fin_known = true;
        s->s_fin = pos + data_len(p);
    }
    if (p->payload == p->end)
        return true;
    floor = s->compared.n ? s->compared.r[0].to : 0;
    return colo_ring_write(&s->ring, b, pos, p->data + p->payload, data_len(p), floor);
}

void colo_stream_client(struct colo_stream *s, const struct colo_packet *p)
{
    int64_t pos;

    if (!(p->flags & COLO_TCP_ACK) || !s->p_based || !s->compared.n)
        return;
    pos = position(s, s->p_base, p->ack);
    /* No client has what is behind a hole that was never filled. */
    if (pos <= s->compared.r[0].to && (!s->client_known || pos > s->client_ack)) {
        s->client_known = true;
        s->client_ack = pos;
    }
}

bool colo_stream_pending(const struct colo_stream *s)
{
    return s->next.seen || pending_now(s);
}

bool colo_stream_alike(const struct colo_stream *s)
{
    return !s->next.seen && (!s->p_based || !s->s_based || s->p_base == s->s_base || s->p_rst);
}

void colo_stream_checkpoint(struct colo_stream *s)
{
    colo_ring_clear(&s->ring);
    forget(s);
    if (!s->in_based) {
        s->s_rst = s->p_rst = s->in_rst;
        return;
    }
    s->p_based = s->s_based = true;
    s->p_base = s->s_base = s->in_base;
    s->p_syn = s->s_syn = s->in_syn;
    s->s_ack_known = s->in_ack_known;
    s->s_ack = s->in_ack;
    s->s_rst = s->p_rst = s->in_rst;
    s->compared.n = 1;
    s->compared.r[0] = (struct colo_range){FIRST_POS, (int64_t)(uint32_t)(s->in_end - s->in_base)};
    if (s->in_fin) {
        s->p_fin = s->s_fin_known = true;
        s->s_fin = s->compared.r[0].to - 1;
    }
}

void colo_stream_fini(struct colo_stream *s, struct colo_budget *b)
{
    colo_ring_fini(&s->ring, b);
}
