/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The monitor of a session that was killed: it undoes, and holds nothing that somebody waits for.
 */
#include "fake-monitor.h"

#include <poll.h>
#include <unistd.h>

/* ---- killed sessions ---- */
static void a_killed_primary_is_undone_and_its_guest_watched(void **state)
{
    pid_t session = start_session(COLO_PRIMARY, -1), pid = fake->monitor.pid;

    (void)state;
    fake->guest_here = true;
    kill_session(session);
    wait_sem(&fake->watching);
    assert_int_equal(fake->recoveries, 1);
    assert_int_equal(fake->role, COLO_PRIMARY);
    expect_status(first_domid, "state", "UNPROTECTED");
    assert_string_equal(sh->status.last_reason, "session-killed");
    guest_down_ends(pid, first_domid);
}

static void a_killed_secondary_is_undone_and_nothing_watched(void **state)
{
    pid_t session = start_session(COLO_SECONDARY, -1), pid = fake->monitor.pid;

    (void)state;
    kill_session(session);
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->recoveries, 1);
    assert_int_equal(fake->role, COLO_SECONDARY);
    assert_int_equal(fake->watches, 0);
    assert_false(has_socket(first_domid));
}

static void a_session_killed_while_it_writes_leaves_a_readable_status(void **state)
{
    pid_t session = start_session(COLO_PRIMARY, -1), pid = fake->monitor.pid;

    (void)state;
    fake->guest_here = true;
    atomic_fetch_add(&sh->seq, 1); /* as colo_status_begin, and never the end */
    kill_session(session);
    wait_sem(&fake->watching);
    assert_int_equal(atomic_load(&sh->seq) & 1, 0);
    guest_down_ends(pid, first_domid);
}

/* A process that a library forked in the session holds the session's end of the socket. */
static void a_killed_session_is_noticed_behind_a_helper_that_lives_on(void **state)
{
    pid_t session, pid, helper;

    (void)state;
    session = fork();
    assert_true(session >= 0);
    if (!session) {
        start_monitor(COLO_SECONDARY, &fake->monitor);
        helper = fork();
        alarm(60); /* should the test fail */
        if (helper) {
            fake->role = (int)helper;
            sem_post(&fake->ready);
        }
        for (;;)
            pause();
    }
    wait_sem(&fake->ready);
    helper = fake->role;
    pid = fake->monitor.pid;
    kill_session(session);
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->recoveries, 1);
    kill_session(helper);
}

static void the_status_is_answered_while_undoing(void **state)
{
    pid_t session = start_session(COLO_PRIMARY, -1), pid = fake->monitor.pid;

    (void)state;
    fake->guest_here = true;
    wait_sem(&fake->recovering);
    kill_session(session);
    expect_status(first_domid, "state", "INIT");
    kill(pid, SIGTERM); /* undoing is not broken off */
    expect_error(first_domid, "nonsense", "unknown-command");
    sem_post(&fake->recovering);
    assert_int_equal(wait_process(pid), 0); /* but then the signal counts */
    assert_int_equal(fake->recoveries, 1);
    assert_string_equal(sh->status.last_reason, "session-killed");
}

static void nobody_waits_for_its_output(void **state)
{
    struct pollfd pfd;
    int out[2];
    pid_t session;
    char c;

    (void)state;
    assert_int_equal(pipe(out), 0);
    fake->guest_here = true;
    session = start_session(COLO_PRIMARY, out[1]);
    close(out[1]);
    kill_session(session);
    wait_sem(&fake->watching);
    pfd = (struct pollfd){.fd = out[0], .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, colo_poll_ms(colo_now() + PATIENCE)), 1);
    assert_int_equal(read(out[0], &c, 1), 0);
    close(out[0]);
    guest_down_ends(fake->monitor.pid, first_domid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_killed_primary_is_undone_and_its_guest_watched),
        TEST(a_killed_secondary_is_undone_and_nothing_watched),
        TEST(a_session_killed_while_it_writes_leaves_a_readable_status),
        TEST(a_killed_session_is_noticed_behind_a_helper_that_lives_on),
        TEST(the_status_is_answered_while_undoing),
        TEST(nobody_waits_for_its_output),
    };

    return run_monitor_tests("test-monitor-killed", tests, sizeof(tests) / sizeof(tests[0]));
}
