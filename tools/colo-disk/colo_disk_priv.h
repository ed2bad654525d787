/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the disk engine share; tests look in here, too. */
#ifndef COLO_DISK_PRIV_H
#define COLO_DISK_PRIV_H

#include "colo_disk.h"
#include "colo_disk_journal.h"
#include "colo_gate.h"
#include "colo_view.h"

struct colo_disk {
    struct colo_overlay overlay; /* the one that is aligned */
    struct colo_target target;
    struct colo_view v; /* of the two */
    struct colo_gate gate;

    /* Set with the gate closed and read by requests inside it: their kind stays while they run.
     * What a failure or an abort makes of it is noticed by those that come later. */
    enum colo_disk_state state;
    bool view; /* the secondary sees the overlay, not the disk alone */

    bool has_folder, closing, unjournaled, lost; /* of the fold; under the lock, as what follows */
    pthread_mutex_t lock;
    pthread_cond_t moved; /* the state is another, or `closing` */
    struct colo_err error;
    struct colo_disk_record record;
    char record_path[PATH_MAX], journal_path[PATH_MAX];
    uint64_t checkpoint, prepared, checkpoint_ns, checkpoint_ns_most;

    /* the fold: its thread, and how far it is */
    pthread_t folder;
    struct colo_journal journal;
    uint64_t fold_done, fold_total;

    struct colo_disk_counts counts[COLO_DISK_EXPORTS];
    void (*changed)(void *priv);
    void *priv;
};

/* Another state, if the table of colo_disk.c has that transition; false: it does not. */
bool colo_disk_move(struct colo_disk *d, enum colo_disk_state to);
enum colo_disk_state colo_disk_state(const struct colo_disk *d);

/* Note the first error, and fail if there is no guest on this disk yet.  Returns r. */
int colo_disk_trouble(struct colo_disk *d, int r, const char *reason, const char *what);

/* The same for a flush of the disk: what it lost before the journal is durable is lost for good, and
 * no fold makes a disk of it. */
int colo_disk_lose(struct colo_disk *d, int r);
bool colo_disk_lost(struct colo_disk *d);

/* Mark the disk on stable storage. */
int colo_disk_mark(struct colo_disk *d, enum colo_disk_state state, struct colo_err *err);

/* ---- colo_disk_fold.c ---- */
int colo_disk_fold_start(struct colo_disk *d, struct colo_err *err);
void colo_disk_fold_end(struct colo_disk *d); /* wait for it, see colo_disk_close */
/* What the secondary's guest writes (NULL: zeroes) while its disk is folded.  EAGAIN: not before the
 * fold is over. */
int colo_disk_fold_write(struct colo_disk *d, const void *data, uint64_t len, uint64_t offset);
/* Bring a journal that was found to the disk. */
int colo_disk_replay(struct colo_target *t, const char *path, uint64_t id, uint64_t least,
                     struct colo_journal_found *found, struct colo_err *err);

/* ---- colo_disk_recover.c ---- */
/* What the record says of a target that is to be served again: finish a fold that was cut short.
 * "disk-unusable": it is no guest's disk. */
int colo_disk_resume(struct colo_target *t, const char *record, const char *journal,
                     const struct colo_disk_record *r, struct colo_journal_found *found,
                     struct colo_err *err);

#endif
