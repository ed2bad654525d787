/* SPDX-License-Identifier: GPL-2.0-only */
/* The way to the other host: what comes before a session, and that nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../xl/xl_colo_progress.c"
#include "../../xl/xl_colo_transport.c"

#define BANNER "printf 'xl migration receiver ready, send binary domain data.\\n'; "

static struct colo_err error;

static int dial(struct xl_transport *t, const char *command, int cancel_fd)
{
    colo_err_clear(&error);
    return xl_transport_open(t, "", command, "", cancel_fd, &error);
}

static void refused(const char *command, const char *reason, const char *why)
{
    struct xl_transport t;

    assert_int_equal(dial(&t, command, -1), -1);
    assert_string_equal(error.reason, reason);
    if (!strstr(error.msg, why))
        fail_msg("\"%s\" does not say \"%s\"", error.msg, why);
    assert_int_equal(t.pid, 0);
    assert_true(t.rfd == -1 && t.wfd == -1 && t.pidfd == -1);
}

static void test_what_follows_the_banner_is_the_sessions(void **state)
{
    struct xl_transport t;
    char buf[8];

    (void)state;
    assert_int_equal(dial(&t, BANNER "exec cat", -1), 0);
    assert_int_equal(write(t.wfd, "hello", 5), 5);
    assert_int_equal(read(t.rfd, buf, 5), 5);
    assert_memory_equal(buf, "hello", 5);
    xl_transport_close(&t);
    assert_int_equal(t.pid, 0);
    xl_transport_close(&t);
}

static void test_rune_is_stocks(void **state)
{
    struct xl_transport t;
    char buf[100] = "";

    (void)state;
    colo_err_clear(&error);
    /* The "ssh" prints the banner and then its arguments. */
    assert_int_equal(xl_transport_open(&t,
                                       "sh -c '"
                                       "printf \"xl migration receiver ready, send "
                                       "binary domain data.\\n\"; echo \"$@\"' sh",
                                       "beta", " -e", -1, &error),
                     0);
    assert_true(read(t.rfd, buf, sizeof(buf) - 1) > 0);
    assert_string_equal(buf, "beta xl migrate-receive --colo -e\n");
    xl_transport_close(&t);
}

static void test_something_else_is_quoted(void **state)
{
    (void)state;
    refused("printf 'Welcome\\033 to beta\\n'; cat", "no-receiver", "\"Welcome? to beta\"");
    refused("printf 'xl migration rec'", "no-receiver", "\"xl migration rec\"");
    refused("head -c 100000 /dev/zero", "no-receiver", "\"????");
}

static void test_no_receiver(void **state)
{
    (void)state;
    refused("exit 255", "no-connection", "cannot be reached");
    refused("exec /nonexistent/ssh 2>/dev/null", "no-receiver", "install xen-colo");
    refused("exit 3", "no-receiver", "exit status 3");
}

static void test_cancel(void **state)
{
    struct xl_transport t;
    int fd = eventfd(1, 0);

    (void)state;
    assert_int_equal(dial(&t, "exec cat", fd), -1);
    assert_int_equal(error.cls, COLO_ERR_CANCELLED);
    close(fd);
}

static void test_a_stubborn_child_is_killed_with_its_group(void **state)
{
    struct xl_transport t;
    char buf[16] = "";
    pid_t grandchild;

    (void)state;
    assert_int_equal(dial(&t, "trap '' TERM; " BANNER "sleep 1000 & echo $!; wait; wait", -1), 0);
    assert_true(read(t.rfd, buf, sizeof(buf) - 1) > 0);
    grandchild = (pid_t)strtol(buf, NULL, 10);
    assert_true(grandchild > 1);
    assert_int_equal(kill(grandchild, 0), 0);
    xl_transport_close(&t);
    assert_int_equal(t.pid, 0);
    /* Dead at once; gone when whoever inherited it has reaped it. */
    assert_true(kill(grandchild, 0) < 0 || getpgid(grandchild) >= 0);
}

static void test_progress_line(void **state)
{
    struct xc_sr_precopy_progress p = {.iteration = 0, .iter_pages = 32768, .iter_done = 8192};
    char buf[300];

    (void)state;
    xl_progress_line(buf, sizeof(buf), 80, false, &p, INT64_C(2000000000));
    assert_string_equal(buf, "first sync, round 1:  25 %  16.8 MB/s  0:06 left");
    xl_progress_line(buf, sizeof(buf), 80, true, &p, INT64_C(2000000000));
    assert_string_equal(buf,
                        "first sync, round 1: [#####               ]  25 %  16.8 MB/s  0:06 left");
    xl_progress_line(buf, sizeof(buf), 20, true, &p, INT64_C(2000000000));
    assert_string_equal(buf, "first sync, round 1:  25 %  16.8 MB/s  0:06 left");
    p.iter_done = 0;
    xl_progress_line(buf, sizeof(buf), 80, false, &p, 0);
    assert_string_equal(buf, "first sync, round 1:   0 %  0.0 MB/s  -:-- left");
    p = (struct xc_sr_precopy_progress){.iteration = 4};
    xl_progress_line(buf, sizeof(buf), 200, true, &p, 1);
    assert_non_null(strstr(buf, "round 5: ["));
    p = (struct xc_sr_precopy_progress){.iter_pages = 1 << 24, .iter_done = 1000};
    xl_progress_line(buf, sizeof(buf), 80, false, &p, INT64_C(1000000000));
    assert_non_null(strstr(buf, "4:39:36 left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_follows_the_banner_is_the_sessions),
        cmocka_unit_test(test_rune_is_stocks),
        cmocka_unit_test(test_something_else_is_quoted),
        cmocka_unit_test(test_no_receiver),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_a_stubborn_child_is_killed_with_its_group),
        cmocka_unit_test(test_progress_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
