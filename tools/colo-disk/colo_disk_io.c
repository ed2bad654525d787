/* SPDX-License-Identifier: GPL-2.0-only */
/* The requests of the two exports. */
#include <errno.h>

#include "colo_disk_priv.h"

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static int finish(struct colo_disk *d, enum colo_disk_export e, int r)
{
    colo_gate_leave(&d->gate);
    if (r)
        count(&d->counts[e].errors, 1);
    return r;
}

/* Inside the gate: may this export do that now? */
static int refuses(struct colo_disk *d, enum colo_disk_export e, bool changes)
{
    enum colo_disk_state state = colo_disk_state(d);

    if (state == COLO_DISK_ABORTED)
        return ESHUTDOWN;
    if (e == COLO_DISK_PRIMARY)
        return state >= COLO_DISK_TAKEOVER && state <= COLO_DISK_STANDALONE ? ESHUTDOWN : 0;
    return changes && !d->view && state != COLO_DISK_STANDALONE ? EPERM : 0;
}

static int on_target(struct colo_disk *d, int r, const char *what)
{
    return r == EOPNOTSUPP ? r : colo_disk_trouble(d, r, "disk-io", what);
}

/* The overlay is full, or the disk beneath it cannot be read. */
static int on_view(struct colo_disk *d, int r, const char *what)
{
    return colo_disk_trouble(d, r, r == ENOSPC ? "disk-overlay-full" : "disk-io", what);
}

static bool folds(const struct colo_disk *d)
{
    enum colo_disk_state state = colo_disk_state(d);

    return state == COLO_DISK_TAKEOVER || state == COLO_DISK_FOLDING;
}

/* Outside the gate: until the disk is in none of the states `from` .. `to`.  EIO: it stays there. */
static int wait_while(struct colo_disk *d, enum colo_disk_state from, enum colo_disk_state to)
{
    int r;

    pthread_mutex_lock(&d->lock);
    while (d->state >= from && d->state <= to && !d->lost)
        pthread_cond_wait(&d->moved, &d->lock);
    r = d->state >= from && d->state <= to ? EIO : 0;
    pthread_mutex_unlock(&d->lock);
    return r;
}

/* ---- reading ---- */

int colo_disk_read(struct colo_disk *d, enum colo_disk_export e, void *buf, uint64_t len,
                   uint64_t offset)
{
    int r;

    colo_gate_enter(&d->gate);
    r = refuses(d, e, false);
    if (r == 0 && e == COLO_DISK_SECONDARY && d->view)
        r = on_view(d, colo_view_read(&d->v, buf, len, offset), "the secondary's disk is not read");
    else if (r == 0)
        r = on_target(d, colo_target_read(&d->target, buf, len, offset), "the disk is not read");
    count(&d->counts[e].reads, 1);
    count(&d->counts[e].bytes_read, len);
    return finish(d, e, r);
}

int colo_disk_extents(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                      colo_disk_extent *each, void *priv)
{
    uint64_t end = offset + len, until = offset;
    bool data = true;
    int r;

    colo_gate_enter(&d->gate);
    r = refuses(d, e, false);
    if (r == 0 && e == COLO_DISK_SECONDARY && d->view)
        r = colo_view_extents(&d->v, offset, len, each, priv);
    else
        for (; r == 0 && offset < end; offset = until) {
            r = colo_target_extent(&d->target, offset, end, &data, &until);
            if (r == 0)
                r = each(priv, offset, until - offset, data);
        }
    return finish(d, e, r);
}

int colo_disk_cache(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset)
{
    int r;

    colo_gate_enter(&d->gate);
    r = refuses(d, e, false);
    if (r == 0)
        colo_target_cache(&d->target, offset, len);
    return finish(d, e, r);
}

/* ---- changing ---- */

/* The primary's, to the disk; the secondary's view is kept first. */
static int save_for_view(struct colo_disk *d, uint64_t offset, uint64_t len, bool zero)
{
    if (!d->view)
        return 0;
    return on_view(d, colo_view_save(&d->v, offset, len, zero),
                   "the secondary's view cannot be kept, so a write of the primary's is refused");
}

static int primary_write(struct colo_disk *d, const void *buf, uint64_t len, uint64_t offset)
{
    int r = save_for_view(d, offset, len, false);

    return r ? r
             : on_target(d, colo_target_write(&d->target, buf, len, offset),
                         "the primary's write fails");
}

static int target_flags(int flags)
{
    return (flags & COLO_DISK_TRIM ? COLO_ZERO_TRIM : 0) |
           (flags & COLO_DISK_FAST ? COLO_ZERO_FAST : 0);
}

static int primary_zero(struct colo_disk *d, uint64_t len, uint64_t offset, int flags)
{
    int r = save_for_view(d, offset, len, true);

    return r ? r
             : on_target(d, colo_target_zero(&d->target, offset, len, target_flags(flags)),
                         "the primary's write of zeroes fails");
}

/* The secondary's guest writes; buf NULL: zeroes. */
static int secondary_change(struct colo_disk *d, const void *buf, uint64_t len, uint64_t offset,
                            int flags)
{
    if (colo_disk_state(d) == COLO_DISK_STANDALONE)
        return on_target(d,
                         buf ? colo_target_write(&d->target, buf, len, offset)
                             : colo_target_zero(&d->target, offset, len, target_flags(flags)),
                         "the guest's write fails");
    if (folds(d))
        return colo_disk_fold_write(d, buf, len, offset);
    return on_view(
        d, buf ? colo_view_write(&d->v, buf, len, offset) : colo_view_zero(&d->v, offset, len),
        "the secondary's write fails");
}

static int secondary_write(struct colo_disk *d, const void *buf, uint64_t len, uint64_t offset,
                           int flags)
{
    int r;

    for (;;) {
        colo_gate_enter(&d->gate);
        r = refuses(d, COLO_DISK_SECONDARY, true);
        if (r == 0)
            r = secondary_change(d, buf, len, offset, flags);
        if (r != EAGAIN)
            return finish(d, COLO_DISK_SECONDARY, r);
        colo_gate_leave(&d->gate);
        r = wait_while(d, COLO_DISK_TAKEOVER, COLO_DISK_FOLDING);
        if (r)
            return r;
    }
}

static int with_fua(struct colo_disk *d, enum colo_disk_export e, int r, int flags)
{
    return r == 0 && flags & COLO_DISK_FUA ? colo_disk_flush(d, e) : r;
}

int colo_disk_write(struct colo_disk *d, enum colo_disk_export e, const void *buf, uint64_t len,
                    uint64_t offset, int flags)
{
    int r;

    count(&d->counts[e].writes, 1);
    count(&d->counts[e].bytes_written, len);
    if (e == COLO_DISK_SECONDARY) {
        r = secondary_write(d, buf, len, offset, flags);
    } else {
        colo_gate_enter(&d->gate);
        r = refuses(d, e, true);
        r = finish(d, e, r ? r : primary_write(d, buf, len, offset));
    }
    return with_fua(d, e, r, flags);
}

int colo_disk_zero(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                   int flags)
{
    int r;

    count(&d->counts[e].zeroes, 1);
    if (e == COLO_DISK_SECONDARY) {
        r = secondary_write(d, NULL, len, offset, flags);
    } else {
        colo_gate_enter(&d->gate);
        r = refuses(d, e, true);
        r = finish(d, e, r ? r : primary_zero(d, len, offset, flags));
    }
    return with_fua(d, e, r, flags);
}

int colo_disk_trim(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                   int flags)
{
    int r;

    count(&d->counts[e].trims, 1);
    colo_gate_enter(&d->gate);
    r = refuses(d, e, true);
    if (r == 0 && e == COLO_DISK_PRIMARY)
        r = save_for_view(d, offset, len, true);
    else if (r == 0 && d->view && !folds(d)) /* while it folds there is nothing to gain */
        r = on_view(d, colo_view_zero(&d->v, offset, len), "the secondary's trim fails");
    if (r == 0 && (e == COLO_DISK_PRIMARY || colo_disk_state(d) == COLO_DISK_STANDALONE))
        r = on_target(d, colo_target_trim(&d->target, offset, len), "a trim fails");
    return with_fua(d, e, finish(d, e, r), flags);
}

/* ---- flush ---- */

/* After a takeover.  Inside the gate, so that the journal stays open. */
static int flush_guest(struct colo_disk *d)
{
    int r = 0;

    colo_gate_enter(&d->gate);
    if (colo_disk_state(d) == COLO_DISK_FOLDING)
        r = colo_journal_flush(&d->journal);
    if (r == 0)
        r = colo_disk_lose(d, colo_target_flush(&d->target));
    colo_gate_leave(&d->gate);
    return r;
}

int colo_disk_flush(struct colo_disk *d, enum colo_disk_export e)
{
    enum colo_disk_state state = colo_disk_state(d);
    int r = 0;

    count(&d->counts[e].flushes, 1);
    if (state == COLO_DISK_TAKEOVER && e == COLO_DISK_SECONDARY)
        r = wait_while(d, COLO_DISK_TAKEOVER, COLO_DISK_TAKEOVER);
    if (r == 0)
        r = refuses(d, e, false);
    if (r == 0 && e == COLO_DISK_PRIMARY)
        r = colo_disk_lose(d, colo_target_flush(&d->target));
    else if (r == 0 && colo_disk_state(d) >= COLO_DISK_FOLDING &&
             colo_disk_state(d) <= COLO_DISK_STANDALONE)
        r = flush_guest(d);
    if (r)
        count(&d->counts[e].errors, 1);
    return r;
}
