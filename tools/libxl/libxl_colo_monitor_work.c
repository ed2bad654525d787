/* SPDX-License-Identifier: LGPL-2.1-only */
/*
 * The monitor's worker thread: undo what a killed session left, then be the guest's monitor.  What
 * it does to guests blocks for seconds; the main thread goes on answering meanwhile.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libxl_colo_monitor_priv.h"
#include "libxl_colo_net.h"

static void post(struct mon *m, enum colo_monitor_msg_type type, uint32_t value,
                 const struct colo_err *err)
{
    struct colo_monitor_msg msg = {.type = type, .value = value};

    if (err)
        msg.err = *err;
    if (write(m->work_fds[1], &msg, sizeof(msg)) != sizeof(msg)) /* below PIPE_BUF: whole */
        _exit(1);
}

/* The session's state on the screen, once it is ours to write. */
static void set_status(struct mon *m, enum colo_state state, uint32_t domid, const char *reason,
                       const char *text)
{
    struct colo_shared *sh = m->c.sh;
    struct colo_status *st = colo_status_begin(sh);

    st->state = state;
    st->domid = domid;
    if (reason) {
        snprintf(st->last_reason, sizeof(st->last_reason), "%s", reason);
        snprintf(st->last_error, sizeof(st->last_error), "%s", text);
    }
    colo_status_end(sh);
}

static bool recover(struct mon *m)
{
    struct colo_shared *sh = m->c.sh;
    struct colo_err err = {0};
    bool here = false;
    int rc;

    colo_log("the session of %s ended without a word: undoing",
             sh->recovery.name[0] ? sh->recovery.name : "a guest");
    rc = m->c.ops->recover(m->c.priv, sh, m->c.opts.role, &here, &err);
    if (rc)
        colo_log("undoing failed: %s", err.msg);
    if (!here) {
        set_status(m, COLO_STATE_ENDED, 0, "session-killed",
                   rc ? err.msg : "the session's process was killed");
        return false;
    }
    set_status(m, COLO_STATE_UNPROTECTED, sh->recovery.domid, "session-killed",
               rc ? err.msg : "the session's process was killed; the guest runs here, unprotected");
    return true;
}

/* A session that ended in good order, but could not let its guest run again, or give it its name
 * and NICs after a takeover, left that to us. */
static bool bring_back(struct mon *m)
{
    struct colo_err err = {0};
    bool here = false;

    colo_log("the session left something to be done with the guest");
    if (m->c.ops->recover(m->c.priv, m->c.sh, m->c.opts.role, &here, &err))
        colo_log("it failed: %s", err.msg);
    return here;
}

/* May the guest be dealt with?  From here until done it cannot be given up. */
static bool claim(struct mon *m)
{
    bool ok;

    pthread_mutex_lock(&m->lock);
    ok = !m->retired;
    m->acting = ok;
    pthread_mutex_unlock(&m->lock);
    return ok;
}

static void release(struct mon *m)
{
    pthread_mutex_lock(&m->lock);
    m->acting = false;
    pthread_mutex_unlock(&m->lock);
}

/* One life of the guest.  True: it has another one, as *domid. */
static bool watch_life(struct mon *m, uint32_t *domid)
{
    const struct colo_monitor_ops *ops = m->c.ops;
    struct colo_err err = {0};
    struct colo_watch *w = NULL;
    int rc;

    rc = ops->watch(m->c.priv, *domid, &w, &err);
    if (rc)
        goto out;
    post(m, COLO_MSG_WATCHING, *domid, NULL);
    rc = ops->wait(w, &err);
    if (rc)
        goto out;
    if (!claim(m)) {
        for (;;)
            pause(); /* the process is about to end */
    }
    set_status(m, COLO_STATE_GUEST_DOWN, *domid, NULL, NULL);
    rc = ops->act(w, domid, &err);
    if (!rc && *domid)
        set_status(m, COLO_STATE_UNPROTECTED, *domid, NULL, NULL);
out:
    if (w)
        ops->close(w);
    if (rc)
        colo_log("%s", err.msg);
    if (rc || !*domid) {
        post(m, COLO_MSG_GONE, 0, &err);
        return false;
    }
    return true;
}

static void *work(void *arg)
{
    struct mon *m = arg;
    uint32_t domid;
    bool again;

    if (m->killed) {
        again = recover(m);
        release(m);
        if (!again) {
            post(m, COLO_MSG_GONE, 0, NULL);
            return NULL;
        }
    }
    if (!m->killed && (m->c.sh->recovery.suspended || m->c.sh->recovery.restore_name) &&
        !bring_back(m)) {
        post(m, COLO_MSG_GONE, 0, NULL);
        return NULL;
    }
    domid = m->c.sh->recovery.domid;
    do {
        again = watch_life(m, &domid);
        if (!again) {
            if (!domid) /* a guest that lives may still need its proxy */
                colo_net_undo(NULL, &m->c.sh->recovery.net, false, NULL);
            break;
        }
        memset(&m->c.sh->recovery.nics, 0, sizeof(m->c.sh->recovery.nics));
        colo_net_undo(NULL, &m->c.sh->recovery.net, false, NULL);
        m->c.sh->recovery.domid = domid;
        again = !m->reprotect; /* else it is the session's again */
        release(m);            /* before the main thread looks */
        post(m, COLO_MSG_REBOOTED, domid, NULL);
    } while (again);
    return NULL;
}

void colo_monitor_work(struct mon *m, bool killed, bool reprotect)
{
    m->killed = killed;
    m->reprotect = reprotect;
    m->acting = killed; /* undoing is not to be broken off either */
    m->phase = PHASE_WORKING;
    if (pthread_create(&m->thread, NULL, work, m)) {
        colo_log("no memory for a thread: giving up");
        _exit(1);
    }
}
