/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor as its session sees it: start, listen to it, hand the guest over.
 * The process itself is libxl_colo_monitor_child.c.
 */
#include "libxl_colo_monitor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxl_colo_monitor_priv.h"

/* The monitor answers within a few xenstore round trips. */
#define HANDOVER_TIMEOUT (60 * 1000 * COLO_MS)

int colo_monitor_start(struct colo_shared *sh, const struct colo_monitor_opts *opts,
                       struct colo_monitor *out, struct colo_err *err)
{
    return colo_monitor_start_ops(sh, opts, &colo_monitor_xen_ops, NULL, out, err);
}

int colo_monitor_start_ops(struct colo_shared *sh, const struct colo_monitor_opts *opts,
                           const struct colo_monitor_ops *ops, void *priv, struct colo_monitor *out,
                           struct colo_err *err)
{
    struct colo_monitor_child child = {
        .sh = sh, .opts = *opts, .ops = ops, .priv = priv, .fd = -1, .pidfd = -1};
    sigset_t all, old;
    int fds[2] = {-1, -1};
    pid_t pid;
    int rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)) {
        rc = colo_fail_errno(err, errno, "starting the monitor");
        goto out;
    }
    /*
     * The end of our process is seen by two ways: by the socket, and, because a helper that a
     * library of ours has forked could hold that open, by a pidfd.
     */
    child.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    child.fd = fds[1];

    /* No signal between the fork and the child's own handlers. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pid = fork();
    if (!pid) {
        close(fds[0]);
        colo_monitor_child(&child);
    }
    rc = pid < 0 ? colo_fail_errno(err, errno, "starting the monitor") : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        goto out;
    out->pid = pid;
    out->fd = fds[0];
    fds[0] = -1;
out:
    if (child.pidfd >= 0)
        close(child.pidfd);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return rc;
}

static void disconnect(struct colo_monitor *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

void colo_monitor_abandon(struct colo_monitor *m)
{
    disconnect(m);
}

static int tell(struct colo_monitor *m, enum colo_monitor_msg_type type)
{
    struct colo_monitor_msg msg = {.type = type};
    ssize_t r;

    do {
        r = send(m->fd, &msg, sizeof(msg), MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r == sizeof(msg) ? 0 : -1;
}

/* One message.  flags as for recv; -1 and errno, EPIPE for a monitor that is gone. */
static int hear(struct colo_monitor *m, struct colo_monitor_msg *msg, int flags)
{
    ssize_t r;

    do {
        r = recv(m->fd, msg, sizeof(*msg), flags);
    } while (r < 0 && errno == EINTR);
    if (r == sizeof(*msg))
        return 0;
    if (r >= 0)
        errno = EPIPE;
    return -1;
}

enum colo_monitor_cmd colo_monitor_command(struct colo_monitor *m)
{
    struct colo_monitor_msg msg;

    while (m->fd >= 0) {
        if (hear(m, &msg, MSG_DONTWAIT)) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                disconnect(m);
            break;
        }
        if (msg.type == COLO_MSG_COMMAND)
            return (enum colo_monitor_cmd)msg.value;
    }
    return COLO_CMD_NONE;
}

void colo_monitor_domid_changed(struct colo_monitor *m)
{
    struct colo_monitor_msg msg = {.type = COLO_MSG_DOMID};

    if (m->fd >= 0)
        send(m->fd, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The next message that is no command; commands that came too late are passed over. */
static int hear_answer(struct colo_monitor *m, int cancel_fd, colo_time deadline,
                       struct colo_monitor_msg *msg, struct colo_err *err)
{
    struct pollfd fds[2] = {
        {.fd = m->fd, .events = POLLIN},
        {.fd = cancel_fd, .events = POLLIN},
    };
    int r;

    for (;;) {
        r = poll(fds, 2, colo_poll_ms(deadline));
        if (r < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for the monitor");
        if (r == 0)
            return colo_fail(err, COLO_ERR_TIMEOUT, "monitor-silent",
                             "the monitor (process %d) does not answer", (int)m->pid);
        if (r > 0 && fds[0].revents) {
            if (hear(m, msg, 0))
                return colo_fail(err, COLO_ERR_LOCAL, "monitor-died",
                                 "the monitor (process %d) has gone", (int)m->pid);
            if (msg->type != COLO_MSG_COMMAND)
                return 0;
        } else if (r > 0 && fds[1].revents) {
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "cancelled");
        }
    }
}

static int taken(struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_STOPPED, "retired", "another session has taken the guest over");
}

/* What WATCH and REPROTECT are answered with. */
static int hand_over(struct colo_monitor *m, enum colo_monitor_msg_type how, struct colo_err *err)
{
    struct colo_monitor_msg msg;

    if (tell(m, how))
        return colo_fail(err, COLO_ERR_LOCAL, "monitor-died",
                         "the monitor (process %d) has gone: nobody honours the guest's on_reboot"
                         " and the like",
                         (int)m->pid);
    if (hear_answer(m, -1, colo_now() + HANDOVER_TIMEOUT, &msg, err))
        return -1;
    if (msg.type == COLO_MSG_WATCHING)
        return 0;
    if (msg.type == COLO_MSG_RETIRED)
        return taken(err);
    if (err)
        *err = msg.err;
    return -1;
}

/* The monitor closes its end by ending. */
static int wait_end(struct colo_monitor *m, struct colo_err *err)
{
    struct pollfd pfd = {.fd = m->fd, .events = POLLIN};
    colo_time deadline = colo_now() + HANDOVER_TIMEOUT;
    struct colo_monitor_msg msg;
    int r;

    for (;;) {
        r = poll(&pfd, 1, colo_poll_ms(deadline));
        if (r == 0)
            return colo_fail(err, COLO_ERR_TIMEOUT, "monitor-silent",
                             "the monitor (process %d) does not end", (int)m->pid);
        if (r > 0 && hear(m, &msg, MSG_DONTWAIT) && errno != EAGAIN)
            break;
    }
    /* Already dead or dying.  ECHILD: a library that reaps all children was faster. */
    do {
        r = waitpid(m->pid, NULL, 0);
    } while (r < 0 && errno == EINTR);
    return 0;
}

int colo_monitor_end(struct colo_monitor *m, bool watch, struct colo_err *err)
{
    int rc;

    if (m->fd < 0)
        return 0;
    if (watch) {
        rc = hand_over(m, COLO_MSG_WATCH, err);
    } else {
        tell(m, COLO_MSG_END); /* should it be dead already, then it has ended */
        rc = wait_end(m, err);
    }
    disconnect(m);
    return rc;
}

int colo_monitor_wait_reboot(struct colo_monitor *m, int cancel_fd, uint32_t *domid,
                             struct colo_err *err)
{
    struct colo_monitor_msg msg;
    int rc;

    rc = hand_over(m, COLO_MSG_REPROTECT, err);
    if (!rc)
        rc = hear_answer(m, cancel_fd, COLO_NO_DEADLINE, &msg, err);
    if (rc)
        goto out;
    switch (msg.type) {
    case COLO_MSG_REBOOTED:
        *domid = msg.value;
        break;
    case COLO_MSG_RETIRED:
        rc =
            colo_fail(err, COLO_ERR_STOPPED, "retired", "another session has taken the guest over");
        break;
    default:
        rc = colo_fail(err, COLO_ERR_GUEST_DOWN, msg.err.cls ? msg.err.reason : NULL, "%s",
                       msg.err.cls ? msg.err.msg : "the guest is gone for good");
        break;
    }
out:
    if (rc)
        disconnect(m);
    return rc;
}
