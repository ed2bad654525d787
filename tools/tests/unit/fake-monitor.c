/* SPDX-License-Identifier: GPL-2.0-only */
#include "fake-monitor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libxl_colo_control.h"

struct fake *fake;
struct colo_shared *sh;
uint32_t first_domid;

void wait_sem(sem_t *s)
{
    struct timespec until;
    int r;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE / (1000 * COLO_MS);
    do {
        r = sem_timedwait(s, &until);
    } while (r && errno == EINTR);
    assert_int_equal(r, 0);
}

static void wait_forever(sem_t *s)
{
    while (sem_wait(s) && errno == EINTR)
        ;
}

/* ---- the fake hands ---- */
static int fake_recover(void *priv, struct colo_shared *shared, enum colo_role role,
                        bool *guest_here, struct colo_err *err)
{
    (void)priv;
    (void)shared;
    (void)err;
    fake->role = role;
    fake->recoveries++;
    wait_forever(&fake->recovering);
    *guest_here = fake->guest_here;
    return 0;
}

static int fake_watch(void *priv, uint32_t domid, struct colo_watch **out, struct colo_err *err)
{
    if (fake->watch_fails)
        return colo_fail(err, COLO_ERR_LOCAL, "watch-failed", "domain %u cannot be watched", domid);
    fake->watched = domid;
    fake->watches++;
    *out = priv;
    sem_post(&fake->watching);
    return 0;
}

static int fake_wait(struct colo_watch *w, struct colo_err *err)
{
    (void)w;
    (void)err;
    wait_forever(&fake->down);
    return 0;
}

static int fake_act(struct colo_watch *w, uint32_t *domid, struct colo_err *err)
{
    (void)w;
    (void)err;
    if (fake->act_blocks) {
        sem_post(&fake->acted);
        wait_forever(&fake->go_on);
    }
    fake->acts++;
    *domid = fake->next_domid;
    fake->next_domid = 0;
    sem_post(&fake->acted);
    return 0;
}

static void fake_close(struct colo_watch *w)
{
    (void)w;
    fake->closes++;
}

static const struct colo_monitor_ops fake_ops = {
    .recover = fake_recover,
    .watch = fake_watch,
    .wait = fake_wait,
    .act = fake_act,
    .close = fake_close,
};

/* ---- helpers ---- */
static char *socket_path(uint32_t domid)
{
    static char path[64];

    snprintf(path, sizeof(path), COLO_RUN_DIR "/%u.sock", domid);
    return path;
}

bool has_socket(uint32_t domid)
{
    return !access(socket_path(domid), F_OK);
}

void start_monitor(enum colo_role role, struct colo_monitor *m)
{
    const struct colo_monitor_opts opts = {.role = role, .logfile = "/nonexistent/log"};
    struct colo_err err = {0};

    if (colo_monitor_start_ops(sh, &opts, &fake_ops, fake, m, &err))
        fail_msg("%s", err.msg);
}

void set_domid(struct colo_monitor *m, uint32_t domid)
{
    sh->recovery.domid = domid;
    snprintf(sh->recovery.name, sizeof(sh->recovery.name), "guest");
    colo_status_begin(sh)->domid = domid;
    colo_status_end(sh);
    colo_monitor_domid_changed(m);
}

struct colo_json *request(uint32_t domid, const char *command)
{
    colo_time deadline = colo_now() + PATIENCE;
    struct colo_json *reply = NULL;
    struct colo_err err = {0};

    while (!has_socket(domid) && colo_now() < deadline)
        poll(NULL, 0, 1);
    if (colo_control_request(domid, command, deadline, &reply, &err))
        fail_msg("%s: %s", command, err.msg);
    return reply;
}

void expect_ok(uint32_t domid, const char *command)
{
    struct colo_json *reply = request(domid, command);

    assert_true(colo_json_get_bool(reply, "ok", false));
    colo_json_free(reply);
}

void expect_error(uint32_t domid, const char *command, const char *reason)
{
    struct colo_json *reply = request(domid, command);
    const char *got = colo_json_get_str(colo_json_get(reply, "error"), "reason");

    assert_non_null(got);
    assert_string_equal(got, reason);
    colo_json_free(reply);
}

void expect_status(uint32_t domid, const char *key, const char *value)
{
    struct colo_json *reply = request(domid, "status");
    const char *got = colo_json_get_str(colo_json_get(reply, "status"), key);

    assert_non_null(got);
    assert_string_equal(got, value);
    colo_json_free(reply);
}

enum colo_monitor_cmd next_command(struct colo_monitor *m)
{
    struct pollfd pfd = {.fd = m->fd, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, colo_poll_ms(colo_now() + PATIENCE)), 1);
    return colo_monitor_command(m);
}

/* The exit status, as a shell tells it; the test is the subreaper of all monitors. */
int wait_process(pid_t pid)
{
    colo_time deadline = colo_now() + PATIENCE;
    int status;
    pid_t r;

    while (!(r = waitpid(pid, &status, WNOHANG)) && colo_now() < deadline)
        poll(NULL, 0, 1);
    if (r != pid)
        fail_msg("process %d does not end", (int)pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void end_ok(struct colo_monitor *m, bool watch)
{
    struct colo_err err = {0};

    if (colo_monitor_end(m, watch, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(m->fd, -1);
}

/* The guest powers off for good: a watching monitor ends, and leaves nothing. */
void guest_down_ends(pid_t pid, uint32_t domid)
{
    sem_post(&fake->down);
    assert_int_equal(wait_process(pid), 0);
    assert_int_equal(fake->closes, fake->watches);
    assert_false(has_socket(domid));
}

/* A session in a process of its own, to be killed. stdout is the pipe, when there is one. */
pid_t start_session(enum colo_role role, int out)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (!pid) {
        alarm(60); /* should the test fail */
        if (out >= 0)
            dup2(out, 1);
        start_monitor(role, &fake->monitor);
        set_domid(&fake->monitor, first_domid);
        sem_post(&fake->ready);
        for (;;)
            pause();
    }
    wait_sem(&fake->ready);
    return pid;
}

void kill_session(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(wait_process(pid), 128 + SIGKILL);
}

int set_up(void **state)
{
    struct colo_err err;

    (void)state;
    memset(fake, 0, sizeof(*fake));
    sem_init(&fake->watching, 1, 0);
    sem_init(&fake->down, 1, 0);
    sem_init(&fake->acted, 1, 0);
    sem_init(&fake->recovering, 1, 1); /* recover does not wait, unless a test takes this */
    sem_init(&fake->ready, 1, 0);
    sem_init(&fake->go_on, 1, 0);
    sh = colo_shared_new(&err);
    return sh ? 0 : -1;
}

/* What a test that failed has left would disturb the next, and outlive us. */
static void end_children(void)
{
    FILE *f = fopen("/proc/thread-self/children", "r");
    int pid;

    if (!f)
        return;
    while (fscanf(f, "%d", &pid) == 1) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    fclose(f);
}

int tear_down(void **state)
{
    (void)state;
    end_children(); /* twice: a session's own become ours */
    end_children();
    colo_shared_free(sh);
    unlink(socket_path(first_domid));
    unlink(socket_path(SECOND_DOMID));
    return 0;
}

int run_monitor_tests(const char *name, const struct CMUnitTest *tests, size_t n)
{
    /* No domain has such a number, and no other run of this test. */
    first_domid = 1000000 + 2 * (uint32_t)getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fake == MAP_FAILED)
        return 1;
    return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}
