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

static bool send_session(struct mon *m, enum colo_monitor_msg_type type, uint32_t value,
                         const struct colo_err *err)
{
    struct colo_monitor_msg msg = {.type = type, .value = value};

    if (err)
        msg.err = *err;
    /* Never wait for the session: with so many messages unread, one more tells it nothing. */
    return m->c.fd >= 0 &&
           (send(m->c.fd, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno == EAGAIN);
}

static char *pass_on(struct mon *m, enum colo_monitor_cmd cmd)
{
    if (m->phase != PHASE_SERVING)
        return reply_error("not-protected", "the guest is not protected any more");
    send_session(m, COLO_MSG_COMMAND, cmd, NULL);
    return strdup("{\"ok\":true}");
}

static char *retire(struct mon *m)
{
    if (m->phase == PHASE_SERVING)
        return reply_error("already-protected", "the guest is protected by another session");
    if (colo_monitor_proxy_needed(m))
        return reply_error("proxy-busy",
                           "connections from before the takeover need the proxy that carried them "
                           "over: try again when they have ended");
    pthread_mutex_lock(&m->lock);
    m->retired = !m->acting;
    pthread_mutex_unlock(&m->lock);
    if (!m->retired)
        return reply_error("guest-restarting", "the guest is down or restarting: try again later");

    colo_log("another session takes the guest: ending");
    send_session(m, COLO_MSG_RETIRED, 0, NULL);
    /* Before the answer: from then on the name may be the other session's. */
    colo_control_withdraw(m->control);
    m->phase = PHASE_RETIRED;
    m->end_at = colo_now() + RETIRE_TIME;
    return strdup("{\"ok\":true}");
}

static char *failover(struct mon *m)
{
    if (m->c.opts.role == COLO_PRIMARY)
        return reply_error("not-secondary", "a takeover is asked for on the secondary");
    /* Not to be remembered until the first sync is over, when nobody thinks of it any more. */
    if (m->phase == PHASE_SERVING && !m->c.sh->status.protected_since_wall)
        return reply_error("not-protected", "there is no whole copy of the guest here yet");
    return pass_on(m, COLO_CMD_FAILOVER);
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
        return failover(m);
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
        colo_log("the control socket of domain %u: %s", domid, err.msg);
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
    if (m->phase == PHASE_SERVING)
        colo_monitor_work(m, true, false);
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
    if (m->phase != PHASE_SERVING)
        return;
    switch (msg.type) {
    case COLO_MSG_DOMID:
        follow_domid(m, m->c.sh->recovery.domid);
        break;
    case COLO_MSG_END:
        colo_log("the session is over, and there is nothing to watch");
        end(m, 0);
    case COLO_MSG_WATCH:
    case COLO_MSG_REPROTECT:
        m->c.opts.role = COLO_PRIMARY; /* whatever it was: the guest is this host's now */
        follow_domid(m, m->c.sh->recovery.domid);
        colo_monitor_work(m, false, msg.type == COLO_MSG_REPROTECT);
        break;
    default:
        break;
    }
}

/* SIGTERM: the host shuts down, or an operator wants us gone.  A living session decides itself. */
static void end_on_signal(struct mon *m)
{
    bool acting;

    pthread_mutex_lock(&m->lock);
    acting = m->acting;
    m->retired = !acting; /* hands off */
    pthread_mutex_unlock(&m->lock);
    if (acting)
        return; /* a domain half built or half destroyed would be left */
    colo_log("terminated by a signal: nobody honours the guest's on_reboot and the like"
             " from now on");
    end(m, 0);
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
        colo_monitor_proxy_watch(m); /* now that the worker is done with it */
        break;
    case COLO_MSG_REBOOTED:
        follow_domid(m, msg.value);
        if (!m->reprotect)
            break;
        pthread_join(m->thread, NULL);
        m->phase = PHASE_SERVING;
        if (!send_session(m, COLO_MSG_REBOOTED, msg.value, NULL)) {
            /* Nobody is left to protect it again: that is no killed session. */
            drop_session(m);
            colo_monitor_work(m, false, false);
        }
        break;
    case COLO_MSG_GONE:
        if (msg.err.cls)
            send_session(m, COLO_MSG_GONE, 0, &msg.err);
        else
            send_session(m, COLO_MSG_GONE, 0, NULL);
        colo_log("nothing left to watch: ending");
        end(m, 0);
    default:
        break;
    }
}

static void hear_signal(struct mon *m)
{
    char c;

    if (read(term_pipe[0], &c, 1) == 1 && m->phase != PHASE_SERVING)
        m->term = true;
}

static void loop(struct mon *m)
{
    struct pollfd fds[6];
    int r;

    for (;;) {
        fds[0] = (struct pollfd){.fd = m->c.fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = m->c.pidfd, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = m->work_fds[0], .events = POLLIN};
        fds[3] = (struct pollfd){.fd = term_pipe[0], .events = POLLIN};
        fds[4] =
            (struct pollfd){.fd = m->control ? colo_control_fd(m->control) : -1, .events = POLLIN};
        fds[5] = (struct pollfd){.fd = colo_monitor_proxy_fd(m), .events = POLLIN};
        r = poll(fds, 6, m->phase == PHASE_RETIRED ? colo_poll_ms(m->end_at) : -1);
        if (r < 0)
            continue;
        if (m->phase == PHASE_RETIRED && colo_now() >= m->end_at)
            _exit(0);
        if (fds[3].revents)
            hear_signal(m);
        if (fds[2].revents && m->phase == PHASE_WORKING)
            hear_worker(m);
        if (m->term)
            end_on_signal(m);
        if (m->c.fd >= 0 && (fds[0].revents || fds[1].revents))
            hear_session(m, fds[1].revents != 0);
        if (fds[5].revents && m->px)
            colo_monitor_proxy_ready(m);
        if (fds[4].revents && m->control)
            colo_control_serve(m->control);
    }
}

/*
 * Who kills "xl remus" by the name on its command line must not kill the monitor with it: write over
 * our copy of that line, whose place the kernel tells (fields 48 and 49, proc(5)).
 */
static void set_title(const struct mon *m)
{
    unsigned long start = 0, end = 0;
    FILE *f = fopen("/proc/self/stat", "re");
    int c, fields = 1;

    prctl(PR_SET_NAME, "xl-colo-monitor"); /* one word, so that blanks separate the fields */
    if (!f)
        return;
    while (fields < 48 && (c = fgetc(f)) != EOF)
        fields += c == ' ';
    if (fscanf(f, "%lu %lu", &start, &end) == 2 && start && start < end) {
        memset((char *)start, 0, end - start);
        snprintf((char *)start, end - start, "xl-colo-monitor %s", m->c.sh->recovery.name);
    }
    fclose(f);
}

void colo_monitor_child(const struct colo_monitor_child *c)
{
    static struct mon m;

    m.c = *c;
    m.phase = PHASE_SERVING;
    pthread_mutex_init(&m.lock, NULL);
    set_title(&m);
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
