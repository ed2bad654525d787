/* SPDX-License-Identifier: GPL-2.0-only */
/* A disk's life: opened, brought from state to state, closed. */
#include "colo_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "colo_disk_priv.h"

/* Memory that a disk keeps for its overlays although the last checkpoint needed less. */
#define KEPT_MEMORY (32u << 20)

#define TO(s) (1u << COLO_DISK_##s)

static const unsigned int legal[COLO_DISK_STATES] = {
    [COLO_DISK_SYNCING] = TO(LOCKSTEP) | TO(FAILED) | TO(ABORTED),
    [COLO_DISK_LOCKSTEP] = TO(TAKEOVER) | TO(FAILED) | TO(ABORTED),
    [COLO_DISK_FAILED] = TO(TAKEOVER) | TO(ABORTED),
    [COLO_DISK_TAKEOVER] = TO(FOLDING) | TO(STANDALONE),
    [COLO_DISK_FOLDING] = TO(STANDALONE),
    [COLO_DISK_STANDALONE] = 0,
    [COLO_DISK_ABORTED] = 0,
};

enum colo_disk_state colo_disk_state(const struct colo_disk *d)
{
    return __atomic_load_n(&d->state, __ATOMIC_ACQUIRE);
}

bool colo_disk_move(struct colo_disk *d, enum colo_disk_state to)
{
    bool may;

    pthread_mutex_lock(&d->lock);
    may = legal[d->state] >> to & 1;
    if (may)
        __atomic_store_n(&d->state, to, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&d->moved);
    pthread_mutex_unlock(&d->lock);
    if (may && d->changed)
        d->changed(d->priv);
    return may;
}

int colo_disk_trouble(struct colo_disk *d, int r, const char *reason, const char *what)
{
    bool first;

    if (r == 0)
        return 0;
    pthread_mutex_lock(&d->lock);
    first = d->error.cls == COLO_OK;
    if (first) {
        colo_fail_errno(&d->error, r, "%s", what);
        memset(d->error.reason, 0, sizeof(d->error.reason));
        memcpy(d->error.reason, reason, strlen(reason));
    }
    pthread_mutex_unlock(&d->lock);
    if (!colo_disk_move(d, COLO_DISK_FAILED) && first && d->changed)
        d->changed(d->priv);
    return r;
}

int colo_disk_lose(struct colo_disk *d, int r)
{
    enum colo_disk_state state = colo_disk_state(d);

    if (r == 0)
        return 0;
    pthread_mutex_lock(&d->lock);
    d->lost |= state != COLO_DISK_FOLDING && state != COLO_DISK_STANDALONE;
    pthread_cond_broadcast(&d->moved);
    pthread_mutex_unlock(&d->lock);
    return colo_disk_trouble(d, r, "disk-io", "the disk does not keep what is written");
}

bool colo_disk_lost(struct colo_disk *d)
{
    bool lost;

    pthread_mutex_lock(&d->lock);
    lost = d->lost;
    pthread_mutex_unlock(&d->lock);
    return lost;
}

int colo_disk_mark(struct colo_disk *d, enum colo_disk_state state, struct colo_err *err)
{
    d->record.state = state;
    d->record.checkpoint = d->checkpoint;
    return colo_disk_record_save(d->record_path, &d->record, err);
}

/* ---- opening ---- */

static int make_folder(const char *dir, struct colo_err *err)
{
    char path[PATH_MAX];
    size_t len = strlen(dir);

    if (len >= sizeof(path) || dir[0] != '/')
        return colo_fail(err, COLO_ERR_LOCAL, NULL, "%s: not an absolute path", dir);
    memcpy(path, dir, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i])
            continue;
        path[i] = '\0';
        if (mkdir(path, 0700) && errno != EEXIST)
            return colo_fail_errno(err, errno, "the folder %s", path);
        path[i] = dir[i];
    }
    return 0;
}

/* A disk that is to be synchronised from now on, or that was taken over before. */
static int begin(struct colo_disk *d, bool standalone, struct colo_err *err)
{
    struct colo_journal_found found;
    struct colo_disk_record old;
    bool there;

    if (colo_disk_record_load(d->record_path, &old, &there, err)) {
        if (standalone)
            return -1;
        there = false; /* a full sync makes good whatever there was */
    }
    if (standalone && there &&
        colo_disk_resume(&d->target, d->record_path, d->journal_path, &old, &found, err))
        return -1;
    if (standalone) {
        d->state = COLO_DISK_STANDALONE;
        return colo_disk_mark(d, COLO_DISK_STANDALONE, err);
    }
    if (there && old.state == COLO_DISK_FOLDING)
        return colo_fail(
            err, COLO_ERR_REFUSED, "disk-folding",
            "%s holds a guest that took over, not all of it on the disk yet; to finish "
            "that: colo-disk recover %s; to lose it: colo-disk forget %s",
            d->record.target, d->record.target, d->record.target);
    if (colo_disk_mark(d, COLO_DISK_SYNCING, err))
        return -1;
    unlink(d->journal_path); /* of no use to anybody any more */
    return 0;
}

static int open_parts(struct colo_disk *d, const struct colo_disk_config *cfg, struct colo_err *err)
{
    const char *dir = cfg->state_dir ? cfg->state_dir : COLO_DISK_STATE_DIR;
    const struct colo_slots_config slots = {.memory = cfg->standalone ? 0 : cfg->memory,
                                            .active = cfg->active,
                                            .hidden = cfg->hidden,
                                            .scratch = dir};

    if (make_folder(dir, err) || colo_target_open(&d->target, cfg->target, cfg->raw, err) ||
        colo_disk_record_path(dir, cfg->target, "state", d->record.target, d->record_path, err) ||
        colo_disk_record_path(dir, cfg->target, "journal", d->record.target, d->journal_path, err))
        return -1;
    d->record.size = d->target.size;
    if (cfg->session)
        memcpy(d->record.session, cfg->session,
               strnlen(cfg->session, sizeof(d->record.session) - 1));
    /* last: a file that is overwritten must not be when the disk is not even ours */
    return begin(d, cfg->standalone, err) || colo_overlay_init(&d->overlay, &slots, err) ? -1 : 0;
}

int colo_disk_open(const struct colo_disk_config *cfg, struct colo_disk **out, struct colo_err *err)
{
    struct colo_disk *d = calloc(1, sizeof(*d));
    pthread_condattr_t attr;

    *out = NULL;
    if (!d)
        return colo_fail_errno(err, ENOMEM, "a disk");
    d->target.fd = -1;
    d->v = (struct colo_view){.target = &d->target, .overlay = &d->overlay};
    d->state = COLO_DISK_SYNCING;
    d->changed = cfg->changed;
    d->priv = cfg->priv;
    colo_gate_init(&d->gate);
    colo_journal_init(&d->journal);
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->moved, &attr);
    pthread_condattr_destroy(&attr);
    if (open_parts(d, cfg, err)) {
        colo_target_close(&d->target);
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

void colo_disk_close(struct colo_disk *d)
{
    if (!d)
        return;
    colo_disk_cancel(d);
    colo_disk_fold_end(d);
    if (colo_disk_state(d) < COLO_DISK_TAKEOVER || colo_disk_state(d) == COLO_DISK_FAILED)
        colo_disk_abort(d, NULL);
    if (colo_disk_state(d) == COLO_DISK_STANDALONE && colo_target_flush(&d->target) == 0)
        colo_disk_record_remove(d->record_path, NULL); /* a disk like any other */
    colo_journal_fini(&d->journal);
    colo_overlay_fini(&d->overlay);
    colo_target_close(&d->target);
    colo_gate_fini(&d->gate);
    pthread_cond_destroy(&d->moved);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

uint64_t colo_disk_size(const struct colo_disk *d)
{
    return d->target.size;
}

/* ---- checkpoints ---- */

static int wrong_phase(const struct colo_disk *d, const char *what, struct colo_err *err)
{
    return colo_fail(err, COLO_ERR_PROTOCOL, "disk-phase", "%s: the disk is %s", what,
                     colo_disk_state_name(colo_disk_state(d)));
}

static int may_checkpoint(struct colo_disk *d, uint64_t n, struct colo_err *err)
{
    enum colo_disk_state state = colo_disk_state(d);

    if (state == COLO_DISK_FAILED) {
        pthread_mutex_lock(&d->lock);
        if (err)
            *err = d->error;
        pthread_mutex_unlock(&d->lock);
        return colo_err_prefix(err, "no checkpoint after a failure");
    }
    if (state != COLO_DISK_SYNCING && state != COLO_DISK_LOCKSTEP)
        return wrong_phase(d, "checkpoint", err);
    if (n <= d->checkpoint)
        return colo_fail(err, COLO_ERR_PROTOCOL, "disk-checkpoint",
                         "checkpoint %" PRIu64 " after checkpoint %" PRIu64, n, d->checkpoint);
    return 0;
}

int colo_disk_prepare(struct colo_disk *d, uint64_t n, colo_time timeout, struct colo_err *err)
{
    if (d->prepared == n && n > 0)
        return 0;
    if (d->prepared)
        return colo_fail(err, COLO_ERR_PROTOCOL, "disk-checkpoint",
                         "checkpoint %" PRIu64 " is prepared already", d->prepared);
    if (n == d->checkpoint && n > 0 && colo_disk_state(d) == COLO_DISK_LOCKSTEP)
        return 0; /* it is done, see commit */
    if (may_checkpoint(d, n, err) || colo_gate_close(&d->gate, colo_deadline(timeout, 0), err))
        return -1;
    /* what was under way may have failed; and the mark of the lock-step is made where it may fail */
    if (may_checkpoint(d, n, err) ||
        (d->checkpoint == 0 && colo_disk_mark(d, COLO_DISK_LOCKSTEP, err))) {
        colo_gate_open(&d->gate);
        return -1;
    }
    d->prepared = n;
    return 0;
}

int colo_disk_commit(struct colo_disk *d, uint64_t n, struct colo_err *err)
{
    colo_time start = colo_now();

    if (n > 0 && n == d->checkpoint && !d->prepared)
        return 0;
    if (n == 0 || d->prepared != n)
        return colo_fail(err, COLO_ERR_PROTOCOL, "disk-checkpoint",
                         "checkpoint %" PRIu64 " is not prepared", n);
    colo_overlay_reset(&d->overlay);
    d->view = true;
    colo_disk_move(d, COLO_DISK_LOCKSTEP); /* or it was */
    pthread_mutex_lock(&d->lock);
    d->checkpoint = n;
    d->prepared = 0;
    d->checkpoint_ns = (uint64_t)(colo_now() - start);
    if (d->checkpoint_ns > d->checkpoint_ns_most)
        d->checkpoint_ns_most = d->checkpoint_ns;
    pthread_mutex_unlock(&d->lock);
    colo_gate_open(&d->gate);
    return 0;
}

void colo_disk_cancel(struct colo_disk *d)
{
    if (!d->prepared)
        return;
    d->prepared = 0;
    colo_gate_open(&d->gate);
}

/* ---- the end of the lock-step ---- */

int colo_disk_takeover(struct colo_disk *d, colo_time timeout, struct colo_err *err)
{
    enum colo_disk_state state = colo_disk_state(d);
    int rc;

    if (state >= COLO_DISK_TAKEOVER && state <= COLO_DISK_STANDALONE)
        return 0;
    if (!d->view || state == COLO_DISK_ABORTED)
        return wrong_phase(d, "takeover", err);
    if (!d->prepared && colo_gate_close(&d->gate, colo_deadline(timeout, 0), err))
        return -1;
    d->prepared = 0;
    rc = colo_disk_fold_start(d, err);
    colo_gate_open(&d->gate);
    return rc;
}

int colo_disk_wait_folded(struct colo_disk *d, colo_time deadline, struct colo_err *err)
{
    struct timespec ts = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    int r = 0;

    pthread_mutex_lock(&d->lock);
    while (r == 0 && (d->state == COLO_DISK_TAKEOVER || d->state == COLO_DISK_FOLDING))
        r = pthread_cond_timedwait(&d->moved, &d->lock, &ts);
    pthread_mutex_unlock(&d->lock);
    if (colo_disk_state(d) == COLO_DISK_STANDALONE)
        return 0;
    return r ? colo_fail(err, COLO_ERR_TIMEOUT, NULL, "the fold of the disk is not done")
             : wrong_phase(d, "fold", err);
}

int colo_disk_abort(struct colo_disk *d, struct colo_err *err)
{
    if (colo_disk_state(d) == COLO_DISK_ABORTED)
        return 0;
    if (!colo_disk_move(d, COLO_DISK_ABORTED))
        return wrong_phase(d, "abort", err);
    colo_disk_cancel(d);
    return colo_disk_mark(d, COLO_DISK_ABORTED, err);
}

/* ---- looking at it ---- */

void colo_disk_tidy(struct colo_disk *d)
{
    colo_slots_trim(&d->overlay.slots, KEPT_MEMORY);
}

static const char *journal_word(struct colo_disk *d)
{
    if (d->unjournaled)
        return "broken";
    if (d->state == COLO_DISK_TAKEOVER)
        return "writing";
    return d->state == COLO_DISK_FOLDING ? "durable" : "none";
}

void colo_disk_get_status(struct colo_disk *d, struct colo_disk_status *st)
{
    const uint64_t *from = (const uint64_t *)d->counts;
    uint64_t *to = (uint64_t *)st->counts;

    memset(st, 0, sizeof(*st));
    pthread_mutex_lock(&d->lock);
    st->state = d->state;
    st->error = d->error;
    st->checkpoint = d->checkpoint;
    st->prepared = d->prepared;
    st->checkpoint_ns = d->checkpoint_ns;
    st->checkpoint_ns_most = d->checkpoint_ns_most;
    st->fold_done = d->fold_done;
    st->fold_total = d->fold_total;
    st->journal = journal_word(d);
    pthread_mutex_unlock(&d->lock);
    st->size = d->target.size;
    colo_overlay_stats(&d->overlay, &st->overlay);
    for (size_t i = 0; i < sizeof(st->counts) / (sizeof(*to)); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
