/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory that a session shares with its monitor. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "libxl_colo_shared.h"

static int setup(void **state)
{
    struct colo_err err;

    *state = colo_shared_new(&err);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    colo_shared_free(*state);
    return 0;
}

static void test_starts_in_init_with_nothing_to_recover(void **state)
{
    struct colo_shared *sh = *state;
    struct colo_status st;

    colo_status_read(sh, &st);
    assert_int_equal(st.state, COLO_STATE_INIT);
    assert_true(st.started_wall > 0);
    assert_string_equal(st.network, "pass");
    assert_string_equal(st.disks, "none");
    assert_int_equal(sh->recovery.domid, 0);
    assert_false(sh->recovery.destroy);
    assert_false(sh->recovery.needs_monitor);
}

static void test_the_other_process_sees_what_was_written(void **state)
{
    struct colo_shared *sh = *state;
    struct colo_status st;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        colo_status_begin(sh)->checkpoints = 77;
        colo_status_end(sh);
        colo_state_set(sh, COLO_STATE_PRECOPY);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    colo_status_read(sh, &st);
    assert_int_equal(st.checkpoints, 77);
    assert_int_equal(st.state, COLO_STATE_PRECOPY);
}

static void busy(int n)
{
    volatile int i;

    for (i = 0; i < n; i++)
        ;
}

/* A writer keeps two fields equal; a reader that ever sees them differ saw a torn status. */
static void test_a_read_is_never_torn(void **state)
{
    struct colo_shared *sh = *state;
    struct colo_status st;
    uint64_t i, seen = 0;
    int torn = 0;
    pid_t pid = fork();

    if (pid == 0) {
        for (i = 1;; i++) {
            struct colo_status *w = colo_status_begin(sh);

            w->generation = i;
            busy(500);
            w->verified = i;
            colo_status_end(sh);
            busy(5000); /* a session does not write all the time either */
        }
    }
    for (i = 0; i < 20000; i++) {
        colo_status_read(sh, &st);
        torn += st.generation != st.verified;
        seen = st.generation;
    }
    /* Until the writer has been seen at work, nothing was proved. */
    while (!seen) {
        colo_status_read(sh, &st);
        torn += st.generation != st.verified;
        seen = st.generation;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(torn, 0);
}

static void test_a_writer_killed_half_way_does_not_lock_out_the_next(void **state)
{
    struct colo_shared *sh = *state;
    struct colo_status st;
    pid_t pid = fork();

    if (pid == 0) {
        colo_status_begin(sh)->verified = 1;
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(atomic_load(&sh->seq) & 1, 1);
    colo_status_read(sh, &st); /* possibly torn, but it returns */
    colo_status_begin(sh)->verified = 2;
    assert_int_equal(atomic_load(&sh->seq) & 1, 1);
    colo_status_end(sh);
    assert_int_equal(atomic_load(&sh->seq) & 1, 0);
    colo_status_read(sh, &st);
    assert_int_equal(st.verified, 2);
}

static void test_state_is_set_between_begin_and_end_too(void **state)
{
    struct colo_shared *sh = *state;

    colo_status_begin(sh);
    colo_state_set(sh, COLO_STATE_PRECOPY);
    assert_int_equal(atomic_load(&sh->seq) & 1, 1);
    colo_status_end(sh);
    assert_int_equal(atomic_load(&sh->seq) & 1, 0);
    assert_int_equal(sh->status.state, COLO_STATE_PRECOPY);
}

static void test_an_illegal_change_aborts(void **state)
{
    struct colo_shared *sh = *state;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        colo_state_set(sh, COLO_STATE_TAKEOVER);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_int_equal(sh->status.state, COLO_STATE_INIT);
    colo_state_set(sh, COLO_STATE_INIT); /* to the same: nothing */
}

static void test_first_suspend_makes_us_the_monitor(void **state)
{
    struct colo_shared *sh = *state;

    colo_state_set(sh, COLO_STATE_PRECOPY);
    assert_false(sh->recovery.needs_monitor);
    colo_state_set(sh, COLO_STATE_CHECKPOINT_SUSPEND);
    assert_true(sh->recovery.needs_monitor);
    colo_state_set(sh, COLO_STATE_UNPROTECTED);
    assert_true(sh->recovery.needs_monitor);
}

static void test_takeover_makes_us_the_monitor(void **state)
{
    struct colo_shared *sh = *state;

    sh->status.role = COLO_SECONDARY;
    sh->status.state = COLO_STATE_LOCKSTEP;
    colo_state_set(sh, COLO_STATE_TAKEOVER);
    assert_true(sh->recovery.needs_monitor);
}

static void test_error_is_kept_with_its_reason(void **state)
{
    struct colo_shared *sh = *state;
    struct colo_err err = {0};

    colo_fail(&err, COLO_ERR_PEER_SILENT, NULL, "nothing heard for %d ms", 500);
    colo_status_error(sh, &err);
    assert_string_equal(sh->status.last_reason, "peer-silent");
    assert_string_equal(sh->status.last_error, "nothing heard for 500 ms");
}

static void add(struct colo_shared *sh, int64_t total)
{
    struct colo_pause_steps steps = {.suspend = 1, .total = total};

    colo_status_pause(sh, &steps);
}

static void pauses(struct colo_shared *sh, int64_t last, int64_t median, int64_t p99)
{
    int64_t l, m, p;

    colo_status_pauses(&sh->status, &l, &m, &p);
    assert_int_equal(l, last);
    assert_int_equal(m, median);
    assert_int_equal(p, p99);
}

static void test_pauses(void **state)
{
    struct colo_shared *sh = *state;
    int i;

    pauses(sh, 0, 0, 0);
    add(sh, 30);
    pauses(sh, 30, 30, 30);
    add(sh, 10);
    pauses(sh, 10, 10, 30);
    add(sh, 20);
    pauses(sh, 20, 20, 30);
    assert_int_equal(sh->status.last_steps.total, 20);
    for (i = 4; i <= 100; i++)
        add(sh, 1000 + i);
    pauses(sh, 1100, 1050, 1099);
}

static void test_the_ring_forgets_the_oldest_pauses(void **state)
{
    struct colo_shared *sh = *state;
    int i;

    for (i = 0; i < COLO_PAUSE_SAMPLES; i++)
        add(sh, 1000000);
    for (i = 0; i < COLO_PAUSE_SAMPLES; i++)
        add(sh, 5);
    add(sh, 7);
    assert_int_equal(sh->status.pauses, 2 * COLO_PAUSE_SAMPLES + 1);
    pauses(sh, 7, 5, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_starts_in_init_with_nothing_to_recover),
        TEST(test_the_other_process_sees_what_was_written),
        TEST(test_a_read_is_never_torn),
        TEST(test_a_writer_killed_half_way_does_not_lock_out_the_next),
        TEST(test_state_is_set_between_begin_and_end_too),
        TEST(test_an_illegal_change_aborts),
        TEST(test_first_suspend_makes_us_the_monitor),
        TEST(test_takeover_makes_us_the_monitor),
        TEST(test_error_is_kept_with_its_reason),
        TEST(test_pauses),
        TEST(test_the_ring_forgets_the_oldest_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
