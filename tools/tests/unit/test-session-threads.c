/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whole sessions, both sides, on mem domains over a link that can be cut: no Xen needed.
 *
 * Every session runs in verify mode, so each checkpoint proves both copies equal; the guests of
 * both sides write between checkpoints, and what the secondary's wrote must be undone.
 */
#include "testlib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxl_colo_session.h"

#define GUEST_GFNS 300
#define GUEST_RAM  256

struct side {
    struct colo_session s;
    struct colo_err err;
    enum colo_restore_end end; /* secondary */
    pthread_t thread;
};

struct pair {
    struct tl_link *link;
    struct side p, q;
    int cancel_fd;        /* the primary's */
    int event_fd;         /* always readable: the primary's hook runs at each turn of its loop */
    unsigned int stop_at; /* checkpoints after which the primary is cancelled */
    unsigned int writes;
    atomic_uint runs; /* how often the secondary's copy was let run */
    bool became_guest;
    uint64_t rng;
};

static void scribble(struct xc_sr_domain *d, uint64_t *rng, unsigned int n)
{
    while (n--) {
        uint64_t v = tl_rand(rng);

        xc_sr_mem_guest_write(d, tl_below(rng, GUEST_RAM), tl_below(rng, 4096 - 8), &v, sizeof(v));
    }
}

/* The primary's guest between checkpoints. */
static int primary_event(void *priv, struct colo_err *err)
{
    struct pair *t = priv;
    uint64_t one = 1, context[64];

    (void)err;
    if (t->p.s.shared->status.checkpoints >= t->stop_at)
        assert_int_equal(write(t->cancel_fd, &one, sizeof(one)), sizeof(one));
    scribble(t->p.s.dom, &t->rng, 1);
    tl_fill(&t->rng, context, sizeof(context));
    xc_sr_mem_set_devices(t->p.s.dom, context, sizeof(context));
    t->writes++;
    return 0;
}

static int secondary_first_run(void *priv, struct colo_err *err)
{
    struct pair *t = priv;
    uint64_t rng = 77;

    if (t->q.s.dom->ops->resume(t->q.s.dom, err))
        return -1;
    atomic_fetch_add(&t->runs, 1);
    scribble(t->q.s.dom, &rng, 5);
    return 0;
}

static int secondary_become_guest(void *priv, struct colo_err *err)
{
    struct pair *t = priv;

    (void)err;
    t->became_guest = true;
    return 0;
}

static struct xc_sr_domain *new_domain(uint64_t ram)
{
    struct xc_sr_mem_config cfg = {.nr_gfns = GUEST_GFNS, .populated = ram};
    struct xc_sr_domain *d;
    struct colo_err e = {0};

    tl_ok(xc_sr_domain_mem_open(&cfg, &d, &e), &e);
    return d;
}

static void side_init(struct side *x, enum colo_role role, struct pair *t, int end)
{
    struct colo_session *s = &x->s;
    struct colo_err e = {0};

    memset(x, 0, sizeof(*x));
    s->role = role;
    colo_config_defaults(&s->config);
    s->config.interval_max_ms = 1;
    s->config.interval_min_ms = 0;
    s->config.heartbeat_ms = 10;
    s->config.heartbeat_misses = 50;
    s->config.verify_every = 1;
    s->shared = colo_shared_new(&e);
    assert_non_null(s->shared);
    s->shared->status.role = role;
    s->hb.stop_fd = -1;
    s->hooks.priv = t;
    s->hooks.event_fd = role == COLO_PRIMARY ? t->event_fd : -1;
    if (role == COLO_PRIMARY) {
        s->hooks.guest_event = primary_event;
    } else {
        s->hooks.first_run = secondary_first_run;
        s->hooks.become_guest = secondary_become_guest;
    }
    s->dom = new_domain(role == COLO_PRIMARY ? GUEST_RAM : GUEST_RAM + 8);
    if (role == COLO_SECONDARY) /* built, and not yet run */
        tl_ok(s->dom->ops->suspend(s->dom, tl_soon(), &e), &e);
    s->max_gfns = GUEST_GFNS;
    s->zero_pages = true;
    s->ls.ch = &s->ch;
    s->ls.tags = true;
    s->ls.tag.generation = 1;
    tl_ok(xc_sr_channel_init(&s->ch, tl_link_fd(t->link, end), tl_link_fd(t->link, end),
                             role == COLO_PRIMARY ? t->cancel_fd : -1, &e),
          &e);
    tl_ok(colo_session_alive(s, &e), &e);
}

static void side_fini(struct side *x)
{
    colo_heartbeat_stop(&x->s.hb);
    xc_sr_channel_fini(&x->s.ch);
    x->s.dom->ops->close(x->s.dom);
    colo_shared_free(x->s.shared);
}

/* As the end of the side's process would: no more beats, and the end of its stream. */
static void leave(struct side *x)
{
    colo_heartbeat_stop(&x->s.hb);
    shutdown(x->s.ch.wfd, SHUT_WR);
}

static void *primary_main(void *arg)
{
    struct side *x = arg;

    colo_save_run(&x->s, &x->err);
    leave(x);
    return NULL;
}

static void *secondary_main(void *arg)
{
    struct side *x = arg;

    colo_restore_run(&x->s, &x->end, &x->err);
    leave(x);
    return NULL;
}

static void pair_open(struct pair *t, const struct tl_rule *forward, const struct tl_rule *back,
                      unsigned int stop_at)
{
    memset(t, 0, sizeof(*t));
    t->link = tl_link_open(forward, back);
    t->cancel_fd = eventfd(0, EFD_CLOEXEC);
    t->event_fd = eventfd(1, EFD_CLOEXEC);
    t->stop_at = stop_at;
    t->rng = 4711;
    side_init(&t->p, COLO_PRIMARY, t, 0);
    side_init(&t->q, COLO_SECONDARY, t, 1);
    scribble(t->p.s.dom, &t->rng, 200);
}

static void pair_run(struct pair *t)
{
    assert_int_equal(pthread_create(&t->q.thread, NULL, secondary_main, &t->q), 0);
    assert_int_equal(pthread_create(&t->p.thread, NULL, primary_main, &t->p), 0);
    pthread_join(t->p.thread, NULL);
    pthread_join(t->q.thread, NULL);
}

static void pair_close(struct pair *t)
{
    side_fini(&t->p);
    side_fini(&t->q);
    tl_link_close(t->link);
    close(t->cancel_fd);
    close(t->event_fd);
}

/* The guest of the primary must never be left stopped, whatever the end was, unless the secondary
 * has said that the guest is its own. */
static void assert_primary_runs(struct pair *t)
{
    bool taken = colo_session_peer_said(&t->p.err, COLO_STOP_TAKEN);

    assert_int_equal(xc_sr_mem_is_suspended(t->p.s.dom), taken);
    assert_int_equal(taken && t->q.end != COLO_RESTORE_TAKEN, false);
    assert_false(t->p.s.shared->recovery.suspended);
    assert_false(t->p.s.shared->recovery.logdirty);
}

static void test_thirty_checkpoints_keep_the_copies_equal(void **state)
{
    struct pair t;

    (void)state;
    pair_open(&t, NULL, NULL, 30);
    pair_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_CANCELLED);
    tl_eq(t.q.err.cls, COLO_ERR_STOPPED);
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    assert_true(t.q.s.shared->status.verified >= 30);
    assert_true(t.writes >= 29);
    assert_primary_runs(&t);
    pair_close(&t);
}

/* Cut or silence the forward stream at a byte; returns false when the session outlived it. */
static void broken_forward(uint64_t at, bool silent)
{
    struct tl_rule rule = TL_PERFECT;
    struct pair t;

    if (silent)
        rule.hole_at = at;
    else
        rule.cut_at = at;
    pair_open(&t, &rule, NULL, 4);
    t.p.s.config.heartbeat_misses = 20;
    t.q.s.config.heartbeat_misses = 20;
    t.p.s.ch.silence = t.q.s.ch.silence = 200 * COLO_MS;
    pair_run(&t);
    assert_primary_runs(&t);
    if (!silent || t.q.s.shared->status.checkpoints == 0)
        assert_int_not_equal(t.q.end, COLO_RESTORE_TAKEN);
    if (silent && t.q.s.shared->status.checkpoints > 0 && t.q.err.cls == COLO_ERR_PEER_SILENT) {
        tl_eq(t.q.end, COLO_RESTORE_TAKEN);
        assert_true(t.became_guest);
        assert_false(xc_sr_mem_is_suspended(t.q.s.dom));
        tl_str_eq(colo_state_name(t.q.s.shared->status.state), "TAKEOVER");
    }
    pair_close(&t);
}

static uint64_t session_bytes(void)
{
    struct pair t;
    uint64_t n;

    pair_open(&t, NULL, NULL, 4);
    pair_run(&t);
    n = tl_link_count(t.link, 0);
    pair_close(&t);
    return n;
}

static void test_a_stream_that_ends_anywhere_leaves_the_guest_running(void **state)
{
    uint64_t total = session_bytes();

    (void)state;
    for (unsigned int i = 0; i < 40; i++)
        broken_forward(total * i / 40, false);
}

static void test_silence_after_the_first_image_is_a_takeover(void **state)
{
    uint64_t total = session_bytes();

    (void)state;
    for (unsigned int i = 1; i < 8; i++)
        broken_forward(total * i / 8, true);
}

static void test_a_dead_secondary_leaves_the_guest_running(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < 20; i++) {
        struct tl_rule rule = TL_PERFECT;
        struct pair t;

        rule.cut_at = 40 * i;
        pair_open(&t, NULL, &rule, 1000);
        pair_run(&t);
        assert_primary_runs(&t);
        assert_int_not_equal(t.p.err.cls, COLO_OK);
        pair_close(&t);
    }
}

static void test_a_failing_secondary_says_why(void **state)
{
    struct pair t;

    (void)state;
    pair_open(&t, NULL, NULL, 1000);
    xc_sr_mem_fail_op(t.q.s.dom, "devices_load", 3);
    pair_run(&t);
    assert_primary_runs(&t);
    tl_eq(t.p.err.cls, COLO_ERR_STOPPED);
    tl_has(t.p.err.msg, "device state");
    tl_eq(t.q.end, COLO_RESTORE_FAILED);
    pair_close(&t);
}

static void test_a_guest_that_cannot_be_suspended_ends_in_good_order(void **state)
{
    struct pair t;

    (void)state;
    pair_open(&t, NULL, NULL, 1000);
    xc_sr_mem_fail_op(t.p.s.dom, "suspend", 3);
    pair_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_LOCAL);
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    pair_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thirty_checkpoints_keep_the_copies_equal),
        cmocka_unit_test(test_a_stream_that_ends_anywhere_leaves_the_guest_running),
        cmocka_unit_test(test_silence_after_the_first_image_is_a_takeover),
        cmocka_unit_test(test_a_dead_secondary_leaves_the_guest_running),
        cmocka_unit_test(test_a_failing_secondary_says_why),
        cmocka_unit_test(test_a_guest_that_cannot_be_suspended_ends_in_good_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
