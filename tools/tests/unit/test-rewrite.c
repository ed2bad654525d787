/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rewriter, from both ends: a client that has only seen the primary's numbers, and the guest
 * of the secondary, which has only used its own.
 */
#include "testlib.h"

#include <string.h>

#include "colo_rewrite.h"
#include "testpackets.h"

#define C_ISN 5000u

/* One connection, seen by all. */
struct world {
    struct colo_rewrite *r;
    struct tp_conn guest, client; /* as the source of a frame */
    uint32_t p_isn, s_isn;
    uint32_t p_ts, s_ts; /* the copies' clocks at the SYN */
    bool guest_opens;
    colo_time now;
    struct tp_frame f;
    struct colo_packet p; /* of f, after the rewriter had it */
};

static struct colo_err err;

static void begin(struct world *w, uint32_t p_isn, uint32_t s_isn, bool v6, bool guest_opens)
{
    const struct colo_rewrite_config cfg = {.max_flows = 100, .seed = {3, 4}};

    memset(w, 0, sizeof(*w));
    w->guest = (struct tp_conn){.src = 1, .dst = 2, .sport = 80, .dport = 4000, .v6 = v6};
    w->client = (struct tp_conn){.src = 2, .dst = 1, .sport = 4000, .dport = 80, .v6 = v6};
    w->p_isn = p_isn;
    w->s_isn = s_isn;
    w->p_ts = 0xfffffff0;
    w->s_ts = 77;
    w->guest_opens = guest_opens;
    w->now = 1000 * COLO_MS;
    tl_ok(colo_rewrite_new(&cfg, &w->r, &err), &err);
}

static void parse(struct world *w)
{
    colo_packet_parse(&w->p, w->f.b, w->f.len);
    tl_eq(w->p.key.kind, COLO_PKT_TCP);
    assert_true(tp_checksums_right(w->f.b, w->f.len));
}

/* The secondary's guest says something at this position, at its clock + ticks. */
static void guest_says(struct world *w, uint8_t flags, uint32_t pos, uint32_t ack, uint32_t ticks,
                       const char *data, bool out)
{
    struct tp_tcp t = {.flags = flags,
                       .seq = w->s_isn + pos,
                       .ack = C_ISN + ack,
                       .ts = true,
                       .tsval = w->s_ts + ticks,
                       .data = data,
                       .len = (uint32_t)strlen(data)};

    tp_tcp(&w->f, &w->guest, &t);
    if (out)
        colo_rewrite_from_guest(w->r, w->f.b, w->f.len, w->now);
    else
        colo_rewrite_observe(w->r, w->f.b, w->f.len, w->now);
    parse(w);
}

/* The client acknowledges position ack of the primary's, echoing the primary's clock + ticks. */
static void client_says(struct world *w, uint8_t flags, uint32_t pos, uint32_t ack, uint32_t ticks,
                        bool sack)
{
    struct tp_tcp t = {.flags = flags,
                       .seq = C_ISN + pos,
                       .ack = w->p_isn + ack,
                       .ts = true,
                       .tsval = 100 + pos,
                       .tsecr = w->p_ts + ticks,
                       .sack_blocks = sack ? 2 : 0,
                       .sack = {{w->p_isn + ack + 10, w->p_isn + ack + 20},
                                {w->p_isn + ack + 30, w->p_isn + ack + 40}}};

    tp_tcp(&w->f, &w->client, &t);
    colo_rewrite_to_guest(w->r, w->f.b, w->f.len, w->now);
    parse(w);
}

#define SYN COLO_TCP_SYN
#define ACK COLO_TCP_ACK
#define FIN COLO_TCP_FIN
#define RST COLO_TCP_RST

static void handshake(struct world *w)
{
    if (w->guest_opens) {
        guest_says(w, SYN, 0, 0, 0, "", false);
        client_says(w, SYN | ACK, 0, 1, 0, false);
        tl_eq(w->p.ack, w->s_isn + 1);
        tl_eq(w->p.tsecr, w->s_ts);
        guest_says(w, ACK, 1, 1, 1, "", false);
    } else {
        guest_says(w, SYN | ACK, 0, 1, 0, "", false);
        client_says(w, ACK, 1, 1, 0, false);
        tl_eq(w->p.ack, w->s_isn + 1);
        tl_eq(w->p.tsecr, w->s_ts);
    }
    tl_eq(w->p.seq, w->guest_opens ? w->s_isn + 1 : C_ISN + 1);
}

static const uint32_t isns[][2] = {{1000, 900000},  {0xfffffff0, 5}, {5, 0xfffffff0},
                                   {0x80000000, 0}, {0, 0xffffffff}, {7, 7}};

static void test_a_connection_through_a_takeover(void **state)
{
    struct world w;

    (void)state;
    for (unsigned int k = 0; k < 4 * sizeof(isns) / sizeof(isns[0]); k++) {
        begin(&w, isns[k / 4][0], isns[k / 4][1], k & 1, k & 2);
        handshake(&w);
        tl_eq(colo_rewrite_active(w.r, w.now), 1); /* its clock, if not its numbers */
        guest_says(&w, ACK, 1, 1, 5, "hello", false);
        tl_eq(w.p.seq, w.s_isn + 1); /* observed, not changed */
        client_says(&w, ACK, 1, 3, 5, true);
        tl_eq(w.p.ack, w.s_isn + 3);
        tl_eq(w.p.tsecr, w.s_ts + 5);
        tl_eq(colo_be32(w.f.b + w.p.sack), w.s_isn + 13);
        tl_eq(colo_be32(w.f.b + w.p.sack + 12), w.s_isn + 43);
        /* The primary is gone; the rest comes from the secondary. */
        guest_says(&w, ACK, 3, 1, 9, "llo", true);
        tl_eq(w.p.seq, w.p_isn + 3);
        tl_eq(w.p.ack, C_ISN + 1);
        tl_eq(w.p.tsval, w.p_ts + 9);
        client_says(&w, ACK, 1, 6, 9, false);
        tl_eq(w.p.ack, w.s_isn + 6);
        tl_eq(w.p.tsecr, w.s_ts + 9);
        guest_says(&w, FIN | ACK, 6, 1, 12, "", true);
        tl_eq(w.p.seq, w.p_isn + 6);
        client_says(&w, FIN | ACK, 1, 7, 12, false);
        guest_says(&w, ACK, 7, 2, 13, "", true);
        tl_eq(w.p.seq, w.p_isn + 7);
        tl_eq(colo_rewrite_active(w.r, w.now + 1000 * COLO_MS), 1);
        tl_eq(colo_rewrite_active(w.r, w.now + 61000 * COLO_MS), 0);
        colo_rewrite_free(w.r);
    }
}

/* Options need not be aligned, which the checksum has to bear with. */
static void test_options_at_odd_addresses(void **state)
{
    struct tp_tcp t = {.flags = ACK, .ack = 1001 + 5, .ts = true, .tsval = 9};
    struct world w;
    uint8_t *o;

    (void)state;
    begin(&w, 1000, 0xfeedbeef, false, false);
    handshake(&w);
    t.tsecr = w.p_ts;
    tp_tcp(&w.f, &w.client, &t);
    o = w.f.b + 14 + 20 + 20; /* NOP, NOP, timestamps */
    memmove(o + 1, o + 2, 10);
    o[11] = 1;
    tp_fix_tcp_checksum(&w.f);
    parse(&w);
    assert_true(w.p.ts & 1);
    assert_true(colo_rewrite_to_guest(w.r, w.f.b, w.f.len, w.now));
    parse(&w);
    tl_eq(w.p.tsecr, w.s_ts);
    tl_eq(w.p.ack, w.s_isn + 6);
    colo_rewrite_free(w.r);
}

/* A client never gets a timestamp older than one it has echoed. */
static void test_clients_timestamps_never_go_back(void **state)
{
    struct world w;

    (void)state;
    for (int born = 0; born < 2; born++) {
        begin(&w, 1000, 2000, false, false);
        if (born)
            handshake(&w);
        else
            w.s_isn = w.p_isn;
        w.s_ts = born ? w.s_ts : w.p_ts - 3; /* a clock that is behind */
        guest_says(&w, ACK, 1, 1, 100, "x", false);
        client_says(&w, ACK, 1, 1, 500, false);
        tl_eq(w.p.tsecr, w.s_ts + 100); /* the latest that the guest has sent */
        guest_says(&w, ACK, 1, 1, 200, "x", true);
        assert_true((int32_t)(w.p.tsval - (w.p_ts + 500)) >= 0);
        tl_eq(w.p.seq, w.p_isn + 1);
        guest_says(&w, ACK, 2, 1, 300, "y", true);
        assert_true((int32_t)(w.p.tsval - (w.p_ts + 600)) >= 0);
        assert_int_equal(colo_rewrite_active(w.r, w.now), 1);
        colo_rewrite_free(w.r);
    }
}

static void test_old_connections_are_left_alone(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1000, 1000, true, false);
    w.s_ts = w.p_ts;
    guest_says(&w, ACK, 50, 1, 10, "x", false);
    client_says(&w, ACK, 1, 51, 10, true);
    tl_eq(w.p.ack, w.p_isn + 51);
    guest_says(&w, ACK, 51, 1, 11, "y", true);
    tl_eq(w.p.seq, w.s_isn + 51);
    tl_eq(w.p.tsval, w.s_ts + 11);
    tl_eq(colo_rewrite_active(w.r, w.now), 0);
    colo_rewrite_free(w.r);
}

static void test_born_after_the_takeover(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1000, 1000, false, true);
    w.s_ts = w.p_ts;
    guest_says(&w, SYN, 0, 0, 0, "", true);
    guest_says(&w, SYN, 0, 0, 1000, "", true);
    tl_eq(colo_rewrite_active(w.r, w.now), 0);
    client_says(&w, SYN | ACK, 0, 1, 0, false);
    tl_eq(w.p.ack, w.s_isn + 1);
    tl_eq(w.p.tsecr, w.s_ts);
    guest_says(&w, ACK, 1, 1, 1001, "", true);
    tl_eq(w.p.tsval, w.s_ts + 1001);
    tl_eq(colo_rewrite_active(w.r, w.now), 0);
    colo_rewrite_free(w.r);
}

static void test_told_by_the_primary(void **state)
{
    struct tp_tcp t = {.flags = SYN | ACK, .ack = C_ISN + 1, .ts = true};
    struct world w;

    (void)state;
    for (int first = 0; first < 2; first++) {
        begin(&w, 1000, 900000, false, false);
        t.seq = w.p_isn;
        t.tsval = w.p_ts;
        if (!first)
            guest_says(&w, SYN | ACK, 0, 1, 0, "", false);
        tp_tcp(&w.f, &w.guest, &t);
        colo_rewrite_primary_syn(w.r, w.f.b, w.f.len, w.now);
        if (first)
            guest_says(&w, SYN | ACK, 0, 1, 0, "", false);
        /* The client's first segment is lost; the next acknowledges data as well. */
        client_says(&w, ACK, 1, 6, 2, false);
        tl_eq(w.p.ack, w.s_isn + 6);
        guest_says(&w, RST, 9, 0, 3, "", true);
        tl_eq(w.p.seq, w.p_isn + 9);
        tl_eq(colo_rewrite_active(w.r, w.now + 61000 * COLO_MS), 0);
        colo_rewrite_free(w.r);
    }
}

static void test_a_checkpoint_makes_all_equal(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1000, 900000, false, false);
    handshake(&w);
    colo_rewrite_checkpoint(w.r);
    w.s_isn = w.p_isn;
    w.s_ts = w.p_ts;
    client_says(&w, ACK, 1, 3, 5, true);
    tl_eq(w.p.ack, w.s_isn + 3);
    guest_says(&w, ACK, 3, 1, 9, "x", true);
    tl_eq(w.p.seq, w.s_isn + 3);
    tl_eq(colo_rewrite_active(w.r, w.now), 0);
    /* The same ports again, with other numbers again. */
    w.s_isn = 4444;
    w.s_ts = 1;
    handshake(&w);
    tl_eq(colo_rewrite_active(w.r, w.now), 1);
    colo_rewrite_free(w.r);
}

static void test_a_flood_is_bounded(void **state)
{
    struct colo_rewrite_stats st;
    struct world w;

    (void)state;
    begin(&w, 1, 2, false, false);
    for (uint32_t i = 0; i < 1000; i++) {
        w.guest.dport = (uint16_t)(10000 + i);
        w.s_isn = i * 12345;
        guest_says(&w, SYN | ACK, 0, 1, 0, "", false);
    }
    colo_rewrite_get_stats(w.r, &st);
    tl_eq(st.flows, 100);
    tl_eq(st.not_tracked, 900);
    tl_eq(colo_rewrite_active(w.r, w.now + 61000 * COLO_MS), 0);
    colo_rewrite_free(w.r);
}

/* Cut anywhere, with any one byte changed: nothing is read or written outside. */
static void test_malformed_frames(void **state)
{
    static struct tp_frame g;
    uint64_t seed = 5;
    struct world w;

    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        begin(&w, 1000, 900000, v6, false);
        handshake(&w);
        client_says(&w, ACK, 1, 3, 5, true);
        g = w.f;
        for (uint32_t n = 0; n < 20000; n++) {
            uint32_t len = (uint32_t)tl_below(&seed, g.len + 1);
            uint8_t *b = test_malloc(len + 1);

            memcpy(b, g.b, len);
            if (len)
                b[tl_below(&seed, len)] ^= (uint8_t)(1 << tl_below(&seed, 8));
            if (n & 1)
                colo_rewrite_to_guest(w.r, b, len, w.now);
            else
                colo_rewrite_from_guest(w.r, b, len, w.now);
            test_free(b);
        }
        colo_rewrite_free(w.r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_through_a_takeover),
        cmocka_unit_test(test_options_at_odd_addresses),
        cmocka_unit_test(test_clients_timestamps_never_go_back),
        cmocka_unit_test(test_old_connections_are_left_alone),
        cmocka_unit_test(test_born_after_the_takeover),
        cmocka_unit_test(test_told_by_the_primary),
        cmocka_unit_test(test_a_checkpoint_makes_all_equal),
        cmocka_unit_test(test_a_flood_is_bounded),
        cmocka_unit_test(test_malformed_frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
