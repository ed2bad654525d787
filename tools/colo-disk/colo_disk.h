/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One disk of a protected guest at the secondary's host: what the primary writes, what the secondary
 * guest sees, and how the two become one disk when the secondary guest takes over.  No network in
 * here; docs/specs/disk-control.md has the states and what is durable when.
 */
#ifndef COLO_DISK_H
#define COLO_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "colo_disk_record.h"
#include "colo_overlay.h"

struct colo_disk;

struct colo_disk_config {
    const char *target;
    bool raw;                    /* whatever the target's first bytes look like */
    const char *session;         /* uuid, as text */
    const char *state_dir;       /* NULL: COLO_DISK_STATE_DIR; made when it is not there */
    uint64_t memory;             /* bytes for overlays, before the files */
    const char *active, *hidden; /* those, or NULL: files without names in state_dir */
    bool
        standalone; /* no lock-step: serve the disk after a takeover, a fold that was cut short first */
    /* Called by any thread, with no lock held: the state or the error is another now. */
    void (*changed)(void *priv);
    void *priv;
};

/*
 * Open and lock the target, and mark it as one that is being synchronised (durably, before this
 * returns).  COLO_ERR_REFUSED: "disk-in-use", "disk-format", "disk-kind", "disk-size" (of the
 * record's), "disk-unusable" (standalone, and the record says that it is no guest's disk);
 * COLO_ERR_PROTOCOL "disk-record", "disk-journal"; COLO_ERR_LOCAL.
 */
int colo_disk_open(const struct colo_disk_config *cfg, struct colo_disk **out,
                   struct colo_err *err);

/* No request may be under way.  Before a takeover the disk is marked as given up; a fold is finished
 * first, unless it cannot be: then it is resumed at the next start. NULL is fine. */
void colo_disk_close(struct colo_disk *d);

uint64_t colo_disk_size(const struct colo_disk *d);

/* ---- requests: 0 or a positive errno, from any thread ---- */

enum colo_disk_export { COLO_DISK_PRIMARY, COLO_DISK_SECONDARY, COLO_DISK_EXPORTS };

#define COLO_DISK_FUA  1 /* durable, as after a flush, when it returns */
#define COLO_DISK_TRIM 2 /* zeroes: space may be given back */
#define COLO_DISK_FAST 4 /* zeroes: EOPNOTSUPP rather than slowly */

/*
 * ESHUTDOWN: this export is closed (the primary's from the takeover on, both after an abort).
 * EPERM: the secondary writes before there is a first checkpoint.  ENOSPC: the overlays are full.
 * Others are the target's.  While a checkpoint is prepared requests wait, but for flush.
 */
int colo_disk_read(struct colo_disk *d, enum colo_disk_export e, void *buf, uint64_t len,
                   uint64_t offset);
int colo_disk_write(struct colo_disk *d, enum colo_disk_export e, const void *buf, uint64_t len,
                    uint64_t offset, int flags);
int colo_disk_zero(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                   int flags);
int colo_disk_trim(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                   int flags);
/* In lock-step nothing of the secondary's has to be durable; after a takeover it waits until all is
 * that was acknowledged before. */
int colo_disk_flush(struct colo_disk *d, enum colo_disk_export e);
typedef int colo_disk_extent(void *priv, uint64_t offset, uint64_t len, bool data);
int colo_disk_extents(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset,
                      colo_disk_extent *each, void *priv);
int colo_disk_cache(struct colo_disk *d, enum colo_disk_export e, uint64_t len, uint64_t offset);

/* ---- control: one caller at a time ---- */

/*
 * Checkpoint n, in two steps, so that those of several disks happen all or none.  prepare waits for
 * the requests that are under way and lets no new ones begin; all that can fail does so here.
 * commit drops the overlays (the first one begins the lock-step) and lets requests go on; cancel
 * lets them go on as if nothing had been.  A checkpoint that was committed is committed again
 * without harm.
 * COLO_ERR_TIMEOUT "disk-busy"; COLO_ERR_PROTOCOL "disk-phase", "disk-checkpoint" (a number that
 * does not follow); COLO_ERR_LOCAL "disk-failed" (with the error that made it fail).
 */
int colo_disk_prepare(struct colo_disk *d, uint64_t n, colo_time timeout, struct colo_err *err);
int colo_disk_commit(struct colo_disk *d, uint64_t n, struct colo_err *err);
void colo_disk_cancel(struct colo_disk *d);

/* Lock the primary out and begin to bring the overlays to the disk; the secondary is served all the
 * while.  Done before: nothing happens.  "disk-phase": there is nothing to take over. */
int colo_disk_takeover(struct colo_disk *d, colo_time timeout, struct colo_err *err);

/* Wait until the fold is over.  COLO_ERR_TIMEOUT. */
int colo_disk_wait_folded(struct colo_disk *d, colo_time deadline, struct colo_err *err);

/* Give up; the disk is marked as no guest's.  "disk-phase": it is a guest's, after a takeover. */
int colo_disk_abort(struct colo_disk *d, struct colo_err *err);

/* Give back memory and space that a larger checkpoint needed.  At leisure. */
void colo_disk_tidy(struct colo_disk *d);

struct colo_disk_counts {
    uint64_t reads, writes, zeroes, trims, flushes, errors;
    uint64_t bytes_read, bytes_written;
};

struct colo_disk_status {
    enum colo_disk_state state;
    struct colo_err error;                      /* the first one; cls COLO_OK: none */
    uint64_t size, checkpoint, prepared;        /* prepared: 0 = none */
    uint64_t checkpoint_ns, checkpoint_ns_most; /* how long commits took: the last, the longest */
    struct colo_overlay_stats overlay;
    uint64_t fold_done, fold_total; /* chunks */
    const char *journal;            /* "none", "writing", "durable", "broken" */
    struct colo_disk_counts counts[COLO_DISK_EXPORTS];
};
void colo_disk_get_status(struct colo_disk *d, struct colo_disk_status *st);

#endif
