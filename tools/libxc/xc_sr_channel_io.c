/* SPDX-License-Identifier: LGPL-2.1-only */
#include "xc_sr_channel_io.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

/*
 * A library cannot ask its program to ignore SIGPIPE.  Sockets have a flag for it; for a pipe (the
 * fds of ssh) the signal is blocked in this thread and taken away when the write has raised it.
 */
static ssize_t writev_blocking_sigpipe(int fd, const struct iovec *iov, int cnt)
{
    const struct timespec now = {0, 0};
    sigset_t sigpipe, old, pending;
    bool ours;
    ssize_t r;
    int e;

    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    ours = sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &old);
    r = writev(fd, iov, cnt);
    e = errno;
    if (r < 0 && e == EPIPE && ours) {
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = e;
    return r;
}

ssize_t xc_sr_writev_nosignal(int fd, bool is_socket, const struct iovec *iov, int cnt)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)cnt};

    return is_socket ? sendmsg(fd, &msg, MSG_NOSIGNAL) : writev_blocking_sigpipe(fd, iov, cnt);
}

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer does not know pthread_mutex_clocklock; the clock may not be set while it looks. */
static int lock_by(pthread_mutex_t *m, colo_time deadline)
{
    colo_time left = deadline - colo_now();
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    left += ts.tv_nsec;
    ts.tv_sec += (time_t)(left / 1000000000);
    ts.tv_nsec = (long)(left % 1000000000);
    return left < 0 ? pthread_mutex_trylock(m) : pthread_mutex_timedlock(m, &ts);
}
#else
static int lock_by(pthread_mutex_t *m, colo_time deadline)
{
    struct timespec ts = {(time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};

    return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &ts);
}
#endif

int xc_sr_lock_until(pthread_mutex_t *m, colo_time deadline)
{
    if (deadline == COLO_NO_DEADLINE)
        return pthread_mutex_lock(m);
    return lock_by(m, deadline);
}
