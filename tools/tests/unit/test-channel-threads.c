/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The channel with a heartbeat writer beside the thread that reads: records stay whole, nobody
 * waits for ever, and only the reading thread listens.  Also run under ThreadSanitizer.
 */
#include "testlib.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "xc_sr_channel_io.h"
#include "xc_sr_record.h"

static struct colo_err err;

struct beater {
    struct xc_sr_channel *ch;
    bool stop;   /* atomic */
    int sent;    /* atomic */
    bool failed; /* atomic */
};

static void *beat(void *priv)
{
    struct xc_sr_rec_tag tag = {.generation = 1};
    struct beater *b = priv;
    struct colo_err e;

    while (!__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE)) {
        if (xc_sr_write_simple(b->ch, XC_SR_REC_COLO_HEARTBEAT, &tag, sizeof(tag),
                               colo_now() + 50 * COLO_MS, &e) &&
            e.cls != COLO_ERR_TIMEOUT) {
            __atomic_store_n(&b->failed, true, __ATOMIC_RELEASE);
            break;
        }
        __atomic_fetch_add(&b->sent, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

#define ROUNDS 60

struct echo {
    struct xc_sr_channel *ch;
    int rc;
    struct colo_err err;
};

static void *echo(void *priv)
{
    struct echo *x = priv;
    struct xc_sr_record rec;

    xc_sr_channel_listen(x->ch); /* this thread reads */
    for (int i = 0; i < ROUNDS && x->rc == 0; i++) {
        x->rc = xc_sr_read_record(x->ch, 1 << 20, tl_soon(), &rec, &x->err);
        if (x->rc == 0)
            x->rc = xc_sr_write_simple(x->ch, rec.type, rec.data, rec.length, tl_soon(), &x->err);
        xc_sr_record_free(&rec);
    }
    return NULL;
}

static void test_records_stay_whole_among_heartbeats(void **state)
{
    static unsigned char body[300000];
    struct xc_sr_channel a, b;
    struct beater ba = {.ch = &a}, bb = {.ch = &b};
    struct echo x = {.ch = &b};
    pthread_t ta, tb, te;
    struct xc_sr_record rec;
    uint64_t seed = 1;
    int fds[2];

    (void)state;
    tl_socketpair(fds, 0);
    tl_ok(xc_sr_channel_init(&a, fds[0], fds[0], -1, &err), &err);
    tl_ok(xc_sr_channel_init(&b, fds[1], fds[1], -1, &err), &err);
    a.silence = b.silence = 20000 * COLO_MS;
    pthread_create(&ta, NULL, beat, &ba);
    pthread_create(&tb, NULL, beat, &bb);
    pthread_create(&te, NULL, echo, &x);
    tl_fill(&seed, body, sizeof(body));
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t len = (uint32_t)tl_below(&seed, sizeof(body));

        tl_ok(xc_sr_write_simple(&a, 100 + (uint32_t)i, body, len, tl_soon(), &err), &err);
        tl_ok(xc_sr_read_record(&a, 1 << 20, tl_soon(), &rec, &err), &err);
        tl_eq(rec.type, 100 + i);
        tl_eq(rec.length, len);
        if (len)
            assert_memory_equal(rec.data, body, len);
        xc_sr_record_free(&rec);
    }
    pthread_join(te, NULL);
    tl_ok(x.rc, &x.err);
    __atomic_store_n(&ba.stop, true, __ATOMIC_RELEASE);
    __atomic_store_n(&bb.stop, true, __ATOMIC_RELEASE);
    pthread_join(ta, NULL);
    pthread_join(tb, NULL);
    tl_eq(ba.failed, false);
    tl_eq(bb.failed, false);
    xc_sr_channel_fini(&a);
    xc_sr_channel_fini(&b);
    close(fds[0]);
    close(fds[1]);
}

/* The other side takes nothing: the heartbeat gives up in time and does not keep the lock. */
static void test_a_stuck_heartbeat_keeps_nobody(void **state)
{
    static unsigned char fill[1 << 16];
    struct xc_sr_channel ch;
    struct beater b = {.ch = &ch};
    struct xc_sr_record rec;
    struct xc_sr_rhdr h = {77, 0};
    pthread_t t;
    int fds[2], seen;

    (void)state;
    tl_socketpair(fds, 1);
    tl_ok(xc_sr_channel_init(&ch, fds[0], fds[0], -1, &err), &err);
    while (send(fds[0], fill, sizeof(fill), MSG_DONTWAIT) > 0)
        ;
    pthread_create(&t, NULL, beat, &b);
    /* reading goes on; what arrives is for this thread alone */
    tl_eq(send(fds[1], &h, sizeof(h), 0), sizeof(h));
    tl_ok(xc_sr_read_record(&ch, 0, tl_soon(), &rec, &err), &err);
    tl_eq(rec.type, 77);
    tl_eq(pthread_mutex_trylock(&ch.wlock), 0);
    pthread_mutex_unlock(&ch.wlock);
    seen = __atomic_load_n(&b.sent, __ATOMIC_ACQUIRE);
    while (__atomic_load_n(&b.sent, __ATOMIC_ACQUIRE) == seen) /* a timeout came */
        sched_yield();
    __atomic_store_n(&b.stop, true, __ATOMIC_RELEASE);
    pthread_join(t, NULL);
    tl_eq(b.failed, false);
    xc_sr_channel_fini(&ch);
    close(fds[0]);
    close(fds[1]);
}

struct one_beat {
    colo_time deadline;
    struct xc_sr_channel *ch;
    struct colo_err err;
    int rc;
};

static void *beat_once(void *priv)
{
    struct one_beat *b = priv;

    b->rc = xc_sr_write_simple(b->ch, XC_SR_REC_COLO_HEARTBEAT,
                               &(struct xc_sr_rec_tag){.checkpoint = 1},
                               sizeof(struct xc_sr_rec_tag), b->deadline, &b->err);
    return NULL;
}

/* There was room, but while the heartbeat waited for the lock the room went: it lets go again. */
static void test_a_heartbeat_without_room_lets_go_of_the_lock(void **state)
{
    static unsigned char fill[1 << 16];
    struct xc_sr_channel ch;
    struct one_beat b = {.ch = &ch, .deadline = colo_now() + 2000 * COLO_MS};
    int fds[2], cancel = eventfd(1, EFD_CLOEXEC); /* which is the reading thread's business */
    pthread_t t;

    (void)state;
    tl_socketpair(fds, 1);
    tl_ok(xc_sr_channel_init(&ch, fds[0], fds[0], cancel, &err), &err);
    pthread_mutex_lock(&ch.wlock);
    pthread_create(&t, NULL, beat_once, &b);
    while (__atomic_load_n(&ch.wlock.__data.__lock, __ATOMIC_RELAXED) !=
           2) /* glibc: somebody waits */
        sched_yield();
    while (send(fds[0], fill, sizeof(fill), MSG_DONTWAIT) > 0)
        ;
    pthread_mutex_unlock(&ch.wlock);
    for (int i = 0; i < 2000; i++) {
        tl_eq(xc_sr_lock_until(&ch.wlock, colo_now() + 10000 * COLO_MS), 0);
        pthread_mutex_unlock(&ch.wlock);
        sched_yield();
    }
    pthread_join(t, NULL);
    tl_fails(b.rc, &b.err, COLO_ERR_TIMEOUT);
    assert_false(ch.wspoilt);
    xc_sr_channel_fini(&ch);
    close(fds[0]);
    close(fds[1]);
    close(cancel);
}

/* A writer that holds the lock for long: the reading thread's own write goes on listening. */
static void test_waiting_for_the_lock_listens(void **state)
{
    struct xc_sr_channel ch;
    int fds[2];

    (void)state;
    tl_socketpair(fds, 1);
    tl_ok(xc_sr_channel_init(&ch, fds[0], fds[0], -1, &err), &err);
    pthread_mutex_lock(&ch.wlock);
    tl_fails(xc_sr_write_simple(&ch, 1, NULL, 0, colo_now() + 30 * COLO_MS, &err), &err,
             COLO_ERR_TIMEOUT);
    ch.silence = 30 * COLO_MS;
    tl_fails(xc_sr_write_simple(&ch, 1, NULL, 0, tl_soon(), &err), &err, COLO_ERR_PEER_SILENT);
    shutdown(fds[1], SHUT_WR);
    tl_fails(xc_sr_write_simple(&ch, 1, NULL, 0, tl_soon(), &err), &err, COLO_ERR_PEER_EOF);
    pthread_mutex_unlock(&ch.wlock);
    xc_sr_channel_fini(&ch);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_stay_whole_among_heartbeats),
        cmocka_unit_test(test_a_stuck_heartbeat_keeps_nobody),
        cmocka_unit_test(test_a_heartbeat_without_room_lets_go_of_the_lock),
        cmocka_unit_test(test_waiting_for_the_lock_listens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
