/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is known of a disk when its server is gone: a small file beside the journal, which is
 * rewritten as a whole (docs/specs/disk-journal.md).
 */
#ifndef COLO_DISK_RECORD_H
#define COLO_DISK_RECORD_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "colo_err.h"

#define COLO_DISK_STATE_DIR "/var/lib/xen-colo/disks"

enum colo_disk_state {
    COLO_DISK_SYNCING,    /* the primary's writes go to the disk; it is not whole yet */
    COLO_DISK_LOCKSTEP,   /* the secondary guest has its view */
    COLO_DISK_TAKEOVER,   /* the primary is locked out; what is only here becomes durable */
    COLO_DISK_FOLDING,    /* it is, and is being brought to the disk */
    COLO_DISK_STANDALONE, /* all is on the disk */
    COLO_DISK_FAILED,     /* an error that protection cannot go on with */
    COLO_DISK_ABORTED,    /* given up before a takeover: the disk is no guest's */
    COLO_DISK_STATES
};

/* "syncing", "lockstep", ... */
const char *colo_disk_state_name(enum colo_disk_state state);

struct colo_disk_record {
    char target[PATH_MAX]; /* absolute */
    uint64_t size;         /* bytes */
    char session[40];      /* uuid, as text; "" where there is none */
    enum colo_disk_state state;
    uint64_t checkpoint;
    uint64_t journal_id;  /* folding: the journal's, */
    uint64_t journal_len; /* and how many bytes of it have to be whole */
};

/* Where the record of this target is, or its journal (what = "state" or "journal").  The target's
 * path is made absolute, and for a file all links in it are followed: `target` (PATH_MAX bytes)
 * gets that.  path has PATH_MAX bytes, too. */
int colo_disk_record_path(const char *dir, const char *name, const char *what, char *target,
                          char *path, struct colo_err *err);

/* Durable, as a whole or not at all. */
int colo_disk_record_save(const char *path, const struct colo_disk_record *r, struct colo_err *err);
/* *there = false: no such file.  COLO_ERR_PROTOCOL "disk-record": not what save wrote. */
int colo_disk_record_load(const char *path, struct colo_disk_record *r, bool *there,
                          struct colo_err *err);
/* Durably gone.  One that is not there is fine. */
int colo_disk_record_remove(const char *path, struct colo_err *err);

/* The content of a record file. */
int colo_disk_record_parse(const char *text, size_t len, struct colo_disk_record *r,
                           struct colo_err *err);
/* malloc'ed; NULL: out of memory. */
char *colo_disk_record_text(const struct colo_disk_record *r);

#endif
