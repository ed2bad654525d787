/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Errors: filled once, cut rather than overrun, and times for poll.
 */
#include "testlib.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static void test_fail_fills_everything(void **state)
{
    struct colo_err e;

    (void)state;
    colo_err_clear(&e);
    tl_eq(e.cls, COLO_OK);
    tl_eq(colo_fail(&e, COLO_ERR_REFUSED, "not-hvm", "guest %d is %s", 3, "PV"), -1);
    tl_eq(e.cls, COLO_ERR_REFUSED);
    tl_str_eq(e.reason, "not-hvm");
    tl_str_eq(e.msg, "guest 3 is PV");
    tl_eq(colo_fail_errno(&e, ENOSPC, "writing %s", "f"), -1);
    tl_eq(e.cls, COLO_ERR_LOCAL);
    tl_str_eq(e.reason, "local");
    tl_str_eq(e.msg, "writing f: No space left on device");
    tl_eq(colo_err_prefix(&e, "checkpoint %d", 9), -1);
    tl_str_eq(e.msg, "checkpoint 9: writing f: No space left on device");
    tl_eq(e.cls, COLO_ERR_LOCAL);
    colo_err_clear(&e);
    tl_eq(e.cls, COLO_OK);
    tl_str_eq(e.msg, "");
}

static void test_nobody_wants_the_error(void **state)
{
    (void)state;
    tl_eq(colo_fail(NULL, COLO_ERR_LOCAL, NULL, "x"), -1);
    tl_eq(colo_fail_errno(NULL, EIO, "x"), -1);
    tl_eq(colo_err_prefix(NULL, "x"), -1);
    colo_err_clear(NULL);
}

static void test_long_texts_are_cut(void **state)
{
    char text[2000];
    struct colo_err e;

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    colo_fail(&e, COLO_ERR_PROTOCOL, text, "%s", text);
    tl_eq(strlen(e.reason), sizeof(e.reason) - 1);
    tl_eq(strlen(e.msg), sizeof(e.msg) - 1);
    colo_err_prefix(&e, "%s", "p");
    tl_eq(strlen(e.msg), sizeof(e.msg) - 1);
    tl_eq(strncmp(e.msg, "p: aaa", 6), 0);
    colo_err_prefix(&e, "%s", text);
    tl_eq(strlen(e.msg), sizeof(e.msg) - 1);
    colo_fail_errno(&e, EIO, "%s", text);
    tl_eq(strlen(e.msg), sizeof(e.msg) - 1);
}

static void test_every_class_has_its_own_name(void **state)
{
    (void)state;
    for (int a = COLO_OK; a <= COLO_ERR_STOPPED; a++) {
        struct colo_err e;

        colo_fail(&e, (enum colo_err_class)a, NULL, "x");
        tl_str_eq(e.reason, colo_err_class_name((enum colo_err_class)a));
        for (int b = COLO_OK; b < a; b++)
            assert_string_not_equal(colo_err_class_name((enum colo_err_class)a),
                                    colo_err_class_name((enum colo_err_class)b));
    }
    tl_str_eq(colo_err_class_name((enum colo_err_class)99), "?");
}

static void test_times_for_poll(void **state)
{
    colo_time before = colo_now();
    int ms;

    (void)state;
    tl_eq(colo_poll_ms(COLO_NO_DEADLINE), -1);
    tl_eq(colo_poll_ms(0), 0);
    tl_eq(colo_poll_ms(before), 0);
    tl_eq(colo_poll_ms(COLO_NO_DEADLINE - 1), INT_MAX);
    ms = colo_poll_ms(colo_now() + 100000 * COLO_MS);
    assert_true(ms > 90000 && ms <= 100000);
    /* never 0 before the deadline: a caller would spin */
    ms = colo_poll_ms(colo_now() + 3600 * 1000 * COLO_MS + 1);
    assert_true(ms > 3500 * 1000);
    assert_true(colo_now() >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_fills_everything),
        cmocka_unit_test(test_nobody_wants_the_error),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_every_class_has_its_own_name),
        cmocka_unit_test(test_times_for_poll),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
