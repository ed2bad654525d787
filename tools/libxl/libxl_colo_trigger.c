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

/* Whatever has been said up to now. */
static int hear(struct colo_session *s, struct colo_wanted *w, struct colo_err *err)
{
    const struct colo_session_hooks *h = &s->hooks;

    if (check_peer(s, err) || colo_trigger_operator(s, &w->requested, err) ||
        (h->net_event && h->net_event(h->net, &w->differs, err)) ||
        (h->disk_check && h->disk_check(h->disks, err)))
        return -1;
    return 0;
}

int colo_trigger_watch(struct colo_session *s, colo_time until, struct colo_wanted *w,
                       struct colo_err *err)
{
    const struct colo_session_hooks *h = &s->hooks;
    colo_time silent;

    struct pollfd fds[] = {
        {.fd = s->ch.rfd, .events = POLLIN},
        {.fd = s->ch.cancel_fd, .events = POLLIN},
        {.fd = h->event_fd, .events = POLLIN},
        {.fd = s->monitor ? s->monitor->fd : -1, .events = POLLIN},
        /* its hanging up; and its events, where somebody takes them */
        {.fd = h->dm_fd > 0 ? h->dm_fd : -1, .events = h->disk_check ? POLLIN : 0},
        {.fd = h->net_fd > 0 ? h->net_fd : -1, .events = POLLIN},
    };

    if (hear(s, w, err))
        return -1;
    silent = xc_sr_channel_silent_at(&s->ch);
    if (poll(fds, 6, colo_poll_ms(silent < until ? silent : until)) < 0 && errno != EINTR)
        return colo_fail_errno(err, errno, "poll");
    if (fds[1].revents)
        return colo_fail(err, COLO_ERR_CANCELLED, NULL, "interrupted by a signal");
    if (fds[4].revents & ~POLLIN)
        return colo_fail(err, COLO_ERR_LOCAL, "qmp-gone", "the guest's device model has gone");
    if (fds[2].revents && h->guest_event && h->guest_event(h->priv, err))
        return -1;
    return hear(s, w, err);
}

int colo_trigger_wait(struct colo_session *s, colo_time last_end, enum colo_trigger *why,
                      struct colo_err *err)
{
    colo_time latest = last_end + (colo_time)s->config.interval_max_ms * COLO_MS;
    colo_time soonest = last_end + (colo_time)s->config.interval_min_ms * COLO_MS;
    struct colo_wanted w = {0};
    colo_time due;

    if (hear(s, &w, err))
        return -1;
    while (due = w.requested || w.differs ? soonest : latest, colo_now() < due)
        if (colo_trigger_watch(s, due, &w, err))
            return -1;
    *why = w.requested ? COLO_TRIGGER_REQUEST
           : w.differs ? COLO_TRIGGER_DIVERGENCE
                       : COLO_TRIGGER_PERIOD;
    return 0;
}
