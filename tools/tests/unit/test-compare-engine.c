/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The compare engine as a whole: caps, floods, modes, malformed frames, what it reports, and a replay
 * of captures.
 */
#include "testlib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "testpackets.h"

static struct tp_frame f, g, piece[16];
static const struct tp_conn conn = {.src = 1, .dst = 2, .sport = 80, .dport = 4000};

/* ---- malformed frames ---- */

/* One of each kind. */
static uint32_t samples(struct tp_frame *out)
{
    struct tp_tcp t = {.flags = COLO_TCP_SYN | COLO_TCP_ACK,
                       .mss = 1460,
                       .wscale = 8,
                       .sack_ok = true,
                       .ts = true,
                       .data = "abc",
                       .len = 3};
    struct tp_conn c = conn;
    uint32_t n = 0;

    for (int i = 0; i < 4; i++) {
        c.v6 = i & 1;
        c.vlan[0] = i & 2 ? 5 : 0;
        c.vlan[1] = i & 2 ? 6 : 0;
        c.ipv4_options = c.v6_extensions = i & 2;
        tp_tcp(&out[n++], &c, &t);
        tp_udp(&out[n++], &c, "0123456789abcdefghi", 19);
        tp_icmp_echo(&out[n++], &c, 1, 2, "abcd", 4);
        if (!(i & 2)) {
            tp_udp(&f, &c, "0123456789abcdefghi", 19);
            n += tp_fragment(&f, 16, out + n, 2);
        }
    }
    tp_arp(&out[n++], 1, 2, false);
    tp_other(&out[n++], 0x1234, "abc", 3);
    return n;
}

static void test_every_truncation(void **state)
{
    static struct tp_frame all[24];
    uint32_t n = samples(all), frames = 0;
    uint64_t seed = 1;

    (void)state;
    for (int change = 0; change < 6; change++) {
        struct tp_out o;

        tp_open(&o, NULL);
        frames = 0;
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t len = 0; len <= all[i].len; len++) {
                memcpy(g.b, all[i].b, len);
                g.len = len;
                if (change && len)
                    g.b[tl_below(&seed, len)] ^= (uint8_t)(1 + tl_below(&seed, 255));
                tl_eq(tp_p(&o, &g), 0);
                tp_s(&o, &g);
                tp_client(&o, &g);
                frames++;
            }
        }
        /* All go out once each, at a match or at the checkpoint. */
        assert_true(o.n > frames / 2);
        tp_checkpoint(&o);
        tl_eq(o.n, frames);
        tp_close(&o);
    }
}

/* ---- floods and caps ---- */

static struct colo_compare_stats stats(struct tp_out *o)
{
    struct colo_compare_stats st;

    colo_compare_get_stats(o->c, &st);
    return st;
}

static void test_a_flood_of_syns(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_COMPARE, .max_flows = 100};
    struct tp_tcp t = {.flags = COLO_TCP_SYN | COLO_TCP_ACK, .mss = 1460};
    struct tp_conn c = conn;
    struct tp_out o;
    uint32_t asked = 0;

    (void)state;
    tp_open(&o, &cfg);
    for (uint32_t i = 0; i < 1000; i++) {
        c.dport = (uint16_t)(10000 + i);
        t.seq = i;
        tp_tcp(&f, &c, &t);
        tl_eq(tp_p(&o, &f), 0);
        t.seq = i + 12345; /* another number: it cannot be forgotten before a checkpoint */
        tp_tcp(&f, &c, &t);
        tp_s(&o, &f);
        assert_true(stats(&o).flows <= 100);
        if (!strcmp(tp_asked(&o), "flows")) {
            tl_eq(o.n, i); /* what could be compared is out; this one is not */
            asked++;
            tp_checkpoint(&o);
        }
    }
    tl_eq(asked, 9); /* all but the newest are forgettable after a checkpoint */
    tp_close(&o);
}

static void test_idle_flows_make_room(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_COMPARE, .max_flows = 100};
    struct tp_conn c = conn;
    struct tp_out o;

    (void)state;
    tp_open(&o, &cfg);
    /* One that waits stays whatever happens. */
    tp_udp(&f, &conn, "waits", 5);
    tl_eq(tp_p(&o, &f), 0);
    for (uint32_t i = 0; i < 5000; i++) {
        c.dport = (uint16_t)(10000 + i);
        tp_udp(&g, &c, "abc", 3);
        tl_eq(tp_p(&o, &g), 0);
        tp_s(&o, &g);
    }
    tl_eq(o.n, 5000);
    tl_eq(stats(&o).evicted, 4901);
    tp_s(&o, &f);
    tl_eq(o.n, 5001);
    tl_str_eq(tp_asked(&o), "");
    tp_close(&o);
}

/* Were it forgotten, what comes next would overtake what is held. */
static void test_a_flow_that_differs_is_not_forgotten(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_COMPARE, .max_flows = 10};
    struct tp_tcp t = {.flags = COLO_TCP_ACK, .data = "abcd", .len = 4};
    struct tp_conn c = conn;
    struct tp_out o;

    (void)state;
    tp_open(&o, &cfg);
    tp_tcp(&f, &conn, &t);
    tp_s(&o, &f);
    tl_eq(tp_p(&o, &f), 0);
    t.data = "abXd";
    tp_tcp(&f, &conn, &t);
    tl_eq(tp_p(&o, &f), 0);
    tl_eq(o.n, 1);
    tl_str_eq(tp_asked(&o), "payload");
    for (uint32_t i = 0; i < 50; i++) {
        c.dport = (uint16_t)(10000 + i);
        tp_udp(&g, &c, "abc", 3);
        tl_eq(tp_p(&o, &g), 0);
        tp_s(&o, &g);
    }
    tl_eq(o.n, 51);
    t.seq = 4;
    tp_tcp(&f, &conn, &t);
    tl_eq(tp_p(&o, &f), 0);
    tp_s(&o, &f);
    tl_eq(o.n, 51);
    tp_checkpoint(&o);
    tl_eq(o.n, 53);
    tp_close(&o);
}

static void test_a_full_queue_asks_and_refuses(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_COMPARE, .max_packets = 40};
    struct tp_out o;
    uint32_t taken = 0;

    (void)state;
    tp_open(&o, &cfg);
    for (uint32_t i = 0; i < 30; i++) {
        tp_udp(&f, &conn, &i, 4);
        tl_eq(tp_p(&o, &f), 0);
    }
    tl_str_eq(tp_asked(&o), "");
    tl_eq(tp_p(&o, &f), 0);
    tl_str_eq(tp_asked(&o), "queue");
    for (taken = 31; tp_p(&o, &f) == 0; taken++)
        assert_true(taken < 40);
    tl_eq(taken, 40);
    tl_eq(stats(&o).refused, 1);
    tl_str_eq(tp_asked(&o), "");
    tp_checkpoint(&o);
    tl_eq(o.n, 40);
    tl_eq(tp_p(&o, &f), 0);
    /* The secondary's queue has its cap, too. */
    for (uint32_t i = 0; i < 50; i++) {
        struct tp_conn c = conn;

        c.dport = 1;
        tp_udp(&g, &c, &i, 4);
        tp_s(&o, &g);
    }
    tl_str_eq(tp_asked(&o), "queue");
    tp_close(&o);
}

static void test_a_secondary_far_ahead(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_COMPARE, .max_stream_bytes = 100000};
    struct tp_tcp t = {.flags = COLO_TCP_ACK, .data = f.b, .len = 1000};
    static uint8_t data[1000];
    struct tp_out o;
    uint32_t i;

    (void)state;
    tp_open(&o, &cfg);
    t.data = data;
    for (i = 0; i < 200 && !*tp_asked(&o); i++) {
        tp_tcp(&f, &conn, &t);
        tp_s(&o, &f);
        t.seq += 1000;
        assert_true(stats(&o).stream_bytes <= 100000);
    }
    assert_true(i > 30 && i < 100);
    t.seq = 0;
    tp_tcp(&f, &conn, &t);
    tl_eq(tp_p(&o, &f), 0);
    tl_eq(o.n, 0); /* the flow waits for the checkpoint */
    tp_checkpoint(&o);
    tl_eq(o.n, 1);
    tp_close(&o);
    /* With memory enough it still ends somewhere. */
    tp_open(&o, NULL);
    for (i = 0; i < 20000 && !*tp_asked(&o); i++) {
        t.seq += 1000;
        tp_tcp(&f, &conn, &t);
        tp_s(&o, &f);
    }
    assert_true(i > 8000 && i < 8500);
    tp_close(&o);
}

/* ---- modes ---- */

static void test_modes(void **state)
{
    const struct colo_compare_config cfg = {.mode = COLO_MODE_PASS};
    struct tp_out o;

    (void)state;
    tp_open(&o, &cfg);
    tp_udp(&f, &conn, "abc", 3);
    tl_eq(tp_p(&o, &f), 0);
    tl_eq(o.n, 1);
    colo_compare_set_mode(o.c, COLO_MODE_BUFFER, o.now);
    tl_eq(tp_p(&o, &f), 0);
    tp_s(&o, &f);
    tp_pass_time(&o, 10000);
    tl_eq(o.n, 1);
    tl_str_eq(tp_asked(&o), "");
    tp_checkpoint(&o);
    tl_eq(o.n, 2);
    colo_compare_set_mode(o.c, COLO_MODE_EVENT, o.now);
    tl_str_eq(tp_asked(&o), "");
    tl_eq(tp_p(&o, &f), 0);
    tl_eq(tp_p(&o, &f), 0);
    tl_str_eq(tp_asked(&o), "event");
    tl_str_eq(tp_asked(&o), "");
    tp_checkpoint(&o);
    tl_eq(o.n, 4);
    tl_eq(tp_fragment(&f, 8, piece, 16), 2);
    tl_eq(tp_p(&o, &piece[0]), 0);
    tl_str_eq(tp_asked(&o), "event");
    colo_compare_set_mode(o.c, COLO_MODE_COMPARE, o.now);
    tl_str_eq(tp_asked(&o), "start");
    tl_eq(tp_p(&o, &f), 0);
    tp_s(&o, &f);
    tl_eq(o.n, 4);
    tp_checkpoint(&o);
    tl_eq(o.n, 6);
    tl_eq(tp_p(&o, &f), 0);
    tp_s(&o, &f);
    tl_eq(o.n, 7);
    /* With things held, fragments half and whole among them, to all the others. */
    for (int to = COLO_MODE_PASS; to <= COLO_MODE_EVENT; to++) {
        colo_compare_set_mode(o.c, COLO_MODE_COMPARE, o.now);
        tp_checkpoint(&o);
        tp_clear(&o);
        tl_eq(tp_p(&o, &f), 0);
        tl_eq(tp_p(&o, &piece[0]), 0);
        tl_eq(tp_p(&o, &piece[1]), 0);
        tl_eq(tp_p(&o, &piece[1]), 0);
        tl_eq(o.n, 0);
        colo_compare_set_mode(o.c, (enum colo_mode)to, o.now);
        tl_eq(o.n, to == COLO_MODE_PASS ? 4 : 0);
        tp_checkpoint(&o);
        tl_eq(o.n, 4);
        tl_eq(stats(&o).held_packets, 0);
    }
    tp_close(&o);
    for (int m = COLO_MODE_PASS; m <= COLO_MODE_EVENT; m++)
        assert_string_not_equal(colo_mode_name((enum colo_mode)m), "?");
}

static void test_closed_with_things_held(void **state)
{
    struct tp_out o;

    (void)state;
    tp_open(&o, NULL);
    tp_udp(&f, &conn, "0123456789", 10);
    tl_eq(tp_fragment(&f, 8, piece, 16), 3);
    for (int i = 0; i < 3; i++)
        tl_eq(tp_p(&o, &piece[i]), 0);
    tl_eq(tp_p(&o, &f), 0);
    tl_eq(tp_fragment(&f, 8, piece, 16), 3);
    tl_eq(tp_p(&o, &piece[1]), 0);
    tp_other(&f, 0x1234, "abc", 3);
    tp_s(&o, &f);
    tp_close(&o);
    colo_compare_free(NULL);
}

/* ---- what is reported ---- */

static void test_reports(void **state)
{
    struct colo_divergence why;
    struct colo_compare_stats st;
    struct tp_conn c = conn;
    struct tp_tcp t = {.flags = COLO_TCP_ACK, .seq = 100, .data = "hello", .len = 5};
    struct tp_out o;

    (void)state;
    c.v6 = true;
    c.vlan[0] = 7;
    tp_open(&o, NULL);
    tp_tcp(&f, &c, &t);
    tl_eq(tp_p(&o, &f), 0);
    t.data = "heLlo";
    tp_tcp(&f, &c, &t);
    o.now += 5 * COLO_MS;
    tp_s(&o, &f);
    assert_true(colo_compare_take_request(o.c, &why));
    assert_false(colo_compare_take_request(o.c, &why));
    tl_eq(why.why, COLO_WHY_PAYLOAD);
    tl_str_eq(why.flow, "tcp [2001:db8::1]:80 > [2001:db8::2]:4000 vlan 7");
    tl_str_eq(why.text,
              "data differs at position 2 of the stream, primary 6c6c6f, secondary 4c6c6f");
    tp_checkpoint(&o);
    tp_icmp_echo(&f, &conn, 1, 1, "abc", 3);
    tl_eq(tp_p(&o, &f), 0);
    tp_icmp_echo(&f, &conn, 1, 1, "abd", 3);
    tp_s(&o, &f);
    assert_true(colo_compare_take_request(o.c, &why));
    tl_str_eq(why.flow, "icmp type 0 10.0.0.1 > 10.0.0.2");
    tl_has(why.text, "packet differs at byte 3");
    tp_pass_time(&o, 1);
    tp_checkpoint(&o);
    tp_arp(&f, 1, 2, false);
    tl_eq(tp_p(&o, &f), 0);
    tp_pass_time(&o, 201);
    assert_true(colo_compare_take_request(o.c, &why));
    tl_str_eq(why.flow, "arp request 10.0.0.1 > 10.0.0.2");
    tl_has(why.text, "waited in vain, primary ffffffffffff");
    colo_compare_get_stats(o.c, &st);
    tl_eq(st.primary_packets, 3);
    tl_eq(st.secondary_packets, 2);
    tl_eq(st.released_packets, 2);
    tl_eq(st.why[COLO_WHY_PAYLOAD], 2);
    tl_eq(st.why[COLO_WHY_SECONDARY_SILENT], 1);
    tl_eq(st.requests, 3);
    tl_eq(st.latency[13], 1); /* 5 ms */
    tl_eq(st.latency[10], 1); /* 1 ms */
    tl_eq(st.held_packets, 1);
    tp_close(&o);
    for (int w = 0; w < COLO_WHY_COUNT; w++)
        assert_string_not_equal(colo_why_name((enum colo_why)w), "?");
}

/* ---- captures ---- */

/* The classic format: a header of 24 bytes, then 16 before each frame. */
static void pcap_write(FILE *to, const struct tp_frame *frames, uint32_t n)
{
    const uint32_t head[6] = {0xa1b2c3d4, 4u << 16 | 2, 0, 0, COLO_FRAME_MAX, 1};

    tl_eq(fwrite(head, sizeof(head), 1, to), 1);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t r[4] = {i, 0, frames[i].len, frames[i].len};

        tl_eq(fwrite(r, sizeof(r), 1, to), 1);
        tl_eq(fwrite(frames[i].b, frames[i].len, 1, to), 1);
    }
}

static bool pcap_next(FILE *from, struct tp_frame *out)
{
    uint32_t r[4];

    if (ftell(from) == 0)
        tl_eq(fseek(from, 24, SEEK_SET), 0);
    if (fread(r, sizeof(r), 1, from) != 1)
        return false;
    assert_true(r[2] <= sizeof(out->b));
    out->len = r[2];
    return fread(out->b, r[2], 1, from) == 1;
}

static void test_replay_of_captures(void **state)
{
    static struct tp_frame session[40], again;
    FILE *p = tmpfile(), *s = tmpfile();
    struct tp_out o;
    uint32_t n = 0;

    (void)state;
    assert_non_null(p);
    assert_non_null(s);
    for (uint32_t i = 0; i < 20; i++) {
        struct tp_tcp t = {
            .flags = COLO_TCP_ACK, .seq = i * 5, .ack = i, .data = "12345", .len = 5};

        tp_tcp(&session[n++], &conn, &t);
        tp_udp(&session[n++], &conn, &i, sizeof(i));
    }
    pcap_write(p, session, n);
    pcap_write(s, session, n);
    rewind(p);
    rewind(s);
    tp_open(&o, NULL);
    while (pcap_next(p, &again))
        tl_eq(tp_p(&o, &again), 0);
    tl_eq(o.n, 0);
    while (pcap_next(s, &again))
        tp_s(&o, &again);
    tl_eq(o.n, n);
    tp_pass_time(&o, 5000);
    tl_str_eq(tp_asked(&o), "");
    tp_close(&o);
    fclose(p);
    fclose(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_a_flood_of_syns),
        cmocka_unit_test(test_idle_flows_make_room),
        cmocka_unit_test(test_a_flow_that_differs_is_not_forgotten),
        cmocka_unit_test(test_a_full_queue_asks_and_refuses),
        cmocka_unit_test(test_a_secondary_far_ahead),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_closed_with_things_held),
        cmocka_unit_test(test_reports),
        cmocka_unit_test(test_replay_of_captures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
