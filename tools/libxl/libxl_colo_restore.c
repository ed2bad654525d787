/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The secondary's lock-step, the mirror of libxl_colo_save.c.
 *
 * Until a checkpoint is whole nothing of it touches our copy; once we begin to apply it we finish
 * (decide forward).  What the end of the stream means is decided in one place, judge():
 *   silence       the primary's host or the link is gone: take over (or stop, by policy)
 *   BROKEN        the primary cannot run the guest any more: take over
 *   end of stream the primary's process is gone but its host closed the stream: its monitor lets
 *                 the guest run on there, so our copy goes
 *   STOP          the primary says that the guest is its own: our copy goes
 */
#include "libxl_colo_session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xc_sr_verify.h"

struct secondary {
    struct colo_session *s;
    struct xc_sr_restore restore;
    bool built; /* the first image is in: the copy could carry on */
    bool runs;  /* it has run */
    bool suspended;
    bool applying; /* between the first and the last change to our copy */
    bool failover; /* the operator says that the primary is dead */
    struct libxl_sr_times times;
    void *devices; /* of the image being received */
    size_t devices_len;
    struct xc_sr_record digest; /* likewise; test mode */
};

static int receive_tail(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    uint32_t last;

    free(q->devices);
    q->devices = NULL;
    xc_sr_record_free(&q->digest);
    if (libxl_stream_read_emulators(&s->ls, &q->devices, &q->devices_len, &last, &q->digest, err))
        return -1;
    if (last != LIBXL_SR_REC_CHECKPOINT_END)
        return colo_fail(err, COLO_ERR_PROTOCOL, "unexpected-end",
                         "the stream ended where a checkpoint's end was due");
    return 0;
}

static int load_devices(struct secondary *q, struct colo_err *err)
{
    struct xc_sr_domain *d = q->s->dom;
    colo_time t0 = colo_now();

    if (q->devices_len && d->ops->devices_load(d, q->devices, q->devices_len, err))
        return colo_err_prefix(err, "loading the device state");
    q->times.device_load = (uint64_t)(colo_now() - t0);
    return 0;
}

/* Test mode, when the primary sent a digest: are both copies, suspended now, equal? */
static int verify(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    struct xc_sr_digest mine = {0}, theirs = {0};
    struct colo_status *st;
    char text[300];
    int rc = -1;

    if (!q->digest.data)
        return 0;
    if (xc_sr_digest_unpack(q->digest.data, q->digest.length, &theirs, err) ||
        xc_sr_digest_make(s->dom, &mine, err))
        goto out;
    if (xc_sr_digest_diff(&theirs, &mine, text, sizeof(text))) {
        colo_fail(err, COLO_ERR_LOCAL, "verify-mismatch",
                  "the copies differ at checkpoint %llu: %s",
                  (unsigned long long)s->ls.tag.checkpoint, text);
        goto out;
    }
    st = colo_status_begin(s->shared);
    st->verified++;
    colo_status_end(s->shared);
    rc = 0;
out:
    xc_sr_digest_free(&mine);
    xc_sr_digest_free(&theirs);
    return rc;
}

static int send_times(struct secondary *q, struct colo_err *err)
{
    struct xc_sr_restore_stats *v = &q->restore.stats;

    q->times.memory = (uint64_t)v->t_memory;
    q->times.context = (uint64_t)v->t_context;
    q->times.dirtylog = (uint64_t)v->t_dirtylog;
    if (!q->s->ls.tags)
        return 0;
    return xc_sr_write_simple(&q->s->ch, LIBXL_SR_REC_COLO_TIMES, &q->times, sizeof(q->times),
                              colo_now() + COLO_T_CHECKPOINT, err);
}

static int run(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (!q->runs && s->hooks.first_run) {
        if (s->hooks.first_run(s->hooks.priv, err))
            return -1;
    } else if (s->dom->ops->resume(s->dom, err)) {
        return -1;
    }
    q->runs = true;
    q->suspended = false;
    return 0;
}

/* All of the checkpoint is here: its disks must be able to follow, or nothing is changed. */
static int hold_disks(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (!s->hooks.disk_hold)
        return 0;
    return s->hooks.disk_hold(s->hooks.disks, s->ls.tag.checkpoint, err);
}

static int commit_disks(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (!s->hooks.disk_commit)
        return 0;
    return s->hooks.disk_commit(s->hooks.disks, s->ls.tag.checkpoint, err);
}

/* What the copy said before this checkpoint counts for nothing. */
static int commit_network(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    uint64_t n = s->ls.tag.checkpoint;

    if (!s->hooks.net_commit)
        return 0;
    if (!q->runs && s->hooks.net_hold(s->hooks.net, n, err)) /* the first one suspended nothing */
        return -1;
    return s->hooks.net_commit(s->hooks.net, n, err);
}

/* The copy is at the new checkpoint: say so, run, say so. */
static int ready_and_run(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (commit_network(q, err) || libxl_stream_write_state(&s->ls, LIBXL_SR_STATE_SVM_READY, err))
        return -1;
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_RESUME);
    if (run(q, err) || send_times(q, err))
        return -1;
    return libxl_stream_write_state(&s->ls, LIBXL_SR_STATE_SVM_RESUMED, err);
}

static void account(struct secondary *q, enum colo_trigger why)
{
    struct colo_session *s = q->s;
    struct xc_sr_restore_stats *v = &q->restore.stats;
    struct colo_status *st = colo_status_begin(s->shared);

    st->checkpoints++;
    st->triggers[why]++;
    st->sent = v->pages + v->zero;
    st->total_sent += v->pages + v->zero;
    st->staging_peak = xc_sr_staging_peak_bytes(q->restore.staging);
    st->last_steps.svm_suspend = (int64_t)q->times.suspend;
    st->last_steps.svm_stage = (int64_t)q->times.stage;
    st->last_steps.svm_device_load = (int64_t)q->times.device_load;
    st->last_steps.svm_memory = (int64_t)q->times.memory;
    st->last_steps.svm_context = (int64_t)q->times.context;
    st->last_steps.svm_dirty_log = (int64_t)q->times.dirtylog;
    if (why == COLO_TRIGGER_FIRST)
        st->protected_since_wall = time(NULL);
    colo_status_end(s->shared);
    colo_session_count_bytes(s);
    memset(v, 0, sizeof(*v));
    memset(&q->times, 0, sizeof(q->times));
    s->ls.tag.checkpoint++;
}

static int first_image(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    uint32_t last;

    colo_state_set(s->shared, COLO_STATE_PRECOPY);
    if ((!s->announced && libxl_stream_read_libxc_context(&s->ls, err)) ||
        xc_sr_restore_headers(&q->restore, err) || xc_sr_restore_load(&q->restore, &last, err))
        return -1;
    if (last != XC_SR_REC_CHECKPOINT)
        return colo_fail(err, COLO_ERR_PROTOCOL, "unexpected-end",
                         "the first image ended without a checkpoint");
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_STAGE);
    if (receive_tail(q, err) || hold_disks(q, err))
        return -1;
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_APPLY);
    q->applying = true;
    s->shared->recovery.logdirty = true;
    if (load_devices(q, err) || xc_sr_restore_finish(&q->restore, true, err) || verify(q, err) ||
        commit_disks(q, err))
        return -1;
    q->applying = false;
    q->built = true;
    q->suspended = true;
    if (ready_and_run(q, err))
        return -1;
    account(q, COLO_TRIGGER_FIRST);
    colo_session_say(s, "the second copy runs");
    return 0;
}

/* Suspend our copy and tell the primary what it dirtied. */
static int suspend_and_list(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    colo_time t0 = colo_now();

    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_SUSPEND);
    if (s->hooks.net_hold && s->hooks.net_hold(s->hooks.net, s->ls.tag.checkpoint, err))
        return -1;
    q->suspended = true;
    if (s->dom->ops->suspend(s->dom, colo_now() + COLO_T_SUSPEND, err) &&
        err->cls != COLO_ERR_GUEST_DOWN) /* a copy that shut down alone is brought back in line */
        return -1;
    q->times.suspend = (uint64_t)(colo_now() - t0);
    if (xc_sr_restore_own_dirty(&q->restore, err) ||
        libxl_stream_write_state(&s->ls, LIBXL_SR_STATE_SVM_SUSPENDED, err))
        return -1;
    return xc_sr_restore_send_list(&q->restore, err);
}

static int checkpoint(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;
    colo_time t0;

    if (suspend_and_list(q, err))
        return -1;
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_STAGE);
    t0 = colo_now();
    if (xc_sr_restore_stage(&q->restore, err) || receive_tail(q, err) || hold_disks(q, err))
        return -1;
    q->times.stage = (uint64_t)(colo_now() - t0);

    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_APPLY);
    q->applying = true;
    if (load_devices(q, err))
        return -1;
    colo_testpoint("applying");
    if (xc_sr_restore_apply(&q->restore, err) || xc_sr_restore_note_dirty(&q->restore, err) ||
        verify(q, err) || commit_disks(q, err))
        return -1;
    q->applying = false;
    if (ready_and_run(q, err))
        return -1;
    account(q, COLO_TRIGGER_PERIOD);
    return 0;
}

/* Lock-step: until the primary announces a checkpoint. */
static int wait_for_new(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    for (;;) {
        struct pollfd fds[] = {
            {.fd = s->ch.rfd, .events = POLLIN},
            {.fd = s->ch.cancel_fd, .events = POLLIN},
            {.fd = s->monitor ? s->monitor->fd : -1, .events = POLLIN},
            {.fd = s->hooks.dm_fd > 0 ? s->hooks.dm_fd : -1}, /* only its hanging up */
        };
        bool pending;

        if (xc_sr_record_pending(&s->ch, &pending, err))
            return -1;
        if (pending)
            return libxl_stream_read_state(&s->ls, LIBXL_SR_STATE_NEW, err);
        switch (colo_session_command(s)) {
        case COLO_CMD_FAILOVER:
            q->failover = true;
            return colo_fail(err, COLO_ERR_PEER_SILENT, "operator-failover",
                             "an operator declared the primary dead");
        case COLO_CMD_STOP:
            return colo_fail(err, COLO_ERR_CANCELLED, "operator-stop",
                             "protection was stopped on request at the secondary");
        case COLO_CMD_CHECKPOINT:
        case COLO_CMD_NONE:
            break;
        }
        if (poll(fds, 4, colo_poll_ms(xc_sr_channel_silent_at(&s->ch))) < 0 && errno != EINTR)
            return colo_fail_errno(err, errno, "poll");
        if (fds[1].revents)
            return colo_fail(err, COLO_ERR_CANCELLED, NULL, "the receiver was told to stop");
        if (fds[3].revents)
            return colo_fail(err, COLO_ERR_LOCAL, "qmp-gone",
                             "the second copy's device model has gone");
    }
}

static int lockstep(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (first_image(q, err))
        return -1;
    for (;;) {
        colo_state_set(s->shared, COLO_STATE_LOCKSTEP);
        xc_sr_channel_listen(&s->ch);
        if (wait_for_new(q, err) || checkpoint(q, err))
            return -1;
    }
}

/* An operator's word may have come while we were busy with a checkpoint. */
static bool failover_asked(struct secondary *q)
{
    enum colo_monitor_cmd cmd;

    while (!q->failover && (cmd = colo_session_command(q->s)) != COLO_CMD_NONE)
        q->failover = cmd == COLO_CMD_FAILOVER;
    return q->failover;
}

static enum colo_restore_end judge(struct secondary *q, struct colo_err *err)
{
    struct colo_session *s = q->s;

    if (q->applying)
        return COLO_RESTORE_FAILED; /* half old, half new: of no use to anybody */
    switch (err->cls) {
    case COLO_ERR_PEER_SILENT:
        if (!q->built)
            return COLO_RESTORE_FAILED;
        return failover_asked(q) || s->config.takeover_on_silence ? COLO_RESTORE_TAKEN
                                                                  : COLO_RESTORE_YIELD;
    case COLO_ERR_STOPPED:
        return q->built && colo_session_peer_said(err, COLO_STOP_BROKEN) ? COLO_RESTORE_TAKEN
                                                                         : COLO_RESTORE_YIELD;
    case COLO_ERR_PEER_EOF:
    case COLO_ERR_CANCELLED:
        return COLO_RESTORE_YIELD;
    default:
        return COLO_RESTORE_FAILED;
    }
}

static void decide(struct secondary *q, enum colo_restore_end end, const struct colo_err *why)
{
    struct colo_status *st = colo_status_begin(q->s->shared);
    const char *policy = "the copy was destroyed: the guest is the primary's";

    if (end == COLO_RESTORE_TAKEN && why->cls == COLO_ERR_STOPPED)
        policy = "took over: the primary cannot run the guest any more";
    else if (end == COLO_RESTORE_TAKEN)
        policy = q->failover ? "took over: an operator's word" : "took over: the primary is silent";
    else if (end == COLO_RESTORE_FAILED)
        policy = "the copy was destroyed: it is not whole";
    snprintf(st->policy, sizeof(st->policy), "%s", policy);
    colo_status_end(q->s->shared);
}

/* Does the copy stand still because we made it?  One that has shut down by itself is its monitor's
 * business: on_poweroff and the like apply. */
static bool stands_still(struct secondary *q)
{
    struct xc_sr_domain *d = q->s->dom;
    struct xc_sr_domain_info info;

    if (!q->suspended)
        return false;
    return !q->runs || d->ops->info(d, &info, NULL) || !info.shutdown ||
           info.shutdown_reason == XC_SR_SHUTDOWN_SUSPEND;
}

/*
 * The copy becomes the guest: from here on it is the only one, and is never destroyed.  What fails
 * is left to its monitor, which tries again (recovery).
 */
static void take_over(struct secondary *q)
{
    struct colo_session *s = q->s;
    struct colo_recovery *rec = &s->shared->recovery;
    colo_time t0 = colo_now();
    struct colo_err e = {0};
    struct colo_status *st;
    bool whole = true;

    colo_state_set(s->shared, COLO_STATE_TAKEOVER);
    rec->suspended = stands_still(q);
    rec->restore_name = true;
    rec->destroy = false;
    /* Should the primary live after all, it must learn that the guest is not its own any more. */
    colo_heartbeat_stop(&s->hb);
    colo_session_tell(s, COLO_STOP_TAKEN, "the second copy has become the guest");
    xc_sr_restore_discard(&q->restore);
    if (s->hooks.disk_takeover && s->hooks.disk_takeover(s->hooks.disks, &e)) {
        whole = false;
        colo_session_say(s, "takeover: the guest's disks, its monitor tries again: %s", e.msg);
    }
    if (rec->suspended && run(q, &e)) {
        whole = false;
        colo_session_say(s, "takeover: the guest could not be resumed, its monitor tries again: %s",
                         e.msg);
    } else {
        rec->suspended = false;
    }
    if (s->hooks.become_guest && s->hooks.become_guest(s->hooks.priv, &e)) {
        whole = false;
        colo_session_say(s, "takeover: %s", e.msg);
    }
    st = colo_status_begin(s->shared);
    st->takeover_ns = colo_now() - t0;
    st->generation++;
    colo_status_end(s->shared);
    if (!whole)
        return;
    rec->restore_name = false;
    colo_session_say(s,
                     "took over: the guest runs here (%.0f ms after the primary was judged lost)",
                     (double)(colo_now() - t0) / 1e6);
}

int colo_restore_run(struct colo_session *s, enum colo_restore_end *end, struct colo_err *err)
{
    struct secondary q = {.s = s};

    *end = COLO_RESTORE_FAILED;
    q.restore.dom = s->dom;
    q.restore.ch = &s->ch;
    q.restore.staging_cap = s->config.staging_cap;
    q.restore.spill_dir = "/var/tmp";
    q.restore.max_gfns = s->max_gfns;
    /* How long a pause may take is for the primary to say, whose guest it is that stands still. */
    q.restore.io_timeout = s->ls.io_timeout = COLO_T_BUILD;
    s->ls.tag.checkpoint = 1;
    if (xc_sr_restore_init(&q.restore, err))
        goto out;

    lockstep(&q, err);
    colo_session_explain(s, err);
    *end = judge(&q, err);
    decide(&q, *end, err);
    if (*end == COLO_RESTORE_TAKEN)
        take_over(&q);
out:
    if (*end != COLO_RESTORE_TAKEN)
        colo_session_goodbye(s, err);
    xc_sr_restore_fini(&q.restore);
    s->shared->recovery.logdirty = false;
    free(q.devices);
    xc_sr_record_free(&q.digest);
    return -1;
}
