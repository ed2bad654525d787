/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor's process.  One thread answers: the session, the control socket, signals.  A second
 * one, from the session's end on, works: it undoes what a killed session left, and is the guest's
 * monitor.  It tells the first what happened through a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxl_colo_control.h"
#include "libxl_colo_monitor_log.h"
#include "libxl_colo_monitor_priv.h"

/* After the guest was given up, an answer that is still being written gets this long. */
#define RETIRE_TIME (2000 * COLO_MS)

enum phase {
    SERVING, /* a session lives; its requests and the operator's are passed on */
    WORKING, /* the session is over or was killed: the worker runs */
    RETIRED, /* another session has the guest: end without touching anything */
};

struct mon {
    struct colo_monitor_child c;
    enum phase phase;
    struct colo_control_server *control;
    uint32_t control_domid;
    int work_fds[2]; /* pipe, struct colo_monitor_msg from the worker */
    colo_time end_at;

    /* the worker */
    pthread_t thread;
    bool thread_made;
    bool killed;    /* recover first */
    bool reprotect; /* the session waits for a reboot */
    pthread_mutex_t lock;
    bool acting;  /* the guest is being dealt with: it cannot be given up now */
    bool retired; /* the worker must not touch the guest any more */
};

static int term_pipe[2] = {-1, -1};

static void on_term(int sig)
{
    int saved = errno;
    char c = (char)sig;

    if (write(term_pipe[1], &c, 1) < 0) {
        /* full: enough of them are waiting */
    }
    errno = saved;
}

static void on_ignored(int sig)
{
    (void)sig;
}

/* Handlers rather than SIG_IGN: what libxl executes (a new device model) must not inherit it. */
static void set_signals(void)
{
    static const int ignored[] = {SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGTSTP};
    struct sigaction sa = {.sa_handler = on_ignored, .sa_flags = SA_RESTART};
    sigset_t none;

    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        sigaction(ignored[i], &sa, NULL);
    sa.sa_handler = on_term;
    sigaction(SIGTERM, &sa, NULL);
    sa.sa_handler = SIG_DFL;
    sa.sa_flags = 0;
    sigaction(SIGCHLD, &sa, NULL);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* ---- the worker ---- */
static void post(struct mon *m, enum colo_monitor_msg_type type, uint32_t value,
                 const struct colo_err *err)
{
    struct colo_monitor_msg msg = {.type = type, .value = value};

    if (err)
        msg.err = *err;
    if (write(m->work_fds[1], &msg, sizeof(msg)) != sizeof(msg)) /* below PIPE_BUF: whole */
        _exit(1);
}

/* The session's state on the screen, once it is ours to write. */
static void set_status(struct mon *m, enum colo_state state, uint32_t domid, const char *reason,
                       const char *text)
{
    struct colo_shared *sh = m->c.sh;
    struct colo_status *st = colo_status_begin(sh);

    st->state = state;
    st->domid = domid;
    if (reason) {
        snprintf(st->last_reason, sizeof(st->last_reason), "%s", reason);
        snprintf(st->last_error, sizeof(st->last_error), "%s", text);
    }
    colo_status_end(sh);
}

static bool recover(struct mon *m)
{
    struct colo_shared *sh = m->c.sh;
    struct colo_err err = {0};
    bool here = false;
    int rc;

    /* Killed while it wrote the status: the count would be odd for ever. */
    if (atomic_load(&sh->seq) & 1)
        atomic_fetch_add(&sh->seq, 1);
    colo_monitor_log("the session of %s (process killed?) ended without a word: undoing",
                     sh->recovery.name[0] ? sh->recovery.name : "a guest");
    rc = m->c.ops->recover(m->c.priv, sh, m->c.opts.role, &here, &err);
    if (rc)
        colo_monitor_log("undoing failed: %s", err.msg);
    if (!here) {
        set_status(m, COLO_STATE_ENDED, 0, "session-killed",
                   rc ? err.msg
                      : "the session's process "
                        "was killed; nothing of the guest is left here");
        return false;
    }
    set_status(m, COLO_STATE_UNPROTECTED, sh->recovery.domid, "session-killed",
               rc ? err.msg : "the session's process was killed; the guest runs here, unprotected");
    return true;
}

/* May the guest be dealt with?  From here until done it cannot be given up. */
static bool claim(struct mon *m)
{
    bool ok;

    pthread_mutex_lock(&m->lock);
    ok = !m->retired;
    m->acting = ok;
    pthread_mutex_unlock(&m->lock);
    return ok;
}

static void release(struct mon *m)
{
    pthread_mutex_lock(&m->lock);
    m->acting = false;
    pthread_mutex_unlock(&m->lock);
}

/* One life of the guest.  True: it has another one, as *domid. */
static bool watch_life(struct mon *m, uint32_t *domid)
{
    const struct colo_monitor_ops *ops = m->c.ops;
    struct colo_err err = {0};
    struct colo_watch *w = NULL;
    int rc;

    rc = ops->watch(m->c.priv, *domid, &w, &err);
    if (rc)
        goto out;
    post(m, COLO_MSG_WATCHING, *domid, NULL);
    rc = ops->wait(w, &err);
    if (rc)
        goto out;
    if (!claim(m)) {
        for (;;)
            pause(); /* the process is about to end */
    }
    set_status(m, COLO_STATE_GUEST_DOWN, *domid, NULL, NULL);
    rc = ops->act(w, domid, &err);
    if (!rc && *domid)
        set_status(m, COLO_STATE_UNPROTECTED, *domid, NULL, NULL);
out:
    if (w)
        ops->close(w);
    if (rc)
        colo_monitor_log("%s", err.msg);
    if (rc || !*domid) {
        post(m, COLO_MSG_GONE, 0, &err);
        return false;
    }
    return true;
}

static void *work(void *arg)
{
    struct mon *m = arg;
    uint32_t domid;
    bool again;

    if (m->killed && !recover(m)) {
        post(m, COLO_MSG_GONE, 0, NULL);
        return NULL;
    }
    domid = m->c.sh->recovery.domid;
    do {
        again = watch_life(m, &domid);
        if (!again)
            break;
        memset(&m->c.sh->recovery.nics, 0, sizeof(m->c.sh->recovery.nics));
        m->c.sh->recovery.domid = domid;
        post(m, COLO_MSG_REBOOTED, domid, NULL);
        again = !m->reprotect; /* else it is the session's again */
        release(m);
    } while (again);
    return NULL;
}

static void start_work(struct mon *m, bool killed, bool reprotect)
{
    m->killed = killed;
    m->reprotect = reprotect;
    m->phase = WORKING;
    if (pthread_create(&m->thread, NULL, work, m)) {
        colo_monitor_log("no memory for a thread: giving up");
        _exit(1);
    }
    m->thread_made = true;
}

/* ---- the control socket ---- */
static char *reply_error(const char *reason, const char *message)
{
    struct colo_json_gen *g = colo_json_gen_new(false);

    colo_json_open(g, NULL);
    colo_json_open(g, "error");
    colo_json_put_str(g, "reason", reason);
    colo_json_put_str(g, "message", message);
    colo_json_close(g);
    colo_json_close(g);
    return colo_json_gen_finish(g);
}

static char *reply_status(struct mon *m)
{
    static struct colo_status st; /* large */
    char *json, *reply = NULL;

    colo_status_read(m->c.sh, &st);
    json = colo_status_json(&st, false);
    if (json && asprintf(&reply, "{\"status\":%s}", json) < 0)
        reply = NULL;
    free(json);
    return reply;
}

static void send_session(struct mon *m, enum colo_monitor_msg_type type, uint32_t value,
                         const struct colo_err *err)
{
    struct colo_monitor_msg msg = {.type = type, .value = value};

    if (err)
        msg.err = *err;
    /* Never wait for the session: with so many messages unread, one more tells it nothing. */
    if (m->c.fd >= 0)
        send(m->c.fd, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static char *pass_on(struct mon *m, enum colo_monitor_cmd cmd)
{
    if (m->phase != SERVING)
        return reply_error("not-protected", "the guest is not protected any more");
    send_session(m, COLO_MSG_COMMAND, cmd, NULL);
    return strdup("{\"ok\":true}");
}

static char *retire(struct mon *m)
{
    if (m->phase == SERVING)
        return reply_error("already-protected", "the guest is protected by another session");
    pthread_mutex_lock(&m->lock);
    m->retired = !m->acting;
    pthread_mutex_unlock(&m->lock);
    if (!m->retired)
        return reply_error("guest-restarting", "the guest is down or restarting: try again later");

    colo_monitor_log("another session takes the guest: ending");
    send_session(m, COLO_MSG_RETIRED, 0, NULL);
    /* Before the answer: from then on the name may be the other session's. */
    colo_control_withdraw(m->control);
    m->phase = RETIRED;
    m->end_at = colo_now() + RETIRE_TIME;
    return strdup("{\"ok\":true}");
}

static char *handle(void *priv, const char *command)
{
    struct mon *m = priv;
    bool primary = m->c.opts.role == COLO_PRIMARY;

    if (!strcmp(command, "status"))
        return reply_status(m);
    if (!strcmp(command, "checkpoint"))
        return primary ? pass_on(m, COLO_CMD_CHECKPOINT)
                       : reply_error("not-primary", "checkpoints are asked for on the primary");
    if (!strcmp(command, "stop"))
        return pass_on(m, COLO_CMD_STOP);
    if (!strcmp(command, "failover"))
        return primary ? reply_error("not-secondary", "a takeover is asked for on the secondary")
                       : pass_on(m, COLO_CMD_FAILOVER);
    if (!strcmp(command, "retire"))
        return retire(m);
    return reply_error("unknown-command", "no such command");
}

/* The control socket is named after the domain; without a domain there is none. */
static void follow_domid(struct mon *m, uint32_t domid)
{
    struct colo_err err = {0};
    int rc;

    colo_monitor_log_open(&m->c);
    if (domid == m->control_domid)
        return;
    if (!domid) {
        colo_control_close(m->control);
        m->control = NULL;
        rc = 0;
    } else if (m->control) {
        rc = colo_control_rename(m->control, domid, &err);
    } else {
        rc = colo_run_dir(&err);
        if (!rc)
            rc = colo_control_listen(domid, handle, m, &m->control, &err);
    }
    if (rc)
        colo_monitor_log("the control socket of domain %u: %s", domid, err.msg);
    else
        m->control_domid = domid;
}

static void end(struct mon *m, int status) __attribute__((noreturn));
static void end(struct mon *m, int status)
{
    if (m->control)
        colo_control_close(m->control);
    _exit(status);
}

/* ---- what comes in ---- */
static void drop_session(struct mon *m)
{
    if (m->c.fd >= 0)
        close(m->c.fd);
    if (m->c.pidfd >= 0)
        close(m->c.pidfd);
    m->c.fd = m->c.pidfd = -1;
}

static void session_gone(struct mon *m)
{
    drop_session(m);
    if (m->phase == SERVING)
        start_work(m, true, false);
}

static void hear_session(struct mon *m, bool process_gone)
{
    struct colo_monitor_msg msg;
    ssize_t r;

    r = recv(m->c.fd, &msg, sizeof(msg), MSG_DONTWAIT);
    if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (process_gone && errno == EAGAIN)
            session_gone(m);
        return;
    }
    if (r != sizeof(msg)) {
        session_gone(m);
        return;
    }
    if (m->phase != SERVING)
        return;
    switch (msg.type) {
    case COLO_MSG_DOMID:
        follow_domid(m, m->c.sh->recovery.domid);
        break;
    case COLO_MSG_END:
        colo_monitor_log("the session is over, the guest is not here");
        end(m, 0);
    case COLO_MSG_WATCH:
    case COLO_MSG_REPROTECT:
        m->c.opts.role = COLO_PRIMARY; /* whatever it was: the guest is this host's now */
        follow_domid(m, m->c.sh->recovery.domid);
        start_work(m, false, msg.type == COLO_MSG_REPROTECT);
        break;
    default:
        break;
    }
}

static void hear_worker(struct mon *m)
{
    struct colo_monitor_msg msg;

    if (read(m->work_fds[0], &msg, sizeof(msg)) != sizeof(msg))
        return;
    switch (msg.type) {
    case COLO_MSG_WATCHING:
        follow_domid(m, msg.value);
        send_session(m, COLO_MSG_WATCHING, msg.value, NULL);
        if (!m->reprotect)
            drop_session(m);
        break;
    case COLO_MSG_REBOOTED:
        follow_domid(m, msg.value);
        if (!m->reprotect)
            break;
        pthread_join(m->thread, NULL);
        m->thread_made = false;
        m->phase = SERVING;
        if (m->c.fd >= 0)
            send_session(m, COLO_MSG_REBOOTED, msg.value, NULL);
        else /* nobody is left to protect it again */
            start_work(m, false, false);
        break;
    case COLO_MSG_GONE:
        if (msg.err.cls)
            send_session(m, COLO_MSG_GONE, 0, &msg.err);
        else
            send_session(m, COLO_MSG_GONE, 0, NULL);
        colo_monitor_log("nothing left to watch: ending");
        end(m, 0);
    default:
        break;
    }
}

/* SIGTERM: the host shuts down, or an operator wants us gone.  A living session decides. */
static void hear_signal(struct mon *m)
{
    char c;

    if (read(term_pipe[0], &c, 1) != 1 || m->phase == SERVING)
        return;
    colo_monitor_log("terminated by a signal: the guest's on_reboot and the like are not honoured"
                     " from now on");
    end(m, 0);
}

static void loop(struct mon *m)
{
    struct pollfd fds[5];
    int r;

    for (;;) {
        fds[0] = (struct pollfd){.fd = m->c.fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = m->c.pidfd, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = m->work_fds[0], .events = POLLIN};
        fds[3] = (struct pollfd){.fd = term_pipe[0], .events = POLLIN};
        fds[4] =
            (struct pollfd){.fd = m->control ? colo_control_fd(m->control) : -1, .events = POLLIN};
        r = poll(fds, 5, m->phase == RETIRED ? colo_poll_ms(m->end_at) : -1);
        if (r < 0)
            continue;
        if (m->phase == RETIRED && colo_now() >= m->end_at)
            _exit(0);
        if (fds[3].revents)
            hear_signal(m);
        if (fds[2].revents && m->phase == WORKING)
            hear_worker(m);
        if (m->c.fd >= 0 && (fds[0].revents || fds[1].revents))
            hear_session(m, fds[1].revents != 0);
        if (fds[4].revents && m->control)
            colo_control_serve(m->control);
    }
}

void colo_monitor_child(const struct colo_monitor_child *c)
{
    static struct mon m;

    m.c = *c;
    m.phase = SERVING;
    pthread_mutex_init(&m.lock, NULL);
    prctl(PR_SET_NAME, "xl-colo-monitor");
    if (!m.c.opts.foreground)
        setsid();
    if (chdir("/"))
        _exit(1);
    colo_monitor_detach(&m.c);
    if (pipe2(term_pipe, O_CLOEXEC | O_NONBLOCK) || pipe2(m.work_fds, O_CLOEXEC))
        _exit(1);
    set_signals();
    follow_domid(&m, m.c.sh->recovery.domid);
    loop(&m);
    _exit(0);
}
