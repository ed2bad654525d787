/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The channel: exact reads and writes, deadlines, cancel, silence, and the end of the peer.
 */
#include "testlib.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void pair_open_sized(struct pair *p, int small)
{
    tl_socketpair(p->fds, small);
    p->cancel = eventfd(0, EFD_CLOEXEC);
    tl_ok(xc_sr_channel_init(&p->ch, p->fds[0], p->fds[0], p->cancel, &err), &err);
}

static void pair_open(struct pair *p)
{
    pair_open_sized(p, 1);
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

static void test_bytes_arrive_in_order_in_any_portions(void **state)
{
    static unsigned char out[700000], in[700000];
    struct tl_rule slow = TL_PERFECT;
    struct xc_sr_channel a, b;
    struct tl_link *l;
    uint64_t seed = 1, done = 0, tin, tout;
    int rc;

    (void)state;
    slow.chunk = 4093;
    l = tl_link_open(&slow, NULL);
    tl_ok(xc_sr_channel_init(&a, tl_link_fd(l, 0), tl_link_fd(l, 0), -1, &err), &err);
    tl_ok(xc_sr_channel_init(&b, tl_link_fd(l, 1), tl_link_fd(l, 1), -1, &err), &err);
    tl_fill(&seed, out, sizeof(out));
    for (uint64_t sent = 0; done < sizeof(out);) {
        struct iovec iov[5];
        int n = 0;

        for (; n < 5 && sent < sizeof(out); n++) { /* entries of length 0 among them */
            uint64_t len = tl_below(&seed, 30000);

            if (len > sizeof(out) - sent)
                len = sizeof(out) - sent;
            iov[n] = (struct iovec){out + sent, len};
            sent += len;
        }
        rc = xc_sr_channel_writev(&a, iov, n, tl_soon(), &err);
        tl_ok(rc, &err);
        while (done < sent) {
            uint64_t len = tl_below(&seed, 1 + sent - done) + 1;

            if (len > sent - done)
                len = sent - done;
            tl_ok(xc_sr_channel_read(&b, in + done, len, tl_soon(), &err), &err);
            done += len;
        }
    }
    assert_memory_equal(in, out, sizeof(out));
    xc_sr_channel_bytes(&a, &tin, &tout);
    tl_eq(tout, sizeof(out));
    tl_eq(tin, 0);
    xc_sr_channel_bytes(&b, &tin, &tout);
    tl_eq(tin, sizeof(out));
    xc_sr_channel_fini(&a);
    xc_sr_channel_fini(&b);
    tl_link_close(l);
}

static void test_a_vector_longer_than_the_system_takes_is_written(void **state)
{
    struct iovec iov[3000];
    unsigned char bytes[3000], in[3000];
    struct pair p;

    (void)state;
    pair_open_sized(&p, 0);
    for (int i = 0; i < 3000; i++) {
        bytes[i] = (unsigned char)(i * 7);
        iov[i] = (struct iovec){bytes + i, 1};
    }
    tl_ok(xc_sr_channel_writev(&p.ch, iov, 3000, tl_soon(), &err), &err);
    tl_eq(recv(p.fds[1], in, sizeof(in), MSG_WAITALL), 3000);
    assert_memory_equal(in, bytes, 3000);
    pair_close(&p);
}

static void test_eof_tells_whether_it_came_inside(void **state)
{
    unsigned char buf[16];
    struct pair p;
    int rc;

    (void)state;
    pair_open(&p);
    raw_send(p.fds[1], "abcdefgh12345", 13);
    shutdown(p.fds[1], SHUT_WR);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 8, tl_soon(), &err), &err);
    assert_memory_equal(buf, "abcdefgh", 8);
    rc = xc_sr_channel_read(&p.ch, buf, 16, tl_soon(), &err);
    tl_has(err.msg, "after 5 of 16 bytes");
    tl_fails(rc, &err, COLO_ERR_PEER_EOF);
    /* what follows would not be at a record's start */
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, tl_soon(), &err), &err, COLO_ERR_PROTOCOL);
    pair_close(&p);

    pair_open(&p);
    shutdown(p.fds[1], SHUT_WR);
    rc = xc_sr_channel_read(&p.ch, buf, 1, COLO_NO_DEADLINE, &err);
    assert_null(strstr(err.msg, "after"));
    tl_fails(rc, &err, COLO_ERR_PEER_EOF);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, 0, &err), &err, COLO_ERR_PEER_EOF);
    pair_close(&p);
}

static void test_a_read_has_a_deadline_even_when_bytes_trickle(void **state)
{
    unsigned char buf[16];
    struct pair p;
    colo_time start, deadline;

    (void)state;
    pair_open(&p);
    start = colo_now();
    deadline = start + 30 * COLO_MS;
    tl_fails(xc_sr_channel_read(&p.ch, buf, 4, deadline, &err), &err, COLO_ERR_TIMEOUT);
    assert_true(colo_now() >= deadline);
    /* nothing was taken: the next read is as good as the first */
    raw_send(p.fds[1], "wxyz", 4);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 4, 0, &err), &err);
    raw_send(p.fds[1], "w", 1);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 4, 0, &err), &err, COLO_ERR_TIMEOUT);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 4, 0, &err), &err, COLO_ERR_PROTOCOL);
    pair_close(&p);
}

static void test_a_write_has_a_deadline_and_spoils_what_it_began(void **state)
{
    static unsigned char big[1 << 20];
    struct pair p;

    (void)state;
    pair_open(&p);
    tl_fails(write_all(&p.ch, big, sizeof(big), colo_now() + 20 * COLO_MS), &err, COLO_ERR_TIMEOUT);
    while (recv(p.fds[1], big, sizeof(big), MSG_DONTWAIT) > 0)
        ;
    tl_fails(write_all(&p.ch, big, 1, tl_soon()), &err, COLO_ERR_LOCAL);
    pair_close(&p);
}

static void test_cancel_comes_before_waiting_data(void **state)
{
    unsigned char buf[4];
    struct pair p;
    size_t avail;

    (void)state;
    pair_open(&p);
    raw_send(p.fds[1], "abcd", 4);
    eventfd_write(p.cancel, 1);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 4, tl_soon(), &err), &err, COLO_ERR_CANCELLED);
    tl_fails(write_all(&p.ch, "x", 1, tl_soon()), &err, COLO_ERR_CANCELLED);
    tl_fails(xc_sr_channel_pump(&p.ch, &avail, &err), &err, COLO_ERR_CANCELLED);
    pair_close(&p);
}

static void *cancel_when_full(void *priv)
{
    struct pair *p = priv;
    uint64_t in, out;

    /* the writer is stuck once bytes are out and the socket takes no more */
    do {
        xc_sr_channel_bytes(&p->ch, &in, &out);
    } while (out == 0);
    eventfd_write(p->cancel, 1);
    return NULL;
}

static void test_cancel_ends_a_blocked_write(void **state)
{
    static unsigned char big[1 << 20];
    struct pair p;
    pthread_t t;

    (void)state;
    pair_open(&p);
    pthread_create(&t, NULL, cancel_when_full, &p);
    tl_fails(write_all(&p.ch, big, sizeof(big), COLO_NO_DEADLINE), &err, COLO_ERR_CANCELLED);
    pthread_join(t, NULL);
    pair_close(&p);
}

static void test_hanging_up_ends_the_stream_at_once(void **state)
{
    struct xc_sr_channel ch;
    struct pair p;
    char c;
    int fds[2];

    (void)state;
    pair_open(&p);
    xc_sr_channel_hang_up(&p.ch);
    tl_eq(recv(p.fds[1], &c, 1, 0), 0);
    pair_close(&p);

    /* a pipe, too, whose fd stays open */
    tl_eq(pipe2(fds, O_CLOEXEC), 0);
    tl_ok(xc_sr_channel_init(&ch, -1, fds[1], -1, &err), &err);
    xc_sr_channel_hang_up(&ch);
    tl_eq(read(fds[0], &c, 1), 0);
    tl_fails(xc_sr_channel_writev(&ch, &(struct iovec){"x", 1}, 1, tl_soon(), &err), &err,
             COLO_ERR_LOCAL);
    xc_sr_channel_fini(&ch);
    close(fds[0]);
    close(fds[1]);
}

static void test_a_blocked_write_listens_up_to_its_buffer(void **state)
{
    static unsigned char big[1 << 20];
    struct tl_rule hold = TL_PERFECT;
    struct xc_sr_channel ch;
    uint64_t in = 0, out;
    struct tl_link *l;
    size_t left = XC_SR_CHANNEL_BUF + 50000;

    (void)state;
    hold.hold_at = 0;
    l = tl_link_open(&hold, NULL);
    tl_ok(xc_sr_channel_init(&ch, tl_link_fd(l, 0), tl_link_fd(l, 0), -1, &err), &err);
    fcntl(tl_link_fd(l, 1), F_SETFL, O_NONBLOCK);
    memset(big, 'h', sizeof(big));
    while (left > 0) {
        ssize_t r = send(tl_link_fd(l, 1), big, left, MSG_NOSIGNAL);

        if (r < 0) /* the far side cannot say more until we listen, so we write */
            tl_fails(write_all(&ch, big, sizeof(big), colo_now() + 5 * COLO_MS), &err,
                     COLO_ERR_TIMEOUT);
        else
            left -= (size_t)r;
        ch.wspoilt = false; /* this test is not about records */
    }
    for (int i = 0; i < 20 && in < XC_SR_CHANNEL_BUF; i++) {
        tl_fails(write_all(&ch, big, sizeof(big), colo_now() + 5 * COLO_MS), &err,
                 COLO_ERR_TIMEOUT);
        ch.wspoilt = false;
        xc_sr_channel_bytes(&ch, &in, &out);
    }
    tl_eq(in, XC_SR_CHANNEL_BUF);
    assert_non_null(xc_sr_channel_peek(&ch, XC_SR_CHANNEL_BUF));

    /* with a full buffer the peer cannot be called silent */
    ch.silence = COLO_MS;
    tl_fails(write_all(&ch, big, sizeof(big), colo_now() + 20 * COLO_MS), &err, COLO_ERR_TIMEOUT);
    ch.silence = 0;
    tl_ok(xc_sr_channel_read(&ch, big, XC_SR_CHANNEL_BUF + 50000, tl_soon(), &err), &err);
    xc_sr_channel_fini(&ch);
    tl_link_close(l);
}

static void test_what_the_peer_said_before_it_went_can_be_read(void **state)
{
    static unsigned char big[1 << 20];
    unsigned char buf[4];
    struct pair p;

    (void)state;
    /* it closes both ways: the write fails at once */
    pair_open(&p);
    raw_send(p.fds[1], "stop", 4);
    close(p.fds[1]);
    p.fds[1] = -1;
    tl_fails(write_all(&p.ch, "x", 1, tl_soon()), &err, COLO_ERR_PEER_EOF);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 4, tl_soon(), &err), &err);
    assert_memory_equal(buf, "stop", 4);
    tl_fails(xc_sr_channel_read(&p.ch, buf, 1, tl_soon(), &err), &err, COLO_ERR_PEER_EOF);
    pair_close(&p);

    /* it stops speaking while it takes nothing: waiting for room would be for ever */
    pair_open(&p);
    raw_send(p.fds[1], "stop", 4);
    shutdown(p.fds[1], SHUT_WR);
    tl_fails(write_all(&p.ch, big, sizeof(big), COLO_NO_DEADLINE), &err, COLO_ERR_PEER_EOF);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 4, tl_soon(), &err), &err);
    pair_close(&p);
}

static void test_a_broken_pipe_raises_no_signal(void **state)
{
    struct xc_sr_channel ch;
    sigset_t pending;
    int fds[2], rc;

    (void)state;
    tl_eq(signal(SIGPIPE, SIG_DFL) == SIG_ERR, 0);
    tl_eq(pipe(fds), 0);
    tl_ok(xc_sr_channel_init(&ch, -1, fds[1], -1, &err), &err);
    close(fds[0]);
    rc = write_all(&ch, "x", 1, tl_soon());
    tl_fails(rc, &err, COLO_ERR_PEER_EOF);
    sigpending(&pending);
    tl_eq(sigismember(&pending, SIGPIPE), 0);
    xc_sr_channel_fini(&ch);
    close(fds[1]);
}

static void test_files_and_flags(void **state)
{
    char path[] = "/tmp/test-channel.XXXXXX", buf[8];
    struct xc_sr_channel ch;
    int fd = mkstemp(path), flags;

    (void)state;
    assert_true(fd >= 0);
    unlink(path);
    flags = fcntl(fd, F_GETFL);
    tl_ok(xc_sr_channel_init(&ch, -1, fd, -1, &err), &err);
    ch.silence = 1; /* nobody to listen to */
    tl_eq(fcntl(fd, F_GETFL), flags | O_NONBLOCK);
    tl_ok(write_all(&ch, "12345678", 8, tl_soon()), &err);
    tl_fails(xc_sr_channel_read(&ch, buf, 1, tl_soon(), &err), &err, COLO_ERR_PEER_EOF);
    xc_sr_channel_fini(&ch);
    tl_eq(fcntl(fd, F_GETFL), flags);
    xc_sr_channel_fini(&ch);

    lseek(fd, 0, SEEK_SET);
    tl_ok(xc_sr_channel_init(&ch, fd, -1, -1, &err), &err);
    tl_ok(xc_sr_channel_read(&ch, buf, 8, tl_soon(), &err), &err);
    assert_memory_equal(buf, "12345678", 8);
    tl_fails(xc_sr_channel_read(&ch, buf, 1, tl_soon(), &err), &err, COLO_ERR_PEER_EOF);
    tl_fails(write_all(&ch, "x", 1, tl_soon()), &err, COLO_ERR_LOCAL);
    xc_sr_channel_fini(&ch);
    close(fd);
    tl_fails(xc_sr_channel_init(&ch, fd, -1, -1, &err), &err, COLO_ERR_LOCAL);
}

static void test_peek_takes_nothing(void **state)
{
    struct pair p;
    char buf[6];
    size_t avail;

    (void)state;
    pair_open(&p);
    assert_null(xc_sr_channel_peek(&p.ch, 1));
    raw_send(p.fds[1], "abcdef", 6);
    tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
    tl_eq(avail, 6);
    assert_memory_equal(xc_sr_channel_peek(&p.ch, 6), "abcdef", 6);
    assert_null(xc_sr_channel_peek(&p.ch, 7));
    tl_ok(xc_sr_channel_read(&p.ch, buf, 2, 0, &err), &err);
    raw_send(p.fds[1], "gh", 2);
    tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
    tl_eq(avail, 6);
    assert_memory_equal(xc_sr_channel_peek(&p.ch, 6), "cdefgh", 6);
    /* the end is told when the buffer is empty, not before */
    shutdown(p.fds[1], SHUT_WR);
    tl_ok(xc_sr_channel_pump(&p.ch, &avail, &err), &err);
    tl_ok(xc_sr_channel_read(&p.ch, buf, 6, 0, &err), &err);
    tl_fails(xc_sr_channel_pump(&p.ch, &avail, &err), &err, COLO_ERR_PEER_EOF);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order_in_any_portions),
        cmocka_unit_test(test_a_vector_longer_than_the_system_takes_is_written),
        cmocka_unit_test(test_eof_tells_whether_it_came_inside),
        cmocka_unit_test(test_a_read_has_a_deadline_even_when_bytes_trickle),
        cmocka_unit_test(test_a_write_has_a_deadline_and_spoils_what_it_began),
        cmocka_unit_test(test_cancel_comes_before_waiting_data),
        cmocka_unit_test(test_cancel_ends_a_blocked_write),
        cmocka_unit_test(test_hanging_up_ends_the_stream_at_once),
        cmocka_unit_test(test_a_blocked_write_listens_up_to_its_buffer),
        cmocka_unit_test(test_what_the_peer_said_before_it_went_can_be_read),
        cmocka_unit_test(test_a_broken_pipe_raises_no_signal),
        cmocka_unit_test(test_files_and_flags),
        cmocka_unit_test(test_peek_takes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
