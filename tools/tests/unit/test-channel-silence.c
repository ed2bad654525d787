/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The channel's sense of silence: whose it is, and when it begins.
 */
#include "testlib.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xc_sr_channel.h"

static struct colo_err err;

/* A channel on one end of a small socketpair, the other end raw. */
struct pair {
    struct xc_sr_channel ch;
    int fds[2];
    int cancel;
};

static void pair_open(struct pair *p)
{
    tl_socketpair(p->fds, 1);
    p->cancel = eventfd(0, EFD_CLOEXEC);
    tl_ok(xc_sr_channel_init(&p->ch, p->fds[0], p->fds[0], p->cancel, &err), &err);
}

static void pair_close(struct pair *p)
{
    xc_sr_channel_fini(&p->ch);
    close(p->fds[0]);
    if (p->fds[1] >= 0)
        close(p->fds[1]);
    close(p->cancel);
}

static int write_all(struct xc_sr_channel *ch, const void *buf, size_t len, colo_time deadline)
{
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};

    return xc_sr_channel_writev(ch, &iov, 1, deadline, &err);
}

static void raw_send(int fd, const void *buf, size_t len)
{
    tl_eq(send(fd, buf, len, MSG_NOSIGNAL), len);
}

static void test_silence_is_found_while_reading_and_writing(void **state)
{
    static unsigned char big[1 << 20];
    struct pair p;
    colo_time start;
    int rc;

    (void)state;
    pair_open(&p);
    p.ch.silence = 30 * COLO_MS;
    start = colo_now();
    rc = xc_sr_channel_read(&p.ch, big, 1, tl_soon(), &err);
    assert_true(colo_now() - start >= 30 * COLO_MS);
    tl_has(err.msg, "nothing heard from the peer for ");
    tl_fails(rc, &err, COLO_ERR_PEER_SILENT);
    pair_close(&p);

    pair_open(&p);
    p.ch.silence = 30 * COLO_MS;
    tl_fails(write_all(&p.ch, big, sizeof(big), tl_soon()), &err, COLO_ERR_PEER_SILENT);
    pair_close(&p);
}

/* Time is moved, not spent: the channel's own times are set back. */
static void age(struct xc_sr_channel *ch, colo_time by, bool busy)
{
    ch->heard -= by;
    if (busy)
        ch->active -= by;
}

/* Woken long after the moment at which the peer would have been silent: it was us who stood still. */
static void test_a_stall_of_this_host_is_not_silence(void **state)
{
    unsigned char buf[4];
    struct pair p;
    size_t avail;

    (void)state;
    pair_open(&p);
    p.ch.silence = 10000 * COLO_MS;
    for (int i = 0; i < 3; i++) { /* a host that always lags must still find a dead peer */
        age(&p.ch, 15000 * COLO_MS, false);
        if (i == 1)
            tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
        else
            tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_TIMEOUT);
        assert_true(xc_sr_channel_silent_at(&p.ch) > colo_now() + 1000 * COLO_MS);
        assert_true(xc_sr_channel_silent_at(&p.ch) <= colo_now() + 2000 * COLO_MS);
    }
    age(&p.ch, 15000 * COLO_MS, false);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_PEER_SILENT);

    /* whoever is heard again is forgiven again */
    raw_send(p.fds[1], "a", 1);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err);
    age(&p.ch, 15000 * COLO_MS, false);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_TIMEOUT);

    /* and who is late by little is not: that is how silence is found */
    raw_send(p.fds[1], "a", 1);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err);
    age(&p.ch, 10100 * COLO_MS, false);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_PEER_SILENT);
    pair_close(&p);
}

static void test_time_spent_elsewhere_is_not_silence(void **state)
{
    unsigned char buf[4];
    struct pair p;
    size_t avail;

    (void)state;
    pair_open(&p);
    p.ch.silence = 10000 * COLO_MS;
    age(&p.ch, 20000 * COLO_MS, true);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, colo_now() + COLO_MS, &err), &err, COLO_ERR_TIMEOUT);

    /* but waits add up, however short they are and whatever lies between them */
    for (int i = 0; i < 4; i++) {
        age(&p.ch, 2400 * COLO_MS, false);
        age(&p.ch, 60000 * COLO_MS, true);
        tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_TIMEOUT);
    }
    age(&p.ch, 1400 * COLO_MS, false);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_PEER_SILENT);

    /* a byte starts it all over; even one that has waited in the socket all the time */
    raw_send(p.fds[1], "ab", 2);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err);
    assert_true(xc_sr_channel_silent_at(&p.ch) > colo_now() + 9000 * COLO_MS);

    /* pump: a poll of the caller's own counts as waiting until listen says otherwise */
    age(&p.ch, 11000 * COLO_MS, true);
    tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
    tl_eq(avail, 1);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err);
    tl_fails(xc_sr_channel_pump(&p.ch, &avail, &err), &err, COLO_ERR_PEER_SILENT);
    xc_sr_channel_listen(&p.ch);
    tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
    tl_eq(avail, 0);
    p.ch.silence = 0;
    tl_eq(xc_sr_channel_silent_at(&p.ch), COLO_NO_DEADLINE);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_is_found_while_reading_and_writing),
        cmocka_unit_test(test_a_stall_of_this_host_is_not_silence),
        cmocka_unit_test(test_time_spent_elsewhere_is_not_silence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
