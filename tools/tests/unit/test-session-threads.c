/* SPDX-License-Identifier: GPL-2.0-only */
/* Whole sessions, and their ends that leave the guest where it is. */
#include "sessionlib.h"

static void test_thirty_checkpoints_keep_the_copies_equal(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, 30);
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_CANCELLED);
    tl_eq(t.q.err.cls, COLO_ERR_STOPPED);
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    assert_true(t.q.s.shared->status.verified >= 30);
    assert_true(t.writes >= 29);
    sl_assert_primary_runs(&t);
    sl_close(&t);
}

static uint64_t session_bytes(void)
{
    struct sl_pair t;
    uint64_t n;

    sl_open(&t, NULL, NULL, 4);
    sl_run(&t);
    n = tl_link_count(t.link, 0);
    sl_close(&t);
    return n;
}

static void test_a_stream_that_ends_anywhere_leaves_the_guest_running(void **state)
{
    uint64_t total = session_bytes();

    (void)state;
    for (unsigned int i = 0; i < 40; i++) {
        struct tl_rule rule = TL_PERFECT;
        struct sl_pair t;

        rule.cut_at = total * i / 40;
        sl_open(&t, &rule, NULL, 4);
        sl_silence(&t, 200);
        sl_run(&t);
        sl_assert_primary_runs(&t);
        assert_int_not_equal(t.q.end, COLO_RESTORE_TAKEN);
        assert_false(t.became_guest);
        sl_close(&t);
    }
}

static void test_a_dead_secondary_leaves_the_guest_running(void **state)
{
    (void)state;
    for (unsigned int i = 0; i < 20; i++) {
        struct tl_rule rule = TL_PERFECT;
        struct sl_pair t;

        rule.cut_at = 40 * i;
        sl_open(&t, NULL, &rule, 1000);
        sl_run(&t);
        sl_assert_primary_runs(&t);
        assert_int_not_equal(t.p.err.cls, COLO_OK);
        sl_close(&t);
    }
}

static void test_a_failing_secondary_says_why(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, 1000);
    xc_sr_mem_fail_op(t.q.s.dom, "devices_load", 3);
    sl_run(&t);
    sl_assert_primary_runs(&t);
    tl_eq(t.p.err.cls, COLO_ERR_STOPPED);
    tl_has(t.p.err.msg, "device state");
    tl_eq(t.q.end, COLO_RESTORE_FAILED);
    sl_close(&t);
}

static void test_a_guest_that_cannot_be_suspended_ends_in_good_order(void **state)
{
    struct sl_pair t;

    (void)state;
    sl_open(&t, NULL, NULL, 1000);
    xc_sr_mem_fail_op(t.p.s.dom, "suspend", 3);
    sl_run(&t);
    tl_eq(t.p.err.cls, COLO_ERR_LOCAL);
    tl_eq(t.q.end, COLO_RESTORE_YIELD);
    sl_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thirty_checkpoints_keep_the_copies_equal),
        cmocka_unit_test(test_a_stream_that_ends_anywhere_leaves_the_guest_running),
        cmocka_unit_test(test_a_dead_secondary_leaves_the_guest_running),
        cmocka_unit_test(test_a_failing_secondary_says_why),
        cmocka_unit_test(test_a_guest_that_cannot_be_suspended_ends_in_good_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
