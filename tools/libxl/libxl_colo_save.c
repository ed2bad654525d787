/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The primary's lock-step.  A checkpoint reads from top to bottom as in docs/specs/checkpoint.md:
 *
 *   NEW >            suspend the guest               < SVM_SUSPENDED, DIRTY_PFN_LIST
 *   pages of the union of both dirty sets, platform state, CHECKPOINT, device state,
 *   CHECKPOINT_END > (the secondary applies)         < SVM_READY
 *   resume the guest                                 < SVM_RESUMED
 *
 * Whatever fails, the guest runs on here: it is resumed before anything else is done about it.
 */
#include "libxl_colo_session.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "xc_sr_verify.h"

struct primary {
    struct colo_session *s;
    struct xc_sr_save save;
    bool suspended;
    bool saving;        /* QEMU is at work on the device state, and answers nothing else before */
    bool protected;     /* the peer's copy could carry on */
    colo_time last_end; /* of the last checkpoint */
    struct colo_err asked; /* to stop, during the first sync */
    struct colo_pause_steps steps;
    colo_time mark; /* end of the step before */
};

static int64_t step(struct primary *p)
{
    colo_time now = colo_now(), spent = now - p->mark;

    p->mark = now;
    return spent;
}

static bool verify_due(const struct primary *p)
{
    uint32_t every = p->s->config.verify_every;

    return every && p->s->ls.tag.checkpoint % every == 0;
}

/*
 * The longest pause that a checkpoint may cost before it is given up.  All of memory is built at
 * the first one, and read on both hosts when they prove that their copies are equal.
 */
static colo_time pause_limit(const struct primary *p)
{
    return p->protected && !verify_due(p) ? COLO_T_CHECKPOINT : COLO_T_BUILD;
}

static int suspend(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;

    s->shared->recovery.suspended = true;
    p->suspended = true;
    p->save.limit = s->ls.limit = colo_now() + pause_limit(p);
    return s->dom->ops->suspend(s->dom, colo_now() + COLO_T_SUSPEND, err);
}

/* Nothing more goes to the guest, then it is suspended, and what it has written is on both hosts. */
static int hold_and_suspend(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;

    if ((s->hooks.net_hold && s->hooks.net_hold(s->hooks.net, s->ls.tag.checkpoint, err)) ||
        suspend(p, err))
        return -1;
    return s->hooks.disk_check ? s->hooks.disk_check(s->hooks.disks, err) : 0;
}

static int resume(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;

    if (s->dom->ops->resume(s->dom, err))
        return -1;
    p->suspended = false;
    s->shared->recovery.suspended = false;
    p->save.limit = s->ls.limit = 0;
    return 0;
}

/* Collect the device state that QEMU has been saving, and send it. */
static int send_devices(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;
    void *state = NULL;
    size_t len;
    int rc;

    p->saving = false;
    if (s->dom->ops->devices_save(s->dom, &state, &len, err))
        return -1;
    p->steps.device_save = step(p);
    rc = libxl_stream_write_emulator(&s->ls, state, len, err);
    free(state);
    return rc;
}

/* Test mode: a digest of the whole suspended guest goes with the checkpoint. */
static int send_digest(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;
    struct xc_sr_digest digest = {0};
    void *buf = NULL;
    size_t len;
    int rc = -1;

    if (xc_sr_digest_make(s->dom, &digest, err) || xc_sr_digest_pack(&digest, &buf, &len, err))
        goto out;
    rc = xc_sr_write_simple(&s->ch, LIBXL_SR_REC_COLO_DIGEST, buf, (uint32_t)len,
                            colo_now() + COLO_T_BUILD, err);
out:
    free(buf);
    xc_sr_digest_free(&digest);
    return rc;
}

/* The guest is suspended and the dirty set complete: send the checkpoint's body. */
static int send_image(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;

    colo_testpoint("sending-pages");
    if (xc_sr_save_send_dirty(&p->save, NULL, NULL, err))
        return -1;
    step(p);
    if (xc_sr_save_tail(&p->save, XC_SR_REC_CHECKPOINT, err))
        return -1;
    p->steps.context = step(p);
    if (send_devices(p, err))
        return -1;
    if (verify_due(p) && send_digest(p, err))
        return -1;
    if (libxl_stream_write_checkpoint_end(&s->ls, err))
        return -1;
    colo_testpoint("checkpoint-end");
    return 0;
}

static int begin_devices(struct primary *p, struct colo_err *err)
{
    struct xc_sr_domain *d = p->s->dom;

    if (!d->ops->devices_save_begin)
        return 0;
    p->saving = true;
    return d->ops->devices_save_begin(d, err);
}

/* The checkpoint has failed; whatever was under way, the guest runs on here. */
static int give_back(struct primary *p, struct colo_err *err)
{
    struct xc_sr_domain *d = p->s->dom;
    struct colo_err ignored = {0};
    void *state = NULL;
    size_t len;

    if (p->saving && !d->ops->devices_save(d, &state, &len, &ignored))
        free(state);
    p->saving = false;
    return resume(p, err);
}

/* From CHECKPOINT_END until the guest runs again. */
static int finish_checkpoint(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;

    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_APPLY);
    step(p);
    s->ls.io_timeout = pause_limit(p);
    if (libxl_stream_read_state(&s->ls, LIBXL_SR_STATE_SVM_READY, err))
        return -1;
    s->ls.io_timeout = COLO_T_CHECKPOINT;
    p->steps.peer_apply = step(p);
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_RESUME);
    /* From here on the peer can carry on from all that our copy has said: it may be heard. */
    if (s->hooks.net_commit && s->hooks.net_commit(s->hooks.net, s->ls.tag.checkpoint, err))
        return -1;
    if (resume(p, err))
        return -1;
    p->steps.resume = step(p);
    return 0;
}

/* After the pause: the peer's own times, and its word that its copy runs. */
static int read_aftermath(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;
    struct xc_sr_record rec = {0};
    struct libxl_sr_times t;

    if (s->ls.tags) {
        if (libxl_stream_read_expected(&s->ls, LIBXL_SR_REC_COLO_TIMES, 4096, &rec, err))
            return -1;
        if (rec.length >= sizeof(t)) {
            memcpy(&t, rec.data, sizeof(t));
            p->steps.svm_suspend = (int64_t)t.suspend;
            p->steps.svm_stage = (int64_t)t.stage;
            p->steps.svm_device_load = (int64_t)t.device_load;
            p->steps.svm_memory = (int64_t)t.memory;
            p->steps.svm_context = (int64_t)t.context;
            p->steps.svm_dirty_log = (int64_t)t.dirtylog;
        }
        xc_sr_record_free(&rec);
    }
    return libxl_stream_read_state(&s->ls, LIBXL_SR_STATE_SVM_RESUMED, err);
}

static void account(struct primary *p, enum colo_trigger why)
{
    struct colo_session *s = p->s;
    const struct xc_sr_save_stats *v = &p->save.stats;
    struct colo_status *st = colo_status_begin(s->shared);

    st->checkpoints++;
    st->triggers[why]++;
    st->p_dirty = v->p_dirty;
    st->s_dirty = v->s_dirty;
    st->union_dirty = v->union_dirty;
    st->sent = v->sent + v->zero;
    st->total_sent += v->sent + v->zero;
    st->last_steps = p->steps;
    if (verify_due(p))
        st->verified++;
    colo_status_end(s->shared);
    if (why != COLO_TRIGGER_FIRST)
        colo_status_pause(s->shared, &p->steps);
    colo_session_count_bytes(s);
    memset(&p->save.stats, 0, sizeof(p->save.stats));
    s->ls.tag.checkpoint++;
    p->last_end = colo_now();
}

static int sync_progress(void *priv, const struct xc_sr_precopy_progress *pr)
{
    struct primary *p = priv;
    struct colo_session *s = p->s;
    struct colo_status *st = colo_status_begin(s->shared);
    bool ignored;

    st->sync_round = pr->iteration;
    st->sync_done = pr->iter_done;
    st->sync_total = pr->iter_pages;
    colo_status_end(s->shared);
    if (s->ui.sync)
        s->ui.sync(s->ui.priv, pr, st->mem_pages);
    return colo_trigger_operator(s, &ignored, &p->asked);
}

/* All of memory while the guest runs, then the first checkpoint. */
static int first_image(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;
    colo_time begun = colo_now();
    struct colo_status *st;
    bool had_monitor;
    colo_time t0;
    int rc;

    colo_state_set(s->shared, COLO_STATE_PRECOPY);
    s->shared->recovery.logdirty = true;
    had_monitor = s->shared->recovery.needs_monitor;
    p->save.io_timeout = s->ls.io_timeout = COLO_T_BUILD; /* it reads nothing while it builds */
    atomic_store(&s->hb.hold, true);
    rc = libxl_stream_write_libxc_context(&s->ls, err) || xc_sr_save_begin(&p->save, err);
    atomic_store(&s->hb.hold, false);
    if (rc)
        return -1;
    if (xc_sr_save_precopy(&p->save, sync_progress, p, err)) {
        if (p->asked.cls)
            *err = p->asked;
        return -1;
    }
    p->save.io_timeout = s->ls.io_timeout = COLO_T_CHECKPOINT;
    memset(&p->save.stats, 0, sizeof(p->save.stats));

    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_SUSPEND);
    t0 = p->mark = colo_now();
    if (hold_and_suspend(p, err)) {
        /* Down by itself before we ever suspended it: stock xl's monitor saw that and acts. */
        if (err->cls == COLO_ERR_GUEST_DOWN)
            s->shared->recovery.needs_monitor = had_monitor;
        return -1;
    }
    p->steps.suspend = step(p);
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_SEND);
    if (begin_devices(p, err) || xc_sr_save_read_dirty(&p->save, true, err))
        return -1;
    p->steps.dirty_log = step(p);
    if (send_image(p, err) || finish_checkpoint(p, err))
        return -1;
    p->protected = true;
    p->steps.total = colo_now() - t0;
    if (read_aftermath(p, err))
        return -1;
    account(p, COLO_TRIGGER_FIRST);

    st = colo_status_begin(s->shared);
    st->sync_ns = colo_now() - begun;
    st->protected_since_wall = time(NULL);
    colo_status_end(s->shared);
    colo_session_say(s, "protected: first sync took %.1f s, the guest was paused for %.0f ms",
                     (double)(colo_now() - begun) / 1e9, (double)p->steps.total / 1e6);
    return 0;
}

/*
 * Checkpoint N >= 2.  The step times are taken in order; what the save code measured itself is
 * told apart into mapping and writing.
 */
static int checkpoint(struct primary *p, enum colo_trigger why, struct colo_err *err)
{
    struct colo_session *s = p->s;
    colo_time t0;

    memset(&p->steps, 0, sizeof(p->steps));
    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_SUSPEND);
    if (libxl_stream_write_state(&s->ls, LIBXL_SR_STATE_NEW, err))
        return -1;
    t0 = p->mark = colo_now();
    if (hold_and_suspend(p, err))
        return -1;
    p->steps.suspend = step(p);

    colo_state_set(s->shared, COLO_STATE_CHECKPOINT_SEND);
    if (begin_devices(p, err) || xc_sr_save_read_dirty(&p->save, true, err))
        return -1;
    p->steps.dirty_log = step(p);
    if (libxl_stream_read_state(&s->ls, LIBXL_SR_STATE_SVM_SUSPENDED, err) ||
        xc_sr_save_merge_list(&p->save, err))
        return -1;
    p->steps.peer_suspend = step(p);
    if (send_image(p, err) || finish_checkpoint(p, err))
        return -1;
    p->steps.total = colo_now() - t0;
    p->steps.pages_map = p->save.stats.t_map;
    p->steps.pages_write = p->save.stats.t_write;
    if (read_aftermath(p, err))
        return -1;
    account(p, why);
    return 0;
}

static int lockstep(struct primary *p, struct colo_err *err)
{
    struct colo_session *s = p->s;
    enum colo_trigger why = COLO_TRIGGER_PERIOD;

    if (first_image(p, err))
        return -1;
    for (;;) {
        colo_state_set(s->shared, COLO_STATE_LOCKSTEP);
        xc_sr_channel_listen(&s->ch);
        if (colo_trigger_wait(s, p->last_end, &why, err) || checkpoint(p, why, err))
            return -1;
    }
}

/* The guest is the peer's: what is here must not run, and is nobody's to resume. */
static void stand_down(struct primary *p)
{
    struct colo_recovery *rec = &p->s->shared->recovery;

    rec->domid = 0; /* first: should we be killed now, the monitor has nothing to bring back */
    if (!p->suspended)
        suspend(p, NULL); /* without a device model it may never be complete */
    rec->suspended = false;
}

int colo_save_run(struct colo_session *s, struct colo_err *err)
{
    struct primary p = {.s = s};
    struct colo_err ignored;

    p.save.dom = s->dom;
    p.save.ch = &s->ch;
    p.save.zero_pages = s->zero_pages;
    p.save.max_gfns = s->max_gfns;
    p.save.xen_major = s->xen_major;
    p.save.xen_minor = s->xen_minor;
    p.save.io_timeout = COLO_T_CHECKPOINT;
    s->ls.io_timeout = COLO_T_CHECKPOINT;
    s->ls.tag.checkpoint = 1;
    if (xc_sr_save_init(&p.save, err))
        return -1;

    lockstep(&p, err);

    if (s->hooks.disk_cut)
        s->hooks.disk_cut(s->hooks.disks); /* its writes must not wait for a peer that is gone */
    /* Whose silence the peer would take for our death must not begin here. */
    if (s->ch.wspoilt)
        xc_sr_channel_hang_up(&s->ch);
    if (s->ch.stop)
        libxl_stream_explain_stop(&s->ls, err);
    /* The guest first; then say why.  One that shut itself down stays down for its monitor; one that
     * cannot be resumed here is left to the monitor, too, by leaving recovery.suspended set. */
    if (err->cls == COLO_ERR_GUEST_DOWN)
        s->shared->recovery.suspended = false;
    else if (!colo_session_peer_said(err, COLO_STOP_TAKEN) &&
             !(p.protected && colo_session_hand_over(s, err)) && p.suspended &&
             give_back(&p, &ignored) != 0)
        colo_session_say(s, "the guest could not be resumed, its monitor tries again: %s",
                         ignored.msg);
    colo_session_explain(s, err);
    if (colo_session_peer_said(err, COLO_STOP_TAKEN))
        stand_down(&p);
    colo_session_goodbye(s, err);
    xc_sr_save_fini(&p.save);
    s->shared->recovery.logdirty = false;
    colo_session_count_bytes(s);
    return -1;
}
