/* SPDX-License-Identifier: GPL-2.0-only */
/* The proxy as a process: its ties, its privileges, its log. */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "proxy_daemon.h"

int proxy_background(const char *log, struct colo_err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), out;
    pid_t pid;

    if (null < 0)
        return colo_fail_errno(err, errno, "/dev/null");
    out = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640) : -1;
    if (out < 0)
        out = fcntl(null, F_DUPFD_CLOEXEC, 3); /* a guest without a log is better than none */
    pid = fork();
    if (pid < 0)
        return colo_fail_errno(err, errno, "fork");
    if (pid > 0)
        _exit(0);
    setsid();
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0)
        return colo_fail_errno(err, errno, "dup2");
    close(null);
    close(out);
    return chdir("/") ? colo_fail_errno(err, errno, "/") : 0;
}

int proxy_drop_privileges(struct colo_err *err)
{
    int r;

    capng_clear(CAPNG_SELECT_BOTH);
    r = capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN);
    if (r == 0)
        r = capng_apply(CAPNG_SELECT_BOTH);
    if (r || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return colo_fail(err, COLO_ERR_LOCAL, "proxy-privileges",
                         "privileges that are not needed cannot be given up (%d)", r);
    return 0;
}
