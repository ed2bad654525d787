/* SPDX-License-Identifier: GPL-2.0-only */
#include "xl.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int event_fd = -1;

static void on_cancel(int sig)
{
    uint64_t one = 1;
    int saved = errno;

    (void)sig;
    if (write(event_fd, &one, sizeof(one)) < 0) {
        /* the counter is full: it is readable, which is all that is needed */
    }
    errno = saved;
}

static void on_ignored(int sig)
{
    (void)sig;
}

int xl_signals_setup(bool hup, int *cancel_fd, struct colo_err *err)
{
    /* Handlers rather than SIG_IGN, which ssh and the device model would inherit. */
    struct sigaction cancel = {.sa_handler = on_cancel, .sa_flags = SA_RESTART};
    struct sigaction ignored = {.sa_handler = on_ignored, .sa_flags = SA_RESTART};

    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0)
        return colo_fail_errno(err, errno, "cannot make an event fd");
    sigemptyset(&cancel.sa_mask);
    sigemptyset(&ignored.sa_mask);
    sigaction(SIGINT, &cancel, NULL);
    sigaction(SIGTERM, &cancel, NULL);
    sigaction(SIGHUP, hup ? &cancel : &ignored, NULL);
    sigaction(SIGPIPE, &ignored, NULL);
    /* A session that is stopped by its terminal (Ctrl-Z, output of a background job) falls silent,
     * with its guest perhaps suspended: the peer would take over beside it. */
    sigaction(SIGTSTP, &ignored, NULL);
    sigaction(SIGTTOU, &ignored, NULL);
    sigaction(SIGTTIN, &ignored, NULL);
    *cancel_fd = event_fd;
    return 0;
}
