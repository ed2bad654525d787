/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Both proxies of a guest, with sockets for taps and a real link between them: what goes where, and
 * what a checkpoint means for frames that are on their way.
 */
#include "testlib.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy.h"
#include "testpackets.h"

static struct colo_err err;
static struct tp_frame f;

/* One side: its proxy and the far ends of its taps. */
struct side {
    struct proxy p;
    int guest, bridge;
};
static struct side P, S;

static const struct tp_conn out = {.src = 1, .dst = 2, .sport = 53, .dport = 4000};
static const struct tp_conn in = {.src = 2, .dst = 1, .sport = 4000, .dport = 53};

static void tap(int *ours, int *theirs)
{
    static const int room = 4 << 20;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    *ours = fds[0];
    *theirs = fds[1];
}

static void open_side(struct side *s, bool secondary, uint32_t max_packets)
{
    const struct colo_compare_config limits = {.seed = {1, 2}, .max_packets = max_packets};

    memset(s, 0, sizeof(*s));
    s->p.secondary = secondary;
    s->p.mode = COLO_MODE_COMPARE;
    s->p.phase = PROXY_PHASE_PASS;
    s->p.nr_nics = 1;
    s->p.now = colo_now();
    tap(&s->p.nic[0].guest_fd, &s->guest);
    tap(&s->p.nic[0].port_fd, &s->bridge);
    tl_ok(proxy_nic_start(&s->p, &s->p.nic[0], &limits, &err), &err);
}

static void close_side(struct side *s)
{
    proxy_nic_fini(&s->p.nic[0]);
    proxy_link_free(s->p.link);
    close(s->guest);
    close(s->bridge);
}

static void link_up(void)
{
    struct proxy_link_config c = {.secondary = false};
    struct proxy_link_event ev;
    int listener, client, server;
    bool up[2] = {false, false};
    uint16_t port;

    tl_ok(proxy_listen("127.0.0.1", NULL, &listener, &port, &err), &err);
    tl_ok(proxy_connect("127.0.0.1", port, NULL, &client, &err), &err);
    poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 5000);
    server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listener);
    tl_ok(proxy_link_new(client, &c, &P.p.link, &err), &err);
    c.secondary = true;
    tl_ok(proxy_link_new(server, &c, &S.p.link, &err), &err);
    while (!up[0] || !up[1]) {
        for (int i = 0; i < 2; i++) {
            struct proxy_link *l = i ? S.p.link : P.p.link;

            if (!up[i])
                up[i] = proxy_link_next(l, &ev, &err) > 0;
            tl_ok(proxy_link_flush(l, &err), &err);
        }
        poll(NULL, 0, 1);
    }
}

static void begin(uint32_t max_packets)
{
    open_side(&P, false, max_packets);
    open_side(&S, true, max_packets);
    link_up();
}

static void end(void)
{
    close_side(&P);
    close_side(&S);
}

/* One turn of a daemon's loop. */
static void turn(struct side *s)
{
    struct proxy *p = &s->p;
    struct proxy_nic *nic = &p->nic[0];

    p->now = colo_now();
    if (proxy_reads_guest(p, nic))
        tl_ok(proxy_from_guest(p, nic, &err), &err);
    if (proxy_reads_bridge(p, nic))
        tl_ok(proxy_from_bridge(p, nic, &err), &err);
    proxy_from_link(p);
    if (p->link)
        tl_ok(proxy_link_flush(p->link, &err), &err);
}

static bool arrived(const struct side *from, const struct side *to)
{
    return !from->p.link || !to->p.link || !proxy_reads_link(&to->p) ||
           proxy_link_sent(from->p.link) == proxy_link_read(to->p.link);
}

/* All that is on its way arrives, and so does what that brings about. */
static void settle(void)
{
    colo_time deadline = tl_soon();

    for (int quiet = 0; quiet < 8; quiet++) {
        turn(&P);
        turn(&S);
        if (arrived(&P, &S) && arrived(&S, &P))
            continue;
        assert_true(colo_now() < deadline);
        quiet = 0;
        poll(NULL, 0, 1);
    }
}

static void say(int fd, const struct tp_conn *c, const char *text)
{
    tp_udp(&f, c, text, (uint32_t)strlen(text));
    assert_true(write(fd, f.b, f.len) == (ssize_t)f.len);
}

/* The texts of the frames that have come out there, with blanks between them. */
static const char *heard(int fd)
{
    static char text[4096];
    static uint8_t frame[COLO_FRAME_MAX];
    struct colo_packet pk;
    ssize_t n;

    text[0] = '\0';
    while ((n = read(fd, frame, sizeof(frame))) > 0) {
        colo_packet_parse(&pk, frame, (uint32_t)n);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%.*s", text[0] ? " " : "",
                 (int)(pk.end - pk.l4 - 8), (const char *)frame + pk.l4 + 8);
    }
    return text;
}

static void checkpoint(uint64_t n)
{
    tl_ok(proxy_hold(&P.p, n, &err), &err);
    tl_ok(proxy_hold(&S.p, n, &err), &err);
    settle();
    tl_ok(proxy_checkpoint(&S.p, n, &err), &err);
    tl_ok(proxy_checkpoint(&P.p, n, &err), &err);
    settle();
}

static void test_before_the_lockstep_frames_go_by(void **state)
{
    (void)state;
    begin(0);
    say(P.guest, &out, "a");
    say(P.bridge, &in, "b");
    say(S.guest, &out, "no");
    settle();
    tl_str_eq(heard(P.bridge), "a");
    tl_str_eq(heard(P.guest), "b");
    tl_str_eq(heard(S.guest), "");
    tl_str_eq(heard(S.bridge), "");
    end();
}

static void test_equal_output_goes_out_once(void **state)
{
    (void)state;
    begin(0);
    checkpoint(1);
    say(P.bridge, &in, "question");
    settle();
    tl_str_eq(heard(P.guest), "question");
    tl_str_eq(heard(S.guest), "question");
    say(P.guest, &out, "answer");
    settle();
    tl_str_eq(heard(P.bridge), ""); /* nothing that the other has not said */
    say(S.guest, &out, "answer");
    settle();
    tl_str_eq(heard(P.bridge), "answer");
    say(S.guest, &out, "next"); /* the other one first */
    settle();
    tl_str_eq(heard(P.bridge), "");
    say(P.guest, &out, "next");
    settle();
    tl_str_eq(heard(P.bridge), "next");
    tl_str_eq(heard(S.bridge), "");
    end();
}

static void test_a_difference_asks_once_and_waits_for_the_checkpoint(void **state)
{
    struct colo_divergence why;

    (void)state;
    begin(0);
    checkpoint(1);
    say(P.guest, &out, "1");
    say(S.guest, &out, "2");
    say(P.guest, &out, "3");
    settle();
    tl_str_eq(heard(P.bridge), "");
    assert_true(colo_compare_take_request(P.p.nic[0].compare, &why));
    tl_eq(why.why, COLO_WHY_PAYLOAD);
    assert_false(colo_compare_take_request(P.p.nic[0].compare, &why));
    checkpoint(2);
    tl_str_eq(heard(P.bridge), "1 3");
    end();
}

/* What the copies sent before the checkpoint and nobody has read yet. */
static void test_a_checkpoint_takes_all_that_was_sent_before(void **state)
{
    (void)state;
    begin(0);
    checkpoint(1);
    tl_ok(proxy_hold(&P.p, 2, &err), &err);
    tl_ok(proxy_hold(&S.p, 2, &err), &err);
    settle();
    for (int i = 0; i < 200; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        say(P.guest, &out, text);
    }
    say(S.guest, &out, "stale");
    tl_ok(proxy_checkpoint(&S.p, 2, &err), &err);
    tl_ok(proxy_checkpoint(&P.p, 2, &err), &err);
    tl_has(heard(P.bridge), "0 1 2 3 4");
    settle();
    say(P.guest, &out, "new");
    say(S.guest, &out, "new");
    settle();
    tl_str_eq(heard(P.bridge), "new"); /* the stale one was not compared with it */
    tl_eq(S.p.nic[0].stale, 1);
    end();
}

/* The second copy runs, and speaks, before the primary's proxy has heard of the checkpoint. */
static void test_the_second_copy_is_faster_than_the_checkpoint(void **state)
{
    (void)state;
    begin(0);
    checkpoint(1);
    say(S.guest, &out, "old"); /* on its way when the checkpoint begins */
    turn(&S);
    tl_ok(proxy_hold(&P.p, 2, &err), &err);
    tl_ok(proxy_hold(&S.p, 2, &err), &err);
    tl_ok(proxy_checkpoint(&S.p, 2, &err), &err);
    say(S.guest, &out, "new");
    settle();
    settle();
    tl_ok(proxy_checkpoint(&P.p, 2, &err), &err);
    settle();
    tl_str_eq(heard(P.bridge), "");
    say(P.guest, &out, "new");
    settle();
    tl_str_eq(heard(P.bridge), "new");
    end();
}

/* What clients sent before the hold is in the checkpoint; what they sent after it is in neither copy. */
static void test_clients_frames_around_a_checkpoint(void **state)
{
    (void)state;
    begin(0);
    checkpoint(1);
    say(P.bridge, &in, "before");
    turn(&P); /* on the link now */
    tl_ok(proxy_hold(&P.p, 2, &err), &err);
    tl_ok(proxy_hold(&S.p, 2, &err), &err);
    say(P.bridge, &in, "after");
    tl_ok(proxy_checkpoint(&S.p, 2, &err), &err); /* S has not even read the link */
    settle();
    tl_str_eq(heard(P.guest), "before");
    tl_str_eq(heard(S.guest), "");
    tl_ok(proxy_checkpoint(&P.p, 2, &err), &err);
    settle();
    tl_str_eq(heard(P.guest), "after");
    tl_str_eq(heard(S.guest), "after");
    end();
}

static void test_a_full_engine_refuses_and_loses_nothing(void **state)
{
    char want[4096] = "";

    (void)state;
    begin(64);
    checkpoint(1);
    for (int i = 0; i < 150; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        say(P.guest, &out, text);
        snprintf(want + strlen(want), sizeof(want) - strlen(want), "%s%d", i ? " " : "", i);
        if (i % 10 == 0)
            settle();
    }
    settle();
    assert_false(proxy_reads_guest(&P.p, &P.p.nic[0]));
    tl_str_eq(heard(P.bridge), "");
    checkpoint(2);
    assert_true(proxy_reads_guest(&P.p, &P.p.nic[0]));
    tl_str_eq(heard(P.bridge), want);
    end();
}

static void test_a_lost_link_holds_until_told_to_pass(void **state)
{
    (void)state;
    begin(0);
    checkpoint(1);
    proxy_link_free(S.p.link);
    S.p.link = NULL;
    say(P.guest, &out, "held");
    for (colo_time deadline = tl_soon(); !P.p.link_lost; poll(NULL, 0, 1)) {
        turn(&P);
        assert_true(colo_now() < deadline);
    }
    tl_eq(P.p.link_err.cls, COLO_ERR_PEER_EOF);
    tl_str_eq(heard(P.bridge), "");
    say(P.bridge, &in, "in");
    settle();
    tl_str_eq(heard(P.guest), "in");
    proxy_pass(&P.p);
    say(P.guest, &out, "more");
    settle();
    tl_str_eq(heard(P.bridge), "held more");
    end();
}

static void test_takeover(void **state)
{
    (void)state;
    begin(0);
    tl_fails(proxy_takeover(&S.p, &err), &err, COLO_ERR_PROTOCOL); /* there is no copy yet */
    checkpoint(1);
    tl_fails(proxy_takeover(&P.p, &err), &err, COLO_ERR_PROTOCOL);
    say(S.bridge, &in, "waits");
    settle();
    tl_str_eq(heard(S.guest), "");
    tl_ok(proxy_hold(&S.p, 2, &err), &err); /* in the middle of a checkpoint */
    proxy_link_free(P.p.link);
    P.p.link = NULL;
    tl_ok(proxy_takeover(&S.p, &err), &err);
    tl_ok(proxy_takeover(&S.p, &err), &err);
    say(S.guest, &out, "here");
    settle();
    tl_str_eq(heard(S.bridge), "here");
    tl_str_eq(heard(S.guest), "waits");
    tl_eq(proxy_rewriting(&S.p), 0);
    end();
}

/* A connection that was born in lock-step, as its client sees it before and after. */
static void test_takeover_of_a_connection(void **state)
{
    const struct tp_conn srv = {.src = 1, .dst = 2, .sport = 80, .dport = 4000};
    const struct tp_conn cli = {.src = 2, .dst = 1, .sport = 4000, .dport = 80};
    struct tp_tcp t = {.flags = COLO_TCP_SYN, .seq = 100, .mss = 1460};
    static uint8_t frame[COLO_FRAME_MAX];
    struct colo_packet pk;
    ssize_t n;

    (void)state;
    begin(0);
    checkpoint(1);
    tp_tcp(&f, &cli, &t);
    assert_true(write(P.bridge, f.b, f.len) > 0);
    settle();
    heard(P.guest);
    heard(S.guest);
    t = (struct tp_tcp){.flags = COLO_TCP_SYN | COLO_TCP_ACK, .seq = 5000, .ack = 101, .mss = 1460};
    tp_tcp(&f, &srv, &t);
    assert_true(write(P.guest, f.b, f.len) > 0);
    t.seq = 9000; /* the second copy chose another number */
    tp_tcp(&f, &srv, &t);
    assert_true(write(S.guest, f.b, f.len) > 0);
    settle();
    n = read(P.bridge, frame, sizeof(frame));
    assert_true(n > 0);
    colo_packet_parse(&pk, frame, (uint32_t)n);
    tl_eq(pk.seq, 5000);
    t = (struct tp_tcp){.flags = COLO_TCP_ACK, .seq = 101, .ack = 5001};
    tp_tcp(&f, &cli, &t);
    assert_true(write(P.bridge, f.b, f.len) > 0);
    settle();
    n = read(S.guest, frame, sizeof(frame));
    assert_true(n > 0);
    colo_packet_parse(&pk, frame, (uint32_t)n);
    tl_eq(pk.ack, 9001);
    assert_true(tp_checksums_right(frame, (uint32_t)n));
    heard(P.guest);

    tl_ok(proxy_takeover(&S.p, &err), &err);
    t = (struct tp_tcp){.flags = COLO_TCP_ACK, .seq = 9001, .ack = 101, .data = "hello", .len = 5};
    tp_tcp(&f, &srv, &t);
    assert_true(write(S.guest, f.b, f.len) > 0);
    settle();
    n = read(S.bridge, frame, sizeof(frame));
    assert_true(n > 0);
    colo_packet_parse(&pk, frame, (uint32_t)n);
    tl_eq(pk.seq, 5001);
    assert_true(tp_checksums_right(frame, (uint32_t)n));
    t = (struct tp_tcp){.flags = COLO_TCP_ACK, .seq = 101, .ack = 5006};
    tp_tcp(&f, &cli, &t);
    assert_true(write(S.bridge, f.b, f.len) > 0);
    settle();
    n = read(S.guest, frame, sizeof(frame));
    assert_true(n > 0);
    colo_packet_parse(&pk, frame, (uint32_t)n);
    tl_eq(pk.ack, 9006);
    tl_eq(proxy_rewriting(&S.p), 1);
    end();
}

static void test_steps_out_of_order_are_refused(void **state)
{
    (void)state;
    begin(0);
    tl_fails(proxy_checkpoint(&P.p, 1, &err), &err, COLO_ERR_PROTOCOL);
    checkpoint(1);
    tl_fails(proxy_hold(&P.p, 1, &err), &err, COLO_ERR_PROTOCOL);
    tl_fails(proxy_checkpoint(&P.p, 2, &err), &err, COLO_ERR_PROTOCOL);
    proxy_pass(&P.p);
    checkpoint(2);
    tl_ok(proxy_takeover(&S.p, &err), &err);
    tl_fails(proxy_hold(&S.p, 3, &err), &err, COLO_ERR_PROTOCOL);
    end();
}

static void test_a_tap_that_goes(void **state)
{
    (void)state;
    begin(0);
    close(P.p.nic[0].guest_fd);
    P.p.nic[0].guest_fd =
        open("/dev/null", O_RDWR | O_CLOEXEC); /* nothing, where a frame should be */
    tl_fails(proxy_from_guest(&P.p, &P.p.nic[0], &err), &err, COLO_ERR_LOCAL);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_the_lockstep_frames_go_by),
        cmocka_unit_test(test_equal_output_goes_out_once),
        cmocka_unit_test(test_a_difference_asks_once_and_waits_for_the_checkpoint),
        cmocka_unit_test(test_a_checkpoint_takes_all_that_was_sent_before),
        cmocka_unit_test(test_the_second_copy_is_faster_than_the_checkpoint),
        cmocka_unit_test(test_clients_frames_around_a_checkpoint),
        cmocka_unit_test(test_a_full_engine_refuses_and_loses_nothing),
        cmocka_unit_test(test_a_lost_link_holds_until_told_to_pass),
        cmocka_unit_test(test_takeover),
        cmocka_unit_test(test_takeover_of_a_connection),
        cmocka_unit_test(test_steps_out_of_order_are_refused),
        cmocka_unit_test(test_a_tap_that_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
