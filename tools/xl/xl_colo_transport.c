/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way to the other host: ssh, or any command whose stdin and stdout lead to a receiver.
 */
#include "xl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BANNER_TIME (60 * 1000 * COLO_MS)
#define REST_TIME   (500 * COLO_MS)  /* for the rest of what came instead of the banner */
#define END_TIME    (2000 * COLO_MS) /* for the child to end, each time it is asked to */

const char xl_receiver_banner[] = "xl migration receiver ready, send binary domain data.\n";

/* ssh may ask for a password as long as its group is the terminal's foreground one; from the banner
 * on that is ours again, so that Ctrl-C ends us in good order rather than the connection. */
static void give_terminal(pid_t group)
{
    sigset_t ttou, old;
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (tty < 0)
        return;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    sigprocmask(SIG_BLOCK, &ttou, &old);
    tcsetpgrp(tty, group);
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(tty);
}

static bool have_terminal(void)
{
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    bool have = tty >= 0 && tcgetpgrp(tty) == getpgrp();

    if (tty >= 0)
        close(tty);
    return have;
}

static void child(const char *command, int in, int out) __attribute__((noreturn));
static void child(const char *command, int in, int out)
{
    sigset_t none;

    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        _exit(126);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(126);
}

static int start(struct xl_transport *t, const char *command, struct colo_err *err)
{
    int to[2] = {-1, -1}, from[2] = {-1, -1};
    int rc = -1;

    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) {
        colo_fail_errno(err, errno, "cannot make a pipe");
        goto out;
    }
    t->pid = fork();
    if (t->pid < 0) {
        t->pid = 0;
        colo_fail_errno(err, errno, "cannot fork");
        goto out;
    }
    if (!t->pid)
        child(command, to[0], from[1]);
    setpgid(t->pid, t->pid); /* whoever of us is first */
    t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
    t->wfd = to[1];
    t->rfd = from[0];
    to[1] = from[0] = -1;
    rc = 0;
out:
    if (to[0] >= 0)
        close(to[0]);
    if (to[1] >= 0)
        close(to[1]);
    if (from[0] >= 0)
        close(from[0]);
    if (from[1] >= 0)
        close(from[1]);
    return rc;
}

/* One byte at a time: what follows the banner is the session's.  1 = a byte, 0 = the end, -1. */
static int read_byte(struct xl_transport *t, char *c, int cancel_fd, colo_time deadline,
                     struct colo_err *err)
{
    struct pollfd fds[] = {{.fd = t->rfd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
    ssize_t r;
    int n;

    for (;;) {
        n = poll(fds, 2, colo_poll_ms(deadline));
        if (n < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "poll");
        if (n < 0)
            continue;
        if (n == 0)
            return colo_fail(err, COLO_ERR_TIMEOUT, "no-receiver", "%s did not answer within 60 s",
                             t->host);
        if (fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "interrupted by a signal");
        r = read(t->rfd, c, 1);
        if (r >= 0)
            return (int)r;
        if (errno != EINTR)
            return colo_fail_errno(err, errno, "cannot read from %s", t->host);
    }
}

/* The child's exit status as a shell gives it, 128 + signal for a signal, -1 while it runs. */
static int wait_child(struct xl_transport *t, colo_time deadline)
{
    struct pollfd pfd = {.fd = t->pidfd, .events = POLLIN};
    int status, r;

    if (!t->pid)
        return 0;
    do {
        r = poll(&pfd, 1, colo_poll_ms(deadline));
    } while (r < 0 && errno == EINTR);
    do {
        r = waitpid(t->pid, &status, WNOHANG);
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return -1;
    t->pid = 0;
    if (r < 0)
        return 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int ended(struct xl_transport *t, struct colo_err *err)
{
    int status = wait_child(t, colo_now() + END_TIME);

    if (status == 128 + SIGINT)
        return colo_fail(err, COLO_ERR_CANCELLED, NULL, "interrupted by a signal");
    if (status == 127)
        return colo_fail(err, COLO_ERR_REFUSED, "no-receiver",
                         "a command was not found: either the one that connects, or xl on %s; "
                         "install xen-colo there",
                         t->host);
    if (status == 255)
        return colo_fail(err, COLO_ERR_REFUSED, "no-connection",
                         "%s cannot be reached (ssh says why above)", t->host);
    return colo_fail(err, COLO_ERR_REFUSED, "no-receiver",
                     "the receiver on %s ended (exit status %d) before it was ready; it says why "
                     "above, and in /var/log/xen/xl-colo-receive.log there",
                     t->host, status);
}

/* Quote what came instead. */
static int no_banner(struct xl_transport *t, char *text, size_t len, size_t size, int cancel_fd,
                     struct colo_err *err)
{
    colo_time deadline = colo_now() + REST_TIME;
    struct colo_err ignored;
    size_t i;

    while (len < size && text[len - 1] != '\n' &&
           read_byte(t, text + len, cancel_fd, deadline, &ignored) == 1)
        len++;
    while (len && isspace((unsigned char)text[len - 1]))
        len--;
    for (i = 0; i < len; i++) {
        if (!isprint((unsigned char)text[i]))
            text[i] = '?';
    }
    return colo_fail(err, COLO_ERR_REFUSED, "no-receiver",
                     "%s sent \"%.*s\" instead of xl's receiver banner; its login must print "
                     "nothing, and its xl must be xen-colo's",
                     t->host, (int)len, text);
}

static int read_banner(struct xl_transport *t, int cancel_fd, struct colo_err *err)
{
    colo_time deadline = colo_now() + BANNER_TIME;
    char text[200];
    size_t len = 0;
    int r;

    while (len < sizeof(xl_receiver_banner) - 1) {
        r = read_byte(t, text + len, cancel_fd, deadline, err);
        if (r < 0)
            return -1;
        if (r == 0)
            return len ? no_banner(t, text, len, len, cancel_fd, err) : ended(t, err);
        len++;
        if (text[len - 1] != xl_receiver_banner[len - 1])
            return no_banner(t, text, len, sizeof(text), cancel_fd, err);
    }
    return 0;
}

int xl_transport_open(struct xl_transport *t, const char *ssh, const char *host,
                      const char *options, int cancel_fd, struct colo_err *err)
{
    bool terminal = have_terminal();
    char *command;
    int rc;

    memset(t, 0, sizeof(*t));
    t->rfd = t->wfd = t->pidfd = -1;
    snprintf(t->host, sizeof(t->host), "%s", *ssh ? host : "the receiver");
    /* As stock xl does it, unquoted: SSHCMD and HOST may hold options. */
    if (*ssh)
        rc = asprintf(&command, "exec %s %s xl migrate-receive --colo%s", ssh, host, options);
    else
        rc = asprintf(&command, "%s", host);
    if (rc < 0)
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "out of memory");
    rc = start(t, command, err);
    free(command);
    if (rc)
        return -1;
    if (terminal)
        give_terminal(t->pid);
    rc = read_banner(t, cancel_fd, err);
    if (terminal)
        give_terminal(getpgrp());
    if (rc)
        xl_transport_close(t);
    return rc;
}

void xl_transport_close(struct xl_transport *t)
{
    pid_t group = t->pid;

    if (t->rfd >= 0)
        close(t->rfd);
    if (t->wfd >= 0)
        close(t->wfd);
    t->rfd = t->wfd = -1;
    if (t->pid && wait_child(t, colo_now() + END_TIME) < 0) {
        kill(-group, SIGTERM);
        if (wait_child(t, colo_now() + END_TIME) < 0) {
            kill(-group, SIGKILL);
            wait_child(t, colo_now() + END_TIME);
        }
    }
    if (t->pidfd >= 0)
        close(t->pidfd);
    t->pidfd = -1;
}
