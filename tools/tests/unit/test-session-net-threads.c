/* SPDX-License-Identifier: GPL-2.0-only */
/* When a session tells its network what: nothing is let out that the other copy could not carry on from. */
#include "sessionlib.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The last word of each side about checkpoint N, in the order in which they have to come. */
enum word { NOTHING, P_HOLD, S_HOLD, S_COMMIT, P_COMMIT };

static struct sl_pair t;
static struct net {
    pthread_mutex_t lock;
    uint64_t checkpoint;
    bool said[P_COMMIT + 1];
    unsigned int commits, wrong;
    atomic_bool wanted, broken;
    unsigned int fail_commit; /* the primary's, at this one */
} net = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void note(enum word w, uint64_t n, bool suspended)
{
    pthread_mutex_lock(&net.lock);
    if (n != net.checkpoint) {
        /* a new one: the last must have been complete */
        net.wrong += n != net.checkpoint + 1 || (n > 1 && !net.said[P_COMMIT]);
        net.checkpoint = n;
        memset(net.said, 0, sizeof(net.said));
    }
    net.wrong += net.said[w];
    net.said[w] = true;
    /* suspended at the commits and only there (the second copy of the first checkpoint always is) */
    net.wrong += suspended != (w >= S_COMMIT) && !(w == S_HOLD && n == 1);
    if (w == S_COMMIT)
        net.wrong += !net.said[P_HOLD] || !net.said[S_HOLD];
    if (w == P_COMMIT) {
        net.wrong += !net.said[S_COMMIT];
        net.commits++;
    }
    pthread_mutex_unlock(&net.lock);
}

static int p_hold(void *priv, uint64_t n, struct colo_err *err)
{
    (void)priv;
    (void)err;
    note(P_HOLD, n, xc_sr_mem_is_suspended(t.p.s.dom));
    return 0;
}

static int s_hold(void *priv, uint64_t n, struct colo_err *err)
{
    (void)priv;
    (void)err;
    note(S_HOLD, n, xc_sr_mem_is_suspended(t.q.s.dom));
    return 0;
}

static int p_commit(void *priv, uint64_t n, struct colo_err *err)
{
    (void)priv;
    if (n == net.fail_commit)
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-gone", "as the test wants it");
    note(P_COMMIT, n, xc_sr_mem_is_suspended(t.p.s.dom));
    return 0;
}

static int s_commit(void *priv, uint64_t n, struct colo_err *err)
{
    (void)priv;
    (void)err;
    note(S_COMMIT, n, xc_sr_mem_is_suspended(t.q.s.dom));
    return 0;
}

static int p_event(void *priv, bool *wanted, struct colo_err *err)
{
    (void)priv;
    if (net.broken)
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-link", "as the test wants it");
    *wanted = net.wanted;
    return 0;
}

static void begin(unsigned int checkpoints)
{
    sl_open(&t, NULL, NULL, checkpoints);
    net.checkpoint = net.commits = net.wrong = net.fail_commit = 0;
    memset(net.said, 0, sizeof(net.said));
    net.wanted = net.broken = false;
    t.p.s.hooks.net_hold = p_hold;
    t.p.s.hooks.net_commit = p_commit;
    t.p.s.hooks.net_event = p_event;
    t.q.s.hooks.net_hold = s_hold;
    t.q.s.hooks.net_commit = s_commit;
}

static void test_order_of_every_checkpoint(void **state)
{
    (void)state;
    begin(20);
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_CANCELLED);
    tl_eq(net.wrong, 0);
    assert_true(net.commits >= 20);
    sl_assert_primary_runs(&t);
    sl_close(&t);
}

static void test_a_difference_triggers_checkpoints(void **state)
{
    (void)state;
    begin(10);
    t.p.s.config.interval_max_ms = 60000;
    t.p.s.config.interval_min_ms = 1; /* or there would be no turn of the loop to end it in */
    net.wanted = true;
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_CANCELLED);
    assert_true(t.p.s.shared->status.triggers[COLO_TRIGGER_DIVERGENCE] >= 9);
    tl_eq(t.p.s.shared->status.triggers[COLO_TRIGGER_PERIOD], 0);
    tl_eq(net.wrong, 0);
    sl_close(&t);
}

static void test_a_broken_comparison_ends_protection(void **state)
{
    (void)state;
    begin(1000);
    net.broken = true;
    sl_run(&t);
    tl_str_eq(t.p.err.reason, "proxy-link");
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    sl_assert_primary_runs(&t);
    sl_close(&t);
}

/* The guest goes on here; the other copy, which was ready, must not. */
static void test_a_commit_that_fails(void **state)
{
    (void)state;
    begin(1000);
    net.fail_commit = 3;
    sl_run(&t);
    tl_str_eq(t.p.err.reason, "proxy-gone");
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    tl_eq(net.commits, 2);
    sl_assert_primary_runs(&t);
    sl_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_every_checkpoint),
        cmocka_unit_test(test_a_difference_triggers_checkpoints),
        cmocka_unit_test(test_a_broken_comparison_ends_protection),
        cmocka_unit_test(test_a_commit_that_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
