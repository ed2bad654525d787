/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * Between two checkpoints of the primary: what asks for the next one, or ends the session.
 */
#include "libxl_colo_session.h"

#include <errno.h>
#include <poll.h>

/* A record that arrives between checkpoints can only be the peer's goodbye. */
static int unasked(struct colo_session *s, struct colo_err *err)
{
    struct xc_sr_record rec = {0};

    if (libxl_stream_read_expected(&s->ls, LIBXL_SR_REC_COLO_STOP, LIBXL_SR_CONFIG_MAX, &rec, err))
        return -1;
    xc_sr_record_free(&rec);
    return colo_fail(err, COLO_ERR_STOPPED, NULL, "the secondary ended the session");
}

static int check_peer(struct colo_session *s, struct colo_err *err)
{
    bool pending;

    if (xc_sr_record_pending(&s->ch, &pending, err))
        return -1;
    return pending ? unasked(s, err) : 0;
}

int colo_trigger_operator(struct colo_session *s, bool *now, struct colo_err *err)
{
    switch (colo_session_command(s)) {
    case COLO_CMD_CHECKPOINT:
        *now = true;
        return 0;
    case COLO_CMD_STOP:
        return colo_fail(err, COLO_ERR_CANCELLED, "operator-stop",
                         "protection was stopped on request");
    case COLO_CMD_FAILOVER:
    case COLO_CMD_NONE:
        break;
    }
    return 0;
}

int colo_trigger_wait(struct colo_session *s, colo_time last_end, enum colo_trigger *why,
                      struct colo_err *err)
{
    colo_time latest = last_end + (colo_time)s->config.interval_max_ms * COLO_MS;
    colo_time soonest = last_end + (colo_time)s->config.interval_min_ms * COLO_MS;
    bool requested = false, differs = false;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = s->ch.rfd, .events = POLLIN},
            {.fd = s->ch.cancel_fd, .events = POLLIN},
            {.fd = s->hooks.event_fd, .events = POLLIN},
            {.fd = s->monitor ? s->monitor->fd : -1, .events = POLLIN},
            {.fd = s->hooks.dm_fd > 0 ? s->hooks.dm_fd : -1}, /* only its hanging up */
            {.fd = s->hooks.net_fd > 0 ? s->hooks.net_fd : -1, .events = POLLIN},
        };
        colo_time due, wake;

        if (check_peer(s, err) || colo_trigger_operator(s, &requested, err) ||
            (s->hooks.net_event && s->hooks.net_event(s->hooks.net, &differs, err)))
            return -1;
        due = requested || differs ? soonest : latest;
        if (colo_now() >= due) {
            *why = requested ? COLO_TRIGGER_REQUEST
                   : differs ? COLO_TRIGGER_DIVERGENCE
                             : COLO_TRIGGER_PERIOD;
            return 0;
        }
        wake = xc_sr_channel_silent_at(&s->ch);
        if (wake > due)
            wake = due;
        if (poll(fds, 6, colo_poll_ms(wake)) < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "poll");
        if (fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "interrupted by a signal");
        if (fds[4].revents)
            return colo_fail(err, COLO_ERR_LOCAL, "qmp-gone", "the guest's device model has gone");
        if (fds[2].revents && s->hooks.guest_event && s->hooks.guest_event(s->hooks.priv, err))
            return -1;
    }
}
