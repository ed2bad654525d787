/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A disk whose server is gone: what it is, and what can be done for it.
 */
#ifndef COLO_DISK_RECOVER_H
#define COLO_DISK_RECOVER_H

#include "colo_disk_journal.h"
#include "colo_disk_record.h"

enum colo_disk_use {
    COLO_DISK_USABLE,   /* a disk like any other */
    COLO_DISK_RECOVER,  /* a fold was cut short: whole after `colo-disk recover` */
    COLO_DISK_UNUSABLE, /* no guest's disk: only a full sync, or forgetting, changes that */
    COLO_DISK_SERVED,   /* somebody has it open */
};

struct colo_disk_report {
    enum colo_disk_use use;
    bool marked; /* there is a record */
    struct colo_disk_record record;
    char record_path[PATH_MAX], journal_path[PATH_MAX];
    char text[512]; /* for people */
};

/* Look, and change nothing.  state_dir NULL: COLO_DISK_STATE_DIR. */
int colo_disk_inspect(const char *state_dir, const char *target, struct colo_disk_report *rep,
                      struct colo_err *err);

/* Finish a fold that was cut short, and drop the record of a disk that is whole.  `found` tells what
 * the journal held (blocks 0: there was nothing to do).  "disk-unusable", "disk-in-use". */
int colo_disk_recover(const char *state_dir, const char *target, struct colo_journal_found *found,
                      struct colo_err *err);

/* Drop record and journal, whatever they say.  "disk-in-use". */
int colo_disk_forget(const char *state_dir, const char *target, struct colo_err *err);

#endif
