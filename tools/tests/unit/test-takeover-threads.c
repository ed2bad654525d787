/* SPDX-License-Identifier: GPL-2.0-only */
/* When the secondary's copy becomes the guest, out of what, and when it must not. */
#include "sessionlib.h"

#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECKPOINTS 4

static uint64_t session_bytes(void)
{
    struct sl_pair t;
    uint64_t n;

    sl_open(&t, NULL, NULL, CHECKPOINTS);
    sl_run(&t);
    n = tl_link_count(t.link, 0);
    sl_close(&t);
    return n;
}

/* The link swallows all from a byte on; true when the copy took over. */
static bool silent_from(uint64_t at)
{
    struct tl_rule rule = TL_PERFECT;
    struct sl_pair t;
    bool taken;

    rule.hole_at = at;
    sl_open(&t, &rule, NULL, CHECKPOINTS);
    sl_silence(&t, 200);
    sl_run(&t);
    sl_assert_primary_runs(&t);
    taken = t.q.end == COLO_RESTORE_TAKEN;
    if (taken)
        sl_assert_taken(&t);
    else
        assert_false(t.became_guest);
    if (t.q.s.shared->status.checkpoints == 0)
        assert_false(taken);
    else if (t.q.err.cls == COLO_ERR_PEER_SILENT)
        assert_true(taken);
    sl_close(&t);
    return taken;
}

static void test_silence_after_the_first_image_is_a_takeover(void **state)
{
    uint64_t total = session_bytes();
    unsigned int taken = 0;

    (void)state;
    for (unsigned int i = 1; i < 16; i++)
        taken += silent_from(total * i / 16);
    assert_true(taken > 0);
}

/* In lock-step after this many checkpoints, or in the middle of a checkpoint. */
static void freezes(struct sl_pair *t, unsigned int after, unsigned int in)
{
    sl_open(t, NULL, NULL, after ? after : UINT_MAX);
    t->stop = SL_FREEZE;
    t->freeze_in = in;
}

static void test_a_primary_that_freezes_is_taken_over(void **state)
{
    static const unsigned int when[][2] = {{1, 0}, {3, 0}, {0, 2}, {0, 3}};
    struct sl_pair t;

    (void)state;
    for (size_t i = 0; i < sizeof(when) / sizeof(when[0]); i++) {
        freezes(&t, when[i][0], when[i][1]);
        sl_run(&t);
        tl_eq(t.q.err.cls, COLO_ERR_PEER_SILENT);
        sl_assert_taken(&t);
        tl_eq(t.q.s.shared->status.checkpoints, when[i][0] ? when[i][0] : when[i][1] - 1);
        tl_str_eq(t.q.s.shared->status.policy, "took over: the primary is silent");
        sl_assert_primary_runs(&t);
        sl_close(&t);
    }
}

/* The copy goes: nothing of it is the guest's, and its host will destroy it. */
static void assert_yields(struct sl_pair *t)
{
    const struct colo_recovery *rec = &t->q.s.shared->recovery;

    tl_eq(t->q.end, COLO_RESTORE_YIELD);
    assert_false(t->became_guest);
    assert_true(rec->destroy);
    assert_false(rec->restore_name);
    tl_has(t->q.s.shared->status.policy, "the copy was destroyed");
    assert_int_not_equal(t->q.s.shared->status.state, COLO_STATE_TAKEOVER);
    sl_assert_primary_runs(t);
}

static void test_on_silence_stop_the_copy_goes(void **state)
{
    static const unsigned int when[][2] = {{2, 0}, {0, 3}};
    struct sl_pair t;

    (void)state;
    for (size_t i = 0; i < sizeof(when) / sizeof(when[0]); i++) {
        freezes(&t, when[i][0], when[i][1]);
        t.q.s.config.takeover_on_silence = false;
        sl_run(&t);
        tl_eq(t.q.err.cls, COLO_ERR_PEER_SILENT);
        assert_yields(&t);
        sl_close(&t);
    }
}

static void test_half_a_first_image_is_no_guest(void **state)
{
    struct sl_pair t;

    (void)state;
    freezes(&t, 0, 1);
    sl_run(&t);
    tl_eq(t.q.err.cls, COLO_ERR_PEER_SILENT);
    tl_eq(t.q.end, COLO_RESTORE_FAILED);
    assert_false(t.became_guest);
    assert_true(t.q.s.shared->recovery.destroy);
    sl_assert_primary_runs(&t);
    sl_close(&t);
}

/* Whatever the policy on silence: the operator knows. */
static void test_an_operator_takes_over_although_the_stream_is_open(void **state)
{
    struct sl_pair t;

    (void)state;
    for (int policy = 0; policy < 2; policy++) {
        sl_open(&t, NULL, NULL, 2);
        t.stop = SL_FAILOVER;
        t.q.s.config.takeover_on_silence = policy;
        sl_run(&t);
        tl_str_eq(t.q.err.reason, "operator-failover");
        sl_assert_taken(&t);
        tl_str_eq(t.q.s.shared->status.policy, "took over: an operator's word");
        assert_true(t.q.s.shared->status.checkpoints >= 2);
        tl_str_eq(t.p.err.reason, COLO_STOP_TAKEN); /* the primary was alive after all */
        sl_assert_primary_runs(&t);
        sl_close(&t);
    }
}

/* The primary notices that its disks' connections were cut before it is told why. */
static int taken_over_by_now(void *disks, struct colo_err *err)
{
    struct sl_pair *t = disks;

    if (t->stop_at != UINT_MAX) /* the operator's word is on its way */
        return 0;
    return colo_fail(err, COLO_ERR_LOCAL, "disk-mirror", "the copy was ended");
}

static void test_a_takeover_that_is_noticed_before_it_is_told(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, 2);
    t.stop = SL_FAILOVER;
    t.p.s.hooks.disks = &t;
    t.p.s.hooks.disk_check = taken_over_by_now;
    sl_run(&t);
    sl_assert_taken(&t);
    tl_str_eq(t.p.err.reason, COLO_STOP_TAKEN);
    sl_assert_primary_runs(&t); /* stands still, that is */
    sl_close(&t);
}

static void test_an_operators_stop_at_the_secondary_ends_the_session(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, 2);
    t.stop = SL_STOP;
    sl_run(&t);
    tl_str_eq(t.q.err.reason, "operator-stop");
    assert_yields(&t);
    tl_eq(t.p.err.cls, COLO_ERR_STOPPED);
    tl_str_eq(t.p.err.reason, "operator-stop");
    sl_close(&t);
}

/* What cannot be done now is left to the monitor; the last copy is never given up. */
static void test_a_takeover_that_cannot_resume_keeps_the_copy(void **state)
{
    struct sl_pair t;

    (void)state;
    freezes(&t, 0, 3);
    xc_sr_mem_fail_op(t.q.s.dom, "resume", 3); /* the first run, checkpoint 2, and now */
    sl_run(&t);
    tl_eq(t.q.err.cls, COLO_ERR_PEER_SILENT);
    tl_eq(t.q.end, COLO_RESTORE_TAKEN);
    assert_true(t.became_guest);
    assert_true(t.q.s.shared->recovery.suspended);
    assert_true(t.q.s.shared->recovery.restore_name);
    assert_false(t.q.s.shared->recovery.destroy);
    sl_close(&t);
}

static int socket_that_hung_up(void)
{
    int fds[2];

    tl_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    close(fds[1]);
    return fds[0];
}

static void test_a_primary_without_device_model_hands_over(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, UINT_MAX);
    t.p.s.hooks.dm_fd = socket_that_hung_up(); /* looked at from the first lock-step on */
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_STOPPED);
    tl_str_eq(t.p.err.reason, COLO_STOP_TAKEN);
    tl_str_eq(t.q.err.reason, COLO_STOP_BROKEN);
    sl_assert_taken(&t);
    assert_true(xc_sr_mem_is_suspended(t.p.s.dom));
    sl_assert_primary_runs(&t);
    close(t.p.s.hooks.dm_fd);
    sl_close(&t);
}

static void test_a_secondary_without_device_model_is_of_no_use(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, UINT_MAX);
    t.q.s.hooks.dm_fd = socket_that_hung_up();
    sl_run(&t);
    tl_str_eq(t.q.err.reason, "qmp-gone");
    tl_eq(t.q.end, COLO_RESTORE_FAILED);
    tl_str_eq(t.p.err.reason, "qmp-gone");
    tl_eq(t.p.err.cls, COLO_ERR_STOPPED);
    sl_assert_primary_runs(&t);
    close(t.q.s.hooks.dm_fd);
    sl_close(&t);
}

/* It said goodbye while the secondary was staging, and takes its time to leave: that is no silence. */
static void test_a_goodbye_in_the_middle_of_a_checkpoint_is_heard(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, UINT_MAX);
    sl_silence(&t, 100);
    t.linger_ms = 400;
    xc_sr_mem_fail_op(t.p.s.dom, "suspend", 3);
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_LOCAL);
    tl_eq(t.q.err.cls, COLO_ERR_STOPPED);
    assert_yields(&t);
    sl_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_after_the_first_image_is_a_takeover),
        cmocka_unit_test(test_a_primary_that_freezes_is_taken_over),
        cmocka_unit_test(test_on_silence_stop_the_copy_goes),
        cmocka_unit_test(test_half_a_first_image_is_no_guest),
        cmocka_unit_test(test_an_operator_takes_over_although_the_stream_is_open),
        cmocka_unit_test(test_a_takeover_that_is_noticed_before_it_is_told),
        cmocka_unit_test(test_an_operators_stop_at_the_secondary_ends_the_session),
        cmocka_unit_test(test_a_takeover_that_cannot_resume_keeps_the_copy),
        cmocka_unit_test(test_a_primary_without_device_model_hands_over),
        cmocka_unit_test(test_a_secondary_without_device_model_is_of_no_use),
        cmocka_unit_test(test_a_goodbye_in_the_middle_of_a_checkpoint_is_heard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
