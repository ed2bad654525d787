/* SPDX-License-Identifier: GPL-2.0-only */
/* The link between two proxies over real sockets, and peers that are not what they should be. */
#include "testlib.h"

#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy_link.h"

static struct colo_err err;
static uint8_t frame[PROXY_FRAME_MAX];

/* ---- two ends ---- */

struct end {
    struct proxy_link *l;
    struct proxy_link_event ev; /* of the last message, without its data */
    uint8_t last[PROXY_FRAME_MAX];
    uint32_t messages; /* HELLO not counted */
    int rc;            /* of the last call */
    struct colo_err err;
};

static struct proxy_link_config config(bool secondary)
{
    struct proxy_link_config c = {.secondary = secondary};

    memset(c.key, 7, sizeof(c.key));
    memset(c.session, 8, sizeof(c.session));
    return c;
}

static void sockets(int *server, int *client)
{
    int listener;
    uint16_t port;

    tl_ok(proxy_listen("127.0.0.1", NULL, &listener, &port, &err), &err);
    tl_ok(proxy_connect("127.0.0.1", port, NULL, client, &err), &err);
    poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 5000);
    *server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(*server >= 0);
    close(listener);
}

static void open_ends(struct end e[2], const struct proxy_link_config *p,
                      const struct proxy_link_config *s)
{
    int server, client;

    memset(e, 0, 2 * sizeof(*e));
    sockets(&server, &client);
    tl_ok(proxy_link_new(client, p, &e[0].l, &err), &err);
    tl_ok(proxy_link_new(server, s, &e[1].l, &err), &err);
}

static void close_ends(struct end e[2])
{
    proxy_link_free(e[0].l);
    proxy_link_free(e[1].l);
}

/* One message at most. */
static void step(struct end *e)
{
    if (!e->l || e->rc < 0)
        return;
    e->rc = proxy_link_next(e->l, &e->ev, &e->err);
    if (e->rc > 0 && e->ev.type != PROXY_MSG_HELLO) {
        e->messages++;
        memcpy(e->last, e->ev.data, e->ev.len);
    }
    if (e->rc >= 0 &&
        (proxy_link_advance(e->l, colo_now(), &e->err) || proxy_link_flush(e->l, &e->err)))
        e->rc = -1;
}

/* Until end `who` has had so many messages, or is lost. */
static void pump(struct end e[2], int who, uint32_t messages)
{
    colo_time deadline = tl_soon();

    while (e[who].rc >= 0 && (e[who].messages < messages || !proxy_link_up(e[who].l))) {
        struct pollfd fds[2];

        assert_true(colo_now() < deadline);
        for (int i = 0; i < 2; i++) {
            uint32_t want = e[i].l && e[i].rc >= 0 ? proxy_link_events(e[i].l) : 0;

            fds[i].fd = want ? proxy_link_fd(e[i].l) : -1;
            fds[i].events =
                (short)((want & EPOLLIN ? POLLIN : 0) | (want & EPOLLOUT ? POLLOUT : 0));
        }
        /* what is here already does not make the socket readable */
        poll(fds, 2, e[0].rc > 0 || e[1].rc > 0 ? 0 : 1000);
        for (int i = 0; i < 2; i++)
            if (e[i].rc > 0 || fds[i].revents)
                step(&e[i]);
    }
}

static void both_up(struct end e[2])
{
    pump(e, 0, 0);
    pump(e, 1, 0);
    tl_ok(e[0].rc < 0 ? -1 : 0, &e[0].err);
    tl_ok(e[1].rc < 0 ? -1 : 0, &e[1].err);
    assert_true(proxy_link_up(e[0].l) && proxy_link_up(e[1].l));
}

static void open_good(struct end e[2])
{
    struct proxy_link_config p = config(false), s = config(true);

    open_ends(e, &p, &s);
    both_up(e);
}

static void test_frames_and_numbers_arrive(void **state)
{
    static const uint32_t lengths[] = {0, 1, 60, 1514, 16384, 16385, PROXY_FRAME_MAX};
    static struct end e[2];
    uint64_t seed = 3;

    (void)state;
    open_good(e);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        tl_fill(&seed, frame, lengths[i]);
        assert_true(proxy_link_send_frame(e[0].l, PROXY_MSG_CLIENT, 15, frame, lengths[i]));
        pump(e, 1, e[1].messages + 1);
        tl_eq(e[1].ev.type, PROXY_MSG_CLIENT);
        tl_eq(e[1].ev.nic, 15);
        tl_eq(e[1].ev.len, lengths[i]);
        assert_memory_equal(e[1].last, frame, lengths[i]);
        assert_true(proxy_link_send_frame(e[1].l, PROXY_MSG_GUEST, 0, frame, lengths[i]));
        pump(e, 0, e[0].messages + 1);
        tl_eq(e[0].ev.type, PROXY_MSG_GUEST);
        assert_memory_equal(e[0].last, frame, lengths[i]);
    }
    assert_false(proxy_link_send_frame(e[0].l, PROXY_MSG_CLIENT, 0, frame, PROXY_FRAME_MAX + 1));
    proxy_link_send_number(e[0].l, PROXY_MSG_BARRIER, UINT64_C(0x123456789abcdef0));
    proxy_link_send_number(e[1].l, PROXY_MSG_MARK, 1);
    pump(e, 1, e[1].messages + 1);
    pump(e, 0, e[0].messages + 1);
    tl_eq(e[1].ev.type, PROXY_MSG_BARRIER);
    tl_eq(e[1].ev.checkpoint, UINT64_C(0x123456789abcdef0));
    tl_eq(e[0].ev.checkpoint, 1);
    close_ends(e);
}

/* More than the sockets hold: nothing is lost or mixed up, and the limit is kept. */
static void test_queue(void **state)
{
    static struct end e[2];
    uint32_t sent = 0;

    (void)state;
    open_good(e);
    memset(frame, 5, sizeof(frame));
    assert_false(proxy_link_full(e[0].l));
    while (proxy_link_send_frame(e[0].l, PROXY_MSG_CLIENT, 0, frame, 60000)) {
        memset(frame, (int)(++sent & 0xff), sizeof(frame));
        tl_ok(proxy_link_flush(e[0].l, &err), &err);
        assert_true(sent < 100000);
    }
    assert_true(proxy_link_full(e[0].l));
    assert_true(sent * 60000 >= PROXY_QUEUE_LIMIT - 60000);
    pump(e, 1, sent);
    tl_eq(e[1].messages, sent);
    tl_eq(e[1].last[59999], (sent - 1) & 0xff);
    assert_false(proxy_link_full(e[0].l));
    close_ends(e);
}

static void test_wrong_key(void **state)
{
    static struct end e[2];
    struct proxy_link_config p = config(false), s = config(true);

    (void)state;
    p.key[31] ^= 1;
    open_ends(e, &p, &s);
    pump(e, 1, 0);
    tl_fails(e[1].rc, &e[1].err, COLO_ERR_PROTOCOL);
    proxy_link_free(e[1].l);
    e[1].l = NULL;
    pump(e, 0, 0);
    assert_true(e[0].rc < 0);
    close_ends(e);
}

static void test_other_session_or_role(void **state)
{
    static struct end e[2];
    struct proxy_link_config p = config(false), s = config(true);

    (void)state;
    p.session[0] ^= 1;
    open_ends(e, &p, &s);
    pump(e, 1, 0);
    tl_has(e[1].err.msg, "another session");
    tl_fails(e[1].rc, &e[1].err, COLO_ERR_PROTOCOL);
    close_ends(e);
}

static void test_end_of_the_peer(void **state)
{
    static struct end e[2];

    (void)state;
    open_good(e);
    proxy_link_free(e[1].l);
    e[1].l = NULL;
    pump(e, 0, 1);
    tl_fails(e[0].rc, &e[0].err, COLO_ERR_PEER_EOF);
    /* and it stays lost */
    tl_fails(proxy_link_next(e[0].l, &e[0].ev, &err), &err, COLO_ERR_PEER_EOF);
    tl_fails(proxy_link_flush(e[0].l, &err), &err, COLO_ERR_PEER_EOF);
    assert_false(proxy_link_send_frame(e[0].l, PROXY_MSG_CLIENT, 0, frame, 1));
    close_ends(e);
}

static void test_silence_is_noticed_and_pings_prevent_it(void **state)
{
    static struct end e[2];
    struct proxy_link_config p = config(false), s = config(true);
    colo_time until;

    (void)state;
    p.silence = s.silence = 300 * COLO_MS;
    open_ends(e, &p, &s);
    both_up(e);
    until = colo_now() + 2 * p.silence;
    while (colo_now() < until) { /* nothing is said but pings */
        step(&e[0]);
        step(&e[1]);
        poll(NULL, 0, 5);
    }
    tl_ok(e[0].rc, &e[0].err);
    tl_ok(e[1].rc, &e[1].err);
    until = colo_now() + p.silence;
    while (e[0].rc >= 0 && colo_now() < tl_soon()) { /* end 1 stands still */
        step(&e[0]);
        poll(NULL, 0, 5);
    }
    tl_fails(e[0].rc, &e[0].err, COLO_ERR_PEER_SILENT);
    assert_true(colo_now() >= until - p.silence / 2);
    close_ends(e);
}

/* ---- strangers ---- */

static void test_stranger_without_tls(void **state)
{
    struct proxy_link_config s = config(true);
    static struct end e[2];
    uint64_t seed = 9;
    int server, client;

    (void)state;
    for (int i = 0; i < 20; i++) {
        memset(e, 0, sizeof(e));
        sockets(&server, &client);
        tl_ok(proxy_link_new(server, &s, &e[1].l, &err), &err);
        tl_fill(&seed, frame, 600);
        assert_true(send(client, frame, 600, MSG_NOSIGNAL) == 600);
        close(client);
        pump(e, 1, 0);
        assert_true(e[1].rc < 0);
        assert_false(proxy_link_up(e[1].l));
        proxy_link_free(e[1].l);
    }
}

/* One that has the key, but not our manners. */
struct rude {
    gnutls_session_t tls;
    gnutls_psk_client_credentials_t cred;
    int fd;
};

static void rude_open(struct rude *r, int fd)
{
    struct proxy_link_config c = config(false);
    const gnutls_datum_t key = {c.key, sizeof(c.key)};

    r->fd = fd;
    tl_eq(gnutls_init(&r->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL), 0);
    tl_eq(gnutls_priority_set_direct(r->tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK",
                                     NULL),
          0);
    tl_eq(gnutls_psk_allocate_client_credentials(&r->cred), 0);
    tl_eq(gnutls_psk_set_client_credentials(r->cred, "xen-colo", &key, GNUTLS_PSK_KEY_RAW), 0);
    tl_eq(gnutls_credentials_set(r->tls, GNUTLS_CRD_PSK, r->cred), 0);
    gnutls_transport_set_int(r->tls, fd);
}

static void rude_close(struct rude *r)
{
    gnutls_deinit(r->tls);
    gnutls_psk_free_client_credentials(r->cred);
    close(r->fd);
}

static const uint8_t hello[48] = {1,   0,   0,   0,   0,   0,   0,   32,  0, 0, 0, 0, 0, 0, 0, 0,
                                  'x', 'e', 'n', 'c', 'o', 'l', 'o', '1', 8, 8, 8, 8, 8, 8, 8, 8,
                                  8,   8,   8,   8,   8,   8,   8,   8,   0, 0, 0, 0, 0, 0, 0, 0};

/* HELLO, if `greets`, and these bytes: what does the link make of them? */
static void rude_says(const uint8_t *bytes, size_t len, bool greets, enum colo_err_class cls)
{
    struct proxy_link_config s = config(true);
    static struct end e[2];
    colo_time deadline = tl_soon();
    struct rude r;
    int server, client, rc;

    memset(e, 0, sizeof(e));
    sockets(&server, &client);
    tl_ok(proxy_link_new(server, &s, &e[1].l, &err), &err);
    rude_open(&r, client);
    while ((rc = gnutls_handshake(r.tls)) != 0) {
        assert_true(rc == GNUTLS_E_AGAIN || !gnutls_error_is_fatal(rc));
        assert_true(colo_now() < deadline);
        step(&e[1]);
        poll(NULL, 0, 1);
    }
    if (greets)
        assert_true(gnutls_record_send(r.tls, hello, sizeof(hello)) == sizeof(hello));
    assert_true(gnutls_record_send(r.tls, bytes, len) == (ssize_t)len);
    if (cls == COLO_OK) {
        pump(e, 1, 1);
        tl_eq(e[1].messages, 1);
    } else {
        pump(e, 1, 1);
        tl_fails(e[1].rc, &e[1].err, cls);
        tl_eq(e[1].messages, 0);
    }
    proxy_link_free(e[1].l);
    rude_close(&r);
}

static void test_peer_with_the_key_but_hostile(void **state)
{
    uint8_t m[32] = {
        PROXY_MSG_CLIENT, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 'a', 'b', 'c', 'd'};
    uint8_t other[48];

    (void)state;
    rude_says(m, 20, true, COLO_OK);
    rude_says(m, 20, false, COLO_ERR_PROTOCOL); /* before HELLO */
    rude_says(hello, sizeof(hello), true, COLO_ERR_PROTOCOL);
    m[0] = PROXY_MSG_GUEST; /* the wrong role's */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[0] = 99;
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[0] = PROXY_MSG_BARRIER; /* of a wrong length */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[0] = PROXY_MSG_CLIENT;
    m[1] = PROXY_MAX_NICS;
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[1] = 0;
    m[15] = 0; /* replayed */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[15] = 2; /* out of order */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[15] = 1;
    m[4] = 0xff; /* a length that lies */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    m[4] = 0;
    m[2] = 1; /* not zero */
    rude_says(m, 20, true, COLO_ERR_PROTOCOL);
    memcpy(other, hello, sizeof(other));
    other[40] = 1; /* says that it is a secondary, too */
    rude_says(other, sizeof(other), false, COLO_ERR_PROTOCOL);
    memcpy(other, hello, sizeof(other));
    other[16] = 'X';
    rude_says(other, sizeof(other), false, COLO_ERR_PROTOCOL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_and_numbers_arrive),
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_other_session_or_role),
        cmocka_unit_test(test_end_of_the_peer),
        cmocka_unit_test(test_silence_is_noticed_and_pings_prevent_it),
        cmocka_unit_test(test_stranger_without_tls),
        cmocka_unit_test(test_peer_with_the_key_but_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
