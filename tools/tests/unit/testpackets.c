/* SPDX-License-Identifier: GPL-2.0-only */
#include "testpackets.h"

#include <stdlib.h>
#include <string.h>

#include "testlib.h"

static uint16_t next_id;

static void put(struct tp_frame *f, const void *data, uint32_t len)
{
    assert_true(len <= sizeof(f->b) - f->len);
    if (len)
        memcpy(f->b + f->len, data, len);
    f->len += len;
}

static void put8(struct tp_frame *f, uint8_t v)
{
    put(f, &v, 1);
}

static void put16(struct tp_frame *f, uint16_t v)
{
    uint8_t b[2];

    colo_put16(b, v);
    put(f, b, 2);
}

static void put32(struct tp_frame *f, uint32_t v)
{
    uint8_t b[4];

    colo_put32(b, v);
    put(f, b, 4);
}

static uint32_t sum(uint32_t s, const uint8_t *p, uint32_t len)
{
    for (; len > 1; p += 2, len -= 2)
        s += colo_be16(p);
    if (len)
        s += (uint32_t)p[0] << 8;
    return s;
}

static uint16_t fold(uint32_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

static uint16_t l4_sum(const struct colo_packet *p)
{
    uint32_t s = p->key.proto + (p->end - p->l4);

    if (p->key.ethertype == 0x0800)
        s = sum(s, p->data + p->l3 + 12, 8);
    else
        s = sum(s, p->data + p->l3 + 8, 32);
    return fold(sum(s, p->data + p->l4, p->end - p->l4));
}

bool tp_checksums_right(const uint8_t *frame, uint32_t len)
{
    struct colo_packet p;

    colo_packet_parse(&p, frame, len);
    if (p.key.kind != COLO_PKT_TCP && p.key.proto != 17)
        return false;
    if (p.key.ethertype == 0x0800 && fold(sum(0, frame + p.l3, p.l4 - p.l3)) != 0)
        return false;
    return l4_sum(&p) == 0;
}

void tp_fix_tcp_checksum(struct tp_frame *f)
{
    struct colo_packet p;

    colo_packet_parse(&p, f->b, f->len);
    assert_int_equal(p.key.kind, COLO_PKT_TCP);
    colo_put16(f->b + p.l4 + 16, 0);
    colo_put16(f->b + p.l4 + 16, l4_sum(&p));
}

/* Headers up to what the protocol puts there; len bytes of it follow. */
static void begin(struct tp_frame *f, const struct tp_conn *c, uint8_t proto, uint32_t len)
{
    const uint8_t mac[12] = {2, 0, 0, 0, 0, c->dst, 2, 0, 0, 0, 0, c->src};
    uint32_t l3, opts = c->ipv4_options ? 4 : 0, ext = c->v6_extensions ? 16 : 0;
    uint8_t a[16] = {0x20, 1, 0x0d, 0xb8};

    f->len = 0;
    put(f, mac, 12);
    for (int i = 0; i < 2; i++) {
        if (c->vlan[i]) {
            put16(f, i ? 0x8100 : c->vlan[1] ? 0x88a8 : 0x8100);
            put16(f, c->vlan[i]);
        }
    }
    put16(f, c->v6 ? 0x86dd : 0x0800);
    l3 = f->len;
    if (c->v6) {
        put32(f, 0x60000000u | next_id++); /* a flow label */
        put16(f, (uint16_t)(len + ext));
        put8(f, ext ? 0 : proto);
        put8(f, 64);
        a[15] = c->src;
        put(f, a, 16);
        a[15] = c->dst;
        put(f, a, 16);
        if (ext) { /* hop by hop, destination options; both only padding */
            put(f, (uint8_t[]){60, 0, 1, 4, 0, 0, 0, 0}, 8);
            put8(f, proto);
            put(f, (uint8_t[]){0, 1, 4, 0, 0, 0, 0}, 7);
        }
        return;
    }
    put8(f, (uint8_t)(0x45 + opts / 4));
    put8(f, 0);
    put16(f, (uint16_t)(20 + opts + len));
    put16(f, next_id++);
    put16(f, 0);
    put8(f, 64);
    put8(f, proto);
    put16(f, 0);
    put(f, (uint8_t[]){10, 0, 0, c->src}, 4);
    put(f, (uint8_t[]){10, 0, 0, c->dst}, 4);
    if (opts)
        put(f, (uint8_t[]){1, 1, 1, 0}, 4);
    colo_put16(f->b + l3 + 10, fold(sum(0, f->b + l3, f->len - l3)));
}

static void finish(struct tp_frame *f, uint32_t l4, uint32_t checksum, uint8_t proto)
{
    struct colo_packet p;

    colo_packet_parse(&p, f->b, f->len);
    assert_int_equal(p.l4, l4);
    assert_int_equal(p.key.proto, proto);
    colo_put16(f->b + l4 + checksum, l4_sum(&p));
}

void tp_tcp(struct tp_frame *f, const struct tp_conn *c, const struct tp_tcp *t)
{
    uint32_t opts = (t->mss ? 4 : 0) + (t->wscale ? 4 : 0) + (t->sack_ok ? 4 : 0) +
                    (t->ts ? 12 : 0) + (t->sack_blocks ? 4 + 8 * t->sack_blocks : 0);
    uint32_t l4;

    begin(f, c, 6, 20 + opts + t->len);
    l4 = f->len;
    put16(f, c->sport);
    put16(f, c->dport);
    put32(f, t->seq);
    put32(f, t->flags & COLO_TCP_ACK ? t->ack : 0);
    put8(f, (uint8_t)((20 + opts) / 4 << 4));
    put8(f, t->flags);
    put16(f, t->window ? t->window : 1000);
    put16(f, 0);
    put16(f, t->urgent);
    if (t->mss) {
        put16(f, 0x0204);
        put16(f, t->mss);
    }
    if (t->wscale) {
        put(f, (uint8_t[]){1, 3, 3}, 3);
        put8(f, (uint8_t)(t->wscale - 1));
    }
    if (t->sack_ok)
        put(f, (uint8_t[]){1, 1, 4, 2}, 4);
    if (t->ts) {
        put(f, (uint8_t[]){1, 1, 8, 10}, 4);
        put32(f, t->tsval);
        put32(f, t->tsecr);
    }
    if (t->sack_blocks) {
        put(f, (uint8_t[]){1, 1, 5}, 3);
        put8(f, (uint8_t)(2 + 8 * t->sack_blocks));
        for (uint32_t i = 0; i < t->sack_blocks; i++) {
            put32(f, t->sack[i][0]);
            put32(f, t->sack[i][1]);
        }
    }
    put(f, t->data, t->len);
    finish(f, l4, 16, 6);
}

void tp_udp(struct tp_frame *f, const struct tp_conn *c, const void *data, uint32_t len)
{
    uint32_t l4;

    begin(f, c, 17, 8 + len);
    l4 = f->len;
    put16(f, c->sport);
    put16(f, c->dport);
    put16(f, (uint16_t)(8 + len));
    put16(f, 0);
    put(f, data, len);
    finish(f, l4, 6, 17);
}

void tp_icmp_echo(struct tp_frame *f, const struct tp_conn *c, uint16_t id, uint16_t seq,
                  const void *data, uint32_t len)
{
    uint32_t l4;

    begin(f, c, c->v6 ? 58 : 1, 8 + len);
    l4 = f->len;
    put16(f, c->v6 ? 129 << 8 : 0);
    put16(f, 0);
    put16(f, id);
    put16(f, seq);
    put(f, data, len);
    if (c->v6)
        finish(f, l4, 2, 58);
    else
        colo_put16(f->b + l4 + 2, fold(sum(0, f->b + l4, f->len - l4)));
}

void tp_ip(struct tp_frame *f, const struct tp_conn *c, const void *data, uint32_t len)
{
    begin(f, c, c->proto, len);
    put(f, data, len);
}

void tp_arp(struct tp_frame *f, uint8_t from, uint8_t to, bool reply)
{
    const uint8_t mac[12] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, from};
    uint8_t padding[18];

    f->len = 0;
    put(f, mac, 12);
    put(f, (uint8_t[]){8, 6, 0, 1, 8, 0, 6, 4, 0, (uint8_t)(1 + reply)}, 10);
    put(f, (uint8_t[]){2, 0, 0, 0, 0, from, 10, 0, 0, from}, 10);
    put(f, (uint8_t[]){0, 0, 0, 0, 0, 0, 10, 0, 0, to}, 10);
    memset(padding, next_id++, sizeof(padding)); /* what was in the buffer before */
    put(f, padding, sizeof(padding));
}

void tp_other(struct tp_frame *f, uint16_t ethertype, const void *data, uint32_t len)
{
    const uint8_t mac[12] = {1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};

    f->len = 0;
    put(f, mac, 12);
    put16(f, ethertype);
    put(f, data, len);
}

uint32_t tp_fragment(const struct tp_frame *whole, uint32_t mtu, struct tp_frame *out, uint32_t max)
{
    uint32_t n = 0, left, piece, off, id = next_id++;
    struct colo_packet p;
    bool v6;

    colo_packet_parse(&p, whole->b, whole->len);
    v6 = p.key.ethertype == 0x86dd;
    for (off = 0; p.l4 + off < p.end; off += piece, n++) {
        struct tp_frame *f = out + n;

        assert_true(n < max);
        left = p.end - p.l4 - off;
        piece = left < mtu ? left : mtu;
        f->len = 0;
        put(f, whole->b, p.l4);
        if (v6) { /* only behind a plain header */
            assert_int_equal(p.l4, p.l3 + 40);
            put8(f, p.key.proto);
            put8(f, 0);
            put16(f, (uint16_t)(off | (piece < left)));
            put32(f, id);
            f->b[p.l3 + 6] = 44;
            colo_put16(f->b + p.l3 + 4, (uint16_t)(8 + piece));
        } else {
            colo_put16(f->b + p.l3 + 2, (uint16_t)(p.l4 - p.l3 + piece));
            colo_put16(f->b + p.l3 + 4, (uint16_t)id);
            colo_put16(f->b + p.l3 + 6, (uint16_t)(off / 8 | (piece < left ? 0x2000 : 0)));
            colo_put16(f->b + p.l3 + 10, 0);
            colo_put16(f->b + p.l3 + 10, fold(sum(0, f->b + p.l3, p.l4 - p.l3)));
        }
        put(f, whole->b + p.l4 + off, piece);
    }
    return n;
}

/* ---- an engine whose output is kept ---- */

static void keep(void *ctx, const uint8_t *frame, uint32_t len)
{
    struct tp_out *o = ctx;

    if (o->n == o->room) {
        o->room = o->room ? o->room * 2 : 64;
        o->frame = realloc(o->frame, o->room * sizeof(o->frame[0]));
        assert_non_null(o->frame);
    }
    o->frame[o->n].len = len;
    o->frame[o->n].b = malloc(len ? len : 1);
    assert_non_null(o->frame[o->n].b);
    memcpy(o->frame[o->n].b, frame, len);
    o->n++;
}

void tp_open(struct tp_out *o, const struct colo_compare_config *cfg)
{
    struct colo_compare_config mine = {.mode = COLO_MODE_COMPARE};
    struct colo_err err = {0};

    memset(o, 0, sizeof(*o));
    if (cfg)
        mine = *cfg;
    mine.seed[0] = 1;
    mine.seed[1] = 2;
    mine.release = keep;
    mine.ctx = o;
    tl_ok(colo_compare_new(&mine, &o->c, &err), &err);
    o->now = 1000 * COLO_MS;
}

void tp_close(struct tp_out *o)
{
    tp_clear(o);
    free(o->frame);
    colo_compare_free(o->c);
    memset(o, 0, sizeof(*o));
}

/* Frames are handed in from memory of exactly their size, so that reading on is seen. */
static uint8_t *exact(const struct tp_frame *f)
{
    uint8_t *b = malloc(f->len ? f->len : 1);

    assert_non_null(b);
    memcpy(b, f->b, f->len);
    return b;
}

int tp_p(struct tp_out *o, const struct tp_frame *f)
{
    uint8_t *b = exact(f);
    int rc = colo_compare_primary(o->c, b, f->len, o->now);

    free(b);
    return rc;
}

void tp_s(struct tp_out *o, const struct tp_frame *f)
{
    uint8_t *b = exact(f);

    colo_compare_secondary(o->c, b, f->len, o->now);
    free(b);
}

void tp_client(struct tp_out *o, const struct tp_frame *f)
{
    uint8_t *b = exact(f);

    colo_compare_client(o->c, b, f->len, o->now);
    free(b);
}

void tp_pass_time(struct tp_out *o, uint32_t ms)
{
    o->now += ms * COLO_MS;
    if (colo_compare_deadline(o->c) <= o->now)
        colo_compare_advance(o->c, o->now);
}

void tp_checkpoint(struct tp_out *o)
{
    colo_compare_checkpoint(o->c, o->now);
}

void tp_clear(struct tp_out *o)
{
    for (uint32_t i = 0; i < o->n; i++)
        free(o->frame[i].b);
    o->n = 0;
}

const char *tp_asked(struct tp_out *o)
{
    struct colo_divergence why;

    return colo_compare_take_request(o->c, &why) ? colo_why_name(why.why) : "";
}
