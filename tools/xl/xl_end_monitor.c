/* SPDX-License-Identifier: GPL-2.0-only */
#include "xl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void stay(pid_t monitor, int cancel_fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, monitor, 0);
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};

    if (pidfd < 0)
        return;
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (!fds[0].revents)
        kill(monitor, SIGTERM);
    while (poll(fds, 1, -1) < 0 && errno == EINTR)
        ;
    waitpid(monitor, NULL, 0);
    close(pidfd);
}

void xl_end_monitor(struct colo_monitor *m, bool watch, bool foreground, int cancel_fd,
                    struct xl_ui *ui)
{
    struct colo_err err = {0};

    if (m->fd < 0)
        return; /* there is none, or it goes its own way already */
    if (colo_monitor_end(m, watch, &err))
        xl_ui_error(ui, "nobody watches over the guest", &err);
    else if (watch && foreground)
        stay(m->pid, cancel_fd);
}
