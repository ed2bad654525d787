/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * xenstore for a session: the @releaseDomain watch with deadlines, on one connection.
 */
#include "libxl_colo_xs.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <xenstore.h>

#define RELEASE_WATCH "@releaseDomain"
#define OPEN_TIMEOUT  (5000 * COLO_MS)

struct colo_xs {
    struct xs_handle *h;
    int cancel_fd, dm_fd;
    bool lost; /* xenstored closed the connection: every wait says so instead of spinning */
};

int colo_xs_open(int cancel_fd, struct colo_xs **out, struct colo_err *err)
{
    struct colo_xs *x = calloc(1, sizeof(*x));
    int rc;

    if (!x)
        return colo_fail_errno(err, ENOMEM, "connecting to xenstore");
    x->cancel_fd = cancel_fd;
    x->dm_fd = -1;
    x->h = xs_open(0);
    if (!x->h) {
        rc = colo_fail_errno(err, errno,
                             "connecting to xenstore (is xenstored running, are you"
                             " root?)");
        goto out;
    }
    if (!xs_watch(x->h, RELEASE_WATCH, RELEASE_WATCH)) {
        rc = colo_fail_errno(err, errno, "watching %s in xenstore", RELEASE_WATCH);
        goto out;
    }
    /* A watch fires once when it is set.  Take that here, or the first wait would be for nothing. */
    rc = colo_xs_wait_release(x, colo_now() + OPEN_TIMEOUT, err);
out:
    if (rc) {
        colo_xs_close(x);
        return rc;
    }
    *out = x;
    return 0;
}

void colo_xs_close(struct colo_xs *x)
{
    if (!x)
        return;
    xs_close(x->h);
    free(x);
}

void colo_xs_heed_dm(struct colo_xs *x, int dm_fd)
{
    x->dm_fd = dm_fd;
}

int colo_xs_fd(const struct colo_xs *x)
{
    return xs_fileno(x->h);
}

bool colo_xs_drain(struct colo_xs *x)
{
    bool fired = false;
    char **event;

    /* Until it says EAGAIN: the fd stays unreadable while events are queued in the library. */
    for (;;) {
        event = xs_check_watch(x->h);
        if (!event)
            break;
        fired = true;
        free(event);
    }
    if (errno != EAGAIN && errno != EINTR)
        x->lost = true;
    return fired;
}

int colo_xs_wait_release(struct colo_xs *x, colo_time deadline, struct colo_err *err)
{
    struct pollfd fds[3] = {
        {.fd = xs_fileno(x->h), .events = POLLIN},
        {.fd = x->cancel_fd, .events = POLLIN}, /* a negative fd is passed over */
        {.fd = x->dm_fd},
    };
    int r;

    for (;;) {
        if (colo_xs_drain(x))
            return 0;
        if (x->lost)
            return colo_fail(err, COLO_ERR_LOCAL, "xenstore-lost",
                             "the connection to xenstored broke");
        r = poll(fds, 3, colo_poll_ms(deadline));
        if (r < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "waiting for xenstore");
        if (r > 0 && fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "cancelled");
        if (r > 0 && fds[2].revents && !fds[0].revents)
            return colo_fail(err, COLO_ERR_LOCAL, "qmp-gone", "the device model has gone");
        if (r == 0)
            return colo_fail(err, COLO_ERR_TIMEOUT, NULL,
                             "no domain shut down or went away within the deadline");
    }
}

int colo_xs_resume_domain(struct colo_xs *x, uint32_t domid, struct colo_err *err)
{
    if (!xs_resume_domain(x->h, domid))
        return colo_fail_errno(err, errno, "telling xenstored that domain %u runs again", domid);
    return 0;
}
