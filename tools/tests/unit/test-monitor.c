/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The monitor's process: orderly ends, commands, retirement, reprotection, and that nothing is left.
 */
#include "fake-monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- orderly ends ---- */
static void an_end_without_a_guest_leaves_nothing(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    start_monitor(COLO_SECONDARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    expect_status(first_domid, "role", "primary"); /* of an untouched status */
    end_ok(&m, false);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_false(has_socket(first_domid));
    assert_int_equal(fake->watches + fake->recoveries, 0);
    end_ok(&m, false); /* again: nothing */
}

static void an_end_with_a_guest_is_watched_until_it_is_gone(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    end_ok(&m, true);
    assert_int_equal(fake->watches, 1); /* already when end returns */
    assert_int_equal(fake->watched, first_domid);
    expect_error(first_domid, "checkpoint", "not-protected");
    guest_down_ends(pid, first_domid);
    assert_int_equal(fake->acts, 1);
    assert_int_equal(fake->recoveries, 0);
}

static void a_rebooted_guest_is_watched_under_its_new_domid(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    end_ok(&m, true);
    wait_sem(&fake->watching);
    fake->next_domid = SECOND_DOMID;
    sem_post(&fake->down);
    wait_sem(&fake->watching);
    expect_status(SECOND_DOMID, "state", "UNPROTECTED");
    assert_int_equal(sh->status.domid, SECOND_DOMID);
    assert_false(has_socket(first_domid));
    guest_down_ends(pid, SECOND_DOMID);
    assert_int_equal(fake->acts, 2);
}

static void a_guest_that_cannot_be_watched_is_an_error(void **state)
{
    struct colo_monitor m;
    struct colo_err err = {0};
    pid_t pid;

    (void)state;
    fake->watch_fails = true;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    assert_int_equal(colo_monitor_end(&m, true, &err), -1);
    assert_string_equal(err.reason, "watch-failed");
    assert_int_equal(wait_process(pid), 0);
    assert_false(has_socket(first_domid));
}

/* ---- commands ---- */
static void commands_reach_the_session(void **state)
{
    struct colo_monitor m;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    set_domid(&m, first_domid);
    assert_int_equal(colo_monitor_command(&m), COLO_CMD_NONE);
    expect_ok(first_domid, "checkpoint");
    assert_int_equal(next_command(&m), COLO_CMD_CHECKPOINT);
    expect_ok(first_domid, "stop");
    assert_int_equal(next_command(&m), COLO_CMD_STOP);
    expect_error(first_domid, "failover", "not-secondary");
    expect_error(first_domid, "nonsense", "unknown-command");
    assert_int_equal(colo_monitor_command(&m), COLO_CMD_NONE);
    expect_ok(first_domid, "stop"); /* one that comes too late does not disturb the end */
    end_ok(&m, false);

    start_monitor(COLO_SECONDARY, &m);
    set_domid(&m, first_domid);
    expect_error(first_domid, "failover", "not-protected"); /* nothing whole to go on from */
    colo_status_begin(sh)->protected_since_wall = 1;
    colo_status_end(sh);
    expect_ok(first_domid, "failover");
    assert_int_equal(next_command(&m), COLO_CMD_FAILOVER);
    expect_error(first_domid, "checkpoint", "not-primary");
    end_ok(&m, false);
}

static void a_monitor_that_died_is_noticed(void **state)
{
    struct colo_monitor m;
    struct colo_err err = {0};

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    kill(m.pid, SIGKILL);
    assert_int_equal(next_command(&m), COLO_CMD_NONE);
    assert_int_equal(m.fd, -1);
    assert_int_equal(wait_process(m.pid), 128 + SIGKILL);
    colo_monitor_domid_changed(&m);
    end_ok(&m, false);

    start_monitor(COLO_PRIMARY, &m);
    kill(m.pid, SIGKILL);
    assert_int_equal(wait_process(m.pid), 128 + SIGKILL);
    assert_int_equal(colo_monitor_end(&m, true, &err), -1);
    assert_string_equal(err.reason, "monitor-died");
}

/* ---- giving the guest up ---- */
static void a_watching_monitor_retires_for_another_session(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    expect_error(first_domid, "retire", "already-protected");
    end_ok(&m, true);
    expect_ok(first_domid, "retire");
    assert_false(has_socket(first_domid)); /* at once: the other session's is made now */
    sem_post(&fake->down);                 /* its suspension */
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->acts, 0);
}

/* All that a monitor wants of a proxy: that it is there. */
static pid_t fake_proxy(const char *path)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client;
    char line[256];
    pid_t pid;

    snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
    unlink(path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) | listen(fd, 1), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        client = accept(fd, NULL, NULL);
        if (read(client, line, sizeof(line)) > 0 && write(client, "{\"ok\":true}\n", 12) == 12)
            pause();
        _exit(1);
    }
    close(fd);
    return pid;
}

/* A guest that was taken over and whose connections are still carried over by its proxy. */
static void a_guest_whose_proxy_is_needed_is_not_given_up(void **state)
{
    char socket[] = "/tmp/test-monitor-XXXXXX";
    int fd = mkstemp(socket);
    colo_time deadline = colo_now() + 10000 * COLO_MS;
    struct colo_json *reply;
    struct colo_monitor m;
    pid_t pid, proxy;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    proxy = fake_proxy(socket);
    start_monitor(COLO_SECONDARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    snprintf(sh->recovery.net.socket, sizeof(sh->recovery.net.socket), "%s", socket);
    end_ok(&m, true);
    expect_error(first_domid, "retire", "proxy-busy");
    kill(proxy, SIGKILL);
    waitpid(proxy, NULL, 0);
    for (;;) { /* until the monitor has noticed */
        assert_true(colo_now() < deadline);
        reply = request(first_domid, "retire");
        if (colo_json_get_bool(reply, "ok", false))
            break;
        colo_json_free(reply);
    }
    colo_json_free(reply);
    sem_post(&fake->down);
    assert_int_equal(wait_process(pid), 0);
}

static void a_guest_that_is_restarting_is_not_given_up(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    fake->act_blocks = true;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    end_ok(&m, true);
    sem_post(&fake->down);
    wait_sem(&fake->acted);
    expect_error(first_domid, "retire", "guest-restarting");
    kill(pid, SIGTERM); /* waits as well */
    expect_status(first_domid, "state", "GUEST_DOWN");
    sem_post(&fake->go_on);
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->acts, 1);
}

static void a_signal_ends_a_watching_monitor_only(void **state)
{
    struct colo_monitor m;
    pid_t pid;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    pid = m.pid;
    set_domid(&m, first_domid);
    expect_status(first_domid, "state", "INIT");
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    kill(pid, SIGTERM);
    expect_status(first_domid, "state", "INIT");
    end_ok(&m, true);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    expect_status(first_domid, "state", "INIT");
    kill(pid, SIGTERM);
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->acts, 0);
    assert_false(has_socket(first_domid));
}

/* ---- --reprotect ---- */
static void a_reboot_is_told_and_the_session_served_again(void **state)
{
    struct colo_monitor m;
    struct colo_err err = {0};
    uint32_t domid = 0;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    set_domid(&m, first_domid);
    fake->next_domid = SECOND_DOMID;
    sem_post(&fake->down);
    assert_int_equal(colo_monitor_wait_reboot(&m, -1, &domid, &err), 0);
    assert_int_equal(domid, SECOND_DOMID);
    assert_int_equal(sh->recovery.domid, SECOND_DOMID);
    expect_ok(SECOND_DOMID, "checkpoint");
    assert_int_equal(next_command(&m), COLO_CMD_CHECKPOINT);
    expect_error(SECOND_DOMID, "retire", "already-protected");
    assert_int_equal(fake->watches, 1);

    sem_post(&fake->down); /* the second time for good */
    assert_int_equal(colo_monitor_wait_reboot(&m, -1, &domid, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_GUEST_DOWN);
    assert_int_equal(m.fd, -1);
    assert_int_equal(wait_process(m.pid), 0);
}

static void waiting_for_a_reboot_ends_when_another_session_comes(void **state)
{
    struct colo_monitor *m = &fake->monitor;
    struct colo_err err = {0};
    uint32_t domid = 0;
    pid_t session;

    (void)state;
    session = fork();
    assert_true(session >= 0);
    if (!session) {
        start_monitor(COLO_PRIMARY, m);
        set_domid(m, first_domid);
        if (!colo_monitor_wait_reboot(m, -1, &domid, &err) || err.cls != COLO_ERR_STOPPED)
            _exit(1);
        _exit(strcmp(err.reason, "retired") ? 2 : 0);
    }
    wait_sem(&fake->watching);
    expect_ok(first_domid, "retire");
    assert_int_equal(wait_process(session), 0);
    assert_int_equal(wait_process(m->pid), 0);
}

static void waiting_for_a_reboot_can_be_cancelled(void **state)
{
    struct colo_monitor m;
    struct colo_err err = {0};
    uint32_t domid = 0;
    int cancel[2];

    (void)state;
    assert_int_equal(pipe(cancel), 0);
    assert_int_equal(write(cancel[1], "x", 1), 1);
    start_monitor(COLO_PRIMARY, &m);
    set_domid(&m, first_domid);
    assert_int_equal(colo_monitor_wait_reboot(&m, cancel[0], &domid, &err), -1);
    assert_int_equal(err.cls, COLO_ERR_CANCELLED);
    close(cancel[0]);
    close(cancel[1]);
    /* it watches on, and does not mind that nobody waits for the reboot */
    fake->next_domid = SECOND_DOMID;
    sem_post(&fake->down);
    wait_sem(&fake->watching);
    wait_sem(&fake->watching);
    expect_status(SECOND_DOMID, "state", "UNPROTECTED");
    guest_down_ends(m.pid, SECOND_DOMID);
}

static void it_is_a_process_apart(void **state)
{
    struct colo_monitor m;
    char path[64], comm[32] = "";
    FILE *f;

    (void)state;
    start_monitor(COLO_PRIMARY, &m);
    set_domid(&m, first_domid);
    expect_status(first_domid, "state", "INIT"); /* it is up */
    assert_int_equal(getsid(m.pid), m.pid);
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)m.pid);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(comm, sizeof(comm), f));
    fclose(f);
    assert_string_equal(comm, "xl-colo-monitor\n");
    end_ok(&m, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_end_without_a_guest_leaves_nothing),
        TEST(an_end_with_a_guest_is_watched_until_it_is_gone),
        TEST(a_rebooted_guest_is_watched_under_its_new_domid),
        TEST(a_guest_that_cannot_be_watched_is_an_error),
        TEST(commands_reach_the_session),
        TEST(a_monitor_that_died_is_noticed),
        TEST(a_watching_monitor_retires_for_another_session),
        TEST(a_guest_whose_proxy_is_needed_is_not_given_up),
        TEST(a_guest_that_is_restarting_is_not_given_up),
        TEST(a_signal_ends_a_watching_monitor_only),
        TEST(a_reboot_is_told_and_the_session_served_again),
        TEST(waiting_for_a_reboot_ends_when_another_session_comes),
        TEST(waiting_for_a_reboot_can_be_cancelled),
        TEST(it_is_a_process_apart),
    };

    return run_monitor_tests("test-monitor", tests, sizeof(tests) / sizeof(tests[0]));
}
